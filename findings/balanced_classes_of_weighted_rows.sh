#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6): class_weight="balanced" of classifiers that are given sample_weight.
#
# Guess: it means one thing in all of them, as the same sentence in their documentation says: the rows divided by (classes times
# the rows of each), times sample_weight; or, as repeated rows would have it, the same with sums of weights.
# Seen: it is either. LogisticRegression, LinearSVC and RandomForestClassifier go by sums of weights, so that a row of weight 9 is
# nine rows, and a class that weighs nine times as much is balanced. DecisionTreeClassifier, HistGradientBoostingClassifier, SVC,
# RidgeClassifier and SGDClassifier count rows, so that it stays nine times as heavy: they predict it for far more rows, where
# fitting on repeated rows balances it; a row of weight 0 counts, too. A tree and the forest of such trees differ in this.
# Whoever compares such models on weighted rows multiplies the weights of classes in by hand, and leaves class_weight alone.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
OMP_NUM_THREADS=1 "$dir/venv/bin/python" - <<'PY'
import numpy as np
from sklearn.base import clone
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, SGDClassifier
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

rng = np.random.default_rng(0)
X = rng.normal(size=(400, 2))
y = (X[:, 0] + rng.normal(size=400) > 0).astype(int)
weights = np.where(y == 1, 9, 1)
rows = np.repeat(np.arange(400), weights)
by_weight = [LogisticRegression(), LinearSVC(), RandomForestClassifier(20, max_depth=2, bootstrap=False, random_state=0)]
by_row = [DecisionTreeClassifier(max_depth=2), HistGradientBoostingClassifier(max_iter=20), SVC(), RidgeClassifier(),
          SGDClassifier(random_state=0, loss="log_loss", alpha=0.1)]
for model in by_weight + by_row:
    model.set_params(class_weight="balanced")
    plain, weighted, repeated = (clone(model).fit(X[take], y[take], sample_weight=w).predict(X).mean() for take, w in (
        (slice(None), None), (slice(None), weights), (rows, None)))
    print(f"{type(model).__name__:30} predicts class 1: no weights {plain:.2f}, weights of 1 and 9 {weighted:.2f}, "
          f"rows repeated 1 and 9 times {repeated:.2f}")
    assert abs(plain - repeated) < 0.1
    assert abs(weighted - plain) < 0.05 if model in by_weight else weighted > plain + 0.2
PY
