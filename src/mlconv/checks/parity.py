"""Whether two models gave the same outputs: figures, a tolerance that scales with the output, a verdict.

Pure numpy: arrays in, values out.

The tolerance is ``|candidate - reference| <= atol + rtol * |reference|``, element by element.

* Floating point: ``rtol = k`` and ``atol = k * scale``, sample by sample. ``scale`` is the distance between the
  greatest and the least value of the output, or four times the mean magnitude where that is less: beside boxes in
  pixels, scores must still agree. Values a thousand times beyond all others (the -1e9 of a mask) do not count, where
  they are the fewer or all the same. An
  output of fewer than 16 elements takes at least the scale that is usual over the samples. A fixed ``atol`` proves nothing: two unrelated
  softmaxes over 1,000 classes differ by less than 1e-3 everywhere. ``k`` follows what the artifact was asked to
  compute in, see ``FACTOR``. Where the source itself moves further when its inputs move by their last bit, rounding
  in another order explains more, and ``atol`` is ``NOISE_FACTOR`` times that movement, up to ``NOISE_CAP`` of the range.
* Quantized integers: in steps of the last bit. At most 2, or as far as the source runtime's own kernels lie
  apart on the same inputs, whichever is more: LiteRT's default and built-in kernels differ by up to 21 steps
  on a small int8 ResNet, so a candidate cannot be asked for less.
* Floating-point outputs of a quantized source: as integers, with the step of the tensor that was dequantized.
  Floats computed from weights that alone are quantized: ``SPREAD_FACTOR`` times as far, beside the
  range of the sample, as the source runtime's own kernels lie apart on any; up to ``SPREAD_CAP`` of it.
* Other integers and booleans (indices, token ids, masks): equal, but for the share of elements on which the
  source runtime's own kernels disagree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Computes = Literal["fp32", "fp16", "bf16", "fp64"]

FACTOR: Mapping[str, float] = {
    # Exporters and runtimes sum in another order: at most 3e-6 of the range was measured on 25 PyTorch and
    # 16 Keras architectures at random weights. Three times that is room for deeper networks.
    "fp64": 1e-5,
    "fp32": 1e-5,
    # 10 fraction bits: 52-60 dB was measured on CNNs and transformers, whose worst element lies at 4 to 8
    # times the root mean square error, thus up to 1e-2 of the range.
    "fp16": 1e-2,
    # 7 fraction bits: 8 times fp16's rounding.
    "bf16": 8e-2,
}
NOISE_FACTOR = 8
"""On a public hourglass network, whose outputs are 1/400 of what its layers add up, ONNX lay 1.2e-6 from TensorFlow where the
last bit of the inputs moved TensorFlow itself by 3e-7 to 1.1e-6: 1 to 4 times. Twice that is the room."""
NOISE_CAP = 1e-3
"""A network with a decision inside (top-k, rounding) jumps at the last bit of an input; that must not excuse everything."""
SPREAD_FACTOR = 2
"""What quantizes its activations as it runs jumps by a code here and there: the farthest jump of 8 samples was exceeded by 1.8
times over 40 draws of a bidirectional LSTM with 8-bit weights."""
SPREAD_CAP = 1e-2
"""Of the range: kernels that quantize activations as they run round at 1/255 of it, in each layer. Beyond that it is no rounding."""
QUANTIZED_LSB = 2
_FEW = 16  # elements; fewer have no scale of their own
_FILLER = 1000.0  # times the next magnitude: a mask's value, no result
_SAME_FILLER = 1e-3  # of its value: what a mask's constant was added to is lost in its rounding
_INFORMATIVE = 10.0  # an output must move this many times further than the tolerance, or it can hide a fault


@dataclass(frozen=True, slots=True)
class Rule:
    """What decides a tolerance.

    Attributes:
        computes: The widest rounding in the artifact.
        atol, rtol: The user's own, which replace the defaults.
        step: Real value of one LSB of a quantized output; None where the output is not quantized.
        spread: Of each sample, how far the source runtime's own kernels lie apart, in the output's own unit; empty: unknown.
        spread_share: The share of elements on which they differ at all.
        noise: Of each sample, how far the source moved when the last bit of its floating-point inputs did; empty: unknown.
    """

    computes: Computes = "fp32"
    atol: float | None = None
    rtol: float | None = None
    step: float | None = None
    spread: tuple[float, ...] = ()
    spread_share: float = 0.0
    noise: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class OutputParity:
    """One output over all samples. Figures are None where they have no meaning or are infinite.

    Attributes:
        informative: Whether the reference moved, somewhere, by more than the tolerance can hide; or a quantized one that is equal
            everywhere by more than its last bit.
        shown: The share of elements that did.
        max_abs, mean_abs: Of ``candidate - reference``.
        max_rel: Of ``|candidate - reference| / |reference|`` where ``|reference| > atol``.
        cosine: Of both outputs as one vector each.
        sqnr_db: ``10 log10(sum(reference**2) / sum(difference**2))``; None where nothing differs.
        max_lsb: ``max_abs`` in steps of the last bit, for integers and for outputs with a known step.
        argmax_agreement: Share of rows (last axis) whose greatest element is at the same place.
        atol, rtol: As they were applied to the worst element, and ``allowed`` what that comes to there.
        range: Greatest minus least value of the reference.
        worst_index: Sample, then the element's index: the element furthest outside the tolerance, or else the one
            that differs most.
        worst: Reference and candidate there.
        spread, noise: See ``Rule``; the greatest of all samples.
        step: Real value of one LSB; None where the output is not quantized.
        fault: In words, what is wrong beyond figures (NaN, shape, dtype, missing); None otherwise.
        fault_kind: ``not-finite``, ``signature``, ``state`` (see ``evidence.in_a_row``) or None.
    """

    name: str
    ok: bool
    informative: bool
    max_abs: float | None = None
    max_rel: float | None = None
    mean_abs: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    max_lsb: float | None = None
    argmax_agreement: float | None = None
    shown: float | None = None
    atol: float | None = None
    rtol: float | None = None
    allowed: float | None = None
    range: float | None = None
    worst_index: tuple[int, ...] | None = None
    worst: tuple[float, float] | None = None
    spread: float | None = None
    noise: float | None = None
    step: float | None = None
    fault: str | None = None
    fault_kind: str | None = None


def compare(
    name: str, reference: Sequence[Array], candidate: Sequence[Array | None], rule: Rule
) -> OutputParity:
    """One output of two models, over the samples that both ran on.

    Args:
        reference: One array a sample; shapes may differ from sample to sample.
        candidate: The same samples; None where the candidate did not give this output.

    Returns:
        The figures, the tolerance and the verdict. Shapes, dtypes, NaN and infinity are judged first, in words.
    """
    informative_shape = any(array.size for array in reference)
    fault = _signature_fault(name, reference, candidate)
    if fault:
        return OutputParity(name, False, informative_shape, fault=fault, fault_kind="signature")
    arrays = [array for array in candidate if array is not None]
    if not informative_shape:
        return OutputParity(name, True, False, atol=0.0, rtol=0.0, max_abs=0.0)
    if reference[0].dtype.kind == "U":
        return _strings(name, reference, arrays)
    tolerances = _tolerances(reference, rule)
    figures = _figures(reference, arrays, tolerances, rule)
    fault = _finite_fault(name, reference, arrays)
    if fault:
        return OutputParity(name, False, True, fault=fault, fault_kind="not-finite", **figures)
    outside = sum(
        _outside(r, c, tolerance) for r, c, tolerance in zip(reference, arrays, tolerances, strict=True)
    )
    allowed = 0.0 if _is_float(reference[0]) or rule.step is not None else rule.spread_share
    ok = outside <= allowed * sum(array.size for array in reference)
    shown = _shown(reference, tolerances)
    if rule.step is not None and figures["max_abs"] == 0:  # the tolerance hid nothing, whatever it is
        last_bit = (1.0 if not _is_float(reference[0]) else rule.step) / _INFORMATIVE
        shown = max(shown, _shown(reference, [(last_bit, 0.0)] * len(reference)))
    return OutputParity(name, ok, shown > 0, shown=shown, **figures)


def _strings(name: str, reference: Sequence[Array], candidate: Sequence[Array]) -> OutputParity:
    """Text is equal or not."""
    differ = sum(int((r != c).sum()) for r, c in zip(reference, candidate, strict=True))
    total = sum(r.size for r in reference)
    fault = f"`{name}` differs in {differ} of {total} strings" if differ else None
    moved = len({r.tobytes() for r in reference}) > 1
    return OutputParity(name, not differ, moved, fault=fault, fault_kind="signature" if fault else None)


def _signature_fault(name: str, reference: Sequence[Array], candidate: Sequence[Array | None]) -> str | None:
    for sample, (r, c) in enumerate(zip(reference, candidate, strict=True)):
        if c is None:
            return f"output `{name}` is missing"
        if r.shape != c.shape:
            return f"`{name}` has the shape {list(c.shape)} instead of {list(r.shape)} in sample {sample}"
        if r.dtype != c.dtype and not (r.dtype.kind == c.dtype.kind == "U") and not _was_widened(c):
            return f"`{name}` is {c.dtype.name} instead of {r.dtype.name}"
    return None


def _finite_fault(name: str, reference: Sequence[Array], candidate: Sequence[Array]) -> str | None:
    """NaN anywhere, or infinity where the other side has something else."""
    for sample, (r, c) in enumerate(zip(reference, candidate, strict=True)):
        if not _is_float(r):
            continue
        if (count := int(np.isnan(r).sum())) > 0:
            return f"the source itself gives NaN in `{name}`: {count} of {r.size} elements of sample {sample}"
        if (count := int(np.isnan(c).sum())) > 0:
            return f"`{name}` is NaN in {count} of {c.size} elements of sample {sample}, where the source has numbers"
        infinite = np.isinf(r) | np.isinf(c)
        if infinite.any() and not np.array_equal(r[infinite], c[infinite]):
            count = int((r[infinite] != c[infinite]).sum())
            return f"`{name}` differs by infinity in {count} of {c.size} elements of sample {sample}"
    return None


def _was_widened(candidate: Array) -> bool:
    """Dtypes that files do not keep are widened on the reference's side, so they cannot be held against it."""
    return candidate.dtype.name in ("bfloat16", "int4", "uint4")


def _tolerances(reference: Sequence[Array], rule: Rule) -> list[tuple[float, float]]:
    """``atol`` and ``rtol`` of each sample."""
    found = []
    pooled = _scale(reference)
    typical = float(
        np.median([4 * np.abs(_results([array])).mean() for array in reference if array.size] or [0.0])
    )
    apart = max(rule.spread, default=0.0)
    ranges = (_range([array]) for array in reference)
    relative = max(
        (far / wide for far, wide in zip(rule.spread, ranges, strict=False) if wide > 0), default=0.0
    )
    for sample, array in enumerate(reference):
        if _is_float(reference[0]):
            factor = FACTOR[rule.computes]
            own = min(pooled, _scale([array]) if array.size >= _FEW else max(_scale([array]), typical))
            noise = rule.noise[sample] if sample < len(rule.noise) else 0.0
            atol, rtol = (
                max(factor * own, min(NOISE_FACTOR * noise, NOISE_CAP * _range([array], pooled))),
                factor,
            )
            if rule.step is not None:
                atol = max(atol, QUANTIZED_LSB * rule.step)
                atol = max(atol, apart)
            elif rule.spread:
                atol = max(atol, min(SPREAD_FACTOR * relative, SPREAD_CAP) * _range([array]))
        else:
            atol, rtol = max(QUANTIZED_LSB * rule.step, apart) if rule.step is not None else 0.0, 0.0
        found.append((atol if rule.atol is None else rule.atol, rtol if rule.rtol is None else rule.rtol))
    return found


def _scale(arrays: Sequence[Array]) -> float:
    """What rounding is proportional to: see the module's text."""
    finite = _results(arrays)
    if not finite.size:
        return 0.0
    return float(min(finite.max() - finite.min(), 4 * np.abs(finite).mean()))


def _results(arrays: Sequence[Array]) -> npt.NDArray[np.float64]:
    """All finite values but fillers, flat."""
    values = np.concatenate([_wide(array).reshape(-1) for array in arrays])
    values = values[np.isfinite(values)]
    if not values.size:
        return np.zeros(1)
    size = np.abs(values)
    while size.size:
        rest = size < size.max() / _FILLER
        if not rest.any() or size[rest].max() == 0 or size[~rest].min() < _FILLER * size[rest].max():
            break
        if not _are_fillers(size[~rest], int(rest.sum())):
            break
        values, size = values[rest], size[rest]
    return np.asarray(values)


def _are_fillers(large: npt.NDArray[np.float64], others: int) -> bool:
    """Whether magnitudes far beyond all others are no results: they are the fewer, or all the same, as a mask's are.

    Otherwise it is the others that are near zero by chance, and the large ones are the output.
    """
    return large.size <= others or bool(large.max() - large.min() <= _SAME_FILLER * large.max())


def _range(reference: Sequence[Array], least: float = 0.0) -> float:
    """Greatest minus least finite value, at least ``least``."""
    finite = [array[np.isfinite(array)] if _is_float(array) else array for array in reference if array.size]
    finite = [array for array in finite if array.size]
    if not finite:
        return least
    return max(least, float(max(_wide(a).max() for a in finite) - min(_wide(a).min() for a in finite)))


def _figures(
    reference: Sequence[Array],
    candidate: Sequence[Array],
    tolerances: Sequence[tuple[float, float]],
    rule: Rule,
) -> dict[str, Any]:
    """The figures over all finite elements."""
    total = count = dot = r_norm = c_norm = noise = agree = rows = max_abs = max_rel = 0.0
    worst: tuple[float, float, int, tuple[int, ...]] | None = None
    for sample, (r_raw, c_raw, (atol, rtol)) in enumerate(zip(reference, candidate, tolerances, strict=True)):
        if not r_raw.size:
            continue
        r, c = _wide(r_raw), _wide(c_raw)
        finite = np.isfinite(r) & np.isfinite(c)
        r, c = np.where(finite, r, 0), np.where(finite, c, 0)
        diff = np.abs(c - r)
        total, count, noise = total + diff.sum(), count + finite.sum(), noise + (diff**2).sum()
        dot, r_norm, c_norm = dot + (r * c).sum(), r_norm + (r * r).sum(), c_norm + (c * c).sum()
        max_abs = max(max_abs, float(diff.max()))
        large = np.abs(r) > max(atol, np.finfo(np.float32).tiny)
        if large.any():
            max_rel = max(max_rel, float((diff[large] / np.abs(r[large])).max()))
        excess = np.maximum(diff - atol - rtol * np.abs(r), 0)
        place = np.unravel_index(int((excess if excess.any() else diff).argmax()), diff.shape)
        key = (float(excess[place]), float(diff[place]), sample, tuple(map(int, place)))
        worst = key if worst is None or key[:2] > worst[:2] else worst
        if r.ndim >= 1 and r.shape[-1] > 1:
            agree += float((r.argmax(-1) == c.argmax(-1)).sum())
            rows += r.size / r.shape[-1]
    step = 1.0 if not _is_float(reference[0]) else rule.step
    figures = {
        "max_abs": max_abs, "max_rel": max_rel, "mean_abs": total / count if count else None,
        "cosine": dot / np.sqrt(r_norm * c_norm) if r_norm and c_norm else None,
        "sqnr_db": 10 * np.log10(r_norm / noise) if r_norm and noise else None,
        "max_lsb": max_abs / step if step else None,
        "argmax_agreement": agree / rows if rows else None,
        "range": _range(reference), "spread": max(rule.spread, default=0.0 if rule.step is not None else None),
        "noise": max(rule.noise, default=None),
    }  # fmt: skip
    told: dict[str, Any] = {name: _finite(value) for name, value in figures.items()}
    return (
        told
        | {"step": step if rule.step is not None else None}
        | _worst(reference, candidate, tolerances, worst)
    )


def _worst(
    reference: Sequence[Array], candidate: Sequence[Array], tolerances: Sequence[tuple[float, float]],
    worst: tuple[float, float, int, tuple[int, ...]] | None,
) -> dict[str, Any]:  # fmt: skip
    """Where the worst element is, what both sides say there, and what was allowed."""
    if worst is None:
        return {}
    sample, place = worst[2:]
    ours, theirs = (float(_wide(side[sample])[place]) for side in (reference, candidate))
    atol, rtol = tolerances[sample]
    allowed = atol + rtol * abs(ours) if rtol else atol
    values = None if not np.isfinite([ours, theirs]).all() else (ours, theirs)
    return {
        "worst_index": (sample, *place),
        "worst": values,
        "atol": atol,
        "rtol": rtol,
        "allowed": _finite(allowed),
    }


def _finite(value: Any) -> float | None:
    """JSON has no infinity: sums of squares beyond 1e308 leave a figure untold."""
    return float(value) if value is not None and np.isfinite(value) else None


def _outside(reference: Array, candidate: Array, tolerance: tuple[float, float]) -> int:
    """How many elements lie outside the tolerance; infinities were found equal before."""
    r, c = _wide(reference), _wide(candidate)
    finite = np.isfinite(r)
    r, c = r[finite], c[finite]
    return int((np.abs(c - r) > tolerance[0] + tolerance[1] * np.abs(r)).sum())


def _shown(reference: Sequence[Array], tolerances: Sequence[tuple[float, float]]) -> float:
    """The share of elements that move, from sample to sample, far enough that a fault would show.

    Where no two samples have one shape, the elements of each are held against each other instead.
    """
    groups: dict[tuple[int, ...], list[int]] = {}
    for sample, array in enumerate(reference):
        if array.size:
            groups.setdefault(array.shape, []).append(sample)
    repeated = [group for group in groups.values() if len(group) > 1]
    shares = []
    alone = [[sample] for samples in groups.values() for sample in samples]
    for group in repeated or alone:
        stack = np.stack([_wide(reference[sample]).reshape(-1) for sample in group])
        stack = np.where(np.isfinite(stack), stack, 0)
        stack = stack if len(group) > 1 else stack.T
        atol, rtol = (max(tolerances[sample][i] for sample in group) for i in (0, 1))
        moved = stack.max(0) - stack.min(0)
        shares.append(float((moved > _INFORMATIVE * (atol + rtol * np.abs(stack).max(0))).mean()))
    return max(shares, default=0.0)


def _is_float(array: Array) -> bool:
    """Also ml_dtypes' bfloat16, whose kind numpy calls void."""
    return bool(np.issubdtype(array.dtype, np.floating)) or array.dtype.name.startswith(
        ("bfloat16", "float8")
    )


def _wide(array: Array) -> npt.NDArray[np.float64]:
    return np.asarray(array, np.float64)
