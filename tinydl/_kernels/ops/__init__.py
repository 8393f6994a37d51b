"""The kernels' doors: arrays in, checked; the C body runs without the GIL; the array given as output comes back.

    door.pyx            Door: the checks, and what they say
    matmul.pyx ...      one file for each family of kernels, named like its header in csrc/

A new kernel is a function in its family's file, its types in the .pyi beside it, and its name here.
Every door checks dtype (float32 or float64, one for all), shape, C order, writability and overlap, and says
what it saw. "in place": the output may be exactly that input; otherwise outputs overlap nothing.
Letters in docstrings: R rows, C columns; `:=` overwrites, `+=` adds.
"""
from tinydl._kernels.ops.activations import (
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    tanh,
    tanh_backward,
)
from tinydl._kernels.ops.dropout import dropout
from tinydl._kernels.ops.gather import gather_rows
from tinydl._kernels.ops.losses import (
    huber,
    mean_absolute_error,
    mean_squared_error,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from tinydl._kernels.ops.matmul import matmul
from tinydl._kernels.ops.norm import batch_norm, batch_norm_backward, batch_norm_inference, layer_norm, layer_norm_backward
from tinydl._kernels.ops.softmax import log_softmax, log_softmax_backward, softmax, softmax_backward
from tinydl._kernels.ops.updates import adam, adamw, rmsprop, sgd
from tinydl._kernels.ops.vector import accumulate, add, all_finite, column_sum, divide, scale, squared_norm, weighted_mean

__all__ = [
    "accumulate", "adam", "adamw", "add", "all_finite", "batch_norm", "batch_norm_backward", "batch_norm_inference",
    "column_sum", "divide", "dropout", "elu", "elu_backward", "gather_rows", "gelu", "gelu_backward", "huber",
    "layer_norm", "layer_norm_backward", "leaky_relu", "leaky_relu_backward", "log_softmax", "log_softmax_backward",
    "matmul", "mean_absolute_error", "mean_squared_error", "relu", "relu_backward", "rmsprop", "scale", "sgd",
    "sigmoid", "sigmoid_backward", "sigmoid_cross_entropy", "silu", "silu_backward", "softmax", "softmax_backward",
    "softmax_cross_entropy", "squared_norm", "tanh", "tanh_backward", "weighted_mean",
]
