"""TensorFlow SavedModels, TF1's and TF2's, read without TensorFlow.

Field numbers are those of tensorflow/core/protobuf/{saved_model,meta_graph,saver,saved_object_graph}.proto.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlconv.errors import UnknownSignature, listed
from mlconv.formats import Description, ModelFile, graph_def, mapped, protobuf
from mlconv.formats.archive import broken
from mlconv.formats.graph_def import Graph
from mlconv.formats.protobuf import BYTES, VARINT, WireError
from mlconv.tensors import TensorSpec

FILE = "saved_model.pb"
SERVING = "serving_default"
_COLLECTIONS = ("saved_model_main_op", "legacy_init_op", "saved_model_initializers")
_HOUSEKEEPING = ("__saved_model_init_op", "__saved_model_train_op")


@dataclass(frozen=True, slots=True)
class Signature:
    """An entry point: inputs and outputs by key, in the order of the keys, as TensorFlow's loader gives them."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    tensors: tuple[str, ...]
    """Names of the output tensors in the graph."""


@dataclass(frozen=True, slots=True)
class MetaGraph:
    """One graph of a SavedModel with its tags and signatures.

    Attributes:
        savers: Nodes that save the variables; only saving runs them.
        restorers: Nodes that restore them; loading runs them.
        initializers: Nodes that loading runs.
        concrete_functions: Functions that the loaded objects can call.
        assets: Asset file names.
    """

    tags: tuple[str, ...]
    tensorflow_version: str
    graph: Graph
    signatures: dict[str, Signature]
    savers: tuple[str, ...]
    restorers: tuple[str, ...]
    initializers: tuple[str, ...]
    concrete_functions: tuple[str, ...]
    assets: tuple[str, ...]


def is_saved_model(data: memoryview) -> bool:
    """Whether bytes are a SavedModel message: a schema version, then a MetaGraphDef with a graph. A cut-off one is too."""
    try:
        for number, wire, _, start, end in protobuf.spans(data, cut=True):
            if (number, wire) == (2, BYTES):
                inner = data[start:end]
                return any(
                    found == (2, BYTES)
                    for found in ((field, kind) for field, kind, *_ in protobuf.spans(inner, cut=True))
                )
            if (number, wire) != (1, VARINT):
                return False
    except WireError:
        return False
    return False


def read(folder: Path) -> tuple[MetaGraph, ...]:
    """Every graph of a SavedModel.

    Raises:
        Corrupt: ``saved_model.pb`` is cut off or damaged, or has no graph.
    """
    path = folder / FILE
    try:
        found = tuple(_meta_graph(data) for data in protobuf.messages(mapped.read_only(path), 2))
    except WireError as error:
        raise broken(path, f"it is no whole SavedModel: {error}") from error
    if not found:
        raise broken(path, "it has no graph")
    return found


def serving(graphs: tuple[MetaGraph, ...]) -> MetaGraph:
    """The graph with the tag ``serve``, else the first."""
    return next((graph for graph in graphs if "serve" in graph.tags), graphs[0])


def default_signature(graph: MetaGraph) -> str | None:
    """``serving_default``, else the first by name; None where there is none."""
    return SERVING if SERVING in graph.signatures else min(graph.signatures, default=None)


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What a SavedModel says of itself: one signature, and the operators of the whole graph and its functions.

    Parameters are those that the signature computes with: an optimizer's variables do not count.

    Raises:
        Corrupt: A file of it is damaged.
        UnknownSignature: It has no entry point ``signature``.
    """
    folder = mapped.path_of(model)
    graphs = read(folder)
    graph = serving(graphs)
    name = signature or default_signature(graph)
    if name is not None and name not in graph.signatures:
        raise UnknownSignature(
            f"`{folder}` has no signature `{name}`; it has {listed(sorted(graph.signatures)) or 'none'}",
            fix=f"--signature {default_signature(graph) or 'NAME'}",
        )
    chosen = graph.signatures[name] if name else Signature((), (), ())
    try:
        parameters = _parameters(graph.graph, chosen)
    except WireError as error:
        raise broken(folder / FILE, f"it is no whole SavedModel: {error}") from error
    return Description(
        "saved-model", inputs=chosen.inputs, outputs=chosen.outputs, operators=graph_def.operators(graph.graph),
        parameters=parameters, bytes=sum(file.stat().st_size for file in _files(folder)),
        metadata=_metadata(graphs), signatures=tuple(sorted(graph.signatures)), notes=_notes(graphs, graph, name),
    )  # fmt: skip


def _meta_graph(data: memoryview) -> MetaGraph:
    info, saver = protobuf.message(data, 1), protobuf.message(data, 3)
    signatures = {
        name: _signature(found)
        for name, found in protobuf.entries(data, 5).items()
        if name not in _HOUSEKEEPING
    }
    objects = protobuf.message(data, 7)
    return MetaGraph(
        tags=tuple(protobuf.texts(info, 4)),
        tensorflow_version=protobuf.text(info, 5),
        graph=graph_def.read(protobuf.message(data, 2)),
        signatures=signatures,
        savers=tuple(graph_def.producer(name) for field in (1, 2) if (name := protobuf.text(saver, field))),
        restorers=tuple(graph_def.producer(name) for name in (protobuf.text(saver, 3),) if name),
        initializers=tuple(graph_def.producer(name) for name in _initializers(data)),
        concrete_functions=tuple(protobuf.entries(objects, 2)),
        assets=tuple(protobuf.text(asset, 2) for asset in protobuf.messages(data, 6)),
    )


def _initializers(data: memoryview) -> list[str]:
    """What TensorFlow runs as it loads: a signature of its own in TF2, a collection of nodes in TF1."""
    names = []
    for name, signature in protobuf.entries(data, 5).items():
        if name in _HOUSEKEEPING:
            names += [protobuf.text(tensor, 1) for tensor in protobuf.entries(signature, 2).values()]
    for name, collection in protobuf.entries(data, 4).items():
        if name in _COLLECTIONS:
            names += protobuf.texts(protobuf.message(collection, 1), 1)
    return names


def _signature(data: memoryview) -> Signature:
    inputs, outputs = protobuf.entries(data, 1), protobuf.entries(data, 2)
    return Signature(
        tuple(_tensor(key, inputs[key]) for key in sorted(inputs)),
        tuple(_tensor(key, outputs[key]) for key in sorted(outputs)),
        tuple(protobuf.text(outputs[key], 1) for key in sorted(outputs)),
    )


def _tensor(key: str, info: memoryview) -> TensorSpec:
    """A TensorInfo. An absent shape message means a scalar, as in protobuf itself."""
    return TensorSpec(
        key, graph_def.shape(protobuf.message(info, 3)), graph_def.dtype(protobuf.integer(info, 2))
    )


def _parameters(graph: Graph, signature: Signature) -> int:
    """Elements of the variables and constants that a signature computes with; of the whole graph where it has none."""
    if not signature.tensors:
        return graph_def.parameters_of(graph.nodes)
    return graph_def.parameters_of(graph_def.reached(graph, map(graph_def.producer, signature.tensors)))


def _metadata(graphs: tuple[MetaGraph, ...]) -> dict[str, str]:
    chosen = serving(graphs)
    told = {"tags": ", ".join(chosen.tags), "tensorflow_version": chosen.tensorflow_version}
    return {key: value for key, value in told.items() if value}


def _notes(graphs: tuple[MetaGraph, ...], graph: MetaGraph, name: str | None) -> tuple[str, ...]:
    notes = []
    if len(graphs) > 1:
        notes.append(
            f"it holds {len(graphs)} graphs, with the tags {listed(['+'.join(one.tags) or 'none' for one in graphs])}"
        )
    if name is None:
        notes.append("it has no signature: save it again with signatures=")
    elif len(graph.signatures) > 1:
        notes.append(
            f"shown is the signature `{name}` of {len(graph.signatures)}: --signature chooses another"
        )
    return tuple(notes)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
