"""Whether a program can be executed: what is said beforehand, held against what the kernel then does."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from probes.host import executable
from probes.host.executable import why_not_executable

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CAN_NOT_RUN = (126, 127)


def put(folder: Path, content: bytes, mode: int = 0o755) -> Path:
    control = folder / "control"
    control.write_bytes(content)
    control.chmod(mode)
    return control


def runs(control: Path, limit_s: float = 60) -> bool:
    """Whether it runs to its end, by running it."""
    command = ["./control", "status"]
    try:
        done = subprocess.run(
            command, cwd=control.parent, env={"PATH": PATH}, capture_output=True, check=False, timeout=limit_s
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode not in CAN_NOT_RUN


def chain_of_scripts(folder: Path, length: int) -> None:
    """Scripts `script1` and so on, each one's interpreter the next one, the last one's a program."""
    for number in range(1, length + 1):
        script = folder / f"script{number}"
        script.write_text(f"#!{'/bin/sh' if number == length else f'script{number + 1}'}\n")
        script.chmod(0o755)


@pytest.mark.parametrize(
    "first",
    [
        "#!/bin/sh",
        "#! /bin/sh",
        "#!\t/bin/sh -e",
        "#!/usr/bin/env sh",
        "#!/usr/bin/env -S sh -e",
        "#!/usr/bin/env -S A=1 sh -e",
        "#!/usr/bin/env --split-string=sh -e",
        "#!/usr/bin/env -S -i /bin/sh",
        "#!/usr/bin/env /bin/sh",
        "#!./sh",
        "#!/usr/bin/env ./sh",
        "#!interpreter",
        "#!/bin/sh\0 and what follows",
        "#!/bin/sh" + 300 * " ",
        "#!script1",
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_runs_is_not_refused(tmp_path: Path, first: str) -> None:
    (tmp_path / "sh").symlink_to("/bin/sh")
    (tmp_path / "interpreter").write_text("#!/bin/sh\n")
    (tmp_path / "interpreter").chmod(0o755)
    chain_of_scripts(tmp_path, 4)
    control = put(tmp_path, f"{first}\necho started\n".encode())
    assert (why_not_executable(control, PATH), runs(control)) == ("", True)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"#!/bin/sh\r\necho started\r\n", r"end in CR LF, so `sh\r` is looked for"),
        (b"#!/usr/bin/env sh\r\necho started\r\n", "end in CR LF"),
        (b"#!/bin/sh\r", "end in CR LF"),
        (b"\xef\xbb\xbf#!/bin/sh\necho started\n", "byte order mark"),
        ("#!/bin/sh\necho started\n".encode("utf-16"), "byte order mark"),
        (b"\n#!/bin/sh\necho started\n", "no `#!` at its very beginning"),
        (b"echo started\n", "no `#!` at its very beginning"),
        (b"", "is empty"),
        (b"#!\necho started\n", "names no interpreter"),
        (b"#!  \r\n", "names no interpreter"),
        (b"#!/no/such/sh\n", "its interpreter /no/such/sh: No such file"),
        (b"#!/no/such/sh -e\n", "its interpreter /no/such/sh: No such file"),
        (b"#!/etc/passwd\n", "its interpreter /etc/passwd is not executable"),
        (b"#!/tmp\n", "its interpreter /tmp is not a regular file"),
        (b"#!broken\n", "broken has no `#!`"),
        (b"#!/usr/bin/env bash5\n", "env look for 'bash5'"),
        (b"#!/usr/bin/env sh -e\n", "env look for 'sh -e'"),
        (b"#!/usr/bin/env -S bash5 -e\n", "env look for 'bash5'"),
        (b"#!/usr/bin/env ./bash5\n", "env look for './bash5'"),
        (b"#!/" + 300 * b"x" + b"\n", "longer than the 256 bytes"),
        (b"#!./control\n", "leads through more than 5 scripts"),
        (b"#!script1\n", "leads through more than 5 scripts"),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_what_does_not_run_is_known(tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "broken").write_text("no program\n")
    (tmp_path / "broken").chmod(0o755)
    chain_of_scripts(tmp_path, 5)
    control = put(tmp_path, content)
    found = why_not_executable(control, PATH)
    assert why in found
    assert found.startswith(str(control))
    assert not runs(control)


@pytest.mark.parametrize(
    "argument", ["", "A=b", "A=b sh", "-", "-i", "-S", "-S A=b", "-S 'A=b c' # sh", "./control", "-S ./control -e"]
)
def test_a_script_that_env_would_run_again_is_known(tmp_path: Path, argument: str) -> None:
    """It would do so until its call's time limit."""
    control = put(tmp_path, f"#!/usr/bin/env {argument}\necho started\n".encode())
    assert "env, which executes this script again" in why_not_executable(control, PATH)
    assert not runs(control, limit_s=0.5)


def test_a_carriage_return_that_its_interpreter_may_bear_is_no_reason(tmp_path: Path) -> None:
    assert why_not_executable(put(tmp_path, f"#!{sys.executable} -I\r\n".encode()), PATH) == ""


def test_what_is_not_executable_or_not_there(tmp_path: Path) -> None:
    assert "No such file" in why_not_executable(tmp_path / "control", PATH)
    control = put(tmp_path, b"#!/bin/sh\n", 0o644)
    assert "not executable by this user" in why_not_executable(control, PATH)
    control.unlink()
    control.symlink_to("bin/ctl")
    assert "control, a link: No such file" in why_not_executable(control, PATH)
    control.unlink()
    control.mkdir()
    assert "not a regular file" in why_not_executable(control, PATH)


def test_a_control_that_is_a_link_is_judged_by_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "control").symlink_to("bin/control")
    put(tmp_path / "bin", b"#!/bin/sh\n")
    assert why_not_executable(tmp_path / "control", PATH) == ""
    put(tmp_path / "bin", b"#!/no/such/sh\n")
    assert "/no/such/sh" in why_not_executable(tmp_path / "control", PATH)


def test_programs(tmp_path: Path) -> None:
    """A copy of a real one runs; for another machine, or another C library, it is known not to."""
    control = tmp_path / "control"
    shutil.copy("/bin/true", control)
    assert (why_not_executable(control, PATH), runs(control)) == ("", True)
    real = control.read_bytes()
    loader = executable._loader(control, real[:256], "<").encode()
    assert loader
    control.write_bytes(real.replace(loader, b"/no" + loader[3:]))
    assert "its loader" in why_not_executable(control, PATH)
    assert not runs(control)
    control.write_bytes(real[:18] + struct.pack("<H", 8) + real[20:])  # MIPS
    if not list(executable._handlers()):
        assert "another architecture" in why_not_executable(control, PATH)
        assert not runs(control)
    control.write_bytes(real[:4] + b"\0\0" + real[6:])
    assert (why_not_executable(control, PATH), runs(control)) == ("", True), "the kernel looks at neither"


@pytest.mark.parametrize(
    ("damaged", "why"),
    [
        (lambda real: real[:40], "damaged"),
        (lambda real: real[:64], "damaged"),
        (lambda real: real[:16] + bytes(len(real) - 16), "damaged"),
        (lambda real: real[:16] + b"\1\0" + real[18:], "an object file"),
        (lambda real: real[:18] + b"\0\0" + real[20:], "damaged"),
        (lambda real: real[:32] + 8 * b"\xff" + real[40:], "damaged"),
        (lambda real: real[:54] + b"\0\0" + real[56:], "damaged"),
        (lambda real: real[:56] + b"\0\0" + real[58:], "damaged"),
        (lambda real: real[:5] + b"\2" + real[6:16] + struct.pack(">HH", 3, 62) + real[20:], "another architecture"),
    ],
    ids=["cut", "no headers", "zeros", "object", "no machine", "far", "no size", "no count", "other byte order"],
)
def test_a_damaged_program_is_known(tmp_path: Path, damaged: Callable[[bytes], bytes], why: str) -> None:
    control = put(tmp_path, damaged(Path("/bin/true").read_bytes()))
    if not list(executable._handlers()):
        assert why in why_not_executable(control, PATH)
        assert not runs(control)


def elf(machine: int, *, loader: str = "/no/such/loader", bits: int = 64, order: str = "<", headers: int = 3) -> bytes:
    """A program as far as it is looked at: the last of its headers names what loads it (elf(5))."""
    is_64, size = bits == 64, 56 if bits == 64 else 32
    begin, path = 64 if is_64 else 52, loader.encode() + b"\0"
    at = begin + headers * size
    content = bytearray(at) + path + b"what follows"
    content[:6] = b"\x7fELF" + bytes((2 if is_64 else 1, 1 if order == "<" else 2))
    struct.pack_into(f"{order}HH", content, 16, 2, machine)
    struct.pack_into(f"{order}Q" if is_64 else f"{order}I", content, 32 if is_64 else 28, begin)
    struct.pack_into(f"{order}HH", content, 54 if is_64 else 42, size, headers)
    last = at - size
    if is_64:
        struct.pack_into(f"{order}IIQQQQ", content, last, 3, 4, at, 0, 0, len(path))
    else:
        struct.pack_into(f"{order}IIIII", content, last, 3, at, 0, 0, len(path))
    return bytes(content)


@pytest.mark.parametrize(
    ("host", "machines"),
    [
        ("x86_64", {62, 3}),
        ("i686", {3}),
        ("aarch64", {183, 40}),
        ("armv7l", {40}),
        ("ppc64le", {21}),
        ("s390x", {22}),
        ("riscv64", {243}),
        ("loongarch64", {258}),
        ("one of which nothing is known", {3, 8, 21, 22, 40, 62, 183, 243, 258}),
    ],
)
def test_programs_of_a_hosts_own_family_alone_are_its(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, machines: set[int]
) -> None:
    if list(executable._handlers()):
        pytest.skip("this host executes programs of others")
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", host)))
    for machine in (3, 8, 21, 22, 40, 62, 183, 243, 258):
        flaw = why_not_executable(put(tmp_path, elf(machine, loader="/bin/sh")), PATH)
        other = f"is a program for another architecture than this host's ({host})"
        assert flaw == ("" if machine in machines else f"{tmp_path}/control {other}")


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("order", ["<", ">"])
def test_what_loads_a_program_is_found_in_each_form(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bits: int, order: str
) -> None:
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", "any")))
    there = elf(62, loader="/bin/sh", bits=bits, order=order)
    assert why_not_executable(put(tmp_path, there), PATH) == ""
    for headers in (1, 2, 128):
        flaw = why_not_executable(put(tmp_path, elf(62, bits=bits, order=order, headers=headers)), PATH)
        assert flaw.endswith("/control: its loader '/no/such/loader' is missing; it is made for another C library")
    static = bytearray(elf(62, bits=bits, order=order, headers=1))
    struct.pack_into(f"{order}I", static, 64 if bits == 64 else 52, 1)  # PT_LOAD
    assert why_not_executable(put(tmp_path, bytes(static)), PATH) == ""
    assert why_not_executable(put(tmp_path, elf(62, bits=bits, order=order, headers=129)), PATH) == "", "it has an end"


def test_a_loader_s_name_has_an_end(tmp_path: Path) -> None:
    machine = struct.unpack("<H", Path(sys.executable).resolve().read_bytes()[18:20])[0]
    flaw = why_not_executable(put(tmp_path, elf(machine, loader="/x" * 9000)), PATH)
    assert 4096 < len(flaw) < 4096 + 300


@pytest.mark.parametrize("size", [4, 5, 6, 16, 19, 20, 63, 64, 100])
def test_a_program_of_zeros_is_known_whatever_its_size(tmp_path: Path, size: int) -> None:
    control = put(tmp_path, b"\x7fELF\x02\x01"[:size].ljust(size, b"\0"))
    assert "damaged" in why_not_executable(control, PATH)
    assert not runs(control)


def test_what_the_host_has_a_handler_for_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registered = tmp_path / "binfmt"
    registered.mkdir()
    (registered / "status").write_text("enabled\n")
    (registered / "jar").write_text("enabled\ninterpreter /usr/bin/jexec\nflags: \noffset 0\nmagic 504b0304\n")
    (registered / "off").write_text("disabled\ninterpreter /usr/bin/x\nflags: \noffset 0\nmagic 6e6f\n")
    (registered / "masked").write_text("enabled\ninterpreter /x\nflags: \noffset 1\nmagic 4142\nmask ffdf\n")
    (registered / "named").write_text("enabled\ninterpreter /x\nflags: \nextension .exe\n")
    monkeypatch.setattr(executable, "_BINFMT", registered)
    for content in (b"PK\x03\x04 a jar", b"xAb", b"xAB"):
        assert why_not_executable(put(tmp_path, content), PATH) == ""
    for content in (b"PK", b"no", b"xab"):
        assert "no `#!`" in why_not_executable(put(tmp_path, content), PATH)
    os.rename(tmp_path / "control", tmp_path / "control.exe")
    assert why_not_executable(tmp_path / "control.exe", PATH) == ""


@pytest.mark.parametrize(
    ("loader", "why"),
    [("/etc/passwd", "is not executable by this user"), ("/bin", "is not a regular file"), ("gone", "is missing")],
)
def test_a_loader_that_can_not_load_is_known(tmp_path: Path, loader: str, why: str) -> None:
    control = put(tmp_path, elf(62, loader=loader, headers=1))
    if os.uname().machine == "x86_64":
        assert why in why_not_executable(control, PATH)
        assert not runs(control)


def test_a_loader_beside_the_program_is_there(tmp_path: Path) -> None:
    (tmp_path / "ld.so").symlink_to("/bin/sh")
    if os.uname().machine == "x86_64":
        assert why_not_executable(put(tmp_path, elf(62, loader="./ld.so", headers=1)), PATH) == ""
