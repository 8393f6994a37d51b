"""Evaluators over batches, against scikit-learn's figures on the whole."""
import numpy as np
import pytest
from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

from tinydl import AccuracyEvaluator, Evaluator, Model, RegressionEvaluator, Trainer, data, losses, metrics, nn
from tinydl.metrics import evaluate


def figures(y, outputs, batch=7):
    e = RegressionEvaluator()
    for at in range(0, len(y), batch):
        e.update(outputs[at:at + batch], y[at:at + batch])
    return e.result()


def test_regression_evaluator_over_batches():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((50, 3)).astype(np.float32)
    y = x @ np.array([[1.0], [2], [3]], np.float32) + 10
    m = Model(nn.Linear(3, 1), seed=0)
    d = m.predict(x) - y
    figures = RegressionEvaluator().evaluate(m, data.ArrayDataset(x, y, 7))
    assert figures["mse"] == pytest.approx(np.mean(d**2), rel=1e-6)
    assert figures["mae"] == pytest.approx(np.mean(abs(d)), rel=1e-6)
    assert figures["r2"] == pytest.approx(1 - np.sum(d**2) / np.sum((y - y.mean()) ** 2), rel=1e-6)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_r2_of_several_outputs_is_their_mean(n):
    """Predicting each column's mean is worth 0, however far apart the columns lie."""
    rng = np.random.default_rng(1)
    y = rng.standard_normal((n, 3)) * [1, 5, 0.1] + [0, 10, -10]
    eps = n * 100**2 * np.finfo(float).eps      # a column's mean is 100 times its deviation, and enters squared
    assert figures(y, np.broadcast_to(y.mean(0), y.shape))["r2"] == pytest.approx(0, abs=eps)
    outputs = y + rng.standard_normal(y.shape) * [0.5, 1, 0.1]
    got = figures(y, outputs)
    assert got["r2"] == pytest.approx(r2_score(y, outputs), abs=eps)
    assert got["mse"] == pytest.approx(mean_squared_error(y, outputs), rel=1e-12)
    assert got["mae"] == pytest.approx(mean_absolute_error(y, outputs), rel=1e-12)
    assert figures(y.reshape(n, 3, 1), outputs.reshape(n, 3, 1)) == got


@pytest.mark.parametrize("constant", [-3.0, 0.0, 1e6, 0.1])
def test_r2_where_targets_are_all_equal(constant):
    """As scikit-learn: 1 where all are right, else 0; of fewer than two samples there is none."""
    y = np.full((9, 2), constant)
    y[:, 1] = np.arange(9)
    for outputs, want in ((y, 1), (y + np.array([1e-9, 0]), 0.5), (y + np.array([0, 1]), 0.925), (y + 1, 0.425)):
        assert figures(y, outputs, 4)["r2"] == pytest.approx(want, abs=1e-12)
        if constant != 0.1:     # where the mean of nine 0.1 is not 0.1, scikit-learn 1.9 divides by its rounding error
            assert r2_score(y, outputs) == pytest.approx(want, abs=1e-12)
    assert np.isnan(figures(y[:1], y[:1])["r2"]) and figures(y[:1], y[:1])["mse"] == 0
    assert all(np.isnan(v) for v in figures(y[:0], y[:0]).values())
    assert np.isnan(figures(y, np.full(y.shape, np.nan))["r2"])


def test_argmax_of_all_negative_rows():
    e = AccuracyEvaluator()
    e.update(np.array([[-3.0, -1, -2], [-1, -2, -3]]), np.array([1, 2]))
    assert e.result() == {"accuracy": 0.5}


class Sizes(Evaluator):
    """How many samples came at a time."""

    def start(self):
        self.sizes = []

    def update(self, outputs, targets):
        self.sizes.append(len(targets))

    def result(self):
        return {}


def sizes(dataset, features):
    e = Sizes()
    evaluate(Model(nn.Linear(features, 2), seed=0), dataset, evaluator=e)
    return e.sizes


class Items(data.ItemDataset):
    """The samples of an ArrayDataset, one by one."""

    def __init__(self, arrays):
        super().__init__(arrays.batch_size, drop_last=arrays.drop_last, weighted=arrays.weighted)
        self.parts = [a for a in (arrays.x, arrays.y, arrays.sample_weight) if a is not None]

    def __len__(self):
        return len(self.parts[0])

    def __getitem__(self, i):
        return tuple(a[i] for a in self.parts)


@pytest.mark.parametrize("kind", [lambda arrays: arrays, Items])
def test_several_batches_are_evaluated_at_a_time(kind):
    """As many as have 4096 samples and 262,144 numbers, and one at least."""
    x, y = np.zeros((10_000, 3), np.float32), np.zeros(10_000, int)
    assert sizes(kind(data.ArrayDataset(x, y, 32)), 3) == [4096, 4096, 1808]
    assert sizes(kind(data.ArrayDataset(x, y, 1000)), 3) == [4000, 4000, 2000]
    assert sizes(kind(data.ArrayDataset(x, y, 6000)), 3) == [6000, 4000]
    wide = np.zeros((10, 80_000), np.float32)
    assert sizes(kind(data.ArrayDataset(wide, y[:10], 1)), 80_000) == [3, 3, 3, 1]
    assert sizes(kind(data.ArrayDataset(wide, y[:10], 4)), 80_000) == [4, 4, 2]
    assert sizes(kind(data.ArrayDataset(x[:10], y[:10], 4, drop_last=True)), 3) == [8]
    assert sizes(kind(data.ArrayDataset(x, y, 32).subset([5, 3, 3])), 3) == [3]


@pytest.mark.parametrize("weighted", [False, True])
def test_figures_of_samples_in_arrays_and_one_by_one(weighted):
    rng = np.random.default_rng(0)
    x, y, w = rng.standard_normal((5000, 5)), rng.integers(0, 3, 5000), rng.random(5000)
    m, rows = Model(nn.Linear(5, 3), "float64", seed=0), rng.permutation(5000)[:4500]
    arrays = data.ArrayDataset(x, y, 7, sample_weight=w if weighted else None).subset(rows)
    of_arrays, of_items = (evaluate(m, dataset, loss=losses.SoftmaxCrossEntropy(), evaluator=AccuracyEvaluator())
                           for dataset in (arrays, Items(arrays)))
    assert of_arrays == of_items
    z = m.predict(x[rows])
    each = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), y[rows]]
    assert of_arrays["loss"] == pytest.approx(np.average(each, weights=w[rows] if weighted else None), rel=1e-12)
    assert of_arrays["accuracy"] == np.mean(z.argmax(1) == y[rows])


def test_an_evaluator_that_lacks_a_method_is_refused_at_the_door():
    class Mine(metrics.Evaluator):
        def start(self):
            self.n = 0

        def add(self, outputs, targets):
            self.n += len(outputs)
    with pytest.raises(TypeError, match=r"Mine must have update\(outputs, targets\), result\(\): update is called with"):
        Trainer(1, evaluator=Mine())
    for call, name in ((lambda e: e.update([0], [0]), r"Mine.update\(outputs, targets\)"), (lambda e: e.result(), "Mine.result")):
        with pytest.raises(NotImplementedError, match=name):
            call(Mine())
    with pytest.raises(TypeError, match=r"a figure of your own is a metrics.Evaluator with start, update and result"):
        metrics.MetricsEvaluator(lambda outputs, targets: 0.0)
