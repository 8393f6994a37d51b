#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6): r2_score of two targets, one of them constant.
#
# Guess: a target column that is constant has no variance, so r2_score returns 1.0 or 0.0 for it (force_finite=True, the
# default, says so), whatever the constant is.
# Seen: that holds for a column of 0.5s, which floating point averages exactly. A column of 0.1s of 30 samples has a variance of
# about 1e-32 instead of 0, because the mean of thirty 0.1s is not 0.1; the guard compares with exactly zero, and the score is
# some -1e30 here. The average over the columns, which is the default, is then as meaningless.
# Whoever implements R2 has to compare the variance with the rounding of the mean, not with zero.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import numpy as np
from sklearn.metrics import r2_score

rng = np.random.default_rng(0)
varies = rng.normal(size=30)
for constant in (0.5, 0.1):
    y = np.column_stack([varies, np.full(30, constant)])
    guess = y + 0.1
    by_column = r2_score(y, guess, multioutput="raw_values")
    print(f"constant {constant}: {by_column[0]:.3f} {by_column[1]:.3g}; mean {r2_score(y, guess):.3g}")
    if constant == 0.5:
        assert by_column[1] == 0.0
    else:
        assert by_column[1] < -1e12 and r2_score(y, guess) < -1e12
PY
