"""Convolutions of TFLite: the importer against LiteRT, on one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, TfliteGraph, by_litert, by_onnxruntime, imported, lsb, one_operator, relative
from tflite_products import Drawn, integer_convolution, nodes, packed, size

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

SUMS = 1e-5
"""Of float sums: both runtimes add in other orders; 5e-6 was the worst of 400, where one image outweighs another by 10,000."""


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("family", ["dense", "depthwise", "grouped"])
@pytest.mark.parametrize("optimize", [True, False])
def test_convolutions_of_8_bits_are_exact_and_run_on_integers_or_whole_numbers(
    tmp_path: Path, kind: str, family: str, *, optimize: bool
) -> None:
    for seed in range(25):
        made = integer_convolution(
            tmp_path / "m.tflite",
            Drawn(seed, kind),
            depthwise=family == "depthwise",
            groups=2 if family == "grouped" else 1,
        )
        result = imported(made.path, optimize=optimize)
        assert lsb(by_litert(made.path, *made.feeds), by_onnxruntime(result, *made.feeds)) == 0, seed
        kernels = {"QLinearConv"} | ({"Conv"} if optimize else set())  # see test_tflite_whole_conv
        assert kernels & set(nodes(result)), seed


@pytest.mark.parametrize("opset", [13, 15, 17])
def test_older_opsets_are_as_exact(tmp_path: Path, opset: int) -> None:
    made = integer_convolution(tmp_path / "m.tflite", Drawn(7, "INT8"), depthwise=False)
    assert (
        lsb(by_litert(made.path, *made.feeds), by_onnxruntime(imported(made.path, opset=opset), *made.feeds))
        == 0
    )


@pytest.mark.parametrize("scale", [12 / 5, 12 / 7, 12 / 9, 12 / 11, 12 / 13])
@pytest.mark.parametrize("zero_point", [-128, -3, 4])
def test_a_clamp_halfway_between_two_codes_is_the_code_of_xnnpack(
    tmp_path: Path, scale: float, zero_point: int
) -> None:
    x = np.arange(-128, 128, dtype=np.int8).reshape(1, 16, 16, 1)
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D",
        [Put(x.shape, "INT8", 0.1), Put((1, 1, 1, 1), "INT8", 0.01, value=np.int8(100)), Put((1,), "INT32", 0.001, value=np.int32(0))],
        [Put(x.shape, "INT8", scale, zero_point)], "Conv2DOptions", version=3, strideH=1, strideW=1, fusedActivationFunction=3,
    )  # fmt: skip
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


# ---------------------------------------------------------------- kernels of TFLite's own


EITHER = ["computed weights", "computed bias", "odd axis", "odd axis depthwise"]
SIGNED = ["int4", "int4 per channel", "int4 in groups", "int4 depthwise"]


@pytest.mark.parametrize(
    ("case", "kind"),
    [*((case, kind) for case in EITHER for kind in ("INT8", "UINT8")), *((case, "INT8") for case in SIGNED)],
)
@pytest.mark.parametrize("outputs", [8, 12])
def test_what_xnnpack_leaves_to_tflites_own_kernels_is_exact(
    tmp_path: Path, case: str, kind: str, outputs: int
) -> None:
    draw, depthwise, given = Drawn(3, kind), "depthwise" in case, np.float32(0.05)
    channels = outputs if depthwise else 8
    shape = (1, 3, 3, outputs) if depthwise else (outputs, 3, 3, 4 if "groups" in case else 8)
    weights = draw.rng.integers(-7, 8, shape).astype(np.int8) if "int4" in case else draw.codes(*shape)
    scale = draw.weights_scale(outputs, per_axis="channel" in case or (depthwise and kind == "INT8"))
    x, bias = draw.codes(2, 30, 30, channels), draw.bias(outputs)
    axis = 3 if depthwise and scale.size > 1 else 1 if "odd" in case and scale.size == 1 else 0
    told = Put(shape, "INT4" if "int4" in case else kind, scale, 0 if kind == "INT8" else 120, axis,
               None if case == "computed weights" else packed(weights) if "int4" in case else weights)  # fmt: skip
    path = one_operator(
        tmp_path / "m.tflite", "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        [Put(x.shape, kind, given, 3), told, Put((outputs,), "INT32", scale * given, value=None if case == "computed bias" else bias)],
        [Put((2, 28, 28, outputs), kind, float(np.mean(scale) * given * 9 * (5 if "int4" in case else 80)), 40)],
        "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", version=7, strideH=1, strideW=1, padding=1, **({"depthMultiplier": 1} if depthwise else {}),
    )  # fmt: skip
    feeds = [
        x,
        *([weights] if case == "computed weights" else []),
        *([bias] if case == "computed bias" else []),
    ]
    assert lsb(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) == 0


@pytest.mark.parametrize(("bias", "depthwise"), [("int64", False), ("int64", True), ("int32", False)])
def test_int16_activations_are_exact(tmp_path: Path, bias: str, depthwise: bool) -> None:
    rng = np.random.default_rng(5)
    x, shape = (
        rng.integers(-32768, 32768, (2, 8, 9, 64)).astype(np.int16),
        (1, 3, 2, 64) if depthwise else (8, 3, 2, 64),
    )
    weights, outputs = rng.integers(-127, 128, shape).astype(np.int8), 64 if depthwise else 8
    scale, given = rng.uniform(0.001, 0.02, outputs).astype(np.float32), np.float32(1e-3)
    for padding in (0, 1):
        options = {"depthMultiplier": 1} if depthwise else {"quantizedBiasType": 2 if bias == "int32" else 4}
        path = one_operator(
            tmp_path / "m.tflite", "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            [Put(x.shape, "INT16", given), Put(shape, "INT8", scale, 0, 3 if depthwise else 0, weights),
             Put((outputs,), bias.upper(), scale * given, value=rng.integers(-(10**6), 10**6, outputs).astype(bias))],
            [Put((2, size(8, 3, 1, padding), size(9, 2, 1, padding), outputs), "INT16", 0.05 if depthwise else 0.2)],
            "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", version=5 if depthwise else 8, strideH=1, strideW=1, padding=padding,
            fusedActivationFunction=padding, **options,
        )  # fmt: skip
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


def test_an_int32_bias_that_litert_would_read_as_int64_is_refused(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D",
        [Put((1, 4, 4, 1), "INT16", 0.1), Put((1, 1, 1, 1), "INT8", 0.1, value=np.int8(3)), Put((1,), "INT32", 0.01, value=np.int32(5))],
        [Put((1, 4, 4, 1), "INT16", 0.1)], "Conv2DOptions", version=8, strideH=1, strideW=1,
    )  # fmt: skip
    with pytest.raises(UnsupportedOperator, match="its bias is int32, and it does not say so"):
        imported(path)


# ---------------------------------------------------------------- float


@pytest.mark.parametrize("opset", [13, 16, 18])
@pytest.mark.parametrize("signature", [None, (-1, 8, 9, 8), (-1, -1, -1, 8)])
def test_float_convolutions_agree(tmp_path: Path, opset: int, signature: tuple[int, ...] | None) -> None:
    rng = np.random.default_rng(1)
    for stride, padding, activation in ((1, 0, 1), (2, 0, 3), (2, 1, 2), (1, 1, 0)):
        weights = rng.normal(size=(5, 3, 2, 8)).astype(np.float32)
        x, out = (
            rng.normal(size=(1, 8, 9, 8)).astype(np.float32),
            (1, size(8, 3, stride, padding), size(9, 2, stride, padding), 5),
        )
        path = one_operator(
            tmp_path / "m.tflite", "CONV_2D", [Put(x.shape, more={"signature": signature}), Put(weights.shape, value=weights), Put((5,), value=rng.normal(size=5).astype(np.float32))],
            [Put(out)], "Conv2DOptions", strideH=stride, strideW=stride, padding=padding, fusedActivationFunction=activation,
        )  # fmt: skip
        assert relative(by_litert(path, x), by_onnxruntime(imported(path, opset=opset), x)) <= SUMS


def test_weights_of_float16_stay_so_in_the_file(tmp_path: Path) -> None:
    rng, graph = np.random.default_rng(1), TfliteGraph()
    half = rng.normal(size=(5, 3, 2, 8)).astype(np.float16)
    x, stored, y = (
        graph.tensor("x", (1, 8, 9, 8)),
        graph.tensor("half", half.shape, half, "FLOAT16"),
        graph.tensor("y", (1, 8, 9, 5)),
    )
    weights, bias = graph.tensor("w", half.shape), graph.tensor("b", (5,), np.ones(5, np.float32))
    graph.operator("DEQUANTIZE", [stored], [weights], "DequantizeOptions", version=3)
    graph.operator("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", strideH=1, strideW=1)
    path, feed = (
        graph.write(tmp_path / "m.tflite", [x], [y]),
        rng.normal(size=(1, 8, 9, 8)).astype(np.float32),
    )
    result = imported(path)
    assert relative(by_litert(path, feed), by_onnxruntime(result, feed)) <= SUMS
    assert [tensor.data_type for tensor in onnx.load(result).graph.initializer if len(tensor.dims) == 4] == [
        onnx.TensorProto.FLOAT16
    ]


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_a_dynamic_picture_takes_any_size(tmp_path: Path, stride: int, dilation: int) -> None:
    rng = np.random.default_rng(2)
    weights = rng.normal(size=(5, 3, 3, 2)).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D", [Put((1, 1, 1, 2), more={"signature": (-1, -1, -1, 2)}), Put(weights.shape, value=weights), Put((5,), value=np.zeros(5, np.float32))],
        [Put((1, 1, 1, 5), more={"signature": (-1, -1, -1, 5)})], "Conv2DOptions", strideH=stride, strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation,
    )  # fmt: skip
    result = imported(path)
    for shape in ((1, 7, 8, 2), (3, 10, 5, 2)):
        x = rng.normal(size=shape).astype(np.float32)
        assert relative(by_litert(path, x), by_onnxruntime(result, x)) <= SUMS


@pytest.mark.parametrize("activation", [4, 5])
def test_a_fused_activation_that_litert_leaves_out_is_refused(tmp_path: Path, activation: int) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D", [Put((1, 4, 4, 1)), Put((1, 1, 1, 1), value=np.float32(1)), Put((1,), value=np.float32(0))],
        [Put((1, 4, 4, 1))], "Conv2DOptions", strideH=1, strideW=1, fusedActivationFunction=activation,
    )  # fmt: skip
    with pytest.raises(UnsupportedOperator, match="LiteRT does not apply its fused"):
        imported(path)


def test_volumes_agree(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    x, bias = (
        rng.normal(size=(2, 5, 6, 7, 3)).astype(np.float32),
        Put((4,), value=rng.normal(size=4).astype(np.float32)),
    )
    for padding, out, back in ((0, (5, 3, 7), (5, 12, 7)), (1, (4, 2, 6), (6, 13, 8))):
        options = {"strideD": 1, "strideH": 2, "strideW": 1, "padding": padding}
        forward = rng.normal(size=(2, 3, 2, 3, 4)).astype(np.float32)
        path = one_operator(
            tmp_path / "m.tflite",
            "CONV_3D",
            [Put(x.shape), Put(forward.shape, value=forward), bias],
            [Put((2, *out, 4))],
            "Conv3DOptions",
            **options,
        )
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) <= SUMS
        backward = rng.normal(size=(2, 3, 2, 4, 3)).astype(np.float32)
        shape = Put((5,), "INT32", value=np.array([2, *back, 4], np.int32))
        path = one_operator(tmp_path / "m.tflite", "CONV_3D_TRANSPOSE", [shape, Put(backward.shape, value=backward), Put(x.shape), bias], [Put((2, *back, 4))],
                            "Conv3DOptions", **options)  # fmt: skip
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) <= SUMS


# ---------------------------------------------------------------- float activations, integer weights


@pytest.mark.parametrize("kernel", [(3, 2), (1, 1)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", ["INT8", "INT4"])
def test_hybrid_convolutions_round_their_input_as_xnnpack_does(
    tmp_path: Path, kernel: tuple[int, int], stride: int, groups: int, kind: str
) -> None:
    rng = np.random.default_rng(4)
    for trial in range(6):
        if kind == "INT4" and groups == 2 and not trial % 2:
            continue  # LiteRT refuses groups of weights with one scale
        x = (rng.normal(size=(2, 8, 9, 8)) * rng.choice([0.01, 1, 100], (2, 1, 1, 1))).astype(np.float32)
        x = {0: np.abs(x), 1: np.zeros_like(x), 2: -np.abs(x)}.get(trial, x)
        weights = rng.integers(
            -7 if kind == "INT4" else -127, 8 if kind == "INT4" else 128, (6, *kernel, 8 // groups)
        ).astype(np.int8)
        scale = rng.uniform(0.001, 0.02, 6 if trial % 2 else ()).astype(np.float32)
        path = one_operator(
            tmp_path / "m.tflite", "CONV_2D", [Put(x.shape), Put(weights.shape, kind, scale, value=packed(weights) if kind == "INT4" else weights),
                                               Put((6,), value=rng.normal(size=6).astype(np.float32))],
            [Put((2, size(8, kernel[0], stride, 0), size(9, kernel[1], stride, 0), 6))], "Conv2DOptions", version=7, strideH=stride, strideW=stride,
        )  # fmt: skip
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) <= SUMS


def test_hybrid_depthwise_convolutions_round_their_input_as_xnnpack_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    for multiplier in (1, 2):
        x, outputs = rng.normal(size=(2, 8, 9, 4)).astype(np.float32), 4 * multiplier
        weights, scale = (
            rng.integers(-127, 128, (1, 3, 3, outputs)).astype(np.int8),
            rng.uniform(0.001, 0.02, outputs).astype(np.float32),
        )
        path = one_operator(
            tmp_path / "m.tflite", "DEPTHWISE_CONV_2D", [Put(x.shape), Put(weights.shape, "INT8", scale, 0, 3, weights), Put((outputs,), value=np.zeros(outputs, np.float32))],
            [Put((2, 8, 9, outputs))], "DepthwiseConv2DOptions", version=6, strideH=1, strideW=1, depthMultiplier=multiplier,
        )  # fmt: skip
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) <= SUMS


def test_hybrid_weights_of_old_converters_are_refused(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D", [Put((1, 4, 4, 1)), Put((1, 1, 1, 1), "UINT8", 0.1, value=np.uint8(3)), Put((1,), value=np.float32(0))],
        [Put((1, 4, 4, 1))], "Conv2DOptions", version=2, strideH=1, strideW=1,
    )  # fmt: skip
    with pytest.raises(UnsupportedOperator, match="its input is float, and its weights are uint8"):
        imported(path)


@pytest.mark.parametrize(("shape", "scale", "why"), [
    ((4, 4), 0.1, r"its weights have the shape \[4, 4\]"), ((0, 1, 1, 4), 0.1, r"its weights have the shape \[0, 1, 1, 4\]"),
    ((1, 1, 1, 3), 0.1, "its input has 4 channels, and its weights take 3"),
    ((1, 1, 1, 4), None, "its weights are int8 without scales"),
])  # fmt: skip
def test_weights_that_contradict_themselves_are_told(
    tmp_path: Path, shape: tuple[int, ...], scale: float | None, why: str
) -> None:
    weights = Put(shape, "INT8", scale, value=np.ones(shape, np.int8))
    path = one_operator(tmp_path / "m.tflite", "CONV_2D", [Put((1, 4, 4, 4), "INT8", 0.1), weights, Put((1,), "INT32", value=np.int32(0))],
                        [Put((1, 4, 4, 1), "INT8", 0.1)], "Conv2DOptions", version=3, strideH=1, strideW=1)  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=why):
        imported(path)
