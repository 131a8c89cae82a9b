"""Convolutions, forward ones; see ``transpose_conv`` for the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import hybrid, sixteen, whole_conv
from mlconv.convert.tflite_import.ops.rescale import Rounding, in_eights, rescaled, twice_away, twice_up
from mlconv.convert.tflite_import.ops.weights import (
    Weights,
    assert_clamp,
    assert_operands,
    assert_quantized,
    constant_weights,
    dequantized,
    eight_bit,
    initializer,
    integer_bias,
    numbers,
    real_bias,
)
from mlconv.convert.tflite_import.spatial import dilations_of, padding, strides_of
from mlconv.formats.tflite_graph import Operator


def conv_2d(e: Emitter, op: Operator) -> None:
    """Weights (O, H, W, I / groups)."""
    _convolution(e, op, (0, 3, 1, 2), 0, strides_of(op), dilations_of(op))


def depthwise_conv_2d(e: Emitter, op: Operator) -> None:
    """Weights (1, H, W, O); O is a multiple of the input's channels."""
    _convolution(e, op, (3, 0, 1, 2), 3, strides_of(op), dilations_of(op))


def conv_3d(e: Emitter, op: Operator) -> None:
    """Weights (D, H, W, I / groups, O)."""
    _convolution(e, op, (4, 3, 0, 1, 2), 4, strides_3d(op), dilations_3d(op))


def strides_3d(op: Operator) -> tuple[int, ...]:
    return op.integer("stride_d", 1) or 1, *strides_of(op)


def dilations_3d(op: Operator) -> tuple[int, ...]:
    return op.integer("dilation_d_factor", 1) or 1, *dilations_of(op)


def _convolution(
    e: Emitter,
    op: Operator,
    perm: Sequence[int],
    outputs_at: int,
    strides: Sequence[int],
    dilations: Sequence[int],
) -> None:
    """Weights are turned by ``perm`` to (O, I / groups, spatial); in the file, ``outputs_at`` is the axis of O."""
    assert_clamp(op)
    assert_operands(e, op, len(perm))
    weights = constant_weights(e, op.inputs[1], lambda array: np.transpose(array, perm), 0, outputs_at)
    shape = (
        weights.array.shape if weights is not None else [e.tensor(op.inputs[1]).shape[axis] for axis in perm]
    )
    channels = channels_of(e, op.inputs[0])
    if channels % shape[1]:
        raise NotExpressible(f"its input has {channels} channels, and its weights take {shape[1]}")
    groups, kernel = channels // shape[1], list(shape[2:])
    sizes = (e.dims(op.inputs[0]) or (None,) * (len(kernel) + 2))[1:-1]
    attributes = dict(kernel_shape=kernel, strides=list(strides), dilations=list(dilations), group=groups,
                      **padding(op, sizes, kernel, strides, dilations))  # fmt: skip
    plan = Plan(
        op.inputs[0], attributes, partial(conv, e, attributes), own=own_rounding(e, op, weights, groups)
    )
    if weights is None:
        made = computed_weights(e, op, perm, plan)
    else:
        # the depthwise kernel of MLAS widens to 16 bits before it multiplies
        made = convolved(e, op, weights, replace(plan, is_safe=groups == shape[0] == channels))
    e.put(op.outputs[0], made, channels_first=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a convolution is written.

    Attributes:
        x: The operand that is convolved.
        attributes: Of Conv or ConvTranspose.
        write: ``(x, weights, bias or None) -> sums``, all in float32.
        own: How TFLite's own kernel rounds; None where XNNPACK runs the operator.
        bias_at: Which operand is the bias.
        repeats: How many times the outputs come, all of them, one after the other.
        is_safe: See ``eight_bit``.
    """

    x: int
    attributes: dict[str, Any]
    write: Callable[[ir.Value, ir.Value, ir.Value | None], ir.Value]
    own: Rounding | None = None
    bias_at: int = 2
    repeats: int = 1
    is_safe: bool = False


def own_rounding(
    e: Emitter, op: Operator, weights: Weights | None, groups: int, bias_at: int = 2
) -> Rounding | None:
    """How the 8-bit kernel of TFLite's own rounds that runs an operator; None where XNNPACK takes it.

    XNNPACK takes constant weights of 8 bits and constant biases, and uint8 weights whose quantized dimension is 0, as
    converters write it of one scale (all tried on LiteRT 2.3).
    """
    tensor = e.tensor(op.inputs[1])
    is_odd = tensor.dtype == "uint8" and tensor.quantization is not None and tensor.quantization.axis != 0
    computes_bias = (
        len(op.inputs) > bias_at and op.inputs[bias_at] >= 0 and e.constant(op.inputs[bias_at]) is None
    )
    if weights is not None and tensor.dtype in ("int8", "uint8") and not is_odd and not computes_bias:
        return None
    if op.kind == "DEPTHWISE_CONV_2D":
        return twice_away if tensor.dtype == "uint8" else in_eights(tensor.shape[-1])
    return twice_up if groups == 1 else twice_away


def channels_of(e: Emitter, index: int) -> int:
    """How many channels a tensor has, by its form or by the file: weights fix it, so the file's word is good."""
    last = (e.dims(index) or (None,))[-1]
    return last if isinstance(last, int) else e.tensor(index).shape[-1]


def convolved(e: Emitter, op: Operator, weights: Weights, plan: Plan) -> ir.Value:
    """What the output holds: one convolution, in the arithmetic that LiteRT uses for such an input and such weights."""
    codes, x = e.codes(plan.x), plan.x
    if weights.scales is None:
        if codes is not None:
            raise NotExpressible("its input is quantized, and its weights are not")
        made = plan.write(
            e.real(x, channels_first=True), numbers(e, weights), real_bias(e, op.inputs, plan.bias_at)
        )
    elif codes is None:
        places = {
            *plan.attributes["kernel_shape"],
            *plan.attributes["strides"],
            plan.attributes.get("group", 1),
        }
        seen = hybrid.seen(e, op, e.real(x, channels_first=True), weights, places)
        made = plan.write(seen, hybrid.weights(e, weights), real_bias(e, op.inputs, plan.bias_at))
    elif codes.dtype == "float32":
        return sixteen.convolve(e, op, x, weights, plan.attributes, plan.bias_at, plan.repeats)
    else:
        assert_quantized(e, op.outputs[0])
        whole = whole_conv.convolve(e, op, weights, plan)
        if whole is not None:
            return whole
        kernel, zero_points = eight_bit(e, weights, safe=plan.is_safe)
        if plan.own is not None:
            return _by_fixed_point(e, op, plan, initializer(e, weights, kernel), zero_points, weights.scales)
        bias = integer_bias(
            e, op.inputs, plan.bias_at, np.float32(codes.scale) * weights.scales, plan.repeats
        )
        made = plan.write(e.real(x, channels_first=True), dequantized(e, weights, kernel, zero_points), bias)
    return e.held(op.outputs[0], made, op.activation)


def computed_weights(e: Emitter, op: Operator, perm: Sequence[int], plan: Plan) -> ir.Value:
    """The same where the model computes the weights; ``perm`` turns them to ONNX's layout."""
    codes, others = e.codes(plan.x), e.codes(op.inputs[1])
    if (codes is None) != (others is None):
        raise NotExpressible("its weights are computed, and only one of its operands is quantized")
    if codes is None or others is None:
        turned = e.op("Transpose", e.real(op.inputs[1]), perm=tuple(perm))
        made = plan.write(e.real(plan.x, channels_first=True), turned, real_bias(e, op.inputs, plan.bias_at))
        return e.held(op.outputs[0], made, op.activation)
    if "float32" in (codes.dtype, others.dtype):
        raise NotExpressible("its weights are computed, and an operand is int16")
    assert_quantized(e, op.outputs[0])
    e.shared.eight_bit += 1
    turned = e.op("Transpose", e.stored(op.inputs[1]), perm=tuple(perm))
    zeros = np.array([others.zero_point], others.dtype)
    return _by_fixed_point(e, op, plan, turned, zeros, np.array([others.scale], np.float32))


def _by_fixed_point(
    e: Emitter, op: Operator, plan: Plan, kernel: ir.Value, zeros: np.ndarray, scales: np.ndarray
) -> ir.Value:
    """The sums by ConvInteger, which gives them as they are; slow, as the kernels that it stands for are."""
    codes = e.codes(plan.x)
    assert codes is not None
    assert plan.own is not None
    zero_points = (
        e.const(np.array(codes.zero_point, codes.dtype)),
        e.const(zeros[0] if not np.ptp(zeros) else zeros),
    )
    sums = e.op("ConvInteger", e.stored(plan.x, channels_first=True), kernel, *zero_points, **plan.attributes)
    rank = len(plan.attributes["kernel_shape"]) + 2
    if len(op.inputs) > plan.bias_at and op.inputs[plan.bias_at] >= 0:
        index = op.inputs[plan.bias_at]
        constant = e.constant(index)
        bias = e.stored(index) if constant is None else e.const(np.tile(constant, plan.repeats))
        sums = e.op("Add", sums, e.op("Reshape", bias, e.ints(-1, *[1] * (rank - 2))))
    return rescaled(e, op, e.op("Cast", sums, to=ir.DataType.DOUBLE), codes.scale, scales, plan.own, 1, rank)


def conv(
    e: Emitter, attributes: dict[str, Any], x: ir.Value, weights: ir.Value, bias: ir.Value | None
) -> ir.Value:
    return e.op("Conv", x, weights, *([] if bias is None else [bias]), **attributes)
