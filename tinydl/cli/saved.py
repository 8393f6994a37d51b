"""A model that `tinydl train` saved, and what it says of a table.

Its metadata carry under "table" all that this needs besides the weights: the task, the columns, how to encode them,
and the names of the classes or the target's own mean, scale and range; under "training", what train.py notes of how it became.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tinydl import Model
from tinydl.cli.errors import CommandError
from tinydl.cli.features import encode, fits
from tinydl.cli.tables import Array, Table


def load(path: Path) -> Model:
    """The model that `tinydl train` saved there."""
    try:
        model = Model.load(path)
        facts = model.metadata["table"]
        ok = fits(model, facts, len(facts["classes"] or "1")) and facts["task"] in ("classification", "regression")
    except FileNotFoundError:
        raise CommandError(f"{path}: there is no such file") from None
    except OSError:
        raise
    except ValueError as e:
        raise CommandError(str(e)) from None
    except KeyError:
        raise CommandError(f"{path} is a model, but `tinydl train` did not write it: it does not say what its columns "
                           "are") from None
    except Exception as e:          # whatever a foreign file may lead to
        raise CommandError(f"{path} is not a model of tinydl, or is truncated ({type(e).__name__})") from None
    if not ok:
        raise CommandError(f"{path} is damaged: its columns do not fit its layers")
    return model


def outputs(model: Model, table: Table) -> Array:
    """Of each row the scores of all classes, float64 (n, K), or the number that is predicted, in the target's unit (n,).
    CommandError names a row whose features lead to no number."""
    facts: dict[str, Any] = model.metadata["table"]
    found = in_units(facts, model.predict(encode(facts, table)))
    bad = np.flatnonzero(~np.isfinite(found.reshape(len(found), -1)).all(1))
    if len(bad):
        raise CommandError(f"{table.where(int(bad[0]))}: the features are too far from those of the training")
    return found


def in_units(facts: dict[str, Any], y: Array) -> Array:
    """What a model gives, (n, K) or (n, 1), as `outputs` says; numbers within the target's range, where that is kept."""
    y = y.astype(np.float64)
    if facts["classes"]:
        return y
    y = y[:, 0] * facts["target_scale"] + facts["target_mean"]
    return np.clip(y, *facts["target_range"]) if "target_range" in facts else y


def softmax(scores: Array) -> Array:
    """The probabilities that scores (n, K) stand for."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    return np.asarray(p / p.sum(1, keepdims=True))
