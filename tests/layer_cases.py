"""A model for every layer and option, and inputs for it: what exporters are tested on."""
import copy

import numpy as np

from tinydl import Model, nn

#: number of rows in a test, which no size of a sample equals
ROWS = 7


def graph(layer, *inputs):
    """A model of one layer of several inputs: shapes of numbers, and of integers as ("int64", shape)."""
    given = [nn.Input(s[1], "int64") if s and s[0] == "int64" else nn.Input(s) for s in inputs]
    return {"inputs": given, "outputs": layer([*given])}


def image_layers():
    for bias in (True, False):
        yield nn.Conv2d(4, 6, 3, bias=bias), (4, 8, 9)
        yield nn.ConvTranspose2d(4, 6, 3, bias=bias), (4, 5, 6)
        yield nn.ConvTranspose1d(4, 6, 3, bias=bias), (4, 9)
    yield nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2), (4, 8, 9)
    yield nn.Conv2d(4, 4, 3, padding="same", groups=4), (4, 8, 9)
    yield nn.Conv2d(4, 6, (2, 4), padding="same"), (4, 8, 9)
    yield nn.Conv2d(4, 6, 3, padding="valid"), (4, 8, 9)
    yield nn.Conv1d(4, 6, 5, stride=2, padding=3, dilation=2, groups=2), (4, 20)
    yield nn.Conv1d(4, 6, 4, padding="same"), (4, 20)
    yield nn.Conv1d(4, 6, 3, padding="causal", dilation=2), (4, 20)
    for mode in ("reflect", "replicate", "circular"):
        yield nn.Conv2d(4, 6, 3, padding=(2, 1), padding_mode=mode), (4, 5, 6)
        yield nn.Conv2d(4, 6, 4, padding="same", padding_mode=mode), (4, 5, 6)
        yield nn.Conv1d(4, 6, 3, padding=2, padding_mode=mode), (4, 9)
    yield nn.ConvTranspose2d(4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2), (4, 5, 6)
    yield nn.ConvTranspose2d(4, 6, 3, dilation=(2, 1)), (4, 5, 6)
    yield nn.ConvTranspose1d(4, 6, 4, stride=3, padding=2, output_padding=1, groups=2, dilation=2), (4, 5)
    yield nn.MaxPool2d(2), (4, 8, 9)
    yield nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(1, 2)), (4, 8, 9)
    yield nn.MaxPool1d(3, stride=2, padding=1), (4, 20)
    for counted in (True, False):
        yield nn.AvgPool2d((3, 2), stride=(2, 1), padding=1, count_include_pad=counted), (4, 8, 9)
        yield nn.AvgPool1d(3, stride=2, padding=1, count_include_pad=counted), (4, 20)
        yield nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=counted), (4, 8, 10)
        yield nn.AvgPool2d(2, 3, ceil_mode=True, count_include_pad=counted, divisor_override=3), (4, 7, 8)
        yield nn.AvgPool1d(4, 3, 2, ceil_mode=True, count_include_pad=counted), (4, 9)
    yield nn.MaxPool2d(3, 2, (1, 0), ceil_mode=True), (4, 8, 8)
    yield nn.MaxPool2d(2, 3, ceil_mode=True, dilation=3), (4, 5, 7)
    yield nn.MaxPool1d(2, ceil_mode=True), (4, 5)
    yield nn.AdaptiveAvgPool2d((3, None)), (4, 7, 9)
    yield nn.AdaptiveAvgPool2d(4), (4, 10, 3)
    yield nn.AdaptiveAvgPool1d(3), (4, 7)
    yield nn.GlobalAvgPool(), (4, 5, 6)
    yield nn.GlobalMaxPool(), (4, 9)
    yield nn.ZeroPad2d((1, 0, 2, 3)), (4, 5, 6)
    yield nn.PixelShuffle(2), (8, 5, 6)
    yield nn.Upsample(scale_factor=2), (4, 5, 6)
    yield nn.Upsample(size=(7, 4)), (4, 5, 6)
    for align in (True, False):
        yield nn.Upsample(size=(7, 4), mode="bilinear", align_corners=align), (4, 5, 6)
        yield nn.Upsample(scale_factor=3, mode="bilinear", align_corners=align), (4, 5, 6)
    yield nn.PReLU(4), (4, 5, 6)
    yield nn.BatchNorm2d(4), (4, 5, 6)
    yield nn.BatchNorm2d(4, eps=0.1, affine=False), (4, 5, 6)
    yield nn.GroupNorm(2, 4), (4, 5, 6)
    yield nn.GroupNorm(4, 4, eps=0.1, affine=False), (4, 9)
    yield nn.InstanceNorm2d(4), (4, 5, 6)
    yield nn.InstanceNorm2d(4, affine=True), (4, 5, 6)
    yield nn.Dropout2d(0.5), (4, 5, 6)
    yield nn.InstanceNorm1d(4), (4, 9)
    yield nn.InstanceNorm1d(4, 0.1, affine=True), (4, 9)
    yield nn.Dropout1d(0.5), (4, 9)


def vector_layers():
    yield nn.Linear(5, 3), (5,)
    yield nn.Linear(5, 3, bias=False), (4, 6, 5)
    for layer in (nn.ReLU(), nn.LeakyReLU(), nn.LeakyReLU(0.3), nn.ELU(), nn.ELU(0.7), nn.SELU(), nn.GELU(), nn.GELU("tanh"),
                  nn.SiLU(), nn.Softplus(), nn.Softplus(3.0), nn.Mish(), nn.Hardswish(), nn.PReLU(), nn.PReLU(4),
                  nn.PReLU(5, axis=-1), nn.Sigmoid(),
                  nn.Tanh(), nn.ReLU6(), nn.Hardtanh(-0.5, 1.5), nn.Hardtanh(0.25, np.inf), nn.Hardsigmoid(), nn.Hardsigmoid(0.2),
                  nn.Softsign(), nn.LogSigmoid(), nn.Exp(), nn.Abs(), nn.Square(), nn.Rescaling(-0.3), nn.Rescaling(2, 0.7),
                  nn.GLU(0), nn.Sequential(nn.Slice(-1, 0, 4), nn.GLU()), nn.UnitNormalization(), nn.UnitNormalization(0.5),
                  nn.GaussianNoise(0.5), nn.Sequential(nn.Slice(-1, 0, 4), nn.GaussianSample()),
                  nn.Softmax(), nn.LogSoftmax(), nn.Dropout(0.5), nn.Identity(), nn.Scale(5),
                  nn.LayerNorm(5), nn.LayerNorm((4, 5), eps=0.1), nn.LayerNorm(5, elementwise_affine=False),
                  nn.RMSNorm(5), nn.RMSNorm((4, 5), eps=0.1), nn.RMSNorm(5, elementwise_affine=False),
                  nn.BatchNorm1d(5, axis=-1), nn.BatchNorm1d(5, eps=0.1, affine=False, axis=-1),
                  nn.BatchNorm1d(4), nn.BatchNorm1d(4, eps=0.1, affine=False), nn.Flatten(), nn.Reshape((2, -1, 5)),
                  nn.Permute((1, 0)), nn.Slice(0, 1, 3), nn.Slice(-1, None, None, 2), nn.Slice(0, -3), nn.Mean(), nn.Sum((0, 1)),
                  nn.Max(-1), nn.Mean(0), nn.Sum(1), nn.Max(), nn.LastStep(), nn.MeanSteps()):
        yield layer, (4, 5)
    yield nn.BatchNorm1d(5), (5,)
    yield nn.Mean((0, 2)), (3, 4, 5)
    yield nn.PeriodicEmbedding(5), (5,)
    yield nn.PeriodicEmbedding(5, embedding_dim=3, n_frequencies=2, frequency_init_scale=1.0), (5,)
    yield nn.PiecewiseLinearEmbedding([[-1, 0, 0.5, 2], [0, 0, 1, 1], [-3, -2, -1, 0]]), (3,)
    for shape in ((5,), (4, 5)):
        yield nn.LinearEnsemble(5, 3, k=4), shape
        yield nn.LinearEnsemble(5, 3, False, k=4), shape
        yield nn.LinearBatchEnsemble(5, 3, k=4, scaling_init="normal"), shape
        yield nn.LinearBatchEnsemble(5, 3, False, k=4), shape
    yield nn.Residual(nn.Sequential(nn.Linear(5, 5), nn.Tanh())), (4, 5)
    yield nn.Embedding(9, 3), ("int64", (4,))
    yield nn.Sequential(nn.Slice(0, 1), nn.Embedding(9, 3, padding_idx=2)), ("int64", (4,))
    for mode in ("mean", "sum"):
        yield nn.EmbeddingBag(9, 3, mode=mode), ("int64", (4,))
        yield nn.EmbeddingBag(9, 3, mode=mode, padding_idx=2), ("int64", (5, 2))
    for layer in (nn.Add(), nn.Subtract(), nn.Multiply(), nn.Concat(), nn.Concat(0), nn.Dot(), nn.CosineSimilarity()):
        yield layer, (4, 5), (4, 5)
    for layer in (nn.Add(), nn.Subtract(), nn.Multiply()):
        yield layer, (4, 5), (1, 5)
        yield layer, (3, 1, 1), (3, 4, 5)
        yield layer, (4, 1), (1, 5)
    yield nn.Add(), (5,), (5,), (5,)
    yield nn.LastStep(), (4, 5), ("int64", ())
    yield nn.MeanSteps(), (4, 5), ("int64", ())
    yield nn.BlankSteps(), (4, 5), ("int64", ())
    yield nn.BlankSteps(2, stride=2), (3, 5), ("int64", ())


def sequence_layers():
    lengths = ("int64", ())
    for kind, state in ((nn.LSTM, [(4, 6), (4, 6)]), (nn.GRU, [(4, 6)]), (nn.RNN, [(4, 6)])):
        for bias in (True, False):
            yield kind(5, 6, bias=bias), (4, 5)
        for whole in (True, False):
            both = {"num_layers": 2, "bidirectional": True, "dropout": 0.1, "return_sequences": whole}
            yield kind(5, 6, **both), (4, 5)
            yield kind(5, 6, **both), (4, 5), lengths
            yield kind(5, 6, **both), (4, 5), lengths, *state
            yield kind(5, 6, num_layers=2, return_sequences=whole), (4, 5), *[(2, 6) for _ in state]
            yield kind(5, 6, return_sequences=whole), (4, 5), lengths
    yield nn.GRU(5, 6, bidirectional=True, reset_after=False), (4, 5), lengths
    yield nn.RNN(5, 6, bidirectional=True, nonlinearity="relu"), (4, 5), lengths
    for learned in (True, False):
        for steps in (4, 9):
            yield nn.PositionalEncoding(5, max_len=9, learned=learned), (steps, 5)
    yield nn.CRF(5), (4, 5)
    yield nn.LearnedTokens(2, 5), (4, 5)
    yield nn.LearnedTokens(1, 6), ()
    yield nn.LearnedTokens(2, 3), ("int64", (4,))
    for options in ({}, {"causal": True}, {"bias": False}, {"rotary": True, "rotary_base": 50.0}):
        attention = nn.MultiheadAttention(6, 3, **options)
        yield attention, (4, 6)
        yield attention, (4, 6), lengths
        yield attention, (4, 6), ("int64", (4,))
        if not attention.rotary:
            yield attention, (4, 6), (5, 6)
            yield attention, (4, 6), (5, 6), (5, 6), lengths
            yield attention, (4, 6), (5, 6), lengths, ("int64", (5,))
            yield nn.MultiheadAttention(6, 3, kdim=4, vdim=7, **options), (4, 6), (5, 4), (5, 7), ("int64", (5,))
    yield nn.DotProductAttention(3), (4, 6), (5, 6), (5, 6)
    yield nn.DotProductAttention(2, causal=True, scale=0.3), (4, 6), (4, 6), (4, 6)
    for options in ({}, {"norm_first": True, "causal": True, "rotary": True}, {"activation": "gelu", "bias": False},
                    {"activation": "gelu_tanh"}, {"activation": "swiglu"}):
        yield nn.TransformerEncoderLayer(6, 3, 8, **options), (4, 6)
        yield nn.TransformerEncoderLayer(6, 3, 8, **options), (4, 6), lengths
        yield nn.TransformerDecoderLayer(6, 3, 8, **options), (4, 6), (5, 6)
        yield nn.TransformerDecoderLayer(6, 3, 8, **options), (4, 6), (5, 6), lengths, lengths


CASES = [*vector_layers(), *image_layers(), *sequence_layers()]


def model_of(case, dtype):
    """A model with values of its own everywhere, also where a layer begins with zeros or ones."""
    layer, *inputs = case
    model = Model(**graph(copy.deepcopy(layer), *inputs), dtype=dtype, seed=0)
    rng = np.random.default_rng(1)
    state = model.state_dict()
    model.load_state_dict({name: rng.uniform(0.2, 1.5, a.shape) if name.endswith("running_var") else
                           rng.normal(size=a.shape) * (1 if a.ndim == 1 else 0.5) for name, a in state.items()})
    return model


def inputs_for(model, seed=0):
    """Numbers, and integers that are a length, or a category: 0 to 4 or, in a vector, 0 to 8."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, (9 if shape else 5), (ROWS, *shape)) if integer else
            (2 * rng.normal(size=(ROWS, *shape))).astype(model.dtype) for name, shape, integer in model.inputs}
