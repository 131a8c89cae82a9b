"""Sizes and pixels: against what torchvision, timm, Ultralytics and OpenCV gave for the same picture."""

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from mlconv.errors import BadPreprocess, UndecodablePicture
from mlconv.pictures.apply import Applied, apply
from mlconv.pictures.arithmetic import covering, cropped, letterboxed, linear, resized, shorter_side
from mlconv.pictures.fit import fit
from mlconv.pictures.grammar import parse
from mlconv.tensors import Dim, Quantization, TensorSpec


def ramp(height: int, width: int) -> npt.NDArray[np.uint8]:
    """The picture of the recorded figures: 37 more from value to value, modulo 256."""
    return (np.arange(height * width * 3) * 37 % 256).reshape(height, width, 3).astype(np.uint8)


def picture(height: int, width: int) -> Image.Image:
    return Image.fromarray(ramp(height, width))


def applied(
    text: str,
    image: Image.Image,
    *shape: Dim,
    dtype: str = "float32",
    quantization: Quantization | None = None,
) -> Applied:
    return apply(fit(parse(text), TensorSpec("x", shape, dtype, quantization)), image, "a.png", {})


# ------------------------------------------------------------------ torchvision


@pytest.mark.parametrize(
    ("own", "length", "size"),
    [
        ((480, 640), 256, (256, 341)),  # 341.33 is cut off
        ((640, 480), 256, (341, 256)),
        ((500, 333), 256, (384, 256)),  # 384.38
        ((7, 7), 3, (3, 3)),
    ],
)
def test_the_longer_side_is_cut_off_to_whole_pixels(
    own: tuple[int, int], length: int, size: tuple[int, int]
) -> None:
    assert shorter_side(own, length) == size


def test_resize_and_crop_are_those_of_torchvision() -> None:
    # transforms.Compose([Resize(4), CenterCrop(3)]) of torchvision 0.29.2 on the same 7x5 picture, green
    found = applied("resize=4,crop=3,layout=NCHW", picture(7, 5), 1, 3, 3, 3).array
    assert found[1].tolist() == [[132, 155, 135], [142, 94, 170], [192, 129, 109]]
    # and of Resize((3, 2)), bicubic
    found = applied("resize=3x2:bicubic", picture(7, 5), 1, 3, 3, 2).array
    assert found[1].tolist() == [[111, 109], [136, 132], [131, 129]]


def test_a_crop_larger_than_the_picture_is_padded_with_black_as_torchvision_does() -> None:
    # transforms.CenterCrop(6) of a picture 7 high and 5 wide, green
    done = applied("crop=6", picture(7, 5), 1, 3, 6, 6)
    assert done.padded
    assert done.array[1][0].tolist() == [37, 148, 3, 114, 225, 0]
    assert done.array[1][5].tolist() == [252, 107, 218, 73, 184, 0]


@pytest.mark.parametrize(("height", "top"), [(5, 0), (7, 2), (9, 2), (11, 4)])  # 0.5, 1.5, 2.5 and 3.5
def test_the_crop_rounds_half_to_even(height: int, top: int) -> None:
    image = Image.fromarray(np.arange(height, dtype=np.uint8)[:, None].repeat(4, 1))
    assert np.asarray(cropped(image, (4, 4)))[0, 0] == top


def test_numbers_are_those_of_to_tensor_and_normalize_to_the_last_bit() -> None:
    # Compose([CenterCrop(2), ToTensor(), Normalize((.485, .456, .406), (.229, .224, .225))]), torchvision 0.29.2
    found = applied("imagenet,resize=7x5,crop=2", picture(7, 5), 1, 3, 2, 2).array
    expected = [-1.2274168729782104, 0.6734309792518616, -0.4910523295402527, 1.4097952842712402, -0.47759097814559937,
                1.465686321258545, 0.2752102017402649, 2.21848726272583, 0.3916340470314026, 2.3262743949890137,
                1.1410894393920898, -1.3861438035964966]  # fmt: skip
    assert found.dtype == np.float32
    assert found.ravel().tolist() == expected


def test_both_sides_of_a_picture_cover_as_timm_has_it() -> None:
    # ResizeKeepRatio((219, 292)): ratio = min(480 / 219, 640 / 292) = 2.19178, round(480 / 2.19178), round(640 / 2.19178)
    assert covering((480, 640), (219, 292)) == (219, 292)
    assert covering((600, 640), (219, 292)) == (274, 292)
    assert covering((480, 900), (219, 292)) == (219, 411)


# ------------------------------------------------------------------ OpenCV and Ultralytics


def test_linear_is_opencvs() -> None:
    # cv2.resize(ramp(5, 4), ..., interpolation=cv2.INTER_LINEAR) of OpenCV 5.0.0
    small = linear(ramp(5, 4), (3, 3))
    assert small[..., 0].tolist() == [[67, 144, 78], [138, 159, 179], [167, 130, 93]]
    assert small[..., 2].tolist() == [[70, 132, 124], [170, 105, 39], [99, 119, 139]]
    large = linear(ramp(5, 4), (7, 6))
    assert large[0, :, 0].tolist() == [0, 55, 129, 203, 149, 77]
    assert large[3, :, 2].tolist() == [194, 122, 67, 142, 88, 15]


def test_linear_is_that_of_real_numbers_within_a_level() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (23, 31, 3), dtype=np.uint8)
    for height, width in ((40, 17), (5, 100), (23, 31), (1, 1)):
        y = np.clip((np.arange(height) + 0.5) * 23 / height - 0.5, 0, 22)
        x = np.clip((np.arange(width) + 0.5) * 31 / width - 0.5, 0, 30)
        rows, columns = np.floor(y).astype(int), np.floor(x).astype(int)
        below, right = np.minimum(rows + 1, 22), np.minimum(columns + 1, 30)
        v, u = (y - rows)[:, None, None], (x - columns)[None, :, None]
        upper = pixels[rows][:, columns] * (1 - u) + pixels[rows][:, right] * u
        lower = pixels[below][:, columns] * (1 - u) + pixels[below][:, right] * u
        assert np.abs(linear(pixels, (height, width)) - (upper * (1 - v) + lower * v)).max() <= 1


def test_a_letterbox_keeps_the_ratio_and_pads_with_gray() -> None:
    found = np.asarray(letterboxed(Image.new("RGB", (300, 200), (10, 20, 30)), (640, 640)))
    # r = min(640 / 200, 640 / 300) = 2.1333; 427 x 640; padding 213 / 2 = 106.5: round(106.4) above, round(106.6) below
    assert (found[:106] == 114).all()
    assert (found[106:533] == (10, 20, 30)).all()
    assert (found[533:] == 114).all()


def test_a_letterbox_keeps_a_side_of_a_thin_picture() -> None:
    found = np.asarray(letterboxed(Image.new("RGB", (3000, 1), (255, 0, 0)), (64, 64)))
    # round(64 / 3000) is 0, and 1 is kept; round(63 / 2 - 0.1) = 31
    assert (found[31] == (255, 0, 0)).all()
    assert (found[[30, 32]] == 114).all()


def test_resize_to_the_own_size_changes_nothing() -> None:
    image = picture(7, 5)
    assert resized(image, (7, 5), "lanczos") is image


# ------------------------------------------------------------------ channels and layout


def test_the_order_of_channels_and_the_layout() -> None:
    image = Image.new("RGB", (2, 3), (10, 20, 30))
    assert applied("order=BGR", image, 1, 3, 3, 2).array[:, 0, 0].tolist() == [30, 20, 10]
    assert applied("0..1,layout=NCHW", image, 1, 3, 3, 2).array.shape == (3, 3, 2)
    assert applied("0..1,layout=NHWC", image, 1, 3, 2, 3).array[0, 0].tolist() == pytest.approx(
        [10 / 255, 20 / 255, 30 / 255]
    )


def test_gray_is_the_luma_of_the_standard() -> None:
    image = Image.new("RGB", (2, 2), (200, 100, 50))
    # (200 * 19595 + 100 * 38470 + 50 * 7471 + 32768) >> 16 = 124, ITU-R 601-2
    assert (
        applied("0..1,order=GRAY", image, "batch", 2, 2).array.tolist()
        == [[np.float32(124) / np.float32(255)] * 2] * 2
    )
    assert applied("resize", image, 1, 2, 2, 1, dtype="uint8").array.ravel().tolist() == [124] * 4


def test_mean_and_std_stand_in_the_order_of_the_channels_that_the_model_sees() -> None:
    image = Image.new("RGB", (1, 1), (10, 20, 30))
    found = applied("order=BGR,mean=30:20:10,std=1:2:4", image, 1, 3, 1, 1).array
    assert found.ravel().tolist() == [0, 0, 0]


# ------------------------------------------------------------------ dtypes


@pytest.mark.parametrize(
    ("dtype", "value"), [("float64", 100 / 255), ("float16", np.float16(np.float32(100) / 255))]
)
def test_the_arithmetic_is_that_of_the_inputs_precision(dtype: str, value: float) -> None:
    found = applied("0..1", Image.new("RGB", (2, 2), (100, 100, 100)), 1, 3, 2, 2, dtype=dtype).array
    assert found.dtype == np.dtype(dtype)
    assert found[0, 0, 0] == value


def test_a_byte_input_takes_the_pixels() -> None:
    done = applied(
        "resize", picture(4, 5), 1, 3, 4, 5, dtype="uint8", quantization=Quantization(1 / 128, 128)
    )
    np.testing.assert_array_equal(done.array, ramp(4, 5).transpose(2, 0, 1))


def test_real_numbers_are_quantized_by_the_inputs_own_scale_and_zero_point() -> None:
    image = Image.fromarray(np.array([[[0, 100, 255]] * 2] * 2, np.uint8))
    found = applied("-1..1", image, 1, 2, 2, 3, dtype="int8", quantization=Quantization(1 / 128, -1))
    # -1 * 128 - 1 = -129, one step beyond the end: -128; (100 / 127.5 - 1) * 128 - 1 = -28.6; 128 - 1
    assert found.array[0, 0].tolist() == [-128, -29, 127]
    assert found.cut == 0
    assert found.range == pytest.approx((-1, 1))


def test_numbers_beyond_what_the_integers_stand_for_are_refused_with_the_usual_range() -> None:
    with pytest.raises(
        BadPreprocess, match=r"give 0\.\.222, and the integers of input `x` stand for 0\.\.1"
    ) as caught:
        applied("resize", picture(2, 2), 1, 2, 2, 3, dtype="int8", quantization=Quantization(1 / 255, -128))
    assert caught.value.fix == "--preprocess resize=2x2,order=RGB,layout=NHWC,0..1"
    fixed = caught.value.fix.removeprefix("--preprocess ")
    found = applied(fixed, picture(2, 2), 1, 2, 2, 3, dtype="int8", quantization=Quantization(1 / 255, -128))
    np.testing.assert_array_equal(found.array, ramp(2, 2).astype(int) - 128)


def test_an_integer_input_without_quantization_takes_whole_numbers_alone() -> None:
    found = applied("mean=128", picture(2, 2), 1, 2, 2, 3, dtype="int8")
    np.testing.assert_array_equal(found.array, ramp(2, 2).astype(int) - 128)
    with pytest.raises(BadPreprocess, match="takes whole numbers of int8") as caught:
        applied("0..1", picture(2, 2), 1, 2, 2, 3, dtype="int8")
    assert caught.value.fix == "--preprocess order=RGB,layout=NHWC,mean=128"
    with pytest.raises(BadPreprocess, match="takes whole numbers of uint8"):
        applied("0..1", picture(2, 2), 1, 2, 2, 3, dtype="uint8")


# ------------------------------------------------------------------ what a picture itself does not fit


@pytest.mark.parametrize(
    ("text", "shape", "fix"),
    [
        ("0..1", (1, 3, 4, 4), "resize=4x4,order=RGB,scale=1/255,layout=NCHW"),
        ("resize=4", (1, 3, 4, 4), "resize=4,crop=4x4,order=RGB,layout=NCHW"),
        ("resize=2", (1, 3, 4, 4), "resize=4,crop=4x4,order=RGB,layout=NCHW"),
        ("crop=8x6,resize=3", (1, 3, 4, 4), "crop=8x6,resize=4x4,order=RGB,layout=NCHW"),
        ("resize=4", (1, 3, "s", "s"), "resize=4,crop=4x4,order=RGB,layout=NCHW"),
    ],
)  # fmt: skip
def test_a_picture_of_another_size_is_not_stretched_silently(
    text: str, shape: tuple[Dim, ...], fix: str
) -> None:
    with pytest.raises(BadPreprocess, match=r"`a\.png` is ") as caught:
        applied(text, picture(8, 6), *shape)
    assert caught.value.fix == f"--preprocess {fix}"
    assert applied(fix, picture(8, 6), *shape).array.shape == (3, 4, 4)


def test_a_picture_of_the_inputs_own_size_needs_no_stage() -> None:
    assert applied("0..1", picture(8, 6), 1, 3, 8, 6).size == (8, 6)


def test_a_strip_is_not_blown_up_without_bounds() -> None:
    with pytest.raises(UndecodablePicture, match="and resize=256 would make it 256x5120000"):
        applied("resize=256", Image.new("RGB", (20000, 1)), 1, 3, "h", "w")
