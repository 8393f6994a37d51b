"""LinearEnsemble and LinearBatchEnsemble: a Linear for each of k members, which see the same samples.

A network of these is k networks that share their batches. Give each member a loss of its own, and take the mean of what they
predict; that is what a loss over "all steps" does, with targets repeated for each member. It is the mean of theirs, so that a
member's gradient is a k-th of what it is alone: with SGD, k times the rate is the same training.
"""
# B batch, I in_features, O out_features; x (B, I) or (B, k, I), y (B, k, O)
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.nn.steps import piece
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


class Members(Layer):
    """What both have: samples (I,), the same for all members, or (k, I), to (k, O)."""

    in_features: int
    out_features: int
    k: int

    def _sizes(self, in_features: int, out_features: int, k: int) -> None:
        if in_features < 1 or out_features < 1 or k < 1:
            raise ValueError(f"{type(self).__name__}({in_features}, {out_features}, k={k}): all must be at least 1")
        self.in_features, self.out_features, self.k = int(in_features), int(out_features), int(k)

    def input_shape(self) -> Shape:
        return (self.in_features,)

    def output_shape(self, shape: Shape) -> Shape:
        if shape not in ((self.in_features,), (self.k, self.in_features)):
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be ({self.in_features},), the same for each of "
                             f"the {self.k} members, or ({self.k}, {self.in_features})")
        return self.k, self.out_features

    def flops(self, shape: Shape) -> int:
        return self.k * self.in_features * self.out_features


@register
class LinearEnsemble(Members):
    """k linear layers side by side, y[i] = x[i] W[i] + b[i]: (B, in_features), the same for all, or (B, k, in_features) ->
    (B, k, out_features).

    W (k, in_features, out_features) and b (k, out_features) begin as Linear's, each member's on its own. So k small networks are
    trained in one pass over the data (with SGD at k times the rate that one alone would have, since the loss is their mean):

        >>> import numpy as np
        >>> from tinydl import Model, Trainer, data, losses, nn, optim
        >>> x = np.random.default_rng(0).normal(size=(64, 5))
        >>> y = np.sin(x[:, :1])
        >>> each = data.ArrayDataset(x, np.repeat(y[:, None], 4, 1), batch_size=16)         # a target for each member: (64, 4, 1)
        >>> model = Model(nn.Sequential(nn.LinearEnsemble(5, 16, k=4), nn.ReLU(), nn.LinearEnsemble(16, 1, k=4)), seed=0)
        >>> with Trainer(2, seed=0) as trainer:
        ...     trainer.init(each, model, losses.MeanSquaredError(), optim.Adam())
        ...     history = trainer.train()
        >>> model.predict(x).mean(1).shape          # of classes, the mean of the members' softmax
        (64, 1)
    """

    @_hints.arguments
    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, k: int) -> None:
        self._sizes(in_features, out_features, k)
        fans = (self.in_features, self.out_features)
        self.weight = Parameter((self.k, *fans), initializers.default_linear, fans)
        self.bias = Parameter((self.k, self.out_features), initializers.default_linear, fans) if bias else None

    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None, "k": self.k}

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        k, out = self.output_shape(x.shape)
        x, w = b.whole(x), b.param(self.weight, (k, self.in_features, out))
        bias = b.param(self.bias, (k, out)) if self.bias else None
        y = b.value((k, out), needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        given = [x if len(x.shape) == 1 else x.part(0, i, 1) for i in range(k)]
        for i in range(k):      # a product writes rows without gaps, which those of one member among others are not
            one = b.value((1, out))
            b.matmul(b.matrix(given[i]), b.matrix(w.part(0, i, 1)), one, bias=piece(b, bias, i, 1) if bias else None)
            b.move(one, y.part(0, i, 1))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not y.needs_grad:
                return None
            dy = b.whole(dy)
            if self.bias and b.trains(self.bias):
                db, more = b.grad(self.bias)
                b.emit("column_sum", x=dy, out=db, R=Rows(1), C=k * out, accumulate=more)
            dw, more = b.grad(self.weight) if b.trains(self.weight) else (None, 0)
            dx, shared = b.value(x.shape) if x.needs_grad else None, len(x.shape) == 1
            for i in range(k):
                by_y = b.matrix(dy.part(0, i, 1))
                if dw is not None:
                    b.matmul(b.matrix(given[i]).T, by_y, piece(b, dw, i, 1), accumulate=more)
                if dx is not None:
                    one = dx if shared else b.value((1, self.in_features))
                    b.matmul(by_y, b.matrix(w.part(0, i, 1)).T, one, accumulate=int(shared and i > 0))
                    if not shared:
                        b.move(one, dx.part(0, i, 1))
            return dx
        return y, backward


@register
class LinearBatchEnsemble(Members):
    """k linear layers with one weight, y[i] = ((x[i] r[i]) W) s[i] + b[i] (Wen, Tran and Ba 2020, "BatchEnsemble"):
    (B, in_features), the same for all members, or (B, k, in_features) -> (B, k, out_features).

    Members share W (in_features, out_features), and differ by r (k, in_features), s and b (k, out_features), which are few
    numbers. scaling_init: how r and s begin: "random-signs" (1 or -1), "normal" or "ones", or one for each: (of r, of s). TabM
    (Gorishniy et al. 2025) begins with ("random-signs", "ones") in the first layer and "ones" in the others, with k = 32.
    All members' b begin with the same numbers, as there. Members are trained as LinearEnsemble's are.

        >>> from tinydl import Model, nn
        >>> net = nn.Sequential(nn.LinearBatchEnsemble(5, 16, k=32, scaling_init=("random-signs", "ones")), nn.ReLU(),
        ...                     nn.LinearEnsemble(16, 3, k=32))
        >>> Model(net).output_shape((5,))
        (32, 3)
    """

    @_hints.arguments
    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, k: int,
                 scaling_init: str | tuple[str, str] = "random-signs") -> None:
        self._sizes(in_features, out_features, k)
        each = (scaling_init, scaling_init) if isinstance(scaling_init, str) else scaling_init
        if not isinstance(each, (tuple, list)) or len(each) != 2 or not all(name in list(SCALINGS) for name in each):
            raise ValueError(f"LinearBatchEnsemble(scaling_init={scaling_init!r}): {', '.join(map(repr, SCALINGS))}, or one of "
                             "them for r and one for s")
        self.scaling_init: tuple[str, str] = (each[0], each[1])
        fans = (self.in_features, self.out_features)
        self.weight = Parameter(fans, initializers.default_linear, fans)
        self.r = Parameter((self.k, self.in_features), SCALINGS[each[0]])
        self.s = Parameter((self.k, self.out_features), SCALINGS[each[1]])
        self.bias = Parameter((self.k, self.out_features), _alike, fans) if bias else None

    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None, "k": self.k,
                "scaling_init": self.scaling_init}

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        k, out = self.output_shape(x.shape)
        n, shared = self.in_features, len(x.shape) == 1
        x, w, r, s = b.whole(x), b.matrix(b.param(self.weight, (self.in_features, out))), b.param(self.r), b.param(self.s)
        each = x
        if shared:
            each = b.value((k, n), needs_grad=x.needs_grad)
            b.emit("spread", dy=x, out=each, O=Rows(1), N=k, I=n)
        h, z = b.value((k, n)), b.value((k, out))
        y = b.value((k, out), needs_grad=x.needs_grad or b.trains(self.weight, self.r, self.s, self.bias))
        b.emit("scale_columns", x=each, scale=r, out=h, R=Rows(1), C=k * n)
        b.matmul(b.matrix(h), w, z)
        b.emit("scale_columns", x=z, scale=s, out=y, R=Rows(1), C=k * out)
        if self.bias:
            b.move(b.param(self.bias, (k, out)), y, accumulate=1)

        def column_sum(p: Parameter | None, x: Value, by: Value | None = None) -> None:
            """The gradient of p: the sum of x, or of x by."""
            if p is None or not b.trains(p):
                return
            if by is not None:
                product = b.value(x.shape)
                b.emit("multiply", a=x, b=by, out=product, n=Rows(x.size))
                x = product
            dp, more = b.grad(p)
            b.emit("column_sum", x=x, out=dp, R=Rows(1), C=x.size, accumulate=more)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not y.needs_grad:
                return None
            dy = b.whole(dy)
            column_sum(self.bias, dy)
            column_sum(self.s, dy, z)
            if not (x.needs_grad or b.trains(self.weight, self.r)):
                return None
            dz = b.value((k, out))
            b.emit("scale_columns", x=dy, scale=s, out=dz, R=Rows(1), C=k * out)
            if b.trains(self.weight):
                dw, more = b.grad(self.weight)
                b.matmul(b.matrix(h).T, b.matrix(dz), dw, accumulate=more)
            if not (x.needs_grad or b.trains(self.r)):
                return None
            dh = b.value((k, n))
            b.matmul(b.matrix(dz), w.T, dh)
            column_sum(self.r, dh, each)
            if not x.needs_grad:
                return None
            dx = b.value((k, n))
            b.emit("scale_columns", x=dh, scale=r, out=dx, R=Rows(1), C=k * n)
            if not shared:
                return dx
            total = b.value((n,))
            b.emit("reduce_sum", x=dx, out=total, O=Rows(1), N=k, I=n)
            return total
        return y, backward


def _signs(rng: Any, shape: Shape, fans: tuple[int, int]) -> Any:
    return rng.integers(0, 2, shape) * 2.0 - 1


def _alike(rng: Any, shape: Shape, fans: tuple[int, int]) -> Any:
    return initializers.zeros(rng, shape, fans) + initializers.default_linear(rng, shape[1:], fans)


SCALINGS = {"random-signs": _signs, "normal": initializers.normal, "ones": initializers.ones}
