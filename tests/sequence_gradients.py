"""What tests of layers over sequences share: all gradients of a model, also by its inputs, and the same run elsewhere."""
import hashlib
import os
import subprocess
import sys

import numpy as np

from tinydl import Model, losses, nn
from tinydl._kernels import engine


def wrap(layer, arrays, dtype="float64", seed=0):
    """A model of the layer whose inputs of numbers are rows of tables, so that gradients by them are those of parameters;
    and what it is called with. Its parameters are "0.weight", "1.weight", ... of the tables, then the layer's."""
    inputs, values, sources, tables = [], [], [], {}
    for i, a in enumerate(arrays):
        if a.dtype.kind == "i":
            inputs.append(nn.Input(a.shape[1:], "int64", name=f"x{i}"))
            values.append(inputs[-1])
            sources.append(a)
            continue
        rows = int(np.prod(a.shape[:-1]))
        inputs.append(nn.Input(a.shape[1:-1], "int64", name=f"x{i}"))
        table = nn.Embedding(rows, a.shape[-1])
        values.append(table(inputs[-1]))
        sources.append(np.arange(rows).reshape(a.shape[:-1]))
        tables[table] = a.reshape(rows, a.shape[-1])
    model = Model(inputs=inputs, outputs=layer(values if len(values) > 1 else values[0]), dtype=dtype, seed=seed)
    for number, inside in enumerate(model.layer.layers):
        if inside in tables:
            model.load_state_dict({f"{number}.weight": tables[inside]}, strict=False)
    return model, sources


def run(model, sources, targets, seed=0):
    """Outputs, the loss (mean squared error), and the gradient of every parameter by its name."""
    n = len(targets)
    plan = model.plan([s.shape[1:] for s in sources] if len(sources) > 1 else sources[0].shape[1:], n,
                      loss=losses.MeanSquaredError())
    vector = np.full(model.params.size, np.nan, model.dtype)
    loss = engine.Replica(plan.program, model.params, model.statistics).run(
        [engine.Source(np.ascontiguousarray(a)) for a in (*sources, targets)], None, n, vector, seed=seed)
    grads = {name: vector[p.offset:p.offset + p.size].reshape(p.shape) for name, p in model._parameters.items()
             if not p.frozen}
    return model.predict(tuple(sources) if len(sources) > 1 else sources[0]), loss, grads


def digests(module, isas=None):
    """What print(digest()) of a test module says on each of these instruction sets, or each that must give the same bits."""
    from tinydl import _kernels as kernels
    said = {isa: subprocess.run([sys.executable, "-c", f"import {module}; print({module}.digest())"], check=True,
                                cwd=os.path.dirname(__file__), capture_output=True, text=True, timeout=300,
                                env=os.environ | {"TINYDL_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}).stdout
            for isa in isas or kernels.isa_available if isa != "generic" or isas}
    assert all(len(text.split()) == 1 for text in said.values())
    return set(said.values())


def hashed(*arrays):
    h = hashlib.sha256()
    for a in arrays:
        h.update(np.ascontiguousarray(a).tobytes())
    return h.hexdigest()
