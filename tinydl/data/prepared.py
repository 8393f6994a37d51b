"""Prepared: how the rows of a batch are normalized and augmented on their way into the model."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tinydl import _kernels as K
from tinydl._kernels.engine import Pictures, Source

Array = np.ndarray[Any, Any]


class Prepared(NamedTuple):
    """For the sources of a batch: x, and of y where that is mixed; key: of the draws of an epoch."""

    x: Pictures
    y: Pictures | None = None
    key: int = 0

    def sources(self, xs: Sequence[Array], ys: Sequence[Array]) -> list[Source]:
        """Of arrays of inputs and targets, of which there is one each."""
        if len(xs) != 1 or (self.y and len(ys) != 1):
            raise ValueError(f"normalize and augment are for one input and one target; there are {len(xs)} and {len(ys)}")
        return [Source(xs[0], self.x, self.key), *(Source(a, self.y, self.key) for a in ys)]

    def inputs(self, x: Array, rows: Array | None, dtype: Any = None) -> Array:
        """Rows of x as a model gets them, of that dtype: float64 where x is, or else float32, if it is not said."""
        return _gather(Source(x, self.x, self.key), rows, dtype or (x.dtype if x.dtype == np.float64 else np.float32))

    def targets(self, y: Array, rows: Array | None) -> Array:
        """The same of y."""
        if self.y is None:
            return y if rows is None else np.asarray(y[rows])
        return _gather(Source(y, self.y, self.key), rows, y.dtype)


def _gather(source: Source, rows: Array | None, dtype: Any) -> Array:
    array = source.array
    out = np.empty((len(array) if rows is None else len(rows), *array.shape[1:]), dtype)
    if out.size:
        K.call("gather_rows", sources=[source], index=rows, out=out.reshape(len(out), -1), source=0)
    return out
