"""What the table of operators says of 8-bit outputs, operator by operator: the tests of the families go further."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from tests.convert.tflite_models import Put, by_litert, by_onnxruntime, imported, lsb, one_operator

from mlconv.errors import SourceDoesNotRun, UnsupportedOperator
from mlconv.formats.tflite_operators import OPERATORS

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

Model: TypeAlias = tuple[list[Put], list[Put], str, dict[str, Any]]

SHAPE = (1, 4, 8, 8)
RNG = np.random.default_rng(0)


def given(shape: Sequence[int] = SHAPE, scale: float = 0.05, zero: int = -10) -> Put:
    return Put(tuple(shape), "INT8", scale, zero)


def numbers(*values: Any) -> Put:
    array = np.array(values, np.int32)
    return Put(array.shape, "INT32", value=array)


def scalar(value: int) -> Put:
    return Put((), "INT32", value=np.int32(value))


def codes(shape: Sequence[int], scale: Any, zero: int = 0, axis: int = 0) -> Put:
    return Put(tuple(shape), "INT8", scale, zero, axis, RNG.integers(-127, 128, shape, np.int8))


def moved(shape: Sequence[int], *more: Put, options: str = "", outputs: int = 1, **fields: Any) -> Model:
    """An operator that leaves codes as they are."""
    return [given(), *more], [given(shape)] * outputs, options, fields


def made(
    scale: float,
    zero: int,
    *more: Put,
    x: Put | None = None,
    options: str = "",
    shape: Sequence[int] = SHAPE,
    **fields: Any,
) -> Model:
    return [x or given(), *more], [given(shape, scale, zero)], options, fields


def convolution(
    weights: Sequence[int], axis: int, outputs: int, shape: Sequence[int], options: str, **fields: Any
) -> Model:
    scales = RNG.uniform(0.001, 0.01, outputs).astype(np.float32)
    bias = Put(
        (outputs,), "INT32", scales * np.float32(0.05), 0, 0, RNG.integers(-500, 500, outputs, np.int32)
    )
    return [given(), codes(weights, scales, 0, axis), bias], [given(shape, 0.1, -4)], options, fields


POOL = {"strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
BLOCKS = numbers(2, 2), numbers([0, 0], [0, 0])
COMPUTED: dict[str, Model] = {
    **{kind: made(0.04, 5) for kind in ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "ELU", "HARD_SWISH", "ABS", "EXP")},
    "LOG": made(0.04, 5, x=given(zero=-128)), "SQRT": made(0.02, -128, x=given(zero=-128)), "RSQRT": made(0.02, -128, x=given(zero=-128)),
    "NEG": made(0.05, -10), "LOGISTIC": made(1 / 256, -128), "TANH": made(1 / 128, 0), "QUANTIZE": made(0.07, 11),
    "LEAKY_RELU": made(0.04, 5, options="LeakyReluOptions", alpha=0.2), "PRELU": made(0.04, 5, codes((1, 1, 8), 0.01)),
    "LOG_SOFTMAX": made(16 / 256, 127, options="LogSoftmaxOptions"), "L2_NORMALIZATION": made(1 / 128, 0, options="L2NormOptions"),
    "SUB": made(0.08, 5, given(scale=0.03, zero=7), options="SubOptions"), "MUL": made(0.3, 5, given(scale=0.03, zero=7), options="MulOptions"),
    "SQUARED_DIFFERENCE": made(0.4, -100, given(scale=0.03, zero=7)),
    "MEAN": made(0.03, 3, numbers(1, 2), options="ReducerOptions", shape=(1, 8)), "SUM": made(0.9, 3, numbers(1, 2), options="ReducerOptions", shape=(1, 8)),
    "CONV_2D": convolution((5, 3, 3, 8), 0, 5, (1, 4, 8, 5), "Conv2DOptions", strideH=1, strideW=1),
    "DEPTHWISE_CONV_2D": convolution((1, 3, 3, 8), 3, 8, SHAPE, "DepthwiseConv2DOptions", strideH=1, strideW=1, depthMultiplier=1),
    "FULLY_CONNECTED": convolution((5, 8), 0, 5, (32, 5), "FullyConnectedOptions"),
}  # fmt: skip
MOVED: dict[str, Model] = {
    "RESHAPE": moved((8, 32), numbers(8, 32)), "EXPAND_DIMS": moved((1, 1, 4, 8, 8), scalar(0)), "SQUEEZE": moved(SHAPE[1:], options="SqueezeOptions", squeezeDims=[0]),
    "TRANSPOSE": moved((8, 8, 1, 4), numbers(3, 2, 0, 1)), "PAD": moved((1, 7, 8, 8), numbers([0, 0], [1, 2], [0, 0], [0, 0])),
    "PADV2": moved((1, 7, 8, 8), numbers([0, 0], [1, 2], [0, 0], [0, 0]), Put((), "INT8", 0.05, -10, 0, np.int8(4))),
    "MIRROR_PAD": moved((1, 7, 8, 8), numbers([0, 0], [1, 2], [0, 0], [0, 0]), options="MirrorPadOptions"),
    "CONCATENATION": moved((2, 4, 8, 8), given(), options="ConcatenationOptions"), "PACK": moved((2, *SHAPE), given(), options="PackOptions", valuesCount=2),
    "UNPACK": moved((1, 8, 8), options="UnpackOptions", outputs=4, num=4, axis=1), "TILE": moved((1, 8, 8, 8), numbers(1, 2, 1, 1)),
    "SLICE": moved((1, 2, 8, 3), numbers(0, 1, 0, 2), numbers(1, 2, 8, 3)),
    "STRIDED_SLICE": moved((1, 2, 8, 8), numbers(0, 0, 0, 0), numbers(1, 4, 8, 8), numbers(1, 2, 1, 1), options="StridedSliceOptions"),
    "SPLIT_V": moved((1, 2, 8, 8), numbers(2, 2), scalar(1), options="SplitVOptions", outputs=2, numSplits=2),
    "REVERSE_V2": moved(SHAPE, numbers(2)), "SPACE_TO_BATCH_ND": moved((4, 2, 4, 8), *BLOCKS), "GATHER": moved((1, 2, 8, 8), numbers(3, 0), options="GatherOptions", axis=1),
    "SPACE_TO_DEPTH": moved((1, 2, 4, 32), options="SpaceToDepthOptions", blockSize=2), "DEPTH_TO_SPACE": moved((1, 8, 16, 2), options="DepthToSpaceOptions", blockSize=2),
    "GATHER_ND": moved((2, 8, 8), numbers([0, 3], [0, 1])), "BROADCAST_TO": moved((3, 4, 8, 8), numbers(3, 4, 8, 8)),
    "MAX_POOL_2D": moved((1, 2, 4, 8), options="Pool2DOptions", **POOL), "AVERAGE_POOL_2D": moved((1, 2, 4, 8), options="Pool2DOptions", **POOL),
    "RESIZE_NEAREST_NEIGHBOR": moved((1, 7, 9, 8), numbers(7, 9), options="ResizeNearestNeighborOptions"),
    "RESIZE_BILINEAR": moved((1, 7, 9, 8), numbers(7, 9), options="ResizeBilinearOptions"),
    "REDUCE_MAX": moved((1, 8), numbers(1, 2), options="ReducerOptions"), "REDUCE_MIN": moved((1, 8), numbers(1, 2), options="ReducerOptions"),
    "MAXIMUM": moved(SHAPE, given(), options="MaximumMinimumOptions"), "MINIMUM": moved(SHAPE, given(), options="MaximumMinimumOptions"),
}  # fmt: skip
EXACT = COMPUTED | MOVED


def test_every_claim_has_its_model() -> None:
    assert sorted(entry.kind for entry in OPERATORS.values() if entry.exact == "8-bit") == sorted(EXACT)


@pytest.mark.parametrize("kind", EXACT)
def test_what_is_said_to_be_exact_is(tmp_path: Path, kind: str) -> None:
    inputs, outputs, options, fields = EXACT[kind]
    version = min(OPERATORS[False, kind].versions, 2)
    path = one_operator(tmp_path / "m.tflite", kind, inputs, outputs, options, version, **fields)
    every = np.arange(-128, 128).astype(np.int8)
    feeds = [
        np.random.default_rng(place).permutation(every).reshape(SHAPE)
        for place, put in enumerate(inputs)
        if put.value is None
    ]
    assert lsb(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) == 0


@pytest.mark.parametrize("kind", [entry.kind for entry in OPERATORS.values() if entry.exact == "floats"])
def test_what_is_said_to_take_floats_only_refuses_codes(tmp_path: Path, kind: str) -> None:
    operands = 2 if kind in ("ATAN2", "POW", "FLOOR_DIV", "FLOOR_MOD", "ADD_N") else 1
    path = one_operator(tmp_path / "m.tflite", kind, [given()] * operands, [given()])
    with pytest.raises((UnsupportedOperator, SourceDoesNotRun)):
        imported(path)
