"""Pooling of TFLite: the importer against LiteRT, one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, TfliteGraph, by_litert, by_onnxruntime, imported, lsb, one_operator, relative

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6 = 0, 1, 2, 3
VERSION = {"FLOAT32": 1, "UINT8": 1, "INT8": 2, "INT16": 3}
SCALE: dict[str, dict[str, Any]] = {
    "FLOAT32": {},
    "UINT8": {"scale": 0.05, "zero_point": 120},
    "INT8": {"scale": 0.05, "zero_point": 3},
    "INT16": {"scale": 5e-4, "zero_point": 0},
}
WINDOWS = [  # picture, window, stride
    ((7, 7, 40), (7, 7), 1),
    ((4, 4, 24), (4, 4), 2),
    ((13, 9, 5), (3, 3), 2),
    ((13, 9, 5), (2, 2), 2),
    ((13, 9, 5), (4, 2), 1),
    ((40, 44, 2), (21, 21), 21),
    ((25, 5, 8), (25, 5), 25),
    ((17, 17, 3), (16, 16), 1),
]


def some(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "FLOAT32":
        return rng.normal(size=shape).astype(np.float32)
    limits = np.iinfo(kind.lower())
    return rng.integers(limits.min, limits.max + 1, shape).astype(kind.lower())


def pool(path: Path, kind: str, dtype: str, shape: tuple[int, ...], window: tuple[int, int], stride: int, padding: int,
         activation: int = NONE, **more: Any) -> Path:  # fmt: skip
    sizes = [
        (size - kernel) // stride + 1 if padding == VALID else -(-size // stride)
        for size, kernel in zip(shape[1:3], window, strict=True)
    ]
    return one_operator(
        path / "m.tflite", kind, [Put(shape, dtype, **SCALE[dtype], more=more)], [Put((shape[0], *sizes, shape[3]), dtype, **SCALE[dtype])],
        "Pool2DOptions", VERSION[dtype], padding=padding, strideH=stride, strideW=stride, filterHeight=window[0], filterWidth=window[1],
        fusedActivationFunction=activation,
    )  # fmt: skip


@pytest.mark.parametrize("activation", [NONE, RELU, RELU_N1_TO_1, RELU6])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize(("picture", "window", "stride"), WINDOWS)
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_pools_of_integers_are_exact(
    tmp_path: Path,
    kind: str,
    picture: tuple[int, int, int],
    window: tuple[int, int],
    stride: int,
    padding: int,
    activation: int,
) -> None:
    for dtype in ("UINT8", "INT8", "INT16"):
        path = pool(tmp_path, kind, dtype, (2, *picture), window, stride, padding, activation)
        x = some(dtype, (2, *picture))
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, dtype


@pytest.mark.parametrize("activation", [NONE, RELU, RELU_N1_TO_1, RELU6])
@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"])
def test_pools_of_floats_agree(tmp_path: Path, kind: str, padding: int, activation: int) -> None:
    for picture, window, stride in WINDOWS:
        path = pool(tmp_path, kind, "FLOAT32", (2, *picture), window, stride, padding, activation)
        x = some("FLOAT32", (2, *picture))
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) < 1e-6


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("dtype", ["UINT8", "INT8"])
@pytest.mark.parametrize(
    "window",
    [
        (2, 2),
        (3, 3),
        (4, 4),
        (5, 2),
        (7, 7),
        (8, 8),
        (10, 10),
        (11, 11),
        (14, 14),
        (16, 16),
        (33, 33),
        (32, 32),
        (64, 64),
    ],
)
def test_an_average_rounds_as_litert_around_every_half(
    tmp_path: Path, window: tuple[int, int], dtype: str, whole: bool
) -> None:
    """Each channel has another sum: those that average to each code, to each half between codes, and their neighbours."""
    count, low = window[0] * window[1], np.iinfo(dtype.lower()).min
    sums = np.unique(
        [
            (low + code) * count + step
            for code in range(256)
            for step in (0, count // 2 - 1, count // 2, count // 2 + 1)
        ]
    )
    sums = sums[sums <= (low + 255) * count]
    base = sums // count
    x = (
        (base + (np.arange(count)[:, None] < sums - base * count))
        .astype(dtype.lower())
        .reshape(1, *window, -1)
    )
    if not whole:
        x = np.concatenate([x, x[..., ::-1]], 2)
    path = pool(tmp_path, "AVERAGE_POOL_2D", dtype, x.shape, window, max(window), VALID)
    if window[0] != window[1] and not whole:
        path = pool(tmp_path, "AVERAGE_POOL_2D", dtype, x.shape, window, window[1], VALID)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
def test_a_window_may_be_larger_than_the_padded_picture(tmp_path: Path, kind: str) -> None:
    for dtype in ("UINT8", "INT8", "INT16"):
        path = pool(tmp_path, kind, dtype, (2, 3, 3, 4), (7, 7), 1, SAME)
        x = some(dtype, (2, 3, 3, 4))
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, dtype


def test_an_average_keeps_codes_where_its_tensors_have_different_scales(tmp_path: Path) -> None:
    """LiteRT's kernel reads neither scale."""
    path = one_operator(
        tmp_path / "m.tflite", "AVERAGE_POOL_2D", [Put((1, 8, 8, 3), "INT8", 0.05, 3)], [Put((1, 4, 4, 3), "INT8", 0.11, -7)],
        "Pool2DOptions", 2, padding=SAME, strideH=2, strideW=2, filterHeight=2, filterWidth=2, fusedActivationFunction=RELU6,
    )  # fmt: skip
    x = some("INT8", (1, 8, 8, 3))
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("padding", [SAME, VALID])
@pytest.mark.parametrize("kind", ["AVERAGE_POOL_2D", "MAX_POOL_2D"])
@pytest.mark.parametrize("opset", [13, 18])
def test_pools_take_sizes_that_the_file_leaves_open(
    tmp_path: Path, kind: str, padding: int, opset: int
) -> None:
    for dtype in ("FLOAT32", "INT8", "INT16"):
        path = pool(tmp_path, kind, dtype, (1, 9, 8, 3), (3, 2), 2, padding, signature=[-1, -1, -1, 3])
        onnx = imported(path, opset=opset)
        for shape in ((1, 9, 8, 3), (3, 12, 7, 3)):
            x = some(dtype, shape)
            expected, found = by_litert(path, x), by_onnxruntime(onnx, x)
            if dtype == "FLOAT32":
                assert relative(expected, found) < 1e-6
            else:
                assert lsb(expected, found) == 0


def test_pools_behind_each_other_stay_channels_first(tmp_path: Path) -> None:
    import onnx

    graph = TfliteGraph()
    tensors = [graph.tensor(name, shape, kind="INT8", scale=0.05, zero_point=3)
               for name, shape in (("x", (1, 16, 16, 4)), ("a", (1, 8, 8, 4)), ("y", (1, 4, 4, 4)))]  # fmt: skip
    for kind, source, result in (("MAX_POOL_2D", 0, 1), ("AVERAGE_POOL_2D", 1, 2)):
        graph.operator(kind, [tensors[source]], [tensors[result]], "Pool2DOptions", version=2, padding=VALID,
                       strideH=2, strideW=2, filterHeight=2, filterWidth=2)  # fmt: skip
    path = graph.write(tmp_path / "m.tflite", tensors[:1], tensors[2:])
    x = some("INT8", (1, 16, 16, 4))
    made = imported(path)
    assert [node.op_type for node in onnx.load(made).graph.node].count("Transpose") == 2
    assert lsb(by_litert(path, x), by_onnxruntime(made, x)) == 0


def test_a_window_without_elements_is_refused(tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "MAX_POOL_2D", [Put((1, 4, 4, 3))], [Put((1, 4, 4, 3))], "Pool2DOptions", strideH=1, strideW=1,
                        filterHeight=0, filterWidth=-2)  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=r"MAX_POOL_2D \(#0: its window is 0 by -2"):
        imported(path)


def test_squares_of_integers_are_refused(tmp_path: Path) -> None:
    path = pool(tmp_path, "L2_POOL_2D", "INT8", (1, 4, 4, 3), (2, 2), 2, SAME)
    with pytest.raises(UnsupportedOperator, match="L2_POOL_2D"):
        imported(path)
