#!/usr/bin/env bash
# Equinox 0.13.8 (JAX 0.10.2), beside PyTorch 2.13.0: average pooling that rounds the size up, AvgPool1d and AvgPool2d with
# use_ceil=True.
#
# Guess: the mean of ones is one: a window that ends beyond the picture is the mean of the numbers that it covers, as
# nn.AvgPool2d(ceil_mode=True) has it, whose formula others follow, and as MaxPool2d's windows there cover what is in the picture.
# Seen: it is divided by the whole window. Of a picture of ones of 5 by 5, by windows of 2, the last row and column are 0.5 and the
# corner is 0.25. The documentation says that extra padding is added where it is needed, and not that it counts as zeros.
# Whoever carries over the weights of a network with such pooling gets other numbers at the lower and right edges, at each such
# layer. What is right: divide by the pooling of ones.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check equinox==0.13.8 jax==0.10.2 torch==2.13.0 numpy==2.4.6
JAX_PLATFORMS=cpu "$dir/venv/bin/python" -W ignore - <<'PY'
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import torch

jax.config.update("jax_enable_x64", True)


def by_hand(x, kernel, stride):
    """Means of the numbers that each window covers, where the last window may end beyond the picture."""
    sizes = [-(-(n - kernel) // stride) + 1 for n in x.shape]
    return np.array([[x[i * stride:i * stride + kernel, j * stride:j * stride + kernel].mean() for j in range(sizes[1])]
                     for i in range(sizes[0])])


rng = np.random.default_rng(0)
for name, x in (("ones", np.ones((5, 5))), ("normal", rng.normal(size=(5, 5)))):
    pool = eqx.nn.AvgPool2d(2, 2, use_ceil=True)
    got = np.asarray(pool(jnp.asarray(x[None])))[0]
    by_torch = torch.nn.functional.avg_pool2d(torch.tensor(x[None, None]), 2, 2, ceil_mode=True)[0, 0].numpy()
    hand = by_hand(x, 2, 2)
    share = np.asarray(pool(jnp.ones((1, 5, 5))))[0]
    print(name, "last row by Equinox:", got[-1].round(3).tolist(), "by PyTorch:", by_torch[-1].round(3).tolist(),
          "by hand:", hand[-1].round(3).tolist())
    assert np.abs(by_torch - hand).max() < 1e-15 and np.abs(got / share - hand).max() < 1e-15
    assert np.abs(got[:-1, :-1] - hand[:-1, :-1]).max() < 1e-15 and np.abs(got[-1] - hand[-1]).max() > 0.05
    greatest = np.asarray(eqx.nn.MaxPool2d(2, 2, use_ceil=True)(jnp.asarray(x[None] - 9)))[0]
    assert (greatest == torch.nn.functional.max_pool2d(torch.tensor(x[None, None] - 9), 2, 2, ceil_mode=True)[0, 0].numpy()).all()
assert share.tolist() == [[1, 1, 0.5], [1, 1, 0.5], [0.5, 0.5, 0.25]]
line = np.asarray(eqx.nn.AvgPool1d(2, 2, use_ceil=True)(jnp.ones((1, 5))))[0]
print("AvgPool1d of five ones:", line.tolist())
assert line.tolist() == [1, 1, 0.5]
PY
