"""A PAD before a convolution or a pool becomes its own padding: the importer against LiteRT, to the last bit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported
from tflite_moves import KINDS, operators, some

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

HALVES = {"strideH": 2, "strideW": 2, "padding": 1}
POOL = {**HALVES, "filterHeight": 3, "filterWidth": 3}
BORDER = [[0, 0], [1, 1], [0, 1], [0, 0]]


def padded(
    path: Path, kind: str, dtype: str, paddings: Any = BORDER, *, filler: Any = None, shared: bool = False
) -> Path:
    """``kind`` behind a PAD, or a PADV2 where ``filler`` is told; the padded tensor is an output too where it is shared."""
    quantization: dict[str, Any] = {"scale": 0.05, "zero_point": 3} if dtype == "int8" else {}
    graph = TfliteGraph()
    x = graph.tensor("x", (1, 6, 6, 4), None, KINDS[dtype], **quantization)
    pads = graph.tensor("pads", (4, 2), np.array(paddings, np.int32), "INT32")
    wide = graph.tensor("wide", (1, 8, 7, 4), None, KINDS[dtype], **quantization)
    if filler is None:
        graph.operator("PAD", [x, pads], [wide])
    else:
        graph.operator(
            "PADV2",
            [x, pads, graph.tensor("filler", (), np.array(filler, dtype), KINDS[dtype], **quantization)],
            [wide],
        )
    y = graph.tensor(
        "y",
        (1, 3, 3, 4),
        None,
        KINDS[dtype],
        **(
            quantization
            if kind == "MAX_POOL_2D"
            else {**quantization, **({"scale": 0.4} if quantization else {})}
        ),
    )
    if kind == "MAX_POOL_2D":
        graph.operator(kind, [wide], [y], "Pool2DOptions", **POOL)
    else:
        shape = (4, 3, 3, 4) if kind == "CONV_2D" else (1, 3, 3, 4)
        weights = some(shape, "int8" if quantization else "float32") // (20 if quantization else 1)
        w = graph.tensor(
            "w", shape, weights, KINDS[str(weights.dtype)], **({"scale": 0.01} if quantization else {})
        )
        options = "Conv2DOptions" if kind == "CONV_2D" else "DepthwiseConv2DOptions"
        bias = np.zeros(4, np.int32 if quantization else np.float32)  # LiteRT's int8 kernel dies without one
        b = graph.tensor(
            "b", (4,), bias, KINDS[str(bias.dtype)], **({"scale": 0.0005} if quantization else {})
        )
        graph.operator(
            kind,
            [wide, w, b],
            [y],
            options,
            version=3,
            **HALVES,
            **({} if kind == "CONV_2D" else {"depthMultiplier": 1}),
        )
    return graph.write(path, [x], [y, wide] if shared else [y])


def agrees(path: Path, dtype: str) -> Path:
    x, found = some((1, 6, 6, 4), dtype), imported(path)
    for want, have in zip(by_litert(path, x), by_onnxruntime(found, x), strict=True):
        np.testing.assert_allclose(
            have, want, rtol=1e-6 if dtype == "float32" else 0, atol=1e-6 if dtype == "float32" else 0
        )
    return found


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["CONV_2D", "DEPTHWISE_CONV_2D"])
def test_zeros_around_a_convolution_are_its_own_padding(tmp_path: Path, kind: str, dtype: str) -> None:
    assert "Pad" not in operators(agrees(padded(tmp_path / "m.tflite", kind, dtype), dtype))


@pytest.mark.parametrize(("dtype", "filler"), [("float32", -np.inf), ("int8", -128)])
def test_the_lowest_number_around_a_pool_is_its_own_padding(
    tmp_path: Path, dtype: str, filler: float
) -> None:
    assert "Pad" not in operators(
        agrees(padded(tmp_path / "m.tflite", "MAX_POOL_2D", dtype, filler=filler), dtype)
    )


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("kind", ["CONV_2D", "MAX_POOL_2D"])
def test_other_numbers_stay_padded(tmp_path: Path, kind: str, dtype: str) -> None:
    assert "Pad" in operators(agrees(padded(tmp_path / "m.tflite", kind, dtype, filler=7), dtype))


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_a_padded_tensor_that_others_need_stays(tmp_path: Path, dtype: str) -> None:
    assert "Pad" in operators(agrees(padded(tmp_path / "m.tflite", "CONV_2D", dtype, shared=True), dtype))


def test_padded_channels_or_batches_stay(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (1, 6, 6, 3)), graph.tensor("y", (2, 6, 6, 5))
    wide = graph.tensor("wide", (2, 6, 6, 4))
    graph.operator(
        "PAD",
        [x, graph.tensor("pads", (4, 2), np.array([[1, 0], [0, 0], [0, 0], [0, 1]], np.int32), "INT32")],
        [wide],
    )
    graph.operator(
        "CONV_2D",
        [wide, graph.tensor("w", (5, 1, 1, 4), some((5, 1, 1, 4))), graph.tensor("b", (5,), some((5,)))],
        [y],
        "Conv2DOptions",
        strideH=1,
        strideW=1,
    )
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    found, fed = imported(path), some((1, 6, 6, 3))
    np.testing.assert_allclose(by_onnxruntime(found, fed)[0], by_litert(path, fed)[0], rtol=1e-6, atol=1e-6)
    assert "Pad" in operators(found)
