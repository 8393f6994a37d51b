"""TabularClassifier and TabularRegressor: a table as it is in, predictions out. How they train is in `tinydl.tabular`."""
from __future__ import annotations

import copy
import sys
import warnings
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.inspection import permutation_importance
from sklearn.metrics import get_scorer, mean_pinball_loss
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length, check_is_fitted, validate_data

from tinydl import tabular
from tinydl.data.frames import as_numbers, decoded, first_missing
from tinydl.parallel import TrainingError
from tinydl.plotting import plot_curves
from tinydl.sklearn.base import TOO_LARGE, Base
from tinydl.sklearn.labels import Classifier
from tinydl.sklearn.parameters import Rule, boolean, check, either, one_of, real, whole
from tinydl.sklearn.tasks import Tasks, with_callbacks
from tinydl.tables import TableEncoder
from tinydl.tabular import CLASSES, NUMBERS

Array = np.ndarray[Any, Any]

__all__ = ["TabularClassifier", "TabularRegressor"]

#: rows below which none can be set aside
LEAST_ROWS = 5

_sizes = Rule(lambda v: isinstance(v, (tuple, list)) and all(whole(1).holds(size) for size in v), "a tuple of whole numbers")


class Tabular(Base):
    """What both have in common."""

    _rules: ClassVar[dict[str, Rule]] = {
        "n_members": whole(1), "hidden_layer_sizes": _sizes, "activation": one_of(*tabular.ACTIVATIONS),
        "dropout": real(0, 1, below=True), "embedding": one_of("periodic", "piecewise", None),
        "learning_rate": real(0, above=True), "weight_decay": real(0),
        "batch_size": either(one_of(None), whole(1)), "max_epochs": whole(1), "n_iter_no_change": whole(1),
        "validation_fraction": real(0, 0.5, above=True), "scoring": either(one_of(None), Rule(
            lambda v: isinstance(v, str) or callable(v), "the name of a scorer of scikit-learn, or one")),
        "time_limit": either(one_of(None), real(0, above=True)), "dates": boolean,
        "n_threads": either(whole(1), one_of(-1)), "verbose": either(boolean, whole(0))}

    n_members: int
    hidden_layer_sizes: tuple[int, ...]
    activation: str
    dropout: float
    embedding: str | None
    learning_rate: float
    weight_decay: float
    batch_size: int | None
    max_epochs: int
    n_iter_no_change: int
    validation_fraction: float
    scoring: Any
    time_limit: float | None
    categorical_features: Any
    dates: bool
    n_threads: int
    random_state: Any
    verbose: Any

    encoder_: TableEncoder
    members_: list[dict[str, Any]]
    n_iter_: int
    _held_out: Array

    # ------------------------------------------------------------------ what subclasses say
    def _targets(self, y: Any) -> tuple[tabular.Task, Array, Any]:
        """The task, what the model trains on, and y checked, for scorers."""
        raise NotImplementedError

    def _weights(self, y: Any, weights: Array | None) -> Array | None:
        """Of each row, when sample_weight is (n,) or None."""
        return weights

    # ------------------------------------------------------------------ fit
    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X, a DataFrame or array of n rows, and y, where rows count by their sample_weight (n,). Returns self."""
        check(self, self._rules)
        X, n = self._table(X, reset=True)
        task, targets, known = self._targets(y)
        check_consistent_length(X, targets)
        if n < LEAST_ROWS:
            raise ValueError(f"{type(self).__name__} with n_samples={n}: it needs at least {LEAST_ROWS} rows, since it sets some "
                             "aside")
        weights = None if sample_weight is None else _check_sample_weight(sample_weight, X, ensure_non_negative=True)
        if weights is not None and not weights.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        weights = self._weights(known, weights)
        if weights is not None and not weights.all():       # rows that do not count are as if they were not there
            X, targets, known, weights = _rows(X, weights > 0), targets[weights > 0], known[weights > 0], weights[weights > 0]
        self.encoder_ = TableEncoder(categorical=self._categorical(), dates=self.dates, one_hot_up_to=8, binary=True)
        x = tabular.inputs(self.encoder_, self.encoder_.fit_transform(X))
        recipe = tabular.Recipe(
            hidden_sizes=tuple(self.hidden_layer_sizes), activation=self.activation, dropout=float(self.dropout),
            embedding=self.embedding, learning_rate=float(self.learning_rate), weight_decay=float(self.weight_decay),
            label_smoothing=float(getattr(self, "label_smoothing", 0.0)), batch_size=self.batch_size, max_epochs=self.max_epochs,
            patience=self.n_iter_no_change, n_members=self.n_members, validation_fraction=float(self.validation_fraction))
        tasks = Tasks(self, X, y, sample_weight, self.max_epochs * self.n_members)
        progress = _Progress(self.max_epochs * self.n_members, self.verbose, tasks)
        try:
            found = tabular.fit(
                x, targets, task, recipe, n_codes=sum(self.encoder_.cardinalities), weights=weights,
                seed=int(check_random_state(self.random_state).randint(2**31 - 1)), time_limit=self.time_limit,
                n_threads=self.n_threads, calibrate=bool(getattr(self, "calibrate", False)),
                figure=None if self.scoring is None else self._scorer(X, known, weights), on_epoch=progress)
        except TrainingError as e:
            raise ValueError(f"{TOO_LARGE}, or the learning rate is too large: {e}") from e
        finally:
            progress.close()
        self.model_, self.members_, self.temperature_ = found.model, found.members, found.temperature
        self.n_iter_ = max(len(member["loss"]) for member in found.members)
        tasks.end()
        return self

    def _table(self, X: Any, reset: bool) -> tuple[Any, int]:
        """X, checked as far as scikit-learn does it, and its rows. A table with names stays as it is."""
        if hasattr(X, "columns") or hasattr(X, "column_names"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X, len(X)
        X = validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False)
        if X.dtype.kind == "O":
            try:
                X = X.astype(np.float64)
            except ValueError:          # text among them: categories
                pass
        if X.dtype.kind in "fiub":
            check_array(X, ensure_all_finite="allow-nan")
        return X, len(X)

    def _categorical(self) -> list[Any]:
        if self.categorical_features is None or not len(self.categorical_features):
            return []
        chosen: Array = np.asarray(self.categorical_features)
        names = getattr(self, "feature_names_in_", None)
        if chosen.dtype.kind == "b":
            if len(chosen) != self.n_features_in_:
                raise ValueError(f"categorical_features is a mask of {len(chosen)} columns; X has {self.n_features_in_}")
            chosen = np.flatnonzero(chosen)
        if chosen.dtype.kind in "iu" and names is not None:
            chosen = names[chosen]
        return list(chosen.tolist())

    def _scorer(self, X: Any, y: Any, weights: Array | None) -> Any:
        """What the epoch is picked by: the score of rows that are set aside, negative."""
        score = get_scorer(self.scoring)

        def figure(outputs: Array, rows: Array) -> float:
            known = copy.copy(self)
            known._held_out = outputs
            how = {} if weights is None else {"sample_weight": weights[rows]}
            return -float(score(known, _rows(X, rows), y[rows], **how))
        return figure

    # ------------------------------------------------------------------ predict
    def _outputs(self, X: Any) -> Array:
        """The model's predictions for the rows of X."""
        if "_held_out" in vars(self):
            return self._held_out
        check_is_fitted(self)
        X, _ = self._table(X, reset=False)
        x = tabular.inputs(self.encoder_, self.encoder_.transform(X))
        return np.asarray(self.model_.predict(tabular.given(x)))

    def feature_importances(self, X: Any, y: Any, *, n_repeats: int = 5, scoring: Any = None,
                            random_state: Any = None) -> dict[str, float]:
        """How much the score on the rows of X falls when a column's values are permuted (scikit-learn's permutation_importance;
        the mean of n_repeats), by columns, the most important first. Rows that were not trained on say most."""
        check_is_fitted(self)
        found = permutation_importance(self, X, y, n_repeats=n_repeats, scoring=scoring, random_state=random_state)
        names = getattr(self, "feature_names_in_", range(self.n_features_in_))
        pairs = zip(map(str, names), found.importances_mean.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def plot_history(self, path: str | Path) -> Path:
        """Draw each member's training loss and its figure on the rows set aside, over epochs, into a file (extra `plot`)."""
        check_is_fitted(self)
        return plot_curves({f"member {i + 1}": member for i, member in enumerate(self.members_)}, Path(path))

    # ------------------------------------------------------------------ files
    def to_onnx(self, path: str | Path, **options: Any) -> None:
        """Write an ONNX file (extra `onnx`) that predicts from a table's columns as they are: an input (rows, 1) for each, by
        its name, that has something to say. Numbers, booleans, and dates in seconds since 1970, are float64, NaN where one is
        missing; text is strings, "" where it is missing; unseen categories are taken. Outputs: `label` (rows,) and
        `probabilities` (rows, classes); `labels`, of several labels a row; of numbers `value`. options: opset and ir_version, as
        Model.to_onnx has.

            clf.to_onnx("income.onnx")
            onnxruntime.InferenceSession("income.onnx").run(None, {"age": table[["age"]].to_numpy(float), ...})
        """
        from tinydl.sklearn.tabular_onnx import write  # not every program writes one
        check_is_fitted(self)
        write(self, path, **options)

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "encoder_" in state:
            state["encoder_"] = self.encoder_.to_dict()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "encoder_" in state:
            state = {**state, "encoder_": TableEncoder.from_dict(state["encoder_"])}
        super().__setstate__(state)

    def __sklearn_tags__(self) -> Any:
        """Missing values, categories and text are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.categorical = tags.input_tags.string = True
        return tags


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
    ends before, with what was best so far. calibrate: whether scores are scaled so that probabilities are right on the rows set
    aside. class_weight: None, "balanced", or {class: weight}; a row counts by it times its sample_weight. n_threads: members
    side by side; the result does not depend on it. -1: as many as recommended. The settings of the networks are those of
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

    def __init__(self, *, n_members: int = CLASSES.n_members, hidden_layer_sizes: tuple[int, ...] = CLASSES.hidden_sizes,
                 activation: str = CLASSES.activation, dropout: float = CLASSES.dropout,
                 embedding: str | None = CLASSES.embedding, learning_rate: float = CLASSES.learning_rate,
                 weight_decay: float = CLASSES.weight_decay,
                 label_smoothing: float = CLASSES.label_smoothing, batch_size: int | None = CLASSES.batch_size,
                 max_epochs: int = CLASSES.max_epochs, n_iter_no_change: int = CLASSES.patience,
                 validation_fraction: float = CLASSES.validation_fraction, scoring: Any = None,
                 time_limit: float | None = None, calibrate: bool = True, class_weight: Any = None,
                 categorical_features: Any = None, dates: bool = False, n_threads: int = 1, random_state: Any = None,
                 verbose: Any = False) -> None:
        self._take(locals())

    def _targets(self, y: Any) -> tuple[tabular.Task, Array, Any]:
        y = _checked_y(self, y)
        codes = self._encode_new(y)
        if self._several:
            return tabular.Labels(y.shape[1]), codes.astype(np.float32), codes.astype(np.int64)
        return tabular.Classes(len(self.classes_)), codes.astype(np.int64), self.classes_[codes]

    def _weights(self, y: Any, weights: Array | None) -> Array | None:
        if self.class_weight is None:
            return weights
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


class TabularRegressor(RegressorMixin, Tabular):    # type: ignore[misc]
    """Numbers for the rows of a table, by a few networks whose predictions are averaged.

    All as in TabularClassifier, but what follows. y is (n,), or (n, targets); it is standardised inside. The figure on the rows
    set aside is the mean squared error. clip: whether predictions stay within the range that y had in fit, which one row of wild
    values could else leave by far. quantiles: levels above 0 and below 1, of one target: predictions are (n, levels) then, from
    the lowest level to the highest and never falling, by the pinball loss, which is the figure too; `score` is D2 then, the share
    of pinball loss less than that of y's own quantiles.

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

    clip: bool
    quantiles: Any

    def __init__(self, *, n_members: int = NUMBERS.n_members, hidden_layer_sizes: tuple[int, ...] = NUMBERS.hidden_sizes,
                 activation: str = NUMBERS.activation, dropout: float = NUMBERS.dropout,
                 embedding: str | None = NUMBERS.embedding, learning_rate: float = NUMBERS.learning_rate,
                 weight_decay: float = NUMBERS.weight_decay,
                 batch_size: int | None = NUMBERS.batch_size, max_epochs: int = NUMBERS.max_epochs,
                 n_iter_no_change: int = NUMBERS.patience, validation_fraction: float = NUMBERS.validation_fraction,
                 scoring: Any = None, time_limit: float | None = None, clip: bool = True, quantiles: Any = None,
                 categorical_features: Any = None, dates: bool = False, n_threads: int = 1, random_state: Any = None,
                 verbose: Any = False) -> None:
        self._take(locals())

    def _targets(self, y: Any) -> tuple[tabular.Task, Array, Any]:
        y = np.asarray(_checked_y(self, y, numeric=True), np.float64)
        self._one = y.ndim == 1
        known, y = y, y.reshape(len(y), -1)
        if self.quantiles is not None and y.shape[1] > 1:
            raise ValueError(f"quantiles are of one target; y has {y.shape[1]}")
        self._lowest, self._highest = y.min(0), y.max(0)
        self._mean = y.mean(0)
        deviation = y.std(0)
        self._deviation = np.where(deviation > 1e-12 * np.abs(y).max(0), deviation, 1.0)
        task = tabular.Values(y.shape[1]) if self.quantiles is None else tabular.Quantiles(sorted(self.quantiles))
        return task, ((y - self._mean) / self._deviation).astype(np.float32), known

    def predict(self, X: Any) -> Array:
        """The targets of each row, (n,) or (n, targets), or quantiles (n, levels); float64. A row's have the same bits whatever
        rows are beside it."""
        values = self._outputs(X).astype(np.float64) * self._deviation + self._mean
        if self.quantiles is not None:
            values.sort(1)
        if self.clip:
            values = np.clip(values, self._lowest, self._highest)
        return np.asarray(values.ravel() if self._one and self.quantiles is None else values)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R2 of the predictions; of quantiles D2, the mean over levels."""
        if self.quantiles is None:
            return float(super().score(X, y, sample_weight))
        found, y, shares = self.predict(X), np.asarray(y, np.float64).ravel(), []
        for i, level in enumerate(sorted(self.quantiles)):
            loss = mean_pinball_loss(y, found[:, i], alpha=level, sample_weight=sample_weight)
            own = np.full(len(y), np.quantile(y, level))
            shares.append(1 - loss / mean_pinball_loss(y, own, alpha=level, sample_weight=sample_weight))
        return float(np.mean(shares))


class _Progress:
    """After each epoch of a member: a line on stderr, and scikit-learn's callbacks. They see no estimator yet: what predicts are
    all members together."""

    def __init__(self, epochs: int, verbose: Any, tasks: Tasks) -> None:
        self.epochs, self.done, self.verbose, self.tasks = epochs, 0, verbose, tasks

    def __call__(self) -> None:
        self.done += 1
        if self.verbose:
            print(f"\r{self.done} of at most {self.epochs} epochs", end="", file=sys.stderr, flush=True)
        self.tasks.epoch()

    def close(self) -> None:
        if self.verbose:
            print(file=sys.stderr)


def _checked_y(owner: Any, y: Any, numeric: bool = False) -> Array:
    if y is None:
        raise ValueError(f"{type(owner).__name__} requires y to be passed, but the target y is None")
    if hasattr(y, "toarray"):
        y = y.toarray()
    known: Array = np.asarray(decoded(y))
    missing = first_missing(known)
    if missing is not None:
        raise ValueError(f"y has no value in row {missing[0]}: leave rows out whose target is missing")
    y = as_numbers(known)       # of pandas, polars and pyarrow: integers and booleans stay what they are
    y = check_array(y, ensure_2d=False, dtype="numeric" if numeric else None, ensure_all_finite=True, input_name="y",
                    estimator=owner)
    if y.ndim == 2 and y.shape[1] == 1:
        warnings.warn("A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples,), "
                      "for example using ravel().", DataConversionWarning, stacklevel=4)
        y = y.ravel()
    return np.asarray(y)


def _rows(X: Any, rows: Array) -> Any:
    """Those rows of a table of any kind. rows: numbers, or a mask."""
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    rows = np.flatnonzero(rows) if rows.dtype.kind == "b" else rows
    return X.take(rows) if hasattr(X, "column_names") else X[rows]
