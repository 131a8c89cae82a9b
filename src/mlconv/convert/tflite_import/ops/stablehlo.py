"""Operators of StableHLO that LiteRT runs (https://openxla.org/stablehlo/spec), and TFLite's DILATE, which is one of them in disguise.

LiteRT's kernels of them know no quantization: they compute on codes as if these were numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import as_int64, dims_of, moved, through
from mlconv.formats.tflite_graph import Operator

_SMALL_INTEGERS = frozenset({
    ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.UINT32,
})  # fmt: skip
"""onnxruntime's kernels of arithmetic lack some of these."""


def add(e: Emitter, op: Operator) -> None:
    _binary(e, op, "Add")


def multiply(e: Emitter, op: Operator) -> None:
    _binary(e, op, "Mul")


def maximum(e: Emitter, op: Operator) -> None:
    _binary(e, op, "Max")


def minimum(e: Emitter, op: Operator) -> None:
    _binary(e, op, "Min")


def and_(e: Emitter, op: Operator) -> None:
    if e.tensor(op.outputs[0]).dtype == "bool":
        _binary(e, op, "And")
    elif e.target.opset < 18:
        raise NotExpressible("bits of integers need opset 18")
    else:
        _binary(e, op, "BitwiseAnd")


def _binary(e: Emitter, op: Operator, kind: str) -> None:
    """Both operands have the same shape: StableHLO does not broadcast."""
    assert_numbers(e, op)
    channels_first = e.layout(*op.inputs)
    operands = [e.stored(index, channels_first=channels_first) for index in op.inputs]
    lacking = frozenset() if kind in ("And", "BitwiseAnd") else _SMALL_INTEGERS
    made = through(e, ir.DataType.INT64, lacking, lambda a, b: e.op(kind, a, b), *operands)
    e.put(op.outputs[0], made, channels_first=channels_first)


def shift_left(e: Emitter, op: Operator) -> None:
    """By products with powers of two, which wrap as shifts do; a shift by all bits or more, or less than none, gives 0."""
    assert_numbers(e, op)
    value, count = (as_int64(e, index) for index in op.inputs)
    bits = np.dtype(e.tensor(op.inputs[0]).dtype).itemsize * 8
    inside = e.op(
        "And",
        e.op("GreaterOrEqual", count, e.const(np.int64(0))),
        e.op("Less", count, e.const(np.int64(bits))),
    )
    powers = e.const(np.array([*(1 << place for place in range(bits)), 0], np.int64))
    place = e.op("Where", inside, count, e.const(np.int64(bits)))
    shifted = e.op("Mul", value, e.op("Gather", powers, place))
    e.put(
        op.outputs[0],
        e.op("Cast", shifted, to=ir.DataType.from_numpy(np.dtype(e.tensor(op.outputs[0]).dtype))),
    )


def pad(e: Emitter, op: Operator) -> None:
    """Between elements first, then at the edges; a negative edge cuts off."""
    low, high, interior = (
        numbers(op, f"{name}") for name in ("edge_padding_low", "edge_padding_high", "interior_padding")
    )
    rank = e.rank(op.inputs[0])
    if not len(low) == len(high) == len(interior) == rank or min(interior, default=0) < 0:
        raise NotExpressible("its padding is not that of its axes")
    _padded(e, op, op.inputs[1], low, high, interior)


def dilate(e: Emitter, op: Operator) -> None:
    """TFLite's own form of padding between elements."""
    dilations = e.numbers(op.inputs[1], "dilations")
    none = [0] * len(dilations)
    _padded(e, op, op.inputs[2], none, none, [dilation - 1 for dilation in dilations])


def _padded(
    e: Emitter, op: Operator, filling: int, low: Sequence[int], high: Sequence[int], interior: Sequence[int]
) -> None:
    x, out = op.inputs[0], op.outputs[0]
    value = spaced(e, moved(e, x, out), dims_of(e, x), interior, filler := _scalar(e, moved(e, filling, out)))
    if any(low) or any(high):
        value = padded(e, value, [*low, *high], filler)
    e.put(out, value)


def spaced(
    e: Emitter, value: ir.Value, dims: Sequence[int | str | None], interior: Sequence[int], filling: ir.Value
) -> ir.Value:
    """``filling`` between the elements of each axis: padded behind each element, and cut off behind the last."""
    for axis, count in enumerate(interior):
        size = dims[axis]
        if not count or size == 0 or size == 1:
            continue
        rank = len(dims)
        apart = e.op("Unsqueeze", value, e.ints(axis + 1))
        wider = padded(e, apart, [0] * (rank + 1 + axis + 1) + [count] + [0] * (rank - axis - 1), filling)
        sizes = value.shape
        if sizes is not None and all(isinstance(dim, int) for dim in sizes):
            known = [dim for dim in sizes if isinstance(dim, int)]
            merged = e.reshape(wider, [*known[:axis], known[axis] * (count + 1), *known[axis + 1 :]])
        else:
            told = e.op("Shape", value)
            before, behind = (
                e.op("Slice", told, e.ints(low), e.ints(high), e.ints(0))
                for low, high in ((0, axis), (axis + 1, rank))
            )
            merged = e.op("Reshape", wider, e.op("Concat", before, e.ints(-1), behind, axis=0))
        value = e.op("Slice", merged, e.ints(0), e.ints(-count), e.ints(axis))
    return value


def padded(e: Emitter, value: ir.Value, pads: Sequence[int], filling: ir.Value) -> ir.Value:
    return e.op("Pad", value, e.ints(*pads), filling)


def _scalar(e: Emitter, value: ir.Value) -> ir.Value:
    return (
        value
        if value.shape is not None and len(value.shape) == 0
        else e.op("Reshape", value, e.const(np.zeros(0, np.int64)))
    )


def composite(e: Emitter, op: Operator) -> None:
    """Its decomposition, which says what it computes, in its place (stablehlo_composite.cc does the same)."""
    number = op.integer("decomposition_subgraph_index", -1)
    if number < 0:
        raise NotExpressible("it has no decomposition")
    inlined(e, op, number)


def inlined(e: Emitter, op: Operator, number: int) -> None:
    """The operators of another subgraph, once, in place of one that calls it."""
    from mlconv.convert.tflite_import.importer import read_operators

    graph = e.shared.model.subgraphs[number]
    if (len(graph.inputs), len(graph.outputs)) != (len(op.inputs), len(op.outputs)):
        raise NotExpressible(f"subgraph {number} takes or gives another number of tensors")
    child = e.inside(graph)
    child.nodes = e.nodes
    for given, taken in zip(op.inputs, graph.inputs, strict=True):
        hand(e, given, child, taken)
    read_operators(child, graph.outputs)
    for made, index in zip(graph.outputs, op.outputs, strict=True):
        hand(child, made, e, index)


def hand(source: Emitter, index: int, target: Emitter, other: int) -> None:
    """A tensor of one subgraph as a tensor of another: constant, or in the forms that are there."""
    if index < 0 or index in source.handles:
        raise NotExpressible("an operand that it passes on is left out, or is a variable")
    own, wanted = source.codes(index), target.codes(other)
    if (own and (own.dtype, own.shift)) != (wanted and (wanted.dtype, wanted.shift)):
        raise NotExpressible("a tensor is quantized on one side of a subgraph's border alone")
    elements = source.elements(index)
    if source.constant(index) is not None and elements is not None:
        target.put_constant(other, elements)
        return
    if elements is not None:
        target.put_elements(other, elements)
    layouts = [layout for layout in (False, True) if source.has(index, channels_first=layout)]
    for layout in layouts or [False]:
        target.borrow(other, source.stored(index, channels_first=layout), channels_first=layout)


# ------------------------------------------------------------------ shared with its neighbours


def assert_numbers(e: Emitter, op: Operator) -> None:
    """Raises: NotExpressible: Quantized tensors."""
    if any(e.codes(index) is not None for index in (*op.inputs, *op.outputs)):
        raise NotExpressible("LiteRT computes it on the codes of quantized tensors as if they were numbers")


def numbers(op: Operator, name: str) -> list[int]:
    """A list among the options."""
    told = op.option(name, ())
    return [int(number) for number in told] if isinstance(told, tuple) else []
