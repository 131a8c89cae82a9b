"""What the stages compute: sizes and pixels, to the last bit as the training libraries have them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mlconv.pictures.preprocess import Number, Size

if TYPE_CHECKING:
    from PIL import Image

    from mlconv.pictures.preprocess import Filter

Pixels = npt.NDArray[np.uint8]

GRAY_OF_LETTERBOX = 114  # ultralytics.data.augment.LetterBox(padding_value=114)


def shorter_side(own: Size, length: int) -> Size:
    """torchvision.transforms.functional._compute_resized_output_size: the longer side is cut off to whole pixels."""
    height, width = own
    if height <= width:
        return length, int(length * width / height)
    return int(length * height / width), length


def covering(own: Size, around: Size) -> Size:
    """timm.data.transforms.ResizeKeepRatio."""
    ratio = min(own[0] / around[0], own[1] / around[1])
    return round(own[0] / ratio), round(own[1] / ratio)


def resized(image: Image.Image, size: Size, kind: Filter) -> Image.Image:
    """Pillow's resize, which averages over what it shrinks; ``opencv`` as ``linear``."""
    from PIL import Image

    if (image.height, image.width) == size:
        return image
    if kind == "opencv":
        return Image.fromarray(linear(np.asarray(image), size))
    return image.resize((size[1], size[0]), Image.Resampling[kind.upper()])


def linear(pixels: Pixels, size: Size) -> Pixels:
    """OpenCV's INTER_LINEAR on bytes: two pixels each way around the centre, whatever lies between them.

    In its fixed-point arithmetic: weights of 11 bits, and the sum of two rows shifted in two steps
    (modules/imgproc/src/resize.cpp, HResizeLinear and VResizeLinear for uchar).
    """
    rows, weights_y = _taps(pixels.shape[0], size[0])
    columns, weights_x = _taps(pixels.shape[1], size[1])
    weights_x[:, columns[0] == columns[1]] = [
        [2048],
        [0],
    ]  # beyond the ends one column counts alone; of rows both do
    used, places = np.unique(rows, return_inverse=True)
    near = pixels[used].astype(np.int32)
    wide = near[:, columns[0]] * weights_x[0][:, None] + near[:, columns[1]] * weights_x[1][:, None]
    wide >>= 4
    above, below = places.reshape(rows.shape)
    high = (wide[above] * weights_y[0][:, None, None]) >> 16
    low = (wide[below] * weights_y[1][:, None, None]) >> 16
    return np.asarray((high + low + 2) >> 2, np.uint8)


def _taps(length: int, wanted: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Of each new place the two old ones, and their weights of 2048 in all."""
    places = ((np.arange(wanted) + 0.5) * (length / wanted) - 0.5).astype(np.float32)
    first = np.floor(places).astype(np.int64)
    part = places - first.astype(np.float32)
    weights = np.stack([np.rint((1 - part) * 2048), np.rint(part * 2048)]).astype(np.int32)
    return np.clip(np.stack([first, first + 1]), 0, length - 1), weights


def cropped(image: Image.Image, size: Size) -> Image.Image:
    """torchvision.transforms.functional.center_crop: what is too small is padded with black, rounding is half to even."""
    from PIL import Image

    height, width = size
    if width > image.width or height > image.height:
        around = Image.new(image.mode, (max(width, image.width), max(height, image.height)))
        around.paste(image, (max(width - image.width, 0) // 2, max(height - image.height, 0) // 2))
        image = around
    top, left = round((image.height - height) / 2), round((image.width - width) / 2)
    return image.crop((left, top, left + width, top + height))


def letterboxed(image: Image.Image, size: Size) -> Image.Image:
    """ultralytics.data.augment.LetterBox(size, auto=False): enlarged too, linear without averaging, padded with gray."""
    from PIL import Image

    ratio = min(size[0] / image.height, size[1] / image.width)
    inner = max(round(image.height * ratio), 1), max(round(image.width * ratio), 1)
    top, left = round((size[0] - inner[0]) / 2 - 0.1), round((size[1] - inner[1]) / 2 - 0.1)
    around = np.full((*size, 3), GRAY_OF_LETTERBOX, np.uint8)
    around[top : top + inner[0], left : left + inner[1]] = np.asarray(resized(image, inner, "opencv"))
    return Image.fromarray(around)


def normalized(
    pixels: npt.NDArray[Any], scale: Number | None, mean: tuple[Number, ...], std: tuple[Number, ...]
) -> npt.NDArray[Any]:
    """``(pixels * scale - mean) / std`` step by step in the dtype of ``pixels``, channels last.

    1/255 divides by 255, as torchvision's ToTensor does, and mean and std are rounded to the dtype first, as its Normalize.
    """
    kind = pixels.dtype.type
    if scale is not None:
        pixels = pixels if scale.numerator == 1 else pixels * kind(scale.numerator)
        pixels = pixels if scale.denominator == 1 else pixels / kind(scale.denominator)
    if mean:
        pixels = pixels - np.array([number.value for number in mean], pixels.dtype)
    if std:
        pixels = pixels / np.array([number.value for number in std], pixels.dtype)
    return pixels
