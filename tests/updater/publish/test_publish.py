"""`updater publish` with real tarballs, folders and the command line; with the real minisign where that is installed
(tests/system/test_publish.py)."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import stat
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.ops_meta import host_arch
from tests.updater.lint.agents import tarball
from updater.cli import run
from updater.publish.publish import split_release
from updater.sources.wire import parse_answer

BASE = "http://files.example:8000"


@pytest.fixture
def www(tmp_path: Path) -> Path:
    return tmp_path / "www"


@pytest.fixture
def agent(tmp_path: Path) -> Path:
    return tarball(tmp_path, name="my-agent-1.0.0.tar.gz")


def entry(path: Path, name: str = "my-agent") -> dict[str, object]:
    [found] = [entry for entry in json.loads(path.read_text())["desiredAgents"] if entry["name"] == name]
    return dict(found)


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("stem", "split"),
    [
        ("falcon-agent-5.1.3", ("falcon-agent", "5.1.3")),
        ("falcon-agent-5.1.3-rc1", ("falcon-agent", "5.1.3-rc1")),
        ("a-1-2", ("a", "1-2")),
        ("a2-1", ("a2", "1")),
        ("falcon-agent", None),
        ("falcon-agent-v5", None),
        ("-5.1", None),
        ("a-5..1", None),
        ("a b-5", None),
    ],
)
def test_a_name_is_split_from_its_version_at_the_first_hyphen_before_a_digit(
    stem: str, split: tuple[str, str] | None
) -> None:
    assert split_release(stem) == split


def test_a_tarball_is_laid_out_as_hosts_ask_for_it(www: Path, agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["publish", str(agent), "--to", str(www)]) == 0
    folder = f"{host_arch()}/my-agent-1.0.0.tar.gz"
    assert names(www) == {folder, f"{folder}.md5", f"{folder}.sha256"}
    content = agent.read_bytes()
    assert (www / folder).read_bytes() == content
    md5, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    assert (www / f"{folder}.md5").read_text() == f"{md5}  my-agent-1.0.0.tar.gz\n"
    assert (www / f"{folder}.sha256").read_text() == f"{sha256}  my-agent-1.0.0.tar.gz\n"
    assert {stat.S_IMODE(path.stat().st_mode) for path in www.rglob("*") if path.is_file()} == {0o644}
    assert capsys.readouterr().out == f"{www / folder}: new\n"


def test_what_is_published_again_is_unchanged_or_replaced(
    www: Path, agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert run(["publish", str(agent), "--to", str(www)]) == 0
    tarball(agent.parent, name=agent.name, program="#!/bin/sh\nexec sleep 5\n")
    assert run(["publish", str(agent), "--to", str(www)]) == 0
    assert [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()] == [
        "new",
        "unchanged",
        "replaced",
    ]


def test_a_desired_state_is_made_and_its_entry_set(www: Path, agent: Path) -> None:
    desired = www / "desired.json"
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 0
    content = agent.read_bytes()
    assert entry(desired) == {
        "name": "my-agent",
        "version": "1.0.0",
        "tarball": BASE,
        "md5": hashlib.md5(content).hexdigest(),
        "sha256": hashlib.sha256(content).hexdigest(),
        "cmd": "start",
    }
    assert parse_answer(desired.read_bytes(), "it").entries
    assert stat.S_IMODE(desired.stat().st_mode) == 0o644


def test_what_else_stands_in_a_desired_state_stays(www: Path, agent: Path, tmp_path: Path) -> None:
    desired = tmp_path / "desired.json"
    other = {"name": "other", "version": "2", "tarball": "http://x", "cmd": "start", "note": "ours"}
    mine = {"name": "my-agent", "version": "0.9", "tarball": BASE, "cmd": "stop", "runUser": "falcon", "note": "mine"}
    desired.write_text(json.dumps({"errorMessage": "", "desiredAgents": [other, mine], "by": "us"}))
    assert run(["publish", str(agent), "--to", str(www), "--desired", str(desired)]) == 0
    document = json.loads(desired.read_text())
    assert (document["by"], document["desiredAgents"][0]) == ("us", other)
    found = entry(desired)
    assert {found[key] for key in ("cmd", "runUser", "note", "tarball", "version")} == {
        "stop",
        "falcon",
        "mine",
        BASE,
        "1.0.0",
    }


def test_the_command_and_the_base_are_set_where_they_are_given(www: Path, agent: Path) -> None:
    desired = www / "desired.json"
    assert run(["publish", str(agent), "--to", str(www), "--url", "http://old", "--desired", str(desired)]) == 0
    words = ["publish", str(agent), "--to", str(www), "--desired", str(desired), "--url", BASE, "--cmd", "stop"]
    assert run(words) == 0
    assert (entry(desired)["tarball"], entry(desired)["cmd"]) == (BASE, "stop")


def test_what_changed_in_an_entry_is_printed(www: Path, agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desired = www / "desired.json"

    def printed(*more: str) -> str:
        assert run(["publish", str(agent), "--to", str(www), "--desired", str(desired), *more]) == 0
        return capsys.readouterr().out.splitlines()[-1].removeprefix(f"{desired}: my-agent ")

    assert printed("--url", BASE) == "new, 1.0.0"
    assert printed() == "1.0.0, unchanged"
    assert printed("--cmd", "stop") == "1.0.0, cmd stop"
    assert printed("--cmd", "start", "--percent", "5") == "1.0.0, cmd start, rollout 5 %"
    assert printed("--percent", "20", "--url", "http://user:word@new/x") == "1.0.0, tarball http://new/x, rollout 20 %"
    content = json.loads(desired.read_text())
    content["desiredAgents"][0] |= {"version": "0.9", "cmd": "stop"}
    desired.write_text(json.dumps(content))
    assert printed("--percent", "20", "--cmd", "start") == "0.9 -> 1.0.0, cmd start"
    desired.unlink()
    assert printed("--url", BASE, "--cmd", "stop") == "new, 1.0.0, cmd stop"


def test_an_entry_with_a_rollout_is_never_widened_unseen(
    www: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = www / "desired.json"
    first = ["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired), "--percent", "5"]
    assert run(first) == 0
    assert entry(desired)["rollout"] == {"percent": 5}
    assert run(first[:-2]) == 0  # the same version
    newer = tarball(tmp_path, name="my-agent-1.0.1.tar.gz")
    before = names(www)
    assert run(["publish", str(newer), *first[2:-2]]) == 64
    assert "--percent" in capsys.readouterr().err
    assert (names(www), entry(desired)["version"]) == (before, "1.0.0")
    assert run(["publish", str(newer), *first[2:-1], "100"]) == 0
    assert (entry(desired)["version"], entry(desired)["rollout"]) == ("1.0.1", {"percent": 100})


def test_a_rollouts_seed_stays(www: Path, agent: Path) -> None:
    desired = www / "desired.json"
    www.mkdir()
    old = {"name": "my-agent", "version": "0.9", "tarball": BASE, "rollout": {"percent": 100, "seed": "x"}}
    desired.write_text(json.dumps({"desiredAgents": [old]}))
    assert run(["publish", str(agent), "--to", str(www), "--desired", str(desired), "--percent", "12.5"]) == 0
    assert entry(desired)["rollout"] == {"percent": 12.5, "seed": "x"}


def test_hosts_of_several_architectures_are_led_to_their_digest_files(www: Path, agent: Path, tmp_path: Path) -> None:
    desired = www / "desired.json"
    common = ["--to", str(www), "--desired", str(desired), "--url", BASE]
    assert run(["publish", str(agent), "--arch", "linux_amd64", *common]) == 0
    assert "sha256" in entry(desired)
    (tmp_path / "arm").mkdir()
    arm = tarball(tmp_path / "arm", name=agent.name, program="#!/bin/sh\nexec sleep 4\n")
    assert run(["publish", str(arm), "--arch", "linux_arm64", *common]) == 0
    assert (entry(desired)["md5"], "sha256" in entry(desired)) == ("", False)


def test_a_name_that_the_file_does_not_say_is_given(www: Path, tmp_path: Path) -> None:
    odd = tarball(tmp_path, name="build.tar.gz")
    assert run(["publish", str(odd), "--to", str(www)]) == 64
    assert not www.exists()
    assert run(["publish", str(odd), "--to", str(www), "--name", "my-agent", "--version", "v2"]) == 0
    assert f"{host_arch()}/my-agent-v2.tar.gz" in names(www)


def test_a_fault_that_lint_finds_publishes_nothing(
    www: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tarball(tmp_path, name="bad-agent-1.0.0.tar.gz", mode=0o644)
    words = ["--to", str(www), "--url", BASE, "--desired", str(tmp_path / "desired.json")]
    assert run(["publish", str(agent), str(bad), *words]) == 3
    assert not www.exists()
    assert not (tmp_path / "desired.json").exists()
    said = capsys.readouterr()
    assert "not executable" in said.out
    assert "nothing was published" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--arch", "linux/amd64"], "--arch"),
        (["--name", "x"], "--name and --version"),
        (["--url", BASE], "--desired"),
        (["--percent", "5"], "--desired"),
        (["--percent", "101"], "0 to 100"),
        (["--percent", "nan"], "0 to 100"),
        (["--name", "x y", "--version", "1"], "not a name"),
        (["--desired", "DESIRED"], "--url"),
        (["--minisign-key", "k", "--name", "falcon", "--version", "agent-5"], "SignatureInvalid"),
    ],
)
def test_what_can_not_be_meant_is_usage(
    words: list[str], said: str, www: Path, agent: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(www / "desired.json") if word == "DESIRED" else word for word in words]
    assert run(["publish", str(agent), "--to", str(www), *words]) == 64
    assert said in capsys.readouterr().err
    assert not names(www)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no JSON",
        "[]",
        "{}",
        '{"errorMessage": "down", "desiredAgents": []}',
        '{"desiredAgents": {}}',
        '{"desiredAgents": [{"name": "my-agent"}, {"name": "my-agent"}]}',
    ],
)
def test_a_desired_state_that_hosts_would_not_take_is_left_as_it_is(
    text: str, www: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "desired.json"
    desired.write_text(text)
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 64
    assert str(desired) in capsys.readouterr().err
    assert desired.read_text() == text
    assert not names(www)


def test_an_entry_that_hosts_would_refuse_is_not_written(
    www: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "desired.json"
    text = json.dumps({"desiredAgents": [{"name": "my-agent", "rollout": {"percent": "5"}, "version": "1.0.0"}]})
    desired.write_text(text)
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 64
    assert "rollout: percent: expected a number" in capsys.readouterr().err
    assert desired.read_text() == text


def test_an_empty_list_may_be_null(www: Path, agent: Path, tmp_path: Path) -> None:
    desired = tmp_path / "desired.json"
    desired.write_text('{"errorMessage": "", "desiredAgents": null}')
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 0
    assert entry(desired)["version"] == "1.0.0"


def test_a_signed_desired_state_is_not_changed_without_its_key(
    www: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desired = tmp_path / "desired.json"
    (tmp_path / "desired.json.minisig").write_text("signed")
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 64
    assert "--minisign-key" in capsys.readouterr().err
    assert not names(www)
    assert not desired.exists()


def test_one_publisher_at_a_time(www: Path, agent: Path, capsys: pytest.CaptureFixture[str]) -> None:
    www.mkdir()
    other = os.open(www, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert run(["publish", str(agent), "--to", str(www)]) == 75
    finally:
        os.close(other)
    assert "another publisher" in capsys.readouterr().err
    assert run(["publish", str(agent), "--to", str(www)]) == 0


def test_a_folder_that_can_not_be_written_is_named(
    agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(["publish", str(agent), "--to", str(tmp_path / "file")]) == 1
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_without_minisign_nothing_is_written(
    www: Path, agent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["publish", str(agent), "--to", str(www), "--minisign-key", str(tmp_path / "key")]) == 72
    assert "minisign" in capsys.readouterr().err
    assert not names(www)


def test_each_file_is_dated_a_second_later_than_the_one_that_it_replaces(
    tmp_path: Path, www: Path, agent: Path
) -> None:
    """Web servers make ETags of the size and the second of the last change; both may be the same twice."""
    words = ["--to", str(www), "--url", BASE, "--desired", str(www / "desired.json")]
    dates: list[list[int]] = []
    for _ in range(3):
        assert run(["publish", str(agent), *words]) == 0
        dates.append([int((www / name).stat().st_mtime) for name in sorted(names(www))])
    assert len(dates[0]) == 4
    for before, after in pairwise(dates):
        assert all(old < new for old, new in zip(before, after, strict=True))


OTHER = '{"errorMessage": "", "desiredAgents": [{"name": "other", "version": "1", %s}]}'


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ((OTHER % '"note": "caf\xe9"').encode("latin-1"), "not UTF-8 text"),
        ((OTHER % ('"n": ' + "1" * 5000)).encode(), "could not be written back"),
        ((OTHER % '"n": 1e400').encode(), "1e400"),
        ((OTHER % '"n": NaN').encode(), "NaN"),
        ((OTHER % '"version": "2"').encode(), "'version' stands twice"),
        (b"", "expected a JSON object"),
    ],
)
def test_a_desired_state_that_could_not_be_written_back_as_it_stands_is_left_alone(
    www: Path, agent: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], before: bytes, said: str
) -> None:
    desired = tmp_path / "desired.json"
    desired.write_bytes(before)
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 64
    assert said in capsys.readouterr().err
    assert desired.read_bytes() == before
    assert names(www) == set()


@pytest.mark.parametrize("note", ["caf\u00e9", "\ud83d\ude00", "\ud800"])
def test_what_others_wrote_stays_whatever_its_letters(www: Path, agent: Path, tmp_path: Path, note: str) -> None:
    desired = tmp_path / "desired.json"
    desired.write_text(json.dumps({"desiredAgents": [{"name": "other", "version": 1.10, "note": note}]}))
    before = json.loads(desired.read_text())["desiredAgents"][0]
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 0
    assert entry(desired, "other") == before
    assert len(parse_answer(desired.read_bytes(), "it").entries) == 2


@pytest.mark.parametrize("base", ["ftp://files/", "files:8000", "http://", "http://a b/", "/srv/www"])
def test_a_base_that_hosts_would_refuse_is_refused(
    www: Path, agent: Path, capsys: pytest.CaptureFixture[str], base: str
) -> None:
    assert run(["publish", str(agent), "--to", str(www), "--url", base, "--desired", str(www / "d.json")]) == 64
    assert "not an http or https URL" in capsys.readouterr().err
    assert names(www) == set()


def test_a_web_server_can_read_what_is_made_whatever_the_umask(www: Path, agent: Path) -> None:
    desired = www / "states" / "desired.json"
    before = os.umask(0o077)
    try:
        assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(desired)]) == 0
    finally:
        os.umask(before)
    modes = {path.relative_to(www).as_posix(): stat.S_IMODE(path.stat().st_mode) for path in (www, *www.rglob("*"))}
    assert {mode for name, mode in modes.items() if not (www / name).is_dir()} == {0o644}
    assert {mode for name, mode in modes.items() if (www / name).is_dir()} == {0o755}


def test_a_folder_that_is_there_keeps_its_mode(www: Path, agent: Path) -> None:
    www.mkdir(mode=0o750)
    assert run(["publish", str(agent), "--to", str(www)]) == 0
    assert stat.S_IMODE(www.stat().st_mode) == 0o750


def test_a_digest_file_of_another_architecture_may_hold_anything(www: Path, agent: Path) -> None:
    beside = www / "plan9_mips"
    beside.mkdir(parents=True)
    (beside / f"{agent.name}.sha256").write_bytes(b"\xff\xfe\x00")
    assert run(["publish", str(agent), "--to", str(www), "--url", BASE, "--desired", str(www / "d.json")]) == 0
    assert "sha256" not in entry(www / "d.json"), "that architecture has other bytes"


def test_what_a_publisher_left_that_was_killed_goes_with_the_next_one(www: Path, agent: Path) -> None:
    left = www / host_arch() / ".publish-x1y2"
    left.mkdir(parents=True)
    (left / "half").write_bytes(b"h")
    assert run(["publish", str(agent), "--to", str(www)]) == 0
    assert not left.exists()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_can_not_be_published(
    www: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make: Callable[[Path], object]
) -> None:
    make(tmp_path / "my-agent-1.0.0.tar.gz")
    assert run(["publish", str(tmp_path / "my-agent-1.0.0.tar.gz"), "--to", str(www)]) == 64
    assert "expected a file" in capsys.readouterr().err
    assert not www.exists()
