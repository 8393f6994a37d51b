"""How the arrays of each kind of layer of Keras become tinydl's."""
# I in, O out, H units, N heads, D columns of one, E width, C channels
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tinydl import nn
from tinydl.model import Model
from tinydl.nn.layer import Layer
from tinydl.nn.recurrent import Recurrent
from tinydl.weights import Array, Place, listed, units

Arrays = Mapping[str, Sequence[Array]]
Convert = Callable[[Any, str, Arrays], dict[str, Array]]


class Target:
    """What is one layer in Keras. places: its parameters and statistics, by the names that `convert` gives them."""

    def __init__(self, name: str, layer: Any, places: dict[str, Place], kinds: tuple[str, ...], convert: Convert) -> None:
        self.name, self.layer, self.places, self.kinds, self._convert = name, layer, places, kinds, convert

    def convert(self, entry: Any, arrays: Arrays) -> dict[str, Array]:
        """{key: value in tinydl's layout}; an error where the arrays are others, or other in number."""
        return self._convert(self.layer, str(entry.kind), arrays)

    def describe(self) -> str:
        return f"{self.name or 'the model'}, {type(self.layer).__name__} " \
               f"({listed((key, place.parameter.shape) for key, place in self.places.items())})"


def targets(model: Model) -> list[Target]:
    """Of all layers with parameters, in their order, those of an nn.TransformerEncoderLayer each by itself. ValueError names one
    that has no counterpart in Keras."""
    return [target for unit in units(model) if any(place.first for place in unit.places.values())
            for target in _targets(unit.layer, unit.path, unit.places)]


def _targets(layer: Layer, path: str, places: Mapping[str, Place]) -> Iterator[Target]:
    if isinstance(layer, Recurrent):
        for k in range(layer.num_layers):
            suffixes = (f"_l{k}", f"_l{k}_reverse")
            own = {key.replace(f"_l{k}", ""): place for key, place in places.items() if key.endswith(suffixes)}
            kind = {"LSTM": "lstm", "GRU": "gru", "RNN": "simple_rnn"}[type(layer).__name__]
            kinds = ("bidirectional",) if layer.bidirectional else (kind,)
            name = f"{path}.l{k}".lstrip(".") if layer.num_layers > 1 else path
            yield Target(name, layer, own, kinds, _recurrent)
        return
    known = next((found for type_, found in _LAYERS.items() if isinstance(layer, type_)), None)
    if known is not None:
        yield Target(path, layer, dict(places), *known)
        return
    if not layer.makes_children:
        raise ValueError(f"{path}: {type(layer).__name__} has no counterpart in Keras")
    for child_name, child in layer.children():
        inside = {key.removeprefix(f"{child_name}."): place for key, place in places.items() if key.startswith(f"{child_name}.")}
        if inside:
            yield from _targets(child, f"{path}.{child_name}".lstrip("."), inside)


def differences(entry: Any, target: Target) -> Iterator[str]:
    """What a .keras file says of a layer that is another way here, and that no array shows."""
    layer, config = target.layer, entry.config
    said, here = {"epsilon": config.get("epsilon")}, {"epsilon": ("eps", getattr(layer, "eps", None))}
    if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)):
        said |= {name: tuple(config[name]) for name in ("strides", "dilation_rate") if name in config}
        here |= {"strides": ("stride", tuple(layer.stride)), "dilation_rate": ("dilation", tuple(layer.dilation))}
    if isinstance(layer, Recurrent):
        inner = config.get("layer", {}).get("config", {}) if "layer" in config else config      # of a Bidirectional
        said |= {name: inner.get(name) for name in ("activation", "recurrent_activation")}
        here |= {"activation": ("nonlinearity", getattr(layer, "nonlinearity", "tanh")), "recurrent_activation": ("", "sigmoid")}
    for name, value in said.items():
        ours, own = here[name]
        if value is None or own is None or value == own:
            continue
        can = f"{ours}={own!r}: make it with {ours}={value!r}" if ours in layer.config() else f"{own!r} alone"
        yield f"{entry.path} has {name}={value!r}, {target.name or 'the model'} {can}"


def _named(keys: Sequence[str], arrays: Sequence[Array]) -> dict[str, Array]:
    return dict(zip(keys, arrays, strict=True))


def _own(layer: Layer, *keys: str) -> list[str]:
    """Those of the keys that the layer has."""
    return [key for key in keys if getattr(layer, key) is not None]


def _dense(layer: nn.Linear, kind: str, arrays: Arrays) -> dict[str, Array]:
    """kernel (I, O)"""
    found = _named(_own(layer, "weight", "bias"), arrays[""])
    return found | ({"weight": found["weight"].T} if layer.transposed else {})


def _convolution(layer: Any, kind: str, arrays: Arrays) -> dict[str, Array]:
    """kernel (..., C / groups, O); of a transposed one (..., O, C); depthwise (..., C, M): M outputs of each channel"""
    found = _named(_own(layer, "weight", "bias"), arrays[""])
    kernel = found["weight"]
    if kind == "depthwise_conv2d":
        *size, C, M = kernel.shape
        kernel = kernel.reshape(*size, 1, C * M)
    return found | {"weight": np.moveaxis(kernel, (-1, -2), (0, 1))}


def _norm(layer: Any, kind: str, arrays: Arrays) -> dict[str, Array]:
    """gamma, beta, moving_mean, moving_variance"""
    keys = _own(layer, "weight", "bias") + (["running_mean", "running_var"] if isinstance(layer, nn.BatchNorm1d) else [])
    if len(keys) != len(arrays[""]):
        raise ValueError(f"{len(arrays[''])} arrays for {len(keys)}; scale and center are here both or none")
    return _named(keys, arrays[""])


def _one(layer: Any, kind: str, arrays: Arrays) -> dict[str, Array]:
    (value,) = arrays[""]
    return {"weight": value}


def _prelu(layer: nn.PReLU, kind: str, arrays: Arrays) -> dict[str, Array]:
    """alpha has the shape of a sample, of axes of size 1 where they are shared"""
    (alpha,) = arrays[""]
    if alpha.size != alpha.shape[-1]:
        raise ValueError("a slope for each place of a sample; here there is one for each column: shared_axes")
    return {"weight": alpha.reshape(-1)}


def _recurrent(layer: Recurrent, kind: str, arrays: Arrays) -> dict[str, Array]:
    """kernel (I, G), recurrent_kernel (H, G), bias (G), or of a GRU that resets after its product (2, G)"""
    found: dict[str, Array] = {}
    cells = {"": "forward_layer/cell", "_reverse": "backward_layer/cell"} if layer.bidirectional else {"": "cell"}
    for suffix, cell in cells.items():
        kernel, recurrent, *bias = (_gates(layer, a) for a in arrays[cell])
        found |= {f"weight_ih{suffix}": kernel.T, f"weight_hh{suffix}": recurrent.T}
        if bias:
            two = bias[0].ndim == 2
            if isinstance(layer, nn.GRU) and two != layer.reset_after:
                raise ValueError(f"its reset_after is {two}: make it nn.GRU(reset_after={two})")
            found |= {f"bias_ih{suffix}": bias[0][0] if two else bias[0],
                      f"bias_hh{suffix}": bias[0][1] if two else np.zeros_like(bias[0])}
    return found


def _gates(layer: Recurrent, a: Array) -> Array:
    """Of a GRU from Keras's order z, r, n to r, z, n; i, f, g, o of an LSTM are the same."""
    if not isinstance(layer, nn.GRU):
        return a
    z, r, n = np.split(a, 3, axis=-1)
    return np.concatenate([r, z, n], axis=-1)


def _attention(layer: nn.MultiheadAttention, kind: str, arrays: Arrays) -> dict[str, Array]:
    """query, key, value: kernel (E, N, D) and bias (N, D); output: kernel (N, D, E) and bias (E)"""
    inner, E = ("query_dense", "key_dense", "value_dense"), layer.embed_dim
    if arrays["query_dense"][0].shape[1:] != (layer.num_heads, E // layer.num_heads):
        raise ValueError("other numbers of heads, or of columns of one (key_dim)")
    found = {"in_proj_weight": np.concatenate([arrays[name][0].reshape(E, E).T for name in inner]),
             "out_proj.weight": arrays["output_dense"][0].reshape(E, E).T}
    if len(arrays["output_dense"]) > 1:
        found |= {"in_proj_bias": np.concatenate([arrays[name][1].reshape(E) for name in inner]),
                  "out_proj.bias": arrays["output_dense"][1]}
    return found


#: what a layer here is called there, the first of these that it is an instance of
_LAYERS: dict[type[Layer], tuple[tuple[str, ...], Convert]] = {
    nn.Linear: (("dense",), _dense),
    nn.Embedding: (("embedding",), _one),
    nn.Conv2d: (("conv2d", "depthwise_conv2d"), _convolution),
    nn.Conv1d: (("conv1d",), _convolution),
    nn.ConvTranspose2d: (("conv2d_transpose",), _convolution),
    nn.ConvTranspose1d: (("conv1d_transpose",), _convolution),
    nn.BatchNorm1d: (("batch_normalization",), _norm),
    nn.LayerNorm: (("layer_normalization",), _norm),
    nn.GroupNorm: (("group_normalization",), _norm),
    nn.InstanceNorm2d: (("group_normalization",), _norm),
    nn.InstanceNorm1d: (("group_normalization",), _norm),
    nn.RMSNorm: (("rms_normalization",), _one),
    nn.PReLU: (("p_re_lu",), _prelu),
    nn.MultiheadAttention: (("multi_head_attention",), _attention),
}
KINDS = frozenset({"lstm", "gru", "simple_rnn", "bidirectional"}.union(*(kinds for kinds, _ in _LAYERS.values())))
