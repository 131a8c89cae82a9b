"""TFLite files to frozen values.

The schema: tensorflow/lite/schema/schema.fbs. The whole structure is read and checked when a model is opened; constant
data and options are views of the file, looked at when they are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from mlconv.errors import Corrupt
from mlconv.formats import mapped
from mlconv.formats import tflite_schema as schema
from mlconv.formats.flatbuffer import FlatbufferError, Reader, Table
from mlconv.formats.tflite_graph import Affine, Model, Operator, Signature, Subgraph, Tensor, broken
from mlconv.tensors import Dim

MAX_RANK = 64  # numpy's own limit; TFLite kernels stop at 8


def is_tflite(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (8 bytes are enough) says that it is a TFLite model."""
    return head[4:8] == schema.IDENTIFIER


def read(path: Path) -> Model:
    """Open a model; nothing of it is loaded but its structure.

    Raises:
        MissingFile, Unreadable: As ``mapped.read_only``.
        Corrupt: The bytes are no TFLite model, or refer to what is not there.
    """
    return parse(mapped.read_only(path), str(path))


def parse(data: bytes | memoryview, name: str = "the model") -> Model:
    """As ``read``, from bytes; ``name`` is what errors call them."""
    view = memoryview(data)
    if not is_tflite(bytes(view[:8])):
        raise Corrupt(
            f"`{name}` is no TFLite model", why="its bytes 4 to 8 are not `TFL3`", fix="get the file again"
        )
    try:
        return _model(Reader(view))
    except FlatbufferError as error:
        raise broken(f"`{name}`", error) from error


def _model(reader: Reader) -> Model:
    root, at = reader.root(), schema.ModelField
    buffers = _Buffers(reader.data, root.tables(at.BUFFERS))
    codes = [_code(table) for table in root.tables(at.OPERATOR_CODES)]
    graphs = root.tables(at.SUBGRAPHS)
    if not graphs:
        raise FlatbufferError("it has no subgraph")
    if root.integer(at.VERSION, "uint32") > 3:
        raise FlatbufferError(
            f"it is of schema version {root.integer(at.VERSION, 'uint32')}, and 3 is the newest known"
        )
    subgraphs = tuple(_subgraph(index, table, buffers, codes) for index, table in enumerate(graphs))
    metadata: dict[str, memoryview] = {}
    for table in root.tables(at.METADATA):
        name = table.text(schema.MetadataField.NAME)
        metadata[name] = buffers.data(table.integer(schema.MetadataField.BUFFER, "uint32")) or memoryview(b"")
    signatures = tuple(_signature(table, subgraphs) for table in root.tables(at.SIGNATURE_DEFS))
    return Model(
        version=root.integer(at.VERSION, "uint32"), description=root.text(at.DESCRIPTION), subgraphs=subgraphs,
        signatures=signatures, metadata=metadata, external_bytes=buffers.external_bytes(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Code:
    kind: str
    custom: str | None
    version: int


def _code(table: Table) -> _Code:
    # Codes above 127 do not fit the old one-byte field, which then holds 127; the greater of both is meant
    # (GetBuiltinCode in tensorflow/lite/schema/schema_utils.cc).
    at = schema.OperatorCodeField
    number = max(table.integer(at.DEPRECATED_CODE, "int8"), table.integer(at.CODE, "int32"))
    kind = (
        schema.BUILTIN_OPERATORS[number]
        if 0 <= number < len(schema.BUILTIN_OPERATORS)
        else f"BUILTIN_{number}"
    )
    custom = table.text(at.CUSTOM_CODE, "?") if kind == "CUSTOM" else None
    return _Code(kind, custom, table.integer(at.VERSION, "int32", 1))


@dataclass(frozen=True, slots=True)
class _Buffers:
    """The constants' bytes; 0 and 1 as an offset mean that the data stands in the flatbuffer."""

    whole: memoryview
    tables: tuple[Table, ...]

    def data(self, index: int) -> memoryview | None:
        """Bytes of a buffer; None of an empty one, which is how the schema says `not constant`."""
        if index >= len(self.tables):
            raise FlatbufferError(f"buffer {index} of {len(self.tables)}")
        offset, size = self._outside(index)
        if offset > 1:
            if offset + size > len(self.whole):
                raise FlatbufferError(
                    f"buffer {index} has {size} bytes at {offset}, and the file ends before"
                )
            return self.whole[offset : offset + size]
        return self.tables[index].blob(schema.BufferField.DATA)

    def external_bytes(self) -> int:
        outside = {self._outside(index) for index in range(len(self.tables))}
        return sum(size for offset, size in outside if offset > 1)

    def _outside(self, index: int) -> tuple[int, int]:
        table, at = self.tables[index], schema.BufferField
        return table.integer(at.OFFSET, "uint64"), table.integer(at.SIZE, "uint64")


def _subgraph(index: int, table: Table, buffers: _Buffers, codes: list[_Code]) -> Subgraph:
    at = schema.SubgraphField
    tables = table.tables(at.TENSORS)
    # Files written before the schema had `has_rank` (2022) have it nowhere: there an empty shape is a scalar.
    ranks_told = any(item.integer(schema.TensorField.HAS_RANK, "bool") for item in tables)
    tensors = tuple(_tensor(number, item, buffers, ranks_told) for number, item in enumerate(tables))
    operators = tuple(
        _operator(number, item, codes, len(tensors)) for number, item in enumerate(table.tables(at.OPERATORS))
    )
    inputs, outputs = table.integers(at.INPUTS), table.integers(at.OUTPUTS)
    _check_indices(f"subgraph {index}", inputs + outputs, len(tensors), lowest=0)
    given = {*inputs, *(written for operator in operators for written in operator.outputs)}
    tensors = tuple(_empty_constant(tensor) if tensor.index not in given else tensor for tensor in tensors)
    return Subgraph(index, table.text(at.NAME), tensors, inputs, outputs, operators)


def _empty_constant(tensor: Tensor) -> Tensor:
    """A tensor without elements that nothing computes is a constant, though its buffer tells so of none that is empty."""
    if tensor.data is None and 0 in tensor.shape and not tensor.is_variable:
        return replace(tensor, data=memoryview(b""))
    return tensor


def _tensor(index: int, table: Table, buffers: _Buffers, ranks_told: bool) -> Tensor:
    at = schema.TensorField
    shape, signature = table.integers(at.SHAPE), table.integers(at.SHAPE_SIGNATURE)
    code = table.integer(at.TYPE, "int8")
    if not 0 <= code < len(schema.TENSOR_TYPES):
        raise FlatbufferError(f"tensor {index} is of type {code}, which no known schema has")
    if len(shape) > MAX_RANK or len(signature) > MAX_RANK:
        raise FlatbufferError(f"tensor {index} has {max(len(shape), len(signature))} axes")
    buffer = table.integer(at.BUFFER, "uint32")
    data = buffers.data(buffer)
    # An empty vector is how some converters write a constant without elements; without any vector it is no constant.
    constant = data if data is not None and (len(data) or (buffer and 0 in shape)) else None
    told = signature if len(signature) == len(shape) else shape
    dims: tuple[Dim, ...] | None = tuple(size if size >= 0 else None for size in told)
    if not shape and not constant and ranks_told and not table.integer(at.HAS_RANK, "bool"):
        dims = None
    return Tensor(
        index=index, name=table.text(at.NAME), shape=shape, dims=dims, dtype=schema.TENSOR_TYPES[code], buffer=buffer,
        data=constant, quantization=_affine(table.table(at.QUANTIZATION), index),
        is_variable=bool(table.integer(at.IS_VARIABLE, "bool")), is_sparse=table.has(at.SPARSITY),
    )  # fmt: skip


def _affine(table: Table | None, index: int) -> Affine | None:
    at = schema.QuantizationField
    if table is None:
        return None
    if table.integer(at.DETAILS_TYPE, "uint8") == 2:  # BlockwiseQuantization
        details = table.table(at.DETAILS)
        if details is None:
            return Affine((), (), block_size=0)
        size, scales = (
            details.integer(field, "int32")
            for field in (schema.BlockwiseField.BLOCK_SIZE, schema.BlockwiseField.SCALES)
        )
        return Affine((), (), block_size=size, scales_at=scales)
    scale = tuple(float(number) for number in table.numbers(at.SCALE, "float32"))
    if not scale:
        return None
    zero_point = table.integers(at.ZERO_POINT, "int64") or (0,)
    if len(zero_point) == 1:
        zero_point *= len(scale)
    if len(zero_point) != len(scale):
        raise FlatbufferError(f"tensor {index} has {len(scale)} scales and {len(zero_point)} zero points")
    return Affine(scale, zero_point, table.integer(at.QUANTIZED_DIMENSION, "int32"))


def _operator(index: int, table: Table, codes: list[_Code], tensors: int) -> Operator:
    at = schema.OperatorField
    number = table.integer(at.OPCODE_INDEX, "uint32")
    if number >= len(codes):
        raise FlatbufferError(f"operator {index} is of code {number} of {len(codes)}")
    code, inputs, outputs = codes[number], table.integers(at.INPUTS), table.integers(at.OUTPUTS)
    intermediates = table.integers(at.INTERMEDIATES)
    _check_indices(f"operator {index} ({code.kind})", inputs + outputs + intermediates, tensors, lowest=-1)
    options_type, options = _options(table)
    return Operator(
        index=index, kind=code.kind, custom=code.custom, version=code.version, inputs=inputs, outputs=outputs,
        intermediates=intermediates, options_type=options_type, custom_options=_custom_options(table), _options=options,
    )  # fmt: skip


def _options(table: Table) -> tuple[str, Table | None]:
    """The name of the options table and the table, from whichever of the two unions is set."""
    at = schema.OperatorField
    for names, kind_at, value_at in (
        (schema.BUILTIN_OPTIONS, at.OPTIONS_TYPE, at.OPTIONS),
        (schema.BUILTIN_OPTIONS_2, at.OPTIONS_2_TYPE, at.OPTIONS_2),
    ):
        kind = table.integer(kind_at, "uint8")
        if 0 < kind < len(names):
            return names[kind], table.table(value_at)
    return "NONE", None


def _custom_options(table: Table) -> memoryview:
    at = schema.OperatorField
    offset, size = table.integer(at.LARGE_OFFSET, "uint64"), table.integer(at.LARGE_SIZE, "uint64")
    if offset > 1:
        return table.reader.span(offset, size)
    return table.blob(at.CUSTOM_OPTIONS) or memoryview(b"")


def _signature(table: Table, subgraphs: tuple[Subgraph, ...]) -> Signature:
    at, key = schema.SignatureField, table.text(schema.SignatureField.KEY)
    graph = table.integer(at.SUBGRAPH, "uint32")
    if graph >= len(subgraphs):
        raise FlatbufferError(f"signature `{key}` is of subgraph {graph} of {len(subgraphs)}")
    names = [
        {
            item.text(schema.TensorMapField.NAME): item.integer(schema.TensorMapField.TENSOR, "uint32")
            for item in table.tables(part)
        }
        for part in (at.INPUTS, at.OUTPUTS)
    ]
    for part in names:
        _check_indices(f"signature `{key}`", tuple(part.values()), len(subgraphs[graph].tensors), lowest=0)
    return Signature(key, graph, *names)


def _check_indices(where: str, indices: tuple[int, ...], count: int, lowest: int) -> None:
    if indices and not (lowest <= min(indices) and max(indices) < count):
        odd = next(index for index in indices if not lowest <= index < count)
        raise FlatbufferError(f"{where} refers to tensor {odd} of {count}")
