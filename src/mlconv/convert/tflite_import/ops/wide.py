"""Operators on one 16-bit operand: the arithmetic of LiteRT's kernels on whole numbers, which XNNPACK has none of.

Most of them look a coarse table up and interpolate (tflite/kernels/internal/common.h, LUTPopulateInt16 and LUTLookup).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.fixed_point import Multiplier, round_half_away
from mlconv.convert.tflite_import.exact.tables import Function
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.gate_tables import logistic_and_tanh
from mlconv.convert.tflite_import.ops.roots import logarithm, power
from mlconv.convert.tflite_import.ops.tables import looked_up
from mlconv.convert.tflite_import.ops.whole import INT16, Whole, whole

Wide: TypeAlias = Callable[[Whole, Codes, Codes], Whole]
"""Codes less the zero point, and how operand and result are quantized, to the result's codes less its own."""

_F = np.float32


def is_wide(e: Emitter, x: int, out: int) -> bool:
    codes = [e.codes(index) for index in (x, out)]
    return all(found is not None and found.dtype == "float32" for found in codes)


def put_wide(e: Emitter, x: int, out: int, function: Wide) -> None:
    given, made, channels_first = e.codes(x), e.codes(out), e.layout(x)
    assert given is not None
    assert made is not None
    if given.zero_point or made.zero_point:
        raise NotExpressible("LiteRT has no kernel for 16 bits with a zero point")
    answers = function(whole(e, e.stored(x, channels_first=channels_first)), given, made).clip(*INT16)
    e.put(out, e.op("Cast", answers.value, to=ir.DataType.FLOAT), channels_first=channels_first)


def slopes(alpha: float) -> Wide:
    """Straight on either side of zero: tflite/kernels/internal/reference/leaky_relu.h, and ReluX and ABS likewise."""

    def rescaled(x: Whole, given: Codes, made: Codes) -> Whole:
        positive = Multiplier.of(float(_F(given.scale) / _F(made.scale)))
        negative = Multiplier.of(float(_F(given.scale) * _F(alpha) / _F(made.scale)))
        sides = [x.rescaled([(side.mantissa, side.shift)], 32768) for side in (positive, negative)]
        return sides[1].where(x.is_negative(), sides[0])

    return rescaled


def clamped(low: float, high: float) -> Wide:
    def between(x: Whole, given: Codes, made: Codes) -> Whole:
        bounds = [
            INT16[0] if math.isinf(low) else made.code(low),
            INT16[1] if math.isinf(high) else made.code(high),
        ]
        return slopes(1.0)(x, given, made).clip(max(bounds[0], INT16[0]), min(bounds[1], INT16[1]))

    return between


def absolute(x: Whole, given: Codes, made: Codes) -> Whole:
    size = Whole(x.e, x.e.op("Abs", x.value))
    return size if _F(given.scale) == _F(made.scale) else slopes(1.0)(size, given, made)


def negated(x: Whole, given: Codes, made: Codes) -> Whole:
    """The codes themselves, whatever they stand for; -32768 stays: tflite/kernels/neg.cc."""
    del given, made
    return (x * 0 + INT16[0]).where((x + INT16[1]).is_negative(), x * -1)


def square_root(x: Whole, given: Codes, made: Codes) -> Whole:
    """tflite/kernels/elementwise.cc cuts towards zero, in float32."""
    e = x.e
    real = e.op("Mul", e.op("Cast", x.value, to=ir.DataType.FLOAT), e.const(_F(given.scale)))
    return whole(e, e.op("Floor", e.op("Div", e.op("Sqrt", real), e.const(_F(made.scale)))))


def interpolated(function: Function, above_zero: Callable[[Codes], float] | None = None) -> Wide:
    """LiteRT's table of a float function.

    Args:
        above_zero: What stands for the function where the operand is not above zero, if it needs that.
    """

    def answers(x: Whole, given: Codes, made: Codes) -> Whole:
        def transform(real: np.ndarray) -> np.ndarray:
            if above_zero is None:
                return function(real.astype(np.float64)).astype(_F)
            known = function(np.maximum(real, 1e-30).astype(np.float64))
            return np.where(real > 0, known, above_zero(made)).astype(_F)

        return _interpolated(x, coarse_table(transform, _F(given.scale), 0, _F(made.scale)))

    return answers


def coarse_table(
    function: Function, scale: np.floating, zero_point: int, output_scale: np.floating
) -> np.ndarray:
    """513 answers for every 128th code, each moved by half the error in the middle of its interval.

    tflite/kernels/internal/common.h, LUTPopulateInt16; all of it in the type of the scales.
    """
    kind = scale.dtype.type
    least, greatest = (scale * kind(code - zero_point) for code in INT16)
    bottom, top = (output_scale * kind(code) for code in INT16)
    step = (greatest - least) / kind(512)
    with np.errstate(over="ignore"):
        inverse = kind(65536) / (top - bottom)
    at = least + np.arange(513).astype(scale.dtype) * step
    with np.errstate(over="ignore", invalid="ignore"):
        samples, middles = function(at) * inverse, function(at[:-1] + step / kind(2)) * inverse
        sampled = _rounded(samples)
        between = _rounded((samples[1:] + sampled[:-1]) / kind(2))
        bias = _rounded((between - _rounded(middles)) / kind(2))
        last = _rounded(function(np.asarray([greatest], scale.dtype)) * inverse)
        numbers = np.concatenate([sampled[:-1] - bias, last])
    return np.clip(np.where(np.isnan(numbers), 0, numbers), *INT16).astype(
        np.int16
    )  # as x86 casts what is no number


def _rounded(numbers: np.ndarray) -> np.ndarray:
    return round_half_away(numbers).astype(numbers.dtype)


def _interpolated(x: Whole, table: np.ndarray) -> Whole:
    """LUTLookup, of which the slope and the result wrap around in 16 bits: EXP's table leaps where float32 has no more numbers."""
    interval = (x * (1 / 128)).floor()
    place = (interval + 256).value
    base, slope = (
        Whole(x.e, looked_up(x.e, place, part.astype(np.float64))) for part in (table[:-1], np.diff(table))
    )
    answer = base + ((slope * (x - interval * 128) + 64) * (1 / 128)).floor()
    if np.array_equal(table[:-1].astype(np.int64) + np.diff(table), table[1:]):  # no slope wraps
        return answer
    return (answer + (2**15 + 2**16)) % 2**16 - 2**15


def logistic(x: Whole, given: Codes, made: Codes) -> Whole:
    """By gemmlowp where the scale is 2**-12, else by a table of LiteRT's own: tflite/kernels/activations.cc, SigmoidPrepare."""
    del made
    if given.scale == 2.0**-12:
        return x.looked_up(logistic_and_tanh(x.e, [3])[0])
    total = _of_sigmoids(x, given, 9)
    negative = _rescaled(x, given).is_negative()
    return (((total * -1 + (2**25 + 511)).where(negative, total + 512)) * 2.0**-10).floor()


def tanh(x: Whole, given: Codes, made: Codes) -> Whole:
    del made
    if given.scale in (2.0**-12, 2.0**-11):
        doubled = x if given.scale == 2.0**-12 else (x * 2).clip(*INT16)
        return doubled.looked_up(logistic_and_tanh(x.e, [3])[1][3])
    total = _of_sigmoids(x, given, 8)
    negative = _rescaled(x, given).is_negative()
    return (((total * -1 + (2**23 + 127)).where(negative, total + (128 - 2**23))) * 2.0**-8).floor()


def _rescaled(x: Whole, given: Codes) -> Whole:
    """In units of 1 / (3 * 4096)."""
    multiplier, shift = float(_F(given.scale)) * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2, shift + 1
    return ((x * int(multiplier) + (2 ** (shift - 1) if shift else 0)) * 2.0**-shift).floor()


def _of_sigmoids(x: Whole, given: Codes, bits: int) -> Whole:
    """Interpolated with so many bits: tflite/kernels/internal/reference/integer_ops/{logistic,tanh}.h."""
    numbers = np.floor(65536 / (1 + np.exp(-np.arange(256) / 24))) + np.array(
        list(_SIGMOID_EXCESS), np.float64
    )
    base = np.append(numbers[:255], 65534.0 if bits == 9 else 65535.0)  # what lies beyond saturates
    slope = np.append(np.diff(numbers), 0.0)
    size = Whole(x.e, x.e.op("Abs", _rescaled(x, given).value))
    interval = (size * 2.0**-bits).floor()
    place = interval.clip(0, 255).value
    ends = [Whole(x.e, looked_up(x.e, place, part)) for part in (base, slope)]
    return ends[0] * 2.0**bits + ends[1] * (size - interval * 2.0**bits)


_SIGMOID_EXCESS = bytes.fromhex(
    "".join(f"0{digit}" for digit in
            "0110101011111111111111111111221112121111111211111111111111111111101110101111111111111011110001100111110100011011101110110001001101"
            "010011000110101111101111001100100000010100010001101010011100000111001101101010101001011011001100110001100001110000011111000001")
)  # fmt: skip
"""How far LiteRT's table of sigmoids (tflite/kernels/internal/common.h) lies above the same numbers rounded down."""


def softmax(e: Emitter, x: ir.Value, scale: float, axis: int, rank: int) -> Whole:
    """SoftmaxInt16 of tflite/kernels/internal/reference/softmax.h: a table of exponentials, and one of reciprocals."""
    codes, unit = whole(e, x), np.float64(1 / 65535)
    rescale = Multiplier.of(scale / (10.0 / 65535.0))
    greatest = Whole(e, e.reduce("ReduceMax", codes.value, [axis], keepdims=True))
    differences = (codes - greatest).rescaled([(rescale.mantissa, rescale.shift)], 65536)
    exponentials = _interpolated(
        (differences + 32767).clip(*INT16), coarse_table(np.exp, 10 * unit, 32767, 2 * unit)
    )
    total = Whole(e, e.reduce("ReduceSum", exponentials.value, [axis], keepdims=True))
    share = power(2, logarithm(total, axis, rank))
    normal = Whole(e, e.op("Div", (total * 2.0**16).value, share.value))  # from 1 to 2, in units of 2**-16
    places = ((normal + 0.5).floor() - (2**15 + 2**16)).clip(*INT16)
    inverse = _interpolated(places, coarse_table(lambda real: 1 / (1 + real), unit, INT16[0], 2 * unit))
    shares = exponentials * inverse + share * 0.5
    return Whole(e, e.op("Div", shares.value, share.value)).floor().clip(0, INT16[1])
