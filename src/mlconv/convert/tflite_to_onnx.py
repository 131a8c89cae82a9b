"""TFLite, float or quantized -> ONNX, by mlconv's own importer."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from mlconv.checks.drawn import run as run_once
from mlconv.checks.samples import draw
from mlconv.convert.job import Converted, Job
from mlconv.convert.signature import assert_ranked, laid_over
from mlconv.convert.tflite_import.cut import reference_file
from mlconv.convert.tflite_import.entry import assert_numbers, chosen, chosen_silently
from mlconv.convert.tflite_import.graph import Target
from mlconv.convert.tflite_import.importer import Imported, import_model
from mlconv.convert.tflite_import.isa import isa_of
from mlconv.errors import Corrupt, counted
from mlconv.formats import mapped, tflite_read
from mlconv.runners.litert import PACKAGE_NAMES, Entry, LiteRtRunner, entry_of, has_resources, is_quantized
from mlconv.tensors import Dim, TensorSpec, axes_of

PACKAGES = ("onnxruntime", "onnxruntime-gpu", "onnx", "onnx-ir", "numpy", *PACKAGE_NAMES)
"""What the answers rest on: which kernels LiteRT runs, which operators onnxruntime fuses and how both round."""
GREATEST_OPSET = 18
"""What the importer writes, from 13 on; more is reached with onnx's version converter."""


def run(job: Job) -> Converted:
    """Convert the signature that `--signature` names, up to the tensors that `--outputs` names.

    Raises:
        UnsupportedOperator: Operators without an ONNX form; all are named.
        UnsupportedType: It takes or gives text or resources.
    """
    path = mapped.path_of(job.source)
    model = tflite_read.read(path)
    whole = entry_of(job.source, model, job.options.signature)
    entry = chosen(model, whole, job.options.outputs)
    assert_numbers(model, entry, job.source.ref)
    inputs = laid_over([spec for _, spec in entry.inputs], job.options)
    assert_ranked(inputs)
    outputs = entry.outputs_apart()
    target = Target(
        min(job.options.opset or GREATEST_OPSET, GREATEST_OPSET),
        isa_of(job.options.target_isa),
        job.options.optimize,
        job.options.precision == "fp16",
    )
    runs, point = reference_file(path, model, whole, entry, job.scratch)

    def reference() -> LiteRtRunner:
        return LiteRtRunner(
            runs, point, inputs, outputs, is_quantized=is_quantized(model), has_resources=has_resources(model)
        )

    try:
        imported = import_model(model, entry, inputs, outputs, target, job.source.ref)
    except Corrupt:
        if job.options.input:  # sizes that the model does not take are no fault of the file
            _assert_taken(reference(), inputs)
        raise
    ir.save(imported.model, job.output)
    warnings = [
        *chosen_silently(model, whole, job.options.signature),
        *_renamed(entry),
        *imported.warnings,
        *_saturation(imported, job),
    ]
    settings = {
        "target_isa": target.isa,
        "eight_bit_operators": imported.eight_bit,
        "can_saturate": len(imported.saturating),
    }
    made = {value.name: value.shape for value in imported.model.graph.outputs}
    told = tuple(replace(spec, shape=_shape(made[spec.name], spec)) for spec in outputs)
    return Converted(
        inputs, told, reference(), "mlconv's TFLite importer", PACKAGES, warnings, settings=settings, tuned=True,
        states=tuple((state.name, str(state.output.name)) for state in imported.states if state.output is not None),
    )  # fmt: skip


def _assert_taken(reference: LiteRtRunner, inputs: tuple[TensorSpec, ...]) -> None:
    """Ask LiteRT whether the model runs at the sizes of `--input`.

    Raises:
        SourceDoesNotRun: It does not; told with the sizes that it takes, where LiteRT says so.
    """
    sizes = {axis.name: axis.default or axis.low for axis in axes_of(inputs).values()}
    run_once(reference, draw(inputs, sizes, 0, 0))


def _renamed(entry: Entry) -> list[str]:
    """Outputs that ONNX cannot call what the source calls them."""
    pairs = [
        (own.name, spec.name) for (_, own), spec in zip(entry.outputs, entry.outputs_apart(), strict=True)
    ]
    return [
        f"the output `{own}` is called `{name}`, since ONNX has one name for inputs and outputs"
        for own, name in pairs
        if own != name
    ]


def _shape(made: ir.Shape | None, spec: TensorSpec) -> tuple[Dim, ...] | None:
    """An output's axes: those that follow an input's bear its name."""
    if made is None:
        return spec.shape
    return tuple(dim if isinstance(dim, int) else dim.value for dim in made)


def _saturation(imported: Imported, job: Job) -> list[str]:
    """What a user whose model meets another processor should know; nothing where the processor was chosen by name."""
    count = len(imported.saturating)
    if not count or job.options.target_isa is not None:
        return []
    told = f"{counted(count, 'operator')} of {imported.eight_bit} on 8-bit integers can saturate on x86 without VNNI"
    return [
        f"{told}: set session.x64quantprecision of onnxruntime to 1 there, or convert with --target-isa portable"
    ]
