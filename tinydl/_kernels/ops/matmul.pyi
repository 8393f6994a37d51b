from typing import Literal

from tinydl._kernels.ops.door import Floats

Activation = Literal["relu", "leaky_relu", "elu", "sigmoid", "tanh", "gelu", "gelu_tanh", "silu"]

def matmul(a: Floats, b: Floats, out: Floats, *, trans_a: bool = False, trans_b: bool = False,
           accumulate: bool = False, bias: Floats | None = None, activation: Activation | None = None,
           alpha: float = 0.01) -> Floats: ...
