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


def mask_steps(x: Floats, lengths: Int64, out: Floats) -> Floats:
    _check(x, lengths)
    out[...] = np.where((np.arange(x.shape[1]) < lengths[:, None])[..., None], x, 0)
    return out


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
