"""The source's own answers, on the user's data or on what is drawn, and with the last bit of its inputs changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.checks.data import open_data
from mlconv.checks.drawn import answers as drawn_answers
from mlconv.checks.drawn import run
from mlconv.checks.samples import Sample
from mlconv.convert.job import Options, Referenced
from mlconv.errors import NotRepeatable, SourceDoesNotRun
from mlconv.runners.base import Feeds, Outputs, Runner, Stateful
from mlconv.tensors import Axis, TensorSpec

STEPS = 3
"""Runs in a row: the second begins with what a fresh run left, the third with what a run left that began so."""
_SAME_ANSWER = 1e-3  # of the range; threads that add in another order stay far below


def refer(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], options: Options, folder: Path,
    example: Feeds | None = None,
) -> Referenced:  # fmt: skip
    """Run the source on its samples and leave inputs and outputs in ``folder``.

    Args:
        example: Inputs on which the source is known to run: the first sample, where the user named no data.

    Raises:
        SourceDoesNotRun: It cannot run on any.
        DataDoesNotFit, UnsupportedType: See ``checks.samples``.
    """
    notes: list[str] = []
    files: list[Path] = []
    spreads: list[list[float]] = []
    shares: list[list[float]] = []
    noises: list[tuple[float, ...]] = []
    count = 0
    data = None if options.data is None else open_data(options, inputs, axes)
    answers = drawn_answers(runner, inputs, axes, options, notes)
    if data is not None:
        answers = ((sample, run(runner, sample)) for sample in data.samples)
    if example and options.data is None:
        fewer = replace(options, samples=options.samples - 1)
        answers = _after_example(runner, example, drawn_answers(runner, inputs, axes, fewer, notes), notes)
    for index, (sample, outputs) in enumerate(answers):
        path = folder / f"sample-{index:04d}.npz"
        arrays = {f"in{i}": sample.feeds[spec.name] for i, spec in enumerate(inputs)}
        arrays |= {f"out{i}": array for i, array in enumerate(outputs.values())}
        np.savez(path, **{name: _plain(array) for name, array in arrays.items()})
        files.append(path)
        count += sample.rows
        if index == 0:
            _assert_repeatable(runner, sample, outputs)
        apart = runner.spread(sample.feeds)
        if apart is not None:
            spreads.append([float(np.max(np.asarray(a, np.float64), initial=0.0)) for a in apart.values()])
            shares.append([float(np.mean(np.asarray(a) != 0)) if np.size(a) else 0.0 for a in apart.values()])
        noises.append(_noise(runner, sample, outputs) if apart is None else ())
    return Referenced(
        runner.name,
        tuple(files),
        tuple(map(tuple, spreads)),
        _greatest(shares),
        tuple(noises),
        count,
        tuple(dict.fromkeys([*notes, *(data.notes() if data else ())])),
        data.told() if data else None,
        getattr(runner, "kernels", None),
    )


def in_a_row(runner: Runner, inputs: Sequence[TensorSpec], told: Referenced, folder: Path) -> Referenced:
    """Run a source that keeps variables ``STEPS`` times without a reset, on samples of the first one's shapes.

    Returns:
        ``told`` with ``steps``; with a note where that shows nothing, since no answer is another than from fresh variables.
    """
    if not isinstance(runner, Stateful):
        return replace(told, notes=(*told.notes, f"{runner.name} ran from fresh variables alone"))
    samples = list(map(_loaded, told.files))
    shapes = [[sample[f"in{i}"].shape for i in range(len(inputs))] for sample in samples]
    samples = [sample for sample, own in zip(samples, shapes, strict=True) if own == shapes[0]]
    files, moved = [], False
    for number in range(STEPS):
        fresh = samples[number % len(samples)]
        feeds = {spec.name: fresh[f"in{i}"] for i, spec in enumerate(inputs)}
        outputs = (runner.run if number == 0 else runner.run_on)(feeds)
        made = {f"out{i}": _plain(array) for i, array in enumerate(outputs.values())}
        moved = moved or any(not np.array_equal(array, fresh[name]) for name, array in made.items())
        files.append(folder / f"step-{number}.npz")
        np.savez(files[-1], **{name: fresh[name] for name in fresh if name.startswith("in")}, **made)
    silent = f"the source's variables changed no output in {STEPS} runs in a row: nothing was shown for them"
    return replace(told, steps=tuple(files), notes=told.notes if moved else (*told.notes, silent))


def _loaded(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as sample:
        return dict(sample)


def _after_example(
    runner: Runner, example: Feeds, drawn: Iterator[tuple[Sample, Outputs]], notes: list[str]
) -> Iterator[tuple[Sample, Outputs]]:
    """The example, then what is drawn: it shows something even where the source runs on nothing else."""
    notes.append("the first sample is the example that was given")
    sample = Sample(dict(example), {})
    yield sample, run(runner, sample)
    try:
        yield from drawn
    except SourceDoesNotRun as error:
        notes.append(f"compared on the example alone: {error.what}{f' ({error.why})' if error.why else ''}")


def with_example_ranges(inputs: Sequence[TensorSpec], example: Feeds) -> tuple[TensorSpec, ...]:
    """Integers whose range nothing else tells are drawn from that of the example."""
    return tuple(
        replace(spec, values=(float(example[spec.name].min()), float(example[spec.name].max())))
        if spec.values is None
        and spec.dtype.startswith(("int", "uint"))
        and np.size(example.get(spec.name, ()))
        else spec
        for spec in inputs
    )


def _assert_repeatable(runner: Runner, sample: Sample, outputs: Outputs) -> None:
    """Nothing can be compared with a source that draws random numbers.

    Raises:
        NotRepeatable: It gives another answer to the same inputs.
    """
    again = runner.run(sample.feeds)
    for name, array in outputs.items():
        extent = float(np.ptp(np.asarray(array, np.float64))) if _is_real(array) and np.size(array) else 0.0
        if np.shape(array) != np.shape(again[name]) or _distance(array, again[name]) > _SAME_ANSWER * max(
            extent, 1e-30
        ):
            raise NotRepeatable(
                f"the source does not give the same answer twice: `{name}` changes from run to run",
                why="it draws random numbers, or keeps a state",
                fix="take the random operator or the state out of the model, or give --no-parity",
            )


def _greatest(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Of each output, over all samples."""
    return tuple(max(column) for column in zip(*rows, strict=True))


def _plain(array: Any) -> Any:
    """Arrays as a file without pickles holds them: bfloat16 and 4-bit integers are widened, strings are fixed-width."""
    array = np.asarray(array)
    if array.dtype.kind in "OS":
        return array.astype(np.str_)
    if array.dtype.kind == "V" or array.dtype.name in ("bfloat16", "int4", "uint4"):
        return array.astype(np.float32 if "float" in array.dtype.name else np.int8)
    return array


# ------------------------------------------------------------------ noise


def _noise(runner: Runner, sample: Sample, outputs: Outputs) -> tuple[float, ...]:
    """How far each output moves when every floating-point input moves by its last bit, up or down at random.

    That is what rounding at the inputs alone does to this network; empty where no input is floating-point.
    """
    rng = np.random.default_rng(0)
    if not any(_is_real(array) and array.size for array in sample.feeds.values()):
        return ()
    moved = {
        name: np.asarray(array * _last_bits(array, rng), array.dtype) if _is_real(array) else array
        for name, array in sample.feeds.items()
    }
    others = runner.run(moved)
    return tuple(_distance(a, b) for a, b in zip(outputs.values(), others.values(), strict=True))


def _last_bits(array: Any, rng: np.random.Generator) -> Any:
    return 1 + np.finfo(array.dtype).eps * rng.choice([-1.0, 1.0], np.shape(array))


def _is_real(array: Any) -> bool:
    return bool(np.issubdtype(np.asarray(array).dtype, np.floating))


def _distance(a: Any, b: Any) -> float:
    """The greatest difference of two outputs of one shape that are finite; 0 where nothing can be said."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or not a.size or not _is_real(a):
        return 0.0
    with np.errstate(invalid="ignore"):
        apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(apart[np.isfinite(apart)].max(initial=0.0))
