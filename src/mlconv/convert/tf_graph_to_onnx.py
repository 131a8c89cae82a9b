"""A frozen TensorFlow 1 graph (`GraphDef`, `.pb`) -> ONNX."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlconv.convert.job import Converted, Job, Options
from mlconv.convert.signature import unknown_output
from mlconv.convert.tensorflow_import.graph import PACKAGES, Frozen, convert_frozen, laid_over
from mlconv.convert.tensorflow_import.signature import Port
from mlconv.convert.tensorflow_import.words import decisive_line
from mlconv.errors import Corrupt, SourceDoesNotRun, UnknownOutput, UnsupportedType, counted, listed
from mlconv.formats import ModelFile, mapped
from mlconv.runners.base import Runner
from mlconv.runners.tensorflow import TensorFlowRunner, outputs_apart, spec_of, tensorflow
from mlconv.tensors import TensorSpec

_INPUTS = ("Placeholder", "PlaceholderWithDefault", "PlaceholderV2")
_VARIABLES = ("VariableV2", "Variable", "VarHandleOp", "AutoReloadVariable")
_NO_RESULT = (
    "Const",
    "NoOp",
    "Assert",
    "Print",
    "PrintV2",
    "Placeholder",
    "PlaceholderV2",
    "SaveV2",
    "RestoreV2",
    "MergeSummary",
)
_IMAGE_OPERATORS = ("Conv2D", "DepthwiseConv2dNative", "MaxPool", "AvgPool", "FusedBatchNorm", "FusedBatchNormV3",
                    "DepthToSpace", "SpaceToDepth", "ResizeBilinear", "ResizeNearestNeighbor", "LRN")  # fmt: skip
"""They take rank 4 alone, so an input that feeds one has it, whatever the graph says."""


def run(job: Job) -> Converted:
    """Convert what leads to `--outputs`, by node or tensor name; without it, to every node that nothing uses."""
    frozen = load(job.source, job.options)
    inputs, outputs = convert_frozen(frozen, job)
    return Converted(inputs, outputs, _runner(frozen, inputs, outputs), "tf2onnx", PACKAGES)


def open_runner(model: ModelFile, options: Options) -> Runner:
    frozen = load(model, options)
    inputs = tuple(port.spec for port in laid_over(frozen.inputs, options))
    return _runner(frozen, inputs, tuple(port.spec for port in frozen.outputs))


def load(model: ModelFile, options: Options) -> Frozen:
    """The graph with its inputs and outputs found.

    Raises:
        Corrupt: The file is no GraphDef that TensorFlow imports.
        SourceDoesNotRun: It holds variables, whose values are elsewhere.
        UnknownOutput: `--outputs` names nothing of it, or none can be inferred.
        UnsupportedType: An input is no tensor of numbers.
    """
    tf = tensorflow()
    graph_def = _read(model, tf)
    graph = tf.Graph()
    with graph.as_default():
        try:
            tf.import_graph_def(graph_def, name="")
        except Exception as error:  # ValueError and TensorFlow's own kinds alike: it refuses the graph
            raise Corrupt(
                f"TensorFlow cannot import `{model.ref}`",
                why=decisive_line(error),
                fix="freeze the graph again",
            ) from error
    variables = [node.name for node in graph_def.node if node.op in _VARIABLES]
    if variables:
        raise SourceDoesNotRun(f"`{model.ref}` is not frozen: it holds {counted(len(variables), 'variable')} without values",
                               why=f"the first are {listed(variables, 3)}", fix="convert the SavedModel or freeze the graph with its checkpoint")  # fmt: skip
    outputs = [_tensor(graph, name) for name in options.outputs] or _sinks(graph)
    if not outputs:
        raise UnknownOutput(f"no output of `{model.ref}` can be inferred", fix="--outputs NAME,...")
    inputs = _inputs(graph, outputs)
    text = [tensor.op.name for tensor in inputs if tensor.dtype == tf.string]
    if text:
        raise UnsupportedType(
            f"`{model.ref}` takes text: {listed(text)}", fix="--outputs and --input that leave the text out"
        )
    names = _names(outputs)
    ins = tuple(Port(tensor.name, _with_rank(spec_of(tensor.op.name, tensor), tensor)) for tensor in inputs)
    found = [spec_of(name, tensor) for name, tensor in zip(names, outputs, strict=True)]
    specs = outputs_apart([port.spec for port in ins], found)
    outs = tuple(Port(tensor.name, spec) for tensor, spec in zip(outputs, specs, strict=True))
    return Frozen(graph_def, ins, outs)


def _read(model: ModelFile, tf: Any) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    graph_def = tf.compat.v1.GraphDef()
    try:
        graph_def.ParseFromString(mapped.path_of(model).read_bytes())
    except DecodeError as error:
        raise Corrupt(
            f"`{model.ref}` is no GraphDef", why=decisive_line(error), fix="freeze the graph again"
        ) from error
    return graph_def


# ------------------------------------------------------------------ inputs and outputs


def _tensor(graph: Any, name: str) -> Any:
    operation, _, index = name.partition(":")
    known = {op.name: op for op in graph.get_operations()}
    number = int(index or 0) if not index or index.isdigit() else -1
    if operation not in known or not 0 <= number < len(known[operation].outputs):
        raise unknown_output(name, [op.name for op in known.values() if op.type not in _NO_RESULT])
    return known[operation].outputs[number]


def _sinks(graph: Any) -> list[Any]:
    """Results that nothing uses, in the graph's order; of a batch normalisation the normalised tensor alone."""
    found = []
    for op in graph.get_operations():
        if op.type in _NO_RESULT or not op.outputs or any(tensor.consumers() for tensor in op.outputs):
            continue
        found += list(op.outputs[:1] if op.type.startswith("FusedBatchNorm") else op.outputs)
    return [tensor for tensor in found if tensor.dtype.name not in ("resource", "variant", "string")]


def _inputs(graph: Any, outputs: Sequence[Any]) -> list[Any]:
    """The placeholders that outputs depend on, in the graph's order."""
    reached: set[str] = set()
    rest = [tensor.op for tensor in outputs]
    while rest:
        op = rest.pop()
        if op.name not in reached:
            reached.add(op.name)
            rest += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return [op.outputs[0] for op in graph.get_operations() if op.type in _INPUTS and op.name in reached]


def _names(outputs: Sequence[Any]) -> list[str]:
    """Node names; with the output's number where one node gives several."""
    counts: dict[str, int] = {}
    for tensor in outputs:
        counts[tensor.op.name] = counts.get(tensor.op.name, 0) + 1
    return [
        tensor.op.name if counts[tensor.op.name] == 1 and tensor.value_index == 0 else tensor.name
        for tensor in outputs
    ]


def _with_rank(spec: TensorSpec, tensor: Any) -> TensorSpec:
    """The rank, and the channels where a convolution tells them, of an input whose graph tells no shape."""
    if spec.shape is not None:
        return spec
    for op in tensor.consumers():
        if op.type in _IMAGE_OPERATORS:
            channels = (
                op.inputs[1].shape[2]
                if op.type in ("Conv2D", "DepthwiseConv2dNative") and op.inputs[1].shape.rank
                else None
            )
            is_nchw = _layout(op) == b"NCHW"
            return replace(
                spec, shape=(None, channels, None, None) if is_nchw else (None, None, None, channels)
            )
    return spec


def _layout(op: Any) -> bytes:
    try:
        return bytes(op.get_attr("data_format"))
    except ValueError:
        return b"NHWC"


def _runner(frozen: Frozen, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]) -> Runner:
    tf = tensorflow()
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(frozen.graph_def, name="")
    session = tf.compat.v1.Session(graph=graph)
    fetches = {port.spec.name: port.tensor for port in frozen.outputs}
    feeds_to = {port.spec.name: port.tensor for port in frozen.inputs}

    def call(feeds: dict[str, Any]) -> Any:
        return session.run(fetches, {feeds_to[name]: array for name, array in feeds.items()})

    return TensorFlowRunner("tensorflow-cpu", inputs, outputs, call, session.close)
