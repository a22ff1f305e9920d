"""Which homes are observed: by whose user, and where nothing is left of a former one's."""

from __future__ import annotations

from attrs import evolve

from probes.observed import HomeRef, ObservedAgent, ObservedHost
from reconcile.assess.homes import homes_given_up, homes_to_observe
from reconcile.storage.store import StoredState
from tests.reconcile.decide.worlds import NAME, WORK_DIR, record, seen, wish

FORMER = HomeRef(name=NAME, work_dir=WORK_DIR, run_user="former")


def test_a_home_without_traces_of_its_former_user_is_observed_as_the_wanted_user() -> None:
    desired = wish("start 2.0=A").desired
    state = StoredState(records=(evolve(record(), run_user="former"),))
    assert homes_to_observe((desired,), state) == (FORMER,)
    for there, given_up in ((ObservedAgent(home=FORMER), True), (evolve(seen("1.0=A started"), home=FORMER), False)):
        host = ObservedHost(at=0.0, agents=(there,))
        assert homes_given_up(host, (desired,), state) == ((desired.home,) if given_up else ())
