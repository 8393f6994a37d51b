"""Losses: means over samples and outputs, as PyTorch's default.

Targets are shaped like the outputs, but for axes of size 1 at the end, or are integer class labels (B,). Samples may have
weights: sum(w l) / sum(w) is the mean then. Of a model with several outputs, Joint gives each a loss of its own.

In a plan a loss is one operation with its gradient; called with arrays it returns the number:

    >>> import numpy as np
    >>> float(MeanSquaredError()(np.zeros((2, 3)), np.ones((2, 3))))
    1.0
"""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.losses.base import Loss, PythonLoss
from tinydl.losses.builtin import (
    Huber,
    MeanAbsoluteError,
    MeanSquaredError,
    SigmoidCrossEntropy,
    SigmoidFocal,
    SoftmaxCrossEntropy,
)
from tinydl.losses.crf import CRF
from tinydl.losses.ctc import CTC
from tinydl.losses.joint import Joint
from tinydl.losses.likelihood import GaussianKL, GaussianNLL, KLDivergence, NegativeBinomialNLL, PoissonNLL, TweedieNLL
from tinydl.losses.margin import Hinge, Quantile

__all__ = ["CRF", "CTC", "GaussianKL", "GaussianNLL", "Hinge", "Huber", "Joint", "KLDivergence", "Loss", "MeanAbsoluteError",
           "MeanSquaredError", "NegativeBinomialNLL", "PoissonNLL", "PythonLoss", "Quantile", "SigmoidCrossEntropy",
           "SigmoidFocal", "SoftmaxCrossEntropy", "TweedieNLL"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
