"""Verifying: every digest that was given counts, and bytes that differ are thrown away."""

from __future__ import annotations

import os

import pytest

from reconcile.act.cache import part_of
from reconcile.act.steps.fetch import fetch
from reconcile.act.steps.verify import verify
from reconcile.act.tools import Bounds
from reconcile.decide.actions import Fetch, Result, Verify
from reconcile.decide.desired import Digest, Md5, Sha256
from reconcile.errors import DigestMismatch, WriteFailed
from tests.yard import NAME, Yard


def both(yard: Yard) -> Fetch:
    action = yard.publish("1.0.0")
    return Fetch(url=action.url, digests=action.digests | {Sha256(yard.meta.release(NAME, "1.0.0").sha256)})


def test_verified_bytes_get_their_name(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    assert verify(Verify(digests=action.digests), tools) is Result.DONE
    assert tools.bench.path is not None
    assert os.listdir(yard.cache) == [tools.bench.path.name]


@pytest.mark.parametrize("wrong", [Md5("0" * 32), Sha256("0" * 64)])
def test_one_wrong_digest_of_two_is_enough_to_refuse(yard: Yard, wrong: Digest) -> None:
    action, tools = both(yard), yard.tools()
    digests = frozenset(d for d in action.digests if type(d) is not type(wrong)) | {wrong}
    fetch(Fetch(url=action.url, digests=digests), tools)
    with pytest.raises(DigestMismatch, match=f"expected .*{wrong}.*publish it again, or correct the digest"):
        verify(Verify(digests=digests), tools)
    assert os.listdir(yard.cache) == []


def test_a_corrupt_download_is_thrown_away(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    yard.meta.corrupt(NAME, "1.0.0")
    fetch(action, tools)
    with pytest.raises(DigestMismatch):
        verify(Verify(digests=action.digests), tools)
    assert os.listdir(yard.cache) == []


def test_a_cached_tarball_that_rotted_comes_anew_at_once(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    verify(Verify(digests=action.digests), tools)
    assert tools.bench.path is not None
    path = tools.bench.path
    for rotten in (path.read_bytes()[:-1] + b"!", b""):  # the second is what a power cut leaves
        path.write_bytes(rotten)
        assert fetch(action, tools) is Result.DONE
        assert verify(Verify(digests=action.digests), tools) is Result.DONE
    assert fetch(action, tools) is Result.UNCHANGED


def test_a_cached_tarball_that_rots_under_our_eyes_is_thrown_away(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    verify(Verify(digests=action.digests), tools)
    assert fetch(action, tools) is Result.UNCHANGED
    assert tools.bench.path is not None
    tools.bench.path.write_bytes(b"!")
    with pytest.raises(DigestMismatch):
        verify(Verify(digests=action.digests), tools)
    assert not tools.bench.path.exists()


def test_without_a_digest_nothing_is_verified(yard: Yard) -> None:
    tools = yard.tools()
    fetch(both(yard), tools)
    with pytest.raises(DigestMismatch, match="nothing is unpacked"):
        verify(Verify(digests=frozenset()), tools)


def test_the_cache_is_trimmed_and_the_newest_stays(yard: Yard) -> None:
    tools = yard.tools(bounds=Bounds(cache_size=1))
    names = []
    for version in ("1.0.0", "1.1.0", "1.2.0"):
        action = yard.publish(version)
        fetch(action, tools)
        verify(Verify(digests=action.digests), tools)
        assert tools.bench.path is not None
        names.append(tools.bench.path.name)
    assert os.listdir(yard.cache) == [names[-1]]


def test_a_part_that_somebody_removed(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    assert tools.bench.path is not None
    part_of(tools.bench.path).unlink()
    with pytest.raises(WriteFailed, match="verify in the cache"):
        verify(Verify(digests=action.digests), tools)
