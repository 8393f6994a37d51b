"""The operations in plain NumPy: the schema's names and arguments, for any float dtype, unchecked and slow.

The oracle of the tests: called with float64 copies of a kernel's inputs, it gives what the kernel must give.
"""
# R rows, C columns
from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tinydl._kernels.reference_attention import attention, attention_backward, rotary  # noqa: F401 - the oracle of these
from tinydl._kernels.reference_hash import hashes, splitmix
from tinydl._kernels.reference_sequences import (  # noqa: F401 - and of these
    crf,
    ctc,
    embedding_bag,
    embedding_bag_backward,
    gru,
    gru_backward,
    lstm,
    lstm_backward,
    mask_steps,
    pool_steps,
    pool_steps_backward,
    rnn,
    rnn_backward,
)
from tinydl._kernels.schema import ACTIVATIONS

Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]

_erf, _log_gamma = np.frompyfunc(math.erf, 1, 1), np.frompyfunc(math.lgamma, 1, 1)


def _write(out: Floats, value: Any) -> Floats:
    out[...] = value
    return out


# matrix product

def matmul(a: Floats, b: Floats, out: Floats, bias: Floats | None = None, saved: Floats | None = None, accumulate: int = 0,
           activation: int = 0, alpha: float = 0.0, beta: float = 0.0) -> Floats:
    y = a @ b
    if bias is not None:
        y = y + bias
    if accumulate:
        y = y + out
    if saved is not None:
        return globals()["activation_backward"](y, saved, out, activation, alpha, beta)   # type: ignore[no-any-return]
    return globals()["activation"](y, out, activation, alpha, beta)                       # type: ignore[no-any-return]


# activations: f(x, alpha, beta), and its slope by what is saved (the output up to rescaling, else the input)

def _sigmoid(x: Floats) -> Floats:
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, e, 1) / (1 + e))


def _gelu(x: Floats, approximate: bool) -> tuple[Floats, Floats]:
    """Phi(x) and its slope"""
    if approximate:
        c = math.sqrt(2 / math.pi)
        t = np.tanh(c * (x + 0.044715 * x**3))
        return 0.5 * (1 + t), 0.5 * (1 - t * t) * c * (1 + 3 * 0.044715 * x * x)
    return 0.5 * (1 + _erf(x / math.sqrt(2)).astype(x.dtype)), np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_slope(x: Floats, approximate: bool) -> Floats:
    phi, slope = _gelu(x, approximate)
    return phi + x * slope


def _mish_slope(x: Floats) -> Floats:
    t = np.tanh(np.logaddexp(0, x))
    return np.asarray(t + x * (1 - t * t) * _sigmoid(x))


_SELU_SCALE, _SELU_BELOW = 1.0507009873554804934, 1.0507009873554804934 * 1.6732632423543772848

_Function = Callable[[Floats, float, float], Any]
_FUNCTIONS: dict[str, tuple[_Function, _Function]] = {
    "identity": (lambda x, a, b: x, lambda y, a, b: np.ones_like(y)),
    "relu": (lambda x, a, b: np.where(x < 0, 0, x), lambda y, a, b: np.where(y > 0, 1, 0)),
    "leaky_relu": (lambda x, a, b: np.where(x < 0, a * x, x), lambda y, a, b: np.where(y > 0, 1, a)),
    "elu": (lambda x, a, b: np.where(x < 0, a * np.expm1(np.minimum(x, 0)), x), lambda y, a, b: np.where(y > 0, 1, y + a)),
    "selu": (lambda x, a, b: np.where(x < 0, _SELU_BELOW * np.expm1(np.minimum(x, 0)), _SELU_SCALE * x),
             lambda y, a, b: np.where(y > 0, _SELU_SCALE, y + _SELU_BELOW)),
    "sigmoid": (lambda x, a, b: _sigmoid(x), lambda y, a, b: y * (1 - y)),
    "tanh": (lambda x, a, b: np.tanh(x), lambda y, a, b: 1 - y * y),
    "hardtanh": (lambda x, a, b: np.clip(x, a, b), lambda y, a, b: np.where((y > a) & (y < b), 1, 0)),
    "hardsigmoid": (lambda x, a, b: np.clip(a * x + b, 0, 1), lambda y, a, b: np.where((y > 0) & (y < 1), a, 0)),
    "exp": (lambda x, a, b: np.exp(x), lambda y, a, b: y),
    "rescaling": (lambda x, a, b: a * x + b, lambda y, a, b: np.full_like(y, a)),
    "gelu": (lambda x, a, b: x * _gelu(x, False)[0], lambda x, a, b: _gelu_slope(x, False)),
    "gelu_tanh": (lambda x, a, b: x * _gelu(x, True)[0], lambda x, a, b: _gelu_slope(x, True)),
    "silu": (lambda x, a, b: x * _sigmoid(x), lambda x, a, b: _sigmoid(x) * (1 + x * (1 - _sigmoid(x)))),
    "softplus": (lambda x, a, b: np.logaddexp(0, a * x) / a, lambda x, a, b: _sigmoid(a * x)),
    "mish": (lambda x, a, b: x * np.tanh(np.logaddexp(0, x)), lambda x, a, b: _mish_slope(x)),
    "hardswish": (lambda x, a, b: x * np.clip(x + 3, 0, 6) / 6,
                  lambda x, a, b: np.where(x <= -3, 0, np.where(x >= 3, 1, x / 3 + 0.5))),
    "softsign": (lambda x, a, b: x / (1 + np.abs(x)), lambda x, a, b: 1 / (1 + np.abs(x)) ** 2),
    "log_sigmoid": (lambda x, a, b: -np.logaddexp(0, -x), lambda x, a, b: _sigmoid(-x)),
    "abs": (lambda x, a, b: np.abs(x), lambda x, a, b: np.sign(x)),
    "square": (lambda x, a, b: x * x, lambda x, a, b: 2 * x),
}


def activation(x: Floats, out: Floats, kind: int, alpha: float = 0.0, beta: float = 0.0) -> Floats:
    return _write(out, _FUNCTIONS[ACTIVATIONS[kind]][0](x, alpha, beta))


def activation_backward(dy: Floats, saved: Floats, out: Floats, kind: int, alpha: float = 0.0, beta: float = 0.0) -> Floats:
    return _write(out, dy * _FUNCTIONS[ACTIVATIONS[kind]][1](saved, alpha, beta))


# softmax

def softmax(x: Floats, out: Floats) -> Floats:
    return _write(out, np.exp(log_softmax(x, np.empty_like(x))))


def softmax_backward(dy: Floats, y: Floats, out: Floats) -> Floats:
    return _write(out, y * (dy - (dy * y).sum(1, keepdims=True)))


def log_softmax(x: Floats, out: Floats) -> Floats:
    z = x - x.max(1, keepdims=True, initial=-np.inf)
    return _write(out, z - np.log(np.exp(z).sum(1, keepdims=True)))


def log_softmax_backward(dy: Floats, y: Floats, out: Floats) -> Floats:
    return _write(out, dy - np.exp(y) * dy.sum(1, keepdims=True))


# losses

def _mean(loss: Floats, grad: Floats | None, slope: Floats, weights: Floats | None = None) -> float:
    """Of samples in order, or sum(w l) / sum(w), a weight counting for as many of loss in order as there are for each."""
    w: Floats = np.ones(loss.size) if weights is None else np.repeat(weights, loss.size // len(weights))
    w = np.reshape(w / (float(w.sum()) or 1.0), loss.shape)
    if grad is not None:
        grad[...] = slope * w.reshape(w.shape + (1,) * (slope.ndim - w.ndim))
    return float((loss * w).sum())


def softmax_cross_entropy(logits: Floats, labels: Int64, weights: Floats | None = None, class_weights: Floats | None = None,
                          grad: Floats | None = None, label_smoothing: float = 0.0, ignore_index: int = -2**63) -> float:
    log_p = log_softmax(logits, np.empty_like(logits))
    R, C = logits.shape
    classes = np.ones(C) if class_weights is None else class_weights
    counts = labels != ignore_index
    one_hot = labels[:, None] == np.arange(C)
    wanted = (1 - label_smoothing) * one_hot * classes + label_smoothing / C * classes
    own = np.where(counts, 1.0 if weights is None else np.repeat(weights, R // len(weights)), 0.0)
    divisor = (own * (one_hot * classes).sum(1)).sum() or 1.0
    if not (own * (one_hot * classes).sum(1)).any():
        own = np.zeros(R)
    if grad is not None:
        grad[...] = (np.exp(log_p) * wanted.sum(1, keepdims=True) - wanted) * own[:, None] / divisor
    return float((own * -(wanted * log_p).sum(1)).sum() / divisor)


def sigmoid_cross_entropy(x: Floats, targets: Floats, weights: Floats | None = None, pos_weight: Floats | None = None,
                          grad: Floats | None = None, label_smoothing: float = 0.0) -> float:
    t = targets * (1 - label_smoothing) + label_smoothing / 2
    p = 1.0 if pos_weight is None else pos_weight
    one = 1 + (p - 1) * t
    return _mean((1 - t) * x + one * (np.log1p(np.exp(-np.abs(x))) + np.maximum(-x, 0)), grad, one * _sigmoid(x) - p * t, weights)


def mean_squared_error(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    d = x - targets
    return _mean(d * d, grad, 2 * d, weights)


def mean_absolute_error(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    d = x - targets
    return _mean(np.abs(d), grad, np.sign(d), weights)


def huber(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None, delta: float = 1.0) -> float:
    d = x - targets
    z = np.abs(d)
    return _mean(np.where(z < delta, z * z / 2, delta * (z - delta / 2)), grad, np.clip(d, -delta, delta), weights)


def kl_divergence(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None,
                  scale: float = 1.0) -> float:
    positive = np.where(targets > 0, targets, 1.0)
    return _mean(scale * targets * (np.log(positive) - x), grad, -scale * targets, weights)


def poisson_nll(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    return _mean(np.exp(x) - targets * x, grad, np.exp(x) - targets, weights)


def tweedie_nll(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None, *, power: float) -> float:
    p = power
    e, f = np.exp((2 - p) * x), targets * np.exp((1 - p) * x)
    return _mean(e / (2 - p) + f / (p - 1) if p < 2 else x + f, grad, e - f, weights)


def hinge(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    s = np.where(targets > 0, 1.0, -1.0)
    return _mean(np.maximum(1 - s * x, 0), grad, np.where(1 - s * x > 0, -s, 0.0), weights)


def gaussian_nll(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    C = targets.shape[1]
    d, s = x[:, :C] - targets, x[:, C:]
    loss, by_m, by_s = (s + d * d * np.exp(-s)) / 2, d * np.exp(-s), (1 - d * d * np.exp(-s)) / 2
    if grad is not None:
        _mean(loss, grad[:, :C], by_m, weights)
        _mean(loss, grad[:, C:], by_s, weights)
    return _mean(loss, None, loss, weights)


def _digamma(x: Floats) -> Floats:
    """By its series from 60 on."""
    a = x + 60
    z = a ** -2.0
    return np.asarray(np.log(a) - 0.5 / a - z * (1 / 12 - z * (1 / 120 - z / 252))
                      - (1 / (x[..., None] + np.arange(60))).sum(-1))


def negative_binomial_nll(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    C = targets.shape[1]
    mu, r = np.exp(x[:, :C]), np.exp(-np.clip(x[:, C:], -60, 60))
    z, t = x[:, :C] + np.clip(x[:, C:], -60, 60), targets
    loss = np.asarray(_log_gamma(r) - _log_gamma(t + r), x.dtype) + r * np.logaddexp(0, z) + t * np.logaddexp(0, -z)
    over = (mu - t) / (1 + mu / r)
    slope = np.hstack([over, r * (_digamma(t + r) - _digamma(r) - np.logaddexp(0, z)) + over]) / C
    return _mean(loss.mean(1), grad, slope, weights)


def gaussian_kl(x: Floats, targets: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    C = targets.shape[1]
    d, s = x[:, :C] - targets, x[:, C:]
    loss = C * (np.expm1(s) - s + d * d) / 2
    if grad is not None:
        _mean(loss, grad[:, :C], C * d, weights)
        _mean(loss, grad[:, C:], C * np.expm1(s) / 2, weights)
    return _mean(loss, None, loss, weights)


def sigmoid_focal(x: Floats, targets: Floats, alpha: float, gamma: float, weights: Floats | None = None,
                  grad: Floats | None = None) -> float:
    s = np.where(targets > 0.5, 1.0, -1.0)
    p, q, log_p = _sigmoid(s * x), _sigmoid(-s * x), -np.logaddexp(0, -s * x)
    a = np.where(targets > 0.5, alpha, 1 - alpha) if alpha >= 0 else 1.0
    return _mean(-a * q**gamma * log_p, grad, -s * a * q**gamma * (q - gamma * p * log_p), weights)


def quantile(x: Floats, targets: Floats, levels: Floats, weights: Floats | None = None, grad: Floats | None = None) -> float:
    q = np.repeat(levels, targets.shape[1])
    d = np.tile(targets, (1, len(levels))) - x
    return _mean(np.maximum(q * d, (q - 1) * d), grad, np.where(d > 0, -q, np.where(d < 0, 1 - q, 0.0)), weights)


# flat vectors

def add(a: Floats, b: Floats, out: Floats) -> Floats:
    return _write(out, a + b)


def copy(x: Floats, out: Floats) -> Floats:
    return _write(out, x)


def fill(out: Floats, value: float = 0.0) -> Floats:
    return _write(out, value)


def multiply(a: Floats, b: Floats, out: Floats) -> Floats:
    return _write(out, a * b)


def arrange(x: npt.NDArray[Any], out: npt.NDArray[Any], B: int, n1: int, n2: int, n3: int, n4: int, xb: int, x1: int, x2: int,
            x3: int, x4: int, yb: int, y1: int, y2: int, y3: int, y4: int, itemsize: int,
            accumulate: int = 0) -> npt.NDArray[Any]:
    def seen(a: npt.NDArray[Any], *steps: int) -> npt.NDArray[Any]:
        return np.lib.stride_tricks.as_strided(a.reshape(-1), (B, n1, n2, n3, n4), [s * a.itemsize for s in steps])
    from_, to = seen(x, xb, x1, x2, x3, x4), seen(out, yb, y1, y2, y3, y4)
    to[...] = to + from_ if accumulate else from_
    return out


# over the middle axis, and rows of a table

def reduce_sum(x: Floats, out: Floats, scale: float = 1.0) -> Floats:
    return _write(out, scale * x.sum(1))


def spread(dy: Floats, out: Floats, scale: float = 1.0) -> Floats:
    return _write(out, scale * dy[:, None])


def reduce_max(x: Floats, out: Floats, place: Int64) -> Floats:
    place[...] = x.argmax(1)
    return _write(out, x.max(1))


def reduce_max_backward(dy: Floats, place: Int64, out: Floats) -> Floats:
    return _write(out, np.where(np.arange(out.shape[1])[:, None] == place[:, None], dy[:, None], 0))


def embedding(table: Floats, rows: Int64, out: Floats) -> Floats:
    return _write(out, table[rows])


def embedding_backward(dy: Floats, rows: Int64, dtable: Floats, padding: int = -1, accumulate: int = 0, marks: int = -1,
                       each: int = 1) -> Floats:
    if not accumulate:
        dtable[...] = 0
    np.add.at(dtable, rows[rows != padding], dy[rows != padding])
    return dtable


def scale_columns(x: Floats, scale: Floats, out: Floats) -> Floats:
    return _write(out, x * scale)


def prelu(x: Floats, slope: Floats, out: Floats) -> Floats:
    return _write(out, np.where(x < 0, slope * x, x))


def prelu_backward(dy: Floats, x: Floats, slope: Floats, out: Floats, by_slope: Floats) -> None:
    _write(by_slope, np.where(x > 0, 0, dy * x))
    _write(out, np.where(x > 0, dy, slope * dy))


def periodic(x: Floats, frequency: Floats, phase: Floats, weight: Floats, bias: Floats, out: Floats) -> Floats:
    waves = np.cos(2 * np.pi * frequency * x[..., None] + phase)
    return _write(out, np.einsum("rck,ckd->rcd", waves, weight) + bias)


def periodic_backward(dy: Floats, x: Floats, frequency: Floats, phase: Floats, weight: Floats, dfrequency: Floats,
                      dphase: Floats, dweight: Floats, dbias: Floats, dx: Floats | None = None, more_frequency: int = 0,
                      more_phase: int = 0, more_weight: int = 0, more_bias: int = 0) -> None:
    angle = 2 * np.pi * frequency * x[..., None] + phase
    by_phase = -np.sin(angle) * np.einsum("rcd,ckd->rck", dy, weight)
    if dx is not None:
        _write(dx, (by_phase * 2 * np.pi * frequency).sum(2))
    for out, more, value in ((dfrequency, more_frequency, (by_phase * 2 * np.pi * x[..., None]).sum(0)),
                             (dphase, more_phase, by_phase.sum(0)), (dbias, more_bias, dy.sum(0)),
                             (dweight, more_weight, np.einsum("rck,rcd->ckd", np.cos(angle), dy))):
        _write(out, value + out if more else value)


def piecewise_linear(x: Floats, low: Floats, slope: Floats, out: Floats) -> Floats:
    return _write(out, np.clip((x[..., None] - low) * slope, 0, 1))


def piecewise_linear_backward(dy: Floats, x: Floats, low: Floats, slope: Floats, dx: Floats) -> Floats:
    t = (x[..., None] - low) * slope
    return _write(dx, np.where((t > 0) & (t < 1), dy * slope, 0).sum(2))


def weighted_mean(a: Floats, b: Floats, out: Floats, wa: float, wb: float) -> Floats:
    return _write(out, wa * a + wb * b)


def squared_norm(x: Floats) -> float:
    return float(np.square(x, dtype=np.float64).sum())


def check_finite(x: Floats, suspected: int = 0) -> None:
    if not np.isfinite(x).all():
        raise FloatingPointError("check_finite: x has what is not finite")


def column_sum(x: Floats, out: Floats, accumulate: int = 0) -> Floats:
    return _write(out, x.sum(0) + (out if accumulate else 0))


# rows of sources

def gather_rows(out: Floats, source: int, sources: Sequence[npt.NDArray[Any]], index: Int64 | None = None) -> Floats:
    rows = slice(len(out)) if index is None else index
    return _write(out, sources[source][rows].reshape(out.shape))


def gather(out: Floats, source: int, sources: Sequence[npt.NDArray[Any]], index: Int64 | None = None) -> Floats:
    return gather_rows(out, source, sources, index)


def gather_integers(out: Int64, source: int, low: int, high: int, sources: Sequence[npt.NDArray[Any]],
                    index: Int64 | None = None) -> Int64:
    rows = sources[source][slice(len(out)) if index is None else index].reshape(out.shape)
    if np.any((rows < low) | (rows >= high)):
        raise ValueError("gather_integers: a value is outside its range")
    out[...] = rows
    return out


# norms

def _affine(h: Floats, gamma: Floats | None, beta: Floats | None, out: Floats) -> Floats:
    return _write(out, h * (1 if gamma is None else gamma) + (0 if beta is None else beta))


def layer_norm(x: Floats, out: Floats, mean: Floats, rstd: Floats, gamma: Floats | None = None, beta: Floats | None = None,
               eps: float = 1e-5) -> Floats:
    mean[...] = x.mean(1)
    rstd[...] = 1 / np.sqrt(x.var(1) + eps)
    return _affine((x - mean[:, None]) * rstd[:, None], gamma, beta, out)


def _norm_backward(axis: int, dy: Floats, h: Floats, gamma: Floats | None, rstd: Floats, out: Floats,
                   dgamma: Floats | None, dbeta: Floats | None, more: int, more_beta: int) -> Floats:
    if dgamma is not None:
        dgamma[...] = (dy * h).sum(0) + (dgamma if more else 0)
    if dbeta is not None:
        dbeta[...] = dy.sum(0) + (dbeta if more_beta else 0)
    g = dy if gamma is None else dy * gamma
    return _write(out, rstd * (g - g.mean(axis, keepdims=True) - h * (g * h).mean(axis, keepdims=True)))


def layer_norm_backward(dy: Floats, x: Floats, mean: Floats, rstd: Floats, out: Floats, gamma: Floats | None = None,
                        dgamma: Floats | None = None, dbeta: Floats | None = None,
                        more: int = 0, more_beta: int = 0) -> Floats:
    h = (x - mean[:, None]) * rstd[:, None]
    return _norm_backward(1, dy, h, gamma, rstd[:, None], out, dgamma, dbeta, more, more_beta)


def _normed(h: Floats, gamma: Floats | None, beta: Floats | None, out: Floats | None, pooled: Floats | None, activation: int,
            alpha: float, scale: float) -> None:
    y = _affine(h, gamma, beta, np.empty_like(h))
    globals()["activation"](y, y, activation, alpha)
    if out is not None:
        _write(out, y)
    if pooled is not None:
        _write(pooled, scale * y.reshape(len(pooled), -1, y.shape[1]).sum(1))


def batch_norm(x: Floats, mean: Floats, rstd: Floats, out: Floats | None = None, pooled: Floats | None = None,
               gamma: Floats | None = None, beta: Floats | None = None, batch_mean: Floats | None = None,
               batch_var: Floats | None = None, activation: int = 0, eps: float = 1e-5, alpha: float = 0.0,
               scale: float = 1.0) -> None:
    mean[...] = x.mean(0)
    rstd[...] = 1 / np.sqrt(x.var(0) + eps)
    if batch_mean is not None:
        batch_mean[...] = mean
    if batch_var is not None:
        batch_var[...] = x.var(0) * len(x) / max(1, len(x) - 1)
    _normed((x - mean) * rstd, gamma, beta, out, pooled, activation, alpha, scale)


def batch_norm_inference(x: Floats, running_mean: Floats, running_var: Floats, out: Floats | None = None,
                         pooled: Floats | None = None, rstd: Floats | None = None, gamma: Floats | None = None,
                         beta: Floats | None = None, activation: int = 0, eps: float = 1e-5, alpha: float = 0.0,
                         scale: float = 1.0) -> None:
    if rstd is not None:
        rstd[...] = 1 / np.sqrt(running_var + eps)
    _normed((x - running_mean) / np.sqrt(running_var + eps), gamma, beta, out, pooled, activation, alpha, scale)


def batch_norm_backward(dy: Floats, x: Floats, mean: Floats, rstd: Floats, out: Floats, gamma: Floats | None = None,
                        beta: Floats | None = None, dgamma: Floats | None = None, dbeta: Floats | None = None,
                        more: int = 0, more_beta: int = 0, activation: int = 0, constant: int = 0,
                        scale: float = 1.0) -> Floats:
    h = (x - mean) * rstd
    if len(dy) < len(x):
        dy = np.repeat(scale * dy, len(x) // len(dy), 0)
    if activation:
        dy = activation_backward(dy, _affine(h, gamma, beta, np.empty_like(h)), np.empty_like(h), activation)
    by_x = dy * rstd * (1 if gamma is None else gamma)      # before out, which may be dy
    _norm_backward(0, dy, h, gamma, rstd, out, dgamma, dbeta, more, more_beta)
    return _write(out, by_x) if constant else out


# images, channels last: B samples, C and O channels, G groups

def _patches(x: Floats, Ho: int, Wo: int, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int, dh: int, dw: int) -> Floats:
    """(B, H, W, C) -> (B, Ho, kh, Wo, kw, C): what each tap reads, 0 outside of the image."""
    for axis, (n, k, s, p, d) in ((1, (Ho, kh, sh, ph, dh)), (3, (Wo, kw, sw, pw, dw))):
        at = np.arange(n)[:, None] * s - p + np.arange(k) * d
        inside = (at >= 0) & (at < x.shape[axis])
        x = np.take(x, np.where(inside, at, 0), axis)
        x = np.where(inside.reshape(inside.shape + (1,) * (x.ndim - axis - 2)), x, 0)
    return x


def _unpatched(patches: Floats, H: int, W: int, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int, dh: int, dw: int) -> Floats:
    """The sum of what each tap gives each pixel: _patches, transposed."""
    B, Ho, _, Wo, _, C = patches.shape
    out = np.zeros((B, H, W, C), patches.dtype)
    for h in range(Ho):
        for w in range(Wo):
            for i in range(kh):
                for j in range(kw):
                    y, z = h * sh - ph + i * dh, w * sw - pw + j * dw
                    if 0 <= y < H and 0 <= z < W:
                        out[:, y, z] += patches[:, h, i, w, j]
    return out


def _image(x: Floats, B: int, H: int, W: int, C: int, xb: int, xh: int, xw: int, xc: int) -> Floats:
    return np.lib.stride_tricks.as_strided(x, (B, H, W, C), tuple(s * x.itemsize for s in (xb, xh, xw, xc)))


def _of_panels(panels: Floats, taps: int, columns: int) -> Floats:
    """(G, Q, R, N) -> (G, taps, R / taps, columns)"""
    G, Q, R, N = panels.shape
    return panels.reshape(G, Q, taps, R // taps, N).transpose(0, 2, 3, 1, 4).reshape(G, taps, R // taps, Q * N)[..., :columns]


def conv_panels(weight: Floats, out: Floats, transposed: int = 0) -> Floats:
    G, Q, R, N = out.shape
    O, I, K = weight.shape      # noqa: E741 - the schema's letters
    w = weight.reshape(G, O // G, I, K)
    w = w.transpose(0, 3, 1, 2) if transposed else w.transpose(0, 3, 2, 1)
    w = np.pad(w.reshape(G, R, -1), ((0, 0), (0, 0), (0, Q * N - w.shape[-1])))
    return _write(out, w.reshape(G, R, Q, N).transpose(0, 2, 1, 3))


def conv2d(x: Floats, panels: Floats, out: Floats, C: int, H: int, W: int, xb: int, xc: int, xh: int, xw: int, kh: int, kw: int,
           sh: int = 1, sw: int = 1, ph: int = 0, pw: int = 0, dh: int = 1, dw: int = 1, activation: int = 0, alpha: float = 0.0,
           beta: float = 0.0, bias: Floats | None = None) -> Floats:
    B, Ho, Wo, O = out.shape        # noqa: E741
    G = len(panels)
    p = _patches(_image(x, B, H, W, C, xb, xh, xw, xc), Ho, Wo, kh, kw, sh, sw, ph, pw, dh, dw)
    w = _of_panels(panels, kh * kw, O // G).reshape(G, kh, kw, C // G, O // G)
    y = np.einsum("bhiwjgc,gijco->bhwgo", p.reshape(*p.shape[:5], G, C // G), w).reshape(out.shape)
    y = y + (0 if bias is None else bias)
    return globals()["activation"](y, out, activation, alpha, beta)                       # type: ignore[no-any-return]


def conv_transpose2d(x: Floats, panels: Floats, out: Floats, kh: int, kw: int, sh: int = 1, sw: int = 1, ph: int = 0, pw: int = 0,
                     dh: int = 1, dw: int = 1, activation: int = 0, alpha: float = 0.0, beta: float = 0.0,
                     bias: Floats | None = None, saved: Floats | None = None) -> Floats:
    (_, H, W, C), G = out.shape, len(panels)
    w = _of_panels(panels, kh * kw, C // G).reshape(G, kh, kw, -1, C // G)
    p = np.einsum("bhwgo,gijoc->bhiwjgc", x.reshape(*x.shape[:3], G, x.shape[3] // G), w)
    y = _unpatched(p.reshape(*p.shape[:5], C), H, W, kh, kw, sh, sw, ph, pw, dh, dw) + (0 if bias is None else bias)
    if saved is not None:
        return globals()["activation_backward"](y, saved, out, activation, alpha, beta)       # type: ignore[no-any-return]
    return globals()["activation"](y, out, activation, alpha, beta)                           # type: ignore[no-any-return]


def conv2d_by_weight(x: Floats, dy: Floats, dweight: Floats, sums: Floats, C: int, H: int, W: int, G: int, Q: int, R: int, N: int,
                     xb: int, xc: int, xh: int, xw: int, kh: int, kw: int, terms: int, sh: int = 1, sw: int = 1,
                     ph: int = 0, pw: int = 0, dh: int = 1, dw: int = 1, more: int = 0, more_bias: int = 0,
                     db: Floats | None = None) -> Floats:
    B, Ho, Wo, O = dy.shape     # noqa: E741
    p = _patches(_image(x, B, H, W, C, xb, xh, xw, xc), Ho, Wo, kh, kw, sh, sw, ph, pw, dh, dw)
    each = np.einsum("bhiwjgc,bhwgo->goijc", p.reshape(*p.shape[:5], G, C // G), dy.reshape(B, Ho, Wo, G, O // G))
    by_bias = dy.sum((0, 1, 2))
    w = each.reshape(G, O // G, R).transpose(0, 2, 1)
    w = np.pad(w, ((0, 0), (0, 0), (0, Q * N - w.shape[-1])))
    sums[...] = np.concatenate([w.reshape(G, R, Q, N).transpose(0, 2, 1, 3).ravel(), by_bias])
    if db is not None:
        db[...] = by_bias + (db if more_bias else 0)
    value = each.transpose(0, 1, 4, 2, 3).reshape(dweight.shape)
    return _write(dweight, value + (dweight if more else 0))


def max_pool2d(x: Floats, out: Floats, kh: int, kw: int, sh: int = 1, sw: int = 1, ph: int = 0, pw: int = 0, dh: int = 1,
               dw: int = 1, place: npt.NDArray[np.uint8] | None = None) -> Floats:
    inside = np.ones_like(x)
    each, there = (_patches(a, out.shape[1], out.shape[2], kh, kw, sh, sw, ph, pw, dh, dw) for a in (x, inside))
    at = np.full(out.shape, -1)
    for i in range(kh):
        for j in range(kw):
            v = each[:, :, i, :, j]
            more = (there[:, :, i, :, j] > 0) & ((at < 0) | (v > out) | np.isnan(v))
            out[...], at = np.where(more, v, out), np.where(more, i * kw + j, at)
    if place is not None:
        place[...] = at
    return out


def max_pool2d_backward(dy: Floats, place: npt.NDArray[np.uint8], out: Floats, kh: int, kw: int, sh: int = 1, sw: int = 1,
                        ph: int = 0, pw: int = 0, dh: int = 1, dw: int = 1, activation: int = 0, alpha: float = 0.0,
                        beta: float = 0.0, saved: Floats | None = None) -> Floats:
    if saved is not None:
        dy = globals()["activation_backward"](dy, saved, np.empty_like(dy), activation, alpha, beta)
    taps = np.arange(kh * kw).reshape(kh, 1, kw, 1)
    p = np.where(place[:, :, None, :, None] == taps, dy[:, :, None, :, None], 0)
    return _write(out, _unpatched(p, out.shape[1], out.shape[2], kh, kw, sh, sw, ph, pw, dh, dw))


def _means(n: int, windows: int, k: int, s: int, p: int, adaptive: int) -> Floats:
    """(windows, n): 1 where a window has that place"""
    i = np.arange(windows)[:, None]
    begin, end = (i * n // windows, -(-(i + 1) * n // windows)) if adaptive else (i * s - p, i * s - p + k)
    at = np.arange(n)
    return np.asarray((at >= begin) & (at < end)).astype(np.float64)


def _divided(x: Floats, Ho: int, Wo: int, kh: int, kw: int, sh: int, sw: int, ph: int, pw: int, include: int,
             adaptive: int, divisor: int) -> tuple[Floats, Floats]:
    """The share of each place in each window: of rows, of columns."""
    rows, columns = _means(x.shape[1], Ho, kh, sh, ph, adaptive), _means(x.shape[2], Wo, kw, sw, pw, adaptive)
    if divisor:
        return rows / divisor, columns
    if include:     # what is padding counts, but nothing beyond it
        tall, wide = (np.minimum(k, n + 2 * p - s * np.arange(windows))[:, None] for windows, n, k, s, p in (
            (Ho, x.shape[1], kh, sh, ph), (Wo, x.shape[2], kw, sw, pw)))
        return rows / tall, columns / wide
    return rows / rows.sum(1, keepdims=True), columns / columns.sum(1, keepdims=True)


def avg_pool2d(x: Floats, out: Floats, kh: int = 0, kw: int = 0, sh: int = 1, sw: int = 1, ph: int = 0, pw: int = 0,
               include: int = 0, adaptive: int = 0, divisor: int = 0) -> Floats:
    rows, columns = _divided(x, out.shape[1], out.shape[2], kh, kw, sh, sw, ph, pw, include, adaptive, divisor)
    return _write(out, np.einsum("hy,wz,byzc->bhwc", rows, columns, x))


def avg_pool2d_backward(dy: Floats, out: Floats, kh: int = 0, kw: int = 0, sh: int = 1, sw: int = 1, ph: int = 0, pw: int = 0,
                        include: int = 0, adaptive: int = 0, divisor: int = 0) -> Floats:
    rows, columns = _divided(out, dy.shape[1], dy.shape[2], kh, kw, sh, sw, ph, pw, include, adaptive, divisor)
    return _write(out, np.einsum("hy,wz,bhwc->byzc", rows, columns, dy))


def _diagonal(weight: Floats) -> Floats:
    """The kernel of a depthwise convolution (K, C) as panels of groups of one channel."""
    K, C = weight.shape
    return np.ascontiguousarray(weight.T.reshape(C, 1, K, 1))


def depthwise2d(x: Floats, weight: Floats, out: Floats, kh: int, kw: int, sh: int = 1, sw: int = 1, ph: int = 0, pw: int = 0,
                dh: int = 1, dw: int = 1, activation: int = 0, alpha: float = 0.0, beta: float = 0.0,
                bias: Floats | None = None) -> Floats:
    _, H, W, C = x.shape
    return conv2d(x, _diagonal(weight), out, C, H, W, H * W * C, 1, W * C, C, kh, kw, sh, sw, ph, pw, dh, dw, activation, alpha,
                  beta, bias)


def depthwise_transpose2d(x: Floats, weight: Floats, out: Floats, kh: int, kw: int, sh: int = 1, sw: int = 1, ph: int = 0,
                          pw: int = 0, dh: int = 1, dw: int = 1, activation: int = 0, alpha: float = 0.0, beta: float = 0.0,
                          bias: Floats | None = None, saved: Floats | None = None) -> Floats:
    return conv_transpose2d(x, _diagonal(weight), out, kh, kw, sh, sw, ph, pw, dh, dw, activation, alpha, beta, bias, saved)


def depthwise2d_by_weight(x: Floats, dy: Floats, dweight: Floats, kh: int, kw: int, terms: int, sh: int = 1, sw: int = 1,
                          ph: int = 0, pw: int = 0, dh: int = 1, dw: int = 1) -> Floats:
    p = _patches(x, dy.shape[1], dy.shape[2], kh, kw, sh, sw, ph, pw, dh, dw)
    return _write(dweight, np.einsum("bhiwjc,bhwc->ijc", p, dy).reshape(dweight.shape))


def _between(n: int, m: int, bilinear: int, align: int) -> Floats:
    """(m, n): the share that each of n places has in each of m."""
    shares = np.zeros((m, n))
    for i in range(m):
        if not bilinear:
            shares[i, i * n // m] = 1
            continue
        at = i * (n - 1) / max(m - 1, 1) if align else max(0.0, (i + 0.5) * n / m - 0.5)
        lo = int(at)
        shares[i, lo] += 1 - (at - lo)
        shares[i, min(lo + 1, n - 1)] += at - lo
    return shares


def upsample2d(x: Floats, out: Floats, bilinear: int = 0, align: int = 0) -> Floats:
    rows, columns = (_between(x.shape[a], out.shape[a], bilinear, align) for a in (1, 2))
    return _write(out, np.einsum("hy,wz,byzc->bhwc", rows, columns, x))


def upsample2d_backward(dy: Floats, out: Floats, bilinear: int = 0, align: int = 0) -> Floats:
    rows, columns = (_between(out.shape[a], dy.shape[a], bilinear, align) for a in (1, 2))
    return _write(out, np.einsum("hy,wz,bhwc->byzc", rows, columns, dy))


def group_norm(x: Floats, out: Floats, mean: Floats, rstd: Floats, gamma: Floats | None = None, beta: Floats | None = None,
               eps: float = 1e-5) -> Floats:
    (B, P, C), G = x.shape, mean.shape[1]
    groups = x.reshape(B, P, G, C // G)
    mean[...] = groups.mean((1, 3))
    rstd[...] = 1 / np.sqrt(groups.var((1, 3)) + eps)
    return _affine(((groups - mean[:, None, :, None]) * rstd[:, None, :, None]).reshape(x.shape), gamma, beta, out)


def group_norm_backward(dy: Floats, x: Floats, mean: Floats, rstd: Floats, out: Floats, gamma: Floats | None = None,
                        dgamma: Floats | None = None, dbeta: Floats | None = None, more: int = 0, more_beta: int = 0) -> Floats:
    (B, P, C), G = x.shape, mean.shape[1]
    s = rstd[:, None, :, None]
    h = (x.reshape(B, P, G, C // G) - mean[:, None, :, None]) * s
    if dgamma is not None:
        dgamma[...] = (dy * h.reshape(x.shape)).sum((0, 1)) + (dgamma if more else 0)
    if dbeta is not None:
        dbeta[...] = dy.sum((0, 1)) + (dbeta if more_beta else 0)
    g = (dy if gamma is None else dy * gamma).reshape(h.shape)
    dx = s * (g - g.mean((1, 3), keepdims=True) - h * (g * h).mean((1, 3), keepdims=True))
    return _write(out, dx.reshape(x.shape))


def rms_norm(x: Floats, out: Floats, rstd: Floats, gamma: Floats | None = None, eps: float = 1e-5) -> Floats:
    rstd[...] = 1 / np.sqrt((x * x).mean(1) + eps)
    return _affine(x * rstd[:, None], gamma, None, out)


def rms_norm_backward(dy: Floats, x: Floats, rstd: Floats, out: Floats, gamma: Floats | None = None,
                      dgamma: Floats | None = None, sums: Floats | None = None, more: int = 0) -> Floats:
    h = x * rstd[:, None]
    by_gamma = (dy * h).sum(0)
    if more and sums is not None:
        sums[...] = by_gamma
    if dgamma is not None:
        dgamma[...] = by_gamma + (dgamma if more else 0)
    g = dy if gamma is None else dy * gamma
    return _write(out, rstd[:, None] * (g - h * (g * h).mean(1, keepdims=True)))


# dropout

def dropout(x: Floats, out: Floats, rate: float = 0.0, layer: int = 0, seed: int = 0, step: int = 0, index: Int64 | None = None,
            first_id: int = 0, rates: Floats | None = None) -> Floats:
    if rates is not None:
        rate = float(rates[1:][min(max(step - int(rates[0]), 0), len(rates) - 2)])
    if rate == 1:
        return _write(out, 0)
    ids = first_id + np.arange(len(x), dtype=np.int64) if index is None else index
    key = splitmix(np.array([seed], np.uint64))
    for word in (np.array([step], np.uint64), np.array([layer], np.uint64), ids.view(np.uint64)):
        key = splitmix(key + word)
    return _write(out, np.where(hashes(key, x.shape[1]) >= np.uint32(rate * 2**32), x / (1 - rate), 0))


def _normals(shape: tuple[int, ...], layer: int, seed: int, step: int, index: Int64 | None, first_id: int) -> Floats:
    R, C = shape
    ids = first_id + np.arange(R, dtype=np.int64) if index is None else index
    key = splitmix(np.array([seed], np.uint64))
    for word in (np.array([step], np.uint64), np.array([layer], np.uint64), ids.view(np.uint64)):
        key = splitmix(key + word)
    half = (C + 1) // 2
    draws = hashes(key, 2 * half).astype(np.float64)
    radius, turn = np.sqrt(-2 * np.log((draws[:, ::2] + 1) / 2**32)), 2 * np.pi * (draws[:, 1::2] / 2**32 - 0.5)
    return np.hstack([radius * np.cos(turn), radius * np.sin(turn)])[:, :C]


def normal_noise(x: Floats, out: Floats, log_variance: Floats | None = None, deviation: float = 1.0, layer: int = 0,
                 seed: int = 0, step: int = 0, index: Int64 | None = None, first_id: int = 0) -> Floats:
    z = deviation * _normals(x.shape, layer, seed, step, index, first_id)
    return _write(out, x + (z if log_variance is None else z * np.exp(log_variance / 2)))


def normal_noise_backward(dy: Floats, log_variance: Floats, out: Floats, deviation: float = 1.0, layer: int = 0, seed: int = 0,
                          step: int = 0, index: Int64 | None = None, first_id: int = 0) -> Floats:
    z = deviation * _normals(dy.shape, layer, seed, step, index, first_id)
    return _write(out, dy * z * np.exp(log_variance / 2) / 2)


# optimizers: one update of p by g, with the rule's state and numbers (schema.RULES); t: number of the update, from 1

def sgd(p: Floats, g: Floats, t: int, momentum_buffer: Floats | None = None, *, lr: float, momentum: float, nesterov: float,
        weight_decay: float) -> Floats:
    d = g + weight_decay * p
    if momentum and momentum_buffer is not None:
        momentum_buffer[...] = momentum * momentum_buffer + d
        d = d + momentum * momentum_buffer if nesterov else momentum_buffer
    return _write(p, p - lr * d)


def adam(p: Floats, g: Floats, t: int, exp_avg: Floats, exp_avg_sq: Floats, *, lr: float, beta1: float, beta2: float, eps: float,
         weight_decay: float) -> Floats:
    d = g + weight_decay * p
    exp_avg[...] = beta1 * exp_avg + (1 - beta1) * d
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * d * d
    return _write(p, p - lr * (exp_avg / (1 - beta1**t)) / (np.sqrt(exp_avg_sq / (1 - beta2**t)) + eps))


def adamw(p: Floats, g: Floats, t: int, exp_avg: Floats, exp_avg_sq: Floats, *, lr: float, beta1: float, beta2: float, eps: float,
          weight_decay: float) -> Floats:
    p[...] = p * (1 - lr * weight_decay)
    return adam(p, g, t, exp_avg, exp_avg_sq, lr=lr, beta1=beta1, beta2=beta2, eps=eps, weight_decay=0)


def rmsprop(p: Floats, g: Floats, t: int, square_avg: Floats, momentum_buffer: Floats | None = None,
            grad_avg: Floats | None = None, *, lr: float, alpha: float, eps: float, weight_decay: float, momentum: float,
            centered: float) -> Floats:
    d = g + weight_decay * p
    square_avg[...] = alpha * square_avg + (1 - alpha) * d * d
    spread = square_avg
    if centered and grad_avg is not None:
        grad_avg[...] = alpha * grad_avg + (1 - alpha) * d
        spread = np.maximum(square_avg - grad_avg * grad_avg, 0)
    d = d / (np.sqrt(spread) + eps)
    if momentum and momentum_buffer is not None:
        momentum_buffer[...] = momentum * momentum_buffer + d
        d = momentum_buffer
    return _write(p, p - lr * d)


def nadam(p: Floats, g: Floats, t: int, exp_avg: Floats, exp_avg_sq: Floats, *, lr: float, beta1: float, beta2: float, eps: float,
          weight_decay: float, decoupled: float, mu: float, mu_next: float, mu_product: float) -> Floats:
    p, d = _decayed(p, g, lr, weight_decay, decoupled)
    exp_avg[...] = beta1 * exp_avg + (1 - beta1) * d
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * d * d
    step = (1 - mu) / (1 - mu_product) * d + mu_next / (1 - mu_product * mu_next) * exp_avg
    return _write(p, p - lr * step / (np.sqrt(exp_avg_sq / (1 - beta2**t)) + eps))


def radam(p: Floats, g: Floats, t: int, exp_avg: Floats, exp_avg_sq: Floats, *, lr: float, beta1: float, beta2: float, eps: float,
          weight_decay: float, decoupled: float) -> Floats:
    p, d = _decayed(p, g, lr, weight_decay, decoupled)
    exp_avg[...] = beta1 * exp_avg + (1 - beta1) * d
    exp_avg_sq[...] = beta2 * exp_avg_sq + (1 - beta2) * d * d
    m, most = exp_avg / (1 - beta1**t), 2 / (1 - beta2) - 1
    r = most - 2 * t * beta2**t / (1 - beta2**t)
    if r > 5:
        rect = np.sqrt((r - 4) * (r - 2) * most / ((most - 4) * (most - 2) * r))
        m = m * rect * np.sqrt(1 - beta2**t) / (np.sqrt(exp_avg_sq) + eps)
    return _write(p, p - lr * m)


def _decayed(p: Floats, g: Floats, lr: float, weight_decay: float, decoupled: float) -> tuple[Floats, Floats]:
    """The parameters and the gradient, one of them with the decay."""
    if decoupled:
        p[...] = p * (1 - lr * weight_decay)
        return p, g
    return p, g + weight_decay * p


def adagrad(p: Floats, g: Floats, t: int, sum: Floats, *, lr: float, lr_decay: float, eps: float, weight_decay: float,
            initial: float) -> Floats:
    d = g + weight_decay * p
    sum[...] = (initial if t == 1 else 0) + sum + d * d
    return _write(p, p - lr / (1 + (t - 1) * lr_decay) * d / (np.sqrt(sum) + eps))


def lion(p: Floats, g: Floats, t: int, exp_avg: Floats, *, lr: float, beta1: float, beta2: float, weight_decay: float) -> Floats:
    _write(p, p * (1 - lr * weight_decay) - lr * np.sign(beta1 * exp_avg + (1 - beta1) * g))
    exp_avg[...] = beta2 * exp_avg + (1 - beta2) * g
    return p
