"""Real users, and what the machine itself may refuse to root: in a container, most often."""

from __future__ import annotations

import subprocess

import pytest

from tests.system.users import alone, as_root, by_sudo, users

__all__ = ["alone", "as_root", "by_sudo", "unsharing", "users"]


@pytest.fixture(scope="session")
def unsharing() -> None:
    """A test that uses it mounts, or makes a network: both need CAP_SYS_ADMIN, which root of a container may lack."""
    command = ["unshare", "--mount", "--propagation", "unchanged", "--net", "true"]  # works in a chroot, too
    tried = subprocess.run(command, capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this machine lets root neither mount nor make a network: {tried.stderr.strip()}")
