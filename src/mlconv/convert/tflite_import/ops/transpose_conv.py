"""Transposed convolutions.

On integers they are written as forward ones: onnxruntime has no integer kernel of ConvTranspose, and float sums round
otherwise than LiteRT's now and then. With stride s, output ``s * u + p`` takes of the kernel only the places ``p + s * j``: s
forward convolutions of the input, one for each phase p, whose outputs are interleaved. They are one Conv with s times as
many outputs (to each axis), and a DepthToSpace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops.conv import (
    Plan,
    conv,
    convolved,
    dilations_3d,
    own_rounding,
    strides_3d,
)
from mlconv.convert.tflite_import.ops.rescale import in_eights, twice_up
from mlconv.convert.tflite_import.ops.weights import (
    Weights,
    along,
    assert_clamp,
    assert_operands,
    constant_weights,
)
from mlconv.convert.tflite_import.spatial import strides_of
from mlconv.formats.tflite_graph import Operator


def transpose_conv(e: Emitter, op: Operator) -> None:
    """Operands: output shape, weights (O, H, W, I), input, bias."""
    _transposed(e, op, (0, 3, 1, 2), 0, strides_of(op))


def conv_3d_transpose(e: Emitter, op: Operator) -> None:
    """Operands: output shape, weights (D, H, W, O, I), input, bias."""
    if any(dilation != 1 for dilation in dilations_3d(op)):
        raise NotExpressible("it is dilated")
    _transposed(e, op, (3, 4, 0, 1, 2), 3, strides_3d(op))


_BIAS = 3


@dataclass(frozen=True, slots=True)
class Reach:
    """One spatial axis.

    Attributes:
        output: Its size; None where it is known only while the model runs. Then all of it is computed, and cut at last.
        before: What is cut off in front.
        size: The input's; None where unknown.
    """

    kernel: int
    stride: int
    output: int | None
    before: int
    size: int | None


def _transposed(
    e: Emitter, op: Operator, perm: Sequence[int], outputs_at: int, strides: Sequence[int]
) -> None:
    """Weights are turned by ``perm`` to (O, I, spatial); in the file, ``outputs_at`` is the axis of O."""
    assert_clamp(op)
    assert_operands(e, op, len(perm))
    if len(op.inputs) < _BIAS or op.inputs[2] < 0:
        raise NotExpressible("its input is missing")
    x, out = op.inputs[2], op.outputs[0]
    weights = constant_weights(e, op.inputs[1], lambda array: np.transpose(array, perm), 0, outputs_at)
    if weights is None:
        raise NotExpressible("its weights are computed while the model runs")
    reaches = _reaches(e, op, weights.array.shape[2:], strides)
    if e.codes(x) is not None and weights.scales is not None:
        made, channels_first = _by_phases(e, op, x, weights, reaches)
        e.put(out, made, channels_first=channels_first)
    else:
        e.put(out, _directly(e, op, x, weights, reaches), channels_first=True)


def _reaches(e: Emitter, op: Operator, kernel: Sequence[int], strides: Sequence[int]) -> list[Reach]:
    """Output sizes: the operand's; where it is computed, the file's word, good for inputs of the sizes that the file tells.

    Padding is as in tensorflow/lite/kernels/padding.h, ComputePaddingHeightWidth, of the convolution that leads back.
    """
    rank = len(kernel)
    sizes: list[Any] = list((e.dims(op.inputs[2]) or (None,) * (rank + 2))[1:-1])
    told = e.constant(op.inputs[0])
    outputs: list[Any] = [None] * rank
    if told is not None:
        outputs = [int(size) for size in told[1:-1]]
    elif sizes == list((e.tensor(op.inputs[2]).dims or (None,) * (rank + 2))[1:-1]) and None not in sizes:
        outputs = list((e.tensor(op.outputs[0]).dims or (None,) * (rank + 2))[1:-1])
    if any(not isinstance(size, int) for size in outputs):
        return [Reach(k, s, None, 0, None) for k, s in zip(kernel, strides, strict=True)]
    made = []
    for k, s, output in zip(kernel, strides, outputs, strict=True):
        size = -(-output // s) if op.padding == "SAME" else (output - k + s) // s
        made.append(Reach(k, s, output, max((size - 1) * s + k - output, 0) // 2, size))
    return made


def _directly(e: Emitter, op: Operator, x: int, weights: Weights, reaches: Sequence[Reach]) -> ir.Value:
    """By ConvTranspose."""
    ends = [0 if reach.output is None or reach.size is None
            else reach.stride * (reach.size - 1) + reach.kernel - reach.before - reach.output for reach in reaches]  # fmt: skip
    attributes: dict[str, Any] = {
        "kernel_shape": [reach.kernel for reach in reaches],
        "strides": [reach.stride for reach in reaches],
        "pads": [reach.before for reach in reaches] + [max(end, 0) for end in ends],
        "output_padding": [
            max(-end, 0) if reach.output is not None else reach.stride - 1
            for end, reach in zip(ends, reaches, strict=True)
        ],
    }
    inputs_first = replace(weights, array=np.swapaxes(weights.array, 0, 1), axis=1)
    made = convolved(
        e, op, inputs_first, Plan(x, attributes, partial(_conv_transpose, e, attributes), bias_at=_BIAS)
    )
    return _cut(e, op, made, reaches, 2) if reaches[0].output is None else made


def _by_phases(
    e: Emitter, op: Operator, x: int, weights: Weights, reaches: Sequence[Reach]
) -> tuple[ir.Value, bool]:
    """By one Conv whose outputs are interleaved; and whether the result is channels first."""
    taps = [-(-reach.kernel // reach.stride) for reach in reaches]
    ends = [tap - 1 if reach.output is None or reach.size is None else -(-(reach.output + reach.before) // reach.stride) - reach.size
            for tap, reach in zip(taps, reaches, strict=True)]  # fmt: skip
    strides = [reach.stride for reach in reaches]
    attributes: dict[str, Any] = {
        "kernel_shape": taps, "strides": [1] * len(taps), "dilations": [1] * len(taps), "group": 1,
        "pads": [tap - 1 for tap in taps] + [max(end, 0) for end in ends],
    }  # fmt: skip
    phases = int(np.prod(strides))
    kernel = weights.rearranged(_phase_weights(weights, taps, strides), phases)
    own = own_rounding(e, op, weights, 1, _BIAS) if _is_delegated(e, op, reaches) else twice_up
    if own is not None and e.tensor(op.inputs[1]).dtype != "uint8":
        own = in_eights(weights.outputs, phases)
    made = convolved(e, op, kernel, Plan(x, attributes, partial(conv, e, attributes), own, _BIAS, phases))
    if all(stride == 1 for stride in strides):
        return _cut(e, op, made, reaches, 2), True
    sizes = [size for size in (made.shape[2:] if made.shape is not None else ()) if isinstance(size, int)]
    if len(sizes) == len(strides) == _PLANE:
        return _cut(e, op, _interleaved(e, made, weights.outputs, strides, sizes), reaches, 1), False
    if len(set(strides)) > 1 or len(strides) != _PLANE:
        raise NotExpressible("its strides differ, and its input's size is known only while the model runs")
    return _cut(e, op, e.op("DepthToSpace", made, blocksize=strides[0], mode="DCR"), reaches, 2), True


def _is_delegated(e: Emitter, op: Operator, reaches: Sequence[Reach]) -> bool:
    """Whether XNNPACK runs it: it wants the output's size beforehand, and no negative padding.

    Padding of SAME is what the kernel is larger than the stride (tried on LiteRT 2.3, with every output size).
    """
    if e.constant(op.inputs[0]) is None:
        return False
    return op.padding != "SAME" or all(reach.kernel >= reach.stride for reach in reaches)


_PLANE = 2  # spatial axes


def _phase_weights(weights: Weights, taps: Sequence[int], strides: Sequence[int]) -> np.ndarray:
    """(O, I, H, W) -> (phases * O, I, taps): phase (p, q) of output o is number ``(p * stride_w + q) * O + o``."""
    array, rank = weights.array, len(taps)
    whole = np.empty(
        (*array.shape[:2], *(tap * stride for tap, stride in zip(taps, strides, strict=True))), array.dtype
    )
    whole[...] = along(weights.zero_points, 0, array.ndim)
    whole[tuple(slice(size) for size in array.shape)] = array
    apart = whole.reshape(
        *array.shape[:2], *(size for pair in zip(taps, strides, strict=True) for size in pair)
    )
    apart = np.flip(apart, axis=tuple(2 + 2 * place for place in range(rank)))
    perm = (*(3 + 2 * place for place in range(rank)), 0, 1, *(2 + 2 * place for place in range(rank)))
    return np.asarray(apart.transpose(perm).reshape(-1, array.shape[1], *taps))


def _interleaved(
    e: Emitter, value: ir.Value, outputs: int, strides: Sequence[int], sizes: Sequence[int]
) -> ir.Value:
    """(N, phases * O, H, W) -> (N, H * stride_h, W * stride_w, O): channels last, as onnxruntime's integer kernels are.

    So all channels of a pixel are moved at once; its DepthToSpace moves bytes one by one, and takes as long as the Conv.
    """
    last = e.op("Transpose", value, perm=(0, 2, 3, 1))
    phases = e.op("Reshape", last, e.ints(0, *sizes, *strides, outputs))
    turned = e.op("Transpose", phases, perm=(0, 1, 3, 2, 4, 5))
    return e.op("Reshape", turned, e.ints(0, sizes[0] * strides[0], sizes[1] * strides[1], outputs))


def _cut(e: Emitter, op: Operator, value: ir.Value, reaches: Sequence[Reach], first: int) -> ir.Value:
    """What of all that was computed is the output; ``first`` is the first spatial axis."""
    axes = range(first, first + len(reaches))
    leading, outputs = (
        [reach.before for reach in reaches],
        [reach.output for reach in reaches if reach.output is not None],
    )
    if outputs:
        made = list(value.shape[first : first + len(reaches)]) if value.shape is not None else []
        if made == outputs and not any(leading):
            return value
        ends = [before + output for before, output in zip(leading, outputs, strict=True)]
        return e.op("Slice", value, e.ints(*leading), e.ints(*ends), e.ints(*axes))
    strides, kernels = (
        e.ints(*(reach.stride for reach in reaches)),
        e.ints(*(reach.kernel for reach in reaches)),
    )
    wanted = e.op(
        "Slice",
        e.op("Cast", e.stored(op.inputs[0]), to=ir.DataType.INT64),
        e.ints(1),
        e.ints(1 + len(reaches)),
    )
    beyond = e.ints(*(reach.stride - (1 if op.padding == "SAME" else reach.kernel) for reach in reaches))
    back = e.op("Div", e.op("Add", wanted, beyond), strides)
    reach_back = e.op("Add", e.op("Mul", e.op("Sub", back, e.ints(1)), strides), kernels)
    start = e.op("Div", e.op("Max", e.op("Sub", reach_back, wanted), e.ints(0)), e.ints(2))
    return e.op("Slice", value, start, e.op("Add", start, wanted), e.ints(*axes))


def _conv_transpose(
    e: Emitter, attributes: dict[str, Any], x: ir.Value, weights: ir.Value, bias: ir.Value | None
) -> ir.Value:
    return e.op("ConvTranspose", x, weights, *([] if bias is None else [bias]), **attributes)
