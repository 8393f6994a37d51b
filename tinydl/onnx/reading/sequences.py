"""LSTM, GRU and RNN. In ONNX the axis of time comes first, unless layout is 1, and then that of the batch."""
# T steps, H units, D directions
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import nn
from tinydl.nn.layer import Symbol
from tinydl.onnx.reading.constants import all_zero
from tinydl.onnx.reading.reader import Array, Node, Reader, Term, Unreadable, imports
from tinydl.onnx.sequences import ungated

KINDS: dict[str, Any] = {"LSTM": nn.LSTM, "GRU": nn.GRU, "RNN": nn.RNN}
ACTIVATIONS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


@imports(*KINDS)
def recurrent(r: Reader, node: Node) -> list[Term]:
    """The outputs Y, of all steps, and Y_h, of the last one."""
    kind, layout = KINDS[node.op], node.attributes.get("layout", 0)
    x, W, R = node.x(batch_first=False), node.array(1, "W"), node.array(2, "R")
    if x.batch != 1 - layout or x.symbol is None or len(x.symbol.shape) != 2:
        raise Unreadable(f"its samples lie along axis {x.batch}; they must be along axis {1 - layout}")
    D, H = W.shape[0], R.shape[2]
    direction = node.attributes.get("direction", "forward")
    if direction not in ("forward", "reverse", "bidirectional") or D != 1 + (direction == "bidirectional"):
        raise Unreadable(f"direction={direction!r} with W of shape {W.shape}")
    _check(node, D, H)
    bias = None if node.given(3) is None else node.array(3, "B")
    options = _options(node, D)
    lengths, states = _lengths(node, x.symbol.shape[0]), _states(node, kind.states, D, layout)
    if direction == "reverse" and states:
        raise Unreadable("direction='reverse' with an initial state")
    whole, last = r.used(node.outputs[0]), len(node.outputs) > 1 and r.used(node.outputs[1])
    if len(node.outputs) > 2 and r.used(node.outputs[2]):
        raise Unreadable("its output Y_c is used, the state c of the last step, which no layer gives")

    def make() -> nn.Layer:
        layer = kind(W.shape[2], H, bias=bias is not None, bidirectional=direction != "forward", return_sequences=whole,
                     **options)
        _give(r, layer, W, R, bias, reverse=direction == "reverse")
        return layer        # type: ignore[no-any-return]
    layer: Any = r.shared(node, make, also=whole)
    y = layer([x.symbol, *lengths, *states])
    if direction == "reverse":
        y = nn.Slice(-1, H, 2 * H)(y)
    T = x.symbol.shape[0]
    every, h = Term(), Term()
    if whole:
        every = r.reshaped(Term(symbol=y), (T, D, H), 0 if layout else 2)
    if last:
        final = _last(y, lengths, D, H, direction) if whole else y
        h = r.reshaped(Term(symbol=final), (D, H), 0 if layout else 1)
    return [every, h, Term()]


def _check(node: Node, D: int, H: int) -> None:
    node.expect(hidden_size=H, input_forget=0)
    if "clip" in node.attributes:
        raise Unreadable("clip, of a cell's values")
    if node.given(7) is not None and not all_zero(node.array(7, "P")):
        raise Unreadable("its input P, peepholes")
    given = node.attributes.get("activations")
    if node.op != "RNN" and given not in (None, ACTIVATIONS[node.op] * D):
        raise Unreadable(f"activations={given}; {ACTIVATIONS[node.op]} are read")


def _options(node: Node, D: int) -> dict[str, Any]:
    if node.op == "GRU":
        return {"reset_after": bool(node.attributes.get("linear_before_reset", 0))}
    if node.op == "RNN":
        given = {str(a).lower() for a in node.attributes.get("activations", ["Tanh"])}
        if given not in ({"tanh"}, {"relu"}):
            raise Unreadable(f"activations={node.attributes.get('activations')}; Tanh and Relu are read")
        return {"nonlinearity": given.pop()}
    return {}


def _lengths(node: Node, T: int) -> list[Symbol]:
    given = node.given(4)
    if given is None or (given.array is not None and bool((given.array == T).all())):
        return []
    return [node.symbol(4)]


def _states(node: Node, n: int, D: int, layout: int) -> list[Symbol]:
    """h0, and c0 of an LSTM; none where they are zero."""
    given = [node.given(i) for i in range(5, 5 + n)]
    H = node.array(2, "R").shape[2]
    for t in given:
        if t is not None and t.array is not None and t.array.shape[-1] != H:       # as PyTorch's exporter writes of a proj_size
            raise Unreadable(f"its initial state has shape {t.array.shape}, and its weights are of {H} units")
    if all(t is None or (t.array is not None and all_zero(t.array)) for t in given):
        return []
    found = []
    for i in range(5, 5 + n):
        term = node.x(i, batch_first=False)
        if term.batch != 1 - layout or term.symbol is None:
            raise Unreadable(f"the initial state's samples lie along axis {term.batch}")
        found.append(term.symbol)
    return found


def _give(r: Reader, layer: Any, W: Array, R: Array, bias: Array | None, *, reverse: bool) -> None:
    """The values of a layer's parameters. Where the file has the reversed direction alone, the other is zero, and stays so."""
    if reverse:
        W, R = (np.concatenate([np.zeros_like(a), a]) for a in (W, R))
        bias = None if bias is None else np.concatenate([np.zeros_like(bias), bias])
    for name, values in ungated(layer, 0, W, R, bias).items():
        r.give(getattr(layer, name), values, frozen=reverse and not name.endswith("_reverse"))


def _last(y: Symbol, lengths: list[Symbol], D: int, H: int, direction: str) -> Symbol:
    """Each direction's last step, of the outputs of all steps."""
    first = nn.Reshape((y.shape[1],))(nn.Slice(0, 0, 1)(y)) if direction != "forward" else None
    if direction == "reverse":
        assert first is not None
        return first
    end = nn.LastStep()([y, *lengths])
    if first is None:
        return end
    return nn.Concat()([nn.Slice(0, 0, H)(end), nn.Slice(0, H, 2 * H)(first)])
