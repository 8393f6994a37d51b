"""Linear: y = x W + b, and TiedLinear, whose W is another layer's, transposed.

W is stored (in_features, out_features), PyTorch's transposed: then the forward product, the one that every
layer has, reads both operands along their rows.
"""
from __future__ import annotations

# B batch, I in_features, O out_features: x (B, I), W (I, O), b (O), y (B, O)
from typing import Any, ClassVar

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.embedding import Embedding
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.plan import Builder, Rows, Value


@register
class Linear(Layer):
    """y = x W + b: (B, in_features) -> (B, out_features).

    init: the name of an initialiser for W (see `tinydl.nn.initializers`); by default W and b begin as PyTorch's,
    uniform in +-1/sqrt(in_features). With any other init, b begins at zero.

        >>> from tinydl import Model, nn
        >>> Model(nn.Linear(3, 2), seed=0).state_dict()["weight"].shape
        (3, 2)
    """

    #: whether W is stored (out_features, in_features)
    transposed: ClassVar[bool] = False

    @_hints.arguments
    def __init__(self, in_features: int, out_features: int, bias: bool = True, *, init: str = "default_linear") -> None:
        if in_features < 1 or out_features < 1:
            raise ValueError(f"Linear({in_features}, {out_features}): both must be at least 1")
        self.in_features, self.out_features, self.init = int(in_features), int(out_features), init
        fans = (self.in_features, self.out_features)
        self.weight = Parameter((self.in_features, self.out_features), initializers.get(init), fans)
        b_init = initializers.default_linear if init == "default_linear" else initializers.zeros
        self.bias = Parameter((self.out_features,), b_init, fans) if bias else None

    def config(self) -> dict[str, Any]:
        return {"in_features": self.in_features, "out_features": self.out_features, "bias": self.bias is not None,
                "init": self.init}

    def input_shape(self) -> tuple[int, ...]:
        return (self.in_features,)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape or shape[-1] != self.in_features:
            raise ValueError(f"{self!r} on samples of shape {shape}: the last axis must be {self.in_features}")
        return (*shape[:-1], self.out_features)

    def flops(self, shape: tuple[int, ...]) -> int:
        rows = 1
        for s in shape[:-1]:
            rows *= s
        return rows * self.in_features * self.out_features

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad or b.trains(self.weight, self.bias))
        shape = (self.out_features, self.in_features) if self.transposed else (self.in_features, self.out_features)
        xs, w = b.matrix(x), b.matrix(b.param(self.weight, shape))
        w = w.T if self.transposed else w
        b.matmul(xs, w, y, bias=b.param(self.bias, (self.out_features,)) if self.bias else None)

        def backward(dy: Value | None) -> Value | None:
            assert dy is not None and y.needs_grad
            dys = b.matrix(dy)
            if b.trains(self.weight):
                dw, more = b.grad(self.weight)
                b.matmul(*((dys.T, xs) if self.transposed else (xs.T, dys)), dw, accumulate=more)
            if self.bias and b.trains(self.bias):
                db, more = b.grad(self.bias)
                b.emit("column_sum", x=b.whole(dy), out=db, R=Rows(dy.size // self.out_features), C=self.out_features,
                       accumulate=more)
            if not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.matmul(dys, w.T, dx)
            return dx
        return y, backward


@register
class TiedLinear(Linear):
    """y = x W' + b with the weight W (out_features, in_features) of `layer`, an Embedding or a Linear, which it shares.

    The scores of a language model by its own table of words (Press and Wolf 2017), or the decoder of an autoencoder by its
    encoder's weight. W is one parameter, under the name of the layer that comes first; its gradient is the sum of both uses'
    (a row that is an Embedding's padding_idx gets this layer's alone, as in PyTorch). b begins as Linear's.

        >>> from tinydl import Model, nn
        >>> words = nn.Embedding(50, 8)
        >>> model = Model(nn.Sequential(words, nn.Linear(8, 8), nn.Tanh(), nn.TiedLinear(words)), seed=0)
        >>> list(model.state_dict())
        ['0.weight', '1.weight', '1.bias', '3.bias']
        >>> model.output_shape((12,))       # of 12 words, a score for each of the 50
        (12, 50)
    """

    transposed = True

    def __init__(self, layer: Embedding | Linear, bias: bool = True) -> None:
        if not isinstance(layer, (Embedding, Linear)) or isinstance(layer, TiedLinear):
            raise TypeError(f"TiedLinear takes the layer whose weight it shares, an Embedding or a Linear; got {layer!r}")
        out_features, in_features = layer.weight.shape
        super().__init__(in_features, out_features, bias)
        self.weight = layer.weight
