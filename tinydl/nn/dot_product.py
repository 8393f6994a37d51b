"""DotProductAttention: the attention alone, without the linear layers around it that nn.MultiheadAttention has."""
# L queries, M keys, E columns of all heads, D of one
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


def attend_to_kept(b: Builder, q: Value, row: Value, before: Value, absent: Value, heads: int, E: int, scale: float) -> Value:
    """What one query sees (1, E), the first E columns of q: of the keys and values in the rows `before` (M, 2 E) and in `row`
    (1, 2 E) behind them, but for those that are `absent`, integers (M + 1,)."""
    M = before.shape[0]
    kv, out, lse = b.value((M + 1, 2 * E), needs_grad=False), b.value((1, E), needs_grad=False), b.value((heads, 1))
    b.move(before, kv.part(0, 0, M))
    b.move(row, kv.part(0, M, 1))
    b.emit("attention", q=q, kv=kv, ignored=absent, out=out, lse=lse, B=Rows(), L=1, M=M + 1, N=heads, D=E // heads, E=E,
           P=q.shape[1], Q=2 * E, k_at=0, v_at=E, causal=0, scale=scale)
    return out


@register
class DotProductAttention(Layer):
    """softmax(scale q k') v in each of num_heads heads of D = E / num_heads columns (Vaswani et al. 2017): of q (L, E), k (M, E)
    and v (M, E), what each query sees (L, E). Head h has columns h D to (h + 1) D - 1.

    causal: query i looks at keys 0 to i alone. scale: D^-0.5, if left out. It has no parameters: what makes q, k and v stands
    before it, as in a network that norms or turns them; else nn.MultiheadAttention has it all. `Model.from_onnx` makes it of the
    attention in a file. The matrix of all weights is never in memory.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> x = nn.Input((7, 8))
        >>> q, k, v = (nn.RMSNorm(8)(nn.Linear(8, 8)(x)) for _ in range(3))
        >>> Model(inputs=x, outputs=nn.DotProductAttention(2)([q, k, v]), seed=0).predict(np.ones((2, 7, 8))).shape
        (2, 7, 8)
    """

    n_inputs = None

    @_hints.arguments
    def __init__(self, num_heads: int, *, causal: bool = False, scale: float | None = None) -> None:
        if num_heads < 1:
            raise ValueError(f"DotProductAttention({num_heads}): at least 1 head")
        if scale is not None and not 0 < scale < float("inf"):
            raise ValueError(f"DotProductAttention(scale={scale}): a number above 0")
        self.num_heads, self.causal = int(num_heads), bool(causal)
        self.scale = None if scale is None else float(scale)

    def config(self) -> dict[str, Any]:
        return {"num_heads": self.num_heads, "causal": self.causal, "scale": self.scale}

    def output_shape(self, *shapes: Shape) -> Shape:
        q, k, v = shapes if len(shapes) == 3 else ((), (), ())
        if len(q) != 2 or len(k) != 2 or k != v or q[1] != k[1] or q[1] % self.num_heads or min(*q, *k) < 1:
            raise ValueError(f"{self!r} takes q (L, E), k (M, E) and v (M, E), E a multiple of {self.num_heads}; got samples of "
                             f"shape {', '.join(map(str, shapes))}")
        return q

    def flops(self, *shapes: Shape) -> int:
        return 2 * shapes[0][0] * shapes[1][0] * shapes[0][1]

    def factor(self, E: int) -> float:
        """Of the scores of heads of E columns in all."""
        return (E // self.num_heads) ** -0.5 if self.scale is None else self.scale

    def step(self, b: Builder, xs: Sequence[Value], before: Value, absent: Value, by_step: Any) -> tuple[Value, Value]:
        """What it makes of one more step of q, k and v, (1, E) each, in inference, and the row of that k and v (1, 2 E): the same
        as nn.MultiheadAttention.step."""
        E = xs[0].shape[1]
        row = b.value((1, 2 * E), needs_grad=False)
        for i, x in enumerate(xs[1:]):
            b.move(x, row.part(1, i * E, E))
        return attend_to_kept(b, b.whole(xs[0]), row, before, absent, self.num_heads, E, self.factor(E)), row

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        L, E = self.output_shape(*(x.shape for x in xs))
        q, (k, v) = b.whole(xs[0]), xs[1:]
        M, needs_grad = k.shape[0], k.needs_grad or v.needs_grad
        kv = b.value((M, 2 * E), needs_grad=needs_grad)
        for i, x in enumerate((k, v)):
            b.move(x, kv.part(1, i * E, E))
        sizes: dict[str, Any] = {"B": Rows(), "L": L, "M": M, "N": self.num_heads, "D": E // self.num_heads, "E": E, "P": E,
                                 "Q": 2 * E, "k_at": 0, "v_at": E, "causal": int(self.causal), "scale": self.factor(E)}
        out, lse = b.value((L, E), needs_grad=q.needs_grad or needs_grad), b.value((self.num_heads, L))
        b.emit("attention", q=q, kv=kv, out=out, lse=lse, **sizes)

        def backward(dy: Value | None) -> tuple[Value | None, ...]:
            if dy is None:
                return None, None, None
            dq, dkv = b.value(q.shape), b.value(kv.shape)
            b.emit("attention_backward", dy=b.whole(dy), out=out, q=q, kv=kv, lse=lse, dq=dq, dkv=dkv, **sizes)
            return tuple(d if x.needs_grad else None for d, x in
                         zip((dq, dkv.part(1, 0, E), dkv.part(1, E, E)), xs, strict=True))
        return out, backward
