"""STABLEHLO_CASE: one of several subgraphs, by number; any other number means the last."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.graph import NotExpressible
from mlconv.convert.tflite_import.importer import read_operators
from mlconv.convert.tflite_import.ops.stablehlo import hand, numbers
from mlconv.formats.tflite_graph import Operator


def case(e: Emitter, op: Operator) -> None:
    """An If in the else branch of another, for each branch but the last."""
    graphs = numbers(op, "branch_subgraph_indices")
    if not graphs:
        raise NotExpressible("it has no branches")
    number = e.op("Cast", e.reshape(e.stored(op.inputs[0]), ()), to=ir.DataType.INT64)
    before = _variables(e)
    for index, value in zip(op.outputs, _chosen(e, e, op, number, graphs, 0), strict=True):
        e.put(index, value)
    if _variables(e) != before:
        raise NotExpressible("a branch of it assigns a variable")


def _chosen(
    e: Emitter, writer: Emitter, op: Operator, number: ir.Value, graphs: Sequence[int], branch: int
) -> list[ir.Value]:
    """What this branch or a later one gives, written where ``writer`` writes."""
    if branch == len(graphs) - 1:
        last, values = _branch(e, op, graphs[branch])
        writer.nodes += last.nodes
        return values
    then, given = _branch(e, op, graphs[branch])
    rest = e.inside(e.graph)
    rest.current = op
    other = _chosen(e, rest, op, number, graphs, branch + 1)
    bodies = [_graph(writer, then.nodes, given), _graph(writer, rest.nodes, other)]
    chosen = writer.op("Equal", number, writer.const(np.int64(branch)))
    made = writer.ops("If", chosen, outputs=len(op.outputs), then_branch=bodies[0], else_branch=bodies[1])
    for value, one, two in zip(made, given, other, strict=True):
        value.type = one.type
        value.shape = one.shape if one.shape == two.shape else None
    return list(made)


def _branch(e: Emitter, op: Operator, number: int) -> tuple[Emitter, list[ir.Value]]:
    graph = e.shared.model.subgraphs[number]
    if (len(graph.inputs), len(graph.outputs)) != (len(op.inputs) - 1, len(op.outputs)):
        raise NotExpressible(f"subgraph {number} takes or gives another number of tensors")
    child = e.inside(graph)
    for given, taken in zip(op.inputs[1:], graph.inputs, strict=True):
        hand(e, given, child, taken)
    read_operators(child, graph.outputs)
    for inner, outer in zip(graph.outputs, op.outputs, strict=True):
        own, wanted = child.codes(inner), e.codes(outer)
        if (own and (own.dtype, own.shift)) != (wanted and (wanted.dtype, wanted.shift)):
            raise NotExpressible("a tensor is quantized on one side of a subgraph's border alone")
    return child, [child.op("Identity", child.stored(index)) for index in graph.outputs]


def _graph(e: Emitter, nodes: Sequence[ir.Node], outputs: Sequence[ir.Value]) -> ir.Graph:
    return ir.Graph([], outputs, nodes=nodes, opset_imports={"": e.target.opset}, name=e.unique("branch"))


def _variables(e: Emitter) -> dict[str, ir.Value | None]:
    return {key: state.output for key, state in e.shared.states.items()}
