"""StreamDataset: samples that come one after another, read ahead by a thread, never held all at once.

Guarantees: at most `prefetch` batches wait; the reading thread ends within a blink of the epoch being closed,
forgotten or over; an exception in the source comes out of the epoch after the batches before it.
"""
from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any

import numpy as np

from tinydl.data.batch import Array, Batch, Dataset, LazyBatch, as_features, as_targets, check_batch_size

Source = Callable[[], Any]


class StreamDataset(Dataset):
    """source() gives a fresh iterator of samples (x, y), each time the same or not; it may be endless.

    chunks: the iterator gives arrays of rows instead, of any lengths, cut anew into batches. n_batches: end each
    epoch there (needed where the source is endless). prefetch: batches read ahead. shuffle_buffer: shuffle within
    a buffer of this many samples, drawn from (seed, epoch); without one, a stream keeps its order. input_shape: of
    one sample; not given, one sample of a fresh iterator is read to see.

        >>> data = StreamDataset(lambda: (([i, -i], [2 * i]) for i in range(10)), batch_size=4)
        >>> [batch.n for batch in data.epoch(seed=0, epoch=0)]
        [4, 4, 2]
    """

    def __init__(self, source: Source, batch_size: int = 32, *, prefetch: int = 4, chunks: bool = False,
                 shuffle_buffer: int = 0, n_batches: int | None = None, input_shape: tuple[int, ...] | None = None) -> None:
        if not callable(source):
            raise TypeError(f"source must be callable, giving a fresh iterator each time; got {type(source).__name__}")
        if prefetch < 1:
            raise ValueError(f"prefetch={prefetch}: at least 1")
        if n_batches is not None and n_batches < 1:
            raise ValueError(f"n_batches={n_batches}: at least 1, or None")
        if shuffle_buffer < 0:
            raise ValueError(f"shuffle_buffer={shuffle_buffer}: at least 0")
        self.batch_size, self.source, self.chunks = check_batch_size(batch_size), source, chunks
        self.prefetch, self.shuffle_buffer = prefetch, shuffle_buffer
        self._n_batches, self._input_shape = n_batches, input_shape

    @property
    def n_batches(self) -> int | None:
        return self._n_batches

    @property
    def n_samples(self) -> int | None:
        return None if self._n_batches is None else self._n_batches * self.batch_size

    @property
    def input_shape(self) -> tuple[int, ...]:
        if self._input_shape is None:
            first = next(self._samples(), None)
            if first is None:
                raise ValueError("the stream is empty: its source gave no sample")
            self._input_shape = np.shape(first[0])
        return self._input_shape

    def _samples(self) -> Iterator[tuple[Any, Any]]:
        items = iter(self.source())
        if not self.chunks:
            return items
        return chain.from_iterable(zip(x, y, strict=True) for x, y in items)

    def _shuffled(self, samples: Iterator[Any], rng: np.random.Generator) -> Iterator[Any]:
        held = list(islice(samples, self.shuffle_buffer))
        for sample in samples:
            i = int(rng.integers(len(held)))
            held[i], sample = sample, held[i]
            yield sample
        for i in rng.permutation(len(held)):
            yield held[i]

    def epoch(self, seed: int, epoch: int, shuffle: bool = True) -> Iterator[Batch | LazyBatch]:
        def batches() -> Iterator[tuple[Array, Array]]:
            samples = self._samples()
            if shuffle and self.shuffle_buffer > 1:
                samples = self._shuffled(samples, np.random.default_rng([seed, epoch]))
            for _ in iter(int, 1) if self._n_batches is None else range(self._n_batches):
                rows = list(islice(samples, self.batch_size))
                if not rows:
                    return
                yield as_features(np.stack([r[0] for r in rows])), as_targets(np.stack([r[1] for r in rows]))
        ready: queue.Queue[Any] = queue.Queue(self.prefetch)
        closed = threading.Event()
        reader = threading.Thread(target=_read, args=(batches, ready, closed), name="tinydl-prefetch", daemon=True)
        reader.start()
        at = index = 0
        try:
            while True:
                item = ready.get()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                x, y = item
                yield Batch(x, y, None, at, index)
                at, index = at + len(x), index + 1
        finally:
            closed.set()
            while True:         # make room for a reader that waits to put
                try:
                    ready.get_nowait()
                except queue.Empty:
                    break


def _read(batches: Callable[[], Iterator[Any]], ready: queue.Queue[Any], closed: threading.Event) -> None:
    """The reading thread: it knows the queue and the flag, not the dataset's consumer."""
    def put(item: Any) -> bool:
        while not closed.is_set():
            try:
                ready.put(item, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False
    try:
        for item in batches():
            if not put(item):
                return
        put(None)
    except BaseException as e:
        put(e)
