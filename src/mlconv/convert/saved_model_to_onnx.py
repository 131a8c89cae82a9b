"""TensorFlow SavedModel, of TensorFlow 1 or 2 -> ONNX."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.signature import with_axes
from mlconv.convert.tensorflow_import.custom_objects import import_objects
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
    BadInputOption,
    ConverterFailed,
    Corrupt,
    MlconvError,
    ShapesNeeded,
    SourceDoesNotRun,
    UnknownInput,
    UnknownSignature,
    UnsupportedOperator,
    UnsupportedType,
    listed,
    nearest,
)
from mlconv.formats import ModelFile, saved_functions, saved_model
from mlconv.formats.refs import for_shell
from mlconv.formats.saved_functions import CALL, Function, Tensor, Traced
from mlconv.messages import Scene, recognised, tensorflow_words
from mlconv.runners.base import Runner
from mlconv.runners.tensorflow import TensorFlowRunner, dims, dtype_name, outputs_apart, tensorflow, tf_dtype
from mlconv.tensors import Dim, TensorSpec, show_shape, typed

DEFAULT_SIGNATURE = "serving_default"
NO_FUNCTIONS: Mapping[str, Function] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Signature:
    """One entry point of a SavedModel, as its own file tells it.

    Attributes:
        inputs: The graph's tensor names and specs, by name in alphabetical order: the file itself has none.
        outputs: The same for outputs.
        tags: Of the graph that holds it.
        is_v1: Whether TensorFlow 1 wrote it: there are no objects behind the graph.
        function: The form of a function that was saved without a signature; its ports have no tensors.
    """

    key: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tags: tuple[str, ...]
    is_v1: bool
    function: Traced | None = None

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
    """Convert the signature that `--signature` names, else ``serving_default``, else the only one.

    Where there is none, a function of the root object takes its place: ``__call__``, else the only one.
    """
    signature, found = _entry(job.source, job.options)
    wanted = replace(signature, outputs=chosen(signature.outputs, job.options.outputs))
    loaded, frozen = _frozen(job.source, signature, wanted)
    try:
        inputs, outputs = convert_frozen(frozen, job)
    except (UnsupportedOperator, ConverterFailed) as error:
        if signature.takes_text:
            raise _takes_text(signature, found, job.source.ref, error) from error
        raise
    reference = TensorFlowRunner("tensorflow-cpu", inputs, outputs, loaded.call, loaded.release)
    trains = signature.function is not None and signature.function.trains
    told = f"`{signature.key}` was saved for training=True alone, and computes as in training"
    return Converted(inputs, outputs, reference, "tf2onnx", PACKAGES, [told] if trains else [])


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
    raise _does_not_load(source, failures) from failures[0]


def open_runner(model: ModelFile, options: Options) -> Runner:
    """The signature that `--signature` names, in TensorFlow."""
    folder = _folder(model)
    signature, _ = _entry(model, options)
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
    raise _does_not_load(model, failures) from failures[0]


def _folder(model: ModelFile) -> Path:
    if model.path is None:
        raise SourceDoesNotRun(f"`{model.ref}` is no folder", fix="give the SavedModel's folder")
    return model.path if model.path.is_dir() else model.path.parent


def _does_not_load(model: ModelFile, failures: Sequence[Exception]) -> MlconvError:
    for failure in failures:
        known = recognised(failure, Scene(model.ref), tensorflow_words.LOAD)
        if known:
            return known
    why = "; ".join(dict.fromkeys(decisive_line(failure) for failure in failures))
    return SourceDoesNotRun(f"TensorFlow cannot load `{model.ref}`", why=why or None,
                            fix="load it with the TensorFlow that wrote it, and save it again")  # fmt: skip


# ------------------------------------------------------------------ what the file says


def _entry(model: ModelFile, options: Options) -> tuple[Signature, dict[str, Signature]]:
    """The entry point that the options name, else the usual one; with it all signatures of its graph."""
    tensorflow()
    import_objects(
        options.custom_objects
    )  # it may register operators; the model's own code lies in its graph
    graph = _graph(_folder(model), options.tag, model.ref)
    found = _signatures(graph)
    functions = saved_functions.read(memoryview(graph.object_graph_def.SerializeToString()))
    asked = options.signature
    if asked in functions and asked not in found:
        return _of_function(functions[str(asked)], graph, options, model.ref), found
    if asked is None and not found and functions:
        usual = CALL if CALL in functions else next(iter(functions))
        if usual == CALL or len(functions) == 1:
            return _of_function(functions[usual], graph, options, model.ref), found
        raise UnknownSignature(
            f"`{model.ref}` has no signature, and several functions",
            why=f"they are {', '.join(map(saved_model.told, functions.values()))}", fix=f"--signature {for_shell(usual)}",
        )  # fmt: skip
    return select(found, asked, model.ref, functions), found


def signatures(folder: Path, tag: str | None = None) -> dict[str, Signature]:
    """Every signature of the graph that ``tag`` names, else of that tagged ``serve``, or of the only graph, by key.

    Raises:
        Corrupt: ``saved_model.pb`` is no SavedModel.
        UnknownTag: See ``formats.saved_model.select_graph``.
        UnsupportedType: A signature takes sparse or composite tensors.
    """
    return _signatures(_graph(folder, tag, str(folder)))


def _signatures(graph: Any) -> dict[str, Signature]:
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


def _graph(folder: Path, tag: str | None, ref: str) -> Any:
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
        return graphs[
            saved_model.select_graph([tuple(graph.meta_info_def.tags) for graph in graphs], tag, ref)
        ]
    except (DecodeError, text_format.ParseError, UnicodeDecodeError, OSError, IndexError) as error:
        raise Corrupt(
            f"`{folder}` holds no readable SavedModel", why=decisive_line(error), fix="save the model again"
        ) from error


def _of_function(function: Function, graph: Any, options: Options, ref: str) -> Signature:
    """The form of a function that fits `--input`, as an entry point.

    Raises:
        UnknownSignature: It was never called before it was saved, so that the file holds nothing of it.
        ShapesNeeded: Several forms fit.
        BadInputOption, UnknownInput: None does.
        UnsupportedType: It takes or gives what is no dense tensor.
    """
    if not function.traced:
        raise UnknownSignature(
            f"the function `{function.name}` of `{ref}` was never called before it was saved", why="so the file holds nothing of it",
            fix="call it once where it is defined and save it again; or tf.saved_model.save(model, folder, signatures=function)",
        )  # fmt: skip
    if not function.forms:
        raise UnsupportedType(
            f"the function `{function.name}` of `{ref}` takes or gives what is no dense tensor",
            fix="save a signature of dense tensors: tf.saved_model.save(model, folder, signatures=function)",
        )
    traced = _fitting(function, options)
    inputs = tuple(Port("", spec) for spec in traced.inputs)
    outputs = tuple(Port("", spec) for spec in outputs_apart(traced.inputs, traced.outputs))
    return Signature(
        function.name, inputs, outputs, tuple(graph.meta_info_def.tags), is_v1=False, function=traced
    )


def _fitting(function: Function, options: Options) -> Traced:
    """The most general of the forms that `--input` fits."""
    refusals: list[MlconvError] = []
    fitting: list[Traced] = []
    for traced in function.forms:
        try:
            laid_over([Port("", spec) for spec in traced.inputs], options)
        except (BadInputOption, UnknownInput) as error:
            refusals.append(error)
        else:
            fitting.append(traced)
    if not fitting:
        raise refusals[0]
    least = [traced for traced in fitting if all(_covers(traced, other) for other in fitting)]
    if least:
        return least[0]
    inputs = fitting[0].inputs
    line = " ".join(typed(spec.name, f"{show_shape(_sized(spec))}:{spec.dtype}") for spec in inputs)
    raise ShapesNeeded(
        f"the function `{function.name}` was saved for several kinds of inputs", why=f"it is {saved_model.told(function)}",
        fix=line,
    )  # fmt: skip


def _sized(spec: TensorSpec) -> tuple[Dim, ...] | None:
    """The shape as `--input` takes it: a name for each open axis."""
    return with_axes([spec])[0].shape


def _covers(wide: Traced, narrow: Traced) -> bool:
    """Whether one form takes all that another takes."""
    return len(wide.inputs) == len(narrow.inputs) and all(
        a.dtype == b.dtype and (a.shape is None or (b.shape is not None and len(a.shape) == len(b.shape)
        and all(x is None or x == y for x, y in zip(a.shape, b.shape, strict=True))))
        for a, b in zip(wide.inputs, narrow.inputs, strict=True)
    )  # fmt: skip


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


def select(
    found: dict[str, Signature], asked: str | None, ref: str, functions: Mapping[str, Function] = NO_FUNCTIONS
) -> Signature:
    """The signature asked for, else ``serving_default``, else the only one.

    Raises:
        UnknownSignature: It is not there, or several are and none is the default.
    """
    known = [f"`{key}` ({_show(signature.inputs)})" for key, signature in found.items()]
    told = "; ".join([*known, *map(saved_model.told, functions.values())])
    if asked is None:
        usual = [key for key in found if key == DEFAULT_SIGNATURE] or list(found)
        if len(usual) == 1:
            return found[usual[0]]
        raise UnknownSignature(
            f"`{ref}` has {'several signatures and none called `serving_default`' if found else 'no signature'}",
            why=f"it has {told}"
            if found
            else "only a function with a signature has inputs and outputs of known names and shapes",
            fix=f"--signature {for_shell(next(iter(found)))}"
            if found
            else "save it with tf.saved_model.save(model, folder, signatures=function)",
        )
    if asked not in found:
        close = nearest(asked, [*found, *functions]) or [*found, *functions][:1]
        raise UnknownSignature(f"`{ref}` has no signature `{asked}`", why=f"it has {told}" if told else "it has none",
                               fix=f"--signature {for_shell(close[0])}" if close else "leave --signature out")  # fmt: skip
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
        fix=f"--signature {for_shell(others[0])}" if others else "save the part behind the text as a signature of its own, and convert that",
    )  # fmt: skip


# ------------------------------------------------------------------ two ways of loading


def _ways(signature: Signature) -> list[Callable[[Path, Signature], Loaded]]:
    """Both loaders, the one of the TensorFlow that wrote the file first.

    Some TensorFlow 2 files are beyond ``tf.saved_model.load`` (optimizer slots of older Keras versions, custom
    objects), while their graph and variables load in a session.
    """
    if signature.function is not None:
        return [_as_function]
    return [_in_session, _as_objects] if signature.is_v1 else [_as_objects, _in_session]


def _as_function(folder: Path, signature: Signature) -> Loaded:
    """A function without a signature, wrapped in one of our own names: its arguments may be nests and plain values."""
    tf = tensorflow()
    names = [f"in_{index:04d}" for index in range(len(signature.inputs))]
    specs = [port.spec for port in signature.inputs]
    results = [port.spec.name for port in signature.outputs]
    assert signature.function is not None
    positional, keywords = signature.function.arguments

    def wrapped(owner: Any) -> Any:
        callee = getattr(owner, signature.key)

        def flat(**given: Any) -> dict[str, Any]:
            tensors = [given[name] for name in names]
            made = callee(*_filled(list(positional), tensors), **_filled(keywords, tensors))
            leaves = [leaf for leaf in tf.nest.flatten(made) if leaf is not None]
            return {f"out_{index:04d}": tf.identity(leaf) for index, leaf in enumerate(leaves)}

        sizes = [
            None if spec.shape is None else [d if isinstance(d, int) else None for d in spec.shape]
            for spec in specs
        ]
        given = {
            name: tf.TensorSpec(size, tf_dtype(spec.dtype), name=name)
            for name, size, spec in zip(names, sizes, specs, strict=True)
        }
        return tf.function(flat).get_concrete_function(**given)

    imported = tf.saved_model.load(str(folder), tags=list(signature.tags))
    function = wrapped(imported)

    def call(feeds: dict[str, Any]) -> Any:
        fed = {
            name: tf.convert_to_tensor(feeds[spec.name], tf_dtype(spec.dtype))
            for name, spec in zip(names, specs, strict=True)
        }
        given = function(**fed)
        return {result: given[key] for result, key in zip(results, sorted(given), strict=True)}

    def freeze(wanted: Signature) -> Frozen:
        owner = (
            tf.saved_model.load(str(folder), tags=list(signature.tags)) if _has_tables(function) else imported
        )
        numbered = {result: f"out_{index:04d}" for index, result in enumerate(results)}
        return freeze_function(
            owner, wrapped(owner) if owner is not imported else function, dict(zip(names, specs, strict=True)),
            {numbered[port.spec.name]: port.spec for port in wanted.outputs},
        )  # fmt: skip

    return Loaded(signature, call, freeze, lambda: None)


def _filled(value: Any, tensors: Sequence[Any]) -> Any:
    """Arguments with each tensor in its place."""
    if isinstance(value, Tensor):
        return tensors[value.index]
    if isinstance(value, dict):
        return {key: _filled(item, tensors) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)([_filled(item, tensors) for item in value])
    return value


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
        # through the object, which keeps the variables of its functions
        run_once = imported.signatures[signature.key]
        given = run_once(**{name: tf.convert_to_tensor(array, dtypes[name]) for name, array in feeds.items()})
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
