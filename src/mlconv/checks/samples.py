"""Inputs for parity, drawn at random within the signature; the user's own are read by ``checks.data``.

Integers without a range are drawn from the table that they index, else 0..1; floating-point numbers as ``Kind`` says.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from mlconv.errors import UnsupportedType
from mlconv.tensors import TensorSpec, limits_of

Array = npt.NDArray[Any]

Kind = Literal["unit", "normal", "negative", "bytes", "rows", "round", "large"]
_KINDS: tuple[Kind, ...] = ("unit", "normal", "unit", "negative", "rows", "bytes", "round", "large")
"""What a run of eight samples draws. ``unit``: 0..1. ``normal``: standard normal, ``large``: ten times that; a network that
never sees such numbers hides a lost ReLU or clip. ``negative``: -1..0. ``bytes``: 0..255, as images come. ``rows``: normal,
with whole rows of the last axis zero, as padding and masks are. ``round``: whole numbers, halves and tenths of both signs,
zeros among them, and equal neighbours: where a comparison, a floor or a sort turns, random numbers never lie."""
_ROUND = (1.0, 0.5, 0.1)
_WALKED = 1 << 31
"""Ranges of this many numbers are no table, and drawn at random."""

Marks = Literal["drawn", "first", "ones", "zeros"]
"""What flags and integers of 0 and 1 are. ``drawn``: at random, and integers begin each row of several with 1: most are masks
of padding, and a position that sees nothing but padding, as the first of a causal network would, is NaN in one framework
and a mean in the next. ``first``: flags begin so too. ``ones``: all 1. ``zeros``: all 0, which indexes any table."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of feeds.

    Attributes:
        feeds: Every input by name.
        sizes: The size that each dynamic axis took.
        kind: How floating-point numbers without a range were drawn; a sample that is not ``unit`` counts only
            where the source stays finite on it.
        rows: How many of the user's rows it holds; random inputs and files of one sample count as one.
        label: The truth, where the user's data tell it: of pictures the index of the class, one a row.
    """

    feeds: dict[str, Array]
    sizes: dict[str, int]
    kind: Kind = "unit"
    rows: int = 1
    label: Array | None = None


def draw(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int, index: int, *, kind: Kind | None = None,
    marks: Marks = "drawn",
) -> Sample:  # fmt: skip
    """Sample number ``index`` of a seed, with every dynamic axis at the given size.

    Args:
        kind: How to draw floating-point numbers without a range; default: as the number says.
        marks: What flags and integers without a range are, see ``Marks``.

    Raises:
        UnsupportedType: An input is of strings or complex numbers.
    """
    for spec in specs:
        if spec.dtype == "str" or spec.dtype.startswith("complex"):
            raise UnsupportedType(
                f"input `{spec.name}` takes {'strings' if spec.dtype == 'str' else spec.dtype}, which cannot be drawn at random",
                why="what is drawn are numbers of a shape, a type and a range",
                fix="--data FILE.npz or FILE.py:CALLABLE with texts of yours, or --no-parity"
                if spec.dtype == "str"
                else "choose another --signature, cut the model behind that input, or give --no-parity",
            )
    rng = np.random.default_rng((seed, index))
    drawn = kind if kind is not None and _has_free_reals(specs) else kind_of(specs, index)
    feeds = {spec.name: _values(spec, sizes, rng, drawn, (seed, index)) for spec in specs}
    feeds |= {spec.name: _marked(feeds[spec.name], marks) for spec in specs if is_mark(spec)}
    return Sample(feeds, dict(sizes), drawn)


def kind_of(specs: Sequence[TensorSpec], index: int) -> Kind:
    """How sample number ``index`` draws floating-point numbers; ``unit`` where all have a range, or there are none."""
    return _KINDS[index % len(_KINDS)] if _has_free_reals(specs) else "unit"


def _has_free_reals(specs: Sequence[TensorSpec]) -> bool:
    return any(_is_float(spec) and spec.values is None for spec in specs)


def is_mark(spec: TensorSpec) -> bool:
    """Whether an input takes 0 and 1 alone, by its range or for want of one: a mask, as far as anyone knows."""
    if spec.dtype == "bool":
        return spec.values is None
    return is_narrow(spec) or (spec.dtype.startswith(("int", "uint")) and spec.values == (0, 1))


def _marked(array: Array, marks: Marks) -> Array:
    match marks:
        case "drawn" if array.dtype == bool or array.ndim < 2 or array.shape[-1] < 2:
            return array
        case "drawn" | "first":
            kept = np.atleast_1d(array.copy())
            kept[..., :1] = 1
            return kept.reshape(array.shape)
        case "ones":
            return np.ones_like(array)
        case "zeros":
            return np.zeros_like(array)
        case _:
            assert_never(marks)


def is_narrow(spec: TensorSpec) -> bool:
    """Whether an integer input is drawn from 0 and 1 for want of a range."""
    return (
        spec.dtype.startswith(("int", "uint")) and spec.values is None and _integer_range(spec) == (0.0, 1.0)
    )


def static_shape(spec: TensorSpec, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape with every dynamic axis at a size; an axis without a name takes 1, an unknown rank is a scalar."""
    return tuple(dim if isinstance(dim, int) else sizes.get(dim, 1) if dim else 1 for dim in spec.shape or ())


def _values(
    spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator, kind: Kind, number: tuple[int, int]
) -> Array:
    shape = static_shape(spec, sizes)
    if _is_float(spec):
        return _reals(spec, shape, rng, kind).astype(numpy_dtype(spec.dtype))
    least, most = limits_of(spec.dtype) or (0, 1)
    low, high = (min(max(int(end), least), most) for end in spec.values or _integer_range(spec))
    if spec.values is not None and 2 < high - low + 1 < _WALKED:
        drawn = _walked(spec.name, low, high - low + 1, shape, rng, number)
    else:
        kind_of_integer = np.uint64 if most > np.iinfo(np.int64).max else np.int64
        drawn = rng.integers(low, high, shape, kind_of_integer, endpoint=True)
    if spec.values is not None and drawn.size > 1:  # the ends of a table are where a shortened one shows
        drawn.flat[0], drawn.flat[-1] = low, high
    return drawn.astype(numpy_dtype(spec.dtype))


def _walked(
    name: str, low: int, rows: int, shape: tuple[int, ...], rng: np.random.Generator, number: tuple[int, int]
) -> Array:
    """Rows of a table without replacement, from sample to sample too: of one shape they cover it as soon as they can.

    The walk goes in steps that share no divisor with the table, near the golden section, so that each sample lies all
    over it; within a sample the order is random. One row in each sample makes way for each end of the table.
    """
    seed, index = number
    size = int(np.prod(shape, dtype=np.int64))
    step = next((step for step in range(max(int(rows * 0.618), 1), rows) if math.gcd(step, rows) == 1), 1)
    start = int(np.random.default_rng((seed, zlib.crc32(name.encode()))).integers(rows))
    places = (np.arange(size, dtype=np.int64) + index * max(size - 2, 1)) % rows
    ids = low + (start + places * step) % rows
    if size > 2:
        ids[1:-1] = rng.permutation(ids[1:-1])
    return np.asarray(ids.reshape(shape))


def _reals(spec: TensorSpec, shape: tuple[int, ...], rng: np.random.Generator, kind: Kind) -> Array:
    if spec.values is not None:
        low, high = spec.values
        return np.asarray(rng.random(shape) * (high - low) + low)
    match kind:
        case "unit":
            return np.asarray(rng.random(shape))
        case "negative":
            return np.asarray(-rng.random(shape))
        case "bytes":
            return np.asarray(255 * rng.random(shape))
        case "normal" | "large":
            return np.asarray(rng.standard_normal(shape) * (10 if kind == "large" else 1))
        case "round":
            grid = np.asarray(_ROUND)[rng.integers(0, len(_ROUND), shape)]
            numbers = np.asarray(rng.integers(-20, 21, shape) * grid)
            before = np.roll(numbers, 1, -1) if numbers.ndim else numbers
            return np.where(rng.random(shape) < 0.25, before, numbers)
        case "rows":
            return np.asarray(
                rng.standard_normal(shape) * rng.integers(0, 2, (*shape[:-1], 1) if shape else shape)
            )
        case _:
            assert_never(kind)


def _integer_range(spec: TensorSpec) -> tuple[float, float]:
    """All of a quantized tensor's range, or of a byte's (images); else 0..1, which indexes any table."""
    limits = limits_of(spec.dtype)
    if limits is not None and (spec.quantization is not None or spec.dtype in ("uint8", "int8")):
        return float(limits[0]), float(limits[1])
    return 0.0, 1.0


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("float", "bfloat"))


def numpy_dtype(name: str) -> np.dtype[Any]:
    if name in ("bfloat16", "int4", "uint4"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))  # type: ignore[no-any-return]
    return np.dtype(name)
