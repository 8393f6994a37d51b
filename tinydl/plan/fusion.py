"""Fusions: an activation whose gradient needs only its output moves into the matrix product, convolution or batch norm before
it, its derivative into the one that makes the gradient, or into the gradient of a max-pooling; that of a ReLU behind a batch norm
into the gradient of the batch norm. The mean over a sample's rows moves into the batch norm before it, and its gradient into that
one's. And products read the batch's rows where they lie."""
from __future__ import annotations

from tinydl._kernels.schema import ACTIVATIONS, FROM_OUTPUT
from tinydl.plan.operation import Op
from tinydl.plan.placing import uses_of
from tinydl.plan.values import INT64, Buffer, Rows, Size

#: what an activation behind it may move into; what its derivative may
FORWARD = ("matmul", "conv2d", "conv_transpose2d", "depthwise2d", "depthwise_transpose2d", "batch_norm",
           "batch_norm_inference")
BACKWARD = ("matmul", "conv_transpose2d", "depthwise_transpose2d", "max_pool2d_backward")
#: into which only an activation of one number moves: their beta is the shift
ONE_NUMBER = ("batch_norm", "batch_norm_inference")


def fuse(ops: list[Op], training: bool) -> list[Op]:
    """Move an activation (or its derivative) into what is just before it, where nobody else looks."""
    uses = uses_of(ops)
    pooled = {op.buffer("place"): op for op in ops if op.name == "max_pool2d"}
    normed = {op.buffer("rstd"): op for op in ops if op.name in ONE_NUMBER}
    kept: list[Op] = []
    last = -1       # where in ops the last of `kept` was, or what was fused into it
    for i, op in enumerate(ops):
        if _into_batch_norm(ops, i, uses, normed):
            continue
        if op.name == "batch_norm_backward" and kept and _alike(kept[-1], op, uses):
            kept.pop()
        before = kept[-1] if kept and last == i - 1 else None
        x = op.buffer("x" if op.name == "activation" else "dy") if op.name.startswith("activation") else None
        if (before is not None and before.name in (*FORWARD, *BACKWARD) and x is not None and before.buffer("out") is x
                and x.space == "work" and uses[x] == [i - 1, i] and before.sizes["activation"] == 0):
            kind = op.sizes["kind"]
            one_number = before.name in ONE_NUMBER
            if (op.name == "activation" and before.name in FORWARD and (ACTIVATIONS[kind] in FROM_OUTPUT or not training)
                    and not (one_number and op.reals["beta"])):
                before.notes.append(f"+ {ACTIVATIONS[kind]}")
            elif op.name == "activation_backward" and before.name in BACKWARD:
                before.places["saved"] = op.places["saved"]
                if before.name == "max_pool2d_backward":
                    # the derivative at the greatest alone counts, and that is in the pooled image too, a part as large
                    pool = pooled[before.buffer("place")]
                    if ACTIVATIONS[kind] not in FROM_OUTPUT or pool.buffer("x") is not op.buffer("saved"):
                        before.places["saved"] = None
                        kept.append(op)
                        last = i
                        continue
                    before.places["saved"] = pool.places["out"]
                before.notes.append(f"* {ACTIVATIONS[kind]}'")
            else:
                kept.append(op)
                last = i
                continue
            before.places["out"], before.sizes["activation"] = op.places["out"], kind
            before.reals.update(alpha=op.reals["alpha"], **({} if one_number else {"beta": op.reals["beta"]}))
            continue
        kept.append(op)
        last = i
    return _pooled_norms(kept)


def _pooled_norms(ops: list[Op]) -> list[Op]:
    """A batch norm at which only the mean or sum of each sample's rows looks makes that, and not what it is of."""
    uses = uses_of(ops)
    kept: list[Op] = []
    for i, op in enumerate(ops):
        norm = kept[-1] if kept and op.name == "reduce_sum" else None
        x = op.buffer("x") if norm else None
        if (norm is not None and x is not None and norm.name in ONE_NUMBER and norm.buffer("out") is x and x.space == "work"
                and op.sizes["I"] == norm.sizes["C"] and uses.get(x) == [i - 1, i]
                and ACTIVATIONS[norm.sizes["activation"]] in ("identity", "relu")):
            norm.places["pooled"], norm.sizes["N"], norm.reals["scale"] = op.places["out"], op.sizes["O"], op.reals["scale"]
            norm.places["out"] = None
            norm.notes.append("+ mean" if op.reals["scale"] != 1 else "+ sum")
            continue
        kept.append(op)
    return kept


def _into_batch_norm(ops: list[Op], i: int, uses: dict[Buffer, list[int]], normed: dict[Buffer | None, Op]) -> bool:
    """Where operation i is the derivative of a ReLU that moved into a batch norm, and that one's gradient follows, move it there:
    the gradient is masked as it is read, by the signs of what it is made of anyway."""
    op, after = ops[i], ops[i + 1] if i + 1 < len(ops) else None
    if op.name != "activation_backward" or after is None or after.name != "batch_norm_backward":
        return False
    norm, dy = normed[after.buffer("rstd")], op.buffer("out")
    if not (ACTIVATIONS[norm.sizes["activation"]] == ACTIVATIONS[op.sizes["kind"]] == "relu" and after.buffer("dy") is dy
            and dy is not None and dy.space == "work" and uses[dy] == [i, i + 1] and op.buffer("saved") is norm.buffer("out")):
        return False
    after.places["dy"], after.places["beta"], after.sizes["activation"] = op.places["dy"], norm.places["beta"], op.sizes["kind"]
    after.notes.append("* relu'")
    return True


def _alike(spread: Op, op: Op, uses: dict[Buffer, list[int]]) -> bool:
    """Where the gradient that a batch norm takes is one for all rows of a sample, as that of a mean over pixels is, it is read
    from there and not written out for all of them. The last of a network's images are often as large as a cache."""
    dy = op.buffer("dy")
    if not (spread.name == "spread" and spread.buffer("out") is dy and dy is not None and dy.space == "work"
            and len(uses[dy]) == 2 and spread.sizes["I"] == op.sizes["C"]):
        return False
    op.places["dy"], op.sizes["N"], op.reals["scale"] = spread.places["dy"], spread.sizes["O"], spread.reals["scale"]
    op.notes.append("of spread")
    return True


def read_apart(ops: list[Op], items: int) -> None:
    """Where products with the same number of columns alone read the batch's rows, a sample being one row of theirs,
    `gather` may note where the rows lie instead of copying them together. items: elements of a sample of x."""
    columns: set[Size | None] = set()
    for op in ops:
        reading = [name for name, place in op.places.items() if place is not None and place[0].space == "in"]
        if reading:
            whole_rows = reading == ["a"] and op.name == "matmul" and {op.sizes["m"], op.sizes["k"]} == {Rows(1), items} \
                and op.places["a"] is not None and op.places["a"][1] == 0
            columns.add(op.sizes["n"] if whole_rows else None)
    n = columns.pop() if len(columns) == 1 and items > 1 else None
    for op in ops:
        if op.name == "gather" and n is not None:
            op.places["addresses"] = Buffer(1, True, "work", 0, INT64, "addresses"), 0
            op.sizes["columns"] = n
