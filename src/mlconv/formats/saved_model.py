"""TensorFlow SavedModels, TF1's and TF2's, read without TensorFlow.

Field numbers are those of tensorflow/core/protobuf/{saved_model,meta_graph,saver,saved_object_graph}.proto.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlconv.errors import UnknownSignature, UnknownTag, listed, nearest
from mlconv.formats import Description, ModelFile, graph_def, mapped, protobuf, saved_functions
from mlconv.formats.archive import broken
from mlconv.formats.graph_def import Graph
from mlconv.formats.protobuf import BYTES, VARINT, WireError
from mlconv.formats.refs import for_shell
from mlconv.formats.saved_functions import Function
from mlconv.tensors import TensorSpec, show_shape

FILE = "saved_model.pb"
SERVING = "serving_default"
SERVING_TAG = "serve"
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
        functions: Those of the root object, by name: what can be called without a signature.
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
    functions: dict[str, Function] = field(default_factory=dict)


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
    """The graph tagged ``serve`` and nothing else, else the first that has this tag, else the first."""
    return graphs[_serving([graph.tags for graph in graphs]) or 0]


def select_graph(tags: Sequence[Sequence[str]], asked: str | None, ref: str) -> int:
    """Which of several graphs, by the tags of each: the one asked for, else that tagged ``serve``, else the only one.

    Args:
        asked: A tag, or several joined by a comma or a plus; empty for the graph without tags.

    Raises:
        UnknownTag: No graph has these tags, or several have; or none is asked for and none is usual.
    """
    shown = [_shown(own) for own in tags]
    if asked is None:
        usual = _serving(tags)
        if usual is None and len(tags) > 1:
            raise UnknownTag(
                f"`{ref}` has {len(tags)} graphs and none tagged `serve`", why=f"they are tagged {listed(shown)}",
                fix=f"--tag {_typed(tags[0])}",
            )  # fmt: skip
        return usual or 0
    wanted = {part.strip() for part in asked.replace("+", ",").split(",") if part.strip()}
    same = [index for index, own in enumerate(tags) if set(own) == wanted]
    holding = same or [index for index, own in enumerate(tags) if wanted and wanted <= set(own)]
    if len(holding) == 1 or same:
        return holding[0]
    close = nearest(asked, [_typed(own) for own in tags])
    raise UnknownTag(
        f"`{ref}` has {'several graphs' if holding else 'no graph'} tagged `{asked}`", why=f"its graphs are tagged {listed(shown)}",
        fix=f"--tag {_typed(tags[holding[0]]) if holding else close[0] if close else _typed(tags[0])}",
    )  # fmt: skip


def _serving(tags: Sequence[Sequence[str]]) -> int | None:
    exact = [index for index, own in enumerate(tags) if tuple(own) == (SERVING_TAG,)]
    return next(iter([*exact, *(index for index, own in enumerate(tags) if SERVING_TAG in own)]), None)


def _shown(tags: Sequence[str]) -> str:
    return ",".join(sorted(tags)) or "without a tag"


def _typed(tags: Sequence[str]) -> str:
    """Tags as `--tag` takes them, in quotes where a shell needs those."""
    return for_shell(",".join(sorted(tags)))


def default_signature(graph: MetaGraph) -> str | None:
    """``serving_default``, else the first by name; None where there is none."""
    return SERVING if SERVING in graph.signatures else min(graph.signatures, default=None)


def describe(model: ModelFile, signature: str | None = None, tag: str | None = None) -> Description:
    """What a SavedModel says of itself: one signature, and the operators of the whole graph and its functions.

    Parameters are those that the signature computes with: an optimizer's variables do not count. Without a signature
    the root object's functions stand in its place.

    Raises:
        Corrupt: A file of it is damaged.
        UnknownSignature: It has no entry point ``signature``.
        UnknownTag: It has no graph of that tag.
    """
    folder = mapped.path_of(model)
    graphs = read(folder)
    graph = (
        serving(graphs) if tag is None else graphs[select_graph([one.tags for one in graphs], tag, model.ref)]
    )
    name = signature or default_signature(graph) or next(iter(graph.functions), None)
    if name is not None and name not in graph.signatures and name not in graph.functions:
        there = [*sorted(graph.signatures), *graph.functions]
        raise UnknownSignature(
            f"`{folder}` has no signature `{name}`; it has {listed(there) or 'none'}",
            fix=f"--signature {for_shell(default_signature(graph) or next(iter(graph.functions), 'NAME'))}",
        )
    chosen = _entry(graph, name)
    try:
        parameters = _parameters(graph.graph, chosen)
    except WireError as error:
        raise broken(folder / FILE, f"it is no whole SavedModel: {error}") from error
    return Description(
        "saved-model", inputs=chosen.inputs, outputs=chosen.outputs, operators=graph_def.operators(graph.graph),
        parameters=parameters, bytes=sum(file.stat().st_size for file in _files(folder)),
        metadata=_metadata(graph), signatures=tuple(sorted(graph.signatures)) or tuple(graph.functions),
        notes=_notes(graphs, graph, name),
    )  # fmt: skip


def _entry(graph: MetaGraph, name: str | None) -> Signature:
    """A signature, or the first traced form of a function."""
    if name in graph.signatures:
        return graph.signatures[str(name)]
    forms = graph.functions[name].forms if name in graph.functions else ()
    return Signature(forms[0].inputs, forms[0].outputs, ()) if forms else Signature((), (), ())


def told(function: Function) -> str:
    """A function and what it was traced with: ```__call__` (x: float32[?,4])``."""
    forms = [
        ", ".join(f"{spec.name}: {spec.dtype}[{show_shape(spec.shape)}]" for spec in traced.inputs)
        or "nothing"
        for traced in function.forms
    ]
    return (
        f"`{function.name}` ({' or '.join(dict.fromkeys(forms))})"
        if forms
        else f"`{function.name}` (never called)"
    )


def _meta_graph(data: memoryview) -> MetaGraph:
    info, saver = protobuf.message(data, 1), protobuf.message(data, 3)
    signatures = {
        name: _signature(found)
        for name, found in protobuf.entries(data, 5).items()
        if name not in _HOUSEKEEPING
    }
    objects = protobuf.message(data, 7)
    functions = saved_functions.read(objects)
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
        functions=functions,
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


def _metadata(graph: MetaGraph) -> dict[str, str]:
    known = {"tags": ", ".join(graph.tags), "tensorflow_version": graph.tensorflow_version}
    return {key: value for key, value in known.items() if value}


def _notes(graphs: tuple[MetaGraph, ...], graph: MetaGraph, name: str | None) -> tuple[str, ...]:
    notes = []
    if len(graphs) > 1:
        notes.append(
            f"it holds {len(graphs)} graphs, with the tags {listed([_shown(one.tags) for one in graphs])}: --tag chooses another"
        )
    if not graph.signatures and graph.functions:
        notes.append(
            f"it has no signature; functions that --signature takes: {', '.join(map(told, graph.functions.values()))}"
        )
    elif name is None:
        notes.append("it has no signature: save it again with signatures=")
    elif len(graph.signatures) > 1:
        notes.append(
            f"shown is the signature `{name}` of {len(graph.signatures)}: --signature chooses another"
        )
    return tuple(notes)


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
