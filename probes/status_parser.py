"""What a control script printed -> `ProcessState`: by words, never by substrings, and UNKNOWN whenever in doubt.

The convention is one word, `started` or `stoped` (sic). Most scripts of the field print a sentence: `running, pid=12`,
`falcon-agent now is running, pid=12`, `./bin/app started, pid=12`, `falcon-judge is stoped`, `not running`. Two rules
take that in without guessing:

- a line that says a state PLAINLY decides: `[subject] [is|now|...] STATE [pid] [ok]`, where the subject is one word or
  path, and no word of negation, doubt, number or past (`nothing running`, `3 started`, `was stopped`);
- a line that mentions a state in any other way (`running: no`, `started?`, `is dead`) spoils the whole: UNKNOWN. So do
  plain lines that contradict each other. Lines without such a word are noise, except one kind: where the script
  could not run a command of its own (`ps: command not found`, `Cannot fork`), STOPPED is not believed. What was to look
  for the process did not; most scripts of the field then say stoped of an agent that runs.

UNKNOWN never causes a start or a stop, so what is plain is short and closed on purpose. Wrongly STOPPED is the worst
answer (a second copy is started, a version is switched under a live process): `stopped, pid 12` may as well be a
process held by SIGSTOP, so a pid is plain only beside `started` and `running`. For all else a host names the words of
an agent itself (`status_words`).

This module reads text alone. Exit codes, time limits and scripts that can't run are the caller's to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from probes.observed import ProcessState
from probes.text import sanitize

StatusWords = Mapping[str, Mapping[str, ProcessState]]
"""Further words of a host: an agent's name, or `*` for all -> phrase -> what it says."""

_RUNNING, _STOPPED = ProcessState.RUNNING, ProcessState.STOPPED
_STATES = {
    **dict.fromkeys(("started", "running", "up and running"), _RUNNING),
    **dict.fromkeys(("stoped", "stopped", "not running", "not-running", "not_running", "isn't running"), _STOPPED),
}
# Words that speak of a state and are understood in no line.
_OTHER_STATES = ("active", "alive", "crashed", "dead", "defunct", "exited", "inactive", "zombie")

_ESCAPES = re.compile(r"\x1b(?:\[[0-9;]*m|\(B|\[\d*(G))")  # colours; `G` goes to a column, as `[  OK  ]` is printed
_PID_BELOW = re.compile(
    r"(\bpids?[ \t]*[:=])[ \t\r]*\n[ \t]*(?=\d+[ \t\r]*(?:\n|$))"
)  # `echo running, pid=; cat app.pid`
_KINDS = "agent|app|application|daemon|module|process|program|server|service"
_FILLERS = "is|now|already|currently|still"
_PID = r"[(\[]? (?:pids?|process\ ids?)(?:\ is)? \ ?[:=]?\ ? [1-9]\d* (?:(?:,\ ?|\ )[1-9]\d*)* [)\]]?"
_OK = r"[(\[]?\ ?ok\ ?[)\]]?"
# Of a lower-case line, each run of white space one blank: on long runs the pattern would backtrack for too long.
_PLAIN = rf"""
    (?: \[\ ?ok\ ?\]\  )?
    [*"'`(\[\ ]*                                     # no '!' and no '#' here: '!started' is no 'started'
    (?: (?:the\ )? (?:(?:{_KINDS})\ )?
        (?P<subject> (?! (?:{_FILLERS}|not|isn't|pids?)\b ) (?:\.{{0,2}}/|~/)? [a-z0-9_] (?:[\w.+@~/-]*[a-z0-9_])? )
        ["'`)\]]*
        (?: \ (?:status|state) (?=\ ?[:=]|\ is\ ) )?
        (?: \ ?[:=]\ ? | \ -\  | \ (?P<is>(?:now\ )?is\ )? | (?=\ ?[(\[]) )
    )?
    (?P<pid_before> \ ?{_PID} [,:]?\  )?
    (?: (?:{_FILLERS})\  ){{0,3}}
    (?P<state> STATES )
    (?: \ already | \ now )?
    (?P<pid> [\ .,;:!-]* (?:(?:with|as)\ )? {_PID} )?
    (?: [\ .,!;…-]* {_OK} )?
    [\ "'`*)\].,!;…]*                                # no '?'
"""
# In the words of bash, dash, busybox, ksh, zsh and ps; a script's own `config: not found` is none of them.
_NO_FORK = r"\b(?:cannot|can't) fork\b|: fork: |\bfork failed\b"
_NOT_RUN = re.compile(
    r"command not found\s*$|\bcommand not found: |[:\[](?: line)? ?\d+\]?: \S+: (?:inaccessible or )?not found\s*$"
    rf"|/proc must be mounted|{_NO_FORK}",
    re.MULTILINE | re.IGNORECASE,
)
_NEGATIONS = frozenset(
    """
    no not non none nor neither never nothing nobody noone nowhere un without cannot cant dont doesnt didnt isnt arent
    aint wasnt werent wont false null nil na
    """.split()
)
_NO_SUBJECT = _NEGATIONS | frozenset(
    """
    maybe perhaps possibly probably likely unlikely apparently seemingly supposedly presumably unknown unclear unsure
    uncertain either whether if unless until till when while once should could would might may must can will shall
    expected wanted desired required requested supposed target next

    zero one two three four five six seven eight nine ten eleven twelve dozen some any all both each every several many
    few most more less half quarter partly partially mostly almost nearly barely hardly only another other others
    everything something anything someone anyone everyone somebody anybody everybody

    was were had has have been being be did done last previous previously former formerly earlier before after since ago
    yesterday recently just old new finished ended ceased quit exit died killed fail fails failed failing failure error
    errors err warning warn fatal critical

    cut start starts starting restart restarting restarted stop stops stopping keep keeps kept try trying check checking
    find found see wait waiting begin begins began get gets got go goes pending auto long dry up down

    who what which that there here this these those to a an the and or but of by in on at as for from with than then
    """.split()
)
# Of a word of letters alone that stands before a state without `is`: `checking started`, `hopefully running`.
_NO_NOUN = re.compile(r"[a-z]+(?:ing|ly|ed)")
_NUMBER = re.compile(r"[\d.,]+[a-z]{0,4}")


def process_state(output: str, name: str = "", words: Mapping[str, ProcessState] | None = None) -> ProcessState:
    """Judge what `control status` printed.

    `name`: the agent's own, which is a subject even where it looks like another kind of word (`scheduled started`).
    `words`: further phrases that a host has for a state. Lines end at a line feed: a lone carriage return, as progress
    bars print it, doesn't begin a new one.
    """
    further = tuple((" ".join(phrase.lower().split()), state) for phrase, state in (words or {}).items())
    if not further and (word := output.strip().lower()) in _STATES:
        return _STATES[word]  # what the convention asks for; the patterns cost 2 ms to make
    text = _ESCAPES.sub(lambda code: " " if code[1] else "", output).lower()
    found = set(_states(text, name, further))
    if len(found) != 1 or (_STOPPED in found and _NOT_RUN.search(text)):
        return ProcessState.UNKNOWN
    return found.pop()


def _states(text: str, name: str, further: _Further) -> Iterator[ProcessState]:
    """What each line says that says anything of a state: UNKNOWN where it doesn't say so plainly."""
    for line in _PID_BELOW.sub(r"\1", text).split("\n"):
        line = " ".join(line.split()).replace("\u2019", "'")
        state = _plainly(line, name, further)
        if state is not ProcessState.UNKNOWN or _mentions(further).search(line):
            yield state


def could_not_fork(output: str) -> bool:
    """Whether a script says that the host let it start no command of its own."""
    return re.search(_NO_FORK, output, re.IGNORECASE) is not None


def words_of(name: str, words: StatusWords) -> Mapping[str, ProcessState]:
    """The further words of one agent: its own win over those of all."""
    return {**words.get("*", {}), **words.get(name, {})}


def last_words(output: bytes | str, limit: int = 200) -> str:
    """Return the last line that isn't blank, made safe for a report, a log and a terminal; empty if there is none. One
    that says why the script could not look comes first.

    At most `limit` characters; what doesn't print, and bytes that aren't UTF-8, come as backslash escapes.
    """
    text = output.decode("utf-8", "backslashreplace") if isinstance(output, bytes) else output
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return sanitize(next(filter(_NOT_RUN.search, lines), lines[-1]), limit) if lines else ""


def last_line(output: bytes | str, limit: int = 200) -> str:
    """Return the same where it stands for a state that is NOT known: a line that by itself would read as one is given
    as `unclear: started`."""
    line = last_words(output, limit)
    if process_state(line) is not ProcessState.UNKNOWN:
        line = sanitize(f"unclear: {line}", limit)
    return line


_Further = tuple[tuple[str, ProcessState], ...]


def _plainly(line: str, name: str, further: _Further) -> ProcessState:
    match = _plain(further).fullmatch(line)
    if match is None:
        return ProcessState.UNKNOWN
    state = {**_STATES, **dict(further)}[match["state"]]
    subject = match["subject"]
    if subject is not None and not _is_subject(subject, name.lower(), has_is=bool(match["is"])):
        return ProcessState.UNKNOWN
    has_pid = match["pid"] or match["pid_before"]
    return ProcessState.UNKNOWN if state is _STOPPED and has_pid else state


def _is_subject(subject: str, name: str, *, has_is: bool) -> bool:
    """Whether a word can be what a line speaks of, and can't be what changes the meaning of the line."""
    word = subject.rpartition("/")[2]
    if word in _NO_SUBJECT or word in _STATES or word in _OTHER_STATES or _NUMBER.fullmatch(word):
        return False
    if word == name or (has_is and word.isalpha()):
        return True
    first = re.split(r"[^a-z0-9]", word)[0]
    return not (first in _NEGATIONS or _NUMBER.fullmatch(first) or _NO_NOUN.fullmatch(word))


@lru_cache
def _plain(further: _Further) -> re.Pattern[str]:
    return re.compile(_PLAIN.replace("STATES", _alternatives((*_STATES, *dict(further)))), re.VERBOSE | re.ASCII)


@lru_cache
def _mentions(further: _Further) -> re.Pattern[str]:
    known = _alternatives((*_STATES, *_OTHER_STATES, *dict(further)))
    return re.compile(rf"(?<![^\W\d_])(?:{known})(?![^\W\d_])", re.VERBOSE)


def _alternatives(phrases: tuple[str, ...]) -> str:
    """A pattern of any of these; the longest is tried first."""
    return "|".join(re.escape(phrase) for phrase in sorted(set(phrases), key=lambda phrase: (-len(phrase), phrase)))
