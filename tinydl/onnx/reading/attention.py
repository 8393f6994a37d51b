"""Attention: of operators in a row, as exporters write it, and the operator Attention of opset 23.

softmax(scale q k' + mask) v, of q (batch, heads, L, D), k and v (batch, heads, M, D), with as many heads each, or (batch, L, D)
of one head; the batch and the heads may be one axis. The mask is a constant: none, or that of causal attention.
"""
# L queries, M keys, N heads, D columns of a head
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import nn
from tinydl.nn.layer import Symbol
from tinydl.onnx.reading.constants import all_zero, single
from tinydl.onnx.reading.patterns import product
from tinydl.onnx.reading.reader import Node, Reader, Term, Unreadable, Waiting, imports

#: a number that is added to scores, at most, where a key is not seen
UNSEEN = -1e4
READ = ("it multiplies two computed values, which is read in softmax(scale q k' + mask) v alone, where the mask is a constant: "
        "none, or causal")


def attention(r: Reader, node: Node) -> Term:
    """A product of two computed values. That of q and k is read where the one of the softmax and v is."""
    weights, v = (_plain(t) for t in node.inputs[:2])
    softmax, guard = _unguarded(weights)
    if softmax.op != "Softmax":
        for term in node.inputs[:2]:
            if term is not None and term.symbol is None:
                raise Waiting
        raise Unreadable(READ)
    if v.symbol is None:
        raise Waiting
    scale, masks, scores = _scores(softmax.args[0])
    if scores is None or len(scores.args) != 2:
        raise Unreadable(READ)
    by_q, q = _scaled(scores.args[0])
    by_k, k = _scaled(scores.args[1])
    if q.symbol is None or k.symbol is None:
        raise Waiting
    n = len(r.full_shape(q))
    if softmax.attributes.get("axis", -1 if r.opset >= 13 else 1) not in (-1, n - 1):
        raise Unreadable("its softmax is not along the keys")
    heads = _heads(r, [q, k, v])
    turned = r.permuted(heads[1], (0, 2, 1))
    L, M = heads[0].shape[1], turned.shape[1]
    if guard and _causal(masks + guard, L, M) != _causal(masks, L, M):
        raise Unreadable("behind its softmax it clears weights of keys that the mask lets a query see: the others' sum is not 1")
    return _attend(r, [heads[0], turned, heads[2]], scale * by_q * by_k, masks, q)


def _plain(term: Any) -> Term:
    """Without what does nothing in inference."""
    while term is not None and term.symbol is None and term.op in ("Cast", "Dropout") and term.args[0] is not None:
        term = term.args[0]
    assert term is not None
    return term     # type: ignore[no-any-return]


def _unguarded(term: Term) -> tuple[Term, list[Any]]:
    """y of Where(IsNaN(y), 0, y), as PyTorch guards rows that see no key; and of Where(seen, y, 0), with what seen masks,
    which the scores' own mask must do, too."""
    if term.op == "Where" and len(term.args) == 3:
        test, a, b = term.args
        if test is not None and a is not None and b is not None:
            if test.op == "IsNaN" and test.args[0] is b and a.array is not None and all_zero(a.array):
                return _plain(b), []
            if test.array is not None and b.array is not None and all_zero(b.array):
                return _plain(a), [np.where(test.array, 0, -np.inf)]
    return term, []


def _scaled(term: Any) -> tuple[float, Term]:
    """A number, and what it multiplies; the number may be a vector of it, as `to_onnx` writes it."""
    number, factors = product(term)
    if len(factors) == 1:
        return number, factors[0]
    vector = next((t.array for t in factors if t.array is not None and t.array.ndim == 1), None)
    if len(factors) == 2 and vector is not None and (vector == vector[0]).all():
        return number * float(vector[0]), next(t for t in factors if t.array is not vector)
    return 1.0, term


def _scores(term: Any) -> tuple[float, list[Any], Term | None]:
    """The number that the product of q and k is multiplied by, what is added to it, and that product."""
    scale = 1.0
    masks: list[Any] = []
    for _ in range(8):
        if term is None or term.op == "MatMul":
            return scale, masks, term
        if term.op in ("Mul", "Div"):
            number, term = _scaled(term)
            scale *= number
            if term.op in ("Mul", "Div"):
                break
        elif term.op == "Add" and any(t is not None and t.array is not None for t in term.args):
            mask, term = term.args if term.args[0].array is not None else term.args[::-1]
            masks.append(scale * mask.array)
        elif term.op == "Where" and term.args[0] is not None and term.args[0].array is not None:
            seen, a, b = term.args
            kept, other, seen = (a, b, seen.array) if b is not None and b.array is not None else (b, a, ~seen.array)
            if other is None or other.array is None or other.array.size != 1 or single(other.array) > UNSEEN:
                break
            masks.append(np.where(seen, 0, -np.inf))
            term = kept
        elif term.op == "Cast":
            term = term.args[0]
        else:
            break
    return scale, masks, None


def _heads(r: Reader, terms: list[Term]) -> list[Symbol]:
    """Of each, (heads, rows, columns)."""
    found = []
    for t in terms:
        assert t.symbol is not None
        if t.batch or t.merged == "before" or len(t.symbol.shape) not in (2, 3):
            raise Unreadable(f"q, k and v are (batch, heads, L, D), or (batch, L, D); one has samples of shape {t.symbol.shape} "
                             f"along axis {t.batch}")
        found.append(t.symbol if len(t.symbol.shape) == 3 else nn.Reshape((1, *t.symbol.shape))(t.symbol))
    return found


def _attend(r: Reader, heads: list[Symbol], scale: float, masks: list[Any], like: Term) -> Term:
    """heads: q, k and v, each (N, rows, D). like: q in the file, whose axes the result has."""
    (N, L, D), M = heads[0].shape, heads[1].shape[1]
    if any(h.shape != (N, M, D) for h in heads[1:]):
        raise Unreadable(f"q, k and v have samples of shape {', '.join(str(h.shape) for h in heads)}: as many heads of as many "
                         "columns each are read")
    flat = [r.reshaped(Term(symbol=r.permuted(h, (1, 0, 2))), (h.shape[1], N * D), 0).symbol for h in heads]
    usual = abs(scale - D ** -0.5) <= 1e-5 * scale
    layer = nn.DotProductAttention(N, causal=_causal(masks, L, M), scale=None if usual else scale)
    y = layer([s for s in flat if s is not None])
    if like.symbol is not None and len(like.symbol.shape) == 2:
        return Term(symbol=y)
    return Term(symbol=nn.Permute((1, 0, 2))(nn.Reshape((L, N, D))(y)), merged=like.merged)


def _causal(masks: list[Any], L: int, M: int) -> bool:
    """Whether what is added to the scores leaves each query the keys 0 to its own alone; else it must be nothing."""
    added = np.zeros((L, M))
    for mask in masks:
        if mask.ndim > 2 and mask.size != np.prod(mask.shape[-2:]):
            raise Unreadable(f"its mask has shape {mask.shape}: one for all samples and heads is read")
        if np.broadcast_shapes(mask.shape[-2:], (L, M)) != (L, M):
            raise Unreadable(f"its mask has shape {mask.shape}, and there are {L} queries and {M} keys")
        added = added + mask.reshape(mask.shape[-2:])
    seen = np.tri(L, M, dtype=bool)
    if not added.any():
        return False
    if not added[seen].any() and (added[~seen] <= UNSEEN).all():
        return True
    raise Unreadable("its mask is neither 0 everywhere nor that of causal attention")


@imports("Attention")
def operator(r: Reader, node: Node) -> Term:
    """Of opset 23."""
    node.expect(softcap=0.0, qk_matmul_output_mode=0)
    terms = [node.x(i, merged=True) for i in range(3)]
    if any(node.given(i) is not None for i in range(4, len(node.inputs))) or any(map(r.used, node.outputs[1:])):
        raise Unreadable("keys and values of steps before (past_key, past_value), or outputs besides Y")
    masks = [] if node.given(3) is None else [node.array(3, "attn_mask")]
    masks = [np.where(m, 0, -np.inf) if m.dtype == bool else m for m in masks]
    q = terms[0].symbol
    assert q is not None
    if len(q.shape) == 3:
        heads = _heads(r, terms)
    else:
        N = node.attributes.get("q_num_heads", 1)
        node.expect(kv_num_heads=N)
        heads = [r.permuted(nn.Reshape((t.symbol.shape[0], N, t.symbol.shape[1] // N))(t.symbol), (1, 0, 2))
                 for t in terms if t.symbol is not None and len(t.symbol.shape) == 2 and not t.merged]
        if len(heads) < 3:
            raise Unreadable("q, k and v are of three axes, or of four")
    if node.attributes.get("is_causal"):
        masks.append(np.where(np.tri(heads[0].shape[1], heads[1].shape[1], dtype=bool), 0, -np.inf))
    return _attend(r, heads, node.attributes.get("scale") or heads[0].shape[2] ** -0.5, masks, terms[0])
