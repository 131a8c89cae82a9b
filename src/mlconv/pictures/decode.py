"""Files to 8-bit RGB pictures, as torchvision's ImageFolder and Keras's load_img decode them: ``convert("RGB")``.

Alpha is dropped, palettes and CMYK are converted by Pillow, an animation gives its first frame, and the EXIF orientation is
left alone unless asked for. Where Pillow's conversion would ruin a picture (16-bit gray is cut at 255), the high byte is
taken, as OpenCV and libpng do.
"""

from __future__ import annotations

import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlconv.errors import MissingPackage, UndecodablePicture, Unreadable
from mlconv.pictures.folder import FOREIGN

if TYPE_CHECKING:
    from PIL import Image

_FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""Of those that Pillow opens; no EPS, which runs Ghostscript."""

_ORIENTATION = 0x0112  # EXIF tag 274; 1 is upright

Remark = str


@dataclass(frozen=True, slots=True)
class Decoded:
    """A picture in RGB and what a reader of the evidence should know of it, each a key of ``REMARKS``."""

    image: Image.Image
    remarks: tuple[Remark, ...]


REMARKS = {
    "turned": "{} an EXIF orientation that was not applied, as torchvision and Keras do; the stage `upright` applies it",
    "deep": "{} 16 bits a channel, of which the high byte was taken",
    "transparent": "{} transparent parts, where the colours beneath show, as in torchvision and OpenCV",
    "animated": "{} several frames, of which the first was taken",
    "padded": "{} a side shorter than the crop and was padded with black, as torchvision does",
}
"""What was done to pictures, with the number of them and ``has`` or ``have`` put in."""


def decode(path: Path, *, upright: bool = False) -> Decoded:
    """Read a picture.

    Args:
        upright: Turn it as its EXIF orientation says.

    Raises:
        UndecodablePicture: Pillow does not decode it, or it claims more pixels than Pillow's limit.
        Unreadable: It is missing, or no permission.
        MissingPackage: Pillow is not installed in this interpreter.
    """
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise MissingPackage(
            f"pictures are decoded by Pillow, which is not installed in {sys.executable}",
            fix="pip install pillow in that environment",
        ) from error
    if path.exists() and not path.is_file():
        raise Unreadable(f"`{path}` is no regular file", fix="take it out of the folder")
    Image.init()
    formats = [name for name in _FORMATS if name in Image.OPEN]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sizes below the limit, palettes with alpha, odd EXIF
        try:
            with path.open("rb") as file, Image.open(file, formats=formats) as image:
                return _decoded(image, upright=upright)
        except (MemoryError, UndecodablePicture):
            raise
        except UnidentifiedImageError as error:
            raise _undecodable(path, _foreign(path) or "it is not of a format that Pillow reads") from error
        except (FileNotFoundError, PermissionError) as error:
            raise Unreadable(
                f"`{path}` cannot be read", why=error.strerror, fix="look at the file and its permissions"
            ) from error
        except Image.DecompressionBombError as error:
            raise _undecodable(path, f"{error}: a picture of that size is taken for an attack") from error
        except Exception as error:  # Pillow's readers raise whatever a broken file provokes
            raise _undecodable(path, f"{type(error).__name__}: {error}") from error


def _undecodable(path: Path, why: str) -> UndecodablePicture:
    return UndecodablePicture(f"`{path}` cannot be decoded", why=why,
                              fix="save it as .png or .jpg with 8 bits a channel, or leave it out")  # fmt: skip


def _foreign(path: Path) -> str | None:
    suffix = path.suffix.lower()
    return f"Pillow does not read {suffix} files" if suffix in FOREIGN else None


def _decoded(image: Image.Image, *, upright: bool) -> Decoded:
    from PIL import Image, ImageOps

    remarks = [name for name, holds in (("animated", getattr(image, "is_animated", False)), ("transparent", _is_transparent(image)))
               if holds]  # fmt: skip
    turned = _orientation(image) != 1
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    ):  # 16 bits, before Pillow 11 as I
        remarks.append("deep")
        exif = image.getexif()
        image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
        if turned:
            image.info["exif"] = exif.tobytes()
    elif image.mode in ("I", "F"):
        kind = "integers" if image.mode == "I" else "floating-point numbers"
        raise ValueError(f"its pixels are {kind} of 32 bits, and nothing tells which are black and white")
    if turned and upright:
        image = ImageOps.exif_transpose(image)
    elif turned:
        remarks.append("turned")
    if image.mode in ("RGBa", "La"):
        image = image.convert("RGBA" if image.mode == "RGBa" else "LA")
    return Decoded(image.convert("RGB"), tuple(remarks))


def _is_transparent(image: Image.Image) -> bool:
    if image.mode not in ("RGBA", "LA", "PA", "RGBa", "La") and "transparency" not in image.info:
        return False
    least, _ = image.convert("RGBA").getchannel("A").getextrema()
    return bool(least < 255)  # type: ignore[operator]


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation; 1 where there is none, or none that is valid."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # EXIF is a format of its own, and broken EXIF hides no picture
        return 1
    return value if value in range(1, 9) else 1
