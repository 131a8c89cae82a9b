"""At which sizes of its dynamic axes a source is run: the least, the usual and the greatest of each.

A size that was baked in shows only at another size, and two axes that were confused only where they differ: the usual
sizes differ from axis to axis, and then one axis at a time takes its least and a large size.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mlconv.checks.samples import static_shape
from mlconv.tensors import Axis, TensorSpec, with_ties

_LADDER = (8, 16, 32, 64, 128, 224, 256)
"""Sizes that networks with several strides commonly take, tried where the usual small ones do not run."""

_LARGE, _LESS_LARGE = 17, 4
_LARGE_ELEMENTS = 1 << 21
"""A large size is tried where all inputs together stay below this many elements, 8 MB of float32; else a lesser one."""
_MOST_ELEMENTS = 1 << 26
"""The greatest size of a range is run where the inputs stay below this many, 256 MB of float32: what the layers between
make of them is a multiple."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Sizes to run at.

    Attributes:
        changed: The axes that have not their usual size.
    """

    sizes: dict[str, int]
    changed: tuple[str, ...] = ()

    def told(self) -> str:
        return ", ".join(f"{name}={self.sizes[name]}" for name in self.changed)


def candidates(axes: Mapping[str, Axis]) -> Iterator[dict[str, int]]:
    """Usual sizes: different ones for each open axis, else equal ones, else those of the ladder."""
    default = {name: axis.sizes()[0] for name, axis in axes.items()}
    free = [name for name, axis in axes.items() if axis.is_open]
    apart = {name: _multiple(2 + 3 * number, axes[name]) for number, name in enumerate(free)}
    found = [default | apart, default]
    for size in _LADDER if free else ():
        found.append(default | {name: _multiple(size, axes[name]) for name in free[1:]})
        found.append(default | {name: _multiple(size, axes[name]) for name in free})
    yield from (with_ties(sizes, axes) for sizes in found)


def _multiple(size: int, axis: Axis) -> int:
    """The size in steps of the axis: of a step of 8, 2 is the second multiple and 64 the eighth."""
    steps = size if size < axis.step else -(-size // axis.step)
    return max(axis.low, steps * axis.step)


def plans(
    inputs: Sequence[TensorSpec],
    axes: Mapping[str, Axis],
    usual: Mapping[str, int],
    samples: int,
    seed: int = 0,
) -> tuple[list[Plan], list[str]]:
    """What ``samples`` samples run at, and notes of the sizes that are left out.

    One axis at a time where the samples suffice; else all at their least and all at their greatest first. Samples beyond
    those take sizes within the declared ranges, drawn by the seed. The usual sizes stand at the end again, so that two
    samples agree in shape.
    """
    notes: list[str] = []
    moving = {name: axis for name, axis in axes.items() if not axis.choices and axis.tie is None}

    def plan(changed: Mapping[str, int]) -> Plan:
        return Plan(with_ties({**usual, **changed}, axes), tuple(changed))

    least = {name: axis.low for name, axis in moving.items() if axis.low != usual[name]}
    greatest = {name: _greatest(inputs, axis, usual, notes) for name, axis in moving.items()}
    greatest = {name: size for name, size in greatest.items() if size != usual[name]}
    shapes = list(_enumerated(axes, usual))
    ends = [plan({name: size}) for end in (least, greatest) for name, size in end.items()]
    joint = [plan(end) for end in (greatest, least) if len(end) > 1]
    between = [plan({name: size}) for name, size in _following(moving, usual).items()]
    room = max(samples - 2, 1) if samples > 1 else 0
    whole = [*shapes, *ends]
    wanted = _distinct([*whole, *between] if len(whole) <= room else [*shapes, *joint, *ends])
    taken = wanted[:room]
    left = [wish for wish in whole if not _is_covered(wish, taken)]
    if left:
        told = "; ".join(missing.told() for missing in left)
        notes.append(
            f"{samples} {'sample leaves' if samples == 1 else 'samples leave'} sizes out: {told} (--samples {len(whole) + 2} takes all)"
        )
    more = [plan(change) for change in _inner(inputs, moving, usual, room - len(taken), seed)]
    taken = _distinct([*taken, *more])
    return [Plan(dict(usual)), *taken, Plan(dict(usual))], notes


def _inner(
    inputs: Sequence[TensorSpec], axes: Mapping[str, Axis], usual: Mapping[str, int], count: int, seed: int
) -> Iterator[dict[str, int]]:
    """So many sizes within declared ranges, one axis at a time in turn; of a range the ends and the usual size are left out."""
    ranged = [axis for axis in axes.values() if axis.high is not None]
    rng = np.random.default_rng(seed)
    for turn in range(count if ranged else 0):
        axis = ranged[turn % len(ranged)]
        assert axis.high is not None
        start = -(-axis.low // axis.step) * axis.step
        sizes = range(start + axis.step, axis.high, axis.step)
        if not sizes:
            continue
        size = sizes[int(rng.integers(len(sizes)))]
        if size != usual[axis.name] and elements(inputs, {**usual, axis.name: size}) <= _MOST_ELEMENTS:
            yield {axis.name: size}


def _enumerated(axes: Mapping[str, Axis], usual: Mapping[str, int]) -> Iterator[Plan]:
    """The further shapes of an enumeration: its axes move together."""
    together = {name: axis.choices for name, axis in axes.items() if axis.choices}
    for turn in range(1, max((len(choices) for choices in together.values()), default=0)):
        sizes = {name: choices[turn] for name, choices in together.items()}
        changed = tuple(name for name, size in sizes.items() if size != usual[name])
        if changed:
            yield Plan({**usual, **sizes}, changed)


def _is_covered(plan: Plan, taken: Sequence[Plan]) -> bool:
    """Whether every size of a plan is run, alone or with others."""
    return any(all(other.sizes[name] == plan.sizes[name] for name in plan.changed) for other in taken)


def _distinct(wanted: Sequence[Plan]) -> list[Plan]:
    return list({tuple(plan.sizes.items()): plan for plan in reversed(wanted)}.values())[::-1]


def _following(axes: Mapping[str, Axis], usual: Mapping[str, int]) -> dict[str, int]:
    """The size after the usual one, of another parity: of a range that ends there the least."""
    found = {}
    for name, axis in axes.items():
        size = usual[name] + axis.step
        found[name] = size if axis.high is None or size <= axis.high else axis.low
    return {name: size for name, size in found.items() if size != usual[name]}


def _greatest(inputs: Sequence[TensorSpec], axis: Axis, usual: Mapping[str, int], notes: list[str]) -> int:
    """The end of a range, or a large size of an open axis."""
    size = usual[axis.name]
    if axis.high is not None:
        return _within_memory(inputs, axis, axis.high, usual, notes)
    large, less = (axis.step * (-(-size // axis.step)) for size in (_LARGE, _LESS_LARGE))
    fits = elements(inputs, {**usual, axis.name: large}) <= _LARGE_ELEMENTS
    return max(size + axis.step, large if fits else less)


def _within_memory(
    inputs: Sequence[TensorSpec], axis: Axis, high: int, usual: Mapping[str, int], notes: list[str]
) -> int:
    whole = elements(inputs, {**usual, axis.name: high})
    if whole <= _MOST_ELEMENTS or high <= usual[axis.name]:
        return high
    rest = max(elements(inputs, {**usual, axis.name: 1}), 1)
    size = max(usual[axis.name], _MOST_ELEMENTS // rest // axis.step * axis.step)
    notes.append(
        f"{axis.name}={high} was not run: the inputs alone would have {whole:,} elements; the greatest that was is {size}"
    )
    return size


def elements(inputs: Sequence[TensorSpec], sizes: Mapping[str, int]) -> int:
    """Of all inputs together."""
    return sum(int(np.prod([float(size) for size in static_shape(spec, sizes)])) for spec in inputs)
