"""minisign's text forms: what the real program writes is read, and nothing else."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.minisign import parse_public_key, parse_signature

RECORDED = Path(__file__).parents[1] / "act" / "minisign"
KEY = (RECORDED / "first.pub").read_text().splitlines()[1]
SIGNATURE = (RECORDED / "first.minisig").read_bytes()
COMMENT = b"linux_amd64/falcon-agent-1.0.0.tar.gz"


def test_what_the_real_program_writes() -> None:
    key = parse_public_key(KEY)
    assert (RECORDED / "first.pub").read_text().startswith(f"untrusted comment: minisign public key {key.name}\n")
    prehashed, legacy = parse_signature(SIGNATURE), parse_signature((RECORDED / "first-legacy.minisig").read_bytes())
    assert (prehashed.prehashed, legacy.prehashed) == (True, False)
    assert prehashed.key_id == legacy.key_id == key.key_id
    assert prehashed.comment == legacy.comment == COMMENT


@pytest.mark.parametrize("change", [lambda s: s.replace(b"\n", b"\r\n"), lambda s: s.removesuffix(b"\n")])
def test_line_ends_of_other_systems(change: object) -> None:
    assert callable(change)
    assert parse_signature(change(SIGNATURE)) == parse_signature(SIGNATURE)


LINES = SIGNATURE.splitlines(keepends=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n\n\n\n",
        b"<html>not found</html>",
        b"".join(LINES[:3]),
        SIGNATURE + b"more\n",
        SIGNATURE + b"\n",
        b"comment\n" + b"".join(LINES[1:]),
        LINES[0] + LINES[1] + b"untrusted comment: x\n" + LINES[3],
        LINES[0] + b" " + b"".join(LINES[1:]),
        LINES[0] + LINES[1].replace(b"=", b"") + b"".join(LINES[2:]),
        LINES[0] + LINES[3] + LINES[2] + LINES[3],
        LINES[0] + LINES[1] + LINES[2] + LINES[1],
        LINES[0] + base64.b64encode(b"EX" + bytes(72)) + b"\n" + LINES[2] + LINES[3],
        LINES[0] + LINES[1].replace(b"RU", b"\xff\xfe") + b"".join(LINES[2:]),
    ],
)
def test_what_is_no_signature(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"expected|its|it is not base64"):
        parse_signature(content)


POSITION = st.integers(0, len(SIGNATURE))
MUTATED = st.builds(lambda a, new, b: SIGNATURE[:a] + new + SIGNATURE[b:], POSITION, st.binary(max_size=4), POSITION)


@given(st.binary(max_size=400) | MUTATED)
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    try:
        found = parse_signature(content)
    except ValueError:
        return
    assert (len(found.key_id), len(found.signature), len(found.global_signature)) == (8, 64, 64)


@pytest.mark.parametrize(
    "text", ["", "minisign.pub", KEY[:-1], f"{KEY} ", f"{KEY}A", KEY.replace("RW", "RU"), "ü" * 56, KEY[:-2] + "=="]
)
def test_what_is_no_public_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected a minisign public key|base64"):
        parse_public_key(text)


def test_a_secret_key_is_called_one() -> None:
    secret = base64.b64encode(b"EdScB2" + bytes(152)).decode()
    with pytest.raises(ValueError, match="SECRET key"):
        parse_public_key(secret)
