"""Resources: what a trainer makes its updates with: replicas, gradient slots, copies of the model, the optimizer's state.

What was done with them is in its `ledger` (ledger.py). Two drivers run an epoch with it. Both make the same groups, use the same
slots and average them in the same tree, so they give the same bits:
 - native_driver.py: workers stay in native code over many groups. For data in arrays and optimizers with a native rule.
 - python_driver.py: one task a piece, for everything that wants Python between batches.
How pieces of batches become updates is in updates.py, what is done about workers that die or hang in hung.py, and what is done
about failures in epoch.py (FailurePolicy). If an epoch ends early (by an exception, a stop, a change of threads), its
EpochProgress says how many batches are done, and parameters and optimizer are as of the last finished update.
"""
from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from tinydl._kernels import engine
from tinydl.data import ArrayDataset, Dataset, SequenceDataset
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.parallel.errors import GaveUpError
from tinydl.parallel.execution.epoch import EpochProgress, FailurePolicy, Setting
from tinydl.parallel.execution.ledger import Ledger
from tinydl.parallel.execution.replica import Replica
from tinydl.parallel.host.threads import usable_cpus

if TYPE_CHECKING:
    from tinydl.parallel.ranks import Ranks

Array = np.ndarray[Any, Any]

__all__ = ["Resources"]


class Resources:
    """For a model, a loss and an optimizer. One thread at a time trains with it; `ask` and `cancel` are for any thread."""

    def __init__(self, model: Model, loss: Loss, optimizer: Optimizer, max_rows: int, seed: int,
                 policy: FailurePolicy | None = None, pin_threads: bool = False,
                 input_shape: tuple[int, ...] | None = None, weighted: tuple[int, ...] | None = None,
                 padded: tuple[int, ...] = (), ranks: Ranks | None = None) -> None:
        self.model, self.loss, self.optimizer, self.max_rows, self.seed = model, loss, optimizer, max_rows, seed
        self.policy, self.pin_threads = policy or FailurePolicy(), pin_threads
        self.ranks = ranks              # the processes with which this one shares the batches of each update
        usable_cpus()                   # the first call reads files for about a millisecond: better now than in a run
        self.plan = model.plan(input_shape, max_rows, loss=loss, weighted=weighted, padded=padded)
        self.state = optimizer.state_for(model.params, model.statistics, model.momenta, model.sizes())    # of this run alone
        self.replicas: list[Replica] = []
        self.slots: list[Array] = []
        self.step = 0                   # groups dispatched so far: the key of random masks
        self.ledger = Ledger(self.policy, quiet=ranks is not None and ranks.rank > 0)
        self.hung_workers = 0           # put aside so far for what batch_timeout found
        self.give_up_at: float | None = None    # monotonic() at which the time of a shutdown is over
        self.sources: list[engine.Source] = []      # the native driver's inputs and targets
        self.must_finish = False        # what the native driver runs now must not be paused before its end
        self.alone: Array = np.zeros(engine.ALONE, np.int64)    # see engine.NativeRun: when one worker goes on alone
        self.asked = False              # somebody wants the run to end after the update under way
        self.renew_locks()
        self.reading: Any = None        # the iterator that batches come from, while an epoch runs
        self.model_copies: list[Any] = []       # of strategy local

    def renew_locks(self) -> None:
        """For `workers.fork`."""
        self.step_lock = threading.Lock()       # of the Python driver: one worker at a time says what it did
        self._asking = threading.RLock()        # also in the handler of a signal
        self.ledger.renew_locks()

    def take_up(self) -> None:
        """Forget the cancellation and the deadline that ended the last run."""
        self.give_up_at = None
        if self.ranks is not None:
            self.ranks.renew()
        for replica in self.every_replica():
            replica.native.cancel(False)

    def ask(self) -> None:
        """Ask the run to end after the update under way (strategy local: its round); from any thread. The trainer calls
        `take_back` before it looks at what is wanted next."""
        with self._asking:
            self.asked = True
            for run in self.ledger.running:
                if not self.must_finish:
                    run.pause()

    def take_back(self) -> None:
        """Withdraw `ask`, so that the next run is not ended by what was asked of the last one."""
        with self._asking:
            self.asked = False

    def cancel(self) -> None:
        """End the run at the next operation of each worker, and the wait for a batch; from any thread. Call it only after
        `give_up_at`: every result, and every new run, checks `give_up_at` first (`check_deadline`), so nothing of a
        cancelled run is counted."""
        for replica in self.every_replica():
            replica.native.cancel()
        if hasattr(self.reading, "cancel"):
            self.reading.cancel(GaveUpError("no batch came in time"))
        if self.ranks is not None:
            self.ranks.cancel()

    def every_replica(self) -> list[Replica]:
        """Those of workers, and those of copies."""
        return [*self.replicas, *(c.replica for c in self.model_copies)]

    def own_copies(self, k: int) -> range:
        """Which of k copies of the model are trained here: all, or those of this rank's share."""
        return range(k) if self.ranks is None else self.ranks.share(k, k)

    def forget_workers(self) -> None:
        """In a forked child, which has none of the workers: drop what they were using."""
        self.drop()
        self.ledger.running, self.reading = [], None
        self.ledger.make_room(0)

    def drop(self, used: list[engine.Replica] | None = None) -> None:
        """Forget the replicas that are still `used` by workers which were put aside (None: all of them), all slots and all
        copies: the next run makes new ones."""
        self.replicas = [] if used is None else [r for r in self.replicas if r.native not in used]
        self.slots, self.model_copies = [], []

    def prepare(self, setting: Setting) -> None:
        """Make the replicas and slots that `setting` needs, and free those that it neither needs nor keeps."""
        n = setting.n_threads if setting.mode == "parallel" else 1
        k = setting.n_slots
        del self.replicas[max(n, setting.keep):], self.slots[max(k, setting.keep):]
        while len(self.replicas) < n:
            self.replicas.append(self.new_replica(own_layers=bool(self.replicas) or self.hung_workers > 0))
        while len(self.slots) < k:
            self.slots.append(self.replicas[0].gradient_vector())
        self.ledger.make_room(n)
        self.ledger.note(setting)

    def new_replica(self, own_layers: bool = True) -> Replica:
        return Replica(self.model, self.loss, self.max_rows, plan=self.plan, own_layers=own_layers)

    def takes_arrays(self, dataset: Dataset) -> TypeGuard[ArrayDataset | SequenceDataset]:
        """Whether the native driver can train on `dataset`. If not, the Python driver takes its batches one by one."""
        return type(dataset) in (ArrayDataset, SequenceDataset) and type(self.optimizer).step is Optimizer.step

    def rule(self, updates: int) -> engine.Update:
        """The optimizer's rule on this run's parameters and state, with the numbers of the next `updates` updates."""
        return self.optimizer.native(self.state, updates)

    def apply(self, gradients: Array) -> float:
        """Make one update from averaged gradients, which are used up. The Python driver calls this. Returns their norm, as
        Optimizer.apply does."""
        if type(self.optimizer).step is Optimizer.step:
            return self.optimizer.apply(self.state, np.ascontiguousarray(gradients))
        if self.optimizer.state is not self.state.vectors:
            raise RuntimeError(f"another trainer has taken {self.optimizer!r}, whose own `step` moves the parameters held last: "
                               "give each trainer an optimizer of its own")
        return self._own_step(gradients)

    def _own_step(self, gradients: Array) -> float:
        """An update by the optimizer's own `step`. Returns the gradient's norm, where that calls Optimizer.step, else NaN."""
        options, before = self.optimizer.options_config(), None
        if options and self.state.norm is None:
            before = self.model.params.copy(), self.state.t
        self.optimizer.step(gradients)
        if before is not None and self.state.norm is None:
            self.model.params[...], self.state.t = before
            raise ValueError(f"{type(self.optimizer).__name__} has a step of its own, which does not call Optimizer.step, so "
                             f"nobody looks at {', '.join(options)}: let it call super().step(gradients), or leave these out")
        return float("nan") if self.state.norm is None else self.state.norm

    def set_data(self, dataset: Dataset, seed: int | None = None, epoch: int = 0) -> None:
        """Set what the native driver trains on, if it is to train on `dataset`; augmented for the epoch (seed, epoch)."""
        if not self.takes_arrays(dataset):
            return
        xs, ys = self.model.sources(dataset.inputs), self.loss.sources(dataset.all_y)
        prepared = dataset.prepared(seed, epoch) if isinstance(dataset, ArrayDataset) else None
        self.sources = [*(map(engine.Source, (*xs, *ys)) if prepared is None else prepared.sources(xs, ys)),
                        *map(engine.Source, dataset.all_weights)]

    def most_pieces(self, parts: int) -> int:
        """How many parts a batch is really cut into if `parts` are asked for: each must have enough rows."""
        return max(1, min(parts, self.max_rows // self.plan.least_rows))

    def most_failures(self, epoch: EpochProgress, parts: int) -> int:
        """How many more pieces may fail in this epoch before training ends."""
        return self.ledger.most_failures(epoch, self.most_pieces(parts))

    def check_deadline(self) -> None:
        """GaveUpError if the time of a shutdown is over."""
        if self.give_up_at is not None and time.monotonic() >= self.give_up_at:
            raise GaveUpError("the workers did not come back in time")
