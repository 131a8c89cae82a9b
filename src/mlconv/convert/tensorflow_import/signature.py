"""The signature that the user knows, laid over a graph that tf2onnx wrote."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import onnx_ir as ir

from mlconv.convert.job import Job
from mlconv.convert.onnx_graph.versions import with_opset
from mlconv.convert.signature import unknown_output
from mlconv.convert.tensorflow_import.words import DEFAULT_OPSET
from mlconv.tensors import Dim, TensorSpec

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output: the graph's tensor, and what the user knows it as."""

    tensor: str
    spec: TensorSpec


# ------------------------------------------------------------------ names, shapes and outputs that were asked for


def chosen(ports: Sequence[Port], names: Sequence[str]) -> tuple[Port, ...]:
    """The ports that `--outputs` names, in its order; all where it names none.

    Raises:
        UnknownOutput: A name is not among them.
    """
    by_name = {port.spec.name: port for port in ports}
    for name in names:
        if name not in by_name and name.removesuffix(":0") not in by_name:
            raise unknown_output(name, list(by_name))
    return tuple(by_name.get(name) or by_name[name.removesuffix(":0")] for name in names) or tuple(ports)


# ------------------------------------------------------------------ the signature, laid over the graph


def finish(
    proto: onnx.ModelProto,
    inputs: Sequence[Port],
    outputs: Sequence[Port],
    job: Job,
    *,
    outputs_share_batch: bool,
) -> tuple[TensorSpec, ...]:
    """Bind names and axes, reach the opset asked for, and write ``job.output``; the outputs as they are now.

    Args:
        outputs_share_batch: Whether axis 0 of every output is that of the inputs.
    """
    model = ir.serde.deserialize_model(proto)
    _bind(model.graph, inputs, outputs)
    proto = ir.serde.serialize_model(model)
    specs = _name_output_axes(proto, inputs, outputs, _batch(inputs) if outputs_share_batch else None)
    model = ir.serde.deserialize_model(proto)
    asked = job.options.opset or DEFAULT_OPSET
    if model.graph.opset_imports[""] < asked:
        model = with_opset(model, asked)
    ir.save(model, job.output)
    return specs


def _bind(graph: ir.Graph, ins: Sequence[Port], outs: Sequence[Port]) -> None:
    """Inputs and outputs by the user's names, in the signature's order, each there exactly once."""
    found = {value.name: value for value in _values(graph)}
    wanted = {port.spec.name for port in (*ins, *outs)}
    for name in sorted(wanted & set(found)):
        found[name].name = _fresh(
            f"{name}__inner", set(found) | wanted | {value.name for value in found.values()}
        )
    inputs = [found.get(port.tensor) or ir.Value(name=port.spec.name) for port in ins]
    for value, port in zip(inputs, ins, strict=True):
        graph.initializers.pop(value.name or "", None)  # a default would make the input optional
        value.name, value.shape, value.type = (
            port.spec.name,
            _ir_shape(port.spec.shape),
            _ir_type(port.spec.dtype),
        )
    outputs = [
        _output(graph, found[port.tensor], port.spec.name, [*inputs, *graph.initializers.values()])
        for port in outs
    ]
    graph.inputs[:] = inputs
    graph.outputs[:] = outputs
    for node in graph.all_nodes():
        for value in node.outputs:
            if value.shape is not None and not value.shape.is_static():
                # tf2onnx's `unk__398` says nothing; shape inference fills in the names of axes
                value.shape = None


def _output(graph: ir.Graph, value: ir.Value, name: str, taken: Sequence[ir.Value]) -> ir.Value:
    """The value under its name; through an Identity where it is an input, a constant, or another output already."""
    if any(value is other for other in taken) or value.meta.get("bound"):
        node = ir.node("Identity", [value], name=f"{name}__identity")
        node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
        graph.append(node)
        value = node.outputs[0]
    value.name = name
    value.meta["bound"] = True
    return value


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    for part in (graph, *graph.subgraphs()):
        yield from part.inputs
        yield from part.initializers.values()
        for node in part:
            yield from node.outputs


def _fresh(name: str, taken: set[str | None]) -> str:
    while name in taken:
        name += "_"
    return name


def _ir_shape(shape: tuple[Dim, ...] | None) -> ir.Shape | None:
    return None if shape is None else ir.Shape(shape)


def _ir_type(dtype: str) -> ir.TensorType:
    names = {"str": "STRING", "float32": "FLOAT", "float64": "DOUBLE"}
    return ir.TensorType(ir.DataType[names.get(dtype, dtype.upper())])


def _batch(inputs: Sequence[Port]) -> str | None:
    """The name of axis 0 that all dynamic inputs share."""
    names = {port.spec.shape[0] for port in inputs if port.spec.shape and isinstance(port.spec.shape[0], str)}
    return str(names.pop()) if len(names) == 1 else None


def _name_output_axes(
    proto: onnx.ModelProto, inputs: Sequence[Port], outputs: Sequence[Port], batch: str | None
) -> tuple[TensorSpec, ...]:
    """Every axis of every output with a size or a name; the specs that follow from it."""
    specs = []
    found = _output_dims(proto, inputs)
    for value, port, inferred in zip(proto.graph.output, outputs, found, strict=True):
        dims = _completed(inferred, port.spec.shape)
        if dims is not None:
            prefix = re.sub(r"\W", "_", port.spec.name)
            dims = tuple(
                dim if dim is not None else batch if axis == 0 and batch else f"{prefix}_dim{axis}"
                for axis, dim in enumerate(dims)
            )
            _set_dims(value.type.tensor_type.shape, dims)
        specs.append(replace(port.spec, shape=dims))
    return tuple(specs)


_TRIALS = ((67, 64), (71, 96))
"""Sizes for axis 0 and for the others: far from common channel counts, and the others divisible by usual strides."""


def _output_dims(proto: onnx.ModelProto, inputs: Sequence[Port]) -> list[tuple[Dim, ...] | None]:
    """Shapes of the outputs by ONNX shape inference; an axis that follows a named input axis bears its name.

    Inference over names alone loses them at every Reshape to ``[-1, n]``. So it is run twice, with sizes in the names'
    place: an output axis that has the size of ``batch`` both times is ``batch``, one that has the same size is fixed.
    """
    names = dict.fromkeys(dim for port in inputs for dim in port.spec.shape or () if isinstance(dim, str))
    leading = {port.spec.shape[0] for port in inputs if port.spec.shape}
    trials = []
    for first, other in _TRIALS:
        sizes = {name: first if name in leading else other + 32 * index for index, name in enumerate(names)}
        trials.append((sizes, _inferred(proto, sizes)))
    (sizes, one), (other_sizes, two) = trials
    return [_agreed(a, b, sizes, other_sizes) for a, b in zip(one, two, strict=True)]


def _inferred(proto: onnx.ModelProto, sizes: dict[str, int]) -> list[tuple[int | None, ...] | None]:
    """The outputs' shapes where the inputs' named axes have these sizes."""
    import onnx

    trial = onnx.ModelProto()
    trial.CopyFrom(proto)
    for value in trial.graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
    for value in trial.graph.output:
        value.type.tensor_type.ClearField("shape")
    del trial.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(trial, data_prop=True)
    shapes = [value.type.tensor_type for value in inferred.graph.output]
    return [
        tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim) if tensor.HasField("shape") else None
        for tensor in shapes
    ]  # fmt: skip


def _agreed(
    one: tuple[int | None, ...] | None,
    two: tuple[int | None, ...] | None,
    sizes: dict[str, int],
    other_sizes: dict[str, int],
) -> tuple[Dim, ...] | None:
    if one is None or two is None or len(one) != len(two):
        return None
    names = {(sizes[name], other_sizes[name]): name for name in reversed(sizes)}  # of two alike, the first
    return tuple(
        names.get((a, b), a if a == b else None) if a is not None and b is not None else None
        for a, b in zip(one, two, strict=True)
    )


def _completed(inferred: tuple[Dim, ...] | None, own: tuple[Dim, ...] | None) -> tuple[Dim, ...] | None:
    """What inference found, completed by what the source says; None where neither knows the rank."""
    if inferred is None or own is None or len(own) != len(inferred):
        return inferred if inferred is not None else own
    return tuple(theirs if theirs is not None else ours for theirs, ours in zip(inferred, own, strict=True))


def _set_dims(shape: Any, dims: Sequence[Dim]) -> None:
    del shape.dim[:]
    for dim in dims:
        entry = shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        else:
            entry.dim_param = dim or ""
