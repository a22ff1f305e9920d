"""What this host allows: every rule by its name, nothing interpreted, no bad entry in the way of a good one."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from reconcile.decide.desired import (
    Artifact,
    DesiredAgent,
    DesiredConfig,
    DesiredHost,
    Digest,
    Md5,
    Refusal,
    RunState,
    Sha256,
    Signing,
)
from reconcile.decide.host_rules import Restrictions
from reconcile.decide.policy.accept import accept, homes_named, users_named
from reconcile.decide.policy.inputs import Lookups, Policy
from reconcile.decide.policy.names import is_user_name
from reconcile.source import Answer, Entry, Fault, Malformed

POLICY = Policy(own_user="falcon", own_folders=("/home/falcon/ops-updater", "/srv/code"), arch="linux_amd64")
MD5, SHA256 = "490ac172dabecc867289079d48e84a66", "5f" * 32
ENTRY = Entry(
    name="falcon-agent",
    version="5.1.3",
    tarball="http://11.11.11.11:8888/releases/falcon",
    md5=MD5,
    cmd="start",
    run_user="falcon",
    work_dir="/home/falcon/open-falcon",
)
URL = "http://11.11.11.11:8888/releases/falcon/linux_amd64/falcon-agent-5.1.3.tar.gz"


def judge(policy: Policy = POLICY, **changed: Any) -> DesiredHost:
    return accept(Answer(entries=(evolve(ENTRY, **changed),), came_from="test"), policy, Lookups())


def accepted(policy: Policy = POLICY, **changed: Any) -> DesiredAgent:
    host = judge(policy, **changed)
    assert host.refused == ()
    (agent,) = host.agents
    return agent


def refused(policy: Policy = POLICY, **changed: Any) -> Refusal:
    host = judge(policy, **changed)
    assert host.agents == ()
    (refusal,) = host.refused
    return refusal


def test_a_whole_entry() -> None:
    assert accepted(config_file_name="cfg.json", config_remote_url="http://meta/cfg.json") == DesiredAgent(
        name="falcon-agent",
        run=RunState.START,
        run_user="falcon",
        work_dir="/home/falcon/open-falcon",
        version="5.1.3",
        artifact=Artifact(url=URL, digests=frozenset({Md5(MD5)})),
        config=DesiredConfig(name="cfg.json", url="http://meta/cfg.json"),
    )


def test_trusted_keys_want_a_signature_beside_the_tarball_that_names_the_artifact() -> None:
    keys = frozenset({"RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"})
    artifact = accepted(evolve(POLICY, restrictions=Restrictions(trusted_keys=keys))).artifact
    assert artifact is not None
    comment = "linux_amd64/falcon-agent-5.1.3.tar.gz"
    assert artifact.signing == Signing(url=f"{URL}.minisig", comment=comment, keys=keys)
    unsigned = accepted().artifact
    assert unsigned is not None
    assert unsigned.signing is None


@pytest.mark.parametrize(("text", "may_be_one"), [("kestrel", True), ("_www-data", True), ("Root", True), ("", False)])
def test_what_a_user_can_be_called(text: str, may_be_one: bool) -> None:
    assert is_user_name(text) is may_be_one


def test_an_empty_answer_desires_nothing() -> None:
    assert accept(Answer(entries=(), came_from="test"), POLICY, Lookups()) == DesiredHost()


@pytest.mark.parametrize(
    ("given", "digests", "digest_url"),
    [
        ({}, {Md5(MD5)}, None),
        ({"md5": MD5.upper()}, {Md5(MD5)}, None),
        ({"sha256": SHA256.upper()}, {Md5(MD5), Sha256(SHA256)}, None),
        ({"md5": "", "sha256": SHA256}, {Sha256(SHA256)}, None),
        ({"md5": ""}, set(), f"{URL}.md5"),
        (
            {"md5": "https://sums/falcon/"},
            set(),
            "https://sums/falcon/linux_amd64/falcon-agent-5.1.3.tar.gz.md5",
        ),
        (
            {"md5": "http://sums", "sha256": SHA256},
            {Sha256(SHA256)},
            "http://sums/linux_amd64/falcon-agent-5.1.3.tar.gz.md5",
        ),
    ],
)
def test_where_the_digest_is(given: dict[str, Any], digests: set[Digest], digest_url: str | None) -> None:
    artifact = accepted(**given).artifact
    assert artifact == Artifact(url=URL, digests=frozenset(digests), digest_url=digest_url)


def test_older_servers_layout_is_by_config() -> None:
    policy = evolve(POLICY, tarball_layout="{tarball}/{name}-{version}.tar.gz")
    artifact = accepted(policy, tarball="http://old/falcon///", md5="").artifact
    assert artifact is not None
    assert artifact.url == "http://old/falcon/falcon-agent-5.1.3.tar.gz"


def test_braces_of_a_server_are_no_layout() -> None:
    artifact = accepted(tarball="http://meta/{name.__class__}").artifact
    assert artifact is not None
    assert artifact.url.startswith("http://meta/{name.__class__}/linux_amd64/")


def test_older_servers_send_neither_user_nor_directory() -> None:
    policy = evolve(POLICY, default_work_dir="/srv/agents", default_run_user="falcon")
    agent = accepted(policy, run_user=None, work_dir=None)
    assert (agent.run_user, agent.work_dir) == ("falcon", "/srv/agents")
    assert accepted(policy, run_user="", work_dir="").work_dir == "/srv/agents"
    assert accepted(run_user=None).run_user == POLICY.own_user


def test_a_missing_directory_names_the_key() -> None:
    assert "`work_dir`" in refused(work_dir=None).message


def test_a_wrong_directory_names_where_it_stands() -> None:
    assert refused(work_dir="//srv").message.startswith("workDir '//srv' is not normalised")
    from_config = refused(evolve(POLICY, default_work_dir="/srv/../x"), work_dir=None)
    assert from_config.message.startswith("work_dir of cfg.json '/srv/../x' is not normalised")


@pytest.mark.parametrize("cmd", ["stop", ""])
def test_to_stop_or_to_look_on_a_broken_rest_is_no_reason_to_refuse(cmd: str) -> None:
    agent = accepted(cmd=cmd, version="", tarball="", md5="???", sha256="x", config_file_name="/etc/passwd")
    assert agent == DesiredAgent(
        name="falcon-agent", run=RunState(cmd), run_user="falcon", work_dir="/home/falcon/open-falcon"
    )


def test_an_unchecked_version_is_safe_to_show() -> None:
    assert accepted(cmd="stop", version="\x1b[2J" + "9" * 100).version.startswith("\\x1b[2J999")
    assert len(accepted(cmd="stop", version="9" * 100).version) == 80


def test_an_updater_of_an_odd_user_serves_itself() -> None:
    policy = evolve(POLICY, own_user="DOMAIN\\svc updater")
    assert accepted(policy, run_user="DOMAIN\\svc updater").run_user == policy.own_user


LONG = "a" * 65
REFUSALS: list[tuple[dict[str, Any], str, str]] = [
    *(
        ({"name": name}, "name", "InvalidSpec")
        for name in (
            "",
            ".",
            "..",
            "a/b",
            "../x",
            "/x",
            ".version",
            "-x",
            "a..b",
            "a b",
            "a;b",
            "ä",
            LONG,
            "a\n",
            "a\0",
        )
    ),
    *(
        ({"version": version}, "version", "InvalidSpec")
        for version in ("", ".", "..", "1/2", "../1", ".next-1", ".stage-x", "-1", "1..2", "1 2", LONG, "1\n", "$(x)")
    ),
    *(({"cmd": cmd}, "cmd", "InvalidSpec") for cmd in ("Start", "START", "restart", " start", "start\n", "\x1b[2J")),
    *(
        ({"run_user": user}, "run_user", "InvalidSpec")
        for user in (
            "#0",
            "#svc",
            "-u",
            "--",
            "0",
            "1000",
            "a" * 257,
            "root\n",
            "a\0",
            "a\x1b",
            "a:b",
            "a,b",
            "a/b",
            "/",
        )
    ),
    *(
        ({"run_user": user}, "run_user", "UserMissing")
        for user in (
            *("root", "nobody", "_x", "a.b-c", "svc@corp.example", "CORP\\svc", "1000agent", "svc$", "a" * 40, "a b"),
            *("0x0", "root;x", "$(id)", "\u00fcser", "a#0", "a-"),
        )
    ),
    *(
        ({"work_dir": path}, "work_dir", "InvalidSpec")
        for path in (
            *("relative", "./x", "//srv", "/srv/../etc", "/srv/./x", "/srv//x", "/srv/..", "~/x"),
            *("/srv/a\0b", "/srv/a\nb", "/srv/\x1b[2J", "/srv/\ud800", "/" + "x" * 1024),
        )
    ),
    *(
        ({"work_dir": path}, "work_dir", "PolicyRefused")
        for path in (
            *("/", "/etc", "/etc/", "/etc/falcon", "/usr", "/usr/lib", "/usr/local", "/proc/self/cwd", "/sys/x"),
            *("/dev/shm", "/boot", "/bin", "/sbin/x", "/lib64", "/run/x", "/var", "/var/run/x", "/var/spool/cron"),
            *("/home", "/tmp", "/var/tmp", "/var/log", "/var/lib", "/var/cache", "/mnt", "/media"),
        )
    ),
    ({"name": "ops-updater", "work_dir": "/home/falcon"}, "own_folder", "PolicyRefused"),
    ({"name": "falcon", "work_dir": "/home/x/../falcon"}, "work_dir", "InvalidSpec"),
    ({"name": "code", "work_dir": "/srv"}, "own_folder", "PolicyRefused"),
    ({"name": "falcon", "work_dir": "/home", "cmd": "stop"}, "work_dir", "PolicyRefused"),
    ({"name": "var", "work_dir": "/home/falcon/ops-updater"}, "own_folder", "PolicyRefused"),
    ({"name": "reconcile", "work_dir": "/srv/code"}, "own_folder", "PolicyRefused"),
    ({"name": "x", "work_dir": "/home/falcon/ops-updater/.venv"}, "own_folder", "PolicyRefused"),
    ({"name": "x", "work_dir": "/home/falcon/ops-updater/var"}, "own_folder", "PolicyRefused"),
    ({"name": "x", "work_dir": "/home/falcon/ops-updater/updater-lib"}, "own_folder", "PolicyRefused"),
    ({"name": "ops-updater", "work_dir": "/home/falcon", "cmd": "stop"}, "own_folder", "PolicyRefused"),
    *(
        ({"tarball": base}, "tarball", "InvalidSpec")
        for base in (
            *(
                "",
                "releases/falcon",
                "ftp://meta/x",
                "file:///etc",
                "http://",
                "http:///x",
                "http://?x",
                " http://meta",
            ),
            *("http://meta/a b", "http://meta/\n", "http://meta/\x1b[2J", "http://meta/\0", "http://meta/\ud800"),
            "http://meta/" + "x" * 2048,
        )
    ),
    *(({"md5": md5}, "md5", "InvalidSpec") for md5 in (MD5[:-1], MD5 + "0", "z" * 32, f"{MD5}\n", "ftp://x", SHA256)),
    *(({"sha256": digest}, "sha256", "InvalidSpec") for digest in (SHA256[:-1], MD5, "z" * 64, f"{SHA256}\n")),
    *(
        ({"config_file_name": name, "config_remote_url": "http://meta/c"}, "config_file_name", "InvalidSpec")
        for name in (
            *(".", "..", "./.", "control", "./control", "bin/control", "/etc/passwd", "a//b", "a/", "a/../b", "./../b"),
            *(
                "a/b/c/d/e",
                "conf/.version",
                ".next-1.0/x",
                "conf/" + "x" * 201,
                ".ops-updater.json",
                ".version",
                ".start.log",
                ".stage-x",
            ),
            *(".next-1.0", ".previous-1.0", "a\0b", "a\nb", "\x1b[2J", "\ud800", "x" * 201, "ä" * 101),
        )
    ),
    *(
        ({"config_file_name": "cfg.json", "config_remote_url": url}, "config_remote_url", "InvalidSpec")
        for url in ("cfg.json", "file:///etc/shadow", "http://", "http://meta/\x7f", "http://meta/" + "x" * 2048)
    ),
]


@pytest.mark.parametrize(("given", "rule", "reason"), REFUSALS)
def test_a_refusal_names_its_rule(given: dict[str, Any], rule: str, reason: str) -> None:
    refusal = refused(**given)
    assert (refusal.rule, refusal.reason) == (rule, reason)
    assert refusal.message.isprintable()
    assert refusal.name.isprintable()
    assert len(refusal.name) <= 80


@pytest.mark.parametrize(
    "path", ["/srv/agents", "/opt/x", "/usr/local/agents", "/home/falcon", "/var/lib/agents", "/ä"]
)
def test_where_agents_may_live(path: str) -> None:
    assert accepted(work_dir=path).work_dir == path
    assert accepted(work_dir=f"{path}/").work_dir == path


@pytest.mark.parametrize("name", ["ops-updater2", "ops-update", "Ops-updater"])
def test_a_neighbour_of_our_own_folder_is_served(name: str) -> None:
    assert accepted(name=name, work_dir="/home/falcon").name == name


@pytest.mark.parametrize("name", ["falcon-agent", "vars", "updater2"])
def test_agents_may_lie_beside_our_own_files(name: str) -> None:
    """Older hosts have them there."""
    assert accepted(name=name, work_dir="/home/falcon/ops-updater").name == name


@pytest.mark.parametrize("name", ["cfg.json", ".env", "ä.conf", "a b", "Control", "control.json", "x" * 200])
def test_names_that_a_config_may_have(name: str) -> None:
    agent = accepted(config_file_name=name, config_remote_url="https://meta/c?x=1")
    assert agent.config == DesiredConfig(name=name, url="https://meta/c?x=1")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("config/cfg.json", "config/cfg.json"),
        ("./cfg.json", "cfg.json"),
        ("./config/./cfg.json", "config/cfg.json"),
        ("a/b/c/d", "a/b/c/d"),
        ("././a/b/c/./d", "a/b/c/d"),
    ],
)
def test_a_config_may_lie_in_folders(written: str, name: str) -> None:
    agent = accepted(config_file_name=written, config_remote_url="https://meta/c")
    assert agent.config == DesiredConfig(name=name, url="https://meta/c")


def test_a_long_refused_name_is_cut() -> None:
    name = refused(name="x" * 1000).name
    assert name == "x" * 77 + "..."


def test_two_entries_for_one_home_are_both_refused_and_others_served() -> None:
    other = evolve(ENTRY, name="other")
    answer = Answer(entries=(ENTRY, other, evolve(ENTRY, version="6", work_dir=f"{ENTRY.work_dir}/")), came_from="test")
    host = accept(answer, POLICY, Lookups())
    assert [agent.name for agent in host.agents] == ["other"]
    assert [(refusal.name, refusal.rule) for refusal in host.refused] == [("falcon-agent", "one_home")] * 2


def test_two_entries_of_one_name_are_both_refused() -> None:
    """What is remembered of an agent is known by its name."""
    host = accept(Answer(entries=(ENTRY, evolve(ENTRY, work_dir="/srv/x")), came_from="test"), POLICY, Lookups())
    assert host.agents == ()
    assert {refusal.rule for refusal in host.refused} == {"one_home"}


def test_an_entry_without_a_usable_form_is_a_value_of_its_own() -> None:
    answer = Answer(entries=(Malformed(name="x", message="version: expected a string"), ENTRY), came_from="test")
    host = accept(answer, POLICY, Lookups())
    assert host.refused == (Refusal(name="x", reason="InvalidSpec", rule="form", message="version: expected a string"),)
    assert [agent.name for agent in host.agents] == ["falcon-agent"]


anything = st.text(alphabet=st.characters(), max_size=100) | st.sampled_from(
    [
        "",
        "start",
        "stop",
        "1.0",
        MD5,
        SHA256,
        "http://meta/x",
        "falcon",
        "root",
        "/srv/x",
        "/etc",
        "cfg.json",
        ".version",
    ]
)
entries = st.builds(
    Entry,
    name=anything,
    version=anything,
    tarball=anything,
    md5=anything,
    sha256=anything,
    cmd=anything,
    run_user=st.none() | anything,
    work_dir=st.none() | anything,
    config_file_name=anything,
    config_remote_url=anything,
)


@given(st.lists(entries, max_size=4))
def test_no_answer_can_crash_it_or_keep_a_good_entry_from_being_served(given: list[Entry]) -> None:
    good = evolve(ENTRY, name="good", work_dir="/srv/good")
    host = accept(Answer(entries=(*given, good), came_from="test"), POLICY, Lookups())
    assert len(host.agents) + len(host.refused) == len(given) + 1
    assert any(agent.name == "good" for agent in host.agents) or any(entry.name == "good" for entry in given)
    for refusal in host.refused:
        assert (refusal.name + refusal.message + refusal.rule + refusal.reason).isprintable()
    for agent in host.agents:
        assert agent.run_user == POLICY.own_user
        assert agent.work_dir.startswith("/")
        assert agent.version.isprintable()
        assert agent.run is not RunState.START or (agent.version and agent.artifact is not None)


# Other users


def user_of(policy: Policy, run_user: str, uids: dict[str, int]) -> str:
    host = accept(Answer(entries=(evolve(ENTRY, run_user=run_user),), came_from="test"), policy, Lookups(uids=uids))
    [found] = [agent.run_user for agent in host.agents] + [f"{one.reason} {one.rule}" for one in host.refused]
    return found


def test_another_user_is_served_if_it_exists() -> None:
    assert user_of(POLICY, "kestrel", {"kestrel": 1001}) == "kestrel"
    assert user_of(POLICY, "kestrel", {"other": 1001}) == "UserMissing run_user"


@pytest.mark.parametrize("name", ["svc@corp.example", "CORP\\svc", "1000agent", "svc$", "a" * 40, "domain user"])
def test_a_user_is_whatever_the_host_s_database_knows(name: str) -> None:
    assert user_of(POLICY, name, {name: 1001}) == name
    assert user_of(evolve(POLICY, own_uid=1000), name, {name: 0}) == "PolicyRefused run_user"


@pytest.mark.parametrize("name", ["svc@corp.example", "CORP\\svc", "1000agent", "svc$", "a" * 40, "domain user"])
def test_no_user_is_made_by_an_odd_name(name: str) -> None:
    assert user_of(evolve(POLICY, create_users=True), name, {}) == "UserMissing run_user"


def test_a_rule_knows_a_user_by_its_uid() -> None:
    rules = Restrictions(allow_users=frozenset({"kestrel", POLICY.own_user}))
    policy = evolve(POLICY, own_uid=1000, restrictions=rules)
    assert user_of(policy, "CORP\\kestrel", {"CORP\\kestrel": 1001, "kestrel": 1001}) == "CORP\\kestrel"
    assert user_of(policy, "CORP\\merlin", {"CORP\\merlin": 1002, "kestrel": 1001}) == "PolicyRefused allow_users"
    assert user_of(policy, "CORP\\merlin", {"CORP\\merlin": 1002}) == "PolicyRefused allow_users"
    assert user_of(policy, "CORP\\own", {"CORP\\own": 1000}) == "CORP\\own", "our own, by another name"


def test_a_missing_user_is_accepted_where_it_will_be_created() -> None:
    creating = evolve(POLICY, create_users=True)
    assert user_of(creating, "kestrel", {}) == "kestrel"
    assert user_of(creating, "root", {}) == "PolicyRefused run_user"
    assert user_of(creating, "#0", {}) == "InvalidSpec run_user"


@pytest.mark.parametrize("name", ["root", "toor"])
def test_whatever_its_name_uid_0_is_refused_where_it_is_not_our_own(name: str) -> None:
    assert user_of(evolve(POLICY, own_uid=1000), name, {name: 0}) == "PolicyRefused run_user"
    assert user_of(evolve(POLICY, own_uid=0), name, {name: 0}) == name


def test_an_operator_may_name_a_user_of_uid_0() -> None:
    named = evolve(POLICY, own_uid=1000, restrictions=Restrictions(allow_users=frozenset({"toor", "falcon"})))
    assert user_of(named, "toor", {"toor": 0}) == "toor"
    assert user_of(named, "root", {"root": 0}) == "PolicyRefused run_user"
    assert user_of(named, "kestrel", {"kestrel": 1001}) == "PolicyRefused allow_users"


def test_whom_to_look_up() -> None:
    entries = [evolve(ENTRY, run_user=user) for user in ("falcon", "kestrel", "#0", "a\n", "", None)]
    answer = Answer(entries=(*entries, Malformed(name="x", message="y")), came_from="test")
    assert users_named(answer, POLICY) == {"kestrel"}
    assert users_named(answer, evolve(POLICY, default_run_user="merlin")) == {"kestrel", "merlin"}
    allowing = evolve(POLICY, restrictions=Restrictions(allow_users=frozenset({"osprey", POLICY.own_user})))
    assert users_named(answer, allowing) == {"kestrel", "osprey"}


# Places apart, and where links lead


def entries_at(**places: str) -> Answer:
    """An agent of each name in each workDir."""
    entries = tuple(evolve(ENTRY, name=name, work_dir=work_dir) for name, work_dir in places.items())
    return Answer(entries=entries, came_from="test")


@pytest.mark.parametrize("cmd", ["start", "stop", ""])
@pytest.mark.parametrize("inner", ["/srv/outer", "/srv/outer/1.0", "/srv/outer/deep/er"])
def test_a_home_inside_another_refuses_both(inner: str, cmd: str) -> None:
    answer = entries_at(outer="/srv", inner=inner, other="/srv/outer-2", third="/srv")
    entries = tuple(evolve(entry, cmd=cmd) for entry in answer.entries if isinstance(entry, Entry))
    host = accept(evolve(answer, entries=entries), POLICY, Lookups())
    assert {(refusal.name, refusal.rule) for refusal in host.refused} == {("outer", "one_home"), ("inner", "one_home")}
    assert [agent.name for agent in host.agents] == ["other", "third"]


def led(answer: Answer, policy: Policy = POLICY, *kept: Entry, **links: str) -> DesiredHost:
    """What is allowed where `/srv/{link}` leads to a path."""

    def real(path: str) -> str:
        for link, target in links.items():
            if f"{path}/".startswith(f"/srv/{link}/"):
                return target + path.removeprefix(f"/srv/{link}")
        return path

    paths = (*homes_named(answer, policy, kept), *(policy.restrictions.allow_work_dirs or ()))
    return accept(answer, policy, Lookups(leads_to={path: real(path) for path in paths}), kept)


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/home/falcon", "ops-updater"),
        ("/home", "falcon"),
        ("/home/falcon/ops-updater", "var"),
        ("/home/falcon/ops-updater/var", "cache"),
        ("/srv/code", "updater"),
    ],
)
def test_our_own_folder_is_not_reached_by_a_link(target: str, name: str) -> None:
    host = led(entries_at(**{name: "/srv/link"}), link=target)
    assert [(refusal.rule, refusal.reason) for refusal in host.refused] == [("own_folder", "PolicyRefused")]


def test_a_link_to_elsewhere_is_fine() -> None:
    assert led(entries_at(agent="/srv/link"), link="/data/agents").refused == ()
    assert led(entries_at(agent="/srv/link"), link="/home/falcon/ops-updater").refused == (), "beside our own files"


def test_a_link_into_the_system_is_refused() -> None:
    host = led(entries_at(agent="/srv/link"), link="/etc")
    assert [(refusal.rule, refusal.reason) for refusal in host.refused] == [("work_dir", "PolicyRefused")]


def test_the_allowed_work_dirs_hold_where_links_lead() -> None:
    policy = evolve(POLICY, restrictions=Restrictions(allow_work_dirs=("/srv/link", "/srv/other")))
    assert led(entries_at(agent="/srv/link"), policy, link="/data").refused == ()
    host = led(entries_at(agent="/srv/other/out"), policy, **{"other/out": "/data"})
    assert [refusal.rule for refusal in host.refused] == ["allow_work_dirs"]


def test_links_do_not_make_two_homes_of_one() -> None:
    host = led(entries_at(outer="/srv/one", inner="/srv/two"), one="/data", two="/data/outer")
    assert [refusal.rule for refusal in host.refused] == ["one_home", "one_home"]


def test_what_was_refused_before_stays_so() -> None:
    answer = Answer(entries=(evolve(ENTRY, name=".."), ENTRY), came_from="test")
    host = led(answer)
    assert ([agent.name for agent in host.agents], len(host.refused)) == (["falcon-agent"], 1)


# A refused entry counts as no answer for its agent: the one accepted last is served


KEPT = Entry(name="falcon-agent", version="5.0.0", cmd="start", run_user="falcon", work_dir="/home/falcon/old")
OTHER = evolve(ENTRY, name="other", work_dir="/srv")


def served(*entries: Entry | Malformed, kept: tuple[Entry, ...] = (KEPT,), policy: Policy = POLICY) -> DesiredHost:
    host = accept(Answer(entries=(*entries, OTHER), came_from="test"), policy, Lookups(), kept)
    assert any(agent.name == "other" and agent.barred is None for agent in host.agents), "the sibling is served always"
    return host


def one(host: DesiredHost, name: str = "falcon-agent") -> DesiredAgent | None:
    return next((agent for agent in host.agents if agent.name == name), None)


FAULTS = [
    *({"md5": text} for text in ("ask Bob", "TODO", MD5[:-1], "MD5 (x) = " + MD5)),
    *({"sha256": text} for text in ("soon", SHA256[:-1])),
    *({"version": text} for text in ("", "latest build", "../x", "-5")),
    *({"tarball": text} for text in ("", "releases/falcon", "ftp://meta/x")),
    *({"work_dir": text} for text in ("/etc", "relative", "/srv/../x", "/" + "x" * 1024)),
    *({"run_user": text} for text in ("nobody-knows", "#0", "-u")),
    {"config_file_name": "../x", "config_remote_url": "http://meta/c"},
    {"config_file_name": "cfg.json", "config_remote_url": "no url"},
    *({"faults": (Fault(key, "expected a string"),)} for key in ("version", "md5", "tarball", "workDir", "x")),
]


@pytest.mark.parametrize("keys", FAULTS)
def test_an_agent_whose_entry_is_refused_is_healed_as_it_was_accepted_last(keys: dict[str, Any]) -> None:
    host = served(evolve(ENTRY, **keys))
    [refusal] = host.refused
    agent = one(host)
    assert agent is not None
    assert (agent.run, agent.version, agent.work_dir) == (RunState.START, "5.0.0", "/home/falcon/old")
    assert agent.barred is not None
    assert (agent.barred.rule, agent.barred.reason, agent.barred.message) == (
        refusal.rule,
        refusal.reason,
        refusal.message,
    )
    assert (agent.artifact, agent.config) == (None, None), "nothing is fetched for it"
    assert KEPT in host.last_entries, "and it serves for the next answer, too"


def test_half_a_config_is_none_where_none_was_ever_delivered_and_else_refused() -> None:
    halves: tuple[dict[str, Any], ...] = ({"config_file_name": "x"}, {"config_remote_url": "http://meta/cfg.json"})
    for half in halves:
        assert accepted(**half).config is None
        answer = Answer(entries=(evolve(ENTRY, **half),), came_from="test")
        host = accept(answer, POLICY, Lookups(delivered=frozenset({"falcon-agent"})), (KEPT,))
        assert [(refusal.rule, refusal.reason) for refusal in host.refused] == [("config", "InvalidSpec")]
        agent = one(host)
        assert agent is not None
        assert agent.run is RunState.START


@pytest.mark.parametrize("again", [ENTRY, evolve(ENTRY, work_dir="/srv/x"), evolve(ENTRY, name="falcon-agent ")])
def test_one_that_is_named_twice_is_healed_as_it_was_accepted_last(again: Entry) -> None:
    host = (
        served(evolve(ENTRY, md5="ask Bob"), again, kept=(KEPT,)) if again.name != ENTRY.name else served(ENTRY, again)
    )
    assert len(host.refused) == 2
    agent = one(host)
    assert agent is not None
    assert (agent.run, agent.version) == (RunState.START, "5.0.0")


def test_a_name_with_a_blank_is_refused_and_its_agent_healed() -> None:
    host = served(evolve(ENTRY, name=" falcon-agent"))
    assert [refusal.rule for refusal in host.refused] == ["name"]
    agent = one(host)
    assert agent is not None
    assert agent.run is RunState.START


@pytest.mark.parametrize(
    "entries",
    [
        (evolve(ENTRY, cmd="sing"),),
        (evolve(ENTRY, faults=(Fault("cmd", "it stands twice"),), cmd=""),),
        (evolve(ENTRY, cmd="stop", work_dir="/etc"),),
        (evolve(ENTRY, cmd="", run_user="#0"),),
        (ENTRY, evolve(ENTRY, cmd="stop")),
        (Malformed(name="falcon-agent", message="?"),),
    ],
)
def test_what_does_not_say_start_starts_nothing(entries: tuple[Entry | Malformed, ...]) -> None:
    host = served(*entries)
    agent = one(host)
    assert agent is not None
    assert (agent.run, agent.work_dir) == (RunState.OBSERVE, "/home/falcon/old")


@pytest.mark.parametrize(
    "keys",
    [
        {"version": "../x", "md5": "ask Bob", "tarball": ""},
        {"faults": (Fault("version", "expected a string"), Fault("x", "NaN is not JSON"))},
        {"config_file_name": "control"},
    ],
)
@pytest.mark.parametrize("cmd", ["stop", ""])
def test_one_that_says_stop_and_whose_name_and_home_pass_is_obeyed(cmd: str, keys: dict[str, Any]) -> None:
    host = served(evolve(ENTRY, cmd=cmd, **keys))
    assert host.refused == ()
    agent = one(host)
    assert agent is not None
    assert (agent.run, agent.work_dir, agent.barred) == (RunState(cmd), ENTRY.work_dir, None)


def test_an_agent_stopped_by_cmd_stays_so() -> None:
    agent = one(served(evolve(ENTRY, md5="ask Bob"), kept=(evolve(KEPT, cmd="stop"),)))
    assert agent is not None
    assert (agent.run, agent.barred is not None) == (RunState.STOP, True)


def test_todays_rules_of_users_and_places_hold_for_it_too() -> None:
    refused_entry = evolve(ENTRY, md5="ask Bob")
    for restrictions in (
        Restrictions(allow_users=frozenset({"other"})),
        Restrictions(allow_work_dirs=("/srv", "/home/falcon/open-falcon")),
    ):
        kept = (KEPT, evolve(OTHER, work_dir="/srv"))
        answer = Answer(entries=(refused_entry,), came_from="test")
        agent = one(accept(answer, evolve(POLICY, restrictions=restrictions), Lookups(), kept))
        assert agent is not None
        assert agent.run is RunState.OBSERVE, "looked at and reported, never started"
    moved: tuple[dict[str, Any], ...] = (
        {"run_user": "gone"},
        {"work_dir": "/usr"},
        {"work_dir": "/home/falcon", "name": "ops-updater"},
    )
    for gone in moved:
        last = evolve(KEPT, **gone)
        assert one(served(evolve(refused_entry, name=last.name), kept=(last,)), last.name) is None
    led_away = led(
        Answer(entries=(refused_entry,), came_from="test"), POLICY, evolve(KEPT, work_dir="/srv/l"), l="/etc"
    )
    assert led_away.agents == ()


def test_rules_of_versions_and_signatures_bar_no_heal() -> None:
    rules = Restrictions(min_version={"falcon-agent": "9"}, require_sha256=True, mirrors=(), require_https=True)
    agent = one(
        accept(
            Answer(entries=(evolve(ENTRY, md5="ask Bob"),), came_from="test"),
            evolve(POLICY, restrictions=rules),
            Lookups(),
            (KEPT,),
        )
    )
    assert agent is not None
    assert agent.run is RunState.START


def test_where_it_lives_no_other_entry_may_lead() -> None:
    intruder = evolve(ENTRY, name="1.0", work_dir="/home/falcon/old/falcon-agent")
    host = served(evolve(ENTRY, md5="ask Bob"), intruder)
    assert [(refusal.name, refusal.rule) for refusal in host.refused] == [("falcon-agent", "md5"), ("1.0", "one_home")]
    assert one(host) is not None
    assert one(host, "1.0") is None


def test_two_that_were_accepted_at_different_times_may_be_in_each_others_way() -> None:
    inner = evolve(KEPT, name="inner", work_dir="/home/falcon/old/falcon-agent")
    host = served(evolve(ENTRY, md5="ask Bob"), evolve(ENTRY, name="inner", md5="?"), kept=(KEPT, inner))
    assert [agent.name for agent in host.agents] == ["other"]


def test_an_intruder_that_had_a_place_of_its_own_is_healed_there() -> None:
    intruder = evolve(ENTRY, name="1.0", work_dir="/home/falcon/old/falcon-agent")
    at_home = evolve(KEPT, name="1.0", work_dir="/srv/b")
    agent = one(served(evolve(ENTRY, md5="ask Bob"), intruder, kept=(KEPT, at_home)), "1.0")
    assert agent is not None
    assert (agent.work_dir, agent.run) == ("/srv/b", RunState.START)


def test_what_is_kept_of_each_agent_is_the_entry_accepted_last() -> None:
    host = served(ENTRY)
    assert {entry.name: entry.version for entry in host.last_entries} == {"falcon-agent": "5.1.3", "other": "5.1.3"}
    assert all(not (entry.tarball or entry.md5 or entry.config_remote_url) for entry in host.last_entries)
    assert [entry.name for entry in served(kept=(KEPT,)).last_entries] == ["other"], (
        "forgotten when it vanishes from the list"
    )
    again = served(evolve(ENTRY, md5="ask Bob"), kept=host.last_entries)
    assert {entry.name: entry.version for entry in again.last_entries} == {"falcon-agent": "5.1.3", "other": "5.1.3"}
    assert served(evolve(ENTRY, md5="ask Bob"), kept=()).last_entries == (_kept(OTHER),), (
        "one that was never accepted has none"
    )


def _kept(entry: Entry) -> Entry:
    return Entry(
        name=entry.name, version=entry.version, cmd=entry.cmd, run_user=entry.run_user, work_dir=entry.work_dir
    )


# Agents that are none of this host's business


@pytest.mark.parametrize(
    ("desired_agent", "allow_agents", "taken", "ruled_out"),
    [
        (None, None, {"falcon-agent", "other"}, set()),
        ("other", None, {"other"}, set()),
        (None, {"other"}, {"other"}, {"falcon-agent"}),
        ("other", {"other", "falcon-agent"}, {"other"}, set()),
        ("falcon-agent", {"other"}, set(), {"falcon-agent"}),
        ("nosuch", None, set(), set()),
    ],
)
def test_which_agents_a_host_takes(
    desired_agent: str | None, allow_agents: set[str] | None, taken: set[str], ruled_out: set[str]
) -> None:
    allowed = None if allow_agents is None else frozenset(allow_agents)
    policy = evolve(POLICY, desired_agent=desired_agent, restrictions=Restrictions(allow_agents=allowed))
    host = accept(Answer(entries=(ENTRY, OTHER), came_from="test"), policy, Lookups())
    assert {agent.name for agent in host.agents} == taken
    assert host.refused == ()
    assert {(entry.name, entry.rule) for entry in host.ruled_out} == {(name, "allow_agents") for name in ruled_out}
    broken = tuple(evolve(entry, md5="ask Bob") for entry in (ENTRY, OTHER))
    host = accept(Answer(entries=broken, came_from="test"), policy, Lookups())
    assert {refusal.name for refusal in host.refused} == taken, "what is none of its business is not judged either"


@pytest.mark.parametrize(
    ("uids", "named"),
    [
        ({"kestrel": 7, "kestrel-2": 7}, "kestrel"),
        ({"kestrel": 7, "kestrel-2": 8}, "kestrel-2"),
        ({"kestrel-2": 7}, "kestrel-2"),  # who it lived as is gone
    ],
)
def test_a_user_is_known_by_its_uid_and_keeps_the_name_that_it_has_here(uids: dict[str, int], named: str) -> None:
    lookups = Lookups(uids=uids, lives_as={ENTRY.name: "kestrel", "another": "kestrel-2"})
    answer = Answer(entries=(evolve(ENTRY, run_user="kestrel-2"),), came_from="test")
    [agent] = accept(answer, POLICY, lookups).agents
    assert agent.run_user == named


def test_a_user_of_our_own_uid_keeps_its_name() -> None:
    lookups = Lookups(uids={"alias": POLICY.own_uid}, lives_as={ENTRY.name: POLICY.own_user})
    answer = Answer(entries=(evolve(ENTRY, run_user="alias"),), came_from="test")
    [agent] = accept(answer, POLICY, lookups).agents
    assert agent.run_user == POLICY.own_user
