"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.spatial import padding, strides_of
from mlconv.formats.tflite_graph import Operator


def average_pool_2d(e: Emitter, op: Operator) -> None:
    """The mean of the window's elements inside the picture.

    On integers LiteRT's default is its built-in kernel: it takes the mean of the codes, whatever scales the two tensors
    have, and rounds halves away from code 0 (tensorflow/lite/kernels/internal/reference/integer_ops/pooling.h).
    """
    x, out = op.inputs[0], op.outputs[0]
    codes = e.codes(x)
    if codes is None:
        e.put_real(
            out,
            _average(e, op, e.real(x, channels_first=True)),
            channels_first=True,
            activation=op.activation,
        )
        return
    wanted = _codes_of_output(e, op, codes)
    stored = e.stored(x, channels_first=True)
    if codes.dtype == "float32":
        made = _average_of_words(e, op, stored)
    else:
        made = _average_of_bytes(e, op, stored, codes.shift)
    e.put(out, e.clamped_codes(made, wanted, op.activation), channels_first=True)


def max_pool_2d(e: Emitter, op: Operator) -> None:
    """The greatest element of each window; on codes, whatever scales the two tensors have."""
    x, out = op.inputs[0], op.outputs[0]
    codes = e.codes(x)
    attributes = _window(e, op)
    made = e.op("MaxPool", e.stored(x, channels_first=True), **attributes)
    if codes is None:
        e.put_real(out, made, channels_first=True, activation=op.activation)
        return
    e.put(out, e.clamped_codes(made, _codes_of_output(e, op, codes), op.activation), channels_first=True)


def l2_pool_2d(e: Emitter, op: Operator) -> None:
    """The root of the mean square; LiteRT has it on float numbers alone."""
    x, out = op.inputs[0], op.outputs[0]
    if e.codes(x) is not None:
        raise NotExpressible("it is applied to integers")
    real = e.real(x, channels_first=True)
    made = e.op("Sqrt", _average(e, op, e.op("Mul", real, real)))
    e.put_real(out, made, channels_first=True, activation=op.activation)


def _codes_of_output(e: Emitter, op: Operator, codes: Codes) -> Codes:
    wanted = e.codes(op.outputs[0])
    if wanted is None or wanted.dtype != codes.dtype or wanted.shift != codes.shift:
        raise NotExpressible("it takes and gives different types")
    return wanted


def _kernel(op: Operator) -> tuple[int, int]:
    return op.integer("filter_height", 1), op.integer("filter_width", 1)


def _window(e: Emitter, op: Operator) -> dict[str, Any]:
    sizes = (e.dims(op.inputs[0]) or (None,) * 4)[1:3]
    kernel, strides = _kernel(op), strides_of(op)
    if min(kernel) < 1 or min(strides) < 1:
        raise NotExpressible(
            f"its window is {kernel[0]} by {kernel[1]}, its steps {strides[0]} and {strides[1]}"
        )
    return {"kernel_shape": list(kernel), "strides": list(strides), **padding(op, sizes, kernel, strides)}


def _average(e: Emitter, op: Operator, value: ir.Value) -> ir.Value:
    """``value`` is channels first. A window as large as the picture is a GlobalAveragePool: onnxruntime is quicker on it."""
    if _is_global(e, op):
        return e.op("GlobalAveragePool", value)
    return e.op("AveragePool", value, **_window(e, op), count_include_pad=0)


def _is_global(e: Emitter, op: Operator) -> bool:
    return op.padding == "VALID" and (e.dims(op.inputs[0]) or ())[1:3] == _kernel(op)


def _average_of_bytes(e: Emitter, op: Operator, value: ir.Value, zero_point: int) -> ir.Value:
    """By a scale that much below 1 that QuantizeLinear moves halves away from zero, and nothing else.

    A mean of n bytes is at least ``1 / (2 n)`` from a half that it does not hit, and at most 255 from zero: up to 4,096
    elements there is room between that and what float32 loses (2**-23 of the mean). onnxruntime's fused QLinearAveragePool
    adds the zero point before it rounds, and loses another 2**-17 where that is 128: larger windows are left unfused then.
    """
    zero, one = e.const(np.array(zero_point, np.uint8)), e.const(np.float32(1))
    average = _average(e, op, e.op("DequantizeLinear", value, one, zero))
    count = math.prod(_kernel(op))
    bits = min(max(math.ceil(math.log2(1024 * count)), 12), 21)
    unfused = zero_point > 0 and not _is_global(e, op)
    if count % 2 and op.padding == "VALID":  # no halves
        return e.op("QuantizeLinear", average, one, zero)
    if unfused and count <= 100:
        bits, unfused = min(bits, 15), False
    if unfused:
        return e.op("QuantizeLinear", e.op("Mul", average, e.const(np.float32(1 + 2.0**-bits))), one, zero)
    return e.op("QuantizeLinear", average, e.const(np.float32(1 - 2.0**-bits)), zero)


def _average_of_words(e: Emitter, op: Operator, value: ir.Value) -> ir.Value:
    """Of int16 codes in float32: an exact sum, and ``(|sum| + count // 2) / count`` with its sign.

    Raises:
        NotExpressible: The sum can exceed the 24 bits of float32.
    """
    channels = (e.dims(op.inputs[0]) or (None,))[-1]
    kernel = _kernel(op)
    if not isinstance(channels, int) or math.prod(kernel) > 512:
        raise NotExpressible("it averages more than 512 elements of int16, or an unknown number of channels")
    window = _window(e, op)
    ones = e.const(np.ones((channels, 1, *kernel), np.float32))
    total = e.op("Conv", value, ones, group=channels, **window)
    count: ir.Value = e.const(np.float32(math.prod(kernel)))
    if op.padding != "VALID":  # elements inside the picture: the same for all channels
        plane = e.op(
            "Add",
            e.op("Mul", e.op("Slice", value, e.ints(0), e.ints(1), e.ints(1)), e.const(np.float32(0))),
            e.const(np.float32(1)),
        )
        count = e.op("Conv", plane, e.const(np.ones((1, 1, *kernel), np.float32)), **window)
    half = e.op("Floor", e.op("Mul", count, e.const(np.float32(0.5))))
    magnitude = e.op("Floor", e.op("Div", e.op("Add", e.op("Abs", total), half), count))
    return e.op("Mul", e.op("Sign", total), magnitude)
