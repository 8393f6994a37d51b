"""PiecewiseLinearEmbedding: each number of a table as how far it has come through each of some intervals."""
# C columns of numbers, K intervals of each
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@register
class PiecewiseLinearEmbedding(Layer):
    """Numbers (C,) -> (C, K + 1): for each column x itself, and K numbers from 0 to 1,

        y = [x, (x - edges_k) / (edges_(k+1) - edges_k) brought into 0..1 for k = 0..K-1]

    where edges (C, K + 1) do not fall along a row; between two equal ones nothing happens (0). A linear layer behind it is a
    function of each column that is linear in each interval: it can follow what a network of the bare numbers finds slowly
    (Gorishniy et al. 2022, "On Embeddings for Numerical Features in Tabular Deep Learning"). Nothing in it is trained.

    `from_data` takes quantiles for the edges, so that each interval has as many samples.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> layer = nn.PiecewiseLinearEmbedding([[0, 1, 3]])
        >>> Model(layer).predict(np.array([[-1.0], [0.5], [2.0]])).tolist()
        [[[-1.0, 0.0, 0.0]], [[0.5, 0.5, 0.0]], [[2.0, 1.0, 0.5]]]
    """

    @_hints.arguments
    def __init__(self, edges: ArrayLike) -> None:
        table = np.array(edges, np.float64)
        if table.ndim != 2 or table.shape[0] < 1 or table.shape[1] < 2:
            raise ValueError(f"PiecewiseLinearEmbedding: edges of shape {table.shape}; a row of at least 2 for each column")
        if not np.isfinite(table).all() or (np.diff(table) < 0).any():
            bad = int(np.argmin(np.isfinite(table).all(1) & (np.diff(table) >= 0).all(1)))
            raise ValueError(f"PiecewiseLinearEmbedding: edges[{bad}]={table[bad]}: finite numbers that do not fall")
        self.edges = table.tolist()
        self.num_features, self.n_bins = int(table.shape[0]), int(table.shape[1]) - 1

    @classmethod
    def from_data(cls, x: Any, n_bins: int = 16) -> PiecewiseLinearEmbedding:
        """With the quantiles of x (n, C) as edges, n_bins intervals. A column of fewer different quantiles has fewer; one of
        less than three, as of 0 and 1, has none."""
        table = np.asarray(x, np.float64)
        if n_bins < 1:
            raise ValueError(f"PiecewiseLinearEmbedding.from_data(n_bins={n_bins}): at least 1")
        if table.ndim != 2 or not len(table) or not np.isfinite(table).all():
            raise ValueError(f"PiecewiseLinearEmbedding.from_data: x of shape {table.shape}; finite numbers (n, C), n at least 1")
        edges = np.quantile(table, np.linspace(0, 1, n_bins + 1), axis=0).T
        for row in edges:
            different = np.unique(row)
            row[:] = different[-1]
            row[:len(different) if len(different) > 2 else 0] = different if len(different) > 2 else ()
        return cls(edges)

    def config(self) -> dict[str, Any]:
        return {"edges": self.edges}

    def __repr__(self) -> str:
        return f"PiecewiseLinearEmbedding({self.num_features} columns, {self.n_bins} intervals)"

    def input_shape(self) -> tuple[int, ...]:
        return (self.num_features,)

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape != (self.num_features,):
            raise ValueError(f"{self!r} on samples of shape {shape}: they must be ({self.num_features},)")
        return self.num_features, self.n_bins + 1

    def flops(self, shape: tuple[int, ...]) -> int:
        return 2 * self.num_features * self.n_bins

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        C, K = self.num_features, self.n_bins
        x = b.whole(x)
        edges = np.array(self.edges)
        widths = np.diff(edges)
        slopes = np.divide(1, widths, out=np.zeros_like(widths), where=widths > 0)
        tables: dict[str, Any] = {"low": b.constant(edges[:, :-1]), "slope": b.constant(slopes), "C": C, "K": K}
        parts, y = b.value((C, K)), b.value((C, K + 1), needs_grad=x.needs_grad)
        b.emit("piecewise_linear", x=x, out=parts, R=Rows(1), **tables)
        b.move(b.reshape(x, (C, 1)), y.part(1, 0, 1))
        b.move(parts, y.part(1, 1, K))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dy, by_parts, dx = b.whole(dy), b.value((C, K)), b.value((C,))
            b.move(dy.part(1, 1, K), by_parts)
            b.emit("piecewise_linear_backward", dy=by_parts, x=x, dx=dx, R=Rows(1), **tables)
            b.move(dy.part(1, 0, 1), b.reshape(dx, (C, 1)), accumulate=1)
            return dx
        return y, backward
