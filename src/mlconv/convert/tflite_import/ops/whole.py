"""TFLite's fixed-point arithmetic of recurrent kernels, as ONNX nodes on whole numbers in float64.

float64 holds every product of two 16-bit numbers, and sums of them, so the roundings below are exact; where a product of
32 bits by 32 would not fit in its 53, it is taken in two parts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.fixed_point import Multiplier

INT8, INT16 = (-128, 127), (-32768, 32767)

_AWAY = 1 + 2.0**-40
"""Moves a tie away from zero and nothing else past one: the numbers rounded are multiples of 2**-31 below 2**31."""
_EXACT = 2**21
"""Products of 31 bits and a half fit in 53 bits below it."""
_PARTED_BELOW = 15


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
        self, multipliers: Sequence[tuple[int, int]], greatest: float, *, upwards: bool = False
    ) -> Whole:
        """MultiplyByQuantizedMultiplier with double rounding (tensorflow/lite/kernels/internal/common.cc).

        Args:
            multipliers: Mantissa and exponent, one, or one for each element of the last axis.
            greatest: What no magnitude here exceeds.
            upwards: Whether the second rounding takes halves towards plus infinity, as ruy's kernels for x86 do.
        """
        one = len(set(multipliers)) == 1  # which leaves a scalar one
        mantissas, exponents = (
            np.array(numbers[0] if one else numbers) for numbers in zip(*multipliers, strict=True)
        )
        return self.rounded_twice(mantissas, exponents, greatest, upwards=upwards)

    def rounded_twice(
        self, mantissas: np.ndarray, exponents: np.ndarray, greatest: float, *, upwards: bool
    ) -> Whole:
        """``rescaled`` by arrays that broadcast: rounded before the shift to the right, and after it."""
        high, right = self.times(mantissas, np.maximum(exponents, 0), greatest), np.maximum(-exponents, 0)
        return high if not np.any(right) else (high * ((1 if upwards else _AWAY) / 2.0**right) + 0.5).floor()

    def times(self, mantissas: np.ndarray, exponents: np.ndarray, greatest: float) -> Whole:
        """``self * mantissa / 2**31 * 2**exponent``, rounded once, halves towards plus infinity; arrays that broadcast.

        A product of 53 bits and more is taken in two parts, of which the lower one's fraction decides nothing: half of the
        divisor is a multiple of its unit. With exponents from 15 on, where sums of 5 saturate 16 bits, it would, and is not.

        Args:
            greatest: What no magnitude here exceeds: at most 2**37.
        """
        mantissas, factors = np.asarray(mantissas, np.int64), 2.0 ** (np.asarray(exponents) - 31)
        low = np.where(np.asarray(exponents) < _PARTED_BELOW, mantissas & 0xFFFF, 0)
        if greatest < _EXACT or not low.any():
            return (self * (mantissas * factors) + 0.5).floor()
        parts = self * ((mantissas - low) * 2.0**-16) + (self * (low * 2.0**-16)).floor()
        return (parts * (factors * 2.0**16) + 0.5).floor()

    def where(self, condition: ir.Value, otherwise: Whole) -> Whole:
        return Whole(self.e, self.e.op("Where", condition, self.value, otherwise.value))

    def is_zero(self) -> ir.Value:
        return self.e.op("Equal", self.value, self._const(0))

    def is_negative(self) -> ir.Value:
        return self.e.op("Less", self.value, self._const(0))

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
    """Mantissa of 31 bits and exponent: ``Multiplier.of``."""
    found = Multiplier.of(real)
    return found.mantissa, found.shift
