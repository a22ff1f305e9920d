"""The change-over from today's updater and back: its agents run on, and its layout is kept readable.

Today's updater leaves `{name}/{version}/` with the tarball and its .md5 inside, `.version` with a newline, no marker.
"""

from __future__ import annotations

import pytest

from tests.e2e.host import NAME, Host
from tests.e2e.steps import install_as_today, marker
from updater.demo import agent as agents

pytestmark = [pytest.mark.slow, pytest.mark.warm]


def test_the_first_pass_neither_restarts_nor_downloads_what_is_as_desired(host: Host) -> None:
    pid = install_as_today(host, "1.0.0")
    host.desire("1.0.0")

    first = host.apply("--detailed-exitcode")

    assert (first.code, first.agent()["reason"], first.actions()) == (0, "AsDesired", "")
    assert host.pid() == pid
    assert host.downloads() == []
    assert host.version() == "1.0.0\n", "not even rewritten"
    assert host.apply().code == 0
    assert (host.meta.reported(NAME) or {})["version"] == "1.0.0"


def test_the_old_version_is_adopted_before_it_is_left(host: Host) -> None:
    install_as_today(host, "1.0.0")
    host.desire("1.0.0")
    assert host.apply().code == 0
    host.publish("2.0.0")
    host.desire("2.0.0")

    upgraded = host.apply()

    assert (upgraded.code, upgraded.actions()) == (0, "fetch verify unpack stop switch start")
    assert host.ask().version == "2.0.0"
    adopted = marker(host.home() / "1.0.0")
    assert (adopted["origin"], adopted["digests"]) == ("adopted", [])
    assert (host.home() / "1.0.0" / f"{NAME}-1.0.0.tar.gz").exists(), "nothing else of it was touched"


def test_a_digest_for_the_adopted_version_unpacks_it_again(host: Host) -> None:
    install_as_today(host, "1.0.0", extra={"what": b"old"})
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.apply().code == 0
    host.desire("1.0.0")

    back = host.apply()

    assert (back.code, back.actions()) == (0, "fetch verify unpack stop switch start")
    assert host.ask().version == "1.0.0"
    assert marker(host.home() / "1.0.0")["origin"] == "unpacked"
    assert not (host.home() / "1.0.0" / f"{NAME}-1.0.0.tar.gz").exists()


def test_going_back_finds_what_todays_updater_needs(host: Host) -> None:
    install_as_today(host, "1.0.0")
    host.publish("2.0.0")
    host.desire("2.0.0")
    assert host.apply().code == 0
    pid = host.ask().pid

    # What today's updater reads: the version as plain text, and a control of it that answers.
    version = host.version().strip()
    assert version == "2.0.0"
    control = host.home() / version / "control"
    assert host.run(str(control), "status").out == "started\n"
    assert host.run(str(control), "stop").code == 0
    assert host.pid() is None
    assert host.run(str(control), "start").code == 0
    assert agents.ask(host.home()).pid != pid


def test_a_crash_on_such_a_host_is_healed_without_a_download(host: Host) -> None:
    pid = install_as_today(host, "1.0.0")
    host.desire("1.0.0")
    host.crash()

    healed = host.apply()

    assert (healed.code, healed.actions()) == (0, "start")
    assert host.ask().pid != pid
    assert host.downloads() == []
    assert not (host.home() / "1.0.0" / ".ops-updater.json").exists()


def test_a_config_that_differs_from_the_remote_one_is_left_alone_until_that_changes(host: Host) -> None:
    """Without a memory of it the updater can't know who changed it."""
    pid = install_as_today(host, "1.0.0", extra={"cfg.json": b'{"greeting": "by hand"}'})
    url = host.meta.publish_config("/conf/cfg.json", b'{"greeting": "remote"}')
    host.desire("1.0.0", configFileName="cfg.json", configRemoteUrl=url)

    first = host.apply()

    assert (first.code, first.actions()) == (0, "")
    assert first.condition("ConfigInSync") == ("False", "ConfigEdited")
    assert host.pid() == pid
    assert host.ask().greeting == "by hand"

    host.meta.publish_config("/conf/cfg.json", b'{"greeting": "newer"}')
    second = host.apply()
    assert (second.code, second.actions()) == (0, "configure stop switch start")
    assert host.ask().greeting == "newer"
    assert host.downloads() == []


def test_other_unmarked_directories_are_unpacked_again_when_desired(host: Host) -> None:
    install_as_today(host, "1.0.0")
    half = host.home() / "2.0.0"
    half.mkdir()
    (half / "control").write_text("#!/bin/sh\nexit 1\n")
    (half / "control").chmod(0o755)
    host.publish("2.0.0")
    host.desire("2.0.0")

    upgraded = host.apply()

    assert (upgraded.code, upgraded.actions()) == (0, "fetch verify unpack stop switch start")
    assert host.ask().version == "2.0.0"
