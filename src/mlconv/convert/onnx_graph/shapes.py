"""Types and shapes of a graph's values, from onnx's own inference, for models of any size.

onnx's C++ passes (inference, version conversion) take serialised models, and protobuf ends at 2 GiB. So weights are
replaced by notes of where they were before such a pass and put back after it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import onnx_ir as ir

if TYPE_CHECKING:
    from onnx import ModelProto

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
    kept: dict[str, ir.TensorProtocol] = {}
    for value in _weights(stubbed):
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
    changed = ir.from_proto(change(ir.to_proto(stubbed)))
    for value in _weights(changed):
        stub = value.const_value
        if isinstance(stub, ir.ExternalTensor) and str(stub.location) in kept:
            value.const_value = kept[str(stub.location)]
    return changed


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

    bare = model.clone()
    for graph in (bare.graph, *bare.graph.subgraphs()):
        _forget(graph, keep_outputs=False)
    done = through_proto(
        bare, lambda proto: onnx.shape_inference.infer_shapes(proto, strict_mode=False, data_prop=True)
    )
    found = {value.name: value for graph in (done.graph, *done.graph.subgraphs()) for value in _values(graph)}
    result = model.clone()
    for graph in (result.graph, *result.graph.subgraphs()):
        # A Loop that never turns takes the shape of its scan outputs from what its body declares.
        _forget(graph, keep_outputs=outputs)
        for value in _values(graph):
            _complete(value, found)
    return result


def _values(graph: ir.Graph) -> list[ir.Value]:
    return [*graph.inputs, *(value for node in graph for value in node.outputs if value.name)]


def _forget(graph: ir.Graph, *, keep_outputs: bool) -> None:
    declared = set(graph.outputs)
    for node in graph:
        known = node.domain in _OWN_DOMAINS
        for value in node.outputs:
            if known and value in declared:
                value.shape = value.shape if keep_outputs else None
            elif known:
                value.type = value.shape = None


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
