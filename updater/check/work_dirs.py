"""Other users and the agents' folders: asked by working as each user, in the way that a pass does.

So what is reported is no guess: a process of that user has read it. Nothing is made there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from probes.errors import PolicyRefused, UpdaterError, UserMissing
from probes.home import read_home
from probes.host.facts import find_user
from probes.host.paths import AgentHome
from probes.host.trusted_path import why_home_refused
from probes.host.user_access import directory_access, python_info
from probes.observed import HomeRef
from probes.text import one_line, sanitize
from probes.worker.pool import is_us
from reconcile.decide.actions import Held
from reconcile.decide.evaluate import AgentEvaluation
from updater.check.subject import CheckContext, CheckFinding, bad, good, note, parted
from updater.output.format import bytes_of
from updater.output.reasons import REASONS


def users(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether each agent's user exists, we may become it, and it has a Python."""
    if subject.found is None:
        message = "no desired state is known, so no agents' users and folders"
        remedy = "see the finding of the server, or make a first pass"
        yield note("users", message, remedy)
        return
    for user, names in _by_user(subject).items():
        agents = f"of {', '.join(names)}" if names else "of run_user"
        if is_us(user):
            yield good("users", f"{user}, {agents}: the updater's own user")
            continue
        try:
            sits = subject.workers.of(user).do(python_info)
        except UpdaterError as err:
            yield _refused(subject, user, err)
            continue
        how = "root can work as it" if os.geteuid() == 0 else "sudo lets us work as it without a password"
        message = f"{user}, {agents}: {how}, with Python {one_line(sits.version)} at {one_line(sits.python)}"
        yield good("users", message)


def _refused(subject: CheckContext, user: str, err: UpdaterError) -> CheckFinding:
    if isinstance(err, UserMissing) and subject.config.create_users:
        message = f"{user} does not exist; it is created with its first agent (create_users)"
        return note("users", message)
    message, remedy = parted(err.message)
    message, remedy = f"{user}: {message}", remedy or REASONS[err.reason].remedy
    return bad("users", message, remedy)


def work_dirs(subject: CheckContext) -> Iterator[CheckFinding]:
    """Whether each agent's home is there, or can be made by its user, can be written, and has room."""
    held_for_user = {view.desired.name: view for view in subject.agents if _is_another_users(view)}
    for (user, work_dir), names in _by_place(subject).items():
        own = tuple(name for name in names if name not in held_for_user)
        if own or not names:
            with suppress(UpdaterError):  # reported for its user
                yield from _findings(subject, user, work_dir, own)
    for name, view in held_for_user.items():
        why = view.verdict.message if isinstance(view.verdict, Held) else view.plan.message
        yield note("work_dirs", *parted(f"{name}: {why}"))


def _is_another_users(view: AgentEvaluation) -> bool:
    """Whether the home is its former user's, and rightly so: another user never gets it (RunUserChanged)."""
    lives, wanted = view.observed.home, view.desired.home
    return lives.work_dir == wanted.work_dir and lives.run_user != wanted.run_user


def _findings(subject: CheckContext, user: str, work_dir: str, names: tuple[str, ...]) -> Iterator[CheckFinding]:
    homes = [f"{work_dir}/{name}" for name in names] or [work_dir]
    flaws = [flaw for home in homes if (flaw := _flaw(subject, user, work_dir, home)) is not None]
    for name in names:
        seen = subject.workers.of(user).do(read_home, HomeRef(name=name, work_dir=work_dir, run_user=user))
        if seen.agent.blocked_reason == PolicyRefused.reason:
            flaws.append(parted(sanitize(seen.trouble[:2000])))
    for message, remedy in dict.fromkeys(flaws):
        yield bad("work_dirs", message, remedy)
    if not flaws:
        yield _room(subject, user, work_dir)


def _flaw(subject: CheckContext, user: str, work_dir: str, home: str) -> tuple[str, str] | None:
    """Why a user can't write or make a home, and the remedy."""
    parent = str(Path(work_dir).parent)
    folders = (*dict.fromkeys((home, work_dir, parent)),)
    here = subject.workers.of(user).do(directory_access, folders)
    if here.path not in folders:  # none of them is there; and a child of another user may say anything
        message = f"{work_dir} does not exist, nor does {parent}, as far as {user} can see"
        return message, f"make {work_dir}, or correct workDir at ops-meta"
    if here.may_write:
        return None
    if os.geteuid() == 0 and here.path == work_dir != home:
        paths, allowed = AgentHome(Path(work_dir), Path(home).name), subject.config.allow_work_dirs or ()
        why = why_home_refused(paths, find_user(user).uid, allowed)
        return parted(why) if why else None
    what = f"write {here.path}" if here.path == home else f"make {home} in {here.path}"
    return f"{user} may not {what}", f"give it to that user: `chown {user} {here.path}`, or correct workDir at ops-meta"


def _room(subject: CheckContext, user: str, work_dir: str) -> CheckFinding:
    config = subject.config
    here = subject.workers.of(user).do(directory_access, (work_dir, str(Path(work_dir).parent)))
    message = f"{work_dir}: {user} can write there, {bytes_of(here.free)} are free"
    if here.files == 0:
        message = f"{work_dir}: no file more fits there: the inodes are used up"
        return bad("work_dirs", message, "remove files there")
    if here.free < config.max_tarball:
        message += f", less than the largest tarball that is taken (max_tarball, {bytes_of(config.max_tarball)})"
        remedy = "free some, or set max_tarball to what your agents need"
        return bad("work_dirs", message, remedy)
    if here.free < config.max_unpacked:
        message += f", less than the largest tree that is taken (max_unpacked, {bytes_of(config.max_unpacked)})"
        remedy = "free some, or set max_unpacked to what your agents need"
        return note("work_dirs", message, remedy)
    return good("work_dirs", message)


def _by_user(subject: CheckContext) -> dict[str, tuple[str, ...]]:
    """The agents of each user; of `run_user`, where it has none, an empty tuple."""
    found: dict[str, tuple[str, ...]] = {}
    for user, names in ((user, names) for (user, _), names in _by_place(subject).items()):
        found[user] = (*found.get(user, ()), *names)
    if subject.config.run_user is not None:
        found.setdefault(subject.config.run_user, ())
    return found


def _by_place(subject: CheckContext) -> dict[tuple[str, str], tuple[str, ...]]:
    """The agents of each user and workDir; of the config's own, where it has none, an empty tuple."""
    found: dict[tuple[str, str], tuple[str, ...]] = {}
    for view in subject.agents:
        key = (view.desired.run_user, view.desired.work_dir)
        found[key] = (*found.get(key, ()), view.desired.name)
    if subject.config.work_dir is not None:
        found.setdefault((subject.config.run_user or subject.own_user, subject.config.work_dir), ())
    return found
