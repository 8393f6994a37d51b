"""CRF: the tags of a sequence, judged as a whole."""
from __future__ import annotations

from typing import Any

from tinydl import _hints
from tinydl.losses.base import Array
from tinydl.losses.kernel import KernelLoss
from tinydl.plan import Builder, Value
from tinydl.plan.builder import INT64_RANGE


class CRF(KernelLoss):
    """-sum over samples of log(p), by the number of tags: p is the probability of a sample's tags as a whole, of a linear-chain
    conditional random field (Lafferty et al. 2001): named entities, parts of speech, phases of a signal.

    Outputs are nn.CRF's scores of pairs of neighbouring tags (R, T, C, C), that layer being the last of the model; p is
    exp(score of the tags) by the sum of exp(score) over all C^T ways to tag the steps, the score being the sum over the steps.
    metrics.viterbi_decode finds the most probable tags.

    Targets are integers (R, T): tags 0..C-1, and behind a sample's last one `ignore_index` to the end, as SequenceDataset with
    per_step=True pads them; steps there count nothing. It is pytorch-crf's negative log likelihood with reduction="token_mean",
    without scores of the first and the last tag; where all transitions are 0, it is SoftmaxCrossEntropy(ignore_index).

        >>> import numpy as np
        >>> round(CRF()(np.zeros((1, 3, 2, 2)), np.array([[0, 1, -100]])), 6)        # 4 ways to tag 2 steps: log(4) / 2
        0.693147
    """

    kernel = "crf"
    labels = True

    @_hints.arguments
    def __init__(self, ignore_index: int = -100) -> None:
        if isinstance(ignore_index, bool) or int(ignore_index) != ignore_index or ignore_index >= 0:
            raise ValueError(f"CRF(ignore_index={ignore_index!r}): a whole number below 0, which no tag is")
        self.ignore_index = int(ignore_index)

    def config(self) -> dict[str, Any]:
        return {"ignore_index": self.ignore_index}

    @property
    def counts(self) -> bool:
        return True

    def sizes(self, output_shape: tuple[int, ...]) -> dict[str, int]:
        return {"B": 1, "L": output_shape[0], "C": output_shape[1]}

    def unit(self, output_shape: tuple[int, ...], weighted: bool) -> int:
        return output_shape[0]

    def places(self, output_shape: tuple[int, ...]) -> tuple[int, ...]:
        return ()

    def emit_targets(self, b: Builder, y: Value) -> Value:
        self._check_output(y.shape)
        return b.gather(y.shape[:1], "labels", INT64_RANGE, label="loss")

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> Array:
        T, C = self._check_output(output_shape)
        t = super().check_targets(targets, (T, C))
        there = t != self.ignore_index
        gaps = (there[:, 1:] & ~there[:, :-1]).any(1)
        if gaps.any():
            raise ValueError(f"y[{int(gaps.argmax())}] has a tag behind {self.ignore_index}: CRF takes tags, and then "
                             f"{self.ignore_index} to the end")
        return t

    def _check_output(self, output_shape: tuple[int, ...]) -> tuple[int, int]:
        if len(output_shape) != 3 or output_shape[1] != output_shape[2]:
            raise ValueError(f"{self!r} needs scores of pairs of tags (samples, steps, tags, tags), as nn.CRF(num_tags) makes "
                             f"them; the model's output is {output_shape}")
        return output_shape[0], output_shape[1]
