"""Model: layers with their parameters in one flat arena, and the plans that run them.

All parameters lie in `model.params` (flat), all running statistics in `model.statistics`; named arrays are
views of them. Nothing here has a training or evaluation mode: `predict` and `forward` infer, a trainer trains.
"""
from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl._kernels.engine import DTYPES, Replica, Source, aligned
from tinydl.nn.layer import Layer, Parameter, Statistic
from tinydl.plan import Builder, Plan

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.losses import Loss

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

__all__ = ["Model"]


class Model:
    """A network ready to train or predict.

    layer: the network, often an `nn.Sequential`. dtype: "float32" or "float64". seed: of the initial values
    (None: fresh ones each time). name: for people.

        >>> import numpy as np
        >>> from tinydl import nn
        >>> model = Model(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), seed=0)
        >>> model.predict(np.ones((5, 4))).shape
        (5, 3)
        >>> model.num_parameters
        67
    """

    def __init__(self, layer: Layer, dtype: str = "float32", seed: int | None = None, name: str | None = None) -> None:
        if not isinstance(layer, Layer):
            raise TypeError(f"Model takes a layer (several go into nn.Sequential); got {layer!r}")
        if np.dtype(dtype) not in (np.float32, np.float64):
            raise ValueError(f"dtype={dtype!r}: float32 or float64")
        self.layer, self.name, self.dtype = layer, name or type(layer).__name__, np.dtype(dtype)
        #: anything JSON-ready that should travel with the model's file
        self.metadata: dict[str, Any] = {}
        self._bind()
        rng = np.random.default_rng(seed)
        for p in self._parameters.values():
            assert p.data is not None
            p.data[...] = p.init(rng, p.shape, p.fans or (p.size, p.size))
        for s in self._statistics.values():
            assert s.data is not None
            s.data[...] = s.init(rng, s.shape, (1, 1))

    def _bind(self) -> None:
        """Name all parameters by path, and make them views of the arena."""
        parameters: dict[str, Parameter] = {}
        statistics: dict[str, Statistic] = {}
        for name, p in self._by_path().items():
            owner = p.owner() if p.owner is not None else None
            if owner is not None and owner is not self:
                raise ValueError(f"the layer of {name} already belongs to another Model; "
                                 "make a new layer, or copy that model with copy.deepcopy")
            if isinstance(p, Statistic):
                statistics[name] = p
            else:
                parameters[name] = p
        self._parameters, self._statistics = parameters, statistics
        self.params = self._arena(parameters)
        self.statistics = self._arena(statistics)
        self.momenta = np.concatenate([np.full(s.size, s.momentum) for s in statistics.values()] or [np.zeros(0)])
        self._shape = self.layer.input_shape()
        self._plans: dict[tuple[Shape, int], tuple[Plan, list[Replica]]] = {}
        self._lock = threading.Lock()

    def _by_path(self) -> dict[str, Parameter]:
        """All parameters and statistics by name; one that several layers have, or a layer used twice, by its first."""
        names: dict[Parameter, str] = {}
        for name, _, p in self.layer.named_parameters():
            names.setdefault(p, name)
        return {name: p for p, name in names.items()}

    def _arena(self, parameters: Mapping[str, Parameter]) -> Array:
        arena = aligned(sum(p.size for p in parameters.values()), self.dtype)
        at = 0
        for name, p in parameters.items():
            p.name, p.offset, p.owner = name, at, weakref.ref(self)
            p.data = arena[at:at + p.size].reshape(p.shape)
            at += p.size
        return arena

    # ------------------------------------------------------------------ shapes and plans
    @property
    def num_parameters(self) -> int:
        """Trained values in all."""
        return int(self.params.size)

    @property
    def input_shape(self) -> Shape | None:
        """The shape of one sample: as the layers say, or as last used; None where neither is known."""
        return self._shape

    def output_shape(self, input_shape: Shape | None = None) -> Shape:
        """The shape of one output; ValueError where the layers do not fit `input_shape`."""
        return self.layer.output_shape(self._need_shape(input_shape))

    def _need_shape(self, shape: Shape | None) -> Shape:
        shape = self._shape if shape is None else tuple(shape)
        if shape is None:
            raise ValueError("the model's input shape is not known before it has seen data: pass input_shape")
        return shape

    def plan(self, input_shape: Shape | None = None, max_rows: int = 256, *, loss: Loss | None = None,
             training: bool | None = None) -> Plan:
        """Compile a plan for batches of up to max_rows samples.

        Without a loss it infers; with one it trains, or, with training=False, only evaluates the loss.
        """
        shape = self._need_shape(input_shape)
        if self._by_path() != {**self._parameters, **self._statistics}:
            raise ValueError("layers were given other parameters since they were put into this model: give them before, or make "
                             "a new Model")
        self.layer.output_shape(shape)
        training = (loss is not None) if training is None else training
        b = Builder(self.dtype, training=training, n_params=self.params.size, n_statistics=self.statistics.size)
        y, backward = self.layer.emit(b, b.input(shape))
        if loss is None:
            b.output = y
        else:
            dy = loss.emit(b, y)
            if training:
                backward(dy)
        return b.compile(max(1, int(max_rows)))

    # ------------------------------------------------------------------ inference
    def forward(self, x: Any) -> Array:
        """The outputs for one batch: `predict` in one piece."""
        return self.predict(x, batch_size=max(1, len(x)))

    def predict(self, x: Any, batch_size: int = 256) -> Array:
        """Outputs (rows, *output_shape) for x (rows, *input_shape): any number of rows, `batch_size` at a time.

        A row's result has the same bits whatever rows are beside it. Several threads may call it at once.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1")
        x = np.asarray(x)
        if x.dtype.name not in DTYPES or not x.dtype.isnative:
            if x.dtype.kind not in "fiub":
                raise ValueError(f"x must be numbers; got {x.dtype}")
            x = x.astype(self.dtype)
        if x.ndim < 1:
            raise ValueError("x must have a first axis of samples; got a single number")
        shape = x.shape[1:]
        if self._shape is not None and shape != self._shape and self.layer.input_shape() is not None and x.ndim == 1:
            raise ValueError(f"x has shape {x.shape}; the model takes (rows, {', '.join(map(str, self._shape))})")
        out = np.empty((len(x), *self.layer.output_shape(shape)), self.dtype)
        if not len(x):
            return out
        rows = batch_size if len(x) >= batch_size else 1 << (len(x) - 1).bit_length()
        replica = self._borrow(shape, rows)
        try:
            for at in range(0, len(x), rows):
                part = np.ascontiguousarray(x[at:at + rows])
                replica.run(Source(part), None, None, len(part), out=out[at:at + rows])
        finally:
            self._give_back(shape, rows, replica)
        self._shape = self._shape or shape
        return out

    def _borrow(self, shape: Shape, rows: int) -> Replica:
        with self._lock:
            if (shape, rows) not in self._plans:
                if len(self._plans) >= 8:
                    self._plans.pop(next(iter(self._plans)))
                self._plans[shape, rows] = (self.plan(shape, rows), [])
            plan, idle = self._plans[shape, rows]
            if idle:
                return idle.pop()
        return Replica(plan.program, self.params, self.statistics)

    def _give_back(self, shape: Shape, rows: int, replica: Replica) -> None:
        with self._lock:
            plan, idle = self._plans.get((shape, rows), (None, []))
            if plan is not None and plan.program is replica.program and len(idle) < 4:
                idle.append(replica)

    # ------------------------------------------------------------------ state
    def _named(self) -> dict[str, Array]:
        return {n: p.data for n, p in (*self._parameters.items(), *self._statistics.items()) if p.data is not None}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and running statistics by name (`0.weight`: path of the layer, then its own)."""
        return {name: data.copy() for name, data in self._named().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values in by name. strict: all names must be there, and no others. On an error nothing changes."""
        own = self._named()
        missing = [n for n in own if n not in state] if strict else []
        unexpected = [n for n in state if n not in own] if strict else []
        misshapen = [f"{n} {np.shape(state[n])} for {own[n].shape}" for n in own
                     if n in state and np.shape(state[n]) != own[n].shape]
        if missing or unexpected or misshapen:
            parts = [f"{what}: {', '.join(names)}" for what, names in
                     (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)) if names]
            raise ValueError(f"state does not fit {self.name}: {'; '.join(parts)}")
        values = {n: np.asarray(state[n], self.dtype) for n in own if n in state}
        for n, value in values.items():
            own[n][...] = value

    def save(self, path: str | Path) -> None:
        """Write architecture (JSON) and weights to one file, atomically; never pickle. Read it with `Model.load`.

        ValueError where a layer of your own was made with something that JSON has not: it names the `config` to override.
        """
        from tinydl.serialization import save_model
        save_model(self, path)

    @classmethod
    def load(cls, path: str | Path, custom_layers: Mapping[str, type[Layer]] | None = None) -> Model:
        """The model that `save` wrote. custom_layers: classes by name for layers that are not tinydl's own.

        FileNotFoundError, or ValueError for a file that is truncated or not a tinydl model.
        """
        from tinydl.serialization import load_model
        return load_model(path, custom_layers or {})

    def __getstate__(self) -> dict[str, Any]:
        return {"layer": self.layer, "dtype": self.dtype, "name": self.name, "metadata": self.metadata,
                "values": self.state_dict(), "shape": self._shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layer, self.dtype, self.name = state["layer"], state["dtype"], state["name"]
        self.metadata = state["metadata"]
        self._bind()
        self.load_state_dict(state["values"])
        self._shape = state["shape"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        new = Model.__new__(Model)
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    # ------------------------------------------------------------------ for people
    def summary(self, input_shape: Shape | None = None) -> str:
        """A table of layers, output shapes, parameters and multiply-adds of one sample's forward pass."""
        shape = self._need_shape(input_shape)
        rows = [("layer", "type", "output", "parameters", "multiply-adds")]
        seen: set[Parameter] = set()

        def visit(path: str, layer: Layer, shape: Shape) -> Shape:
            children = list(layer.children())
            out = layer.output_shape(shape)
            if not children:
                new = {p for _, p in layer.parameters()} - seen
                seen.update(new)
                own = sum(p.size for p in new)
                rows.append((path or "-", type(layer).__name__, str(out), f"{own:,}", f"{layer.flops(shape):,}"))
                return out
            for name, child in children:
                shape = visit(f"{path}.{name}" if path else name, child, shape)
            return out
        out = visit("", self.layer, shape)
        widths = [max(len(r[i]) for r in rows) for i in range(5)]
        lines = ["  ".join(c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True))).rstrip()
                 for r in rows]
        lines.insert(1, "  ".join("-" * w for w in widths))
        return "\n".join([f"{self.name}: {shape} -> {out}, {self.dtype}", *lines,
                          f"{self.num_parameters:,} parameters ({self.params.nbytes:,} bytes), "
                          f"{self.layer.flops(shape):,} multiply-adds a sample"])

    def __repr__(self) -> str:
        return f"Model({self.layer!r}, dtype='{self.dtype}', name={self.name!r})"
