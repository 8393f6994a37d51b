"""How a network is trained on a table: what TabularClassifier, TabularRegressor and `tinydl train` have in common.

    encoder = TableEncoder(one_hot_up_to=8, binary=True).fit(table)
    x = inputs(encoder, encoder.transform(table))
    ensemble = fit(x, labels, Classes(3), Recipe(), n_codes=sum(encoder.cardinalities), seed=0)
    ensemble.model.predict(given(inputs(encoder, encoder.transform(other))))        # probabilities (n, 3)

Each of a few members is a network of its own, trained on all rows but a part that is set aside; another part for each. Where
the rows that it has not seen are predicted best, a member's training ends. On them all, members' scores are calibrated by one
factor (Guo et al. 2017, "temperature scaling"). The members become one model, whose prediction is their mean.
"""
# n rows, F numbers and C codes of a row, K outputs
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from tinydl import fleet, losses, nn, optim
from tinydl.callbacks import Callback
from tinydl.data import ArrayDataset
from tinydl.history import EpochRecord
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.nn.layer import Symbol
from tinydl.parallel import recommended_thread_count
from tinydl.tables import Encoded, TableEncoder
from tinydl.trainer import Trainer
from tinydl.training import Training

Array = np.ndarray[Any, Any]
#: (outputs of rows set aside, the rows' numbers) -> how good they are, lower is better
Figure = Callable[[Array, Array], float]

__all__ = ["ACTIVATIONS", "BETAS", "CLASSES", "NUMBERS", "Classes", "Ensemble", "Labels", "Quantiles", "Recipe", "Task", "Values",
           "batch_size", "fit", "given", "inputs", "network", "temperature"]

#: layers by the names that a Recipe has for them
ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU, "mish": nn.Mish, "selu": nn.SELU, "tanh": nn.Tanh}

#: numbers that a category is embedded in (RealMLP's)
EMBEDDING = 8
#: batches of an epoch at most, and rows of a batch
BATCHES, BATCH_SIZES = 16, (32, 256)
#: AdamW's
BETAS = (0.9, 0.95)


@dataclass(frozen=True)
class Recipe:
    """The settings. The defaults are for classes, those of NUMBERS for numbers; bench/tabular.py says on which tables they were
    chosen.

    hidden_sizes: of the hidden layers; activation: one of ACTIVATIONS; dropout: behind each of them; embedding: of numbers,
    "periodic" (nn.PeriodicEmbedding), "piecewise" (nn.PiecewiseLinearEmbedding), or None; learning_rate: AdamW's, highest (it
    falls and rises in cycles, optim.schedules.CosLog); weight_decay; label_smoothing: of classes; batch_size: None is a sixteenth
    of the rows, at least 32 and at most 256; max_epochs; patience: epochs without a better one, and training ends; n_members:
    networks; validation_fraction: of the rows, which each of them sets aside."""

    hidden_sizes: tuple[int, ...] = (256, 256, 256)
    activation: str = "silu"
    dropout: float = 0.15
    embedding: str | None = "periodic"
    learning_rate: float = 2e-2
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    batch_size: int | None = None
    max_epochs: int = 24
    patience: int = 16
    n_members: int = 4
    validation_fraction: float = 0.2


#: the recipe for classes
CLASSES = Recipe()
#: the recipe for numbers
NUMBERS = Recipe(activation="relu", dropout=0.0, embedding="piecewise", learning_rate=1e-2, weight_decay=0.0, label_smoothing=0.0,
                 batch_size=64, max_epochs=32)


# ---------------------------------------------------------------------- tasks
class Task:
    """What outputs mean: their number, the loss, how good they are (`figure`: lower is better), and `link`: the layer that
    makes predictions of them, None where they are that."""

    n_outputs: int
    link: type[nn.Layer] | None = None

    def loss(self, recipe: Recipe) -> Loss:
        raise NotImplementedError

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        raise NotImplementedError

    def strata(self, targets: Array) -> Array:
        """(n,): parts of the rows are to have equal shares of each of these."""
        return np.zeros(len(targets), np.int64)

    def scores(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        """Scores (n, K) float64 of which softmax makes probabilities, and the right ones' numbers (n,)."""
        raise TypeError(f"{type(self).__name__} has no probabilities")


class Classes(Task):
    """One of n classes: targets (n,) integers, an output a class; log-loss."""

    link: type[nn.Layer] | None = nn.Softmax

    def __init__(self, n: int) -> None:
        self.n_outputs = n

    def loss(self, recipe: Recipe) -> Loss:
        return losses.SoftmaxCrossEntropy(label_smoothing=recipe.label_smoothing)

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        z, right = self.scores(outputs, targets)
        z -= z.max(1, keepdims=True)
        each = np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), right]
        return float(np.average(each.reshape(len(outputs), -1).mean(1), weights=weights))

    def strata(self, targets: Array) -> Array:
        return targets

    def scores(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        return outputs.astype(np.float64), targets


class Labels(Classes):
    """Any of n labels: targets (n, labels) of 0 and 1, an output a label; log-loss, the mean over labels."""

    link = nn.Sigmoid

    def loss(self, recipe: Recipe) -> Loss:
        return losses.SigmoidCrossEntropy(label_smoothing=recipe.label_smoothing)

    def strata(self, targets: Array) -> Array:
        return Task.strata(self, targets)

    def scores(self, outputs: Array, targets: Array) -> tuple[Array, Array]:
        z = outputs.astype(np.float64).ravel()
        return np.stack([np.zeros_like(z), z], 1), targets.astype(np.int64).ravel()


class Values(Task):
    """Numbers: targets (n, K), of about unit scale; mean squared error."""

    def __init__(self, n: int) -> None:
        self.n_outputs = n

    def loss(self, recipe: Recipe) -> Loss:
        return losses.MeanSquaredError()

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        difference = outputs.astype(np.float64) - targets
        return float(np.average((difference * difference).mean(1), weights=weights))


class Quantiles(Values):
    """Quantiles of one number: targets (n, 1), an output for each of the levels; pinball loss."""

    def __init__(self, levels: Sequence[float]) -> None:
        super().__init__(len(levels))
        self.levels = np.array(levels, np.float64)

    def loss(self, recipe: Recipe) -> Loss:
        return losses.Quantile(self.levels)

    def figure(self, outputs: Array, targets: Array, weights: Array | None) -> float:
        d = targets.astype(np.float64) - outputs
        return float(np.average(np.maximum(self.levels * d, (self.levels - 1) * d).mean(1), weights=weights))


# ---------------------------------------------------------------------- the network
def inputs(encoder: TableEncoder, encoded: Encoded) -> dict[str, Array]:
    """{"numbers": (n, F), "categories": (n, C)} as `network` has them; what there is none of is left out. Codes count on
    from column to column, since all categories are rows of one embedding."""
    first = np.cumsum([0, *encoder.cardinalities[:-1]]) if encoder.cardinalities else np.zeros(0, np.int64)
    every = {"numbers": encoded.numbers, "categories": encoded.categories + first.astype(np.int64)}
    return {name: values for name, values in every.items() if values.shape[1]}


def given(x: dict[str, Array]) -> Any:
    """As a model and a dataset take it: of one input its array alone."""
    return x if len(x) > 1 else next(iter(x.values()))


def network(x: dict[str, Array], n_codes: int, task: Task, recipe: Recipe, *, seed: int | None = None, members: int = 1,
            apart: bool = False) -> Model:
    """Numbers (embedded too, as the recipe says) and embeddings of categories, scaled, then hidden layers. x: the rows to train
    on, by which numbers are embedded. members: so many of these, and the outputs are the mean of their predictions; 0: one, and
    its outputs as they are. apart: the outputs of all as they are, (members, K), each for a loss of its own."""
    edges = nn.PiecewiseLinearEmbedding.from_data(x["numbers"]).edges if (
        recipe.embedding == "piecewise" and "numbers" in x) else None
    symbols = [nn.Input((values.shape[1],), "float32" if name == "numbers" else "int64", name=name) for name, values in x.items()]
    outputs = [_member(symbols, edges, n_codes, task, recipe) for _ in range(members or 1)]
    if members and task.link is not None and not apart:
        outputs = [task.link()(y) for y in outputs]
    y = outputs[0] if len(outputs) == 1 else nn.Concat()(outputs)
    if members > 1 or apart:
        y = nn.Reshape((members, task.n_outputs))(y)
    if members > 1 and not apart:
        y = nn.Mean(axis=0)(y)
    return Model(inputs=symbols, outputs=y, seed=seed, name="tabular")


def _member(symbols: Sequence[Symbol], edges: Any, n_codes: int, task: Task, recipe: Recipe) -> Symbol:
    parts = []
    for symbol in symbols:
        if symbol.dtype == "int64":
            parts.append(nn.Flatten()(nn.Embedding(n_codes, EMBEDDING)(symbol)))
        elif recipe.embedding is None:
            parts.append(symbol)
        else:
            embedding = (nn.PeriodicEmbedding(symbol.shape[0]) if recipe.embedding == "periodic" else
                         nn.PiecewiseLinearEmbedding(edges))
            parts.append(nn.Flatten()(embedding(symbol)))
    h = nn.Concat()(parts) if len(parts) > 1 else parts[0]
    h = nn.Scale(h.shape[0])(h)
    for size in recipe.hidden_sizes:
        h = ACTIVATIONS[recipe.activation]()(nn.Linear(h.shape[0], size)(h))
        if recipe.dropout:
            h = nn.Dropout(recipe.dropout)(h)
    return nn.Linear(h.shape[0], task.n_outputs)(h)


# ---------------------------------------------------------------------- training
class BestEpoch(Callback):
    """Remembers the parameters with the lowest figure on the rows x that are set aside, and ends training when it has not fallen
    for `patience` epochs, or when another epoch as long as the mean one would end too late: behind this member's share of the
    time that is left when it begins, when as many rounds of members are still to be trained, this one included."""

    def __init__(self, x: dict[str, Array], rows: Array, figure: Figure, patience: int, until: float, rounds: int,
                 on_epoch: Callable[[], None] | None) -> None:
        self.x, self.rows, self.figure, self.patience = x, rows, figure, patience
        self.until, self.rounds, self.on_epoch = until, rounds, on_epoch
        self.losses: list[float] = []
        self.figures: list[float] = []
        self.best, self.epoch = np.inf, 0
        self.state: dict[str, Array] | None = None
        self.outputs: Array | None = None

    def on_train_start(self, trainer: Training) -> None:
        self.started = perf_counter()
        self.until = self.started + (self.until - self.started) / self.rounds

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        outputs = trainer.model.predict(given(self.x))
        finite = bool(np.isfinite(outputs).all())
        value = self.figure(outputs, self.rows) if finite else np.nan
        self.losses.append(float(record.loss))
        self.figures.append(value)
        done = len(self.figures)
        if value < self.best or (self.state is None and finite):
            self.best, self.epoch, self.state, self.outputs = value, done, trainer.model.state_dict(), outputs
        if self.on_epoch is not None:
            self.on_epoch()
        now = perf_counter()
        if done - self.epoch >= self.patience or now + (now - self.started) / done > self.until:
            trainer.stop(finished=True)


@dataclass
class Ensemble:
    """What `fit` found. model: its predictions are the mean of the members'; members: of each its epochs' training losses,
    figures on the rows set aside, and the epoch that was kept; temperature: by which scores were divided."""

    model: Model
    members: list[dict[str, Any]] = field(default_factory=list)
    temperature: float = 1.0


def fit(x: dict[str, Array], y: Array, task: Task, recipe: Recipe, *, n_codes: int = 0, weights: Array | None = None,
        seed: int = 0, time_limit: float | None = None, n_threads: int = 1, figure: Figure | None = None,
        calibrate: bool = True, on_epoch: Callable[[], None] | None = None) -> Ensemble:
    """Train the members on x and targets y (see `Task`), where rows count by their weights (n,).

    figure: what picks the epoch; None: the task's. n_codes: the sum of the encoder's cardinalities. time_limit: seconds for all.
    n_threads: members side by side; -1: as many as recommended. TrainingError where numbers become too large."""
    if not x:
        raise ValueError("the table has no column to learn from: all are constant, or missing")
    n, seeds = len(y), np.random.SeedSequence(seed).generate_state(2 * recipe.n_members + 1).tolist()
    part_of = _parts(task.strata(y), max(recipe.n_members, round(1 / recipe.validation_fraction)), seeds[0])
    until = np.inf if time_limit is None else perf_counter() + time_limit
    side_by_side = min(recommended_thread_count() if n_threads == -1 else n_threads, recipe.n_members)
    data = ArrayDataset(given(x), y, batch_size(n) if recipe.batch_size is None else recipe.batch_size, sample_weight=weights)
    trainers, callbacks = [], []
    for i in range(recipe.n_members):
        train, rest = np.flatnonzero(part_of != i), np.flatnonzero(part_of == i)
        rounds = -(-(recipe.n_members - i) // side_by_side)
        best = BestEpoch({name: values[rest] for name, values in x.items()}, rest, figure or _figure(task, y, weights),
                         recipe.patience, until, rounds, on_epoch)
        rows = data.subset(train)
        trainer = Trainer(recipe.max_epochs, strategy="serial", seed=seeds[2 * i + 2], on_batch_failure="raise", callbacks=[best])
        trainer.init(rows, network(x, n_codes, task, recipe, seed=seeds[2 * i + 1], members=0), task.loss(recipe),
                     _optimizer(recipe, recipe.max_epochs * rows.n_batches))
        trainers.append(trainer)
        callbacks.append(best)
    for result in fleet.train(trainers, side_by_side):
        if result.error is not None:
            raise result.error
    for trainer, best in zip(trainers, callbacks, strict=True):
        if best.state is not None:
            trainer.model.load_state_dict(best.state)
    ensemble = Ensemble(network(x, n_codes, task, recipe, members=recipe.n_members), [
        {"loss": best.losses, "validation": best.figures, "best_epoch": best.epoch} for best in callbacks])
    if task.link is not None and calibrate:
        ensemble.temperature = _temperature(callbacks, y, task, weights)
        for trainer in trainers:
            values = trainer.model.state_dict()
            for name in list(values)[-2:]:      # weight and bias of the last layer, so that the scores come out divided
                values[name] = values[name] / ensemble.temperature
            trainer.model.load_state_dict(values)
    ensemble.model.params[...] = np.concatenate([trainer.model.params for trainer in trainers])
    return ensemble


def _temperature(members: Sequence[BestEpoch], y: Array, task: Task, weights: Array | None) -> float:
    """Of all members' scores for the rows that they had set aside."""
    kept = [(best.rows, best.outputs) for best in members if best.outputs is not None]
    if not kept:
        return 1.0
    rows = np.concatenate([rows for rows, _ in kept])
    z, right = task.scores(np.concatenate([outputs for _, outputs in kept]), y[rows])
    return temperature(z, right, None if weights is None else np.repeat(weights[rows], len(z) // len(rows)), 1 / (len(z) + 1))


def temperature(z: Array, right: Array, weights: Array | None = None, smoothing: float = 0.0) -> float:
    """The T > 0 for which softmax(z / T) has the lowest log-loss; z (n, K), the right classes' numbers (n,). From 1/8 to 8.
    smoothing: the share that all classes alike have of what is right, which is the right class's alone with 0. 1 / (n + 1) is as
    if there were one row more, of all classes alike (Platt 1999 does likewise): where a few rows are all right, that says little
    of how sure the scores may be.

    The log-loss is convex in 1 / T: its derivative is the mean of E[z] - z[right], where E is over softmax(z / T).
    """
    z = z - z.max(1, keepdims=True)
    own, low, high = (1 - smoothing) * z[np.arange(len(z)), right] + smoothing * z.mean(1), 1 / 8, 8.0
    for _ in range(20):         # halves the interval of log(1 / T) each time
        middle = float(np.sqrt(low * high))
        p = np.exp(z * middle)
        slope = float(np.average((p * z).sum(1) / p.sum(1) - own, weights=weights))
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(1 / np.sqrt(low * high))


def batch_size(n: int) -> int:
    """Rows of a batch where there are n in all: a power of 2."""
    return int(np.clip(1 << max(n // BATCHES, 1).bit_length() - 1, *BATCH_SIZES))


def _optimizer(recipe: Recipe, updates: int) -> optim.Optimizer:
    return optim.AdamW(optim.schedules.CosLog(recipe.learning_rate, updates), betas=BETAS,
                       weight_decay=recipe.weight_decay)


def _figure(task: Task, y: Array, weights: Array | None) -> Figure:
    return lambda outputs, rows: task.figure(outputs, y[rows], None if weights is None else weights[rows])


def _parts(strata: Array, k: int, seed: int) -> Array:
    """The part (n,) of 0..k-1 of each row, drawn so that parts are of equal size and have equal shares of each stratum."""
    order = np.random.default_rng(seed).permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]
    parts = np.empty(len(strata), np.int64)
    parts[order] = np.arange(len(strata)) % k
    return parts
