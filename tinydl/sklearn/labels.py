"""Class labels of any type: which there are, what a model trains on, and what its outputs say about them."""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, column_or_1d

from tinydl import nn
from tinydl.model import Model

Array = np.ndarray[Any, Any]

__all__ = ["Classifier", "link"]


@lru_cache(maxsize=8)
def link(kind: str, dtype: str) -> Model:
    """The layer that turns a model's outputs into predictions, as a model of its own: then a row's prediction has the same
    bits whatever rows are beside it, which NumPy's functions do not promise."""
    return Model({"softmax": nn.Softmax, "log_softmax": nn.LogSoftmax, "sigmoid": nn.Sigmoid}[kind](), dtype)


class Classifier(ClassifierMixin):      # type: ignore[misc]
    """What classifiers add to `base.Estimator`. classes_: the labels, sorted; of several labels a row (y of 0 and 1, a column
    for each) 0, 1, ... `_several`: whether y is that."""

    classes_: Array
    _several: bool

    def _encode_new(self, y: Array, classes: Any = None) -> Array:
        """Find the classes, in y or as given; codes (n,), or of several labels a row (n, labels) bool."""
        self._several = _has_several(y)
        if self._several:
            self.classes_ = np.arange(y.shape[1])
            return _codes_of_several(y)
        y = self._column(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if classes is not None:
            classes = np.unique(column_or_1d(classes))
            check_classification_targets(classes)
            self._refuse_unknown(classes)
            self.classes_, codes = classes, np.searchsorted(classes, y)
        return codes

    def _encode_known(self, y: Array, all_of_them: bool = False) -> Array:
        """The codes of y in the classes that there are; ValueError where y has another one, or (all_of_them) lacks one."""
        if self._several:
            if y.ndim != 2 or y.shape[1] != len(self.classes_):
                raise ValueError(f"y has shape {y.shape}; it had {len(self.classes_)} labels a row before")
            return _codes_of_several(y)
        y = self._column(y)
        found = np.unique(y)
        self._refuse_unknown(self.classes_, found)
        if all_of_them and len(found) < len(self.classes_):
            raise ValueError("warm_start can only be used where `y` has the same classes as in the previous call to fit. "
                             f"Previously got {self.classes_}, `y` has {found}")
        return np.searchsorted(self.classes_, y)

    def _column(self, y: Array) -> Array:
        if y.ndim == 2 and y.shape[1] > 1:
            raise ValueError(f"y has shape {y.shape} and is not 0 and 1 alone: a column of labels is (n,), several labels a row "
                             "are a column of 0 and 1 for each label")
        if y.ndim == 2:
            y = column_or_1d(y, warn=True)
        if y.dtype.kind not in "iubUS":
            check_classification_targets(y)
        return y

    def _refuse_unknown(self, classes: Array, found: Array | None = None) -> None:
        found = self.classes_ if found is None else found
        if len(np.setdiff1d(found, classes, assume_unique=True)):
            raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. 'y' has {found}.")

    def _check_classes(self, y: Any, classes: Any) -> None:
        """What partial_fit is told about them."""
        if "model_" not in vars(self) and classes is None and np.ndim(y) < 2:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if "model_" in vars(self) and classes is not None and not np.array_equal(np.unique(classes), self.classes_):
            raise ValueError(f"`classes={classes!r:.60}` is not the same as on last call to partial_fit, was: "
                             f"{self.classes_!r:.60}")

    def _accuracy(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        """The share of rows whose labels are all right. targets: what the model trains on."""
        p = self._probabilities(outputs)
        if self._several:
            right = ((p > 0.5) == (targets > 0.5)).all(1)
        elif targets.ndim == 2 and targets.shape[1] > 1:
            right = p.argmax(1) == targets.argmax(1)
        else:
            right = p.argmax(1) == targets.reshape(-1)
        return float(np.average(right, weights=weights))

    def _labels(self, probabilities: Array) -> Array:
        """The labels of probabilities (n, classes)."""
        if self._several:
            return (probabilities > 0.5).astype(np.int64)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _probabilities(self, outputs: Array, log: bool = False) -> Array:
        """(n, classes) of a model's outputs: scores of all classes, or of two classes that of the second one."""
        dtype = outputs.dtype.name
        if self._several:
            if not log:
                return np.asarray(link("sigmoid", dtype).predict(outputs))
            both = np.stack([np.zeros_like(outputs), outputs], 2)
            return np.ascontiguousarray(link("log_softmax", dtype).predict(both)[:, :, 1])
        if len(self.classes_) == 1:
            return np.full((len(outputs), 1), 0.0 if log else 1.0, outputs.dtype)
        if outputs.shape[1] == 1:
            outputs = np.hstack([np.zeros_like(outputs), outputs])
        return np.asarray(link("log_softmax" if log else "softmax", dtype).predict(outputs))

    def predict(self, X: Any) -> Array:
        """The most probable class of each row (n,); of several labels a row, those of more than one half, (n, labels) of 0, 1."""
        return self._labels(self.predict_proba(X))

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n, classes), in the order of classes_, of the dtype trained with. A row's have the same bits
        whatever rows are beside it."""
        check_is_fitted(self)
        return self._probabilities(self._outputs(X))

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`, also of probabilities that are too small for a number."""
        check_is_fitted(self)
        return self._probabilities(self._outputs(X), log=True)

    def __sklearn_tags__(self) -> Any:
        """Several labels a row are taken."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _has_several(y: Array) -> bool:
    return y.ndim == 2 and y.shape[1] > 1 and type_of_target(y) == "multilabel-indicator"


def _codes_of_several(y: Array) -> Array:
    codes = np.asarray(y != 0)
    if not _has_several(y) and not np.isin(y, (0, 1)).all():
        raise ValueError("several labels a row are columns of 0 and 1")
    return codes
