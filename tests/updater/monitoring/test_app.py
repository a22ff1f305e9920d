"""The paths over a real socket: what each answers, to which methods, with which headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from reconcile.assess.pass_context import DesiredFrom
from reconcile.engine.reconciler import PassRequest
from tests.e2e.processes import until
from tests.updater.conftest import Folder
from updater.monitoring.app import App, PageSource
from updater.monitoring.request_guard import AllowedNames
from updater.monitoring.server import Server
from updater.monitoring.status_board import Snapshot, StatusBoard
from updater.service.pass_runner import PassObserver, locked_pass, make_var
from updater.version import VERSION

pytestmark = pytest.mark.python_sensitive

PATHS = ("/", "/health", "/version", "/workdir", "/status", "/metrics", "/page.css", "/page.js", "/config/reload")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")


class Local:
    """A served board, and how often a reload was asked for."""

    def __init__(self, config: Path, board: StatusBoard) -> None:
        self.config = config
        self.reloads = 0
        self._server = Server("127.0.0.1:0", App(board, self._site))
        self.client = httpx.Client(base_url=self._server.address, trust_env=False, timeout=60)

    def _site(self) -> PageSource:
        return PageSource(names=AllowedNames(), config=self.config, ask_for_reload=self._count)

    def _count(self) -> None:
        self.reloads += 1

    def close(self) -> None:
        self.client.close()
        self._server.close()


@pytest.fixture
def board() -> StatusBoard:
    return StatusBoard()


@pytest.fixture
def local(tmp_path: Path, board: StatusBoard) -> Iterator[Local]:
    config = tmp_path / "cfg.json"
    config.write_text(json.dumps({"server": "meta:2000"}))
    one = Local(config, board)
    yield one
    one.close()


def snapshot_of(folder: Folder) -> Snapshot:
    """What a real pass leaves behind."""
    import threading

    make_var(folder.var)
    seen: list[Snapshot] = []
    order = PassRequest(ask=DesiredFrom.EXCHANGE)
    locked_pass(
        folder.config, folder.around(), order, ending=threading.Event(), observer=PassObserver(seen=seen.append)
    )
    return seen[0]


def test_the_inherited_paths_answer_as_they_always_did(local: Local) -> None:
    assert local.client.get("/health").text == "ok"
    assert local.client.get("/version").text == VERSION
    assert local.client.get("/workdir").json() == {"msg": "success", "data": str(local.config.parent)}
    assert local.client.get("/config/reload").json() == {"msg": "success", "data": {"server": "meta:2000"}}
    assert local.client.post("/config/reload").json()["msg"] == "success"
    assert local.reloads == 2


def test_a_bad_config_is_reported_and_not_taken_up(local: Local) -> None:
    local.config.write_text(json.dumps({"server": "meta:2000", "intervall": 5}))
    reported = local.client.get("/config/reload").json()
    assert list(reported) == ["msg"]
    assert "did you mean `interval`?" in reported["msg"]
    local.config.unlink()
    assert "does not exist" in local.client.get("/config/reload").json()["msg"]
    assert local.reloads == 0


def test_a_reload_shows_no_secret(local: Local, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("canary-1")
    content: dict[str, Any] = {
        "server": "http://meta:2000/heartbeat?token=canary-4",
        "proxy": "http://u:canary-2@proxy:1",
        "agent_env": {"TOKEN": "canary-3"},
        "auth": {"user": "u", "password_file": "password"},
    }
    local.config.write_text(json.dumps(content))
    answer = local.client.get("/config/reload")
    assert answer.json()["data"]["server"] == "http://meta:2000/heartbeat?(not shown)"
    assert answer.json()["data"]["agent_env"] == {"TOKEN": "(not shown)"}
    assert answer.json()["data"]["auth"] == {"user": "u", "password_file": "password"}
    assert "canary" not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_each_path_with_each_method(local: Local, path: str) -> None:
    allowed = {"GET", "POST"} if path == "/config/reload" else {"GET", "HEAD"}
    for method in METHODS:
        answer = local.client.request(method, path)
        if method in allowed:
            assert answer.status_code == (503 if path == "/status" else 200), method
        else:
            assert answer.status_code == 405, method
            assert set(answer.headers["Allow"].split(", ")) == allowed
    assert local.reloads == (2 if path == "/config/reload" else 0)


@pytest.mark.parametrize("path", ["/x", "/../etc/passwd", "/page.py", "/%2e%2e/app.py", "/status/", "/favicon.ico"])
def test_there_are_no_other_paths(local: Local, path: str) -> None:
    assert local.client.get(path).status_code == 404


@pytest.mark.parametrize("path", [*PATHS, "/x"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}, 403),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_no_path_answers_a_foreign_host_or_page(local: Local, path: str, headers: dict[str, str], status: int) -> None:
    assert local.client.get(path, headers=headers).status_code == status
    assert local.reloads == 0


def test_a_link_on_another_page_does_not_reload(local: Local) -> None:
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert local.client.get("/", headers=headers).status_code == 200
    assert local.client.get("/config/reload", headers=headers).status_code == 403
    assert local.client.get("/config/reload", headers={"Referer": "http://evil.example/"}).status_code == 403
    assert local.client.get("/config/reload", headers={"X-Forwarded-For": "10.0.0.8"}).status_code == 403
    assert local.reloads == 0


@pytest.mark.parametrize("path", [*PATHS, "/x"])
def test_every_answer_has_the_headers_that_keep_it_to_itself(local: Local, path: str) -> None:
    headers = local.client.get(path).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "Access-Control-Allow-Origin" not in headers
    assert "charset=utf-8" in headers["Content-Type"] or headers["Content-Type"] == "application/json"


def test_the_page_holds_no_script_or_style_of_its_own(local: Local) -> None:
    text = local.client.get("/").text
    assert text.count("<script") == 1
    assert '<script src="/page.js" defer></script>' in text
    assert "<style" not in text
    assert " style=" not in text
    assert " onclick" not in text


def length_of_head(local: Local, path: str) -> int:
    """The page says how long ago the pass was: its length may grow from one second to the next."""
    return int(local.client.head(path).headers["Content-Length"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "alone"), [("", False), ("trouble", True), ("trouble=1", True), ("troubles", False), ("x=trouble", False)]
)
def test_the_view_of_trouble_is_a_query(
    local: Local, board: StatusBoard, folder: Folder, query: str, alone: bool
) -> None:
    folder.want()
    board.publish(snapshot_of(folder))
    answer = local.client.get(f"/?{query}")
    assert answer.status_code == 200
    assert ("No agent is in trouble." in answer.text) == alone
    until(lambda: length_of_head(local, f"/?{query}") == len(local.client.get(f"/?{query}").content), "same length")


def test_before_the_first_pass_it_says_so(local: Local, board: StatusBoard) -> None:
    assert "The first pass is being made" in local.client.get("/").text
    assert local.client.get("/status").json() == {"msg": "no pass has ended yet"}
    board.fail("no answer from <meta>")
    assert "no answer from &lt;meta&gt;" in local.client.get("/").text
    answer = local.client.get("/status")
    assert (answer.status_code, answer.json()) == (503, {"msg": "no answer from <meta>"})
    assert "ops_updater_pass_failed 1.0" in local.client.get("/metrics").text


@pytest.mark.slow
def test_status_is_what_the_command_prints(local: Local, board: StatusBoard, folder: Folder) -> None:
    folder.want()
    snapshot_of(folder)
    board.publish(snapshot_of(folder))  # the second pass finds it good
    reported, command = local.client.get("/status").json(), json.loads(folder.run("status", "-o", "json").out)
    del command["snapshot"]  # for planning elsewhere; a page's readers need none
    for document in (reported, command):
        for key in ("created_at", "desired_age_s", "desired_from"):
            del document[key]
    assert reported == command
    assert reported["kind"] == "Status"
    assert reported["agents"][0]["observed"]["status"] == "started"


def test_a_fault_of_ours_is_one_line_for_the_client(board: StatusBoard) -> None:
    def broken() -> PageSource:
        raise ZeroDivisionError

    server = Server("127.0.0.1:0", App(board, broken))
    try:
        answer = httpx.get(server.address, trust_env=False, timeout=60)
    finally:
        server.close()
    assert (answer.status_code, answer.text) == (500, "it broke; the log has the rest\n")
