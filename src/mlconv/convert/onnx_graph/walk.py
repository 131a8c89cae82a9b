"""Walking `onnx_ir` graphs, subgraphs included, in an order that depends on the structure alone."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir


def operands(node: ir.Node) -> list[ir.Value]:
    """What an operator reads: its inputs, then what its subgraphs take from outside or inside, in their order."""
    found = [value for value in node.inputs if value is not None]
    for inner in subgraphs(node):
        for nested in inner:
            found += operands(nested)
        found.extend(inner.outputs)
    return found


def bodies(model: ir.Model) -> list[ir.Graph | ir.Function]:
    """The main graph and the model-local functions."""
    return [model.graph, *model.functions.values()]


def subgraphs(node: ir.Node) -> Iterator[ir.Graph]:
    """The graphs in an operator's attributes, by the attribute's name."""
    for _, attribute in sorted(node.attributes.items()):
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()
