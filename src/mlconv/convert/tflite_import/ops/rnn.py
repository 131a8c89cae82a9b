"""Recurrent cells without gates, and TFLite's first LSTM kernel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import variables
from mlconv.convert.tflite_import.ops.gate_tables import logistic_and_tanh
from mlconv.convert.tflite_import.ops.lstm import activated
from mlconv.convert.tflite_import.ops.products import product, vector
from mlconv.convert.tflite_import.ops.steps import batch_of, scan
from mlconv.convert.tflite_import.ops.whole import INT16, Whole, multiplier, whole
from mlconv.formats.tflite_graph import Operator


@dataclass(frozen=True, slots=True)
class Cell:
    """One direction: ``state = activation(W x + A auxiliary + R state + bias)``; tensors, -1 where one is absent."""

    weights: int
    recurrent: int
    bias: int
    state: int
    activation: str
    asymmetric: bool = False
    backwards: bool = False
    auxiliary: int = -1


def rnn(e: Emitter, cell: Cell, x: ir.Value, auxiliary: ir.Value | None = None) -> ir.Value:
    """Run over sequences (time, batch, features), update the state, and give (time, batch, units)."""
    state = variables.variable(e, cell.state, batch_of(e, x))
    driven = product(e, x, [cell.weights], asymmetric=cell.asymmetric)
    if auxiliary is not None and cell.auxiliary >= 0:
        driven = e.op("Add", driven, product(e, auxiliary, [cell.auxiliary], asymmetric=cell.asymmetric))
    driven = e.op("Add", driven, e.const(vector(e, cell.bias, 1).astype(np.float32)))

    def step(states: list[ir.Value], slices: list[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        sums = e.op("Add", slices[0], product(e, states[0], [cell.recurrent], asymmetric=cell.asymmetric))
        after = activated(e, sums, cell.activation)
        return [after], [after]

    after, given = scan(e, [state], [driven], step, backwards=cell.backwards)
    variables.assign(e, cell.state, after[0])
    return given[0]


def basic_lstm(e: Emitter, op: Operator) -> None:
    """Operands: x, hidden, weights, bias, cell; results: hidden, cell, and two that are working memory.

    optimized_ops::LstmCell (tensorflow/lite/kernels/internal/optimized/optimized_ops.h): gates in the order input, cell,
    forget, output. The kernel writes the results back into the operands, which are then states or the caller's to feed.
    """
    x, hidden, _, _, memory = op.inputs
    taken = [_state(e, index) for index in (hidden, memory)]
    size = e.tensor(memory).shape[-1]
    run = _basic_uint8 if e.tensor(x).dtype == "uint8" else _basic_float
    results = run(e, op, taken[0], taken[1], size)
    for index, state, value in zip(op.outputs, (hidden, memory), results, strict=False):
        e.put(index, value)
        if e.tensor(state).is_variable:
            is_int16 = e.tensor(state).dtype == "int16"
            variables.assign(e, state, e.op("Cast", value, to=ir.DataType.INT16) if is_int16 else value)


def _state(e: Emitter, index: int) -> ir.Value:
    """A state in the form that tensors of its type have in the graph."""
    if not e.tensor(index).is_variable:
        return e.stored(index)
    batch = e.tensor(index).shape[0]
    value = variables.variable(e, index, batch)
    return e.op("Cast", value, to=ir.DataType.FLOAT) if e.tensor(index).dtype == "int16" else value


def _basic_float(
    e: Emitter, op: Operator, hidden: ir.Value, memory: ir.Value, size: int
) -> tuple[ir.Value, ir.Value]:
    joined = e.op("Concat", e.real(op.inputs[0]), hidden, axis=-1)
    sums = product(e, joined, [op.inputs[2]], asymmetric=False)
    sums = e.op("Add", sums, e.const(vector(e, op.inputs[3], 1).astype(np.float32)))
    given, candidate, forget, output = e.split(sums, -1, [size] * 4)
    kept = e.op("Mul", e.op("Sigmoid", forget), memory)
    memory = e.op("Add", e.op("Mul", e.op("Sigmoid", given), e.op("Tanh", candidate)), kept)
    return e.op("Mul", e.op("Sigmoid", output), e.op("Tanh", memory)), memory


def _basic_uint8(
    e: Emitter, op: Operator, hidden: ir.Value, memory: ir.Value, size: int
) -> tuple[ir.Value, ir.Value]:
    """optimized_ops::LstmCell<4>: gates are Q3.12, the cell state Q4.11, activations of 8 bits 128 + 128 * real."""
    weights, bias, affine = (
        e.constant(op.inputs[2]),
        e.constant(op.inputs[3]),
        e.tensor(op.inputs[2]).quantization,
    )
    scales = e.tensor(op.inputs[3]).quantization
    if weights is None or bias is None or affine is None or scales is None or len(affine.scale) != 1:
        raise NotExpressible("its weights are computed while the model runs, or have no scale")
    if e.tensor(op.inputs[4]).dtype != "int16" or weights.dtype != np.uint8:
        raise NotExpressible("its weights and cell state are not uint8 and int16")
    centred = weights.astype(np.int64) - affine.zero_point[0]
    greatest = int((np.abs(centred).sum(axis=1) * 128 + np.abs(bias.astype(np.int64))).max(initial=0))
    joined = whole(e, e.op("Concat", e.stored(op.inputs[0]), hidden, axis=-1)) - 128
    matrix = e.op("Cast", e.const(np.ascontiguousarray(centred.T.astype(np.int16))), to=ir.DataType.DOUBLE)
    sums = Whole(e, e.op("MatMul", joined.value, matrix)) + bias.astype(np.float64)
    gates = sums.rescaled([multiplier(4096 * scales.scale[0])], greatest, upwards=True).clip(*INT16)
    given, candidate, forget, output = (Whole(e, value) for value in e.split(gates.value, -1, [size] * 4))
    logistic, tanh = logistic_and_tanh(e, [3, 4])
    fresh = given.looked_up(logistic).high(candidate.looked_up(tanh[3])).divided(4)
    kept = forget.looked_up(logistic).high(whole(e, memory))
    after = (fresh + kept).clip(*INT16)
    made = output.looked_up(logistic).high(after.looked_up(tanh[4])).divided(8).clip(-128, 127) + 128
    return e.op("Cast", made.value, to=ir.DataType.UINT8), e.op("Cast", after.value, to=ir.DataType.FLOAT)
