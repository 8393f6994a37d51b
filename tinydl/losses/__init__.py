"""Losses: means over samples and outputs, as PyTorch's default.

Targets are shaped like the outputs, but for axes of size 1 at the end, or are integer class labels (B,).

In a plan a loss is one operation with its gradient; called with arrays it returns the number:

    >>> import numpy as np
    >>> float(MeanSquaredError()(np.zeros((2, 3)), np.ones((2, 3))))
    1.0
"""
from tinydl.losses.base import Loss, PythonLoss
from tinydl.losses.builtin import Huber, MeanAbsoluteError, MeanSquaredError, SigmoidCrossEntropy, SoftmaxCrossEntropy

__all__ = ["Huber", "Loss", "MeanAbsoluteError", "MeanSquaredError", "PythonLoss", "SigmoidCrossEntropy",
           "SoftmaxCrossEntropy"]
