"""Runs the whole corpus and the whole fuzzing, and prints what came of it.

    python -m tests.hostile                      each case: what was expected, what was seen
    python -m tests.hostile --only http          one group (archive, response, http, control, bomb, fuzz)
    python -m tests.hostile --mutants 1000000    of responses and digest files; of archives a twentieth
    python -m tests.hostile --write FILE         put the figures between the markers of this file, too

The limits are those of the field: a heartbeat that hangs takes its 30 seconds. It ends with 1 where a case ended
otherwise than expected, or a mutant came through.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from tests.hostile import fuzz
from tests.hostile.case import Case, Verdict, judge
from tests.hostile.corpus import whole_corpus

BEGIN, END = "<!-- hostile input: begin -->", "<!-- hostile input: end -->"
GROUPS = ("archive", "response", "http", "control", "bomb", "fuzz")
_AT_ONCE = {"http": 64, "control": 8}  # they wait for time limits; the others are measured, or over at once
_SHOWN = 100  # characters of a cell


def _carry_out(cases: Sequence[Case]) -> list[Verdict]:
    """Judge each, in its own folder; those that only wait do it side by side."""
    found: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        for group, members in groupby(enumerate(cases), lambda numbered: numbered[1].group):
            with ThreadPoolExecutor(max_workers=_AT_ONCE.get(group, 1)) as pool:
                for verdict in pool.map(lambda numbered: _judge_in(Path(folder), *numbered), members):
                    found.append(verdict)
                    print(_row(verdict), flush=True)
    return found


def _judge_in(folder: Path, number: int, case: Case) -> Verdict:
    own = folder / str(number)
    own.mkdir()
    return judge(case, own)


def _row(verdict: Verdict) -> str:
    case, seen = verdict.case, verdict.seen
    name = f"{case.name} (benign)" if case.benign else case.name
    expected = f"{case.expected}: {case.says}" if case.says not in ("", ".") else case.expected
    shown = f"{seen.end}: {seen.said}" if seen.said else seen.end
    peak = f", {seen.peak / 1024:.0f} MiB" if seen.peak is not None else ""
    mark = f"WRONG: {verdict.wrong}" if verdict.wrong else "ok"
    cells = (case.group, name, expected, f"{shown[:_SHOWN]}{peak}, {seen.seconds:.1f} s", mark)
    return f"| {' | '.join(cell.replace('|', '¦') for cell in cells)} |"


def _fuzz(mutants: int, folder: Path) -> list[tuple[str, fuzz.Fuzzed]]:
    works: tuple[tuple[str, Callable[[], fuzz.Fuzzed]], ...] = (
        ("responses", lambda: fuzz.responses(mutants)),
        ("digest files", lambda: fuzz.digest_files(mutants)),
        ("archives", lambda: fuzz.archives(mutants // 20, folder)),
    )
    found = []
    for name, work in works:
        fuzzed = work()
        found.append((name, fuzzed))
        print("\n".join([f"{name}: {fuzzed}", *fuzzed.failures]), flush=True)
    return found


def figures(verdicts: Sequence[Verdict], fuzzed: Sequence[tuple[str, fuzz.Fuzzed]]) -> str:
    """The tables of docs/reliability.md."""
    lines = [
        "| group | hostile | ended as expected | look-alikes | served | longest |",
        "|---|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(verdict.case.group for verdict in verdicts):
        own = [verdict for verdict in verdicts if verdict.case.group == group]
        hostile = [verdict for verdict in own if not verdict.case.benign]
        benign = [verdict for verdict in own if verdict.case.benign]
        lines.append(
            f"| {group} | {len(hostile)} | {sum(not v.wrong for v in hostile)} | {len(benign)} "
            f"| {sum(not v.wrong for v in benign)} | {max(v.seen.seconds for v in hostile):.1f} s |"
        )
    lines += ["", "| bombs end with exit code, reason | how many | longest | highest peak |", "|---|---|---|---|"]
    bombs: dict[str, list[tuple[float, int]]] = {}
    for seen in (verdict.seen for verdict in verdicts):
        if seen.peak is not None:
            bombs.setdefault(seen.end, []).append((seen.seconds, seen.peak))
    for end, measured in bombs.items():
        longest, peak = (max(values) for values in zip(*measured, strict=True))
        lines.append(f"| {end} | {len(measured)} | {longest:.1f} s | {peak / 1024:.0f} MiB |")
    lines += ["", "| mutants of | how many | what came of them | failures |", "|---|---|---|---|"]
    for name, one in fuzzed:
        ends = ", ".join(f"{end} {count:,}" for end, count in one.ends.most_common())
        lines.append(f"| {name} | {one.count:,} | {ends} | {len(one.failures)} |")
    return "\n".join(lines)


def write(path: Path, tables: str) -> None:
    """Put the tables between the markers of a file."""
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}", encoding="utf-8")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=GROUPS, action="append")
    parser.add_argument("--mutants", type=int, default=100_000, metavar="N")
    parser.add_argument("--write", type=Path, metavar="FILE")
    options = parser.parse_args(argv)
    wanted = options.only or GROUPS
    print("| group | case | expected | seen | |\n|---|---|---|---|---|")
    verdicts = _carry_out([case for case in whole_corpus() if case.group in wanted])
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        fuzzed = _fuzz(options.mutants, Path(folder)) if "fuzz" in wanted else []
    tables = figures(verdicts, fuzzed)
    print(f"\n{tables}")
    if options.write is not None:
        write(options.write, tables)
    wrong = [verdict for verdict in verdicts if verdict.wrong]
    for verdict in wrong:
        print(f"WRONG: {verdict.case.id}: {verdict.wrong}", file=sys.stderr)
    return 1 if wrong or any(one.failures for _, one in fuzzed) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
