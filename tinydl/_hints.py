"""Hints in errors: names that people bring from PyTorch, Keras, scikit-learn, Optax, Flax and fastai, and what to write here.

Hints rather than second names: two names for one thing would stay for ever. Names that are nearly right are left to
Python, whose traceback proposes the close one.
"""
from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dis import opmap
from functools import wraps
from importlib import import_module
from inspect import Parameter, signature
from operator import index
from types import FrameType
from typing import Any, ParamSpec, TypeVar

import numpy as np

P = ParamSpec("P")
R = TypeVar("R")

_SOFTMAX = "use losses.SoftmaxCrossEntropy() on scores, with no softmax at the end of the model"
_SIGMOID = "use losses.SigmoidCrossEntropy() on scores, with no sigmoid at the end of the model"
_DISTANCES = ("a distance is made of nn.Subtract(), nn.Square() and nn.Sum(), and losses.MeanAbsoluteError() against zeros is "
              "the mean of what a model makes of it, as the guide of recipes shows")
_FOCAL = "use losses.SigmoidFocal(alpha, gamma) on scores"
_LINEAR = "use nn.Linear(in_features, out_features)"
_SCHEDULE = ("give the optimizer a schedule, optim.Adam(optim.schedules.Cosine(1e-3, total_updates)), or use "
             "callbacks.LearningRate(lambda epoch: ...)")
_UPDATES = "which the optimizer is given as lr, and which counts updates"
_ARRAYS = "use data.ArrayDataset(x, y, batch_size)"
_SPLIT = "use dataset.split(train, validation, test)"
_NO_LAYER = "it is not there yet; in NumPy it can be written as an nn.PythonLayer"
_NO_LOSS = "it is not there; in NumPy it can be written as a losses.PythonLoss"
_CELLS = "nn.LSTM, nn.GRU and nn.RNN take whole sequences, and model.stepper() goes step by step"
_CLIPS = "the optimizer does it: optim.Adam(lr, clip_norm=1.0)"
_GROUPS = 'use groups=[{"params": "*.bias", "weight_decay": 0.0}] of the optimizer'
_EMA = "the optimizer averages weights: optim.Adam(lr, ema=0.999)"
_PARTS = "use Trainer(epochs, batches_per_update=4)"
_WINDOWS = "use data.WindowDataset(series, window, horizon)"
_FOLDER = "examples/pictures.py reads a folder with a folder of pictures for each class"
_COMPILED = "a Model is compiled as it is made, and trainer.train() computes the gradients"
_SEEDS = "use Model(layer, seed=0) and Trainer(epochs, seed=0)"
_NO_OPTIMIZER = "there are optim.SGD, Adam, AdamW, NAdam, RAdam, RMSprop, Adagrad and Lion"
_TRAIN = "use trainer.init(dataset, model, loss, optimizer), then trainer.train()"
_MODULE = "write a layer in NumPy as an nn.PythonLayer; nn.Sequential and nn.Residual put layers together"
_INFERS = "a model has no mode, and model.predict(x) always infers"
_NUMPY = "NumPy arrays are taken as they are"
_CPU = "tinydl computes on CPUs alone"
_RATE = "write an optim.schedules.Schedule, whose rate(n) is that of update n"
_CODES = "from tinydl.tables import TableEncoder turns a table's columns into numbers and codes"
_PICTURES = "it is not there; in NumPy or Pillow it goes into the __getitem__ of a data.ItemDataset"
_DEPTHWISE = "nn.Conv2d(C, C, kernel_size, groups=C) is a kernel for each channel, and nn.Conv2d(C, O, 1) mixes them"
_OUTPUTS = "it is not there: compute it of model.predict(x)"
_EXPORTED = "Model.from_onnx(path) reads what others export, and tinydl.torch_weights what PyTorch saves"


def _each(form: str, *parts: object) -> tuple[str, ...]:
    return tuple(form.format(part) for part in parts)


#: asked for in any module of MODULES
NAMES = {
    **dict.fromkeys(("CrossEntropyLoss", "CrossEntropy", "NLLLoss", "SparseCategoricalCrossentropy"), _SOFTMAX),
    "CategoricalCrossentropy": f"{_SOFTMAX}, and on class numbers: y.argmax(1)",
    "BCEWithLogitsLoss": _SIGMOID, "BCELoss": _SIGMOID, "BinaryCrossentropy": _SIGMOID, "BinaryCrossEntropy": _SIGMOID,
    "BCE": _SIGMOID,
    **dict.fromkeys(("MSELoss", "MSE"), "use losses.MeanSquaredError()"),
    **dict.fromkeys(("L1Loss", "MAE"), "use losses.MeanAbsoluteError()"),
    **dict.fromkeys(("HuberLoss", "SmoothL1Loss"), "use losses.Huber(delta)"),
    **dict.fromkeys(("KLDivLoss", "KLDiv", "KLD"), "use losses.KLDivergence() on log-probabilities, as of nn.LogSoftmax()"),
    **dict.fromkeys(("PoissonNLLLoss", "Poisson"), "use losses.PoissonNLL() on logarithms of expected counts"),
    **dict.fromkeys(("Tweedie", "TweedieLoss"), "use losses.TweedieNLL(power) on logarithms of expected amounts"),
    **dict.fromkeys(("Gamma", "GammaNLL", "GammaNLLLoss"), "use losses.TweedieNLL(power=2) on logarithms of expected amounts"),
    **dict.fromkeys(("NegativeBinomial", "NegativeBinomialLoss"), "use losses.NegativeBinomialNLL() on logarithms of means and "
                    "of dispersions"),
    "GaussianNLLLoss": "use losses.GaussianNLL() on means and logarithms of variances",
    **dict.fromkeys(("Pinball", "PinballLoss", "QuantileLoss"), "use losses.Quantile(levels)"),
    **dict.fromkeys(("BPRLoss", "SampledSoftmaxLoss"), "use losses.SoftmaxCrossEntropy() on scores of an item and others that "
                    "are drawn, with the label 0"),
    "Dense": _LINEAR, "LazyLinear": _LINEAR, "Swish": "use nn.SiLU()", "init": "use nn.initializers",
    **dict.fromkeys(("BatchNorm", "BatchNormalization"), "use nn.BatchNorm1d(num_features)"),
    "LayerNormalization": "use nn.LayerNorm(normalized_shape)",
    "Activation": "each is a layer of its own: nn.ReLU(), nn.Tanh(), nn.Sigmoid(), ...",
    **dict.fromkeys(("Module", "ModuleList", "ModuleDict"), _MODULE), "Unflatten": "use nn.Reshape(shape) of one sample",
    "functional": "layers and losses are objects: nn.ReLU(), losses.MeanSquaredError()",
    "Conv1D": "use nn.Conv1d(in_channels, out_channels, kernel_size) on samples (C, L)",
    "Conv2D": "use nn.Conv2d(in_channels, out_channels, kernel_size) on samples (C, H, W)",
    **dict.fromkeys(("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAvgPool1D", "GlobalAvgPool2D", "GlobalAvgPool1d",
                     "GlobalAvgPool2d"),
                    "use nn.GlobalAvgPool()"),
    **dict.fromkeys(("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPool1D", "GlobalMaxPool2D", "GlobalMaxPool1d",
                     "GlobalMaxPool2d"), "use nn.GlobalMaxPool()"),
    **dict.fromkeys((*_each("{}3d", "Conv", "ConvTranspose", "MaxPool", "AvgPool", "BatchNorm", "InstanceNorm", "Dropout",
                            "AdaptiveAvgPool", "AdaptiveMaxPool", "FractionalMaxPool", "MaxUnpool", "LPPool"),
                     *_each("{}3D", "Conv", "Convolution", "MaxPooling", "MaxPool", "AveragePooling", "AvgPool", "ZeroPadding",
                            "UpSampling", "Cropping", "GlobalAveragePooling", "GlobalAvgPool", "GlobalMaxPooling",
                            "GlobalMaxPool", "SpatialDropout", "AdaptiveAveragePooling", "AdaptiveMaxPooling", "ConvLSTM"),
                     *_each("{}1d", "AdaptiveMaxPool", "LPPool", "MaxUnpool"),
                     *_each("{}2d", "AdaptiveMaxPool", "LPPool", "MaxUnpool", "FractionalMaxPool", "CrossMapLRN"),
                     *_each("ConvLSTM{}", "1D", "2D"), *_each("AdaptiveMaxPooling{}", "1D", "2D"),
                     "Conv3DTranspose", "Convolution3DTranspose",
                     "Bilinear", "Fold", "Unfold", "Hardshrink", "RReLU", "Threshold", "LocalResponseNorm", "ChannelShuffle",
                     "PixelUnshuffle", "Maximum", "Minimum", "SpectralNormalization", "GroupQueryAttention",
                     "MelSpectrogram", "STFTSpectrogram", "Wrapper", "RNNBase", "RNNCellBase"), _NO_LAYER),
    "RepeatVector": "use nn.Add()([nn.Reshape((1, C))(x), nn.LearnedTokens(T, C)(x)]), whose T rows differ by what is learned",
    "Average": "use nn.Add(), which is as many times as much",
    "CELU": "CELU(alpha=a) is nn.Sequential(nn.Rescaling(1 / a), nn.ELU(), nn.Rescaling(a))",
    "Softmin": "use nn.Softmax() behind nn.Rescaling(-1)",
    "Softshrink": "Softshrink(b) is nn.Subtract()([x, nn.Hardtanh(-b, b)(x)])",
    "Tanhshrink": "it is nn.Subtract()([x, nn.Tanh()(x)])",
    "FeatureAlphaDropout": "use nn.Dropout2d(p)",
    **dict.fromkeys(("AlphaDropout", "GaussianDropout"), "use nn.Dropout(p)"),
    **{f"{kind}Pad{n}d": f'use padding_mode="{mode}" of nn.Conv2d or nn.Conv1d, whose padding it is' for n in (1, 2, 3)
       for kind, mode in (("Reflection", "reflect"), ("Replication", "replicate"), ("Circular", "circular"))},
    **dict.fromkeys((*_each("ConstantPad{}d", 1, 2, 3), *_each("ZeroPad{}d", 1, 3), *_each("ZeroPadding{}D", 1, 2)),
                    "use nn.ZeroPad2d(padding), or the padding of nn.Conv2d and nn.Conv1d"),
    **dict.fromkeys(_each("Cropping{}D", 1, 2), "use nn.Slice(axis, start, stop)"),
    **{f"{kind}{n}D": f"use nn.{here}Pool{n}d(kernel_size)" for n in (1, 2) for kind, here in (
        ("MaxPooling", "Max"), ("AveragePooling", "Avg"))},
    **{f"AdaptiveAveragePooling{n}D": f"use nn.AdaptiveAvgPool{n}d(output_size)" for n in (1, 2)},
    **{f"Convolution{n}D": f"use nn.Conv{n}d(in_channels, out_channels, kernel_size)" for n in (1, 2)},
    **{f"{kind}{n}DTranspose": f"use nn.ConvTranspose{n}d(in_channels, out_channels, kernel_size) on samples {samples}"
       for kind in ("Conv", "Convolution") for n, samples in ((1, "(C, L)"), (2, "(C, H, W)"))},
    **dict.fromkeys(_each("DepthwiseConv{}D", 1, 2) + _each("SeparableConv{}D", 1, 2) + _each("SeparableConvolution{}D", 1, 2),
                    _DEPTHWISE),
    **{f"Lazy{kind}": f"use nn.{kind}, which is told the sizes" for kind in (
        "Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d", "BatchNorm1d", "BatchNorm2d", "InstanceNorm1d",
        "InstanceNorm2d")},
    **dict.fromkeys(_each("Lazy{}3d", "Conv", "ConvTranspose", "BatchNorm", "InstanceNorm"), _NO_LAYER),
    "SyncBatchNorm": "use nn.BatchNorm2d(num_features)", "GroupNormalization": "use nn.GroupNorm(num_groups, num_channels)",
    "RMSNormalization": "use nn.RMSNorm(normalized_shape)", "Softmax2d": "use nn.Softmax() between two nn.Permute(axes)",
    "UpsamplingNearest2d": "use nn.Upsample(scale_factor)", "Resizing": "use nn.Upsample(size)",
    "UpsamplingBilinear2d": 'use nn.Upsample(scale_factor, mode="bilinear", align_corners=True)',
    **dict.fromkeys(("Attention", "AdditiveAttention"), "use nn.DotProductAttention()"), "EinsumDense": _LINEAR,
    "ReversibleEmbedding": "use nn.TiedLinear(embedding)", "InputLayer": "use nn.Input(shape)",
    "InputSpec": "use nn.Input(shape)", **dict.fromkeys(("Container", "Pipeline"), "use nn.Sequential(a, b, ...)"),
    "ActivityRegularization": "the optimizer has it: weight_decay, for some by groups",
    **dict.fromkeys(("ParameterList", "ParameterDict", "Buffer", "UninitializedParameter", "UninitializedBuffer"), _MODULE),
    "DataParallel": "threads share a model: Trainer(epochs, enable_parallel=True)",
    **dict.fromkeys(("TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"), _EXPORTED),
    **dict.fromkeys(("CategoryEncoding", "Hashing", "HashedCrossing", "IntegerLookup", "StringLookup", "Discretization",
                     "TextVectorization"), _CODES),
    "Lambda": "a layer of your own is an nn.PythonLayer, a rate of your own callbacks.LearningRate(lambda epoch: ...)",
    **dict.fromkeys(("LSTMCell", "GRUCell", "RNNCell", "OptimizedLSTMCell", "SimpleCell", "SimpleRNNCell", "StackedRNNCells"),
                    _CELLS),
    "TransformerDecoder": "put as many nn.TransformerDecoderLayer(d_model, nhead) as you like into a graph of nn.Input",
    **dict.fromkeys(("SpatialDropout1D", "SpatialDropout2D"), "use nn.Dropout2d(p)"),
    "UpSampling1D": "use nn.Upsample(scale_factor=(1, n)) on samples (C, 1, L)", "UpSampling2D": "use nn.Upsample(scale_factor)",
    "Normalization": "data.ArrayDataset(x, y, normalize=data.Normalize(mean, std)) scales each batch",
    "TimeDistributed": "a layer on the last axis, as nn.Linear, is of each step by itself",
    "Masking": "use data.SequenceDataset(sequences, y): layers take the lengths as an input of integers",
    "Concatenate": "use nn.Concat(axis)", "MaxPool": "use nn.MaxPool2d(kernel_size)",
    "MultiHeadAttention": "use nn.MultiheadAttention(embed_dim, num_heads)", "SimpleRNN": "use nn.RNN(input_size, hidden_size)",
    "Bidirectional": "use nn.LSTM(input_size, hidden_size, bidirectional=True)",
    **dict.fromkeys(("TransformerEncoder", "Transformer"), "put as many nn.TransformerEncoderLayer(d_model, nhead) as you like "
                    "into nn.Sequential"),
    **dict.fromkeys(("pad_sequence", "pack_padded_sequence"), "use data.SequenceDataset(sequences, y): it pads; "
                    "layers take the lengths as an input of integers"),
    **dict.fromkeys(("Adadelta", "Adamax", "LBFGS", "Rprop", "Adafactor", "Muon", "Ftrl", "Lamb", "ScheduleFreeAdamW"),
                    _NO_OPTIMIZER),
    "ASGD": "use optim.SGD(lr, ema=0.999), or callbacks.WeightAveraging(start=epoch)", "SparseAdam": "use optim.Adam(lr)",
    "LossScaleOptimizer": "float32 needs no scaled loss: use optim.Adam(lr)", "MultiOptimizer": _GROUPS,
    **dict.fromkeys(("lr_scheduler", "schedulers", "LearningRateScheduler", "LambdaLR", "LRScheduler"), _SCHEDULE),
    **{name: f"use optim.schedules.{here}, {_UPDATES}" for name, here in {
        "StepLR": "Step(lr, every, gamma)", "MultiStepLR": "MultiStep(lr, at, gamma)", "ExponentialLR": "Exponential(lr, gamma)",
        "CosineAnnealingLR": "Cosine(lr, total_updates, end_lr)", "CosineAnnealing": "Cosine(lr, total_updates, end_lr)",
        "CosineDecayRestarts": "CosineRestarts(lr, updates, factor)", "ExponentialDecay": "Exponential(lr, gamma)",
        "PiecewiseConstantDecay": "MultiStep(lr, at, gamma)", "PolynomialDecay": "Polynomial(lr, total_updates, power)",
        "ConstantLR": "Chained(schedules, at) of two of Constant(lr)", "CosineDecay": "Cosine(lr, total_updates, end_lr)",
        "LinearLR": "Linear(lr, total_updates, end_lr)",
        "CosineAnnealingWarmRestarts": "CosineRestarts(lr, updates, factor)", "OneCycleLR": "OneCycle(max_lr, total_updates)",
        "PolynomialLR": "Polynomial(lr, total_updates, power)", "SequentialLR": "Chained(schedules, at)",
        "LinearWarmup": "Warmup(updates, then)", "WarmupCosine": "Warmup(updates, then)"}.items()},
    **dict.fromkeys(("CyclicLR", "MultiplicativeLR", "ChainedScheduler", "InverseTimeDecay", "LearningRateSchedule"), _RATE),
    **dict.fromkeys(("SoftMarginLoss", "MultiLabelSoftMarginLoss"), _SIGMOID),
    **dict.fromkeys(("NLLLoss2d", "LinearCrossEntropyLoss", "AdaptiveLogSoftmaxWithLoss"), _SOFTMAX),
    "MeanSquaredLogarithmicError": "use losses.MeanSquaredError() on np.log1p(y)",
    **dict.fromkeys(("HingeEmbeddingLoss", "MultiMarginLoss", "MultiLabelMarginLoss", "TripletMarginWithDistanceLoss",
                     "SquaredHinge", "CategoricalHinge", "Circle", "Tversky",
                     "MeanAbsolutePercentageError", "CategoricalGeneralizedCrossEntropy"), _NO_LOSS),
    "CRFLoss": "use losses.CRF() behind nn.CRF(num_tags)",
    "CTCLoss": "use losses.CTC(blank) on scores, and data.pad_sequences(labels, steps)",
    "ctc_greedy_decoder": "use metrics.ctc_decode(scores, blank)",
    **dict.fromkeys(("CosineEmbeddingLoss", "MarginRankingLoss", "LogCosh",
                     "CategoricalFocalCrossentropy"), _NO_LOSS),
    **dict.fromkeys(("FocalLoss", "BinaryFocalCrossentropy", "BinaryFocalLoss"), _FOCAL),
    **dict.fromkeys(("TripletMarginLoss", "TripletLoss", "ContrastiveLoss", "PairwiseDistance"), _DISTANCES),
    **dict.fromkeys(("InfoNCE", "NTXentLoss", "Dice", "DiceLoss", "dice_loss"),
                    f"{_NO_LOSS}, as the guide of recipes writes it"),
    **dict.fromkeys(("Sampling", "Sample", "Reparameterize"), "use nn.GaussianSample() of means and logarithms of variances"),
    **dict.fromkeys(("AUC", "AUROC", "F1Score", "Precision", "Recall"),
                    'use metrics.MetricsEvaluator("roc_auc", "f1", "precision", "recall")'),
    **dict.fromkeys(("BinaryAccuracy", "CategoricalAccuracy", "SparseCategoricalAccuracy"), "use metrics.AccuracyEvaluator()"),
    **dict.fromkeys(("TopKCategoricalAccuracy", "SparseTopKCategoricalAccuracy"),
                    "use metrics.top_k_accuracy(y_true, scores, k)"),
    "R2Score": "use metrics.r2(y_true, y_pred)", "RootMeanSquaredError": "use metrics.rmse(y_true, y_pred)",
    **dict.fromkeys(("TruePositives", "TrueNegatives", "FalsePositives", "FalseNegatives"),
                    "use metrics.confusion_matrix(y_true, y_pred)"),
    **dict.fromkeys(("IoU", "BinaryIoU", "MeanIoU", "OneHotIoU", "OneHotMeanIoU", "FBetaScore", "ConcordanceCorrelation",
                     "PearsonCorrelation", "PrecisionAtRecall", "RecallAtPrecision", "SensitivityAtSpecificity",
                     "SpecificityAtSensitivity", "LogCoshError"), _OUTPUTS),
    "Metric": "write a metrics.Evaluator",
    "BackupAndRestore": "use callbacks.Checkpoint(path, interrupted=True), and trainer.load_checkpoint(path) to go on",
    "OrbaxCheckpoint": "use callbacks.Checkpoint(path)", "SwapEMAWeights": _EMA,
    "CallbackList": "give a list: Trainer(epochs, callbacks=[...])", "ProgbarLogger": "use Trainer(epochs, Monitor())",
    "RemoteMonitor": "write a callbacks.Callback with the occasions that it wants, as on_epoch_end",
    "LambdaCallback": "write a callbacks.Callback with the occasions that it wants, as on_epoch_end",
    "TerminateOnNaN": "a batch whose loss is not finite fails: Trainer(epochs, on_batch_failure=\"raise\") ends training with it",
    "ModelCheckpoint": "use callbacks.Checkpoint(path), or callbacks.EarlyStopping(restore_best=True) to keep the best epoch",
    **dict.fromkeys(("SWA", "AveragedModel", "StochasticWeightAveraging", "SWALR", "swa_utils"),
                    "use callbacks.WeightAveraging(start=epoch), or for an average over updates optim.Adam(lr, ema=0.999)"),
    "ReduceLROnPlateau": "use callbacks.ReduceOnPlateau(figure)",
    "Nadam": "use optim.NAdam(lr)",
    "DataLoader": _ARRAYS, "TensorDataset": _ARRAYS, "IterableDataset": "use data.StreamDataset(...)",
    "Compose": "give a list: data.ArrayDataset(x, y, augment=[...])", "RandomErasing": "use data.augment.Cutout(size)",
    "ToTensor": "bytes stay bytes, and normalize=data.Normalize(mean, std) makes floats of them in each batch",
    **dict.fromkeys(("RandomRotation", "RandomResizedCrop", "ColorJitter", "CutMix", "Resize", "RandomAffine", "CenterCrop",
                     "AugMix", "AutoContrast", "ContrastLimitedAdaptiveHistogramEqualization", "Equalization", "RandAugment",
                     "Solarization", *_each("Random{}", "Brightness", "ColorDegeneration", "ColorJitter", "Contrast",
                                            "ElasticTransform", "GaussianBlur", "Grayscale", "Hue", "Invert", "Perspective",
                                            "Posterization", "Saturation", "Sharpness", "Shear", "Translation", "Zoom")),
                    _PICTURES),
    "RandomFlip": "use data.augment.RandomHorizontalFlip() or RandomVerticalFlip()",
    **{kind + name: f'a layer has it: nn.Linear(in_features, out_features, init="{here}_{name.lower()}")'
       for name in ("Normal", "Uniform") for kind, here in (("Glorot", "xavier"), ("He", "kaiming"))},
    "train_test_split": _SPLIT, "random_split": _SPLIT,
    "load_digits": "use datasets.digits(batch_size)",
    "load": "use Model.load(path)", "load_model": "use Model.load(path)", "save": "use model.save(path)",
    "tensor": _NUMPY, "Tensor": _NUMPY, "no_grad": _INFERS, "inference_mode": _INFERS,
    "utils": "the optimizer clips gradients, optim.Adam(lr, clip_norm=1.0); data are cut by dataset.split()",
    **{name: f"import it: from tinydl import {name}" for name in ("testing", "tables", "onnx")},
    "sklearn": "import it: from tinydl.sklearn import TabularClassifier",
    **{name: f"from tinydl.sklearn import {name}" for name in ("TabularClassifier", "TabularRegressor", "MLPClassifier",
                                                               "MLPRegressor", "NeuralClassifier", "NeuralRegressor")},
    "TableEncoder": "from tinydl.tables import TableEncoder",
    "layers": "use nn", "optimizers": "use optim",
    **dict.fromkeys(("manual_seed", "seed_everything", "Rngs"), _SEEDS),
    "set_num_threads": "use Trainer(epochs, enable_parallel=True, thread_count=2)",
    # Optax
    **dict.fromkeys(("lamb", "lars", "yogi", "adabelief", "adan", "lookahead", "Lookahead", "ranger", "lbfgs", "muon", "adamax",
                     "adadelta", "adafactor", "novograd", "rprop"), _NO_OPTIMIZER),
    "clip_by_global_norm": _CLIPS, "GradientClip": _CLIPS, "clip": "the optimizer does it: optim.Adam(lr, clip_value=1.0)",
    "chain": "an optimizer takes all of it: optim.AdamW(lr, clip_norm=1.0, ema=0.999)", "ema": _EMA, "EMA": _EMA,
    **dict.fromkeys(("masked", "multi_transform", "partition"), _GROUPS),
    "add_decayed_weights": "use optim.AdamW(lr, weight_decay)",
    **dict.fromkeys(("MultiSteps", "apply_every", "GradientAccumulation", "GradientAccumulationScheduler"), _PARTS),
    **{name: f"use optim.schedules.{here}, {_UPDATES}" for name, here in {
        "cosine_decay_schedule": "Cosine(lr, total_updates, end_lr)", "linear_schedule": "Linear(lr, total_updates, end_lr)",
        "warmup_cosine_decay_schedule": "Warmup(updates, optim.schedules.Cosine(lr, total_updates))",
        "exponential_decay": "Exponential(lr, gamma), with gamma = decay_rate ** (1 / transition_steps)",
        "piecewise_constant_schedule": "MultiStep(lr, at, gamma)", "constant_schedule": "Constant(lr)",
        "join_schedules": "Chained(schedules, at)", "polynomial_schedule": "Polynomial(lr, total_updates, power)",
        "sgdr_schedule": "CosineRestarts(lr, updates, factor)", "fit_one_cycle": "OneCycle(max_lr, total_updates)",
        "cosine_onecycle_schedule": "OneCycle(max_lr, total_updates)"}.items()},
    **dict.fromkeys(("softmax_cross_entropy", "softmax_cross_entropy_with_integer_labels", "CrossEntropyLossFlat"), _SOFTMAX),
    **dict.fromkeys(("sigmoid_binary_cross_entropy", "BCEWithLogitsLossFlat"), _SIGMOID), "hinge_loss": "use losses.Hinge()",
    **dict.fromkeys(("smooth_labels", "LabelSmoothingCrossEntropy"), "use losses.SoftmaxCrossEntropy(label_smoothing=0.1)"),
    "squared_error": "use losses.MeanSquaredError()", "MSELossFlat": "use losses.MeanSquaredError()",
    "l2_loss": "use losses.MeanSquaredError(), which is twice as much", "huber_loss": "use losses.Huber(delta)",
    "kl_divergence": "use losses.KLDivergence() on log-probabilities, as of nn.LogSoftmax()",
    "ctc_loss": "use losses.CTC(blank) on scores",
    **dict.fromkeys(("cosine_distance", "log_cosh", "SMAPE", "MAPE", "MASE"), _NO_LOSS),
    # Flax and Equinox
    "Conv": "use nn.Conv2d(in_channels, out_channels, kernel_size) on samples (C, H, W), or nn.Conv1d on (C, L)",
    "ConvTranspose": "use nn.ConvTranspose2d(in_channels, out_channels, kernel_size) on samples (C, H, W)",
    "Embed": "use nn.Embedding(num_embeddings, embedding_dim)", "InstanceNorm": "use nn.InstanceNorm2d(num_features)",
    **dict.fromkeys(("MultiHeadDotProductAttention", "SelfAttention"), "use nn.MultiheadAttention(embed_dim, num_heads)"),
    "RotaryPositionalEmbedding": "use nn.MultiheadAttention(embed_dim, num_heads, rotary=True)", "swish": "use nn.SiLU()",
    "leaky_relu": "use nn.LeakyReLU()", "log_softmax": "use nn.LogSoftmax()", "avg_pool": "use nn.AvgPool2d(kernel_size)",
    "max_pool": "use nn.MaxPool2d(kernel_size)", **dict.fromkeys(("jit", "grad", "value_and_grad", "vmap"), _COMPILED),
    **dict.fromkeys(("CausalConv1d", "TCN", "TemporalConvNet"),
                    'use nn.Conv1d(in_channels, out_channels, kernel_size, padding="causal", dilation=2)'),
    **dict.fromkeys(("split", "chunk", "Chunk"), "nn.Slice(axis, start, stop) takes a part of a value, dataset.split() of data"),
    **dict.fromkeys(("Squeeze", "Unsqueeze"), "use nn.Reshape(shape) of one sample"), "Transpose": "use nn.Permute(axes)",
    # fastai, Lightning, and data
    **dict.fromkeys(("Learner", "LightningModule", "TrainState"), _TRAIN),
    "EarlyStoppingCallback": "use callbacks.EarlyStopping()",
    **dict.fromkeys(("DataLoaders", "DataBlock", "LightningDataModule"), _ARRAYS),
    **dict.fromkeys(("ImageDataLoaders", "ImageFolder", "image_dataset_from_directory"), _FOLDER),
    "SaveModelCallback": "use callbacks.Checkpoint(path), or callbacks.EarlyStopping(restore_best=True) to keep the best epoch",
    "LearningRateMonitor": 'the history has it: history["learning_rate"]',
    **dict.fromkeys(("TimeSeriesDataSet", "TimeSeriesDataset", "timeseries_dataset_from_array", "TimeseriesGenerator"), _WINDOWS),
    "Subset": "use dataset.subset(rows)", "WeightedRandomSampler": "weigh rows, data.ArrayDataset(x, y, sample_weight=w), or "
    "classes, losses.SoftmaxCrossEntropy(weight)",
    "fashion_mnist": "use datasets.mnist(folder), whose files have the same layout",
    "cifar100": "it is not there; np.fromfile(path, np.uint8).reshape(-1, 3074) has two labels and the pixels of each picture",
    "error_rate": "it is 1 - metrics.accuracy(y_true, y_pred)",
}
MODULES = ("tinydl", "tinydl.nn", "tinydl.losses", "tinydl.optim", "tinydl.callbacks", "tinydl.data", "tinydl.datasets",
           "tinydl.metrics", "tinydl.parallel", "tinydl.data.augment")

#: of a model, and of a layer
_FROZEN = dict.fromkeys(("trainable", "requires_grad", "requires_grad_"),
                        'use model.freeze("0.*"), by names of model.state_dict()')
_STATISTICS = 'model.freeze("*.running_*") lets batch norms use their running statistics in training, too'
#: asked for of an object, by its class or a base of it
ATTRIBUTES = {
    "Trainer": {**dict.fromkeys(("fit_one_cycle", "fit_flat_cos"), "the optimizer takes the schedule: optim.Adam("
                                "optim.schedules.OneCycle(1e-3, total_updates)); then trainer.train()"),
                "fine_tune": 'use model.freeze("0.*"), and later model.unfreeze() and trainer.init with a smaller rate',
                "get_preds": "use model.predict(dataset)",
                "fit": _TRAIN, "compile": _TRAIN, "predict": "use model.predict(x)", "score": "use trainer.evaluate()",
                "test": "use trainer.evaluate()", "validate": "use trainer.evaluate(dataset)",
                "save": "use model.save(path), or trainer.save_checkpoint(path) to go on training later",
                **dict.fromkeys(("load", "resume", "restore"), "use trainer.load_checkpoint(path), then trainer.train()"),
                **dict.fromkeys(("data", "model", "loss", "optimizer"),
                                "call trainer.init(dataset, model, loss, optimizer) first")},
    "Model": {"init": "Model(layer, seed=0) draws its weights as it is made", "apply": "use model.predict(x)",
              "tabulate": "use model.summary()", "freeze_to": "use model.freeze(patterns)",
              "fit": _TRAIN, "compile": _TRAIN, "evaluate": "use trainer.evaluate(dataset)",
              "train": f"{_TRAIN}; {_INFERS}", "eval": f"{_INFERS}; {_STATISTICS}",
              "predict_proba": "model.predict(x) gives scores; Model(nn.Softmax()).predict(scores) makes probabilities of them",
              **dict.fromkeys(("parameters", "named_parameters"),
                              "trainer.init gives them to the optimizer; model.state_dict() has copies by name"),
              **dict.fromkeys(("copy", "clone"), "use copy.deepcopy(model)"),
              "zero_grad": "trainer.train() does forward, backward and update, batch by batch",
              "add": "layers go into nn.Sequential(a, b, ...) before it is made a Model", "layers": "use model.layer",
              "get_weights": "use model.state_dict()", "set_weights": "use model.load_state_dict(state)",
              **dict.fromkeys(("export", "export_onnx"), "use model.to_onnx(path), or model.export_numpy(path)"),
              "load_weights": "use Model.load(path)", "save_weights": "use model.save(path)",
              **dict.fromkeys(("to", "cuda", "cpu"), _CPU), "count_params": "use model.num_parameters",
              **dict.fromkeys(("modules", "children", "get_layer"), "use model.layer"),
              **_FROZEN, "predict_on_batch": "use model.predict(x)",
              "train_on_batch": "use trainer.feed(dataset), then trainer.train()"},
    "Layer": {**_FROZEN, "eval": _STATISTICS, "train": _STATISTICS, **dict.fromkeys(("to", "cuda", "cpu"), _CPU),
              **dict.fromkeys(("get_weights", "set_weights", "load_state_dict", "state_dict", "load_weights"),
                              "the Model that the layer is put into has it, as model.state_dict()")},
    "History": {"history": 'use history["loss"], history["validation_loss"], ...'},
    "Optimizer": {"zero_grad": "trainer.train() does forward, backward and update, batch by batch",
                  "param_groups": "the rate is optimizer.lr; groups=[{\"params\": \"*.bias\", ...}] for some parameters",
                  "learning_rate": "use optimizer.lr"},
}

#: arguments: what they are called here, where the function has that one
RENAMED = {
    "learning_rate": "lr", "epsilon": "eps", "rho": "alpha", "monitor": "figure", "restore_best_weights": "restore_best",
    "filepath": "path", "every_n_epochs": "epochs", "every_n_train_steps": "updates",
    "custom_objects": "custom_layers", "metric": "figure", "callback": "callbacks",
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_iter"), "max_epochs"),
    **dict.fromkeys(("n_threads", "num_threads", "threads", "n_jobs", "num_workers"), "thread_count"),
    **dict.fromkeys(("accumulate_grad_batches", "gradient_accumulation_steps", "accumulation_steps"), "batches_per_update"),
    "parallel": "enable_parallel", "random_state": "seed", "random_seed": "seed", "metrics": "evaluator",
    "embeddings_initializer": "init",
    "use_bias": "bias", "kernel_initializer": "init", "kernel_init": "init", "kernel_dilation": "dilation",
    **dict.fromkeys(("feature_group_count", "feature_groups"), "groups"),
    "units": "out_features", "rate": "p", "alpha": "negative_slope",
    "test_size": "test", "train_size": "train", "val": "validation", "opset_version": "opset", "loss_weights": "weights",
    "strides": "stride", "filters": "out_channels", "step_size": "every", "milestones": "at", "eta_min": "end_lr",
    **dict.fromkeys(("T_max", "total_steps", "total_iters"), "total_updates"),
    "dim": "axis", "class_weight": "weight", "beta": "delta", "quantiles": "levels", "quantile": "levels",
    **dict.fromkeys(("max_grad_norm", "clipnorm", "gradient_clip_val", "grad_clip"), "clip_norm"), "clipvalue": "clip_value",
    **dict.fromkeys(("window_size", "lookback", "seq_len", "sequence_length", "input_length"), "window"), "target": "targets",
    **dict.fromkeys(("input_chunk_length", "n_lags", "context_length", "max_encoder_length"), "window"),
    **dict.fromkeys(("step", "shift"), "stride"),
    **dict.fromkeys(("forecast_horizon", "output_chunk_length", "prediction_length", "max_prediction_length"), "horizon"),
    "decay": "alpha", "init_value": "lr", "end_value": "end_lr",
    **dict.fromkeys(("decay_steps", "transition_steps"), "total_updates"),
}
#: and what to do instead, for any function, or for the one that is named
ARGUMENTS = {
    **dict.fromkeys(("beta_1", "beta_2", "beta1", "beta2", "b1", "b2"), "use betas=(0.9, 0.999)"),
    **dict.fromkeys(("dataset", "model", "loss", "optimizer"), "trainer.init(dataset, model, loss, optimizer) takes it"),
    "params": "trainer.init gives the optimizer the model's parameters",
    "Trainer.__init__.max_epochs": "trainer.init takes dataset, model, loss and optimizer",
    **dict.fromkeys((f"Checkpoint.__init__.{name}" for name in ("every", "save_freq", "period")),
                    "epochs=2 saves every second epoch, and updates=1000 every so many updates, too"),
    "mode": "use highest=True for a figure that is to rise", "save_best_only": "use callbacks.EarlyStopping(restore_best=True)",
    "Trainer.__init__.gradient_clip_val": _CLIPS, **dict.fromkeys(("rngs", "key"), _SEEDS), "mask": _GROUPS,
    **dict.fromkeys(("accelerator", "devices"), f"{_CPU}, in so many threads: Trainer(epochs, thread_count=2)"),
    "precision": 'the model has it: Model(layer, dtype="float64")', "deterministic": "the same seed gives the same bits as it is",
    "enable_progress_bar": "use Trainer(epochs, Monitor()) for a line an epoch",
    "max_steps": "epochs are counted: max_epochs = max_steps // dataset.n_batches",
    "Adam.__init__.nesterov": "use optim.NAdam(lr)",
    **dict.fromkeys((f"Trainer.__init__.{name}" for name in ("patience", "early_stopping")),
                    "use Trainer(epochs, callbacks=[callbacks.EarlyStopping(patience=5)])"),
    **dict.fromkeys(("ckpt_path", "resume_from_checkpoint"), "use trainer.load_checkpoint(path), then trainer.train()"),
    **dict.fromkeys(("logger", "loggers"), "loggers are callbacks: callbacks=[callbacks.CSVLogger(path)]"),
    **dict.fromkeys((f"Trainer.__init__.{name}" for name in ("lr", "learning_rate")),
                    "the optimizer has it: optim.Adam(lr=1e-3)"),
    **dict.fromkeys(("schedule", "scheduler", "lr_scheduler", "warmup", "warmup_steps"),
                    "it goes in as the rate: optim.Adam(optim.schedules.Warmup(100, optim.schedules.Cosine(1e-3, 5000)))"),
    "amsgrad": "there is no such variant",
    **dict.fromkeys(("fused", "foreach"), "an update is one native operation as it is"),
    "reduction": "a loss is the mean over the batch",
    "num_workers": "Trainer(epochs, thread_count=2) loads batches in its threads",
    "verbose": "use Trainer(epochs, Monitor()) for a line an epoch", "epochs": "Trainer(max_epochs) takes it",
    "batch_size": "the dataset has it: data.ArrayDataset(x, y, batch_size)",
    "shuffle": "use trainer.train(shuffle=...)",
    **dict.fromkeys(("ArrayDataset.split.shuffle", "SequenceDataset.split.shuffle"),
                    "parts are drawn at random, from seed; dataset.subset(range(0, n)) takes samples in order"),
    **dict.fromkeys((f"WindowDataset.split.{name}" for name in ("seed", "shuffle", "stratify")),
                    "parts of a series keep time in order, and are not drawn at random"),
    "validation_split": _SPLIT, "validation_data": "trainer.init takes it: data.Split(train, validation, test)",
    "dtype": "the model has it: Model(layer, dtype=\"float64\")", "units": "recurrent layers call it hidden_size",
    **dict.fromkeys(("kernel_regularizer", "bias_regularizer"), "the optimizer has it: weight_decay, for some by groups"),
    "mask_zero": "layers of sequences take their lengths as an input of integers",
    "return_state": "the output of the last step, return_sequences=False, is the state h; model.stepper() keeps states",
    "device": _CPU, "activation": "an activation is the next layer: nn.ReLU()",
    "inplace": "a plan works in place by itself",
    **dict.fromkeys(("dim", "axis"), "it is along the last axis: nn.Permute brings another one there"),
    "batch_first": "the batch is always the first axis, and samples are (T, C)",
    **dict.fromkeys(("start_dim", "end_dim"), "nn.Flatten() makes one axis of all axes of a sample, as start_dim=1, end_dim=-1 "
                    "do in PyTorch; nn.Reshape(shape) of one sample joins some of them"),
    "Convolution.__init__.causal": 'use padding="causal"',
    "track_running_stats": "they are always kept, and predict uses them",
}

#: arguments of estimators: what they are called in those that have it, the first one of these
ESTIMATORS = {
    **dict.fromkeys(("n_jobs", "thread_count", "num_threads", "threads", "nthread"), ("n_threads",)),
    **dict.fromkeys(("epochs", "n_epochs", "num_epochs", "max_iter", "iterations", "max_epochs"), ("max_epochs", "max_iter")),
    **dict.fromkeys(("n_estimators", "n_ens", "n_models", "members"), ("n_members",)),
    **dict.fromkeys(("seed", "random_seed"), ("random_state",)),
    **dict.fromkeys(("lr", "eta", "learning_rate_init", "learning_rate"), ("learning_rate", "learning_rate_init")),
    **dict.fromkeys(("patience", "early_stopping", "early_stopping_rounds", "early_stopping_additive_patience"),
                    ("n_iter_no_change",)),
    **dict.fromkeys(("hidden_sizes", "hidden", "layers", "hidden_units", "hidden_layers"), ("hidden_layer_sizes",)),
    **dict.fromkeys(("metric", "eval_metric", "val_metric_name"), ("scoring",)),
    **dict.fromkeys(("cat_features", "categorical", "categorical_columns", "cat_col_names"), ("categorical_features",)),
    **dict.fromkeys(("timeout", "max_time", "time_limit_s"), ("time_limit",)),
    **dict.fromkeys(("val_fraction", "validation_split", "val_size"), ("validation_fraction",)),
    **dict.fromkeys(("alpha", "l2", "reg_lambda"), ("weight_decay",)), "verbosity": ("verbose",), "model": ("module",),
    **dict.fromkeys(("p_drop", "dropout_rate"), ("dropout",)), "loss_function": ("loss",), "criterion": ("loss",),
}
#: methods of callbacks
OCCASIONS = {"on_epoch_begin": "on_epoch_start", "on_train_epoch_start": "on_epoch_start", "on_train_begin": "on_train_start",
             "on_fit_start": "on_train_start", "on_fit_end": "on_train_end", "on_train_epoch_end": "on_epoch_trained",
             **dict.fromkeys(("on_validation_end", "on_validation_epoch_end", "on_test_end"), "on_epoch_end"),
             **dict.fromkeys(("on_batch_end", "on_train_batch_end", "on_step_end"), "on_update, every so many updates")}

#: figures of an epoch
FIGURES = {"val_loss": "validation_loss", "valid_loss": "validation_loss", "val_accuracy": "accuracy", "val_acc": "accuracy",
           "acc": "accuracy", "train_loss": "loss", "training_loss": "loss"}

#: one of each kind
EXAMPLES = {"Dataset": "data.ArrayDataset(x, y, batch_size)", "Model": "Model(nn.Sequential(...))",
            "Loss": "losses.SoftmaxCrossEntropy() or losses.MeanSquaredError()", "Optimizer": "optim.Adam(lr=1e-3)",
            "Monitor": "Monitor()", "Evaluator": "AccuracyEvaluator()", "Callback": "callbacks.EarlyStopping()",
            "Normalize": "data.Normalize(mean=0.5, std=0.25)",
            "Layer": "nn.Sequential(nn.Linear(4, 2), nn.ReLU())"}


def module(name: str, later: tuple[str, ...] = ()) -> Callable[[str], Any]:
    """The `__getattr__` of the module `name`. later: modules in it that are imported when they are first asked for."""
    def __getattr__(asked: str) -> Any:
        if asked in later:
            return import_module(f"{name}.{asked}")
        hint = NAMES.get(asked) or _elsewhere(asked.removesuffix("_score"))     # scikit-learn's metrics have it
        if hint is None:
            raise AttributeError(f"module {name!r} has no attribute {asked!r}", name=asked, obj=sys.modules[name])
        message = f"{name} has no {asked}: {hint}"
        if _imports(sys._getframe(1)):
            raise ImportError(message, name=name)
        raise AttributeError(message, name=asked)
    return __getattr__


def _elsewhere(asked: str, kind: type = object) -> str | None:
    """Where that name is, in whichever case, if it is a `kind`."""
    for place in MODULES:
        for name in getattr(sys.modules.get(place), "__all__", ()):
            found = getattr(sys.modules[place], name)
            if name.lower() == asked.lower() and (kind is object or (isinstance(found, type) and issubclass(found, kind))):
                return f"use {place}.{name}".replace(" tinydl.", " ")
    return None


def _imports(frame: FrameType) -> bool:
    """Whether it executes `from module import name`, which replaces the message of an AttributeError by one of its own."""
    return frame.f_code.co_code[frame.f_lasti] == opmap["IMPORT_FROM"]


#: the `__getattr__` of the classes in ATTRIBUTES
def attribute(self: object, asked: str) -> Any:
    """The usual AttributeError, or one that says what to write here, for names of PyTorch, Keras and scikit-learn."""
    for cls in type(self).__mro__:
        if hint := ATTRIBUTES.get(cls.__name__, {}).get(asked):
            raise AttributeError(f"{type(self).__name__} has no {asked}: {hint}", name=asked)
    return object.__getattribute__(self, asked)     # the usual error; or, of a property, the one that led here


#: the `__setattr__` of layers and models
def assign(self: object, name: str, value: Any) -> None:
    """Sets it; the same error for what Keras and PyTorch freeze by, which would do nothing here."""
    if name in _FROZEN:
        attribute(self, name)
    object.__setattr__(self, name, value)


def _whole(value: Any) -> bool:
    try:
        index(value)
    except TypeError:
        return False
    return True


def _whole_numbers(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes, dict)) and all(map(_whole, value))


def _number(value: Any) -> bool:
    return hasattr(value, "__float__") and getattr(value, "size", 1) == 1


def _numbers(value: Any) -> bool:
    try:
        return np.asarray(value).dtype.kind != "c" and np.asarray(value, np.float64) is not None
    except (TypeError, ValueError):
        return False


def _truth(value: Any) -> bool:
    return value is None or isinstance(value, np.bool_) or (_whole(value) and value in (0, 1))


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


#: by an argument's annotation: what is taken, in words, and whether a value is that
KINDS: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    "int": ("a whole number", _whole), "int | None": ("a whole number, or None", lambda value: value is None or _whole(value)),
    "float": ("a number", _number), "float | None": ("a number, or None", lambda value: value is None or _number(value)),
    "bool": ("True or False", _truth), "bool | None": ("True, False, or None", _truth),
    "str": ("a name, as text", _text), "str | None": ("a name, as text, or None", lambda value: value is None or _text(value)),
    # several may be an array
    "int | tuple[int, ...]": ("a whole number, or several", lambda value: _whole(value) or _whole_numbers(value)),
    "int | Shape | None": ("a whole number, several, or None", lambda value: (
        value is None or _whole(value) or _whole_numbers(value))),
    "Shape": ("whole numbers, such as (1, 0)", _whole_numbers),
    "ArrayLike": ("a number, or several", _numbers),
    "ArrayLike | None": ("a number, or several, or None", lambda value: value is None or _numbers(value)),
    "str | Path": ("a path", _path), "str | Path | None": ("a path, or None", lambda value: value is None or _path(value)),
    "str | Path | IO[bytes]": ("a path, or an open binary file", lambda value: _path(value) or hasattr(value, "seek")),
}


def arguments(function: Callable[P, R]) -> Callable[P, R]:
    """The function, whose error for an argument that it does not take says which one is meant, and for a value of another kind
    than the annotation's which argument it is, and what is taken, where its own error names no argument."""
    known = signature(function).parameters
    several = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    kinds = [(len(known) if a.kind is Parameter.KEYWORD_ONLY else i, name, *KINDS[a.annotation])
             for i, (name, a) in enumerate(known.items()) if a.annotation in KINDS and a.kind not in several]

    def check_kinds(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for i, name, wanted, accepts in kinds:
            value = args[i] if i < min(len(args), len(known)) else kwargs.get(name, known[name].default)
            if value is not known[name].default and not accepts(value):
                what = type(args[0]).__name__ if function.__name__ == "__init__" else function.__qualname__
                more = ARGUMENTS.get(f"{function.__qualname__}.{name}")
                raise TypeError(f"{what}({name}={value!r:.60}): {wanted}{f'; {more}' if more else ''}") from None

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs.keys() - known.keys():
            renamed = RENAMED.get(name)
            hint = f"it is called {renamed}" if renamed in known else (
                ARGUMENTS.get(f"{function.__qualname__}.{name}") or ARGUMENTS.get(name))
            if hint:
                what = type(args[0]).__name__ if function.__name__ == "__init__" else function.__qualname__
                raise TypeError(f"{what} has no argument {name!r}: {hint}")
        try:
            made = function(*args, **kwargs)
        except (TypeError, ValueError, AttributeError, OverflowError) as e:
            if not any(f"{name}=" in str(e) for name in known):
                check_kinds(args, kwargs)
            raise
        check_kinds(args, kwargs)
        return made
    return checked


def estimator(function: Callable[P, R]) -> Callable[P, R]:
    """The same for the constructor of an estimator."""
    known = signature(function).parameters

    @wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        for name in kwargs.keys() - known.keys():
            if meant := [there for there in ESTIMATORS.get(name, ()) if there in known]:
                raise TypeError(f"{type(args[0]).__name__} has no argument {name!r}: it is called {meant[0]}")
        return function(*args, **kwargs)
    return checked


def figure(asked: str, there: Iterable[str]) -> str:
    """That there is no figure `asked`, and what there is."""
    names = list(there)
    meant = FIGURES.get(asked)
    return f"no {asked!r}; " + (f"it is called {meant!r}" if meant in names else f"there are {', '.join(names)}")


def pattern(asked: str, names: Iterable[str]) -> str:
    """What else to say of a pattern that matches no parameter's name."""
    names = list(names)
    if any(name.startswith(f"{asked}.") for name in names):
        return f"; those of that layer are {f'{asked}.*'!r}"
    return f"; there are {', '.join(names)}"


def _named(kind: type) -> str:
    """A class, with the library that it is of where that has the same names as ours: Linear of torch."""
    library = kind.__module__.partition(".")[0]
    return f"{kind.__name__} of {library}" if library in ("torch", "keras", "tensorflow", "flax") else kind.__name__


def expected(name: str, kind: type, value: object) -> TypeError:
    """That the argument `name` is no `kind`."""
    bases = {cls.__name__ for cls in type(value).__mro__}
    got = (f"the class {value.__name__}: write {value.__name__}(...)" if isinstance(value, type) else
           f"{value!r}: {hint}" if isinstance(value, str) and (hint := _elsewhere(value, kind)) else
           repr(value) if isinstance(value, (str, int, float)) else _named(type(value)))
    several = kind.__name__ == "Loss" and isinstance(value, (dict, list, tuple))
    more = ("; several losses go into losses.Joint(...)" if several else
            "; callbacks go into callbacks=[...]" if "Callback" in bases else
            "; an evaluator goes into evaluator=..." if "Evaluator" in bases else
            "; of a loader of batches make data.StreamDataset(lambda: iter(loader), chunks=True)" if "DataLoader" in bases else
            '; figures go by their names into metrics.MetricsEvaluator("accuracy", "f1")' if kind.__name__ == "Evaluator" and (
                isinstance(value, (str, list, tuple, dict)) or (callable(value) and not isinstance(value, type))) else "")
    return TypeError(f"{name} must be a{'n' * (kind.__name__[0] in 'AEIO')} {kind.__name__}, such as "
                     f"{EXAMPLES[kind.__name__]}; got {got}{more}")
