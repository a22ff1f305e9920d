"""How hypothesis works here: no law passes or fails by time, and nothing is written into the checkout."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("steady", deadline=None, database=None)
settings.load_profile("steady")
