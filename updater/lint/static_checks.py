"""The checks that only read: the archive's name and members, and the text of `control`. Nothing is run.

It reads through the updater's own bounded tar reader, so a hostile tarball can do no more here than on a host.
"""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from probes.host.start_failure import why_not_started
from probes.text import one_line
from probes.values import frozen
from reconcile.act.host.archive import ArchiveLimits
from reconcile.act.host.tar_stream import TarStream
from reconcile.decide.policy.names import is_name

_SUFFIX = ".tar.gz"
_USUAL_HEADER = 4096  # bytes a member, on average: as the unpacker allows
_NAMES_AT_MOST = 5  # names of a kind that are shown
_SCRIPT_LIMIT = 1 << 20

# Folders of people and of builds: they are not on the host, or another's.
_HOMES = ("home", "root", "Users", "export/home", "build", "builds", "workspace", "var/lib/jenkins", "github")
# Places where people put agents by hand. A closed list: `/x/` may as well be a pattern for sed or awk.
_OWN = ("opt", "srv", "data", "app", "apps", "export", "mnt", "media")
# What stands beside a backslash is a pattern of sed or awk.
_PATH = re.compile(r"(?<![\w.$}~)/\\-])/[\w.+@-]+(?:/[\w.+@-]+)*(?![\w.+@\\-])")
_LITTER = re.compile(
    r"(?:.*\.(?:pid|log|swp|orig|rej)|nohup\.out|core|\.git|\.svn|\.hg|\.DS_Store|\.version|__pycache__)"
)


@frozen(kw_only=True)
class ParsedName:
    """What an archive's or a folder's name says. `wrong`: why it says nothing; empty where it does."""

    name: str
    version: str
    wrong: str = ""


def named(target: Path) -> ParsedName:
    """Read `{name}-{version}.tar.gz`. A folder has no such name to keep, and gets one for the trial."""
    stem = target.name.removesuffix(_SUFFIX)
    for match in reversed(list(re.finditer("-", stem))):
        name, version = stem[: match.start()], stem[match.end() :]
        if is_name(name) and is_name(version) and version[0].isdigit():
            return ParsedName(name=name, version=version)
    if target.is_dir():
        return ParsedName(name=target.name if is_name(target.name) else "agent", version="1.0.0")
    wrong = f"{one_line(target.name, 80)!r} is not NAME-VERSION{_SUFFIX} with a version that begins with a digit"
    return ParsedName(name="agent", version="1.0.0", wrong=wrong)


@frozen(kw_only=True)
class Members:
    """What an archive holds. `control`: what is wrong with the one in the root; `litter`: names better not packed."""

    control: str
    litter: tuple[str, ...]


def members(tarball: Path) -> Members:
    """List an archive. Raise ReconcileError where it can't be read, OSError where the file can't."""
    limits = ArchiveLimits()
    seen: dict[str, tarfile.TarInfo] = {}
    with tarball.open("rb") as file:
        budget = limits.max_header + limits.max_files * _USUAL_HEADER
        stream = TarStream(file, max_header=limits.max_header, max_headers=budget)
        for member in stream.members():
            left = member.size if member.isreg() else 0
            while left:
                left -= len(stream.data(left))
            if len(seen) <= limits.max_files:  # beyond, the unpacker refuses it anyway
                seen[str(PurePosixPath(member.name))] = member
    litter = sorted({name for name in seen for part in PurePosixPath(name).parts if _LITTER.fullmatch(part)})
    return Members(control=_control_fault(seen), litter=tuple(litter))


def _control_fault(seen: dict[str, tarfile.TarInfo]) -> str:
    member = seen.get("control")
    if member is None:
        deeper = sorted(name for name in seen if name.count("/") == 1 and name.endswith("/control"))
        return f"it lies in a folder: {one_line(deeper[0], 80)!r}" if deeper else "there is none"
    if member.issym() or member.islnk():
        return ""  # where it leads is for the unpacker to judge
    if not member.isreg():
        return "it is not a regular file"
    return "" if member.mode & 0o100 else f"it is not executable (mode {member.mode & 0o7777:04o})"


def listed(names: tuple[str, ...]) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - _NAMES_AT_MOST} more" if len(names) > _NAMES_AT_MOST else ""
    return ", ".join(one_line(name, 80) for name in names[:_NAMES_AT_MOST]) + more


def execution_fault(control: Path) -> str:
    """Say why the kernel can't execute a file, as far as its first bytes tell; empty where they look well."""
    with control.open("rb") as file:
        head = file.read(256)
    if head.startswith(b"\x7fELF"):
        return ""
    if not head.startswith(b"#!"):
        return f"it begins with {one_line(head[:20].decode('utf-8', 'replace'), 40)!r}, which is no `#!` line"
    line = head.split(b"\n")[0]
    if line.endswith(b"\r"):
        return "its first line ends in CR LF, which the kernel takes for a part of the interpreter's name"
    words = line[2:].decode("utf-8", "backslashreplace").split()
    interpreter = Path(words[0]) if words else Path()
    if not interpreter.is_absolute():
        return f"its interpreter {one_line(str(interpreter), 80)!r} is not an absolute path"
    try:
        mode = interpreter.stat().st_mode
    except FileNotFoundError:
        return why_not_started(control, control.parent, FileNotFoundError(2, "")).partition(": ")[2]
    except OSError as err:
        return f"its interpreter {one_line(str(interpreter), 80)!r} can't be looked at: {err.strerror}"
    return "" if stat.S_ISREG(mode) else f"its interpreter {one_line(str(interpreter), 80)!r} is not a program"


def fixed_paths(control: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The absolute paths in a script that lie in homes and build folders, and those in places of its own.

    Comments don't count. A program that is no text is not looked into.
    """
    with control.open("rb") as file:
        content = file.read(_SCRIPT_LIMIT)
    if b"\0" in content:
        return (), ()
    homes: dict[str, None] = {}
    own: dict[str, None] = {}
    for number, path in _paths(content.decode("utf-8", "replace")):
        top = path[1:]
        for kinds, found in ((_HOMES, homes), (_OWN, own)):
            if any(top == kind or top.startswith(f"{kind}/") for kind in kinds):
                found[f"line {number}: {path}"] = None
    return tuple(homes), tuple(own)


def _paths(script: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(script.splitlines(), 1):
        code = re.split(r"(?:^|\s)#", line, maxsplit=1)[0]
        for match in _PATH.finditer(code):
            yield number, match[0]
