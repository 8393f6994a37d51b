"""Training: what a callback sees of its trainer."""
from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tinydl.data import Dataset, Split
from tinydl.history import History
from tinydl.losses import Loss
from tinydl.metrics import Evaluator
from tinydl.model import Model
from tinydl.monitor import Monitor
from tinydl.optim import Optimizer
from tinydl.parallel.execution.stats import ParallelStats
from tinydl.parallel.host.memory import MemoryReport

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Training"]


class Training(Protocol):
    """The trainer as callbacks see it. `Trainer` has all of this and more; its docstrings say what each does. To a type
    checker an overridden method of a Callback takes a `Training` (or nothing is annotated), not a `Trainer`: it could be
    called with less.

    A Protocol, since the trainer imports the callbacks, and they cannot import it too.
    """

    model: Model
    loss: Loss
    optimizer: Optimizer
    data: Split[Any]
    monitor: Monitor
    evaluator: Evaluator | None
    max_epochs: int
    seed: int

    @property
    def epoch(self) -> int: ...
    @property
    def rank(self) -> int: ...
    @property
    def n_ranks(self) -> int: ...
    @property
    def batches_done(self) -> int: ...
    @property
    def history(self) -> History: ...
    @property
    def gradient_norms(self) -> np.ndarray[Any, Any]: ...
    @property
    def loss_so_far(self) -> tuple[float, float]: ...
    def stop(self, *, finished: bool = False) -> None: ...
    def save_checkpoint(self, path: str | Path) -> None: ...
    def evaluate(self, dataset: Dataset | None = None) -> dict[str, float]: ...
    def evaluated_model(self) -> Model: ...
    def put_back(self, state: Mapping[str, Any]) -> None: ...
    def stats(self) -> ParallelStats: ...
    def memory_report(self) -> MemoryReport: ...
    def configure_parallel_training(self, enable: bool, thread_count: int = 0) -> None: ...
    def is_parallel_training_enabled(self) -> bool: ...
    def get_parallel_thread_count(self) -> int: ...
    def shutdown(self, timeout: float | None = None) -> bool: ...
