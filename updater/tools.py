"""What must be on this host beside Python's own library: asked before a pass, told by `check`. Reads only."""

from __future__ import annotations

import os

from updater.config import Config

TOOLS = ("sh",)  # what agents' control scripts need of any host


def missing(config: Config) -> tuple[str, ...]:
    """What is not there, one line each, with the remedy."""
    folders = f"{os.defpath}:{os.environ.get('PATH', '')}".split(":")
    lacking = [
        tool for tool in TOOLS if not any(folder and os.access(f"{folder}/{tool}", os.X_OK) for folder in folders)
    ]
    found = [f"missing on this host: {', '.join(lacking)}; agents' control scripts need it"] if lacking else []
    if config.trusted_keys is not None:
        import importlib.util

        if importlib.util.find_spec("nacl") is None:
            found.append("trusted_keys needs PyNaCl, which is not installed: run `./control setup --with signatures`")
    return tuple(found)
