"""TabularClassifier and TabularRegressor as ONNX files, which take the columns of a table as they are."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinydl.onnx import write_table
from tinydl.onnx.predictions import labels, several_labels, values
from tinydl.tabular import ranks

__all__ = ["write"]


def write(estimator: Any, path: str | Path, **options: Any) -> None:
    """A fitted estimator, as its `to_onnx` says."""
    if hasattr(estimator, "classes_"):
        finish = several_labels if estimator._several else labels(np.asarray(estimator.classes_))
    else:
        quantiles = None if estimator.quantiles is None else ranks(estimator.quantiles)
        limits = {"low": estimator._lowest, "high": estimator._highest} if estimator.clip else {}
        finish = values(estimator._mean, estimator._deviation, ordered=quantiles, one=estimator._one and quantiles is None,
                        **limits)
    model = estimator.model_
    write_table(path, model.layer, model.dtype, estimator.encoder_, finish=finish, name="tabular", **options)
