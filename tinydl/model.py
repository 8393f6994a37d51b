"""Model: layers with their parameters in one flat arena, and the plans that run them.

All parameters lie in `model.params` (flat), all running statistics in `model.statistics`; named arrays are
views of them. Nothing here has a training or evaluation mode: `predict` and `forward` infer, a trainer trains.
"""
from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from math import prod
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl._kernels.engine import DTYPES, Replica, Source, aligned
from tinydl.data import ArrayDataset, Dataset, ItemDataset, SequenceDataset, Split, WindowDataset
from tinydl.data.batch import whole_number
from tinydl.data.frames import as_array, check_columns, in_order, refuse
from tinydl.nn.graph import Graph, inputs_of, named_outputs, shortened, unnamed_outputs
from tinydl.nn.layer import Layer, Parameter, Statistic, Symbol
from tinydl.plan import Builder, Plan, compile_plan, with_shorter
from tinydl.sequence_outputs import sequence_outputs
from tinydl.serialization import read_model, write_model
from tinydl.stepper import Stepper

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import DTypeLike

    from tinydl.losses import Loss
    from tinydl.tables import TableEncoder

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]
Shapes = tuple[Shape, ...]      # one for each input

__all__ = ["Model"]


class Model:
    """A network ready to train or predict.

    layer: the network, often an `nn.Sequential`; or inputs and outputs: a graph between symbolic values (see `nn.Input`), of
    one or several each. Outputs may be a dict by their names; losses.Joint trains several. dtype: "float32" or "float64".
    seed: of the initial values (None: fresh ones each time). name: for people.

        >>> import numpy as np
        >>> from tinydl import nn
        >>> model = Model(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), seed=0)
        >>> model.predict(np.ones((5, 4))).shape
        (5, 3)
        >>> model.num_parameters
        67

    Two inputs, numbers and a category:

        >>> numbers, store = nn.Input((4,), name="numbers"), nn.Input((), "int64", name="store")
        >>> y = nn.Linear(6, 1)(nn.Concat()([numbers, nn.Embedding(10, 2)(store)]))
        >>> Model(inputs=[numbers, store], outputs=y).predict({"numbers": np.ones((3, 4)), "store": np.array([0, 9, 4])}).shape
        (3, 1)
    """

    if not TYPE_CHECKING:       # a type checker would take every attribute for one that is there
        __getattr__, __setattr__ = _hints.attribute, _hints.assign

    @_hints.arguments
    def __init__(self, layer: Layer | None = None, dtype: DTypeLike = "float32", seed: int | None = None,
                 name: str | None = None, *, inputs: Symbol | Sequence[Symbol] | None = None,
                 outputs: Symbol | Sequence[Symbol] | Mapping[str, Symbol] | None = None) -> None:
        if isinstance(dtype, Layer):
            raise TypeError("Model takes one layer; several go into nn.Sequential: Model(nn.Sequential(a, b, ...))")
        if inputs is not None or outputs is not None:
            if layer is not None or inputs is None or outputs is None:
                arguments = {"layer": layer, "inputs": inputs, "outputs": outputs}
                given = [name for name, value in arguments.items() if value is not None]
                raise TypeError("Model takes a layer, Model(nn.Sequential(...)), or inputs and outputs of a graph, "
                                f"Model(inputs=x, outputs=y); got {' and '.join(given)}")
            layer = Graph.of(inputs, outputs)
        if not isinstance(layer, Layer):
            raise _hints.expected("layer", Layer, layer)
        try:
            known = np.dtype(dtype) in (np.float32, np.float64)
        except (TypeError, ValueError):
            known = False
        if not known:
            raise ValueError(f"Model(dtype={dtype!r}): float32 or float64")
        if seed is not None and seed < 0:
            raise ValueError(f"Model(seed={seed}): a whole number of at least 0, or None")
        self.layer, self.name, self.dtype = layer, name or type(layer).__name__, np.dtype(dtype)
        #: anything JSON-ready that should travel with the model's file
        self.metadata: dict[str, Any] = {}
        #: the names of x's columns, in order, where it was trained on a table: `predict` takes a table's columns by name then
        self.feature_names: list[str] | None = None
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
                raise ValueError(f"the layer of {name} already belongs to another Model: make a new layer (a copy would "
                                 "begin with fresh values, too), then new.load_state_dict(values, strict=False) with those of "
                                 "old.state_dict(); or copy the whole model by copy.deepcopy")
            if isinstance(p, Statistic):
                statistics[name] = p
            else:
                parameters[name] = p
        self._parameters, self._statistics = parameters, statistics
        self.params = self._arena({n: p for n, p in parameters.items() if not p.frozen})
        #: those of what is frozen; all that there ever were, since plans made before a change read theirs
        self._frozen_values: list[Array] = getattr(self, "_frozen_values", [])
        frozen = {n: p for n, p in {**parameters, **statistics}.items() if p.frozen}
        if frozen:
            self._frozen_values.append(self._arena(frozen))
        moving = {n: s for n, s in statistics.items() if not s.frozen}
        self.statistics = self._arena(moving)
        self.momenta = np.concatenate([np.full(s.size, s.momentum) for s in moving.values()] or [np.zeros(0)])
        self.inputs = inputs_of(self.layer)
        self._shape = self.layer.input_shape() if len(self.inputs) == 1 else tuple(shape for _, shape, _ in self.inputs)
        self._plans: dict[tuple[Shapes, int, tuple[int, ...]], tuple[Plan, list[Replica]]] = {}
        #: of samples of these shapes: to ask all layers takes longer than to compute one row by a small graph
        self._outputs: dict[Shapes, Any] = {}
        self._lock = threading.Lock()

    def _by_path(self) -> dict[str, Parameter]:
        return _by_path(self.layer)

    def _arena(self, parameters: Mapping[str, Parameter]) -> Array:
        size = sum(p.size for p in parameters.values())
        if size * self.dtype.itemsize >= 2**63:
            name, p = max(parameters.items(), key=lambda item: item[1].size)
            raise MemoryError(f"no memory for {size:,} parameters; {name} has the shape {p.shape}")
        arena = aligned(size, self.dtype)
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

    def sizes(self) -> dict[str, int]:
        """How many values each trained parameter has, by name, in their order in `params`."""
        return {name: p.size for name, p in self._parameters.items() if not p.frozen}

    def freeze(self, *patterns: str) -> None:
        """Let training leave what has these names as it is: no gradient is computed for such parameters, or kept, and none for
        what only they need. A batch norm whose running statistics are frozen normalises by them in training, too, as in
        prediction (Keras: trainable=False; PyTorch: `bn.eval()`): "*.running_*" is all batch norms' statistics. With
        "*.weight", "*.bias" they go on, as with PyTorch's requires_grad=False alone. `save` keeps what is frozen.

        patterns: as `model.state_dict()` names them, * for anything ("0.*", "*.bias"); ValueError where one matches nothing, or
        one of a layer's two running statistics alone. A trainer that has the model already must be given it again
        (`Trainer.init`): `params` is another array then, without them.

            >>> from tinydl import nn
            >>> model = Model(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), seed=0)
            >>> model.freeze("0.*")
            >>> model.num_parameters, model.frozen
            (27, ['0.weight', '0.bias'])
        """
        self._set_frozen(patterns, True)

    def unfreeze(self, *patterns: str) -> None:
        """Train what has these names again; without patterns all."""
        self._set_frozen(patterns or ("*",), False)

    @property
    def frozen(self) -> list[str]:
        """The names of frozen parameters and running statistics."""
        return [name for name, p in (*self._parameters.items(), *self._statistics.items()) if p.frozen]

    def _set_frozen(self, patterns: Sequence[str], frozen: bool) -> None:
        names = {**self._parameters, **self._statistics}
        for pattern in patterns:
            if not isinstance(pattern, str):
                raise TypeError(f"freeze and unfreeze take names of parameters, as '0.weight' or '0.*'; got "
                                f"{type(pattern).__name__}")
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(f"no parameter's name matches {pattern!r}{_hints.pattern(pattern, names)}")
        self._freeze({name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)}, frozen)

    def _freeze(self, names: Collection[str], frozen: bool) -> None:
        """Those of exactly these names, or unfreeze them."""
        own = {**self._parameters, **self._statistics}
        chosen = {own[name] for name in names}
        for path, layer in self.layer.walk():
            after = {s.name: frozen if s in chosen else s.frozen for _, s in layer.statistics()}
            if len(set(after.values())) > 1:
                raise ValueError(f"{', '.join(after)} go together: freeze, or unfreeze, {f'{path}.running_*'.lstrip('.')!r}")
        values, shape = self.state_dict(), self._shape
        for p in chosen:
            p.frozen = frozen
        self._bind()
        self._shape = shape
        self.load_state_dict(values)

    @property
    def input_shape(self) -> Any:
        """The shape of one sample: as the layers say, or as last used; None where neither is known. Of several inputs, a tuple
        of their shapes."""
        return self._shape

    @property
    def input_names(self) -> list[str]:
        """Of the inputs, in order; ["x"] where there is one that nobody named."""
        return [name for name, _, _ in self.inputs]

    @property
    def output_names(self) -> list[str] | None:
        """Of the outputs, in order, where they were given as a dict; else None."""
        return self.layer.output_names if isinstance(self.layer, Graph) else None

    def output_shape(self, input_shape: Any = None) -> Any:
        """The shape of one output (of several, a tuple of shapes, or a dict by their names); ValueError where the layers do not
        fit `input_shape`."""
        return named_outputs(self.layer, self.layer.output_shape(*self._need_shapes(input_shape)))

    def _need_shapes(self, shape: Any) -> Shapes:
        """Of each input."""
        if isinstance(shape, Mapping):
            shape = tuple(in_order(shape, self.input_names))
        shape = self._shape if shape is None else (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        if shape is None:
            raise ValueError("the model's input shape is not known before it has seen data: pass input_shape")
        shapes = tuple(map(tuple, shape)) if shape and not isinstance(shape[0], (int, np.integer)) else (shape,)
        if len(shapes) != len(self.inputs):
            n = len(self.inputs)
            raise ValueError(f"the model has {n} input{'s' * (n > 1)} ({', '.join(self.input_names)}); got {len(shapes)} of "
                             f"shape {', '.join(map(str, shapes))}")
        for name, one in zip(self.input_names, shapes, strict=True):
            if one is not None and 0 in one:
                raise ValueError(f"{name}: samples of shape {one} hold nothing; each axis must be at least 1")
        return shapes

    def plan(self, input_shape: Any = None, max_rows: int = 256, *, loss: Loss | None = None,
             training: bool | None = None, weighted: tuple[int, ...] | None = None, padded: tuple[int, ...] = ()) -> Plan:
        """Compile a plan for batches of up to max_rows samples.

        Without a loss it infers; with one it trains, or, with training=False, only evaluates the loss. weighted: behind the
        targets comes a source of weights of this shape a sample, by which the loss is a mean. padded: as data.Dataset says.
        """
        shapes = self._need_shapes(input_shape)
        if self._by_path() != {**self._parameters, **self._statistics}:
            raise ValueError("layers were given other parameters since they were put into this model: give them before, or make "
                             "a new Model")
        outputs = named_outputs(self.layer, self.layer.output_shape(*shapes))
        if loss is not None:
            loss.check_outputs(outputs)
        training = (loss is not None) if training is None else training
        rows = max(1, int(max_rows))

        def compiled(layer: Layer, shapes: Shapes) -> Plan:
            T = shapes[0][0] if padded and shapes[0] else None      # the steps of weights that are for each step are as many
            places = (T, *weighted[1:]) if weighted and T is not None else weighted
            b = self._emitted(layer, shapes, loss, training, places)
            return compile_plan(b, rows, may_defer=not padded)
        plan = compiled(self.layer, shapes)
        if not padded or not shapes[0]:
            return plan
        return with_shorter(plan, shapes[0][0], lambda T: compiled(*shortened(self.layer, shapes, T)), padded)

    def _emitted(self, layer: Layer, shapes: Shapes, loss: Loss | None, training: bool,
                 weighted: tuple[int, ...] | None) -> Builder:
        """The operations of `layer`, which is the model's, or that for sequences of fewer steps."""
        b = Builder(self.dtype, training=training, n_params=self.params.size, n_statistics=self.statistics.size)
        b.weight_shape = weighted
        xs = [b.input(shape, name=name, integer=integer) for (name, _, integer), shape in zip(self.inputs, shapes, strict=True)]
        y, backward = layer.emit(b, *xs)
        ys = list(y) if isinstance(y, tuple) else [y]
        if any(y.buffer.dtype != self.dtype for y in ys):
            raise ValueError(f"an output of {self.name} is integers; outputs are numbers that layers compute")
        if loss is None:
            b.outputs = ys
        else:
            dy = loss.emit(b, named_outputs(layer, y))
            if training and any(y.needs_grad for y in ys):
                backward(unnamed_outputs(layer, dy))
                b.no_gradient(self._parameters.values())
        return b

    # ------------------------------------------------------------------ inference
    def __call__(self, x: Any) -> Any:
        """`predict(x)`."""
        return self.predict(x)

    def forward(self, x: Any) -> Any:
        """The outputs for one batch: `predict` in one piece."""
        return self.predict(x, batch_size=max(1, len(x) if len(self.inputs) == 1 else len(self._arrays(x)[0])))

    def predict(self, x: Any, batch_size: int = 256) -> Any:
        """Outputs (rows, *output_shape) for x (rows, *input_shape): any number of rows, `batch_size` at a time.

        Of a model with several inputs x is a dict by their names, or a tuple in their order; of several outputs the result
        is a tuple, or a dict where the model has names for them. A row's result has the same bits whatever rows are beside it.
        Several threads may call it at once. x may be a table (pandas, polars, pyarrow). Where the model was trained on
        one with named columns, those of x are taken by name, in whatever order; ValueError names columns that are missing, or
        (as in scikit-learn) not of the model. Arrays and tables without names go by place. A missing value is NaN, and so are its
        row's outputs. x may be an ArrayDataset: its samples in order, normalized as in training, and not augmented. (For an array
        of bytes that a dataset normalized, `model.predict(normalize(x))`: what normalizes belongs to the dataset.) Or a
        SequenceDataset or WindowDataset, or a part of one: its samples in order, too; an ItemDataset or StreamDataset: one epoch
        of it. Where its y is per step, outputs for each
        step are a list of arrays, one for each sequence, of as many steps as it has (at most max_length).
        """
        prepared = None
        if isinstance(x, SequenceDataset):
            return sequence_outputs(self, x, whole_number("batch_size", batch_size, 1))
        if isinstance(x, WindowDataset):
            check_columns(x.feature_names, self.feature_names, "the dataset")
            x = x.x
        if isinstance(x, Split):
            raise TypeError(f"x is a Split: give one of its parts, as x.test; it is {x!r:.200}")
        if isinstance(x, ArrayDataset):
            x, prepared = x.x, x.prepared()
        if isinstance(x, Dataset):
            return self._of_batches(x, batch_size)
        if isinstance(batch_size, (np.ndarray, Sequence)):
            raise TypeError("predict takes several inputs as a tuple in their order, predict((a, b)), or as a dict by their "
                            f"names; got batch_size={batch_size!s:.40}")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: at least 1")
        xs = self._arrays(x)
        n, shapes = len(xs[0]), tuple(a.shape[1:] for a in xs)
        outputs: Any = self._outputs.get(shapes)
        if outputs is None:
            try:
                outputs = self.layer.output_shape(*shapes)
            except ValueError as error:
                raise ValueError(f"{error}{self._one_sample(xs)}") from None
            if len(self._outputs) >= 32:
                self._outputs.clear()
            self._outputs[shapes] = outputs
        several = bool(outputs) and isinstance(outputs[0], tuple)
        sizes = [prod(s) for s in outputs] if several else [prod(outputs)]
        out = np.empty((n, sum(sizes)) if several else (n, *outputs), self.dtype)
        if n:
            rows = min(batch_size, 1 << (n - 1).bit_length())
            with self.borrowed(shapes, rows) as replica:
                for at in range(0, n, rows):
                    some = [np.ascontiguousarray(a[at:at + rows]) for a in xs]
                    parts = [Source(a) for a in some] if prepared is None else prepared.sources(some, [])
                    replica.run(parts, None, min(rows, n - at), out=out[at:at + rows])
        if not several:
            return named_outputs(self.layer, out)
        each = zip(np.split(out, np.cumsum(sizes)[:-1], 1), outputs, strict=True)
        return named_outputs(self.layer, tuple(np.ascontiguousarray(one).reshape(n, *s) for one, s in each))

    def _of_batches(self, dataset: Dataset, batch_size: int) -> Any:
        """Outputs for the samples of a dataset that makes them as they are asked for, in its order."""
        whole = copy.copy(dataset)
        if isinstance(whole, ItemDataset):
            whole.drop_last = False
        parts = [self.predict(batch.load().x, batch_size) for batch in whole.epoch(seed=0, epoch=0, shuffle=False)]
        if not parts:
            raise ValueError(f"{type(dataset).__name__} gives no batch")
        if isinstance(parts[0], dict):
            return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        return tuple(map(np.concatenate, zip(*parts, strict=True))) if isinstance(parts[0], tuple) else np.concatenate(parts)

    def _one_sample(self, xs: list[Array]) -> str:
        """What else to say of arrays that do not fit as batches, where they do as one sample without the batch's axis."""
        try:
            self.layer.output_shape(*(a.shape for a in xs))
        except ValueError:
            return ""
        names = ", ".join(self.input_names)
        return (f"; {names} of shape {', '.join(str(a.shape) for a in xs)} fits as one sample, and the first axis is that of the "
                f"samples: {', '.join(f'np.asarray({name})[None]' for name in self.input_names)}")

    def stepper(self) -> Stepper:
        """For streams, and for sequences that a model writes by itself: outputs step by step, with the state of LSTM, GRU, RNN
        and causal convolutions kept, and the keys and values of causal attention, of the same bits as `predict` has for the
        whole sequence at once. Its `step(x)` takes the next step, `reset()` begins another sequence, `state_dict()` and
        `load_state_dict(state)` go back to where it was, also after a restart. A model may have several.

        Between recurrent layers, of one direction, may be what does the same to each step: Linear, activations, BatchNorm1d
        with axis=-1, LayerNorm and RMSNorm over the last axes, Embedding, Dropout, Residual, and graphs of these; behind the
        last step (return_sequences=False, nn.LastStep) anything. nn.MultiheadAttention, nn.DotProductAttention and
        nn.TransformerEncoderLayer must be causal, and look at all steps since the beginning, so that time and memory of a step
        grow with their number; nn.PositionalEncoding has max_len steps. A second input that is nothing but the lengths of these
        layers is left out, since a stream has no end: so steps what was trained on a SequenceDataset. nn.Conv1d(padding="causal")
        takes sequences (C, T), as the model is given them or from nn.Permute((1, 0)); beside it may be Conv1d of one tap,
        activations, Dropout and Residual. ValueError names the layer that cannot go step by step. Parameters are those that the
        model has at each step; after `freeze` or `unfreeze` make another stepper.

            >>> import numpy as np
            >>> from tinydl import nn
            >>> model = Model(nn.Sequential(nn.GRU(3, 8), nn.Linear(8, 2)), seed=0)
            >>> x = np.random.default_rng(0).normal(size=(5, 3))
            >>> s = model.stepper()
            >>> bool((np.stack([s.step(x_t) for x_t in x]) == model.predict(x[None])[0]).all())
            True
        """
        return Stepper(self.layer, self.dtype, self.params, self.statistics, self._shape)

    def _arrays(self, x: Any) -> list[Array]:
        """x as an array for each input, checked."""
        if len(self.inputs) == 1 and not (isinstance(x, Mapping) and self.inputs[0][0] in x):
            given = [x]
        else:
            given = in_order(x, self.input_names)
        xs: list[Array] = []
        for (name, shape, integer), one in zip(self.inputs, given, strict=True):
            a = as_array(one, name, self.feature_names)
            if a.dtype.str not in DTYPES or (integer and a.dtype.kind not in "iub"):
                if a.dtype.kind not in ("iub" if integer else "fiub"):
                    if integer and a.dtype.kind == "f":
                        raise ValueError(f"input {name} takes integers; got {a.dtype}")
                    refuse(a, one, name)
                a = a.astype(np.int64 if integer else self.dtype)
            if a.ndim < 1:
                raise ValueError(f"{name} must have a first axis of samples; got a single number")
            if shape is not None and a.shape[1:] != shape and a.ndim == 1:
                raise ValueError(f"{name} has shape {a.shape}; the model takes (rows, {', '.join(map(str, shape))})")
            if xs and len(a) != len(xs[0]):
                raise ValueError(f"input {name} has {len(a)} rows, and {self.input_names[0]} has {len(xs[0])}")
            xs.append(a)
        return xs

    def sources(self, x: Any) -> list[Array]:
        """The array of each input, in order, of a dataset's x; ValueError says which is missing, or has no integers."""
        xs = [x] if len(self.inputs) == 1 and hasattr(x, "dtype") else in_order(x, self.input_names)
        for (name, _, integer), a in zip(self.inputs, xs, strict=True):
            if integer and a.dtype.kind not in "iub":
                raise ValueError(f"input {name} takes integers; the dataset has {a.dtype}")
        return xs

    @contextmanager
    def borrowed(self, shapes: Shapes, rows: int, padded: tuple[int, ...] = ()) -> Iterator[Replica]:
        """A replica that infers, of samples of these shapes, up to `rows` at a time; made at most once for each thread that has
        one at the same time. padded: see `plan`."""
        key = shapes, rows, padded
        with self._lock:
            if key not in self._plans:
                if len(self._plans) >= 8:
                    self._plans.pop(next(iter(self._plans)))
                self._plans[key] = (self.plan(shapes, rows, padded=padded), [])
            plan, idle = self._plans[key]
            replica = idle.pop() if idle else None
        replica = replica or Replica(plan.program, self.params, self.statistics)
        try:
            yield replica
        finally:
            with self._lock:
                now, idle = self._plans.get(key, (None, []))
                if now is plan and len(idle) < 4:
                    idle.append(replica)
        self._shape = shapes if len(shapes) > 1 else shapes[0]

    # ------------------------------------------------------------------ state
    def named_arrays(self) -> dict[str, Array]:
        """All parameters and running statistics by name, as in `state_dict`: the model's own arrays, not copies."""
        return {n: p.data for n, p in (*self._parameters.items(), *self._statistics.items()) if p.data is not None}

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters and running statistics by name (`0.weight`: path of the layer, then its own)."""
        return {name: data.copy() for name, data in self.named_arrays().items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Copy values in by name. strict: all names must be there, and no others. On an error nothing changes."""
        if not isinstance(state, Mapping):
            raise TypeError(f"state must be a dict of arrays by name; got {state!r:.60}")
        if any(hasattr(value, "detach") for value in state.values()):
            raise TypeError("state has tensors of PyTorch, whose layers keep weights in another layout: "
                            "tinydl.torch_weights.load(model, state) copies them")
        own = self.named_arrays()
        _check_state(self.name, {n: a.shape for n, a in own.items()}, state, strict)
        values = {n: np.asarray(state[n], self.dtype) for n in own if n in state}
        for n, value in values.items():
            own[n][...] = value

    @_hints.arguments
    def save(self, path: str | Path | IO[bytes]) -> None:
        """Write architecture and weights to one file, atomically; read it with `Model.load`. path may be a binary file that is
        open, such as an io.BytesIO.

        The file is a safetensors file, whatever its name; with the suffix .safetensors other programs know it: the arrays of
        `state_dict`, little-endian and in C order, by their names, and the architecture as JSON in its metadata, with checksums.
        It is never a pickle. No array is copied as a whole.

            >>> import os, tempfile
            >>> from tinydl import nn
            >>> path = os.path.join(tempfile.mkdtemp(), "m.safetensors")
            >>> Model(nn.Linear(3, 2), seed=0).save(path)
            >>> Model.load(path).predict([[1, 2, 3]]).shape
            (1, 2)

        A missing folder is made. Of a symbolic link the target is replaced, and a file that is replaced leaves its
        permissions. OSError where it cannot be written; a file that was there before is then still whole. ValueError where
        a layer of your own was made with something that JSON has not: it names the `config` to override.
        """
        about: dict[str, Any] = {"name": self.name, "dtype": str(self.dtype), "input_shape": self.input_shape,
                                 "metadata": self.metadata,
                                 "feature_names": None if self.feature_names is None else list(self.feature_names)}
        if self.frozen:
            about["frozen"] = self.frozen
        write_model(path, self.layer, about, self.named_arrays())

    @_hints.arguments
    def to_onnx(self, path: str | Path, *, opset: int = 18, ir_version: int | None = None, input_shape: Any = None,
                preprocess: TableEncoder | None = None) -> None:
        """Write what `predict` computes as an ONNX file (extra `onnx`), which onnxruntime and others run: one file, atomically
        written, for any number of rows from 1 on. Inputs and outputs have the model's names; "x" and "y", or output0, output1,
        ..., where it has none. Dropout is left out, batch norms take their running statistics. Of a model that is no graph,
        axes of a sample may have any size, too, where that changes nothing in the file: time, behind recurrent layers.

        opset: 18, which ONNX Runtime takes since 1.15 (2023; float64: 1.17), to 23; ir_version, of the format: the least that
        goes with it. Newer ones say nothing more, and fewer runtimes take them. input_shape: of one sample, where the model has
        seen no data yet. ValueError names a layer that has no export, as a PythonLayer, or no operator in float64, as a
        convolution, which a float32 model of the same values has. For an embedding, -1, -2, ... are ONNX's last rows; here they
        are errors. ONNX Runtime's maxima and max-pooling may pass over NaN.

        preprocess: the encoder whose numbers and codes the model takes. It goes into the file, whose inputs are the table's
        columns then, (rows, 1) each: numbers, booleans, and dates in seconds since 1970, as float64 with NaN where one is
        missing; text as strings, "" where it is missing.

            model.to_onnx("digits.onnx")
            onnxruntime.InferenceSession("digits.onnx").run(None, {"x": x.astype(np.float32)})[0]
        """
        from tinydl.onnx import write_onnx, write_table  # not every program writes one

        if preprocess is not None:
            if input_shape is not None:
                raise ValueError("input_shape is what the encoder makes of the columns: leave it out")
            write_table(path, self.layer, self.dtype, preprocess, one_embedding=False, opset=opset, ir_version=ir_version,
                        name=self.name)
            return
        shapes = self._need_shapes(input_shape)
        self.layer.output_shape(*shapes)
        inputs = [(name, shape, integer) for (name, _, integer), shape in zip(self.inputs, shapes, strict=True)]
        write_onnx(path, self.layer, inputs, self.dtype, outputs=self.output_names, opset=opset, ir_version=ir_version,
                   name=self.name)

    def export_numpy(self, path: str | Path, *, input_shape: Any = None) -> None:
        """Write what `predict` computes as a Python file that needs NumPy alone: its function `predict` takes the inputs in
        their order, and the parameters are in it, as text. For where nothing else can be installed, and for reading what a model
        does. It is a plain computation, on one thread of Python.

        input_shape: of one sample, where the model has seen no data yet. ValueError names all layers that have no NumPy there, as
        your own.

            model.export_numpy("digits.py")
            from digits import predict          # elsewhere
            predict(x)
        """
        from tinydl.numpy_export import write_numpy  # not every program writes one

        shapes = self._need_shapes(input_shape)
        self.layer.output_shape(*shapes)
        inputs = [(name, shape, integer) for (name, _, integer), shape in zip(self.inputs, shapes, strict=True)]
        write_numpy(path, self.layer, inputs, self.dtype, self.output_names, self.name)

    @classmethod
    def from_onnx(cls, path: str | Path, *, input_shape: Any = None, outputs: Sequence[str] | None = None) -> Model:
        """A model that computes, and trains, what an ONNX file holds (extra `onnx`), as PyTorch's and other exporters write them.

        Its operators become layers, its constants their parameters. The names of inputs stay, but where the layers stand in a row
        (an nn.Sequential), and those of several outputs; of one output, `predict` gives an array, as of any model. The axis of
        samples comes first, whatever the file has. A file that `to_onnx` wrote gives the very layers that it was written of, if
        nothing but values was changed in it.

        input_shape: of one sample, where the file leaves sizes open (of several inputs, a dict by their names). outputs: names
        of those that are wanted; all, if left out. Files come without what only training knows: dropout is often left out,
        and a weight by which several layers are tied may be there twice. ValueError where the file is damaged, or names every
        operator that no layer computes, with its node.

            model = Model.from_onnx("resnet.onnx")
            trainer.init(data, model, losses.SoftmaxCrossEntropy(), optim.Adam(1e-4))
        """
        from tinydl.onnx import read_onnx  # not every program reads one

        found = read_onnx(path, input_shape=input_shape, outputs=outputs)
        model = cls(found.layer, found.dtype, seed=0, name=found.name)
        for p, values in found.values.items():
            assert p.data is not None
            p.data[...] = values
        if found.input_shape is not None and len(model.inputs) == 1:
            model._shape = tuple(found.input_shape)
        return model

    @classmethod
    @_hints.arguments
    def load(cls, path: str | Path | IO[bytes], custom_layers: Mapping[str, type[Layer]] | None = None) -> Model:
        """The model that `save` wrote. path may be a binary file that is open, which is read from its beginning. custom_layers:
        classes by name for layers that are not tinydl's own. Zip files, which models were before, are read as well; what a file
        is, its content says, not its name.

        FileNotFoundError, or ValueError for a file that is truncated, altered, or no tinydl model: it says what the file is, and
        what to do. `tinydl.torch_weights` and `tinydl.keras_weights` read others' weights.
        """
        if custom_layers is not None and not isinstance(custom_layers, Mapping):
            raise TypeError("custom_layers is a dict, {'Square': Square}, of names and classes; got "
                            f"{type(custom_layers).__name__}")
        layer, about, arrays = read_model(path, custom_layers or {})
        own = _by_path(layer)
        try:        # before there is memory for what layers say that they have
            _check_state(about["name"], {n: p.shape for n, p in own.items()}, arrays)
        except ValueError as e:
            raise ValueError(f"{path}: {e}") from None
        for name in about.get("frozen", ()):
            if name not in own:
                raise ValueError(f"{path}: {name!r} is to be frozen, and its layers have no such parameter")
            own[name].frozen = True
        model = cls(layer, about["dtype"], seed=0, name=about["name"])
        model.load_state_dict(arrays)
        model.metadata, model.feature_names = about["metadata"], about.get("feature_names")
        if len(model.inputs) == 1 and about["input_shape"] is not None:
            model._shape = tuple(about["input_shape"])
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {"layer": self.layer, "dtype": self.dtype, "name": self.name, "metadata": self.metadata,
                "feature_names": self.feature_names, "values": self.state_dict(), "shape": self._shape}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.layer, self.dtype, self.name = state["layer"], state["dtype"], state["name"]
        self.metadata, self.feature_names = state["metadata"], state["feature_names"]
        self._bind()
        self.load_state_dict(state["values"])
        self._shape = state["shape"]

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        new = Model.__new__(Model)
        memo[id(self)] = new
        new.__setstate__(copy.deepcopy(self.__getstate__(), memo))
        return new

    # ------------------------------------------------------------------ for people
    def summary(self, input_shape: Any = None) -> str:
        """A table of layers, output shapes, parameters and multiply-adds of one sample's forward pass; of a graph, also its
        inputs and outputs, and what each layer reads."""
        from tinydl.nn.summary import shown, table  # not every program asks for one

        shapes = self._need_shapes(input_shape)
        inputs = shown(self.input_names, shapes if len(shapes) > 1 else shapes[0])
        frozen = sum(p.size for p in self._parameters.values() if p.frozen)
        return "\n".join([f"{self.name}: {inputs} -> {shown([], self.output_shape(shapes if len(shapes) > 1 else shapes[0]))}, "
                          f"{self.dtype}", *table(self.layer, shapes),
                          f"{self.num_parameters:,} parameters ({self.params.nbytes:,} bytes), "
                          f"{f'{frozen:,} frozen, ' if frozen else ''}{self.layer.flops(*shapes):,} multiply-adds a sample"])

    def __repr__(self) -> str:
        return f"Model({self.layer!r}, dtype='{self.dtype}', name={self.name!r})"


def _by_path(layer: Layer) -> dict[str, Parameter]:
    """All parameters and statistics by name; one that several layers have, or a layer used twice, by its first."""
    names: dict[Parameter, str] = {}
    for name, _, p in layer.named_parameters():
        names.setdefault(p, name)
    return {name: p for p, name in names.items()}


def _check_state(model: str, own: Mapping[str, Shape], state: Mapping[str, Any], strict: bool = True) -> None:
    """ValueError names what is missing in a state for the model of that name, whose shapes are `own`, or does not fit."""
    missing = [n for n in own if n not in state] if strict else []
    unexpected = [n for n in state if n not in own] if strict else []
    misshapen = [f"{n} {np.shape(state[n])} for {shape}" for n, shape in own.items()
                 if n in state and np.shape(state[n]) != shape]
    if missing or unexpected or misshapen:
        parts = [f"{what}: {', '.join(names)}" for what, names in
                 (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen)) if names]
        raise ValueError(f"state does not fit {model}: {'; '.join(parts)}")
