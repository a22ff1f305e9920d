"""What this host allows: turn an answer's entries into accepted agents and refusals. Pure.

Names, users and paths from a server are checked here, once, for every source and for the kept state too, and never
interpreted. ops-meta decides what is wanted; the host decides what it may be told. A refusal names its rule.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Mapping

from attrs import evolve, field

from probes.observed import Place, is_reserved
from probes.values import frozen
from reconcile.decide.desired import (
    Artifact,
    Bar,
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
from reconcile.decide.restrictions import Restrictions, bar_content, is_within, refuse_who_and_where
from reconcile.source import Answer, Entry, Malformed

# The forms that names have, always by fullmatch.
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._+~-]{0,63}"
_USER = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"
_MD5 = r"[0-9a-fA-F]{32}"
_SHA256 = r"[0-9a-fA-F]{64}"
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
    `create_users`: whether users that are missing are made, and so are no reason to refuse."""

    own_user: str
    own_uid: int = -1
    create_users: bool = False
    own_folders: tuple[str, ...]
    arch: str
    default_work_dir: str | None = None
    default_run_user: str | None = None
    tarball_layout: str = "{tarball}/{arch}/{name}-{version}.tar.gz"
    restrictions: Restrictions = field(factory=Restrictions)


class _Refused(Exception):
    def __init__(self, rule: str, message: str, reason: str = "InvalidSpec") -> None:
        super().__init__(message)
        self.rule = rule
        self.message = message
        self.reason = reason


def users_named(answer: Answer, policy: Policy) -> frozenset[str]:
    """The other users that an answer names, as far as their names can be names: whom to look up for `accept`."""
    named = {_wanted_user(entry, policy) for entry in answer.entries if not isinstance(entry, Malformed)}
    return frozenset(name for name in named - {policy.own_user} if re.fullmatch(_USER, name) is not None)


def accept(answer: Answer, policy: Policy, uids: Mapping[str, int] = {}) -> DesiredHost:
    """Check every entry by itself, then that no two share a home, or have one in the other's.

    `uids`: of the other users that exist.
    """
    agents: list[DesiredAgent] = []
    refused: list[Refusal] = []
    for entry in answer.entries:
        if isinstance(entry, Malformed):
            refused.append(Refusal(name=entry.name, reason="InvalidSpec", rule="form", message=entry.message))
            continue
        try:
            agents.append(_accept_entry(entry, policy, uids))
        except _Refused as err:
            name = _shown(entry.name)
            refused.append(Refusal(name=name, reason=err.reason, rule=err.rule, message=err.message))
    return _apart(agents, refused, home_of)


@frozen(kw_only=True)
class Lived:
    """Where an agent lives as far as is remembered, and the version that was in use there lastly."""

    place: Place
    version: str


def let_stay(
    desired: DesiredHost, answer: Answer, policy: Policy, uids: Mapping[str, int], lived: Mapping[str, Lived]
) -> DesiredHost:
    """Keep agents whose new place is refused managed in the old one, which the rules of today must allow.

    Their entries stay refused. All that is done for them is to heal what is in use: an agent must not lose its care
    because it is told to move where it may not.
    """
    names = Counter(entry.name for entry in answer.entries)
    entries = {entry.name: entry for entry in answer.entries if isinstance(entry, Entry) and names[entry.name] == 1}
    staying: list[DesiredAgent] = []
    for refusal in desired.refused:
        entry, home = entries.get(refusal.name), lived.get(refusal.name)
        if entry is None or home is None or entry.cmd != RunState.START.value:
            continue
        try:
            at_home = evolve(entry, work_dir=home.place.work_dir, run_user=home.place.run_user)
            agent = _accept_entry(at_home, policy, uids)
        except _Refused:
            continue
        bar = Bar(rule=refusal.rule, message=refusal.message, reason=refusal.reason)
        staying.append(evolve(agent, version=home.version, artifact=None, config=None, barred=bar))
    return evolve(desired, agents=(*desired.agents, *staying))


def confine(desired: DesiredHost, policy: Policy, leads_to: Mapping[str, str]) -> DesiredHost:
    """Refuse agents whose home lies, through links, where their entry must not name one. `leads_to`: the real path of
    each agent's workDir and home, and of each of `allow_work_dirs`."""
    agents: list[DesiredAgent] = []
    refused = list(desired.refused)
    for agent in desired.agents:
        try:
            _check_real(agent, policy, leads_to)
            agents.append(agent)
        except _Refused as err:
            refused.append(Refusal(name=agent.name, reason=err.reason, rule=err.rule, message=err.message))
    return _apart(agents, refused, lambda agent: leads_to[home_of(agent)])


def _check_real(agent: DesiredAgent, policy: Policy, leads_to: Mapping[str, str]) -> None:
    work_dir, home = leads_to[agent.work_dir], leads_to[home_of(agent)]
    _check_own_folders(home, policy)
    if work_dir != agent.work_dir and _is_system(work_dir):
        message = f"workDir {agent.work_dir} leads to {work_dir}, a system directory, where no agent belongs"
        raise _Refused("work_dir", message, "PolicyRefused")
    allowed = policy.restrictions.allow_work_dirs
    if allowed is not None and not is_within(home, tuple(leads_to[prefix] for prefix in allowed)):
        message = f"workDir {agent.work_dir} leads to {work_dir}, which is none of {', '.join(allowed)}, nor below"
        raise _Refused("allow_work_dirs", message, "PolicyRefused")


def _apart(agents: list[DesiredAgent], refused: list[Refusal], where: Callable[[DesiredAgent], str]) -> DesiredHost:
    """Refuse all that would get into each other's way: one name or one home twice, a home inside another's."""
    homes = Counter(where(agent) for agent in agents)
    names = Counter(agent.name for agent in agents)
    around = {outer for home in homes for outer in _parents(home) if outer in homes}
    kept = []
    for agent in agents:
        home, message = where(agent), ""
        if homes[home] > 1 or names[agent.name] > 1:
            message = f"more than one entry is for {agent.name} or its home {home}; ops-meta must send one"
        elif home in around or any(outer in homes for outer in _parents(home)):
            message = f"its home {home} lies inside another agent's, or holds one; ops-meta must name places apart"
        if message:
            refused.append(Refusal(name=agent.name, reason="InvalidSpec", rule="one_home", message=message))
        else:
            kept.append(agent)
    return DesiredHost(agents=tuple(kept), refused=tuple(refused))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(2, len(parts))]


def home_of(agent: DesiredAgent) -> str:
    """Where an agent's versions lie."""
    return posixpath.join(agent.work_dir, agent.name)


def _shown(text: str) -> str:
    escaped = text.encode("unicode_escape").decode("ascii")
    return escaped if len(escaped) <= 80 else f"{escaped[:77]}..."


def _scrubbed(url: str) -> str:
    """An URL that is refused, without what may be secret in it: userinfo and query."""
    return _shown(re.sub(r"//[^/]*@", "//", url.partition("?")[0]))


def _accept_entry(entry: Entry, policy: Policy, uids: Mapping[str, int]) -> DesiredAgent:
    _check_name("name", entry.name)
    run = _run_state(entry)
    run_user = _run_user(entry, policy, uids)
    work_dir = _work_dir(entry, policy)
    broken = refuse_who_and_where(entry.name, run_user, work_dir, policy.restrictions)
    if broken is not None:
        raise _Refused(broken.rule, broken.message, "PolicyRefused")
    shown = _shown(entry.version)  # unchecked with 'stop' and with none, and yet people are told of it
    agent = DesiredAgent(name=entry.name, run=run, run_user=run_user, work_dir=work_dir, version=shown)
    _check_own_folders(home_of(agent), policy)
    if run is not RunState.START:
        # To stop or to look on, nothing else of the entry is needed: a broken rest must not keep it from being obeyed.
        return agent
    _check_name("version", entry.version)
    agent = DesiredAgent(
        name=entry.name,
        run=run,
        run_user=run_user,
        work_dir=work_dir,
        version=entry.version,
        artifact=_artifact(entry, policy),
        config=_config(entry),
    )
    return evolve(agent, barred=bar_content(agent, policy.restrictions))


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
    return re.fullmatch(_USER, text) is not None


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
    # By fullmatch, and never a number: `sudo -u '#0'` is root.
    if re.fullmatch(_USER, run_user) is None:
        raise _Refused("run_user", f"runUser {_shown(run_user)!r} is no user name")
    uid = uids.get(run_user)
    if uid is None and not policy.create_users:
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
        raise _Refused(rule, f"{rule} {_scrubbed(base)!r} is of no known form: expected {expected}")
    return policy.tarball_layout.format(
        tarball=base.rstrip("/"), arch=policy.arch, name=entry.name, version=entry.version
    )


def _config(entry: Entry) -> DesiredConfig | None:
    name, url = entry.config_file_name, entry.config_remote_url
    if not name and not url:
        return None
    if not name or not url:
        raise _Refused("config", "configFileName and configRemoteUrl go together: send both, or neither")
    if not name.isprintable():  # first: lone surrogates are not printable, and can't be encoded
        raise _Refused("config_file_name", f"configFileName {_shown(name)!r} holds control characters")
    if "/" in name or name in (".", "..", "control") or is_reserved(name) or len(name.encode()) > 200:
        raise _Refused(
            "config_file_name",
            f"configFileName {_shown(name)!r} is not allowed: expected one file name, not 'control', not reserved",
        )
    if not _is_url(url):
        raise _Refused("config_remote_url", f"configRemoteUrl {_scrubbed(url)!r} is no http or https URL")
    return DesiredConfig(name=name, url=url)
