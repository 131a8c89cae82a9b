"""Weights of 4 bits with a scale for every few of a row: float activations only."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import hybrid, packed
from mlconv.convert.tflite_import.ops.weights import real_bias
from mlconv.formats.tflite_graph import Operator


def is_blockwise(e: Emitter, index: int) -> bool:
    affine = e.tensor(index).quantization
    return affine is not None and affine.block_size is not None


def product(e: Emitter, op: Operator, rows: ir.Value) -> ir.Value:
    """(rows, outputs) of a FULLY_CONNECTED.

    Rows are rounded as those of every hybrid product; the scales are bfloat16, whatever they are in the file, as in XNNPACK's
    qd8-f32-qb4w kernels (tried on LiteRT 2.3). The real weights are worked out by nodes that onnxruntime folds.

    Raises:
        NotExpressible: Activations are quantized, or the blocks do not fit.
    """
    tensor = e.tensor(op.inputs[1])
    affine, codes = tensor.quantization, e.constant(op.inputs[1])
    if e.codes(op.inputs[0]) is not None or codes is None or tensor.dtype != "int4" or affine is None:
        raise NotExpressible(
            "its weights have a scale for every few elements, and are not 4 bits wide or its input is no float"
        )
    size, at = affine.block_size or 0, affine.scales_at
    outputs, depth = codes.shape
    scales = e.constant(at) if 0 <= at < len(e.graph.tensors) else None
    if (
        size < 1
        or depth % size
        or scales is None
        or scales.dtype.kind != "f"
        or scales.size != outputs * depth // size
    ):
        raise NotExpressible(f"its weights have a scale for every {size} elements, and the scales do not fit")
    assert rows.shape is not None
    found = hybrid.steps(e, rows, (len(rows.shape) - 1,))
    blocks = (outputs, depth // size, size)
    lifted = packed.unpacked(e, codes.astype(np.int8) + np.int8(packed.LIFT), tensor.name)
    centred = e.op("Sub", e.op("Cast", lifted, to=ir.DataType.FLOAT), e.const(np.float32(packed.LIFT)))
    real = e.op("Mul", e.reshape(centred, blocks), e.const(_bfloat16(scales).reshape(*blocks[:2], 1)))
    bias = real_bias(e, op.inputs, 2)
    seen = e.op("Mul", found.centred, found.scale)
    return e.op("Gemm", seen, e.reshape(real, (outputs, depth)), *([] if bias is None else [bias]), transB=1)


def _bfloat16(numbers: np.ndarray) -> np.ndarray:
    """Rounded to the nearest bfloat16, ties to even, as float32."""
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) & np.uint32(0xFFFF0000)
    return np.asarray(rounded.astype(np.uint32).view(np.float32))
