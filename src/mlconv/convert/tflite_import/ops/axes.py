"""Axes of reductions, in the layout that suits them."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible


class Axes:
    """The axes of a reduction, in the layout that suits it.

    Attributes:
        own: In TFLite's layout, ascending.
        channels_first: Whether the operand is to be taken so.
        placed: The same axes in that layout.
        keepdims: Whether they remain, of size 1.
        result_channels_first: The layout of the result.
    """

    def __init__(self, e: Emitter, index: int, axes: Sequence[int], *, keepdims: bool) -> None:
        rank = e.rank(index)
        if any(not -rank <= axis < max(rank, 1) for axis in axes):
            raise NotExpressible(f"its axes {list(axes)} are none of {rank}")
        self.own = sorted({axis % rank for axis in axes}) if rank else []
        self.keepdims = keepdims
        moved = (
            0 in self.own and rank - 1 not in self.own and not keepdims
        )  # the channels would come to stand first
        self.channels_first = e.layout(index) and not moved
        self.placed = [placed(axis, rank) for axis in self.own] if self.channels_first else self.own
        self.result_channels_first = self.channels_first and (keepdims or rank - 1 not in self.own)

    def reduced(self, e: Emitter, kind: str, value: ir.Value) -> ir.Value:
        """``value`` reduced over the axes; without any it stays as it is, which is not what ONNX makes of an empty list."""
        return e.reduce(kind, value, self.placed, keepdims=self.keepdims) if self.placed else value

    def pooled(self, e: Emitter, value: ir.Value) -> ir.Value:
        """The mean of a picture (see ``is_picture``); onnxruntime has GlobalAveragePool in its blocked layout too."""
        made = e.op("GlobalAveragePool", value)
        return made if self.keepdims else e.op("Flatten", made, axis=1)


def is_picture(e: Emitter, index: int, axes: Axes) -> bool:
    """Whether the axes are the two spatial ones of a tensor that is taken channels first."""
    return axes.channels_first and axes.placed == [2, 3] and e.rank(index) == 4


def placed(axis: int, rank: int) -> int:
    """Where an axis of TFLite's layout stands channels first."""
    if rank < 3 or axis == 0:
        return axis
    return 1 if axis == rank - 1 else axis + 1
