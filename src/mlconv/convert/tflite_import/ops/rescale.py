"""Sums of integers made codes, in the ways of TFLite's own kernels.

XNNPACK multiplies by a float32 and rounds halves to even, as onnxruntime's kernels do. It does not take every operator:
the others multiply by a fixed-point number.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.weights import along
from mlconv.convert.tflite_import.ops.whole import Whole, multiplier
from mlconv.formats.tflite_graph import Operator

Rounding: TypeAlias = "Callable[[Emitter, ir.Value, np.ndarray, np.ndarray], ir.Value]"
"""``(emitter, sums, multipliers of 31 bits, exponents) -> whole numbers``: the ways in which TFLite's kernels multiply by a
ratio ``multiplier / 2**31 * 2**exponent``. Which kernel has which was tried on LiteRT 2.3, on 38,400 sums of each."""


def fifteen_bits(e: Emitter, sums: ir.Value, multipliers: np.ndarray, exponents: np.ndarray) -> ir.Value:
    """MultiplyByQuantizedMultiplier of int64 in tensorflow/lite/kernels/internal/common.h: halves up."""
    upper = np.where(multipliers < _ROUNDS_OVER, (multipliers + (1 << 15)) >> 16, 0x7FFF)
    return Whole(e, sums).times(upper << 16, exponents, _GREATEST).value


def once(e: Emitter, sums: ir.Value, multipliers: np.ndarray, exponents: np.ndarray) -> ir.Value:
    """All 31 bits, halves up."""
    return Whole(e, sums).times(multipliers, exponents, _GREATEST).value


def twice_up(e: Emitter, sums: ir.Value, multipliers: np.ndarray, exponents: np.ndarray) -> ir.Value:
    """Rounded before the shift to the right and after it, halves up (ruy)."""
    return Whole(e, sums).rounded_twice(multipliers, exponents, _GREATEST, upwards=True).value


def twice_away(e: Emitter, sums: ir.Value, multipliers: np.ndarray, exponents: np.ndarray) -> ir.Value:
    """The same, with halves away from zero after it (gemmlowp's RoundingDivideByPOT)."""
    return Whole(e, sums).rounded_twice(multipliers, exponents, _GREATEST, upwards=False).value


def in_eights(outputs: int, repeats: int = 1) -> Rounding:
    """Halves up in whole blocks of 8 channels, away from zero in the rest (Quantize in optimized_ops.h: vectors, and the rest).

    Args:
        outputs: Channels, axis 1 of 4.
        repeats: How many times they come, all of them, one after the other.
    """
    if outputs % _LANES == 0:
        return twice_up
    if outputs < _LANES:
        return twice_away

    def rounded(e: Emitter, sums: ir.Value, multipliers: np.ndarray, exponents: np.ndarray) -> ir.Value:
        rest = np.tile(np.arange(outputs) >= outputs // _LANES * _LANES, repeats).reshape(1, -1, 1, 1)
        both = (rounding(e, sums, multipliers, exponents) for rounding in (twice_away, twice_up))
        return e.op("Where", e.const(rest), *both)

    return rounded


_LANES = 8
_GREATEST = 2.0**37
"""What no sum exceeds: 65,536 products of 16 bits by 8 are less."""


_ROUNDS_OVER = 0x7FFF0000


def rescaled(
    e: Emitter,
    op: Operator,
    sums: ir.Value,
    input_scale: float,
    scales: np.ndarray,
    rounding: Rounding,
    axis: int = 0,
    rank: int = 0,
) -> ir.Value:
    """What the output holds, clamped as the fused activation wants.

    Args:
        sums: Of whole numbers, in float64.
        scales: Of the weights: one, or one for each place along ``axis`` of ``rank`` axes.

    Raises:
        NotExpressible: The output is not quantized.
    """
    out, activation = e.codes(op.outputs[0]), op.activation if op.kind in _WITH_ACTIVATION else "NONE"
    if out is None:
        raise NotExpressible("its input is quantized, and its output is not")
    # by float64: GetQuantizedConvolutionMultipler in tensorflow/lite/kernels/kernel_util.cc
    pairs = [multiplier(input_scale * float(scale) / out.scale) for scale in scales]
    multipliers, exponents = (along(np.array(told), axis, rank) for told in zip(*pairs, strict=True))
    steps = rounding(e, sums, multipliers, exponents)
    if out.zero_point:
        steps = e.op("Add", steps, e.const(np.float64(out.zero_point)))
    low, high = out.clamp(activation)
    clipped = e.op("Clip", steps, e.const(np.float64(low)), e.const(np.float64(high)))
    return e.op("Cast", clipped, to=ir.DataType.from_numpy(np.dtype(out.dtype)))


_WITH_ACTIVATION = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")
