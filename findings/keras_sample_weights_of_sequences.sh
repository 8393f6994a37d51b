#!/usr/bin/env bash
# Keras 3.15.1 (JAX 0.10.2 as its backend, NumPy 2.4.6): sample_weight, a number for each sample, of a model whose output is a
# sequence, (samples, steps, 1).
#
# What one would expect (no guess was written before the run): a sample's weight counts for all its steps. The documentation of
# fit allows a flat array with a number for each sample, and for sequences one of (samples, steps) as well; Keras 2 took both.
# Seen: the weights (samples,) are multiplied with losses (samples, steps) as NumPy would broadcast them: along the steps. Where a
# batch has another number of samples than a sequence has steps, that is an error of shapes. Where the numbers are the same, as 6
# samples of 6 steps, there is none: step t of every sample is weighed with the weight of sample t, and the loss is of something
# else. Weights of (samples, 1) are what was meant, for any sizes.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check keras==3.15.1 jax==0.10.2 numpy==2.4.6
KERAS_BACKEND=jax "$dir/venv/bin/python" -W ignore - <<'PY'
import keras
import numpy as np

rng = np.random.default_rng(0)


def evaluated(samples, steps, of_weights):
    x, y = rng.normal(size=(samples, steps, 3)).astype("float32"), rng.normal(size=(samples, steps, 1)).astype("float32")
    w = (rng.random(samples) + 0.1).astype("float32")
    model = keras.Sequential([keras.Input((steps, 3)), keras.layers.Dense(1)])
    model.compile(loss="mse")
    losses = ((x @ model.get_weights()[0] - y) ** 2)[..., 0]
    got = model.evaluate(x, y, sample_weight=of_weights(w), batch_size=samples, verbose=0)
    return got, float((w[:, None] * losses).mean()), (w * losses).mean() if samples == steps else None


try:
    evaluated(4, 6, lambda w: w)
    raise SystemExit("4 samples of 6 steps were taken")
except (TypeError, ValueError) as error:
    print("4 samples of 6 steps, weights (4,):", type(error).__name__, str(error).splitlines()[0][:90])
got, meant, along_steps = evaluated(6, 6, lambda w: w)
print(f"6 samples of 6 steps, weights (6,): {got:.5f}; by samples it is {meant:.5f}, by steps {along_steps:.5f}")
assert abs(got - along_steps) < 1e-4 and abs(got - meant) > 1e-2
for samples in (4, 6):
    got, meant, _ = evaluated(samples, 6, lambda w: w[:, None])
    print(f"{samples} samples of 6 steps, weights ({samples}, 1): {got:.5f}; by samples it is {meant:.5f}")
    assert abs(got - meant) < 1e-4
PY
