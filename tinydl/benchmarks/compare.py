"""Contenders side by side: each in a process of its own with its thread count set, all of a workload alive at once.

They run in turn for a fifth of a second each, round after round, so that whatever else the machine does meets all of
them alike; a ratio is the median over the rounds of the two rates within one. A turn begins with an untimed part
that brings the contender's data back into the caches and its threads out of their sleep. Virtual CPUs may share a core
for a while, and then there are no two of them to train on: between turns on several threads it is tried how many CPUs
compute at once, and turns beside which there were fewer count for nobody.
"""
from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from tinydl.benchmarks import machine
from tinydl.benchmarks.workloads import ALL

#: what each contender needs, and its modes
PACKAGES = {"numpy": "numpy", "torch": "torch", "jax": "jax", "sklearn": "scikit-learn"}
MODES = {"tinydl": ("serial",), "numpy": ("",), "torch": ("eager", "compile", "whole"), "jax": ("scan", "step"), "sklearn": ("",)}
PARALLEL_MODES = {"tinydl": ("shard", "group")}
MEANING = ("shard: each batch cut into a part a thread, the same updates as serial;\n"
           "group: a batch a thread, their mean one update")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")

Runs = list[dict[str, Any]]


def missing(names: Iterable[str]) -> list[str]:
    """Those of `names` that are not installed."""
    modules = {"sklearn": "sklearn"}
    return [n for n in names if n != "tinydl" and importlib.util.find_spec(modules.get(n, n)) is None]


def in_process(module: str, arguments: list[str], threads: int, timeout: float = 600) -> Any:
    """What `module` here prints in a process on the first `threads` CPUs; RuntimeError with what it said where it fails."""
    done = subprocess.run([sys.executable, "-m", f"tinydl.benchmarks.{module}", *arguments], timeout=timeout,
                          capture_output=True, **_place(threads))
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _place(threads: int) -> dict[str, Any]:
    """What gives a process `threads` threads in every library, and as many CPUs."""
    cpus = sorted(os.sched_getaffinity(0))[:threads] if hasattr(os, "sched_getaffinity") else []
    return {"env": {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "JAX_PLATFORMS": "cpu"}, "text": True,
            "preexec_fn": (lambda: os.sched_setaffinity(0, cpus)) if cpus else None}


class Contender:
    """One contender on one workload in a process of its own, waiting for its turn: what `run` serves. Errors: RuntimeError
    with the last line that it said, also where it does not answer within `timeout` seconds (compiling included)."""

    def __init__(self, name: str, mode: str, workload: str, threads: int, timeout: float = 300) -> None:
        self.name, self.mode, self.workload, self.threads, self.timeout = name, mode, workload, threads, timeout
        self.errors = tempfile.TemporaryFile("w+")       # a pipe that nobody reads would fill
        self.process = subprocess.Popen([sys.executable, "-m", "tinydl.benchmarks.run", name, mode, workload, str(threads)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, **_place(threads))
        self.calls = 0      # of a turn

    def ask(self, what: str | int) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        late = threading.Timer(self.timeout, self.process.kill)
        late.start()
        try:
            print(what, file=self.process.stdin, flush=True)
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        finally:
            late.cancel()
        if not answer:
            self.process.wait()
            self.errors.seek(0)
            said = self.errors.read().strip().splitlines() or [f"no answer in {self.timeout:g} s"]
            raise RuntimeError(f"{label(self.name, self.mode)} {self.workload} {count(self.threads)}: {said[-1]}")
        result: dict[str, Any] = json.loads(answer)
        return result

    def warm_up(self, seconds: float) -> None:
        """Compile, warm up, and find out how many calls make a turn of so many seconds."""
        self.ask(1)
        calls, took, spent = 1, 0.0, 0.0
        while took < seconds / 2 and spent < 3 * seconds + 0.5:
            took = self.ask(calls)["seconds"]
            spent += took
            if took < seconds / 2:
                calls *= 2
        self.calls = max(1, round(calls * seconds / took))

    def turn(self) -> dict[str, Any]:
        self.ask(-(-self.calls // 4))
        took = self.ask(self.calls)
        return {"contender": self.name, "mode": self.mode, "workload": self.workload, "threads": self.threads,
                "rate": took["samples"] / took["seconds"], "foreign_cpus": took["foreign_cpus"]}

    def close(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        try:
            self.process.stdin.close()
            self.process.wait(5)
        except (OSError, subprocess.TimeoutExpired):
            pass
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def combinations(names: Iterable[str], workloads: Iterable[str], threads: Iterable[int]) -> list[tuple[str, str, str, int]]:
    return [(name, mode, w, n) for w in workloads for n in threads for name in names
            for mode in (PARALLEL_MODES.get(name, MODES[name]) if n > 1 else MODES[name])]


def measure_all(names: list[str], workloads: list[str], threads: list[int], runs: int, seconds: float,
                say: Callable[[str], None]) -> Runs:
    """All combinations, a workload and thread count after another, in `runs` rounds of turns of `seconds`. A contender
    that fails is named and left out."""
    out: Runs = []
    for w in workloads:
        for n in threads:
            with ExitStack() as stack:
                ready: list[Contender] = []
                serial = [("tinydl", "serial", w, 1)] if n > 1 else []      # what a speed-up is over
                for combination in serial + combinations(names, [w], [n]):
                    c = stack.enter_context(Contender(*combination))
                    try:
                        c.warm_up(seconds)
                        ready.append(c)
                    except RuntimeError as e:
                        say(f"left out: {e}")
                here: Runs = []
                before = machine.cpus_at_once(n)
                for number in range(runs):
                    for c in list(ready):
                        try:
                            turn = c.turn()
                        except RuntimeError as e:
                            say(f"left out: {e}")
                            ready.remove(c)
                            continue
                        after = machine.cpus_at_once(n)
                        here.append({**turn, "round": f"{w} {n} {number}", "reference": c.threads != n,
                                     "cpus": min(before, after) if c.threads > 1 else 1.0})
                        before = after
                whole = {(c.name, c.mode) for c in ready}
                out += count_turns([r for r in here if (r["contender"], r["mode"]) in whole])
            for who, rate in medians(out).get((w, n), {}).items():
                say(f"{w} {count(n)}: {who:16} {rate:,.0f} samples/s, the median of {runs}")
    return out


def count_turns(runs: Runs) -> Runs:
    """The turns of one workload and thread count, each marked whether it is counted: those with a CPU for each thread,
    or all of a contender that had fewer than three such."""
    with_cpus = [(r, r["cpus"] > 0.8 * r["threads"]) for r in runs]
    enough = Counter(label(r["contender"], r["mode"]) for r, good in with_cpus if good)
    return [{**r, "counted": good or enough[label(r["contender"], r["mode"])] < 3} for r, good in with_cpus]


def check_all(names: list[str], workloads: list[str]) -> str:
    """The losses of each contender against tinydl's: the largest difference over the first 20 batches, and a later one."""
    def losses(*which: Any) -> dict[str, Any]:
        with Contender(*which) as c:
            return c.ask("losses")
    lines = []
    for w in workloads:
        ours = losses("tinydl", "serial", w, 1)
        for name in names:
            for mode in MODES[name] if name not in ("tinydl", "sklearn") else ():       # sklearn draws its own weights
                try:
                    theirs = losses(name, mode, w, 1)
                except RuntimeError as e:
                    lines.append(f"{w}  {e}")
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
    """{(workload, threads): {contender and mode: median rate}}; serial turns among those on several threads are for `times`."""
    out: dict[tuple[str, int], dict[str, list[float]]] = {}
    for r in (r for r in runs if _counted(r) and not r.get("reference")):
        out.setdefault((r["workload"], r["threads"]), {}).setdefault(label(r["contender"], r["mode"]), []).append(r["rate"])
    return {key: {who: statistics.median(rates) for who, rates in group.items()} for key, group in out.items()}


def times(runs: Runs, workload: str, ours: tuple[str, int], theirs: tuple[str, int]) -> float:
    """How many times the rate of `theirs` (label, threads) `ours` has: the median over the rounds in which both ran."""
    rounds: dict[str, dict[tuple[str, int], float]] = {}
    for r in filter(_counted, runs):
        if r["workload"] == workload:
            rounds.setdefault(r["round"], {})[label(r["contender"], r["mode"]), r["threads"]] = r["rate"]
    pairs = [rates[ours] / rates[theirs] for rates in rounds.values() if ours in rates and theirs in rates]
    return statistics.median(pairs) if pairs else float("nan")


def _counted(run: dict[str, Any]) -> bool:
    return bool(run.get("counted", True))


def disturbed(runs: Runs) -> str:
    """Warnings where other programs used the CPUs, or CPUs shared a core; nothing where not."""
    lines = []
    if foreign := sum(r.get("foreign_cpus", 0.0) > 0.12 for r in runs):
        lines.append(f"other programs used the CPUs in {foreign} of {len(runs)} turns: measure again on a quiet machine")
    if shared := sum(r.get("cpus", r["threads"]) <= 0.8 * r["threads"] for r in runs):
        left_out = sum(not _counted(r) for r in runs)
        lines.append(f"CPUs shared a core in {shared} of {len(runs)} turns; {left_out} were not counted")
    return "\n".join(lines)


def split(group: dict[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """({tinydl's mode: rate}, {rival: rate of its best mode})"""
    best = best_modes(group)
    return ({who.partition(" ")[2]: rate for who, rate in group.items() if who.startswith("tinydl")},
            {name: group[who] for name, who in best.items()})


def best_modes(group: dict[str, float]) -> dict[str, str]:
    """{rival: label of its fastest mode}"""
    rivals = sorted((rate, who) for who, rate in group.items() if not who.startswith("tinydl"))
    return {who.partition(" ")[0]: who for _, who in rivals}


def tables(runs: Runs) -> str:
    """A table a workload and thread count: samples/s, and each mode of tinydl as a multiple of each rival's."""
    lines = []
    for (w, n), group in sorted(medians(runs).items()):
        ours, _ = split(group)
        lines += [f"{ALL[w].title}, {count(n)}",
                  f"  {'':16}  {'samples/s':>12}" + "".join(f"  {'tinydl ' + mode:>14}" for mode in ours)]
        for who, rate in sorted(group.items(), key=lambda g: -g[1]):
            ahead = "" if who.startswith("tinydl") else "".join(
                f"  {times(runs, w, (f'tinydl {mode}', n), (who, n)):>12.2f} x" for mode in ours)
            lines.append(f"  {who:16}  {rate:>12,.0f}{ahead}")
        lines.append("")
    return "\n".join(lines + [MEANING] * any(r["threads"] > 1 for r in runs))


def scaling(runs: Runs) -> str:
    """tinydl over thread counts: samples/s, speed-up over one thread, and the share of the ideal."""
    by = medians(runs)
    lines = []
    for w in sorted({w for w, _ in by}):
        lines += [ALL[w].title, f"  {'mode':8}  {'threads':>7}  {'samples/s':>12}  {'speed-up':>8}  {'efficiency':>10}"]
        for (v, n), group in sorted(by.items()):
            for who, rate in group.items() if v == w else ():
                faster = times(runs, w, (who, n), ("tinydl serial", 1))
                lines.append(f"  {who.split()[1]:8}  {n:>7}  {rate:>12,.0f}  {faster:>8.2f}  {faster / n:>10.0%}")
        lines.append("")
    return "\n".join([*lines, MEANING])


def ratios(runs: Runs) -> str:
    """tinydl over the best mode of each rival: a row a rival, thread count and mode of tinydl; a column a workload."""
    by = medians(runs)
    best = {key: best_modes(group) for key, group in by.items()}
    workloads = sorted({w for w, _ in by})
    lines = ["| tinydl against | " + " | ".join(workloads) + " |", "|---|" + "---:|" * len(workloads)]
    for n in sorted({n for _, n in by}):
        ours = dict.fromkeys(who for (_, m), group in by.items() if m == n for who in group if who.startswith("tinydl"))
        for who in ours:
            for rival in sorted({r for (_, m), rivals in best.items() if m == n for r in rivals}):
                cells = [times(runs, w, (who, n), (best.get((w, n), {}).get(rival, ""), n)) for w in workloads]
                mode = f", {who.split()[1]}" if n > 1 else ""
                lines.append(f"| {rival}, {count(n)}{mode} | " + " | ".join("-" if x != x else f"{x:.2f}" for x in cells) + " |")
    return "\n".join(lines)
