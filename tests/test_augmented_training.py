"""Training on augmented pictures: what a model sees, and that its bits do not depend on threads, strategy, driver or a resume."""
import hashlib
import threading

import numpy as np
import pytest
from every_strategy import STEADY, TABLE
from every_strategy import run as train
from picture_cases import NORMALIZE, expected, pictures, soft
from small import DRIVERS

from tinydl import AccuracyEvaluator, Model, Trainer, callbacks, losses, metrics, nn, optim
from tinydl.data import ArrayDataset, Split, augment
from tinydl.parallel.strategies import Local, Shard

X, Y, LABELS = pictures(60, (3, 6, 6)), soft(60, 3), np.arange(60) % 3
EVERYTHING = [augment.RandomCrop(padding=2), augment.RandomHorizontalFlip(), augment.RandomRotation90(), augment.Cutout(2),
              augment.GaussianNoise(0.05)]
SEEN: list[np.ndarray] = []
LOCK = threading.Lock()


class Look(nn.PythonLayer):
    """Keeps what it sees in training."""

    def forward(self, x):
        return x.copy(), x.copy()

    def backward(self, dy, saved):
        with LOCK:
            SEEN.extend(saved)
        return dy


def network(*first):
    return Model(nn.Sequential(*first, nn.Conv2d(3, 4, 3), nn.Dropout(0.2), nn.Flatten(), nn.Linear(64, 3), nn.LogSoftmax()),
                 dtype="float64", seed=0)


def dataset(kind=ArrayDataset, mixed=True, rows=None):
    changes = [*EVERYTHING, augment.MixUp(0.4)] if mixed else EVERYTHING
    whole = kind(X, Y if mixed else LABELS, 8, normalize=NORMALIZE, augment=changes)
    return whole if rows is None else whole.subset(rows)


def digest(t):
    return hashlib.sha256(t.model.params.tobytes()).hexdigest()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("strategy", TABLE)
def test_what_a_model_sees_in_an_epoch(driver, strategy):
    """Each sample of the part once, as the reference makes it, whatever batches and pieces it comes in."""
    rows = np.arange(5, 54)
    SEEN.clear()
    model = network(nn.Linear(6, 6, bias=False), Look())      # a parameter before, so that the layer has a backward pass
    model.layer.layers[0].weight.data[...] = np.eye(6)
    model.freeze("2.*")
    t = train(dataset(DRIVERS[driver], rows=rows), model, TABLE[strategy][0](), 2, epochs=1, loss=losses.KLDivergence(),
              optimizer=optim.SGD(1e-12))
    t.shutdown()
    wanted = expected(X, Y, [*EVERYTHING, augment.MixUp(0.4)], NORMALIZE, seed=7, epoch=0, rows=rows)[0][rows]
    assert len(SEEN) == len(rows)

    def ordered(x):
        x = np.reshape(x, (len(rows), -1))
        return x[np.argsort(x[:, 0])]
    np.testing.assert_allclose(ordered(SEEN), ordered(wanted), atol=1e-7)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("strategy", STEADY)
def test_the_same_bits_for_any_number_of_threads(driver, strategy):
    found = set()
    for threads in (1, 2, 3):
        t = train(dataset(DRIVERS[driver]), network(), TABLE[strategy][0](), threads, loss=losses.KLDivergence())
        found.add(digest(t))
        t.shutdown()
    assert len(found) == 1


def test_the_drivers_give_the_same_bits():
    found = {digest(train(dataset(kind), network(), "serial", 1, loss=losses.KLDivergence())) for kind in DRIVERS.values()}
    assert len(found) == 1


class Stop(callbacks.Callback):
    """In the midst of the second epoch."""

    every = 1

    def on_update(self, trainer, updates):
        if trainer.epoch == 1 and updates >= 2:
            trainer.stop()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("strategy", ["serial", Shard(2), Local(sync_every=1, n_models=2)], ids=str)
def test_the_same_bits_after_a_resume_in_the_midst_of_an_epoch(driver, strategy, tmp_path):
    trainers = []

    def trainer(threads, epochs=2, **options):
        t = Trainer(epochs, strategy=strategy, enable_parallel=True, thread_count=threads, seed=4, **options)
        trainers.append(t)
        t.init(dataset(DRIVERS[driver]), network(), losses.KLDivergence(), optim.Adam(0.01))
        return t
    whole, first, second = trainer(2), trainer(1, callbacks=[Stop()]), trainer(3, 1)
    whole.train()
    assert first.train().interrupted and first.epoch == 1 and 0 < first.optimizer.t < whole.optimizer.t
    first.save_checkpoint(tmp_path / "c")
    second.load_checkpoint(tmp_path / "c")
    second.train()
    assert digest(second) == digest(whole) and second.epoch == 2
    for t in trainers:
        t.shutdown()


def test_each_epoch_has_its_own_pictures():
    model = network()
    epochs = [np.concatenate([b.arrays()[0] for b in dataset().epoch(0, e, shuffle=False)]) for e in (0, 1)]
    assert (epochs[0] != epochs[1]).mean() > 0.5
    with Trainer(1, seed=0) as t:       # an optimizer that moves nothing: the loss tells pictures apart
        t.init(dataset(mixed=False), model, losses.SoftmaxCrossEntropy(), optim.SGD(1e-30))
        for _ in range(3):
            t.train()
        assert len(set(t.history["loss"])) == 3


@pytest.mark.parametrize("driver", DRIVERS)
def test_validation_and_evaluation_see_no_augmentation(driver):
    """Also where they look at the train part itself."""
    data = dataset(DRIVERS[driver], mixed=False)
    with Trainer(1, evaluator=AccuracyEvaluator(), seed=0) as t:
        t.init(Split(data, data, data), network(), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
        plain = ArrayDataset(NORMALIZE(X).astype(np.float64), LABELS, 8)
        loss = metrics.evaluate(t.model, plain, loss=losses.SoftmaxCrossEntropy())["loss"]
        exact = metrics.evaluate(t.model, data.with_transforms(NORMALIZE), loss=losses.SoftmaxCrossEntropy())["loss"]
        assert t.history["validation_loss"][-1] == exact == t.evaluate()["loss"] == pytest.approx(loss, rel=1e-5)
    assert len(data.augment) == 5


def test_feeding_and_profiling_augmented_data():
    with Trainer(1, seed=0) as t:
        t.init(dataset(mixed=False), network(), losses.SoftmaxCrossEntropy(), optim.SGD(0.01))
        t.train()
        before = digest(t)
        t.feed(dataset(mixed=False))
        t.train()
        assert digest(t) != before and t.profile(steps=2) is not None
