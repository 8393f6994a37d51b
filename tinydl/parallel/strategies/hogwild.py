"""hogwild: workers update the shared parameters without waiting for each other."""
from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tinydl.parallel.execution import native_driver, python_driver
from tinydl.parallel.strategies.base import Array, Strategy, Tick

if TYPE_CHECKING:
    from tinydl.data import Batch, LazyBatch
    from tinydl.parallel.execution.epoch import EpochProgress, Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.workers.pool import WorkerPool


class Hogwild(Strategy):
    """Every batch an update of its own, made at once by the worker that ran it (Recht et al. 2011).

    The only strategy that is not reproducible: workers change the parameters while others read them, so two runs differ.
    With one thread it is serial training. A batch that is running when Ctrl-C arrives counts as failed.
    """

    name = "hogwild"

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, 1

    def update_signature(self, setting: Setting) -> list[int] | None:
        return super().update_signature(setting) if setting.n_threads == 1 else None

    def run_arrays(self, resources: Resources, epoch: EpochProgress, order: Array, bounds: Array, setting: Setting,
                   pool: WorkerPool | None,
                   tick: Tick, max_updates: int | None = None) -> None:
        native_driver.train(resources, epoch, order, bounds, setting, pool, tick, max_updates, free=True)

    def run_batches(self, resources: Resources, epoch: EpochProgress, batches: Iterator[Batch | LazyBatch], setting: Setting,
                    pool: WorkerPool | None, tick: Tick, max_updates: int | None = None) -> bool:
        return python_driver.train(resources, epoch, batches, setting, pool, tick, max_updates, free=True)
