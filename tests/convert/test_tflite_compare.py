"""Comparisons, logic and choice of TFLite: the importer against LiteRT, on one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, all_pairs, by_litert, by_onnxruntime, imported, lsb, one_operator

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

COMPARISONS = {"EQUAL": "EqualOptions", "NOT_EQUAL": "NotEqualOptions", "LESS": "LessOptions", "LESS_EQUAL": "LessEqualOptions",
               "GREATER": "GreaterOptions", "GREATER_EQUAL": "GreaterEqualOptions"}  # fmt: skip


@pytest.mark.parametrize("shapes", [((), ()), ((4,), (4,)), ((2, 3, 4), (4,)), ((2, 3, 4, 5), (2, 1, 1, 5))])
@pytest.mark.parametrize("kind", ["FLOAT32", "INT32", "INT64"])
@pytest.mark.parametrize("operator", COMPARISONS)
def test_numbers_are_compared(
    tmp_path: Path, operator: str, kind: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(1)
    a, b = (np.asarray(rng.integers(-2, 2, shape), kind.lower()) for shape in shapes)
    out = Put(np.broadcast_shapes(*shapes), "BOOL")
    path = one_operator(
        tmp_path / "m.tflite",
        operator,
        [Put(a.shape, kind), Put(b.shape, kind)],
        [out],
        COMPARISONS[operator],
    )
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


@pytest.mark.parametrize("operator", COMPARISONS)
def test_nan_is_unequal_to_everything(tmp_path: Path, operator: str) -> None:
    a, b = (
        np.array([np.nan, np.nan, 1, np.inf], np.float32),
        np.array([np.nan, 1, np.nan, np.inf], np.float32),
    )
    path = one_operator(
        tmp_path / "m.tflite", operator, [Put((4,)), Put((4,))], [Put((4,), "BOOL")], COMPARISONS[operator]
    )
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("operator", COMPARISONS)
def test_every_pair_of_codes_compares_as_in_litert(tmp_path: Path, operator: str, kind: str) -> None:
    a, b = all_pairs(kind)
    shift = 128 if kind == "UINT8" else 0
    for first, second, zeros in [
        (0.05, 0.05, (3, 3)),
        (0.05, 0.05, (3, -100)),
        (0.0007, 0.0007, (0, 0)),
        (0.031, 0.0173, (-128, 20)),
        (2.5, 0.5, (1, 127)),
    ]:
        puts = [
            Put(a.shape, kind, scale, zero + shift)
            for scale, zero in zip((first, second), zeros, strict=True)
        ]
        path = one_operator(
            tmp_path / "m.tflite", operator, puts, [Put(a.shape, "BOOL")], COMPARISONS[operator], version=2
        )
        assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0, (first, second, zeros)


@pytest.mark.parametrize("operator", ["EQUAL", "NOT_EQUAL"])
def test_booleans_are_compared(tmp_path: Path, operator: str) -> None:
    a, b = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    path = one_operator(
        tmp_path / "m.tflite", operator, [Put((4,), "BOOL")] * 2, [Put((4,), "BOOL")], COMPARISONS[operator]
    )
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


@pytest.mark.parametrize(
    ("operator", "options"), [("LOGICAL_AND", "LogicalAndOptions"), ("LOGICAL_OR", "LogicalOrOptions")]
)
def test_logic_broadcasts(tmp_path: Path, operator: str, options: str) -> None:
    a, b = np.array([[0, 1, 0, 1], [1, 1, 0, 0]], bool), np.array([0, 0, 1, 1], bool)
    path = one_operator(
        tmp_path / "m.tflite",
        operator,
        [Put((2, 4), "BOOL"), Put((4,), "BOOL")],
        [Put((2, 4), "BOOL")],
        options,
    )
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


def test_logical_not(tmp_path: Path) -> None:
    x = np.array([[[0, 1], [1, 0]]], bool)
    path = one_operator(
        tmp_path / "m.tflite",
        "LOGICAL_NOT",
        [Put(x.shape, "BOOL")],
        [Put(x.shape, "BOOL")],
        "LogicalNotOptions",
    )
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("kind", ["INT8", "UINT8", "INT16", "INT32", "UINT32"])
def test_bits(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    limits = np.iinfo(kind.lower())
    a, b = rng.integers(limits.min, limits.max, (2, 50), kind.lower(), endpoint=True)
    path = one_operator(
        tmp_path / "m.tflite", "BITWISE_XOR", [Put((50,), kind)] * 2, [Put((50,), kind)], "BitwiseXorOptions"
    )
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0
    shifts = np.resize(np.arange(limits.bits), 50).astype(kind.lower())
    path = one_operator(
        tmp_path / "s.tflite", "RIGHT_SHIFT", [Put((50,), kind)] * 2, [Put((50,), kind)], "RightShiftOptions"
    )
    assert lsb(by_litert(path, a, shifts), by_onnxruntime(imported(path), a, shifts)) == 0


def test_bits_at_an_older_opset_are_not_expressible(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite",
        "BITWISE_XOR",
        [Put((5,), "INT32")] * 2,
        [Put((5,), "INT32")],
        "BitwiseXorOptions",
    )
    with pytest.raises(UnsupportedOperator, match="from opset 18 on"):
        imported(path, opset=17)


@pytest.mark.parametrize("kind", ["FLOAT32", "INT32", "INT64", "INT8", "UINT8", "INT16", "BOOL"])
@pytest.mark.parametrize(
    "shapes", [((3, 4, 5), (3, 4, 5), (3, 4, 5)), ((3,), (3, 4, 5), (3, 4, 5)), ((), (4,), (4,))]
)
def test_select(tmp_path: Path, kind: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(1)
    condition = np.asarray(rng.integers(0, 2, shapes[0]), bool)
    a, b = (rng.integers(0, 2 if kind == "BOOL" else 100, shape).astype(kind.lower()) for shape in shapes[1:])
    scale = 0.1 if kind in ("INT8", "UINT8") else None
    puts = [Put(condition.shape, "BOOL"), Put(a.shape, kind, scale), Put(b.shape, kind, scale)]
    path = one_operator(tmp_path / "m.tflite", "SELECT", puts, [Put(a.shape, kind, scale)], "SelectOptions")
    assert lsb(by_litert(path, condition, a, b), by_onnxruntime(imported(path), condition, a, b)) == 0


@pytest.mark.parametrize(
    "shapes",
    [
        ((1, 4, 1), (3, 1, 5), (5,)),
        ((5,), (3, 4, 5), (1,)),
        ((2, 1, 1, 5), (2, 3, 4, 5), (2, 3, 4, 5)),
        ((3, 1), (), (3, 5)),
    ],
)
def test_select_v2_broadcasts(tmp_path: Path, shapes: tuple[tuple[int, ...], ...]) -> None:
    rng = np.random.default_rng(1)
    condition = np.asarray(rng.integers(0, 2, shapes[0]), bool)
    a, b = (np.asarray(rng.normal(size=shape), np.float32) for shape in shapes[1:])
    puts = [Put(condition.shape, "BOOL"), Put(a.shape), Put(b.shape)]
    path = one_operator(
        tmp_path / "m.tflite", "SELECT_V2", puts, [Put(np.broadcast_shapes(*shapes))], "SelectV2Options"
    )
    reference, answer = by_litert(path, condition, a, b), by_onnxruntime(imported(path), condition, a, b)
    assert np.array_equal(reference[0], answer[0])
