"""One contender on one workload, in this process: `python -m tinydl.benchmarks.run NAME MODE WORKLOAD THREADS SECONDS`.

Prints one line of JSON. SECONDS 0: no rate, but the losses of the first 20 batches, and of one more after a call with
several batches. The caller sets the thread variables of the BLAS libraries and the CPU affinity.
"""
from __future__ import annotations

import importlib
import json
import sys
from typing import Any

from tinydl.benchmarks.timing import measure
from tinydl.benchmarks.workloads import ALL, Order

MODULES = {"tinydl": "ours", "numpy": "by_numpy", "torch": "by_torch", "jax": "by_jax", "sklearn": "by_sklearn"}


def main(name: str, mode: str, workload: str, threads: str, seconds: str) -> dict[str, Any]:
    w = ALL[workload]
    contender = importlib.import_module(f"tinydl.benchmarks.{MODULES[name]}").make(w, mode, int(threads))
    order = Order(w)
    result: dict[str, Any] = {"contender": name, "mode": mode, "workload": workload, "threads": int(threads)}
    if float(seconds) == 0:
        result["losses"] = [contender.step(order.take(1)) for _ in range(20)]
        contender.step(order.take(w.scan))
        result["later_loss"] = contender.step(order.take(1))
    else:
        unit = w.scan if mode == "scan" else 1      # batches that go into one call
        result.update(measure(lambda n: contender.step(order.take(n * unit)), w.batch * unit, float(seconds)))
    if hasattr(contender, "close"):
        contender.close()
    return result


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:6])))
