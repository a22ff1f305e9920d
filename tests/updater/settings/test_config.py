"""The config: every key, every error at once with its path, and the files of the field."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from probes.observed import ProcessState
from reconcile.decide.timing.fleet_places import Groups
from reconcile.decide.timing.windows import Window
from updater.settings.config import Config, ConfigWrong, from_keys, load
from updater.settings.keys import KEYS
from updater.settings.sections import AuthConfig, ControlTimeouts, FleetLockConfig, HttpConfig, TlsConfig
from updater.settings.values import parse_size, parse_time

ROOT = Path(__file__).parents[3]
KEY = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"  # the one that minisign's own releases are signed with


def read(tmp_path: Path, content: object) -> Config:
    path = tmp_path / "cfg.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return load(path)


def errors(tmp_path: Path, content: object) -> list[str]:
    with pytest.raises(ConfigWrong) as raised:
        read(tmp_path, content)
    assert raised.value.path == tmp_path / "cfg.json"
    assert str(raised.value) == "\n".join(raised.value.errors)
    return raised.value.errors


def error(tmp_path: Path, key: str, value: object) -> str:
    """The one error of a config that is fine but for this key."""
    [line] = errors(tmp_path, {"server": "127.0.0.1:1", key: value})
    assert line.startswith((key, "server: expected an https"))
    return line


def test_the_least_config(tmp_path: Path) -> None:
    config = read(tmp_path, {"server": "127.0.0.1:2000"})
    assert config == Config(
        path=tmp_path / "cfg.json",
        written={},
        log_level="info",
        hostname=None,
        server="127.0.0.1:2000",
        interval=300.0,
        http=HttpConfig(enabled=False, listen="127.0.0.1:2001"),
        work_dir=None,
        run_user=None,
        create_users=False,
        desired=None,
        desired_poll=None,
        tarball_layout="{tarball}/{arch}/{name}-{version}.tar.gz",
        auth=None,
        tls=TlsConfig(ca_file=None, pin_sha256=None),
        proxy=None,
        report_extra=False,
        report_to=None,
        control_timeout=ControlTimeouts(status=10.0, start=60.0, stop=60.0),
        watch=30.0,
        keep=2,
        quarantine_for=None,
        parallel=4,
        status_parallel=64,
        max_tarball=512 * 2**20,
        max_unpacked=2 * 2**30,
        max_files=100_000,
        max_download_rate=None,
        fleet_lock=None,
        windows=None,
        time_zone="UTC",
        fetch_splay=0.0,
        cache_size=2**30,
        agent_env={},
        status_words={},
        desired_agent=None,
        allow_agents=None,
        allow_users=None,
        allow_work_dirs=None,
        mirrors=None,
        refuse_downgrade=False,
        min_version={},
        require_https=False,
        require_sha256=False,
        trusted_keys=None,
        require_signed_desired=False,
        metrics_textfile=None,
    )
    assert (config.folder, config.var) == (tmp_path, tmp_path / "var")


@pytest.mark.parametrize("written", ["/srv/agents", "/srv//agents/", "//srv/./agents", " /srv/agents/. "])
def test_a_work_dir_has_one_spelling(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, {"server": "m:1", "work_dir": written}).work_dir == "/srv/agents"


def test_every_key(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x\n")
    (tmp_path / "ca.pem").write_text("x")
    config = read(
        tmp_path,
        {
            "log_level": "DEBUG",
            "hostname": " host-1 ",
            "server": "https://meta.test/heartbeat",
            "interval": "10m",
            "http": {"enabled": True, "listen": "127.0.0.1:2001"},
            "work_dir": "/home/falcon",
            "run_user": "falcon",
            "desired": "desired.json",
            "tarball_layout": "{tarball}/{name}-{version}.tar.gz",
            "auth": {"user": "me", "password_file": "secret", "hosts": ["http://releases.test:8888"]},
            "tls": {"ca_file": "ca.pem", "pin_sha256": [":".join(["AB"] * 32), "0c" * 32]},
            "proxy": "http://proxy.test:3128",
            "report_extra": True,
            "control_timeout": {"status": 5, "start": "2m", "stop": 30.5},
            "parallel": 1,
            "status_parallel": 1024,
            "max_tarball": "1GiB",
            "max_unpacked": "3 GiB",
            "max_files": 200_000,
            "max_download_rate": "500KiB",
            "cache_size": 1000,
            "agent_env": {"HTTP_PROXY": "http://proxy.test", "_x1": ""},
            "status_words": {"*": {"started": [" UP "]}, "odd": {"stoped": ["dead  but pid file exists", "stopped"]}},
            "fleet_lock": {"url": "https://lock.test/", "group": {"falcon-agent": "monitoring", "*": "web"}},
            "windows": [
                {"days": ["mon", "sun"], "start": "23:30", "length": "2h"},
                {"start": "00:00", "length": "24h"},
            ],
            "time_zone": "Europe/Berlin",
            "allow_agents": ["falcon-agent", "smart-agent"],
            "allow_users": ["falcon"],
            "allow_work_dirs": ["/home/falcon/", "/srv//agents"],
            "mirrors": ["http://files.test:8888/releases", "https://files.test/"],
            "refuse_downgrade": True,
            "min_version": {"falcon-agent": "5.1.0"},
            "require_https": True,
            "require_sha256": True,
            "trusted_keys": [KEY],
        },
    )
    assert config == evolve(
        read(tmp_path, {"server": "https://meta.test/heartbeat"}),
        log_level="debug",
        hostname="host-1",
        interval=600.0,
        http=HttpConfig(enabled=True, listen="127.0.0.1:2001"),
        work_dir="/home/falcon",
        run_user="falcon",
        desired=tmp_path / "desired.json",
        tarball_layout="{tarball}/{name}-{version}.tar.gz",
        auth=AuthConfig(
            user="me",
            password_file=tmp_path / "secret",
            password=(tmp_path / "secret").read_text().strip(),
            hosts=("http://releases.test:8888",),
        ),
        tls=TlsConfig(ca_file=tmp_path / "ca.pem", pin_sha256=frozenset({"ab" * 32, "0c" * 32})),
        proxy="http://proxy.test:3128",
        report_extra=True,
        control_timeout=ControlTimeouts(status=5.0, start=120.0, stop=30.5),
        parallel=1,
        status_parallel=1024,
        max_tarball=2**30,
        max_unpacked=3 * 2**30,
        max_files=200_000,
        max_download_rate=500 * 1024,
        cache_size=1000,
        agent_env={"HTTP_PROXY": "http://proxy.test", "_x1": ""},
        status_words={
            "*": {"up": ProcessState.RUNNING},
            "odd": dict.fromkeys(("dead but pid file exists", "stopped"), ProcessState.STOPPED),
        },
        fleet_lock=FleetLockConfig(
            url="https://lock.test/", group=Groups(named={"falcon-agent": "monitoring"}, others="web")
        ),
        windows=(
            Window(days=frozenset({0, 6}), start=23 * 60 + 30, length=7200.0),
            Window(start=0, length=86400.0),
        ),
        time_zone="Europe/Berlin",
        allow_agents=frozenset({"falcon-agent", "smart-agent"}),
        allow_users=frozenset({"falcon"}),
        allow_work_dirs=("/home/falcon", "/srv/agents"),
        mirrors=("http://files.test:8888/releases", "https://files.test/"),
        refuse_downgrade=True,
        min_version={"falcon-agent": "5.1.0"},
        require_https=True,
        require_sha256=True,
        trusted_keys=(KEY,),
    )


def test_null_is_absent(tmp_path: Path) -> None:
    content = {key.name: None for key in KEYS}
    assert read(tmp_path, {**content, "server": "m:1"}) == read(tmp_path, {"server": "m:1"})


def test_a_config_of_the_field_starts_unchanged(tmp_path: Path) -> None:
    config = read(
        tmp_path,
        {
            "log_level": "info",
            "hostname": "",
            "server": "127.0.0.1:2000",
            "interval": 300,
            "http": {"enabled": False, "listen": "0.0.0.0:2001"},
        },
    )
    assert (config.hostname, config.interval, config.http.listen) == (None, 300.0, "0.0.0.0:2001")


@pytest.mark.parametrize(
    ("keys", "level", "agent"),
    [
        ({"debug": True, "desiredAgent": ""}, "debug", None),
        ({"debug": False, "desiredAgent": "falcon-agent"}, "info", "falcon-agent"),
        ({"debug": True, "log_level": "warning", "desiredAgent": " falcon-agent "}, "warning", "falcon-agent"),
        ({"desiredAgent": "what no agent is called"}, "info", "what no agent is called"),
    ],
)
def test_a_config_of_the_older_line_starts_unchanged(
    keys: dict[str, Any], level: str, agent: str | None, tmp_path: Path
) -> None:
    older = {"hostname": "", "server": "127.0.0.1:2000", "interval": 300, "http": {"enabled": False, "listen": ":2001"}}
    config = read(tmp_path, {**older, **keys})
    assert (config.log_level, config.desired_agent) == (level, agent)


def test_the_example_loads() -> None:
    assert load(ROOT / "cfg.example.json").server


def test_a_file_in_place_of_a_server(tmp_path: Path) -> None:
    assert read(tmp_path, {"desired": "/etc/desired.json"}).desired == Path("/etc/desired.json")


def test_our_own_folder_is_where_the_config_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(tmp_path, {"server": "m:1"})
    monkeypatch.chdir(tmp_path)
    assert load(Path("cfg.json")).var == tmp_path / "var"


# Files that are none


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not JSON"),
        ("{", "is not JSON"),
        ("[]", "holds no JSON object"),
        ('"x"', "holds no JSON object"),
        ("[" * 100_000, "is not JSON"),
        ('{"server": "a:1", "server": "b:1"}', "the key 'server' stands there twice"),
        ('{"server": "a:1", "http": {"listen": "a", "listen": "b"}}', "the key 'listen' stands there twice"),
        (" " * (1024 * 1024 + 1), "is larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_config(tmp_path: Path, content: str, message: str) -> None:
    [line] = errors(tmp_path, content)
    assert str(tmp_path / "cfg.json") in line
    assert message in line


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "cfg.json").write_bytes(b'{"server": "\xff"}')
    with pytest.raises(ConfigWrong, match="is not JSON"):
        load(tmp_path / "cfg.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigWrong, match=r"does not exist; make it from cfg\.example\.json"):
        load(tmp_path / "cfg.json")
    with pytest.raises(ConfigWrong, match="can't be read: it is not a regular file"):
        load(tmp_path)


# Errors


def test_every_error_at_once(tmp_path: Path) -> None:
    found = errors(
        tmp_path,
        {
            "sever": "127.0.0.1:1",
            "interval": "often",
            "http": {"enabled": "yes", "port": 1},
            "auth": {},
            "control_timeout": {"start": 0, "starts": 1},
            "xyzzy": 1,
        },
    )
    assert sorted(found) == [
        "auth.password_file: missing",
        "auth.user: missing",
        "control_timeout.start: expected at least 1 second, found 0",
        "control_timeout.starts: unknown key; did you mean `control_timeout.start`?",
        'http.enabled: expected true or false, found "yes"',
        "http.port: unknown key",
        'interval: expected seconds or a time such as "10m", found "often"',
        "server: missing; expected host:port of ops-meta, or `desired` with a file or an URL in its place",
        "sever: unknown key; did you mean `server`?",
        "xyzzy: unknown key",
    ]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("log_level", "loud", "expected one of trace, debug, info, warning, error, critical"),
        ("log_level", 1, "expected one of"),
        ("hostname", 1, "expected a text, found 1"),
        ("hostname", "a\nb", "expected a text"),
        ("hostname", "x" * 5000, "expected a text"),
        ("interval", 0, "expected at least 1 second"),
        ("interval", -5, "expected seconds or a time"),
        ("interval", True, "expected seconds or a time"),
        ("interval", "1e3", "expected seconds or a time"),
        ("interval", "5 weeks", "expected seconds or a time"),
        ("http", [], "expected an object, found a list"),
        ("work_dir", "home", "expected an absolute path"),
        ("work_dir", "", "expected an absolute path"),
        ("desired", "ftp://meta/desired.json", "is not an http:// or https:// URL with a host"),
        ("desired", "", "expected the path of a file"),
        ("tarball_layout", "{tarball}/{name}", "expected {tarball}, {name}, {version}"),
        ("tarball_layout", "{tarball}/{name}-{version}-{os}", "expected {tarball}, {name}, {version}"),
        ("tarball_layout", "http://x/{tarball}/{name}-{version}", "expected it to begin with {tarball}/"),
        ("tarball_layout", "{tarball}/{name-{version}", "in "),
        ("tarball_layout", 1, "expected a text"),
        ("auth", "me:secret", "expected an object"),
        ("tls", "ca.pem", "expected an object"),
        ("proxy", "https://proxy.test", "expected an http:// URL"),
        ("proxy", 1, "expected an http:// URL"),
        ("report_extra", 1, "expected true or false"),
        ("parallel", 0, "expected a number from 1 to 1024"),
        ("parallel", 1025, "expected a number from 1 to 1024"),
        ("parallel", True, "expected a number from 1 to 1024"),
        ("status_parallel", "64", "expected a number from 1 to 1024"),
        ("max_tarball", "big", "expected bytes or a size"),
        ("max_unpacked", 1.5, "expected bytes or a size"),
        ("max_files", 0, "expected a number from 1 to 10000000"),
        ("max_files", "many", "expected a number from 1 to 10000000"),
        ("max_download_rate", 0, "expected more than 0 bytes"),
        ("cache_size", "9" * 20, "expected bytes or a size"),
        ("agent_env", [], "expected an object of names and texts"),
        ("agent_env", {"A B": "x"}, "'A B': expected a variable's name"),
        ("agent_env", {"A": 1}, "'A': expected a variable's name and a text"),
        ("agent_env", {"A": "\0"}, "'A': expected"),
        ("status_words", ["up"], "expected an object of agents' names"),
        ("status_words", {"../x": {"started": ["up"]}}, '"../x": expected an agent\'s name, or * for all'),
        ("status_words", {"a": ["up"]}, "a: expected an object"),
        ("status_words", {"a": {"stopped": ["down"]}}, "did you mean `status_words.a.stoped`?"),
        ("status_words", {"a": {"started": "up"}}, "a.started: expected a list of texts"),
        ("status_words", {"a": {"started": [1]}}, "a.started: expected a list of texts"),
        ("status_words", {"a": {"started": [" "]}}, "a.started: expected words that a line"),
        ("status_words", {"a": {"started": ["u\0p"]}}, "a.started: expected words that a line"),
        ("status_words", {"a": {"started": ["x" * 201]}}, "a.started: expected words that a line"),
        ("status_words", {"*": {"started": ["up"], "stoped": ["Up"]}}, '*: "up" can\'t mean stoped'),
        ("status_words", {"a": {"stoped": ["RUNNING"]}}, 'a: "running" can\'t mean stoped'),
        ("wrok_dir", "/x", "did you mean `work_dir`?"),
        ("mirror", [], "did you mean `mirrors`?"),
        ("fleet_lock", "https://lock.test", "expected an object"),
        ("fleet_lock", {}, "fleet_lock.url: missing"),
        ("fleet_lock", {"url": "lock.test"}, "is not an http:// or https:// URL with a host"),
        ("fleet_lock", {"url": "http://me:secret@lock.test"}, "credentials in the URL"),
        ("fleet_lock", {"url": "http://lock.test", "group": []}, "fleet_lock.group: expected a group's name"),
        ("fleet_lock", {"url": "http://lock.test", "group": {}}, "fleet_lock.group: expected a group's name"),
        ("fleet_lock", {"url": "http://lock.test", "group": "a b"}, "can't be a group's name"),
        ("fleet_lock", {"url": "http://lock.test", "group": {"../x": "web"}}, "can't be an agent's name"),
        ("fleet_lock", {"url": "http://lock.test", "group": {"*": 1}}, "can't be a group's name"),
        ("windows", {}, "expected a list of windows such as"),
        ("windows", [], "expected a list of windows such as"),
        ("windows", [{"length": "1h"}], "windows[0].start: missing"),
        ("windows", [{"start": "24:00", "length": "2h"}], 'windows[0].start: expected a time of day such as "23:30"'),
        ("windows", [{"start": 5, "length": "2h"}], "windows[0].start: expected a time of day"),
        ("windows", [{"start": "1:00", "length": "2h"}], "windows[0].start: expected a time of day"),
        ("windows", [{"start": "01:00", "length": "25h"}], "windows[0].length: expected from 1m to 24h"),
        ("windows", [{"start": "01:00", "length": 0}], "windows[0].length: expected from 1m to 24h"),
        ("windows", [{"start": "01:00", "length": "2h", "days": []}], "windows[0].days: expected a list of mon, tue"),
        ("windows", [{"start": "01:00", "length": "2h", "days": ["Mon"]}], "windows[0].days: expected a list"),
        ("windows", [{"start": "01:00", "length": "2h", "days": "mon"}], "windows[0].days: expected a list"),
        ("windows", [{"start": "01:00", "length": "2h", "day": ["mon"]}], "did you mean `windows[0].days`?"),
        ("time_zone", 1, 'expected a time zone such as "Europe/Berlin"'),
        ("time_zone", "../etc/passwd", 'expected a time zone such as "Europe/Berlin"'),
        ("time_zone", "/etc/localtime", 'expected a time zone such as "Europe/Berlin"'),
        ("allow_agents", "falcon-agent", "expected a list of agents' names"),
        ("allow_agents", ["../x"], "\"../x\" can't be an agent's name"),
        ("allow_users", ["#0"], "\"#0\" can't be a user's name"),
        ("allow_users", [0], "expected a list of users' names"),
        ("allow_work_dirs", ["agents"], "expected an absolute path without '..'"),
        ("allow_work_dirs", ["/srv/../etc"], "expected an absolute path without '..'"),
        ("allow_work_dirs", ["//srv"], "expected an absolute path without '..'"),
        ("mirrors", ["files.test"], '"files.test" is not a plain URL prefix'),
        ("mirrors", ["http://me@files.test/"], "is not a plain URL prefix"),
        ("mirrors", ["http://files.test/?x=1"], "is not a plain URL prefix"),
        ("refuse_downgrade", "yes", "expected true or false"),
        ("min_version", ["5.1"], "expected an object such as"),
        ("min_version", {"a b": "5.1"}, "\"a b\" can't be an agent's name"),
        ("min_version", {"falcon-agent": 5}, "falcon-agent: expected a version, found 5"),
        ("trusted_keys", KEY, "expected a list of minisign public keys"),
        ("trusted_keys", [], "holds no key; take it out where no signature is to be asked for"),
        (
            "trusted_keys",
            ["ops.pub"],
            "ops.pu...: it is not base64; expected a minisign public key: the second line of its .pub file",
        ),
        ("trusted_keys", [KEY, KEY[:-4]], "expected a minisign public key: the second line of its .pub file"),
        ("trusted_keys", ["RWRT" + "A" * 208], "this is a SECRET key"),
        ("require_https", True, "server: expected an https:// URL, since require_https is set"),
    ],
)
def test_a_value_that_can_not_be_meant(tmp_path: Path, key: str, value: object, message: str) -> None:
    assert message in error(tmp_path, key, value)


@pytest.mark.parametrize(
    "server",
    [
        "",
        "   ",
        1,
        "a b",
        "ftp://meta",
        "http://me:secret@meta",
        "::1:2000",
        "http://::1:2000",
        "meta:99999",
        "meta:-1",
    ],
)
def test_a_server_that_is_none(tmp_path: Path, server: object) -> None:
    found = errors(tmp_path, {"server": server})
    assert len(found) == 1, "it is not missing, too"
    assert found[0].startswith("server: ")
    assert "secret" not in "".join(found)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"user": "me", "password_file": "none"}, "auth.password_file: "),
        ({"user": "", "password_file": "cfg.json"}, None),
        ({"user": "me", "password_file": "cfg.json", "hosts": "http://a"}, "auth.hosts: expected a list of origins"),
        ({"user": "me", "password_file": "cfg.json", "hosts": ["ftp://a"]}, "auth.hosts: "),
        ({"user": "me", "password_file": "cfg.json", "password": "x"}, "auth.password: unknown key"),
    ],
)
def test_credentials(tmp_path: Path, value: object, message: str | None) -> None:
    if message is None:
        assert read(tmp_path, {"server": "m:1", "auth": value}).auth is None
    else:
        assert message in error(tmp_path, "auth", value)


def test_the_rules_of_another_host_are_taken_from_its_snapshot(tmp_path: Path) -> None:
    rules = {"mirrors": ["https://files.test/"], "require_https": True, "trusted_keys": [KEY], "refuse_downgrade": True}
    config = read(tmp_path, {"server": "https://meta.test", **rules})
    assert config.deciding == rules
    elsewhere = from_keys(tmp_path / "other.json", config.deciding)
    assert (elsewhere.mirrors, elsewhere.require_https, elsewhere.trusted_keys) == (config.mirrors, True, (KEY,))


def test_require_https_is_of_the_fleets_lock_too(tmp_path: Path) -> None:
    keys = {"server": "https://meta.test", "require_https": True, "fleet_lock": {"url": "http://lock.test"}}
    assert errors(tmp_path, keys) == ["fleet_lock.url: expected an https:// URL, since require_https is set"]


def test_require_https_is_of_reports_too(tmp_path: Path) -> None:
    keys = {"server": "https://meta.test", "require_https": True, "report_to": "http://in.test/"}
    assert errors(tmp_path, keys) == ["report_to: expected an https:// URL, since require_https is set"]
    assert read(tmp_path, {**keys, "report_to": "https://in.test/a?b"}).report_to == "https://in.test/a?b"


def test_require_https_is_of_a_desired_url_too(tmp_path: Path) -> None:
    content = {"require_https": True, "desired": "http://files.test/desired.json"}
    assert errors(tmp_path, content) == ["desired: expected a file or an https:// URL, since require_https is set"]
    assert read(tmp_path, {**content, "desired": "https://files.test/desired.json"}).require_https
    assert read(tmp_path, {**content, "desired": "desired.json"}).require_https


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"desired": "https://www.test/desired.json", "desired_poll": 1}, ""),
        ({"desired": "https://www.test/desired.json", "desired_poll": "5m"}, ""),
        ({"desired": "https://www.test/desired.json", "server": "meta.test:2000", "desired_poll": "10s"}, ""),
        ({"desired": "https://www.test/desired.json", "desired_poll": None}, ""),
        ({"desired": "https://www.test/desired.json", "desired_poll": 0}, "expected at least 1 second, found 0"),
        ({"desired": "https://www.test/desired.json", "desired_poll": 0.5}, "expected at least 1 second, found 0.5"),
        ({"desired": "https://www.test/desired.json", "desired_poll": "often"}, "expected seconds or a time"),
        ({"desired": "https://www.test/desired.json", "desired_poll": 301}, "to `interval`, which is 300 s"),
        ({"desired": "https://www.test/desired.json", "desired_poll": 11, "interval": 10}, "which is 10 s"),
        ({"desired": "desired.json", "desired_poll": 10}, "and `desired` is a file; name an URL"),
        ({"server": "meta.test:2000", "desired_poll": 10}, "and `desired` is not set; name an URL"),
    ],
)
def test_a_poll_is_of_a_desired_url_and_no_rarer_than_passes(
    tmp_path: Path, keys: dict[str, object], message: str
) -> None:
    if not message:
        assert read(tmp_path, keys).desired_poll in (None, 1.0, 10.0, 300.0)
        return
    [line] = errors(tmp_path, keys)
    assert line.startswith("desired_poll: ")
    assert message in line


def test_a_wrong_desired_is_the_one_error_of_a_poll(tmp_path: Path) -> None:
    [line] = errors(tmp_path, {"desired": "ftp://www.test/desired.json", "desired_poll": 10})
    assert line.startswith("desired: ")


def test_a_password_that_can_not_be_read_now_is_no_error_where_that_is_not_asked(tmp_path: Path) -> None:
    content = {"server": "m:1", "auth": {"user": "me", "password_file": "none"}}
    (tmp_path / "cfg.json").write_text(json.dumps(content))
    auth = load(tmp_path / "cfg.json", strict=False).auth
    assert auth is not None
    assert auth.password is None
    assert auth.trouble == f"auth.password_file: {tmp_path / 'none'} can't be read: No such file or directory"


def test_a_ca_file_that_can_not_be_read(tmp_path: Path) -> None:
    assert "tls.ca_file: " in error(tmp_path, "tls", {"ca_file": "none.pem"})


@pytest.mark.parametrize(
    ("pins", "message"),
    [
        ("ab" * 32, "expected a list of certificates' sha256 digests"),
        ([], "holds no digest; take it out where no certificate is to be pinned"),
        (["ab" * 16], "expected 64 hex digits"),
        (["sha256//" + "A" * 43 + "="], "expected 64 hex digits"),
        ([1], "expected a list"),
    ],
)
def test_what_is_no_pin(tmp_path: Path, pins: object, message: str) -> None:
    [found] = errors(tmp_path, {"server": "https://m", "tls": {"pin_sha256": pins}})
    assert found.startswith("tls.pin_sha256: ")
    assert message in found


@pytest.mark.parametrize(
    ("urls", "fine"),
    [
        ({"server": "https://m"}, True),
        ({"desired": "https://m/x.json"}, True),
        ({"server": "m:1", "desired": "https://m/x.json"}, True),
        ({"server": "m:1"}, False),
        ({"desired": "http://m/x.json"}, False),
        ({"desired": "x.json"}, False),
    ],
)
def test_a_pin_that_could_never_be_compared_is_an_error(tmp_path: Path, urls: dict[str, str], fine: bool) -> None:
    content = {**urls, "tls": {"pin_sha256": ["ab" * 32]}}
    (tmp_path / "cfg.json").write_text(json.dumps(content))
    try:
        load(tmp_path / "cfg.json")
        found = []
    except ConfigWrong as err:
        found = err.errors
    message = "tls.pin_sha256: holds for `server` or a `desired` URL, and none is an https:// URL"
    assert found == ([] if fine else [message])


def test_a_long_value_is_not_printed_in_full(tmp_path: Path) -> None:
    assert len(error(tmp_path, "interval", "x" * 1000)) < 200


# Sizes and times


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(90, 90), (0.5, 0.5), ("90", 90), ("90s", 90), ("10m", 600), ("1.5h", 5400), ("2 d", 172800), (" 1m ", 60)],
)
def test_times(text: object, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-1", "1w", "1 m 2 s", "9999999999", 1e10, float("nan"), None, []])
def test_no_times(text: object) -> None:
    with pytest.raises(ValueError, match="expected seconds or a time"):
        parse_time(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [(0, 0), (7, 7), ("7", 7), ("7B", 7), ("2KiB", 2048), ("512MiB", 512 * 2**20), ("1 GiB", 2**30)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1.5MiB", "1MB", "1mib", 1.0, True, 2**62, "9" * 19, None])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected bytes or a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"server": "h:1", "watch": NaN}', "NaN stands where"),
        ('{"server": "h:1", "watch": %s}' % ("9" * 100_000), "a number of 100000 digits"),
        ('{"server": "h:1", "watch": 1e999}', "expected seconds"),
        ('{"server": "h:1", "agent_env": {"A": "\\ud800"}}', "agent_env"),
        ("[" * 100_000, "not JSON"),
        ("x" * (1 << 20) + "y", "larger than 1 MiB"),
    ],
)
def test_what_json_allows_or_python_takes_and_we_do_not(tmp_path: Path, content: str, says: str) -> None:
    [line] = errors(tmp_path, content)
    assert says in line


def test_a_config_that_is_a_fifo_or_endless_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", Path("/dev/zero"), tmp_path):
        with pytest.raises(ConfigWrong, match="not a regular file"):
            load(path)
    line = error(tmp_path, "auth", {"user": "me", "password_file": "/dev/zero"})
    assert "not a regular file" in line


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auth", "canary"),
        ("auth", {"user": "me", "password_file": "http://u:canary@h/?canary"}),
        ("auth", {"user": "me", "password_file": "cfg.json", "hosts": "http://u:canary@h"}),
        ("auth", {"user": "me", "password_file": "cfg.json", "hosts": ["http://u:canary@h"]}),
        ("desired", "http://u:canary@h/x?token=canary"),
        ("proxy", "https://u:canary@h"),
        ("server", "http://u:canary@h/?canary"),
        ("work_dir", "http://u:canary@h"),
    ],
)
def test_no_error_shows_what_may_be_secret(tmp_path: Path, key: str, value: object) -> None:
    assert "canary" not in "\n".join(errors(tmp_path, {"server": "127.0.0.1:1", key: value}))


@pytest.mark.parametrize("keys", [{"auth": {"user": "u", "password_file": "/proc/kmsg"}}, {"tls": {"ca_file": "/x"}}])
def test_what_another_host_sends_has_no_file_read(tmp_path: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(ConfigWrong, match="expected keys that decide plans alone"):
        from_keys(tmp_path / "other.json", {"keep": 3, **keys})
