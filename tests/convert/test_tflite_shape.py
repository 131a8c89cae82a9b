"""Operators of TFLite that move values: the importer against LiteRT, to the last bit, in both layouts."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_moves import QUANTIZED, Result, agree, fed, held, operators, some

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

F = Result()
IMAGE = (1, 4, 6, 3)
MOVES: dict[str, tuple[str, list[Any] | None, Any, dict[str, Any]]] = {
    "reshape-flatten": ("RESHAPE", [held([1, 72])], F, {}),
    "reshape-minus-one": ("RESHAPE", [held([-1, 3])], F, {}),
    "reshape-by-option": ("RESHAPE", [], F, {"options": "ReshapeOptions", "newShape": [2, 36]}),
    "reshape-keeps-channels": ("RESHAPE", [held([1, 24, 3])], F, {}),
    "reshape-five-axes": ("RESHAPE", [held([1, 2, 2, 6, 3])], F, {}),
    "expand-dims": ("EXPAND_DIMS", [held(0)], F, {}),
    "expand-dims-last": ("EXPAND_DIMS", [held(-1)], F, {}),
    "expand-dims-inside": ("EXPAND_DIMS", [held([2])], F, {}),
    "transpose-to-nchw": ("TRANSPOSE", [held([0, 3, 1, 2])], F, {}),
    "transpose-hw": ("TRANSPOSE", [held([0, 2, 1, 3])], F, {}),
    "transpose-batch": ("TRANSPOSE", [held([3, 1, 0, 2])], F, {}),
    "pad": ("PAD", [held([[0, 0], [1, 2], [3, 0], [0, 0]])], F, {}),
    "pad-channels-and-batch": ("PAD", [held([[1, 0], [0, 0], [0, 0], [0, 5]])], F, {}),
    "pad-nothing": ("PAD", [held([[0, 0]] * 4)], F, {}),
    "pad-by-int64": ("PAD", [held([[0, 0], [1, 2], [3, 0], [0, 0]], np.int64)], F, {}),
    "padv2": ("PADV2", [held([[0, 0], [1, 2], [3, 0], [0, 0]]), held(np.float32(-7.5))], F, {}),
    "padv2-infinite": ("PADV2", [held([[0, 0], [1, 1], [1, 1], [0, 0]]), held(np.float32(-np.inf))], F, {}),
    "mirror-reflect": (
        "MIRROR_PAD",
        [held([[0, 0], [1, 2], [3, 1], [0, 0]])],
        F,
        {"options": "MirrorPadOptions", "mode": 0},
    ),
    "mirror-symmetric": (
        "MIRROR_PAD",
        [held([[0, 0], [4, 2], [0, 3], [2, 0]])],
        F,
        {"options": "MirrorPadOptions", "mode": 1},
    ),
    "slice": ("SLICE", [held([0, 1, 2, 0]), held([1, 2, -1, 2])], Result(shape=(1, 2, 4, 2)), {}),
    "slice-nothing": ("SLICE", [held([0, 0, 0, 0]), held([-1, 4, 6, -1])], Result(shape=IMAGE), {}),
    "slice-to-nothing": ("SLICE", [held([0, 1, 0, 0]), held([1, 0, 6, 3])], Result(shape=(1, 0, 6, 3)), {}),
    "split-width": ("SPLIT", None, [F] * 3, {"options": "SplitOptions", "numSplits": 3, "axis": 2}),
    "split-channels": ("SPLIT", None, [F] * 3, {"options": "SplitOptions", "numSplits": 3, "axis": -1}),
    "split-v": (
        "SPLIT_V",
        [held([1, -1, 2]), held(2)],
        [F] * 3,
        {"options": "SplitVOptions", "numSplits": 3},
    ),
    "unpack-height": ("UNPACK", [], [F] * 4, {"options": "UnpackOptions", "num": 4, "axis": 1}),
    "unpack-channels": ("UNPACK", [], [F] * 3, {"options": "UnpackOptions", "num": 3, "axis": -1}),
    "tile": ("TILE", [held([2, 1, 3, 2])], F, {}),
    "broadcast": ("BROADCAST_TO", [held([2, 4, 6, 3])], F, {"version": 2}),
    "broadcast-more-axes": ("BROADCAST_TO", [held([2, 1, 4, 6, 3])], F, {"version": 2}),
    "reverse": ("REVERSE_V2", [held([1])], F, {}),
    "reverse-channels": ("REVERSE_V2", [held([3])], F, {}),
    "reverse-sequence": (
        "REVERSE_SEQUENCE",
        [held([3])],
        F,
        {"options": "ReverseSequenceOptions", "seqDim": 2, "batchDim": 0},
    ),
    "space-to-batch": ("SPACE_TO_BATCH_ND", [held([2, 3]), held([[1, 1], [2, 1]])], F, {}),
    "space-to-depth": ("SPACE_TO_DEPTH", [], F, {"options": "SpaceToDepthOptions", "blockSize": 2}),
    "zeros-like": ("ZEROS_LIKE", [], F, {}),
}


def operands(name: str, x: Any) -> tuple[str, list[Any], Any, dict[str, Any]]:
    kind, rest, results, values = MOVES[name]
    values = dict(values)
    if rest is None:
        return kind, [held(values.pop("axis")), x], results, values
    return kind, [x, *rest], results, values


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("opset", [13, 18])
def test_a_move_of_floats_is_litert_s(tmp_path: Path, name: str, opset: int) -> None:
    kind, given, results, values = operands(name, fed(some(IMAGE)))
    agree(tmp_path / "m.tflite", kind, given, results, opset=opset, **values)


@pytest.mark.parametrize("name", [name for name in MOVES if MOVES[name][1] is not None])
def test_a_move_behind_a_convolution_is_litert_s(tmp_path: Path, name: str) -> None:
    kind, given, results, values = operands(name, fed(some(IMAGE)))
    agree(tmp_path / "m.tflite", kind, given, results, framed=True, **values)


REFUSED = {  # by LiteRT's kernels: there is nothing to compare with
    **{name: {"bool"} for name in ("split-width", "split-channels", "split-v")},
    **{name: {"int64"} for name in ("unpack-height", "unpack-channels")},
    "reverse-sequence": {"int8", "bool"},
    "space-to-depth": {"int16", "bool"},
    "zeros-like": {"int8", "uint8", "int16", "bool"},
}


@pytest.mark.parametrize("name", MOVES)
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "bool"])
def test_a_move_of_codes_and_integers_is_litert_s(tmp_path: Path, name: str, dtype: str) -> None:
    if dtype in REFUSED.get(name, ()):
        pytest.skip(f"LiteRT refuses {dtype}")
    scale, zero_point = QUANTIZED.get(dtype, (None, 0))
    kind, given, results, values = operands(name, fed(some(IMAGE, dtype), scale, zero_point))
    given = [replace(each, array=np.array(3, dtype), scale=scale, zero_point=zero_point) if each.array.dtype == np.float32 else each
             for each in given]  # fmt: skip
    results = [
        replace(each, dtype=dtype, scale=scale, zero_point=zero_point)
        for each in (results if isinstance(results, list) else [results])
    ]
    framed = dtype in ("int8", "uint8") and not name.startswith("split")
    agree(tmp_path / "m.tflite", kind, given, results, framed=framed, **values)


@pytest.mark.parametrize("name", ["reshape-flatten", "slice", "split-v", "tile", "broadcast", "reverse"])
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_codes_are_copied_whatever_the_scale_of_the_result(tmp_path: Path, name: str, dtype: str) -> None:
    """As LiteRT's kernels do; the moves that are not here want equal scales."""
    kind, given, results, values = operands(name, fed(some(IMAGE, dtype), 0.05, 3))
    results = [
        replace(each, dtype=dtype, scale=0.1, zero_point=7)
        for each in (results if isinstance(results, list) else [results])
    ]
    agree(tmp_path / "m.tflite", kind, given, results, **values)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16", "int32", "int64", "bool"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_a_concatenation_is_litert_s(tmp_path: Path, dtype: str, axis: int) -> None:
    quantization = QUANTIZED.get(dtype, (None, 0))
    shapes = [[2, 4, 6, 3] for _ in range(3)]
    for size, shape in zip((3, 1, 2), shapes, strict=True):
        shape[axis] = size
    given = [fed(some(shape, dtype, seed), *quantization) for seed, shape in enumerate(shapes)]
    given[1] = replace(given[1], constant=True)
    framed = dtype in ("float32", "int8", "uint8")
    agree(
        tmp_path / "m.tflite",
        "CONCATENATION",
        given,
        Result(dtype, *quantization),
        "ConcatenationOptions",
        axis=axis,
        framed=framed,
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_concatenation_of_different_scales_is_litert_s_for_every_code(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = np.arange(256, dtype=np.uint8).reshape(1, 256)
    for number in range(8):
        out = Result(
            "uint8",
            float(np.float32(rng.choice([0.02, 0.5, 1 / 256, 0.0235294]))),
            int(rng.choice([0, 255, 128, 7])),
        )
        ratios = rng.choice(
            [0.5, 1.0, 2.0, 1.5, 0.25, 4.0, 0.01, 37.0, rng.uniform(0.1, 3), rng.uniform(0.1, 3)], 3
        )
        given = [
            fed(
                codes,
                float(np.float32(out.scale * ratio)),
                int(rng.choice([0, 255, 128, int(rng.integers(256))])),
            )
            for ratio in ratios
        ]
        agree(tmp_path / f"{number}.tflite", "CONCATENATION", given, out, "ConcatenationOptions", axis=1)


def test_a_fused_activation_of_a_concatenation_is_refused(tmp_path: Path) -> None:
    """XNNPACK leaves it out, and LiteRT's own kernel refuses it."""
    given = [fed(some((2, 3))), fed(some((2, 3), seed=1))]
    with pytest.raises(UnsupportedOperator, match="disagree about its fused RELU"):
        agree(
            tmp_path / "m.tflite",
            "CONCATENATION",
            given,
            F,
            "ConcatenationOptions",
            axis=0,
            fusedActivationFunction=1,
        )


@pytest.mark.parametrize("zero_point", [0, 128])
def test_a_ratio_that_only_a_table_reproduces_is_exact(tmp_path: Path, zero_point: int) -> None:
    """A half whose reciprocal is inexact: no scale near the file's own rounds every code as LiteRT does."""
    codes, out = np.arange(256, dtype=np.uint8).reshape(1, 256), Result("uint8", 0.2278059720993042, 224)
    given = [fed(codes, 0.1139029860496521, zero_point), fed(codes, out.scale, 224)]
    found = agree(tmp_path / "m.tflite", "CONCATENATION", given, out, "ConcatenationOptions", axis=1)
    assert ("Gather" in operators(found)) == (zero_point == 128)


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3), (2, 3, 4), IMAGE])
def test_packing_is_litert_s(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    quantization = QUANTIZED.get(dtype, (None, 0))
    for axis in range(-len(shape) - 1, len(shape) + 1):
        given = [fed(some(shape, dtype, 0), *quantization), fed(some(shape, dtype, 1), *quantization)]
        framed = shape == IMAGE and dtype in ("float32", "int8")
        agree(
            tmp_path / f"{axis}.tflite",
            "PACK",
            given,
            Result(dtype, *quantization),
            "PackOptions",
            axis=axis,
            valuesCount=2,
            framed=framed,
        )


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("framed", [False, True])
def test_depth_goes_to_space_as_in_litert(tmp_path: Path, dtype: str, framed: bool) -> None:
    if framed and dtype in ("int32", "int64"):
        pytest.skip("a convolution has no such type")
    quantization = QUANTIZED.get(dtype, (None, 0))
    agree(tmp_path / "m.tflite", "DEPTH_TO_SPACE", [fed(some((2, 3, 2, 12), dtype), *quantization)], Result(dtype, *quantization),
          "DepthToSpaceOptions", blockSize=2, framed=framed)  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "int8", "uint8", "int16", "int32", "int64"])
@pytest.mark.parametrize("crops", [[[0, 0], [0, 0]], [[1, 0], [2, 1]]])
def test_batches_go_to_space_as_in_litert(tmp_path: Path, dtype: str, crops: list[list[int]]) -> None:
    quantization = QUANTIZED.get(dtype, (None, 0))
    agree(tmp_path / "m.tflite", "BATCH_TO_SPACE_ND", [fed(some((12, 3, 2, 2), dtype), *quantization), held([2, 3]), held(crops)],
          Result(dtype, *quantization), framed=dtype in ("float32", "int8"))  # fmt: skip


def test_blocks_of_three_axes_are_litert_s(tmp_path: Path) -> None:
    agree(tmp_path / "a.tflite", "SPACE_TO_BATCH_ND", [fed(some((2, 5, 3))), held([2]), held([[1, 2]])])
    agree(tmp_path / "b.tflite", "BATCH_TO_SPACE_ND", [fed(some((4, 5, 3))), held([2]), held([[1, 2]])])


SQUEEZED = {"all": ((1, 5, 1, 1), []), "some": ((1, 5, 1, 3), [2]), "negative": ((1, 1, 4, 1), [-1, 1]), "batch": ((1, 2, 1, 3), [0]),
            "two-axes": ((1, 3), [0]), "scalar": ((1, 1, 1, 1), [])}  # fmt: skip


@pytest.mark.parametrize("name", SQUEEZED)
@pytest.mark.parametrize("framed", [False, True])
def test_a_squeeze_is_litert_s(tmp_path: Path, name: str, framed: bool) -> None:
    shape, axes = SQUEEZED[name]
    agree(
        tmp_path / "m.tflite",
        "SQUEEZE",
        [fed(some(shape))],
        F,
        "SqueezeOptions",
        squeezeDims=axes,
        framed=framed and len(shape) == 4,
    )


def test_whole_pixels_are_reshaped_without_a_transpose(tmp_path: Path) -> None:
    for number, (shape, target) in enumerate(
        [
            ((2, 1, 1, 8), [-1, 8]),
            ((2, 1, 1, 8), [2, 4, 2]),
            ((2, 4, 3, 1), [2, 12]),
            ((2, 4, 3, 1), [2, 3, 4, 1]),
        ]
    ):
        found = agree(tmp_path / f"{number}.tflite", "RESHAPE", [fed(some(shape)), held(target)], framed=True)
        assert operators(found).count("Transpose") <= 1, target  # the input's


def test_a_transpose_to_channels_first_behind_a_convolution_costs_nothing(tmp_path: Path) -> None:
    found = agree(tmp_path / "m.tflite", "TRANSPOSE", [fed(some(IMAGE)), held([0, 3, 1, 2])], framed=True)
    assert operators(found).count("Transpose") == 1  # the input's


@pytest.mark.parametrize("perm", [[1, 0], [2, 0, 1], [1, 2, 0], [4, 2, 0, 3, 1], [5, 3, 1, 0, 2, 4]])
def test_a_transpose_of_any_rank_is_litert_s(tmp_path: Path, perm: list[int]) -> None:
    agree(tmp_path / "m.tflite", "TRANSPOSE", [fed(some(range(2, 2 + len(perm)))), held(perm)])
