"""scikit-learn: MLPClassifier.partial_fit, a batch a call (its own initial weights)."""
from __future__ import annotations

import warnings

import numpy as np
from sklearn.neural_network import MLPClassifier

from tinydl.benchmarks.workloads import Array, Workload, data

MODES = ("",)


class BySklearn:
    def __init__(self, w: Workload) -> None:
        warnings.simplefilter("ignore")
        self.x, self.y = data(w)
        options = {"solver": "sgd", "momentum": w.momentum, "nesterovs_momentum": False} if w.optimizer == "sgd" else {}
        self.net = MLPClassifier(w.widths[1:-1], learning_rate_init=w.lr, alpha=0.0, batch_size=w.batch, shuffle=False, **options)
        self.net.partial_fit(self.x[:w.batch], self.y[:w.batch], classes=np.arange(w.widths[-1]))

    def step(self, indices: Array) -> float:
        for index in indices:
            self.net.partial_fit(self.x[index], self.y[index])
        return float(self.net.loss_)


def make(w: Workload, mode: str, threads: int) -> BySklearn:
    return BySklearn(w)
