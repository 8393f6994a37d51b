"""The plan compiler: a model's layers emit operations, the plan fuses, places and freezes them.

    b = Builder(dtype, training=True, ...)
    x = b.input(shape)                      # rows of the batch, gathered by index
    y, backward = layer.emit(b, x)          # forward operations, and how to emit the backward ones
    dy = loss.emit(b, y)                    # targets, loss, its gradient
    backward(dy)                            # backward operations, gradients into the slot's vector
    plan = compile_plan(b, max_rows)        # fuse, place buffers, encode

Operations are those of _kernels/schema.py, emitted by their names: b.emit("add", a=x, b=z, out=y, n=Rows(x.size)).
What flows between layers is a Value (values.py). Buffers are placed by their lives: two that are never alive together
share memory, and an operation that may work in place does. Large gradients of weights come last, where the update may
make them instead (gradients.py). All sizes are (fixed + per sample * rows), so one program serves every batch up to max_rows.

Fusions: an activation whose gradient needs only its output moves into the matrix product, convolution or batch norm before it;
its derivative into the one that makes the gradient, or into the gradient of a max-pooling, that of a ReLU behind a batch norm
into the batch norm's; softmax is one operation with its loss.

Files: values (what flows, and where it lies), operation (one, while a plan is built), builder (what layers emit into), by_step
(numbers that differ from step to step), fusion, gradients (which come last, and how they are checked), placing (of buffers),
compiler (all of these, and the Plan), shorter (forms of a plan for sequences of fewer steps).
"""
from tinydl.plan.builder import Builder
from tinydl.plan.compiler import Plan, compile_plan
from tinydl.plan.shorter import with_shorter
from tinydl.plan.values import Buffer, Matrix, Parameter, Rows, Size, Statistic, Value, inverse

__all__ = ["Buffer", "Builder", "Matrix", "Parameter", "Plan", "Rows", "Size", "Statistic", "Value", "compile_plan", "inverse",
           "with_shorter"]
