#!/usr/bin/env bash
# timm 1.0.31 (PyTorch 2.14.1, NumPy 2.4.6): average pooling with TensorFlow's "same" padding, layers.AvgPool2dSame and
# layers.create_pool2d("avg", padding="same").
#
# Guess: with count_include_pad=False a window at the border is divided by the pixels that it has in the picture, as
# torch.nn.AvgPool2d does with that argument, and as TensorFlow and Keras do with "same".
# Seen: the argument is taken and does nothing: the layer puts zeros around the picture and pools that, so that there is no
# padding left that could be left out. Of a picture of ones the border is 2/3 and the corners are 4/9, with True as with False.
# Where the padding is equal on both sides create_pool2d makes a plain AvgPool2d of it, and there the argument counts:
# kernel_size=3 with stride 1 is right, and with stride 2 wrong. Weights moved from Keras models with
# AveragePooling2D(padding="same", strides=2) give other numbers. What helps is to divide by the same layer of ones: pool(x) /
# pool(torch.ones_like(x)).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check timm==1.0.31 torch==2.14.1 numpy==2.4.6
"$dir/venv/bin/python" -W ignore - <<'PY'
import numpy as np
import torch
from timm.layers import AvgPool2dSame, create_pool2d

rng = np.random.default_rng(0)


def same(x, kernel, stride, count_padding):
    """TensorFlow's: as many windows as stride goes into the size, rounded up; the odd pixel of padding is behind."""
    out = [-(-n // stride) for n in x.shape]
    before = [max((o - 1) * stride + kernel - n, 0) // 2 for o, n in zip(out, x.shape, strict=True)]
    y = np.empty(out)
    for i, j in np.ndindex(*out):
        rows = slice(max(i * stride - before[0], 0), i * stride - before[0] + kernel)
        columns = slice(max(j * stride - before[1], 0), j * stride - before[1] + kernel)
        window = x[rows, columns]
        y[i, j] = window.sum() / (kernel**2 if count_padding else window.size)
    return y


def layer(module, x):
    return module(torch.tensor(x)[None, None]).numpy()[0, 0]


ones = layer(AvgPool2dSame(3, 2, count_include_pad=False), np.ones((7, 8)))
print("picture of ones, kernel 3, stride 2, count_include_pad=False:", *ones.round(3).tolist(), sep="\n")
for size, stride in (((7, 8), 2), ((8, 8), 2), ((9, 9), 2), ((8, 8), 1)):
    x = rng.normal(size=size)
    for counted in (True, False):
        made = create_pool2d("avg", 3, stride, padding="same", count_include_pad=counted)
        off = np.abs(layer(made, x) - same(x, 3, stride, counted)).max()
        print(f"{size}, stride {stride}, count_include_pad={counted}: {type(made).__name__}, farthest from the formula {off:.1e}")
        right = counted or not isinstance(made, AvgPool2dSame)
        assert (off < 1e-12) == right, "that changed"
        if not right:
            assert np.abs(layer(made, x) - same(x, 3, stride, True)).max() < 1e-12
            divided = layer(made, x) / layer(made, np.ones_like(x))
            assert np.abs(divided - same(x, 3, stride, False)).max() < 1e-12
PY
