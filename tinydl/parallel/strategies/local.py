"""local: workers train parameters of their own and average them now and then."""
from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from tinydl._kernels import engine
from tinydl.optim import Optimizer
from tinydl.parallel import native_driver, python_driver
from tinydl.parallel.aggregator import GradientAggregator
from tinydl.parallel.errors import BatchFailure
from tinydl.parallel.memory import starts_of
from tinydl.parallel.pool import Task
from tinydl.parallel.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.replica import Replica
from tinydl.parallel.signals import uninterrupted
from tinydl.parallel.strategies.base import Array, Strategy, Tick, check_count

if TYPE_CHECKING:
    import numpy.typing as npt

    from tinydl.data import Batch, LazyBatch
    from tinydl.parallel.crew import Crew
    from tinydl.parallel.job import Job, Setting
    from tinydl.parallel.pool import WorkerPool


class Local(Strategy):
    """`n_models` copies of the parameters (default: the thread count) each take `sync_every` serial updates on batches
    of their own; then the copies are averaged by their samples (or the weights of these), and all go on from there (Stich 2019).

    average_state: the optimizer's state is averaged too; else it begins anew each round. The optimizer counts the
    updates of one copy. With n_models fixed, the result has the same bits for any thread count. The parameters that
    a callback sees, or Ctrl-C leaves, are those of the last averaging. A copy costs parameters, state and workspace.
    """

    name = "local"

    def __init__(self, sync_every: int = 16, n_models: int | None = None, average_state: bool = True) -> None:
        self.sync_every = check_count("sync_every", sync_every, 2**31) or 16
        self.n_models, self.average_state = check_count("n_models", n_models), average_state

    def cut(self, n_threads: int) -> tuple[int, int]:
        return 1, 1

    def copies(self, n_threads: int) -> int:
        return self.n_models or n_threads

    def recipe(self, setting: Setting) -> list[int] | None:
        several = [int(setting.copies), self.sync_every, int(self.average_state)] if setting.copies > 1 else []
        return [1, 1, *several]

    def prepare(self, crew: Crew, setting: Setting) -> None:
        if type(crew.optimizer).step is not Optimizer.step:
            raise ValueError(f"strategy local moves each copy by the rule {crew.optimizer.rule!r}, and "
                             f"{type(crew.optimizer).__name__} has a step of its own: use another strategy")
        crew.rule(1)      # ValueError where its numbers need other state vectors than there are
        crew.note(setting)
        self._gather(crew, setting.copies)

    def run_arrays(self, crew: Crew, job: Job, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None,
                   tick: Tick, max_updates: int | None = None) -> None:
        crew.note(setting)
        asked = False

        def note(job: Job, samples: int) -> bool:
            nonlocal asked
            asked = tick(job, samples) or asked
            return asked
        while job.batches_done < len(bounds) - 1 and not asked and (max_updates is None or max_updates > 0):
            n = min(len(bounds) - 1 - job.batches_done, setting.copies * self.sync_every)
            with uninterrupted() as held:
                self._round(crew, job, order, bounds[job.batches_done:job.batches_done + n + 1], setting, pool, note, held)
            note(job, job.samples)
            max_updates = None if max_updates is None else max_updates - self.sync_every

    def _round(self, crew: Crew, job: Job, order: Array, bounds: Array, setting: Setting, pool: WorkerPool | None,
               tick: Tick, held: uninterrupted) -> None:
        k, n, most = setting.copies, len(bounds) - 1, crew.most_failures(job, 1)
        cuts = [n * j // k for j in range(k + 1)]
        team, stretches = self._gather(crew, k), []
        for member, lo, hi in zip(team, cuts[:-1], cuts[1:], strict=True):
            given_up = {b - lo: job.hung[int(bounds[b]), int(bounds[b + 1])] for b in range(lo, hi)
                        if (int(bounds[b]), int(bounds[b + 1])) in job.hung} if job.hung else None
            member.begin(crew, self.average_state, hi - lo)
            stretches.append(engine.Stretch([member.replica.native], [member.slot], crew.sources, order, bounds[lo:hi + 1],
                                            member.update, t=crew.state.t, first_step=crew.step + lo, seed=crew.seed,
                                            max_retries=crew.policy.retries, max_failed=most, given_up=given_up))
        try:
            came = native_driver.drive(crew, job, [s for s in stretches if s.n_batches], pool, tick, held, whole=True)
        except BaseException:
            with crew.booking():
                crew.team = []      # a worker may still hold one
            raise
        with crew.booking():
            if came:
                self._book(crew, job, order, bounds, team, stretches, cuts, most)
            else:                   # the round is run again without the batch that hung
                crew.team = []

    def _book(self, crew: Crew, job: Job, order: Array, bounds: Array, team: list[Member], stretches: list[engine.Stretch],
              cuts: list[int], most: int) -> None:
        """Count what the stretches of a round did, and average the copies. Copy j ran batches cuts[j] to cuts[j + 1] - 1."""
        sizes = np.diff(bounds)
        results, failures = [], []
        for j, (stretch, lo) in enumerate(zip(stretches, cuts, strict=False)):
            done = stretch.next_group + bool(stretch.fatal)
            arrived = stretch.statuses[:done] == engine.OK
            own = sizes[lo:lo + done]
            failures += [BatchFailure(job.epoch, job.batches_done + lo + int(b), int(own[b]), j, stretch.errors[int(b)],
                                      order[bounds[lo + b]:bounds[lo + b + 1]]) for b in np.flatnonzero(~arrived)]
            weights = stretch.weights[:done][arrived]
            results.append((int(own[arrived].sum()), (stretch.losses[:done][arrived] * weights).tolist(), weights.tolist(),
                            int(arrived.sum()), int((stretch.attempts[:done][arrived] > 1).sum()),
                            stretch.updates - crew.state.t, done))
        norms = [s.norms[:r[5]] for s, r in zip(stretches, results, strict=True)]
        self._end_round(crew, job, team, len(sizes), most, results, failures, norms)

    def run_batches(self, crew: Crew, job: Job, batches: Iterator[Batch | LazyBatch], setting: Setting,
                    pool: WorkerPool | None, tick: Tick, max_updates: int | None = None) -> bool:
        crew.note(setting)
        k = setting.copies
        while max_updates is None or max_updates > 0:
            group, end = python_driver.next_batches(batches, k * self.sync_every)
            if group:
                started = time.perf_counter()
                with uninterrupted() as held:
                    while not self._round_of_batches(crew, job, group, k, pool, held):
                        pass
                job.seconds += time.perf_counter() - started
            max_updates = None if max_updates is None else max_updates - self.sync_every
            if end is not None:
                crew.book_end(job, end, 1)
                return True
            if tick(job, job.samples):
                return False
        return False

    def _round_of_batches(self, crew: Crew, job: Job, group: list[Batch | LazyBatch], k: int,
                          pool: WorkerPool | None, held: uninterrupted) -> bool:
        """Run one round. False if it is to be run again, because a worker died or a batch hung; that batch is left out then."""
        n, t, first = len(group), crew.state.t, job.batches_done
        cuts = [n * j // k for j in range(k + 1)]
        most = crew.most_failures(job, 1)
        team = self._gather(crew, k)
        outcomes: list[list[BatchProcessResult]] = [[] for _ in team]
        norms: list[list[float]] = [[] for _ in team]

        def run(j: int, worker: int) -> None:
            member, updates = team[j], 0
            for b in range(cuts[j], cuts[j + 1]):
                batch = group[b]
                key = (first + b, 0, 1)
                if key in job.hung:
                    outcomes[j].append(BatchProcessResult(j, batch.index, float("nan"), batch.n, False, job.hung[key]))
                    continue
                aggregator = GradientAggregator(1)
                since = crew.enter_batch(worker, b, member.replica)
                result = ParallelBatchProcessor(batch, crew.model, crew.loss, aggregator, j, slot=0, replica=member.replica,
                                                gradients=member.slot, seed=crew.seed, step=crew.step + b,
                                                max_retries=crew.policy.retries)()
                crew.leave_batch(worker, since)
                outcomes[j].append(result)
                if isinstance(result.exception, (KeyboardInterrupt, engine.CancelledError)):
                    return
                if result.success and result.weight > 0:
                    norm = member.update.apply(member.slot, t + updates + 1)
                    norms[j].append(norm)
                    updates += crew.optimizer.clip_norm is None or isfinite(norm)
        for member in team:
            member.begin(crew, self.average_state, max(1, n))
        crew.make_room(1 if pool is None else pool.n_threads)
        try:
            crew.check_deadline()
            if pool is None:
                with held.open():
                    for j in range(k):
                        run(j, 0)
            else:
                tasks = pool.submit_all(partial(run, j) for j in range(k))

                def give_up(task: Task, at: int) -> None:
                    number = first + at
                    job.hung[number, 0, 1] = crew.timeout_error(pool, task, f"batch {number}",
                                                                team[tasks.index(task)].replica.native.where())
                if not python_driver.wait_for(crew, tasks, pool, [m.replica for m in team], give_up, held):
                    crew.team = []
                    return False
            crew.check_deadline()
        except BaseException:
            crew.team = []
            raise
        for outcome in outcomes:
            for r in outcome:
                if isinstance(r.exception, KeyboardInterrupt):
                    raise r.exception
        failures = [BatchFailure(job.epoch, first + lo + i, r.n_samples, j, r.exception, group[lo + i].indices)
                    for j, (outcome, lo) in enumerate(zip(outcomes, cuts, strict=False)) for i, r in enumerate(outcome)
                    if r.exception is not None]
        results = []
        for outcome, some in zip(outcomes, norms, strict=True):
            good, made = [r for r in outcome if r.success], sum(crew.optimizer.clip_norm is None or isfinite(n) for n in some)
            results.append((sum(r.n_samples for r in good), [r.loss * r.weight for r in good], [r.weight for r in good],
                            len(good), sum(r.attempts > 1 for r in good), made, len(outcome)))
        self._end_round(crew, job, team, n, most, results, failures, norms)
        return True

    def _end_round(self, crew: Crew, job: Job, team: list[Member], n: int, most: int,
                   results: list[tuple[int, list[float], list[float], int, int, int, int]], failures: list[BatchFailure],
                   norms: Sequence[npt.ArrayLike]) -> None:
        """Average the copies and count the round. results: for each member, the samples that arrived, the losses of its
        batches (each times its weight), their weights, and how many batches arrived, were retried, made updates, and were
        tried."""
        if len(failures) > most:
            crew.stop_for(job, failures)
        samples = sum(r[0] for r in results)
        if any(any(r[2]) for r in results):
            mean = GradientAggregator(len(team))
            for j, (member, result) in enumerate(zip(team, results, strict=True)):
                if result[0]:
                    mean.submit_gradients(member.all, result[0], j, copy=False, weight=sum(result[2]))
                else:
                    mean.submit_failure(j)
            vector = np.asarray(mean.get_average_gradients(0, in_place=True))
            for shared, part in zip(shared_vectors(crew), team[0].spans, strict=True):
                shared[...] = vector[part]
            crew.state.t += max(r[5] for r in results)
        for some in norms:
            job.add_norms(some)
        job.samples += samples
        job.add_losses([loss for r in results for loss in r[1]], [weight for r in results for weight in r[2]])
        for j, result in enumerate(results):
            crew.stats.count_worker(j, result[6])
        crew.step += n
        crew.book(job, n, n, sum(r[3] for r in results), sum(r[4] for r in results), samples, sum(r[5] for r in results),
                  failures)

    def _gather(self, crew: Crew, k: int) -> list[Member]:
        """The crew's k members; those that are missing are made."""
        del crew.team[k:]
        while len(crew.team) < k:
            crew.team.append(Member(crew))
        return crew.team


class Member:
    """A copy of parameters, statistics and optimizer state, one after another in `all`, and a replica that trains it."""

    def __init__(self, crew: Crew) -> None:
        shared = shared_vectors(crew)
        starts = starts_of(v.size for v in shared)
        self.all = engine.aligned(starts[-1], crew.model.dtype)
        self.spans = [slice(at, at + v.size) for at, v in zip(starts[:-1], shared, strict=True)]
        params, statistics, *state = (self.all[s] for s in self.spans)
        self.state = [v for name, v in zip(crew.state.vectors, state, strict=True) if name != "ema"]     # averaged ones stay
        self.update = engine.Update(crew.optimizer.rule, params, dict(zip(crew.state.vectors, state, strict=True)),
                                    statistics, crew.model.momenta)
        self.replica = Replica(crew.model, crew.loss, crew.max_rows, plan=crew.plan, params=params, statistics=statistics)
        self.slot = self.replica.gradient_vector()

    def begin(self, crew: Crew, keep_state: bool, updates: int) -> None:
        """Copy the shared values into this member, for so many updates. keep_state: the optimizer's state too; else it begins
        at zero."""
        for span, shared in zip(self.spans, shared_vectors(crew), strict=True):
            self.all[span] = shared
        if not keep_state:
            for vector in self.state:
                vector[...] = 0
        crew.optimizer.set_numbers(self.update, crew.state, max(1, updates))


def shared_vectors(crew: Crew) -> list[Array]:
    """Parameters, statistics, and the optimizer's state."""
    return [crew.model.params, crew.model.statistics, *crew.state.vectors.values()]
