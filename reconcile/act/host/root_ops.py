"""What only root can do so that an agent has a user and a home: make the user, and give it an empty home.

The only changes that happen with more right than the agent's user has: each is the smallest step, and follows no link.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress

from probes.errors import SudoRefused, ToolMissing, UserMissing
from probes.host.facts import User
from probes.host.paths import PATH, AgentHome
from probes.host.trusted_path import open_home_parent
from probes.text import sanitize
from reconcile.act.host.atomic_fs import as_error

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_USERADD_S = 60.0


def give_home(home: AgentHome, user: User, allowed: tuple[str, ...]) -> None:
    """Make `{work_dir}/{name}` and give it to the agent's user: one mkdir, one chown of it, one rename. For root alone.

    It gets its name last: one that is root's, since we were killed before the chown, its user could not even look into.
    Raise PolicyRefused where another user could have put something else in the place of what leads there, and among the
    system's own folders, except below what is `allowed`.
    """
    work_fd = open_home_parent(home, user.uid, allowed)
    unnamed = f".{home.name}@"
    try:
        with suppress(FileNotFoundError):
            os.rmdir(unnamed, dir_fd=work_fd)
        os.mkdir(unnamed, 0o700, dir_fd=work_fd)
        fd = os.open(unnamed, _DIRECTORY, dir_fd=work_fd)
        try:
            os.fchmod(fd, 0o755)  # by hand, since the umask is not ours to choose
            os.fchown(fd, user.uid, user.gid)
        finally:
            os.close(fd)
        os.rename(unnamed, home.name, src_dir_fd=work_fd, dst_dir_fd=work_fd)
        os.fsync(work_fd)
    except OSError as err:
        with suppress(OSError):
            os.rmdir(unnamed, dir_fd=work_fd)
        raise as_error(err, "make directory", repr(str(home.path))) from err
    finally:
        os.close(work_fd)


def take_back_home(home: AgentHome, user: User, allowed: tuple[str, ...]) -> None:
    """Remove a home that was given, if it is empty. Raise PolicyRefused, as `give_home` does."""
    work_fd = open_home_parent(home, user.uid, allowed)
    try:
        with suppress(OSError):
            os.rmdir(home.name, dir_fd=work_fd)
    finally:
        os.close(work_fd)


def create_user(name: str, path: str = PATH) -> None:
    """Create a system user with a home of its own. `path`: where programs are looked for. Raise ToolMissing,
    SudoRefused, UserMissing."""
    useradd = shutil.which("useradd", path=path)
    sudo = None if os.geteuid() == 0 else shutil.which("sudo", path=path)
    if useradd is None or (sudo is None and os.geteuid() != 0):
        raise ToolMissing(f"{'sudo' if useradd else 'useradd'} is not on this host; create the user {name!r} by hand")
    command = [useradd, "--system", "--user-group", "--create-home", "--shell", "/bin/sh", "--", name]
    try:
        done = subprocess.run(
            [*([sudo, "-n", "--"] if sudo else []), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env={"PATH": path, "LANG": "C"},
            timeout=_USERADD_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as err:
        raise UserMissing(f"the user {name!r} can't be created: {err}; create it by hand") from err
    if done.returncode != 0:
        said = sanitize(done.stderr.strip(), 500)
        kind = SudoRefused if "sudo:" in said else UserMissing
        raise kind(f"the user {name!r} can't be created: {said}; create it by hand, or allow useradd in sudoers")
