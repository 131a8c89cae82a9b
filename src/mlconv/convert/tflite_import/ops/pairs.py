"""Sums and products of two 8-bit operands that answer, pair by pair of codes, what LiteRT does: see ``exact.pairs``.

onnxruntime computes DequantizeLinear, DequantizeLinear, Add or Mul, QuantizeLinear at once. Scales near the file's own make
that exact nearly always. Where ties decide, as with scales that are powers of two, the arithmetic is written out in float32
(3 times slower); and what is left, rare, is looked up in a table of all pairs (7 times; 64 KB), or of 256 codes where one
operand is a constant number.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import ACTIVATION_RANGES, Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.pair_kernels import (
    BuiltinProduct,
    BuiltinSum,
    Kernel,
    XnnpackProduct,
    XnnpackSum,
    product_kernel,
    sum_kernel,
)
from mlconv.convert.tflite_import.exact.pairs import Pairs, float_bias, product_scale, sum_scales
from mlconv.convert.tflite_import.exact.tables import by_xnnpack_table
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import tables
from mlconv.convert.tflite_import.ops.broadcast import Common, aligned, common, real, stored
from mlconv.formats.tflite_graph import Operator


def codes_of(e: Emitter, *indices: int) -> tuple[Codes, Codes, Codes]:
    """Of two operands and the result, which are all quantized."""
    first, second, out = (codes for index in indices if (codes := e.codes(index)) is not None)
    return first, second, out


def sum_of(e: Emitter, op: Operator, sign: int) -> None:
    """ADD; SUB with a ``sign`` of -1: its second operand is complemented, for onnxruntime has no kernel that subtracts."""
    a, b, out = *op.inputs, op.outputs[0]
    first, second, made = codes_of(e, a, b, out)
    kernel = sum_kernel(first, second, made, sign)
    if isinstance(kernel, BuiltinSum) and kernel.overflows:
        elements = tables.elements_of(e.dims(a))
        if not aligned(e, a, b) or elements is None or elements % _WRAPPED_AT_ONCE:
            raise NotExpressible("LiteRT's sums overflow at its scales, some as others do not")
    if _folded(e, op, kernel):
        return
    pairs, layout = _pairs(e, op, kernel), common(e, a, b)
    if (sign > 0 or a != b) and _fused_sum(e, op, kernel, pairs, layout, sign):
        return
    bias = (
        float_bias(pairs, kernel, first, second, made)
        if isinstance(kernel, XnnpackSum) and _unary(e, op) is None
        else None
    )
    if bias is None or not isinstance(kernel, XnnpackSum):
        looked_up(e, op, kernel)
        return
    left, right = (
        real(e, layout, index, ratio) for index, ratio in zip(op.inputs, kernel.ratios, strict=True)
    )
    value = e.op("Add", e.op("Add" if sign > 0 else "Sub", left, right), e.const(np.float32(bias)))
    _put(e, op, kernel, layout, e.quantize(value, replace(made, scale=1.0)))


_WRAPPED_AT_ONCE = 16


def _fused_sum(e: Emitter, op: Operator, kernel: Kernel, pairs: Pairs, layout: Common, sign: int) -> bool:
    """The sum as onnxruntime fuses it, where some scales are exact; which operand comes first matters to its rounding."""
    a, b, out = *op.inputs, op.outputs[0]
    first, second, made = codes_of(e, a, b, out)
    ratios = kernel.ratios if isinstance(kernel, XnnpackSum) else None
    if sign < 0:
        pairs, second = pairs.negated(), replace(second, zero_point=255 - second.zero_point)
    in_line = aligned(e, a, b)
    scales = sum_scales(pairs, first, second, made, ratios, aligned=in_line)
    swaps = scales is None and in_line
    if swaps:
        backwards = sum_scales(pairs.swapped(), second, first, made, ratios and ratios[::-1], aligned=True)
        scales = backwards and backwards[::-1]
    if scales is None:
        return False
    left = real(e, layout, a, scales[0])
    if sign > 0:
        right = real(e, layout, b, scales[1])
    else:
        right = e.dequantize(_complement(e, layout, b), second, scales[1])
    value = e.op("Add", *((right, left) if swaps else (left, right)))
    _put(e, op, kernel, layout, e.quantize(value, made))
    return True


def product(e: Emitter, op: Operator) -> None:
    """MUL. XNNPACK takes a tensor by itself for its reference SQUARE, which rounds with the zero point added."""
    a, b, out = *op.inputs, op.outputs[0]
    first, second, made = codes_of(e, a, b, out)
    kernel = product_kernel(first, second, made)
    if _folded(e, op, kernel):
        return
    if isinstance(kernel, BuiltinProduct) and kernel.overflows:
        raise NotExpressible("LiteRT's products overflow at its scales")
    layout = common(e, a, b)
    pairs = _pairs(e, op, kernel)
    is_square = a == b and isinstance(kernel, XnnpackProduct)
    if is_square:
        pairs = replace(pairs, answers=by_xnnpack_table(first, made, np.square).astype(np.int64))
    scale = product_scale(pairs, first, second, made)
    if scale is None and is_square:
        tables.put_table(e, a, out, np.clip(pairs.answers, *_clamp(made, op)).astype(np.uint8))
    elif scale is not None:
        value = e.op("Mul", real(e, layout, a, scale), real(e, layout, b))
        _put(e, op, kernel, layout, e.quantize(value, made))
    elif _unary(e, op) is None and isinstance(kernel, XnnpackProduct):
        whole = e.op("Mul", real(e, layout, a, 1.0), real(e, layout, b, 1.0))
        value = e.op("Mul", whole, e.const(np.float32(kernel.ratio)))
        _put(e, op, kernel, layout, e.quantize(value, replace(made, scale=1.0)))
    else:
        looked_up(e, op, kernel)


def looked_up(e: Emitter, op: Operator, kernel: Kernel) -> None:
    """Any kernel, by a table of its answers."""
    if _folded(e, op, kernel):
        return
    a, b, out = *op.inputs, op.outputs[0]
    first, second, made = codes_of(e, a, b, out)
    given = _unary(e, op)
    low, high = _clamp(made, op)
    if given is not None:
        answers = np.clip(_pairs(e, op, kernel).answers, low, high)
        tables.put_table(e, given, out, answers.astype(np.uint8))
        return
    every = np.arange(256)
    table = np.clip(Pairs.of(kernel, first, second, made, every, every).answers, low, high).astype(np.uint8)
    layout = common(e, a, b)
    wide = [e.op("Cast", stored(e, layout, index), to=ir.DataType.INT32) for index in (a, b)]
    places = e.op("Add", e.op("Mul", wide[0], e.const(np.int32(256))), wide[1])
    _put_clamped(e, op, kernel, layout, tables.looked_up(e, places, table))


def _folded(e: Emitter, op: Operator, kernel: Kernel) -> bool:
    """Whether both operands are constants, of which the result is one too."""
    a, b = (e.constant(index) for index in op.inputs)
    if a is None or b is None:
        return False
    first, second, made = codes_of(e, *op.inputs, op.outputs[0])
    answers = kernel(
        a.astype(np.int64) + first.shift - first.zero_point,
        b.astype(np.int64) + second.shift - second.zero_point,
    )
    e.put_constant(
        op.outputs[0], (np.clip(answers + made.zero_point, *_clamp(made, op)) - made.shift).astype(a.dtype)
    )
    return True


def _pairs(e: Emitter, op: Operator, kernel: Kernel) -> Pairs:
    a, b = op.inputs
    return Pairs.of(
        kernel, *codes_of(e, a, b, op.outputs[0]), _occurring(e, a), None if a == b else _occurring(e, b)
    )


def _occurring(e: Emitter, index: int) -> np.ndarray:
    """The stored codes that the operand can have."""
    array, codes = e.constant(index), e.codes(index)
    return (
        np.arange(256) if array is None or codes is None else np.unique(array.astype(np.int64) + codes.shift)
    )


def _unary(e: Emitter, op: Operator) -> int | None:
    """The only operand that varies, where the other one is the same or a constant number that broadcasting does not see."""
    a, b = op.inputs
    if a == b:
        return a
    for given, other in ((a, b), (b, a)):
        array = e.constant(other)
        if array is not None and array.size == 1 and array.ndim <= e.rank(given):
            return given
    return None


def _complement(e: Emitter, layout: Common, index: int) -> ir.Value:
    array = e.constant(index)
    value = stored(e, layout, index)
    if array is not None and value.const_value is not None:
        return e.const(255 - value.const_value.numpy(), e.name(index) + ":negated")
    if e.target.opset >= 18:  # opset 14 has a Sub of uint8, and onnxruntime only since 1.21
        return e.op("BitwiseNot", value)
    return e.op(
        "Cast",
        e.op("Sub", e.const(np.int32(255)), e.op("Cast", value, to=ir.DataType.INT32)),
        to=ir.DataType.UINT8,
    )


def _clamp(made: Codes, op: Operator) -> tuple[int, int]:
    if op.activation not in ACTIVATION_RANGES:
        raise NotExpressible(f"its fused {op.activation} is applied to integers")
    return made.clamp(op.activation)


def _put(e: Emitter, op: Operator, kernel: Kernel, layout: Common, value: ir.Value) -> None:
    codes = e.codes(op.outputs[0])
    assert codes is not None
    _clamp(codes, op)
    _put_clamped(e, op, kernel, layout, e.clamped_codes(value, codes, op.activation))


def _put_clamped(e: Emitter, op: Operator, kernel: Kernel, layout: Common, value: ir.Value) -> None:
    axes = _lost_axes(e, op, kernel)
    if not axes:
        e.put(op.outputs[0], value, channels_first=layout.channels_first)
        return
    plain = e.transpose(value, to_channels_first=False) if layout.channels_first else value
    e.put(op.outputs[0], e.op("Squeeze", plain, e.ints(*range(axes))))


def _lost_axes(e: Emitter, op: Operator, kernel: Kernel) -> int:
    """How many of its first axes the result has not: with a fused activation, XNNPACK leaves those of a constant number out."""
    if op.activation == "NONE" or not isinstance(kernel, (XnnpackSum, XnnpackProduct)):
        return 0
    for given, other in (op.inputs, op.inputs[::-1]):
        array = e.constant(other)
        if array is not None and array.size == 1:
            return max(array.ndim - e.rank(given), 0)
    return 0
