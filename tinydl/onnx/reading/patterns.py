"""Activations and norms that exporters write as several nodes."""
from __future__ import annotations

from collections.abc import Sequence
from math import pi, sqrt
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.nn.layer import Layer
from tinydl.onnx.reading.constants import single
from tinydl.onnx.reading.reader import Term

Found = tuple[Layer, Term] | None


#: products inside one another that are looked at; patterns have three. Of n, each a square of the one before, 2^n factors come.
DEEPEST = 4


def factors(op: str, args: Sequence[Any], depth: int = DEEPEST) -> tuple[float, list[Term]]:
    """A product as a number and what is multiplied, where op is Mul, or Div by a number; of anything else, nothing."""
    if not depth or op not in ("Mul", "Div") or len(args) != 2 or (op == "Div" and args[1].array is None):
        return 1.0, []
    number, others = 1.0, []
    for i, arg in enumerate(args):
        if arg.array is not None and arg.array.size == 1:
            value = float(single(arg.array))
            number = number / value if op == "Div" and i == 1 and value else number * value
            continue
        more, inside = factors(arg.op, arg.args, depth - 1)
        number *= more
        others += inside or [arg]
    return number, others


def product(term: Term) -> tuple[float, list[Term]]:
    number, others = factors(term.op, term.args)
    return (number, others) if others else (1.0, [term])


def plus(term: Term, number: float) -> Term | None:
    """x, where the term is x + number."""
    if term.op == "Add" and len(term.args) == 2:
        for a, b in (term.args, term.args[::-1]):
            if a is not None and b is not None and b.is_number(number) and a.array is None:
                return a
    return None


def same(a: Any, b: Any) -> bool:
    """Whether two terms are one value."""
    return a is b or (a is not None and b is not None and a.symbol is not None and a.symbol is b.symbol)


def near(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-4 * abs(b)


def layer_of(op: str, args: Sequence[Any]) -> Found:
    """The layer that this node is the last node of, and its input."""
    if op == "Div" and args[1] is not None and args[1].array is None:
        return _quotient(*args)
    number, parts = factors(op, args)
    if len(parts) == 1:
        return _softplus(number, parts[0]) or _hard_sigmoid(number, parts[0])
    if len(parts) == 2:
        for a, b in (parts, parts[::-1]):
            found = _rms_norm(a, b) if near(number, 1) else None
            found = found or _gated(number, a, b)
            if found is not None:
                return found
    return None


def _gated(number: float, x: Term, gate: Term) -> Found:
    """number x gate(x)"""
    inside = gate.args[0] if gate.args else None
    if near(number, 1) and gate.op == "Sigmoid" and same(inside, x):
        return nn.SiLU(), x
    if near(number, 1) and gate.op == "Tanh" and inside is not None and inside.op == "Softplus" and same(inside.args[0], x):
        return nn.Mish(), x
    if near(number, 1) and gate.op == "HardSigmoid" and same(inside, x):
        if near(gate.attributes.get("alpha", 0.2), 1 / 6) and near(gate.attributes.get("beta", 0.5), 0.5):
            return nn.Hardswish(), x
    if near(number, 1 / 6) and gate.op == "Clip" and inside is not None and same(plus(inside, 3.0), x):
        if _zero_to_six(gate):
            return nn.Hardswish(), x
    between = plus(gate, 1.0)
    if near(number, 0.5) and between is not None and between.args:
        scale, inner = product(between.args[0]) if between.args[0] is not None else (0.0, [])
        if between.op == "Erf" and near(scale, sqrt(0.5)) and len(inner) == 1 and same(inner[0], x):
            return nn.GELU(), x
        if between.op == "Tanh" and near(scale, sqrt(2 / pi)) and len(inner) == 1 and _cubic(inner[0], x):
            return nn.GELU("tanh"), x
        if between.op == "Tanh" and near(scale, sqrt(2 / pi)) and len(inner) == 2:      # x (1 + 0.044715 x^2)
            for a, b in (inner, inner[::-1]):
                square = plus(b, 1.0)
                if same(a, x) and square is not None and _power(square, x, 2, 0.044715):
                    return nn.GELU("tanh"), x
    return None


def _cubic(term: Term, x: Term) -> bool:
    """x + 0.044715 x^3"""
    return term.op == "Add" and any(same(a, x) and b is not None and _power(b, x, 3, 0.044715) for a, b in
                                    (term.args, term.args[::-1]))


def _power(term: Term, x: Term, n: int, number: float) -> bool:
    """number x^n"""
    scale, parts = product(term)
    count = 0
    for part in parts:
        if same(part, x):
            count += 1
        elif part.op == "Pow" and same(part.args[0], x) and part.args[1] is not None and part.args[1].array is not None:
            count += round(float(single(part.args[1].array)))
        else:
            return False
    return count == n and near(scale, number)


def _zero_to_six(term: Term) -> bool:
    """Whether it is a ReLU6, as a Clip with constants or attributes."""
    if term.op != "Clip":
        return False
    bounds = [term.attributes.get(name) if i >= len(term.args) or (t := term.args[i]) is None else
              None if t.array is None or t.array.size != 1 else float(single(t.array)) for i, name in ((1, "min"), (2, "max"))]
    return bounds == [0, 6]


def _hard_sigmoid(number: float, gate: Term) -> Found:
    """min(max(x + 3, 0), 6) / 6"""
    x = plus(gate.args[0], 3.0) if near(number, 1 / 6) and _zero_to_six(gate) and gate.args[0] is not None else None
    return None if x is None else (nn.Hardsigmoid(), x)


def _softplus(number: float, term: Term) -> Found:
    """log(1 + exp(beta x)) / beta"""
    if term.op != "Softplus" or term.args[0] is None:
        return None
    beta, inner = product(term.args[0])
    if len(inner) != 1 or not near(beta * number, 1) or beta <= 0 or near(beta, 1):
        return None
    return nn.Softplus(beta), inner[0]


def _quotient(x: Any, below: Any) -> Found:
    """x / (1 + exp(-x)); x / (1 + |x|); d / sqrt(mean(d^2) + eps); x / max(|x|, eps), as PyTorch's F.normalize"""
    power = plus(below, 1.0)
    if power is not None and power.op == "Abs" and same(power.args[0], x):
        return nn.Softsign(), x
    floor = below.args[0] if below.op == "Expand" else below
    norm = floor.args[0] if floor is not None and floor.op in ("Clip", "Max") else None
    if floor is not None and norm is not None and norm.op == "ReduceL2" and same(norm.args[0], x) and _last_axes(norm, x) == 1:
        least = floor.args[1] if len(floor.args) > 1 and not any(floor.args[2:]) else None
        if least is not None and least.array is not None and least.array.size == 1 and 0 < single(least.array) <= 1e-6:
            return nn.UnitNormalization(float(single(least.array)) ** 2), x
    if power is not None and power.op == "Exp" and power.args[0] is not None and power.args[0].op == "Neg":
        return (nn.SiLU(), x) if same(power.args[0].args[0], x) else None
    return _normalised(x, below) if below.op == "Sqrt" else None


def _rms_norm(x: Term, inverse: Term) -> Found:
    """x (1 / sqrt(mean(x^2) + eps))"""
    if inverse.op == "Reciprocal" and inverse.args[0] is not None and inverse.args[0].op == "Sqrt":
        return _normalised(x, inverse.args[0])
    over = inverse.args[1] if inverse.op == "Div" else None
    if over is not None and over.op == "Sqrt" and inverse.args[0] is not None and inverse.args[0].is_number(1):
        return _normalised(x, over)
    return None


def _normalised(d: Term, root: Term) -> Found:
    """RMSNorm, or, where d is x - mean(x), LayerNorm, over the last axes; with a sum in the mean's place UnitNormalization."""
    total = root.args[0]
    if total is None or total.op != "Add":
        return None
    for mean, eps in (total.args, total.args[::-1]):
        if mean is None or eps is None or eps.array is None or eps.array.size != 1 or mean.op not in ("ReduceMean", "ReduceSum"):
            continue
        if mean.args[0] is None or not _power(mean.args[0], d, 2, 1.0):
            continue
        value = float(single(eps.array))
        if mean.op == "ReduceSum":
            return (nn.UnitNormalization(value), d) if _last_axes(mean, d) == 1 and value > 0 else None
        x, own = d.args if d.op == "Sub" else (None, None)
        if x is not None and x.symbol is not None and own is not None and own.op == "ReduceMean" and same(own.args[0], x):
            n = _last_axes(own, x)
            if n and _last_axes(mean, x) == n:
                return nn.LayerNorm(x.symbol.shape[-n:], value, elementwise_affine=False), x
        n = _last_axes(mean, d)
        if n and d.symbol is not None:
            return nn.RMSNorm(d.symbol.shape[-n:], value, elementwise_affine=False), d
    return None


def _last_axes(mean: Term, x: Term) -> int:
    """Over how many of the last axes, which it keeps, a mean is; 0 where over others."""
    axes = mean.attributes.get("axes", mean.args[1].array if len(mean.args) > 1 and mean.args[1] is not None else None)
    n = len(x.symbol.shape) + 1 if x.symbol is not None else 0
    if axes is None or not n or not mean.attributes.get("keepdims", 1):
        return 0
    places = sorted(int(a) % n for a in np.ravel(axes))
    return len(places) if places == list(range(n - len(places), n)) and len(places) < n else 0
