"""Passes over converged agents keep no object: what a daemon holds does not grow with its passes."""

from __future__ import annotations

import gc

from reconcile.assess.pass_context import DesiredFrom
from tests.yard import NAME, Yard


def test_passes_that_find_nothing_to_do_keep_no_object(yard: Yard) -> None:
    yard.publish("1.0.0")
    yard.meta.desire(yard.meta.agent(NAME, "1.0.0"))
    yard.run()

    def held_after(passes: int) -> int:
        for _ in range(passes):
            yard.run(DesiredFrom.OFFLINE)  # the server of the test lives in this process, and notes each request
        gc.collect()
        return len(gc.get_objects())

    held_after(20)  # until caches are warm, and the watch of the new version is over
    before = held_after(5)
    assert held_after(40) - before < 20, "less than one in two passes"
