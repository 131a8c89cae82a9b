"""Arg-reductions, sorting, buckets and suppression of TFLite: the importer against LiteRT, one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_tflite_reduce import SCALE, assert_equal, reduced, some
from tflite_models import Put, TfliteGraph, imported, one_operator

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]


@pytest.mark.parametrize("output", ["INT32", "INT64"])
@pytest.mark.parametrize("dtype", ["FLOAT32", "INT8", "UINT8", "INT32", "BOOL"])
@pytest.mark.parametrize("kind", ["ARG_MAX", "ARG_MIN"])
def test_the_first_of_equal_elements_is_found(tmp_path: Path, kind: str, dtype: str, output: str) -> None:
    for shape in [(40,), (4, 5), (2, 3, 4), (2, 4, 3, 90), (2, 3, 2, 3, 2)]:
        x = some(dtype, shape)
        x = np.round(x * 5) if dtype == "FLOAT32" else x if dtype == "BOOL" else (x % 7).astype(x.dtype)
        for axis in range(-1, len(shape)):
            options = "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions"
            inputs = [
                Put(shape, dtype, **SCALE.get(dtype, {})),
                Put((), "INT32", value=np.array(axis, np.int32)),
            ]
            path = one_operator(tmp_path / "m.tflite", kind, inputs, [Put(reduced(shape, [axis], False), output)], options, 3,
                                outputType={"INT32": 2, "INT64": 4}[output])  # fmt: skip
            assert_equal(path, x)


@pytest.mark.parametrize("kind", ["ARG_MAX", "ARG_MIN"])
def test_the_first_of_equal_elements_is_found_in_a_resized_picture(tmp_path: Path, kind: str) -> None:
    """As segmentation networks end; few codes, so that many pixels round to equal ones."""
    graph = TfliteGraph()
    x, resized = (
        graph.tensor(name, shape, kind="INT8", **SCALE["INT8"])
        for name, shape in (("x", (1, 9, 9, 11)), ("r", (1, 65, 65, 11)))
    )
    size, axis = (
        graph.tensor("size", (2,), np.array([65, 65], np.int32), "INT32"),
        graph.tensor("axis", (), np.array(3, np.int32), "INT32"),
    )
    y = graph.tensor("y", (1, 65, 65), kind="INT64")
    graph.operator(
        "RESIZE_BILINEAR", [x, size], [resized], "ResizeBilinearOptions", version=3, alignCorners=True
    )
    graph.operator(
        kind,
        [resized, axis],
        [y],
        "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions",
        version=2,
        outputType=4,
    )
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    assert_equal(path, np.random.default_rng(0).integers(-2, 3, (1, 9, 9, 11)).astype(np.int8))


@pytest.mark.parametrize("dtype", ["FLOAT32", "INT8", "UINT8", "INT16", "INT32", "INT64"])
def test_the_greatest_come_in_order_and_equal_ones_by_index(tmp_path: Path, dtype: str) -> None:
    for shape, count in [((20,), 5), ((3, 20), 20), ((2, 3, 7), 1)]:
        x = some(dtype, shape)
        x = np.round(x * 5) if dtype == "FLOAT32" else (x % 9).astype(x.dtype)
        own, result = SCALE.get(dtype, {}), (*shape[:-1], count)
        path = one_operator(tmp_path / "m.tflite", "TOPK_V2", [Put(shape, dtype, **own), Put((), "INT32", value=np.array(count, np.int32))],
                            [Put(result, dtype, **own), Put(result, "INT32")], "TopKV2Options", 2)  # fmt: skip
        assert_equal(path, x)


def test_how_many_are_the_greatest_may_be_computed(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite",
        "TOPK_V2",
        [Put((3, 20)), Put((), "INT32")],
        [Put((3, 4)), Put((3, 4), "INT32")],
        "TopKV2Options",
    )
    assert_equal(path, some("FLOAT32", (3, 20)), np.array(4, np.int32))


@pytest.mark.parametrize("dtype", ["FLOAT32", "FLOAT64", "INT32", "INT64"])
def test_boundaries_belong_to_the_bucket_above(tmp_path: Path, dtype: str) -> None:
    for shape in [(2, 7), (), (3, 4, 5, 2)]:
        x = np.asarray(np.random.default_rng(0).integers(-4, 5, shape), dtype.lower())
        path = one_operator(tmp_path / "m.tflite", "BUCKETIZE", [Put(shape, dtype)], [Put(shape, "INT32")], "BucketizeOptions",
                            boundaries=[-20.0, -1.0, 0.0, 0.5, 3.0])  # fmt: skip
        assert_equal(path, x)


def suppression(
    path: Path, kind: str, boxes: int, most: int, overlap: float, floor: float, sigma: float = 0.0
) -> Path:
    def held(value: float, dtype: str = "FLOAT32") -> Put:
        return Put((), dtype, value=np.array(value, dtype.lower()))

    last = [held(sigma)] if kind.endswith("5") else []
    outputs = [Put((most,), "INT32"), *([Put((most,))] if last else []), Put((), "INT32")]
    return one_operator(
        path / "m.tflite",
        kind,
        [Put((boxes, 4)), Put((boxes,)), held(most, "INT32"), held(overlap), held(floor), *last],
        outputs,
    )


@pytest.mark.parametrize("kind", ["NON_MAX_SUPPRESSION_V4", "NON_MAX_SUPPRESSION_V5"])
@pytest.mark.parametrize(("overlap", "floor"), [(0.5, 0.3), (0.3, -1.0), (1.0, 0.1)])
def test_overlapping_boxes_are_suppressed(tmp_path: Path, kind: str, overlap: float, floor: float) -> None:
    rng = np.random.default_rng(0)
    for boxes in (5, 60, 300):
        for most in (3, 20, 100):
            corners = np.round(rng.uniform(0, 1, (boxes, 2)) * 8) / 8  # many overlap by exactly the threshold
            x = np.concatenate([corners, corners + rng.integers(1, 4, (boxes, 2)) / 8], 1).astype(np.float32)
            assert_equal(
                suppression(tmp_path, kind, boxes, most, overlap, floor),
                x,
                rng.permutation(boxes).astype(np.float32) / boxes,
            )


def test_soft_suppression_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOperator, match="its soft_nms_sigma is not 0"):
        imported(suppression(tmp_path, "NON_MAX_SUPPRESSION_V5", 5, 3, 0.5, 0.0, 0.5))
