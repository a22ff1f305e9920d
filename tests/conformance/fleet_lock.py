"""What the updater relies on of a FleetLock server (docs/interface.md, section 7), asked of any of them.

It takes and gives back places of one group, which no host may use meanwhile, and leaves it free.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from attrs import frozen

from tests.conformance.check import Broken, Check, LeftOut, Reply, demand, post

_TAKE, _GIVE_BACK = "/v1/pre-reboot", "/v1/steady-state"
_HEADER = {"fleet-lock-protocol": "true"}
_THREADS, _ROUNDS = 16, 12
_RESTARTED_S = 60.0


@frozen(kw_only=True)
class Subject:
    """`urls`: of its replicas. `places`: of `group`. `restart`: restarts all of them; None: that is not tried."""

    urls: tuple[str, ...]
    places: int
    group: str = "default"
    restart: Callable[[], object] | None = None

    def ask(self, path: str, host: str, *, url: str = "", **changed: Any) -> Reply:
        params = {"id": f"conformance-{host}", "group": self.group, **changed}
        return post((url or self.urls[0]) + path, json.dumps({"client_params": params}).encode(), _HEADER)

    def take(self, host: str, *, url: str = "") -> bool:
        reply = self.ask(_TAKE, host, url=url)
        if is_yes(reply):
            return True
        demand(is_refusal(reply), f"{reply}, which is neither a yes nor a refusal with kind and value")
        return False

    def give_back(self, host: str, *, url: str = "") -> None:
        reply = self.ask(_GIVE_BACK, host, url=url)
        demand(is_yes(reply), f"a place is not given back: {reply}")

    def fill(self) -> list[str]:
        """Take all places. Raise Broken where there are fewer."""
        names = [f"host-{number}" for number in range(self.places)]
        for name in names:
            demand(self.take(name), f"{name} of {self.places} has no place; is the group free?")
        return names

    def empty(self, names: Iterable[str]) -> None:
        for name in names:
            self.give_back(name)


def is_yes(reply: Reply) -> bool:
    """200, and no body or a JSON one that is no refusal."""
    return reply.status == 200 and not is_refusal(reply) and (not reply.body.strip() or reply.document is not None)


def is_refusal(reply: Reply) -> bool:
    found = reply.document
    return isinstance(found, dict) and isinstance(found.get("kind"), str) and isinstance(found.get("value"), str)


def checks(subject: Subject) -> list[Check]:
    made = (_limit, _recursion, _foreign, _none_held, _unknown_group, _header, _body, _replicas, _restart)
    return [Check(promise=str(one.__doc__), make=partial(_leaving_it_free, subject, one)) for one in made]


def _leaving_it_free(subject: Subject, check: Callable[[Subject], None]) -> None:
    try:
        check(subject)
    finally:
        for name in [*(f"host-{number}" for number in range(max(subject.places, _THREADS))), "one-more", "other"]:
            subject.ask(_GIVE_BACK, name)


def _limit(subject: Subject) -> None:
    """as many hosts as there are places have one, and the next is refused in the protocol's form"""
    names = subject.fill()
    demand(not subject.take("one-more"), f"{subject.places + 1} hosts have a place")
    subject.empty(names[:1])
    demand(subject.take("one-more"), "a place that was given back can't be had")


def _recursion(subject: Subject) -> None:
    """who has a place and asks again has it once: the updater asserts a kept place in each pass"""
    for _ in range(2):
        demand(subject.take("host-0"), "asked again by the same host, it refuses")
    others = [f"host-{number}" for number in range(1, subject.places)]
    demand(all(subject.take(name) for name in others), "a host that asked twice takes two places")
    subject.give_back("host-0")
    demand(subject.take("one-more"), "given back once, a place that was asked for twice is still held")


def _foreign(subject: Subject) -> None:
    """a host gives back its own place alone"""
    subject.fill()
    subject.ask(_GIVE_BACK, "other")  # whether it says yes to that does not matter
    demand(not subject.take("one-more"), "a host without a place freed another one's")


def _none_held(subject: Subject) -> None:
    """who has no place may give it back: a host whose memory is lost does"""
    subject.give_back("other")
    subject.fill()
    subject.empty(["host-0"])
    subject.empty(["host-0"])
    demand(subject.take("one-more"), "a place that was given back twice can't be had")
    demand(not subject.take("host-0"), "a place that was given back twice is two")


def _unknown_group(subject: Subject) -> None:
    """a group that is not configured is refused in the protocol's form: a typo is no lock without a limit"""
    reply = subject.ask(_TAKE, "other", group="no-such-group-of-the-conformance-test")
    demand(is_refusal(reply), f"{reply}")


def _header(subject: Subject) -> None:
    """a request without the header fleet-lock-protocol is refused: a page in a browser must not take a place"""
    params = {"client_params": {"id": "conformance-other", "group": subject.group}}
    reply = post(subject.urls[0] + _TAKE, json.dumps(params).encode(), {})
    demand(reply.status >= 400, f"{reply}")


def _body(subject: Subject) -> None:
    """a body that is none of the protocol is refused"""
    for body in (b"", b"{", b"{}", b'{"client_params": {}}', b'{"client_params": {"id": "", "group": ""}}'):
        reply = post(subject.urls[0] + _TAKE, body, _HEADER)
        demand(reply.status >= 400, f"{body!r}: {reply}")


def _replicas(subject: Subject) -> None:
    """never more hosts than places, whichever replica they ask, at the same time"""
    crowd = _Crowd(subject)
    threads = [threading.Thread(target=crowd.host, args=(number,)) for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if crowd.troubles:
        raise Broken(crowd.troubles[0])
    demand(crowd.most <= subject.places, f"{crowd.most} hosts had a place at once, of {subject.places}")
    demand(crowd.changes > 0, "no host ever got a place")
    if len(subject.urls) < 2:
        raise LeftOut("one replica was given, which kept it; name the others, too")


class _Crowd:
    """Hosts that change as fast as they get places. `most`: of them had one at once."""

    def __init__(self, subject: Subject) -> None:
        self.most = self.changes = 0
        self.troubles: list[str] = []
        self._subject = subject
        self._between = 0
        self._guard = threading.Lock()

    def host(self, number: int) -> None:
        url = self._subject.urls[number % len(self._subject.urls)]
        try:
            for _ in range(_ROUNDS):
                if self._subject.take(f"host-{number}", url=url):
                    self._change()
                    self._subject.give_back(f"host-{number}", url=url)
        except (Broken, OSError) as err:
            self.troubles.append(str(err))

    def _change(self) -> None:
        with self._guard:
            self._between += 1
            self.changes += 1
            self.most = max(self.most, self._between)
        time.sleep(0.02)  # of the time that 16 hosts on a slow machine need to ask
        with self._guard:
            self._between -= 1


def _restart(subject: Subject) -> None:
    """a place is held across a restart of the server"""
    if subject.restart is None:
        raise LeftOut("--restart COMMAND was not given")
    subject.fill()
    subject.restart()
    deadline = time.monotonic() + _RESTARTED_S
    while True:
        try:
            demand(not subject.take("one-more"), "after the restart one more host has a place")
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
