"""What Trainer.init refuses before anything changes: held-out sets, evaluators and callbacks that do not fit."""
import numpy as np
import pytest
from small import classification, mlp, trainer

from tinydl import AccuracyEvaluator, Evaluator, RegressionEvaluator, Trainer, data, losses, optim
from tinydl.callbacks import EarlyStopping


class Items(data.ItemDataset):
    def __init__(self, x, y, batch_size=8, drop_last=False):
        super().__init__(batch_size, drop_last)
        self.x, self.y = x, y

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        return self.x[i], self.y[i]


X, Y = classification(40)
FLOATS = X[:, :3].copy()
NO_ITEMS = Items(X[:0], Y[:0])


def stream(x, y, **options):
    return data.StreamDataset(lambda: iter([(x, y)] if options.get("chunks") else zip(x, y, strict=True)), 8, **options)


@pytest.mark.parametrize("held_out, message", [
    (data.ArrayDataset(X[:, :5], Y), "last axis must be 6"),
    (data.ArrayDataset(X, Y + 5), "class labels run from 5 to 7"),
    (data.ArrayDataset(X, FLOATS), "needs integer class labels"),
    (data.ArrayDataset(np.ones((9, 2, 6)), np.zeros(9, int)), r"samples of shape \(2, 6\) give outputs \(2, 3\)"),
    (Items(X[:, :5], Y), "last axis must be 6"),
    (Items(X, Y + 5), "class labels run from"),
    (Items(X, FLOATS), "needs integer class labels"),
    (Items(X, Y, 64, drop_last=True), "is empty"),
    (NO_ITEMS, "is empty"),
    (stream(X[:, :5], Y), "last axis must be 6"),
    (stream(X, Y + 5), "class labels run from"),
    (stream(X, Y + 5, chunks=True), "class labels run from 5 to 7"),
    (stream(X, FLOATS, chunks=True), "integer class labels"),
    (stream(X, Y, input_shape=(5,)), "last axis must be 6"),
    (stream(X[:, :5], Y, input_shape=(6,)), "in a dataset of input_shape"),
    (stream(X[:0], Y[:0]), "the stream is empty"),
    (stream(X[:0], Y[:0], input_shape=(6,)), "the stream is empty"),
    ((X, Y), "must be a Dataset or None; got tuple")])
@pytest.mark.parametrize("place", [1, 2])
def test_validation_and_test_sets_are_checked_before_training(held_out, message, place):
    t = trainer(evaluator=AccuracyEvaluator())
    t.train()
    before = t.data, t.model, t.history, t.epoch
    parts = [data.ArrayDataset(X, Y, 8), None, None]
    parts[place] = held_out
    with pytest.raises((ValueError, TypeError), match=f"the {('', 'validation', 'test')[place]} part.*{message}"):
        t.init(data.Split(*parts), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam())
    assert (t.data, t.model, t.history, t.epoch) == before


def test_an_empty_set_is_an_error_and_never_the_test_part():
    t = Trainer(1, evaluator=AccuracyEvaluator(), seed=0)
    with pytest.raises(ValueError, match="the training set is empty: Items gives no batch"):
        t.init(NO_ITEMS, mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam())
    t.init(data.ArrayDataset(X, Y, 8).split(0.5, 0.0, 0.5), mlp(6, 9, 3), losses.SoftmaxCrossEntropy(), optim.Adam())
    for empty in (NO_ITEMS, stream(X[:0], Y[:0], input_shape=(6,))):
        with pytest.raises(ValueError, match=r"the dataset is empty: .* gave no sample"):
            t.evaluate(empty)
        with pytest.raises(ValueError, match="the dataset is empty"):
            t.evaluator.evaluate(t.model, empty)


class Own(Evaluator):
    """Its figures have names that nobody knows before."""

    def start(self):
        self.n = 0

    def update(self, outputs, targets):
        self.n += len(targets)

    def result(self):
        return {"n": self.n}


ONE_HOT, BINARY = np.eye(3, dtype=np.float32)[Y], (Y > 0).astype(np.float32)


@pytest.mark.parametrize("evaluator, y, message", [
    (AccuracyEvaluator(), FLOATS, r"targets must be 0 to 2, or 3 columns of 0 to 1; y is float32 of shape \(40, 3\)"),
    (AccuracyEvaluator(), FLOATS[:, 0], "targets must be 0 to 1, or"),
    (AccuracyEvaluator(), BINARY / 2, "targets must be 0 to 1"),
    (AccuracyEvaluator(), Y, "targets must be 0 to 1"),
    (AccuracyEvaluator(), ONE_HOT, None), (AccuracyEvaluator(), BINARY, None), (AccuracyEvaluator(), BINARY[:, None], None),
    (RegressionEvaluator(), FLOATS, None), (RegressionEvaluator(), BINARY, None), (Own(), FLOATS, None)])
@pytest.mark.parametrize("held_out", [True, False])
def test_an_evaluator_of_another_kind_is_refused(evaluator, y, message, held_out):
    set_ = data.ArrayDataset(X, y, 8)
    t = Trainer(1, evaluator=evaluator, seed=0)
    arguments = mlp(6, y[:1].size), losses.MeanSquaredError(), optim.Adam()
    parts = data.Split(set_, set_, None) if held_out else set_
    if message is None:
        t.init(parts, *arguments)
        t.train()
    else:
        with pytest.raises((ValueError, TypeError), match=message):
            t.init(parts, *arguments)


def test_regression_figures_of_classes_are_refused():
    t = Trainer(1, evaluator=RegressionEvaluator(), seed=0)
    with pytest.raises(ValueError, match=r"shaped like the output, \(samples, 3\); y is int64 of shape \(40,\)"):
        t.init(data.ArrayDataset(X, Y, 8), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.Adam())
    t.evaluator = AccuracyEvaluator()
    with pytest.raises(ValueError, match=r"a score a class, or one in all; the model's output is \(2, 3\)"):
        t.init(data.ArrayDataset(np.ones((4, 2, 6)), np.ones((4, 2, 3)), 2), mlp(6, 3), losses.MeanSquaredError(), optim.Adam())


@pytest.mark.parametrize("callback, validates, evaluator, message", [
    (EarlyStopping(), False, AccuracyEvaluator(), "EarlyStopping needs 'validation_loss'; .*of a validation part"),
    (EarlyStopping("accuracy"), False, AccuracyEvaluator(), "'accuracy'; .*of a validation part"),
    (EarlyStopping("acuracy"), True, AccuracyEvaluator(), "'acuracy'; an epoch will have .*, validation_loss, accuracy$"),
    (EarlyStopping("accuracy"), True, None, "'accuracy'; an epoch will have .*, validation_loss$"),
    (EarlyStopping("r2"), True, AccuracyEvaluator(), "'r2'"), (EarlyStopping(), True, None, None),
    (EarlyStopping("loss"), False, None, None), (EarlyStopping("samples_per_second", highest=True), False, None, None),
    (EarlyStopping("accuracy"), True, AccuracyEvaluator(), None), (EarlyStopping("n"), True, Own(), None)])
def test_a_figure_that_will_not_be_there_is_refused(callback, validates, evaluator, message):
    set_ = data.ArrayDataset(X, Y, 8)
    t = Trainer(1, evaluator=evaluator, seed=0, callbacks=[callback])
    arguments = data.Split(set_, set_ if validates else None, None), mlp(6, 3), losses.SoftmaxCrossEntropy(), optim.Adam()
    if message is None:
        t.init(*arguments)
        t.train()
    else:
        with pytest.raises(ValueError, match=message):
            t.init(*arguments)
