"""Augmentation: kernels against their reference, their draws, what a dataset's parts keep of them, errors."""
import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from picture_cases import EPOCH, NORMALIZE, SEED, TABLE, expected, pictures, soft

from tinydl import Model, Trainer, _kernels, data, losses, nn, optim
from tinydl._kernels import reference_pictures as reference
from tinydl._kernels import schema
from tinydl._kernels.engine import MIX, Pictures, Source
from tinydl.data import ArrayDataset, Normalize, augment
from tinydl.data.preparation import epoch_key

rows_of_table = pytest.mark.parametrize("name", TABLE)


def bound(dtype, largest):
    """The normal numbers of the noise have some roundings more, and their logarithm is of a draw that is rounded to dtype."""
    return 20 * np.finfo(dtype).eps * largest


def test_every_augmentation_has_a_class_a_reference_and_a_row():
    classes = {c for c in vars(augment).values() if inspect.isclass(c) and issubclass(c, augment.Augmentation)
               and not inspect.isabstract(c) and not c.__name__.startswith("_")}
    assert {c.kind for c in classes} == {*schema.CHANGES, "mix"} and {c.__name__ for c in classes} <= set(augment.__all__)
    assert {type(a) for row in TABLE.values() for a in row} == classes
    for name, numbers in schema.CHANGES.items():
        assert list(inspect.signature(reference.CHANGES[name]).parameters) == ["x", "d", *numbers]


@rows_of_table
@pytest.mark.parametrize("normalize", [None, NORMALIZE])
@pytest.mark.parametrize("source, dtype", [("uint8", "float32"), ("uint8", "float64"), ("float32", "float32"),
                                           ("float64", "float32")])
def test_against_the_reference(name, normalize, source, dtype):
    x, y = pictures(dtype=source), soft(40)
    dataset = ArrayDataset(x, y, 16, normalize=normalize, augment=TABLE[name])
    wanted, wanted_y = expected(x, y, TABLE[name], normalize)
    seen = 0
    for batch in dataset.epoch(SEED, EPOCH):
        got, got_y = batch.arrays(dtype)
        assert got.dtype == dtype and got.shape == (batch.n, 3, 9, 9)
        np.testing.assert_allclose(got, wanted[batch.indices], rtol=0, atol=bound(dtype, np.abs(wanted).max()))
        np.testing.assert_allclose(got_y, wanted_y[batch.indices], rtol=0, atol=bound("float32", 1))
        seen += batch.n
    assert seen == 40
    if name != "two of a kind":
        assert np.abs(wanted - expected(x, y, [], normalize)[0]).max() > 0.5


@rows_of_table
def test_pictures_of_one_channel_need_no_axis_for_it(name):
    x = pictures(shape=(9, 9))
    flat, with_axis = (ArrayDataset(a, soft(40), normalize=Normalize(0.3, 2), augment=TABLE[name]) for a in (x, x[:, None]))
    a, b = (d.prepared(SEED, EPOCH).inputs(d.x, None) for d in (flat, with_axis))
    assert a.shape == (40, 9, 9) and (a == b[:, 0]).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 5), (1, 5, 1), (3, 2, 2), (1, 8, 17)])
def test_nothing_outside_a_picture_is_read_or_written(shape):
    """NaN lies around the source, and marks around the output."""
    C, H, W = shape
    changes = [("crop", {"height": H + 2, "width": W + 2, "edge": edge, "fill": 0}) for edge in (0, 1)]
    changes += [("cutout", {"height": h, "width": w, "p": 1, "fill": 0}) for h, w in ((1, 1), (2 * H, 2 * W))]
    changes += [("horizontal_flip", {"p": 1}), ("vertical_flip", {"p": 1}), ("gaussian_noise", {"sigma": 1})]
    changes += [("rotate90", {})] if H == W else []
    n = 30
    memory = np.full((n + 2, C, H, W), np.nan)
    memory[1:-1] = pictures(n, shape, np.float64)
    for change in changes:
        pic = Pictures(shape, np.ones(C), np.zeros(C), [change], np.linspace(0, 1, MIX + 1), np.arange(n))
        out = np.full((n + 2) * C * H * W, -7.0)
        inner = out[C * H * W:-C * H * W].reshape(n, -1)
        _kernels.call("gather_rows", sources=[Source(memory[1:-1], pic, 5)], out=inner, source=0)
        assert np.isfinite(inner).all() and (out[:C * H * W] == -7).all() and (out[-C * H * W:] == -7).all(), change


def test_the_same_bits_on_every_instruction_set():
    where = {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = {subprocess.run([sys.executable, "-c", "import picture_cases; print(picture_cases.digest())"], check=True, text=True,
                            capture_output=True, env=os.environ | where | {"TINYDL_ISA": isa}).stdout
             for isa in _kernels.isa_available if isa != "generic"}
    assert len(found) <= 1


# ------------------------------------------------------------------ draws
def drawn(augmentation, n=4000, shape=(1, 7, 7), seed=SEED, epoch=EPOCH, picture=None):
    """n samples of one picture."""
    x = np.broadcast_to(np.arange(1, 1 + np.prod(shape)).reshape(shape) if picture is None else picture, (n, *shape))
    dataset = ArrayDataset(np.array(x, np.float32), soft(n), augment=[augmentation])
    return dataset.prepared(seed, epoch).inputs(dataset.x, None)


def as_likely(found, n_kinds):
    """Whether n_kinds kinds are as likely: chi square, of mean n_kinds - 1 and variance twice that, within five deviations."""
    _, counts = np.unique(found, return_counts=True, axis=0)
    wanted = len(found) / n_kinds
    assert len(counts) == n_kinds
    assert ((counts - wanted) ** 2 / wanted).sum() < n_kinds - 1 + 5 * np.sqrt(2 * (n_kinds - 1))


@pytest.mark.parametrize("augmentation, n_kinds", [
    (augment.RandomHorizontalFlip(), 2), (augment.RandomVerticalFlip(), 2), (augment.RandomRotation90(), 4),
    (augment.RandomCrop(padding=2), 25), (augment.RandomCrop(padding=(0, 3), padding_mode="edge"), 7), (augment.Cutout(1), 49)])
def test_what_is_drawn_is_as_likely(augmentation, n_kinds):
    as_likely(drawn(augmentation).reshape(4000, -1), n_kinds)


@pytest.mark.parametrize("p", [0.0, 0.1, 0.9, 1.0])
def test_probabilities(p):
    for augmentation in (augment.RandomHorizontalFlip(p), augment.RandomVerticalFlip(p), augment.Cutout(5, p)):
        x = drawn(augmentation)
        share = (x != np.arange(1, 50).reshape(1, 7, 7)).any((1, 2, 3)).mean()
        assert abs(share - p) <= 5 * np.sqrt(p * (1 - p) / 4000)


def test_draws_of_samples_epochs_seeds_and_places_in_the_list_do_not_go_together():
    """Flips: each by itself half of the time, and two together alike half of the time."""
    def flips(seed, epoch, place):
        x = np.arange(1, 3, dtype=np.float32) * np.ones((4000, 1, 1), np.float32)
        before = [augment.RandomVerticalFlip()] * place         # of pictures of one row: nothing
        dataset = ArrayDataset(x, soft(4000), augment=[*before, augment.RandomHorizontalFlip()])
        return dataset.prepared(seed, epoch).inputs(x, None)[:, 0, 0] == 2
    one = flips(0, 0, 0)
    for other in (flips(0, 0, 1), flips(0, 1, 0), flips(1, 0, 0), np.roll(one, 1)):
        assert abs((one == other).mean() - 0.5) < 5 * 0.5 / np.sqrt(4000)
    assert epoch_key(0, 1) != epoch_key(1, 0)


def test_noise_is_normal():
    z = (drawn(augment.GaussianNoise(2.0), 4000, (1, 7, 7), picture=np.zeros((1, 7, 7))) / 2).astype(np.float64).ravel()
    n = z.size
    assert abs(z.mean()) < 5 / np.sqrt(n)                       # the moments' variances: 1, 2, 15, 96 / n
    assert abs((z**2).mean() - 1) < 5 * np.sqrt(2 / n)
    assert abs((z**3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((z**4).mean() - 3) < 5 * np.sqrt(96 / n)
    z = z.reshape(4000, 49)
    together = z.T @ z / 4000 - np.eye(49)                      # within a picture, cosines and sines among them
    assert np.abs(together).max() < 6 * np.sqrt(2 / 4000)


@pytest.mark.parametrize("alpha", [0.05, 0.2, 1.0, 8.0])
def test_shares_of_mixtures_are_of_the_beta_distribution(alpha):
    q = augment.MixUp(alpha).quantiles()
    assert q[0] == 0 and q[-1] == 1 and (np.diff(q) >= 0).all() and (q + q[::-1] == 1).all()
    steps = np.interp(np.linspace(0, MIX, 100 * MIX), np.arange(MIX + 1), q)
    assert steps.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.01)
    if alpha == 1:
        np.testing.assert_allclose(q, np.arange(MIX + 1) / MIX, atol=2e-7)


def test_mixtures_are_of_all_samples_and_a_part_mixes_with_its_own():
    n = 2000
    x, y = np.zeros((n, 1, 1), np.float32), np.eye(n, dtype=np.float32)
    dataset = ArrayDataset(x, y, 64, augment=[augment.MixUp()])
    part = dataset.subset(np.arange(0, n, 2))
    for d, partners in ((dataset, n), (part, n // 2)):
        own = np.arange(n) if d.rows is None else d.rows
        mixed = d.prepared(SEED, EPOCH).targets(y, own)
        np.testing.assert_allclose(mixed.sum(1), 1, atol=1e-6)
        mixed[np.arange(len(own)), own] = 0
        row, partner = np.nonzero(mixed)
        assert len(row) > 0.99 * len(own) and np.isin(partner, own).all()
        _, counts = np.unique(partner, return_counts=True)      # how often each is a partner: Poisson of mean 1
        assert abs(len(counts) / partners - (1 - np.exp(-1))) < 5 * 0.5 / np.sqrt(partners)
    assert part.split(0.5, test=0.5, stratify=False).test.augment == ()


# ------------------------------------------------------------------ whose it is
def test_which_parts_of_a_dataset_are_augmented():
    x, y = pictures(20), np.arange(20) % 2
    flip = [augment.RandomHorizontalFlip(1.0)]
    whole = ArrayDataset(x, y, 8, normalize=NORMALIZE, augment=flip)
    train, validation, test = whole.split(0.5, 0.25, 0.25)
    assert train.augment == whole.augment == tuple(flip) and validation.augment == test.augment == ()
    assert all(part.normalize is NORMALIZE for part in (train, validation, test))
    for kept in (whole.subset([3, 1]), whole.with_batch_size(2), train.subset([0])):
        assert kept.augment == tuple(flip) and kept.normalize is NORMALIZE
    assert whole.with_transforms().prepared(0, 0) is None and whole.augment == tuple(flip)
    plain = ArrayDataset(x, y, 8).split(0.5, 0.25, 0.25)
    given = plain.with_transforms(NORMALIZE, flip)
    assert given.train.augment == tuple(flip) and given.validation.augment == () and given.test.normalize is NORMALIZE
    assert plain.train.normalize is None and ArrayDataset(x, y).split().with_transforms().validation is None
    (batch,) = whole.subset([3]).epoch(0, 0)
    assert (batch.arrays()[0] == NORMALIZE(x[[3]])[..., ::-1]).all()
    assert (whole.subset([3]).x == x[[3]]).all()


def test_a_sample_is_changed_alike_whatever_is_beside_it():
    whole = ArrayDataset(pictures(), soft(40), 40, augment=[*TABLE["all"], augment.MixUp()])
    everything = next(whole.epoch(SEED, EPOCH, shuffle=False)).arrays()
    for d in (whole.with_batch_size(7), ArrayDataset(pictures(), soft(40), 1, augment=whole.augment)):
        for batch in d.epoch(SEED, EPOCH):
            for piece in batch.cut(3):
                for one, of_all in zip(piece.arrays(), everything, strict=True):
                    assert (one == of_all[piece.indices]).all()


A, MANY = augment, pictures(4)


@pytest.mark.parametrize("call, error, says", [
    (lambda: A.RandomCrop(3), ValueError, "RandomCrop(padding=0): how many pixels around the picture, 1 or more"),
    (lambda: A.RandomCrop(padding=-1), ValueError, "RandomCrop(padding)=-1"),
    (lambda: A.RandomCrop(padding=(1, 2, 3, 4)), ValueError, "RandomCrop(padding)=(1, 2, 3, 4): a number, or two"),
    (lambda: A.RandomCrop(padding=1, padding_mode="reflect"), ValueError, "'constant' or 'edge'"),
    (lambda: A.RandomHorizontalFlip(1.5), ValueError, "RandomHorizontalFlip(p)=1.5: a probability"),
    (lambda: A.GaussianNoise(0), ValueError, "GaussianNoise(sigma=0): above 0"),
    (lambda: A.GaussianNoise(float("nan")), ValueError, "GaussianNoise(sigma)=nan: a finite number"),
    (lambda: A.Cutout(0), ValueError, "Cutout(size)=0"),
    (lambda: A.MixUp(0), ValueError, "MixUp(alpha=0): from 0.001 to 10"),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=A.RandomCrop(padding=1)), TypeError, "a list, as [augment."),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=[np.fliplr]), TypeError, "in the __getitem__ of an ItemDataset"),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=[A.RandomCrop]), TypeError, "augment has <class"),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=[A.RandomCrop(8, 1)]), ValueError,
     "RandomCrop(size=(8, 8)) of pictures of (9, 9): pictures keep their size"),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=[A.RandomCrop(padding=10)]), ValueError, "windows beside the picture"),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=[A.Cutout(19)]), ValueError, "nothing would be left"),
    (lambda: ArrayDataset(MANY[:, :, 1:], np.zeros(4), augment=[A.RandomRotation90()]), ValueError,
     "of (8, 9): they must be square"),
    (lambda: ArrayDataset(MANY.transpose(0, 2, 3, 1), np.zeros(4), augment=[A.RandomRotation90()]), ValueError,
     "look like (H, W, C): x.transpose(0, 3, 1, 2)"),
    (lambda: ArrayDataset(MANY.reshape(4, -1), np.zeros(4), augment=[A.RandomRotation90()]), ValueError,
     "(C, H, W) or (H, W); x has samples of shape (243,)"),
    (lambda: ArrayDataset({"a": MANY}, np.zeros(4), augment=[A.RandomRotation90()]), ValueError, "data of one input"),
    (lambda: ArrayDataset(MANY, {"a": np.zeros(4)}, normalize=NORMALIZE), ValueError, "data of one input and one target"),
    (lambda: ArrayDataset(MANY, np.zeros(4), augment=[A.MixUp(), A.RandomCrop(padding=1)]), ValueError, "MixUp must be the last"),
    (lambda: ArrayDataset(MANY, np.arange(4), augment=[A.MixUp()]), ValueError, "np.eye(classes, dtype='float32')[y]"),
    (lambda: ArrayDataset(MANY, np.zeros(4), sample_weight=np.ones(4), augment=[A.MixUp()]), ValueError, "samples with weights"),
    (lambda: Pictures((1, 2, 2), None, None, [("cutout", {"p": 1})]), ValueError, "cutout takes height, width, p, fill; got p"),
    (lambda: Pictures((1, 2, 2), np.ones(2), np.ones(1)), ValueError, "scale: float64 (2,); must be float64 (1,)"),
    (lambda: Source(MANY, Pictures((1, 2, 2))), ValueError, "rows of 243 values as pictures of 1x2x2")])
def test_what_cannot_be_is_an_error(call, error, says):
    with pytest.raises(error, match=re.escape(says)):
        call()


def test_integers_are_no_pictures():
    model = Model(nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(8, 1)), seed=0)
    dataset = data.ArrayDataset(np.ones((4, 2, 2), np.uint8), np.zeros(4), augment=[augment.RandomHorizontalFlip()])
    with pytest.raises(ValueError, match="normalize and augment make floats, and input x takes integers"):
        Trainer(1).init(dataset, model, losses.MeanSquaredError(), optim.SGD(0.1))
