"""The page when something is wrong: what is red and counted, its one clock, its words, the view of trouble alone."""

from __future__ import annotations

import ast
import re
import subprocess
from html import unescape
from pathlib import Path

import pytest
from attrs import evolve

from reconcile.decide import admission
from reconcile.decide.actions import Held
from reconcile.decide.admission import duration
from reconcile.decide.conditions import FALSE, Condition
from reconcile.decide.hold import Hold
from reconcile.storage.hold_files import put_hold
from tests.support.sample_agents import build
from tests.updater.conftest import Folder
from tests.updater.monitoring.test_status_board import look_at, one_pass
from updater.monitoring.page import page
from updater.monitoring.status_board import DaemonStatus, Snapshot

NAME, OTHER = "falcon-agent", "smart-agent"
SPAN = r"(?:\d+[smhd]){1,2}"


def html_of(snapshot: Snapshot, *, later: float = 0, trouble_alone: bool = False) -> str:
    look = look_at(snapshot)
    return page(look, snapshot.ended_at + later, trouble_alone=trouble_alone)


def text_of(html: str) -> str:
    text = re.sub(r"</(p|div|li|t[dhr]|h\d)>", "\n", html.partition("<body>")[2])
    return unescape(re.sub(r"<[^>]+>", "", text))


def card(html: str, name: str) -> str:
    return html.partition(f'<article id="agent-{name}"')[2].partition("</article>")[0]


@pytest.fixture
def two(folder: Folder) -> Folder:
    """Two agents that run, each at 1.0.0."""
    for name in (NAME, OTHER):
        folder.meta.publish(name, "1.0.0", build(name, "1.0.0"))
    want(folder)
    one_pass(folder)
    return folder


def want(folder: Folder, version: str = "1.0.0", *more: dict[str, object]) -> None:
    """Desire this version of the one agent, and 1.0.0 of the other."""
    folder.meta.desire(folder.meta.agent(NAME, version), folder.meta.agent(OTHER, "1.0.0"), *more)


def hold(folder: Folder, reason: str = "debugging") -> None:
    put_hold(folder.var / "holds", NAME, Hold(reason=reason, owner="ann"))


def corrupt(folder: Folder) -> Snapshot:
    """A change that fails and is tried again after a minute."""
    folder.meta.publish(NAME, "1.1.0", build(NAME, "1.1.0"))
    folder.meta.corrupt(NAME, "1.1.0")
    want(folder, "1.1.0")
    one_pass(folder)
    return one_pass(folder)


# What is red, and counted


@pytest.mark.slow
def test_a_held_agent_that_is_down_is_red_and_counted(two: Folder) -> None:
    hold(two)
    html = html_of(one_pass(two))
    assert "<title>‖ host-1: 1 of 2 held by an operator</title>" in html
    assert 'class="agent held"' in html

    subprocess.run([two.home() / "1.0.0/control", "stop"], check=True, stdout=subprocess.DEVNULL)
    html = html_of(one_pass(two))
    assert "<title>✕ host-1: 1 of 2 needs attention</title>" in html
    assert re.search(r'class="badge bad"><span[^>]*>✕</span>Down, and held<', card(html, NAME))
    assert 'class="agent held"' not in html


@pytest.mark.slow
def test_a_held_agent_that_was_never_installed_is_red_too(folder: Folder) -> None:
    folder.want()
    hold(folder)
    html = html_of(one_pass(folder))
    assert "<title>✕ host-1: Needs attention</title>" in html


@pytest.mark.slow
def test_a_wait_that_is_wanted_is_no_trouble(two: Folder) -> None:
    two.meta.publish(NAME, "1.1.0", build(NAME, "1.1.0"))
    entry = two.meta.agent(NAME, "1.1.0", rollout={"percent": 0})
    two.meta.desire(entry, two.meta.agent(OTHER, "1.0.0"))
    html = html_of(one_pass(two))
    assert "<title>‖ host-1: 1 of 2 held or waiting</title>" in html
    assert "NotYet" in card(html, NAME)


@pytest.mark.parametrize("type", ["LockServerReachable", "ReportDelivered", "AnyThatComes"])
@pytest.mark.slow
def test_each_trouble_of_the_updater_itself_has_its_line(two: Folder, type: str) -> None:
    snapshot = one_pass(two)
    trouble = Condition(type=type, status=FALSE, reason="ServerUnreachable", message="see `updater check`")
    html = html_of(evolve(snapshot, document=evolve(snapshot.document, conditions=(trouble,))))
    assert "the updater has trouble" in html
    assert "see <code>updater check</code>" in html


# One clock


@pytest.mark.slow
@pytest.mark.parametrize("later", [0, 7, 31])
def test_all_times_of_a_wait_are_by_one_clock(two: Folder, later: float) -> None:
    snapshot = corrupt(two)
    text = text_of(html_of(snapshot, later=later))
    [(left, again)] = re.findall(rf"Held for ({SPAN}) more: failed once, tried again in ({SPAN}): ", text)
    assert left == again
    assert re.findall(rf"again in ({SPAN})", text) == [again] * text.count("again in")
    [verdict] = [reported.view.verdict for reported in snapshot.document.agents if reported.view.desired.name == NAME]
    assert isinstance(verdict, Held)
    assert verdict.until is not None
    assert left == duration(verdict.until - snapshot.ended_at - later)


@pytest.mark.slow
def test_a_wait_that_is_over_does_not_run_backwards(two: Folder) -> None:
    text = text_of(html_of(corrupt(two), later=10_000))
    assert "Held for 1s more: failed once, tried again in 1s: " in text
    assert "-" not in re.findall(r"Held for (.*?) more", text)[0]


def messages_with_an_age() -> list[str]:
    """What admission says with a span in it, each with 9m59s in its place."""
    source = ast.parse(Path(admission.__file__).read_text())
    texts = [ast.unparse(node)[2:-1] for node in ast.walk(source) if isinstance(node, ast.JoinedStr)]
    aged = [re.sub(r"\{(duration\(.*?\)|span)\}", "9m59s", text) for text in texts]
    return [text for text in aged if "9m59s" in text]


@pytest.mark.slow
def test_no_age_in_any_message_stands_still(two: Folder) -> None:
    snapshot = corrupt(two)
    [reported] = [reported for reported in snapshot.document.agents if reported.view.desired.name == NAME]
    assert len(messages_with_an_age()) >= 6
    for message in messages_with_an_age():
        # One of them goes on with a sentence that was begun before.
        verdict = evolve(reported.view.verdict, message=f"until its content changes, {message}")
        document = evolve(snapshot.document, agents=(evolve(reported, view=evolve(reported.view, verdict=verdict)),))
        text = text_of(html_of(evolve(snapshot, document=document), later=90))
        assert "until its content changes, " in text
        assert "9m59s" not in text, message


# Words


@pytest.mark.slow
def test_no_word_is_cut_and_no_backquote_is_left(two: Folder) -> None:
    hold(two, "ask `ops` first, 'cat: can't open `x' said `so")
    two.meta.publish(NAME, "1.1.0", build(NAME, "1.1.0"))
    two.meta.desire(two.meta.agent(NAME, "1.1.0", md5=f"{two.meta.url}/nowhere"), two.meta.agent(OTHER, "1.0.0"))
    snapshot = one_pass(two)
    html = html_of(snapshot)
    assert "ask <code>ops</code> first" in html
    assert "can&#x27;t open <code>x</code> said &#x27;so" in html
    assert "`" not in html
    assert "verify digest not known yet, unpack 1.1.0" in text_of(html)
    assert "…," not in text_of(html)
    two.meta.desire(two.meta.agent(NAME, "1.1.0"), two.meta.agent(OTHER, "1.0.0"))
    assert re.search(r"verify md5:[0-9a-f]{8}…, unpack", text_of(html_of(one_pass(two))))


@pytest.mark.slow
def test_a_way_back_has_a_mark_of_its_own(two: Folder) -> None:
    two.configure(control_timeout={"start": 1})
    two.meta.publish(NAME, "1.1.0", build(NAME, "1.1.0", broken_start=True))
    want(two, "1.1.0")
    html = html_of(one_pass(two))
    [line] = [part for part in html.split("<li") if ">RolledBack: " in part]
    assert "back to 1.0.0" not in html, "the way back itself stands there"
    assert 'class="back"' in line
    assert line.index("↩") < line.index("RolledBack")
    assert "✓" not in line.partition("RolledBack")[0]


@pytest.mark.slow
def test_history_stands_by_its_times_however_plans_ended(two: Folder) -> None:
    snapshot = one_pass(two)
    early, late = (evolve(snapshot.history[-1], at=at, message=f"said at {at}") for at in (100.0, 200.0))
    text = text_of(html_of(evolve(snapshot, history=(late, early))))
    assert text.index("said at 200.0") < text.index("said at 100.0")


# Ways around


@pytest.mark.slow
def test_a_line_of_history_leads_to_its_agent(two: Folder) -> None:
    snapshot = corrupt(two)
    html = html_of(snapshot)
    links = set(re.findall(r'<a href="/#(agent-[^"]+)"', html))
    assert links == {f"agent-{NAME}", f"agent-{OTHER}"}
    assert all(f'id="{link}"' in html for link in links)
    want(two, "1.0.0", {**two.meta.agent(OTHER, "1.0.0"), "name": "../evil"})
    assert "<b>../evil</b>" in html_of(one_pass(two)), "what is refused has no place to lead to"


@pytest.mark.slow
def test_the_view_of_trouble_has_what_is_in_trouble_alone(two: Folder) -> None:
    html = html_of(one_pass(two))
    assert 'class="views"' not in html, "nothing is wrong: there is nothing to choose"
    assert "No agent is in trouble." in html_of(one_pass(two), trouble_alone=True)

    snapshot = corrupt(two)
    html = html_of(snapshot)
    assert '<a href="/" aria-current="page">All 2</a><a href="/?trouble">In trouble 1</a>' in html
    html = html_of(snapshot, trouble_alone=True)
    assert '<a href="/">All 2</a><a href="/?trouble" aria-current="page">In trouble 1</a>' in html
    assert card(html, NAME)
    assert OTHER not in html
    assert "DigestMismatch" in html.partition('id="history"')[2]
    assert "1 of 2 needs attention" in html, "the headline is of all"


@pytest.mark.slow
def test_a_refused_entry_counts_as_trouble(two: Folder) -> None:
    want(two, "1.0.0", {**two.meta.agent(OTHER, "1.0.0"), "name": "../evil"})
    html = html_of(one_pass(two), trouble_alone=True)
    assert "In trouble 1" in html
    assert "All 3" in html
    assert "Refused entries" in html
    assert "../evil refused" in text_of(html).partition("History")[2]
    assert NAME not in html


def test_the_first_pass_has_no_views_yet() -> None:
    html = page(DaemonStatus(started_at=0.0), 0.0, trouble_alone=True)
    assert "The first pass is being made" in html
    assert "views" not in html
