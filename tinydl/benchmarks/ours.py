"""tinydl: what Trainer runs for an epoch in arrays, fed with the workload's order.

Modes, by the strategies' names: "serial"; "shard": each batch cut into a part a thread, the same updates as serial;
"group": a batch a thread, their mean one update.
"""
from __future__ import annotations

from itertools import pairwise

import numpy as np

from tinydl.benchmarks.workloads import Array, Workload, data, weights
from tinydl.data import ArrayDataset
from tinydl.losses import SoftmaxCrossEntropy
from tinydl.model import Model
from tinydl.nn import Layer, Linear, ReLU, Sequential
from tinydl.optim import SGD, Adam, Optimizer
from tinydl.parallel.execution import native_driver
from tinydl.parallel.execution.epoch import EpochProgress, Setting
from tinydl.parallel.execution.resources import Resources
from tinydl.parallel.strategies import Group, Serial, Shard
from tinydl.parallel.workers.pool import WorkerPool

MODES = ("serial",)
PARALLEL_MODES = ("shard", "group")


def build(w: Workload) -> tuple[Model, Optimizer]:
    layers: list[Layer] = []
    for i, o in pairwise(w.widths):
        layers += [Linear(i, o), ReLU()]
    model = Model(Sequential(*layers[:-1]), seed=0)
    for k, (weight, bias) in enumerate(weights(w)):
        model.load_state_dict({f"{2 * k}.weight": weight.T, f"{2 * k}.bias": bias}, strict=False)
    return model, SGD(w.lr, w.momentum) if w.optimizer == "sgd" else Adam(w.lr)


class Ours:
    """step(indices (n, batch)) -> mean loss of the n batches."""

    def __init__(self, w: Workload, mode: str, threads: int) -> None:
        x, y = data(w)
        model, optimizer = build(w)
        self.resources = Resources(model, SoftmaxCrossEntropy(), optimizer, w.batch, seed=0)
        self.resources.set_arrays(ArrayDataset(x, y, w.batch))
        self.pool = WorkerPool(threads) if threads > 1 else None
        self.setting = Setting("serial", 1, 1, 1, Serial())
        if threads > 1:
            self.setting, _ = (Shard(min(threads, w.batch)) if mode == "shard" else Group(threads)).setting(threads)

    def step(self, indices: Array) -> float:
        n, batch = indices.shape
        before = self.resources.ledger.stats.samples
        epoch = EpochProgress(0)
        native_driver.train(self.resources, epoch, indices.ravel(), np.arange(n + 1) * batch, self.setting, self.pool,
                            lambda *_: False)
        assert self.resources.ledger.stats.samples - before == n * batch
        return epoch.loss

    def close(self) -> None:
        if self.pool is not None:
            self.pool.shutdown(5)


def make(w: Workload, mode: str, threads: int) -> Ours:
    return Ours(w, mode, threads)
