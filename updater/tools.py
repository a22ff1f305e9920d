"""What must be on this host beside Python's own library: asked before a pass, told by `check`. Reads only."""

from __future__ import annotations

import importlib.util
import os
import shutil

from updater.config import Config


def missing(config: Config) -> tuple[str, ...]:
    """What is not there, one line each, with the remedy."""
    found = []
    if shutil.which("sh", path=os.defpath) is None and shutil.which("sh") is None:
        found.append("missing on this host: sh; agents' control scripts need it")
    if config.trusted_keys is not None and importlib.util.find_spec("nacl") is None:
        found.append("trusted_keys needs PyNaCl, which is not installed: run `./control setup --with signatures`")
    return tuple(found)
