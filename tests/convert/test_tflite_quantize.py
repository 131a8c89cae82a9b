"""QUANTIZE, DEQUANTIZE, CAST, FAKE_QUANT and DENSIFY: the importer against LiteRT."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import (
    Put,
    TfliteGraph,
    all_codes,
    by_litert,
    by_onnxruntime,
    imported,
    lsb,
    one_operator,
    relative,
)

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

EIGHT_BIT = ("INT8", "UINT8")
RATIOS = [
    (0.05, 0.0731),
    (0.05, 0.05),
    (0.1, 0.04),
    (0.01, 0.08),
    (2**-5, 2**-4),
    (3e-5, 0.006),
    (0.5, 0.002),
    (0.0005, 0.05),
    (0.0313, 0.0314),
]
"""Scales of operand and result; XNNPACK leaves ratios below 1/256 and above 128, and changes of type, to the built-in kernel."""


def _zero_points(kind: str) -> tuple[int, ...]:
    least = -128 if kind == "INT8" else 0
    return least, least + 100, least + 255


@pytest.mark.parametrize(("source", "target"), list(itertools.product(EIGHT_BIT, repeat=2)))
def test_codes_to_codes_of_another_scale_are_exact(tmp_path: Path, source: str, target: str) -> None:
    codes = all_codes(source)
    for (scale, output_scale), zero, output_zero in itertools.product(
        RATIOS, _zero_points(source), _zero_points(target)
    ):
        puts = [Put((256,), source, scale, zero)], [Put((256,), target, output_scale, output_zero)]
        path = one_operator(tmp_path / "m.tflite", "QUANTIZE", *puts, "QuantizeOptions")
        assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0, puts


@pytest.mark.parametrize("shape", [(12,), (1,), (16,), (42,), (255,), (5, 7), (1, 3, 3, 19), (2, 3, 2, 2, 5)])
def test_the_last_codes_are_rounded_as_litert_s_last_loop_does(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    codes = np.resize(all_codes("INT8"), shape)
    for scale, zero, output_scale in ((0.01, 0, 0.08), (0.007417765446007252, -30, 0.03216790780425072)):
        puts = [Put(shape, "INT8", scale, zero)], [Put(shape, "UINT8", output_scale, 128)]
        path = one_operator(tmp_path / "m.tflite", "QUANTIZE", *puts, "QuantizeOptions")
        assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0


def test_the_last_codes_in_a_chain_are_rounded_so_too(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x = graph.tensor("x", (255,), kind="INT8", scale=0.01)
    a = graph.tensor("a", (255,), kind="UINT8", scale=0.08, zero_point=128)
    y = graph.tensor("y", (255,), kind="UINT8", scale=1 / 256)
    graph.operator("QUANTIZE", [x], [a], "QuantizeOptions")
    graph.operator("LOGISTIC", [a], [y])
    path, codes = graph.write(tmp_path / "m.tflite", [x], [y]), np.arange(127, -128, -1).astype(np.int8)
    assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0


@pytest.mark.parametrize("scale", [6.426169420592487e-05, 0.05, 2**-7, 3.1])
@pytest.mark.parametrize("shape", [(1,), (7,), (9,), (4, 29), (1, 3, 3, 5)])
def test_the_last_words_are_rounded_as_litert_s_last_loop_does(
    tmp_path: Path, shape: tuple[int, ...], scale: float
) -> None:
    """Where dividing and multiplying, float32 and float64, halves to even and away from zero differ: at halves, and beside them."""
    path = one_operator(
        tmp_path / "m.tflite", "QUANTIZE", [Put(shape)], [Put(shape, "INT16", scale)], "QuantizeOptions"
    )
    made, rng = imported(path), np.random.default_rng(0)
    for _ in range(30):
        half = ((rng.integers(-32768, 32768, shape) + 0.5) * np.float64(np.float32(scale))).astype(np.float32)
        for x in (half, np.nextafter(half, np.float32(np.inf)), np.nextafter(half, np.float32(-np.inf))):
            assert lsb(by_litert(path, x), by_onnxruntime(made, x)) == 0


@pytest.mark.parametrize("scale", [0.05, 0.1, 2**-7, 3e-5])
@pytest.mark.parametrize(
    ("source", "target"), [("INT8", "INT16"), ("UINT8", "INT16"), ("INT16", "INT8"), ("INT16", "INT16")]
)
def test_sixteen_bits_are_exact(tmp_path: Path, source: str, target: str, scale: float) -> None:
    codes = all_codes(source) if source in EIGHT_BIT else np.arange(-32768, 32768).astype(np.int16)
    for output_scale in (0.05, 0.0731, 0.0005, 0.006, 2**-12):
        puts = (
            [Put(codes.shape, source, scale, 5 * ("8" in source))],
            [Put(codes.shape, target, output_scale, 9 * ("8" in target))],
        )
        path = one_operator(tmp_path / "m.tflite", "QUANTIZE", *puts, "QuantizeOptions")
        assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0, puts


@pytest.mark.parametrize("scale", [0.1, 0.05, 0.0173, 1 / 127, 2**-7, 3.1])
@pytest.mark.parametrize("kind", [*EIGHT_BIT, "INT16"])
def test_floats_to_codes_are_exact_on_halves_and_beyond_the_range(
    tmp_path: Path, kind: str, scale: float
) -> None:
    reach = 70_000 if kind == "INT16" else 600
    x = (np.random.default_rng(0).integers(-reach, reach, 4000) * scale / 2).astype(np.float32)
    x = np.concatenate([x, np.array([1e8, -1e8, 0.0, -0.0], np.float32) * np.float32(scale)])
    path = one_operator(
        tmp_path / "m.tflite",
        "QUANTIZE",
        [Put(x.shape)],
        [Put(x.shape, kind, scale, 5 * (kind != "INT16"))],
        "QuantizeOptions",
    )
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


def test_int8_to_uint8_of_the_same_numbers_vanishes(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite",
        "QUANTIZE",
        [Put((9,), "UINT8", 0.1, 130)],
        [Put((9,), "INT8", 0.1, 2)],
        "QuantizeOptions",
    )
    kinds = [node.op_type for node in onnx.load(imported(path)).graph.node]
    assert kinds == ["DequantizeLinear", "QuantizeLinear"]  # the result's own type, at the border


def test_two_quantizations_in_a_row_keep_the_rounding_between(tmp_path: Path) -> None:
    """onnxruntime makes one pair of QuantizeLinear, DequantizeLinear, QuantizeLinear, DequantizeLinear."""
    graph = TfliteGraph()
    x = graph.tensor("x", (256,))
    a = graph.tensor("a", (256,), kind="UINT8", scale=0.01, zero_point=0)
    b = graph.tensor("b", (256,), kind="UINT8", scale=0.0137, zero_point=3)
    y = graph.tensor("y", (256,))
    graph.operator("QUANTIZE", [x], [a], "QuantizeOptions")
    graph.operator("QUANTIZE", [a], [b], "QuantizeOptions")
    graph.operator("DEQUANTIZE", [b], [y])
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    feed = np.arange(256, dtype=np.float32) * np.float32(0.01)
    assert np.array_equal(by_litert(path, feed)[0], by_onnxruntime(imported(path), feed)[0])


def test_one_scale_for_each_slice_of_a_result_is_refused(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite",
        "QUANTIZE",
        [Put((2, 3))],
        [Put((2, 3), "INT8", [0.1, 0.2], 0, 0)],
        "QuantizeOptions",
    )
    with pytest.raises(UnsupportedOperator, match=r"QUANTIZE .*its result is not of one scale"):
        imported(path)


@pytest.mark.parametrize("kind", [*EIGHT_BIT, "INT16"])
def test_codes_become_their_numbers(tmp_path: Path, kind: str) -> None:
    codes = np.arange(-300, 300).astype(kind.lower())
    path = one_operator(
        tmp_path / "m.tflite",
        "DEQUANTIZE",
        [Put(codes.shape, kind, 0.07, 3 * (kind != "INT16"))],
        [Put(codes.shape)],
    )
    assert np.array_equal(by_litert(path, codes)[0], by_onnxruntime(imported(path), codes)[0])


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("kind", EIGHT_BIT)
@pytest.mark.parametrize("opset", [13, 18])
def test_codes_with_a_scale_for_each_slice_become_their_numbers(
    tmp_path: Path, kind: str, axis: int, opset: int
) -> None:
    rng = np.random.default_rng(axis)
    codes = rng.integers(-128, 128, (3, 4, 5)).astype(kind.lower())
    scales, zeros = rng.uniform(0.01, 0.1, codes.shape[axis]), rng.integers(0, 100, codes.shape[axis])
    path = one_operator(
        tmp_path / "m.tflite", "DEQUANTIZE", [Put(codes.shape, kind, scales, zeros, axis)], [Put(codes.shape)]
    )
    assert np.array_equal(by_litert(path, codes)[0], by_onnxruntime(imported(path, opset=opset), codes)[0])


def _added_to_a_constant(path: Path, constant: Put) -> Path:
    graph = TfliteGraph()
    given = graph.tensor(
        "c",
        constant.shape,
        constant.value,
        constant.kind,
        scale=constant.scale,
        zero_point=constant.zero_point,
        axis=constant.axis,
    )
    real, x, y = (graph.tensor(name, constant.shape) for name in ("real", "x", "y"))
    graph.operator("DEQUANTIZE", [given], [real])
    graph.operator("ADD", [x, real], [y], "AddOptions")
    return graph.write(path, [x], [y])


def test_a_float16_constant_stays_one(tmp_path: Path) -> None:
    half = np.random.default_rng(0).normal(size=(64, 50)).astype(np.float16)
    path = _added_to_a_constant(tmp_path / "m.tflite", Put(half.shape, "FLOAT16", value=half))
    made, x = imported(path), np.ones(half.shape, np.float32)
    assert relative(by_litert(path, x), by_onnxruntime(made, x)) < 1e-7
    assert made.stat().st_size < 2 * half.size + 2000


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_an_int8_constant_stays_one(tmp_path: Path, axis: int | None) -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(-127, 128, (64, 50)).astype(np.int8)
    scales = 0.05 if axis is None else rng.uniform(0.01, 0.1, codes.shape[axis])
    path = _added_to_a_constant(tmp_path / "m.tflite", Put(codes.shape, "INT8", scales, 0, axis or 0, codes))
    made, x = imported(path), np.ones(codes.shape, np.float32)
    assert relative(by_litert(path, x), by_onnxruntime(made, x)) < 1e-6
    assert made.stat().st_size < codes.size + 3000


ODD = np.array(
    [
        300.7,
        -5.3,
        -0.9,
        0.9,
        255.5,
        127.9,
        128,
        -129,
        70000,
        -70000,
        2147483648,
        -3e9,
        np.inf,
        -np.inf,
        2147483520,
        0.5,
        0,
    ],
    np.float32,
)
NUMBERS = {
    "FLOAT32": ODD, "FLOAT16": np.clip(ODD, -60000, 60000).astype(np.float16), "FLOAT64": np.array([1.5, -2.7, 1e9, 300]),
    "INT32": np.array([300, -5, 2**31 - 1, -(2**31), 128, -129, 0, 70000], np.int32), "INT64": np.array([300, -5, 2**33 + 7, -(2**40), 128, 0]),
    "INT8": all_codes("INT8"), "UINT8": all_codes("UINT8"), "INT16": np.arange(-32768, 32768, 77).astype(np.int16),
    "UINT16": np.arange(0, 65536, 77).astype(np.uint16), "UINT32": np.array([0, 5, 2**32 - 1, 2**31], np.uint32), "BOOL": np.array([True, False]),
}  # fmt: skip


@pytest.mark.parametrize("target", NUMBERS)
@pytest.mark.parametrize("source", NUMBERS)
def test_every_type_becomes_every_other_as_in_litert(tmp_path: Path, source: str, target: str) -> None:
    x = NUMBERS[source]
    if target == "INT64" and source.startswith("FLOAT"):
        x = x[np.isfinite(x)]  # no float holds the greatest number of 64 bits: onnxruntime wraps there
    path = one_operator(tmp_path / "m.tflite", "CAST", [Put(x.shape, source)], [Put(x.shape, target)])
    (expected,), (found,) = by_litert(path, x), by_onnxruntime(imported(path), x)
    assert expected.dtype == found.dtype
    assert np.array_equal(expected, found)


@pytest.mark.parametrize("quantized", ["INT8", "UINT8", "INT16"])
@pytest.mark.parametrize("other", ["FLOAT32", "INT32", "BOOL"])
def test_codes_are_cast_as_the_numbers_that_they_are(tmp_path: Path, quantized: str, other: str) -> None:
    scaled = {"scale": 0.05, "zero_point": 0 if quantized == "INT16" else 3}
    for source, target in ((quantized, other), (other, quantized)):
        x = NUMBERS[source]
        ends = [Put(x.shape, kind, **(scaled if kind == quantized else {})) for kind in (source, target)]
        path = one_operator(tmp_path / "m.tflite", "CAST", [ends[0]], [ends[1]])
        assert np.array_equal(by_litert(path, x)[0], by_onnxruntime(imported(path), x)[0])


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(-2, 3.1, 8), (-1, 1, 8), (0, 6, 4), (0.5, 2, 8), (-3, 3, 16)]
)
def test_fake_quantization_rounds_as_in_litert(tmp_path: Path, low: float, high: float, bits: int) -> None:
    x = np.linspace(low - 1, high + 1, 2001, dtype=np.float32)
    values = {"min": low, "max": high, "numBits": bits}
    path = one_operator(
        tmp_path / "m.tflite",
        "FAKE_QUANT",
        [Put(x.shape)],
        [Put(x.shape)],
        "FakeQuantOptions",
        version=2,
        **values,
    )
    assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) < 1e-6


@pytest.mark.parametrize("operator", ["COMPLEX_ABS", "REAL", "IMAG"])
def test_complex_numbers_are_refused_by_name(tmp_path: Path, operator: str) -> None:
    graph = TfliteGraph()
    x, inner, y = graph.tensor("x", (4,)), graph.tensor("c", (4,), kind="COMPLEX64"), graph.tensor("y", (4,))
    graph.operator("CAST", [x], [inner])
    graph.operator(operator, [inner], [y])
    with pytest.raises(
        UnsupportedOperator, match=rf"{operator} \(#1: ONNX operators take no complex numbers\)"
    ):
        imported(graph.write(tmp_path / "m.tflite", [x], [y]))
