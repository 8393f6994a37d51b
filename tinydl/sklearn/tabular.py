"""TabularClassifier and TabularRegressor: a table as it is in, predictions out. How they train is in `tinydl.tabular`."""
from __future__ import annotations

import datetime
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.metrics import mean_pinball_loss
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_array

from tinydl import _hints, tabular
from tinydl.data.frames import as_numbers, decoded, first_missing
from tinydl.sklearn.base import warn
from tinydl.sklearn.labels import Classifier
from tinydl.sklearn.parameters import Rule, boolean, either, one_of, real
from tinydl.sklearn.tabular_base import Tabular
from tinydl.tables.outliers import GAP, told, wild
from tinydl.tabular import CLASSES, NUMBERS

Array = np.ndarray[Any, Any]

__all__ = ["TabularClassifier", "TabularRegressor"]


class TabularClassifier(Classifier, Tabular):
    """Classes of the rows of a table, by a few networks whose probabilities are averaged.

    X is a DataFrame of pandas or polars, a pyarrow Table, or an array, with whatever columns it has: numbers (scaled by their
    quartiles, wild values held back), booleans, text and categories (columns of 0 and 1 up to 8 of them, else embedded), gaps
    anywhere. categorical_features: names, places, or a mask of columns that are categories though they look like numbers.
    dates: whether columns of dates are taken, by their parts. y: labels of any type, or several labels a row (0 and 1, a column
    each).

    n_members: how many networks. Each sets validation_fraction of the rows aside, others than those before it. Training ends
    after max_epochs, or after n_iter_no_change epochs without a lower log-loss on them, and the best epoch is kept. scoring:
    another figure to go by, "accuracy", "roc_auc", or whatever scikit-learn's get_scorer takes. time_limit: seconds; training
    ends then (a little later where not one epoch is over), with what was best so far. The rate rises and falls over max_epochs,
    so let these be about as many as the time allows. calibrate: whether scores are scaled so that probabilities are right on the
    rows set aside. class_weight: None, {class: weight}, or "balanced", with which all classes count alike; a row counts by it
    times its sample_weight (`fit` says what these do), and "balanced" goes by the sums of these. n_threads: members side by side;
    the result does not depend on it. -1: as many as recommended. The settings of the networks are those of
    `tinydl.tabular.Recipe`.

    Rows in fit: at least 5. classes_, members_ (each one's epochs: "loss", "validation", and "best_epoch"), temperature_,
    encoder_ (a `tinydl.tables.TableEncoder`), model_ (a `tinydl.Model` whose outputs are the probabilities), n_iter_.

        >>> import pandas as pd
        >>> from tinydl.sklearn import TabularClassifier
        >>> table = pd.DataFrame({"town": ["Bonn", "Ulm", None, "Bonn"] * 25, "age": [30, 50, None, 31] * 25})
        >>> clf = TabularClassifier(n_members=1, random_state=0).fit(table, ["no", "yes", "yes", "no"] * 25)
        >>> clf.predict(pd.DataFrame({"town": ["Ulm", "Rome"], "age": [49, 30]})).tolist()[0]
        'yes'
    """

    _rules: ClassVar[dict[str, Rule]] = {**Tabular._rules, "label_smoothing": real(0, 1, below=True), "calibrate": boolean}

    label_smoothing: float
    calibrate: bool
    class_weight: Any

    @_hints.estimator
    def __init__(self, *, n_members: int = CLASSES.n_members, hidden_layer_sizes: tuple[int, ...] = CLASSES.hidden_sizes,
                 activation: str = CLASSES.activation, dropout: float = CLASSES.dropout,
                 embedding: str | None = CLASSES.embedding, learning_rate: float = CLASSES.learning_rate,
                 weight_decay: float = CLASSES.weight_decay,
                 label_smoothing: float = CLASSES.label_smoothing, batch_size: int | None = CLASSES.batch_size,
                 max_epochs: int = CLASSES.max_epochs, n_iter_no_change: int = CLASSES.patience,
                 validation_fraction: float = CLASSES.validation_fraction, scoring: Any = None,
                 time_limit: float | None = None, calibrate: bool = True, class_weight: Any = None,
                 categorical_features: Any = None, dates: bool = False, warm_start: bool = False, n_threads: int = 1,
                 random_state: Any = None, verbose: Any = False) -> None:
        self._take(locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """Train each network once on all rows of X and y, going on from where it is. Returns self.

        classes: all that there will be; needed in the first call, unless y has several labels a row. The first call learns from
        its rows alone how columns are encoded: their scale, their intervals and their categories. So let it have many, and of all
        kinds; a category that comes later counts as an unknown one. No rows are set aside: there is no early stopping, no best
        epoch, and no calibration (temperature_ stays what `fit` found, or 1). Networks see the same batches, of batch_size rows
        (None: a sixteenth of those in X, at least 32 and at most 256), at a constant rate, an eighth of learning_rate, which
        is the highest of fit's. max_epochs, n_iter_no_change, validation_fraction, scoring, time_limit, calibrate and n_threads
        are for `fit`. n_iter_ counts calls."""
        self._check_classes(y, classes)
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' is by the shares of all rows, of which partial_fit sees some: give "
                             "{class: weight}")
        return self._fit(X, y, sample_weight, once=True, classes=classes)

    def _checked(self, y: Any) -> Array:
        return _checked_y(self, y)

    def _targets(self, y: Array, rows: Array, first: bool, once: bool, classes: Any) -> tuple[tabular.Task, Array, Any]:
        codes = self._encode_new(y, classes) if first else self._encode_known(y, all_of_them=not once)
        if self._several:
            return tabular.Labels(y.shape[1]), codes.astype(np.float32), codes.astype(np.int64)
        return tabular.Classes(len(self.classes_)), codes.astype(np.int64), self.classes_[codes]

    def _weights(self, y: Array, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
        if weights is not None and self.class_weight == "balanced":
            return _balanced(y, weights)
        own = compute_sample_weight(self.class_weight, y)
        return np.asarray(own if weights is None else own * weights)

    def predict_proba(self, X: Any) -> Array:
        """Probabilities (n, classes), in the order of classes_; float32. A row's have the same bits whatever rows are beside
        it."""
        outputs = self._outputs(X)
        if "_held_out" in vars(self):
            outputs = self._probabilities(outputs)
        return outputs

    def predict_log_proba(self, X: Any) -> Array:
        """The logarithms of `predict_proba`; of 0, that of the smallest number."""
        return np.asarray(np.log(np.maximum(self.predict_proba(X), np.finfo(np.float32).tiny)))


def _balanced(y: Array, weights: Array) -> Array:
    """The weights (n,) times those of the classes in y (n,), or (n, labels), with which each class has the same sum. (Of
    scikit-learn's estimators some count rows for that, whatever they weigh.)"""
    found = weights.astype(np.float64)
    for column in y.reshape(len(y), -1).T:
        _, code = np.unique(column, return_inverse=True)
        order = np.lexsort((weights, code))         # sums have the same bits in whatever order the rows come
        sums = np.bincount(code[order], weights[order])
        found *= sums.sum() / (np.count_nonzero(sums) * np.where(sums > 0, sums, 1))[code]
    return found


class TabularRegressor(RegressorMixin, Tabular):    # type: ignore[misc]
    """Numbers for the rows of a table, by a few networks whose predictions are averaged.

    All as in TabularClassifier, but what follows. y is (n,), or (n, targets); it is standardised inside. The figure on the rows
    set aside is the mean squared error. clip: whether predictions stay within the range that y had in fit, which one row of wild
    values could else leave by far. quantiles: levels above 0 and below 1, of one target: predictions are (n, levels) then, in the
    order of the levels, a higher level's never below a lower one's, by the pinball loss, which is the figure too; `score` is D2
    then, the share of pinball loss less than that of y's own quantiles. A value of y that must be a mistake, as 1e30 among ones,
    is warned of by its row, and held back to the range of the others (`tinydl.tables.outliers` has the rule, which heavy tails do
    not meet). warm_start: y is standardised as it was, and its range is that of all fits.

        >>> import numpy as np
        >>> from tinydl.sklearn import TabularRegressor
        >>> X = np.random.default_rng(0).uniform(-2, 2, (400, 2))
        >>> model = TabularRegressor(random_state=0).fit(X[:300], X[:300, 0] * X[:300, 1])
        >>> model.score(X[300:], X[300:, 0] * X[300:, 1]) > 0.9
        True
    """

    _rules: ClassVar[dict[str, Rule]] = {**Tabular._rules, "clip": boolean, "quantiles": either(one_of(None), Rule(
        lambda v: np.ndim(v) == 1 and len(v) > 0 and all(isinstance(q, (float, np.floating)) and 0 < q < 1 for q in v),
        "a list of numbers above 0 and below 1"))}

    _fixed: ClassVar[tuple[str, ...]] = (*Tabular._fixed, "quantiles")

    clip: bool
    quantiles: Any
    _mean: Array
    _deviation: Array
    _lowest: Array
    _highest: Array
    _single = False         # of pickles from before there was such a thing, too

    @_hints.estimator
    def __init__(self, *, n_members: int = NUMBERS.n_members, hidden_layer_sizes: tuple[int, ...] = NUMBERS.hidden_sizes,
                 activation: str = NUMBERS.activation, dropout: float = NUMBERS.dropout,
                 embedding: str | None = NUMBERS.embedding, learning_rate: float = NUMBERS.learning_rate,
                 weight_decay: float = NUMBERS.weight_decay,
                 batch_size: int | None = NUMBERS.batch_size, max_epochs: int = NUMBERS.max_epochs,
                 n_iter_no_change: int = NUMBERS.patience, validation_fraction: float = NUMBERS.validation_fraction,
                 scoring: Any = None, time_limit: float | None = None, clip: bool = True, quantiles: Any = None,
                 categorical_features: Any = None, dates: bool = False, warm_start: bool = False, n_threads: int = 1,
                 random_state: Any = None, verbose: Any = False) -> None:
        self._take(locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train each network once on all rows of X and y, going on from where it is; as TabularClassifier.partial_fit. Returns
        self.

        The first call learns from its rows alone how columns are encoded, and what y is standardised by: let it have many. The
        range of `clip` is that of all calls."""
        return self._fit(X, y, sample_weight, once=True)

    def _checked(self, y: Any) -> Array:
        return _checked_y(self, y, numeric=True)

    def _targets(self, y: Array, rows: Array, first: bool, once: bool, classes: Any) -> tuple[tabular.Task, Array, Any]:
        known = y.astype(np.float64)
        numbers = known.reshape(len(known), -1)
        if self.quantiles is not None and numbers.shape[1] > 1:
            raise ValueError(f"quantiles are of one target; y has {numbers.shape[1]}")
        if not first and numbers.shape[1] != len(self._mean):
            raise ValueError(f"y has {numbers.shape[1]} targets; the networks that are to be trained on have {len(self._mean)}")
        self._hold_back_wild(numbers, rows, first)
        if first:
            self._standardise_by(numbers[rows])
            self._one, self._single = y.ndim == 1, y.dtype == np.float32
        task = tabular.Values(numbers.shape[1]) if self.quantiles is None else tabular.Quantiles(sorted(self.quantiles))
        return task, ((numbers - self._mean) / self._deviation).astype(np.float32), known

    def _hold_back_wild(self, y: Array, rows: Array, first: bool) -> None:
        """In the rows of y that count hold wild values back, in place, after a warning that names them. For networks that there
        are, wild is what is GAP deviations from the mean that they were made with."""
        for k, column in enumerate(y.T):
            own, found = column[rows], np.zeros(len(y), bool)
            found[rows] = wild(own) if first else np.abs(own - self._mean[k]) > GAP * self._deviation[k]
            if found.any():
                known = own[~found[rows]] if first else np.r_[own[~found[rows]], self._lowest[k], self._highest[k]]
                place = f" in row {int(found.argmax())}" + (f", column {k}" if y.shape[1] > 1 else "")
                warn(f"y is {told(column[found], known, place)}")
                column[rows] = np.clip(own, known.min(), known.max())

    def _standardise_by(self, y: Array) -> None:
        y = np.sort(y, 0)           # so that their sums have the same bits in whatever order they come
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = y.mean(0), y.std(0)
        if not np.isfinite(deviation).all():
            raise ValueError(f"y has values as large as {np.abs(y).max():g}, whose squares are too large for a number: divide y")
        self._mean, self._deviation = mean, np.where(deviation > 1e-12 * np.abs(y).max(0), deviation, 1.0)

    def _trained_on(self, known: Any, first: bool) -> None:
        y = known.reshape(len(known), -1)
        self._lowest = y.min(0) if first else np.minimum(self._lowest, y.min(0))
        self._highest = y.max(0) if first else np.maximum(self._highest, y.max(0))

    def predict(self, X: Any) -> Array:
        """The targets of each row, (n,) or (n, targets), or quantiles (n, levels); float32 where y was, else float64. A row's
        have the same bits whatever rows are beside it."""
        values = self._outputs(X).astype(np.float64) * self._deviation + self._mean
        if self.quantiles is not None:
            values = np.sort(values, 1)[:, tabular.ranks(self.quantiles)]
        if self.clip:
            values = np.clip(values, self._lowest, self._highest)
        values = values.astype(np.float32 if self._single else np.float64, copy=False)
        return np.asarray(values.ravel() if self._one and self.quantiles is None else values)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2 of the predictions; of quantiles D2, the mean over levels. Where the rows of y that count are all equal, a level is
        worth 1 if every prediction is right, else 0."""
        if self.quantiles is None:
            return float(super().score(X, y, sample_weight))
        found, y = self.predict(X), np.asarray(y, np.float64).ravel()
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, y)
        shares = []
        for i, level in enumerate(self.quantiles):
            own = np.full(len(y), _quantile(y, level, weights))
            loss, least = (mean_pinball_loss(y, p, alpha=level, sample_weight=weights) for p in (found[:, i], own))
            shares.append(1 - loss / least if least else float(not loss))
        return float(np.mean(shares))


def _quantile(y: Array, level: float, weights: Array | None) -> float:
    """The least value of y whose pinball loss is as low as any number's: it is one of y, so equal values have a loss of 0."""
    order = np.argsort(y)
    below = np.cumsum(np.ones(len(y)) if weights is None else weights[order])
    return float(y[order[np.searchsorted(below, level * below[-1])]])


def _checked_y(owner: Any, y: Any, numeric: bool = False) -> Array:
    if y is None:
        raise ValueError(f"{type(owner).__name__} requires y to be passed, but the target y is None")
    if hasattr(y, "toarray"):
        y = y.toarray()
    known: Array = np.asarray(decoded(y))
    missing = first_missing(known)
    if missing is not None:
        raise ValueError(f"y has no value in row {missing[0]}: leave rows out whose target is missing")
    if numeric and (kind := _time(known)):
        raise ValueError(f"y holds {kind}, as {known.flat[0]}; numbers are predicted: give seconds or days, as "
                         + ("y.dt.total_seconds()" if kind == "durations" else "(y - y.min()).dt.total_seconds()"))
    y = as_numbers(known)       # of pandas, polars and pyarrow: integers and booleans stay what they are
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(y))[0])
        place = f"in row {at[0]}" + (f", column {at[1]}" if len(at) > 1 and y.shape[1] > 1 else "")
        raise ValueError(f"y has no value {place}: leave rows out whose target is missing" if np.isnan(y[at]) else
                         f"y is {y[at]} {place}; targets must be finite: correct it, or leave that row out")
    y = check_array(y, ensure_2d=False, dtype="numeric" if numeric else None, ensure_all_finite=True, input_name="y",
                    estimator=owner)
    if y.ndim == 2 and y.shape[1] == 1:
        warn("A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples,), for "
             "example using ravel().", DataConversionWarning)
        y = y.ravel()
    return np.asarray(y)


def _time(y: Array) -> str | None:
    """Whether targets are dates or durations."""
    one = y.flat[0] if y.size else None
    return ("dates" if y.dtype.kind == "M" or isinstance(one, datetime.date) else
            "durations" if y.dtype.kind == "m" or isinstance(one, datetime.timedelta) else None)
