"""What is done inside an agent's home, always as its user: here where that is us, else in a child of that user.

Operations for probes/worker/pool.py: functions of the top level, of values that have a form on the wire. They know
homes and no plans, caches, clocks or networks; the steps say when each is done.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from probes.errors import InterpreterMissing
from probes.host import control_script, home_reader, output_capture
from probes.host.executable import why_not_executable
from probes.host.paths import AgentHome
from probes.observed import PREVIOUS_CONFIG, STAGE_PREFIX, STAGED_CONFIG, Origin, is_reserved, next_name, previous_name
from reconcile.act.host import atomic_fs, home_lock
from reconcile.act.install import mark
from reconcile.errors import ReconcileError, SignatureInvalid, WorkDirMissing, WriteFailed

START_LOG_LIMIT = 1024 * 1024
_CONFIG_MODE = 0o644
_PROGRAMS = (b"#!", b"\x7fELF")  # how programs begin that an interpreter, or the kernel, takes

_locks: dict[int, ExitStack] = {}


# --- the home itself ---


def make_home(home: AgentHome) -> int:
    """Make `{work_dir}/{name}` where it is missing, by the smallest step. Return how many folders were made. Raise
    WorkDirMissing, WriteFailed."""
    made = 0
    for directory in (home.work_dir, home.path):
        try:
            directory.mkdir(mode=0o755)
            made += 1
        except FileExistsError:
            if directory == home.path and os.lstat(directory).st_uid != os.geteuid():
                raise WriteFailed(
                    f"{directory} is another user's, expected none, or one of the agent's; remove it"
                ) from None
            continue
        except FileNotFoundError:
            raise WorkDirMissing(
                f"{home.work_dir} does not exist, nor does its parent; make it, or correct workDir at ops-meta"
            ) from None
        except PermissionError as err:
            if os.path.lexists(home.work_dir):
                raise atomic_fs.as_error(err, "make directory", str(directory)) from err
            raise WorkDirMissing(
                f"{home.work_dir} does not exist, and the agent's user may not make it; make it and give it to that "
                f"user, or correct workDir at ops-meta"
            ) from None
        except OSError as err:
            raise atomic_fs.as_error(err, "make directory", str(directory)) from err
    return made


def unmake_home(home: AgentHome, made: int) -> None:
    """Remove so many folders that `make_home` made, as far as they are empty."""
    with suppress(OSError):
        for directory in (home.path, home.work_dir)[:made]:
            directory.rmdir()


def is_there(home: AgentHome) -> bool:
    """Whether something has a home's name."""
    return os.path.lexists(home.path)


def lock_home(home: AgentHome) -> int:
    """Hold a home until `unlock_home` is given what this returns, or this process ends. Raise HomeBusy."""
    with ExitStack() as stack:
        fd = stack.enter_context(home_lock.home_lock(home.path))
        _locks[fd] = stack.pop_all()
        return fd


def check_changeable(home: AgentHome) -> None:
    """See that a home may be left, before anything is changed. Raise WriteFailed, WorkDirMissing."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        atomic_fs.check_writable(home_fd)
        atomic_fs.check_replaceable(home_fd, ".version")
    finally:
        os.close(home_fd)


def check_switch(home: AgentHome, version: str, names: tuple[str, ...], config: str | None) -> None:
    """See, before an agent is stopped, that a switch to this version can rename these entries of its home, and that the
    staged config can take its place in it. Raise WriteFailed, WorkDirMissing."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        atomic_fs.check_writable(home_fd)
        atomic_fs.check_replaceable(home_fd, ".version")
        atomic_fs.check_renamable(home_fd, names)
        if config is not None:
            _check_config(home_fd, home.tree(version), config)
    finally:
        os.close(home_fd)


def _check_config(home_fd: int, tree: Path, name: str) -> None:
    tree_fd = atomic_fs.open_dir(tree)
    try:
        with _folder_made(tree_fd, name) as (folder_fd, leaf):
            atomic_fs.check_writable(folder_fd)
            atomic_fs.check_same_mount(home_fd, folder_fd)
            atomic_fs.check_replaceable(folder_fd, leaf)
    finally:
        os.close(tree_fd)


def unlock_home(lock: int) -> None:
    """Let go of a home."""
    _locks.pop(lock).close()


def trim_start_logs(homes: tuple[AgentHome, ...]) -> None:
    """Keep each `.start.log` bounded: a daemon that talks on writes into it for ever."""
    for home in homes:
        output_capture.truncate_log(home.start_log, START_LOG_LIMIT)


# --- what lies in it ---


def check_runs(tree: Path, agent_env: Mapping[str, str]) -> None:
    """See that a tree's control can be executed by us, before an agent is stopped for it. Raise InterpreterMissing.

    A tree that is not there is no business of this: who is to switch to it says so.
    """
    if not os.path.isdir(tree):
        return
    why = why_not_executable(tree / "control", control_script.clean_env("", "", "", agent_env)["PATH"])
    if why:
        raise InterpreterMissing(f"{why}; nothing was stopped for it, and what runs runs on")


def adopt(home: AgentHome, version: str) -> None:
    """Mark a version that was found without a marker as one that can be gone back to."""
    tree_fd = atomic_fs.open_dir(home.tree(version))
    try:
        mark(tree_fd, Origin.ADOPTED)
    finally:
        os.close(tree_fd)


def remove(home: AgentHome, names: tuple[str, ...], again: tuple[str, ...]) -> bool:
    """Remove each name by itself, its marker first; whether any of them was there. Raise WriteFailed, once all were
    tried, naming what could not be removed, unless it is one of those that are tried `again`.

    A version goes only if it carries our marker and `.version` does not name it, looked at again right before. It gets
    a leftover's name first, where it can be renamed: interrupted without it, what is left would pass for a person's,
    and stay for ever.
    """
    home_fd = atomic_fs.open_dir(home.path)
    stuck: list[str] = []
    there = [name for name in (*names, *again) if os.path.lexists(home.path / name)]
    try:
        for name in there:
            try:
                _check_ours(home_fd, name, home.path)
                old = name if name.startswith(STAGE_PREFIX) else atomic_fs.clear(home_fd, name)
                if old is not None:
                    atomic_fs.remove_tree(home_fd, old)
            except ReconcileError as err:
                if name not in again:
                    stuck.append(err.message)
    finally:
        os.close(home_fd)
    if stuck:
        more = f" (and {len(stuck) - 1} more)" if len(stuck) > 1 else ""
        raise WriteFailed(f"{stuck[0]}{more}; nothing waits for that: remove it by hand")
    return bool(there)


def _check_ours(home_fd: int, name: str, home: Path) -> None:
    if is_reserved(name):
        return
    with home_reader.open_directory(name, dir_fd=home_fd) as tree_fd:
        marked = tree_fd is not None and home_reader.read_marker(tree_fd).origin is not Origin.FOREIGN
    if not marked or home_reader.read_version_file(home_fd) == name:
        raise WriteFailed(f"{name!r} in {home} is in use or not the updater's; it is not removed")


# --- configs ---


def displaced_config(home: AgentHome, digest: str) -> bytes | None:
    """The bytes that an earlier change displaced, if it is these that are wanted: the way back needs no network."""
    with home_reader.open_directory(home.path) as home_fd:
        if home_fd is None or home_reader.file_digest(home_fd, PREVIOUS_CONFIG) != digest:
            return None
        return home_reader.read_bounded(PREVIOUS_CONFIG, home_reader.CONFIG_LIMIT, dir_fd=home_fd)


def write_config(tree: Path, name: str, content: bytes, signed: bool) -> None:
    """Write a config into a tree of a home that is not in use. `signed`: as of `stage_config`. Raise DiskTooSmall,
    WriteFailed, SignatureInvalid."""
    home_fd = atomic_fs.open_dir(tree.parent)
    try:
        mode = _mode_in_use(home_fd, name)
    finally:
        os.close(home_fd)
    tree_fd = atomic_fs.open_dir(tree)
    try:
        if signed:
            _check_replaced(tree_fd, name)
        with _folder_made(tree_fd, name) as (folder_fd, leaf):
            atomic_fs.replace_file(folder_fd, leaf, content, mode)
    finally:
        os.close(tree_fd)


def stage_config(home: AgentHome, name: str, digest: str, content: bytes, signed: bool) -> None:
    """Write a config beside the one in use, whose bytes are kept. `signed`: the tree is, and nothing of it but a plain
    file that is not executable may be replaced. Raise DiskTooSmall, WriteFailed, SignatureInvalid."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        with home_reader.open_directory(home_reader.read_version_file(home_fd) or ".", dir_fd=home_fd) as tree_fd:
            if tree_fd is not None:
                if signed:
                    _check_replaced(tree_fd, name)
                with _folder_made(tree_fd, name):
                    pass  # whatever is in its way is to be seen before the stop
        atomic_fs.write_beside(home_fd, STAGED_CONFIG, content, _mode_in_use(home_fd, name))
        if home_reader.file_digest(home_fd, PREVIOUS_CONFIG) != digest:
            _keep_displaced(home_fd, name)
    finally:
        os.close(home_fd)


def _keep_displaced(home_fd: int, name: str) -> None:
    """Keep the bytes that are about to be replaced, until the new ones are confirmed."""
    with _folder_in_use(home_fd, name) as (folder_fd, leaf):
        content = (
            None if folder_fd is None else home_reader.read_bounded(leaf, home_reader.CONFIG_LIMIT, dir_fd=folder_fd)
        )
    if content is None:
        with suppress(ReconcileError):  # one that stays is known by its digest, and is no way back
            atomic_fs.remove_tree(home_fd, PREVIOUS_CONFIG)
    else:
        atomic_fs.write_beside(home_fd, PREVIOUS_CONFIG, content, _mode_in_use(home_fd, name))


@contextmanager
def _folder_in_use(home_fd: int, name: str) -> Iterator[tuple[int | None, str]]:
    """Open the folder of a config in the version in use; None where there is none."""
    with home_reader.open_directory(home_reader.read_version_file(home_fd) or ".", dir_fd=home_fd) as tree_fd:
        if tree_fd is None:
            yield None, name
            return
        with home_reader.open_folder_of(tree_fd, name) as found:
            yield found


@contextmanager
def _folder_made(tree_fd: int, name: str) -> Iterator[tuple[int, str]]:
    """Open the folder of a config in a tree, made where it is missing. Raise WriteFailed, also where a part of its way
    is a link or no folder."""
    *folders, leaf = name.split("/")
    for part in (*folders, leaf):
        atomic_fs.check_component(part)
    with ExitStack() as stack:
        fd = tree_fd
        for folder in folders:
            try:
                with suppress(FileExistsError):
                    os.mkdir(folder, 0o755, dir_fd=fd)
                    atomic_fs.sync_dir(fd)
                fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            except OSError as err:
                if err.errno in (errno.ENOTDIR, errno.ELOOP):
                    raise WriteFailed(
                        f"{folder!r} on the way to the config {name} is a link or no folder: expected a folder itself; "
                        f"correct the tarball, or configFileName at ops-meta"
                    ) from err
                raise atomic_fs.as_error(err, "make the folder of the config", name) from err
            stack.callback(os.close, fd)
        yield fd, leaf


def _check_replaced(tree_fd: int, name: str) -> None:
    """Raise SignatureInvalid where a config, which is not signed, would take the place of what can be executed. The
    file system is asked: it knows what is one name to it, in whatever case."""
    with home_reader.open_folder_of(tree_fd, name) as (folder_fd, leaf):
        if folder_fd is not None:
            _check_replaced_in(folder_fd, leaf, name)


def _check_replaced_in(folder_fd: int, leaf: str, name: str) -> None:
    try:
        found = os.stat(leaf, dir_fd=folder_fd, follow_symlinks=False)
    except FileNotFoundError:
        return
    except OSError as err:
        raise atomic_fs.as_error(err, "look at", name) from err
    plain = stat.S_ISREG(found.st_mode) and not found.st_mode & 0o111
    if not plain or (home_reader.read_bounded(leaf, home_reader.CONFIG_LIMIT, dir_fd=folder_fd) or b"").startswith(
        _PROGRAMS
    ):
        raise SignatureInvalid(
            f"the config {name} would take the place of a program, a link or a folder of the signed tarball; expected "
            "none, or a plain file that is not executable: pack it so, or correct configFileName at ops-meta"
        )


def _mode_in_use(home_fd: int, name: str) -> int:
    """Keep the permissions of the file that is replaced: an operator may have narrowed them. A config is never
    executable, whatever it replaces."""
    with _folder_in_use(home_fd, name) as (folder_fd, leaf):
        if folder_fd is None:
            return _CONFIG_MODE
        try:
            found = os.stat(leaf, dir_fd=folder_fd, follow_symlinks=False)
        except OSError:
            return _CONFIG_MODE
    return found.st_mode & 0o666 if stat.S_ISREG(found.st_mode) else _CONFIG_MODE


# --- the switch ---


def switch_version(home: AgentHome, to: str) -> None:
    """Let `.version` name another version. Raise WriteFailed, DiskTooSmall; then the old one still is in use."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        if not os.path.isfile(home.control(to)):
            raise WriteFailed(f"{home.tree(to)} is not complete any more; somebody removed it: nothing is switched")
        # Without a line end: of the two forms in the field it is the one that today's updater writes.
        atomic_fs.replace_file(home_fd, ".version", to.encode())
    finally:
        os.close(home_fd)


def leave_home(home: AgentHome) -> None:
    """Let no version be in use in a home that its agent moved out of; the versions stay. Raise WriteFailed."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        atomic_fs.remove_tree(home_fd, ".version")
    finally:
        os.close(home_fd)


def switch_tree(home: AgentHome, version: str, displaced: bool) -> None:
    """Exchange a version's tree with its replacement, or back with the one that was displaced. Raise WriteFailed.

    The displaced one stays as `.previous-{version}`. Without renameat2 it takes two renames; an earlier run that
    stopped between them left the version missing, and only the second is made.
    """
    home_fd = atomic_fs.open_dir(home.path)
    try:
        _replace(home_fd, home, version, displaced=displaced)
    finally:
        os.close(home_fd)


def _replace(home_fd: int, home: AgentHome, version: str, *, displaced: bool) -> None:
    former = previous_name(version)
    source, retired = (former, next_name(version)) if displaced else (next_name(version), former)
    with home_reader.open_directory(version, dir_fd=home_fd) as tree_fd:
        whole = tree_fd is not None and home_reader.has_control(tree_fd)
    if not whole:
        # Nothing to go back to: an earlier run stopped between the two renames, or somebody broke the tree, and what
        # is left of it must not pass for a displaced one.
        if os.path.lexists(home.path / source):
            atomic_fs.discard(home_fd, version)
        atomic_fs.rename(home_fd, source, version)
        return
    if displaced:
        atomic_fs.discard(home_fd, retired)
        if not atomic_fs.exchange(home_fd, version, source):
            atomic_fs.rename(home_fd, version, retired)
            atomic_fs.rename(home_fd, source, version)
        return
    if os.path.lexists(home.path / retired):
        # What an earlier replacement displaced. The agent is down: it gets a leftover's name, and the next pass takes
        # the time to remove it.
        atomic_fs.rename_to_leftover(home_fd, retired)
    # Under the displaced one's name before the exchange: so there is no moment without a way back.
    atomic_fs.rename(home_fd, source, retired)
    if not atomic_fs.exchange(home_fd, version, retired):
        atomic_fs.rename(home_fd, retired, source)
        atomic_fs.rename(home_fd, version, retired)
        atomic_fs.rename(home_fd, source, version)


def switch_config(home: AgentHome, version: str, name: str) -> None:
    """Let the staged config take its place in the version in use, by one rename. Raise WriteFailed."""
    home_fd = atomic_fs.open_dir(home.path)
    try:
        tree_fd = atomic_fs.open_dir(home.tree(version))
        try:
            with _folder_made(tree_fd, name) as (folder_fd, leaf):
                os.rename(STAGED_CONFIG, leaf, src_dir_fd=home_fd, dst_dir_fd=folder_fd)
                atomic_fs.sync_dir(folder_fd)
            atomic_fs.sync_dir(home_fd)
        except OSError as err:
            raise atomic_fs.as_error(err, "put the config in place", str(home.tree(version) / name)) from err
        finally:
            os.close(tree_fd)
    finally:
        os.close(home_fd)
