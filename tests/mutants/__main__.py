"""Makes small changes in a copy of the tree, a seeded sample of them, and reports which no test noticed.

    python -m tests.mutants                                   20 changes of each layer
    python -m tests.mutants --seed 7 --count 50 reconcile/act   of one folder or module
    python -m tests.mutants --also tests/e2e updater/commands   more tests than those of its package

Each change is shown to the tests that reach its line, of its package and, where that is reached through another layer
mostly, of that one: one traced run tells which they are. It ends with 1 where less
than 95% of the changes in a layer were noticed, those left out that equivalent.py lists. One that reading calls
equivalent is a hint at dead code first.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.mutants.changes import changes_of, enum_members, modules
from tests.mutants.equivalent import why_equivalent
from tests.mutants.runner import Tried, copy_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("probes", "reconcile", "updater")
LAYERS = {
    "probes": ("probes",),
    "decide": ("reconcile/decide",),
    "act": ("reconcile/act",),
    "net, storage, assess, engine": tuple(f"reconcile/{one}" for one in ("net", "storage", "assess", "engine")),
    "updater": ("updater",),
}
ABOVE = {"probes": ("tests/reconcile/act", "tests/reconcile/engine"), "act": ("tests/reconcile/engine",)}
GOAL = 0.95


def try_sample(root: Path, paths: tuple[str, ...], seed: int, count: int, also: tuple[str, ...] = ()) -> list[Tried]:
    """Try `count` changes of these paths, chosen by the seed; print each as it ends."""
    members = enum_members(root, tuple(name for name in PACKAGES if (root / name).is_dir()))
    changes = [
        change for path in modules(root, paths) for change in changes_of(path, (root / path).read_bytes(), members)
    ]
    sample = sorted(random.Random(seed).sample(changes, min(count, len(changes))), key=str)
    print(f"== {' '.join(paths)}: {len(sample)} of {len(changes)} changes, seed {seed}", flush=True)
    tried = []
    with copy_of(root) as copy:
        copy.learn(paths, also)
        for change in sample:
            if why := why_equivalent(root, change):
                print(f"equivalent   {change}: {why}", flush=True)
                continue
            one = copy.attempt(change)
            tried.append(one)
            print(f"{'noticed    ' if one.by else 'NOT NOTICED'}  {change}", flush=True)
    return tried


def share(tried: list[Tried]) -> float:
    return sum(bool(one.by) for one in tried) / len(tried) if tried else 1.0


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="./control prove mutants", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=20161025)
    parser.add_argument("--count", type=int, default=20, help="changes of each layer")
    parser.add_argument("--also", action="append", default=[], metavar="TESTS", help="besides those of its package")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="folders or modules in place of the layers")
    options = parser.parse_args(argv)
    layers = {" ".join(options.paths): tuple(options.paths)} if options.paths else LAYERS
    shares = {}
    for name, paths in layers.items():
        tried = try_sample(ROOT, paths, options.seed, options.count, (*options.also, *ABOVE.get(name, ())))
        shares[name] = share(tried)
    for name, noticed in shares.items():
        print(f"{name}: {noticed:.0%} noticed")
    return 0 if all(noticed >= GOAL for noticed in shares.values()) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
