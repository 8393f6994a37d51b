"""PeriodicEmbedding: each number of a table as a few periodic functions of it."""
# C columns of numbers, K cosines, D sums of them
from __future__ import annotations

from math import pi
from typing import Any

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.plan import Buffer, Builder, Rows, Value


@register
class PeriodicEmbedding(Layer):
    """Numbers (C,) -> (C, embedding_dim): for each column x itself, and embedding_dim - 1 sums of cosines of it,

        y = [x, bias + sum over k of weight_k cos(2 pi frequency_k x + phase_k)]

    with parameters of its own for each column. It lets a network on a table follow functions that are not smooth
    (Gorishniy et al. 2022; this form is "PBLD" of Holzmueller et al. 2024, with their defaults). x should be of about
    unit scale. frequency_init_scale: the deviation of the frequencies at first; larger follows finer detail, and overfits.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> model = Model(nn.Sequential(nn.PeriodicEmbedding(5), nn.Flatten(), nn.Linear(20, 1)))
        >>> model.predict(np.ones((3, 5))).shape
        (3, 1)
    """

    @_hints.arguments
    def __init__(self, num_features: int, embedding_dim: int = 4, n_frequencies: int = 16,
                 frequency_init_scale: float = 0.1) -> None:
        if num_features < 1 or embedding_dim < 2 or n_frequencies < 1:
            raise ValueError(f"PeriodicEmbedding({num_features}, embedding_dim={embedding_dim}, n_frequencies={n_frequencies}): "
                             "at least 1 feature, 2 numbers for each, and 1 frequency")
        if not 0 < frequency_init_scale < float("inf"):
            raise ValueError(f"PeriodicEmbedding(frequency_init_scale={frequency_init_scale}): above 0")
        self.num_features, self.embedding_dim, self.n_frequencies = int(num_features), int(embedding_dim), int(n_frequencies)
        self.frequency_init_scale = float(frequency_init_scale)
        C, K, D = self.num_features, self.n_frequencies, self.embedding_dim - 1
        self.frequency = Parameter((C, K), self._frequencies)
        self.phase = Parameter((C, K), _phases)
        self.weight = Parameter((C, K, D), initializers.default_linear, (K, D))
        self.bias = Parameter((C, D), initializers.default_linear, (K, D))

    def _frequencies(self, rng: Any, shape: tuple[int, ...], fans: tuple[int, int]) -> Any:
        return initializers.normal(rng, shape, fans) * self.frequency_init_scale

    def config(self) -> dict[str, Any]:
        return {"num_features": self.num_features, "embedding_dim": self.embedding_dim, "n_frequencies": self.n_frequencies,
                "frequency_init_scale": self.frequency_init_scale}

    def input_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != (self.num_features,):
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be ({self.num_features},)")
        return self.num_features, self.embedding_dim

    def flops(self, shape: tuple[int, ...]) -> int:
        return self.num_features * self.n_frequencies * self.embedding_dim

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C, K, D = self.num_features, self.n_frequencies, self.embedding_dim - 1
        x = b.whole(x)
        sizes: dict[str, Any] = {"R": Rows(1), "C": C, "K": K, "D": D}
        trained = [p for p in (self.frequency, self.phase, self.weight, self.bias) if b.trains(p)]
        waves = b.value((C, D))
        b.emit("periodic", x=x, frequency=b.param(self.frequency), phase=b.param(self.phase), weight=b.param(self.weight),
               bias=b.param(self.bias), out=waves, **sizes)
        y = b.value((C, D + 1), needs_grad=x.needs_grad or bool(trained))
        b.move(b.reshape(x, (C, 1)), y.part(1, 0, 1))
        b.move(waves, y.part(1, 1, D))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not y.needs_grad:
                return None
            dy, by_waves, dx = b.whole(dy), b.value((C, D)), b.value((C,)) if x.needs_grad else None
            b.move(dy.part(1, 1, D), by_waves)
            grads: dict[str, Any] = {}
            for name, p in (("frequency", self.frequency), ("phase", self.phase), ("weight", self.weight), ("bias", self.bias)):
                if b.trains(p):
                    grads["d" + name], grads["more_" + name] = b.grad(p)
                else:       # the operation computes them all together
                    grads["d" + name] = Buffer(p.size, False, dtype=b.dtype)
            b.emit("periodic_backward", dy=by_waves, x=x, frequency=b.param(self.frequency), phase=b.param(self.phase),
                   weight=b.param(self.weight), dx=dx, **grads, **sizes)
            if dx is None:
                return None
            b.move(dy.part(1, 0, 1), b.reshape(dx, (C, 1)), accumulate=1)
            return dx
        return y, backward


def _phases(rng: Any, shape: tuple[int, ...], fans: tuple[int, int]) -> Any:
    return rng.uniform(-pi, pi, shape)

