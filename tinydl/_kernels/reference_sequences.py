"""The operations over sequences in plain NumPy, as reference.py: a sample after the other, a step after the other."""
# B samples, L steps, H units, G gates
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from tinydl._kernels.schema import ACTIVATIONS

Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _clear(H: int, column: int, *arrays: Floats | None, wide: tuple[Floats | None, ...] = ()) -> None:
    for a in arrays:
        if a is not None:
            a[...] = 0
    for a in wide:
        if a is not None:
            a[..., column:column + H] = 0


def _walk(x: Floats, lengths: Int64 | None, reverse: int) -> Iterator[tuple[int, list[int]]]:
    """Each sample and its steps in order."""
    for b in range(len(x)):
        steps = range(x.shape[1] if lengths is None else int(lengths[b]))
        yield b, list(reversed(steps) if reverse else steps)


def _check(x: Floats, lengths: Int64 | None) -> None:
    if lengths is not None and np.any((lengths < 0) | (lengths > x.shape[1])):
        raise ValueError("a length is outside its range")


def mask_steps(x: Floats, lengths: Int64, out: Floats, stride: int = 1, blank: int = -1) -> Floats:
    L, C = x.shape[1:]
    if np.any((lengths < 0) | (lengths > L * stride)):
        raise ValueError("a length is outside its range")
    beyond = 0.0 if blank < 0 else np.where(np.arange(C) == blank, 0, -1e30)
    out[...] = np.where((np.arange(L) * stride < lengths[:, None])[..., None], x, beyond)
    return out


def ctc(logits: Floats, labels: Int64, weights: Floats | None = None, grad: Floats | None = None, blank: int = 0,
        zero_infinity: int = 0) -> float:
    """By the probabilities of all paths to a state, and from it on."""
    B, L, C = logits.shape
    if np.any((labels >= C) | (labels == blank)):
        raise ValueError("a label is outside its range")
    w = np.ones(B) if weights is None else weights
    share, total = w / (w.sum() or 1.0), 0.0
    for b in range(B):
        certain = [row[blank] == 0 and bool((np.delete(row, blank) < -1e29).all()) for row in logits[b]]
        steps = L - next((n for n, one in enumerate(reversed(certain)) if not one), L)
        own = labels[b, :next((n for n, label in enumerate(labels[b]) if label < 0), L)]
        loss, slope = _ctc_sample(logits[b, :steps], own, blank) if share[b] else (0.0, np.zeros((steps, C)))
        scale = share[b] / max(len(own), 1)
        if loss == np.inf:
            loss, slope = 0.0 if zero_infinity else loss, np.zeros((steps, C))
        total += scale * loss if scale else 0.0
        if grad is not None:
            grad[b] = 0
            grad[b, :steps] = scale * slope
    return float(total)


def _ctc_sample(x: Floats, labels: Int64, blank: int) -> tuple[float, Floats]:
    """-log of the sum over all paths, and its gradient."""
    T, S = len(x), 2 * len(labels) + 1
    states = np.full(S, blank)
    states[1::2] = labels
    log_p = x - np.logaddexp.reduce(x, axis=1, keepdims=True)
    log_p[log_p < -1e29] = -np.inf
    skips = [s > 1 and s % 2 == 1 and states[s] != states[s - 2] for s in range(S)]

    def to(s: int) -> list[int]:
        return [p for p in ((s, s - 1, s - 2) if skips[s] else (s, s - 1)) if p >= 0]
    a, b = np.full((T + 1, S), -np.inf), np.full((T + 1, S), -np.inf)
    a[0, 0] = 0     # before the first step: as if in the first state, from where one may also go to the second
    b[T, -2:] = 0
    for t in range(T):
        for s in range(S):
            a[t + 1, s] = np.logaddexp.reduce(a[t, to(s)]) + log_p[t, states[s]]
    for t in reversed(range(1, T)):
        for s in range(S):
            b[t, s] = np.logaddexp.reduce([b[t + 1, n] + log_p[t, states[n]] for n in range(S) if s in to(n)])
    total = np.logaddexp.reduce(a[T] + b[T])
    slope = np.exp(log_p)
    if np.isfinite(total):
        for t in range(T):
            np.add.at(slope[t], states, -np.exp(a[t + 1] + b[t + 1] - total))
    return -float(total), slope


def crf(logits: Floats, labels: Int64, weights: Floats | None = None, grad: Floats | None = None,
        ignore_index: int = -100) -> float:
    """By the sums over all ways to come to a pair of tags, and to go on."""
    B, L, C, _ = logits.shape
    counts = [next((n for n, tag in enumerate(row) if tag == ignore_index), L) for row in labels]
    for row, n in zip(labels, counts, strict=True):
        if np.any((row[:n] < 0) | (row[:n] >= C)):
            raise ValueError("a label is outside its range")
    w = np.ones(B) if weights is None else weights
    divisor, total = float((w * counts).sum()) or 1.0, 0.0
    for b, n in enumerate(counts):
        x, tags, slope = logits[b], labels[b], np.zeros((L, C, C))
        if n and w[b]:
            a, after = np.zeros((n, C)), np.zeros((n, C))
            a[0] = x[0, 0]
            for t in range(1, n):
                a[t] = np.logaddexp.reduce(a[t - 1][:, None] + x[t])
            for t in range(n - 1, 0, -1):
                after[t - 1] = np.logaddexp.reduce(x[t] + after[t], axis=1)
            all_ways = np.logaddexp.reduce(a[-1])
            slope[0, 0] = np.exp(a[0] + after[0] - all_ways)
            slope[0, 0, tags[0]] -= 1
            score = x[0, 0, tags[0]]
            for t in range(1, n):
                slope[t] = np.exp(a[t - 1][:, None] + x[t] + after[t] - all_ways)
                slope[t, tags[t - 1], tags[t]] -= 1
                score += x[t, tags[t - 1], tags[t]]
            total += w[b] / divisor * (all_ways - score)
        if grad is not None:
            grad[b] = w[b] / divisor * slope
    return float(total)


def pool_steps(x: Floats, out: Floats, lengths: Int64 | None = None, mean: int = 0) -> Floats:
    _check(x, lengths)
    for b, steps in _walk(x, lengths, 0):
        out[b] = 0 if not steps else x[b, steps].mean(0) if mean else x[b, steps[-1]]
    return out


def pool_steps_backward(dy: Floats, out: Floats, lengths: Int64 | None = None, mean: int = 0) -> Floats:
    _check(out, lengths)
    out[...] = 0
    for b, steps in _walk(out, lengths, 0):
        for t in steps if mean else steps[-1:]:
            out[b, t] = dy[b] / len(steps) if mean else dy[b]
    return out


def embedding_bag(table: Floats, rows: Int64, out: Floats, padding: int = -1, mean: int = 0) -> Floats:
    if np.any((rows < 0) | (rows >= len(table))):
        raise ValueError("a row is outside its range")
    for r, bag in enumerate(rows):
        own = table[bag[bag != padding]]
        out[r] = own.sum(0) / (max(1, len(own)) if mean else 1)
    return out


def embedding_bag_backward(dy: Floats, rows: Int64, dtable: Floats, padding: int = -1, mean: int = 0,
                           accumulate: int = 0, marks: int = -1, each: int = 1) -> Floats:
    if not accumulate:
        dtable[...] = 0
    for r, bag in enumerate(rows):
        own = bag[bag != padding]
        np.add.at(dtable, own, dy[r] / (max(1, len(own)) if mean else 1))
    return dtable


def _forward(step: Any, x: Floats, H: int, lengths: Int64 | None, h0: Floats | None, c0: Floats | None, out: Floats | None,
             last: Floats | None, before: Floats | None, column: int, reverse: int) -> None:
    """step(b, t, x, h, c) -> h, c: writes what else a step keeps."""
    own = slice(column, column + H)
    for b, steps in _walk(x, lengths, reverse):
        h, c = (np.zeros(H) if s is None else s[b] for s in (h0, c0))
        for t in steps:
            if before is not None:
                before[b, t] = h
            h, c = step(b, t, x[b, t], h, c)
            if out is not None:
                out[b, t, own] = h
        if last is not None:
            last[b, own] = h


def lstm(x: Floats, w_hh: Floats, gates: Floats, b_hh: Floats | None = None, lengths: Int64 | None = None,
         h0: Floats | None = None, c0: Floats | None = None, out: Floats | None = None, last: Floats | None = None,
         before: Floats | None = None, cells: Floats | None = None, tanhs: Floats | None = None, column: int = 0,
         reverse: int = 0) -> Floats:
    _check(x, lengths)
    H, x = w_hh.shape[1], x.copy()
    _clear(H, column, gates, before, cells, tanhs, wide=(out,))

    def step(b: int, t: int, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
        a: list[Any] = np.split(x + w_hh @ h + (0 if b_hh is None else b_hh), 4)
        i, f, g, o = _sigmoid(a[0]), _sigmoid(a[1]), np.tanh(a[2]), _sigmoid(a[3])
        cell = np.asarray(f * c + i * g)
        gates[b, t] = np.concatenate([i, f, g, o])
        for into, value in ((cells, cell), (tanhs, np.tanh(cell))):
            if into is not None:
                into[b, t] = value
        return np.asarray(o * np.tanh(cell)), cell
    _forward(step, x, H, lengths, h0, c0, out, last, before, column, reverse)
    return gates


def gru(x: Floats, w_hh: Floats, gates: Floats, b_hh: Floats | None = None, lengths: Int64 | None = None,
        h0: Floats | None = None, out: Floats | None = None, last: Floats | None = None, before: Floats | None = None,
        hidden: Floats | None = None, column: int = 0, reverse: int = 0, reset_before: int = 0) -> Floats:
    _check(x, lengths)
    H, x = w_hh.shape[1], x.copy()
    bias = np.zeros(3 * H) if b_hh is None else b_hh
    _clear(H, column, gates, before, hidden, wide=(out,))

    def step(b: int, t: int, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
        r, z = np.split(_sigmoid(x[:2 * H] + w_hh[:2 * H] @ h + bias[:2 * H]), 2)
        a = w_hh[2 * H:] @ (r * h if reset_before else h) + bias[2 * H:]
        n = np.tanh(x[2 * H:] + (a if reset_before else r * a))
        gates[b, t] = np.concatenate([r, z, n])
        if hidden is not None:
            hidden[b, t] = r * h if reset_before else a
        return (1 - z) * n + z * h, c
    _forward(step, x, H, lengths, h0, None, out, last, before, column, reverse)
    return gates


def rnn(x: Floats, w_hh: Floats, gates: Floats, kind: int, b_hh: Floats | None = None, lengths: Int64 | None = None,
        h0: Floats | None = None, out: Floats | None = None, last: Floats | None = None, before: Floats | None = None,
        column: int = 0, reverse: int = 0) -> Floats:
    _check(x, lengths)
    H, x = len(w_hh), x.copy()
    _clear(H, column, gates, before, wide=(out,))

    def step(b: int, t: int, x: Floats, h: Floats, c: Floats) -> tuple[Floats, Floats]:
        a = x + w_hh @ h + (0 if b_hh is None else b_hh)
        gates[b, t] = np.tanh(a) if ACTIVATIONS[kind] == "tanh" else np.maximum(a, 0)
        return gates[b, t], c
    _forward(step, x, H, lengths, h0, None, out, last, before, column, reverse)
    return gates


def _backward(step: Any, gates: Floats, H: int, lengths: Int64 | None, dy: Floats | None, dlast: Floats | None,
              dh0: Floats | None, dc0: Floats | None, column: int, reverse: int) -> None:
    """step(b, t, the step before or None, dh, dc) -> dh, dc of what came before."""
    own = slice(column, column + H)
    for b, steps in _walk(gates, lengths, reverse):
        dh: Any = np.zeros(H) if dlast is None else dlast[b, own]
        dc: Any = np.zeros(H)
        for i in range(len(steps) - 1, -1, -1):
            dh = dh if dy is None else dh + dy[b, steps[i], own]
            dh, dc = step(b, steps[i], steps[i - 1] if i else None, dh, dc)
        for a, value in ((dh0, dh), (dc0, dc)):
            if a is not None:
                a[b] = value


def lstm_backward(gates: Floats, cells: Floats, tanhs: Floats, w_hh: Floats, dgates: Floats, dy: Floats | None = None,
                  dlast: Floats | None = None, lengths: Int64 | None = None, c0: Floats | None = None,
                  dh0: Floats | None = None, dc0: Floats | None = None, column: int = 0, reverse: int = 0) -> Floats:
    _check(gates, lengths)
    H, gates = w_hh.shape[1], gates.copy()
    _clear(H, column, dgates)

    def step(b: int, t: int, before: int | None, dh: Floats, dc: Floats) -> tuple[Floats, Floats]:
        i, f, g, o = np.split(gates[b, t], 4)
        c = cells[b, before] if before is not None else np.zeros(H) if c0 is None else c0[b]
        dc = dc + dh * o * (1 - tanhs[b, t] ** 2)
        dgates[b, t] = np.concatenate([dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g * g),
                                       dh * tanhs[b, t] * o * (1 - o)])
        return dgates[b, t] @ w_hh, dc * f
    _backward(step, gates, H, lengths, dy, dlast, dh0, dc0, column, reverse)
    return dgates


def gru_backward(gates: Floats, before: Floats, hidden: Floats, w_hh: Floats, dgates: Floats, dy: Floats | None = None,
                 dlast: Floats | None = None, lengths: Int64 | None = None, dhidden: Floats | None = None,
                 dh0: Floats | None = None, column: int = 0, reverse: int = 0, reset_before: int = 0) -> Floats:
    _check(gates, lengths)
    H, gates = w_hh.shape[1], gates.copy()
    _clear(H, column, dgates, dhidden)

    def step(b: int, t: int, prior: int | None, dh: Floats, dc: Floats) -> tuple[Floats, Floats]:
        r, z, n = np.split(gates[b, t], 3)
        h, a = before[b, t], hidden[b, t]
        dn, dz = dh * (1 - z) * (1 - n * n), dh * (h - n) * z * (1 - z)
        if reset_before:
            by = dn @ w_hh[2 * H:]
            dr, through = by * h * r * (1 - r), by * r
        else:
            dr, through = dn * a * r * (1 - r), (dn * r) @ w_hh[2 * H:]
            if dhidden is not None:
                dhidden[b, t] = dn * r
        dgates[b, t] = np.concatenate([dr, dz, dn])
        return dgates[b, t, :2 * H] @ w_hh[:2 * H] + through + dh * z, dc
    _backward(step, gates, H, lengths, dy, dlast, dh0, None, column, reverse)
    return dgates


def rnn_backward(gates: Floats, w_hh: Floats, dgates: Floats, kind: int, dy: Floats | None = None, dlast: Floats | None = None,
                 lengths: Int64 | None = None, dh0: Floats | None = None, column: int = 0, reverse: int = 0) -> Floats:
    _check(gates, lengths)
    H, gates = len(w_hh), gates.copy()
    _clear(H, column, dgates)

    def step(b: int, t: int, before: int | None, dh: Floats, dc: Floats) -> tuple[Floats, Floats]:
        h = gates[b, t]
        dgates[b, t] = dh * (1 - h * h if ACTIVATIONS[kind] == "tanh" else h > 0)
        return dgates[b, t] @ w_hh, dc
    _backward(step, gates, H, lengths, dy, dlast, dh0, None, column, reverse)
    return dgates
