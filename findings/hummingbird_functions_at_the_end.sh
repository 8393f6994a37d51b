#!/usr/bin/env bash
# Hummingbird 0.4.12 (PyTorch 2.13.0, scikit-learn 1.9.1, LightGBM 4.7.0, NumPy 2.4.6): convert of models that put their scores
# through a function: LogisticRegression of three classes, boosted trees of counts and of positive amounts.
#
# What one would expect (no guess was written before the run): the converted model predicts what the model does, to the rounding
# of float32, or convert refuses it, as it refuses others.
# Seen: of LogisticRegression with three classes predict_proba is the sigmoids divided by their sum instead of the softmax: the
# labels are right and the probabilities up to 0.48 off. HistGradientBoostingRegressor with loss="poisson" or "gamma", and
# LGBMRegressor with these objectives, give the logarithm of the prediction: negative counts. With "tweedie" LightGBM's come out
# right, and PoissonRegressor's, too; so one cannot tell by the kind of a model. No warning says so.
# A converted model is to be compared with its original, predict_proba too, before it is used.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check hummingbird-ml==0.4.12 torch==2.13.0 scikit-learn==1.9.1 \
    lightgbm==4.7.0 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
from hummingbird.ml import convert
from lightgbm import LGBMRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor

rng = np.random.default_rng(0)
x = rng.normal(size=(600, 4)).astype("float32")
counts, labels = rng.poisson(np.exp(x[:, 0])).astype(float), np.digitize(x[:, 0] + 0.5 * x[:, 1], [-0.5, 0.5])

logistic = LogisticRegression().fit(x, labels)
converted = convert(logistic, "torch", x[:2])
right, found, scores = logistic.predict_proba(x), converted.predict_proba(x), logistic.decision_function(x)
sigmoids = 1 / (1 + np.exp(-scores))
print(f"LogisticRegression, three classes: probabilities up to {np.abs(found - right).max():.2f} off; "
      f"first row {found[0].round(3)}, by scikit-learn {right[0].round(3)}")
assert np.abs(found - right).max() > 0.2 and np.array_equal(converted.predict(x), logistic.predict(x))
assert np.allclose(found, sigmoids / sigmoids.sum(1, keepdims=True), atol=1e-5)

boosted = {"max_iter": 20}, {"n_estimators": 20, "verbose": -1}
for kind, options, name in ((HistGradientBoostingRegressor, boosted[0], "loss"), (LGBMRegressor, boosted[1], "objective")):
    for loss in ("poisson", "gamma"):
        model = kind(**options, **{name: loss}).fit(x, counts + 0.1 * (loss == "gamma"))
        found, right = convert(model, "torch", x[:2]).predict(x).ravel(), model.predict(x)
        print(f"{kind.__name__}, {loss}: first row {found[0]:.3f}, by predict {right[0]:.3f}")
        assert np.allclose(np.exp(found), right, rtol=1e-4) and found.min() < 0 < right.min()
for model in (LGBMRegressor(objective="tweedie", **boosted[1]), PoissonRegressor(), HistGradientBoostingRegressor(**boosted[0])):
    model.fit(x, counts)
    assert np.allclose(convert(model, "torch", x[:2]).predict(x).ravel(), model.predict(x), rtol=1e-4, atol=1e-5)
PY
