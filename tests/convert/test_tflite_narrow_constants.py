"""Constants that a file stores in float16 and computes with in float32, wherever they meet an operator that moves them as stored."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported, relative

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

TABLE = np.random.default_rng(0).standard_normal((2, 3)).astype(np.float16)


def moved(
    path: Path,
    kind: str,
    shape: Sequence[int],
    options: str,
    *operands: tuple[str, np.ndarray],
    **values: Any,
) -> Path:
    """``x + kind(table, operands)``, where the table is float16 behind a DEQUANTIZE."""
    graph = TfliteGraph()
    x, table = graph.tensor("x", shape), graph.tensor("table", (2, 3), TABLE, "FLOAT16")
    wide, made, y = graph.tensor("wide", (2, 3)), graph.tensor("made", shape), graph.tensor("y", shape)
    more = [
        graph.tensor(f"operand{n}", array.shape, array, type_) for n, (type_, array) in enumerate(operands)
    ]
    graph.operator("DEQUANTIZE", [table], [wide])
    graph.operator(
        kind, [*more, wide, x] if kind == "SELECT_V2" else [wide, *more], [made], options, **values
    )
    graph.operator("ADD", [made, x], [y], "AddOptions")
    return graph.write(path, [x], [y])


@pytest.mark.parametrize(
    ("kind", "shape", "options", "operands"),
    [
        ("SELECT_V2", (2, 3), "SelectV2Options", [("BOOL", np.array([[True, False, True]]))]),
        (
            "SLICE",
            (1, 3),
            "SliceOptions",
            [("INT32", np.array([1, 0], np.int32)), ("INT32", np.array([1, 3], np.int32))],
        ),
        ("TILE", (4, 3), "TileOptions", [("INT32", np.array([2, 1], np.int32))]),
        ("TRANSPOSE", (3, 2), "TransposeOptions", [("INT32", np.array([1, 0], np.int32))]),
        ("GATHER", (3, 3), "GatherOptions", [("INT32", np.array([1, 0, 1], np.int32))]),
    ],
)
def test_a_float16_constant_is_float32_where_it_is_moved(
    kind: str, shape: tuple[int, ...], options: str, operands: list[tuple[str, np.ndarray]], tmp_path: Path
) -> None:
    path = moved(tmp_path / "m.tflite", kind, shape, options, *operands)
    x = np.random.default_rng(1).standard_normal(shape).astype(np.float32)
    assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) < 1e-6


def test_a_float16_constant_that_is_an_output_is_float32(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (2,)), graph.tensor("y", (2,))
    table, wide = graph.tensor("table", (2, 3), TABLE, "FLOAT16"), graph.tensor("wide", (2, 3))
    graph.operator("DEQUANTIZE", [table], [wide])
    graph.operator("NEG", [x], [y], "NegOptions")
    path = graph.write(tmp_path / "m.tflite", [x], [wide, y])
    answers = by_onnxruntime(imported(path), np.ones(2, np.float32))
    np.testing.assert_array_equal(answers[0], TABLE.astype(np.float32))
