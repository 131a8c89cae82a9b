"""From which range an integer input may be drawn: the rows of the tables that it indexes, by interval arithmetic.

A reader of a format turns its graph into ``Step`` values, in the order of execution; what is done with integers on their
way to an index (casts, offsets, clips, choices) is followed as far as intervals go, and what they do not know is left out.
Intervals grow with their inputs, so that the greatest range that keeps every index inside its table is found by halving.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlconv.tensors import limits_of

Key: TypeAlias = Hashable
Interval: TypeAlias = tuple[float, float]
"""Least and greatest value, both included; whole numbers, or infinite."""

Kind = Literal[
    "keep", "hull", "add", "sub", "mul", "div", "mod", "fmod", "min", "max", "neg", "abs", "sign", "where", "less",
    "less_equal", "equal", "not_equal", "truth", "not", "and", "or", "xor", "sum", "constant",
]  # fmt: skip
"""``keep``: the values of the first input. ``hull``: those of all. ``sum``: of up to ``Step.count`` of them. ``truth``:
whether they are not zero. ``div`` rounds down, ``mod`` has the divisor's sign and ``fmod`` the dividend's."""

_HIGHEST_START = 64  # a table whose first rows no input reaches is looked for up to here
_FALSE, _TRUE, _EITHER = (0.0, 0.0), (1.0, 1.0), (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Step:
    """One operator on integers: ``output`` follows from ``inputs``.

    Attributes:
        value: Of ``constant``.
        count: Of ``sum``, how many values are added at most.
    """

    kind: Kind
    output: Key
    inputs: tuple[Key, ...] = ()
    value: Interval = _FALSE
    count: float = 1


@dataclass(frozen=True, slots=True)
class Index:
    """A place where ``values`` choose among ``rows``; ``wraps``: -1 is the last row."""

    values: Key
    rows: int
    wraps: bool = False


def ranges(
    inputs: Mapping[Key, str], steps: Sequence[Step], indices: Iterable[Index]
) -> dict[Key, tuple[int, int]]:
    """Of each input that reaches an index, the values that keep every index inside its table.

    Args:
        inputs: Integer inputs and their dtypes.
        steps: In the order of execution.

    Returns:
        The inputs that an index bounds. One that reaches none, or whose every value is in order, is not among them.
    """
    sources = _sources(inputs, steps)
    reached = [(index, sources.get(index.values, frozenset())) for index in indices if index.rows > 0]
    found: dict[Key, tuple[int, int]] = {}
    for group in _groups([names for _, names in reached if names]):
        ours = [index for index, names in reached if names & group]
        members = {key: dtype for key, dtype in inputs.items() if key in group}
        found |= _group_ranges(members, steps, ours)
    return found


def all_inside(
    inputs: Mapping[Key, tuple[int, int]], steps: Sequence[Step], indices: Iterable[Index]
) -> bool:
    """Whether every index that these inputs reach stays inside its table, as far as intervals can tell."""
    values = _values(inputs, steps)
    return all(_inside(values.get(index.values), index) for index in indices)


def _group_ranges(
    inputs: Mapping[Key, str], steps: Sequence[Step], indices: Sequence[Index]
) -> dict[Key, tuple[int, int]]:
    def holds(current: Mapping[Key, tuple[int, int]]) -> bool:
        return all_inside(current, steps, indices)

    limits = {key: limits_of(dtype) or (0, 1) for key, dtype in inputs.items()}
    start = next((at for at in range(_HIGHEST_START) if holds(dict.fromkeys(inputs, (at, at)))), None)
    if start is None:
        return {}
    current = dict.fromkeys(inputs, (start, start))
    for key in inputs:  # 0 and 1 for all before more for one: a mask that multiplies ids stays a mask
        if holds(current | {key: (start, start + 1)}):
            current[key] = (start, start + 1)
    for key in inputs:
        most = limits[key][1]
        high = _greatest(lambda high, key=key: holds(current | {key: (start, high)}), current[key][1], most)  # type: ignore[misc]
        current[key] = (start, high)
    # what reaches 32 bits was not bounded: a hash, or an index that is clipped on its way
    return {
        key: value
        for key, value in current.items()
        if value[1] < limits[key][1] or limits[key][1] < 2**31 - 1
    }


def _greatest(holds: Callable[[int], bool], low: int, most: int) -> int:
    """The greatest number up to ``most`` that holds, where ``low`` does and none does above one that does not."""
    step, high = 1, low
    while high < most and holds(min(high + step, most)):
        high, step = min(high + step, most), 2 * step
    if high == most:
        return high
    fails = min(high + step, most)
    while fails - high > 1:
        middle = (high + fails) // 2
        if holds(middle):
            high = middle
        else:
            fails = middle
    return high


def _inside(value: Interval | None, index: Index) -> bool:
    return value is None or (value[0] >= (-index.rows if index.wraps else 0) and value[1] < index.rows)


def _sources(inputs: Mapping[Key, str], steps: Sequence[Step]) -> dict[Key, frozenset[Key]]:
    """Of each value the inputs that it follows from."""
    found: dict[Key, frozenset[Key]] = {key: frozenset([key]) for key in inputs}
    for step in steps:
        reached = frozenset[Key]().union(*(found.get(key, frozenset()) for key in step.inputs))
        if reached:
            found[step.output] = reached
    return found


def _groups(sets: Sequence[frozenset[Key]]) -> list[frozenset[Key]]:
    """Sets that share a member, joined."""
    groups: list[frozenset[Key]] = []
    for names in sets:
        joined = [group for group in groups if group & names]
        groups = [group for group in groups if not group & names] + [names.union(*joined)]
    return groups


# ------------------------------------------------------------------ interval arithmetic


def _values(inputs: Mapping[Key, tuple[int, int]], steps: Sequence[Step]) -> dict[Key, Interval]:
    known: dict[Key, Interval] = {key: (float(low), float(high)) for key, (low, high) in inputs.items()}
    for step in steps:
        if step.kind == "constant":
            known[step.output] = step.value
            continue
        given = [known.get(key) for key in step.inputs]
        value = _where(given) if step.kind == "where" else _apply(step, given)
        if value is not None and not any(math.isnan(end) for end in value):
            known[step.output] = value
        else:
            known.pop(step.output, None)  # written once more by something unknown
    return known


def _where(given: Sequence[Interval | None]) -> Interval | None:
    if len(given) != 3:
        return None
    condition, yes, no = given
    if condition == _TRUE:
        return yes
    if condition == _FALSE:
        return no
    return _hull([yes, no]) if yes is not None and no is not None else None


def _apply(step: Step, given: Sequence[Interval | None]) -> Interval | None:
    known = [value for value in given if value is not None]
    if len(known) < len(given) or not known:
        return _clipped(step.kind, known)
    if step.kind == "sum":
        low, high = known[0]
        return min(low, low * step.count), max(high, high * step.count)
    if len(known) == 1 and step.kind in _UNARY:
        return _UNARY[step.kind](known[0])
    if step.kind in ("hull", "min", "max", "add", "mul", "and", "or"):
        value = known[0]
        for other in known[1:]:
            value = _BINARY[step.kind](value, other)
        return value
    if len(known) == 2 and step.kind in _BINARY:
        return _BINARY[step.kind](known[0], known[1])
    return None


def _clipped(kind: Kind, known: Sequence[Interval]) -> Interval | None:
    """Of a value that is not known: what a bound leaves of it."""
    if kind == "min" and known:
        return -math.inf, min(high for _, high in known)
    if kind == "max" and known:
        return max(low for low, _ in known), math.inf
    return None


def _hull(values: Sequence[Interval]) -> Interval:
    return min(low for low, _ in values), max(high for _, high in values)


def _product(a: Interval, b: Interval) -> Interval:
    ends = [0.0 if 0 in (x, y) else x * y for x in a for y in b]
    return min(ends), max(ends)


def _quotient(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0 <= b[1]:
        return -math.inf, math.inf
    ends = [x / y if math.isinf(x) else math.floor(x / y) for x in a for y in b if not math.isinf(y)]
    return (min(ends), max(ends)) if ends else (-math.inf, math.inf)


def _mod(a: Interval, b: Interval) -> Interval:
    if b[0] != b[1] or b[0] <= 0:
        return -math.inf, math.inf
    return a if a[0] >= 0 and a[1] < b[0] else (0.0, b[0] - 1)


def _fmod(a: Interval, b: Interval) -> Interval:
    if b[0] != b[1] or b[0] == 0:
        return -math.inf, math.inf
    most = abs(b[0]) - 1
    return max(min(a[0], 0.0), -most) if a[0] < 0 else 0.0, min(max(a[1], 0.0), most)


def _absolute(a: Interval) -> Interval:
    low, high = sorted((abs(a[0]), abs(a[1])))
    return (0.0 if a[0] <= 0 <= a[1] else low), high


def _less(a: Interval, b: Interval) -> Interval:
    return _TRUE if a[1] < b[0] else _FALSE if a[0] >= b[1] else _EITHER


def _equal(a: Interval, b: Interval) -> Interval:
    if a[0] == a[1] == b[0] == b[1]:
        return _TRUE
    return _FALSE if a[1] < b[0] or b[1] < a[0] else _EITHER


def _negated(a: Interval) -> Interval:
    return 1 - a[1], 1 - a[0]


def _truth(a: Interval) -> Interval:
    return _negated(_equal(a, _FALSE))


_UNARY: dict[str, Callable[[Interval], Interval]] = {
    "keep": lambda a: a, "hull": lambda a: a, "min": lambda a: a, "max": lambda a: a, "neg": lambda a: (-a[1], -a[0]),
    "abs": _absolute, "sign": lambda a: (math.copysign(1, a[0]) if a[0] else 0.0, math.copysign(1, a[1]) if a[1] else 0.0),
    "not": _negated, "truth": _truth,
}  # fmt: skip
_BINARY: dict[str, Callable[[Interval, Interval], Interval]] = {
    "hull": lambda a, b: _hull([a, b]), "add": lambda a, b: (a[0] + b[0], a[1] + b[1]),
    "sub": lambda a, b: (a[0] - b[1], a[1] - b[0]), "mul": _product, "div": _quotient, "mod": _mod, "fmod": _fmod,
    "min": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])), "max": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])),
    "less": _less, "less_equal": lambda a, b: _negated(_less(b, a)), "equal": _equal,
    "not_equal": lambda a, b: _negated(_equal(a, b)), "and": lambda a, b: (min(a[0], b[0]), min(a[1], b[1])),
    "or": lambda a, b: (max(a[0], b[0]), max(a[1], b[1])), "xor": lambda a, b: _negated(_equal(a, b)),
}  # fmt: skip
