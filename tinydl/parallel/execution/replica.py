"""Replica: what one worker trains on. It shares the model's parameters and has its own workspace.

A plan is compiled once; a replica adds a workspace and, for layers written in Python, a deep copy of them with
shared parameters. The first replica uses the layers themselves.
"""
from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels import engine
from tinydl.data.checks import as_weights
from tinydl.losses import Loss
from tinydl.model import Model
from tinydl.nn import PythonLayer

if TYPE_CHECKING:
    from tinydl.data import Batch
    from tinydl.optim import Optimizer
    from tinydl.plan import Plan

Array = np.ndarray[Any, Any]

__all__ = ["Replica", "apply_aggregated_gradients", "deep_copy_model", "is_model_parallelizable", "replication_error"]


class Replica:
    """A training plan of `model` and `loss` that one thread at a time runs, batch by batch.

    params, statistics: to train on these instead of the model's own (the local strategy). weighted: the shape of a
    sample's weights, where batches bring these.
    """

    def __init__(self, model: Model, loss: Loss, max_rows: int, *, plan: Plan | None = None, own_layers: bool = True,
                 params: Array | None = None, statistics: Array | None = None, weighted: tuple[int, ...] | None = None) -> None:
        self.model, self.loss = model, loss
        self.plan = plan or model.plan(max_rows=max_rows, loss=loss, weighted=weighted)
        hooks = self.plan.program.hooks
        self.native = engine.Replica(self.plan.program, model.params if params is None else params,
                                     model.statistics if statistics is None else statistics,
                                     _copy_hooks(model, hooks) if own_layers and hooks else None)
        self._sources: dict[int, tuple[Any, engine.Source]] = {}

    def _source(self, array: Array) -> engine.Source:
        """The array as an engine.Source. The last 16 are kept, since the batches of a dataset share their arrays."""
        held = self._sources.get(id(array))
        if held is None or held[0] is not array:
            if len(self._sources) >= 16:
                self._sources.clear()
            held = self._sources[id(array)] = (array, engine.Source(array))
        return held[1]

    def run(self, batch: Batch, gradients: Array, *, seed: int = 0, step: int = 0) -> float:
        """Run forward, loss and backward for a batch. Returns the mean loss; writes mean gradients, then batch statistics,
        into `gradients`.

        Raises what goes wrong: a Python layer's exception, NonFiniteError, ValueError or IndexError for a bad label or index.
        """
        xs = self.model.sources(batch.x)
        output = self.model.output_shape(xs[0].shape[1:] if len(xs) == 1 else tuple(a.shape[1:] for a in xs))
        y = self.loss.check_targets(batch.targets(), output)
        ys = self.loss.sources(y if batch.indices is None else batch.y)
        w, places = batch.sample_weight, self.plan.weight_shape
        weighted = places is not None
        if (w is not None) != weighted:
            raise ValueError(f"a batch with{'out' * weighted} sample_weight, in a dataset that is "
                             f"{'not ' * (not weighted)}`weighted`")
        if places is not None:
            as_weights(batch.weights(), batch.n, "the batch's sample_weight", shape=places)
        held = [self._source(a) for a in (*xs, *ys)] if batch.prepared is None else batch.prepared.sources(xs, ys)
        if w is not None:
            held.append(self._source(w))
        return float(self.native.run(held, batch.indices, batch.n, gradients,
                                     first_id=batch.first_id, seed=seed, step=step))

    def gradient_vector(self) -> Array:
        """A new vector for the `gradients` of `run`."""
        n = self.model.params.size + self.model.statistics.size
        return engine.aligned(n, self.model.dtype)


def _copy_hooks(model: Model, hooks: list[Any]) -> list[Any]:
    memo: dict[int, Any] = {id(p): p for p in (*model._parameters.values(), *model._statistics.values())}
    return copy.deepcopy(hooks, memo)


def replication_error(model: Model, loss: Loss | None = None) -> BaseException | None:
    """Why `model` (with `loss`) cannot have replicas, or None where it can. Built-in layers and losses always can."""
    try:
        for _, layer in model.layer.walk():
            if isinstance(layer, PythonLayer):
                _copy_hooks(model, [layer])
        if loss is not None:
            copy.deepcopy(loss)
    except Exception as e:
        return e
    return None


def is_model_parallelizable(model: Model, loss: Loss | None = None) -> bool:
    """Whether several threads can train `model` at once, each on a replica of its own; copies are made to find out.

        >>> from tinydl import nn
        >>> is_model_parallelizable(Model(nn.Linear(2, 1)))
        True
    """
    return replication_error(model, loss) is None


def deep_copy_model(model: Model) -> Model:
    """An independent model with the same layers and values; TypeError says which layer cannot be copied."""
    for path, layer in model.layer.walk():
        if isinstance(layer, PythonLayer):
            try:
                _copy_hooks(model, [layer])
            except Exception as e:
                raise TypeError(f"layer {path or type(layer).__name__} cannot be copied: {e}") from e
    return copy.deepcopy(model)


def apply_aggregated_gradients(model: Model, gradients: Any, optimizer: Optimizer) -> None:
    """One update of `model` by averaged gradients: flat, or by name as in `model.state_dict()`."""
    if isinstance(gradients, dict):
        missing = [n for n in model.sizes() if n not in gradients]
        unexpected = [n for n in gradients if n not in model.sizes()]
        if missing or unexpected:
            raise ValueError(f"gradients by name: missing {missing}, unexpected {unexpected}")
        gradients = np.concatenate([np.ravel(gradients[n]) for n in model.sizes()])
    vector = np.ascontiguousarray(gradients, model.dtype)
    if vector.size not in (model.params.size, model.params.size + model.statistics.size) or vector.ndim != 1:
        raise ValueError(f"gradients have shape {vector.shape}; the model has {model.params.size} parameters")
    optimizer.bind(model.params, model.statistics, model.momenta, model.sizes())
    if vector.size == model.params.size:        # no batch statistics: the running ones stay as they are
        vector = np.concatenate([vector, model.statistics])
    optimizer.step(vector)
