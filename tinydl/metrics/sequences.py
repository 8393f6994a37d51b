"""Of sequences of labels: what outputs for losses.CTC and losses.CRF say, and how far that is from what they should."""
# n samples, T steps, C classes
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.metrics.arguments import Array
from tinydl.metrics.evaluators import Evaluator


def ctc_decode(outputs: Any, blank: int = 0) -> list[Array]:
    """The labels of each sample's most probable path, int64: the class with the highest score (the first of equals) in each
    step, equal neighbours once, without the blanks.

    outputs: scores or probabilities (n, T, C), of a model trained by losses.CTC. (Another sequence of labels, which many less
    probable paths say, may be more probable than that of the best path: beam search looks for it.)

        >>> scores = np.eye(3)[[[1, 1, 0, 1, 2, 2]]]
        >>> [labels.tolist() for labels in ctc_decode(scores)]
        [[1, 1, 2]]
    """
    a = np.asarray(outputs)
    if a.ndim != 3 or a.dtype.kind not in "fiu" or not 0 <= blank < a.shape[2]:
        raise ValueError(f"ctc_decode takes scores (n, T, C) of more than blank={blank!r} classes; got {a.dtype} of shape "
                         f"{a.shape}")
    path = a.argmax(2)
    said = path != blank
    said[:, 1:] &= path[:, 1:] != path[:, :-1]
    return [row[there] for row, there in zip(path, said, strict=True)]


def viterbi_decode(outputs: Any, lengths: Any = None) -> list[Array]:
    """The most probable tags of each sample, int64 (T,), by the scores of pairs of neighbours that nn.CRF gives (Viterbi 1967).

    outputs: (n, T, K, K), as of model.predict(x); or a list of arrays (T_i, K, K), as of model.predict(dataset) where a
    SequenceDataset has per_step=True. lengths (n,): how many steps of each count; all, if it is left out.

        >>> scores = np.zeros((1, 3, 2, 2))
        >>> scores[0, 0, 0, 1] = 1       # the first tag is 1 rather than 0
        >>> scores[0, 1:, 1, 0] = 2      # and 0 follows it
        >>> [tags.tolist() for tags in viterbi_decode(scores)]
        [[1, 0, 0]]
    """
    samples = [np.asarray(x) for x in outputs]
    steps = [len(x) for x in samples] if lengths is None else np.asarray(lengths).tolist()
    if len(steps) != len(samples):
        raise ValueError(f"viterbi_decode: {len(samples)} samples, and {len(steps)} lengths")
    decoded = []
    for x, n in zip(samples, steps, strict=True):
        if x.ndim != 3 or x.shape[1] != x.shape[2] or not 0 <= n <= len(x):
            raise ValueError(f"viterbi_decode takes scores (n, T, K, K), and lengths from 0 to T; got a sample of shape "
                             f"{x.shape}, and the length {n}")
        best, came_from = x[0, 0] if n else x[:0, 0, 0], np.zeros((n, x.shape[1]), np.int64)
        for t in range(1, n):
            ways = best[:, None] + x[t]
            came_from[t] = ways.argmax(0)
            best = ways.max(0)
        tags = np.zeros(n, np.int64)
        if n:
            tags[-1] = best.argmax()
        for t in range(n - 1, 0, -1):
            tags[t - 1] = came_from[t, tags[t]]
        decoded.append(tags)
    return decoded


def edit_distance(a: Sequence[Any] | Array, b: Sequence[Any] | Array) -> int:
    """The least number of labels to be put in, left out and replaced that makes b of a (Levenshtein 1966). a, b: sequences of
    numbers, or text.

        >>> edit_distance("kitten", "sitting"), edit_distance([1, 2, 3], [])
        (3, 3)
    """
    x, y = (np.array(list(s)) if isinstance(s, str) else np.asarray(s) for s in (a, b))
    if x.ndim != 1 or y.ndim != 1:
        raise ValueError(f"edit_distance takes two sequences; got shapes {x.shape} and {y.shape}")
    place = np.arange(len(y) + 1)
    least = place       # of what was looked at of a, and each beginning of b
    for i, one in enumerate(x, 1):
        kept_or_left_out = np.minimum(least[1:] + 1, least[:-1] + (y != one))
        least = np.minimum.accumulate(np.concatenate([[i], kept_or_left_out]) - place) + place
    return int(least[-1])


class LabelErrorEvaluator(Evaluator):
    """`label_error_rate`: the edit distances of what a model's outputs say (`ctc_decode`) from what they should, by the number of
    labels there should be: the character error rate, where labels are characters. `sequence_accuracy`: the share of samples
    that are right as a whole.

    For models trained by losses.CTC, and its targets: labels, then negative numbers to the end.

        >>> e = LabelErrorEvaluator()
        >>> e.update(np.eye(3)[[[1, 0, 2], [1, 0, 0]]], np.array([[1, 2, -1], [2, 1, -1]]))
        >>> e.result()
        {'label_error_rate': 0.25, 'sequence_accuracy': 0.5}
    """

    figure_names = ("label_error_rate", "sequence_accuracy")

    @_hints.arguments
    def __init__(self, blank: int = 0) -> None:
        self.blank = blank
        self.start()

    def check_targets(self, targets: Array, output_shape: tuple[int, ...]) -> None:
        if len(output_shape) != 2 or targets.ndim != 2 or targets.dtype.kind not in "iu":
            raise ValueError("LabelErrorEvaluator needs scores (samples, steps, classes) and labels (samples, steps), integers; "
                             f"the model's output is {output_shape}, and y is {targets.dtype} of shape {targets.shape}")

    def start(self) -> None:
        self.wrong = self.labels = self.right = self.n = 0

    def update(self, outputs: Array, targets: Array) -> None:
        self.check_targets(targets, outputs.shape[1:])
        for said, row in zip(ctc_decode(outputs, self.blank), targets, strict=True):
            wanted = row[:int(np.argmax(np.append(row < 0, True)))]
            distance = edit_distance(said, wanted)
            self.wrong += distance
            self.right += distance == 0
            self.labels += len(wanted)
        self.n += len(outputs)

    def result(self) -> dict[str, float]:
        return {"label_error_rate": self.wrong / self.labels if self.labels else float("nan"),
                "sequence_accuracy": self.right / self.n if self.n else float("nan")}
