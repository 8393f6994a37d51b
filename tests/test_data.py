"""Datasets: every sample once, orders from (seed, epoch), nothing copied, and what is refused with which words."""
import gc
import itertools
import os
import pickle
import queue
import subprocess
import sys
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydl.data import ArrayDataset, Batch, Dataset, ItemDataset, LazyBatch, StreamDataset
from tinydl.data.stream import _read

few = settings(max_examples=40, deadline=None, database=None)


def numbered(n, batch_size=4, **options):
    """x[i] = [i, -i], y[i] = i."""
    i = np.arange(n, dtype=np.float32)
    return ArrayDataset(np.stack([i, -i], 1), i, batch_size, **options)


def seen(batches):
    return [int(v) for b in batches for v in b.load().arrays()[1]]


# ------------------------------------------------------------------ batches and epochs
@few
@given(n=st.integers(1, 70), batch_size=st.integers(1, 20), drop_last=st.booleans(), seed=st.integers(0, 2**63),
       epoch=st.integers(0, 99))
def test_every_sample_once(n, batch_size, drop_last, seed, epoch):
    if drop_last and n < batch_size:
        with pytest.raises(ValueError, match=f"batch_size={batch_size} leaves no batch of {n} samples"):
            numbered(n, batch_size, drop_last=True)
        return
    data = numbered(n, batch_size, drop_last=drop_last)
    batches = list(data.epoch(seed, epoch))
    used = n // batch_size * batch_size if drop_last else n
    assert len(batches) == data.n_batches and data.n_samples == used == sum(b.n for b in batches)
    assert [b.index for b in batches] == list(range(len(batches)))
    assert all(b.n == batch_size for b in batches[:-1]) and batches[-1].n in (batch_size, n % batch_size)
    permutation = np.random.default_rng([seed, epoch]).permutation(n)
    assert seen(batches) == permutation[:used].tolist() and len(set(seen(batches))) == used
    rows, bounds = data.order(seed, epoch)
    assert rows.dtype == bounds.dtype == np.int64 and bounds[0] == 0 and bounds[-1] == used
    for b, batch in enumerate(batches):
        assert batch.indices.dtype == np.int64
        np.testing.assert_array_equal(batch.indices, rows[bounds[b]:bounds[b + 1]])
    assert seen(data.epoch(seed, epoch, shuffle=False)) == list(range(used))


def test_the_order_is_fixed_for_good():
    """Recorded: a saved run goes on the same way under any later version."""
    assert numbered(8).order(3, 2)[0].tolist() == [1, 7, 4, 0, 2, 6, 3, 5]
    assert numbered(8).order(3, 3)[0].tolist() != numbered(8).order(3, 2)[0].tolist()
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    list(numbered(8).epoch(0, 0))
    assert (np.random.get_state()[1] == before).all()


def test_a_batch_is_views_until_it_is_copied():
    data = numbered(10)
    batch = next(data.epoch(0, 0))
    assert batch.x is data.x and batch.y is data.y and batch.load() is batch and batch.n == 4
    x, y = batch.arrays()
    assert not np.shares_memory(x, data.x) and x.tolist() == [[i, -i] for i in y]
    everything = Batch(data.x, data.y, None, first_id=5)
    assert everything.n == 10 and everything.arrays()[0] is data.x
    with pytest.raises(AttributeError):
        batch.index = 1


def test_abstract():
    with pytest.raises(TypeError, match=r"abstract.*epoch.*input_shape"):
        Dataset()
    with pytest.raises(TypeError, match=r"abstract.*__getitem__.*__len__"):
        ItemDataset()


# ------------------------------------------------------------------ what becomes of x and y
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int8", "uint16", "int16", "int32", "int64", "uint32", "bool"])
def test_sources_are_not_copied(dtype):
    x = np.zeros((6, 3), dtype)
    assert ArrayDataset(x, np.zeros(6)).x is x
    labels = np.zeros(6, np.int64)
    assert ArrayDataset(x, labels).y is labels


@pytest.mark.parametrize("x, dtype", [
    (np.arange(6, dtype=np.float16).reshape(3, 2), np.float32), (np.arange(6.0).reshape(2, 3).T, np.float64),
    (np.arange(6, dtype=">f4").reshape(3, 2), np.float32), (np.arange(6, dtype=">i2").reshape(3, 2), np.int16),
    (np.arange(12.0).reshape(3, 4)[:, ::2], np.float64), ([[0, 1], [2, 3], [4, 5]], np.int64),
    (np.arange(6, dtype=np.longdouble).reshape(3, 2), np.float64), (np.arange(6, dtype=np.uint64).reshape(3, 2), np.float64),
    (np.frombuffer(b"\0" + np.arange(6.0).tobytes(), np.float64, offset=1).reshape(3, 2), np.float64)])
def test_sources_are_converted_once(x, dtype):
    data = ArrayDataset(x, [0.0, 1.0, 2.0])
    assert data.x.dtype == dtype and data.x.dtype.isnative and data.x.flags.c_contiguous and data.x.flags.aligned
    np.testing.assert_array_equal(data.x, np.asarray(x, dtype))


@pytest.mark.parametrize("y, dtype, output_shape", [
    ([0, 2, 1], np.int64, (3,)), ([True, False, True], np.int64, (2,)), (np.array([0, 3, 0], np.uint64), np.int64, (4,)),
    (np.array([0, 1, 1], ">i4"), np.int64, (2,)), ([0.5, 1, 2], np.float64, (1,)), ([[0.5], [1], [2]], np.float64, (1,)),
    (np.ones((3, 2), np.float16), np.float32, (2,)), (np.ones((3, 4, 5), np.float32), np.float32, (4, 5))])
def test_targets(y, dtype, output_shape):
    data = ArrayDataset(np.zeros((3, 7)), y)
    assert data.y.dtype == dtype and data.y.dtype.isnative and data.y.shape == np.shape(y)
    assert data.input_shape == (7,) and data.output_shape == output_shape


def test_a_memory_map_is_never_materialised(tmp_path):
    """4 TiB in a sparse file: whatever reads or copies it whole does not come back."""
    rows = width = 1 << 20
    try:
        with open(tmp_path / "x", "wb") as f:
            f.truncate(rows * width * 4)
        x = np.memmap(tmp_path / "x", np.float32, "r", shape=(rows, width))
    except (OSError, ValueError) as e:
        pytest.skip(f"no sparse file of 4 TiB here: {e}")
    y = np.memmap(tmp_path / "y", np.int64, "w+", shape=(rows,))
    data = ArrayDataset(x, y, batch_size=2)
    assert data.x is x and data.y is y
    for part in (data, data.subset([rows - 1, 5]), *data.split(0.5, 0.25, 0.25)):
        batch = next(part.epoch(0, 0))
        assert batch.x is x and batch.arrays()[0].shape == (2, width) and not np.shares_memory(batch.arrays()[0], x)


@pytest.mark.parametrize("x, y, words", [
    (np.zeros((3, 2)), [0, 1], "x has 3 samples and y has 2"),
    (np.zeros((0, 2)), np.zeros(0), r"the dataset is empty: x has shape \(0, 2\)"),
    (np.array([1, "a", None], object), [0, 1, 2], r"x must be numbers; got object of shape \(3,\)"),
    (["a", "b"], [0, 1], r"x must be numbers; got <U1"),
    ([1j, 2j], [0, 1], "x must be numbers; got complex128"),
    (3.0, [1], "x must have a first axis of samples; got the single number 3.0"),
    ([[1.0], [2.0]], 1.0, "y must have a first axis of samples"),
    (np.ma.zeros((2, 2)), [0, 1], "x is a masked array"),
    ([0.0, 1.0], np.ma.array([0, 1], mask=[0, 1]), "y is a masked array"),
    ([0.0, 1.0], ["cat", "dog"], r"y must be integers .* got <U3 of shape \(2,\): np.unique"),
    ([0.0, 1.0], [[0], [1]], r"y is integers of shape \(2, 1\); class labels are \(samples,\): use np.ravel\(y\), or for numbers "
     r"to predict np.asarray\(y, 'float32'\)"),
    ([0.0, 1.0], [[0, 1], [1, 0]], r"y is integers of shape \(2, 2\).*argmax.*one-hot"),
    ([0.0, 1.0, 2.0], [1, -1, -7], r"y\[2\] is -7; class labels are 0, 1, 2"),
    ([0.0, 1.0], [0.5, np.nan], r"y\[1\] is nan; all must be finite"),
    ([0.0, 1.0], [[0, 1], [-np.inf, np.nan]], r"y\[1, 0\] is -inf; all must be finite"),
    ([[0.0, 1.0], [2.0, np.nan]], [0, 1], r"x\[1, 1\] is nan; all must be finite: put a value in, or leave that sample out"),
    (np.array([0.0, np.inf], np.float16), [0, 1], r"x\[1\] is inf"),
    (np.full((2, 3, 4), [0, 0, 0, -np.inf]), [0, 1], r"x\[0, 0, 3\] is -inf"),
    ([0.0, 1.0], np.array([0, 1], "datetime64[s]"), "y must be numbers; got datetime64")])
def test_refused(x, y, words):
    with pytest.raises(ValueError, match=words):
        ArrayDataset(x, y)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, None, "8"])
def test_batch_size_refused(batch_size):
    for make in (lambda: numbered(4, batch_size), lambda: numbered(4).with_batch_size(batch_size),
                 lambda: Squares(4, batch_size), lambda: StreamDataset(list, batch_size)):
        with pytest.raises(ValueError, match=rf"batch_size={batch_size!r}: a whole number, at least 1"):
            make()


@pytest.mark.parametrize("name", ["x", "y"])
def test_large_arrays_are_looked_at_to_their_end(name):
    arrays = {"x": np.zeros(3 << 20, np.float32), "y": np.zeros(3 << 20, np.float32)}
    arrays[name][-1] = np.inf
    with pytest.raises(ValueError, match=rf"{name}\[{(3 << 20) - 1}\] is inf"):
        ArrayDataset(**arrays)


def test_a_memory_map_is_not_looked_through_for_nan(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(3, 2))
    x[1] = np.nan
    for mapped in (x, x[:2], np.asarray(x)):
        assert np.shares_memory(ArrayDataset(mapped, np.zeros(len(mapped))).x, x)
    with pytest.raises(ValueError, match=r"x\[1, 0\] is nan"):
        ArrayDataset(x[:, ::-1], np.zeros(3))                   # a copy


# ------------------------------------------------------------------ items
class Squares(ItemDataset):
    def __init__(self, n, batch_size=4, item=None, **options):
        super().__init__(batch_size, **options)
        self.n, self.item, self.asked = n, item or (lambda i: ([i, -i], float(i))), []

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        self.asked.append((i, threading.get_ident()))
        return self.item(i)


def test_parts_of_items_ask_the_whole_for_their_samples():
    whole = Squares(50, batch_size=4, drop_last=True)
    parts = whole.split(train=0.6, validation=0.2, test=0.2, seed=3)
    assert whole.asked == [] and [len(part) for part in parts] == [30, 10, 10]
    assert [part.drop_last for part in parts] == [True, False, False] and parts.test.input_shape == (2,)
    ys = [[float(b) for batch in part.epoch(0, 0, shuffle=False) for b in batch.load().y] for part in parts]
    assert [len(y) for y in ys] == [28, 10, 10] and len({y for own in ys for y in own}) == 48
    again = whole.split(train=0.6, validation=0.2, test=0.2, seed=3)
    assert [part.rows.tolist() for part in parts] == [part.rows.tolist() for part in again]
    assert parts.train.subset([2, 0])[0] == whole[int(parts.train.rows[2])]
    kinds = np.arange(50) % 5 == 0          # one in five is rare
    for part in whole.split(train=0.6, validation=0.2, test=0.2, stratify=kinds):
        assert kinds[part.rows].mean() == 0.2
    weighted = Squares(20, item=lambda i: ([i], 1.0, i + 0.5), weighted=True).subset([4, 7])
    assert next(weighted.epoch(0, 0, shuffle=False)).load().sample_weight.tolist() == [4.5, 7.5]


def test_parts_of_items_that_cannot_be():
    whole = Squares(10, item=lambda i: 1 / (i - 7))
    for rows in ([], [10], [[1]], [0.5]):
        with pytest.raises(ValueError, match="rows must be sample numbers, at least one, from 0 to 9"):
            whole.subset(rows)
    with pytest.raises(ValueError, match=r"stratify has shape \(3,\); it is the class of each of the 10 samples"):
        whole.split(stratify=[0, 1, 0])
    with pytest.raises(ZeroDivisionError) as e:
        next(whole.subset([7]).epoch(0, 0)).load()
    assert "sample 7 of Squares" in e.value.__notes__


def test_items_are_made_by_load():
    data = Squares(10)
    assert data.input_shape == (2,)
    data.asked.clear()
    batches = list(data.epoch(1, 2))
    assert data.asked == [] and all(isinstance(b, LazyBatch) for b in batches)
    assert [b.n for b in batches] == [4, 4, 2] and [b.first_id for b in batches] == [0, 4, 8] and data.n_samples == 10
    np.testing.assert_array_equal(np.concatenate([b.indices for b in batches]), numbered(10).order(1, 2)[0])
    loaded = []
    worker = threading.Thread(target=lambda: loaded.append(batches[1].load()))
    worker.start()
    worker.join()
    batch, = loaded
    assert {t for _, t in data.asked} == {worker.ident} and [i for i, _ in data.asked] == batches[1].indices.tolist()
    assert batch.indices is None and (batch.first_id, batch.index, batch.n) == (4, 1, 4)
    assert batch.y.tolist() == batches[1].indices.tolist() and batch.x.dtype == np.int64
    assert seen(data.epoch(0, 0, shuffle=False)) == list(range(10))
    assert Squares(10, drop_last=True).n_batches == len(list(Squares(10, drop_last=True).epoch(0, 0))) == 2
    assert Squares(10, drop_last=True).n_samples == 8


def test_input_shape_of_items_is_looked_up_once():
    data = Squares(3)
    assert data.input_shape == data.input_shape == (2,) and len(data.asked) == 1
    with pytest.raises(ValueError, match="Squares has 0 samples"):
        Squares(0).input_shape  # noqa: B018


@pytest.mark.parametrize("error", [OSError("unreadable"), KeyboardInterrupt(), MemoryError()])
def test_an_item_that_raises_is_named(error):
    def item(i):
        if i == 6:
            raise error
        return [i], 0
    first, second, _ = Squares(10, item=item).epoch(0, 0, shuffle=False)
    assert first.load().n == 4
    with pytest.raises(type(error)) as caught:
        second.load()
    assert caught.value is error and error.__notes__ == ["sample 6 of Squares"]


@pytest.mark.parametrize("item, words", [
    (lambda i: ([0.0] * (1 + (i == 2)), 0), r"sample 2: x has shape \(2,\), and sample 0's is \(1,\)"),
    (lambda i: ([0.0], [0.0] * (1 + (i == 3))), r"sample 3: y has shape \(2,\), and sample 0's is \(1,\)"),
    (lambda i: ([0.0], 1 - i), "sample 3: y is -2; class labels"), (lambda i: ([0.0], [i]), r"use np.ravel\(y\)"),
    (lambda i: ([0.0, np.nan if i == 2 else 1], 0), r"sample 2: x\[1\] is nan; all must be finite"),
    (lambda i: (np.inf if i == 2 else 1.0, 0), "sample 2: x is inf"),
    (lambda i: ([0.0], [1.0, np.inf if i == 1 else 1.0]), r"sample 1: y\[1\] is inf"),
    (lambda i: (["a"], 0), "x must be numbers")])
def test_items_that_do_not_fit(item, words):
    with pytest.raises(ValueError, match=words) as caught:
        next(Squares(10, item=item).epoch(0, 0, shuffle=False)).load()
    assert caught.value.__notes__ == ["in a batch of the samples [0, 1, 2, 3]"]


def test_every_batch_of_items_has_the_input_shape():
    """Also where a batch fits in itself, and where its size is right."""
    data = Squares(12, item=lambda i: (np.zeros((1, 2) if 4 <= i < 8 else (2,)), 0))
    for asked_before in (False, True):
        first, second, third = data.epoch(0, 0, shuffle=False)
        with pytest.raises(ValueError, match=r"samples of shape \(1, 2\) in a dataset of input_shape \(2,\)") as caught:
            second.load()
        assert caught.value.__notes__ == ["in a batch of the samples [4, 5, 6, 7]"], asked_before
        assert first.load().x.shape == third.load().x.shape == (4, *data.input_shape)


# ------------------------------------------------------------------ streams
def prefetchers():
    return [t for t in threading.enumerate() if t.name == "tinydl-prefetch"]


def samples(n):
    return lambda: (([i, -i], float(i)) for i in range(n))


def test_a_stream():
    data = StreamDataset(samples(10), 4)
    assert data.n_batches is None and data.n_samples is None and data.input_shape == (2,)
    for _ in range(2):                                          # a fresh iterator each time
        batches = list(data.epoch(0, 0))
        assert [b.n for b in batches] == [4, 4, 2] and [b.first_id for b in batches] == [0, 4, 8]
        assert [b.index for b in batches] == [0, 1, 2] and batches[1].indices.tolist() == [4, 5, 6, 7]
        loaded = batches[1].load()
        assert loaded.first_id == 4 and loaded.index == 1 and loaded.indices is None
        assert loaded.x.tolist() == [[i, -i] for i in range(4, 8)] and seen(batches) == list(range(10))
    assert not prefetchers()


def test_an_endless_stream_ends_after_n_batches():
    data = StreamDataset(lambda: (([i], float(i)) for i in itertools.count()), 4, n_batches=3)
    assert seen(data.epoch(0, 0)) == list(range(12)) and data.n_batches == 3 and data.n_samples == 12
    assert seen(StreamDataset(samples(5), 4, n_batches=3).epoch(0, 0)) == list(range(5))


@few
@given(sizes=st.lists(st.integers(0, 9), max_size=6), batch_size=st.integers(1, 7), buffer=st.integers(0, 5))
def test_chunks_are_cut_anew(sizes, batch_size, buffer):
    def source():
        at = 0
        for size in sizes:
            i = np.arange(at, at + size, dtype=np.float32)
            yield np.stack([i, -i], 1), i
            at += size
    data = StreamDataset(source, batch_size, chunks=True, shuffle_buffer=buffer)
    plain, mixed = list(data.epoch(0, 0, shuffle=False)), list(data.epoch(0, 0))
    n = sum(sizes)
    assert seen(plain) == sorted(seen(mixed)) == list(range(n))
    for batches in (plain, mixed):
        assert [b.n for b in batches] == [batch_size] * (n // batch_size) + [n % batch_size] * (n % batch_size > 0)
        assert [b.first_id for b in batches] == list(range(0, n, batch_size))
        assert all((x[:, 0] == y).all() and (x[:, 1] == -y).all() for x, y in (b.load().arrays() for b in batches))
    if sizes:
        assert data.input_shape == (2,)


def test_a_shuffle_buffer():
    data = StreamDataset(samples(50), 8, shuffle_buffer=10)
    order = seen(data.epoch(1, 2))
    assert sorted(order) == list(range(50)) and order != sorted(order) and order == seen(data.epoch(1, 2))
    assert order != seen(data.epoch(1, 3)) and order != seen(data.epoch(2, 2))
    assert all(i <= place + 10 for place, i in enumerate(order))                # nothing from beyond the buffer
    assert seen(data.epoch(1, 2, shuffle=False)) == list(range(50))
    assert seen(StreamDataset(samples(50), 8).epoch(1, 2)) == list(range(50))   # without one, order is kept


@pytest.mark.parametrize("prefetch", [1, 4])
@pytest.mark.parametrize("chunks", [False, True])
def test_the_source_is_not_run_ahead_of(prefetch, chunks):
    taken, full = itertools.count(), threading.Event()
    last = 0

    def source():
        nonlocal last
        while True:
            last = next(taken) + 1
            if last == (prefetch + 2) * 4:
                full.set()
            yield ([[0.0]], [0.0]) if chunks else ([0.0], 0.0)
    epoch = StreamDataset(source, 4, prefetch=prefetch, chunks=chunks).epoch(0, 0)
    held = next(epoch)
    assert full.wait(10)                # as far as it may go: the held batch, those that wait, the reader's
    reader, = prefetchers()
    reader.join(0.1)                    # time to go wrong in
    assert last == (prefetch + 2) * 4 and held.n == 4
    epoch.close()
    assert not reader.is_alive()


def test_an_exception_comes_after_the_good_batches():
    def source():
        yield from samples(10)()
        raise OSError("gone")
    epoch = StreamDataset(source, 4).epoch(0, 0)
    assert seen([next(epoch), next(epoch)]) == list(range(8))
    with pytest.raises(OSError, match="gone") as caught:
        next(epoch)
    assert "source" in [f.name for f in caught.traceback]               # its own traceback, to the line that raised
    assert list(epoch) == [] and not prefetchers()


@pytest.mark.parametrize("source, error, words", [
    (lambda: 1 / 0, ZeroDivisionError, "division"), (lambda: 3, TypeError, "not iterable"),
    (lambda: iter(Squares(3, item=lambda i: sys.exit("no"))), SystemExit, "no")])
def test_a_source_that_does_not_begin(source, error, words):
    with pytest.raises(error, match=words):
        next(StreamDataset(source, 4).epoch(0, 0))
    assert not prefetchers()


@pytest.mark.parametrize("bad, words", [
    (([1.0, 2.0, 3.0], 0.0), r"sample 5: x has shape \(3,\), and sample 4's is \(2,\)"),
    (7, r"sample 5 .* must be \(x, y\); got int"),
    ((["a", "b"], 0.0), "x must be numbers"), (([0.0, 0.0], float("nan")), "sample 5: y is nan"),
    (([0.0, np.inf], 0.0), r"sample 5: x\[1\] is inf")])
def test_samples_that_do_not_fit_fail_their_batch_only(bad, words):
    data = StreamDataset(lambda: (bad if i == 5 else ([i, -i], float(i)) for i in range(12)), 4)
    first, second, third = data.epoch(0, 0)
    with pytest.raises(ValueError, match=words):
        second.load()
    assert seen([first, third]) == [0, 1, 2, 3, 8, 9, 10, 11]


def test_every_batch_of_a_stream_has_the_input_shape():
    def source():
        return (([i] * (3 if 4 <= i < 8 else 2), float(i)) for i in range(12))

    def chunks():
        return (([x], [y]) for x, y in source())
    known = StreamDataset(source, 4)
    assert known.input_shape == (2,)
    for data in (known, StreamDataset(source, 4, input_shape=[2]), StreamDataset(chunks, 4, chunks=True, input_shape=(2,))):
        first, second, third = data.epoch(0, 0)
        with pytest.raises(ValueError, match=r"samples of shape \(3,\) in a dataset of input_shape \(2,\)"):
            second.load()
        assert seen([first, third]) == [0, 1, 2, 3, 8, 9, 10, 11]
    mixed = next(StreamDataset(chunks, 6, chunks=True).epoch(0, 0))
    with pytest.raises(ValueError, match=r"samples of shape \(3,\) in a dataset of input_shape \(2,\)"):
        mixed.load()
    scalars = StreamDataset(lambda: ((0.5, 1.0) for _ in range(4)), 4, input_shape=())
    assert next(scalars.epoch(0, 0)).load().x.shape == (4,)


def test_two_epochs_at_once():
    data = StreamDataset(samples(30), 4, shuffle_buffer=8)
    alone = [seen(data.epoch(0, e)) for e in (0, 1)]
    a, b = data.epoch(0, 0), data.epoch(0, 1)
    together = [next(a)], [next(b)]
    assert len(prefetchers()) == 2
    for one, other in zip(a, b, strict=True):
        together[0].append(one)
        together[1].append(other)
    assert [seen(t) for t in together] == alone and not prefetchers()
    a, b = data.epoch(0, 0), data.epoch(0, 1)
    kept = [next(a), next(b)][1]
    a.close()                                                   # the other goes on
    assert seen([kept, *b]) == alone[1]


def test_chunks_that_do_not_fit():
    def source():
        yield np.zeros((4, 2)), np.zeros(4)
        yield np.zeros((4, 2)), np.zeros(3)
    for data in (StreamDataset(source, 4, chunks=True), StreamDataset(source, 4, chunks=True, shuffle_buffer=2)):
        with pytest.raises(ValueError, match=r"as many rows of x as of y; got shapes \(4, 2\) and \(3,\)"):
            list(data.epoch(0, 0))


@pytest.mark.parametrize("name", ["x", "y"])
def test_a_chunk_with_a_nan_fails_the_batch_of_its_row(name):
    def source():
        for at in range(0, 15, 5):
            i = np.arange(at, at + 5.0)
            chunk = {"x": np.stack([i, -i], 1), "y": i.copy()}
            chunk[name][i == 6] = np.nan
            yield chunk["x"], chunk["y"]
    first, second, *_ = StreamDataset(source, 4, chunks=True).epoch(0, 0)
    with pytest.raises(ValueError, match=rf"sample 6: {name}(\[0\])? is nan"):
        second.load()
    assert first.load().n == 4


def test_200_epochs_left_early():
    """By close, by an exception in the loop, by forgetting; with the reader waiting, working, or done."""
    closed = []

    def source(n):
        try:
            yield from samples(n)()
        finally:
            closed.append(n)
    for i in range(200):
        data = StreamDataset(lambda i=i: source((3, 9, 10**9)[i % 3]), 2, prefetch=1 + i % 4, shuffle_buffer=i % 5)
        epoch = data.epoch(0, i)
        if i % 7:
            next(epoch)
        if i % 3 == 0:
            epoch.close()
        elif i % 3 == 1:
            with pytest.raises(RuntimeError, match="stop"):
                for _ in epoch:
                    raise RuntimeError("stop")
            del epoch
        del data
        epoch = None
        assert not prefetchers()
    assert len(closed) == len([i for i in range(200) if i % 7 or i % 3 == 1])


def test_an_epoch_that_is_garbage_ends():
    class Holder:
        pass
    holder = Holder()
    holder.me, holder.epoch = holder, StreamDataset(lambda: (([0.0], 0.0) for _ in itertools.count()), 2).epoch(0, 0)
    next(holder.epoch)
    gone, (reader,) = weakref.ref(holder), prefetchers()
    del holder
    gc.collect()
    reader.join(10)
    assert gone() is None and not reader.is_alive()


def test_closing_ends_the_source_at_its_next_sample():
    taken, there, go = [], threading.Event(), threading.Event()

    def source():
        for i in itertools.count():
            if i == 5:
                there.set()
                go.wait(20)
            taken.append(i)
            yield [0.0], 0.0
    epoch = StreamDataset(source, 4).epoch(0, 0)
    next(epoch)
    reader, = prefetchers()
    assert there.wait(10)
    epoch.close()
    go.set()
    reader.join(10)
    assert not reader.is_alive() and taken == list(range(6))


@pytest.mark.parametrize("batches", [lambda: iter(()), lambda: iter([1, 2]), lambda: iter([1 / 0])])
def test_a_reader_puts_nothing_once_closed(batches):
    """The race: the reader comes to put its end when there is no room and nobody will make any."""
    ready, room, closed = queue.SimpleQueue(), queue.SimpleQueue(), threading.Event()
    closed.set()
    reader = threading.Thread(target=_read, args=(batches, ready, room, closed), name="tinydl-prefetch", daemon=True)
    reader.start()
    reader.join(10)
    assert not reader.is_alive() and ready.empty()


def test_a_stuck_source_does_not_hold_up_closing():
    go = threading.Event()

    def source():
        yield [0.0], 0.0
        yield [0.0], 0.0
        go.wait(20)
        yield [0.0], 0.0
    epoch = StreamDataset(source, 1).epoch(0, 0)
    next(epoch)
    reader, = prefetchers()
    assert reader.daemon
    closer = threading.Thread(target=epoch.close)
    closer.start()
    closer.join(5)
    assert not closer.is_alive() and reader.is_alive()
    go.set()
    reader.join(10)
    assert not reader.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_in_mid_epoch():
    """In a process of its own, since forking this one with threads would warn."""
    code = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from tinydl.data import StreamDataset
data = StreamDataset(lambda: (([0.0], 0.0) for _ in range(10**9)), 4)
epoch = data.epoch(0, 0)
next(epoch)
child = os.fork()
if child == 0:
    try:
        next(epoch)
    except RuntimeError as e:
        assert "gone" in str(e), e
        fresh = data.epoch(0, 0)
        assert next(fresh).n == 4
        fresh.close()
        os._exit(7)
    os._exit(1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert next(epoch).n == 4
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("strategy", ["serial", "group", "local"])
def test_training_forked_in_mid_epoch_raises_and_goes_on(strategy):
    """In the child: the missing thread is no batch's failure, and the next `train` reads from where the epoch stood."""
    code = """
import os, sys, warnings
import numpy as np
warnings.simplefilter("ignore")
from tinydl import Model, Trainer, losses, nn, optim
from tinydl.callbacks import Callback
from tinydl.data import StreamDataset
from tinydl.parallel.strategies import Local
rng = np.random.default_rng(0)
x, y = rng.standard_normal((640, 6)).astype("f"), rng.integers(0, 3, 640)
class Forks(Callback):
    every, child = 6, None
    def on_update(self, trainer, updates):
        if self.child is None:
            self.child = os.fork()
def trainer(*callbacks):
    t = Trainer(1, strategy=Local(3, 2) if sys.argv[1] == "local" else sys.argv[1], seed=0, callbacks=callbacks,
                thread_count=0 if sys.argv[1] == "serial" else 2)
    t.init(StreamDataset(lambda: zip(x, y), 8, n_batches=80), Model(nn.Linear(6, 3), seed=0), losses.SoftmaxCrossEntropy(),
           optim.Adam(0.01))
    return t
forks = Forks()
with trainer() as whole, trainer(forks) as t:
    whole.train()
    try:
        t.train()
    except RuntimeError as e:
        if forks.child:
            raise
        assert "gone" in str(e) and not t.history.failures and t.epoch == 0, e
        t.train()
    else:
        assert forks.child, "the child has trained on"
    assert t.history["samples"] == [640] and t.model.params.tobytes() == whole.model.params.tobytes()
    if forks.child == 0:
        os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(forks.child, 0)[1]) == 7
"""
    done = subprocess.run([sys.executable, "-c", code, strategy], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_a_process_ends_in_mid_epoch():
    code = """
from tinydl.data import StreamDataset
import threading
epoch = StreamDataset(lambda: iter(lambda: threading.Event().wait() or ([0.0], 0.0), 0), 1, input_shape=(1,)).epoch(0, 0)
threading.Thread(target=lambda: next(epoch), daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("options", [{}, {"input_shape": (2,)}, {"chunks": True}])
def test_a_source_that_gives_one_iterator_again_and_again_is_refused_before_it_is_read(options):
    once = samples(10)()
    for source in (lambda: once, once.__iter__):
        with pytest.raises(ValueError, match=r"source\(\) gave the same generator twice"):
            StreamDataset(source, 4, **options)
    assert len(list(once)) == 10
    rows = list(samples(10)())
    again = StreamDataset(lambda: rows, 4)                              # a list can be read again
    assert seen(again.epoch(0, 0)) == seen(again.epoch(0, 1)) == list(range(10))


def test_a_source_whose_iterators_share_one_that_is_used_up():
    rows = samples(10)()
    data = StreamDataset(lambda: map(tuple, rows), 4)
    assert seen(data.epoch(0, 0)) == list(range(10))
    with pytest.raises(ValueError, match=r"gave samples before, and none now. source\(\) must begin anew"):
        next(data.epoch(0, 1))


@pytest.mark.parametrize("options, words", [
    ({"prefetch": 0}, "prefetch=0: a whole number, at least 1"), ({"prefetch": 1.5}, "prefetch=1.5"),
    ({"input_shape": (3, 0)}, "input_shape=0: a whole number, at least 1"),
    ({"n_batches": 0}, "n_batches=0: a whole number, at least 1"), ({"shuffle_buffer": -1}, "shuffle_buffer=-1: .*at least 0")])
def test_stream_options_refused(options, words):
    with pytest.raises(ValueError, match=words):
        StreamDataset(samples(3), 4, **options)


def test_a_stream_needs_a_callable_and_a_sample():
    with pytest.raises(TypeError, match="source must be callable, giving a fresh iterator each time; got list"):
        StreamDataset([], 4)
    with pytest.raises(TypeError, match="got generator: give the generator function itself, not what it returns"):
        StreamDataset(samples(3)(), 4)
    with pytest.raises(TypeError, match="input_shape=3: a tuple"):
        StreamDataset(list, 4, input_shape=3)
    with pytest.raises(ValueError, match="the stream is empty"):
        StreamDataset(list, 4).input_shape  # noqa: B018
    assert list(StreamDataset(list, 4).epoch(0, 0)) == []
    assert StreamDataset(list, 4, input_shape=(3,)).input_shape == (3,)
    copied = pickle.loads(pickle.dumps(StreamDataset(list, 4)))
    assert copied.source is list and copied.batch_size == 4
