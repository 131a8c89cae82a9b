"""The source's own answers, at several sizes of its dynamic axes, and with the last bit of its inputs changed.

A size that was baked in shows only at another size, and two axes that were confused only where they differ: the usual
sizes differ from axis to axis, and then one axis at a time takes its least, a neighbouring and a large size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.checks import samples as sampling
from mlconv.checks.samples import Sample
from mlconv.convert.job import Options, Referenced
from mlconv.errors import SourceDoesNotRun
from mlconv.runners.base import Outputs, Runner
from mlconv.tensors import Axis, TensorSpec

_LADDER = (8, 16, 32, 64, 128, 224, 256)
"""Sizes that networks with several strides commonly take, tried where the usual small ones do not run."""

_LARGE, _LESS_LARGE = 17, 4
_LARGE_ELEMENTS = 1 << 21
"""A large size is tried where all inputs together stay below this many elements, 8 MB of float32; else a lesser one."""


_SAME_ANSWER = 1e-3  # of the range; threads that add in another order stay far below


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
    spreads: list[list[float]] = []
    shares: list[list[float]] = []
    noises: list[tuple[float, ...]] = []
    count = 0
    for index, (sample, outputs) in enumerate(_answers(runner, inputs, axes, options, notes)):
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
        _greatest(spreads),
        _greatest(shares),
        tuple(noises),
        count,
        tuple(dict.fromkeys(notes)),
    )


def _assert_repeatable(runner: Runner, sample: Sample, outputs: Outputs) -> None:
    """Nothing can be compared with a source that draws random numbers.

    Raises:
        SourceDoesNotRun: It gives another answer to the same inputs.
    """
    again = runner.run(sample.feeds)
    for name, array in outputs.items():
        extent = float(np.ptp(np.asarray(array, np.float64))) if _is_real(array) and np.size(array) else 0.0
        if np.shape(array) != np.shape(again[name]) or _distance(array, again[name]) > _SAME_ANSWER * max(
            extent, 1e-30
        ):
            raise SourceDoesNotRun(
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


# ------------------------------------------------------------------ sizes and values


def _answers(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], options: Options, notes: list[str]
) -> Iterator[tuple[Sample, Outputs]]:
    if options.data is not None:
        for sample in sampling.load(options.data, inputs, axes, options.samples):
            yield sample, _run(runner, sample)
        return
    _tell_narrow_integers(inputs, notes)
    usual = usual_sizes(runner, inputs, axes, options.seed)
    plans = _plans(inputs, axes, usual, options.samples)
    refused: list[str] = []
    for index in range(options.samples):
        sizes = plans[index % len(plans)]
        try:
            yield _random(runner, inputs, sizes, index, options, notes)
        except SourceDoesNotRun as error:
            if sizes == usual:
                raise
            changed = [f"{name}={size}" for name, size in sizes.items() if size != usual[name]]
            refused.append(f"{', '.join(changed)} ({error.why})")
            yield _random(runner, inputs, usual, index, options, notes)
    if refused:
        notes.append(
            f"the source itself does not run at {'; '.join(dict.fromkeys(refused))}: nothing was compared there"
        )


def _tell_narrow_integers(inputs: Sequence[TensorSpec], notes: list[str]) -> None:
    narrow = [spec.name for spec in inputs if sampling.is_narrow(spec)]
    if narrow:
        told = ", ".join(f"`{name}`" for name in narrow)
        notes.append(
            f"{told} took 0 and 1 alone, since nothing tells the range: --input {narrow[0]}=...:int64[0..N]"
        )


def usual_sizes(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], seed: int
) -> dict[str, int]:
    """Sizes that the source runs at: different ones for each axis, else equal ones, else those of the ladder.

    Raises:
        SourceDoesNotRun: None of them runs; told with what the source says of the first.
    """
    if not axes:
        return {}
    first: Exception | None = None
    for sizes in _candidates(axes):
        try:
            runner.run(sampling.draw(inputs, sizes, seed, 0).feeds)
        except Exception as error:  # whatever the framework raises means: not at this size
            first = first or error
            continue
        return sizes
    assert first is not None
    raise SourceDoesNotRun(
        f"the source does not run in {runner.name} on random inputs", why=_line(first),
        fix="--data with inputs that it takes, or --input NAME=DIM,...:DTYPE[LO..HI] with their shapes and range",
    ) from first  # fmt: skip


def _candidates(axes: Mapping[str, Axis]) -> Iterator[dict[str, int]]:
    default = {name: axis.sizes()[0] for name, axis in axes.items()}
    free = [name for name, axis in axes.items() if _is_free(axis)]
    yield default | {name: 2 + 3 * number for number, name in enumerate(free)}
    yield default
    for size in _LADDER:
        yield default | dict.fromkeys(free[1:], size)
        yield default | dict.fromkeys(free, size)


def _is_free(axis: Axis) -> bool:
    return axis.high is None and axis.default is None


def _plans(
    inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], usual: dict[str, int], samples: int
) -> list[dict[str, int]]:
    """The usual sizes, then those with one axis changed; the usual ones again at the end, so that two samples agree in shape."""
    changed = [
        usual | {name: size}
        for turn in range(3)
        for name, axis in axes.items()
        if (size := _other_sizes(inputs, axis, usual)[turn]) != usual[name]
    ]
    distinct = [dict(pairs) for pairs in dict.fromkeys(tuple(plan.items()) for plan in changed)]
    return [usual, *distinct[: max(samples - 2, 1)], usual]


def _other_sizes(inputs: Sequence[TensorSpec], axis: Axis, usual: dict[str, int]) -> tuple[int, int, int]:
    """The least, a large (or the greatest) and the next size of an axis."""
    size = usual[axis.name]
    following = size + axis.step if axis.high is None or size + axis.step <= axis.high else axis.low
    if axis.high is not None:
        return axis.low, axis.high, following
    steps = [axis.step * (-(-large // axis.step)) for large in (_LARGE, _LESS_LARGE)]
    large = max(
        size + axis.step,
        steps[0] if _elements(inputs, usual | {axis.name: steps[0]}) <= _LARGE_ELEMENTS else steps[1],
    )
    return axis.low, large, following


def _elements(inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> int:
    return sum(int(np.prod(sampling.static_shape(spec, sizes))) for spec in inputs)


def _random(
    runner: Runner,
    inputs: Sequence[TensorSpec],
    sizes: dict[str, int],
    index: int,
    options: Options,
    notes: list[str],
) -> tuple[Sample, Outputs]:
    """Sample and answers; from 0..1 instead where the source is not finite on values beyond."""
    sample = sampling.draw(inputs, sizes, options.seed, index)
    if sample.kind == "unit":
        return sample, _run(runner, sample)
    try:
        outputs = _run(runner, sample)
        if _finite(outputs):
            return sample, outputs
    except SourceDoesNotRun:  # a source may refuse values beyond 0..1; that it runs at this size is seen next
        pass
    notes.append(
        f"the source is not finite on some values beyond 0..1 ({sample.kind}); such samples were drawn from 0..1"
    )
    sample = sampling.draw(inputs, sizes, options.seed, index, kind="unit")
    return sample, _run(runner, sample)


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
