"""One contender on one workload, in a process of its own: `python -m tinydl.benchmarks.run NAME MODE WORKLOAD THREADS`.

It answers each line that it reads with a line of JSON, and ends with its input:
    losses      those of the first 20 batches, and of one more after a call with several batches
    N           run N calls: how long they took, and the CPUs that other programs used meanwhile
The caller sets the thread variables of the BLAS libraries and the CPU affinity; compare.Contender is the other end.
"""
from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

from tinydl.benchmarks.machine import busy_seconds
from tinydl.benchmarks.workloads import ALL, Order

MODULES = {"tinydl": "ours", "numpy": "by_numpy", "torch": "by_torch", "jax": "by_jax", "sklearn": "by_sklearn"}


def main(name: str, mode: str, workload: str, threads: str) -> None:
    w = ALL[workload]
    contender = importlib.import_module(f"tinydl.benchmarks.{MODULES[name]}").make(w, mode, int(threads))
    order = Order(w)
    unit = {"scan": w.scan, "group": int(threads)}.get(mode, 1)      # batches that one call needs at least
    for line in sys.stdin:
        result: dict[str, Any]
        if line.strip() == "losses":
            losses = [contender.step(order.take(1)) for _ in range(20)]
            contender.step(order.take(w.scan))
            result = {"losses": losses, "later_loss": contender.step(order.take(1))}
        else:
            indices = order.take(int(line) * unit)
            before, own, start = busy_seconds(), time.process_time(), time.perf_counter()
            contender.step(indices)
            seconds, own, after = time.perf_counter() - start, time.process_time() - own, busy_seconds()
            foreign = 0.0 if before is None or after is None else max(0.0, (after - before - own) / seconds)
            result = {"seconds": seconds, "samples": indices.size, "foreign_cpus": foreign}
        print(json.dumps(result), flush=True)
    if hasattr(contender, "close"):
        contender.close()


if __name__ == "__main__":
    main(*sys.argv[1:5])
