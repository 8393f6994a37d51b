"""CTC: sequences of labels whose places among the steps nobody knows."""
from __future__ import annotations

from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.losses.base import Array
from tinydl.losses.kernel import KernelLoss
from tinydl.plan import Builder, Value
from tinydl.plan.builder import INT64_RANGE


class CTC(KernelLoss):
    """Connectionist temporal classification (Graves et al. 2006): mean over samples of -log(p) / max(number of labels, 1), p
    being the probability that the steps of a sample say its labels one after the other, wherever in time: speech, handwriting,
    keywords.

    Outputs are scores (R, T, C) of C classes in each of T steps, one of which is the `blank`; the softmax is inside. A path has a
    class in each step; what it says are its classes, equal neighbours once, and then without the blanks. p is the sum of the
    probabilities of all paths that say the labels, so that a sample needs a step for each label, and one more between two that
    are equal.

    Targets are integers (R, T): a sample's labels, then negative numbers to the end, as data.pad_sequences(labels, T) makes them.
    Where sequences are of unequal lengths, nn.BlankSteps, the last layer, makes the steps beyond a length blank for certain,
    and these change nothing. metrics.ctc_decode says which labels outputs say, metrics.LabelErrorEvaluator how many are wrong.

    It is PyTorch's CTCLoss of log-softmax with its defaults. Where labels do not fit into the steps, the loss is infinite there.
    Here more than fit into T are refused at the door, and a batch with a sample whose labels do not fit into its own steps fails,
    as any whose loss is not finite; the message has its number. zero_infinity: such samples have the loss 0 and no gradient, and
    count in the mean.

        >>> import numpy as np
        >>> scores = np.log(np.array([[[0.5, 0.5], [0.5, 0.5]]]))       # blank, and label 1: of 4 paths 3 say [1]
        >>> round(float(np.exp(-CTC()(scores, np.array([[1, -1]])))), 6)
        0.75
    """

    kernel = "ctc"
    labels = True

    @_hints.arguments
    def __init__(self, blank: int = 0, zero_infinity: bool = False) -> None:
        if isinstance(blank, bool) or int(blank) != blank or blank < 0:
            raise ValueError(f"CTC(blank={blank!r}): the number of a class, 0 or more")
        self.blank, self.zero_infinity = int(blank), bool(zero_infinity)

    def config(self) -> dict[str, Any]:
        return {"blank": self.blank, "zero_infinity": self.zero_infinity}

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        return {"B": 1, "L": output_shape[0], "C": output_shape[1]}

    def places(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return ()

    def emit_targets(self, b: Builder, y: Value) -> Value:
        self._check_output(y.shape)
        return b.gather(y.shape[:-1], "labels", INT64_RANGE, label="loss")

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        self.sources(targets)
        T, C = self._check_output(output_shape)
        if targets.ndim != 2 or targets.shape[1] != T or targets.dtype.kind not in "iub":
            raise ValueError(f"CTC needs integers (samples, {T}), labels of each sample and then -1 to the end: "
                             f"data.pad_sequences(labels, {T}); y is {targets.dtype} of shape {targets.shape}")
        t = np.ascontiguousarray(targets, np.int64)
        there = t >= 0
        wrong = (t >= C) | (t == self.blank)
        if wrong.any():
            row, column = map(int, np.argwhere(wrong)[0])
            raise ValueError(f"y[{row}, {column}] is {t[row, column]}; CTC takes labels from 0 to {C - 1}, but for the blank, "
                             f"{self.blank}")
        if (there[:, 1:] & ~there[:, :-1]).any():
            row = int((there[:, 1:] & ~there[:, :-1]).any(1).argmax())
            raise ValueError(f"y[{row}] has a label behind a negative number: CTC takes labels, then negative numbers to the end")
        needed = there.sum(1) + ((t[:, 1:] == t[:, :-1]) & there[:, 1:]).sum(1)
        if not self.zero_infinity and (needed > T).any():
            row = int((needed > T).argmax())
            raise ValueError(f"y[{row}] needs {needed[row]} steps, one for each label and one between two that are equal; the "
                             f"model gives {T}: zero_infinity=True leaves such samples out")
        return t

    def _check_output(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(output_shape) != 2 or output_shape[1] <= self.blank or output_shape[1] < 2:
            raise ValueError(f"{self!r} needs scores (samples, steps, classes), of {max(self.blank + 1, 2)} classes or more; the "
                             f"model's output is {output_shape}")
        return output_shape
