"""Comparisons, and logic on booleans and bits."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.pair_kernels import comparison_multiplier
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import exact_integers
from mlconv.convert.tflite_import.ops.broadcast import Common, common, numbers, put_numbers, stored, widened
from mlconv.formats.tflite_graph import Operator

_SHIFT = 8  # tflite/kernels/comparisons.cc
_KINDS = {
    "EQUAL": "Equal",
    "LESS": "Less",
    "LESS_EQUAL": "LessOrEqual",
    "GREATER": "Greater",
    "GREATER_EQUAL": "GreaterOrEqual",
}


def compare(e: Emitter, op: Operator) -> None:
    layout = common(e, *op.inputs)
    a, b = _operands(e, op, layout)
    kind = "Equal" if op.kind == "NOT_EQUAL" else _KINDS[op.kind]
    if a.dtype == ir.DataType.BOOL and kind != "Equal":
        raise NotExpressible("it orders booleans")
    value = e.op(kind, a, b)
    if op.kind == "NOT_EQUAL":
        value = e.op("Not", value)
    e.put(op.outputs[0], value, channels_first=layout.channels_first)


def _operands(e: Emitter, op: Operator, layout: Common) -> tuple[ir.Value, ir.Value]:
    a, b = op.inputs
    dtype = e.tensor(a).dtype
    if dtype in ("str", "complex64", "complex128"):
        raise NotExpressible(f"onnxruntime does not compare {dtype}")
    first, second = e.codes(a), e.codes(b)
    if first is None or second is None:
        if e.tensor(a).quantization is not None and dtype in ("int8", "uint8"):
            raise NotExpressible("LiteRT does not compare scales per axis")
        return numbers(e, layout, a), numbers(e, layout, b)
    if _is_told_by_codes(first, second):
        return widened(e, stored(e, layout, a)), widened(e, stored(e, layout, b))
    left, right = (_scaled(e, layout, index, codes) for index, codes in ((a, first), (b, second)))
    return left, right


def _is_told_by_codes(first: Codes, second: Codes) -> bool:
    """Whether no two codes become one when they are rescaled: LiteRT compares 256ths of the real numbers, rounded."""
    if (first.scale, first.zero_point, first.dtype) != (second.scale, second.zero_point, second.dtype):
        return False
    steps = np.arange(first.low, first.high + 1, dtype=np.int64) - first.zero_point
    multiplier = comparison_multiplier(first)
    return multiplier is not None and bool(np.all(np.diff(multiplier.times(steps << _SHIFT)) > 0))


def _scaled(e: Emitter, layout: Common, index: int, codes: Codes) -> ir.Value:
    centred = exact_integers.centred(e, stored(e, layout, index), codes)
    multiplier = comparison_multiplier(codes)
    if multiplier is None:
        return e.op("Sign", (centred + 0.5).value)
    return exact_integers.shifted_high(centred, multiplier, _SHIFT).divided(-multiplier.shift).value


def logical(e: Emitter, op: Operator) -> None:
    """LOGICAL_AND, LOGICAL_OR."""
    layout = common(e, *op.inputs)
    a, b = (stored(e, layout, index) for index in op.inputs)
    e.put(
        op.outputs[0],
        e.op("And" if op.kind == "LOGICAL_AND" else "Or", a, b),
        channels_first=layout.channels_first,
    )


def logical_not(e: Emitter, op: Operator) -> None:
    layout = common(e, op.inputs[0])
    e.put(op.outputs[0], e.op("Not", stored(e, layout, op.inputs[0])), channels_first=layout.channels_first)


def bitwise_xor(e: Emitter, op: Operator) -> None:
    layout = common(e, *op.inputs)
    a, b = (stored(e, layout, index) for index in op.inputs)
    if a.dtype == ir.DataType.BOOL:
        e.put(op.outputs[0], e.op("Xor", a, b), channels_first=layout.channels_first)
        return
    _assert_integers(e, op)
    if e.target.opset < 18:
        raise NotExpressible("ONNX has BitwiseXor from opset 18 on")
    e.put(op.outputs[0], e.op("BitwiseXor", a, b), channels_first=layout.channels_first)


def right_shift(e: Emitter, op: Operator) -> None:
    """Towards minus infinity. LiteRT takes a shift beyond the type's bits for one less than those (tflite/kernels/right_shift.cc)."""
    _assert_integers(e, op)
    layout = common(e, *op.inputs)
    value, shift = (e.op("Cast", numbers(e, layout, index), to=ir.DataType.INT64) for index in op.inputs)
    bits = np.dtype(e.tensor(op.inputs[0]).dtype).itemsize * 8
    within = e.op("Clip", shift, e.const(np.int64(0)), e.const(np.int64(bits - 1)))
    divisor = e.op("Pow", e.const(np.int64(2)), within)
    put_numbers(
        e, layout, op.outputs[0], e.op("Div", e.op("Sub", value, e.op("Mod", value, divisor)), divisor)
    )


def _assert_integers(e: Emitter, op: Operator) -> None:
    if any(e.codes(index) is not None for index in (*op.inputs, *op.outputs)):
        raise NotExpressible("it takes the bits of quantized numbers")
