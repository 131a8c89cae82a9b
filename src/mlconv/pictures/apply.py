"""A picture to the array that an input takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlconv.checks.samples import numpy_dtype
from mlconv.errors import BadPreprocess, UndecodablePicture
from mlconv.pictures.arithmetic import covering, cropped, letterboxed, normalized, resized, shorter_side
from mlconv.pictures.fit import Fitted, integer_range
from mlconv.pictures.preprocess import Crop, Geometry, Letterbox, Size, show_size
from mlconv.tensors import Axis

if TYPE_CHECKING:
    from PIL import Image

_GREATEST = 1 << 27
"""Pixels, 400 MB in colour: a strip one pixel high may grow beyond any memory when its shorter side does."""

_MOST_CUT = 0.1
"""Calibration leaves out few numbers (by percentiles 0.01 %); where a tenth of a picture is cut, they are of another range."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One picture as an input takes it.

    Attributes:
        array: In the input's dtype and axes, but for the batch axis.
        size: Height and width after all stages.
        range: The least and greatest number before quantization.
        cut: The share of numbers that the integers of a quantized input cannot hold.
        padded: Whether a crop was larger than the picture.
    """

    array: npt.NDArray[Any]
    size: Size
    range: tuple[float, float]
    cut: float = 0.0
    padded: bool = False


def apply(fitted: Fitted, image: Image.Image, picture: str, axes: Mapping[str, Axis]) -> Applied:
    """All stages on a decoded picture.

    Args:
        image: RGB.
        picture: How messages name it.
        axes: The ranges of dynamic axes.

    Raises:
        BadPreprocess: The input takes another size, or other numbers.
        UndecodablePicture: A stage would make a picture without bounds of it.
    """
    own = (image.height, image.width)
    padded = False
    for stage in fitted.preprocess.geometry:
        padded |= isinstance(stage, Crop) and _is_short((image.height, image.width), stage)
        image = _shaped(image, stage, picture)
    size = (image.height, image.width)
    fitted.assert_takes(size, picture, own, axes)
    pixels = np.asarray(image.convert("L"))[..., None] if fitted.channels == 1 else np.asarray(image)
    if fitted.preprocess.order == "BGR":
        pixels = pixels[..., ::-1]
    if fitted.takes_pixels:
        return Applied(_arranged(pixels, fitted), size, _range(pixels), padded=padded)
    told = fitted.preprocess
    exact = np.float64 if fitted.spec.dtype == "float64" else np.float32
    numbers = normalized(pixels.astype(exact), told.scale, told.mean, told.std)
    if fitted.spec.dtype.startswith(("int", "uint")):
        integers, cut = _integers(numbers, fitted)
        return Applied(_arranged(integers, fitted), size, _range(numbers), cut, padded)
    return Applied(_arranged(numbers, fitted), size, _range(numbers), padded=padded)


def _is_short(size: Size, crop: Crop) -> bool:
    assert crop.size is not None
    return size[0] < crop.size[0] or size[1] < crop.size[1]


def _shaped(image: Image.Image, stage: Geometry, picture: str) -> Image.Image:
    if isinstance(stage, Crop):
        assert stage.size is not None
        return cropped(image, stage.size)
    if isinstance(stage, Letterbox):
        assert stage.size is not None
        return letterboxed(image, stage.size)
    own = (image.height, image.width)
    if stage.shorter is not None:
        size = shorter_side(own, stage.shorter)
    else:
        assert stage.size is not None
        size = covering(own, stage.size) if stage.cover else stage.size
    if size[0] * size[1] > _GREATEST:
        raise UndecodablePicture(
            f"`{picture}` is {show_size(own)} (height x width), and {stage} would make it {show_size(size)}",
            fix="take it out of the folder, or use letterbox, which keeps the whole of it",
        )
    return resized(image, size, stage.filter)


def _arranged(pixels: npt.NDArray[Any], fitted: Fitted) -> npt.NDArray[Any]:
    """Height, width, channels to the input's axes and dtype."""
    if "C" not in fitted.axes:
        pixels = pixels[..., 0]
    elif fitted.axes in ("NCHW", "CHW"):
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels.astype(numpy_dtype(fitted.spec.dtype)))


def _range(numbers: npt.NDArray[Any]) -> tuple[float, float]:
    return float(numbers.min()), float(numbers.max())


def _integers(numbers: npt.NDArray[Any], fitted: Fitted) -> tuple[npt.NDArray[Any], float]:
    """Real numbers to the integers of an input: by its quantization, rounded to nearest, cut at its ends.

    An input without quantization takes whole numbers as they are, and no others.

    Raises:
        BadPreprocess: Most numbers lie more than one step beyond the ends, or are no whole numbers.
    """
    spec, told = fitted.spec, fitted.preprocess
    low, high = integer_range(spec.dtype)
    if spec.quantization is None:
        whole = np.rint(numbers)
        if np.abs(whole - numbers).max() > 1e-3 or whole.min() < low or whole.max() > high:
            least, greatest = _range(numbers)
            raise BadPreprocess(
                f"the stages give {least:.4g}..{greatest:.4g}, and input `{spec.name}` takes whole numbers of {spec.dtype}",
                why="it has no quantization that would map them",
                fix=f"--preprocess {_pixels_only(fitted)}",
            )
        return whole, 0.0
    scale, zero = spec.quantization.scale, spec.quantization.zero_point
    steps = np.rint(numbers.astype(np.float64) / scale) + zero
    cut = float(np.mean((steps < low - 1) | (steps > high + 1)))
    if cut > _MOST_CUT:
        least, greatest = _range(numbers)
        ends = (scale * (low - zero), scale * (high - zero))
        raise BadPreprocess(
            f"the stages{'' if told.scale or told.mean else ', without scale,'} give {least:.4g}..{greatest:.4g}, "
            f"and the integers of input `{spec.name}` stand for {ends[0]:.4g}..{ends[1]:.4g}",
            why=f"{100 * cut:.0f} % of the picture would be cut (scale {scale:.6g}, zero point {zero})",
            fix=f"--preprocess {_within(fitted, ends)}",
        )
    return np.clip(steps, low, high), cut


def _geometry(fitted: Fitted) -> list[str]:
    return [text for text in fitted.preprocess.stages() if not text.startswith(("scale=", "mean=", "std="))]


def _pixels_only(fitted: Fitted) -> str:
    shift = ["mean=128"] if fitted.spec.dtype == "int8" else []
    return ",".join([*_geometry(fitted), *shift])


def _within(fitted: Fitted, ends: tuple[float, float]) -> str:
    """The usual range that comes nearest to what the integers stand for."""
    usual = {"-1..1": (-1.0, 1.0), "0..1": (0.0, 1.0), "": (0.0, 255.0)}
    best = min(usual, key=lambda name: abs(usual[name][0] - ends[0]) + abs(usual[name][1] - ends[1]))
    return ",".join([*_geometry(fitted), *([best] if best else [])])
