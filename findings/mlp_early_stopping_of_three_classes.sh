#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6): the rows that MLPClassifier(early_stopping=True) sets aside.
#
# Guess: they are a stratified split, as its documentation says of all that is not multilabel, so that
# a class with a tenth of the rows has a tenth of those set aside.
# Seen: that holds for two classes. With three or more the split is not stratified: inside, the labels are a column for each class
# by then, and the code that leaves out several labels a row asks for the number of columns. A class with 20 of 200 rows has 1
# to 5 of the 20 set aside, by chance, in the score that decides when training ends.
# Whoever has a rare class has to set rows aside himself, and whoever writes a replacement has to choose between the
# documentation's rows and the code's.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import sklearn.neural_network._multilayer_perceptron as module
from sklearn.neural_network import MLPClassifier

warnings.simplefilter("ignore")
split, seen = module.train_test_split, []


def spy(*arrays, stratify, **options):
    seen.append(stratify is not None)
    parts = split(*arrays, stratify=stratify, **options)
    held_out = parts[3]
    codes = held_out.argmax(1) if held_out.shape[1] > 1 else held_out[:, 0].astype(int)
    counts.append(np.bincount(codes, minlength=2))
    return parts


module.train_test_split = spy
X = np.random.default_rng(0).normal(size=(200, 3))
for name, y in (("two", np.arange(200) % 10 == 0), ("three", np.where(np.arange(200) % 10 == 0, 2, np.arange(200) % 2))):
    counts: list = []
    for seed in range(20):
        MLPClassifier((2,), early_stopping=True, max_iter=1, random_state=seed).fit(X, y)
    rare = [int(count[1 if name == "two" else 2]) if len(count) > (1 if name == "two" else 2) else 0 for count in counts]
    print(f"{name} classes: stratified {seen[-1]}; rows of the rare class among the 20 set aside, by seed: {rare}")
    assert seen[-1] == (name == "two")
    assert (set(rare) == {2}) == (name == "two")
    assert name == "two" or min(rare) < 2 < max(rare)
PY
