#!/usr/bin/env bash
# mlxtend 0.25.0 (scikit-learn 1.9.1, NumPy 2.4.6): bootstrap_point632_score(method=".632+") of a classifier that has nothing
# to learn.
#
# Guess: Efron and Tibshirani's estimate, which the documentation cites: in each round a mean of the score on the rows left out
# and of the score on all rows, with a weight between 0.632 and 1; of labels drawn by lot about 0.5.
# Seen: the relative overfitting rate R, from which the weight comes, is not kept between 0 and 1, as the paper has it; the
# guide writes R without bounds, and does not say what follows. Where the rows left out score below the rate of no information,
# R is above 1, and at 1 / 0.368 the weight has a pole. So 40 rows of random labels and a nearest neighbour give an "accuracy"
# of -0.6 in one round and of 7.5 in another, on which the mean hangs; about half of the rounds are outside of the two scores
# that each is a mean of, of 400 rows as well. "oob" and ".632" of the same rounds are as by hand.
# So take the .632+ estimate by hand from the two scores, with R cut to 0 and 1.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check mlxtend==0.25.0 scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
from mlxtend.evaluate import BootstrapOutOfBag, bootstrap_point632_score
from sklearn.neighbors import KNeighborsClassifier

rng = np.random.default_rng(0)
for n in (40, 400):
    x, y = rng.normal(size=(n, 5)), rng.integers(0, 2, n)
    out_of_bag, on_all = [], []
    for train, out in BootstrapOutOfBag(n_splits=100, random_seed=1).split(x):
        right = KNeighborsClassifier(1).fit(x[train], y[train]).predict(x) == y
        out_of_bag.append(right[out].mean())
        on_all.append(right.mean())
    out_of_bag, on_all = np.array(out_of_bag), np.array(on_all)
    oob, by_632, plus = (bootstrap_point632_score(KNeighborsClassifier(1), x, y, n_splits=100, method=method, random_seed=1)
                         for method in ("oob", ".632", ".632+"))
    assert np.allclose(oob, out_of_bag) and np.allclose(by_632, 0.632 * out_of_bag + 0.368 * on_all)
    outside = np.mean((plus < out_of_bag - 1e-9) | (plus > on_all + 1e-9))
    for name, scores in (("oob", oob), (".632", by_632), (".632+", plus)):
        print(f"{n} rows, {name:5} mean {scores.mean():6.3f}, least {scores.min():7.3f}, greatest {scores.max():7.3f}")
    print(f"  rounds of .632+ that are not between their two scores: {outside:.0%}")
    assert outside > 0.25
    if n == 40:
        assert plus.min() < 0 and plus.max() > 1
PY
