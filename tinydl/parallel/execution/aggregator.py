"""GradientAggregator: the average of a group's gradients over the samples that arrived, by their weights.

Guarantees:
 - The mean is over samples, not over submissions: sum of n_i g_i / sum of n_i over the slots that arrived, n_i being
   the sum of the weights that counted in slot i; without weights, its samples. A slot in which none counts (0) is
   not in the tree.
 - The same submissions give the same bits, in whatever order they come: the sum over slots is a fixed binary
   tree of weighted means (node = n_l/(n_l+n_r) left + n_r/(n_l+n_r) right). A failed slot is not in the tree,
   so one slot of two gives exactly that slot's gradient.
 - Nothing waits for ever: `get_average_gradients(timeout)` names the slots that are missing.
Any thread may call any method. The native driver averages in the same tree, in tinydl._kernels.engine.
"""
from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tinydl import _kernels as K
from tinydl.parallel.errors import AggregationTimeoutError, NothingArrivedError

Array = np.ndarray[Any, Any]
Gradients = Array | Mapping[str, Array]
Names = list[tuple[str, tuple[int, ...]]]
Mean = tuple[Array, float]      # and its weight

__all__ = ["BlockMeans", "GradientAggregator", "fold"]


class GradientAggregator:
    """Collects one submission for each of `expected_submissions` slots, and averages.

        >>> import numpy as np
        >>> a = GradientAggregator(2)
        >>> a.submit_gradients(np.array([2.0]), n_samples=8, slot=0)
        >>> a.submit_gradients(np.array([5.0]), n_samples=2, slot=1)
        >>> a.get_average_gradients(timeout=1)
        array([2.6])
    """

    def __init__(self, expected_submissions: int) -> None:
        if isinstance(expected_submissions, bool) or not isinstance(expected_submissions, (int, np.integer)):
            raise TypeError(f"expected_submissions={expected_submissions!r}: a whole number")
        if expected_submissions < 1:
            raise ValueError(f"expected_submissions={expected_submissions}: at least 1")
        self.expected_submissions = int(expected_submissions)
        self._changed = threading.Condition()
        self._slots: dict[int, tuple[Array, int, float] | None] = {}       # None: failed
        self._failures: dict[int, BaseException | None] = {}
        self._names: Names | None = None

    def submit_gradients(self, gradients: Gradients, n_samples: int, slot: int, *, copy: bool = True,
                         weight: float | None = None) -> None:
        """Submit the mean gradient of slot number `slot` over n_samples samples: a flat vector, or arrays by name.

        weight: what it counts in the average, the sum of its samples' weights (default: n_samples); 0: nothing.
        copy=False: the vector is kept as it is and must not change before `reset`.
        ValueError for a slot that is out of range or has submitted already, and for a vector that does not fit.
        """
        names = None
        if isinstance(gradients, Mapping):
            names = [(k, np.shape(v)) for k, v in gradients.items()]
            parts = [np.asarray(v) for v in gradients.values()]
            vector = np.concatenate([np.ravel(p) for p in parts]) if parts else np.zeros(0)
        else:
            vector = np.array(gradients) if copy else np.asarray(gradients)
        if vector.ndim != 1:
            raise ValueError(f"gradients must be one flat vector or a mapping by name; got shape {vector.shape}")
        if vector.dtype not in (np.float32, np.float64):
            vector = vector.astype(np.float64)
        if n_samples < 1:
            raise ValueError(f"n_samples={n_samples}: at least 1 (a batch that failed is submit_failure)")
        if weight is not None and not 0 <= weight < float("inf"):
            raise ValueError(f"weight={weight}: a finite number, at least 0")
        with self._changed:
            self._check(slot)
            self._check_like_others(slot, vector, names)
            self._names = names
            self._slots[slot] = (np.ascontiguousarray(vector), int(n_samples), float(n_samples if weight is None else weight))
            self._changed.notify_all()

    def submit_failure(self, slot: int, exception: BaseException | None = None) -> None:
        """Say that slot number `slot` has failed: it is neither waited for nor part of the average."""
        with self._changed:
            self._check(slot)
            self._slots[slot] = None
            self._failures[slot] = exception
            self._changed.notify_all()

    def withdraw(self, slot: int, exception: BaseException | None = None) -> None:
        """Say that slot number `slot` has failed, even if it has submitted a gradient before."""
        with self._changed:
            if 0 <= slot < self.expected_submissions:
                self._slots[slot] = None
                self._failures.setdefault(slot, exception)
                self._changed.notify_all()

    def _check(self, slot: int) -> None:
        if not 0 <= slot < self.expected_submissions:
            raise ValueError(f"slot {slot} is outside 0..{self.expected_submissions - 1}")
        if slot in self._slots:
            raise ValueError(f"slot {slot} has submitted already; reset() begins the next group")

    def _check_like_others(self, slot: int, vector: Array, names: Names | None) -> None:
        for other, held in self._slots.items():
            if held is not None and (held[0].size, held[0].dtype) != (vector.size, vector.dtype):
                raise ValueError(f"slot {slot} has {vector.size} gradients of {vector.dtype}; "
                                 f"slot {other} had {held[0].size} of {held[0].dtype}")
        if self._names is not None and names != self._names:
            raise ValueError(f"slot {slot} has gradients {names}; an earlier slot had {self._names}")

    def get_average_gradients(self, timeout: float | None = None, *, in_place: bool = False) -> Gradients:
        """Wait for all slots and return the weighted mean over those that arrived, flat or by name as it was submitted.

        in_place: the mean is computed in the slots' own vectors, so nothing is allocated; their gradients are lost, and
        `reset` must follow. AggregationTimeoutError (a TimeoutError) after `timeout` seconds, NothingArrivedError if all
        slots failed, or none that arrived has a weight above 0.
        """
        expected = self.expected_submissions
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._slots) >= expected, timeout) and timeout is not None:
                raise AggregationTimeoutError(sorted(set(range(expected)) - self._slots.keys()), expected, timeout)
            folded = self._fold(in_place)
            names, failures = self._names, self._failures
        if folded is None:
            cause = next((e for e in failures.values() if e is not None), None)
            failed = len(failures)
            raise NothingArrivedError(f"all {expected} slots failed" if failed == expected else
                                      f"{failed} of {expected} slots failed, and the weights of all others are 0") from cause
        vector = folded[0]
        if names is None:
            return vector
        out, at = {}, 0
        for name, shape in names:
            size = int(np.prod(shape))
            out[name] = vector[at:at + size].reshape(shape)
            at += size
        return out

    def _fold(self, in_place: bool) -> tuple[Array, float] | None:
        held = [self._slots[slot] for slot in range(self.expected_submissions)]
        return fold([None if slot is None or slot[2] == 0 else (slot[0] if in_place else slot[0].copy(), slot[2])
                     for slot in held])

    def mean(self) -> tuple[Array, float] | None:
        """The weighted mean of the slots, which have all come, and its weight; in the slots' own vectors, as in_place. None where
        nothing arrived that counts."""
        with self._changed:
            return self._fold(True)

    def reset(self) -> None:
        """Forget all submissions: ready for the next group."""
        with self._changed:
            self._slots, self._failures, self._names = {}, {}, None

    @property
    def is_ready(self) -> bool:
        """Whether all slots have come (arrived or failed)."""
        with self._changed:
            return len(self._slots) == self.expected_submissions

    @property
    def submission_count(self) -> int:
        """Slots that have come so far, failed ones included."""
        with self._changed:
            return len(self._slots)

    @property
    def total_samples(self) -> int:
        """Samples behind the gradients that arrived."""
        with self._changed:
            return sum(held[1] for held in self._slots.values() if held is not None)


def fold(means: Sequence[Mean | None], out: Array | None = None) -> Mean | None:
    """The weighted mean and its weight, by a fixed binary tree, of means that it uses up; None if none is there. out: where it is
    written, unless only one mean is there (default: into the first that is)."""
    if len(means) == 1:
        return means[0]
    half = 1 << (len(means) - 1).bit_length() - 1       # the greatest power of two below their number
    left, right = fold(means[:half]), fold(means[half:])
    if left is None or right is None:
        return right if left is None else left
    out, weight = left[0] if out is None else out, left[1] + right[1]
    K.weighted_mean(left[0], right[0], out, left[1] / weight, right[1] / weight)
    return out, weight


class BlockMeans:
    """The mean of a group that is run in blocks of a power of two of slots, in the tree over all its slots.

    A block's mean is a node of that tree, and so is the mean of two blocks, of four, ...: those that are complete are joined as
    in a binary counter. `kept`: vectors for these, log2 of the number of blocks. The native driver does so in reduction.pyx.
    """

    def __init__(self, kept: list[Array]) -> None:
        self._vectors = kept
        self._kept: list[tuple[Array, float] | None] = []       # each of a power of two of blocks, fewer than the one before
        self._blocks = 0

    def add(self, mean: tuple[Array, float] | None, last: bool) -> tuple[Array, float] | None:
        """Take the next block's mean and weight (None: nothing arrived). Returns the last block's joined with all before; of the
        others a copy is kept."""
        pairs = self._blocks
        while self._kept and (last or pairs & 1):
            mean = _joined(self._kept.pop(), mean)
            pairs >>= 1
        self._blocks += 1
        if not last:
            if mean is not None:
                self._vectors[len(self._kept)][...] = mean[0]
                mean = self._vectors[len(self._kept)], mean[1]
            self._kept.append(mean)
        return mean


def _joined(left: tuple[Array, float] | None, right: tuple[Array, float] | None) -> tuple[Array, float] | None:
    """The weighted mean of both, in the vector of the right one."""
    if left is None or right is None:
        return right if left is None else left
    weight = left[1] + right[1]
    K.weighted_mean(left[0], right[0], right[0], left[1] / weight, right[1] / weight)
    return right[0], weight
