"""Layers. A model is `tinydl.Model(nn.Sequential(...))`, or a graph: `tinydl.Model(inputs=..., outputs=...)`.

    weights         Linear, Embedding, Scale; TiedLinear shares the weight of a Linear or Embedding
    numbers         PeriodicEmbedding, PiecewiseLinearEmbedding: of a table's columns
    activations     ReLU, LeakyReLU, ELU, SELU, GELU, SiLU, Softplus, Mish, Hardswish, PReLU, Sigmoid, Tanh, Softmax,
                    LogSoftmax
    normalisation   LayerNorm, BatchNorm1d
    regularisation  Dropout
    merging         Add, Multiply, Concat, Dot: called on a list of values
    shaping         Reshape, Flatten, Permute, Slice, Identity
    reductions      Mean, Sum, Max: over axes of a sample
    structure       Sequential, Residual; Input begins a graph, which Model makes a Graph of
    your own        PythonLayer, in NumPy alone; or Layer, which emits operations

Axes are those of one sample, from 0: the axis of the batch is not counted.
"""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.activations import (
    ELU,
    GELU,
    SELU,
    Hardswish,
    LeakyReLU,
    LogSoftmax,
    Mish,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from tinydl.nn.columns import PReLU, Scale
from tinydl.nn.containers import Residual, Sequential
from tinydl.nn.dropout import Dropout
from tinydl.nn.embedding import Embedding
from tinydl.nn.graph import Graph, Input
from tinydl.nn.layer import Layer, Parameter, Statistic, register
from tinydl.nn.linear import Linear, TiedLinear
from tinydl.nn.merge import Add, Concat, Dot, Multiply
from tinydl.nn.norm import BatchNorm1d, LayerNorm
from tinydl.nn.periodic import PeriodicEmbedding
from tinydl.nn.piecewise import PiecewiseLinearEmbedding
from tinydl.nn.python_layer import PythonLayer
from tinydl.nn.reduce import Max, Mean, Sum
from tinydl.nn.shape import Flatten, Identity, Permute, Reshape, Slice

__all__ = ["ELU", "GELU", "SELU", "Add", "BatchNorm1d", "Concat", "Dot", "Dropout", "Embedding", "Flatten", "Graph", "Hardswish",
           "Identity", "Input", "Layer", "LayerNorm", "LeakyReLU", "Linear", "LogSoftmax", "Max", "Mean", "Mish", "Multiply",
           "PReLU", "Parameter", "PeriodicEmbedding", "Permute", "PiecewiseLinearEmbedding", "PythonLayer", "ReLU", "Reshape",
           "Residual", "Scale", "Sequential", "SiLU", "Sigmoid", "Slice", "Softmax", "Softplus", "Statistic", "Sum", "Tanh",
           "TiedLinear", "initializers", "register"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
