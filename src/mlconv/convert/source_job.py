"""The job that runs in the source's framework: convert, then run the source on the samples.

Both happen in one process, since loading a framework and a model twice costs more than everything else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlconv import progress
from mlconv.checks.reference import refer
from mlconv.convert.job import Converted, Job, Sourced
from mlconv.jsonable import from_json, to_json
from mlconv.runners.base import Runner
from mlconv.tensors import TensorSpec, axes_of, with_input_options


def convert(payload: Mapping[str, Any]) -> Any:
    """Payload: ``{"run": "module:function", "job": Job, "reference": bool, "witness": ...}``. Result: ``Sourced``.

    ``witness`` is the ``module:function`` that opens the source for a third party's converter, which is not asked
    what its own source answers; None for ours, which have it loaded already.
    """
    job = from_json(Job, payload["job"])
    module, _, function = payload["run"].partition(":")
    _assert_opset(job)
    start = time.perf_counter()
    converted: Converted = getattr(importlib.import_module(module), function)(job)
    seconds = time.perf_counter() - start
    if payload["witness"] is not None:
        _call_witness(payload["witness"], converted, job)
    inputs = _with_ranges(converted.inputs, job)
    referenced = None
    if payload["reference"] and job.options.parity:
        progress.report(f"running the source in {converted.reference.name}")
        axes = {**axes_of(inputs), **converted.axes, **axes_of(inputs, job.options.input, ranged_only=True)}
        referenced = refer(converted.reference, inputs, axes, job.options, job.scratch)
    return to_json(
        Sourced(inputs, converted.outputs, converted.exporter, _versions(converted.packages), tuple(converted.warnings),
                converted.weights, seconds, referenced, "tf2onnx" not in converted.packages)
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


def _call_witness(opener: str, converted: Converted, job: Job) -> None:
    """Put the source itself, and its signature, in the place of what a third party says of it."""
    module, _, function = opener.partition(":")
    runner: Runner = getattr(importlib.import_module(module), function)(job.source, job.options)
    converted.reference, converted.outputs = runner, runner.outputs
    converted.inputs = with_input_options(runner.inputs, job.options.input)


def _with_ranges(inputs: Sequence[TensorSpec], job: Job) -> tuple[TensorSpec, ...]:
    """The ranges of integer inputs that index a table: off the source itself where it is a graph, else off what it became."""
    unknown = [spec for spec in inputs if spec.values is None and spec.dtype in ("int32", "int64")]
    if not unknown or job.target != "onnx":
        return tuple(inputs)
    graph = job.source.path if job.source.format == "onnx" and job.source.path is not None else job.output
    import onnx

    from mlconv.formats.onnx_file import value_ranges

    ranges = value_ranges(onnx.load(graph, load_external_data=False))
    return tuple(replace(spec, values=spec.values or ranges.get(spec.name)) for spec in inputs)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
