"""ONNX: what a file is, what it says of itself, and which other files it needs.

Weights are never read: see ``onnx_skeleton``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from mlconv.errors import Corrupt, PathEscape, UnknownSignature
from mlconv.formats import Description, ModelFile, mapped, onnx_graphs, onnx_macs, onnx_weights, protobuf
from mlconv.formats.onnx_ranges import value_ranges
from mlconv.formats.onnx_skeleton import load
from mlconv.formats.protobuf import BYTES, VARINT, WireError
from mlconv.tensors import Dim, TensorSpec

if TYPE_CHECKING:
    import onnx

__all__ = [
    "PROVENANCE", "assert_external_data_inside", "describe", "described", "external_files", "is_onnx", "load",
    "value_ranges",
]  # fmt: skip

PROVENANCE = "mlconv.provenance"
"""The metadata key under which mlconv says where the file came from."""

# Wire types of the fields of ModelProto and GraphProto (onnx.proto, IR version 13).
_MODEL = {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES, 8: BYTES, 14: BYTES, 20: BYTES,
          25: BYTES, 26: BYTES}  # fmt: skip
_GRAPH = dict.fromkeys((1, 2, 5, 10, 11, 12, 13, 14, 15, 16), BYTES)
_NODE = dict.fromkeys((1, 2, 3, 4, 5, 6, 7, 8, 9, 10), BYTES)
_GRAPH_FIELD = 7
_LOOKED_AT = 16  # fields of a graph that decide whether it is one


def is_onnx(path: Path) -> bool:
    """Whether a file is an ONNX model, by its protobuf fields: the format has no magic number.

    Only headers are looked at, whatever the file's size. A file that was cut off within its graph still is one.
    """
    view = mapped.read_only(path)
    graph: memoryview | None = None
    try:
        for number, wire, _, start, end in protobuf.spans(view, cut=True):
            if number in _MODEL and _MODEL[number] != wire:
                return False
            if number not in _MODEL and number < max(_MODEL):
                return False
            if number == _GRAPH_FIELD:
                graph = view[start:end]
    except WireError:
        pass
    return graph is not None and _is_graph(graph)


def _is_graph(view: memoryview) -> bool:
    """Whether the first fields of a message are those of a GraphProto with nodes, inputs or outputs."""
    seen: set[int] = set()
    try:
        for count, (number, wire, _, start, end) in enumerate(protobuf.spans(view, cut=True)):
            if _GRAPH.get(number, wire if number > max(_GRAPH) else None) != wire:
                return False
            if number == 1 and end < len(view) and not _is_node(view[start:end]):
                return False
            seen.add(number)
            if count >= _LOOKED_AT:
                break
    except WireError:
        pass
    return bool(seen & {1, 11, 12})


def _is_node(view: memoryview) -> bool:
    try:
        return all(_NODE.get(number, wire) == wire for number, wire, *_ in protobuf.spans(view))
    except WireError:
        return False


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What an ONNX file says of itself; see ``Description``. ``bytes`` is the file alone: a note tells of the others.

    Raises:
        Corrupt: It is no ONNX model.
        PathEscape: A tensor's data lies outside the model's folder.
        UnknownSignature: ``signature`` is given; ONNX models have one entry point.
    """
    path = mapped.path_of(model)
    return described(load(path), model, path, signature)


def described(proto: onnx.ModelProto, model: ModelFile, path: Path, signature: str | None) -> Description:
    """As ``describe``, of a model that was read."""
    if signature is not None:
        raise UnknownSignature(
            f"the model has no signature `{signature}`",
            why="an ONNX model has one graph",
            fix="leave --signature out",
        )
    if not proto.HasField("graph"):
        raise Corrupt(f"`{path}` has no graph", fix="get the file again, or export it again")
    external = _external(proto, path)
    typed = onnx_macs.inferred(proto)
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    told = metadata.pop(PROVENANCE, None)
    return Description(
        format=model.format,
        inputs=_inputs(proto),
        outputs=tuple(_spec(value) for value in proto.graph.output),
        operators=dict(
            sorted(Counter(onnx_graphs.operator(node) for node in onnx_graphs.nodes(proto)).items())
        ),
        parameters=onnx_weights.parameters(proto),
        macs=onnx_macs.macs(proto),
        bytes=path.stat().st_size,
        quantization=onnx_weights.quantization(proto, typed),
        opset=_opset(proto),
        metadata=_header(proto) | metadata,
        provenance=mapped.provenance(told) if told is not None else None,
        notes=tuple(_external_notes(external)),
    )


def external_files(path: Path) -> tuple[Path, ...]:
    """The other files that an ONNX model takes tensors from, each once, whether or not they are there.

    Raises:
        Corrupt: It is no ONNX model.
        PathEscape: One lies outside the model's folder, links followed.
    """
    return _external(load(path), path)


def assert_external_data_inside(path: Path) -> None:
    """Refuse a model that reaches outside its folder.

    Raises:
        Corrupt, PathEscape: As ``external_files``.
    """
    external_files(path)


def _inputs(model: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Inputs that must be fed: before IR version 4 every initializer stood among the inputs too."""
    own = onnx_graphs.initializers(model.graph)
    ranges = value_ranges(model)
    return tuple(_spec(value, ranges.get(value.name)) for value in model.graph.input if value.name not in own)


def _spec(value: onnx.ValueInfoProto, values: tuple[int, int] | None = None) -> TensorSpec:
    kind = value.type.WhichOneof("value")
    if kind not in ("tensor_type", "sparse_tensor_type"):  # a sequence, a map, an optional, or nothing told
        return TensorSpec(value.name, None, (kind or "unknown").removesuffix("_type"))
    tensor = getattr(value.type, kind)
    shape = tuple(_dim(dim) for dim in tensor.shape.dim) if tensor.HasField("shape") else None
    return TensorSpec(value.name, shape, onnx_graphs.dtype(tensor.elem_type), values=values)


def _dim(dim: onnx.TensorShapeProto.Dimension) -> Dim:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dim.dim_param or None


def _opset(model: onnx.ModelProto) -> int | None:
    return next(
        (entry.version for entry in model.opset_import if entry.domain in onnx_graphs.DEFAULT_DOMAINS), None
    )


def _header(model: onnx.ModelProto) -> dict[str, str]:
    """What the file says of its making, as far as it does."""
    used = {node.domain for node in onnx_graphs.nodes(model)} - set(onnx_graphs.DEFAULT_DOMAINS)
    domains = {
        f"opset {entry.domain}": str(entry.version) for entry in model.opset_import if entry.domain in used
    }
    told = {
        "ir_version": str(model.ir_version),
        "producer": f"{model.producer_name} {model.producer_version}".strip(),
        "model_version": str(model.model_version or ""),
        "description": model.doc_string,
        **domains,
    }
    return {key: text for key, text in told.items() if text}


def _external(model: onnx.ModelProto, path: Path) -> tuple[Path, ...]:
    found: dict[Path, None] = {}
    for tensor in onnx_graphs.tensors(model):
        entries = {entry.key: entry.value for entry in tensor.external_data}
        if tensor.data_location == tensor.EXTERNAL or entries:
            found[_inside(path.parent, entries.get("location", ""), tensor.name)] = None
    return tuple(found)


def _inside(folder: Path, location: str, tensor: str) -> Path:
    """The file at a tensor's ``location``, which must stay in the model's folder."""
    windows = PureWindowsPath(location)
    if not location or PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        raise _escape(location, tensor)
    try:
        target, root = (folder / Path(*windows.parts)).resolve(), folder.resolve()
        target.is_file()  # a name that is too long shows only when it is looked up
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a name too long, a null byte
        raise _escape(location, tensor) from error
    if not target.is_relative_to(root) or target == root:
        raise _escape(location, tensor)
    return folder / Path(*windows.parts)


def _escape(location: str, tensor: str) -> PathEscape:
    return PathEscape(
        f"the data of tensor `{tensor}` lies at `{location}`, which is not a file in the model's folder",
        why="external data must stay in the folder of the model, links followed",
        fix="put the data file beside the model (copy it where it is a link), and save the model again",
    )


def _external_notes(external: tuple[Path, ...]) -> Iterator[str]:
    present = [file for file in external if file.is_file()]
    if present:
        size = sum(file.stat().st_size for file in present)
        yield f"{size:,} bytes of its data lie in {', '.join(f'`{file.name}`' for file in present[:4])}."
    for file in external:
        if file not in present:
            yield f"Its external data file `{file.name}` is missing."
