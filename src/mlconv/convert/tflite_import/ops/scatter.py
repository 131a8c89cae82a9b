"""Elements put by index: SCATTER_ND, SPARSE_TO_DENSE, DYNAMIC_UPDATE_SLICE, segments, EMBEDDING_LOOKUP_SPARSE."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    LAST,
    arranged,
    as_int64,
    dims_of,
    flat,
    joined,
    moved,
    place,
    scalar,
    settled,
    shape_of,
    sizes_of,
)
from mlconv.formats.tflite_graph import Operator

_REDUCTIONS = {"add": 16, "mul": 16, "max": 18, "min": 18}
"""The opset from which ScatterElements has them. ScatterND has them too, but onnxruntime 1.31 loses updates there: its threads
race for a place that comes several times (1 of 30 runs of 20,000 updates to 3 rows)."""


def scatter_nd(e: Emitter, op: Operator) -> None:
    """Updates of one place add up (tensorflow/lite/kernels/internal/reference/reference_ops.h, ScatterNd)."""
    indices, updates, sizes = op.inputs
    out, codes = op.outputs[0], e.codes(op.outputs[0])
    places, told, depth = e.constant(indices), e.constant(sizes), dims_of(e, indices)[-1]
    values = moved(e, updates, out)
    own, shift = values.dtype, codes.shift if codes else 0
    assert own is not None
    if (
        places is not None
        and len(np.unique(places.reshape(-1, places.shape[-1]), axis=0)) == places.size // places.shape[-1]
    ):
        zeros = e.op("Expand", e.const(np.array(shift, own.numpy())), as_int64(e, sizes))
        e.put(out, e.op("ScatterND", zeros, as_int64(e, indices), values))
        return
    if not isinstance(depth, int) or (told is None and depth != 1):
        raise NotExpressible("its shape is computed while the model runs, and places may repeat")
    bytes_ = own in (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.BOOL)
    if bytes_:
        values = e.op("Cast", values, to=ir.DataType.INT32)
        values = e.op("Sub", values, e.const(np.int32(shift))) if shift else values
    value = _summed_by_place(e, as_int64(e, indices), values, as_int64(e, sizes), told, depth)
    if bytes_:
        value = e.op("Add", value, e.const(np.int32(shift))) if shift else value
        value = e.op("Cast", value, to=own)  # wraps, as the kernel's own bytes do
    e.put(out, value)


def _summed_by_place(
    e: Emitter, places: ir.Value, values: ir.Value, sizes: ir.Value, told: np.ndarray | None, depth: int
) -> ir.Value:
    """Values added up in zeros of shape ``sizes``, by the first ``depth`` axes: those are one axis while they are added."""
    if told is None:
        rank = None if sizes.shape is None else sizes.shape[0]
        if not isinstance(rank, int):
            raise NotExpressible("the number of its axes is known only while the model runs")
        tail = e.op("Slice", sizes, e.ints(1), e.ints(LAST))
        values = settled(e.op("Reshape", values, e.op("Concat", e.ints(-1), tail, axis=0)), [None] * rank)
        return _accumulated(e, _filled(e, 0, values, sizes), e.reshape(places, [-1]), values, "add")
    whole = [int(size) for size in told]
    strides = [math.prod(whole[axis + 1 : depth]) for axis in range(depth)]
    ids = e.reshape(e.reduce("ReduceSum", e.op("Mul", places, e.ints(*strides)), [-1], keepdims=False), [-1])
    values = e.reshape(values, [-1, *whole[depth:]])
    base = _filled(e, 0, values, e.ints(math.prod(whole[:depth]), *whole[depth:]))
    return e.reshape(_accumulated(e, base, ids, values, "add"), whole)


def _filled(e: Emitter, number: float, like: ir.Value, sizes: ir.Value) -> ir.Value:
    assert like.dtype is not None
    return e.op("Expand", e.const(np.array(number, like.dtype.numpy())), sizes)


def sparse_to_dense(e: Emitter, op: Operator) -> None:
    indices, sizes, values, default = op.inputs
    out, rank = op.outputs[0], e.rank(op.inputs[0])
    places, given = as_int64(e, indices), moved(e, values, out)
    dense = e.op("Expand", scalar(e, default, out), as_int64(e, sizes))
    length = dims_of(e, sizes)[0]
    if isinstance(length, int):
        settled(dense, [None] * length)
    if rank < 2:
        places = e.reshape(places, [-1, 1])
    if not e.rank(values):
        count = e.op("Slice", e.op("Shape", places), e.ints(0), e.ints(1))
        given = e.op("Expand", given, count)
    e.put(out, e.op("ScatterND", dense, places, given))


def dynamic_update_slice(e: Emitter, op: Operator) -> None:
    """The begin is moved inward until the update fits (tensorflow/lite/kernels/dynamic_update_slice.cc).

    Axis by axis, the result is what lies before the update, the update laid into what lies beside it, and what lies behind.
    """
    x, update, begin, out = *op.inputs, op.outputs[0]
    whole, part, channels_first = dims_of(e, x), dims_of(e, update), e.layout(x, update)
    axes = [
        axis
        for axis, (size, length) in enumerate(zip(whole, part, strict=True))
        if size is None or size != length
    ]
    lengths = [part[axis] for axis in axes]
    if not all(isinstance(length, int) for length in lengths):
        raise NotExpressible("the size of its update is known only while the model runs")
    value, made = (
        moved(e, x, out, channels_first=channels_first),
        moved(e, update, out, channels_first=channels_first),
    )
    if axes:
        room = e.op(
            "Sub",
            e.op("Gather", shape_of(e, x), e.ints(*axes)),
            e.ints(*(int(length or 0) for length in lengths)),
        )
        first = e.op("Max", e.op("Min", e.op("Gather", as_int64(e, begin), e.ints(*axes)), room), e.ints(0))
        behind = e.op("Add", first, e.ints(*(int(length or 0) for length in lengths)))
        beside = [value]
        bounds = []
        for number, axis in enumerate(axes):
            at = e.ints(place(axis, len(whole), channels_first))
            bounds.append(
                (
                    at,
                    e.op("Slice", first, e.ints(number), e.ints(number + 1)),
                    e.op("Slice", behind, e.ints(number), e.ints(number + 1)),
                )
            )
            if number + 1 < len(axes):
                beside.append(e.op("Slice", beside[-1], *bounds[-1][1:], at))
        for around, (at, start, stop), axis in zip(beside[::-1], bounds[::-1], axes[::-1], strict=True):
            before, after = (
                e.op("Slice", around, e.ints(0), start, at),
                e.op("Slice", around, stop, e.ints(LAST), at),
            )
            made = e.op("Concat", before, made, after, axis=place(axis, len(whole), channels_first))
    e.put(out, settled(made, arranged(whole, channels_first)), channels_first=channels_first)


def segment_sum(e: Emitter, op: Operator) -> None:
    """Segments are numbered from 0 without gaps, in order: the last number tells how many there are."""
    x, segments, out = op.inputs[0], op.inputs[1], op.outputs[0]
    told = e.constant(segments)
    if told is not None:
        count = e.ints(int(told[-1]) + 1 if told.size else 0)
    else:
        count = e.op("Add", e.op("Gather", as_int64(e, segments), e.ints(-1)), e.ints(1))
    _segments(e, out, e.stored(x), as_int64(e, segments), 1, count, "add", 0)


def unsorted_segment_sum(e: Emitter, op: Operator) -> None:
    _unsorted(e, op, "add")


def unsorted_segment_prod(e: Emitter, op: Operator) -> None:
    _unsorted(e, op, "mul")


def unsorted_segment_max(e: Emitter, op: Operator) -> None:
    _unsorted(e, op, "max")


def unsorted_segment_min(e: Emitter, op: Operator) -> None:
    _unsorted(e, op, "min")


def _unsorted(e: Emitter, op: Operator, reduction: str) -> None:
    """Elements of negative segments are dropped: they go to one more segment, which is cut off."""
    x, segments, number = op.inputs
    out, dtype = op.outputs[0], np.dtype(e.tensor(op.inputs[0]).dtype)
    limits = np.finfo(dtype) if dtype.kind == "f" else np.iinfo(dtype)
    start = {"add": 0, "mul": 1, "max": limits.min, "min": limits.max}[reduction]
    ids, count = as_int64(e, segments), flat(e, as_int64(e, number), [1])
    told = e.constant(segments)
    drops = told is None or bool((told < 0).any())
    if drops:
        ids = e.op("Where", e.op("Less", ids, e.const(np.int64(0))), count, ids)
        more = e.constant(number)
        count = e.op("Add", count, e.ints(1)) if more is None else e.ints(int(more.reshape(-1)[0]) + 1)
    _segments(e, out, e.stored(x), ids, e.rank(segments), count, reduction, start, drops=drops)


def _segments(e: Emitter, out: int, value: ir.Value, ids: ir.Value, many: int, count: ir.Value, reduction: str, start: float,
              *, drops: bool = False) -> None:  # fmt: skip
    sizes = sizes_of(value)
    if sizes is None:
        raise NotExpressible("the number of its axes is known only while the model runs")
    tail = e.op("Slice", e.op("Shape", value), e.ints(many), e.ints(LAST))
    known = [size for size in sizes[many:] if isinstance(size, int)]
    if len(known) == len(sizes) - many:
        tail = e.ints(*known)
    told = [None, *sizes[many:]]
    if many > 1:
        value, ids = settled(e.op("Reshape", value, joined(e, e.ints(-1), tail)), told), flat(e, ids)
    base = settled(_filled(e, start, value, joined(e, count, tail)), told)
    made = _accumulated(e, base, ids, value, reduction)
    if drops:
        made = e.op("Slice", made, e.ints(0), e.ints(-1), e.ints(0))
    e.put(out, settled(made, told))


def embedding_lookup_sparse(e: Emitter, op: Operator) -> None:
    """Weighted rows added up by bucket; their sum, or that over the sum or the root of the sum of squares of the weights."""
    ids, indices, sizes, weights, table = op.inputs
    out, combiner, dims = op.outputs[0], op.integer("combiner"), dims_of(e, table)
    rank, told = dims_of(e, indices)[1], e.constant(sizes)
    if (
        not isinstance(rank, int)
        or rank < 2
        or e.tensor(table).dtype != "float32"
        or combiner not in (0, 1, 2)
    ):
        raise NotExpressible("its buckets have one axis, or its table is no float32")
    if told is None and rank > 2:
        raise NotExpressible("the shape of its buckets is computed while the model runs")
    leading = e.op("Slice", as_int64(e, sizes), e.ints(0), e.ints(rank - 1))
    places = e.op("Slice", as_int64(e, indices), e.ints(0), e.ints(rank - 1), e.ints(1))
    given = e.real(weights)
    rows = e.op(
        "Mul",
        e.op("Gather", e.real(table), e.stored(ids), axis=0),
        e.op("Unsqueeze", given, e.ints(*range(1, len(dims)))),
    )
    tail = e.op("Slice", shape_of(e, table), e.ints(1), e.ints(LAST))
    whole = None if told is None else np.array([*told[: rank - 1], *dims[1:]])
    buckets = None if told is None else told[: rank - 1]
    value = _summed_by_place(e, places, rows, e.op("Concat", leading, tail, axis=0), whole, rank - 1)
    if combiner:
        squared = e.op("Mul", given, given) if combiner == 2 else given
        total = _summed_by_place(e, places, squared, leading, buckets, rank - 1)
        total = e.op("Sqrt", total) if combiner == 2 else total
        ones = e.op("Expand", e.const(np.float32(1)), e.op("Shape", given))
        count = _summed_by_place(e, places, ones, leading, buckets, rank - 1)
        total = e.op(
            "Where", e.op("Cast", count, to=ir.DataType.BOOL), total, e.const(np.float32(1))
        )  # an empty bucket stays 0
        value = e.op("Div", value, e.op("Unsqueeze", total, e.ints(*range(rank - 1, rank - 2 + len(dims)))))
    e.put(out, value)


def _accumulated(e: Emitter, base: ir.Value, ids: ir.Value, updates: ir.Value, reduction: str) -> ir.Value:
    """Rows of ``updates`` reduced into the rows of ``base`` that ``ids`` names, in their order."""
    since = _REDUCTIONS[reduction]
    if e.target.opset < since:
        raise NotExpressible(f"ONNX scatters with `{reduction}` from opset {since}")
    if updates.shape is None:
        raise NotExpressible("the number of its axes is known only while the model runs")
    axes = range(1, len(updates.shape))
    places = e.op("Expand", e.op("Unsqueeze", ids, e.ints(*axes)) if axes else ids, e.op("Shape", updates))
    return e.op("ScatterElements", base, places, updates, axis=0, reduction=reduction)
