"""Augmentation: pictures changed at random in training, by native code, while a batch is gathered.

    from tinydl.data import ArrayDataset, Normalize, augment
    data = ArrayDataset(x, y, normalize=Normalize(mean, std), augment=[
        augment.RandomCrop(padding=4), augment.RandomHorizontalFlip(), augment.Cutout(size=8)])

Samples are (C, H, W), or (H, W) of one channel, and keep their shape. They are changed in the order of the list, after they were
normalized, so that `fill=0` is the mean colour (of bytes that are not normalized, black). Training alone sees that: validation,
`Trainer.evaluate` and `predict` get samples as they are, and parts that `split` holds out have no augmentation.

A draw is a hash of (seed, epoch, number of the sample, place in the list), as Dropout's (csrc/augment.h). So a picture has the
same bits for any number of threads, with any strategy, in whatever batch, and after a resume in the midst of an epoch. The
number of a sample is its row in the dataset's arrays: where `subset` repeats one, it is changed alike in an epoch. A change that
is written in Python can be made in the `__getitem__` of an ItemDataset.

Names are torchvision's (https://docs.pytorch.org/vision/stable/transforms.html) where it has one.
"""
from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from tinydl import _hints
from tinydl._kernels.engine import MIX
from tinydl.data.batch import Array, whole_number

__all__ = ["Augmentation", "Cutout", "GaussianNoise", "MixUp", "RandomCrop", "RandomHorizontalFlip", "RandomRotation90",
           "RandomVerticalFlip"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)


class Augmentation(ABC):
    """A random change: its kernel's name in schema.CHANGES, and that one's numbers."""

    kind: ClassVar[str]

    @abstractmethod
    def numbers(self) -> dict[str, float]:
        """What the kernel goes by."""

    def check(self, shape: tuple[int, int, int]) -> None:
        """ValueError where it is nothing for pictures (C, H, W)."""
        return

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


class RandomCrop(Augmentation):
    """A window of the picture's own size, anywhere in the picture with `padding` pixels around it: a random shift by up to so
    many pixels, each as likely. As usual for CIFAR, with padding=4 (He et al. 2016, https://arxiv.org/abs/1512.03385).

    size: may be given as in torchvision, and must be the picture's. padding: a number, or two for up and down, left and right.
    padding_mode: what is around it is `fill` ("constant") or the nearest pixel of its border ("edge").
    """

    kind = "crop"

    def __init__(self, size: Any = None, padding: Any = 0, *, fill: float = 0.0, padding_mode: str = "constant") -> None:
        self.size = None if size is None else _pair("RandomCrop(size)", size, 1)
        self.padding = _pair("RandomCrop(padding)", padding, 0)
        if not any(self.padding):
            raise ValueError(f"RandomCrop(padding={padding!r}): how many pixels around the picture, 1 or more: without them "
                             "there is one window of its size")
        if padding_mode not in ("constant", "edge"):
            raise ValueError(f"RandomCrop(padding_mode={padding_mode!r}): 'constant' or 'edge'")
        self.fill, self.padding_mode = _finite("RandomCrop(fill)", fill), padding_mode

    def check(self, shape: tuple[int, int, int]) -> None:
        if self.size not in (None, shape[1:]):
            raise ValueError(f"RandomCrop(size={self.size}) of pictures of {shape[1:]}: pictures keep their size; cut x "
                             "before, or leave size out")
        if self.padding[0] > shape[1] or self.padding[1] > shape[2]:
            raise ValueError(f"RandomCrop(padding={self.padding}) of pictures of {shape[1:]}: windows beside the picture")

    def numbers(self) -> dict[str, float]:
        return {"height": self.padding[0], "width": self.padding[1], "edge": self.padding_mode == "edge", "fill": self.fill}


class _Flip(Augmentation):
    def __init__(self, p: float = 0.5) -> None:
        self.p = _share(f"{type(self).__name__}(p)", p)

    def numbers(self) -> dict[str, float]:
        return {"p": self.p}


class RandomHorizontalFlip(_Flip):
    """Left and right exchanged, with probability p."""

    kind = "horizontal_flip"


class RandomVerticalFlip(_Flip):
    """Up and down exchanged, with probability p."""

    kind = "vertical_flip"


class RandomRotation90(Augmentation):
    """Turned by 0, 90, 180 or 270 degrees, each as likely, as np.rot90; for square pictures. With both flips these are the eight
    symmetries of a square, as for pictures taken from above."""

    kind = "rotate90"

    def check(self, shape: tuple[int, int, int]) -> None:
        if shape[1] != shape[2]:
            raise ValueError(f"RandomRotation90 of pictures of {shape[1:]}: they must be square")

    def numbers(self) -> dict[str, float]:
        return {}


class GaussianNoise(Augmentation):
    """x + sigma z, z normal of mean 0 and variance 1 for each value by itself. sigma is in the unit of what the model sees."""

    kind = "gaussian_noise"

    def __init__(self, sigma: float = 0.1) -> None:
        self.sigma = _finite("GaussianNoise(sigma)", sigma)
        if self.sigma <= 0:
            raise ValueError(f"GaussianNoise(sigma={sigma!r}): above 0")

    def numbers(self) -> dict[str, float]:
        return {"sigma": self.sigma}


class Cutout(Augmentation):
    """`fill` in all channels of a square of `size` pixels around a random one, which may lie across the border (DeVries and
    Taylor 2017, https://arxiv.org/abs/1708.04552). torchvision's RandomErasing draws the size, too.

    size: of a side, or (height, width). p: with which probability; the paper's is 1. The pixel is the middle, or of an even size
    the one below and to the right of it.
    """

    kind = "cutout"

    def __init__(self, size: Any, p: float = 1.0, *, fill: float = 0.0) -> None:
        self.size, self.p, self.fill = _pair("Cutout(size)", size, 1), _share("Cutout(p)", p), _finite("Cutout(fill)", fill)

    def check(self, shape: tuple[int, int, int]) -> None:
        if self.size[0] > 2 * shape[1] or self.size[1] > 2 * shape[2]:
            raise ValueError(f"Cutout(size={self.size}) of pictures of {shape[1:]}: nothing would be left")

    def numbers(self) -> dict[str, float]:
        return {"height": self.size[0], "width": self.size[1], "p": self.p, "fill": self.fill}


class MixUp(Augmentation):
    """Inputs and targets mixed with those of another sample: s x + (1 - s) x', s y + (1 - s) y', s drawn for each sample from the
    beta distribution of alpha and alpha (Zhang et al. 2018, https://arxiv.org/abs/1710.09412, where alpha is 0.1 to 0.4 for
    ImageNet and 1 for CIFAR-10). It is the last of a list: what is before it is done to both, to each by its own draws.

    The other sample is drawn from all of the dataset (of the train part of a split), not from the batch, so that a mixture does
    not depend on the batch; it may be the sample itself. Targets must be floats: for classes one column each,
    `np.eye(classes, dtype="float32")[y]`, with losses.KLDivergence() on nn.LogSoftmax(), which has the gradients of the
    cross-entropy. Not for samples with weights.
    """

    kind = "mix"

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = _finite("MixUp(alpha)", alpha)
        if not 1e-3 <= self.alpha <= 10:
            raise ValueError(f"MixUp(alpha={alpha!r}): from 0.001 to 10")

    def numbers(self) -> dict[str, float]:
        return {}

    def quantiles(self) -> Array:
        """Quantiles 0, 1 / MIX, ..., 1 of the share s, float64; between them it is drawn evenly."""
        return _beta_quantiles(self.alpha)


@cache
def _beta_quantiles(alpha: float) -> Array:
    """Of the beta distribution of alpha and alpha: its density by t, s = 1 / (1 + exp(-t)), is smooth whatever alpha is, and is
    summed by trapezoids. Rounded to 24 bits, so that the last bits of a processor's exp do not count."""
    t = np.linspace(0, 40 / alpha + 1.4, 1 << 16)
    density = np.exp(-alpha * (t + 2 * np.log1p(np.exp(-t)) - 2 * np.log(2)))
    sums = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    upper = 1 / (1 + np.exp(-np.interp(np.arange(MIX // 2 + 1) / (MIX // 2), sums / sums[-1], t)))
    upper[-1] = 1
    upper = np.rint(upper * 2.0**24) / 2**24
    quantiles = np.concatenate([1 - upper[:0:-1], upper])
    quantiles.flags.writeable = False
    return quantiles


def _pair(name: str, given: Any, least: int) -> tuple[int, int]:
    pair = given if isinstance(given, (tuple, list)) else (given, given)
    if len(pair) != 2:
        raise ValueError(f"{name}={given!r}: a number, or two, of the height and the width")
    return whole_number(name, pair[0], least), whole_number(name, pair[1], least)


def _finite(name: str, given: float) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float, np.integer, np.floating)) or not np.isfinite(given):
        raise ValueError(f"{name}={given!r}: a finite number")
    return float(given)


def _share(name: str, given: float) -> float:
    if not 0 <= _finite(name, given) <= 1:
        raise ValueError(f"{name}={given!r}: a probability, 0 to 1")
    return float(given)
