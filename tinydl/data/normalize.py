"""Normalize: pixels as numbers that a network learns from, scaled while a batch is gathered."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl import _kernels as K
from tinydl._kernels.engine import Pictures, Source
from tinydl.data.batch import Array, Dataset
from tinydl.data.checks import PIECE, as_features

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

Shape = tuple[int, int, int]


class Normalize:
    """(x - mean) / std, with uint8 divided by 255 first: torchvision's ToTensor and Normalize in one.

    mean, std: a number, or one for each channel of samples (C, H, W); std above 0. Samples of any other shape, as (H, W), take
    one number. Of uint8 x is pixel / 255, from 0 to 1, and mean and std are in that unit; floats are taken as they are. So
    Normalize() brings bytes to 0..1. Computed in float64 and rounded once to the model's dtype.

    Given to ArrayDataset(x, y, normalize=...) it belongs to the dataset: x stays as it is, and batches are scaled while their
    rows are gathered, in training, in validation and in `model.predict(dataset)`. It does not belong to the model: for an
    array, `model.predict(normalize(x))` scales it in the same way (`normalize(x, "float64")` for a float64 model).

        >>> import numpy as np
        >>> pixels = np.array([[[[0, 255], [51, 102]]]], np.uint8)
        >>> Normalize(mean=0.5, std=0.5)(pixels).tolist()[0][0][0]
        [-1.0, 1.0]
    """

    @_hints.arguments
    def __init__(self, mean: ArrayLike = 0.0, std: ArrayLike = 1.0) -> None:
        #: float64 (1,) or (channels,)
        self.mean, self.std = (np.array(values, np.float64, ndmin=1) for values in (mean, std))
        for name, values, given in (("mean", self.mean, mean), ("std", self.std, std)):
            if values.ndim > 1 or not values.size or not np.isfinite(values).all():
                raise ValueError(f"Normalize({name}={given!r}): a finite number, or one for each channel")
        if not (self.std > 0).all():
            raise ValueError(f"Normalize(std={std!r}): above 0")
        if 1 != self.mean.size != self.std.size != 1:
            raise ValueError(f"Normalize: {self.mean.size} means and {self.std.size} standard deviations")

    @classmethod
    def of(cls, images: Any) -> Normalize:
        """With the mean and standard deviation of `images`, by channel: an array of samples, or a dataset of one input, whose
        own samples count: that of a `split` is to be its train part, or what validation measures is known beforehand.

        The standard deviation is sqrt(mean((x - mean)^2)), and 1 for a channel that is constant. Computed in float64, in a fixed
        order; of uint8 the sums are exact.

            >>> import numpy as np
            >>> Normalize.of(np.array([[[0, 255]], [[255, 0]]], np.uint8))
            Normalize(mean=0.5, std=0.5)
        """
        if hasattr(images, "series"):
            raise ValueError("Normalize.of: of windows the series itself is scaled, before it is cut, by mean and standard "
                             "deviation of the steps to train on: (series - series[:n].mean(0)) / series[:n].std(0)")
        if isinstance(images, Dataset) and not hasattr(images, "inputs"):
            raise ValueError(f"Normalize.of: {type(images).__name__} makes its samples as they are asked for: give an array of "
                             "some, np.stack([dataset[i][0] for i in range(n)]), and scale each where it is made")
        rows = getattr(images, "rows", None)
        x = as_features(images.inputs if hasattr(images, "inputs") else images, "images")
        n = len(x) if rows is None else len(rows)
        if not n or not x[:1].size:
            raise ValueError(f"Normalize.of: there are no values in images of shape {x.shape}")
        divisor, (C, H, W) = _divisor(x), channels(x.shape[1:])
        step, count = max(1, PIECE // (C * H * W)), n * H * W

        def total(power: int, mean: Any) -> Array:
            sums = np.zeros(C)
            for at in range(0, n, step):
                part = x[at:at + step] if rows is None else x[rows[at:at + step]]
                sums += ((part.reshape(len(part), C, -1).astype(np.float64) - mean) ** power).sum((0, 2))
            return sums
        if divisor == 1:
            mean = total(1, 0.0) / count
            variance = total(2, mean[:, None]) / count
        else:       # whole numbers, so that no sum is rounded: n sum(x^2) - sum(x)^2 in Python's integers
            first, second = ([int(s) for s in total(power, 0.0)] for power in (1, 2))
            mean = np.array([s / count for s in first])
            variance = np.array([(count * b - a * a) / count ** 2 for a, b in zip(first, second, strict=True)])
        std = np.sqrt(variance) / divisor
        return cls(mean / divisor, np.where(std > 0, std, 1.0))

    def __call__(self, x: Any, dtype: Any = None) -> Array:
        """Samples x (n, ...), scaled, as float32 or float64; where dtype is not given, as float64 if x is, else float32."""
        a = as_features(x)
        pictures = self.pictures(a.shape[1:], a.dtype)
        out = np.empty(a.shape, dtype or (np.float64 if a.dtype == np.float64 else np.float32))
        if a.size:
            K.call("gather_rows", sources=[Source(a, pictures)], out=out.reshape(len(a), -1), source=0)
        return out

    def pictures(self, shape: tuple[int, ...], dtype: np.dtype[Any], **more: Any) -> Pictures:
        """For the kernels: of samples of that shape and dtype. more: what else is done to them."""
        C, H, W = channels(shape)
        divisor = _divisor(np.empty(0, dtype))
        for name, values in (("means", self.mean), ("standard deviations", self.std)):
            if values.size not in (1, C):
                hint = "" if len(shape) == 3 else ": samples with channels are (C, H, W)"
                if len(shape) == 3 and shape[-1] == values.size:
                    hint = ": samples are (C, H, W), so x.transpose(0, 3, 1, 2) brings channels to the front"
                raise ValueError(f"{values.size} {name} to normalize samples of shape {shape}, which have "
                                 f"{C} channel{'s' * (C > 1)}{hint}")
        scale, shift = (np.array(np.broadcast_to(values, C)) for values in (1 / (divisor * self.std), -self.mean / self.std))
        return Pictures((C, H, W), scale, shift, **more)

    def __repr__(self) -> str:
        mean, std = ((values.tolist() if values.size > 1 else values.item()) for values in (self.mean, self.std))
        return f"Normalize(mean={mean}, std={std})"


def channels(shape: tuple[int, ...]) -> Shape:
    """Samples (C, H, W) as they are; others as one channel of one row."""
    return shape if len(shape) == 3 else (1, 1, int(np.prod(shape)))


def _divisor(x: Array) -> int:
    """What brings values of that dtype to the unit of mean and std."""
    if x.dtype.kind != "f" and x.dtype != np.uint8:
        raise ValueError(f"Normalize takes uint8, which it divides by 255, or floats as they are; got {x.dtype}: "
                         "x.astype('float32') where its unit is right")
    return 255 if x.dtype == np.uint8 else 1
