"""The job that runs in the source's framework: convert, then run the source on the samples.

Both happen in one process, since loading a framework and a model twice costs more than everything else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlconv import progress
from mlconv.checks.ranges import with_ranges
from mlconv.checks.reference import in_a_row, refer, with_example_ranges
from mlconv.convert.job import Converted, Job, Sourced
from mlconv.jsonable import from_json, to_json
from mlconv.runners.base import Runner
from mlconv.tensors import axes_of, with_input_options


def convert(payload: Mapping[str, Any]) -> Any:
    """Payload: ``{"run": "module:function", "job": Job, "reference": bool, "witness": ...}``. Result: ``Sourced``.

    ``witness`` is the ``module:function`` that opens the source for a third party's converter, which is not asked
    what its own source answers; None for ours, which have it loaded already.
    """
    job = from_json(Job, payload["job"])
    module, _, function = payload["run"].partition(":")

    def run(job: Job) -> Converted:
        converted: Converted = getattr(importlib.import_module(module), function)(job)
        return converted

    return to_json(convert_by(run, job, reference=payload["reference"], witness=payload["witness"]))


def convert_by(run: Callable[[Job], Converted], job: Job, *, reference: bool, witness: str | None) -> Sourced:
    """What ``convert`` does, by a converter that is loaded."""
    _assert_opset(job)
    start = time.perf_counter()
    converted = run(job)
    seconds = time.perf_counter() - start
    if witness is not None:
        _call_witness(witness, converted, job)
    graph = job.output if job.target == "onnx" else None
    inputs = with_example_ranges(
        with_ranges(converted.inputs, job.source, converted.reference, graph), converted.example
    )
    referenced = None
    states = converted.states or tuple(getattr(converted.reference, "states", {}).items())
    if reference and job.options.parity:
        progress.report(f"running the source in {converted.reference.name}")
        axes = {**axes_of(inputs), **converted.axes, **axes_of(inputs, job.options.input, ranged_only=True)}
        referenced = refer(converted.reference, inputs, axes, job.options, job.scratch, converted.example)
        if states:
            referenced = in_a_row(converted.reference, inputs, referenced, job.scratch)
    warnings = (*converted.warnings, *_shapes_told(job))
    return Sourced(
        inputs, converted.outputs, converted.exporter, _versions(converted.packages), warnings,
        converted.weights, seconds, referenced, "tf2onnx" not in converted.packages,
        converted.settings, converted.tuned, states,
    )  # fmt: skip


def _assert_opset(job: Job) -> None:
    """One range of opsets for every source: what the installed onnxruntime loads.

    Raises:
        UnsupportedOpset: The number is outside.
    """
    if job.options.opset is None or importlib.util.find_spec("onnxruntime") is None:
        return
    from mlconv.convert.onnx_graph.versions import assert_supported
    from mlconv.runners.onnx_session import onnxruntime_limits

    assert_supported(job.options.opset, onnxruntime_limits()[0])


def _shapes_told(job: Job) -> list[str]:
    """Enumerated shapes exist in Core ML alone: elsewhere the axes at which they differ take any size."""
    told = [option for option in job.options.input if option.shapes]
    if not told or job.target.startswith("coreml"):
        return []
    shapes = "; ".join(
        f"`{option.name}` {' and '.join(','.join(map(str, shape)) for shape in option.shapes)}"
        for option in told
    )
    return [
        f"ONNX has no enumerated shapes: the artifact takes other sizes too, and was compared at these alone: {shapes}"
    ]


def _call_witness(opener: str, converted: Converted, job: Job) -> None:
    """Put the source itself, and its signature, in the place of what a third party says of it."""
    module, _, function = opener.partition(":")
    runner: Runner = getattr(importlib.import_module(module), function)(job.source, job.options)
    converted.reference, converted.outputs = runner, runner.outputs
    converted.inputs = with_input_options(runner.inputs, job.options.input)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
