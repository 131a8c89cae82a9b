"""What is wrong with a graph's wiring and operators, every fault of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlconv.convert.onnx_graph.file import nodes, subgraphs

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto


def unknown_operators(proto: ModelProto) -> dict[tuple[str, str], int]:
    """Domain, name and count of operators that neither onnx, the installed onnxruntime nor the model itself defines.

    An operator of the default domain counts as unknown where it came only after the opset that the model imports.
    """
    import onnx

    own = {(function.domain, function.name) for function in proto.functions}
    imports = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    runtime = _runtime_operators()
    count: Counter[tuple[str, str]] = Counter()
    for node in nodes(proto):
        domain = _domain(node.domain)
        version = imports.get(domain, 1)
        known = onnx.defs.has(node.op_type, max_inclusive_version=version, domain=domain)
        if not known and (domain, node.op_type) not in own and (node.domain, node.op_type) not in own:
            count[domain, node.op_type] += (domain, node.op_type) not in runtime or domain == ""
    return {key: times for key, times in sorted(count.items()) if times}


def _runtime_operators() -> frozenset[tuple[str, str]]:
    try:
        from mlconv.runners.onnx_session import onnxruntime_operators
    except ImportError:
        return frozenset()
    return onnxruntime_operators()


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def graph_faults(proto: ModelProto) -> Iterator[str]:
    """Values that nothing makes or that are made twice or too late, and names that two operators share."""
    yield from _faults(proto.graph, frozenset())
    for function in proto.functions:
        yield from _wiring(function, set(function.input), f"function `{function.name}`")


def _faults(graph: GraphProto, outer: frozenset[str]) -> Iterator[str]:
    available = {put.name for put in graph.input} | {tensor.name for tensor in graph.initializer}
    available |= {sparse.values.name for sparse in graph.sparse_initializer}
    yield from (f"two inputs are called `{name}`" for name in _doubled(put.name for put in graph.input))
    yield from (
        f"two initializers are called `{name}`"
        for name in _doubled(tensor.name for tensor in graph.initializer)
    )
    yield from (f"two operators are called `{name}`" for name in _doubled(node.name for node in graph.node))
    yield from _wiring(graph, available | outer, "the graph")
    made = {name for node in graph.node for name in node.output}
    for output in graph.output:
        if output.name not in made | available | outer:
            yield f"output `{output.name}` is made by nothing"


def _wiring(graph: GraphProto | FunctionProto, available: set[str], where: str) -> Iterator[str]:
    later = {name for node in graph.node for name in node.output}
    for node in graph.node:
        for name in node.input:
            if name and name not in available:
                what = "is made only after it is used" if name in later else "is made by nothing"
                yield f"`{name}`, an input of {_shown(node)}, {what}"
        for inner in subgraphs(node):
            yield from _faults(inner, frozenset(available))
        for name in node.output:
            if name and name in available:
                yield f"`{name}`, an output of {_shown(node)}, is defined twice in {where}"
            available.add(name)


def _doubled(names: Iterator[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if name and count > 1]


def _shown(node: NodeProto) -> str:
    return f"`{node.name}` ({node.op_type})" if node.name else f"a {node.op_type} without a name"
