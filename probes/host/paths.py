"""Every path of the disk layout (docs/contract.md, section 4). No I/O."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from probes.observed import START_LOG, VERSION_FILE
from probes.values import frozen

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # where programs are looked for


@frozen
class AgentHome:
    """`{work_dir}/{name}`, and what lies in it."""

    work_dir: Path
    name: str

    @cached_property
    def path(self) -> Path:
        return self.work_dir / self.name

    @property
    def version_file(self) -> Path:
        return self.path / VERSION_FILE

    @property
    def start_log(self) -> Path:
        return self.path / START_LOG

    def tree(self, directory: str) -> Path:
        """The directory of a version, or of its `next_name` or `previous_name`."""
        return self.path / directory

    def control(self, directory: str) -> Path:
        return self.path / directory / "control"
