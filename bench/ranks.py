"""Ranks against threads, and the exchange against MPI's Allreduce, on one machine.

    mpiexec -n 2 python bench/ranks.py

In turns 2 ranks of 1 thread, and 1 rank of 2 threads while the other one sleeps. Both make updates of 2 batches, of the workloads
W2 to W4 (bench/README.md). The least time of several turns counts.
"""
from __future__ import annotations

import argparse
import time
from itertools import pairwise

import numpy as np

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel.ranks import Results, join

#: sizes of layers, rows of a batch, samples, optimizer
WORK = {
    "W2": ((784, 128, 10), 64, 128 * 200, lambda: optim.SGD(0.01)),
    "W3": ((784, 512, 256, 10), 128, 256 * 40, lambda: optim.Adam(1e-3)),
    "W4": ((1024, 2048, 2048, 1024, 10), 256, 512 * 4, lambda: optim.Adam(1e-3)),
}


def trainer(name: str, threads: int, ranks: object) -> Trainer:
    sizes, rows, n, optimizer = WORK[name]
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((n, sizes[0])).astype(np.float32), rng.integers(0, 10, n)
    layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
    t = Trainer(1, seed=0, thread_count=threads, enable_parallel=True, batches_per_update=2, ranks=ranks)
    t.init(data.ArrayDataset(x, y, rows), Model(nn.Sequential(*layers[:-1]), seed=0), losses.SoftmaxCrossEntropy(), optimizer())
    return t


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    turns = parser.parse_args().turns
    ranks = join("mpi", 600.0)
    for name in WORK:
        several, alone = trainer(name, 1, ranks), trainer(name, ranks.size, None) if ranks.rank == 0 else None
        times = []
        for _ in range(turns):
            ranks.swap("a turn", None)
            started, before = time.perf_counter(), ranks.seconds
            several.train()
            middle, exchanging = time.perf_counter(), ranks.seconds - before
            if alone is not None:
                alone.train()
            times.append((middle - started, time.perf_counter() - middle, exchanging))
            ranks.swap("the end of a turn", None)
        if alone is not None:
            a, b, c = np.min(times, axis=0)
            print(f"{name}: {ranks.size} ranks {a:.3f} s an epoch ({c:.3f} in exchanges), 1 rank {b:.3f} s: {b / a:.2f} of its "
                  "throughput", flush=True)
            alone.shutdown()
        several.shutdown()
    comm = ranks.messages.comm
    for n in (1_000, 100_000, 2_500_000):
        vector, out = np.ones(n, np.float32), np.empty(n, np.float32)
        ours, theirs = [], []
        for i in range(20 * turns):
            comm.Barrier()
            started = time.perf_counter()
            ranks.exchange(vector, 1.0, Results(1, i, ranks.size, np.ones((ranks.size, 5))))
            ours.append(time.perf_counter() - started)
            comm.Barrier()
            started = time.perf_counter()
            comm.Allreduce(vector, out)
            theirs.append(time.perf_counter() - started)
        if ranks.rank == 0:
            print(f"{4 * n / 1e6:g} MB: exchange {min(ours) * 1e3:.3f} ms (median {np.median(ours) * 1e3:.3f}), Allreduce "
                  f"{min(theirs) * 1e3:.3f} ms (median {np.median(theirs) * 1e3:.3f})", flush=True)


if __name__ == "__main__":
    main()
