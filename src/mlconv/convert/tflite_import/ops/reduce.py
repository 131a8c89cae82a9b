"""Reductions over constant axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.axes import Axes, is_picture
from mlconv.convert.tflite_import.ops.sums import (
    count_of,
    of_bytes,
    of_integers,
    of_words,
    product_of_integers,
)
from mlconv.formats.tflite_graph import Operator

_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)


def mean(e: Emitter, op: Operator) -> None:
    _mean_or_sum(e, op, "ReduceMean")


def sum_(e: Emitter, op: Operator) -> None:
    _mean_or_sum(e, op, "ReduceSum")


def reduce_prod(e: Emitter, op: Operator) -> None:
    if e.codes(op.inputs[0]) is not None:
        raise NotExpressible("it multiplies quantized numbers, rounding after each")
    axes = _axes(e, op)
    value = e.stored(op.inputs[0], channels_first=axes.channels_first)
    if value.dtype not in _INTEGERS:
        _reduce_stored(e, op, "ReduceProd")
        return
    e.put(op.outputs[0], product_of_integers(e, value, axes), channels_first=axes.result_channels_first)


def reduce_max(e: Emitter, op: Operator) -> None:
    _reduce_stored(e, op, "ReduceMax")


def reduce_min(e: Emitter, op: Operator) -> None:
    _reduce_stored(e, op, "ReduceMin")


def reduce_any(e: Emitter, op: Operator) -> None:
    _reduce_bool(e, op, "ReduceMax")


def reduce_all(e: Emitter, op: Operator) -> None:
    _reduce_bool(e, op, "ReduceMin")


def _axes(e: Emitter, op: Operator) -> Axes:
    return Axes(e, op.inputs[0], e.numbers(op.inputs[1], "axes"), keepdims=op.flag("keep_dims"))


def _reduce_stored(e: Emitter, op: Operator, kind: str) -> None:
    """Of numbers, or of codes whatever scales the two tensors have."""
    axes = _axes(e, op)
    value = e.stored(op.inputs[0], channels_first=axes.channels_first)
    made = axes.reduced(e, kind, value)
    e.put(op.outputs[0], made, channels_first=axes.result_channels_first)


def _reduce_bool(e: Emitter, op: Operator, kind: str) -> None:
    axes = _axes(e, op)
    value = e.op("Cast", e.stored(op.inputs[0], channels_first=axes.channels_first), to=ir.DataType.INT32)
    made = e.op("Cast", axes.reduced(e, kind, value), to=ir.DataType.BOOL)
    e.put(op.outputs[0], made, channels_first=axes.result_channels_first)


def _mean_or_sum(e: Emitter, op: Operator, kind: str) -> None:
    x, out, axes = op.inputs[0], op.outputs[0], _axes(e, op)
    codes, wanted = e.codes(x), e.codes(out)
    if not axes.placed and codes != wanted:
        raise NotExpressible("it reduces over no axis, into another scale")
    if not axes.placed:
        made = e.stored(x, channels_first=axes.channels_first)
    elif codes is None:
        made = _of_numbers(e, x, axes, kind)
    elif wanted is None or wanted.dtype != codes.dtype or wanted.shift != codes.shift:
        raise NotExpressible("it takes and gives different types")
    elif codes.dtype == "float32":
        made = of_words(e, x, codes, wanted, axes, kind)
    else:
        made = of_bytes(e, x, codes, wanted, axes, kind)
    e.put(out, made, channels_first=axes.result_channels_first)


def _of_numbers(e: Emitter, x: int, axes: Axes, kind: str) -> ir.Value:
    value = e.stored(x, channels_first=axes.channels_first)
    if value.dtype in _INTEGERS:
        total = of_integers(e, value, axes)
        if kind == "ReduceMean":  # divided towards zero, by LiteRT and in ONNX
            total = e.op("Div", total, e.const(np.int64(count_of(e, x, axes))))
        return total if value.dtype == ir.DataType.INT64 else e.op("Cast", total, to=ir.DataType.INT32)
    value = e.real(x, channels_first=axes.channels_first)
    if kind == "ReduceMean" and is_picture(e, x, axes):
        return axes.pooled(e, value)
    return axes.reduced(e, kind, value)
