"""tinydl.sklearn beside scikit-learn's own MLPs: seconds of whole fits with the same settings, on one thread, and scores.

    python bench/sklearn_mlp.py --runs 7 --out bench/results/sklearn_mlp.json

All variants of a setting are run in turn, `runs` times; the medians are printed. BLAS is held to one thread. The digits are split
into 1,200 rows to train on and 597 to score, scaled to 0..1; iris and diabetes are fitted and scored whole, standardised.
`--cpu` takes seconds of the CPU instead of the clock's, for machines that others use, too.
"""
from __future__ import annotations

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import sklearn
from sklearn import neural_network
from sklearn.datasets import load_diabetes, load_digits, load_iris
from sklearn.preprocessing import scale
from threadpoolctl import threadpool_limits

import tinydl
import tinydl.sklearn

#: name: (data, parameters)
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "digits, 30 epochs": ("digits", {"max_iter": 30}),
    "digits, 30 epochs, batches of 32": ("digits", {"max_iter": 30, "batch_size": 32}),
    "digits, 30 epochs, 32 units, batches of 32": ("digits", {"max_iter": 30, "batch_size": 32, "hidden_layer_sizes": (32,)}),
    "digits, 30 epochs, 32 units, batches of 10": ("digits", {"max_iter": 30, "batch_size": 10, "hidden_layer_sizes": (32,)}),
    "digits, 30 epochs, 256-128 units": ("digits", {"max_iter": 30, "hidden_layer_sizes": (256, 128)}),
    "digits, early stopping": ("digits", {"early_stopping": True}),
    "iris": ("iris", {}),
    "iris, one epoch": ("iris", {"max_iter": 1}),
    "diabetes": ("diabetes", {}),
}


def data(name: str) -> tuple[np.ndarray, ...]:
    """X and y to train on, X and y to score."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X[:1200] / 16, y[:1200], X[1200:] / 16, y[1200:]
    X, y = (load_iris if name == "iris" else load_diabetes)(return_X_y=True)
    return (scale(X), y if name == "iris" else scale(y)) * 2


def variants(name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    kind = "MLPRegressor" if name == "diabetes" else "MLPClassifier"
    theirs, own = getattr(neural_network, kind), getattr(tinydl.sklearn, kind)
    return {"scikit-learn": theirs(random_state=0, **parameters), "tinydl": own(random_state=0, **parameters),
            "tinydl, float32": own(random_state=0, dtype="float32", **parameters),
            "tinydl, float32, 2 threads": own(random_state=0, dtype="float32", n_threads=2, **parameters)}


def measure(runs: int, clock: Callable[[], float]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting, (name, parameters) in SETTINGS.items():
        X, y, X_test, y_test = data(name)
        each = variants(name, parameters)
        seconds: dict[str, list[float]] = {kind: [] for kind in each}
        for run in range(runs + 1):     # the first one is not counted
            for kind, estimator in each.items():
                start = clock()
                estimator.fit(X, y)
                if run:
                    seconds[kind].append(clock() - start)
        found[setting] = {kind: {"seconds": median(seconds[kind]), "all": seconds[kind], "epochs": estimator.n_iter_,
                                 "score": estimator.score(X_test, y_test)} for kind, estimator in each.items()}
        base = found[setting]["scikit-learn"]["seconds"]
        print(setting)
        for kind, row in found[setting].items():
            print(f"    {kind:28} {row['seconds'] * 1e3:8.1f} ms  {base / row['seconds']:5.1f} x  score {row['score']:.4f}  "
                  f"{row['epochs']} epochs", flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        found = measure(given.runs, time.process_time if given.cpu else time.perf_counter)
    if given.out:
        versions = {"tinydl": tinydl.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__,
                    "python": platform.python_version(), "clock": "cpu" if given.cpu else "wall"}
        given.out.write_text(json.dumps({"versions": versions, "settings": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
