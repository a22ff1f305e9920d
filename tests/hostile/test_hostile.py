"""The corpus, case by case: each ends as it must."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from reconcile.act.host import tar_stream
from tests.hostile.__main__ import figures
from tests.hostile.case import Case, Seen, Verdict, judge
from tests.hostile.corpus import CORPUS, LEAST


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else []) for case in CORPUS]
)
def test_it_ends_as_it_must(case: Case, tmp_path: Path) -> None:
    assert judge(case, tmp_path).wrong == ""


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.id) for case in CORPUS if case.group == "archive" and not case.slow]
)
def test_an_archive_ends_as_it_must_where_there_is_zlib_alone(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most hosts inflate by isal (docs/adr/0030); where it has no wheel every archive must meet the same end."""
    monkeypatch.setattr(tar_stream, "inflater", zlib)
    assert judge(case, tmp_path).wrong == ""


def test_isal_is_what_the_other_tests_inflate_by() -> None:
    """Or the two would be one."""
    pytest.importorskip("isal", reason="isal has no wheel for this platform")
    assert tar_stream.inflater.__name__ == "isal.isal_zlib"


def test_names_are_distinct() -> None:
    assert len({case.id for case in CORPUS}) == len(CORPUS)


@pytest.mark.parametrize("group", LEAST)
def test_the_corpus_is_no_smaller_than_promised(group: str) -> None:
    """And has look-alikes: a parser that refuses everything would pass the rest."""
    hostile = [case for case in CORPUS if case.group == group and not case.benign]
    assert len(hostile) >= LEAST[group]
    assert [case for case in CORPUS if case.group == group and case.benign]


def test_the_figures_count_bombs_by_how_they_end() -> None:
    case = Case(group="bomb", name="one", expected="69", observe=lambda _: Seen(end="69"))
    measured = [Seen(end="69", peak=42 * 1024, seconds=0.4), Seen(end="69", peak=45 * 1024, seconds=0.1)]
    verdicts = [Verdict(case=case, seen=seen) for seen in measured]
    assert "| 69 | 2 | 0.4 s | 45 MiB |" in figures(verdicts, []).splitlines()
