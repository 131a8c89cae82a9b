"""Elements by index: GATHER, GATHER_ND, EMBEDDING_LOOKUP, WHERE, ONE_HOT, UNIQUE, CUMSUM, MATRIX_DIAG, MATRIX_SET_DIAG."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    FOLDED_BYTES,
    as_int64,
    dims_of,
    flat,
    folded,
    moved,
    place,
    scalar,
    settled,
    through,
)
from mlconv.formats.tflite_graph import Operator

_NO_WHERE = frozenset({ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.BOOL})
_NO_NONZERO = frozenset(
    {ir.DataType.INT8, ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.DOUBLE}
)
_NO_UNIQUE = frozenset({ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.INT32, ir.DataType.BOOL})
"""Types that onnxruntime's kernels lack."""
MOST_PLACES = 1 << 24
"""Bytes of a mask that a diagonal may need."""


def gather(e: Emitter, op: Operator) -> None:
    """ONNX's Gather, and GatherND where leading axes of data and indices run along together."""
    x, indices, out = op.inputs[0], op.inputs[1], op.outputs[0]
    rank, many = len(dims_of(e, x)), len(dims_of(e, indices))
    axis = place(op.integer("axis"), rank)
    batch = op.integer("batch_dims")
    batch += many if batch < 0 else 0
    told = e.constant(indices)
    size = dims_of(e, x)[axis]
    growth = told.size / size if told is not None and isinstance(size, int) and size else 1.0
    if (
        told is not None
        and not batch
        and folded(e, op, [x], lambda array: np.take(array, told, axis), growth)
    ):
        return
    if not 0 <= batch <= min(axis, many):
        raise NotExpressible(f"batch_dims {op.integer('batch_dims')} with axis {op.integer('axis')}")
    if batch:
        _gather_batched(e, op, axis, batch)
        return
    inside = 0 < axis < rank - 1
    channels_first = e.layout(x) and (many == 1 or (many == 0 and inside))
    value, picked = moved(e, x, out, channels_first=channels_first), _indices(e, indices)
    e.put(
        out,
        e.op("Gather", value, picked, axis=place(axis, rank, channels_first)),
        channels_first=channels_first,
    )


def _gather_batched(e: Emitter, op: Operator, axis: int, batch: int) -> None:
    """The gathered axis is brought behind the batch for GatherND, and the axes before it back behind the indices."""
    x, indices, out = op.inputs[0], op.inputs[1], op.outputs[0]
    rank, many = e.rank(x), e.rank(indices)
    value = moved(e, x, out)
    if axis != batch:
        value = e.op(
            "Transpose", value, perm=[*range(batch), axis, *range(batch, axis), *range(axis + 1, rank)]
        )
    picked = e.op("Unsqueeze", as_int64(e, indices), e.ints(many))
    made = e.op("GatherND", value, picked, batch_dims=batch)
    if axis != batch:
        between = axis - batch
        perm = [
            *range(batch),
            *range(many, many + between),
            *range(batch, many),
            *range(many + between, many + rank - batch - 1),
        ]
        made = e.op("Transpose", made, perm=perm)
    e.put(out, made)


def gather_nd(e: Emitter, op: Operator) -> None:
    """Where whole indices are given, those are turned rather than the data."""
    x, indices, out = op.inputs[0], op.inputs[1], op.outputs[0]
    rank, depth = len(dims_of(e, x)), dims_of(e, indices)[-1]
    picked, channels_first = as_int64(e, indices), e.layout(x) and depth == rank
    if depth == 0:
        raise NotExpressible("its indices are empty")
    if channels_first:
        picked = e.op("Gather", picked, e.ints(0, rank - 1, *range(1, rank - 1)), axis=-1)
    e.put(out, e.op("GatherND", moved(e, x, out, channels_first=channels_first), picked))


def embedding_lookup(e: Emitter, op: Operator) -> None:
    """Rows of a table; a quantized one gives real numbers where the output is float (the hybrid kernel, no zero point)."""
    indices, table, out = op.inputs[0], op.inputs[1], op.outputs[0]
    if e.tensor(out).dtype != "float32" or e.tensor(table).dtype in ("float32", "float16"):
        e.put(out, e.op("Gather", moved(e, table, out), _indices(e, indices), axis=0))
        return
    codes, affine = e.constant(table), e.tensor(table).quantization
    if codes is None or affine is None or affine.block_size is not None:
        raise NotExpressible(
            "its table is quantized by blocks" if codes is not None else "its quantized table is computed"
        )
    if any(affine.zero_point) or (len(affine.scale) > 1 and affine.axis != 0):
        raise NotExpressible("its table has zero points, or scales along another axis than rows")
    picked, scale = _indices(e, indices), np.array(affine.scale, np.float32)
    rows = e.op(
        "Gather", e.const(codes.view(np.int8), e.tensor(table).name), picked, axis=0
    )  # uint8 too is read as int8 there
    if len(scale) == 1:
        e.put(out, e.op("DequantizeLinear", rows, e.const(scale.reshape(()))))
        return
    each = e.op("Gather", e.const(scale.reshape(-1, *[1] * (codes.ndim - 1))), picked, axis=0)
    e.put(out, e.op("Mul", e.op("Cast", rows, to=ir.DataType.FLOAT), each))


def where(e: Emitter, op: Operator) -> None:
    """The indices of what is not zero, one row each."""
    x, out = op.inputs[0], op.outputs[0]
    if not e.rank(x):
        raise NotExpressible("its operand is a scalar")
    value, codes = e.stored(x), e.codes(x)
    if codes is not None and codes.shift:
        value = e.op("Not", e.op("Equal", value, e.const(np.array(codes.shift, codes.dtype))))
    elif value.dtype in _NO_NONZERO:
        value = e.op("Cast", value, to=ir.DataType.BOOL)
    e.put(out, e.op("Transpose", settled(e.op("NonZero", value), [e.rank(x), None]), perm=[1, 0]))


def one_hot(e: Emitter, op: Operator) -> None:
    """By comparison: ONNX's OneHot counts negative indices from the end, TFLite's gives them no place."""
    indices, depth, on, off = op.inputs
    out, rank = op.outputs[0], e.rank(indices)
    axis = rank if op.integer("axis") == -1 else place(op.integer("axis"), rank + 1)
    told = e.constant(depth)
    if told is not None and int(told.reshape(-1)[0]) <= FOLDED_BYTES:
        steps = e.ints(*range(int(told.reshape(-1)[0])))
    else:
        steps = e.op("Range", e.const(np.int64(0)), flat(e, as_int64(e, depth), ()), e.const(np.int64(1)))
    steps = flat(e, steps, [-1, *[1] * (rank - axis)])
    hit = e.op("Equal", e.op("Unsqueeze", as_int64(e, indices), e.ints(axis)), steps)
    operands = [scalar(e, index, out) for index in (on, off)]
    e.put(
        out, through(e, ir.DataType.INT32, _NO_WHERE, lambda yes, no: e.op("Where", hit, yes, no), *operands)
    )


def unique(e: Emitter, op: Operator) -> None:
    """In the order of first appearance; and where each element went."""
    x = op.inputs[0]
    own = moved(e, x, op.outputs[0])
    wide = e.op("Cast", own, to=ir.DataType.INT64) if own.dtype in _NO_UNIQUE else own
    values, _, inverse, _ = e.ops("Unique", wide, outputs=4, sorted=0)
    e.put(op.outputs[0], values if wide is own else e.op("Cast", values, to=own.dtype))
    narrow = e.tensor(op.outputs[1]).dtype == "int32"
    e.put(op.outputs[1], e.op("Cast", inverse, to=ir.DataType.INT32) if narrow else inverse)


def cumsum(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    (axis,) = e.numbers(op.inputs[1], "axis")
    rank, channels_first = len(dims_of(e, x)), e.layout(x)
    if e.codes(x) is not None:
        raise NotExpressible("it adds up codes")
    value = e.op("CumSum", moved(e, x, out, channels_first=channels_first), e.const(np.int64(place(axis, rank, channels_first))),
                 exclusive=op.integer("exclusive"), reverse=op.integer("reverse"))  # fmt: skip
    e.put(out, value, channels_first=channels_first)


def matrix_diag(e: Emitter, op: Operator) -> None:
    """The last axis becomes a diagonal among the number zero (in codes too)."""
    x, out = op.inputs[0], op.outputs[0]
    size, codes = dims_of(e, x)[-1], e.codes(out)
    value = moved(e, x, out)
    assert value.dtype is not None
    zero = e.const(np.array(codes.shift if codes else 0, value.dtype.numpy()))
    _on_diagonal(e, out, size, size, e.op("Unsqueeze", value, e.ints(e.rank(x))), zero)


def matrix_set_diag(e: Emitter, op: Operator) -> None:
    x, diagonal, out = op.inputs[0], op.inputs[1], op.outputs[0]
    rows, columns = dims_of(e, x)[-2:]
    value, given = moved(e, x, out), moved(e, diagonal, out)
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise NotExpressible("the size of its matrices is known only while the model runs")
    axis = e.rank(x) - (1 if rows <= columns else 2)
    _on_diagonal(e, out, rows, columns, e.op("Unsqueeze", given, e.ints(axis)), value)


def _on_diagonal(
    e: Emitter, out: int, rows: int | str | None, columns: int | str | None, given: ir.Value, other: ir.Value
) -> None:
    if not isinstance(rows, int) or not isinstance(columns, int):
        raise NotExpressible("the size of its matrices is known only while the model runs")
    if rows * columns > MOST_PLACES:
        raise NotExpressible("its matrices are so large that a mask of their diagonal does not fit")
    mask = e.const(np.eye(rows, columns, dtype=np.bool_))
    e.put(
        out,
        through(e, ir.DataType.INT32, _NO_WHERE, lambda yes, no: e.op("Where", mask, yes, no), given, other),
    )


def _indices(e: Emitter, index: int) -> ir.Value:
    """As ONNX's Gather takes them: int32 or int64."""
    value = e.stored(index)
    return value if value.dtype in (ir.DataType.INT32, ir.DataType.INT64) else as_int64(e, index)
