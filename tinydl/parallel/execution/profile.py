"""Profile: when each operation of a few updates ran, on which thread."""
from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.parallel.execution import native_driver, python_driver
from tinydl.parallel.execution.epoch import EpochProgress

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.data import Dataset
    from tinydl.parallel.execution.epoch import Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.workers.pool import WorkerPool
    from tinydl.plan import Plan

Array = np.ndarray[Any, Any]

__all__ = ["Profile", "profile"]


@dataclass(frozen=True, eq=False)
class Profile:
    """What `Trainer.profile` measured. events: for each replica an array (n, 3) int64: the operation's number in `plan.ops`,
    its start and its end in nanoseconds. Each thread has a replica; in strategy local, each copy of the model has one."""

    plan: Plan
    events: list[Array]
    n_threads: int
    updates: int
    batches: int
    samples: int
    seconds: float

    def table(self) -> str:
        """Operations in the plan's order: microseconds a batch, share of the threads' time, GFLOP/s of products."""
        busy = np.zeros(len(self.plan.ops))
        for replica in self.events:
            np.add.at(busy, replica[:, 0], (replica[:, 2] - replica[:, 1]) * 1e-9)
        total = self.seconds * self.n_threads
        n = self.samples / max(1, self.batches)
        rows = [("#", "layer", "operation", "us a batch", "share", "GFLOP/s")]
        for i, (op, seconds) in enumerate(zip(self.plan.ops, busy, strict=True)):
            flops = 2 * op.multiply_adds(n) * self.batches
            rows.append((str(i), op.label or "-", " ".join([op.name, *op.notes]), f"{seconds / self.batches * 1e6:,.2f}",
                         f"{seconds / total:.1%}", f"{flops / seconds * 1e-9:.1f}" if flops and seconds else ""))
        rest = total - busy.sum()
        rows.append(("", "", "average, update, waiting", f"{rest / self.batches * 1e6:,.2f}", f"{rest / total:.1%}", ""))
        widths = [max(len(r[c]) for r in rows) for c in range(6)]
        lines = ["  ".join(t.ljust(w) if c < 3 else t.rjust(w) for c, (t, w) in enumerate(zip(r, widths, strict=True))).rstrip()
                 for r in rows]
        threads = f"{self.n_threads} thread{'s' * (self.n_threads != 1)}"
        lines.append(f"{self.batches} batches, {self.updates} updates, {self.samples} samples in "
                     f"{self.seconds:.4g} s on {threads}: {self.samples / self.seconds:,.0f} samples/s")
        return "\n".join(lines)

    def save_trace(self, path: str | Path) -> None:
        """A trace for chrome://tracing or ui.perfetto.dev: one row a replica."""
        import json
        start = min((int(w[0, 1]) for w in self.events if len(w)), default=0)
        trace: list[dict[str, Any]] = []
        for worker, events in enumerate(self.events):
            trace.append({"ph": "M", "name": "thread_name", "pid": 0, "tid": worker, "args": {"name": f"worker {worker}"}})
            for op, begin, end in events.tolist():
                o = self.plan.ops[op]
                trace.append({"ph": "X", "name": " ".join([o.name, *o.notes]), "cat": o.label or "plan", "pid": 0, "tid": worker,
                              "ts": (begin - start) / 1e3, "dur": (end - begin) / 1e3, "args": {"layer": o.label}})
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"traceEvents": trace, "displayTimeUnit": "ns"}, f)


def profile(resources: Resources, train: Dataset, setting: Setting, pool: WorkerPool | None, steps: int) -> Profile:
    """Run `steps` updates (of each copy, if there are copies) on `train` by the setting's strategy, twice: the first time to
    fill the caches. This really trains the model of `resources`: pass resources that were made of copies."""
    setting.strategy.prepare(resources, setting)
    replicas = [m.replica for m in resources.model_copies] if setting.copies else resources.replicas
    n_batches = steps * setting.batches * max(1, setting.copies)
    for warm in (True, False):
        for replica in replicas:
            replica.native.record(0 if warm else n_batches * setting.parts * resources.plan.program.n_ops)
        epoch = EpochProgress(0)
        if resources.takes_arrays(train):
            order, bounds = train.order(resources.seed, 0)
            resources.set_data(train, resources.seed)
            native_driver.train(resources, epoch, order, bounds[:n_batches + 1], setting, pool, lambda *_: False)
        else:
            batches = islice(train.epoch(resources.seed, 0), n_batches)
            python_driver.train(resources, epoch, batches, setting, pool, lambda *_: False)
    events = [replica.native.record(0) for replica in replicas]
    return Profile(resources.plan, [e for e in events if e is not None], setting.n_threads, epoch.updates, epoch.batches_done,
                   epoch.samples, epoch.seconds)
