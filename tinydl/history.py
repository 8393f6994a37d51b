"""History: what each epoch of a training brought."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from tinydl import _hints

__all__ = ["EpochRecord", "History"]


@dataclass
class EpochRecord:
    """One epoch. loss: the mean over the samples that arrived; figures: validation's, by the evaluator's names."""

    epoch: int
    loss: float
    seconds: float
    samples: int
    updates: int
    failed_batches: int = 0
    validation_loss: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    learning_rate: float | None = None      # of its last update
    gradient_norm: float | None = None      # the mean over its updates, before clipping: where the optimizer has a clip_norm

    @property
    def samples_per_second(self) -> float:
        return self.samples / self.seconds if self.seconds > 0 else 0.0

    @property
    def accuracy(self) -> float | None:
        return self.figures.get("accuracy")

    def line(self, width: int = 0) -> str:
        """One line for people."""
        parts = [f"epoch {self.epoch:>{width}}", f"loss {self.loss:.4f}"]
        figures = {**({} if self.validation_loss is None else {"loss": self.validation_loss}), **self.figures}
        if figures:
            parts.append("validation: " + ", ".join(f"{name} {value:.4f}" for name, value in figures.items()))
        if self.failed_batches:
            parts.append(f"{self.failed_batches} failed batches")
        parts += [f"{self.seconds:.2f} s", f"{self.samples_per_second:,.0f} samples/s"]
        return "  ".join(parts)


class History:
    """The epochs of a training, in order.

    history["loss"] is a list with a value an epoch (any field of EpochRecord, or an evaluator's figure); history[-1] is the last
    epoch's record, history[:3] a list of the first three. `records` are the epochs, `failures` the batches that failed.
    `interrupted`: whether the last `train` has not come to its end: it has in its last epoch, or by early stopping, not where
    Ctrl-C, an exception, `stop` or `shutdown` ended it.
    """

    if not TYPE_CHECKING:       # a type checker would take every attribute for one that is there
        __getattr__ = _hints.attribute

    def __init__(self) -> None:
        self.records: list[EpochRecord] = []
        self.failures: list[Any] = []
        self.interrupted = False

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[EpochRecord]:
        return iter(self.records)

    @overload
    def __getitem__(self, name: str) -> list[Any]: ...
    @overload
    def __getitem__(self, name: int) -> EpochRecord: ...
    @overload
    def __getitem__(self, name: slice) -> list[EpochRecord]: ...

    def __getitem__(self, name: str | int | slice) -> Any:
        """By a name, a value an epoch; KeyError names those that there are. By a place, from 0, that epoch's record."""
        if not isinstance(name, str):
            return self.records[name]
        if any(name in r.figures for r in self.records):
            return [r.figures.get(name) for r in self.records]
        if self.records and not hasattr(self.records[0], name):
            raise KeyError(_hints.figure(name, [*asdict(self.records[0]), *self.records[-1].figures]))
        return [getattr(r, name) for r in self.records]

    def best(self, name: str, highest: bool = False) -> EpochRecord | None:
        """The epoch with the lowest (or highest) value of `name`; None where there is none."""
        values = [(v, r) for v, r in zip(self[name], self.records, strict=True) if v is not None and v == v]
        if not values:
            return None
        return (max if highest else min)(values, key=lambda p: p[0])[1]

    def skipped_indices(self) -> np.ndarray[Any, Any]:
        """The numbers of all samples that were left out, in the order in which they were (int64); `np.save` keeps them.
        A sample left out in two epochs is there twice."""
        held = [f.indices for f in self.failures if f.indices is not None and not f.fatal]
        return np.concatenate(held) if held else np.empty(0, np.int64)

    def __repr__(self) -> str:
        return f"History({len(self)} epochs{', last: ' + self.records[-1].line() if self.records else ''})"
