"""`new-agent`: the template of an agent, laid down as a folder with the name filled in."""

from __future__ import annotations

import argparse
from pathlib import Path

from reconcile.decide.policy.names import is_name
from updater.commands.context import OK, UsageWrong, report

_TEMPLATE = Path(__file__).parents[1] / "agent_template"
_NAME_LINE = "name=my-agent    "  # of the template's control


def new_agent(options: argparse.Namespace) -> int:
    name = options.new_name
    if not is_name(name):
        raise UsageWrong(
            f"{name!r} can't be an agent's name: letters, digits, and . _ + ~ - after the first, at most 64"
        )
    folder = Path(name)
    try:
        if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
            raise UsageWrong(f"{name} is there already; name another one, or move it away")
        folder.mkdir(exist_ok=True)
        for part in sorted(_TEMPLATE.iterdir()):
            content = part.read_text(encoding="utf-8").replace(_NAME_LINE, f"name={name:<11} ")
            (folder / part.name).write_text(content, encoding="utf-8")
            (folder / part.name).chmod(0o755)
    except OSError as err:
        raise UsageWrong(f"{err.filename} can't be written: {err.strerror}") from None
    report([f"{name} is made: put your program in place of {name}/agent, then run `updater lint {name}`"])
    return OK
