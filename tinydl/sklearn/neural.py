"""NeuralClassifier and NeuralRegressor: any network of `tinydl.nn` as an estimator of scikit-learn."""
from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from tinydl import _hints, losses, nn, optim
from tinydl.data import ArrayDataset
from tinydl.model import Model
from tinydl.optim import Optimizer
from tinydl.optim.base import OptimizerState
from tinydl.sklearn.base import RULES, Estimator, Part, of_numpy
from tinydl.sklearn.epochs import Epochs
from tinydl.sklearn.labels import Classifier
from tinydl.sklearn.parameters import Rule, check, either, one_of, real, whole
from tinydl.sklearn.tasks import Tasks, with_callbacks

Array = np.ndarray[Any, Any]

__all__ = ["NeuralClassifier", "NeuralRegressor"]

#: by name, for the parameter `optimizer`
OPTIMIZERS = {name.lower(): kind for name in optim.__all__
              if isinstance(kind := getattr(optim, name), type) and issubclass(kind, Optimizer) and kind is not Optimizer}


def _kind(kind: type, says: str) -> Rule:
    return Rule(lambda v: isinstance(v, kind), says)


class Neural(Estimator):
    """What both have in common."""

    _rules: ClassVar[dict[str, Rule]] = {
        **RULES, "batch_size": whole(1), "max_epochs": whole(1), "learning_rate": real(0, above=True),
        "time_limit": either(one_of(None), real(0, above=True)),
        "module": either(one_of(None), _kind(nn.Layer, "a Layer"), _kind(Model, "a Model"),
                         Rule(callable, "a function from the numbers of features and outputs to a Layer")),
        "optimizer": either(one_of(None, *OPTIMIZERS), _kind(Optimizer, "an Optimizer")),
        "loss": either(one_of(None), _kind(losses.Loss, "a Loss"))}

    module: Any
    optimizer: Any
    learning_rate: float
    loss: losses.Loss | None
    batch_size: int
    max_epochs: int
    time_limit: float | None
    _optimizer: Optimizer

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X (n, features), or (n, ...) where a module is given, and y (n,) or (n, outputs), where rows count by their
        sample_weight (n,). Returns self."""
        return self._fit(X, y, sample_weight)

    @with_callbacks
    @of_numpy
    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, classes: Any = None) -> Any:
        check(self, self._rules)
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = "model_" not in vars(self) or not (self.warm_start or incremental)
        X, y, weights = self._arrays(X, y, sample_weight, reset=first, **self._y_options())
        codes = self._codes(y, first, classes)
        rng = check_random_state(self.random_state)
        if first:
            self.model_ = self._new_model(X, rng)
        self._begin_record(self.early_stopping, first)
        loss = self._loss()
        part, held_out = Part(X, self._targets(codes, loss), weights), None
        if self.early_stopping:
            part, held_out = part.halves(self.validation_fraction, rng, self._strata(codes))
        if not incremental or "_optimizer" not in vars(self):
            self._optimizer = self._new_optimizer()
        data = ArrayDataset(part.x, part.y, min(self.batch_size, len(part.x)), sample_weight=part.weights)
        self.n_iter_ = 0
        epochs = Epochs(self, data, rng, 1 if incremental else self.max_epochs, time_limit=self.time_limit,
                        whole_batches=self._shards()[1] == 1, least_rows=2 if self._mixes() else 1,
                        score=None if held_out is None else lambda model: self._score_of(model, held_out))
        tasks = Tasks(self, X, y, sample_weight, 1 if incremental else self.max_epochs)
        self._train(loss, self._optimizer, data, epochs, tasks, seed=int(rng.randint(2**31 - 1)), keep=incremental)
        return self

    def _new_model(self, X: Array, rng: Any) -> Model:
        """From the module: a Model as it is, a Layer with fresh initial values."""
        shape = X.shape[1:]
        if self.module is None:
            layer: Any = nn.Sequential(nn.Linear(shape[0], 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
                                       nn.Linear(128, self.n_outputs_))
        elif isinstance(self.module, (nn.Layer, Model)):
            layer = copy.deepcopy(self.module)
        else:
            layer = self.module(shape[0] if len(shape) == 1 else shape, self.n_outputs_)
        seed = int(rng.randint(2**31 - 1))
        model = layer if isinstance(layer, Model) else Model(layer, X.dtype.name, seed=seed, name=type(self).__name__)
        found = self._output_shape = model.output_shape(shape)
        if found not in self._output_shapes():
            raise ValueError(f"{type(self).__name__}: the module turns rows of shape {shape} into {found}; "
                             f"{' or '.join(map(str, self._output_shapes()))} is needed here")
        return model

    def _mixes(self) -> bool:
        return any(layer.mixes_samples for _, layer in self.model_.layer.walk())

    def _shards(self) -> tuple[int, int]:
        return (1, 1) if self._mixes() else super()._shards()

    def _new_optimizer(self) -> Optimizer:
        if isinstance(self.optimizer, Optimizer):
            own = copy.deepcopy(self.optimizer)
            own.hold(OptimizerState())
            return own
        return OPTIMIZERS[self.optimizer or "adam"](lr=float(self.learning_rate))   # type: ignore[call-arg]

    @property
    def _any_shape(self) -> bool:
        return self.module is not None

    def _y_options(self) -> dict[str, Any]:
        return {}

    def _strata(self, codes: Array) -> Array | None:
        """What the rows that are set aside have their shares of."""
        return None

    def _codes(self, y: Array, first: bool, classes: Any) -> Array:
        """y, checked, as numbers of classes or of what is to be predicted; sets n_outputs_ where it is the first time."""
        raise NotImplementedError

    def _output_shapes(self) -> list[tuple[int, ...]]:
        """Those that the model may have."""
        return [(self.n_outputs_,)]

    def _loss(self) -> losses.Loss:
        raise NotImplementedError

    def _targets(self, codes: Array, loss: losses.Loss) -> Array:
        """What the model trains on."""
        raise NotImplementedError

    def _score_of(self, model: Model, held_out: Part) -> float:
        """The score on held-out rows; NaN where an output is not finite."""
        raise NotImplementedError


class NeuralClassifier(Classifier, Neural):
    """A network of `tinydl.nn` that classifies.

    module: a Layer; a Model, which is trained on from the values that it has; or a function of the number of features (of samples
    with more axes, their shape) and of outputs that returns a Layer. None: two hidden layers of 128 ReLUs. It ends with one
    score a class (or, of two classes, one score in all), no softmax. optimizer: an Optimizer, or the name of one ("adam",
    "adamw", "sgd", ...), which gets the learning_rate. loss: None is SoftmaxCrossEntropy, or SigmoidCrossEntropy where there is
    one score, or several labels a row (y of 0 and 1, a column for each).

    Training ends after max_epochs, or when for n_iter_no_change epochs the loss did not fall by tol; with early_stopping when the
    accuracy on rows that are set aside (validation_fraction of them, in each class its share) did not rise by tol, and the
    best parameters are put back. time_limit: seconds; an epoch that would end later is not begun. n_threads, n_shards, dtype: as
    of `MLPClassifier`; a network with BatchNorm trains with one thread.

        >>> from sklearn.datasets import load_digits
        >>> from tinydl import nn
        >>> from tinydl.sklearn import NeuralClassifier
        >>> def net(n_features, n_outputs):
        ...     return nn.Sequential(nn.Linear(n_features, 64), nn.GELU(), nn.Dropout(0.1), nn.Linear(64, n_outputs))
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = NeuralClassifier(net, optimizer="adamw", max_epochs=10, random_state=0).fit(X[:1200] / 16, y[:1200])
        >>> clf.score(X[1200:] / 16, y[1200:]) > 0.85
        True
    """

    @_hints.estimator
    def __init__(self, module: Any = None, *, optimizer: Any = None, learning_rate: float = 1e-3, loss: losses.Loss | None = None,
                 batch_size: int = 32, max_epochs: int = 100, shuffle: bool = True, tol: float = 1e-4,
                 n_iter_no_change: float = 10, early_stopping: bool = False, validation_fraction: float = 0.1,
                 time_limit: float | None = None, warm_start: bool = False, random_state: Any = None, verbose: Any = False,
                 n_threads: int = 1, n_shards: int | None = None, dtype: Any = None) -> None:
        self._take(locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """One epoch on these rows, going on from where the model is. classes: all that there will be; needed in the first call,
        unless y has several labels a row."""
        self._check_classes(y, classes)
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def _codes(self, y: Array, first: bool, classes: Any) -> Array:
        codes = self._encode_new(y, classes) if first else self._encode_known(y, all_of_them=self.warm_start)
        self.n_outputs_ = len(self.classes_)
        return codes

    def _output_shapes(self) -> list[tuple[int, ...]]:
        return [*super()._output_shapes(), *([(1,)] if self.n_outputs_ == 2 and not self._several else [])]

    def _strata(self, codes: Array) -> Array | None:
        return None if self._several or np.bincount(codes).min(initial=2, where=np.bincount(codes) > 0) < 2 else codes

    def _loss(self) -> losses.Loss:
        if self.loss is not None:
            return self.loss
        one_score = self._output_shape == (1,) and len(self.classes_) > 1
        return losses.SigmoidCrossEntropy() if self._several or one_score else losses.SoftmaxCrossEntropy()

    def _targets(self, codes: Array, loss: losses.Loss) -> Array:
        dtype = self.model_.dtype
        if self._several:
            return codes.astype(dtype)
        if loss.labels:
            return codes.astype(np.int64, copy=False)
        if self._output_shape == (1,):
            return codes.astype(dtype).reshape(-1, 1)
        return np.eye(len(self.classes_), dtype=dtype)[codes]

    def _score_of(self, model: Model, held_out: Part) -> float:
        outputs = model.predict(held_out.x)
        if not np.isfinite(outputs).all():
            return float("nan")
        return self._accuracy(outputs, held_out.y, held_out.weights)


class NeuralRegressor(RegressorMixin, Neural):      # type: ignore[misc]
    """A network of `tinydl.nn` that predicts numbers.

    As `NeuralClassifier`; the module ends with one output for each target, and loss None is MeanSquaredError. y is taken as it
    is: where it is far from 0 or large, put sklearn.compose.TransformedTargetRegressor around this. With early_stopping the
    figure is R2 on the rows that are set aside.

        >>> import numpy as np
        >>> from tinydl.sklearn import NeuralRegressor
        >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
        >>> model = NeuralRegressor(random_state=0).fit(X, X[:, 0] ** 2)
        >>> model.score(X, X[:, 0] ** 2) > 0.95
        True
    """

    @_hints.estimator
    def __init__(self, module: Any = None, *, optimizer: Any = None, learning_rate: float = 1e-3, loss: losses.Loss | None = None,
                 batch_size: int = 32, max_epochs: int = 100, shuffle: bool = True, tol: float = 1e-4,
                 n_iter_no_change: float = 10, early_stopping: bool = False, validation_fraction: float = 0.1,
                 time_limit: float | None = None, warm_start: bool = False, random_state: Any = None, verbose: Any = False,
                 n_threads: int = 1, n_shards: int | None = None, dtype: Any = None) -> None:
        self._take(locals())

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch on these rows, going on from where the model is."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The targets of each row, (n,) or (n, targets), of the dtype trained with. A row's have the same bits whatever rows
        are beside it."""
        outputs = self._outputs(X)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _y_options(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _codes(self, y: Array, first: bool, classes: Any) -> Array:
        y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        y = y.reshape(len(y), -1)
        if not first and y.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {y.shape[1]} targets; the model was made for {self.n_outputs_}")
        self.n_outputs_ = y.shape[1]
        return y

    def _loss(self) -> losses.Loss:
        return losses.MeanSquaredError() if self.loss is None else self.loss

    def _targets(self, codes: Array, loss: losses.Loss) -> Array:
        return codes.astype(self.model_.dtype)

    def _score_of(self, model: Model, held_out: Part) -> float:
        found = model.predict(held_out.x)
        return float(r2_score(held_out.y, found, sample_weight=held_out.weights)) if np.isfinite(found).all() else float("nan")
