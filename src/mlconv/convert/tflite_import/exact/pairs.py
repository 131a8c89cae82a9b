"""The scales that make onnxruntime's QLinearAdd and QLinearMul answer what LiteRT does, pair by pair of codes.

Both round a sum of products once; they differ where a sum comes within a few units of the 24th bit of a tie. Such pairs are
few, moving a scale by some units in the last place moves their sums to one side or the other, and every other pair lies
farther from its tie than any of that reaches. onnxruntime's arithmetic is onnxruntime/core/mlas/lib/{qlmul.cpp,
intrinsics/avx2/qladd_avx2.cpp}. A compiler may join a product and a sum there (gcc does, as of 1.31), and an operand of one
element has a way of its own: scales are preferred that are right in every variant.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.exact.pair_kernels import Kernel, XnnpackSum

Sums: TypeAlias = Callable[[np.ndarray, np.ndarray], "list[np.ndarray]"]
"""Numbers of candidates and of pairs to what onnxruntime rounds, candidate by pair: as built with joined products, then without."""

_F = np.float32
_ULP = 2.0**-24
_SAFE = 2.0**-18
"""A margin that needs no better: a quarter of a unit in the last place of a sum above 128."""
_FEW = 256
"""So many of the pairs near ties, evenly spread, are tried on all candidates; those that pass, on all."""
_RINGS = (0, 3, 8, 32, 128)
"""Units in the last place that the scales are moved by, ring by ring."""
_BIASES = (2.0**-25, 2.0**-22, 2.0**-20, 2.0**-19)


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of stored codes that can occur, one axis each, and LiteRT's answer to each, before any fused activation."""

    a: np.ndarray
    b: np.ndarray
    answers: np.ndarray

    @classmethod
    def of(
        cls, kernel: Kernel, a: Codes, b: Codes, out: Codes, a_codes: np.ndarray, b_codes: np.ndarray | None
    ) -> Pairs:
        """Args: a_codes, b_codes: those that occur of each operand; None for the second where it is the first one again."""
        first = second = a_codes.astype(np.int64)
        if b_codes is not None:
            first, second = np.repeat(first, len(b_codes)), np.tile(b_codes.astype(np.int64), len(first))
        answers = kernel(first - a.zero_point, second - b.zero_point) + out.zero_point
        return cls(first, second, np.clip(answers, out.low, out.high))

    def negated(self) -> Pairs:
        """The same where the second operand is stored as its complement: 255 less the code."""
        return Pairs(self.a, 255 - self.b, self.answers)

    def swapped(self) -> Pairs:
        return Pairs(self.b, self.a, self.answers)


def sum_scales(
    pairs: Pairs,
    a: Codes,
    b: Codes,
    out: Codes,
    ratios: tuple[float, float] | None = None,
    *,
    aligned: bool = False,
) -> tuple[float, float] | None:
    """Scales of the two DequantizeLinear in front of an Add; None where none near the file's own do.

    Args:
        ratios: Of each operand's scale to the output's, as LiteRT rounds them; the file's own without.
        aligned: Both operands have one shape, so that neither is taken for a tensor of one element.
    """
    centre = ratios or (float(_F(a.scale) / _F(out.scale)), float(_F(b.scale) / _F(out.scale)))
    first, second = pairs.a.astype(np.float64), pairs.b.astype(np.float64)
    exact = (first - a.zero_point) * centre[0] + (second - b.zero_point) * centre[1] + out.zero_point
    own = [float(_F(ratio * out.scale)) for ratio in centre]
    for ring in _RINGS:
        steps = _steps(ring)
        moves = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
        moves = moves[np.argsort(np.abs(moves).sum(axis=1), kind="stable")]
        scales = _moved(own[0], moves[:, 0]), _moved(own[1], moves[:, 1])
        factors = [(moved / _F(out.scale)).astype(np.float64)[:, None] for moved in scales]

        def sums(
            at: np.ndarray, candidates: np.ndarray, factors: Sequence[np.ndarray] = factors
        ) -> list[np.ndarray]:
            given = (first[at], second[at], factors[0][candidates], factors[1][candidates])
            zero_points = a.zero_point, b.zero_point, out.zero_point
            return [
                _qlinear_add(*given, *zero_points, joined=joined, aligned=aligned) for joined in (True, False)
            ]

        reach = _ULP * ((ring + 4) * 255 * sum(centre) + 1024)
        best = _chosen(sums, len(moves), _near_ties(exact, pairs.answers, reach), pairs.answers)
        if best is not None:
            return float(scales[0][best]), float(scales[1][best])
    return None


def product_scale(pairs: Pairs, a: Codes, b: Codes, out: Codes) -> float | None:
    """The scale of the first DequantizeLinear in front of a Mul, as ``sum_scales``."""
    products = ((pairs.a - a.zero_point) * (pairs.b - b.zero_point)).astype(np.float64)
    unit = float(_F(a.scale) * _F(b.scale) / _F(out.scale))
    for ring in _RINGS:
        scales = _moved(a.scale, _steps(ring))
        factors = (scales * _F(b.scale) / _F(out.scale)).astype(np.float64)[:, None]

        def sums(at: np.ndarray, candidates: np.ndarray, factors: np.ndarray = factors) -> list[np.ndarray]:
            product = products[at] * factors[candidates]
            return [_float(product + out.zero_point)[None], _float(_float(product) + out.zero_point)[None]]

        reach = _ULP * ((ring + 4) * min(unit * 255 * 255, 512) + 1024)  # greater ones saturate
        near = _near_ties(products * unit + out.zero_point, pairs.answers, reach)
        best = _chosen(sums, len(scales), near, pairs.answers)
        if best is not None:
            return float(scales[best])
    return None


def float_bias(pairs: Pairs, kernel: XnnpackSum, a: Codes, b: Codes, out: Codes) -> float | None:
    """What is added to the float32 sum of both operands, in units of the output's scale, so that nearest codes are right.

    Such sums are finer than QLinearAdd's, which hold the zero points; half of what they differ by at least moves ties up, as
    XNNPACK rounds them.
    """
    first = _float((pairs.a - a.zero_point) * kernel.ratios[0])
    second = _float((pairs.b - b.zero_point) * math.copysign(kernel.ratios[1], kernel.second))
    for bias in (kernel.half_a_step, *_BIASES):
        rounded = np.rint(_float(_float(first + second) + bias)) + out.zero_point
        if np.array_equal(np.clip(rounded, out.low, out.high), pairs.answers):
            return float(bias)
    return None


def _chosen(sums: Sums, candidates: int, near: np.ndarray | None, answers: np.ndarray) -> int | None:
    """The first candidate that is right with a safe margin in all variants; else the safest; else one right as built."""
    if near is None:
        return None
    few = near[:: max(1, len(near) // _FEW)]
    margins = np.stack([_margins(variant, answers[few]) for variant in sums(few, np.arange(candidates))])
    for considered in (margins.min(axis=0), margins[0]):
        order = np.argsort(-np.minimum(considered, _SAFE), kind="stable")[:4]
        for best in order[considered[order] > 0]:
            whole = [_margins(variant, answers[near])[0] for variant in sums(near, np.array([best]))]
            if (min(whole) if considered is not margins[0] else whole[0]) > 0:
                return int(best)
    return None


def _near_ties(sums: np.ndarray, answers: np.ndarray, reach: float) -> np.ndarray | None:
    """The pairs whose sums lie so near to ties; None where LiteRT does not answer the nearest code to all others."""
    nearest = np.rint(sums)
    near = (np.abs(np.abs(sums - nearest) - 0.5) <= reach) & (sums > -1) & (sums < 256)
    if reach > 0.25 or np.any(~near & (np.clip(nearest, 0, 255) != answers)):
        return None
    return np.flatnonzero(near)


def _margins(sums: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """By candidate: how far the worst of its sums is from where the answer changes; below 0 where one is wrong."""
    low, high = (
        np.where(answers == 0, -np.inf, answers - 0.5),
        np.where(answers == 255, np.inf, answers + 0.5),
    )
    inside = np.minimum(sums - low, high - sums)
    tie = np.where(answers % 2 == 0, _ULP, -1.0)  # it goes to the even one
    return np.asarray(np.where(inside == 0, tie, inside).min(axis=(0, -1), initial=np.inf))


def _qlinear_add(a: np.ndarray, b: np.ndarray, first: np.ndarray, second: np.ndarray, a_zero: int, b_zero: int, zero: int,
                 *, joined: bool, aligned: bool) -> np.ndarray:  # fmt: skip
    """Its sums for two tensors, and unless they are ``aligned`` for either operand of one element; first axis."""

    def plus(x: np.ndarray | int, y: np.ndarray, z: np.ndarray) -> np.ndarray:
        return _float(x * y + z if joined else _float(x * y) + z)

    fixed = _float(zero - plus(a_zero, first, _float(second * b_zero)))
    general = _float(a * first + _float(b * second + fixed))
    if aligned:
        return general[None]
    return np.stack(
        [general, _float(a * first + plus(b, second, fixed)), _float(b * second + plus(a, first, fixed))]
    )


def _float(value: np.ndarray) -> np.ndarray:
    """Rounded to float32. float64 holds a product of two exactly, and a sum of such to 29 bits more."""
    return value.astype(_F).astype(np.float64)


def _steps(ring: int) -> np.ndarray:
    """0 and what lies in the ring; wide ones sparsely."""
    return np.unique(np.round(np.linspace(-ring, ring, 17 if ring > 3 else 7)).astype(np.int64))


def _moved(scale: float, steps: np.ndarray) -> np.ndarray:
    """``scale`` as float32 by so many units in the last place."""
    return (np.array(_F(scale)).view(np.int32) + steps.astype(np.int32)).astype(np.int32).view(_F)
