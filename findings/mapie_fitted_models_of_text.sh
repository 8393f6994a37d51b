#!/usr/bin/env bash
# MAPIE 1.6.0 (scikit-learn 1.9.1, pandas 3.1.1, NumPy 2.4.6): split conformal intervals around a fitted model that takes a table
# with categories.
#
# Guess: SplitConformalRegressor(model, prefit=True) asks the model for predictions of the tables that it is given, so it wraps
# any fitted regressor, of a DataFrame with a column of categories, too.
# Seen: first the model is asked for the prediction of a row of zeros, as an array. A model that knows its columns by name and
# takes text refuses that, and conformalize ends with "Estimator does not appear fitted" of a model that is; it is a UserWarning,
# but raised, so no filter of warnings lets it pass. So it is with prefit=False, once MAPIE has fitted the model itself.
# CrossConformalRegressor takes the same model and the same table. Of a Pipeline the last step alone is asked, so one that encodes
# before it passes.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check mapie==1.6.0 scikit-learn==1.9.1 pandas==3.1.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import pandas as pd
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
x = pd.DataFrame({"town": pd.Categorical(rng.choice(["Bonn", "Ulm"], 200)), "age": rng.normal(50, 9, 200)})
y = 9.0 * (x["town"] == "Ulm") + x["age"] + rng.normal(size=200)
trees = HistGradientBoostingRegressor(random_state=0).fit(x[:100], y[:100])
print("by itself:", trees.predict(x[100:102]).round(1))
to_fit = SplitConformalRegressor(HistGradientBoostingRegressor(), confidence_level=0.9, prefit=False)
for name, model in (("fitted", SplitConformalRegressor(trees, confidence_level=0.9, prefit=True)), ("to be fitted", to_fit)):
    try:
        if name == "to be fitted":
            model.fit(x[:100], y[:100])
        model.conformalize(x[100:], y[100:])
        raise SystemExit(f"{name}: it works now")
    except UserWarning as e:
        print(f"{name}: {str(e)[:90]}...")
        assert "does not appear fitted" in str(e)
codes = make_column_transformer((OrdinalEncoder(), ["town"]), remainder="passthrough")
pipe = make_pipeline(codes, HistGradientBoostingRegressor(random_state=0)).fit(x[:100], y[:100])
split = SplitConformalRegressor(pipe, confidence_level=0.9, prefit=True).conformalize(x[100:], y[100:])
cross = CrossConformalRegressor(HistGradientBoostingRegressor(), confidence_level=0.9).fit_conformalize(x, y)
for name, intervals in (("pipeline", split), ("cross", cross)):
    print(f"{name}: intervals {intervals.predict_interval(x[:5])[1].shape}")
PY
