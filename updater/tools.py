"""What must be on this host beside Python's own library: asked before a pass, told by `check`. Reads only.

Without a tool of `missing` nothing can be done for any agent. What is `lacking` bars changes alone: agents are kept.
"""

from __future__ import annotations

import os

from updater.config import Config

TOOLS = ("sh",)  # what agents' control scripts need of any host


def missing() -> tuple[str, ...]:
    """What is not there, one line each, with the remedy."""
    folders = f"{os.defpath}:{os.environ.get('PATH', '')}".split(":")
    absent = [
        tool for tool in TOOLS if not any(folder and os.access(f"{folder}/{tool}", os.X_OK) for folder in folders)
    ]
    return (f"missing on this host: {', '.join(absent)}; agents' control scripts need it",) if absent else ()


def lacking(config: Config) -> tuple[str, ...]:
    """What the config needs and the host lacks, so that changes wait; one line each, with the remedy."""
    if config.trusted_keys is None:
        return ()
    import importlib.util

    if importlib.util.find_spec("nacl") is not None:
        return ()
    return ("trusted_keys needs PyNaCl, which is not installed: run `./control setup --with signatures`",)
