"""Whether a candidate still has the source's signature: names, their order, dtypes, and the axes that were dynamic."""

from __future__ import annotations

from collections.abc import Sequence

from mlconv.tensors import TensorSpec, show_shape


def faults(ours: Sequence[TensorSpec], theirs: Sequence[TensorSpec], kind: str) -> list[str]:
    """What differs between two lists of inputs, or of outputs, in words; empty where nothing does.

    Args:
        kind: ``input`` or ``output``.
    """
    names, others = [spec.name for spec in ours], [spec.name for spec in theirs]
    found = [f"{kind} `{name}` of the source is missing" for name in names if name not in others]
    found += [f"{kind} `{name}` is not in the source" for name in others if name not in names]
    if not found and names != others:
        found.append(f"the {kind}s stand in another order: {', '.join(others)} instead of {', '.join(names)}")
    by_name = {spec.name: spec for spec in theirs}
    pairs = [(spec, by_name[spec.name]) for spec in ours if spec.name in by_name]
    found += [f"{kind} `{a.name}` is {b.dtype} instead of {a.dtype}" for a, b in pairs if a.dtype != b.dtype]
    found += [
        f"{kind} `{a.name}` is {show_shape(b.shape)}, and the source takes {show_shape(a.shape)}"
        for a, b in pairs
        if _lost_axis(a, b)
    ]
    return found


def _lost_axis(ours: TensorSpec, theirs: TensorSpec) -> bool:
    """Whether an axis that was dynamic, or of one size, is held to another size."""
    if ours.shape is None or theirs.shape is None:
        return False
    if len(ours.shape) != len(theirs.shape):
        return True
    return any(
        isinstance(b, int) and (isinstance(a, str) or (isinstance(a, int) and a != b))
        for a, b in zip(ours.shape, theirs.shape, strict=True)
    )
