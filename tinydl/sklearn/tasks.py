"""scikit-learn's own callbacks (`estimator.set_callbacks`, from 1.9 on): told of a fit, and of each of its epochs.

Where the installed version has none, or none is set, nothing of this costs anything.
"""
from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["CallbackSupport", "Tasks", "with_callbacks"]

F = TypeVar("F", bound=Callable[..., Any])

try:
    from sklearn.callback import CallbackSupportMixin as CallbackSupport
    from sklearn.callback import with_callbacks as _managed
except ImportError:         # before 1.9
    class CallbackSupport:      # type: ignore[no-redef]
        """Nothing to support."""

    _managed = None


def with_callbacks(method: F) -> F:
    """A method that fits: when it ends, in whatever way, callbacks are told."""
    return method if _managed is None else _managed(method)


class Tasks:
    """One fit of an estimator on X and y, of at most so many epochs. `watched`: whether somebody looks on."""

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: Any, epochs: int) -> None:
        self.watched = hasattr(estimator, "_skl_callbacks") or hasattr(estimator, "_parent_callback_ctx")
        self.estimator, self._lock = estimator, threading.Lock()
        self._what: dict[str, Any] = {"estimator": estimator, "X": X, "y": y, "metadata": None if sample_weight is None else {
            "sample_weight": sample_weight}}
        if self.watched:
            self._fit = estimator._init_callback_context(max_subtasks=epochs)
            self._fit.call_on_fit_task_begin(**self._what)

    def epoch(self, fitted: Callable[[], dict[str, Any]] | None = None) -> bool:
        """An epoch is over. fitted: makes the attributes that the estimator would have if fit ended here. Returns whether a
        callback asks for the end of the fit. Any thread may say it."""
        if not self.watched:
            return False
        with self._lock:
            task = self._fit.subcontext(task_name="epoch")
            task.call_on_fit_task_begin(**self._what)
            return bool(task.call_on_fit_task_end(**self._what, reconstruction_attributes=fitted))

    def end(self) -> None:
        """The fit is over."""
        if self.watched:
            self._fit.call_on_fit_task_end(**self._what, reconstruction_attributes=dict)
