#!/usr/bin/env bash
# skl2onnx 1.20.0: trees and forests of scikit-learn 1.9.1, fitted on rows with missing values, as ONNX files (ONNX Runtime
# 1.32.0, onnx 1.23.2, NumPy 2.4.6).
#
# Guess: a missing value goes at each node where scikit-learn sends it, since ONNX's tree operators have an attribute for that;
# or the model is refused, as others are that cannot be written.
# Seen: the attribute is always written as "to the right". A node that learned to send missing values to the left sends them to
# the right, so rows with a gap get other leaves than by predict: a third to nine tenths of those rows have another label or
# number. Rows without a gap are right, and so a check on complete rows finds nothing. Nothing warns.
# Such a model is to have its gaps filled by an imputer in front of it, which is converted with it and comes out right.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 \
    onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnxruntime
from skl2onnx import to_onnx
from sklearn.ensemble import ExtraTreesClassifier, ExtraTreesRegressor, RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

rng = np.random.default_rng(0)
x = rng.normal(size=(600, 4)).astype("float32")
x[rng.random(x.shape) < 0.2] = np.nan
filled = np.nan_to_num(x)
labels = ((filled[:, 0] + filled[:, 1] > 0) ^ np.isnan(x[:, 2])).astype(int)
numbers = filled[:, 0] + 2 * np.isnan(x[:, 2])
gap = np.isnan(x).any(1)


def others(model, y):
    """The share of rows whose prediction differs, of rows with a gap and of the others."""
    model.fit(x, y)
    file = to_onnx(model, x[:1]).SerializeToString()
    found = onnxruntime.InferenceSession(file).run(None, {"X": x})[0].ravel()
    differ = np.abs(found - model.predict(x)) > 1e-3
    return differ[gap].mean(), differ[~gap].mean()


for kind, y in ((DecisionTreeClassifier, labels), (RandomForestClassifier, labels), (ExtraTreesClassifier, labels),
                (DecisionTreeRegressor, numbers), (RandomForestRegressor, numbers), (ExtraTreesRegressor, numbers)):
    options = {"random_state": 0, "max_depth": 6} | ({} if "Tree" in kind.__name__[:12] else {"n_estimators": 30})
    with_gaps, whole = others(kind(**options), y)
    imputed = others(make_pipeline(SimpleImputer(), kind(**options)), y)
    print(f"{kind.__name__:23} other predictions: {with_gaps:.0%} of rows with a gap, {whole:.0%} of the others; "
          f"behind an imputer {max(imputed):.0%}")
    assert with_gaps > 0.2 and whole == 0 and max(imputed) < 0.01
PY
