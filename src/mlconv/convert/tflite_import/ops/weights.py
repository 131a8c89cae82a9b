"""Weights and biases of convolutions and matrix products, as ONNX and onnxruntime's kernels want them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import ACTIVATION_RANGES
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import packed
from mlconv.errors import UnsupportedType
from mlconv.formats.tflite_graph import Operator
from mlconv.formats.tflite_schema import BITS

_WEIGHTS = ("int8", "uint8", "int4", "int2", "uint4")


@dataclass(frozen=True, slots=True, eq=False)
class Weights:
    """Constant weights in ONNX's layout.

    Attributes:
        array: Codes as int8, or numbers as float32 or float16.
        axis: That of the outputs: the first of a convolution's (O, I, spatial), the last of a product's (..., K, O).
        scales: One, or one for each output; None of numbers.
        zero_points: As many, of the codes in ``array``.
        name: What the initializer is called.
        is_narrow: Codes from 0 to 15; see ``packed``.
    """

    array: np.ndarray
    axis: int
    scales: np.ndarray | None
    zero_points: np.ndarray
    name: str
    is_narrow: bool = False

    @property
    def outputs(self) -> int:
        return int(self.array.shape[self.axis])

    def rows(self) -> np.ndarray:
        """Every output's weights in the order in which onnxruntime's kernels add them up.

        Convolutions run channels last: positions of the kernel, and channels within them (MlasIm2Col in
        onnxruntime/core/providers/cpu/quantization/qlinearconv.cc).
        """
        if self.axis:
            return np.swapaxes(self.array, -1, -2).reshape(-1, self.array.shape[-2])
        return np.moveaxis(self.array, 1, -1).reshape(self.outputs, -1)

    def saturates(self) -> bool:
        """Whether some input makes ``vpmaddubsw`` saturate: two neighbours whose sum times 255 leaves 16 bits."""
        rows = self.rows().astype(np.int16)
        pairs = rows[:, 0 : rows.shape[1] // 2 * 2 : 2] + rows[:, 1::2]
        return bool(pairs.size) and bool(pairs.max() > _SUM_HIGH or pairs.min() < _SUM_LOW)

    def rearranged(self, array: np.ndarray, repeats: int = 1) -> Weights:
        """Another arrangement with all of these outputs ``repeats`` times, one after the other."""
        if self.scales is None or len(self.scales) == 1:
            return replace(self, array=array)
        return replace(
            self,
            array=array,
            scales=np.tile(self.scales, repeats),
            zero_points=np.tile(self.zero_points, repeats),
        )


_SUM_HIGH, _SUM_LOW = 32767 // 255, -(32768 // 255)  # 128


def constant_weights(
    e: Emitter, index: int, arrange: Callable[[np.ndarray], np.ndarray], axis: int, source_axis: int
) -> Weights | None:
    """An operand as weights, or None where the model computes it.

    Args:
        arrange: From the file's layout to ONNX's.
        axis: That of the outputs in ONNX's layout; ``source_axis`` in the file's.

    Raises:
        NotExpressible: They are stored sparsely, in blocks with scales of their own, or as what no kernel takes.
    """
    tensor = e.tensor(index)
    try:
        stored = e.constant(index)
    except UnsupportedType as error:
        raise NotExpressible(
            "its weights are stored sparsely" if tensor.is_sparse else f"its weights are {tensor.dtype}"
        ) from error
    if stored is None:
        return None
    array, affine = arrange(stored), tensor.quantization
    if array.dtype.kind == "f":
        return Weights(array, axis, None, np.zeros(0, np.int64), tensor.name)
    if affine is not None and affine.block_size is not None:
        raise NotExpressible(f"its weights have a scale for every {affine.block_size} elements")
    if affine is None or not affine.scale or tensor.dtype not in _WEIGHTS:
        raise NotExpressible(
            f"its weights are {tensor.dtype} without scales"
            if affine is None or not affine.scale
            else f"its weights are {tensor.dtype}"
        )
    count = len(affine.scale)
    if count != 1 and (count != array.shape[axis] or affine.axis != source_axis):
        raise NotExpressible(
            f"its weights have {count} scales along axis {affine.axis}, not along that of the outputs"
        )
    zero_points = np.array(affine.zero_point, np.int64)
    is_narrow = BITS[tensor.dtype] < BITS["int8"]
    if tensor.dtype == "uint8":  # u8 by s8 is the kernel that x86 with VNNI has
        array, zero_points = (array.astype(np.int16) - 128).astype(np.int8), zero_points - 128
    elif is_narrow:
        lift = 0 if tensor.dtype == "uint4" else packed.LIFT
        array, zero_points = array.astype(np.int8) + np.int8(lift), zero_points + lift
    if zero_points.min() < -128 or zero_points.max() > 127:
        raise NotExpressible("a zero point of its weights lies outside their type")
    return Weights(array, axis, np.array(affine.scale, np.float32), zero_points, tensor.name, is_narrow)


def eight_bit(e: Emitter, weights: Weights, *, safe: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Codes and zero points as `--target-isa` wants them, and the operator counted as one on 8-bit integers.

    ``vnni`` and ``arm`` get int8, the fastest there. ``avx2`` and ``portable`` get uint8 wherever int8 could saturate: MLAS
    multiplies u8 by u8 with 16-bit products (vpmaddwd), exact on every processor.

    Args:
        safe: Whether onnxruntime's kernel cannot saturate whatever the weights are.
    """
    e.shared.eight_bit += 1
    saturates = not safe and weights.saturates()
    array, zero_points = weights.array, weights.zero_points
    if saturates and e.target.isa in ("avx2", "portable"):
        return (array.astype(np.int16) + 128).astype(np.uint8), (zero_points + 128).astype(np.uint8)
    if saturates and e.current is not None:
        e.shared.saturating.append(e.tensor(e.current.outputs[0]).name)
    return array, zero_points.astype(np.int8)


def initializer(e: Emitter, weights: Weights, codes: np.ndarray) -> ir.Value:
    """The weights' codes, in a form of ``eight_bit``."""
    return packed.unpacked(e, codes, weights.name) if weights.is_narrow else e.const(codes, weights.name)


def dequantized(e: Emitter, weights: Weights, codes: np.ndarray, zero_points: np.ndarray) -> ir.Value:
    """A DequantizeLinear that onnxruntime fuses: per tensor where there is one scale.

    Each has its own zero points: session.x64quantprecision makes uint8 copies of int8 ones, names them after the originals,
    and refuses the model where two operators share one (AddInitializedOrtValue, onnxruntime 1.31).
    """
    assert weights.scales is not None
    value = initializer(e, weights, codes)
    if len(weights.scales) == 1:
        zero_point = e.const(zero_points.reshape(()), own=True)
        return e.op("DequantizeLinear", value, e.const(weights.scales.reshape(())), zero_point)
    return e.op(
        "DequantizeLinear", value, e.const(weights.scales), e.const(zero_points, own=True), axis=weights.axis
    )


def numbers(e: Emitter, weights: Weights) -> ir.Value:
    """Weights as float32; float16 ones stay so in the file."""
    value = e.const(weights.array, weights.name)
    return e.op("Cast", value, to=ir.DataType.FLOAT) if weights.array.dtype == np.float16 else value


def whole_numbers(e: Emitter, weights: Weights) -> ir.Value:
    """Centred codes as float32; in the file they stay 8 bits wide (onnxruntime folds the Cast when it loads the model)."""
    value = e.op("Cast", initializer(e, weights, weights.array), to=ir.DataType.FLOAT)
    if not weights.zero_points.any():
        return value
    return e.op(
        "Sub", value, e.const(along(weights.zero_points.astype(np.float32), weights.axis, weights.array.ndim))
    )


def along(array: np.ndarray, axis: int, rank: int) -> np.ndarray:
    """One number, or one for each place along ``axis``, in a form that broadcasts over ``rank`` axes."""
    return np.asarray(
        array.reshape(())
        if array.size == 1
        else array.reshape([-1 if place == axis else 1 for place in range(rank)])
    )


def integer_bias(
    e: Emitter, op_inputs: Sequence[int], at: int, scales: np.ndarray, repeats: int = 1
) -> ir.Value | None:
    """The bias behind a DequantizeLinear, or None without one.

    Its own scale is not read: TFLite's kernels and XNNPACK add its integers to the sums as they are.

    Args:
        scales: Of the sums: the input's times the weights'.
        repeats: How many times the outputs come, all of them, one after the other.

    Raises:
        NotExpressible: It is of another type, or computed and shared.
    """
    if len(op_inputs) <= at or op_inputs[at] < 0:
        return None
    index = op_inputs[at]
    if e.tensor(index).dtype != "int32":
        raise NotExpressible(f"its bias is {e.tensor(index).dtype}, and its weights are integers")
    value, constant = e.stored(index), e.constant(index)
    if repeats > 1:
        if constant is None:
            raise NotExpressible("its bias is computed while the model runs")
        value = e.const(np.tile(constant, repeats), e.tensor(index).name)
    if len(scales) == 1:
        return e.op("DequantizeLinear", value, e.const(scales.reshape(())))
    return e.op("DequantizeLinear", value, e.const(scales), axis=0)


def real_bias(e: Emitter, op_inputs: Sequence[int], at: int) -> ir.Value | None:
    """The bias as float32, or None without one."""
    return e.real(op_inputs[at]) if len(op_inputs) > at and op_inputs[at] >= 0 else None


def assert_operands(e: Emitter, op: Operator, rank: int, at: int = 1) -> None:
    """Refuse an operator whose input or weights are missing, or whose weights (``at``) have other axes or no elements.

    Raises:
        NotExpressible: LiteRT refuses it too.
    """
    if len(op.inputs) < max(2, at + 1) or not op.outputs or min(*op.inputs[: at + 1], op.outputs[0]) < 0:
        raise NotExpressible("an operand of it is missing")
    shape = e.tensor(op.inputs[at]).shape
    if len(shape) != rank or min(shape) < 1:
        raise NotExpressible(f"its weights have the shape {list(shape)}")


def assert_clamp(op: Operator) -> None:
    """Refuse fused activations that LiteRT's convolutions and products leave out or refuse (tried on LiteRT 2.3).

    Raises:
        NotExpressible: It is none of the RELU kind.
    """
    if op.activation not in ACTIVATION_RANGES:
        raise NotExpressible(f"LiteRT does not apply its fused {op.activation}")


def assert_quantized(e: Emitter, index: int) -> None:
    """Refuse sums of integers that are to be put into a tensor without scales.

    Raises:
        NotExpressible: The tensor is an integer's.
    """
    if e.codes(index) is None and e.tensor(index).dtype != "float32":
        raise NotExpressible(f"its output is {e.tensor(index).dtype} without a scale")
