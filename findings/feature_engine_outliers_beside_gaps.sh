#!/usr/bin/env bash
# feature-engine 1.9.4 (pandas 2.3.3, NumPy 2.4.6): OutlierTrimmer(missing_values="ignore") of a table with missing values.
#
# What one would expect (no guess was written before the run): missing values are "ignored when learning parameters or performing
# the transformation", as its documentation says; they are no outliers, and a row with a gap stays, as in the Winsorizer beside
# it.
# Seen: each row with a gap in any of the columns is removed, wherever the limits are: a row stays where value <= limit, which is
# false for NaN. Of ten columns with 5 % gaps each, without a single outlier, 60 rows of 100 stay. y loses the same rows by
# transform_x_y, so that nothing raises, and nothing warns. With tail="left" it is the same.
# Gaps are to be filled before, or outliers cut off by Winsorizer, or marked by the limits that fit has found.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check feature-engine==1.9.4 pandas==2.3.3 numpy==2.4.6
"$dir/venv/bin/python" -W error - <<'PY'
import inspect

import numpy as np
import pandas as pd
from feature_engine.outliers import OutlierTrimmer, Winsorizer

said = " ".join(inspect.getdoc(OutlierTrimmer).split())
start = said.index("missing_values:")
print("its documentation:", said[start:start + 260])
assert "missing data will be ignored when learning parameters or performing the transformation" in said

rng = np.random.default_rng(0)
whole = pd.DataFrame(rng.random((1000, 10)), columns=[f"x{i}" for i in range(10)])      # without outliers: between 0 and 1
y = pd.Series(rng.random(1000))
gaps = whole.mask(rng.random(whole.shape) < 0.05)
complete = gaps.notna().all(axis=1)
for method, tail in (("gaussian", "both"), ("iqr", "right"), ("mad", "left")):
    options = {"capping_method": method, "tail": tail, "fold": 5, "missing_values": "ignore"}
    trimmer = OutlierTrimmer(**options).fit(gaps)
    low = min(trimmer.left_tail_caps_.values(), default=-np.inf)
    high = max(trimmer.right_tail_caps_.values(), default=np.inf)
    kept, labels = trimmer.transform_x_y(gaps, y)
    print(f"{method}, {tail}: limits {low:.1f} and {high:.1f}, numbers from {gaps.min().min():.2f} to {gaps.max().max():.2f}; "
          f"of {len(gaps)} rows {len(kept)} stay, {complete.sum()} have no gap; "
          f"of the table without gaps {len(trimmer.transform(whole))} stay")
    assert (gaps.min() > low).all() and (gaps.max() < high).all() and len(trimmer.transform(whole)) == 1000
    assert kept.index.equals(gaps.index[complete]) and labels.index.equals(kept.index) and len(kept) < 650, "that changed"
    capped = Winsorizer(**options).fit_transform(gaps)
    assert capped.equals(gaps)
PY
