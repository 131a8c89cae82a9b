"""What LiteRT's default interpreter answers for two operands in codes.

XNNPACK runs ADD, SUB and MUL of int8 and uint8 within limits on the scales, and no other operator of two operands in codes
(tflite/delegates/xnnpack/xnnpack_delegate.cc, VisitBinaryNode); the built-in kernels run the rest. Every kernel here takes
int64 arrays of codes less their zero points, and answers codes less the output's, before any clamp.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.exact.fixed_point import (
    Multiplier,
    high_product,
    reciprocal,
    rounding_shift,
)

_F = np.float32


@dataclass(frozen=True, slots=True)
class XnnpackSum:
    """Multipliers of 21 bits, halves up. XNNPACK src/qs8-vadd, src/microparams-init.c."""

    first: int
    second: int
    shift: int

    @property
    def ratios(self) -> tuple[float, float]:
        return float(self.first / 2**self.shift), float(abs(self.second) / 2**self.shift)

    @property
    def half_a_step(self) -> float:
        """Half of the least difference between two sums, before they are rounded."""
        return float(math.gcd(self.first, self.second, 2**self.shift) / 2 ** (self.shift + 1))

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray((a * self.first + b * self.second + (1 << (self.shift - 1))) >> self.shift)


@dataclass(frozen=True, slots=True)
class XnnpackProduct:
    """The integer product times a float32, halves to even. XNNPACK src/qs8-vmul."""

    ratio: float

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(np.rint((a * b).astype(_F) * _F(self.ratio)).astype(np.int64))


@dataclass(frozen=True, slots=True)
class BuiltinSum:
    """Both operands in units of twice the greater scale. tflite/kernels/{add,sub}.cc.

    Attributes:
        shifts_first: ADD of 16 bits on equal shapes shifts each operand before it multiplies, and so rounds it once
            (kernels/internal/optimized/integer_ops/add.h; the last elements, fewer than 8, are rounded twice there too).
        wraps: ADD of 8 bits narrows what it found, zero point included, to 16 bits without saturating: that zero point. It does
            so to 16 elements at a time of two operands of one shape; the last ones saturate.
    """

    first: Multiplier
    second: Multiplier
    output: Multiplier
    left_shift: int
    sign: int = 1
    shifts_first: bool = False
    wraps: int | None = None

    @property
    def overflows(self) -> bool:
        """Whether sums of 8-bit codes leave 16 bits: see ``wraps``."""
        ends = np.array([-255, 255])
        greatest = np.abs(self._found(ends[:, None], ends[None, :])).max()
        return self.wraps is not None and bool(greatest + abs(self.wraps) > np.iinfo(np.int16).max)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found = self._found(a, b)
        if self.wraps is None:
            return found
        return np.asarray((found + self.wraps).astype(np.int16).astype(np.int64) - self.wraps)

    def _found(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.output.times(self._scaled(a, self.first) + self.sign * self._scaled(b, self.second))

    def _scaled(self, value: np.ndarray, by: Multiplier) -> np.ndarray:
        if not self.shifts_first:
            return by.times(value << self.left_shift)
        shift = self.left_shift + by.shift
        return high_product(value << max(shift, 0) >> max(-shift, 0), by.mantissa)


@dataclass(frozen=True, slots=True)
class PowerOfTwoSum:
    """16-bit operands whose scales are powers of two: the finer one is shifted, the sum is not. tflite/kernels/{add,sub}.cc."""

    first: int
    second: int
    sign: int = 1

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.asarray(rounding_shift(a, self.first) + self.sign * rounding_shift(b, self.second))


@dataclass(frozen=True, slots=True)
class BuiltinProduct:
    """tflite/kernels/mul.cc."""

    output: Multiplier

    @property
    def overflows(self) -> bool:
        """Whether LiteRT's answers wrap: where the product's scale is over the output's so far that nearly all saturate."""
        return self.output.shift > 0

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return self.output.times(a * b)


@dataclass(frozen=True, slots=True)
class SquaredDifference:
    """tflite/kernels/squared_difference.cc."""

    first: Multiplier
    second: Multiplier
    output: Multiplier

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        difference = self.first.times(a << 7) - self.second.times(b << 7)
        return self.output.times(difference * difference)


@dataclass(frozen=True, slots=True)
class Quotient:
    """tflite/kernels/internal/reference/div.h. A divisor of 0 is refused while the model runs; the answer here is 0.

    Small dividends by great divisors are shifted by more than 31 bits, or by fewer than 0, where C++ says nothing and x86
    takes the count's last bits: LiteRT then answers anything at all, and so does this.
    """

    output: Multiplier

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        a, b = np.broadcast_arrays(np.where(b < 0, -a, a), np.abs(b))
        inverse, over_unit = reciprocal(np.maximum(b, 1))
        headroom = 31 - np.ceil(np.log2(np.where(a >= 0, a + 1, -a))).astype(np.int64)  # CountLeadingSignBits
        quotient = high_product(high_product(np.left_shift(a, headroom), inverse), self.output.mantissa)
        right = over_unit + headroom - self.output.shift
        mask = (np.left_shift(np.int64(1), right & 63) - 1).astype(np.int32).astype(np.int64)
        up = (quotient & mask) > (mask >> 1) + (quotient < 0)
        return np.where(b == 0, 0, (quotient >> (right & 31)) + up)


Kernel = (
    XnnpackSum | XnnpackProduct | BuiltinSum | PowerOfTwoSum | BuiltinProduct | SquaredDifference | Quotient
)


def sum_kernel(
    a: Codes, b: Codes, out: Codes, sign: int = 1, *, power_of_two: bool = True, aligned: bool = False
) -> Kernel:
    """ADD, and SUB with a ``sign`` of -1.

    Args:
        power_of_two: The operator's option ``pot_scale_int16``.
        aligned: Whether both operands have one shape.
    """
    ratios = [_F(operand.scale) / _F(out.scale) for operand in (a, b)]
    if out.dtype == "float32":
        exponents = [_exponent(codes.scale) for codes in (a, b, out)]
        if power_of_two and None not in exponents:
            first, second, output = (exponent or 0 for exponent in exponents)
            return PowerOfTwoSum(output - first, output - second, sign)
    elif all(2.0**-10 <= ratio < 2.0**8 for ratio in ratios):
        shift = 20 - (math.frexp(float(max(ratios)))[1] - 1)
        first, second = (int(np.rint(float(ratio) * 2.0**shift)) for ratio in ratios)
        return XnnpackSum(first, sign * second, shift)
    left_shift = 15 if out.dtype == "float32" else 20
    twice = float(_F(2) * max(_F(a.scale), _F(b.scale)))
    output_multiplier = Multiplier.of(twice / float(_F(1 << left_shift) * _F(out.scale)))
    wraps = out.zero_point - out.shift if sign > 0 and out.dtype == "uint8" else None
    return BuiltinSum(
        Multiplier.of(a.scale / twice),
        Multiplier.of(b.scale / twice),
        output_multiplier,
        left_shift,
        sign,
        shifts_first=aligned and sign > 0 and out.dtype == "float32",
        wraps=wraps,
    )


def product_kernel(a: Codes, b: Codes, out: Codes) -> Kernel:
    ratio = _F(a.scale) * _F(b.scale) / _F(out.scale)
    if out.dtype != "float32" and 2.0**-16 <= ratio < 2.0**8:
        return XnnpackProduct(float(ratio))
    return BuiltinProduct(Multiplier.of(float(ratio)))


def squared_difference_kernel(a: Codes, b: Codes, out: Codes) -> Kernel:
    twice = float(_F(2) * max(_F(a.scale), _F(b.scale)))
    output = Multiplier.of(twice * twice / float(_F(1 << 14) * _F(out.scale)))
    return SquaredDifference(Multiplier.of(a.scale / twice), Multiplier.of(b.scale / twice), output)


def quotient_kernel(a: Codes, b: Codes, out: Codes) -> Kernel:
    return Quotient(Multiplier.of(float(_F(a.scale) / (_F(b.scale) * _F(out.scale)))))


def comparison_multiplier(codes: Codes) -> Multiplier | None:
    """A comparison's operand is its code less the zero point, times 256, times this. tflite/kernels/comparisons.cc.

    None for scales from 1 on: the kernel shifts them by fewer than 0 bits, where C++ says nothing, and what x86 makes of it
    is -1 below the zero point and 1 elsewhere.
    """
    found = Multiplier.of(float(_F(codes.scale)))
    return None if found.shift > 0 else found


def _exponent(scale: float) -> int | None:
    """Its logarithm to base 2 where that is whole. CheckedLog2, tflite/kernels/kernel_util.cc."""
    exact = math.log2(scale)
    return round(exact) if abs(exact - round(exact)) < 1e-3 else None
