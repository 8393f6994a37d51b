"""local: workers train parameters of their own and average them now and then."""
from __future__ import annotations

from itertools import pairwise
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl._kernels import engine
from tinydl.optim import Optimizer
from tinydl.parallel.execution.ledger import Outcome
from tinydl.parallel.execution.replica import Replica
from tinydl.parallel.execution.updates import AfterPieces, Place, Run, mean
from tinydl.parallel.host.memory import starts_of
from tinydl.parallel.strategies.base import Strategy, check_count

if TYPE_CHECKING:
    from tinydl.parallel.execution.epoch import EpochProgress, Setting
    from tinydl.parallel.execution.resources import Resources
    from tinydl.parallel.workers.signals import uninterrupted

Array = np.ndarray[Any, Any]


class Averaging(AfterPieces):
    """A round: each copy of the model is trained on its share of the batches, one update after the other; at the end, their
    mean is what all go on from. Until then nothing shared has changed."""

    must_finish = True

    def __init__(self, resources: Resources, epoch: EpochProgress, setting: Setting) -> None:
        assert isinstance(setting.strategy, Local)
        self.strategy: Local = setting.strategy
        super().__init__(resources, epoch, setting)
        self.waited = 0.0               # seconds, for other ranks

    def prepare(self) -> None:
        self.own = self.resources.own_copies(self.setting.copies)
        self.copies = gather(self.resources, self.own)

    def n_batches(self, left: int | None) -> int:
        return self.setting.copies * self.strategy.sync_every

    @property
    def n_updates(self) -> int:
        return self.strategy.sync_every

    def runs(self, order: Array, bounds: Array, max_updates: int | None) -> list[Run]:
        resources, first = self.resources, self.epoch.batches_done
        runs = []
        lanes = self.lanes(min(len(bounds) - 1 - first, self.n_batches(max_updates)))
        for i in self.own:
            share, copy = lanes[i], self._copy(i)
            own = bounds[first + share.start:first + share.stop + 1]
            self.begin(i)
            native = engine.NativeRun(
                [copy.replica.native], [copy.slot], resources.sources, order, own, copy.update, t=self.t,
                first_step=resources.step + share.start, seed=resources.seed, max_retries=resources.policy.retries,
                max_failed=resources.most_failures(self.epoch, 1), given_up=self.epoch.hung_rows(own))
            runs.append(Run(native, np.arange(first + share.start, first + share.stop), i))
        return runs

    def lanes(self, n_pieces: int) -> list[range]:
        k, self.n_pieces = self.setting.copies, n_pieces
        cuts = [n_pieces * i // k for i in range(k + 1)]
        lanes = [range(lo, hi) for lo, hi in pairwise(cuts)]
        for i in self.own:
            self.resources.optimizer.set_numbers(self._copy(i).update, self.resources.state, len(lanes[i]))
        return lanes

    def blocks(self, n_lanes: int) -> list[range]:
        return [self.own]

    def _copy(self, lane: int) -> ModelCopy:
        return self.copies[lane - self.own.start]

    def begin(self, lane: int) -> None:
        self._copy(lane).take_shared(self.resources, self.strategy.average_state)

    def place(self, lane: int, piece: int, worker: int) -> Place:
        copy = self._copy(lane)
        return Place(copy.replica, copy.slot, self.resources.step + piece, lane)

    def after_piece(self, lane: int, piece: int) -> tuple[float, int]:
        copy = self._copy(lane)
        norm = copy.update.apply(copy.slot, copy.t + 1)
        made = int(self.resources.optimizer.clip_norm is None or isfinite(norm))
        copy.t += made
        return norm, made

    def after_group(self, parts: list[Outcome], held: uninterrupted) -> list[Outcome]:
        """The mean of the copies, and what came of each lane: of all ranks', where there are some."""
        if self.resources.ranks is None:
            self.mean = mean([copy.all for copy in self.copies], parts)
            return parts
        from tinydl.parallel.execution.shared_groups import exchange_round
        own = parts if len(parts) == len(self.own) else [parts[i] for i in self.own]    # the Python driver gives every lane's
        self.mean = mean([copy.all for copy in self.copies], own) if own else None
        vector, weight = self.mean or (self.copies[0].all, 0.0)
        before = self.resources.ranks.seconds
        weight, parts = exchange_round(self.resources, self.epoch, self.n_pieces, vector, weight, own, held)
        self.waited = self.resources.ranks.seconds - before
        self.mean = (vector, weight) if weight else None
        return parts

    def end(self, parts: list[Outcome]) -> Outcome:
        resources, outcome = self.resources, Outcome.join(parts)
        resources.ledger.stats.waited += self.waited
        failures = [f for part in parts for f in (*part.failures, *part.fatal)]
        if len(failures) > resources.most_failures(self.epoch, 1):
            return Outcome(fatal=failures)
        if self.mean is not None:
            vector, _ = self.mean
            for shared, span in zip(shared_vectors(resources), self.copies[0].spans, strict=True):
                shared[...] = vector[span]
            resources.state.t += max(part.updates for part in parts)
        resources.step += outcome.batches
        return outcome


class Local(Strategy):
    """`n_models` copies of the parameters (default: the thread count) each take `sync_every` serial updates on batches
    of their own; then the copies are averaged by their samples (or the weights of these), and all go on from there (Stich 2019).

    average_state: the optimizer's state is averaged too; else it begins anew each round. The optimizer counts the
    updates of one copy. With n_models fixed, the result has the same bits for any thread count. The parameters that
    a callback sees, or Ctrl-C leaves, are those of the last averaging. A copy costs parameters, state and workspace.

    Several ranks (`Trainer(ranks=...)`, with n_models fixed) share the copies, to the same bits: each trains those of its share,
    and a round is one exchange, of a copy's parameters, statistics and state, whatever sync_every is.
    """

    name = "local"
    updates = Averaging

    @_hints.arguments
    def __init__(self, sync_every: int = 16, n_models: int | None = None, average_state: bool = True) -> None:
        self.sync_every: int = check_count("sync_every", sync_every, 2**31) or 16
        self.n_models: int | None = check_count("n_models", n_models)
        self.average_state = average_state

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, 1

    def copies(self, n_threads: int) -> int:
        return self.n_models or n_threads

    def update_signature(self, setting: Setting) -> list[int] | None:
        several = [int(setting.copies), self.sync_every, int(self.average_state)] if setting.copies > 1 else []
        return [1, 1, *several]

    def prepare(self, resources: Resources, setting: Setting) -> None:
        if type(resources.optimizer).step is not Optimizer.step:
            raise ValueError(f"strategy local moves each copy by the rule {resources.optimizer.rule!r}, and "
                             f"{type(resources.optimizer).__name__} has a step of its own: use another strategy")
        if resources.plan.by_step:
            raise ValueError("a Dropout by a schedule goes by the number of the update, and in strategy local each copy of the "
                             "model makes its own: use another strategy, or a number for p")
        resources.rule(1)      # ValueError where its numbers need other state vectors than there are
        resources.ledger.note(setting)
        resources.ledger.make_room(setting.n_threads)
        gather(resources, resources.own_copies(setting.copies))


class ModelCopy:
    """A copy of parameters, statistics and optimizer state, one after another in `all`, and a replica that trains it."""

    def __init__(self, resources: Resources) -> None:
        shared = shared_vectors(resources)
        starts = starts_of(v.size for v in shared)
        self.all = engine.aligned(starts[-1], resources.model.dtype)
        self.spans = [slice(at, at + v.size) for at, v in zip(starts[:-1], shared, strict=True)]
        params, statistics, *state = (self.all[s] for s in self.spans)
        self.state = [v for name, v in zip(resources.state.vectors, state, strict=True) if name != "ema"]     # averaged ones stay
        self.update = engine.Update(resources.optimizer.rule, params, dict(zip(resources.state.vectors, state, strict=True)),
                                    statistics, resources.model.momenta)
        self.replica = Replica(resources.model, resources.loss, resources.max_rows, plan=resources.plan, params=params,
                               statistics=statistics)
        self.slot = self.replica.gradient_vector()
        self.t = 0                      # updates made so far, with the shared ones before it

    def take_shared(self, resources: Resources, keep_state: bool) -> None:
        """Copy the shared values into this copy. keep_state: the optimizer's state too; else it begins at zero."""
        for span, shared in zip(self.spans, shared_vectors(resources), strict=True):
            self.all[span] = shared
        if not keep_state:
            for vector in self.state:
                vector[...] = 0
        self.t = resources.state.t


def gather(resources: Resources, own: range) -> list[ModelCopy]:
    """The copies that are trained here; those that are missing are made. At least one, for the mean of the other ranks'."""
    k = max(1, len(own))
    copies: list[ModelCopy] = resources.model_copies
    del copies[k:]
    while len(copies) < k:
        copies.append(ModelCopy(resources))
    return copies


def shared_vectors(resources: Resources) -> list[Array]:
    """Parameters, statistics, and the optimizer's state."""
    return [resources.model.params, resources.model.statistics, *resources.state.vectors.values()]


def length(resources: Resources) -> int:
    """Numbers of a copy's vector."""
    return starts_of(v.size for v in shared_vectors(resources))[-1]
