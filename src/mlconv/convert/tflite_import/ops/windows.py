"""REDUCE_WINDOW in both dialects: windows are gathered axis by axis, and each axis is reduced on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import dims_of, through
from mlconv.convert.tflite_import.ops.stablehlo import assert_numbers, numbers, padded, spaced
from mlconv.formats.tflite_graph import Operator

_FUNCTIONS = ("", "add", "mul", "minimum", "maximum", "all", "any")
"""ReduceWindowFunction of the schema."""

_BODIES = {
    "STABLEHLO_ADD": "add", "ADD": "add", "STABLEHLO_MULTIPLY": "mul", "MUL": "mul", "STABLEHLO_MAXIMUM": "maximum",
    "MAXIMUM": "maximum", "STABLEHLO_MINIMUM": "minimum", "MINIMUM": "minimum", "STABLEHLO_AND": "all", "LOGICAL_AND": "all",
    "STABLEHLO_OR": "any", "LOGICAL_OR": "any",
}  # fmt: skip

_REDUCTIONS = {
    "add": ("ReduceSum", "Add"), "mul": ("ReduceProd", "Mul"), "maximum": ("ReduceMax", "Max"), "minimum": ("ReduceMin", "Min"),
    "all": ("ReduceMin", "Min"), "any": ("ReduceMax", "Max"),
}  # fmt: skip
_WIDENED = frozenset({
    ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.BOOL, ir.DataType.UINT32, ir.DataType.INT32,
})  # fmt: skip
"""onnxruntime's reductions lack these, or do not wrap as LiteRT's do (int32)."""


def reduce_window(e: Emitter, op: Operator) -> None:
    """TFLite's own: no padding, no dilation of the operand."""
    code = op.integer("reduce_function")
    windows, strides, dilations = (
        e.numbers(index, what)
        for index, what in zip(op.inputs[2:], ("window", "strides", "dilations"), strict=True)
    )
    function = _FUNCTIONS[code] if 0 < code < len(_FUNCTIONS) else ""
    _reduce(e, op, function, windows, strides, dilations, [0] * len(windows), [0] * (2 * len(windows)))


def stablehlo_reduce_window(e: Emitter, op: Operator) -> None:
    """With one operand, and a body of one operator."""
    if len(op.inputs) != 2 or len(op.outputs) != 1:
        raise NotExpressible("it reduces several tensors at once")
    windows = numbers(op, "window_dimensions")
    ones = [1] * len(windows)
    strides, dilations, base = (
        numbers(op, name) or ones for name in ("window_strides", "window_dilations", "base_dilations")
    )
    padding = numbers(op, "padding") or [0] * (2 * len(windows))
    pads = [*padding[::2], *padding[1::2]]
    _reduce(e, op, _body(e, op), windows, strides, dilations, [dilation - 1 for dilation in base], pads)


def _body(e: Emitter, op: Operator) -> str:
    graph = e.shared.model.subgraphs[op.integer("body_subgraph_index", -1)]
    if (
        len(graph.operators) != 1
        or set(graph.operators[0].inputs) != set(graph.inputs)
        or graph.operators[0].outputs != graph.outputs
    ):
        raise NotExpressible("it reduces by more than one operator")
    return _BODIES.get(graph.operators[0].kind, "")


def _reduce(
    e: Emitter, op: Operator, function: str, windows: Sequence[int], strides: Sequence[int], dilations: Sequence[int], interior: Sequence[int],
    pads: Sequence[int],
) -> None:  # fmt: skip
    """The initial value stands where nothing is, and is counted once in each window beside (stablehlo_reduce_window.cc)."""
    assert_numbers(e, op)
    dims = dims_of(e, op.inputs[0])
    rank = len(dims)
    if function not in _REDUCTIONS or (
        function in ("all", "any") and e.tensor(op.outputs[0]).dtype != "bool"
    ):
        raise NotExpressible("it reduces by a function that ONNX does not have")
    if (
        not len(windows) == len(strides) == len(dilations) == len(interior) == len(pads) // 2 == rank
        or min((*windows, *strides, *dilations, 1)) < 1
    ):
        raise NotExpressible("its windows are not those of its operand")
    kind, combine = _REDUCTIONS[function]

    def write(value: ir.Value, initial: ir.Value) -> ir.Value:
        value = spaced(e, value, dims, interior, initial)
        if any(pads):
            value = padded(e, value, pads, initial)
        for axis in range(rank):
            size, before, after = dims[axis], pads[axis], pads[rank + axis]
            if windows[axis] == strides[axis] == 1:
                continue
            if not isinstance(size, int):
                raise NotExpressible("it reduces an axis whose size is known only while the model runs")
            whole = max((size - 1) * (interior[axis] + 1) + 1, 0) + before + after if size else before + after
            value = _reduced(e, kind, value, axis, whole, windows[axis], strides[axis], dilations[axis])
        return e.op(combine, value, initial)

    value, initial = (
        e.stored(op.inputs[0]),
        e.op("Reshape", e.stored(op.inputs[1]), e.const(np.zeros(0, np.int64))),
    )
    e.put(
        op.outputs[0],
        through(
            e,
            ir.DataType.INT64 if value.dtype != ir.DataType.BOOL else ir.DataType.INT32,
            _WIDENED,
            write,
            value,
            initial,
        ),
    )


def _reduced(
    e: Emitter, kind: str, value: ir.Value, axis: int, size: int, window: int, stride: int, dilation: int
) -> ir.Value:
    """Along one axis: every window beside the others, then one reduction."""
    count = max((size - (window - 1) * dilation - 1) // stride + 1, 0)
    if count * window > MOST_ELEMENTS:
        raise NotExpressible("its windows overlap so much that their elements do not fit beside each other")
    places = np.arange(count)[:, None] * stride + np.arange(window)[None] * dilation
    return e.reduce(
        kind, e.op("Gather", value, e.const(places.astype(np.int64)), axis=axis), [axis + 1], keepdims=False
    )


MOST_ELEMENTS = 1 << 20  # of one axis' windows: a table of 8 MB
