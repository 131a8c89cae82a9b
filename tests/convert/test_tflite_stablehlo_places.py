"""Windows, gathers and scatters of StableHLO in TFLite files, and REDUCE_WINDOW: the importer against LiteRT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.convert.tflite_models import (
    Put,
    TfliteGraph,
    by_litert,
    by_onnxruntime,
    imported,
    one_operator,
    relative,
)

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

RNG = np.random.default_rng(0)


def drawn(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of a type, over all of its range where it is an integer's."""
    if kind == "BOOL":
        return RNG.integers(0, 2, shape).astype(np.bool_)
    if kind.startswith("FLOAT"):
        return RNG.normal(size=shape).astype(kind.lower())
    limits = np.iinfo(kind.lower())
    return RNG.integers(limits.min, limits.max, shape, np.dtype(kind.lower()), endpoint=True)


def same(path: Path, *feeds: np.ndarray, tolerance: float = 0.0, opset: int | None = None) -> None:
    assert relative(by_litert(path, *feeds), by_onnxruntime(imported(path, opset=opset), *feeds)) <= tolerance


# ------------------------------------------------------------------ windows

ADD, MUL, MINIMUM, MAXIMUM, ALL, ANY = range(1, 7)


@pytest.mark.parametrize(
    ("window", "strides", "dilations"),
    [([1, 3, 2], [1, 1, 1], [1, 1, 1]), ([2, 2, 2], [2, 3, 1], [1, 1, 2]), ([4, 6, 5], [1, 1, 1], [1, 1, 1]), ([1, 1, 1], [1, 2, 1], [1, 1, 1])],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize(
    ("kind", "function"),
    [("FLOAT32", ADD), ("FLOAT32", MUL), ("FLOAT32", MINIMUM), ("FLOAT32", MAXIMUM), ("INT32", ADD), ("INT8", MAXIMUM), ("INT8", ADD),
     ("INT16", MINIMUM), ("INT64", MUL), ("BOOL", ALL), ("BOOL", ANY)],
)  # fmt: skip
def test_reduce_window(
    window: list[int], strides: list[int], dilations: list[int], kind: str, function: int, tmp_path: Path
) -> None:
    x = drawn(kind, (4, 6, 5))
    shape = [
        (size - (w - 1) * d - 1) // s + 1
        for size, w, s, d in zip(x.shape, window, strides, dilations, strict=True)
    ]
    constants = [
        Put((3,), "INT64", value=np.array(numbers, np.int64)) for numbers in (window, strides, dilations)
    ]
    if function == MUL and kind == "INT64":  # products that overflow saturate in onnxruntime
        x = np.where(x % 16 == 0, 3, 1)
    path = one_operator(
        tmp_path / "m.tflite", "REDUCE_WINDOW", [Put(x.shape, kind), Put((), kind), *constants], [Put(shape, kind)], "ReduceWindowOptions",
        reduceFunction=function,
    )  # fmt: skip
    same(path, x, drawn(kind, ()) if function != MUL else np.ones((), x.dtype), tolerance=1e-5)


@pytest.mark.parametrize(
    "body", ["STABLEHLO_ADD", "STABLEHLO_MAXIMUM", "STABLEHLO_MINIMUM", "STABLEHLO_MULTIPLY"]
)
@pytest.mark.parametrize("kind", ["FLOAT32", "INT32"])
@pytest.mark.parametrize("base", [[1, 1], [2, 3]], ids=str)
def test_stablehlo_reduce_window(body: str, kind: str, base: list[int], tmp_path: Path) -> None:
    x, window, strides, dilations, padding = drawn(kind, (5, 6)), [3, 2], [2, 1], [1, 2], [1, 2, 0, 3]
    sizes = [(size - 1) * b + 1 for size, b in zip(x.shape, base, strict=True)]
    sizes = [size + sum(padding[2 * axis : 2 * axis + 2]) for axis, size in enumerate(sizes)]
    shape = [
        (size - (w - 1) * d - 1) // s + 1
        for size, w, s, d in zip(sizes, window, strides, dilations, strict=True)
    ]
    initial_value = drawn(kind, ())
    if body == "STABLEHLO_MULTIPLY" and kind == "INT32":
        x, initial_value = x % 3 + 1, np.ones((), np.int32)
    g = TfliteGraph()
    x_at, initial, y = (
        g.tensor("x", x.shape, kind=kind),
        g.tensor("i", (), kind=kind),
        g.tensor("y", shape, kind=kind),
    )
    g.operator(
        "STABLEHLO_REDUCE_WINDOW", [x_at, initial], [y], "StablehloReduceWindowOptions", windowDimensions=window, windowStrides=strides,
        baseDilations=base, windowDilations=dilations, padding=padding, bodySubgraphIndex=1,
    )  # fmt: skip
    g.subgraph()
    a, b, c = (g.tensor(name, (), kind=kind) for name in "abc")
    g.operator(body, [a, b], [c])
    g.ends([a, b], [c])
    same(g.write(tmp_path / "m.tflite", [x_at, initial], [y]), x, initial_value, tolerance=1e-5)


# ------------------------------------------------------------------ gather

GATHERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any], tuple[int, ...]]] = {
    # operand, start indices, options, result
    "rows": ((7, 5), (3, 1), {"offsetDims": [1], "collapsedSliceDims": [0], "startIndexMap": [0], "indexVectorDim": 1, "sliceSizes": [1, 5]}, (3, 5)),
    "columns": ((7, 5), (3, 1), {"offsetDims": [0], "collapsedSliceDims": [1], "startIndexMap": [1], "indexVectorDim": 1, "sliceSizes": [7, 1]}, (7, 3)),
    "points": ((7, 5), (4, 2), {"offsetDims": [], "collapsedSliceDims": [0, 1], "startIndexMap": [1, 0], "indexVectorDim": 1, "sliceSizes": [1, 1]}, (4,)),
    "windows": ((3, 4, 2), (2, 3, 2), {"offsetDims": [2, 3], "collapsedSliceDims": [0], "startIndexMap": [1, 0], "indexVectorDim": 2,
                                       "sliceSizes": [1, 2, 2]}, (2, 3, 2, 2)),
    "kept": ((7, 5), (3, 1), {"offsetDims": [1, 2], "collapsedSliceDims": [], "startIndexMap": [0], "indexVectorDim": 1, "sliceSizes": [2, 5]}, (3, 2, 5)),
    "first": ((6, 5, 4), (2, 3), {"offsetDims": [0, 2], "collapsedSliceDims": [2], "startIndexMap": [0, 2], "indexVectorDim": 0,
                                  "sliceSizes": [3, 5, 1]}, (3, 3, 5)),
}  # fmt: skip


@pytest.mark.parametrize("case", GATHERS)
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
@pytest.mark.parametrize("start_kind", ["INT32", "INT64"])
def test_gather_takes_slices_and_moves_them_inside(
    case: str, kind: str, start_kind: str, tmp_path: Path
) -> None:
    operand, starts, options, shape = GATHERS[case]
    path = one_operator(
        tmp_path / "m.tflite", "STABLEHLO_GATHER", [Put(operand, kind), Put(starts, start_kind)], [Put(shape, kind)], "StablehloGatherOptions", **options
    )  # fmt: skip
    same(path, drawn(kind, operand), RNG.integers(-2, 9, starts).astype(start_kind.lower()))


# ------------------------------------------------------------------ scatter

SCATTERS: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    # operand, start indices, updates, options
    "rows": ((7, 5), (4, 1), (4, 5), {"updateWindowDims": [1], "insertedWindowDims": [0], "scatterDimsToOperandDims": [0], "indexVectorDim": 1}),
    "points": ((7, 5), (4, 2), (4,), {"updateWindowDims": [], "insertedWindowDims": [0, 1], "scatterDimsToOperandDims": [1, 0], "indexVectorDim": 1}),
    "windows": ((7, 5), (4, 2), (4, 2, 3), {"updateWindowDims": [1, 2], "insertedWindowDims": [], "scatterDimsToOperandDims": [0, 1],
                                            "indexVectorDim": 1}),
    "columns": ((7, 5), (4, 1), (7, 4), {"updateWindowDims": [0], "insertedWindowDims": [1], "scatterDimsToOperandDims": [1], "indexVectorDim": 1}),
}  # fmt: skip


def scatter(path: Path, case: str, kind: str, body: str) -> Path:
    operand, starts, updates, options = SCATTERS[case]
    g = TfliteGraph()
    x, at, u, y = (
        g.tensor(*told)
        for told in (
            ("x", operand, None, kind),
            ("at", starts, None, "INT32"),
            ("u", updates, None, kind),
            ("y", operand, None, kind),
        )
    )
    g.operator(
        "STABLEHLO_SCATTER",
        [x, at, u],
        [y],
        "StablehloScatterOptions",
        updateComputationSubgraphIndex=1,
        **options,
    )
    g.subgraph()
    a, b, c = (g.tensor(name, (), kind=kind) for name in "abc")
    if body:
        g.operator(body, [a, b], [c])
    g.ends([a, b], [c if body else b])
    return g.write(path, [x, at, u], [y])


@pytest.mark.parametrize("case", SCATTERS)
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8", "INT32", "INT64"])
@pytest.mark.parametrize(
    "body", ["", "STABLEHLO_ADD", "STABLEHLO_MULTIPLY", "STABLEHLO_MAXIMUM", "STABLEHLO_MINIMUM"]
)
def test_scatter_drops_what_lies_outside(case: str, kind: str, body: str, tmp_path: Path) -> None:
    operand, starts, updates, _ = SCATTERS[case]
    path = scatter(tmp_path / "m.tflite", case, kind, body)
    at = RNG.integers(-2, 9, starts).astype(np.int32)
    same(path, drawn(kind, operand), at, drawn(kind, updates), tolerance=1e-6)
