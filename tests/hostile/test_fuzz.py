"""A share of the fuzzing, always the same by its seed; and that it finds a fault where there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from reconcile.decide.policy import accept
from reconcile.errors import FetchFailed
from reconcile.net import remote_files
from tests.hostile import fuzz
from updater.sources import wire


def test_mutated_responses() -> None:
    fuzzed = fuzz.responses(3_000)
    assert fuzzed.failures == []
    assert {"good entry served", "refused whole", "served"} <= set(fuzzed.ends)


def test_mutated_digest_files() -> None:
    fuzzed = fuzz.digest_files(3_000)
    assert fuzzed.failures == []
    assert set(fuzzed.ends) == {"read", "refused"}


@pytest.mark.slow
def test_mutated_archives(tmp_path: Path) -> None:
    fuzzed = fuzz.archives(400, tmp_path)
    assert fuzzed.failures == []
    assert {"unpacked", "UnpackRefused"} <= set(fuzzed.ends)


def test_a_parser_that_lets_wrong_types_through_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_problem", lambda found: "")
    assert fuzz.responses(200).failures


def test_an_entry_that_takes_the_whole_answer_with_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "_DEPTH", 5)
    assert fuzz.responses(200).failures


def test_a_policy_that_shows_what_it_refuses_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accept, "escaped", lambda text: text)
    assert fuzz.responses(2_000).failures


def test_a_parser_of_digest_files_that_takes_any_word_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def anywhere(content: bytes, url: str) -> str:
        found = next((word for word in content.split() if len(word) == 32), None)
        if found is None:
            raise FetchFailed("none")
        return f"md5:{found.decode('latin-1').lower()}"

    monkeypatch.setattr(fuzz, "parse_digest_file", anywhere)
    assert fuzz.digest_files(2_000).failures
    assert remote_files.parse_digest_file(b"4" * 32, "http://files/x.md5") == f"md5:{'4' * 32}"
