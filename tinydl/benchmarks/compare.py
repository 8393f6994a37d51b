"""Contenders in turn, each run in a process of its own with its thread count set; medians, ratios, a chart.

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
from pathlib import Path
from typing import Any

from tinydl.benchmarks.workloads import ALL

#: what each contender needs, and its modes
PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "sklearn": "scikit-learn"}
MODES = {"tinydl": ("serial",), "numpy": ("",), "torch": ("eager", "compile", "whole"), "jax": ("scan", "step"), "sklearn": ("",)}
PARALLEL_MODES = {"tinydl": ("strong", "weak")}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")

Runs = list[dict[str, Any]]


def missing(names: Iterable[str]) -> list[str]:
    """Those of `names` that are not installed."""
    modules = {"sklearn": "sklearn"}
    return [n for n in names if n != "tinydl" and importlib.util.find_spec(modules.get(n, n)) is None]


def run_one(name: str, mode: str, workload: str, threads: int, seconds: float, timeout: float = 600) -> dict[str, Any]:
    """One run in a process on the first `threads` CPUs; RuntimeError with what it said where it fails."""
    environment = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}
    cpus = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else []

    def pin() -> None:
        if cpus:
            os.sched_setaffinity(0, cpus)
    done = subprocess.run([sys.executable, "-m", "tinydl.benchmarks.run", name, mode, workload, str(threads), str(seconds)],
                          env=environment, capture_output=True, text=True, timeout=timeout, preexec_fn=pin if cpus else None)
    if done.returncode:
        raise RuntimeError(f"{name} {mode} on {workload}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


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
            say(f"run {number + 1}/{runs}, {at + 1}/{len(todo)}: {label(name, mode)} {w} {n} thread{'s' * (n > 1)}: "
                f"{result['rate']:,.0f} samples/s")
    return out


def check_all(names: list[str], workloads: list[str]) -> str:
    """The losses of the first 20 batches of each contender against tinydl's: the largest difference."""
    lines = []
    for w in workloads:
        ours = run_one("tinydl", "serial", w, 1, 0)["losses"]
        for name in names:
            for mode in MODES[name]:
                if name in ("tinydl", "sklearn"):       # sklearn draws its own weights
                    continue
                theirs = run_one(name, mode, w, 1, 0)["losses"]
                worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
                lines.append(f"{w}  {label(name, mode):16}  largest difference of 20 losses: {worst:.1e}")
    return "\n".join(lines)


def label(name: str, mode: str) -> str:
    return f"{name} {mode}".strip()


def medians(runs: Runs) -> dict[tuple[str, int], dict[str, float]]:
    """{(workload, threads): {contender and mode: median rate}}"""
    out: dict[tuple[str, int], dict[str, list[float]]] = {}
    for r in runs:
        out.setdefault((r["workload"], r["threads"]), {}).setdefault(label(r["contender"], r["mode"]), []).append(r["rate"])
    return {key: {who: statistics.median(rates) for who, rates in group.items()} for key, group in out.items()}


def tables(runs: Runs) -> str:
    """A table a workload and thread count: samples/s, and tinydl's best as a multiple of each rival's."""
    lines = []
    for (w, n), group in sorted(medians(runs).items()):
        ours = max((rate for who, rate in group.items() if who.startswith("tinydl")), default=float("nan"))
        lines += [f"{ALL[w].title}, {n} thread{'s' * (n > 1)}", f"  {'':16}  {'samples/s':>12}  {'tinydl is':>12}"]
        for who, rate in sorted(group.items(), key=lambda g: -g[1]):
            times = "" if who.startswith("tinydl") else f"{ours / rate:.2f} x"
            lines.append(f"  {who:16}  {rate:>12,.0f}  {times:>12}".rstrip())
        lines.append("")
    return "\n".join(lines)


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
    return "\n".join([*lines, "strong: each batch cut into a part a thread, the same updates as serial;",
                      "weak: a whole batch a thread, their mean one update"])


def draw_scaling(runs: Runs, path: Path) -> Path:
    """Speed-up over thread counts with the ideal line, an axis a workload."""
    from tinydl.plotting import figure
    by = medians(runs)
    workloads = sorted({w for w, _ in by})
    fig = figure(figsize=(4.2 * len(workloads), 3.6), dpi=120, layout="constrained")
    for ax, w in zip(fig.subplots(1, len(workloads), squeeze=False)[0], workloads, strict=True):
        counts = sorted(n for v, n in by if v == w)
        serial = by.get((w, 1), {}).get("tinydl serial", float("nan"))
        ax.plot(counts, counts, color="#bbbbbb", linestyle="--", label="ideal")
        for mode, colour in (("weak", "#2e86ab"), ("strong", "#d1495b")):
            line = [(n, by[w, n][f"tinydl {mode}"] / serial) for n in counts if f"tinydl {mode}" in by[w, n]]
            ax.plot(*zip((1, 1.0), *line, strict=True), marker="o", color=colour, label=mode)
        ax.set(title=ALL[w].title, xlabel="threads", ylabel="speed-up", xticks=counts)
        ax.title.set_fontsize(8)
        ax.legend(frameon=False)
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig(path)
    return path


def ratios(runs: Runs) -> str:
    """tinydl over the best mode of each rival, a row a rival and thread count, a column a workload."""
    by = medians(runs)
    workloads = sorted({w for w, _ in by})
    lines = ["| tinydl against | " + " | ".join(workloads) + " |", "|---|" + "---:|" * len(workloads)]
    for n in sorted({n for _, n in by}):
        rivals = sorted({who.split()[0] for (_, m), group in by.items() if m == n for who in group} - {"tinydl"})
        for rival in rivals:
            cells = []
            for w in workloads:
                group = by.get((w, n), {})
                best = max((r for who, r in group.items() if who.split()[0] == rival), default=0.0)
                ours = max((r for who, r in group.items() if who.startswith("tinydl")), default=0.0)
                cells.append(f"{ours / best:.2f}" if best and ours else "-")
            lines.append(f"| {rival}, {n} thread{'s' * (n > 1)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def draw(runs: Runs, path: Path, note: str = "") -> Path:
    """Bars of samples/s relative to tinydl's, the best mode of each contender."""
    from tinydl.plotting import figure
    by = medians(runs)
    keys = sorted(by)
    names = ["tinydl", *(n for n in PACKAGES if any(who.split()[0] == n for g in by.values() for who in g))]
    threads = sorted({n for _, n in keys})
    fig = figure(figsize=(9, 3.4 * len(threads)), dpi=120, layout="constrained")
    grid = fig.subplots(len(threads), 1, squeeze=False)[:, 0]
    colours = {"tinydl": "#d1495b", "jax": "#2e86ab", "torch": "#8d99ae", "numpy": "#edae49", "sklearn": "#66a182"}
    for ax, n in zip(grid, threads, strict=True):
        workloads = [w for w, m in keys if m == n]
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            best = [max((r for who, r in by[w, n].items() if who.split()[0] == name), default=0) for w in workloads]
            ours = [max((r for who, r in by[w, n].items() if who.startswith("tinydl")), default=1) for w in workloads]
            at = [k + (i - (len(names) - 1) / 2) * width for k in range(len(workloads))]
            bars = ax.bar(at, [b / o for b, o in zip(best, ours, strict=True)], width * 0.92, label=name, color=colours.get(name))
            ax.bar_label(bars, [_short(b) if b else "" for b in best], fontsize=7, padding=2)
        ax.set_xticks(range(len(workloads)), [ALL[w].title.replace(", batch", "\nbatch") for w in workloads], fontsize=7)
        ax.set_ylabel("samples/s, tinydl = 1")
        ax.set_title(f"{n} thread{'s' * (n > 1)}", loc="left", fontsize=10)
        ax.set_ylim(0, 1.18)
        ax.spines[["top", "right"]].set_visible(False)
    grid[0].legend(frameon=False, ncols=len(names), fontsize=8, loc="upper right", bbox_to_anchor=(1, 1.14))
    if note:
        fig.supxlabel(note, fontsize=6)
    fig.savefig(path)
    return path


def _short(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:.0f} k" if rate >= 1e4 else f"{rate / 1e3:.1f} k"
