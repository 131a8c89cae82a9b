"""Inputs for parity: seeded random ones within the signature, or the user's data.

Integers without a range are drawn from the table that they index, else 0..1; floating-point numbers as ``Kind`` says.
"""

from __future__ import annotations

import importlib.util
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

import numpy as np
import numpy.typing as npt

from mlconv.errors import (
    DataDoesNotFit,
    MissingFile,
    RefNotFound,
    UnsupportedType,
    UserCodeRaised,
    listed,
    nearest,
)
from mlconv.tensors import Axis, TensorSpec, show_shape

Array = npt.NDArray[Any]

Kind = Literal["unit", "normal", "negative", "bytes", "rows", "large"]
_KINDS: tuple[Kind, ...] = ("unit", "normal", "unit", "negative", "rows", "bytes", "normal", "large")
"""What a run of eight samples draws. ``unit``: 0..1. ``normal``: standard normal, ``large``: ten times that; a network that
never sees such numbers hides a lost ReLU or clip. ``negative``: -1..0. ``bytes``: 0..255, as images come. ``rows``: normal,
with whole rows of the last axis zero, as padding and masks are."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One set of feeds.

    Attributes:
        feeds: Every input by name.
        sizes: The size that each dynamic axis took.
        kind: How floating-point numbers without a range were drawn; a sample that is not ``unit`` counts only
            where the source stays finite on it.
        rows: How many of the user's rows it holds; random inputs and files of one sample count as one.
    """

    feeds: dict[str, Array]
    sizes: dict[str, int]
    kind: Kind = "unit"
    rows: int = 1


def draw(
    specs: Sequence[TensorSpec], sizes: Mapping[str, int], seed: int, index: int, *, kind: Kind | None = None
) -> Sample:
    """Sample number ``index`` of a seed, with every dynamic axis at the given size.

    Args:
        kind: How to draw floating-point numbers without a range; default: as the number says.

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
    free = any(_is_float(spec) and spec.values is None for spec in specs)
    drawn: Kind = (kind or _KINDS[index % len(_KINDS)]) if free else "unit"
    return Sample({spec.name: _values(spec, sizes, rng, drawn) for spec in specs}, dict(sizes), drawn)


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
    if spec.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if _is_float(spec):
        return _reals(spec, shape, rng, kind).astype(_dtype(spec.dtype))
    low, high = spec.values or _integer_range(spec)
    drawn = rng.integers(int(low), int(high), shape, endpoint=True)
    if spec.values is not None and drawn.size > 1:  # the ends of a table are where a shortened one shows
        drawn.flat[0], drawn.flat[-1] = int(low), int(high)
    return drawn.astype(_dtype(spec.dtype))


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
    if spec.quantization is not None or spec.dtype in ("uint8", "int8"):
        info = np.iinfo(spec.dtype)
        return float(info.min), float(info.max)
    return 0.0, 1.0


def _is_float(spec: TensorSpec) -> bool:
    return spec.dtype.startswith(("float", "bfloat"))


def _dtype(name: str) -> np.dtype[Any]:
    if name in ("bfloat16", "int4", "uint4"):
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))  # type: ignore[no-any-return]
    return np.dtype(name)


# ------------------------------------------------------------------ the user's data


def load(data: str, specs: Sequence[TensorSpec], axes: Mapping[str, Axis], samples: int) -> list[Sample]:
    """Samples from `--data`: an ``.npz`` file, a folder of them, or ``file.py:callable``.

    Raises:
        MissingFile, DataDoesNotFit, RefNotFound, UserCodeRaised: With the name or shape at fault.
    """
    path = Path(data)
    if path.is_dir():
        rows = _folder(path, specs)
    elif path.suffix == ".npz" or path.exists():
        rows = _stacked(path, specs, axes, samples)
    elif ".py:" in data:
        rows = _generated(data, specs)
    else:
        raise MissingFile(
            f"no data at `{data}`", fix="--data FILE.npz, a folder of .npz files, or FILE.py:CALLABLE"
        )
    taken = list(itertools.islice(rows, samples))
    if not taken:
        raise DataDoesNotFit(f"`{data}` holds no sample", fix="--data with at least one sample")
    return taken


def _read_npz(path: Path) -> dict[str, Array]:
    if not path.exists():
        raise MissingFile(f"no data at `{path}`", fix="--data with the path of an existing .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files if name != "label"}
    except Exception as error:  # zip, npy header or object arrays: each has an exception of its own
        pickled = "allow_pickle" in str(error)
        raise DataDoesNotFit(
            f"`{path}` cannot be read as an .npz file of plain arrays",
            why="it holds Python objects, which are never unpickled"
            if pickled
            else f"{type(error).__name__}: {error}",
            fix="save it by numpy.savez with arrays of numbers",
        ) from error


def _stacked(
    path: Path, specs: Sequence[TensorSpec], axes: Mapping[str, Axis], samples: int
) -> Iterator[Sample]:
    """The first rows of one file: axis 0 counts samples and takes the place of the batch axis."""
    arrays = {name: array[:samples] for name, array in _named(_read_npz(path), specs, path).items()}
    rows = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        told = ", ".join(f"`{name}` {count}" for name, count in rows.items())
        raise DataDoesNotFit(
            f"the arrays of `{path}` hold different numbers of samples: {told}",
            fix="numpy.savez with as many rows in each array",
        )
    total = min(rows.values(), default=0)
    size = _batch(specs)
    wanted = (
        itertools.cycle(axes[size].sizes())
        if isinstance(size, str) and size in axes
        else itertools.repeat(size or 1)
    )
    start = 0
    while start < total:
        count = int(next(wanted))
        if isinstance(size, str):
            count = min(count, total - start)
        elif start + count > total:
            raise DataDoesNotFit(
                f"`{path}` holds {total} samples, and the model takes {count} at once", why=f"{total - start} are left over",
                fix=f"--data with a multiple of {count} rows, or --input with a smaller batch",
            )  # fmt: skip
        feeds = {spec.name: _row(arrays[spec.name][start : start + count], spec, path) for spec in specs}
        yield Sample(feeds, {size: count} if isinstance(size, str) else {}, rows=count)
        start += count


def _batch(specs: Sequence[TensorSpec]) -> int | str | None:
    """The axis that counts samples: the first of the first input that has one."""
    for spec in specs:
        if spec.shape:
            return spec.shape[0]
    return None


def _row(array: Array, spec: TensorSpec, path: Path) -> Array:
    return _checked(array, spec, path) if spec.shape != () else _checked(array.reshape(()), spec, path)


def _folder(path: Path, specs: Sequence[TensorSpec]) -> Iterator[Sample]:
    """One file a sample, each array in the input's own shape."""
    files = sorted(path.glob("*.npz"))
    if not files:
        raise DataDoesNotFit(
            f"the folder `{path}` holds no .npz file",
            fix="numpy.savez one file per sample into it, an array per input",
        )
    for file in files:
        arrays = _named(_read_npz(file), specs, file)
        yield Sample({spec.name: _checked(arrays[spec.name], spec, file) for spec in specs}, {})


def _generated(data: str, specs: Sequence[TensorSpec]) -> Iterator[Sample]:
    file, _, name = data.rpartition(":")
    path = Path(file)
    if not path.is_file():
        raise MissingFile(
            f"no file `{file}`", fix="--data FILE.py:CALLABLE with the path of an existing file"
        )
    sys.path.append(str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location("mlconv_user_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, name):
            raise RefNotFound(
                f"`{file}` has no `{name}`",
                fix=f"--data {file}:NAME with one of {listed([n for n in vars(module) if n[0] != '_'])}",
            )
        for item in getattr(module, name)():
            arrays = _named(
                {key: np.asarray(value) for key, value in item.items() if key != "label"}, specs, path
            )
            yield Sample({entry.name: _checked(arrays[entry.name], entry, path) for entry in specs}, {})
    except (RefNotFound, DataDoesNotFit):
        raise
    except Exception as error:
        raise UserCodeRaised(
            f"`{data}` raised {type(error).__name__}: {error}", fix=f"mend `{name}` in {file}"
        ) from error


def _named(arrays: dict[str, Array], specs: Sequence[TensorSpec], path: Path) -> dict[str, Array]:
    """Exactly the model's inputs; a single unnamed array (numpy's ``arr_0``) stands for a single input."""
    names = [spec.name for spec in specs]
    if list(arrays) == ["arr_0"] and len(names) == 1:
        return {names[0]: arrays["arr_0"]}
    strange = [name for name in arrays if name not in names]
    missing = [name for name in names if name not in arrays]
    if strange or missing:
        parts = [f"`{name}` is no input" for name in strange] + [
            f"input `{name}` is missing" for name in missing
        ]
        close = nearest(strange[0], names) if strange else []
        raise DataDoesNotFit(f"`{path}` does not fit the model: {', '.join(parts)}",
                             why=f"the model takes {listed(names)}",
                             fix=f"name the arrays as the inputs{f', `{close[0]}` for example' if close else ''}")  # fmt: skip
    return arrays


def _checked(array: Array, spec: TensorSpec, path: Path) -> Array:
    """The array in the input's dtype.

    Raises:
        DataDoesNotFit: Its shape contradicts the input's, or its numbers cannot be kept in the input's dtype.
    """
    shape = spec.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(d, int) and d != n for d, n in zip(shape, array.shape, strict=True))
    ):
        raise DataDoesNotFit(f"`{spec.name}` of `{path}` has the shape {list(array.shape)}, and the input is {show_shape(shape)}",
                             fix="one array per input; axis 0 counts the samples and takes the batch axis's place")  # fmt: skip
    dtype = _dtype(spec.dtype)
    if array.dtype == dtype:
        return array
    cast = array.astype(dtype)
    if not np.issubdtype(array.dtype, np.number) or (not _is_float(spec) and not np.array_equal(cast, array)):
        raise DataDoesNotFit(f"`{spec.name}` of `{path}` is {array.dtype.name}, and the input is {spec.dtype}",
                             fix=f"numpy.savez with {spec.name}=array.astype({spec.dtype!r})")  # fmt: skip
    return cast
