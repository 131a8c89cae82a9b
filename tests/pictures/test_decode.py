"""Files to RGB pictures, whole or refused by name."""

import os
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlconv.errors import MissingPackage, UndecodablePicture, Unreadable
from mlconv.pictures.decode import decode

CORNERS = np.array(
    [[[250, 0, 0], [0, 250, 0]], [[0, 0, 250], [250, 250, 250]], [[9, 9, 9], [0, 0, 0]]], np.uint8
)
"""Three rows of two pixels."""


def pixels(path: Path, *, upright: bool = False) -> list[object]:
    return np.asarray(decode(path, upright=upright).image).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "tif", "ppm"])
def test_formats_without_loss_give_their_pixels(suffix: str, tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / f"a.{suffix}")
    decoded = decode(tmp_path / f"a.{suffix}")
    assert decoded.image.mode == "RGB"
    assert decoded.remarks == ()
    np.testing.assert_array_equal(np.asarray(decoded.image), CORNERS)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGBA", "RGBX", "CMYK", "YCbCr"])
def test_every_mode_becomes_rgb(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(np.full((2, 2, 3), 255, np.uint8)).convert("RGB")
    image = image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "tif"
    image.save(tmp_path / f"a.{suffix}")
    assert pixels(tmp_path / f"a.{suffix}") == [[[255, 255, 255]] * 2] * 2


def test_the_contents_count_and_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "a.jpg", format="PNG")
    assert pixels(tmp_path / "a.jpg") == CORNERS.tolist()


def test_alpha_is_dropped_and_told_where_something_is_transparent(tmp_path: Path) -> None:
    image = Image.fromarray(CORNERS).convert("RGBA")
    image.save(tmp_path / "opaque.png")
    assert decode(tmp_path / "opaque.png").remarks == ()
    image.putalpha(0)
    image.save(tmp_path / "clear.png")
    assert decode(tmp_path / "clear.png").remarks == ("transparent",)
    assert pixels(tmp_path / "clear.png") == CORNERS.tolist()


def test_a_colour_that_is_declared_transparent_is_told_where_a_pixel_has_it(tmp_path: Path) -> None:
    image = Image.fromarray(CORNERS)
    image.save(tmp_path / "unused.png", transparency=(1, 2, 3))
    image.save(tmp_path / "used.png", transparency=(9, 9, 9))
    assert decode(tmp_path / "unused.png").remarks == ()
    assert decode(tmp_path / "used.png").remarks == ("transparent",)
    assert pixels(tmp_path / "used.png") == CORNERS.tolist()


def test_of_sixteen_bits_the_high_byte_is_taken(tmp_path: Path) -> None:
    deep = np.array([[0x0000, 0x01FF], [0x8000, 0xFFFF]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    Image.fromarray(deep).save(tmp_path / "a.tif")
    (tmp_path / "a.pgm").write_bytes(b"P5 2 2 65535\n" + deep.astype(">u2").tobytes())
    for name in ("a.png", "a.tif", "a.pgm"):
        assert decode(tmp_path / name).remarks == ("deep",)
        assert np.asarray(decode(tmp_path / name).image)[..., 0].tolist() == [[0, 1], [128, 255]]


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_numbers_without_a_range_of_their_own_are_refused(dtype: type, tmp_path: Path) -> None:
    Image.fromarray(np.ones((2, 2), dtype)).save(tmp_path / "a.tif")
    with pytest.raises(UndecodablePicture, match=r"a\.tif") as caught:
        decode(tmp_path / "a.tif")
    assert "nothing tells which are black and white" in (caught.value.why or "")


def test_the_exif_orientation_is_told_and_applied_where_it_is_asked_for(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first column of the file is the top row
    Image.fromarray(CORNERS).save(tmp_path / "a.png", exif=exif)
    decoded = decode(tmp_path / "a.png")
    assert decoded.remarks == ("turned",)
    assert pixels(tmp_path / "a.png") == CORNERS.tolist()
    turned = decode(tmp_path / "a.png", upright=True)
    assert turned.remarks == ()
    np.testing.assert_array_equal(np.asarray(turned.image), np.rot90(CORNERS, -1))


def test_sixteen_bits_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = np.array([[0x0000, 0x2000], [0x4000, 0x6000], [0x8000, 0xA000]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png", exif=exif)
    found = np.asarray(decode(tmp_path / "a.png", upright=True).image)[..., 0]
    assert found.tolist() == [[128, 64, 0], [160, 96, 32]]  # cv2.imread of OpenCV 5.0.0 gives the same


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert decode(tmp_path / "a.gif").remarks == ("animated",)
    assert pixels(tmp_path / "a.gif")[0] == [[255, 0, 0]] * 4


def truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def web_page(path: Path) -> None:
    path.write_text("<html>404</html>")


def empty(path: Path) -> None:
    path.touch()


def postscript(path: Path) -> None:
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def bomb(path: Path) -> None:
    """A small PNG whose header claims 20000 x 20000 pixels."""
    Image.new("1", (8, 8)).save(path, format="PNG")
    header = b"IHDR" + struct.pack(">II", 20000, 20000) + path.read_bytes()[24:29]
    path.write_bytes(
        path.read_bytes()[:12] + header + struct.pack(">I", zlib.crc32(header)) + path.read_bytes()[33:]
    )


def broken_chunk(path: Path) -> None:
    Image.new("RGB", (9, 9)).save(path, format="PNG")
    path.write_bytes(path.read_bytes().replace(b"IDAT", b"I\0AT"))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("write", [truncated, web_page, empty, postscript, bomb, broken_chunk])
def test_what_cannot_be_decoded_is_named(write: Callable[[Path], None], suffix: str, tmp_path: Path) -> None:
    write(tmp_path / f"a.{suffix}")
    with pytest.raises(UndecodablePicture, match=rf"a\.{suffix}` cannot be decoded") as caught:
        decode(tmp_path / f"a.{suffix}")
    assert caught.value.why
    assert "or leave it out" in caught.value.fix


def test_a_picture_that_claims_too_many_pixels_is_taken_for_an_attack(tmp_path: Path) -> None:
    bomb(tmp_path / "a.png")
    with pytest.raises(UndecodablePicture) as caught:
        decode(tmp_path / "a.png")
    assert "400000000 pixels" in (caught.value.why or "")


def test_a_format_that_pillow_does_not_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(UndecodablePicture) as caught:
        decode(tmp_path / "a.heic")
    assert caught.value.why == "Pillow does not read .heic files"


def test_an_environment_without_pillow_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingPackage, match=f"not installed in {sys.executable}") as caught:
        decode(tmp_path / "a.png")
    assert caught.value.fix.startswith("pip install pillow")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="no regular file"):
        decode(tmp_path / "a.png")


def test_a_picture_that_is_gone_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match=r"a\.png"):
        decode(tmp_path / "a.png")
