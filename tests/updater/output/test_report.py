"""What people and programs get of real assessments and passes. Columns may move; the words are a promise."""

from __future__ import annotations

import json
import re
import threading
from typing import Any

import pytest
from attrs import evolve

from probes.observed import HomeRef
from reconcile.assess.assess_host import assess
from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import (
    Action,
    Configure,
    Fetch,
    MoveHome,
    Prune,
    Start,
    Stop,
    SwitchConfig,
    SwitchTree,
    SwitchVersion,
    Unpack,
    Verify,
)
from reconcile.decide.admission import duration
from reconcile.decide.conditions import Condition, own_conditions, stored_condition
from reconcile.decide.desired import Digest, Md5, Sha256
from reconcile.decide.hold import Hold
from reconcile.engine.reconciler import PassRequest
from reconcile.engine.results import PassResult
from reconcile.storage.hold_files import put_hold
from reconcile.storage.store import read_state
from tests.support.sample_agents import build
from tests.updater.conftest import Folder
from updater.demo import agent
from updater.output.format import rfc3339
from updater.output.json_form import FORMAT_VERSION, to_json
from updater.output.report import AgentReport, AgentStanding, Report, assessed, counts
from updater.output.tables import count_rows, plan_rows, result_rows, status_rows, without_own
from updater.output.text import Palette, to_text
from updater.output.words import strongest, what
from updater.service.pass_runner import locked_pass, make_var

NAME = "falcon-agent"
PLAIN, COLOUR = Palette(False), Palette(True)
CONDITION_KEYS = {"type", "status", "reason", "message", "since"}


def plan_text(report: Report, paint: Palette, **options: bool) -> str:
    return to_text(plan_rows(report, **options), paint)


def status_text(report: Report, paint: Palette, **options: bool) -> str:
    return to_text(status_rows(report, **options), paint)


def result_text(report: Report, paint: Palette, **options: Any) -> str:
    return to_text(result_rows(report, **options), paint)


def looked(folder: Folder, ask: DesiredFrom = DesiredFrom.EXCHANGE, kind: str = "Plan") -> Report:
    """As `plan` and `status` make it."""
    host, state = folder.around(), read_state(folder.var / "state.db")
    found = assess(host, state, ask)
    return Report(
        kind=kind,
        host="host-1",
        assessment=found,
        agents=tuple(assessed(view, found.at) for view in found.agents),
        conditions=own_conditions(state.conditions, found.at, server=found.server, stored=stored_condition("")),
    )


def acted(folder: Folder) -> tuple[Report, PassResult]:
    """As `apply --once` makes it."""
    make_var(folder.var)
    result = locked_pass(
        folder.config, folder.around(), PassRequest(ask=DesiredFrom.EXCHANGE), ending=threading.Event()
    )
    reported = tuple(
        AgentReport(view=one.view, observed=one.observed, conditions=one.conditions, outcomes=one.outcomes)
        for one in result.agents
    )
    document = Report(
        kind="Result", host="host-1", assessment=result.assessment, agents=reported, conditions=result.conditions
    )
    return document, result


def words(text: str) -> str:
    """The text without its columns."""
    return " ".join(text.split())


def test_the_headline_says_how_old_the_desired_state_is(folder: Folder) -> None:
    folder.want()
    document = looked(folder)
    for age, said in ((0.0, ""), (0.9, ""), (1.0, ", 1s old"), (90.0, ", 1m30s old")):
        found = evolve(document.assessment, desired_at=document.assessment.at - age)
        headline = plan_text(evolve(document, assessment=found), PLAIN).splitlines()[0]
        assert headline == f"host-1: 1 agent, 1 pending; desired from {found.came_from}{said}"


# JSON


def test_a_plan_as_json(folder: Folder) -> None:
    folder.want()
    document = json.loads(to_json(looked(folder)))
    assert document["format_version"] == FORMAT_VERSION
    assert (document["kind"], document["host"], document["desired_age_s"]) == ("Plan", "host-1", 0)
    assert document["desired_from"] == f"{folder.meta.url}/api/heartbeat"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document["created_at"])
    assert document["summary"] == {"agents": 1, "pending": 1, "held": 0, "actions": 5}
    [reported] = document["agents"]
    release = folder.meta.release(NAME, "1.0.0")
    assert reported["actions"] == [
        {"type": "fetch", "url": release.url},
        {"type": "verify", "digest": f"md5:{release.md5}"},
        {"type": "unpack", "version": "1.0.0"},
        {"type": "switch", "from": None, "to": "1.0.0"},
        {"type": "start", "version": "1.0.0"},
    ]
    assert reported["observed"] == {"version": None, "status": None, "installed": [], "digest": None}
    assert reported["desired"] == {"version": "1.0.0", "cmd": "start", "digest": f"md5:{release.md5}"}
    assert (reported["reason"], reported["message"], reported["held"]) == ("FirstInstall", "install 1.0.0", None)
    assert all(set(condition) == CONDITION_KEYS for condition in reported["conditions"] + document["conditions"])


def test_a_result_as_json_has_what_came_of_each_action(folder: Folder) -> None:
    folder.want()
    document, _ = acted(folder)
    [reported] = json.loads(to_json(document))["agents"]
    assert [action["result"] for action in reported["actions"]] == ["done"] * 5
    assert all(action["attempts"] == 1 and action["error"] is None for action in reported["actions"])
    assert reported["observed"]["version"] == "1.0.0"
    assert reported["observed"]["status"] == "started"
    assert reported["observed"]["installed"] == ["1.0.0"]


def test_a_failure_as_json(folder: Folder) -> None:
    folder.want()
    folder.meta.corrupt(NAME, "1.0.0")
    document, _ = acted(folder)
    [reported] = json.loads(to_json(document))["agents"]
    assert [action["result"] for action in reported["actions"]] == ["done", "failed", "skipped", "skipped", "skipped"]
    assert "expected md5:" in reported["actions"][1]["error"]
    ready = next(condition for condition in reported["conditions"] if condition["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "DigestMismatch")


def test_what_a_held_change_did_not_begin_was_skipped(folder: Folder) -> None:
    held(folder)
    document, _ = acted(folder)
    [agent] = json.loads(to_json(document))["agents"]
    results = [
        (action["result"], action["attempts"], action["seconds"], action["error"]) for action in agent["actions"]
    ]
    assert (agent["held"]["reason"], results) == ("ServerUnreachable", [("skipped", 0, 0.0, None)] * 5)
    assert [action["result"] for action in agent["held"]["meanwhile"]] == ["done"]


def test_actions_besides_the_plan_are_reported_too(folder: Folder) -> None:
    """The new version does not come up, and the one before it is gone back to in the same pass."""
    folder.configure(control_timeout={"start": 4})
    folder.want("1.0.0")
    acted(folder)
    folder.want("2.0.0", broken_start=True)
    document, _ = acted(folder)
    [reported] = json.loads(to_json(document))["agents"]
    assert reported["actions"][-1]["type"] == "start"
    assert (reported["actions"][-1]["version"], reported["actions"][-1]["result"]) == ("1.0.0", "done")


def test_a_heal_before_a_download_is_reported_with_it(folder: Folder) -> None:
    """Each action once, in order, with what came of it, though the change was planned again after the start."""
    folder.want("1.0.0")
    acted(folder)
    agent.crash(folder.home())
    folder.want("2.0.0")
    document, _ = acted(folder)
    [reported] = json.loads(to_json(document))["agents"]
    acts = (*reported["heal"], *reported["actions"])
    done = [(action["type"], action.get("version"), action["result"]) for action in acts]
    assert len(reported["heal"]) == 1
    assert [(done[0]), *done[3:5], done[-1]] == [
        ("start", "1.0.0", "done"),
        ("unpack", "2.0.0", "done"),
        ("stop", "1.0.0", "done"),
        ("start", "2.0.0", "done"),
    ]
    assert len(done) == 7


def held(folder: Folder) -> Report:
    """A crashed agent whose upgrade waits for an answer."""
    folder.want("1.0.0")
    acted(folder)
    folder.want("2.0.0")
    folder.meta.vanish(NAME, "2.0.0")
    acted(folder)
    agent.crash(folder.home())
    folder.meta.down()
    return looked(folder)


def test_a_held_change_says_why_and_what_is_done_meanwhile(folder: Folder) -> None:
    document = held(folder)
    content = json.loads(to_json(document))
    [reported] = content["agents"]
    assert (reported["held"]["reason"], reported["held"]["until"]) == ("ServerUnreachable", None)
    assert reported["held"]["meanwhile"] == [{"type": "start", "version": "1.0.0"}]
    assert content["summary"]["held"] == 1
    text = words(plan_text(document, PLAIN))
    assert "1 agent, 1 held back; desired" in text, "each agent counts once"
    assert "held back: ServerUnreachable: waits for an answer of ops-meta" in text
    assert "meanwhile: start 1.0.0" in text
    assert "ServerReachable: ServerUnreachable: no answer from" in text


def test_refused_entries_are_reported(folder: Folder) -> None:
    folder.meta.desire(folder.meta.agent("theirs", "1.0.0", runUser="no-such-user"))
    document = looked(folder)
    [refused] = json.loads(to_json(document))["refused"]
    assert (refused["name"], refused["reason"], refused["rule"]) == ("theirs", "UserMissing", "run_user")
    for text in (plan_text(document, PLAIN), status_text(document, PLAIN)):
        assert "theirs UserMissing: refused by rule run_user: " in words(text)


def test_no_url_is_known_for_a_refused_entry(folder: Folder) -> None:
    folder.want()
    acted(folder)
    folder.meta.publish(NAME, "2.0.0", build(NAME, "2.0.0"))
    for percent in (0, 101):
        folder.meta.desire(folder.meta.agent(NAME, "2.0.0", rollout={"percent": percent}))
        folder.run("apply", "--once")
    document = looked(folder)
    assert "1. fetch URL not known 2. verify digest not known yet" in words(plan_text(document, PLAIN))
    [agent] = json.loads(to_json(document))["agents"]
    assert agent["actions"][0] == {"type": "fetch", "url": ""}


def test_a_result_counts_the_actions_that_it_lists(folder: Folder) -> None:
    folder.configure(watch=0)
    for version, count in (("1.0.0", 5), ("2.0.0", 6)):
        folder.want(version)
        content = json.loads(folder.run("apply", "-o", "json").out)
        assert [len(agent["actions"]) for agent in content["agents"]] == [count]
        assert content["summary"]["actions"] == count


def test_agents_are_reported_though_nothing_is_desired(folder: Folder) -> None:
    folder.want()
    acted(folder)
    folder.meta.desire()
    document = looked(folder)
    [reported] = json.loads(to_json(document))["agents"]
    assert (reported["name"], reported["reason"], reported["desired"]) == (NAME, "NothingDesired", None)
    assert reported["observed"]["status"] == "started"
    assert "NothingDesired: the server named no agents" in plan_text(document, PLAIN)
    assert "falcon-agent 1.0.0 started" in words(status_text(document, PLAIN))
    for text in (plan_text(document, PLAIN), status_text(document, PLAIN)):
        assert "host-1: no agents desired, 1 observed; desired from" in words(text)


# Text


def test_a_plan_as_text(folder: Folder) -> None:
    folder.want()
    text = plan_text(looked(folder), PLAIN)
    assert words(text).startswith("host-1: 1 agent, 1 pending")
    steps = [re.sub(r"^\d\. +", "", line.strip()).split()[0] for line in text.splitlines() if re.match(r" +\d\.", line)]
    assert steps == ["fetch", "verify", "unpack", "switch", "start"]
    assert "falcon-agent FirstInstall install 1.0.0" in words(text)


def test_a_plan_with_nothing_pending(folder: Folder) -> None:
    folder.want()
    acted(folder)
    document = looked(folder)
    text = words(plan_text(document, PLAIN))
    assert "1 agent, 1 as desired; desired" in text
    assert text.endswith(" falcon-agent AsDesired 1.0.0 started")


def test_quiet_prints_what_is_not_as_it_should_be_and_else_nothing(folder: Folder) -> None:
    folder.meta.publish("other", "1.0.0", build("other", "1.0.0"))
    folder.want()
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0"), folder.meta.agent("other", "1.0.0"))
    acted(folder)
    document = looked(folder)
    assert (plan_text(document, PLAIN, quiet=True), status_text(document, PLAIN, quiet=True)) == ("", "")
    agent.crash(folder.home())
    document = looked(folder)
    assert plan_text(document, PLAIN, quiet=True).startswith("host-1: 2 agents, 1 as desired, 1 pending; desired from ")
    [line] = status_text(document, PLAIN, quiet=True).splitlines()
    assert words(line).startswith("falcon-agent 1.0.0 stopped -> 1.0.0 started NotRunning for ")
    assert "other" not in plan_text(document, PLAIN, quiet=True)
    acted(folder)
    folder.meta.down()
    document = looked(folder)
    for text in (plan_text(document, PLAIN, quiet=True), status_text(document, PLAIN, quiet=True)):
        assert "ServerReachable: ServerUnreachable: no answer from" in text
        assert NAME not in text


def test_a_plan_without_agents(folder: Folder) -> None:
    folder.meta.desire()
    assert "host-1: no agents; desired from" in words(plan_text(looked(folder), PLAIN))


def test_a_status_is_one_line_an_agent_and_one_that_counts(folder: Folder) -> None:
    for name in ("other", "third"):
        folder.meta.publish(name, "1.0.0", build(name, "1.0.0"))
    folder.want()
    folder.meta.desire(*(folder.meta.agent(name, "1.0.0") for name in (NAME, "other", "third")))
    acted(folder)
    put_hold(folder.var / "holds", "other", Hold(owner="ann", reason="a leak"))
    agent.crash(folder.home("third"))
    report = looked(folder, DesiredFrom.READ_ONLY, "Status")
    first, second, third, last = (words(line) for line in status_text(report, PLAIN).splitlines())
    assert re.fullmatch(r"falcon-agent 1.0.0 started 1.0.0 started (AsDesired|Confirming) for \d+s", first)
    assert re.fullmatch(r"other 1.0.0 started 1.0.0 started HeldByOperator for \d+s ann: a leak", second)
    assert re.fullmatch(r"third 1.0.0 stopped -> 1.0.0 started NotRunning for \d+s 1.0.0 does not run", third)
    assert last.startswith("host-1: 3 agents, 1 as desired, 1 pending, 1 held by an operator; desired from ")
    assert [words(line).split()[0] for line in status_text(report, PLAIN, quiet=True).splitlines()] == ["third"]

    wide = status_text(report, PLAIN, wide=True)
    assert re.search(r"\n  Ready +False +NotRunning +for \d+s +1.0.0 does not run\n", wide)
    assert wide.count("Quarantined") == 3


def test_within_its_watch_an_agent_says_so(folder: Folder) -> None:
    folder.want()
    folder.configure(watch=30)
    acted(folder)
    assert " Confirming " in words(status_text(looked(folder, DesiredFrom.READ_ONLY, "Status"), PLAIN))


@pytest.mark.parametrize(
    ("version", "seen"),
    [(None, "not installed"), ("9.9.9", "9.9.9: not on disk"), ("", "(empty .version): not on disk")],
)
def test_what_is_not_there(folder: Folder, version: str | None, seen: str) -> None:
    folder.want()
    folder.home().mkdir(parents=True)
    if version is not None:
        (folder.home() / ".version").write_text(version)
    assert f"falcon-agent {seen} -> 1.0.0 started" in words(status_text(looked(folder), PLAIN))


@pytest.mark.parametrize(("cmd", "wanted"), [("stop", "-> stopped"), ("", "-> observed only")])
def test_what_else_may_be_desired(folder: Folder, cmd: str, wanted: str) -> None:
    folder.want(cmd=cmd)
    assert f" {wanted} " in words(status_text(looked(folder), PLAIN))


def test_no_age_is_negative_after_the_clock_was_set_back(folder: Folder) -> None:
    folder.want()
    acted(folder)
    report = looked(folder, DesiredFrom.READ_ONLY, "Status")
    ahead = tuple(evolve(c, since=report.assessment.at + 7200) for c in report.agents[0].conditions)
    report = evolve(report, agents=(evolve(report.agents[0], conditions=ahead),))
    for text in (status_text(report, PLAIN), status_text(report, PLAIN, wide=True)):
        assert "since before the clock was set back" in text
        assert "for -" not in text


def test_each_agent_counts_once_whatever_it_is(folder: Folder) -> None:
    report = held(folder)
    [one] = report.agents
    assert (report.pending, report.held) == (1, 1), "in JSON it is both"
    assert (one.standing, counts(report)) == (AgentStanding.HELD_BACK, ["1 agent", "1 held back"])
    [line] = to_text(count_rows(report), PLAIN).splitlines()
    assert line == "host-1: 1 agent, 1 held back: falcon-agent (ServerUnreachable)"


def test_a_result_as_text_has_what_was_done(folder: Folder) -> None:
    folder.want()
    document, result = acted(folder)
    text = words(result_text(document, PLAIN, transitions=result.transitions))
    for step in ("fetch", "verify", "unpack", "switch", "start"):
        assert f"{step} done" in text
    document, result = acted(folder)
    assert result_text(document, PLAIN, transitions=result.transitions) == ""  # nothing was done, nothing changed
    assert "falcon-agent AsDesired" in words(result_text(document, PLAIN, everything=True))


def test_a_failure_as_text(folder: Folder) -> None:
    folder.want()
    folder.meta.vanish(NAME, "1.0.0")
    document, result = acted(folder)
    text = words(result_text(document, PLAIN, transitions=result.transitions))
    assert "falcon-agent FetchFailed" in text
    assert "FetchFailed: " in text
    assert "HTTP 404" in text
    assert "verify" not in text, "what was skipped is left out"


def test_tries_are_printed_where_there_were_several(folder: Folder) -> None:
    folder.want()
    folder.meta.fail(503, ".tar.gz", retry_after=0, times=1)
    document, _ = acted(folder)
    assert "2 tries" in result_text(document, PLAIN)


def test_a_refusal_is_printed_when_it_is_news(folder: Folder) -> None:
    folder.meta.desire(folder.meta.agent("theirs", "1.0.0", runUser="no-such-user"))
    ran = folder.run("apply", "--once")
    assert (ran.code, words(ran.out).startswith("theirs UserMissing: refused by rule run_user: ")) == (3, True)
    ran = folder.run("apply", "--once")
    assert (ran.code, ran.out) == (3, "")  # so cron mails once


def test_an_outage_is_printed_when_it_begins_and_when_it_ends(folder: Folder) -> None:
    folder.want()
    acted(folder)
    reported = []
    for turn in (folder.meta.down, lambda: None, folder.meta.up, lambda: None):
        turn()
        document, result = acted(folder)
        reported.append(words(result_text(document, PLAIN, transitions=result.transitions)))
    assert [text.partition(":")[0] for text in reported] == ["ServerReachable", "", "ServerReachable", ""]
    assert reported[0].startswith("ServerReachable: ServerUnreachable: no answer from")
    assert reported[2].startswith("ServerReachable: AsDesired")


def test_colours_are_marks_around_the_same_words(folder: Folder) -> None:
    folder.want()
    document, result = acted(folder)
    for render in (plan_text, status_text, lambda report, paint: to_text(count_rows(report), paint)):
        coloured = render(document, COLOUR)
        assert "\x1b[" in coloured
        assert words(re.sub(r"\x1b\[[0-9;]*m", "", coloured)) == words(render(document, PLAIN))
    assert "\x1b[32m" in result_text(document, COLOUR, transitions=result.transitions)
    assert COLOUR("good", "") == ""


# Small words


OLD_HOME = HomeRef(name="a", work_dir="/srv/old", run_user="olduser")
NEW_HOME = HomeRef(name="a", work_dir="/srv/new", run_user="me")
DIGESTS = frozenset[Digest]({Md5("1" * 32), Sha256("2" * 64)})


@pytest.mark.parametrize(
    ("action", "printed"),
    [
        (
            Fetch(url="http://me:secret@meta/x.tar.gz?token=secret", version="1.0.0", digests=DIGESTS),
            "http://meta/x.tar.gz",
        ),
        (Verify(digests=DIGESTS), f"sha256:{'2' * 64}"),
        (Verify(digests=frozenset()), "digest not known yet"),
        (Unpack(version="1.0.0", directory=".next-1.0.0", url="", digests=DIGESTS), "1.0.0"),
        (Configure(name="cfg.json", digest="sha256:1", directory=None), "cfg.json"),
        (Stop(version="1.0.0"), "1.0.0"),
        (Start(version="1.0.0"), "1.0.0"),
        (SwitchVersion(from_version=None, to="1.0.0"), "1.0.0"),
        (SwitchVersion(from_version="0.9.0", to="1.0.0"), "0.9.0 -> 1.0.0"),
        (SwitchTree(version="1.0.0"), "1.0.0, its new tarball"),
        (SwitchTree(version="1.0.0", previous=True), "1.0.0, back to its former tree"),
        (MoveHome(switch=SwitchTree(version="1.0.0"), leaves=OLD_HOME), "1.0.0, out of /srv/old as olduser"),
        (
            MoveHome(switch=SwitchVersion(from_version="0.9.0", to="1.0.0", at=NEW_HOME), leaves=OLD_HOME),
            "1.0.0, out of /srv/old as olduser in /srv/new as me",
        ),
        (SwitchConfig(version="1.0.0", name="cfg.json", digest="sha256:1"), "1.0.0, with the new cfg.json"),
        (Prune(names=(".stage-1", ".next-1.0.0")), ".stage-1, .next-1.0.0"),
    ],
)
def test_what_an_action_is_about(action: Action, printed: str) -> None:
    assert what(action) == printed


def test_every_action_as_json(folder: Folder) -> None:
    """A config that changes, and leftovers: the two actions that the other stories lack."""
    url = folder.meta.publish_config("/conf/cfg.json", b"{}")
    keys: dict[str, Any] = {"configFileName": "cfg.json", "configRemoteUrl": url}
    folder.want()
    folder.meta.desire(folder.meta.agent(NAME, "1.0.0", **keys))
    acted(folder)
    folder.meta.publish_config("/conf/cfg.json", b'{"a": 1}')
    (folder.home() / ".stage-1").mkdir()
    [reported] = json.loads(to_json(looked(folder)))["agents"]
    assert [action["type"] for action in reported["actions"]] == ["configure", "stop", "switch", "start", "prune"]
    assert reported["actions"][0]["file"] == "cfg.json"
    assert reported["actions"][0]["digest"].startswith("sha256:")
    assert reported["actions"][-1]["names"] == [".stage-1"]


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (250, "4m10s"), (3600, "1h00m"), (7500, "2h05m"), (266400, "3d02h")],
)
def test_spans(seconds: float, printed: str) -> None:
    assert duration(seconds) == printed


def test_times_are_utc() -> None:
    assert rfc3339(1795485600) == "2026-11-24T02:00:00Z"


def test_the_strongest_digest() -> None:
    assert strongest(["md5:f", "sha256:0"]) == "sha256:0"
    assert strongest([]) is None


def test_what_is_wrong_with_the_updater_itself_is_said_once_below_the_agents(folder: Folder) -> None:
    plan = plan_text(held(folder), PLAIN)
    assert plan.count("no answer from") == 1
    assert "held back: ServerUnreachable: waits for an answer of ops-meta\n" in plan
    result = result_text(held(folder), PLAIN, everything=True)
    assert result.count("no answer from") == 1


def test_what_conditions_of_the_updater_say_is_said_once() -> None:
    """One that says nothing takes nothing away, nor does one that is well."""
    own = [
        Condition(type="A", status="False", reason="X", message="no disk"),
        Condition(type="B", status="False", reason="Y", message=""),
        Condition(type="C", status="True", reason="Z", message="all well"),
    ]
    assert without_own("not fetched: no disk: all well", own) == "not fetched: all well"
