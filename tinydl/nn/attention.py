"""MultiheadAttention (Vaswani et al. 2017)."""
# B batch, L queries, M keys, E embed_dim
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.dot_product import attend_to_kept
from tinydl.nn.dropout import probability
from tinydl.nn.layer import Backward, Layer, Parameter, Symbol, register
from tinydl.nn.linear import Linear
from tinydl.nn.steps import check_dtypes, masked, piece
from tinydl.plan import Buffer, Builder, Rows, Value

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
    of memory; of three, x, keys (M, kdim) and values (M, vdim), k and v each of its own. kdim, vdim: embed_dim, if not given.
    Further inputs, in a graph, both integers and both about the keys: `lengths`, nn.Input((), "int64"): so many keys
    from the first on are there (0 to their number; another one fails its batch); key_padding_mask, nn.Input((M,), "int64"): those
    where it is not 0 do not count (PyTorch's, whose True is padding). causal: step i looks at keys 0 to i alone. dropout: of the
    softmax's weights, in training.

    rotary: q and k know where they stand (RoPE, Su et al. 2021, https://arxiv.org/abs/2104.09864): of step t, columns 2 i and
    2 i + 1 of a head are turned by the angle t rotary_base^(-2 i / D), so that scores depend on how far two steps are apart.
    D must be even; for one input alone. (The paper pairs neighbours, as torchtune does; GPT-NeoX and Llama's files pair column i
    with i + D / 2.)

    A query with nothing to look at (of no keys, or none that it may see) gives out_proj's bias, its attention being zeros, and
    all gradients through it are 0; PyTorch gives NaN there. With `lengths` and one input, steps beyond a length are no queries
    either. What lies beyond a length changes no bit of anything, whatever it is; key_padding_mask keeps values away from other
    steps, but they must be numbers.

    The matrix of all weights is never in memory: a long sequence needs room in proportion to its length. Parameters are
    PyTorch's: in_proj_weight (3 embed_dim, embed_dim) of q, k and v, Glorot-uniform (with another kdim or vdim q_proj_weight,
    k_proj_weight (embed_dim, kdim) and v_proj_weight (embed_dim, vdim)), in_proj_bias (zeros), out_proj.weight
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
    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, *, kdim: int | None = None,
                 vdim: int | None = None, causal: bool = False, rotary: bool = False, rotary_base: float = 10000.0) -> None:
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise ValueError(f"MultiheadAttention({embed_dim}, {num_heads}): embed_dim must be a multiple of num_heads")
        self.embed_dim, self.num_heads = int(embed_dim), int(num_heads)
        self.dropout = probability("MultiheadAttention", dropout)
        self.causal, self.with_bias = bool(causal), bool(bias)
        self.rotary, self.rotary_base = bool(rotary), float(rotary_base)
        if (rotary and embed_dim // num_heads % 2) or not 1 < rotary_base < float("inf"):
            raise ValueError(f"MultiheadAttention({embed_dim}, {num_heads}, rotary={rotary}, rotary_base={rotary_base}): with "
                             f"rotary a head's {embed_dim // num_heads} columns must be an even number, and the base is a number "
                             "above 1")
        E = self.embed_dim
        self.kdim, self.vdim = E if kdim is None else int(kdim), E if vdim is None else int(vdim)
        if min(self.kdim, self.vdim) < 1:
            raise ValueError(f"MultiheadAttention(kdim={kdim}, vdim={vdim}): both must be at least 1")
        if self.kdim == self.vdim == E:
            self.in_proj_weight = Parameter((3 * E, E), initializers.xavier_uniform, (E, 3 * E))
        else:
            for name, width in zip("qkv", (E, self.kdim, self.vdim), strict=True):
                setattr(self, f"{name}_proj_weight", Parameter((E, width), initializers.xavier_uniform, (width, E)))
        self.in_proj_bias = Parameter((3 * E,), initializers.zeros) if bias else None
        self.out_proj = Projection(E, E, bias)

    def config(self) -> dict[str, Any]:
        return {"embed_dim": self.embed_dim, "num_heads": self.num_heads, "dropout": self.dropout, "bias": self.with_bias,
                "kdim": self.kdim, "vdim": self.vdim, "causal": self.causal, "rotary": self.rotary,
                "rotary_base": self.rotary_base}

    def children(self) -> Iterator[tuple[str, Layer]]:
        yield "out_proj", self.out_proj

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        y = super().__call__(inputs, *more)
        check_dtypes(self, y.inputs, (0, 1))
        return y

    def _roles(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Which input is what: x, k and v (which may be the same one), lengths, ignored."""
        roles: dict[str, int] = {}
        for i, shape in enumerate(shapes):
            names = {2: ("x", "k", "v"), 1: ("ignored",), 0: ("lengths",)}.get(len(shape), ())
            name = next((n for n in names if n not in roles), "")
            if not name:
                raise ValueError(self._wrong(shapes))
            roles[name] = i
        if roles.get("x") != 0:
            raise ValueError(self._wrong(shapes))
        roles["k"] = roles.get("k", 0)
        roles["v"] = roles.get("v", roles["k"])
        x, k, v = (shapes[roles[name]] for name in "xkv")
        if (x[1], k[1], v[1]) != (self.embed_dim, self.kdim, self.vdim) or k[0] != v[0] or min(x[0], k[0]) < 1:
            raise ValueError(self._wrong(shapes))
        if ("ignored" in roles and shapes[roles["ignored"]] != k[:1]) or (self.rotary and roles["k"]):
            raise ValueError(self._wrong(shapes))
        return roles

    def _wrong(self, shapes: Sequence[Shape]) -> str:
        memory = "" if self.rotary else f"memory (M, {self.kdim}), or keys (M, {self.kdim}) and values (M, {self.vdim}), "
        return (f"{self!r} takes x (T, {self.embed_dim}), then, if you like, {memory}lengths () and a mask "
                f"of the keys (M,); got samples of shape {', '.join(map(str, shapes))}")

    def output_shape(self, *shapes: Shape) -> Shape:
        self._roles(shapes)
        return shapes[0]

    def flops(self, *shapes: Shape) -> int:
        E, L, M = self.embed_dim, shapes[0][0], shapes[self._roles(shapes)["k"]][0]
        return 2 * L * E * E + M * E * (self.kdim + self.vdim) + 2 * L * M * E

    def turns(self, T: int, first: int = 0) -> np.ndarray[Any, Any]:
        """With rotary: cos and sin of the angle of each pair of columns of a head, for T steps from the first-th on (T, D)."""
        D = self.embed_dim // self.num_heads
        angles = np.arange(first, first + T)[:, None] * self.rotary_base ** (-np.arange(0, D, 2) / D)
        return np.stack([np.cos(angles), np.sin(angles)], 2).reshape(T, D)

    def weights(self) -> list[tuple[Parameter, int]]:
        """Of q, k and v: the parameter, and the row of it that its weight begins at."""
        if self.kdim == self.vdim == self.embed_dim:
            return [(self.in_proj_weight, i * self.embed_dim) for i in range(3)]
        return [(getattr(self, f"{name}_proj_weight"), 0) for name in "qkv"]

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        roles, E = self._roles([x.shape for x in xs]), self.embed_dim
        given: dict[str, Any] = {name: b.whole(xs[roles[name]]) for name in ("lengths", "ignored") if name in roles}
        lengths, cross = given.get("lengths"), roles["k"] > 0
        x = b.whole(xs[0]) if cross else masked(b, xs[0], lengths)
        k = masked(b, xs[roles["k"]], lengths) if cross else x
        v = k if roles["v"] == roles["k"] else masked(b, xs[roles["v"]], lengths)
        # projections of the same input are one product, where one parameter has their weights
        together = self.kdim == self.vdim == E
        inputs = [(x, 0, 3)] if not cross and together else [
            (x, 0, 1), *([(k, 1, 2)] if v is k and together else [(k, 1, 1), (v, 2, 1)])]
        made = [_Projected(self, b, *one) for one in inputs]
        q, kv = made[0].y, made[-1].y
        if len(made) == 3:
            kv = b.value((k.shape[0], 2 * E), needs_grad=made[1].y.needs_grad or made[2].y.needs_grad)
            for i, one in enumerate(made[1:]):
                b.move(one.y, kv.part(1, i * E, E))
        L, M, N = x.shape[0], k.shape[0], self.num_heads
        if self.rotary:
            turns = b.constant(self.turns(L))
            q = kv = self._turned(b, q, turns)
        if not cross and lengths is not None:
            given["q_lengths"] = lengths
        own = len(made) == 1
        sizes: dict[str, Any] = {
            "B": Rows(), "L": L, "M": M, "N": N, "D": E // N, "E": E, "P": q.shape[1], "Q": kv.shape[1],
            "k_at": E if own else 0, "v_at": 2 * E if own else E, "causal": int(self.causal), "scale": (E // N) ** -0.5}
        if b.training and self.dropout:
            sizes |= {"layer": b.random_key(), "rate": self.dropout}
        heads = b.value((L, E), needs_grad=q.needs_grad or kv.needs_grad)
        lse = b.value((N, L))
        b.emit("attention", q=q, kv=kv, out=heads, lse=lse, **given, **sizes)
        with b.scope("out_proj"):
            y, back = self.out_proj.emit(b, heads)

        def backward(dy: Value | None) -> Any:
            grads: list[Value | None] = [None] * len(xs)
            with b.scope("out_proj"):
                d = back(dy)
            if d is not None:
                dq = b.value(q.shape)
                dkv = dq if own else b.value(kv.shape)
                b.emit("attention_backward", dy=d, out=heads, q=q, kv=kv, lse=lse, dq=dq, dkv=dkv, **given, **sizes)
                if self.rotary:
                    dq = dkv = self._turned(b, dq, turns, back=1)
                each = [dq, dkv][:len(made)] if len(made) < 3 else [dq, *(b.whole(dkv.part(1, i * E, E)) for i in range(2))]
                parameters = {p for p, _ in self.weights()} | {self.in_proj_bias}
                written = {p: b.grad(p) for p in parameters if p is not None and b.trains(p)}
                for (_, first, _), one, dy in zip(inputs, made, each, strict=True):
                    if one.y.needs_grad:
                        _add(b, grads, roles["xkv"[first]], one.backward(dy, written))
            return tuple(grads) if len(xs) > 1 else grads[0]
        return y, backward

    def step(self, b: Builder, xs: Sequence[Value], before: Value, absent: Value,
             by_step: Callable[[Callable[[int], Any]], Buffer]) -> tuple[Value, Value]:
        """What causal self attention makes of one more step (1, embed_dim) in inference, and that step's key and value in a row
        (1, 2 embed_dim). before: rows of earlier steps (M, 2 embed_dim); absent: integers (M + 1,), not 0 where a row of these or
        this step's is not there; by_step: where operations of step t find what a function says of t."""
        E = self.embed_dim
        q = _Projected(self, b, xs[0], 0, 3).y
        if self.rotary:
            q = self._turned(b, q, by_step(lambda t: self.turns(1, t)))
        row = b.whole(q.part(1, E, 2 * E))
        heads = attend_to_kept(b, q, row, before, absent, self.num_heads, E, (E // self.num_heads) ** -0.5)
        with b.scope("out_proj"):
            return self.out_proj.emit(b, heads)[0], row

    def _turned(self, b: Builder, x: Value, turns: Buffer, back: int = 0) -> Value:
        """q and k of x (T, 3 E) turned by the angles of their steps."""
        T, P = x.shape
        y = b.value(x.shape, needs_grad=x.needs_grad)
        b.emit("rotary", x=x, turns=turns, out=y, B=Rows(), L=T, P=P, D=self.embed_dim // self.num_heads,
               n=2 * self.embed_dim, back=back)
        return y


def _add(b: Builder, grads: list[Value | None], i: int, dx: Value | None) -> None:
    before = grads[i]
    if dx is None or before is None:
        grads[i] = before if dx is None else dx
        return
    total = b.value(dx.shape)
    b.emit("add", a=before, b=dx, out=total, n=Rows(dx.size))
    grads[i] = total


class _Projected:
    """q, k and v of x, or some of them: the n from the first-th on."""

    def __init__(self, layer: MultiheadAttention, b: Builder, x: Value, first: int, n: int) -> None:
        E = layer.embed_dim
        self.b, self.x = b, x
        self.weight, at = layer.weights()[first]
        self.bias, self.rows, self.bias_rows = layer.in_proj_bias, (at, n * E), (first * E, n * E)
        self.w = b.matrix(b.param(self.weight, self.weight.shape).part(0, *self.rows))
        bias = None if self.bias is None else b.param(self.bias, (3 * E,))
        self.y = b.value((x.shape[0], n * E), needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        b.matmul(b.matrix(x), self.w.T, self.y, bias=None if bias is None else piece(b, bias, *self.bias_rows))

    def backward(self, dy: Value, grads: dict[Parameter, tuple[Value, int]]) -> Value | None:
        """grads: where the gradients of parameters go, as far as they have one, and whether to add."""
        b, x = self.b, self.x
        if self.weight in grads:
            dw, more = grads[self.weight]
            b.matmul(b.matrix(dy).T, b.matrix(x), piece(b, dw, *self.rows), accumulate=more)
        if self.bias is not None and self.bias in grads:
            db, more = grads[self.bias]
            b.emit("column_sum", x=dy, out=piece(b, db, *self.bias_rows), R=Rows(dy.shape[0]), C=dy.shape[1], accumulate=more)
        if not x.needs_grad:
            return None
        dx = b.value(x.shape)
        b.matmul(b.matrix(dy), self.w, dx)
        return dx
