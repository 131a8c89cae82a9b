"""LSTM cells in integer arithmetic: 8-bit inputs, weights and outputs, 16-bit gates and cell state (TFLite's 8x8_16).

tensorflow/lite/kernels/lstm_eval.cc, LstmStepInteger8x8_16, on whole numbers, step by step; what depends on the input alone
is computed for all steps at once. Gates are Q3.12 before their activation and Q0.15 after it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import variables
from mlconv.convert.tflite_import.ops.gate_tables import logistic_and_tanh
from mlconv.convert.tflite_import.ops.lstm import CELL, FORGET, INPUT, OUTPUT, Cell
from mlconv.convert.tflite_import.ops.steps import batch_of, scan
from mlconv.convert.tflite_import.ops.whole import INT8, INT16, Whole, multiplier, whole
from mlconv.tensors import Quantization

_GATE_SCALE = 2.0**-12


def integer_lstm(
    e: Emitter, cell: Cell, x: int, sequence: ir.Value, hidden_scale: int, *, together: bool
) -> ir.Value:
    """Run over sequences (time, batch, features) and update the states.

    Args:
        x: The tensor of the input.
        sequence: Its codes as the file has them, in float64.
        hidden_scale: The tensor that bears the scale of what goes into the projection, or of the output.
        together: Whether LiteRT takes all sequences at once: time-major ones.

    Returns:
        (time, batch, outputs): the file's codes in float64.
    """
    if cell.has_norm:
        raise NotExpressible("its layer normalization is in integers")
    if any(index >= 0 for index in cell.auxiliary):
        raise NotExpressible("its auxiliary input is in integers")
    batch = batch_of(e, sequence)
    hidden, memory = (whole(e, variables.variable(e, index, batch)) for index in (cell.hidden, cell.cell))
    step = _Integers(e, cell, x, hidden_scale)
    if together and batch != 1 and step.peephole_limit < step.size:
        raise NotExpressible(
            "it has peepholes and a projection, where LiteRT takes one sequence's weights for another's"
        )
    driven = step.driven(sequence)
    after, given = scan(
        e,
        [hidden.value, memory.value],
        [driven.value],
        lambda states, slices: step.take(states, slices[0]),
        backwards=cell.backwards,
    )
    variables.assign(e, cell.hidden, e.op("Cast", after[0], to=ir.DataType.INT8))
    variables.assign(e, cell.cell, e.op("Cast", after[1], to=ir.DataType.INT16))
    return given[0]


class _Integers:
    """The constants of one cell."""

    def __init__(self, e: Emitter, cell: Cell, x: int, hidden_scale: int) -> None:
        self.e, self.cell = e, cell
        self.input, self.hidden, self.memory = (_affine(e, index) for index in (x, cell.hidden, cell.cell))
        self.inner = _affine(e, hidden_scale)
        self.exponent = round(math.log2(self.memory.scale))
        if 2.0**self.exponent != self.memory.scale or not -15 <= self.exponent <= -9:
            raise NotExpressible("the scale of its cell state is no power of two that a kernel takes")
        self.size = len(_integers(e, cell.weights[FORGET]))
        # The kernel passes the number of outputs for that of cells to its peepholes: the cells beyond have none.
        self.peephole_limit = (
            len(_integers(e, cell.projection))
            if cell.projection >= 0 and cell.peephole[1] >= 0
            else self.size
        )
        if self.peephole_limit > self.size:
            raise NotExpressible(
                "it has peepholes and more outputs than cells, and LiteRT reads behind the peepholes' end"
            )
        logistic, tanh = logistic_and_tanh(e, [3, 15 + self.exponent])
        self.table, self.tanh_of_memory = e.op("Concat", logistic, tanh[3], axis=0), tanh[15 + self.exponent]
        self.table_size = INT16[1] - INT16[0] + 1

    def driven(self, sequence: ir.Value) -> Whole:
        """What the input adds to the gates."""
        biases = [_constant(self.e, index, np.int32) for index in self._of(self.cell.bias)]
        return self._product(sequence, self._of(self.cell.weights), self.input, biases, _GATE_SCALE).clip(
            *INT16
        )

    def take(self, states: list[ir.Value], driven: ir.Value) -> tuple[list[ir.Value], list[ir.Value]]:
        """One step."""
        e, cell = self.e, self.cell
        hidden, memory = Whole(e, states[0]), Whole(e, states[1])
        sums = self._product(hidden.value, self._of(cell.recurrent), self.hidden, None, _GATE_SCALE)
        sums = (sums + Whole(e, driven)).clip(*INT16)
        has_peephole = cell.peephole[1] >= 0
        if not has_peephole:  # all gates at once
            starts = np.repeat([self.table_size if gate == CELL else 0 for gate in cell.gates], self.size)
            sums = sums.looked_up(self.table, starts.astype(np.float64))
        parts = dict(zip(cell.gates, e.split(sums.value, -1, [self.size] * len(cell.gates)), strict=True))

        def opened(gate: int, seen: Whole) -> Whole:
            value = Whole(e, parts[gate])
            if not has_peephole:
                return value
            return (
                value.looked_up(self.table, self.table_size)
                if gate == CELL
                else self._peephole(value, gate, seen).looked_up(self.table)
            )

        forget, candidate = opened(FORGET, memory), opened(CELL, memory)
        given = opened(INPUT, memory) if INPUT in cell.gates else forget * -1 + 32767
        memory = ((forget * memory).divided(15) + (given * candidate).divided(30 + self.exponent)).clip(
            *INT16
        )
        if cell.settings.cell_clip > 0:
            limit = _codes(cell.settings.cell_clip, self.memory, INT16)
            memory = memory.clip(-limit, limit)
        product = opened(OUTPUT, memory) * memory.looked_up(self.tanh_of_memory)
        hidden = self._hidden(product)
        return [hidden.value, memory.value], [hidden.value]

    def _hidden(self, product: Whole) -> Whole:
        scale = multiplier(float(np.float32(2.0**-15 / float(np.float32(self.inner.scale)) * 2.0**-15)))
        value = product.rescaled([scale], 2**30)
        if self.cell.projection < 0:
            return (value + self.inner.zero_point).clip(*INT8)
        # The kernel adds the negated zero point here, and its correction by row sums adds it too.
        operand = Quantization(self.inner.scale, -self.inner.zero_point)
        bias = (
            None
            if self.cell.projection_bias < 0
            else [_constant(self.e, self.cell.projection_bias, np.int32)]
        )
        codes = (value - self.inner.zero_point).clip(*INT8)
        result = (
            self._product(codes.value, [self.cell.projection], operand, bias, self.hidden.scale)
            + self.hidden.zero_point
        ).clip(*INT8)
        if self.cell.settings.projection_clip > 0:
            limit = _codes(self.cell.settings.projection_clip, self.hidden, INT8)
            result = result.clip(-limit, limit)
        return result

    def _peephole(self, value: Whole, gate: int, memory: Whole) -> Whole:
        index = self.cell.peephole[{INPUT: 0, FORGET: 1, OUTPUT: 2}[gate]]
        if index < 0:
            return value
        scale = np.float32(2.0**self.exponent * float(np.float32(_affine(self.e, index).scale)) / _GATE_SCALE)
        weights = _constant(self.e, index, np.int16).astype(np.float64)
        weights[self.peephole_limit :] = 0
        product: Whole = memory * weights
        scaled = product.rescaled([multiplier(float(scale))], 2**30)
        return (scaled + value).clip(*INT16)

    def _product(
        self,
        x: ir.Value,
        weights: Sequence[int],
        operand: Quantization,
        biases: Sequence[np.ndarray] | None,
        scale: float,
    ) -> Whole:
        """The products with several matrices beside each other, in units of ``scale``."""
        arrays = [_integers(self.e, index) for index in weights]
        stacked = np.concatenate(arrays).astype(np.int64)
        offset = -operand.zero_point * stacked.sum(axis=1) + (
            np.concatenate(biases) if biases is not None else 0
        )
        greatest = int((np.abs(stacked).sum(axis=1) * 128 + np.abs(offset)).max(initial=0))
        matrix = self.e.op(
            "Cast", self.e.const(np.ascontiguousarray(stacked.astype(np.int8).T)), to=ir.DataType.DOUBLE
        )
        sums = Whole(self.e, self.e.op("MatMul", x, matrix))
        if offset.any():
            sums = sums + offset.astype(np.float64)
        multipliers = []
        for index, array in zip(weights, arrays, strict=True):
            # In float32 and in this order, as the kernel works it out.
            effective = (
                np.float32(_affine(self.e, index).scale) * np.float32(operand.scale) / np.float32(scale)
            )
            multipliers += [multiplier(float(effective))] * len(array)
        return sums.rescaled(multipliers, greatest)

    def _of(self, tensors: Sequence[int]) -> list[int]:
        return [tensors[gate] for gate in self.cell.gates]


def _codes(limit: float, affine: Quantization, kind: tuple[int, int]) -> int:
    """A limit in units of a scale, cut off and within the type, as the kernel's ``static_cast`` has it."""
    return int(min(float(np.float32(limit) / np.float32(affine.scale)), float(kind[1])))


def _affine(e: Emitter, index: int) -> Quantization:
    """One scale and zero point.

    Raises:
        NotExpressible: The tensor has none, or several.
    """
    affine = e.tensor(index).quantization
    found = affine.per_tensor if affine is not None else None
    if found is None:
        raise NotExpressible(f"`{e.tensor(index).name}` has no scale, or several")
    return found


def _integers(e: Emitter, index: int) -> np.ndarray:
    array = _constant(e, index, np.int8)
    if array.ndim != 2:
        raise NotExpressible("its weights are a diagonal in integers")
    return array


def _constant(e: Emitter, index: int, kind: type[np.generic]) -> np.ndarray:
    array = e.constant(index)
    if array is None or array.dtype != kind:
        raise NotExpressible("its weights are not the constants of 8, 16 and 32 bits that the kernel takes")
    return array
