"""The dynamo exporter: ``torch.export``, then ``torch.onnx.export`` of the program. Opset 18 and above."""

from __future__ import annotations

import re
from typing import Any

import onnx_ir as ir
import torch
from torch.export import Dim
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from mlconv.convert.torch_import import failures as torch_failures
from mlconv.convert.torch_import.reference import Reference
from mlconv.convert.torch_import.source import Source
from mlconv.errors import ConverterFailed

NAME = "torch dynamo exporter"
LEAST, GREATEST = 18, 25
"""Opsets that torch 2.13 and onnxscript 0.7 really write: asked for less they write 18, asked for 26 an invalid file."""


def export(source: Source, reference: Reference, opset: int) -> ir.Model:
    """The graph, with the inputs and outputs in the reference's order.

    Raises:
        DataDependentControlFlow: A branch hangs on a value; nothing but a change of the model helps.
        UnsupportedOperator, UnsupportedType, ConverterFailed: See ``torch_failures``.
    """
    program = capture(source, reference)
    try:
        made = torch.onnx.export(
            program, (), dynamo=True, opset_version=opset, verbose=False,
            input_names=[spec.name for spec in reference.runner.inputs],
            output_names=[spec.name for spec in reference.runner.outputs],
        )  # fmt: skip
    except Exception as error:  # the exporter wraps every failure in a class of its own
        missing = _missing(program, opset)
        if missing:
            raise torch_failures.unsupported(missing, NAME) from error
        raise torch_failures.exporter_failed(error, NAME) from error
    if made is None:
        raise ConverterFailed(f"the {NAME} made nothing", fix="read the log")
    return made.model


def capture(source: Source, reference: Reference) -> torch.export.ExportedProgram:
    """The program of a source: its own where it was one and nothing was changed, else traced from the example.

    Raises:
        DataDependentControlFlow: A branch hangs on a value.
        ConverterFailed: An axis that shall be dynamic is held to one size; or torch.export gave up.
    """
    if source.program is not None and not source.fixed and _is_plain(source.program, reference):
        return source.program
    try:
        return _trace(reference, _dims(source))
    except Exception as error:  # torch.export raises many kinds, the user's own among them
        specialized = torch_failures.specialized_axes(error)
        if specialized:
            axis, size = next(iter(specialized.items()))
            raise torch_failures.fixed_axis(_axis_name(source, axis), size) from error
        if torch_failures.is_data_dependent(error):
            raise torch_failures.data_dependent(torch_failures.source_line(error)) from error
        if "Constraints violated" not in str(error):
            raise torch_failures.exporter_failed(error, "torch.export") from error
    return _trace_with_inferred_ranges(source, reference)


def _is_plain(program: torch.export.ExportedProgram, reference: Reference) -> bool:
    """Whether a program's inputs and outputs are the reference's tensors one for one."""
    inputs = [spec.arg for spec in program.graph_signature.input_specs if spec.kind == InputKind.USER_INPUT]
    outputs = [
        spec.arg for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT
    ]
    return (
        all(isinstance(argument, TensorArgument) for argument in (*inputs, *outputs))
        and len(outputs) == len(reference.runner.outputs)
        and len({argument.name for argument in outputs}) == len(outputs)
    )


def _trace(reference: Reference, dims: dict[str, Any]) -> torch.export.ExportedProgram:
    shapes = tuple(
        {
            number: dims[dim]
            for number, dim in enumerate(spec.shape or ())
            if isinstance(dim, str) and dim in dims
        }
        for spec in reference.runner.inputs
    )
    return torch.export.export(
        reference.flat, reference.inputs, dynamic_shapes={"tensors": shapes}, strict=False
    )


def _dims(source: Source) -> dict[str, Any]:
    """A ``Dim`` for each axis that has more than one size.

    They bear numbers: torch hands their names to sympy, where ``N`` and ``S`` mean something else.
    """
    dims: dict[str, Any] = {}
    for number, axis in enumerate(source.axes.values()):
        if axis.high == axis.low:
            continue
        low, high = -(-axis.low // axis.step), axis.high // axis.step if axis.high is not None else None
        dims[axis.name] = (
            axis.step * Dim(f"axis{number}", min=low, max=high)
            if axis.step > 1
            else Dim(f"axis{number}", min=low, max=high)
        )
    return dims


def _axis_name(source: Source, told: str) -> str:
    """The user's name of an axis that torch calls ``axis0`` or ``4*axis0``."""
    match = re.search(r"axis(\d+)", told)
    return list(source.axes)[int(match[1])] if match else told


def _trace_with_inferred_ranges(source: Source, reference: Reference) -> torch.export.ExportedProgram:
    """Once more, with ranges that torch finds itself: some sizes at a range's end take another branch in the code.

    A network of several strides, for one, takes heights of 1 and 2 for broadcasts.
    """
    try:
        program = _trace(reference, dict.fromkeys(_dims(source), Dim.AUTO))
    except Exception as error:
        if torch_failures.is_data_dependent(error):
            raise torch_failures.data_dependent(torch_failures.source_line(error)) from error
        raise torch_failures.exporter_failed(error, "torch.export") from error
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"][
        -len(reference.inputs) :
    ]
    for spec, value in zip(reference.runner.inputs, values, strict=True):
        for dim, size in zip(spec.shape or (), value.shape, strict=True):
            if (
                isinstance(dim, str)
                and isinstance(size, int)
                and source.axes[dim].high != source.axes[dim].low
            ):
                raise torch_failures.fixed_axis(dim, size)
    return program


def _missing(program: torch.export.ExportedProgram, opset: int) -> list[str]:
    """All operators that the exporter knows no function for; it names only the first one itself.

    The registry is torch's own and not public: where it moved, nothing is found and the exporter's words are used.
    """
    try:
        from torch._ops import OpOverload
        from torch.onnx._internal.exporter import _decomp, _registration

        registry = _registration.ONNXRegistry().from_torchlib(opset_version=opset)
        table = _decomp.create_onnx_friendly_decomposition_table({*registry.functions})  # type: ignore[arg-type]
        nodes = program.run_decompositions(table).graph.nodes
        unknown = [
            str(node.target).rpartition(".")[0]
            for node in nodes
            if isinstance(node.target, OpOverload) and not registry.get_decomps(node.target)
        ]
    except Exception:  # private functions, and a program that has already failed once
        return []
    return list(dict.fromkeys(unknown))
