"""Prints a digest of the parameters after small trainings: nets of every family, both dtypes, two optimizers, 1 and 2 threads.

`python tests/tools/hashes.py > one.txt` on two machines, or before and after a change: `diff` says whether the bits are the same.
Data and initial parameters are made without any transcendental function of the system's, whose last bits differ.
"""
import hashlib

import numpy as np

from tinydl import Model, Trainer, data, losses, nn, optim

random = np.random.default_rng(0)


def numbers(*shape):
    """Bytes, scaled: the same on every machine."""
    return np.frombuffer(random.bytes(int(np.prod(shape))), np.uint8).reshape(shape) / 255.0


ROWS = 64
TABLE, IMAGES, SERIES = numbers(ROWS, 10), numbers(ROWS, 3, 10, 10), numbers(ROWS, 12, 6)
CLASSES = np.frombuffer(random.bytes(ROWS), np.uint8) % 3

NETS = {
    "dense": (TABLE, lambda: [nn.Linear(10, 17), nn.LayerNorm(17), nn.GELU(), nn.Dropout(0.2), nn.Linear(17, 3)]),
    "activations": (TABLE, lambda: [nn.Linear(10, 17), nn.SELU(), nn.Linear(17, 9), nn.BatchNorm1d(9), nn.Mish(),
                                    nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3)]),
    "images": (IMAGES, lambda: [nn.Conv2d(3, 9, 3, padding=1), nn.BatchNorm2d(9), nn.ReLU(), nn.MaxPool2d(2),
                                nn.Conv2d(9, 9, 3, groups=9, padding=1), nn.GroupNorm(3, 9), nn.SiLU(), nn.GlobalAvgPool(),
                                nn.Linear(9, 3)]),
    "lstm": (SERIES, lambda: [nn.LSTM(6, 13, num_layers=2), nn.LastStep(), nn.Linear(13, 3)]),
    "gru": (SERIES, lambda: [nn.GRU(6, 13, bidirectional=True), nn.LastStep(), nn.Linear(26, 3)]),
    "attention": (SERIES, lambda: [nn.Linear(6, 16), nn.TransformerEncoderLayer(16, 4, 24), nn.Mean(axis=0), nn.Linear(16, 3)]),
}
OPTIMIZERS = {"adam": lambda: optim.Adam(1e-2), "sgd": lambda: optim.SGD(0.1, 0.9)}

for net, (x, layers) in NETS.items():
    for dtype in ("float32", "float64"):
        for optimizer, made in OPTIMIZERS.items():
            for threads in (1, 2):
                model = Model(nn.Sequential(*layers()), dtype=dtype, seed=0)
                with Trainer(2, seed=0, thread_count=threads, batches_per_update=2) as trainer:
                    trainer.init(data.ArrayDataset(x.astype(dtype), CLASSES, 16), model, losses.SoftmaxCrossEntropy(), made())
                    trainer.train()
                print(net, dtype, optimizer, threads, hashlib.sha256(model.params.tobytes()).hexdigest()[:16], flush=True)
