"""`check` with the real executable: what it prints and where, and that it changes nothing."""

from __future__ import annotations

from tests.e2e.host import Host, snapshot

PLAIN = {"PYTHONIOENCODING": "ascii"}
# Of other processes on the machine of the tests; what is to be seen here is not theirs.
FOREIGN = "others"


def bad(host: Host, *argv: str) -> set[str]:
    """What is bad, by its check; the exit code says so."""
    checked = host.updater("check", "-o", "json", *argv)
    assert (checked.document["kind"], checked.document["host"]) == ("Check", "liutian-01")
    assert checked.code == (3 if checked.document["summary"]["bad"] else 0)
    return {one["about"] for one in checked.document["checks"] if one["state"] == "bad"} - {FOREIGN}


def test_a_host_that_is_fit(host: Host) -> None:
    host.configure(max_tarball="1MiB", max_unpacked="1MiB", cache_size="1MiB")
    host.install()
    assert bad(host) == set()
    host.meta.down()
    assert bad(host) == {"server"}
    assert bad(host, "--offline") == set()


def test_nothing_is_changed(host: Host) -> None:
    host.install()
    host.settle()
    before = snapshot(host.folder, host.work)
    host.updater("check")
    assert snapshot(host.folder, host.work) == before


def test_nothing_is_made_on_a_new_host(host: Host) -> None:
    host.publish("1.0.0")
    host.desire("1.0.0")
    host.updater("check")
    assert [path.name for path in host.folder.iterdir()] == ["cfg.json"]
    assert not host.work.exists()


def test_on_a_terminal(host: Host) -> None:
    host.meta.down()
    shown = host.terminal("check", columns=100)
    assert shown.code == 3
    lines = shown.text.splitlines()
    assert any("✓" in line and "config" in line for line in lines)
    assert any("✗" in line and "server" in line for line in lines)
    assert any("→ is `server` in the config right, and ops-meta up?" in line for line in lines)
    assert " good, " in lines[-1]
    assert "\x1b[31m" in shown.text


def test_on_a_terminal_without_colours(host: Host) -> None:
    shown = host.terminal("check", "--offline", env={"NO_COLOR": "1"})
    assert "✓" in shown.text
    assert "\x1b[3" not in shown.text


def test_on_a_terminal_without_other_letters(host: Host) -> None:
    host.meta.down()
    shown = host.terminal("check", "-q", env=PLAIN)
    assert "-> is `server`" in shown.text
    assert shown.text.isascii()


def test_quiet_prints_what_is_not_good(host: Host) -> None:
    reported = host.updater("check", "-q").out.splitlines()
    assert reported
    assert not any(line.startswith("good") for line in reported)
