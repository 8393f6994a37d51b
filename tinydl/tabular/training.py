"""The training of the members: each on its own rows to its best epoch (`fit`), or all on the same ones, once (`one_pass`)."""
# n rows
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from tinydl import fleet, optim
from tinydl.callbacks import Callback
from tinydl.data import ArrayDataset
from tinydl.history import EpochRecord
from tinydl.model import Model
from tinydl.parallel import recommended_thread_count
from tinydl.tabular.network import divide, given, network, parts
from tinydl.tabular.recipe import BETAS, Recipe, batch_size
from tinydl.tabular.rows import by_content, dealt
from tinydl.tabular.tasks import Task, temperature
from tinydl.trainer import Trainer
from tinydl.training import Training

Array = np.ndarray[Any, Any]
#: (outputs of rows set aside, the rows' numbers) -> how good they are, lower is better
Figure = Callable[[Array, Array], float]

#: by which the highest rate of `fit` is divided in passes of a constant rate
STEADY = 8

__all__ = ["Ensemble", "fit", "one_pass", "steady"]


class BestEpoch(Callback):
    """Remembers the parameters with the lowest figure on the rows x that are set aside, and ends training when it has not fallen
    for `patience` epochs, or when another epoch as long as the mean one would end too late: behind this member's share of the
    time that is left when it begins, when as many rounds of members are still to be trained, this one included. A first epoch
    that takes longer ends with that share, too. trained: whether the parameters that training begins with are some to be kept, as
    those of epoch 0."""

    def __init__(self, x: dict[str, Array], rows: Array, figure: Figure, patience: int, until: float, rounds: int,
                 on_epoch: Callable[[], None] | None, trained: bool = False) -> None:
        self.x, self.rows, self.figure, self.patience, self.trained = x, rows, figure, patience, trained
        self.until, self.rounds, self.on_epoch = until, rounds, on_epoch
        self.every = 16 if until < np.inf else None
        self.losses: list[float] = []
        self.figures: list[float] = []
        self.best, self.epoch = np.inf, 0
        self.state: dict[str, Array] | None = None
        self.outputs: Array | None = None

    def on_train_start(self, trainer: Training) -> None:
        self.started = perf_counter()
        self.until = self.started + (self.until - self.started) / self.rounds
        if self.trained:
            self._look(trainer, 0)

    def _look(self, trainer: Training, epoch: int) -> float:
        outputs = trainer.model.predict(given(self.x))
        finite = bool(np.isfinite(outputs).all())
        value = self.figure(outputs, self.rows) if finite else np.nan
        if value < self.best or (self.state is None and finite):
            self.best, self.epoch, self.state, self.outputs = value, epoch, trainer.model.state_dict(), outputs
        return value

    def on_update(self, trainer: Training, updates: int) -> None:
        if perf_counter() > self.started + 0.95 * (self.until - self.started):      # the rows set aside are to be looked at, too
            trainer.stop(finished=True)

    def on_train_end(self, trainer: Training) -> None:
        if self.state is None:      # not even one epoch was over in time
            self.figures.append(self._look(trainer, 1))
            self.losses.append(np.nan)

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        done = len(self.figures) + 1
        self.figures.append(self._look(trainer, done))
        self.losses.append(float(record.loss))
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
        calibrate: bool = True, on_epoch: Callable[[], None] | None = None, start: Ensemble | None = None) -> Ensemble:
    """Train the members on x and targets y (see `Task`), where rows count by their weights (n,). In what order the rows are does
    not matter.

    figure: what picks the epoch; None: the task's. n_codes: the sum of the encoder's cardinalities. time_limit: seconds for all.
    n_threads: members side by side; -1: as many as recommended. start: what was found before, of the same encoder, task and
    recipe's networks, from which to go on; it stays as it is. TrainingError where numbers become too large."""
    _check_columns(x)
    n, seeds = len(y), np.random.SeedSequence(seed).generate_state(2 * recipe.n_members + 1).tolist()
    order, copies = by_content(x.values(), y, weights)
    x, y, weights = _taken(order, x, y, weights)
    part_of = dealt(task.strata(y), copies, max(recipe.n_members, round(1 / recipe.validation_fraction)), seeds[0])
    judge = _figure(task, y, weights) if figure is None else lambda outputs, rows: figure(outputs, order[rows])
    until = np.inf if time_limit is None else perf_counter() + time_limit
    side_by_side = min(recommended_thread_count() if n_threads == -1 else n_threads, recipe.n_members)
    data = ArrayDataset(given(x), y, batch_size(n) if recipe.batch_size is None else recipe.batch_size, sample_weight=weights)
    like = None if start is None else start.model
    before = None if start is None else parts(start.model, recipe.n_members)
    trainers, callbacks = [], []
    for i in range(recipe.n_members):
        train, rest = np.flatnonzero(part_of != i), np.flatnonzero(part_of == i)
        rounds = -(-(recipe.n_members - i) // side_by_side)
        best = BestEpoch({name: values[rest] for name, values in x.items()}, rest, judge, recipe.patience, until, rounds,
                         on_epoch, before is not None)
        rows = data.subset(train)
        member = network(x, n_codes, task, recipe, seed=seeds[2 * i + 1], members=0, like=like)
        if start is not None and before is not None:
            member.params[...] = before[i]
            divide(member, 1, 1 / start.temperature)
        trainer = Trainer(recipe.max_epochs, strategy="serial", seed=seeds[2 * i + 2], on_batch_failure="raise", callbacks=[best])
        trainer.init(rows, member, task.loss(recipe), _optimizer(recipe, recipe.max_epochs * rows.n_batches))
        trainers.append(trainer)
        callbacks.append(best)
    for result in fleet.train(trainers, side_by_side):
        if result.error is not None:
            raise result.error
    for trainer, best in zip(trainers, callbacks, strict=True):
        if best.state is not None:
            trainer.model.load_state_dict(best.state)
    ensemble = Ensemble(network(x, n_codes, task, recipe, members=recipe.n_members, like=like), [
        {"loss": best.losses, "validation": best.figures, "best_epoch": best.epoch} for best in callbacks])
    if task.link is not None and calibrate:
        ensemble.temperature = _temperature(callbacks, y, task, weights)
        for trainer in trainers:
            divide(trainer.model, 1, ensemble.temperature)
    ensemble.model.params[...] = np.concatenate([trainer.model.params for trainer in trainers])
    return ensemble


def one_pass(start: Ensemble | None, x: dict[str, Array], y: Array, task: Task, recipe: Recipe, optimizer: optim.Optimizer, *,
             n_codes: int = 0, weights: Array | None = None, seed: int | Sequence[int] = 0) -> Ensemble:
    """Train all members once on all rows of x and y, on the same batches: in one plan, on one thread. No rows are set aside, and
    in what order they are does not matter.

    start: what was found before, which stays as it is; None: networks that begin. optimizer: as `steady` makes it, or with the
    state of the pass before. The ensemble has the temperature of `start`. TrainingError where numbers become too large."""
    _check_columns(x)
    n, seeds = recipe.n_members, np.random.SeedSequence(seed).generate_state(2).tolist()
    model = network(x, n_codes, task, recipe, members=n, like=None if start is None else start.model)
    several = n > 1
    trained = network(x, n_codes, task, recipe, seed=seeds[0], members=n if several else 0, apart=several, like=model)
    if start is not None:
        trained.params[...] = start.model.params
        divide(trained, n, 1 / start.temperature)
    x, y, weights = _taken(by_content(x.values(), y, weights)[0], x, y, weights)
    targets = task.for_each(y, n) if several else y
    data = ArrayDataset(given(x), targets, recipe.batch_size or batch_size(len(y)), sample_weight=weights)
    trainer = Trainer(1, strategy="serial", seed=seeds[1], on_batch_failure="raise")
    trainer.init(data, trained, task.loss(recipe), optimizer)
    trainer.train()
    model.params[...] = trained.params
    found = Ensemble(model, temperature=1.0 if start is None else start.temperature)
    divide(model, n, found.temperature)
    return found


def steady(recipe: Recipe) -> optim.AdamW:
    """The optimizer of `one_pass`: since nobody knows how many passes there will be, its rate does not change. It is a STEADY-th
    of the highest."""
    return optim.AdamW(recipe.learning_rate / STEADY, betas=BETAS, weight_decay=recipe.weight_decay)


def _taken(rows: Array, x: dict[str, Array], y: Array, weights: Array | None) -> tuple[dict[str, Array], Array, Array | None]:
    """These rows of them. Dropout draws by the number of a row, so it is not enough to take them in another order."""
    return {name: values[rows] for name, values in x.items()}, y[rows], None if weights is None else weights[rows]


def _check_columns(x: dict[str, Array]) -> None:
    if not x:
        raise ValueError("the table has no column to learn from: all are constant, or missing")


def _temperature(members: Sequence[BestEpoch], y: Array, task: Task, weights: Array | None) -> float:
    """Of all members' scores for the rows that they had set aside."""
    kept = [(best.rows, best.outputs) for best in members if best.outputs is not None]
    if not kept:
        return 1.0
    rows = np.concatenate([rows for rows, _ in kept])
    z, right = task.scores(np.concatenate([outputs for _, outputs in kept]), y[rows])
    return temperature(z, right, None if weights is None else np.repeat(weights[rows], len(z) // len(rows)), 1 / (len(z) + 1))


def _optimizer(recipe: Recipe, updates: int) -> optim.Optimizer:
    return optim.AdamW(optim.schedules.CosLog(recipe.learning_rate, updates), betas=BETAS,
                       weight_decay=recipe.weight_decay)


def _figure(task: Task, y: Array, weights: Array | None) -> Figure:
    return lambda outputs, rows: task.figure(outputs, y[rows], None if weights is None else weights[rows])
