"""Scattering operators of TFLite: the importer against LiteRT, to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import by_litert, by_onnxruntime, imported, relative
from tflite_moves import QUANTIZED, Result, agree, fed, held, model, some

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

RNG = np.random.default_rng(0)


def quantized(dtype: str) -> tuple[float | None, int]:
    return QUANTIZED.get(dtype, (None, 0))


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize("repeated", [False, True])
def test_scattering_adds_up(tmp_path: Path, dtype: str, constant: bool, repeated: bool) -> None:
    if dtype == "bool" and repeated:
        pytest.skip("what a sum of truths is, no one says")
    places = np.array([[0, 1], [3, 2], [0, 1] if repeated else [2, 2]], np.int32)
    updates = some((3, 5), dtype)
    given = [held(places) if constant else fed(places), fed(updates, *quantized(dtype)), held([4, 3, 5])]
    agree(tmp_path / "m.tflite", "SCATTER_ND", given, Result(dtype, *quantized(dtype)))


@pytest.mark.parametrize("computed", [False, True])
def test_no_update_of_a_place_is_lost_between_threads(tmp_path: Path, computed: bool) -> None:
    """As onnxruntime's ScatterND loses some."""
    places = RNG.integers(0, 3, (20000, 1), np.int32)
    sizes = np.array([3, 64], np.int32)
    given = [fed(places), fed(np.ones((20000, 64), np.float32)), fed(sizes) if computed else held(sizes)]
    for number in range(4):
        agree(tmp_path / f"{number}.tflite", "SCATTER_ND", given)


def test_scattering_what_may_repeat_needs_opset_16(tmp_path: Path) -> None:
    given = [fed(np.array([[0], [2]], np.int32)), fed(some((2, 5))), held([4, 5])]
    with pytest.raises(UnsupportedOperator, match="opset 16"):
        agree(tmp_path / "m.tflite", "SCATTER_ND", given, opset=15)
    given[0] = held([[0], [2]])
    agree(tmp_path / "m.tflite", "SCATTER_ND", given, opset=13)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("indices", [2, [1, 3], [[0, 1], [2, 2]]])
@pytest.mark.parametrize("one_value", [False, True])
def test_a_sparse_tensor_becomes_dense_as_in_litert(
    tmp_path: Path, dtype: str, indices: Any, one_value: bool
) -> None:
    places = np.array(indices, np.int32)
    sizes = [3, 4] if places.ndim == 2 else [5]
    values = some(() if one_value or not places.ndim else (2,), dtype)
    given = [
        fed(places),
        held(sizes),
        fed(values, *quantized(dtype)),
        held(some((), dtype, 3), None, *quantized(dtype)),
    ]
    agree(
        tmp_path / "m.tflite",
        "SPARSE_TO_DENSE",
        given,
        Result(dtype, *quantized(dtype)),
        "SparseToDenseOptions",
    )


@pytest.mark.parametrize("dtype", ["float32", "int8", "int32", "int64", "bool"])
@pytest.mark.parametrize(
    ("shape", "update"),
    [((1, 6, 2, 3), (1, 2, 2, 3)), ((4, 5), (2, 3)), ((4, 5), (4, 5)), ((2, 4, 5), (1, 4, 2)), ((7,), (3,))],
)
@pytest.mark.parametrize("begin", [1, 99, -3])
def test_an_update_of_a_slice_is_litert_s(
    tmp_path: Path, dtype: str, shape: Any, update: Any, begin: int
) -> None:
    given = [
        fed(some(shape, dtype), *quantized(dtype)),
        fed(some(update, dtype, 1), *quantized(dtype)),
        fed(np.full(len(shape), begin, np.int32)),
    ]
    agree(tmp_path / "m.tflite", "DYNAMIC_UPDATE_SLICE", given, Result(dtype, *quantized(dtype)))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("constant", [False, True])
def test_a_segment_sum_is_litert_s(tmp_path: Path, dtype: str, constant: bool) -> None:
    segments = np.array([0, 0, 1, 2, 2, 2], np.int32)
    agree(
        tmp_path / "m.tflite",
        "SEGMENT_SUM",
        [fed(some((6, 2, 3), dtype)), held(segments) if constant else fed(segments)],
        Result(dtype),
    )


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("reduction", ["SUM", "PROD", "MAX", "MIN"])
@pytest.mark.parametrize("segments", [[2, -1, 0, 2, 4], [[1, 0], [1, -2], [0, 0], [3, 1], [1, 1]]])
@pytest.mark.parametrize("constant", [False, True])
def test_segments_in_any_order_are_litert_s(
    tmp_path: Path, dtype: str, reduction: str, segments: Any, constant: bool
) -> None:
    ids = np.array(segments, np.int32)
    given = [
        fed(some((5, 2, 3), dtype) // (100 if dtype == "int32" else 1)),
        held(ids) if constant else fed(ids),
        held(5),
    ]
    agree(tmp_path / "m.tflite", f"UNSORTED_SEGMENT_{reduction}", given, Result(dtype))


@pytest.mark.parametrize("combiner", [0, 1, 2])
@pytest.mark.parametrize("buckets", [[[0, 0], [0, 1], [2, 0]], [[0, 0, 0], [0, 1, 0], [0, 1, 1]]])
def test_weighted_rows_are_combined_as_in_litert(
    tmp_path: Path, combiner: int, buckets: list[list[int]]
) -> None:
    sizes = [3, 2] if len(buckets[0]) == 2 else [2, 2, 2]
    given = [
        fed(np.array([1, 3, 0], np.int32)),
        fed(np.array(buckets, np.int32)),
        held(sizes),
        fed(np.array([1.0, 2.0, 4.0], np.float32)),
        held(some((5, 3, 2))),
    ]
    shapes = [[*sizes[:-1], 3, 2]]
    path = model(
        tmp_path / "m.tflite",
        "EMBEDDING_LOOKUP_SPARSE",
        given,
        [Result()],
        shapes,
        "EmbeddingLookupSparseOptions",
        combiner=combiner,
    )
    feeds = [each.array for each in given if not each.constant]
    assert (
        relative(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) <= 1e-6
    )  # a product, a sum, a quotient
