"""Norms; and weights and biases of those that exporters write as a norm, a product and a sum."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.onnx.reading.reader import Array, Node, Reader, Term, Unreadable, imports


@imports("BatchNormalization")
def batch_norm(r: Reader, node: Node) -> Term:
    node.expect(training_mode=0, spatial=1)
    x = node.x()
    weight, bias, mean, var = (node.array(i, what) for i, what in enumerate(("scale", "B", "mean", "var"), 1))
    shape = node.symbol().shape
    if len(shape) not in (1, 2, 3):
        raise Unreadable(f"samples have shape {shape}; those of one to three axes are read")

    def make() -> nn.Layer:
        layer = (nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d)(
            weight.size, node.attributes.get("epsilon", 1e-5), round(1 - node.attributes.get("momentum", 0.9), 6))
        for p, a in ((layer.weight, weight), (layer.bias, bias), (layer.running_mean, mean), (layer.running_var, var)):
            r.give(p, a)
        return layer
    return r.call(r.shared(node, make), x)


@imports("LayerNormalization", "RMSNormalization")
def layer_norm(r: Reader, node: Node) -> Term:
    x, weight = node.x(batch_first=False), node.array(1, "scale")
    axis = r.axis(x, node.attributes.get("axis", -1))
    assert x.symbol is not None
    shape = x.symbol.shape[axis:]
    bias = None if node.given(2) is None else node.array(2, "bias")
    eps = node.attributes.get("epsilon", 1e-5)

    def make() -> nn.Layer:
        layer = nn.RMSNorm(shape, eps) if node.op == "RMSNormalization" else nn.LayerNorm(shape, eps)
        r.give(layer.weight, np.broadcast_to(weight, shape))
        if isinstance(layer, nn.LayerNorm):     # a bias that the file leaves out stays zero
            r.give(layer.bias, np.zeros(shape, weight.dtype) if bias is None else np.broadcast_to(bias, shape), bias is None)
        return layer
    return r.call(r.shared(node, make, also=shape), x)


@imports("GroupNormalization", "InstanceNormalization")
def group_norm(r: Reader, node: Node) -> Term:
    x, weight, bias = node.x(), node.array(1, "scale"), node.array(2, "B")
    shape, eps = node.symbol().shape, node.attributes.get("epsilon", 1e-5)
    groups = node.attributes["num_groups"] if node.op == "GroupNormalization" else shape[0]
    if weight.size == groups < shape[0]:            # as opset 18 had it
        weight, bias = (np.repeat(a, shape[0] // groups) for a in (weight, bias))
    if len(shape) == 3 and groups == shape[0]:
        return r.call(_affine_norm(r, nn.InstanceNorm2d(groups, eps, affine=True), weight, bias), x)
    return r.call(_affine_norm(r, nn.GroupNorm(groups, shape[0], eps), weight, bias), x)


def _affine_norm(r: Reader, layer: Any, weight: Array, bias: Array) -> Any:
    r.give(layer.weight, weight)
    r.give(layer.bias, bias)
    return layer


def regrouped(r: Reader, x: Term, wanted: Sequence[int]) -> Term | None:
    """A GroupNorm as exporters write it: an InstanceNormalization of samples reshaped to (groups, ...), which then are reshaped
    back, here. What comes behind, times a weight for each channel, plus a bias, is `_affine`'s."""
    norm = x.symbol.layer if x.symbol is not None else None
    if x.symbol is None or not isinstance(norm, nn.GroupNorm) or len(x.symbol.shape) != 2 or r.uses(x) != 1 or x.batch:
        return None
    inner = x.symbol.inputs[0]
    if not isinstance(inner.layer, nn.Reshape) or tuple(wanted) != (r.rows, *inner.inputs[0].shape):
        return None
    before = inner.inputs[0]
    if norm.weight is None or norm.bias is None or (r.values[norm.weight] != 1).any() or r.values[norm.bias].any():
        return None
    return Term("Reshape", symbol=nn.GroupNorm(norm.num_groups, before.shape[0], norm.eps, affine=False)(before))


def affine(r: Reader, node: Node, x: Term, a: Array) -> Term | None:
    """The weight, or behind it the bias, of a norm that was made without."""
    norm: Any = x.symbol.layer if x.symbol is not None else None
    if not isinstance(norm, (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)) or x.symbol is None or r.uses(x) != 1:
        return None
    shape = x.symbol.shape
    if a.dtype.kind != "f":
        return None
    own = (shape[0], *[1] * (len(shape) - 1)) if isinstance(norm, nn.GroupNorm) else norm.normalized_shape
    if tuple(n for n in a.shape if n > 1) != tuple(n for n in own if n > 1) or a.shape[-len(own):] != own:
        return None
    if node.op == "Mul" and norm.weight is None:
        fresh: Any = type(norm)(**{name: True if name.endswith("affine") else v for name, v in norm.config().items()})
        norm.weight = fresh.weight
        r.give(norm.weight, a.reshape(fresh.weight.shape))
        if not isinstance(norm, nn.RMSNorm):
            norm.bias = fresh.bias
            r.give(norm.bias, np.zeros(fresh.bias.shape, a.dtype))
    elif node.op == "Add" and x.op == "Mul" and not isinstance(norm, nn.RMSNorm) and norm.bias is not None:
        r.give(norm.bias, a.reshape(r.values[norm.bias].shape))
    else:
        return None
    return Term(node.op, symbol=x.symbol, batch=x.batch)
