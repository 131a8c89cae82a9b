"""Operators on one operand: the importer against LiteRT, over every code of 8-bit tensors and over floats of every rank."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, all_codes, by_litert, by_onnxruntime, imported, lsb, one_operator, relative

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

LEAKY = ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.2})
GELU, GELU_BY_TANH = (("GELU", "GeluOptions", {"approximate": flag}) for flag in (False, True))
ON_BOTH = [
    (kind, "", {})
    for kind in ("RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "LOGISTIC", "TANH", "HARD_SWISH")
]
ON_BOTH += [
    LEAKY,
    ("LEAKY_RELU", "LeakyReluOptions", {"alpha": -0.5}),
    ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 1e-3}),
    GELU,
    GELU_BY_TANH,
]
ON_INT8 = [(kind, "", {}) for kind in ("ELU", "EXP", "LOG", "ABS", "NEG")]
EXACT = [
    *((*case, kind) for case in ON_BOTH for kind in ("INT8", "UINT8")),
    *((*case, "INT8") for case in ON_INT8),
]
USUAL_OUTPUT = {"LOGISTIC": (1 / 256, 0), "TANH": (1 / 128, 128)}


def _scale(rng: np.random.Generator) -> float:
    return float(
        rng.choice([rng.uniform(0.002, 0.2), 2.0 ** -rng.integers(2, 9), 0.1, 10 ** rng.uniform(-4, 1)])
    )


def _quantizations(
    operator: str, kind: str, count: int
) -> Iterator[tuple[tuple[float, int], tuple[float, int]]]:
    """Scales and zero points of operand and result: usual, equal, powers of two, far apart, zero points at the ends."""
    rng, least = np.random.default_rng(len(operator)), -128 if kind == "INT8" else 0
    for number in range(count):
        x, y = (
            (_scale(rng), least + int(rng.choice([0, 255, 128, int(rng.integers(256))]))) for _ in range(2)
        )
        if number % 3 == 0:
            y = x
        if operator in USUAL_OUTPUT and number % 3:
            y = USUAL_OUTPUT[operator][0], least + USUAL_OUTPUT[operator][1]
        if operator == "HARD_SWISH":  # LiteRT refuses results of a finer scale than 1/128 of the operand's
            y = x[0] * rng.uniform(0.3, 1.1), y[1]
        yield x, y


@pytest.mark.parametrize(("operator", "options", "values", "kind"), EXACT)
def test_every_code_becomes_litert_s(
    tmp_path: Path, operator: str, options: str, values: dict[str, Any], kind: str
) -> None:
    codes = np.concatenate(
        [all_codes(kind), all_codes(kind)[::-17][:15]]
    )  # kernels treat the last of 16 apart
    for number, (x, y) in enumerate(_quantizations(operator, kind, 24)):
        path = one_operator(
            tmp_path / "m.tflite",
            operator,
            [Put(codes.shape, kind, *x)],
            [Put(codes.shape, kind, *y)],
            options,
            **values,
        )
        assert (
            lsb(by_litert(path, codes), by_onnxruntime(imported(path, opset=(13, 18)[number % 2]), codes))
            == 0
        ), (x, y)


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize(
    ("x", "y"), [((0.00334, 100), (2.7, 6)), ((1.5e-5, 0), (0.0625, 0)), ((0.01, 5), (64, 3)), ((0.001, 0), (0.5, 3))]
)  # fmt: skip
def test_a_hard_swish_of_next_to_nothing_is_what_litert_s_shifts_leave(
    tmp_path: Path, kind: str, x: tuple[float, int], y: tuple[float, int]
) -> None:
    puts = [Put((256,), kind, *x)], [Put((256,), kind, *y)]
    path = one_operator(tmp_path / "m.tflite", "HARD_SWISH", *puts)
    codes = all_codes(kind)
    assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0


@pytest.mark.parametrize("operator", ["SQRT", "RSQRT"])
def test_roots_of_codes_are_exact_where_litert_takes_them(tmp_path: Path, operator: str) -> None:
    for (scale, _), (output_scale, zero_point) in _quantizations(operator, "INT8", 30):
        for zero in (-128, -3):
            codes = all_codes("INT8")
            codes = codes[codes >= zero]
            put = Put(codes.shape, "INT8", output_scale, zero_point)
            path = one_operator(
                tmp_path / "m.tflite", operator, [Put(codes.shape, "INT8", scale, zero)], [put], version=2
            )
            assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0, (scale, zero, put)


@pytest.mark.parametrize("shape", [(1,), (6,), (1, 1, 6), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_prelu_of_codes_is_exact_for_every_slope(tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    rng = np.random.default_rng(7)
    limits = np.iinfo(kind.lower())
    for (scale, zero), (output_scale, output_zero) in _quantizations("PRELU", kind, 8):
        slopes = rng.integers(limits.min, limits.max + 1, shape).astype(limits.dtype)
        x = rng.integers(limits.min, limits.max + 1, (2, 4, 5, 6)).astype(limits.dtype)
        puts = [Put(x.shape, kind, scale, zero), Put(shape, kind, 0.008, 4, value=slopes)]
        path = one_operator(
            tmp_path / "m.tflite", "PRELU", puts, [Put(x.shape, kind, output_scale, output_zero)]
        )
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, (
            scale,
            zero,
            output_scale,
            output_zero,
        )


FLOAT = [
    *ON_BOTH,
    *(
        (kind, "", {})
        for kind in ("ELU", "EXP", "SQUARE", "ABS", "NEG", "SIGN", "FLOOR", "CEIL", "ROUND", "SIN", "COS")
    ),
]
POSITIVE = [(kind, "", {}) for kind in ("LOG", "SQRT", "RSQRT")]
SHAPES = [(), (5,), (3, 4), (2, 3, 5), (1, 4, 6, 7), (1, 2, 3, 4, 5), (2, 0, 3)]


@pytest.mark.parametrize("opset", [18, 13])
@pytest.mark.parametrize(("operator", "options", "values"), [*FLOAT, *POSITIVE])
def test_floats_of_every_rank_are_right(
    tmp_path: Path, operator: str, options: str, values: dict[str, Any], opset: int
) -> None:
    rng = np.random.default_rng(0)
    least = 0.01 if (operator, options, values) in POSITIVE else -8
    for shape in SHAPES:
        x = np.asarray(rng.uniform(least, 8, shape), np.float32)
        path = one_operator(tmp_path / "m.tflite", operator, [Put(shape)], [Put(shape)], options, **values)
        assert relative(by_litert(path, x), by_onnxruntime(imported(path, opset=opset), x)) < 1e-6, shape


@pytest.mark.parametrize("operator", ["ROUND", "FLOOR", "CEIL", "SIGN", "ABS", "NEG", "RELU", "RELU6"])
def test_halves_signs_and_infinities_are_litert_s(tmp_path: Path, operator: str) -> None:
    x = np.array([-2.5, -1.5, -0.5, -0.0, 0.0, 0.5, 1.5, 2.5, 1e9, -1e9, np.inf, -np.inf], np.float32)
    path = one_operator(tmp_path / "m.tflite", operator, [Put(x.shape)], [Put(x.shape)])
    assert np.array_equal(by_litert(path, x)[0], by_onnxruntime(imported(path), x)[0])


@pytest.mark.parametrize(
    ("operator", "dtype"), [("ABS", "INT32"), ("NEG", "INT32"), ("NEG", "INT64"), ("SIGN", "INT32")]
)
def test_whole_numbers_stay_whole(tmp_path: Path, operator: str, dtype: str) -> None:
    x = np.array([-7, 0, 3, 2**30, -(2**30)], dtype.lower())
    path = one_operator(tmp_path / "m.tflite", operator, [Put(x.shape, dtype)], [Put(x.shape, dtype)])
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("shape", [(1,), (6,), (1, 1, 6), (4, 5, 6)], ids=str)
@pytest.mark.parametrize("constant", [True, False])
def test_prelu_of_floats_broadcasts_from_the_last_axis(
    tmp_path: Path, shape: tuple[int, ...], constant: bool
) -> None:
    rng = np.random.default_rng(3)
    slopes, x = rng.uniform(-1, 1, shape).astype(np.float32), rng.normal(size=(2, 4, 5, 6)).astype(np.float32)
    put = Put(shape, value=slopes if constant else None)
    path = one_operator(tmp_path / "m.tflite", "PRELU", [Put(x.shape), put], [Put(x.shape)])
    feeds = (x,) if constant else (x, slopes)
    assert np.array_equal(by_litert(path, *feeds)[0], by_onnxruntime(imported(path), *feeds)[0])


@pytest.mark.parametrize("operator", ["HARD_SWISH", "LOGISTIC", "RELU6"])
def test_a_dynamic_batch_stays_dynamic(tmp_path: Path, operator: str) -> None:
    more = {"signature": [-1, 3, 5]}
    puts = [Put((1, 3, 5), "INT8", 0.05, 3, more=more)], [Put((1, 3, 5), "INT8", 0.04, -4, more=more)]
    path = one_operator(tmp_path / "m.tflite", operator, *puts)
    made = imported(path)
    for batch in (1, 4):
        x = np.random.default_rng(batch).integers(-128, 128, (batch, 3, 5)).astype(np.int8)
        assert lsb(by_litert(path, x), by_onnxruntime(made, x)) == 0


@pytest.mark.parametrize(
    ("operator", "output", "expected"),
    [
        ("RELU", (0.05, -128), "Identity"),  # the codes hold nothing below zero
        ("RELU6", (0.05, -128), "Clip"),
        ("LEAKY_RELU", (0.03, 5), "LeakyRelu"),
        ("LOGISTIC", (1 / 256, -128), "Sigmoid"),
        ("TANH", (1 / 128, 0), "Sigmoid"),
        ("HARD_SWISH", (0.05, 5), "GatherElements"),
    ],
)
def test_the_quickest_form_is_written(
    tmp_path: Path, operator: str, output: tuple[float, int], expected: str
) -> None:
    values: dict[str, Any] = {"options": "LeakyReluOptions", "alpha": 0.2} if operator == "LEAKY_RELU" else {}
    puts = [Put((256,), "UINT8", 0.05, output[1] + 128)], [Put((256,), "UINT8", output[0], output[1] + 128)]
    path = one_operator(tmp_path / "m.tflite", operator, *puts, **values)
    kinds = [node.op_type for node in onnx.load(imported(path)).graph.node]
    assert expected in kinds
    assert kinds.count("DequantizeLinear") == (expected in ("LeakyRelu", "Sigmoid"))


def test_an_operator_that_litert_has_not_on_codes_is_named(tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "SIN", [Put((4,), "INT8", 0.1)], [Put((4,), "INT8", 0.1)])
    with pytest.raises(
        UnsupportedOperator, match=r"SIN \(#0: LiteRT has no kernel of it for 8-bit integers\)"
    ):
        imported(path)


@pytest.mark.parametrize("operator", ["RELU", "TANH", "LOGISTIC", "HARD_SWISH", "EXP", "SQRT", "ROUND"])
def test_half_floats_stay_half_floats(tmp_path: Path, operator: str) -> None:
    x = np.random.default_rng(0).uniform(0, 4, (4, 5)).astype(np.float16)
    path = one_operator(tmp_path / "m.tflite", operator, [Put(x.shape, "FLOAT16")], [Put(x.shape, "FLOAT16")])
    difference = relative(by_litert(path, x), by_onnxruntime(imported(path), x))
    assert difference <= 2**-10  # one unit in the last place: LiteRT computes some of them in half floats


def test_integers_without_a_scale_are_refused(tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "RELU", [Put((4,), "INT8")], [Put((4,), "INT8")])
    with pytest.raises(UnsupportedOperator, match=r"RELU \(#0: its operand is int8\)"):
        imported(path)
