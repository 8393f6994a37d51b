"""Ranks: one training by several processes, on one machine or many, that MPI has started (`mpiexec -n 4 python train.py`).

    share.py      which batches of an update, or copies of strategy local, a rank runs
    messages.py   what ranks send each other, and how long they wait: MPI's Isend, Irecv, Test and Iprobe
    ranks.py      Ranks: the exchange of an update, the beginning and the end of a training
    describe.py   what has to be the same on all ranks, as numbers that can be compared
    leave.py      how a process ends when another one is gone

Every rank has the whole dataset's order, the same parameters, and makes the same updates. Of the k batches of an update it runs
those of its share, an aligned power of two, so the mean of their gradients is a node of the tree that one process would make
of all k (execution/aggregator.py). The nodes are exchanged:

    1. rank i sends rank j the j-th slice of its node's vector, and what came of each of its batches (loss, weight, whether it
       failed);
    2. rank j makes the upper part of the tree of the slices that it has, and sends the result to all.

So each rank sends and receives 2 (n - 1) / n times the vector in an update, whatever the number of ranks n. Vectors of so few
bytes that waiting takes longer (ranks.SMALL) are sent whole, and step 2 is each rank's own. An allreduce of MPI sends as much,
but adds in an order that depends on the library, on n and on the length. Since all ranks know what came of all batches, all
decide the same on failures, and have the same history and the same checkpoint, which is the one that one process would have
written: it can be resumed by any number of ranks, with the same bits. Where training is broken off, ranks may be one update
apart; the checkpoint is as of the last one of the rank that writes it.

In strategy local ranks share the copies of the model, by the same rule: the batches of a copy's lane are run by the rank that has
the copy. At the end of a round the nodes are means of copies (parameters, statistics, optimizer state in one vector), and between
steps 1 and 2 each rank tells the others in JSON what came of its lanes: how many batches these have is not fixed, so it does not
fit in front of the vector.

Known costs. With shares that are powers of two, the longest is up to twice the shortest possible one (k = 6 on 2 ranks: 4 and 2);
k = n, 2 n, 4 n, ... batches an update are even on n ranks. Each rank has a buffer as long as the vector, and
reads all batches of a StreamDataset, which cannot be skipped. Each rank validates, and runs all callbacks, by itself: that takes
as long as in one process. An exchange takes about 0.05 (n - 1) ms + 2 (n - 1) / n bytes / bandwidth: 0.04 to 0.1 ms for 4 KB
and 1.7 to 3.1 ms for 10 MB between 2 ranks of one machine (bench/ranks.py), and, by this formula and not measured, for 10 MB
over 10 Gbit/s 14, 19 and 42 ms on 8, 64 and 512 ranks, over 100 Gbit/s 2, 5 and 27.

Between ranks of one machine MPI copies what shared memory would let them read. That would save some 0.1 ms of 0.4 MB, but its
windows are made by calls that wait inside MPI, for ever where a rank is gone, and on one machine there are threads.

Waiting never blocks in MPI: a rank looks (Test) whether messages have come, for 0.1 ms without a pause (messages.SPIN), then with
sleeps in between, up to 1 ms at a time, so it needs 3 percent of a CPU. Whoever does not come within rank_timeout after this
rank did is taken for gone, also if it is only slow: there is no other sign of life, since one that computes nothing for so long
is what one wants to hear of.
MPI is called by one thread at a time (thread level SERIALIZED).
"""
from tinydl.parallel.ranks.ranks import Ranks, Results, join
from tinydl.parallel.ranks.share import share, shares

__all__ = ["Ranks", "Results", "join", "share", "shares"]
