"""`check` of what is in use: signed by a key that is trusted today, or not."""

from __future__ import annotations

import hashlib

import pytest

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")

from tests.signer import Signer
from tests.support.sample_agents import build
from tests.updater.check.findings import found
from tests.updater.conftest import Folder
from updater.check.subject import CheckState

OURS, NEXT = Signer(1), Signer(2)


def publish(folder: Folder, version: str, signer: Signer | None) -> None:
    tarball = build("falcon-agent", version)
    minisig = None if signer is None else signer.sign_release(tarball, "falcon-agent", version)
    folder.meta.publish("falcon-agent", version, tarball, minisig=minisig)
    sha256 = hashlib.sha256(tarball).hexdigest()
    folder.meta.desire(folder.meta.agent("falcon-agent", version, sha256=sha256))


def test_what_is_in_use_without_a_trusted_signature_is_bad(folder: Folder) -> None:
    publish(folder, "1.0.0", None)
    assert folder.run("apply", "--once").code == 0
    assert found(folder, "signatures") == []  # none is asked for
    folder.configure(trusted_keys=[OURS.public])
    [one] = found(folder, "signatures")
    assert one.state is CheckState.BAD
    assert one.message == "falcon-agent 1.0.0 is in use without a signature of a trusted key"
    assert one.remedy.startswith("publish another version, signed")

    publish(folder, "2.0.0", OURS)
    assert folder.run("apply", "--once").code == 0
    [one] = found(folder, "signatures")
    assert one.state is CheckState.GOOD
    folder.configure(trusted_keys=[NEXT.public])
    assert [one.state for one in found(folder, "signatures")] == [CheckState.BAD]
