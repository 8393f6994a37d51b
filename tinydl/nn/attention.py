"""MultiheadAttention (Vaswani et al. 2017)."""
# B batch, L queries, M keys, E embed_dim
from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.dropout import probability
from tinydl.nn.layer import Backward, Layer, Parameter, Symbol, register
from tinydl.nn.linear import Linear
from tinydl.nn.steps import check_dtypes, masked, piece
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


class Projection(Linear):
    """A Linear whose weight is stored as PyTorch's, (out_features, in_features), and whose bias begins at 0."""

    transposed = True

    def __init__(self, in_features: int, out_features: int, bias: bool = True) -> None:
        super().__init__(in_features, out_features, bias)
        self.weight = Parameter((out_features, in_features), initializers.default_linear, (in_features, out_features))
        if bias:
            self.bias = Parameter((out_features,), initializers.zeros)


@register
class MultiheadAttention(Layer):
    """softmax(q k' / sqrt(D)) v in each of num_heads heads of D = embed_dim / num_heads columns, and a linear layer behind it.

    Of one input x (T, embed_dim), q, k and v are all made of x. Of two, x and memory (M, embed_dim), q is made of x, and k and v
    of memory. Further inputs, in a graph, both integers and both about the keys: `lengths`, nn.Input((), "int64"): so many keys
    from the first on are there (0 to their number; another one fails its batch); key_padding_mask, nn.Input((M,), "int64"): those
    where it is not 0 do not count (PyTorch's, whose True is padding). causal: step i looks at keys 0 to i alone. dropout: of the
    softmax's weights, in training.

    A query with nothing to look at (of no keys, or none that it may see) gives out_proj's bias, its attention being zeros, and
    all gradients through it are 0; PyTorch gives NaN there. With `lengths` and one input, steps beyond a length are no queries
    either. What lies beyond a length changes no bit of anything, whatever it is; key_padding_mask keeps values away from other
    steps, but they must be numbers.

    The matrix of all weights is never in memory: a long sequence needs room in proportion to its length. Parameters are
    PyTorch's: in_proj_weight (3 embed_dim, embed_dim) of q, k and v, Glorot-uniform, in_proj_bias (zeros), out_proj.weight
    (embed_dim, embed_dim), uniform in +-1/sqrt(embed_dim), and out_proj.bias (zeros).

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> x, lengths = nn.Input((7, 8)), nn.Input((), "int64", name="lengths")
        >>> model = Model(inputs=[x, lengths], outputs=nn.MultiheadAttention(8, 2)([x, lengths]), seed=0)
        >>> model.predict((np.ones((2, 7, 8)), np.array([7, 4]))).shape
        (2, 7, 8)
    """

    n_inputs = None
    any_dtype = True
    makes_children = True

    @_hints.arguments
    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *, causal: bool = False) -> None:
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention({embed_dim}, {num_heads}): embed_dim must be a multiple of num_heads")
        self.embed_dim, self.num_heads = int(embed_dim), int(num_heads)
        self.dropout = probability("MultiheadAttention", dropout)
        self.causal, self.with_bias = bool(causal), bool(bias)
        E = self.embed_dim
        self.in_proj_weight = Parameter((3 * E, E), initializers.xavier_uniform, (E, 3 * E))
        self.in_proj_bias = Parameter((3 * E,), initializers.zeros) if bias else None
        self.out_proj = Projection(E, E, bias)

    def config(self) -> dict[str, Any]:
        return {"embed_dim": self.embed_dim, "num_heads": self.num_heads, "dropout": self.dropout, "bias": self.with_bias,
                "causal": self.causal}

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "out_proj", self.out_proj

    def __call__(self, inputs: Symbol | Sequence[Symbol]) -> Symbol:
        y = super().__call__(inputs)
        check_dtypes(self, y.inputs, (0, 1))
        return y

    def _roles(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Which input is what."""
        names = {2: "memory", 0: "lengths", 1: "ignored"}
        roles: dict[str, int] = {"x": 0}
        for i, shape in enumerate(shapes[1:], 1):
            name = names.get(len(shape), "")
            if not name or name in roles:
                raise ValueError(self._wrong(shapes))
            roles[name] = i
        keys = shapes[roles.get("memory", 0)]
        if any(len(s) != 2 or s[1] != self.embed_dim or s[0] < 1 for s in (shapes[0], keys)):
            raise ValueError(self._wrong(shapes))
        if "ignored" in roles and shapes[roles["ignored"]] != keys[:1]:
            raise ValueError(self._wrong(shapes))
        return roles

    def _wrong(self, shapes: Sequence[Shape]) -> str:
        return (f"{self!r} takes x (T, {self.embed_dim}), then, if you like, memory (M, {self.embed_dim}), lengths () and a mask "
                f"of the keys (M,); got samples of shape {', '.join(map(str, shapes))}")

    def output_shape(self, *shapes: Shape) -> Shape:
        self._roles(shapes)
        return shapes[0]

    def flops(self, *shapes: Shape) -> int:
        E, L, M = self.embed_dim, shapes[0][0], shapes[self._roles(shapes).get("memory", 0)][0]
        return 2 * (L + M) * E * E + 2 * L * M * E

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        roles, E = self._roles([x.shape for x in xs]), self.embed_dim
        given: dict[str, Any] = {name: b.whole(xs[roles[name]]) for name in ("lengths", "ignored") if name in roles}
        lengths, cross = given.get("lengths"), "memory" in roles
        x = b.whole(xs[0]) if cross else masked(b, xs[0], lengths)
        memory = masked(b, xs[roles["memory"]], lengths) if cross else x
        if not cross and lengths is not None:
            given["q_lengths"] = lengths
        q = _Projected(self, b, x, 0, 1 if cross else 3)
        kv = _Projected(self, b, memory, 1, 2) if cross else q
        L, M, N = x.shape[0], memory.shape[0], self.num_heads
        sizes: dict[str, Any] = {
            "B": Rows(), "L": L, "M": M, "N": N, "D": E // N, "E": E, "P": q.y.shape[1], "Q": kv.y.shape[1],
            "k_at": 0 if cross else E, "v_at": E if cross else 2 * E, "causal": int(self.causal), "scale": (E // N) ** -0.5}
        if b.training and self.dropout:
            sizes |= {"layer": b.random_key(), "rate": self.dropout}
        heads = b.value((L, E), needs_grad=q.y.needs_grad or kv.y.needs_grad)
        lse = b.value((N, L))
        b.emit("attention", q=q.y, kv=kv.y, out=heads, lse=lse, **given, **sizes)
        with b.scope("out_proj"):
            y, back = self.out_proj.emit(b, heads)

        def backward(dy: Value | None) -> Any:
            grads: list[Value | None] = [None] * len(xs)
            with b.scope("out_proj"):
                d = back(dy)
            if d is not None:
                dq = b.value(q.y.shape)
                dkv = b.value(kv.y.shape) if cross else dq
                b.emit("attention_backward", dy=d, out=heads, q=q.y, kv=kv.y, lse=lse, dq=dq, dkv=dkv, **given, **sizes)
                own = {p: b.grad(p) for p in (self.in_proj_weight, self.in_proj_bias) if p is not None and b.trains(p)}
                grads[0] = q.backward(dq, own)
                if cross:
                    grads[roles["memory"]] = kv.backward(dkv, own)
            return tuple(grads) if len(xs) > 1 else grads[0]
        return y, backward


class _Projected:
    """q, k and v, or some of them: rows first E..(first + n) E - 1 of in_proj_weight times x."""

    def __init__(self, layer: MultiheadAttention, b: Builder, x: Value, first: int, n: int) -> None:
        E = layer.embed_dim
        self.b, self.x, self.rows = b, x, (first * E, n * E)
        self.weight, self.bias = layer.in_proj_weight, layer.in_proj_bias
        self.w = b.matrix(b.param(self.weight, (3 * E, E)).part(0, *self.rows))
        bias = None if self.bias is None else b.param(self.bias, (3 * E,))
        self.y = b.value((x.shape[0], n * E), needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        b.matmul(b.matrix(x), self.w.T, self.y, bias=None if bias is None else self._part(bias))

    def _part(self, p: Value) -> Value:
        return piece(self.b, p, *self.rows)

    def backward(self, dy: Value, grads: dict[Parameter, tuple[Value, int]]) -> Value | None:
        """grads: where the gradients of both parameters go, as far as they have one, and whether to add."""
        b, x = self.b, self.x
        if self.weight in grads:
            dw, more = grads[self.weight]
            b.matmul(b.matrix(dy).T, b.matrix(x), self._part(dw), accumulate=more)
        if self.bias is not None and self.bias in grads:
            db, more = grads[self.bias]
            b.emit("column_sum", x=dy, out=self._part(db), R=Rows(dy.shape[0]), C=dy.shape[1], accumulate=more)
        if not x.needs_grad:
            return None
        dx = b.value(x.shape)
        b.matmul(b.matrix(dy), self.w, dx)
        return dx
