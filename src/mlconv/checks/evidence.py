"""Holds a candidate's outputs against the answers that the source left on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.checks.parity import Array, Computes, OutputParity, Rule, compare
from mlconv.runners.base import Runner
from mlconv.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Answers:
    """What the reference gave.

    Attributes:
        reference: The runner's name.
        inputs, outputs: The reference's signature.
        files: One ``.npz`` a sample, see ``convert.source_job.Referenced``.
        spread, spread_share: Of each output; empty where the runtime has one kind of kernels.
        noise: Of each output, how far it moved with the last bit of the inputs; empty where none is floating-point.
        data: ``random``, or the user's DATA.
        seed: Of random data.
    """

    reference: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[Path, ...]
    spread: tuple[float, ...] = ()
    spread_share: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    data: str = "random"
    seed: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parity:
    """The verdict over all outputs and samples.

    Attributes:
        ok: Every output is within its tolerance. True with ``informative`` False means that nothing was shown.
        computes: What the tolerance follows, a key of ``checks.parity.FACTOR``.
        notes: What a reader must know: samples left out, outputs that tell nothing.
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


def judge(
    runner: Runner, answers: Answers, pairs: Sequence[tuple[str, str]], feeds: Sequence[tuple[str, str]],
    *, computes: Computes, atol: float | None, rtol: float | None,
) -> Parity:  # fmt: skip
    """Run the candidate on the reference's samples and compare.

    Args:
        pairs: Reference output and candidate output, each by name.
        feeds: Reference input and candidate input, each by name.

    Raises:
        Exception: Whatever the candidate's runtime raises.
    """
    names = [spec.name for spec in answers.outputs]
    reference: dict[str, list[Array]] = {name: [] for name in names}
    candidate: dict[str, list[Array | None]] = {name: [] for name in names}
    dtypes = {spec.name: spec.dtype for spec in runner.inputs}
    for path in answers.files:
        with np.load(path, allow_pickle=False) as sample:
            given = {spec.name: sample[f"in{i}"] for i, spec in enumerate(answers.inputs)}
            expected = {name: sample[f"out{i}"] for i, name in enumerate(names)}
        outputs = runner.run({theirs: _as(given[ours], dtypes[theirs]) for ours, theirs in feeds})
        for ours, theirs in pairs:
            reference[ours].append(expected[ours])
            candidate[ours].append(outputs.get(theirs))
    rows = []
    for i, spec in enumerate(answers.outputs):
        if spec.name not in dict(pairs):
            continue
        rule = Rule(computes, atol, rtol, spec.quantization.scale if _is_float(spec) and spec.quantization else _lsb(spec),
                    _at(answers.spread, i), _at(answers.spread_share, i), _at(answers.noise, i))  # fmt: skip
        rows.append(compare(spec.name, reference[spec.name], candidate[spec.name], rule))
    return summed(rows, answers, runner.name, computes, dict(pairs))


def summed(
    rows: Sequence[OutputParity],
    answers: Answers,
    candidate: str,
    computes: Computes,
    names: Mapping[str, str],
) -> Parity:
    """Rows of outputs as one verdict."""
    silent = [row.name for row in rows if not row.informative and row.ok]
    notes = list(answers.notes)
    if silent and len(silent) < len(rows):
        notes.append(
            f"{_told(silent)} moved no further over the samples than its tolerance hides: nothing was shown for it"
        )
    elif silent:
        notes.append(
            "no output moved further over the samples than its tolerance hides, so agreement shows nothing: "
            "give inputs that the model reacts to (--data)"
        )
    return Parity(
        all(row.ok for row in rows), any(row.informative for row in rows), answers.reference, candidate, answers.data,
        answers.seed, len(answers.files), computes, tuple(rows), tuple(notes),
        {ours: theirs for ours, theirs in names.items() if ours != theirs},
    )  # fmt: skip


def without(parity: Parity, fault: OutputParity) -> Parity:
    """The verdict with a further output that failed."""
    return replace(parity, ok=False, outputs=(*parity.outputs, fault))


def _told(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _lsb(spec: TensorSpec) -> float | None:
    """One, where integers stand for real numbers; None where they are indices or flags."""
    return 1.0 if spec.quantization is not None or spec.dtype in ("int8", "uint8", "int16") else None


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
