"""One pass over a model before anything is written: what contradicts itself is refused in the file's own terms.

LiteRT finds some of it when it prepares a kernel, computes garbage on some, and aborts on the rest.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from mlconv.convert.tflite_import.entry import CALLS, calls, needed
from mlconv.errors import Corrupt
from mlconv.formats import tflite_schema as schema
from mlconv.formats.tflite_graph import Affine, Model, Operator, Subgraph, Tensor
from mlconv.formats.tflite_operators.forms import form, options_tables
from mlconv.runners.litert import Entry

MAX_DEPTH = 32  # of subgraphs that call each other; LiteRT's own stack ends first
MAX_BYTES = 1 << 62  # of one tensor; LiteRT computes sizes in 64 bits

_CODES = {
    "int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-(1 << 15), (1 << 15) - 1), "uint16": (0, (1 << 16) - 1),
}  # fmt: skip


def assert_sound(model: Model, entry: Entry, ref: str) -> None:
    """Look at everything that the entry point's outputs need.

    Raises:
        Corrupt: Tensors that are computed twice, too late or never; sizes, constants, scales and zero points that no
            tensor can have; operators with too few or too many operands, or another operator's options; subgraphs that
            call themselves.
    """
    try:
        _assert_calls_end(model, entry.subgraph, ())
        graph, outputs = model.subgraphs[entry.subgraph], [index for index, _ in entry.outputs]
        _assert_inputs(graph, [index for index, _ in entry.inputs])
        operators = needed(model, graph, outputs)
        _look(graph, operators, [index for index, _ in entry.inputs], outputs)
        for number in sorted(_reached(model, operators)):
            inner = model.subgraphs[number]
            _look(inner, inner.operators, inner.inputs, inner.outputs)
    except _Unsound as error:
        raise Corrupt(
            f"`{ref}` is broken TFLite", why=str(error), fix="get the file again, or write it again"
        ) from None


class _Unsound(Exception):
    pass


def _look(
    graph: Subgraph, operators: Iterable[Operator], inputs: Iterable[int], outputs: Iterable[int]
) -> None:
    operators = list(operators)
    for operator in operators:
        _assert_form(operator)
    _assert_order(graph, operators, set(inputs), outputs)
    operands = (
        index for operator in operators for index in (*operator.inputs, *operator.outputs) if index >= 0
    )
    for index in sorted({*operands, *inputs, *outputs}):
        _assert_tensor(graph.tensors[index])


def _name(operator: Operator) -> str:
    return f"operator {operator.index} ({operator.name})"


# ------------------------------------------------------------------ operators


def _assert_form(operator: Operator) -> None:
    known = form(operator.kind)
    if known is not None:
        for what, count, (fewest, most) in (
            ("takes", len(operator.inputs), known.inputs),
            ("gives", len(operator.outputs), known.outputs),
        ):
            if not fewest <= count <= most:
                wanted = (
                    fewest
                    if fewest == most
                    else f"at least {fewest}"
                    if count < fewest
                    else f"at most {most}"
                )
                raise _Unsound(f"{_name(operator)} {what} {count} tensors, and LiteRT wants {wanted}")
        if not known.may_lack and -1 in operator.inputs[: known.inputs[0]]:
            raise _Unsound(f"{_name(operator)} lacks its operand {operator.inputs.index(-1)}")
    table = options_tables().get(operator.kind)
    if operator.options_type == "NONE" and table is not None and CALLS & schema.option_fields(table).keys():
        raise _Unsound(f"{_name(operator)} does not say which subgraph it runs")
    if table is not None and operator.options_type not in (table, "NONE"):
        raise _Unsound(f"{_name(operator)} has the options of another operator: {operator.options_type}")


def _assert_order(
    graph: Subgraph, operators: list[Operator], inputs: set[int], outputs: Iterable[int]
) -> None:
    """Every tensor is written once, before it is read."""
    writers: dict[int, Operator] = {}
    for operator in operators:
        for index in operator.inputs:
            if (
                index >= 0
                and index not in writers
                and index not in inputs
                and not _is_there(graph.tensors[index])
            ):
                raise _Unsound(
                    f"{_name(operator)} takes {_tensor(graph.tensors[index])}, which {_computed_by(graph, index)}"
                )
        for index in operator.outputs:
            tensor = graph.tensors[index] if index >= 0 else None
            if tensor is None:
                continue
            if index in writers:
                raise _Unsound(
                    f"{_name(operator)} computes {_tensor(tensor)}, which operator {writers[index].index} computed already"
                )
            if index in inputs or tensor.is_constant:
                raise _Unsound(
                    f"{_name(operator)} computes {_tensor(tensor)}, which is {'an input' if index in inputs else 'a constant'}"
                )
            writers[index] = operator
    for index in outputs:
        if index not in writers and index not in inputs and not _is_there(graph.tensors[index]):
            raise _Unsound(f"the output {_tensor(graph.tensors[index])} is a tensor which nothing computes")


def _is_there(tensor: Tensor) -> bool:
    """Whether the tensor holds something before any operator ran."""
    return tensor.is_constant or tensor.is_variable


def _computed_by(graph: Subgraph, index: int) -> str:
    writer = next((operator for operator in graph.operators if index in operator.outputs), None)
    return "nothing computes" if writer is None else f"is computed only later, by operator {writer.index}"


def _assert_inputs(graph: Subgraph, inputs: list[int]) -> None:
    for index in inputs:
        if index not in graph.inputs:
            raise _Unsound(
                f"its signature takes {_tensor(graph.tensors[index])}, which is no input of subgraph {graph.index}"
            )
        if inputs.count(index) > 1:
            raise _Unsound(f"it takes {_tensor(graph.tensors[index])} more than once")


# ------------------------------------------------------------------ subgraphs


def _assert_calls_end(
    model: Model, number: int, above: tuple[int, ...], seen: set[int] | None = None
) -> None:
    seen = set() if seen is None else seen
    if number in seen:
        return
    above = (*above, number)
    if len(above) > MAX_DEPTH:
        raise _Unsound(f"its subgraphs call each other more than {MAX_DEPTH} deep")
    for operator in model.subgraphs[number].operators:
        for called in calls(operator):
            if not 0 <= called < len(model.subgraphs):
                raise _Unsound(f"{_name(operator)} runs subgraph {called} of {len(model.subgraphs)}")
            if called in above:
                raise _Unsound(
                    f"{_name(operator)} of subgraph {number} runs subgraph {called}, which runs it"
                )
            _assert_calls_end(model, called, above, seen)
    seen.add(number)


def _reached(model: Model, operators: Iterable[Operator]) -> set[int]:
    reached: set[int] = set()
    rest = [number for operator in operators for number in calls(operator)]
    while rest:
        number = rest.pop()
        if number not in reached:
            reached.add(number)
            rest += [called for operator in model.subgraphs[number].operators for called in calls(operator)]
    return reached


# ------------------------------------------------------------------ tensors


def _tensor(tensor: Tensor) -> str:
    return f"tensor {tensor.index} (`{tensor.name}`)" if tensor.name else f"tensor {tensor.index}"


def _assert_tensor(tensor: Tensor) -> None:
    least = 0 if tensor.is_constant else -1
    if any(size < least for size in tensor.shape):
        raise _Unsound(f"{_tensor(tensor)} has the sizes {list(tensor.shape)}")
    bits = schema.BITS.get(tensor.dtype, 8)
    if tensor.elements * bits > 8 * MAX_BYTES:
        raise _Unsound(f"{_tensor(tensor)} has the sizes {list(tensor.shape)}, more than there can be")
    if tensor.data is not None and not tensor.is_sparse and tensor.dtype in schema.BITS:
        wanted = (tensor.elements * bits + 7) // 8
        if len(tensor.data) < wanted:
            raise _Unsound(
                f"the constant {_tensor(tensor)} has {len(tensor.data)} bytes, and its sizes {list(tensor.shape)} need {wanted}"
            )
    if tensor.quantization is not None and tensor.quantization.block_size is None:
        _assert_affine(tensor, tensor.quantization)


def _assert_affine(tensor: Tensor, affine: Affine) -> None:
    limits = _CODES.get(tensor.dtype)
    if limits is None:  # scales of floats and of int32 say nothing that changes what is computed
        return
    odd = next(
        (
            scale
            for scale in affine.scale
            if not math.isfinite(scale) or scale < 0 or (scale == 0 and not tensor.is_constant)
        ),
        None,
    )
    if odd is not None:
        raise _Unsound(f"{_tensor(tensor)} is quantized with the scale {odd:g}")
    zero = next((zero for zero in affine.zero_point if not limits[0] <= zero <= limits[1]), None)
    if zero is not None:
        raise _Unsound(
            f"{_tensor(tensor)} is quantized with the zero point {zero}, which {tensor.dtype} does not hold"
        )
    if len(affine.scale) == 1:
        return
    if not 0 <= affine.axis < len(tensor.shape):
        raise _Unsound(f"{_tensor(tensor)} has scales along axis {affine.axis} of {len(tensor.shape)}")
    if tensor.shape[affine.axis] != len(affine.scale):
        raise _Unsound(
            f"{_tensor(tensor)} has {len(affine.scale)} scales along axis {affine.axis}, which has {tensor.shape[affine.axis]} slices"
        )
