"""tinydl bench: throughput over thread counts, and against other libraries, measured side by side."""
from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tinydl.benchmarks import compare, machine
from tinydl.benchmarks.workloads import ALL
from tinydl.cli.errors import CommandError
from tinydl.parallel import usable_cpus


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def run(args: argparse.Namespace) -> int:
    about = machine.describe()
    print(machine.line(about))
    rivals = args.against or []
    gone = compare.missing(rivals)
    if gone:
        print(f"not installed, left out: {', '.join(gone)} (pip install {' '.join(compare.PACKAGES[g] for g in gone)})")
    names = ["tinydl", *(r for r in rivals if r not in gone)]
    threads = args.threads or ([1, 2] if rivals and usable_cpus() >= 2 else list(range(1, usable_cpus() + 1)))
    if max(threads) > usable_cpus():
        raise CommandError(f"--threads {max(threads)}: {usable_cpus()} CPUs are usable here")
    workloads = args.workloads or (["W1", "W2", "W3", "W4"] if rivals else ["W2"])
    if "matmul" in workloads or "digits" in workloads:
        from tinydl.benchmarks import small
        if "matmul" in workloads:
            print(small.matmul())
        if "digits" in workloads:
            if compare.missing(["sklearn"]):
                raise CommandError("digits compares with scikit-learn: pip install scikit-learn")
            print(small.digits())
        workloads = [w for w in workloads if w in ALL]
    if args.check and workloads:
        print(compare.check_all(names, workloads))
    runs = compare.measure_all(names, workloads, threads, args.runs, args.seconds, say) if workloads else []
    if runs:
        print()
        print(compare.tables(runs) if rivals else compare.scaling(runs))
        if rivals and len(names) > 1:
            print(compare.ratios(runs))
    if args.out:
        Path(args.out).write_text(json.dumps({"machine": about, "runs": runs}, indent=1) + "\n", encoding="utf-8")
        print(f"raw figures: {args.out}")
    if args.plot and runs:
        try:
            path = Path(args.plot)
            drawn = compare.draw(runs, path, machine.line(about)) if rivals else compare.draw_scaling(runs, path)
        except ImportError as e:
            raise CommandError(str(e)) from None
        print(f"chart: {drawn}")
    return 0
