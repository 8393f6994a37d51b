#!/usr/bin/env bash
# skl2onnx 1.20.0: MLPRegressor with several targets as an ONNX file (scikit-learn 1.9.1, ONNX Runtime 1.32.0, onnx 1.23.2).
#
# Guess: the file of a regressor of k targets gives (rows, k), as predict does and as the file of a LinearRegression does.
# Seen: (k rows, 1), and the file declares a width of 1: a Reshape to (-1, 1) comes last, made for one target. The numbers are
# right, row by row behind one another. Nothing warns, and what takes "a prediction for each row" gets k times as many, of which
# the first ones are other rows' and other targets' than their places say.
# Whoever moves such a net reshapes the output to (rows, k).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check skl2onnx==1.20.0 scikit-learn==1.9.1 onnxruntime==1.32.0 \
    onnx==1.23.2 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import onnxruntime as ort
from skl2onnx import to_onnx
from sklearn.linear_model import LinearRegression
from sklearn.neural_network import MLPRegressor

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 4)).astype(np.float32)
for estimator in (LinearRegression(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=20, random_state=0)):
    for k in (1, 2, 3):
        y = rng.normal(size=(50, k))
        estimator.fit(X, y if k > 1 else y[:, 0])
        file, wanted = to_onnx(estimator, X[:1]), estimator.predict(X)
        session = ort.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
        got = session.run(None, {"X": X})[0]
        print(f"{type(estimator).__name__} of {k}: predict {wanted.shape}, file {got.shape}, declared "
              f"{session.get_outputs()[0].shape}, numbers differ by {np.abs(got.reshape(wanted.shape) - wanted).max():.0e}")
        assert np.abs(got.reshape(wanted.shape) - wanted).max() < 1e-5
        mlp = isinstance(estimator, MLPRegressor)
        assert got.shape == ((50 * k, 1) if mlp else (50, k)), "that changed"
        assert session.get_outputs()[0].shape[1] == (1 if mlp else k)
PY
