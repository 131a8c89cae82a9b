"""TensorFlow SavedModel, of TensorFlow 1 or 2 -> ONNX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.tensorflow_import.graph import (
    PACKAGES,
    Frozen,
    convert_frozen,
    freeze_function,
    inlined,
    laid_over,
)
from mlconv.convert.tensorflow_import.signature import Port, chosen
from mlconv.convert.tensorflow_import.words import decisive_line
from mlconv.errors import (
    ConverterFailed,
    Corrupt,
    MlconvError,
    SourceDoesNotRun,
    UnknownSignature,
    UnsupportedOperator,
    UnsupportedType,
    listed,
    nearest,
)
from mlconv.formats import ModelFile
from mlconv.runners.base import Runner
from mlconv.runners.tensorflow import TensorFlowRunner, dims, dtype_name, outputs_apart, tensorflow, tf_dtype
from mlconv.tensors import TensorSpec, show_shape

DEFAULT_SIGNATURE = "serving_default"
SERVING_TAG = "serve"


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry point of a SavedModel, as its own file tells it.

    Attributes:
        inputs: The graph's tensor names and specs, by name in alphabetical order: the file itself has none.
        outputs: The same for outputs.
        tags: Of the graph that holds it.
        is_v1: Whether TensorFlow 1 wrote it: there are no objects behind the graph.
    """

    key: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tags: tuple[str, ...]
    is_v1: bool

    @property
    def takes_text(self) -> tuple[str, ...]:
        """Inputs and outputs that are strings."""
        return tuple(port.spec.name for port in (*self.inputs, *self.outputs) if port.spec.dtype == "str")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A signature in TensorFlow's hands: to run it, and to freeze it."""

    signature: Signature
    call: Callable[[dict[str, Any]], Any]
    freeze: Callable[[Signature], Frozen]
    release: Callable[[], object]


def run(job: Job) -> Converted:
    """Convert the signature that `--signature` names, else ``serving_default``, else the only one."""
    tensorflow()
    found = signatures(_folder(job.source))
    signature = select(found, job.options.signature, job.source.ref)
    wanted = replace(signature, outputs=chosen(signature.outputs, job.options.outputs))
    loaded, frozen = _frozen(job.source, signature, wanted)
    try:
        inputs, outputs = convert_frozen(frozen, job)
    except (UnsupportedOperator, ConverterFailed) as error:
        if signature.takes_text:
            raise _takes_text(signature, found, job.source.ref, error) from error
        raise
    reference = TensorFlowRunner("tensorflow-cpu", inputs, outputs, loaded.call, loaded.release)
    return Converted(inputs, outputs, reference, "tf2onnx", PACKAGES)


def _frozen(source: ModelFile, signature: Signature, wanted: Signature) -> tuple[Loaded, Frozen]:
    """By the first way of loading that can also freeze."""
    failures: list[Exception] = []
    for way in _ways(signature):
        try:
            loaded = way(_folder(source), signature)
            return loaded, loaded.freeze(wanted)
        except MlconvError:
            raise
        except Exception as error:
            failures.append(error)
    raise _does_not_load(source, failures)


def open_runner(model: ModelFile, options: Options) -> Runner:
    """The signature that `--signature` names, in TensorFlow."""
    tensorflow()
    folder = _folder(model)
    signature = select(signatures(folder), options.signature, model.ref)
    failures: list[Exception] = []
    for way in _ways(signature):
        try:
            loaded = way(folder, signature)
        except Exception as error:
            failures.append(error)
            continue
        inputs = tuple(port.spec for port in laid_over(signature.inputs, options))
        outputs = tuple(port.spec for port in chosen(signature.outputs, options.outputs))
        return TensorFlowRunner("tensorflow-cpu", inputs, outputs, loaded.call, loaded.release)
    raise _does_not_load(model, failures)


def _folder(model: ModelFile) -> Path:
    if model.path is None:
        raise SourceDoesNotRun(f"`{model.ref}` is no folder", fix="give the SavedModel's folder")
    return model.path if model.path.is_dir() else model.path.parent


def _does_not_load(model: ModelFile, failures: Sequence[Exception]) -> SourceDoesNotRun:
    why = "; ".join(dict.fromkeys(decisive_line(failure) for failure in failures))
    return SourceDoesNotRun(f"TensorFlow cannot load `{model.ref}`", why=why or None,
                            fix="load it with the TensorFlow that wrote it, and save it again")  # fmt: skip


# ------------------------------------------------------------------ what the file says


def signatures(folder: Path) -> dict[str, Signature]:
    """Every signature of the graph tagged ``serve``, or of the only graph, by key.

    Raises:
        Corrupt: ``saved_model.pb`` is no SavedModel.
        UnsupportedType: A signature takes sparse or composite tensors.
    """
    graph = _serving_graph(folder)
    is_v1 = not graph.HasField("object_graph_def")
    tags = tuple(graph.meta_info_def.tags)
    found = {}
    for key in sorted(graph.signature_def):
        entry = graph.signature_def[key]
        if not key.startswith("__saved_model"):
            inputs, outputs = _ports(entry.inputs), _ports(entry.outputs)
            apart = outputs_apart([port.spec for port in inputs], [port.spec for port in outputs])
            outputs = tuple(Port(port.tensor, spec) for port, spec in zip(outputs, apart, strict=True))
            found[key] = Signature(key, inputs, outputs, tags, is_v1)
    return found


def _serving_graph(folder: Path) -> Any:
    from google.protobuf import text_format  # type: ignore[import-untyped]
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    binary, text = folder / "saved_model.pb", folder / "saved_model.pbtxt"
    saved = SavedModel()
    try:
        if binary.is_file():
            saved.ParseFromString(binary.read_bytes())
        else:
            text_format.Parse(text.read_text(encoding="utf-8"), saved)
        graphs = list(saved.meta_graphs)
        return next((graph for graph in graphs if SERVING_TAG in graph.meta_info_def.tags), graphs[0])
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, OSError, IndexError) as error:
        raise Corrupt(
            f"`{folder}` holds no readable SavedModel", why=decisive_line(error), fix="save the model again"
        ) from error


def _ports(entries: Any) -> tuple[Port, ...]:
    ports = []
    for name in sorted(entries):
        info = entries[name]
        if info.WhichOneof("encoding") != "name":
            raise UnsupportedType(
                f"`{name}` is a sparse or composite tensor",
                fix="--signature with one that takes dense tensors",
            )
        ports.append(Port(info.name, TensorSpec(name, _shape(info.tensor_shape), dtype_name(info.dtype))))
    return tuple(ports)


def _shape(proto: Any) -> Any:
    from tensorflow import TensorShape

    return dims(TensorShape(proto))


def select(found: dict[str, Signature], asked: str | None, ref: str) -> Signature:
    """The signature asked for, else ``serving_default``, else the only one.

    Raises:
        UnknownSignature: It is not there, or several are and none is the default.
    """
    told = "; ".join(f"`{key}` ({_show(signature.inputs)})" for key, signature in found.items())
    if asked is None:
        usual = [key for key in found if key == DEFAULT_SIGNATURE] or list(found)
        if len(usual) == 1:
            return found[usual[0]]
        raise UnknownSignature(
            f"`{ref}` has {'several signatures and none called `serving_default`' if found else 'no signature'}",
            why=f"it has {told}"
            if found
            else "only a function with a signature has inputs and outputs of known names and shapes",
            fix=f"--signature {next(iter(found))}"
            if found
            else "save it with tf.saved_model.save(model, folder, signatures=function)",
        )
    if asked not in found:
        close = nearest(asked, found) or list(found)[:1]
        raise UnknownSignature(f"`{ref}` has no signature `{asked}`", why=f"it has {told}" if found else "it has none",
                               fix=f"--signature {close[0]}" if close else "leave --signature out")  # fmt: skip
    return found[asked]


def _show(ports: Sequence[Port]) -> str:
    return (
        ", ".join(f"{port.spec.name}: {port.spec.dtype}[{show_shape(port.spec.shape)}]" for port in ports)
        or "no inputs"
    )


def _takes_text(
    signature: Signature, found: dict[str, Signature], ref: str, error: MlconvError
) -> UnsupportedType:
    others = [key for key, other in found.items() if not other.takes_text]
    return UnsupportedType(
        f"signature `{signature.key}` of `{ref}` takes or gives text: {listed(signature.takes_text)}",
        why=f"{error.what}" + (f"; signatures without text: {listed(others)}" if others else ""),
        fix=f"--signature {others[0]}" if others else "save the part behind the text as a signature of its own, and convert that",
    )  # fmt: skip


# ------------------------------------------------------------------ two ways of loading


def _ways(signature: Signature) -> list[Callable[[Path, Signature], Loaded]]:
    """Both loaders, the one of the TensorFlow that wrote the file first.

    Some TensorFlow 2 files are beyond ``tf.saved_model.load`` (optimizer slots of older Keras versions, custom
    objects), while their graph and variables load in a session.
    """
    return [_in_session, _as_objects] if signature.is_v1 else [_as_objects, _in_session]


def _as_objects(folder: Path, signature: Signature) -> Loaded:
    tf = tensorflow()
    imported = tf.saved_model.load(str(folder), tags=list(signature.tags))
    function = imported.signatures[signature.key]
    names = dict(
        zip(sorted(function.structured_outputs), (port.spec.name for port in signature.outputs), strict=True)
    )
    keys = {name: key for key, name in names.items()}
    dtypes = {port.spec.name: tf_dtype(port.spec.dtype) for port in signature.inputs}

    def call(feeds: dict[str, Any]) -> Any:
        given = function(**{name: tf.constant(array, dtypes[name]) for name, array in feeds.items()})
        return {name: given[key] for key, name in names.items()}

    def freeze(wanted: Signature) -> Frozen:
        owner = imported
        if _has_tables(function):  # tf2onnx takes their handles out of the function, which then runs no more
            owner = tf.saved_model.load(str(folder), tags=list(signature.tags))
        return freeze_function(
            owner,
            owner.signatures[signature.key],
            {port.spec.name: port.spec for port in wanted.inputs},
            {keys[port.spec.name]: port.spec for port in wanted.outputs},
        )

    return Loaded(signature, call, freeze, lambda: None)


def _has_tables(function: Any) -> bool:
    """Whether it holds resources that are no variables."""
    handles = [tensor for tensor in function.captured_inputs if tensor.dtype.name == "resource"]
    return len(handles) > len(function.variables)


def _in_session(folder: Path, signature: Signature) -> Loaded:
    tf = tensorflow()
    session = tf.compat.v1.Session(graph=tf.Graph())
    tf.compat.v1.saved_model.load(session, list(signature.tags), str(folder))
    fetches = {port.spec.name: port.tensor for port in signature.outputs}
    feeds_to = {port.spec.name: port.tensor for port in signature.inputs}

    def call(feeds: dict[str, Any]) -> Any:
        return session.run(fetches, {feeds_to[name]: array for name, array in feeds.items()})

    def freeze(wanted: Signature) -> Frozen:
        return _freeze_session(session, wanted)

    return Loaded(signature, call, freeze, session.close)


def _freeze_session(session: Any, signature: Signature) -> Frozen:
    import tensorflow as tf
    from tf2onnx import tf_loader

    ins, outs = [port.tensor for port in signature.inputs], [port.tensor for port in signature.outputs]
    graph_def = tf_loader.freeze_session(session, input_names=ins, output_names=outs)
    with tf.Graph().as_default():
        tf.import_graph_def(graph_def, name="")
        graph_def = tf_loader.tf_optimize(ins, outs, graph_def)
    return Frozen(
        inlined(graph_def, ins, outs), signature.inputs, signature.outputs, _tables(session, graph_def)
    )


def _tables(session: Any, graph_def: Any) -> dict[Any, Any]:
    """Keys and values of the session's hash tables by shared name; what no one filled is left out."""
    import tensorflow as tf
    from tf2onnx.tf_utils import get_hash_table_info

    found = {}
    for info in get_hash_table_info(graph_def):
        if info.shared_name is None:
            continue
        with session.graph.as_default():
            table = tf.raw_ops.HashTableV2(
                key_dtype=info.key_dtype, value_dtype=info.val_dtype, shared_name=info.shared_name
            )
            export = tf.raw_ops.LookupTableExportV2(
                table_handle=table, Tkeys=info.key_dtype, Tvalues=info.val_dtype
            )
        found[info.shared_name] = tuple(session.run(list(export)))
    return found
