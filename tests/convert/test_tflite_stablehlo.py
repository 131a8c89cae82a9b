"""Operators of StableHLO in TFLite files, and DILATE: the importer against LiteRT."""

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

from mlconv.errors import UnsupportedOperator

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


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8", "UINT8", "INT16", "INT32", "INT64"])
@pytest.mark.parametrize("operator", ["ADD", "MULTIPLY", "MAXIMUM", "MINIMUM"])
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), ()], ids=str)
def test_arithmetic_wraps_as_litert_s_does(
    operator: str, kind: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = one_operator(
        tmp_path / "m.tflite", f"STABLEHLO_{operator}", [Put(shape, kind)] * 2, [Put(shape, kind)]
    )
    same(path, drawn(kind, shape), drawn(kind, shape))


@pytest.mark.parametrize("kind", ["BOOL", "INT8", "INT16", "INT32"])
def test_and(kind: str, tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "STABLEHLO_AND", [Put((64,), kind)] * 2, [Put((64,), kind)])
    same(path, drawn(kind, (64,)), drawn(kind, (64,)))


@pytest.mark.parametrize("kind", ["INT8", "INT16", "INT32"])
def test_shifts(kind: str, tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "STABLEHLO_SHIFT_LEFT", [Put((64,), kind)] * 2, [Put((64,), kind)]
    )
    bits = np.iinfo(kind.lower()).bits
    same(path, drawn(kind, (64,)), RNG.integers(0, bits, 64).astype(kind.lower()))


def test_quantized_arithmetic_is_refused_as_litert_computes_on_codes(tmp_path: Path) -> None:
    puts = [Put((4,), "INT8", 0.5)] * 2
    with pytest.raises(UnsupportedOperator, match="as if they were numbers"):
        imported(one_operator(tmp_path / "m.tflite", "STABLEHLO_ADD", puts, [Put((4,), "INT8", 0.5)]))


PADS = {
    "edges": ([1, 0, 2], [0, 3, 1], [0, 0, 0]),
    "between": ([0, 0, 0], [0, 0, 0], [1, 2, 0]),
    "both": ([1, 2, 0], [3, 0, 1], [2, 1, 3]),
    "cut": ([-1, 0, -2], [0, -1, 1], [0, 1, 1]),
    "nothing": ([0, 0, 0], [0, 0, 0], [0, 0, 0]),
}


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8", "INT32", "INT64"])
@pytest.mark.parametrize("pads", PADS)
@pytest.mark.parametrize("opset", [13, 18])
def test_padding_at_the_edges_and_between(pads: str, kind: str, opset: int, tmp_path: Path) -> None:
    low, high, between = PADS[pads]
    x, value = drawn(kind, (3, 4, 5)), drawn(kind, ())
    shape = np.array(x.shape) + np.array(low) + high + np.array(between) * (np.array(x.shape) - 1)
    path = one_operator(
        tmp_path / "m.tflite", "STABLEHLO_PAD", [Put(x.shape, kind), Put((), kind, value=value)], [Put(shape.tolist(), kind)],
        "StablehloPadOptions", edgePaddingLow=low, edgePaddingHigh=high, interiorPadding=between,
    )  # fmt: skip
    same(path, x, opset=opset)


@pytest.mark.parametrize("kind", ["FLOAT32", "INT8", "INT64"])
@pytest.mark.parametrize("dilations", [[2, 1, 3], [1, 1, 1], [4, 2, 1]], ids=str)
def test_dilate(kind: str, dilations: list[int], tmp_path: Path) -> None:
    x = drawn(kind, (3, 1, 4))
    shape = [(size - 1) * dilation + 1 for size, dilation in zip(x.shape, dilations, strict=True)]
    path = one_operator(
        tmp_path / "m.tflite", "DILATE", [Put(x.shape, kind), Put((3,), "INT32", value=np.array(dilations, np.int32)), Put((), kind)],
        [Put(shape, kind)],
    )  # fmt: skip
    same(path, x, drawn(kind, ()))


# ------------------------------------------------------------------ composites


def named(name: str) -> dict[str, Any]:
    """Options of a composite whose decomposition is subgraph 1."""
    from flatbuffers import flexbuffers  # type: ignore[import-untyped]

    attributes = np.frombuffer(bytes(flexbuffers.Dumps({})), np.uint8)
    return {"name": name.encode(), "decompositionSubgraphIndex": 1, "compositeAttributes": attributes}


def test_a_composite_is_what_its_decomposition_computes(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, y, z, out = (g.tensor(name, (1, 4, 4, 3)) for name in ("x", "y", "z", "out"))
    for given, made in ((x, y), (y, z)):
        g.operator("STABLEHLO_COMPOSITE", [given], [made], "StableHLOCompositeOptions", **named("odml.twice"))
    g.operator("STABLEHLO_ADD", [x, z], [out])
    g.subgraph()
    a, b, c = (g.tensor(name, (1, 4, 4, 3)) for name in "abc")
    two = g.tensor("two", (1, 4, 4, 3), np.full((1, 4, 4, 3), 2, np.float32))
    g.operator("STABLEHLO_MULTIPLY", [a, two], [b])
    g.operator("STABLEHLO_MAXIMUM", [b, two], [c])
    g.ends([a], [c])
    same(g.write(tmp_path / "m.tflite", [x], [out]), drawn("FLOAT32", (1, 4, 4, 3)))


def test_a_composite_of_tensors_without_a_layout(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, y, out = (g.tensor(name, (2, 3)) for name in ("x", "y", "out"))
    g.operator("STABLEHLO_COMPOSITE", [x], [y], "StableHLOCompositeOptions", **named("odml.product"))
    g.operator("STABLEHLO_ADD", [y, y], [out])
    g.subgraph()
    a, b, c = (g.tensor(name, (2, 3)) for name in "abc")
    g.operator("STABLEHLO_ADD", [a, a], [b])
    g.operator("STABLEHLO_MULTIPLY", [b, a], [c])
    g.ends([a], [c])
    same(g.write(tmp_path / "m.tflite", [x], [out]), drawn("FLOAT32", (2, 3)))


def test_a_composite_between_convolutions_costs_no_transpose(tmp_path: Path) -> None:
    import onnx

    g = TfliteGraph()
    x, y, z, out = (g.tensor(name, (1, 4, 4, 3)) for name in ("x", "y", "z", "out"))
    weights, bias = drawn("FLOAT32", (3, 1, 1, 3)), drawn("FLOAT32", (3,))
    constants = [g.tensor("w", weights.shape, weights), g.tensor("b", (3,), bias)]
    g.operator("CONV_2D", [x, *constants], [y], "Conv2DOptions", strideH=1, strideW=1)
    g.operator("STABLEHLO_COMPOSITE", [y], [z], "StableHLOCompositeOptions", **named("odml.silu"))
    g.operator("CONV_2D", [z, *constants], [out], "Conv2DOptions", strideH=1, strideW=1)
    g.subgraph()
    a, b, c = (g.tensor(name, (1, 4, 4, 3)) for name in "abc")
    g.operator("LOGISTIC", [a], [b])
    g.operator("MUL", [a, b], [c], "MulOptions")
    g.ends([a], [c])
    path = g.write(tmp_path / "m.tflite", [x], [out])
    same(path, drawn("FLOAT32", (1, 4, 4, 3)), tolerance=1e-6)
    kinds = [node.op_type for node in onnx.load(imported(path)).graph.node]
    assert kinds.count("Transpose") <= 2


# ------------------------------------------------------------------ branches


@pytest.mark.parametrize("shape", [(3,), (1, 2, 2, 3)], ids=str)
@pytest.mark.parametrize("chosen", [0, 1, 2, -1, 7])
@pytest.mark.parametrize("opset", [13, 18])
def test_a_case_takes_the_branch_of_its_number_or_the_last(
    chosen: int, shape: tuple[int, ...], opset: int, tmp_path: Path
) -> None:
    g = TfliteGraph()
    at, x, y, z = g.tensor("at", (), kind="INT32"), *(g.tensor(name, shape) for name in "xyz")
    out = g.tensor("out", shape)
    g.operator("STABLEHLO_ADD", [x, x], [y])
    g.operator("STABLEHLO_CASE", [at, y, x], [z], "StablehloCaseOptions", branchSubgraphIndices=[1, 2, 3])
    g.operator("STABLEHLO_ADD", [z, x], [out])
    for kind in ("STABLEHLO_ADD", "STABLEHLO_MULTIPLY", "STABLEHLO_MAXIMUM"):
        g.subgraph()
        a, b, c = (g.tensor(name, shape) for name in "abc")
        g.operator(kind, [a, b], [c])
        g.ends([a, b], [c])
    same(
        g.write(tmp_path / "m.tflite", [at, x], [out]),
        np.array(chosen, np.int32),
        drawn("FLOAT32", shape),
        opset=opset,
    )
