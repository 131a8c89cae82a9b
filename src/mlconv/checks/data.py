"""The user's data: an ``.npz`` file, a folder of such files or of pictures, or ``file.py:callable``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, assert_never

import numpy as np

from mlconv.checks import user_file
from mlconv.checks.data_options import assert_fit_together, kind_of
from mlconv.checks.samples import Array, Sample, numpy_dtype
from mlconv.convert.job import Options
from mlconv.errors import BadPreprocess, DataDoesNotFit, MlconvError, counted, listed, nearest
from mlconv.pictures import folder
from mlconv.pictures.feeding import Feeding, Row
from mlconv.pictures.fit import fit
from mlconv.pictures.grammar import parse
from mlconv.pictures.preprocess import Preprocess
from mlconv.pictures.record import Preprocessed
from mlconv.tensors import Axis, TensorSpec, show_shape

LABEL = "label"
"""The array of DATA that holds the truth and feeds no input, unless an input bears that name."""


@dataclass(slots=True)
class Data:
    """The user's data, opened.

    Attributes:
        samples: At most as many rows as were asked for, rounded up to whole batches; read while they are taken.
        feeding: Where pictures are fed, the account of what is done to them.
    """

    samples: Iterator[Sample]
    feeding: Feeding | None = field(default=None)

    def told(self) -> Preprocessed | None:
        """What was done to pictures so far; None where DATA holds arrays."""
        return None if self.feeding is None else self.feeding.told()

    def notes(self) -> list[str]:
        """What a reader of the evidence must know of the samples so far."""
        return [] if self.feeding is None else self.feeding.notes()


def open_data(options: Options, specs: Sequence[TensorSpec], axes: Mapping[str, Axis]) -> Data:
    """The data that ``options.data`` names, for these inputs.

    Raises:
        MissingFile, DataDoesNotFit, RefNotFound, UserCodeRaised, BadPreprocess, UndecodablePicture: With the name or
            shape at fault, here or while the samples are taken.
    """
    assert options.data is not None
    kind = kind_of(options.data)
    preprocess = None if options.preprocess is None else parse(options.preprocess)
    assert_fit_together(options.data, kind, preprocess)
    path = Path(options.data)
    feeding = None
    match kind:
        case "pictures":
            assert preprocess is not None
            feeding = _feeding(path, preprocess, specs, axes)
            samples = _batches(feeding, options.samples)
        case "arrays":
            samples = _stacked(path, specs, axes, options.samples)
        case "folder":
            samples = itertools.islice(_folder(path, specs), options.samples)
        case "function":
            samples = itertools.islice(_generated(options.data, specs), options.samples)
        case _:
            assert_never(kind)
    return Data(_some(samples, options.data), feeding)


def _some(samples: Iterator[Sample], data: str) -> Iterator[Sample]:
    first = next(samples, None)
    if first is None:
        raise DataDoesNotFit(f"`{data}` holds no sample", fix="--data with at least one sample")
    yield first
    yield from samples


# ------------------------------------------------------------------ pictures


def _feeding(
    path: Path, preprocess: Preprocess, specs: Sequence[TensorSpec], axes: Mapping[str, Axis]
) -> Feeding:
    """Raises: DataDoesNotFit: The model does not take one input. BadPreprocess, RefNotFound, ...: See ``fit`` and ``user_file``."""
    if len(specs) != 1:
        raise DataDoesNotFit(
            f"the model takes {len(specs)} inputs, {listed([spec.name for spec in specs])}, and pictures feed one",
            fix="--data FILE.py:CALLABLE that yields {name: array} for all of them, or an .npz file",
        )
    pictures = folder.find(path)
    if preprocess.function is None:
        return Feeding(pictures, preprocess, specs[0], axes, fitted=fit(preprocess, specs[0]))
    text, file = preprocess.function, Path(preprocess.function.rpartition(":")[0])
    function = user_file.load(text, "--preprocess", 1)

    def raised(error: BaseException) -> MlconvError:
        return user_file.raised(f"`{text}`", error, file)

    return Feeding(pictures, preprocess, specs[0], axes, function=function, raised=raised)


def _batches(feeding: Feeding, samples: int) -> Iterator[Sample]:
    """Pictures stacked to the batch size; where that is dynamic, in batches of several sizes, as arrays are.

    Raises:
        DataDoesNotFit: There are fewer pictures than the model takes at once.
        BadPreprocess: Pictures of a batch have different sizes.
    """
    spec = feeding.spec
    batch = feeding.fitted.batch if feeding.fitted else _first_axis(spec)
    total = len(feeding.pictures.files)
    if isinstance(batch, int):
        if total < batch:
            raise DataDoesNotFit(
                f"`{feeding.pictures.root}` holds {counted(total, 'picture')}, and the model takes {batch} at once",
                fix="--data with a folder of more pictures, or --input with a smaller batch where the model allows it",
            )
        taken = min(-(-samples // batch), total // batch) * batch
        feeding.left_over = total - taken if taken < min(samples, total) else 0
    else:
        taken = min(samples, total)
    wanted = _sizes(batch, feeding.axes)
    rows = itertools.islice(feeding.rows(), taken)
    held: list[Row] = []
    count = next(wanted)
    for row in rows:
        if held and held[0].array.shape != row.array.shape:
            if isinstance(batch, int) and batch > 1:
                raise _uneven(held[0], row, feeding)
            yield _sample(held, feeding, batch)
            held, count = [], next(wanted)
        held.append(row)
        if len(held) == count:
            yield _sample(held, feeding, batch)
            held, count = [], next(wanted)
    if held:
        yield _sample(held, feeding, batch)


def _first_axis(spec: TensorSpec) -> int | str | None:
    return (spec.shape[0] or 1) if spec.shape else 1


def _sizes(batch: int | str | None, axes: Mapping[str, Axis]) -> Iterator[int]:
    """How many rows each sample takes."""
    if isinstance(batch, str) and batch in axes:
        return itertools.cycle(axes[batch].sizes())
    return itertools.repeat(batch if isinstance(batch, int) else 1)


def _uneven(one: Row, other: Row, feeding: Feeding) -> BadPreprocess:
    if feeding.fitted is None or one.size is None:
        fix = f"return arrays of one shape from `{feeding.preprocess.text}`"
    else:
        fix = f"--preprocess {feeding.fitted.of_one_size(one.size)}, or another size that the model takes"
    return BadPreprocess(
        f"the pictures of `{feeding.pictures.root}` become arrays of {list(one.array.shape)} and {list(other.array.shape)}, "
        "and the model takes several at once",
        fix=fix,
    )


def _sample(rows: Sequence[Row], feeding: Feeding, batch: int | str | None) -> Sample:
    has_batch = bool(feeding.spec.shape) if feeding.fitted is None else "N" in feeding.fitted.axes
    array = np.stack([row.array for row in rows]) if has_batch else rows[0].array
    labels = [row.label for row in rows if row.label is not None]
    sizes = dict(rows[0].sizes) | ({batch: len(rows)} if isinstance(batch, str) else {})
    return Sample(
        {feeding.spec.name: array},
        sizes,
        rows=len(rows),
        label=np.array(labels, np.int64) if labels else None,
    )


# ------------------------------------------------------------------ arrays


def _read_npz(path: Path, specs: Sequence[TensorSpec]) -> tuple[dict[str, Array], Array | None]:
    """The arrays that feed inputs, and the labels."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zip, npy header or object arrays: each has an exception of its own
        pickled = "allow_pickle" in str(error)
        raise DataDoesNotFit(
            f"`{path}` cannot be read as an .npz file of plain arrays",
            why="it holds Python objects, which are never unpickled"
            if pickled
            else f"{type(error).__name__}: {error}",
            fix="save it by numpy.savez with arrays of numbers, and texts as array.astype(str)",
        ) from error
    return _split(arrays, specs)


def _split(arrays: dict[str, Array], specs: Sequence[TensorSpec]) -> tuple[dict[str, Array], Array | None]:
    is_input = any(spec.name == LABEL for spec in specs)
    feeds = {name: array for name, array in arrays.items() if is_input or name != LABEL}
    return feeds, None if is_input else arrays.get(LABEL)


_ROWS = "one array per input; axis 0 counts the samples and takes the batch axis's place"
_WHOLE = "one array per input, in the input's own shape: a batch of one for one row"


def _stacked(
    path: Path, specs: Sequence[TensorSpec], axes: Mapping[str, Axis], samples: int
) -> Iterator[Sample]:
    """The first rows of one file: axis 0 counts samples and takes the place of the batch axis."""
    given, label = _read_npz(path, specs)
    size = _batch(specs)
    limit = -(-samples // size) * size if isinstance(size, int) and size > 0 else samples
    named = _named(given, specs, path)
    held = {name: len(array) if array.ndim else 0 for name, array in named.items()}
    held |= {} if label is None else {LABEL: len(label) if label.ndim else 0}
    if len(set(held.values())) > 1:
        told = ", ".join(f"`{name}` {count}" for name, count in held.items())
        raise DataDoesNotFit(
            f"the arrays of `{path}` hold different numbers of samples: {told}",
            fix="numpy.savez with as many rows in each array",
        )
    arrays = {name: array[:limit] for name, array in named.items()}
    total = min((*held.values(), limit))
    wanted = _sizes(size or 1, axes)
    start = 0
    while start < total:
        count = next(wanted)
        if isinstance(size, str):
            count = min(count, total - start)
        elif start + count > total:
            whole = start and f"--samples {start}, or "
            raise DataDoesNotFit(
                f"`{path}` holds {counted(total, 'sample')}, and the model takes {count} at once", why=f"{total - start} {'is' if total - start == 1 else 'are'} left over",
                fix=f"{whole or ''}--data with a multiple of {count} rows, or --input with a smaller batch",
            )  # fmt: skip
        feeds = {spec.name: _row(arrays[spec.name][start : start + count], spec, path) for spec in specs}
        truth = None if label is None else label[start : start + count]
        yield Sample(feeds, {size: count} if isinstance(size, str) else {}, rows=count, label=truth)
        start += count


def _batch(specs: Sequence[TensorSpec]) -> int | str | None:
    """The axis that counts samples: the first of the first input that has one."""
    for spec in specs:
        if spec.shape:
            return spec.shape[0]
    return None


def _row(array: Array, spec: TensorSpec, path: Path) -> Array:
    return _checked(array if spec.shape != () else array.reshape(()), spec, path, _ROWS)


def _folder(path: Path, specs: Sequence[TensorSpec]) -> Iterator[Sample]:
    """One file a sample, each array in the input's own shape."""
    for file in sorted(path.glob("*.npz")):
        given, label = _read_npz(file, specs)
        arrays = _named(given, specs, file)
        yield Sample(
            {spec.name: _checked(arrays[spec.name], spec, file, _WHOLE) for spec in specs}, {}, label=label
        )


# ------------------------------------------------------------------ a callable


def _generated(data: str, specs: Sequence[TensorSpec]) -> Iterator[Sample]:
    """What a callable yields: ``{name: array}``, each array in the input's own shape."""
    file = Path(data.rpartition(":")[0])
    function = user_file.load(data, "--data", 0)
    names = [spec.name for spec in specs]
    example = f"yield {{{', '.join(f'{name!r}: array' for name in names)}}}"
    try:
        items = function()
    except (Exception, SystemExit) as error:
        raise user_file.raised(f"`{data}`", error, file) from error
    if isinstance(items, (Mapping, str)) or not hasattr(items, "__iter__"):
        raise DataDoesNotFit(f"`{data}` returned {_kind(items)}, and it has to yield samples",
                             fix=f"{example} for each sample")  # fmt: skip
    for item in _guarded(items, data, file):
        if not isinstance(item, Mapping):
            raise DataDoesNotFit(
                f"`{data}` yielded {_kind(item)}, and a sample is a dictionary of arrays", fix=example
            )
        arrays = {str(key): _array(value, str(key), data, file) for key, value in item.items()}
        given, label = _split(arrays, specs)
        named = _named(given, specs, Path(data))
        yield Sample(
            {spec.name: _checked(named[spec.name], spec, Path(data), _WHOLE) for spec in specs},
            {},
            label=label,
        )


def _guarded(items: Any, data: str, file: Path) -> Iterator[Any]:
    """The same, with what it raises as an error of mlconv."""
    try:
        yield from items
    except (Exception, SystemExit) as error:
        raise user_file.raised(f"`{data}`", error, file) from error


def _array(value: object, name: str, data: str, file: Path) -> Array:
    try:
        return np.asarray(value)
    except Exception as error:  # a tensor on another device or with gradients, ragged lists
        raise user_file.raised(
            f"making an array of `{name}`, which `{data}` yielded,", error, file
        ) from error


def _kind(value: object) -> str:
    return "nothing" if value is None else f"one {type(value).__name__}"


# ------------------------------------------------------------------ arrays and inputs


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


def _checked(array: Array, spec: TensorSpec, path: Path, expected: str) -> Array:
    """The array in the input's dtype.

    Args:
        expected: What the hint says of shapes.

    Raises:
        DataDoesNotFit: Its shape contradicts the input's, or its numbers cannot be kept in the input's dtype.
    """
    shape = spec.shape
    if shape is not None and (
        len(shape) != array.ndim
        or any(isinstance(d, int) and d != n for d, n in zip(shape, array.shape, strict=True))
    ):
        raise DataDoesNotFit(f"`{spec.name}` of `{path}` has the shape {list(array.shape)}, and the input is {show_shape(shape)}",
                             fix=expected)  # fmt: skip
    dtype = numpy_dtype(spec.dtype)
    if spec.dtype == "str" and array.dtype.kind == "O" and all(isinstance(item, str) for item in array.flat):
        return array.astype(str)  # as pandas and lists of texts give them
    if array.dtype == dtype or (spec.dtype == "str" and array.dtype.kind == "U"):
        return array
    if spec.dtype == "str":
        raise DataDoesNotFit(f"`{spec.name}` of `{path}` is {array.dtype.name}, and the input takes texts",
                             fix=f"give texts: {spec.name}=numpy.array([...], dtype=str), and bytes as item.decode()")  # fmt: skip
    cast = array.astype(dtype)
    if not np.issubdtype(array.dtype, np.number) or (
        not spec.dtype.startswith(("float", "bfloat")) and not np.array_equal(cast, array)
    ):
        raise DataDoesNotFit(f"`{spec.name}` of `{path}` is {array.dtype.name}, and the input is {spec.dtype}",
                             fix=f"give {spec.name!r}: array.astype({spec.dtype!r})")  # fmt: skip
    return cast
