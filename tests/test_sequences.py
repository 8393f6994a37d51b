"""Losses over sequences: outputs (B, T, C), labels (B, T), some of them ignored."""
import numpy as np
import pytest
from small import DRIVERS

from tinydl import AccuracyEvaluator, Model, Trainer, data, losses, nn, optim, testing

rng = np.random.default_rng(2)
X, Y = rng.standard_normal((29, 5, 4)), rng.integers(0, 3, (29, 5))
for row, end in enumerate(rng.integers(0, 6, 29)):      # sequences of 0 to 5 places, filled up
    Y[row, end:] = -100
IGNORING = losses.SoftmaxCrossEntropy([1.0, 2.0, 0.5], 0.1, ignore_index=-100)


def train(kind, threads, k, x=X, y=Y, w=None, loss=IGNORING, shape=(5, 4)):
    model = Model(nn.Linear(4, 3), dtype="float64", seed=0)
    with Trainer(2, evaluator=AccuracyEvaluator(-100), enable_parallel=True, thread_count=threads, batches_per_update=k,
                 seed=1) as t:
        parts = data.Split(kind(x, y, 6, sample_weight=w), data.ArrayDataset(x, y), None)
        t.init(parts, model, loss, optim.SGD(0.5))
        t.train(shuffle=False)
        return model.params, t.history["loss"], t.evaluate()


@pytest.mark.parametrize("w", [None, rng.random(29)], ids=["all alike", "weights"])
def test_places_that_are_ignored_count_nothing(w):
    """The same as training on the places themselves, in groups as large as all."""
    known = Y.ravel() >= 0
    places = train(data.ArrayDataset, 1, 200, X.reshape(-1, 4)[known], Y.ravel()[known],
                   None if w is None else w.repeat(5)[known])
    got = [train(kind, n, 5, w=w) for kind in DRIVERS.values() for n in (1, 2, 3)]
    for params, history, figures in got:
        np.testing.assert_allclose(params, places[0], rtol=1e-11, atol=1e-13)
        assert history == pytest.approx(places[1], rel=1e-12)
        assert figures == pytest.approx(places[2], rel=1e-12)
        assert params.tobytes() == got[0][0].tobytes() and history == got[0][1]


def test_gradients_and_nothing_but_ignored_labels():
    assert testing.check_gradients(nn.Linear(4, 3), X, loss=IGNORING, targets=Y) < 1e-6
    assert testing.check_gradients(nn.Linear(4, 3), X, loss=losses.SoftmaxCrossEntropy(), targets=np.abs(Y) % 3) < 1e-6
    nothing = np.full((29, 5), -100)
    assert IGNORING.mean(X[..., :3], nothing) == (0, 0)
    params, history, _ = train(data.ArrayDataset, 2, 2, y=np.where(np.arange(29)[:, None] < 12, -100, np.abs(Y) % 3))
    assert np.isfinite(params).all() and np.isfinite(history).all()


def test_labels_that_do_not_fit():
    for y, words in ((Y[:, :3], r"integer class labels of shape \(samples, 5\); y is int64 of shape \(29, 3\)"),
                     (Y[:, 0] % 3, r"\(samples, 5\)"), (np.where(Y < 0, 7, Y), "class labels run from 0 to 7"),
                     (X[..., 0], "integer class labels")):
        with pytest.raises(ValueError, match=words):
            IGNORING(X[..., :3], y)
    with pytest.raises(ValueError, match=r"class labels run from -100 to 2.*: ignore_index=-100 of the loss"):
        losses.SoftmaxCrossEntropy()(X[..., :3], Y)
    with pytest.raises(ValueError, match=r"weights of 2 classes; the model's output is \(5, 3\)"):
        losses.SoftmaxCrossEntropy([1, 2])(X[..., :3], Y)
    assert data.ArrayDataset(X, Y).output_shape == (5, 3) and data.ArrayDataset(X, Y).split(0.5).train.y.shape == (15, 5)
    with pytest.raises(ValueError, match="at most one negative number"):
        data.ArrayDataset(X[:2], [[0, -1], [1, -2]])
    for wrong in ({"weight": [1, -1]}, {"weight": [[1.0]]}, {"label_smoothing": 1.0}, {"label_smoothing": -0.1}):
        with pytest.raises(ValueError):
            losses.SoftmaxCrossEntropy(**wrong)
    with pytest.raises(TypeError, match=r"ignore_index=0\.5"):
        losses.SoftmaxCrossEntropy(ignore_index=0.5)
