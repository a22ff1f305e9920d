"""The board, the page and the metrics, made of real passes."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Iterable
from html import unescape as html_unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from attrs import evolve
from prometheus_client.parser import text_string_to_metric_families

from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.hold import Hold
from reconcile.engine.reconciler import PassRequest
from reconcile.source import DesiredSignature
from reconcile.storage.hold_files import put_hold
from tests.updater.conftest import Folder
from updater.monitoring.metrics import exposition, write_textfile
from updater.monitoring.page import page
from updater.monitoring.status_board import HISTORY, DaemonStatus, Snapshot, StatusBoard
from updater.service.pass_runner import PassObserver, locked_pass, make_var

NAME = "falcon-agent"
ROOT = Path(__file__).parents[3]
CSS = (ROOT / "updater" / "monitoring" / "page.css").read_text()


def one_pass(folder: Folder) -> Snapshot:
    """Make a pass, and take what it left behind."""
    make_var(folder.var)
    seen: list[Snapshot] = []
    order = PassRequest(ask=DesiredFrom.EXCHANGE)
    locked_pass(
        folder.config, folder.around(), order, ending=threading.Event(), observer=PassObserver(seen=seen.append)
    )
    return seen[0]


DEAD = "http://127.0.0.1:9"  # a port that nothing listens on


def look_at(snapshot: Snapshot) -> DaemonStatus:
    return DaemonStatus(started_at=snapshot.ended_at, snapshot=snapshot, next_at=snapshot.ended_at + 250)


def text_of(look: DaemonStatus) -> str:
    """What is written on the page, one line a block."""
    text = re.sub(r"</(p|div|li|t[dhr]|h\d)>", "\n", page(look, time.time()).partition("<body>")[2])
    return re.sub(r"<[^>]+>", "", text)


# The board


def test_a_board_always_shows_one_whole_look() -> None:
    board = StatusBoard()
    before = board.status()
    board.begin(NAME, "fetch", "x.tar.gz")
    board.begin("other", "stop", "1")
    board.begin(NAME, "verify", "md5:x")
    assert [(one.agent, one.action) for one in board.status().running] == [("other", "stop"), (NAME, "verify")]
    assert before.running == ()
    board.end("other")
    assert [one.agent for one in board.status().running] == [NAME]
    board.fail("no room")
    assert (board.status().trouble, board.status().running) == ("no room", ())
    board.expect(5.0)
    assert board.status().next_at == 5.0
    board.begin(NAME, "start", "1")
    board.begin("other", "stop", "1")
    board.passing(frozenset({NAME}))  # its plan outlasts the pass that began it
    assert board.status().next_at is None
    assert [one.agent for one in board.status().running] == [NAME]


@pytest.mark.slow
def test_a_snapshot_is_the_end_of_a_pass_without_the_scripts_words(folder: Folder) -> None:
    folder.configure(control_timeout={"start": 1})
    folder.want(broken_start=True)
    snapshot = one_pass(folder)
    (reported,) = snapshot.document.agents
    assert not reported.ready
    assert reported.observed.version_text == "1.0.0"
    event = next(event for event in snapshot.history if event.actions)
    assert [action["type"] for action in event.actions] == ["fetch", "verify", "unpack", "switch", "start"]
    assert all("evidence" not in action for event in snapshot.history for action in event.actions)
    assert 1 <= len(snapshot.history) <= HISTORY


# The page


class Outline(HTMLParser):
    """Elements that must be closed, ids, labels."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.labelled: list[str] = []
        self.headings: list[int] = []
        self.landmarks: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)
        found = dict(attrs)
        if found.get("id"):
            self.ids.append(str(found["id"]))
        if found.get("aria-labelledby"):
            self.labelled.append(str(found["aria-labelledby"]))
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag in ("header", "main", "footer"):
            self.landmarks.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(html: str) -> Outline:
    found = Outline()
    found.feed(html)
    found.close()
    return found


@pytest.mark.slow
def test_the_page_shows_versions_conditions_history_and_what_is_next(folder: Folder) -> None:
    folder.want()
    one_pass(folder)
    folder.want("1.1.0", cmd="start")
    put_hold(folder.var / "holds", NAME, Hold(owner="ann", reason="debugging", since=time.time(), until=None))
    snapshot = one_pass(folder)
    text = text_of(look_at(snapshot))
    assert "host-1" in text
    assert "Held by an operator" in text
    assert "HeldByOperator" in text
    assert "1.0.0 started wanted: 1.1.0 started" in text
    assert "Held: ann: debugging" in text
    assert "It would: fetch falcon-agent-1.1.0.tar.gz, verify" in text
    assert "in 4m" in text
    assert "FirstInstall by server: install 1.0.0" in text
    assert re.search(r"Ready\s+✕False\s+HeldByOperator", text)

    html = page(look_at(snapshot), time.time())
    found = outline(html)
    assert found.open == []
    assert len(set(found.ids)) == len(found.ids)
    assert set(found.labelled) <= set(found.ids)
    assert found.landmarks == ["header", "main", "footer"]
    assert found.headings[0] == 1
    assert all(after - before <= 1 for before, after in zip(found.headings, found.headings[1:], strict=False))
    assert "<title>‖ host-1: Held by an operator</title>" in html


@pytest.mark.slow
def test_a_failed_change_is_shown_with_what_was_tried(folder: Folder) -> None:
    folder.want()
    one_pass(folder)
    folder.want("1.1.0")
    folder.meta.corrupt(NAME, "1.1.0")
    text = text_of(look_at(one_pass(folder)))
    newest = text.partition("History")[2].partition("FirstInstall")[0]
    assert "VersionDiffers by server: 1.0.0 → 1.1.0" in newest
    steps = "fetch verify unpack stop switch start"
    assert re.findall(rf"(✓|✕|·)({steps.replace(' ', '|')})", newest) == [("✓", "fetch"), ("✕", "verify")]


@pytest.mark.slow
def test_a_running_action_is_shown_before_past_ones(folder: Folder) -> None:
    folder.want()
    one_pass(folder)
    board = StatusBoard()
    board.publish(one_pass(folder))
    assert "As desired" in text_of(board.status())
    board.passing()
    board.begin(NAME, "stop", "1.0.0")
    text = text_of(board.status())
    assert "At work on falcon-agent" in text
    assert "Now: stop 1.0.0" in text


@pytest.mark.slow
def test_refused_entries_an_empty_answer_and_a_silent_server_are_shown(folder: Folder) -> None:
    folder.want()
    bad = {**folder.meta.agent(NAME, "1.0.0"), "name": "<b>../evil"}
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0"), bad)
    text = page(look_at(one_pass(folder)), time.time())
    assert "&lt;b&gt;../evil" in text
    assert "<b>../evil" not in text
    assert "Refused entries" in text
    folder.meta.desire()
    text = text_of(look_at(one_pass(folder)))
    assert "Nothing is managed" in text
    assert "falcon-agent 1.0.0 started" in text
    folder.meta.down()
    assert "ServerUnreachable" in text_of(look_at(one_pass(folder)))


# Contrast, WCAG 2.1 section 1.4.3: 4.5 to 1 for text


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block))


LIGHT = colours(CSS.partition("@media (prefers-color-scheme: dark)")[0])
DARK = LIGHT | colours(CSS.partition("@media (prefers-color-scheme: dark)")[2].partition("@media")[0])


def contrast(one: str, other: str) -> float:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lighter, darker = sorted((light(one), light(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("scheme", [LIGHT, DARK], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: dict[str, str]) -> None:
    pairs = [(text, ground) for text in ("text", "muted", "link") for ground in ("ground", "card")]
    pairs += [(kind, f"{kind}-ground") for kind in ("good", "pending", "held", "bad", "quiet")]
    pairs += [("text", "bad-ground"), ("text", "pending-ground")]
    pairs += [(kind, "card") for kind in ("good", "pending", "held", "bad", "quiet")]
    weak = {pair: contrast(scheme[pair[0]], scheme[pair[1]]) for pair in pairs}
    assert {pair: ratio for pair, ratio in weak.items() if ratio < 4.5} == {}


@pytest.mark.slow
@pytest.mark.parametrize("keys", [{"fleet_lock": {"url": DEAD}}, {"report_to": DEAD}])
def test_each_server_that_does_not_answer_is_on_the_page_and_in_the_metrics(
    folder: Folder, keys: dict[str, object]
) -> None:
    folder.configure(**keys)  # a new memory gives its places back
    folder.want()
    look = look_at(one_pass(folder))
    name, metric = ("Report", "report_delivered") if "report_to" in keys else ("Fleet's lock", "lock_server_reachable")
    assert re.search(f"{name}.ServerUnreachable", html_unescape(text_of(look)))
    assert samples(exposition(look))[f"ops_updater_{metric}"] == 0


# The metrics


def samples(text: bytes) -> dict[str, float]:
    """`name{label=value,...}` -> value, without the process's own."""
    return {
        sample.name + "".join(f" {key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
        if sample.name.startswith("ops_updater_")
    }


def named(found: Iterable[str]) -> set[str]:
    return {name.split()[0] for name in found}


@pytest.mark.slow
def test_metrics_cover_each_agent_and_the_updater(folder: Folder) -> None:
    folder.want()
    one_pass(folder)
    snapshot = one_pass(folder)
    found = samples(exposition(look_at(snapshot)))
    agent = f" agent={NAME}"
    assert found[f"ops_updater_agent_ready{agent}"] == 1
    assert found[f"ops_updater_agent_running{agent}"] == 1
    assert found[f"ops_updater_agent_pending{agent}"] == 0
    assert found[f"ops_updater_agent_held{agent}"] == 0
    assert found[f"ops_updater_agent_last_change_failed{agent}"] == 0
    assert found["ops_updater_server_reachable"] == 1
    assert found["ops_updater_next_pass_timestamp_seconds"] == pytest.approx(snapshot.ended_at + 250)
    assert any("desired_version=1.0.0 reason=AsDesired" in name for name in found)
    folder.meta.down()
    found = samples(exposition(evolve(look_at(one_pass(folder)), next_at=None)))
    assert found["ops_updater_server_reachable"] == 0
    assert "ops_updater_next_pass_timestamp_seconds" not in named(found)


@pytest.mark.slow
def test_restarts_rollbacks_and_heals_are_counted_and_only_grow(folder: Folder) -> None:
    """Under cron, too, where each pass is a process of its own: what counts is what is remembered."""
    folder.configure(control_timeout={"start": 2})
    folder.want()

    def counted() -> tuple[float, ...]:
        found = samples(exposition(look_at(one_pass(folder))))
        kinds = ("restarts", "rollbacks", "heals")
        return tuple(found[f"ops_updater_agent_{kind}_total agent={NAME}"] for kind in kinds)

    assert counted() == (0, 0, 0), "a first install is none of them, and the first time must be an increase"
    subprocess.run([str(folder.home() / "1.0.0" / "control"), "stop"], check=True, stdout=subprocess.DEVNULL)
    assert counted() == (0, 0, 1)
    folder.want("2.0.0")
    assert folder.run("apply", "--once").code == 0
    assert counted() == (1, 0, 1)
    folder.want("3.0.0", broken_start=True)
    assert folder.run("apply", "--once").code == 4
    assert counted()[1] == 1
    before = counted()
    assert counted() == before


@pytest.mark.slow
@pytest.mark.parametrize("file", ["prometheus/ops-updater.rules.yml", "grafana/ops-updater.json"])
def test_alerts_and_dashboard_use_metrics_that_there_are(folder: Folder, file: str) -> None:
    folder.configure(fleet_lock={"url": "http://127.0.0.1:9"})  # a new memory gives its places back
    folder.want()
    there = named(samples(exposition(look_at(one_pass(folder)))))
    there.add("ops_updater_agent_held_until_timestamp_seconds")  # of a held agent alone
    used = set(re.findall(r"\bops_updater_\w+", (ROOT / "contrib" / file).read_text()))
    assert len(used) > 8
    assert used - there == set()


@pytest.mark.slow
def test_an_agent_that_waits_as_wanted_is_no_trouble(folder: Folder) -> None:
    folder.want()
    one_pass(folder)

    def waits() -> tuple[float, float]:
        found = samples(exposition(look_at(one_pass(folder))))
        return tuple(found[f"ops_updater_agent_{kind} agent={NAME}"] for kind in ("ready", "waits"))  # type: ignore[return-value]

    assert waits() == (1, 0)
    folder.run("hold", "--all", "--reason", "freeze")
    subprocess.run([str(folder.home() / "1.0.0" / "control"), "stop"], check=True, stdout=subprocess.DEVNULL)
    assert waits() == (0, 1)
    folder.run("release", "--all")
    assert waits() == (1, 0)
    folder.configure(windows=[{"start": "00:00", "length": "1m", "days": ["mon"]}], time_zone="Mars/Olympus")
    folder.want("2.0.0")
    assert waits() == (0, 1)


@pytest.mark.slow
def test_a_signed_desired_state_has_its_serial_and_age_in_the_metrics(folder: Folder) -> None:
    folder.want()
    snapshot = one_pass(folder)
    assert not any("desired_serial" in name for name in samples(exposition(look_at(snapshot))))
    signature = DesiredSignature(key="K", serial=1_790_000_000, digest="d")
    assessment = evolve(snapshot.document.assessment, signature=signature)
    signed = evolve(snapshot, document=evolve(snapshot.document, assessment=assessment), ended_at=1_790_000_060.0)
    found = samples(exposition(look_at(signed)))
    assert found["ops_updater_desired_serial"] == 1_790_000_000
    assert found["ops_updater_desired_serial_age_seconds"] == 60


@pytest.mark.slow
def test_cron_and_the_daemon_write_the_same_metrics(folder: Folder, tmp_path: Path) -> None:
    file = tmp_path / "ops-updater.prom"
    folder.configure(metrics_textfile=str(file))
    folder.want()
    assert folder.run("apply", "--once").code == 0
    assert file.stat().st_mode & 0o777 == 0o644
    written = named(samples(file.read_bytes()))
    served = named(samples(exposition(look_at(one_pass(folder)))))
    assert served - written == {
        "ops_updater_pass_failed",
        "ops_updater_next_pass_timestamp_seconds",
        "ops_updater_actions_running",
    }
    assert written <= served
    before = file.read_bytes()
    assert folder.run("apply", "--once", NAME).code == 0
    assert file.read_bytes() == before  # a pass over some agents says nothing of the others
    assert [path.name for path in tmp_path.glob(".*prom*")] == []


def test_a_place_that_can_not_be_written_fails_no_pass(folder: Folder, tmp_path: Path) -> None:
    folder.configure(metrics_textfile=str(tmp_path / "missing" / "ops-updater.prom"))
    folder.want(cmd="stop")
    assert folder.run("apply", "--once").code == 0
    assert "WARNING metrics_textfile" in folder.log()
    assert "can't be written: No such file" in folder.log()


@pytest.mark.parametrize("name", ["ops-updater.prom", ".ops-updater.prom.new"])
def test_what_lies_in_the_metrics_folder_leads_nowhere(folder: Folder, tmp_path: Path, name: str) -> None:
    """The folder may be another user's, who puts there what it likes."""
    folder.want(cmd="stop")
    look = one_pass(folder)
    victim, metrics = tmp_path / "victim", tmp_path / "metrics"
    victim.write_text("untouched")
    metrics.mkdir()
    for put in (lambda path: path.symlink_to(victim), lambda path: os.link(victim, path), os.mkfifo):
        put(metrics / name)
        write_textfile(metrics / "ops-updater.prom", look)
        assert os.listdir(metrics) == ["ops-updater.prom"]
        assert (metrics / "ops-updater.prom").stat(follow_symlinks=False).st_nlink == 1
        (metrics / "ops-updater.prom").unlink()
    assert victim.read_text() == "untouched"
    (metrics / name).mkdir()
    with pytest.raises(OSError, match="directory"):
        write_textfile(metrics / "ops-updater.prom", look)


def test_a_metrics_folder_that_became_a_link_is_not_written_to(folder: Folder, tmp_path: Path) -> None:
    folder.want(cmd="stop")
    look = one_pass(folder)
    theirs, elsewhere = tmp_path / "theirs", tmp_path / "elsewhere"
    elsewhere.mkdir()
    theirs.mkdir()
    theirs.chmod(0o777)
    (theirs / "metrics").symlink_to(elsewhere)
    with pytest.raises(OSError, match="a folder that others can write"):
        write_textfile(theirs / "metrics/ops-updater.prom", look)
    assert os.listdir(elsewhere) == []
