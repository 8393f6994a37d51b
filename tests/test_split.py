"""Parts of an ArrayDataset: their samples, their sizes, and each class's share in them."""
import pickle
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinydl import Model, Trainer, losses, nn, optim
from tinydl.data import ArrayDataset
from tinydl.data.split import round_table

few = settings(max_examples=40, deadline=None, database=None)


def numbered(n, batch_size=4, **options):
    """x[i] = [i, -i], y[i] = i."""
    i = np.arange(n, dtype=np.float32)
    return ArrayDataset(np.stack([i, -i], 1), i, batch_size, **options)


def labelled(*counts):
    """So many samples of class 0, 1, ...; x[i] = [i]."""
    y = np.repeat(np.arange(len(counts)), counts)
    return ArrayDataset(np.arange(len(y))[:, None], y)


def in_classes(parts, n_classes):
    return [np.bincount(part.y, minlength=n_classes).tolist() for part in parts if part]


def seen(batches):
    return [int(v) for b in batches for v in b.load().arrays()[1]]


# ------------------------------------------------------------------ a part
def test_subset_and_batch_size():
    data = numbered(20)
    part = data.subset([3, 1, 19, 3])
    assert part.sources is data.sources and len(part) == part.n_samples == 4 and seen(part.epoch(0, 0, False)) == [3, 1, 19, 3]
    again = part.subset(np.array([2, 0], np.uint8)).with_batch_size(1)
    assert seen(again.epoch(0, 0, False)) == [19, 3] and again.n_batches == 2 and part.batch_size == 4
    assert len(data) == 20 and data.rows is None
    assert repr(part) == "ArrayDataset(4 samples, x float32 (2,), y float32 (), batch_size=4)"
    for rows, words in (([20], "0 to 19; got 20 to 20"), ([-1, 3], "got -1 to 3"), ([], "at least one"), ([0.5], "float64"),
                        (np.zeros(20, bool), "np.flatnonzero"), ([[1]], r"shape \(1, 1\)")):
        with pytest.raises(ValueError, match=words):
            data.subset(rows)


def test_x_and_y_of_a_part_are_its_own():
    """Means taken from the train part must not know of the test part; what is written into a copy would be lost."""
    data = numbered(20)
    part = data.subset([3, 1, 19, 3])
    assert part.y.tolist() == [3, 1, 19, 3] and part.x.tolist() == [[i, -i] for i in part.y]
    assert part.subset([2]).x.tolist() == [[19, -19]] and data.x is data.sources[0] and data.y is data.sources[1]
    for own in (part.x, part.y):
        with pytest.raises(ValueError, match="read-only"):
            own[0] = 0
    for some in data.split(0.5, 0.25, 0.25):
        assert len(some) == len(some.x) == len(some.y) and some.x[:, 0].tolist() == some.y.tolist() == some.rows.tolist()
        assert some.sources is data.sources and next(some.epoch(0, 0)).x is data.x
    wide = ArrayDataset(np.zeros((9, 1)), np.zeros((9, 1 << 19))).subset(range(5))
    assert [len(piece) for piece in wide.targets()] == [2, 2, 1]


def test_targets_of_a_part_are_checked_alone(driver):
    """A model of two classes trains on the samples of two, whatever else lies in the arrays."""
    data = driver(np.zeros((9, 2)), np.arange(9) % 3)
    two, model = data.subset(np.flatnonzero(data.y < 2)), Model(nn.Linear(2, 2), seed=0)
    with Trainer(1, seed=0) as t:
        t.init(two, model, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        assert t.train()["samples"] == [6] and t.profile(1).batches == 1
        assert two.output_shape == (3,)
    if driver is ArrayDataset:
        with Trainer(1, seed=0) as t, pytest.raises(ValueError, match="class labels run from 0 to 2"):
            t.init(data, model, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))


def test_pickle():
    data = pickle.loads(pickle.dumps(numbered(10).split(seed=1)))
    assert (data.train.rows == numbered(10).split(seed=1).train.rows).all() and len(seen(data.test.epoch(0, 0))) == 2


# ------------------------------------------------------------------ sizes
@pytest.mark.parametrize("wanted, sizes", [
    ({}, (80, 0, 20)), ({"train": 0.8, "validation": 0.2}, (80, 20, 0)), ({"train": 0.7, "validation": 0.1}, (70, 10, 20)),
    ({"train": 0.6}, (60, 0, 40)), ({"validation": 0.1, "test": 0.2}, (70, 10, 20)), ({"test": 0.1}, (90, 0, 10)),
    ({"validation": 0.2}, (80, 20, 0)), ({"train": 70, "validation": 0.2}, (70, 20, 10)), ({"train": 1.0}, (100, 0, 0)),
    ({"train": 0.7, "test": 0.1}, (70, 0, 10)), ({"train": 0.7, "validation": 0.3}, (70, 30, 0)),
    ({"train": 99, "validation": 1}, (99, 1, 0))])
def test_a_part_that_is_not_named_takes_the_rest_or_nothing(wanted, sizes):
    assert tuple(0 if part is None else len(part) for part in numbered(100).split(**wanted)) == sizes


def test_split_by_numbers():
    data = numbered(100)
    train, validation, test = data.split(70, 0.2, 5)
    assert (len(train), len(validation), len(test)) == (70, 20, 5)
    assert data.split(1, 0, 0).train.n_samples == 1 and data.split(1.0, 0.0, 0.0).train.n_samples == 100
    assert not (data.split(seed=0).train.rows == data.split(seed=1).train.rows).all()
    inner = data.subset(np.arange(50, 100)).split(0.5, 0.0, 0.5)
    assert sorted([*inner.train.rows, *inner.test.rows]) == list(range(50, 100))


def test_split_keeps_the_last_batch_of_what_is_evaluated():
    parts = numbered(40, 16, drop_last=True).split(0.5, 0.25, 0.25)
    assert [p.n_samples for p in parts] == [16, 10, 10]


@pytest.mark.parametrize("wanted, words", [
    ((0.8, 0.2, 0.2), r"train=0.8, validation=0.2, test=0.2\) asks for 12 of 10 samples"),
    ((8, 2, 2), "asks for 12 of 10 samples"), ((0.9, 0, 2), "asks for 11 of 10"), ((0.9, 0.2), "asks for 11 of 10"),
    ((1.5, 0, 0), "train must be 0.0 to 1.0, or 0 to 10 samples"),
    ((11, 0, 0), "train must be"), ((0.5, -0.1, 0), "validation must be"), ((0.5, float("nan"), 0), "validation must be"),
    ((0.0, 0.5, 0.5), "leaves train without any"), ((0.9, 0.05, 0.01), "leaves .* without any"),
    ((None, 0.5, 0.5), r"split\(validation=0.5, test=0.5\) of 10 samples leaves train without any")])
def test_split_refused(wanted, words):
    with pytest.raises(ValueError, match=words):
        numbered(10).split(*wanted)


@pytest.mark.parametrize("value", [True, "0.8", [0.8]])
def test_split_refuses_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"train must be a share \(float\) or a number of samples \(int\)"):
        numbered(10).split(value)


# ------------------------------------------------------------------ classes
@few
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=6), shares=st.tuples(*[st.integers(0, 10)] * 4),
       seed=st.integers(0, 9))
def test_split(counts, shares, seed):
    train, validation, test, rest = shares
    y = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    data = ArrayDataset(np.arange(len(y))[:, None], y)
    fractions = [s / max(1, sum(shares)) for s in (train, validation, test)]
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            parts = data.split(*fractions, seed=seed)
            again = data.split(*fractions, seed=seed)
    except ValueError as e:
        assert "leaves" in str(e) and (train == 0 or min(f for f in fractions if f) * len(y) < 1), e
        return
    sizes = [0 if part is None else len(part) for part in parts]
    assert [part is None for part in parts] == [f == 0 for f in fractions]
    assert all(abs(s - f * len(y)) < 1 for s, f in zip(sizes, fractions, strict=True))
    assert rest or sum(sizes) == len(y)
    rows = np.concatenate([part.rows for part in parts if part])
    assert len(set(rows.tolist())) == len(rows)                         # no sample twice
    assert all((np.diff(part.rows) > 0).all() for part in parts if part)
    if min(counts) * sizes[0] >= len(y):                                # each class's share, rounded up or down
        for part, size in zip(parts, sizes, strict=True):
            got = np.bincount(y[part.rows] if part else [], minlength=len(counts)) * len(y)
            assert (abs(got - np.array(counts) * size) < len(y)).all()
    absent = set(range(len(counts))) - set(parts.train.y.tolist())      # only where train is too small for all
    assert len(told) == 2 * bool(absent) and bool(absent) == (sizes[0] < len(counts))
    assert all(a is b is None or (a.rows == b.rows).all() for a, b in zip(parts, again, strict=True))


@settings(max_examples=200, deadline=None, database=None)
@given(rows=st.lists(st.integers(0, 30) | st.just(10), min_size=1, max_size=12),
       cuts=st.lists(st.floats(0, 1) | st.just(0.5), max_size=4))
def test_round_table(rows, cuts):
    rows, n = np.array(rows), sum(rows)
    if n:
        columns = np.diff([0, *sorted(int(c * n) for c in cuts), n])
        table = round_table(rows, columns)
        assert (table.sum(1) == rows).all() and (table.sum(0) == columns).all()
        assert (abs(table * n - np.outer(rows, columns)) < n).all() and table.min() >= 0


def test_round_table_rounds_to_the_nearest_where_it_can():
    assert round_table(np.array([59, 71, 48]), np.array([142, 36])).tolist() == [[47, 12], [57, 14], [38, 10]]


def test_a_rare_class_goes_to_train_and_leaves_the_others_stratified():
    for seed in range(20):
        for stratify in (True, "auto"):
            assert in_classes(labelled(90, 9, 1).split(seed=seed, stratify=stratify), 3) == [[72, 7, 1], [18, 2, 0]]
        train, validation, test = in_classes(labelled(600, 394, 2, 2, 1, 1).split(0.6, 0.2, 0.2, seed=seed), 6)
        assert train[0] in (359, 360) and train[1] in (235, 236, 237) and min(train) == 1 and sum(train) == 600
        assert sum(validation[2:]) + sum(test[2:]) <= 2
    many = labelled(400, *[1] * 100, 500).split(0.5, 0, 0.5, seed=1)        # a tail that fills a fifth of train
    assert in_classes(many, 102) == [[178, *[1] * 100, 222], [222, *[0] * 100, 278]]


def test_equal_classes_take_turns():
    """Which of them are rounded up is a toss, not the first ones by number."""
    test = np.array([np.flatnonzero(in_classes(labelled(*[2] * 50).split(seed=s), 50)[1]) for s in range(3)])
    assert test.shape == (3, 20) and test.min() < 10 and test.max() >= 40 and (test[0] != test[1]).any()


def test_a_class_that_train_has_none_of_is_named():
    data = labelled(3, 3, 3)
    with pytest.warns(UserWarning, match=r"the train part of 2 samples has none of class \d \(1 of 3 classes\)") as told:
        data.split(2, 0, 7)
    assert told[0].filename == __file__
    with pytest.warns(UserWarning, match=r"none of class (\d+, ){10}\.\.\. \(\d\d of 100 classes\)"):
        labelled(*[2] * 100).split(0.4, seed=0)
    with pytest.warns(UserWarning, match=r"the train part of 50 samples has none of class 1 \(1 of 2 classes\)"):
        [labelled(99, 1).split(0.5, seed=s, stratify=False) for s in range(9)]


def test_stratify():
    data = labelled(66 + 24, 9)
    parts = data.split(66, 0, 33, stratify=True)
    assert in_classes(parts, 2) == [[60, 6], [30, 3]]
    loose = [in_classes(data.split(0.5, 0.0, 0.5, seed=s, stratify=False), 2)[1][1] for s in range(9)]
    assert len(set(loose)) > 1
    with pytest.raises(ValueError, match="stratify=True needs class labels; y is float32"):
        numbered(9).split(stratify=True)
    with pytest.raises(ValueError, match="stratify='yes'"):
        data.split(stratify="yes")


def test_a_million_samples_of_100_000_classes():
    """Half a second; a method whose time grows as the square of the classes takes a minute."""
    y = np.random.default_rng(0).integers(0, 100_000, 1_000_000)
    parts = ArrayDataset(np.zeros((len(y), 1), np.uint8), y).split(0.7, 0.15, 0.15)
    counts, n = np.bincount(y), len(y)
    for part, share in zip(parts, (0.7, 0.15, 0.15), strict=True):
        got = np.bincount(part.y, minlength=100_000)
        # 1.01: the few classes of one sample have all of it in train, so that the others' shares there are a bit smaller
        assert len(part) == share * n and (abs(got - counts * share)[counts > 1] < 1.01).all()
    assert (np.bincount(parts.train.y, minlength=100_000) > 0)[counts > 0].all()
