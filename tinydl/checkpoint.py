"""Checkpoints: all that training needs to go on with the same bits, in one file.

Parameters, statistics, the optimizer's state and numbers, the seed, where the epoch stands, the history, and what each
callback remembers. A safetensors file (`tinydl.serialization` says of which kind) with the arrays model/NAME, optimizer/NAME,
callbacks/NUMBER/NAME and gradient_norms, written beside the file and renamed, so a full disk or a kill leaves the one before.
A trainer that loads one goes on as if it had never stopped, with any number of threads (for a fixed number of batches or parts
of an update; where they are others than before, training warns).
"""
from __future__ import annotations

import warnings
from array import array
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from tinydl.history import EpochRecord
from tinydl.optim import schedules
from tinydl.parallel.errors import BatchFailure, BatchTimeoutError
from tinydl.parallel.execution.epoch import EpochProgress
from tinydl.parallel.workers.signals import uninterrupted
from tinydl.serialization import read_arrays, write_arrays, write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from tinydl.callbacks import Callback
    from tinydl.progress import Resumable

Array = np.ndarray[Any, Any]

COUNTS = ("shuffle", "batches_done", "samples", "loss_sum", "weight", "updates", "seconds", "told", "broken",
          "n_norms", "norm_sum")


def save_checkpoint(trainer: Resumable, path: str | Path, settings: Mapping[str, Any] | None = None) -> None:
    """What `trainer` holds now. From a callback, or while nothing trains. settings (JSON): for `read_settings`."""
    resources, o, epoch = trainer.resources, trainer.optimizer, trainer.progress.under_way
    meta: dict[str, Any] = {
        "settings": dict(settings or {}),
        "epoch": trainer.epoch, "seed": trainer.seed, "step": resources.step,
        "data": _data(trainer), "recipe": trainer.progress.update_signature, "dtype": str(trainer.model.dtype), "job": None,
        "optimizer": {"type": type(o).__name__, "t": resources.state.t, "config": schedules.plain(o.config())},
        "history": [asdict(r) for r in trainer.history.records], "failures": [_failure(f) for f in trainer.history.failures],
        "interrupted": trainer.history.interrupted, "left": trainer.progress.left, "callbacks": []}
    if epoch is not None:
        meta["job"] = {"epoch": epoch.number, **{name: getattr(epoch, name) for name in COUNTS},
                       "failures": [_failure(f) for f in epoch.failures],
                       "reported": epoch.reported, "hung": [[*piece, str(e)] for piece, e in epoch.hung.items()]}
    arrays = {f"model/{k}": v for k, v in trainer.model.named_arrays().items()}
    arrays |= {f"optimizer/{k}": v for k, v in resources.state.vectors.items()}
    arrays["gradient_norms"] = trainer.gradient_norms
    for i, callback in enumerate(trainer.callbacks):
        state = callback.state_dict()
        held = {k: v for k, v in state.items() if isinstance(v, np.ndarray)}
        arrays |= {f"callbacks/{i}/{k}": v for k, v in held.items()}
        meta["callbacks"].append({"type": type(callback).__name__, "state": {k: v for k, v in state.items() if k not in held}})
    write_atomically(path, lambda f: write_arrays(f, "checkpoint", meta, arrays))


def read_settings(path: str | Path) -> dict[str, Any]:
    """The settings that `path` was saved with. ValueError where it is no checkpoint."""
    settings: dict[str, Any] = read_arrays(path, "checkpoint")[0].get("settings", {})
    return settings


def describe(path: str | Path) -> str:
    """What a checkpoint is of, for people. ValueError where `path` is none."""
    meta, arrays = read_arrays(path, "checkpoint")
    model, job = _under("model/", arrays), meta["job"]
    where = "" if job is None else f", and {job['batches_done']:,} batches of the next"
    last = meta["history"][-1] if meta["history"] else None
    callbacks = [c["type"] for c in meta.get("callbacks", ())]
    return "\n".join([
        f"checkpoint after {meta['epoch']} epochs{where}: {meta['optimizer']['type']}, {meta['optimizer']['t']:,} updates"
        + (f", loss {last['loss']:.6g}" if last else ""),
        f"data: {meta['data']['samples']:,} samples in batches of {meta['data']['batch_size']}; seed {meta['seed']}"
        + (f"; callbacks: {', '.join(callbacks)}" if callbacks else ""),
        f"model: {meta['dtype']}, {sum(a.size for a in model.values()):,} values in {len(model)} arrays",
        *(f"  {name} {a.shape}" for name, a in model.items())])


def load_checkpoint(trainer: Resumable, path: str | Path) -> None:
    """Put `trainer` where `path` was saved. ValueError says what does not fit, and then nothing has changed."""
    resources, o = trainer.resources, trainer.optimizer
    meta, arrays = read_arrays(path, "checkpoint")
    if meta["optimizer"]["type"] != type(o).__name__:
        raise ValueError(f"{path} is of an {meta['optimizer']['type']} optimizer; the trainer has {type(o).__name__}")
    if meta["data"] != _data(trainer):
        raise ValueError(f"{path} was saved with {meta['data']}; the trainer's data is {_data(trainer)}")
    model = _under("model/", arrays)
    state = _under("optimizer/", arrays)
    if meta["dtype"] != str(trainer.model.dtype):
        raise ValueError(f"{path} holds {meta['dtype']}; the model is {trainer.model.dtype}")
    held = {k: v.shape for k, v in trainer.model.state_dict().items()}
    if held != {k: v.shape for k, v in model.items()}:
        wrong = {k for k in held.keys() | model.keys() if k not in model or held.get(k) != model[k].shape}
        raise ValueError(f"{path} is of another model: {', '.join(sorted(wrong))} differ in shape or are not in both")
    if {k: v.shape for k, v in state.items()} != {k: v.shape for k, v in resources.state.vectors.items()}:
        raise ValueError(f"{path} holds optimizer state {sorted(state)}; {type(o).__name__} here has "
                         f"{sorted(resources.state.vectors)}")
    config = {name: tuple(v) if isinstance(v, list) else v for name, v in schedules.made(meta["optimizer"]["config"]).items()}
    places, remembering = _callbacks(trainer, meta, arrays)
    with uninterrupted():       # all of it or nothing
        for callback, remembered in remembering:
            callback.load_state_dict(remembered)
        trainer.model.load_state_dict(model)
        for name, value in state.items():
            resources.state.vectors[name][...] = value
        for name in config:
            if hasattr(o, name):
                setattr(o, name, config[name])
        resources.state.t = meta["optimizer"]["t"]
        trainer.progress.epoch, trainer.seed = meta["epoch"], meta["seed"]
        resources.seed, resources.step = meta["seed"], meta["step"]
        history = trainer.monitor.history
        history.records, history.failures = [EpochRecord(**r) for r in meta["history"]], [_restored(f) for f in meta["failures"]]
        history.interrupted = meta.get("interrupted", True)
        left = meta.get("left", [])
        trainer.progress.last = history.records[-1] if history.records else None
        trainer.progress.left = [step for step in left if isinstance(step, str)] + [i for i, j in enumerate(places) if j in left]
        norms = array("d", arrays.get("gradient_norms", ()))
        trainer.progress.norms = norms if meta["job"] is None else ()
        trainer.progress.under_way, trainer.progress.update_signature, trainer.progress.resumed = None, meta.get("recipe"), True
        if meta["job"] is not None:
            saved = meta["job"]
            epoch = EpochProgress(saved["epoch"], **{name: saved[name] for name in COUNTS if name in saved})
            trainer.progress.under_way = epoch
            epoch.weight, epoch.norms = saved.get("weight", float(epoch.samples)), norms
            epoch.told = [epoch.updates if j is None or j >= len(epoch.told) else epoch.told[j] for j in places]
            epoch.failures, epoch.reported = [_restored(f) for f in saved["failures"]], saved["reported"]
            epoch.hung = {tuple(piece): BatchTimeoutError(text) for *piece, text in saved["hung"]}


def warn_other_updates(trainer: Resumable, update_signature: list[int] | None) -> None:
    """Say so where training goes on from a checkpoint in other updates than before: its bits will be others."""
    before = trainer.progress.update_signature
    if trainer.progress.resumed and update_signature is not None and before is not None and update_signature != before:
        def text(batches: int, parts: int, copies: int = 0, sync_every: int = 0, *_: int) -> str:
            return (f"{batches} batch{'es' * (batches > 1)} an update" + f", each in {parts} parts" * (parts > 1)
                    + f", on {copies} copies of the model averaged every {sync_every}" * (copies > 1))
        warnings.warn(f"the checkpoint was trained with {text(*before)}; training goes on with {text(*update_signature)}, so not "
                      "with the bits that it would have had. Give the same numbers where that matters: batches_per_update, "
                      "shards_per_batch, or Local(n_models=...)", UserWarning, stacklevel=7)
    trainer.progress.resumed = False


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _callbacks(trainer: Resumable, meta: Mapping[str, Any], arrays: Mapping[str, Array],
               ) -> tuple[list[int | None], list[tuple[Callback, dict[str, Any]]]]:
    """For each of the trainer's callbacks its number in the file, the k-th of a class there being the k-th of that class here;
    and what those remember that are in both. A warning names those that are not."""
    if "callbacks" not in meta:
        kinds = [type(c).__name__ for c in trainer.callbacks if c.state_dict()]
        if kinds:
            warnings.warn(f"the checkpoint is of an earlier version, which kept nothing of callbacks: {', '.join(kinds)} begin "
                          "anew", stacklevel=4)
        return list(range(len(trainer.callbacks))), []
    saved = dict(enumerate(meta["callbacks"]))
    places: list[int | None] = []
    states = []
    for callback in trainer.callbacks:
        at = next((i for i, other in saved.items() if other["type"] == type(callback).__name__), None)
        places.append(at)
        if at is not None:
            own = _under(f"callbacks/{at}/", arrays)        # copied, or a callback would keep all of the file in memory
            state = {**saved.pop(at)["state"], **{name: a.copy() for name, a in own.items()}}
            states += [(callback, state)] if state else []
    lost = [other["type"] for i, other in saved.items() if other["state"] or _under(f"callbacks/{i}/", arrays)]
    if lost:
        warnings.warn(f"the checkpoint's {', '.join(lost)} is not among the trainer's callbacks: what it remembers is left out",
                      stacklevel=4)
    return places, states


def _data(trainer: Resumable) -> dict[str, Any]:
    train = trainer.data.train
    return {"samples": train.n_samples, "batch_size": train.batch_size}


def _failure(f: BatchFailure) -> dict[str, Any]:
    return {"epoch": f.epoch, "batch_index": f.batch_index, "n_samples": f.n_samples, "thread_id": f.thread_id,
            "exception": f.reason,
            "indices": None if f.indices is None else f.indices.tolist(), "fatal": f.fatal}


def _restored(f: dict[str, Any]) -> BatchFailure:
    indices = None if f["indices"] is None else np.array(f["indices"], np.int64)
    return BatchFailure(f["epoch"], f["batch_index"], f["n_samples"], f["thread_id"], RuntimeError(f["exception"]), indices,
                        f.get("fatal", False))
