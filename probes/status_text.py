"""What a control script printed -> `ProcessState`: by words, never by substrings, and UNKNOWN whenever in doubt.

The convention is one word, `started` or `stoped` (sic). The field also prints `Stopped`, `falcon-agent is started.`,
`started, pid=123`, colours, and warnings on the lines around. Three rules take that in without guessing:

- a line that says one of the words PLAINLY, with nothing beside it but what can't change its meaning, decides;
- a line that mentions a word in any other way (`3 workers started`, `started?`) decides nothing, but contradicts a
  plain line of the other word; lines without a word are noise;
- a line that mentions both words, or a word and a negation, spoils the whole: UNKNOWN.

UNKNOWN never causes a start or a stop, so the list of what is plain is short and closed on purpose. Wrongly STOPPED
is the worst answer (a second copy is started, a version is switched under a live process): `stopped, pid 12` may as
well be a process held by SIGSTOP, so a pid is plain only beside `started`.

This module reads text alone. Exit codes, time limits and scripts that can't run are the caller's to judge.
"""

from __future__ import annotations

import re

from probes.observed import ProcessState

_WORDS = {"started": ProcessState.RUNNING, "stoped": ProcessState.STOPPED, "stopped": ProcessState.STOPPED}
_NOUNS = ("agent", "app", "daemon", "process", "server", "service", "state", "status")

_COLOUR = r"\x1b\[[0-9;]*m"
_MENTION = r"(?<![^\W\d_])(?:started|stopped|stoped)(?![^\W\d_])"
_NEGATION = r"(?<![^\W\d_])(?:no|not|non|none|nor|neither|never|un|cannot|cant|isnt|wasnt)(?![^\W\d_])|n['\u2019]t\b"
_PLAIN = r"""
    [\s"'`*(\[]*                                     # no '!' and no '#' here: '!started' is no 'started'
    (?: (?:the\s+)? (?:{subjects}) (?: \s*[:=]\s* | \s+-\s+ | \s+ ) )?
    (?: (?:is|now)\s+ ){{0,2}}
    (?P<word> started | stopped | stoped )
    (?P<pid> [\s.,;]* [(\[]? \s* pids? \s*[:=]?\s* [1-9]\d* (?:[\s,]+[1-9]\d*)* )?
    [\s"'`*)\].,;!…]*                                # no '?'
"""


def process_state(output: str, name: str = "") -> ProcessState:
    """Judge what `control status` printed.

    `name` is the agent's own name, which a plain line may carry as its subject (`falcon-agent is started`); without
    it only a few common nouns may stand there. Lines end at a line feed: a lone carriage return, as progress bars
    print it, doesn't begin a new one.
    """
    if (word := output.strip().lower()) in _WORDS:
        return _WORDS[word]  # what the convention asks for; the patterns cost 2 ms to make
    plain: set[ProcessState] = set()
    mentioned: set[ProcessState] = set()
    for line in re.sub(_COLOUR, "", output).lower().split("\n"):
        words = {_WORDS[word] for word in re.findall(_MENTION, line)}
        if words and re.search(_NEGATION, line):
            return ProcessState.UNKNOWN
        mentioned |= words
        plain |= {_plainly(line, name)} - {ProcessState.UNKNOWN}
    return plain.pop() if len(plain) == 1 == len(mentioned) else ProcessState.UNKNOWN


def last_line(output: bytes | str, limit: int = 200) -> str:
    """Return the last line that isn't blank, made safe for a report, a log and a terminal; empty if there is none.

    At most `limit` characters; what doesn't print, and bytes that aren't UTF-8, come as backslash escapes. It stands
    for a state that is NOT known, so a line that by itself would read as one is given as `unclear: started`.
    """
    text = output.decode("utf-8", "backslashreplace") if isinstance(output, bytes) else output
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    shown = _cut(lines[-1], limit)
    if _plainly(shown.lower(), name="") is not ProcessState.UNKNOWN:
        shown = _cut(f"unclear: {shown}", limit)
    return shown


def _plainly(line: str, name: str) -> ProcessState:
    subjects = "|".join(re.escape(noun) for noun in (*_NOUNS, name.lower()) if noun)
    plain = re.compile(_PLAIN.format(subjects=subjects), re.VERBOSE)
    # White space is collapsed first: on long runs of it the pattern would backtrack for too long.
    match = plain.fullmatch(" ".join(line.split()))
    if not match:
        return ProcessState.UNKNOWN
    state = _WORDS[match["word"]]
    return ProcessState.UNKNOWN if state is ProcessState.STOPPED and match["pid"] else state


def printable(text: str) -> str:
    """Foreign text with everything escaped that doesn't print: line ends, control codes, lone surrogates."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _cut(line: str, limit: int) -> str:
    """Escape what doesn't print, and shorten to `limit` characters without breaking an escape in two."""
    pieces = [printable(character) for character in line[: limit + 1]]
    if sum(map(len, pieces)) <= limit:
        return "".join(pieces)
    while sum(map(len, pieces)) > limit - len("..."):
        pieces.pop()
    return "".join(pieces) + "..."
