"""The planner's picture is proved: after each REAL action the agent is observed, and is as `world_after` says.

Real plans of real passes, carried out on real homes; what the model of success says and what the probes see must be
equal in every field. Each story ends with a pass that finds nothing to do.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from probes.home import StatusLimits
from probes.observe import observe_agent
from probes.observed import MARKER, ObservedAgent
from reconcile.decide.actions import Outcome, Result
from reconcile.decide.evaluate import AgentEvaluation
from reconcile.decide.planner import world_after
from tests.yard import GIVEN_UP, NAME, Yard, ready, the_agent, types
from updater.demo import agent

pytestmark = pytest.mark.slow

WATCH = 31.0
BRING = "fetch=done verify=done unpack=done"


class Proof:
    """Follows one agent through its plan, action by action: what was foreseen, what was seen."""

    def __init__(self) -> None:
        self.foreseen: list[ObservedAgent] = []
        self.seen: list[ObservedAgent] = []
        self._view: AgentEvaluation | None = None

    def ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        if outcome.result in (Result.DONE, Result.UNCHANGED):
            before = self.foreseen[-1] if self.foreseen else view.observed
            if view is not self._view:  # the second round begins with what was observed again
                self._view, before = view, view.observed
            self.foreseen.append(world_after(before, outcome.action))
            self.seen.append(observe_agent(view.desired.home, StatusLimits()))


def proved(yard: Yard) -> str:
    """Make a pass, hold every action in it against the model, and say what was done and why."""
    proof = Proof()
    result = the_agent(yard.run(ended=proof.ended))
    assert proof.seen == proof.foreseen
    assert len(proof.seen) == len(result.outcomes)
    return f"{result.view.plan.reason}: {types(result.outcomes)}"


def settled(yard: Yard) -> None:
    """The watch passes: what was displaced goes. Then nothing is left to do, and the agent is as desired."""
    yard.later += WATCH
    assert proved(yard) in ("AsDesired: ", "AsDesired: prune=done")
    result = yard.run()
    assert the_agent(result).outcomes == ()
    assert ready(result) == ("True", "AsDesired")


def wish(yard: Yard, version: str, **keys: Any) -> None:
    yard.meta.desire(yard.meta.agent(NAME, version, **keys))


def with_config(yard: Yard, content: bytes) -> dict[str, str]:
    url = yard.meta.publish_config("/conf/cfg.json", content)
    return {"configFileName": "cfg.json", "configRemoteUrl": url}


def installed(yard: Yard, version: str = "1.0.0", *, keys: dict[str, str] | None = None, **habits: Any) -> None:
    yard.publish(version, **habits)
    wish(yard, version, **(keys or {}))
    proved(yard)
    settled(yard)


def test_a_first_install(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0")
    assert proved(yard) == f"FirstInstall: {BRING} switch=done start=done"
    settled(yard)


def test_a_first_install_with_a_config(yard: Yard) -> None:
    yard.publish("1.0.0")
    wish(yard, "1.0.0", **with_config(yard, b'{"greeting": "hello"}'))
    assert proved(yard) == f"FirstInstall: {BRING} configure=done switch=done start=done"
    assert agent.ask(yard.home()).greeting == "hello"
    settled(yard)


def test_an_upgrade_a_downgrade_and_an_upgrade_to_what_is_there(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    assert proved(yard) == f"VersionDiffers: {BRING} stop=done switch=done start=done"
    settled(yard)
    wish(yard, "1.0.0")
    assert proved(yard) == "VersionDiffers: stop=done switch=done start=done"
    settled(yard)
    wish(yard, "2.0.0", **with_config(yard, b'{"greeting": "two"}'))
    assert proved(yard) == "VersionDiffers: configure=done stop=done switch=done start=done"
    assert agent.ask(yard.home()).greeting == "two"
    settled(yard)


def test_an_upgrade_of_what_does_not_run(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    assert proved(yard) == f"VersionDiffers: start=done {BRING} stop=done switch=done start=done"
    settled(yard)
    agent.crash(yard.home())
    wish(yard, "1.0.0")  # which is there: nothing has to be waited for
    assert proved(yard) == "VersionDiffers: switch=done start=done"
    settled(yard)


def test_a_replacement_by_exchange(yard: Yard) -> None:
    installed(yard)
    (yard.home() / ".previous-1.0.0").mkdir()  # remains, that must not cost us the way back
    yard.publish("1.0.0", extra={"new.txt": b"new"})
    wish(yard, "1.0.0")
    assert proved(yard) == f"DigestDiffers: {BRING} stop=done switch=done start=done"
    assert (yard.home() / "1.0.0" / "new.txt").exists()
    assert (yard.home() / ".previous-1.0.0" / "control").exists()  # the way back, until the new one is good
    settled(yard)
    assert sorted(os.listdir(yard.home())) == [".start.log", ".version", "1.0.0"]


def test_a_replacement_with_a_config(yard: Yard) -> None:
    keys = with_config(yard, b'{"greeting": "hello"}')
    installed(yard, keys=keys)
    yard.publish("1.0.0", extra={"new.txt": b"new"})
    wish(yard, "1.0.0", **keys)
    assert proved(yard) == f"DigestDiffers: {BRING} configure=done stop=done switch=done start=done"
    settled(yard)


def test_a_config_that_changes_in_use(yard: Yard) -> None:
    installed(yard, keys=with_config(yard, b'{"greeting": "old"}'))
    with_config(yard, b'{"greeting": "new"}')
    assert proved(yard) == "ConfigDiffers: configure=done stop=done switch=done start=done"
    assert agent.ask(yard.home()).greeting == "new"
    settled(yard)


def replacement_broken_off(yard: Yard) -> None:
    """What a crash leaves between the two renames of a host without renameat2: no directory of that name."""
    installed(yard)
    yard.publish("1.0.0", extra={"new.txt": b"new"})
    wish(yard, "1.0.0")
    agent.crash(yard.home())
    digest = yard.meta.release(NAME, "1.0.0").md5
    yard.put("1.0.0", directory=".next-1.0.0", in_use=False, extra={"new.txt": b"new"})
    marker = yard.home() / ".next-1.0.0" / MARKER
    marker.write_text(marker.read_text().replace('"digests": []', f'"digests": ["md5:{digest}"]'))
    (yard.home() / "1.0.0").rename(yard.home() / ".previous-1.0.0")


def test_an_exchange_that_was_left_half_way(yard: Yard) -> None:
    replacement_broken_off(yard)
    assert proved(yard) == "VersionDiffers: switch=done start=done"
    assert (yard.home() / "1.0.0" / "new.txt").exists()
    settled(yard)


def test_an_exchange_that_was_left_half_way_is_finished_without_a_server(yard: Yard) -> None:
    """`.version` names nothing and the agent is down: this is a heal, and waits for no answer."""
    replacement_broken_off(yard)
    yard.meta.down()
    result = the_agent(yard.run())
    assert types(result.outcomes) == "switch=done start=done"
    assert agent.ask(yard.home()).version == "1.0.0"
    yard.meta.up()
    yard.run()
    settled(yard)


def test_leftovers_are_pruned(yard: Yard) -> None:
    installed(yard)
    for name in (".stage-1", ".next-0.9.0", ".previous-0.9.0"):
        (yard.home() / name).mkdir()
    (yard.home() / ".stage-config").touch()
    yard.put("3.0.0", directory=".next-3.0.0", in_use=False)
    yard.put("3.0.0", directory=".previous-3.0.0", in_use=False)
    assert proved(yard) == "AsDesired: prune=done"
    settled(yard)
    assert sorted(os.listdir(yard.home())) == [".start.log", ".version", "1.0.0"]


@pytest.mark.parametrize("newline", ["", "\n"])
def test_a_foreign_version_is_adopted_on_the_way(yard: Yard, newline: str) -> None:
    installed(yard)
    (yard.home() / "1.0.0" / MARKER).unlink()
    (yard.home() / ".version").write_text(f"1.0.0{newline}")
    settled(yard)
    yard.publish("2.0.0")
    wish(yard, "2.0.0")
    assert proved(yard) == f"VersionDiffers: {BRING} stop=done switch=done start=done"
    wish(yard, "1.0.0", md5="")
    yard.meta.vanish(NAME, "1.0.0")  # it is gone back to without a download
    result = the_agent(yard.run())
    assert [outcome.action.type for outcome in result.outcomes][:1] != ["fetch"]


def test_a_foreign_version_that_does_not_run_is_not_adopted(yard: Yard) -> None:
    """It was never seen working: it is unpacked again when it is wanted again."""
    installed(yard, "2.0.0")
    installed(yard)
    agent.crash(yard.home())
    (yard.home() / "1.0.0" / MARKER).unlink()
    wish(yard, "2.0.0")
    assert proved(yard) == "VersionDiffers: switch=done start=done"
    wish(yard, "1.0.0")
    assert proved(yard) == "VersionDiffers: fetch=unchanged verify=done unpack=done stop=done switch=done start=done"
    settled(yard)


# The way back: the new content does not start


def test_back_to_the_former_version(yard: Yard) -> None:
    installed(yard)
    yard.publish("2.0.0", broken_start=True)
    wish(yard, "2.0.0")
    assert went_back(yard) == f"{BRING} stop=done switch=done start=failed switch=done start=done"
    assert yard.tarball_requests() == 2
    assert agent.ask(yard.home()).version == "1.0.0"


def test_back_to_the_tree_that_was_displaced(yard: Yard) -> None:
    installed(yard)
    yard.publish("1.0.0", broken_start=True, extra={"new.txt": b"new"})
    wish(yard, "1.0.0")
    assert went_back(yard) == f"{BRING} stop=done switch=done start=failed switch=done start=done"
    assert not (yard.home() / "1.0.0" / "new.txt").exists()
    assert agent.ask(yard.home()).version == "1.0.0"


def test_back_to_the_config_that_was_displaced(yard: Yard) -> None:
    keys = with_config(yard, b'{"greeting": "old"}')
    installed(yard, keys=keys, control=STARTS_IF_CONFIG_IS_GOOD)
    with_config(yard, b"broken")
    path = yard.home() / "1.0.0" / "cfg.json"
    assert went_back(yard) == (
        "configure=done stop=done switch=done start=failed configure=done switch=done start=done"
    )
    assert path.read_text() == '{"greeting": "old"}'


STARTS_IF_CONFIG_IS_GOOD = """#!/bin/sh
cd "$(dirname "$0")" || exit 1
case $1 in
start) grep -q greeting cfg.json && touch up ;;
stop) rm -f up ;;
status) [ -e up ] && echo started || echo stoped ;;
esac
"""


def went_back(yard: Yard) -> str:
    """Make a pass in which the new content does not start, and hold what went well in it against the model."""
    proof = Proof()
    result = yard.run(ended=proof.ended, control=GIVEN_UP)
    assert proof.seen == proof.foreseen
    assert ready(result) == ("False", "RolledBack")
    return types(the_agent(result).outcomes)


# What crashed, what must not run


def test_a_crash_is_healed(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    assert proved(yard) == "NotRunning: start=done"
    settled(yard)


def test_a_stop(yard: Yard) -> None:
    installed(yard)
    wish(yard, "1.0.0", cmd="stop")
    assert proved(yard) == "UnexpectedlyRunning: stop=done"
    settled(yard)


def test_a_version_file_that_names_what_is_not_there(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    (yard.home() / ".version").write_text("9.9.9")
    assert proved(yard) == "VersionDiffers: switch=done start=done"
    settled(yard)


def test_a_version_in_use_that_lost_its_directory(yard: Yard) -> None:
    installed(yard)
    agent.crash(yard.home())
    (yard.home() / "1.0.0" / "control").unlink()
    reported = proved(yard)
    assert reported.startswith("VersionDiffers: fetch=unchanged verify=done unpack=done ")
    settled(yard)
