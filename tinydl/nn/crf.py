"""CRF: what losses.CRF takes."""
# T steps, K tags
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, Parameter, register
from tinydl.plan import Builder, Rows, Value


@register
class CRF(Layer):
    """Scores of pairs of neighbouring tags, for losses.CRF: y[t, i, j] = x[t, j] + transitions[i, j], (T, num_tags) ->
    (T, num_tags, num_tags).

    x[t, j] is the score of tag j in step t, as nn.Linear makes it; transitions[i, j], trained, that of tag j behind tag i, which
    is -10000, say, where it cannot be. In the first step, which has no tag before it, y[0, i, j] = x[0, j]. transitions begin as
    pytorch-crf's, uniform in +-0.1. It is the last layer of a model of tags; metrics.viterbi_decode finds the most probable ones.

        >>> from tinydl import Model, nn
        >>> Model(nn.Sequential(nn.LSTM(8, 16), nn.Linear(16, 5), nn.CRF(5)), seed=0).output_shape((30, 8))
        (30, 5, 5)
    """

    @_hints.arguments
    def __init__(self, num_tags: int) -> None:
        if num_tags < 1:
            raise ValueError(f"CRF({num_tags}): at least 1 tag")
        self.num_tags = int(num_tags)
        self.transitions = Parameter((self.num_tags, self.num_tags), self._begin)

    def _begin(self, rng: Any, shape: tuple[int, ...], fans: tuple[int, int]) -> Any:
        return rng.uniform(-0.1, 0.1, shape)

    def config(self) -> dict[str, Any]:
        return {"num_tags": self.num_tags}

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 2 or shape[0] < 1 or shape[1] != self.num_tags:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be (T, {self.num_tags}), a score for each tag in "
                             "each step")
        return *shape, self.num_tags

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        T, K, _ = out = self.output_shape(x.shape)
        x, transitions = b.whole(x), b.param(self.transitions, (K, K))
        y = b.value(out, needs_grad=x.needs_grad or b.trains(self.transitions))
        each = Value(x.buffer, out, x.needs_grad, 0, (K, 0, 1))         # in every row i
        b.move(each, y)
        later = Value(transitions.buffer, (T - 1, K, K), True, 0, (0, K, 1))
        if T > 1:
            b.move(later, y.part(0, 1, T - 1), accumulate=1)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not y.needs_grad:
                return None
            dy = b.whole(dy)
            if b.trains(self.transitions):
                grad, more = b.grad(self.transitions)
                pairs = b.whole(dy.part(0, 1, T - 1)) if T > 1 else None
                if pairs is not None:
                    b.emit("column_sum", x=pairs, out=grad, R=Rows(T - 1), C=K * K, accumulate=more)
                elif not more:
                    b.emit("fill", out=grad, n=K * K)
            if not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("reduce_sum", x=dy, out=dx, O=Rows(T), N=K, I=K)
            return dx
        return y, backward
