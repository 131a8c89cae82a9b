"""Holds a candidate's outputs against the answers that the source left on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.checks.parity import Array, Computes, OutputParity, Rule, compare
from mlconv.checks.parity_words import allowance, difference, masked_words
from mlconv.checks.samples import is_mark
from mlconv.pictures.record import Preprocessed
from mlconv.runners.base import InARow, Runner, Stateful
from mlconv.tensors import TensorSpec

_LITTLE = 0.01  # of the elements
_SAME_RANK = 0.9  # of the rows; ties and half precision swap a few


class CandidateDoesNotRun(Exception):
    """The candidate's runtime raised on inputs that the reference takes; ``cause`` is what it raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True, slots=True)
class Answers:
    """What the reference gave.

    Attributes:
        reference: The runner's name.
        inputs, outputs: The reference's signature.
        files: One ``.npz`` a sample, see ``convert.source_job.Referenced``.
        spread, spread_share: Of each sample and output, and of each output; empty where the runtime has one kind of kernels.
        noise: Of each sample and output, how far it moved with the last bit of the inputs.
        data: ``random``, or the user's DATA.
        seed: Of random data.
        samples: How many samples the files hold.
        preprocess: What was done to pictures, where DATA holds them.
        kernels: Which of its kernels the reference ran, where it has several sets.
        states: Those of ``outputs`` that carry variables of its own source from run to run.
    """

    reference: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[Path, ...]
    spread: tuple[tuple[float, ...], ...] = ()
    spread_share: tuple[float, ...] = ()
    noise: tuple[tuple[float, ...], ...] = ()
    data: str = "random"
    seed: int = 0
    samples: int = 0
    notes: tuple[str, ...] = ()
    preprocess: Preprocessed | None = None
    kernels: str | None = None
    states: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parity:
    """The verdict over all outputs and samples.

    Attributes:
        ok: Every output is within its tolerance. True with ``informative`` False means that nothing was shown.
        computes: What the tolerance follows, a key of ``checks.parity.FACTOR``.
        notes: What a reader must know: samples left out, outputs that tell nothing.
        preprocess, kernels: As ``Answers``.
        steps: How many runs in a row were compared, each from the variables that the last one left; None: there are none.
    """

    ok: bool
    informative: bool
    reference: str
    candidate: str
    data: str
    seed: int
    samples: int
    computes: Computes
    outputs: tuple[OutputParity, ...]
    notes: tuple[str, ...] = ()
    names: dict[str, str] = field(default_factory=dict)
    preprocess: Preprocessed | None = None
    kernels: str | None = None
    steps: int | None = None


def judge(
    runner: Runner, answers: Answers, pairs: Sequence[tuple[str, str]], feeds: Sequence[tuple[str, str]],
    *, computes: Computes, atol: float | None, rtol: float | None,
) -> Parity:  # fmt: skip
    """Run the candidate on the reference's samples and compare.

    Args:
        pairs: Reference output and candidate output, each by name.
        feeds: Reference input and candidate input, each by name.

    Raises:
        CandidateDoesNotRun: Its runtime raises on inputs that the reference takes.
    """
    names = [spec.name for spec in answers.outputs]
    reference: dict[str, list[Array]] = {name: [] for name in names}
    candidate: dict[str, list[Array | None]] = {name: [] for name in names}
    dtypes = {spec.name: spec.dtype for spec in runner.inputs}
    for path in answers.files:
        with np.load(path, allow_pickle=False) as sample:
            given = {spec.name: sample[f"in{i}"] for i, spec in enumerate(answers.inputs)}
            expected = {name: sample[f"out{i}"] for i, name in enumerate(names)}
        try:
            outputs = runner.run({theirs: _as(given[ours], dtypes[theirs]) for ours, theirs in feeds})
        except Exception as error:
            raise CandidateDoesNotRun(error) from error
        for ours, theirs in pairs:
            reference[ours].append(expected[ours])
            candidate[ours].append(outputs.get(theirs))
    rows = []
    theirs_by_name = {spec.name: spec for spec in runner.outputs}
    for i, spec in enumerate(answers.outputs):
        if spec.name not in dict(pairs):
            continue
        step = _step(spec, theirs_by_name.get(dict(pairs)[spec.name]))
        spread, noise = (tuple(_at(sample, i) for sample in told) for told in (answers.spread, answers.noise))
        rule = Rule(computes, atol, rtol, step, spread, _at(answers.spread_share, i), noise)
        rows.append(compare(spec.name, reference[spec.name], candidate[spec.name], rule))
    made = summed(rows, answers, runner.name, computes, dict(pairs))
    masked = _masked_row(answers, pairs, reference, candidate)
    return replace(made, notes=(*made.notes, masked)) if masked else made


def in_a_row(
    parity: Parity, runner: Stateful, answers: Answers, steps: Sequence[Path], pairs: Sequence[tuple[str, str]],
    feeds: Sequence[tuple[str, str]], *, computes: Computes, atol: float | None, rtol: float | None,
) -> Parity:  # fmt: skip
    """The verdict with runs in a row, held to the same tolerance.

    Args:
        steps: The reference's runs in a row, as ``answers.files``.

    Raises:
        CandidateDoesNotRun: As ``judge``.
    """
    told = replace(
        answers, files=tuple(steps), spread=_at_worst(answers.spread, len(steps)), noise=_at_worst(answers.noise, len(steps))
    )  # fmt: skip
    found = judge(InARow(runner), told, pairs, feeds, computes=computes, atol=atol, rtol=rtol)
    rows = tuple(
        _carried_wrongly(row, len(steps), computes) if alone.ok and not row.ok else alone
        for alone, row in zip(parity.outputs, found.outputs, strict=True)
    )
    return replace(parity, ok=all(row.ok for row in rows), outputs=rows, steps=len(steps))


def _at_worst(told: Sequence[tuple[float, ...]], count: int) -> tuple[tuple[float, ...], ...]:
    """Figures of samples as those of each run in a row, of which none were taken."""
    return (tuple(map(max, zip(*told, strict=True))),) * count if told and all(told) else ()


def _carried_wrongly(row: OutputParity, count: int, computes: Computes) -> OutputParity:
    place = f"in run {row.worst_index[0] + 1} of {count}" if row.worst_index else f"in one of {count} runs"
    beyond = row.fault or difference(asdict(row))
    allowed = "" if row.fault else f" ({allowance(asdict(row), computes)})"
    told = f"state is carried on wrongly from run to run: `{row.name}` is right from fresh state, and not {place} in a row: {beyond}{allowed}"
    return replace(row, fault=told, fault_kind="state")


def _masked_row(
    answers: Answers,
    pairs: Sequence[tuple[str, str]],
    reference: Mapping[str, Sequence[Array]],
    candidate: Mapping[str, Sequence[Array | None]],
) -> str | None:
    """Where the candidate alone gives NaN: the mask that leaves a row of that sample nothing to attend to."""
    marks = [(i, spec) for i, spec in enumerate(answers.inputs) if is_mark(spec)]
    for number, path in enumerate(answers.files if marks else ()):
        bad = [_nan_alone(reference[ours][number], candidate[ours][number]) for ours, _ in pairs]
        with np.load(path, allow_pickle=False) as sample:
            for found in (rows for rows in bad if rows is not None):
                for i, spec in marks:
                    value = _uniform(sample[f"in{i}"], found)
                    if value is not None:
                        return masked_words(spec, value, number)
    return None


def _nan_alone(reference: Array, candidate: Array | None) -> Array | None:
    """Along axis 0, where the candidate has NaN and the reference has numbers; None where nothing is so."""
    if candidate is None or candidate.dtype.kind != "f" or reference.shape != candidate.shape:
        return None
    bad: Array = np.isnan(candidate.astype(np.float64))
    if not bad.any() or np.isnan(reference.astype(np.float64)).any():
        return None
    return np.any(bad.reshape(len(bad) if bad.ndim else 1, -1), axis=1)  # type: ignore[no-any-return]


def _uniform(mark: Array, rows: Array) -> int | None:
    """The value that a row of a mask holds as a whole, of those rows where the batch axes agree."""
    if mark.ndim == 0 or mark.shape[-1] < 2:
        return None
    if mark.ndim > 1 and len(mark) == len(rows):
        mark = mark[rows]
    lines = mark.reshape(-1, mark.shape[-1])
    same = lines[(lines == lines[:, :1]).all(axis=1)]
    return int(same[0, 0]) if len(same) else None


def summed(
    rows: Sequence[OutputParity],
    answers: Answers,
    candidate: str,
    computes: Computes,
    names: Mapping[str, str],
) -> Parity:
    """Rows of outputs as one verdict."""
    notes = [*answers.notes, *_silence(rows), *_doubts(rows)]
    return Parity(
        all(row.ok for row in rows), any(row.informative for row in rows), answers.reference, candidate, answers.data,
        answers.seed, answers.samples, computes, tuple(rows), tuple(notes),
        {ours: theirs for ours, theirs in names.items() if ours != theirs}, answers.preprocess, answers.kernels,
    )  # fmt: skip


def _silence(rows: Sequence[OutputParity]) -> list[str]:
    """Outputs whose agreement shows nothing, or little."""
    silent = [row.name for row in rows if not row.informative and row.ok]
    if silent and len(silent) == len(rows):
        told = "no output moved further over the samples than its tolerance hides, so agreement shows nothing"
        return [f"{told}: give inputs that the model reacts to (--data)"]
    notes = (
        [
            f"{_told(silent)} moved no further over the samples than its tolerance hides: nothing was shown for it"
        ]
        if silent
        else []
    )
    little = [
        row for row in rows if row.informative and row.ok and row.shown is not None and row.shown < _LITTLE
    ]
    return notes + [
        f"only {100 * (row.shown or 0):.2g} % of `{row.name}` moved over the samples: little was shown for it"
        for row in little
    ]


def _doubts(rows: Sequence[OutputParity]) -> list[str]:
    """Rows that agree by number and not by rank."""
    return [f"`{row.name}` agrees within its tolerance, and yet its greatest element is elsewhere in {100 * (1 - row.argmax_agreement):.2g} % of the rows"
            for row in rows if row.ok and row.argmax_agreement is not None and row.argmax_agreement < _SAME_RANK]  # fmt: skip


def without(parity: Parity, fault: OutputParity) -> Parity:
    """The verdict with a further output that failed."""
    return replace(parity, ok=False, outputs=(*parity.outputs, fault))


def _told(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _step(ours: TensorSpec, theirs: TensorSpec | None) -> float | None:
    """What one LSB means: known quantization of either side; without it integers are indices or flags, and equal.

    An integer's step is one; a floating-point output that was dequantized has its tensor's.
    """
    known = [
        spec.quantization for spec in (ours, theirs) if spec is not None and spec.quantization is not None
    ]
    if not known:
        return None
    return known[0].scale if _is_float(ours) else 1.0


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("float", "bfloat"))


def _at(values: Sequence[float], index: int) -> float:
    return values[index] if index < len(values) else 0.0


def _as(array: Array, dtype: str) -> Any:
    """The feed in the candidate's dtype: an artifact may take half precision where the source takes float32."""
    if array.dtype.name == dtype or dtype == "str":
        return array
    if dtype in ("bfloat16", "int4", "uint4"):
        import ml_dtypes

        return array.astype(getattr(ml_dtypes, dtype))
    return array.astype(dtype)
