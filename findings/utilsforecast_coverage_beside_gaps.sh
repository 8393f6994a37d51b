#!/usr/bin/env bash
# utilsforecast 0.2.17 (pandas 2.3.3, polars 2.1.0, NumPy 2.4.6): losses.coverage and losses.calibration of series in which some
# values were not measured.
#
# Guess: a step without a value is left out, as by mae, rmse and quantile_loss of the same table, whose mean is over the others.
# Seen: of a pandas table such a step counts as one that the interval has missed, and as one above the quantile, since a
# comparison with NaN is False: an interval that holds each of 6 values, beside 4 gaps, has a coverage of 0.6. Of the same table
# as a polars frame, with nulls, both are 1. So intervals look too narrow by the share of gaps, and the more so the worse a series
# was measured, while the errors beside them are right.
# Drop the rows without a value before the table is evaluated.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check utilsforecast==0.2.17 pandas==2.3.3 polars==2.1.0 numpy==2.4.6 \
    pyarrow==26.0.1
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import pandas as pd
import polars as pl
from utilsforecast import losses

rng = np.random.default_rng(0)
y = rng.uniform(-1, 1, 10)
table = pd.DataFrame({"unique_id": "a", "ds": np.arange(10), "y": y, "net": 0.0, "net-lo-80": -1.0, "net-hi-80": 1.0, "q": 1.0})
table.loc[[1, 4, 5, 8], "y"] = np.nan
frames = {"pandas": table, "polars": pl.from_pandas(table), "pandas, dropna()": table.dropna()}
seen = {}
for name, frame in frames.items():
    results = (losses.mae(frame, ["net"]), losses.coverage(frame, ["net"], 80), losses.calibration(frame, {"net": "q"}))
    seen[name] = [float(r["net"][0]) for r in results]
    print(f"{name:17} mae {seen[name][0]:.4f}, coverage {seen[name][1]:.2f}, calibration {seen[name][2]:.2f}")
assert all(abs(values[0] - table["y"].abs().mean()) < 1e-12 for values in seen.values())
assert seen["pandas"][1:] == [0.6, 0.6] and seen["pandas, dropna()"][1:] == [1.0, 1.0]
assert seen["polars"][1:] == [1.0, 1.0]
PY
