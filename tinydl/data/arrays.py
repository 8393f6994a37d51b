"""ArrayDataset: samples in arrays or memory maps, gathered row by row without copying the set."""
from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np

from tinydl import _hints
from tinydl.data.augment import Augmentation
from tinydl.data.batch import Array, Batch, CountedDataset, LazyBatch, each_input, epoch_order, whole_number
from tinydl.data.checks import PIECE, as_features, as_targets, as_weights, check_finite, is_mapped
from tinydl.data.frames import column_names
from tinydl.data.normalize import Normalize
from tinydl.data.preparation import Preparation, epoch_key
from tinydl.data.prepared import Prepared
from tinydl.data.split import Split, dealt


class ArrayDataset(CountedDataset):
    """Samples x (samples, *features) with targets y: integer class labels (samples,), or floats (samples, ...), or the labels
    of sequences (samples, T). One negative number may stand for labels to ignore (SoftmaxCrossEntropy(ignore_index=-1)).

    Arrays, memory maps, or what np.asarray takes. They are used where they are if C-contiguous and of float32,
    float64, bool or an integer type; else copied once (float16 as float32; labels as int64). NaN and infinity are
    refused, with their sample and column; a memory map's x, which may be larger than memory, is not read through for
    that: a batch that meets one fails in training, and its message names it. The last, smaller batch counts unless
    drop_last; a batch_size beyond the samples makes one batch of all.

    Several inputs are a dict by the names of the model's (nn.Input), or a tuple of arrays in their order; a batch takes the
    same rows of each. Integer arrays are for inputs of integers, as categories. Targets of several outputs are a dict by the
    names of losses.Joint's, or a tuple of arrays in the order of its losses.

    Pictures may stay bytes: uint8 arrays, also mapped into memory, are 0.0 to 255.0 in batches, or with normalize=, as
    data.Normalize(mean, std), what that makes of them. augment: what is done to them at random in training alone, a list of what
    tinydl.data.augment has, after they are normalized. Both are done while rows are gathered, and `x` stays as it was given.
    They are for data of one input and one target.

    sample_weight (samples,): what each sample counts in the loss, sum(w loss) / sum(w), and so in each update; finite, 0 or
    more. Only what weights are beside each other matters. Batches are brought together by their sums of weights, and one
    whose weights are all 0 makes no update. Parts keep theirs, and `evaluate` and validation go by those of the held-out part.
    (samples, T) is a weight for each step of sequences, and the shape of the targets one for each number: 0 where a target is
    not known, whatever finite number then stands in y. (Losses of whole rows, as cross-entropy of classes, take them but for the
    last axis; losses.Joint takes (samples,) alone.)

    Tables of pandas, polars and pyarrow are taken too, if all columns are numbers or bool (also nullable ones without
    missing values); a column of dates, categories or text is refused by its name. The columns' names of x are kept in
    `feature_names`, and go to the model with Trainer.init. Of y, a table with one column is that column.

        >>> import numpy as np
        >>> data = ArrayDataset(np.zeros((10, 3)), np.arange(10) % 2, batch_size=4)
        >>> [batch.n for batch in data.epoch(seed=0, epoch=0)]
        [4, 4, 2]
        >>> x, y = next(data.epoch(seed=0, epoch=0)).load().arrays()         # what a training step sees
        >>> x.shape, y.shape
        ((4, 3), (4,))
    """

    @_hints.arguments
    def __init__(self, x: Any, y: Any, batch_size: int = 32, drop_last: bool = False, *, sample_weight: Any = None,
                 normalize: Normalize | None = None, augment: Sequence[Augmentation] = ()) -> None:
        self.drop_last = bool(drop_last)
        #: the names of several inputs, and of several targets; None of one, () of a tuple, whose order they go by
        self.input_names, given = _named(x, "x", "inputs")
        self.target_names, named = _named(y, "y", "targets")
        self.feature_names = column_names(x, "x") if self.input_names is None else None
        arrays, targets = [], {name: as_targets(one, name) for name, one in named.items()}
        first, n = next((name, len(y)) for name, y in targets.items())
        for name, y in targets.items():
            if len(y) != n:
                raise ValueError(f"{name} has {len(y)} samples and {first} has {n}")
        for name, one in given.items():
            a = as_features(one, name)
            if len(a) != n:
                raise ValueError(f"{name} has {len(a)} samples and {first} has {n}")
            if not len(a):
                raise ValueError(f"the dataset is empty: {name} has shape {a.shape}")
            if not is_mapped(a):
                check_finite(a, name, columns=self.feature_names)
            arrays.append(a)
        self.n_inputs, self.n_targets = len(arrays), len(targets)
        self.weighted = sample_weight is not None
        #: x (each of several inputs), y (each of several targets), and sample weights if any, of all samples, which the parts of
        #: a dataset share
        self.sources: tuple[Array, ...] = *arrays, *targets.values()
        if sample_weight is not None:
            places = tuple(np.shape(sample_weight)[1:])
            own = next(iter(targets.values())).shape[1:] if len(targets) == 1 else ()
            self.sources += (as_weights(sample_weight, n, shape=places if places == own[:len(places)] else ()),)
        #: the rows of `sources` that are this dataset's samples, or None for all
        self.rows: Array | None = None
        self._prepare(normalize, augment)
        self._set_batch_size(batch_size)

    def _prepare(self, normalize: Normalize | None, augment: Sequence[Augmentation]) -> None:
        self._preparation: Preparation | None = None
        if normalize is not None or augment:
            if self.input_names is not None or self.target_names is not None:
                raise ValueError("normalize and augment are for data of one input and one target")
            self._preparation = Preparation(normalize, augment, self.inputs, self.all_y, self.weighted)

    @property
    def normalize(self) -> Normalize | None:
        """As given."""
        return None if self._preparation is None else self._preparation.normalize

    @property
    def augment(self) -> tuple[Augmentation, ...]:
        """As given; of a part that `split` holds out, none."""
        return () if self._preparation is None else self._preparation.augment

    def prepared(self, seed: int | None = None, epoch: int = 0) -> Prepared | None:
        """How rows of `sources` are normalized and, with the seed of an epoch, augmented on their way into the model; None where
        nothing is done to them."""
        if self._preparation is None:
            return None
        return self._preparation.prepared(None if seed is None else epoch_key(seed, epoch), self.rows)

    def _set_batch_size(self, batch_size: int) -> None:
        self.batch_size = whole_number("batch_size", batch_size, 1)
        if self.drop_last and len(self) < self.batch_size:
            raise ValueError(f"drop_last with batch_size={batch_size} leaves no batch of {len(self)} samples")

    def __len__(self) -> int:
        return len(self.sources[0]) if self.rows is None else len(self.rows)

    def __repr__(self) -> str:
        names = [*(self.input_names or ["x"] * self.n_inputs), *(self.target_names or ["y"] * self.n_targets)]
        arrays = ", ".join(f"{name} {a.dtype} {a.shape[1:]}" for name, a in zip(names, self.sources, strict=False))
        changes = "".join([f", normalize={self.normalize!r}" * (self.normalize is not None),
                           f", augment={list(self.augment)!r}" * bool(self.augment)])
        return (f"{type(self).__name__}({len(self)} samples, {arrays}, {'weighted, ' * self.weighted}"
                f"batch_size={self.batch_size}{changes})")

    @property
    def x(self) -> Any:
        """x of these samples (len, *features): of all, the array itself; of a part, a read-only copy, made anew each time. Of
        several inputs, a dict or tuple as it was given.

        Where the copy would not fit in memory, take it piece by piece: `sources[0][rows[:1000]]`.
        """
        return each_input(self.inputs, self._own)

    @property
    def inputs(self) -> Any:
        """x of all samples in `sources`: an array, or of several inputs a dict or tuple as it was given."""
        return _as_given(self.sources[:self.n_inputs], self.input_names)

    @property
    def all_y(self) -> Any:
        """y of all samples in `sources`, as `inputs`."""
        return _as_given(self.sources[self.n_inputs:self.n_inputs + self.n_targets], self.target_names)

    @property
    def all_weights(self) -> tuple[Array, ...]:
        """The weights of all samples in `sources`, if there are any."""
        return self.sources[self.n_inputs + self.n_targets:]

    @property
    def y(self) -> Any:
        """y of these samples, as `x`."""
        return each_input(self.all_y, self._own)

    @property
    def weight_shape(self) -> tuple[int, ...] | None:
        return tuple(self.sources[-1].shape[1:]) if self.weighted else None

    @property
    def sample_weight(self) -> Array | None:
        """The weights of these samples, as `x`; None where there are none."""
        return self._own(self.sources[-1]) if self.weighted else None

    def _own(self, source: Array) -> Array:
        if self.rows is None:
            return source
        own = source[self.rows]
        own.flags.writeable = False     # what is written into a copy would be lost
        return own

    def targets(self) -> Iterator[Any]:
        """y of these samples in pieces of a million numbers or so: for who looks at all of them, where y is a memory map."""
        size = sum(y[:1].size for y in self.sources[self.n_inputs:self.n_inputs + self.n_targets])
        step = max(1, PIECE // max(1, size))
        for at in range(0, len(self), step):
            rows = slice(at, at + step) if self.rows is None else self.rows[at:at + step]
            yield each_input(self.all_y, lambda y, rows=rows: y[rows])      # type: ignore[misc]

    @property
    def input_shape(self) -> Any:
        return each_input(self.inputs, lambda a: tuple(a.shape[1:]))

    @property
    def output_shape(self) -> Any:
        """What a model for y gives per sample: (classes,) for labels, y's own shape for numbers, (1,) for one; of several
        targets, a dict or tuple as they were given.

        Classes are those of `sources`: a part's model needs an output also for a class that the part has no sample of.
        """
        return each_input(self.all_y, lambda y: (*y.shape[1:], int(y.max()) + 1) if y.dtype.kind == "i" else
                          tuple(y.shape[1:]) or (1,))

    def order(self, seed: int, epoch: int, shuffle: bool = True) -> tuple[Array, Array]:
        """The whole epoch at once, int64: rows of x and y, and bounds (batch b is rows[bounds[b]:bounds[b + 1]])."""
        order, bounds = epoch_order(len(self), self.batch_size, self.drop_last, seed, epoch, shuffle)
        return order if self.rows is None else self.rows[order], bounds

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        order, bounds = self.order(seed, epoch, shuffle)
        prepared = self.prepared(seed, epoch)
        for b in range(len(bounds) - 1):
            yield Batch(self.inputs, self.all_y, order[bounds[b]:bounds[b + 1]], 0, b,
                        self.sources[-1] if self.weighted else None, prepared)

    def with_batch_size(self, batch_size: int) -> ArrayDataset:
        """The same samples in batches of another size."""
        other = copy.copy(self)
        other._set_batch_size(batch_size)
        return other

    def with_transforms(self, normalize: Normalize | None = None, augment: Sequence[Augmentation] = ()) -> ArrayDataset:
        """The same samples, normalized and augmented so, instead of as before."""
        other = copy.copy(self)
        other._prepare(normalize, augment)
        return other

    def subset(self, rows: Any) -> ArrayDataset:
        """These samples (numbers 0 to len - 1, in this order, repeated if you like), sharing the arrays, normalized and augmented
        alike."""
        return self._part(rows, self.drop_last)

    def _part(self, rows: Any, drop_last: bool) -> ArrayDataset:
        rows = np.asarray(rows)
        if rows.ndim != 1 or not len(rows) or rows.dtype.kind not in "iu":
            hint = ": np.flatnonzero(mask) turns a mask into numbers" if rows.dtype == bool else ""
            raise ValueError(f"rows must be sample numbers, at least one; got {rows.dtype} of shape {rows.shape}{hint}")
        if rows.min() < 0 or rows.max() >= len(self):
            raise ValueError(f"rows must be 0 to {len(self) - 1}; got {rows.min()} to {rows.max()}")
        rows = rows.astype(np.int64)
        part = copy.copy(self)
        part.rows, part.drop_last = rows if self.rows is None else self.rows[rows], drop_last
        part._set_batch_size(self.batch_size)
        return part

    @_hints.arguments
    def split(self, train: float | None = None, validation: float | None = None, test: float | None = None, *, seed: int = 0,
              stratify: bool | Literal["auto"] = "auto") -> Split[ArrayDataset]:
        """Random parts that share the arrays: floats are shares of all samples, integers numbers of samples.

        Where train is left out it takes the rest, else test where that is; validation left out is none. `split()` is 0.8
        to train, 0.2 to test. A part of 0 is None. Parts are normalized alike, and
        train alone keeps the augmentation. stratify: every part gets its share of each class, rounded up or down,
        and train gets a sample of every class if it has room for all; "auto": where y is labels, one a sample.
        A class that train has no sample of is named in a warning. The same seed gives the same parts. drop_last holds for train
        alone: every sample of the others is evaluated.

            >>> parts = ArrayDataset([[0.0]] * 10, [0, 1] * 5).split(train=0.6, validation=0.2)
            >>> len(parts.train), sorted(parts.test.y.tolist())
            (6, [0, 1])
        """
        y = self.sources[self.n_inputs]
        labels = self.y if self.target_names is None and y.dtype.kind == "i" and y.ndim == 1 else None
        other = f"{y.dtype} of shape {y.shape}" if self.target_names is None else f"{self.n_targets} targets"
        first, *rest = dealt(len(self), labels, other, stratify, seed, train=train, validation=validation, test=test)
        second, third = (self._part(rows, False) if len(rows) else None for rows in rest)
        if self.augment:
            second, third = (part and part.with_transforms(self.normalize) for part in (second, third))
        return Split(self._part(first, self.drop_last), second, third)


def _named(given: Any, name: str, what: str) -> tuple[tuple[str, ...] | None, dict[str, Any]]:
    """Several inputs (or targets) by their names, and these: None of one, () of a tuple of arrays."""
    if isinstance(given, dict):
        if not given:
            raise ValueError(f"{name} is a dict of no {what}")
        return tuple(given), given
    if isinstance(given, tuple) and given and all(getattr(a, "shape", ()) for a in given):
        return (), {f"{name}[{i}]": a for i, a in enumerate(given)}
    return None, {name: given}


def _as_given(arrays: tuple[Array, ...], names: tuple[str, ...] | None) -> Any:
    if names is None:
        return arrays[0]
    return dict(zip(names, arrays, strict=True)) if names else arrays
