"""Resizing of pictures, along their two spatial axes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.interpolation import Interpolation
from mlconv.convert.tflite_import.ops.sampling import Centers, Taps, nearest, onnxruntimes, taps, word_taps
from mlconv.formats.tflite_graph import Operator


def resize_nearest_neighbor(e: Emitter, op: Operator) -> None:
    x, out, centers = op.inputs[0], op.outputs[0], _centers(op)
    sizes, wanted = _sizes(e, x), _wanted(e, op)
    ends = wanted is not None and None not in sizes and _ends_channels_last(e, op, _known(sizes), wanted)
    channels_first = e.layout(x) and not ends
    value = e.stored(x, channels_first=channels_first)  # LiteRT moves codes, whatever the scales are
    if wanted is None or None in sizes:
        for number, axis in enumerate((2, 3) if channels_first else (1, 2)):
            value = e.op("Gather", value, _computed_nearest(e, op, value, axis, number, centers), axis=axis)
    else:
        indices = [nearest(size, result, centers) for size, result in zip(_known(sizes), wanted, strict=True)]
        value = _pick(e, op, value, channels_first, _known(sizes), indices)
    e.put(out, value, channels_first=channels_first)


def resize_bilinear(e: Emitter, op: Operator) -> None:
    """LiteRT's default is XNNPACK for float32 and 8-bit integers, to a constant size."""
    x, out, centers = op.inputs[0], op.outputs[0], _centers(op)
    sizes, wanted = _sizes(e, x), _wanted(e, op)
    codes = e.codes(x)
    if wanted is None or None in sizes:
        if codes is not None:
            raise NotExpressible("it resizes integers whose size is known only while the model runs")
        channels_first = e.layout(x)
        e.put(
            out,
            _resize(e, op, e.real(x, channels_first=channels_first), channels_first, centers, wanted),
            channels_first=channels_first,
        )
        return
    known = _known(sizes)
    axes = [taps(size, result, centers) for size, result in zip(known, wanted, strict=True)]
    if _moves_only(axes):
        _move(e, op, axes)
    elif codes is None:
        _resize_real(e, op, known, wanted, centers, axes)
    elif codes.dtype == "float32":
        _resize_words(e, op, known, wanted, centers)
    else:
        _resize_bytes(e, op, known, wanted, centers, axes)


def _centers(op: Operator) -> Centers:
    centers = Centers(op.flag("align_corners"), op.flag("half_pixel_centers"))
    if centers.align_corners and centers.half_pixel:
        raise NotExpressible("it aligns corners and centres at once")
    return centers


def _sizes(e: Emitter, index: int) -> list[int | None]:
    dims = e.dims(index)
    if dims is None or len(dims) != 4:
        raise NotExpressible("it does not resize pictures (four axes)")
    if any(isinstance(dim, int) and not 0 < dim <= _LARGEST for dim in dims[1:3]):
        raise NotExpressible(f"its picture is {dims[1]} by {dims[2]}")
    return [dim if isinstance(dim, int) else None for dim in dims[1:3]]


_LARGEST = 1 << 16  # rows or columns: what a broken file says must not become gigabytes


def _known(sizes: list[int | None]) -> list[int]:
    return [size for size in sizes if size is not None]


def _wanted(e: Emitter, op: Operator) -> list[int] | None:
    """Height and width of the result, None where they are computed."""
    if e.constant(op.inputs[1]) is None:
        return None
    wanted = e.numbers(op.inputs[1], "size")
    if len(wanted) != 2 or min(wanted) < 1 or max(wanted) > _LARGEST:
        raise NotExpressible(f"it resizes to {wanted}")
    return wanted


def _moves_only(axes: list[Taps]) -> bool:
    """Whether each result is one source element; in 8 bits too, since XNNPACK's steps are finer than these."""
    return all(np.all((axis.alpha == 0) | (axis.alpha == 1) | (axis.size == 1)) for axis in axes)


def _move(e: Emitter, op: Operator, axes: list[Taps]) -> None:
    """By moving codes; a single element, which is the same in both layouts, is repeated channels last, in whole pixels."""
    x, out = op.inputs[0], op.outputs[0]
    channels_first = e.layout(x) and (axes[0].size, axes[1].size) != (1, 1)
    indices = [np.minimum(axis.low + (axis.alpha == 1), axis.size - 1) for axis in axes]
    value = _pick(
        e,
        op,
        e.stored(x, channels_first=channels_first),
        channels_first,
        [axis.size for axis in axes],
        indices,
    )
    e.put(out, value, channels_first=channels_first)


def _pick(
    e: Emitter,
    op: Operator,
    value: ir.Value,
    channels_first: bool,
    sizes: list[int],
    indices: list[np.ndarray],
) -> ir.Value:
    """``value``'s elements at these indices of the two axes, as it is quickest.

    Channels first, that is Resize; channels last it is Gather, which copies whole rows of channels.
    """
    repeated = Centers(align_corners=False, half_pixel=False)
    results = [len(index) for index in indices]
    by_resize = all(
        size < result and np.array_equal(np.floor(onnxruntimes(size, result, repeated)), index)
        for size, result, index in zip(sizes, results, indices, strict=True)
    )
    if channels_first and by_resize and sizes != [1, 1]:
        return _resize(e, op, value, channels_first, repeated, results, mode="nearest", nearest_mode="floor")
    for axis, size, index in zip((2, 3) if channels_first else (1, 2), sizes, indices, strict=True):
        value = _pick_along(e, value, axis, size, index)
    return value


def _pick_along(e: Emitter, value: ir.Value, axis: int, size: int, indices: np.ndarray) -> ir.Value:
    count = len(indices)
    if count == size and np.array_equal(indices, np.arange(size)):
        return value
    if size == 1:
        return e.op("Expand", value, e.ints(*(count if number == axis else 1 for number in range(4))))
    step = int(indices[1] - indices[0]) if count > 1 else 1
    if step > 0 and np.array_equal(indices, indices[0] + step * np.arange(count)):
        first = int(indices[0])
        return e.op(
            "Slice", value, e.ints(first), e.ints(first + step * (count - 1) + 1), e.ints(axis), e.ints(step)
        )
    return e.op("Gather", value, e.const(indices), axis=axis)


def _computed_nearest(
    e: Emitter, op: Operator, value: ir.Value, axis: int, number: int, centers: Centers
) -> ir.Value:
    """``nearest`` as ONNX operators, for sizes that are known only while the model runs."""
    size = e.op("Gather", e.op("Shape", value), e.const(np.array(axis, np.int64)))
    result = e.op(
        "Gather",
        e.op("Cast", e.stored(op.inputs[1]), to=ir.DataType.INT64),
        e.const(np.array(number, np.int64)),
    )
    size, result = (e.op("Cast", count, to=ir.DataType.FLOAT) for count in (size, result))
    zero, half, one = (e.const(np.float32(constant)) for constant in (0, 0.5, 1))
    at = e.op("Range", zero, result, one)
    last = e.op("Sub", size, one)
    if centers.align_corners:
        scale = e.op("Div", last, e.op("Max", e.op("Sub", result, one), one))
        found = e.op("Floor", e.op("Add", e.op("Mul", at, scale), half))
    else:
        at = e.op("Add", at, half) if centers.half_pixel else at
        found = e.op("Floor", e.op("Mul", at, e.op("Div", size, result)))
    return e.op("Cast", e.op("Min", found, last), to=ir.DataType.INT64)


def _resize_real(
    e: Emitter, op: Operator, sizes: list[int], wanted: list[int], centers: Centers, axes: list[Taps]
) -> None:
    """By Resize, or with LiteRT's own weights where both sample elsewhere: float32 rounds what is far from 0 coarsely."""
    x, out = op.inputs[0], op.outputs[0]
    apart = max(
        float(np.abs(onnxruntimes(size, result, centers) - axis.at).max())
        for size, result, axis in zip(sizes, wanted, axes, strict=True)
    )
    if apart > _APART:
        way = Interpolation(axes[0], axes[1], _channels(e, x))
        made = way.twice(e, way.once(e, e.real(x, channels_first=way.channels_first)))
        e.put(out, made, channels_first=way.channels_first)
        return
    channels_first = e.layout(x) and not _ends_channels_last(e, op, sizes, wanted)
    made = _resize(e, op, e.real(x, channels_first=channels_first), channels_first, centers, wanted)
    e.put(out, made, channels_first=channels_first)


def _ends_channels_last(e: Emitter, op: Operator, sizes: list[int], wanted: list[int]) -> bool:
    """Whether it enlarges and nothing but the ends of networks uses it: a Transpose of the source is cheaper than of the result."""
    users = {operator.kind for operator in e.graph.operators if op.outputs[0] in operator.inputs}
    return _channels(e, op.inputs[0]) >= _DEEP and math.prod(wanted) > math.prod(sizes) and users <= _ENDS


_ENDS = frozenset(
    ("ARG_MAX", "ARG_MIN", "SOFTMAX", "LOG_SOFTMAX", "RESHAPE", "TRANSPOSE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR")
)  # fmt: skip
_APART = 2.5e-6  # four corners, each twice the greatest magnitude away: 1e-5 of it


def _resize_bytes(
    e: Emitter, op: Operator, sizes: list[int], wanted: list[int], centers: Centers, axes: list[Taps]
) -> None:
    """Codes as XNNPACK interpolates them (src/s8-ibilinear/scalar.c.in): weights in steps of 2**-11, halves up.

    Most networks' weights are coarser than that. With few enough bits everything is exact in float32, and half of the
    finest step, added to the small source, makes QuantizeLinear round halves up.
    """
    x, out = op.inputs[0], op.outputs[0]
    rows, columns = (axis.quantized() for axis in axes)
    parts = rows.parts * columns.parts
    fits = parts <= 1 << 15
    same = all(
        np.array_equal(onnxruntimes(size, result, centers), axis.at)
        for size, result, axis in zip(sizes, wanted, (rows, columns), strict=True)
    )
    way = Interpolation(rows, columns, _channels(e, x))
    channels_first = e.layout(x) and _channels(e, x) < _DEEP if same and fits else way.channels_first
    real = e.op("Cast", e.stored(x, channels_first=channels_first), to=ir.DataType.FLOAT)
    if not fits:
        made = way.exactly(e, real)
    else:
        real = e.op("Add", real, e.const(np.float32(0.5 / parts)))
        made = (
            _resize(e, op, real, channels_first, centers, wanted) if same else way.twice(e, way.once(e, real))
        )
    made = e.op("QuantizeLinear", made, e.const(np.float32(1)), e.const(np.uint8(0)))
    e.put(out, made, channels_first=channels_first)


_DEEP = 8  # from so many channels on, a Transpose of the source pays: onnxruntime 1.31 resizes 64 four times quicker channels last


def _channels(e: Emitter, index: int) -> int:
    channels = (e.dims(index) or (None,))[-1]
    return channels if isinstance(channels, int) else 1


def _resize_words(e: Emitter, op: Operator, sizes: list[int], wanted: list[int], centers: Centers) -> None:
    """int16 as LiteRT's own kernel does it: weights in steps of 2**-10, halves away from zero; exact in float64.

    tensorflow/lite/kernels/internal/reference/resize_bilinear.h, ResizeBilinearInteger.
    """
    x, out = op.inputs[0], op.outputs[0]
    rows, columns = (word_taps(size, result, centers) for size, result in zip(sizes, wanted, strict=True))
    way = Interpolation(rows, columns, _channels(e, x), np.float64)
    real = e.op("Cast", e.stored(x, channels_first=way.channels_first), to=ir.DataType.DOUBLE)
    made = way.twice(e, way.once(e, real))
    magnitude = e.op("Floor", e.op("Add", e.op("Abs", made), e.const(np.float64(0.5))))
    e.put(
        out,
        e.op("Cast", e.op("Mul", e.op("Sign", made), magnitude), to=ir.DataType.FLOAT),
        channels_first=way.channels_first,
    )


def _resize(
    e: Emitter,
    op: Operator,
    value: ir.Value,
    channels_first: bool,
    centers: Centers,
    wanted: list[int] | None,
    **mode: str,
) -> ir.Value:
    """ONNX's Resize of the two spatial axes, linear where ``mode`` does not say otherwise, to a constant or a computed size."""
    axes = (2, 3) if channels_first else (1, 2)
    attributes: dict[str, Any] = {"mode": "linear", **mode, "coordinate_transformation_mode": centers.onnx}
    dims = None if value.shape is None else [dim if isinstance(dim, int) else None for dim in value.shape]
    if (
        wanted is not None
        and dims is not None
        and None not in (dims[0], dims[1] if channels_first else dims[3])
    ):
        sizes = [dim or 0 for dim in dims]
        sizes[axes[0]], sizes[axes[1]] = wanted
        return e.op("Resize", value, None, None, e.ints(*sizes), **attributes)
    spatial = (
        e.ints(*wanted) if wanted is not None else e.op("Cast", e.stored(op.inputs[1]), to=ir.DataType.INT64)
    )
    if e.target.opset >= 18:
        return e.op("Resize", value, None, None, spatial, axes=axes, **attributes)
    shape = e.op("Shape", value)
    before = e.op("Slice", shape, e.ints(0), e.ints(axes[0]))
    after = e.op("Slice", shape, e.ints(axes[1] + 1), e.ints(4))
    return e.op("Resize", value, None, None, e.op("Concat", before, spatial, after, axis=0), **attributes)
