#!/usr/bin/env bash
# onnxmltools 1.16.0: LightGBM 4.7.0's random forests (boosting_type="rf") as ONNX files (ONNX Runtime 1.32.0, onnx 1.23.2,
# scikit-learn 1.9.1, NumPy 2.4.6).
#
# What one would expect (no guess was written before the run): convert_lightgbm writes what predict gives, as it does for
# boosted trees and for dart, whatever the number of trees.
# Seen: LightGBM takes the mean of the trees. For a regressor the file has their sum divided by 100, the default number of
# trees: of 20 trees it gives a fifth of the prediction, of 150 one and a half times, of 100 the right one. For a Booster it has
# the sum. For two classes the second one's probability is divided by 100, so all rows are of the first class. For three the
# file gives two columns. Nothing refuses or warns, and ONNX Runtime runs the files. Boosted trees come out to rounding.
# A converted model is to be compared with its original on some rows before it is used.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check onnxmltools==1.16.0 lightgbm==4.7.0 onnxruntime==1.32.0 \
    onnx==1.23.2 scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import lightgbm
import numpy as np
import onnxmltools
import onnxruntime
from onnxmltools.convert.common.data_types import FloatTensorType

onnxruntime.set_default_logger_severity(3)
rng = np.random.default_rng(0)
x = rng.normal(size=(600, 4)).astype("float32")
target, two, three = 2 * x[:, 0] + 5, (x[:, 0] > 0).astype(int), np.digitize(x[:, 0], [-0.5, 0.5])
forest = {"boosting_type": "rf", "bagging_freq": 1, "bagging_fraction": 0.5, "verbose": -1}


def by_file(model):
    file = onnxmltools.convert_lightgbm(model, initial_types=[("x", FloatTensorType([None, 4]))], zipmap=False)
    return onnxruntime.InferenceSession(file.SerializeToString()).run(None, {"x": x})


for trees in (20, 100, 150):
    model = lightgbm.LGBMRegressor(n_estimators=trees, **forest).fit(x, target)
    ratio = by_file(model)[0].ravel() / model.predict(x)
    print(f"regressor of {trees:3} trees: the file gives {ratio.min():.4f} to {ratio.max():.4f} times the prediction")
    assert np.allclose(ratio, trees / 100, rtol=1e-4)
booster = lightgbm.train(forest, lightgbm.Dataset(x, target), 20)
ratio = by_file(booster)[0].ravel() / booster.predict(x)
print(f"Booster of 20 trees: {ratio.min():.4f} to {ratio.max():.4f} times")
assert np.allclose(ratio, 20, rtol=1e-4)

for name, labels in (("two", two), ("three", three)):
    model = lightgbm.LGBMClassifier(n_estimators=100, **forest).fit(x, labels)
    found, probability = by_file(model)
    wrong, highest = np.mean(found != model.predict(x)), model.predict_proba(x)[:, -1].max()
    print(f"{name} classes: {wrong:.0%} of the labels are others than predict's; {probability.shape[1]} columns of "
          f"probabilities, the last at most {probability[:, -1].max():.3f}, by predict_proba {highest:.3f}")
    assert wrong > 0.4 and probability.shape == (600, 2) and (found == 0).all()
for options in ({}, {"boosting_type": "dart"}):
    model = lightgbm.LGBMRegressor(n_estimators=20, verbose=-1, **options).fit(x, target)
    assert np.allclose(by_file(model)[0].ravel(), model.predict(x), rtol=1e-4)
    model = lightgbm.LGBMClassifier(n_estimators=20, verbose=-1, **options).fit(x, three)
    assert np.allclose(by_file(model)[1], model.predict_proba(x), atol=1e-5)
PY
