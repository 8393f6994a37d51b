#!/usr/bin/env bash
# JAX 0.10.2 and Flax 0.12.8, CPU: jax.nn.dot_product_attention, and Flax's nnx.dot_product_attention and nnx.MultiHeadAttention
# that call it, of float64 numbers (jax_enable_x64).
#
# Guess: in float64 they agree with softmax(q k^T / sqrt(width)) v in NumPy to the rounding of float64, about 1e-16.
# Seen: results are float64 and agree to some 1e-8, no better than in float32, since the softmax is made in float32, whatever dtype is
# given; with dtype=float64, which Flax documents as that of the computation, too. Its gradients lose digits, too, and central
# differences with steps of 1e-6, which in float64 confirm a gradient to nine digits, are off by more than a hundredth: the check of
# a gradient fails where nothing is wrong. The three lines of the formula in jax.numpy have neither.
# Whoever checks attention in float64 writes the formula out.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check flax==0.12.8 jax==0.10.2 numpy==2.4.6
JAX_PLATFORMS=cpu "$dir/venv/bin/python" -W ignore - <<'PY'
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

jax.config.update("jax_enable_x64", True)


def formula(q, k, v, np=jnp):
    """(B, T, heads, width) each."""
    scores = np.einsum("bthd,bshd->bhts", q, k) / np.sqrt(q.shape[-1])
    p = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhts,bshd->bthd", p / p.sum(-1, keepdims=True), v)


rng = np.random.default_rng(0)
q, k, v = rng.normal(size=(3, 2, 5, 1, 4))
direction, weights = rng.normal(size=q.shape), rng.normal(size=q.shape)
hand, step = formula(q, k, v, np), 1e-6
slope = sum(sign * (formula(q + sign * step * direction, k, v, np) * weights).sum() for sign in (1, -1)) / (2 * step)
ways = {"jax.nn.dot_product_attention": jax.nn.dot_product_attention,
        "nnx.dot_product_attention": lambda *a: nnx.dot_product_attention(*a, dtype=jnp.float64), "the formula": formula}
for name, attend in ways.items():
    out = attend(*map(jnp.asarray, (q, k, v)))
    error = float(np.abs(np.asarray(out) - hand).max())
    gradient = jax.grad(lambda a, attend=attend: (attend(a, jnp.asarray(k), jnp.asarray(v)) * weights).sum())(jnp.asarray(q))
    by_gradient = float((gradient * direction).sum())
    differences = float(sum(sign * (attend(jnp.asarray(q + sign * step * direction), jnp.asarray(k), jnp.asarray(v)) * weights).sum()
                            for sign in (1, -1)) / (2 * step))
    print(f"{name:29s} {out.dtype}, farthest from NumPy: {error:.1e}; the slope along a direction, off by its gradient: "
          f"{abs(by_gradient / slope - 1):.0e}, by differences: {abs(differences / slope - 1):.0e}")
    assert out.dtype == jnp.float64
    if name == "the formula":
        assert error < 1e-15 and abs(by_gradient / slope - 1) < 1e-7 and abs(differences / slope - 1) < 1e-7
    else:
        assert 1e-9 < error < 1e-6 and abs(differences / slope - 1) > 1e-2

layer = nnx.MultiHeadAttention(1, 4, decode=False, dtype=jnp.float64, param_dtype=jnp.float64, rngs=nnx.Rngs(0))
x = q[:, :, 0]
parts = [np.einsum("btc,chd->bthd", x, np.asarray(part.kernel[...])) for part in (layer.query, layer.key, layer.value)]
right = np.einsum("bthd,hdc->btc", formula(*parts, np), np.asarray(layer.out.kernel[...]))
error = np.abs(np.asarray(layer(jnp.asarray(x))) - right).max()
print("nnx.MultiHeadAttention of float64, farthest from NumPy:", f"{error:.1e}")
assert 1e-10 < error < 1e-6
PY
