#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2 as its backend, NumPy 2.4.6, scikit-learn 1.9.1): layers.Normalization, adapted to data with a column that
# is constant there.
#
# Guess: such a column becomes 0 and has no weight later, as with scikit-learn's StandardScaler, which divides it by 1.
# Seen: it is divided by 1e-7. In training it is 0 and nobody notices; the first sample that has another value there, 7.5 instead of
# 7, brings 5,000,000 into the network, where StandardScaler brings 0.5. Its weights were never trained, since their gradients are 0,
# so that they are those of the beginning, and what comes out is all but decided by that column. A column of 0.1 that differs in its
# last bit is as good as constant, too.
# Pixels at the border that are black in all of the training, and categories that come up later, are such columns.
# Whoever adapts Normalization leaves out columns whose variance is 0, or gives mean= and variance= with a 1 there.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6 scikit-learn==1.9.1
KERAS_BACKEND=jax "$dir/venv/bin/python" -W ignore - <<'PY'
import keras
import numpy as np
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
x = np.stack([rng.normal(size=200), np.full(200, 7.0)], 1).astype("float32")
y = x[:, :1] * 2
new = np.array([[0.0, 7.0], [0.0, 7.5]], "float32")
scale = keras.layers.Normalization()
scale.adapt(x)
scaler = StandardScaler().fit(x)
print("Keras:", np.asarray(scale(new))[:, 1].tolist(), "scikit-learn:", scaler.transform(new)[:, 1].tolist())
assert np.asarray(scale(x))[:, 1].tolist() == [0.0] * 200
assert np.allclose(np.asarray(scale(new))[:, 1], [0, 0.5 / 1e-7], rtol=1e-3) and scaler.transform(new)[:, 1].tolist() == [0, 0.5]

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((2,)), scale, keras.layers.Dense(16, "tanh"), keras.layers.Dense(1)])
linear = keras.Sequential([keras.Input((2,)), scale, keras.layers.Dense(1)])
for name, one in (("tanh", model), ("linear", linear)):
    before = one.layers[-1].kernel.numpy().copy() if one is linear else one.layers[-2].kernel.numpy().copy()
    one.compile(keras.optimizers.Adam(0.02), "mse")
    one.fit(x, y, epochs=20, verbose=0)
    after = one.layers[-1].kernel.numpy() if one is linear else one.layers[-2].kernel.numpy()
    told = np.asarray(one(new)).ravel()
    print(f"{name}: of 7 it says {told[0]:.2f}, of 7.5 {told[1]:.4g};",
          f"that column's weights moved by {np.abs(after - before)[1].max()}")
    assert (after[1] == before[1]).all() and (after[0] != before[0]).any()
    assert abs(told[1] - told[0]) > (1e5 if one is linear else 0.1)
PY
