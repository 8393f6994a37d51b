"""WindowDataset: windows over one long series."""
# T steps, C features
from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.data.batch import Array, Batch, whole_number
from tinydl.data.checks import as_features, check_finite, is_mapped
from tinydl.data.frames import column_names, listed
from tinydl.data.rows import MadeRows
from tinydl.data.split import Split, part_sizes


class WindowDataset(MadeRows):
    """Windows over a long series: x is `window` steps of it, y the `horizon` steps behind them. Nothing is copied but batches.

    series: (T, C), or (T,), which is one column; it may be a memory map. Sample i begins at step i stride. x (window, C); y
    (horizon,) of one target column, (horizon, K) of K. targets: the columns to predict (one, or a list), by their numbers, or
    by their names in a table of pandas, polars or pyarrow; None: all. The names of a table's columns go to the model with
    Trainer.init, and whatever it sees later must have them, in this order. Of a table that pandas indexes by times these must
    not go backwards, and a warning says where they are not equally far apart, as where steps are missing.

    `split` keeps time in order: the targets of each part lie behind those of the part before, and a part's first window may look
    back at the part before, as a forecast does.

        >>> import numpy as np
        >>> data = WindowDataset(np.arange(20.0), window=4, horizon=2)
        >>> len(data), data[0][0].ravel().tolist(), data[0][1].tolist()
        (15, [0.0, 1.0, 2.0, 3.0], [4.0, 5.0])
        >>> [len(part) for part in data.split(train=0.6, validation=0.2, test=0.2)]
        [9, 2, 2]
    """

    @_hints.arguments
    def __init__(self, series: Any, window: int, horizon: int = 1, stride: int = 1, batch_size: int = 32,
                 drop_last: bool = False, *, targets: Any = None) -> None:
        self.batch_size, self.drop_last = whole_number("batch_size", batch_size, 1), bool(drop_last)
        self.window, self.horizon = whole_number("window", window, 1), whole_number("horizon", horizon, 1)
        self.stride = whole_number("stride", stride, 1)
        if isinstance(series, (list, tuple)) and len({np.shape(steps)[:1] for steps in series}) > 1:
            raise ValueError("series is a list of unequal shapes: several series go one behind the other into one array, and "
                             "windows.subset(rows) keeps the windows that lie in one of them")
        given = as_features(series, "series")
        if given.ndim not in (1, 2) or (given.ndim == 2 and not given.shape[1]):
            raise ValueError(f"series has shape {given.shape}; it must be (T, C), or (T,)")
        self.series = given[:, None] if given.ndim == 1 else given
        T, C = self.series.shape
        if T < self.window + self.horizon:
            raise ValueError(f"series has {T} steps; window={window} and horizon={horizon} need {self.window + self.horizon}")
        self.feature_names = names = column_names(series, "series")
        _check_times(series)
        self.targets = np.arange(C) if targets is None else _numbers(targets, names, C)
        if not is_mapped(given):
            check_finite(self.series, "series", columns=names,
                         remedy="put a value in, as ffill() and interpolate() of pandas do, since windows need every step")
        self._n = (T - self.window - self.horizon) // self.stride + 1

    def __repr__(self) -> str:
        dtype = self.series.dtype
        return (f"WindowDataset({len(self)} samples, x {dtype} {self.input_shape}, "
                f"y {dtype if dtype.kind == 'f' else 'float64'} {self.output_shape}, batch_size={self.batch_size})")

    @property
    def input_shape(self) -> Any:
        return self.window, self.series.shape[1]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample's y."""
        return (self.horizon,) if len(self.targets) == 1 else (self.horizon, len(self.targets))

    @property
    def x(self) -> Array:
        """x of these windows, (len, window, C): of all, and of the parts that `split` makes, a read-only view of the series."""
        views = np.lib.stride_tricks.sliding_window_view(self.series, self.window, 0)[:self._n * self.stride:self.stride]
        own: Array = views[self._own()].swapaxes(1, 2)
        return own

    @property
    def y(self) -> Array:
        """y of these windows, (len, *output_shape), made anew each time."""
        return self._targets(np.arange(self._n)[self._own()])

    def _own(self) -> Any:
        """Which of all windows are this dataset's: a slice where they follow each other."""
        rows = self.rows
        if rows is None:
            return slice(None)
        return slice(rows[0], rows[-1] + 1) if (np.diff(rows) == 1).all() else rows

    def _make(self, numbers: Array) -> Batch:
        starts = numbers * self.stride
        x = self.series[starts[:, None] + np.arange(self.window)]
        if is_mapped(self.series):
            check_finite(x, "x", numbers.tolist())
        return Batch(x, self._targets(numbers), None)

    def _targets(self, numbers: Array) -> Array:
        behind = (numbers * self.stride)[:, None] + self.window + np.arange(self.horizon)
        y = self.series[behind[..., None], self.targets].reshape(-1, *self.output_shape)
        return y if y.dtype.kind == "f" else y.astype(np.float64)

    @_hints.arguments
    def split(self, train: float | None = None, validation: float | None = None,
              test: float | None = None) -> Split[WindowDataset]:
        """The first steps to train, those behind to validate, the last to test: floats are shares of the windows, integers
        numbers of them, as ArrayDataset.split takes them. Windows whose targets would lie in two parts are left out."""
        if self.rows is not None:
            raise ValueError("split() of a subset: its windows need not follow each other")
        sizes = part_sizes(self._n, train=train, validation=validation, test=test)
        skipped = -(-self.horizon // self.stride) - 1       # that begin before a part's last targets end
        parts: list[WindowDataset | None] = []
        at = 0
        for size in sizes:
            own = np.arange(at + (skipped if at else 0), at + size)
            if size and not len(own):
                raise ValueError(f"a part of {size} windows has none whose {self.horizon} targets are its own")
            parts.append(self.subset(own) if size else None)
            at += size
        first, second, third = parts
        assert first is not None
        return Split(first, second, third)


def _check_times(series: Any) -> None:
    """Of a table that pandas indexes by times: ValueError where these go backwards, a warning where they are not equally far
    apart, as where steps are missing."""
    times: Any = getattr(series, "index", None)
    if not hasattr(times, "asi8") or len(times) < 2:
        return
    apart = np.diff(times.asi8)
    if apart.max() <= 0:
        raise ValueError(f"series goes back in time, from {times[0]} to {times[-1]}: series.sort_index() turns it round")
    if 0 < apart.max() <= 1.25 * apart.min():       # months and years are so, too
        return
    least, most = int(np.argmin(apart)), int(np.argmax(apart))
    if hasattr(times, "tz") and (times[least + 1] - times[least]).days >= 1 and (times[most + 1] - times[most]).days <= 5 and (
            times.day_of_week < 5).all():
        return          # working days, with their holidays
    odd = least if apart[least] <= 0 else most
    usual = int(np.argsort(apart, kind="stable")[len(apart) // 2])
    warnings.warn(f"series.index has no frequency, and windows take all steps as equally far apart: behind {times[odd]} comes "
                  f"{times[odd + 1]}, where {times[usual + 1] - times[usual]} is usual. series.resample(...) makes rows of what "
                  "is missing, to be filled; series.reset_index(drop=True) says that it is meant as it is", stacklevel=4)


def _numbers(targets: Any, names: list[str] | None, C: int) -> Array:
    """The numbers of the columns that `targets` says, by number or by name."""
    asked = np.ravel(targets)
    if names is not None and all(name in names for name in asked.tolist()):
        asked = np.array([names.index(name) for name in asked.tolist()], int)
    if asked.dtype.kind not in "iu" or not len(asked) or asked.min() < -C or asked.max() >= C:
        named = "" if names is None else f", or their names: {listed(names)}"
        raise ValueError(f"targets={targets!s:.80}: numbers of the series' {C} column{'s' * (C > 1)}, from 0{named}")
    return asked
