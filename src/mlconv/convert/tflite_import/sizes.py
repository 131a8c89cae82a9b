"""Arithmetic on sizes that are known: what follows from constants alone is a constant.

A file for any batch or any picture computes sizes from SHAPE; where `--input` fixes them, reshapes and resizes behind that
arithmetic have constant sizes only if its results are worked out here. Operators that move values do so themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.formats.tflite_graph import Operator

_KINDS = frozenset(
    [
        "ADD",
        "SUB",
        "MUL",
        "FLOOR_DIV",
        "FLOOR_MOD",
        "MAXIMUM",
        "MINIMUM",
        "NEG",
        "ABS",
        "SIGN",
        "SQUARE",
        "CAST",
        "FLOOR",
        "CEIL",
        "SUM",
        "REDUCE_PROD",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "REDUCE_ANY",
        "REDUCE_ALL",
        "EQUAL",
        "NOT_EQUAL",
        "LESS",
        "LESS_EQUAL",
        "GREATER",
        "GREATER_EQUAL",
        "LOGICAL_AND",
        "LOGICAL_OR",
        "LOGICAL_NOT",
        "SELECT",
        "SELECT_V2",
    ]
)
"""What sizes are computed with. DIV is none: onnx's evaluator rounds the quotient of integers another way."""

_NUMBERS = frozenset({"int32", "int64", "float32", "bool"})
_ELEMENTS = 64


def work_out(e: Emitter, op: Operator, nodes: Sequence[ir.Node]) -> None:
    """Make the output of an operator a constant where its operands are small ones.

    Args:
        nodes: What the operator wrote; they are evaluated, and lose their users.
    """
    if (
        op.kind not in _KINDS
        or not nodes
        or len(op.outputs) != 1
        or e.tensor(op.outputs[0]).dtype not in _NUMBERS
    ):
        return
    partly = e.elements(op.inputs[0]) if op.kind == "CAST" else None
    if partly is not None and partly.dtype == object and e.tensor(op.outputs[0]).dtype in ("int32", "int64"):
        e.put_elements(op.outputs[0], partly)
        return
    for index in op.inputs:
        tensor = e.graph.tensor(index)
        if tensor is None or tensor.dtype not in _NUMBERS or tensor.is_sparse:
            return
        array = e.constant(index)
        if array is None or array.size > _ELEMENTS:
            return
    result = _evaluated(nodes, e.stored(op.outputs[0]), e.target.opset)
    if result is not None and result.size <= _ELEMENTS:
        e.put(op.outputs[0], e.const(result))
        e.put_constant(op.outputs[0], result)


def _evaluated(nodes: Sequence[ir.Node], wanted: ir.Value, opset: int) -> np.ndarray | None:
    """The value of nodes that read constants alone, by onnx's own evaluator; None where they do not."""
    from onnx.reference import ReferenceEvaluator

    own = {value for node in nodes for value in node.outputs}
    outer = {value for node in nodes for value in node.inputs if value is not None and value not in own}
    if wanted not in own or any(value.const_value is None for value in outer):
        return None
    constants = [
        onnx.numpy_helper.from_array(value.const_value.numpy(), value.name)
        for value in outer
        if value.const_value is not None
    ]
    made = onnx.helper.make_value_info(wanted.name or "", onnx.TypeProto())
    graph = onnx.helper.make_graph(
        [ir.serde.serialize_node(node) for node in nodes], "sizes", [], [made], constants
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    (result,) = ReferenceEvaluator(model).run(None, {})
    return np.asarray(result)
