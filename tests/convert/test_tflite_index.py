"""Gathering operators of TFLite: the importer against LiteRT, to the last bit, in both layouts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported
from tflite_moves import QUANTIZED, Result, agree, fed, held, model, operators, some

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

TYPES = ["float32", "int8", "uint8", "int16", "int32", "int64", "bool"]
RNG = np.random.default_rng(0)


def quantized(dtype: str) -> tuple[float | None, int]:
    return QUANTIZED.get(dtype, (None, 0))


GATHERS = {
    "vector-of-rows": ((5, 3), (4,), 0, 0),
    "one-row": ((5, 3), (), 0, 0),
    "matrix": ((5, 3), (2, 3), 1, 0),
    "of-a-vector": ((5,), (2, 2), 0, 0),
    "channels": ((2, 4, 3, 5), (3,), -1, 0),
    "height": ((2, 4, 3, 5), (3,), 1, 0),
    "one-column": ((2, 4, 3, 5), (), 2, 0),
    "one-channel": ((2, 4, 3, 5), (), 3, 0),
    "inside-matrix": ((2, 4, 3, 5), (2, 2), 2, 0),
    "batched": ((2, 4, 3, 5), (2, 3), 1, 1),
    "batched-behind": ((2, 4, 3, 5), (2, 3, 2), 2, 1),
    "batched-last": ((2, 4, 3, 5), (2, 2), -1, 1),
    "batched-twice": ((2, 4, 3, 5), (2, 4, 3), 2, 2),
    "batched-negative": ((2, 4, 3, 5), (2, 4, 3), 2, -1),
    "batched-whole": ((2, 4, 3), (2,), 1, 1),
}


@pytest.mark.parametrize("name", GATHERS)
@pytest.mark.parametrize("dtype", TYPES)
def test_gathering_is_litert_s(tmp_path: Path, name: str, dtype: str) -> None:
    shape, picked, axis, batch = GATHERS[name]
    indices = RNG.integers(0, shape[axis], picked, np.int32)
    framed = len(shape) == 4 and dtype in ("float32", "int8")
    agree(tmp_path / "m.tflite", "GATHER", [fed(some(shape, dtype), *quantized(dtype)), fed(indices)], Result(dtype, *quantized(dtype)),
          "GatherOptions", axis=axis, batchDims=batch, framed=framed)  # fmt: skip


@pytest.mark.parametrize("dtype", ["int16", "int32", "int64"])
@pytest.mark.parametrize("kind", ["GATHER", "GATHER_ND"])
def test_indices_of_any_type_gather(tmp_path: Path, dtype: str, kind: str) -> None:
    indices = held(np.array([[1], [0], [2]], dtype))
    options: dict[str, Any] = {"options": "GatherOptions", "axis": 0} if kind == "GATHER" else {}
    agree(tmp_path / "m.tflite", kind, [fed(some((3, 4))), indices], **options)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gathering_by_many_indices_is_litert_s(tmp_path: Path, dtype: str, depth: int) -> None:
    shape = (2, 4, 3, 5)
    indices = np.stack([RNG.integers(0, size, (3, 2), np.int32) for size in shape[:depth]], axis=-1)
    found = agree(tmp_path / "m.tflite", "GATHER_ND", [fed(some(shape, dtype), *quantized(dtype)), fed(indices)],
                  Result(dtype, *quantized(dtype)), framed=dtype in ("float32", "int8"))  # fmt: skip
    assert operators(found).count("Transpose") <= (2 if depth < 4 else 1)


@pytest.mark.parametrize("dtype", ["bool", "float32", "int32", "int64", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 2, 2), (1, 2, 2, 3)])
def test_the_places_of_what_is_not_zero_are_litert_s(
    tmp_path: Path, dtype: str, shape: tuple[int, ...]
) -> None:
    x = some(shape, "bool").astype(dtype)
    for number, quantization in enumerate(
        [(None, 0), (0.1, 3)] if dtype in ("int8", "uint8") else [(None, 0)]
    ):
        agree(tmp_path / f"{number}.tflite", "WHERE", [fed(x, *quantization)], Result("int64"))


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize("axis", [-1, 0, 1, 2])
@pytest.mark.parametrize("constant", [True, False])
def test_one_hot_is_litert_s(tmp_path: Path, dtype: str, axis: int, constant: bool) -> None:
    indices = np.array([[0, 3, -1], [7, 1, 4]], np.int32)
    on, off = np.array(1, dtype), np.array(0, dtype)
    depth = np.array(5, np.int32)
    given = [
        fed(indices),
        held(5) if constant else fed(depth),
        held(on, None, *quantized(dtype)),
        held(off, None, *quantized(dtype)),
    ]
    agree(
        tmp_path / "m.tflite", "ONE_HOT", given, Result(dtype, *quantized(dtype)), "OneHotOptions", axis=axis
    )


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("index", ["int32", "int64"])
def test_unique_elements_are_litert_s(tmp_path: Path, dtype: str, index: str) -> None:
    x = np.array([5, 3, 5, 1, 3, 9, 1], dtype)
    agree(tmp_path / "m.tflite", "UNIQUE", [fed(x, *quantized(dtype))], [Result(dtype, *quantized(dtype)), Result(index)], "UniqueOptions",
          idxOutType=2 if index == "int32" else 4)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int32", "int64"])
@pytest.mark.parametrize("axis", [0, 2, -1])
@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_running_sum_is_litert_s(
    tmp_path: Path, dtype: str, axis: int, exclusive: bool, reverse: bool
) -> None:
    agree(tmp_path / "m.tflite", "CUMSUM", [fed(some((1, 3, 4, 5), dtype)), held(axis)], Result(dtype), "CumsumOptions", exclusive=exclusive,
          reverse=reverse, framed=dtype == "float32")  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("shape", [(3,), (2, 4), (2, 1, 3)])
def test_a_diagonal_is_litert_s(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    agree(
        tmp_path / "m.tflite",
        "MATRIX_DIAG",
        [fed(some(shape, dtype), *quantized(dtype))],
        Result(dtype, *quantized(dtype)),
        "MatrixDiagOptions",
    )


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 3), (2, 3, 4), (1, 2, 3, 3)])
def test_a_diagonal_is_set_as_in_litert(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    diagonal = some((*shape[:-2], min(shape[-2:])), dtype, 1)
    given = [fed(some(shape, dtype), *quantized(dtype)), fed(diagonal, *quantized(dtype))]
    agree(
        tmp_path / "m.tflite",
        "MATRIX_SET_DIAG",
        given,
        Result(dtype, *quantized(dtype)),
        "MatrixSetDiagOptions",
    )


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32", "int64"])
def test_looking_up_rows_is_litert_s(tmp_path: Path, dtype: str) -> None:
    table = held(some((5, 2, 3), dtype), None, *quantized(dtype))
    agree(
        tmp_path / "m.tflite",
        "EMBEDDING_LOOKUP",
        [fed(np.array([4, 0, 0, 2], np.int32)), table],
        Result(dtype, *quantized(dtype)),
    )


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("scale", [0.037, [0.1, 0.02, 0.3, 0.004, 7.0]])
def test_rows_of_a_quantized_table_are_real_numbers(tmp_path: Path, dtype: str, scale: Any) -> None:
    table = held(np.arange(5 * 60).reshape(5, 6, 10).astype(dtype), None, scale)
    agree(tmp_path / "m.tflite", "EMBEDDING_LOOKUP", [fed(np.array([4, 0, 1, 2], np.int32)), table])


def test_rows_of_four_bits_are_real_numbers(tmp_path: Path) -> None:
    graph, codes = TfliteGraph(), RNG.integers(-8, 8, (5, 8), np.int8)
    packed = (codes[:, ::2] & 15 | codes[:, 1::2] << 4).astype(np.int8)
    x, y = graph.tensor("x", (3,), None, "INT32"), graph.tensor("y", (3, 8))
    table = graph.tensor("table", (5, 8), packed, "INT4", scale=[0.1, 0.02, 0.3, 0.004, 7.0])
    graph.operator("EMBEDDING_LOOKUP", [x, table], [y], version=4)
    path, rows = graph.write(tmp_path / "m.tflite", [x], [y]), np.array([4, 0, 2], np.int32)
    np.testing.assert_array_equal(by_onnxruntime(imported(path), rows)[0], by_litert(path, rows)[0])


def test_tables_that_are_searched_by_key_are_named_as_out_of_reach(tmp_path: Path) -> None:
    path = model(tmp_path / "m.tflite", "SKIP_GRAM", [fed(some((3,)))], [Result()], [[1]], "SkipGramOptions")
    with pytest.raises(UnsupportedOperator, match=r"SKIP_GRAM .*splits text"):
        imported(path)
