"""Messages between ranks, and how long a rank waits for them.

Guarantees:
 - Nothing waits for ever, and nothing waits inside MPI: after `timeout` seconds RankError names the ranks that did not come.
 - Who gives up tells all others, who then raise RankError with the same text as soon as they look, in whatever wait they are.
 - A waiting rank looks for a tenth of a millisecond, then sleeps: at first for microseconds, then longer, up to 1 ms.
One thread at a time may call what is here, but for `cancel`.
"""
from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from tinydl.parallel.errors import RankError

Array = np.ndarray[Any, Any]
Requests = list[tuple[int, Any]]        # the other rank, and MPI's request

#: tags of messages
HEAD, UPDATE, RESULT, SIZE, VALUE, GAVE_UP = range(1, 7)

#: seconds that a waiting rank sleeps at most between two looks; at first it is an eighth of the time that it has waited
LONGEST = 1e-3
#: seconds for which it only looks before: few, since a rank of the same machine may need the CPU to answer (30 updates of W2 by 2
#: ranks on 2 busy cores took 87 ms without, 84 with 0.1 ms, 91 with 0.3, 125 with 1 ms)
SPIN = 1e-4
#: bytes of the message that somebody gives up: so few that MPIs deliver it though the sender calls nothing of MPI any more
ROOM = 1024


class Messages:
    """Of the ranks of an MPI communicator (mpi4py's, or what has its Get_rank, Get_size, Isend, Irecv, Recv and Iprobe)."""

    def __init__(self, comm: Any, timeout: float) -> None:
        if not 0 < timeout < float("inf"):
            raise ValueError(f"rank_timeout={timeout}: seconds, more than 0")
        self.comm, self.timeout = comm, float(timeout)
        self.rank, self.size = int(comm.Get_rank()), int(comm.Get_size())
        #: in an order that is another one for each rank, so that not all send to the same one at the same time
        self.others = [(self.rank + i) % self.size for i in range(1, self.size)]
        self.hosts: list[str] = []
        self.spin = SPIN            # 0 where the ranks of a machine are more than its CPUs
        self.cancelled = False
        self.error: RankError | None = None     # that ended the training of all

    def name(self, rank: int) -> str:
        """For people."""
        return f"rank {rank} on {self.hosts[rank]}" if self.hosts else f"rank {rank}"

    def wait(self, requests: Requests, what: str) -> None:
        """Until all are done. what: the ranks were to come to, for the message."""
        since = time.monotonic()
        while requests := [(rank, r) for rank, r in requests if not self._done(rank, r, what)]:
            waited = time.monotonic() - since
            if waited < self.spin:
                continue
            self.look()
            if waited > self.timeout:
                self.give_up(*self.missing(sorted({rank for rank, _ in requests}), what))
            time.sleep(min(LONGEST, waited / 8))

    def _done(self, rank: int, request: Any, what: str) -> bool:
        try:
            return bool(request.Test())
        except Exception as e:      # a killed process of the same machine, whose memory MPICH was about to read
            reason = str(e).splitlines()[-1]
            self.give_up(f"{self.name(rank)} is gone: MPI could not finish {what} with it ({reason})", rank, True)
            raise

    def missing(self, ranks: Sequence[int], what: str) -> tuple[str, int, bool]:
        names = " and ".join(map(self.name, ranks))
        return (f"{names} did not come to {what} within rank_timeout={self.timeout:g} s: gone, hung or slow (seen by rank "
                f"{self.rank})"), ranks[0], True

    def look(self) -> None:
        """RankError where somebody has given up, ConnectionError where this rank's training is to end."""
        if self.error is not None:
            raise self.error
        if self.cancelled:
            raise ConnectionError("training ends: the other ranks are not waited for")
        import json
        for rank in self.others:
            if self.comm.Iprobe(source=rank, tag=GAVE_UP):
                room = np.zeros(ROOM, np.uint8)
                self.comm.Recv(room, source=rank, tag=GAVE_UP)
                told = json.loads(room.tobytes().rstrip(b"\0"))
                self.error = RankError(told["text"], told["rank"], told["gone"])
                raise self.error

    def tell(self, text: str, rank: int, gone: bool) -> None:
        """Tell all others that this training is over."""
        import json
        while len(told := json.dumps({"rank": rank, "gone": gone, "text": text}).encode()) > ROOM:
            text = text[:len(text) // 2]
        room = np.zeros(ROOM, np.uint8)
        room[:len(told)] = np.frombuffer(told, np.uint8)
        self._told = room, [self.comm.Isend(room, dest=other, tag=GAVE_UP) for other in self.others]    # kept until the end

    def give_up(self, text: str, rank: int, gone: bool = False) -> None:
        """Tell all others, and raise RankError."""
        with suppress(Exception):       # of who is gone
            self.tell(text, rank, gone)
        self.error = RankError(text, rank, gone)
        raise self.error

    def swap(self, what: str, value: Any) -> list[Any]:
        """What each rank gives, by JSON; all must be at the same point of their programs, `what`."""
        import json
        mine = np.frombuffer(json.dumps([what, value]).encode(), np.uint8)
        sizes, length = np.zeros(self.size, np.int64), np.array([mine.size])
        requests = [(r, self.comm.Irecv(sizes[r:r + 1], source=r, tag=SIZE)) for r in self.others]
        requests += [(r, self.comm.Isend(length, dest=r, tag=SIZE)) for r in self.others]
        requests += [(r, self.comm.Isend(mine, dest=r, tag=VALUE)) for r in self.others]
        self.wait(requests, what)
        values = {r: np.zeros(sizes[r], np.uint8) for r in self.others}
        self.wait([(r, self.comm.Irecv(values[r], source=r, tag=VALUE)) for r in self.others], what)
        values[self.rank] = mine
        out = [json.loads(values[r].tobytes()) for r in range(self.size)]
        self.agree([place for place, _ in out], "at {!r}")
        return [value for _, value in out]

    def agree(self, places: Iterable[Any], form: str) -> None:
        """RankError on all ranks, where not all are at the same place."""
        places = list(places)
        other = next((r for r, place in enumerate(places) if place != places[0]), None)
        if other is not None:
            self.error = RankError(f"{self.name(other)} is {form.format(places[other])} and rank 0 {form.format(places[0])}: all "
                                   "ranks must make the same calls, in the same order", other)
            raise self.error
