#!/usr/bin/env bash
# Optuna 5.0.0: suggest_categorical with two choices that are equal in Python and mean different things.
#
# Guess: a study holds the choice that the trial was given, so that best_params trained once more is the best trial; choices that
# it could not tell apart would be refused.
# Seen: of the choices 1, 1.0 and "sqrt" (of scikit-learn's max_features: one feature, all features, their root) the objective is
# given each as often, and the study says 1 wherever it was 1.0, as a place among the choices is found by ==. So best_params
# names a setting that was worse, without a warning. The same holds of True and 1, and of False, 0 and 0.0.
# Whoever looks up a choice by == has to compare the types, too, or refuse choices that are equal.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import warnings

import optuna
from sklearn.datasets import make_friedman1
from sklearn.ensemble import RandomForestRegressor
from sklearn.model_selection import cross_val_score

optuna.logging.set_verbosity(optuna.logging.WARNING)
X, y = make_friedman1(200, 10, random_state=0)


def score(max_features):
    forest = RandomForestRegressor(20, max_features=max_features, random_state=0)
    return cross_val_score(forest, X, y, cv=3).mean()


def objective(trial):
    given.append(trial.suggest_categorical("max_features", [1, 1.0, "sqrt"]))
    return score(given[-1])


with warnings.catch_warnings():
    warnings.simplefilter("error")
    given = []
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=8)
told = [trial.params["max_features"] for trial in study.trials]
print("the objective was given ", *map(repr, given))
print("the study says          ", *map(repr, told))
again = score(study.best_params["max_features"])
print(f"best_value {study.best_value:.3f}, best_params {study.best_params}; with these: {again:.3f}, with 1.0: {score(1.0):.3f}")

assert {type(choice) for choice in given} == {int, float, str} and {type(choice) for choice in told} == {int, str}
assert study.best_value == score(1.0) > again + 0.1
PY
