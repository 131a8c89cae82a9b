"""A TFLite file written again in the plain form that tf2onnx reads.

One entry point, every constant inside the flatbuffer, every tensor with a name of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SUBGRAPH_OPTIONS = ("thenSubgraphIndex", "elseSubgraphIndex", "condSubgraphIndex", "bodySubgraphIndex", "initSubgraphIndex",
                     "subgraph", "decompositionSubgraphIndex", "comparatorSubgraphIndex")  # fmt: skip
"""Fields of operators' options that number a subgraph (TensorFlow's schema.fbs)."""


@dataclass(frozen=True, slots=True)
class Plain:
    """The file that was written, and the names in it by the tensor's number in the main subgraph."""

    path: Path
    names: tuple[str, ...]


def rewrite(
    source: Path,
    target: Path,
    subgraph: int,
    inputs: Sequence[int],
    outputs: Sequence[int],
    shapes: Mapping[int, Sequence[int]],
) -> Plain:
    """Write ``source``'s subgraph, with those that it calls, as a model of its own.

    Args:
        inputs: Tensors of the subgraph that it shall take.
        outputs: Tensors that it shall give; operators that they do not need go.
        shapes: Fixed shapes for inputs that were dynamic.
    """
    import flatbuffers  # type: ignore[import-untyped]
    from tensorflow.lite.python import schema_py_generated as schema

    data = source.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    _inline_buffers(model, data)
    _keep_subgraphs(model, subgraph)
    graph = model.subgraphs[0]
    graph.inputs, graph.outputs = list(inputs), list(outputs)
    _prune(graph)
    for index, shape in shapes.items():
        graph.tensors[index].shape = list(shape)
        graph.tensors[index].shapeSignature = None
    _name_apart(model)
    builder = flatbuffers.Builder(len(data) + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    target.write_bytes(bytes(builder.Output()))
    return Plain(target, tuple(tensor.name.decode() for tensor in graph.tensors))


def _inline_buffers(model: Any, data: bytes) -> None:
    """Constants behind the flatbuffer come into it; tf2onnx looks for them nowhere else."""
    import numpy as np

    for buffer in model.buffers or []:
        if buffer.offset and buffer.offset > 1 and buffer.size:
            buffer.data = np.frombuffer(data, np.uint8, buffer.size, buffer.offset)
        buffer.offset = buffer.size = 0
    for graph in model.subgraphs:
        for operator in graph.operators:
            offset, size = (getattr(operator, f"largeCustomOptions{part}", 0) for part in ("Offset", "Size"))
            if offset and size:
                operator.customOptions = np.frombuffer(data, np.uint8, size, offset)
                operator.largeCustomOptionsOffset = operator.largeCustomOptionsSize = 0


def _keep_subgraphs(model: Any, main: int) -> None:
    """The main subgraph first, then what it calls; the others and all signatures go."""
    order = [main]
    for index in order:
        order += [called for called in dict.fromkeys(_called(model.subgraphs[index])) if called not in order]
    numbers = {old: new for new, old in enumerate(order)}
    model.subgraphs = [model.subgraphs[index] for index in order]
    for graph in model.subgraphs:
        for operator in graph.operators:
            for field in _SUBGRAPH_OPTIONS:
                if isinstance(getattr(operator.builtinOptions, field, None), int):
                    setattr(operator.builtinOptions, field, numbers[getattr(operator.builtinOptions, field)])
    for number, graph in enumerate(model.subgraphs):
        graph.name = f"subgraph_{number}".encode()
    model.signatureDefs = None


def _called(graph: Any) -> list[int]:
    options = [operator.builtinOptions for operator in graph.operators]
    return [int(getattr(option, field)) for option in options for field in _SUBGRAPH_OPTIONS
            if isinstance(getattr(option, field, None), int) and getattr(option, field) >= 0]  # fmt: skip


def _prune(graph: Any) -> None:
    """Operators that no output needs go: an output may cut the graph before what cannot be converted."""
    needed = {int(index) for index in graph.outputs}
    kept = []
    for operator in reversed(graph.operators):
        if needed.intersection(map(int, operator.outputs)):
            kept.append(operator)
            needed |= {int(index) for index in operator.inputs}
    graph.operators = kept[::-1]


def _name_apart(model: Any) -> None:
    """tf2onnx finds tensors by name, and files repeat them or leave them out."""
    taken: set[str] = set()
    for number, graph in enumerate(model.subgraphs):
        for index, tensor in enumerate(graph.tensors):
            name = (tensor.name or b"").decode("utf-8", "replace") or f"tensor_{index}"
            if name in taken:
                name = f"{name}__{number}_{index}"
            taken.add(name)
            tensor.name = name.encode()
