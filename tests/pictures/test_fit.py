"""A PREPROCESS against an input: its axes, its sizes, and the words where they do not fit."""

import pytest

from mlconv.errors import BadPreprocess
from mlconv.pictures.fit import Fitted, fit, integer_range
from mlconv.pictures.grammar import parse
from mlconv.tensors import Dim, TensorSpec


def fitted(text: str, *shape: Dim, dtype: str = "float32") -> Fitted:
    return fit(parse(text), TensorSpec("x", shape, dtype))


@pytest.mark.parametrize(
    ("shape", "axes", "order"),
    [
        ((1, 3, 224, 224), "NCHW", "RGB"),
        (("batch", 224, 224, 3), "NHWC", "RGB"),
        ((1, 28, 28, 1), "NHWC", "GRAY"),
        ((1, 1, 28, 28), "NCHW", "GRAY"),
        ((None, 3, "h", "w"), "NCHW", "RGB"),
        ((3, 32, 32), "CHW", "RGB"),
        ((32, 32, 3), "HWC", "RGB"),
        (("batch", 28, 28), "NHW", "GRAY"),
        ((1, 28, 28), "NHW", "GRAY"),
        ((28, 28), "HW", "GRAY"),
    ],
)
def test_the_shape_tells_the_axes_and_the_channels_where_it_can(
    shape: tuple[Dim, ...], axes: str, order: str
) -> None:
    found = fitted("0..1", *shape)
    assert (found.axes, found.preprocess.order) == (axes, order)


@pytest.mark.parametrize(
    ("text", "shape", "axes"),
    [
        ("order=GRAY", (3, 28, 28), "NHW"),
        ("order=RGB", (1, 3, 4, 1), "NCHW"),
        ("layout=NHWC", (1, 3, 8, 3), "NHWC"),
        ("layout=NHWC", (3, 3, 3), "HWC"),
        ("layout=NCHW", (3, 3, 3), "CHW"),
        ("layout=NCHW", (1, None, None, None), "NCHW"),
        ("mean=1", (3, 28, 28), "CHW"),
    ],
)
def test_stages_tell_what_the_shape_leaves_open(text: str, shape: tuple[Dim, ...], axes: str) -> None:
    assert fitted(text, *shape).axes == axes


@pytest.mark.parametrize(
    ("text", "shape", "word", "fix"),
    [
        ("0..1", (1, 3, 8, 3), "either its second or its last axis", "--preprocess scale=1/255,layout=NHWC, or layout=NCHW"),
        ("0..1", (3, 3, 3), "either its first or its last axis", "--preprocess scale=1/255,layout=NHWC, or layout=NCHW"),
        ("order=BGR", (3, 8, 3), "either its first or its last axis", "--preprocess order=BGR,layout=NHWC, or layout=NCHW"),
        ("0..1", (1, 8, 3), "either its first or its last axis", "--preprocess scale=1/255,layout=NHWC, or layout=NCHW"),
        ("0..1", (1, None, None, None), "nothing tells which axis", "--preprocess scale=1/255,layout=NCHW, or layout=NHWC"),
        ("0..1", (1, 4, 8, 8), "no picture of 1 or 3 channels", "FILE.py:CALLABLE"),
        ("0..1", (0, 3, 8, 8), "no picture", "FILE.py:CALLABLE"),
        ("0..1", (1, 3, 4, 8, 8), "no picture", "FILE.py:CALLABLE"),
        ("order=BGR,0..1", (1, 28, 28, 1), "gives three channels", "--preprocess scale=1/255, with mean"),
        ("imagenet", (1, 1, 28, 28), "gives three channels", "--preprocess resize,crop,scale=1/255, with mean"),
        ("order=GRAY", (1, 3, 28, 28), "gives one channel", "--preprocess 0..1, with mean"),
        ("layout=NHWC,0..1", (1, 3, 28, 28), "which is not NHWC", "--preprocess scale=1/255"),
        ("layout=NHWC", (3, "w"), "which is not NHWC", "--preprocess resize"),
        ("crop=192,0..1", (1, 3, 224, 224), "`crop=192x192` gives pictures of 192x192", "--preprocess crop=224x224,order=RGB,scale=1/255"),
        ("resize=200x300", (1, 3, 224, 224), "gives pictures of 200x300", "--preprocess resize=224x224,"),
        ("letterbox=640", (1, 3, 320, "w"), "gives pictures of 640x640", "--preprocess letterbox=320x640,"),
        ("yolo", (1, 3, "h", "w"), "that is dynamic: 1,3,h,w", "--preprocess upright,letterbox=640x640,order=RGB,scale=1/255"),
        ("crop", (1, 3, "h", "w"), "that is dynamic", "--preprocess crop=224x224,order=RGB,layout=NCHW"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_what_to_type(
    text: str, shape: tuple[Dim, ...], word: str, fix: str
) -> None:
    with pytest.raises(BadPreprocess) as caught:
        fitted(text, *shape)
    assert word in caught.value.what
    assert fix in caught.value.fix


@pytest.mark.parametrize("dtype", ["bool", "str", "complex64"])
def test_what_is_no_number_is_no_picture(dtype: str) -> None:
    with pytest.raises(BadPreprocess, match="which is no kind of picture"):
        fitted("0..1", 1, 3, 8, 8, dtype=dtype)


def test_an_input_of_unknown_rank_asks_for_its_shape() -> None:
    with pytest.raises(BadPreprocess, match="how many axes") as caught:
        fit(parse("0..1"), TensorSpec("x", None, "float32"))
    assert caught.value.fix.startswith("--input x=1,3,224,224")


@pytest.mark.parametrize(
    ("size", "stages"),
    [
        ((224, 224), ("resize=256", "crop=224x224")),  # torchvision's and timm's
        ((299, 299), ("resize=341", "crop=299x299")),  # floor(299 / 0.875)
        ((192, 256), ("resize=219x292:cover", "crop=192x256")),  # timm's ResizeKeepRatio
        (("h", "w"), ("resize=256", "crop=224x224")),
    ],
)
def test_the_sizes_of_imagenet_follow_the_input(size: tuple[Dim, Dim], stages: tuple[str, str]) -> None:
    assert fitted("imagenet", 1, 3, *size).preprocess.stages()[:2] == stages


def test_the_resize_of_imagenet_follows_a_crop_of_the_users_own() -> None:
    assert fitted("imagenet,crop=192", 1, 3, "h", "w").preprocess.stages()[:2] == (
        "resize=219",
        "crop=192x192",
    )
    assert fitted("imagenet,resize=bicubic", 1, 3, 224, 224).preprocess.stages()[0] == "resize=256:bicubic"


def test_sizes_that_were_left_open_are_the_inputs() -> None:
    assert fitted("resize", 1, 32, 48, 3).preprocess.stages()[0] == "resize=32x48"
    assert fitted("yolo", 1, 3, 384, 640).preprocess.stages()[1] == "letterbox=384x640"


def test_a_byte_input_takes_pixels_unless_the_stages_make_real_numbers() -> None:
    assert fitted("resize", 1, 8, 8, 3, dtype="uint8").takes_pixels
    assert not fitted("resize,0..1", 1, 8, 8, 3, dtype="uint8").takes_pixels
    assert not fitted("resize", 1, 8, 8, 3, dtype="int8").takes_pixels


@pytest.mark.parametrize(
    ("dtype", "ends"),
    [("int8", (-128, 127)), ("uint8", (0, 255)), ("uint4", (0, 15)), ("int16", (-32768, 32767))],
)
def test_the_ends_of_integers(dtype: str, ends: tuple[int, int]) -> None:
    assert integer_range(dtype) == ends
