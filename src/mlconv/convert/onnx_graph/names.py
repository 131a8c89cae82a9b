"""Names of operators, values and weights: kept where they mean something, made from the structure where they are noise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, TypeAlias

import onnx_ir as ir

from mlconv.convert.onnx_graph.walk import bodies, subgraphs

Names: TypeAlias = Literal["kept", "structural"]
"""``kept``: names that the source or its exporter gave stay, and are made unique. ``structural``: operators are called
after their type and number (``Conv_3``), values and weights after their operator (``Conv_3_output_0``, ``Conv_3_W``)."""


def rename(model: ir.Model, names: Names) -> None:
    """Give every operator, value and weight of a model, in place, a name that nothing else in it has.

    Inputs and outputs of the main graph keep theirs, and so do functions. Names depend on the order of the operators.
    """
    for graph in bodies(model):
        namer = _Namer(model.graph.opset_imports, structural=names == "structural")
        _apply(model.graph, dict(namer.named(graph)))


class _Namer:
    def __init__(self, opset_imports: dict[str, int], *, structural: bool) -> None:
        self._opset_imports, self._structural = opset_imports, structural
        self._nodes: dict[str, int] = {}
        self._values: dict[str, int] = {}
        self._named: set[ir.Value] = set()
        self._count: Counter[str] = Counter()

    def named(self, graph: ir.Graph | ir.Function) -> Iterator[tuple[ir.Value, str]]:
        """Values with their new names; operators are renamed on the way."""
        self._named |= {*graph.inputs, *graph.outputs}
        self._values |= dict.fromkeys((value.name or "" for value in self._named), 0)
        yield from self._walk(graph)

    def _walk(self, graph: ir.Graph | ir.Function) -> Iterator[tuple[ir.Value, str]]:
        for node in graph:
            node.name = self._node_name(node)
            for index, value in enumerate(node.inputs):
                if value is not None and value.is_initializer():
                    yield from self._value(
                        value, f"{node.name}_{_operand_name(node, index, self._opset_imports)}"
                    )
            for inner in subgraphs(node):
                for index, value in enumerate(inner.inputs):
                    yield from self._value(value, f"{node.name}_input_{index}")
                yield from self._walk(inner)
                for value in inner.outputs:
                    yield from self._value(value, f"{node.name}_constant")
            for index, value in enumerate(node.outputs):
                if value.name or value.uses():
                    yield from self._value(value, f"{node.name}_output_{index}")

    def _node_name(self, node: ir.Node) -> str:
        if node.name and not self._structural:
            return _free(node.name, self._nodes)
        self._count[node.op_type] += 1
        return _free(f"{node.op_type}_{self._count[node.op_type] - 1}", self._nodes)

    def _value(self, value: ir.Value, structural: str) -> Iterator[tuple[ir.Value, str]]:
        if value not in self._named:
            self._named.add(value)
            yield value, _free(structural if self._structural or not value.name else value.name, self._values)


def _free(wanted: str, taken: dict[str, int]) -> str:
    """The wanted name, or the first with a number after it that nothing has; taken from then on.

    Args:
        taken: Names, and the last number that was tried behind each.
    """
    name, number = wanted, taken.get(wanted, 0)
    while name in taken:
        number += 1
        name = f"{wanted}_{number}"
    taken.setdefault(name, 0)
    taken[wanted] = number
    return name


def _operand_name(node: ir.Node, index: int, opset_imports: dict[str, int]) -> str:
    """What the operator's specification calls an operand: ``W``, ``axes``."""
    import onnx

    version = node.version or opset_imports.get(node.domain, 1)
    if not onnx.defs.has(node.op_type, max_inclusive_version=version, domain=node.domain):
        return f"input_{index}"
    formal = onnx.defs.get_schema(node.op_type, version, node.domain).inputs
    if index < len(formal) - 1 or (
        index < len(formal) and formal[index].option != formal[index].option.Variadic
    ):
        return str(formal[index].name)
    return f"{formal[-1].name}_{index - len(formal) + 1}" if formal else f"input_{index}"


def _apply(graph: ir.Graph, names: dict[ir.Value, str]) -> None:
    """All at once: weights leave their graphs while they are renamed, since two may swap names."""
    holders = [(holder, list(holder.initializers.values())) for holder in (graph, *graph.subgraphs())]
    for holder, _ in holders:
        holder.initializers.clear()
    for value, name in names.items():
        tensor, value.const_value = (
            value.const_value,
            None,
        )  # renaming a value renames its tensor, which clones share
        value.name = name
        value.const_value = tensor
    for holder, values in holders:
        for value in values:
            holder.initializers.add(value)
