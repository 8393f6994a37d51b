"""Many models side by side (tinydl.fleet) beside the same models one after another: how many times as fast that is.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python bench/fleet.py --threads 2 --runs 11

In a turn, new trainers are trained one after another in the calling thread, then new ones by fleet.train, then again one after
another: the ratio is of the mean of the first and the third to the second. The medians are printed. A turn begins when nothing
else uses the CPUs. It does not count, and is made again, for `--minutes` at most, where something else used more than `--others`
of a CPU meanwhile, or where the CPUs did less than nine tenths of their work at once before or after it (virtual ones that share
a core).
"""
from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from tinydl import AccuracyEvaluator, Model, Trainer, callbacks, datasets, fleet, losses, nn, optim
from tinydl.benchmarks import machine
from tinydl.benchmarks.ours import build
from tinydl.benchmarks.workloads import ALL, data
from tinydl.data import ArrayDataset, Split

W1 = ALL["W1"]
X, Y = data(W1)


def w1(samples: int, epochs: int, validation: int = 0) -> Callable[[int], Trainer]:
    """Trainers of W1's model on the first so many samples."""
    train = ArrayDataset(X[:samples], Y[:samples], W1.batch)
    held_out = ArrayDataset(X[-validation:], Y[-validation:], W1.batch) if validation else None

    def member(seed: int) -> Trainer:
        model, optimizer = build(W1)
        trainer = Trainer(epochs, evaluator=AccuracyEvaluator() if validation else None, seed=seed)
        trainer.init(Split(train, held_out, None), model, losses.SoftmaxCrossEntropy(), optimizer)
        return trainer
    return member


def digits(epochs: int) -> Callable[[int], Trainer]:
    """Trainers of digits, with what people use: dropout, validation, accuracy, and a look for the best epoch."""
    parts = datasets.digits(32).split(0.8, 0.2, seed=0)

    def member(seed: int) -> Trainer:
        best = callbacks.EarlyStopping(patience=epochs, restore_best=True)
        trainer = Trainer(epochs, evaluator=AccuracyEvaluator(), seed=seed, callbacks=[best])
        network = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.2), nn.Linear(128, 10))
        trainer.init(parts, Model(network, seed=seed), losses.SoftmaxCrossEntropy(), optim.Adam(1e-3))
        return trainer
    return member


SETTINGS = {
    "W1, 16384 samples": w1(16384, 60),
    "W1, 16384 samples, 2048 to validate": w1(16384, 60, 2048),
    "W1, 1024 samples": w1(1024, 600),
    "W1, 1024 samples, 256 to validate": w1(1024, 400, 256),
    "digits, as one does it": digits(400),
}


def one_after_another(trainers: list[Trainer], threads: int) -> None:
    for trainer in trainers:
        trainer.train()


def side_by_side(trainers: list[Trainer], threads: int) -> None:
    assert all(result.status == "finished" for result in fleet.train(trainers, threads))


def turn(member: Callable[[int], Trainer], threads: int) -> dict[str, float]:
    seconds: dict[str, float] = {}
    at_once = machine.cpus_at_once(threads)
    busy, own, began = machine.busy_seconds(), time.process_time(), time.perf_counter()
    for name, run in (("first", one_after_another), ("fleet", side_by_side), ("third", one_after_another)):
        trainers = [member(seed) for seed in range(threads)]
        start = time.perf_counter()
        run(trainers, threads)
        seconds[name] = time.perf_counter() - start
    wall, now = time.perf_counter() - began, machine.busy_seconds()
    others = 0.0 if busy is None or now is None else (now - busy - (time.process_time() - own)) / wall
    serial = (seconds["first"] + seconds["third"]) / 2
    return {"serial": serial, "fleet": seconds["fleet"], "ratio": serial / seconds["fleet"], "others": others,
            "cpus": min(at_once, machine.cpus_at_once(threads))}


def await_quiet(end: float) -> None:
    """Wait until nothing has used the CPUs for a fifth of a second, until the time `end` at most."""
    while time.monotonic() < end:
        before = machine.busy_seconds()
        time.sleep(0.2)
        after = machine.busy_seconds()
        if before is None or after is None or after - before < 0.015:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--others", type=float, default=0.03, help="of a CPU, that something else may use in a turn that counts")
    parser.add_argument("--settings", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    about = machine.describe()
    print(machine.line(about))
    every: dict[str, list[dict[str, float]]] = {name: [] for name in given.settings}

    def quiet(name: str) -> list[dict[str, float]]:
        return [row for row in every[name] if row["others"] <= given.others and row["cpus"] >= 0.9 * given.threads]
    end = time.monotonic() + 60 * given.minutes
    while time.monotonic() < end and any(len(quiet(name)) < given.runs for name in every):
        for name in (name for name in every if len(quiet(name)) < given.runs):
            await_quiet(end)
            every[name].append(turn(SETTINGS[name], given.threads))
    print(f"{given.threads} models on {given.threads} threads{'':14}one after another  side by side  times as fast (quartiles)")
    for name, turns in every.items():
        rows = quiet(name)
        if len(rows) < 2:
            print(f"{name:42}{len(rows)} quiet turns of {len(turns)}")
            continue
        serial, fleet_, ratio = (median(row[key] for row in rows) for key in ("serial", "fleet", "ratio"))
        low, _, high = quantiles([row["ratio"] for row in rows], n=4)
        print(f"{name:42}{serial * 1e3:14.1f} ms {fleet_ * 1e3:10.1f} ms  {ratio:6.3f} ({low:.3f} to {high:.3f}), "
              f"{len(rows)} quiet turns of {len(turns)}", flush=True)
    if given.out:
        found: dict[str, Any] = {"machine": about, "threads": given.threads, "settings": every}
        given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
