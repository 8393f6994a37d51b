"""Dropout, Dropout2d, Dropout1d: each element, or each channel, is zero with probability p in training, and all are kept in
inference.

The mask is a hash of (seed, step, layer, sample, element): the same for a sample whichever thread, batch or
order it comes in, and never stored; the backward operation computes it again.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.optim.schedules import Schedule, from_config
from tinydl.plan import Builder, Rows, Value, inverse

Array = np.ndarray[Any, Any]


def probability(owner: str, dropout: Any) -> float:
    """That of a layer which has Dropout inside; TypeError where it is a schedule, ValueError where it is out of range."""
    if isinstance(dropout, Schedule):
        raise TypeError(f"{owner}(dropout={dropout!r}): a number; a schedule is for nn.Dropout and nn.Dropout2d")
    if not 0 <= dropout < 1:
        raise ValueError(f"{owner}(dropout={dropout}): at least 0 and below 1")
    return float(dropout)


@register
class Dropout(Layer):
    """y = x / (1 - p) or 0 with probability p (Srivastava et al. 2014).

    p: at least 0 and below 1, or a schedule of `tinydl.optim.schedules`, of which update number n (from 0) takes p(n). A training
    that goes on from a checkpoint goes on with the schedule; groups of batches that failed, and made no update, count too.
    Strategy "local", where several copies of the model make updates of their own, takes no schedule (ValueError).

        >>> from tinydl import nn, optim
        >>> nn.Dropout(0.2)
        Dropout(p=0.2)
        >>> layer = nn.Dropout(optim.schedules.Linear(0.5, 1000))       # from one half to 0 in 1,000 updates
        >>> layer.p(500)
        0.25
    """

    @_hints.arguments
    def __init__(self, p: float | Schedule = 0.5) -> None:
        schedule: Any = from_config(p) if isinstance(p, Mapping) else p         # as `config` has it
        self.p: float | Schedule
        if isinstance(schedule, Schedule):
            self.p = schedule
            self._rates(0, 1)
            return
        if not hasattr(schedule, "__float__") or getattr(schedule, "size", 1) != 1:
            raise TypeError(f"{type(self).__name__}(p={p!r:.60}): a number, or a schedule")
        if not 0 <= schedule < 1:
            raise ValueError(f"Dropout(p={p}): at least 0 and below 1")
        self.p = float(schedule)

    def config(self) -> dict[str, Any]:
        return {"p": self.p.config() if isinstance(self.p, Schedule) else self.p}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p!r})"

    def _rates(self, first: int, count: int) -> Array:
        """Those of updates first..first + count - 1."""
        assert isinstance(self.p, Schedule)
        rates = self.p.rates(first, count)
        bad = ~((rates >= 0) & (rates < 1))
        if bad.any():
            n = int(bad.argmax())
            raise ValueError(f"Dropout(p={self.p!r}): p({first + n}) is {rates[n]:g}; it must be at least 0 and below 1")
        return rates

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        if not b.training or self.p == 0:
            return x, lambda dy: dy
        layer, order = b.random_key(), x.order()
        x = b.whole(x.permute(order))
        y = b.value(x.shape, needs_grad=x.needs_grad)
        how: dict[str, Any] = {"rate": self.p}
        if isinstance(self.p, Schedule):
            rates = b.each_step(self._rates)
            how = {"rates": rates, "W": rates.items}
        b.emit("dropout", x=x, out=y, B=Rows(), C=x.size, layer=layer, **how)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("dropout", x=dy.permute(order), out=dx, B=Rows(), C=x.size, layer=layer, **how)
            return dx.permute(inverse(order))
        return y.permute(inverse(order)), backward


@register
class Dropout2d(Dropout):
    """y = x / (1 - p), or 0 for all of a channel of (C, H, W), or (C, L), with probability p (Tompson et al. 2015).

        >>> from tinydl import Model, nn
        >>> Model(nn.Dropout2d(0.1)).predict([[[[1.0, 2.0]]]]).tolist()      # it is there in training alone
        [[[[1.0, 2.0]]]]
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be (C, ...), an axis of channels and others")
        return shape

    def keeps_shape(self) -> bool:
        return True

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C, n = self.output_shape(x.shape)[0], len(x.shape)
        ones = b.value((C,), needs_grad=False)
        if not b.training or self.p == 0:
            return x, lambda dy: dy
        b.emit("fill", out=ones, n=Rows(C), value=1.0)
        mask, _ = super().emit(b, ones)
        last, first = (*range(1, n), 0), (n - 1, *range(n - 1))
        xs = b.whole(x.permute(last))
        each = b.whole(Value(mask.buffer, xs.shape, False, 0, (*[0] * (n - 1), 1)))
        y = b.value(xs.shape, needs_grad=x.needs_grad)
        b.emit("multiply", a=xs, b=each, out=y, n=Rows(x.size))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(xs.shape)
            b.emit("multiply", a=dy.permute(last), b=each, out=dx, n=Rows(x.size))
            return dx.permute(first)
        return y.permute(first), backward


@register
class Dropout1d(Dropout2d):
    """Dropout2d of samples (C, L) alone: all of a channel is 0 with probability p in training. Behind nn.LSTM, whose (T, C) has
    channels on the last axis, it is between two nn.Permute((1, 0)).

        >>> from tinydl import Model, nn
        >>> Model(nn.Dropout1d(0.1)).predict([[[1.0, 2.0]]]).tolist()      # it is there in training alone
        [[[1.0, 2.0]]]
    """

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 2:
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be (C, L); nn.Dropout2d takes images")
        return shape
