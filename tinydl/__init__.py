"""tinydl: train small and medium neural networks on CPUs, in one process, with threads that really run in parallel.

    from tinydl import Model, Trainer, datasets, losses, nn, optim

    data = datasets.digits(batch_size=32).split(0.8, 0.0, 0.2, seed=0)
    model = Model(nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10)), seed=0)
    with Trainer(20, enable_parallel=True, seed=0) as trainer:
        trainer.init(data, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=1e-3))
        trainer.train()
        print(trainer.evaluate())
"""
# Floors (a module imports only from lower ones or its own, never in a circle; imports of types alone count, too): _kernels,
# _hints, log; plan; nn, losses, optim, data, datasets, tables, formats, serialization, onnx, numpy_export, history, plotting;
# model, stepper, sequence_outputs, metrics, monitor; parallel; training (what callbacks see of a trainer), callbacks, progress,
# checkpoint, checks, notify, together, epochs, trainer, fleet, tabular; testing, benchmarks, sklearn, weights, torch_weights,
# keras_weights, cli.
from typing import TYPE_CHECKING

from tinydl import _hints, callbacks, data, datasets, losses, metrics, nn, optim, parallel
from tinydl._version import __version__
from tinydl.metrics import AccuracyEvaluator, Evaluator, JointEvaluator, RegressionEvaluator
from tinydl.model import Model
from tinydl.monitor import History, Monitor
from tinydl.parallel import TrainingError
from tinydl.trainer import Trainer

__all__ = ["AccuracyEvaluator", "Evaluator", "History", "JointEvaluator", "Model", "Monitor", "RegressionEvaluator", "Trainer",
           "TrainingError", "__version__", "callbacks", "data", "datasets", "fleet", "keras_weights", "losses", "metrics",
           "nn", "optim", "parallel", "torch_weights"]

if TYPE_CHECKING:
    from tinydl import fleet, keras_weights, torch_weights
else:                       # a type checker would take every name for one that is there
    __getattr__ = _hints.module(__name__, later=("fleet", "keras_weights", "torch_weights"))
