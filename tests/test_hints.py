"""What newcomers type, and what they are told: a row each. The hints name things that are there, and nothing else changes."""
import copy
import importlib
import inspect
import pickle
import pydoc
import re

import numpy as np
import pytest

import tinydl
from tinydl import (
    AccuracyEvaluator,
    History,
    Model,
    Monitor,
    Trainer,
    TrainingError,
    _hints,
    callbacks,
    data,
    datasets,
    losses,
    nn,
    optim,
)
from tinydl.monitor import EpochRecord
from tinydl.parallel.strategies import Local

NAN, INF = float("nan"), float("inf")
X, Y = np.eye(6, 4, dtype=np.float32), np.arange(6) % 3


def net():
    return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def image():
    return Model(nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 2)), seed=0)


def lengths_too():
    x, lengths = nn.Input((4, 3), name="x"), nn.Input((), "int64", name="lengths")
    return Model(inputs=[x, lengths], outputs=nn.MeanSteps()([nn.GRU(3, 2)([x, lengths]), lengths]), seed=0)


class Tensor:
    """What a tensor of PyTorch is known by."""

    shape = (4, 5)

    def detach(self):
        return self


def of_torch(name):
    return type(name, (), {"__module__": "torch.nn.modules"})()


def occasion(name):
    return type("Mine", (callbacks.Callback,), {name: lambda self, *args: None})()


class Half(losses.PythonLoss):
    """The half of a loss: no gradient."""

    def forward(self, outputs, targets):
        return float(np.mean((outputs - targets) ** 2))


class Each(losses.PythonLoss):
    """The losses of samples, which nobody has averaged."""

    def forward(self, outputs, targets):
        return ((outputs - targets) ** 2).mean(1), outputs - targets


def trained(loss=None, y=Y, **options):
    t = Trainer(1, **options)
    t.init(data.ArrayDataset(X, y, 2).split(0.5, 0.5, 0), Model(net()), loss or losses.SoftmaxCrossEntropy(), optim.Adam())
    t.train()
    return t


def init(dataset=None, model=None, loss=None, optimizer=None):
    Trainer(1).init(dataset or data.ArrayDataset(X, Y), model or Model(net()), loss or losses.SoftmaxCrossEntropy(),
                    optimizer or optim.Adam())


GUESSES = [
    (lambda: losses.CrossEntropyLoss(), AttributeError, "use losses.SoftmaxCrossEntropy() on scores"),
    (lambda: nn.CrossEntropyLoss(), AttributeError, "tinydl.nn has no CrossEntropyLoss: use losses.Softmax"),
    (lambda: nn.MSELoss(), AttributeError, "use losses.MeanSquaredError()"),
    (lambda: losses.L1Loss(), AttributeError, "use losses.MeanAbsoluteError()"),
    (lambda: losses.BCEWithLogitsLoss(), AttributeError, "use losses.SigmoidCrossEntropy() on scores"),
    (lambda: losses.HuberLoss(), AttributeError, "use losses.Huber(delta)"),
    (lambda: nn.Dense(3), AttributeError, "use nn.Linear(in_features, out_features)"),
    (lambda: nn.Conv2D(2, 3), AttributeError, "use nn.Conv2d(in_channels, out_channels, kernel_size)"),
    (lambda: nn.Conv3d(1, 2, 3), AttributeError, "as an nn.PythonLayer"),
    (lambda: nn.MaxPool3d(), AttributeError, "as an nn.PythonLayer"),
    (lambda: nn.ModuleList([]), AttributeError, "nn.Sequential and nn.Residual put layers together"),
    (lambda: nn.Unflatten(1, (1, 8, 8)), AttributeError, "use nn.Reshape(shape) of one sample"),
    (lambda: losses.CrossEntropy(), AttributeError, "use losses.SoftmaxCrossEntropy() on scores"),
    (lambda: optim.schedules.CosineAnnealingLR(10), AttributeError, "optim.schedules.Cosine"),
    (lambda: tinydl.metrics.accuracy_score(Y, Y), AttributeError, "use metrics.accuracy"),
    (lambda: tinydl.metrics.Accuracy(), AttributeError, "use metrics.accuracy"),
    (lambda: tinydl.metrics.roc_auc_score(Y, Y), AttributeError, "use metrics.roc_auc"),
    (lambda: tinydl.no_grad(), AttributeError, "model.predict(x) always infers"),
    (lambda: tinydl.Tensor(X), AttributeError, "NumPy arrays are taken as they are"),
    (lambda: nn.utils.clip_grad_norm_(X, 1), AttributeError, "optim.Adam(lr, clip_norm=1.0)"),
    (lambda: Model(net()).predict_proba(X), AttributeError, "nn.Softmax()"),
    (lambda: nn.relu(X), AttributeError, "use nn.ReLU"),
    (lambda: nn.Adam(), AttributeError, "tinydl.nn has no Adam: use optim.Adam"),
    (lambda: tinydl.EarlyStopping(), AttributeError, "tinydl has no EarlyStopping: use callbacks.EarlyStopping"),
    (lambda: callbacks.ModelCheckpoint("m"), AttributeError, "use callbacks.Checkpoint(path)"),
    (lambda: callbacks.ReduceLROnPlateau(), AttributeError, "use callbacks.ReduceOnPlateau(figure)"),
    (lambda: data.ItemDataset([(X[0], 1)], batch_size=2), TypeError, "write class Mine(data.ItemDataset) with __getitem__("),
    (lambda: data.StreamDataset([(X[0], 1)]), TypeError, "for a list of samples or another iterable, lambda: samples"),
    (lambda: data.DataLoader(X), AttributeError, "use data.ArrayDataset(x, y, batch_size)"),
    (lambda: optim.Adam(learning_rate=0.1), TypeError, "Adam has no argument 'learning_rate': it is called lr"),
    (lambda: optim.Adam(Model(net()).parameters()), AttributeError, "trainer.init gives them to the optimizer"),
    (lambda: optim.Adam(Model(net())), TypeError, "): must be a number (trainer.init gives"),
    (lambda: optim.SGD().zero_grad(), AttributeError, "SGD has no zero_grad: trainer.train() does"),
    (lambda: optim.Adam(betas=0.9), ValueError, "two numbers, each at least 0 and below 1"),
    (lambda: nn.ReLU(inplace=True), TypeError, "a plan works in place by itself"),
    (lambda: nn.Softmax(dim=1), TypeError, "along the last axis"),
    (lambda: nn.Flatten(start_dim=1), TypeError, "nn.Flatten() makes one axis of all axes of a sample"),
    (lambda: callbacks.LearningRate(0.1), TypeError, "LearningRate(0.1): a function from the epoch's number"),
    (lambda: callbacks.EarlyStopping(monitor="loss"), TypeError, "it is called figure"),
    (lambda: callbacks.EarlyStopping(restore_best_weights=True), TypeError, "it is called restore_best"),
    (lambda: trained(callbacks=[callbacks.EarlyStopping("val_loss")]), ValueError, "it is called 'validation_loss'"),
    (lambda: trained(callbacks=[callbacks.EarlyStopping("accuracy")]), ValueError, "an epoch will have epoch, loss"),
    (lambda: trained().history["val_loss"], KeyError, "no 'val_loss'; it is called 'validation_loss'"),
    (lambda: trained(evaluator=AccuracyEvaluator()).history["acc"], KeyError, "it is called 'accuracy'"),
    (lambda: trained().history.history, AttributeError, 'use history["loss"]'),
    (lambda: Model(nn.Linear(4, 3), nn.ReLU()), TypeError, "Model(nn.Sequential(a, b, ...))"),
    (lambda: Model([nn.Linear(4, 3), nn.ReLU()]), TypeError, "such as nn.Sequential("),
    (lambda: nn.Sequential([nn.ReLU()]), TypeError, "Sequential takes layers, not a list of them: nn.Sequential(*layers)"),
    (lambda: nn.Sequential(nn.Linear(4, 3), nn.ReLU), TypeError, "layer 1 of Sequential must be a Layer, such as"),
    (lambda: nn.Sequential(nn.ReLU), TypeError, "got the class ReLU: write ReLU(...)"),
    (lambda: nn.Residual("relu"), TypeError, "got 'relu': use nn.ReLU"),
    (lambda: nn.Linear(4, 3, activation="relu"), TypeError, "an activation is the next layer"),
    (lambda: Trainer(10, callbacks.EarlyStopping()), TypeError, "got EarlyStopping; callbacks go into callbacks=[...]"),
    (lambda: Trainer(10, AccuracyEvaluator()), TypeError, "an evaluator goes into evaluator=..."),
    (lambda: Trainer(10, None, Monitor()), TypeError, "evaluator must be an Evaluator, such as AccuracyEvaluator()"),
    (lambda: Trainer(10, "loss"), TypeError, "monitor must be a Monitor, such as Monitor(); got 'loss'"),
    (lambda: Trainer(10, callbacks=callbacks.EarlyStopping()), TypeError, "callbacks=[EarlyStopping(...)]"),
    (lambda: Trainer(10, callbacks=[callbacks.EarlyStopping]), TypeError, "callbacks[0] must be a Callback"),
    (lambda: nn.LSTM(3, 5, batch_first=True), TypeError, "LSTM has no argument 'batch_first': the batch is always the first"),
    (lambda: nn.MultiheadAttention(4, 2, batch_first=True), TypeError, "the batch is always the first axis"),
    (lambda: Trainer(epochs=10), TypeError, "Trainer has no argument 'epochs': it is called max_epochs"),
    (lambda: Trainer(Model(net())), TypeError, "a whole number; trainer.init takes dataset, model, loss and"),
    (lambda: Trainer(1).fit(X, Y), AttributeError, "use trainer.init(dataset, model, loss, optimizer), then trainer.train()"),
    (lambda: Trainer(1).model, AttributeError, "call trainer.init(dataset, model, loss, optimizer) first"),
    (lambda: trained().train(10), TypeError, "shuffle=10: True or False"),
    (lambda: trained().train(epochs=10), TypeError, "Trainer.train has no argument 'epochs': Trainer(max_epochs)"),
    (lambda: trained().evaluate((X, Y)), TypeError, "such as data.ArrayDataset(x, y, batch_size); got tuple"),
    (lambda: trained().evaluate(X), TypeError, "got ndarray"),
    (lambda: init(dataset=(X, Y)), TypeError, "such as data.ArrayDataset(x, y, batch_size)"),
    (lambda: init(model=net()), TypeError, "model must be a Model, such as Model(nn.Sequential(...)); got Sequential"),
    (lambda: init(loss=losses.Huber), TypeError, "got the class Huber: write Huber(...)"),
    (lambda: init(optimizer="adam"), TypeError, "an Optimizer, such as optim.Adam(lr=1e-3); got 'adam': use optim.Adam"),
    (lambda: Model(net()).eval(), AttributeError, "model.predict(x) always infers"),
    (lambda: data.ArrayDataset(X, Y, shuffle=True), TypeError, "use trainer.train(shuffle=...)"),
    (lambda: data.ArrayDataset(X, Y).split(0.5, shuffle=False), TypeError, "dataset.subset(range(0, n)) takes samples in order"),
    (lambda: data.SequenceDataset([[1]] * 4, Y[:4]).split(0.5, shuffle=False), TypeError, "dataset.subset(range(0, n))"),
    (lambda: data.WindowDataset(np.arange(9.0), 2).split(0.5, seed=0), TypeError, "parts of a series keep time in order"),
    (lambda: Model(net()).to_onnx("x.onnx", opset_version=18), TypeError, "argument 'opset_version': it is called opset"),
    (lambda: Model(net()).export_onnx("x.onnx"), AttributeError, "use model.to_onnx(path), or model.export_numpy(path)"),
    (lambda: nn.GlobalAvgPool2d(), AttributeError, "use nn.GlobalAvgPool()"),
    (lambda: data.ArrayDataset([X[:2], X[:3]], [0, 1]), ValueError, "x is a list of unequal shapes: sequences of unequal"),
    (lambda: Model(nn.Linear(4, 2)).predict([X[:2], X[:3]]), ValueError, "go into data.SequenceDataset(sequences, y)"),
    (lambda: Model(inputs=(a := [nn.Input((4,)), nn.Input((4,))]), outputs=nn.Add()(a)).predict([X[:2], X[:3], X]), ValueError,
     "go into data.SequenceDataset(sequences, y)"),
    (lambda: losses.BCE(), AttributeError, "use losses.SigmoidCrossEntropy() on scores"),
    (lambda: nn.LSTMCell(2, 3), AttributeError, "model.stepper() goes step by step"),
    (lambda: optim.schedules.OneCycleLR(0.1), AttributeError, "use optim.schedules.OneCycle(max_lr, total_updates), which the"),
    (lambda: optim.schedules.StepLR(10), AttributeError, "use optim.schedules.Step(lr, every, gamma), which the optimizer"),
    (lambda: optim.schedules.Step(0.1, step_size=10), TypeError, "Step has no argument 'step_size': it is called every"),
    (lambda: optim.schedules.Cosine(0.1, T_max=10), TypeError, "it is called total_updates"),
    (lambda: optim.schedules.Cosine(0.1, 10, warmup=5), TypeError, "optim.schedules.Warmup(100, "),
    (lambda: optim.schedules.Warmup(optim.schedules.Constant(0.1), 5), TypeError, "Warmup(then=5): must be a schedule"),
    (lambda: optim.schedules.Warmup(5, 0.1), TypeError, "Warmup(then=0.1): must be a schedule"),
    (lambda: nn.Linear("a", 4), TypeError, "Linear(in_features='a'): a whole number"),
    (lambda: nn.Linear(4.5, 4), TypeError, "Linear(in_features=4.5): a whole number"),
    (lambda: nn.BatchNorm1d(None), TypeError, "BatchNorm1d(num_features=None): a whole number"),
    (lambda: nn.LeakyReLU("a"), TypeError, "LeakyReLU(negative_slope='a'): a number"),
    (lambda: nn.LayerNorm("a"), TypeError, "LayerNorm(normalized_shape='a'): a whole number, or several"),
    (lambda: nn.Dropout("a"), TypeError, "Dropout(p='a'): a number, or a schedule"),
    (lambda: nn.Input((3, "a")), TypeError, "Input(shape=(3, 'a')): a whole number, or several: the sizes of one sample"),
    (lambda: optim.Adam(clip_norm="a"), TypeError, "Adam(clip_norm='a'): a number, or None"),
    (lambda: optim.Adam(groups=3), ValueError, "Adam(groups=3): a list of dicts"),
    (lambda: optim.schedules.MultiStep(0.1, 5), TypeError, "MultiStep(at=5): a list of numbers of updates"),
    (lambda: callbacks.CSVLogger(3), TypeError, "CSVLogger(path=3): a path"),
    (lambda: Model(net()).save(3), TypeError, "Model.save(path=3): a path, or an open binary file"),
    (lambda: Model(nn.Linear(4, 2), seed="a"), TypeError, "Model(seed='a'): a whole number, or None"),
    (lambda: Trainer(1, callbacks=3), TypeError, "callbacks must be a list: got 3"),
    (lambda: callbacks.Checkpoint(every=2), TypeError, "epochs=2 saves every second epoch, and updates=1000 every so many"),
    (lambda: callbacks.Checkpoint("c", every_n_epochs=2), TypeError, "it is called epochs"),
    (lambda: Model(nn.Linear(2, 3), outputs=3), TypeError, "Model(inputs=x, outputs=y); got layer and outputs"),
    (lambda: Model(inputs=nn.Input((3,)), outputs=3), TypeError, "those of nn.Input and of layers called on them; got 3"),
    # arguments of another kind, or beyond what there is: by name, with the value
    (lambda: losses.Quantile("a"), TypeError, "Quantile(levels='a'): a number, or several"),
    (lambda: losses.Quantile([0.1, "a"]), TypeError, "Quantile(levels=[0.1, 'a']): a number, or several"),
    (lambda: losses.SigmoidCrossEntropy(["a"]), TypeError, "SigmoidCrossEntropy(pos_weight=['a']): a number, or several, or N"),
    (lambda: losses.SoftmaxCrossEntropy(["a"]), TypeError, "SoftmaxCrossEntropy(weight=['a']): a number, or several, or None"),
    (lambda: losses.SoftmaxCrossEntropy(ignore_index=INF), TypeError, "SoftmaxCrossEntropy(ignore_index=inf): a whole number,"),
    (lambda: losses.SoftmaxCrossEntropy(ignore_index=2**63), ValueError, "ignore_index=9223372036854775808): a label, within 6"),
    (lambda: losses.Huber(np.ones(3)), TypeError, "Huber(delta=array([1., 1., 1.])): a number"),
    (lambda: losses.Joint([losses.Huber()], 3), ValueError, "Joint(weights=3): a list, as the losses, of 0"),
    (lambda: losses.Joint([losses.Huber()], ["a"]), ValueError, "Joint: the weight of 0 is 'a'; finite, and 0 or more"),
    (lambda: optim.Adam(ema=np.ones(2)), TypeError, "Adam(ema=array([1., 1.])): a number, or None"),
    (lambda: optim.RMSprop(centered="yes"), TypeError, "RMSprop(centered='yes'): True or False"),
    (lambda: optim.schedules.MultiStep(0.1, ["a"]), TypeError, "MultiStep(at=['a']): a list of numbers of updates"),
    (lambda: optim.schedules.MultiStep(0.1, [NAN]), TypeError, "MultiStep(at=[nan]): a list of numbers of updates"),
    (lambda: optim.schedules.Chained(3, [5]), TypeError, "Chained(schedules=3): a list of schedules"),
    (lambda: optim.schedules.Chained([optim.schedules.Constant(1)] * 2, "3"), TypeError, "Chained(at='3'): a list of numbers"),
    (lambda: optim.schedules.from_config({"lr": 1}), ValueError, "no schedule is called None; there are C"),
    (lambda: callbacks.EarlyStopping(3), TypeError, "EarlyStopping(figure=3): a name, as text"),
    (lambda: callbacks.EarlyStopping(min_delta=NAN), ValueError, "EarlyStopping(min_delta=nan): a finite number"),
    (lambda: callbacks.EarlyStopping(highest="max"), TypeError, "EarlyStopping(highest='max'): True or False"),
    (lambda: callbacks.ReduceOnPlateau(min_lr=INF), ValueError, "ReduceOnPlateau(min_lr=inf): a finite number"),
    (lambda: callbacks.TensorBoard("runs", every=0), ValueError, "TensorBoard(every=0): updates between two points, at least"),
    (lambda: callbacks.TensorBoard("runs", hparams=3), TypeError, "TensorBoard(hparams=3): a dict of numbers, texts and"),
    (lambda: data.Normalize("a", "b"), TypeError, "Normalize(mean='a'): a number, or several"),
    (lambda: data.Normalize(0, "b"), TypeError, "Normalize(std='b'): a number, or several"),
    (lambda: data.SequenceDataset(3, [0]), TypeError, "sequences must be a list of arrays (T, C) or (T,); got 3"),
    (lambda: data.StreamDataset(lambda: iter(()), chunks="a"), TypeError, "StreamDataset(chunks='a'): True or False"),
    (lambda: data.ArrayDataset(X, Y).split(0.5, 0.5, seed=-1), ValueError, "split(seed=-1): a whole number of at least 0"),
    (lambda: datasets.spiral("a"), TypeError, "spiral(n_classes='a'): a whole number"),
    (lambda: datasets.sine(noise="a"), TypeError, "sine(noise='a'): a number"),
    (lambda: datasets.cosine(seed=-1), ValueError, "seed=-1: a whole number of at least 0, or None"),
    (lambda: nn.Linear(3, 4, 5), TypeError, "Linear(bias=5): True or False"),
    (lambda: nn.LSTM(3, 4, 2, 0.5), TypeError, "LSTM(bias=0.5): True or False"),
    (lambda: nn.Linear(INF, 4), TypeError, "Linear(in_features=inf): a whole number"),
    (lambda: nn.Conv2d(3, 4, 3, bias="False"), TypeError, "Conv2d(bias='False'): True or False"),
    (lambda: nn.Conv2d(3, 4, 3, stride=2**31), ValueError, "Conv2d(stride=2147483648): a whole number of at least 1, or 2 of"),
    (lambda: nn.Linear(3, 4, init=["normal"]), TypeError, "Linear(init=['normal']): a name, as text"),
    (lambda: nn.LayerNorm(3, eps=-1), ValueError, "LayerNorm(eps=-1): at least 0 and finite"),
    (lambda: nn.BatchNorm1d(3, NAN), ValueError, "BatchNorm1d(eps=nan): at least 0 and finite"),
    (lambda: nn.BatchNorm2d(3, INF), ValueError, "BatchNorm2d(eps=inf): at least 0 and finite"),
    (lambda: nn.GroupNorm(1, 3, NAN), ValueError, "GroupNorm(eps=nan): at least 0 and finite"),
    (lambda: nn.InstanceNorm2d(3, -1), ValueError, "InstanceNorm2d(eps=-1): at least 0 and finite"),
    (lambda: nn.RMSNorm(3, NAN), ValueError, "RMSNorm(eps=nan): at least 0 and finite"),
    (lambda: nn.RMSNorm({}), TypeError, "RMSNorm(normalized_shape={}): a whole number, or several"),
    (lambda: nn.TransformerEncoderLayer(4, 2, layer_norm_eps=NAN), ValueError, "TransformerEncoderLayer(layer_norm_eps=nan):"),
    (lambda: nn.TransformerDecoderLayer(4, 2, activation=[]), TypeError, "TransformerDecoderLayer(activation=[]): a name, as"),
    (lambda: nn.MultiheadAttention(4, 2, rotary_base=NAN), ValueError, "rotary_base=nan): with rotary a head's"),
    (lambda: nn.PReLU(init=NAN), ValueError, "PReLU(init=nan): a finite number"),
    (lambda: nn.Mean("a"), TypeError, "Mean(axis='a'): a whole number, several, or None"),
    (lambda: nn.Sum(2.5), TypeError, "Sum(axis=2.5): a whole number, several, or None"),
    (lambda: nn.Permute(3), TypeError, "Permute(axes=3): whole numbers, such as (1, 0)"),
    (lambda: nn.Permute(""), TypeError, "Permute(axes=''): whole numbers, such as (1, 0)"),
    (lambda: nn.Reshape(""), TypeError, "Reshape(shape=''): a whole number, or several"),
    (lambda: nn.PiecewiseLinearEmbedding([["a", "b"]]), TypeError, "(edges=[['a', 'b']]): a number, or several"),
    (lambda: nn.LinearBatchEnsemble(3, 4, k=2, scaling_init=None), ValueError, "LinearBatchEnsemble(scaling_init=None): 'random"),
    (lambda: nn.Input(3, name=3), TypeError, "Input(name=3): a name, as text, or None"),
    (lambda: nn.Dropout({}), ValueError, "no schedule is called None"),
    (lambda: nn.Dropout(np.ones(2)), TypeError, "Dropout(p=array([1., 1.])): a number, or a schedule"),
    (lambda: Model(net(), dtype=3), ValueError, "Model(dtype=3): float32 or float64"),
    (lambda: Model(net(), dtype="float23"), ValueError, "Model(dtype='float23'): float32 or float64"),
    (lambda: Model(net(), seed=-1), ValueError, "Model(seed=-1): a whole number of at least 0, or None"),
    (lambda: Model(net(), name=3), TypeError, "Model(name=3): a name, as text, or None"),
    (lambda: Model(nn.Linear(10**15, 10**15)), MemoryError, "parameters; weight has the shape (1000000000000000, 1000000000000"),
    (lambda: Trainer(1, seed=-1), ValueError, "Trainer(seed=-1): a whole number from 0 to 2^64 - 1, or None"),
    (lambda: Trainer(1, seed=2**64), ValueError, "Trainer(seed=18446744073709551616): a whole number from 0 to 2^64 - 1, or N"),
    (lambda: Trainer(1, enable_parallel="a"), TypeError, "Trainer(enable_parallel='a'): True, False, or None"),
    (lambda: Trainer(1, pin_threads=[0, 1]), TypeError, "Trainer(pin_threads=[0, 1]): True or False"),
    (lambda: Trainer(1, rank_timeout=-1), ValueError, "Trainer(rank_timeout=-1): seconds, more than 0"),
    (lambda: Trainer(1).configure_parallel_training("a"), TypeError, "configure_parallel_training(enable='a'): True or False"),
    (lambda: Trainer(1).shutdown("a"), TypeError, "Trainer.shutdown(timeout='a'): a number, or None"),
    (lambda: Monitor(3), TypeError, "Monitor(log_file=3): a path, or None"),
    (lambda: AccuracyEvaluator(ignore_index="a"), TypeError, "AccuracyEvaluator(ignore_index='a'): a whole number, or None"),
    (lambda: tinydl.metrics.MetricsEvaluator("f1", ignore_index="a"), TypeError, "MetricsEvaluator(ignore_index='a'): a whole n"),
    (lambda: tinydl.fleet.train(3), TypeError, "trainers must be a list of them; got 3"),
    (lambda: Local(average_state="a"), TypeError, "Local(average_state='a'): True or False"),
    # freezing, as elsewhere
    (lambda: setattr(nn.BatchNorm1d(3), "trainable", False), AttributeError,
     'BatchNorm1d has no trainable: use model.freeze("0.*")'),
    (lambda: setattr(Model(net()), "trainable", False), AttributeError, 'Model has no trainable: use model.freeze("0.*")'),
    (lambda: nn.BatchNorm1d(3).eval(), AttributeError, 'model.freeze("*.running_*") lets batch norms use their running'),
    # names of PyTorch and Keras
    (lambda: nn.FeatureAlphaDropout(0.1), AttributeError, "use nn.Dropout2d(p)"),
    (lambda: nn.AlphaDropout(0.1), AttributeError, "use nn.Dropout(p)"),
    (lambda: nn.ReflectionPad2d(1), AttributeError, 'use padding_mode="reflect" of nn.Conv2d'),
    (lambda: nn.ConstantPad2d(1, 0.0), AttributeError, "use nn.ZeroPad2d(padding)"),
    (lambda: nn.SeparableConv2D(3, 3), AttributeError, "groups=C) is a kernel for each channel"),
    (lambda: nn.LazyConv2d(3, 3), AttributeError, "use nn.Conv2d, which is told the sizes"),
    (lambda: nn.StringLookup(), AttributeError, "from tinydl.tables import TableEncoder"),
    (lambda: optim.ASGD(), AttributeError, "use optim.SGD(lr, ema=0.999)"),
    (lambda: optim.schedules.CyclicLR(), AttributeError, "whose rate(n) is that of update n"),
    (lambda: callbacks.BackupAndRestore("c"), AttributeError, "use callbacks.Checkpoint(path, interrupted=True)"),
    (lambda: losses.MultiMarginLoss(), AttributeError, "as a losses.PythonLoss"),
    (lambda: optim.Adam(1e-3, max_grad_norm=1.0), TypeError, "it is called clip_norm"),
    (lambda: optim.Adam(1e-3, amsgrad=True), TypeError, "there is no such variant"),
    (lambda: losses.SoftmaxCrossEntropy(class_weight=[1, 2]), TypeError, "it is called weight"),
    (lambda: losses.SoftmaxCrossEntropy(reduction="sum"), TypeError, "a loss is the mean over the batch"),
    (lambda: losses.Huber(beta=1.0), TypeError, "it is called delta"),
    (lambda: nn.Concat(dim=1), TypeError, "Concat has no argument 'dim': it is called axis"),
    (lambda: nn.Mean(dim=1), TypeError, "Mean has no argument 'dim': it is called axis"),
    (lambda: Trainer(1, learning_rate=0.1), TypeError, "the optimizer has it: optim.Adam(lr=1e-3)"),
    (lambda: Trainer(1, patience=3), TypeError, "callbacks=[callbacks.EarlyStopping(patience=5)]"),
    (lambda: Trainer(1, callback=[]), TypeError, "it is called callbacks"),
    (lambda: Trainer(1).resume("c"), AttributeError, "use trainer.load_checkpoint(path), then trainer.train()"),
    (lambda: Model(net()).named_parameters(), AttributeError, "model.state_dict() has copies by name"),
    (lambda: Model(net()).copy(), AttributeError, "use copy.deepcopy(model)"),
    (lambda: data.WindowDataset(X, window_size=2), TypeError, "it is called window"),
    (lambda: data.WindowDataset(X, 2, target=1), TypeError, "it is called targets"),
    (lambda: data.ArrayDataset(X, Y, num_workers=2), TypeError, "loads batches in its threads"),
    (lambda: tinydl.TabularClassifier(), AttributeError, "from tinydl.sklearn import TabularClassifier"),
    (lambda: nn.Input((None, 3)), ValueError, "Input((None, 3)): each axis of a sample has a size"),
    (lambda: lengths_too().predict(np.ones((2, 4, 3)), [4, 4]), TypeError, "predict((a, b)), or as a dict"),
    (lambda: image().predict(np.ones((2, 6, 6))), ValueError, "they must be (2, H, W); x of shape (2, 6, 6) fits as one"),
    (lambda: image().predict(np.ones((3, 6, 6, 2))), ValueError, "(2, H, W): x.transpose(0, 3, 1, 2) brings channels to"),
    (lambda: Model(nn.Conv1d(2, 3, 1)).predict(np.ones((3, 6, 2))), ValueError, "(2, L): x.transpose(0, 2, 1) brings channels"),
    (lambda: Model(nn.Conv2d(1, 3, 1)).predict(np.ones((3, 6, 6))), ValueError, "(1, H, W): x[:, None] is one channel"),
    (lambda: nn.Concat()([nn.Input((5, 2)), nn.Input((3,))]), ValueError, "comes to its steps by nn.Add()("),
    (lambda: nn.RepeatVector(5), AttributeError, "nn.LearnedTokens(T, C)"),
    (lambda: image().predict(np.ones((3, 6, 6))), ValueError, "on samples of shape (6, 6): they must be (2, H, W)"),
    (lambda: Model(net()).freeze("0"), ValueError, "no parameter's name matches '0'; those of that layer are '0.*'"),
    (lambda: Model(net()).freeze(nn.ReLU()), TypeError, "names of parameters, as '0.weight' or '0.*'; got ReLU"),
    (lambda: init(optimizer=optim.Adam(groups=[{"params": "2", "lr": 0.1}])), ValueError, "those of that layer are '2.*'"),
    (lambda: Model(net()).load_state_dict("w.safetensors"), TypeError, "must be a dict of arrays by name; got 'w.safetensors'"),
    (lambda: Model(net()).load_state_dict({"0.weight": Tensor()}), TypeError, "tinydl.torch_weights.load(model, state) copies"),
    (lambda: tinydl.torch_weights.load(Model(net()), Model(net())), TypeError, "state is a Model: give its state_dict()"),
    (lambda: init(data.SequenceDataset([[1.0]] * 3, Y[:3]), Model(nn.GRU(1, 3, return_sequences=False))), ValueError,
     "SequenceDataset(..., lengths=False), or let the model take nn.Input((), 'int64', name='lengths')"),
    (lambda: init(data.ArrayDataset(X, np.eye(3)[Y])), ValueError, "(6, 3): np.argmax(y, -1), where they are one-hot"),
    (lambda: init(data.ArrayDataset(X, Y * 1.0)), ValueError, "of shape (6,): y.astype('int64'), where they are whole numbers"),
    (lambda: Trainer(10, evaluator=["f1"]), TypeError, 'by their names into metrics.MetricsEvaluator("accuracy", "f1")'),
    (lambda: Trainer(10, evaluator=tinydl.metrics.f1), TypeError, "got function; figures go by their names into metrics.Metr"),
    (lambda: Trainer(1, callbacks=[occasion("on_epoch_begin")]), TypeError,
     "Mine.on_epoch_begin would never be called; it is called on_epoch_start"),
    (lambda: Trainer(1, callbacks=[occasion("on_done")]), TypeError, "on_done would never be called; occasions are on_init, on_"),
    (lambda: Trainer(1, callbacks=[occasion("on_update")]), TypeError, "on_update would never be called: say every = 1 in the c"),
    (lambda: data.ArrayDataset(X, None), ValueError, "y is None: a dataset has targets"),
    (lambda: data.augment.Mixup(), AttributeError, "use data.augment.MixUp"),
    (lambda: data.augment.ColorJitter(), AttributeError, "tinydl.data.augment has no ColorJitter: it is not there; in NumPy or"),
    (lambda: data.augment.Compose([]), AttributeError, "data.ArrayDataset(x, y, augment=[...])"),
    (lambda: Trainer(1, accumulate_grad_batches=2), TypeError, "it is called batches_per_update"),
    (lambda: Trainer(1, logger=True), TypeError, "callbacks=[callbacks.CSVLogger(path)]"),
    (lambda: Model.load("m", custom_objects={}), TypeError, "it is called custom_layers"),
    (lambda: Model.load("m", custom_layers=[nn.ReLU]), TypeError, "custom_layers is a dict, {'Square': Square}, of names and cl"),
    (lambda: nn.Sequential(of_torch("Linear")), TypeError, "nn.Sequential(nn.Linear(4, 2), nn.ReLU()); got Linear of torch"),
    (lambda: init(dataset=of_torch("DataLoader")), TypeError, "DataLoader of torch; of a loader of batches make data.Stre"),
    (lambda: nn.Input(3) + nn.Input(3), TypeError, "values of a graph go through layers: nn.Add()([a, b])"),
    (lambda: 2 * nn.Input(3), TypeError, "nn.Multiply()([a, b])"),
    (lambda: nn.Input(3)[:2], TypeError, "nn.Slice(axis, start, stop)(a)"),
    (lambda: nn.Concat()(nn.Input(3), nn.Input(2)), TypeError, "Concat(axis=-1) takes several inputs as a list: layer([a, b])"),
    (lambda: nn.MultiheadAttention(4, 2)(*[nn.Input((3, 4))] * 3), TypeError, "as a list: layer([a, b]); got 3 arguments"),
    (lambda: trained(loss=Half(), y=X[:, :3], on_batch_failure="raise"), TrainingError,
     "Half.forward must return (loss, gradient by outputs); got float"),
    (lambda: trained(loss=Each(), y=X[:, :3], on_batch_failure="raise"), TrainingError,
     "Each.forward returned a loss of shape (2,): it is one number, the mean over the batch"),
    (lambda: losses.CTCLoss(), AttributeError, "losses.CTC(blank)"),
    (lambda: nn.CELU(), AttributeError, "nn.Sequential(nn.Rescaling(1 / a), nn.ELU(), nn.Rescaling(a))"),
    (lambda: losses.TripletMarginLoss(), AttributeError, "as the guide of recipes shows"),
    (lambda: nn.Linear(4, 3, dtype="float64"), TypeError, 'the model has it: Model(layer, dtype="float64")'),
    (lambda: nn.Linear(4, 3, kernel_regularizer="l2"), TypeError, "the optimizer has it: weight_decay"),
    (lambda: nn.LSTM(4, units=3), TypeError, "recurrent layers call it hidden_size"),
    (lambda: nn.LSTM(4, 3, return_state=True), TypeError, "model.stepper() keeps states"),
    (lambda: nn.Embedding(4, 3, mask_zero=True), TypeError, "lengths as an input of integers"),
    (lambda: nn.Conv2d(1, 2, 3, strides=2), TypeError, "it is called stride"),
    (lambda: nn.Softmax(axis=-1), TypeError, "along the last axis"),
    (lambda: nn.SpatialDropout2D(0.1), AttributeError, "use nn.Dropout2d(p)"),
    (lambda: nn.UpSampling2D(2), AttributeError, "use nn.Upsample(scale_factor)"),
    (lambda: nn.Normalization(), AttributeError, "normalize=data.Normalize(mean, std)"),
    (lambda: nn.TimeDistributed(nn.Linear(2, 3)), AttributeError, "is of each step by itself"),
    (lambda: nn.Masking(), AttributeError, "use data.SequenceDataset(sequences, y)"),
    (lambda: optim.AdamW(1e-3, fused=True), TypeError, "an update is one native operation as it is"),
    (lambda: callbacks.LambdaCallback(), AttributeError, "write a callbacks.Callback"),
    (lambda: callbacks.TerminateOnNaN(), AttributeError, 'on_batch_failure="raise"'),
    (lambda: Trainer(1, validation_split=0.2), TypeError, "use dataset.split(train, validation, test)"),
    (lambda: Trainer(1, validation_data=X), TypeError, "data.Split(train, validation, test)"),
    (lambda: Model(net()).count_params(), AttributeError, "use model.num_parameters"),
    (lambda: Model(net()).get_layer("0"), AttributeError, "use model.layer"),
    (lambda: Model(net()).train_on_batch(X, Y), AttributeError, "use trainer.feed(dataset)"),
    (lambda: tinydl.metrics.AUC(), AttributeError, "use metrics.MetricsEvaluator("),
    (lambda: tinydl.metrics.MetricsEvaluator(["accuracy"]), TypeError, "names one by one"),
    (lambda: nn.initializers.unit_variance(nn.Linear(4, 3), X), TypeError, "such as Model(nn.Sequential(...)); got Linear"),
    (lambda: init(loss=Half()), ValueError, "(6,): write labels = True in the class, where it takes class labels"),
    (lambda: data.ArrayDataset(X, Y).split(test_size=0.2), TypeError, "ArrayDataset.split has no argument 'test_size': it"),
    # Optax, Flax, fastai, Lightning
    (lambda: optim.chain(optim.clip_by_global_norm(1.0)), AttributeError, "optim.AdamW(lr, clip_norm=1.0, ema=0.999)"),
    (lambda: optim.clip_by_global_norm(1.0), AttributeError, "optim.Adam(lr, clip_norm=1.0)"),
    (lambda: optim.MultiSteps(optim.Adam(), 4), AttributeError, "use Trainer(epochs, batches_per_update=4)"),
    (lambda: optim.warmup_cosine_decay_schedule(0, 1, 2, 3), AttributeError, "Warmup(updates, optim.schedules.Cosine("),
    (lambda: optim.schedules.join_schedules([], []), AttributeError, "use optim.schedules.Chained(schedules, at), which the"),
    (lambda: optim.lamb(1e-3), AttributeError, "there are optim.SGD, Adam, AdamW"),
    (lambda: optim.Adam(1e-3, b1=0.8), TypeError, "use betas=(0.9, 0.999)"),
    (lambda: optim.RMSprop(1e-3, decay=0.9), TypeError, "it is called alpha"),
    (lambda: optim.schedules.Cosine(0.1, decay_steps=9), TypeError, "it is called total_updates"),
    (lambda: losses.softmax_cross_entropy_with_integer_labels, AttributeError, "use losses.SoftmaxCrossEntropy() on scores"),
    (lambda: losses.l2_loss(X, X), AttributeError, "use losses.MeanSquaredError(), which is twice as much"),
    (lambda: nn.Conv(3, 4, (3, 3)), AttributeError, "use nn.Conv2d("),
    (lambda: nn.Embed(3, 4), AttributeError, "use nn.Embedding("),
    (lambda: nn.split(nn.Input(4), 2), AttributeError, "nn.Slice(axis, start, stop) takes a part of a value"),
    (lambda: nn.OptimizedLSTMCell(2, 3), AttributeError, "model.stepper() goes step by step"),
    (lambda: nn.Conv1d(2, 3, 3, causal=True), TypeError, 'Conv1d has no argument \'causal\': use padding="causal"'),
    (lambda: tinydl.Learner(), AttributeError, "use trainer.init(dataset, model, loss, optimizer)"),
    (lambda: tinydl.value_and_grad(net()), AttributeError, "trainer.train() computes the gradients"),
    (lambda: datasets.fashion_mnist("."), AttributeError, "use datasets.mnist(folder)"),
    (lambda: data.ImageFolder("."), AttributeError, "examples/pictures.py reads a folder"),
    (lambda: optim.Adam(lambda n: 1e-3), TypeError, "must be a number or a Schedule, whose rate(n) is of update n; callbacks.Le"),
    (lambda: optim.Adam(1e-3, nesterov=True), TypeError, "use optim.NAdam(lr)"),
    (lambda: optim.AdamW(1e-3, mask=None), TypeError, 'groups=[{"params": "*.bias", "weight_decay": 0.0}]'),
    (lambda: nn.Linear(3, 4, init="he_normal"), ValueError, "(He's are called kaiming, Glorot's xavier)"),
    (lambda: nn.Linear(3, 4, kernel_init="normal"), TypeError, "it is called init"),
    (lambda: nn.Linear(3, 4, rngs=0), TypeError, "use Model(layer, seed=0)"),
    (lambda: nn.Conv2d(3, 4, 3, kernel_dilation=2), TypeError, "it is called dilation"),
    (lambda: Model(net()).apply({}, X), AttributeError, "use model.predict(x)"),
    (lambda: Trainer(1).fit_one_cycle(3), AttributeError, "optim.schedules.OneCycle(1e-3, total_updates)"),
    (lambda: Trainer(1, gradient_clip_val=1.0), TypeError, "optim.Adam(lr, clip_norm=1.0)"),
    (lambda: Trainer(1, accelerator="cpu"), TypeError, "in so many threads: Trainer(epochs, thread_count=2)"),
    (lambda: Trainer(1, max_steps=100), TypeError, "max_epochs = max_steps // dataset.n_batches"),
    # series and pictures
    (lambda: data.WindowDataset(X, input_chunk_length=2), TypeError, "it is called window"),
    (lambda: data.WindowDataset(X, 2, output_chunk_length=2), TypeError, "it is called horizon"),
    (lambda: data.WindowDataset([X[:4], X], 2), ValueError, "several series go one behind the other into one array, and wind"),
    (lambda: data.WindowDataset([1.0, np.nan, 2.0], 1), ValueError, "is nan; all must be finite: put a value in, as ffill() and"),
    (lambda: data.Normalize.of(data.WindowDataset(X, 2)), ValueError, "(series - series[:n].mean(0)) / series[:n].std(0)"),
    (lambda: data.WindowDataset(X, 2).subset(np.ones(4, bool)), ValueError, "np.flatnonzero(mask) turns a mask into numbers"),
    (lambda: data.SequenceDataset([[1.0], [], [2.0, np.inf]], [0, 1, 0]), ValueError, "sequences[2] is [inf] at step 1; all"),
    (lambda: data.ArrayDataset([np.ones((4, 5)), np.ones((5, 4))], [0, 1]), ValueError, "pictures are made equally large first"),
    (lambda: data.ArrayDataset([np.ones((3, 4, 5)), np.ones((3, 6, 5))], [0, 1]), ValueError, "examples/pictures.py does"),
    (lambda: Model(nn.Sequential(nn.Embedding(9, 4), nn.Mean(0))).stepper(), ValueError,
     "takes the last steps anew"),
    (lambda: losses.SoftmaxCrossEntropy(weight="balanced"), TypeError, "with counts = np.bincount(y)"),
    (lambda: losses.SoftmaxCrossEntropy(weight={0: 1, 1: 2}), TypeError, "(weight={0: 1, 1: 2}): numbers in the order of the cl"),
    (lambda: init(data.ArrayDataset(X, np.full((6, 3), 1 / 3))), ValueError, "losses.KLDivergence() on nn.LogSoftmax() takes"),
    (lambda: init(data.ArrayDataset(np.ones((4, 1, 6, 6)), np.ones((4, 6, 6), int)), Model(nn.Conv2d(1, 2, 1))), ValueError,
     "where nn.Permute((1, 2, 0)) brings channels of (C, H, W)"),
    (lambda: AccuracyEvaluator().check_targets(np.array([0, 1, 255]), (2,)), ValueError, "is its ignore_index, as the loss's"),
]


@pytest.mark.parametrize(("guess", "kind", "message"), GUESSES)
def test_a_guess_is_told_what_to_type(guess, kind, message):
    with pytest.raises(kind) as e:
        guess()
    assert message in str(e.value)


def test_kinds_take_what_is_meant_by_them():
    """Flags of NumPy, of JSON and of C, numbers of NumPy, paths; and what has several numbers is no number."""
    class Mine:
        def __init__(self, *some, flag=True, n=1, x=1.0, axes=(), each=0, name=None):
            self.some = some
    Mine.__init__.__annotations__ = {"some": "str", "flag": "bool", "n": "int", "x": "float", "axes": "Shape",
                                     "each": "ArrayLike", "name": "str | None"}
    Mine.__init__ = _hints.arguments(Mine.__init__)
    for name, values in {
            "flag": [True, False, np.True_, np.False_, 0, 1, np.int64(1), None], "n": [np.int32(3), np.array(3)],
            "x": [np.float32(3), np.array([3.0]), 3, True], "axes": [[1, np.int64(0)], np.array([1, 0])],
            "each": [[1, 2.5], np.ones(3)], "name": ["a"]}.items():
        for value in values:
            assert Mine("a", 3, "b", **{name: value}).some == ("a", 3, "b")
    for name, values in {
            "flag": [2, 1.0, "True", []], "n": [3.0, "3"], "x": [np.ones(2), "3"], "axes": [(1.0,), "10", 1],
            "each": ["a", 1j, [[1], [2, 3]]], "name": [3]}.items():
        for value in values:
            with pytest.raises(TypeError, match=re.escape(f"Mine({name}={value!r}): ")):
                Mine("a", 3, "b", **{name: value})


def test_numbers_of_numpy_and_dtypes_are_taken():
    assert nn.Conv2d(np.int64(3), 4, np.int32(5), stride=(np.int8(1), 2)).config()["kernel_size"] == [5, 5]
    for dtype in ("float64", np.float64, np.dtype("float64"), float):
        assert Model(net(), dtype=dtype, seed=np.int64(3)).dtype == np.float64
    assert datasets.spiral(seed=None).n_samples == 300 and optim.schedules.MultiStep(0.1, [5.0, 7])(6) == 0.1 * 0.1
    assert Trainer(1, seed=2**64 - 1).seed == 2**64 - 1


def test_a_batch_size_beyond_all_samples_is_one_batch():
    for many in (100, 2**62, 2**63 - 1, 10**30):
        assert data.ArrayDataset(X, Y, many).order(0, 0)[1].tolist() == [0, 6]
        with Trainer(1, seed=0) as t:
            t.init(data.ArrayDataset(X, Y, many), Model(net()), losses.SoftmaxCrossEntropy(), optim.Adam())
            assert t.train()["updates"] == [1]


@pytest.mark.parametrize(("module", "name", "message"), [
    ("losses", "MSELoss", "MeanSquaredError"), ("nn", "Dense", "Linear"), ("callbacks", "ModelCheckpoint", "Checkpoint(path)")])
def test_an_import_is_told_too(module, name, message):
    with pytest.raises(ImportError, match=re.escape(message)):
        exec(f"from tinydl.{module} import {name}")
    with pytest.raises(ImportError, match="cannot import name 'Nothing'"):
        exec(f"from tinydl.{module} import Nothing")
    exec("from tinydl import cli, testing")         # modules that nobody imported are no such guess


def test_an_epochs_line_says_which_figures_are_validations():
    record = EpochRecord(3, 0.5, 0.25, 10, 5, validation_loss=0.75, figures={"accuracy": 0.9})
    assert record.line() == "epoch 3  loss 0.5000  validation: loss 0.7500, accuracy 0.9000  0.25 s  40 samples/s"
    assert EpochRecord(3, 0.5, 0.25, 10, 5).line() == "epoch 3  loss 0.5000  0.25 s  40 samples/s"


def test_model_is_called_as_it_predicts():
    model = Model(net(), seed=0)
    assert np.array_equal(model(X), model.predict(X))


# ---------------------------------------------------------------------- the hints themselves
PLACES = {"nn": nn, "losses": losses, "optim": optim, "callbacks": callbacks, "data": data, "datasets": datasets,
          "trainer": Trainer, "Model": Model, "model": Model}
TEXTS = [*_hints.NAMES.values(), *(t for hints in _hints.ATTRIBUTES.values() for t in hints.values()),
         *_hints.ARGUMENTS.values(), *_hints.EXAMPLES.values()]


def test_hints_name_what_is_there():
    named = {(place, name) for text in TEXTS for place, name in re.findall(r"\b(\w+)\.(\w+)", text) if place in PLACES}
    assert len(named) > 20
    set_by_init = {("trainer", "optimizer"), ("model", "layer")}
    missing = [f"{place}.{name}" for place, name in named - set_by_init if not hasattr(PLACES[place], name)]
    assert not missing


def test_activations_that_are_made_of_others_are_pytorchs():
    x, given = np.linspace(-3, 3, 13)[None], nn.Input((13,))
    made = {"CELU": nn.Sequential(nn.Rescaling(1 / 0.7), nn.ELU(), nn.Rescaling(0.7))(given),
            "Softmin": nn.Sequential(nn.Rescaling(-1), nn.Softmax())(given),
            "Softshrink": nn.Subtract()([given, nn.Hardtanh(-0.4, 0.4)(given)]),
            "Tanhshrink": nn.Subtract()([given, nn.Tanh()(given)])}
    want = {"CELU": np.maximum(x, 0) + np.minimum(0, 0.7 * np.expm1(x / 0.7)), "Softmin": np.exp(-x) / np.exp(-x).sum(),
            "Softshrink": np.sign(x) * np.maximum(np.abs(x) - 0.4, 0), "Tanhshrink": x - np.tanh(x)}
    for name, y in made.items():
        np.testing.assert_allclose(Model(inputs=given, outputs=y, dtype="float64").predict(x), want[name], atol=1e-15)
        assert name in _hints.NAMES


def test_no_hint_for_what_is_there():
    """A hint whose name has come into being is to be taken out."""
    stale = [f"{place}.{name}" for place in _hints.MODULES for name in _hints.NAMES
             if name in getattr(importlib.import_module(place), "__all__", ())]
    stale += [f"{kind}.{name}" for kind, cls in {"Trainer": Trainer, "Model": Model, "History": History,
              "Optimizer": optim.Optimizer, "Layer": nn.Layer}.items() for name in _hints.ATTRIBUTES[kind] if hasattr(cls, name)]
    assert not stale


def test_figures_and_arguments_are_of_ours():
    taken = {p for f in (optim.Adam, optim.RMSprop, callbacks.EarlyStopping, callbacks.Checkpoint, Trainer, nn.Linear, nn.Dropout,
                         nn.LeakyReLU, data.ArrayDataset.split, losses.Joint, Model.to_onnx, Model.load,
                         losses.Quantile, losses.Huber, losses.SoftmaxCrossEntropy, nn.Concat, optim.schedules.Step,
                         optim.schedules.MultiStep, optim.schedules.Cosine, data.WindowDataset, nn.Conv2d)
             for p in inspect.signature(f).parameters}
    assert set(_hints.RENAMED.values()) <= taken
    assert set(_hints.FIGURES.values()) <= {"loss", "validation_loss", "accuracy"}


# ---------------------------------------------------------------------- what they leave alone
def test_other_names_are_missing_as_ever():
    for place in ("tinydl", "tinydl.nn", "tinydl.losses", "tinydl.optim", "tinydl.callbacks", "tinydl.data", "tinydl.datasets"):
        module = importlib.import_module(place)
        for name in ("__wrapped__", "_repr_html_", "Nothing"):
            assert not hasattr(module, name)
        with pytest.raises(AttributeError, match=rf"^module '{place}' has no attribute 'Nothing'$") as e:
            _ = module.Nothing
        assert (e.value.name, e.value.obj) == ("Nothing", module)       # of these Python makes its proposals
    assert not hasattr(nn, "Dense") and not hasattr(Trainer(1), "fit") and "fit" not in dir(Trainer(1))
    with pytest.raises(AttributeError, match=r"^'Trainer' object has no attribute 'nothing'$"):
        _ = Trainer(1).nothing


def test_an_error_in_a_property_is_its_own():
    class Mine(Trainer):
        @property
        def wrong(self):
            return self.monitor.nothing
    with pytest.raises(AttributeError, match="'Monitor' object has no attribute 'nothing'"):
        _ = Mine(1).wrong


def test_copies_and_signatures():
    for thing in (optim.Adam(), History(), Model(net()), trained()):
        assert type(copy.deepcopy(thing)) is type(pickle.loads(pickle.dumps(thing)))
    assert str(inspect.signature(nn.Dropout)) == "(p: 'float | Schedule' = 0.5) -> 'None'"
    assert [*inspect.signature(Trainer).parameters][:3] == ["max_epochs", "monitor", "evaluator"]

    class Mine(optim.Adam):
        def __init__(self, learning_rate):
            super().__init__(lr=learning_rate)
    assert Mine(learning_rate=0.5).lr == 0.5


@pytest.mark.parametrize("place", ["", ".nn", ".losses", ".optim", ".callbacks", ".parallel", ".testing", ".cli.train"])
def test_help_shows_no_comments(place):
    """pydoc takes the comment above a function for the docstring that it has not. (tinydl.data shows some of the standard
    library's, above what it writes into dataclasses.)"""
    page = pydoc.plain(pydoc.render_doc(importlib.import_module(f"tinydl{place}")))
    assert not [line for line in page.splitlines() if re.match(r"[ |]*#", line)]
    assert "Floors" not in page
