"""LearnedTokens: rows that are trained, and the same for all samples."""
# N rows, C columns
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


@register
class LearnedTokens(Layer):
    """y = weight (num_tokens, d_model), whatever x is: rows that are trained, and the same for all samples. PyTorch's
    nn.Parameter that is expanded to a batch; it is called on any value of the model, which says how many samples there are.

    Before a sequence they are the token of a class, as of a vision or feature-tokenizer transformer, nn.Concat(0)([tokens, x]);
    as queries of an attention they draw a few rows from a sequence, also from one of unequal lengths. They begin normally
    distributed with deviation 0.02.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> x, lengths = nn.Input((7, 8), name="x"), nn.Input((), "int64", name="lengths")
        >>> drawn = nn.MultiheadAttention(8, 2)([nn.LearnedTokens(1, 8)(x), x, lengths])         # (1, 8), of each sequence
        >>> Model(inputs=[x, lengths], outputs=nn.Flatten()(drawn), seed=0).predict((np.ones((2, 7, 8)), [3, 7])).shape
        (2, 8)
    """

    any_dtype = True

    @_hints.arguments
    def __init__(self, num_tokens: int, d_model: int) -> None:
        if num_tokens < 1 or d_model < 1:
            raise ValueError(f"LearnedTokens({num_tokens}, {d_model}): both must be at least 1")
        self.num_tokens, self.d_model = int(num_tokens), int(d_model)
        self.weight = Parameter((self.num_tokens, self.d_model), initializers.small_normal)

    def config(self) -> dict[str, Any]:
        return {"num_tokens": self.num_tokens, "d_model": self.d_model}

    def output_shape(self, shape: Shape) -> Shape:
        return self.num_tokens, self.d_model

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        N, C = self.num_tokens, self.d_model
        y = b.value((N, C), needs_grad=b.trains(self.weight))
        b.move(b.param(self.weight), y)

        def backward(dy: Value | None) -> Value | None:
            if dy is not None and b.trains(self.weight):
                dw, more = b.grad(self.weight)
                b.emit("column_sum", x=b.whole(dy), out=dw, R=Rows(), C=N * C, accumulate=more)
            return None
        return y, backward
