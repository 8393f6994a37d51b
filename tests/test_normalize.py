"""Normalize: what it computes, its statistics, and where a dataset's samples meet it."""
import re

import numpy as np
import pytest
from picture_cases import NORMALIZE, pictures
from small import DRIVERS

from tinydl import AccuracyEvaluator, Model, Trainer, losses, nn, optim
from tinydl.data import ArrayDataset, ItemDataset, Normalize, Split, augment


def by_hand(x, n=NORMALIZE):
    unit = 255 if x.dtype == np.uint8 else 1
    return (x / np.float64(unit) - n.mean[:, None, None]) / n.std[:, None, None]


def model(dtype="float32", shape=(3, 9, 9)):
    return Model(nn.Sequential(nn.Reshape((int(np.prod(shape)),)), nn.Linear(int(np.prod(shape)), 4), nn.Tanh(),
                               nn.Linear(4, 3)), dtype=dtype, seed=0)


@pytest.mark.parametrize("source, dtype", [("uint8", "float32"), ("float32", "float32"), ("float64", "float64")])
def test_called_on_arrays(source, dtype):
    x = pictures(dtype=source)
    got = NORMALIZE(x)
    assert got.dtype == dtype and got.shape == x.shape
    np.testing.assert_allclose(got, by_hand(x), rtol=2 * np.finfo(dtype).eps, atol=8 * np.finfo(dtype).eps)
    assert NORMALIZE(x[:0]).shape == (0, 3, 9, 9)


def test_statistics_of_samples_that_are_made_one_by_one_are_refused():
    class Items(ItemDataset):
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return np.ones((3, 2, 2)), 0
    with pytest.raises(ValueError, match=r"Items makes its samples as they are asked for: give an array of some, np.stack"):
        Normalize.of(Items())


@pytest.mark.parametrize("shape", [(7,), (9, 9), (2, 3, 4, 5), ()])
def test_samples_of_other_shapes_take_one_number(shape):
    x = pictures(5, shape)
    np.testing.assert_allclose(Normalize(0.5, 0.25)(x), (x / 255 - 0.5) / 0.25, atol=1e-6)
    assert (Normalize()(x) == (x / 255).astype(np.float32)).all()


@pytest.mark.parametrize("source", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 5, 4), (5, 4), (7,)])
def test_statistics(source, shape):
    x = pictures(3000, shape, source)
    found = Normalize.of(x)
    axes = (0, 2, 3) if len(shape) == 3 else None
    unit = x.astype(np.float64) / (255 if source == "uint8" else 1)
    np.testing.assert_allclose(found.mean, np.atleast_1d(unit.mean(axes)), rtol=1e-13)
    np.testing.assert_allclose(found.std, np.atleast_1d(unit.std(axes)), rtol=1e-12)
    again = NORMALIZE if len(shape) == 3 else Normalize(0.5, 0.25)
    assert np.abs(found(x).astype(np.float64).mean(axes)).max() < 1e-6 and repr(again) == repr(eval(repr(again)))


def test_statistics_are_of_a_parts_own_samples_and_of_a_constant_channel_1():
    x = pictures(50)
    x[:, 1] = 77
    part = ArrayDataset(x, np.zeros(50)).split(0.5, test=0.5).train
    found, whole = Normalize.of(part), Normalize.of(x)
    assert repr(found) == repr(Normalize.of(part.x)) != repr(whole) and found.std[1] == 1 and found.mean[1] == 77 / 255
    many = np.full((3, 1, 1000, 1200), 250, np.uint8)           # in several pieces
    many[0] = 251
    assert Normalize.of(many).std[0] == pytest.approx(np.sqrt(2) / 3 / 255, rel=1e-12)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_normalized_dataset_trains_validates_and_predicts_as_one_of_normalized_floats(driver, dtype, tmp_path):
    """float32 bit for bit, since pictures are rounded once; also where the bytes are mapped into memory."""
    x, y = pictures(60), np.arange(60) % 3
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    made = by_hand(x).astype(dtype) if dtype == "float64" else NORMALIZE(x)
    found = []
    for images, normalize in ((x, NORMALIZE), (mapped, NORMALIZE), (made, None)):
        dataset = DRIVERS[driver](images, y, 16, normalize=normalize)
        train, _, test = dataset.split(0.7, test=0.3)
        m = model(dtype)
        with Trainer(2, evaluator=AccuracyEvaluator(), seed=0) as t:
            t.init(Split(train, test, test), m, losses.SoftmaxCrossEntropy(), optim.SGD(0.1))
            t.train()
            figures = t.evaluate()
        assert dataset.x is images and dataset.normalize is normalize
        found.append((m.params, t.history["validation_loss"][-1], figures["loss"], m.predict(dataset), m.predict(test),
                      m.predict(images if normalize is None else normalize(images, dtype))))
    for other in found[:2]:
        for a, b in zip(other, found[2], strict=True):
            if dtype == "float32":
                assert np.array_equal(a, b)
            else:
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)
    assert np.array_equal(found[0][3], found[0][5])


def test_bytes_without_normalize_are_numbers_to_255_as_ever():
    x, y = pictures(20), np.arange(20) % 3
    found = []
    for images in (x, x.astype(np.float32)):
        m = model()
        with Trainer(1, seed=0) as t:
            t.init(ArrayDataset(images, y, 8), m, losses.SoftmaxCrossEntropy(), optim.SGD(1e-4))
            t.train()
        found.append(m.params)
        assert (m.predict(x) == m.predict(ArrayDataset(x, y))).all()
    assert (found[0] == found[1]).all()
    (batch,) = ArrayDataset(x, y).epoch(0, 0, shuffle=False)
    assert batch.prepared is None and batch.arrays()[0].dtype == np.uint8


@pytest.mark.parametrize("call, error, says", [
    (lambda: Normalize([[0.5]]), ValueError, "Normalize(mean=[[0.5]]): a finite number, or one for each channel"),
    (lambda: Normalize(float("nan")), ValueError, "Normalize(mean=nan)"),
    (lambda: Normalize(0, 0), ValueError, "Normalize(std=0): above 0"),
    (lambda: Normalize([1, 2], [1, 2, 3]), ValueError, "2 means and 3 standard deviations"),
    (lambda: NORMALIZE(pictures(shape=(2, 9, 9))), ValueError,
     "3 means to normalize samples of shape (2, 9, 9), which have 2 channels"),
    (lambda: NORMALIZE(pictures(shape=(9, 9, 3))), ValueError, "x.transpose(0, 3, 1, 2) brings channels to the front"),
    (lambda: NORMALIZE(pictures(shape=(9, 9))), ValueError, "1 channel: samples with channels are (C, H, W)"),
    (lambda: NORMALIZE(pictures().astype(np.int16)), ValueError,
     "uint8, which it divides by 255, or floats as they are; got int16"),
    (lambda: Normalize.of(pictures(0)), ValueError, "there are no values in images of shape (0, 3, 9, 9)"),
    (lambda: ArrayDataset(pictures(4), np.zeros(4), normalize=(0.5, 0.5)), TypeError,
     "normalize must be a Normalize, such as data.Normalize(mean=0.5, std=0.25); got tuple"),
    (lambda: ArrayDataset(pictures(4, (9, 9, 3)), np.zeros(4), normalize=NORMALIZE), ValueError, "brings channels to the front"),
    (lambda: ArrayDataset(pictures(4).astype(int), np.zeros(4), normalize=Normalize()), ValueError, "got int64")])
def test_what_cannot_be_is_an_error(call, error, says):
    with pytest.raises(error, match=re.escape(says)):
        call()


def test_predictions_are_not_augmented():
    x, y = pictures(20), np.arange(20) % 3
    flipped = ArrayDataset(x, y, normalize=NORMALIZE, augment=[augment.RandomHorizontalFlip(1.0)])
    m = model()
    assert (m.predict(flipped) == m.predict(NORMALIZE(x))).all()
