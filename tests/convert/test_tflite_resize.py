"""Resizing of TFLite: the importer against LiteRT, in all ways to lay pictures on each other."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, TfliteGraph, by_litert, by_onnxruntime, imported, lsb, one_operator, relative

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

BILINEAR, NEAREST = "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"
CENTERS = [(False, False), (True, False), (False, True)]  # align_corners, half_pixel_centers
SCALE: dict[str, dict[str, Any]] = {
    "FLOAT32": {},
    "UINT8": {"scale": 0.05, "zero_point": 120},
    "INT8": {"scale": 0.05, "zero_point": 3},
    "INT16": {"scale": 5e-4, "zero_point": 0},
}
SIZES = [
    ((6, 6, 64), (12, 12)),
    ((1, 1, 16), (33, 33)),
    ((33, 33, 5), (33, 33)),
    ((17, 17, 9), (129, 129)),
    ((7, 5, 3), (13, 17)),
    ((65, 65, 4), (33, 33)),
    ((24, 24, 3), (12, 12)),
    ((20, 30, 3), (96, 128)),
    ((96, 128, 3), (50, 70)),
    ((5, 7, 4), (1, 1)),
    ((1, 9, 12), (5, 5)),
    ((100, 90, 3), (224, 220)),
    ((32, 32, 4), (64, 128)),
]


def some(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(0)
    if kind == "FLOAT32":
        return rng.normal(size=shape).astype(np.float32)
    limits = np.iinfo(kind.lower())
    return rng.integers(limits.min, limits.max + 1, shape).astype(kind.lower())


def resize(
    path: Path,
    kind: str,
    dtype: str,
    shape: tuple[int, ...],
    size: tuple[int, int] | None,
    centers: tuple[bool, bool],
    **more: Any,
) -> Path:
    options = {BILINEAR: "ResizeBilinearOptions", NEAREST: "ResizeNearestNeighborOptions"}[kind]
    wanted = Put((2,), "INT32", value=None if size is None else np.array(size, np.int32))
    result = (shape[0], *(size or (1, 1)), shape[3])
    return one_operator(path / "m.tflite", kind, [Put(shape, dtype, **SCALE[dtype], more=more), wanted], [Put(result, dtype, **SCALE[dtype])],
                        options, 3, alignCorners=centers[0], halfPixelCenters=centers[1])  # fmt: skip


@pytest.mark.parametrize("centers", CENTERS)
@pytest.mark.parametrize(("picture", "size"), SIZES)
@pytest.mark.parametrize("kind", [BILINEAR, NEAREST])
def test_resizes_of_integers_are_exact(
    tmp_path: Path,
    kind: str,
    picture: tuple[int, int, int],
    size: tuple[int, int],
    centers: tuple[bool, bool],
) -> None:
    for dtype in ("UINT8", "INT8", "INT16"):
        path = resize(tmp_path, kind, dtype, (2, *picture), size, centers)
        x = some(dtype, (2, *picture))
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, dtype


@pytest.mark.parametrize("centers", CENTERS)
@pytest.mark.parametrize(("picture", "size"), [((4000, 1, 1), (3999, 1)), ((2, 3000, 1), (5, 1999))])
def test_long_pictures_are_exact_without_a_weight_for_each_pair_of_rows(
    tmp_path: Path, picture: tuple[int, int, int], size: tuple[int, int], centers: tuple[bool, bool]
) -> None:
    for dtype in ("INT16", "INT8", "FLOAT32"):
        path = resize(tmp_path, BILINEAR, dtype, (1, *picture), size, centers)
        x = some(dtype, (1, *picture))
        made = imported(path)
        differ = relative if dtype == "FLOAT32" else lsb
        assert differ(by_litert(path, x), by_onnxruntime(made, x)) <= (1e-5 if dtype == "FLOAT32" else 0)
        assert made.stat().st_size < 1 << 20


@pytest.mark.parametrize("centers", CENTERS)
@pytest.mark.parametrize("kind", [BILINEAR, NEAREST])
def test_resizes_of_floats_agree(tmp_path: Path, kind: str, centers: tuple[bool, bool]) -> None:
    for picture, size in SIZES:
        path = resize(tmp_path, kind, "FLOAT32", (1, *picture), size, centers)
        x = some("FLOAT32", (1, *picture))
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) < (
            1e-5 if kind == BILINEAR else 1e-30
        )


@pytest.mark.parametrize("centers", CENTERS)
def test_every_ratio_of_small_sizes_is_exact(tmp_path: Path, centers: tuple[bool, bool]) -> None:
    for source, result in itertools.product((2, 3, 5, 8, 12), (1, 2, 4, 6, 7, 9, 16, 24, 36, 47)):
        x = some("UINT8", (1, source, 3, 1))
        for kind in (BILINEAR, NEAREST):
            path = resize(tmp_path, kind, "UINT8", x.shape, (result, 5), centers)
            assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, (kind, source, result)


@pytest.mark.parametrize("centers", CENTERS)
@pytest.mark.parametrize("opset", [13, 18])
def test_pictures_and_results_may_have_sizes_told_only_while_the_model_runs(
    tmp_path: Path, centers: tuple[bool, bool], opset: int
) -> None:
    size = np.array([9, 14], np.int32)
    for kind in (BILINEAR, NEAREST):
        path = resize(tmp_path, kind, "FLOAT32", (1, 6, 5, 3), None, centers, signature=[-1, -1, -1, 3])
        onnx = imported(path, opset=opset)
        for shape in ((1, 6, 5, 3), (2, 11, 7, 3)):
            x = some("FLOAT32", shape)
            assert relative(by_litert(path, x, size), by_onnxruntime(onnx, x, size)) < 1e-5


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("dtype", ["FLOAT32", "INT8"])
def test_batches_of_any_size_are_resized(tmp_path: Path, dtype: str, opset: int) -> None:
    for kind, size in itertools.product((BILINEAR, NEAREST), ((12, 10), (13, 17))):
        path = resize(tmp_path, kind, dtype, (1, 6, 5, 3), size, (False, True), signature=[-1, 6, 5, 3])
        onnx = imported(path, opset=opset)
        for batch in (1, 3):
            x = some(dtype, (batch, 6, 5, 3))
            expected, found = by_litert(path, x), by_onnxruntime(onnx, x)
            assert relative(expected, found) < 1e-6 if dtype == "FLOAT32" else lsb(expected, found) == 0


@pytest.mark.parametrize("channels", [3, 16])
@pytest.mark.parametrize("kind", [BILINEAR, NEAREST])
@pytest.mark.parametrize("dtype", ["FLOAT32", "INT8"])
def test_a_resize_between_pools_is_exact(tmp_path: Path, dtype: str, kind: str, channels: int) -> None:
    """Its operand is there channels first."""
    graph = TfliteGraph()
    shapes = [(1, 16, 16, channels), (1, 8, 8, channels), (1, 24, 24, channels), (1, 12, 12, channels)]
    x, a, b, y = (
        graph.tensor(f"t{number}", shape, kind=dtype, **SCALE[dtype]) for number, shape in enumerate(shapes)
    )
    size = graph.tensor("size", (2,), np.array([24, 24], np.int32), "INT32")
    window = {"padding": 1, "strideH": 2, "strideW": 2, "filterHeight": 2, "filterWidth": 2}
    graph.operator("MAX_POOL_2D", [x], [a], "Pool2DOptions", version=2, **window)
    options = {BILINEAR: "ResizeBilinearOptions", NEAREST: "ResizeNearestNeighborOptions"}[kind]
    graph.operator(kind, [a, size], [b], options, version=3, halfPixelCenters=True)
    graph.operator("MAX_POOL_2D", [b], [y], "Pool2DOptions", version=2, **window)
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    given = some(dtype, shapes[0])
    expected, found = by_litert(path, given), by_onnxruntime(imported(path), given)
    assert relative(expected, found) < 1e-6 if dtype == "FLOAT32" else lsb(expected, found) == 0


@pytest.mark.parametrize("kind", [BILINEAR, NEAREST])
def test_a_network_that_ends_with_a_resize_transposes_the_small_picture(tmp_path: Path, kind: str) -> None:
    import onnx

    graph = TfliteGraph()
    x, a, y = (graph.tensor(name, (1, size, size, 16)) for name, size in (("x", 16), ("a", 8), ("y", 32)))
    size = graph.tensor("size", (2,), np.array([32, 32], np.int32), "INT32")
    graph.operator(
        "MAX_POOL_2D",
        [x],
        [a],
        "Pool2DOptions",
        padding=1,
        strideH=2,
        strideW=2,
        filterHeight=2,
        filterWidth=2,
    )
    graph.operator(
        kind,
        [a, size],
        [y],
        {BILINEAR: "ResizeBilinearOptions", NEAREST: "ResizeNearestNeighborOptions"}[kind],
    )
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    kinds = [node.op_type for node in onnx.load(imported(path)).graph.node]
    assert (
        kinds.index("MaxPool")
        < kinds.index("Transpose", 1)
        < kinds.index("Resize" if kind == BILINEAR else "Gather")
    )
    assert kinds.count("Transpose") == 2
    given = some("FLOAT32", (1, 16, 16, 16))
    assert (
        relative(by_litert(path, given), by_onnxruntime(tmp_path / "m-import" / "model.onnx", given)) < 1e-6
    )


@pytest.mark.parametrize("size", [(0, 4), (-1, 4), (1 << 30, 4)])
def test_sizes_that_no_picture_has_are_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    path = one_operator(tmp_path / "m.tflite", BILINEAR, [Put((1, 4, 4, 3)), Put((2,), "INT32", value=np.array(size, np.int32))], [Put((1, 8, 8, 3))],
                        "ResizeBilinearOptions")  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=r"RESIZE_BILINEAR \(#0: it resizes to"):
        imported(path)


def test_bytes_of_unknown_size_are_refused(tmp_path: Path) -> None:
    path = resize(tmp_path, BILINEAR, "INT8", (1, 6, 5, 3), (12, 10), (False, True), signature=[1, -1, -1, 3])
    with pytest.raises(
        UnsupportedOperator, match="it resizes integers whose size is known only while the model runs"
    ):
        imported(path)
