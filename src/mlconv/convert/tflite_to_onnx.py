"""TFLite, float or quantized -> ONNX, by mlconv's own importer."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from mlconv.convert.job import Converted, Job
from mlconv.convert.signature import assert_ranked, laid_over
from mlconv.convert.tflite_import.cut import reference_file
from mlconv.convert.tflite_import.graph import Target
from mlconv.convert.tflite_import.entry import assert_numbers, chosen, chosen_silently
from mlconv.convert.tflite_import.importer import Imported, import_model
from mlconv.convert.tflite_import.isa import isa_of
from mlconv.errors import counted
from mlconv.formats import mapped, tflite_read
from mlconv.runners.litert import PACKAGE_NAMES, LiteRtRunner, entry_of, has_resources, is_quantized
from mlconv.tensors import Dim, TensorSpec

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
    )
    imported = import_model(model, entry, inputs, outputs, target, job.source.ref)
    ir.save(imported.model, job.output)
    runs, point = reference_file(path, model, whole, entry, job.scratch)
    reference = LiteRtRunner(
        runs, point, inputs, outputs, is_quantized=is_quantized(model), has_resources=has_resources(model)
    )
    warnings = [
        *chosen_silently(model, whole, job.options.signature),
        *imported.warnings,
        *_saturation(imported, job),
    ]
    settings = {
        "target_isa": target.isa,
        "eight_bit_operators": imported.eight_bit,
        "can_saturate": len(imported.saturating),
    }
    made = {value.name: value.shape for value in imported.model.graph.outputs}
    outputs = tuple(replace(spec, shape=_shape(made[spec.name], spec)) for spec in outputs)
    return Converted(
        inputs, outputs, reference, "mlconv's TFLite importer", PACKAGE_NAMES, warnings, settings=settings, tuned=True,
        states=tuple((state.name, str(state.output.name)) for state in imported.states if state.output is not None),
    )  # fmt: skip


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
