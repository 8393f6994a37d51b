"""Two more comparisons: scikit-learn's digits end to end, and the matrix product alone."""
from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from tinydl.benchmarks.workloads import Array

SHAPES = [*((n, n, n) for n in (64, 128, 256, 512, 1024, 2048)), (32, 128, 64), (128, 512, 784), (128, 256, 512),
          (128, 10, 256), (512, 1024, 1024), (4, 4, 4)]


def fit_digits(seed: int) -> tuple[float, float]:
    """64-128-10, Adam 1e-3, batch 32, 30 epochs, three quarters of the digits: (seconds of training, test accuracy)."""
    from tinydl import AccuracyEvaluator, Model, Trainer, datasets, losses, nn, optim
    parts = datasets.digits(32).split(0.75, 0.0, 0.25, seed=seed)
    model = Model(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)), seed=seed)
    trainer = Trainer(30, evaluator=AccuracyEvaluator(), seed=seed)
    start = time.perf_counter()
    trainer.init(parts, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-3))
    trainer.train()
    return time.perf_counter() - start, trainer.evaluate()["accuracy"]


def fit_digits_sklearn(seed: int) -> tuple[float, float]:
    """The same by MLPClassifier."""
    import warnings

    from sklearn.neural_network import MLPClassifier

    from tinydl import datasets
    parts = datasets.digits(32).split(0.75, 0.0, 0.25, seed=seed)
    assert parts.test is not None
    (x, y), (tx, ty) = ((p.x[p.rows], p.y[p.rows]) for p in (parts.train, parts.test))
    net = MLPClassifier((128,), batch_size=32, max_iter=30, alpha=0.0, tol=0.0, n_iter_no_change=30, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        net.fit(x, y)
        return time.perf_counter() - start, float(net.score(tx, ty))


def digits(seeds: int = 5) -> str:
    """Both in turn for each seed; medians, and the ratio."""
    rows = [(fit_digits(s), fit_digits_sklearn(s)) for s in range(seeds)]
    ours, theirs = (statistics.median(r[i][0] for r in rows) for i in (0, 1))
    accuracy = [statistics.mean(r[i][1] for r in rows) for i in (0, 1)]
    return (f"digits, 30 epochs: tinydl {ours:.3f} s, accuracy {accuracy[0]:.4f}; MLPClassifier {theirs:.3f} s, "
            f"{accuracy[1]:.4f}: {theirs / ours:.1f} times as fast")


def _time(call: Callable[[], object], seconds: float) -> float:
    call()
    n, start = 0, time.perf_counter()
    while n < 2 or time.perf_counter() - start < seconds:
        call()
        n += 1
    return (time.perf_counter() - start) / n


def matmul(seconds: float = 0.05, repeats: int = 5) -> str:
    """float32 products, NumPy's BLAS and ours in turn through their Python calls; GFLOP/s, and ratios."""
    from tinydl import _kernels as K
    rng = np.random.default_rng(0)
    lines = [f"{'product':18}  {'numpy':>8}  {'tinydl':>8}  {'ratio':>6}   (GFLOP/s)"]
    all_ratios = []
    for op, (trans_a, trans_b) in {"AB": (False, False), "AB'": (False, True), "A'B": (True, False)}.items():
        for m, n, k in SHAPES:
            a: Array = rng.standard_normal((k, m) if trans_a else (m, k), dtype=np.float32)
            b: Array = rng.standard_normal((n, k) if trans_b else (k, n), dtype=np.float32)
            out = np.empty((m, n), np.float32)
            an, bn = (a.T if trans_a else a), (b.T if trans_b else b)

            def ours(a: Array = a, b: Array = b, out: Array = out, ta: bool = trans_a, tb: bool = trans_b) -> object:
                return K.matmul(a, b, out, trans_a=ta, trans_b=tb)

            def theirs(a: Array = an, b: Array = bn, out: Array = out) -> object:
                return np.matmul(a, b, out=out)
            pairs = [(_time(theirs, seconds), _time(ours, seconds)) for _ in range(repeats)]
            t, o = statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs)
            ratio = statistics.median(p[0] / p[1] for p in pairs)
            all_ratios.append(ratio)
            flop = 2e-9 * m * n * k
            lines.append(f"{op:3} {m}x{n}x{k}".ljust(18) + f"  {flop / t:8.1f}  {flop / o:8.1f}  {ratio:6.2f}")
    lines.append(f"geometric mean {statistics.geometric_mean(all_ratios):.2f}, least {min(all_ratios):.2f}")
    return "\n".join(lines)
