"""Signed tarballs with the real executable: what is not signed for this agent and version is never unpacked."""

from __future__ import annotations

import hashlib

import pytest

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")

from tests.e2e.host import NAME, Completed, Host
from tests.signer import Signer
from tests.support.sample_agents import build

pytestmark = [pytest.mark.slow, pytest.mark.warm]

OURS, NEXT, STRANGER = Signer(1), Signer(2), Signer(3)


def publish(host: Host, version: str, signer: Signer | None = OURS) -> bytes:
    """Publish a release, signed, and desire it."""
    tarball = build(NAME, version, lifetime=600)
    minisig = None if signer is None else signer.sign_release(tarball, NAME, version)
    host.meta.publish(NAME, version, tarball, minisig=minisig)
    host.desire(version, sha256=hashlib.sha256(tarball).hexdigest())
    return tarball


def refused(host: Host, words: str) -> Completed:
    """Nothing came into the home, and the reason is reported."""
    before = host.versions()
    applied = host.apply("--offline") if host.meta.requests == [] else host.apply()
    assert (applied.code, applied.condition("Ready")) == (3, ("False", "SignatureInvalid")), applied
    assert words in applied.out
    assert host.versions() == before
    assert host.updater("release", NAME).code == 0  # else the next try waits for its delay
    return applied


def test_a_signed_release_is_installed_and_each_other_one_refused(host: Host) -> None:
    host.configure(trusted_keys=[OURS.public])
    publish(host, "1.0.0")
    applied = host.apply()
    assert applied.code == 0, applied
    assert "signature" in applied.agent()["actions"][1]
    host.settle()

    tarball = publish(host, "2.0.0", None)
    refused(host, "HTTP 404; this host takes signed tarballs alone")
    publish(host, "2.0.0", STRANGER)
    refused(host, "which is not among trusted_keys")
    wrong = {
        "its trusted comment is": OURS.sign_release(tarball, NAME, "1.0.0"),
        "the tarball is not what key": OURS.sign_release(tarball + b"x", NAME, "2.0.0"),
        "expected the four lines": b"<html></html>",
        "at most 4096": b"x" * 5000,
    }
    for words, minisig in wrong.items():
        host.meta.publish(NAME, "2.0.0", tarball, minisig=minisig)
        if words != "at most 4096":
            refused(host, words)
    assert host.apply().condition("Ready") == ("False", "FetchFailed"), "a signature is small"
    assert host.ask().version == "1.0.0"


def test_keys_are_rolled_over_and_revoked(host: Host) -> None:
    host.configure(trusted_keys=[OURS.public], keep=3)
    publish(host, "1.0.0")
    assert host.apply().code == 0
    host.settle()
    host.configure(trusted_keys=[OURS.public, NEXT.public])
    publish(host, "2.0.0", NEXT)
    assert host.apply().code == 0
    host.settle()

    host.configure(trusted_keys=[NEXT.public])
    assert host.apply().code == 0, "what is in use stays"
    tarball = publish(host, "1.0.0")
    before = len(host.meta.requests)
    refused(host, "which is not among trusted_keys")
    assert host.downloads(since=before) == [], "the signature comes first"
    host.meta.publish(NAME, "1.0.0", tarball, minisig=NEXT.sign_release(tarball, NAME, "1.0.0"))
    assert host.apply().code == 0, "signed again with the new key"
    assert host.ask().version == "1.0.0"


def test_a_tree_verified_without_a_signature_is_no_new_version_once_one_is_required(host: Host) -> None:
    host.configure(keep=3)
    for version in ("1.0.0", "2.0.0"):
        publish(host, version, None)
        assert host.apply().code == 0
        host.settle()
    host.configure(trusted_keys=[OURS.public])
    assert host.apply().code == 0, "what is in use stays"
    tarball = publish(host, "1.0.0", None)
    refused(host, "HTTP 404")  # it lies in the home, and in the cache
    assert host.ask().version == "2.0.0"

    host.meta.publish(NAME, "1.0.0", tarball, minisig=OURS.sign_release(tarball, NAME, "1.0.0"))
    applied = host.apply()
    assert (applied.code, applied.actions()) == (0, "fetch verify unpack stop switch start")
    assert applied.agent()["actions"][0]["result"] == "unchanged", "of the cache, with its signature"
    host.settle()

    host.desire("2.0.0")
    assert host.updater("rollback", NAME, "--to", "2.0.0").code == 0, "an operator's word needs no signature"


def test_all_digests_count_beside_the_signature(host: Host) -> None:
    host.configure(trusted_keys=[OURS.public])
    tarball = publish(host, "1.0.0")
    host.desire("1.0.0", sha256=hashlib.sha256(tarball + b"x").hexdigest())
    applied = host.apply()
    assert (applied.code, applied.condition("Ready")) == (3, ("False", "DigestMismatch"))
    assert not host.home().exists() or host.versions() == []


def test_a_config_takes_the_place_of_no_signed_program(host: Host) -> None:
    host.configure(trusted_keys=[OURS.public])
    publish(host, "1.0.0")
    assert host.apply().code == 0
    host.settle()
    pid, before = host.pid(), host.versions()
    for name in ("falcon-agent.py", "env.sh", "run"):
        url = host.meta.publish_config(f"/conf/{name}", b"#!/bin/sh\necho started\n")
        host.desire("1.0.0", configFileName=name, configRemoteUrl=url)
        host.apply()
        assert not (host.home() / "1.0.0" / name).exists()
        assert url.removeprefix(host.meta.url) not in [request.path for request in host.meta.requests]
    assert (host.pid(), host.versions()) == (pid, before), "it runs on"

    url = host.meta.publish_config("/conf/cfg.json", b"{}")
    publish(host, "1.1.0")
    host.desire("1.1.0", configFileName="cfg.json", configRemoteUrl=url)
    assert host.apply().code == 0
    assert (host.home() / "1.1.0" / "cfg.json").stat().st_mode & 0o777 == 0o644
