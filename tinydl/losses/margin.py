"""Hinge: classes apart by a margin; Quantile: the pinball loss."""
from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.losses.base import Array
from tinydl.losses.kernel import KernelLoss
from tinydl.losses.likelihood import several

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class Hinge(KernelLoss):
    """mean(max(1 - s x, 0)): outputs x are scores (R, ...), of a shape with the targets; s is 1 where a target is 1, and -1
    where it is 0 or -1. The prediction is the positive class where x > 0 (a linear support vector machine's loss).

        >>> import numpy as np
        >>> Hinge()(np.array([[0.5], [-2.0]]), np.array([1, 0]))
        0.25
    """

    kernel = "hinge"

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        t = super().check_targets(targets, output_shape)
        if not bool(np.all((t == 1) | (t == 0))) and not bool(np.all((t == 1) | (t == -1))):
            raise ValueError("Hinge needs targets of 0 and 1, or of -1 and 1; y has others, as "
                             f"{t[(t != 1) & (t != 0) & (t != -1)][:3].tolist() or 'both 0 and -1'}")
        return t


class Quantile(KernelLoss):
    """Mean of max(q d, (q - 1) d), d = targets - outputs: outputs become the q-quantiles of the targets (Koenker 1978).

    levels: a number above 0 and below 1, or several. Outputs are (R, n_levels x C) for targets (R, C), or
    (R, T, n_levels x C) for (R, T, C) of sequences: the C outputs of the first level, then those of the second, ...; the mean is
    over all of them. (0.5 is half the mean absolute error.)

        >>> import numpy as np
        >>> Quantile([0.1, 0.9])(np.array([[0.0, 0.0]]), np.array([1.0]))
        0.5
    """

    kernel = "quantile"

    @_hints.arguments
    def __init__(self, levels: ArrayLike = 0.5) -> None:
        self.levels = np.atleast_1d(np.array(levels, np.float64))
        if self.levels.ndim != 1 or not self.levels.size or not bool(np.all((self.levels > 0) & (self.levels < 1))):
            raise ValueError(f"Quantile({levels!r}): levels above 0 and below 1")

    def config(self) -> dict[str, Any]:
        return {"levels": self.levels.tolist()}

    def numbers(self, output_shape: tuple[int, ...]) -> dict[str, float]:
        return {}

    def tables(self) -> dict[str, Array]:
        return {"levels": self.levels}

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        return {"R": prod(output_shape[:-1]), "D": output_shape[-1], "C": output_shape[-1] // self.levels.size,
                "Q": self.levels.size}

    def places(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return output_shape[:-1]

    def target_shape(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return several(self, output_shape, self.levels.size, "an output for each level and target")
