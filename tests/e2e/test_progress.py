"""What stands on a terminal while `apply` works, and what is left of it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.processes import until
from tests.terminal import screens
from updater.service.locks import pass_lock

pytestmark = pytest.mark.slow

OTHER = "smart-agent"
TARBALL = f"{NAME}-2.0.0.tar.gz"
STEPS = "fetch verify unpack stop switch start".split()


def upgrade(host: Host, **habits: Any) -> None:
    """An agent that runs at 1.0.0 is wanted at 2.0.0."""
    host.install("1.0.0", **habits)
    host.publish("2.0.0", size=600_000, **habits)
    host.desire("2.0.0")


def test_progress_of_a_fetch_is_bytes_rate_and_time_left_of_each_agent(host: Host) -> None:
    for name in (NAME, OTHER):
        host.publish("1.0.0", name, size=600_000)
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent(OTHER, "1.0.0"))
    host.meta.drip(".tar.gz", piece=4096)  # some 15 s, if it is not healed
    terminal = host.at_terminal("apply", "--once", columns=100)
    terminal.wait_for(f"{NAME}  fetch", f"{OTHER}   fetch", "KiB of ", "KiB/s", " left", "━")
    host.meta.heal()
    shown = terminal.end()
    assert shown.code == 0
    left = "\n".join(screens(shown.text)[-1])
    assert " left" not in left
    assert left.startswith("✓ falcon-agent  Confirming  1.0.0 started")
    assert shown.text.endswith("\n")
    assert shown.text.count("\x1b[?25l") == shown.text.count("\x1b[?25h")  # the cursor is back


def test_progress_of_a_control_script_is_the_step_and_its_age(host: Host) -> None:
    upgrade(host, slow_stop=2)
    terminal = host.at_terminal("apply", "--once")
    terminal.wait_for("stop 1.0.0", " 1s")
    assert terminal.end().code == 0


def test_before_and_between_the_steps_it_says_what_it_waits_for(host: Host) -> None:
    host.configure(watch=3)
    host.publish("1.0.0")
    host.desire("1.0.0")
    host.meta.slow_heartbeats(1.5)
    terminal = host.at_terminal("apply")
    terminal.wait_for("observing the agents, asking the server  1s")
    terminal.wait_for("falcon-agent started: good after a watch  in ")
    shown = terminal.end()
    assert (shown.code, "AsDesired" in screens(shown.text)[-1][0]) == (0, True)
    assert "another updater" not in shown.text


def test_the_pass_of_another_updater_is_named_while_it_is_waited_for(host: Host) -> None:
    host.install("1.0.0")
    with pass_lock(host.var):
        terminal = host.at_terminal("apply")
        terminal.wait_for("waiting for the pass of another updater  1s")
    shown = terminal.end()
    assert (shown.code, "AsDesired" in screens(shown.text)[-1][0]) == (0, True)


def test_where_nothing_takes_long_only_the_result_is_seen(host: Host) -> None:
    host.install()
    shown = host.terminal("apply", "--once")
    # On a busy machine something does take long; but then it says for how long.
    rows = [row for rows in screens(shown.text)[:-1] for row in rows if row]
    assert [row for row in rows if not re.search(r" [1-9]\d*s$", row)] == []


def test_a_terminal_that_knows_nothing_gets_a_line_a_step(host: Host) -> None:
    upgrade(host)
    lines = host.terminal("apply", "--once", env={"TERM": "dumb"}).text.splitlines()
    assert lines[:6] == [f"{NAME}: {step} ..." for step in STEPS]
    assert "\x1b" not in "".join(lines)


@pytest.mark.parametrize("words", [["-q"], ["-o", "json"]], ids=["quiet", "json"])
def test_progress_is_printed_only_where_it_was_asked_for(host: Host, words: list[str]) -> None:
    upgrade(host)
    shown = host.terminal("apply", "--once", *words)
    assert not re.search(r"\x1b\[\?25|\x1b\[2K|fetch \.\.\.", shown.text)
    assert shown.code == 0


def test_a_terminal_without_other_signs(host: Host) -> None:
    upgrade(host, slow_stop=2)
    shown = host.terminal("apply", "--once", env={"PYTHONIOENCODING": "ascii"})
    assert "stop 1.0.0" in "\n".join("\n".join(rows) for rows in screens(shown.text)[:-1])
    assert shown.text.isascii()


def test_what_was_begun_is_finished_where_the_terminal_has_gone(host: Host) -> None:
    upgrade(host)
    host.meta.stall(TARBALL)
    terminal = host.at_terminal("apply", "--once")
    terminal.wait_for("KiB of ")
    terminal.go_away()
    host.meta.heal()
    terminal.end()
    until(lambda: host.version() == "2.0.0", "the switch is made")
    assert host.ask().version == "2.0.0"
