"""The table of augmentations, and what they make of pictures by their NumPy reference. A new one is a row here."""
import hashlib

import numpy as np

from tinydl._kernels import reference_pictures as reference
from tinydl.data import ArrayDataset, Normalize, augment
from tinydl.data.preparation import epoch_key

SEED, EPOCH = 3, 2
NORMALIZE = Normalize([0.4, 0.5, 0.6], [0.2, 0.3, 0.25])

#: name: augmentations one after the other
TABLE = {
    "crop": [augment.RandomCrop(padding=2)],
    "crop, as far as it goes": [augment.RandomCrop((9, 9), (9, 9), fill=-1.5)],
    "crop, up and down": [augment.RandomCrop(padding=(9, 0), padding_mode="edge")],
    "crop, to the sides": [augment.RandomCrop(padding=[0, 9], padding_mode="edge")],
    "crop, edge": [augment.RandomCrop(padding=3, padding_mode="edge")],
    "horizontal flip": [augment.RandomHorizontalFlip()],
    "vertical flip": [augment.RandomVerticalFlip(0.25)],
    "rotation": [augment.RandomRotation90()],
    "noise": [augment.GaussianNoise(0.3)],
    "cutout": [augment.Cutout(4)],
    "cutout, at times": [augment.Cutout((3, 18), 0.5, fill=2.0)],
    "all": [augment.RandomCrop(padding=2), augment.RandomHorizontalFlip(), augment.RandomVerticalFlip(),
            augment.RandomRotation90(), augment.Cutout(3), augment.GaussianNoise(0.1)],
    "two of a kind": [augment.GaussianNoise(0.1), augment.GaussianNoise(0.1)],
    "mixture": [augment.RandomCrop(padding=1), augment.MixUp(0.4)],
}


def pictures(n=40, shape=(3, 9, 9), dtype=np.uint8, seed=0):
    x = np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(dtype)
    return x if x.dtype == np.uint8 else x / x.dtype.type(255)


def soft(n, classes=4, seed=0):
    y = np.random.default_rng(seed).random((n, classes))
    return (y / y.sum(1, keepdims=True)).astype(np.float32)


def expected(x, y, augmentations, normalize=None, seed=SEED, epoch=EPOCH, rows=None):
    """Of all of x (n, C, H, W) and y, float64: what the samples are in that epoch. rows: those to mix with."""
    key, changes, scale, shift = epoch_key(seed, epoch), list(augmentations), None, None
    mix = changes.pop() if changes and isinstance(changes[-1], augment.MixUp) else None
    if normalize is not None:
        scale = np.broadcast_to(1 / ((255 if x.dtype == np.uint8 else 1) * normalize.std), x.shape[1])
        shift = np.broadcast_to(-normalize.mean / normalize.std, x.shape[1])
    each = np.stack([reference.picture(x, key, row, scale, shift, [(c.kind, c.numbers()) for c in changes])
                     for row in range(len(x))])
    if mix is None:
        return each, y
    rows = np.arange(len(x)) if rows is None else rows
    partners, shares = zip(*(reference.mixing(key, row, mix.quantiles(), rows) for row in range(len(x))), strict=True)
    partners, shares = np.array(partners), np.array(shares)
    s = shares[:, None]
    return s[..., None, None] * each + (1 - s[..., None, None]) * each[partners], s * y + (1 - s) * y[partners]


def digest():
    """Of all rows of the table, in both dtypes."""
    found = hashlib.sha256()
    for augmentations in TABLE.values():
        data = ArrayDataset(pictures(), soft(40), normalize=NORMALIZE, augment=augmentations)
        for dtype in ("float32", "float64"):
            found.update(data.prepared(SEED, EPOCH).inputs(data.x, None, dtype).tobytes())
    return found.hexdigest()
