"""Bilinear resizing with weights written out, where ONNX's Resize has others than LiteRT."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.ops.sampling import Taps

# Nanoseconds of one thread of an EPYC with AVX-512, onnxruntime 1.31: what one multiply-accumulate of a product costs, and
# one element and one pixel of the result where rows and columns are gathered.
_PRODUCT_NS, _ELEMENT_NS, _PIXEL_NS = 0.021, 1.4, 26.0

_MATRIX = 1 << 22
"""Elements of one axis's weights, which are (result, source): a file of a few hundred bytes must not become gigabytes."""


@dataclass(frozen=True, slots=True)
class Interpolation:
    """Along one axis, then along the other: by products, channels first, or between gathered elements, channels last.

    Attributes:
        channels: How many, or about how many.
        dtype: Of the weights.
    """

    rows: Taps
    columns: Taps
    channels: int
    dtype: type[np.floating[Any]] = np.float32
    channels_first: bool = field(init=False)

    def __post_init__(self) -> None:
        height, width = len(self.rows.low), len(self.columns.low)
        products = self.channels * width * self.rows.size * (self.columns.size + height) * _PRODUCT_NS
        gathers = height * width * (self.channels * _ELEMENT_NS + _PIXEL_NS)
        dense = max(len(axis.low) * axis.size for axis in (self.rows, self.columns))
        object.__setattr__(self, "channels_first", products <= gathers and dense <= _MATRIX)

    def once(self, e: Emitter, value: ir.Value) -> ir.Value:
        """``value`` resized along one axis."""
        if self.channels_first:
            return e.op(
                "MatMul", value, e.const(np.ascontiguousarray(self.columns.matrix().T.astype(self.dtype)))
            )
        return self._between(e, value, self.rows, axis=1)

    def twice(self, e: Emitter, value: ir.Value) -> ir.Value:
        """What ``once`` gave, resized along the other axis."""
        if self.channels_first:
            return e.op("MatMul", e.const(self.rows.matrix().astype(self.dtype)), value)
        return self._between(e, value, self.columns, axis=2)

    def _between(self, e: Emitter, value: ir.Value, taps: Taps, axis: int) -> ir.Value:
        low = e.op("Gather", value, e.const(taps.low), axis=axis)
        high = e.op("Gather", value, e.const(np.minimum(taps.low + 1, taps.size - 1)), axis=axis)
        alpha = taps.alpha.astype(self.dtype).reshape(-1, *[1] * (3 - axis))
        return e.op("Add", low, e.op("Mul", e.op("Sub", high, low), e.const(alpha)))

    def exactly(self, e: Emitter, value: ir.Value) -> ir.Value:
        """Of whole bytes, with weights in steps of 2**-11, down to 2**-11, and half of that more: 30 bits do not fit float32.

        What lies behind the point after the first axis is interpolated apart. Its own fraction below 2**-11 cannot change how
        the whole is rounded, halves up.
        """
        made = self.once(e, value)
        whole = e.op("Floor", made)
        fraction = e.op("Mul", self.twice(e, e.op("Sub", made, whole)), e.const(np.float32(2048)))
        fraction = e.op("Add", e.op("Floor", fraction), e.const(np.float32(0.5)))
        return e.op("Add", self.twice(e, whole), e.op("Mul", fraction, e.const(np.float32(1 / 2048))))
