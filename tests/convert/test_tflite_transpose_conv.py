"""Transposed convolutions of TFLite: the importer against LiteRT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, by_litert, by_onnxruntime, imported, lsb, one_operator, relative
from tflite_products import Drawn, Made, nodes

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

SUMS = 1e-5  # of float sums in another order; 4e-7 was the worst of 100


def drawn(path: Path, seed: int, kind: str, *, computed_shape: bool) -> Made:
    """One with everything drawn; FLOAT32 activations have int8 weights where ``kind`` is HYBRID."""
    draw = Drawn(seed, kind if kind in ("INT8", "UINT8") else "INT8")
    rng, one_of = draw.rng, draw.one_of
    channels, outputs, batch, padding = (
        int(one_of(1, 3, 8)),
        int(one_of(1, 4, 5)),
        int(one_of(1, 2)),
        int(one_of(0, 1)),
    )
    strides = one_of((1, 1), (2, 2), (3, 3), (1, 2))
    kernel, given = (
        (int(rng.integers(1, 5)), int(rng.integers(1, 5))),
        (int(rng.integers(2, 6)), int(rng.integers(2, 6))),
    )
    sizes = [
        given[i] * strides[i] - (int(one_of(0, 1)) if strides[i] > 1 else 0)
        if padding == 0
        else (given[i] - 1) * strides[i] + kernel[i]
        for i in (0, 1)
    ]
    out = (batch, *sizes, outputs)
    scale = draw.weights_scale(outputs, per_axis=kind in ("INT8", "HYBRID") and bool(one_of(0, 1)))
    operands: dict[str, Any]
    if kind in ("INT8", "UINT8"):
        x = draw.codes(batch, *given, channels)
        weights = Put(
            (outputs, *kernel, channels),
            kind,
            scale,
            0 if kind == "INT8" else 128,
            0,
            draw.codes(outputs, *kernel, channels, least=-127),
        )
        bias = Put((outputs,), "INT32", scale * np.float32(0.05), value=draw.bias(outputs))
        result = float(np.mean(scale) * 0.05 * np.sqrt(kernel[0] * kernel[1] * channels) * 60)
        operands = {
            "x": Put(x.shape, kind, 0.05, draw.zero_point()),
            "y": Put(out, kind, result, draw.zero_point()),
        }
    else:
        x, bias = (
            rng.normal(size=(batch, *given, channels)).astype(np.float32),
            Put((outputs,), value=rng.normal(size=outputs).astype(np.float32)),
        )
        weights = Put(
            (outputs, *kernel, channels),
            value=rng.normal(size=(outputs, *kernel, channels)).astype(np.float32),
        )
        if kind == "HYBRID":
            weights = Put(weights.shape, "INT8", scale, value=draw.codes(*weights.shape, least=-127))
        operands = {"x": Put(x.shape), "y": Put(out)}
    shape = np.array(out, np.int32)
    one_operator(
        path, "TRANSPOSE_CONV", [Put((4,), "INT32", value=None if computed_shape else shape), weights, operands["x"], *([bias] if one_of(True, True, False) else [])],
        [operands["y"]], "TransposeConvOptions", version=4, strideH=strides[0], strideW=strides[1], padding=padding, fusedActivationFunction=int(one_of(0, 1, 3)),
    )  # fmt: skip
    return Made(path, [shape, x] if computed_shape else [x])


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("computed_shape", [False, True])
def test_transposed_convolutions_of_8_bits_are_exact(
    tmp_path: Path, kind: str, *, computed_shape: bool
) -> None:
    quick = 0
    for seed in range(25):
        made = drawn(tmp_path / "m.tflite", seed, kind, computed_shape=computed_shape)
        result = imported(made.path)
        assert lsb(by_litert(made.path, *made.feeds), by_onnxruntime(result, *made.feeds)) == 0, seed
        quick += "QLinearConv" in nodes(result)
    assert quick == (0 if computed_shape else 22)  # all but kernels smaller than the stride


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize(
    ("kernel", "stride", "output"),
    [(1, 2, 5), (1, 2, 6), (2, 3, 7), (2, 3, 8), (2, 3, 9), (2, 2, 6), (3, 2, 5)],
)
def test_kernels_smaller_than_the_stride_are_exact(
    tmp_path: Path, kind: str, kernel: int, stride: int, output: int
) -> None:
    """TFLite's own kernel runs them where padding is SAME, and rounds otherwise than XNNPACK at one element of 500."""
    draw, scale, outputs = Drawn(0, kind), np.float32(0.01), 11
    zero = 0 if kind == "INT8" else 120
    for padding in (0, 1):
        height = output if padding == 0 else 2 * stride + kernel
        x, weights = draw.codes(1, 3, 40, 4), draw.codes(outputs, kernel, 1, 4, least=-127)
        path = one_operator(
            tmp_path / "m.tflite", "TRANSPOSE_CONV",
            [Put((4,), "INT32", value=np.array([1, height, 40, outputs], np.int32)), Put(weights.shape, kind, scale, zero, 0, weights),
             Put(x.shape, kind, 0.037, 5), Put((outputs,), "INT32", scale * np.float32(0.037), value=draw.bias(outputs))],
            [Put((1, height, 40, outputs), kind, 0.0613, 3)], "TransposeConvOptions", version=3, strideH=stride, strideW=1, padding=padding,
        )  # fmt: skip
        result = imported(path)
        assert lsb(by_litert(path, x), by_onnxruntime(result, x)) == 0, padding
        assert (padding == 0 and kernel < stride) == ("ConvInteger" in nodes(result))


@pytest.mark.parametrize("kind", ["FLOAT32", "HYBRID"])
@pytest.mark.parametrize("computed_shape", [False, True])
def test_float_ones_agree(tmp_path: Path, kind: str, *, computed_shape: bool) -> None:
    for seed in range(15):
        made = drawn(tmp_path / "m.tflite", seed, kind, computed_shape=computed_shape)
        assert (
            relative(by_litert(made.path, *made.feeds), by_onnxruntime(imported(made.path), *made.feeds))
            <= SUMS
        ), seed


def test_a_computed_output_shape_is_followed_where_the_file_tells_no_size(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(3, 4, 3, 2)).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite", "TRANSPOSE_CONV",
        [Put((4,), "INT32"), Put(weights.shape, value=weights), Put((1, 1, 1, 2), more={"signature": (-1, -1, -1, 2)})],
        [Put((1, 1, 1, 3), more={"signature": (-1, -1, -1, 3)})], "TransposeConvOptions", version=2, strideH=2, strideW=2,
    )  # fmt: skip
    result = imported(path)
    for given, wanted in (((1, 4, 5, 2), (1, 8, 10, 3)), ((2, 3, 4, 2), (2, 5, 7, 3))):
        feeds = [np.array(wanted, np.int32), rng.normal(size=given).astype(np.float32)]
        assert relative(by_litert(path, *feeds), by_onnxruntime(result, *feeds)) <= SUMS


def test_int16_activations_are_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    x, weights = (
        rng.integers(-32768, 32768, (2, 8, 9, 8)).astype(np.int16),
        rng.integers(-127, 128, (5, 3, 2, 8)).astype(np.int8),
    )
    scale = rng.uniform(0.001, 0.02, 5).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite", "TRANSPOSE_CONV",
        [Put((4,), "INT32", value=np.array([2, 16, 18, 5], np.int32)), Put(weights.shape, "INT8", scale, value=weights), Put(x.shape, "INT16", 1e-3),
         Put((5,), "INT64", scale * np.float32(1e-3), value=rng.integers(-(10**6), 10**6, 5))],
        [Put((2, 16, 18, 5), "INT16", 0.05)], "TransposeConvOptions", version=3, strideH=2, strideW=2,
    )  # fmt: skip
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


def test_computed_weights_are_refused(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "TRANSPOSE_CONV", [Put((4,), "INT32", value=np.array([1, 4, 4, 1], np.int32)), Put((1, 1, 1, 1)), Put((1, 4, 4, 1))],
        [Put((1, 4, 4, 1))], "TransposeConvOptions", version=2, strideH=1, strideW=1,
    )  # fmt: skip
    with pytest.raises(UnsupportedOperator, match="its weights are computed while the model runs"):
        imported(path)
