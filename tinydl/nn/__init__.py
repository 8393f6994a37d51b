"""Layers. A model is `tinydl.Model(nn.Sequential(...))`; a layer in NumPy alone is a `PythonLayer`."""
from typing import TYPE_CHECKING

from tinydl import _hints
from tinydl.nn import initializers
from tinydl.nn.activations import ELU, GELU, LeakyReLU, LogSoftmax, ReLU, Sigmoid, SiLU, Softmax, Tanh
from tinydl.nn.containers import Residual, Sequential
from tinydl.nn.dropout import Dropout
from tinydl.nn.flatten import Flatten
from tinydl.nn.identity import Identity
from tinydl.nn.layer import Layer, Parameter, Statistic, register
from tinydl.nn.linear import Linear
from tinydl.nn.norm import BatchNorm1d, LayerNorm
from tinydl.nn.python_layer import PythonLayer

__all__ = ["ELU", "GELU", "BatchNorm1d", "Dropout", "Flatten", "Identity", "Layer", "LayerNorm", "LeakyReLU", "Linear",
           "LogSoftmax", "Parameter", "PythonLayer", "ReLU", "Residual", "Sequential", "SiLU", "Sigmoid", "Softmax", "Statistic",
           "Tanh", "initializers", "register"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
