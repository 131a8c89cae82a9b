"""Tensors put together or made larger: CONCATENATION, PACK, TILE, PAD, PADV2, MIRROR_PAD."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    FIRST,
    LAST,
    arranged,
    as_int64,
    dims_of,
    folded,
    known,
    moved,
    place,
    scalar,
    settled,
    through,
)
from mlconv.convert.tflite_import.ops.requantized import rescaled
from mlconv.formats.tflite_graph import Operator

_NO_PAD = frozenset({ir.DataType.INT16, ir.DataType.UINT16})  # onnxruntime 1.31


def concatenation(e: Emitter, op: Operator) -> None:
    """Codes are copied as they are, but for uint8 of several scales."""
    if op.activation != "NONE":  # XNNPACK leaves it out, and LiteRT's own kernel refuses it
        raise NotExpressible(f"LiteRT's kernels disagree about its fused {op.activation}")
    out, operands = op.outputs[0], [index for index in op.inputs if index >= 0]
    rank = max(e.rank(index) for index in operands)
    axis = place(op.integer("axis"), rank)
    differ = e.tensor(out).dtype == "uint8" and any(e.codes(index) != e.codes(out) for index in operands)
    if not differ and folded(
        e, op, operands, lambda *arrays: np.concatenate([np.atleast_1d(array) for array in arrays], axis)
    ):
        return
    channels_first = e.layout(*operands)
    axis = place(axis, rank, channels_first)
    if differ:
        values = [rescaled(e, index, out, channels_first=channels_first) for index in operands]
        e.put_real(out, e.op("Concat", *values, axis=axis), channels_first=channels_first)
        return
    values = [moved(e, index, out, channels_first=channels_first) for index in operands]
    value = values[0] if len(values) == 1 else e.op("Concat", *values, axis=axis)
    e.put(out, value, channels_first=channels_first)


def pack(e: Emitter, op: Operator) -> None:
    out, operands = op.outputs[0], list(op.inputs)
    rank = e.rank(operands[0])
    axis = place(op.integer("axis"), rank + 1)
    if folded(e, op, operands, lambda *arrays: np.stack(arrays, axis)):
        return
    channels_first = e.layout(*operands) and 0 < axis < rank
    at = place(axis, rank + 1, channels_first)
    values = [
        e.op("Unsqueeze", moved(e, index, out, channels_first=channels_first), e.ints(at))
        for index in operands
    ]
    e.put(
        out,
        values[0] if len(values) == 1 else e.op("Concat", *values, axis=at),
        channels_first=channels_first,
    )


def tile(e: Emitter, op: Operator) -> None:
    x, repeats, out = op.inputs[0], op.inputs[1], op.outputs[0]
    dims, told = dims_of(e, x), e.constant(repeats)
    if told is not None and folded(
        e, op, [x], lambda array: np.tile(array, told), float(np.prod(told, dtype=np.float64))
    ):
        return
    channels_first = e.layout(x)
    value = moved(e, x, out, channels_first=channels_first)
    if told is not None:
        counts = e.ints(*arranged([int(count) for count in told], channels_first))
    else:
        counts = as_int64(e, repeats)
        if channels_first:
            counts = e.op("Gather", counts, e.ints(*arranged(range(len(dims)), True)))
    e.put(out, settled(e.op("Tile", value, counts), [None] * len(dims)), channels_first=channels_first)


def pad(e: Emitter, op: Operator) -> None:
    """PAD and PADV2. Codes are padded with the zero point of the output, or with the given code."""
    x, out = op.inputs[0], op.outputs[0]
    channels_first, rank = e.layout(x), e.rank(x)
    value = moved(e, x, out, channels_first=channels_first)
    if len(op.inputs) > 2 and op.inputs[2] >= 0:
        filler = scalar(e, op.inputs[2], out)
    else:
        codes = e.codes(out)
        filler = e.const(
            np.array(codes.zero_point if codes else 0, value.dtype.numpy() if value.dtype else np.float32)
        )
    told = known(e, op.inputs[1])
    if told is not None:
        told = told.reshape(-1, 2)
        if not told.any():
            e.put(out, value, channels_first=channels_first)
            return
        pads = e.ints(*_pads(told, channels_first))
    else:
        pads = as_int64(e, op.inputs[1])
        if channels_first:
            pads = e.op("Gather", pads, e.ints(*arranged(range(rank), True)))
        pads = e.reshape(e.op("Transpose", pads, perm=[1, 0]), [-1])
    made = through(
        e,
        ir.DataType.INT32,
        _NO_PAD,
        lambda *operands: e.op("Pad", operands[0], pads, operands[1]),
        value,
        filler,
    )
    e.put(out, settled(made, [None] * rank), channels_first=channels_first)


def mirror_pad(e: Emitter, op: Operator) -> None:
    """ONNX reflects without the edge (REFLECT); with it (SYMMETRIC), the reversed ends are joined on, axis by axis."""
    x, out = op.inputs[0], op.outputs[0]
    channels_first, rank = e.layout(x), e.rank(x)
    pairs = np.array(e.numbers(op.inputs[1], "paddings"), np.int64).reshape(-1, 2)
    symmetric = bool(op.integer("mode"))
    sizes = np.array([dim if isinstance(dim, int) else 1 for dim in dims_of(e, x)], np.float64)
    growth = float(np.prod((sizes + pairs.sum(1)) / np.maximum(sizes, 1)))
    if folded(
        e, op, [x], lambda array: np.pad(array, pairs, "symmetric" if symmetric else "reflect"), growth
    ):
        return
    value = moved(e, x, out, channels_first=channels_first)
    if not pairs.any():
        pass
    elif symmetric:
        for axis, (before, after) in enumerate(pairs.tolist()):
            value = _mirrored(e, value, place(axis, rank, channels_first), before, after)
    else:
        pads = e.ints(*_pads(pairs, channels_first))
        value = through(
            e, ir.DataType.INT32, _NO_PAD, lambda operand: e.op("Pad", operand, pads, mode="reflect"), value
        )
    e.put(out, value, channels_first=channels_first)


def _mirrored(e: Emitter, value: ir.Value, axis: int, before: int, after: int) -> ir.Value:
    pieces = [value]
    if before:
        pieces.insert(0, e.op("Slice", value, e.ints(before - 1), e.ints(FIRST), e.ints(axis), e.ints(-1)))
    if after:
        pieces.append(e.op("Slice", value, e.ints(LAST), e.ints(-after - 1), e.ints(axis), e.ints(-1)))
    return e.op("Concat", *pieces, axis=axis) if len(pieces) > 1 else value


def _pads(pairs: np.ndarray, channels_first: bool) -> list[int]:
    """ONNX's order: all that comes before, then all that comes behind."""
    if pairs.dtype == object and not all(isinstance(number, (int, np.integer)) for number in pairs.flat):
        raise NotExpressible("its paddings are known only while the model runs")
    return [int(number) for column in pairs.T for number in arranged(list(column), channels_first)]
