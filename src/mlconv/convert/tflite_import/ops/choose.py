"""SELECT and SELECT_V2: elements of one tensor or another, by a third."""

from __future__ import annotations

import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.ops.broadcast import common, stored
from mlconv.formats.tflite_graph import Operator

_CHOSEN_AS = {ir.DataType.BOOL: ir.DataType.UINT8, ir.DataType.INT16: ir.DataType.INT32, ir.DataType.UINT16: ir.DataType.INT32,
              ir.DataType.FLOAT16: ir.DataType.FLOAT, ir.DataType.BFLOAT16: ir.DataType.FLOAT}  # fmt: skip
"""onnxruntime's Where has no kernel of these."""


def select(e: Emitter, op: Operator) -> None:
    """A condition of one axis chooses whole slices of the first axis, unless it is as large as the operands."""
    condition, a, b = op.inputs
    if e.rank(condition) == 1 and e.rank(a) > 1:
        _put(
            e,
            op,
            e.reshape(e.stored(condition), (-1, *[1] * (e.rank(a) - 1))),
            e.stored(a),
            e.stored(b),
            channels_first=False,
        )
    else:
        select_v2(e, op)


def select_v2(e: Emitter, op: Operator) -> None:
    """Broadcasts. The codes are moved as they are, whatever they stand for (tflite/kernels/select.cc)."""
    layout = common(e, *op.inputs)
    condition, a, b = (stored(e, layout, index) for index in op.inputs)
    _put(e, op, condition, a, b, channels_first=layout.channels_first)


def _put(
    e: Emitter, op: Operator, condition: ir.Value, a: ir.Value, b: ir.Value, *, channels_first: bool
) -> None:
    assert a.dtype is not None
    own = a.dtype
    through = _CHOSEN_AS.get(own, own)
    if through != own:
        a, b = (e.op("Cast", value, to=through) for value in (a, b))
    value = e.op("Where", condition, a, b)
    e.put(
        op.outputs[0], value if through == own else e.op("Cast", value, to=own), channels_first=channels_first
    )
