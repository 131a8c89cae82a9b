"""What the importer writes by default runs in releases of onnxruntime that users have, not in the newest alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.convert.tflite_models import (
    Put,
    TfliteGraph,
    all_pairs,
    by_litert,
    by_onnxruntime,
    imported,
    lsb,
    one_operator,
)

from mlconv.formats.onnx_file import load
from mlconv.runtimes import table
from mlconv.runtimes.operators import lacking

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

OLD = ("onnxruntime==1.17", "onnxruntime==1.20")


def lacks(path: Path) -> list[str]:
    proto = load(path)
    return [lack.shown for runtime in OLD for lack in lacking(proto, table.find(runtime))]


@pytest.mark.parametrize("opset", [13, 15, 18])
@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize(
    "operator", ["ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "EQUAL", "NOT_EQUAL", "LESS", "GREATER_EQUAL"]
)
def test_two_quantized_operands_need_no_new_kernel(
    tmp_path: Path, operator: str, kind: str, opset: int
) -> None:
    a, b = all_pairs(kind)
    is_told = operator in ("EQUAL", "NOT_EQUAL", "LESS", "GREATER_EQUAL")
    same = is_told or operator in ("MAXIMUM", "MINIMUM")
    zero = 0 if kind == "INT8" else 128
    options = {"EQUAL": "EqualOptions", "NOT_EQUAL": "NotEqualOptions", "LESS": "LessOptions", "GREATER_EQUAL": "GreaterEqualOptions",
               "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions"}.get(operator, f"{operator.title()}Options")  # fmt: skip
    path = one_operator(
        tmp_path / "m.tflite", operator, [Put(a.shape, kind, 0.043, zero), Put(a.shape, kind, 0.043 if same else 0.057, zero)],
        [Put(a.shape, "BOOL") if is_told else Put(a.shape, kind, 0.043 if same else 0.081, zero)], options, version=2 if operator != "MUL" else 1,
    )  # fmt: skip
    written = imported(path, opset=opset)
    assert lacks(written) == []
    if is_told:
        assert np.array_equal(by_litert(path, a, b)[0], by_onnxruntime(written, a, b)[0])
    else:
        assert lsb(by_litert(path, a, b), by_onnxruntime(written, a, b)) == 0


@pytest.mark.parametrize("operator", ["DEPTH_TO_SPACE", "SPACE_TO_DEPTH"])
def test_bytes_behind_a_convolution_move_between_depth_and_space(tmp_path: Path, operator: str) -> None:
    rng = np.random.default_rng(5)
    graph = TfliteGraph()
    weights = rng.integers(-127, 128, (8, 3, 3, 3), np.int8)
    scale = np.full(8, 0.004, np.float32)
    x = graph.tensor("x", (1, 8, 8, 3), kind="INT8", scale=0.05, zero_point=3)
    w = graph.tensor("w", weights.shape, weights, "INT8", scale=scale)
    bias = graph.tensor("b", (8,), np.zeros(8, np.int32), "INT32", scale=scale * np.float32(0.05))
    made = graph.tensor("made", (1, 8, 8, 8), kind="INT8", scale=0.1, zero_point=-5)
    shape = (1, 16, 16, 2) if operator == "DEPTH_TO_SPACE" else (1, 4, 4, 32)
    y = graph.tensor("y", shape, kind="INT8", scale=0.1, zero_point=-5)
    graph.operator("CONV_2D", [x, w, bias], [made], "Conv2DOptions", version=3, strideH=1, strideW=1)
    graph.operator(
        operator,
        [made],
        [y],
        "DepthToSpaceOptions" if operator == "DEPTH_TO_SPACE" else "SpaceToDepthOptions",
        blockSize=2,
    )
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    fed = rng.integers(-128, 128, (1, 8, 8, 3), np.int8)
    written = imported(path)
    assert lacks(written) == []
    assert lsb(by_litert(path, fed), by_onnxruntime(written, fed)) == 0


@pytest.mark.parametrize("per_channel", [False, True])
def test_16_bit_convolutions_have_weights_that_old_kernels_take(tmp_path: Path, *, per_channel: bool) -> None:
    rng = np.random.default_rng(1)
    weights, x = (
        rng.integers(-127, 128, (5, 3, 3, 4), np.int8),
        rng.integers(-32768, 32768, (1, 7, 7, 4)).astype(np.int16),
    )
    scales = rng.uniform(0.001, 0.01, 5).astype(np.float32) if per_channel else np.full(5, 0.004, np.float32)
    bias = Put((5,), "INT64", scales * np.float32(0.001), value=rng.integers(-9999, 9999, 5))
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D", [Put(x.shape, "INT16", 0.001), Put(weights.shape, "INT8", scales if per_channel else 0.004, 0, 0, weights), bias],
        [Put((1, 7, 7, 5), "INT16", 0.004)], "Conv2DOptions", version=4, strideH=1, strideW=1,
    )  # fmt: skip
    written = imported(path)
    assert lacks(written) == []
    assert lsb(by_litert(path, x), by_onnxruntime(written, x)) == 0
