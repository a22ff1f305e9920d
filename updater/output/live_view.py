"""The display that stands on a terminal's standard error while `apply` works, and is gone when it has done.

One line an agent that something is done with: the step, and of a fetch bytes, rate and time left, of all else its age.
It shows what progress.py keeps; rich draws it, some times a second, in a thread of its own.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from reconcile.decide.actions import Action, Outcome
from reconcile.decide.admission import duration
from reconcile.decide.evaluate import AgentEvaluation
from updater.output.progress import Progress, Step, interruption, now, step_of
from updater.output.rich_view import console

_A_SECOND = 6  # times that it is drawn
_AT_ONCE_S = 0.7  # what takes no longer than this needs no words
_BAR = 16  # columns
_WORDS = len("999.9 MiB of 999.9 MiB  999.9 KiB/s  59m59s left")  # what a bar leaves room for
_GAP = 2  # between two columns
_FRAMES, _PLAIN_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "|/-\\"


class Forgiving:
    """A terminal that may go away: what can't be written to it then is lost, and no error of ours."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self.encoding = terminal.encoding

    def write(self, text: str) -> int:
        with suppress(OSError):
            self._terminal.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self._terminal.flush()

    def isatty(self) -> bool:
        return self._terminal.isatty()

    def fileno(self) -> int:
        return self._terminal.fileno()


class Display(Progress):
    """A context manager: it stands from `with` to its end."""

    def __init__(self, terminal: TextIO, *, colour: bool) -> None:
        self._out: Console = console(Forgiving(terminal), colour=colour)  # type: ignore[arg-type]
        self._guard = threading.Lock()
        self._steps: dict[str, Step | None] = {}  # None: between two steps; in the order in which agents began
        self._phase = ""  # what goes on where no step does
        self._since = 0.0
        self._waits_at = 0.0
        self._rest: tuple[str, float] | None = None  # why, and until when
        self._over = False
        self._interrupted = ""
        try:
            _FRAMES.encode(self._out.encoding)
            self._frames = _FRAMES
        except (UnicodeEncodeError, LookupError):
            self._frames = _PLAIN_FRAMES
        self._live = Live(  # which asks at once what to draw
            console=self._out,
            get_renderable=self._drawn,
            refresh_per_second=_A_SECOND,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    @property
    def width(self) -> int:
        return self._out.width

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over = True
        self._live.stop()
        if self._interrupted:  # which stays, unlike what was drawn
            self._out.print(Text(self._interrupted, style="bad"))

    # --- reported by the pass and its agents' threads ---

    def pass_begins(self) -> None:
        with self._guard:
            self._steps.clear()
            self._phase, self._since, self._rest = "observing the agents, asking the server", now(), None

    def waits(self) -> None:
        self._waits_at = now()

    def decided(self) -> None:
        with self._guard:
            self._phase, self._since = "observing again, reporting", now()

    def begins(self, view: AgentEvaluation, action: Action) -> None:
        with self._guard:
            self._steps[view.desired.name] = Step(action, now())

    def arrived(self, view: AgentEvaluation, size: int, total: int | None) -> None:
        # Called for each block of a download: two assignments, no lock. What is drawn now and then may be a block old.
        step = self._steps.get(view.desired.name)
        if step is not None:
            step.size, step.total = size, total

    def ended(self, view: AgentEvaluation, outcome: Outcome) -> None:
        with self._guard:
            self._steps[view.desired.name] = None
            self._since = now()

    def interrupted(self, finishing: tuple[str, ...], within_s: float) -> None:
        self._interrupted = interruption(finishing, within_s)

    def rests(self, watched: tuple[str, ...], unready: tuple[str, ...], seconds: float) -> None:
        words = f"{', '.join(watched)} started: good after a watch"
        if not watched:
            words = f"not as desired yet: {', '.join(unready)}; the next pass"
        with self._guard:
            self._rest = (words, now() + seconds)

    # --- drawn ---

    def _drawn(self) -> RenderableType:
        at = now()
        with self._guard:
            steps = {name: step for name, step in self._steps.items() if step is not None}
            rest, phase, since = self._rest, self._phase, self._since
        if self._over:
            return Group()
        if self._interrupted:
            words = Text(self._interrupted, style="bad")
            return Group(words, self._rows(steps, at)) if steps else words
        if steps:
            return self._rows(steps, at)
        if rest is not None:
            return self._line(rest[0], f"in {duration(max(0.0, rest[1] - at))}", at)
        if at - since < _AT_ONCE_S:
            return Group()
        if at - self._waits_at < 1:
            phase = "waiting for the pass of another updater"
        return self._line(phase, duration(at - since), at)

    def _line(self, words: str, age: str, at: float) -> RenderableType:
        row = Table.grid(padding=(0, _GAP))
        row.add_column(no_wrap=True, width=1)
        row.add_column(no_wrap=True, overflow="ellipsis", max_width=max(1, self._out.width - 1 - 2 * _GAP - len(age)))
        row.add_column(no_wrap=True)
        row.add_row(self._frame(at), Text(words, style="dim"), Text(age, style="dim"))
        return row

    def _rows(self, steps: dict[str, Step], at: float) -> RenderableType:
        room = max(1, self._out.height - 2)
        visible = list(steps.items())[:room]
        names = min(max(len(name) for name, _ in visible), max(12, self._out.width // 3))
        left = max(2, self._out.width - 1 - names - 3 * _GAP)  # for the step, and how far it is
        labels = min(max(len(step_of(step.action)) for _, step in visible), max(1, left - len("59m59s")))
        table = Table.grid(padding=(0, _GAP))
        table.add_column(no_wrap=True, width=1)
        table.add_column(no_wrap=True, style="name", overflow="ellipsis", max_width=names)
        table.add_column(no_wrap=True, overflow="ellipsis", max_width=labels)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for name, step in visible:
            table.add_row(self._frame(at), name, step_of(step.action), self._how_far(step, at, left - labels))
        hidden = len(steps) - room
        return table if hidden <= 0 else Group(table, Text(f"   and {hidden} more agents", style="dim"))

    def _how_far(self, step: Step, at: float, columns: int) -> RenderableType:
        words = Text(step.words(at, columns), style="dim")
        if step.size is None or step.total is None or columns < _BAR + _GAP + _WORDS:
            return words
        both = Table.grid(padding=(0, _GAP))
        bar = ProgressBar(total=max(1, step.total), completed=step.size, width=_BAR, complete_style="good")
        both.add_row(bar, words)
        return both

    def _frame(self, at: float) -> Text:
        return Text(self._frames[int(at * _A_SECOND) % len(self._frames)], style="pending")
