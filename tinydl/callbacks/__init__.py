"""Callbacks: what is done between updates and epochs.

All are called in the thread that called `train`, never while an update is made, so they may read and change
everything: the values of the model's parameters, the learning rate, the configuration, and end training with `trainer.stop()`.
(What is frozen is read by `Trainer.init`: another `freeze` ends training with an error.) What one raises comes out of `train`
with the parameters as of the last finished update; `train` may be called again and goes on.

What a callback remembers is kept by checkpoints (`state_dict`, `load_state_dict`), and forgotten by `Trainer.init`
(`on_init`). With the callbacks here an interrupted training (Ctrl-C at any moment, or a resume from a checkpoint)
goes on to the bits of one that was never interrupted.
"""
from __future__ import annotations

from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.callbacks.checkpoints import Checkpoint
from tinydl.callbacks.early_stopping import EarlyStopping
from tinydl.callbacks.loggers import CSVLogger, JSONLLogger
from tinydl.callbacks.rates import LearningRate, ReduceOnPlateau
from tinydl.callbacks.tensorboard import TensorBoard
from tinydl.callbacks.weight_averaging import WeightAveraging

__all__ = ["CSVLogger", "Callback", "Checkpoint", "EarlyStopping", "JSONLLogger", "LearningRate", "ReduceOnPlateau",
           "TensorBoard", "WeightAveraging"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
