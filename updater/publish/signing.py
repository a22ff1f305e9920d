"""Sign files with minisign, the real program, so that keys and passwords stay with it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from probes.errors import ToolMissing
from probes.text import one_line
from reconcile.decide.minisign import parse_signature

_SERIAL = re.compile(rb"ops-updater desired (.+) serial=([0-9]{1,18})")


class SigningFailed(Exception):
    """minisign did not sign. The message is for people."""


def sign(content: Path, key: Path, comment: str, into: Path) -> None:
    """Write the signature of a file. minisign asks for the key's password on the terminal, where it has one.

    Raise ToolMissing, SigningFailed.
    """
    command = ["minisign", "-S", "-s", str(key), "-m", str(content), "-x", str(into), "-t", comment]
    try:
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        raise ToolMissing("--minisign-key needs the program minisign: install it (on Debian: minisign)") from None
    if done.returncode != 0:
        raise SigningFailed(f"minisign could not sign with {key}: {one_line(done.stderr, 300) or 'it said nothing'}")


def next_serial(signature: Path, now: float) -> int:
    """The serial of the next signature: the time in seconds, and more than the one that is there."""
    try:
        found = _SERIAL.fullmatch(parse_signature(signature.read_bytes()).comment)
    except (OSError, ValueError):
        found = None
    return max(int(now), 0 if found is None else int(found[2]) + 1)
