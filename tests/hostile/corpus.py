"""All cases, and how many of a group there must be at least."""

from __future__ import annotations

from tests.hostile import archives, bombs, exchanges, responses, scripts
from tests.hostile.case import Case
from tests.hostile.doors import QUICK, REAL, Pace

LEAST = {"archive": 40, "response": 60, "http": 30, "control": 30}


def whole_corpus(pace: Pace = REAL) -> list[Case]:
    """Every case; those of HTTP by the limits of the field, unless another pace is asked for."""
    return [
        *archives.cases(),
        *responses.cases(),
        *exchanges.cases(pace),
        *scripts.cases(),
        *bombs.cases(),
    ]


CORPUS = tuple(case for case in whole_corpus(QUICK) if not case.long)
