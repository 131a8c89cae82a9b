"""Types and shapes of a graph's values, from onnx's own inference, for models of any size.

onnx's C++ passes (inference, version conversion) take serialised models, and protobuf ends at 2 GiB. So weights are
replaced by notes of where they were before such a pass and put back after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir as ir

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, ValueInfoProto

_STUBBED_FROM_BYTES = 1024
"""Smaller constants stay: inference and version conversion read shapes, axes and scales."""

_Dim: TypeAlias = int | ir.SymbolicDim | None

_STUB = "mlconv-weight-"
_UNKNOWN = re.compile(r"unk__\d+")  # how onnx's inference and tf2onnx call an axis that they know nothing of
_OWN_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})


def through_proto(model: ir.Model, change: Callable[[ModelProto], ModelProto]) -> ir.Model:
    """What a protobuf pass makes of a model, with the model's weights; ``model`` is left as it is.

    The pass sees large initializers as external tensors without data, and must keep what it finds of them.
    """
    stubbed = model.clone()
    kept = _stubbed(stubbed)
    changed = ir.from_proto(change(ir.to_proto(stubbed)))
    _restore(changed, kept)
    return changed


def _stubbed(model: ir.Model) -> dict[str, ir.TensorProtocol]:
    """Replace a model's large weights by notes, in place, and tell what each note stands for."""
    kept: dict[str, ir.TensorProtocol] = {}
    for value in _weights(model):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes >= _STUBBED_FROM_BYTES and tensor.dtype != ir.DataType.STRING:
            location = f"{_STUB}{len(kept)}"
            kept[location] = tensor
            value.const_value = ir.ExternalTensor(
                location,
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name or "",
            )
    return kept


def _restore(model: ir.Model, kept: Mapping[str, ir.TensorProtocol]) -> None:
    for value in _weights(model):
        stub = value.const_value
        if isinstance(stub, ir.ExternalTensor) and str(stub.location) in kept:
            value.const_value = kept[str(stub.location)]


def _weights(model: ir.Model) -> list[ir.Value]:
    return [
        value for graph in (model.graph, *model.graph.subgraphs()) for value in graph.initializers.values()
    ]


def inferred(model: ir.Model, *, outputs: bool = True) -> ir.Model:
    """The model with types and shapes of all values, as inference finds them from inputs and weights alone.

    What was written before about a value that an ONNX operator makes is forgotten, since it may be wrong; of other
    operators it is all that is known, and stays. An output of a graph, main or inner, keeps its declared shape, with sizes filled
    in that were not declared; ``outputs=False`` forgets that too.
    """
    import onnx.shape_inference

    result = model.clone()
    graphs = (result.graph, *result.graph.subgraphs())
    # A Loop that never turns takes the shape of its scan outputs from what its body declares.
    declared = [(value, value.shape) for graph in graphs for value in graph.outputs]
    for graph in graphs:
        _forget(graph)
    kept = _stubbed(result)
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(result), strict_mode=False, data_prop=True)
    _restore(result, kept)
    for value, shape in declared if outputs else ():
        value.shape = shape
    found: dict[str | None, ir.Value] = {
        told.name: ir.serde.deserialize_value_info_proto(told, None) for told in _told(proto.graph)
    }
    for graph in graphs:
        for value in _values(graph):
            _complete(value, found)
    return result


def _told(graph: GraphProto) -> Iterator[ValueInfoProto]:
    """What a graph and its subgraphs say of their values."""
    yield from (*graph.input, *graph.value_info, *graph.output)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _told(inner)


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs if value.name)]


def _forget(graph: ir.Graph) -> None:
    declared = set(graph.outputs)
    for node in graph:
        if node.domain in _OWN_DOMAINS:
            for value in node.outputs:
                value.type = value.type if value in declared else None
                value.shape = None


def _complete(value: ir.Value, found: Mapping[str | None, ir.Value]) -> None:
    other = found.get(value.name)
    if other is None:
        return
    if value.type is None:
        value.type = other.type
    if other.shape is None:
        return
    dims = [None if is_unknown(dim) else dim for dim in other.shape]
    if value.shape is None:
        value.shape = ir.Shape(dims)
    elif len(value.shape) == len(dims):
        value.shape = ir.Shape([_known(own, theirs) for own, theirs in zip(value.shape, dims, strict=True)])


def _known(own: _Dim, theirs: _Dim) -> _Dim:
    """A size or a name that was declared stays; what was not declared, or is a name that means nothing, is filled in."""
    if is_unknown(own):
        return theirs
    return own


def is_unknown(dim: object) -> bool:
    """Whether a dynamic axis has no name, or one that only says so."""
    return isinstance(dim, ir.SymbolicDim) and (dim.value is None or bool(_UNKNOWN.fullmatch(str(dim.value))))
