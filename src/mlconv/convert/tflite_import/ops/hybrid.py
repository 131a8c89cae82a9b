"""Float activations, integer weights: LiteRT quantizes the activations while the model runs.

Which kernel does is the interpreter's choice: XNNPACK takes all of them, whatever ``asymmetric_quantize_inputs`` says
(tried on LiteRT 2.3), and quantizes to int8 with a scale and a zero point for each image of a convolution and each row of
a product. A CONV_2D of one place, stride 1 and one group is such a product. What XNNPACK rounds is rounded here in the same
way; the sums are of float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.weights import Weights, along, eight_bit, initializer, whole_numbers
from mlconv.formats.tflite_graph import Operator


@dataclass(frozen=True, slots=True)
class Steps:
    """Activations as whole numbers in float32: ``real = (code - zero_point) * scale``.

    Attributes:
        centred: ``code - zero_point``.
        zero_point, scale: One for each image or row.
    """

    centred: ir.Value
    zero_point: ir.Value
    scale: ir.Value


def steps(e: Emitter, x: ir.Value, axes: tuple[int, ...]) -> Steps:
    """What XNNPACK makes of activations: xnn_f32_qd8_asymmetric_quantization_params and src/f32-qs8-vcvt.

    Args:
        axes: Those over which one scale holds.
    """
    zero, low, high = e.const(np.float32(0)), e.const(np.float32(-128)), e.const(np.float32(127))
    least = e.op("Min", e.reduce("ReduceMin", x, axes, keepdims=True), zero)
    greatest = e.op("Max", e.reduce("ReduceMax", x, axes, keepdims=True), zero)
    width = e.op("Sub", greatest, least)
    per_unit = e.op(
        "Where",
        e.op("Equal", width, zero),
        e.const(np.float32(1)),
        e.op("Div", e.const(np.float32(255)), width),
    )
    lowest, highest = e.op("Mul", least, per_unit), e.op("Mul", greatest, per_unit)
    error = e.op("Add", e.op("Add", low, lowest), e.op("Add", high, highest))
    chosen = e.op("Where", e.op("Greater", error, zero), e.op("Sub", low, lowest), e.op("Sub", high, highest))
    zero_point = e.op("Round", e.op("Clip", chosen, low, high))
    rounded = e.op("Round", e.op("Mul", x, per_unit))
    centred = e.op("Max", e.op("Min", rounded, e.op("Sub", high, zero_point)), e.op("Sub", low, zero_point))
    return Steps(centred, zero_point, e.op("Div", e.const(np.float32(1)), per_unit))


def symmetric_steps(e: Emitter, x: ir.Value, axes: tuple[int, ...]) -> Steps:
    """The same as TFLite's own kernels: SymmetricQuantizeFloats in tensorflow/lite/kernels/internal/portable_tensor_utils.cc."""
    zero, most = e.const(np.float32(0)), e.const(np.float32(127))
    greatest = e.reduce("ReduceMax", e.op("Abs", x), axes, keepdims=True)
    reach = e.op("Where", e.op("Equal", greatest, zero), most, greatest)
    scaled = e.op("Mul", x, e.op("Div", most, reach))
    whole = e.op("Floor", e.op("Add", e.op("Abs", scaled), e.const(np.float32(0.5))))
    return Steps(e.op("Mul", e.op("Sign", scaled), e.op("Min", whole, most)), zero, e.op("Div", reach, most))


def seen(e: Emitter, op: Operator, x: ir.Value, kernel: Weights, places: set[int]) -> ir.Value:
    """Activations (N, C, ...) as a convolution sees them: rounded to the 256 levels of their image, or of their pixel.

    Weights of 4 bits are left to TFLite's own kernel, which rounds about zero where they have one scale.

    Args:
        places: Sizes, strides and groups of the kernel.
    """
    assert x.shape is not None
    image = tuple(range(1, len(x.shape)))
    if e.tensor(op.inputs[1]).dtype == "int8":
        found = steps(e, x, (1,) if op.kind == "CONV_2D" and places == {1} else image)
    else:
        assert kernel.scales is not None
        found = steps(e, x, image) if len(kernel.scales) > 1 else symmetric_steps(e, x, image)
    return e.op("Mul", found.centred, found.scale)


def weights(e: Emitter, kernel: Weights) -> ir.Value:
    """Integer weights as float32 numbers, of 8 bits in the file; onnxruntime folds them when it loads the model.

    It would not fold a DequantizeLinear.
    """
    assert kernel.scales is not None
    assert_signed(e)
    return e.op(
        "Mul", whole_numbers(e, kernel), e.const(along(kernel.scales, kernel.axis, kernel.array.ndim))
    )


def product(e: Emitter, x: ir.Value, kernel: Weights, *, is_symmetric: bool = False) -> ir.Value:
    """``x @ weights`` with weights (..., K, O): rows of ``x`` are quantized, and 8-bit integers are multiplied.

    Args:
        is_symmetric: Quantized as TFLite's own kernel does.
    """
    assert kernel.scales is not None
    assert x.shape is not None
    assert_signed(e)
    found = (symmetric_steps if is_symmetric else steps)(e, x, (len(x.shape) - 1,))
    shifted = e.op(
        "Cast",
        e.op("Add", found.centred, e.op("Add", found.zero_point, e.const(np.float32(128)))),
        to=ir.DataType.UINT8,
    )
    codes, zero_points = eight_bit(e, kernel)
    sums = e.op(
        "MatMulInteger",
        shifted,
        initializer(e, kernel, codes),
        e.const(np.uint8(0)),
        e.const(zero_points.reshape(-1)),
    )
    # the rows' own zero points come off afterwards: MatMulInteger has one for all rows
    totals = (
        kernel.array.astype(np.int64).sum(-2, keepdims=True) - kernel.zero_points * kernel.array.shape[-2]
    )
    offset = e.op(
        "Mul", e.op("Add", found.zero_point, e.const(np.float32(128))), e.const(totals.astype(np.float32))
    )
    centred = e.op("Sub", e.op("Cast", sums, to=ir.DataType.FLOAT), offset)
    return e.op(
        "Mul",
        e.op("Mul", centred, found.scale),
        e.const(along(kernel.scales, kernel.axis, kernel.array.ndim)),
    )


def assert_signed(e: Emitter) -> None:
    """Refuse the weights of converters before 2019.

    Raises:
        NotExpressible: They are uint8: LiteRT reads them as int8, and multiplies with sums that saturate.
    """
    if e.current is not None and e.tensor(e.current.inputs[1]).dtype == "uint8":
        raise NotExpressible("its input is float, and its weights are uint8")
