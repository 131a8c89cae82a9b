"""STRIDED_SLICE: every mask, negative strides, ``offset``; bounds constant or computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import Dims, NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    FIRST,
    LAST,
    as_int64,
    dims_of,
    folded,
    moved,
    place,
    settled,
)
from mlconv.formats.tflite_graph import Operator


@dataclass(frozen=True, slots=True)
class _Part:
    """What becomes of one axis.

    Attributes:
        axis: Of the input; -1 for an axis that the slice adds.
        entry: Where its bounds stand in ``begin``, ``end`` and ``strides``; -1 for all of it.
        shrink: The axis is dropped, after its element ``begin`` was taken.
    """

    axis: int
    entry: int = -1
    shrink: bool = False


@dataclass(frozen=True, slots=True)
class _Cut:
    """A Slice along one axis: numbers where they are known, else where ``begin`` and ``end`` have them."""

    part: _Part
    start: int | None
    stop: int | None
    stride: int


def strided_slice(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    dims, strides = dims_of(e, x), e.numbers(op.inputs[3], "strides")
    if 0 in strides:
        raise NotExpressible("a stride is 0")
    parts = _parts(op, len(dims), len(strides))
    begin, end = (_known(e, index, len(strides)) for index in op.inputs[1:3])
    cuts = [_cut(op, part, dims[part.axis], begin, end, strides) for part in parts if part.entry >= 0]
    if _constant(cuts) and folded(e, op, [x], lambda array: array[_numpy(parts, cuts)]):
        return
    channels_first = e.layout(x) and _keeps_borders(parts, len(dims))
    value = _sliced(e, op, moved(e, x, out, channels_first=channels_first), dims, cuts, channels_first)
    dropped = [place(part.axis, len(dims), channels_first) for part in parts if part.shrink]
    if dropped:
        value = e.op("Squeeze", settled(value, [None] * len(dims)), e.ints(*sorted(dropped)))
    kept = [part for part in parts if not part.shrink]
    added = [place(at, len(kept), channels_first) for at, part in enumerate(kept) if part.axis < 0]
    if added:
        value = e.op("Unsqueeze", value, e.ints(*sorted(added)))
    e.put(out, settled(value, [None] * len(kept)), channels_first=channels_first)


def _parts(op: Operator, rank: int, entries: int) -> list[_Part]:
    """The masks, read as tensorflow/lite/kernels/strided_slice.cc, BuildStridedSliceParams, reads them: an ellipsis takes an axis at least."""
    ellipsis_mask, new_mask = (
        op.integer("ellipsis_mask"),
        op.integer("new_axis_mask") & ~op.integer("ellipsis_mask"),
    )
    shrink_mask = op.integer("shrink_axis_mask")
    if ellipsis_mask & (ellipsis_mask - 1):
        raise NotExpressible("it has several ellipses")
    whole = rank + (new_mask & (1 << entries) - 1).bit_count()
    parts: list[_Part] = []
    axis = entry = 0
    while len(parts) < whole:
        if entry >= entries:
            count, part = whole - len(parts), None
        elif ellipsis_mask >> entry & 1:
            count, part = max(1, min(1 + whole - entries, whole - len(parts))), None
        elif new_mask >> entry & 1:
            count, part = 0, _Part(-1)
        else:
            count, part = 1, _Part(axis, entry, bool(shrink_mask >> entry & 1))
        parts += [_Part(number) for number in range(axis, axis + count)] if part is None else [part]
        axis, entry = axis + count, entry + 1
    if axis != rank:
        raise NotExpressible(f"it slices {axis} axes of a tensor with {rank}")
    return parts


def _cut(op: Operator, part: _Part, size: int | str | None, begin: Sequence[int | None], end: Sequence[int | None],
         strides: Sequence[int]) -> _Cut:  # fmt: skip
    """Bounds as tensorflow/lite/kernels/internal/reference/strided_slice.h, StartForAxis and EndForAxis, clamp them."""
    start, stop, stride = begin[part.entry], end[part.entry], strides[part.entry]
    first, whole = op.integer("begin_mask") >> part.entry & 1, op.integer("end_mask") >> part.entry & 1
    forward = stride > 0
    if not isinstance(size, int):
        if part.shrink:
            start = 0 if first and forward else -1 if first else start
            return _Cut(part, start, None if start is None else LAST if start == -1 else start + 1, 1)
        if op.flag("offset") and not whole:
            if start is None or stop is None or start < 0:
                raise NotExpressible("its end counts from a begin that is known only while the model runs")
            stop += start
        start = (0 if forward else LAST) if first else start
        return _Cut(part, start, (LAST if forward else FIRST) if whole else stop, stride)
    low, high = (0, size) if forward else (-1, size - 1)
    if first:
        start = 0 if forward else size - 1
    elif start is not None:
        start = min(max(start + size if start < 0 else start, low), high)
    if part.shrink:
        return _Cut(part, start, None if start is None else start + 1, 1)
    if whole:
        stop = size if forward else -1
    elif stop is not None:
        if op.flag("offset"):
            if start is None:
                raise NotExpressible("its end counts from a begin that is known only while the model runs")
            stop += start
        stop = min(max(stop + size if stop < 0 else stop, low), high)
    if start is not None and stop is not None and (stop - start) * stride <= 0:
        return _Cut(part, 0, 0, 1)
    return _Cut(
        part, start, FIRST if whole and not forward else FIRST if stop == -1 and not forward else stop, stride
    )


def _sliced(
    e: Emitter, op: Operator, value: ir.Value, dims: Dims, cuts: Sequence[_Cut], channels_first: bool
) -> ir.Value:
    cuts = [
        cut
        for cut in cuts
        if (cut.start, cut.stop, cut.stride) not in ((0, dims[cut.part.axis], 1), (0, LAST, 1))
    ]
    if not cuts:
        return value
    axes = e.ints(*(place(cut.part.axis, len(dims), channels_first) for cut in cuts))
    steps = [cut.stride for cut in cuts]
    starts = _bounds(e, op.inputs[1], [(cut.start, cut.part.entry) for cut in cuts])
    stops = _bounds(e, op.inputs[2], [(cut.stop, cut.part.entry) for cut in cuts])
    shrunk = np.array([cut.part.shrink and cut.stop is None for cut in cuts])
    if shrunk.any():
        after = e.op("Add", starts, e.ints(1))
        after = e.op(
            "Where", e.op("Equal", after, e.ints(0)), e.ints(LAST), after
        )  # behind the element -1 is no element 0
        stops = e.op("Where", e.const(shrunk), after, stops)
    return e.op("Slice", value, starts, stops, axes, e.ints(*steps) if set(steps) != {1} else None)


def _bounds(e: Emitter, index: int, bounds: Sequence[tuple[int | None, int]]) -> ir.Value:
    """Bounds as one vector: each a number, or an element of a tensor."""
    numbers = [number for number, _ in bounds]
    if all(number is not None for number in numbers):
        return e.ints(*(int(number or 0) for number in numbers))
    picked = e.op("Gather", as_int64(e, index), e.ints(*(entry for _, entry in bounds)))
    if all(number is None for number in numbers):
        return picked
    given = e.const(np.array([number is not None for number in numbers]))
    return e.op("Where", given, e.ints(*(int(number or 0) for number in numbers)), picked)


def _known(e: Emitter, index: int, count: int) -> list[int | None]:
    found = e.elements(index)
    if found is None:
        return [None] * count
    return [int(element) if isinstance(element, (int, np.integer)) else None for element in found.reshape(-1)]


def _constant(cuts: Sequence[_Cut]) -> bool:
    return all(cut.start is not None and cut.stop is not None for cut in cuts)


def _numpy(parts: Sequence[_Part], cuts: Sequence[_Cut]) -> tuple[int | slice | None, ...]:
    by_axis = {cut.part.axis: cut for cut in cuts}
    index: list[int | slice | None] = []
    for part in parts:
        if part.axis < 0:
            index.append(None)
        elif part.entry < 0:
            index.append(slice(None))
        else:
            cut = by_axis[part.axis]
            index.append(
                cut.start
                if part.shrink
                else slice(cut.start, None if cut.stop == FIRST else cut.stop, cut.stride)
            )
    return tuple(index)


def _keeps_borders(parts: Sequence[_Part], rank: int) -> bool:
    """Whether batch and channels stay the first and the last axis, so that the result has the same layout."""
    kept = [part for part in parts if not part.shrink]
    return len(kept) > 1 and kept[0].axis == 0 and kept[-1].axis == rank - 1
