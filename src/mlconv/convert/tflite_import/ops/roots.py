"""LiteRT's inverse square root of whole numbers, and the L2 normalization of 8-bit codes that it is made for."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.ops.whole import Whole, whole
from mlconv.formats.tflite_graph import Operator

_GREATEST = 30
"""Sums of squares have fewer bits than this and one more."""


def logarithm(number: Whole, axis: int, rank: int) -> Whole:
    """Of whole numbers from 1 on, to base 2, rounded down; the axis has one element."""
    e = number.e
    powers = 2.0 ** np.arange(1, _GREATEST + 1)
    shape = [1] * rank
    shape[axis] = -1
    reached = e.op("GreaterOrEqual", number.value, e.const(powers.reshape(shape)))
    return Whole(
        e, e.reduce("ReduceSum", e.op("Cast", reached, to=ir.DataType.DOUBLE), [axis], keepdims=True)
    )


def power(base: float, exponent: Whole) -> Whole:
    e = exponent.e
    return Whole(e, e.op("Pow", e.const(np.float64(base)), exponent.value))


def l2_normalized(e: Emitter, op: Operator) -> None:
    """tflite/kernels/internal/reference/l2normalization.h, and integer_ops/ beside it for int8."""
    x, out = op.inputs[0], op.outputs[0]
    codes, made, rank = e.codes(x), e.codes(out), e.rank(x)
    assert codes is not None
    assert made is not None
    centred = whole(e, e.stored(x)) - codes.zero_point
    total = Whole(e, e.reduce("ReduceSumSquare", centred.value, [rank - 1], keepdims=True))
    mantissa, right = _inverse_root(total, rank)
    if codes.shift:
        excess = right * -1 + 7
        left = Whole(e, e.op("Max", excess.value, e.const(np.float64(0))))
        right = Whole(e, e.op("Max", (excess * -1).value, e.const(np.float64(0))))
        scaled = _high(centred * power(2, left), mantissa)
    else:
        scaled = _high(centred * 128, mantissa)
    size = (Whole(e, e.op("Abs", scaled.value)) * power(0.5, right) + 0.5).floor()
    answers = size * Whole(e, e.op("Sign", scaled.value)) + made.zero_point
    e.put(out, e.op("Cast", answers.clip(made.low, made.high).value, to=ir.DataType.UINT8))


def _inverse_root(total: Whole, rank: int) -> tuple[Whole, Whole]:
    """Mantissa of 31 bits, and how far to shift right: GetInvSqrtQuantizedMultiplierExp; ``exact.fixed_point`` has it too.

    float64 does not hold the products of 62 bits, but what they are rounded to, all but once in ten millions.
    """
    e = total.e
    number = Whole(e, e.op("Max", total.value, e.const(np.float64(2))))
    pairs = ((logarithm(number, rank - 1, rank) * -1 + 30) * 0.5).floor() - 1
    given = (number * power(4, pairs) * 0.5).floor()
    half, root = ((given + 1) * 0.5).floor(), given * 0 + 2.0**28
    for _ in range(5):  # Newton's steps, with 3 integer bits
        cube = _high(_high(root, root), root) * 64
        root = (_high(root, 1.5 * 2**28) - _high(half, cube)) * 8
    beyond = Whole(e, e.op("Max", (pairs - 11).value, e.const(np.float64(0))))
    mantissa = _high(root, 1518500250) * power(2, beyond)  # sqrt(2) / 2
    right = Whole(e, e.op("Max", (pairs * -1 + 11).value, e.const(np.float64(0))))
    few = (total - 2).is_negative()
    return (mantissa * 0 + (2.0**31 - 1)).where(few, mantissa), (right * 0).where(few, right)


def _high(a: Whole, b: Whole | float) -> Whole:
    """SaturatingRoundingDoublingHighMul of 32-bit numbers."""
    return ((a * b) * 2.0**-31 + 0.5).floor()
