"""What an agent wrote itself: `why` and `logs` show it to the person who asks, and nothing else has it."""

from __future__ import annotations

import json
import os
import signal
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.e2e.host import NAME, ROOT, Host
from tests.e2e.processes import Processes, until

WORDS = "cannot open config: zq7words"  # stands in no other place than an agent's own logs
DYING = """\
#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) mkdir -p var; echo 'cannot open config: zq7words' >>{file} ;;
status) echo stoped ;;
esac
"""


@pytest.fixture(params=["app.log", "var/app.log"])
def dead(request: pytest.FixtureRequest, host: Host) -> tuple[Host, str]:
    """A host whose 2.0.0 died at its start, and was rolled back; and where it wrote why."""
    host.configure(control_timeout={"start": 1, "stop": 2}, report_extra=True, metrics_textfile="metrics.prom")
    host.install("1.0.0")
    host.settle()
    host.publish("2.0.0", control=DYING.replace("{file}", request.param))
    host.desire("2.0.0")
    assert host.apply().code == 4
    return host, str(host.home() / "2.0.0" / request.param)


def test_the_words_of_a_dying_agent_are_shown_by_why_and_stand_nowhere_else(dead: tuple[Host, str]) -> None:
    host, file = dead
    why = host.updater("why", NAME).out
    assert f"  {file}\n    | {WORDS}\n" in why, "with the path, though another version is in use again"
    assert f"  {host.home() / '1.0.0' / 'app.log'}\n" in why, "the version in use as well"
    document = host.updater("why", NAME, "-o", "json").document
    assert {"path": file, "lines": [WORDS]} in document["logs"]
    assert WORDS in host.terminal("why", NAME, columns=200).text

    said = [host.updater(command) for command in ("plan", "status", "history", "check")]
    said += [host.updater(*command.split(), "-o", "json") for command in ("plan", "status", "history", "apply --once")]
    assert [result for result in said if WORDS in result.out + result.err] == []
    host.configure(http={"enabled": True, "listen": "127.0.0.1:0"})
    with host.daemon("--now"):
        for path in ("/status", "/metrics", "/"):
            assert WORDS.encode() not in page(host.local_http() + path)
    assert WORDS not in json.dumps(host.meta.heartbeats)
    kept = [path for path in host.folder.rglob("*") if path.is_file() and path.parts[-2] != "cache"]
    assert host.var / "state.db" in kept
    assert host.var / "app.log" in kept
    assert [path for path in kept if WORDS.encode() in path.read_bytes()] == []


def page(url: str) -> bytes:
    """What local HTTP serves, once a pass is over."""
    found: list[bytes] = []

    def served() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                found.append(answer.read())
        except urllib.error.HTTPError as err:
            err.close()
        return bool(found)

    until(served, f"{url} is served")
    return found[-1]


def test_logs_are_the_last_lines_of_the_version_in_use(host: Host) -> None:
    host.install("1.0.0", extra={"logs/agent.log": b"".join(b"line %d\n" % number for number in range(100))})
    (host.home() / "1.0.0" / "not-ours.log").symlink_to("/etc/passwd")
    os.mkfifo(host.home() / "1.0.0" / "pipe.log")
    result = host.updater("logs", NAME)
    assert (result.code, result.err) == (0, "")
    assert f"==> {host.home() / '.start.log'} <==\n" in result.out
    _, _, rest = result.out.partition(f"==> {host.home() / '1.0.0' / 'logs' / 'agent.log'} <==\n")
    assert rest.startswith("".join(f"line {number}\n" for number in range(80, 100)))
    assert "line 79\n" not in result.out
    assert f"==> {host.home() / '1.0.0' / 'app.log'} <==\n" in result.out
    assert "root:" not in result.out
    assert "line 97\n" not in host.updater("logs", NAME, "-n", "2").out
    assert "line 0\n" in host.updater("logs", "-n", "1000", NAME).out


@pytest.mark.parametrize("count", ["0", "-1", "many", "1e3", "9999999999"])
def test_a_count_of_lines_that_is_none(host: Host, count: str) -> None:
    result = host.updater("logs", NAME, "-n", count)
    assert result.code == 64
    assert result.err


def test_logs_of_an_agent_that_is_unknown_or_wrote_nothing(host: Host) -> None:
    assert host.updater("logs", NAME).code == 64
    host.install("1.0.0")
    result = host.updater("logs", "nobody")
    assert (result.code, result.out) == (64, "")
    assert NAME in result.err
    for path in (host.home() / ".start.log", host.home() / "1.0.0" / "app.log"):
        path.unlink()
    result = host.updater("logs", NAME)
    assert (result.code, result.out) == (0, "")
    assert f"wrote no log that can be read below {host.home()}" in result.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_goes_on_with_each_file_and_with_the_next_version(
    host: Host, processes: Processes, tmp_path: Path, number: int
) -> None:
    host.install("1.0.0")
    log = host.home() / "1.0.0" / "app.log"
    out = tmp_path / "followed"
    with out.open("wb") as file:
        command = host.command("logs", NAME, "-f")
        follower = processes.start(command, cwd=ROOT, env=dict(os.environ), output=file.fileno())
    until(lambda: f"==> {log} <==" in out.read_text(), "the last lines are shown")
    with log.open("a") as writing:
        writing.write("one more\n")
    until(lambda: out.read_text().endswith("one more\n"), "a new line is shown")
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.apply().code == 0
    until(lambda: str(host.home() / "2.0.0" / "app.log") in out.read_text(), "the next version is shown")
    follower.send_signal(number)
    assert follower.wait(60) == (0 if number == signal.SIGINT else -signal.SIGTERM)
    assert out.read_text().count("one more\n") == 1
