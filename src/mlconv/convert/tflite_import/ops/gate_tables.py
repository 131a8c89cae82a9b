"""gemmlowp's logistic and tanh of every 16-bit number (fixedpoint/fixedpoint.h), as tables that the graph works out.

A table as a constant would be the greater part of most files. onnxruntime folds this arithmetic when a session is made.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.ops.whole import INT16, Whole


def logistic_and_tanh(e: Emitter, tanh_bits: Sequence[int]) -> tuple[ir.Value, dict[int, ir.Value]]:
    """The logistic of numbers with 3 integer bits, and tanh for each number of them, in units of 2**-15.

    Args:
        tanh_bits: From 0 to 6.
    """
    tanhs, first = sorted(set(tanh_bits)), len(e.nodes)
    rows = _tables(
        e,
        np.array([True, *(False for _ in tanhs)])[:, None],
        np.array([3, *(bits + 1 for bits in tanhs)])[:, None],
    )
    logistic, *others = (
        e.op("Squeeze", row, e.ints(0)) for row in e.split(rows.value, 0, [1] * (1 + len(tanhs)))
    )
    for node in e.nodes[first:]:  # names after the operator would take most of the file
        node.name = node.outputs[0].name = e.unique("table")
    return logistic, dict(zip(tanhs, others, strict=True))


def _tables(e: Emitter, is_logistic: np.ndarray, integer_bits: np.ndarray) -> Whole:
    """One row for each function. Both are odd but for a constant, and 1 / (1 + exp(-x)) at heart."""
    magnitudes = _range(e, 0, -INT16[0] + 1)
    half = ((_exponential(magnitudes * -1, integer_bits) + 32768) * 0.5).floor()
    offset, factor = np.where(is_logistic, 0, 8192), np.where(is_logistic, 2, 4)
    rising = ((_reciprocal(half) - offset) * factor).clip(*INT16)
    x = _range(e, INT16[0], INT16[1] + 1)
    places = e.op("Cast", e.op("Abs", x.value), to=ir.DataType.INT64)
    positive = Whole(e, e.op("Gather", rising.value, places, axis=1))
    signed = (positive * -1 + np.where(is_logistic, 32767, 0)).where(x.is_negative(), positive)
    return Whole(e, e.const(np.where(is_logistic, 16384.0, 0.0))).where(x.is_zero(), signed)


def _range(e: Emitter, first: int, limit: int) -> Whole:
    return Whole(e, e.op("Range", *(e.const(np.float64(number)) for number in (first, limit, 1))))


def _exponential(a: Whole, integer_bits: np.ndarray) -> Whole:
    """exp_on_negative_values: in units of 2**-15, of numbers with so many integer bits."""
    fraction_bits = 15.0 - integer_bits
    quarter = 2.0 ** (fraction_bits - 2)
    quotient = (a * (1 / quarter)).floor()
    result = _exponential_of_quarter((a - quotient * quarter - quarter) * 2.0**integer_bits)
    remainder = quotient * -quarter - quarter
    for (
        exponent,
        number,
    ) in _EXPONENTIALS.items():  # those beyond the number's own bits are of bits that are zero
        if exponent < integer_bits.max():
            bit = (remainder * 2.0 ** -(fraction_bits + exponent)).floor()
            result = result.where((bit % 2).is_zero(), result.high(_constant(number)))
    if integer_bits.max() > 5:  # below -32 it is zero
        least = np.where(integer_bits > 5, 2.0 ** (20 - integer_bits), 2.0**16)
        result = (a * 0).where((a + least).is_negative(), result)
    return (a * 0 + 32767).where(a.is_zero(), result)


def _exponential_of_quarter(a: Whole) -> Whole:
    """exp_on_interval_between_negative_one_quarter_and_0_excl: a Taylor expansion around -1/8."""
    x, at_eighth = a + 4096, _constant(1895147668)
    x2 = x.high(x)
    x3, x4 = x2.high(x), x2.high(x2)
    rest = ((x4.divided(2) + x3).high(_constant(715827883)) + x2).divided(1)
    return ((x + rest).high(at_eighth) + at_eighth).clip(*INT16)


def _reciprocal(half: Whole) -> Whole:
    """1 / half by three steps of Newton and Raphson, with 2 integer bits."""
    x = half.high(_constant(-1010580540)) + _constant(1515870810)
    for _ in range(3):
        x = x + (x.high(half.high(x) * -1 + 8192) * 4)
    return x


def _constant(number: int) -> int:
    """A constant of 32 bits as gemmlowp's 16-bit one: rounded, halves away from zero."""
    return int(math.copysign(math.floor(abs(number) / 2**16 + 0.5), number))


_EXPONENTIALS = {-2: 1672461947, -1: 1302514674, 0: 790015084, 1: 290630308, 2: 39332535, 3: 720401, 4: 242}
"""exp(-2**exponent) in units of 2**-31."""
