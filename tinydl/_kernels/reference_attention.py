"""Attention in plain NumPy, as reference.py: the whole matrix of weights, a head after the other."""
# B samples, L queries, M keys, N heads of D columns
from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tinydl._kernels.reference_hash import hashes, splitmix

Floats = npt.NDArray[np.floating[Any]]
Int64 = npt.NDArray[np.int64]


def counts(shape: tuple[int, ...], lengths: Int64 | None, ignored: Int64 | None, q_lengths: Int64 | None,
           causal: int) -> npt.NDArray[np.bool_]:
    """(B, L, M): whether a key counts for a query."""
    B, L, M = shape
    for given, most in ((lengths, M), (q_lengths, L)):
        if given is not None and np.any((given < 0) | (given > most)):
            raise ValueError("a length is outside its range")
    i, j = np.arange(L)[:, None], np.arange(M)
    seen: npt.NDArray[np.bool_]
    seen = np.broadcast_to((j <= i) if causal else np.ones((L, M), bool), (B, L, M)).copy()
    if lengths is not None:
        seen &= j < lengths[:, None, None]
    if ignored is not None:
        seen &= ignored.reshape(B, 1, M) == 0
    if q_lengths is not None:
        seen &= i < q_lengths[:, None, None]
    return seen


def heads(x: Floats, at: int, N: int, D: int) -> Floats:
    """(B, L, columns) -> (B, N, L, D)"""
    return np.asarray(x[..., at:at + N * D].reshape(*x.shape[:2], N, D).swapaxes(1, 2))


def weights(q: Floats, k: Floats, scale: float, seen: npt.NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """(B, N, L, M), 0 where nothing is seen; and the logarithm of what each row is divided by, 0 there."""
    s = np.where(seen[:, None], scale * (q @ k.swapaxes(2, 3)), -np.inf)
    any_key = np.asarray(seen.any(2), bool)[:, None]
    top = np.where(any_key, s.max(3, initial=-np.inf), 0)
    e = np.exp(s - top[..., None])
    total = np.where(any_key, e.sum(3), 1)
    return e / total[..., None], np.where(any_key, top + np.log(total), 0)


def kept(shape: tuple[int, ...], rate: float, layer: int, seed: int, step: int, index: Int64 | None, first_id: int) -> Any:
    """What dropout multiplies the weights by: 0 or 1 / (1 - rate)."""
    if not rate:
        return 1.0
    B, N, L, M = shape
    ids = first_id + np.arange(B, dtype=np.int64) if index is None else index
    key: npt.NDArray[np.uint64]
    key = splitmix(np.array([seed], np.uint64))
    for word in (np.array([step], np.uint64), np.array([layer], np.uint64), ids.view(np.uint64)):
        key = splitmix(key + word)
    numbers = (np.arange(L) * N + np.arange(N)[:, None]).astype(np.uint64)       # of a head's queries
    lines = splitmix(np.asarray(key[:, None] + numbers.ravel(), np.uint64).ravel())
    return (hashes(lines, M) >= np.uint32(rate * 2**32)).reshape(shape) / (1 - rate)


def attention(q: Floats, kv: Floats, out: Floats, lse: Floats, D: int, v_at: int, scale: float, lengths: Int64 | None = None,
              ignored: Int64 | None = None, q_lengths: Int64 | None = None, q_at: int = 0, k_at: int = 0, causal: int = 0,
              layer: int = 0, rate: float = 0.0, seed: int = 0, step: int = 0, index: Int64 | None = None,
              first_id: int = 0) -> Floats:
    seen = counts((len(q), q.shape[1], kv.shape[1]), lengths, ignored, q_lengths, causal)
    N = lse.shape[1]
    p, lse[...] = weights(heads(q, q_at, N, D), heads(kv, k_at, N, D), scale, seen)
    y = (p * kept(p.shape, rate, layer, seed, step, index, first_id)) @ heads(kv, v_at, N, D)
    out[...] = y.swapaxes(1, 2).reshape(out.shape)
    return out


def attention_backward(dy: Floats, out: Floats, q: Floats, kv: Floats, lse: Floats, dq: Floats, dkv: Floats, D: int, v_at: int,
                       scale: float, lengths: Int64 | None = None, ignored: Int64 | None = None,
                       q_lengths: Int64 | None = None, q_at: int = 0, k_at: int = 0, causal: int = 0, layer: int = 0,
                       rate: float = 0.0, seed: int = 0, step: int = 0, index: Int64 | None = None, first_id: int = 0) -> Floats:
    N = lse.shape[1]
    seen = counts((len(q), q.shape[1], kv.shape[1]), lengths, ignored, q_lengths, causal)
    qs, ks, vs, d = heads(q, q_at, N, D), heads(kv, k_at, N, D), heads(kv, v_at, N, D), heads(dy, 0, N, D)
    p, _ = weights(qs, ks, scale, seen)
    mask = kept(p.shape, rate, layer, seed, step, index, first_id)
    ds = p * (mask * (d @ vs.swapaxes(2, 3)) - (d * heads(out, 0, N, D)).sum(3, keepdims=True)) * scale
    for into, at, value in ((dq, q_at, ds @ ks), (dkv, k_at, ds.swapaxes(2, 3) @ qs), (dkv, v_at, (p * mask).swapaxes(2, 3) @ d)):
        into[..., at:at + N * D] = value.swapaxes(1, 2).reshape(*into.shape[:2], N * D)
    return dq


def rotary(x: Floats, turns: Floats, out: Floats, n: int, back: int = 0) -> Floats:
    c, s = turns[:, 0::2], turns[:, 1::2] * (-1 if back else 1)
    pairs = x[..., :n].reshape(*x.shape[:2], n // turns.shape[1], turns.shape[1] // 2, 2)
    a, b = pairs[..., 0], pairs[..., 1]
    c, s = c[:, None], s[:, None]           # the same in each head
    turned = np.stack([a * c - b * s, b * c + a * s], -1).reshape(*x.shape[:2], n)
    out[...] = np.concatenate([turned, x[..., n:]], -1)
    return out
