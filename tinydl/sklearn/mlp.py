"""MLPClassifier and MLPRegressor: scikit-learn's, trained by tinydl."""
from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import column_or_1d

from tinydl import _hints, losses, nn
from tinydl.data import ArrayDataset
from tinydl.model import Model
from tinydl.sklearn.base import RULES, TOO_LARGE, Estimator, Part, of_numpy, warn
from tinydl.sklearn.labels import Classifier
from tinydl.sklearn.mlp_epochs import MLPEpochs
from tinydl.sklearn.parameters import Rule, boolean, check, either, one_of, real, whole
from tinydl.sklearn.penalised import Penalised
from tinydl.sklearn.rules import MLPSGD, MLPAdam, Penalties
from tinydl.sklearn.tasks import Tasks, with_callbacks

Array = np.ndarray[Any, Any]

__all__ = ["MLPClassifier", "MLPRegressor"]

ACTIVATIONS: dict[str, type[nn.Layer] | None] = {"identity": None, "logistic": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class MLP(Estimator):
    """What both have in common."""

    _rules: ClassVar[dict[str, Rule]] = {
        **RULES, "activation": one_of(*ACTIVATIONS), "solver": one_of("adam", "sgd", "lbfgs"), "alpha": real(0),
        "batch_size": either(one_of("auto"), whole(1)), "learning_rate": one_of("constant", "invscaling", "adaptive"),
        "learning_rate_init": real(0, above=True), "power_t": real(0), "max_iter": whole(1), "momentum": real(0, 1),
        "nesterovs_momentum": boolean, "beta_1": real(0, 1, below=True), "beta_2": real(0, 1, below=True),
        "epsilon": real(0, above=True), "max_fun": whole(1)}
    _classifies = False
    n_outputs_: int
    n_layers_: int
    out_activation_: str

    hidden_layer_sizes: Any
    activation: str
    solver: str
    alpha: float
    batch_size: Any
    learning_rate: str
    learning_rate_init: float
    power_t: float
    max_iter: int
    loss: str
    momentum: float
    nesterovs_momentum: bool
    beta_1: float
    beta_2: float
    epsilon: float

    # ------------------------------------------------------------------ parameters as scikit-learn shows them
    def _linear(self) -> list[nn.Linear]:
        if "model_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} is not fitted: it has no parameters yet")
        return [layer for layer in self.model_.layer.layers if isinstance(layer, nn.Linear)]    # type: ignore[attr-defined]

    @property
    def coefs_(self) -> list[Array]:
        """The weights of each layer (units before, units), the model's own: what is written into them, it predicts with."""
        return [layer.weight.data for layer in self._linear()]      # type: ignore[misc]

    @coefs_.setter
    def coefs_(self, values: Iterable[Any]) -> None:
        for own, value in zip(self.coefs_, values, strict=True):
            own[...] = value

    @property
    def intercepts_(self) -> list[Array]:
        """The intercepts of each layer (units,), the model's own."""
        return [layer.bias.data for layer in self._linear()]        # type: ignore[misc, union-attr]

    @intercepts_.setter
    def intercepts_(self, values: Iterable[Any]) -> None:
        for own, value in zip(self.intercepts_, values, strict=True):
            own[...] = value

    # ------------------------------------------------------------------ fitting
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train on X (n, features) and y (n,) or (n, outputs), where rows count by their sample_weight (n,). Returns self."""
        return self._fit(X, y, sample_weight)

    def _check_parameters(self) -> list[int]:
        """ValueError where one cannot be used. The units of the hidden layers."""
        check(self, self._rules)
        if self.solver == "lbfgs":
            raise ValueError("solver='lbfgs' is not there: use 'adam' (with batch_size=len(X) an update is of all rows, too), "
                             f"'sgd', or sklearn.neural_network.{type(self).__name__}")
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if isinstance(sizes, Iterable) and not isinstance(sizes, str) else [sizes]
        for size in sizes:
            if not whole(1).holds(size):
                raise ValueError(f"hidden_layer_sizes must be > 0, and whole numbers; got {self.hidden_layer_sizes!r}")
        return [int(size) for size in sizes]

    @with_callbacks
    @of_numpy
    def _fit(self, X: Any, y: Any, sample_weight: Any, incremental: bool = False, classes: Any = None) -> Any:
        hidden = self._check_parameters()
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        first = "model_" not in vars(self) or not (self.warm_start or incremental)
        X, y, weights = self._arrays(X, y, sample_weight, reset=first, **self._y_options())
        targets = self._targets(y, first, classes)
        rng = self._random_state = check_random_state(self.random_state)
        if first:
            self._new_model([X.shape[1], *hidden, self.n_outputs_], X.dtype.name, rng)
        elif hidden != [len(b) for b in self.intercepts_[:-1]]:
            raise ValueError(f"hidden_layer_sizes={self.hidden_layer_sizes!r}, and the model that is to be trained on has "
                             f"{[len(b) for b in self.intercepts_[:-1]]}: set warm_start=False for a new one")
        self._begin_record(self.early_stopping, first)
        if targets.dtype.kind != "i":
            targets = targets.astype(self.model_.dtype, copy=False)
        part, held_out = Part(X, targets, weights), None
        if self.early_stopping:
            binary = self._classifies and self.n_outputs_ == 1
            part, held_out = part.halves(self.validation_fraction, rng, targets if binary else None)
        n = len(part.x)
        if self.batch_size != "auto" and self.batch_size > n:
            warn("Got `batch_size` less than 1 or larger than sample size. It is going to be clipped")
        batch_size = min(200 if self.batch_size == "auto" else self.batch_size, n)
        data = ArrayDataset(part.x, part.y, batch_size, sample_weight=part.weights)
        if not incremental or "_optimizer" not in vars(self):
            self._optimizer: MLPAdam | MLPSGD = self._new_optimizer()
        loss, _, factor = self._loss()
        if self.alpha:      # each part of a batch counts its share of the penalty
            loss = Penalised(loss, 0.5 * self.alpha / factor / self._shards()[1], [layer.weight for layer in self._linear()])
        self.n_iter_ = 0
        epochs = MLPEpochs(self, data, rng, 1 if incremental else self.max_iter, optimizer=self._optimizer, factor=factor,
                           constants=self._constants(part), whole_batches=self._shards()[1] == 1,
                           score=None if held_out is None else lambda model: self._score_of(model, held_out))
        tasks = Tasks(self, X, y, sample_weight, 1 if incremental else self.max_iter)
        self._train(loss, self._optimizer, data, epochs, tasks, keep=incremental)
        if not np.isfinite(self.model_.params).all():
            raise ValueError(TOO_LARGE)
        if not incremental and not epochs.stopped and self.n_iter_ == self.max_iter:
            warn(f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization hasn't converged yet.",
                 ConvergenceWarning)
        return self

    def _new_model(self, units: list[int], dtype: str, rng: Any) -> None:
        """With the initial values that scikit-learn draws (Glorot and Bengio 2010)."""
        layers: list[nn.Layer] = []
        for i, (before, after) in enumerate(pairwise(units)):
            kind = ACTIVATIONS[self.activation]
            layers += [*([kind()] if i and kind is not None else []), nn.Linear(before, after)]
        self.model_ = Model(nn.Sequential(*layers), dtype, seed=0, name=type(self).__name__)
        self.n_layers_ = len(units)
        for coef, intercept in zip(self.coefs_, self.intercepts_, strict=True):
            bound = np.sqrt((2.0 if self.activation == "logistic" else 6.0) / sum(coef.shape))
            coef[...] = rng.uniform(-bound, bound, coef.shape)
            intercept[...] = rng.uniform(-bound, bound, intercept.shape)

    def _new_optimizer(self) -> MLPAdam | MLPSGD:
        scale, penalty = self._loss()[1], Penalties() if self.alpha else 0.0
        if self.solver == "adam":
            return MLPAdam(float(self.learning_rate_init), (self.beta_1, self.beta_2), self.epsilon, scale, penalty)
        return MLPSGD(float(self.learning_rate_init), float(self.momentum), self.nesterovs_momentum, scale, penalty)

    def _y_options(self) -> dict[str, Any]:
        return {}

    def _constants(self, part: Part) -> Array | None:
        """What is to be added to the loss of each row."""
        return None

    def _loss(self) -> tuple[losses.Loss, float, float]:
        """The loss, by how much its gradient is to be multiplied for scikit-learn's, and by how much its value."""
        raise NotImplementedError

    def _targets(self, y: Array, first: bool, classes: Any) -> Array:
        """What the model trains on; sets n_outputs_ and out_activation_ where it is the first time."""
        raise NotImplementedError

    def _score_of(self, model: Model, held_out: Part) -> float:
        """The score on held-out rows; NaN where a prediction is not finite."""
        raise NotImplementedError

    def _can_go_on(self) -> bool:
        if self.solver == "lbfgs":
            raise AttributeError(f"partial_fit is only available for stochastic optimizers. {self.solver} is not stochastic.")
        return True


class MLPClassifier(Classifier, MLP):
    """scikit-learn's MLPClassifier, several times as fast: changing the import is enough.

    Parameters, defaults, attributes and meaning are scikit-learn's (see its documentation), and so are the numbers: with the
    same random_state it begins with the same weights, sets the same rows aside and takes the rows in the same order, so that its
    losses and probabilities are scikit-learn's up to rounding. In addition:

    n_threads: threads that train (-1: as many as are recommended here). n_shards: parts that each batch is cut into (None:
    n_threads). With the same n_shards the parameters have the same bits for any n_threads; with another number they differ by
    rounding. dtype: "float32" trains in float32 whatever X is, twice as fast; None in X's, which is float64 unless X is float32.
    Predictions have the dtype trained in.

    There is no solver="lbfgs". A sparse X is made dense to train on, n_samples x n_features numbers. Of a single class
    predict_proba is (n, 1), and predict_log_proba has numbers where scikit-learn's is -inf. `model_` is the trained
    `tinydl.Model`: model_.save(path) writes it to a file.

        >>> from sklearn.datasets import load_digits
        >>> from tinydl.sklearn import MLPClassifier
        >>> X, y = load_digits(return_X_y=True)
        >>> clf = MLPClassifier(random_state=0, max_iter=30, tol=0.1).fit(X[:1200] / 16, y[:1200])
        >>> clf.score(X[1200:] / 16, y[1200:]) > 0.85
        True
        >>> clf.predict_proba(X[:2] / 16).shape, [w.shape for w in clf.coefs_]
        ((2, 10), [(64, 100), (100, 10)])
    """

    _classifies = True

    @_hints.estimator
    def __init__(self, hidden_layer_sizes: Any = (100,), activation: str = "relu", *, solver: str = "adam", alpha: float = 0.0001,
                 batch_size: Any = "auto", learning_rate: str = "constant", learning_rate_init: float = 0.001,
                 power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True, random_state: Any = None, tol: float = 1e-4,
                 verbose: Any = False, warm_start: bool = False, momentum: float = 0.9, nesterovs_momentum: bool = True,
                 early_stopping: bool = False,
                 validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
                 n_iter_no_change: float = 10, max_fun: int = 15000, n_threads: int = 1, n_shards: int | None = None,
                 dtype: Any = None) -> None:
        self._take(locals())

    @available_if(lambda self: self._can_go_on())       # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """One epoch on these rows, going on from where the model is. classes: all that there will be; needed in the first call,
        unless y has several labels a row."""
        self._check_classes(y, classes)
        return self._fit(X, y, sample_weight, incremental=True, classes=classes)

    def _targets(self, y: Array, first: bool, classes: Any) -> Array:
        codes = self._encode_new(y, classes) if first else self._encode_known(y, all_of_them=self.warm_start)
        if first:
            several_outputs = self._several or len(self.classes_) > 2
            self.n_outputs_ = len(self.classes_) if several_outputs else 1
            self.out_activation_ = "softmax" if several_outputs and not self._several else "logistic"
        if self.out_activation_ == "softmax":
            return codes.astype(np.int64, copy=False)
        return codes.astype(np.float32).reshape(len(codes), -1)

    def _loss(self) -> tuple[losses.Loss, float, float]:
        if self.out_activation_ == "softmax":
            return losses.SoftmaxCrossEntropy(), 1.0, 1.0
        return losses.SigmoidCrossEntropy(), float(self.n_outputs_), float(self.n_outputs_)

    def _score_of(self, model: Model, held_out: Part) -> float:
        outputs = model.predict(held_out.x)
        if not np.isfinite(outputs).all():
            return float("nan")
        return self._accuracy(outputs, held_out.y, held_out.weights)


class MLPRegressor(RegressorMixin, MLP):        # type: ignore[misc]
    """scikit-learn's MLPRegressor, several times as fast: changing the import is enough.

    As `MLPClassifier`. With loss="poisson" predictions are exp(outputs), and y is 0 or more. With several targets
    loss_ is their mean while each update goes by the gradient of their sum, as in scikit-learn.

        >>> import numpy as np
        >>> from tinydl.sklearn import MLPRegressor
        >>> X = np.linspace(-1, 1, 200).reshape(-1, 1)
        >>> model = MLPRegressor(hidden_layer_sizes=(50,), learning_rate_init=0.01, random_state=0).fit(X, X[:, 0] ** 2)
        >>> model.score(X, X[:, 0] ** 2) > 0.95
        True
    """

    _rules: ClassVar[dict[str, Rule]] = {**MLP._rules, "loss": one_of("squared_error", "poisson")}

    @_hints.estimator
    def __init__(self, loss: str = "squared_error", hidden_layer_sizes: Any = (100,), activation: str = "relu", *,
                 solver: str = "adam", alpha: float = 0.0001, batch_size: Any = "auto", learning_rate: str = "constant",
                 learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200, shuffle: bool = True,
                 random_state: Any = None, tol: float = 1e-4, verbose: Any = False, warm_start: bool = False,
                 momentum: float = 0.9, nesterovs_momentum: bool = True, early_stopping: bool = False,
                 validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999, epsilon: float = 1e-8,
                 n_iter_no_change: float = 10, max_fun: int = 15000, n_threads: int = 1, n_shards: int | None = None,
                 dtype: Any = None) -> None:
        self._take(locals())

    @available_if(lambda self: self._can_go_on())       # type: ignore[untyped-decorator]
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One epoch on these rows, going on from where the model is."""
        return self._fit(X, y, sample_weight, incremental=True)

    def predict(self, X: Any) -> Array:
        """The targets of each row, (n,) or (n, targets), of the dtype trained with. A row's have the same bits whatever rows
        are beside it."""
        return self._answers(self._outputs(X))

    def _answers(self, outputs: Array) -> Array:
        if self.loss == "poisson":
            outputs = np.exp(outputs)
        return outputs.ravel() if outputs.shape[1] == 1 else outputs

    def _check_parameters(self) -> list[int]:
        if not isinstance(self.loss, str):
            raise ValueError(f"MLPRegressor(loss={self.loss!r}): the first argument is loss, as in scikit-learn since 1.7; write "
                             f"hidden_layer_sizes={self.loss!r}")
        return super()._check_parameters()

    def _y_options(self) -> dict[str, Any]:
        return {"y_numeric": True}

    def _targets(self, y: Array, first: bool, classes: Any) -> Array:
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        y = y.reshape(len(y), -1)
        if first:
            self.n_outputs_, self.out_activation_ = y.shape[1], "exp" if self.loss == "poisson" else "identity"
        elif y.shape[1] != self.n_outputs_:
            raise ValueError(f"y has {y.shape[1]} targets; the model was made for {self.n_outputs_}")
        return y if y.dtype.kind == "f" else y.astype(np.float64)

    def _loss(self) -> tuple[losses.Loss, float, float]:
        if self.loss == "poisson":
            return losses.PoissonNLL(), float(self.n_outputs_), float(self.n_outputs_)
        return losses.MeanSquaredError(), self.n_outputs_ / 2, 0.5

    def _constants(self, part: Part) -> Array | None:
        if self.loss != "poisson":
            return None
        y = part.y.astype(np.float64)
        return np.asarray((y * np.log(y, out=np.zeros_like(y), where=y > 0) - y).sum(1))

    def _score_of(self, model: Model, held_out: Part) -> float:
        found = self._answers(model.predict(held_out.x))
        if not np.isfinite(found).all():
            return float("nan")
        return float(r2_score(held_out.y, found, sample_weight=held_out.weights))
