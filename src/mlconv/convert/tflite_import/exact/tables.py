"""What LiteRT's default interpreter answers to every code of an 8-bit tensor, operator by operator.

XNNPACK runs QUANTIZE, LEAKY_RELU, LOGISTIC, TANH and ELU (tflite/delegates/xnnpack/xnnpack_delegate.cc, VisitUnaryNode);
the built-in kernels run the others, and those of scales that XNNPACK refuses. A table is 256 stored codes by stored
code, see ``codes``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.exact.fixed_point import (
    Multiplier,
    divide_towards_zero,
    high_product,
    inverse_square_root,
    round_half_away,
    rounding_shift,
)

Function: TypeAlias = Callable[[np.ndarray], np.ndarray]
_F = np.float32


REQUANTIZED_AT_ONCE = 16


def requantized(x: Codes, y: Codes) -> tuple[np.ndarray, np.ndarray]:
    """QUANTIZE of codes: the table of all elements but the last, and that of the last ones.

    The kernel for what XNNPACK leaves takes ``REQUANTIZED_AT_ONCE`` elements and rounds halves up in its second step; fewer
    at the end, or in all, by another loop that rounds them away from zero (tflite/kernels/internal/optimized/optimized_ops.h,
    Requantize).
    """
    ratio = _F(x.scale) / _F(y.scale)
    if x.shift == y.shift and 1 / 256 <= ratio <= 128:
        table = _slopes_of_xnnpack(x, y, ratio, ratio)
        return table, table
    rescale, centred = Multiplier.of(x.scale / y.scale), _centred(x)
    product = high_product(centred << max(rescale.shift, 0), rescale.mantissa, 31)
    right = max(-rescale.shift, 0)
    return _stored(y, (product + ((1 << right) >> 1)) >> right), _stored(y, rescale.times(centred))


def leaky_relu(x: Codes, y: Codes, alpha: float) -> np.ndarray:
    positive = _F(x.scale) / _F(y.scale)
    negative = positive * _F(alpha)
    normal = math.isfinite(alpha) and abs(alpha) >= np.finfo(_F).tiny
    if (
        normal
        and 1 / 256 <= positive <= 128
        and -127.99609375 <= negative <= 128
        and abs(negative) >= 1 / 256
    ):
        return _slopes_of_xnnpack(x, y, positive, negative)
    sloped = _F(x.scale) * _F(alpha) / _F(y.scale)
    return _slopes(x, y, Multiplier.of(float(positive)), Multiplier.of(float(sloped)))


def prelu(x: Codes, y: Codes, alpha_scale: float, alpha: int) -> np.ndarray:
    """``alpha`` is a code less its zero point (tflite/kernels/internal/reference/prelu.h)."""
    positive = Multiplier.of(float(_F(x.scale) / _F(y.scale)))
    negative = Multiplier.of(float(_F(x.scale) * _F(alpha_scale) / _F(y.scale)))
    centred = _centred(x)
    return _stored(y, np.where(centred >= 0, positive.times(centred), negative.times(centred * alpha)))


def relu(x: Codes, y: Codes, low: float, high: float) -> np.ndarray:
    """RELU and its kin between two bounds: tflite/kernels/activations.cc, QuantizedReluX."""
    bounds = [y.low if math.isinf(low) else y.code(low), y.high if math.isinf(high) else y.code(high)]
    rescale = Multiplier.of(float(_F(x.scale) / _F(y.scale)))
    codes = np.clip(rescale.times(_centred(x)) + y.zero_point, max(bounds[0], y.low), min(bounds[1], y.high))
    return np.asarray(codes, np.uint8)


def absolute(x: Codes, y: Codes) -> np.ndarray:
    size = np.abs(_centred(x))
    rescale = Multiplier.of(float(_F(x.scale) / _F(y.scale)))
    return _stored(y, size if _F(x.scale) == _F(y.scale) else rescale.times(size))


def negated(x: Codes, y: Codes) -> np.ndarray:
    """tflite/kernels/neg.cc negates the codes themselves, whatever they stand for; -128 stays."""
    own = np.arange(256) - x.shift
    return (((-own + 128) % 256 - 128 if x.shift else -own) + y.shift).astype(np.uint8)


def hard_swish(x: Codes, y: Codes) -> np.ndarray:
    """tflite/kernels/internal/reference/hard_swish.h: 16-bit fixed point."""
    fine = _F(1 / 128) * _F(x.scale)
    given, relu6 = Multiplier.of(float(fine / _F(y.scale))), Multiplier.of(float(fine / _F(3 / 32768)))
    value = _centred(x) << 7
    scaled, gate = high_product(value, given.mantissa16, 15), value
    if relu6.shift > 0:
        gate = _short(gate << (relu6.shift - 1))
    gate = high_product(gate, relu6.mantissa16, 15)
    if relu6.shift > 0:
        gate = _short(gate << 1)
    elif relu6.shift < 0:
        gate = _short_shift(gate, -relu6.shift)
    gate = (gate + (1 << 15)) >> 1
    return _stored(y, _short_shift(divide_towards_zero(gate * scaled, 1 << 15), max(-given.shift, 0)))


def square_root(x: Codes, y: Codes) -> np.ndarray:
    """tflite/kernels/elementwise.cc cuts towards zero; it refuses negative numbers while it runs."""
    roots = np.sqrt(np.maximum(_real(x), _F(0))) / _F(y.scale)
    return _stored(y, roots.astype(np.int64))


def inverse_root(x: Codes, y: Codes) -> np.ndarray:
    """tflite/kernels/elementwise.cc, RsqrtEvalQuantizedInt8; it refuses negative numbers while it runs."""
    rescale = Multiplier.of(1.0 / (float(np.sqrt(_F(x.scale))) * float(_F(y.scale))))
    rescale = Multiplier(rescale.mantissa, rescale.shift - _RSQRT_SHIFT)
    answers = []
    for value in range(-x.zero_point, 256 - x.zero_point):
        mantissa, shift = inverse_square_root(max(value, 1))
        root = Multiplier(mantissa, shift + _RSQRT_SHIFT).times(np.array([1], np.int64))
        answers.append(255 if value <= 0 else int(rescale.times(root)[0]) + y.zero_point)
    return np.clip(answers, y.low, y.high).astype(np.uint8)


def by_kernel_table(x: Codes, y: Codes, function: Function) -> np.ndarray:
    """The table that LUTPopulate makes of a float function: halves away from zero."""
    real = _real(x)
    with np.errstate(over="ignore"):
        answers = round_half_away(function(real.astype(np.float64)).astype(_F) * (_F(1) / _F(y.scale)))
    return _stored(y, np.clip(answers, -(1 << 30), 1 << 30).astype(np.int64))


def by_xnnpack_table(x: Codes, y: Codes, function: Function) -> np.ndarray:
    """The table that XNNPACK makes of its reference operator: halves to even, zero point and all.

    XNNPACK src/reference/unary-elementwise.cc and src/operators/unary-elementwise-nc.c, init_lut_op_with_config.
    """
    answers = function(_real(x).astype(np.float64)).astype(_F) * (_F(1) / _F(y.scale))
    codes = np.rint(answers + _F(y.zero_point - y.shift)) + y.shift
    return np.asarray(np.clip(codes, y.low, y.high), np.uint8)


def sigmoid(real: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(real, -100, 100))))


def elu(real: np.ndarray) -> np.ndarray:
    return np.where(real < 0, np.expm1(np.minimum(real, 0)), real)


def gelu(real: np.ndarray) -> np.ndarray:
    """tflite/kernels/internal/reference/gelu.h, in float32 step by step, as the next one."""
    x = real.astype(_F)
    return np.asarray(_F(0.5) * x * np.array([math.erfc(value) for value in x * _F(-math.sqrt(0.5))], _F))


def gelu_by_tanh(real: np.ndarray) -> np.ndarray:
    x = real.astype(_F)
    with np.errstate(over="ignore"):
        inner = _F(math.sqrt(2 / math.pi)) * (x + _F(0.044715) * x * x * x)
        return np.asarray(_F(0.5) * x * (_F(1) + np.tanh(inner.astype(np.float64)).astype(_F)))


def logarithm(y: Codes) -> Function:
    """What has none gets the least code: tflite/kernels/elementwise.cc, LogLUTPrepare."""
    least = float(_F(y.scale) * _F(y.low - y.zero_point))
    return lambda real: np.where(real > 0, np.log(np.maximum(real, 1e-300)), least)


_RSQRT_SHIFT = 20


def _centred(x: Codes) -> np.ndarray:
    return np.arange(256, dtype=np.int64) - x.zero_point


def _real(x: Codes) -> np.ndarray:
    return _centred(x).astype(_F) * _F(x.scale)


def _stored(y: Codes, steps: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(steps + y.zero_point, y.low, y.high), np.uint8)


def _short(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.clip(x, -32768, 32767))


def _short_shift(value: np.ndarray, bits: int) -> np.ndarray:
    """RoundingDivideByPOT of 16-bit numbers, whose mask of more than 15 bits is -1: so 1 or -1 is left of them."""
    return rounding_shift(value, bits) if bits < 16 else np.where(value < 0, -1, 1)


def _slopes(x: Codes, y: Codes, positive: Multiplier, negative: Multiplier) -> np.ndarray:
    centred = _centred(x)
    return _stored(y, np.where(centred >= 0, positive.times(centred), negative.times(centred)))


def _slopes_of_xnnpack(x: Codes, y: Codes, positive: np.floating, negative: np.floating) -> np.ndarray:
    """Multipliers with 8 fractional bits, halves up (XNNPACK src/qs8-vcvt, src/qs8-vlrelu, src/microparams-init.c)."""
    centred = _centred(x)
    factors = [int(np.rint(_F(256) * _F(slope))) for slope in (positive, negative)]
    return _stored(y, (centred * np.where(centred >= 0, *factors) + 128) >> 8)
