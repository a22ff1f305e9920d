"""The marker of a complete tree: what it came from, so that the disk alone tells what is installed.

Reading it is the business of probes/host/read.py.
"""

from __future__ import annotations

import json
import time

from probes.observed import Origin
from reconcile.act.host import write


def mark(
    tree_fd: int,
    origin: Origin,
    digests: frozenset[str] = frozenset(),
    source: str = "",
    signed_by: str | None = None,
) -> None:
    """Put the marker into a complete, fsynced tree. `source`: an URL, no secrets. `signed_by`: the public key that the
    tarball's signature was verified with. Raise DiskTooSmall, WriteFailed."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    content = {"format": 1, "origin": origin.value, "digests": sorted(digests), "source": source, "at": at}
    if signed_by is not None:
        content["signed_by"] = signed_by
    write.seal(tree_fd, json.dumps(content, indent=1).encode() + b"\n")
