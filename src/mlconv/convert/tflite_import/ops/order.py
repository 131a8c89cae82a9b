"""What compares elements with each other: greatest and least, sorting, buckets, suppression of boxes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.axes import Axes
from mlconv.formats.tflite_graph import Operator

_DTYPES = {"int16": ir.DataType.INT16, "int32": ir.DataType.INT32, "int64": ir.DataType.INT64}


def arg_max(e: Emitter, op: Operator) -> None:
    _arg(e, op, "ArgMax")


def arg_min(e: Emitter, op: Operator) -> None:
    _arg(e, op, "ArgMin")


def _arg(e: Emitter, op: Operator, kind: str) -> None:
    """On codes; of equal elements the first, in LiteRT and in ONNX.

    As float32: onnxruntime 1.31 takes up to three times as long on bytes, depending on them.
    """
    axes = Axes(e, op.inputs[0], e.numbers(op.inputs[1], "axis"), keepdims=False)
    if len(axes.placed) != 1:
        raise NotExpressible("it has no axis")
    value = _comparable(e, e.stored(op.inputs[0], channels_first=axes.channels_first))
    made = e.op(kind, value, axis=axes.placed[0], keepdims=0)
    _put_index(e, op.outputs[0], made, channels_first=axes.result_channels_first)


def _comparable(e: Emitter, value: ir.Value) -> ir.Value:
    """As float32 or int32, which hold every code; int64 has no ArgMax in onnxruntime."""
    if value.dtype in (ir.DataType.FLOAT, ir.DataType.INT32, ir.DataType.DOUBLE):
        return value
    node = value.producer()
    resized = None if node is None or node.op_type != "QuantizeLinear" else node.inputs[0]
    made_by = None if resized is None else resized.producer()
    if resized is not None and made_by is not None and made_by.op_type == "Resize":
        return e.op(
            "Round", resized
        )  # whole bytes already: a third quicker than to bytes and back, on a segmented picture
    if value.dtype in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.FLOAT16):
        return e.op("Cast", value, to=ir.DataType.FLOAT)
    if value.dtype in (ir.DataType.BOOL, ir.DataType.INT16):
        return e.op("Cast", value, to=ir.DataType.INT32)
    raise NotExpressible("its numbers are of a type that onnxruntime does not compare")


def _put_index(e: Emitter, index: int, value: ir.Value, *, channels_first: bool = False) -> None:
    """int64, as the tensor's own type."""
    wanted = _DTYPES.get(e.tensor(index).dtype)
    if wanted is None:
        raise NotExpressible(f"its indices are of type {e.tensor(index).dtype}")
    e.put(
        index,
        value if wanted == ir.DataType.INT64 else e.op("Cast", value, to=wanted),
        channels_first=channels_first,
    )


def topk_v2(e: Emitter, op: Operator) -> None:
    """Along the last axis, greatest first; of equal elements the one of the lower index, in LiteRT and in onnxruntime."""
    x, (values, indices) = op.inputs[0], op.outputs
    stored = e.stored(x)  # LiteRT moves codes, whatever the scales are
    small = stored.dtype in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT16)
    count = e.constant(op.inputs[1])
    if count is not None:
        k = e.ints(int(np.asarray(count).reshape(-1)[0]))
    else:
        k = e.op("Reshape", e.op("Cast", e.stored(op.inputs[1]), to=ir.DataType.INT64), e.ints(1))
    operand = e.op("Cast", stored, to=ir.DataType.INT32) if small else stored
    top, places = e.ops("TopK", operand, k, outputs=2, axis=-1, largest=1, sorted=1)
    e.put(values, e.op("Cast", top, to=stored.dtype) if small else top)
    _put_index(e, indices, places)


def bucketize(e: Emitter, op: Operator) -> None:
    """How many boundaries are not above each element."""
    boundaries = op.option("boundaries", ())
    if not isinstance(boundaries, tuple):
        raise NotExpressible("its boundaries are no numbers")
    x = op.inputs[0]
    value, wide = e.stored(x), e.tensor(x).dtype == "float64"
    if value.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE):
        value = e.op("Cast", value, to=ir.DataType.FLOAT)
    limits = np.asarray(boundaries, np.float32).astype(np.float64 if wide else np.float32)
    rank = e.rank(x)
    reached = e.op("GreaterOrEqual", e.op("Unsqueeze", value, e.ints(rank)), e.const(limits))
    counted = e.reduce("ReduceSum", e.op("Cast", reached, to=ir.DataType.INT32), [rank], keepdims=False)
    e.put(op.outputs[0], counted)


def non_max_suppression_v4(e: Emitter, op: Operator) -> None:
    chosen, count = _suppressed(e, op)
    e.put(op.outputs[0], e.op("Cast", chosen, to=ir.DataType.INT32))
    e.put(op.outputs[1], e.op("Cast", count, to=ir.DataType.INT32))


def non_max_suppression_v5(e: Emitter, op: Operator) -> None:
    """The same with the scores; soft suppression, which lowers scores, has no ONNX form."""
    sigma = e.constant(op.inputs[5])
    if sigma is None or float(np.asarray(sigma).reshape(-1)[0]) != 0:
        raise NotExpressible("its soft_nms_sigma is not 0")
    chosen, count = _suppressed(e, op)
    e.put(op.outputs[0], e.op("Cast", chosen, to=ir.DataType.INT32))
    scores = e.op("Gather", e.real(op.inputs[1]), chosen)
    within = e.op("Less", _counting(e, chosen), count)
    e.put(op.outputs[1], e.op("Where", within, scores, e.const(np.float32(0))))
    e.put(op.outputs[2], e.op("Cast", count, to=ir.DataType.INT32))


def _counting(e: Emitter, value: ir.Value) -> ir.Value:
    """0, 1, 2, ... as many as ``value`` has elements."""
    size = e.op("Squeeze", e.op("Shape", value), e.ints(0))
    return e.op("Range", e.const(np.array(0, np.int64)), size, e.const(np.array(1, np.int64)))


def _suppressed(e: Emitter, op: Operator) -> tuple[ir.Value, ir.Value]:
    """Chosen boxes, zeros behind them up to the greatest number of them, and how many they are (a scalar).

    LiteRT suppresses from the threshold on, ONNX above it (tensorflow/lite/kernels/internal/reference/non_max_suppression.h).
    LiteRT chooses a box without area again and again, since it does not overlap itself; that is not imitated, nor the order
    in which its heap holds boxes of equal scores.
    """
    boxes, scores, most, overlap, floor = op.inputs[:5]
    constant = e.constant(overlap)
    if constant is None or not 0 < float(np.asarray(constant).reshape(-1)[0]) <= 1:
        raise NotExpressible(
            "its overlap threshold is computed while the model runs, or not above 0 and up to 1"
        )
    if e.codes(boxes) is not None or e.codes(scores) is not None:
        raise NotExpressible("it compares quantized boxes")
    threshold = np.nextafter(np.asarray(constant, np.float32).reshape(1), np.float32(-1))
    number = e.op("Reshape", e.op("Cast", e.stored(most), to=ir.DataType.INT64), e.ints(1))
    found = e.op("NonMaxSuppression", e.op("Unsqueeze", e.real(boxes), e.ints(0)), e.op("Unsqueeze", e.real(scores), e.ints(0, 1)),
                 number, e.const(threshold), e.op("Reshape", e.real(floor), e.ints(1)))  # fmt: skip
    chosen = e.op("Reshape", e.op("Slice", found, e.ints(2), e.ints(3), e.ints(1)), e.ints(-1))
    count = e.op("Shape", chosen)
    padded = e.op(
        "Pad",
        chosen,
        e.op("Concat", e.ints(0), e.op("Sub", number, count), axis=0),
        e.const(np.array(0, np.int64)),
    )
    return padded, e.op("Squeeze", count, e.ints(0))
