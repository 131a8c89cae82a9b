"""Reductions of TFLite: the importer against LiteRT, one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, TfliteGraph, by_litert, by_onnxruntime, imported, lsb, one_operator, relative

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

SCALE: dict[str, dict[str, Any]] = {
    "INT8": {"scale": 0.05, "zero_point": 3},
    "UINT8": {"scale": 0.05, "zero_point": 130},
    "INT16": {"scale": 0.001, "zero_point": 0},
}
SHAPES = [(2, 7, 6, 5), (3,), (2, 3, 4), (2, 3, 2, 3, 2)]
AXES = [[1, 2], [3], [1], [0, 1, 2, 3], [-1, 1], [0], [-1], [0, 0], []]
SUMS = ["MEAN", "SUM"]


def some(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    if dtype == "FLOAT32":
        return rng.uniform(0.1, 1, shape).astype(np.float32)
    if dtype == "BOOL":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype in ("INT32", "INT64"):
        return rng.integers(-100, 100, shape).astype(dtype.lower())
    limits = np.iinfo(dtype.lower())
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype.lower())


def reduced(shape: tuple[int, ...], axes: list[int], keep: bool) -> tuple[int, ...]:
    gone = {axis % len(shape) for axis in axes}
    return tuple(1 if axis in gone else size for axis, size in enumerate(shape) if keep or axis not in gone)


def reducer(
    path: Path, kind: str, given: Put, axes: list[int], result: dict[str, Any], keep: bool = False
) -> Path:
    return one_operator(
        path / "m.tflite", kind, [given, Put((len(axes),), "INT32", value=np.array(axes, np.int32))],
        [Put(reduced(tuple(given.shape), axes, keep), given.kind, **result)], "ReducerOptions", 1 if given.kind == "BOOL" else 2, keepDims=keep,
    )  # fmt: skip


def assert_equal(path: Path, *feeds: np.ndarray, **options: Any) -> None:
    expected, found = by_litert(path, *feeds), by_onnxruntime(imported(path, **options), *feeds)
    integers = [index for index, array in enumerate(expected) if array.dtype != np.float32]
    floats = [index for index, array in enumerate(expected) if array.dtype == np.float32]
    assert (
        not integers
        or lsb([expected[index] for index in integers], [found[index] for index in integers]) == 0
    )
    assert (
        not floats
        or relative([expected[index] for index in floats], [found[index] for index in floats]) < 1e-6
    )


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axes", AXES)
@pytest.mark.parametrize(
    ("dtype", "kinds"),
    [
        ("FLOAT32", [*SUMS, "REDUCE_PROD", "REDUCE_MAX", "REDUCE_MIN"]),
        ("INT8", [*SUMS, "REDUCE_MAX", "REDUCE_MIN"]),
        ("UINT8", [*SUMS, "REDUCE_MAX", "REDUCE_MIN"]),
        ("INT16", [*SUMS, "REDUCE_MAX", "REDUCE_MIN"]),
        ("INT32", [*SUMS, "REDUCE_MAX", "REDUCE_MIN"]),
        ("INT64", SUMS),
        ("BOOL", ["REDUCE_ANY", "REDUCE_ALL"]),
    ],
)
def test_reductions_agree_over_all_axes(
    tmp_path: Path, dtype: str, kinds: list[str], axes: list[int], keep: bool
) -> None:
    for shape in SHAPES:
        if any(not -len(shape) <= axis < len(shape) for axis in axes):
            continue
        for kind in kinds:
            own = SCALE.get(dtype, {})
            result = {**own, "scale": own["scale"] * 1.3} if own and kind in SUMS and axes else own
            assert_equal(
                reducer(tmp_path, kind, Put(shape, dtype, **own), axes, result, keep),
                some(dtype, shape),
                opset=13 if keep else 18,
            )


@pytest.mark.parametrize("dtype", ["INT32", "INT64"])
def test_products_of_integers_are_exact(tmp_path: Path, dtype: str) -> None:
    x = np.random.default_rng(0).integers(-3, 4, (3, 4, 5)).astype(dtype.lower())
    assert_equal(reducer(tmp_path, "REDUCE_PROD", Put(x.shape, dtype), [2, 0], {}), x)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("shape", [(3, 40), (2, 3, 7, 5), (2, 1, 3)])
@pytest.mark.parametrize("dtype", ["INT32", "INT64"])
@pytest.mark.parametrize("kind", ["SUM", "MEAN", "REDUCE_PROD"])
def test_integers_that_overflow_wrap_as_in_litert(
    tmp_path: Path, kind: str, dtype: str, shape: tuple[int, ...], keep: bool, opset: int
) -> None:
    limits = np.iinfo(dtype.lower())
    x = np.random.default_rng(len(shape)).integers(limits.min, limits.max, shape, dtype.lower()) | 1
    assert_equal(reducer(tmp_path, kind, Put(shape, dtype), [len(shape) - 1, 1], {}, keep), x, opset=opset)


@pytest.mark.parametrize("dtype", ["INT32", "INT64"])
def test_products_along_a_batch_of_any_size_are_exact_below_2_to_the_53(tmp_path: Path, dtype: str) -> None:
    signature = {"signature": [-1, 3]}
    x = np.random.default_rng(1).integers(1, 9, (4, 3)).astype(dtype.lower())
    assert_equal(reducer(tmp_path, "REDUCE_PROD", Put(x.shape, dtype, more=signature), [0, 1], {}), x)


def every_sum(count: int, dtype: str, rows: int = 6000) -> np.ndarray:
    """(sums, count): rows of codes for every sum that there can be, or ``rows`` of them."""
    sums = np.arange(255 * count + 1)
    if len(sums) > rows:
        sums = np.sort(np.random.default_rng(0).choice(sums, rows, replace=False))
    base = sums // count
    return (
        base[:, None] + (np.arange(count) < (sums - base * count)[:, None]) + np.iinfo(dtype.lower()).min
    ).astype(dtype.lower())


def _scales() -> list[tuple[float, float]]:
    rng = np.random.default_rng(1)
    return [
        (0.05, 0.05),
        (0.05, 0.1),
        (0.0235, 0.0187),
        (1 / 128, 1 / 64),
        (0.003, 0.5),
        *rng.uniform(0.001, 0.1, (4, 2)).tolist(),
    ]


@pytest.mark.parametrize("dtype", ["UINT8", "INT8"])
@pytest.mark.parametrize("kind", SUMS)
@pytest.mark.parametrize("count", [2, 3, 6, 7, 16, 49, 100, 196, 1089])
def test_every_sum_of_bytes_is_rounded_as_by_xnnpack(
    tmp_path: Path, kind: str, dtype: str, count: int
) -> None:
    rng = np.random.default_rng(count)
    low, x = np.iinfo(dtype.lower()).min, every_sum(count, dtype)
    for scale, result in _scales():
        points = [int(point) for point in rng.integers(low, low + 256, 2)]
        wanted = {"scale": result * (max(1, count / 4) if kind == "SUM" else 1), "zero_point": points[1]}
        assert_equal(reducer(tmp_path, kind, Put(x.shape, dtype, scale, points[0]), [1], wanted), x)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("dtype", ["UINT8", "INT8"])
@pytest.mark.parametrize("size", [(7, 7), (2, 3), (28, 28), (112, 112)])
def test_a_mean_behind_a_pool_is_rounded_as_by_xnnpack(
    tmp_path: Path, size: tuple[int, int], dtype: str, keep: bool
) -> None:
    """Its operand is there channels first, one channel for each sum; the pool's windows are single elements."""
    rng, low = np.random.default_rng(2), np.iinfo(dtype.lower()).min
    x = every_sum(size[0] * size[1], dtype, 3000 if size[0] < 100 else 60).T.reshape(1, *size, -1)
    for scale, result in _scales():
        points = [int(point) for point in rng.integers(low, low + 256, 2)]
        graph = TfliteGraph()
        first, pooled = (
            graph.tensor(name, x.shape, kind=dtype, scale=scale, zero_point=points[0]) for name in ("x", "p")
        )
        axes = graph.tensor("axes", (2,), np.array([1, 2], np.int32), "INT32")
        last = graph.tensor(
            "y", reduced(x.shape, [1, 2], keep), kind=dtype, scale=result, zero_point=points[1]
        )
        graph.operator(
            "MAX_POOL_2D",
            [first],
            [pooled],
            "Pool2DOptions",
            version=2,
            padding=1,
            strideH=1,
            strideW=1,
            filterHeight=1,
            filterWidth=1,
        )
        graph.operator("MEAN", [pooled, axes], [last], "ReducerOptions", version=2, keepDims=keep)
        assert_equal(graph.write(tmp_path / "m.tflite", [first], [last]), x)


@pytest.mark.parametrize("kind", ["MEAN", "SUM", "REDUCE_MAX", "ARG_MAX", "ARG_MIN"])
@pytest.mark.parametrize("axes", [[1, 2], [3], [-1, 1], [0], [1], [0, 3], [0, 1, 2, 3]])
def test_reductions_of_channels_first_tensors_take_the_right_axes(
    tmp_path: Path, kind: str, axes: list[int]
) -> None:
    for dtype in ("FLOAT32", "INT8"):
        for keep in (True, False):
            shape, own = (2, 4, 6, 5), SCALE.get(dtype, {})
            graph = TfliteGraph()
            first, pooled = (graph.tensor(name, shape, kind=dtype, **own) for name in ("x", "p"))
            graph.operator(
                "MAX_POOL_2D",
                [first],
                [pooled],
                "Pool2DOptions",
                version=2,
                padding=1,
                strideH=1,
                strideW=1,
                filterHeight=1,
                filterWidth=1,
            )
            if kind.startswith("ARG"):
                axis = graph.tensor("axis", (), np.array(axes[0], np.int32), "INT32")
                last = graph.tensor("y", reduced(shape, axes[:1], False), kind="INT32")
                graph.operator(
                    kind,
                    [pooled, axis],
                    [last],
                    "ArgMaxOptions" if kind == "ARG_MAX" else "ArgMinOptions",
                    version=2,
                    outputType=2,
                )
            else:
                axis = graph.tensor("axes", (len(axes),), np.array(axes, np.int32), "INT32")
                last = graph.tensor("y", reduced(shape, axes, keep), kind=dtype, **own)
                graph.operator(kind, [pooled, axis], [last], "ReducerOptions", version=2, keepDims=keep)
            assert_equal(graph.write(tmp_path / "m.tflite", [first], [last]), some(dtype, shape))


@pytest.mark.parametrize("dtype", ["FLOAT32", "INT8"])
def test_batches_of_any_size_are_reduced(tmp_path: Path, dtype: str) -> None:
    own = SCALE.get(dtype, {})
    path = reducer(
        tmp_path, "MEAN", Put((1, 7, 6, 5), dtype, **own, more={"signature": [-1, 7, 6, 5]}), [1, 2], own
    )
    onnx = imported(path)
    for batch in (1, 3):
        x = some(dtype, (batch, 7, 6, 5))
        expected, found = by_litert(path, x), by_onnxruntime(onnx, x)
        assert relative(expected, found) < 1e-6 if dtype == "FLOAT32" else lsb(expected, found) == 0


def test_a_mean_of_bytes_over_an_unknown_size_is_refused(tmp_path: Path) -> None:
    path = reducer(
        tmp_path,
        "MEAN",
        Put((1, 7, 6, 5), "INT8", 0.05, 3, more={"signature": [1, -1, -1, 5]}),
        [1, 2],
        SCALE["INT8"],
    )
    with pytest.raises(
        UnsupportedOperator,
        match=r"MEAN \(#0: it averages integers over sizes that are known only while the model runs\)",
    ):
        imported(path)


def test_a_mean_of_more_bytes_than_float32_counts_is_rounded_as_by_xnnpack(tmp_path: Path) -> None:
    x = some("INT8", (2, 300, 300))
    x[1] = 127
    for kind in SUMS:
        wanted = {"scale": 0.03 if kind == "MEAN" else 4000.0, "zero_point": -5}
        assert_equal(reducer(tmp_path, kind, Put(x.shape, "INT8", 0.05, -100), [1, 2], wanted), x)
