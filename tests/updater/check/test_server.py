"""`check` of the server: reached or not, in the contract's form or not, refused entries, and the clocks."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.certificates import make
from tests.loopback import Loopback, answers
from tests.updater.check.findings import found
from tests.updater.conftest import Folder
from updater.check.certificate import validity
from updater.check.subject import CheckFinding, CheckState
from updater.settings.composition import lock_id

NOTHING = b'{"errorMessage": "", "desiredAgents": []}'


def only(folder: Folder, about: str) -> CheckFinding:
    [one] = found(folder, about)
    return one


def test_a_server_that_answers_is_good_and_gets_a_true_report(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    before = len(folder.meta.heartbeats)
    one = only(folder, "server")
    assert one.state is CheckState.GOOD
    assert f"{folder.meta.url}/api/heartbeat answers in 0." in one.message
    assert one.message.endswith("as the contract says: 1 agent")
    [beat] = folder.meta.heartbeats[before:]
    [agent] = beat["realAgents"]
    assert (agent["name"], agent["version"], agent["status"]) == ("falcon-agent", "1.0.0", "started")
    assert only(folder, "clock").state is CheckState.GOOD


def test_offline_asks_no_server(folder: Folder) -> None:
    [server] = found(folder, "server", offline=True)
    assert server.message == "not asked (--offline)"
    assert folder.meta.requests == []
    assert folder.run("check", "--offline").out.count("not compared: no server was asked") == 1


def test_the_fleets_lock_is_shown_with_this_hosts_id_and_not_asked(folder: Folder) -> None:
    assert found(folder, "fleet_lock") == []
    with Loopback(answers()) as lock:
        folder.configure(hostname="web-7", fleet_lock={"url": lock.origin, "group": {"a": "db", "*": "web"}})
        one = only(folder, "fleet_lock")
        assert lock.requests == []
    assert one.state is CheckState.GOOD
    assert one.message == f"{lock.origin}, groups db, web; this host is {lock_id(folder.config, 'web-7')} there"
    folder.configure(hostname="localhost.localdomain", fleet_lock={"url": "http://127.0.0.1:9"})
    note = only(folder, "fleet_lock")
    assert (note.state, note.remedy) == (CheckState.NOTE, "name the host, or set `hostname` in the config")


@pytest.mark.parametrize("etag", ["", 'ETag: "1"'])
def test_a_poll_is_shown_and_a_server_without_etags_is_noted(folder: Folder, etag: str) -> None:
    assert found(folder, "desired_poll") == []
    with Loopback(answers(b'{"desiredAgents": []}', *filter(None, [etag]))) as server:
        folder.configure(server=None, desired=f"{server.origin}/d.json?key=canary", desired_poll=10)
        one = only(folder, "desired_poll")
    assert one.message.startswith(f"{server.origin}/d.json: the daemon asks each 10s whether it changed")
    assert (one.state, "sends no ETag" in one.message) == (
        (CheckState.GOOD, False) if etag else (CheckState.NOTE, True)
    )


def test_the_target_of_reports_is_shown_and_a_check_sends_none(folder: Folder) -> None:
    assert found(folder, "report_to") == []
    with Loopback(answers(status=500)) as inbox:
        folder.configure(report_to=f"{inbox.origin}/in?token=canary")
        assert only(folder, "report_to").state is CheckState.GOOD
        assert inbox.requests == []
        folder.run("apply", "--once")
        note = only(folder, "report_to")
    assert note.state is CheckState.NOTE
    words = (
        f"the last report was not delivered: {inbox.origin}/in: HTTP 500; is `report_to` right, its server running, "
    )
    assert note.message.startswith(words)


def test_a_server_that_is_down_is_bad(folder: Folder) -> None:
    folder.meta.down()
    one = only(folder, "server")
    assert one.state is CheckState.BAD
    assert "Connection refused" in one.message
    assert one.remedy == "is `server` in the config right, and ops-meta up?"
    assert only(folder, "clock").message == "not compared: the server answered nothing"
    assert "no desired state is known" in only(folder, "users").message
    assert folder.run("check").code == 3


def test_a_server_that_is_down_hides_not_what_is_known(folder: Folder) -> None:
    folder.want()
    assert folder.run("apply", "--once").code == 0
    folder.meta.down()
    assert only(folder, "server").state is CheckState.BAD
    assert only(folder, "users").state is CheckState.GOOD


@pytest.mark.parametrize("body", [b'{"success": false, "message": "no"}', b"<html>a page</html>", b'{"a": 1}'])
def test_another_form_than_the_contract_s_is_bad(folder: Folder, body: bytes) -> None:
    with Loopback(answers(body)) as other:
        folder.configure(server=other.origin)
        one = only(folder, "server")
    assert one.state is CheckState.BAD
    assert "docs/contract.md" in one.remedy


@pytest.mark.parametrize(
    ("from_days", "to_days", "is_pinned", "state", "words"),
    [
        (-1, 365, True, CheckState.GOOD, ", pinned, valid from 20"),
        (-9, -1, True, CheckState.NOTE, ": expired; it is taken, since it is pinned"),
        (1, 9, True, CheckState.NOTE, ": not valid yet; it is taken, since it is pinned"),
        (-9, 5, True, CheckState.NOTE, ": it ends soon"),
        (-1, 365 * 40, False, CheckState.GOOD, ", none of tls.pin_sha256, valid from 20"),
    ],
)
def test_the_certificate_that_is_served_is_shown(
    folder: Folder, tmp_path: Path, from_days: int, to_days: int, is_pinned: bool, state: CheckState, words: str
) -> None:
    served = make("elsewhere.test", from_days=from_days, to_days=to_days)
    with Loopback(answers(NOTHING), tls=served.serves(tmp_path)) as other:
        pin = served.digest if is_pinned else "0" * 64
        folder.configure(server=other.origin, tls={"pin_sha256": [pin]})
        assert only(folder, "server").state is (CheckState.NOTE if is_pinned else CheckState.BAD)
        one = only(folder, "certificate")
    assert (one.state, words in one.message) == (state, True), one.message
    assert f"sha256 {served.digest}" in one.message
    assert f"until {datetime.now(timezone.utc) + timedelta(days=to_days):%Y-%m}" in one.message


def test_a_certificate_that_is_not_trusted_is_shown_so_that_it_can_be_pinned(folder: Folder, tmp_path: Path) -> None:
    served = make()
    with Loopback(answers(NOTHING), tls=served.serves(tmp_path)) as other:
        folder.configure(server=other.origin)
        server = only(folder, "server")
        assert (server.state, "is of an unknown issuer" in server.message) == (CheckState.BAD, True)
        assert "tls.pin_sha256 (`updater check` shows its digest)" in server.remedy
        assert served.digest in only(folder, "certificate").message
        assert found(folder, "certificate", offline=True) == []


def test_over_http_there_is_no_certificate(folder: Folder) -> None:
    assert found(folder, "certificate") == []


def test_what_is_no_certificate_has_no_validity() -> None:
    for der in (b"", b"x", b"\x30\x80", b"\x30\x03\x30\x01\x00", make().der[:40], bytes(1000)):
        with pytest.raises(ValueError, match="no certificate"):
            validity(der)


def test_a_server_that_desires_nothing_is_noted(folder: Folder) -> None:
    one = only(folder, "server")
    assert (one.state, "desires nothing of this host" in one.message) == (CheckState.NOTE, True)


def test_what_is_refused_is_bad(folder: Folder) -> None:
    folder.want()
    assert only(folder, "desired").state is CheckState.GOOD
    folder.configure(allow_work_dirs=["/srv/elsewhere"])
    one = only(folder, "desired")
    assert one.state is CheckState.BAD
    assert one.message.startswith("falcon-agent is refused by the rule allow_work_dirs: ")
    assert one.remedy


def test_what_is_not_for_this_host_is_noted(folder: Folder) -> None:
    folder.want()
    folder.configure(allow_agents=["another"])
    one = only(folder, "desired")
    assert one.state is CheckState.NOTE
    assert one.message.startswith("falcon-agent is not for this host, by the rule allow_agents: ")


@pytest.mark.parametrize(
    ("apart", "state", "words"),
    [
        (0, CheckState.GOOD, "agrees with the server's"),
        (100, CheckState.NOTE, " behind the server"),
        (-100, CheckState.NOTE, " ahead of the server"),
        (3600, CheckState.BAD, " behind the server"),
        (-3600, CheckState.BAD, " ahead of the server"),
    ],
)
def test_clocks_that_differ(folder: Folder, apart: int, state: CheckState, words: str) -> None:
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
    assert (one.state, words in one.message) == (CheckState.NOTE, True), one
