"""ONNX files: ONNX Runtime computes what the model predicts, for every layer and option, and both dtypes."""
import numpy as np
import pytest

from tinydl import Model, nn

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

from layer_cases import CASES, ROWS, inputs_for, model_of  # noqa: E402 - behind the lines that skip

from tinydl import onnx as bridge  # noqa: E402
from tinydl.nn.attention import Projection  # noqa: E402
from tinydl.nn.layer import REGISTRY  # noqa: E402
from tinydl.onnx.writer import EXPORTS  # noqa: E402


def session(path, **options):
    settings = ort.SessionOptions()
    settings.log_severity_level, settings.intra_op_num_threads = 3, 1
    return ort.InferenceSession(path, settings, providers=["CPUExecutionProvider"], **options)


def checked(path):
    """The file after strict inference of shapes: each output has the shape that it says."""
    made = onnx.load(path)
    onnx.checker.check_model(made, full_check=True)
    onnx.shape_inference.infer_shapes(made, check_type=True, strict_mode=True, data_prop=True)
    return made


def compare(model, tmp_path, **options):
    path = tmp_path / "model.onnx"
    model.to_onnx(path, **options)
    checked(path)
    x = inputs_for(model)
    wanted = model.predict(x)
    wanted = list(wanted.values()) if isinstance(wanted, dict) else list(wanted) if isinstance(wanted, tuple) else [wanted]
    run = session(path)
    tolerance = 3e-6 if model.dtype == np.float32 else 1e-13     # some 30 roundings
    for rows in (ROWS, 1):
        got = run.run(None, {name: a[:rows] for name, a in x.items()})
        for a, b in zip(got, wanted, strict=True):
            assert a.dtype == model.dtype and a.shape == b[:rows].shape
            scale = max(1.0, float(np.abs(b).max()))
            assert np.abs(a - b[:rows]).max() <= tolerance * scale, np.abs(a - b[:rows]).max() / scale


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_layers(case, tmp_path):
    compare(model_of(case, "float32"), tmp_path)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_float64_is_exact_or_refused(case, tmp_path):
    model = model_of(case, "float64")
    kinds = (nn.LSTM, nn.GRU, nn.RNN, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.AvgPool1d, nn.AvgPool2d)
    layer = case[0]
    if isinstance(layer, kinds) or "'none'" in repr(layer) or "'gelu'" in repr(layer):
        with pytest.raises(ValueError, match=r"layer 0(\.act)?, .* in float32 alone, and the model is float64"):
            model.to_onnx(tmp_path / "model.onnx")
        assert not list(tmp_path.iterdir())
    else:
        compare(model, tmp_path)


def test_every_layer_has_an_export_and_a_case():
    theirs = {layer for layer in REGISTRY.values() if layer.__module__.startswith("tinydl.nn.")}
    made_of_layers = {nn.Sequential, nn.Residual, nn.Graph}
    assert theirs - made_of_layers == set(EXPORTS) - {Projection}
    seen = {type(layer) for case in CASES for _, layer in case[0].walk()}
    assert theirs - {nn.Graph} <= seen | {nn.TiedLinear}       # which the graph below has


def network():
    """Two inputs, of integers and numbers; tied weights, a layer called twice, layers in layers, two named outputs."""
    words, x = nn.Input((4,), "int64", name="words"), nn.Input((3,), name="0.weight")
    table, shared = nn.Embedding(9, 3), nn.Linear(3, 3)
    both = nn.Sequential(nn.Residual(nn.Sequential(shared, nn.GELU("tanh"))), nn.Dropout(0.3), nn.LayerNorm(3))
    steps = shared(both(table(words)))
    scores = nn.TiedLinear(table)(steps)
    return {"inputs": [words, x], "outputs": {"scores": scores, "x": nn.Add()([shared(x), nn.Mean(0)(steps)])}}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_graphs(dtype, tmp_path):
    model = Model(**network(), dtype=dtype, seed=0)
    compare(model, tmp_path)
    made = checked(tmp_path / "model.onnx")
    assert [o.name for o in made.graph.output] == ["scores", "x"]
    assert [d.dim_param or d.dim_value for d in made.graph.output[0].type.tensor_type.shape.dim] == ["batch", 4, 9]
    stored = {i.name.removeprefix("parameter "): onnx.numpy_helper.to_array(i) for i in made.graph.initializer}
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(stored[name], values)     # under their names; shared ones once:
    assert sum(a.shape == (9, 3) for a in stored.values()) == 1


def test_several_outputs_without_names(tmp_path):
    x = nn.Input((3,))
    model = Model(inputs=x, outputs=[x, nn.Linear(3, 2)(x), x], seed=0)
    compare(model, tmp_path)
    assert [o.name for o in checked(tmp_path / "model.onnx").graph.output] == ["output0", "output1", "output2"]


@pytest.mark.parametrize("opset", [*bridge.OPSETS])
def test_opsets(opset, tmp_path):
    layers = nn.Sequential(nn.Conv1d(3, 4, 3, padding=1, padding_mode="circular"), nn.BatchNorm1d(4), nn.MaxPool1d(2),
                           nn.Permute((1, 0)), nn.LSTM(4, 6), nn.TransformerEncoderLayer(6, 2, 8, causal=True), nn.RMSNorm(6),
                           nn.Max(0), nn.PReLU(), nn.Softplus(), nn.LogSoftmax())
    compare(Model(inputs=(x := nn.Input((3, 6))), outputs=layers(x), seed=0), tmp_path, opset=opset)
    made = onnx.load(tmp_path / "model.onnx")
    assert [(o.domain, o.version) for o in made.opset_import] == [("", opset)]


def test_versions_are_low_by_default(tmp_path):
    model = Model(nn.Linear(3, 2), seed=0)
    model.to_onnx(tmp_path / "a.onnx")
    made = onnx.load(tmp_path / "a.onnx")
    assert (made.opset_import[0].version, made.ir_version, made.producer_name) == (18, 8, "tinydl")
    model.to_onnx(str(tmp_path / "b.onnx"), ir_version=10)
    assert onnx.load(tmp_path / "b.onnx").ir_version == 10
    with pytest.raises(ValueError, match="opset=17: from 18 to 23"):
        model.to_onnx(tmp_path / "c.onnx", opset=17)
    with pytest.raises(ValueError, match="ir_version=7: opset 18 needs 8 or more"):
        model.to_onnx(tmp_path / "c.onnx", ir_version=7)
    assert not (tmp_path / "c.onnx").exists()


@pytest.mark.parametrize("case", [case for case in CASES if "rotary=True" in repr(case[0])],
                         ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_products_are_not_of_values_turned_for_them(case, tmp_path):
    """ONNX Runtime 1.17 to 1.25 merges MatMul with a Transpose of the last two axes before it, for which it has no kernel in
    float64. Of two Transposes, which it makes one first, it does not."""
    model_of(case, "float64").to_onnx(tmp_path / "model.onnx")
    nodes = onnx.load(tmp_path / "model.onnx").graph.node
    makers = {name: n for n in nodes for name in n.output}
    turned = [makers[name] for n in nodes if n.op_type == "MatMul" for name in n.input if name in makers
              and makers[name].op_type == "Transpose" and list(makers[name].attribute[0].ints) == [0, 1, 3, 2]]
    assert turned and all(makers[n.input[0]].op_type == "Transpose" for n in turned)


def quantized(model, x, path):
    """What the model gives once ONNX Runtime's tool, which is shown x, made 8-bit numbers of all that it can."""
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):
        given = iter((x,))

        def get_next(self):
            return next(self.given, None)
    model.to_onnx(path)
    quantization.quantize_static(str(path), str(path), Reader())
    return session(path).run(None, x)


def test_activations_bear_quantization(tmp_path):
    """Each is within 3 of 255 steps of its values."""
    x = np.linspace(-8, 8, 256, dtype=np.float32).reshape(64, 4)
    row = nn.Input((4,), name="x")
    model = Model(inputs=row, outputs=[layer(row) for layer in (nn.SiLU(), nn.Mish(), nn.Hardswish(), nn.ELU(), nn.Softplus())])
    for y, wanted in zip(quantized(model, {"x": x}, tmp_path / "model.onnx"), model.predict(x), strict=True):
        assert np.abs(y - wanted).max() <= 3 / 255 * 16


@pytest.mark.parametrize("kind, outputs", [(nn.LSTM, 3), (nn.GRU, 2), (nn.RNN, 2)])
@pytest.mark.parametrize("sequences", [True, False])
def test_all_outputs_of_nodes_have_names(kind, outputs, sequences, tmp_path):
    """Of two nodes that have outputs without one, quant_pre_process of ONNX Runtime says that the graph is cyclic; MNN's
    converter ends with a fault where an LSTM has less than three."""
    steps = nn.Input((4, 5))
    Model(inputs=steps, outputs=kind(5, 6, num_layers=2, return_sequences=sequences)(steps)).to_onnx(tmp_path / "model.onnx")
    nodes = [n for n in onnx.load(tmp_path / "model.onnx").graph.node if n.op_type == kind.__name__]
    assert [len(n.output) for n in nodes] == [outputs] * 2 and all(name for n in nodes for name in n.output)


def test_one_number_scales_queries_in_float32(tmp_path):
    """Of queries that a vector scales OpenVINO, told all sizes, makes something else where there are as many steps as heads."""
    for dtype, shape in (("float32", []), ("float64", [3])):
        Model(nn.MultiheadAttention(6, 2), dtype=dtype, seed=0).to_onnx(tmp_path / "model.onnx", input_shape=(2, 6))
        graph = onnx.load(tmp_path / "model.onnx").graph
        scales = [n.input[1] for n in graph.node if n.op_type == "Mul"]
        assert [list(i.dims) for i in graph.initializer if i.name in scales] == [shape]


def test_nothing_is_cast_to_float32(tmp_path):
    """A converter to float16, onnxconverter-common, changes all of a layer but that."""
    for case in CASES:
        model_of(case, "float32").to_onnx(tmp_path / "model.onnx")
        casts = [n for n in onnx.load(tmp_path / "model.onnx").graph.node if n.op_type == "Cast"]
        assert all(n.attribute[0].i != onnx.TensorProto.FLOAT for n in casts), case


def test_what_lies_beyond_a_length_does_not_matter(tmp_path):
    x, memory, lengths = nn.Input((4, 6), name="x"), nn.Input((5, 6), name="memory"), nn.Input((), "int64", name="lengths")
    layers = [nn.LSTM(6, 3, bidirectional=True), nn.GRU(6, 3, return_sequences=False), nn.RNN(6, 3, return_sequences=False),
              nn.MultiheadAttention(6, 2), nn.TransformerEncoderLayer(6, 2, 8), nn.LastStep(), nn.MeanSteps()]
    outputs = [*(layer([x, lengths]) for layer in layers), nn.MultiheadAttention(6, 2)([x, memory, lengths]),
               nn.TransformerDecoderLayer(6, 2, 8)([x, memory, lengths, lengths])]
    model = Model(inputs=[x, memory, lengths], outputs=outputs, seed=0)
    model.to_onnx(tmp_path / "model.onnx")
    run, given = session(tmp_path / "model.onnx"), inputs_for(model)
    plain = run.run(None, given)
    for name, bad in (("x", np.nan), ("memory", np.inf)):
        for row, n in zip(given[name], given["lengths"], strict=True):
            row[n:] = bad
    for i, (a, b) in enumerate(zip(run.run(None, given), plain, strict=True)):
        if i == len(layers):        # attention to memory, whose lengths are: all steps of x are queries
            a, b = (np.where(np.isnan(given["x"]), 0, y) for y in (a, b))
        np.testing.assert_array_equal(a, b, err_msg=repr(outputs[i]))


class Twice(nn.PythonLayer):
    def forward(self, x):
        return 2 * x, None


class Other(nn.Linear):
    """It may compute anything."""


def test_a_layer_without_export_is_named_with_its_place(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    model = Model(nn.Sequential(nn.Linear(3, 3), nn.Residual(nn.Sequential(nn.ReLU(), Twice()))), seed=0)
    with pytest.raises(ValueError, match=r"layer 1\.layer\.1, Twice\(\), has no export to ONNX"):
        model.to_onnx(path)
    with pytest.raises(ValueError, match=r"layer of the model, Other\(.*\), has no export"):
        Model(Other(3, 2)).to_onnx(path)
    assert path.read_bytes() == b"before" and len(list(tmp_path.iterdir())) == 1


def test_an_export_of_ones_own(monkeypatch, tmp_path):
    monkeypatch.setitem(EXPORTS, Twice, None)       # taken out again afterwards

    @bridge.exports(Twice)
    def twice(w, layer, x):
        return w.op("Mul", x, w.numbers(2))
    compare(Model(inputs=(x := nn.Input((3,))), outputs=Twice()(x)), tmp_path)


def test_at_the_door(monkeypatch, tmp_path):
    x, i = nn.Input((3,), name="x"), nn.Input((2,), "int64", name="i")
    for model, message in (
            (Model(nn.ReLU()), "pass input_shape"),
            (Model(inputs=x, outputs={"x": nn.ReLU()(x)}), "output 'x' has the name of an input"),
            (Model(inputs=[x, i], outputs=[nn.ReLU()(x), nn.Slice(0, 1)(i)]), "output 'output1' is integers")):
        with pytest.raises(ValueError, match=message):
            model.to_onnx(tmp_path / "model.onnx")
    Model(nn.ReLU()).to_onnx(tmp_path / "given.onnx", input_shape=(4,))
    monkeypatch.setattr(bridge, "LARGEST", 100)
    with pytest.raises(ValueError, match="ONNX's format ends at 100"):
        Model(nn.Linear(3, 2)).to_onnx(tmp_path / "model.onnx")
    assert [p.name for p in tmp_path.iterdir()] == ["given.onnx"]


@pytest.mark.parametrize("layers, shape, free", [
    (lambda: [nn.Linear(3, 6), nn.LSTM(6, 6), nn.TransformerEncoderLayer(6, 2, 8, causal=True), nn.LastStep()], (4, 3), {0}),
    (lambda: [nn.Embedding(9, 6), nn.PositionalEncoding(6, 9, learned=True), nn.GRU(6, 5, num_layers=2)], (4,), {0}),
    (lambda: [nn.Embedding(9, 6), nn.PositionalEncoding(6), nn.MeanSteps()], (4,), set()),
    (lambda: [nn.Conv2d(2, 3, 3, stride=2), nn.BatchNorm2d(3), nn.AvgPool2d(2), nn.GlobalAvgPool(), nn.Linear(3, 2)], (2, 9, 8),
     {1, 2}),
    (lambda: [nn.Conv1d(2, 3, 3), nn.Flatten()], (2, 9), set()),
    (lambda: [nn.Upsample((4, 5))], (2, 3, 3), {0}),
    (lambda: [nn.Mean(1), nn.ReLU()], (2, 3), {0, 1})])
def test_axes_are_free_where_they_may_be(layers, shape, free, tmp_path):
    """A file takes other sizes, and computes as the model does, along just those axes."""
    model, path = Model(nn.Sequential(*layers()), seed=0), tmp_path / "model.onnx"
    model.to_onnx(path, input_shape=shape)
    dims, out = (v[0].type.tensor_type.shape.dim for v in (checked(path).graph.input, checked(path).graph.output))
    assert {i for i in range(len(shape)) if dims[i + 1].dim_param} == free
    larger, rng = tuple(n + 3 * (i in free) for i, n in enumerate(shape)), np.random.default_rng(0)
    run = session(path)
    for size in (shape, larger):
        x = rng.integers(0, 9, (ROWS, *size)) if model.inputs[0][2] else rng.normal(size=(ROWS, *size)).astype(np.float32)
        wanted = model.predict(x)
        assert all(d.dim_value in (0, n) for d, n in zip(out, wanted.shape, strict=True))
        np.testing.assert_allclose(run.run(None, {"x": x})[0], wanted, rtol=0, atol=3e-6 * max(1, np.abs(wanted).max()))
