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
    """The same for a model in memory. A cast there and back, or a weight that nothing uses, computes nothing."""
    import onnx

    found: set[int] = set()
    for graph in _graphs(model):
        narrow = {tensor.name: tensor.data_type for tensor in graph.initializer}
        narrow |= {value.name: value.type.tensor_type.elem_type for value in graph.input}
        for node in graph.node:
            made = [
                a.i if a.name == "to" else a.t.data_type for a in node.attribute if a.name in ("to", "value")
            ]
            if node.op_type in ("Cast", "Constant") and made:
                narrow[node.output[0]] = made[0]
            else:
                found |= {narrow[name] for name in node.input if name in narrow}
    if onnx.TensorProto.BFLOAT16 in found:
        return "bf16"
    return "fp16" if onnx.TensorProto.FLOAT16 in found else "fp32"


def asked_for(source: ModelFile, precision: str, dtypes: set[str]) -> Computes:
    """What an artifact may compute in: what the user asked for, or what its source does already.

    Args:
        dtypes: Of the source's inputs and outputs.
    """
    if precision == "fp16" or "float16" in dtypes:
        return "fp16"
    return "bf16" if "bfloat16" in dtypes else computes_in(source)


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    rest = [model.graph]
    while rest:
        graph = rest.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                rest += [attribute.g] if attribute.HasField("g") else []
                rest += attribute.graphs
