#!/usr/bin/env bash
# sktime 1.2.0 (pandas 2.3.3, NumPy 2.4.6): transformers and a forecaster of a monthly series in which some months have no row.
#
# Guess: its index holds months (a PeriodIndex), so a difference or a season goes by months: Differencer(12) takes the same
# month a year before, as Lag(12) does, and has nothing where that is not there; or a series with gaps is refused.
# Seen: they go by rows. Behind a gap of five months Differencer(12) subtracts what was 17 months before, for a year;
# Deseasonalizer, which is documented to align seasons "with the time index", takes away other months' season;
# NaiveForecaster(strategy="mean", sp=12) averages different months. Of a series that is the same each year differences are 0;
# here they are nearly twice as high as the season. Nothing warns, and Lag does go by the index. Where the missing months have
# rows of NaN, Differencer is right.
# Whoever has such a series gives it all its months first (reindex; asfreq does not add any to a PeriodIndex).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check sktime==1.2.0 numpy==2.4.6 statsmodels==0.15.0 pandas==2.3.3
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import pandas as pd
from sktime.forecasting.naive import NaiveForecaster
from sktime.transformations.detrend import Deseasonalizer
from sktime.transformations.difference import Differencer
from sktime.transformations.lag import Lag

months = pd.period_range("2018-01", periods=60, freq="M")
whole = pd.Series(3 * np.sin(2 * np.pi * np.arange(60) / 12), index=months)     # each year is the same
gap = whole.drop(months[20:25])


def differences(series):
    return Differencer(12).fit_transform(series).loc["2020-02":]


print(f"Differencer(12): at most {differences(whole).abs().max():.2f}, with the gap {differences(gap).abs().max():.2f}")
rows = gap.diff(12)
assert differences(whole).abs().max() < 1e-9 and np.allclose(differences(gap), rows.loc["2020-02":]) and rows.abs().max() > 3
lagged = Lag(12, index_out="original").fit_transform(gap)
lagged = (lagged if isinstance(lagged, pd.Series) else lagged.iloc[:, 0]).loc["2020-02":]
print(f"Lag(12): differences to it are at most {(gap - lagged).abs().max():.2f}, {lagged.isna().sum()} months have none")
assert (gap - lagged).abs().max() < 1e-9 and lagged.isna().sum() == 5
assert differences(gap.reindex(months)).abs().max() < 1e-9

for name, series in (("whole", whole), ("with the gap", gap)):
    left = Deseasonalizer(sp=12, model="additive").fit_transform(series)
    year = NaiveForecaster(strategy="mean", sp=12).fit(series).predict(fh=range(1, 13))
    off = np.abs(year.to_numpy() - whole.to_numpy()[:12]).max()
    print(f"{name}: without its season up to {left.abs().max():.2f} is left; the next year's forecast is up to {off:.2f} off")
    assert (left.abs().max() > 0.5) == (off > 0.5) == (series is gap)
PY
