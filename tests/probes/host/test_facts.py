"""Facts of this very host, held against what other ways of asking say."""

from __future__ import annotations

import ipaddress
import os
import platform
import pwd
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from probes.errors import UserMissing
from probes.host import facts

ROOT = Path(__file__).parents[3]


def test_our_own_user() -> None:
    own, entry = facts.own_user(), pwd.getpwuid(os.getuid())
    assert (own.name, own.uid, own.home) == (entry.pw_name, entry.pw_uid, entry.pw_dir)
    assert own == facts.find_user(own.name)
    assert own.gid in own.groups
    assert own.shell


def test_a_user_is_as_the_hosts_database_has_it() -> None:
    for entry in {entry.pw_name: entry for entry in reversed(pwd.getpwall())}.values():
        user = facts.find_user(entry.pw_name)
        assert (user.name, user.uid, user.gid, user.home) == (entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir)
        assert user.shell == (entry.pw_shell or "/bin/sh")
        assert user.gid in user.groups


@pytest.mark.parametrize("name", ["no-such-user", "", "a\0b"])
def test_a_user_who_does_not_exist(name: str) -> None:
    with pytest.raises(UserMissing, match="does not exist on this host; create it, or correct runUser"):
        facts.find_user(name)


# A process that can open no file more can't ask the user database either.
OUT_OF_FILES = """
import os, pwd, resource, sys
from probes.errors import UserMissing
from probes.host import facts
own, other = facts.own_user(), facts.find_user("daemon")
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
try:
    while True:
        held.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
try:
    pwd.getpwnam("bin")
    sys.exit("the database still answers")
except KeyError:
    pass
found = [facts.find_user("daemon") == other, facts.uids_of(["daemon", "bin"]) == {"daemon": other.uid}]
found.append((facts.own_user().name, facts.own_user().uid, facts.own_user().home) == (own.name, own.uid, own.home))
try:
    facts.find_user("bin")
except UserMissing as err:
    found.append("can't be looked up now" in err.message)
os.write(1, repr(found).encode())
"""


def test_a_look_up_that_fails_leaves_what_was_last_known_in_force() -> None:
    ran = subprocess.run([sys.executable, "-c", OUT_OF_FILES], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.stderr) == ("[True, True, True, True]", "")


def test_a_database_that_says_no_is_believed() -> None:
    user = facts.User(name="no-such-user", uid=4_000_000, gid=1, home="/", shell="/bin/sh")
    before = facts.known_users()
    facts.know_users({"no-such-user": user})
    with pytest.raises(UserMissing, match="does not exist"):
        facts.find_user("no-such-user")
    assert facts.known_users() == before, "and it is forgotten"
    assert facts.uids_of(["no-such-user", "a\0b"]) == {}


def test_what_an_earlier_run_knew_yields_to_what_this_one_saw() -> None:
    root = facts.find_user("root")
    seen = facts.known_users()
    stale = facts.User(name="root", uid=12345, gid=1, home="/", shell="/bin/sh")
    facts.know_users({"root": stale, "no-such-user": stale})
    assert seen["root"] == root
    assert facts.known_users() == {**seen, "no-such-user": stale}
    with pytest.raises(UserMissing):
        facts.find_user("no-such-user")
    assert facts.known_users() == seen


def test_a_user_without_an_entry_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    own = facts.own_user()
    assert (own.name, own.uid, own.home, own.shell) == ("4000000000", 4_000_000_000, "/", "/bin/sh")


@pytest.mark.parametrize(
    ("machine", "cpu"),
    [
        ("x86_64", "amd64"),
        ("AMD64", "amd64"),
        ("aarch64", "arm64"),
        ("arm64", "arm64"),
        ("armv6l", "arm"),
        ("armv7l", "arm"),
        ("armv8l", "arm"),
        ("i386", "386"),
        ("i686", "386"),
        ("ppc64le", "ppc64le"),
        ("s390x", "s390x"),
        ("loongarch64", "loong64"),
        ("mips64", "mips64"),
    ],
)
def test_the_architecture_in_gos_names(monkeypatch: pytest.MonkeyPatch, machine: str, cpu: str) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert facts.arch() == f"{sys.platform}_{cpu}"


def test_a_32_bit_python_on_a_64_bit_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert facts.arch() == "freebsd_386"


def test_the_hosts_name() -> None:
    assert facts.host_name() == socket.gethostname()


# Our address: what the kernel would send from, or an interface's, or loopback where there is nothing else.


@pytest.mark.parametrize("server", [None, "127.0.0.1", "::1", "no.such.host.invalid", "a" * 300])
def test_our_own_address_is_one(server: str | None) -> None:
    ipaddress.ip_address(facts.own_address(server))


def has_address() -> bool:
    return next(facts._interface_addresses(), None) is not None


def test_a_loopback_address_only_where_there_is_no_other() -> None:
    address = ipaddress.ip_address(facts.own_address("127.0.0.1"))
    if has_address():
        assert not address.is_loopback
    assert facts.own_address("127.0.0.1") == str(address)


NETWORK = """
import subprocess
from probes.host import facts
def ip(*commands):
    for words in commands:
        subprocess.run(["ip", *words.split()], check=True)
ip("link set lo up", "addr add 203.0.113.5/32 dev lo", "-6 addr add 2001:db8:1::5/128 dev lo nodad")
print(facts.own_address("198.51.100.7"))
ip("route add 198.51.100.0/24 dev lo src 203.0.113.5", "-6 route add 2001:db8:2::/64 dev lo src 2001:db8:1::5")
print(facts.own_address("198.51.100.7"), facts.own_address("2001:db8:2::7"), facts.own_address(None))
ip("-6 route add default dev lo src 2001:db8:1::5")
print(facts.own_address(None))
ip("route add default dev lo src 203.0.113.5")
print(facts.own_address(None))
"""


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="needs root and ip")
def test_our_address_is_what_the_kernel_would_send_from_to_the_server() -> None:
    unshare = ["unshare", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespace can be made here")
    run = subprocess.run([*unshare, sys.executable, "-c", NETWORK], capture_output=True, text=True, timeout=120)
    assert run.stdout.splitlines() == [
        "127.0.0.1",
        "203.0.113.5 2001:db8:1::5 127.0.0.1",
        "2001:db8:1::5",
        "203.0.113.5",
    ], run.stderr


def without_routes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a host without a default route: a datagram socket can be connected nowhere."""

    class Lonely(socket.socket):
        def connect(self, address: object) -> None:
            raise OSError(101, "Network is unreachable")

    monkeypatch.setattr(socket, "socket", Lonely)


def test_without_a_route_an_interface_will_do(monkeypatch: pytest.MonkeyPatch) -> None:
    without_routes(monkeypatch)
    address = facts.own_address("192.0.2.1")
    assert (address != "127.0.0.1") is has_address()


def test_without_a_route_or_an_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    without_routes(monkeypatch)
    monkeypatch.setattr(socket, "if_nameindex", lambda: [(1, "lo"), (2, "no-such-if")])
    assert facts.own_address(None) == "127.0.0.1"

    def fails() -> list[tuple[int, str]]:
        raise OSError

    monkeypatch.setattr(socket, "if_nameindex", fails)
    assert facts.own_address(None) == "127.0.0.1"


def test_a_resolver_that_hangs_does_not_hold_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, answer = threading.Event(), threading.Event()

    def hangs(*args: object, **keywords: object) -> list[object]:
        asked.set()
        answer.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    ipaddress.ip_address(facts.own_address("meta.test", resolve_limit_s=0.05))
    assert asked.is_set()
    answer.set()
