"""Trainer.feed: other data for a training that goes on."""
import numpy as np
import pytest

from tinydl import Model, Trainer, callbacks, data, losses, nn, optim

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(60, 4)), rng.integers(0, 3, 60)


def begin(dataset, **options):
    trainer = Trainer(1, seed=0, **options)
    trainer.init(dataset, Model(nn.Linear(4, 3), seed=0), losses.SoftmaxCrossEntropy(), optim.Adam(0.01))
    return trainer


@pytest.mark.parametrize("options", [{}, {"strategy": "shard", "thread_count": 2, "shards_per_batch": 2}], ids=["1", "2"])
def test_pieces_are_the_whole(options):
    """Batches that come in three datasets are those of one, to the same bits; epochs and history go on."""
    with begin(data.ArrayDataset(X, Y, 10), **options) as whole:
        whole.train(shuffle=False)
    with begin(data.ArrayDataset(X[:30], Y[:30], 10), **options) as pieces:
        pieces.train(shuffle=False)
        for rows in (slice(30, 40), slice(40, 60)):
            pieces.feed(data.ArrayDataset(X[rows], Y[rows], 10))
            pieces.train(shuffle=False)
    np.testing.assert_array_equal(pieces.model.params, whole.model.params)
    assert pieces.epoch == len(pieces.history) == 3
    assert [r.samples for r in pieces.history] == [30, 10, 20]


@pytest.mark.parametrize("other, says", [
    (data.ArrayDataset(X[:, :3], Y, 10), r"samples of shape \(3,\); it was \(4,\) before"),
    (data.ArrayDataset(X, Y, 11), "batches of 11; there is room for 10"),
    (data.ArrayDataset(X, Y, 10, sample_weight=np.ones(60)), "sample weights: True; it was False before"),
    (data.ArrayDataset(X, Y + 1, 10), "class labels run from 1 to 3")], ids=["shape", "batches", "weights", "labels"])
def test_what_does_not_fit(other, says):
    """Then nothing has changed."""
    first = data.ArrayDataset(X, Y, 10)
    trainer = begin(first)
    with pytest.raises(ValueError, match=says):
        trainer.feed(other)
    assert trainer.data.train is first
    trainer.train()


def test_not_within_an_epoch():
    class Stop(callbacks.Callback):
        every = 1

        def on_update(self, trainer, updates):
            trainer.stop()
    trainer = begin(data.ArrayDataset(X, Y, 10), callbacks=[Stop()])
    trainer.train()
    with pytest.raises(RuntimeError, match="an epoch is under way"):
        trainer.feed(data.ArrayDataset(X, Y, 10))
