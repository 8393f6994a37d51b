"""Operators of ONNX as layers: graphs written by hand, as its standard says, and what ONNX Runtime computes of them."""
import numpy as np
import pytest

from tinydl import Model, nn

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from onnx import helper, numpy_helper  # noqa: E402 - behind the lines that skip
from test_onnx import session  # noqa: E402


def first(outputs):
    return next(iter(outputs.values())) if isinstance(outputs, dict) else outputs


class File:
    """A graph of a few nodes, written by hand: f(op, inputs, outputs=1, **attributes) -> the names of its outputs."""

    def __init__(self, *shapes, opset=18):
        self.nodes, self.constants, self.opset, self.rng = [], [], opset, np.random.default_rng(0)
        self.inputs = [helper.make_tensor_value_info(f"x{i}", onnx.TensorProto.FLOAT, s) for i, s in enumerate(shapes)]

    def c(self, *shape, values=None):
        name = f"c{len(self.constants)}"
        values = self.rng.normal(size=shape).astype(np.float32) if values is None else np.asarray(values)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def f(self, op, *inputs, outputs=1, domain="", **attributes):
        names = [f"{op}{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, inputs, names, f"{op}-{len(self.nodes)}", domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def save(self, path, *outputs, ir=10):
        ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, ends, self.constants)
        onnx.save(helper.make_model(graph, ir_version=ir, opset_imports=[
            helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 3)]), path)


def patterns():
    """Of x0 (batch, 4, 5): name, function of a File."""
    def number(v):
        return np.float32(v)

    def gelu(g, x, order):
        half, one = g.c(values=number(0.5)), g.c(values=number(1))
        phi = g.f("Add", one, g.f("Erf", g.f("Div", x, g.c(values=number(np.sqrt(2))))))
        return g.f("Mul", g.f("Mul", half, phi), x) if order else g.f("Mul", g.f("Mul", x, phi), half)

    def gelu_tanh(g, x, powers):
        cube = g.f("Pow", x, g.c(values=number(3))) if powers else g.f("Mul", x, g.f("Mul", x, x))
        inner = g.f("Mul", g.c(values=number(np.sqrt(2 / np.pi))), g.f("Add", x, g.f("Mul", g.c(values=number(0.044715)), cube)))
        return g.f("Mul", g.f("Mul", g.c(values=number(0.5)), x), g.f("Add", g.f("Tanh", inner), g.c(values=number(1))))

    def layer_norm(g, x):
        d = g.f("Sub", x, g.f("ReduceMean", x, g.c(values=[-1])))
        var = g.f("ReduceMean", g.f("Pow", d, g.c(values=number(2))), g.c(values=[-1]))
        y = g.f("Div", d, g.f("Sqrt", g.f("Add", var, g.c(values=number(1e-5)))))
        return g.f("Add", g.f("Mul", y, g.c(5)), g.c(5))

    def rms_norm(g, x):
        mean = g.f("ReduceMean", g.f("Mul", x, x), g.c(values=[-1]))
        return g.f("Mul", g.f("Mul", x, g.f("Reciprocal", g.f("Sqrt", g.f("Add", mean, g.c(values=number(1e-5)))))), g.c(5))

    yield "gelu", lambda g, x: gelu(g, x, 0), nn.GELU
    yield "gelu reordered", lambda g, x: gelu(g, x, 1), nn.GELU
    yield "gelu tanh", lambda g, x: gelu_tanh(g, x, 1), nn.GELU
    yield "gelu tanh of products", lambda g, x: gelu_tanh(g, x, 0), nn.GELU
    yield "silu", lambda g, x: g.f("Mul", g.f("Sigmoid", x), x), nn.SiLU
    yield "mish", lambda g, x: g.f("Mul", x, g.f("Tanh", g.f("Softplus", x))), nn.Mish
    yield "hardswish", lambda g, x: g.f("Mul", x, g.f("HardSigmoid", x, alpha=1 / 6, beta=0.5)), nn.Hardswish
    yield "hard sigmoid", lambda g, x: g.f("HardSigmoid", x), nn.Hardsigmoid
    yield "times a hard sigmoid of 0.2", lambda g, x: g.f("Mul", x, g.f("HardSigmoid", x)), nn.Multiply     # it is no Hardswish
    yield "hard sigmoid of a clip", lambda g, x: g.f("Div", g.f("Clip", g.f("Add", x, g.c(values=number(3))), *(
        g.c(values=number(n)) for n in (0, 6))), g.c(values=number(6))), nn.Hardsigmoid
    for op, kind in (("Softsign", nn.Softsign), ("Exp", nn.Exp), ("Abs", nn.Abs), ("Neg", nn.Rescaling)):
        yield op, lambda g, x, op=op: g.f(op, x), kind
    yield "logarithm of a sigmoid", lambda g, x: g.f("Log", g.f("Sigmoid", x)), nn.LogSigmoid
    yield "square", lambda g, x: g.f("Pow", x, g.c(values=number(2))), nn.Square
    yield "softsign of its parts", lambda g, x: g.f("Div", x, g.f("Add", g.f("Abs", x), g.c(values=number(1)))), nn.Softsign
    yield "unit", lambda g, x: g.f("Div", x, g.f("Sqrt", g.f("Add", g.f("ReduceSum", g.f("Mul", x, x), g.c(values=[-1])),
                                                             g.c(values=number(1e-6))))), nn.UnitNormalization
    yield "unit of a norm", lambda g, x: g.f("Div", x, g.f("Expand", g.f(
        "Clip", g.f("ReduceL2", x, g.c(values=[-1])), g.c(values=number(1e-12))), g.f("Shape", x))), nn.UnitNormalization
    yield "less a mean", lambda g, x: g.f("Sub", x, g.f("ReduceMean", x, g.c(values=[1]))), nn.Subtract
    yield "times a maximum", lambda g, x: g.f("Mul", g.f("ReduceMax", x, g.c(values=[2])), x), nn.Multiply
    yield "relu", lambda g, x: g.f("Clip", x, g.c(values=number(0))), nn.ReLU
    yield "relu6", lambda g, x: g.f("Min", g.f("Relu", x), g.c(values=number(6))), nn.ReLU6
    yield "clip from below", lambda g, x: g.f("Clip", x, g.c(values=number(-0.5))), nn.Hardtanh
    yield "clip from above", lambda g, x: g.f("Clip", x, "", g.c(values=number(0.5))), nn.Hardtanh
    yield "maximum", lambda g, x: g.f("Max", g.c(values=number(0.25)), x), nn.Hardtanh
    yield "gated", lambda g, x: g.f("Mul", g.f("Add", g.f("MatMul", x, g.c(5, 5)), g.c(5)), g.f("Tanh", x)), nn.Linear
    yield "token of a class", lambda g, x: g.f("Concat", g.f("Expand", g.c(1, 1, 5), g.f("Concat", g.f(
        "Slice", g.f("Shape", x), g.c(values=[0]), g.c(values=[1])), g.c(values=[1, 5]), axis=0)), x, axis=1), \
        nn.LearnedTokens
    yield "a number of each sample", lambda g, x: g.f(
        "Add", g.f("ReduceSum", x, g.c(values=[1, 2]), keepdims=0), g.c()), nn.Linear
    yield "layer norm", layer_norm, nn.LayerNorm
    yield "rms norm", rms_norm, nn.RMSNorm
    yield "softmax", lambda g, x: g.f("Softmax", x, axis=1), nn.Softmax
    yield "difference", lambda g, x: g.f("Sub", g.f("Tanh", x), g.f("Neg", x)), nn.Tanh
    yield "standardised", lambda g, x: g.f("Div", g.f("Sub", x, g.c(5)), g.c(values=number([1, 2, 3, 4, 5]))), nn.Linear
    yield "from a number", lambda g, x: g.f("Sub", g.c(values=number(1)), x), nn.Linear
    yield "both are used", lambda g, x: g.f("Add", (h := g.f("MatMul", x, g.c(5, 5))), g.f("Add", h, g.c(5))), nn.Linear
    yield "scaled product", lambda g, x: g.f("Mul", g.f("MatMul", x, g.c(5, 3)), g.c(3)), nn.Scale
    yield "split", lambda g, x: g.f("Add", *g.f("Split", x, g.c(values=[2, 2]), outputs=2, axis=1)), nn.Slice
    yield "places", lambda g, x: g.f("Gather", x, g.c(values=[1, 3]), axis=1), nn.Slice
    yield "one place", lambda g, x: g.f("Gather", x, g.c(values=np.int64(-2)), axis=2), nn.Slice
    yield "reduced", lambda g, x: g.f("ReduceMax", x, g.c(values=[1]), keepdims=1), nn.Max
    yield "turned", lambda g, x: g.f("Transpose", g.f("Tanh", g.f("Transpose", x, perm=[2, 0, 1])), perm=[1, 2, 0]), nn.Tanh
    yield "reshaped", lambda g, x: g.f("Reshape", g.f("Flatten", g.f("Unsqueeze", x, g.c(values=[1]))),
                                       g.c(values=[-1, 2, 10])), nn.Reshape
    yield "computed shape", lambda g, x: g.f("Reshape", x, g.f("Concat", g.f("Slice", g.f("Shape", x), *(
        g.c(values=[i]) for i in (0, 1))), g.c(values=[-1]), axis=0)), nn.Flatten
    yield "prelu", lambda g, x: g.f("PRelu", x, g.c(1, 5)), nn.PReLU
    yield "prelu of channels", lambda g, x: g.f("PRelu", x, g.c(1, 4, 1)), nn.PReLU
    yield "positions", lambda g, x: g.f("Add", x, g.c(4, 5)), nn.PositionalEncoding
    yield "scaler", lambda g, x: g.f("Scaler", g.f("Flatten", x), domain="ai.onnx.ml", offset=[0.5] * 20,
                                     scale=[2.0] * 20), nn.Linear


def attention():
    """Of x0 (batch, 4, 6), two heads: name, function of a File, opset."""
    def number(v):
        return np.float32(v)

    def heads(g, x):
        return g.f("Transpose", g.f("Reshape", g.f("MatMul", x, g.c(6, 6)), g.c(values=[0, 4, 2, 3])), perm=[0, 2, 1, 3])

    def joined(g, y):
        return g.f("MatMul", g.f("Reshape", g.f("Transpose", y, perm=[0, 2, 1, 3]), g.c(values=[0, 4, 6])), g.c(6, 6))

    def plain(g, x, mask):
        q, k, v = (heads(g, x) for _ in range(3))
        scores = g.f("Div", g.f("MatMul", q, g.f("Transpose", k, perm=[0, 1, 3, 2])), g.c(values=number(2)))
        return joined(g, g.f("MatMul", g.f("Softmax", mask(g, scores), axis=-1), v))

    def one_axis(g, x):
        """The batch and the heads are one axis."""
        q, k, v = (g.f("Reshape", heads(g, x), g.c(values=[-1, 4, 3])) for _ in range(3))
        y = g.f("MatMul", g.f("Softmax", g.f("MatMul", q, g.f("Transpose", k, perm=[0, 2, 1]))), v)
        return joined(g, g.f("Reshape", y, g.c(values=[-1, 2, 4, 3])))

    later = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    yield "plain", lambda g, x: plain(g, x, lambda g, s: s), 18
    yield "added mask", lambda g, x: plain(g, x, lambda g, s: g.f("Add", s, g.c(values=later))), 18
    yield "chosen mask", lambda g, x: plain(
        g, x, lambda g, s: g.f("Where", g.c(values=later == 0), s, g.c(values=number(-1e9)))), 18
    yield "one axis", one_axis, 18
    for n, options in enumerate(({}, {"is_causal": 1, "scale": 0.3})):
        yield f"operator {n}", lambda g, x, o=options: joined(g, g.f("Attention", *(heads(g, x) for _ in range(3)), **o)), 23
    yield "operator of three axes", lambda g, x: g.f("Attention", x, g.f("Tanh", x), x, q_num_heads=3, kv_num_heads=3), 23


def padded():
    """Of x0 (batch, 4, 5): zeros before and behind steps and columns."""
    for pads in ([0, 2, 0, 0, 0, 0], [0, 0, 1, 0, 2, 3]):
        yield f"padded {pads}", lambda g, x, p=pads: g.f("Pad", x, g.c(values=p))
    yield "padded vectors", lambda g, x: g.f("Pad", g.f("Flatten", x), g.c(values=[0, 1, 0, 2]))
    yield "padded axes", lambda g, x: g.f("Pad", x, g.c(values=[2, 1]), "", g.c(values=[-2]))


def older():
    """Of x0 (batch, 4, 5), as files of opset 13: axes are attributes."""
    def layer_norm(g, x):
        d = g.f("Sub", x, g.f("ReduceMean", x, axes=[-1]))
        var = g.f("ReduceMean", g.f("Pow", d, g.c(values=np.float32(2))), axes=[-1])
        return g.f("Div", d, g.f("Sqrt", g.f("Add", var, g.c(values=np.float32(1e-5)))))

    def branch(g, x, size):
        """As exporters write squeeze: of axis 1, if it is of size 1; and what is only done with numbers that are there."""
        test = (g.f("Equal", g.f("Size", x), g.c(values=np.int64(0))) if size else
                g.f("Equal", g.f("Gather", g.f("Shape", x), g.c(values=np.int64(1))), g.c(values=np.int64(1))))
        ways = [helper.make_graph([helper.make_node(op, ["x0"], [name])], name, [], [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)]) for op, name in (("Sinh", "a"), ("Tanh", "b"))]
        return g.f("If", test, then_branch=ways[0], else_branch=ways[1])

    yield "layer norm", layer_norm, nn.LayerNorm
    yield "branch by size of an axis", lambda g, x: branch(g, x, False), nn.Tanh
    yield "branch by size of all", lambda g, x: branch(g, x, True), nn.Tanh


def images():
    """Of x0 (batch, 4, 7, 8)."""
    for auto in ("SAME_UPPER", "SAME_LOWER", "VALID"):
        yield f"conv {auto}", lambda g, x, a=auto: g.f("Conv", x, g.c(6, 2, 3, 4), g.c(6), auto_pad=a, strides=[2, 1], group=2)
    yield "conv of unequal sides", lambda g, x: g.f("Conv", x, g.c(6, 4, 2, 2), pads=[0, 1, 1, 0])
    yield "same", lambda g, x: g.f("Conv", x, g.c(6, 4, 2, 4), pads=[0, 1, 1, 2])
    for mode in ("reflect", "edge"):
        yield f"pad {mode}", lambda g, x, m=mode: g.f("Conv", g.f("Pad", x, g.c(values=[0, 0, 1, 2, 0, 0, 1, 2]), mode=m),
                                                      g.c(6, 4, 3, 3))
    yield "padded", lambda g, x: g.f("Pad", x, g.c(values=[0, 0, 1, 2, 0, 0, 0, 1]))
    yield "transposed", lambda g, x: g.f("ConvTranspose", x, g.c(4, 3, 3, 3), g.c(6), group=2, strides=[2, 2], pads=[1, 1, 1, 1],
                                         output_padding=[1, 1])
    yield "transposed to a shape", lambda g, x: g.f("ConvTranspose", x, g.c(4, 3, 4, 4), strides=[2, 2], output_shape=[14, 16])
    yield "pool same", lambda g, x: g.f("AveragePool", x, kernel_shape=[2, 2], auto_pad="SAME_UPPER", count_include_pad=1)
    yield "max pool same", lambda g, x: g.f("MaxPool", g.f("Relu", x), kernel_shape=[2, 2], auto_pad="SAME_UPPER")
    yield "a number", lambda g, x: g.f("Add", x, g.c(1))
    yield "remainders", lambda g, x: g.f("Add", x, g.f("Mod", *(g.c(values=np.float32(v).reshape(4, 1, 1)) for v in (
        [-7, 5, 7, -2], [3, 3, -3, 5])), fmod=1))
    yield "max pool", lambda g, x: g.f("MaxPool", x, kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 0])
    for op, how in (("MaxPool", {}), ("AveragePool", {}), ("AveragePool", {"count_include_pad": 1})):
        for pads in ([0] * 4, [1] * 4):
            yield f"{op} ceil {pads} {how}", lambda g, x, op=op, how=how, pads=pads: g.f(
                op, x, kernel_shape=[3, 3], strides=[2, 3], pads=pads, ceil_mode=1, **how)
    yield "global", lambda g, x: g.f("GlobalMaxPool", x)
    yield "batch norm", lambda g, x: g.f("BatchNormalization", x, g.c(4), g.c(4), g.c(4), g.c(values=np.float32([1, 2, 3, 4])))
    yield "instance norm", lambda g, x: g.f("InstanceNormalization", x, g.c(4), g.c(4))
    yield "excited", lambda g, x: g.f("Mul", x, g.f("Sigmoid", g.f("GlobalAveragePool", x)))
    yield "channels", lambda g, x: g.f("Add", g.f("Mul", x, g.c(4, 1, 1)), g.c(1, 4, 1, 1))
    yield "prelu", lambda g, x: g.f("PRelu", x, g.c(4, 1, 1))
    yield "nearest", lambda g, x: g.f("Resize", x, "", g.c(values=np.float32([1, 1, 2, 3])), mode="nearest", nearest_mode="floor",
                                      coordinate_transformation_mode="asymmetric")
    yield "linear", lambda g, x: g.f("Resize", x, "", "", g.c(values=[2, 4, 9, 11]), mode="linear")
    yield "shuffle", lambda g, x: g.f("DepthToSpace", x, blocksize=2, mode="CRD")


def sequences():
    """Of x0 (6, batch, 5): time first."""
    for op, G, options in (("LSTM", 4, {}), ("GRU", 3, {}), ("GRU", 3, {"linear_before_reset": 1}), ("RNN", 1, {}),
                           ("RNN", 1, {"activations": ["Relu"]})):
        for direction in ("forward", "reverse", "bidirectional"):
            D = 1 + (direction == "bidirectional")
            how = {k: v * D if k == "activations" else v for k, v in options.items()}
            for which in ("Y", "Y_h", "both"):
                def build(g, x, op=op, G=G, D=D, direction=direction, how=how, which=which):
                    W, R, B = g.c(D, G * 3, 5), g.c(D, G * 3, 3), g.c(D, 2 * G * 3)
                    y, h = g.f(op, x, W, R, B, outputs=2, hidden_size=3, direction=direction, **how)
                    flat = g.f("Reshape", g.f("Transpose", y, perm=[0, 2, 1, 3]), g.c(values=[0, 0, -1]))
                    last = g.f("Reshape", g.f("Transpose", h, perm=[1, 0, 2]), g.c(values=[0, -1]))
                    steps = g.f("Transpose", flat, perm=[1, 0, 2])
                    return {"Y": steps, "Y_h": last, "both": g.f("Add", last, g.f("ReduceMean", steps, g.c(values=[1]),
                                                                                   keepdims=0))}[which]
                yield f"{op} {options} {direction} {which}", build


BY_HAND = [*((n, f, ["batch", 4, 5], kind, 18) for n, f, kind in patterns()),
           *((n, f, ["batch", 4, 5], nn.ZeroPad2d, 18) for n, f in padded()),
           *((n, f, ["batch", 4, 5], kind, 13) for n, f, kind in older()),
           *((n, f, ["batch", 4, 6], nn.DotProductAttention, opset) for n, f, opset in attention()),
           *((n, f, ["batch", 4, 7, 8], None, 18) for n, f in images()),
           *((n, f, [6, "batch", 5], None, 18) for n, f in sequences())]


@pytest.mark.parametrize("name, build, shape, kind, opset", BY_HAND, ids=[f"{c[0]} {len(c[2])}" for c in BY_HAND])
def test_operators(name, build, shape, kind, opset, tmp_path):
    """Written by hand, as ONNX's standard says and exporters do: what ONNX Runtime computes, the model computes."""
    file, path = File(shape, opset=opset), tmp_path / "a.onnx"
    file.save(path, build(file, "x0"))
    axis = shape.index("batch")
    x = np.random.default_rng(1).normal(size=[n if n != "batch" else 2 for n in shape]).astype(np.float32)
    wanted = session(path).run(None, {"x0": x})[0]
    model = Model.from_onnx(path)
    got = first(model.predict(np.moveaxis(x, axis, 0)))
    assert got.shape == wanted.shape and np.abs(got - wanted).max() <= 3e-6 * max(1, np.abs(wanted).max())
    if kind is not None:
        assert any(type(layer) is kind for _, layer in model.layer.walk()), model.layer
