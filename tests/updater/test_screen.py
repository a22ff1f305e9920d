"""What stands on a terminal where foreign words hold what rich takes for markup. The layout is tests/e2e's business."""

from __future__ import annotations

import io

from attrs import evolve

from reconcile.decide.conditions import FALSE, Condition
from tests.updater.conftest import Folder
from tests.updater.test_render import looked
from updater.screen import Screen, console

WORDS = "[/x] [bold]loud[/bold] [link=http://h]here[/link]"


def test_brackets_in_foreign_words_are_brackets(folder: Folder) -> None:
    folder.want()
    document = looked(folder)
    [told] = document.agents
    conditions = (Condition(type="Running", status=FALSE, reason="StatusUnknown", message=WORDS),)
    document = evolve(document, host=WORDS, agents=(evolve(told, conditions=conditions),))
    shown = io.StringIO()
    out = console(shown, colour=False)
    out.width = 200
    Screen(out).status(document)
    assert shown.getvalue().count(WORDS) == 2
