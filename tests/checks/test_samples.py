"""Inputs for parity, drawn within the signature."""

import numpy as np
import pytest

from mlconv.checks.samples import draw, is_narrow, static_shape
from mlconv.errors import UnsupportedType
from mlconv.tensors import Quantization, TensorSpec

IMAGE = TensorSpec("x", ("batch", 3), "float32")


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
    assert set(drawn) == {"unit", "normal", "negative", "rows", "bytes", "round", "large"}
    assert drawn["negative"].max() <= 0
    assert drawn["bytes"].max() > 200
    assert drawn["large"].min() < -20
    numbers = drawn["round"].astype(float)
    assert {0.0, 0.5, -0.5, 1.0, -1.0, 20.0, -20.0} <= set(numbers.flat)
    np.testing.assert_allclose(numbers * 10, np.round(numbers * 10), atol=1e-5)
    assert (numbers[:, 1:] == numbers[:, :-1]).mean() > 0.15
    zero = (drawn["rows"] == 0).all(-1)
    assert zero.any()
    assert not zero.all()


def test_a_table_is_indexed_at_both_ends() -> None:
    ids = draw([TensorSpec("i", (7,), "int64", values=(0, 999_999))], {}, 0, 0).feeds["i"]
    assert (ids[0], ids[-1]) == (0, 999_999)


def test_samples_together_read_every_row_of_a_table_that_they_can_cover() -> None:
    spec = TensorSpec("i", (1, 128), "int64", values=(0, 999))
    drawn = [draw([spec], {}, 3, index).feeds["i"].ravel() for index in range(8)]
    assert set(np.concatenate(drawn)) == set(range(1000))
    assert all(len(set(ids[1:-1])) == 126 for ids in drawn)
    assert all((ids[0], ids[-1]) == (0, 999) for ids in drawn)


def test_a_small_table_is_read_evenly_and_in_no_fixed_order() -> None:
    spec = TensorSpec("i", (40, 10), "int64", values=(-2, 7))
    ids = draw([spec], {}, 0, 0).feeds["i"]
    counts = np.unique(ids, return_counts=True)[1]
    assert counts.min() >= 39
    assert counts.max() <= 42
    assert len(np.unique(ids, axis=0)) == 40


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


@pytest.mark.parametrize(
    ("dtype", "values", "low", "high"),
    [
        ("bool", (1, 1), True, True),
        ("int8", (-500, 500), -128, 127),
        ("uint64", (0, 2.0**64), 0, 2**64 - 1),
        ("int64", (-(2.0**70), 0), -(2**63), 0),
    ],
)
def test_a_given_range_ends_where_the_type_does(
    dtype: str, values: tuple[float, float], low: int, high: int
) -> None:
    array = draw([TensorSpec("i", (50,), dtype, values=values)], {}, 0, 0).feeds["i"]
    assert (array.min(), array.max()) == (low, high)


def test_marks_are_inputs_of_zero_and_one_for_want_of_a_range() -> None:
    mask, flag = TensorSpec("m", (9, 4), "int64"), TensorSpec("b", (), "bool")
    ids = TensorSpec("i", (9, 4), "int64", values=(0, 9))
    first = draw([mask, flag, ids], {}, 0, 0, marks="first").feeds
    assert first["m"][:, 0].all()
    assert not first["m"].all()
    assert first["b"]
    plain = draw([mask, flag, ids], {}, 0, 0).feeds
    np.testing.assert_array_equal(first["i"], plain["i"])
    assert draw([mask], {}, 0, 0, marks="ones").feeds["m"].all()
    assert not draw([mask], {}, 0, 0, marks="zeros").feeds["m"].any()
