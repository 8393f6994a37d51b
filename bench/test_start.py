"""What comes before training: the start of a process, up to the import and up to the first update, and the compilation of plans.

A process that imports tinydl less one that only imports NumPy is the time of the import.
"""
import subprocess
import sys

import pytest

from tinydl.benchmarks import ours
from tinydl.benchmarks.workloads import ALL
from tinydl.losses import SoftmaxCrossEntropy

PROGRAMS = {
    "numpy": "import numpy",
    "tinydl": "import numpy, tinydl",
    # one batch of W2, by Adam
    "update": """
import numpy as np
from tinydl import Model, Trainer, data, losses, nn, optim
x, y = np.ones((64, 784), np.float32), np.arange(64) % 10
model = Model(nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10)), seed=0)
trainer = Trainer(1, seed=0)
trainer.init(data.ArrayDataset(x, y, 64), model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-3))
trainer.train()
"""}


@pytest.mark.parametrize("until", PROGRAMS)
def test_start(benchmark, until):
    benchmark.group = "a process, up to the import of numpy, that of tinydl, the first update"
    command = [sys.executable, "-c", PROGRAMS[until]]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=20, warmup_rounds=2)


@pytest.mark.parametrize("workload", ["W1", "W2", "W3", "W4"])
def test_compile(benchmark, workload):
    benchmark.group = "compiling a plan"
    w = ALL[workload]
    model, _ = ours.build(w)
    assert benchmark(model.plan, max_rows=w.batch, loss=SoftmaxCrossEntropy()).ops
