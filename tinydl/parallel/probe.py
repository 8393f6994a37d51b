"""probe: what several threads bring on this machine now, learnt in some milliseconds from models of our own.

Two small models are trained by shards, in the native driver, in the pool that will train the user's: nothing of the user's
is touched, and no update is made for it. Whether there is a second CPU that is free, how far it is (its caches), how long
sleeping threads take to come: all of it is in the two figures. Strategy auto asks before it tries threads in epochs so
short that trying them would cost more than it may.
"""
from __future__ import annotations

import time
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from tinydl.losses import MeanSquaredError
from tinydl.model import Model
from tinydl.nn import Linear, ReLU, Sequential
from tinydl.optim import SGD
from tinydl.parallel import native_driver
from tinydl.parallel.crew import Crew, GaveUpError
from tinydl.parallel.job import Job, Setting
from tinydl.parallel.pool import PoolClosedError, WorkerPool
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.strategies.serial import Serial
from tinydl.parallel.strategies.shard import Shard

__all__ = ["Probed", "probe"]

#: the seconds that an update takes, more or less; rows of a batch, width of the layers; updates: as fast as in a long run
SIZES = ((7e-6, 32, 64, 200), (1.5e-4, 96, 192, 12))
#: the share of one thread's time above which larger updates are worth a look, and more threads are not
LITTLE = 0.85
#: seconds in which threads that do not come are given up
PATIENCE = 5.0


class Probed(NamedTuple):
    """By so many threads: an update of `update_seconds` in one thread took the share `pace` of that, and starting `start`
    seconds."""

    update_seconds: float
    pace: float
    start: float


def probe(pool: WorkerPool, counts: Iterable[int], update_seconds: float | None = None, *,
          pin_threads: bool = False) -> dict[int, list[Probed]]:
    """For each number of threads, by size of the update; where the model's is known, only the largest that is about as
    small. Nothing where the pool is closed, its threads do not come, or there is no memory."""
    sizes = SIZES if update_seconds is None else (SIZES[0], *(s for s in SIZES[1:] if s[0] <= update_seconds))[-1:]
    found: dict[int, list[Probed]] = {n: [] for n in sorted(counts)}
    try:
        for _, rows, width, updates in sizes:
            model = Model(Sequential(Linear(width, width), ReLU(), Linear(width, width)), seed=0)
            crew = Crew(model, MeanSquaredError(), SGD(0.0), rows, seed=0, pin_threads=pin_threads)
            zeros = np.zeros((rows, width), np.float32)
            crew.set_arrays(zeros, zeros)
            crew.give_up_at = time.monotonic() + PATIENCE
            alone, _ = _best_of_two(crew, updates // 2, Setting("serial", 1, 1, 1, Serial()), None)
            for n, probed in found.items():
                update, start = _best_of_two(crew, updates, Setting("parallel", n, 1, n, Shard(n)), pool)
                probed.append(Probed(alone, update / alone, start))
                if update > LITTLE * alone:
                    break
            else:
                break
    except (GaveUpError, PoolClosedError, MemoryError):
        return {}
    return found


def _best_of_two(crew: Crew, updates: int, setting: Setting, pool: WorkerPool | None) -> tuple[float, float]:
    """Seconds that an update takes, and starting, at worst."""
    runs = [_run(crew, updates, setting, pool) for _ in range(2)]
    return min(update for update, _ in runs), max(start for _, start in runs)


def _run(crew: Crew, updates: int, setting: Setting, pool: WorkerPool | None) -> tuple[float, float]:
    """So many updates, or as far as they come until a look at the clock: then something else has the CPUs."""
    rows = crew.max_rows
    order, bounds = np.tile(np.arange(rows), updates), np.arange(updates + 1) * rows
    crew.prepare(setting)
    began = time.perf_counter()
    with uninterrupted() as held:
        stretch, _, _ = native_driver.stretch_of(crew, Job(0), order, bounds, setting)
        native_driver.drive(crew, Job(0), [stretch], pool, lambda *_: True, held)
        crew.running = []
    took = time.perf_counter() - began
    if not stretch.finished:
        return took / max(1, stretch.next_group), took
    update = stretch.steady_seconds / (updates - 1)
    return update, max(0.0, took - updates * update)
