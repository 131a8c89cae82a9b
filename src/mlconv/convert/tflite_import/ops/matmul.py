"""Matrix products: FULLY_CONNECTED and BATCH_MATMUL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import Dims, NotExpressible
from mlconv.convert.tflite_import.ops import blockwise, hybrid, sixteen
from mlconv.convert.tflite_import.ops.rescale import rescaled, twice_away, twice_up
from mlconv.convert.tflite_import.ops.weights import (
    Weights,
    along,
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
from mlconv.formats.tflite_graph import Operator, Tensor


def fully_connected(e: Emitter, op: Operator) -> None:
    """Weights (O, K); the input's elements are rows of K, whatever its axes are."""
    assert_clamp(op)
    assert_operands(e, op, 2)
    if op.integer("weights_format"):
        raise NotExpressible("its weights are stored shuffled")
    outputs, depth = e.tensor(op.inputs[1]).shape
    if blockwise.is_blockwise(e, op.inputs[1]):
        made = blockwise.product(e, op, _rows(e, op.inputs[0], depth))
        e.put(op.outputs[0], _spread(e, op, e.held(op.outputs[0], made, op.activation), outputs))
        return
    weights = constant_weights(e, op.inputs[1], np.transpose, 1, 0)
    rows = _rows(e, op.inputs[0], depth)
    if e.codes(op.inputs[0]) is None:
        held = e.held(op.outputs[0], _real_product(e, op, rows, weights), op.activation)
    else:
        held = _integer_rows(e, op, rows, weights)
    # reshaped as codes, so that onnxruntime sees the product between its own DequantizeLinear and QuantizeLinear
    e.put(op.outputs[0], _spread(e, op, held, outputs))


def _rows(e: Emitter, x: int, depth: int) -> ir.Value:
    """The input's codes or numbers as (rows, depth)."""
    dims = e.dims(x)
    flat = dims is not None and len(dims) > 2 and all(dim == 1 for dim in dims[1:-1]) and dims[-1] == depth
    form = e.real if e.codes(x) is None else e.stored
    stored = form(x, channels_first=flat and e.layout(x))
    if dims is not None and len(dims) == 2 and dims[1] in (depth, None):
        return stored
    return e.reshape(stored, _row_shape(dims, depth))


def _row_shape(dims: Dims | None, depth: int) -> tuple[int, int]:
    """-1 for the rows but where that would be ambiguous: among no elements."""
    if dims is not None and 0 in dims:
        return math.prod(dim for dim in dims if isinstance(dim, int)) // max(depth, 1), depth
    return -1, depth


def _real_product(e: Emitter, op: Operator, rows: ir.Value, weights: Weights | None) -> ir.Value:
    """(rows, outputs) of float numbers, before the fused activation."""
    bias = real_bias(e, op.inputs, 2)
    if weights is not None and weights.scales is not None:
        is_symmetric = _is_odd(e.tensor(op.inputs[1])) and not op.flag("asymmetric_quantize_inputs")
        made = hybrid.product(e, rows, weights, is_symmetric=is_symmetric)
        return made if bias is None else e.op("Add", made, bias)
    if weights is not None:
        return _gemm(e, rows, numbers(e, weights), bias)
    if e.codes(op.inputs[1]) is not None:
        raise NotExpressible("its weights are computed, and only they are quantized")
    return _gemm(e, rows, e.real(op.inputs[1]), bias, transB=1)


def _integer_rows(e: Emitter, op: Operator, rows: ir.Value, weights: Weights | None) -> ir.Value:
    """(rows, outputs) as the output's codes.

    XNNPACK takes constant weights and biases, int8 weights whose zero point is 0 and uint8 ones whose quantized dimension is;
    TFLite's own kernel takes the others, and rounds otherwise (tried on LiteRT 2.3).
    """
    codes = e.codes(op.inputs[0])
    assert codes is not None
    if weights is not None and weights.scales is None:
        raise NotExpressible("its input is quantized, and its weights are not")
    if weights is not None and codes.dtype == "float32":
        return sixteen.multiply(e, op, rows, weights)
    assert_quantized(e, op.outputs[0])
    tensor = e.tensor(op.inputs[1])
    computes_bias = len(op.inputs) > _BIAS and op.inputs[_BIAS] >= 0 and e.constant(op.inputs[_BIAS]) is None
    if weights is None or computes_bias or _is_odd(tensor):
        return _by_fixed_point(e, op, rows, weights)
    kernel, zero_points = eight_bit(e, weights)
    assert weights.scales is not None
    bias = integer_bias(e, op.inputs, _BIAS, np.float32(codes.scale) * weights.scales)
    made = _gemm(e, e.dequantize(rows, codes), dequantized(e, weights, kernel, zero_points), bias)
    return e.held(op.outputs[0], made, op.activation)


_BIAS = 2


def _is_odd(weights: Tensor) -> bool:
    """Whether XNNPACK leaves constant weights to TFLite's own kernel."""
    affine = weights.quantization
    if affine is None or (weights.dtype == "int4" and weights.shape[-1] % 2):  # a byte of two rows
        return True
    return bool(affine.axis if weights.dtype == "uint8" else any(affine.zero_point))


def _by_fixed_point(e: Emitter, op: Operator, rows: ir.Value, weights: Weights | None) -> ir.Value:
    """The sums by MatMulInteger, which gives them as they are."""
    codes, others = e.codes(op.inputs[0]), e.codes(op.inputs[1])
    assert codes is not None
    if codes.dtype == "float32" or (others is not None and others.dtype == "float32"):
        raise NotExpressible("its weights are computed, and an operand is int16")
    if weights is not None and weights.scales is not None:
        array, zeros = eight_bit(e, weights)
        second, scales = initializer(e, weights, array), weights.scales
    elif others is not None:
        e.shared.eight_bit += 1
        second, scales = (
            e.op("Transpose", e.stored(op.inputs[1]), perm=(1, 0)),
            np.array([others.scale], np.float32),
        )
        zeros = np.array([others.zero_point], others.dtype)
    else:
        raise NotExpressible("its weights are computed, and only its input is quantized")
    sums = e.op(
        "MatMulInteger",
        rows,
        second,
        e.const(np.array(codes.zero_point, codes.dtype)),
        e.const(along(zeros, 0, 1)),
    )
    if len(op.inputs) > _BIAS and op.inputs[_BIAS] >= 0:
        sums = e.op("Add", sums, e.stored(op.inputs[_BIAS]))
    return rescaled(e, op, e.op("Cast", sums, to=ir.DataType.DOUBLE), codes.scale, scales, twice_up, 1, 2)


def _gemm(e: Emitter, rows: ir.Value, weights: ir.Value, bias: ir.Value | None, **flags: Any) -> ir.Value:
    return e.op("Gemm", rows, weights, *([] if bias is None else [bias]), **flags)


def _spread(e: Emitter, op: Operator, value: ir.Value, outputs: int) -> ir.Value:
    """(rows, outputs) with the input's leading axes, where the operator keeps them."""
    if not op.flag("keep_num_dims"):
        return value
    dims = e.dims(op.inputs[0])
    if dims is None:
        raise NotExpressible("the number of its input's axes is known only while the model runs")
    leading = [dim if isinstance(dim, int) else -1 for dim in dims[:-1]]
    if leading.count(-1) < 2 and not (-1 in leading and 0 in leading):
        return e.reshape(value, (*leading, outputs))
    sizes = e.op("Slice", e.op("Shape", e.stored(op.inputs[0])), e.ints(0), e.ints(len(leading)))
    return e.op("Reshape", value, e.op("Concat", sizes, e.ints(outputs), axis=0))


def batch_matmul(e: Emitter, op: Operator) -> None:
    """``adj_x`` and ``adj_y`` transpose the last two axes; leading ones broadcast."""
    x, y, out = op.inputs[0], op.inputs[1], op.outputs[0]
    codes, others = e.codes(x), e.codes(y)
    if codes is not None and codes.dtype == "float32":
        left, second = (
            _adjoint(e, e.stored(x), flag=op.flag("adj_x")),
            _adjoint(e, e.stored(y), flag=op.flag("adj_y")),
        )
        e.put(out, sixteen.batch_multiply(e, left, second, op))
        return
    if (codes is None) != (others is None) and not _is_weight(e, y):
        raise NotExpressible("only one of its operands is quantized")
    right = (
        constant_weights(e, y, _turned if op.flag("adj_y") else np.asarray, e.rank(y) - 1, -1)
        if _is_weight(e, y)
        else None
    )
    if codes is not None:
        e.put(out, _integer_product(e, op, right))
    elif right is not None:
        e.put_real(out, hybrid.product(e, _adjoint(e, e.real(x), flag=op.flag("adj_x")), right))
    else:
        e.put_real(
            out,
            e.op(
                "MatMul",
                *(
                    _adjoint(e, e.real(index), flag=op.flag(flag))
                    for index, flag in ((x, "adj_x"), (y, "adj_y"))
                ),
            ),
        )


def _integer_product(e: Emitter, op: Operator, right: Weights | None) -> ir.Value:
    """The output's codes. Operands are transposed as codes, so that onnxruntime sees the product between DequantizeLinears.

    XNNPACK takes the operator where the second operand's zero point is 0, and TFLite's own kernel, which rounds otherwise,
    where it is not (tried on LiteRT 2.3).
    """
    x, y, out = op.inputs[0], op.inputs[1], op.outputs[0]
    assert_quantized(e, out)
    codes, others, left = e.codes(x), e.codes(y), _adjoint(e, e.stored(x), flag=op.flag("adj_x"))
    assert codes is not None
    if right is not None and not _is_odd(e.tensor(y)):
        return e.held(
            out, e.op("MatMul", e.dequantize(left, codes), dequantized(e, right, *eight_bit(e, right)))
        )
    if others is None:
        raise NotExpressible("its second operand has several scales and zero points")
    e.shared.eight_bit += 1
    second = _adjoint(e, e.stored(y), flag=op.flag("adj_y"))
    if others.zero_point == others.shift or e.tensor(y).dtype != "int8":
        return e.held(out, e.op("MatMul", e.dequantize(left, codes), e.dequantize(second, others)))
    zeros = [e.const(np.array(told.zero_point, told.dtype)) for told in (codes, others)]
    sums = e.op("Cast", e.op("MatMulInteger", left, second, *zeros), to=ir.DataType.DOUBLE)
    return rescaled(e, op, sums, codes.scale, np.array([others.scale]), twice_away)


def _is_weight(e: Emitter, index: int) -> bool:
    return e.constant(index) is not None and e.tensor(index).dtype not in ("float32", "float16")


def _turned(array: np.ndarray) -> np.ndarray:
    return np.swapaxes(array, -1, -2)


def _adjoint(e: Emitter, value: ir.Value, *, flag: bool) -> ir.Value:
    """The last two axes changed round."""
    if not flag:
        return value
    if value.shape is None:
        raise NotExpressible("the number of its operand's axes is known only while the model runs")
    rank = len(value.shape)
    return e.op("Transpose", value, perm=(*range(rank - 2), rank - 1, rank - 2))
