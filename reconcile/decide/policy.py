"""What this host allows: turn an answer's entries into accepted agents and refusals. Pure.

Names, users and paths from a server are checked here, once, for every source and for the kept state too, and never
interpreted. ops-meta decides what is wanted; the host decides what it may be told. A refusal names its rule.

A refused entry counts as no answer for its agent (docs/adr/0042): the one that was accepted last is served in its
place, to observe the agent, to report it, and to start what crashed.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress

from attrs import evolve, field

from probes.observed import is_reserved
from probes.text import redact_url, sanitize
from probes.values import frozen
from reconcile.decide.desired import (
    Artifact,
    DesiredAgent,
    DesiredConfig,
    DesiredHost,
    Digest,
    Md5,
    Refusal,
    RuleViolation,
    RunState,
    Sha256,
    Signing,
)
from reconcile.decide.host_rules import Restrictions, bar_content, bar_name, is_within, refuse_who_and_where
from reconcile.source import Answer, Entry, Malformed

# The forms that names have, always by fullmatch.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,63}"
# A user's name is what the host's database knows (`svc@corp.example`, `CORP\\svc`, `1000agent`), except what sudo reads
# otherwise: an option, a number, a list, a path.
_USER = r"(?!-|#|[0-9]+\Z)[^:,/]{1,256}"
_NEW_USER = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"  # what `create_users` makes
_MD5 = r"[0-9a-fA-F]{32}"
_SHA256 = r"[0-9a-fA-F]{64}"
_CONFIG_PARTS = 4  # of the path of a config
_URL = r"(?i:https?)://[^\s/?#][^\s]*"

# Directories that are no agent's workDir themselves, and those below which no agent belongs either.
_SYSTEM = frozenset(
    ("/", "/home", "/mnt", "/media", "/tmp", "/usr/local", "/var", "/var/cache", "/var/lib", "/var/log", "/var/tmp")
)
_SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found"),
    *("/proc", "/run", "/sbin", "/sys", "/usr", "/var/run", "/var/spool"),
)
_ALLOWED_BELOW = ("/usr/local/",)
_OWN_NAMES = frozenset({"var", "probes", "reconcile", "updater", "updater-lib", "tests", "benchmarks", "docs"})


@frozen(kw_only=True)
class Policy:
    """What of this host decides about an answer. `own_folders`: absolute, where our config, `var/` and code lie.
    `create_users`: whether users that are missing are made, and so are no reason to refuse. `desired_agent`: the one
    agent that this host takes, None for all."""

    own_user: str
    own_uid: int = -1
    create_users: bool = False
    own_folders: tuple[str, ...]
    arch: str
    default_work_dir: str | None = None
    default_run_user: str | None = None
    tarball_layout: str = "{tarball}/{arch}/{name}-{version}.tar.gz"
    desired_agent: str | None = None
    restrictions: Restrictions = field(factory=Restrictions)


class _Refused(Exception):
    def __init__(self, rule: str, message: str, reason: str = "InvalidSpec") -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.reason = reason


@frozen(kw_only=True)
class Lookups:
    """What a host was asked about an answer. `uids`: of the other users that exist. `leads_to`: the real path of each
    of `homes_named` and `allow_work_dirs`; one that is missing leads nowhere else. `delivered`: the agents that were
    ever given a remote config. `lives_as`: the user of each agent that is remembered."""

    uids: Mapping[str, int] = field(factory=dict)
    leads_to: Mapping[str, str] = field(factory=dict)
    delivered: frozenset[str] = frozenset()
    lives_as: Mapping[str, str] = field(factory=dict)

    def real(self, path: str) -> str:
        return self.leads_to.get(path, path)


def users_named(answer: Answer, policy: Policy, kept: tuple[Entry, ...] = ()) -> frozenset[str]:
    """The other users whose uids `accept` must know."""
    named = {_wanted_user(entry, policy) for entry in (*answer.entries, *kept) if isinstance(entry, Entry)}
    named |= policy.restrictions.allow_users or frozenset()
    return frozenset(name for name in named - {policy.own_user} if is_user_name(name))


def homes_named(answer: Answer, policy: Policy, kept: tuple[Entry, ...] = ()) -> frozenset[str]:
    """The workDirs and homes of which `accept` must know where they lead."""
    found: set[str] = set()
    for entry in (*answer.entries, *kept):
        if isinstance(entry, Entry) and is_name(entry.name):
            with suppress(_Refused):
                work_dir = _work_dir(entry, policy)
                found |= {work_dir, posixpath.join(work_dir, entry.name)}
    return frozenset(found)


def accept(answer: Answer, policy: Policy, lookups: Lookups, kept: tuple[Entry, ...] = ()) -> DesiredHost:
    """Check every entry by itself, then that no two share a home, or have one in the other's.

    `kept`: of each agent the entry that was accepted last, as an earlier call returned them. It serves where that
    agent's entry is refused now.
    """
    agents: list[DesiredAgent] = []
    accepted: dict[str, Entry] = {}
    refused: list[Refusal] = []
    ruled_out: list[Refusal] = []
    for entry in answer.entries:
        name = entry.name.strip()
        if isinstance(entry, Entry) and (bar := bar_name(name, policy.restrictions)):
            ruled_out.append(Refusal(name=_shown(name), reason=bar.reason, rule=bar.rule, message=bar.message))
            continue
        if policy.desired_agent not in (None, name) and isinstance(entry, Entry):
            continue
        if isinstance(entry, Malformed):
            refused.append(Refusal(name=entry.name, reason="InvalidSpec", rule="form", message=entry.message))
            continue
        try:
            agents.append(_accept_entry(entry, policy, lookups))
            accepted[entry.name] = entry
        except _Refused as err:
            refused.append(_refusal(entry.name, err))
    live = _apart(agents, refused, lookups)
    last = {entry.name: entry for entry in kept}
    live, standing_in = _stand_in(live, refused, _Last(answer=answer, policy=policy, lookups=lookups, entries=last))
    served = {agent.name for agent in live}
    names = dict.fromkeys(entry.name.strip() for entry in answer.entries)
    entries = (_trimmed(accepted[name]) if name in served else last.get(name) for name in names)
    return DesiredHost(
        agents=(*live, *standing_in),
        refused=tuple(refused),
        ruled_out=tuple(ruled_out),
        kept=tuple(entry for entry in entries if entry is not None),
    )


def _refusal(name: str, err: _Refused) -> Refusal:
    return Refusal(name=_shown(name), reason=err.reason, rule=err.rule, message=err.message)


def _trimmed(entry: Entry) -> Entry:
    """What is kept of an accepted entry: who, where and whether it is to run. What it is made of lies on the disk."""
    return Entry(
        name=entry.name, version=entry.version, cmd=entry.cmd, run_user=entry.run_user, work_dir=entry.work_dir
    )


@frozen(kw_only=True)
class _Last:
    """The entries that were accepted last, by their names, and all that judges them."""

    answer: Answer
    policy: Policy
    lookups: Lookups
    entries: Mapping[str, Entry]


def _stand_in(
    live: list[DesiredAgent], refused: list[Refusal], last: _Last
) -> tuple[list[DesiredAgent], list[DesiredAgent]]:
    """The agents that are served as entered now, and those as their last accepted entry has them.

    Where one of these lives, another entry may not lead: that one is refused, since what runs comes first. Two that
    were accepted at different times may get into each other's way: then neither is served.
    """
    while True:
        kept = _as_kept(live, refused, last)
        clashes = _clashes([*live, *kept], last.lookups)
        if not any(agent.name in clashes for agent in live):
            return live, [agent for agent in kept if agent.name not in clashes]
        live = _apart(live, refused, last.lookups, clashes)


def _as_kept(live: list[DesiredAgent], refused: list[Refusal], last: _Last) -> list[DesiredAgent]:
    """The agents of which every entry is refused, as the one accepted last has them."""
    starts = _told_to_start(last.answer)
    served = {agent.name for agent in live}
    found: dict[str, DesiredAgent | None] = {}
    for refusal in refused:
        name = refusal.name.strip()
        if name in last.entries and name not in served and name not in found:
            found[name] = _kept_agent(last.entries[name], refusal, last, starts=starts.get(name, False))
    return [agent for agent in found.values() if agent is not None]


def _told_to_start(answer: Answer) -> dict[str, bool]:
    """Whether all that is said of an agent says start. An entry that can't be read says nothing of the kind."""
    told: dict[str, bool] = {}
    for entry in answer.entries:
        starts = isinstance(entry, Entry) and entry.cmd == RunState.START.value
        name = entry.name.strip()
        told[name] = told.get(name, True) and starts
    return told


def _kept_agent(entry: Entry, refusal: Refusal, last: _Last, *, starts: bool) -> DesiredAgent | None:
    """An agent as the entry accepted last has it, by today's rules of names, users and places; None: not at all.

    One that an operator has ruled out since is looked at as before, and not started any more.
    """
    policy = last.policy
    rules = evolve(policy.restrictions, allow_users=None, allow_work_dirs=None)
    try:
        agent = _accept_who_and_where(entry, evolve(policy, restrictions=rules), last.lookups)
    except _Refused:
        return None
    try:
        _accept_who_and_where(entry, policy, last.lookups)
    except _Refused:
        starts = False
    run = RunState.OBSERVE if agent.run is RunState.START and not starts else agent.run
    return evolve(
        agent, run=run, barred=RuleViolation(rule=refusal.rule, message=refusal.message, reason=refusal.reason)
    )


def _check_real(agent: DesiredAgent, policy: Policy, lookups: Lookups) -> None:
    """Refuse an agent whose home lies, through links, where its entry must not name one."""
    work_dir, home = lookups.real(agent.work_dir), lookups.real(home_of(agent))
    _check_own_folders(home, policy)
    if work_dir != agent.work_dir and _is_system(work_dir):
        message = f"workDir {agent.work_dir} leads to {work_dir}, a system directory, where no agent belongs"
        raise _Refused("work_dir", message, "PolicyRefused")
    allowed = policy.restrictions.allow_work_dirs
    if allowed is not None and not is_within(home, tuple(lookups.real(prefix) for prefix in allowed)):
        message = f"workDir {agent.work_dir} leads to {work_dir}, which is none of {', '.join(allowed)}, nor below"
        raise _Refused("allow_work_dirs", message, "PolicyRefused")


def _apart(
    agents: list[DesiredAgent],
    refused: list[Refusal],
    lookups: Lookups,
    clashes: Mapping[str, str] | None = None,
) -> list[DesiredAgent]:
    """Refuse those that get into each other's way, or into another's by these `clashes`."""
    clashes = _clashes(agents, lookups) if clashes is None else clashes
    refused += [_in_the_way(agent, clashes[agent.name]) for agent in agents if agent.name in clashes]
    return [agent for agent in agents if agent.name not in clashes]


def _in_the_way(agent: DesiredAgent, message: str) -> Refusal:
    return Refusal(name=agent.name, reason="InvalidSpec", rule="one_home", message=message)


def _clashes(agents: list[DesiredAgent], lookups: Lookups) -> dict[str, str]:
    """Why agents get into each other's way, by their names: one name or one home twice, a home inside another's. As
    their entries name them, and as links lead."""
    return {**_clashes_in(agents, lambda path: lookups.real(path)), **_clashes_in(agents, str)}


def _clashes_in(agents: list[DesiredAgent], real: Callable[[str], str]) -> dict[str, str]:
    homes = Counter(real(home_of(agent)) for agent in agents)
    names = Counter(agent.name for agent in agents)
    host = {outer for home in homes for outer in _parents(home) if outer in homes}
    found = {}
    for agent in agents:
        home = real(home_of(agent))
        if homes[home] > 1 or names[agent.name] > 1:
            found[agent.name] = f"more than one entry is for {agent.name} or its home {home}; ops-meta must send one"
        elif home in host or any(outer in homes for outer in _parents(home)):
            found[agent.name] = (
                f"its home {home} lies inside another agent's, or holds one; ops-meta must name places apart"
            )
    return found


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts))]


def home_of(agent: DesiredAgent) -> str:
    """Where an agent's versions lie."""
    return posixpath.join(agent.work_dir, agent.name)


def _shown(text: str) -> str:
    """What the server sent, as ASCII, so that letters which only look like others are seen."""
    return sanitize(text.encode("unicode_escape"), 80)


def _accept_entry(entry: Entry, policy: Policy, lookups: Lookups) -> DesiredAgent:
    agent = _accept_who_and_where(entry, policy, lookups)
    if agent.run is not RunState.START:
        # To stop or to look on, nothing else of the entry is needed: a broken rest must not keep it from being obeyed.
        return agent
    _check_faults(entry)
    _check_name("version", entry.version)
    agent = evolve(
        agent,
        version=entry.version,
        artifact=_artifact(entry, policy),
        config=_config(entry, delivered=entry.name in lookups.delivered),
        rollout=entry.rollout,
    )
    return evolve(agent, barred=bar_content(agent, policy.restrictions))


def _accept_who_and_where(entry: Entry, policy: Policy, lookups: Lookups) -> DesiredAgent:
    """The part of an entry that is needed whatever it asks for."""
    _check_faults(entry, "name", "cmd", "runUser", "workDir")
    _check_name("name", entry.name)
    run = _run_state(entry)
    run_user = _named_as_before(entry.name, _run_user(entry, policy, lookups.uids), policy, lookups)
    work_dir = _work_dir(entry, policy)
    named = _named_by_rule(run_user, policy, lookups.uids)
    broken = refuse_who_and_where(named, work_dir, policy.restrictions)
    if broken is not None:
        raise _Refused(broken.rule, broken.message, "PolicyRefused")
    shown = _shown(entry.version)  # unchecked with 'stop' and with none, and yet people are told of it
    agent = DesiredAgent(name=entry.name, run=run, run_user=run_user, work_dir=work_dir, version=shown)
    _check_own_folders(home_of(agent), policy)
    _check_real(agent, policy, lookups)
    return agent


def _check_faults(entry: Entry, *keys: str) -> None:
    """Refuse an entry for what could not be read of it: of these keys, or of all."""
    for fault in entry.faults:
        if not keys or fault.key in keys:
            raise _Refused("form", f"{fault.key}: {fault.message}")


def _check_own_folders(home: str, policy: Policy) -> None:
    """Agents may lie beside our own files (older hosts have them there), but never on them or around them."""
    for folder in policy.own_folders:
        first = f"{home}/".removeprefix(f"{folder}/").partition("/")[0]
        inside = home.startswith(f"{folder}/") and (first in _OWN_NAMES or first.startswith("."))
        if inside or f"{folder}/".startswith(f"{home}/"):
            raise _Refused(
                "own_folder",
                f"its home {home} is the updater's own folder or holds it; the updater does not update itself",
                "PolicyRefused",
            )


def is_name(text: str) -> bool:
    """Whether an agent or a version can have this name."""
    return re.fullmatch(_NAME, text) is not None and ".." not in text and not is_reserved(text)


def is_user_name(text: str) -> bool:
    """Whether a user can have this name."""
    return re.fullmatch(_USER, text) is not None and text.isprintable()


def _check_name(rule: str, text: str) -> None:
    if not text:
        raise _Refused(rule, f"{rule} is empty; with cmd 'start' ops-meta must name one")
    if not is_name(text):
        raise _Refused(
            rule,
            f"{rule} {_shown(text)!r} is not allowed: expected 1 to 64 of A-Z a-z 0-9 . _ + ~ -, "
            f"starting with a letter, a digit or _, without '..'",
        )


def _run_state(entry: Entry) -> RunState:
    try:
        return RunState(entry.cmd)
    except ValueError:
        raise _Refused("cmd", f"cmd {_shown(entry.cmd)!r} is unknown: expected 'start', 'stop' or empty") from None


def _wanted_user(entry: Entry, policy: Policy) -> str:
    return entry.run_user or policy.default_run_user or policy.own_user


def _run_user(entry: Entry, policy: Policy, uids: Mapping[str, int]) -> str:
    run_user = _wanted_user(entry, policy)
    if run_user == policy.own_user:
        return run_user
    if not is_user_name(run_user):
        raise _Refused(
            "run_user",
            f"runUser {_shown(run_user)!r} can't be a user: expected a name that does not begin with - or #, is no "
            "number, and holds no control character, ':', ',' or '/'",
        )
    uid = uids.get(run_user)
    if uid is None and not (policy.create_users and re.fullmatch(_NEW_USER, run_user)):
        raise _Refused(
            "run_user",
            f"the user {run_user!r} does not exist on this host; create it, set `create_users`, or correct runUser at "
            f"ops-meta",
            "UserMissing",
        )
    if (uid == 0 or (uid is None and run_user == "root")) and not _may_be_root(run_user, policy):
        raise _Refused(
            "run_user",
            f"runUser is {run_user!r}, which is root (uid 0), and the updater runs as {policy.own_user!r}: no agent "
            f"gets the right of root from a server alone; `allow_users` may name that user",
            "PolicyRefused",
        )
    return run_user


def _named_as_before(agent: str, run_user: str, policy: Policy, lookups: Lookups) -> str:
    """The name by which an agent's user is known here, where it is wanted as the same user by another name."""
    known = {**lookups.uids, policy.own_user: policy.own_uid}
    before = lookups.lives_as.get(agent, run_user)
    is_same = run_user in known and known.get(before) == known[run_user]
    return before if is_same else run_user


def _named_by_rule(run_user: str, policy: Policy, uids: Mapping[str, int]) -> str:
    """The name by which `allow_users` knows a user: one user may have several, and is told by its uid."""
    uid = policy.own_uid if run_user == policy.own_user else uids.get(run_user)
    known = {**uids, policy.own_user: policy.own_uid}
    names = policy.restrictions.allow_users or frozenset()
    if run_user in names or uid is None:
        return run_user
    return next((name for name in sorted(names) if known.get(name) == uid), run_user)


def _may_be_root(run_user: str, policy: Policy) -> bool:
    """Whether an agent may run with uid 0: only where that is our own, or the operator names that user."""
    return policy.own_uid == 0 or run_user in (policy.restrictions.allow_users or ())


def _work_dir(entry: Entry, policy: Policy) -> str:
    work_dir = entry.work_dir or policy.default_work_dir
    if work_dir is None:
        raise _Refused(
            "work_dir", "workDir is missing in the response and `work_dir` is not set in cfg.json; set one of them"
        )
    if not work_dir.startswith("/") or work_dir.startswith("//") or "\0" in work_dir:
        raise _Refused("work_dir", f"workDir {_shown(work_dir)!r} is not absolute; expected e.g. /home/falcon/agents")
    stripped = work_dir.rstrip("/") or "/"
    if posixpath.normpath(stripped) != stripped or not work_dir.isprintable() or len(work_dir) > 1024:
        raise _Refused(
            "work_dir", f"workDir {_shown(work_dir)!r} is not normalised: no '.', '..', '//' or control codes"
        )
    if _is_system(stripped):
        raise _Refused(
            "work_dir", f"workDir {stripped!r} is a system directory, where no agent belongs", "PolicyRefused"
        )
    return stripped


def _is_system(path: str) -> bool:
    if path in _SYSTEM or path in _SYSTEM_TREES:
        return True
    return path.startswith(tuple(f"{tree}/" for tree in _SYSTEM_TREES)) and not path.startswith(_ALLOWED_BELOW)


def _artifact(entry: Entry, policy: Policy) -> Artifact:
    if not entry.tarball:
        raise _Refused("tarball", "tarball is empty; with cmd 'start' ops-meta must name the URL base of the tarballs")
    url = _place_url("tarball", entry.tarball, entry, policy)
    digests: set[Digest] = set()
    digest_url: str | None = None
    if entry.sha256:
        if re.fullmatch(_SHA256, entry.sha256) is None:
            raise _Refused("sha256", f"sha256 {_shown(entry.sha256)!r} is not 64 hex digits")
        digests.add(Sha256(entry.sha256.lower()))
    if re.fullmatch(_MD5, entry.md5) is not None:
        digests.add(Md5(entry.md5.lower()))
    elif entry.md5:
        digest_url = f"{_place_url('md5', entry.md5, entry, policy)}.md5"
    elif not digests:
        digest_url = f"{url}.md5"
    signing = None
    if policy.restrictions.trusted_keys:
        # The comment names the architecture for every layout, so that no signature is good for two tarballs.
        comment = f"{policy.arch}/{entry.name}-{entry.version}.tar.gz"
        signing = Signing(url=f"{url}.minisig", comment=comment, keys=policy.restrictions.trusted_keys)
    return Artifact(url=url, digests=frozenset(digests), digest_url=digest_url, signing=signing)


def _is_url(text: str) -> bool:
    # Printable alone, since it is shown on terminals: \s lets most control codes and lone surrogates pass.
    return re.fullmatch(_URL, text) is not None and text.isprintable() and len(text) <= 2048


def _place_url(rule: str, base: str, entry: Entry, policy: Policy) -> str:
    if not _is_url(base):
        expected = "an http or https URL base" + (", 32 hex digits, or empty" if rule == "md5" else "")
        raise _Refused(rule, f"{rule} {redact_url(base)} is of no known form: expected {expected}")
    return policy.tarball_layout.format(
        tarball=base.rstrip("/"), arch=policy.arch, name=entry.name, version=entry.version
    )


def _config(entry: Entry, *, delivered: bool) -> DesiredConfig | None:
    """The remote config. `delivered`: it was ever given one, so that it may not do without."""
    name, url = entry.config_file_name, entry.config_remote_url
    if not name or not url:
        if delivered and (name or url):
            raise _Refused("config", "configFileName and configRemoteUrl go together: send both, or neither")
        return None
    if not name.isprintable():  # first: lone surrogates are not printable, and can't be encoded
        raise _Refused("config_file_name", f"configFileName {_shown(name)!r} holds control characters")
    parts = [part for part in name.split("/") if part != "."]
    if not 1 <= len(parts) <= _CONFIG_PARTS or any(map(_is_no_part, parts)):
        raise _Refused(
            "config_file_name",
            f"configFileName {_shown(name)!r} is not allowed: expected a file's name, or a path of at most "
            f"{_CONFIG_PARTS} parts below the version's directory, none of them '..', 'control' or reserved",
        )
    if not _is_url(url):
        raise _Refused("config_remote_url", f"configRemoteUrl {redact_url(url)} is no http or https URL")
    return DesiredConfig(name="/".join(parts), url=url)


def _is_no_part(part: str) -> bool:
    """Whether a folder or a file on the way to a config can't be called so."""
    return part in ("", "..", "control") or is_reserved(part) or len(part.encode()) > 200
