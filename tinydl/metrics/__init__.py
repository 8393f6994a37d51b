"""Figures that say how good predictions are, and evaluators, which a `Trainer` asks for them after each epoch.

    from tinydl import metrics

    metrics.roc_auc(y_true, probabilities)              # arrays in, a number out
    Trainer(20, evaluator=metrics.MetricsEvaluator("accuracy", "log_loss", "roc_auc"))

The functions are named as scikit-learn's without `_score`, take (y_true, y_pred) in its order, and give its values:

    of classes        accuracy, balanced_accuracy, precision, recall, f1, confusion_matrix     (classes.py)
    of scores         roc_auc, average_precision, top_k_accuracy                               (ranking.py)
    of probabilities  log_loss, brier, calibration_error                                       (probabilities.py)
    of numbers        mse, rmse, mae, r2                                                       (regression.py)
    of sequences      edit_distance; ctc_decode and viterbi_decode make labels of scores       (sequences.py)

All but those of sequences take `sample_weight`. They use NumPy alone, and sort at most: O(n log n) for n samples.
"""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.metrics.classes import accuracy, balanced_accuracy, confusion_matrix, f1, precision, recall
from tinydl.metrics.evaluators import AccuracyEvaluator, Evaluator, JointEvaluator, RegressionEvaluator, evaluate
from tinydl.metrics.named import MetricsEvaluator
from tinydl.metrics.probabilities import brier, calibration_curve, calibration_error, log_loss
from tinydl.metrics.ranking import average_precision, roc_auc, top_k_accuracy
from tinydl.metrics.regression import mae, mse, r2, rmse
from tinydl.metrics.sequences import LabelErrorEvaluator, ctc_decode, edit_distance, viterbi_decode

__all__ = ["AccuracyEvaluator", "Evaluator", "JointEvaluator", "LabelErrorEvaluator", "MetricsEvaluator",
           "RegressionEvaluator", "accuracy", "average_precision", "balanced_accuracy", "brier", "calibration_curve",
           "calibration_error", "confusion_matrix", "ctc_decode", "edit_distance", "evaluate",
           "f1", "log_loss", "mae", "mse", "precision", "r2", "recall", "rmse", "roc_auc", "top_k_accuracy",
           "viterbi_decode"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
