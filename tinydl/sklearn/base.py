"""Base: a model's file in pickles, which all estimators have. Estimator: checked arrays, the rows set aside and the training of
one network, which the MLPs and Neural ones share.

An Estimator has the parameters of `RULES`, and what `fit` leaves behind in it are scikit-learn's names: model_ (a
`tinydl.Model`), n_iter_, t_, loss_, loss_curve_, best_loss_, validation_scores_, best_validation_score_.
"""
from __future__ import annotations

import io
import sys
import warnings
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from tinydl.data import ArrayDataset
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.nn.layer import REGISTRY
from tinydl.optim import Optimizer
from tinydl.parallel import TrainingError, recommended_thread_count
from tinydl.sklearn.epochs import Epochs
from tinydl.sklearn.parameters import Rule, boolean, either, one_of, real, whole
from tinydl.sklearn.tasks import CallbackSupport, Tasks
from tinydl.trainer import Trainer

Array = np.ndarray[Any, Any]
F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["RULES", "TOO_LARGE", "Base", "Estimator", "Part", "of_numpy", "warn"]

#: of the parameters that each Estimator has
RULES: dict[str, Rule] = {
    "shuffle": boolean, "tol": real(0), "verbose": either(boolean, whole(0)), "warm_start": boolean, "early_stopping": boolean,
    "validation_fraction": real(0, 1, below=True), "n_iter_no_change": either(whole(1), one_of(float("inf"))),
    "n_threads": either(whole(1), one_of(-1)), "n_shards": either(whole(1), one_of(None)),
    "dtype": Rule(lambda v: v is None or str(getattr(v, "__name__", v)) in ("float32", "float64"),
                  "None, 'float32' or 'float64'"),
}

#: numbers of a sparse matrix that are made dense at a time, to predict
AT_ONCE = 1 << 22
#: how scikit-learn says it
TOO_LARGE = ("Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed "
             "(a StandardScaler, say)")


class Part:
    """Rows to train on, or held out: x, what y was encoded as, weights or None."""

    def __init__(self, x: Array, y: Array, weights: Array | None = None) -> None:
        self.x, self.y, self.weights = x, y, weights

    def halves(self, fraction: float, rng: Any, stratify: Array | None = None) -> tuple[Part, Part]:
        """Those to train on, and those that are set aside, by scikit-learn's train_test_split; ValueError where that are
        fewer than two."""
        arrays = [self.x, self.y, *([] if self.weights is None else [self.weights])]
        parts = train_test_split(*arrays, random_state=rng, test_size=fraction, stratify=stratify)
        if len(parts[1]) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
        return Part(*parts[::2]), Part(*parts[1::2])


def of_numpy(method: F) -> F:
    """A method in which scikit-learn's checks make NumPy arrays of tensors, as they do unless array_api_dispatch is on: networks
    are trained on NumPy's memory, and predictions are NumPy's."""
    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with config_context(array_api_dispatch=False):
            return method(*args, **kwargs)
    return wrapped      # type: ignore[return-value]


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning that shows the line which calls an estimator. How many calls lie between depends on the version of scikit-learn,
    and on what wraps the estimator."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith(("tinydl.", "sklearn.")):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class Base(CallbackSupport, BaseEstimator):     # type: ignore[misc]
    """What has a model_ after fit, and goes into pickles with it. n_features_in_, feature_names_in_: as scikit-learn's."""

    model_: Model

    def _take(self, arguments: dict[str, Any]) -> None:
        """Make each argument of the constructor the attribute of its name; scikit-learn wants no more to be done there."""
        self.__dict__.update((name, value) for name, value in arguments.items() if name not in ("self", "__class__"))

    # ------------------------------------------------------------------ copies and files
    def _new_optimizer(self) -> Optimizer:
        """As `fit` makes it."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        """The model as the bytes of its file (`Model.save`), which other versions of tinydl read; the optimizer as its state."""
        state = dict(super().__getstate__())
        state.pop("_trainer", None)
        if "model_" in state:
            file = io.BytesIO()
            self.model_.save(file)
            kinds = {type(layer) for _, layer in self.model_.layer.walk()} - set(REGISTRY.values())
            state["model_"], state["_own_layers"] = file.getvalue(), {kind.__name__: kind for kind in kinds}
        optimizer = state.pop("_optimizer", None)
        if optimizer is not None:
            rate = {"lr": optimizer.lr} if isinstance(optimizer.lr, float) else {}      # a schedule is in the parameters
            state["_optimizer_state"] = {**rate, **optimizer.state_dict()}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = dict(state)
        own, held = state.pop("_own_layers", {}), state.pop("_optimizer_state", None)
        if "model_" in state:
            state["model_"] = Model.load(io.BytesIO(state["model_"]), custom_layers=own)
        super().__setstate__(state)
        if held is not None:
            try:
                optimizer = self._new_optimizer()
                optimizer.lr = held.pop("lr", optimizer.lr)
                optimizer.load_state_dict(held)
                self._optimizer = optimizer
            except (KeyError, TypeError, ValueError):       # parameters were set after fit, and ask for another optimizer
                pass


class Estimator(Base):
    """The base of those that train one network. A subclass says what model there is, what it trains on, and what its outputs
    mean."""

    shuffle: bool
    tol: float
    n_iter_no_change: float
    early_stopping: bool
    validation_fraction: float
    warm_start: bool
    random_state: Any
    verbose: Any
    n_threads: int
    n_shards: int | None
    dtype: Any

    n_outputs_: int
    n_iter_: int
    t_: int
    loss_: float
    loss_curve_: list[float]
    best_loss_: float | None
    validation_scores_: list[float] | None
    best_validation_score_: float | None

    @property
    def _any_shape(self) -> bool:
        """Whether samples may have more than one axis (images, sequences)."""
        return False

    # ------------------------------------------------------------------ arrays
    def _arrays(self, X: Any, y: Any, sample_weight: Any, reset: bool, **options: Any) -> tuple[Array, Array, Array | None]:
        """X of the dtype to train in, y, and weights of that dtype. reset: X says how many columns there are, and their names;
        else it must have those."""
        if hasattr(y, "toarray"):
            y = y.toarray()
        X, y = validate_data(self, _of_tensor(X), y, multi_output=True, dtype=self._dtypes(), order="C", reset=reset,
                             accept_sparse="csr", allow_nd=self._any_shape, **options)
        X = X.toarray() if issparse(X) else X
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=X.dtype)
            if not sample_weight.any():
                raise ValueError("Sample weights must contain at least one non-zero number.")
        return X, y, sample_weight

    def _dtypes(self) -> Any:
        dtype = getattr(self, "dtype", None)
        return [np.float64, np.float32] if dtype is None else np.dtype(dtype)

    @of_numpy
    def _outputs(self, X: Any) -> Array:
        """The model's outputs for X, which is checked; of the dtype trained with."""
        check_is_fitted(self)
        X = validate_data(self, _of_tensor(X), dtype=[np.float64, np.float32], order="C", reset=False, accept_sparse="csr",
                          allow_nd=self._any_shape)
        if not issparse(X):
            return np.asarray(self.model_.predict(X))
        rows = max(1, AT_ONCE // X.shape[1])
        return np.concatenate([self.model_.predict(X[at:at + rows].toarray()) for at in range(0, X.shape[0], rows)])

    def __sklearn_tags__(self) -> Any:
        """Sparse matrices are taken, and made dense: the whole to train, some rows at a time to predict."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # ------------------------------------------------------------------ training
    def _begin_record(self, scored: bool, first: bool) -> None:
        """Forget what former fits found; if this is not the first one, only where they went by another figure."""
        if not first and scored == (self.validation_scores_ is not None):
            return
        self.n_iter_, self.t_, self.loss_curve_, self._no_improvement_count = 0, 0, [], 0
        self.validation_scores_, self.best_validation_score_ = ([], -np.inf) if scored else (None, None)
        self.best_loss_ = None if scored else np.inf

    def _shards(self) -> tuple[int, int]:
        """Threads, and parts that a batch is cut into."""
        n_threads = recommended_thread_count() if self.n_threads == -1 else self.n_threads
        return n_threads, n_threads if self.n_shards is None else self.n_shards

    def _train(self, loss: Loss, optimizer: Optimizer, data: ArrayDataset, epochs: Epochs, tasks: Tasks, *, seed: int = 0,
               keep: bool = False) -> None:
        """Train model_ on data. Ctrl-C ends that with a warning, as in scikit-learn's MLPs; ValueError where numbers
        become too large. keep: the trainer, for the next call with the same model and optimizer, as of partial_fit."""
        names = getattr(self, "feature_names_in_", None)
        self.model_.feature_names = None if names is None else names.tolist()       # for who takes the model out
        n_threads, n_shards = self._shards()
        keep = keep and n_shards == 1           # others have threads
        trainer: Trainer | None = self.__dict__.pop("_trainer", None)
        if not keep or trainer is None or not _feed(trainer, data, self.model_, loss, optimizer):
            parallel: dict[str, Any] = {"strategy": "serial"} if n_shards == 1 else {
                "strategy": "shard", "shards_per_batch": n_shards, "enable_parallel": n_threads > 1, "thread_count": n_threads}
            trainer = Trainer(epochs.max_epochs, seed=seed, on_batch_failure="raise", **parallel)
            trainer.init(data, self.model_, loss, optimizer)
        trainer.callbacks, epochs.tasks = [epochs], tasks
        try:
            if n_shards > 1 and n_threads == 1:
                trainer.simplified_parallel_train()
            else:
                trainer.train()
            if keep:
                self._trainer = trainer
        except KeyboardInterrupt:
            warn("Training interrupted by user.")
        except TrainingError as e:
            raise ValueError(f"{TOO_LARGE}, or the learning rate is too large: {e}") from e
        finally:
            trainer.shutdown()
        tasks.end()


def _of_tensor(X: Any) -> Any:
    """X; of a tensor, whose dtype scikit-learn does not know and turns into float64, an array of the same dtype."""
    return np.asarray(X) if hasattr(X, "__dlpack__") and not isinstance(X, np.ndarray) else X


def _feed(trainer: Trainer, data: ArrayDataset, model: Model, loss: Loss, optimizer: Optimizer) -> bool:
    """Whether a trainer of this model and optimizer, and of such a loss, takes the data."""
    alike = type(trainer.loss) is type(loss) and getattr(trainer.loss, "scale", None) == getattr(loss, "scale", None)
    if trainer.model is not model or trainer.optimizer is not optimizer or not alike:
        return False
    try:
        trainer.feed(data)
    except (ValueError, RuntimeError):      # larger batches, say; what is really wrong comes out of `init`
        return False
    return True
