"""Optimizers: PyTorch's names, defaults and formulas; state is explicit, in flat vectors.

    >>> Adam(lr=1e-3)
    Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0)
"""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.optim import schedules
from tinydl.optim.adagrad import Adagrad
from tinydl.optim.adam import Adam, AdamW
from tinydl.optim.base import Optimizer
from tinydl.optim.lion import Lion
from tinydl.optim.nadam import NAdam
from tinydl.optim.radam import RAdam
from tinydl.optim.rmsprop import RMSprop
from tinydl.optim.sgd import SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Lion", "NAdam", "Optimizer", "RAdam", "RMSprop", "schedules"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
