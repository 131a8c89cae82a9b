"""SVDF: a product of low rank over features and over the last steps, which are its state."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import variables
from mlconv.convert.tflite_import.ops.products import product, vector
from mlconv.convert.tflite_import.ops.steps import batch_of
from mlconv.convert.tflite_import.ops.whole import INT8, INT16, Whole, multiplier, whole
from mlconv.formats.tflite_graph import Operator


def svdf(e: Emitter, op: Operator) -> None:
    """Operands: x (batch, features), weights (filters, features), weights (filters, memory), bias, state (batch, filters * memory).

    tensorflow/lite/kernels/internal/reference/svdf.h: every step pushes ``x @ W.T`` into the memory of each filter, and a
    unit is the sum of its ``rank`` filters.
    """
    x, features, times, bias, state = op.inputs
    found, rank = e.constant(times), op.integer("rank")
    if found is None:
        raise NotExpressible("its weights are computed while the model runs")
    filters, memory = found.shape
    if rank < 1 or filters % rank:
        raise NotExpressible(f"{filters} filters are no multiple of its rank {rank}")
    if e.tensor(x).dtype == "float32":
        pushed = product(e, e.real(x), [features], asymmetric=op.flag("asymmetric_quantize_inputs"))
        kept = _pushed(e, state, pushed, filters, memory, ir.DataType.FLOAT)
        sums = _units(e, kept, vector(e, times, 0).astype(np.float32), rank)
        if bias >= 0:
            sums = e.op("Add", sums, e.const(vector(e, bias, 0).astype(np.float32)))
        e.put_real(op.outputs[0], sums, activation=op.activation)
        return
    _integers(e, op, found)


def _integers(e: Emitter, op: Operator, times: np.ndarray) -> None:
    """EvalIntegerSVDF; its activation is RELU, which the output's own zero point stands for."""
    x, features, _, bias, state = op.inputs
    weights = e.constant(features)
    types = [e.tensor(index).dtype for index in (x, features, op.inputs[2], state, op.outputs[0])]
    if types != ["int8", "int8", "int16", "int16", "int8"] or weights is None:
        raise NotExpressible(
            f"its operands are {', '.join(types)}, and LiteRT takes int8, int8, int16, int16 and int8"
        )
    if op.activation != "RELU":
        raise NotExpressible("LiteRT takes RELU alone as its activation in integers")
    scales = {index: _scale(e, index) for index in (x, features, op.inputs[2], state, op.outputs[0])}
    codes, out = e.codes(x), e.codes(op.outputs[0])
    assert codes is not None  # their scales were read
    assert out is not None
    # onnxruntime 1.31.1 dies of a Transpose, a Cast to float64 and a MatMul in a row; what is subtracted is never zero.
    centred = whole(e, e.stored(x)) - codes.shift
    rows = weights.astype(np.int64).sum(axis=1) * (codes.zero_point - codes.shift)
    sums = Whole(e, e.op("MatMul", centred.value, _double(e, np.ascontiguousarray(weights.T)))) - rows.astype(
        np.float64
    )
    first = multiplier(float(scales[x] * scales[features] / scales[state]))
    greatest = int(np.abs(weights.astype(np.int64)).sum(axis=1).max(initial=0)) * 255
    pushed = sums.rescaled([first], greatest).clip(*INT16)
    kept = _pushed(e, state, pushed.value, times.shape[0], times.shape[1], ir.DataType.DOUBLE)
    total = Whole(e, _units(e, kept, times, op.integer("rank")))
    added = e.constant(bias)
    if added is not None:
        total = total + added.astype(np.float64)
    second = multiplier(float(scales[state] * scales[op.inputs[2]] / scales[op.outputs[0]]))
    result = (total.rescaled([second], 2**31) + (out.zero_point - out.shift)).clip(*INT8) + out.shift
    e.put(op.outputs[0], e.op("Cast", result.value, to=ir.DataType.UINT8))


def _pushed(
    e: Emitter, state: int, newest: ir.Value, filters: int, memory: int, kind: ir.DataType
) -> ir.Value:
    """The memory (batch, filters, memory) after this step."""
    batch = batch_of(e, e.op("Unsqueeze", newest, e.ints(0)))
    before = variables.variable(e, state, batch)
    own = before.dtype
    before = e.reshape(before if own == kind else e.op("Cast", before, to=kind), (-1, filters, memory))
    after = e.op(
        "Concat",
        e.op("Slice", before, e.ints(1), e.ints(memory), e.ints(2)),
        e.op("Unsqueeze", newest, e.ints(2)),
        axis=2,
    )
    flat = e.reshape(after, (-1, filters * memory))
    variables.assign(e, state, flat if own == kind else e.op("Cast", flat, to=ir.DataType.INT16))
    return after


def _units(e: Emitter, kept: ir.Value, times: np.ndarray, rank: int) -> ir.Value:
    """Each filter's memory times its weights, summed for each unit."""
    weights = e.const(times) if times.dtype == np.float32 else _double(e, times)
    filters, memory = times.shape
    products = e.reshape(e.op("Mul", kept, weights), (-1, filters // rank, rank * memory))
    return e.reduce("ReduceSum", products, [-1], keepdims=False)


def _double(e: Emitter, array: np.ndarray) -> ir.Value:
    return e.op("Cast", e.const(array), to=ir.DataType.DOUBLE)


def _scale(e: Emitter, index: int) -> np.float32:
    affine = e.tensor(index).quantization
    if affine is None or affine.per_tensor is None:
        raise NotExpressible(f"`{e.tensor(index).name}` has no scale, or several")
    return np.float32(affine.scale[0])
