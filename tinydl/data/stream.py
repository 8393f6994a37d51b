"""StreamDataset: samples that come one after another, read ahead by a thread, never held all at once.

Guarantees:
1. The source is never more than prefetch + 2 batches ahead of what was trained on: `prefetch` wait, one is in the
   reader's hands and one in the trainer's (and the samples of a shuffle buffer).
2. An exception in the source comes out of the epoch in its place, after the full batches before it, and ends it. (In
   training it is a failed batch, and what is missing of n_batches then counts against max_failed_fraction.)
   Samples that do not fit together fail their own batch only, when it is loaded.
3. The reading thread ends when the epoch is over, closed or forgotten: at its next sample. Closing waits for that,
   GRACE seconds at most; a source that is stuck keeps its (daemonic) thread, and nobody else.
4. A child process forked in mid-epoch has no reading thread; its epoch raises instead of waiting for one.
5. Another thread may `cancel` an epoch: who waits for its next batch waits no more.
"""
from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.data.batch import Array, Batch, Dataset, LazyBatch, whole_number
from tinydl.data.checks import as_features, as_targets, as_weights, check_finite, check_shape, parts_of, stack, stack_weights
from tinydl.data.frames import as_array, column_names


class ReaderGoneError(RuntimeError):
    """A stream's reading thread is not there: the process was forked in mid-epoch."""


#: seconds: what closing waits for the reader, and how often the reader is looked after
GRACE = 0.2


class StreamDataset(Dataset):
    """source() gives a fresh iterator of samples (x, y), each time the same or not; it may be endless. (Here it is called
    twice, and nothing read, to see that it does.) For a model of several inputs, x is a dict by their names, and so is y for
    one of several outputs (not in chunks).

    weighted: it gives (x, y, weight) instead, what each sample counts, as ArrayDataset's sample_weight.
    chunks: the iterator gives (x, y) arrays or tables of rows instead, of any lengths, cut anew into batches. n_batches:
    end each epoch there (needed where the source is endless). prefetch: batches read ahead. shuffle_buffer: shuffle
    within a buffer of this many samples, drawn from (seed, epoch); without one, a stream keeps its order whatever
    `shuffle` says. input_shape: of one sample; not given, one sample (or chunk) of a fresh iterator is read to see when
    someone asks, as a Trainer does; where it is a table whose columns have names, all chunks' columns go by these from
    then on. A batch of another shape fails when it is loaded.
    Samples are numbered from 0 in each epoch, as they come out. The last, smaller batch counts.

        >>> data = StreamDataset(lambda: (([i, -i], [2.0 * i]) for i in range(10)), batch_size=4)
        >>> [batch.n for batch in data.epoch(seed=0, epoch=0)]
        [4, 4, 2]
    """

    @_hints.arguments
    def __init__(self, source: Callable[[], Iterable[Any]], batch_size: int = 32, *, prefetch: int = 4, chunks: bool = False,
                 shuffle_buffer: int = 0, n_batches: int | None = None, input_shape: tuple[int, ...] | None = None,
                 weighted: bool = False) -> None:
        if not callable(source):
            raise TypeError(f"source must be callable, giving a fresh iterator each time; got {type(source).__name__}: give the "
                            "generator function itself, not what it returns, or for a list of samples or another "
                            "iterable, lambda: samples")
        if not isinstance(input_shape, (tuple, list, type(None))):
            raise TypeError(f"input_shape={input_shape!r}: a tuple, as of one sample's x.shape")
        self.source, self.chunks, self.weighted = source, bool(chunks), bool(weighted)
        self._input_shape: Any = None if input_shape is None else tuple(
            whole_number("input_shape", axis, 1) for axis in input_shape)
        self.batch_size, self.prefetch = whole_number("batch_size", batch_size, 1), whole_number("prefetch", prefetch, 1)
        self.shuffle_buffer = whole_number("shuffle_buffer", shuffle_buffer, 0)
        self._n_batches = None if n_batches is None else whole_number("n_batches", n_batches, 1)
        self._gave = False              # anything, ever
        first = source()
        if isinstance(first, Iterator) and source() is first:
            raise ValueError(f"source() gave the same {type(first).__name__} twice, which can be read only once; each epoch "
                             "needs a fresh one: make it in source(), as a generator function does")

    @property
    def n_batches(self) -> int | None:
        """As given, fewer if the source ends before; None where it was not."""
        return self._n_batches

    @property
    def n_samples(self) -> int | None:
        return None if self._n_batches is None else self._n_batches * self.batch_size

    @property
    def input_shape(self) -> Any:
        if self._input_shape is None:
            first = next(iter(self.source()), None)
            if first is None:
                raise ValueError("the stream is empty: its source gave nothing")
            self._gave = True
            x = first[0]
            self._input_shape = ({name: np.shape(a) for name, a in x.items()} if isinstance(x, dict) and not self.chunks
                                 else np.shape(x)[1 if self.chunks else 0:])
            self.feature_names = column_names(first[0], "x") if self.chunks else None
        return self._input_shape

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Reading:
        # SimpleQueue: an interrupt inside Queue.get may leave its lock held for ever, as in all that Conditions are made of
        ready: queue.SimpleQueue[Any] = queue.SimpleQueue()
        return Reading(self._epoch(seed, epoch, shuffle, ready), ready)

    def _epoch(self, seed: int, epoch: int, shuffle: bool, ready: queue.SimpleQueue[Any]) -> Generator[LazyBatch]:
        rng = np.random.default_rng([seed, epoch]) if shuffle and self.shuffle_buffer > 1 else None
        room: queue.SimpleQueue[None] = queue.SimpleQueue()       # an item for each that may be put into `ready`
        for _ in range(self.prefetch):
            room.put(None)
        closed = threading.Event()
        reader = threading.Thread(target=_read, args=(partial(self._batches, rng, closed), ready, room, closed),
                                  name="tinydl-prefetch", daemon=True)
        home = os.getpid()
        reader.start()
        try:
            yield from _taken(ready, room, reader, home)
        finally:
            if os.getpid() == home:
                closed.set()
                room.put(None)                  # for a reader that waits for it
                if reader is not threading.current_thread():        # as where the garbage collector closes
                    reader.join(GRACE)

    def _batches(self, rng: np.random.Generator | None, closed: threading.Event) -> Iterator[LazyBatch]:
        """What the reading thread runs."""
        items = _until(closed, self.source())
        if rng is None and self.chunks:
            batches: Iterator[tuple[Callable[..., Batch], int]] = self._cut(items)
        else:
            samples = (chain.from_iterable(zip(*self._arrays(chunk), strict=True) for chunk in items) if self.chunks else items)
            batches = self._collect(samples if rng is None else _shuffled(samples, self.shuffle_buffer, rng))
        at = 0
        for index, (fetch, n) in enumerate(islice(batches, self._n_batches)):
            self._gave = True
            yield LazyBatch(fetch, np.arange(at, at + n), at, index)
            at += n
        if not at and self._gave and not closed.is_set():
            raise ValueError("the stream is empty: its source gave samples before, and none now. source() must begin anew each "
                             "time, also with what its iterator reads from")

    def _collect(self, samples: Iterator[Any]) -> Iterator[tuple[Callable[..., Batch], int]]:
        while rows := list(islice(samples, self.batch_size)):
            yield partial(_stack, rows, self._input_shape, self.weighted), len(rows)

    def _arrays(self, chunk: Any) -> tuple[Array, ...]:
        """x and y of a chunk, and its weights where there are any."""
        x, y, *weights = parts_of(chunk, self.weighted, "a chunk of the stream")
        arrays = (as_array(x, "x", self.feature_names),
                  *(as_array(a, name, squeeze=True) for a, name in zip((y, *weights), ("y", "weight"), strict=False)))
        if min(a.ndim for a in arrays) < 1 or len({len(a) for a in arrays}) > 1:
            raise ValueError("a chunk of the stream must be as many rows of x as of y"
                             f"{' and of weights' * self.weighted}; got shapes {' and '.join(str(a.shape) for a in arrays)}")
        return arrays

    def _cut(self, chunks: Iterator[Any]) -> Iterator[tuple[Callable[..., Batch], int]]:
        pieces: list[tuple[Array, ...]] = []
        held = 0
        for chunk in chunks:
            arrays = self._arrays(chunk)
            n, at = len(arrays[0]), 0
            while held + n - at >= self.batch_size:
                end = at + self.batch_size - held
                yield partial(_join, [*pieces, tuple(a[at:end] for a in arrays)], self._input_shape), self.batch_size
                pieces, held, at = [], 0, end
            if at < n:
                pieces.append(tuple(a[at:] for a in arrays))
                held += n - at
        if pieces:
            yield partial(_join, pieces, self._input_shape), held


class Reading(Iterator[LazyBatch]):
    """An epoch of a stream."""

    def __init__(self, batches: Generator[LazyBatch], ready: queue.SimpleQueue[Any]) -> None:
        self._batches, self._ready = batches, ready

    def __next__(self) -> LazyBatch:
        return next(self._batches)

    def cancel(self, error: BaseException) -> None:
        """Raise `error` behind the batches that were read; from any thread."""
        self._ready.put(error)

    def close(self) -> None:
        """End the reading."""
        self._batches.close()


def _stack(rows: list[Any], shape: Any, weighted: bool, batch: LazyBatch) -> Batch:
    numbers = batch.indices.tolist()
    for number, row in zip(numbers, rows, strict=True):
        parts_of(row, weighted, f"sample {number} of the stream")
    return Batch(*stack([row[0] for row in rows], [row[1] for row in rows], numbers, shape), None, batch.first_id, batch.index,
                 stack_weights([row[2] for row in rows], numbers) if weighted else None)


def _join(pieces: list[tuple[Array, ...]], shape: tuple[int, ...] | None, batch: LazyBatch) -> Batch:
    for x, *_ in pieces:
        check_shape(x, pieces[0][0].shape[1:] if shape is None else shape)
    x, y, *weights = (np.concatenate(parts) if len(parts) > 1 else parts[0] for parts in zip(*pieces, strict=True))
    x = as_features(x)
    check_finite(x, "x", batch.indices)
    return Batch(x, as_targets(y, "y", batch.indices), None, batch.first_id, batch.index,
                 as_weights(weights[0], len(x), "weight", batch.indices) if weights else None)


def _shuffled(samples: Iterator[Any], size: int, rng: np.random.Generator) -> Iterator[Any]:
    """Each sample takes the place of a random one of `size` held, which goes out; the rest follow in random order."""
    held = list(islice(samples, size))
    for sample in samples:
        i = int(rng.integers(size))
        held[i], sample = sample, held[i]
        yield sample
    for i in rng.permutation(len(held)):
        yield held[i]


def _until(closed: threading.Event, items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        if closed.is_set():
            return
        yield item


def _get(ready: queue.SimpleQueue[Any], reader: threading.Thread, home: int) -> Any:
    """The next of `ready`, as long as there is a reader to put it. In another process the queue's lock may be stuck."""
    while os.getpid() == home:
        alive = reader.is_alive()
        try:
            return ready.get(timeout=GRACE)
        except queue.Empty:
            if not alive:
                break
    raise ReaderGoneError("the stream's reading thread is gone; in a process forked in mid-epoch, begin a new epoch")


def _taken(ready: queue.SimpleQueue[Any], room: queue.SimpleQueue[None], reader: threading.Thread, home: int) -> Iterator[Any]:
    """What the reader puts into `ready`, until it says that this is all, or raises."""
    while (item := _get(ready, reader, home)) is not None:
        if isinstance(item, BaseException):
            raise item
        room.put(None)
        yield item


def _read(batches: Callable[[], Iterator[Any]], ready: queue.SimpleQueue[Any], room: queue.SimpleQueue[None],
          closed: threading.Event) -> None:
    """The reading thread: it knows the queues and the flag, not who empties the one or sets the other.

    Whoever closes sets the flag and then makes room for one; the reader looks at the flag before it waits for room. So
    at most one wait ends after the flag, and finds room.
    """
    def put(item: Any) -> bool:
        if not closed.is_set():
            room.get()
            ready.put(item)
        return not closed.is_set()
    try:
        if all(map(put, batches())):
            put(None)
    except BaseException as e:
        put(e)
