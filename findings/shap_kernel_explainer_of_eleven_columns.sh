#!/usr/bin/env bash
# SHAP 0.51.0 (NumPy 2.4.6, scikit-learn 1.9.1): KernelExplainer of a function of more than ten columns.
#
# Guess: with as many evaluations as there are sets of columns, nsamples=2**n, its values are Shapley's, which for a linear function
# are w (x - mean) exactly.
# Seen: so they are up to ten columns, to 1e-13. From eleven on each row has at most ten values that are not 0, whatever nsamples
# is: the default of l1_reg picks ten columns by least angle regression, and the others get 0 though they matter. The ten are
# changed, so that the sum is right to rounding still, and a check of the sum (as of additivity) notices nothing. Which columns are
# left out is another choice for each row, so that a mean over rows is wrong, too. l1_reg=0 gives the exact values.
# Whoever explains a table with it says l1_reg=0, or has at most ten columns.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check shap==0.51.0 numpy==2.4.6 scikit-learn==1.9.1 pandas==3.1.1
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import shap

rng = np.random.default_rng(0)
for n in (10, 11, 12):
    w, background, x = np.arange(1.0, n + 1), rng.normal(size=(50, n)), rng.normal(size=(20, n))
    explainer = shap.KernelExplainer(lambda rows: rows @ w, background)
    exact = w * (x - background.mean(0))
    for options in ({}, {"nsamples": 2**n}, {"nsamples": 2**n, "l1_reg": 0}):
        found = explainer.shap_values(x, silent=True, **options)
        zeros = (found == 0).sum(1)
        error, of_sum = np.abs(found - exact).max(), np.abs(found.sum(1) - exact.sum(1)).max()
        print(f"{n} columns, {str(options):34s} zeros a row: {zeros.max()}, in columns "
              f"{np.flatnonzero((found == 0).any(0)).tolist()}; largest error {error:.1e} of values up to "
              f"{np.abs(exact).max():.0f}, of their sum {of_sum:.1e}")
        assert of_sum < 1e-12
        if n == 10 or "l1_reg" in options:
            assert error < 1e-11 and not zeros.any()
        else:
            assert (zeros == n - 10).all() and error > 0.5
PY
