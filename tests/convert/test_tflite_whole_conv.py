"""Convolutions of 8 bits that are written in float32: right to the last bit, and really run so."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, by_litert, by_onnxruntime, import_job, imported, lsb, one_operator
from tflite_products import Drawn, Made, nodes, size

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]


def drawn(
    path: Path, draw: Drawn, *, groups: int = 1, channels: int = 1, each: int = 3, kernel: tuple[int, int] = (3, 3),
    sizes: tuple[int, int] = (48, 45), least_bias: int = 0, kind: str = "", signature: tuple[int, ...] | None = None,
) -> Made:  # fmt: skip
    """A convolution with ``channels`` and ``each`` outputs per group: depthwise where there are more groups of one channel."""
    rng, one_of, outputs = draw.rng, draw.one_of, groups * each
    kind = kind or ("DEPTHWISE_CONV_2D" if channels == 1 < groups else "CONV_2D")
    depthwise = kind != "CONV_2D"
    per_axis = draw.kind == "INT8" and (depthwise or bool(one_of(0, 1)))
    shape = (1, *kernel, outputs) if depthwise else (outputs, *kernel, channels)
    given, scale = float(one_of(0.05, 1 / 255, 1 / 128, 0.5)), draw.weights_scale(outputs, per_axis=per_axis)
    stride, padding, activation = int(one_of(1, 2)), int(one_of(0, 1)), int(one_of(0, 1, 3))
    dilation = 1 if stride > 1 else int(one_of(1, 2))
    x = draw.codes(2, *sizes, groups * channels)
    made = [size(one, at, stride, padding, dilation) for one, at in zip(sizes, kernel, strict=True)]
    bias = draw.bias(outputs) * int(one_of(0, 1, 1)) + np.int32(least_bias)
    result = draw.output_scale(given, scale, int(np.prod(kernel)) * channels)
    one_operator(
        path, kind,
        [Put(x.shape, draw.kind, given, draw.zero_point(), more={"signature": signature}),
         Put(shape, draw.kind, scale, 0 if draw.kind == "INT8" else int(rng.integers(100, 160)), 3 if depthwise and per_axis else 0, draw.codes(*shape, least=-127)),
         Put((outputs,), "INT32", scale * np.float32(given), value=bias)],
        [Put((2, *made, outputs), draw.kind, result, draw.zero_point())], "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions", version=5,
        strideH=stride, strideW=stride, dilationHFactor=dilation, dilationWFactor=dilation, padding=padding, fusedActivationFunction=activation,
        **({"depthMultiplier": each} if depthwise else {}),
    )  # fmt: skip
    return Made(path, [x])


FAMILIES = [
    {}, {"each": 1}, {"each": 16}, {"kernel": (7, 7), "each": 8}, {"kernel": (5, 1)}, {"kernel": (9, 9), "each": 1},
    {"groups": 3, "each": 2}, {"groups": 8, "each": 8}, {"groups": 16, "each": 3, "kernel": (5, 5)}, {"each": 4, "kernel": (7, 7), "kind": "DEPTHWISE_CONV_2D"},
    {"channels": 2, "each": 9}, {"groups": 4, "channels": 2, "each": 4}, {"groups": 4, "channels": 4, "each": 16}, {"groups": 2, "channels": 3, "each": 1},
]  # fmt: skip


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_both_forms_are_exact(tmp_path: Path, kind: str, family: dict[str, object]) -> None:
    for seed in range(6):
        made = drawn(tmp_path / "m.tflite", Drawn(seed, kind), **family)  # type: ignore[arg-type]
        wanted = by_litert(made.path, *made.feeds)
        result = imported(made.path)
        assert lsb(wanted, by_onnxruntime(result, *made.feeds)) == 0, seed
        runs = nodes(result)
        assert "Conv" in runs, seed
        assert "QLinearConv" not in runs, seed
        result = imported(made.path, optimize=False)
        assert lsb(wanted, by_onnxruntime(result, *made.feeds)) == 0, seed
        assert "QLinearConv" in nodes(result), seed


@pytest.mark.parametrize("scale", [0.02, [0.02, 0.04, 0.01]], ids=["one", "per channel"])
def test_onnxruntime_does_not_multiply_the_weights_by_the_ratio(
    tmp_path: Path, scale: float | list[float]
) -> None:
    """A sixth of all sums lies halfway between two codes: weights times the ratio would send some of them the other way."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-3, 4, (3, 5, 5, 1)).astype(np.int8)
    x = rng.integers(-128, 128, (1, 64, 64, 1)).astype(np.int8)
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D",
        [Put(x.shape, "INT8", 0.5, 3), Put(weights.shape, "INT8", scale, value=weights),
         Put((3,), "INT32", np.array(scale) * 0.5, value=np.array([7, -9, 0], np.int32))],
        [Put((1, 64, 64, 3), "INT8", 0.06, 2)], "Conv2DOptions", version=3, strideH=1, strideW=1,
    )  # fmt: skip
    result = imported(path)
    assert lsb(by_litert(path, x), by_onnxruntime(result, x)) == 0
    # the product of one ratio stays a Mul, that of several becomes a second Conv in blocks of channels
    runs = nodes(result)
    assert runs.count("Conv") + runs.count("Mul") == 2, runs
    assert runs.count("Transpose") <= 2, runs


@pytest.mark.parametrize("least_bias", [2**24, -(2**24), 2**30])
def test_sums_that_float32_does_not_hold_stay_integers(tmp_path: Path, least_bias: int) -> None:
    made = drawn(tmp_path / "m.tflite", Drawn(1, "INT8"), least_bias=least_bias)
    result = imported(made.path)
    assert lsb(by_litert(made.path, *made.feeds), by_onnxruntime(result, *made.feeds)) == 0
    assert "QLinearConv" in nodes(result)


def test_half_precision_holds_no_such_sums(tmp_path: Path) -> None:
    assert "QLinearConv" in nodes(
        imported(drawn(tmp_path / "m.tflite", Drawn(1, "INT8")).path, precision="fp16")
    )


@pytest.mark.parametrize("family", [
    {"kernel": (1, 1)}, {"each": 17}, {"channels": 3, "each": 8}, {"groups": 8, "each": 1}, {"groups": 2, "channels": 5},
    {"sizes": (7, 7)}, {"groups": 2, "channels": 4, "each": 17},
], ids=str)  # fmt: skip
def test_what_the_integer_kernel_does_faster_is_left_to_it(tmp_path: Path, family: dict[str, object]) -> None:
    made = drawn(tmp_path / "m.tflite", Drawn(2, "INT8"), **family)  # type: ignore[arg-type]
    result = imported(made.path)
    assert lsb(by_litert(made.path, *made.feeds), by_onnxruntime(result, *made.feeds)) == 0
    assert "QLinearConv" in nodes(result)


@pytest.mark.parametrize("signature", [(-1, 48, 45, 1), (-1, -1, -1, 1)])
@pytest.mark.parametrize("opset", [13, 18])
def test_sizes_may_be_left_open(tmp_path: Path, signature: tuple[int, ...], opset: int) -> None:
    made = drawn(tmp_path / "m.tflite", Drawn(3, "INT8"), signature=signature)
    result = imported(made.path, opset=opset)
    assert "QLinearConv" not in nodes(result)
    for x in (made.feeds[0], made.feeds[0][:1]):
        assert lsb(by_litert(made.path, x), by_onnxruntime(result, x)) == 0


@pytest.mark.parametrize("isa", ["vnni", "avx2", "portable"])
def test_the_float_form_is_no_operator_that_can_saturate(tmp_path: Path, isa: str) -> None:
    from mlconv.convert.tflite_to_onnx import run

    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D",
        [Put((1, 32, 32, 1), "INT8", 0.02, -128), Put((4, 3, 3, 1), "INT8", 0.01, value=np.full((4, 3, 3, 1), 127, np.int8)), Put((4,), "INT32", 0.0002, value=np.zeros(4, np.int32))],
        [Put((1, 32, 32, 4), "INT8", 0.2, 0)], "Conv2DOptions", version=3, strideH=1, strideW=1,
    )  # fmt: skip
    told = {
        choice: run(import_job(path, target_isa=isa, optimize=choice)).settings for choice in (True, False)
    }
    assert (told[True]["eight_bit_operators"], told[True]["can_saturate"]) == (0, 0)
    assert (told[False]["eight_bit_operators"], told[False]["can_saturate"]) == (1, int(isa == "vnni"))
