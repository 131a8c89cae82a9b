"""ONNX files: read with care, written so that equal models give equal bytes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from mlconv.convert.onnx_graph.walk import bodies
from mlconv.errors import Corrupt, ExternalDataMissing, PathEscape, UnsupportedType

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

SINGLE_FILE_BYTES = (1 << 31) - (64 << 20)
"""Weights beyond this go to a file of their own: protobuf ends at 2 GiB, and the graph needs room too."""

EXTERNAL_FROM_BYTES = 1024
"""Smaller tensors stay in the model, where shape inference reads them; onnx.save's own threshold."""

_ALIGNMENT = 64  # bytes; vector loads of mapped tensors need no more
_DENSE_LIMIT = 1 << 29  # elements that a sparse tensor may unfold to


def load(path: Path) -> ir.Model:
    """Read a model; external tensors are mapped, not read.

    Sparse tensors become dense ones, since `onnx_ir` 1.1 leaves sparse initializers out and onnxruntime unfolds them too.

    Raises:
        Corrupt, PathEscape, ExternalDataMissing: See ``load_proto``.
    """
    proto = load_proto(path)
    _unfold_sparse(proto)
    return from_proto(proto, path.parent)


def load_proto(path: Path) -> ModelProto:
    """Read a model's graph; tensors that lie in other files stay there, and those files are there and inside the folder.

    Raises:
        Corrupt: The bytes are no ModelProto with a graph.
        PathEscape: External data lies outside the model's folder, by its path or through a link.
        ExternalDataMissing: A file of external data is missing or too short.
    """
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise Corrupt(
            f"`{path.name}` is no readable ONNX model", why=str(error), fix="export or download it again"
        ) from error
    if not proto.HasField("graph"):
        raise Corrupt(f"`{path.name}` holds no graph", fix="export or download it again")
    for problem in external_faults(proto, path.parent):
        raise problem
    return proto


def from_proto(proto: ModelProto, folder: Path) -> ir.Model:
    """The graph as `onnx_ir` objects; external tensors are looked for in ``folder``."""
    try:
        model = ir.from_proto(proto)
        for body in bodies(model):
            body.sort()  # onnx_ir clones no graph whose operators stand before their operands
    except Exception as error:  # onnx_ir wraps whatever went wrong in a RuntimeError or lets it through
        cause = error.__cause__ or error
        raise Corrupt(
            "the model's graph contradicts itself",
            why=str(cause)[:300],
            fix="export it again with the tool that made it; mlconv check shows every fault",
        ) from error
    ir.external_data.set_base_dir(model.graph, folder)
    return model


def external_faults(proto: ModelProto, folder: Path) -> Iterator[PathEscape | ExternalDataMissing | Corrupt]:
    """What is wrong with a model's external data, file by file; nothing is read."""
    sizes: dict[str, int | None] = {}
    for tensor in tensors(proto):
        if tensor.data_location != tensor.EXTERNAL:
            continue
        entry = {item.key: item.value for item in tensor.external_data}
        location = entry.get("location", "")
        if location not in sizes:
            sizes[location] = _external_size(folder, location)
            if sizes[location] is None:
                yield PathEscape(
                    f"the data of tensor `{tensor.name}` is said to lie in `{location}`, outside the model's folder",
                    fix="export the model again with its data beside it",
                )
            elif sizes[location] == -1:
                yield ExternalDataMissing(
                    f"`{location}`, which holds the data of tensor `{tensor.name}`, is missing",
                    fix=f"put `{location}` beside the model, or export it into one file",
                )
        size = sizes[location]
        if size is not None and size >= 0:
            yield from _range_fault(tensor, entry, size)


def _range_fault(
    tensor: TensorProto, entry: dict[str, str], size: int
) -> Iterator[ExternalDataMissing | Corrupt]:
    try:
        offset, length = int(entry.get("offset") or 0), int(entry.get("length") or 0)
    except ValueError:
        offset = -1
        length = 0
    if offset < 0 or length < 0:
        yield Corrupt(
            f"the place of tensor `{tensor.name}` in its data file is no number", fix="export the model again"
        )
    elif offset + length > size:
        yield ExternalDataMissing(
            f"`{entry['location']}` ends before the data of tensor `{tensor.name}`: {size} bytes, and {offset + length} are needed",
            fix="copy or download the file again, whole",
        )


def _external_size(folder: Path, location: str) -> int | None:
    """Bytes of the file; -1 where it is missing; None where it leaves the folder."""
    root = folder.resolve()
    path = root / location
    try:
        inside = (
            path.resolve().is_relative_to(root)
            and not Path(location).is_absolute()
            and ".." not in Path(location).parts
        )
        if not location or "\0" in location or not inside:
            return None
        return path.stat().st_size if path.is_file() else -1
    except (OSError, RuntimeError):
        return -1


# ------------------------------------------------------------------ walking a proto


def graphs(proto: ModelProto) -> Iterator[GraphProto]:
    """The main graph and every subgraph, those of function bodies included; parents first."""
    pending: list[GraphProto] = [proto.graph]
    pending += [graph for function in proto.functions for node in function.node for graph in subgraphs(node)]
    while pending:
        graph = pending.pop()
        yield graph
        pending += [inner for node in graph.node for inner in subgraphs(node)]


def subgraphs(node: NodeProto) -> list[GraphProto]:
    found = []
    for attribute in node.attribute:
        found += [attribute.g] if attribute.HasField("g") else []
        found += attribute.graphs
    return found


def nodes(proto: ModelProto) -> Iterator[NodeProto]:
    """Every node of every graph, and those of function bodies."""
    for graph in graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def tensors(proto: ModelProto) -> Iterator[TensorProto]:
    """Every constant: initializers, and tensors in attributes."""
    for graph in graphs(proto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in nodes(proto):
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


# ------------------------------------------------------------------ sparse tensors


def _unfold_sparse(proto: ModelProto) -> None:
    for graph in graphs(proto):
        graph.initializer.extend(_dense(sparse) for sparse in graph.sparse_initializer)
        graph.ClearField("sparse_initializer")
    for node in nodes(proto):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "sparse_value":
                dense = _dense(attribute.sparse_tensor)
                attribute.Clear()
                attribute.name, attribute.type = "value", attribute.TENSOR
                attribute.t.CopyFrom(dense)


def _dense(sparse: SparseTensorProto) -> TensorProto:
    """Indices are positions in the flattened tensor, or one row of coordinates for each value (onnx.proto)."""
    from onnx import numpy_helper

    name, shape = sparse.values.name, tuple(sparse.dims)
    if np.prod(shape, dtype=np.float64) > _DENSE_LIMIT:
        raise UnsupportedType(f"the sparse tensor `{name}` would unfold to {'x'.join(map(str, shape))} elements",
                              fix="export the model with dense weights")  # fmt: skip
    values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
    dense = np.zeros(shape, values.dtype)
    try:
        if indices.ndim == 2:
            dense[tuple(indices.T)] = values
        else:
            dense.reshape(-1)[indices] = values
    except (IndexError, ValueError) as error:
        raise Corrupt(
            f"the indices of the sparse tensor `{name}` leave its shape",
            why=str(error),
            fix="export the model again",
        ) from error
    return numpy_helper.from_array(dense, name)


# ------------------------------------------------------------------ writing


def save(model: ir.Model, path: Path) -> tuple[Path, ...]:
    """Write a model, flushed to the disk: one file, or the graph and one file of weights.

    Weights beyond ``SINGLE_FILE_BYTES`` go to ``STEM.HASH.data`` beside ``path``, HASH being the first 8 digits of their
    SHA-256: the model that stood there before keeps its own weights until it is replaced itself.

    Returns:
        The files written, the model first.
    """
    if weight_bytes(model) <= SINGLE_FILE_BYTES:
        files: tuple[Path, ...] = (path,)
        model = in_memory(model)
    else:
        model, data = _with_external_data(model.clone(), path)
        files = (path, data)
    _write(path, [serialized(model)])
    _flush_folder(path.parent)
    return files


def serialized(model: ir.Model) -> bytes:
    """The bytes of a model; external tensors stay external."""
    proto = ir.to_proto(model)
    for graph in graphs(proto):
        # onnx_ir describes every weight a second time among the values
        known = {tensor.name for tensor in graph.initializer}
        values = [value for value in graph.value_info if value.name not in known]
        del graph.value_info[:]
        graph.value_info.extend(values)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def weights(model: ir.Model) -> Iterator[tuple[ir.Value, ir.TensorProtocol]]:
    """Every initializer and its numbers, subgraphs' included, graph by graph."""
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in graph.initializers.values():
            if value.const_value is not None:
                yield value, value.const_value


def weight_bytes(model: ir.Model) -> int:
    return sum(tensor.nbytes for _, tensor in weights(model))


def in_memory(model: ir.Model) -> ir.Model:
    """The model without references to other files."""
    loaded = model.clone()
    for value, tensor in weights(loaded):
        if isinstance(tensor, ir.ExternalTensor):
            value.const_value = ir.LazyTensor(
                functools.partial(_read, tensor),
                dtype=tensor.dtype,
                shape=ir.Shape(tensor.shape.numpy()),
                name=value.name,
            )
    for node in ir.traversal.RecursiveGraphIterator(loaded.graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                inner = attribute.as_tensor()
                if isinstance(inner, ir.ExternalTensor):
                    node.attributes[name] = ir.AttrTensor(name, _read(inner))
    return loaded


def _read(tensor: ir.ExternalTensor) -> ir.TensorProtocol:
    return ir.Tensor(
        tensor.numpy(), dtype=tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=tensor.name
    )


def _with_external_data(model: ir.Model, path: Path) -> tuple[ir.Model, Path]:
    moved = [
        (value, tensor) for value, tensor in weights(model)
        if tensor.nbytes >= EXTERNAL_FROM_BYTES and tensor.dtype != ir.DataType.STRING
    ]  # fmt: skip
    digest = hashlib.sha256()
    offsets: list[int] = []
    part = path.with_name(f".{path.stem}.data.part")
    _write(part, _padded((tensor for _, tensor in moved), offsets, digest))
    data = path.with_name(f"{path.stem}.{digest.hexdigest()[:8]}.data")
    part.replace(data)
    for (value, tensor), offset in zip(moved, offsets, strict=True):
        value.const_value = ir.ExternalTensor(
            data.name,
            offset,
            tensor.nbytes,
            tensor.dtype,
            shape=ir.Shape(tensor.shape.numpy()),
            name=value.name or "",
            base_dir=path.parent,
        )
    return model, data


def _padded(data: Iterable[ir.TensorProtocol], offsets: list[int], digest: hashlib._Hash) -> Iterator[bytes]:
    """The tensors' bytes, each at a multiple of ``_ALIGNMENT``; tells where each begins, and digests all of it."""
    position = 0
    for tensor in data:
        for piece in (b"\0" * (-position % _ALIGNMENT), tensor.tobytes()):
            digest.update(piece)
            position += len(piece)
            yield piece
        offsets.append(position - tensor.nbytes)


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every system lets a folder be opened
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
