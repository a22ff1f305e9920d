"""From a config to what a pass may look at and ask."""

from __future__ import annotations

import os
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from probes.host import facts
from probes.observed import ProcessState
from reconcile.assess.pass_context import HostFacts
from reconcile.decide.timing.windows import Windows
from reconcile.source import HostReport
from tests.loopback import Loopback, answers
from tests.updater.conftest import Folder
from updater.settings.composition import SourceOverride, host_context, host_facts, refreshed
from updater.settings.config import load
from updater.sources.file import DesiredFile
from updater.sources.ops_meta import OpsMeta
from updater.version import VERSION

EMPTY = b'{"errorMessage": "", "desiredAgents": []}'
REPORT = HostReport(hostname="h", ip="127.0.0.1", run_user="u", updater_version="1")


def test_a_server_is_the_usual_source(folder: Folder) -> None:
    host = folder.around()
    assert isinstance(host.source, OpsMeta)
    assert host.source.came_from == f"{folder.meta.url}/api/heartbeat"
    assert host.asked_by == "server"


def test_a_file_of_the_config_is_a_source_as_a_server_is(folder: Folder) -> None:
    folder.configure(desired="desired.json")
    host = folder.around()
    assert isinstance(host.source, DesiredFile)
    assert host.source.came_from == str(folder.path / "desired.json")
    assert host.asked_by == "server"


def test_a_file_that_was_typed_is_an_operators_word(folder: Folder) -> None:
    host = host_context(folder.config, SourceOverride(desired=Path("/x/desired.json"), operator="ann"))
    assert host.source.came_from == "/x/desired.json"
    assert (host.operator, host.asked_by) == ("ann", "operator:ann")


def test_windows_come_from_the_config_with_their_zone(folder: Folder) -> None:
    assert folder.around().rules.windows is None
    windows = [{"start": "23:30", "length": "2h"}]
    folder.configure(windows=windows, time_zone="Europe/Berlin", fetch_splay="8h")
    rules = folder.around().rules
    assert rules.windows is not None
    assert rules.windows.zone == ZoneInfo("Europe/Berlin")
    assert rules.splay is not None
    assert rules.splay.span == 3600.0, "who waits for the opening has its turn before the end"
    assert rules.splay.slot < rules.splay.span
    folder.configure(windows=windows)
    assert folder.around().rules.windows == Windows(windows=rules.windows.windows)


def test_a_zone_that_the_host_lacks_closes_all_windows(folder: Folder) -> None:
    folder.configure(windows=[{"start": "00:00", "length": "24h"}], time_zone="Mars/Olympus")
    rules = folder.around().rules
    assert rules.windows is not None
    assert rules.windows.zone is None
    assert "the time zone Mars/Olympus (time_zone) is not known" in folder.around().lacking


def test_limits_and_policy_come_from_the_config(folder: Folder) -> None:
    folder.configure(
        work_dir="/srv/agents",
        run_user="falcon",
        tarball_layout="{tarball}/{name}-{version}.tar.gz",
        control_timeout={"status": 3},
        status_parallel=7,
        agent_env={"A": "b"},
        status_words={"odd": {"started": ["up"]}},
    )
    host = folder.around()
    assert (host.limits.limit_s, host.limits.at_once, host.limits.agent_env) == (3.0, 7, {"A": "b"})
    assert host.limits.words == {"odd": {"up": ProcessState.RUNNING}}
    policy = host.policy
    assert (policy.default_work_dir, policy.default_run_user) == ("/srv/agents", "falcon")
    assert policy.tarball_layout == "{tarball}/{name}-{version}.tar.gz"
    assert (policy.own_user, policy.arch) == (facts.own_user().name, facts.arch())


def test_our_own_folders_are_known_by_all_their_names(folder: Folder) -> None:
    (folder.path.parent / "link").symlink_to(folder.path)
    host = host_context(load(folder.path.parent / "link" / "cfg.json"), SourceOverride())
    own = host.policy.own_folders
    assert own[:2] == (str(folder.path.parent / "link"), os.path.realpath(folder.path))
    assert os.path.realpath(Path(__file__).parents[3]) in own


def test_facts_of_this_host(folder: Folder) -> None:
    folder.configure(hostname="", report_extra=True)
    found = host_facts(folder.config, "falcon")
    assert found == HostFacts(
        hostname=facts.host_name(), ip=found.ip, run_user="falcon", updater_version=VERSION, report_extra=True
    )
    folder.configure(hostname="liutian-01")
    assert host_facts(folder.config, "falcon").hostname == "liutian-01"


def test_a_host_that_is_renamed_goes_by_its_new_name_in_all_that_a_name_decides(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.configure(hostname="", fetch_splay="1h")
    before = folder.around()
    monkeypatch.setattr("socket.gethostname", lambda: "renamed")
    after = refreshed(folder.config, before)
    assert (after.facts.hostname, after.rules.hostname) == ("renamed", "renamed")
    assert after.rules.splay != before.rules.splay, "its turn to fetch"
    assert after.http is before.http


def test_without_a_server_the_host_has_an_address_all_the_same(folder: Folder) -> None:
    (folder.path / "cfg.json").write_text('{"desired": "desired.json"}')
    assert host_facts(folder.config, "u").ip


def test_credentials_go_to_the_server_and_to_the_origins_that_the_config_names(folder: Folder) -> None:
    (folder.path / "secret").write_text("canary\r\n")
    with Loopback(answers(EMPTY)) as meta, Loopback(answers(b"x")) as releases, Loopback(answers(b"x")) as other:
        auth = {"user": "me", "password_file": "secret", "hosts": [releases.origin]}
        folder.configure(server=f"127.0.0.1:{meta.port}", auth=auth)
        host = folder.around()
        host.source.exchange(REPORT)
        for server in (releases, other):
            host.http.small("GET", f"{server.origin}/x", limit=10, deadline_s=5)
        assert meta.requests[0].headers["authorization"] == "Basic bWU6Y2FuYXJ5"
        assert releases.requests[0].headers["authorization"] == "Basic bWU6Y2FuYXJ5"
        assert "authorization" not in other.requests[0].headers
        assert meta.requests[0].headers["user-agent"] == f"ops-updater/{VERSION}"
    assert "canary" not in repr(host)


def test_with_a_file_as_source_credentials_go_to_the_named_origins_alone(folder: Folder) -> None:
    (folder.path / "secret").write_text("canary")
    with Loopback(answers(b"x")) as releases:
        auth = {"user": "me", "password_file": "secret", "hosts": [releases.origin]}
        folder.configure(server=None, desired="desired.json", auth=auth)
        folder.around().http.small("GET", f"{releases.origin}/x", limit=10, deadline_s=5)
    assert "authorization" in releases.requests[0].headers


def test_requests_go_through_the_proxy_of_the_config(folder: Folder) -> None:
    url = "http://127.0.0.1:1/x"
    with Loopback(answers(b"x")) as proxy:
        folder.configure(proxy=f"http://127.0.0.1:{proxy.port}")
        reply = folder.around().http.small("GET", url, limit=10, deadline_s=5)
    assert reply.body == b"x"
    assert proxy.requests[0].line == f"GET {url} HTTP/1.1"
