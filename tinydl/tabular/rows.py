"""Rows by what is in them, so that a fit does not depend on how its table is sorted; and weights that stand for equal rows.

A sort by the columns' values would do as well as one by their hashes, and takes many times as long. Hashes are of what the
networks are given: text, dates and missing values are numbers by then, and equal columns of equal tables have equal ones,
whatever library they come from. Two rows of a million that are not equal have the same hash with a probability of 3e-8; then
these two would be taken in the order of the table.
"""
# n rows, m rows that count
from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

__all__ = ["by_content", "counted", "dealt"]

#: repeats come to at most so many times the rows that count, or to so many rows: about the longest that they may make a fit
TIMES, ROWS = 4, 10_000
#: rows that are hashed at a time: a column of them, and of what they are read from, stays in the cache
AT_ONCE = 4096
#: odd numbers without a pattern, of splitmix64 (Steele, Lea and Flood 2014)
START, FACTOR, SHIFT = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(29)


def counted(weights: Array) -> tuple[Array, Array | None]:
    """The numbers (m,) of the rows that count by their weights (n,), and what these weigh.

    A row of weight 0 does not count. Where the weights are whole numbers, a row is there as often as its weight says, and none
    weighs more than another (None); but where this came to more than TIMES the rows that count, and to more than ROWS, they stay
    weights."""
    rows = np.flatnonzero(weights)
    if not len(rows):
        raise ValueError("Sample weights must contain at least one non-zero number.")
    kept = weights[rows]
    if (kept == np.floor(kept)).all() and kept.sum() <= max(TIMES * len(rows), ROWS):
        return np.repeat(rows, kept.astype(np.int64)), None
    return rows, kept


def by_content(x: Iterable[Array], y: Array, weights: Array | None) -> tuple[Array, Array]:
    """The numbers (n,) of the rows of columns x (n, F), targets y and weights (n,), in an order that goes by what is in them; and
    for each in that order which copies it belongs to, 0, 1, ...

    Copies are rows with equal columns and targets. If other rows with these columns have other targets, each row is by itself:
    then columns alone do not say what the target is, and how often it is what is to be learnt, as in a survey of few questions.
    """
    columns = np.full(len(y), START, np.uint64)
    for table in x:
        _hash(table, columns)
    pairs = columns.copy()
    _hash(y, pairs)
    order = np.lexsort((pairs, columns) if weights is None else (weights, pairs, columns))
    columns, pairs = columns[order], pairs[order]
    begins = np.r_[True, columns[1:] != columns[:-1]]
    of_columns = np.cumsum(begins) - 1
    several = np.zeros(of_columns[-1] + 1, bool)
    several[of_columns[1:][~begins[1:] & (pairs[1:] != pairs[:-1])]] = True
    return order, np.cumsum(begins | several[of_columns]) - 1


def _hash(table: Array, onto: Array) -> None:
    """Hash the rows of table (n,) or (n, C) onto hashes (n,), in place. -0 counts as 0."""
    table = table.reshape(len(onto), -1)
    for at in range(0, len(onto), AT_ONCE):
        block, h = table[at:at + AT_ONCE], onto[at:at + AT_ONCE]
        block = block + block.dtype.type(0)
        for column in block.view(f"u{block.dtype.itemsize}").T.astype(np.uint64):
            h ^= column         # each step has an inverse, so rows that differ in one column alone differ in their hashes
            h *= FACTOR
            h ^= h >> SHIFT


def dealt(strata: Array, copies: Array, k: int, seed: int) -> Array:
    """The part (n,) of 0..k-1 of each row, drawn so that parts are of equal size and have equal shares of each stratum, and
    copies (`by_content`), which are in one stratum, lie in one part, but for those that one has no room for.

    Else a network would know the row that it is judged by, as it does where a rare class is made less rare by repeats."""
    draw = np.random.default_rng(seed).permutation(int(copies.max()) + 1)[copies]
    order = np.lexsort((draw, strata))
    in_turn = np.arange(len(strata)) % k
    found = np.empty(len(strata), np.int64)
    found[order] = in_turn[np.lexsort((in_turn, strata[order]))]        # each part gets what it gets of a stratum in one piece
    return found
