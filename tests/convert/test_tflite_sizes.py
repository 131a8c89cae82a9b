"""Sizes that are known only while a TFLite model runs: dynamic batches, and reshapes to computed shapes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from test_tflite_shape import IMAGE, MOVES, operands
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported
from tflite_moves import Result, agree, fed, held, model, operators, some

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

FIXED = {  # their operands or the kernel itself say one batch
    "reshape-flatten", "reshape-by-option", "reshape-keeps-channels", "reshape-five-axes", "slice", "slice-nothing", "slice-to-nothing",
    "broadcast", "broadcast-more-axes", "reverse-sequence", "expand-dims",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in MOVES if name not in FIXED])
@pytest.mark.parametrize("framed", [False, True])
def test_a_move_takes_another_batch(tmp_path: Path, name: str, framed: bool) -> None:
    """The file is written for one image, and gets three."""
    if framed and name.startswith("split") and name != "split-v":
        pytest.skip("its data is its second operand")
    kind, given, results, values = operands(name, fed(some(IMAGE), dynamic=True))
    results = results if isinstance(results, list) else [results]
    path = model(tmp_path / "m.tflite", kind, given, results, [[1]] * len(results), framed=framed, **values)
    x = some((3, *IMAGE[1:]))
    want, have = by_litert(path, x), by_onnxruntime(imported(path), x)
    for one, other in zip(want, have, strict=True):
        np.testing.assert_array_equal(one, other)


def chain(
    path: Path,
    target: list[Any],
    *,
    shape: tuple[int, ...] = IMAGE,
    signature: tuple[int, ...] = (-1, 4, 6, 3),
    framed: bool = False,
) -> Path:
    """A RESHAPE to sizes that SHAPE, STRIDED_SLICE and PACK put together, as the TensorFlow converter writes it.

    Args:
        target: Numbers; or ``"0"``, the input's axis 0, and so on.
    """
    graph = TfliteGraph()
    x = graph.tensor("x", shape, signature=list(signature))
    source = x
    if framed:
        eye = graph.tensor("eye", (3, 1, 1, 3), np.eye(3, dtype=np.float32))
        zeros = graph.tensor("zeros", (3,), np.zeros(3, np.float32))
        source = graph.tensor("same", shape, signature=list(signature))
        graph.operator("CONV_2D", [x, eye, zeros], [source], "Conv2DOptions", strideH=1, strideW=1)
    sizes = graph.tensor("sizes", (len(shape),), None, "INT32")
    graph.operator("SHAPE", [source], [sizes], "ShapeOptions", outType=2)
    one = graph.tensor("one", (1,), np.array([1], np.int32), "INT32")
    parts = []
    for number, size in enumerate(target):
        if isinstance(size, int):
            parts.append(graph.tensor(f"number{number}", (), np.int32(size), "INT32"))
            continue
        begin, end = (
            graph.tensor(f"{name}{number}", (1,), np.array([int(size) + add], np.int32), "INT32")
            for name, add in (("begin", 0), ("end", 1))
        )
        part = graph.tensor(f"part{number}", (), None, "INT32")
        graph.operator(
            "STRIDED_SLICE", [sizes, begin, end, one], [part], "StridedSliceOptions", shrinkAxisMask=1
        )
        parts.append(part)
    packed, y = (
        graph.tensor("packed", (len(target),), None, "INT32"),
        graph.tensor("y", [1] * len(target), signature=[-1] * len(target)),
    )
    graph.operator("PACK", parts, [packed], "PackOptions", valuesCount=len(parts))
    graph.operator("RESHAPE", [source, packed], [y])
    return graph.write(path, [x], [y])


@pytest.mark.parametrize(
    "target",
    [
        ["0", 72],
        ["0", 24, 3],
        ["0", -1],
        ["0", 4, 18],
        [-1, "3"],
        ["0", "1", "2", "3"],
        ["0", 1, 1, 72],
        [12, -1],
    ],
)
@pytest.mark.parametrize("framed", [False, True])
def test_a_shape_with_one_dynamic_size_is_a_constant(tmp_path: Path, target: list[Any], framed: bool) -> None:
    path = chain(tmp_path / "m.tflite", target, framed=framed)
    found, x = imported(path), some((2, 4, 6, 3))
    np.testing.assert_array_equal(by_litert(path, x)[0], by_onnxruntime(found, x)[0])
    assert set(operators(found)) <= {"Reshape", "Transpose", "Conv", "Identity"}, operators(found)


@pytest.mark.parametrize("target", [["0", "1", -1], ["0", "2", "1", 3], [3, "0", "1", "2"], ["0", -1]])
@pytest.mark.parametrize("framed", [False, True])
def test_a_shape_with_several_dynamic_sizes_is_computed(
    tmp_path: Path, target: list[Any], framed: bool
) -> None:
    path = chain(tmp_path / "m.tflite", target, signature=(-1, -1, -1, 3), framed=framed)
    x = some((2, 5, 4, 3))
    np.testing.assert_array_equal(by_litert(path, x)[0], by_onnxruntime(imported(path), x)[0])


@pytest.mark.parametrize("framed", [False, True])
def test_a_batch_that_is_kept_is_copied(tmp_path: Path, framed: bool) -> None:
    path = chain(tmp_path / "m.tflite", ["0", -1, 3], signature=(-1, -1, -1, 3), framed=framed)
    x, found = some((2, 5, 4, 3)), imported(path)
    np.testing.assert_array_equal(by_litert(path, x)[0], by_onnxruntime(found, x)[0])
    assert set(operators(found)) <= {"Reshape", "Transpose", "Conv", "Identity"}, operators(found)


def test_a_shape_in_another_type_is_as_well_known(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, sizes = graph.tensor("x", (1, 4, 3), signature=(-1, 4, 3)), graph.tensor("sizes", (3,), None, "INT64")
    narrow, first = graph.tensor("narrow", (3,), None, "INT32"), graph.tensor("first", (1,), None, "INT32")
    graph.operator("SHAPE", [x], [sizes], "ShapeOptions", outType=4)
    graph.operator("CAST", [sizes], [narrow], "CastOptions")
    zero, one = (
        graph.tensor(name, (1,), np.array([number], np.int32), "INT32")
        for name, number in (("zero", 0), ("one", 1))
    )
    graph.operator("SLICE", [narrow, zero, one], [first])
    joined, y = graph.tensor("joined", (2,), None, "INT32"), graph.tensor("y", (1, 12), signature=(-1, 12))
    twelve = graph.tensor("twelve", (1,), np.array([12], np.int32), "INT32")
    graph.operator("CONCATENATION", [first, twelve], [joined], "ConcatenationOptions")
    graph.operator("RESHAPE", [x, joined], [y])
    path, data = graph.write(tmp_path / "m.tflite", [x], [y]), some((2, 4, 3))
    found = imported(path)
    np.testing.assert_array_equal(by_onnxruntime(found, data)[0], by_litert(path, data)[0])
    assert operators(found) == ["Reshape"]


def test_a_known_shape_leaves_no_arithmetic(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.tflite", ["0", "3", -1], signature=IMAGE)
    x = some(IMAGE)
    found = imported(path)
    np.testing.assert_array_equal(by_litert(path, x)[0], by_onnxruntime(found, x)[0])
    assert operators(found).count("Reshape") == 1
    assert not {"Shape", "Slice", "Concat", "Gather"} & set(operators(found))


def test_an_input_size_asked_for_makes_the_shape_known(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.tflite", ["0", "1", -1], signature=(-1, -1, -1, 3))
    x = some((2, 5, 4, 3))
    found = imported(path, "2,5,4,3")
    np.testing.assert_array_equal(by_litert(path, x)[0], by_onnxruntime(found, x)[0])
    assert not {"Shape", "Slice", "Concat", "Gather"} & set(operators(found))


@pytest.mark.parametrize("dtype", ["int32", "int64"])
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("framed", [False, True])
def test_a_shape_is_told_in_litert_s_order(tmp_path: Path, dtype: str, dynamic: bool, framed: bool) -> None:
    out_type = 2 if dtype == "int32" else 4
    agree(
        tmp_path / "m.tflite",
        "SHAPE",
        [fed(some((2, 4, 6, 3)), dynamic=dynamic)],
        Result(dtype),
        "ShapeOptions",
        outType=out_type,
        framed=framed,
    )


def test_a_rank_is_a_number(tmp_path: Path) -> None:
    agree(tmp_path / "m.tflite", "RANK", [fed(some(IMAGE))], Result("int32"))


@pytest.mark.parametrize("kind", ["BROADCAST_TO", "TILE", "RESHAPE", "SLICE"])
def test_sizes_may_be_operands(tmp_path: Path, kind: str) -> None:
    x = fed(some((2, 1, 3)))
    rest = {"BROADCAST_TO": [fed(np.array([2, 4, 3], np.int32))], "TILE": [fed(np.array([1, 2, 3], np.int32))],
            "RESHAPE": [fed(np.array([3, -1], np.int32))], "SLICE": [fed(np.array([1, 0, 0], np.int32)), fed(np.array([1, -1, 2], np.int32))]}[kind]  # fmt: skip
    agree(
        tmp_path / "m.tflite",
        kind,
        [x, *rest],
        Result(shape=(1, 1, 2)),
        version=2 if kind == "BROADCAST_TO" else 1,
    )


def test_paddings_may_be_operands(tmp_path: Path) -> None:
    for framed in (False, True):
        agree(
            tmp_path / f"{framed}.tflite",
            "PAD",
            [fed(some(IMAGE)), fed(np.array([[0, 0], [1, 2], [3, 0], [0, 1]], np.int32))],
            framed=framed,
        )


@pytest.mark.parametrize(
    ("own", "wanted"), [("int32", "uint32"), ("uint32", "int32"), ("int8", "uint8"), ("uint8", "int8")]
)
def test_the_bits_of_integers_are_kept(tmp_path: Path, own: str, wanted: str) -> None:
    x = np.array([0, 1, -1, 100, -100]).astype(own)
    agree(tmp_path / "m.tflite", "BITCAST", [fed(x)], Result(wanted), "BitcastOptions")


@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (0,), (2, 0, 3, 1)])
def test_empty_tensors_are_moved(tmp_path: Path, shape: tuple[int, ...]) -> None:
    x = np.zeros(shape, np.float32)
    agree(tmp_path / "a.tflite", "TRANSPOSE", [fed(x), held([*range(1, len(shape)), 0])])
    agree(tmp_path / "b.tflite", "CONCATENATION", [fed(x), fed(x)], options="ConcatenationOptions", axis=0)
    for opset in (13, 18):
        agree(tmp_path / f"{opset}.tflite", "RESHAPE", [fed(x), held([0, 5])], opset=opset)


ARITHMETIC = {
    "MUL": ("MulOptions", [2]), "ADD": ("AddOptions", [3]), "SUB": ("SubOptions", [1]), "FLOOR_DIV": ("FloorDivOptions", [2]),
    "MAXIMUM": ("MaximumMinimumOptions", [3]), "REDUCE_PROD": ("ReducerOptions", [0]),
}  # fmt: skip


@pytest.mark.parametrize("kind", ARITHMETIC)
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("opset", [13, 18])
def test_arithmetic_on_known_sizes_is_worked_out(tmp_path: Path, kind: str, fixed: bool, opset: int) -> None:
    """A tensor tiled as often as its own sizes say: without a trace of them where `--input` tells them."""
    options, number = ARITHMETIC[kind]
    graph = TfliteGraph()
    x = graph.tensor("x", (1, 1), signature=(-1, -1))
    sizes, counts = graph.tensor("sizes", (2,), None, "INT32"), graph.tensor("counts", (2,), None, "INT32")
    graph.operator("SHAPE", [x], [sizes], "ShapeOptions", outType=2)
    operand = graph.tensor("operand", (1,), np.array(number, np.int32), "INT32")
    graph.operator(kind, [sizes, operand], [counts], options)
    if kind == "REDUCE_PROD":
        both, one = graph.tensor("both", (2,), None, "INT32"), graph.tensor("one", (), np.int32(2), "INT32")
        graph.operator("PACK", [counts, one], [both], "PackOptions", valuesCount=2)
        counts = both
    y = graph.tensor("y", (1, 1), signature=(-1, -1))
    graph.operator("TILE", [x, counts], [y])
    path, data = graph.write(tmp_path / "m.tflite", [x], [y]), some((2, 4))
    found = imported(path, *(["2,4"] if fixed else []), opset=opset)
    np.testing.assert_array_equal(by_onnxruntime(found, data)[0], by_litert(path, data)[0])
    assert not fixed or operators(found) == ["Tile"]
