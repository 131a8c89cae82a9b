"""Pictures one after the other as rows of an input, and the account of what was done to them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlconv.checks.samples import numpy_dtype
from mlconv.errors import BadPreprocess, MlconvError, listed
from mlconv.pictures.apply import Applied, apply
from mlconv.pictures.decode import REMARKS, Decoded, decode
from mlconv.pictures.fit import Fitted, integer_range
from mlconv.pictures.folder import Pictures
from mlconv.pictures.preprocess import Preprocess, Size
from mlconv.pictures.record import Preprocessed
from mlconv.tensors import Axis, TensorSpec, show_shape

_FEW_STEPS = 16
"""Of the 256 integers of a quantized input. Pictures of one colour alone use so few; a range that is 255 times too narrow does too."""


@dataclass(frozen=True, slots=True)
class Row:
    """One picture as the input takes it, without the batch axis.

    Attributes:
        sizes: What the dynamic axes take, but for the batch.
        size: Height and width; None where a callable did it all.
        label: The index of its class.
    """

    array: npt.NDArray[Any]
    sizes: dict[str, int]
    size: Size | None = None
    label: int | None = None


@dataclass(slots=True)
class Feeding:
    """Rows on demand; the account grows with them.

    Attributes:
        fitted: The stages, fitted to the input; or ``function`` does everything.
        raised: Makes the error of what ``function`` raised.
    """

    pictures: Pictures
    preprocess: Preprocess
    spec: TensorSpec
    axes: Mapping[str, Axis]
    fitted: Fitted | None = None
    function: Callable[..., Any] | None = None
    raised: Callable[[BaseException], MlconvError] | None = None
    count: int = 0
    left_over: int = 0
    _remarks: Counter[str] = field(default_factory=Counter, init=False)
    _cut: list[float] = field(default_factory=list, init=False)
    _range: tuple[float, float] | None = field(default=None, init=False)

    def rows(self) -> Iterator[Row]:
        """Each picture in the order of ``pictures``.

        Raises:
            BadPreprocess, UndecodablePicture, UserCodeRaised: With the picture's name.
        """
        for number, file in enumerate(self.pictures.files):
            decoded = decode(file, upright=self.preprocess.upright)
            self._remarks.update(decoded.remarks)
            row = self._applied(decoded, file) if self.fitted else self._called(decoded, file)
            self.count += 1
            yield replace(row, label=self.pictures.labels[number] if self.pictures.labels else None)

    def _applied(self, decoded: Decoded, file: Path) -> Row:
        assert self.fitted is not None
        done: Applied = apply(self.fitted, decoded.image, str(file), self.axes)
        self._remarks.update(["padded"] if done.padded else [])
        self._cut.append(done.cut)
        self._widen(done.range)
        return Row(done.array, self.fitted.sizes(*done.size), done.size)

    def _called(self, decoded: Decoded, file: Path) -> Row:
        assert self.function is not None
        assert self.raised is not None
        try:
            array = np.asarray(self.function(decoded.image))
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise self.raised(error) from error
        array = _own(array, self.spec, self.preprocess, file)
        if array.size and np.isfinite(array.astype(np.float64)).all():
            self._widen((float(array.min()), float(array.max())))
        shape = (self.spec.shape or ())[1:]
        named = {dim: size for dim, size in zip(shape, array.shape, strict=False) if isinstance(dim, str)}
        return Row(array, named)

    def _widen(self, new: tuple[float, float]) -> None:
        old = self._range or new
        self._range = (min(old[0], new[0]), max(old[1], new[1]))

    def told(self) -> Preprocessed:
        """What was done to the pictures that were fed so far."""
        quantized = self.fitted is not None and not self.fitted.takes_pixels
        return Preprocessed(
            self.preprocess.text,
            self.fitted.preprocess.stages() if self.fitted else self.preprocess.stages(),
            self.count,
            self.pictures.classes,
            self._range,
            self.spec.quantization if quantized else None,
            _sha256(self.preprocess),
        )

    def _narrow(self) -> list[str]:
        """Real numbers of another range than a quantized input's: few of its integers are used."""
        quantization = self.told().quantization
        if quantization is None or self._range is None or self.spec.dtype not in ("int8", "uint8"):
            return []
        least, greatest = self._range
        used = round((greatest - least) / quantization.scale) + 1
        if used >= _FEW_STEPS:
            return []
        low, high = integer_range(self.spec.dtype)
        ends = [quantization.scale * (end - quantization.zero_point) for end in (low, high)]
        stages = f"the stages give {least:.4g}..{greatest:.4g}"
        integers = f"the integers of `{self.spec.name}` stand for {ends[0]:.4g}..{ends[1]:.4g}"
        became = f"the pictures became {used} of {high - low + 1} integers"
        return [f"{stages}, and {integers}: {became}; is it another range that the model was trained on?"]

    def notes(self) -> list[str]:
        """What a reader of the evidence must know."""
        told = [_counted(number, REMARKS[name]) for name, number in self._remarks.items()]
        cut = [share for share in self._cut if share]
        if cut:
            told.append(
                f"{_pictures(len(cut))} went beyond what the integers of `{self.spec.name}` stand for: "
                f"up to {100 * max(cut):.2g} % of one was cut"
            )
        told += self._narrow()
        if self.left_over:
            told.append(f"{_pictures(self.left_over)} of `{self.pictures.root}` {'was' if self.left_over == 1 else 'were'} left over, "
                        f"since the model takes several at once")  # fmt: skip
        if self.pictures.skipped:
            names = listed([file.name for file in self.pictures.skipped], 3)
            told.append(
                f"`{self.pictures.root}` holds other files than pictures, which were passed over: {names}"
            )
        return told


def _own(array: npt.NDArray[Any], spec: TensorSpec, preprocess: Preprocess, file: Path) -> npt.NDArray[Any]:
    """What a callable gave, without the batch axis and in the input's dtype.

    Raises:
        BadPreprocess: It has another shape, or numbers that the dtype cannot hold.
    """
    shape = spec.shape
    if shape is None or _is(array.shape, (1, *shape[1:])):
        inner = array[0] if shape else array
    elif _is(array.shape, shape[1:]):
        inner = array
    else:
        raise BadPreprocess(
            f"`{preprocess.text}` makes an array of shape {list(array.shape)} of `{file}`, and input `{spec.name}` is {show_shape(shape)}",
            fix=f"return an array of shape {show_shape(shape[1:])}, for one picture",
        )
    dtype = numpy_dtype(spec.dtype)
    is_number = inner.dtype.kind in "iufb" or inner.dtype.name == "bfloat16"
    cast = inner.astype(dtype) if is_number else inner
    exact = spec.dtype.startswith(("float", "bfloat")) or np.array_equal(cast, inner)
    if not is_number or not exact:
        raise BadPreprocess(
            f"`{preprocess.text}` makes an array of {inner.dtype.name} of `{file}`, and input `{spec.name}` is {spec.dtype}",
            fix=f"return array.astype({spec.dtype!r})",
        )
    return cast


def _is(shape: tuple[int, ...], wanted: tuple[int | str | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        own == dim for own, dim in zip(shape, wanted, strict=True) if isinstance(dim, int)
    )


def _sha256(preprocess: Preprocess) -> str | None:
    if preprocess.function is None:
        return None
    return hashlib.sha256(Path(preprocess.function.rpartition(":")[0]).read_bytes()).hexdigest()


def _pictures(count: int) -> str:
    return f"{count} picture{'' if count == 1 else 's'}"


def _counted(count: int, remark: str) -> str:
    return f"{_pictures(count)} {remark.format('has' if count == 1 else 'have')}"
