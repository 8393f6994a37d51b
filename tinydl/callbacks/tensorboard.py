"""TensorBoard: figures of a training as event files, which TensorBoard shows while it runs."""
from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl import _hints
from tinydl.callbacks.base import Callback
from tinydl.callbacks.loggers import figures_of
from tinydl.log import log
from tinydl.serialization import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.history import EpochRecord
    from tinydl.training import Training

__all__ = ["TensorBoard"]

#: ends the names of the files that this callback writes: it removes no others
SUFFIX = ".tinydl"
#: what is plotted over updates; all else is over epochs
UPDATES = "updates/"


class TensorBoard(Callback):
    """Writes figures into `folder` as event files for TensorBoard (`tensorboard --logdir folder`); of the extra `tensorboard`,
    which brings tensorboardX and not TensorBoard itself.

    Over epochs: loss/train, loss/validation, validation/NAME for each of the evaluator's figures (numbers alone), learning_rate,
    gradient_norm (where the optimizer has a clip_norm), failed_batches and samples_per_second. every: also updates/loss (the mean
    over the updates since the last point), updates/learning_rate and updates/gradient_norm, over the number of updates, each
    `every` updates. histograms: of each parameter, at each epoch's end. graph: the model's operations (needs the extra `onnx`).
    hparams: numbers and texts for the HPARAMS page, beside the optimizer's, the batch size and the seed. TensorBoard keeps
    figures as float32.

    A folder is of one training; give each its own, side by side, and TensorBoard compares them. A training that begins anew
    removes the files of this callback in it, and no others. One that goes on from a checkpoint takes the points out that are
    later than the checkpoint, so no point is there twice: event files can say from which step on earlier points are void, but
    of TensorBoard's readers one ignores that, and another voids all curves, whatever their steps count. Files that cannot be
    written (disk full) are given up with one warning, and training goes on. ImportError, as training begins, names the extra
    that is missing.

        >>> TensorBoard("runs/first", every=100).every
        100
    """

    @_hints.arguments
    def __init__(self, folder: str | Path, every: int | None = None, *, histograms: bool = False, graph: bool = False,
                 hparams: Mapping[str, float | str | bool] | None = None) -> None:
        from pathlib import Path
        self.folder, self.every, self.histograms, self.graph = Path(folder), every, histograms, graph
        if every is not None and every < 1:
            raise ValueError(f"TensorBoard(every={every}): updates between two points, at least 1, or None")
        if not isinstance(hparams, (Mapping, type(None))):
            raise TypeError(f"TensorBoard(hparams={hparams!r:.60}): a dict of numbers, texts and truth values")
        self.hparams = dict(hparams or {})
        for name, value in self.hparams.items():
            if not isinstance(value, (int, float, str, np.number)):
                raise TypeError(f"hparams[{name!r}]={value!r}: a number, a text or a truth value")
        self._writer: Any = None
        #: norms known, and the sums of losses and of weights, as of the last point over updates
        self._before: tuple[int, float, float] = (0, 0.0, 0.0)

    # ------------------------------------------------------------------ occasions
    def on_train_start(self, trainer: Training) -> None:
        if trainer.rank:        # one folder, of the rank that saves
            return
        _package()
        if self.graph:
            from tinydl.onnx.writer import onnx_package
            onnx_package()
        fresh = not (trainer.epoch or trainer.batches_done)
        self._before = (len(trainer.gradient_norms), *trainer.loss_so_far)

        def begin() -> None:
            from tensorboardX.event_file_writer import EventsWriter
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(self.folder.glob(f"*{SUFFIX}")):
                if fresh:
                    path.unlink()
                else:
                    _cut(path, trainer.epoch, trainer.optimizer.t)
            self._writer = EventsWriter(str(self.folder / "events"), f".{os.getpid()}.{os.urandom(3).hex()}{SUFFIX}")
            if fresh:
                self._add(_hparams({**_settings(trainer), **self.hparams}), 0)
                if self.graph:
                    self._write(graph_def=_graph(trainer))
            self._writer.flush()
        self._attempt(begin)

    def on_epoch_start(self, trainer: Training, epoch: int) -> None:
        if not trainer.batches_done:
            self._before = 0, 0.0, 0.0

    def on_update(self, trainer: Training, updates: int) -> None:
        loss_sum, weight = trainer.loss_so_far
        n, loss_before, weight_before = self._before
        step, all_norms = trainer.optimizer.t, trainer.gradient_norms
        norms = all_norms[n:]
        self._before = len(all_norms), loss_sum, weight

        def write() -> None:
            if weight > weight_before:
                self._scalar(UPDATES + "loss", (loss_sum - loss_before) / (weight - weight_before), step)
            self._scalar(UPDATES + "learning_rate", trainer.optimizer.rate(max(0, step - 1)), step)
            if len(norms):
                self._scalar(UPDATES + "gradient_norm", float(np.mean(norms)), step)
        self._attempt(write)

    def on_epoch_end(self, trainer: Training, record: EpochRecord) -> None:
        row = figures_of(record)
        known = {"loss": "loss/train", "validation_loss": "loss/validation", "learning_rate": "learning_rate",
                 "gradient_norm": "gradient_norm", "failed_batches": "failed_batches"}

        def write() -> None:
            for name, tag in known.items():
                if row[name] is not None:
                    self._scalar(tag, row[name], record.epoch)
            for name, value in record.figures.items():
                if isinstance(value, (int, float)):
                    self._scalar(f"validation/{name}", value, record.epoch)
            self._scalar("samples_per_second", record.samples_per_second, record.epoch)
            if self.histograms:
                from tensorboardX.summary import histogram
                for name, array in trainer.model.state_dict().items():
                    if np.isfinite(array).all():
                        self._add(histogram(f"parameters/{name}", array, "auto"), record.epoch)
            self._writer.flush()
        self._attempt(write)

    def on_train_end(self, trainer: Training) -> None:
        if self._writer is not None:
            self._attempt(self._writer.close)
        self._writer = None

    # ------------------------------------------------------------------ events
    def _attempt(self, write: Any) -> None:
        """write(); where that fails, no more is written."""
        if self._writer is None and write.__name__ != "begin":
            return
        try:
            write()
        except OSError as e:
            log.warning("cannot write TensorBoard's files in %s (%s): training goes on without them", self.folder, e)
            self._writer = None

    def _scalar(self, tag: str, value: float, step: int) -> None:
        from tensorboardX.proto.summary_pb2 import Summary
        self._add([Summary(value=[Summary.Value(tag=tag, simple_value=value)])], step)

    def _add(self, summaries: Any, step: int) -> None:
        for summary in summaries if isinstance(summaries, (list, tuple)) else [summaries]:
            self._write(summary=summary, step=step)

    def _write(self, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event
        self._writer.write_event(Event(wall_time=time.time(), **content))


def _package() -> None:
    try:
        import tensorboardX  # noqa: F401
    except ImportError as e:
        raise ImportError("callbacks.TensorBoard needs tensorboardX: pip install 'tinydl-parallel[tensorboard]'") from e


def _settings(trainer: Training) -> dict[str, float | str | bool]:
    """What the HPARAMS page shows of every training."""
    numbers = {k: v for k, v in trainer.optimizer.numbers().items() if isinstance(v, (int, float, str))}
    return {"optimizer": type(trainer.optimizer).__name__, **numbers, "batch_size": trainer.data.train.largest_batch,
            "loss": type(trainer.loss).__name__, "seed": str(trainer.seed), "epochs": trainer.max_epochs}


def _hparams(values: Mapping[str, Any]) -> Any:
    from tensorboardX.summary import hparams
    return hparams({k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()},
                   {"loss/train": 0.0, "loss/validation": 0.0})


def _graph(trainer: Training) -> bytes:
    """The model's operations, those of its ONNX file: each with the operations, weights and inputs that it takes."""
    from pathlib import Path
    from tempfile import TemporaryDirectory

    import onnx
    from tensorboardX.proto.graph_pb2 import GraphDef
    from tensorboardX.proto.node_def_pb2 import NodeDef
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        trainer.model.to_onnx(path)
        graph = onnx.load(path).graph
    made_by = {output: node.name or output for node in graph.node for output in node.output}
    nodes = [NodeDef(name=value.name, op="Input") for value in graph.input]
    nodes += [NodeDef(name=value.name, op="Constant") for value in graph.initializer]
    nodes += [NodeDef(name=made_by[node.output[0]], op=node.op_type, input=[made_by.get(i, i) for i in node.input if i])
              for node in graph.node]
    return bytes(GraphDef(node=nodes).SerializeToString())


def _cut(path: Path, epoch: int, updates: int) -> None:
    """Take the points out that are later than that epoch and that number of updates. The other records stay byte for byte."""
    from tensorboardX.proto.event_pb2 import Event
    data = path.read_bytes()

    def keeps(record: bytes) -> bool:
        event = Event.FromString(record)
        return all(event.step <= (updates if value.tag.startswith(UPDATES) else epoch) for value in event.summary.value)
    kept = b"".join(data[start:end] for start, end in _records(data) if keeps(data[start + 12:end - 4]))
    if kept != data:
        write_atomically(path, lambda f: f.write(kept))


def _records(data: bytes) -> Iterator[tuple[int, int]]:
    """Where each record begins and ends: its length (8 bytes), a checksum (4), the event, a checksum (4). One that was cut off
    at the end is left out."""
    start = 0
    while start + 16 <= len(data):
        end = start + 16 + struct.unpack_from("<Q", data, start)[0]
        if end > len(data):
            return
        yield start, end
        start = end
