"""Walks over an ONNX model: every graph, node and tensor, wherever it stands."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

DTYPES: dict[int, str] = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "str", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bfloat16",
    17: "float8_e4m3fn", 18: "float8_e4m3fnuz", 19: "float8_e5m2", 20: "float8_e5m2fnuz", 21: "uint4", 22: "int4",
    23: "float4_e2m1fn", 24: "float8_e8m0fnu", 25: "uint2", 26: "int2", 27: "float6_e2m3fn", 28: "float6_e3m2fn",
}  # fmt: skip
"""TensorProto.DataType to numpy's name, or to that of ml_dtypes."""

MAX_RANK = 64  # numpy's own limit
DEFAULT_DOMAINS = ("", "ai.onnx")


def dtype(code: int) -> str:
    return DTYPES.get(code, "unknown")


def is_float(code: int) -> bool:
    return "float" in dtype(code)


def operator(node: onnx.NodeProto) -> str:
    """``Conv``; ``com.microsoft::FusedConv`` outside the default domain."""
    return node.op_type if node.domain in DEFAULT_DOMAINS else f"{node.domain}::{node.op_type}"


def elements(dims: Iterable[int]) -> int:
    """The product of a tensor's sizes; 0 where one is negative, or where no tensor could have that many axes."""
    sizes = list(dims)
    return 0 if len(sizes) > MAX_RANK or any(size < 0 for size in sizes) else math.prod(sizes)


def subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The bodies of If, Loop, Scan and whatever else carries graphs."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def nested(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and every body within it, outer before inner."""
    yield graph
    for node in graph.node:
        for body in subgraphs(node):
            yield from nested(body)


def graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    """The main graph, and the bodies in it and in the model's functions."""
    yield from nested(model.graph)
    for function in model.functions:
        for node in function.node:
            for body in subgraphs(node):
                yield from nested(body)


def nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """Every node of every graph and of every function's body."""
    for graph in graphs(model):
        yield from graph.node
    for function in model.functions:
        yield from function.node


def constants(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """Tensors that Constant nodes hold, each with the name of the node's output."""
    for node in nodes(model):
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield node.output[0], attribute.t


def initializers(graph: onnx.GraphProto) -> dict[str, onnx.TensorProto]:
    """A graph's own initializers by name; of a sparse one its values, with the dense sizes."""
    import onnx

    found = {tensor.name: tensor for tensor in graph.initializer}
    for sparse in graph.sparse_initializer:
        dense = onnx.TensorProto(name=sparse.values.name, data_type=sparse.values.data_type, dims=sparse.dims)
        found[dense.name] = dense
    return found


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the file holds, used or not: these may point to other files."""
    training = [part for info in model.training_info for part in (info.initialization, info.algorithm)]
    for graph in [*graphs(model), *(inner for part in training for inner in nested(part))]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in graph.node:
            yield from _held(node.attribute)
    for function in model.functions:
        yield from _held(function.attribute_proto)
        for node in function.node:
            yield from _held(node.attribute)


def _held(attributes: Iterable[onnx.AttributeProto]) -> Iterator[onnx.TensorProto]:
    for attribute in attributes:
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in ([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []) + list(
            attribute.sparse_tensors
        ):
            yield from (sparse.values, sparse.indices)
