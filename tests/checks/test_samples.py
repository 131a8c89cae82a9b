"""Inputs for parity: drawn within the signature, or read from the user's data."""

from pathlib import Path

import numpy as np
import pytest

from mlconv.checks.samples import draw, is_narrow, load, static_shape
from mlconv.errors import DataDoesNotFit, MissingFile, RefNotFound, UnsupportedType, UserCodeRaised
from mlconv.tensors import Axis, Quantization, TensorSpec

IMAGE = TensorSpec("x", ("batch", 3), "float32")
AXES = {"batch": Axis("batch")}


def test_the_same_seed_draws_the_same_values_and_another_one_others() -> None:
    a, b, c = (draw([IMAGE], {"batch": 2}, seed, 0, kind="unit").feeds["x"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_floats_lie_between_zero_and_one_unless_they_are_wide() -> None:
    spec = TensorSpec("x", (1000,), "float32")
    narrow = draw([spec], {}, 0, 0, kind="unit").feeds["x"]
    wide = draw([spec], {}, 0, 0, kind="normal").feeds["x"]
    assert 0 <= narrow.min() < narrow.max() < 1
    assert wide.min() < -1
    assert wide.max() > 1


def test_a_given_range_is_kept_in_wide_samples_too() -> None:
    spec = TensorSpec("x", (1000,), "float32", values=(10.0, 11.0))
    sample = draw([spec], {}, 0, 1, kind="normal")
    assert sample.kind == "unit"
    assert 10 <= sample.feeds["x"].min() < sample.feeds["x"].max() <= 11


@pytest.mark.parametrize(
    ("spec", "low", "high"),
    [
        (TensorSpec("i", (5000,), "int64"), 0, 1),
        (TensorSpec("i", (5000,), "int64", values=(0, 9)), 0, 9),
        (TensorSpec("i", (5000,), "uint8"), 0, 255),
        (TensorSpec("i", (5000,), "int8", Quantization(0.1, 3)), -128, 127),
        (TensorSpec("i", (5000,), "bool"), False, True),
    ],
)
def test_integers_are_drawn_from_the_range_that_is_known(spec: TensorSpec, low: int, high: int) -> None:
    array = draw([spec], {}, 0, 0, kind="unit").feeds["i"]
    assert array.dtype == np.dtype(spec.dtype)
    assert (array.min(), array.max()) == (low, high)


def test_eight_samples_hold_negative_large_and_zero_rows() -> None:
    spec = TensorSpec("x", (50, 20), "float32")
    drawn = {sample.kind: sample.feeds["x"] for sample in (draw([spec], {}, 0, index) for index in range(8))}
    assert set(drawn) == {"unit", "normal", "negative", "rows", "bytes", "large"}
    assert drawn["negative"].max() <= 0
    assert drawn["bytes"].max() > 200
    assert drawn["large"].min() < -20
    zero = (drawn["rows"] == 0).all(-1)
    assert zero.any()
    assert not zero.all()


def test_a_table_is_indexed_at_both_ends() -> None:
    ids = draw([TensorSpec("i", (7,), "int64", values=(0, 999_999))], {}, 0, 0).feeds["i"]
    assert (ids[0], ids[-1]) == (0, 999_999)


def test_an_integer_without_a_range_is_narrow_and_a_byte_is_not() -> None:
    assert is_narrow(TensorSpec("i", (1,), "int64"))
    assert not is_narrow(TensorSpec("i", (1,), "uint8"))
    assert not is_narrow(TensorSpec("i", (1,), "int64", values=(0, 9)))
    assert not is_narrow(TensorSpec("x", (1,), "float32"))


def test_strings_cannot_be_drawn() -> None:
    with pytest.raises(UnsupportedType, match="`s` takes strings"):
        draw([TensorSpec("s", (1,), "str")], {}, 0, 0, kind="unit")


def test_a_shape_takes_the_sizes_of_its_axes() -> None:
    assert static_shape(TensorSpec("x", ("batch", None, 3), "float32"), {"batch": 4}) == (4, 1, 3)


# ------------------------------------------------------------------ the user's data


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
