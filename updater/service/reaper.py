"""PID 1 of a container: a small process that reaps, and beside it the command itself.

What loses its parent becomes a child of PID 1, and stays a zombie until that one asks for its exit code; `kill -0` in a
control script says meanwhile that it lives. If the command itself asked, it would take the exit codes of its own
children away from who waits for them. So PID 1 does nothing but reap, pass signals on, and end as the command ends.
"""

from __future__ import annotations

import os
import signal
import sys

from probes.host.process_title import hide

_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
_OF_A_TERMINAL = 128  # SI_KERNEL: sent to the whole group, the command included


def run_below_pid_1() -> None:
    """Return in a child, which goes on as the command; here never."""
    watched = {*_PASSED_ON, signal.SIGCHLD}
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it would have the kernel reap, exit codes and all
    # Blocked before there is a child, so that none of its signals is missed. PID 1 is sent no signal that it neither
    # handles nor blocks.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    command = os.fork()
    if command == 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    # Its own command line must not hold an agent's name either; it can't know which, so it shows no path and no word.
    hide((*sys.argv[1:], *map(os.path.basename, sys.argv[1:]), os.sep))
    os._exit(_reap_until_over(command, watched))


def _reap_until_over(command: int, watched: set[signal.Signals]) -> int:
    """Reap whatever ends, until the command does: its exit code, or 128 and the signal that ended it."""
    while True:
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
            if ended.si_pid == command:
                return ended.si_status if ended.si_code == os.CLD_EXITED else 128 + ended.si_status
        arrived = signal.sigwaitinfo(watched)
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code != _OF_A_TERMINAL:
            os.kill(command, arrived.si_signo)
