"""All cases, and how many of a group there must be at least."""

from __future__ import annotations

from tests.hostile import archives, exchanges, responses

CORPUS = (*archives.cases(), *responses.cases(), *exchanges.cases())
LEAST = {"archive": 40, "response": 60, "http": 30}
