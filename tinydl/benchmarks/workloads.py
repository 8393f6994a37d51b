"""The workloads: classifiers with ReLU between linear layers, trained on random data with softmax cross entropy."""
from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Workload:
    """widths: of input, hidden layers, output. momentum is SGD's. scan: batches of one call where a library fuses calls."""

    name: str
    widths: tuple[int, ...]
    batch: int
    samples: int
    optimizer: str
    lr: float
    momentum: float = 0.0
    scan: int = 16

    @property
    def title(self) -> str:
        return f"{self.name}: {'-'.join(map(str, self.widths))}, batch {self.batch}, {self.optimizer}"


ALL = {w.name: w for w in (
    Workload("W1", (64, 128, 10), 32, 16384, "sgd", 0.1, 0.9, 64),
    Workload("W2", (784, 128, 10), 64, 16384, "sgd", 0.1, 0.0, 32),
    Workload("W3", (784, 512, 256, 10), 128, 16384, "adam", 1e-3, 0.0, 16),
    Workload("W4", (1024, 2048, 2048, 1024, 10), 256, 8192, "adam", 1e-3, 0.0, 4),
)}


def data(w: Workload) -> tuple[Array, Array]:
    """x (samples, inputs) float32 about as large as normalised pixels, y random labels: the loss stays near log 10."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal((w.samples, w.widths[0]), dtype=np.float32)
    x *= 0.3
    return x, rng.integers(0, w.widths[-1], w.samples)


def weights(w: Workload, seed: int = 0) -> list[tuple[Array, Array]]:
    """(W (out, in), b (out)) of each layer, uniform in +-1/sqrt(in)."""
    rng = np.random.default_rng(seed)

    def draw(shape: tuple[int, ...], fan: int) -> Array:
        values: Array = ((rng.random(shape, dtype=np.float32) * 2 - 1) / np.sqrt(fan)).astype(np.float32)
        return values
    return [(draw((o, i), i), draw((o,), i)) for i, o in pairwise(w.widths)]


class Order:
    """Shuffled sample numbers, a batch at a time, epoch after epoch: take(n) is the next n batches, (n, batch)."""

    def __init__(self, w: Workload) -> None:
        self.w, self.rng = w, np.random.default_rng(2)
        self.left: Array = np.empty((0, w.batch), np.int64)

    def take(self, n: int) -> Array:
        parts, have = [self.left], len(self.left)
        while have < n:
            epoch = self.rng.permutation(self.w.samples)
            parts.append(epoch[:len(epoch) // self.w.batch * self.w.batch].reshape(-1, self.w.batch))
            have += len(parts[-1])
        rows = np.concatenate(parts)
        self.left = rows[n:]
        return rows[:n]
