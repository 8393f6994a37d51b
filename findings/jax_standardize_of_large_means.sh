#!/usr/bin/env bash
# JAX 0.10.2 and Flax 0.12.8, CPU: jax.nn.standardize, and LayerNorm of Flax with its defaults, of float32 numbers far from zero:
# pressures in hectopascals, temperatures in kelvin, years.
#
# Guess: of numbers around 1,000 with a deviation of 1 float32 leaves some 4 digits behind the standardisation, as of
# (x - mean) / std in NumPy's float32.
# Seen: none or one. The variance is made as the mean of the squares less the square of the mean, each with an error of 0.1 at a
# million: of rows around 1,000 results, which are about 1, are off by up to 0.35, and around 10,000 by up to a thousand, without a
# warning. The documentation of jax.nn.standardize does not say how it is made; Flax's of its norms does, where use_fast_variance
# stands, which is True. With use_fast_variance=False, with variance=jnp.var(x, ...) given to standardize, and by Equinox's
# LayerNorm there are as many digits as by NumPy.
# Whoever feeds raw measurements to such a norm subtracts a typical value first.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 equinox==0.13.8 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$dir/venv/bin/python" -W ignore - <<'PY'
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

rng = np.random.default_rng(0)
for centre in (0, 1_000, 10_000):
    x32 = (centre + rng.normal(size=(200, 64))).astype(np.float32)
    x64, x = x32.astype(np.float64), jnp.asarray(x32)
    right = (x64 - x64.mean(1, keepdims=True)) / np.sqrt(x64.var(1, keepdims=True) + 1e-5)
    flax, slow = (nnx.LayerNorm(64, epsilon=1e-5, use_fast_variance=fast, rngs=nnx.Rngs(0)) for fast in (True, False))
    found = {"jax.nn.standardize": jax.nn.standardize(x, axis=-1), "Flax": flax(x), "Flax, use_fast_variance=False": slow(x),
             "standardize, with the variance": jax.nn.standardize(x, axis=-1, variance=jnp.var(x, -1, keepdims=True)),
             "Equinox": jax.vmap(eqx.nn.LayerNorm(64))(x),
             "NumPy in float32": (x32 - x32.mean(1, keepdims=True)) / np.sqrt(x32.var(1, keepdims=True) + np.float32(1e-5))}
    errors = {name: float(np.abs(np.asarray(a) - right).max()) for name, a in found.items()}
    print("around", centre, {name: f"{error:.1e}" for name, error in errors.items()})
    fast = [errors.pop(name) for name in ("jax.nn.standardize", "Flax")]
    assert max(errors.values()) < 1e-5 + centre * 1e-6
    assert max(fast) < 1e-5 if centre == 0 else min(fast) > (0.02 if centre == 1_000 else 10)
PY
