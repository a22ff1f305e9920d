"""When remote files are asked: a digest file only while it matters, and of a change that waits only now and then.

And how little a server costs that sends what is wrong for a day. Real passes, real servers, a clock that is put on.
"""

from __future__ import annotations

import pytest

from reconcile.assess.pass_context import DesiredFrom
from reconcile.decide.actions import Held
from reconcile.decide.evaluate import Rules
from reconcile.decide.hold import Hold
from reconcile.decide.timing.windows import Windows
from reconcile.engine.results import PassResult
from reconcile.storage.hold_files import put_hold, put_release
from tests.yard import GIVEN_UP, NAME, Yard, ready, the_agent
from updater.demo import agent


def digest_files(yard: Yard) -> list[int]:
    """The status of each request for a digest file."""
    return [request.status for request in yard.meta.requests if request.path.endswith(".md5")]


def downloads(yard: Yard) -> int:
    """Tarballs that were sent, not merely asked for."""
    return sum(request.status in (200, 206) for request in yard.meta.requests if request.path.endswith(".tar.gz"))


def by_digest_file(yard: Yard, version: str) -> None:
    """Want a version whose digest only a digest file names, as with older servers."""
    yard.meta.desire(yard.meta.agent(NAME, version, md5=""))


def installed(yard: Yard) -> None:
    yard.publish("1.0.0")
    by_digest_file(yard, "1.0.0")
    yard.run()
    assert ready(yard.settle()) == ("True", "AsDesired")


def held(result: PassResult) -> str:
    verdict = the_agent(result).after.verdict
    return verdict.reason if isinstance(verdict, Held) else ""


def passes(yard: Yard, times: int) -> list[int]:
    """So many passes; the digest files that were asked meanwhile."""
    before = len(digest_files(yard))
    for _ in range(times):
        yard.run()
    return digest_files(yard)[before:]


def test_it_is_never_asked_for_a_converged_agent(yard: Yard) -> None:
    installed(yard)
    assert passes(yard, 3) == []


def test_while_quarantined_it_is_asked_at_each_tenth_pass(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    by_digest_file(yard, "2.0.0")
    assert ready(yard.run(control=GIVEN_UP)) == ("False", "RolledBack")
    assert passes(yard, 9) == []
    assert passes(yard, 1) == [304], "and it is asked whether it changed"
    assert passes(yard, 9) == []
    # What a plan would ask is asked, and no pass is counted for it.
    for _ in range(3):
        yard.run(ask=DesiredFrom.LAST_ACCEPTED)
    yard.publish("2.0.0", extra={"mended": b""})
    assert yard.version() == "1.0.0"
    result = yard.run()
    assert digest_files(yard)[-1] == 200
    assert ready(result) == ("True", "Confirming")
    assert agent.ask(yard.home()).version == "2.0.0"


def test_while_held_or_outside_its_window_it_is_asked_at_each_tenth_pass(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    by_digest_file(yard, "2.0.0")
    waiting = yard.around(rules=Rules(windows=Windows(windows=())))
    assert held(yard.run(host=waiting)) == "OutsideWindow"
    before = len(digest_files(yard))
    for _ in range(9):
        yard.run(host=waiting)
    assert len(digest_files(yard)) == before
    put_hold(yard.holds, NAME, Hold(owner="ann", reason="debugging"))
    assert len(passes(yard, 5)) == 1
    assert len(passes(yard, 4)) == 0


def test_a_release_asks_it_at_once(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    by_digest_file(yard, "2.0.0")
    yard.run(control=GIVEN_UP)
    yard.publish("2.0.0", extra={"mended": b""})
    assert held(yard.run()) == "Quarantined"
    put_release(yard.holds, NAME)
    assert ready(yard.run()) == ("True", "Confirming")


def test_when_a_delay_ends_it_is_asked(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    yard.meta.corrupt(NAME, "2.0.0")
    by_digest_file(yard, "2.0.0")
    assert ready(yard.run()) == ("False", "DigestMismatch")
    assert passes(yard, 3) == []
    yard.later += 61
    assert passes(yard, 1) == [304]
    yard.meta.heal()
    yard.publish("2.0.0", extra={"mended": b""})
    yard.later += 301
    assert ready(yard.run()) == ("True", "Confirming")


def test_another_version_is_asked_for_at_once(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    by_digest_file(yard, "2.0.0")
    yard.run(control=GIVEN_UP)
    yard.publish("2.0.1")
    by_digest_file(yard, "2.0.1")
    assert ready(yard.run()) == ("True", "Confirming")


@pytest.mark.slow
@pytest.mark.parametrize("named", ["by the response", "by a digest file"])
def test_a_tarball_that_is_wrong_for_a_day_costs_a_handful_of_downloads(yard: Yard, named: str) -> None:
    """A pass every quarter of an hour; it is asked for as often as ever, and sent a handful of times."""
    installed(yard)
    yard.publish("2.0.0", size=100_000)
    yard.meta.corrupt(NAME, "2.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "2.0.0", **({} if named == "by the response" else {"md5": ""})))
    before, asked = downloads(yard), yard.tarball_requests()
    for minutes in (0, 2, 15, *[15] * 94):
        yard.later += minutes * 60
        yard.run()
    assert downloads(yard) - before == 5
    assert 20 <= yard.tarball_requests() - asked <= 30
    [failure] = yard.record().failures
    assert failure.count == yard.tarball_requests() - asked
    assert "not downloaded again" in failure.message
    assert agent.ask(yard.home()).version == "1.0.0"

    yard.meta.heal()
    put_release(yard.holds, NAME)
    assert ready(yard.run()) == ("True", "Confirming"), "a release tries it in earnest"
