"""Weights of 4 bits and fewer: two to a byte in the file, bytes in the runtime.

ONNX has types of 4 bits from opset 21 only, and no integer kernel of onnxruntime takes them. So the bytes are taken apart by
nodes of constants, which onnxruntime folds when it loads the model: the file stays as small as the source.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter

LIFT = 8
"""What is added to codes, so that they have no sign; to their zero points too."""

_WORTH_IT = 1024  # elements; fewer are stored as bytes


def unpacked(e: Emitter, codes: np.ndarray, name: str) -> ir.Value:
    """Codes from 0 to 15, an array of int8, as a value of int8 whose constant is half as large."""
    if codes.size < _WORTH_IT:
        return e.const(codes, name)
    flat = np.zeros((codes.size + 1) // 2 * 2, np.uint8)
    flat[: codes.size] = codes.reshape(-1)
    pairs = e.const((flat[0::2] | flat[1::2] << 4).reshape(-1, 1), name)
    four = e.const(np.uint8(4))
    low = e.op("BitShift", e.op("BitShift", pairs, four, direction="LEFT"), four, direction="RIGHT")
    both = e.op("Concat", low, e.op("BitShift", pairs, four, direction="RIGHT"), axis=1)
    if codes.size % 2:
        both = e.op("Slice", e.op("Reshape", both, e.ints(-1)), e.ints(0), e.ints(codes.size))
    return e.op("Cast", e.op("Reshape", both, e.ints(*codes.shape)), to=ir.DataType.INT8)
