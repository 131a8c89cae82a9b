"""Codes of one scale in another one, as LiteRT's CONCATENATION of uint8 rounds them."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.emit import Emitter

_ULPS = 256
"""How far from the file's scale one is looked for whose results round like LiteRT's; 3 suffice for nearly every pair."""

_ALL = np.arange(256)


def rescaled(e: Emitter, index: int, out: int, *, channels_first: bool) -> ir.Value:
    """The real numbers of a tensor, such that quantizing them to ``out`` gives LiteRT's codes for all 256 of its own."""
    own, wanted = e.codes(index), e.codes(out)
    if own is None or wanted is None or own == wanted:
        return e.real(index, channels_first=channels_first)
    table = litert_codes(own, wanted)
    scale = matching_scale(own, wanted, table)
    if scale is not None:
        return e.real(index, channels_first=channels_first, scale=scale)
    codes = e.op("Cast", e.stored(index, channels_first=channels_first), to=ir.DataType.INT32)
    return e.dequantize(e.op("Gather", e.const(table.astype(np.uint8)), codes), wanted)


def litert_codes(own: Codes, wanted: Codes) -> np.ndarray:
    """tensorflow/lite/kernels/internal/reference/concatenation.h, ConcatenationWithScaling, for all codes."""
    scale = np.float32(own.scale) * (np.float32(1) / np.float32(wanted.scale))
    bias = np.float32(-own.zero_point) * scale
    steps = _ALL.astype(np.float32) * scale + bias
    exact = steps.astype(np.float64)  # 0.49999997 and a half are one in float32
    rounded = np.copysign(np.floor(np.abs(exact) + 0.5), exact)
    return np.asarray(np.clip(rounded + wanted.zero_point, wanted.low, wanted.high).astype(np.int64))


def matching_scale(own: Codes, wanted: Codes, table: np.ndarray) -> float | None:
    """The scale nearest to ``own``'s by which onnxruntime's DequantizeLinear and QuantizeLinear give ``table``; None without one."""
    centred, unit = (_ALL - own.zero_point).astype(np.float32), np.float32(wanted.scale)
    middle = int(np.float32(own.scale).view(np.int32))
    for step in range(2 * _ULPS + 1):
        offset = (step + 1) // 2 * (1 if step % 2 else -1)
        scale = np.int32(middle + offset).view(np.float32)
        codes = np.clip(np.rint(centred * scale / unit) + wanted.zero_point, wanted.low, wanted.high)
        if np.array_equal(codes, table):
            return float(scale)
    return None
