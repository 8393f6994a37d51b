"""Ranks without MPI: threads of this process, and the few calls of a communicator that tinydl makes."""
import threading
import time
from collections import defaultdict, deque

import numpy as np

from tinydl.parallel.ranks import Ranks

SECONDS = 20


class Request:
    def __init__(self, test):
        self.Test = test


class Communicator:
    """Of rank number `rank` of those that share `boxes`: what was sent, by (from, to, tag), and not yet received."""

    def __init__(self, rank, size, boxes):
        self.rank, self.size, self.boxes = rank, size, boxes

    def Get_rank(self):
        return self.rank

    def Get_size(self):
        return self.size

    def Isend(self, array, dest, tag):
        self.boxes[self.rank, dest, tag].append(np.array(array).view(np.uint8))
        return Request(lambda: True)

    def Irecv(self, array, source, tag):
        def test():
            if not array.size:
                pass
            if not (box := self.boxes[source, self.rank, tag]):
                return False
            message = box.popleft()
            array.view(np.uint8)[:message.size] = message
            return True
        done = []
        return Request(lambda: bool(done) or (test() and not done.append(1)))

    def Recv(self, array, source, tag):
        assert self.Irecv(array, source, tag).Test()

    def Iprobe(self, source, tag):
        return bool(self.boxes[source, self.rank, tag])


def communicators(size):
    boxes = defaultdict(deque)
    return [Communicator(i, size, boxes) for i in range(size)]


def on_ranks(size, call, timeout=SECONDS):
    """[call(ranks)], each in a thread of its own with the Ranks of its number; an exception stands in its place."""
    comms, out = communicators(size), [None] * size

    def run(i):
        try:
            out[i] = call(Ranks(comms[i], timeout))
        except BaseException as e:
            out[i] = e
    threads = [threading.Thread(target=run, args=(i,)) for i in range(size)]
    for thread in threads:
        thread.start()
    until = time.monotonic() + 3 * SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
        assert not thread.is_alive()
    return out


def results(size, call, timeout=SECONDS):
    """As `on_ranks`; the first exception is raised."""
    out = on_ranks(size, call, timeout)
    for found in out:
        if isinstance(found, BaseException):
            raise found
    return out
