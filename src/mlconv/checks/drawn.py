"""The source's answers on inputs that are drawn for it, at several sizes of its dynamic axes (see ``checks.sizes``)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from mlconv.checks import samples as sampling
from mlconv.checks import sizes as planning
from mlconv.checks.samples import Kind, Marks, Sample
from mlconv.checks.sizes import Plan
from mlconv.convert.job import Options
from mlconv.errors import BadInputOption, SourceDoesNotRun, UnsupportedType
from mlconv.messages.anywhere import from_run
from mlconv.runners.base import Outputs, Runner
from mlconv.tensors import (
    Axis,
    InputOption,
    TensorSpec,
    axes_of,
    same_name,
    show_range,
    show_shape,
    typed,
    with_ties,
)

_NO_MEMORY = re.compile(
    r"(?i)MemoryError|bad_?alloc|out of memory|not enough memory|can'?t allocate|\bOOM\b|RESOURCE_EXHAUSTED|Unable to allocate"
)


def answers(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], options: Options, notes: list[str]
) -> Iterator[tuple[Sample, Outputs]]:
    """As many samples as the options ask for, with what the source gives on them.

    Raises:
        SourceDoesNotRun: The source runs at none of the usual sizes.
        BadInputOption: It does not run at a size that `--input` allows.
    """
    _tell_narrow_integers(inputs, notes)
    usual = usual_sizes(runner, inputs, axes, options.seed)
    plans, left = planning.plans(inputs, axes, usual, options.samples, options.seed)
    notes += left
    refused: list[str] = []
    for index in range(options.samples):
        plan = plans[index % len(plans)]
        try:
            yield _answer(runner, inputs, plan.sizes, index, options.seed, notes)
        except SourceDoesNotRun as error:
            if not plan.changed:
                raise
            refused.append(_refusal(runner, inputs, axes, usual, plan, options, error))
            nearest = _nearest(runner, inputs, axes, usual, plan, options.seed)
            refused[-1] += (
                f", compared at {nearest.told()} instead" if nearest.changed else ", not compared there"
            )
            yield _answer(runner, inputs, nearest.sizes, index, options.seed, notes)
    if refused:
        notes.append(f"the source itself does not run at {'; '.join(dict.fromkeys(refused))}")


def first_answer(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], seed: int
) -> tuple[Sample, Outputs]:
    """One sample with floating-point numbers of 0..1, and what the runner gives on it.

    Raises:
        Exception: What the runner raises on such inputs.
    """
    try:
        return _answer(runner, inputs, usual_sizes(runner, inputs, axes, seed), 0, seed, [])
    except SourceDoesNotRun as error:
        raise (error.__cause__ or error) from error


def usual_sizes(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], seed: int
) -> dict[str, int]:
    """Sizes that the source runs at: different ones for each open axis, else equal ones, else those of the ladder.

    Raises:
        SourceDoesNotRun: None of them runs; told with what the source says of the first.
    """
    if not axes:
        return {}
    first: tuple[Exception, dict[str, int]] | None = None
    for marks in _marks_of(inputs, ("drawn", "ones", "zeros")):
        for sizes in planning.candidates(axes):
            try:
                runner.run(sampling.draw(inputs, sizes, seed, 0, marks=marks).feeds)
            except UnsupportedType:  # no size makes strings of numbers
                raise
            except Exception as error:  # whatever the framework raises means: not at this size
                first = first or (error, sizes)
                continue
            return sizes
    assert first is not None
    failure, tried = first
    known = from_run(failure, runner.name, inputs)
    if known:
        raise known from failure
    told = ", ".join(f"{name}={size}" for name, size in tried.items())
    raise SourceDoesNotRun(
        f"the source does not run in {runner.name} on random inputs (at {told})", why=line_of(failure),
        fix="--data with inputs that it takes, or --input NAME=DIM,...:DTYPE[LO..HI] with their shapes and range",
    ) from failure  # fmt: skip


def run(runner: Runner, sample: Sample) -> Outputs:
    """One run.

    Raises:
        SourceDoesNotRun: The runner raises.
    """
    try:
        return runner.run(sample.feeds)
    except Exception as error:
        arrays = [(name, np.asarray(array)) for name, array in sample.feeds.items()]
        specs = [TensorSpec(name, np.shape(array), array.dtype.name) for name, array in arrays]
        known = from_run(error, runner.name, specs)
        if known:
            raise known from error
        shapes = ", ".join(f"`{name}` {list(np.shape(array))}" for name, array in sample.feeds.items())
        raise SourceDoesNotRun(
            f"the source does not run in {runner.name} on {shapes or 'no inputs'}", why=line_of(error),
            fix="--data with inputs that it takes, or --input NAME=DIM,...:DTYPE[LO..HI] with their shapes and range",
        ) from error  # fmt: skip


def line_of(error: Exception) -> str:
    """The class and the first line of what a framework raised."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:240] if lines else 'without a message'}"


# ------------------------------------------------------------------ values


def _tell_narrow_integers(inputs: Sequence[TensorSpec], notes: list[str]) -> None:
    narrow = [spec for spec in inputs if sampling.is_narrow(spec)]
    if narrow:
        told = ", ".join(f"`{spec.name}`" for spec in narrow)
        notes.append(
            f"{told} took 0 and 1 alone, since nothing tells a wider range: {typed(narrow[0].name, f'...:{narrow[0].dtype}[0..N]')}"
        )


def _answer(
    runner: Runner, inputs: Sequence[TensorSpec], sizes: Mapping[str, int], index: int, seed: int, notes: list[str]
) -> tuple[Sample, Outputs]:  # fmt: skip
    """A sample and what the source gives on it; tamer values where it is not finite on those that were drawn.

    Where it is finite on none, the sample that asks least of it is told with what it gives.
    """
    wished: Kind = sampling.kind_of(inputs, index) if index else "unit"
    failure: SourceDoesNotRun | None = None
    plain: tuple[Sample, Outputs] | None = None
    for marks in _marks_of(inputs, ("drawn", "first", "ones", "zeros")):
        for kind in dict.fromkeys((wished, "unit")):
            sample = sampling.draw(inputs, sizes, seed, index, kind=kind, marks=marks)
            try:
                outputs = run(runner, sample)
            except SourceDoesNotRun as error:  # other values may do; that it runs at this size is seen then
                failure = failure or error
                continue
            if _finite(outputs):
                notes += _told_of(inputs, marks, wished, kind)
                return sample, outputs
            if kind == "unit":
                plain = plain or (sample, outputs)
    if plain is None:
        assert failure is not None
        raise failure
    return plain


def _told_of(inputs: Sequence[TensorSpec], marks: Marks, wished: Kind, kind: Kind) -> list[str]:
    told = []
    if kind != wished:
        told.append(
            f"the source is not finite on some values beyond 0..1 ({wished}); such samples were drawn from 0..1"
        )
    if marks != "drawn":
        names = ", ".join(f"`{spec.name}`" for spec in inputs if sampling.is_mark(spec))
        what = {"first": "the first of each row was 1", "ones": "all were 1", "zeros": "all were 0"}[marks]
        told.append(f"the source does not take every choice of 0 and 1 in {names}: in some samples {what}")
    return told


def _marks_of(inputs: Sequence[TensorSpec], marks: Sequence[Marks]) -> Sequence[Marks]:
    return marks if any(sampling.is_mark(spec) for spec in inputs) else marks[:1]


def _finite(outputs: Outputs) -> bool:
    arrays: list[np.ndarray[Any, Any]] = [np.asarray(array) for array in outputs.values()]
    return all(bool(np.isfinite(array).all()) for array in arrays if np.issubdtype(array.dtype, np.floating))


# ------------------------------------------------------------------ sizes that the source refuses


def _refusal(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], usual: Mapping[str, int], plan: Plan,
    options: Options, error: SourceDoesNotRun,
) -> str:  # fmt: skip
    """What to note of sizes at which the source does not run.

    Raises:
        BadInputOption: `--input` says that it runs there.
    """
    if _NO_MEMORY.search(error.why or ""):
        return f"{plan.told()} (it needs more memory than there is)"
    declared = axes_of(tuple(inputs), options.input, ranged_only=True)
    shapes = [name for name in plan.changed if axes[name].choices]
    if shapes:
        raise _refused_shape(inputs, axes, plan, error)
    for name in plan.changed:
        if name not in declared or declared[name].high is None:
            continue
        alone = with_ties({**usual, name: plan.sizes[name]}, axes)
        if len(plan.changed) > 1 and _runs(runner, inputs, alone, options.seed):
            continue
        raise _refused_range(runner, inputs, axes, usual, (name, plan.sizes[name]), options, error)
    return f"{plan.told()} ({error.why})"


def _refused_shape(
    inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], plan: Plan, error: SourceDoesNotRun
) -> BadInputOption:
    shapes = {spec.name: sampling.static_shape(spec, plan.sizes) for spec in inputs}
    moving = [
        spec for spec in inputs if any(dim in axes and axes[str(dim)].choices for dim in spec.shape or ())
    ]
    told = ", ".join(f"`{spec.name}` {','.join(map(str, shapes[spec.name]))}" for spec in moving)
    return BadInputOption(
        f"the source does not run at a shape that `--input` enumerates: {told}", why=error.why,
        fix=f"leave {typed(moving[0].name, ','.join(map(str, shapes[moving[0].name])))} out",
    )  # fmt: skip


def _refused_range(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], usual: Mapping[str, int],
    at: tuple[str, int], options: Options, error: SourceDoesNotRun,
) -> BadInputOption:  # fmt: skip
    """With the range that holds: the ends nearest the refused ones at which the source runs."""
    name, size = at
    axis = axes[name]
    low, high = axis.low, axis.high if axis.high is not None else usual[name]
    if size > usual[name]:
        high = _last_that_runs(runner, inputs, axes, usual, (name, high), options.seed)
    else:
        low = _last_that_runs(runner, inputs, axes, usual, (name, low), options.seed)
    default = axis.default if axis.default is not None and low <= axis.default <= high else None
    narrower = {**axes, name: Axis(name, low, high, axis.step, default)}
    return BadInputOption(
        f"the source does not run at {name}={size}, which `--input` allows: {axis.show()}", why=error.why,
        fix=" ".join(
            typed(spec.name, _shown(spec, narrower, options.input)) for spec in inputs if name in (spec.shape or ())
        ),
    )  # fmt: skip


def _nearest(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], usual: Mapping[str, int], plan: Plan, seed: int
) -> Plan:  # fmt: skip
    """The size nearest one that is refused, where an axis was changed alone; else the usual ones."""
    if len(plan.changed) != 1 or axes[plan.changed[0]].choices:
        return Plan(dict(usual))
    name = plan.changed[0]
    size = _last_that_runs(runner, inputs, axes, usual, (name, plan.sizes[name]), seed)
    return Plan(with_ties({**usual, name: size}, axes), (name,) if size != usual[name] else ())


def _last_that_runs(
    runner: Runner, inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], usual: Mapping[str, int],
    end: tuple[str, int], seed: int,
) -> int:  # fmt: skip
    """The size of an axis nearest ``end`` at which the source runs, between its usual one and that, by halving."""
    name, size = end
    step = axes[name].step
    runs, fails = usual[name] // step, size // step
    while abs(fails - runs) > 1:
        middle = (runs + fails) // 2
        if _runs(runner, inputs, with_ties({**usual, name: middle * step}, axes), seed):
            runs = middle
        else:
            fails = middle
    return runs * step


def _runs(runner: Runner, inputs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int) -> bool:
    try:
        runner.run(sampling.draw(inputs, sizes, seed, 0, kind="unit").feeds)
    except Exception:  # whatever the framework raises means: not at this size
        return False
    return True


def _shown(spec: TensorSpec, axes: Mapping[str, Axis], options: Sequence[InputOption]) -> str:
    """The input as `--input` takes it, with what the user said of its dtype and values."""
    own = next((option for option in options if option.name and same_name(option.name, spec.name)), None)
    own = own or next((option for option in options if option.shape == spec.shape), None)
    shape = show_shape(spec.shape or (), axes)
    if own is None or not (own.dtype or own.values):
        return shape
    values = f"[{show_range(own.values)}]" if own.values else ""
    return f"{shape}:{own.dtype or ''}{values}"
