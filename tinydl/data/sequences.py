"""SequenceDataset: sequences of unequal lengths; pad_sequences: labels of such."""
# T steps, C features
from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod
from typing import Any, Literal

import numpy as np

from tinydl import _hints
from tinydl.data.batch import Array, Batch, LazyBatch, whole_number
from tinydl.data.checks import PIECE, as_features, as_targets, as_weights, check_finite, is_mapped
from tinydl.data.frames import as_array, column_names, columns_of, differences
from tinydl.data.rows import MadeRows
from tinydl.data.split import Split, dealt

#: batches whose samples are sorted by length together: the more, the less padding, and the less random an epoch's order. With
#: exponentially distributed lengths and batches of 32, padding up to a batch's longest is 76 percent of all steps with 1 batch,
#: 22 with 16, 13 with 32 and 8 with 64
POOL = 32


class SequenceDataset(MadeRows):
    """Sequences of unequal lengths with targets, in batches of similar lengths, padded behind to `max_length` steps.

    sequences: a list of arrays (T_i, C) of numbers, or (T_i,) of floats, as one column, or of integers, as tokens; or one array
    of all steps, one sequence behind the other (it may be a memory map), with `offsets` (n + 1,): sequence i is
    sequences[offsets[i]:offsets[i + 1]].
    y: a label or numbers for each sequence, as ArrayDataset takes them; or with per_step=True something for each of its steps, in
    the same form as the sequences: integer labels, padded with -100, for losses.SoftmaxCrossEntropy(ignore_index=-100), or floats
    (T_i,) or (T_i, O), padded with 0. The samples then have weights: 1 for each step that is there (or its sequence's
    sample_weight), and 0 behind it, so that padding counts in no loss.

    Samples are (x, lengths): x (max_length, C), or tokens (max_length,), filled up with `padding`; lengths: how many steps are
    there. So a model has two inputs, in this order. lengths=False: x alone. max_length: of the longest sequence, if not given;
    longer ones keep their first max_length steps, with a label for each.

    Where an epoch is shuffled, its samples are drawn from (seed, epoch) and sorted by length within every 32 batches, and
    the batches come in a random order. Training gathers and pads them in native code. LSTM, GRU and RNN end at a batch's longest
    sequence, and attention at each one's own; where a model has nothing that looks beyond the lengths (as nn.Mean(0) does,
    nn.BatchNorm1d or a convolution), all of it runs with at most a quarter more steps than the longest has. A memory map is not
    read through at the door: a batch that meets NaN there fails in training, and its message names the step.

        >>> import numpy as np
        >>> sequences = [np.ones((n, 3), "float32") for n in (2, 5, 1, 4)]
        >>> data = SequenceDataset(sequences, [0, 1, 0, 1], batch_size=2)
        >>> data.input_shape
        ((5, 3), ())
        >>> (x, lengths), y = next(data.epoch(seed=0, epoch=0, shuffle=False)).load().arrays()
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
        self.feature_names = None if offsets is None else column_names(sequences, "sequences")
        if offsets is None:
            sequences, self.feature_names = _by_name(sequences)
        self.steps, self.offsets = _flat(sequences, offsets, "sequences")
        self._n = len(self.offsets) - 1
        own = np.diff(self.offsets)
        self.max_length = int(own.max()) if max_length is None else whole_number("max_length", max_length, 1)
        if self.steps.ndim == 1 and self.steps.dtype.kind == "f":
            self.steps = self.steps[:, None]
        if self.steps.ndim not in (1, 2):
            raise ValueError(f"sequences must be arrays (T, C), or (T,); got {self.steps.dtype} with {self.steps.ndim} axes")
        if self.steps.dtype.kind in "iu":
            held = np.iinfo(np.int64 if padding < 0 else self.steps.dtype)
            if padding != int(padding) or not held.min <= padding <= min(held.max, 2**53):
                raise ValueError(f"padding={padding!r}: a whole number that {self.steps.dtype} holds, as the sequences' are, at "
                                 "most 2^53")
        if not is_mapped(self.steps):
            self._check_finite()
        if per_step:
            labels, places = _flat(y, offsets, "y")
            if not np.array_equal(places, self.offsets):
                i = int(np.argmax(np.diff(places) != own)) if len(places) == len(self.offsets) else 0
                raise ValueError(f"y must have a label for each step; sequence {i} has {own[i]} steps, and y "
                                 f"{np.diff(places)[i] if len(places) > i + 1 else 'nothing'}")
            are_floats = labels.dtype.kind == "f"
            if labels.ndim not in ((1, 2) if are_floats else (1,)):
                raise ValueError(f"y per step must be integers, one for each step, or floats; got {labels.dtype} with "
                                 f"{labels.ndim} axes")
            if are_floats and not is_mapped(labels):
                check_finite(labels[self.offsets[0]:self.offsets[-1]], "y")
            self._targets = labels
        else:
            if isinstance(y, (list, tuple)) and len(set(own.tolist())) > 1 and [np.shape(one)[:1] for one in y] == [
                    (n,) for n in own.tolist()]:
                raise ValueError("y has something for each step: say per_step=True")
            self._targets = as_targets(y)
            if len(self._targets) != self._n:
                raise ValueError(f"there are {self._n} sequences, and y has {len(self._targets)}")
        self._weights: Any = None if sample_weight is None else as_weights(sample_weight, self._n)
        each_weighs = self.per_step and self._targets.dtype.kind == "f"
        if each_weighs:      # a weight for each step
            each = np.zeros(len(self.steps), np.float32 if self._weights is None else self._weights.dtype)
            each[self.offsets[0]:self.offsets[-1]] = 1 if self._weights is None else np.repeat(self._weights, own)
            self._weights, self.weighted = Padded(each, self.offsets, self.max_length, 0), True
        self.padded = (0, *[2] * self.per_step, *[3] * each_weighs) if self.with_lengths else ()

    def _check_finite(self) -> None:
        """ValueError names the sequence and the step in it of the first value that is NaN or infinite."""
        first, last = self.offsets[0], self.offsets[-1]
        try:
            check_finite(self.steps[first:last], "sequences")
        except ValueError:
            row = int(first + np.argmin(np.isfinite(self.steps[first:last]).all(1)))
            i = int(np.searchsorted(self.offsets, row, "right")) - 1
            step = self.steps[row].tolist()
            raise ValueError(f"sequences[{i}] is {step} at step {row - self.offsets[i]}; all must be finite: put a value in, or "
                             "leave that step or sequence out") from None

    def __repr__(self) -> str:
        x = self.inputs[0] if self.with_lengths else self.inputs
        return (f"SequenceDataset({len(self)} samples, x {x.dtype} {x.shape[1:]}, {'lengths, ' * self.with_lengths}"
                f"y {self.all_y.dtype} {self.all_y.shape[1:]}, {'weighted, ' * self.weighted}batch_size={self.batch_size})")

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

    def order(self, seed: int, epoch: int, shuffle: bool = True) -> tuple[Array, Array]:
        """The whole epoch at once, int64: which sequences, and bounds (batch b is order[bounds[b]:bounds[b + 1]])."""
        order, bounds = self._order(seed, epoch, shuffle)
        return order if self.rows is None else self.rows[order], bounds

    @cached_property
    def inputs(self) -> Any:
        """x of all samples, and their lengths, as kernels gather them: Padded, and (n,) int64."""
        x = Padded(self.steps, self.offsets, self.max_length, self.padding)
        return (x, np.minimum(np.diff(self.offsets), self.max_length)) if self.with_lengths else x

    @cached_property
    def all_y(self) -> Any:
        """y of all samples, as `inputs`."""
        padding = -100 if self._targets.dtype.kind in "iub" else 0
        return Padded(self._targets, self.offsets, self.max_length, padding) if self.per_step else self._targets

    @property
    def y(self) -> Any:
        """y of these samples, (len, ...); per_step: a list of arrays, one for each, of as many rows as it has steps (at most
        max_length)."""
        if self.per_step:
            starts = self.offsets[:-1] if self.rows is None else self.offsets[self.rows]
            return [self._targets[at:at + n] for at, n in zip(starts.tolist(), self.lengths.tolist(), strict=True)]
        return self._targets if self.rows is None else self._targets[self.rows]

    @property
    def sample_weight(self) -> Array | None:
        """The weights of these samples, (len,), or of floats per step (len, max_length); None where there are none."""
        if isinstance(self._weights, Padded):
            return self._weights[np.arange(self._n) if self.rows is None else self.rows]
        w: Array | None = self._weights
        return w if w is None or self.rows is None else w[self.rows]

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        return None if self._weights is None else tuple(self._weights.shape[1:])

    @property
    def all_weights(self) -> tuple[Any, ...]:
        """The weights of all samples, if there are any."""
        return () if self._weights is None else (self._weights,)

    def targets(self) -> Iterator[Array]:
        """y of these samples in pieces of a million numbers or so: for who looks at all of them."""
        y, rows = self.all_y, np.arange(self._n) if self.rows is None else self.rows
        step = max(1, PIECE // max(1, prod(y.shape[1:])))
        for at in range(0, len(rows), step):
            yield y[rows[at:at + step]]

    @_hints.arguments
    def split(self, train: float | None = None, validation: float | None = None, test: float | None = None, *, seed: int = 0,
              stratify: bool | Literal["auto"] = "auto") -> Split[SequenceDataset]:
        """Random parts that share the arrays, as ArrayDataset.split makes them: floats are shares of all sequences, integers
        numbers of them; `split()` is 0.8 to train, 0.2 to test. All parts have the max_length of the whole, so that one model
        takes them. stratify: every part gets its share of each class; "auto": where y is a label for each sequence. drop_last
        holds for train alone.

            >>> parts = SequenceDataset([[1, 2]] * 10, [0, 1] * 5).split(train=0.6, validation=0.2)
            >>> len(parts.train), sorted(parts.test.y.tolist())
            (6, [0, 1])
        """
        y = self._targets
        labels = self.y if not self.per_step and y.dtype.kind == "i" and y.ndim == 1 else None
        other = f"{y.dtype} {'for each step' if self.per_step else f'of shape {y.shape}'}"
        parts: list[SequenceDataset | None] = []
        for rows in dealt(len(self), labels, other, stratify, seed, train=train, validation=validation, test=test):
            parts.append(self.subset(rows) if len(rows) else None)
        for part in parts[1:]:
            if part is not None:
                part.drop_last = False
        first, second, third = parts
        assert first is not None
        return Split(first, second, third)

    def _of_all(self, batch: LazyBatch) -> Batch:
        numbers = batch.indices if self.rows is None else self.rows[batch.indices]
        return Batch(self.inputs, self.all_y, numbers, batch.first_id, batch.index, self._weights)

    def _make(self, numbers: Array) -> Batch:
        x, *lengths = self.inputs if self.with_lengths else (self.inputs,)
        filled = x[numbers]
        if is_mapped(self.steps):
            check_finite(filled, "x", numbers.tolist())
        y = self.all_y[numbers]
        y = y.astype(np.int64, copy=False) if y.dtype.kind in "iub" else y
        return Batch((filled, lengths[0][numbers]) if lengths else filled, y, None, 0, 0,
                     None if self._weights is None else self._weights[numbers])


@_hints.arguments
def pad_sequences(sequences: Any, length: int | None = None, value: int = -1) -> Array:
    """Sequences of integers as rows of one array, int64 (n, length), filled up behind with `value`: labels for losses.CTC.

    length: of the longest, if not given; ValueError where one is longer.

        >>> pad_sequences([[3, 1], [], [2]], 3).tolist()
        [[3, 1, -1], [-1, -1, -1], [2, -1, -1]]
    """
    arrays = [np.asarray(s) for s in sequences]
    for i, a in enumerate(arrays):
        if a.ndim != 1 or (a.size and a.dtype.kind not in "iub"):
            raise ValueError(f"sequences[{i}] is {a.dtype} of shape {a.shape}; it must be integers (n,)")
        if length is not None and len(a) > length:
            raise ValueError(f"sequences[{i}] has {len(a)} numbers, and length is {length}")
    width = max(map(len, arrays), default=0) if length is None else whole_number("length", length, 0)
    out = np.full((len(arrays), width), value, np.int64)
    for row, a in zip(out, arrays, strict=True):
        row[:len(a)] = a
    return out


def _by_name(sequences: Any) -> tuple[Any, list[str] | None]:
    """The sequences, and the names of their columns: where they are tables with names, in the order of the first one's, whatever
    order theirs is."""
    if hasattr(sequences, "get_group"):
        raise TypeError(f"sequences is a {type(sequences).__name__}: give [group[columns] for _, group in sequences], and y in "
                        "that order")
    if isinstance(sequences, Mapping):
        raise TypeError(f"sequences is a {type(sequences).__name__}: a sample has one sequence; several sequences a sample are "
                        "padded by hand, and go with their lengths into data.ArrayDataset({name: array, ...}, y)")
    if not isinstance(sequences, (list, tuple)) or not sequences:
        return sequences, None
    if all(isinstance(one, tuple) and len(one) == 2 and columns_of(one[1]) is not None for one in sequences):
        raise TypeError("sequences has pairs, as grouping gives them: give [group[columns] for _, group in sequences]")
    names, out = column_names(sequences[0], "sequences[0]"), []
    for i, one in enumerate(sequences):
        found = column_names(one, f"sequences[{i}]")
        if found is not None and names is not None and set(found) != set(names):
            raise ValueError(f"sequences[{i}] does not have the columns of sequences[0]: {differences(found, names)}")
        a = None if found is None or (i and found == names) else as_array(one, f"sequences[{i}]", names)
        if a is None:       # as all columns at once, which of many small tables of pandas takes a tenth of the time
            a = np.asarray(one)
        out.append(as_array(one, f"sequences[{i}]") if a.dtype == object and found is not None else a)
    return out, names


class Padded:
    """Sequences of unequal lengths as an array (n, max_length, ...) that is never made: `steps`, one sequence behind the other,
    where each begins (`offsets`, (n + 1,) int64), and what stands behind the shorter ones. Kernels gather their rows
    (engine.Source); numbers[rows] makes them."""

    def __init__(self, steps: Array, offsets: Array, max_length: int, padding: float) -> None:
        self.steps, self.offsets = steps, offsets
        self.shape = (len(offsets) - 1, max_length, *steps.shape[1:])
        signed = padding < 0 and steps.dtype.kind in "iub"
        #: of the rows
        self.dtype = np.dtype(np.int64) if signed else steps.dtype
        self.padding: float = self.dtype.type(padding).item()

    def __getitem__(self, rows: Array) -> Array:
        starts = self.offsets[rows]
        lengths = np.minimum(self.offsets[rows + 1] - starts, self.shape[1])
        out = np.full((len(rows), *self.shape[1:]), self.padding, self.dtype)
        for row, start, length in zip(out, starts.tolist(), lengths.tolist(), strict=True):
            row[:length] = self.steps[start:start + length]
        return out


def _flat(sequences: Any, offsets: Any, name: str) -> tuple[Array, Array]:
    """All steps one behind the other, and where each sequence begins (n + 1,)."""
    if offsets is None:
        if isinstance(sequences, np.ndarray) and sequences.dtype != object:
            raise ValueError(f"{name} is one array of shape {sequences.shape}: give a list of arrays, or offsets; sequences of "
                             "one length are data.ArrayDataset's")
        if not hasattr(sequences, "__iter__") or isinstance(sequences, (str, bytes)):
            raise TypeError(f"{name} must be a list of arrays (T, C) or (T,); got {sequences!r:.60}")
        arrays = [np.asarray(s) for s in sequences]
        kind = next((a.dtype for a in arrays if a.size), None)
        arrays = [a if a.size or kind is None else a.astype(kind) for a in arrays]      # an empty list is no list of floats
        odd = next((i for i, a in enumerate(arrays) if a.ndim < 1 or a.shape[1:] != arrays[0].shape[1:]), None)
        if not arrays or odd is not None:
            raise ValueError(f"{name} must be a list of arrays (T, C) or (T,) that differ in T alone; got " + (
                "none" if odd is None else f"{arrays[0].shape} first, and {arrays[odd].shape} as number {odd}" if odd else
                f"{arrays[0].shape} first"))
        bounds = np.cumsum([0, *(len(a) for a in arrays)], dtype=np.int64)
        return as_features(np.concatenate(arrays), name), bounds
    flat, bounds = as_features(sequences, name), np.asarray(offsets)
    if bounds.ndim != 1 or len(bounds) < 2 or bounds.dtype.kind not in "iu" or bounds[0] < 0 or bounds[-1] > len(flat) or (
            np.diff(bounds.astype(np.int64)) < 0).any():
        raise ValueError(f"offsets must be integers (n + 1,) that rise from 0 to at most {len(flat)}, the steps; got "
                         f"{bounds!s:.80}")
    return flat, bounds.astype(np.int64)
