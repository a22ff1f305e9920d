"""Times on the page, as people say them."""

from __future__ import annotations

import re

import pytest

from updater.monitoring.html import Html
from updater.monitoring.page_parts import Clock

CLOCK = Clock(now=1000.0, planned_at=990.0)


def text(html: Html) -> str:
    return re.sub("<[^>]*>", "", html.text)


@pytest.mark.parametrize(
    ("at", "said"),
    [(1000.0, "just now"), (999.5, "just now"), (999.0, "1s ago"), (940.0, "1m00s ago"), (1005.0, "just now")],
)
def test_what_has_passed(at: float, said: str) -> None:
    assert text(CLOCK.ago(at)) == said


@pytest.mark.parametrize(("at", "said"), [(900.0, "now"), (1000.5, "now"), (1001.0, "in 1s"), (1090.0, "in 1m30s")])
def test_what_comes(at: float, said: str) -> None:
    assert text(CLOCK.ahead(at)) == said


@pytest.mark.parametrize(("at", "said"), [(900.0, "1s more"), (1000.5, "1s more"), (1002.0, "2s more")])
def test_what_is_left(at: float, said: str) -> None:
    assert text(CLOCK.left(at)) == said


def test_a_time_is_there_in_full_too() -> None:
    assert CLOCK.ago(0.0).text.startswith('<time datetime="1970-01-01T00:00:00Z" title="1970-01-01T00:00:00Z">')


def test_a_span_is_none_below_nothing() -> None:
    assert [CLOCK.span(since) for since in (990.0, 1010.0)] == ["10s", "0s"]
