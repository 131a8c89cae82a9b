"""PREPROCESS as a frozen value; ``pictures.grammar`` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Filter = Literal["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming", "opencv"]
"""Pillow's, which torchvision and timm use and which average over what they shrink; ``opencv`` is INTER_LINEAR, which does not."""
Order = Literal["RGB", "BGR", "GRAY"]
Layout = Literal["NHWC", "NCHW"]
Size: TypeAlias = tuple[int, int]
"""Height and width."""

CROP_SHARE = 0.875  # timm.data.DEFAULT_CROP_PCT; torchvision's resize 256, crop 224
CROP_DEFAULT = 224  # where the input's own size is dynamic


@dataclass(frozen=True, slots=True)
class Resize:
    """To another size.

    Attributes:
        shorter: The shorter side's length; the other keeps the ratio.
        size: Both sides' lengths; with neither, those of the input.
        cover: Keep the ratio, so that the picture covers ``size`` and one side is equal to it.
        share: The crop that follows takes this share of it: where the preset ``imagenet`` leaves the size open.
    """

    shorter: int | None = None
    size: Size | None = None
    filter: Filter = "bilinear"
    cover: bool = False
    share: float | None = None

    def __str__(self) -> str:
        length = str(self.shorter) if self.shorter else show_size(self.size) if self.size else ""
        kind = "" if self.filter == "bilinear" else self.filter
        told = ":".join(word for word in (length, "cover" if self.cover else "", kind) if word)
        return f"resize={told}" if told else "resize"


@dataclass(frozen=True, slots=True)
class Crop:
    """The middle; without a size, that of the input."""

    size: Size | None = None

    def __str__(self) -> str:
        return f"crop={show_size(self.size)}" if self.size else "crop"


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Fitted into the size without changing the ratio, in the middle of gray; without a size, that of the input."""

    size: Size | None = None

    def __str__(self) -> str:
        return f"letterbox={show_size(self.size)}" if self.size else "letterbox"


Geometry: TypeAlias = Resize | Crop | Letterbox


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written; ``1/255`` divides, since a float32 times 0.00392... is another number."""

    numerator: float
    denominator: float = 1.0

    @property
    def value(self) -> float:
        return self.numerator / self.denominator

    def __str__(self) -> str:
        told = show_number(self.numerator)
        return told if self.denominator == 1 else f"{told}/{show_number(self.denominator)}"


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a picture becomes an input, in this order whatever the order of writing, but for the geometry, which keeps its own.

    Attributes:
        text: As the user wrote it.
        upright: Turn the picture as its EXIF orientation says.
        geometry: What changes the size, on 8-bit pixels.
        order: None: RGB, or GRAY where the input has one channel.
        scale: What pixels, 0..255, are multiplied by; None leaves them.
        mean, std: Subtracted, then divided by, after ``scale``: one value, or one a channel in the order given.
        layout: None: as the input's shape tells.
        function: ``file.py:callable`` in place of everything else.
    """

    text: str
    upright: bool = False
    geometry: tuple[Geometry, ...] = ()
    order: Order | None = None
    scale: Number | None = None
    mean: tuple[Number, ...] = ()
    std: tuple[Number, ...] = ()
    layout: Layout | None = None
    function: str | None = None

    @property
    def is_raw(self) -> bool:
        """Whether pixels stay 0..255."""
        return self.scale is None and not self.mean and not self.std

    def stages(self) -> tuple[str, ...]:
        """Each stage in the grammar's own words and in the order in which it happens: joined by commas they parse to the same."""
        if self.function is not None:
            return (self.function,)
        told = ["upright"] if self.upright else []
        told += [str(stage) for stage in self.geometry]
        told += [f"order={self.order}"] if self.order else []
        told += [f"scale={self.scale}"] if self.scale else []
        for name, values in (("mean", self.mean), ("std", self.std)):
            told += [f"{name}={':'.join(map(str, values))}"] if values else []
        return (*told, *([f"layout={self.layout}"] if self.layout else []))


def show_size(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def show_number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)
