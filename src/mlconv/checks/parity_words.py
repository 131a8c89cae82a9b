"""Parity in words: the summary's phrase, a line for each output, and the verdict.

They take the JSON form of ``checks.evidence.Parity``, which crosses from the worker and stands in records.
"""

from __future__ import annotations

from typing import Any

from mlconv.errors import NotFinite, ParityFailed, SignaturesDiffer, VerdictError
from mlconv.tensors import TensorSpec, show_shape, typed

_MASKED = "where all is masked nothing is left to attend to"


def parity_words(parity: dict[str, Any]) -> str:
    """``ok: max |d| 2.9e-06 of 12.4 over 8 random samples (fp32 allows 1.2e-04)``, of the output nearest its limit."""
    rows = [row for row in parity["outputs"] if row["max_abs"] is not None]
    samples = f"{parity['samples']} {'random ' if parity['data'] == 'random' else ''}sample{'s' if parity['samples'] != 1 else ''}"
    if not rows:
        return f"{'ok' if parity['ok'] else 'FAILED'} over {samples}"
    worst = max(rows, key=_nearness)
    verdict = "ok" if parity["ok"] else "FAILED"
    if parity["ok"] and not parity["informative"]:
        verdict = "shows nothing"
    return f"{verdict}: {difference(worst)} over {samples} ({allowance(worst, parity['computes'])})"


def difference(row: dict[str, Any]) -> str:
    if row["max_lsb"] is not None:
        return f"max {row['max_lsb']:.3g} LSB"
    ours, theirs = row["worst"] or (0.0, row["max_abs"])
    return f"max |d| {abs(theirs - ours):.2g} of {row['range'] or 0:.3g}"


def allowance(row: dict[str, Any], computes: str) -> str:
    if row["step"] is not None:
        return f"allowed are {row['atol'] / row['step']:.3g}"
    if row["max_lsb"] is not None:
        return "equality is asked"
    return f"{computes} allows {row['allowed'] or 0:.1e}"


def _nearness(row: dict[str, Any]) -> float:
    """How near an output came to what is allowed, or how far beyond."""
    ours, theirs = row["worst"] or (0.0, row["max_abs"])
    return float(abs(theirs - ours) / (row["allowed"] or 1e-30))


def output_line(row: dict[str, Any], computes: str) -> str:
    """One output: its verdict and the figures that decided it."""
    mark = "FAILED" if not row["ok"] else "ok    " if row["informative"] else "silent"
    if row["fault"]:
        return f"{mark} {row['name']}  {row['fault']}"
    figures = [difference(row), f"({allowance(row, computes)})"]
    figures += [f"cosine {row['cosine']:.6g}"] if row["cosine"] is not None else []
    figures += [f"{row['sqnr_db']:.1f} dB"] if row["sqnr_db"] is not None else []
    figures += [f"top-1 {100 * row['argmax_agreement']:.1f} %"] if row["argmax_agreement"] is not None else []
    return f"{mark} {row['name']}  {'  '.join(figures)}"


def masked_words(spec: TensorSpec, value: int, sample: int) -> str:
    """The note on a mask that is probably why the artifact alone gives NaN, with what keeps such rows out."""
    other = f"{show_shape(spec.shape)}:{spec.dtype}[{1 - value}..{1 - value}]"
    return (
        f"in sample {sample} a row of `{spec.name}` is {value} as a whole: {_MASKED}, and the runtime gives NaN where the source "
        f"gives numbers that mean nothing: {typed(spec.name, other)} compares without masks, --data FILE with masks of yours"
    )


def parity_verdict(parity: dict[str, Any]) -> VerdictError | None:
    """What is wrong with the worst output, and how many others fail too."""
    failed = [row for row in parity["outputs"] if not row["ok"]]
    if not failed:
        return None
    more = f"; so {'does' if len(failed) == 2 else 'do'} {len(failed) - 1} further" if len(failed) > 1 else ""
    kinds = {"not-finite": NotFinite, "signature": SignaturesDiffer, "state": ParityFailed}
    worst = max(
        failed, key=lambda row: (row["fault"] is not None, 0.0 if row["max_abs"] is None else _nearness(row))
    )
    masked = next((note for note in parity.get("notes", ()) if _MASKED in note), None)
    if masked and worst["fault_kind"] == "not-finite":
        why, _, fix = masked.rpartition(": ")
        return NotFinite(worst["fault"] + more, why=why, fix=fix)
    if worst["fault"]:
        return kinds[worst["fault_kind"]](
            worst["fault"] + more, fix="--write-anyway keeps the file for a look"
        )
    cosine = "" if worst["cosine"] is None else f", cosine {worst['cosine']:.4g}"
    what = f"`{worst['name']}` differs from the source: {difference(worst)}{cosine} ({allowance(worst, parity['computes'])}){more}"
    place = ", ".join(map(str, worst["worst_index"] or ()))
    why = (
        f"worst at [{place}]: {worst['worst'][0]:.6g} in the source, {worst['worst'][1]:.6g} here"
        if worst["worst"]
        else None
    )
    return ParityFailed(
        what,
        why=why,
        fix="--write-anyway keeps the file for a look; --atol and --rtol, where you know why it may differ",
    )
