"""The expression in NumPy that each layer is, by its class."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from tinydl import nn
from tinydl.nn.attention import Projection
from tinydl.nn.merge import check_axis
from tinydl.nn.transformer import ACTIVATIONS
from tinydl.numpy_export.writer import Value, Writer

#: by class of layer: function(writer, layer, *inputs) -> an expression
EXPRESSIONS: dict[type[nn.Layer], Callable[..., str]] = {}
F = TypeVar("F", bound=Callable[..., str])
MODES = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


def writes(*classes: type[nn.Layer]) -> Callable[[F], F]:
    def enter(function: F) -> F:
        EXPRESSIONS.update(dict.fromkeys(classes, function))
        return function
    return enter


def simple(pattern: str, *classes: type[nn.Layer]) -> None:
    """{x}: the input, {layer}: of whose attributes numbers are taken."""
    writes(*classes)(lambda w, layer, x: pattern.format(x=x, layer=layer))


simple("{x}", nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.GaussianNoise)
simple("relu({x})", nn.ReLU)
simple("leaky_relu({x}, {layer.negative_slope!r})", nn.LeakyReLU)
simple("elu({x}, {layer.alpha!r})", nn.ELU)
simple("softplus({x}, {layer.beta!r})", nn.Softplus)
simple("np.tanh({x})", nn.Tanh)
simple("np.exp({x})", nn.Exp)
simple("np.abs({x})", nn.Abs)
simple("np.square({x})", nn.Square)
simple("{x} / (1 + np.abs({x}))", nn.Softsign)
simple("-softplus(-{x}, 1.0)", nn.LogSigmoid)
simple("{x} * {layer.scale!r} + {layer.offset!r}", nn.Rescaling)
simple("{x}[..., :{x}.shape[-1] // 2]", nn.GaussianSample)
simple("unit({x}, {layer.eps!r})", nn.UnitNormalization)
simple("hardsigmoid({x}, {layer.alpha!r}, {layer.beta!r})", nn.Hardsigmoid)
for name, kind in {"selu": nn.SELU, "sigmoid": nn.Sigmoid, "silu": nn.SiLU, "mish": nn.Mish, "hardswish": nn.Hardswish,
                   "softmax": nn.Softmax, "log_softmax": nn.LogSoftmax}.items():
    simple(f"{name}({{x}})", kind)
simple("{x}.mean(tuple(range(2, {x}.ndim)))", nn.GlobalAvgPool)
simple("{x}.max(tuple(range(2, {x}.ndim)))", nn.GlobalMaxPool)
simple("pixel_shuffle({x}, {layer.upscale_factor})", nn.PixelShuffle)


@writes(nn.Hardtanh, nn.ReLU6)
def hardtanh(w: Writer, layer: nn.Hardtanh | nn.ReLU6, x: Value) -> str:
    low, high = (None if np.isinf(bound) else bound for bound in (layer.alpha, layer.beta))
    return f"np.clip({x}, {low}, {high})"


@writes(nn.GELU)
def gelu(w: Writer, layer: nn.GELU, x: Value) -> str:
    return f"{'gelu' if layer.approximate == 'none' else 'gelu_tanh'}({x})"


@writes(nn.GLU)
def glu(w: Writer, layer: nn.GLU, x: Value) -> str:
    return f"glu({x}, {1 + check_axis(layer, layer.axis, x.shape)})"


@writes(nn.PReLU)
def prelu(w: Writer, layer: nn.PReLU, x: Value) -> str:
    shape = f".reshape{(-1, *[1] * (len(x.shape) - 1))}" if layer.channels_first(x.shape) else ""
    return f"leaky_relu({x}, {w.p(layer.weight)}{shape})"


@writes(nn.Linear, nn.TiedLinear, Projection)
def linear(w: Writer, layer: nn.Linear, x: Value) -> str:
    return f"linear({x}, {w.p(layer.weight)}{'.T' * layer.transposed}, {w.p(layer.bias)})"


@writes(nn.Scale)
def scale(w: Writer, layer: nn.Scale, x: Value) -> str:
    return f"{x} * {w.p(layer.weight)}"


@writes(nn.LinearEnsemble)
def linear_ensemble(w: Writer, layer: nn.LinearEnsemble, x: Value) -> str:
    each = f"{x}[:, None, None]" if len(x.shape) == 1 else f"{x}[:, :, None]"
    return f"linear({each}, {w.p(layer.weight)})[:, :, 0]" + (f" + {w.p(layer.bias)}" if layer.bias else "")


@writes(nn.LinearBatchEnsemble)
def linear_batch_ensemble(w: Writer, layer: nn.LinearBatchEnsemble, x: Value) -> str:
    each = f"{x}[:, None]" if len(x.shape) == 1 else str(x)
    y = f"linear({each} * {w.p(layer.r)}, {w.p(layer.weight)}) * {w.p(layer.s)}"
    return y + (f" + {w.p(layer.bias)}" if layer.bias else "")


# ---------------------------------------------------------------------- norms
@writes(nn.LayerNorm, nn.RMSNorm)
def layer_norm(w: Writer, layer: Any, x: Value) -> str:
    axes = tuple(range(-len(layer.normalized_shape), 0))
    if isinstance(layer, nn.RMSNorm):
        return f"rms_norm({x}, {w.p(layer.weight)}, {axes}, {w.eps if layer.eps is None else layer.eps!r})"
    return f"layer_norm({x}, {w.p(layer.weight)}, {w.p(layer.bias)}, {axes}, {layer.eps!r})"


@writes(nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d)
def group_norm(w: Writer, layer: Any, x: Value) -> str:
    return f"group_norm({x}, {w.p(layer.weight)}, {w.p(layer.bias)}, {layer.num_groups}, {layer.eps!r})"


@writes(nn.BatchNorm1d, nn.BatchNorm2d)
def batch_norm(w: Writer, layer: nn.BatchNorm1d, x: Value) -> str:
    p = ", ".join(w.p(q) for q in (layer.weight, layer.bias, layer.running_mean, layer.running_var))
    return f"batch_norm({x}, {p}, {layer.eps!r}, {(-1, *[1] * (len(x.shape) - 1)) if layer.features_first(x.shape) else (-1,)})"


# ---------------------------------------------------------------------- images
@writes(nn.Conv1d, nn.Conv2d)
def conv(w: Writer, layer: Any, x: Value) -> str:
    sides = list(zip(*layer._padding(), strict=True))
    return (f"conv({x}, {w.p(layer.weight)}, {w.p(layer.bias)}, {layer.stride}, {sides}, {layer.dilation}, {layer.groups}, "
            f"{MODES[layer.padding_mode]!r})")


@writes(nn.ConvTranspose1d, nn.ConvTranspose2d)
def conv_transpose(w: Writer, layer: Any, x: Value) -> str:
    return (f"conv_transpose({x}, {w.p(layer.weight)}, {w.p(layer.bias)}, {layer.stride}, {layer.padding}, "
            f"{layer.output_padding}, {layer.dilation}, {layer.groups})")


@writes(nn.MaxPool1d, nn.MaxPool2d)
def max_pool(w: Writer, layer: Any, x: Value) -> str:
    return (f"max_pool({x}, {layer.kernel_size}, {layer.stride}, {layer.padding}, {layer.padding_behind(x.shape)}, "
            f"{layer.dilation})")


@writes(nn.AvgPool1d, nn.AvgPool2d)
def avg_pool(w: Writer, layer: Any, x: Value) -> str:
    return (f"avg_pool({x}, {layer.kernel_size}, {layer.stride}, {layer.padding}, {layer.padding_behind(x.shape)}, "
            f"{layer.count_include_pad}, {layer.divisor_override})")


@writes(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
def adaptive(w: Writer, layer: Any, x: Value) -> str:
    return f"adaptive_avg_pool({x}, {layer.output_shape(x.shape)[1:]})"


@writes(nn.Upsample)
def upsample(w: Writer, layer: nn.Upsample, x: Value) -> str:
    return f"upsample({x}, {layer.output_shape(x.shape)[1:]}, {layer.mode == 'bilinear'}, {layer.align_corners})"


@writes(nn.ZeroPad2d)
def zero_pad(w: Writer, layer: nn.ZeroPad2d, x: Value) -> str:
    left, right, top, bottom = layer.padding
    return f"np.pad({x}, {[(0, 0), (0, 0), (top, bottom), (left, right)]})"


# ---------------------------------------------------------------------- columns of a table
@writes(nn.Embedding)
def embedding(w: Writer, layer: nn.Embedding, x: Value) -> str:
    return f"{w.p(layer.weight)}[{x}]"


@writes(nn.EmbeddingBag)
def embedding_bag(w: Writer, layer: nn.EmbeddingBag, x: Value) -> str:
    padding = -1 if layer.padding_idx is None else layer.padding_idx
    return f"embedding_bag({w.p(layer.weight)}, {x}, {layer.mode == 'mean'}, {padding})"


@writes(nn.PeriodicEmbedding)
def periodic(w: Writer, layer: nn.PeriodicEmbedding, x: Value) -> str:
    return f"periodic({x}, {', '.join(map(w.p, (layer.frequency, layer.phase, layer.weight, layer.bias)))})"


@writes(nn.PiecewiseLinearEmbedding)
def piecewise(w: Writer, layer: nn.PiecewiseLinearEmbedding, x: Value) -> str:
    return f"piecewise({x}, {w.array('edges', np.array(layer.edges, np.float64))})"


# ---------------------------------------------------------------------- merging, shaping, reductions
@writes(nn.Add, nn.Multiply)
def elementwise(w: Writer, layer: nn.Layer, *xs: Value) -> str:
    return (" + " if isinstance(layer, nn.Add) else " * ").join(map(str, xs))


@writes(nn.Subtract)
def subtract(w: Writer, layer: nn.Subtract, a: Value, b: Value) -> str:
    return f"{a} - {b}"


@writes(nn.CosineSimilarity)
def cosine_similarity(w: Writer, layer: nn.CosineSimilarity, a: Value, b: Value) -> str:
    return f"(unit({a}, {layer.eps!r}) * unit({b}, {layer.eps!r})).sum(-1, keepdims=True)"


@writes(nn.Concat)
def concat(w: Writer, layer: nn.Concat, *xs: Value) -> str:
    return f"np.concatenate([{', '.join(map(str, xs))}], {1 + check_axis(layer, layer.axis, xs[0].shape)})"


@writes(nn.Dot)
def dot(w: Writer, layer: nn.Dot, a: Value, b: Value) -> str:
    return f"({a} * {b}).sum(-1, keepdims=True)"


@writes(nn.Reshape, nn.Flatten)
def reshape(w: Writer, layer: nn.Reshape, x: Value) -> str:
    return f"reshaped({x}, {tuple(layer.shape)})"


@writes(nn.Permute)
def permute(w: Writer, layer: nn.Permute, x: Value) -> str:
    return f"{x}.transpose({(0, *(a + 1 for a in layer.axes))})"


@writes(nn.Slice)
def slice_(w: Writer, layer: nn.Slice, x: Value) -> str:
    axis = check_axis(layer, layer.axis, x.shape)
    ends = ["" if v is None else str(v) for v in (layer.start, layer.stop)] + [str(layer.step)] * (layer.step != 1)
    return f"{x}[{':, ' * (axis + 1)}{':'.join(ends)}]"


@writes(nn.Mean, nn.Sum, nn.Max)
def reduction(w: Writer, layer: Any, x: Value) -> str:
    axes = layer._axes(x.shape)
    return f"{x}.{type(layer).__name__.lower()}({tuple(a + 1 for a in axes)})"


# ---------------------------------------------------------------------- sequences
@writes(nn.LastStep, nn.MeanSteps)
def pool_steps(w: Writer, layer: nn.Layer, x: Value, lengths: Value | None = None) -> str:
    return f"{'last_step' if isinstance(layer, nn.LastStep) else 'mean_steps'}({x}, {lengths})"


@writes(nn.BlankSteps)
def blank_steps(w: Writer, layer: nn.BlankSteps, x: Value, lengths: Value) -> str:
    return f"blank_steps({x}, {lengths}, {layer.blank}, {layer.stride})"


@writes(nn.CRF)
def crf(w: Writer, layer: nn.CRF, x: Value) -> str:
    return f"{x}[:, :, None] + np.arange({x.shape[0]}, dtype={x}.dtype).clip(0, 1)[:, None, None] * {w.p(layer.transitions)}"


@writes(nn.PositionalEncoding)
def positions(w: Writer, layer: nn.PositionalEncoding, x: Value) -> str:
    if layer.learned:
        return f"{x} + {w.p(layer.weight)}[:{x}.shape[1]]"
    return f"{x} + {w.array('positions', layer.positions(x.shape[0]).astype(w.dtype))}"


@writes(nn.LearnedTokens)
def tokens(w: Writer, layer: nn.LearnedTokens, x: Value) -> str:
    return f"np.broadcast_to({w.p(layer.weight)}, (len({x}), {layer.num_tokens}, {layer.d_model}))"


STEPS: dict[type[nn.Layer], Callable[[Any], str]] = {
    nn.LSTM: lambda layer: "lstm_step", nn.RNN: lambda layer: f"rnn_{layer.nonlinearity}_step",
    nn.GRU: lambda layer: "gru_step" if layer.reset_after else "gru_reset_before_step"}


@writes(*STEPS)
def recurrent(w: Writer, layer: Any, *xs: Value) -> str:
    roles = layer._roles([x.shape for x in xs])
    layers = [[f"({', '.join(w.p(getattr(layer, f'{kind}_{suffix}', None)) for kind in KINDS)})" for suffix in layer._suffixes(k)]
              for k in range(layer.num_layers)]
    listed = ", ".join(f"[{', '.join(each)}]" for each in layers)
    states = ", ".join(str(xs[roles[n]]) if n in roles else "0" for n in ("h0", "c0")[:layer.states])
    lengths = xs[roles["lengths"]] if "lengths" in roles else None
    return f"recurrent({STEPS[type(layer)](layer)}, {xs[0]}, [{listed}], [{states}], {lengths}, {layer.return_sequences})"


KINDS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


@writes(nn.DotProductAttention)
def dot_product(w: Writer, layer: nn.DotProductAttention, q: Value, k: Value, v: Value) -> str:
    return f"dot_product({q}, {k}, {v}, {layer.num_heads}, {layer.causal}, {layer.factor(q.shape[-1])})"


@writes(nn.MultiheadAttention)
def attention(w: Writer, layer: nn.MultiheadAttention, *xs: Value) -> str:
    roles = layer._roles([x.shape for x in xs])
    lengths, ignored = (xs[roles[n]] if n in roles else None for n in ("lengths", "ignored"))
    keys, values = (xs[roles[n]] if roles["k"] else None for n in "kv")
    weights = ", ".join(f"{w.p(p)}[{at}:{at + layer.embed_dim}]" for p, at in layer.weights())
    own = ", ".join(map(w.p, (layer.in_proj_bias, layer.out_proj.weight, layer.out_proj.bias)))
    rotary = layer.rotary_base if layer.rotary else None
    return (f"attention({xs[0]}, {keys}, {values}, {lengths}, {ignored}, [{weights}], {own}, {layer.num_heads}, {layer.causal}, "
            f"{rotary})")


@writes(nn.TransformerEncoderLayer)
def encoder(w: Writer, layer: nn.TransformerEncoderLayer, x: Value, *lengths: Value) -> str:
    start = w.let(f"masked({x}, {lengths[0]})", x.shape) if lengths else x
    h = _block(w, layer, "norm1", start, lambda h: w.inner("self_attn", layer.self_attn, h, *lengths))
    h = _block(w, layer, "norm2", h, lambda h: _feed(w, layer, h))
    return f"masked({h}, {lengths[0]})" if lengths else str(h)


@writes(nn.TransformerDecoderLayer)
def decoder(w: Writer, layer: nn.TransformerDecoderLayer, *xs: Value) -> str:
    roles = layer._roles([x.shape for x in xs])
    lengths, further = ([xs[roles[n]]] if n in roles else [] for n in ("lengths", "memory_lengths"))
    start = w.let(f"masked({xs[0]}, {lengths[0]})", xs[0].shape) if lengths else xs[0]
    h = _block(w, layer, "norm1", start, lambda h: w.inner("self_attn", layer.self_attn, h, *lengths))
    h = _block(w, layer, "norm2", h,
               lambda h: w.inner("multihead_attn", layer.multihead_attn, h, xs[roles["memory"]], *further))
    h = _block(w, layer, "norm3", h, lambda h: _feed(w, layer, h))
    return f"masked({h}, {lengths[0]})" if lengths else str(h)


def _block(w: Writer, layer: Any, norm: str, x: Value, f: Callable[[Value], Value]) -> Value:
    """norm(x + f(x)), or x + f(norm(x))."""
    if layer.norm_first:
        return w.let(f"{x} + {f(w.inner(norm, getattr(layer, norm), x))}", x.shape)
    return w.inner(norm, getattr(layer, norm), w.let(f"{x} + {f(x)}", x.shape))


def _feed(w: Writer, layer: Any, x: Value) -> Value:
    h = w.inner("act", ACTIVATIONS[layer.activation](), w.inner("linear1", layer.linear1, x))
    if layer.activation == "swiglu":
        h = w.let(f"{h} * {w.inner('gate', layer.gate, x)}", h.shape)
    return w.inner("linear2", layer.linear2, h)
