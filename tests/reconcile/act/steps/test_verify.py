"""Verifying: every digest that was given counts, and bytes that differ are thrown away."""

from __future__ import annotations

import os

import pytest
from attrs import evolve

from reconcile.act.cache import part_of
from reconcile.act.context import Bounds
from reconcile.act.steps.fetch import fetch
from reconcile.act.steps.verify import verify
from reconcile.decide.actions import Fetch, Result, Verify
from reconcile.decide.desired import Digest, Md5, Sha256
from reconcile.errors import DigestMismatch, WriteFailed
from tests.yard import NAME, Yard


def both(yard: Yard) -> Fetch:
    action = yard.publish("1.0.0")
    return Fetch(
        url=action.url, version="1.0.0", digests=action.digests | {Sha256(yard.meta.release(NAME, "1.0.0").sha256)}
    )


def test_verified_bytes_get_their_name(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    assert verify(Verify(digests=action.digests), tools) is Result.DONE
    assert tools.results.path is not None
    assert os.listdir(yard.cache) == [tools.results.path.name]


@pytest.mark.parametrize("wrong", [Md5("0" * 32), Sha256("0" * 64)])
def test_one_wrong_digest_of_two_is_enough_to_refuse(yard: Yard, wrong: Digest) -> None:
    action, tools = both(yard), yard.tools()
    digests = frozenset(d for d in action.digests if type(d) is not type(wrong)) | {wrong}
    fetch(Fetch(url=action.url, version="1.0.0", digests=digests), tools)
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


def test_wrong_bytes_are_refused_for_that_where_an_operator_has_emptied_the_cache(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    yard.meta.corrupt(NAME, "1.0.0")
    fetch(action, tools)
    for path in yard.cache.iterdir():
        path.unlink()
    with pytest.raises(DigestMismatch):
        verify(Verify(digests=action.digests), tools)


def test_a_cached_tarball_that_rotted_is_fetched_again_at_once(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    verify(Verify(digests=action.digests), tools)
    assert tools.results.path is not None
    path = tools.results.path
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
    assert tools.results.path is not None
    tools.results.path.write_bytes(b"!")
    with pytest.raises(DigestMismatch):
        verify(Verify(digests=action.digests), tools)
    assert not tools.results.path.exists()


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
        assert tools.results.path is not None
        names.append(tools.results.path.name)
    assert os.listdir(yard.cache) == [names[-1]]


def test_a_part_that_was_removed(yard: Yard) -> None:
    action, tools = both(yard), yard.tools()
    fetch(action, tools)
    assert tools.results.path is not None
    part_of(tools.results.path).unlink()
    with pytest.raises(WriteFailed, match="verify in the cache"):
        verify(Verify(digests=action.digests), tools)


# A digest that is another version's


def test_a_digest_that_the_cache_has_from_another_version_is_named_not_downloaded(yard: Yard) -> None:
    known, forgotten = yard.publish("1.0.0"), yard.publish("2.0.0")
    bring(yard, known)
    tools = yard.tools()
    before = yard.tarball_requests()
    assert fetch(evolve(forgotten, digests=known.digests), tools) is Result.DONE, "it is fetched"
    assert yard.tarball_requests() == before + 1
    with pytest.raises(DigestMismatch, match=rf", which is the digest of {NAME} 1\.0\.0; it is thrown away"):
        verify(Verify(digests=known.digests), tools)
    assert sorted(path.name.split("@")[1] for path in yard.cache.iterdir()) == ["1.0.0"], "what is good stays"


def test_a_digest_that_only_the_disk_knows_is_named_too(yard: Yard) -> None:
    action = yard.publish("2.0.0")
    tools = evolve(yard.tools(), on_disk={f"md5:{'1' * 32}": "1.0.0", f"md5:{'2' * 32}": "0.9.0"})
    fetch(evolve(action, digests=frozenset({Md5("1" * 32)})), tools)
    with pytest.raises(DigestMismatch, match=rf"the digest of {NAME} 1\.0\.0;"):
        verify(Verify(digests=frozenset({Md5("1" * 32)})), tools)


def test_the_same_bytes_under_another_version_are_right_once_they_were_fetched(yard: Yard) -> None:
    known = yard.publish("1.0.0")
    bring(yard, known)
    again = evolve(known, version="1.0.1")
    before = yard.tarball_requests()
    bring(yard, again)
    assert yard.tarball_requests() == before + 1
    assert len(list(yard.cache.iterdir())) == 2


def bring(yard: Yard, action: Fetch) -> None:
    tools = yard.tools()
    assert fetch(action, tools) is Result.DONE
    assert verify(Verify(digests=action.digests), tools) is Result.DONE
    tools.results.clear()
