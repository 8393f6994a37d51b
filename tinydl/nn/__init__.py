"""Layers. A model is `tinydl.Model(nn.Sequential(...))`, or a graph: `tinydl.Model(inputs=..., outputs=...)`.

    weights         Linear, Embedding, EmbeddingBag, Scale; TiedLinear shares the weight of a Linear or Embedding
    ensembles       LinearEnsemble, LinearBatchEnsemble: a Linear for each of k members that share their batches
    numbers         PeriodicEmbedding, PiecewiseLinearEmbedding: of a table's columns
    images          Conv2d, Conv1d, ConvTranspose2d, ConvTranspose1d; MaxPool2d, MaxPool1d, AvgPool2d, AvgPool1d,
                    AdaptiveAvgPool2d, AdaptiveAvgPool1d, GlobalAvgPool, GlobalMaxPool; Upsample, PixelShuffle, ZeroPad2d:
                    samples (C, H, W), or (C, L)
    sequences       LSTM, GRU, RNN; MultiheadAttention, DotProductAttention, TransformerEncoderLayer, TransformerDecoderLayer,
                    PositionalEncoding, LearnedTokens; LastStep, MeanSteps, BlankSteps: of sequences of unequal
                    lengths; CRF: scores of neighbouring tags
    activations     ReLU, ReLU6, LeakyReLU, ELU, SELU, GELU, SiLU, GLU, Softplus, Softsign, Mish, Hardswish, PReLU, Sigmoid,
                    LogSigmoid, Tanh, Hardtanh, Hardsigmoid, Softmax, LogSoftmax; functions Exp, Abs, Square, Rescaling
    normalisation   LayerNorm, RMSNorm, UnitNormalization, BatchNorm1d; of images BatchNorm2d, GroupNorm, InstanceNorm2d,
                    InstanceNorm1d
    regularisation  Dropout, Dropout2d, Dropout1d, GaussianNoise; GaussianSample of means and variances
    merging         Add, Subtract, Multiply, Concat, Dot, CosineSimilarity: called on a list of values
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
    Abs,
    Exp,
    Hardsigmoid,
    Hardswish,
    Hardtanh,
    LeakyReLU,
    LogSigmoid,
    LogSoftmax,
    Mish,
    ReLU,
    ReLU6,
    Rescaling,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Softsign,
    Square,
    Tanh,
)
from tinydl.nn.attention import MultiheadAttention
from tinydl.nn.columns import PReLU, Scale
from tinydl.nn.containers import Residual, Sequential
from tinydl.nn.conv import Conv1d, Conv2d, ConvTranspose1d, ConvTranspose2d
from tinydl.nn.crf import CRF
from tinydl.nn.dot_product import DotProductAttention
from tinydl.nn.dropout import Dropout, Dropout1d, Dropout2d
from tinydl.nn.embedding import Embedding, EmbeddingBag
from tinydl.nn.ensembles import LinearBatchEnsemble, LinearEnsemble
from tinydl.nn.gated import GLU
from tinydl.nn.graph import Graph, Input
from tinydl.nn.image_norm import BatchNorm2d, GroupNorm, InstanceNorm1d, InstanceNorm2d, RMSNorm
from tinydl.nn.layer import Layer, Parameter, Statistic, register
from tinydl.nn.linear import Linear, TiedLinear
from tinydl.nn.merge import Add, Concat, Dot, Multiply, Subtract
from tinydl.nn.noise import GaussianNoise, GaussianSample
from tinydl.nn.norm import BatchNorm1d, LayerNorm
from tinydl.nn.periodic import PeriodicEmbedding
from tinydl.nn.piecewise import PiecewiseLinearEmbedding
from tinydl.nn.pool import (
    AdaptiveAvgPool1d,
    AdaptiveAvgPool2d,
    AvgPool1d,
    AvgPool2d,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool1d,
    MaxPool2d,
)
from tinydl.nn.positions import PositionalEncoding
from tinydl.nn.python_layer import PythonLayer
from tinydl.nn.recurrent import GRU, LSTM, RNN
from tinydl.nn.reduce import Max, Mean, Sum
from tinydl.nn.resize import PixelShuffle, Upsample, ZeroPad2d
from tinydl.nn.shape import Flatten, Identity, Permute, Reshape, Slice
from tinydl.nn.similarity import CosineSimilarity, UnitNormalization
from tinydl.nn.steps import BlankSteps, LastStep, MeanSteps
from tinydl.nn.tokens import LearnedTokens
from tinydl.nn.transformer import TransformerDecoderLayer, TransformerEncoderLayer

__all__ = ["CRF", "ELU", "GELU", "GLU", "GRU", "LSTM", "RNN", "SELU", "Abs", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "Add",
           "AvgPool1d", "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "BlankSteps", "Concat", "Conv1d", "Conv2d", "ConvTranspose1d",
           "ConvTranspose2d", "CosineSimilarity", "Dot", "DotProductAttention", "Dropout", "Dropout1d", "Dropout2d", "Embedding",
           "EmbeddingBag", "Exp", "Flatten", "GaussianNoise", "GaussianSample", "GlobalAvgPool", "GlobalMaxPool", "Graph",
           "GroupNorm", "Hardsigmoid", "Hardswish", "Hardtanh", "Identity", "Input", "InstanceNorm1d", "InstanceNorm2d",
           "LastStep", "Layer", "LayerNorm", "LeakyReLU", "LearnedTokens", "Linear", "LinearBatchEnsemble", "LinearEnsemble",
           "LogSigmoid", "LogSoftmax", "Max", "MaxPool1d", "MaxPool2d", "Mean", "MeanSteps", "Mish", "MultiheadAttention",
           "Multiply", "PReLU", "Parameter", "PeriodicEmbedding", "Permute", "PiecewiseLinearEmbedding", "PixelShuffle",
           "PositionalEncoding", "PythonLayer", "RMSNorm", "ReLU", "ReLU6", "Rescaling", "Reshape", "Residual", "Scale",
           "Sequential", "SiLU", "Sigmoid", "Slice", "Softmax", "Softplus", "Softsign", "Square", "Statistic", "Subtract", "Sum",
           "Tanh", "TiedLinear", "TransformerDecoderLayer", "TransformerEncoderLayer", "UnitNormalization", "Upsample",
           "ZeroPad2d", "initializers", "register"]

if not TYPE_CHECKING:       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__)
