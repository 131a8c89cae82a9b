"""The TorchScript exporter: opsets below 18, TorchScript sources, and models that the dynamo exporter does not take.

A trace keeps what the example did: the branch that a value chose, a size that became a number. So a trace of a module
is held against the module itself, on other values and other sizes, and one whose branches hang on values is refused.
TorchScript inside a trace keeps its branches and loops.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import onnx_ir as ir
import torch

from mlconv.convert.torch_import import dynamo as torch_dynamo
from mlconv.convert.torch_import import failures as torch_failures
from mlconv.convert.torch_import.inputs import examples
from mlconv.convert.torch_import.reads import reads_of_inputs
from mlconv.convert.torch_import.reference import Reference, agrees, close, probes, run
from mlconv.convert.torch_import.source import Source
from mlconv.errors import ConversionError, ConverterFailed, DataDependentControlFlow, OpsetOutOfReach
from mlconv.runners.torch_eager import to_numpy

NAME = "TorchScript exporter"
LEAST, GREATEST = 7, 20
"""Opsets that torch 2.13 has symbolic functions for; above, the graph is lifted."""

_BRANCH = re.compile(
    r"Converting a tensor to a Python|Iterating over a tensor|Converting a tensor to a NumPy"
)
_LATER = re.compile(r"Support for this operator was added in version (\d+)")
_TRIALS = 4


def export(source: Source, reference: Reference, opset: int, path: Path, seed: int) -> tuple[ir.Model, str]:
    """The graph, with the inputs and outputs in the reference's order, and in words what its trace was held against.

    Args:
        path: Where torch writes it first.

    Raises:
        DataDependentControlFlow: The trace follows one branch of several.
        OpsetOutOfReach: An operator came with a later opset.
        UnsupportedOperator, UnsupportedType, ConverterFailed: See ``torch_failures``.
    """
    traced, asked = _traced(reference)
    if not source.scripted and (asked or source.program is not None):
        _refuse_branches(source, reference)
    held = _hold_against(source, reference, traced, seed)
    failures: list[ConversionError] = []
    # a module keeps the ranks that a saved trace has lost, and TorchScript is exported as its trace alone
    for module in (traced,) if source.scripted else (reference.flat, traced):
        try:
            _write(module, traced, reference, opset, path)
            _hold_graph(source, reference, path)
        except ConversionError as error:
            failures.append(error)
        else:
            return ir.load(path), held
    raise failures[0]


def _write(
    module: torch.nn.Module, traced: torch.jit.ScriptModule, reference: Reference, opset: int, path: Path
) -> None:
    runner = reference.runner
    axes = {
        spec.name: {number: dim for number, dim in enumerate(spec.shape or ()) if isinstance(dim, str)}
        for spec in (*runner.inputs, *runner.outputs)
    }
    try:
        with _quiet():
            torch.onnx.export(
                module, reference.inputs, str(path), dynamo=False, opset_version=min(opset, GREATEST), do_constant_folding=True,
                input_names=[spec.name for spec in runner.inputs], output_names=[spec.name for spec in runner.outputs],
                dynamic_axes={name: dims for name, dims in axes.items() if dims},
            )  # fmt: skip
    except Exception as error:  # torch raises its own classes, RuntimeError and more
        raise _failed(error, traced, reference, opset) from error


def _traced(reference: Reference) -> tuple[torch.jit.ScriptModule, bool]:
    """The traced module, and whether tracing asked for a value of a tensor."""
    try:
        with warnings.catch_warnings(record=True) as told, torch.no_grad():
            warnings.simplefilter("always")
            traced: Any = torch.jit.trace(  # type: ignore[no-untyped-call]
                reference.flat, reference.inputs, check_trace=False
            )
    except Exception as error:
        raise torch_failures.exporter_failed(error, NAME) from error
    return traced, any(_BRANCH.search(str(warning.message)) for warning in told)


def _refuse_branches(source: Source, reference: Reference) -> None:
    """Sizes and parameters are asked for their values too, which is no fault: what was computed from inputs is."""
    try:
        lines = reads_of_inputs(reference.flat, reference.inputs)
    except Exception:  # a module that cannot be followed: torch.export is the judge alone
        lines = None
    if lines:
        raise torch_failures.data_dependent(", ".join(line for line in lines[:3] if line) or None)
    if source.program is not None:
        return
    try:
        torch_dynamo.capture(source, reference)
    except DataDependentControlFlow:
        raise
    except ConversionError as error:
        if lines is None:
            raise torch_failures.data_dependent(
                None,
                "tracing asked for the value of a tensor, and neither following it nor torch.export tells which",
            ) from error


def _hold_against(source: Source, reference: Reference, traced: torch.jit.ScriptModule, seed: int) -> str:
    """Run trace and module on other values, then on other sizes; say what was run."""
    specs = reference.runner.inputs
    for index in range(1, _TRIALS + 1):
        inputs = examples(specs, reference.sizes, seed, index)
        wanted = run(reference.flat, inputs)
        if not agrees(traced, inputs, wanted):
            if not agrees(reference.flat, inputs, wanted):
                raise ConverterFailed(
                    "the model gives different outputs on the same inputs",
                    why="random numbers or a state that it keeps make a comparison impossible",
                    fix="take what is random out of forward (dropout in eval mode is), and pass states in and out of it",
                )
            raise torch_failures.data_dependent(
                None, "the traced graph differs from the module on other values of the same shapes"
            )
    told = f"its trace agrees with the module on {_TRIALS} sets of random values"
    moving = [axis.name for axis in source.axes.values() if axis.high != axis.low]
    if not moving:
        return told
    others = reference.others
    if others is None or not agrees(traced, others, run(reference.flat, others)):
        raise torch_failures.fixed_axis(", ".join(moving), None)
    return f"{told} and at other sizes ({_hold_sizes(source, reference, traced, seed)})"


def _hold_sizes(source: Source, reference: Reference, traced: torch.jit.ScriptModule, seed: int) -> str:
    """One axis at a time at clearly larger sizes; the greatest that was run, in words."""
    greatest = {
        dim: size
        for spec, tensor in zip(reference.runner.inputs, reference.others or (), strict=True)
        for dim, size in zip(spec.shape or (), tensor.shape, strict=True)
        if isinstance(dim, str)
    }
    for probe in probes(source, reference, seed):
        if not agrees(traced, probe.inputs, probe.outputs):
            example = reference.sizes[probe.axis]
            raise torch_failures.branch_on_size(probe.axis, probe.size, example)
        greatest[probe.axis] = max(probe.size, greatest[probe.axis])
    return ", ".join(f"{name} up to {max(size, reference.sizes[name])}" for name, size in greatest.items())


def _hold_graph(source: Source, reference: Reference, path: Path) -> None:
    """Run the graph beside the module, where ONNX Runtime is installed here: its parity is judged later anyway.

    The exporter folds sizes that the trace had kept (attention at opset 17, torch 2.13), so another way is tried then.
    """
    try:
        import onnxruntime
    except ImportError:
        return
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has a class for every status code
        raise ConverterFailed(
            f"the {NAME} wrote a graph that ONNX Runtime does not load",
            why=str(error)[:300],
            fix="try another --opset",
        ) from error
    taken = {value.name for value in session.get_inputs()}
    for inputs in (reference.inputs, *((reference.others,) if reference.others else ())):
        pairs = zip(reference.runner.inputs, inputs, strict=True)
        feeds = {spec.name: to_numpy(tensor) for spec, tensor in pairs if spec.name in taken}
        wanted = run(reference.flat, inputs)
        try:
            found = [torch.from_numpy(array) for array in session.run(None, feeds)]
        except Exception:  # a size that became a number
            found = []
        if len(found) != len(wanted) or not all(close(a, b) for a, b in zip(wanted, found, strict=True)):
            raise _wrong_graph(source, at_example=inputs is reference.inputs)


def _wrong_graph(source: Source, *, at_example: bool) -> ConverterFailed:
    if at_example:
        return ConverterFailed(
            f"the {NAME} wrote a graph that does not compute what the module does", fix="try a higher --opset"
        )
    axes = ", ".join(f"`{name}`" for name in source.axes)
    return ConverterFailed(
        f"the {NAME} folded the size of a dynamic axis into the graph ({axes})",
        why="the trace is right at other sizes, and the graph is not",
        fix="try --opset 18 or above, or give numbers in place of the axes' names in --input",
    )


def _failed(
    error: Exception, traced: torch.jit.ScriptModule, reference: Reference, opset: int
) -> ConversionError:
    if later := _LATER.search(str(error)):
        names = ", ".join(f"`{name}`" for name in torch_failures.missing_operators(error))
        return OpsetOutOfReach(
            f"{names or 'an operator of the model'} has no form at opset {opset}", why=f"it came with opset {later[1]}",
            fix=f"--opset {later[1]}",
        )  # fmt: skip
    missing = torch_failures.missing_operators(error)
    if missing:
        return torch_failures.unsupported(_all_missing(traced, reference, opset) or missing, NAME)
    return torch_failures.exporter_failed(error, NAME)


def _all_missing(traced: torch.jit.ScriptModule, reference: Reference, opset: int) -> list[str]:
    """Every operator without a symbolic function; deprecated in torch, and nothing depends on it but the message."""
    try:
        with _quiet():
            return list(
                torch.onnx.utils.unconvertible_ops(
                    traced, reference.inputs, opset_version=min(opset, GREATEST)
                )[1]
            )
    except Exception:
        return []


def _quiet() -> warnings.catch_warnings[None]:
    return warnings.catch_warnings(action="ignore")
