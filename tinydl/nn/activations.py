"""Activations: ReLU, ReLU6, LeakyReLU, ELU, SELU, Sigmoid, LogSigmoid, Tanh, Hardtanh, Hardsigmoid, GELU, SiLU, Softplus,
Softsign, Mish, Hardswish, and the functions Exp, Abs, Square, Rescaling (elementwise); Softmax, LogSoftmax (last axis)."""
from __future__ import annotations

from typing import Any, ClassVar

from tinydl import _hints
from tinydl._kernels.schema import FROM_OUTPUT, KINDS
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value, inverse


class Elementwise(Layer):
    """y = f(x), one kernel by its kind; `alpha` and `beta` are the function's parameters."""

    kind: ClassVar[str]
    alpha: float = 0.0
    beta: float = 0.0

    @_hints.arguments
    def __init__(self) -> None:
        pass        # so that the error for an argument of another library's says what to do

    def _kind(self) -> str:
        return self.kind

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        kind = self._kind()
        order = x.order()
        x = b.whole(x.permute(order))
        y = b.value(x.shape, needs_grad=x.needs_grad)
        b.emit("activation", x=x, out=y, n=Rows(x.size), kind=KINDS[kind], alpha=self.alpha, beta=self.beta)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit("activation_backward", dy=dy.permute(order), saved=y if kind in FROM_OUTPUT else x, out=dx, n=Rows(x.size),
                   kind=KINDS[kind], alpha=self.alpha, beta=self.beta)
            return dx.permute(inverse(order))
        return y.permute(inverse(order)), backward


@register
class ReLU(Elementwise):
    """y = max(x, 0)"""

    kind = "relu"


@register
class LeakyReLU(Elementwise):
    """y = x where x > 0, else negative_slope x"""

    kind = "leaky_relu"

    @_hints.arguments
    def __init__(self, negative_slope: float = 0.01) -> None:
        if not 0 <= negative_slope < float("inf"):
            raise ValueError(f"LeakyReLU(negative_slope={negative_slope}): at least 0")
        self.negative_slope = self.alpha = float(negative_slope)

    def config(self) -> dict[str, Any]:
        return {"negative_slope": self.negative_slope}


@register
class ELU(Elementwise):
    """y = x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016)"""

    kind = "elu"

    @_hints.arguments
    def __init__(self, alpha: float = 1.0) -> None:
        if not 0 < alpha < float("inf"):
            raise ValueError(f"ELU(alpha={alpha}): above 0")
        self.alpha = float(alpha)

    def config(self) -> dict[str, Any]:
        return {"alpha": self.alpha}


@register
class SELU(Elementwise):
    """y = 1.0507 x where x > 0, else 1.0507 * 1.6733 (exp(x) - 1) (Klambauer et al. 2017): keeps means near 0 and variances
    near 1 from layer to layer, where weights begin with initializers.lecun_normal."""

    kind = "selu"


@register
class Sigmoid(Elementwise):
    """y = 1 / (1 + exp(-x))"""

    kind = "sigmoid"


@register
class Tanh(Elementwise):
    """y = tanh(x)"""

    kind = "tanh"


@register
class Hardtanh(Elementwise):
    """y = min(max(x, min_val), max_val). The gradient is that of x strictly between the bounds, and 0 elsewhere, at the bounds
    too, as PyTorch has it. A bound may be infinite, which leaves that side open.

        >>> import numpy as np
        >>> from tinydl import Model, nn
        >>> Model(nn.Sequential(nn.Hardtanh(-1, 2))).predict(np.array([[-3, 0.5, 4]])).tolist()
        [[-1.0, 0.5, 2.0]]
    """

    kind = "hardtanh"

    @_hints.arguments
    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        if not min_val < max_val:
            raise ValueError(f"Hardtanh(min_val={min_val}, max_val={max_val}): min_val must be below max_val")
        self.min_val, self.max_val = self.alpha, self.beta = float(min_val), float(max_val)

    def config(self) -> dict[str, Any]:
        return {"min_val": self.min_val, "max_val": self.max_val}


@register
class ReLU6(Elementwise):
    """y = min(max(x, 0), 6) (Krizhevsky 2010), of MobileNetV2; the gradient at 0 and at 6 is 0, as PyTorch has it."""

    kind = "hardtanh"
    alpha, beta = 0.0, 6.0


@register
class Hardsigmoid(Elementwise):
    """y = min(max(alpha x + beta, 0), 1) (Courbariaux et al. 2015). The gradient is alpha strictly between, and 0 elsewhere.

    As they stand the numbers are those of PyTorch's nn.Hardsigmoid and of Keras 3; alpha=0.2 is that of PaddlePaddle's models, of
    Keras 2 and of ONNX where its operator HardSigmoid says nothing else.
    """

    kind = "hardsigmoid"

    @_hints.arguments
    def __init__(self, alpha: float = 1 / 6, beta: float = 0.5) -> None:
        if not 0 < alpha < float("inf") or not abs(beta) < float("inf"):
            raise ValueError(f"Hardsigmoid(alpha={alpha}, beta={beta}): alpha above 0, and both finite")
        self.alpha, self.beta = float(alpha), float(beta)

    def config(self) -> dict[str, Any]:
        return {"alpha": self.alpha, "beta": self.beta}


@register
class GELU(Elementwise):
    """y = x Phi(x), Phi the normal distribution function; approximate="tanh": by tanh (Hendrycks and Gimpel 2016)"""

    kind = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f"GELU(approximate={approximate!r}): 'none' or 'tanh'")
        self.approximate = approximate

    def _kind(self) -> str:
        return "gelu" if self.approximate == "none" else "gelu_tanh"

    def config(self) -> dict[str, Any]:
        return {"approximate": self.approximate}


@register
class SiLU(Elementwise):
    """y = x / (1 + exp(-x))"""

    kind = "silu"


@register
class Softplus(Elementwise):
    """y = log(1 + exp(beta x)) / beta. PyTorch returns x where beta x > 20: the difference is below 2.1e-9 / beta."""

    kind = "softplus"

    @_hints.arguments
    def __init__(self, beta: float = 1.0) -> None:
        if not 0 < beta < float("inf"):
            raise ValueError(f"Softplus(beta={beta}): above 0")
        self.beta = self.alpha = float(beta)        # the kernel reads alpha alone

    def config(self) -> dict[str, Any]:
        return {"beta": self.beta}


@register
class Mish(Elementwise):
    """y = x tanh(log(1 + exp(x))) (Misra 2019)"""

    kind = "mish"


@register
class Hardswish(Elementwise):
    """y = x min(max(x + 3, 0), 6) / 6 (Howard et al. 2019). The gradient is 0 at -3 and 1 at 3, as PyTorch has it."""

    kind = "hardswish"


@register
class Softsign(Elementwise):
    """y = x / (1 + |x|)"""

    kind = "softsign"


@register
class LogSigmoid(Elementwise):
    """y = -log(1 + exp(-x)), the logarithm of Sigmoid, where that rounds to 0 and 1, too"""

    kind = "log_sigmoid"


@register
class Exp(Elementwise):
    """y = exp(x): of what must be above 0, as a rate or a deviation whose logarithm a layer gives."""

    kind = "exp"


@register
class Abs(Elementwise):
    """y = |x|, whose gradient at 0 is 0, as PyTorch has it"""

    kind = "abs"


@register
class Square(Elementwise):
    """y = x^2"""

    kind = "square"


@register
class Rescaling(Elementwise):
    """y = scale x + offset, of two numbers that are not trained (Keras has it by this name): Rescaling(-1) is -x, and
    Rescaling(1 / T) in front of a softmax is a temperature T.

        >>> from tinydl import Model, nn
        >>> Model(nn.Rescaling(0.5, 1)).predict([[2.0, 4.0]]).tolist()
        [[2.0, 3.0]]
    """

    kind = "rescaling"

    @_hints.arguments
    def __init__(self, scale: float, offset: float = 0.0) -> None:
        if not abs(scale) < float("inf") or not abs(offset) < float("inf"):
            raise ValueError(f"Rescaling(scale={scale}, offset={offset}): finite numbers")
        self.scale, self.offset = self.alpha, self.beta = float(scale), float(offset)

    def config(self) -> dict[str, Any]:
        return {"scale": self.scale, "offset": self.offset}


class LastAxis(Layer):
    """y = f(x) along the last axis; the gradient needs y alone."""

    kernel: ClassVar[str]

    @_hints.arguments
    def __init__(self) -> None:
        pass        # so that the error for an argument of another library's says what to do

    def keeps_shape(self) -> bool:
        return True

    def output_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not shape:
            raise ValueError(f"{self!r} needs at least one axis in a sample")
        return shape

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        y = b.value(self.output_shape(x.shape), needs_grad=x.needs_grad)
        C = x.shape[-1]
        R = Rows(x.size // C)
        b.emit(self.kernel, x=x, out=y, R=R, C=C)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(x.shape)
            b.emit(self.kernel + "_backward", dy=dy, y=y, out=dx, R=R, C=C)
            return dx
        return y, backward


@register
class Softmax(LastAxis):
    """y = exp(x) / sum(exp(x)) along the last axis. As a model's end, leave it out: SoftmaxCrossEntropy has it inside."""

    kernel = "softmax"


@register
class LogSoftmax(LastAxis):
    """y = x - log(sum(exp(x))) along the last axis"""

    kernel = "log_softmax"
