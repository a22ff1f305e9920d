"""How hypothesis works here: no law passes or fails by time, and nothing is written into the checkout."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("steady", deadline=None, database=None)
settings.load_profile("steady")

# Under nohup, or behind a shell's `&`, we are started with signals ignored, and every process that a test starts would
# ignore them too.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL if _number is not signal.SIGINT else signal.default_int_handler)
