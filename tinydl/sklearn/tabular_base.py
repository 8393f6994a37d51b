"""Tabular: what TabularClassifier and TabularRegressor have in common, from a table to a fitted ensemble."""
from __future__ import annotations

import copy
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
from sklearn.inspection import permutation_importance
from sklearn.metrics import get_scorer
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_array, check_consistent_length, check_is_fitted, validate_data

from tinydl import tabular
from tinydl.data.frames import makes_table, native
from tinydl.optim import Optimizer
from tinydl.parallel import TrainingError
from tinydl.plotting import plot_curves
from tinydl.sklearn.base import TOO_LARGE, Base, of_numpy, warn
from tinydl.sklearn.parameters import Rule, boolean, check, either, one_of, real, whole
from tinydl.sklearn.tasks import Tasks, with_callbacks
from tinydl.tables import TableEncoder
from tinydl.tables.columns import RowError, columns

Array = np.ndarray[Any, Any]

__all__ = ["Tabular"]

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
        "time_limit": either(one_of(None), real(0, above=True)), "dates": boolean, "warm_start": boolean,
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
    warm_start: bool
    n_threads: int
    random_state: Any
    verbose: Any

    encoder_: TableEncoder
    members_: list[dict[str, Any]]
    temperature_: float
    n_iter_: int
    _held_out: Array
    _made_with: dict[str, Any]
    _optimizer: Optimizer

    # ------------------------------------------------------------------ what subclasses say
    #: parameters that say what networks there are, and how columns are encoded: those that are trained on have them
    _fixed: ClassVar[tuple[str, ...]] = ("n_members", "hidden_layer_sizes", "activation", "embedding", "categorical_features",
                                         "dates")

    def _checked(self, y: Any) -> Array:
        """y as an array (n,), or of several (n, K); ValueError names the row of what is no target."""
        raise NotImplementedError

    def _targets(self, y: Array, rows: Array, first: bool, once: bool, classes: Any) -> tuple[tabular.Task, Array, Any]:
        """The task, what the model trains on, and what scorers are given. rows: the numbers (m,) of the rows that count, as often
        as they do. first: there are no networks yet; once: it is a batch of partial_fit, where not all classes need be."""
        raise NotImplementedError

    def _weights(self, y: Array, weights: Array | None) -> Array | None:
        """Of each row (n,), when its own is one of weights (n,), or 1 (None)."""
        return weights

    def _trained_on(self, known: Any, first: bool) -> None:
        """Training on these targets has succeeded."""

    # ------------------------------------------------------------------ fit
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X, a DataFrame or array of n rows, and y, where rows count by their sample_weight (n,). Returns self.

        With the same random_state the result does not depend on the order of the rows. Where weights are whole numbers, rows are
        repeated: one of weight 2 is two rows, to the bit and in the time that it takes, one of weight 0 none. Where this would
        come to more than four times the rows that count, and to more than 10,000, or where weights are not whole, they weigh the
        loss and the figures. Equal rows are set aside together, so that no network knows the row by which it is judged, but where
        rows with the same columns have several targets."""
        return self._fit(X, y, sample_weight)

    @with_callbacks
    @of_numpy
    def _fit(self, X: Any, y: Any, sample_weight: Any, once: bool = False, classes: Any = None) -> Any:
        """once: partial_fit."""
        with self._as_before_on_error():
            return self._train(X, y, sample_weight, once, classes)

    @contextmanager
    def _as_before_on_error(self) -> Iterator[None]:
        """What is found of X and y before training is what predictions go by, so it stays as it was where training fails."""
        names = "n_features_in_", "feature_names_in_", "classes_", "_several", "_mean", "_deviation", "_one", "_single"
        before = {name: vars(self)[name] for name in names if name in vars(self)}
        try:
            yield
        except BaseException:
            for name in names:
                self.__dict__.pop(name, None)
            self.__dict__.update(before)
            raise

    def _train(self, X: Any, y: Any, sample_weight: Any, once: bool, classes: Any) -> Any:
        begun = perf_counter()
        check(self, self._rules)
        first = "model_" not in vars(self) or not (self.warm_start or once)
        if not first:
            self._check_fixed(once)
        X, n = self._table(X, reset=first)
        rows, weights = np.arange(n), None
        if sample_weight is not None:
            rows, weights = tabular.counted(_check_sample_weight(sample_weight, X, ensure_non_negative=True))
        checked = self._checked(y)
        check_consistent_length(X, checked)
        task, targets, known = self._targets(checked, rows, first, once, classes)
        weights = self._weights(known[rows], weights)
        if weights is not None:             # those of classes may be whole numbers, or 0, too
            again, weights = tabular.counted(weights)
            rows = rows[again]
        if len(rows) < LEAST_ROWS and not once:
            raise ValueError(f"{type(self).__name__} with n_samples={len(rows)}: it needs at least {LEAST_ROWS} rows, since it "
                             "sets some aside")
        table, targets, known = _rows(X, rows), targets[rows], known[rows]
        with _named_as_given(rows):
            encoder = self.encoder_ if not first else TableEncoder(
                categorical=self._categorical(), dates=self.dates, one_hot_up_to=8, binary=True,
                max_categories=tabular.MAX_CATEGORIES).fit(table)
            x = tabular.inputs(encoder, encoder.transform(table))
        start = None if first else tabular.Ensemble(self.model_, temperature=self.temperature_)
        options: dict[str, Any] = {"n_codes": sum(encoder.cardinalities), "weights": weights}
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        epochs = 1 if once else self.max_epochs * self.n_members
        tasks = Tasks(self, X, y, sample_weight, epochs)
        progress = _Progress(epochs, self.verbose, tasks)
        try:
            if once:
                found = self._one_pass(start, x, targets, task, seed, options)
                progress()
            else:
                found = tabular.fit(
                    x, targets, task, self._recipe(), seed=seed,
                    time_limit=None if self.time_limit is None else max(1e-9, self.time_limit - (perf_counter() - begun)),
                    n_threads=self.n_threads, start=start, calibrate=bool(getattr(self, "calibrate", False)), on_epoch=progress,
                    figure=None if self.scoring is None else self._scorer(table, known, weights, first), **options)
                self.members_, self.n_iter_ = found.members, max(len(member["loss"]) for member in found.members)
                self.__dict__.pop("_optimizer", None)
                self._check_rate()
        except TrainingError as e:
            raise ValueError(f"{TOO_LARGE}, or the learning rate is too large: {e}") from e
        finally:
            progress.close()
        self.encoder_, self.model_, self.temperature_ = encoder, found.model, found.temperature
        self._made_with = self._fixed_now()
        self._trained_on(known, first)
        tasks.end()
        return self

    def _check_rate(self) -> None:
        """A warning where training ended, as by time_limit, before the rate was half of the highest: little was learnt."""
        if self.n_iter_ < tabular.RISE * self.max_epochs:
            warn(f"Training ended after {self.n_iter_} of max_epochs={self.max_epochs}, over which the rate rises and falls: it "
                 f"had not come to half of learning_rate={self.learning_rate:g}, so little was learnt. Give a max_epochs that "
                 "the time allows")

    def _one_pass(self, start: Any, x: dict[str, Array], targets: Array, task: tabular.Task, seed: int,
                  options: dict[str, Any]) -> tabular.Ensemble:
        optimizer = self._new_optimizer()
        if start is not None and "_optimizer" in vars(self):
            optimizer.load_state_dict(self._optimizer.state_dict())
        found = tabular.one_pass(start, x, targets, task, self._recipe(), optimizer, seed=[seed, optimizer.t], **options)
        self._optimizer = optimizer
        if start is None:
            self.members_, self.n_iter_ = [], 0
        self.n_iter_ += 1
        return found

    def _new_optimizer(self) -> Optimizer:
        return tabular.steady(self._recipe())

    def _recipe(self) -> tabular.Recipe:
        return tabular.Recipe(
            hidden_sizes=tuple(self.hidden_layer_sizes), activation=self.activation, dropout=float(self.dropout),
            embedding=self.embedding, learning_rate=float(self.learning_rate), weight_decay=float(self.weight_decay),
            label_smoothing=float(getattr(self, "label_smoothing", 0.0)), batch_size=self.batch_size, max_epochs=self.max_epochs,
            patience=self.n_iter_no_change, n_members=self.n_members, validation_fraction=float(self.validation_fraction))

    def _fixed_now(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self._fixed}
        return {name: value if value is None or np.ndim(value) == 0 else np.asarray(value).tolist()
                for name, value in values.items()}

    def _check_fixed(self, once: bool) -> None:
        """ValueError names a parameter that the networks that are to be trained on were not made with."""
        for name, value in self._fixed_now().items():
            if self._made_with[name] != value:
                raise ValueError(f"{name}={value!r:.60}, and the networks that are to be trained on were made with "
                                 f"{self._made_with[name]!r:.60}: " + ("fit makes" if once else "set warm_start=False for")
                                 + " new ones")

    def _table(self, X: Any, reset: bool) -> tuple[Any, int]:
        """X, checked as far as scikit-learn does it, and its rows. A table with names stays as it is."""
        X = native(X)
        method = makes_table(X)
        if method is not None and method != "toarray":      # of a sparse matrix scikit-learn says it
            raise ValueError(f"X is a {type(X).__name__}, which is no table: give X.{method}()")
        if method is None and isinstance(X, Mapping):
            raise ValueError(f"X is a {type(X).__name__}: give a table of it, as pandas.DataFrame(X)")
        if hasattr(X, "columns") or hasattr(X, "column_names"):
            validate_data(self, X, reset=reset, skip_check_array=True)
            return X, len(X)
        if _is_mixed(X):
            X = np.array(X, object)         # NumPy makes text of numbers beside text
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
        if isinstance(self.categorical_features, str):
            from_dtype = self.categorical_features == "from_dtype"
            hint = ("None; columns of text and of categories are known by their dtype" if from_dtype else
                    f"a list of columns, as [{self.categorical_features!r}]")
            raise ValueError(f"categorical_features={self.categorical_features!r}: {hint}")
        if self.categorical_features is None:
            return []
        if not hasattr(self.categorical_features, "__len__"):
            raise ValueError(f"categorical_features={self.categorical_features!r}: a list of columns, a mask of them, or None")
        if not len(self.categorical_features):
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

    def _scorer(self, X: Any, y: Any, weights: Array | None, first: bool) -> Any:
        """What the epoch is picked by: the score of rows that are set aside, negative."""
        score, trained = get_scorer(self.scoring), copy.copy(self)
        trained._trained_on(y, first)

        def figure(outputs: Array, rows: Array) -> float:
            known = copy.copy(trained)
            known._held_out = outputs
            how = {} if weights is None else {"sample_weight": weights[rows]}
            return -float(score(known, _rows(X, rows), y[rows], **how))
        return figure

    # ------------------------------------------------------------------ predict
    @of_numpy
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
        names, _, _ = columns(X)        # of the table: scikit-learn knows those of text alone
        pairs = zip(map(str, names), found.importances_mean.tolist(), strict=True)
        return dict(sorted(pairs, key=lambda pair: -pair[1]))

    def plot_history(self, path: str | Path) -> Path:
        """Draw each member's training loss and its figure on the rows set aside, over epochs, into a file (extra `plot`)."""
        check_is_fitted(self)
        if not self.members_:
            raise ValueError("partial_fit keeps no history; fit does")
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


def _is_mixed(X: Any) -> bool:
    """Whether these are rows, as lists of one length, with text beside what is no text."""
    if not isinstance(X, (list, tuple)) or not all(isinstance(row, (list, tuple)) and len(row) == len(X[0]) for row in X):
        return False
    return len({isinstance(value, str) for row in X for value in row}) > 1


def _rows(X: Any, rows: Array) -> Any:
    """The rows of these numbers of a table of any kind; of all of them in their order X itself."""
    if len(rows) == len(X) and (rows == np.arange(len(X))).all():
        return X
    if hasattr(X, "iloc"):
        return X.iloc[rows]
    return X.take(rows) if hasattr(X, "column_names") else X[rows]


@contextmanager
def _named_as_given(rows: Array) -> Iterator[None]:
    """What is wrong in one of these rows is told of the table that they were taken out of."""
    try:
        yield
    except RowError as e:
        raise e.of(rows) from None
