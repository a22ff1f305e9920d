"""A signature is fetched before its tarball, each time, and held against the bytes before they are parsed."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")

from reconcile.act.steps.fetch import fetch
from reconcile.act.steps.verify import verify
from reconcile.decide.actions import Fetch, Result, Verify
from reconcile.decide.desired import Signing
from reconcile.errors import FetchFailed, FetchInterrupted, SignatureInvalid
from tests.loopback import Loopback, Story, answers, redirects
from tests.signer import Signer
from tests.support.ops_meta import host_arch
from tests.support.sample_agents import build
from tests.yard import NAME, Yard

SIGNER = Signer()
TARBALL = build(NAME, "1.0.0")
SIGNATURE = SIGNER.sign_release(TARBALL, NAME, "1.0.0")


def signed(yard: Yard, url: str) -> Fetch:
    signing = Signing(url=url, comment=f"{host_arch()}/{NAME}-1.0.0.tar.gz", keys=frozenset({SIGNER.public}))
    return evolve(yard.publish("1.0.0"), signing=signing)


def cached(yard: Yard) -> list[Path]:
    return list(yard.cache.iterdir()) if yard.cache.exists() else []


@pytest.mark.parametrize("moved", [0, 3])
def test_a_signature_is_held_against_the_bytes_and_fetched_again_for_a_cached_tarball(yard: Yard, moved: int) -> None:
    tools = yard.tools(signed=True)
    with Loopback(*[redirects("/on")] * moved, answers(SIGNATURE)) as server:
        action = signed(yard, f"{server.origin}/x.minisig")
        assert fetch(action, tools) is Result.DONE
        assert verify(Verify(digests=action.digests, signing=action.signing), tools) is Result.DONE
        assert fetch(action, tools) is Result.UNCHANGED
        assert len(server.requests) == moved + 2
    assert len(cached(yard)) == 1


@pytest.mark.parametrize(
    ("stories", "error", "message"),
    [
        ([answers(status=404)], SignatureInvalid, "HTTP 404; this host takes signed tarballs alone"),
        ([answers(status=410)], SignatureInvalid, "HTTP 410; this host takes signed tarballs alone"),
        ([answers(status=403)], FetchFailed, "HTTP 403; credentials"),
        ([answers(status=503)], FetchInterrupted, "HTTP 503"),
        ([answers(SIGNATURE, status=206)], FetchFailed, "HTTP 206, expected 200 and the signature"),
        ([answers(SIGNATURE.ljust(4097))], FetchFailed, "4097 bytes announced, at most 4096"),
        ([redirects("/on")] * 4, FetchFailed, "redirected more than 3 times"),
    ],
)
def test_without_its_signature_a_tarball_is_not_even_asked_for(
    yard: Yard, stories: list[Story], error: type[Exception], message: str
) -> None:
    with Loopback(*stories) as server, pytest.raises(error, match=message):
        fetch(signed(yard, f"{server.origin}/x.minisig"), yard.tools(signed=True))
    assert (yard.tarball_requests(), cached(yard)) == (0, [])


def test_bytes_that_are_not_those_signed_are_thrown_away(yard: Yard) -> None:
    tools = yard.tools(signed=True)
    with Loopback(answers(SIGNER.sign_release(b"others", NAME, "1.0.0"))) as server:
        action = signed(yard, f"{server.origin}/x.minisig")
        fetch(action, tools)
        with pytest.raises(SignatureInvalid, match="the tarball is not what key"):
            verify(Verify(digests=action.digests, signing=action.signing), tools)
    assert cached(yard) == []


def test_a_signature_of_something_else_is_none(yard: Yard) -> None:
    """Nothing was fetched as signed, or by other keys."""
    with Loopback(answers(SIGNATURE)) as server:
        action = signed(yard, f"{server.origin}/x.minisig")
        assert action.signing is not None
        others = evolve(action.signing, keys=action.signing.keys | {Signer(2).public})
        for fetched in (evolve(action, signing=None), action):
            tools = yard.tools(signed=True)
            fetch(fetched, tools)
            with pytest.raises(SignatureInvalid, match="no signature was fetched for the tarball"):
                verify(Verify(digests=action.digests, signing=others), tools)
            assert cached(yard) == []
