"""LSTM, GRU and RNN over sequences (T, C), as PyTorch has them: formulas, names and layouts of parameters, initial values."""
# B batch, T steps, C features, H units, G gates a step (4 H, 3 H, H), N layers times directions
from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from tinydl import _hints
from tinydl._kernels.schema import KINDS
from tinydl.nn import initializers
from tinydl.nn.dropout import Dropout, probability
from tinydl.nn.layer import Backward, Layer, Parameter, Symbol, register
from tinydl.nn.steps import check_dtypes, columns, masked, piece
from tinydl.plan import Builder, Rows, Value

Shape = tuple[int, ...]


class Recurrent(Layer):
    """What LSTM, GRU and RNN have in common."""

    n_inputs = None
    any_dtype = True
    #: gates a step
    gates: ClassVar[int]
    #: how many vectors the state has: h, and c of an LSTM
    states: ClassVar[int] = 1
    #: the operation's name, and what it keeps of each step, beside h, for the backward one
    operation: ClassVar[str]
    kept: ClassVar[tuple[str, ...]] = ()

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, dropout: float = 0.0,
                 bidirectional: bool = False, return_sequences: bool = True) -> None:
        name = type(self).__name__
        if min(input_size, hidden_size, num_layers) < 1:
            raise ValueError(f"{name}({input_size}, {hidden_size}, num_layers={num_layers}): each must be at least 1")
        dropout = probability(name, dropout)
        if dropout and num_layers == 1:
            raise ValueError(f"{name}(dropout={dropout}): it is between layers, and there is one; nn.Dropout comes behind it")
        self.input_size, self.hidden_size, self.num_layers = int(input_size), int(hidden_size), int(num_layers)
        self.bias, self.dropout, self.bidirectional = bool(bias), float(dropout), bool(bidirectional)
        self.return_sequences = bool(return_sequences)
        H, G = self.hidden_size, self.gates * self.hidden_size
        for k in range(self.num_layers):
            width = self.input_size if k == 0 else H * self.directions
            for suffix in self._suffixes(k):
                shapes: dict[str, Shape] = {"weight_ih": (G, width), "weight_hh": (G, H)}
                if self.bias:
                    shapes |= {"bias_ih": (G,), "bias_hh": (G,)}
                for kind, shape in shapes.items():      # uniform in +-1/sqrt(H)
                    setattr(self, f"{kind}_{suffix}", Parameter(shape, initializers.default_linear, (H, G)))

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, k: int) -> list[str]:
        return [f"l{k}", f"l{k}_reverse"][:self.directions]

    def config(self) -> dict[str, Any]:
        return {"input_size": self.input_size, "hidden_size": self.hidden_size, "num_layers": self.num_layers,
                "bias": self.bias, "dropout": self.dropout, "bidirectional": self.bidirectional,
                "return_sequences": self.return_sequences}

    def __call__(self, inputs: Symbol | Sequence[Symbol], *more: Any) -> Symbol:
        y = super().__call__(inputs, *more)
        check_dtypes(self, y.inputs)
        return y

    def _roles(self, shapes: Sequence[Shape]) -> dict[str, int]:
        """Which input is what: x, and where they are there, lengths and the vectors of the initial state."""
        state = (self.num_layers * self.directions, self.hidden_size)
        given = {"x": 0}
        if () in shapes:
            given["lengths"] = list(shapes).index(())
        rest = [i for i in range(1, len(shapes)) if i != given.get("lengths")]
        names = ("h0", "c0")[:self.states]
        if any(shapes[i] != state for i in rest) or len(rest) not in (0, self.states):
            raise ValueError(f"{self!r} takes x (T, {self.input_size}), then, if you like, lengths () and the initial state "
                             f"{', '.join(names)} {state}; got {', '.join(map(str, shapes))}")
        return given | dict(zip(names, rest, strict=False))

    def output_shape(self, *shapes: Shape) -> Shape:
        x = shapes[0]
        if len(x) != 2 or x[1] != self.input_size or x[0] < 1:
            raise ValueError(f"{self!r} on samples of shape {x}: they must be (T, {self.input_size})")
        self._roles(shapes)
        width = self.hidden_size * self.directions
        return (x[0], width) if self.return_sequences else (width,)

    def flops(self, *shapes: Shape) -> int:
        H, total = self.hidden_size, 0
        for k in range(self.num_layers):
            width = self.input_size if k == 0 else H * self.directions
            total += self.directions * self.gates * H * (width + H)
        return shapes[0][0] * total

    def emit(self, b: Builder, *xs: Value) -> tuple[Value, Backward]:
        roles = self._roles([x.shape for x in xs])
        lengths = b.whole(xs[roles["lengths"]]) if "lengths" in roles else None
        x = masked(b, xs[0], lengths)
        initial: dict[str, Value] = {name: xs[roles[name]] for name in ("h0", "c0") if name in roles}
        T, H, D = x.shape[0], self.hidden_size, self.directions
        steps: list[Any] = []
        for k in range(self.num_layers):
            whole = self.return_sequences or k + 1 < self.num_layers
            if k and self.dropout:
                x, drop_back = Dropout(self.dropout).emit(b, x)
                steps.append(lambda dy, grads, back=drop_back: back(dy))
            needs_grad = x.needs_grad or any(s.needs_grad for s in initial.values()) or b.trains(
                *(getattr(self, f"{kind}_{suffix}", None) for suffix in self._suffixes(k)
                  for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")))
            y = b.value((T, H * D) if whole else (H * D,), needs_grad=needs_grad)
            runs = [_Run(self, b, x, y, lengths, initial, suffix, k * D + d, d) for d, suffix in enumerate(self._suffixes(k))]
            steps.append(_backward_of(b, x, runs))
            x = y

        def backward(dy: Value | None) -> Any:
            grads = {name: b.value(s.shape) for name, s in initial.items() if s.needs_grad}
            for back in reversed(steps):
                dy = None if dy is None else back(b.whole(dy), grads)
            every = [dy if xs[0].needs_grad else None] + [None] * (len(xs) - 1)
            for name in grads:
                every[roles[name]] = grads[name]
            return tuple(every) if len(xs) > 1 else every[0]
        return x, backward

    def settings(self) -> dict[str, int]:
        """Of the operations, beside sizes."""
        return {}

    def step(self, b: Builder, x: Value, before: Sequence[Value]) -> tuple[Value, list[Value]]:
        """h (1, hidden_size) after one more step x (1, C), in inference, and the state, h (and c) of each layer (1, hidden_size),
        as `before` has it."""
        after: list[Value] = []
        for k in range(self.num_layers):
            y = b.value((1, self.hidden_size), needs_grad=False)
            initial = dict(zip(("h0", "c0"), before[k * self.states:(k + 1) * self.states], strict=False))
            run = _Run(self, b, x, y, None, initial, f"l{k}", 0, 0, keep=("cells",) if self.states == 2 else ())
            after += [y, *run.kept.values()]
            x = y
        return x, after


class _Run:
    """One direction of one layer, as it is emitted: `number` among the initial states, `d` the direction; `keep`: what is kept of
    each step in inference."""

    def __init__(self, layer: Recurrent, b: Builder, x: Value, y: Value, lengths: Value | None, initial: dict[str, Value],
                 suffix: str, number: int, d: int, keep: Sequence[str] = ()) -> None:
        T, C = x.shape
        H, G = layer.hidden_size, layer.gates * layer.hidden_size
        self.layer, self.b, self.x, self.lengths, self.number = layer, b, x, lengths, number
        self.w_ih: Parameter = getattr(layer, f"weight_ih_{suffix}")
        self.w_hh: Parameter = getattr(layer, f"weight_hh_{suffix}")
        self.b_ih, self.b_hh = (getattr(layer, f"{kind}_{suffix}", None) for kind in ("bias_ih", "bias_hh"))
        self.sizes: dict[str, Any] = {"B": Rows(), "L": T, "H": H, "W": y.shape[-1], "column": d * H, "reverse": d,
                                      **layer.settings()} | ({} if layer.gates == 1 else {"G": G})
        self.w = b.param(self.w_ih, (G, C)), b.param(self.w_hh, (G, H))
        bias = None if self.b_ih is None else b.param(self.b_ih, (G,)), None if self.b_hh is None else b.param(self.b_hh, (G,))
        each = b.value((T, G))
        b.matmul(b.matrix(x), b.matrix(self.w[0]).T, each, bias=bias[0])
        self.gates, self.y = b.value((T, G)), y
        names = ("before", *layer.kept) if b.training and y.needs_grad else keep
        self.kept = {name: b.value((T, H)) for name in names}
        self.initial = {name: b.whole(s.part(0, number, 1)) for name, s in initial.items()}
        self.state_grads = [name for name, s in initial.items() if s.needs_grad]
        operands: dict[str, Any] = {"out" if len(y.shape) == 2 else "last": y, **self.kept, **self.initial}
        b.emit(layer.operation, x=each, w_hh=self.w[1], b_hh=bias[1], lengths=lengths, gates=self.gates, **operands | self.sizes)

    def backward(self, dy: Value, dx: Value | None, more: int, grads: dict[str, Value]) -> None:
        """Emit the gradients by the parameters and the initial state; and dx := dx (as `more`) + that by x."""
        b, layer, kept = self.b, self.layer, dict(self.kept)
        T, G = self.gates.shape
        H = layer.hidden_size
        dgates, before = b.value((T, G)), kept.pop("before")
        arguments: dict[str, Any] = {"dy" if len(self.y.shape) == 2 else "dlast": dy, "gates": self.gates, "w_hh": self.w[1],
                                     "lengths": self.lengths, "dgates": dgates, **kept, **self.sizes}
        if layer.operation == "gru":
            arguments["before"] = before
        if layer.operation == "lstm":
            arguments["c0"] = self.initial.get("c0")
        states = {name: b.value((1, H)) for name in self.state_grads}
        dhidden = None
        if layer.operation == "gru" and not layer.settings()["reset_before"] and b.trains(self.w_hh, self.b_hh):
            dhidden = arguments["dhidden"] = b.value((T, H))
        b.emit(layer.operation + "_backward", **arguments | {f"d{name}": s for name, s in states.items()})
        for name, s in states.items():
            b.move(s, grads[name].part(0, self.number, 1))
        if b.trains(self.w_ih):
            dw, add = b.grad(self.w_ih)
            b.matmul(b.matrix(dgates).T, b.matrix(self.x), dw, accumulate=add)
        if b.trains(self.w_hh):
            dw, add = b.grad(self.w_hh)
            if layer.operation != "gru":
                b.matmul(b.matrix(dgates).T, b.matrix(before), dw, accumulate=add)
            else:       # the last third goes by other inputs, or has another gradient
                a = columns(dgates, 2 * H, H) if dhidden is None else b.matrix(dhidden)
                b.matmul(columns(dgates, 0, 2 * H).T, b.matrix(before), piece(b, dw, 0, 2 * H), accumulate=add)
                b.matmul(a.T, b.matrix(before if dhidden is not None else kept["hidden"]), piece(b, dw, 2 * H, H),
                         accumulate=add)
        self._biases(dgates, dhidden)
        if dx is not None:
            b.matmul(b.matrix(dgates), b.matrix(self.w[0]), dx, accumulate=more)

    def _biases(self, dgates: Value, dhidden: Value | None) -> None:
        b, (T, G) = self.b, dgates.shape
        sums: list[Value] = []
        for p in (self.b_ih, self.b_hh):
            if p is None or not b.trains(p):
                continue
            db, add = b.grad(p)
            n = G
            if p is self.b_hh and dhidden is not None:
                n = 2 * G // 3
                b.emit("column_sum", x=dhidden, out=piece(b, db, n, G - n), R=Rows(T), C=G - n, accumulate=add)
            into = piece(b, db, 0, n)
            if sums and not add:        # the same sums as the other bias's
                b.emit("copy", x=piece(b, sums[0], 0, n), out=into, n=n)
            elif n == G:
                b.emit("column_sum", x=dgates, out=into, R=Rows(T), C=G, accumulate=add)
            else:
                own = b.value((T, n))
                b.move(dgates.part(1, 0, n), own)
                b.emit("column_sum", x=own, out=into, R=Rows(T), C=n, accumulate=add)
            if not add:
                sums.append(db)


def _backward_of(b: Builder, x: Value, runs: list[_Run]) -> Any:
    def backward(dy: Value, grads: dict[str, Value]) -> Value | None:
        dx = b.value(x.shape) if x.needs_grad else None
        for i, run in enumerate(runs):
            if run.y.needs_grad:
                run.backward(dy, dx, int(i > 0), grads)
        return dx
    return backward


@register
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates: Gers et al. 2000) over sequences (T, input_size).

        i, f, o = sigmoid(W_i x + b_i + U_i h + d_i), ...        g = tanh(W_g x + b_g + U_g h + d_g)
        c = f c + i g        h = o tanh(c)

    The output is h of all steps (T, hidden_size), or with return_sequences=False that of the last one (hidden_size,).
    num_layers: so many on top of each other, the output of one being x of the next, with `dropout` between them. bidirectional: a
    second one goes from the last step to the first, and both stand side by side: 2 hidden_size columns; of the last step, each
    one's own last.

    Further inputs, in a graph: `lengths`, an integer for each sample, nn.Input((), "int64"): of a padded sequence only so many
    steps are there (0..T; another one fails its batch). What lies beyond changes nothing, whatever it is; the output there is 0,
    the last step is the sample's own, and the reversed direction starts there. And the initial state h0, c0, each
    (num_layers x directions, hidden_size) in PyTorch's order; left out it is 0.

    Parameters are PyTorch's, with its names and layouts: weight_ih_l0 (4 hidden_size, input_size) of the gates i, f, g, o,
    weight_hh_l0, bias_ih_l0, bias_hh_l0, then those of the reversed direction (..._l0_reverse) and of layer 1; all begin uniform
    in +-1/sqrt(hidden_size).

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.LSTM(3, 5, return_sequences=False), seed=0).predict(np.ones((2, 7, 3))).shape
        (2, 5)
        >>> x, lengths = nn.Input((7, 3)), nn.Input((), "int64", name="lengths")
        >>> model = Model(inputs=[x, lengths], outputs=nn.LSTM(3, 5, bidirectional=True)([x, lengths]), seed=0)
        >>> model.predict((np.ones((2, 7, 3)), np.array([7, 4]))).shape
        (2, 7, 10)
    """

    gates, states, operation, kept = 4, 2, "lstm", ("cells", "tanhs")

    @_hints.arguments
    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, dropout: float = 0.0,
                 bidirectional: bool = False, return_sequences: bool = True) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, dropout, bidirectional, return_sequences)


@register
class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014) over sequences (T, input_size). Inputs, output and parameters are as
    LSTM's, with the gates r, z, n and a state of h0 alone.

        r, z = sigmoid(W x + b + U h + d)        n = tanh(W_n x + b_n + r (U_n h + d_n))        h = (1 - z) n + z h

    reset_after=False: n = tanh(W_n x + b_n + U_n (r h) + d_n), as the paper and Keras's reset_after=False have it; PyTorch, cuDNN
    and Keras's default are reset_after=True. (Keras and ONNX order the gates z, r, n.)

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.GRU(3, 5), seed=0).predict(np.ones((2, 7, 3))).shape
        (2, 7, 5)
    """

    gates, operation, kept = 3, "gru", ("hidden",)

    @_hints.arguments
    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, dropout: float = 0.0,
                 bidirectional: bool = False, return_sequences: bool = True, *, reset_after: bool = True) -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, dropout, bidirectional, return_sequences)
        self.reset_after = bool(reset_after)

    def config(self) -> dict[str, Any]:
        return super().config() | {"reset_after": self.reset_after}

    def settings(self) -> dict[str, int]:
        return {"reset_before": int(not self.reset_after)}


@register
class RNN(Recurrent):
    """h = tanh(W x + b + U h + d), or relu with nonlinearity="relu" (Elman 1990), over sequences (T, input_size).
    Inputs, output and parameters are as LSTM's, without gates and with a state of h0 alone.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.RNN(3, 5, nonlinearity="relu"), seed=0).predict(np.ones((2, 7, 3))).shape
        (2, 7, 5)
    """

    gates, operation = 1, "rnn"

    @_hints.arguments
    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, dropout: float = 0.0,
                 bidirectional: bool = False, return_sequences: bool = True, *, nonlinearity: str = "tanh") -> None:
        super().__init__(input_size, hidden_size, num_layers, bias, dropout, bidirectional, return_sequences)
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"RNN(nonlinearity={nonlinearity!r}): tanh or relu")
        self.nonlinearity = nonlinearity

    def config(self) -> dict[str, Any]:
        return super().config() | {"nonlinearity": self.nonlinearity}

    def settings(self) -> dict[str, int]:
        return {"kind": KINDS[self.nonlinearity]}

