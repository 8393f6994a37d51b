"""Going through an ONNX graph, node by node, and the table of functions that make a layer of an operator.

A value of the graph is a Term: a constant, or what layers compute, a symbolic value. What no layer computes by itself, like Erf
or Exp, is a Term too, with its trouble: where a larger pattern is known (a GELU has an Erf inside), the trouble is passed
by; where an output needs it, it is named in the error, with all others that outputs need.
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import numpy as np

from tinydl import nn
from tinydl.nn.layer import Layer, Parameter, Symbol
from tinydl.onnx.reading.constants import FOLDS, is_spread, is_uniform, single

Array = np.ndarray[Any, Any]
Shape = tuple[int, ...]

__all__ = ["IMPORTS", "Node", "Reader", "Term", "Unreadable", "imports"]

#: by operator ("Relu"; of other domains "ai.onnx.ml.Scaler"): function(reader, node) -> one Term, or one for each output
IMPORTS: dict[str, Callable[[Reader, Node], Any]] = {}
F = TypeVar("F", bound=Callable[..., Any])


def imports(*operators: str) -> Callable[[F], F]:
    """Decorator of a function(reader, node) -> Term, or a list of them, that reads these operators."""
    def enter(function: F) -> F:
        IMPORTS.update(dict.fromkeys(operators, function))
        return function
    return enter


class Unreadable(ValueError):
    """A node that no layer computes; the message says why."""


#: what an error says of each operator of a quantized file
QUANTIZED = "no layer computes with quantized numbers"
#: by operator that no layer computes: why, where there is more to say
OTHERS = {"If": "its condition is no constant here (it depends on inputs, or on what else is named), so which branch is computed "
                "is not known",
          **dict.fromkeys(("Loop", "Scan"), "a loop; layers that go through steps are LSTM, GRU and RNN"),
          **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConvInteger", "MatMulInteger",
                           "QLinearConv", "QLinearMatMul", "DynamicQuantizeLSTM"), QUANTIZED)}


class Waiting(Exception):
    """One of a node's inputs is unreadable, so there is nothing to say of the node itself."""


class Term:
    """A value of the graph. array: of a constant; name: of the initializer that it is, turned: transposed. symbol: what layers
    compute, whose samples lie along axis `batch` of the value in the file. merged: the sample's axis of that number is one with
    it there: "behind" it, as exporters write (batch heads, T, D), or "before" it, as (T batch, C); "" where the batch has an axis
    of its own. op and args: how it came about. trouble: why there is no symbol; "" where an argument has none."""

    def __init__(self, op: str = "", args: Sequence[Term | None] = (), *, array: Array | None = None, name: str | None = None,
                 turned: bool = False, symbol: Symbol | None = None, batch: int = 0, merged: str = "",
                 trouble: str = "") -> None:
        self.attributes: dict[str, Any] = {}
        #: its name in the file
        self.output = ""
        self.op, self.args, self.array, self.name, self.turned = op, tuple(args), array, name, turned
        self.symbol, self.batch, self.merged, self.trouble = symbol, batch, merged, trouble

    def is_number(self, value: float, rel: float = 1e-5) -> bool:
        """Whether it is a constant of one element, which is about this number."""
        return self.array is not None and self.array.size == 1 and bool(
            abs(float(single(self.array)) - value) <= rel * abs(value))


class Node:
    """A node with its inputs."""

    def __init__(self, op: str, proto: Any, inputs: Sequence[Term | None], attributes: dict[str, Any]) -> None:
        self.op, self.inputs, self.attributes = op, list(inputs), attributes
        self.outputs: list[str] = list(proto.output)
        self.label = f"{op} (node {proto.name or proto.output[0]!r})"

    def given(self, i: int) -> Term | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def x(self, i: int = 0, *, batch_first: bool = True, merged: bool = False) -> Term:
        """Input i, which layers compute."""
        term = self.given(i)
        if term is None:
            raise Unreadable(f"input {i} is not given")
        if term.symbol is None:
            if term.array is None or any(t is not None and t.symbol is None and t.array is None for t in self.inputs):
                raise Waiting
            raise Unreadable(f"input {i} is a constant")
        if term.merged and not merged:
            raise Unreadable(f"input {i} has the samples and an axis of theirs in one; reshaping and transposing are read there")
        if batch_first and term.batch:
            raise Unreadable(f"the samples of input {i} lie along axis {term.batch}; 0 is read")
        return term

    def symbol(self, i: int = 0) -> Symbol:
        """That of input i, with samples along axis 0."""
        symbol = self.x(i).symbol
        assert symbol is not None
        return symbol

    def constant(self, i: int, what: str) -> Term:
        """Input i, which must be a constant."""
        term = self.given(i)
        if term is None or term.array is None:
            if term is not None and term.symbol is None:
                raise Waiting
            raise Unreadable(f"its {what} {'is not given' if term is None else 'is computed; a constant is read'}")
        if is_spread(term.array):
            raise Unreadable(f"its {what} of shape {term.array.shape} is not in the file, but repeats numbers that are")
        return term

    def array(self, i: int, what: str) -> Array:
        array = self.constant(i, what).array
        assert array is not None
        return array

    def integers(self, i: int, attribute: str, default: Sequence[int] | None = None) -> list[int] | None:
        """Axes and the like: an attribute in older files, an input in newer ones."""
        if attribute in self.attributes:
            return [int(v) for v in np.ravel(self.attributes[attribute])]
        if self.given(i) is None:
            return None if default is None else list(default)
        return [int(v) for v in np.ravel(self.array(i, attribute))]

    def expect(self, **attributes: Any) -> None:
        """Unreadable where one of these attributes is there with another value."""
        for name, value in attributes.items():
            given = self.attributes.get(name, value)
            if not (np.allclose(given, value, rtol=1e-5) if isinstance(value, float) else given == value):
                raise Unreadable(f"{name}={given!r}; {value!r} is read")


class Reader:
    """opset: of the default domain. rows: what stands in shapes for the number of samples, which no other size is. dtype: of the
    file's numbers."""

    def __init__(self, opset: int, rows: int, dtype: np.dtype[Any]) -> None:
        self.opset, self.rows, self.dtype = opset, rows, dtype
        self.terms: dict[str, Term] = {"": Term()}
        #: of parameters, running statistics too, the values in the file
        self.values: dict[Parameter, Array] = {}
        self._users: dict[str, list[Any]] = {}
        self._outputs: set[str] = set()
        self._layers: dict[Any, Layer] = {}
        #: the biases of Linear layers, by the names of initializers
        self.biases: dict[str, Parameter] = {}
        #: what no layer computes, in the order of the file
        self.troubles: list[str] = []
        #: the layer that has an initializer as its weight, and whether it has it transposed
        self.weights: dict[str, tuple[nn.Linear | nn.Embedding, bool]] = {}

    # ------------------------------------------------------------------ the walk
    def read(self, nodes: Sequence[Any], outputs: Sequence[str], attributes_of: Callable[[Any], dict[str, Any]]) -> None:
        """Make a term of each node's outputs."""
        self._outputs, self._attributes_of = set(outputs), attributes_of
        self._walk(nodes)

    def _walk(self, nodes: Sequence[Any]) -> None:
        for node in nodes:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        for node in nodes:
            test = self.terms.get(node.input[0]) if node.op_type == "If" else None
            made = self._read(node) if test is None or test.array is None else self._branch(node, bool(single(test.array)))
            for name, term in zip(node.output, made, strict=False):
                if name:
                    self.terms[name], term.output = term, term.output or name

    def _branch(self, node: Any, way: bool) -> list[Term]:
        """The outputs of an If whose condition is a constant, such as one that asks for a size."""
        from onnx.numpy_helper import to_array
        graph = self._attributes_of(node)["then_branch" if way else "else_branch"]
        self.terms.update({t.name: Term("Constant", array=to_array(t), name=t.name) for t in graph.initializer})
        self._outputs |= {o.name for o in graph.output}
        self._walk(graph.node)
        return [self.terms[o.name] for o in graph.output]

    def _read(self, proto: Any) -> Sequence[Term]:
        op = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        inputs = [self.terms[name] if name else None for name in proto.input]
        nothing = [Term(op, inputs) for _ in proto.output]
        try:
            node = Node(op, proto, inputs, self._attributes_of(proto))
            for term in nothing:
                term.attributes = node.attributes
            if op in FOLDS and all(t is None or t.array is not None for t in inputs):
                if op == "Identity" or (op == "Transpose" and node.array(0, "input").ndim == 2):
                    return [_named_alike(inputs[0], op, node.attributes)]
                found = FOLDS[op](node.attributes, [None if t is None else t.array for t in inputs])
                return [Term(op, inputs, array=a) for a in (found if isinstance(found, list) else [found])]
            if op not in IMPORTS:
                raise Unreadable(OTHERS.get(op, "no layer computes it"))
            made = IMPORTS[op](self, node)
        except Waiting:
            return nothing
        except (ValueError, TypeError, LookupError, ArithmeticError) as e:     # a foreign file may say anything
            self.troubles.append(f"{op} (node {proto.name or proto.output[0]!r}): {e}")
            for term in nothing:
                term.trouble = self.troubles[-1]
            return nothing
        made = made if isinstance(made, list) else [made]
        for term in made:
            if not term.op:
                term.op, term.args, term.attributes = op, tuple(inputs), node.attributes
        return made

    def used(self, name: str) -> bool:
        """Whether anything reads this output of a node."""
        return bool(name) and (name in self._users or name in self._outputs)

    def uses(self, term: Term) -> int:
        """How many nodes and outputs have a value."""
        return len(self._users.get(term.output, ())) + (term.output in self._outputs)

    def user(self, name: str, op: str) -> Any:
        """The one node that reads a value, where it is of this operator."""
        users = self._users.get(name, [])
        return users[0] if len(users) == 1 and name not in self._outputs and users[0].op_type == op else None

    # ------------------------------------------------------------------ making layers
    def call(self, layer: Layer, *inputs: Term, batch: int | None = None) -> Term:
        """The layer on these."""
        symbols = [t.symbol for t in inputs if t.symbol is not None]
        out = layer(symbols if layer.n_inputs is None else symbols[0])
        return Term(symbol=out, batch=inputs[0].batch if batch is None else batch, merged=inputs[0].merged)

    def shared(self, node: Node, make: Callable[[], Layer], also: Any = None) -> Layer:
        """The layer of a node; that of another node where both have the same constants and attributes. Not of constants that are
        one number each: exporters write equal values once, and so the weights of all norms that were not trained yet."""
        constants = [t for t in node.inputs if t is not None and t.array is not None]
        if any(t.name is None for t in constants) or all(t.array is not None and is_uniform(t.array) for t in constants):
            return make()
        key = (node.op, repr(sorted(node.attributes.items())), also, *(None if t is None else t.name for t in node.inputs))
        if key not in self._layers:
            self._layers[key] = make()
        return self._layers[key]

    def give(self, parameter: Parameter | None, values: Array, frozen: bool = False) -> None:
        """Let a parameter begin with these values."""
        assert parameter is not None
        if values.shape != parameter.shape:
            raise Unreadable(f"a constant has shape {values.shape} where {parameter.shape} is needed")
        if values.dtype.kind != "f" or values.dtype.itemsize < 4:
            raise Unreadable(f"a constant is {values.dtype}; float32 and float64 are read")
        self.values[parameter] = values
        parameter.frozen = frozen

    def full_shape(self, term: Term) -> Shape:
        """In the file, the axis of the batch among them."""
        assert term.symbol is not None
        shape, at = term.symbol.shape, term.batch
        return (*shape[:at], self.rows * shape[at], *shape[at + 1:]) if term.merged else (*shape[:at], self.rows, *shape[at:])

    def reshaped(self, term: Term, shape: Shape, batch: int, merged: str = "") -> Term:
        """The samples of a term in another shape."""
        symbol = term.symbol
        assert symbol is not None
        while isinstance(symbol.layer, nn.Reshape):         # two of them are one
            symbol = symbol.inputs[0]
        if shape != symbol.shape:
            if prod(shape) != prod(symbol.shape):
                raise Unreadable(f"samples of shape {symbol.shape} do not fit into {shape}")
            symbol = (nn.Flatten() if len(shape) == 1 else nn.Reshape(shape))(symbol)
        return Term(symbol=symbol, batch=batch, merged=merged)

    def permuted(self, symbol: Symbol, order: Sequence[int]) -> Symbol:
        """The axes of samples in this order; two Permutes one behind the other are one, or none."""
        if isinstance(symbol.layer, nn.Permute):
            order, symbol = [symbol.layer.axes[a] for a in order], symbol.inputs[0]
        return symbol if list(order) == list(range(len(order))) else nn.Permute(tuple(order))(symbol)

    def shown(self, sizes: Sequence[int]) -> str:
        """Sizes in the file, for an error."""
        rows = self.rows
        return f"({', '.join('batch' if n == rows else str(n) if n % rows else f'{n // rows} batch' for n in sizes)})"

    def axis(self, term: Term, axis: int) -> int:
        """An axis in the file as one of a sample, from 0."""
        n = len(self.full_shape(term))
        if not -n <= axis < n:
            raise Unreadable(f"there is no axis {axis} of {n}")
        axis %= n
        if axis == term.batch:
            raise Unreadable(f"it works along axis {axis}, that of the samples, which layers keep apart")
        return axis - (axis > term.batch)


def _named_alike(term: Any, op: str, attributes: dict[str, Any]) -> Term:
    """A constant as it is, or transposed: it is still that initializer."""
    turned = op == "Transpose" and attributes.get("perm", [1, 0]) == [1, 0]
    return Term(op, array=term.array.T if turned else term.array, name=term.name, turned=term.turned != turned)
