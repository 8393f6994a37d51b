"""Joint: several outputs, each with a loss and a weight of its own."""
from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from numbers import Real
from typing import Any

import numpy as np

from tinydl import _hints
from tinydl.losses.base import Array, Loss
from tinydl.plan import Builder, Rows, Value


class Joint(Loss):
    """The weighted sum of a loss for each output of a model (Keras's loss={...}, loss_weights={...}).

    losses: a dict by the names of the outputs, which Model(inputs=..., outputs={"price": a, "kind": b}) gives them, or a list
    in the order of the outputs. None: an output that nothing is trained on (freeze the parameters that only it needs, where
    an optimizer's weight_decay is to leave them as they are). weights: a dict or list likewise; 1 where left
    out, else finite and 0 or more. A dataset's y is then a dict by the same names, or (of arrays) a tuple in the order of the
    losses.

        >>> from tinydl import Model, Trainer, data, losses, nn, optim
        >>> import numpy as np
        >>> x = nn.Input((4,))
        >>> hidden = nn.Tanh()(nn.Linear(4, 8)(x))
        >>> model = Model(inputs=x, outputs={"price": nn.Linear(8, 1)(hidden), "kind": nn.Linear(8, 3)(hidden)}, seed=0)
        >>> loss = losses.Joint({"price": losses.MeanSquaredError(), "kind": losses.SoftmaxCrossEntropy()}, {"price": 0.1})
        >>> y = {"price": np.ones((6, 1)), "kind": np.arange(6) % 3}
        >>> with Trainer(1, seed=0) as trainer:
        ...     trainer.init(data.ArrayDataset(np.ones((6, 4)), y), model, loss, optim.Adam())
        ...     trainer.train().interrupted
        False
        >>> sorted(model.predict(np.ones((2, 4))))
        ['kind', 'price']

    All losses are divided by one number, the sum of the sample weights a_i, or without them the number of samples:

        sum_k weight_k (sum_i a_i l_ki) / (sum_i a_i)

    with l_ki the loss of sample i alone (the mean over its numbers or labels), so that an update over several batches or
    parts is one over all their samples. SoftmaxCrossEntropy(weight, ignore_index) by itself is divided by the weights of the
    labels that counted, which differ from batch to batch; here the labels' weights stay in l_ki, an ignored label being one
    of weight 0, and the denominator is as above (Keras's rule for class weights). So where few of an output's labels are
    known its gradient is small beside the others': that is what its weight is for.
    """

    @_hints.arguments
    def __init__(self, losses: Mapping[str, Loss | None] | Sequence[Loss | None],
                 weights: Mapping[str, float] | Sequence[float] | None = None) -> None:
        if not isinstance(losses, (Mapping, list, tuple)) or not len(losses):
            raise TypeError(f"Joint takes a dict of losses by the names of outputs, or a list of them; got {losses!r}")
        #: of the outputs; None where the losses were given by their order alone
        self.names = list(losses) if isinstance(losses, Mapping) else None
        self.losses = list(losses.values() if isinstance(losses, Mapping) else losses)
        for name, loss in zip(self._labels(), self.losses, strict=True):
            if loss is not None and (not isinstance(loss, Loss) or isinstance(loss, Joint)):
                raise _hints.expected(f"Joint's loss of output {name}", Loss, loss)
        if not any(self.losses):
            raise ValueError("Joint needs a loss for one output at least")
        given: list[Any]
        if weights is None:
            given = [1.0] * len(self.losses)
        elif isinstance(weights, Mapping):
            unknown = [name for name in weights if name not in (self.names or ())]
            if unknown:
                raise ValueError(f"Joint has weights for {', '.join(map(repr, unknown))}; its losses are of "
                                 f"{', '.join(self._labels())}")
            given = [weights.get(name, 1.0) for name in self._labels()]
        elif self.names is not None or not isinstance(weights, (list, tuple, np.ndarray)) or len(weights) != len(self.losses):
            raise ValueError(f"Joint(weights={weights!r}): a {'dict' if self.names else 'list'}, as the losses, of "
                             f"{', '.join(self._labels())}")
        else:
            given = list(weights)
        for name, w in zip(self._labels(), given, strict=True):
            if not (isinstance(w, Real) and isfinite(w) and float(w) >= 0):
                raise ValueError(f"Joint: the weight of {name} is {w!r}; finite, and 0 or more")
        self.weights = [float(w) for w in given]

    def _labels(self) -> list[str]:
        return self.names or [str(i) for i in range(len(self.losses))]

    def _in_order(self, given: Any, what: str, trained: bool = True) -> list[Any]:
        """What is given for each loss, in their order; not trained: for each output, also those without one."""
        labels = [name for name, loss in zip(self._labels(), self.losses, strict=True) if loss is not None or not trained]
        wanted = f"Joint has losses of {', '.join(labels)}"
        if isinstance(given, Mapping) and self.names is not None:
            missing, unknown = [n for n in labels if n not in given], [n for n in given if n not in labels]
            if missing or unknown:
                raise ValueError(f"{wanted}; the {what} " + " and ".join(
                    [*[f"lack {', '.join(map(repr, missing))}"] * bool(missing),
                     *[f"have {', '.join(map(repr, unknown))}"] * bool(unknown)]))
            return [given[n] for n in labels]
        if isinstance(given, Mapping) and trained:
            raise ValueError(f"the {what} have the names {', '.join(given)}: give Joint a dict of losses by these, not a list")
        if not isinstance(given, (Mapping, tuple, list)) or len(given) != len(labels):
            raise ValueError(f"{wanted}; the {what} are {len(given) if isinstance(given, (Mapping, tuple, list)) else 1}")
        if self.names is not None and not trained:
            raise ValueError(f"{wanted}; the model's outputs have no names: Model(inputs=..., outputs={{'{labels[0]}': ..., "
                             "...}), or give Joint a list")
        return list(given.values() if isinstance(given, Mapping) else given)

    def _members(self, *of_outputs: list[Any]) -> list[tuple[Any, ...]]:
        """(name, loss, weight, ...) of each output that has a loss."""
        every = zip(self._labels(), self.losses, self.weights, *of_outputs, strict=True)
        return [member for member in every if member[1] is not None]

    def check_outputs(self, outputs: Any) -> None:
        if not isinstance(outputs, dict) and not (outputs and isinstance(outputs[0], tuple)):
            raise ValueError(f"Joint has losses of {', '.join(self._labels())}, and the model has one output: give "
                             "its loss alone")
        self._in_order(outputs, "outputs", trained=False)

    def sources(self, targets: Any) -> Sequence[Array]:
        return self._in_order(targets, "targets")

    def check_targets(self, targets: Any, output_shape: Any) -> Any:
        """Of each loss, in a tuple in their order."""
        members = self._members(self._in_order(output_shape, "outputs", trained=False))
        checked = []
        for (name, loss, _, shape), t in zip(members, self._in_order(targets, "targets"), strict=True):
            try:
                checked.append(loss.check_targets(np.asarray(t), shape))
            except ValueError as e:
                raise ValueError(f"output {name}: {e}") from None
        return tuple(checked)

    def emit(self, b: Builder, y: Any) -> Any:
        members = self._members(self._in_order(y, "outputs", trained=False))
        targets = []
        for name, loss, _, one in members:
            with _labelled(b, name):
                targets.append(loss.emit_targets(b, one))
        if b.weight_shape:
            raise ValueError(f"losses.Joint takes a weight for each sample, (samples,); sample_weight has shape (samples, "
                             f"{', '.join(map(str, b.weight_shape))})")
        weights, gradients = self.emit_weights(b), dict[str, Value | None]()
        total = b.buffer(1, per_row=False, dtype=np.dtype(np.float64), name="total")
        for (name, loss, weight, one), t in zip(members, targets, strict=True):
            with _labelled(b, name):
                dy = loss.emit_on(b, one, t, weights)
                unit = loss.unit(one.shape, weights is not None)
                b.emit("join_loss", weights=weights, grad=dy, total=total, scale=weight, unit=unit,
                       accumulate=int(bool(gradients)), n=Rows(one.size), S=0 if weights is None else Rows(), label="loss")
            gradients[name] = dy
        every = [gradients.get(name) for name in self._labels()]
        return dict(zip(self.names or y, every, strict=True)) if isinstance(y, Mapping) else tuple(every)

    def __call__(self, outputs: Any, targets: Any, sample_weight: Any = None) -> float:
        return self.mean(outputs, targets, sample_weight)[0]

    def mean(self, outputs: Any, targets: Any, sample_weight: Any = None) -> tuple[float, float]:
        members = self._members([np.asarray(y) for y in self._in_order(outputs, "outputs", trained=False)])
        W = float(len(members[0][3]) if sample_weight is None else np.sum(sample_weight, dtype=np.float64))
        total = 0.0
        for (_, loss, scale, y), t in zip(members, self._in_order(targets, "targets"), strict=True):
            mean, weight = loss.mean(y, t, sample_weight)
            total += scale * mean * (weight / (W * loss.unit(y.shape[1:], sample_weight is not None)) if W else 0.0)
        return total, W


@contextmanager
def _labelled(b: Builder, name: str) -> Iterator[None]:
    """Operations of a loss that are emitted inside say whose they are."""
    start = len(b.ops)
    yield
    for op in b.ops[start:]:
        if op.label == "loss":
            op.label = f"loss of {name}"
