"""PREPROCESS: the grammar, and the words of what is not of it."""

import pytest

from mlconv.errors import BadPreprocess
from mlconv.pictures.grammar import parse
from mlconv.pictures.preprocess import Crop, Letterbox, Number, Preprocess, Resize


def test_all_of_the_grammar() -> None:
    found = parse(
        "resize=256,crop=224,upright,order=BGR,scale=1/255,mean=.485:.456:.406,std=.229:.224:.225,layout=NHWC"
    )
    assert found.geometry == (Resize(shorter=256), Crop((224, 224)))
    assert (found.upright, found.order, found.layout) == (True, "BGR", "NHWC")
    assert found.scale == Number(1, 255)
    assert [mean.value for mean in found.mean] == [0.485, 0.456, 0.406]
    assert [std.value for std in found.std] == [0.229, 0.224, 0.225]


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("resize=256", Resize(shorter=256)),
        ("resize=256:bicubic", Resize(shorter=256, filter="bicubic")),
        ("resize=192x256", Resize(size=(192, 256))),
        ("resize=192:256", Resize(size=(192, 256))),
        ("resize=192:256:nearest", Resize(size=(192, 256), filter="nearest")),
        ("resize=192x256:cover:lanczos", Resize(size=(192, 256), cover=True, filter="lanczos")),
        ("resize", Resize()),
        ("RESIZE = 8 ", Resize(shorter=8)),
        ("resize=opencv", Resize(filter="opencv")),
        ("crop", Crop()),
        ("crop=192x224", Crop((192, 224))),
        ("letterbox", Letterbox()),
        ("letterbox=640", Letterbox((640, 640))),
        ("letterbox=384x640", Letterbox((384, 640))),
    ],
)
def test_sizes(text: str, stage: Resize | Crop | Letterbox) -> None:
    assert parse(text).geometry == (stage,)


def test_what_changes_the_size_keeps_the_order_of_writing() -> None:
    assert parse("crop=100,resize=50").geometry == (Crop((100, 100)), Resize(shorter=50))


@pytest.mark.parametrize(
    ("text", "stages"),
    [
        ("0..1", ("scale=1/255",)),
        ("-1..1", ("scale=1/127.5", "mean=1")),
        ("yolo", ("upright", "letterbox", "order=RGB", "scale=1/255")),
        ("resize=28x28,0..1,order=gray", ("resize=28x28", "order=GRAY", "scale=1/255")),
        ("yolo,letterbox=320,order=BGR", ("upright", "letterbox=320x320", "order=BGR", "scale=1/255")),
        (
            "imagenet,resize=232:bicubic",
            ("resize=232:bicubic", "crop", "scale=1/255", "mean=0.485:0.456:0.406", "std=0.229:0.224:0.225"),
        ),
        ("mean=127.5,std=127.5", ("mean=127.5", "std=127.5")),
        ("scale=2e-3", ("scale=0.002",)),
    ],
)
def test_a_preset_stands_for_stages_and_a_stage_beside_it_replaces_its_own(
    text: str, stages: tuple[str, ...]
) -> None:
    assert parse(text).stages() == stages


@pytest.mark.parametrize(
    "text", ["yolo,letterbox=320", "crop=9,resize=5x7:cover:hamming,layout=NCHW", "-1..1,order=BGR,upright"]
)
def test_the_stages_parse_to_the_same(text: str) -> None:
    found = parse(text)
    again = parse(",".join(found.stages()))
    assert again.stages() == found.stages()


def test_a_function_stands_alone() -> None:
    assert parse("my/prepare.py:picture") == Preprocess(
        "my/prepare.py:picture", function="my/prepare.py:picture"
    )
    with pytest.raises(BadPreprocess, match="stands alone") as caught:
        parse("resize=224,prepare.py:picture")
    assert caught.value.fix == "--preprocess prepare.py:picture"


@pytest.mark.parametrize(
    ("text", "word", "fix"),
    [
        ("", "is empty", "imagenet"),
        ("resise=224,0..1", "no stage `resise`", "--preprocess resize=224,0..1"),
        ("image-net", "no stage `image-net`", "--preprocess imagenet"),
        ("zzz", "no stage `zzz`", "--preprocess imagenet, or"),
        ("yolo,order=BGR,yolo", "are two presets", "--preprocess yolo,order=BGR"),
        ("imagenet,yolo", "are two presets", "--preprocess imagenet"),
        ("crop=1,0..1,crop=2", "stands there twice", "--preprocess crop=1,0..1"),
        ("resize=0", "`resize=0` is not understood", "resize=256"),
        ("resize=224x224x3", "`resize=224x224x3` is not understood", "resize=224x224"),
        ("resize=-5", "not understood", "resize=256"),
        ("resize=8x9:bicubik,0..1", "not understood", "--preprocess resize=8x9:bicubic,0..1"),
        ("resize=224:cover", "not understood", "resize=224x224"),
        ("crop=224:bicubic", "not understood", "crop=224"),
        ("crop=99999999", "not understood", "crop=224"),
        ("order=Grayscale,0..1", "`order=Grayscale` is not understood", "--preprocess order=GRAY,0..1"),
        ("layout=CHW", "`layout=CHW` is not understood", "--preprocess layout=NCHW"),
        ("scale", "`scale` is not understood", "scale=1/255"),
        ("scale=1/0", "not understood", "scale=1/255"),
        ("scale=nan", "not understood", "scale=1/255"),
        ("scale=1e308/1e-308", "not understood", "scale=1/255"),
        (
            "scale=1/255,mean=.4,.5,.6,std=.2,.2,.3",
            "`.5` is no stage",
            "--preprocess scale=1/255,mean=.4:.5:.6,std=.2:.2:.3",
        ),
        ("0..1,mean=[.4, .5, .6]", "is no stage", "--preprocess 0..1,mean=.4:.5:.6"),
        ("crop=224,192", "`192` is no stage", "--preprocess crop=224:192"),
        ("scale=-1", "not understood", "scale=1/255"),
        ("std=0", "not understood", "std=.229"),
        ("mean=1:2", "`mean=1:2` is not understood", "mean=.485:.456:.406"),
        ("upright=yes", "not understood", "upright"),
        ("order=GRAY,mean=.4:.4:.4,scale=1/255", "GRAY is one channel", "one value"),
    ],
)
def test_what_is_not_of_the_grammar_is_told_what_would_be(text: str, word: str, fix: str) -> None:
    with pytest.raises(BadPreprocess) as caught:
        parse(text)
    assert word in caught.value.what
    assert fix in caught.value.fix


def test_a_mean_of_another_range_than_the_pixels_is_told_in_theirs() -> None:
    with pytest.raises(
        BadPreprocess, match=r"lies outside the pixels, which are 0\.\.1 after scale"
    ) as caught:
        parse("scale=1/255,mean=123.675:116.28:103.53,std=58.395:57.12:57.375")
    assert caught.value.fix == "--preprocess scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"
    assert parse(caught.value.fix.removeprefix("--preprocess ")).mean[0].value == 0.485
    with pytest.raises(BadPreprocess, match=r"without scale they are 0\.\.255") as caught:
        parse("mean=.485:.456:.406,std=.229:.224:.225")
    assert caught.value.fix == "--preprocess scale=1/255,mean=0.485:0.456:0.406,std=0.229:0.224:0.225"
