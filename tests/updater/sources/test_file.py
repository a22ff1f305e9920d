"""Desired state from a local file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reconcile.errors import ResponseInvalid, ServerUnreachable
from reconcile.source import DesiredSource, Entry, HostReport
from updater.sources.file import DesiredFile

REPORT = HostReport(hostname="h", ip="127.0.0.1", run_user="u", updater_version="1")


def test_a_file_is_read_again_each_time(tmp_path: Path) -> None:
    path = tmp_path / "desired.json"
    path.write_text('{"desiredAgents": [{"name": "a", "cmd": "start"}]}')
    source: DesiredSource = DesiredFile(path)

    answer = source.exchange(REPORT)
    assert answer.entries == (Entry(name="a", cmd="start"),)
    assert answer.came_from == source.came_from == str(path)

    path.write_text('{"desiredAgents": null}')
    assert source.exchange(REPORT).entries == ()


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text('{"desiredAgents": []}')
    (tmp_path / "link").symlink_to("real")
    assert DesiredFile(tmp_path / "link").exchange(REPORT).entries == ()


def test_what_can_not_be_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    paths = {
        "missing": "No such file",
        "fifo": "not a regular file",
        ".": "not a regular file",
        "x" * 300: "name too long",
        "a\x00b": "null",
    }
    for name, message in paths.items():
        with pytest.raises(ServerUnreachable, match=message) as raised:
            DesiredFile(tmp_path / name).exchange(REPORT)
        assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "nothing"),
        (b"\xff\xfe", "not JSON"),
        (b'{"errorMessage": "no"}', "answered with an error: no"),
        (b" " * (1024 * 1024) + b"{}", "larger than 1048576 bytes"),
    ],
)
def test_what_is_no_answer(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "desired.json"
    path.write_bytes(content)
    with pytest.raises(ResponseInvalid, match=message):
        DesiredFile(path).exchange(REPORT)


def test_exactly_the_limit_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "desired.json"
    path.write_bytes(b'{"desiredAgents": []}'.ljust(1024 * 1024))
    assert DesiredFile(path).exchange(REPORT).entries == ()
