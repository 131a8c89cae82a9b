"""Normalisations over the last axis: the importer against LiteRT."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, by_litert, by_onnxruntime, imported, lsb, one_operator, relative

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]


def _logits(kind: str, rows: int, classes: int) -> np.ndarray:
    """Noise, then rows of a narrower and narrower spread: from one class that takes all to none that does."""
    rng, limits = np.random.default_rng(classes), np.iinfo(kind.lower())
    codes = rng.integers(limits.min, limits.max + 1, (rows, classes))
    spread = np.linspace(1, 60, rows // 2)[:, None]
    codes[rows // 2 :] = np.clip(
        rng.normal(limits.min + 128, np.resize(spread, (rows - rows // 2, 1)), (rows - rows // 2, classes)),
        limits.min,
        limits.max,
    )
    codes[0] = limits.min + 9  # all alike
    return codes.astype(limits.dtype)


@pytest.mark.parametrize("classes", [2, 3, 10, 21, 91, 1001])
@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_softmax_of_codes_is_exact(tmp_path: Path, kind: str, classes: int) -> None:
    least = -128 if kind == "INT8" else 0
    x = _logits(kind, 20_000 // classes + 20, classes)
    for scale in (0.0625, 0.1, 0.0317, 0.37):
        puts = [Put(x.shape, kind, scale, least + 77)], [Put(x.shape, kind, 1 / 256, least)]
        path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=2, beta=1.0)
        difference = np.abs(by_litert(path, x)[0].astype(int) - by_onnxruntime(imported(path), x)[0])
        # The table of operators says so: sums of float32 in another order turn one near tie in 500,000.
        assert difference.max() <= 1
        assert np.count_nonzero(difference) <= 1


@pytest.mark.parametrize("beta", [0.5, 2.0])
@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_beta_is_part_of_the_scale(tmp_path: Path, kind: str, beta: float) -> None:
    least, x = -128 if kind == "INT8" else 0, _logits(kind, 900, 5)
    puts = [Put(x.shape, kind, 0.05, least + 77)], [Put(x.shape, kind, 1 / 256, least)]
    path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=2, beta=beta)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("shape", [(1,), (4, 1), (2, 3, 7, 1), (1, 2, 3, 1, 1)])
@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_the_softmax_of_one_code_is_one(tmp_path: Path, kind: str, shape: tuple[int, ...]) -> None:
    """A code that there is not: 256 of 1/256."""
    least = -128 if kind == "INT8" else 0
    x = np.arange(least, least + np.prod(shape)).reshape(shape).astype(kind.lower())
    for scale, beta in ((0.184, 1.0), (3.0, 1.0), (0.01, 0.5)):
        puts = [Put(shape, kind, scale, 3)], [Put(shape, kind, 1 / 256, least)]
        path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=2, beta=beta)
        expected = by_litert(path, x)
        assert (expected[0] == least + 255).all()
        assert lsb(expected, by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_the_greatest_of_several_codes_is_no_more_than_one(tmp_path: Path, kind: str) -> None:
    least = -128 if kind == "INT8" else 0
    for scale, classes in ((3.0, 2), (50.0, 3), (50.0, 17)):
        x = np.full((300, classes), least, kind.lower())
        x[:, 0] = np.linspace(least, least + 255, len(x))
        puts = [Put(x.shape, kind, scale, 3)], [Put(x.shape, kind, 1 / 256, least)]
        path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=2, beta=1.0)
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize(
    ("kind", "scale", "beta", "why"),
    [
        ("INT8", 3.0, -1.0, "beta is negative"),
        ("INT16", 3.0, 2.0, "differences of codes overflow"),
        ("INT16", 50.0, 1.0, "differences of codes overflow"),
    ],
)
def test_softmax_that_overflows_in_litert_is_refused(
    tmp_path: Path, kind: str, scale: float, beta: float, why: str
) -> None:
    ends = {"INT8": (1 / 256, -128), "INT16": (1 / 32768, 0)}[kind]
    puts = [Put((4, 3), kind, scale)], [Put((4, 3), kind, *ends)]
    path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=3, beta=beta)
    with pytest.raises(UnsupportedOperator, match=why):
        imported(path)


def test_softmax_of_words_is_exact_as_long_as_nothing_overflows(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-32768, 32768, (200, 5)).astype(np.int16)
    x[::7, 1] = 32767
    puts = [Put(x.shape, "INT16", 4.99)], [Put(x.shape, "INT16", 1 / 32768)]
    path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=3, beta=1.0)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


def test_softmax_of_codes_runs_on_integers(tmp_path: Path) -> None:
    from mlconv.runners.onnx_session import OnnxSession

    puts = [Put((2, 8), "UINT8", 0.05, 77)], [Put((2, 8), "UINT8", 1 / 256, 0)]
    made = imported(one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", beta=1.0))
    kinds = [node.op_type for node in onnx.load(made).graph.node]
    assert kinds[:3] == [
        "DequantizeLinear",
        "Softmax",
        "QuantizeLinear",
    ]  # what onnxruntime makes a QLinearSoftmax of
    assert OnnxSession(made).outputs[0].dtype == "uint8"


@pytest.mark.parametrize(("kind", "zero_point"), [("INT8", 127), ("UINT8", 255)])
@pytest.mark.parametrize("classes", [2, 10, 100])
def test_log_softmax_of_codes_is_off_by_one_in_a_thousand_at_most(
    tmp_path: Path, kind: str, zero_point: int, classes: int
) -> None:
    x = _logits(kind, 500, classes)
    for scale in (0.1, 0.0625, 0.0317):
        puts = [Put(x.shape, kind, scale, 3)], [Put(x.shape, kind, 1 / 16, zero_point)]
        path = one_operator(tmp_path / "m.tflite", "LOG_SOFTMAX", *puts)
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, scale


CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("SOFTMAX", "SoftmaxOptions", {"beta": 1.0}),
    ("SOFTMAX", "SoftmaxOptions", {"beta": 0.7}),
    ("LOG_SOFTMAX", "LogSoftmaxOptions", {}),
    ("L2_NORMALIZATION", "L2NormOptions", {}),
]


@pytest.mark.parametrize("opset", [18, 13])
@pytest.mark.parametrize(("operator", "options", "values"), CASES)
def test_floats_of_every_rank_are_right(
    tmp_path: Path, operator: str, options: str, values: dict[str, Any], opset: int
) -> None:
    for shape in ((5,), (3, 4), (2, 3, 5), (1, 4, 6, 7)):
        x = np.random.default_rng(0).normal(0, 4, shape).astype(np.float32)
        x[0] = 0
        path = one_operator(tmp_path / "m.tflite", operator, [Put(shape)], [Put(shape)], options, **values)
        assert relative(by_litert(path, x), by_onnxruntime(imported(path, opset=opset), x)) < 1e-6, shape


@pytest.mark.parametrize(
    ("radius", "bias", "alpha", "beta"), [(2, 1.0, 0.3, 0.5), (5, 2.0, 1e-4, 0.75), (1, 1.0, 1.0, 1.0)]
)
def test_local_response_normalization_sums_without_dividing(
    tmp_path: Path, radius: int, bias: float, alpha: float, beta: float
) -> None:
    x = np.random.default_rng(0).normal(0, 4, (2, 3, 4, 7)).astype(np.float32)
    values = {"radius": radius, "bias": bias, "alpha": alpha, "beta": beta}
    puts = [Put(x.shape)], [Put(x.shape)]
    path = one_operator(
        tmp_path / "m.tflite",
        "LOCAL_RESPONSE_NORMALIZATION",
        *puts,
        "LocalResponseNormalizationOptions",
        **values,
    )
    assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) < 1e-5


@pytest.mark.parametrize(("kind", "zero_point"), [("INT8", 0), ("UINT8", 128)])
@pytest.mark.parametrize("depth", [1, 2, 3, 16, 128, 2000])
@pytest.mark.parametrize("opset", [13, 18])
def test_l2_normalization_of_codes_is_exact(
    tmp_path: Path, kind: str, zero_point: int, depth: int, opset: int
) -> None:
    x = _logits(kind, 400, depth)
    x[1] = zero_point + 5  # nothing but zeros
    puts = [Put(x.shape, kind, 0.05, zero_point + 5)], [Put(x.shape, kind, 1 / 128, zero_point)]
    path = one_operator(tmp_path / "m.tflite", "L2_NORMALIZATION", *puts, "L2NormOptions", version=2)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path, opset=opset), x)) == 0
