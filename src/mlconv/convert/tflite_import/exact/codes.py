"""The ONNX form of a table: what of DequantizeLinear, an operator and QuantizeLinear answers it, code by code.

onnxruntime turns DequantizeLinear -> LeakyRelu or Sigmoid -> QuantizeLinear into a look-up of 256 entries (QLinearLeakyRelu,
QLinearSigmoid): 0.07 ms for 200,000 elements, where dequantizing, computing and quantizing takes 0.1 to 0.3. So what is
straight on either side of the zero point is written as a LeakyRelu, and its two slopes are free: they are put in the middle
of what the table allows, far from ties. Anything else is looked up by GatherElements (0.27 ms; Gather takes 1.7).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from mlconv.convert.tflite_import.codes import Codes

_MARGIN = 1e-6
"""How far, relative, a slope stays from where an answer changes: onnxruntime rounds four times by 2**-24 at most."""
_SIGMOID_MARGIN = 1e-3
"""How far, in codes, from a tie: onnxruntime's sigmoid is right to 1e-6, 3e-4 codes of scale 1/256."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """The codes themselves, between two of them."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Slopes:
    """Straight on either side of the zero point, then clamped among codes.

    Attributes:
        scale: Of the DequantizeLinear in front of LeakyRelu; the QuantizeLinear behind has the output's own.
    """

    scale: float
    alpha: float
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Sigmoid:
    """DequantizeLinear with ``scale``, Sigmoid, QuantizeLinear with the other two."""

    scale: float
    output_scale: float
    output_zero_point: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """Nothing simpler."""


Form: TypeAlias = "Clamp | Slopes | Sigmoid | Lookup"

COST = 0.07
"""Of one operator on codes or on floats, in the milliseconds above; a comparison needs no better."""
_COSTS = {Clamp: 0.03, Slopes: COST, Sigmoid: COST, Lookup: 0.27}

RAW = Codes(1.0, 0, 0, 255, "uint8", 0)
"""Plain numbers from 0 to 255, as codes."""


def form_of(table: np.ndarray, x: Codes, y: Codes, sigmoid: float = 0.0) -> Form:
    """The quickest form that answers ``table`` on every code.

    Args:
        table: 256 stored codes of ``y`` by stored code of ``x``.
        sigmoid: The table is nearly ``sigmoid(real)`` (1) or ``tanh(real) = 2 sigmoid(2 real) - 1`` (2); 0 where it is neither.
    """
    low, high = int(table.min()), int(table.max())
    if np.array_equal(table, np.clip(np.arange(256), low, high)):
        return Clamp(low, high)
    found = _sigmoid(table, x, y, sigmoid) if sigmoid else _slopes(table, x, y)
    return Lookup() if found is None else found


def cost_of(table: np.ndarray, x: Codes, y: Codes) -> float:
    return _COSTS[type(form_of(table, x, y))]


def _slopes(table: np.ndarray, x: Codes, y: Codes) -> Slopes | None:
    """Without a clamp where QuantizeLinear's own does."""
    found = _slopes_within(table, x, y, 0, 255)
    return found or _slopes_within(table, x, y, int(table.min()), int(table.max()))


def _slopes_within(table: np.ndarray, x: Codes, y: Codes, low: int, high: int) -> Slopes | None:
    steps, answers = np.arange(256) - x.zero_point, table.astype(np.int64) - y.zero_point
    least = np.where(table == low, -np.inf, answers - 0.5)
    most = np.where(table == high, np.inf, answers + 0.5)
    zero = steps == 0
    if np.any(least[zero] >= 0) or np.any(most[zero] <= 0):
        return None
    sides = []
    for side in (steps > 0, steps < 0):
        ends = least[side] / steps[side], most[side] / steps[side]
        bounds = np.minimum(*ends).max(initial=-np.inf), np.maximum(*ends).min(initial=np.inf)
        sides.append(_between(float(bounds[0]), float(bounds[1])))
    positive, negative = sides
    if positive is None or negative is None or (math.isinf(positive) and math.isinf(negative)):
        return None
    positive = positive if math.isfinite(positive) else abs(negative) or 1.0
    negative = negative if math.isfinite(negative) else positive
    scale = float(np.float32(positive * float(np.float32(y.scale))))
    if scale < np.finfo(np.float32).tiny:
        return None
    return Slopes(scale, float(np.float32(negative / positive)), low, high)


def _between(least: float, most: float) -> float | None:
    """A number far from both; infinite where neither binds, None where there is no room."""
    if math.isinf(least) and math.isinf(most):
        return math.inf
    if math.isinf(most):
        return least + max(abs(least), 1e-3)
    if math.isinf(least):
        return most / 2 if most > 0 else most - max(abs(most), 1e-3)
    if most <= least:
        return None
    middle = 0.0 if least < 0 < most and -least < 2 * most and most < -2 * least else (least + most) / 2
    return middle if most - least > 2 * _MARGIN * abs(middle) else None


def _sigmoid(table: np.ndarray, x: Codes, y: Codes, factor: float) -> Sigmoid | None:
    scale, zero_point = float(np.float32(y.scale)), float(y.zero_point)
    if factor == 2:
        scale, zero_point = scale / 2, zero_point - 1 / scale
    if zero_point != int(zero_point) or not 0 <= zero_point <= 255:
        return None
    steps = np.arange(256) - x.zero_point
    bounds = np.stack([table - 0.5, table + 0.5]).astype(np.float64)
    bounds[0][table == 0], bounds[1][table == 255] = -np.inf, np.inf
    with np.errstate(divide="ignore", invalid="ignore"):
        part = np.clip((bounds - zero_point) * scale, 0, 1)
        slopes = np.sort(np.log(part / (1 - part)) / steps, axis=0)[:, steps != 0]
    chosen = _between(float(slopes[0].max()), float(slopes[1].min()))
    if chosen is None or not math.isfinite(chosen) or chosen <= 0:
        return None
    answers = 1 / (1 + np.exp(np.clip(-chosen * steps, -100, 100))) / scale + zero_point
    if np.any(answers < bounds[0] + _SIGMOID_MARGIN) or np.any(answers > bounds[1] - _SIGMOID_MARGIN):
        return None
    return Sigmoid(float(np.float32(chosen)), scale, int(zero_point))
