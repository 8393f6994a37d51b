#!/usr/bin/env bash
# pandas 3.1.1 (NumPy 2.4.6): series.resample("1h").interpolate() of measurements at any times, to make hours of them.
#
# Guess: the value of an hour is on the line between the measurement before it and the one after it.
# Seen: at 00:10 there was 0, at 01:10 there was 10; for 01:00, 50 of the 60 minutes later, it gives 5 instead of 8.33. The default,
# method="linear", takes steps to be equally far apart, and here "steps" are measurements and full hours together: an hour is always
# in the middle of its two neighbours, wherever it lies between them. No warning says so, and the result looks like hours. Of a
# straight line measured at random times, what comes out is no line: errors reach half the rise between two measurements.
# interpolate("time") goes by the times and is exact. In pandas 2 each of these hours is NaN instead.
# Whoever brings measurements to a regular grid writes interpolate("time").
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" -W error - <<'PY'
import numpy as np
import pandas as pd


def by_hand(series, grid):
    return np.interp(*((i.astype("datetime64[ns]").astype("int64") for i in (grid, series.index))), series.to_numpy())


few = pd.Series([0.0, 10, 20], pd.to_datetime(["2024-01-01 00:10", "2024-01-01 01:10", "2024-01-01 02:25"]))
plain, timed = few.resample("1h").interpolate().iloc[1:], few.resample("1h").interpolate("time").iloc[1:]
right = by_hand(few, plain.index)
for hour, *values in zip(plain.index.strftime("%H:%M"), plain, timed, right, strict=True):
    print(hour, "default {:.2f}, time {:.2f}, by hand {:.2f}".format(*values))
assert plain.tolist() == [5.0, 15.0] and np.allclose(timed, right) and abs(right[0] - 25 / 3) < 1e-12

rng = np.random.default_rng(0)
minutes = np.cumsum(rng.integers(5, 240, 500))              # a straight line: the value is the number of hours
line = pd.Series(minutes / 60, pd.Timestamp("2024-01-01") + pd.to_timedelta(minutes, "min"))
errors = {}
for method in ("linear", "time"):
    hours = line.resample("1h").interpolate(method).iloc[1:]
    truth = (hours.index - pd.Timestamp("2024-01-01")) / pd.Timedelta("1h")
    errors[method] = np.abs(hours.to_numpy() - truth.to_numpy()).max()
    print(f"a line, by {method}: off by at most {errors[method]:.3f} hours")
assert errors["linear"] > 0.5 and errors["time"] < 1e-6
PY
