"""Splitting: how many samples each part gets, and which; three parts, and what is left over."""
from __future__ import annotations

import warnings
from collections.abc import Sequence
from itertools import pairwise, permutations
from typing import TYPE_CHECKING, Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np

from tinydl.data.batch import Array, Dataset

if TYPE_CHECKING:
    from tinydl.data.augment import Augmentation
    from tinydl.data.normalize import Normalize

D = TypeVar("D", bound=Dataset)


class Split(NamedTuple, Generic[D]):
    """The parts of a dataset; None where there is no such part. A Trainer takes it as it is."""

    train: D
    validation: D | None
    test: D | None

    def with_transforms(self, normalize: Normalize | None = None, augment: Sequence[Augmentation] = ()) -> Split[D]:
        """The same parts of an ArrayDataset, all of them normalized, and train augmented, instead of as before.

            >>> import numpy as np
            >>> from tinydl.data import ArrayDataset, Normalize, augment
            >>> parts = ArrayDataset(np.zeros((10, 1, 8, 8), np.uint8), np.arange(10) % 2).split()
            >>> parts = parts.with_transforms(Normalize.of(parts.train), [augment.RandomCrop(padding=1)])
            >>> parts.train.augment, parts.test.augment
            ((RandomCrop(size=None, padding=(1, 1), fill=0.0, padding_mode='constant'),), ())
        """
        train, *others = parts = list[Any](self)
        if not all(hasattr(part, "with_transforms") for part in parts if part is not None):
            raise TypeError("with_transforms is for the parts of an ArrayDataset; other datasets make their samples themselves")
        second, third = (None if part is None else part.with_transforms(normalize) for part in others)
        return Split(train.with_transforms(normalize, augment), second, third)


def part_sizes(n: int, **wanted: float | None) -> list[int]:
    """Samples of train, validation and test: floats are shares of n (by largest remainder), integers numbers of samples.

    Where train is None it takes the rest, else test where that is None; what else is None takes nothing. All None is
    train=0.8.
    """
    if all(value is None for value in wanted.values()):
        wanted["train"] = 0.8
    said = ", ".join(f"{name}={value!r}" for name, value in wanted.items() if value is not None)
    exact = dict.fromkeys(wanted, 0.0)
    for name, value in wanted.items():
        if value is None:
            continue
        counted = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not counted and not isinstance(value, (float, np.floating)):
            raise TypeError(f"split({said}): {name} must be a share (float) or a number of samples (int)")
        if not 0 <= value <= (n if counted else 1):
            raise ValueError(f"split({said}) of {n} samples: {name} must be 0.0 to 1.0, or 0 to {n} samples")
        exact[name] = float(value) if counted else float(value) * n
    total = sum(exact.values())
    if total > n * (1 + 1e-9):
        raise ValueError(f"split({said}) asks for {total:.10g} of {n} samples")
    for name in ("train", "test"):
        if wanted[name] is None:
            exact[name] = max(0.0, n - total)
            break
    sizes = {name: int(e) for name, e in exact.items()}
    up = sorted(sizes, key=lambda name: sizes[name] - exact[name])
    for name in up[:round(sum(exact.values())) - sum(sizes.values())]:
        sizes[name] += 1
    for name, size in sizes.items():
        if size == 0 and (wanted[name] or name == "train"):
            raise ValueError(f"split({said}) of {n} samples leaves {name} without any")
    return list(sizes.values())


def dealt(n: int, labels: Array | None, other: str, stratify: bool | Literal["auto"], seed: int,
          **wanted: float | None) -> list[Array]:
    """Rows of each part of n samples for a dataset's `split`. labels: of their classes; None: y is `other`, no such labels."""
    sizes = part_sizes(n, **wanted)
    if stratify not in (True, False, "auto"):
        raise ValueError(f"stratify={stratify!r}: True, False or 'auto'")
    if seed < 0:
        raise ValueError(f"split(seed={seed}): a whole number of at least 0")
    if labels is None and stratify and stratify != "auto":
        raise ValueError(f"stratify=True needs class labels; y is {other}")
    parts = deal(labels if labels is not None and stratify else np.zeros(n, np.int64), sizes, np.random.default_rng(seed))
    if labels is not None and len(absent := np.setdiff1d(labels, labels[parts[0]])):
        warnings.warn(f"the train part of {len(parts[0])} samples has none of class {', '.join(map(str, absent[:10]))}"
                      f"{', ...' * (len(absent) > 10)} ({len(absent)} of {len(np.unique(labels))} classes)",
                      UserWarning, stacklevel=4)
    return parts


def deal(y: Array, sizes: list[int], rng: np.random.Generator) -> list[Array]:
    """Rows of y for each part, train first, ascending: random, with each class's share in each part rounded up or down.

    Where train has room for all classes, one with less than a whole sample there gives it one before the rest is dealt.
    """
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    ends = np.append(np.flatnonzero(np.diff(y[order])) + 1, len(y))         # of each class
    counts = np.diff(ends, prepend=0)
    columns = np.array([len(y) - sum(sizes), *reversed(sizes)])         # what is in no part; test, validation, train
    table = np.zeros((len(counts), len(columns)), np.int64)
    if len(counts) <= sizes[0]:
        table[_rare(counts, sizes[0]), -1] = 1
    toss = rng.permutation(len(counts))         # which of equal classes are rounded up
    table[toss] += round_table((counts - table[:, -1])[toss], columns - table.sum(0))
    part = np.empty(len(y), np.int8)
    part[order] = np.repeat(np.tile(np.arange(len(columns)), len(counts)), table.ravel())
    return [np.flatnonzero(part == p) for p in range(len(sizes), 0, -1)]


def _rare(counts: Array, train: int) -> Array:
    """The classes of which one sample goes to train first: the k smallest, k being the least number with which every
    other class is due at least one whole sample of what is left of train."""
    k, smallest = np.arange(len(counts)), np.argsort(counts, kind="stable")
    enough = counts[smallest] * (train - k) >= counts.sum() - k
    return smallest[:enough.argmax() if enough.any() else len(counts)]


def round_table(rows: Array, columns: Array) -> Array:
    """Whole numbers with row sums `rows` and column sums `columns`: rows[r] columns[c] / n rounded up or down.

    Each row by itself first, its largest remainders up. That may give one column too many and another too few. Then rows
    that have rounded up in the one and down in the other change it, those with the least to lose first; or they do so by
    way of a third column. There is always such a way, since a table like this exists (Bacharach 1966).
    """
    n = max(1, int(rows.sum()))
    down, rest = np.divmod(np.outer(rows, columns), n)          # of the exact numbers; what is left of them, in n-ths
    rank = np.argsort(np.argsort(-rest, 1, kind="stable"), 1)
    up = rank < rest.sum(1, keepdims=True) // n
    excess = up.sum(0) - rest.sum(0) // n
    ways = [way for length in range(2, len(columns) + 1) for way in permutations(range(len(columns)), length)]
    while excess.any():
        possible = ([(a, b, np.flatnonzero(up[:, a] & ~up[:, b] & (rest[:, b] > 0))) for a, b in pairwise(way)]
                    for way in ways if excess[way[0]] > 0 > excess[way[-1]])
        steps = next(steps for steps in possible if all(len(able) for _, _, able in steps))
        first, last = steps[0][0], steps[-1][1]
        n_moves = min(excess[first], -excess[last], *(len(able) for _, _, able in steps))
        for a, b, able in steps:
            able = able[np.argsort(rest[able, a] - rest[able, b], kind="stable")[:n_moves]]
            up[able, a], up[able, b] = False, True
        excess[first] -= n_moves
        excess[last] += n_moves
    table: Array = down + up
    return table
