"""What an artifact computes in, as far as its file tells: the widest rounding decides the tolerance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlconv.checks.parity import Computes
from mlconv.formats import ModelFile

if TYPE_CHECKING:
    import onnx


def computes_in(model: ModelFile) -> Computes:
    """``fp16`` or ``bf16`` where an ONNX graph holds tensors of that kind; ``fp32`` for everything else."""
    if model.format != "onnx" or model.path is None:
        return "fp32"
    import onnx

    return computes_in_graph(onnx.load(model.path, load_external_data=False))


def computes_in_graph(model: onnx.ModelProto) -> Computes:
    """The same for a model in memory: weights, casts and constants of every graph in it."""
    import onnx

    found = set()
    for graph in _graphs(model):
        found |= {tensor.data_type for tensor in graph.initializer}
        found |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)}
        for node in graph.node:
            for attribute in node.attribute:
                if node.op_type == "Cast" and attribute.name == "to":
                    found.add(attribute.i)
                elif attribute.HasField("t"):
                    found.add(attribute.t.data_type)
    if onnx.TensorProto.BFLOAT16 in found:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in found else "fp32"


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    rest = [model.graph]
    while rest:
        graph = rest.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                rest += [attribute.g] if attribute.HasField("g") else []
                rest += attribute.graphs
