"""Sums and means of quantized numbers, rounded as LiteRT rounds them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.fixed_point import Multiplier
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.axes import Axes, is_picture
from mlconv.convert.tflite_import.ops.whole import whole


def count_of(e: Emitter, x: int, axes: Axes) -> int:
    """How many elements make one of the result.

    Raises:
        NotExpressible: Only a run tells.
    """
    dims = e.dims(x) or ()
    sizes = [dims[axis] for axis in axes.own]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes) or not math.prod(known):
        raise NotExpressible("it averages integers over sizes that are known only while the model runs")
    return math.prod(known)


def of_integers(e: Emitter, value: ir.Value, axes: Axes) -> ir.Value:
    """The sum of int32, as int64, or of int64, which wraps as LiteRT's does.

    onnxruntime adds both types in float64 and saturates (tried on 1.31), which is exact for 4 million of 32 bits.
    """
    if value.dtype == ir.DataType.INT32:
        return axes.reduced(e, "ReduceSum", e.op("Cast", value, to=ir.DataType.INT64))
    unit = e.const(np.int64(1 << 32))
    low = e.op("Mod", value, unit)
    high = e.op("Div", e.op("Sub", value, low), unit)
    upper = e.op("Mul", axes.reduced(e, "ReduceSum", high), unit)
    return e.op("Add", upper, axes.reduced(e, "ReduceSum", low))


def product_of_integers(e: Emitter, value: ir.Value, axes: Axes) -> ir.Value:
    """Two halves of each axis multiplied, and again: Mul wraps as LiteRT does, where onnxruntime's ReduceProd saturates.

    Along an axis of unknown size it is ReduceProd, exact below 2**53.
    """
    if not axes.placed:
        return value
    left = []
    for axis in axes.placed:
        size = value.shape[axis] if value.shape is not None else None
        if not isinstance(size, int) or size == 0:
            left.append(axis)
            continue
        while size > 1:
            half = size // 2
            parts = e.split(value, axis, [half, half, *([1] if size % 2 else [])])
            value = e.op("Mul", parts[0], parts[1])
            if size % 2:
                value = e.op("Concat", value, parts[2], axis=axis)
            size = half + size % 2
    wide = value
    if left:
        wide = e.reduce("ReduceProd", e.op("Cast", value, to=ir.DataType.INT64), left, keepdims=True)
    made = wide if axes.keepdims else e.op("Squeeze", wide, e.ints(*axes.placed))
    return e.op("Cast", made, to=value.dtype) if left else made


def of_bytes(e: Emitter, x: int, codes: Codes, wanted: Codes, axes: Axes, kind: str) -> ir.Value:
    """XNNPACK: ``round(sum * multiplier + offset)``, each step in float32, the zero points in ``offset``.

    XNNPACK src/operators/reduce-nd.c, reshape_reduce_nd. onnxruntime's QLinearGlobalAveragePool is quicker and adds the zero
    point later: it is taken where every sum that there can be comes out the same.
    """
    f = np.float32
    count = count_of(e, x, axes)
    multiplier = f(codes.scale) / f(wanted.scale)
    if kind == "ReduceMean":
        multiplier = multiplier * (f(1) / f(count))
    zero_point, shift = codes.zero_point - codes.shift, codes.shift
    offset = f(wanted.zero_point - shift) - f(count * zero_point) * multiplier
    if kind == "ReduceMean" and is_picture(e, x, axes) and count <= _TRIED:
        pair = _as_pool(codes, wanted, count, multiplier, offset)
        if pair is not None:
            real = e.dequantize(e.stored(x, channels_first=True), pair[0])
            made = e.quantize(e.op("GlobalAveragePool", real), pair[1])
            return made if axes.keepdims else e.op("Flatten", made, axis=1)
    total = _total(e, x, axes, count, shift)
    steps = e.op("Add", e.op("Mul", total, e.const(multiplier)), e.const(offset))
    return e.op("QuantizeLinear", steps, e.const(f(1)), e.const(np.uint8(shift)))


_TRIED = 4096  # elements: a million sums, some 20 ms


def _total(e: Emitter, x: int, axes: Axes, count: int, shift: int) -> ir.Value:
    """The exact sum of the file's codes, as float32.

    Of pictures it comes from a GlobalAveragePool of what lies around 128: onnxruntime 1.31 needs 2.4 times as long for a
    ReduceSum. The mean is off by 2**-22 of itself, so the sum is exact up to 2**21.
    """
    f = np.float32
    stored, one = e.stored(x, channels_first=axes.channels_first), e.const(f(1))
    if is_picture(e, x, axes) and 128 * count < 1 << 21:
        mean = axes.pooled(e, e.op("DequantizeLinear", stored, one, e.const(np.uint8(128))))
        total = e.op("Round", e.op("Mul", mean, e.const(f(count))))
        return e.op("Add", total, e.const(f((128 - shift) * count))) if shift != 128 else total
    if 255 * count < 1 << 24:
        whole = e.op("DequantizeLinear", stored, one, e.const(np.uint8(shift)))
        return axes.reduced(e, "ReduceSum", whole)
    whole = axes.reduced(e, "ReduceSum", e.op("Cast", stored, to=ir.DataType.INT32))
    return e.op("Cast", e.op("Sub", whole, e.const(np.int32(shift * count))), to=ir.DataType.FLOAT)


def _as_pool(
    codes: Codes, wanted: Codes, count: int, multiplier: np.float32, offset: np.float32
) -> tuple[Codes, Codes] | None:
    """Codes of operand and result, next to the file's, with which QLinearGlobalAveragePool's answers are XNNPACK's.

    onnxruntime/core/mlas/lib/qlgavgpool.cpp: ``round((sum - count * zero point) * (scale / (output scale * count)))``, then
    the zero point and the limits. All sums are tried: 255 for each element. Where both scales are equal, halves are frequent,
    and both zero points may be moved by one so that the even neighbour is the same.
    """
    f = np.float32
    sums = np.arange(255 * count + 1)
    exact = np.rint((sums - count * codes.shift).astype(f) * multiplier + offset) + codes.shift
    exact = np.clip(exact, codes.low, codes.high)
    for moved in (0, 1, -1) if codes.scale == wanted.scale else (0,):
        points = codes.zero_point + moved, wanted.zero_point + moved
        centred = (sums - count * points[0]).astype(f)
        if not (min(points) >= 0 and max(points) <= 255):
            continue
        for scale in _neighbours(f(codes.scale)):
            steps = np.rint(centred * (scale / (f(wanted.scale) * f(count)))) + points[1]
            if np.array_equal(np.clip(steps, wanted.low, wanted.high), exact):
                return replace(codes, scale=float(scale), zero_point=points[0]), replace(
                    wanted, zero_point=points[1]
                )
    return None


def _neighbours(scale: np.float32) -> list[np.float32]:
    """A scale, and the floats next to it, nearest first."""
    bits = int(scale.view(np.int32))
    return [np.int32(bits + step).view(np.float32) for step in (0, 1, -1, 2, -2, 3, -3, 4, -4)]


def of_words(e: Emitter, x: int, codes: Codes, wanted: Codes, axes: Axes, kind: str) -> ir.Value:
    """int16, whose zero points are 0, by LiteRT's own kernel: MEAN in integers, SUM in float32, halves away from zero.

    tensorflow/lite/kernels/reduce.cc; internal/reference/{reduce.h,integer_ops/mean.h}.
    """
    count = count_of(e, x, axes)
    if codes.zero_point or wanted.zero_point or count >= 1 << 16:
        raise NotExpressible("it reduces int16 with zero points, or more elements than LiteRT's int32 holds")
    words = e.op("Cast", e.stored(x, channels_first=axes.channels_first), to=ir.DataType.INT64)
    total = axes.reduced(e, "ReduceSum", words)
    if kind == "ReduceMean":
        by = _mean_multiplier(codes, wanted, count)
        mean = whole(e, total).rescaled([(by.mantissa, by.shift)], 2.0**31)
        made = e.op("Cast", mean.value, to=ir.DataType.FLOAT)
    else:
        ratio = np.float32(codes.scale) / np.float32(wanted.scale)
        steps = e.op("Mul", e.op("Cast", total, to=ir.DataType.FLOAT), e.const(ratio))
        made = e.op(
            "Mul",
            e.op("Sign", steps),
            e.op("Floor", e.op("Add", e.op("Abs", steps), e.const(np.float32(0.5)))),
        )
    return e.op("Clip", made, e.const(np.float32(wanted.low)), e.const(np.float32(wanted.high)))


def _mean_multiplier(codes: Codes, wanted: Codes, count: int) -> Multiplier:
    """reduce.cc divides the multiplier of 31 bits by the count, shifted so that it keeps its bits."""
    multiplier = Multiplier.of(float(np.float32(codes.scale)) / float(np.float32(wanted.scale)))
    shift = min(count.bit_length() - 1, 32, 31 + multiplier.shift)
    return Multiplier((multiplier.mantissa << shift) // count, multiplier.shift - shift)
