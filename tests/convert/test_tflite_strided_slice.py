"""STRIDED_SLICE of TFLite with every mask: the importer against LiteRT, to the last bit, in both layouts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_moves import agree, fed, held, some

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

IMAGE = (1, 4, 6, 3)


STRIDED: dict[str, tuple[tuple[int, ...], list[int], list[int], list[int], dict[str, int]]] = {
    "plain": (IMAGE, [0, 1, 2, 0], [1, 3, 6, 2], [1, 1, 2, 1], {}),
    "negative-bounds": (IMAGE, [0, -3, -9, 0], [1, -1, -1, 99], [1, 1, 1, 1], {}),
    "backwards": (IMAGE, [0, -1, 5, 2], [1, -9, 0, -4], [1, -1, -2, -1], {}),
    "backwards-masked": (IMAGE, [0, 2, 2, 0], [1, 1, 1, 3], [1, -1, -3, 1], {"beginMask": 6, "endMask": 6}),
    "fewer-bounds": (IMAGE, [0, 1], [1, 3], [1, 1], {}),
    "masks": (IMAGE, [9, 1, 9, 9], [0, 0, 4, 0], [1, 2, 1, 1], {"beginMask": 13, "endMask": 11}),
    "shrink-batch": (IMAGE, [0, 1, 0, 0], [1, 3, 6, 3], [1, 1, 1, 1], {"shrinkAxisMask": 1}),
    "shrink-height": (IMAGE, [0, -1, 0, 0], [1, 0, 6, 3], [1, 1, 1, 1], {"shrinkAxisMask": 2}),
    "shrink-both": (IMAGE, [0, 1, -2, 0], [1, 2, 6, 3], [1, 1, 1, 1], {"shrinkAxisMask": 6}),
    "shrink-channel": (IMAGE, [0, 0, 0, 2], [1, 4, 6, 3], [1, 1, 1, 1], {"shrinkAxisMask": 8}),
    "shrink-all": (IMAGE, [0, 1, 2, 1], [1, 2, 3, 2], [1, 1, 1, 1], {"shrinkAxisMask": 15}),
    "ellipsis": (IMAGE, [0, 0, 1], [1, 0, 3], [1, 1, 1], {"ellipsisMask": 2}),
    "ellipsis-shrinks": (IMAGE, [0, 1], [0, 2], [1, 1], {"ellipsisMask": 1, "shrinkAxisMask": 2}),
    "ellipsis-of-nothing": ((4, 6, 3), [0, 1, 9, 0], [3, 5, 9, 2], [1, 1, 1, 1], {"ellipsisMask": 4}),
    "new-axis-first": (IMAGE, [9, 0, 1], [9, 1, 3], [1, 1, 1], {"newAxisMask": 1}),
    "new-axis-inside": (IMAGE, [0, 9, 1], [1, 9, 3], [1, 1, 1], {"newAxisMask": 2}),
    "new-axis-behind-ellipsis": ((4, 3), [9, 9], [9, 9], [1, 1], {"ellipsisMask": 1, "newAxisMask": 2}),
    "new-axis-and-shrink": ((4, 6, 3), [9, 1, 0], [9, 2, 5], [1, 1, 1], {"newAxisMask": 1, "shrinkAxisMask": 2}),
    "offset": (IMAGE, [0, 1, 2, 0], [1, 2, 3, 3], [1, 1, 1, 1], {"offset": True}),
    "nothing-left": (IMAGE, [0, 3, 0, 0], [1, 1, 6, 3], [1, 1, 1, 1], {}),
    "one-axis": ((7,), [5], [0], [-2], {}),
    "scalar-of-one-axis": ((7,), [-2], [0], [1], {"shrinkAxisMask": 1}),
    "five-axes": ((2, 3, 4, 2, 3), [0, 1, 0, 1, 0], [2, 3, 4, 2, 2], [1, 1, 2, 1, 1], {"shrinkAxisMask": 8}),
}  # fmt: skip


@pytest.mark.parametrize("name", STRIDED)
@pytest.mark.parametrize("framed", [False, True])
def test_a_strided_slice_is_litert_s(tmp_path: Path, name: str, framed: bool) -> None:
    shape, begin, end, strides, masks = STRIDED[name]
    if framed and len(shape) != 4:
        pytest.skip("a convolution has four axes")
    agree(tmp_path / "m.tflite", "STRIDED_SLICE", [fed(some(shape)), held(begin), held(end), held(strides)], options="StridedSliceOptions",
          framed=framed, **masks)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "plain",
        "negative-bounds",
        "backwards",
        "masks",
        "shrink-height",
        "shrink-all",
        "ellipsis",
        "new-axis-inside",
    ],
)
@pytest.mark.parametrize("dynamic", [False, True])
def test_bounds_of_a_strided_slice_may_be_computed(tmp_path: Path, name: str, dynamic: bool) -> None:
    shape, begin, end, strides, masks = STRIDED[name]
    bounds = [fed(np.array(numbers, np.int32)) for numbers in (begin, end)]
    agree(
        tmp_path / "m.tflite",
        "STRIDED_SLICE",
        [fed(some(shape), dynamic=dynamic), *bounds, held(strides)],
        options="StridedSliceOptions",
        **masks,
    )
