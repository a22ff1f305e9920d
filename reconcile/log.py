"""The log: loguru's, which is loaded when there is a line to write. It takes a third of what a pass imports, and most
passes under cron write none.

A line that can't be written for want of memory, or on a disk that fails, is lost, and nothing else.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loguru import Logger


class LazyLogger:
    """What of loguru's logger is used here, by the same names."""

    def __init__(self) -> None:
        self._set_up: Callable[[Logger], None] = lambda logger: None
        self._writes_debug = True
        self._loaded: Logger | None = None
        self._mutex = threading.Lock()

    def set_up(self, set_up: Callable[[Logger], None], *, writes_debug: bool) -> None:
        """Have `set_up` say where lines go, once the log is loaded. `writes_debug`: false, debug lines load nothing."""
        with self._mutex:
            self._set_up, self._writes_debug = set_up, writes_debug
            if self._loaded is not None:
                set_up(self._loaded)

    def load(self) -> Logger | None:
        """Load it, if it isn't: right before something is done whose lines must not be lost. None: it can't be."""
        if self._loaded is None:
            with self._mutex:
                if self._loaded is None:
                    try:
                        from loguru import logger

                        self._set_up(logger)
                    except (ImportError, MemoryError, OSError):
                        return None
                    self._loaded = logger
        return self._loaded

    def debug(self, message: str, *args: Any) -> None:
        if self._writes_debug:
            self._log("DEBUG", message, args)

    def info(self, message: str, *args: Any) -> None:
        self._log("INFO", message, args)

    def warning(self, message: str, *args: Any) -> None:
        self._log("WARNING", message, args)

    def error(self, message: str, *args: Any) -> None:
        self._log("ERROR", message, args)

    def failure(self, level: str, error: BaseException | None, message: str, *args: Any) -> None:
        """A line with the error's traceback after it, if there is one."""
        if (logger := self.load()) is not None:
            logger.opt(exception=error).log(level, message, *args)

    def contextualize(self, **extra: str) -> AbstractContextManager[None]:
        """Have the lines within the block say what they are about."""
        logger = self.load()
        return nullcontext() if logger is None else logger.contextualize(**extra)

    def _log(self, level: str, message: str, args: tuple[Any, ...]) -> None:
        if (logger := self.load()) is not None:
            logger.log(level, message, *args)


logger = LazyLogger()
