"""How this updater came here, so that a hint names what there is: a checkout, a pack, or a package of Python's."""

from __future__ import annotations

from pathlib import Path

_ABOVE_OUR_PACKAGES = Path(__file__).parents[2]
PACKED = "updater-lib"  # the folder of a pack


def get_part(part: str, folder: Path = _ABOVE_OUR_PACKAGES) -> str:
    """What to do so that an optional part is there, as a clause: `run ...`."""
    if folder.name == PACKED:
        return f"take a pack with it, which `./control pack --with {part}` makes in a checkout"
    if (folder / "control").exists():
        return f"run `./control setup --with {part}`"
    return f"install `ops-updater[{part}]`"


def make_whole(folder: Path = _ABOVE_OUR_PACKAGES) -> str:
    """What to do where packages are missing."""
    if folder.name == PACKED:
        return "unpack the pack once more"
    return "`./control setup`" if (folder / "control").exists() else "install ops-updater once more"
