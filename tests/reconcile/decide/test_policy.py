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
from reconcile.decide.policy import Policy, accept, confine, home_of, is_user_name, users_named
from reconcile.decide.restrictions import Restrictions
from reconcile.source import Answer, Entry, Malformed

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
    return accept(Answer(entries=(evolve(ENTRY, **changed),), came_from="test"), policy)


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


def test_where_keys_are_trusted_a_signature_is_sought_beside_the_tarball_and_its_comment_names_the_artifact() -> None:
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
    assert accept(Answer(entries=(), came_from="test"), POLICY) == DesiredHost()


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


def test_where_nobody_says_a_directory_the_key_is_named() -> None:
    assert "`work_dir`" in refused(work_dir=None).message


@pytest.mark.parametrize("cmd", ["stop", ""])
def test_to_stop_or_to_look_on_a_broken_rest_is_no_reason_to_refuse(cmd: str) -> None:
    agent = accepted(cmd=cmd, version="", tarball="", md5="???", sha256="x", config_file_name="/etc/passwd")
    assert agent == DesiredAgent(
        name="falcon-agent", run=RunState(cmd), run_user="falcon", work_dir="/home/falcon/open-falcon"
    )


def test_a_version_that_nobody_checked_is_safe_to_show() -> None:
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
        for user in ("#0", "-u", "a b", "0", "root;x", "a" * 33, "root\n")
    ),
    *(({"run_user": user}, "run_user", "UserMissing") for user in ("root", "nobody", "_x", "a.b-c")),
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
    ({"config_file_name": "cfg.json"}, "config", "InvalidSpec"),
    ({"config_remote_url": "http://meta/cfg.json"}, "config", "InvalidSpec"),
    *(
        ({"config_file_name": name, "config_remote_url": "http://meta/c"}, "config_file_name", "InvalidSpec")
        for name in (
            *(".", "..", "control", "a/b", "/etc/passwd", ".ops-updater.json", ".version", ".start.log", ".stage-x"),
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


def test_a_long_refused_name_is_cut() -> None:
    name = refused(name="x" * 1000).name
    assert name == "x" * 77 + "..."


def test_two_entries_for_one_home_are_both_refused_and_others_served() -> None:
    other = evolve(ENTRY, name="other")
    answer = Answer(entries=(ENTRY, other, evolve(ENTRY, version="6", work_dir=f"{ENTRY.work_dir}/")), came_from="test")
    host = accept(answer, POLICY)
    assert [agent.name for agent in host.agents] == ["other"]
    assert [(refusal.name, refusal.rule) for refusal in host.refused] == [("falcon-agent", "one_home")] * 2


def test_two_entries_of_one_name_are_both_refused() -> None:
    """What is remembered of an agent is known by its name."""
    host = accept(Answer(entries=(ENTRY, evolve(ENTRY, work_dir="/srv/x")), came_from="test"), POLICY)
    assert host.agents == ()
    assert {refusal.rule for refusal in host.refused} == {"one_home"}


def test_an_entry_without_a_usable_form_is_a_value_of_its_own() -> None:
    answer = Answer(entries=(Malformed(name="x", message="version: expected a string"), ENTRY), came_from="test")
    host = accept(answer, POLICY)
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
    host = accept(Answer(entries=(*given, good), came_from="test"), POLICY)
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
    host = accept(Answer(entries=(evolve(ENTRY, run_user=run_user),), came_from="test"), policy, uids)
    [found] = [agent.run_user for agent in host.agents] + [f"{one.reason} {one.rule}" for one in host.refused]
    return found


def test_another_user_is_served_if_it_exists() -> None:
    assert user_of(POLICY, "kestrel", {"kestrel": 1001}) == "kestrel"
    assert user_of(POLICY, "kestrel", {"other": 1001}) == "UserMissing run_user"


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
    host = accept(evolve(answer, entries=entries), POLICY)
    assert {(refusal.name, refusal.rule) for refusal in host.refused} == {("outer", "one_home"), ("inner", "one_home")}
    assert [agent.name for agent in host.agents] == ["other", "third"]


def led(answer: Answer, policy: Policy = POLICY, **links: str) -> DesiredHost:
    """What is allowed where `/srv/{link}` leads to a path."""
    desired = accept(answer, policy)

    def real(path: str) -> str:
        for link, target in links.items():
            if f"{path}/".startswith(f"/srv/{link}/"):
                return target + path.removeprefix(f"/srv/{link}")
        return path

    paths = [path for agent in desired.agents for path in (agent.work_dir, home_of(agent))]
    return confine(
        desired, policy, {path: real(path) for path in (*paths, *(policy.restrictions.allow_work_dirs or ()))}
    )


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
