"""Matrix products of recurrent kernels: float weights, or 8-bit ones with operands quantized while the model runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.formats.tflite_graph import Affine


def matrix(e: Emitter, index: int) -> np.ndarray:
    """Constant weights (outputs, inputs) as stored; a diagonal that is stored as one axis is written out.

    Raises:
        NotExpressible: They are computed while the model runs.
    """
    found = e.constant(index)
    if found is None:
        raise NotExpressible("its weights are computed while the model runs")
    return np.diag(found) if found.ndim == 1 else found


def vector(e: Emitter, index: int, size: int) -> np.ndarray:
    """A constant of one axis, 8-bit weights as the float32 that they stand for; zeros where it is absent.

    Raises:
        NotExpressible: It is computed while the model runs.
    """
    if index < 0:
        return np.zeros(size, np.float32)
    found, affine = e.constant(index), e.tensor(index).quantization
    if found is None:
        raise NotExpressible("its weights are computed while the model runs")
    if found.dtype in (np.int8, np.uint8) and affine is not None:
        return np.float32(affine.scale[0]) * found.view(np.int8).astype(np.float32)
    return found


def product(e: Emitter, x: ir.Value, weights: Sequence[int], *, asymmetric: bool) -> ir.Value:
    """``x @ W.T`` for the matrices of several gates beside each other."""
    arrays = [matrix(e, index) for index in weights]
    if all(array.dtype in (np.int8, np.uint8) for array in arrays):
        return _hybrid(
            e, x, arrays, [e.tensor(index).quantization for index in weights], asymmetric=asymmetric
        )
    if not all(array.dtype in (np.float16, np.float32) for array in arrays):
        raise NotExpressible("its weights are of several types")
    stacked = np.concatenate(arrays).T
    value = e.const(stacked)
    return e.op(
        "MatMul", x, value if stacked.dtype == np.float32 else e.op("Cast", value, to=ir.DataType.FLOAT)
    )


def _hybrid(
    e: Emitter,
    x: ir.Value,
    arrays: Sequence[np.ndarray],
    affines: Sequence[Affine | None],
    *,
    asymmetric: bool,
) -> ir.Value:
    """Each row of ``x`` is quantized to 8 bits by its own range; the sums of products are exact.

    tensorflow/lite/kernels/internal/reference/portable_tensor_utils.cc, SymmetricQuantizeFloats and
    AsymmetricQuantizeFloats; uint8 weights are read as int8 there too.
    """
    scales = [affine.scale if affine is not None else () for affine in affines]
    if any(len(scale) != 1 for scale in scales):
        raise NotExpressible("its 8-bit weights have no scale, or several")
    codes, factor, offset = _asymmetric(e, x) if asymmetric else _symmetric(e, x)
    stacked = np.concatenate([array.view(np.int8) for array in arrays])
    if 127 * int(np.abs(stacked.astype(np.int64)).sum(axis=1).max(initial=0)) * 2 >= 2**24:
        raise NotExpressible("its rows are so long that float32 does not hold their sums")
    wide = e.op("Cast", e.const(np.ascontiguousarray(stacked.T)), to=ir.DataType.FLOAT)
    sums = e.op("MatMul", codes, wide)
    if offset is not None:
        rows = stacked.astype(np.int64).sum(axis=1).astype(np.float32)
        sums = e.op("Sub", sums, e.op("Mul", offset, e.const(rows)))
    each = np.concatenate(
        [np.full(len(array), scale[0], np.float32) for array, scale in zip(arrays, scales, strict=True)]
    )
    return e.op("Mul", sums, e.op("Mul", factor, e.const(each)))


def _symmetric(e: Emitter, x: ir.Value) -> tuple[ir.Value, ir.Value, None]:
    """Codes, their scale, and no zero point."""
    reach = e.reduce("ReduceMax", e.op("Abs", x), [-1], keepdims=True)
    safe = e.op("Where", e.op("Equal", reach, e.const(np.float32(0))), e.const(np.float32(1)), reach)
    steps = e.op("Mul", x, e.op("Div", e.const(np.float32(127)), safe))
    codes = e.op("Clip", _away(e, steps), e.const(np.float32(-127)), e.const(np.float32(127)))
    return codes, e.op("Div", safe, e.const(np.float32(127))), None


def _asymmetric(e: Emitter, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """Codes, their scale and zero point, by float64 as the kernel has it; where a row is zero, so are its codes."""
    zero = e.const(np.float32(0))
    low, high = (
        e.op("Cast", e.op(pick, e.reduce(kind, x, [-1], keepdims=True), zero), to=ir.DataType.DOUBLE)
        for pick, kind in (("Min", "ReduceMin"), ("Max", "ReduceMax"))
    )
    width = e.op("Sub", high, low)
    empty = e.op("Equal", width, e.const(np.float64(0)))
    scale = e.op("Div", e.op("Where", empty, e.const(np.float64(255)), width), e.const(np.float64(255)))
    below, above = e.op("Div", low, scale), e.op("Div", high, scale)
    from_low = e.op(
        "Less", e.op("Sub", e.const(np.float64(128)), below), e.op("Add", e.const(np.float64(127)), above)
    )
    point = e.op(
        "Where",
        from_low,
        e.op("Sub", e.const(np.float64(-128)), below),
        e.op("Sub", e.const(np.float64(127)), above),
    )
    nudged = e.op("Clip", _away(e, point), e.const(np.float64(-128)), e.const(np.float64(127)))
    narrow, offset = e.op("Cast", scale, to=ir.DataType.FLOAT), e.op("Cast", nudged, to=ir.DataType.FLOAT)
    offset = e.op("Where", e.op("Cast", empty, to=ir.DataType.BOOL), zero, offset)
    steps = e.op("Add", offset, e.op("Mul", x, e.op("Div", e.const(np.float32(1)), narrow)))
    return e.op("Clip", _away(e, steps), e.const(np.float32(-128)), e.const(np.float32(127))), narrow, offset


def _away(e: Emitter, value: ir.Value) -> ir.Value:
    """To the nearest whole number, halves away from zero: C's ``round``."""
    half = e.const(np.array(0.5, np.float64 if value.dtype == ir.DataType.DOUBLE else np.float32))
    return e.op("Mul", e.op("Sign", value), e.op("Floor", e.op("Add", e.op("Abs", value), half)))
