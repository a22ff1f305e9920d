"""The goals, each as a ratio to its yardstick. P6 has none (rest.py), P8 bounds memory, which tests hold, P9 is
simulated in fleet.py."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import frozen

from benchmarks import faults, hosts, packs, peers
from benchmarks.measure import PYTHON, Ratio, command, cpu, interleaved, last_time, seconds, served, updater
from benchmarks.verdicts import Figure
from probes.host.facts import arch

IN_A_SHELL = "sh -c 'cd {} && ./control status'"


@frozen(kw_only=True)
class Goal:
    """`most`: the ratio that is aimed at; None: there is none, the figure is for comparison over time. `unit`: where
    it is no ratio to a yardstick."""

    work: str
    yardstick: str
    most: float | None
    measure: Callable[[Path], Ratio]
    unit: str = ""


def downtime(folder: Path, payload: int = 0) -> Ratio:
    """Old gone -> new says started, over a whole `apply --once`; beside it the same script's stop and start by hand."""
    config = hosts.host(folder, 1, hosts.TIMED)
    home = config.parent / "agents" / "agent-0"
    (home / "1.0" / "up").touch()
    versions = iter(range(2, 100))
    with served(folder / "www") as url:

        def ours() -> float:
            version = f"{next(versions)}.0"
            packed = hosts.published(folder / "www", version)
            hosts.tarball(packed, hosts.TIMED, payload)
            md5 = hashlib.md5(packed.read_bytes(), usedforsecurity=False).hexdigest()
            hosts.desire(folder, [hosts.entry("agent-0", version, home.parent, url, md5)])
            subprocess.run(updater(config, "apply", "--once", "-q"), check=True, stdout=subprocess.DEVNULL)
            return last_time(home / "ready") - last_time(home / "gone")

        def by_hand() -> float:
            control = home / (home / ".version").read_text().strip() / "control"
            subprocess.run([control, "stop"], check=True)
            subprocess.run([control, "start"], check=True)
            return last_time(home / "ready") - last_time(home / "gone")

        return interleaved(ours, by_hand, 5)


def no_op_pass(folder: Path, each: str = IN_A_SHELL, meter: Callable[[Callable[[], object]], float] = seconds) -> Ratio:
    """Look, ask and plan for 100 agents, in one process; beside it the same scripts by xargs."""
    config = hosts.host(folder, 100, hosts.INSTANT)
    trees = "\n".join(str(path.parent) for path in sorted(config.parent.glob("agents/*/1.0/control")))
    by_xargs = ["sh", "-c", f"printf '{trees}\\n' | xargs -P4 -I{{}} {each}"]
    look = _look(config)
    return interleaved(lambda: meter(look), lambda: meter(lambda: command(by_xargs)), 9)


def slow_status(folder: Path) -> Ratio:
    """64 agents whose status takes 0.2 s, beside one."""
    many = _look(hosts.host(folder / "many", 64, hosts.SLOW))
    one = next((folder / "many").glob("agents/*/1.0/control"))
    return interleaved(lambda: seconds(many), lambda: command([str(one), "status"]), 5)


def unpacking(folder: Path, sync: str, payload: int = 250 * 2**20) -> Ratio:
    """Fetch, verify and unpack by `apply`, as its own clock has it; beside it the shell, which ends by `sync`.

    Nothing is removed between the rounds: ext4 looks long for inodes right after thousands of them were freed.
    """
    config = hosts.host(folder, 1, hosts.TIMED, keep=100)
    (config.parent / "agents" / "agent-0" / "1.0" / "up").touch()
    archives = folder / "www" / arch()
    hosts.tarball(archives / "packed", hosts.TIMED, payload, files=4000)
    md5 = hashlib.md5((archives / "packed").read_bytes(), usedforsecurity=False).hexdigest()
    rounds = iter(range(2, 100))
    with served(folder / "www") as url:

        def ours() -> float:
            version = f"{next(rounds)}.0"
            (archives / f"agent-0-{version}.tar.gz").hardlink_to(archives / "packed")
            hosts.desire(folder, [hosts.entry("agent-0", version, folder / "agents", url, md5)])
            subprocess.run(["rm", "-rf", folder / "var" / "cache"], check=True)
            told = subprocess.run(
                updater(config, "apply", "--once", "-o", "json"), check=True, capture_output=True, text=True
            ).stdout
            actions = json.loads(told)["agents"][0]["actions"]
            return sum(
                float(action["seconds"]) for action in actions if action["type"] in ("fetch", "verify", "unpack")
            )

        def shell() -> float:
            script = (
                f"wget -q -O packed.tar.gz {url}/{arch()}/packed && echo '{md5}  packed.tar.gz' | md5sum -c"
                f" && tar xzf packed.tar.gz && {sync}"
            )
            into = folder / f"by-hand-{next(rounds)}"
            into.mkdir()
            return command(["sh", "-c", script], cwd=str(into))

        return interleaved(ours, shell, 3)


def start_up(folder: Path) -> Ratio:
    config = hosts.host(folder, 3, hosts.INSTANT)
    return interleaved(lambda: command(updater(config, "plan")), lambda: command([PYTHON, "-I", "-c", "pass"]), 15)


def others_known(folder: Path) -> Ratio:
    """A plan for a file with 3 agents, on a host that knows 100 more; beside it the same where it knows none."""
    few, many = hosts.host(folder / "few", 3, hosts.INSTANT), hosts.host(folder / "many", 103, hosts.INSTANT)
    for config in (few, many):
        subprocess.run(updater(config, "apply", "--once", "-q"), check=True)
    entries = [hosts.entry(f"agent-{n}", "1.0", many.parent / "agents") for n in range(3)]
    hosts.desire(folder, entries)
    wish = str(folder / "desired.json")
    plain = updater(few, "plan")
    return interleaved(lambda: command(updater(many, "plan", "--desired", wish)), lambda: command(plain), 9)


def planning(folder: Path) -> Ratio:
    """Ten times the agents, ten times the time: the ratio of 100,000 plans to 10,000, divided by ten."""
    from probes.observed import HomeRef, ObservedAgent
    from reconcile.decide.desired import Artifact, DesiredAgent, Md5, RunState
    from reconcile.decide.planner import plan_agent
    from reconcile.decide.target import RemoteInputs, target_for

    digests = frozenset({Md5("a" * 32)})
    agents = [
        DesiredAgent(
            name=f"agent-{n}",
            run=RunState.START,
            work_dir="/srv",
            run_user="falcon",
            version="1.0",
            artifact=Artifact(url="http://h/a", digests=digests),
        )
        for n in range(100_000)
    ]
    seen = [ObservedAgent(home=HomeRef(name=a.name, work_dir="/srv", run_user="falcon")) for a in agents]

    def plan(count: int) -> float:
        return seconds(
            lambda: [
                plan_agent(target_for(agents[n], None, seen[n], RemoteInputs(digests=digests), keep=2), seen[n])
                for n in range(count)
            ]
        )

    return interleaved(lambda: plan(100_000) / 10, lambda: plan(10_000), 3)


def no_op_apply(folder: Path) -> Ratio:
    """`apply --once` over 20 agents, exec to exit; beside it a bare Python."""
    config = hosts.host(folder, 20, hosts.INSTANT)
    return interleaved(
        lambda: command(updater(config, "apply", "--once")), lambda: command([PYTHON, "-I", "-c", "pass"]), 9
    )


GOALS = {
    "P1": Goal(work="downtime of an upgrade", yardstick="its own stop and start", most=1.2, measure=downtime),
    "P1-200MB": Goal(
        work="the same, 200 MB",
        yardstick="its own stop and start",
        most=1.2,
        measure=functools.partial(downtime, payload=200 * 2**20),
    ),
    "P1b": Goal(
        work="downtime of a version that dies at once",
        yardstick="-",
        most=8,
        unit="s",
        measure=faults.failed_upgrade,
    ),
    "P2": Goal(
        work="no-op pass over 100 agents", yardstick=f"xargs -P4 -I{{}} {IN_A_SHELL}", most=0.5, measure=no_op_pass
    ),
    "P2-cpu": Goal(
        work="the same, CPU time of all processes",
        yardstick="the same",
        most=0.6,
        measure=functools.partial(no_op_pass, meter=cpu),
    ),
    "P2-no-shell": Goal(
        work="the same",
        yardstick="xargs -P4 -I{} sh {}/control status",
        most=None,
        measure=functools.partial(no_op_pass, each="sh {}/control status"),
    ),
    "P3": Goal(work="64 agents, status takes 0.2 s", yardstick="one of them", most=1.5, measure=slow_status),
    "P4": Goal(
        work="fetch, verify, unpack 250 MB",
        yardstick="wget, md5sum, tar, sync of each file, as ours",
        most=0.6,
        measure=functools.partial(unpacking, sync="find . -type f -exec sync {} + && sync -f ."),
    ),
    "P4-one-sync": Goal(
        work="the same",
        yardstick="wget, md5sum, tar, one sync",
        most=None,
        measure=functools.partial(unpacking, sync="sync -f ."),
    ),
    "P5": Goal(work="updater plan, 3 agents", yardstick="python -I -c pass", most=8, measure=start_up),
    "P5-others": Goal(
        work="plan --desired FILE, 3 agents, 100 others known",
        yardstick="none known",
        most=1.2,
        measure=others_known,
    ),
    "P7": Goal(work="100,000 plans, a tenth", yardstick="10,000 plans", most=1.2, measure=planning),
    "P11": Goal(
        work="a pass begins -> a crashed agent runs, 20 servers hang",
        yardstick="-",
        most=5,
        unit="s",
        measure=faults.healed_while_origins_hang,
    ),
    "start of apply": Goal(
        work="no-op apply --once, 20 agents", yardstick="python -I -c pass", most=None, measure=no_op_apply
    ),
    "pack-version": Goal(
        work="a pack's updater --version",
        yardstick="the checkout's",
        most=None,
        measure=lambda folder: packs.beside_the_checkout(folder, "--version"),
    ),
    "pack-plan": Goal(
        work="a pack's updater plan, 3 agents",
        yardstick="the checkout's",
        most=None,
        measure=lambda folder: packs.beside_the_checkout(folder, "plan"),
    ),
}


# What is there of the peers, each a goal of its own; `P10` names them all.
GOALS |= {
    f"P10-{name}": Goal(
        work="no-op apply --once, 20 agents",
        yardstick=f"{name}, the same checks",
        most=peer.most,
        measure=functools.partial(peers.beside, name),
    )
    for name, peer in peers.present().items()
}


def measured(name: str) -> Iterator[Figure]:
    """Measure a goal in a folder of its own."""
    goal = GOALS[name]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        ratio = goal.measure(Path(folder) / "host")
    yield Figure(
        goal=name,
        work=goal.work,
        yardstick=goal.yardstick,
        value=ratio.median,
        low=ratio.least,
        high=ratio.most,
        aim=goal.most,
        unit=goal.unit,
    )
    if name == "P7":
        yield Figure.exact("P7-10,000", "10,000 plans", ratio.yardstick_s, aim=0.15, unit="s")


def _look(config: Path) -> Callable[[], object]:
    from reconcile.assess.assess_host import assess
    from reconcile.assess.pass_context import DesiredFrom
    from reconcile.storage.store import StoredState
    from updater.settings.composition import SourceOverride, host_context
    from updater.settings.config import load

    host = host_context(load(config), SourceOverride())
    return lambda: assess(host, StoredState(), DesiredFrom.EXCHANGE)
