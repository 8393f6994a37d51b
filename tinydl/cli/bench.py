"""tinydl bench: throughput over thread counts, and against other libraries, measured side by side."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from tinydl.benchmarks import compare, machine
from tinydl.benchmarks.workloads import ALL
from tinydl.cli.common import check_picture, check_writable
from tinydl.cli.errors import CommandError
from tinydl.parallel import usable_cpus
from tinydl.parallel.host.threads import affinity_cpus
from tinydl.serialization import write_atomically


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    rivals = args.against or []
    threads = args.threads or ([1, 2] if rivals and usable_cpus() >= 2 else list(range(1, usable_cpus() + 1)))
    if max(threads) > affinity_cpus():
        raise CommandError(f"--threads {max(threads)}: {affinity_cpus()} CPUs are usable here")
    if not rivals:
        threads = sorted({1, *threads})         # speed-up is over one thread
    chosen = args.workloads or (["W1", "W2", "W3", "W4"] if rivals else ["W2"])
    workloads = [w for w in chosen if w in ALL]
    if args.plot and compare.missing(["matplotlib"]):
        raise CommandError("--plot needs matplotlib: pip install 'tinydl-parallel[plot]'")
    for place, check, option in ((args.out, check_writable, "--out"), (args.plot, check_picture, "--plot")):
        if place:       # before minutes of work, not after
            Path(place).parent.mkdir(parents=True, exist_ok=True)
            check(Path(place), option)

    about = machine.describe()
    print(machine.line(about), flush=True)
    gone = compare.missing(rivals)
    if gone:
        print(f"not installed, left out: {', '.join(gone)} (pip install {' '.join(compare.PACKAGES[g] for g in gone)})")
    names = ["tinydl", *(r for r in rivals if r not in gone)]
    result: dict[str, Any] = {"machine": about}
    for name in ("matmul", "digits"):
        if name in chosen:
            print(small(name, result), flush=True)
    if args.check and workloads:
        print(compare.check_all(names, workloads), flush=True)
    runs = compare.measure_all(names, workloads, threads, args.runs, args.seconds, say) if workloads else []
    result["runs"] = runs
    if runs:
        print()
        print(compare.tables(runs) if rivals else compare.scaling(runs))
        if len(names) > 1:
            print(compare.ratios(runs))
        if warning := compare.disturbed(runs):
            print(warning)
    if args.out:
        text = json.dumps(result, indent=1) + "\n"
        write_atomically(Path(args.out), lambda f: f.write(text.encode()))
        print(f"raw figures: {args.out}")
    if args.plot and runs:
        from tinydl.benchmarks import charts
        path = Path(args.plot)
        drawn = charts.draw(runs, path, machine.line(about)) if len(names) > 1 else charts.draw_scaling(runs, path)
        print(f"chart: {drawn}")
    return 0


def small(name: str, result: dict[str, Any]) -> str:
    """The figures of `digits` or `matmul` into `result`, and their table."""
    from tinydl.benchmarks import small
    try:
        figures = result[name] = compare.in_process("small", [name], 1)
    except RuntimeError as e:
        raise CommandError(str(e)) from None
    return small.matmul_table(figures) if name == "matmul" else small.digits_table(figures)
