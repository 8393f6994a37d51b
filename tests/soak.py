"""Hours of bad luck in minutes: `python tests/soak.py --minutes 2 --seed 0`; not a part of the test suite.

A round trains one small model twice: with a strategy whose bits are the same for any number of threads (group, shard,
local or auto, k fixed), or with hogwild. The first run is left in peace, on one thread. The second has one to three, and
another thread that disturbs it: it asks for other thread counts, presses Ctrl-C, and shuts the trainer down; training is
then taken up again. In both, some batches fail for good: a layer raises in its forward or backward pass, an input or a
target is not finite, an item cannot be read; or they hang in the second, for which batch_timeout gives them up, and raise
in the first. After each round:

 bits      parameters, running statistics and the optimizer's state are those of the run left in peace (not hogwild)
 ledger    dispatched = done + retried + skipped + failed, by worker too; as many of each as in peace (hogwild counts
           batches under way at Ctrl-C as failed, so there may be more skipped)
 history   every epoch once, with all samples that arrived
 threads   as many as before the round, and at the end as at the beginning

Ends with 1 after a violation; `--round N` runs round N of that seed alone. What a round consists of depends on seed and
round alone; when the disturbances strike does not.
"""
from __future__ import annotations

import argparse
import faulthandler
import logging
import random
import signal
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
from small import Batched

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel.strategies import Auto, Group, Hogwild, Local, Shard, Strategy, auto

Array = np.ndarray[Any, Any]

auto.LONG = auto.EVERY = auto.PER_LOST = 0.0     # its trials one after the other: else it would train serially in short rounds

FEATURES, CLASSES, THREADS = 6, 3, 3
EVERY = 10.0    # seconds between two lines
HANG = 60.0     # seconds after which a round counts as hung: all stacks are printed and the program ends
TIMEOUT = 0.3   # batch_timeout: many times what a batch takes, a nap and another thread's turn included


class Items(data.ItemDataset):
    """Items from arrays, of which some cannot be read."""

    def __init__(self, x: Array, y: Array, unreadable: set[int], batch_size: int) -> None:
        super().__init__(batch_size)
        self.x, self.y, self.unreadable = x, y, unreadable

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: int) -> tuple[Array, Any]:
        if i in self.unreadable:
            raise OSError(f"item {i}")
        return self.x[i], self.y[i]


class Fails(nn.PythonLayer):
    """Passes x on, taking up to `nap` seconds; raises where a sample's first feature is one of `marks`, or hangs there until
    `release` is set."""

    def __init__(self, marks: list[float], backward: bool, nap: float, release: threading.Event | None) -> None:
        self.marks, self.in_backward, self.nap, self.release = marks, backward, nap, release

    def __deepcopy__(self, memo: dict[int, Any]) -> Fails:
        return Fails(self.marks, self.in_backward, self.nap, self.release)

    def _check(self, x: Array) -> None:
        if self.nap:
            time.sleep(random.random() * self.nap)
        if np.isin(x[:, 0], np.array(self.marks, np.float32)).any():
            if self.release is not None:
                self.release.wait()
            raise RuntimeError("marked")

    def forward(self, x: Array) -> tuple[Array, Array]:
        if not self.in_backward:
            self._check(x)
        return x, x.copy()

    def backward(self, dy: Array, saved: Array) -> Array:
        if self.in_backward:
            self._check(saved)
        return dy


@dataclass
class Round:
    """What one round trains; everything in it follows from (seed, number)."""

    seed: int
    number: int
    counts: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        rng = random.Random(f"{self.seed} {self.number}")
        self.rng, self.n, self.batch_size = rng, rng.randrange(40, 300), rng.choice([3, 4, 8])
        self.k, self.epochs = rng.choice([1, 2, 3, 5]), rng.randrange(2, 5)
        self.kind = rng.choice(["array", "batched", "items"])
        self.regression, self.nap = rng.random() < 0.3, rng.choice([0.0, 0.0, 0.0005])
        self.fault = rng.choice(["none", "forward", "backward", "input", "target", "item", "hang"])
        if self.fault == "item" and self.kind != "items":
            self.fault = "forward"
        if self.fault == "target" and not (self.regression and self.kind == "items"):     # arrays are checked at the door
            self.fault = "input"
        self.python_layer = self.fault in ("forward", "backward", "hang") or self.nap > 0
        self.optimizer, self.bad = rng.choice(["SGD", "Adam"]), set(rng.sample(range(self.n), rng.randrange(1, 4)))
        self.dropout = rng.random() < 0.5
        self.strategy_name = rng.choice(["group", "shard", "local", "auto", "auto shards", "hogwild"])
        self.sync_every = rng.randrange(1, 5)
        if self.fault == "hang":
            self.epochs = 2         # each of them takes a TIMEOUT
        self.release = threading.Event()

    def strategy(self) -> Strategy:
        """The round's strategy, made anew."""
        if self.strategy_name == "local":
            return Local(self.sync_every, self.k)
        if self.strategy_name == "hogwild":
            return Hogwild()
        if self.strategy_name.startswith("auto"):
            return Auto(shards_per_batch=self.k) if self.strategy_name == "auto shards" else Auto(self.k)
        return Group(self.k) if self.strategy_name == "group" else Shard(self.k)

    def __str__(self) -> str:
        return (f"round {self.number}: {self.strategy()}, {self.kind}, {self.n} samples by {self.batch_size}, "
                f"{self.epochs} epochs, fault={self.fault}, python_layer={self.python_layer}, {self.optimizer}")

    def trainer(self, threads: int, peace: bool = False) -> Trainer:
        """The round's training, made anew."""
        rng = np.random.default_rng([self.seed, self.number])
        x = rng.standard_normal((self.n, FEATURES)).astype(np.float32)
        bad = sorted(self.bad) if self.fault != "none" else []
        marks = [float(m) for m in x[bad, 0]] if self.fault in ("forward", "backward", "hang") else []
        y: Array = rng.integers(0, CLASSES, self.n)
        if self.regression:
            y = rng.standard_normal((self.n, CLASSES)).astype(np.float32)
        if self.fault == "target":
            y[bad] = np.inf
        dataset: data.Dataset
        if self.kind == "items":
            dataset = Items(x, y, set(bad) - {0} if self.fault == "item" else set(), self.batch_size)
        else:
            dataset = (Batched if self.kind == "batched" else data.ArrayDataset)(x, y, self.batch_size)
        if self.fault == "input":
            x[bad] = np.nan             # which is looked for when a dataset is made
        layers: list[nn.Layer] = [nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.Tanh()]
        if self.dropout:
            layers.append(nn.Dropout(0.2))
        if self.python_layer:
            hangs = self.fault == "hang" and not peace
            layers.insert(0, Fails(marks, self.fault == "backward", self.nap, self.release if hangs else None))
            layers.insert(0, nn.Sequential())
        model = Model(nn.Sequential(*layers, nn.Linear(16, CLASSES)), seed=1)
        t = Trainer(self.epochs, enable_parallel=True, thread_count=threads, strategy=self.strategy(), seed=self.number,
                    max_failed_fraction=1.0, batch_timeout=TIMEOUT if self.fault == "hang" else None, max_hung_workers=10**6)
        t.init(dataset, model, losses.MeanSquaredError() if self.regression else losses.SoftmaxCrossEntropy(),
               optim.SGD(0.01, momentum=0.9) if self.optimizer == "SGD" else optim.Adam(0.01))
        return t

    def disturb(self, t: Trainer, over: threading.Event) -> None:
        """Another thread's part: something bad every few milliseconds, ever more seldom, so that the round ends."""
        rng, pause = random.Random(f"{self.seed} {self.number} disturb"), 0.002
        while not over.wait(rng.random() * pause):
            pause *= 1.1
            what = rng.choice(["configured", "configured", "interrupted", "shut down"])
            self.counts[what] += 1
            if what == "configured":
                # one batch an update: serial training has the same bits
                serial = self.k == 1 and self.strategy_name == "group" and rng.random() < 0.3
                t.configure_parallel_training(not serial, rng.randint(1, THREADS))
            elif what == "interrupted":
                signal.raise_signal(signal.SIGINT)
            else:
                t.shutdown(rng.choice([0.0, 0.05, 5.0]))

    def run(self) -> Iterator[str]:
        """The round; what it yields is a violation each."""
        before = threading.active_count()
        with self.trainer(1, peace=True) as peace:
            peace.train()
        over = threading.Event()
        t = self.trainer(self.rng.randint(1, THREADS))
        other = threading.Thread(target=self.disturb, args=(t, over))
        other.start()
        try:
            while t.epoch < self.epochs:
                t.max_epochs = self.epochs - t.epoch
                try:
                    Interrupts.welcome = True
                    t.train()
                    Interrupts.welcome = False
                except KeyboardInterrupt:
                    self.counts["resumed"] += 1
        finally:
            Interrupts.welcome = False
            over.set()
            other.join()
            self.release.set()      # what hung comes back, too late
        if not t.shutdown(10):
            yield "shutdown(10) was not in time"
        s, want = t.stats(), peace.stats()
        self.counts["updates"] += s.updates + want.updates
        self.counts["failures"] += s.skipped + want.skipped
        checks: list[tuple[str, Any, Any]] = [
                ("dispatched", s.dispatched, want.dispatched),
                ("done + retried + skipped + failed", s.done + s.retried + s.skipped + s.failed, s.dispatched),
                ("failed", s.failed, 0), ("by worker", sum(s.batches_by_worker.values()), s.dispatched),
                ("failures in the history", len(t.history.failures), s.skipped),
                ("epochs in the history", t.history["epoch"], peace.history["epoch"]),
                ("samples in the history", sum(t.history["samples"]), s.samples)]
        if self.strategy_name == "hogwild":
            lost = sum(f.n_samples for f in t.history.failures)
            checks += [("skipped in peace, skipped", s.skipped >= want.skipped, True), ("updates", s.updates, s.done),
                       ("optimizer.t", t.optimizer.t, s.updates), ("samples", s.samples + lost, self.n * self.epochs),
                       ("finite parameters", bool(np.isfinite(t.model.params).all()), True)]
        else:
            checks += [("skipped", s.skipped, want.skipped), ("updates", s.updates, want.updates),
                       ("optimizer.t", t.optimizer.t, peace.optimizer.t), ("samples", s.samples, want.samples),
                       ("samples of each epoch", t.history["samples"], peace.history["samples"]),
                       ("losses in the history", t.history["loss"], peace.history["loss"]),
                       ("bits of the parameters", t.model.params.tobytes(), peace.model.params.tobytes()),
                       ("bits of the statistics", t.model.statistics.tobytes(), peace.model.statistics.tobytes())]
        for name, got, expected in checks:
            # a loss is a sum in another order after an interruption: epochs are compared to rounding
            same = np.allclose(got, expected, rtol=1e-9, equal_nan=True) if name.startswith("losses") and \
                len(got) == len(expected) else got == expected
            if not same:
                yield f"{name}: {'differ' if isinstance(got, bytes) else f'{got} instead of {expected}'}"
        end = time.monotonic() + 2
        while threading.active_count() > before and time.monotonic() < end:
            time.sleep(0.01)        # a worker put aside ends a little later
        if threading.active_count() != before:
            names = ", ".join(sorted(t.name for t in threading.enumerate()))
            yield f"threads: {threading.active_count()} instead of {before} ({names})"


class Interrupts:
    """Ctrl-C, heard at most once in each call of train, and nowhere else."""

    welcome = False

    @staticmethod
    def handle(signum: int, frame: FrameType | None) -> None:
        if Interrupts.welcome:
            Interrupts.welcome = False
            raise KeyboardInterrupt


def main() -> int:
    parser = argparse.ArgumentParser(description="Disturb many small trainings and check what comes out.")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--round", type=int, help="only this round")
    asked = parser.parse_args()
    logging.getLogger("tinydl").setLevel(logging.CRITICAL + 1)
    signal.signal(signal.SIGINT, Interrupts.handle)
    begun, threads, number, bad = time.monotonic(), threading.active_count(), asked.round or 0, 0
    said, end = begun, begun + 60 * asked.minutes
    total: Counter[str] = Counter()

    def line(title: str) -> str:
        names = ("updates", "interrupted", "resumed", "configured", "shut down", "failures")
        return f"{title}: " + ", ".join(f"{total[n]:,} {n}" for n in names) + f"; {bad} rounds with violations"
    while time.monotonic() < end:
        faulthandler.dump_traceback_later(HANG, exit=True)
        r = Round(asked.seed, number)
        try:
            violations = list(r.run())
        except Exception:
            violations = [traceback.format_exc()]
        for v in violations:
            print(f"VIOLATION {r}: {v}", flush=True)
        bad, number = bad + bool(violations), number + 1
        total.update(r.counts)
        if asked.round is not None:
            break
        if time.monotonic() - said > EVERY:
            said = time.monotonic()
            print(line(f"{said - begun:.0f} s, {number} rounds"), flush=True)
    if threading.active_count() != threads:
        bad += 1
        print(f"VIOLATION at the end: {threading.active_count()} threads instead of {threads}")
    faulthandler.cancel_dump_traceback_later()
    print(line(f"soak seed {asked.seed}, {number} rounds"))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
