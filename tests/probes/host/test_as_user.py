"""Operations of our own user run here, those of another in a child: here what needs no rights."""

from __future__ import annotations

import os

import pytest

from probes.errors import UserMissing
from probes.host.as_user import Hands, is_us
from probes.host.facts import own_user


def fail() -> None:
    raise ZeroDivisionError


def test_our_own_user_works_in_this_process() -> None:
    assert Hands().of(own_user().name).do(os.getpid) == os.getpid()


def test_what_an_operation_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        Hands().of(own_user().name).do(fail)


def test_a_user_that_does_not_exist_is_refused_again_and_again() -> None:
    hands = Hands()
    for _ in range(3):
        with pytest.raises(UserMissing, match="'no-such-user' does not exist"):
            hands.of("no-such-user").do(os.getpid)
    hands.end()
    hands.end()


def test_only_our_own_user_is_us() -> None:
    assert is_us(own_user().name)
    assert not is_us("no-such-user")
    assert not is_us("nobody")


def test_children_live_while_anybody_is_at_work() -> None:
    """A plan may outlast its pass, and its child with it; who is missing is looked up again after that."""
    hands = Hands()
    with hands.at_work():
        with hands.at_work(), pytest.raises(UserMissing):
            hands.of("no-such-user").do(os.getpid)
        kept = hands._user("no-such-user")
        assert kept.is_refused
        hands.forget_refused()
        assert hands._user("no-such-user") is not kept
        kept = hands._user("no-such-user")
    assert hands._user("no-such-user") is not kept
