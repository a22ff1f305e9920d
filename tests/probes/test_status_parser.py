"""What control scripts print, as one table, and the laws that no output breaks."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from probes.observed import ProcessState
from probes.status_parser import _NEGATIONS, could_not_fork, last_line, last_words, process_state, words_of

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
    # the field's sentences
    ("running", R),
    ("Running.", R),
    ("(running)", R),
    ("running, pid=12", R),
    ("running,pid=12", R),
    ("running, pid=12 13", R),
    ("running, pid=\n12\n", R),
    ("falcon-agent is running, pid:\r\n12\r\n", R),
    ("running(pid:12)", R),
    ("Process falcon-agent(PID: 12) is running", R),
    ("running (pid 12)", R),
    ("running with pid 12", R),
    ("Running as PID 12", R),
    ("PID: 12, running", R),
    ("running, pid is 12", R),
    ("running [process id: 12]", R),
    ("falcon-agent now is running, pid=12", R),
    ("falcon-agent now is running already, pid=12", R),
    ("falcon-agent running, pid=12", R),
    ("falcon-agent is running, pid=12", R),
    ("falcon-agent (pid  12) is running...", R),
    ("pid 12 is running", R),
    ("falcon-agent is up and running", R),
    ("falcon-agent is still running", R),
    ("falcon-agent is running now", R),
    ("[falcon-agent] is running", R),
    ("`falcon-agent` running", R),
    ("falcon-agent: running", R),
    ("falcon-agent status: running", R),
    ("process falcon-agent is running", R),
    ("./bin/falcon-agent started, pid=12", R),
    ("/opt/one/falcon-agent.jar is running", R),
    ("3proxy is running", R),
    ("monitoring is running", R),
    ("[ ok ] falcon-agent is running.", R),
    ("falcon-agent is running\x1b[60G[\x1b[0;32m  OK  \x1b[0;39m]\r\n", R),
    ("\x1b[1mrunning\x1b(B\x1b[m, pid=12", R),
    (" * falcon-agent is not running", S),
    ("not running", S),
    ("NOT_RUNNING", S),
    ("falcon-agent is not running.", S),
    ("falcon-agent isn't running", S),
    ("falcon-agent isn\u2019t running", S),
    ("falcon-agent is currently not running", S),
    ("status: not running", S),
    ("./falcon-agent stopped!", S),
    ("falcon-aggregator is stoped", S),
    ("other-agent stopped", S),
    ("stopped [OK]", S),
    # what can be read both ways
    ("running: no", U),
    ("running: yes", U),
    ("3 running", U),
    ("running 3", U),
    ("running jobs: 0", U),
    ("2/3 running", U),
    ("10m running", U),
    ("3-workers running", U),
    ("nothing running", U),
    ("none is running", U),
    ("everything is stopped", U),
    ("was running", U),
    ("falcon-agent has stopped", U),
    ("falcon-agent is no longer running", U),
    ("n/a running", U),
    ("no-agent running", U),
    ("never/started running", U),
    ("checking running", U),
    ("hopefully started", U),
    ("./3 running", U),
    ("error: stopped", U),
    ("not not running", U),
    ("falcon-agent not yet running", U),
    ("falcon-agent is running?", U),
    ("falcon-agent is running since 3", U),
    ("running, pid=", U),
    ("running, pid=0", U),
    ("running, pid=\n", U),
    ("running, pid=\n0\n", U),
    ("running, pid=\n3 jobs\n", U),
    ("stoped, pid=\n12\n", U),
    ("running\n12\n", R),
    ("not running, pid=12", U),  # whose?
    ("pid 12 stopped", U),
    ("running [FAILED]", U),
    ("not running [FAILED]", U),
    ("falcon-agent dead but pid file exists", U),
    ("falcon-agent start/running, process 12", U),
    ("- running", U),
    # a further line that speaks of a state
    ("running, pid=12\nrunning jobs: 0", U),
    ("stoped\n0 running", U),
    ("3 workers started\nstarted\n", U),
    ("stoped\nprocess 12 is alive", U),
    ("falcon-agent is running\nfalcon-judge is stoped", U),
    ("falcon-agent is running\nfalcon-judge is running", R),
    # other lines around are noise
    ("warning: cannot read x\nstoped\n", S),
    ("falcon-agent 5.1.2\nstarted\nnot bad\n", R),
    ("starting\nstarted\n", R),
    ("restarted 3 times\nstoped\n", S),
    ("started\nstarted\n", R),
    ("cat: var/app.pid: No such file or directory\nstoped\n", S),
    ("no process found\nstoped\n", S),
    ("running, pid=12\n13\n", R),
    # nothing is said plainly
    ("", U),
    ("\n \n", U),
    ("starting", U),
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


@pytest.mark.parametrize("name", ["not", "no", "never", "un", "started", "x started or", "3"])
def test_no_name_of_an_agent_disarms_a_negation(name: str) -> None:
    assert process_state(f"{name} stopped", name) is U


def test_the_agents_own_name_is_a_subject_whatever_it_looks_like() -> None:
    assert process_state("scheduled stopped") is U
    assert process_state("Scheduled stopped", "Scheduled") is S
    assert process_state("last-mile stopped", "last-mile") is S


COULD_NOT_LOOK = [
    "./control: line 14: ps: command not found",
    "control: line 3: pgrep: not found",
    "./control: 14: ps: not found",
    "sh: 1: pidof: not found",
    "./control[14]: ps: not found",
    "./control[14]: ps: inaccessible or not found",
    "./control:14: command not found: ps",
    "sudo: ps: command not found",
    "./control: fork: retry: Resource temporarily unavailable",
    "./control: fork: Cannot allocate memory",
    "./control: 5: Cannot fork",
    "./control: line 5: can't fork: Resource temporarily unavailable",
    "ksh: fork failed - too many processes",
    "Error: /proc must be mounted",
]


@pytest.mark.parametrize("line", COULD_NOT_LOOK)
def test_stopped_is_not_believed_of_a_script_that_could_not_look(line: str) -> None:
    """A pipe of a `ps` that is missing counts no line, and the script says stoped of what runs."""
    for output in (f"{line}\nstoped\n", f"falcon-agent is stoped\n{line}", f"{line}\r\nnot running\r\n"):
        assert process_state(output) is U
        assert last_line(output) == line
    assert process_state(f"{line}\nstarted\n") is R
    assert process_state(f"{line}\ndown\n", words={"down": S}) is U


@pytest.mark.parametrize(
    "line",
    ["cat: app.pid: No such file or directory", "cfg.json: not found", "pid file not found", "config 3: not found", ""],
)
def test_what_else_a_script_did_not_find_is_noise(line: str) -> None:
    assert process_state(f"{line}\nstoped\n") is S


WORDS = {"*": {"up": R, "down": S}, "odd": {"up": S, "dead but pid file exists": S, "RC=0 (ok)": R}}


@pytest.mark.parametrize(
    ("name", "output", "state"),
    [
        ("any", "up\n", R),
        ("any", "UP, pid=12", R),
        ("any", "agent is down.", S),
        ("any", "down, pid=12", U),
        ("any", "up 3 days", U),
        ("any", "up\n3 down\n", U),
        ("any", "running, pid=12", R),
        ("any", "started\n", R),
        ("any", "not up", U),
        ("odd", "up", S),  # its own words win over those of all
        ("odd", "odd dead but  pid file exists", S),
        ("odd", "rc=0 (OK)", R),
        ("odd", "rc=0 (OK) 3", U),
    ],
)
def test_a_host_has_further_words(name: str, output: str, state: ProcessState) -> None:
    assert process_state(output, name, words_of(name, WORDS)) is state


def test_long_white_space_is_read_at_once() -> None:
    assert process_state("started" + 50_000 * " " + "x") is U
    assert process_state("started" + 50_000 * " .") is R


@pytest.mark.parametrize("piece", ["a/", "a-", "( ", "* ", "pid 1 ", ". ", ". ok ", "is ", "a running "])
def test_no_line_takes_long(piece: str) -> None:
    began = time.process_time()
    process_state("running " + 20_000 * piece + "?")
    process_state(20_000 * piece + "running?")
    assert time.process_time() - began < 5


@given(st.text())
def test_says_a_state_only_where_its_word_stands(output: str) -> None:
    state = process_state(output)
    said = {R: ("started", "running"), S: ("stoped", "stopped", "running")}
    assert state is U or any(word in output.lower() for word in said[state])


words = st.lists(
    st.sampled_from(["started", "stoped", "not", "is", "pid", "1", "\n", "-", "stopped", ",", "?", "app", "running"])
)
subjects = st.from_regex(r"(\.{0,2}/)?([a-z]{1,8}/){0,2}[a-z][a-z0-9]{0,4}[-_.]agent", fullmatch=True)
sentences = st.sampled_from(
    ["{} {}", "{} is {}", "{} now is {}", "[{}] is {}", "{}: {}", "* {} - {}.", "{} is {} [OK]", "{} already {}"]
)
doubts = st.sampled_from("no nor nothing none never was were 3 0 half maybe two some last if error 1.5 any".split())


@given(subjects, sentences, st.sampled_from([("running", R), ("started", R), ("stoped", S), ("not running", S)]))
def test_any_word_or_path_is_a_subject(subject: str, sentence: str, said: tuple[str, ProcessState]) -> None:
    word, state = said
    assume(state is R or "already" not in sentence)
    found = process_state(sentence.format(subject, word))
    first = re.split(r"[-_.]", subject.rpartition("/")[2])[0]
    assert found is state or first in _NEGATIONS
    assert found in (state, U)


@given(doubts, sentences, st.sampled_from(["running", "started", "stoped"]))
def test_a_word_of_negation_doubt_number_or_past_is_no_subject(doubt: str, sentence: str, word: str) -> None:
    assert process_state(sentence.format(doubt, word)) is U


@given(words, st.sampled_from(["running: no", "3 workers started", "started?", "is dead", "was stopped"]))
def test_a_line_that_is_not_understood_spoils_all(around: list[str], line: str) -> None:
    assert process_state(f"{' '.join(around)}\n{line}\nstarted") is U
    assert process_state(f"stoped\n{line}\n{' '.join(around)}") is U


@given(words, words)
def test_both_words_are_never_a_state(before: list[str], after: list[str]) -> None:
    assert process_state(" ".join([*before, "\nstarted\n", *after, "\nstoped"])) is U


@given(words)
def test_a_negation_on_the_line_is_never_a_state(around: list[str]) -> None:
    line = " ".join(around).replace("\n", " ")
    assert process_state(f"not {line} started") is U
    assert process_state(f"stoped {line} never") is U
    assert process_state(f"nothing {line} running") is U


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
        ("stoped\nrunning, pid=12", "unclear: running, pid=12"),
        (b"\x00\x00", "\\x00\\x00"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
        ("\x01" * 60, "\\x01" * 49 + "..."),  # never half an escape
    ],
)
def test_last_line(output: bytes | str, shown: str) -> None:
    assert last_line(output) == shown
    assert last_words(output) == shown.removeprefix("unclear: "), "of another call than status it is what was printed"


def test_last_line_keeps_to_its_limit_when_it_is_unclear() -> None:
    assert last_line("started", limit=12) == "unclear: ..."


@given(st.binary() | st.text() | st.sampled_from(["started", "stoped\r", "\tSTARTED\n", "Stopped"]))
def test_last_line_is_safe_to_send(output: bytes | str) -> None:
    shown = last_line(output)
    assert len(shown) <= 200
    assert shown.isprintable()
    assert not re.fullmatch(r"\W*(started|stopp?ed)\W*", shown.lower())


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("control: 12: Cannot fork", True),
        ("bash: fork: retry: Resource temporarily unavailable", True),
        ("started, pid=12", False),
        ("it works on a fork of the project", False),
    ],
)
def test_a_script_says_that_it_could_start_no_command(output: str, said: bool) -> None:
    assert could_not_fork(output) is said
