"""Whole documents in their plain form, letter for letter, as scripts and mails get them. A change here is seen by
people and by what greps: it belongs into CHANGELOG.md."""

from __future__ import annotations

import re

import pytest

from tests.support.sample_agents import build
from tests.updater.conftest import Folder
from updater.demo import agent

pytestmark = pytest.mark.slow

# What belongs to this run alone.
OF_THIS_RUN = (
    (r"http://127\.0\.0\.1:\d+", "http://meta"),
    (r"linux_[a-z0-9]+|darwin_[a-z0-9]+", "ARCH"),
    (r"md5:[0-9a-f]{32}", "md5:..."),
    (r"for (\d+[dhms])+ *", "for AGE  "),
    (r", \d+s old", ""),
    (r"[^ ]+: a leak", "OWNER: a leak"),
    (r"[ \t]+\n", "\n"),
)

STATUS = """\
falcon-agent  1.0.0 started  1.0.0 started     AsDesired       for AGE
smart-agent   1.0.0 started  1.0.0 started     HeldByOperator  for AGE  OWNER: a leak
dash-agent    1.0.0 stopped  -> 1.0.0 started  NotRunning      for AGE  1.0.0 does not run
host-1: 3 agents, 1 as desired, 1 pending, 1 held by an operator; desired from http://meta/api/heartbeat (kept)
"""

PLAN = """\
host-1: 3 agents, 2 pending, 1 held by an operator, 1 refused; desired from http://meta/api/heartbeat

falcon-agent  VersionDiffers  1.0.0 -> 2.0.0
  1. fetch      http://meta/releases/falcon-agent/ARCH/falcon-agent-2.0.0.tar.gz
  2. verify     md5:...
  3. unpack     2.0.0
  4. configure  cfg.json
  5. stop       1.0.0
  6. switch     1.0.0 -> 2.0.0
  7. start      2.0.0

smart-agent
  held: HeldByOperator: OWNER: a leak

dash-agent  NotRunning  1.0.0 does not run
  1. start      1.0.0

bad name  InvalidSpec: refused by rule name: name 'bad name' is not allowed: \
expected 1 to 64 of A-Z a-z 0-9 . _ + ~ -, starting with a letter, a digit or _, without '..'
"""


def test_the_documents(folder: Folder) -> None:
    meta = folder.meta
    for name in ("falcon-agent", "smart-agent", "dash-agent"):
        for version in ("1.0.0", "2.0.0"):
            meta.publish(name, version, build(name, version))
    others = [meta.agent(name, "1.0.0") for name in ("smart-agent", "dash-agent")]
    meta.desire(meta.agent("falcon-agent", "1.0.0"), *others)
    assert folder.run("apply", "--once").code == 0
    assert folder.run("apply", "--once").code == 0
    for argv in (["plan", "-q"], ["status", "-q"], ["apply", "--once", "-q"]):
        assert folder.run(*argv).out == "", argv
    assert folder.run("hold", "smart-agent", "--reason", "a leak").code == 0
    agent.crash(folder.home("dash-agent"))
    assert plain(folder.run("status").out) == STATUS
    assert words(folder.run("status", "-q").out) == words(STATUS.splitlines()[2]), "what is not as it should be, alone"

    url = meta.publish_config("falcon/cfg.json", b"{}")
    meta.desire(
        meta.agent("falcon-agent", "2.0.0", configFileName="cfg.json", configRemoteUrl=url),
        *others,
        {**meta.agent("falcon-agent", "1.0.0"), "name": "bad name"},
    )
    assert plain(folder.run("plan").out) == PLAN
    assert plain(folder.run("plan", "-q").out) == without("smart-agent", PLAN)


def plain(text: str) -> str:
    """The document without what belongs to this run alone."""
    for pattern, word in OF_THIS_RUN:
        text = re.sub(pattern, word, text)
    return text


def words(text: str) -> list[str]:
    return plain(text + "\n").split()


def without(name: str, document: str) -> str:
    """The document without this agent's paragraph."""
    paragraphs = document.split("\n\n")
    return "\n\n".join(paragraph for paragraph in paragraphs if not paragraph.startswith(name))
