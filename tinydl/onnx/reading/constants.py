"""What nodes compute of constants alone: exporters write shapes, masks and indices so."""
from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
#: by operator: function(attributes, inputs) -> array, or a list of them
FOLDS: dict[str, Callable[[dict[str, Any], list[Any]], Any]] = {}
#: elements of an array that is computed so, at most; shapes and masks are far smaller, and a file may say anything
LARGEST = 2 ** 26


def folds(*operators: str) -> Callable[[Any], Any]:
    def enter(function: Any) -> Any:
        FOLDS.update(dict.fromkeys(operators, function))
        return function
    return enter


def single(a: Array) -> Any:
    """The first element."""
    return a[(0,) * a.ndim]


def all_zero(a: Array) -> bool:
    """Also of an array that repeats one number, without going through it."""
    return not (single(a) if a.size and not any(a.strides) else a.any())


def is_uniform(a: Array) -> bool:
    """Whether it is one number, however often."""
    return not a.size or not any(a.strides) or bool((a == single(a)).all())


def is_spread(a: Array) -> bool:
    """Whether it is far larger than what it takes in memory, since numbers of it are repeated."""
    return a.size > LARGEST and 0 in a.strides


def check_size(shape: Sequence[int]) -> tuple[int, ...]:
    total = 1
    for n in shape:
        total *= int(n)
    if total > LARGEST or min(shape, default=0) < 0:
        raise ValueError(f"a constant of shape {tuple(map(int, shape))} is too large to compute")
    return tuple(map(int, shape))


ELEMENTWISE: dict[str, Any] = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Pow": np.power, "Neg": np.negative,
                               "Sqrt": np.sqrt, "Reciprocal": np.reciprocal, "Floor": np.floor, "Mod": np.mod,
                               "And": np.logical_and, "Or": np.logical_or, "IsNaN": np.isnan,
                               "GreaterOrEqual": np.greater_equal, "LessOrEqual": np.less_equal, "Ceil": np.ceil,
                               "Exp": np.exp, "Equal": np.equal, "Greater": np.greater, "Less": np.less,
                               "Not": np.logical_not, "Min": np.minimum, "Max": np.maximum, "Where": np.where, "Abs": np.abs}


def _elementwise(operator: str) -> Callable[[dict[str, Any], list[Any]], Array]:
    def fold(attributes: dict[str, Any], inputs: list[Any]) -> Array:
        check_size(np.broadcast_shapes(*(a.shape for a in inputs)))
        with np.errstate(all="ignore"):
            if operator in ("Min", "Max"):      # of as many as there are
                return np.asarray(reduce(ELEMENTWISE[operator], inputs))
            if operator == "Mod" and attributes.get("fmod"):        # with the dividend's sign, as C has it
                return np.asarray(np.fmod(*inputs))
            return np.asarray(ELEMENTWISE[operator](*inputs))
    return fold


FOLDS.update({operator: _elementwise(operator) for operator in ELEMENTWISE})


@folds("Div")
def _div(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    a, b = inputs
    check_size(np.broadcast_shapes(a.shape, b.shape))
    with np.errstate(all="ignore"):
        return np.asarray(a // b if a.dtype.kind in "iu" else a / b)


@folds("Constant")
def _constant(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    for name, dtype in (("value", None), ("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64),
                        ("value_ints", np.int64)):
        if name in attributes:
            return np.asarray(attributes[name], dtype)
    raise ValueError("its value is not numbers")


@folds("Identity")
def _identity(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    return inputs[0]


@folds("Cast")
def _cast(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    from onnx.helper import tensor_dtype_to_np_dtype
    return _as_dtype(inputs[0], tensor_dtype_to_np_dtype(attributes["to"]))


@folds("CastLike")
def _cast_like(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    return _as_dtype(inputs[0], inputs[1].dtype)


def _as_dtype(a: Array, dtype: Any) -> Array:
    if a.size and not any(a.strides):       # one number, repeated
        return np.broadcast_to(np.asarray(single(a)).astype(dtype), a.shape)
    if is_spread(a):
        raise ValueError("it is too large to compute")
    return a.astype(dtype)


@folds("Shape")
def _shape(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    return np.array(inputs[0].shape[attributes.get("start", 0):attributes.get("end")], np.int64)


@folds("Gather")
def _gather(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    data, indices = inputs
    axis = attributes.get("axis", 0)
    check_size((*data.shape[:axis], *indices.shape, *data.shape[axis + 1:]))
    return np.asarray(np.take(data, indices, axis))


@folds("Concat")
def _concat(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    if any(map(is_spread, inputs)):
        raise ValueError("it is too large to compute")
    return np.concatenate(inputs, attributes["axis"])


@folds("Reshape")
def _reshape(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    data, shape = inputs
    wanted = [data.shape[i] if n == 0 and not attributes.get("allowzero") else int(n) for i, n in enumerate(shape)]
    if is_spread(data):
        raise ValueError("it is too large to compute")
    return data.reshape(wanted)


@folds("Transpose")
def _transpose(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    return inputs[0].transpose(attributes.get("perm"))


def _axes(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    axes = attributes.get("axes", inputs[1] if len(inputs) > 1 else None)
    return None if axes is None else tuple(int(a) for a in np.ravel(axes))


@folds("Unsqueeze")
def _unsqueeze(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    return np.expand_dims(inputs[0], _axes(attributes, inputs))


@folds("Squeeze")
def _squeeze(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    return np.squeeze(inputs[0], _axes(attributes, inputs))


@folds("Slice")
def _slice(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    data = inputs[0]
    starts: Any
    ends: Any
    if len(inputs) > 1:
        starts, ends, axes, steps, *_ = (*(None if a is None else a.tolist() for a in inputs[1:]), None, None)
    else:
        starts, ends, axes, steps = attributes["starts"], attributes["ends"], attributes.get("axes"), None
    where = [slice(None)] * data.ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = 1 if steps is None else steps[i]
        where[i if axes is None else axes[i]] = slice(start, None if step < 0 and end < -data.ndim - 2 ** 31 else end, step)
    return data[tuple(where)]


@folds("Split")
def _split(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    data, axis = inputs[0], attributes.get("axis", 0)
    sizes = attributes.get("split", inputs[1] if len(inputs) > 1 else None)
    if sizes is None:
        each = -(-data.shape[axis] // attributes["num_outputs"])
        return [a for a in np.split(data, range(each, data.shape[axis], each), axis)]
    return np.split(data, np.cumsum(sizes)[:-1], axis)


@folds("Trilu")
def _trilu(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    check_size(inputs[0].shape)
    k = int(single(inputs[1])) if len(inputs) > 1 and inputs[1] is not None else 0
    return np.asarray((np.triu if attributes.get("upper", 1) else np.tril)(inputs[0], k))


@folds("Expand")
def _expand(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    data, shape = inputs
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(map(int, shape))))


@folds("ConstantOfShape")
def _constant_of_shape(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    value = np.asarray(attributes.get("value", np.zeros(1, np.float32)))
    return np.broadcast_to(value.reshape(()), tuple(map(int, inputs[0])))       # no memory is taken


@folds("Range")
def _range(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    start, stop, step = (single(a).item() for a in inputs)
    check_size((max(0, int((stop - start) / step)),))
    return np.arange(start, stop, step).astype(inputs[0].dtype)


#: sums of floating-point numbers are made in float64, and rounded once
REDUCTIONS: dict[str, Any] = {"ReduceProd": np.prod, "ReduceSum": np.sum, "ReduceMean": np.mean, "ReduceMax": np.max,
                              "ReduceMin": np.min, "ReduceSumSquare": lambda a, **at: np.sum(a * a, **at),
                              "ReduceL1": lambda a, **at: np.sum(np.abs(a), **at),
                              "ReduceL2": lambda a, **at: np.sqrt(np.sum(a * a, **at))}


def _reduction(operator: str) -> Callable[[dict[str, Any], list[Any]], Array]:
    def fold(attributes: dict[str, Any], inputs: list[Any]) -> Any:
        a, axes = inputs[0], _axes(attributes, inputs)
        if not axes:
            if attributes.get("noop_with_empty_axes"):
                return a
            axes = None
        check_size(a.shape)
        wide = a.astype(np.float64) if a.dtype.kind == "f" else a
        with np.errstate(all="ignore"):
            return np.asarray(REDUCTIONS[operator](wide, axis=axes, keepdims=bool(attributes.get("keepdims", 1)))).astype(a.dtype)
    return fold


FOLDS.update({operator: _reduction(operator) for operator in REDUCTIONS})


@folds("MatMul")
def _matmul(attributes: dict[str, Any], inputs: list[Any]) -> Array:
    a, b = inputs
    check_size((*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *a.shape[-2:-1], *(b.shape[-1:] if b.ndim > 1 else ())))
    check_size(a.shape)
    check_size(b.shape)
    return np.asarray(np.matmul(a, b))


@folds("BatchNormalization")
def _batch_normalization(attributes: dict[str, Any], inputs: list[Any]) -> Any:
    """Of weights, whose channels some models normalize so, as timm's NFNets."""
    x, *columns = (a.astype(np.float64) for a in inputs)
    check_size(x.shape)
    others = tuple(i for i in range(x.ndim) if i != 1)
    scale, bias, mean, variance = (a.reshape(1, -1, *(1,) * (x.ndim - 2)) for a in columns)
    outputs = []
    if attributes.get("training_mode"):
        momentum = attributes.get("momentum", 0.9)
        own_mean, own_variance = x.mean(others, keepdims=True), x.var(others, keepdims=True)
        outputs = [(momentum * mean + (1 - momentum) * own_mean).ravel(),
                   (momentum * variance + (1 - momentum) * own_variance).ravel()]
        mean, variance = own_mean, own_variance
    y = (x - mean) / np.sqrt(variance + attributes.get("epsilon", 1e-5)) * scale + bias
    return [a.astype(inputs[0].dtype) for a in (y, *outputs)] if outputs else y.astype(inputs[0].dtype)
