"""Sample weights: what each sample counts, in losses, updates, epochs' figures and evaluation."""
import numpy as np
import pytest
from every_strategy import TABLE
from small import DRIVERS, mlp

from tinydl import Model, Trainer, data, losses, nn, optim
from tinydl.parallel import GradientAggregator, NothingArrivedError
from tinydl.parallel.strategies import Group, Hogwild, Local, Shard

rng = np.random.default_rng(4)
X, Y = rng.standard_normal((53, 6)), rng.integers(0, 3, 53)
W = rng.random(53) * (rng.random(53) < 0.7)
W[8:24] = 0                     # of whole batches of 8, and the parts of others
W[3] = 1e4


class Squares(losses.PythonLoss):
    """Mean squared error in NumPy."""

    def forward(self, outputs, targets, sample_weight=None):
        d = outputs - targets
        w = np.ones(len(d)) if sample_weight is None else sample_weight
        w = (w / w.sum()).reshape(-1, *[1] * (d.ndim - 1)) / d[0].size
        return float((w * d * d).sum()), 2 * w * d


def run(kind, strategy, threads, weights=W, epochs=2, **options):
    model = mlp(6, 9, 3, dtype=options.pop("dtype", "float32"))
    with Trainer(epochs, enable_parallel=threads > 0, thread_count=threads, strategy=strategy, seed=5, **options) as t:
        t.init(kind(X, Y, 8, sample_weight=weights), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train()
        return model.params.tobytes(), tuple(t.history["loss"]), tuple(t.history["updates"]), t.stats().samples


@pytest.mark.parametrize("strategy", [Group(1), Group(2), Group(7), Shard(3), Local(2, 3)], ids=str)
def test_the_same_bits_for_any_threads_and_both_drivers(strategy):
    want = run(data.ArrayDataset, strategy, 1)
    assert want[3] == 2 * 53
    assert all(run(kind, strategy, n) == want for kind in DRIVERS.values() for n in (1, 2, 3))


@pytest.mark.parametrize("name", TABLE)
def test_weights_of_one_change_no_bit_in_what_is_learned(name):
    """Up to the rounding of sums that are taken in another way."""
    if name.startswith(("auto", "hogwild")):
        threads = 1
    else:
        threads = 2
    got, plain = (run(data.ArrayDataset, TABLE[name][0](), threads, w, dtype="float64") for w in (np.ones(53), None))
    np.testing.assert_allclose(np.frombuffer(got[0]), np.frombuffer(plain[0]), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got[1], plain[1], rtol=1e-12)


def gradient(x, y, w, weight, bias):
    """Of softmax regression's weighted mean, in float64."""
    z = x @ weight + bias
    p = np.exp(z - z.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    d = (p - np.eye(3)[y]) * w[:, None] / w.sum()
    return x.T @ d, d.sum(0), -(w * np.log(p[np.arange(len(y)), y])).sum() / w.sum()


class FailsAt(nn.PythonLayer):
    """Raises where a batch has this sample."""

    def __init__(self, first):
        self.first = first

    def forward(self, x):
        if (x[:, 0] == self.first).any():
            raise RuntimeError("as told")
        return x, None

    def backward(self, dy, saved):
        return dy


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("strategy", [Group(4), Shard(4)], ids=str)
@pytest.mark.parametrize("failing", [False, True])
def test_an_update_is_one_on_the_union_of_the_samples_that_arrived(kind, strategy, failing):
    batch = 8 if isinstance(strategy, Group) else 32
    union = np.arange(32)
    model = Model(nn.Sequential(FailsAt(X[27, 0] if failing else np.nan), nn.Linear(6, 3)), dtype="float64", seed=0)
    weight, bias = (v.copy() for v in model.state_dict().values())
    weight = weight if weight.shape == (6, 3) else weight.T
    with Trainer(1, enable_parallel=True, thread_count=2, strategy=strategy, seed=5, max_failed_fraction=1) as t:
        t.init(DRIVERS[kind](X[:32], Y[:32], batch, sample_weight=W[:32]), model, losses.SoftmaxCrossEntropy(), optim.SGD(0.5))
        t.train(shuffle=False)
        assert t.history["updates"] == [1]
        if failing:
            union = np.arange(24)       # the last batch, or part
        dweight, dbias, loss = gradient(X[union], Y[union], W[union], weight, bias)
        assert t.history["loss"] == pytest.approx([loss], rel=1e-12)
    got = dict(zip(("weight", "bias"), model.state_dict().values(), strict=True))
    new = got["weight"] if got["weight"].shape == (6, 3) else got["weight"].T
    np.testing.assert_allclose(new, weight - 0.5 * dweight, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(got["bias"], bias - 0.5 * dbias, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", DRIVERS)
@pytest.mark.parametrize("strategy", [Group(1), Group(2), Shard(2), Local(2, 2), Hogwild()], ids=str)
def test_where_all_weights_are_zero_nothing_moves(kind, strategy):
    model = mlp(6, 9, 3)
    before = model.params.copy()
    with Trainer(1, enable_parallel=True, thread_count=2, strategy=strategy, seed=5) as t:
        t.init(DRIVERS[kind](X, Y, 8, sample_weight=np.zeros(53)), model, losses.SoftmaxCrossEntropy(),
               optim.SGD(0.1, weight_decay=0.1))
        t.train()
        assert (t.history["updates"], t.history["loss"], t.stats().samples) == ([0], [0.0], 53)
        assert t.evaluate()["loss"] == 0
    assert np.array_equal(model.params, before)


@pytest.mark.parametrize("loss", [losses.MeanSquaredError(), losses.MeanAbsoluteError(), losses.Huber(0.5), Squares(),
                                  losses.SigmoidCrossEntropy()], ids=repr)
def test_a_weight_counts_for_all_outputs_of_its_sample(loss):
    x, t = rng.standard_normal((7, 2, 3)), rng.random((7, 2, 3))
    w = np.array([0, 1, 0.5, 3, 0, 1e-3, 2.0])
    each = [loss(x[i:i + 1], t[i:i + 1]) for i in range(7)]
    assert loss(x, t, w) == pytest.approx(np.dot(each, w) / w.sum(), rel=1e-13)
    assert loss(x, t, np.zeros(7)) == 0
    assert loss.mean(x, t, w) == (loss(x, t, w), pytest.approx(w.sum())) and loss.mean(x, t)[1] == 7


def test_a_python_loss_gets_the_weights_or_says_that_it_takes_none():
    class Plain(losses.PythonLoss):
        def forward(self, outputs, targets):
            return 0.0, outputs
    y = rng.standard_normal((53, 3))
    trained = []
    for loss in (Squares(), losses.MeanSquaredError()):
        model = mlp(6, 4, 3, dtype="float64")
        with Trainer(1, strategy=Group(3), enable_parallel=True, thread_count=2, seed=1) as t:
            t.init(data.ArrayDataset(X, y, 8, sample_weight=W), model, loss, optim.SGD(0.01))
            t.train()
            trained.append((model.params, t.history["loss"]))
    np.testing.assert_allclose(*(p for p, _ in trained), rtol=1e-9)
    assert trained[0][1] == pytest.approx(trained[1][1], rel=1e-10)
    with Trainer(1, seed=0) as t, pytest.raises(TypeError, match=r"Plain.forward\(outputs, targets\) takes none: write"):
        t.init(data.ArrayDataset(X, y, 8, sample_weight=W), mlp(6, 3), Plain(), optim.SGD(0.01))


def test_parts_keep_their_weights_and_evaluation_goes_by_them():
    whole = data.ArrayDataset(X, Y, 8, sample_weight=W)
    parts = whole.split(0.6, 0.2, 0.2, seed=1)
    for part in (*parts, whole.subset([5, 3, 3]), whole.with_batch_size(3)):
        rows = slice(None) if part.rows is None else part.rows
        assert np.array_equal(part.sample_weight, W[rows]) and part.weighted
        batches = list(part.epoch(0, 0, shuffle=False))
        assert np.array_equal(np.concatenate([b.weights() for b in batches]), W[rows])
        assert np.array_equal(batches[0].part(1, 3).weights(), W[rows][1:3])
    assert data.ArrayDataset(X, Y).sample_weight is None and "weighted" in repr(whole)
    model, loss = mlp(6, 3, dtype="float64"), losses.SoftmaxCrossEntropy()
    with Trainer(1, seed=0) as t:
        t.init(parts, model, loss, optim.SGD(0.1))
        t.train()
        for part, got in ((parts.test, t.evaluate()), (parts.train, t.evaluate(parts.train))):
            assert got["loss"] == pytest.approx(loss(model.predict(part.x), part.y, part.sample_weight), rel=1e-12)
        v = parts.validation
        assert t.history["validation_loss"] == pytest.approx([loss(model.predict(v.x), v.y, v.sample_weight)], rel=1e-12)


# ---------------------------------------------------------------------- of samples that are made one by one
class Items(data.ItemDataset):
    def __init__(self, batch_size=8, rows=slice(None), weights=W, **options):
        super().__init__(batch_size, weighted=weights is not None, **options)
        self.x, self.y, self.w = X[rows], Y[rows], None if weights is None else weights[rows]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return (self.x[i], self.y[i]) if self.w is None else (self.x[i], self.y[i], self.w[i])


def stream(**options):
    return data.StreamDataset(lambda: zip(X, Y, W, strict=True), 8, weighted=True, **options)


def chunked(**options):
    def chunks():
        for at in range(0, 53, 11):
            yield X[at:at + 11], Y[at:at + 11], W[at:at + 11]
    return data.StreamDataset(chunks, 8, chunks=True, weighted=True, **options)


def outcome(dataset, strategy, threads, validation=None):
    model = mlp(6, 9, 3)
    with Trainer(2, enable_parallel=threads > 0, thread_count=threads, strategy=strategy, seed=5) as t:
        t.init(data.Split(dataset, validation, None), model, losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
        t.train(shuffle=False)
        return (model.params.tobytes(), tuple(t.history["loss"]), tuple(t.history["validation_loss"]), t.evaluate()["loss"],
                t.stats().samples)


@pytest.mark.parametrize("strategy", [Group(1), Group(2), Shard(3), Local(2, 3)], ids=str)
@pytest.mark.parametrize("make", [Items, stream, chunked])
def test_samples_made_one_by_one_have_the_bits_of_arrays(make, strategy):
    want = outcome(data.ArrayDataset(X, Y, 8, sample_weight=W), strategy, 1, data.ArrayDataset(X, Y, 9, sample_weight=W))
    for threads in (1, 3):
        assert outcome(make(), strategy, threads, Items(9)) == want
    assert want != outcome(data.ArrayDataset(X, Y, 8), strategy, 1, data.ArrayDataset(X, Y, 9, sample_weight=W))


def test_items_have_the_order_of_arrays_where_that_is_drawn():
    assert run(lambda x, y, n, sample_weight: Items(n), Group(2), 2) == run(data.ArrayDataset, Group(2), 2)


@pytest.mark.parametrize("make", [stream, chunked])
def test_a_weight_keeps_to_its_sample_when_a_stream_is_shuffled(make):
    weight_of = {x.tobytes(): w for x, w in zip(X, W, strict=True)}
    seen = 0
    for batch in make(shuffle_buffer=20).epoch(0, 0):
        loaded = batch.load()
        assert [weight_of[x.tobytes()] for x in loaded.x] == loaded.weights().tolist()
        for part in batch.cut(3):
            lo = part.first_id - batch.first_id
            assert np.array_equal(part.load().weights(), loaded.weights()[lo:lo + part.n])
        seen += batch.n
    assert seen == 53


@pytest.mark.parametrize("weight, words", [(-1.0, "is -1.0; weights are finite, and 0 or more"), (np.nan, "is nan"),
                                           (np.ones(2), r"weight has shape \(2,\), and sample|shape \(8, 2\); one weight"),
                                           ("a", "weight")])
def test_a_weight_that_is_none_fails_its_batch_and_names_its_sample(weight, words):
    class Bad(Items):
        def __getitem__(self, i):
            return X[i], Y[i], weight if i == 9 else 1.0

    def samples():
        for i in range(53):
            yield X[i], Y[i], weight if i == 9 else 1.0
    for dataset in (Bad(), data.StreamDataset(samples, 8, weighted=True)):
        first, second, *_ = dataset.epoch(0, 0, shuffle=False)
        assert first.load().weights().tolist() == [1.0] * 8
        with pytest.raises((ValueError, TypeError), match=words) as e:
            second.load()
        assert "sample 9: weight" in str(e.value) or not isinstance(weight, float)


def test_samples_of_other_parts_than_the_dataset_says():
    for dataset, words in (
            (data.StreamDataset(lambda: zip(X, Y, W, strict=True), 8), r"sample 0 of the stream must be \(x, y\); got 3 values "
             r"\(weighted=True takes \(x, y, weight\)\)"),
            (data.StreamDataset(lambda: zip(X, Y, strict=True), 8, weighted=True), r"must be \(x, y, weight\); got 2 values"),
            (data.StreamDataset(lambda: [(X, Y)], 8, chunks=True, weighted=True), r"a chunk of the stream must be \(x, y, we"),
            (data.StreamDataset(lambda: [(X, Y, W[:9])], 8, chunks=True, weighted=True),
             r"as many rows of x as of y and of weights; got shapes \(53, 6\) and \(53,\) and \(9,\)")):
        with pytest.raises(ValueError, match=words):
            next(dataset.epoch(0, 0)).load()

    class Two(Items):
        def __getitem__(self, i):
            return X[i], Y[i]
    with pytest.raises(ValueError, match=r"a sample must be \(x, y, weight\); got 2 values"):
        next(Two().epoch(0, 0)).load()
    with Trainer(1, seed=0) as t, pytest.raises(ValueError, match=r"validation part: a sample must be \(x, y, weight\)"):
        t.init(data.Split(Items(), Two(), None), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))


@pytest.mark.parametrize("w, words", [
    (np.ones(52), r"sample_weight has shape \(52,\); one weight a sample is \(53,\)"), (np.ones((53, 1)), r"\((53|samples), 1\)"),
    (np.r_[np.ones(50), -1, 1, 1], r"sample_weight\[50\] is -1.0; weights are finite"),
    (np.r_[np.ones(51), np.nan, 1], r"\[51\] is nan"), (np.r_[np.inf, np.ones(52)], r"\[0\] is inf"),
    (np.r_[1e31, np.ones(52)], "divide all by their mean")])
def test_weights_are_checked_at_the_door(w, words):
    with pytest.raises(ValueError, match=words):
        data.ArrayDataset(X, Y, sample_weight=w)
    with pytest.raises(ValueError, match=words):
        losses.SoftmaxCrossEntropy()(np.zeros((53, 3)), Y, w)
    assert data.ArrayDataset(X, Y, sample_weight=[1] * 53).sample_weight.dtype == np.float64


def test_the_average_of_submissions_goes_by_their_weights():
    a = GradientAggregator(3)
    a.submit_gradients(np.array([1.0]), 8, 0, weight=0.5)
    a.submit_gradients(np.array([np.nan]), 8, 1, weight=0)
    a.submit_gradients(np.array([4.0]), 1, 2, weight=1.0)
    assert a.get_average_gradients(0) == pytest.approx([3.0]) and a.total_samples == 17
    a.reset()
    a.submit_gradients(np.array([1.0]), 8, 0, weight=0)
    a.submit_failure(1)
    a.submit_failure(2)
    with pytest.raises(NothingArrivedError, match="2 of 3 slots failed, and the weights of all others are 0"):
        a.get_average_gradients(0)
    a.reset()
    with pytest.raises(ValueError, match="weight=nan"):
        a.submit_gradients(np.array([1.0]), 8, 0, weight=np.nan)


def test_a_dataset_says_whether_its_batches_have_weights():
    class Own(data.Dataset):
        input_shape, batch_size, n_batches = (6,), 8, 1

        def epoch(self, seed, epoch, shuffle=True):
            yield data.Batch(X[:8], Y[:8], None, sample_weight=W[:8])
    from tinydl import TrainingError
    with Trainer(1, seed=0) as t:
        t.init(Own(), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
        with pytest.raises(TrainingError) as e:
            t.train()
        assert "a batch with sample_weight, in a dataset that is not `weighted`" in str(e.value.__cause__)


# weights of a sample's places: steps of sequences, or single targets ------------------------------------------------

class EachSquare(losses.PythonLoss):
    """The same of a weight for each number."""

    def forward(self, outputs, targets, sample_weight=None):
        d = outputs - targets
        w = np.full(d.shape, 1 / d.size) if sample_weight is None else sample_weight / sample_weight.sum()
        return float((w * d * d).sum()), 2 * w * d


P = np.random.default_rng(7)
PLACES = {      # a loss, the shape of a sample's output, targets (11, ...), and weights (11, ...) of what it takes them for
    "classes of steps": (losses.SoftmaxCrossEntropy(), (4, 3), P.integers(0, 3, (11, 4)), P.random((11, 4))),
    "classes and more": (losses.SoftmaxCrossEntropy([1.0, 2, 3], 0.1, 2), (4, 3), P.integers(0, 3, (11, 4)), P.random((11, 4))),
    "labels": (losses.SigmoidCrossEntropy(), (12,), P.random((11, 12)), P.random((11, 12))),
    "labels by pos_weight": (losses.SigmoidCrossEntropy(3.0, 0.1), (12,), P.random((11, 12)), P.random((11, 12))),
    "steps of several": (losses.MeanSquaredError(), (4, 3), P.random((11, 4, 3)), P.random((11, 4))),
    "numbers": (losses.MeanAbsoluteError(), (4, 3), P.random((11, 4, 3)), P.random((11, 4, 3))),
    "Huber": (losses.Huber(0.5), (12,), P.random((11, 12)), P.random((11, 12))),
    "Hinge": (losses.Hinge(), (12,), P.integers(0, 2, (11, 12)) * 1.0, P.random((11, 12))),
    "counts": (losses.PoissonNLL(), (4, 3), P.random((11, 4, 3)), P.random((11, 4))),
    "distributions": (losses.KLDivergence(), (4, 3), P.dirichlet(np.ones(3), (11, 4)), P.random((11, 4))),
    "means and variances": (losses.GaussianNLL(), (3, 4), P.random((11, 3, 2)), P.random((11, 3))),
    "codes of steps": (losses.GaussianKL(), (3, 4), P.random((11, 3, 2)), P.random((11, 3))),
    "rare ones": (losses.SigmoidFocal(), (12,), P.integers(0, 2, (11, 12)) * 1.0, P.random((11, 12))),
    "amounts": (losses.TweedieNLL(), (4, 3), P.random((11, 4, 3)), P.random((11, 4, 3))),
    "quantiles": (losses.Quantile([0.1, 0.5, 0.9]), (4, 3), P.random((11, 4, 1)), P.random((11, 4))),
    "in NumPy": (EachSquare(), (12,), P.random((11, 12)), P.random((11, 12))),
}


@pytest.mark.parametrize("row", [row for row in PLACES if row != "in NumPy"])
def test_places_weigh_what_they_are_told_to(row):
    """As samples of one place each do."""
    loss, shape, t, w = PLACES[row]
    w = np.where(w < 0.3, 0, w)
    y = np.random.default_rng(1).standard_normal((11, *shape))
    n = w.size                          # places, each with what is left of the output and of the targets
    got = loss.mean(y, t, w)
    want = loss.mean(y.reshape(n, *y.shape[w.ndim:]) if y.shape[:w.ndim] == w.shape else y.reshape(n, -1),
                     t.reshape(n, *t.shape[w.ndim:]), w.ravel())
    assert got == pytest.approx(want, rel=1e-13)


@pytest.mark.parametrize("strategy", [Group(1), Shard(3)], ids=str)
@pytest.mark.parametrize("row", PLACES)
def test_a_place_of_weight_0_is_as_if_it_were_not_there(row, strategy):
    """Whatever its target is, the same bits are learned; with weights of 1 what is learned without, to rounding."""
    loss, shape, t, w = PLACES[row]
    other = t[::-1].copy()
    keep = w > 0.4
    mixed = np.where(keep.reshape(keep.shape + (1,) * (t.ndim - keep.ndim)), t, other)
    found = []
    for targets, weights in ((t, w * keep), (mixed, w * keep), (t, np.ones(w.shape)), (t, None)):
        model = Model(nn.Sequential(nn.Linear(5, int(np.prod(shape))), nn.Reshape(shape)), dtype="float64", seed=0)
        x = np.random.default_rng(2).standard_normal((11, 5))
        with Trainer(3, strategy=strategy, enable_parallel=True, thread_count=2, seed=0) as trainer:
            trainer.init(data.ArrayDataset(x, targets, 4, sample_weight=weights), model, loss, optim.SGD(0.1))
            trainer.train()
            found.append((model.params.tolist(), trainer.history["loss"], trainer.evaluate(trainer.data.train)["loss"]))
    assert found[0] == found[1] != found[2]
    for a, b in zip(found[2], found[3], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_weights_of_places_that_a_loss_does_not_take():
    x = np.zeros((6, 5))
    for loss, shape, y, w, words in (
            (losses.SoftmaxCrossEntropy(), (4, 3), np.zeros((6, 4), int), (6, 3), r"\(6, 3\); one weight a sample is \(6,\)"),
            (losses.GaussianNLL(), (4, 2), np.zeros((6, 4, 1)), (6, 4, 1),
             r"\(samples, 4, 1\); GaussianNLL\(\) of outputs \(samples, 4, 2\) takes \(samples,\) or \(samples, 4\)"),
            (losses.KLDivergence(), (4,), np.full((6, 4), 0.25), (6, 4), r"KLDivergence\(\) of .* takes \(samples,\)$")):
        model = Model(nn.Sequential(nn.Linear(5, int(np.prod(shape))), nn.Reshape(shape)))
        with Trainer(1) as trainer, pytest.raises(ValueError, match=words):
            trainer.init(data.ArrayDataset(x, y, sample_weight=np.ones(w)), model, loss, optim.SGD())
        with pytest.raises(ValueError, match="sample_weight has shape"):
            loss(np.zeros((6, *shape)), y, np.ones(w))
    parts = data.ArrayDataset(x, {"a": np.zeros((6, 2)), "b": np.zeros((6, 2))}, sample_weight=np.ones(6))
    assert parts.weight_shape == ()
    with pytest.raises(ValueError, match=r"one weight a sample is \(6,\)"):
        data.ArrayDataset(x, {"a": np.zeros((6, 2)), "b": np.zeros((6, 2))}, sample_weight=np.ones((6, 2)))
    joint = Model(inputs=(i := nn.Input((5,))), outputs=(nn.Linear(5, 2)(i),))
    with Trainer(1) as trainer, pytest.raises(ValueError, match=r"(?s)Joint|one output"):
        trainer.init(data.ArrayDataset(x, np.zeros((6, 2)), sample_weight=np.ones((6, 2))), joint,
                     losses.Joint([losses.MeanSquaredError()]), optim.SGD())


def test_feed_takes_weights_of_the_same_shape_alone():
    x, y = np.zeros((6, 5)), np.zeros((6, 2))
    with Trainer(1, seed=0) as trainer:
        trainer.init(data.ArrayDataset(x, y, sample_weight=np.ones((6, 2))), Model(nn.Linear(5, 2)), losses.MeanSquaredError(),
                     optim.SGD())
        with pytest.raises(ValueError, match=r"sample weights of shape \(\); it was \(2,\) before"):
            trainer.feed(data.ArrayDataset(x, y, sample_weight=np.ones(6)))
        trainer.feed(data.ArrayDataset(x, y, sample_weight=np.zeros((6, 2))))
        trainer.train()
    assert trainer.history["loss"] == [0.0]
