"""TensorFlow graphs: GraphDef, alone in a frozen ``.pb`` or inside a SavedModel, read without TensorFlow.

Field numbers are those of tensorflow/core/framework/{graph,node_def,function,attr_value,tensor,tensor_shape,types}.proto.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mlconv.formats import Description, ModelFile, mapped, parameters, protobuf
from mlconv.formats.archive import broken
from mlconv.formats.protobuf import BYTES, VARINT, WireError
from mlconv.tensors import Dim, TensorSpec

NODE, LIBRARY, VERSION, VERSIONS = 1, 2, 3, 4  # GraphDef
_WIRE = {NODE: BYTES, LIBRARY: BYTES, VERSION: VARINT, VERSIONS: BYTES}
_IDENTIFIER = re.compile(r"[A-Za-z_][\w>./]*")
_NODE_NAME = re.compile(r"[A-Za-z0-9._][\w.\\/>\-]*")

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "str", 8: "complex64", 9: "int64",
    10: "bool", 11: "int8", 12: "uint8", 13: "int32", 14: "bfloat16", 15: "int16", 16: "uint16", 17: "uint16",
    18: "complex128", 19: "float16", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64", 24: "float8_e5m2",
    25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
_REFERENCE = 100  # DT_FLOAT_REF = 101 and so on: a TF1 variable's own type

_NO_OUTPUT = frozenset(
    [
        "NoOp",
        "Assert",
        "Const",
        "Placeholder",
        "PlaceholderWithDefault",
        "PlaceholderV2",
        "Assign",
        "VarIsInitializedOp",
        "IsVariableInitialized",
        "AssignAdd",
        "AssignSub",
        "Print",
        "VariableV2",
        "Variable",
        "VarHandleOp",
        "AssignVariableOp",
        "SaveV2",
        "RestoreV2",
        "ShardedFilename",
        "MergeV2Checkpoints",
        "HashTableV2",
        "HashTable",
        "InitializeTableFromTextFileV2",
        "InitializeTableFromTextFile",
        "InitializeTableV2",
        "LookupTableImportV2",
        "ScalarSummary",
        "HistogramSummary",
        "MergeSummary",
        "ImageSummary",
    ]
)
"""Operators that end a graph without being what it computes."""

VARIABLES = frozenset({"VarHandleOp", "VariableV2", "Variable"})
_NOT_FROZEN = "it has variables, whose values lie in a checkpoint: freeze it, or save a SavedModel"
_PLACEHOLDERS = ("Placeholder", "PlaceholderWithDefault", "PlaceholderV2")


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a graph. ``data`` is its message, from which attributes are read when asked for."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    data: memoryview

    def attribute(self, name: str) -> memoryview:
        """An AttrValue; empty where it is absent."""
        for entry in protobuf.messages(self.data, 5):
            if protobuf.text(entry, 1) == name:
                return protobuf.message(entry, 2)
        return memoryview(b"")

    def functions(self) -> list[str]:
        """Functions of the library that it calls, by its attributes."""
        found = []
        for entry in protobuf.messages(self.data, 5):
            value = protobuf.message(entry, 2)
            found += [protobuf.text(function, 1) for function in protobuf.messages(value, 10)]
            for functions in protobuf.messages(value, 1):
                found += [protobuf.text(function, 1) for function in protobuf.messages(functions, 9)]
        return found


@dataclass(frozen=True, slots=True)
class Graph:
    """A GraphDef: its own nodes, and the bodies of the functions that they may call."""

    nodes: tuple[Node, ...]
    functions: dict[str, tuple[Node, ...]]

    def all_nodes(self) -> Iterator[Node]:
        yield from self.nodes
        for body in self.functions.values():
            yield from body


def is_graph_def(data: memoryview) -> bool:
    """Whether bytes begin as a GraphDef does, with a node that has a name and an operator. A cut-off one does too."""
    try:
        for number, wire, _, start, end in protobuf.spans(data, cut=True):
            if _WIRE.get(number) != wire:
                return False
            if number == NODE:
                return _is_node(data[start:end])
    except WireError:
        return False
    return False


def read(data: memoryview) -> Graph:
    """A GraphDef.

    Raises:
        WireError: It is cut off or damaged.
    """
    functions = {}
    for function in protobuf.messages(protobuf.message(data, LIBRARY), 1):
        functions[protobuf.text(function, 1, 1)] = tuple(
            node(body) for body in protobuf.messages(function, 3)
        )
    return Graph(tuple(node(found) for found in protobuf.messages(data, NODE)), functions)


def node(data: memoryview) -> Node:
    name = kind = ""
    inputs: list[str] = []
    for number, _, value in protobuf.fields(data):
        if isinstance(value, memoryview) and number in (1, 2, 3):
            text = protobuf.decoded(value)
            if number == 1:
                name = text
            elif number == 2:
                kind = text
            else:
                inputs.append(text)
    return Node(name, kind, tuple(inputs), data)


def operators(graph: Graph) -> dict[str, int]:
    """Every node by its operator, those of all functions of the library included."""
    return dict(sorted(Counter(found.kind for found in graph.all_nodes()).items()))


def shape(data: memoryview) -> tuple[Dim, ...] | None:
    """A TensorShapeProto; None where the rank is unknown."""
    if protobuf.integer(data, 3):
        return None
    sizes = [protobuf.integer(dim, 1) for dim in protobuf.messages(data, 2)]
    return tuple(size if size >= 0 else None for size in sizes)


def dtype(number: int) -> str:
    """The numpy name of a DataType; ``resource`` and ``variant`` for what is no array."""
    return DTYPES.get(number - _REFERENCE if number > _REFERENCE else number, "variant")


def placeholders(graph: Graph) -> tuple[TensorSpec, ...]:
    """What a frozen graph takes. A placeholder without a shape has an unknown rank.

    ``PlaceholderWithDefault`` is an input too: it can be fed.
    """
    saver = saver_nodes(graph.nodes)
    return tuple(
        _placeholder(found)
        for found in graph.nodes
        if found.kind in _PLACEHOLDERS and found.name not in saver
    )


def outputs(graph: Graph) -> tuple[TensorSpec, ...]:
    """What a frozen graph computes, as far as that can be inferred: nodes that nothing consumes.

    Shapes are not stored between operators: None. The dtype is the node's attribute ``T`` or ``dtype``, else float32.
    """
    consumed = {producer(reference) for found in graph.nodes for reference in found.inputs}
    saver = saver_nodes(graph.nodes)
    return tuple(
        TensorSpec(found.name, None, _computed_dtype(found))
        for found in graph.nodes
        if found.name not in consumed and found.kind not in _NO_OUTPUT and found.name not in saver
    )


def producer(reference: str) -> str:
    """The node that an input names: without ``^`` of a control edge and ``:1`` of an output's number."""
    return reference.removeprefix("^").partition(":")[0]


def saver_nodes(nodes: Iterable[Node]) -> frozenset[str]:
    """Nodes that TF1's Saver adds, in a name scope of its own: ``save/...``, ``save_1/...``."""
    return frozenset(found.name for found in nodes if re.match(r"save(_\d+)?/", found.name))


def reached(graph: Graph, roots: Iterable[str], functions: Iterable[str] = ()) -> list[Node]:
    """Nodes that some nodes of the graph depend on, and the bodies of the functions that any of them calls."""
    by_name = {node.name: node for node in graph.nodes}
    rest: list[Node] = [by_name[name] for name in roots if name in by_name]
    called, seen = list(functions), {node.name for node in rest}
    found: list[Node] = []
    entered: set[str] = set()
    while rest or called:
        while rest:
            node = rest.pop()
            found.append(node)
            called += _calls(node, graph)
            for name in map(producer, node.inputs):
                if name in by_name and name not in seen:
                    seen.add(name)
                    rest.append(by_name[name])
        name = called.pop() if called else ""
        if name in graph.functions and name not in entered:
            entered.add(name)
            for node in graph.functions[name]:
                found.append(node)
                called += _calls(node, graph)
    return found


def _calls(node: Node, graph: Graph) -> list[str]:
    return [*node.functions(), *([node.kind] if node.kind in graph.functions else [])]


def parameters_of(nodes: Iterable[Node]) -> int:
    """Elements of float variables and constants, and of narrow integer ones; a constant's one is a coefficient."""
    weights: dict[str, TensorSpec] = {}
    for found in nodes:
        if found.kind == "Const":
            value = protobuf.message(found.attribute("value"), 8)
            sizes, number = shape(protobuf.message(value, 2)), protobuf.integer(value, 1)
        elif found.kind in VARIABLES:
            sizes = shape(protobuf.message(found.attribute("shape"), 7))
            number = protobuf.integer(found.attribute("dtype"), 6)
        else:
            continue
        # several handles of one variable share a name
        shared = protobuf.text(found.attribute("shared_name"), 2) if found.kind in VARIABLES else ""
        if sizes or (sizes == () and found.kind in VARIABLES):
            weights[shared or str(id(found))] = TensorSpec(found.name, sizes, dtype(number))
    return parameters.count(weights.values())


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What a frozen graph says of itself.

    Raises:
        Corrupt: It is cut off or damaged.
    """
    del signature  # a frozen graph has none
    path = mapped.path_of(model)
    try:
        graph = read(mapped.read_only(path))
        versions = protobuf.message(mapped.read_only(path), VERSIONS)
        return Description(
            "tf-graph", inputs=placeholders(graph), outputs=outputs(graph), operators=operators(graph),
            parameters=parameters_of(graph.nodes), bytes=path.stat().st_size,
            metadata={"graph_def_version": str(protobuf.integer(versions, 1))} if versions else {},
            notes=(_NOT_FROZEN,) if any(found.kind in VARIABLES for found in graph.nodes) else (),
        )  # fmt: skip
    except WireError as error:
        raise broken(path, f"it is no whole GraphDef: {error}") from error


def check(path: Path) -> None:
    """Walk the whole graph without keeping it.

    Raises:
        Corrupt: It is cut off or damaged.
    """
    try:
        for number, wire, value in protobuf.fields(mapped.read_only(path)):
            if _WIRE.get(number) != wire or (
                isinstance(value, memoryview) and number == NODE and not _is_node(value)
            ):
                raise WireError(f"field {number} has no place in a GraphDef")
    except WireError as error:
        raise broken(path, f"it is no whole GraphDef: {error}") from error


def _is_node(data: memoryview) -> bool:
    name = kind = None
    for number, wire, _, start, end in protobuf.spans(data, cut=True):
        if number in (1, 2) and wire == BYTES:
            text = protobuf.decoded(data[start:end])
            name, kind = (text, kind) if number == 1 else (name, text)
            if number == 2:
                break
        elif number > 7:
            return False
    return bool(name and kind and _NODE_NAME.fullmatch(name) and _IDENTIFIER.fullmatch(kind))


def _placeholder(found: Node) -> TensorSpec:
    attribute = found.attribute("shape")
    told = shape(protobuf.message(attribute, 7)) if protobuf.first(attribute, 7) is not None else None
    if told == () and found.kind == "Placeholder" and not found.attribute("_output_shapes"):
        told = None  # before TensorFlow 1.0 an unknown shape was written as an empty one
    return TensorSpec(found.name, told, dtype(protobuf.integer(found.attribute("dtype"), 6)))


def _computed_dtype(found: Node) -> str:
    for name in ("dtype", "DstT", "out_type", "Tout", "T"):
        number = protobuf.integer(found.attribute(name), 6)
        if number:
            return dtype(number)
    return "float32"
