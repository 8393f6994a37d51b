"""The base of all layers: parameters, children, and how a layer emits its operations.

A layer holds no activations and no mode: what it computes in training and in inference is decided by the
plan that it emits into (`b.training`). Adding a layer is one file: subclass Layer, write `config`,
`output_shape` and `emit`, and register it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from tinydl import _hints
from tinydl.nn.arguments import RecordsArguments
from tinydl.plan import Builder, Parameter, Statistic, Value

Backward = Callable[[Value | None], Any]

__all__ = ["Backward", "Layer", "Parameter", "Statistic", "Symbol", "register"]

#: layer classes by name, for Model.load
REGISTRY: dict[str, type[Layer]] = {}


L = TypeVar("L", bound="type[Layer]")
R = TypeVar("R")


def register(cls: L) -> L:
    """Class decorator: Model.load can rebuild this layer from its name and config."""
    REGISTRY[cls.__name__] = cls
    return cls


def _of_any_inputs(method: Callable[..., R]) -> Callable[..., R]:
    """For type checkers alone: a subclass may name its inputs, `emit(self, b, x)`, where this class has `*xs`."""
    return method


def _through(layer: str) -> Callable[[Symbol, Any], Any]:
    """An operator of Python, whose error says which layer it is here."""
    def operator(self: Symbol, other: Any) -> Any:
        raise TypeError(f"values of a graph go through layers: nn.{layer}")
    return operator


class Symbol:
    """What a layer of a graph gives, or takes: the shape of one sample, its dtype, and where it comes from.

    layer, inputs: what it is the output of; layer None: an input of the model.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str = "float32", layer: Layer | None = None,
                 inputs: tuple[Symbol, ...] = (), name: str | None = None) -> None:
        self.shape, self.dtype, self.layer, self.inputs, self.name = shape, dtype, layer, inputs, name

    def __repr__(self) -> str:
        return f"<{self.name or (type(self.layer).__name__ if self.layer else 'Input')} {self.shape} {self.dtype}>"

    __add__ = __radd__ = _through("Add()([a, b])")
    __mul__ = __rmul__ = _through("Multiply()([a, b])")
    __matmul__ = _through("Dot()([a, b])")
    __getitem__ = _through("Slice(axis, start, stop)(a)")


class Layer(RecordsArguments):
    """One step of a model. See `tinydl.nn` for those that exist and `PythonLayer` for writing one in NumPy."""

    if not TYPE_CHECKING:       # a type checker would take every attribute for one that is there
        __getattr__, __setattr__ = _hints.attribute, _hints.assign

    @property
    def mixes_samples(self) -> bool:
        """Whether a sample's output in training depends on the samples beside it, so on how batches are cut: strategy "auto"
        then cuts none."""
        return False

    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of this layer's own, in a fixed order."""
        return ((k, v) for k, v in vars(self).items() if type(v) is Parameter)

    def statistics(self) -> Iterator[tuple[str, Statistic]]:
        """(name, running statistic) of this layer's own, in a fixed order."""
        return ((k, v) for k, v in vars(self).items() if isinstance(v, Statistic))

    def children(self) -> Iterator[tuple[str, Layer]]:
        """(name, layer) of the layers inside, in order."""
        return iter(())

    def walk(self, path: str = "") -> Iterator[tuple[str, Layer]]:
        """(path, layer) of this layer and all inside, depth first; a layer used twice comes twice."""
        yield path, self
        for name, child in self.children():
            yield from child.walk(f"{path}.{name}" if path else name)

    def named_parameters(self) -> Iterator[tuple[str, Layer, Parameter]]:
        """(name, layer, parameter) of all parameters and running statistics of this layer and those inside; name: the layer's
        path and its own. One that is shared comes with each of its names."""
        for path, layer in self.walk():
            for name, p in (*layer.parameters(), *layer.statistics()):
                yield f"{path}.{name}" if path else name, layer, p

    def replace_parameter(self, old: Parameter, new: Parameter) -> None:
        """Have `new` wherever this layer has `old`."""
        for name in [k for k, v in vars(self).items() if v is old]:
            setattr(self, name, new)

    #: of arguments that files of before did not have: what it did then
    added_arguments: ClassVar[Mapping[str, Any]] = {}
    #: whether its constructor makes the layers inside by itself: a file and a summary then have it as one layer
    makes_children: ClassVar[bool] = False
    #: whether it does nothing to values but show them in another order: then it takes integers too
    moves_only: ClassVar[bool] = False
    #: whether it takes integers beside numbers, and gives numbers
    any_dtype: ClassVar[bool] = False
    #: how many values it takes; None: several, on a list (how many, `output_shape` says, or `forward` of a PythonLayer)
    n_inputs: ClassVar[int | None] = 1

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        """Symbolic values in (several on a list), a symbolic value out: how graphs are written (see `nn.Input`). A layer called
        twice shares its parameters."""
        if more:
            raise TypeError(f"{self!r} takes several inputs as a list: layer([a, b]); got {1 + len(more)} arguments")
        given = [inputs] if isinstance(inputs, Symbol) else list(inputs) if isinstance(inputs, (list, tuple)) else []
        if not given or not all(isinstance(s, Symbol) for s in given):
            raise TypeError(f"{self!r} is called on symbolic values, those of nn.Input and of layers; got "
                            f"{type(inputs).__name__}. For arrays put it into a Model and call predict")
        if self.n_inputs is not None and len(given) != self.n_inputs:
            raise TypeError(f"{self!r} takes {self.n_inputs} input{'s' * (self.n_inputs != 1)}; got {len(given)}")
        dtype = given[0].dtype if self.moves_only else "float32"
        for s in given:
            if not (self.moves_only or self.any_dtype) and s.dtype != self.input_dtype():
                raise TypeError(f"{self!r} takes {'integers' if s.dtype == 'float32' else 'numbers, not integers'}; got {s!r}")
        return Symbol(self.output_shape(*(s.shape for s in given)), dtype, self, tuple(given))

    def input_dtype(self) -> str:
        """"float32" for numbers, which are the model's dtype whatever it is; "int64" for integers."""
        return "float32"

    def input_shape(self) -> tuple[int, ...] | None:
        """The shape of one sample that this layer needs, where it knows."""
        return None

    def keeps_shape(self) -> bool:
        """Whether an output always has its sample's shape: what comes behind then says what comes in. Override it in a layer
        whose own `output_shape` only checks."""
        return type(self).output_shape is Layer.output_shape

    @_of_any_inputs
    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one sample after this layer, from that of each input; ValueError where they do not fit."""
        return shapes[0]

    @_of_any_inputs
    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        """Emit forward operations; return the output and a function that emits the backward ones.

        That function takes the gradient of the output and returns the gradient of x (of several inputs, a tuple), or None
        where x.needs_grad is false (then it need not be computed). Of a frozen parameter there is no gradient: ask
        `b.trains(parameter)` before `b.grad(parameter)`. Values may be parts of their buffers, or lie in another
        order: `b.whole(x)` and `b.matrix(x)` are for operations that need more.
        """
        raise NotImplementedError(f"{type(self).__name__}.emit")

    @_of_any_inputs
    def flops(self, *shapes: tuple[int, ...]) -> int:
        """Multiply-adds for one sample, forward."""
        return 0
