"""Everything that plans are made of, declared once: operations, activations, dtypes, and the optimizers' rules.

From an operation's declaration come its C struct and its row of the table (headers.py writes them when the package is
built), the checks of `Builder.emit` (tinydl/plan) and those of `kernels.call` (calls.pyx). Nobody counts positions.

    Operation("layer_norm", "x[R,C] gamma[C]? beta[C]? -> out[R,C] mean[R] rstd[R]", reals="eps=1e-5",
              in_place="out:x", does="out := (x - mean) rstd gamma + beta, ...")

What is left of the arrow is read, what is right of it is written. An operand is

    name            of the plan's dtype, float32 or float64
    name:i64        of this dtype (one of DTYPES, or `any`)
    name[R,C]       of this shape, C-contiguous; each letter or word is a size
    name~[m,k]      a matrix at any strides, which are the sizes name_row and name_col (in elements)
    name?           which may be None (NULL in C)

Sizes are whole numbers, fixed or so much a sample; `settings` are further ones that no shape tells, `reals` are doubles;
each may have a default. in_place="out:x out:y": `out` may be the very memory of x, or of y; otherwise what is written
overlaps nothing. at_least_one: sizes that must not be 0. number: the operation gives a number (a loss), `ctx->number` in C.
partial="k: m n": it makes sums of k terms, m n elements each; where there are so many terms that they are added in a tree
(csrc/td.h), the sums that wait need room, which plans and `call` give it as an operand `partial`. room="B G + 8 H": elements
that it needs for itself, so many products of sizes; they are given alike, as an operand `room`.

Letters: B samples, R rows, C columns, n elements; S samples with a weight each, of as many rows
or elements each. `:=` overwrites, `+=` adds.

This file imports nothing, since it is read before anything is built. Its classes are plain, since each import of tinydl makes
them: generating the methods of a dataclass takes longer than reading a dozen declarations.
"""
from __future__ import annotations

from collections.abc import Mapping

#: name, C type
DTYPES = {"float32": "float", "float64": "double", "uint8": "uint8_t", "int8": "int8_t", "uint16": "uint16_t",
          "int16": "int16_t", "int32": "int32_t", "int64": "int64_t", "uint32": "uint32_t", "bool": "uint8_t"}
#: how signatures write them
SHORT = {"i64": "int64", "i32": "int32", "u8": "uint8"}

#: taps of a convolution's kernel, and numbers that one pixel of its output may be made of: csrc/conv.h
MOST_TAPS, BAND = 1024, 1 << 17

#: kinds of activation, by their numbers in C; those whose derivative is a function of the output (they may overwrite their
#: input) come first, up to FROM_OUTPUT
ACTIVATIONS = ("identity", "relu", "leaky_relu", "elu", "selu", "sigmoid", "tanh", "hardtanh", "hardsigmoid",
               "exp", "rescaling", "gelu", "gelu_tanh", "silu", "softplus", "mish", "hardswish", "softsign", "log_sigmoid", "abs",
               "square")
KINDS = {name: number for number, name in enumerate(ACTIVATIONS)}
FROM_OUTPUT = ACTIVATIONS[1:ACTIVATIONS.index("gelu")]


class Operand:
    """One array of an operation. dtype None: the plan's; "any": whatever it is."""

    def __init__(self, text: str, written: bool) -> None:
        head, bracket, sizes = text.removesuffix("?").partition("[")
        name, _, dtype = head.removesuffix("~").partition(":")
        self.name = name
        self.shape = tuple(sizes.removesuffix("]").split(",")) if bracket else None
        self.dtype = SHORT.get(dtype, dtype) or None
        self.optional, self.strided, self.written = text.endswith("?"), head.endswith("~"), written


def _numbers(text: str, kind: type) -> dict[str, float | None]:
    """"a b=1" -> {"a": None, "b": 1}"""
    pairs = [word.partition("=") for word in text.split()]
    return {name: kind(default) if sign else None for name, sign, default in pairs}


def _product(factors: str, sizes: Mapping[str, int]) -> int:
    """"4 H" -> 4 times the size H"""
    items = 1
    for factor in factors.split():
        items *= int(factor) if factor.isdecimal() else sizes[factor]
    return items


class Operation:
    """See the module's docstring. `sizes` and `real_numbers` hold the defaults, those of shapes come first; `pairs` are those
    of in_place: (written, read); `outputs` are the operands that are written."""

    def __init__(self, name: str, signature: str, settings: str = "", reals: str = "", in_place: str = "",
                 at_least_one: str = "", number: bool = False, partial: str = "", room: str = "", does: str = "") -> None:
        self.name, self.signature, self.settings, self.reals = name, signature, settings, reals
        self.at_least_one, self.number, self.partial, self.room, self.does = at_least_one, number, partial, room, does
        reads, _, writes = signature.partition("->")
        operands = [Operand(t, False) for t in reads.split()] + [Operand(t, True) for t in writes.split()]
        if partial:
            operands.append(Operand("partial?", True))
        if room:
            operands.append(Operand("room?", True))
        sizes: dict[str, float | None] = {size: None for o in operands for size in o.shape or ()}
        for o in operands:
            if o.strided:
                sizes |= {f"{o.name}_row": None, f"{o.name}_col": None}
        self.operands = {o.name: o for o in operands}
        self.sizes = sizes | _numbers(settings, int)
        self.real_numbers = _numbers(reals, float)
        self.pairs = [(out, into) for out, _, into in (pair.partition(":") for pair in in_place.split())]
        self.outputs = frozenset(o.name for o in operands if o.written)

    def partial_terms(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """The terms of the longest sum, and the elements of one sum: (0, 0) where none needs room."""
        if not self.partial:
            return 0, 0
        terms, _, factors = self.partial.partition(":")
        return sizes[terms], _product(factors, sizes)

    def room_items(self, sizes: Mapping[str, int]) -> int:
        """The elements of `room`."""
        return sum(_product(factors, sizes) for factors in self.room.split("+")) if self.room else 0

    def __str__(self) -> str:
        numbers = f"{self.settings} {self.reals}".strip()
        return f"{self.name}: {self.signature}" + (f"; {numbers}" if numbers else "")


class Rule:
    """An optimizer's update rule: its numbers and its state vectors ("v?momentum": v may be None where momentum is 0).

    vectors: by name, the number without which it may be None, or ""; reals: the numbers with their defaults. still: the numbers
    which, if all are 0, make a gradient of 0 change nothing that an update by a gradient of 0 has left; None: it always does, as
    where momenta decay."""

    def __init__(self, name: str, state: str, numbers: str, does: str = "", still: str | None = None) -> None:
        self.name, self.state, self.does = name, state, does
        self.still = None if still is None else still.split()
        self.vectors = {vector: unless for vector, _, unless in (t.partition("?") for t in state.split())}
        self.reals = _numbers(numbers, float)


_LIST = [
    # what a batch begins with: rows of the sources by the batch's index
    Operation("gather", "-> out[B,I] addresses:address[B]?", "source columns=0", room="I",
              does="the batch's rows of a source become the space IN: where they lie, if they lie together, else copied to out; "
                   "with `addresses`, products with so many columns may read them where they lie"),
    Operation("gather_rows", "-> out[B,I]", "source", room="I", does="out := rows of a source of any dtype, converted; pictures "
              "also scaled, changed and mixed"),
    Operation("gather_integers", "-> out:i64[B,I]", "source low high", does="out := rows of an integer source; fails where one "
              "is not in low..high-1"),

    Operation("matmul", "a~[m,k] b~[k,n] bias[n]? saved[m,n]? -> out[m,n]", "accumulate=0 activation=0 watched=0",
              "alpha=0 beta=0",
              partial="k: m n",
              does="out := act(a b + bias), or act(a b + bias + out) with `accumulate`; with `saved`, out := (a b + bias) "
                   "act'(saved). watched: 1, suspicious of results that are not finite; 2, and no operation after it reads "
                   "parameters"),
    Operation("activation", "x[n] -> out[n]", "kind", "alpha=0 beta=0", in_place="out:x", does="out := act(x)"),
    Operation("activation_backward", "dy[n] saved[n] -> out[n]", "kind", "alpha=0 beta=0", in_place="out:dy out:saved",
              does="out := dy act'(saved), saved being the output of kinds up to FROM_OUTPUT, the input of others"),
    Operation("softmax", "x[R,C] -> out[R,C]", in_place="out:x", does="out := exp(x) / sum(exp(x)) over each row"),
    Operation("softmax_backward", "dy[R,C] y[R,C] -> out[R,C]", in_place="out:dy", does="out := y (dy - sum(dy y))"),
    Operation("log_softmax", "x[R,C] -> out[R,C]", in_place="out:x", does="out := x - log(sum(exp(x))) over each row"),
    Operation("log_softmax_backward", "dy[R,C] y[R,C] -> out[R,C]", in_place="out:dy", does="out := dy - exp(y) sum(dy)"),

    # losses: the mean, and its gradient where wanted. weights: sum(w l) / sum(w) instead, a sample's weight counting for all its
    # R / S rows or n / S elements; ctx->weight: the sum of the weights that counted, else B. All 0: the loss and gradient are 0
    Operation("softmax_cross_entropy", "logits[R,C] labels:i64[R] weights[S]? class_weights[C]? -> grad[R,C]?",
              "S=0 ignore_index=-9223372036854775808", "label_smoothing=0", in_place="grad:logits", at_least_one="R C",
              number=True, does="mean over R of log(sum(exp(x))) - x[label]; grad := (softmax(x) - onehot(label)) / R; labels in "
              "0..C-1, or ignore_index, whose rows do not count; class_weights, label_smoothing: PyTorch's"),
    Operation("sigmoid_cross_entropy", "x[n] targets[n] weights[S]? pos_weight[C]? -> grad[n]?", "S=0 C=0", "label_smoothing=0",
              in_place="grad:x", at_least_one="n", number=True,
              does="mean of max(x, 0) - x t + log(1 + exp(-|x|)); grad := (sigmoid(x) - t) / n; pos_weight: PyTorch's, of each "
                   "column; label_smoothing: t (1 - smoothing) + smoothing / 2 stands for t"),
    Operation("mean_squared_error", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", in_place="grad:x", at_least_one="n",
              number=True,
              does="mean of (x - t)^2; grad := 2 (x - t) / n"),
    Operation("mean_absolute_error", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", in_place="grad:x", at_least_one="n",
              number=True,
              does="mean of |x - t|; grad := sign(x - t) / n"),
    Operation("kl_divergence", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", reals="scale=1", in_place="grad:x",
              at_least_one="n", number=True, does="mean of scale t (log(t) - x), 0 where t is 0; grad := -scale t / n"),
    Operation("poisson_nll", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", in_place="grad:x", at_least_one="n", number=True,
              does="mean of exp(x) - t x; grad := (exp(x) - t) / n"),
    Operation("tweedie_nll", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", "power", in_place="grad:x", at_least_one="n",
              number=True, does="mean of exp((2 - p) x) / (2 - p) + t exp((1 - p) x) / (p - 1), p the power, above 1 and below "
              "2; of x + t exp(-x) where it is 2; grad := (exp((2 - p) x) - t exp((1 - p) x)) / n"),
    Operation("hinge", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", in_place="grad:x", at_least_one="n", number=True,
              does="mean of max(1 - s x, 0), s = 1 where t > 0, else -1; grad := -s / n where 1 - s x > 0, else 0"),
    Operation("gaussian_nll", "x[R,D] targets[R,C] weights[S]? -> grad[R,D]?", "S=0", in_place="grad:x", at_least_one="R C",
              number=True, does="mean over R C of (s + (m - t)^2 exp(-s)) / 2, x = [m s], D = 2 C"),
    Operation("gaussian_kl", "x[R,D] targets[R,C] weights[S]? -> grad[R,D]?", "S=0", in_place="grad:x", at_least_one="R C",
              number=True, does="mean over rows of sum_c (exp(s) - 1 - s + (m - t)^2) / 2; x: C times m, then C times s"),
    Operation("negative_binomial_nll", "x[R,D] targets[R,C] weights[S]? -> grad[R,D]?", "S=0", in_place="grad:x",
              at_least_one="R C", number=True,
              does="mean over R C of log gamma(r) - log gamma(t + r) + r log(1 + mu / r) + t log(1 + r / mu), mu = exp(m), "
                   "r = exp(-s), x = [m s], D = 2 C; s is taken as -60 to 60"),
    Operation("sigmoid_focal", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", "alpha gamma", in_place="grad:x",
              at_least_one="n", number=True, does="mean of a (1 - p)^gamma (-log(p)); p = sigmoid(x) and a = alpha where targets "
                                                  "are above 0.5, else p = sigmoid(-x) and a = 1 - alpha; alpha below 0: a = 1"),
    Operation("quantile", "x[R,D] targets[R,C] levels[Q] weights[S]? -> grad[R,D]?", "S=0", in_place="grad:x",
              at_least_one="R C Q", number=True, does="mean over R D of max(q d, (q - 1) d), d = t - x, x = [x_1 ... x_Q] of "
              "the levels q, D = Q C; grad := -q, 1 - q or (d = 0) 0, / (R D)"),
    Operation("huber", "x[n] targets[n] weights[S]? -> grad[n]?", "S=0", reals="delta=1", in_place="grad:x", at_least_one="n",
              number=True,
              does="mean of d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), d = x - t; "
                   "grad := clip(d, -delta, delta) / n"),

    Operation("ctc", "logits[B,L,C] labels:i64[B,L] weights[S]? -> grad[B,L,C]?", "S=0 blank=0 zero_infinity=0",
              in_place="grad:logits", at_least_one="B L C", number=True, room="2 L L + 15 L + 15",
              does="mean over samples of -log(sum of the probabilities of all paths through L steps that say its labels, those "
                   "before the first negative one) / max(number of labels, 1), a step's probabilities being softmax(x); a path "
                   "says its classes, equal neighbours once, without the class `blank`. Steps at the end whose blank is certain, "
                   "as mask_steps makes them, do not count. Infinite where there is no path, or 0 with zero_infinity"),
    Operation("crf", "logits[B,L,C,C] labels:i64[B,L] weights[S]? -> grad[B,L,C,C]?", "S=0 ignore_index=-100",
              in_place="grad:logits", at_least_one="B L C", number=True, room="L C + C C + 3 C",
              does="mean over tags of log(sum over all ways to tag the steps of exp(score)) - score of the labels, those before "
                   "the first `ignore_index`; score: the sum of x[t, tag before, tag], of the first step x[0, 0, tag]"),
    Operation("join_loss", "weights[S]? -> grad[n]? total:float64", "S=0 unit accumulate", "scale",
              does="of several losses, behind each: with W the sum of weights, or B, and r = ctx->weight / (unit W), "
                   "total := (total +) scale r ctx->number, grad := scale r grad; the number is total then, and its weight W"),

    # flat vectors
    Operation("add", "a[n] b[n] -> out[n]", in_place="out:a out:b", does="out := a + b"),
    Operation("copy", "x[n] -> out[n]", does="out := x"),
    Operation("fill", "-> out[n]", reals="value=0", does="out := value"),
    Operation("arrange", "x:any -> out:any", "B n1 n2 n3 n4 xb x1 x2 x3 x4 yb y1 y2 y3 y4 itemsize accumulate=0",
              does="out[b, i, j, k, l] := (out +) x[b, i, j, k, l], arrays of B, n1..n4 at any strides, in elements: xb, x1.. "
                   "and yb, y1..; a stride of 0 repeats. itemsize: bytes of an element, 4 or 8 (floats where it accumulates)"),
    Operation("multiply", "a[n] b[n] -> out[n]", in_place="out:a out:b", does="out := a b"),
    Operation("reduce_sum", "x[O,N,I] -> out[O,I]", reals="scale=1", does="out := scale times the sum over the middle axis"),
    Operation("spread", "dy[O,I] -> out[O,N,I]", reals="scale=1", does="out := scale dy for each of N"),
    Operation("reduce_max", "x[O,N,I] -> out[O,I] place:i64[O,I]", at_least_one="N",
              does="out := the greatest along the middle axis, place: where the first is; NaN is greater than anything"),
    Operation("reduce_max_backward", "dy[O,I] place:i64[O,I] -> out[O,N,I]", does="out := dy at its place, else 0"),
    Operation("embedding", "table[N,D] rows:i64[n] -> out[n,D]",
              does="out := rows of the table by number; fails where one is not in 0..N-1"),
    Operation("embedding_backward", "dy[n,D] rows:i64[n] -> dtable[N,D]", "padding=-1 accumulate=0 marks=-1 each=1",
              does="dtable := sums of the rows of dy by their numbers, but for the number `padding`, or += with `accumulate`; "
                   "marks: not -1, where those of the table begin, one for `each` rows"),
    Operation("embedding_bag", "table[N,D] rows:i64[R,K] -> out[R,D]", "padding=-1 mean=0",
              does="out := sums of K rows of the table, or with `mean` their means, but for the number `padding`; 0 of none; "
                   "fails where a number is not in 0..N-1"),
    Operation("embedding_bag_backward", "dy[R,D] rows:i64[R,K] -> dtable[N,D]", "padding=-1 mean=0 accumulate=0 marks=-1 each=1",
              does="dtable := its gradient, or += with `accumulate`; marks, each: as embedding_backward's"),
    Operation("scale_columns", "x[R,C] scale[C] -> out[R,C]", in_place="out:x", does="out := x scale"),
    Operation("prelu", "x[R,C] slope[C] -> out[R,C]", in_place="out:x", does="out := x where x > 0, else slope x"),
    Operation("prelu_backward", "dy[R,C] x[R,C] slope[C] -> out[R,C] by_slope[R,C]", in_place="out:dy",
              does="out := dy where x > 0, else slope dy; by_slope := 0 where x > 0, else dy x"),
    Operation("periodic", "x[R,C] frequency[C,K] phase[C,K] weight[C,K,D] bias[C,D] -> out[R,C,D]",
              does="out := bias + sum over k of cos(2 pi frequency x + phase) weight"),
    Operation("periodic_backward", "dy[R,C,D] x[R,C] frequency[C,K] phase[C,K] weight[C,K,D] -> dx[R,C]? dfrequency[C,K] "
              "dphase[C,K] dweight[C,K,D] dbias[C,D]", "more_frequency=0 more_phase=0 more_weight=0 more_bias=0",
              at_least_one="K D", partial="R: 4 C K D",
              does="the gradients of periodic; of the parameters :=, or += with `more`"),
    Operation("piecewise_linear", "x[R,C] low[C,K] slope[C,K] -> out[R,C,K]", does="out := (x - low) slope, brought into 0..1"),
    Operation("piecewise_linear_backward", "dy[R,C,K] x[R,C] low[C,K] slope[C,K] -> dx[R,C]",
              does="dx := sum over k of dy slope where (x - low) slope is above 0 and below 1"),
    Operation("weighted_mean", "a[n] b[n] -> out[n]", reals="wa wb", in_place="out:a out:b", does="out := wa a + wb b"),
    Operation("column_sum", "x[R,C] -> out[C]", "accumulate=0", does="out := (out +) sum of the rows of x"),
    Operation("squared_norm", "x[n] ->", number=True, does="sum of x^2, in double, of the weight 1"),
    Operation("check_finite", "x[n] ->", "suspected=0", does="fails where x has what is not finite; suspected: looks only "
              "where a watched product left a suspicion"),

    Operation("layer_norm", "x[R,C] gamma[C]? beta[C]? -> out[R,C] mean[R] rstd[R]", reals="eps=1e-5", in_place="out:x",
              does="out := (x - mean) rstd gamma + beta, rstd = 1 / sqrt(var + eps), over each row"),
    Operation("layer_norm_backward", "dy[R,C] x[R,C] gamma[C]? mean[R] rstd[R] -> out[R,C] dgamma[C]? dbeta[C]?",
              "more=0 more_beta=0", in_place="out:dy", partial="R: 2 C",
              does="out := gradient of layer_norm by x; dgamma := sum(dy h), or += with `more`, dbeta := sum(dy), or += with "
                   "`more_beta`, over rows, h = (x - mean) rstd"),
    Operation("batch_norm", "x[R,C] gamma[C]? beta[C]? -> out[R,C]? pooled[N,C]? mean[C] rstd[C] batch_mean[C]? batch_var[C]?",
              "activation=0 N=0", "eps=1e-5 alpha=0 scale=1", in_place="out:x",
              does="out := act((x - mean) rstd gamma + beta) over each column; batch_var: the unbiased variance; pooled (act: "
                   "none or relu): scale times the sums of what out would be, over R / N rows each. Fails where R < 2: one value "
                   "less its own mean is 0 whatever it is, and it has no variance"),
    Operation("batch_norm_inference", "x[R,C] gamma[C]? beta[C]? running_mean[C] running_var[C] "
              "-> out[R,C]? pooled[N,C]? rstd[C]?",
              "activation=0 N=0", "eps=1e-5 alpha=0 scale=1", in_place="out:x",
              does="out := act((x - running_mean) rstd gamma + beta), rstd = 1 / sqrt(running_var + eps); pooled: as "
                   "batch_norm's"),
    Operation("batch_norm_backward", "dy[N,C] x[R,C] gamma[C]? beta[C]? mean[C] rstd[C] -> out[R,C] dgamma[C]? dbeta[C]?",
              "more=0 more_beta=0 activation=0 constant=0", "scale=1", in_place="out:dy", at_least_one="R N",
              does="the gradients of batch_norm, as layer_norm_backward's; activation: relu or none; gamma, beta: batch_norm's. "
                   "N: R, or fewer: scale dy is then the gradient of R / N rows each; constant: mean and rstd are not of x, as "
                   "batch_norm_inference's"),
    Operation("dropout", "x[B,C] rates:float64[W]? -> out[B,C]", "layer=0 W=0", "rate=0", in_place="out:x",
              does="out := x / (1 - rate) or 0, by a hash of (seed, step, layer, number of the sample, column); rates: instead "
                   "of rate that of step rates[0], and of those that follow it"),
    Operation("normal_noise", "x[B,C] log_variance[B,C]? -> out[B,C]", "layer=0", "deviation=1", in_place="out:x",
              does="out := x + deviation exp(log_variance / 2) z, z normal, by a hash as dropout's; log_variance: 0 if left out"),
    Operation("normal_noise_backward", "dy[B,C] log_variance[B,C] -> out[B,C]", "layer=0", "deviation=1", in_place="out:dy",
              does="out := dy deviation exp(log_variance / 2) z / 2, by log_variance; by x it is dy"),
    # images, channels last (B, H, W, C); x of a convolution at any strides, in elements: xb of a sample, xh, xw, xc. Kernels of
    # kh by kw taps, sh by sw apart, ph by pw zeros before an image and as many behind as they need, dilation dh by dw;
    # G groups of channels, panels as conv_panels makes them
    Operation("conv_panels", "weight[O,I,K] -> out[G,Q,R,N]", "transposed=0",
              does="out := a kernel, K taps of I channels for each of O, in panels of N columns, the last filled up with zeros: "
                   "of each of G groups, Q panels of R = K I rows (transposed: of R = K O / G rows, and I columns)"),
    Operation("conv2d", "x panels[G,Q,R,N] bias[O]? -> out[B,Ho,Wo,O]",
              "C H W xb xc xh xw kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 activation=0", "alpha=0 beta=0",
              does="out := act(convolution of x + bias); at most 1024 taps, and what a pixel reads must fit into the "
                   "scratch memory"),
    Operation("conv_transpose2d", "x[B,Ho,Wo,O] panels[G,Q,R,N] bias[C]? saved[B,H,W,C]? -> out[B,H,W,C]",
              "kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 activation=0", "alpha=0 beta=0",
              does="out := act(transposed convolution of x + bias), the gradient of conv2d by its input; with `saved`, out := "
                   "(...) act'(saved). panels: transposed"),
    Operation("conv2d_by_weight", "x dy[B,Ho,Wo,O] -> dweight[O,I,K] db[O]? sums[M]",
              "C H W G Q R N xb xc xh xw kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 terms more=0 more_bias=0", partial="terms: M",
              does="the gradients of conv2d by its kernel and bias, := or += with `more`, `more_bias`; sums: those of the kernel "
                   "in panels, then those of dy, M = G Q R N + O; terms: B Ho Wo"),
    Operation("max_pool2d", "x[B,H,W,C] -> out[B,Ho,Wo,C] place:u8[B,Ho,Wo,C]?", "kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1",
              does="out := the greatest in each window, place: where the first is, row by row; NaN is greater than anything"),
    Operation("max_pool2d_backward", "dy[B,Ho,Wo,C] place:u8[B,Ho,Wo,C] saved[B,Ho,Wo,C]? -> out[B,H,W,C]",
              "kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 activation=0", "alpha=0 beta=0",
              does="out := the sum of dy, or of dy act'(saved) with `activation`, over the windows that a pixel is the "
                   "greatest in"),
    Operation("avg_pool2d", "x[B,H,W,C] -> out[B,Ho,Wo,C]", "kh=0 kw=0 sh=1 sw=1 ph=0 pw=0 include=0 adaptive=0 divisor=0",
              does="out := the mean of each window; with `include` what is padding counts, with `divisor` out := the sum / "
                   "divisor; adaptive: windows i H / Ho to (i + 1) H / Ho, rounded outwards"),
    Operation("avg_pool2d_backward", "dy[B,Ho,Wo,C] -> out[B,H,W,C]",
              "kh=0 kw=0 sh=1 sw=1 ph=0 pw=0 include=0 adaptive=0 divisor=0",
              does="the gradient of avg_pool2d"),
    Operation("depthwise2d", "x[B,H,W,C] weight[K,C] bias[C]? -> out[B,Ho,Wo,C]",
              "kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 activation=0", "alpha=0 beta=0",
              does="out := act(convolution of each channel of x by its own K = kh kw taps + bias)"),
    Operation("depthwise_transpose2d", "x[B,Ho,Wo,C] weight[K,C] bias[C]? saved[B,H,W,C]? -> out[B,H,W,C]",
              "kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 activation=0", "alpha=0 beta=0",
              does="as conv_transpose2d, the gradient of depthwise2d by its input"),
    Operation("depthwise2d_by_weight", "x[B,H,W,C] dy[B,Ho,Wo,C] -> dweight[K,C]",
              "kh kw sh=1 sw=1 ph=0 pw=0 dh=1 dw=1 terms", partial="terms: K C",
              does="the gradient of depthwise2d by its kernel; terms: B Ho Wo"),
    Operation("upsample2d", "x[B,H,W,C] -> out[B,Ho,Wo,C]", "bilinear=0 align=0",
              does="out := the nearest pixels of x, or, bilinear, between the nearest ones, as PyTorch's; align: align_corners"),
    Operation("upsample2d_backward", "dy[B,Ho,Wo,C] -> out[B,H,W,C]", "bilinear=0 align=0", does="the gradient of upsample2d"),
    Operation("group_norm", "x[B,P,C] gamma[C]? beta[C]? -> out[B,P,C] mean[B,G] rstd[B,G]", reals="eps=1e-5", in_place="out:x",
              does="out := (x - mean) rstd gamma + beta over each sample's G groups of channels; C at most 16384"),
    Operation("group_norm_backward", "dy[B,P,C] x[B,P,C] gamma[C]? mean[B,G] rstd[B,G] -> out[B,P,C] dgamma[C]? dbeta[C]?",
              "more=0 more_beta=0", in_place="out:dy", does="the gradients of group_norm, as layer_norm_backward's"),
    Operation("rms_norm", "x[R,C] gamma[C]? -> out[R,C] rstd[R]", reals="eps=1e-5", in_place="out:x",
              does="out := x rstd gamma, rstd = 1 / sqrt(mean(x^2) + eps), over each row"),
    Operation("rms_norm_backward", "dy[R,C] x[R,C] gamma[C]? rstd[R] -> out[R,C] dgamma[C]? sums[C]?", "more=0",
              in_place="out:dy", partial="R: C", does="the gradients of rms_norm; with `more`, dgamma += by way of sums"),
    # recurrent layers: L steps of time, H units, G = 4 H (LSTM: i f g o), 3 H (GRU: r z n) or H gates. x holds what the inputs
    # give to the gates. Sample b has lengths[b] steps, or L; `reverse` goes through them from the last to the first. out and last
    # have W columns, of which these are column..column + H - 1. Beyond a sample's steps all that is written is 0
    Operation("mask_steps", "x[B,L,C] lengths:i64[B] -> out[B,L,C]", "stride=1 blank=-1", in_place="out:x",
              does="out := x, and 0 from the step lengths / stride, rounded up, on; with a `blank` it is -1e30 there, and 0 in "
                   "that column alone; fails where a length is not in 0..L stride"),
    Operation("pool_steps", "x[B,L,C] lengths:i64[B]? -> out[B,C]", "mean=0",
              does="out := the last of each sample's steps, or with `mean` their mean; 0 of none"),
    Operation("pool_steps_backward", "dy[B,C] lengths:i64[B]? -> out[B,L,C]", "mean=0",
              does="out := the gradient of pool_steps, 0 beyond a sample's steps"),
    Operation("lstm", "x[B,L,G] w_hh[G,H] b_hh[G]? lengths:i64[B]? h0[B,H]? c0[B,H]? -> gates[B,L,G] out[B,L,W]? last[B,W]? "
              "before[B,L,H]? cells[B,L,H]? tanhs[B,L,H]?", "column=0 reverse=0", in_place="gates:x",
              room="H G + 31 H + B G + 2 B H + 32 B + H",
              does="step by step, with a = x + w_hh h + b_hh: gates := sigmoid(a), g := tanh(a); c := f c + i g; h := o tanh(c); "
                   "before: h as a step begins; cells, tanhs: c and tanh(c); last: h after a sample's last step"),
    Operation("lstm_backward", "dy[B,L,W]? dlast[B,W]? gates[B,L,G] cells[B,L,H] tanhs[B,L,H] w_hh[G,H] lengths:i64[B]? "
              "c0[B,H]? -> dgates[B,L,G] dh0[B,H]? dc0[B,H]?", "column=0 reverse=0", in_place="dgates:gates",
              room="H G + 31 G + B G + 2 B H + 32 B",
              does="the gradients of lstm by x (dgates), h0 and c0, from those of out (dy) and last (dlast)"),
    Operation("gru", "x[B,L,G] w_hh[G,H] b_hh[G]? lengths:i64[B]? h0[B,H]? -> gates[B,L,G] out[B,L,W]? last[B,W]? "
              "before[B,L,H]? hidden[B,L,H]?", "column=0 reverse=0 reset_before=0", in_place="gates:x",
              room="H G + 62 H + B G + 2 B H + 48 B",
              does="step by step, with a = w_hh h + b_hh: r, z := sigmoid(x + a), n := tanh(x + r a); h := (1 - z) n + z h; "
                   "hidden: a of n. reset_before: a of n is that of r h, n := tanh(x + a), hidden := r h"),
    Operation("gru_backward", "dy[B,L,W]? dlast[B,W]? gates[B,L,G] before[B,L,H] hidden[B,L,H] w_hh[G,H] lengths:i64[B]? -> "
              "dgates[B,L,G] dhidden[B,L,H]? dh0[B,H]?", "column=0 reverse=0 reset_before=0", in_place="dgates:gates",
              room="H G + 31 G + B G + 2 B H + 48 B",
              does="the gradients of gru by x (dgates), by a of n (dhidden) and by h0"),
    Operation("rnn", "x[B,L,H] w_hh[H,H] b_hh[H]? lengths:i64[B]? h0[B,H]? -> gates[B,L,H] out[B,L,W]? last[B,W]? "
              "before[B,L,H]?", "column=0 reverse=0 kind", in_place="gates:x", room="H H + 31 H + 2 B H + 32 B",
              does="step by step: gates := h := act(x + w_hh h + b_hh), kind: relu or tanh"),
    Operation("rnn_backward", "dy[B,L,W]? dlast[B,W]? gates[B,L,H] w_hh[H,H] lengths:i64[B]? -> dgates[B,L,H] dh0[B,H]?",
              "column=0 reverse=0 kind", in_place="dgates:gates", room="H H + 31 H + 2 B H + 32 B",
              does="the gradients of rnn by x (dgates) and h0"),
    # attention: L queries and M keys, N heads of D columns; q, k and v of head h are columns q_at + h D.. of rows of q (P
    # columns), and k_at + h D.., v_at + h D.. of kv (Q columns). Of a sample count the keys before lengths[b] that are not
    # ignored; causal: for query i those up to the i-th. Queries from q_lengths[b] on, or that no key counts for, give 0
    Operation("attention", "q[B,L,P] kv[B,M,Q] lengths:i64[B]? ignored:i64[B,M]? q_lengths:i64[B]? -> out[B,L,E] lse[B,N,L]",
              "D q_at=0 k_at=0 v_at causal=0 layer=0", "scale rate=0",
              room="3 D M + 73 D + 64 M + 13100",
              does="out := softmax(scale q k') v of each head, E = N D; lse: the logarithm of each softmax's divisor; rate: that "
                   "of dropout, by a hash of (seed, step, layer, number of the sample, head, query, key)"),
    Operation("attention_backward", "dy[B,L,E] out[B,L,E] q[B,L,P] kv[B,M,Q] lse[B,N,L] lengths:i64[B]? ignored:i64[B,M]? "
              "q_lengths:i64[B]? -> dq[B,L,P] dkv[B,M,Q]", "D q_at=0 k_at=0 v_at causal=0 layer=0", "scale rate=0",
              room="6 D M + 188 D + 126 M + 27300",
              does="the gradients of attention in the columns of q, k and v that it reads; in a plan dq and dkv may be one array "
                   "that those are columns of"),
    Operation("rotary", "x[B,L,P] turns[L,D] -> out[B,L,P]", "n back=0", in_place="out:x", at_least_one="D",
              does="out := x, of whose first n columns, in heads of D, each pair is turned by an angle: a, b := a cos - b sin, "
                   "b cos + a sin, turns having cos and sin of each pair of step l; back: by the negative angle"),
    Operation("python", "-> ", "hook", does="whatever a layer in Python does with what its hook says"),
]
OPERATIONS = {o.name: o for o in _LIST}

RULES = {r.name: r for r in [
    Rule("sgd", "momentum_buffer?momentum", "lr momentum nesterov weight_decay",
         "g += weight_decay p;  b := momentum b + g;  p -= lr (nesterov ? g + momentum b : b)", still="momentum weight_decay"),
    Rule("adam", "exp_avg exp_avg_sq", "lr beta1 beta2 eps weight_decay",
         "g += weight_decay p;  m += (1 - beta1) (g - m);  v := beta2 v + (1 - beta2) g^2;  "
         "p -= lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)"),
    Rule("adamw", "exp_avg exp_avg_sq", "lr beta1 beta2 eps weight_decay",
         "p *= 1 - lr weight_decay;  then as adam without decay"),
    Rule("rmsprop", "square_avg momentum_buffer?momentum grad_avg?centered", "lr alpha eps weight_decay momentum centered",
         "g += weight_decay p;  v := alpha v + (1 - alpha) g^2;  centered: a += (1 - alpha) (g - a), v - a^2 stands for v;  "
         "b := momentum b + g / (sqrt(v) + eps);  p -= lr b"),
    Rule("nadam", "exp_avg exp_avg_sq", "lr beta1 beta2 eps weight_decay decoupled mu mu_next mu_product",
         "g += weight_decay p, or, decoupled, p *= 1 - lr weight_decay;  m, v as adam;  d := sqrt(v / (1 - beta2^t)) + eps;  "
         "p -= lr ((1 - mu) / (1 - mu_product) g + mu_next / (1 - mu_product mu_next) m) / d"),
    Rule("radam", "exp_avg exp_avg_sq", "lr beta1 beta2 eps weight_decay decoupled",
         "g += weight_decay p, or, decoupled, p *= 1 - lr weight_decay;  m, v as adam;  r := 2 / (1 - beta2) - 1 - 2 t beta2^t / "
         "(1 - beta2^t);  r > 5: p -= lr / (1 - beta1^t) m rect(r) sqrt(1 - beta2^t) / (sqrt(v) + eps);  else "
         "p -= lr / (1 - beta1^t) m"),
    Rule("adagrad", "sum", "lr lr_decay eps weight_decay initial",
         "g += weight_decay p;  s := (t = 1 ? initial : s) + g^2;  p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)",
         still="weight_decay"),
    Rule("lion", "exp_avg", "lr beta1 beta2 weight_decay",
         "p *= 1 - lr weight_decay;  p -= lr sign(beta1 m + (1 - beta1) g);  m := beta2 m + (1 - beta2) g"),
]}

#: random changes of pictures as they are gathered, with their numbers; their kernels are in csrc/augment.h
CHANGES = {name: tuple(numbers.split()) for name, numbers in {
    "crop": "height width edge fill",       # a window of the picture with so many pixels around it
    "horizontal_flip": "p",
    "vertical_flip": "p",
    "rotate90": "",
    "gaussian_noise": "sigma",
    "cutout": "height width p fill",
}.items()}
