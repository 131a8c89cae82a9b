"""gemmlowp's integers: LiteRT's built-in kernels rescale by a 31-bit multiplier and a shift, and round twice.

tensorflow/lite/kernels/internal/{quantization_util.cc,common.h}; gemmlowp/fixedpoint/fixedpoint.h. Arrays are int64 that
hold int32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Multiplier:
    """``real = mantissa / 2**31 * 2**shift``, the mantissa from 2**30 on; 0 for what vanishes."""

    mantissa: int
    shift: int

    @classmethod
    def of(cls, real: float) -> Multiplier:
        """QuantizeMultiplier; LiteRT shifts by more than 30 bits what has 32, undefined, and here such a ratio is held."""
        fraction, exponent = math.frexp(real)
        mantissa = math.floor(fraction * 2**31 + 0.5)
        if mantissa == 2**31:
            mantissa, exponent = 2**30, exponent + 1
        if exponent > 30:
            mantissa, exponent = 2**31 - 1, 30
        return cls(0, 0) if exponent < -31 or not mantissa else cls(mantissa, exponent)

    def times(self, value: np.ndarray) -> np.ndarray:
        """MultiplyByQuantizedMultiplier."""
        return rounding_shift(high_product(value << max(self.shift, 0), self.mantissa), max(-self.shift, 0))

    @property
    def mantissa16(self) -> int:
        """DownScaleInt32ToInt16Multiplier, in hard_swish.h."""
        return 32767 if self.mantissa >= 2**31 - 1 - 2**15 else (self.mantissa + 2**15) >> 16


def high_product(a: np.ndarray, b: int | np.ndarray, bits: int = 31) -> np.ndarray:
    """SaturatingRoundingDoublingHighMul: ``a * b / 2**bits``, halves up."""
    return np.asarray((a * b + (1 << (bits - 1))) >> bits)


def rounding_shift(value: np.ndarray, bits: int) -> np.ndarray:
    """RoundingDivideByPOT: ``value / 2**bits``, halves away from zero."""
    if bits == 0:
        return value
    magnitude = (np.abs(value) + (1 << (bits - 1))) >> bits
    return np.asarray(np.where(value < 0, -magnitude, magnitude))


def saturating_shift(value: np.ndarray, bits: int) -> np.ndarray:
    """SaturatingRoundingMultiplyByPOT, to the left."""
    return np.asarray(np.clip(value << bits, -(2**31), 2**31 - 1))


def divide_towards_zero(value: np.ndarray, by: int) -> np.ndarray:
    return np.asarray(np.sign(value) * (np.abs(value) // by))


def round_half_away(value: np.ndarray) -> np.ndarray:
    """std::round."""
    return np.asarray(np.copysign(np.floor(np.abs(value.astype(np.float64)) + 0.5), value))


def reciprocal(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GetReciprocal: 1/x as a mantissa of 31 bits, and how many bits ``x`` (from 1 on) has over one."""
    over_unit = np.floor(np.log2(x)).astype(np.int64)
    fraction = np.left_shift(x, 31 - over_unit) - 2**31
    half = (fraction + 2**31) >> 1  # RoundingHalfSum with one, which is 2**31 - 1
    guess = 1515870810 + high_product(half, -1010580540)  # 48/17 - 32/17 half, with two integer bits
    for _ in range(3):
        guess = guess + saturating_shift(high_product(guess, 2**29 - high_product(half, guess)), 2)
    return saturating_shift(guess, 1), over_unit


def inverse_square_root(value: int) -> tuple[int, int]:
    """GetInvSqrtQuantizedMultiplierExp: mantissa and shift of ``1 / sqrt(value)``."""
    if value <= 1:
        return 2**31 - 1, 0
    shift = 11
    while value >= 1 << 29:
        value, shift = value // 4, shift + 1
    pairs = (32 - value.bit_length() - 1) // 2 - 1
    shift -= pairs
    given = np.array([value << (2 * pairs)], np.int64) >> 1
    half, half_three, root = rounding_shift(given, 1), (1 << 28) + (1 << 27), np.array([1 << 28], np.int64)
    for _ in range(5):  # with three integer bits
        cube = saturating_shift(high_product(high_product(root, root), root), 6)
        root = saturating_shift(high_product(root, half_three) - high_product(half, cube), 3)
    found = int(high_product(root, 1518500250)[0])  # sqrt(2) / 2
    return (found << -shift, 0) if shift < 0 else (found, -shift)
