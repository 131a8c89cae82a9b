"""TFLite, float or quantized -> ONNX."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlconv.convert.job import Converted, Job
from mlconv.convert.tensorflow_import import repairs as tf2onnx_repairs
from mlconv.convert.tensorflow_import.graph import PACKAGES, convert_tflite, laid_over
from mlconv.convert.tensorflow_import.signature import Port, unknown_output
from mlconv.convert.tensorflow_import.tflite_plain import Plain, rewrite
from mlconv.convert.tensorflow_import.words import unsupported
from mlconv.errors import UnsupportedType, listed
from mlconv.formats import mapped, tflite_read
from mlconv.formats.refs import for_shell
from mlconv.formats.tflite_graph import Model, Operator, Subgraph, Tensor
from mlconv.runners.litert import PACKAGE_NAMES, Entry, LiteRtRunner, entry_of, is_quantized
from mlconv.runners.tensorflow import tensorflow
from mlconv.tensors import Quantization, TensorSpec


def run(job: Job) -> Converted:
    """Convert the signature that `--signature` names, up to the tensors that `--outputs` names."""
    tensorflow()
    path = mapped.path_of(job.source)
    model = tflite_read.read(path)
    whole = entry_of(job.source, model, job.options.signature)
    entry = replace(whole, outputs=_chosen(model.subgraphs[whole.subgraph], whole, job.options.outputs))
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
        inputs, outputs, reference, "tf2onnx", (*PACKAGES, *PACKAGE_NAMES), _chosen_silently(model, whole, job)
    )


def _chosen_silently(model: Model, entry: Entry, job: Job) -> list[str]:
    """Which of several signatures was taken, where the user named none."""
    others = [known.key for known in model.signatures if known.key != entry.key]
    if job.options.signature is not None or not others:
        return []
    return [f"the signature `{entry.key}` was converted; --signature chooses another: {', '.join(others)}"]


def _plain(job: Job, entry: Entry) -> Plain:
    ports = laid_over([Port(spec.name, spec) for _, spec in entry.inputs], job.options)
    shapes = {}
    for (index, own), port in zip(entry.inputs, ports, strict=True):
        if port.spec.is_static and port.spec.shape != own.shape:
            shapes[index] = [int(dim) for dim in port.spec.shape or () if isinstance(dim, int)]
    return rewrite(mapped.path_of(job.source), job.scratch / "plain.tflite", entry.subgraph,
                   [index for index, _ in entry.inputs], [index for index, _ in entry.outputs], shapes)  # fmt: skip


def _chosen(graph: Subgraph, entry: Entry, names: Sequence[str]) -> tuple[tuple[int, TensorSpec], ...]:
    """Outputs by the signature's names, or any computed tensor by its own; all outputs where no name is given.

    Raises:
        UnknownOutput: A name is neither.
    """
    outputs = {spec.name: (index, spec) for index, spec in entry.outputs}
    computed = {index for operator in graph.operators for index in operator.outputs if index >= 0}
    inner = {graph.tensors[index].name: graph.tensors[index] for index in sorted(computed)}
    found = []
    for name in names:
        if name in outputs:
            found.append(outputs[name])
        elif name in inner:
            found.append((inner[name].index, _spec(inner[name])))
        else:
            raise unknown_output(name, [*outputs, *(name for name in inner if name not in outputs)])
    return tuple(found) or entry.outputs


def _spec(tensor: Tensor) -> TensorSpec:
    affine: Quantization | None = tensor.quantization.per_tensor if tensor.quantization else None
    return TensorSpec(tensor.name, tensor.dims, tensor.dtype, affine)


# ------------------------------------------------------------------ what tf2onnx cannot take, before it tries


def _assert_convertible(model: Model, entry: Entry, ref: str) -> None:
    """Refuse what tf2onnx would fail at, or get wrong without a word.

    Raises:
        UnsupportedType: Text, resources, sub-byte or sparse tensors.
        UnsupportedOperator: Operators that tf2onnx does not know; it would leave them in the graph without a word.
    """
    specs = [spec for _, spec in (*entry.inputs, *entry.outputs)]
    odd = [spec.name for spec in specs if spec.dtype in ("str", "resource", "variant")]
    if odd:
        others = [known.key for known in model.signatures if known.key != entry.key]
        raise UnsupportedType(f"`{ref}` takes or gives text or resources: {listed(odd)}", why="a runtime takes tensors of numbers",
                              fix=f"--signature {for_shell(others[0])}" if others else "--outputs and --input that leave them out")  # fmt: skip
    reached = list(_reached(model, entry))
    foreign = _foreign(operator for _, operator in reached)
    if foreign:
        raise unsupported(ref, foreign)
    _assert_readable(ref, reached)


def _assert_readable(ref: str, reached: Sequence[tuple[Subgraph, Operator]]) -> None:
    from tf2onnx.tflite.TensorType import TensorType
    from tf2onnx.tflite_utils import TFLITE_TO_ONNX_DTYPE

    readable = {
        name.lower() for name, number in vars(TensorType).items() if number in set(TFLITE_TO_ONNX_DTYPE)
    }
    for graph, operator in reached:
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


def _reached(model: Model, entry: Entry) -> Iterator[tuple[Subgraph, Operator]]:
    """Operators that the outputs need, with those of the subgraphs that they call."""
    graph = model.subgraphs[entry.subgraph]
    needed = {index for index, _ in entry.outputs}
    called: list[int] = []
    for operator in reversed(graph.operators):
        if needed.intersection(operator.outputs):
            needed.update(operator.inputs)
            called += _calls(operator)
            yield graph, operator
    seen = {entry.subgraph}
    while called:
        number = called.pop()
        if number in seen or not 0 <= number < len(model.subgraphs):
            continue
        seen.add(number)
        for operator in model.subgraphs[number].operators:
            called += _calls(operator)
            yield model.subgraphs[number], operator


def _calls(operator: Operator) -> list[int]:
    fields = (
        "then_subgraph_index",
        "else_subgraph_index",
        "cond_subgraph_index",
        "body_subgraph_index",
        "init_subgraph_index",
        "subgraph",
    )
    return [number for number in (operator.integer(field, -1) for field in fields) if number > 0]


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
