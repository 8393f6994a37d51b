"""Embedding and EmbeddingBag: rows of a table by integer index."""
# N rows of the table, D their length, K numbers of a bag
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.plan import Builder, Rows, Value


@register
class Embedding(Layer):
    """y = weight[x]: integers (...) -> (..., embedding_dim), PyTorch's nn.Embedding.

    x: integers in 0..num_embeddings-1 (another one fails its batch, with the value in the message), so the model's input is
    one of integers: nn.Input((), "int64"), or a model that begins with an Embedding. padding_idx: a row that begins at zero
    and gets no gradient. init: how rows begin, by default normally distributed (mean 0, deviation 1), as PyTorch's;
    "small_normal" has deviation 0.02, as transformers and recommenders do where scores come of the same table (nn.TiedLinear):
    with deviation 1 these are too large, and training takes longer to begin.

    The gradient is that of the whole table, 0 in rows that do not occur in a batch, and every optimizer gives what updating all
    rows gives, as PyTorch's do without sparse=True. Of a table of a megabyte or more only rows that occur are looked at where
    that has the same bits: by optim.SGD without momentum and optim.Adagrad, both without weight decay of the table, clipping and
    ema, on arrays (data.ArrayDataset, SequenceDataset) and in strategies serial, group and shard. All others walk the whole table
    in each update: momenta and averages of squares (Adam, RMSprop, Lion ...) decay in rows that do not occur, too, and go on
    moving them, weight decay shrinks each row, and a norm is of all. With 50,000 rows of 64 numbers, and batches of 32 samples of
    20, a step takes 0.2 ms by SGD and 0.3 by Adagrad, 1.9 with momentum and 2.8 by Adam; with 128 rows 0.03 (CPU time of one
    thread of a shared AMD EPYC, Zen 3).

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.Sequential(nn.Embedding(10, 3), nn.Flatten()), seed=0).predict(np.array([[1, 2], [2, 9]])).shape
        (2, 6)
    """

    @_hints.arguments
    def __init__(self, num_embeddings: int, embedding_dim: int, padding_idx: int | None = None, *, init: str = "normal") -> None:
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(f"Embedding({num_embeddings}, {embedding_dim}): both must be at least 1")
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise ValueError(f"Embedding(padding_idx={padding_idx}): a row of {num_embeddings}")
        self.num_embeddings, self.embedding_dim = int(num_embeddings), int(embedding_dim)
        self.padding_idx = None if padding_idx is None else int(padding_idx) % self.num_embeddings
        self.init = init
        initializers.get(init)      # an unknown one is an error here
        self.weight = Parameter((self.num_embeddings, self.embedding_dim), self._begin, (self.embedding_dim, self.num_embeddings))

    def _begin(self, rng: Any, shape: tuple[int, ...], fans: tuple[int, int]) -> Any:
        values = initializers.get(self.init)(rng, shape, fans)
        if self.padding_idx is not None:
            values[self.padding_idx] = 0
        return values

    def config(self) -> dict[str, Any]:
        given = {"num_embeddings": self.num_embeddings, "embedding_dim": self.embedding_dim, "padding_idx": self.padding_idx}
        return given if self.init == "normal" else given | {"init": self.init}

    def input_dtype(self) -> str:
        return "int64"

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return *shape, self.embedding_dim

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        N, D = self.num_embeddings, self.embedding_dim
        x = b.whole(x)
        y = b.value(self.output_shape(x.shape), needs_grad=b.trains(self.weight))
        b.emit("embedding", table=b.param(self.weight), rows=x, out=y, n=Rows(x.size), N=N, D=D)

        def backward(dy: Value | None) -> Value | None:
            if dy is not None and y.needs_grad:
                dw, more = b.grad(self.weight)
                b.emit("embedding_backward", dy=b.whole(dy), rows=x, dtable=dw, n=Rows(x.size), N=N, D=D,
                       padding=-1 if self.padding_idx is None else self.padding_idx, accumulate=more)
            return None
        return y, backward


@register
class EmbeddingBag(Embedding):
    """The sum or the mean of rows, as of the words of a text: integers (..., K) -> (..., embedding_dim), PyTorch's
    nn.EmbeddingBag of bags of K numbers each.

    mode: "mean" or "sum". padding_idx: a number that is no part of its bag, and fills up the shorter ones; a bag of nothing else
    gives 0. The rest is as Embedding's.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.EmbeddingBag(10, 3, padding_idx=0), seed=0).predict(np.array([[1, 2, 0], [2, 9, 4]])).shape
        (2, 3)
    """

    @_hints.arguments
    def __init__(self, num_embeddings: int, embedding_dim: int, mode: str = "mean", padding_idx: int | None = None, *,
                 init: str = "normal") -> None:
        if mode not in ("mean", "sum"):
            raise ValueError(f"EmbeddingBag(mode={mode!r}): mean or sum")
        super().__init__(num_embeddings, embedding_dim, padding_idx, init=init)
        self.mode = mode

    def config(self) -> dict[str, Any]:
        return super().config() | {"mode": self.mode}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape or shape[-1] < 1:
            raise ValueError(f"{self!r} on samples of shape {shape}: their last axis must be the numbers of a bag")
        return *shape[:-1], self.embedding_dim

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        y = b.value(self.output_shape(x.shape), needs_grad=b.trains(self.weight))
        x = b.whole(x)
        sizes: dict[str, Any] = {
            "R": Rows(x.size // x.shape[-1]), "K": x.shape[-1], "N": self.num_embeddings, "D": self.embedding_dim,
            "padding": -1 if self.padding_idx is None else self.padding_idx, "mean": int(self.mode == "mean")}
        b.emit("embedding_bag", table=b.param(self.weight), rows=x, out=y, **sizes)

        def backward(dy: Value | None) -> Value | None:
            if dy is not None and y.needs_grad:
                dw, more = b.grad(self.weight)
                b.emit("embedding_bag_backward", dy=b.whole(dy), rows=x, dtable=dw, accumulate=more, **sizes)
            return None
        return y, backward
