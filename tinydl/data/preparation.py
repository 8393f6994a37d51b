"""What is done to a dataset's samples on their way into batches: `normalize` and `augment`, as the kernels take them."""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl._kernels.engine import Pictures
from tinydl._kernels.reference_hash import splitmix
from tinydl.data.augment import Augmentation, MixUp
from tinydl.data.batch import Array
from tinydl.data.normalize import Normalize
from tinydl.data.prepared import Prepared

#: where Dropout's hash has the number of a layer: no plan has so many
AUGMENTATION = 1 << 63


class Preparation:
    """normalize and augment, checked against samples x (n, ...) with targets y; the parts of a dataset share it."""

    def __init__(self, normalize: Normalize | None, augment: Sequence[Augmentation], x: Array, y: Array, weighted: bool) -> None:
        if not isinstance(normalize, (Normalize, type(None))):
            raise _hints.expected("normalize", Normalize, normalize)
        if isinstance(augment, Augmentation) or not isinstance(augment, (list, tuple)):
            raise TypeError(f"augment={augment!r}: a list, as [augment.RandomHorizontalFlip()]")
        self.normalize, self.augment = normalize, tuple(augment)
        self._shape, self._y_shape, self._dtype = x.shape[1:], y.shape[1:], x.dtype
        for one in self.augment:
            if not isinstance(one, Augmentation):
                raise TypeError(f"augment has {one!r}, and takes those of tinydl.data.augment, which run in native code; what is "
                                "written in Python can be done in the __getitem__ of an ItemDataset")
        if self.augment:
            shape = self._picture()
            for one in self.augment:
                one.check(shape)
        if any(isinstance(one, MixUp) for one in self.augment):
            self._check_mixing(y, weighted)
        self.prepared()         # ValueError where samples cannot be normalized so

    def _picture(self) -> tuple[int, int, int]:
        shape = (1, *self._shape) if len(self._shape) == 2 else self._shape
        if len(shape) != 3:
            raise ValueError(f"augment is for pictures, samples (C, H, W) or (H, W); x has samples of shape {self._shape}")
        C, H, W = shape
        if len(self._shape) == 3 and C == H > 4 and W in (1, 3, 4):
            raise ValueError(f"augment is for pictures (C, H, W); samples of shape {self._shape} look like (H, W, C): "
                             "x.transpose(0, 3, 1, 2) brings channels to the front")
        return C, H, W

    def _check_mixing(self, y: Array, weighted: bool) -> None:
        if any(isinstance(one, MixUp) for one in self.augment[:-1]):
            raise ValueError("MixUp must be the last of augment")
        if y.dtype.kind != "f":
            raise ValueError(f"MixUp mixes targets, so they must be floats; y is {y.dtype}. Of class labels make a column for "
                             "each class, np.eye(classes, dtype='float32')[y], for losses.KLDivergence() on nn.LogSoftmax()")
        if weighted:
            raise ValueError("MixUp is not for samples with weights: what a mixture counts is not said")

    def prepared(self, key: int | None = None, rows: Array | None = None) -> Prepared | None:
        """For the kernels; with the key of an epoch augmented, else not. rows: those to mix with, None: all. None: nothing is to
        be done."""
        changes = [] if key is None else self.augment
        if self.normalize is None and not changes:
            return None
        mix = changes[-1].quantiles() if changes and isinstance(changes[-1], MixUp) else None
        more: dict[str, Any] = {"changes": [(one.kind, one.numbers()) for one in changes if not isinstance(one, MixUp)],
                                "mix": mix, "rows": None if mix is None else rows}
        shape = self._shape if not self.augment else self._picture()
        x = Pictures(shape, **more) if self.normalize is None else self.normalize.pictures(shape, self._dtype, **more)
        y = None if mix is None else Pictures((1, 1, int(np.prod(self._y_shape))), mix=mix, rows=more["rows"])
        return Prepared(x, y, key or 0)


def epoch_key(seed: int, epoch: int) -> int:
    """The key of an epoch's draws."""
    key = np.array([seed], np.uint64)
    for number in (epoch, AUGMENTATION):
        key = splitmix(key) + np.uint64(number)
    return int(splitmix(key)[0])
