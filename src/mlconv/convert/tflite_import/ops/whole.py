"""TFLite's fixed-point arithmetic of recurrent kernels, as ONNX nodes on whole numbers in float64.

float64 holds every product of two 16-bit numbers, and sums of them, so the roundings below are exact; where a product of
32 bits by 32 would not fit in its 53, that one step is done in int64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter

INT8, INT16 = (-128, 127), (-32768, 32767)

_AWAY = 1 + 2.0**-40
"""Moves a tie away from zero and nothing else past one: the numbers rounded are multiples of 2**-31 below 2**31."""


@dataclass(frozen=True, slots=True)
class Whole:
    """Whole numbers in float64, of any shape; Python's operators write ONNX's."""

    e: Emitter
    value: ir.Value

    def __add__(self, other: Operand) -> Whole:
        return self._with("Add", other)

    def __sub__(self, other: Operand) -> Whole:
        return self._with("Sub", other)

    def __mul__(self, other: Operand) -> Whole:
        return self._with("Mul", other)

    def __mod__(self, other: int) -> Whole:
        """Of a number that is not negative."""
        return Whole(self.e, self.e.op("Mod", self.value, self._const(other), fmod=1))

    def floor(self) -> Whole:
        return Whole(self.e, self.e.op("Floor", self.value))

    def clip(self, low: float, high: float) -> Whole:
        return Whole(self.e, self.e.op("Clip", self.value, self._const(low), self._const(high)))

    def looked_up(self, table: ir.Value, start: float | np.ndarray = 0) -> Whole:
        """In a table of all 16-bit numbers, which begins at ``start`` of ``table``."""
        places = self.e.op("Cast", (self + (start - INT16[0])).value, to=ir.DataType.INT64)
        return Whole(self.e, self.e.op("Gather", table, places, axis=0))

    def divided(self, exponent: int) -> Whole:
        """By a power of two, to the nearest, halves away from zero: gemmlowp's RoundingDivideByPOT."""
        return self if exponent == 0 else (self * (_AWAY / 2.0**exponent) + 0.5).floor()

    def high(self, other: Whole | float) -> Whole:
        """SaturatingRoundingDoublingHighMul of gemmlowp on 16-bit numbers: halves towards plus infinity."""
        product = self * other * 2.0**-15 if isinstance(other, Whole) else self * (other * 2.0**-15)
        return (product + 0.5).floor()

    def rescaled(
        self, multipliers: Sequence[tuple[int, int]], greatest: int, *, upwards: bool = False
    ) -> Whole:
        """MultiplyByQuantizedMultiplier with double rounding (tensorflow/lite/kernels/internal/common.cc).

        Args:
            multipliers: Mantissa and exponent, one, or one for each element of the last axis.
            greatest: What no magnitude here exceeds.
            upwards: Whether the second rounding takes halves towards plus infinity, as ruy's kernels for x86 do.
        """
        told = multipliers[:1] if len(set(multipliers)) == 1 else multipliers
        mantissa = np.array([m for m, _ in told], np.float64)
        left = np.array([max(shift, 0) for _, shift in told])
        right = np.array([max(-shift, 0) for _, shift in told])
        if greatest * 2.0 ** float(np.max(left)) < 2**22:
            high = (self * (mantissa * 2.0**left * 2.0**-31) + 0.5).floor()
        else:
            high = self._divided((mantissa * 2.0**left).astype(np.int64), 31)
        return high if not np.any(right) else (high * ((1 if upwards else _AWAY) / 2.0**right) + 0.5).floor()

    def where(self, condition: ir.Value, otherwise: Whole) -> Whole:
        return Whole(self.e, self.e.op("Where", condition, self.value, otherwise.value))

    def is_zero(self) -> ir.Value:
        return self.e.op("Equal", self.value, self._const(0))

    def is_negative(self) -> ir.Value:
        return self.e.op("Less", self.value, self._const(0))

    def _divided(self, factor: np.ndarray, shift: int) -> Whole:
        """Times ``factor`` by ``2**shift`` in int64, halves towards plus infinity."""
        # ONNX divides integers towards zero; a multiple of the divisor makes the dividend positive, and that floors.
        e, lift = self.e, 2 ** (62 - shift)
        product = e.op("Mul", e.op("Cast", self.value, to=ir.DataType.INT64), e.const(factor))
        lifted = e.op("Add", product, e.const(np.int64(2 ** (shift - 1) + 2**62)))
        quotient = e.op("Div", lifted, e.const(np.int64(2**shift)))
        return Whole(e, e.op("Cast", quotient, to=ir.DataType.DOUBLE)) - float(lift)

    def _with(self, kind: str, other: Operand) -> Whole:
        operand = other.value if isinstance(other, Whole) else self._const(other)
        return Whole(self.e, self.e.op(kind, self.value, operand))

    def _const(self, number: float | np.ndarray) -> ir.Value:
        return self.e.const(np.asarray(number, np.float64))


Operand: TypeAlias = "Whole | float | np.ndarray"


def whole(e: Emitter, value: ir.Value) -> Whole:
    """Numbers of any other type as float64."""
    return Whole(
        e, value if value.dtype == ir.DataType.DOUBLE else e.op("Cast", value, to=ir.DataType.DOUBLE)
    )


def multiplier(real: float) -> tuple[int, int]:
    """Mantissa of 31 bits and exponent: QuantizeMultiplier (tensorflow/lite/kernels/internal/quantization_util.cc)."""
    if real == 0:
        return 0, 0
    fraction, exponent = math.frexp(real)
    mantissa = math.floor(fraction * 2**31 + 0.5)
    if mantissa == 2**31:
        mantissa, exponent = mantissa // 2, exponent + 1
    return (0, 0) if exponent < -31 else (mantissa, exponent)
