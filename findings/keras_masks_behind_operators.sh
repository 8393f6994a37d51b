#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2 as its backend, NumPy 2.4.6): sequences with a mask, of Masking or Embedding(mask_zero=True), in
# models with operators and functions between their layers: x + layer(x), x * 2, keras.ops.relu(x).
#
# What one would expect (no guess was written before the run): x + layer(x) is Add()([x, layer(x)]), ops.relu is ReLU(); and
# what loses a mask says so: the documentation of Masking speaks of an exception, and layers that lose it warn.
# Seen: Add() and ReLU() keep the mask, operators and keras.ops lose it, and there is no exception and no warning. A residual
# connection written with + lets GlobalAveragePooling1D and LSTM behind it, the loss and metrics count the padding: the same
# series gives another prediction with each length that it is padded to, and the error of the padded steps counts, too. Conv1D
# at the same place warns.
# Whoever has padded sequences writes layers (Add, Multiply, Concatenate, ReLU) and compares a series alone with itself in a
# batch.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax KERAS_HOME="$dir" JAX_PLATFORMS=cpu "$dir/venv/bin/python" - <<'PY'
import warnings

import keras
import numpy as np
from keras import layers, ops

rng = np.random.default_rng(0)
lengths = np.array([7, 4, 2, 5])
x = (rng.normal(size=(4, 7, 3)) + 2).astype("float32")
there = np.arange(7) < lengths[:, None]
x[~there] = 0
y = rng.normal(size=(4, 7, 1)).astype("float32")
dense = layers.Dense(3)
between = {"Add()([x, dense(x)])": lambda h: layers.Add()([h, dense(h)]), "x + dense(x)": lambda h: h + dense(h),
           "ReLU()(x)": lambda h: layers.ReLU()(h), "ops.relu(x)": lambda h: ops.relu(h),
           "Rescaling(2)(x)": lambda h: layers.Rescaling(2.0)(h), "x * 2": lambda h: h * 2,
           "Conv1D(3, 1)(x)": lambda h: layers.Conv1D(3, 1)(h)}
for name, function in between.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        masked = layers.Masking()(start := keras.Input((None, 3)))
        off = []
        for last in (layers.GlobalAveragePooling1D(), layers.LSTM(4)):
            model = keras.Model(start, last(function(masked)))
            together = model.predict(x, verbose=0)
            alone = [model.predict(x[i:i + 1, :length], verbose=0)[0] for i, length in enumerate(lengths)]
            off.append(float(np.abs(together - np.array(alone)).max()))
        model = keras.Model(start, layers.Dense(1)(function(masked)))
        model.compile(loss="mse")
        loss, error = model.evaluate(x, y, verbose=0), (model.predict(x, verbose=0) - y) ** 2
    says = sum("destroy the mask" in str(warning.message) for warning in caught)
    print(f"{name:20} in a batch and alone: {off[0]:.3f} apart by the mean, {off[1]:.3f} by LSTM; the loss is that of "
          f"{'the steps' if np.isclose(loss, error[there].mean(), rtol=1e-4) else 'all steps, with padding'}; warns: {says > 0}")
    lost = name in ("x + dense(x)", "ops.relu(x)", "x * 2", "Conv1D(3, 1)(x)")
    assert (min(off) > 0.01) == lost and (max(off) < 1e-4) == (not lost) and (says > 0) == name.startswith("Conv1D")
    assert np.isclose(loss, error.mean() if lost else error[there].mean(), rtol=1e-4)
PY
