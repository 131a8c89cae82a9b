"""STABLEHLO_SCATTER: updates at places that are computed (https://openxla.org/stablehlo/spec#scatter)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import dims_of, through
from mlconv.convert.tflite_import.ops.stablehlo import assert_numbers, numbers
from mlconv.convert.tflite_import.ops.stablehlo_gather import starts_of
from mlconv.formats.tflite_graph import Operator

_REDUCTIONS = {
    "STABLEHLO_ADD": ("add", 16), "ADD": ("add", 16), "STABLEHLO_MULTIPLY": ("mul", 16), "MUL": ("mul", 16),
    "STABLEHLO_MAXIMUM": ("max", 18), "MAXIMUM": ("max", 18), "STABLEHLO_MINIMUM": ("min", 18), "MINIMUM": ("min", 18),
}  # fmt: skip
"""What a body of one operator is as ``reduction``, and the first opset that has it."""

_NO_REDUCTION = frozenset({ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16})


def scatter(e: Emitter, op: Operator) -> None:
    """On the operand as one axis with a place more: that is where updates go which lie outside, since StableHLO drops them."""
    assert_numbers(e, op)
    if len(op.inputs) != 3:
        raise NotExpressible("it scatters into several tensors at once")
    dims, updated = dims_of(e, op.inputs[0]), dims_of(e, op.inputs[2])
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) < len(dims):
        raise NotExpressible("it scatters into a tensor whose size is known only while the model runs")
    window, inserted = numbers(op, "update_window_dims"), numbers(op, "inserted_window_dims")
    kept = [axis for axis in range(len(sizes)) if axis not in inserted]
    widths = [updated[axis] for axis in window]
    if len(window) != len(kept) or not all(isinstance(width, int) for width in widths):
        raise NotExpressible(
            "its windows are not those of its operand, or of sizes that are known only while the model runs"
        )
    starts = starts_of(e, op)
    places = _places(
        e,
        starts,
        numbers(op, "scatter_dims_to_operand_dims"),
        sizes,
        dict(zip(kept, (int(width or 0) for width in widths), strict=True)),
    )
    perm = [*(axis for axis in range(len(updated)) if axis not in window), *window]
    updates = e.stored(op.inputs[2])
    if perm != sorted(perm):
        updates = e.op("Transpose", updates, perm=perm)
    reduction = _reduction(e, op)

    def write(value: ir.Value, updates: ir.Value) -> ir.Value:
        line = e.op("Reshape", value, e.ints(-1))
        assert line.dtype is not None
        longer = e.op("Concat", line, e.const(np.zeros(1, line.dtype.numpy())), axis=0)
        more = {} if reduction == "none" else {"reduction": reduction}
        flat = [e.op("Reshape", told, e.ints(-1)) for told in (places, updates)]
        scattered = e.op("ScatterElements", longer, *flat, axis=0, **more)
        return e.reshape(e.op("Slice", scattered, e.ints(0), e.ints(-1), e.ints(0)), sizes)

    lacking = frozenset() if reduction == "none" else _NO_REDUCTION
    e.put(op.outputs[0], through(e, ir.DataType.INT32, lacking, write, e.stored(op.inputs[0]), updates))


def _places(
    e: Emitter, starts: ir.Value, scattered: Sequence[int], sizes: Sequence[int], widths: dict[int, int]
) -> ir.Value:
    """(batch..., window...): where each update goes, counted along the whole operand; its length for what lies outside.

    Args:
        widths: Operand axes that a window has, with its sizes there.
    """
    batch = len(starts.shape or ()) - 1
    axes = list(widths)
    total: ir.Value | None = None
    inside: ir.Value | None = None
    for axis, size in enumerate(sizes):
        place = None
        if axis in widths:
            shape = [1] * (batch + len(axes))
            shape[batch + axes.index(axis)] = widths[axis]
            place = e.const(np.arange(widths[axis], dtype=np.int64).reshape(shape))
        if axis in scattered:
            column = e.op("Gather", starts, e.const(np.int64(scattered.index(axis))), axis=batch)
            if axes:
                column = e.op("Unsqueeze", column, e.ints(*(batch + number for number in range(len(axes)))))
            place = column if place is None else e.op("Add", column, place)
            fits = e.op(
                "And",
                e.op("GreaterOrEqual", place, e.const(np.int64(0))),
                e.op("Less", place, e.const(np.int64(size))),
            )
            inside = fits if inside is None else e.op("And", inside, fits)
        if place is not None:
            step = e.op("Mul", place, e.const(np.int64(math.prod(sizes[axis + 1 :]))))
            total = step if total is None else e.op("Add", total, step)
    if total is None or inside is None:
        raise NotExpressible("its updates begin nowhere")
    return e.op("Where", inside, total, e.const(np.int64(math.prod(sizes))))


def _reduction(e: Emitter, op: Operator) -> str:
    graph = e.shared.model.subgraphs[op.integer("update_computation_subgraph_index", -1)]
    if len(graph.inputs) == 2 and not graph.operators and graph.outputs == graph.inputs[1:]:
        return "none"
    if (
        len(graph.operators) != 1
        or set(graph.operators[0].inputs) != set(graph.inputs)
        or graph.operators[0].outputs != graph.outputs
    ):
        raise NotExpressible("it combines by more than one operator")
    reduction, opset = _REDUCTIONS.get(graph.operators[0].kind, ("", 0))
    if not reduction:
        raise NotExpressible("it combines by a function that ONNX does not have")
    if e.target.opset < opset:
        raise NotExpressible(f"the {reduction} of what was there and what comes needs opset {opset}")
    return reduction
