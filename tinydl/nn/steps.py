"""LastStep, MeanSteps and BlankSteps, of sequences of unequal lengths; and what layers over sequences share: which input is the
lengths, what lies beyond them, pieces of a parameter."""
# B batch, T steps, C features
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tinydl import _hints
from tinydl.nn.layer import Backward, Layer, Symbol, register
from tinydl.plan import Buffer, Builder, Rows, Value

Shape = tuple[int, ...]


def check_dtypes(layer: Layer, inputs: Sequence[Symbol], integer_axes: tuple[int, ...] = (0,)) -> None:
    """TypeError where an input of integers is none of so many axes, or one of numbers is (lengths have no axis)."""
    for s in inputs:
        if (s.dtype == "int64") != (len(s.shape) in integer_axes):
            raise TypeError(f"{layer!r} takes integers as lengths, nn.Input((), \"int64\")"
                            f"{', or as a mask' * (len(integer_axes) > 1)}, and numbers as all else; got {s!r}")


def masked(b: Builder, x: Value, lengths: Value | None) -> Value:
    """x (T, C), and 0 from each sample's length on: what lies there might be no number, which no product keeps away."""
    x = b.whole(x)
    if lengths is None:
        return x
    y = b.value(x.shape, needs_grad=x.needs_grad)
    b.emit("mask_steps", x=x, lengths=lengths, out=y, B=Rows(), L=x.shape[0], C=x.shape[1])
    return y


def piece(b: Builder, grad: Value, first: int, n: int) -> Value:
    """Rows first..first + n - 1 of a parameter's gradient, as all of a buffer."""
    items, buffer = grad.size // grad.shape[0], grad.buffer
    part = Buffer(n * items, False, buffer.space, buffer.offset + first * items * b.dtype.itemsize, b.dtype, buffer.name)
    return Value(part, (n, *grad.shape[1:]))


def columns(x: Value, first: int, n: int) -> Any:
    """Columns first..first + n - 1 of a value (T, C) as a matrix, where they lie."""
    matrix = x.part(len(x.shape) - 1, first, n).matrix()
    assert matrix is not None
    return matrix


class PoolSteps(Layer):
    """One row of a sequence's steps."""

    n_inputs = None
    any_dtype = True
    mean: ClassVar[bool] = False

    def config(self) -> dict[str, Any]:
        return {}

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        y = super().__call__(inputs, *more)
        check_dtypes(self, y.inputs)
        return y

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes[0]) != 2 or shapes[0][0] < 1 or shapes[1:] not in ((), ((),)):
            raise ValueError(f"{self!r} takes samples of shape (T, C), and then lengths (); got {', '.join(map(str, shapes))}")
        return shapes[0][1:]

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        x, lengths = b.whole(xs[0]), b.whole(xs[1]) if len(xs) > 1 else None
        y = b.value(x.shape[1:], needs_grad=x.needs_grad)
        sizes: dict[str, Any] = {"B": Rows(), "L": x.shape[0], "C": x.shape[1], "mean": int(self.mean)}
        b.emit("pool_steps", x=x, lengths=lengths, out=y, **sizes)

        def backward(dy: Value | None) -> Any:
            dx = None
            if dy is not None and x.needs_grad:
                dx = b.value(x.shape)
                b.emit("pool_steps_backward", dy=b.whole(dy), lengths=lengths, out=dx, **sizes)
            return (dx, None) if len(xs) > 1 else dx
        return y, backward


@register
class LastStep(PoolSteps):
    """The last step of a sequence: (T, C) -> (C,). Called on [x, lengths], in a graph, lengths being an integer for each sample,
    it is that sample's own last one, x[lengths - 1], and 0 where the length is 0.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> x, lengths = nn.Input((3, 1)), nn.Input((), "int64", name="lengths")
        >>> model = Model(inputs=[x, lengths], outputs=nn.LastStep()([x, lengths]))
        >>> model.predict((np.arange(6).reshape(2, 3, 1), np.array([3, 1]))).ravel().tolist()
        [2.0, 3.0]
    """


@register
class MeanSteps(PoolSteps):
    """The mean over the steps of a sequence: (T, C) -> (C,). Called on [x, lengths], in a graph, the mean over those that are
    there, and 0 of none. What lies beyond a length changes nothing.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> x, lengths = nn.Input((3, 1)), nn.Input((), "int64", name="lengths")
        >>> model = Model(inputs=[x, lengths], outputs=nn.MeanSteps()([x, lengths]))
        >>> model.predict((np.arange(6).reshape(2, 3, 1), np.array([3, 2]))).ravel().tolist()
        [1.0, 3.5]
    """

    mean = True


@register
class BlankSteps(Layer):
    """Scores of the classes in each step (T, C), made the blank for certain where a sequence has ended: the last layer of a model
    for losses.CTC, called on [scores, lengths], lengths being an integer for each sample.

    From its length on, a sample's scores are 0 for `blank` and -1e30 for all others, which is the probability 0, so that these
    steps change neither the loss nor what metrics.ctc_decode finds. stride: where layers before, padded by half a kernel,
    leave one step in so many, lengths are those of what comes in; ceil(length / stride) steps are kept then.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> scores, lengths = nn.Input((3, 2)), nn.Input((), "int64", name="lengths")
        >>> model = Model(inputs=[scores, lengths], outputs=nn.BlankSteps()([scores, lengths]))
        >>> model.predict((np.ones((1, 3, 2)), np.array([2])))[0, 2, 0]
        np.float32(0.0)
    """

    n_inputs = 2
    any_dtype = True

    @_hints.arguments
    def __init__(self, blank: int = 0, stride: int = 1) -> None:
        if blank != int(blank) or blank < 0 or stride != int(stride) or stride < 1:
            raise ValueError(f"BlankSteps(blank={blank!r}, stride={stride!r}): whole numbers of at least 0 and 1")
        self.blank, self.stride = int(blank), int(stride)

    def config(self) -> dict[str, Any]:
        return {"blank": self.blank, "stride": self.stride}

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        y = super().__call__(inputs, *more)
        check_dtypes(self, y.inputs)
        return y

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or len(shapes[0]) != 2 or shapes[1] != () or not self.blank < shapes[0][1]:
            raise ValueError(f"{self!r} takes scores (T, C), C at least {self.blank + 1}, and then lengths (); got "
                             f"{', '.join(map(str, shapes))}")
        return shapes[0]

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        x, lengths = b.whole(xs[0]), b.whole(xs[1])
        y = b.value(x.shape, needs_grad=x.needs_grad)
        sizes: dict[str, Any] = {"B": Rows(), "L": x.shape[0], "C": x.shape[1], "stride": self.stride}
        b.emit("mask_steps", x=x, lengths=lengths, out=y, blank=self.blank, **sizes)

        def backward(dy: Value | None) -> Any:
            if dy is None or not x.needs_grad:
                return None, None
            dx = b.value(x.shape)
            b.emit("mask_steps", x=b.whole(dy), lengths=lengths, out=dx, **sizes)
            return dx, None
        return y, backward
