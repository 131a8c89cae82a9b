"""tf2onnx, called the same way for SavedModels, Keras models, frozen graphs and TFLite files.

What comes back is bound to the names that the user knows, holds no operator that ONNX does not have, and names its
dynamic axes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from mlconv.convert import signature
from mlconv.convert.job import Job, Options
from mlconv.convert.signature import unsupported
from mlconv.convert.tensorflow_import import branches
from mlconv.convert.tensorflow_import import repairs as tf2onnx_repairs
from mlconv.convert.tensorflow_import.signature import Port, finish
from mlconv.convert.tensorflow_import.words import DEFAULT_OPSET, reason, translated
from mlconv.errors import MlconvError, OpsetOutOfReach, listed
from mlconv.runners.tensorflow import tf_dtype
from mlconv.tensors import TensorSpec

if TYPE_CHECKING:
    import onnx

LEAST_OPSET, GREATEST_OPSET = 7, 18  # what tf2onnx 1.17 writes; more is reached with onnx's version converter
PACKAGES = ("tensorflow", "tensorflow-cpu", "keras", "tf2onnx")
Signature: TypeAlias = tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")


@dataclass(frozen=True, slots=True)
class Frozen:
    """A TensorFlow graph without variables.

    Attributes:
        graph_def: A ``GraphDef``.
        tables: Keys and values of hash tables by shared name, as tf2onnx takes them.
        outputs_share_batch: Whether axis 0 of every output is the batch, as Keras promises it.
    """

    graph_def: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    tables: dict[Any, Any] = field(default_factory=dict)
    outputs_share_batch: bool = False


# ------------------------------------------------------------------ tf2onnx


def convert_frozen(frozen: Frozen, job: Job) -> Signature:
    """Write a frozen graph to ``job.output``; the inputs and outputs that it has now.

    Raises:
        UnsupportedOperator: Operators without an ONNX form, all of them named.
        OpsetOutOfReach: The opset asked for is too low for the graph, or beyond onnx.
        ShapesNeeded: Nothing tells an input's rank.
        ConverterFailed: tf2onnx gave up.
    """
    inputs = laid_over(frozen.inputs, job.options)
    signature.assert_ranked(port.spec for port in inputs if port.spec.dtype != "str")
    with _tf2onnx(job):
        proto = _from_graph(replace(frozen, inputs=inputs), _first_opset(job.options))
    foreign = _foreign(proto)
    if foreign:
        raise unsupported(job.source.ref, _told(foreign), reason(foreign))
    # text only now: as a rule ONNX lacks what reads it, and that is the better answer
    signature.assert_ranked(port.spec for port in inputs)
    outputs = finish(proto, inputs, frozen.outputs, job, outputs_share_batch=frozen.outputs_share_batch)
    return tuple(port.spec for port in inputs), outputs


def _from_graph(frozen: Frozen, opset: int) -> onnx.ModelProto:
    import tensorflow as tf
    from tf2onnx import optimizer, tfonnx

    graph_def = _cut(frozen)
    with tf.Graph().as_default() as graph:
        tf.import_graph_def(graph_def, name="")
        converted = tfonnx.process_tf_graph(
            graph, opset=opset, input_names=[port.tensor for port in frozen.inputs],
            output_names=list(dict.fromkeys(port.tensor for port in frozen.outputs)),
            use_default=[node.name for node in graph_def.node if node.op == "PlaceholderWithDefault"],
            initialized_tables=frozen.tables,
        )  # fmt: skip
        proto: onnx.ModelProto = optimizer.optimize_graph(converted).make_model("mlconv")
        return proto


def _cut(frozen: Frozen) -> Any:
    """The graph between the inputs and the outputs: each input a placeholder with the shape of its spec.

    TensorFlow infers all other shapes from those. What stood behind an input goes, e.g. the parser of records that
    feeds the default of a placeholder that has one; nothing may be able to convert it.
    """
    import tensorflow as tf

    graph_def = tf.compat.v1.GraphDef()
    graph_def.CopyFrom(frozen.graph_def)
    nodes = {node.name: node for node in graph_def.node}
    for node in graph_def.node:
        node.attr.pop("_output_shapes", None)  # inferred from the shapes that the inputs had before
    for port in frozen.inputs:
        node = nodes[port.tensor.split(":")[0]]
        if node.op != "Placeholder":
            _make_placeholder(node, port.spec)
        if port.spec.shape is not None:
            sizes = [dim if isinstance(dim, int) else None for dim in port.spec.shape]
            node.attr["shape"].shape.CopyFrom(tf.TensorShape(sizes).as_proto())
    kept = [port.tensor.split(":")[0] for port in (*frozen.inputs, *frozen.outputs)]
    return tf.compat.v1.graph_util.extract_sub_graph(graph_def, list(dict.fromkeys(kept)))


def _make_placeholder(node: Any, spec: TensorSpec) -> None:
    """Any tensor may be fed in TensorFlow 1; tf2onnx takes placeholders alone."""
    import tensorflow as tf

    node.op = "Placeholder"
    del node.input[:]
    node.attr.clear()
    node.attr["dtype"].type = tf.as_dtype(tf_dtype(spec.dtype)).as_datatype_enum
    node.attr["shape"].shape.unknown_rank = True


def convert_tflite(path: Path, inputs: Sequence[Port], outputs: Sequence[Port], job: Job) -> Signature:
    """Write a TFLite file's main graph to ``job.output``; see ``convert_frozen``.

    Args:
        path: A file whose tensors have names of their own, with one main graph.
    """
    from tf2onnx import optimizer, tfonnx

    inputs = laid_over(inputs, job.options)
    signature.assert_ranked(port.spec for port in inputs)
    with _tf2onnx(job):
        graph = tfonnx.process_tf_graph(None, opset=_first_opset(job.options), tflite_path=str(path))
        proto = optimizer.optimize_graph(graph).make_model("mlconv")
    foreign = _foreign(proto)
    if foreign:
        raise unsupported(
            job.source.ref, [told.removeprefix("TFL_") for told in _told(foreign)], reason(foreign)
        )
    return tuple(port.spec for port in inputs), finish(proto, inputs, outputs, job, outputs_share_batch=False)


def laid_over(ports: Sequence[Port], options: Options) -> tuple[Port, ...]:
    """See ``mlconv.convert.signature.laid_over``; the tensors stay."""
    specs = signature.laid_over([port.spec for port in ports], options)
    return tuple(Port(port.tensor, spec) for port, spec in zip(ports, specs, strict=True))


def _first_opset(options: Options) -> int:
    asked = options.opset or DEFAULT_OPSET
    if asked < LEAST_OPSET:
        raise OpsetOutOfReach(f"opset {asked} is older than tf2onnx writes", why=f"its range is {LEAST_OPSET}..{GREATEST_OPSET}",
                              fix=f"--opset {DEFAULT_OPSET}")  # fmt: skip
    return min(asked, GREATEST_OPSET)


class _Unknown(logging.Handler):
    """Operators that tf2onnx cannot map, which it tells its log alone; what it then raises hides them."""

    _MESSAGE = "Tensorflow op [%s: %s] is not supported"

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[tuple[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.msg == self._MESSAGE and isinstance(record.args, tuple):
            name, kind = record.args[:2]
            self.found.append((str(kind), str(name)))
            sys.stderr.write(f"{record.getMessage()}\n")  # with a handler, logging itself writes it nowhere


@contextmanager
def _tf2onnx(job: Job) -> Iterator[None]:
    """tf2onnx with its repairs, and its failures in words."""
    logger = logging.getLogger("tf2onnx")
    heard = _Unknown()
    tf2onnx_repairs.install()
    logger.addHandler(heard)
    try:
        yield
    except MlconvError:
        raise
    except Exception as error:  # tf2onnx raises whatever its handlers ran into
        if heard.found:
            raise unsupported(job.source.ref, _told(heard.found), reason(heard.found)) from error
        raise translated(error, job) from error
    finally:
        logger.removeHandler(heard)


def _told(operators: Sequence[tuple[str, str]]) -> list[str]:
    """Each kind with the nodes that it is at: ``ReduceJoin (`join/a`, `join/b`)``."""
    nodes: dict[str, list[str]] = {}
    for kind, name in dict.fromkeys(operators):
        nodes.setdefault(kind, []).append(name)
    return [f"{kind} ({listed(names, 3)})" for kind, names in nodes.items()]


def _foreign(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """Operators of the produced graph that ONNX does not know, with the names of their nodes."""
    import onnx

    found: list[tuple[str, str]] = []

    def walk(nodes: Any) -> None:
        for node in nodes:
            if node.domain not in _DOMAINS or not onnx.defs.has(node.op_type, domain=node.domain):
                found.append((node.op_type, node.name))
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    walk(graph.node)

    walk(proto.graph.node)
    return found


# ------------------------------------------------------------------ freezing a TensorFlow function


def freeze_function(
    owner: Any, function: Any, inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]
) -> Frozen:
    """A SavedModel's concrete function as a graph whose variables are constants.

    Args:
        owner: What holds the function's variables and tables.
        inputs: The signature's own argument names, to specs.
        outputs: The same for what the function returns.
    """
    from tf2onnx import tf_loader

    tf2onnx_repairs.install()
    captured = {tensor.name for tensor in function.graph.function_captures.by_val_internal.values()}
    given = [tensor.name for tensor in function.inputs if tensor.name not in captured]
    taken = dict(zip(sorted(function.structured_input_signature[1]), given, strict=True))
    made = dict(
        zip(sorted(function.structured_outputs), [tensor.name for tensor in function.outputs], strict=True)
    )
    ins, outs = [taken[name] for name in inputs], [made[name] for name in outputs]
    graph_def, tables = tf_loader.from_trackable(owner, function, given, outs, False)
    graph_def = inlined(graph_def, given, outs)
    ports = (tuple(map(Port, ins, inputs.values())), tuple(map(Port, outs, outputs.values())))
    return Frozen(graph_def, *ports, tables=tables)


def inlined(graph_def: Any, inputs: list[str], outputs: list[str]) -> Any:
    """The graph with every function call opened up.

    Keras compiles grouped and depthwise convolutions as functions marked `_XlaMustCompile`, which TensorFlow never
    inlines and tf2onnx then leaves behind as `StatefulPartitionedCall`. Branches that can never be taken go.
    """

    def inline(graph_def: Any) -> Any:
        import tensorflow as tf
        from tf2onnx import tf_loader

        with tf.Graph().as_default():
            tf.import_graph_def(graph_def, name="")
            return tf_loader.tf_optimize(inputs, outputs, graph_def)

    def open_calls(graph_def: Any) -> Any:
        return inline(_inlined_aggressively(graph_def, [*inputs, *outputs]))

    marked = _without_xla(graph_def)
    return branches.without_shut_branches(inline(graph_def) if marked else graph_def, open_calls)


def _inlined_aggressively(graph_def: Any, kept: list[str]) -> Any:
    """Calls opened up, stateful ones too, as TensorFlow's own freezing does it."""
    import tensorflow as tf
    from tensorflow.core.protobuf import config_pb2, rewriter_config_pb2
    from tensorflow.python.grappler import tf_optimizer

    with tf.Graph().as_default():
        tf.import_graph_def(graph_def, name="")
        meta_graph = tf.compat.v1.train.export_meta_graph(graph_def=graph_def)
    meta_graph.collection_def["train_op"].node_list.value.extend(kept)
    config = config_pb2.ConfigProto()
    options = config.graph_options.rewrite_options
    options.min_graph_nodes = -1  # small graphs too
    options.optimizers.append("function")
    options.function_optimization = rewriter_config_pb2.RewriterConfig.AGGRESSIVE
    return tf_optimizer.OptimizeGraph(config, meta_graph)


def _without_xla(graph_def: Any) -> int:
    """Take the mark off, in place, and with it the order not to inline; how many there were."""
    holders = [*graph_def.library.function, *graph_def.node]
    holders += [node for function in graph_def.library.function for node in function.node_def]
    marked = [holder for holder in holders if "_XlaMustCompile" in holder.attr]
    for holder in marked:
        holder.attr.pop("_XlaMustCompile")
        holder.attr.pop("_noinline", None)
    return len(marked)
