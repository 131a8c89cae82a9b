"""Recurrent operators: how each lays out its operands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import codes_of
from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.ops import rnn
from mlconv.convert.tflite_import.ops.lstm import ABSENT, Cell, Settings, lstm
from mlconv.convert.tflite_import.ops.lstm_int8 import integer_lstm
from mlconv.convert.tflite_import.ops.steps import batch_first, time_first
from mlconv.convert.tflite_import.ops.whole import whole
from mlconv.formats.tflite_graph import Operator


def unidirectional_sequence_lstm(e: Emitter, op: Operator) -> None:
    time_major = op.flag("time_major")
    _lstm(
        e, op, together=time_major,
        sequenced=lambda value: time_first(e, value, time_major=time_major),
        restored=lambda value: batch_first(e, value, time_major=time_major),
    )  # fmt: skip


def lstm_cell(e: Emitter, op: Operator) -> None:
    """LSTM: one step, (batch, features); the full kernel, or the basic one of five operands."""
    if op.integer("kernel_type") == 1:
        rnn.basic_lstm(e, op)
        return
    _lstm(
        e, op, together=True,
        sequenced=lambda value: e.op("Unsqueeze", value, e.ints(0)), restored=lambda value: e.op("Squeeze", value, e.ints(0)),
    )  # fmt: skip


def _lstm(
    e: Emitter, op: Operator, *, together: bool, sequenced: Callable[[ir.Value], ir.Value], restored: Callable[[ir.Value], ir.Value]
) -> None:  # fmt: skip
    """Operands: tensorflow/lite/kernels/lstm_shared.h, with four of layer normalization behind the twenty.

    Args:
        together: Whether LiteRT takes a step of all sequences at once.
        sequenced: Gives (time, batch, features) of the input's own form.
        restored: The inverse.
    """
    inputs = _padded(op, 24)
    cell = Cell(
        inputs[1:5], inputs[5:9], inputs[9:12], inputs[12:16], inputs[16], inputs[17], inputs[18], inputs[19],
        norm=_none_or_all(inputs[20:24]), settings=_settings(op),
    )  # fmt: skip
    if e.tensor(inputs[0]).dtype == "float32":
        e.put(op.outputs[0], restored(lstm(e, cell, sequenced(e.real(inputs[0])))))
        return
    _assert_8x8_16(e, op, cell)
    sequence = sequenced(_file_codes(e, inputs[0]))
    made = integer_lstm(e, cell, inputs[0], sequence, op.intermediates[4], together=together)
    _put_codes(e, op.outputs[0], restored(made))


def bidirectional_sequence_lstm(e: Emitter, op: Operator) -> None:
    """Operands: tensorflow/lite/kernels/bidirectional_sequence_lstm.cc.

    An auxiliary input without weights of its own is what runs backwards.
    """
    inputs = _padded(op, 48)
    common = _settings(op)
    forwards = Cell(inputs[1:5], inputs[5:9], inputs[9:12], inputs[12:16], inputs[16], inputs[17], inputs[35], inputs[36],
                    common, auxiliary=inputs[40:44])  # fmt: skip
    backwards = Cell(inputs[18:22], inputs[22:26], inputs[26:29], inputs[29:33], inputs[33], inputs[34], inputs[37], inputs[38],
                     common, auxiliary=inputs[44:48], backwards=True)  # fmt: skip
    _assert_float(e, inputs[0])
    time_major = op.flag("time_major")
    x = time_first(e, e.real(inputs[0]), time_major=time_major)
    auxiliary = time_first(e, e.real(inputs[39]), time_major=time_major) if inputs[39] >= 0 else None
    linked = auxiliary is not None and inputs[41] >= 0
    first = lstm(e, forwards, x, auxiliary if linked else None)
    second = lstm(
        e, backwards, x if linked or auxiliary is None else auxiliary, auxiliary if linked else None
    )
    _put_both(e, op, [first, second], time_major=time_major)


def unidirectional_sequence_rnn(e: Emitter, op: Operator) -> None:
    x, weights, recurrent, bias, state = _padded(op, 5)
    _assert_float(e, x)
    time_major = op.flag("time_major")
    cell = rnn.Cell(
        weights, recurrent, bias, state, op.activation, asymmetric=op.flag("asymmetric_quantize_inputs")
    )
    made = rnn.rnn(e, cell, time_first(e, e.real(x), time_major=time_major))
    e.put(op.outputs[0], batch_first(e, made, time_major=time_major))


def bidirectional_sequence_rnn(e: Emitter, op: Operator) -> None:
    inputs = _padded(op, 12)
    _assert_float(e, inputs[0])
    time_major, activation, asymmetric = (
        op.flag("time_major"),
        op.activation,
        op.flag("asymmetric_quantize_inputs"),
    )
    if time_major and e.tensor(inputs[1]).dtype != "float32":
        raise NotExpressible(
            "its weights are 8-bit and its sequences time-major, which LiteRT runs through once for each step"
        )
    forwards = rnn.Cell(
        inputs[1], inputs[2], inputs[3], inputs[4], activation, asymmetric=asymmetric, auxiliary=inputs[10]
    )
    backwards = rnn.Cell(inputs[5], inputs[6], inputs[7], inputs[8], activation, asymmetric=asymmetric, auxiliary=inputs[11],
                         backwards=True)  # fmt: skip
    x = time_first(e, e.real(inputs[0]), time_major=time_major)
    auxiliary = time_first(e, e.real(inputs[9]), time_major=time_major) if inputs[9] >= 0 else None
    linked = auxiliary is not None and inputs[10] >= 0
    first = rnn.rnn(e, forwards, x, auxiliary if linked else None)
    # Batch-major, LiteRT's kernel runs backwards over the input itself, whatever the auxiliary one is there for.
    behind = auxiliary if time_major and auxiliary is not None and not linked else x
    second = rnn.rnn(e, backwards, behind, auxiliary if linked else None)
    _put_both(e, op, [first, second], time_major=time_major)


def rnn_cell(e: Emitter, op: Operator) -> None:
    """RNN: one step, (batch, features)."""
    x, weights, recurrent, bias, state = _padded(op, 5)
    _assert_float(e, x)
    cell = rnn.Cell(
        weights, recurrent, bias, state, op.activation, asymmetric=op.flag("asymmetric_quantize_inputs")
    )
    made = rnn.rnn(e, cell, e.op("Unsqueeze", e.real(x), e.ints(0)))
    e.put(op.outputs[0], e.op("Squeeze", made, e.ints(0)))


def _settings(op: Operator) -> Settings:
    return Settings(
        op.activation, _real(op, "cell_clip"), _real(op, "proj_clip"), op.flag("asymmetric_quantize_inputs")
    )


def _real(op: Operator, name: str) -> float:
    value = op.option(name, 0.0)
    return float(value) if isinstance(value, (int, float)) else 0.0


def _put_both(e: Emitter, op: Operator, made: Sequence[ir.Value], *, time_major: bool) -> None:
    if op.flag("merge_outputs"):
        merged = e.op("Concat", *made, axis=-1)
        e.put(op.outputs[0], batch_first(e, merged, time_major=time_major))
        return
    for index, value in zip(op.outputs, made, strict=True):
        e.put(index, batch_first(e, value, time_major=time_major))


def _padded(op: Operator, count: int) -> tuple[int, ...]:
    """Operands, with those that the file leaves out at the end as absent.

    Raises:
        NotExpressible: There are more than are known.
    """
    if len(op.inputs) > count:
        raise NotExpressible(f"it has {len(op.inputs)} operands, and {count} are known")
    return (*op.inputs, *((-1,) * (count - len(op.inputs))))


def _none_or_all(norm: Sequence[int]) -> Sequence[int]:
    return ABSENT if norm[1] < 0 else norm


def _assert_float(e: Emitter, index: int) -> None:
    if e.tensor(index).dtype != "float32":
        raise NotExpressible(f"its input is {e.tensor(index).dtype}, and LiteRT takes float32")


def _assert_8x8_16(e: Emitter, op: Operator, cell: Cell) -> None:
    """Refuse integers other than those of the one kernel that is known."""
    types = [e.tensor(index).dtype for index in (op.inputs[0], cell.hidden, cell.cell)]
    if types != ["int8", "int8", "int16"] or codes_of(e.tensor(op.inputs[0])) is None:
        raise NotExpressible(
            f"its input and states are {', '.join(types)}, and the known kernel takes int8, int8 and int16 with scales"
        )
    if len(op.intermediates) != 5:
        raise NotExpressible(
            f"it has {len(op.intermediates)} intermediate tensors, and the known kernel's scales stand in five"
        )


def _file_codes(e: Emitter, index: int) -> ir.Value:
    """The codes as the file has them, in float64.

    onnxruntime 1.31.1 dies of a Transpose, a Cast to float64 and a MatMul in a row: the subtraction stands between them.
    """
    codes = codes_of(e.tensor(index))
    assert codes is not None  # an int8 input with a scale
    return (whole(e, e.stored(index)) - codes.shift).value


def _put_codes(e: Emitter, index: int, value: ir.Value) -> None:
    """The file's codes, as numbers of any type."""
    codes = codes_of(e.tensor(index))
    if codes is None or codes.dtype != "uint8":
        raise NotExpressible(f"its output is {e.tensor(index).dtype} without a scale")
    value = e.op("Cast", value, to=ir.DataType.FLOAT)
    shifted = e.op("Add", value, e.const(np.float32(codes.shift))) if codes.shift else value
    e.put(index, e.op("Cast", shifted, to=ir.DataType.UINT8))
