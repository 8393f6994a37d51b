"""Images of another size: Upsample, PixelShuffle, ZeroPad2d."""
from __future__ import annotations

# C channels, H, W rows and columns: samples (C, H, W)
from typing import Any

from tinydl import _hints
from tinydl.nn.images import Shape, channels_first, channels_last, image, pad, pad_backward, pair
from tinydl.nn.layer import Backward, Layer, register
from tinydl.plan import Builder, Rows, Value


@register
class Upsample(Layer):
    """An image of `size`, or `scale_factor` times as large: (C, H, W) -> (C, Ho, Wo)

    mode "nearest": pixel i of Ho is that at floor(i H / Ho). "bilinear": between the two nearest along each axis, at
    (i + 0.5) H / Ho - 0.5 or, with align_corners, i (H - 1) / (Ho - 1). As PyTorch's, where scale_factor is a whole number (for
    others give `size`).

        >>> from tinydl import Model, nn
        >>> Model(nn.Upsample(scale_factor=2)).predict([[[[1.0, 2.0]]]]).tolist()
        [[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]
    """

    @_hints.arguments
    def __init__(self, size: int | Shape | None = None, scale_factor: int | Shape | None = None, mode: str = "nearest",
                 align_corners: bool = False) -> None:
        if (size is None) == (scale_factor is None):
            raise ValueError(f"Upsample(size={size}, scale_factor={scale_factor}): one of them")
        if mode not in ("nearest", "bilinear"):
            raise ValueError(f"Upsample(mode={mode!r}): 'nearest' or 'bilinear'")
        if align_corners and mode == "nearest":
            raise ValueError("Upsample(align_corners=True): mode 'bilinear' alone has it")
        self.size = None if size is None else pair("Upsample", "size", size)
        if isinstance(scale_factor, float) and scale_factor.is_integer():
            scale_factor = int(scale_factor)
        self.scale_factor = None if scale_factor is None else pair("Upsample", "scale_factor", scale_factor)
        self.mode, self.align_corners = mode, bool(align_corners)

    def config(self) -> dict[str, Any]:
        return {"size": self.size and list(self.size), "scale_factor": self.scale_factor and list(self.scale_factor),
                "mode": self.mode, "align_corners": self.align_corners}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape)
        return (shape[0], *(self.size or (n * s for n, s in zip(shape[1:], self.scale_factor or (), strict=True))))

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        (_, Ho, Wo), xs = self.output_shape(x.shape), channels_last(b, x)
        H, W, C = xs.shape
        y = b.value((Ho, Wo, C), needs_grad=x.needs_grad)
        sizes: dict[str, Any] = {"B": Rows(), "H": H, "W": W, "C": C, "Ho": Ho, "Wo": Wo,
                                 "bilinear": int(self.mode == "bilinear"), "align": int(self.align_corners)}
        b.emit("upsample2d", x=xs, out=y, **sizes)

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = b.value(xs.shape)
            b.emit("upsample2d_backward", dy=channels_last(b, dy), out=dx, **sizes)
            return channels_first(dx)
        return channels_first(y), backward


@register
class PixelShuffle(Layer):
    """(C r^2, H, W) -> (C, H r, W r), r = upscale_factor: y[c, h r + i, w r + j] = x[c r^2 + i r + j, h, w] (Shi et al. 2016)

        >>> from tinydl import Model, nn
        >>> Model(nn.PixelShuffle(2)).predict([[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]]).tolist()
        [[[[1.0, 2.0], [3.0, 4.0]]]]
    """

    @_hints.arguments
    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor, = pair("PixelShuffle", "upscale_factor", upscale_factor, n=1)

    def config(self) -> dict[str, Any]:
        return {"upscale_factor": self.upscale_factor}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape)
        r = self.upscale_factor
        if shape[0] % (r * r):
            raise ValueError(f"{self!r} on samples of shape {shape}: the channels must be a multiple of {r * r}")
        return (shape[0] // (r * r), shape[1] * r, shape[2] * r)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        r, (C, H, W) = self.upscale_factor, self.output_shape(x.shape)

        def rows(image: Value, i: int) -> Value:
            """Those of y, (C, H r, W r), that come from row i of each r by r square: (H, W, r, C)."""
            last = image.permute((1, 2, 0))
            s, t, u = last.strides
            return Value(last.buffer, (H // r, W // r, r, C), last.needs_grad, last.offset + i * s, (s * r, t * r, t, u))

        def channels(image: Value, i: int) -> Value:
            """The same, of x."""
            s, t, u = image.strides
            return Value(image.buffer, (H // r, W // r, r, C), image.needs_grad, image.offset + i * r * s, (t, u, s, s * r * r))
        y = b.value((H, W, C), needs_grad=x.needs_grad)
        for i in range(r):
            b.move(channels(x, i), rows(channels_first(y), i))

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            dx = channels_first(b.value((H // r, W // r, C * r * r)))
            for i in range(r):
                b.move(rows(dy, i), channels(dx, i))
            return dx
        return channels_first(y), backward


@register
class ZeroPad2d(Layer):
    """Zeros around an image (C, H, W). padding: on all sides, or (left, right, top, bottom), as PyTorch's.

        >>> from tinydl import Model, nn
        >>> Model(nn.ZeroPad2d((1, 0, 0, 1))).predict([[[[5.0]]]]).tolist()
        [[[[0.0, 5.0], [0.0, 0.0]]]]
    """

    @_hints.arguments
    def __init__(self, padding: int | Shape) -> None:
        self.padding = pair("ZeroPad2d", "padding", padding, 0, 4)

    def config(self) -> dict[str, Any]:
        return {"padding": list(self.padding)}

    def output_shape(self, shape: Shape) -> Shape:
        image(self, shape)
        left, right, top, bottom = self.padding
        return (shape[0], shape[1] + top + bottom, shape[2] + left + right)

    def emit(self, b: Builder, x: Value) -> tuple[Value, Backward]:
        self.output_shape(x.shape)
        left, right, top, bottom = self.padding
        y = pad(b, x.permute((1, 2, 0)), (top, left), (bottom, right), "zeros")

        def backward(dy: Value | None) -> Value | None:
            if dy is None or not x.needs_grad:
                return None
            return channels_first(pad_backward(b, dy.permute((1, 2, 0)), (top, left), (bottom, right), "zeros"))
        return channels_first(y), backward
