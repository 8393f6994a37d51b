"""Contenders in turn, each run in a process of its own with its thread count set; medians and ratios.

Repetitions are the outermost loop, so that slow drift of the machine meets all alike.
"""
from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

from tinydl.benchmarks.workloads import ALL

#: what each contender needs, and its modes
PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "sklearn": "scikit-learn"}
MODES = {"tinydl": ("serial",), "numpy": ("",), "torch": ("eager", "compile", "whole"), "jax": ("scan", "step"), "sklearn": ("",)}
PARALLEL_MODES = {"tinydl": ("strong", "weak")}
MEANING = ("strong: each batch cut into a part a thread, the same updates as serial;\n"
           "weak: a whole batch a thread, their mean one update")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")

Runs = list[dict[str, Any]]


def missing(names: Iterable[str]) -> list[str]:
    """Those of `names` that are not installed."""
    modules = {"sklearn": "sklearn"}
    return [n for n in names if n != "tinydl" and importlib.util.find_spec(modules.get(n, n)) is None]


def run_one(name: str, mode: str, workload: str, threads: int, seconds: float, timeout: float = 600) -> dict[str, Any]:
    """One contender on one workload, as `run` says."""
    result: dict[str, Any] = in_process("run", [name, mode, workload, str(threads), str(seconds)], threads, timeout)
    return result


def in_process(module: str, arguments: list[str], threads: int, timeout: float = 600) -> Any:
    """What `module` here prints in a process on the first `threads` CPUs; RuntimeError with what it said where it fails."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}
    cpus = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else []

    def pin() -> None:
        if cpus:
            os.sched_setaffinity(0, cpus)
    done = subprocess.run([sys.executable, "-m", f"tinydl.benchmarks.{module}", *arguments], env=environment,
                          capture_output=True, text=True, timeout=timeout, preexec_fn=pin if cpus else None)
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def combinations(names: Iterable[str], workloads: Iterable[str], threads: Iterable[int]) -> list[tuple[str, str, str, int]]:
    return [(name, mode, w, n) for w in workloads for n in threads for name in names
            for mode in (PARALLEL_MODES.get(name, MODES[name]) if n > 1 else MODES[name])]


def measure_all(names: list[str], workloads: list[str], threads: list[int], runs: int, seconds: float,
                say: Callable[[str], None]) -> Runs:
    """All combinations, `runs` times over. A contender that fails is named and left out from then on."""
    out: Runs = []
    todo = combinations(names, workloads, threads)
    failed: set[tuple[str, str, str, int]] = set()
    for number in range(runs):
        for at, combination in enumerate(todo):
            if combination in failed:
                continue
            name, mode, w, n = combination
            try:
                result = run_one(*combination, seconds)
            except (RuntimeError, subprocess.TimeoutExpired) as e:
                failed.add(combination)
                say(f"left out: {e}")
                continue
            out.append({**result, "run": number})
            say(f"run {number + 1}/{runs}, {at + 1}/{len(todo)}: {label(name, mode)} {w} {count(n)}: "
                f"{result['rate']:,.0f} samples/s")
    return out


def check_all(names: list[str], workloads: list[str]) -> str:
    """The losses of each contender against tinydl's: the largest difference over the first 20 batches, and a later one."""
    lines = []
    for w in workloads:
        ours = run_one("tinydl", "serial", w, 1, 0)
        for name in names:
            for mode in MODES[name] if name not in ("tinydl", "sklearn") else ():       # sklearn draws its own weights
                try:
                    theirs = run_one(name, mode, w, 1, 0)
                except (RuntimeError, subprocess.TimeoutExpired) as e:
                    lines.append(f"{w}  {label(name, mode):14}  {e}")
                    continue
                worst = max(abs(a - b) for a, b in zip(ours["losses"], theirs["losses"], strict=True))
                later = abs(ours["later_loss"] - theirs["later_loss"])
                lines.append(f"{w}  {label(name, mode):14}  losses differ by {worst:.1e} in 20 steps, {later:.1e} "
                             f"after {ALL[w].scan} more")
    return "\n".join(lines)


def label(name: str, mode: str) -> str:
    return f"{name} {mode}".strip()


def count(threads: int) -> str:
    return f"{threads} thread{'s' * (threads > 1)}"


def medians(runs: Runs) -> dict[tuple[str, int], dict[str, float]]:
    """{(workload, threads): {contender and mode: median rate}}"""
    out: dict[tuple[str, int], dict[str, list[float]]] = {}
    for r in runs:
        out.setdefault((r["workload"], r["threads"]), {}).setdefault(label(r["contender"], r["mode"]), []).append(r["rate"])
    return {key: {who: statistics.median(rates) for who, rates in group.items()} for key, group in out.items()}


def disturbed(runs: Runs) -> str:
    """A warning where other programs used the CPUs during runs, else nothing."""
    n = sum(r.get("foreign_cpus", 0.0) > 0.12 for r in runs)
    return f"other programs used the CPUs in {n} of {len(runs)} runs: measure again on a quiet machine" if n else ""


def split(group: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """({tinydl's mode: rate}, {rival: rate of its best mode})"""
    ours, theirs = {}, dict[str, float]()
    for who, rate in group.items():
        name, _, mode = who.partition(" ")
        if name == "tinydl":
            ours[mode] = rate
        else:
            theirs[name] = max(rate, theirs.get(name, 0.0))
    return ours, theirs


def tables(runs: Runs) -> str:
    """A table a workload and thread count: samples/s, and each mode of tinydl as a multiple of each rival's."""
    lines = []
    for (w, n), group in sorted(medians(runs).items()):
        ours, _ = split(group)
        lines += [f"{ALL[w].title}, {count(n)}",
                  f"  {'':16}  {'samples/s':>12}" + "".join(f"  {'tinydl ' + mode:>14}" for mode in ours)]
        for who, rate in sorted(group.items(), key=lambda g: -g[1]):
            times = "" if who.startswith("tinydl") else "".join(f"  {own / rate:>12.2f} x" for own in ours.values())
            lines.append(f"  {who:16}  {rate:>12,.0f}{times}")
        lines.append("")
    return "\n".join(lines + [MEANING] * any(r["threads"] > 1 for r in runs))


def scaling(runs: Runs) -> str:
    """tinydl over thread counts: samples/s, speed-up over one thread, and the share of the ideal."""
    by = medians(runs)
    lines = []
    for w in sorted({w for w, _ in by}):
        serial = by.get((w, 1), {}).get("tinydl serial", float("nan"))
        lines += [ALL[w].title, f"  {'mode':8}  {'threads':>7}  {'samples/s':>12}  {'speed-up':>8}  {'efficiency':>10}"]
        for (v, n), group in sorted(by.items()):
            for who, rate in group.items() if v == w else ():
                lines.append(f"  {who.split()[1]:8}  {n:>7}  {rate:>12,.0f}  {rate / serial:>8.2f}  {rate / serial / n:>10.0%}")
        lines.append("")
    return "\n".join([*lines, MEANING])


def ratios(runs: Runs) -> str:
    """tinydl over the best mode of each rival: a row a rival, thread count and mode of tinydl; a column a workload."""
    by = {key: split(group) for key, group in medians(runs).items()}
    workloads = sorted({w for w, _ in by})
    lines = ["| tinydl against | " + " | ".join(workloads) + " |", "|---|" + "---:|" * len(workloads)]
    for n in sorted({n for _, n in by}):
        here = [group for (_, m), group in by.items() if m == n]
        for mode in dict.fromkeys(mode for ours, _ in here for mode in ours):
            for rival in sorted({r for _, theirs in here for r in theirs}):
                cells = []
                for w in workloads:
                    ours, theirs = by.get((w, n), ({}, {}))
                    cells.append(f"{ours[mode] / theirs[rival]:.2f}" if mode in ours and rival in theirs else "-")
                lines.append(f"| {rival}, {count(n)}{f', {mode}' if n > 1 else ''} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
