"""Tensors made from sizes: SHAPE, RANK, FILL, ZEROS_LIKE, RANGE, BROADCAST_TO, BROADCAST_ARGS; and BITCAST."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.moves import (
    arranged,
    as_int64,
    dims_of,
    flat,
    folded,
    known,
    moved,
    scalar,
    settled,
    shape_of,
)
from mlconv.formats.tflite_graph import Operator

MADE_BYTES = 1 << 16
"""Constants that come from sizes alone are written out up to here; larger ones are made while the model runs."""


def shape(e: Emitter, op: Operator) -> None:
    x, out = op.inputs[0], op.outputs[0]
    dims = dims_of(e, x)
    if all(isinstance(dim, int) for dim in dims):
        e.put_constant(out, np.array(dims, e.tensor(out).dtype).reshape(-1))
        return
    e.put_elements(out, np.array(dims, object))
    sizes = shape_of(e, x)
    e.put(out, sizes if e.tensor(out).dtype == "int64" else e.op("Cast", sizes, to=ir.DataType.INT32))


def rank(e: Emitter, op: Operator) -> None:
    e.put_constant(op.outputs[0], np.array(e.rank(op.inputs[0]), np.int32))


def fill(e: Emitter, op: Operator) -> None:
    sizes, value, out = op.inputs[0], op.inputs[1], op.outputs[0]
    number, told = e.constant(value), e.constant(sizes)
    if number is not None and told is not None and int(np.prod(told)) * number.itemsize <= MADE_BYTES:
        e.put_constant(out, np.full(told, number.reshape(())))
        return
    e.put(out, _expanded(e, scalar(e, value, out), sizes))


def zeros_like(e: Emitter, op: Operator) -> None:
    """The number zero, in codes too (tensorflow/lite/kernels/zeros_like.cc clears memory)."""
    x, out = op.inputs[0], op.outputs[0]
    dims, codes, own = dims_of(e, x), e.codes(out), np.dtype(e.tensor(out).dtype)
    sizes = [dim for dim in dims if isinstance(dim, int)]
    if len(sizes) == len(dims) and math.prod(sizes) * own.itemsize <= MADE_BYTES:
        e.put_constant(out, np.zeros(sizes, own))
        return
    zero = np.array(codes.shift if codes else 0, codes.dtype if codes else own)
    channels_first = e.layout(x)
    e.put(
        out,
        e.op("Expand", e.const(zero), e.shape_of(e.stored(x, channels_first=channels_first))),
        channels_first=channels_first,
    )


def range_(e: Emitter, op: Operator) -> None:
    """Floats are added up step by step, as LiteRT does, where the operands are constants; ONNX multiplies."""
    dtype = np.dtype(e.tensor(op.inputs[0]).dtype)
    constants = [e.constant(index) for index in op.inputs]
    if all(constant is not None for constant in constants):
        start, limit, delta = (np.asarray(constant).reshape(()).item() for constant in constants)
        if delta == 0 or (limit - start) * delta < 0:
            raise NotExpressible(f"it goes from {start} to {limit} by {delta}")
        count = (
            -(-(limit - start) // delta)
            if dtype.kind == "i"
            else math.ceil(np.float32(limit - start) / np.float32(delta))
        )
        if count * dtype.itemsize <= MADE_BYTES:
            steps = np.full(count, delta, dtype)
            steps[:1] = start
            e.put_constant(op.outputs[0], np.cumsum(steps, dtype=dtype))
            return
    if dtype not in (np.int32, np.int64, np.float32):
        raise NotExpressible(f"its elements are {dtype}")
    e.put(op.outputs[0], e.op("Range", *(flat(e, e.stored(index), ()) for index in op.inputs)))


def broadcast_to(e: Emitter, op: Operator) -> None:
    x, sizes, out = op.inputs[0], op.inputs[1], op.outputs[0]
    told = e.constant(sizes)
    if told is not None and folded(e, op, [x], lambda array: np.broadcast_to(array, told)):
        return
    length = dims_of(e, sizes)[0]
    channels_first = e.layout(x) and length == e.rank(x)
    e.put(
        out,
        _expanded(e, moved(e, x, out, channels_first=channels_first), sizes, channels_first),
        channels_first=channels_first,
    )


def broadcast_args(e: Emitter, op: Operator) -> None:
    """The common shape of two shapes."""

    def common(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.array(np.broadcast_shapes(tuple(a), tuple(b)), a.dtype)

    out = op.outputs[0]
    lengths = [dims_of(e, index)[0] for index in op.inputs]
    whole = [
        array is not None and array.dtype != object for array in (e.elements(index) for index in op.inputs)
    ]
    if all(whole) and folded(e, op, op.inputs, common):
        return
    longest = max(length if isinstance(length, int) else -1 for length in lengths)
    if -1 in lengths or not all(isinstance(length, int) for length in lengths):
        raise NotExpressible("the number of axes is known only while the model runs")
    first, second = (
        e.op("Concat", e.ints(*[1] * (longest - int(length or 0))), as_int64(e, index), axis=0)
        for index, length in zip(op.inputs, lengths, strict=True)
    )
    merged = e.op("Where", e.op("Equal", first, e.ints(1)), second, first)
    e.put(out, merged if e.tensor(out).dtype == "int64" else e.op("Cast", merged, to=ir.DataType.INT32))


def bitcast(e: Emitter, op: Operator) -> None:
    """Between integers of one width; ONNX sees no bits of a float before opset 26."""
    x, out = op.inputs[0], op.outputs[0]
    own, wanted = np.dtype(e.tensor(x).dtype), np.dtype(e.tensor(out).dtype)
    if folded(e, op, [x], lambda array: _viewed(array, wanted)):
        return
    if (
        own.itemsize != wanted.itemsize
        or own.kind not in "iu"
        or wanted.kind not in "iu"
        or e.codes(x)
        or e.codes(out)
    ):
        raise NotExpressible(f"it takes {own} for {wanted}")
    channels_first = e.layout(x)
    value = e.op("Cast", e.stored(x, channels_first=channels_first), to=ir.DataType.from_numpy(wanted))
    e.put(out, value, channels_first=channels_first)


def _viewed(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The bytes as another type, by the shapes of tensorflow/lite/kernels/bitcast.cc."""
    if array.itemsize > dtype.itemsize:
        return np.ascontiguousarray(array)[..., None].view(dtype)
    viewed = np.ascontiguousarray(array).view(dtype)
    return viewed.reshape(array.shape[:-1]) if array.itemsize < dtype.itemsize else viewed


def _expanded(e: Emitter, value: ir.Value, sizes: int, channels_first: bool = False) -> ir.Value:
    """``value`` laid out over the sizes that a tensor holds."""
    elements = known(e, sizes)
    told = e.constant(sizes)
    if told is not None:
        return e.op("Expand", value, e.ints(*arranged([int(size) for size in told], channels_first)))
    wanted = as_int64(e, sizes)
    if channels_first and elements is not None:
        wanted = e.op("Gather", wanted, e.ints(*arranged(range(len(elements)), True)))
    expanded = e.op("Expand", value, wanted)
    return expanded if elements is None else settled(expanded, arranged(list(elements), channels_first))
