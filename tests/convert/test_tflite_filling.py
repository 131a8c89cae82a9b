"""Tensors that TFLite models make from sizes: the importer against LiteRT, to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported
from tflite_moves import Result, agree, fed, held, some

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64", "bool", "int8", "int16"])
@pytest.mark.parametrize("sizes", [[], [3], [2, 4, 3], [300, 300]])
@pytest.mark.parametrize("computed", [False, True])
def test_a_fill_is_litert_s(tmp_path: Path, dtype: str, sizes: list[int], computed: bool) -> None:
    quantization = (0.1, 4 if dtype == "int8" else 0) if dtype in ("int8", "int16") else (None, 0)
    shape = fed(np.array(sizes, np.int32)) if computed else held(np.array(sizes, np.int32))
    agree(
        tmp_path / "m.tflite",
        "FILL",
        [shape, fed(some((), dtype), *quantization)],
        Result(dtype, *quantization),
    )


RANGES = {"up": (0, 7, 2), "down": (9, -3, -4), "one": (3, 4, 5)}


@pytest.mark.parametrize("name", RANGES)
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32"])
@pytest.mark.parametrize("constant", [True, False])
def test_a_range_is_litert_s(tmp_path: Path, name: str, dtype: str, constant: bool) -> None:
    numbers = [np.array(number, dtype) for number in RANGES[name]]
    if constant:  # a model of constants alone has no input
        sizes = fed(np.array([2], np.int32))
        ranged(tmp_path / "m.tflite", numbers, dtype, sizes.array)
    else:
        agree(tmp_path / "m.tflite", "RANGE", [fed(number) for number in numbers], Result(dtype))


def ranged(path: Path, numbers: list[np.ndarray], dtype: str, x: np.ndarray) -> None:
    """A constant RANGE beside an input that is tiled."""
    kind = {"int32": "INT32", "int64": "INT64", "float32": "FLOAT32"}[dtype]
    graph = TfliteGraph()
    given = [graph.tensor(f"n{number}", (), array, kind) for number, array in enumerate(numbers)]
    steps, source, twice = (
        graph.tensor("steps", (1,), None, kind),
        graph.tensor("x", (1,), None, "INT32"),
        graph.tensor("y", (2,), None, "INT32"),
    )
    graph.operator("RANGE", given, [steps], "RangeOptions")
    graph.operator("TILE", [source, graph.tensor("two", (1,), np.array([2], np.int32), "INT32")], [twice])
    graph.write(path, [source], [steps, twice])
    for want, have in zip(by_litert(path, x), by_onnxruntime(imported(path), x), strict=True):
        np.testing.assert_array_equal(want, have)


def test_a_range_of_floats_adds_up_step_by_step(tmp_path: Path) -> None:
    ranged(
        tmp_path / "m.tflite",
        [np.array(number, np.float32) for number in (0.1, 30, 0.1)],
        "float32",
        np.array([1], np.int32),
    )


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("shapes", [([2, 1, 4], [3, 1]), ([1], [5, 6]), ([2, 3], [2, 3])])
@pytest.mark.parametrize("constant", [False, True])
def test_common_shapes_are_litert_s(
    tmp_path: Path, dtype: str, shapes: tuple[list[int], list[int]], constant: bool
) -> None:
    first, second = (np.array(shape, dtype) for shape in shapes)
    agree(
        tmp_path / "m.tflite",
        "BROADCAST_ARGS",
        [fed(first), held(second, dtype) if constant else fed(second)],
        Result(dtype),
    )
