"""Cross-entropies and distances. R samples, C outputs: outputs (R, C), or of more axes."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.losses.base import Array
from tinydl.losses.kernel import KernelLoss, as_table, check_smoothing

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class SoftmaxCrossEntropy(KernelLoss):
    """-mean(log softmax(outputs)[label]): outputs (R, C) are scores, targets (R,) are labels 0..C-1.

    Over sequences outputs are (R, T, C) and targets (R, T), integers; the mean is over all R T labels then.

    weight (C,): what each class counts, sum(w[label] l) / sum(w[label]). label_smoothing e: each label is 1 - e of itself and
    e / C of every class. ignore_index: a label whose samples (or places of a sequence) count nothing, as of what is filled
    up; any integer, -100 say, or a class. With all of them the loss is PyTorch's cross_entropy,

        sum_r ((1 - e) w[t_r] l[r, t_r] + e / C sum_c w_c l[r, c]) / sum_r w[t_r],    l = -log softmax(outputs),

    over the r that count, times sample weights in both sums where there are any. Where the lower sum is 0 the loss is 0
    (PyTorch's NaN or infinity), so a batch of nothing but labels of weight 0 counts nothing, with label_smoothing too.

        >>> import numpy as np
        >>> loss = SoftmaxCrossEntropy(weight=[1.0, 2.0], ignore_index=-1)
        >>> round(loss(np.array([[0.0, 0.0], [0.0, 0.0], [9.0, 0.0]]), np.array([0, 1, -1])), 6)
        0.693147
    """

    kernel = "softmax_cross_entropy"
    labels = True

    @_hints.arguments
    def __init__(self, weight: ArrayLike | None = None, label_smoothing: float = 0.0, ignore_index: int | None = None) -> None:
        self.weight = as_table("SoftmaxCrossEntropy", "weight", weight)
        self.label_smoothing = check_smoothing("SoftmaxCrossEntropy", label_smoothing)
        if isinstance(ignore_index, bool):
            raise TypeError(f"SoftmaxCrossEntropy(ignore_index={ignore_index!r}): a whole number, or None")
        self.ignore_index = None if ignore_index is None else int(ignore_index)
        if ignore_index is not None and not -2**63 <= ignore_index < 2**63:
            raise ValueError(f"SoftmaxCrossEntropy(ignore_index={ignore_index}): a label, within 64 bits")

    def config(self) -> dict[str, Any]:
        given = {"weight": None if self.weight is None else self.weight.tolist(),
                 "label_smoothing": self.label_smoothing or None, "ignore_index": self.ignore_index}
        return {name: value for name, value in given.items() if value is not None}

    def numbers(self, output_shape: tuple[int, ...]) -> dict[str, float]:
        return {name: value for name, value in self.config().items() if name != "weight"}

    def tables(self) -> dict[str, Array]:
        return {} if self.weight is None else {"class_weights": self.weight}

    @property
    def counts(self) -> bool:
        return bool(self.config())

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        return {"R": int(np.prod(output_shape[:-1], dtype=int)), "C": output_shape[-1]}

    def unit(self, output_shape: tuple[int, ...], weighted: bool) -> int:
        return self.sizes(output_shape)["R"] if weighted or self.counts else 1

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        if self.weight is not None and self.weight.shape != output_shape[-1:]:
            raise ValueError(f"SoftmaxCrossEntropy has weights of {self.weight.size} classes; the model's output is "
                             f"{output_shape}")
        return super().check_targets(targets, output_shape)


class SigmoidCrossEntropy(KernelLoss):
    """mean(max(x, 0) - x t + log(1 + exp(-|x|))): outputs x are scores, targets t are in 0..1, both (R, ...).

    pos_weight p, a number or one for each of the last axis' outputs: what positives count,
    -p t log(sigmoid(x)) - (1 - t) log(1 - sigmoid(x)), as PyTorch's BCEWithLogitsLoss. label_smoothing e:
    t (1 - e) + e / 2 stands for t, as in Keras.

        >>> import numpy as np
        >>> round(SigmoidCrossEntropy(pos_weight=3.0)(np.zeros((2, 1)), np.array([1.0, 0.0])), 6)
        1.386294
    """

    kernel = "sigmoid_cross_entropy"

    @_hints.arguments
    def __init__(self, pos_weight: ArrayLike | None = None, label_smoothing: float = 0.0) -> None:
        self.pos_weight = as_table("SigmoidCrossEntropy", "pos_weight", None if pos_weight is None else np.atleast_1d(pos_weight))
        self.label_smoothing = check_smoothing("SigmoidCrossEntropy", label_smoothing)

    def config(self) -> dict[str, Any]:
        given = {"pos_weight": None if self.pos_weight is None else self.pos_weight.tolist(),
                 "label_smoothing": self.label_smoothing or None}
        return {name: value for name, value in given.items() if value is not None}

    def numbers(self, output_shape: tuple[int, ...]) -> dict[str, float]:
        return {"label_smoothing": self.label_smoothing}

    def tables(self) -> dict[str, Array]:
        return {} if self.pos_weight is None else {"pos_weight": self.pos_weight}

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        return super().sizes(output_shape) | ({} if self.pos_weight is None else {"C": self.pos_weight.size})

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        t = super().check_targets(targets, output_shape)
        low, high = (t.min(), t.max()) if t.size else (0, 0)
        if not (low >= 0 and high <= 1):
            raise ValueError(f"SigmoidCrossEntropy needs targets from 0 to 1; y runs from {low} to {high}: of -1 and 1 make "
                             "(y + 1) / 2, of 0 to 255 make y / 255")
        if self.pos_weight is not None and self.pos_weight.size not in (1, *output_shape[-1:]):
            raise ValueError(f"SigmoidCrossEntropy has pos_weight of {self.pos_weight.size} outputs; the model's output is "
                             f"{output_shape}")
        return t


class SigmoidFocal(KernelLoss):
    """mean(a (1 - p)^gamma (-log(p))): p = sigmoid(x), a = alpha where the target is 1; p = sigmoid(-x), a = 1 - alpha where it
    is 0 (Lin et al. 2017, "Focal Loss for Dense Object Detection"). Outputs x are scores, targets 0 or 1, both (R, ...).

    What is right already counts little, so that a few among many negatives are not drowned. With gamma=0 and alpha=None, which
    is a = 1, it is SigmoidCrossEntropy. The defaults are those of torchvision's sigmoid_focal_loss; scores are no logits of
    probabilities then, and want to be calibrated where they are read as such.

        >>> import numpy as np
        >>> round(SigmoidFocal()(np.zeros((2, 1)), np.array([1.0, 0.0])), 6)
        0.086643
    """

    kernel = "sigmoid_focal"

    @_hints.arguments
    def __init__(self, alpha: float | None = 0.25, gamma: float = 2.0) -> None:
        if alpha is not None and not 0 < alpha < 1:
            raise ValueError(f"SigmoidFocal(alpha={alpha}): between 0 and 1, or None")
        if not 0 <= gamma < float("inf"):
            raise ValueError(f"SigmoidFocal(gamma={gamma}): 0 or more")
        self.alpha, self.gamma = None if alpha is None else float(alpha), float(gamma)

    def config(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "gamma": self.gamma}

    def numbers(self, output_shape: tuple[int, ...]) -> dict[str, float]:
        return {"alpha": -1.0 if self.alpha is None else self.alpha, "gamma": self.gamma}

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        t = super().check_targets(targets, output_shape)
        other = t[(t != 0) & (t != 1)]
        if other.size:
            raise ValueError(f"SigmoidFocal needs targets of 0 and 1; y has {other.flat[0]}")
        return t


class MeanSquaredError(KernelLoss):
    """mean((outputs - targets)^2)"""

    kernel = "mean_squared_error"


class MeanAbsoluteError(KernelLoss):
    """mean(|outputs - targets|)"""

    kernel = "mean_absolute_error"


class Huber(KernelLoss):
    """mean of d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2); d = outputs - targets (Huber 1964)."""

    kernel = "huber"

    @_hints.arguments
    def __init__(self, delta: float = 1.0) -> None:
        if not 0 < delta < float("inf"):
            raise ValueError(f"Huber(delta={delta}): above 0")
        self.delta = float(delta)

    def config(self) -> dict[str, Any]:
        return {"delta": self.delta}
