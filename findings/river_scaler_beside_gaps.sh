#!/usr/bin/env bash
# River 0.26.1 (NumPy 2.4.6, pandas 3.1.1): StandardScaler that learns batches of rows (learn_many) with missing values.
#
# What one would expect (no guess was written before the run): missing values are left out, of the mean and of the variance, as
# scikit-learn's StandardScaler does: the method counts for each column the values that are there.
# Seen: they are left out of the mean and the count, but one of them makes the column's variance NaN, for good. transform_many
# then takes the mean away and does not divide: an income in dollars stays in dollars, around zero, beside columns of deviation
# 1. A gap in one batch of many is enough. There is no NaN in what comes out but for the gap itself, no warning, and nothing but
# the vars of the scaler shows it. transform_one gives NaN for the same column.
# Gaps are to be filled in front of the scaler.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check river==0.26.1 numpy==2.4.6 pandas==3.1.1 scikit-learn==1.9.1
"$dir/venv/bin/python" -W error - <<'PY'
import numpy as np
import pandas as pd
import sklearn.preprocessing
from river import preprocessing

rng = np.random.default_rng(0)
rows = pd.DataFrame({"income": rng.normal(40_000, 12_000, 1000), "age": rng.normal(40, 12, 1000)})
rows.loc[17, "income"] = np.nan                             # one gap, in the first of ten batches
scaler = preprocessing.StandardScaler()
for start in range(0, 1000, 100):
    scaler.learn_many(rows[start:start + 100])
ours = scaler.transform_many(rows)
theirs = pd.DataFrame(sklearn.preprocessing.StandardScaler().fit_transform(rows), columns=rows.columns)
for name in rows:
    print(f"{name:6} mean {scaler.means[name]:9.1f} of {scaler.counts[name]} values, variance {scaler.vars[name]:.4g}; "
          f"scaled, its deviation is {np.nanstd(ours[name]):.4g}, scikit-learn's {np.nanstd(theirs[name]):.4g}")
assert np.isclose(scaler.means["income"], rows["income"].mean()) and scaler.counts["income"] == 999
assert np.isnan(scaler.vars["income"]) and ours["income"].isna().sum() == 1
assert np.allclose(ours["income"], rows["income"] - rows["income"].mean(), equal_nan=True)
assert np.allclose(ours["age"], theirs["age"]) and np.isclose(np.nanstd(theirs["income"]), 1)
one = scaler.transform_one(rows.iloc[0].to_dict())
print("transform_one of the first row:", {name: float(value) for name, value in one.items()})
assert np.isnan(one["income"]) and np.isclose(one["age"], theirs["age"][0])
PY
