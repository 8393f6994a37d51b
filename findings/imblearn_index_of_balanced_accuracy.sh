#!/usr/bin/env bash
# imbalanced-learn 0.14.2 (scikit-learn 1.9.1, NumPy 2.4.6): make_index_balanced_accuracy around geometric_mean_score, for two
# classes.
#
# Guess: the index of balanced accuracy, (1 + alpha * (sensitivity - specificity)) * sensitivity * specificity with squared=True,
# as its documentation cites it: it tells a model that favours the rare class from one that favours the other.
# Seen: with the score as it is, average="multiclass", alpha does nothing: the result is the square of the geometric mean for any
# alpha. The difference is taken of the macro averages of sensitivity and of specificity, and of two classes these are one number,
# since one class's sensitivity is the other's specificity. A model of sensitivity 0.9 and specificity 0.5 scores as one of 0.5
# and 0.9. With average="binary" it is the formula.
# So give average="binary" in the call (or to make_scorer), which geometric_mean_score by itself does not need: it is the same.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check imbalanced-learn==0.14.2 scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
from imblearn.metrics import geometric_mean_score, make_index_balanced_accuracy

y = np.repeat([1, 0], [20, 80])
models = {"sensitivity 0.9, specificity 0.5": np.repeat([1, 0, 1, 0], [18, 2, 40, 40]),
          "sensitivity 0.5, specificity 0.9": np.repeat([1, 0, 1, 0], [10, 10, 8, 72])}
for name, guess in models.items():
    sensitivity, specificity = np.mean(guess[y == 1] == 1), np.mean(guess[y == 0] == 0)
    for alpha in (0.1, 0.5):
        index = make_index_balanced_accuracy(alpha=alpha, squared=True)(geometric_mean_score)
        formula = (1 + alpha * (sensitivity - specificity)) * sensitivity * specificity
        default, binary = index(y, guess), index(y, guess, average="binary")
        print(f"{name}, alpha {alpha}: {default:.3f}, average='binary' {binary:.3f}, formula {formula:.3f}")
        assert abs(default - sensitivity * specificity) < 1e-12 and abs(default - formula) > 0.01
        assert abs(binary - formula) < 1e-12
        assert abs(geometric_mean_score(y, guess) - geometric_mean_score(y, guess, average="binary")) < 1e-12
PY
