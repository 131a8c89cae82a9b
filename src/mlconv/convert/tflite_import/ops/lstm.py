"""LSTM cells in float arithmetic, with float weights or 8-bit ones (TFLite's hybrid kernels).

tensorflow/lite/kernels/lstm_eval.cc: gates in the order input, forget, cell, output; without an input gate (CIFG) it is
1 - forget.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import variables
from mlconv.convert.tflite_import.ops.products import matrix, product, vector
from mlconv.convert.tflite_import.ops.steps import batch_of, scan

INPUT, FORGET, CELL, OUTPUT = range(4)
ABSENT = (-1, -1, -1, -1)


@dataclass(frozen=True, slots=True)
class Settings:
    """An operator's options.

    Attributes:
        activation: Of the cell gate and of the output.
        cell_clip, projection_clip: Zero for none.
        asymmetric: How hybrid kernels quantize their operands.
    """

    activation: str
    cell_clip: float
    projection_clip: float
    asymmetric: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One direction of an LSTM: the tensors of its gates, -1 where one is absent.

    Attributes:
        weights, recurrent, bias, norm, auxiliary: Of the input, forget, cell and output gate.
        peephole: Of the input, forget and output gate.
        hidden, cell: Variable tensors.
    """

    weights: Sequence[int]
    recurrent: Sequence[int]
    peephole: Sequence[int]
    bias: Sequence[int]
    projection: int
    projection_bias: int
    hidden: int
    cell: int
    settings: Settings
    backwards: bool = False
    norm: Sequence[int] = ABSENT
    auxiliary: Sequence[int] = ABSENT

    @property
    def gates(self) -> tuple[int, ...]:
        """The gates that have weights: without the input gate in CIFG."""
        return (INPUT, FORGET, CELL, OUTPUT) if self.weights[INPUT] >= 0 else (FORGET, CELL, OUTPUT)

    @property
    def has_norm(self) -> bool:
        return self.norm[FORGET] >= 0


def lstm(e: Emitter, cell: Cell, x: ir.Value, auxiliary: ir.Value | None = None) -> ir.Value:
    """Run over sequences (time, batch, features) and update the states.

    Returns:
        (time, batch, outputs).
    """
    if cell.settings.activation == "NONE":  # tensor_utils::ApplyActivationToVector returns without a copy
        raise NotExpressible(
            "without an activation LiteRT's kernel reads what its working memory happens to hold"
        )
    batch = batch_of(e, x)
    hidden, memory = (variables.variable(e, index, batch) for index in (cell.hidden, cell.cell))
    if auxiliary is None and _is_plain(e, cell):
        y, hidden, memory = _operator(e, cell, x, hidden, memory)
    else:
        y, hidden, memory = _loop(e, cell, x, auxiliary, hidden, memory)
    variables.assign(e, cell.hidden, hidden)
    variables.assign(e, cell.cell, memory)
    return y


def _is_plain(e: Emitter, cell: Cell) -> bool:
    """Whether it is what ONNX's own LSTM operator computes."""
    arrays = [e.constant(index) for index in (*cell.weights, *cell.recurrent) if index >= 0]
    floats = all(
        array is not None and array.dtype in (np.float16, np.float32) and array.ndim == 2 for array in arrays
    )
    return (
        floats
        and cell.projection < 0
        and not cell.has_norm
        and cell.settings.cell_clip <= 0
        and cell.settings.activation in ("TANH", "RELU")
    )


def _operator(
    e: Emitter, cell: Cell, x: ir.Value, hidden: ir.Value, memory: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """ONNX's LSTM, whose gates are input, output, forget, cell.

    CIFG is expressed by an input gate with the forget gate's weights negated: 1 - sigmoid(z) = sigmoid(-z).
    """
    coupled = INPUT not in cell.gates
    weights = _onnx_gates(
        [matrix(e, index) for index in cell.weights[FORGET if coupled else INPUT :]], coupled
    )
    recurrent = _onnx_gates(
        [matrix(e, index) for index in cell.recurrent[FORGET if coupled else INPUT :]], coupled
    )
    size = weights.shape[0] // 4
    bias = _onnx_gates(
        [vector(e, index, size) for index in cell.bias[FORGET if coupled else INPUT :]], coupled
    )
    operands: list[ir.Value | None] = [
        x, _narrow(e, weights), _narrow(e, recurrent), _narrow(e, np.concatenate([bias, np.zeros_like(bias)])), None,
        e.op("Unsqueeze", hidden, e.ints(0)), e.op("Unsqueeze", memory, e.ints(0)),
    ]  # fmt: skip
    if cell.peephole[1] >= 0:
        forget, output = (vector(e, index, size) for index in cell.peephole[1:])
        given = -forget if coupled else vector(e, cell.peephole[0], size)
        operands.append(_narrow(e, np.concatenate([given, output, forget])))
    activation = {"TANH": "Tanh", "RELU": "Relu"}[cell.settings.activation]
    direction = "reverse" if cell.backwards else "forward"
    y, last, memory = e.ops(
        "LSTM",
        *operands,
        outputs=3,
        hidden_size=size,
        direction=direction,
        activations=["Sigmoid", activation, activation],
    )
    return e.op("Squeeze", y, e.ints(1)), e.op("Squeeze", last, e.ints(0)), e.op("Squeeze", memory, e.ints(0))


def _onnx_gates(parts: Sequence[np.ndarray], coupled: bool) -> np.ndarray:
    given, forget, cell, output = (-parts[0], *parts) if coupled else parts
    return np.concatenate([given, output, forget, cell])


def _narrow(e: Emitter, array: np.ndarray) -> ir.Value:
    """With an axis of directions before it; float16 as the file has it."""
    value = e.const(array[None])
    return value if array.dtype == np.float32 else e.op("Cast", value, to=ir.DataType.FLOAT)


def _loop(
    e: Emitter, cell: Cell, x: ir.Value, auxiliary: ir.Value | None, hidden: ir.Value, memory: ir.Value
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """A Scan over the steps. What comes of the input is computed for all steps at once."""
    gates = cell.gates
    driven = product(e, x, [cell.weights[gate] for gate in gates], asymmetric=cell.settings.asymmetric)
    if auxiliary is not None and cell.auxiliary[FORGET] >= 0:
        more = product(
            e, auxiliary, [cell.auxiliary[gate] for gate in gates], asymmetric=cell.settings.asymmetric
        )
        driven = e.op("Add", driven, more)
    found = e.constant(cell.weights[FORGET])
    assert found is not None  # `product` has looked
    size = found.shape[0]
    if not cell.has_norm:
        driven = e.op(
            "Add",
            driven,
            e.const(np.concatenate([_wide(vector(e, cell.bias[gate], size)) for gate in gates])),
        )

    def step(states: list[ir.Value], slices: list[ir.Value]) -> tuple[list[ir.Value], list[ir.Value]]:
        after = _step(e, cell, size, slices[0], states[0], states[1])
        return after, after[:1]

    after, given = scan(e, [hidden, memory], [driven], step, backwards=cell.backwards)
    return given[0], after[0], after[1]


def _step(
    e: Emitter, cell: Cell, size: int, driven: ir.Value, hidden: ir.Value, memory: ir.Value
) -> list[ir.Value]:
    gates = cell.gates
    sums = e.op(
        "Add",
        driven,
        product(e, hidden, [cell.recurrent[gate] for gate in gates], asymmetric=cell.settings.asymmetric),
    )
    parts = dict(zip(gates, e.split(sums, -1, [size] * len(gates)), strict=True))

    def opened(gate: int, seen: ir.Value) -> ir.Value:
        value, peephole = (
            parts[gate],
            -1 if gate == CELL else cell.peephole[{INPUT: 0, FORGET: 1, OUTPUT: 2}[gate]],
        )
        if peephole >= 0:
            value = e.op("Add", value, e.op("Mul", seen, e.const(_wide(vector(e, peephole, size)))))
        if cell.has_norm:
            value = _normalized(
                e,
                value,
                e.const(_wide(vector(e, cell.norm[gate], size))),
                e.const(_wide(vector(e, cell.bias[gate], size))),
            )
        return activated(e, value, cell.settings.activation) if gate == CELL else e.op("Sigmoid", value)

    forget, candidate = opened(FORGET, memory), opened(CELL, memory)
    given = opened(INPUT, memory) if INPUT in gates else e.op("Sub", e.const(np.float32(1)), forget)
    memory = e.op("Add", e.op("Mul", forget, memory), e.op("Mul", given, candidate))
    memory = _clipped(e, memory, cell.settings.cell_clip)
    hidden = e.op("Mul", opened(OUTPUT, memory), activated(e, memory, cell.settings.activation))
    if cell.projection >= 0:
        hidden = product(e, hidden, [cell.projection], asymmetric=cell.settings.asymmetric)
        if cell.projection_bias >= 0:
            hidden = e.op("Add", hidden, e.const(_wide(vector(e, cell.projection_bias, 0))))
        hidden = _clipped(e, hidden, cell.settings.projection_clip)
    return [hidden, memory]


def _normalized(e: Emitter, value: ir.Value, weights: ir.Value, bias: ir.Value) -> ir.Value:
    """MeanStddevNormalization (tensorflow/lite/kernels/internal/reference/portable_tensor_utils.cc)."""
    centred = e.op("Sub", value, e.reduce("ReduceMean", value, [-1], keepdims=True))
    variance = e.reduce("ReduceMean", e.op("Mul", centred, centred), [-1], keepdims=True)
    deviation = e.op("Sqrt", e.op("Add", variance, e.const(np.float32(1e-8))))
    return e.op("Add", e.op("Mul", e.op("Div", centred, deviation), weights), bias)


def activated(e: Emitter, value: ir.Value, activation: str) -> ir.Value:
    """tensor_utils::ApplyActivationToVector."""
    if activation == "SIGN_BIT":
        raise NotExpressible("its activation SIGN_BIT is no function of a recurrent kernel")
    return e.clamped(value, activation)


def _clipped(e: Emitter, value: ir.Value, limit: float) -> ir.Value:
    return (
        value if limit <= 0 else e.op("Clip", value, e.const(np.float32(-limit)), e.const(np.float32(limit)))
    )


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32)
