"""Builder: what layers and losses emit their operations into."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from tinydl._kernels.schema import OPERATIONS
from tinydl.plan.by_step import ByStep
from tinydl.plan.operation import Op
from tinydl.plan.values import INT64, Buffer, Matrix, Parameter, Rows, Size, Statistic, Value

INT64_RANGE = -2**63, 2**63 - 1


class Builder:
    """Collects the operations of one plan; see the module's docstring."""

    def __init__(self, dtype: np.dtype[Any], *, training: bool, n_params: int, n_statistics: int) -> None:
        self.dtype, self.training = np.dtype(dtype), training
        self.n_params, self.n_statistics = n_params, n_statistics
        self.ops: list[Op] = []
        self.hooks: list[Any] = []
        self.hook_shapes: list[list[tuple[int, ...] | None]] = []      # of their arrays; -1: the batch's rows
        self.outputs: list[Value] = []
        self.sources: list[tuple[str, int]] = []    # name, and elements of a sample: the inputs, then what a loss reads
        self.n_inputs = 0
        self.constants: list[Any] = []
        self.by_step: list[ByStep] = []
        #: of a sample's weights, a source that the loss gathers; None: samples have none
        self.weight_shape: tuple[int, ...] | None = None
        self._written: set[int] = set()       # parameters that already have a gradient in this plan
        self._scope: list[str] = []
        self._n_random = 0

    # ------------------------------------------------------------------ what layers call
    @contextmanager
    def scope(self, name: str) -> Iterator[None]:
        """Operations emitted inside are labelled with `name`."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    @property
    def path(self) -> str:
        return ".".join(self._scope)

    def buffer(self, items: int, *, per_row: bool = True, dtype: np.dtype[Any] | None = None, name: str = "") -> Buffer:
        return Buffer(items, per_row, "work", 0, dtype or self.dtype, name or self.path)

    def value(self, shape: tuple[int, ...], *, needs_grad: bool = True, dtype: np.dtype[Any] | None = None) -> Value:
        """A new value of the batch's samples; its memory is found at the end."""
        return Value(self.buffer(prod(shape), dtype=dtype), shape, needs_grad)

    def input(self, shape: tuple[int, ...], *, name: str = "x", integer: bool = False) -> Value:
        """The batch's rows of the model's next input: numbers of the plan's dtype, or integers (int64)."""
        self.n_inputs += 1
        if integer or self.sources:
            return self.gather(shape, name, INT64_RANGE if integer else None, label="input")
        self.sources.append((name, prod(shape)))
        self.emit("gather", out=self.buffer(prod(shape), name=name), source=0, B=Rows(), I=prod(shape), label="input")
        return Value(Buffer(prod(shape), True, "in", 0, self.dtype, name), shape, needs_grad=False)

    def gather(self, shape: tuple[int, ...], name: str, limits: tuple[int, int] | None = None, label: str = "loss") -> Value:
        """The batch's rows of a further source, in memory of their own. limits: of integers, low <= value < high; another one
        fails the batch. None: numbers of the plan's dtype."""
        source, size = len(self.sources), prod(shape)
        self.sources.append((name, size))
        value = Value(self.buffer(size, name=name, dtype=None if limits is None else INT64), shape, needs_grad=False)
        if limits is None:
            self.emit("gather_rows", out=value, source=source, B=Rows(), I=size, label=label)
        else:
            self.emit("gather_integers", out=value, source=source, low=limits[0], high=limits[1], B=Rows(), I=size, label=label)
        return value

    def constant(self, numbers: Any) -> Buffer:
        """These numbers in the plan's dtype, in memory of their own: read-only, and the same for all batches."""
        array = np.array(numbers, self.dtype, order="C")
        self.constants.append(array)            # alive as long as the plan
        return Buffer(array.size, False, "address", array.__array_interface__["data"][0], self.dtype, "constant")

    def each_step(self, numbers: Callable[[int, int], Any]) -> Buffer:
        """Numbers that differ from step to step (plan/by_step.py): numbers(first, count) says those of steps first.., float64."""
        own = ByStep(numbers)
        self.by_step.append(own)                # alive as long as the plan
        return Buffer(own.table.size, False, "address", own.table.ctypes.data, own.table.dtype, "by step")

    def param(self, p: Parameter, shape: tuple[int, ...] | None = None) -> Value:
        """A parameter, as a value that is the same for all samples. Layers may have been given it: ValueError where it has
        another shape than the layer needs."""
        self._check_parameter(p, shape)
        if p.frozen:
            return self._frozen(p)
        buffer = Buffer(p.size, False, "param", p.offset * self.dtype.itemsize, self.dtype, p.name)
        return Value(buffer, p.shape)

    def _frozen(self, p: Parameter) -> Value:
        """It lies apart from what is trained; nothing writes it, so all replicas read the model's."""
        assert p.data is not None
        return Value(Buffer(p.size, False, "address", p.data.ctypes.data, self.dtype, p.name), p.shape, needs_grad=False)

    def trains(self, *parameters: Parameter | None) -> bool:
        """Whether any of them gets a gradient: it is there, and not frozen."""
        return any(p is not None and not p.frozen for p in parameters)

    def _check_parameter(self, p: Parameter, shape: tuple[int, ...] | None) -> None:
        if p.offset < 0 or (shape is not None and p.shape != shape):
            transposed = ": nn.TiedLinear transposes the weight of another layer" if p.shape == (shape or ())[::-1] else ""
            raise ValueError(f"layer {self.path}: {p!r} " + ("is in no model" if p.offset < 0 else
                                                             f"must have shape {shape}{transposed}"))

    def grad(self, p: Parameter) -> tuple[Value, int]:
        """Where p's gradient goes, and whether to add to it (1: a parameter used twice) or overwrite it (0)."""
        if p.frozen:
            raise ValueError(f"layer {self.path}: {p.name} is frozen, and has no gradient: ask b.trains(parameter) first")
        accumulate = int(p.offset in self._written)
        self._written.add(p.offset)
        return Value(Buffer(p.size, False, "grad", p.offset * self.dtype.itemsize, self.dtype, p.name), p.shape), accumulate

    def no_gradient(self, parameters: Iterable[Parameter]) -> None:
        """Emit gradients of 0 for those that are trained and have none in this plan: what is learned does not depend on them."""
        for p in parameters:
            if not p.frozen and p.offset not in self._written:
                self.emit("fill", out=self.grad(p)[0], n=p.size, label="no loss")

    def statistic(self, s: Statistic, shape: tuple[int, ...] | None = None, *, batch: bool) -> Value:
        """A running statistic, or the place in the slot's vector for this batch's."""
        self._check_parameter(s, shape)
        if s.frozen and batch:
            raise ValueError(f"layer {self.path}: {s.name} is frozen, and takes nothing from batches: freeze all of a layer's "
                             "running statistics, or none")
        if s.frozen:
            return self._frozen(s)
        at = (self.n_params + s.offset if batch else s.offset) * self.dtype.itemsize
        return Value(Buffer(s.size, False, "grad" if batch else "state", at, self.dtype, s.name), s.shape)

    def random_key(self) -> int:
        """A number of its own for each random layer."""
        self._n_random += 1
        return self._n_random - 1

    def emit(self, name: str, *, label: str | None = None, **arguments: Value | Matrix | Buffer | Size | float | None) -> None:
        """Append one operation of _kernels/schema.py; arguments: its operands, sizes, settings and reals by name.

        A value that is read and is only a part of its buffer, or not in C order, is copied first, where the operand is not
        strided.
        Sizes of strided operands come from the matrices given. TypeError: an argument that is unknown or missing.
        ValueError: an operand that is not as large as its sizes say, or of another dtype.
        """
        declared = OPERATIONS[name]
        op = Op(declared, {}, {}, {}, self.path if label is None else label, declared.outputs)
        given = 0
        for operand in declared.operands.values():
            value: Any = arguments.get(operand.name)
            given += operand.name in arguments
            if value is None:
                if not operand.optional:
                    raise TypeError(f"{declared}: {operand.name} is missing")
                op.places[operand.name] = None
                continue
            offset = 0
            if operand.strided:
                matrix = value if isinstance(value, Matrix) else value.matrix()
                assert operand.shape is not None
                for size, n in zip(operand.shape, (matrix.n_rows, matrix.n_cols), strict=True):
                    if op.sizes.setdefault(size, n) != n:
                        raise ValueError(f"{declared}: {size} of {operand.name} is {n}, and {op.sizes[size]} before")
                op.sizes[operand.name + "_row"], op.sizes[operand.name + "_col"] = matrix.row_step, matrix.col_step
                buffer, offset = matrix.buffer, matrix.offset
            elif isinstance(value, Value):
                if operand.shape is None:
                    offset = value.offset
                elif not value.is_whole:
                    if operand.written:
                        raise ValueError(f"{declared}: {operand.name} must be all of its buffer, in C order")
                    value = self.whole(value)
                buffer = value.buffer
            else:
                buffer = value
            op.places[operand.name] = buffer, offset
        for size, default in declared.sizes.items():
            value = arguments.get(size, op.sizes.get(size, default))
            given += size in arguments
            if value is None:
                raise TypeError(f"{declared}: {size} is missing")
            op.sizes[size] = value
        for real, default in declared.real_numbers.items():
            value = arguments.get(real, default)
            given += real in arguments
            if value is None:
                raise TypeError(f"{declared}: {real} is missing")
            op.reals[real] = float(value)
        if given != len(arguments):
            unknown = arguments.keys() - {*declared.operands, *declared.sizes, *declared.real_numbers}
            raise TypeError(f"{declared}: {', '.join(sorted(unknown))} is none of its arguments")
        self._check_sizes(op)
        self.ops.append(op)

    def _check_sizes(self, op: Op) -> None:
        for operand in op.declared.operands.values():
            place = op.places[operand.name]
            if place is None or operand.shape is None:
                continue
            buffer, (items, per_row) = place[0], (1, False)
            for letter in operand.shape:
                size = op.sizes[letter]
                items, per_row = (items * size.per_sample, True) if isinstance(size, Rows) else (items * size, per_row)
            fits = items <= buffer.items if operand.strided else items == buffer.items
            if not fits or per_row != buffer.per_row:
                a_sample = {True: " a sample", False: ""}
                raise ValueError(f"{op.declared}: {operand.name} has {buffer.items} elements{a_sample[buffer.per_row]}; its "
                                 f"sizes say {items}{a_sample[per_row]}")
            if operand.dtype in ("any", "address"):
                wanted = None
            else:
                wanted = self.dtype if operand.dtype is None else np.dtype(operand.dtype)
            if wanted is not None and buffer.dtype != wanted:
                raise ValueError(f"{op.declared}: {operand.name} is {buffer.dtype}; it must be {wanted}")

    def whole(self, x: Value) -> Value:
        """x in all of a buffer, in C order: itself where it is, else copied."""
        if x.is_whole:
            return x
        y = Value(self.buffer(x.size, per_row=x.buffer.per_row, dtype=x.buffer.dtype), x.shape, x.needs_grad)
        self.move(x, y)
        return y

    def reshape(self, x: Value, shape: tuple[int, ...]) -> Value:
        """x with its elements, in C order, in another shape: the same memory where it is whole, else a copy."""
        x = self.whole(x)
        return Value(x.buffer, shape, x.needs_grad)

    def move(self, x: Value, y: Value, accumulate: int = 0, label: str | None = None) -> None:
        """y := x or y += x, element by element; either may be a part of its buffer, and strides of x may be 0."""
        if x.shape != y.shape:
            raise ValueError(f"move: {x.shape} to {y.shape}")
        if x.is_whole and y.is_whole and not accumulate and x.buffer.dtype == self.dtype and x.buffer.per_row:
            self.emit("copy", x=x, out=y, n=Rows(x.size), label=label)
            return
        axes = [(n, s, t) for n, s, t in zip(x.shape, x.strides, y.strides, strict=True) if n != 1]
        for i in range(len(axes) - 1, 0, -1):           # neighbours that lie alike are one axis
            (n, s, t), (m, p, q) = axes[i - 1], axes[i]
            if s == m * p and t == m * q:
                axes[i - 1:i + 1] = [(n * m, p, q)]
        if len(axes) > 4:
            raise ValueError(f"values of shape {x.shape}: more than 4 axes that do not lie evenly")
        axes = [(1, 0, 0)] * (4 - len(axes)) + axes
        counts, from_, to = zip(*axes, strict=True)
        sizes: dict[str, Size] = {f"{name}{i}": v for name, values in (("n", counts), ("x", from_), ("y", to))
                                  for i, v in enumerate(values, 1)}
        B: Size = Rows() if y.buffer.per_row else 1
        self.emit("arrange", x=x, out=y, B=B, xb=x.buffer.items if x.buffer.per_row else 0,
                  yb=y.buffer.items if y.buffer.per_row else 0, itemsize=x.buffer.dtype.itemsize, accumulate=accumulate,
                  label=label, **sizes)

    def matrix(self, x: Value) -> Matrix:
        """The last axis of x as columns, all others (and the samples) as rows; copied where they do not lie evenly."""
        matrix = x.matrix() if 1 in (x.strides or (1,)) else None
        if matrix is None or 1 not in (matrix.row_step, matrix.col_step):
            matrix = self.whole(x).matrix()
        assert matrix is not None
        return matrix

    def matmul(self, a: Matrix, b: Matrix, out: Value, *, bias: Value | None = None, accumulate: int = 0) -> None:
        """out (m, n) := (out +) a (m, k) @ b (k, n) + bias. Of m and k at most one grows with the rows."""
        self.emit("matmul", a=a, b=b, out=out, bias=bias, accumulate=accumulate)

    def python(self, hook: Any, reads: Sequence[Value | None], writes: Sequence[Value | None]) -> None:
        """A Python object's run(local, arrays): an array for each read (read-only), then each write, in their shapes. A run may
        return the loss."""
        values = [*reads, *writes]
        outputs = frozenset(map(str, range(len(reads), len(values))))
        op = Op(OPERATIONS["python"], {}, {"hook": len(self.hooks)}, {}, self.path, outputs)
        for i, value in enumerate(values):
            if value is not None and not value.is_whole:
                value = self.whole(value)
            op.places[str(i)] = None if value is None else (value.buffer, 0)
        self.ops.append(op)
        self.hooks.append(hook)
        self.hook_shapes.append([None if v is None else (-1, *v.shape) if v.buffer.per_row else v.shape for v in values])
