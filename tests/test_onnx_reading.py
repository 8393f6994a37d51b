"""ONNX files as models: what `to_onnx` wrote comes back, and what others wrote computes what ONNX Runtime computes of it."""
import copy
import json
from pathlib import Path

import numpy as np
import pytest

from tinydl import Model, Trainer, data, losses, nn, optim

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

import test_onnx  # noqa: E402 - behind the lines that skip
from layer_cases import CASES, inputs_for, model_of  # noqa: E402
from onnx import helper, numpy_helper  # noqa: E402
from test_onnx import session  # noqa: E402
from test_onnx_operators import File, first  # noqa: E402

DATA = Path(__file__).parent / "data"
#: layers that come back only as what they are, of files of tinydl that nobody changed: no other exporter writes them so
OWN_ALONE = (nn.PeriodicEmbedding, nn.PiecewiseLinearEmbedding, nn.Upsample, nn.AdaptiveAvgPool2d, nn.LinearEnsemble,
             nn.LearnedTokens, nn.CRF)
ATTENTION = (nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)


def given(model, x):
    return x if len(model.inputs) > 1 or model.input_names[0] in x else next(iter(x.values()))


def assert_trains(model, x):
    """A step of training moves every parameter, but those that cannot."""
    before, x = model.state_dict(), given(model, x)
    y = np.random.default_rng(0).normal(size=first(model.predict(x)).shape)
    named = model.output_names
    loss = losses.MeanSquaredError()
    with Trainer(1, seed=0) as t:
        t.init(data.ArrayDataset(x, {named[0]: y} if named else y, batch_size=len(y)), model,
               losses.Joint({named[0]: loss}) if named else loss, optim.SGD(0.1))
        t.train()
    after = model.state_dict()
    for name, p in model._parameters.items():
        if not p.frozen and not name.endswith(("bias_hh_l0", "in_proj_bias", "k_proj_weight")):      # a query may have one key
            assert not np.array_equal(before[name], after[name]) or not model.num_parameters, name


def without_notes(path):
    made = onnx.load(path)
    del made.metadata_props[:]
    onnx.save(made, path)


# ---------------------------------------------------------------------- tinydl's own files
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_every_layer_comes_back(case, tmp_path):
    """As it was, bit for bit; and, where operators alone say it, within rounding."""
    model, path = model_of(case, "float32"), tmp_path / "a.onnx"
    model.to_onnx(path)
    x = inputs_for(model)
    wanted = first(model.predict(x))
    back = Model.from_onnx(path)
    assert repr(back) == repr(model) and back.input_shape == model.input_shape
    np.testing.assert_array_equal(first(back.predict(x)), wanted)
    assert all(np.array_equal(back.state_dict()[name], a) for name, a in model.state_dict().items())
    without_notes(path)
    picks = getattr(case[0], "padding_mode", "zeros") != "zeros"
    lengths = ("int64", ()) in case[1:] and not (isinstance(case[0], (nn.LSTM, nn.GRU, nn.RNN)) and case[0].return_sequences)
    bag = isinstance(case[0], nn.EmbeddingBag) and case[0].padding_idx is not None
    cut = getattr(case[0], "ceil_mode", False) and (      # windows that are cut off count less; pixels of -inf
        (isinstance(case[0], nn.AvgPool2d) and case[0].count_include_pad and not case[0].divisor_override)
        or case[0].dilation[0] == 3)
    masked = isinstance(case[0], ATTENTION) and (any(s[0] == "int64" for s in case[1:]) or "rotary=True" in repr(case[0]))
    members = isinstance(case[0], nn.LinearBatchEnsemble) and case[1] == (5,)      # each row is repeated for them
    if isinstance(case[0], OWN_ALONE) or picks or lengths or bag or cut or masked or members:
        with pytest.raises(ValueError, match="has what no layer of tinydl computes"):
            Model.from_onnx(path)
        return
    read = Model.from_onnx(path)
    got = first(read.predict(given(read, x)))
    assert got.shape == wanted.shape and np.abs(got - wanted).max() <= 3e-6 * max(1.0, np.abs(wanted).max())
    read.save(tmp_path / "model.tinydl")
    np.testing.assert_array_equal(first(Model.load(tmp_path / "model.tinydl").predict(given(read, x))), got)


TRAINED = [case for case in CASES if list(case[0].named_parameters())][::3]


@pytest.mark.parametrize("case", TRAINED, ids=lambda case: f"{case[0]!r} {case[1:]}"[:90])
def test_what_comes_back_trains(case, tmp_path):
    model, path = model_of(case, "float32"), tmp_path / "a.onnx"
    model.to_onnx(path)
    back = Model.from_onnx(path)
    assert_trains(back, inputs_for(model))
    before = first(back.predict(inputs_for(model)))
    back.save(tmp_path / "model.tinydl")
    np.testing.assert_array_equal(first(Model.load(tmp_path / "model.tinydl").predict(inputs_for(model))), before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_graphs_come_back(dtype, tmp_path):
    model = Model(**test_onnx.network(), dtype=dtype, seed=0)
    model.freeze("0.weight")
    model.to_onnx(tmp_path / "a.onnx")
    x = inputs_for(model)
    for read in ("as it is", "by operators"):
        back = Model.from_onnx(tmp_path / "a.onnx")
        assert back.dtype == model.dtype and back.output_names == ["scores", "x"] and back.input_names == model.input_names
        for name, y in model.predict(x).items():
            np.testing.assert_allclose(back.predict(x)[name], y, rtol=0, atol=1e-13 if dtype == "float64" else 2e-6)
        if read == "as it is":
            assert back.frozen == model.frozen and back.num_parameters == model.num_parameters
        without_notes(tmp_path / "a.onnx")
    assert len({p for p in back._parameters.values() if p.shape == (9, 3)}) == 1       # the table and its scores stay one


def test_other_opsets_come_back(tmp_path):
    model = Model(nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.MultiheadAttention(6, 2)), seed=0)
    for opset in (18, 23):
        model.to_onnx(tmp_path / "a.onnx", opset=opset, input_shape=(3, 4))
        assert repr(Model.from_onnx(tmp_path / "a.onnx").layer) == repr(model.layer)


def test_values_that_were_changed_count_and_a_changed_graph_is_read_as_it_is(tmp_path):
    model = Model(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Dropout(0.3), nn.Linear(4, 2)), seed=0)
    path, x = tmp_path / "a.onnx", np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    model.to_onnx(path)
    file = onnx.load(path)
    weight = next(i for i in file.graph.initializer if i.name == "0.weight")
    weight.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(weight), "0.weight"))
    onnx.save(file, path)
    back = Model.from_onnx(path)
    assert repr(back.layer) == repr(model.layer)
    np.testing.assert_array_equal(back.state_dict()["0.weight"], 2 * model.state_dict()["0.weight"])
    for node in file.graph.node:
        if node.op_type == "Relu":
            node.op_type = "Tanh"
    onnx.save(file, path)
    back = Model.from_onnx(path)
    assert [type(layer) for layer in back.layer.layers] == [nn.Linear, nn.Tanh, nn.Linear]
    np.testing.assert_allclose(back.predict(x), session(path).run(None, {"x": x})[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype, dims", [("float32", []), ("float64", [3])])
def test_attention_that_was_changed_is_read_as_it_is(dtype, dims, tmp_path):
    model = Model(nn.MultiheadAttention(6, 2), dtype=dtype, seed=0)
    model.to_onnx(tmp_path / "a.onnx", input_shape=(4, 6))
    file = onnx.load(tmp_path / "a.onnx")
    scale = next(i for i in file.graph.initializer if list(i.dims) == dims)      # that of the scores
    scale.CopyFrom(numpy_helper.from_array(3 * numpy_helper.to_array(scale), scale.name))
    onnx.save(file, tmp_path / "a.onnx")
    back, x = Model.from_onnx(tmp_path / "a.onnx", input_shape=(4, 6)), np.random.default_rng(0).normal(size=(3, 4, 6))
    wanted = session(tmp_path / "a.onnx").run(None, {"x": x.astype(dtype)})[0]
    np.testing.assert_allclose(back.predict(x), wanted, rtol=0, atol=2e-6)
    scales = [layer.scale for layer in back.layer.layers if isinstance(layer, nn.DotProductAttention)]
    assert scales == pytest.approx([3 ** 0.5])


# ---------------------------------------------------------------------- others' files
@pytest.mark.parametrize("name, layers", [
    ("torch_cnn", [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Conv2d, nn.GroupNorm, nn.SiLU, nn.GlobalAvgPool,
                   nn.Linear]),
    ("torch_lstm", [nn.LSTM, nn.LSTM, nn.Mean, nn.GELU, nn.Linear]),
    ("torch_attention", [nn.Linear, nn.Permute, *[nn.Slice] * 3, nn.DotProductAttention, nn.Linear]),
    ("torch_vit", [nn.Conv2d, nn.Permute, nn.LearnedTokens, nn.Concat, nn.PositionalEncoding, nn.LayerNorm, nn.Linear, nn.Permute,
                   *[nn.Slice] * 3, nn.DotProductAttention, nn.Linear, nn.Add, nn.LayerNorm, nn.Linear, nn.GELU, nn.Linear,
                   nn.Add, nn.Slice, nn.Linear]),
    ("sklearn_mlp", [nn.Linear, nn.ReLU, nn.Linear, nn.Softmax])])
def test_files_of_other_exporters(name, layers, tmp_path):
    """Written by torch.onnx (TorchScript with training=PRESERVE, and the newer exporter) and skl2onnx."""
    model = Model.from_onnx(DATA / f"{name}.onnx", outputs=["probabilities"] if name == "sklearn_mlp" else None)
    assert [type(layer) for layer in model.layer.layers if not isinstance(layer, nn.Reshape)] == layers
    with np.load(DATA / f"{name}.npz") as file:
        known = dict(file)
    assert np.abs(model.predict(known["x"]) - known["y"]).max() <= 2e-6 * np.abs(known["y"]).max()
    model.to_onnx(tmp_path / "again.onnx")
    np.testing.assert_allclose(session(tmp_path / "again.onnx").run(None, {"x": known["x"]})[0], known["y"], rtol=0, atol=3e-6)
    assert_trains(model, {"x": known["x"]})


def test_labels_of_sklearn_are_refused_by_name():
    with pytest.raises(ValueError, match=r"(?s)ArgMax \(node 'ArgMax'\): no layer.*ai.onnx.ml.ArrayFeatureExtractor.*"
                                         r"'probabilities' can be read: pass outputs=\['probabilities'\]"):
        Model.from_onnx(DATA / "sklearn_mlp.onnx")


def test_weights_that_are_shared_stay_one(tmp_path):
    file = File(["n", 5], opset=18)
    w, b = file.c(5, 5), file.c(5)
    h = file.f("Gemm", "x0", w, b, transB=1)
    h = file.f("Gemm", file.f("Tanh", h), w, b, transB=1)
    h = file.f("MatMul", h, w)                    # the same, but transposed
    file.save(tmp_path / "a.onnx", file.f("Add", file.f("MatMul", h, w), b))
    model = Model.from_onnx(tmp_path / "a.onnx")
    assert model.num_parameters == 25 + 5
    x = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    wanted = session(tmp_path / "a.onnx").run(None, {"x0": x})[0]
    np.testing.assert_allclose(first(model.predict(x)), wanted, rtol=1e-4, atol=1e-4)
    model.save(tmp_path / "m")
    assert Model.load(tmp_path / "m").num_parameters == 30


def test_weights_that_are_equal_by_chance_are_not_shared(tmp_path):
    """PyTorch's exporters write equal parameters once: those of two norms that nobody trained."""
    file = File(["n", 5], opset=18)
    ones, zeros = file.c(values=np.ones(5, np.float32)), file.c(values=np.zeros(5, np.float32))
    h = file.f("LayerNormalization", "x0", ones, zeros)
    h = file.f("LayerNormalization", file.f("Gemm", h, file.c(5, 5), zeros), ones, zeros)
    file.save(tmp_path / "a.onnx", file.f("Gemm", h, file.c(5, 5), zeros))
    assert Model.from_onnx(tmp_path / "a.onnx").num_parameters == 2 * 10 + 2 * 30


# ---------------------------------------------------------------------- inputs and outputs
def test_open_sizes_need_input_shape(tmp_path):
    file = File(["batch", "time", 5])
    file.save(tmp_path / "a.onnx", file.f("Transpose", file.f("Tanh", "x0"), perm=[0, 2, 1]))
    with pytest.raises(ValueError, match=r"leaves sizes of input 'x0' open, \(time, 5\): pass input_shape"):
        Model.from_onnx(tmp_path / "a.onnx")
    with pytest.raises(ValueError, match=r"input_shape=\(3, 6\): samples of 'x0' in .* are time, 5"):
        Model.from_onnx(tmp_path / "a.onnx", input_shape=(3, 6))
    for shape in ((3, 5), {"x0": (3, 5)}, [(3, 5)]):
        model = Model.from_onnx(tmp_path / "a.onnx", input_shape=shape)
        assert model.output_shape() == (5, 3) and model.output_shape((7, 5)) == (5, 7)      # layers in a row take others too


def test_a_fixed_number_of_rows_is_no_matter(tmp_path):
    file = File([3, 4, 5])
    file.save(tmp_path / "a.onnx", file.f("Reshape", file.f("Relu", "x0"), file.c(values=[3, 20])))
    assert Model.from_onnx(tmp_path / "a.onnx").predict(np.ones((7, 4, 5))).shape == (7, 20)


def one_way(op):
    """A branch of an If, of x0."""
    end = helper.make_tensor_value_info(f"{op} of x0", onnx.TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(op, ["x0"], [end.name])], op, [], [end])


def test_an_input_without_an_axis_of_samples_can_be_made_a_constant(tmp_path):
    file, path = File(["batch", 4], []), tmp_path / "a.onnx"
    above = file.f("Greater", "x1", file.c(values=np.float32(2)))
    file.save(path, file.f("If", above, then_branch=one_way("Tanh"), else_branch=one_way("Relu")))
    with pytest.raises(ValueError, match=r"input 'x1' is one value for all samples, .* Make it a constant .*'float32'"):
        Model.from_onnx(path)
    x, made = np.linspace(-2, 2, 12, dtype=np.float32).reshape(3, 4), onnx.load(path)
    for value, layer in ((3, nn.Tanh()), (1, nn.ReLU())):
        made.graph.initializer.append(numpy_helper.from_array(np.array(value, "float32"), "x1"))
        onnx.save(made, path)
        np.testing.assert_array_equal(Model.from_onnx(path).predict(x), Model(layer).predict(x))
        del made.graph.initializer[-1]


def test_indices_that_may_count_from_the_end_are_read_and_refused_later(tmp_path):
    """As Keras writes an Embedding."""
    file, path = File(), tmp_path / "a.onnx"
    file.inputs.append(helper.make_tensor_value_info("i", onnx.TensorProto.INT64, ["batch", 3]))
    below, end = file.f("Less", "i", file.c(values=np.int64(0))), file.f("Add", "i", file.c(values=np.int64(5)))
    file.save(path, file.f("Gather", file.c(5, 4), file.f("Where", below, end, "i")))
    model, i = Model.from_onnx(path), np.array([[0, 1, 4], [3, 2, 2]])
    np.testing.assert_array_equal(model.predict(i), session(path).run(None, {"i": i})[0])
    with pytest.raises(ValueError, match="the integer -1 is out of range"):
        model.predict(i - 1)


def test_columns_of_integers_have_an_embedding_each(tmp_path):
    file, path = File(["batch", 2]), tmp_path / "a.onnx"
    file.inputs.append(helper.make_tensor_value_info("codes", onnx.TensorProto.INT64, ["batch", 3]))
    columns = [file.f("Gather", "codes", file.c(values=np.int64(i)), axis=1) for i in range(3)]
    file.save(path, file.f("Concat", "x0", *(file.f("Gather", file.c(5, 4), column) for column in columns), axis=1))
    rng = np.random.default_rng(0)
    x = {"x0": rng.normal(size=(7, 2)).astype(np.float32), "codes": rng.integers(0, 5, (7, 3))}
    model = Model.from_onnx(path)
    np.testing.assert_array_equal(model.predict(x), session(path).run(None, x)[0])
    assert_trains(model, x)


def test_outputs_are_chosen(tmp_path):
    file = File(["batch", 4], ["batch", 5])
    y, z = file.f("Gemm", "x0", file.c(4, 3)), file.f("Det", "x1")
    file.save(tmp_path / "a.onnx", y, z)
    model = Model.from_onnx(tmp_path / "a.onnx", outputs=[y])
    assert model.predict(np.ones((2, 4))).shape == (2, 3)           # without the input that it does not need
    z = file.f("Add", file.f("Tanh", y), file.f("Sigmoid", y))
    file.save(tmp_path / "b.onnx", z, y)
    assert Model.from_onnx(tmp_path / "b.onnx", outputs=[z]).predict(np.ones((2, 4))).shape == (2, 3)      # an array, not a dict
    assert list(Model.from_onnx(tmp_path / "b.onnx").predict(np.ones((2, 4)))) == [z, y]
    with pytest.raises(ValueError, match="has no output 'other'; it has"):
        Model.from_onnx(tmp_path / "a.onnx", outputs=["other"])


def test_all_that_is_unknown_is_named_at_once(tmp_path):
    file = File(["batch", 4, 4])
    a, b = file.f("Det", "x0"), file.f("Sign", file.f("Erf", "x0"))
    unused = file.f("Sinh", "x0")
    file.save(tmp_path / "a.onnx", file.f("Add", file.f("Relu", a), a), b)
    with pytest.raises(ValueError) as e:
        Model.from_onnx(tmp_path / "a.onnx")
    lines = str(e.value).splitlines()[1:]
    assert [line.split(")")[0].strip() for line in lines] == ["Det (node 'Det-0'", "Erf (node 'Erf-1'", "Sign (node 'Sign-2'"]
    assert unused and "Sinh" not in str(e.value)


@pytest.mark.parametrize("build, message", [
    (lambda g: g.f("MatMul", "x0", g.f("Transpose", "x0", perm=[0, 2, 1])), "it multiplies two computed values"),
    (lambda g: g.f("ReduceMean", "x0", g.c(values=[0])), "works along axis 0, that of the samples"),
    (lambda g: g.f("Reshape", "x0", g.c(values=[-1, 5])), r"samples are mixed in its axes, \(4 batch, 5\)"),
    (lambda g: g.f("Reshape", "x0", g.c(values=[2, -1])), r"samples are mixed: \(batch, 4, 5\) becomes \(2, 10 batch\)"),
    (lambda g: g.f("Clip", "x0", g.c(values=np.float32(6)), g.c(values=np.float32(0))), "min_val must be below max_val"),
    (lambda g: g.f("MatMul", g.f("Softmax", g.f("Add", g.f("MatMul", "x0", g.f("Transpose", "x0", perm=[0, 2, 1])), g.c(4, 4))),
                   "x0"), "its mask is neither 0 everywhere nor that of causal attention"),
    (lambda g: g.f("MatMul", g.f("Where", g.c(values=np.tri(4, dtype=bool)), g.f("Softmax", g.f("MatMul", "x0", g.f(
        "Transpose", "x0", perm=[0, 2, 1]))), g.c(values=np.float32(0))), "x0"), "behind its softmax it clears weights"),
    (lambda g: g.f("DequantizeLinear", g.f("QuantizeLinear", "x0", g.c(values=np.float32(0.1))), g.c(values=np.float32(0.1))),
     r"(?s)QuantizeLinear \(node .*no layer computes with quantized.*read the one that it was made of"),
    (lambda g: g.f("Conv", "x0", g.c(6, 3, 2)), "they must be"),
    (lambda g: g.f("Pad", "x0", g.c(values=[1, 0, 0, 0, 0, 0])), r"pads=\[1, 0, 0, 0, 0, 0\] of 0.0; samples padded with zeros"),
    (lambda g: g.f("Pad", "x0", g.c(values=[0, 1, 0, 0, 0, 0]), mode="edge"), "of channels"),
    (lambda g: g.f("Gemm", g.f("Flatten", "x0"), g.c(7, 2)), "the last axis must be 7"),
    (lambda g: g.f("MaxPool", "x0", kernel_shape=[2], ceil_mode=1, strides=[3], pads=[0, 1]), "ceil_mode=1, and its padding"),
    (lambda g: g.f("LSTM", g.f("Transpose", "x0", perm=[1, 0, 2]), g.c(1, 8, 5), g.c(1, 8, 2), "", "", g.c(values=np.zeros(
        (1, 3, 2), np.float32)), g.c(values=np.zeros((1, 3, 4), np.float32)), outputs=3, hidden_size=2)[1],
     r"its initial state has shape \(1, 3, 4\), and its weights are of 2 units"),
    (lambda g: g.f("If", g.f("Greater", g.f("ReduceMax", "x0", keepdims=0), g.c(values=np.float32(0))), then_branch=one_way(
        "Relu"), else_branch=one_way("Relu")), r"If \(node 'If-2'\): its condition is no constant here"),
    (lambda g: g.f("CastLike", "x0", g.c(values=np.float16(0))), "numbers into float16, which no layer does"),
    (lambda g: g.f("LSTM", "x0", g.c(1, 12, 5), g.c(1, 12, 3), outputs=3, hidden_size=3)[0], "they must be along axis 1")])
def test_refusals_say_why(build, message, tmp_path):
    file = File(["batch", 4, 5])
    file.save(tmp_path / "a.onnx", build(file))
    with pytest.raises(ValueError, match=message):
        Model.from_onnx(tmp_path / "a.onnx")


# ---------------------------------------------------------------------- files of strangers
def test_damaged_files(tmp_path):
    whole = (DATA / "torch_cnn.onnx").read_bytes()
    for bad in (b"", b"no", whole[:len(whole) // 2], whole[:-1], b"\x00" * 100, np.random.default_rng(0).bytes(1000)):
        (tmp_path / "a.onnx").write_bytes(bad)
        with pytest.raises(ValueError, match=r"a\.onnx is not an ONNX file, or is damaged"):
            Model.from_onnx(tmp_path / "a.onnx")
    with pytest.raises(FileNotFoundError):
        Model.from_onnx(tmp_path / "none.onnx")


def test_sizes_without_data_take_no_memory(tmp_path):
    """Neither those of a constant, nor of what a node would make, nor of the layers that the file's notes name."""
    model, path = Model(nn.Linear(3, 2), seed=0), tmp_path / "a.onnx"
    model.to_onnx(path)
    file = onnx.load(path)
    wide, both = (json.loads(file.metadata_props[0].value) for _ in range(2))
    wide["layer"]["config"].update(out_features=10 ** 12)
    both["layer"]["config"].update(in_features=10 ** 9, out_features=10 ** 9)
    for text in (json.dumps(wide), json.dumps(both), "[" * 100_000, "{}", "null"):
        file.metadata_props[0].value = text
        onnx.save(file, path)
        assert [(layer.in_features, layer.out_features) for layer in Model.from_onnx(path).layer.layers] == [(3, 2)]
    weight = next(i for i in file.graph.initializer if i.name == "weight")
    weight.dims[:] = [10 ** 6, 10 ** 6]
    onnx.save(file, path)
    with pytest.raises(ValueError, match=r"is not an ONNX file, or is damaged|do not fit its shape"):
        Model.from_onnx(path)
    g = File(["batch", 4])
    huge = g.f("ConstantOfShape", g.c(values=[10 ** 6, 10 ** 6]))
    g.save(path, g.f("Add", "x0", g.f("Sqrt", huge)))
    with pytest.raises(ValueError, match="is too large to compute"):
        Model.from_onnx(path)


@pytest.mark.parametrize("build", [
    lambda g, w: g.f("MatMul", "x0", w), lambda g, w: g.f("MatMul", "x0", g.f("Cast", w, to=onnx.TensorProto.FLOAT)),
    lambda g, w: g.f("MatMul", "x0", g.f("Concat", w, w, axis=1)), lambda g, w: g.f("Gather", w, g.f("ArgMax", "x0", axis=1))])
def test_a_small_file_makes_no_large_weight(build, tmp_path):
    g = File(["batch", 10 ** 6])
    g.save(tmp_path / "a.onnx", build(g, g.f("ConstantOfShape", g.c(values=[10 ** 6, 10 ** 6]))))
    with pytest.raises(ValueError, match=r"repeats numbers that are|is too large to compute|no layer computes it"):
        Model.from_onnx(tmp_path / "a.onnx")


def test_many_products_inside_one_another(tmp_path):
    """2^60 factors, if they were counted; and a sum that no pattern is."""
    g = File(["batch", 2])
    y = "x0"
    for _ in range(60):
        y = g.f("Mul", y, y)
    g.save(tmp_path / "a.onnx", y)
    assert first(Model.from_onnx(tmp_path / "a.onnx").predict([[1, -1]])).tolist() == [[1, 1]]
    g = File(["batch", 2])
    y = "x0"
    for _ in range(1200):
        y = g.f("Mul", y, g.c(values=np.float32(1.5)))
    g.save(tmp_path / "a.onnx", y)
    assert len(Model.from_onnx(tmp_path / "a.onnx").layer.layers) == 1200


def test_divisions_by_zero_are_troubles_of_a_file(tmp_path):
    for build in (lambda g: g.f("Mul", "x0", g.f("Range", *(g.c(values=np.float32(v)) for v in (0, 5, 0)))),
                  lambda g: g.f("Conv", "x0", g.c(3, 4, 1), strides=[0], auto_pad="SAME_UPPER")):
        g = File(["batch", 4, 5])
        g.save(tmp_path / "a.onnx", build(g))
        with pytest.raises(ValueError, match="has what no layer of tinydl computes"):
            Model.from_onnx(tmp_path / "a.onnx")


def test_constants_of_several_minima_and_maxima(tmp_path):
    g = File(["batch", 2])
    least = g.f("Min", *(g.c(values=np.float32(v)) for v in (4, 2, 3)))
    most = g.f("Max", *(g.c(values=np.array(v, np.float32)) for v in ([1, 1], [0, 7], [5, 2])))
    g.save(tmp_path / "a.onnx", g.f("Mul", "x0", least), g.f("Mul", "x0", most))
    made = Model.from_onnx(tmp_path / "a.onnx").predict([[1, 1]])
    assert [y.tolist() for y in made.values()] == [[[2, 2]], [[5, 7]]]


def test_weights_that_the_file_computes(tmp_path):
    """Standardized ones, as timm's NFNets have them, those of weight_norm, and a product of two matrices."""
    g = File(["batch", 3, 6, 6])
    weight = g.c(4, 3, 3, 3)
    flat = g.f("Reshape", weight, g.c(values=np.array([1, 4, -1])))
    even = g.f("BatchNormalization", flat, *(g.c(values=np.full(4, v, np.float32)) for v in (0.5, 0, 0, 1)), training_mode=1,
               outputs=3)[0]
    y = g.f("Conv", "x0", g.f("Reshape", even, g.c(values=np.array([4, 3, 3, 3]))))
    mean = g.f("ReduceMean", weight, g.c(values=np.array([1, 2, 3])))
    norm = g.f("ReduceL2", weight, g.c(values=np.array([1, 2, 3])))
    z = g.f("Conv", "x0", g.f("Div", g.f("Sub", weight, mean), norm))
    sums = [g.f(f"Reduce{name}", weight, g.c(values=np.array([3])), keepdims=0)
            for name in ("Sum", "SumSquare", "L1", "Max", "Min")]
    total = sums[0]
    for other in sums[1:]:
        total = g.f("Add", total, other)
    none = np.array([], np.int64)
    bias = g.f("ReduceSum", g.c(4), g.c(values=none), noop_with_empty_axes=1)
    w = g.f("Conv", "x0", g.f("Reshape", total, g.c(values=np.array([4, 3, 3, 1]))), bias)
    v = g.f("Conv", "x0", g.f("Reshape", g.f("MatMul", g.c(4, 5), g.c(5, 6)), g.c(values=np.array([4, 3, 2, 1]))))
    g.save(tmp_path / "a.onnx", y, z, w, v)
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6)).astype(np.float32)
    wanted = session(tmp_path / "a.onnx").run(None, {"x0": x})
    made = Model.from_onnx(tmp_path / "a.onnx").predict(x)
    assert len(wanted) == len(made) == 4
    for got, want in zip(made.values(), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    g = File(["batch", 3])
    wide, high = (g.f("Expand", g.c(1, 1), g.c(values=np.array(shape))) for shape in ([3, 2 ** 30], [2 ** 30, 2]))
    g.save(tmp_path / "a.onnx", g.f("Gemm", "x0", g.f("MatMul", wide, high)))
    with pytest.raises(ValueError, match=r"MatMul .*too large to compute"):
        Model.from_onnx(tmp_path / "a.onnx")


def test_negatives_of_float64_stay_float64(tmp_path):
    x = nn.Input((3,))
    model = Model(inputs=x, outputs=nn.Add()([nn.Linear(3, 2)(x), nn.Linear(3, 2)(x)]), dtype="float64", seed=0)
    model.to_onnx(tmp_path / "a.onnx")
    made = onnx.load(tmp_path / "a.onnx")
    del made.metadata_props[:]
    add = [n for n in made.graph.node if n.op_type == "Add"][-1]
    add.op_type = "Sub"
    onnx.save(made, tmp_path / "a.onnx")
    back = Model.from_onnx(tmp_path / "a.onnx")
    wanted = session(tmp_path / "a.onnx").run(None, {"input0": np.eye(3)})[0]
    assert back.dtype == np.float64 and np.allclose(first(back.predict(np.eye(3))), wanted, rtol=1e-12, atol=1e-14)


def test_values_beside_the_file_and_nowhere_else(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    file = File(["batch", 4])
    file.save(folder / "a.onnx", file.f("Gemm", "x0", file.c(4, 300)))
    wanted = Model.from_onnx(folder / "a.onnx").state_dict()
    onnx.save(onnx.load(folder / "a.onnx"), folder / "b.onnx", save_as_external_data=True, location="b.data", size_threshold=0)
    back = Model.from_onnx(folder / "b.onnx").state_dict()
    assert all(np.array_equal(back[name], a) for name, a in wanted.items())
    (tmp_path / "b.data").write_bytes((folder / "b.data").read_bytes())
    (folder / "b.data").unlink()
    with pytest.raises(ValueError, match="damaged"):
        Model.from_onnx(folder / "b.onnx")
    made = onnx.load(folder / "b.onnx", load_external_data=False)
    for entry in made.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = "../b.data"
    (folder / "b.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(ValueError, match="damaged"):
        Model.from_onnx(folder / "b.onnx")


# ---------------------------------------------------------------------- PyTorch itself
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [False, True])
def test_models_of_pytorch(dynamo, tmp_path):
    torch = pytest.importorskip("torch")
    if dynamo:
        pytest.importorskip("onnxscript")
    t = torch.nn
    torch.manual_seed(0)

    class Last(t.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = t.LSTM(3, 6, 2, batch_first=True, bidirectional=True), t.Linear(12, 2)

        def forward(self, x):
            return self.head(self.rnn(x)[0].mean(1))
    cnn = (t.Conv2d(3, 8, 3, padding=1), t.BatchNorm2d(8), t.ReLU(), t.MaxPool2d(2), t.Flatten(), t.Linear(128, 2))
    nets = [(t.Sequential(t.Linear(5, 8), t.GELU(), t.Linear(8, 8), t.BatchNorm1d(8), t.SiLU(), t.Linear(8, 3)), (4, 5)),
            (t.Sequential(*cnn), (4, 3, 8, 8)), (Last(), (4, 7, 3))]
    for net, shape in nets:
        x = torch.randn(shape)
        net(x)          # moves the running statistics
        options = {"dynamo": True, "external_data": False} if dynamo else {
            "dynamo": False, "training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
        net.eval()
        torch.onnx.export(net, (x,), tmp_path / "a.onnx", **options)
        model = Model.from_onnx(tmp_path / "a.onnx")
        wanted = net(x).detach().numpy()
        assert np.abs(model.predict(x.numpy()) - wanted).max() <= 2e-6 * max(1, np.abs(wanted).max())
        kinds = {type(layer) for _, layer in model.layer.walk()}
        assert dynamo or not any(isinstance(m, t.BatchNorm2d) for m in net.modules()) or nn.BatchNorm2d in kinds
        assert_trains(copy.deepcopy(model), {"x": x.numpy()})
