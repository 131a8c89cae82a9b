"""The dynamo exporter: ``torch.export``, then ``torch.onnx.export`` of the program. Opset 18 and above."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from typing import Any

import onnx_ir as ir
import torch
from torch.export import Dim
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from mlconv.checks.samples import static_shape
from mlconv.convert.torch_import import failures as torch_failures
from mlconv.convert.torch_import.inputs import examples
from mlconv.convert.torch_import.reference import Reference, agrees, probe_at, probes, probes_at, run
from mlconv.convert.torch_import.source import Source
from mlconv.errors import ConverterFailed
from mlconv.tensors import Axis, typed, with_ties

NAME = "torch dynamo exporter"
LEAST, GREATEST = 18, 25
"""Opsets that torch 2.13 and onnxscript 0.7 really write: asked for less they write 18, asked for 26 an invalid file."""
_HABIT = 2
"""torch.export takes 0 and 1 for constants, so that every range of its own begins here."""
_LARGER, _NUMBERS = 66, 1 << 24
"""Sizes of larger examples begin here: five strides of 2 leave more than one pixel. And how many numbers they may have."""
_COUNTED = 64
"""So many sizes below a range are run one by one."""

_GUARDED, _GUARDED_RUNS = 1024, 8
"""So many sizes of an axis are held against torch's guards, and of those that fail them so many are run, twice."""


def export(source: Source, reference: Reference, opset: int, seed: int = 0) -> ir.Model:
    """The graph, with the inputs and outputs in the reference's order.

    Raises:
        DataDependentControlFlow: A branch hangs on a value; nothing but a change of the model helps.
        UnsupportedOperator, UnsupportedType, ConverterFailed: See ``torch_failures``.
    """
    program = capture(source, reference, seed)
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


def capture(source: Source, reference: Reference, seed: int = 0) -> torch.export.ExportedProgram:
    """The program of a source: its own where it was one and nothing was changed, else traced from the example.

    Raises:
        DataDependentControlFlow: A branch hangs on a value, or on the size of a dynamic axis.
        ConverterFailed: An axis that shall be dynamic is held to one size; or torch.export gave up.
    """
    if source.program is not None and not source.fixed and _is_plain(source.program, reference):
        return source.program
    try:
        program = _trace(reference, _dims(source))
    except Exception as error:  # torch.export raises many kinds, the user's own among them
        specialized = torch_failures.specialized_axes(error)
        if specialized:
            axis, size = next(iter(specialized.items()))
            raise torch_failures.fixed_axis(_axis_name(source, axis), size) from error
        if torch_failures.is_data_dependent(error):
            raise torch_failures.data_dependent(torch_failures.source_line(error)) from error
        if "Constraints violated" not in str(error):
            raise torch_failures.exporter_failed(error, "torch.export") from error
        return _trace_with_inferred_ranges(source, reference, seed)
    _hold_sizes(program, source, reference, seed, ranged=True)
    return program


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
        if axis.high == axis.low or axis.tie is not None:
            continue
        low, high = -(-axis.low // axis.step), axis.high // axis.step if axis.high is not None else None
        dims[axis.name] = (
            axis.step * Dim(f"axis{number}", min=low, max=high)
            if axis.step > 1
            else Dim(f"axis{number}", min=low, max=high)
        )
    for axis in source.axes.values():
        if axis.tie is not None and axis.tie[0] in dims:
            base, factor, offset = axis.tie
            scaled = factor * dims[base] if factor > 1 else dims[base]
            dims[axis.name] = scaled + offset if offset else scaled
    return dims


def _axis_name(source: Source, told: str) -> str:
    """The user's name of an axis that torch calls ``axis0`` or ``4*axis0``."""
    match = re.search(r"axis(\d+)", told)
    return list(source.axes)[int(match[1])] if match else told


def _trace_with_inferred_ranges(
    source: Source, reference: Reference, seed: int, *, larger: bool = False
) -> torch.export.ExportedProgram:
    """Once more, with ranges that torch finds itself: some sizes at a range's end take another branch in the code.

    A network of several strides, for one, takes heights of 1 and 2 for broadcasts. A range that ends within the axis'
    own is a branch that the graph would not have, and is refused.
    """
    try:
        program = _trace(reference, dict.fromkeys(_dims(source), Dim.AUTO))
    except Exception as error:
        if torch_failures.is_data_dependent(error):
            raise torch_failures.data_dependent(torch_failures.source_line(error)) from error
        raise torch_failures.exporter_failed(error, "torch.export") from error
    bounds = _bounds(program, reference)
    for name, (least, greatest) in bounds.items():
        if least == greatest and source.axes[name].high != source.axes[name].low:
            raise torch_failures.fixed_axis(name, least)
    narrowed = _narrowed(program, bounds, source, reference, seed)
    if narrowed:
        wider = None if larger else _at_larger_sizes(source, reference, seed)
        if wider is not None:
            return wider
        name, (low, high) = next(iter(narrowed.items()))
        raise torch_failures.bounded_axis(name, low, high, _input_within(source, narrowed))
    _hold_sizes(program, source, reference, seed)
    return program


def _at_larger_sizes(source: Source, reference: Reference, seed: int) -> torch.export.ExportedProgram | None:
    """The program of larger examples, where it is right at small sizes too; None where it is not.

    Strides bring small images down to one pixel, and torch then takes an upper bound for a condition of the model.
    """
    free = [axis for axis in source.axes.values() if axis.high is None]
    larger = {axis.name: (_LARGER + number) * axis.step for number, axis in enumerate(free)}
    sizes = {**reference.sizes, **larger}
    inputs = examples(source.inputs, sizes, seed)
    if not larger or sum(tensor.numel() for tensor in inputs) > _NUMBERS:
        return None
    try:
        run(reference.flat, inputs)
        program = _trace_with_inferred_ranges(
            source, replace(reference, sizes=sizes, inputs=inputs), seed, larger=True
        )
        module = program.module(check_guards=False)
        small = (reference.inputs, *((reference.others,) if reference.others else ()))
        right = all(agrees(module, tensors, run(reference.flat, tensors)) for tensors in small)
    except Exception:  # the user's forward, or the refusal of these sizes: that of the first ones is told
        return None
    return program if right else None


def _bounds(program: torch.export.ExportedProgram, reference: Reference) -> dict[str, tuple[int, int | None]]:
    """The least and the greatest size of each axis for which torch found the program to hold; None: without end."""
    found: dict[str, tuple[int, int | None]] = {}
    values = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"]
    tensors = values[len(values) - len(reference.inputs) :]
    for spec, value in zip(reference.runner.inputs, tensors, strict=True):
        for dim, size in zip(spec.shape or (), value.shape, strict=True):
            if not isinstance(dim, str):
                continue
            least, greatest = _ends(size, program)
            low, high = found.get(dim, (least, greatest))
            ends = [end for end in (high, greatest) if end is not None]
            found[dim] = max(low, least), min(ends, default=None)
    return found


def _ends(size: Any, program: torch.export.ExportedProgram) -> tuple[int, int | None]:
    """The ends of a size, a number or an increasing expression of symbols with ranges."""
    if isinstance(size, int):
        return size, size
    expression, ranges = size.node.expr, program.range_constraints
    known = {symbol: ranges[symbol] for symbol in expression.free_symbols if symbol in ranges}
    least = expression.xreplace({symbol: found.lower for symbol, found in known.items()})
    greatest = expression.xreplace({symbol: found.upper for symbol, found in known.items()})
    return int(least) if least.is_Integer else 0, int(greatest) if greatest.is_Integer else None


def _narrowed(
    program: torch.export.ExportedProgram, bounds: dict[str, tuple[int, int | None]], source: Source,
    reference: Reference, seed: int,
) -> dict[str, tuple[int, int | None]]:  # fmt: skip
    """The axes whose own range is wider than the program's, with the range that both hold."""
    narrowed: dict[str, tuple[int, int | None]] = {}
    for name, (least, greatest) in bounds.items():
        axis = source.axes[name]
        above = greatest is not None and (axis.high is None or axis.high > greatest)
        below = least > max(axis.low, _HABIT) and not _same_below(
            program, name, least, source, reference, seed
        )
        if above or below:
            narrowed[name] = (
                max(least, _HABIT) if below else max(axis.low, _HABIT),
                greatest if above else axis.high,
            )
    return narrowed


def _same_below(
    program: torch.export.ExportedProgram, name: str, least: int, source: Source, reference: Reference, seed: int
) -> bool:  # fmt: skip
    """Whether the program is right at every size below its range too, wherever the module runs.

    Networks with strides have such bounds: below them an axis is broadcast, or the module raises.
    """
    axis = source.axes[name]
    if least - axis.low > _COUNTED:
        return False
    module = program.module(check_guards=False)
    start = -(-max(axis.low, _HABIT) // axis.step) * axis.step
    runs = (probe_at(source, reference, name, size, seed) for size in range(start, least, axis.step))
    return all(agrees(module, probe.inputs, probe.outputs) for probe in runs if probe is not None)


def _hold_sizes(
    program: torch.export.ExportedProgram, source: Source, reference: Reference, seed: int, *, ranged: bool = False
) -> None:  # fmt: skip
    """Conditions such as ``size % 2 == 0`` and ``size == 23`` have no range: run program and module at other sizes.

    Args:
        ranged: Of the axes that have no range only at sizes that torch's own guards name.
    """
    module = program.module(check_guards=False)
    guarded = (
        probe
        for axis in source.axes.values()
        for probe in probes_at(
            source, reference, axis.name, _outside_guards(program, source, reference, axis), seed
        )
    )
    for probe in itertools.chain(guarded, probes(source, reference, seed, ranged=ranged)):
        if not agrees(module, probe.inputs, probe.outputs):
            raise torch_failures.branch_on_size(probe.axis, probe.size, reference.sizes[probe.axis])


def _outside_guards(
    program: torch.export.ExportedProgram, source: Source, reference: Reference, axis: Axis
) -> list[int]:
    """Sizes of an axis for which torch does not vouch: some that fail its guards, the first, the last and between.

    Many guards are harmless (a view that would be a copy), so whether the program is wrong there is seen by running it.
    The guards are run on tensors without memory. Where torch keeps them is not public: moved, none are found.
    """
    guards = getattr(program.module(), "_guards_fn", None)
    if guards is None or axis.tie is not None or axis.choices:
        return []
    start = -(-max(axis.low, _HABIT) // axis.step) * axis.step
    stop = axis.high if axis.high is not None else start + _GUARDED * axis.step
    failed = []
    for size in range(start, stop + 1, axis.step)[:_GUARDED]:
        sizes = with_ties({**reference.sizes, axis.name: size}, source.axes)
        shapes = [static_shape(spec, sizes) for spec in reference.runner.inputs]
        tensors = [
            torch.zeros((), dtype=tensor.dtype).expand(shape)
            for tensor, shape in zip(reference.inputs, shapes, strict=True)
        ]
        try:
            guards(*tensors)
        except AssertionError:
            failed.append(size)
        except Exception:  # torch has moved them, or they ask for more than sizes
            return []
    share = max(len(failed) // _GUARDED_RUNS, 1)
    return list(dict.fromkeys([*failed[:_GUARDED_RUNS], *failed[::share][:_GUARDED_RUNS], *failed[-1:]]))


def _input_within(source: Source, narrowed: dict[str, tuple[int, int | None]]) -> str:
    """The `--input` options whose axes stay within the ranges that hold."""
    return " ".join(
        typed(
            spec.name,
            ",".join(_dim_within(source, dim, narrowed) for dim in spec.shape or ())
            + (f":{spec.dtype}" if spec.dtype != "float32" else ""),
        )
        for spec in source.inputs
        if not narrowed.keys().isdisjoint(dim for dim in spec.shape or () if isinstance(dim, str))
    )


def _dim_within(source: Source, dim: int | str | None, narrowed: dict[str, tuple[int, int | None]]) -> str:
    if not isinstance(dim, str):
        return str(dim)
    axis = source.axes[dim]
    low, high = narrowed.get(dim, (axis.low, axis.high))
    if high is None and dim not in narrowed:
        return dim
    return f"{dim}={low}..{high if high is not None else 'HIGH'}" + (f"/{axis.step}" if axis.step > 1 else "")


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
