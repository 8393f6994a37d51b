"""Splitting: how many samples each part gets, and which; three parts, and what is left over."""
from __future__ import annotations

from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from tinydl.data.batch import Array, Dataset

D = TypeVar("D", bound=Dataset)


class Split(NamedTuple, Generic[D]):
    """The parts of a dataset; None where there is no such part. A Trainer takes it as it is."""

    train: D
    validation: D | None
    test: D | None


def part_sizes(n: int, **wanted: float) -> list[int]:
    """Samples of each part: floats are shares of n (by largest remainder), integers are numbers of samples."""
    said = ", ".join(f"{name}={value!r}" for name, value in wanted.items())
    exact = []
    for name, value in wanted.items():
        counted = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not counted and not isinstance(value, (float, np.floating)):
            raise TypeError(f"split({said}): {name} must be a share (float) or a number of samples (int)")
        if not 0 <= value <= (n if counted else 1):
            raise ValueError(f"split({said}) of {n} samples: {name} must be 0.0 to 1.0, or 0 to {n} samples")
        exact.append(float(value) if counted else float(value) * n)
    if sum(exact) > n * (1 + 1e-9):
        raise ValueError(f"split({said}) asks for {sum(exact):.10g} of {n} samples")
    sizes = [int(e) for e in exact]
    for p in sorted(range(len(sizes)), key=lambda p: sizes[p] - exact[p])[:round(sum(exact)) - sum(sizes)]:
        sizes[p] += 1
    for (name, value), size in zip(wanted.items(), sizes, strict=True):
        if size == 0 and (value > 0 or name == "train"):
            raise ValueError(f"split({said}) of {n} samples leaves {name} without any")
    return sizes


def deal(y: Array, sizes: list[int], rng: np.random.Generator) -> list[Array]:
    """Rows of y for each part, ascending: random, with each class's share in each part rounded up or down."""
    order = rng.permutation(len(y))
    order = order[np.argsort(y[order], kind="stable")]
    counts = round_table(np.unique(y, return_counts=True)[1].tolist(), [len(y) - sum(sizes), *reversed(sizes)])
    part = np.repeat(np.tile(np.arange(len(sizes) + 1), len(counts)), np.ravel(counts))     # 0: of none; then backwards
    return [np.sort(order[part == p]) for p in range(len(sizes), 0, -1)]


def round_table(rows: list[int], columns: list[int]) -> list[list[int]]:
    """Whole numbers with row sums `rows` and column sums `columns`: rows[r] columns[c] / n rounded up or down.

    Cells that are not whole lie on cycles (a row or column that has one has two). Moving the same amount from every
    second cell of a cycle to the others, the shorter way, keeps all sums and makes a cell whole: Cox 1987, "A
    constructive procedure for unbiased controlled rounding", which tosses a coin for the way.
    """
    n, width = sum(rows), len(columns)
    cells = {(r, -1 - c): a * b for r, a in enumerate(rows) for c, b in enumerate(columns)}       # in n-ths
    near: dict[int, dict[int, Any]] = {node: {} for cell in cells for node in cell}               # rows 0.., columns -1..
    for (r, c), value in cells.items():
        if value % n:
            near[r][c] = near[c][r] = True
    for first in range(len(rows)):
        while near[first]:
            walk = [first, next(iter(near[first]))]
            while (node := next(m for m in near[walk[-1]] if m != walk[-2])) not in walk:
                walk.append(node)
            cycle = walk[walk.index(node):]
            edges = [(max(pair), min(pair)) for pair in zip(cycle, [*cycle[1:], cycle[0]], strict=True)]
            step, up = min((min(*(n - cells[e] % n for e in a), *(cells[e] % n for e in b)), a)
                           for a, b in ((edges[::2], edges[1::2]), (edges[1::2], edges[::2])))
            for e in edges:
                cells[e] += step if e in up else -step
                if cells[e] % n == 0:
                    del near[e[0]][e[1]], near[e[1]][e[0]]
    return [[cells[r, -1 - c] // n for c in range(width)] for r in range(len(rows))]
