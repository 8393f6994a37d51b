"""Two more comparisons, one thread each: the digits end to end, and the matrix product alone.

`python -m tinydl.benchmarks.small NAME` prints the figures as JSON; `compare.in_process` runs it with the BLAS
libraries set to one thread.
"""
from __future__ import annotations

import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from tinydl import AccuracyEvaluator, Model, Trainer, datasets, losses, nn, optim
from tinydl import _kernels as K
from tinydl.benchmarks.by_numpy import ByNumpy
from tinydl.benchmarks.workloads import Array, Order, Workload
from tinydl.data import ArrayDataset, Split

SHAPES = [*((n, n, n) for n in (64, 128, 256, 512, 1024, 2048)), (32, 128, 64), (128, 512, 784), (128, 256, 512),
          (128, 10, 256), (512, 1024, 1024), (4, 4, 4)]
EPOCHS = 30


def _arrays(parts: Split[ArrayDataset]) -> tuple[Array, Array, Array, Array]:
    assert parts.test is not None
    return parts.train.x, parts.train.y, parts.test.x, parts.test.y


def fit_tinydl(parts: Split[ArrayDataset], seed: int) -> tuple[float, float]:
    model = Model(nn.Sequential(nn.Linear(64, 128, init="kaiming_uniform"), nn.ReLU(),
                                nn.Linear(128, 10, init="kaiming_uniform")), seed=seed)
    trainer = Trainer(EPOCHS, evaluator=AccuracyEvaluator(), seed=seed)
    start = time.perf_counter()
    trainer.init(parts, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-3))
    trainer.train()
    return time.perf_counter() - start, trainer.evaluate()["accuracy"]


def fit_numpy(parts: Split[ArrayDataset], seed: int) -> tuple[float, float]:
    x, y, tx, ty = _arrays(parts)
    w = Workload("digits", (64, 128, 10), 32, len(x), "adam", 1e-3)
    order, start = Order(w), time.perf_counter()
    net = ByNumpy(w, x, y, seed)
    net.step(order.take(EPOCHS * (len(x) // w.batch)))
    seconds = time.perf_counter() - start
    z = np.maximum(tx @ net.p[0] + net.p[1], 0) @ net.p[2] + net.p[3]
    return seconds, float((z.argmax(1) == ty).mean())


def fit_sklearn(parts: Split[ArrayDataset], seed: int) -> tuple[float, float]:
    from sklearn.neural_network import MLPClassifier
    x, y, tx, ty = _arrays(parts)
    net = MLPClassifier((128,), batch_size=32, max_iter=EPOCHS, alpha=0.0, tol=0.0, n_iter_no_change=EPOCHS, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        net.fit(x, y)
        return time.perf_counter() - start, float(net.score(tx, ty))


def digits(seeds: int = 20) -> dict[str, dict[str, list[float]]]:
    """64-128-10, Adam 1e-3, batch 32, 30 epochs on three quarters of the digits: seconds and test accuracies, in turn."""
    fits = {"tinydl": fit_tinydl, "numpy": fit_numpy, **({"sklearn": fit_sklearn} if find_spec("sklearn") else {})}
    out: dict[str, dict[str, list[float]]] = {name: {"seconds": [], "accuracy": []} for name in fits}
    for seed in range(seeds):
        parts = datasets.digits(32).split(0.75, 0.0, 0.25, seed=seed)
        for name, fit in fits.items():
            seconds, accuracy = fit(parts, seed)
            out[name]["seconds"].append(seconds)
            out[name]["accuracy"].append(accuracy)
    return out


def digits_table(result: dict[str, dict[str, list[float]]]) -> str:
    ours = statistics.median(result["tinydl"]["seconds"])
    lines = [f"digits, {EPOCHS} epochs", f"  {'':16}  {'seconds':>12}  {'accuracy':>14}  {'tinydl':>14}"]
    for name, r in result.items():
        seconds = statistics.median(r["seconds"])
        times = "" if name == "tinydl" else f"  {seconds / ours:>12.2f} x"
        lines.append(f"  {name:16}  {seconds:>12.3f}  {statistics.mean(r['accuracy']):>14.4f}{times}")
    return "\n".join(lines) + "\n"


def _time(call: Callable[[], object], seconds: float) -> float:
    call()
    n, start = 0, time.perf_counter()
    while n < 2 or time.perf_counter() - start < seconds:
        call()
        n += 1
    return (time.perf_counter() - start) / n


def matmul(seconds: float = 0.05, repeats: int = 5) -> list[dict[str, Any]]:
    """float32 products, NumPy's BLAS and ours in turn through their Python calls: GFLOP/s, and the median ratio."""
    rng = np.random.default_rng(0)
    out = []
    for op, (trans_a, trans_b) in {"AB": (False, False), "AB'": (False, True), "A'B": (True, False)}.items():
        for m, n, k in SHAPES:
            a: Array = rng.standard_normal((k, m) if trans_a else (m, k), dtype=np.float32)
            b: Array = rng.standard_normal((n, k) if trans_b else (k, n), dtype=np.float32)
            c = np.empty((m, n), np.float32)
            an, bn = (a.T if trans_a else a), (b.T if trans_b else b)

            def ours(a: Array = an, b: Array = bn, c: Array = c) -> object:
                return K.call("matmul", a=a, b=b, out=c)

            def theirs(a: Array = an, b: Array = bn, c: Array = c) -> object:
                return np.matmul(a, b, out=c)
            pairs = [(_time(theirs, seconds), _time(ours, seconds)) for _ in range(repeats)]
            flop = 2e-9 * m * n * k
            out.append({"product": op, "m": m, "n": n, "k": k, "numpy": flop / statistics.median(p[0] for p in pairs),
                        "tinydl": flop / statistics.median(p[1] for p in pairs),
                        "ratio": statistics.median(p[0] / p[1] for p in pairs)})
    return out


def matmul_table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'product, m x n x k':22}  {'numpy':>8}  {'tinydl':>8}  {'ratio':>6}   (GFLOP/s, one thread)"]
    for r in rows:
        shape = f"{r['product']:4}{r['m']}x{r['n']}x{r['k']}"
        lines.append(f"{shape:22}  {r['numpy']:8.1f}  {r['tinydl']:8.1f}  {r['ratio']:6.2f}")
    ratios = [r["ratio"] for r in rows]
    return "\n".join([*lines, f"geometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}"]) + "\n"


if __name__ == "__main__":
    print(json.dumps(digits() if sys.argv[1] == "digits" else matmul()))
