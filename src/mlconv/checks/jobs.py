"""What `check` and `compare` do in a worker: open a model in its runtime, run it, judge it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlconv import progress
from mlconv.checks import samples as sampling
from mlconv.checks.computes import computes_in
from mlconv.checks.data import open_data
from mlconv.checks.drawn import first_answer
from mlconv.checks.evidence import Answers, CandidateDoesNotRun, judge, summed, without
from mlconv.checks.parity import OutputParity
from mlconv.checks.ranges import axes_for, with_ranges
from mlconv.checks.reference import refer, with_example_ranges
from mlconv.convert.job import Options
from mlconv.formats import ModelFile
from mlconv.formats.refs import for_shell
from mlconv.jsonable import from_json, to_json
from mlconv.result import CheckLine
from mlconv.runners.base import Feeds, Runner
from mlconv.tensors import TensorSpec, show_shape, with_input_options


@dataclass(frozen=True, slots=True)
class Side:
    """A model and how to open it: ``open`` is the ``package.module:function`` of its runner."""

    model: ModelFile
    options: Options
    open: str


def open_side(side: Side) -> Runner:
    """Load the model in its own runtime.

    Raises:
        MlconvError, Exception: As the runtime raises.
    """
    module, _, function = side.open.partition(":")
    progress.report(f"loading {side.model.ref}")
    runner: Runner = getattr(importlib.import_module(module), function)(side.model, side.options)
    return runner


def signature(runner: Runner, side: Side) -> tuple[TensorSpec, ...]:
    """The runner's inputs with the user's shapes, and the ranges that the file itself tells."""
    return with_ranges(with_input_options(runner.inputs, side.options.input), side.model, runner)


# ------------------------------------------------------------------ check


def check(payload: Mapping[str, Any]) -> Any:
    """Payload: ``Side``. Result: check lines for loading and one run."""
    side = from_json(Side, payload)
    return to_json(check_opened(side, lambda: open_side(side)))


def check_opened(side: Side, opener: Callable[[], Runner], example: Feeds | None = None) -> list[CheckLine]:
    """What ``check`` does, by an opener; ``example`` is run in the place of random inputs."""
    lines = [*_structure(side.model), *_in_runtime(side)]
    try:
        runner = opener()
    except Exception as error:
        from mlconv.errors import MlconvError

        if isinstance(error, MlconvError) and error.exit != 4:
            raise  # usage, an unsafe file, a missing package: no verdict on the model
        told = error.what if isinstance(error, MlconvError) else _line(error)
        why = f" ({error.why})" if isinstance(error, MlconvError) and error.why else ""
        failed = CheckLine("load", False, told + why, _hint_of_load(error, side.model.ref))
        return [*lines, failed, CheckLine("run", None, "it does not load")]
    lines.append(CheckLine("load", True, runner.name))
    lines.append(_run_once(runner, side, example))
    return lines


def _hint_of_load(error: Exception, ref: str) -> str | None:
    """What to type where a model does not load; None where nothing better is known than to read the lines."""
    from mlconv.errors import MlconvError
    from mlconv.messages.anywhere import from_job

    if isinstance(error, MlconvError) and not error.fix.startswith("mlconv check "):
        return error.fix
    causes = f"{type(error).__name__}: {error}\n{getattr(error, 'why', None) or ''}"
    known = from_job(causes, ref)
    return known.fix if known else None


def _hint_of_run(error: Exception, runner: Runner, specs: Sequence[TensorSpec]) -> str | None:
    from mlconv.errors import MlconvError
    from mlconv.messages.anywhere import from_run

    if isinstance(error, MlconvError):
        return error.fix
    known = from_run(error, runner.name, specs)
    return known.fix if known else None


def _structure(model: ModelFile) -> Sequence[CheckLine]:
    """What can be said of the file itself; for most formats its reader has said it before."""
    if model.format != "onnx":
        return ()
    from mlconv.checks.structure import check_structure

    assert model.path is not None
    return [
        CheckLine(finding.name, finding.ok, finding.detail)
        for finding in check_structure(model.path).findings
    ]


def _in_runtime(side: Side) -> list[CheckLine]:
    """The file against the table of ``--runtime``."""
    if side.options.runtime is None or side.model.path is None:
        return []
    from mlconv.runtimes.fit import findings

    return [CheckLine(*finding) for finding in findings(side.model.path, side.options.runtime)]


def _run_once(runner: Runner, side: Side, example: Feeds | None = None) -> CheckLine:
    import numpy as np

    specs = signature(runner, side)
    axes = axes_for(runner, specs, side.options)
    strings = [spec.name for spec in specs if spec.dtype == "str"]
    if side.options.data is not None:
        sample = next(open_data(replace(side.options, samples=1), specs, axes).samples)
    elif example:
        sample = sampling.Sample(dict(example), {})
    elif strings:
        return CheckLine("run", None, f"`{strings[0]}` takes strings; give --data")
    else:
        sample = None
    try:
        if sample is None:
            found = first_answer(runner, specs, axes, side.options.seed)[1]
        else:
            found = runner.run(sample.feeds)
        outputs = {name: np.asarray(array) for name, array in found.items()}
    except Exception as error:
        return CheckLine("run", False, _line(error), _hint_of_run(error, runner, specs))
    real = {name: array for name, array in outputs.items() if np.issubdtype(array.dtype, np.floating)}
    for name, array in real.items():
        if (bad := int(np.isnan(array).sum())) > 0:
            return CheckLine("run", False, f"`{name}` holds NaN in {bad} of {array.size} elements")
    told = ", ".join(f"`{name}` {list(array.shape)}" for name, array in list(outputs.items())[:4])
    told += " and more" if len(outputs) > 4 else ""
    endless = [name for name, array in real.items() if np.isinf(array).any()]
    return CheckLine(
        "run", True, (told or "no outputs") + (f"; infinity in `{endless[0]}`" if endless else "")
    )


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:400] if lines else 'without a message'}"


# ------------------------------------------------------------------ compare


def answers(payload: Mapping[str, Any]) -> Any:
    """Payload: ``{"side": Side, "folder": path}``. Result: ``Answers`` of the reference."""
    side = from_json(Side, payload["side"])
    return to_json(answers_of(open_side(side), side, Path(payload["folder"])))


def answers_of(runner: Runner, side: Side, folder: Path, example: Feeds | None = None) -> Answers:
    """The answers of a runner that is open; ``example`` is the first sample."""
    inputs = with_example_ranges(signature(runner, side), example or {})
    progress.report(f"running {side.model.ref} in {runner.name}")
    axes = axes_for(runner, inputs, side.options)
    told = refer(runner, inputs, axes, side.options, folder, example)
    return Answers(
        runner.name, inputs, runner.outputs, told.files, told.spread, told.spread_share, told.noise,
        side.options.data or "random", side.options.seed, told.samples, told.notes, told.preprocess, told.kernels,
        tuple(_states(runner)),
    )  # fmt: skip


def compare(payload: Mapping[str, Any]) -> Any:
    """Payload: ``{"side": Side, "answers": Answers, "pairs": [[ours, theirs]]}``. Result: ``Parity``."""
    side, told = from_json(Side, payload["side"]), from_json(Answers, payload["answers"])
    return compare_opened(open_side(side), side, told, payload["pairs"])


def compare_opened(runner: Runner, side: Side, told: Answers, wanted: Sequence[Sequence[str]]) -> Any:
    """What ``compare`` does, with a runner that is open; ``wanted`` are pairs of output names."""
    computes = computes_in(side.model)
    fault = _input_fault(told.inputs, runner.inputs)
    if fault is not None:
        return to_json(summed([_fault("inputs", fault)], told, runner.name, computes, {}))
    feeds, notes = _inputs(told.inputs, runner.inputs)
    ours, theirs = list(told.outputs), list(runner.outputs)
    if not wanted:
        ours, theirs, left = _kept_apart(ours, told.states, theirs, _states(runner))
        notes += left
    pairs, faults = _outputs(ours, theirs, [(a, b) for a, b in wanted])
    try:
        parity = judge(
            runner, told, pairs, feeds, computes=computes, atol=side.options.atol, rtol=side.options.rtol
        )
    except CandidateDoesNotRun as error:
        fault = f"the candidate does not run on the inputs of the reference: {_line(error.cause)}"
        return to_json(summed([_fault("inputs", fault)], told, runner.name, computes, {}))
    if computes != "fp32":
        notes.append(f"the candidate computes in {computes} and is held to that tolerance")
    if [b for _, b in pairs] != [spec.name for spec in theirs][: len(pairs)] and not wanted:
        notes.append("the outputs stand in another order")
    for row in faults:
        parity = without(parity, row)
    return {**to_json(parity), "notes": [*parity.notes, *notes]}


def _states(runner: Runner) -> frozenset[str]:
    """Outputs that carry variables of the source from run to run, as a file that mlconv made tells."""
    return frozenset(getattr(runner, "states", {}).values())


def _kept_apart(
    ours: Sequence[TensorSpec], our_states: Collection[str], theirs: Sequence[TensorSpec], their_states: Collection[str]
) -> tuple[list[TensorSpec], list[TensorSpec], list[str]]:  # fmt: skip
    """Outputs of both sides without those that carry variables on and that the other side keeps to itself, and a note of them."""
    from mlconv.errors import listed

    names = [{spec.name for spec in side} for side in (ours, theirs)]
    our_kept = [spec for spec in ours if spec.name not in our_states or spec.name in names[1]]
    their_kept = [spec for spec in theirs if spec.name not in their_states or spec.name in names[0]]
    left = [spec.name for spec in (*ours, *theirs) if spec not in our_kept and spec not in their_kept]
    told = f"not compared, since they carry variables from run to run, which the other side keeps to itself: {listed(left)}"
    return our_kept, their_kept, [told] if left else []


def _fault(name: str, text: str) -> OutputParity:
    return OutputParity(name, False, True, fault=text, fault_kind="signature")


def _input_fault(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> str | None:
    """Why the candidate cannot take the reference's inputs, by their number, shapes and names."""
    from mlconv.errors import listed

    if len(ours) != len(theirs):
        told = (listed([spec.name for spec in side]) or "none" for side in (ours, theirs))
        return f"the reference takes {len(ours)} inputs, {next(told)}, and the candidate {len(theirs)}, {next(told)}"
    for a, b in zip(ours, _in_order(ours, theirs), strict=True):
        if not _fits(a, b):
            return f"input `{a.name}` is {show_shape(a.shape)}:{a.dtype}, and the candidate's `{b.name}` {show_shape(b.shape)}:{b.dtype}"
    return None


def _in_order(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]) -> list[TensorSpec]:
    """The candidate's inputs in the reference's order: by name where all names agree, else as they stand."""
    by_name = {spec.name: spec for spec in theirs}
    same = {spec.name for spec in ours} == by_name.keys()
    return [by_name[spec.name] for spec in ours] if same else list(theirs)


def _inputs(
    ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec]
) -> tuple[list[tuple[str, str]], list[str]]:
    """Pairs of input names, and a note where they were matched in order."""
    pairs = [(a.name, b.name) for a, b in zip(ours, _in_order(ours, theirs), strict=True)]
    told = ", ".join(f"`{a}` as `{b}`" for a, b in pairs if a != b)
    return pairs, [f"input names differ and were matched in order: {told}"] if told else []


def _fits(a: TensorSpec, b: TensorSpec) -> bool:
    if a.dtype != b.dtype:
        return False
    if a.shape is None or b.shape is None:
        return True
    same = all(
        x == y for x, y in zip(a.shape, b.shape, strict=False) if isinstance(x, int) and isinstance(y, int)
    )
    return len(a.shape) == len(b.shape) and same


def _outputs(
    ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec], asked: Sequence[tuple[str, str]]
) -> tuple[list[tuple[str, str]], list[OutputParity]]:
    """Pairs to compare and what is wrong with the names alone.

    An output whose name differs is compared with the one at its place, so that the figures are there; the
    name itself is a fault, since whoever loads the model asks for the outputs by name.

    Raises:
        UnknownOutput: `--outputs` names one that is not there.
    """
    from mlconv.errors import UnknownOutput, listed, nearest

    our_names, their_names = [spec.name for spec in ours], [spec.name for spec in theirs]
    for a, b in asked:
        for name, names in ((a, our_names), (b, their_names)):
            if name not in names:
                close = nearest(name, names) or names[:1]
                raise UnknownOutput(
                    f"there is no output `{name}`; there are {listed(names)}",
                    fix=f"--outputs with {listed(close)}",
                )
    if asked:
        return list(asked), []
    pairs = [(name, name) for name in our_names if name in their_names]
    left_ours = [name for name in our_names if name not in their_names]
    left_theirs = [name for name in their_names if name not in our_names]
    faults = []
    for a, b in zip(left_ours, left_theirs, strict=False):
        pairs.append((a, b))
        faults.append(OutputParity(a, False, True, fault=f"the output is called `{b}` instead of `{a}`; --outputs {for_shell(f'{a}={b}')} pairs them",
                                   fault_kind="signature"))  # fmt: skip
    lost = [f"output `{name}` is missing" for name in left_ours[len(left_theirs) :]]
    lost += [f"output `{name}` is not in the reference" for name in left_theirs[len(left_ours) :]]
    faults += [
        OutputParity(text.split("`")[1], False, True, fault=text, fault_kind="signature") for text in lost
    ]
    return pairs, faults
