"""How a quantized activation is stored in the ONNX graph.

onnxruntime fuses 8-bit kernels on x86 for unsigned activations alone, so int8 tensors are stored as uint8 with a zero
point 128 higher: the same real numbers, exactly. ONNX quantizes to int16 from opset 21 only, so int16 tensors are stored
as whole numbers in float32, which holds them exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlconv.formats.tflite_graph import Tensor


@dataclass(frozen=True, slots=True)
class Codes:
    """``real = scale * (code - zero_point)``, by float32 arithmetic.

    Attributes:
        scale: As the file has it, a float32.
        zero_point: Of the stored codes: 128 more than the file's for int8.
        low, high: The codes that there are.
        dtype: numpy's name of the stored type.
        shift: What was added to the file's codes.
    """

    scale: float
    zero_point: int
    low: int
    high: int
    dtype: str
    shift: int

    def clamp(self, activation: str) -> tuple[int, int]:
        """The codes that a fused activation leaves: XNNPACK and TFLite clamp after rounding, among codes."""
        low, high = ACTIVATION_RANGES[activation]
        codes = [self.low if math.isinf(low) else self.code(low), self.high if math.isinf(high) else self.code(high)]
        return max(self.low, codes[0]), min(self.high, codes[1])

    def code(self, real: float) -> int:
        """The code nearest to a real number, not limited to the type's range.

        XNNPACK (8 bits) rounds halves of ``real / scale + zero_point`` to even, tried on LiteRT 2.3; the kernels of int16
        round halves of ``real / scale`` away from zero (tensorflow/lite/kernels/internal/common.h, Quantize).
        """
        steps = np.float32(real) / np.float32(self.scale)
        if self.dtype == "float32":
            return self.zero_point + int(math.copysign(math.floor(abs(float(steps)) + 0.5), float(steps)))
        return int(np.rint(steps + np.float32(self.zero_point - self.shift))) + self.shift


ACTIVATION_RANGES: dict[str, tuple[float, float]] = {
    "NONE": (-math.inf, math.inf),
    "RELU": (0.0, math.inf),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU6": (0.0, 6.0),
}
"""Fused activations that are clamps. TANH and SIGN_BIT are none; see ``Emitter.put_real``."""

_STORED = {"uint8": (0, 255, "uint8", 0), "int8": (0, 255, "uint8", 128), "int16": (-32768, 32767, "float32", 0)}


def codes_of(tensor: Tensor) -> Codes | None:
    """How a tensor's codes are stored; None for a tensor that holds numbers themselves, or scales per axis."""
    affine = tensor.quantization.per_tensor if tensor.quantization else None
    if affine is None or tensor.dtype not in _STORED:
        return None
    low, high, dtype, shift = _STORED[tensor.dtype]
    return Codes(affine.scale, affine.zero_point + shift, low, high, dtype, shift)
