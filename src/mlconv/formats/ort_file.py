"""ORT format: ONNX Runtime's flatbuffer of an optimized ONNX model.

The schema: microsoft/onnxruntime, onnxruntime/core/flatbuffers/schema/ort.fbs. Graphs and operators are ONNX's, so the
file is read into an ONNX model without weights and described as one.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlconv.errors import Corrupt
from mlconv.formats import Description, ModelFile, mapped, onnx_file
from mlconv.formats.flatbuffer import FlatbufferError, Reader, Table

if TYPE_CHECKING:
    import onnx

IDENTIFIER = b"ORTM"
_MAX_DEPTH = 32  # graphs within graphs
_MAX_KEPT_BYTES = 4096  # as in onnx_skeleton: constants of this size steer operators


class _Session:
    ORT_VERSION, MODEL = range(2)


class _Model:
    IR_VERSION, OPSET_IMPORT, PRODUCER, PRODUCER_VERSION, DOMAIN, MODEL_VERSION, DOC, GRAPH, GRAPH_DOC = (
        range(9)
    )
    METADATA = 9


class _Graph:
    INITIALIZERS, NODE_ARGS, NODES, MAX_NODE_INDEX, NODE_EDGES, INPUTS, OUTPUTS, SPARSE_INITIALIZERS = range(
        8
    )


class _Node:
    NAME, DOC, DOMAIN, SINCE_VERSION, INDEX, OP_TYPE, TYPE, PROVIDER, INPUTS, OUTPUTS, ATTRIBUTES = range(11)


class _Attribute:
    NAME, DOC, TYPE, FLOAT, INT, TEXT, TENSOR, GRAPH, FLOATS, INTS, TEXTS, TENSORS, GRAPHS = range(13)


class _ValueInfo:
    NAME, DOC, TYPE = range(3)


class _TypeInfo:
    DENOTATION, VALUE_TYPE, VALUE = range(3)


class _Tensor:
    NAME, DOC, DIMS, DATA_TYPE, RAW_DATA = range(5)


def is_ort(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (8 bytes are enough) says that it is of ORT format."""
    return head[4:8] == IDENTIFIER


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What an ORT file says of itself; see ``Description``.

    Raises:
        Corrupt: The bytes are no ORT model.
        UnknownSignature: ``signature`` is given; ORT models have one entry point.
    """
    path = mapped.path_of(model)
    return onnx_file.described(load(path), model, path, signature)


def load(path: Path) -> onnx.ModelProto:
    """The model as ONNX, without large weights.

    Raises:
        MissingFile, Unreadable: As ``mapped.read_only``.
        Corrupt: The bytes are no ORT model.
    """
    data = mapped.read_only(path)
    try:
        if not is_ort(bytes(data[:8])):
            raise FlatbufferError("its bytes 4 to 8 are not `ORTM`")
        return _model(Reader(data).root())
    except FlatbufferError as error:
        raise Corrupt(
            f"`{path}` is a broken ORT model", why=str(error), fix="convert the model again"
        ) from error


def _model(session: Table) -> onnx.ModelProto:
    import onnx

    root = session.table(_Session.MODEL)
    graph = root.table(_Model.GRAPH) if root else None
    if root is None or graph is None:
        raise FlatbufferError("it has no graph")
    model = onnx.ModelProto(
        ir_version=root.integer(_Model.IR_VERSION, "int64"),
        producer_name=root.text(_Model.PRODUCER),
        producer_version=root.text(_Model.PRODUCER_VERSION),
        doc_string=root.text(_Model.DOC),
    )
    for opset in root.tables(_Model.OPSET_IMPORT):
        model.opset_import.add(domain=opset.text(0), version=opset.integer(1, "int64"))
    for entry in root.tables(_Model.METADATA):
        model.metadata_props.add(key=entry.text(0), value=entry.text(1))
    if session.has(_Session.ORT_VERSION):
        model.metadata_props.add(key="ort_version", value=session.text(_Session.ORT_VERSION))
    _fill(model.graph, graph, 0)
    return model


def _fill(graph: onnx.GraphProto, table: Table, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise FlatbufferError(f"graphs within graphs, {_MAX_DEPTH} deep")
    for tensor in table.tables(_Graph.INITIALIZERS):
        _fill_tensor(graph.initializer.add(), tensor)
    for sparse in table.tables(_Graph.SPARSE_INITIALIZERS):
        values = sparse.table(0)
        if values is not None:
            _fill_tensor(graph.initializer.add(), values)
    args = {arg.text(_ValueInfo.NAME): arg for arg in table.tables(_Graph.NODE_ARGS)}
    inputs, outputs = table.texts(_Graph.INPUTS), table.texts(_Graph.OUTPUTS)
    named = set(inputs) | set(outputs)
    for names, values in (
        (inputs, graph.input),
        (outputs, graph.output),
        (set(args) - named, graph.value_info),
    ):
        for name in names:
            _fill_value(values.add(name=name), args.get(name))
    for node in table.tables(_Graph.NODES):
        _fill_node(graph.node.add(), node, depth)


def _fill_node(node: onnx.NodeProto, table: Table, depth: int) -> None:
    node.name, node.op_type, node.domain = (
        table.text(_Node.NAME),
        table.text(_Node.OP_TYPE),
        table.text(_Node.DOMAIN),
    )
    node.input.extend(table.texts(_Node.INPUTS))
    node.output.extend(table.texts(_Node.OUTPUTS))
    for attribute in table.tables(_Node.ATTRIBUTES):
        _fill_attribute(node.attribute.add(), attribute, depth)


def _fill_attribute(attribute: onnx.AttributeProto, table: Table, depth: int) -> None:
    """The kinds that shapes and costs depend on; their codes are those of AttributeProto."""
    attribute.name = table.text(_Attribute.NAME)
    kind = table.integer(_Attribute.TYPE, "int32")
    if not 0 <= kind < len(attribute.AttributeType.values()):
        raise FlatbufferError(f"attribute `{attribute.name}` is of kind {kind}")
    attribute.type = attribute.AttributeType.values()[kind]
    attribute.i = table.integer(_Attribute.INT, "int64")
    attribute.f = table.real(_Attribute.FLOAT)
    attribute.s = table.text(_Attribute.TEXT).encode()
    attribute.ints.extend(table.integers(_Attribute.INTS, "int64"))
    attribute.floats.extend(float(number) for number in table.numbers(_Attribute.FLOATS, "float32"))
    attribute.strings.extend(text.encode() for text in table.texts(_Attribute.TEXTS))
    tensor, body = table.table(_Attribute.TENSOR), table.table(_Attribute.GRAPH)
    if tensor is not None:
        _fill_tensor(attribute.t, tensor)
    if body is not None:
        _fill(attribute.g, body, depth + 1)
    for inner in table.tables(_Attribute.GRAPHS):
        _fill(attribute.graphs.add(), inner, depth + 1)


def _fill_tensor(tensor: onnx.TensorProto, table: Table) -> None:
    tensor.name = table.text(_Tensor.NAME)
    tensor.data_type = table.integer(_Tensor.DATA_TYPE, "int32")
    tensor.dims.extend(table.integers(_Tensor.DIMS, "int64"))
    data = table.blob(_Tensor.RAW_DATA)
    if data is not None:
        tensor.raw_data = bytes(data) if len(data) <= _MAX_KEPT_BYTES else b""


def _fill_value(value: onnx.ValueInfoProto, arg: Table | None) -> None:
    """A value's type; of sequences and maps only which of both it is."""
    info = arg.table(_ValueInfo.TYPE) if arg else None
    kind = info.integer(_TypeInfo.VALUE_TYPE, "uint8") if info else 0
    told = info.table(_TypeInfo.VALUE) if info else None
    if told is None or kind not in (1, 2, 3):
        return
    if kind != 1:
        (value.type.sequence_type if kind == 2 else value.type.map_type).SetInParent()
        return
    value.type.tensor_type.elem_type = told.integer(0, "int32")
    shape = told.table(1)
    if shape is None:
        return
    value.type.tensor_type.shape.SetInParent()
    for dimension in shape.tables(0):
        _fill_dim(value.type.tensor_type.shape.dim.add(), dimension.table(0))


def _fill_dim(dim: onnx.TensorShapeProto.Dimension, table: Table | None) -> None:
    kind = table.integer(0, "int8") if table is not None else 0
    if table is not None and kind == 1:
        dim.dim_value = table.integer(1, "int64")
    elif table is not None and kind == 2:
        dim.dim_param = table.text(2)
