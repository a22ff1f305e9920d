"""Signatures that the real minisign made, and what an attacker would make of them."""

from __future__ import annotations

import base64
import io
import sys
from pathlib import Path

import pytest
from attrs import evolve

pytest.importorskip("nacl", reason="needs PyNaCl, which ./control test brings")

from probes.errors import ToolMissing
from reconcile.act.signatures import LEGACY_LIMIT, check_bytes, check_comment
from reconcile.decide.desired import Signing
from reconcile.errors import SignatureInvalid
from tests.signer import Signer

RECORDED = Path(__file__).parent / "minisign"
TARBALL = (RECORDED / "falcon-agent-1.0.0.tar.gz").read_bytes()
KEYS = {name: (RECORDED / f"{name}.pub").read_text().splitlines()[1] for name in ("first", "second")}
SIGNING = Signing(
    url="http://meta/linux_amd64/falcon-agent-1.0.0.tar.gz.minisig",
    comment="linux_amd64/falcon-agent-1.0.0.tar.gz",
    keys=frozenset(KEYS.values()),
)


def recorded(name: str) -> bytes:
    return (RECORDED / f"{name}.minisig").read_bytes()


def check(signature: bytes, content: bytes = TARBALL, signing: Signing = SIGNING) -> str:
    """Who signed these bytes."""
    signed = check_comment(signature, signing)
    check_bytes(signed, io.BytesIO(content))
    return signed.key.text


@pytest.mark.parametrize(("name", "key"), [("first", "first"), ("first-legacy", "first"), ("second", "second")])
def test_what_the_real_program_signed(name: str, key: str) -> None:
    assert check(recorded(name)) == KEYS[key]


@pytest.mark.parametrize("name", ["first", "first-legacy"])
def test_other_bytes_than_were_signed(name: str) -> None:
    for content in (TARBALL[:-1], TARBALL + b"\0", bytes([TARBALL[0] ^ 1]) + TARBALL[1:], b""):
        with pytest.raises(SignatureInvalid, match="the tarball is not what key"):
            check(recorded(name), content)


@pytest.mark.parametrize(
    "comment",
    [
        "linux_amd64/falcon-agent-2.0.0.tar.gz",
        "linux_arm64/falcon-agent-1.0.0.tar.gz",
        "linux_amd64/other-1.0.0.tar.gz",
    ],
)
def test_a_signature_of_another_file_is_none_of_this_one(comment: str) -> None:
    with pytest.raises(SignatureInvalid, match="its trusted comment is 'linux_amd64/falcon-agent-1"):
        check(recorded("first"), signing=evolve(SIGNING, comment=comment))


@pytest.mark.parametrize("name", ["other-version", "no-comment"])
def test_a_comment_that_names_another_file(name: str) -> None:
    with pytest.raises(SignatureInvalid, match="its trusted comment is"):
        check(recorded(name))


def test_a_comment_that_was_replaced() -> None:
    forged = recorded("other-version").replace(b"agent-2.0.0", b"agent-1.0.0")
    with pytest.raises(SignatureInvalid, match="its trusted comment was not signed by key"):
        check(forged)


def test_halves_of_two_signatures() -> None:
    """A good signature of the bytes, and a good comment of another signature."""
    first, other = recorded("first").splitlines(keepends=True), recorded("first-legacy").splitlines(keepends=True)
    with pytest.raises(SignatureInvalid, match="its trusted comment was not signed by key"):
        check(b"".join((*first[:2], *other[2:])))


def test_each_flipped_bit_of_a_signature_is_seen() -> None:
    lines = recorded("first").splitlines()
    for line in (1, 3):
        raw = base64.b64decode(lines[line])
        for position in range(len(raw)):  # 74 bytes, and 64
            changed = bytearray(raw)
            changed[position] ^= 0x10
            forged = [*lines[:line], base64.b64encode(changed), *lines[line + 1 :]]
            with pytest.raises(SignatureInvalid):
                check(b"\n".join(forged))


def test_a_key_that_is_trusted_no_more() -> None:
    only_second = evolve(SIGNING, keys=frozenset({KEYS["second"]}))
    assert check(recorded("second"), signing=only_second) == KEYS["second"]
    with pytest.raises(SignatureInvalid, match=r"made with key [0-9A-F]{16}, which is not among trusted_keys"):
        check(recorded("first"), signing=only_second)


def test_an_id_proves_nothing() -> None:
    """Two trusted keys of one id serve; a stranger's key under a trusted id doesn't."""
    one, two, stranger = (Signer(seed, key_id=b"same id!") for seed in (1, 2, 3))
    signing = evolve(SIGNING, keys=frozenset({one.public, two.public}))
    for signer in (one, two):
        assert check(signer.sign(TARBALL, SIGNING.comment), signing=signing) == signer.public
    with pytest.raises(SignatureInvalid, match="was not signed by key"):
        check(stranger.sign(TARBALL, SIGNING.comment), signing=signing)


def test_the_legacy_form_is_bounded() -> None:
    signer = Signer()
    signing = evolve(SIGNING, keys=frozenset({signer.public}))
    big = bytes(LEGACY_LIMIT + 1)
    assert check(signer.sign(big, SIGNING.comment), big, signing) == signer.public
    with pytest.raises(SignatureInvalid, match="legacy form"):
        check(signer.sign(big, SIGNING.comment, legacy=True), big, signing)


def test_without_the_library_nothing_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "nacl"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nacl", None)
    with pytest.raises(ToolMissing, match="setup --with signatures"):
        check(recorded("first"))
