"""The user's data, as it becomes samples."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlconv.checks.data import Data, open_data
from mlconv.checks.data_options import assert_understood, unused
from mlconv.checks.samples import Sample
from mlconv.convert.job import Options
from mlconv.errors import (
    BadPreprocess,
    BadUsage,
    DataDoesNotFit,
    MissingFile,
    RefNotFound,
    UndecodablePicture,
    UserCodeRaised,
)
from mlconv.tensors import Axis, Dim, Quantization, TensorSpec

IMAGE = TensorSpec("x", ("batch", 3), "float32")
AXES = {"batch": Axis("batch")}


def load(data: str, specs: list[TensorSpec], axes: dict[str, Axis], samples: int) -> list[Sample]:
    return list(open_data(Options(data=data, samples=samples), specs, axes).samples)


def test_rows_of_a_file_take_the_place_of_the_batch_axis(tmp_path: Path) -> None:
    rows = np.arange(24, dtype=np.float32).reshape(8, 3)
    np.savez(tmp_path / "data.npz", x=rows, label=np.arange(8))
    samples = load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)
    assert [len(sample.feeds["x"]) for sample in samples] == [2, 1, 3, 2]
    assert sum(sample.rows for sample in samples) == 8
    np.testing.assert_array_equal(np.concatenate([sample.feeds["x"] for sample in samples]), rows)


def test_no_row_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.arange(15, dtype=np.float32).reshape(5, 3))
    samples = load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)
    assert [len(sample.feeds["x"]) for sample in samples] == [2, 1, 2]


def test_as_many_rows_are_taken_as_samples_were_asked_for(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((40, 3), np.float32))
    assert sum(sample.rows for sample in load(str(tmp_path / "data.npz"), [IMAGE], AXES, 5)) == 5


def test_a_fixed_batch_takes_as_many_rows_as_it_holds_and_refuses_what_is_left_over(tmp_path: Path) -> None:
    fixed = [TensorSpec("x", (3, 3), "float32")]
    np.savez(tmp_path / "data.npz", x=np.zeros((6, 3), np.float32))
    assert [sample.feeds["x"].shape for sample in load(str(tmp_path / "data.npz"), fixed, {}, 8)] == [
        (3, 3),
        (3, 3),
    ]
    np.savez(tmp_path / "data.npz", x=np.zeros((7, 3), np.float32))
    with pytest.raises(DataDoesNotFit, match="7 samples, and the model takes 3 at once"):
        load(str(tmp_path / "data.npz"), fixed, {}, 8)


def test_a_folder_holds_one_sample_a_file(tmp_path: Path) -> None:
    for number in range(3):
        np.savez(tmp_path / f"{number}.npz", x=np.full((1, 3), number, np.float32))
    samples = load(str(tmp_path), [IMAGE], AXES, 2)
    assert [float(sample.feeds["x"][0, 0]) for sample in samples] == [0.0, 1.0]


def test_a_callable_yields_samples(tmp_path: Path) -> None:
    (tmp_path / "data.py").write_text(
        "import numpy as np\ndef rows():\n    for i in range(9):\n        yield {'x': np.full((1, 3), i, np.float32)}\n"
        "def broken():\n    raise RuntimeError('the disk is gone')\n    yield\n"
    )
    samples = load(f"{tmp_path}/data.py:rows", [IMAGE], AXES, 4)
    assert len(samples) == 4
    with pytest.raises(UserCodeRaised, match="the disk is gone"):
        load(f"{tmp_path}/data.py:broken", [IMAGE], AXES, 4)
    with pytest.raises(RefNotFound, match="has no `row`"):
        load(f"{tmp_path}/data.py:row", [IMAGE], AXES, 4)


def test_a_single_unnamed_array_stands_for_a_single_input(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", np.zeros((2, 3), np.float32))
    assert load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)[0].feeds["x"].shape == (2, 3)


@pytest.mark.parametrize(
    ("arrays", "word"),
    [
        ({"y": np.zeros((2, 3), np.float32)}, "`y` is no input, input `x` is missing"),
        ({"x": np.zeros((2, 7), np.float32)}, r"shape \[2, 7\], and the input is batch,3"),
        ({"x": np.zeros((2, 3), np.float32), "z": np.zeros(2)}, "`z` is no input"),
    ],
)
def test_what_does_not_fit_is_named(arrays: dict[str, np.ndarray], word: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataDoesNotFit, match=word):
        load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)


def test_numbers_that_the_input_cannot_hold_are_refused_and_others_are_cast(tmp_path: Path) -> None:
    spec = TensorSpec("x", ("batch", 3), "int64")
    np.savez(tmp_path / "good.npz", x=np.array([[1.0, 2.0, 3.0]] * 2))
    assert load(str(tmp_path / "good.npz"), [spec], AXES, 8)[0].feeds["x"].dtype == np.int64
    np.savez(tmp_path / "bad.npz", x=np.array([[1.5, 2.0, 3.0]] * 2))
    with pytest.raises(DataDoesNotFit, match="float64, and the input is int64"):
        load(str(tmp_path / "bad.npz"), [spec], AXES, 8)


def test_strings_of_any_length_feed_an_input_of_strings(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", text=np.array(["a", "longer"]))
    samples = load(str(tmp_path / "data.npz"), [TensorSpec("text", ("batch",), "str")], AXES, 2)
    assert [list(sample.feeds["text"]) for sample in samples] == [["a", "longer"]]


def test_texts_as_objects_feed_an_input_of_strings_and_others_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.py").write_text(
        "import numpy as np\n\n\ndef good():\n    yield {'text': np.array(['a', 'longer'], dtype=object)}\n\n\n"
        "def bad():\n    yield {'text': np.array([b'a', 2], dtype=object)}\n"
    )
    text = TensorSpec("text", ("batch",), "str")
    (sample,) = load(f"{tmp_path}/rows.py:good", [text], AXES, 2)
    assert list(sample.feeds["text"]) == ["a", "longer"]
    assert sample.feeds["text"].dtype.kind == "U"
    with pytest.raises(DataDoesNotFit, match="is object, and the input takes texts") as caught:
        load(f"{tmp_path}/rows.py:bad", [text], AXES, 2)
    assert "savez" not in caught.value.fix


def test_objects_in_a_file_are_never_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataDoesNotFit) as caught:
        load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)
    assert caught.value.why == "it holds Python objects, which are never unpickled"


def test_missing_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"gone\.npz"):
        load(str(tmp_path / "gone.npz"), [IMAGE], AXES, 8)
    with pytest.raises(MissingFile, match=r"gone\.py"):
        load(str(tmp_path / "gone.py:rows"), [IMAGE], AXES, 8)


def test_the_labels_of_a_file_go_with_their_rows(tmp_path: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 3), np.float32), label=np.arange(5))
    samples = load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)
    assert [list(sample.label) for sample in samples if sample.label is not None] == [[0, 1], [2], [3, 4]]
    np.savez(tmp_path / "data.npz", x=np.zeros((5, 3), np.float32), label=np.arange(4))
    with pytest.raises(DataDoesNotFit, match="different numbers of samples: `x` 5, `label` 4"):
        load(str(tmp_path / "data.npz"), [IMAGE], AXES, 8)


def test_an_input_may_be_called_label(tmp_path: Path) -> None:
    spec = TensorSpec("label", ("batch", 3), "float32")
    np.savez(tmp_path / "data.npz", label=np.ones((2, 3), np.float32))
    (sample,) = load(str(tmp_path / "data.npz"), [spec], AXES, 8)
    assert sample.feeds["label"].shape == (2, 3)
    assert sample.label is None


def test_a_fixed_batch_takes_whole_batches_of_a_longer_file(tmp_path: Path) -> None:
    fixed = [TensorSpec("x", (3, 3), "float32")]
    np.savez(tmp_path / "data.npz", x=np.zeros((30, 3), np.float32))
    assert sum(sample.rows for sample in load(str(tmp_path / "data.npz"), fixed, {}, 8)) == 9
    np.savez(tmp_path / "data.npz", x=np.zeros((7, 3), np.float32))
    with pytest.raises(DataDoesNotFit) as caught:
        load(str(tmp_path / "data.npz"), fixed, {}, 8)
    assert caught.value.fix.startswith("--samples 6, or ")
    assert sum(sample.rows for sample in load(str(tmp_path / "data.npz"), fixed, {}, 6)) == 6


# ------------------------------------------------------------------ a callable


CALLABLES = """
import numpy as np
ROWS = [{'x': [[1, 2, 3]]}]
class Rows:
    def __iter__(self):
        yield {'x': [[1.0, 2, 3]], 'label': 7}
def one():
    return {'x': np.zeros((1, 3), np.float32)}
def nothing():
    pass
def bare():
    yield np.zeros((1, 3), np.float32)
def ragged():
    yield {'x': [[1, 2], [3]]}
def flat():
    yield {'x': np.zeros(3, np.float32)}
def needy(path):
    yield {}
def leaves():
    raise SystemExit(3)
"""


@pytest.fixture
def callables(tmp_path: Path) -> str:
    (tmp_path / "data.py").write_text(CALLABLES)
    return f"{tmp_path}/data.py"


def test_anything_that_iterates_over_samples_is_taken(callables: str) -> None:
    (sample,) = load(f"{callables}:Rows", [IMAGE], AXES, 4)
    assert sample.feeds["x"].tolist() == [[1, 2, 3]]
    assert sample.label == 7


@pytest.mark.parametrize(
    ("name", "kind", "word", "fix"),
    [
        ("one", DataDoesNotFit, "returned one dict, and it has to yield samples", "yield {'x': array} for each sample"),
        ("nothing", DataDoesNotFit, "returned nothing, and it has to yield samples", "yield {'x': array}"),
        ("bare", DataDoesNotFit, "yielded one ndarray, and a sample is a dictionary", "yield {'x': array}"),
        ("ROWS", RefNotFound, "is a list, and --data calls what it names", "write a function in"),
        ("needy", RefNotFound, "is `needy(path)`, and it is called without arguments", "default values"),
        ("flat", DataDoesNotFit, "has the shape [3], and the input is batch,3", "in the input's own shape"),
        ("leaves", UserCodeRaised, "raised SystemExit: 3", "mend it in data.py"),
        ("ragged", UserCodeRaised, "making an array of `x`", "mend it in data.py"),
    ],
)  # fmt: skip
def test_a_callable_that_does_not_fit_is_told_the_contract(
    name: str, kind: type, word: str, fix: str, callables: str
) -> None:
    with pytest.raises(kind) as caught:
        load(f"{callables}:{name}", [IMAGE], AXES, 4)
    assert word in caught.value.what  # type: ignore[attr-defined]
    assert fix in caught.value.fix  # type: ignore[attr-defined]


def test_what_a_callable_raises_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(
        "def rows():\n    yield {'x': [[1, 2, 3]]}\n    open('nowhere/to/be/found')\n"
    )
    with pytest.raises(UserCodeRaised, match="raised FileNotFoundError") as caught:
        load(f"{tmp_path}/deep.py:rows", [IMAGE], AXES, 4)
    assert caught.value.why == "it happened there (at deep.py:3 `open('nowhere/to/be/found')`)"


def test_a_file_that_cannot_be_imported_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "absent.py").write_text("import numpy\nimport no_such_module_anywhere\n")
    with pytest.raises(UserCodeRaised, match=r"importing `absent\.py` raised ModuleNotFoundError") as caught:
        load(f"{tmp_path}/absent.py:rows", [IMAGE], AXES, 4)
    assert "absent.py:2" in (caught.value.why or "")


# ------------------------------------------------------------------ pictures


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes of pictures 4 high and 6 wide, each of one colour: cat 10, 11, 12 and dog 20, 21."""
    for name, count, first in (("cat", 3, 10), ("dog", 2, 20)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(count):
            colour = (first + number,) * 3
            Image.new("RGB", (6, 4), colour).save(tmp_path / "photos" / name / f"{number}.png")
    return tmp_path / "photos"


def opened(data: Path | str, preprocess: str, *shape: Dim, samples: int = 8, dtype: str = "float32",
           quantization: Quantization | None = None, axes: dict[str, Axis] | None = None) -> Data:  # fmt: skip
    options = Options(data=str(data), preprocess=preprocess, samples=samples)
    return open_data(options, [TensorSpec("x", shape, dtype, quantization)], axes or {})


def colours(sample: Sample) -> list[float]:
    return [float(row.flat[0]) for row in sample.feeds["x"]]


def test_pictures_are_fed_one_by_one_with_their_labels(photos: Path) -> None:
    data = opened(photos, "resize", 1, 3, 4, 6)
    samples = list(data.samples)
    assert [colours(sample) for sample in samples] == [[10], [20], [11], [21], [12]]
    assert [int(sample.label[0]) for sample in samples if sample.label is not None] == [0, 1, 0, 1, 0]
    told = data.told()
    assert told is not None
    assert (told.pictures, told.classes, told.range) == (5, ("cat", "dog"), (10, 21))
    assert told.stages == ("resize=4x6", "order=RGB", "layout=NCHW")
    assert data.notes() == []


def test_the_record_is_a_preprocess_that_does_the_same(photos: Path) -> None:
    data = opened(photos, "imagenet,resize=5", 1, 3, 4, 4)
    first = [sample.feeds["x"] for sample in data.samples]
    told = data.told()
    assert told is not None
    again = opened(photos, ",".join(told.stages), 1, 3, 4, 4)
    np.testing.assert_array_equal(first, [sample.feeds["x"] for sample in again.samples])


def test_as_many_pictures_are_fed_as_samples_were_asked_for(photos: Path) -> None:
    data = opened(photos, "resize", 1, 3, 4, 6, samples=3)
    assert sum(sample.rows for sample in data.samples) == 3


def test_a_dynamic_batch_takes_several_sizes(photos: Path) -> None:
    data = opened(photos, "resize", "batch", 4, 6, 3, axes=AXES)
    assert [(len(sample.feeds["x"]), sample.sizes) for sample in data.samples] == [
        (2, {"batch": 2}),
        (1, {"batch": 1}),
        (2, {"batch": 2}),
    ]


def test_a_fixed_batch_leaves_over_what_does_not_fill_one_and_says_so(photos: Path) -> None:
    data = opened(photos, "resize", 2, 3, 4, 6)
    assert [colours(sample) for sample in data.samples] == [[10, 20], [11, 21]]
    assert data.notes() == [f"1 picture of `{photos}` was left over, since the model takes several at once"]
    with pytest.raises(DataDoesNotFit, match="holds 5 pictures, and the model takes 6 at once"):
        next(opened(photos, "resize", 6, 3, 4, 6).samples)


def test_a_model_without_a_batch_axis_takes_pictures_alone(photos: Path) -> None:
    sample = next(opened(photos, "0..1", 4, 6, 3).samples)
    assert sample.feeds["x"].shape == (4, 6, 3)


def test_dynamic_sides_take_the_size_of_the_picture(photos: Path) -> None:
    Image.new("RGB", (5, 9)).save(photos / "cat" / "9.png")
    data = opened(
        photos / "cat", "0..1", "n", 3, "h", "w", axes={"n": Axis("n"), "h": Axis("h"), "w": Axis("w")}
    )
    assert [sample.sizes for sample in data.samples] == [
        {"n": 2, "h": 4, "w": 6},
        {"n": 1, "h": 4, "w": 6},
        {"n": 1, "h": 9, "w": 5},
    ]
    data = opened(photos / "cat", "0..1", 1, 3, "h", "w", axes={"h": Axis("h", 8, 64, 8), "w": Axis("w")})
    with pytest.raises(BadPreprocess, match=r"axis `h` of `x` takes 8\.\.64 in steps of 8") as caught:
        next(data.samples)
    assert caught.value.fix == "--preprocess resize=8x8,order=RGB,scale=1/255,layout=NCHW"
    with pytest.raises(BadPreprocess, match="and the model takes several at once") as caught:
        list(opened(photos / "cat", "0..1", 2, 3, None, None).samples)
    assert caught.value.fix.startswith("--preprocess resize=4x6,order=RGB,scale=1/255,layout=NCHW")


def test_what_was_done_to_pictures_is_noted(photos: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 3)).save(photos / "cat" / "0.png", exif=exif)
    (photos / "cat" / "labels.csv").touch()
    data = opened(photos, "crop=4x6", 1, 3, 4, 6)
    assert len(list(data.samples)) == 5
    assert data.notes() == [
        "1 picture has an EXIF orientation that was not applied, as torchvision and Keras do; the stage `upright` applies it",
        "1 picture has a side shorter than the crop and was padded with black, as torchvision does",
        f"`{photos}` holds other files than pictures, which were passed over: `labels.csv`",
    ]


def test_numbers_that_a_quantized_input_cuts_are_noted(tmp_path: Path) -> None:
    bright = np.full((10, 10, 3), 100, np.uint8)
    bright[0, :5] = 255
    Image.fromarray(bright).save(tmp_path / "a.png")
    data = opened(tmp_path, "0..1", 1, 10, 10, 3, dtype="uint8", quantization=Quantization(1 / 300, 0))
    sample = next(data.samples)
    assert (sample.feeds["x"].min(), sample.feeds["x"].max()) == (118, 255)  # 100 / 255 * 300 = 117.6
    assert data.notes() == [
        "1 picture went beyond what the integers of `x` stand for: up to 5 % of one was cut"
    ]
    told = data.told()
    assert told is not None
    assert told.quantization == Quantization(1 / 300, 0)


def test_one_picture_is_data_too(photos: Path) -> None:
    assert colours(next(opened(photos / "cat" / "1.png", "resize", 1, 3, 4, 6).samples)) == [11]


def test_a_broken_picture_is_named(photos: Path) -> None:
    (photos / "dog" / "0.png").write_bytes(b"<html>")
    with pytest.raises(UndecodablePicture, match=r"dog/0\.png` cannot be decoded"):
        list(opened(photos, "resize", 1, 3, 4, 6).samples)


def test_pictures_feed_one_input(photos: Path) -> None:
    specs = [TensorSpec("image", (1, 3, 4, 6), "float32"), TensorSpec("size", (2,), "int64")]
    with pytest.raises(DataDoesNotFit, match="takes 2 inputs, `image`, `size`, and pictures feed one"):
        open_data(Options(data=str(photos), preprocess="resize"), specs, {})


# ------------------------------------------------------------------ a function in place of stages


FUNCTIONS = """
import numpy as np
def plain(image):
    assert image.mode == 'RGB'
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255
def batched(image):
    return plain(image)[None]
def small(image):
    return np.zeros((3, 2, 2), np.float32)
def words(image):
    return ['cat']
def real(image):
    return np.full((3, 4, 6), 0.5)
def broken(image):
    return image.no_such_thing
def two(image, size):
    return image
"""


@pytest.fixture
def functions(tmp_path: Path) -> str:
    (tmp_path / "prepare.py").write_text(FUNCTIONS)
    return f"{tmp_path}/prepare.py"


@pytest.mark.parametrize("name", ["plain", "batched"])
def test_a_function_takes_a_picture_and_gives_the_array(name: str, functions: str, photos: Path) -> None:
    data = opened(photos, f"{functions}:{name}", "n", 3, 4, 6, axes={"n": Axis("n")})
    sample = next(data.samples)
    np.testing.assert_allclose(colours(sample), [10 / 255, 20 / 255], rtol=1e-6)
    told = data.told()
    assert told is not None
    assert told.stages == (f"{functions}:{name}",)
    assert told.sha256 is not None


@pytest.mark.parametrize(
    ("name", "dtype", "kind", "word"),
    [
        ("small", "float32", BadPreprocess, "makes an array of shape [3, 2, 2]"),
        ("words", "float32", BadPreprocess, "makes an array of shape [1]"),
        ("real", "uint8", BadPreprocess, "makes an array of float64"),
        ("broken", "float32", UserCodeRaised, "raised AttributeError"),
        ("two", "float32", RefNotFound, "it is called with one argument, a PIL picture"),
        ("none", "float32", RefNotFound, "has no `none`"),
    ],
)
def test_a_function_that_does_not_fit_is_told_why(
    name: str, dtype: str, kind: type, word: str, functions: str, photos: Path
) -> None:
    with pytest.raises(kind) as caught:
        next(opened(photos, f"{functions}:{name}", 1, 3, 4, 6, dtype=dtype).samples)
    assert word in caught.value.what  # type: ignore[attr-defined]


# ------------------------------------------------------------------ what is told before anything runs


def test_pictures_without_preprocess_are_told_what_to_type(photos: Path) -> None:
    with pytest.raises(BadPreprocess, match="nothing tells how they become inputs") as caught:
        assert_understood(Options(data=str(photos)))
    assert "--preprocess imagenet" in caught.value.fix
    with pytest.raises(BadPreprocess, match="nothing tells how it becomes an input"):
        assert_understood(Options(data=str(photos / "cat" / "0.png")))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"atol": 1e-3}, "--atol"),
        ({"rtol": 0.0}, "--rtol"),
        ({"samples": 3}, "--samples"),
        ({"atol": 0.1, "samples": 2}, "--atol and --samples"),
    ],
)
def test_figures_of_a_comparison_that_is_not_made_are_refused(given: dict[str, Any], told: str) -> None:
    assert_understood(Options(**given))
    with pytest.raises(BadUsage) as caught:
        assert_understood(Options(parity=False, **given))
    assert caught.value.what == f"{told} with --no-parity: nothing is compared"
    assert caught.value.fix == f"leave {told} out, or --no-parity"


def test_data_for_a_comparison_that_is_not_made_are_told_of() -> None:
    for quiet in (Options(parity=False), Options(data="d.npz")):
        assert unused(quiet) == ()
    (warning,) = unused(Options(parity=False, data="d.npz"))
    assert warning.startswith("--data had no effect")
    (warning,) = unused(Options(parity=False, data="d", preprocess="imagenet"))
    assert warning.startswith("--data and --preprocess had no effect")


def test_preprocess_without_pictures_is_told(tmp_path: Path) -> None:
    with pytest.raises(BadUsage, match="there are no pictures") as caught:
        assert_understood(Options(preprocess="imagenet"))
    assert caught.value.fix == "--data FOLDER_OF_PICTURES --preprocess imagenet"
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    for data in (tmp_path / "data.npz", tmp_path):
        with pytest.raises(BadUsage, match=r"is for pictures, and .* gives arrays"):
            assert_understood(Options(data=str(data), preprocess="imagenet"))


def test_arrays_and_pictures_in_one_folder_are_refused(photos: Path) -> None:
    np.savez(photos / "a.npz", x=np.zeros(3))
    with pytest.raises(
        DataDoesNotFit, match=r"holds both \.npz files \(`a\.npz`\) and pictures \(`0\.png`\)"
    ):
        assert_understood(Options(data=str(photos), preprocess="imagenet"))


def test_a_preprocess_file_that_is_missing_is_told(photos: Path) -> None:
    with pytest.raises(MissingFile, match=r"no file `gone\.py`"):
        assert_understood(Options(data=str(photos), preprocess="gone.py:picture"))


def test_data_that_is_missing_is_told_what_there_is() -> None:
    with pytest.raises(MissingFile, match="no data at `gone`") as caught:
        assert_understood(Options(data="gone", preprocess="imagenet"))
    assert "of pictures" in caught.value.fix


@pytest.mark.parametrize(("stages", "few"), [("resize,0..1", True), ("resize", False)])
def test_a_range_far_too_narrow_for_a_quantized_input_is_told(tmp_path: Path, stages: str, few: bool) -> None:
    """Integers that stand for 0..255, as of a network that was trained on pixels."""
    (tmp_path / "photos").mkdir()
    pixels = np.linspace(0, 255, 4 * 6 * 3).reshape(4, 6, 3).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "a.png")
    spec = TensorSpec("x", (1, 4, 6, 3), "int8", Quantization(1.0, -128))
    data = open_data(
        Options(data=str(tmp_path / "photos"), preprocess=f"{stages},layout=NHWC", samples=1), [spec], {}
    )
    assert len(list(data.samples)) == 1
    told = [note for note in data.notes() if "the pictures became 2 of 256 integers" in note]
    assert bool(told) == few
