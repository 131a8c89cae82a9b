"""8-bit convolutions of few channels per group, as convolutions of whole numbers in float32.

onnxruntime's QLinearConv copies what each window sees (im2col) and multiplies it group by group; only where each channel has
one output of its own has it another kernel. With few channels that is mostly copying, and its float Conv, which runs in
blocks of channels (NCHWc), is faster. Float32 holds whole numbers below 2**24 exactly, so sums that stay below it are the
integer kernel's in whatever order they are added; a Mul by that kernel's own float32 ratio and a QuantizeLinear with scale
1 then round as it does (MlasRequantizeOutput: a product, halves to even, saturated). Nor do such sums saturate on any
processor (see ``isa``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.ops.weights import Weights, along, whole_numbers
from mlconv.formats.tflite_graph import Operator

if TYPE_CHECKING:
    from mlconv.convert.tflite_import.ops.conv import Plan

_EXACT = 2**24
"""float32 holds every whole number up to it."""
_PLANE = 2
_CHANNELS, _CHANNELS_OF_A_GROUP, _OUTPUTS, _LEAST_COPIED = 2, 4, 16, 2048
"""Where the float form is the faster one (``pays``): channels of one group, of each of several, and outputs of each."""


def convolve(e: Emitter, op: Operator, weights: Weights, plan: Plan) -> ir.Value | None:
    """What the output holds, channels first; None where the integer kernel is the faster one, or the only exact one."""
    codes, result = e.codes(plan.x), e.codes(op.outputs[0])
    assert codes is not None
    assert weights.scales is not None
    if (
        not e.target.optimize
        or e.target.is_half
        or plan.own is not None
        or result is None
        or result.dtype != "uint8"
    ):
        return None
    bias = _bias(e, op, plan)
    if bias is None or not pays(e, weights, plan) or greatest_sum(weights, codes, bias) >= _EXACT:
        return None
    centred = e.op(
        "DequantizeLinear",
        e.stored(plan.x, channels_first=True),
        *e.scale_and_zero_point(codes, 1.0),
    )
    added = e.const(bias.astype(np.float32)) if bias.any() else None
    sums = plan.write(centred, whole_numbers(e, weights), added)
    ratios = np.float32(codes.scale) * weights.scales / np.float32(result.scale)
    # the constant first: onnxruntime would multiply weights by a second one (ConvMulFusion), and round each
    scaled = e.op("Mul", e.const(along(ratios, 1, weights.array.ndim)), sums)
    rounded = e.op("QuantizeLinear", scaled, *e.scale_and_zero_point(result, 1.0))
    return e.clamped_codes(rounded, result, op.activation)


def pays(e: Emitter, weights: Weights, plan: Plan) -> bool:
    """Whether onnxruntime runs the float form faster than QLinearConv.

    Float form over integer: median and range of the minima of processor time (wall's with two threads), with a Transpose
    from and to NHWC; onnxruntime 1.31, x86 with AVX512-VNNI; images of 8 to 256 squared, kernels of 3 to 9 squared, strides
    1 and 2, one and two threads, from 2048 copies (places of the output, times those of the kernel, times channels) on:

    channels        outputs      shapes   ratio
    one             1 to 16      233      0.54 (0.25-1.04)
    one             32; 64        32      0.82 (0.68-0.99); 1.20 (0.98-1.63), left alone
    two             4 to 16       54      0.65 (0.42-0.92)
    two             32            18      0.96 (0.62-1.44), left alone
    three           4 to 16       54      0.88 (0.62-1.20), left alone, as first layers of networks are
    three           32            18      1.32 (1.07-1.50), left alone
    four            4 to 16       54      1.13 (0.73-1.75), left alone
    one a group     2 to 8       165      0.22 (0.03-0.72)
    2 or 4 a group  2 to 16       24      0.47 (0.17-1.02)
    8 a group       8; 32         12      0.76 (0.66-1.33); 1.45 (1.09-1.75), left alone

    With fewer copies both take some 10 us, and the cost of one more node decides (0.66-1.17, median 1.03). Kernels of one
    place copy nothing (0.27-1.78). An unknown size counts as a great one.
    """
    outputs, channels, *kernel = weights.array.shape
    groups, strides = plan.attributes["group"], plan.attributes["strides"]
    places = math.prod(kernel)
    if len(kernel) != _PLANE or places == 1:
        return False
    if channels > (_CHANNELS if groups == 1 else _CHANNELS_OF_A_GROUP) or outputs > groups * _OUTPUTS:
        return False
    if channels == 1 and outputs == groups > 1:
        return False  # the integer kernel for depthwise convolutions
    sizes = (e.dims(plan.x) or (None,) * (len(kernel) + 2))[1:-1]
    of_output = [
        -(-size // stride) for size, stride in zip(sizes, strides, strict=True) if isinstance(size, int)
    ]
    return len(of_output) < len(sizes) or math.prod(of_output) * places * channels * groups >= _LEAST_COPIED


def greatest_sum(weights: Weights, codes: Codes, bias: np.ndarray) -> int:
    """The greatest magnitude that any sum of any part of the products and the bias can have."""
    rows = np.abs(
        weights.array.astype(np.int64) - along(weights.zero_points, weights.axis, weights.array.ndim)
    )
    widest = max(codes.high - codes.zero_point, codes.zero_point - codes.low)
    products = rows.reshape(rows.shape[0], -1).sum(1) * widest
    return int((products + np.abs(bias)).max())


def _bias(e: Emitter, op: Operator, plan: Plan) -> np.ndarray | None:
    """Of every output, zeros without one; None where it is no constant of int32."""
    if len(op.inputs) <= plan.bias_at or op.inputs[plan.bias_at] < 0:
        return np.zeros(1, np.int64)
    index = op.inputs[plan.bias_at]
    stored = e.constant(index)
    if stored is None or e.tensor(index).dtype != "int32":
        return None
    return np.tile(stored.reshape(-1), plan.repeats).astype(np.int64)
