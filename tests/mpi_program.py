"""What tests/test_mpi.py starts on several ranks: `python mpi_program.py CASE PATH`; it prints lines "rank what ...".

    train                   a line of digests of what was trained
    slow                    as train, for minutes, with a checkpoint where it is interrupted; says when it has begun
    raises, hangs, dies     rank 1 does so in update 20
    differs                 rank 1 has other data
    unequal                 rank 1 has other settings
    waits                   how much CPU time rank 0 needs while rank 1 sleeps

K batches an update, or with SYNC K copies of the model, averaged every SYNC updates; FAILS: of how many samples the
batches fail.
"""
import hashlib
import os
import signal
import sys
import time
import traceback

import numpy as np

from tinydl import Model, Trainer, callbacks, data, losses, nn, optim
from tinydl.parallel.strategies import Group, Local

CASE, PATH, K, THREADS = sys.argv[1], sys.argv[2], int(os.environ.get("K", 6)), int(os.environ.get("THREADS", 1))
WHO, SYNC, FAILS = (int(os.environ.get(name, default)) for name, default in (("WHO", 1), ("SYNC", 0), ("FAILS", 0)))
RANKS = None if CASE == "alone" else "mpi"
EPOCHS = {"train": 3, "alone": 3, "first": 2}.get(CASE, 100_000)


class Does(callbacks.Callback):
    every = 5
    begun = None

    def on_update(self, trainer, updates):
        if CASE == "slow":
            time.sleep(0.01)
        if CASE == "first" and trainer.epoch == 1:
            trainer.save_checkpoint(PATH)
            trainer.stop()
        if trainer.optimizer.t < 20 or self.begun is not None:
            return
        self.begun = time.process_time()
        if trainer.rank == 0:
            say("begun", time.time())
        if trainer.rank == WHO:
            say("now", time.time())
            if CASE == "raises":
                raise OSError("no disk")
            if CASE == "hangs":
                os.kill(os.getpid(), signal.SIGSTOP)
            if CASE == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if CASE == "waits":
                time.sleep(1.0)
                trainer.stop()

    def on_train_end(self, trainer):
        if CASE == "waits" and trainer.rank == 0:
            say("cpu", time.process_time() - self.begun)


class Fails(nn.PythonLayer):
    """In the batches of the first samples."""

    def forward(self, x):
        if np.isin(x[:, 0], FAILING).any():
            raise RuntimeError("it fails")
        return x, None

    def backward(self, dy, saved):
        return dy


def one_piece(*error):
    """Python writes a traceback in pieces, between which mpiexec passes on other ranks', so that no name can be counted."""
    sys.stderr.write("".join(traceback.format_exception(*error)))
    sys.stderr.flush()


def say(*what):
    sys.stdout.write(" ".join(map(str, what)) + "\n")
    sys.stdout.flush()


def digest(*arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


sys.excepthook = one_piece
rng = np.random.default_rng(0)
x, y, w = rng.standard_normal((300, 6)).astype(np.float32), rng.integers(0, 3, 300), rng.random(300) + 0.1
FAILING = x[:FAILS, 0].copy()
model = Model(nn.Sequential(*[Fails()][:FAILS], nn.Linear(6, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Dropout(0.3), nn.Linear(9, 3)),
              seed=0)
if CASE == "unequal" and os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK")) == "1":
    K += 1
with Trainer(EPOCHS, seed=5, strategy=Local(SYNC, K) if SYNC else Group(K), thread_count=THREADS, ranks=RANKS,
             rank_timeout=float(os.environ.get("TIMEOUT", 30)),
             callbacks=[Does(), callbacks.Checkpoint(PATH, epochs=10**9, interrupted=CASE != "train")]) as trainer:
    if CASE == "differs" and trainer.rank == 1:
        x[0] += 1
    trainer.init(data.ArrayDataset(x, y, 7, sample_weight=w), model,
                 losses.SoftmaxCrossEntropy(), optim.Adam(0.01, clip_norm=0.5))
    if CASE == "train" and os.path.exists(PATH):
        trainer.load_checkpoint(PATH)
        trainer.max_epochs = 2
    trainer.train()
    assert bool(trainer.history.failures) == bool(FAILS)
    say("digest", digest(model.params, model.statistics, *trainer.optimizer.state.values()), trainer.optimizer.t, trainer.epoch,
        trainer.batches_done)
