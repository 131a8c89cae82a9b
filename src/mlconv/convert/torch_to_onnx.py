"""PyTorch to ONNX.

The dynamo exporter writes the better graphs (a Swin of 768 nodes in place of 6,285) and refuses branches that hang on
values; the TorchScript exporter reaches further down in opsets and takes TorchScript. Which one is used when:

====================  =====================  ==========================================================
source                opset                  exporter
====================  =====================  ==========================================================
TorchScript           any                    TorchScript
others                18 and above           dynamo; TorchScript where it fails, unless a branch hangs on data
others                below 18               TorchScript; dynamo, lowered from 18, where it fails
====================  =====================  ==========================================================

Names: an input is the parameter of `forward` that it goes to, an output what ``runners.torch_eager.leaves`` says.
"""

from __future__ import annotations

import shutil
import traceback
import warnings
from collections.abc import Callable

import onnx_ir as ir
import torch

from mlconv.convert.job import Converted, Job
from mlconv.convert.torch_import import dynamo as torch_dynamo
from mlconv.convert.torch_import import graph as torch_graph
from mlconv.convert.torch_import import trace as torch_trace
from mlconv.convert.torch_import.reference import Reference, reference
from mlconv.convert.torch_import.source import Source, open_source
from mlconv.errors import ConversionError, DataDependentControlFlow, OpsetOutOfReach, UnsupportedType

DEFAULT_OPSET = 18


def run(job: Job) -> Converted:
    """Convert a PyTorch source to ONNX.

    Raises:
        MlconvError: InputError for the source, UsageError for ``--input``, ConversionError for the export.
    """
    with warnings.catch_warnings(action="ignore"):  # torch's own, of which users can do nothing about any
        return _convert(job, job.options.opset or DEFAULT_OPSET)


def _convert(job: Job, opset: int) -> Converted:
    # the fused attention of inference has no ONNX form, and the reference shall compute what is exported
    torch.backends.mha.set_fastpath_enabled(False)
    return convert_source(open_source(job.source, job.options, job.scratch), job, opset)


def convert_source(source: Source, job: Job, opset: int) -> Converted:
    """Convert a source that is loaded."""
    known = reference(source, job.options)
    _refuse_complex(known)
    notes = list(source.warnings)
    if source.axes and known.others is None:
        told = ", ".join(f"{name}={size}" for name, size in known.sizes.items())
        notes.append(
            f"the source ran at {told} and at no other size that was tried: dynamic axes were not compared"
        )
    torch.manual_seed(job.options.seed)
    with torch.no_grad():
        model, exporter = _export(source, known, opset, job, notes)
    torch_graph.save(torch_graph.finish(model, known.runner.inputs, known.runner.outputs, opset), job.output)
    shutil.rmtree(job.scratch / "traced", ignore_errors=True)
    return Converted(
        known.runner.inputs,
        known.runner.outputs,
        known.runner,
        exporter,
        ("torch", "onnxscript", "onnx"),
        notes,
        source.weights,
        dict(source.axes),
    )


def _refuse_complex(known: Reference) -> None:
    for spec in (*known.runner.inputs, *known.runner.outputs):
        if spec.dtype.startswith("complex"):
            raise UnsupportedType(
                f"`{spec.name}` is {spec.dtype}, and ONNX runtimes take no complex tensors",
                fix="take and return real and imaginary parts (torch.view_as_real, torch.view_as_complex)",
            )


def _export(source: Source, known: Reference, opset: int, job: Job, notes: list[str]) -> tuple[ir.Model, str]:
    def trace() -> tuple[ir.Model, str]:
        folder = job.scratch / "traced"  # torch writes large tensors into loose files beside the model
        folder.mkdir(exist_ok=True)
        return torch_trace.export(source, known, opset, folder / "model.onnx", job.options.seed)

    if source.scripted:
        return trace()[0], torch_trace.NAME
    if opset < torch_dynamo.LEAST:
        return _below_18(source, known, opset, job.options.seed, trace, notes)
    try:
        asked = min(opset, torch_dynamo.GREATEST)
        return torch_dynamo.export(source, known, asked, job.options.seed), torch_dynamo.NAME
    except ConversionError as error:
        if isinstance(error, DataDependentControlFlow):
            raise  # a trace would hide the branches that it did not take
        first = error
        traceback.print_exception(error)  # the log keeps torch's own words, whatever the other exporter says
    try:
        model, held = trace()
    except DataDependentControlFlow as second:
        raise second from first
    except ConversionError as second:
        first.why = f"{first.why + '; ' if first.why else ''}the {torch_trace.NAME}: {second.what}"
        raise first from second
    notes.append(
        f"the {torch_dynamo.NAME} failed ({_told(first)}), so the {torch_trace.NAME} was used; {held}"
    )
    return model, torch_trace.NAME


def _below_18(
    source: Source, known: Reference, opset: int, seed: int, trace: Callable[[], tuple[ir.Model, str]], notes: list[str]
) -> tuple[ir.Model, str]:  # fmt: skip
    try:
        return trace()[0], torch_trace.NAME
    except ConversionError as error:
        first = error
    try:
        # a branch that a trace would lose is refused here too, and a size that it would fix may be a symbol
        model = torch_dynamo.export(source, known, torch_dynamo.LEAST, seed)
    except ConversionError as error:
        raise (error if isinstance(error, DataDependentControlFlow) else first) from first
    try:
        lowered = torch_graph.at_opset(model, opset)
    except OpsetOutOfReach as error:
        error.why = f"the {torch_trace.NAME}: {first.what}; lowered from {torch_dynamo.LEAST}: {error.why}"
        raise error from first
    notes.append(
        f"the {torch_trace.NAME} failed ({_told(first)}), so the graph of the {torch_dynamo.NAME} was lowered "
        f"from opset {torch_dynamo.LEAST}"
    )
    return lowered, torch_dynamo.NAME


def _told(error: ConversionError) -> str:
    return f"{error.what}: {error.why}" if error.why else error.what
