"""Groups and rounds of which ranks run a share each: what the drivers tell the ranks, and write down of what these tell them."""
from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels import engine
from tinydl.parallel.errors import BatchFailure
from tinydl.parallel.execution.ledger import Outcome
from tinydl.parallel.ranks.ranks import ARRIVED, ATTEMPTS, LOSS, N_COLUMNS, SAMPLES, WEIGHT, Ranks, Results
from tinydl.parallel.ranks.share import shares

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import EpochProgress, Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.workers.signals import uninterrupted

Array = np.ndarray[Any, Any]

__all__ = ["FailedElsewhereError", "GroupsOfRanks", "exchange_group", "exchange_round"]

#: the status of a batch that has failed on another rank; any that is neither engine.OK nor engine.CANCELLED
FAILED_ELSEWHERE = 101


class FailedElsewhereError(RuntimeError):
    """A batch failed on another rank; the message says of what."""


class GroupsOfRanks:
    """For the native driver: `exchange` and `shares` of a NativeRun, which `take` is given when there is one."""

    def __init__(self, ranks: Ranks, epoch: EpochProgress, setting: Setting, step: int) -> None:
        self.ranks, self.epoch, self.k, self.step = ranks, epoch, setting.k, step

    def take(self, native: engine.NativeRun) -> None:
        """What `exchange` is called by. Its numbers are taken once: a few operations of NumPy take as long as a small batch."""
        assert native.shares is not None
        self.native, self.groups, self.own = native, native.groups.tolist(), native.shares.tolist()
        self.sizes = np.diff(native.bounds)

    def shares(self, groups: Array) -> Array:
        return shares(groups, self.k, self.ranks.rank, self.ranks.size)

    def exchange(self, vector: Array, weight: float) -> float:
        """NativeRun calls this in each group, when this rank's share has been run."""
        run, g = self.native, self.native.next_group
        first, end, (lo, hi) = self.groups[g], self.groups[g + 1], self.own[g]
        table, group = np.empty((end - first, N_COLUMNS)), slice(first, end)
        table[:, LOSS], table[:, WEIGHT], table[:, ATTEMPTS] = run.losses[group], run.weights[group], run.attempts[group]
        table[:, ARRIVED], table[:, SAMPLES] = run.statuses[group] == engine.OK, self.sizes[group]
        results = Results(self.epoch.number, self.step + g, self.k, table)
        if not table[lo - first:hi - first, ARRIVED].all():
            results.errors.update({i - first: in_words(run.errors.get(i)) for i in range(lo, hi) if run.statuses[i] != engine.OK})
        weight = self.ranks.exchange(vector, weight, results)
        for begin, stop in ((first, lo), (hi, end)):
            if begin < stop:
                rows, theirs = table[begin - first:stop - first], slice(begin, stop)
                run.losses[theirs], run.weights[theirs], run.attempts[theirs] = rows[:, LOSS], rows[:, WEIGHT], rows[:, ATTEMPTS]
                run.statuses[theirs] = np.where(rows[:, ARRIVED] > 0, engine.OK, FAILED_ELSEWHERE)
        run.errors.update({first + i: FailedElsewhereError(text) for i, text in results.errors.items()
                           if not lo <= first + i < hi})
        return weight


def exchange_group(resources: Resources, epoch: EpochProgress, setting: Setting, mean: tuple[Array, float] | None,
                   parts: list[Outcome], held: uninterrupted) -> Array | None:
    """For the Python driver: the averaged gradient of a group, None where nothing arrived that counts. mean: of this share,
    and its weight. parts: the outcome of each lane, which is one piece; those of the other ranks' lanes are written."""
    ranks = resources.ranks
    assert ranks is not None
    own = ranks.share(setting.k, len(parts))
    table, errors = np.zeros((len(parts), N_COLUMNS)), {}
    for i in own:
        part = parts[i]
        table[i] = part.losses[0], part.weights[0], part.arrived[0], part.attempts[0], part.sizes[0]
        if part.failures:
            errors[i] = in_words(part.failures[0].exception)
    results = Results(epoch.number, resources.step, setting.k, table, errors)
    vector, weight = (resources.slots[0], 0.0) if mean is None else mean
    try:
        with held.open():
            weight = ranks.exchange(vector, weight, results)
    except ConnectionError:
        resources.check_deadline()      # a shutdown has cancelled it
        raise
    for i, part in enumerate(parts):
        if i not in own:
            arrived, n = bool(table[i, ARRIVED]), int(table[i, SAMPLES])
            part.losses, part.weights, part.attempts = [table[i, LOSS]], [table[i, WEIGHT]], [int(table[i, ATTEMPTS])]
            part.arrived, part.sizes = [arrived], [n]
            part.failures = [] if arrived else [replace(part.failures[0], n_samples=n,
                                                        exception=FailedElsewhereError(results.errors.get(i, "")))]
    return vector if weight else None


def exchange_round(resources: Resources, epoch: EpochProgress, n: int, vector: Array, weight: float, own: list[Outcome],
                   held: uninterrupted) -> tuple[float, list[Outcome]]:
    """For strategy local, with either driver: write the mean of all copies into `vector`, the mean of this rank's. Returns its
    weight, and the outcome of every lane. n: batches of the round; own: the outcomes of this rank's lanes."""
    ranks = resources.ranks
    assert ranks is not None
    try:
        with held.open():
            weight, told = ranks.exchange_round(vector, weight, (epoch.number, resources.step, n), list(map(_as_json, own)))
    except ConnectionError:
        resources.check_deadline()      # a shutdown has cancelled it
        raise
    return weight, [part for rank, theirs in enumerate(told)
                    for part in (own if rank == ranks.rank else [_of_json(epoch.number, row) for row in theirs])]


#: of an Outcome, what has an entry for each piece, and what has one number
LISTS, NUMBERS = ("sizes", "losses", "weights", "attempts", "arrived", "norms"), ("updates", "batches", "groups")


def _as_json(part: Outcome) -> dict[str, Any]:
    """What the other ranks are told of a lane. Numbers in JSON keep all their bits."""
    found = {name: np.asarray(getattr(part, name)).tolist() for name in (*LISTS, *NUMBERS)}
    for name in "failures", "fatal":
        found[name] = [(f.batch_index, f.n_samples, in_words(f.exception), None if f.indices is None else f.indices.tolist())
                       for f in getattr(part, name)]
    return found


def _of_json(epoch: int, found: dict[str, Any]) -> Outcome:
    for name in "failures", "fatal":
        found[name] = [BatchFailure(epoch, batch, n, -1, FailedElsewhereError(text), None if rows is None else np.array(rows))
                       for batch, n, text, rows in found[name]]
    return Outcome(**found, workers=[-1] * len(found["sizes"]))


def in_words(error: BaseException | None) -> str:
    return "it was given up" if error is None else f"{type(error).__name__}: {error}"
