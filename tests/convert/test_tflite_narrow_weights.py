"""Weights of 4 bits in TFLite: how small their ONNX files are, and scales in blocks; against LiteRT."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, TfliteGraph, by_litert, by_onnxruntime, imported, lsb, one_operator, relative
from tflite_products import Drawn, nodes, packed

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

SUMS = 1e-5  # of float sums in another order


@pytest.mark.parametrize("opset", [13, 18])
def test_weights_of_4_bits_stay_as_small_as_the_source_and_run_on_integers(
    tmp_path: Path, opset: int
) -> None:
    draw, given = Drawn(10, "INT8"), np.float32(0.05)
    for outputs, depth in (
        (64, 128),
        (33, 66),
        (33, 65),
    ):  # rows of the last end within a byte: TFLite's own kernel
        x, weights, scale = (
            draw.codes(40, depth),
            draw.rng.integers(-8, 8, (outputs, depth)).astype(np.int8),
            draw.weights_scale(outputs, per_axis=True),
        )
        stored = packed(np.append(weights, np.int8(0))) if weights.size % 2 else packed(weights)
        path = one_operator(
            tmp_path / "m.tflite", "FULLY_CONNECTED",
            [Put(x.shape, "INT8", given, 3), Put(weights.shape, "INT4", scale, value=stored), Put((outputs,), "INT32", scale * given, value=draw.bias(outputs))],
            [Put((40, outputs), "INT8", 0.05, -4)], "FullyConnectedOptions", version=12,
        )  # fmt: skip
        result = imported(path, opset=opset)
        assert lsb(by_litert(path, x), by_onnxruntime(result, x)) == 0
        assert ("QGemm" if depth % 2 == 0 else "MatMulInteger") in nodes(result)
        # TFLite's own kernel multiplies by fixed-point numbers of 31 bits, which stand in the file as two float64 a row
        assert (
            sum(len(tensor.raw_data) for tensor in onnx.load(result).graph.initializer)
            < weights.size / 2 + (24 if depth % 2 == 0 else 40) * outputs + 200
        )


def blockwise(path: Path, weights: np.ndarray, scales: np.ndarray, size: int) -> Path:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (2, 3, weights.shape[1])), graph.tensor("y", (6, len(weights)))
    narrow, numbers = (
        graph.tensor("w", weights.shape, packed(weights), "INT4"),
        graph.tensor("s", scales.shape, scales, "FLOAT16"),
    )
    bias = graph.tensor("b", (len(weights),), np.ones(len(weights), np.float32))
    told = graph.graph.tensors[narrow].quantization = graph.schema.QuantizationParametersT()
    told.detailsType, told.details = (
        graph.schema.QuantizationDetails.BlockwiseQuantization,
        graph.schema.BlockwiseQuantizationT(),
    )
    told.details.scales, told.details.zeroPoints, told.details.blockSize = numbers, -1, size
    graph.operator("FULLY_CONNECTED", [x, narrow, bias], [y], "FullyConnectedOptions", version=13)
    return graph.write(path, [x], [y])


@pytest.mark.parametrize("size", [32, 64])
def test_weights_in_blocks_have_scales_of_bfloat16_as_in_xnnpack(tmp_path: Path, size: int) -> None:
    rng = np.random.default_rng(11)
    weights, scales = (
        rng.integers(-7, 8, (24, 128)).astype(np.int8),
        rng.uniform(0.001, 0.02, (24, 128 // size)).astype(np.float16),
    )
    path, x = (
        blockwise(tmp_path / "m.tflite", weights, scales, size),
        rng.normal(size=(2, 3, 128)).astype(np.float32),
    )
    assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) <= SUMS


def test_blocks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = blockwise(tmp_path / "m.tflite", np.ones((4, 64), np.int8), np.ones((4, 1), np.float16), 32)
    with pytest.raises(UnsupportedOperator, match="a scale for every 32 elements, and the scales do not fit"):
        imported(path)
