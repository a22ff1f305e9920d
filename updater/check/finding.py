"""What a check says, and what all checks are given: the config, and one look at host and server. Values only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from pathlib import Path

from attrs import field

from probes.host.as_user import Hands
from probes.values import frozen
from reconcile.assess import Assessment
from updater.config import Config


class State(Enum):
    """How a thing is; the value is the word in text and JSON."""

    GOOD = "good"
    NOTE = "note"
    BAD = "bad"


@frozen(kw_only=True)
class Finding:
    """One line. `about`: the check that it is of. `remedy`: what to do, empty where nothing is to be done."""

    about: str
    state: State
    message: str
    remedy: str = ""


@frozen(kw_only=True)
class Exchange:
    """When the server was asked, by our clock (Unix seconds). `date`: its `Date` as sent, empty where it sent none."""

    began: float
    ended: float
    date: str = ""


@frozen(kw_only=True)
class Subject:
    """What is checked. `found`: what a plan would find; None where nothing is desired that we know of, and `trouble`
    says why. `exchange`: None where nobody was asked. `certificate`: what an https server serves, in DER. `root`: where
    the host's files are looked up."""

    config: Config
    own_user: str
    hands: Hands
    environ: Mapping[str, str]
    asked: bool
    found: Assessment | None = None
    trouble: str = ""
    memory_trouble: str = ""
    exchange: Exchange | None = None
    certificate: bytes = field(default=b"", repr=False)
    root: Path = field(default=Path("/"))

    @property
    def unanswered(self) -> str:
        """Why the server gave no valid answer; empty where it did, or was not asked."""
        if self.found is None:
            return self.trouble
        return "" if self.found.failed is None else self.found.failed.message


Check = Callable[[Subject], Iterable[Finding]]


def parted(text: str) -> tuple[str, str]:
    """Message and remedy of an error that says both: they are parted by its last semicolon."""
    message, _, remedy = text.rpartition("; ")
    return (message, remedy) if message else (remedy, "")
