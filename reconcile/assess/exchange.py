"""The exchange with the source of desired state, at once or in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from probes.observed import ObservedHost
from reconcile.assess.host_report import report
from reconcile.assess.pass_context import HostContext
from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.source import Answer
from reconcile.storage.store import StoredState

ExchangeResult = Answer | ServerUnreachable | ResponseInvalid


def exchange(host: HostContext, state: StoredState, *seen: ObservedHost) -> ExchangeResult:
    """Report what was seen, and get an answer, or why there is none."""
    if host.serials is not None:
        host.serials.learn(state.serials)
    try:
        return host.source.exchange(report(host.facts, state, *seen))
    except (ServerUnreachable, ResponseInvalid) as err:
        return err


class RunningExchange:
    """An exchange in a thread that is not waited for, even by the end of the process. `post`: has something done by the
    thread that reads the answer."""

    def __init__(self, ask: Callable[[], ExchangeResult], post: Callable[[Callable[[], None]], None]) -> None:
        self._ended: ExchangeResult | Exception | None = None
        self._ask = ask
        self._post = post
        try:
            threading.Thread(target=self._work, name="exchange", daemon=True).start()
        except RuntimeError as err:  # what crashed is started all the same
            self._ended = ServerUnreachable(f"the server was not asked: the host is short of a resource: {err}")

    @property
    def has_ended(self) -> bool:
        return self._ended is not None

    @property
    def result(self) -> ExchangeResult | None:
        """What came of it; None: it goes on. Raise the unexpected error that it ended with."""
        if isinstance(self._ended, Exception) and not isinstance(self._ended, ServerUnreachable | ResponseInvalid):
            raise self._ended
        return self._ended

    def _work(self) -> None:
        try:
            ended: ExchangeResult | Exception = self._ask()
        except Exception as err:
            ended = err

        def take() -> None:
            self._ended = ended

        self._post(take)
