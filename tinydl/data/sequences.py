"""SequenceDataset: sequences of unequal lengths; WindowDataset: windows over one long series."""
# T steps, C features
from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.data.batch import Array, Batch, CountedDataset, LazyBatch, epoch_order, whole_number
from tinydl.data.checks import as_features, as_targets, as_weights, check_finite, is_mapped
from tinydl.data.split import Split, part_sizes

#: batches whose samples are sorted by length together: the more, the less padding, and the less random an epoch's order. With
#: exponentially distributed lengths and batches of 32, padding up to a batch's longest is 76 percent of all steps with 1 batch,
#: 22 with 16, 13 with 32 and 8 with 64
POOL = 32


class _Rows(CountedDataset):
    """Samples that are made of a few arrays, a batch at a time; `rows`: which of them are this dataset's."""

    rows: Array | None = None
    drop_last: bool = False
    _n: int

    def __len__(self) -> int:
        return self._n if self.rows is None else len(self.rows)

    def __getitem__(self, i: int) -> tuple[Any, ...]:
        """x and y (and the weight) of sample i as in a batch of it alone, without the batch's axis."""
        batch = self._make(np.array([self._number(whole_number("i", i, 0))]))
        x = tuple(a[0] for a in batch.x) if isinstance(batch.x, tuple) else batch.x[0]
        return (x, batch.y[0], *(() if batch.sample_weight is None else (batch.sample_weight[0],)))

    def _number(self, i: int) -> int:
        if i >= len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        return i if self.rows is None else int(self.rows[i])

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        order, bounds = self._order(seed, epoch, shuffle)
        for b in range(len(bounds) - 1):
            yield LazyBatch(self._fetch, order[bounds[b]:bounds[b + 1]], int(bounds[b]), b, divisible=True)

    def _order(self, seed: int, epoch: int, shuffle: bool) -> tuple[Array, Array]:
        return epoch_order(len(self), self.batch_size, self.drop_last, seed, epoch, shuffle)

    def subset(self, rows: Any) -> Any:
        """These samples (numbers 0 to len - 1, in this order), sharing the arrays."""
        rows = np.asarray(rows)
        if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu" or rows.min() < 0 or rows.max() >= len(self):
            raise ValueError(f"rows must be sample numbers, at least one, from 0 to {len(self) - 1}; got {rows!s:.80}")
        part = copy.copy(self)
        part.rows = rows.astype(np.int64) if self.rows is None else self.rows[rows]
        return part

    def _fetch(self, batch: LazyBatch) -> Batch:
        numbers = batch.indices if self.rows is None else self.rows[batch.indices]
        made = self._make(numbers)
        return Batch(made.x, made.y, None, batch.first_id, batch.index, made.sample_weight)

    def _make(self, numbers: Array) -> Batch:
        raise NotImplementedError


class SequenceDataset(_Rows):
    """Sequences of unequal lengths with targets, in batches of similar lengths, padded behind to `max_length` steps.

    sequences: a list of arrays (T_i, C) of numbers, or (T_i,) of integers, as tokens; or one array of all steps, one sequence
    behind the other (it may be a memory map), with `offsets` (n + 1,): sequence i is sequences[offsets[i]:offsets[i + 1]].
    y: a label or numbers for each sequence, as ArrayDataset takes them; or with per_step=True integer labels for each of its
    steps, in the same form as the sequences: padded with -100, for losses.SoftmaxCrossEntropy(ignore_index=-100).

    Samples are (x, lengths): x (max_length, C), or tokens (max_length,), filled up with `padding`; lengths: how many steps are
    there. So a model has two inputs, in this order. lengths=False: x alone. max_length: of the longest sequence, if not given;
    longer ones keep their first max_length steps, with a label for each.

    Where an epoch is shuffled, its samples are drawn from (seed, epoch) and sorted by length within every 32 batches, and
    the batches come in a random order: LSTM, GRU and RNN end at a batch's longest sequence, and attention at each one's own.

        >>> import numpy as np
        >>> sequences = [np.ones((n, 3), "float32") for n in (2, 5, 1, 4)]
        >>> data = SequenceDataset(sequences, [0, 1, 0, 1], batch_size=2)
        >>> data.input_shape
        ((5, 3), ())
        >>> x, lengths = next(data.epoch(seed=0, epoch=0, shuffle=False)).load().x
        >>> x.shape, lengths.tolist()
        ((2, 5, 3), [2, 5])
    """

    @_hints.arguments
    def __init__(self, sequences: Any, y: Any, batch_size: int = 32, drop_last: bool = False, *, offsets: Any = None,
                 lengths: bool = True, max_length: int | None = None, padding: float = 0, per_step: bool = False,
                 sample_weight: Any = None) -> None:
        self.batch_size, self.drop_last = whole_number("batch_size", batch_size, 1), bool(drop_last)
        self.weighted = sample_weight is not None
        self.with_lengths, self.padding, self.per_step = bool(lengths), padding, bool(per_step)
        self.steps, self.offsets = _flat(sequences, offsets, "sequences")
        self._n = len(self.offsets) - 1
        own = np.diff(self.offsets)
        self.max_length = int(own.max()) if max_length is None else whole_number("max_length", max_length, 1)
        if self.steps.ndim not in (1, 2) or (self.steps.ndim == 1 and self.steps.dtype.kind == "f"):
            raise ValueError(f"sequences must be arrays (T, C), or (T,) of integers; got {self.steps.dtype} with "
                             f"{self.steps.ndim} axes")
        if self.steps.dtype.kind in "iu":
            held = np.iinfo(np.int64 if padding < 0 else self.steps.dtype)
            if padding != int(padding) or not held.min <= padding <= held.max:
                raise ValueError(f"padding={padding!r}: a whole number that {self.steps.dtype} holds, as the sequences' are")
        if not is_mapped(self.steps):
            check_finite(self.steps, "sequences, one behind the other,")
        if per_step:
            labels, places = _flat(y, offsets, "y")
            if not np.array_equal(places, self.offsets):
                i = int(np.argmax(np.diff(places) != own)) if len(places) == len(self.offsets) else 0
                raise ValueError(f"y must have a label for each step; sequence {i} has {own[i]} steps, and y "
                                 f"{np.diff(places)[i] if len(places) > i + 1 else 'nothing'}")
            if labels.ndim != 1 or labels.dtype.kind not in "iub":
                raise ValueError(f"y per step must be integers, one for each step; got {labels.dtype} with {labels.ndim} axes")
            self.y = labels
        else:
            self.y = as_targets(y)
            if len(self.y) != self._n:
                raise ValueError(f"there are {self._n} sequences, and y has {len(self.y)}")
        self.weights = None if sample_weight is None else as_weights(sample_weight, self._n)

    @property
    def lengths(self) -> Array:
        """How many steps each sample has, at most max_length: (len,) int64."""
        own = np.minimum(np.diff(self.offsets), self.max_length)
        return own if self.rows is None else own[self.rows]

    @property
    def input_shape(self) -> Any:
        shape = (self.max_length, *self.steps.shape[1:])
        return (shape, ()) if self.with_lengths else shape

    def _order(self, seed: int, epoch: int, shuffle: bool) -> tuple[Array, Array]:
        order, bounds = super()._order(seed, epoch, shuffle)
        if not shuffle:
            return order, bounds
        lengths, pool = self.lengths, POOL * self.batch_size
        for at in range(0, len(order), pool):
            some = order[at:at + pool]
            order[at:at + pool] = some[np.argsort(lengths[some], kind="stable")]
        # the batches in a random order, by another stream of numbers than the samples'; the last, smaller one stays last
        whole = len(order) // self.batch_size
        batches = np.random.default_rng([seed, epoch, 1]).permutation(whole)
        used = whole * self.batch_size
        order[:used] = order[:used].reshape(whole, self.batch_size)[batches].ravel()
        return order, bounds

    def _make(self, numbers: Array) -> Batch:
        starts = self.offsets[numbers]
        lengths = np.minimum(self.offsets[numbers + 1] - starts, self.max_length)
        x = self._padded(self.steps, starts, lengths, self.padding)
        if is_mapped(self.steps):
            check_finite(x, "x", numbers.tolist())
        y = self._padded(self.y, starts, lengths, -100).astype(np.int64, copy=False) if self.per_step else self.y[numbers]
        return Batch((x, lengths) if self.with_lengths else x, y, None, 0, 0,
                     None if self.weights is None else self.weights[numbers])

    def _padded(self, steps: Array, starts: Array, lengths: Array, padding: float) -> Array:
        dtype = np.dtype(np.int64) if padding < 0 and steps.dtype.kind in "iub" else steps.dtype
        out = np.full((len(starts), self.max_length, *steps.shape[1:]), padding, dtype)
        for row, start, length in zip(out, starts.tolist(), lengths.tolist(), strict=True):
            row[:length] = steps[start:start + length]
        return out


class WindowDataset(_Rows):
    """Windows over a long series: x is `window` steps of it, y the `horizon` steps behind them. Nothing is copied but batches.

    series: (T, C), or (T,), which is one column; it may be a memory map. Sample i begins at step i stride. x (window, C); y
    (horizon,) of one target column, (horizon, K) of K. targets: numbers of the columns to predict (one, or a list); None: all.

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
        given = as_features(series, "series")
        if given.ndim not in (1, 2) or (given.ndim == 2 and not given.shape[1]):
            raise ValueError(f"series has shape {given.shape}; it must be (T, C), or (T,)")
        self.series = given[:, None] if given.ndim == 1 else given
        T, C = self.series.shape
        if T < self.window + self.horizon:
            raise ValueError(f"series has {T} steps; window={window} and horizon={horizon} need {self.window + self.horizon}")
        self.targets = np.arange(C) if targets is None else np.ravel(targets)
        if self.targets.dtype.kind not in "iu" or not len(self.targets) or self.targets.min() < -C or self.targets.max() >= C:
            raise ValueError(f"targets={targets!r}: numbers of the series' {C} columns")
        if not is_mapped(given):
            check_finite(self.series, "series")
        self._n = (T - self.window - self.horizon) // self.stride + 1

    @property
    def input_shape(self) -> Any:
        return self.window, self.series.shape[1]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample's y."""
        return (self.horizon,) if len(self.targets) == 1 else (self.horizon, len(self.targets))

    @property
    def x(self) -> Array:
        """x of all windows, (windows, window, C): a read-only view of the series."""
        views = np.lib.stride_tricks.sliding_window_view(self.series, self.window, 0)[:self._n * self.stride:self.stride]
        return views.swapaxes(1, 2)

    def _make(self, numbers: Array) -> Batch:
        starts = numbers * self.stride
        x = self.series[starts[:, None] + np.arange(self.window)]
        behind = starts[:, None] + self.window + np.arange(self.horizon)
        y = self.series[behind[..., None], self.targets].reshape(-1, *self.output_shape)
        if is_mapped(self.series):
            check_finite(x, "x", numbers.tolist())
        return Batch(x, y if y.dtype.kind == "f" else y.astype(np.float64), None)

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


def _flat(sequences: Any, offsets: Any, name: str) -> tuple[Array, Array]:
    """All steps one behind the other, and where each sequence begins (n + 1,)."""
    if offsets is None:
        if isinstance(sequences, np.ndarray) and sequences.dtype != object:
            raise ValueError(f"{name} is one array of shape {sequences.shape}: give a list of arrays, or offsets; sequences of "
                             "one length are data.ArrayDataset's")
        arrays = [np.asarray(s) for s in sequences]
        kind = next((a.dtype for a in arrays if a.size), None)
        arrays = [a if a.size or kind is None else a.astype(kind) for a in arrays]      # an empty list is no list of floats
        if not arrays or any(a.ndim < 1 or a.shape[1:] != arrays[0].shape[1:] for a in arrays):
            raise ValueError(f"{name} must be a list of arrays (T, C) or (T,) that differ in T alone; got "
                             f"{', '.join(str(a.shape) for a in arrays[:5])}{', ...' * (len(arrays) > 5)}")
        bounds = np.cumsum([0, *(len(a) for a in arrays)], dtype=np.int64)
        return as_features(np.concatenate(arrays), name), bounds
    flat, bounds = as_features(sequences, name), np.asarray(offsets)
    if bounds.ndim != 1 or len(bounds) < 2 or bounds.dtype.kind not in "iu" or bounds[0] < 0 or bounds[-1] > len(flat) or (
            np.diff(bounds.astype(np.int64)) < 0).any():
        raise ValueError(f"offsets must be integers (n + 1,) that rise from 0 to at most {len(flat)}, the steps; got "
                         f"{bounds!s:.80}")
    return flat, bounds.astype(np.int64)
