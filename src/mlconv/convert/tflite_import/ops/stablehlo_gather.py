"""STABLEHLO_GATHER: slices of one size at places that are computed (https://openxla.org/stablehlo/spec#gather)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import as_int64, dims_of, moved
from mlconv.convert.tflite_import.ops.stablehlo import numbers
from mlconv.formats.tflite_graph import Operator


def gather(e: Emitter, op: Operator) -> None:
    """By GatherND over the axes of which a slice takes but a part; the other axes stand behind them, whole.

    Where a slice would leave the operand it is moved inside, as StableHLO wants.
    """
    operand, out = op.inputs[0], op.outputs[0]
    dims, rank = dims_of(e, operand), e.rank(operand)
    slices, collapsed = numbers(op, "slice_sizes"), numbers(op, "collapsed_slice_dims")
    offsets, start_map = numbers(op, "offset_dims"), numbers(op, "start_index_map")
    if len(slices) != rank or any(slices[axis] != 1 for axis in collapsed):
        raise NotExpressible("its slices are not those of its operand")
    whole = [axis for axis in range(rank) if dims[axis] == slices[axis]]
    parts = [axis for axis in range(rank) if axis not in whole]
    if any(not isinstance(dims[axis], int) for axis in parts):
        raise NotExpressible("it takes parts of an axis whose size is known only while the model runs")
    starts = starts_of(e, op)
    batch = len(starts.shape or ()) - 1
    value = moved(e, operand, out)
    order = [*parts, *whole]
    if order != list(range(rank)):
        value = e.op("Transpose", value, perm=order)
    if parts:
        sizes = [int(dims[axis] or 0) for axis in parts]
        value = e.op(
            "GatherND",
            value,
            _indices(e, starts, batch, parts, sizes, [slices[axis] for axis in parts], start_map),
        )
    else:  # every slice is the operand itself
        sizes_of_batch = e.op("Slice", e.op("Shape", starts), e.ints(0), e.ints(batch), e.ints(0))
        value = e.op(
            "Expand", value, e.op("Concat", sizes_of_batch, e.ints(*(slices[axis] for axis in order)), axis=0)
        )
    e.put(out, _arranged(e, value, batch, order, collapsed, offsets))


def starts_of(e: Emitter, op: Operator) -> ir.Value:
    """Where each slice begins, the coordinates along the last axis."""
    rank, axis = e.rank(op.inputs[1]), op.integer("index_vector_dim")
    starts = as_int64(e, op.inputs[1])
    if axis == rank:
        raise NotExpressible("its indices are scalars, on which LiteRT crashes")
    if axis != rank - 1:
        starts = e.op("Transpose", starts, perm=[*(place for place in range(rank) if place != axis), axis])
    return starts


def _indices(
    e: Emitter,
    starts: ir.Value,
    batch: int,
    parts: Sequence[int],
    sizes: Sequence[int],
    slices: Sequence[int],
    start_map: Sequence[int],
) -> ir.Value:
    """(batch..., slice..., coordinate): what GatherND takes."""
    columns = [
        e.op("Gather", starts, e.ints(start_map.index(axis)), axis=batch) if axis in start_map else None
        for axis in parts
    ]
    given = [column for column in columns if column is not None]
    if not given:
        raise NotExpressible("its slices begin nowhere")
    zero = e.op("Mul", given[0], e.ints(0))
    start = e.op("Concat", *(zero if column is None else column for column in columns), axis=batch)
    last = np.array([size - taken for size, taken in zip(sizes, slices, strict=True)], np.int64)
    start = e.op("Min", e.op("Max", start, e.const(np.zeros(len(parts), np.int64))), e.const(last))
    if all(taken == 1 for taken in slices):
        return e.op("Unsqueeze", start, e.ints(*(batch + place for place in range(len(parts)))))
    apart = e.op("Unsqueeze", start, e.ints(*(batch + place for place in range(len(parts)))))
    inside = np.stack(np.meshgrid(*(np.arange(taken) for taken in slices), indexing="ij"), -1)
    if inside.size > MOST_ELEMENTS:
        raise NotExpressible("it takes parts of so many axes that their coordinates do not fit")
    return e.op("Add", apart, e.const(inside.astype(np.int64)))


def _arranged(
    e: Emitter,
    value: ir.Value,
    batch: int,
    order: Sequence[int],
    collapsed: Sequence[int],
    offsets: Sequence[int],
) -> ir.Value:
    """(batch..., slice axes in ``order``) as the result: axes of 1 go, the slice's others stand at ``offsets``."""
    gone = [batch + place for place, axis in enumerate(order) if axis in collapsed]
    if gone:
        value = e.op("Squeeze", value, e.ints(*gone))
    kept = [axis for axis in order if axis not in collapsed]
    places = dict(zip(offsets, sorted(kept), strict=True))
    batches = iter(range(batch))
    perm = [
        batch + kept.index(places[place]) if place in places else next(batches)
        for place in range(batch + len(kept))
    ]
    return e.op("Transpose", value, perm=perm) if perm != sorted(perm) else value


MOST_ELEMENTS = 1 << 20  # of the table of coordinates within a slice
