#!/usr/bin/env bash
# scikit-learn 1.9.1 (NumPy 2.4.6): MLPRegressor with several targets.
#
# Guess: an update of solver="sgd" goes down the gradient of loss_, which is half the mean squared error.
# Seen: it does for one target. With k targets loss_ is their mean, and the step is k times its gradient: that of their sum.
# So the same learning rate is k times as large, and beside it alpha is k times as weak.
# Whoever tunes alpha and the rate for one target has to divide and multiply them for several; a replacement that descends loss_
# itself does not give scikit-learn's numbers.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import copy
import warnings

import numpy as np
from sklearn.neural_network import MLPRegressor

warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
X, rate, h = rng.normal(size=(60, 4)), 1e-3, 1e-5
for k in (1, 2, 5):
    Y = rng.normal(size=(60, k)).squeeze()
    model = MLPRegressor(hidden_layer_sizes=(5,), activation="tanh", solver="sgd", momentum=0, learning_rate_init=rate, alpha=0,
                         batch_size=60, shuffle=False, max_iter=1, random_state=0).fit(X, Y)

    def loss(change):
        moved = copy.deepcopy(model)
        moved.coefs_[0][0, 0] += change
        return 0.5 * np.mean((moved.predict(X) - Y) ** 2)
    gradient, before, by_hand = (loss(h) - loss(-h)) / (2 * h), model.coefs_[0][0, 0], loss(0)
    model.partial_fit(X, Y)
    step = (before - model.coefs_[0][0, 0]) / rate
    print(f"{k} targets: loss_ {model.loss_:.6f}, half the mean squared error {by_hand:.6f}; step / gradient {step / gradient:.4f}")
    assert abs(model.loss_ - by_hand) < 1e-12
    assert abs(step / gradient - k) < 1e-4
PY
