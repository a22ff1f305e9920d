"""The host's own rules: what each refuses or bars, by its name, and what it lets through."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from reconcile.decide.desired import DesiredAgent, DesiredHost
from reconcile.decide.host_rules import Restrictions, bar_content, bar_downgrade, is_on_mirror, is_within
from reconcile.decide.policy.accept import accept
from reconcile.decide.policy.inputs import Lookups, Policy
from reconcile.source import Answer, Entry

ENTRY = Entry(
    name="falcon-agent",
    version="5.1.3",
    tarball="https://files.test/releases/falcon",
    md5="490ac172dabecc867289079d48e84a66",
    sha256="5f" * 32,
    cmd="start",
    run_user="falcon",
    work_dir="/home/falcon/open-falcon",
    config_file_name="cfg.json",
    config_remote_url="https://files.test/conf/cfg.json",
)


def judge(entry: Entry = ENTRY, **rules: Any) -> DesiredHost:
    policy = Policy(own_user="falcon", own_folders=(), arch="linux_amd64", restrictions=Restrictions(**rules))
    return accept(Answer(entries=(entry,), came_from="test"), policy, Lookups())


def refusing_rule(entry: Entry = ENTRY, **rules: Any) -> str:
    found = judge(entry, **rules)
    assert found.agents == ()
    assert found.refused[0].reason == "PolicyRefused"
    return found.refused[0].rule


def barring_rule(entry: Entry = ENTRY, **rules: Any) -> str:
    """The rule that bars a change; empty: none does. The agent itself is accepted."""
    [agent] = judge(entry, **rules).agents
    return "" if agent.barred is None else agent.barred.rule


WHO_AND_WHERE: list[tuple[str, Any, Any]] = [
    ("allow_users", frozenset({"falcon", "nobody"}), frozenset({"root"})),
    ("allow_work_dirs", ("/home/falcon",), ("/home/falc", "/home/falcon/open-falcon/falcon-agent")),
]


@pytest.mark.parametrize(("rule", "passes", "refuses"), WHO_AND_WHERE)
@pytest.mark.parametrize("cmd", ["start", "stop", ""])
def test_who_and_where_refuses_the_entry_whatever_it_asks(rule: str, passes: Any, refuses: Any, cmd: str) -> None:
    entry = evolve(ENTRY, cmd=cmd)
    assert judge(entry, **{rule: passes}).refused == ()
    assert refusing_rule(entry, **{rule: refuses}) == rule
    assert refusing_rule(entry, **{rule: type(passes)()}) == rule, "an empty list allows nothing"


@pytest.mark.parametrize("cmd", ["start", "stop", ""])
def test_an_agent_that_is_not_allowed_is_none_of_this_hosts_business(cmd: str) -> None:
    entry = evolve(ENTRY, cmd=cmd)
    assert [agent.name for agent in judge(entry, allow_agents=frozenset({"falcon-agent"})).agents] == ["falcon-agent"]
    for others in (frozenset({"falcon", "falcon-agent-2"}), frozenset()):
        host = judge(entry, allow_agents=others)
        assert (host.agents, host.refused) == ((), ())
        assert [(one.name, one.reason, one.rule) for one in host.ruled_out] == [
            ("falcon-agent", "PolicyRefused", "allow_agents")
        ]


@pytest.mark.parametrize(
    ("rule", "value", "changed"),
    [
        ("min_version", {"falcon-agent": "5.2"}, {}),
        ("require_sha256", True, {"sha256": ""}),
        ("require_https", True, {"tarball": "http://files.test/releases/falcon"}),
        ("require_https", True, {"md5": "http://files.test/releases"}),
        ("require_https", True, {"config_remote_url": "http://files.test/conf/cfg.json"}),
        ("mirrors", ("https://files.test/releases",), {}),
        ("mirrors", ("https://files.test/conf",), {}),
        ("mirrors", ("https://files.test",), {"md5": "https://sums.test/falcon"}),
        ("mirrors", (), {}),
    ],
)
def test_content_is_barred_and_the_agent_is_not(rule: str, value: Any, changed: dict[str, Any]) -> None:
    entry = evolve(ENTRY, **changed)
    assert barring_rule(entry, **{rule: value}) == rule
    for cmd in ("stop", ""):
        assert barring_rule(evolve(entry, cmd=cmd), **{rule: value}) == "", "to stop and to look on needs no content"


@pytest.mark.parametrize(
    "rules",
    [
        {"min_version": {"falcon-agent": "5.1.3", "other": "9"}},
        {"require_sha256": True, "require_https": True},
        {"mirrors": ("https://other.test", "https://files.test:443/conf/", "https://FILES.test/releases/falcon")},
    ],
)
def test_what_keeps_the_rules_passes(rules: dict[str, Any]) -> None:
    assert barring_rule(**rules) == ""


@pytest.mark.parametrize(
    ("in_use", "rule"), [("5.1.4", "refuse_downgrade"), ("5.1.3", ""), ("5.1.2", ""), ("", ""), (None, "")]
)
def test_a_downgrade_is_measured_at_what_is_in_use(in_use: str | None, rule: str) -> None:
    [agent] = judge().agents
    bar = bar_downgrade(agent, in_use)
    assert (bar.rule if bar is not None else "") == rule
    assert bar_downgrade(stopping(), "9") is None


@pytest.mark.parametrize(
    ("name", "version", "reason"),
    [
        ("falcon-agent", "5.1.3", ""),
        ("falcon-agent", "5.1.3-2", ""),
        ("falcon2", "5", ""),
        ("a1-b2", "3-4", ""),
        ("falcon", "agent-5.1", "SignatureInvalid"),
        ("falcon-agent-5.1", "1", "SignatureInvalid"),
        ("falcon-agent-5", "1-3", "SignatureInvalid"),
        ("falcon-2nd", "5.1", "SignatureInvalid"),
        ("falcon-agent", "v5.1", "SignatureInvalid"),
        ("falcon", "agent", "SignatureInvalid"),
    ],
)
def test_a_signed_name_and_version_can_be_split_in_one_way_alone(name: str, version: str, reason: str) -> None:
    entry = evolve(ENTRY, name=name, version=version)
    [agent] = judge(entry, trusted_keys=frozenset({"RWQ"})).agents
    assert ("" if agent.barred is None else agent.barred.reason) == reason
    [agent] = judge(entry).agents
    assert agent.barred is None, "where no signature is asked for, a name is no matter of it"
    [agent] = judge(evolve(entry, cmd="stop"), trusted_keys=frozenset({"RWQ"})).agents
    assert agent.barred is None


@pytest.mark.parametrize(
    "name", ["cfg.json", "app.YAML", "falcon.conf", "a.b.ini", "log4j.properties", "cert.pem", "app.toml"]
)
def test_a_config_beside_signed_programs_is_a_data_file_by_its_name(name: str) -> None:
    assert barring_rule(evolve(ENTRY, config_file_name=name), trusted_keys=frozenset({"RWQ"})) == ""


@pytest.mark.parametrize(
    "name",
    [
        *("falcon-agent", "Falcon-Agent", "config", "env.sh", ".env", "app.py", "sitecustomize.py", "x.pyc", "x.pth"),
        *("lib.so", "lib.so.1", "app.jar", "a.js", "run.pl", "app.pid", ".bashrc", "cfg.json.sh", "json", "cfg.json~"),
    ],
)
def test_what_may_be_a_program_by_its_name_is_no_config_where_programs_are_signed(name: str) -> None:
    entry = evolve(ENTRY, config_file_name=name)
    assert barring_rule(entry, trusted_keys=frozenset({"RWQ"})) == "trusted_keys"
    assert barring_rule(entry) == "", "where no signature is asked for it is as before"
    assert barring_rule(evolve(entry, cmd="stop"), trusted_keys=frozenset({"RWQ"})) == ""


def test_what_is_to_stop_is_made_of_nothing() -> None:
    assert bar_content(stopping(), Restrictions(require_sha256=True, mirrors=())) is None


def stopping() -> DesiredAgent:
    [agent] = judge(evolve(ENTRY, cmd="stop")).agents
    return agent


MIRROR = ("http://a.example/rel",)
EVASIONS = (
    "http://a.example/release-evil/x",
    "http://a.example/rel.evil/x",
    "http://a.example/",
    "http://a.example",
    "http://a.example@evil/rel/x",
    "http://a.example:80@evil/rel/x",
    "http://user@a.example/rel/x",
    "http://a.example.evil/rel/x",
    "http://evil/a.example/rel/x",
    "http://a.example:8080/rel/x",
    "http://a.example:80000/rel/x",
    "https://a.example/rel/x",
    "ftp://a.example/rel/x",
    "http://a.example/rel/../evil/x",
    "http://a.example/rel/%2e%2E/evil/x",
    "http://a.example/rel/%252e%252e/evil/x",
    "http://a.example/rel/./x",
    "http://a.example/rel%2f..%2fevil/x",
    "http://a.example/rel/..%5cevil/x",
    "http://a.example\\@evil/rel/x",
    "http://evil\\.a.example/rel/x",
    "http://a.example/rel\\..\\evil/x",
    "http://a.example#@evil/rel/x",
    "http://a.example/rel/x#fragment",
    "http://a.example?/rel/x",
    "http://a。example/rel/x",
    "http:/a.example/rel/x",
    "//a.example/rel/x",
    "http://a.example/rel/x\n",
    "",
    # What is read otherwise behind a proxy: path parameters (Tomcat, Jetty), dots and blanks at a name's end (IIS),
    # overlong and full-width dots, merged slashes, cut strings, users.
    "http://a.example/rel/..;/x",
    "http://a.example/rel/..;a=b/evil/x",
    "http://a.example/rel/%2e%2e;/evil/x",
    "http://a.example/rel/..%3b/evil/x",
    "http://a.example/rel/.;/x",
    "http://a.example/rel;/../evil/x",
    "http://a.example/rel/;/evil/x",
    "http://a.example/rel/.../evil/x",
    "http://a.example/rel/..%20/evil/x",
    "http://a.example/rel/%20/evil/x",
    "http://a.example/rel/.%2e%20./evil/x",
    "http://a.example/rel/%c0%ae%c0%ae/evil/x",
    "http://a.example/rel/%EF%BC%8E%EF%BC%8E/evil/x",
    "http://a.example/rel/%u002e%u002e/evil/x",
    "http://a.example/rel//evil/x",
    "http://a.example//rel/x",
    "http://a.example/rel/%2f/evil/x",
    "http://a.example/rel/..%00/evil/x",
    "http://a.example/rel/x%00.tar.gz",
    "http://a.example/rel/x%0d%0aHost:%20evil",
    "http://a.example/rel/..%09/evil/x",
    "http://a.example/rel/@evil/x",
    "http://a.example/rel/x%40evil/x",
    "http://a.example/rel/..%23/evil/x",
    "http://a.example/rel/..%3f/evil/x",
    "http://a.example/%72el%2f..;/x",
    "http://user:pw@a.example/rel/x",
    "http://a.example%2frel@evil/rel/x",
    "http://a.example%00.evil/rel/x",
    "http://a.example:80:81/rel/x",
    "http://a.example:+80/rel/x",
    "http://a.example:/rel/x",
    "http://a.example./rel/x",
    "http://xn--a-example/rel/x",
    "http://a%2eexample/rel/x",
    "http://a.ex\u00e4mple/rel/x",
    "http://\uff41.example/rel/x",
    "http:\\\\a.example/rel/x",
    "http:///a.example/rel/x",
    " http://a.example/rel/x",
)


@pytest.mark.parametrize("url", EVASIONS)
def test_a_prefix_is_of_components_and_can_not_be_evaded(url: str) -> None:
    assert not is_on_mirror(url, MIRROR)


@pytest.mark.parametrize(
    "url",
    [
        "http://a.example/rel",
        "http://a.example/rel/",
        "http://A.EXAMPLE:80/rel/linux_amd64/falcon-agent-1.0+b~1.tar.gz",
        "HTTP://a.example/%72el/x",
        "http://a.example/rel/x?token=1/../2",
        "hTTp://a.EXample:080/rel//",
        "http://a.example/rel/1.0%2Bb/a%20b/x..y/.hidden/(1),a=b/~team:x!",
    ],
)
def test_what_is_below_a_prefix(url: str) -> None:
    assert is_on_mirror(url, MIRROR)
    assert is_on_mirror(url, ("http://a.example",))


def test_a_mirror_may_have_an_address() -> None:
    assert is_on_mirror("http://[fd00::1]:8888/rel/x", ("http://[fd00::1]:8888",))
    assert not is_on_mirror("http://[fd00::2]:8888/rel/x", ("http://[fd00::1]:8888",))


def test_within_is_by_whole_components() -> None:
    assert is_within("/home/falcon", ("/home/falcon",))
    assert is_within("/home/falcon/a", ("/srv", "/home/falcon"))
    assert not is_within("/home/falcon2", ("/home/falcon",))
    assert is_within("/srv/x", ("/",))


def test_a_long_list_is_cut_in_the_message() -> None:
    [refused] = judge(allow_agents=frozenset(f"agent-{number}" for number in range(9))).ruled_out
    assert "agent-4 and 4 more" in refused.message
