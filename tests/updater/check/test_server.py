"""`check` of the server: reached or not, in the contract's form or not, refused entries, and the clocks."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from tests.loopback import Loopback, answers
from tests.updater.check.findings import found
from tests.updater.conftest import Folder
from updater.check.finding import Finding, State

NOTHING = b'{"errorMessage": "", "desiredAgents": []}'


def only(folder: Folder, about: str) -> Finding:
    [one] = found(folder, about)
    return one


def test_a_server_that_answers_is_good_and_gets_a_true_report(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    before = len(folder.meta.heartbeats)
    one = only(folder, "server")
    assert one.state is State.GOOD
    assert f"{folder.meta.url}/api/heartbeat answers in 0." in one.message
    assert one.message.endswith("as the contract says: 1 agent")
    [beat] = folder.meta.heartbeats[before:]
    [agent] = beat["realAgents"]
    assert (agent["name"], agent["version"], agent["status"]) == ("falcon-agent", "1.0.0", "started")
    assert only(folder, "clock").state is State.GOOD


def test_offline_asks_nobody(folder: Folder) -> None:
    [server] = found(folder, "server", offline=True)
    assert server.message == "not asked (--offline)"
    assert folder.meta.requests == []
    assert folder.run("check", "--offline").out.count("not compared: no server was asked") == 1


def test_a_server_that_is_down_is_bad(folder: Folder) -> None:
    folder.meta.down()
    one = only(folder, "server")
    assert one.state is State.BAD
    assert "Connection refused" in one.message
    assert one.remedy == "is `server` in the config right, and ops-meta up?"
    assert only(folder, "clock").message == "not compared: the server answered nothing"
    assert "no desired state is known" in only(folder, "users").message
    assert folder.run("check").code == 3


def test_a_server_that_is_down_hides_not_what_is_known(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    folder.meta.down()
    assert only(folder, "server").state is State.BAD
    assert only(folder, "users").state is State.GOOD


@pytest.mark.parametrize("body", [b'{"success": false, "message": "no"}', b"<html>a page</html>", b'{"a": 1}'])
def test_another_form_than_the_contract_s_is_bad(folder: Folder, body: bytes) -> None:
    with Loopback(answers(body)) as other:
        folder.configure(server=other.origin)
        one = only(folder, "server")
    assert one.state is State.BAD
    assert "docs/contract.md" in one.remedy


def test_a_server_that_desires_nothing_is_noted(folder: Folder) -> None:
    one = only(folder, "server")
    assert (one.state, "desires nothing of this host" in one.message) == (State.NOTE, True)


def test_what_is_refused_is_bad(folder: Folder) -> None:
    folder.want()
    assert only(folder, "desired").state is State.GOOD
    folder.configure(allow_work_dirs=["/srv/elsewhere"])
    one = only(folder, "desired")
    assert one.state is State.BAD
    assert one.message.startswith("falcon-agent is refused by the rule allow_work_dirs: ")
    assert one.remedy


def test_what_is_not_for_this_host_is_noted(folder: Folder) -> None:
    folder.want()
    folder.configure(allow_agents=["another"])
    one = only(folder, "desired")
    assert one.state is State.NOTE
    assert one.message.startswith("falcon-agent is not for this host, by the rule allow_agents: ")


@pytest.mark.parametrize(
    ("apart", "state", "words"),
    [
        (0, State.GOOD, "agrees with the server's"),
        (100, State.NOTE, " behind the server"),
        (-100, State.NOTE, " ahead of the server"),
        (3600, State.BAD, " behind the server"),
        (-3600, State.BAD, " ahead of the server"),
    ],
)
def test_clocks_that_differ(folder: Folder, apart: int, state: State, words: str) -> None:
    with Loopback(answers(NOTHING, f"Date: {formatdate(time.time() + apart, usegmt=True)}")) as other:
        folder.configure(server=other.origin)
        one = only(folder, "clock")
    assert (one.state, words in one.message) == (state, True), one


@pytest.mark.parametrize(
    ("headers", "words"), [((), "sent no Date"), (("Date: soon",), "sent a Date that is none: 'soon'")]
)
def test_a_server_without_a_clock_is_noted(folder: Folder, headers: tuple[str, ...], words: str) -> None:
    with Loopback(answers(NOTHING, *headers)) as other:
        folder.configure(server=other.origin)
        one = only(folder, "clock")
    assert (one.state, words in one.message) == (State.NOTE, True), one
