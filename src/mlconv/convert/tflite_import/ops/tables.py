"""Operators on one 8-bit operand, written so that they answer LiteRT's table: see ``exact.codes``."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.codes import Clamp, Sigmoid, Slopes, form_of
from mlconv.convert.tflite_import.graph import Dims


def eight_bit(e: Emitter, x: int, out: int) -> tuple[Codes, Codes] | None:
    """How operand and result are stored, where both are of 8 bits."""
    given, made = e.codes(x), e.codes(out)
    if given is None or made is None or given.dtype != "uint8" or made.dtype != "uint8":
        return None
    return given, made


def elements_of(dims: Dims | None) -> int | None:
    """How many elements a tensor of these sizes has; None where that is not known."""
    known = [dim for dim in dims or (None,) if isinstance(dim, int)]
    return math.prod(known) if dims is not None and len(known) == len(dims) else None


def put_table(
    e: Emitter, x: int, out: int, table: np.ndarray, sigmoid: float = 0.0, given: Codes | None = None
) -> None:
    """Every code of ``x`` becomes that of ``table``.

    Args:
        sigmoid: ``form_of``'s.
        given: How to read the codes of ``x``, where that is not the file's own.
    """
    given, made = given or e.codes(x), e.codes(out)
    assert given is not None
    assert made is not None
    channels_first = e.layout(x)
    match form_of(table, given, made, sigmoid):
        case Clamp(low, high):
            value = _clipped(e, e.stored(x, channels_first=channels_first), low, high)
        case Slopes(scale, alpha, low, high):
            real = e.dequantize(e.stored(x, channels_first=channels_first), given, scale)
            sloped = e.op("LeakyRelu", real, alpha=alpha)
            value = _clipped(e, e.quantize(sloped, made), low, high)
        case Sigmoid(scale, output_scale, output_zero_point):
            curved = e.op("Sigmoid", e.dequantize(e.stored(x, channels_first=channels_first), given, scale))
            value = e.quantize(curved, replace(made, scale=output_scale, zero_point=output_zero_point))
        case _:
            value = _looked_up_in_nhwc(e, e.stored(x, channels_first=channels_first), table, channels_first)
    e.put(out, value, channels_first=channels_first)


def _looked_up_in_nhwc(e: Emitter, codes: ir.Value, table: np.ndarray, channels_first: bool) -> ir.Value:
    """``looked_up`` where onnxruntime has its operands: it runs 8-bit convolutions channels last.

    It moves transposes through operators, but not through this one's Reshape; these two meet those that it adds itself, and
    vanish (MobileNetV3: 2.7 ms in place of 3.0).
    """
    if not channels_first or not e.target.optimize:
        return looked_up(e, codes, table)
    return e.transpose(
        looked_up(e, e.transpose(codes, to_channels_first=False), table), to_channels_first=True
    )


def looked_up(e: Emitter, codes: ir.Value, table: np.ndarray) -> ir.Value:
    """``table[codes]``: by GatherElements on one axis, which onnxruntime does six times faster than Gather."""
    indices, shape = e.op("Cast", codes, to=ir.DataType.INT32), codes.shape
    if shape is not None and len(shape) == 1:
        return e.op("GatherElements", e.const(table), indices)
    found = e.op("GatherElements", e.const(table), e.op("Reshape", indices, e.ints(-1)))
    sizes = [] if shape is None else [dim if isinstance(dim, int) else -1 for dim in shape]
    if shape is None or sizes.count(-1) > 1 or (-1 in sizes and 0 in sizes):
        value = e.op("Reshape", found, e.op("Shape", codes))
    else:
        value = e.reshape(found, sizes)
    if shape is not None:  # with its names, and where inference cannot tell
        value.shape = ir.Shape(shape)
    return value


def _clipped(e: Emitter, value: ir.Value, low: int, high: int) -> ir.Value:
    if (low, high) == (0, 255):
        return value
    return e.op("Clip", value, e.const(np.uint8(low)), e.const(np.uint8(high)))
