"""The files that conversions are judged on, each once, and what they are fed with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from benchmarks.tflite_sources import feeds_of, smooth_picture, sources

from mlconv.tensors import Quantization, TensorSpec

CODES = Quantization(0.1, 3)


def test_a_file_that_lies_in_two_places_stands_once_under_its_first_name(tmp_path: Path) -> None:
    models, pairs, made = (tmp_path / name for name in ("models", "edgetpu", "made"))
    for folder in (models, pairs / "pairs", made):
        folder.mkdir(parents=True)
    (models / "a.tflite").write_bytes(b"same")
    (pairs / "pairs" / "repo__a_quant.tflite").write_bytes(b"same")
    (pairs / "pairs" / "repo__b_quant.tflite").write_bytes(b"other")
    (made / "c.tflite").write_bytes(b"third")
    rows = [
        {"id": "m1", "format": "tflite", "local": "a.tflite"},
        {"id": "m2", "format": "onnx", "local": "x.onnx"},
    ]
    (models / "index.json").write_text(json.dumps(rows))
    found = [{"source": f"pairs/repo__{name}_quant.tflite"} for name in "ab"]
    (pairs / "pairs.json").write_text(json.dumps(found))
    assert [source.name for source in sources(models, pairs, made)] == ["m1", "b_quant", "c"]


def test_folders_that_are_not_there_hold_nothing(tmp_path: Path) -> None:
    assert sources(None, None, tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    ("dtype", "low", "high"), [("uint8", 0, 255), ("int8", -128, 127), ("float32", 0.0, 1.0)]
)
def test_a_network_on_pictures_gets_pixels_over_nearly_their_whole_range(
    dtype: str, low: float, high: float
) -> None:
    quantization = None if dtype == "float32" else CODES
    fed = feeds_of([TensorSpec("image", ("batch", 40, 40, 3), dtype, quantization)])
    assert [one.kind for one in fed] == ["pictures", "pictures", "noise", "noise", "extremes"]
    for one in fed[:2]:
        array = one.feeds["image"]
        assert (array.shape, array.dtype.name) == ((1, 40, 40, 3), dtype)
        assert low <= array.min() < low + 0.05 * (high - low)
        assert high >= array.max() > high - 0.05 * (high - low)


def test_what_takes_no_pictures_gets_numbers_alone() -> None:
    fed = feeds_of([TensorSpec("codes", (1, 8), "int8", CODES), TensorSpec("steps", (1,), "int32")])
    assert [one.kind for one in fed] == ["noise", "noise", "extremes"]
    assert all(list(one.feeds) == ["codes", "steps"] for one in fed)


def test_the_extremes_of_codes_are_neighbours_at_both_ends_of_the_type() -> None:
    (extremes,) = (
        one for one in feeds_of([TensorSpec("codes", (1, 2, 2), "int8", CODES)]) if one.kind == "extremes"
    )
    assert extremes.feeds["codes"].tolist() == [[[-128, 127], [127, -128]]]


def test_the_extremes_of_an_index_stay_within_its_table() -> None:
    (extremes,) = (
        one for one in feeds_of([TensorSpec("index", (3,), "int32", values=(0, 9))]) if one.kind == "extremes"
    )
    assert extremes.feeds["index"].tolist() == [0, 9, 0]


def test_pictures_of_a_seed_are_the_same_again_and_of_another_are_not() -> None:
    first, again, other = (smooth_picture(np.random.default_rng(seed), 24, 32, 1) for seed in (0, 0, 1))
    assert first.shape == (24, 32, 1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
