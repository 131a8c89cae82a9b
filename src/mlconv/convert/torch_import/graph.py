"""From what an exporter wrote to a graph with the user's names, at the opset that was asked for, and the same every time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import onnx
import onnx_ir as ir

from mlconv.convert.torch_import import lower as torch_lower
from mlconv.errors import ConverterFailed, OpsetOutOfReach
from mlconv.tensors import TensorSpec

_SYMBOL = re.compile(r"[A-Za-z_]\w*")
_DTYPES = {
    "float16": ir.DataType.FLOAT16, "float32": ir.DataType.FLOAT, "float64": ir.DataType.DOUBLE, "bfloat16": ir.DataType.BFLOAT16,
    "bool": ir.DataType.BOOL, "int8": ir.DataType.INT8, "uint8": ir.DataType.UINT8, "int16": ir.DataType.INT16,
    "uint16": ir.DataType.UINT16, "int32": ir.DataType.INT32, "uint32": ir.DataType.UINT32, "int64": ir.DataType.INT64,
    "uint64": ir.DataType.UINT64,
}  # fmt: skip
_LARGE_BYTES = 1_800_000_000
"""Above, tensors go into a file beside the model: a protobuf message ends at 2 GiB."""


def finish(
    model: ir.Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], opset: int
) -> ir.Model:
    """Give a graph its names, axes, opset and IR version, and strip what tells of the machine that wrote it.

    Raises:
        OpsetOutOfReach: It cannot be expressed at ``opset``.
        ConverterFailed: The exporter lost an output.
    """
    _name_values(model, inputs, outputs)
    _name_axes(model, inputs, outputs)
    _strip(model)
    model = at_opset(model, opset)
    # the least IR version that knows the opset, so that old runtimes load old opsets
    imports = [
        onnx.helper.make_opsetid(domain, version) for domain, version in sorted(model.opset_imports.items())
    ]
    model.ir_version = max(
        onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True), 8 if model.functions else 3
    )
    return model


def save(model: ir.Model, path: Path) -> None:
    """Write the model, with its tensors in one file beside it where they are too many for one message."""
    size = sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )
    ir.save(model, path, external_data=f"{path.name}.data" if size > _LARGE_BYTES else None)


def _name_values(model: ir.Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    graph = model.graph
    by_name = {value.name: value for value in graph.inputs}
    if len(graph.inputs) != len(inputs):  # exporters drop inputs that nothing reads
        kept = [by_name.get(spec.name) or _unused(spec) for spec in inputs]
        graph.inputs.clear()
        graph.inputs.extend(kept)
    if len(graph.outputs) != len(outputs):
        raise ConverterFailed(
            f"the exporter wrote {len(graph.outputs)} outputs of {len(outputs)}",
            fix="name the outputs to keep with --outputs",
        )
    for value in list(graph.initializers.values()):
        if value.name and value.name.startswith("module.") and value not in graph.outputs:
            short = value.name.removeprefix("module.")
            if short not in graph.initializers and short not in by_name:
                graph.initializers.pop(value.name)
                value.name = short
                graph.initializers[short] = value
    for value, spec in zip((*graph.inputs, *graph.outputs), (*inputs, *outputs), strict=True):
        value.name = spec.name


def _unused(spec: TensorSpec) -> ir.Value:
    shape = ir.Shape(list(spec.shape)) if spec.shape is not None else None
    return ir.Value(name=spec.name, type=ir.TensorType(_DTYPES[spec.dtype]), shape=shape)


def _name_axes(model: ir.Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """The user's names in place of the exporter's symbols, everywhere."""
    names: dict[str, str] = {}
    for value, spec in zip(model.graph.inputs, inputs, strict=True):
        for old, new in zip(value.shape or (), spec.shape or (), strict=False):
            if isinstance(old, ir.SymbolicDim) and old.value and isinstance(new, str):
                names[old.value] = new
        value.shape = ir.Shape(list(spec.shape or ()))
    for value in _values(model.graph):
        if value.shape is not None:
            value.shape = ir.Shape([_renamed(dim, names) for dim in value.shape])
    axes = frozenset(names.values())
    for value, spec in zip(model.graph.outputs, outputs, strict=True):
        if spec.shape is None:
            value.shape = None
            continue
        written = [_renamed(dim, names) for dim in value.shape or ()]
        written = written if len(written) == len(spec.shape) else [None] * len(spec.shape)
        value.shape = ir.Shape(
            [_output_dim(dim, old, axes) for dim, old in zip(spec.shape, written, strict=True)]
        )


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph.all_nodes():
        yield from (value for value in node.outputs if not value.is_graph_output())


def _renamed(dim: int | ir.SymbolicDim, names: dict[str, str]) -> int | str | None:
    """A size in the user's words; an expression of symbols that have none becomes an axis without a name."""
    if isinstance(dim, int):
        return dim
    text = dim.value
    if text is None or text in names:
        return names.get(text) if text else None
    if any(word not in names for word in _SYMBOL.findall(text)):
        return None
    return _SYMBOL.sub(lambda match: names[match[0]], text)


def _output_dim(known: int | str | None, written: int | str | None, axes: frozenset[str]) -> int | str | None:
    """What runs have shown, else what the exporter wrote, where that is an expression of the user's axes."""
    if known is not None or not isinstance(written, str):
        return known
    return written if axes.issuperset(_SYMBOL.findall(written)) else None


def _strip(model: ir.Model) -> None:
    """Stack traces, module paths and everything else that another run or machine would write otherwise."""
    owners: list[ir.Model | ir.Graph | ir.Function] = [model, model.graph, *model.functions.values()]
    for owner in owners:
        owner.metadata_props.clear()
        owner.doc_string = None
    model.producer_name, model.producer_version, model.graph.name = "pytorch", None, "main"
    graphs = [model.graph, *(function.graph for function in model.functions.values())]
    for graph in graphs:
        for value in (*graph.inputs, *graph.initializers.values()):
            value.metadata_props.clear()
            value.doc_string = None
        for node in graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
                value.doc_string = None


def at_opset(model: ir.Model, opset: int) -> ir.Model:
    """The model at exactly the opset that was asked for.

    Raises:
        OpsetOutOfReach: It cannot be expressed there.
    """
    version = model.opset_imports.get("", opset)
    if version == opset:
        return model
    try:
        if torch_lower.LEAST <= opset < version == 18:
            torch_lower.lower(model, opset)
        else:
            model = ir.from_proto(onnx.version_converter.convert_version(ir.to_proto(model), opset))
        # the converter keeps attributes that the older opset does not know, and returns what it could not convert
        onnx.checker.check_model(ir.to_proto(model))
    except Exception as error:  # RuntimeError, ConvertError, ValidationError and ValueError
        raise OpsetOutOfReach(
            f"the model cannot be expressed at opset {opset}",
            why=f"the exporter wrote opset {version}, and {_told(error)}",
            fix=f"--opset {version}",
        ) from error
    if model.opset_imports.get("") != opset:
        raise OpsetOutOfReach(
            f"the exporter wrote opset {version} in place of {opset}", fix=f"--opset {version}"
        )
    return model


def _told(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("==>")]
    return lines[0][-300:] if lines else type(error).__name__
