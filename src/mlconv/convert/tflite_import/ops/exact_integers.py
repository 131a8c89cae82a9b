"""Two-operand kernels of LiteRT's own, integer by integer, for what nothing quicker expresses: see ``whole``.

These are 16-bit sums and products, and comparisons of codes. What each kernel computes, ``exact.pair_kernels`` says.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.fixed_point import Multiplier
from mlconv.convert.tflite_import.exact.pair_kernels import BuiltinProduct, BuiltinSum, PowerOfTwoSum
from mlconv.convert.tflite_import.ops.whole import Whole, whole

_INPUT_BITS = 17
"""Of a 16-bit code less its zero point."""


def centred(e: Emitter, value: ir.Value, codes: Codes) -> Whole:
    """Codes less their zero point."""
    return whole(e, value) - codes.zero_point if codes.zero_point else whole(e, value)


def summed(kernel: BuiltinSum | PowerOfTwoSum, a: Whole, b: Whole) -> Whole:
    """Of 16-bit operands less their zero points."""
    if isinstance(kernel, PowerOfTwoSum):
        return _joined(a.divided(kernel.first), b.divided(kernel.second), kernel.sign)
    total = _joined(_operand(kernel, a, kernel.first), _operand(kernel, b, kernel.second), kernel.sign)
    return times(total, kernel.output, _INPUT_BITS + kernel.left_shift)


def multiplied(kernel: BuiltinProduct, a: Whole, b: Whole) -> Whole:
    return times(a * b, kernel.output, 2 * _INPUT_BITS - 2)


def times(value: Whole, by: Multiplier, bits: int) -> Whole:
    """``Multiplier.times`` on whole numbers of so many bits."""
    return value.rescaled([(by.mantissa, by.shift)], 2**bits)


def shifted_high(value: Whole, by: Multiplier, shift: int) -> Whole:
    """``high_product`` of an operand shifted to the left: float64 holds the zeros behind it for nothing."""
    return (value * (by.mantissa * 2.0 ** (shift - 31)) + 0.5).floor()


def put_codes(e: Emitter, index: int, found: Whole, activation: str, *, channels_first: bool) -> None:
    """What a kernel answered, less the zero point, becomes the tensor's codes."""
    codes = e.codes(index)
    assert codes is not None
    clamped = (found + codes.zero_point if codes.zero_point else found).clip(*codes.clamp(activation))
    made = e.op("Cast", clamped.value, to=ir.DataType.from_numpy(np.dtype(codes.dtype)))
    e.put(index, made, channels_first=channels_first)


def _joined(a: Whole, b: Whole, sign: int) -> Whole:
    return a + b if sign > 0 else a - b


def _operand(kernel: BuiltinSum, value: Whole, by: Multiplier) -> Whole:
    shift = kernel.left_shift
    if kernel.shifts_first:
        shift += by.shift
        return shifted_high(value if shift >= 0 else (value * 2.0**shift).floor(), by, max(shift, 0))
    return shifted_high(value, by, shift).divided(max(-by.shift, 0))
