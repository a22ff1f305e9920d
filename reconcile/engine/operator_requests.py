"""What operators ask for, beside the server: a pin is remembered, and a request that was taken up ends."""

from __future__ import annotations

from attrs import evolve

from reconcile.assess.assess_host import accepted
from reconcile.assess.pass_context import Assessment, HostContext
from reconcile.decide.hold import Requests
from reconcile.decide.records.changes import record_for, released
from reconcile.decide.records.record import Pin
from reconcile.engine.place_keeper import PlaceKeeper
from reconcile.storage.hold_files import read_requests, take_up
from reconcile.storage.store import Store


def remember_pin(host: HostContext, store: Store, name: str, pin: Pin) -> None:
    """Remember a pin. A release that was asked for before it is taken up first: it must not end the pin. Raise
    WriteFailed."""
    desired = next((agent for agent in accepted(host.policy, store.state).agents if agent.name == name), None)
    if desired is None:
        return
    record = store.state.record(name) or record_for(desired.home, None)
    if read_requests(host.holds).released(name):
        take_up(host.holds, Requests(releases=frozenset({name})), pin.at)
        record = released(record)
    store.save([evolve(record, pin=pin)])


def end_requests(
    host: HostContext,
    found: Assessment,
    left_alone: frozenset[str],
    places: PlaceKeeper | None,
    *,
    is_whole: bool,
) -> None:
    """Releases were taken up by this pass, of its agents; holds that ended go. Those of agents whose plan still runs,
    `left_alone`, wait. A place that could not be given back is still to be. `is_whole`: the pass was for all agents."""
    requests, groups = found.requests, host.rules.groups
    releases = requests.releases
    if not is_whole or left_alone:
        releases &= frozenset(view.desired.name for view in found.agents) - left_alone
    held = frozenset[str | None]() if places is None else places.groups_held
    freed = {name for name in requests.place_releases if groups is None or groups.of(name) not in held}
    take_up(host.holds, evolve(requests, releases=releases, place_releases=frozenset(freed)), found.at)
