"""TFLite -> ONNX by tf2onnx: `--via tf2onnx`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlconv.convert.job import Converted, Job
from mlconv.convert.signature import unsupported
from mlconv.convert.tensorflow_import import repairs as tf2onnx_repairs
from mlconv.convert.tensorflow_import.graph import PACKAGES, convert_tflite, laid_over
from mlconv.convert.tensorflow_import.signature import Port
from mlconv.convert.tensorflow_import.tflite_plain import Plain, rewrite
from mlconv.convert.tflite_import.entry import assert_numbers, chosen, chosen_silently, reached
from mlconv.errors import UnsupportedType
from mlconv.formats import mapped, tflite_read
from mlconv.formats.tflite_graph import Model, Operator, Subgraph
from mlconv.runners.litert import PACKAGE_NAMES, Entry, LiteRtRunner, entry_of, is_quantized
from mlconv.runners.tensorflow import tensorflow


def run(job: Job) -> Converted:
    """Convert the signature that `--signature` names, up to the tensors that `--outputs` names."""
    tensorflow()
    path = mapped.path_of(job.source)
    model = tflite_read.read(path)
    whole = entry_of(job.source, model, job.options.signature)
    entry = chosen(model, whole, job.options.outputs)
    _assert_convertible(model, entry, job.source.ref)
    plain = _plain(job, entry)
    inputs, outputs = convert_tflite(
        plain.path, [Port(plain.names[index], spec) for index, spec in entry.inputs],
        [Port(plain.names[index], spec) for (index, _), spec in zip(entry.outputs, entry.outputs_apart(), strict=True)], job,
    )  # fmt: skip
    # LiteRT gives no tensor but outputs: a cut model is run from the file that was cut
    runs, point = (
        (path, entry)
        if set(entry.outputs) <= set(whole.outputs)
        else (plain.path, replace(entry, key=None, subgraph=0))
    )
    reference = LiteRtRunner(runs, point, inputs, outputs, is_quantized=is_quantized(model))
    return Converted(
        inputs,
        outputs,
        reference,
        "tf2onnx",
        (*PACKAGES, *PACKAGE_NAMES),
        chosen_silently(model, whole, job.options.signature),
    )


def _plain(job: Job, entry: Entry) -> Plain:
    ports = laid_over([Port(spec.name, spec) for _, spec in entry.inputs], job.options)
    shapes = {}
    for (index, own), port in zip(entry.inputs, ports, strict=True):
        if port.spec.is_static and port.spec.shape != own.shape:
            shapes[index] = [int(dim) for dim in port.spec.shape or () if isinstance(dim, int)]
    return rewrite(mapped.path_of(job.source), job.scratch / "plain.tflite", entry.subgraph,
                   [index for index, _ in entry.inputs], [index for index, _ in entry.outputs], shapes)  # fmt: skip


# ------------------------------------------------------------------ what tf2onnx cannot take, before it tries


def _assert_convertible(model: Model, entry: Entry, ref: str) -> None:
    """Refuse what tf2onnx would fail at, or get wrong without a word.

    Raises:
        UnsupportedType: Text, resources, sub-byte or sparse tensors.
        UnsupportedOperator: Operators that tf2onnx does not know; it would leave them in the graph without a word.
    """
    assert_numbers(model, entry, ref)
    operators = list(reached(model, entry))
    foreign = _foreign(operator for _, operator in operators)
    if foreign:
        raise unsupported(ref, foreign)
    _assert_readable(ref, operators)


def _assert_readable(ref: str, operators: Sequence[tuple[Subgraph, Operator]]) -> None:
    from tf2onnx.tflite.TensorType import TensorType
    from tf2onnx.tflite_utils import TFLITE_TO_ONNX_DTYPE

    readable = {
        name.lower() for name, number in vars(TensorType).items() if number in set(TFLITE_TO_ONNX_DTYPE)
    }
    for graph, operator in operators:
        for index in (*operator.inputs, *operator.outputs):
            tensor = graph.tensor(index)
            if tensor is None:
                continue
            if tensor.is_sparse:
                raise UnsupportedType(f"`{tensor.name}` of `{ref}` is stored sparsely", why="tf2onnx would read it as if it were dense",
                                      fix="save the model with dense weights")  # fmt: skip
            if tensor.dtype not in readable and tensor.dtype != "str":
                raise UnsupportedType(f"`{tensor.name}` of `{ref}` is {tensor.dtype}", why=f"tf2onnx does not read it; operator {_told(operator)}",
                                      fix="quantize the model with 8-bit weights")  # fmt: skip


def _foreign(operators: Iterator[Operator]) -> list[str]:
    """Operators that tf2onnx has no handler for: ``HASHTABLE_LOOKUP (#12)``, ``custom `Sinh` (#31)``."""
    from tf2onnx.handler import tf_op, tfl_op

    tf2onnx_repairs.install()
    known = {*tfl_op.create_tfl_to_tf_mapping(), *tf_op.create_mapping(18, None)}
    places: dict[str, list[int]] = {}
    for operator in operators:
        custom = operator.custom
        handler = (
            custom.removeprefix("Flex")
            if custom and custom.startswith("Flex")
            else f"TFL_{custom or operator.kind}"
        )
        if handler not in known:
            places.setdefault(f"custom `{custom}`" if custom else operator.kind, []).append(operator.index)
    return [f"{kind} ({', '.join(f'#{index}' for index in sorted(at)[:4])}{f' and {len(at) - 4} more' if len(at) > 4 else ''})"
            for kind, at in sorted(places.items(), key=lambda item: min(item[1]))]  # fmt: skip


def _told(operator: Operator) -> str:
    return f"{f'custom `{operator.custom}`' if operator.custom else operator.kind} (#{operator.index})"
