"""Inputs for parity, drawn at random within the signature; the user's own are read by ``checks.data``.

Integers without a range are drawn from the table that they index, else 0..1; floating-point numbers as ``Kind`` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from mlconv.errors import UnsupportedType
from mlconv.tensors import TensorSpec, limits_of

Array = npt.NDArray[Any]

Kind = Literal["unit", "normal", "negative", "bytes", "rows", "large"]
_KINDS: tuple[Kind, ...] = ("unit", "normal", "unit", "negative", "rows", "bytes", "normal", "large")
"""What a run of eight samples draws. ``unit``: 0..1. ``normal``: standard normal, ``large``: ten times that; a network that
never sees such numbers hides a lost ReLU or clip. ``negative``: -1..0. ``bytes``: 0..255, as images come. ``rows``: normal,
with whole rows of the last axis zero, as padding and masks are."""

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
                why="parity needs inputs that both runtimes take as tensors of numbers",
                fix="choose another --signature, cut the model behind that input, or give --no-parity",
            )
    rng = np.random.default_rng((seed, index))
    drawn = kind if kind is not None and _has_free_reals(specs) else kind_of(specs, index)
    feeds = {spec.name: _values(spec, sizes, rng, drawn) for spec in specs}
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


def _values(spec: TensorSpec, sizes: Mapping[str, int], rng: np.random.Generator, kind: Kind) -> Array:
    shape = static_shape(spec, sizes)
    if _is_float(spec):
        return _reals(spec, shape, rng, kind).astype(numpy_dtype(spec.dtype))
    least, most = limits_of(spec.dtype) or (0, 1)
    low, high = (min(max(int(end), least), most) for end in spec.values or _integer_range(spec))
    drawn = rng.integers(
        low, high, shape, np.uint64 if most > np.iinfo(np.int64).max else np.int64, endpoint=True
    )
    if spec.values is not None and drawn.size > 1:  # the ends of a table are where a shortened one shows
        drawn.flat[0], drawn.flat[-1] = low, high
    return drawn.astype(numpy_dtype(spec.dtype))


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
