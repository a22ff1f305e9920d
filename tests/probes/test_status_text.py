"""What control scripts print, as one table, and the laws that no output breaks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.observed import ProcessState
from probes.status_text import last_line, process_state

R, S, U = ProcessState.RUNNING, ProcessState.STOPPED, ProcessState.UNKNOWN

TABLE = [
    # the convention, and what the contract says to tolerate
    ("started\n", R),
    ("stoped\n", S),
    ("stopped\n", S),
    ("Started", R),
    ("  STOPED \t\r\n", S),
    ("\n\n Stopped\n\n", S),
    # plain: nothing beside the word can change its meaning
    ("started.", R),
    ("stopped!", S),
    ("started...", R),
    ("'started'", R),
    ("[stoped]", S),
    ("* started", R),
    ("\x1b[32mstarted\x1b[0m\n", R),
    ("app started", R),
    ("the agent is stopped.", S),
    ("service is now started", R),
    ("status: started", R),
    ("Status = stoped", S),
    ("falcon-agent is started.", R),
    ("falcon-agent started", R),
    ("falcon-agent - stopped", S),
    ("started, pid=123", R),
    ("started (pid 12)", R),
    ("started [pid: 12 13 14]", R),
    ("falcon-agent is started..., pid=4711", R),
    # other lines around are noise
    ("warning: cannot read x\nstoped\n", S),
    ("falcon-agent 5.1.2\nstarted\nnot bad\n", R),
    ("starting\nstarted\n", R),
    ("restarted 3 times\nstoped\n", S),
    ("started\nstarted\n", R),
    ("3 workers started\nstarted\n", R),
    # nothing is said plainly
    ("", U),
    ("\n \n", U),
    ("starting", U),
    ("running", U),
    ("restarted", U),
    ("unstarted", U),
    ("nonstopped", U),
    ("start", U),
    ("stop", U),
    ("started?", U),
    ("!started", U),
    ("#started", U),
    ("$started", U),
    ("started: 0", U),
    ("started=false", U),
    ("started no", U),
    ("started (pid 0)", U),
    ("started, pid=", U),
    ("3 started", U),
    ("half started", U),
    ("was started", U),
    ("failed to be started", U),
    ("to be stopped", U),
    ("other-agent stopped", U),
    ("health-check started", U),
    ("[cut] started", U),
    ("started [cut]", U),
    ("checking...\rstarted", U),
    ("stopped, pid 12", U),  # held by SIGSTOP?
    ("st\x00arted", U),
    ("start\ned", U),
    # negations
    ("not started", U),
    ("Not Started", U),
    ("not-started", U),
    ("not_started", U),
    ("un-started", U),
    ("isn't started", U),
    ("isn\u2019t stopped", U),
    ("app is not stopped", U),
    ("never started", U),
    ("status: no, stoped", U),
    ("not started\nstarted\n", U),
    ("stoped\nnot stopped\n", U),
    # both words, contradictions
    ("stopped or never started", U),
    ("started/stoped", U),
    ("started stopped", U),
    ("started\nstoped\n", U),
    ("stoped\n3 workers started\n", U),
    ("started?\nstoped\n", U),
]


@pytest.mark.parametrize(("output", "state"), TABLE, ids=[ascii(output) for output, _ in TABLE])
def test_reads_what_scripts_print(output: str, state: ProcessState) -> None:
    assert process_state(output, "falcon-agent") is state


def test_takes_no_strangers_name_for_the_agents() -> None:
    assert process_state("falcon-agent stopped") is U
    assert process_state("falcon-agent stopped", "falcon-judge") is U


@pytest.mark.parametrize("name", ["not", "no", "never", "un", "started", "x started or"])
def test_no_name_of_an_agent_disarms_a_negation(name: str) -> None:
    assert process_state(f"{name} stopped", name) is U


def test_a_name_is_no_pattern() -> None:
    assert process_state("a.b stopped", "a.b") is S
    assert process_state("axb stopped", "a.b") is U


def test_long_white_space_is_read_at_once() -> None:
    assert process_state("started" + 50_000 * " " + "x") is U
    assert process_state("started" + 50_000 * " .") is R


@given(st.text())
def test_says_a_state_only_where_its_word_stands(output: str) -> None:
    state = process_state(output)
    assert state is U or {R: "started", S: "sto"}[state] in output.lower()


words = st.lists(st.sampled_from(["started", "stoped", "not", "is", "pid", "1", "\n", "-", "stopped", ",", "?"]))


@given(words, words)
def test_both_words_are_never_a_state(before: list[str], after: list[str]) -> None:
    assert process_state(" ".join([*before, "\nstarted\n", *after, "\nstoped"])) is U


@given(words)
def test_a_negation_on_the_line_is_never_a_state(around: list[str]) -> None:
    line = " ".join(around).replace("\n", " ")
    assert process_state(f"not {line} started") is U
    assert process_state(f"stoped {line} never") is U


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        (b"", ""),
        (b" \n\r\n", ""),
        (b"one\ntwo\n\n", "two"),
        (b"  padded  ", "padded"),
        (b"\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        (b"caf\xc3\xa9 \xff", "café \\xff"),
        ("right\u202eleft", "right\\u202eleft"),
        ("lone \udc80", "lone \\udc80"),
        ("stoped\nstarted", "unclear: started"),
        ("  Stopped. ", "unclear: Stopped."),
        (b"\x00\x00", "\\x00\\x00"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
        ("\x01" * 60, "\\x01" * 49 + "..."),  # never half an escape
    ],
)
def test_last_line(output: bytes | str, shown: str) -> None:
    assert last_line(output) == shown


def test_last_line_keeps_to_its_limit_when_it_is_unclear() -> None:
    assert last_line("started", limit=12) == "unclear: ..."


@given(st.binary() | st.text() | st.sampled_from(["started", "stoped\r", "\tSTARTED\n", "Stopped"]))
def test_last_line_is_safe_to_send(output: bytes | str) -> None:
    shown = last_line(output)
    assert len(shown) <= 200
    assert shown.isprintable()
    assert not re.fullmatch(r"\W*(started|stopp?ed)\W*", shown.lower())
