"""Blocks of pixels moved to other axes and back: SPACE_TO_BATCH_ND, BATCH_TO_SPACE_ND, SPACE_TO_DEPTH, DEPTH_TO_SPACE."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    LAST,
    arranged,
    dims_of,
    moved,
    place,
    settled,
    sizes_of,
    through,
)
from mlconv.formats.tflite_graph import Operator

_NO_PAD = frozenset({ir.DataType.INT16, ir.DataType.UINT16})
_DEPTH = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
"""What onnxruntime's DepthToSpace and SpaceToDepth take; bytes only since 1.21, and it moves them one by one."""


@dataclass(frozen=True, slots=True)
class _Size:
    """A size that follows from one of the reshaped value: ``dim * times // by``."""

    axis: int
    times: int = 1
    by: int = 1

    def of(self, dim: int | str | None) -> int | str | None:
        if isinstance(dim, int):
            return dim * self.times // self.by
        return dim if self.times == self.by == 1 else None


def space_to_batch_nd(e: Emitter, op: Operator) -> None:
    """The block's offset counts slowest in the new batch (tensorflow/lite/kernels/internal/reference/space_to_batch_nd.h)."""
    x, out = op.inputs[0], op.outputs[0]
    rank, channels_first = len(dims_of(e, x)), e.layout(x)
    blocks, pads = _blocks(e, op, rank)
    value = moved(e, x, out, channels_first=channels_first)
    if any(pads):
        value = _padded(
            e, value, out, [(0, 0), *zip(pads[::2], pads[1::2], strict=True), (0, 0)], channels_first
        )
    spaces = {place(axis, rank, channels_first): block for axis, block in enumerate(blocks, 1)}
    wanted: list[int | _Size] = []
    offsets = []
    for axis in range(rank):
        wanted.append(_Size(axis, by=spaces.get(axis, 1)))
        if axis in spaces:
            offsets.append(len(wanted))
            wanted.append(spaces[axis])
    value = _reshaped(e, value, wanted)
    value = e.op(
        "Transpose", value, perm=[*offsets, *(axis for axis in range(len(wanted)) if axis not in offsets)]
    )
    first = len(blocks)
    merged = [_Size(first, times=math.prod(blocks)), *(_Size(first + axis) for axis in range(1, rank))]
    e.put(out, _reshaped(e, value, merged), channels_first=channels_first)


def batch_to_space_nd(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    rank, channels_first = len(dims_of(e, x)), e.layout(x)
    blocks, crops = _blocks(e, op, rank)
    value, first = moved(e, x, out, channels_first=channels_first), len(blocks)
    spaces = [place(axis, rank, channels_first) for axis in range(1, rank - 1)]
    value = _reshaped(
        e, value, [*blocks, _Size(0, by=math.prod(blocks)), *(_Size(axis) for axis in range(1, rank))]
    )
    order, merged = [first], [_Size(0)]
    for axis in range(1, rank):
        merged.append(_Size(len(order), times=blocks[spaces.index(axis)] if axis in spaces else 1))
        order += [first + axis, spaces.index(axis)] if axis in spaces else [first + axis]
    value = _reshaped(e, e.op("Transpose", value, perm=order), merged)
    if any(crops):
        ends = [-crop if crop else LAST for crop in crops[1::2]]
        value = e.op("Slice", value, e.ints(*crops[::2]), e.ints(*ends), e.ints(*spaces))
    e.put(out, value, channels_first=channels_first)


def depth_to_space(e: Emitter, op: Operator) -> None:
    """TFLite counts the block's offset slower than the channel, which is ONNX's mode DCR."""
    size = op.integer("block_size")
    unmerged: list[int | _Size] = [_Size(0), _Size(1), _Size(2), size, size, _Size(3, by=size * size)]
    merged = [_Size(0), _Size(1, times=size), _Size(3, times=size), _Size(5)]
    _depth(e, op, "DepthToSpace", size, unmerged, [0, 1, 3, 2, 4, 5], merged)


def space_to_depth(e: Emitter, op: Operator) -> None:
    """As ONNX counts, too."""
    size = op.integer("block_size")
    unmerged: list[int | _Size] = [_Size(0), _Size(1, by=size), size, _Size(2, by=size), size, _Size(3)]
    merged = [_Size(0), _Size(1), _Size(2), _Size(5, times=size * size)]
    _depth(e, op, "SpaceToDepth", size, unmerged, [0, 1, 3, 2, 4, 5], merged)


def _depth(
    e: Emitter,
    op: Operator,
    kind: str,
    size: int,
    unmerged: Sequence[int | _Size],
    perm: Sequence[int],
    merged: Sequence[int | _Size],
) -> None:
    """ONNX's own operator channels first; reshapes and one Transpose in TFLite's layout, and for types that it lacks."""
    x, out = op.inputs[0], op.outputs[0]
    if len(dims_of(e, x)) != 4:
        raise NotExpressible(f"it takes {len(dims_of(e, x))} axes")
    if e.layout(x):
        value = moved(e, x, out, channels_first=True)
        if value.dtype in _DEPTH:
            e.put(out, e.op(kind, value, blocksize=size), channels_first=True)
            return
    value = _reshaped(e, moved(e, x, out), unmerged)
    e.put(out, _reshaped(e, e.op("Transpose", value, perm=list(perm)), merged))


def _blocks(e: Emitter, op: Operator, rank: int) -> tuple[list[int], list[int]]:
    blocks, pads = e.numbers(op.inputs[1], "block"), e.numbers(op.inputs[2], "paddings")
    if rank not in (3, 4) or len(blocks) != rank - 2:
        raise NotExpressible(f"a block of {len(blocks)} sizes in {rank} axes")
    return blocks, pads


def _padded(
    e: Emitter, value: ir.Value, out: int, pairs: Sequence[tuple[int, int]], channels_first: bool
) -> ir.Value:
    codes = e.codes(out)
    filler = e.const(
        np.array(codes.zero_point if codes else 0, value.dtype.numpy() if value.dtype else np.float32)
    )
    pads = e.ints(*(pair[side] for side in (0, 1) for pair in arranged(pairs, channels_first)))
    return through(e, ir.DataType.INT32, _NO_PAD, lambda a, b: e.op("Pad", a, pads, b), value, filler)


def _reshaped(e: Emitter, value: ir.Value, wanted: Sequence[int | _Size]) -> ir.Value:
    """To sizes that follow from the value's own; computed in the graph where more than one is known only there."""
    dims = sizes_of(value)
    if dims is None:
        raise NotExpressible("the number of its axes is known only while the model runs")
    told = [size if isinstance(size, int) else size.of(dims[size.axis]) for size in wanted]
    if sum(not isinstance(size, int) for size in told) <= 1:
        return settled(e.reshape(value, [size if isinstance(size, int) else -1 for size in told]), told)
    rules = [size if isinstance(size, _Size) else _Size(0, times=0) for size in wanted]
    sizes = e.op("Gather", e.op("Shape", value), e.ints(*(rule.axis for rule in rules)))
    sizes = e.op(
        "Div",
        e.op("Mul", sizes, e.ints(*(rule.times for rule in rules))),
        e.ints(*(rule.by for rule in rules)),
    )
    sizes = e.op("Add", sizes, e.ints(*(size if isinstance(size, int) else 0 for size in wanted)))
    return settled(e.op("Reshape", value, sizes), told)
