"""The job that runs in the source's framework: convert, then run the source on the samples.

Both happen in one process, since loading a framework and a model twice costs more than everything else.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlconv import progress
from mlconv.checks import samples as sampling
from mlconv.checks.samples import Sample
from mlconv.convert.job import Converted, Job, Options, Referenced, Sourced
from mlconv.errors import SourceDoesNotRun
from mlconv.jsonable import from_json, to_json
from mlconv.runners.base import Outputs, Runner
from mlconv.tensors import Axis, TensorSpec, axes_of

_NOISE_SAMPLES = 3
"""Samples on which the source is run twice: every size of a dynamic axis comes up once, and both kinds of values."""

_LADDER = (8, 16, 32, 64, 128, 224, 256)
"""Sizes that networks with several strides commonly take, tried where the usual small ones do not run."""


def convert(payload: Mapping[str, Any]) -> Any:
    """Payload: ``{"run": "module:function", "job": Job, "reference": bool}``. Result: ``Sourced``."""
    job = from_json(Job, payload["job"])
    module, _, function = payload["run"].partition(":")
    start = time.perf_counter()
    converted: Converted = getattr(importlib.import_module(module), function)(job)
    seconds = time.perf_counter() - start
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


def _with_ranges(inputs: Sequence[TensorSpec], job: Job) -> tuple[TensorSpec, ...]:
    """The ranges of integer inputs that index a table, read off the converted graph, whatever the source."""
    unknown = [spec for spec in inputs if spec.values is None and spec.dtype in ("int32", "int64")]
    if not unknown or job.target != "onnx":
        return tuple(inputs)
    import onnx

    from mlconv.formats.onnx_file import value_ranges

    ranges = value_ranges(onnx.load(job.output, load_external_data=False))
    return tuple(replace(spec, values=spec.values or ranges.get(spec.name)) for spec in inputs)


def _versions(packages: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


# ------------------------------------------------------------------ the source's answers


def refer(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], options: Options, folder: Path
) -> Referenced:
    """Run the source on its samples and leave inputs and outputs in ``folder``.

    Raises:
        SourceDoesNotRun: It cannot run on any.
        DataDoesNotFit, UnsupportedType: See ``checks.samples``.
    """
    notes: list[str] = []
    files: list[Path] = []
    spreads, shares, noises = [], [], []
    for index, (sample, outputs) in enumerate(_answers(runner, inputs, axes, options, notes)):
        path = folder / f"sample-{index:04d}.npz"
        arrays = {f"in{i}": sample.feeds[spec.name] for i, spec in enumerate(inputs)}
        arrays |= {f"out{i}": array for i, array in enumerate(outputs.values())}
        np.savez(path, **{name: _plain(array) for name, array in arrays.items()})
        files.append(path)
        apart = runner.spread(sample.feeds)
        if apart is not None:
            spreads.append([float(np.max(np.asarray(a, np.float64), initial=0.0)) for a in apart.values()])
            shares.append([float(np.mean(np.asarray(a) != 0)) if np.size(a) else 0.0 for a in apart.values()])
        elif index < _NOISE_SAMPLES:
            noises += _noise(runner, sample, outputs)
    return Referenced(runner.name, tuple(files), _greatest(spreads), _greatest(shares), _greatest(noises), tuple(dict.fromkeys(notes)))


def _greatest(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Of each output, over all samples."""
    return tuple(max(column) for column in zip(*rows, strict=True))


def _noise(runner: Runner, sample: Sample, outputs: Outputs) -> list[list[float]]:
    """How far each output moves when every floating-point input moves by its last bit, up or down at random.

    That is what rounding at the inputs alone does to this network; none where no input is floating-point.
    """
    rng = np.random.default_rng(0)
    moved = {name: array * _last_bits(array, rng) if _is_real(array) else array for name, array in sample.feeds.items()}
    if not any(_is_real(array) and array.size for array in sample.feeds.values()):
        return []
    others = runner.run({name: np.asarray(array, sample.feeds[name].dtype) for name, array in moved.items()})
    return [[_distance(a, b) for a, b in zip(outputs.values(), others.values(), strict=True)]]


def _last_bits(array: Any, rng: np.random.Generator) -> Any:
    return 1 + np.finfo(array.dtype).eps * rng.choice([-1.0, 1.0], np.shape(array))


def _is_real(array: Any) -> bool:
    return bool(np.issubdtype(np.asarray(array).dtype, np.floating))


def _distance(a: Any, b: Any) -> float:
    """The greatest difference of two outputs of one shape that are finite; 0 where nothing can be said."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or not a.size or not _is_real(a):
        return 0.0
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(apart[np.isfinite(apart)].max(initial=0.0))


def _plain(array: Any) -> Any:
    """Numpy's own dtypes alone survive a file: bfloat16 and 4-bit integers are widened."""
    array = np.asarray(array)
    if array.dtype.kind == "V" or array.dtype.name in ("bfloat16", "int4", "uint4"):
        return array.astype(np.float32 if "float" in array.dtype.name else np.int8)
    return array


def _answers(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], options: Options, notes: list[str]
) -> Iterator[tuple[Sample, Outputs]]:
    if options.data is not None:
        for sample in sampling.load(options.data, inputs, axes, options.samples):
            yield sample, _run(runner, sample)
        return
    usual = _sizes_that_run(runner, inputs, axes, options, notes)
    for index in range(options.samples):
        yield _random(
            runner,
            inputs,
            {**sampling.sizes_for(axes, index)} if usual is None else usual,
            index,
            options,
            notes,
        )


def _random(
    runner: Runner,
    inputs: Sequence[TensorSpec],
    sizes: dict[str, int],
    index: int,
    options: Options,
    notes: list[str],
) -> tuple[Sample, Outputs]:
    """Sample and answers; from 0..1 again where the source is not finite on the wide values."""
    sample = sampling.draw(inputs, sizes, options.seed, index, wide=index % 2 == 1)
    outputs = _run(runner, sample)
    if sample.wide and not _finite(outputs):
        notes.append("the source is not finite on negative inputs, so all samples were drawn from 0..1")
        sample = sampling.draw(inputs, sizes, options.seed, index, wide=False)
        outputs = _run(runner, sample)
    return sample, outputs


def _sizes_that_run(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], options: Options, notes: list[str]
) -> dict[str, int] | None:
    """None where every size that the samples will take runs; else the sizes that all samples take instead.

    Raises:
        SourceDoesNotRun: Nothing that was tried runs.
    """
    if not axes:
        return None
    plans = [sampling.sizes_for(axes, index) for index in range(min(3, options.samples))]
    failures: list[tuple[dict[str, int], Exception]] = []
    for sizes in [dict(pairs) for pairs in dict.fromkeys(tuple(plan.items()) for plan in plans)]:
        try:
            runner.run(sampling.draw(inputs, sizes, options.seed, 0, wide=False).feeds)
        except Exception as error:  # whatever the framework raises means: not at this size
            failures.append((sizes, error))
    if not failures:
        return None
    for sizes in [*plans[:1], *_ladder(axes)]:
        if any(sizes == failed for failed, _ in failures):
            continue
        try:
            runner.run(sampling.draw(inputs, sizes, options.seed, 0, wide=False).feeds)
        except Exception:  # the next size may do; the first failure is the one that is told
            continue
        told = ", ".join(f"{name}={size}" for name, size in failures[0][0].items())
        notes.append(
            f"the source itself does not run at {told} ({_line(failures[0][1])}), so that size was not compared"
        )
        return sizes
    raise SourceDoesNotRun(
        f"the source does not run in {runner.name} on random inputs", why=_line(failures[0][1]),
        fix="--data with inputs that it takes, or --input NAME=DIM,...:DTYPE[LO..HI] with their shapes and range",
    ) from failures[0][1]  # fmt: skip


def _ladder(axes: Mapping[str, Axis]) -> Iterator[dict[str, int]]:
    """Every free axis at each rung; then the same with the first axis, which counts samples, at its usual size."""
    free = [name for name, axis in axes.items() if axis.high is None and axis.default is None]
    usual = sampling.sizes_for(axes, 0)
    for size in _LADDER:
        yield {**usual, **dict.fromkeys(free[1:], size)}
        yield {**usual, **dict.fromkeys(free, size)}


def _run(runner: Runner, sample: Sample) -> Outputs:
    try:
        return runner.run(sample.feeds)
    except Exception as error:
        shapes = ", ".join(f"`{name}` {list(np.shape(array))}" for name, array in sample.feeds.items())
        raise SourceDoesNotRun(
            f"the source does not run in {runner.name} on {shapes or 'no inputs'}", why=_line(error),
            fix="--data with inputs that it takes, or --input NAME=DIM,...:DTYPE[LO..HI] with their shapes and range",
        ) from error  # fmt: skip


def _finite(outputs: Outputs) -> bool:
    arrays = [np.asarray(array) for array in outputs.values()]
    return all(bool(np.isfinite(array).all()) for array in arrays if np.issubdtype(array.dtype, np.floating))


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:240] if lines else 'without a message'}"
