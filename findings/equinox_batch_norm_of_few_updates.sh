#!/usr/bin/env bash
# Equinox 0.13.8 (JAX 0.10.2): eqx.nn.BatchNorm(mode="batch"), in inference after few updates.
#
# Guess: it keeps means that begin at 0 and are divided by 1 - momentum^t, as Adam's, so that after the first update inference
# normalizes by that batch's mean and variance, and after t by a weighted mean of those of t batches.
# Seen: the mean is so. The variance begins at 1 instead, and is divided by 1 - momentum^t all the same: it is too large by
# momentum^t / (1 - momentum^t), whatever the data. With the default momentum of 0.99 that is 99 after one update, 1.5 after 50 and
# 0.58 after 100; so data of variance 0.01 come out, after 100 updates, with a deviation of 0.12 instead of 1. Behind 1,500 updates
# it is under 1e-6 and gone. mode="ema" has none of it: there the first batch's variance is the first value.
# Whoever validates in the first epoch of a small data set sees a model that is far worse than it is in training.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check equinox==0.13.8 jax==0.10.2 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import equinox as eqx
import jax
import numpy as np

jax.config.update("jax_enable_x64", True)
x = np.random.default_rng(0).normal(3.0, 0.1, size=(64, 1))         # the same batch at each update: what a mean is cannot matter


def after(updates, mode):
    norm = eqx.nn.BatchNorm(1, "rows", mode=mode, dtype=np.float64)
    state = eqx.nn.State(norm)
    mapped = lambda layer: jax.vmap(layer, axis_name="rows", in_axes=(0, None), out_axes=(0, None))
    train = jax.jit(lambda s: mapped(norm)(x, s)[1])
    for _ in range(updates):
        state = train(state)
    y = np.asarray(mapped(eqx.nn.inference_mode(norm))(x, state)[0])
    return float(y.mean()), float(y.std())


for updates in (1, 50, 100, 1500):
    too_much = 0.99 ** updates / (1 - 0.99 ** updates)
    wanted = float(x.std() / np.sqrt(x.var() + too_much + 1e-5))
    mean, deviation = after(updates, "batch")
    _, of_ema = after(updates, "ema")
    print(f"after {updates} updates: variance too large by {too_much:.3g}; deviation of outputs {deviation:.4f} "
          f"(by that formula {wanted:.4f}), with mode='ema' {of_ema:.4f}")
    assert abs(deviation - wanted) < 1e-6 and abs(mean) < 1e-6 and abs(of_ema - 1) < 1e-2
PY
