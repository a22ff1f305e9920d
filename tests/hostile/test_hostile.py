"""The corpus, case by case: each ends as it must."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hostile.case import Case, judge
from tests.hostile.corpus import CORPUS, LEAST


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else []) for case in CORPUS]
)
def test_it_ends_as_it_must(case: Case, tmp_path: Path) -> None:
    assert judge(case, tmp_path).wrong == ""


def test_names_are_told_apart() -> None:
    assert len({case.id for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("group", LEAST)
def test_the_corpus_is_no_smaller_than_promised(group: str) -> None:
    """And has look-alikes: a parser that refuses everything would pass the rest."""
    hostile = [case for case in CORPUS if case.group == group and not case.benign]
    assert len(hostile) >= LEAST[group]
    assert [case for case in CORPUS if case.group == group and case.benign]
