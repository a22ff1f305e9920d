"""The part of an entry that is needed whatever it asks for: its name, state, user and workDir."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping

from reconcile.decide.desired import DesiredAgent, RunState
from reconcile.decide.host_rules import is_within, refuse_who_and_where
from reconcile.decide.policy.inputs import Lookups, Policy, RuleBroken
from reconcile.decide.policy.names import check_name, escaped, is_user_name
from reconcile.source import Entry

_NEW_USER = r"[A-Za-z_][A-Za-z0-9_.-]{0,31}"  # what `create_users` makes
# Directories that are no agent's workDir themselves, and those below which no agent belongs either.
_SYSTEM = frozenset(
    ("/", "/home", "/mnt", "/media", "/tmp", "/usr/local", "/var", "/var/cache", "/var/lib", "/var/log", "/var/tmp")
)
_SYSTEM_TREES = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found"),
    *("/proc", "/run", "/sbin", "/sys", "/usr", "/var/run", "/var/spool"),
)
_ALLOWED_BELOW = ("/usr/local/",)
_LONGEST_PATH = 1024  # characters; the kernel takes 4096 bytes of a whole path
_OWN_NAMES = frozenset({"var", "probes", "reconcile", "updater", "updater-lib", "tests", "benchmarks", "docs"})


def accept_who_and_where(entry: Entry, policy: Policy, lookups: Lookups) -> DesiredAgent:
    """The part of an entry that is needed whatever it asks for."""
    check_faults(entry, "name", "cmd", "runUser", "workDir")
    check_name("name", entry.name)
    run = _run_state(entry)
    run_user = _named_as_before(entry.name, _run_user(entry, policy, lookups.uids), policy, lookups)
    work_dir = work_dir_of(entry, policy)
    named = _named_by_rule(run_user, policy, lookups.uids)
    broken = refuse_who_and_where(named, work_dir, policy.restrictions)
    if broken is not None:
        raise RuleBroken(broken.rule, broken.message, "PolicyRefused")
    version = escaped(entry.version)  # unchecked unless cmd is start, and shown all the same
    agent = DesiredAgent(name=entry.name, run=run, run_user=run_user, work_dir=work_dir, version=version)
    _check_own_folders(agent.home.path, policy)
    _check_real(agent, policy, lookups)
    return agent


def check_faults(entry: Entry, *keys: str) -> None:
    """Refuse an entry for what could not be read of it: of these keys, or of all."""
    for fault in entry.faults:
        if not keys or fault.key in keys:
            raise RuleBroken("form", f"{fault.key}: {fault.message}")


def _run_state(entry: Entry) -> RunState:
    try:
        return RunState(entry.cmd)
    except ValueError:
        raise RuleBroken("cmd", f"cmd {escaped(entry.cmd)!r} is unknown: expected 'start', 'stop' or empty") from None


def wanted_user(entry: Entry, policy: Policy) -> str:
    return entry.run_user or policy.default_run_user or policy.own_user


def _run_user(entry: Entry, policy: Policy, uids: Mapping[str, int]) -> str:
    run_user = wanted_user(entry, policy)
    if run_user == policy.own_user:
        return run_user
    if not is_user_name(run_user):
        raise RuleBroken(
            "run_user",
            f"runUser {escaped(run_user)!r} can't be a user: expected a name that does not begin with - or #, is no "
            "number, and holds no control character, ':', ',' or '/'",
        )
    uid = uids.get(run_user)
    if uid is None and not (policy.create_users and re.fullmatch(_NEW_USER, run_user)):
        raise RuleBroken(
            "run_user",
            f"the user {run_user!r} does not exist on this host; create it, set `create_users`, or correct runUser at "
            f"ops-meta",
            "UserMissing",
        )
    if (uid == 0 or (uid is None and run_user == "root")) and not _may_be_root(run_user, policy):
        raise RuleBroken(
            "run_user",
            f"runUser is {run_user!r}, which is root (uid 0), and the updater runs as {policy.own_user!r}: no agent "
            f"gets the right of root from a server alone; `allow_users` may name that user",
            "PolicyRefused",
        )
    return run_user


def _may_be_root(run_user: str, policy: Policy) -> bool:
    """Whether an agent may run with uid 0: only where that is our own, or the operator names that user."""
    return policy.own_uid == 0 or run_user in (policy.restrictions.allow_users or ())


def _named_as_before(agent: str, run_user: str, policy: Policy, lookups: Lookups) -> str:
    """The name by which an agent's user is known here, where it is wanted as the same user by another name."""
    known = {**lookups.uids, policy.own_user: policy.own_uid}
    before = lookups.lives_as.get(agent, run_user)
    is_same = run_user in known and known.get(before) == known[run_user]
    return before if is_same else run_user


def _named_by_rule(run_user: str, policy: Policy, uids: Mapping[str, int]) -> str:
    """The name by which `allow_users` knows a user: one user may have several, and is known by its uid."""
    uid = policy.own_uid if run_user == policy.own_user else uids.get(run_user)
    known = {**uids, policy.own_user: policy.own_uid}
    names = policy.restrictions.allow_users or frozenset()
    if run_user in names or uid is None:
        return run_user
    return next((name for name in sorted(names) if known.get(name) == uid), run_user)


def work_dir_of(entry: Entry, policy: Policy) -> str:
    work_dir = entry.work_dir or policy.default_work_dir
    if work_dir is None:
        raise RuleBroken(
            "work_dir", "workDir is missing in the response and `work_dir` is not set in cfg.json; set one of them"
        )
    written = f"{'workDir' if entry.work_dir else 'work_dir of cfg.json'} {escaped(work_dir)!r}"
    if not work_dir.startswith("/"):
        raise RuleBroken("work_dir", f"{written} is not absolute; expected e.g. /home/falcon/agents")
    stripped = work_dir.rstrip("/") or "/"
    if posixpath.normpath(stripped) != stripped or stripped.startswith("//") or not stripped.isprintable():
        raise RuleBroken("work_dir", f"{written} is not normalised: no '.', '..', '//' or control codes")
    if len(stripped) > _LONGEST_PATH:
        raise RuleBroken("work_dir", f"{written} is too long: expected at most {_LONGEST_PATH} characters")
    if _is_system(stripped):
        raise RuleBroken(
            "work_dir", f"workDir {stripped!r} is a system directory, where no agent belongs", "PolicyRefused"
        )
    return stripped


def _is_system(path: str) -> bool:
    if path in _SYSTEM or path in _SYSTEM_TREES:
        return True
    return path.startswith(tuple(f"{tree}/" for tree in _SYSTEM_TREES)) and not path.startswith(_ALLOWED_BELOW)


def _check_own_folders(home: str, policy: Policy) -> None:
    """Agents may lie beside our own files (older hosts have them there), but never on them or around them."""
    for folder in policy.own_folders:
        first = f"{home}/".removeprefix(f"{folder}/").partition("/")[0]
        inside = home.startswith(f"{folder}/") and (first in _OWN_NAMES or first.startswith("."))
        if inside or f"{folder}/".startswith(f"{home}/"):
            raise RuleBroken(
                "own_folder",
                f"its home {home} is the updater's own folder or holds it; the updater does not update itself",
                "PolicyRefused",
            )


def _check_real(agent: DesiredAgent, policy: Policy, lookups: Lookups) -> None:
    """Refuse an agent whose home lies, through links, where its entry must not name one."""
    work_dir, home = lookups.real(agent.work_dir), lookups.real(agent.home.path)
    _check_own_folders(home, policy)
    if work_dir != agent.work_dir and _is_system(work_dir):
        message = f"workDir {agent.work_dir} leads to {work_dir}, a system directory, where no agent belongs"
        raise RuleBroken("work_dir", message, "PolicyRefused")
    allowed = policy.restrictions.allow_work_dirs
    if allowed is not None and not is_within(home, tuple(lookups.real(prefix) for prefix in allowed)):
        message = f"workDir {agent.work_dir} leads to {work_dir}, which is none of {', '.join(allowed)}, nor below"
        raise RuleBroken("allow_work_dirs", message, "PolicyRefused")
