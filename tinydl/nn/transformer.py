"""Transformer layers (Vaswani et al. 2017; norm_first: Xiong et al. 2020), of attention and linear layers."""
# B batch, T steps, M steps of memory, C d_model
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

from tinydl import _hints
from tinydl.nn.activations import GELU, ReLU, SiLU
from tinydl.nn.attention import MultiheadAttention
from tinydl.nn.dropout import Dropout, probability
from tinydl.nn.layer import Backward, Layer, Symbol, register
from tinydl.nn.linear import Linear
from tinydl.nn.norm import LayerNorm, checked_eps
from tinydl.nn.steps import check_dtypes, masked
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]
ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "relu": ReLU, "gelu": GELU, "gelu_tanh": partial(GELU, "tanh"), "swiglu": SiLU}


class _Block(Layer):
    """x := norm(x + dropout(f(x))), or x + dropout(f(norm(x))) with norm_first, of several f, one after another."""

    n_inputs = None
    any_dtype = True
    makes_children = True
    #: further inputs: () for lengths
    after_x: ClassVar[tuple[str, ...]] = ()

    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: str = "relu",
                 norm_first: bool = False, *, layer_norm_eps: float = 1e-5, bias: bool = True, causal: bool = False,
                 rotary: bool = False, rotary_base: float = 10000.0) -> None:
        name = type(self).__name__
        if d_model < 1 or dim_feedforward < 1:
            raise ValueError(f"{name}({d_model}, {nhead}, dim_feedforward={dim_feedforward}): each must be at least 1")
        if activation not in ACTIVATIONS:
            hint = " (by tanh it is gelu_tanh)" if "gelu" in str(activation).lower() else ""
            raise ValueError(f"{name}(activation={activation!r}): choose one of {', '.join(ACTIVATIONS)}{hint}")
        self.d_model, self.nhead, self.dim_feedforward = int(d_model), int(nhead), int(dim_feedforward)
        self.p, self.activation, self.norm_first = probability(name, dropout), activation, bool(norm_first)
        self.layer_norm_eps = checked_eps(name, layer_norm_eps, "layer_norm_eps")
        self.with_bias, self.causal = bool(bias), bool(causal)
        C, F = self.d_model, self.dim_feedforward
        self.self_attn = MultiheadAttention(C, self.nhead, self.p, bias, causal=causal, rotary=rotary, rotary_base=rotary_base)
        self.linear1 = Linear(C, F, bias)
        if activation == "swiglu":
            self.gate = Linear(C, F, bias)
        self.linear2 = Linear(F, C, bias)
        self._dropout = Dropout(self.p)

    def config(self) -> dict[str, Any]:
        return {"d_model": self.d_model, "nhead": self.nhead, "dim_feedforward": self.dim_feedforward, "dropout": self.p,
                "activation": self.activation, "norm_first": self.norm_first, "layer_norm_eps": self.layer_norm_eps,
                "bias": self.with_bias, "causal": self.causal, "rotary": self.self_attn.rotary,
                "rotary_base": self.self_attn.rotary_base}

    def children(self) -> Iterator[tuple[str, Layer]]:
        return ((name, layer) for name, layer in vars(self).items() if isinstance(layer, Layer) and name[0] != "_")

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        y = super().__call__(inputs, *more)
        check_dtypes(self, y.inputs)
        return y

    def input_shape(self) -> None:
        return None

    def _roles(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Which input is what."""
        roles: dict[str, int] = {}
        for i, shape in enumerate(shapes):
            names = [n for n in ("x", *self.after_x) if n not in roles and (n[-7:] == "lengths") == (shape == ())]
            if not names or (shape != () and (len(shape) != 2 or shape[1] != self.d_model or shape[0] < 1)):
                raise ValueError(f"{self!r} takes samples x (T, {self.d_model}) and then {', '.join(self.after_x)}; "
                                 f"got {', '.join(map(str, shapes))}")
            roles[names[0]] = i
        return roles

    def output_shape(self, *shapes: Shape) -> Shape:
        self._roles(shapes)
        return shapes[0]

    def _forward_flops(self, T: int) -> int:
        return (3 if self.activation == "swiglu" else 2) * T * self.d_model * self.dim_feedforward

    def _normed(self, b: Builder, x: Value, norm: LayerNorm, name: str, f: Any) -> tuple[Value, Any]:
        """One step of the block; f(x) -> (y, backward), and backward(dy) -> (dx, further gradients ...)."""
        h = x
        norm_back: Any = None
        if self.norm_first:
            with b.scope(name):
                h, norm_back = norm.emit(b, x)
        y, f_back = f(h)
        y, drop_back = self._dropout.emit(b, y)
        total = b.value(x.shape, needs_grad=x.needs_grad or y.needs_grad)
        b.emit("add", a=b.whole(x), b=y, out=total, n=Rows(x.size))
        out = total
        if not self.norm_first:
            with b.scope(name):
                out, norm_back = norm.emit(b, total)

        def backward(dy: Value) -> tuple[Value | None, Any]:
            if not self.norm_first:
                with b.scope(name):
                    dy = norm_back(dy)
            through, more = f_back(drop_back(dy)) if y.needs_grad else (None, ())
            if self.norm_first and through is not None and h.needs_grad:
                with b.scope(name):
                    through = norm_back(through)
            if not x.needs_grad or through is None:
                return (dy if x.needs_grad else None), more
            dx = b.value(x.shape)
            b.emit("add", a=b.whole(through), b=b.whole(dy), out=dx, n=Rows(x.size))
            return dx, more
        return out, backward

    def _feed(self, b: Builder, x: Value) -> tuple[Value, Any]:
        """linear2(dropout(act(linear1(x)))); swiglu: silu(linear1(x)) gate(x) (Shazeer 2020)."""
        backs = []
        h = x
        act = ACTIVATIONS[self.activation]()
        for name, layer in (("linear1", self.linear1), ("act", act)):
            with b.scope(name):
                h, back = layer.emit(b, h)
            backs.append((name, back))
        if self.activation == "swiglu":
            with b.scope("gate"):
                g, gate_back = self.gate.emit(b, x)
            product = b.value(h.shape, needs_grad=h.needs_grad or g.needs_grad)
            b.emit("multiply", a=h, b=g, out=product, n=Rows(h.size))
            inner = product
        else:
            inner = h
        inner, drop_back = self._dropout.emit(b, inner)
        with b.scope("linear2"):
            y, last_back = self.linear2.emit(b, inner)

        def backward(dy: Value) -> tuple[Value | None, Any]:
            with b.scope("linear2"):
                d = last_back(dy)
            d = drop_back(d)
            by_gate = None
            if d is not None and self.activation == "swiglu":
                dg, dh = b.value(g.shape), b.value(h.shape)
                b.emit("multiply", a=d, b=h, out=dg, n=Rows(h.size))
                b.emit("multiply", a=d, b=g, out=dh, n=Rows(h.size))
                with b.scope("gate"):
                    by_gate = gate_back(dg) if g.needs_grad else None
                d = dh
            for name, back in reversed(backs):
                if d is None or not h.needs_grad:
                    break
                with b.scope(name):
                    d = back(d)
            if by_gate is not None and d is not None:
                both = b.value(x.shape)
                b.emit("add", a=by_gate, b=d, out=both, n=Rows(x.size))
                d = both
            return d, ()
        return y, backward


@register
class TransformerEncoderLayer(_Block):
    """Self attention and a feed-forward network, each with a residual and a norm: (T, d_model) -> (T, d_model).

        x = norm1(x + dropout(self_attn(x)))            x = x + dropout(self_attn(norm1(x)))
        x = norm2(x + dropout(feed(x)))                 x = x + dropout(feed(norm2(x)))      with norm_first
        feed(x) = linear2(dropout(act(linear1(x))))

    activation: "relu"; "gelu", which is exact; "gelu_tanh", which is nn.GELU("tanh"), as GPT-2's gelu_new; or "swiglu":
    silu(linear1(x)) gate(x) stands for act(linear1(x)), with a further linear layer (Shazeer 2020). causal: a step looks at
    those up to itself. rotary: self_attn knows where steps stand, and needs no nn.PositionalEncoding (nn.MultiheadAttention
    says how). A further input, in a graph: `lengths`, an integer for each sample, as nn.MultiheadAttention takes it; what lies
    beyond a length changes no bit of anything, whatever it is, and what comes out there is 0.

    Names of parameters are PyTorch's (self_attn.in_proj_weight, linear1.weight, norm1.bias, ...); weights of linear1 and linear2
    are stored as nn.Linear's, PyTorch's transposed.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> layers = [nn.TransformerEncoderLayer(8, 2, 16) for _ in range(2)]
        >>> Model(nn.Sequential(*layers, nn.Mean(0), nn.Linear(8, 3)), seed=0).predict(np.ones((2, 7, 8))).shape
        (2, 3)
    """

    after_x = ("lengths",)

    @_hints.arguments
    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: str = "relu",
                 norm_first: bool = False, *, layer_norm_eps: float = 1e-5, bias: bool = True, causal: bool = False,
                 rotary: bool = False, rotary_base: float = 10000.0) -> None:
        super().__init__(d_model, nhead, dim_feedforward, dropout, activation, norm_first, layer_norm_eps=layer_norm_eps,
                         bias=bias, causal=causal, rotary=rotary, rotary_base=rotary_base)
        self.norm1, self.norm2 = (_norm(self.d_model, self.layer_norm_eps, bias) for _ in range(2))

    def flops(self, *shapes: Shape) -> int:
        return self.self_attn.flops(shapes[0]) + self._forward_flops(shapes[0][0])

    def step(self, b: Builder, x: Value, attend: Callable[[Value], Value]) -> Value:
        """One more step x (1, d_model) in inference; attend: what self_attn makes of one."""
        def attended(h: Value) -> tuple[Value, None]:
            with b.scope("self_attn"):
                return attend(h), None
        h, _ = self._normed(b, x, self.norm1, "norm1", attended)
        return self._normed(b, h, self.norm2, "norm2", lambda h: self._feed(b, h))[0]

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        roles = self._roles([x.shape for x in xs])
        lengths = b.whole(xs[roles["lengths"]]) if "lengths" in roles else None
        x, extra = masked(b, xs[0], lengths), [] if lengths is None else [lengths]

        def attend(h: Value) -> tuple[Value, Any]:
            with b.scope("self_attn"):
                y, back = self.self_attn.emit(b, h, *extra)

            def backward(dy: Value) -> tuple[Value | None, Any]:
                with b.scope("self_attn"):
                    dx = back(dy)
                return dx[0] if extra else dx, ()
            return y, backward
        h, first = self._normed(b, x, self.norm1, "norm1", attend)
        y, second = self._normed(b, h, self.norm2, "norm2", lambda h: self._feed(b, h))

        def backward(dy: Value | None) -> Any:
            assert dy is not None
            d, _ = second(masked(b, dy, lengths))
            dx = first(d)[0] if d is not None and h.needs_grad else None
            return (dx, *[None] * (len(xs) - 1)) if len(xs) > 1 else dx
        return masked(b, y, lengths), backward


@register
class TransformerDecoderLayer(_Block):
    """Causal self attention, attention to memory, and a feed-forward network: (T, d_model), (M, d_model) -> (T, d_model).

    Called on [x, memory], in a graph, and if you like `lengths` of x and then `memory_lengths`, integers. The rest is as
    TransformerEncoderLayer's, with a norm more: norm1 is self_attn's, norm2 multihead_attn's, norm3 the network's. causal=False:
    self attention looks at all steps.

        >>> from tinydl import Model, nn
        >>> x, memory = nn.Input((5, 8)), nn.Input((7, 8))
        >>> Model(inputs=[x, memory], outputs=nn.TransformerDecoderLayer(8, 2, 16)([x, memory]), seed=0).output_shape()
        (5, 8)
    """

    after_x = ("memory", "lengths", "memory_lengths")

    @_hints.arguments
    def __init__(self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1, activation: str = "relu",
                 norm_first: bool = False, *, layer_norm_eps: float = 1e-5, bias: bool = True, causal: bool = True,
                 rotary: bool = False, rotary_base: float = 10000.0) -> None:
        super().__init__(d_model, nhead, dim_feedforward, dropout, activation, norm_first, layer_norm_eps=layer_norm_eps,
                         bias=bias, causal=causal, rotary=rotary, rotary_base=rotary_base)
        self.multihead_attn = MultiheadAttention(self.d_model, self.nhead, self.p, bias)
        self.norm1, self.norm2, self.norm3 = (_norm(self.d_model, self.layer_norm_eps, bias) for _ in range(3))

    def output_shape(self, *shapes: Shape) -> Shape:
        if "memory" not in self._roles(shapes):
            raise ValueError(f"{self!r} takes x and memory; got {', '.join(map(str, shapes))}")
        return shapes[0]

    def flops(self, *shapes: Shape) -> int:
        return (self.self_attn.flops(shapes[0]) + self.multihead_attn.flops(shapes[0], shapes[1]) +
                self._forward_flops(shapes[0][0]))

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        roles = self._roles([x.shape for x in xs])
        given = {name: b.whole(xs[roles[name]]) for name in ("lengths", "memory_lengths") if name in roles}
        x, memory = masked(b, xs[0], given.get("lengths")), xs[roles["memory"]]

        def attend(layer: MultiheadAttention, name: str, *more: Value) -> Any:
            def f(h: Value) -> tuple[Value, Any]:
                with b.scope(name):
                    y, back = layer.emit(b, h, *more)

                def backward(dy: Value) -> tuple[Value | None, Any]:
                    with b.scope(name):
                        dx = back(dy)
                    return (dx[0], dx[1:]) if more else (dx, ())
                return y, backward
            return f
        own = [given["lengths"]] if "lengths" in given else []
        other = [given["memory_lengths"]] if "memory_lengths" in given else []
        h1, first = self._normed(b, x, self.norm1, "norm1", attend(self.self_attn, "self_attn", *own))
        h2, second = self._normed(b, h1, self.norm2, "norm2", attend(self.multihead_attn, "multihead_attn", memory, *other))
        y, third = self._normed(b, h2, self.norm3, "norm3", lambda h: self._feed(b, h))

        def backward(dy: Value | None) -> Any:
            assert dy is not None
            grads: list[Value | None] = [None] * len(xs)
            d, _ = third(masked(b, dy, given.get("lengths")))
            if d is not None:
                d, more = second(d)
                grads[roles["memory"]] = more[0] if more else None
            grads[0] = first(d)[0] if d is not None else None
            return tuple(grads)
        return masked(b, y, given.get("lengths")), backward


def _norm(size: int, eps: float, bias: bool) -> LayerNorm:
    norm = LayerNorm(size, eps)
    if not bias:
        norm.bias = None
    return norm
