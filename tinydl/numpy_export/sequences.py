"""As functions.py, of sequences (B, T, C). lengths (B,): how many steps of each are there; None: all."""
# mypy: disable-error-code="no-untyped-def,no-untyped-call,no-any-return"
import math

import numpy as np

from tinydl.numpy_export.functions import linear, sigmoid, softmax


def present(x, lengths):
    """(B, T): which steps are there."""
    return np.arange(x.shape[1]) < lengths[:, None]


def masked(x, lengths):
    """0 where no step is, whatever lies there."""
    return x if lengths is None else np.where(present(x, lengths)[..., None], x, 0)


def last_step(x, lengths):
    if lengths is None:
        return x[:, -1]
    return np.where(lengths[:, None] > 0, x[np.arange(len(x)), np.maximum(lengths, 1) - 1], 0)


def mean_steps(x, lengths):
    if lengths is None:
        return x.mean(1)
    return masked(x, lengths).sum(1) / np.maximum(lengths, 1)[:, None].astype(x.dtype)


def blank_steps(x, lengths, blank, stride):
    certain = np.where(np.arange(x.shape[2]) == blank, 0, -1e30).astype(x.dtype)
    return np.where((np.arange(x.shape[1]) * stride < lengths[:, None])[..., None], x, certain)


def lstm_step(x, state, w_hh, b_hh):
    """x: its product with w_ih and its bias. The gates are i, f, g, o; the state h, c."""
    h, c = state
    i, f, g, o = np.split(x + linear(h, w_hh.T, b_hh), 4, 1)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return [sigmoid(o) * np.tanh(c), c]


def gru_step(x, state, w_hh, b_hh):
    """The gates are r, z, n; r is multiplied with the product of h."""
    h, = state
    xr, xz, xn = np.split(x, 3, 1)
    hr, hz, hn = np.split(linear(h, w_hh.T, b_hh), 3, 1)
    z, n = sigmoid(xz + hz), np.tanh(xn + sigmoid(xr + hr) * hn)
    return [(1 - z) * n + z * h]


def gru_reset_before_step(x, state, w_hh, b_hh):
    """The gates are r, z, n; r is multiplied with h."""
    h, = state
    n_units = h.shape[1]
    xr, xz, xn = np.split(x, 3, 1)
    hr, hz, _ = np.split(linear(h, w_hh.T, b_hh), 3, 1)
    inner = linear(sigmoid(xr + hr) * h, w_hh[2 * n_units:].T, None if b_hh is None else b_hh[2 * n_units:])
    z, n = sigmoid(xz + hz), np.tanh(xn + inner)
    return [(1 - z) * n + z * h]


def rnn_tanh_step(x, state, w_hh, b_hh):
    return [np.tanh(x + linear(state[0], w_hh.T, b_hh))]


def rnn_relu_step(x, state, w_hh, b_hh):
    return [np.maximum(x + linear(state[0], w_hh.T, b_hh), 0)]


def recurrent(step, x, layers, states, lengths, whole):
    """layers: of each its directions, (w_ih, w_hh, b_ih, b_hh). states: h, and c of an LSTM, (B, layers x directions, H), or
    numbers. whole: the outputs of all steps, else of the last one."""
    x = masked(x, lengths)
    for k, directions in enumerate(layers):
        outputs, last = [], []
        for d, (w_ih, w_hh, b_ih, b_hh) in enumerate(directions):
            each = linear(x, w_ih.T, b_ih)
            nothing = np.zeros((len(x), w_hh.shape[1]), x.dtype)
            state = [s[:, k * len(directions) + d] if np.ndim(s) else nothing for s in states]
            y = np.zeros((*x.shape[:2], w_hh.shape[1]), x.dtype)
            steps = range(x.shape[1])
            for t in reversed(steps) if d else steps:
                after = step(each[:, t], state, w_hh, b_hh)
                if lengths is None:
                    state, y[:, t] = after, after[0]
                else:
                    there = (t < lengths)[:, None]
                    state = [np.where(there, new, old) for new, old in zip(after, state, strict=True)]
                    y[:, t] = np.where(there, after[0], 0)
            outputs.append(y)
            last.append(state[0])
        x = np.concatenate(outputs, 2)
    return x if whole else np.concatenate(last, 1)


def turned(x, base):
    """Columns 2 i and 2 i + 1 of x (B, heads, T, D), in step t, by the angle t base^(-2 i / D)."""
    T, D = x.shape[2:]
    angles = np.arange(T)[:, None] * base ** (-np.arange(0, D, 2) / D)
    cos, sin = np.cos(angles).astype(x.dtype), np.sin(angles).astype(x.dtype)
    a, b = x[..., ::2], x[..., 1::2]
    return np.stack([a * cos - b * sin, a * sin + b * cos], 4).reshape(x.shape)


def dot_product(q, k, v, heads, causal, scale):
    def parts(x):
        return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(0, 2, 1, 3)
    scores = parts(q) @ parts(k).transpose(0, 1, 3, 2) * scale
    if causal:
        scores = np.where(np.tri(q.shape[1], k.shape[1], dtype=bool), scores, np.finfo(q.dtype).min)
    return (softmax(scores) @ parts(v)).transpose(0, 2, 1, 3).reshape(q.shape)


def attention(x, keys, values, lengths, ignored, weights, in_bias, out_weight, out_bias, heads, causal, rotary):
    """keys None: keys and values are x itself. weights: of q, k and v. ignored (B, keys): those where it is not 0 do not count.
    rotary: the base of the angles that q and k are turned by, or None."""
    own = keys is None
    x = masked(x, lengths) if own else x
    k, v = (x, x) if own else (masked(keys, lengths), masked(values, lengths))
    E = x.shape[2]

    def parts(given, i):
        y = linear(given, weights[i].T, None if in_bias is None else in_bias[i * E:(i + 1) * E])
        return y.reshape(*given.shape[:2], heads, E // heads).transpose(0, 2, 1, 3)
    q, k, v = parts(x, 0), parts(k, 1), parts(v, 2)
    if rotary:
        q, k = turned(q, rotary), turned(k, rotary)
    n_keys = k.shape[2]
    allowed = np.ones((len(x), 1, x.shape[1], n_keys), bool)
    if lengths is not None:
        allowed &= (np.arange(n_keys) < lengths[:, None])[:, None, None]
    if ignored is not None:
        allowed &= (ignored == 0)[:, None, None]
    if causal:
        allowed &= np.tri(x.shape[1], n_keys, dtype=bool)
    scores = q @ k.transpose(0, 1, 3, 2) * (1 / math.sqrt(E // heads))
    weights = np.where(allowed, softmax(np.where(allowed, scores, np.finfo(x.dtype).min)), 0)
    y = (weights @ v).transpose(0, 2, 1, 3).reshape(x.shape)
    return linear(masked(y, lengths if own else None), out_weight.T, out_bias)
