"""Parts of tensors: SLICE, SPLIT, SPLIT_V, UNPACK, REVERSE_V2, REVERSE_SEQUENCE. STRIDED_SLICE has a file of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    FIRST,
    LAST,
    as_int64,
    dims_of,
    folded,
    known,
    moved,
    place,
    settled,
)
from mlconv.formats.tflite_graph import Operator


def slice_(e: Emitter, op: Operator) -> None:
    """A size of -1 is all that is left."""
    x, begin, size, out = *op.inputs, op.outputs[0]
    dims, channels_first = dims_of(e, x), e.layout(x)
    starts, sizes = e.constant(begin), known(e, size)
    if starts is None or sizes is None or not all(isinstance(each, (int, np.integer)) for each in sizes):
        first, count = as_int64(e, begin), as_int64(e, size)
        last = e.op("Where", e.op("Equal", count, e.ints(-1)), e.ints(LAST), e.op("Add", first, count))
        axes = e.ints(*(place(axis, len(dims), channels_first) for axis in range(len(dims))))
        value = e.op("Slice", moved(e, x, out, channels_first=channels_first), first, last, axes)
        e.put(out, settled(value, [None] * len(dims)), channels_first=channels_first)
        return
    bounds = [
        (int(at), LAST if each == -1 else int(at + each)) for at, each in zip(starts, sizes, strict=True)
    ]
    if folded(e, op, [x], lambda array: array[tuple(slice(*each) for each in bounds)]):
        return
    value = moved(e, x, out, channels_first=channels_first)
    cut = [axis for axis, dim in enumerate(dims) if bounds[axis] not in ((0, LAST), (0, dim))]
    if cut:
        first, last = (e.ints(*(bounds[axis][side] for axis in cut)) for side in (0, 1))
        value = e.op(
            "Slice", value, first, last, e.ints(*(place(axis, len(dims), channels_first) for axis in cut))
        )
    e.put(out, value, channels_first=channels_first)


def split(e: Emitter, op: Operator) -> None:
    """Equal parts."""
    (axis,) = e.numbers(op.inputs[0], "axis")
    _split(e, op, op.inputs[1], axis, None)


def split_v(e: Emitter, op: Operator) -> None:
    """One length may be -1: what the others leave."""
    (axis,) = e.numbers(op.inputs[2], "axis")
    lengths = e.numbers(op.inputs[1], "lengths")
    if -1 in lengths:
        dims = dims_of(e, op.inputs[0])
        whole = dims[place(axis, len(dims))]
        if not isinstance(whole, int):
            raise NotExpressible("one of its lengths is known only while the model runs")
        lengths[lengths.index(-1)] = whole - sum(length for length in lengths if length != -1)
    _split(e, op, op.inputs[0], axis, lengths)


def _split(e: Emitter, op: Operator, x: int, axis: int, lengths: Sequence[int] | None) -> None:
    dims, channels_first, parts = dims_of(e, x), e.layout(x), len(op.outputs)
    axis = place(axis, len(dims))
    whole = dims[axis]
    if lengths is None and isinstance(whole, int):
        if whole % parts:
            raise NotExpressible(f"{whole} elements do not split into {parts} equal parts")
        lengths = [whole // parts] * parts
    if lengths is not None and folded(e, op, [x], lambda array: _parts(array, axis, lengths)):
        return
    value, axis = (
        moved(e, x, op.outputs[0], channels_first=channels_first),
        place(axis, len(dims), channels_first),
    )
    if parts == 1:
        made: tuple[ir.Value, ...] = (value,)
    elif lengths is not None:
        made = e.split(value, axis, lengths)
    else:
        more: dict[str, Any] = {"num_outputs": parts} if e.target.opset >= 18 else {}
        made = e.ops("Split", value, outputs=parts, axis=axis, **more)
    for out, part in zip(op.outputs, made, strict=True):
        e.put(out, part, channels_first=channels_first)


def _parts(array: np.ndarray, axis: int, lengths: Sequence[int]) -> tuple[np.ndarray, ...]:
    return tuple(np.split(array, np.cumsum(lengths)[:-1], axis))


def unpack(e: Emitter, op: Operator) -> None:
    """One output for each element of an axis, which is dropped."""
    x = op.inputs[0]
    dims = dims_of(e, x)
    axis = place(op.integer("axis"), len(dims))
    if folded(e, op, [x], lambda array: tuple(np.moveaxis(array, axis, 0))):
        return
    channels_first = e.layout(x) and 0 < axis < len(dims) - 1
    value, at = (
        moved(e, x, op.outputs[0], channels_first=channels_first),
        place(axis, len(dims), channels_first),
    )
    for position, out in enumerate(op.outputs):
        e.put(out, e.op("Gather", value, e.const(np.int64(position)), axis=at), channels_first=channels_first)


def reverse_v2(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    dims, channels_first = dims_of(e, x), e.layout(x)
    axes = [place(axis, len(dims)) for axis in e.numbers(op.inputs[1], "axes")]
    if folded(e, op, [x], lambda array: np.flip(array, tuple(axes))):
        return
    count = len(axes)
    value = e.op("Slice", moved(e, x, out, channels_first=channels_first), e.ints(*[LAST] * count), e.ints(*[FIRST] * count),
                 e.ints(*(place(axis, len(dims), channels_first) for axis in axes)), e.ints(*[-1] * count))  # fmt: skip
    e.put(out, value, channels_first=channels_first)


def reverse_sequence(e: Emitter, op: Operator) -> None:
    """ONNX takes time and batch as the first two axes alone."""
    x, lengths, out = op.inputs[0], op.inputs[1], op.outputs[0]
    rank = e.rank(x)
    time, batch = place(op.integer("seq_dim"), rank), place(op.integer("batch_dim"), rank)
    if time == batch:
        raise NotExpressible("its sequence and batch axes are one")
    value, counts = moved(e, x, out), as_int64(e, lengths)
    if {time, batch} == {0, 1}:
        e.put(out, e.op("ReverseSequence", value, counts, time_axis=time, batch_axis=batch))
        return
    perm = [batch, time, *(axis for axis in range(rank) if axis not in (batch, time))]
    turned = e.op("ReverseSequence", e.op("Transpose", value, perm=perm), counts, batch_axis=0, time_axis=1)
    e.put(out, e.op("Transpose", turned, perm=[perm.index(axis) for axis in range(rank)]))
