#!/usr/bin/env bash
# polars-ds 0.13.0 (polars 2.1.0, scikit-learn 1.9.1, NumPy 2.4.6): metrics of rows of which some have no prediction (null), as
# the first rows of lagged features have none.
#
# Guess: rows without a prediction are left out, as polars leaves nulls out of means, or the metric is null, or it raises.
# Seen: it depends on the metric. query_log_loss, query_mape and query_mase leave such rows out; query_roc_auc raises. query_l1,
# query_l2, query_hubor_loss, query_log_cosh, query_msle, query_smape and query_mape(weighted=True) add up the rows that have one
# and divide by the number (or the sum) of all: with half of the predictions the error is half as high. query_r2 compares squared
# errors of some rows with the variance of all: a model that explains nothing has an R2 of 0.5. query_mcc counts each such row as
# predicted 0 or 1, whatever is stored under the null. Nothing warns; whoever leaves predictions out is the better model.
# query_adj_r2 besides divides by n - p, where p is "the number of explanatory variables", and the formula has n - p - 1.
# Rows are to be filtered first: df.filter(pl.col("prediction").is_not_null()).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check polars-ds==0.13.0 polars==2.1.0 numpy==2.4.6 scikit-learn==1.9.1
"$dir/venv/bin/python" - <<'PY'
import numpy as np
import polars as pl
import polars_ds as pds
import sklearn.metrics as m

rng, n = np.random.default_rng(0), 1000
actual, seen = rng.normal(size=n), rng.random(n) < 0.5
predicted = actual + rng.normal(size=n)                     # an error as large as the target: R2 is about 0
chance = 1 / (1 + np.exp(-predicted))
frame = pl.DataFrame({"y": actual, "p": predicted, "label": (actual > 0).astype(int), "chance": chance, "seen": seen})
frame = frame.with_columns(pl.when("seen").then("p").alias("p"), pl.when("seen").then("chance").alias("chance"),
                           guess=pl.when("seen").then((pl.col("chance") > 0.5).cast(pl.Int64)))
assert frame["p"].null_count() == frame["guess"].null_count() == (~seen).sum()
a, p = actual[seen], predicted[seen]
share = seen.mean()
ABS = pl.col("y").abs(), pl.col("p").abs()
CASES = {
    "l1": (pds.query_l1("y", "p"), m.mean_absolute_error(a, p)), "l2": (pds.query_l2("y", "p"), m.mean_squared_error(a, p)),
    "huber": (pds.query_hubor_loss("y", "p", 1.0), np.where(abs(a - p) <= 1, (a - p) ** 2 / 2, abs(a - p) - 0.5).mean()),
    "log_cosh": (pds.query_log_cosh("y", "p"), np.log(np.cosh(a - p)).mean()),
    "msle": (pds.query_msle(*ABS), m.mean_squared_log_error(abs(a), abs(p))),
    "smape": (pds.query_smape("y", "p"), (abs(a - p) / (abs(a) + abs(p))).mean()),
    "wmape": (pds.query_mape("y", "p", weighted=True), abs(a - p).sum() / abs(a).sum()),
    "mape": (pds.query_mape("y", "p"), m.mean_absolute_percentage_error(a, p)),
    "mase": (pds.query_mase("y", "p", 1.0), m.mean_absolute_error(a, p)),
    "log_loss": (pds.query_log_loss("label", "chance"), m.log_loss(a > 0, chance[seen])),
    "r2": (pds.query_r2("y", "p"), m.r2_score(a, p)),
    "mcc": (pds.query_mcc("label", "guess"), m.matthews_corrcoef(a > 0, p > 0))}
for name, (metric, wanted) in CASES.items():
    got, whole = frame.select(metric).item(), frame.filter("seen").select(metric).item()
    print(f"{name:8}: with {share:.0%} of the predictions {got:.4f}; of the rows that have one {wanted:.4f}")
    assert np.isclose(whole, wanted), "of rows without nulls all are right"
    if name in ("mape", "mase", "log_loss"):
        assert np.isclose(got, wanted), "that changed"
    elif name in ("r2", "mcc"):
        assert got > wanted + 0.1, "that changed"
    else:
        assert np.isclose(got, wanted * (share if name != "wmape" else abs(a).sum() / abs(actual).sum())), "that changed"
try:
    frame.select(pds.query_roc_auc("label", "chance"))
    raise SystemExit("query_roc_auc takes nulls now")
except pl.exceptions.ComputeError as e:
    print("roc_auc :", str(e)[:80])

whole = frame.filter("seen")
k = len(whole)
for columns in (1, 100):
    got = whole.select(pds.query_adj_r2("y", "p", columns)).item()
    wanted = 1 - (1 - m.r2_score(a, p)) * (k - 1) / (k - columns - 1)
    print(f"adj_r2 of {k} rows and {columns} columns: {got:.5f}, by the formula {wanted:.5f}, r2 {m.r2_score(a, p):.5f}")
    assert got > wanted + 1e-4 and np.isclose(got, 1 - (1 - m.r2_score(a, p)) * (k - 1) / (k - columns)), "that changed"
PY
