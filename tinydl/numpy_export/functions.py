"""Layers in NumPy alone, in inference. `Model.export_numpy` copies into its file those that a model needs, as they stand here.

x: a batch, samples along the first axis. They compute in the dtype of x and of the parameters.
"""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,no-any-return"
import math

import numpy as np


def linear(x, weight, bias=None):
    y = x @ weight
    return y if bias is None else y + bias


def reshaped(x, shape):
    """Samples in another shape, of which one axis may be -1: as many as there are. (NumPy's -1 is not for a batch of none.)"""
    rest = math.prod(x.shape[1:]) // abs(math.prod(shape))
    return x.reshape(len(x), *(rest if n == -1 else n for n in shape))


# ---------------------------------------------------------------------- activations
def relu(x):
    return np.maximum(x, 0)


def leaky_relu(x, slope):
    return np.where(x > 0, x, slope * x)


def elu(x, alpha):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def selu(x):
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def silu(x):
    return x * sigmoid(x)


def softplus(x, beta):
    return (np.maximum(beta * x, 0) + np.log1p(np.exp(-np.abs(beta * x)))) / beta


def mish(x):
    return x * np.tanh(softplus(x, 1.0))


def hardswish(x):
    return x * np.clip(x + 3, 0, 6) / 6


def hardsigmoid(x, alpha, beta):
    return np.clip(alpha * x + beta, 0, 1)


def gelu(x):
    erf = np.vectorize(math.erf, otypes=[x.dtype])      # which NumPy has not
    return 0.5 * x * (1 + erf(x * math.sqrt(0.5)))


def gelu_tanh(x):
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def log_softmax(x):
    d = x - x.max(-1, keepdims=True)
    return d - np.log(np.exp(d).sum(-1, keepdims=True))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def glu(x, axis):
    a, b = np.split(x, 2, axis)
    return a * sigmoid(b)


# ---------------------------------------------------------------------- norms
def unit(x, eps):
    return x / np.sqrt((x * x).sum(-1, keepdims=True) + eps)


def affine(x, weight, bias, shape):
    """weight and bias, where they are there, in this shape."""
    y = x if weight is None else x * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def normalised(x, axes, eps):
    d = x - x.mean(axes, keepdims=True)
    return d / np.sqrt((d * d).mean(axes, keepdims=True) + eps)


def layer_norm(x, weight, bias, axes, eps):
    return affine(normalised(x, axes, eps), weight, bias, x.shape[1:][axes[0]:])


def rms_norm(x, weight, axes, eps):
    return affine(x / np.sqrt((x * x).mean(axes, keepdims=True) + eps), weight, None, x.shape[1:][axes[0]:])


def group_norm(x, weight, bias, groups, eps):
    y = normalised(reshaped(x, (groups, -1)), -1, eps).reshape(x.shape)
    return affine(y, weight, bias, (-1, *[1] * (x.ndim - 2)))


def batch_norm(x, weight, bias, mean, var, eps, shape):
    """By the running statistics. shape: (C, 1, 1) of images, (C,) of columns."""
    return affine((x - mean.reshape(shape)) / np.sqrt(var.reshape(shape) + eps), weight, bias, shape)


# ---------------------------------------------------------------------- images (B, C, H, W) or (B, C, L)
def windows(x, kernel, stride, dilation):
    """(B, C, *out, *kernel)"""
    n = len(kernel)
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, tuple(range(2, 2 + n)))
    return view[(slice(None), slice(None), *(slice(None, None, s) for s in (*stride, *dilation)))]


def conv(x, weight, bias, stride, padding, dilation, groups, mode):
    n = weight.ndim - 2
    seen = windows(np.pad(x, [(0, 0), (0, 0), *padding], mode), weight.shape[2:], stride, dilation)
    pieces = []
    for xs, ws in zip(np.split(seen, groups, 1), np.split(weight, groups), strict=True):
        y = np.tensordot(xs, ws, ((1, *range(2 + n, 2 + 2 * n)), (1, *range(2, 2 + n))))
        pieces.append(np.moveaxis(y, -1, 1))
    return affine(np.concatenate(pieces, 1), None, bias, (-1, *[1] * n))


def conv_transpose(x, weight, bias, stride, padding, output_padding, dilation, groups):
    inside, kernel, every = x.shape[2:], weight.shape[2:], (slice(None), slice(None))
    sizes = [(m - 1) * s + d * (k - 1) + 1 + o
             for m, s, d, k, o in zip(inside, stride, dilation, kernel, output_padding, strict=True)]
    pieces = []
    for xs, ws in zip(np.split(x, groups, 1), np.split(weight, groups), strict=True):
        y = np.zeros((len(x), weight.shape[1], *sizes), x.dtype)
        for tap in np.ndindex(*kernel):
            places = [slice(i * d, i * d + (m - 1) * s + 1, s) for i, d, m, s in zip(tap, dilation, inside, stride, strict=True)]
            y[(*every, *places)] += np.moveaxis(np.tensordot(xs, ws[(*every, *tap)], (1, 0)), -1, 1)
        pieces.append(y)
    y = np.concatenate(pieces, 1)[(*every, *(slice(p, n - p) for p, n in zip(padding, sizes, strict=True)))]
    return affine(y, None, bias, (-1, *[1] * len(sizes)))


def max_pool(x, kernel, stride, before, behind, dilation):
    around = np.pad(x, [(0, 0), (0, 0), *zip(before, behind, strict=True)], constant_values=-np.inf)
    return windows(around, kernel, stride, dilation).max(tuple(range(-len(kernel), 0)))


def avg_pool(x, kernel, stride, padding, behind, counted, divisor):
    """behind: as much as padding, or more, of which only the padding's own pixels may be counted."""
    ones, axes, rest = [1] * len(kernel), tuple(range(-len(kernel), 0)), [(0, 0), (0, 0)]
    total = windows(np.pad(x, [*rest, *zip(padding, behind, strict=True)]), kernel, stride, ones).sum(axes)
    if divisor:
        return total / divisor
    there = np.pad(np.ones_like(x[:1, :1]), [*rest, *((p, p) for p in padding)], constant_values=int(counted))
    there = np.pad(there, [*rest, *((0, b - p) for p, b in zip(padding, behind, strict=True))])
    return total / windows(there, kernel, stride, ones).sum(axes)


def adaptive_avg_pool(x, sizes):
    for axis, n in enumerate(sizes, 2):
        N = x.shape[axis]
        parts = [np.take(x, range(i * N // n, -(-(i + 1) * N // n)), axis).mean(axis, keepdims=True) for i in range(n)]
        x = np.concatenate(parts, axis)
    return x


def pixel_shuffle(x, r):
    B, C, H, W = x.shape
    return x.reshape(B, C // r ** 2, r, r, H, W).transpose(0, 1, 4, 2, 5, 3).reshape(B, C // r ** 2, H * r, W * r)


def upsample(x, sizes, bilinear, align_corners):
    for axis, n in zip((2, 3), sizes, strict=True):
        N = x.shape[axis]
        if not bilinear:
            x = np.take(x, np.arange(n) * N // n, axis)
            continue
        place = np.arange(n) * (N - 1) / max(n - 1, 1) if align_corners else (np.arange(n) + 0.5) * N / n - 0.5
        place = np.clip(place, 0, N - 1)
        low = np.floor(place).astype(int)
        part = (place - low).astype(x.dtype).reshape(-1, *[1] * (3 - axis))
        first = np.take(x, low, axis)
        x = first + (np.take(x, np.minimum(low + 1, N - 1), axis) - first) * part
    return x


# ---------------------------------------------------------------------- columns of a table
def embedding_bag(weight, x, mean, padding):
    there = (x != padding)[..., None]
    total = np.where(there, weight[x], 0).sum(-2)
    return total / np.maximum(there.sum(-2), 1).astype(weight.dtype) if mean else total


def periodic(x, frequency, phase, weight, bias):
    waves = np.cos(2 * math.pi * (x[..., None] * frequency) + phase)
    return np.concatenate([x[..., None], np.einsum("bck,ckd->bcd", waves, weight) + bias], 2)


def piecewise(x, edges):
    widths = np.diff(edges)
    slopes = np.divide(1, widths, out=np.zeros_like(widths), where=widths > 0).astype(x.dtype)
    along = (x[..., None] - edges[:, :-1].astype(x.dtype)) * slopes
    return np.concatenate([x[..., None], np.clip(along, 0, 1)], 2)
