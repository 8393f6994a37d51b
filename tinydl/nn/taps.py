"""Taps: the operations of a convolution and of its gradients, which are those of a transposed one too.

A kernel of one tap is a matrix product. Others are implicit ones (_kernels/csrc/conv.h), for which the kernel is laid out in
panels once in a batch.
"""
from __future__ import annotations

# B batch, C, O channels, H, W and Ho, Wo rows and columns of an image and of what becomes of it, G groups of channels
from math import prod
from typing import Any

from tinydl._kernels.schema import BAND, MOST_TAPS
from tinydl.nn.images import Pair, Shape, channels_first, channels_last
from tinydl.nn.layer import Layer, Parameter
from tinydl.plan import Buffer, Builder, Matrix, Rows, Value


class Taps:
    """A convolution of images (C, H, W) to (O, Ho, Wo), whose kernel is (O, C / groups, kh, kw); `before`: so many rows and
    columns of zeros before an image, and behind it as many as it needs."""

    def __init__(self, weight: Parameter, image: Shape, out: Shape, stride: Pair, before: Pair, dilation: Pair,
                 groups: int) -> None:
        self.weight, self.image, self.out, self.groups = weight, image, out, groups
        self.C, self.H, self.W = image
        self.O, self.Ho, self.Wo = out
        self.kernel = (1, *weight.shape[2:])[-2:]
        self.taps = prod(self.kernel)
        pairs = {"k": self.kernel, "s": stride, "p": before, "d": dilation}
        self.window: dict[str, Any] = {f"{letter}{axis}": two[i] for letter, two in pairs.items() for i, axis in enumerate("hw")}

    def check(self, layer: Layer) -> None:
        """ValueError where it is larger than the kernels can do."""
        kh, kw, sh, sw, _, _, dh, dw = self.window.values()
        tall, wide = (kh - 1) * dh + 1, (kw - 1) * dw + 1
        most = max(tall * wide * self.C, (tall // sh + 2) * (wide // sw + 4) * self.O) // self.groups
        if self.taps > MOST_TAPS:
            raise ValueError(f"{layer!r}: a kernel of {self.taps} taps; at most {MOST_TAPS}")
        if most > BAND:
            raise ValueError(f"{layer!r}: a pixel is made of {most:,} numbers; at most {BAND:,}: a smaller kernel, fewer "
                             "channels, or more groups")

    @property
    def plain(self) -> bool:
        """Whether it is a matrix product: one tap, and every pixel is read once."""
        return (self.taps, self.groups, self.window["sh"], self.window["sw"], self.image[1:]) == (1, 1, 1, 1, self.out[1:])

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return 1 < self.groups == self.C == self.O

    def _by_channel(self, b: Builder) -> Value:
        """The kernel of a depthwise one, (taps, C)."""
        return b.whole(Value(b.param(self.weight).buffer, (self.C, self.taps)).permute((1, 0)))

    def _matrix(self, b: Builder) -> Matrix:
        return b.matrix(Value(b.param(self.weight).buffer, (self.O, self.C)))

    def _panels(self, transposed: bool = False) -> dict[str, Any]:
        """Sizes of the kernel as conv_panels lays it out."""
        rows, cols = (self.O, self.C) if transposed else (self.C, self.O)
        N = 16 if cols // self.groups <= 16 else 32
        return {"G": self.groups, "Q": -(-cols // self.groups // N), "R": self.taps * rows // self.groups, "N": N}

    def _kernel(self, b: Builder, transposed: bool = False) -> dict[str, Any]:
        """The kernel so laid out, and its sizes."""
        sizes = self._panels(transposed)
        panels = b.buffer(prod(sizes.values()), per_row=False)
        b.emit("conv_panels", weight=b.param(self.weight), out=panels, O=self.O, I=self.C // self.groups, K=self.taps,
               transposed=int(transposed), **sizes)
        return {"panels": panels, **sizes}

    def _read(self, x: Value) -> dict[str, Any]:
        """x (C, H, W), wherever it lies."""
        xc, xh, xw = x.strides
        return {"x": x, "C": self.C, "H": self.H, "W": self.W, "xb": x.buffer.items, "xc": 1 if self.C == 1 else xc, "xh": xh,
                "xw": xw}

    def _images(self) -> dict[str, Any]:
        """Sizes of both images of a depthwise one."""
        return {"B": Rows(), "H": self.H, "W": self.W, "C": self.C, "Ho": self.Ho, "Wo": self.Wo}

    def convolve(self, b: Builder, x: Value, bias: Buffer | None = None, needs_grad: bool = True) -> Value:
        """(C, H, W) -> (O, Ho, Wo)"""
        y = b.value((self.Ho, self.Wo, self.O), needs_grad=needs_grad)
        if self.plain:
            b.emit("matmul", a=b.matrix(x.permute((1, 2, 0))), b=self._matrix(b).T, out=y, bias=bias)
        elif self.depthwise:
            b.emit("depthwise2d", x=channels_last(b, x), weight=self._by_channel(b), bias=bias, out=y, K=self.taps,
                   **self._images(), **self.window)
        else:
            arguments = {**self._kernel(b), **self._read(x), **self.window}
            b.emit("conv2d", bias=bias, out=y, B=Rows(), Ho=self.Ho, Wo=self.Wo, O=self.O, **arguments)
        return channels_first(y)

    def transpose(self, b: Builder, y: Value, bias: Buffer | None = None, needs_grad: bool = True) -> Value:
        """(O, Ho, Wo) -> (C, H, W): the gradient of `convolve`"""
        x, y = b.value((self.H, self.W, self.C), needs_grad=needs_grad), channels_last(b, y)
        if self.plain:
            b.emit("matmul", a=b.matrix(y), b=self._matrix(b), out=x, bias=bias)
        elif self.depthwise:
            b.emit("depthwise_transpose2d", x=y, weight=self._by_channel(b), bias=bias, out=x, K=self.taps, **self._images(),
                   **self.window)
        else:
            arguments = {**self._kernel(b, transposed=True), **self.window}
            b.emit("conv_transpose2d", x=y, bias=bias, out=x, B=Rows(), Ho=self.Ho, Wo=self.Wo, O=self.O, H=self.H, W=self.W,
                   C=self.C, **arguments)
        return channels_first(x)

    def by_weight(self, b: Builder, x: Value, dy: Value, bias: Parameter | None = None) -> None:
        """The gradients of the kernel and, where it is given, of a bias that is added to (O, Ho, Wo)."""
        dweight, more = b.grad(self.weight)
        if self.plain:
            b.matmul(b.matrix(channels_last(b, dy)).T, b.matrix(x.permute((1, 2, 0))), dweight, accumulate=more)
        elif self.depthwise:
            by_tap = Value(b.buffer(dweight.size, per_row=False), (self.taps, self.C))
            b.emit("depthwise2d_by_weight", x=channels_last(b, x), dy=channels_last(b, dy), dweight=by_tap, K=self.taps,
                   terms=Rows(self.Ho * self.Wo), **self._images(), **self.window)
            b.move(by_tap.permute((1, 0)), Value(dweight.buffer, (self.C, self.taps)), more)
        if self.plain or self.depthwise:
            if bias:
                bias_gradient(b, bias, dy)
            return
        db, more_bias = b.grad(bias) if bias else (None, 0)
        M = prod(self._panels().values()) + self.O
        arguments = {**self._panels(), **self._read(x), **self.window}
        sums = b.buffer(M, per_row=False)
        b.emit("conv2d_by_weight", dy=channels_last(b, dy), dweight=dweight, db=db, sums=sums, M=M, B=Rows(), Ho=self.Ho,
               Wo=self.Wo, O=self.O, I=self.C // self.groups, K=self.taps, terms=Rows(self.Ho * self.Wo), more=more,
               more_bias=more_bias, **arguments)


def bias_gradient(b: Builder, bias: Parameter, dy: Value) -> None:
    """Of a bias for each channel of (C, H, W)."""
    db, more = b.grad(bias)
    b.emit("column_sum", x=channels_last(b, dy), out=db, R=Rows(dy.size // bias.size), C=bias.size, accumulate=more)
