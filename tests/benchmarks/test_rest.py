"""A real daemon that makes passes without a pause: what it must keep whatever the machine. How much it holds, and how
often it wakes, is for `./control bench P6` to say."""

from __future__ import annotations

import pytest

from benchmarks.rest import figures, rest


@pytest.mark.slow
def test_passes_over_converged_agents_keep_no_descriptor_and_send_only_the_heartbeat() -> None:
    found = rest(100, quiet_s=0.1, waits=3)
    assert set(found.rss_mib) == set(found.descriptors) == {10, 25, 50, 75, 100}
    assert len(set(found.descriptors.values())) == 1
    assert set(found.waiting_mib) == {1, 3}
    assert len(set(found.waiting_descriptors.values())) == 1
    assert found.other_calls == 0
    values = {figure.goal: figure.value for figure in figures(found)}
    assert (values["P6-descriptors"], values["P6-calls"]) == (0, 0)
    assert values["P6"] == found.waiting_mib[3]
