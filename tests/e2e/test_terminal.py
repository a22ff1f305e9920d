"""What people see on a terminal, letter for letter; and where the plain lines stand instead."""

from __future__ import annotations

import re

import pytest
from rich.cells import cell_len

from tests.e2e.host import NAME, Host

OTHER = "smart-agent"
WIDE = 110
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
# Times, addresses and digests of this run.
OF_THIS_RUN = (
    (r"http://127\.0\.0\.1:\d+", "http://meta"),
    (r"linux_[a-z0-9]+", "ARCH"),
    (r"md5:[0-9a-f]{32}", "md5:..."),
    (r" +(\d+ ms|\d+\.\d s)  ", " TIME  "),
    (r"for (\d+[dhms])+ *", "for AGE "),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", "DATE"),
    (r",\s(\d+[dhms])+\sold", ""),
    (r"[ \t]+\n", "\n"),
)


def seen(text: str) -> str:
    """The letters on the terminal, without what belongs to this run alone."""
    text = ESCAPE.sub("", text)
    for pattern, word in OF_THIS_RUN:
        text = re.sub(pattern, word, text)
    return text.strip()


PLAN = """\
liutian-01: 2 agents, 1 as desired, 1 pending, 1 refused; desired from http://meta/api/heartbeat

● falcon-agent  VersionDiffers  1.0.0 → 2.0.0
   1. fetch      http://meta/releases/falcon-agent/ARCH/falcon-agent-2.0.0.tar.gz
   2. verify     md5:...
   3. unpack     2.0.0
   4. stop       1.0.0
   5. switch     1.0.0 → 2.0.0
   6. start      2.0.0

✓ smart-agent  AsDesired  1.0.0 started

✗ bad name  InvalidSpec: refused by rule name: name 'bad name' is not allowed: expected 1 to 64 of A-Z a-z 0-9
            . _ + ~ -, starting with a letter, a digit or _, without '..'"""

HELD = """\
liutian-01: 2 agents, 1 held by an operator, 1 held back; desired from http://meta/api/heartbeat

✗ falcon-agent  VersionDiffers  1.0.0 → 2.0.0
   held back: Quarantined: 2.0.0 was rolled back: REASON
   1. stop       1.0.0
   2. switch     1.0.0 → 2.0.0
   3. start      2.0.0

‖ smart-agent
   held: HeldByOperator: OWNER: a leak"""

STATUS = """\
✗ falcon-agent  1.0.0 started  → 2.0.0 started  Quarantined  for AGE 2.0.0 was rolled back: REASON
✓ smart-agent   1.0.0 started  1.0.0 started    AsDesired    for AGE
liutian-01: 2 agents, 1 as desired, 1 held back; desired from http://meta/api/heartbeat (kept)"""


@pytest.fixture
def two(host: Host) -> Host:
    """Two agents at 1.0.0, both good."""
    for name in (NAME, OTHER):
        for version in ("1.0.0", "2.0.0"):
            host.publish(version, name, broken_start=(version, name) == ("2.0.0", NAME))
    host.meta.desire(host.meta.agent(NAME, "1.0.0"), host.meta.agent(OTHER, "1.0.0"))
    host.configure(control_timeout={"start": 2})
    assert host.apply().code == 0
    assert host.apply().code == 0
    return host


def wide(host: Host, *argv: str) -> str:
    """On a wide terminal. Why a start failed is printed elsewhere: here it is REASON."""
    text = seen(host.terminal(*argv, columns=WIDE).text)
    text = re.sub(r"was rolled back: .*?(?=\n(   1\.|✓|   Installed))", "was rolled back: REASON", text, flags=re.S)
    return re.sub(r"\S+: a leak", "OWNER: a leak", text)


def test_the_screens(two: Host) -> None:
    host = two
    bad = {**host.meta.agent(OTHER, "1"), "name": "bad name"}
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent(OTHER, "1.0.0"), bad)
    assert wide(host, "plan") == PLAN

    applied = host.terminal("apply", "--once", "--color", "never", columns=WIDE)
    assert applied.code == 3
    rows = [line.strip() for line in seen(applied.text).splitlines()]
    assert "unpack      done TIME  2.0.0" in rows
    assert "start       failed TIME  2.0.0" in rows
    assert "switch      done TIME  2.0.0 → 1.0.0" in rows
    head = next(at for at, row in enumerate(rows) if row.startswith("✗ falcon-agent  RolledBack  1.0.0 started → 2."))
    # Why it was rolled back stands once, beneath the step that failed.
    assert "2.0.0 was rolled back; not tried again until" in " ".join(" ".join(rows[head : head + 2]).split())
    assert applied.text.count("control start of 2.0.0 exited 0") == 1
    assert "1 not as desired, 1 refused: falcon-agent (RolledBack), bad name" in " ".join(rows[-2:])

    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent(OTHER, "1.0.0"))
    host.apply()
    assert wide(host, "status") == STATUS
    assert wide(host, "status", "-o", "wide").count("\n   Quarantined ") == 2
    why = wide(host, "why", NAME)
    assert "\nlast failures\n" in why
    assert "      | falcon-agent started..., pid=1\n" in why
    assert "\nhistory\n   DATE  FirstInstall by server: install 1.0.0  done\n" in why
    assert "DATE  smart-agent  FirstInstall by server: install 1.0.0\n" in wide(host, "history")

    host.updater("hold", OTHER, "--reason", "a leak")
    assert wide(host, "plan") == HELD


@pytest.mark.parametrize(
    ("columns", "env"),
    [(80, {"TERM": "dumb"}), (40, {})],
    ids=["a terminal that knows nothing", "a narrow one"],
)
def test_where_the_layout_does_not_fit_the_plain_lines_stand(two: Host, columns: int, env: dict[str, str]) -> None:
    plain = two.updater("status").out.strip("\n")
    shown = ESCAPE.sub("", two.terminal("status", columns=columns, env=env).text)
    assert seen(shown) == seen(plain)


@pytest.mark.parametrize(
    ("argv", "env", "coloured"),
    [
        ([], {}, True),
        ([], {"NO_COLOR": "1"}, False),
        (["--color", "never"], {}, False),
        (["--color", "always"], {"NO_COLOR": "1"}, True),
    ],
    ids=["usual", "NO_COLOR", "never", "always"],
)
def test_colours(two: Host, argv: list[str], env: dict[str, str], coloured: bool) -> None:
    text = two.terminal("status", *argv, env=env).text
    assert ("\x1b[32m" in text) is coloured
    assert ("\x1b" in text) is coloured, "nor is anything bold or dim"
    assert "✓ falcon-agent" in ESCAPE.sub("", text)


def test_a_terminal_without_other_signs_gets_plain_ones(two: Host) -> None:
    text = ESCAPE.sub("", two.terminal("status", env={"PYTHONIOENCODING": "ascii"}).text)
    assert "+ falcon-agent" in text
    assert text.isascii()


def test_watch_redraws_until_ctrl_c_and_leaves_the_last_one_on_the_terminal(two: Host) -> None:
    watching = two.at_terminal("status", "--watch", columns=WIDE)
    watching.wait_for("1.0.0 started")
    two.crash(OTHER)
    watching.wait_for("NotRunning", "1 as desired, 1 pending")
    watching.interrupt()
    shown = watching.end()
    assert shown.code == 0
    assert shown.text.count("\x1b[2J") > 1
    assert "1 as desired, 1 pending" in ESCAPE.sub("", shown.text.rpartition("\x1b[2J")[2])


@pytest.mark.parametrize("argv", [["--watch"], ["--watch", "-o", "json"]])
def test_watch_needs_a_terminal(two: Host, argv: list[str]) -> None:
    refused = two.updater("status", *argv)
    assert (refused.code, refused.out) == (64, "")
    assert "--watch needs a terminal" in refused.err


def test_ctrl_c_says_what_is_still_finished_and_for_how_long_at_most(two: Host) -> None:
    two.configure(control_timeout={"start": 60})
    two.publish("2.0.0", slow_start=6.0)  # as long as a slow machine needs to read and to interrupt
    two.desire("2.0.0")
    at = two.at_terminal("apply", "--once", columns=WIDE)
    at.wait_for("start 2.0.0")
    at.interrupt()
    at.wait_for("interrupted: finishes falcon-agent (start 2.0.0), within 2m05s at most")
    shown = at.end()
    assert two.ask().version == "2.0.0"
    assert "Traceback" not in shown.text


def words_of(text: str) -> set[str]:
    """The words of an output, without what changes from one run to the next: times, and `, 3s old`."""
    words = (word.rstrip(",") for word in text.replace("->", "→").split())
    return {word for word in words if word != "old" and not re.search(r"\d+(s|ms)|:\d\d", word)}


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_word_is_cut(two: Host, columns: int) -> None:
    host = two
    bad = {**host.meta.agent(OTHER, "1"), "name": "bad name"}
    host.meta.desire(host.meta.agent(NAME, "2.0.0"), host.meta.agent(OTHER, "1.0.0"), bad)
    host.apply()
    host.updater("hold", OTHER, "--reason", "调试内存泄漏, 请勿动", "--for", "2h")
    for command in (
        ("plan",),
        ("status", "-o", "wide"),
        ("why", NAME),
        ("history",),
        ("check", "--offline"),
        ("plan", "falcon-agnet"),
        ("hold", "falcon-agnet", "--reason", "a name that no agent of this host has"),
        ("release", "--all"),
        ("help", "publish"),
    ):
        shown = ESCAPE.sub("", host.terminal(*command, columns=columns).text)
        assert [line for line in shown.splitlines() if cell_len(line) > columns] == [], command
        if command[0] == "check":  # which names the other updaters of this machine, now this one, now that
            continue
        plain = host.updater(*command, env={"COLUMNS": str(columns)})
        lost = words_of(plain.out + plain.err) - words_of(shown)
        assert {word for word in lost if len(word) < columns - 8 and word.isascii()} == set(), command
    rows = ESCAPE.sub("", host.terminal("status", columns=columns).text).splitlines()
    heads = rows[:2] if columns > 60 else rows[:4:2]  # one line an agent, two where there is no room
    assert [row[:14] for row in heads] == ["✗ falcon-agent", "‖ smart-agent "]
    assert all(cell_len(row) <= columns for row in rows)
