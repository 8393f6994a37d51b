#!/usr/bin/env bash
# optax 0.2.8 (JAX 0.10.2, NumPy 2.4.6): losses.triplet_margin_loss(norm_degree=1) and other odd degrees.
#
# Guess: the distances are norms of that degree, (sum |a - p|^d)^(1/d), as PyTorch's triplet_margin_loss(p=1) has Manhattan
# distances; the documentation says "the norm degree for distance calculation (default is 2 for Euclidean distance)".
# Seen: the differences are raised to the degree with their signs, so that of odd degrees positive and negative ones cancel out.
# With 1, the distance of (0, 0) and (3, -3) is 0 and that of (0, 0) and (3, 3) is -6; exchanging anchor and positive changes the
# loss. Nothing warns, and the loss is finite. With 3, a negative sum's root is NaN. Even degrees are right. Whoever needs
# Manhattan distances computes them.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check optax==0.2.8 jax==0.10.2 numpy==2.4.6
"$dir/venv/bin/python" - <<'PY'
import jax
import numpy as np
import optax

jax.config.update("jax_enable_x64", True)


def wanted(a, p, n, degree, margin=1.0):
    def distance(u, v):
        return (np.abs(u - v) ** degree).sum(-1) ** (1 / degree)
    return np.maximum(distance(a, p) - distance(a, n) + margin, 0)


def seen(a, p, n, degree):
    return np.asarray(optax.losses.triplet_margin_loss(a, p, n, norm_degree=degree, eps=0.0))


zero, across, along = np.array([[0.0, 0.0]]), np.array([[3.0, -3.0]]), np.array([[3.0, 3.0]])
for what, a, p, n in (("positive at (3, -3), negative at 0", zero, across, zero),
                      ("positive at 0, negative at (3, 3)", zero, zero, along),
                      ("anchor at (3, 3), positive at 0, negative there", along, zero, zero - [[3.0, 3.0]])):
    print(f"degree 1, {what}: loss {seen(a, p, n, 1)[0]:.1f}, by the formula {wanted(a, p, n, 1)[0]:.1f}")
assert seen(zero, across, zero, 1) == 1 and wanted(zero, across, zero, 1) == 7
assert seen(zero, zero, along, 1) == 7 and wanted(zero, zero, along, 1) == 0

rng = np.random.default_rng(0)
a, p, n = rng.normal(size=(3, 100, 8))
for degree in (1, 2, 3, 4):
    got, right = seen(a, p, n, degree), wanted(a, p, n, degree)
    print(f"degree {degree}, 100 triplets: mean loss {np.nanmean(got):.3f}, by the formula {right.mean():.3f}; "
          f"{np.isnan(got).sum()} are NaN")
    assert np.allclose(got, right, rtol=1e-12) == (degree in (2, 4)), "that changed"
signs = np.maximum((a - p).sum(-1) - (a - n).sum(-1) + 1, 0)
assert np.allclose(seen(a, p, n, 1), signs) and not np.isnan(signs).any()
swapped = seen(p, a, p + a - n, 1)          # all differences turned around, so all distances are the same
print(f"the same distances, the other way round: mean loss {swapped.mean():.3f}")
assert np.allclose(wanted(p, a, p + a - n, 1), wanted(a, p, n, 1)) and abs(swapped.mean() - signs.mean()) > 0.01
PY
