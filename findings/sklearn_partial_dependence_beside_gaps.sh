#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6, SciPy 1.17.1): partial_dependence of a column of numbers with missing values, of a model that
# takes them.
#
# Guess: the grid runs over the values that there are, whatever share is missing; a gap is no place on the curve, or one of its
# own.
# Seen: that holds while fewer than one value in twenty is missing. Missing ones count as the largest, and the grid's ends are the
# 5% and 95% quantiles: from 5% of gaps on the upper end is NaN, so all 100 places of the grid are, and the "curve" is the
# prediction for a missing value 100 times. Nothing warns, and averages look like those of a column that does not matter.
# So of tables with gaps give the grid oneself: custom_values={column: places}.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6 scipy==1.17.1
"$dir/venv/bin/python" -W error - <<'PY'
import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.inspection import partial_dependence

rng = np.random.default_rng(0)
whole = rng.normal(size=(400, 2))
y = 2 * whole[:, 0] + whole[:, 1]
for gaps in (0, 16, 24, 80):
    x = whole.copy()
    x[:gaps, 0] = np.nan
    model = HistGradientBoostingRegressor(random_state=0).fit(x, y)
    found = partial_dependence(model, x, [0])
    grid, curve = found["grid_values"][0], found["average"][0]
    print(f"{gaps:2} of 400 missing: grid from {grid[0]:.2f} to {grid[-1]:.2f}, averages from {curve[0]:.2f} to {curve[-1]:.2f}")
    if gaps < 20:
        assert np.isfinite(grid).all() and np.ptp(curve) > 4
    else:
        assert np.isnan(grid).all() and np.ptp(curve) == 0
        own = partial_dependence(model, x, [0], custom_values={0: np.nanquantile(x[:, 0], np.linspace(0.05, 0.95, 100))})
        assert np.ptp(own["average"][0]) > 4
PY
