"""int16 activations: exact sums, and the rounding of TFLite's own kernels (XNNPACK has none of this type).

onnxruntime multiplies no 16-bit integers. Convolutions are made of two on bytes, ``256 * high + low``; products are of
float64, which holds their sums exactly (tensorflow/lite/kernels/internal/reference/integer_ops).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.rescale import fifteen_bits, once, rescaled, twice_away, twice_up
from mlconv.convert.tflite_import.ops.weights import Weights, along, eight_bit, initializer
from mlconv.formats.tflite_graph import Operator


def convolve(
    e: Emitter,
    op: Operator,
    x: int,
    weights: Weights,
    attributes: dict[str, Any],
    bias_at: int,
    repeats: int = 1,
) -> ir.Value:
    """What the output of a convolution of int16 by int8 holds, channels first."""
    kernel, zeros = _unsigned(e, weights)
    numbers = _centred(e, x, channels_first=True)
    high = e.op("Floor", e.op("Mul", numbers, e.const(np.float32(1 / 256))))
    low = e.op("Sub", numbers, e.op("Mul", high, e.const(np.float32(256))))
    halves = [(e.op("Add", high, e.const(np.float32(128))), 128), (low, 0)]
    parts = [e.op("Cast", e.op("ConvInteger", e.op("Cast", half, to=ir.DataType.UINT8), kernel, e.const(np.uint8(zero)), zeros, **attributes),
                 to=ir.DataType.DOUBLE) for half, zero in halves]  # fmt: skip
    whole = e.op("Add", e.op("Mul", parts[0], e.const(np.float64(256))), parts[1])
    rank = weights.array.ndim
    bias = _bias(e, op, bias_at)
    sums = _added(e, whole, None if bias is None else np.tile(bias, repeats), 1, rank)
    rounding = fifteen_bits
    if bias is not None and bias.dtype == np.int32:
        rounding = twice_away
        if op.integer("quantized_bias_type") != _INT32:
            raise NotExpressible("its bias is int32, and it does not say so: LiteRT reads it as int64")
    assert weights.scales is not None
    return rescaled(e, op, sums, _scale(e, x), weights.scales, rounding, 1, rank)


def _unsigned(e: Emitter, weights: Weights) -> tuple[ir.Value, ir.Value]:
    """Codes and zero points as uint8: onnxruntime's ConvInteger takes int8 weights only since 1.21."""
    codes, zero_points = eight_bit(e, weights, safe=True)
    if weights.is_narrow:  # from 0 on
        kernel = e.op("Cast", initializer(e, weights, codes), to=ir.DataType.UINT8)
    else:
        codes, zero_points = codes.astype(np.int16) + 128, zero_points.astype(np.int16) + 128
        kernel = initializer(e, weights, codes.astype(np.uint8))
    zeros = zero_points.astype(np.uint8)
    return kernel, e.const(zeros[0] if not np.ptp(zeros) else zeros)


_INT32 = 2  # TensorType of the schema


def multiply(e: Emitter, op: Operator, rows: ir.Value, weights: Weights) -> ir.Value:
    """What (rows, K) in int16 by weights (K, O) in int8 hold."""
    kernel = e.op("Cast", initializer(e, weights, weights.array), to=ir.DataType.DOUBLE)
    if weights.zero_points.any():
        kernel = e.op("Sub", kernel, e.const(along(weights.zero_points.astype(np.float64), 1, 2)))
    sums = e.op("MatMul", e.op("Cast", _off_zero(e, op.inputs[0], rows), to=ir.DataType.DOUBLE), kernel)
    bias = _bias(e, op, 2)
    assert weights.scales is not None
    rounding = once if bias is not None and bias.dtype == np.int64 else twice_up
    return rescaled(
        e, op, _added(e, sums, bias, 1, 2), _scale(e, op.inputs[0]), weights.scales, rounding, 1, 2
    )


def batch_multiply(e: Emitter, left: ir.Value, right: ir.Value, op: Operator) -> ir.Value:
    """What two operands in int16 hold, multiplied; ``left`` and ``right`` are turned already."""
    sides = [
        e.op("Cast", _off_zero(e, index, value), to=ir.DataType.DOUBLE)
        for index, value in zip(op.inputs[:2], (left, right), strict=True)
    ]
    codes = e.codes(op.inputs[1])
    if codes is None or codes.dtype != "float32":
        raise NotExpressible("only one of its operands is int16")
    return rescaled(
        e, op, e.op("MatMul", *sides), _scale(e, op.inputs[0]), np.array([codes.scale]), fifteen_bits
    )


def _centred(e: Emitter, index: int, *, channels_first: bool) -> ir.Value:
    return _off_zero(e, index, e.stored(index, channels_first=channels_first))


def _off_zero(e: Emitter, index: int, value: ir.Value) -> ir.Value:
    codes = e.codes(index)
    if codes is not None and codes.zero_point:
        raise NotExpressible("its zero point is not 0, as it is of every int16 tensor")
    return value


def _bias(e: Emitter, op: Operator, at: int) -> np.ndarray | None:
    if len(op.inputs) <= at or op.inputs[at] < 0:
        return None
    bias = e.constant(op.inputs[at])
    if bias is None:
        raise NotExpressible("its bias is computed while the model runs")
    return bias


def _added(e: Emitter, sums: ir.Value, bias: np.ndarray | None, axis: int, rank: int) -> ir.Value:
    if bias is None or not bias.any():
        return sums
    return e.op("Add", sums, e.const(along(bias.astype(np.float64), axis, rank)))


def _scale(e: Emitter, x: int) -> float:
    codes = e.codes(x)
    assert codes is not None
    return codes.scale
