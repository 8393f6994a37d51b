"""Ranks against threads, against PyTorch's DistributedDataParallel, and the exchange against MPI's Allreduce, on one machine.

    mpiexec -n 2 python bench/ranks.py [--torch]

In turns 2 ranks of 1 thread; with --torch, the same processes as those of DistributedDataParallel over gloo, 1 thread each; and
1 rank of 2 threads while the other one sleeps. All make updates of 2 batches, of the workloads W2 to W4 (bench/README.md) and,
without PyTorch, of three networks of networks.py: W5 is its two convolutions, W6 its LSTM, W7 its transformer. The least time of
several turns counts, and beside it the medians' ratios are printed.
"""
from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise

import networks
import numpy as np

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel.ranks import Ranks, Results, join

#: sizes of layers, rows of a batch, samples, optimizer
WORK = {
    "W2": ((784, 128, 10), 64, 128 * 50, lambda: optim.SGD(0.01)),
    "W3": ((784, 512, 256, 10), 128, 256 * 10, lambda: optim.Adam(1e-3)),
    "W4": ((1024, 2048, 2048, 1024, 10), 256, 512 * 2, lambda: optim.Adam(1e-3)),
}
NETWORKS = {"W5": "cnn", "W6": "lstm", "W7": "transformer"}


def samples(name: str) -> tuple[np.ndarray, np.ndarray]:
    if name in NETWORKS:
        return networks.arrays(NETWORKS[name])
    sizes, _, n, _ = WORK[name]
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, sizes[0])).astype(np.float32), rng.integers(0, 10, n)


def trainer(name: str, threads: int, ranks: object) -> Trainer:
    x, y = samples(name)
    if name in NETWORKS:
        rows, model, optimizer = networks.NETS[NETWORKS[name]][1], networks.model(NETWORKS[name]), optim.Adam(1e-3)
    else:
        sizes, rows, _, make = WORK[name]
        layers = [layer for a, b in pairwise(sizes) for layer in (nn.Linear(a, b), nn.ReLU())]
        model, optimizer = Model(nn.Sequential(*layers[:-1]), seed=0), make()
    t = Trainer(1, seed=0, thread_count=threads, enable_parallel=True, batches_per_update=2, ranks=ranks)
    t.init(data.ArrayDataset(x, y, rows), model, losses.SoftmaxCrossEntropy(), optimizer)
    return t


def torch_epoch(name: str, ranks: Ranks) -> Callable[[], None]:
    """An epoch of as many updates by DistributedDataParallel: each process takes its batch of each update."""
    import torch
    import torch.distributed as dist
    if not dist.is_initialized():
        torch.set_num_threads(1)
        place = ranks.swap("gloo", tempfile.mktemp())[0]
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=ranks.rank, world_size=ranks.size)
    sizes, rows, n, _ = WORK[name]
    layers = [layer for a, b in pairwise(sizes) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Sequential(*layers[:-1]))
    optimizer = (torch.optim.SGD(model.parameters(), 0.01, fused=True) if name == "W2" else
                 torch.optim.Adam(model.parameters(), 1e-3, fused=True))
    x, y = map(torch.from_numpy, samples(name))
    rng = np.random.default_rng(0)

    def epoch() -> None:
        order = torch.from_numpy(rng.permutation(n))
        for at in range(ranks.rank * rows, n, ranks.size * rows):
            i = order[at:at + rows]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x[i]), y[i]).backward()
            optimizer.step()
    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--torch", action="store_true", help="also DistributedDataParallel")
    parser.add_argument("--work", nargs="*", choices=[*WORK, *NETWORKS], default=[*WORK, *NETWORKS])
    options = parser.parse_args()
    turns, ranks = options.turns, join("mpi", 600.0)
    for name in options.work:
        several, alone = trainer(name, 1, ranks), trainer(name, ranks.size, None) if ranks.rank == 0 else None
        beside = options.torch and name in WORK
        theirs, times = torch_epoch(name, ranks) if beside else lambda: None, []
        for _ in range(turns):
            ranks.swap("a turn", None)
            started, before = time.perf_counter(), ranks.seconds
            several.train()
            middle, exchanging = time.perf_counter(), ranks.seconds - before
            ranks.swap("the other's turn", None)
            torch_started = time.perf_counter()
            theirs()
            torch_ended = time.perf_counter()
            if alone is not None:
                alone.train()
            times.append((middle - started, time.perf_counter() - torch_ended, exchanging, torch_ended - torch_started))
            ranks.swap("the end of a turn", None)
        if alone is not None:
            (a, b, c, d), (ma, mb, _, md) = np.min(times, axis=0), np.median(times, axis=0)
            print(f"{name}: {ranks.size} ranks {a:.3f} s an epoch ({c:.3f} in exchanges), 1 rank {b:.3f} s: {b / a:.2f} of its "
                  f"throughput (medians {mb / ma:.2f})", flush=True)
            if beside:
                print(f"{name}: DistributedDataParallel {d:.3f} s: ranks have {d / a:.2f} times its throughput (medians "
                      f"{md / ma:.2f}); load {os.getloadavg()[0]:.0f}", flush=True)
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
