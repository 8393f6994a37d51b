"""One training step, and one epoch serial and parallel, beside NumPy by hand; grouped by workload or thread count."""
import numpy as np
import pytest

from tinydl import Trainer, data, losses
from tinydl.benchmarks import by_numpy, ours
from tinydl.benchmarks.workloads import ALL, Order
from tinydl.benchmarks.workloads import data as arrays


@pytest.mark.parametrize("library", ["numpy", "tinydl"])
@pytest.mark.parametrize("workload", ["W1", "W2", "W3"])
def test_step(benchmark, library, workload):
    benchmark.group = f"one step of {workload}"
    w = ALL[workload]
    contender = (by_numpy if library == "numpy" else ours).make(w, "serial", 1)
    indices = Order(w).take(1)
    assert np.isfinite(benchmark(contender.step, indices))


@pytest.mark.parametrize("threads", [0, 1, 2])
@pytest.mark.parametrize("workload", ["W1", "W2"])
def test_epoch(benchmark, workload, threads):
    """threads 0 is serial; otherwise groups of `threads` batches."""
    benchmark.group = f"one epoch of {workload}, {threads or 'no'} worker threads"
    w = ALL[workload]
    model, optimizer = ours.build(w)
    with Trainer(1, enable_parallel=threads > 0, thread_count=threads, seed=0) as trainer:
        trainer.init(data.ArrayDataset(*arrays(w), w.batch), model, losses.SoftmaxCrossEntropy(), optimizer)
        benchmark.pedantic(trainer.train, rounds=5, warmup_rounds=1)
    benchmark.extra_info["samples_per_second"] = w.samples / benchmark.stats.stats.median
