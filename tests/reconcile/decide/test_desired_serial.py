"""Serials of signed desired states: what a comment binds, which serial is taken, what is remembered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.desired_serial import desired_comment, highest, serial_of, why_refused
from reconcile.source import DesiredSignature

NOW = 1_790_000_000.0
names = st.text(min_size=1).filter(str.isprintable)


def signed(serial: int, key: str = "K", digest: str = "d") -> DesiredSignature:
    return DesiredSignature(key=key, serial=serial, digest=digest)


def test_the_comment_is_the_one_of_the_interface() -> None:
    assert desired_comment("desired.json", 1790000000) == "ops-updater desired desired.json serial=1790000000"


@given(names, st.integers(0, 10**18 - 1))
def test_what_is_published_is_read_back(name: str, serial: int) -> None:
    assert serial_of(desired_comment(name, serial).encode(), name) == serial


@given(names, names, st.integers(0, 10**18 - 1))
def test_a_comment_is_of_one_file_alone(name: str, other: str, serial: int) -> None:
    if name == other:
        return
    with pytest.raises(ValueError, match="expected ops-updater desired "):
        serial_of(desired_comment(name, serial).encode(), other)


@pytest.mark.parametrize(
    "comment",
    [
        "ops-updater desired d.json serial=",
        "ops-updater desired d.json serial=-1",
        "ops-updater desired d.json serial=+1",
        "ops-updater desired d.json serial=1_0",
        "ops-updater desired d.json serial= 1",
        "ops-updater desired d.json serial=1 ",
        "ops-updater desired d.json serial=1\n",
        "ops-updater desired d.json serial=01",
        "ops-updater desired d.json serial=1.0",
        "ops-updater desired d.json serial=\u0661",
        "ops-updater desired d.json serial=" + "9" * 19,
        "ops-updater desired d.json serial=1 serial=2",
        "ops-updater desired  d.json serial=1",
        "ops-updater desired D.JSON serial=1",
        "ops-updater desired canary/d.json serial=1",
        "ops-updater desired other.json serial=1 d.json serial=1",
        "x ops-updater desired d.json serial=1",
        "linux_amd64/d.json-1.tar.gz",
        "serial=1",
        "",
    ],
)
def test_any_other_comment_is_refused(comment: str) -> None:
    with pytest.raises(ValueError, match=r"expected ops-updater desired d\.json serial=N"):
        serial_of(comment.encode(), "d.json")


@pytest.mark.parametrize(
    ("signature", "accepted", "why"),
    [
        (signed(5), [], ""),
        (signed(5), [signed(4)], ""),
        (signed(5), [signed(5)], ""),
        (signed(5), [signed(6, key="L")], ""),  # the other key's serials are its own
        (signed(0), [], ""),
        (signed(int(NOW) + 86_400), [], ""),
        (signed(int(NOW) + 86_401), [], "is more than a day ahead of this host's clock"),
        (signed(int(NOW) + 86_401), [signed(int(NOW) + 86_401)], "is more than a day ahead of this host's clock"),
        (signed(5), [signed(6)], "its serial 5 is older than 6, which was accepted before"),
        (signed(5), [signed(4, key="L"), signed(6)], "its serial 5 is older than 6"),
        (signed(5, digest="e"), [signed(5)], "its serial 5 was accepted with other bytes before"),
    ],
)
def test_an_older_a_used_and_a_future_serial_are_refused(
    signature: DesiredSignature, accepted: list[DesiredSignature], why: str
) -> None:
    found = why_refused(signature, accepted, NOW)
    assert found.startswith(why) if why.startswith("its") else why in found
    assert bool(found) == bool(why)


def test_the_highest_serial_of_each_trusted_key_is_remembered() -> None:
    keys = frozenset({"K", "L"})
    assert highest(keys=keys) == ()
    one = [signed(3), signed(7, key="L"), signed(9, key="gone")]
    assert highest(one, [signed(4), signed(6, key="L")], keys=keys) == (signed(4), signed(7, key="L"))
    assert highest([signed(3)], [signed(3, digest="e")], keys=keys) == (signed(3),)
    assert highest(one, keys=frozenset()) == (), "a key that is no longer trusted is forgotten"
