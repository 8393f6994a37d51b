#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2 as its backend, NumPy 2.4.6): an optimizer's moving average of weights beside
# EarlyStopping(restore_best_weights=True).
#
# Guess: with use_ema=True the model ends with averaged weights, since fit sees to that by itself, as the documentation says;
# those that early stopping picks and restores are averaged, too.
# Seen: the average is looked at nowhere. Each epoch's val_loss is of the plain weights, which are what EarlyStopping keeps; fit
# puts the average into the model behind the last epoch, and then EarlyStopping, as training ends, the best plain weights over it.
# So the model is, bit for bit, that of a training without an average. Without EarlyStopping the model does end with the average,
# whose loss no epoch has shown.
# Whoever wants both stops without restoring.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax "$dir/venv/bin/python" -W ignore - <<'PY'
import keras
import numpy as np

rng = np.random.default_rng(0)
x, y, held_out, targets = (rng.normal(size=shape).astype("float32") for shape in ((64, 5), (64, 1), (64, 5), (64, 1)))


def train(ema, stops):
    """Without a bias, by plain SGD; the plain weights after each epoch, and the average, are computed in NumPy beside it."""
    model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="ones")])
    model.compile(keras.optimizers.SGD(0.05, **({"use_ema": True, "ema_momentum": 0.9} if ema else {})), "mse")
    stopping = [keras.callbacks.EarlyStopping(patience=4, restore_best_weights=True)] if stops else []
    history = model.fit(x, y, batch_size=16, epochs=12, shuffle=False, verbose=0, validation_data=(held_out, targets),
                        callbacks=stopping)
    return np.ravel(model.get_weights()[0]), np.array(history.history["val_loss"])


def by_hand(epochs):
    w = average = np.ones(5)
    plain, averaged, first = [], [], True
    for _ in range(epochs):
        for i in range(0, 64, 16):
            a, b = x[i:i + 16].astype(float), y[i:i + 16, 0].astype(float)
            w = w - 0.05 * 2 / 16 * a.T @ (a @ w - b)
            average = w if first else 0.9 * average + 0.1 * w
            first = False
        plain.append(w)
        averaged.append(average)
    return np.array(plain), np.array(averaged)


def loss(w):
    return float(np.mean((held_out @ w - targets[:, 0]) ** 2))


final, seen = train(ema=True, stops=False)
plain, averaged = by_hand(12)
print("with an average, without stopping: the weights are the average:", np.allclose(final, averaged[-1], atol=1e-4),
      "of loss", round(loss(final), 4), "where the last val_loss is", round(float(seen[-1]), 4))
assert np.allclose(final, averaged[-1], atol=1e-4) and abs(loss(plain[-1]) - seen[-1]) < 1e-4

stopped, seen = train(ema=True, stops=True)
without, _ = train(ema=False, stops=True)
best = int(seen.argmin())
print("with an average, and stopping: of", len(seen), "epochs number", best + 1, "is the best; weights are its plain ones:",
      np.allclose(stopped, plain[best], atol=1e-4), "and those without an average bit for bit:", (stopped == without).all())
assert np.allclose(stopped, plain[best], atol=1e-4) and not np.allclose(stopped, averaged[best], atol=1e-3)
assert (stopped == without).all()
PY
