"""Parallel training: threads that share one set of parameters and meet once an update.

How a group of batches becomes one update:

    batches of the group      worker threads (pool.py)         aggregator.py           optim/
    batch 0 --------------->  replica 0: forward, backward --> slot 0 \\
    batch 1 --------------->  replica 1: forward, backward --> slot 1  > fixed tree --> one update of the
    ...                                                        ...    /  of means       shared parameters

Guarantees, each with tests that fail when it is broken: in tests/test_parallel_guarantees.py, and in those named here.
 - Mathematics: an update equals, up to rounding, one serial update on the union of the group's samples, also
   for unequal batches and after failures; with one thread and one batch an update it equals serial training
   bit for bit (test_strategies).
 - Reproducible: for fixed seed, data and batches_per_update, the same bits for any number of threads (test_strategies,
   test_drivers, test_late_products), and after a resume (test_checkpoint).
 - Accounted: dispatched = done + retried + skipped + failed after every update, and each failure names its samples;
   a group of which nothing arrived makes no update (test_failures); no failure keeps its data alive (test_kept_failures).
 - Bounded: every wait has a deadline; `shutdown(timeout)`, from any thread, returns in time and says whether all ended; a
   batch that hangs is given up after `batch_timeout` and its worker replaced (test_hung_workers, test_processes,
   test_shutdown).
 - Prompt: a stop, and another thread count from whichever thread, hold from the next update on, and no batch is lost or
   repeated (test_reconfigured); statistics add up whenever they are asked for (test_strategies).
 - Interruptible: Ctrl-C at any moment ends `train` within half a second, with parameters and optimizer as of the last
   update; the next `train` goes on from there, to the same bits (test_signals, test_callbacks).
 - No surprise: where parallel training cannot run, one warning says why and what runs instead (test_limits).

Rooms:
    runtime      configuration, one call at a time, the pool of threads, shutdown
    strategies/  how batches become updates: one small file each
    execution/   how they run: the native and the Python driver, updates (when they are made; shared_groups: of which other
                 ranks run a part), resources (replicas, slots),
                 epoch (how far it is, and what is done about failures), ledger (counts), hung (workers that hang or die),
                 replica, aggregator (the average), processor (one batch), profile, stats
    workers/     threads that run tasks (pool), Ctrl-C and SIGTERM at the wrong moment (signals), fork at any moment
    host/        what the machine gives: threads (how many), memory, affinity, blas
    ranks/       the same over several processes and machines, by MPI: which batches each runs, and what they exchange
    statistics   of averaged parameters, by the data
    errors       what is raised, and what is kept of a batch that failed
"""
from tinydl.parallel.errors import (
    AggregationTimeoutError,
    BatchFailure,
    BatchTimeoutError,
    NothingArrivedError,
    ParallelFallbackWarning,
    RankError,
    RanksDifferError,
    TrainingError,
    WorkerDiedError,
)
from tinydl.parallel.execution.aggregator import GradientAggregator
from tinydl.parallel.execution.processor import BatchProcessResult, ParallelBatchProcessor
from tinydl.parallel.execution.profile import Profile
from tinydl.parallel.execution.replica import Replica, apply_aggregated_gradients, deep_copy_model, is_model_parallelizable
from tinydl.parallel.execution.stats import ParallelStats, WorkerState, format_parallel_stats
from tinydl.parallel.host.memory import MemoryReport, available_memory
from tinydl.parallel.host.threads import container_cpu_quota, recommended_thread_count, usable_cpus
from tinydl.parallel.workers.pool import WorkerPool

__all__ = [
    "AggregationTimeoutError", "BatchFailure", "BatchProcessResult", "BatchTimeoutError", "GradientAggregator",
    "MemoryReport", "NothingArrivedError", "ParallelBatchProcessor", "ParallelFallbackWarning", "ParallelStats",
    "Profile", "RankError", "RanksDifferError", "Replica", "TrainingError", "WorkerDiedError", "WorkerPool", "WorkerState",
    "apply_aggregated_gradients", "available_memory", "container_cpu_quota", "deep_copy_model",
    "format_parallel_stats", "is_model_parallelizable", "recommended_thread_count", "usable_cpus",
]
