"""Archives that must not get through, and archives that look like them and must."""

from __future__ import annotations

import gzip
import io
import stat
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from reconcile.errors import ReconcileError
from tests.hostile.case import Case, Seen
from tests.hostile.tarballs import (
    CONTROL,
    CONTROL_MEMBER,
    END,
    directory,
    extended,
    hard,
    member,
    packed,
    padded,
    raw_header,
    soft,
    tar,
)
from tests.hostile.unpacking import Bench, snapshot


def flipped_crc() -> bytes:
    tarball = bytearray(packed())
    tarball[-6] ^= 1
    return bytes(tarball)


def damaged_second_header() -> bytes:
    """tarfile takes a bad checksum after the first member for the end, silently."""
    blocks = bytearray(tar(CONTROL_MEMBER, member("lib", b"x")))
    blocks[1024] ^= 1
    return gzip.compress(bytes(blocks))


def sparse_gnu() -> bytes:
    header = bytearray(raw_header(b"sparse", b"S", magic=b"ustar  \0"))
    return packed(bytes(header))


# A tarfile with the mend of CVE-2025-8194, Debian's 3.11.2 among them, takes a negative size for no header at all.
NO_HEADER = "neither a header nor the end"

HOSTILE: dict[str, tuple[Callable[[], bytes], str]] = {
    "absolute name": (lambda: packed(member("/etc/evil", b"x")), "absolute"),
    "absolute directory": (lambda: packed(directory("/tmp/evil")), "absolute"),
    "dot-dot": (lambda: packed(member("../evil", b"x")), r"'\.\.'"),
    "dot-dot amid": (lambda: packed(member("a/../../evil", b"x")), r"'\.\.'"),
    "dot-dot that stays inside": (lambda: packed(member("a/../b", b"x")), r"'\.\.'"),
    "dot-dot directory": (lambda: packed(directory("..")), r"'\.\.'"),
    "empty name": (lambda: packed(raw_header(b"", b"0")), "empty"),
    "the root as a file": (lambda: packed(member("./.", b"x")), "directory's name"),
    "a file with a trailing slash": (
        lambda: packed(raw_header(b"file/", b"0", b"00000000001\0"), padded(b"x")),
        "name",
    ),
    "a link with a trailing slash": (
        lambda: packed(raw_header(b"link/", b"2", linkname=b"control")),
        "directory's name",
    ),
    "NUL in a PAX path": (lambda: packed(extended(b"13 path=a\0bc\n"), member("a")), "NUL"),
    "component too long": (lambda: packed(member("n" * 256, b"x")), "too long"),
    "too deep": (lambda: packed(member("d/" * 200 + "f", b"x")), "too long"),
    "absolute soft link": (lambda: packed(soft("l", "/etc/passwd")), "absolute"),
    "soft link out": (lambda: packed(soft("l", "../../sentinel/file")), "leads out"),
    "soft link out from below": (lambda: packed(soft("a/b/l", "../../../sentinel")), "leads out"),
    "soft link out and in again": (lambda: packed(soft("l", "../stage/control")), "leads out"),
    "soft link out through another": (lambda: packed(soft("a/b", ".."), soft("l", "a/b/../x")), "leads out"),
    "soft link out through a later one": (lambda: packed(soft("l", "x/.."), soft("x", ".")), "leads out"),
    "soft links in a circle": (lambda: packed(soft("a", "b"), soft("b", "a")), "circle"),
    "empty soft link": (lambda: packed(soft("l", "")), "empty"),
    "NUL in a PAX linkpath": (lambda: packed(extended(b"17 linkpath=a\0bc\n"), soft("l", "a")), "NUL"),
    "a file below a link": (lambda: packed(soft("l", "."), member("l/evil", b"x")), "is a link"),
    "a file below a hard link": (lambda: packed(hard("l", "control"), member("l/evil", b"x")), "is a link"),
    "a link where files are": (lambda: packed(member("d/f", b"x"), soft("d", ".")), "already, as a directory"),
    "a hard link where files are": (lambda: packed(member("d/f", b"x"), hard("d", "control")), "as a directory"),
    "a link over a file": (lambda: packed(member("f", b"x"), soft("f", "control")), "already, as a file"),
    "a hard link over another file": (lambda: packed(member("f", b"x"), hard("f", "control")), "already, as a file"),
    "a link to itself over a link": (lambda: packed(soft("l", "control"), soft("l", "l")), "already, as a link"),
    "a hard link over a link": (lambda: packed(soft("l", "control"), hard("l", "control")), "already, as a link"),
    "a hard link to itself over a folder": (lambda: packed(directory("d"), hard("d", "d")), "already, as a directory"),
    "a link twice": (lambda: packed(soft("l", "f"), soft("l", "f")), "already, as a link"),
    "a hard link twice, to two files": (
        lambda: packed(member("f", b"x"), hard("l", "control"), hard("l", "f")),
        "already, as a link",
    ),
    "a file over a folder": (lambda: packed(directory("d"), member("d", b"x")), "already, as a directory"),
    "a folder over a file": (lambda: packed(member("d", b"x"), directory("d")), "is a file"),
    "a file again after a hard link to it": (
        lambda: packed(member("f", b"1"), hard("h", "f"), member("f", b"2")),
        "two ways",
    ),
    "a file below a file": (lambda: packed(member("f", b"x"), member("f/g", b"x")), "is a file"),
    "a directory over a link": (lambda: packed(soft("l", "d"), directory("l")), "is a link"),
    "a file over a link": (lambda: packed(soft("l", "f"), member("l", b"x")), "two members"),
    "control twice, the last no program": (lambda: packed(member("control", CONTROL)), "executable for its owner"),
    "hard link out": (lambda: packed(hard("h", "../../sentinel/file")), r"target has '\.\.'"),
    "hard link to an absolute path": (lambda: packed(hard("h", "/etc/passwd")), "target is empty, absolute"),
    "hard link to a soft link": (lambda: packed(soft("l", "control"), hard("h", "l")), "not a regular file"),
    "hard link to a directory": (lambda: packed(directory("d"), hard("h", "d")), "not a regular file"),
    "hard link to nothing": (lambda: packed(hard("h", "nothing")), "not a regular file"),
    "hard link to itself": (lambda: packed(hard("h", "h")), "not a regular file"),
    "character device": (lambda: packed(member("dev", type=tarfile.CHRTYPE)), "type"),
    "block device": (lambda: packed(member("dev", type=tarfile.BLKTYPE)), "type"),
    "FIFO": (lambda: packed(member("pipe", type=tarfile.FIFOTYPE)), "type"),
    "unknown type": (lambda: packed(raw_header(b"odd", b"Z")), "type"),
    "GNU sparse": (sparse_gnu, "sparse"),
    "PAX sparse": (lambda: packed(extended(b"22 GNU.sparse.major=1\n"), member("f")), "sparse"),
    "marker": (lambda: packed(member(".ops-updater.json", b"{}")), "reserved"),
    "marker with ./": (lambda: packed(member("././.ops-updater.json", b"{}")), "reserved"),
    "marker as a link": (lambda: packed(soft(".ops-updater.json", "control")), "reserved"),
    "marker as a directory": (lambda: packed(directory(".ops-updater.json")), "reserved"),
    "marker by a PAX path": (lambda: packed(extended(b"26 path=.ops-updater.json\n"), member("a")), "reserved"),
    "reserved stage": (lambda: packed(member(".stage-1/f", b"x")), "reserved"),
    "reserved next": (lambda: packed(directory(".next-1.0")), "reserved"),
    "reserved previous": (lambda: packed(soft(".previous-1.0", "x")), "reserved"),
    "reserved log": (lambda: packed(member(".start.log", b"x")), "reserved"),
    "no control": (lambda: gzip.compress(tar(member("other", b"x", mode=0o755))), "is missing"),
    "control not executable": (lambda: gzip.compress(tar(member("control", CONTROL))), "of mode 0644"),
    "control not executable for its owner": (
        lambda: gzip.compress(tar(member("control", CONTROL, mode=0o655))),
        "of mode 0655",
    ),
    "control only below": (lambda: gzip.compress(tar(member("agent/control", CONTROL, mode=0o755))), "is missing"),
    "control links to what is not a program": (
        lambda: gzip.compress(tar(member("c", CONTROL), soft("control", "c"))),
        "links to 'c', which is of mode 0644",
    ),
    "control links to nothing": (lambda: gzip.compress(tar(soft("control", "c"))), "links to 'c', which is missing"),
    "control links to a folder": (
        lambda: gzip.compress(tar(directory("c"), soft("control", "c"))),
        "links to 'c', which is a directory",
    ),
    "control links to what the kernel does not find": (
        lambda: gzip.compress(tar(member("c", CONTROL, mode=0o755), soft("control", "no/../c"))),
        "which is missing",
    ),
    "control links out": (lambda: gzip.compress(tar(soft("control", "../sentinel/file"))), "leads out"),
    "control links to an absolute path": (lambda: gzip.compress(tar(soft("control", "/bin/true"))), "absolute"),
    "control is a directory": (lambda: gzip.compress(tar(directory("control"))), "is a directory"),
    "empty archive": (lambda: gzip.compress(END), "is missing|impossible size"),
    "empty file": (lambda: b"", "amid its gzip data"),
    "not gzip": (lambda: tar(CONTROL_MEMBER), "not gzip data"),
    "not tar": (lambda: gzip.compress(b"<html>404</html>" * 100), "can't be read"),
    "bytes after the gzip end": (lambda: packed() + b"garbage", "gzip data"),
    "bytes after zeros after the gzip end": (lambda: packed() + bytes(700) + b"garbage", "gzip data"),
    "a second archive behind": (lambda: packed() + packed(), "follows the end"),
    "bytes after the tar end": (lambda: gzip.compress(tar(CONTROL_MEMBER) + b"x"), "follows the end"),
    "endless zeros": (lambda: gzip.compress(tar(CONTROL_MEMBER) + bytes(17 << 20)), "follows the end"),
    "CRC mismatch": (flipped_crc, "is not gzip data, or damaged"),
    "gzip cut short": (lambda: packed()[:-4], "amid its gzip data"),
    "tar cut short in data": (
        lambda: gzip.compress(CONTROL_MEMBER + member("f", bytes(5000))[:3000]),
        "amid a member's data",
    ),
    "tar cut short in a last block": (
        lambda: gzip.compress(CONTROL_MEMBER + member("f", b"x")[:600]),
        "impossible size",
    ),
    "tar cut short in a header": (lambda: gzip.compress(CONTROL_MEMBER + bytes(100)), NO_HEADER),
    "damaged header": (damaged_second_header, "neither a header nor the end"),
    "too many bytes": (lambda: packed(member("f", bytes(5 << 20))), "more than 4194304 bytes"),
    "a size beyond reason": (lambda: packed(raw_header(b"f", b"0", b"77777777777\0")), "more than 4194304 bytes"),
    "negative size": (lambda: packed(raw_header(b"f", b"0", b"\xff" * 12)), f"size|{NO_HEADER}"),
    "negative size of an unknown type": (lambda: packed(raw_header(b"f", b"Z", b"\xff" * 12)), f"type|{NO_HEADER}"),
    "negative size in PAX": (lambda: packed(extended(b"12 size=-99\n"), member("f")), f"size|{NO_HEADER}"),
    "sizes that disagree": (lambda: packed(extended(b"13 size=9000\n", b"g"), member("f", b"x")), "disagree"),
    "too many members": (lambda: packed(*(directory("d") for _ in range(301))), "more than 300 members"),
    "too many implied directories": (
        lambda: packed(*(member(f"{n}/a/b/c/d", b"") for n in range(70))),
        "more than 300 members",
    ),
    "long GNU name": (lambda: packed(extended(b"n" * 70_000, b"L"), member("f")), "too large"),
    "long GNU link name": (lambda: packed(extended(b"n" * 70_000, b"K"), soft("f", "x")), "too large"),
    "long PAX header": (lambda: packed(extended(b"70008 c=" + b"n" * 69_999 + b"\n"), member("f")), "too large"),
    "chain of long names": (lambda: packed(*[extended(b"n" * 600, b"L")] * 60, member("f")), "too large"),
    "PAX header of a negative size": (
        lambda: packed(raw_header(b"p", b"x", b"\xff" * 10 + b"\xfd\xa8"), member("f")),
        f"too large|{NO_HEADER}",
    ),
    "global headers that pile up": (
        lambda: packed(
            *(extended(b"30006 k%02d=" % n + b"v" * 29_995 + b"\n", b"g") + member(f"{n}") for n in range(5))
        ),
        "global headers exceed",
    ),
    "PAX lengths that lie": (lambda: packed(extended(b"2 " * 20_000 + b"="), member("f")), "malformed"),
    "PAX record without an end": (lambda: packed(extended(b"9 path=abc"), member("f")), "malformed"),
    "PAX number that costs seconds": (
        lambda: packed(extended(b"60008 c=" + b"1" * 59_999 + b"\n"), member("f")),
        "256 digits",
    ),
    "header after nothing": (lambda: packed(extended(b"10 path=ab\n")), "malformed|can't be read"),
    "many empty gzip members": (lambda: packed() + gzip.compress(b"") * 66_000, "gzip members"),
}

# -- benign look-alikes ---------------------------------------------------------------------------------------------

PROGRAM = ("0o755", CONTROL)
PLAIN = ("0o644", b"x")
KEY = ("0o600", b"x")
READ_ONLY = ("0o444", b"x")


def written_by_tarfile(format: int) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=format) as archive:
        for name, content, mode in (("control", CONTROL, 0o755), ("lib/größe", b"x", 0o600), ("n" * 90, b"x", 0o444)):
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime, info.uname = len(content), mode, 1477380651, "falcon"
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def several_gzip_members() -> bytes:
    blocks = tar(CONTROL_MEMBER, member("f", b"x"))
    return b"".join(gzip.compress(blocks[at : at + 700]) for at in range(0, len(blocks), 700))


def gzip_with_its_name() -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile("agent-1.0.0.tar", "wb", fileobj=out) as file:
        file.write(tar(CONTROL_MEMBER))
    return out.getvalue()


BENIGN: dict[str, tuple[Callable[[], bytes], dict[str, object]]] = {
    "only control": (packed, {}),
    "dot-slash and the root": (
        lambda: gzip.compress(tar(directory("./"), member("./control", CONTROL, mode=0o755), member("./f", b"x"))),
        {"f": PLAIN},
    ),
    "the root with a mode of its own": (lambda: packed(directory(".", mode=0o700)), {".": "0o700"}),
    "control twice": (lambda: packed(CONTROL_MEMBER), {}),
    "control twice, the last counts": (
        lambda: gzip.compress(tar(member("./control", b"old", mode=0o600), CONTROL_MEMBER)),
        {},
    ),
    "a file twice": (lambda: packed(member("f", b"old"), member("f", b"x", mode=0o600)), {"f": KEY}),
    "a file, and again as GNU tar packs it": (
        lambda: packed(member("./f", b"x"), hard("./f", "./f"), soft("l", "f"), hard("l", "./l")),
        {"f": PLAIN, "l": "f"},
    ),
    "a hard link twice": (lambda: packed(hard("h", "control"), hard("./h", "control")), {"h": PROGRAM}),
    "a file twice in other words": (lambda: packed(member("f", b"old"), member(".//f", b"x")), {"f": PLAIN}),
    "a file many times": (
        lambda: packed(*[member("d/f", b"old")] * 9, member("d/f", b"x")),
        {"d": "0o755", "d/f": PLAIN},
    ),
    "a file twice, and a hard link after both": (
        lambda: packed(member("f", b"old"), member("f", b"x"), hard("h", "f")),
        {"f": PLAIN, "h": PLAIN},
    ),
    "a folder twice with all that it holds": (
        lambda: packed(directory("d"), member("d/f", b"x"), directory("d", 0o700), member("d/f", b"x")),
        {"d": "0o700", "d/f": PLAIN},
    ),
    "control as a link": (
        lambda: gzip.compress(tar(member("bin/ctl", CONTROL, mode=0o755), soft("control", "bin/ctl"))),
        {"control": "bin/ctl", "bin": "0o755", "bin/ctl": PROGRAM},
    ),
    "control as a link before its target": (
        lambda: gzip.compress(tar(soft("control", "./bin/ctl"), member("bin/ctl", CONTROL, mode=0o700))),
        {"control": "./bin/ctl", "bin": "0o755", "bin/ctl": ("0o700", CONTROL)},
    ),
    "control as a chain of links through a linked folder": (
        lambda: gzip.compress(
            tar(
                soft("control", "current/ctl"),
                soft("current", "v1"),
                soft("v1/ctl", "../bin/ctl"),
                member("bin/ctl", CONTROL, mode=0o755),
            )
        ),
        {
            "control": "current/ctl",
            "current": "v1",
            "v1": "0o755",
            "v1/ctl": "../bin/ctl",
            "bin": "0o755",
            "bin/ctl": PROGRAM,
        },
    ),
    "control as a link to a hard link": (
        lambda: gzip.compress(tar(member("c", CONTROL, mode=0o755), hard("bin/ctl", "c"), soft("control", "bin/ctl"))),
        {"control": "bin/ctl", "bin": "0o755", "bin/ctl": PROGRAM, "c": PROGRAM},
    ),
    "doubled slashes": (lambda: packed(member("a//b", b"x")), {"a": "0o755", "a/b": PLAIN}),
    "a directory after its file": (
        lambda: packed(member("d/f", b"x"), directory("d", 0o550)),
        {"d": "0o750", "d/f": PLAIN},
    ),
    "a directory twice": (lambda: packed(directory("d"), directory("d/")), {"d": "0o755"}),
    "dots in a name": (lambda: packed(member("..a/...", b"x")), {"..a": "0o755", "..a/...": PLAIN}),
    "modes": (
        lambda: packed(member("s", b"x", mode=0o7755), member("w", b"x", mode=0o666), member("g", b"x", mode=0o010)),
        {"s": ("0o755", b"x"), "w": PLAIN, "g": ("0o410", b"x")},
    ),
    "modes as packed": (
        lambda: packed(
            *(member(f"{mode:o}", b"x", mode=mode) for mode in (0o600, 0o640, 0o400, 0o700, 0o750, 0o444, 0o511)),
            directory("p", 0o700),
            directory("g", 0o2775),
            directory("t", 0o1777),
            directory("n", 0o000),
        ),
        {
            **{f"{mode:o}": (oct(mode), b"x") for mode in (0o600, 0o640, 0o400, 0o700, 0o750, 0o444, 0o511)},
            **{"p": "0o700", "g": "0o755", "t": "0o755", "n": "0o700"},
        },
    ),
    "a file that nobody may read": (lambda: packed(member("f", b"x", mode=0)), {"f": ("0o400", b"x")}),
    "a link before its target": (lambda: packed(soft("l", "f"), member("f", b"x")), {"l": "f", "f": PLAIN}),
    "a link that dangles": (lambda: packed(soft("l", "var/run.pid")), {"l": "var/run.pid"}),
    "a link that dangles and turns": (lambda: packed(soft("l", "no/../f")), {"l": "no/../f"}),
    "a link up, inside": (lambda: packed(soft("a/l", "../control")), {"a": "0o755", "a/l": "../control"}),
    "a link to the root": (lambda: packed(soft("lib64", ".")), {"lib64": "."}),
    "a chain of links": (
        lambda: packed(soft("l.so", "l.so.1"), soft("l.so.1", "l.so.1.2"), member("l.so.1.2", b"x")),
        {"l.so": "l.so.1", "l.so.1": "l.so.1.2", "l.so.1.2": PLAIN},
    ),
    "a link through a link": (
        lambda: packed(soft("bin", "current/bin"), soft("current", "v1"), member("v1/bin/f", b"x")),
        {"bin": "current/bin", "current": "v1", "v1": "0o755", "v1/bin": "0o755", "v1/bin/f": PLAIN},
    ),
    "a hard link": (lambda: packed(hard("h", "./control")), {"h": PROGRAM}),
    "a hard link before its target": (
        lambda: packed(hard("a/h", "f"), member("f", b"x")),
        {"a": "0o755", "a/h": PLAIN, "f": PLAIN},
    ),
    "a hard link of a hard link": (lambda: packed(hard("h", "control"), hard("i", "h")), {"h": PROGRAM, "i": PROGRAM}),
    "control as a hard link": (
        lambda: gzip.compress(tar(member("c", CONTROL, mode=0o755), hard("control", "c"))),
        {"c": PROGRAM},
    ),
    "a long GNU name": (
        lambda: packed(member("d" * 120 + "/" + "f" * 200, b"x")),
        {"d" * 120: "0o755", "d" * 120 + "/" + "f" * 200: PLAIN},
    ),
    "a long GNU name with a type flag's letter where a header has it": (
        lambda: packed(member("x" * 200, b"x"), member("f", b"x")),
        {"x" * 200: PLAIN, "f": PLAIN},
    ),
    "a long link": (lambda: packed(soft("l", "t" * 200)), {"l": "t" * 200}),
    "a PAX name": (lambda: packed(member("ö" * 120, b"x", format=tarfile.PAX_FORMAT)), {"ö" * 120: PLAIN}),
    "PAX attributes": (
        lambda: packed(
            member("f", b"x", format=tarfile.PAX_FORMAT, pax={"SCHILY.xattr.user.a": "1" * 200, "mtime": "1.5"})
        ),
        {"f": PLAIN},
    ),
    "a global PAX comment": (
        lambda: gzip.compress(tar(extended(b"52 comment=" + b"a" * 40 + b"\n", b"g"), CONTROL_MEMBER)),
        {},
    ),
    "bytes that are no UTF-8": (lambda: packed(raw_header(b"caf\xe9", b"0")), {"caf\udce9": ("0o644", b"")}),
    "a newline in a name": (lambda: packed(member("a\nb", b"x")), {"a\nb": PLAIN}),
    "a component of 255": (lambda: packed(member("n" * 255, b"x")), {"n" * 255: PLAIN}),
    "old tar": (
        lambda: gzip.compress(
            tar(
                CONTROL_MEMBER,
                raw_header(b"d/", b"\0", magic=b""),
                raw_header(b"d/f", b"\0", b"00000000001\0", magic=b""),
                padded(b"x"),
            )
        ),
        {"d": "0o744", "d/f": PLAIN},
    ),
    "contiguous file": (lambda: packed(member("f", b"x", type=tarfile.CONTTYPE)), {"f": PLAIN}),
    "ustar": (
        lambda: written_by_tarfile(tarfile.USTAR_FORMAT),
        {"lib": "0o755", "lib/größe": KEY, "n" * 90: READ_ONLY},
    ),
    "GNU": (lambda: written_by_tarfile(tarfile.GNU_FORMAT), {"lib": "0o755", "lib/größe": KEY, "n" * 90: READ_ONLY}),
    "PAX": (lambda: written_by_tarfile(tarfile.PAX_FORMAT), {"lib": "0o755", "lib/größe": KEY, "n" * 90: READ_ONLY}),
    "several gzip members": (several_gzip_members, {"f": PLAIN}),
    "an empty gzip member behind": (lambda: packed() + gzip.compress(b""), {}),
    "a gzip header with a file name": (gzip_with_its_name, {}),
    "zeros after the gzip end": (lambda: packed() + bytes(100_000), {}),
    "zeros after the tar end": (lambda: gzip.compress(tar(CONTROL_MEMBER) + bytes(9216)), {}),
    "one zero block as the end": (lambda: gzip.compress(CONTROL_MEMBER + bytes(512)), {}),
    "no end": (lambda: gzip.compress(CONTROL_MEMBER + member("f", b"x")), {"f": PLAIN}),
    "no end, and zeros after the gzip end": (lambda: gzip.compress(CONTROL_MEMBER) + bytes(512), {}),
    "a directory by its name alone": (
        lambda: packed(raw_header(b"d/", b"0"), member("d/f", b"x")),
        {"d": "0o744", "d/f": PLAIN},
    ),
    "the root by its name alone": (lambda: packed(raw_header(b"./", b"0")), {".": "0o744"}),
    "global headers": (lambda: packed(extended(b"19 comment=a title\n", b"g"), member("f", b"x")), {"f": PLAIN}),
    "numbers of base 256": (
        lambda: packed(raw_header(b"f", b"0", b"\x80" + bytes(10) + b"\1"), padded(b"x")),
        {"f": PLAIN},
    ),
    "very compressible": (lambda: packed(member("f", bytes(3 << 20))), {"f": ("0o644", bytes(3 << 20))}),
    "a marker's name below": (
        lambda: packed(member("d/.ops-updater.json", b"x")),
        {"d": "0o755", "d/.ops-updater.json": PLAIN},
    ),
    "nearly reserved names": (
        lambda: packed(member(".stage", b"x"), member(".start.log.1", b"x"), member(".version", b"x")),
        {".stage": PLAIN, ".start.log.1": PLAIN, ".version": PLAIN},
    ),
}


def _unpacked(build: Callable[[], bytes], expected: dict[str, object] | None, folder: Path) -> Seen:
    bench = Bench(folder)
    before = bench.outside()
    try:
        bench.unpack(build())
        seen = Seen(end="unpacked")
        if expected is not None:
            made = {".": oct(stat.S_IMODE(bench.into.stat().st_mode)), **snapshot(bench.into)}
            if made != {".": "0o755", "control": PROGRAM, **expected}:
                seen = Seen(end="unpacked to something else", said=repr(sorted(made)))
    except ReconcileError as err:
        seen = Seen(end=err.reason, said=err.message)
    return (
        seen if bench.outside() == before else Seen(end=seen.end, said=seen.said, breach="changed what lay beside it")
    )


def cases() -> list[Case]:
    """Each is unpacked in this process, by the code that a pass runs."""
    hostile = [
        Case(
            group="archive",
            name=name,
            expected="UnpackRefused",
            says=says,
            observe=partial(_unpacked, build, None),
        )
        for name, (build, says) in HOSTILE.items()
    ]
    benign = [
        Case(
            group="archive",
            name=name,
            expected="unpacked",
            benign=True,
            observe=partial(_unpacked, build, expected),
        )
        for name, (build, expected) in BENIGN.items()
    ]
    return hostile + benign
