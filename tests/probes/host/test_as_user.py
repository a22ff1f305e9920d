"""Operations of our own user run here; those of any other are refused until there is a way to become that user."""

from __future__ import annotations

import os

import pytest

from probes.errors import PolicyRefused
from probes.host.as_user import as_user
from probes.host.facts import own_user


def test_our_own_user_works_in_this_process() -> None:
    assert as_user(own_user().name, os.getpid) == os.getpid()


def test_what_an_operation_raises_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        as_user(own_user().name, lambda: 1 // 0)


def test_another_user_is_refused_by_the_rule_that_says_so() -> None:
    with pytest.raises(PolicyRefused, match=f"rule run_user: .*'falcon'.*{own_user().name}"):
        as_user("falcon", lambda: pytest.fail("carried out under the wrong user"))
