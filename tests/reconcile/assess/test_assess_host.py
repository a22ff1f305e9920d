"""The reading half: what a pass finds out and would do, from real answers, real homes and a real memory."""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from probes.observed import ProcessState
from reconcile.assess.assess_host import accepted, assess
from reconcile.assess.assess_host import only as only_those
from reconcile.assess.homes import observe_now
from reconcile.assess.host_report import report
from reconcile.assess.pass_context import Assessment, DesiredFrom, NoDesiredState
from reconcile.decide.actions import Held
from reconcile.decide.admission import Freshness
from reconcile.decide.conditions import Condition, own_conditions, stored_condition
from reconcile.decide.evaluate import AgentEvaluation, conditions_of
from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.source import HostReport
from reconcile.storage.store import Store, StoredState, read_state
from tests.yard import NAME, OWN, Yard
from updater.demo import agent
from updater.sources.file import DesiredFile


def look(
    yard: Yard, ask: DesiredFrom = DesiredFrom.EXCHANGE, state: StoredState | None = None, **changes: Any
) -> Assessment:
    return assess(yard.around(**changes), read_state(yard.db) if state is None else state, ask)


def the_view(found: Assessment, name: str = NAME) -> AgentEvaluation:
    return next(view for view in found.agents if view.desired.name == name)


def plan_line(view: AgentEvaluation) -> str:
    return f"{view.plan.reason}: {' '.join(action.type for action in view.plan.actions)}"


def condition(view: AgentEvaluation, kind: str) -> Condition:
    return next(c for c in conditions_of(view) if c.type == kind)


def installed(yard: Yard, version: str = "1.0.0", **keys: Any) -> None:
    yard.publish(version)
    yard.meta.desire(yard.meta.agent(NAME, version, **keys))
    yard.run()


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_look_at_what_was_never_installed(yard: Yard) -> None:
    yard.publish("1.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0"))
    found = look(yard)
    view = the_view(found)
    assert plan_line(view) == "FirstInstall: fetch verify unpack switch start"
    assert (view.plan, view.plan) == (view.due, view.verdict)
    assert (found.answered, found.nothing_desired, found.failed) == (Freshness.LIVE, False, None)
    assert found.came_from == f"{yard.meta.url}/api/heartbeat"
    assert found.fresh is not None
    assert os.listdir(yard.folder) == []  # no home, no cache, no memory: nothing was written


def test_a_look_writes_nothing_where_there_is_something(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0"))
    agent.end_all(yard.folder)
    before = everything(yard.folder)
    assert the_view(look(yard)).plan.actions
    assert everything(yard.folder) == before


# Where the desired state comes from


def test_without_an_answer_and_without_a_memory_nothing_is_known(yard: Yard) -> None:
    yard.meta.down()
    with pytest.raises(NoDesiredState, match=r"no answer from .*\(and no answer was accepted before"):
        look(yard)


@pytest.mark.parametrize("ask", [DesiredFrom.LAST_ACCEPTED, DesiredFrom.OFFLINE, DesiredFrom.READ_ONLY])
def test_without_a_memory_there_is_nothing_to_go_by(yard: Yard, ask: DesiredFrom) -> None:
    with pytest.raises(NoDesiredState, match="accepted yet: a daemon asks within `interval`"):
        look(yard, ask)
    assert yard.meta.requests == []


def test_without_an_answer_a_change_waits_and_a_crash_is_healed(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0"))
    with yard.runtime() as runtime:
        found = look(yard)
        assert found.fresh is not None
        runtime.store.accept(found.fresh, 1.0)
    agent.crash(yard.home())
    yard.meta.down()
    found = look(yard)
    view = the_view(found)
    assert isinstance(view.verdict, Held)
    assert view.verdict.reason == "ServerUnreachable"
    assert [action.type for action in view.due.actions] == ["start"]
    assert found.answered is Freshness.LAST_ACCEPTED
    assert isinstance(found.failed, ServerUnreachable)
    assert found.came_from.endswith("/api/heartbeat (kept)")
    assert found.desired_at == 1.0
    assert found.server.status == "False"


def test_an_invalid_answer_is_none(yard: Yard) -> None:
    installed(yard)
    yard.meta.answer_raw(200, json.dumps({"errorMessage": "busy", "desiredAgents": []}))
    found = look(yard)
    assert isinstance(found.failed, ResponseInvalid)
    assert found.server.reason == "ResponseInvalid"
    assert the_view(found).plan.reason == "AsDesired"


@pytest.mark.parametrize(
    ("ask", "answered", "asked", "server"),
    [
        (DesiredFrom.LAST_ACCEPTED, Freshness.LAST_ACCEPTED, False, "Unknown"),
        (DesiredFrom.OFFLINE, Freshness.OPERATOR, False, "Unknown"),
        (DesiredFrom.READ_ONLY, Freshness.OPERATOR, False, "Unknown"),
        (DesiredFrom.EXCHANGE, Freshness.LIVE, True, "True"),
        (DesiredFrom.LIVE, Freshness.LIVE, False, "Unknown"),
    ],
)
def test_who_is_asked(yard: Yard, ask: DesiredFrom, answered: Freshness, asked: bool, server: str) -> None:
    installed(yard)
    beats = len(yard.meta.heartbeats)
    found = look(yard, ask)
    assert found.answered is answered
    assert (len(yard.meta.heartbeats) > beats) is asked
    assert found.server.status == server
    assert (found.fresh is not None) is asked


def test_what_takes_no_report_needs_no_look_at_what_is_not_desired(yard: Yard) -> None:
    installed(yard)
    file = yard.folder / "desired.json"
    file.write_text(json.dumps({"errorMessage": "", "desiredAgents": [yard.meta.agent("other", "1.0.0")]}))
    state = read_state(yard.db)
    for source, whole, are_seen in (
        (DesiredFile(file), False, {"other"}),
        (DesiredFile(file), True, {"other", NAME}),
        (yard.around().source, False, {NAME}),
    ):
        found = assess(yard.around(source=source), state, DesiredFrom.EXCHANGE, whole=whole)
        assert {seen.name for seen in found.seen.agents} == are_seen


def test_a_look_makes_no_request_at_all(yard: Yard) -> None:
    url = yard.meta.publish_config("/conf/cfg.json", b"{}")
    installed(yard, configFileName="cfg.json", configRemoteUrl=url, md5="")
    before = len(yard.meta.requests)
    view = the_view(look(yard, DesiredFrom.READ_ONLY))
    assert len(yard.meta.requests) == before
    assert condition(view, "ConfigInSync").status == "True"


def test_an_operators_file_is_acted_upon_as_an_answer_is(yard: Yard) -> None:
    yard.publish("1.0.0")
    file = yard.folder / "desired.json"
    file.write_text(json.dumps({"errorMessage": "", "desiredAgents": [yard.meta.agent(NAME, "1.0.0")]}))
    found = look(yard, source=DesiredFile(file), operator="ann")
    assert found.answered is Freshness.OPERATOR
    assert (found.server.status, found.server.message) == ("Unknown", "not asked")
    assert the_view(found).due.actions


# Who is managed


def test_an_empty_answer_manages_nothing_and_the_agents_are_still_seen(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    yard.meta.desire()
    found = look(yard)
    assert (found.agents, found.nothing_desired) == ((), True)
    assert [seen.name for seen in found.bystanders] == [NAME]


def test_after_an_empty_answer_a_failed_exchange_changes_nothing(yard: Yard) -> None:
    installed(yard)
    yard.meta.desire()
    yard.run()
    yard.meta.down()
    found = look(yard)
    assert (found.agents, found.nothing_desired) == ((), True)
    assert [seen.name for seen in found.bystanders] == [NAME]


def test_an_agent_that_vanished_is_not_even_looked_at(yard: Yard) -> None:
    installed(yard)
    yard.publish("1.0.0", name="other")
    yard.meta.desire(yard.meta.agent("other", "1.0.0"))
    yard.run()
    found = look(yard)
    assert [view.desired.name for view in found.agents] == ["other"]
    assert [seen.name for seen in found.seen.agents] == ["other"]


def test_refused_entries_are_values_and_the_others_are_served(yard: Yard) -> None:
    yard.publish("1.0.0")
    yard.meta.desire(
        yard.meta.agent("../evil", "1.0.0"),
        yard.meta.agent(NAME, "1.0.0"),
        yard.meta.agent("theirs", "1.0.0", runUser="no-such-user"),
    )
    found = look(yard)
    assert [view.desired.name for view in found.agents] == [NAME]
    assert [(refusal.rule, refusal.reason) for refusal in found.refused] == [
        ("name", "InvalidSpec"),
        ("run_user", "UserMissing"),
    ]
    only = only_those(found, lambda name: name == "theirs")
    assert only.agents == ()
    assert [refusal.name for refusal in only.refused] == ["theirs"]


def test_the_kept_state_goes_through_todays_policy(yard: Yard) -> None:
    installed(yard)
    state = read_state(yard.db)
    assert [a.name for a in accepted(yard.around().policy, state).agents] == [NAME]
    strict = evolve(yard.around().policy, own_user="somebody-else")
    assert accepted(strict, state).agents == ()
    assert accepted(strict, StoredState()).agents == ()


# An agent that is wanted elsewhere


def test_an_agent_that_is_wanted_elsewhere_is_looked_at_where_it_lives(yard: Yard) -> None:
    installed(yard)
    elsewhere = yard.folder / "elsewhere"
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", workDir=str(elsewhere)))
    view = the_view(look(yard))
    assert plan_line(view) == "WorkDirChanged: fetch verify unpack stop switch start"
    assert view.observed.home.work_dir == str(yard.work)
    assert not elsewhere.exists()
    installed_now = next(c for c in conditions_of(view) if c.type == "Installed")
    assert (installed_now.status, installed_now.reason) == ("False", "WorkDirChanged")
    assert str(elsewhere) in installed_now.message


def test_a_home_that_is_to_change_its_user_is_looked_at_as_the_old_one_alone(yard: Yard) -> None:
    """In doubt, too: what is in use of a user that is gone is unknown."""
    installed(yard)
    pid = agent.ask(yard.home()).pid
    record = evolve(yard.record(), run_user="nobody-there")
    with closing(Store(yard.db)) as store:
        store.save([record])
    found = look(yard)
    view = the_view(found)
    assert (view.observed.home.run_user, view.plan.reason, view.due.actions) == ("nobody-there", "UserMissing", ())
    assert [seen.home for seen in found.seen.agents] == [record.home]
    assert agent.ask(yard.home()).pid == pid
    again = observe_now(view.desired, record, yard.around())
    assert (again.observed.home, again.elsewhere) == (record.home, ())
    assert again.seen_in(view.desired.home).blocked_reason == "RunUserChanged"
    assert observe_now(view.desired, None, yard.around()).observed.home == view.desired.home


def test_an_agent_whose_old_place_is_empty_is_installed_at_the_new_one(yard: Yard) -> None:
    installed(yard)
    agent.end_all(yard.folder)
    (yard.home() / ".version").unlink()
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", workDir=str(yard.folder / "elsewhere")))
    assert plan_line(the_view(look(yard))) == "FirstInstall: fetch verify unpack switch start"


# Remote files


def test_a_digest_file_is_asked_for_only_where_a_version_must_change(yard: Yard) -> None:
    installed(yard, md5="")

    def asked() -> int:
        return sum(request.path.endswith(".md5") for request in yard.meta.requests)

    before = asked()
    assert the_view(look(yard)).plan.reason == "AsDesired"
    assert asked() == before
    yard.publish("2.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0", md5=""))
    view = the_view(look(yard))
    assert asked() == before + 1
    assert {str(digest) for digest in view.remote.digests} == {f"md5:{yard.meta.release(NAME, '2.0.0').md5}"}


def test_a_digest_file_that_is_missing_holds_the_change(yard: Yard) -> None:
    installed(yard)
    yard.meta.publish(NAME, "2.0.0", b"x", digest_file=False)
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0", md5=""))
    view = the_view(look(yard))
    assert isinstance(view.verdict, Held)
    assert view.verdict.reason == "FetchFailed"
    assert "digest file" in view.verdict.message


def with_config(yard: Yard, content: bytes) -> dict[str, str]:
    url = yard.meta.publish_config("/conf/cfg.json", content)
    return {"configFileName": "cfg.json", "configRemoteUrl": url}


def test_a_config_is_asked_for_conditionally(yard: Yard) -> None:
    installed(yard, **with_config(yard, b"{}"))
    view = the_view(look(yard))
    assert yard.meta.requests[-1].status == 304
    assert view.content is None
    assert condition(view, "ConfigInSync").status == "True"
    with_config(yard, b'{"a": 1}')
    view = the_view(look(yard))
    assert view.content is None, "who only looks keeps no bytes"
    assert condition(view, "ConfigInSync").reason == "ConfigDiffers"
    assert view.plan.reason == "ConfigDiffers"


def test_where_another_file_is_named_its_digest_counts_and_not_the_old_ones(yard: Yard) -> None:
    installed(yard, **with_config(yard, b"{}"))
    (yard.home() / "1.0.0" / "other.json").write_bytes(b"others")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **{**with_config(yard, b"{}"), "configFileName": "other.json"}))
    view = the_view(look(yard))
    assert view.observed.active is not None
    assert view.observed.active.tree.config == f"sha256:{hashlib.sha256(b'others').hexdigest()}"


def test_a_config_that_was_edited_here_is_shown_and_left_alone(yard: Yard) -> None:
    installed(yard, **with_config(yard, b"{}"))
    (yard.home() / "1.0.0" / "cfg.json").write_text('{"mine": 1}')
    view = the_view(look(yard))
    assert view.plan.reason == "AsDesired"
    assert view.plan.actions == ()
    assert condition(view, "ConfigInSync").reason == "ConfigEdited"


def test_a_config_that_can_not_be_had_is_reported(yard: Yard) -> None:
    installed(yard, **with_config(yard, b"{}"))
    yard.meta.fail(404, "/conf/")
    view = the_view(look(yard))
    found = condition(view, "ConfigInSync")
    assert (found.status, found.reason) == ("Unknown", "FetchFailed")
    assert "404" in found.message


def test_a_config_that_is_not_desired_is_no_condition(yard: Yard) -> None:
    installed(yard)
    assert [c.type for c in conditions_of(the_view(look(yard)))] == [
        "Ready",
        "Installed",
        "Running",
        "Held",
        "Quarantined",
    ]


def test_a_config_that_was_not_asked_for_yet(yard: Yard) -> None:
    installed(yard)
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **with_config(yard, b"{}")))
    found = look(yard)
    assert found.fresh is not None
    with yard.runtime() as runtime:
        runtime.store.accept(found.fresh, 1.0)
    view = the_view(look(yard, DesiredFrom.READ_ONLY))
    assert condition(view, "ConfigInSync").message == "not asked"


# The report


def report_of(yard: Yard, **changes: Any) -> HostReport:
    state = read_state(yard.db)
    found = look(yard, DesiredFrom.READ_ONLY)
    return report(evolve(yard.around().facts, **changes), state, found.seen)


def test_the_report_has_what_is_seen(yard: Yard) -> None:
    installed(yard)
    told_now = report_of(yard)
    assert (told_now.hostname, told_now.ip, told_now.run_user) == ("host-1", "192.0.2.7", OWN)
    [one] = told_now.agents
    assert (one.name, one.version, one.status, one.run_user, one.work_dir, one.extra) == (
        NAME,
        "1.0.0",
        "started",
        OWN,
        str(yard.work),
        (),
    )
    agent.crash(yard.home())
    assert report_of(yard).agents[0].status == "stoped"


def test_an_unknown_status_is_reported_in_its_own_words_and_never_as_started(yard: Yard) -> None:
    installed(yard)
    control = yard.home() / "1.0.0" / "control"
    control.write_text("#!/bin/sh\nprintf '\\033[31m%s' '" + "x" * 300 + "'\n")
    [one] = report_of(yard).agents
    assert one.status.startswith("\\x1b[31mxxx")
    assert len(one.status) <= 200
    control.write_text("#!/bin/sh\n")
    assert report_of(yard).agents[0].status == "control status printed nothing"


def test_a_version_whose_directory_is_missing_is_reported_by_its_name(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    (yard.home() / ".version").write_text("9.9.9\n")
    [one] = report_of(yard).agents
    assert (one.version, one.status) == ("9.9.9", "version 9.9.9 is not on disk")


def test_a_running_version_that_is_not_named_is_reported(yard: Yard) -> None:
    installed(yard)
    (yard.home() / ".version").write_text("9.9.9")
    [one] = report_of(yard).agents
    assert "control status of 1.0.0 says started" in one.status


def test_an_agent_without_a_version_file_is_not_reported(yard: Yard) -> None:
    installed(yard)
    (yard.home() / ".version").unlink()
    assert report_of(yard).agents == ()


def test_more_is_reported_only_where_the_config_asks_for_it(yard: Yard) -> None:
    installed(yard)
    [one] = report_of(yard, report_extra=True).agents
    assert one.extra[:2] == (("ready", "True"), ("reason", "Confirming"))
    found = look(yard, DesiredFrom.READ_ONLY)
    facts = evolve(yard.around().facts, report_extra=True)
    assert report(facts, StoredState(), found.seen).agents[0].extra == ()
    bare = evolve(read_state(yard.db).records[0], conditions=())
    assert report(facts, StoredState(records=(bare,)), found.seen).agents[0].extra == ()


# The updater's own conditions


def test_what_was_last_seen_of_the_server_stands_until_it_is_asked_again(yard: Yard) -> None:
    installed(yard)
    yard.meta.down()
    yard.run()
    before, found = read_state(yard.db).conditions, look(yard, DesiredFrom.LAST_ACCEPTED)
    now = own_conditions(before, found.at, server=found.server, stored=stored_condition(""))
    own = {c.type: c for c in now}
    assert own["ServerReachable"].status == "False"
    assert own["ToolsPresent"].status == "True"
    missing = own_conditions((), found.at, server=found.server, stored=stored_condition(""), missing_tools="no sh")
    assert [(c.type, c.status) for c in missing] == [
        ("ServerReachable", "Unknown"),
        ("StateStored", "True"),
        ("ToolsPresent", "False"),
    ]


def test_no_control_script_is_asked_twice(yard: Yard) -> None:
    """An answer that brings a config for a known agent has its file read, and its status not asked again."""
    installed(yard)
    control = yard.home() / "1.0.0" / "control"
    text = control.read_text()
    control.write_text(text.replace("status() {", "status() {\n    echo asked >>../asked"))
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0", **with_config(yard, b"{}")))
    view = the_view(look(yard))
    assert (yard.home() / "asked").read_text() == "asked\n"
    assert view.observed.active is not None
    assert view.observed.active.process is ProcessState.RUNNING
    assert view.plan.reason == "ConfigDiffers"
