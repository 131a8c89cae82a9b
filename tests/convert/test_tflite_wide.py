"""Operators on one 16-bit operand: the importer against LiteRT, over all 65,536 codes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, by_litert, by_onnxruntime, imported, lsb, one_operator

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

CODES = np.arange(-32768, 32768).astype(np.int16)
SCALES = [(2**-12, 2**-15), (2**-11, 2**-11), (0.0003, 0.00041), (0.001, 0.0017), (0.00007, 0.0009)]
LEAKY: tuple[str, str, dict[str, Any]] = ("LEAKY_RELU", "LeakyReluOptions", {"alpha": 0.2})
ANY: list[tuple[str, str, dict[str, Any]]] = [
    (kind, "", {}) for kind in ("RELU", "RELU6", "LOGISTIC", "TANH", "EXP", "LOG", "ABS", "NEG")
]
ABOVE_ZERO: list[tuple[str, str, dict[str, Any]]] = [("SQRT", "", {}), ("RSQRT", "", {})]


@pytest.mark.parametrize(("operator", "options", "values"), [*ANY, *ABOVE_ZERO, LEAKY])
def test_every_code_becomes_litert_s(
    tmp_path: Path, operator: str, options: str, values: dict[str, Any]
) -> None:
    codes = CODES[CODES > 0] if operator in ("SQRT", "RSQRT") else CODES
    for scale, output_scale in SCALES:
        made = 2**-15 if operator in ("LOGISTIC", "TANH") else output_scale
        puts = [Put(codes.shape, "INT16", scale)], [Put(codes.shape, "INT16", made)]
        path = one_operator(tmp_path / "m.tflite", operator, *puts, options, **values)
        assert lsb(by_litert(path, codes), by_onnxruntime(imported(path), codes)) == 0, (scale, made)


@pytest.mark.parametrize("output_scale", [0.001, 1.0, 1e20, 1e34])
@pytest.mark.parametrize("scale", [0.0026, 0.0028, 0.004, 0.01, 0.1])
def test_exp_leaps_like_litert_where_float32_ends(tmp_path: Path, scale: float, output_scale: float) -> None:
    puts = [Put(CODES.shape, "INT16", scale)], [Put(CODES.shape, "INT16", output_scale)]
    path = one_operator(tmp_path / "m.tflite", "EXP", *puts, "ExpOptions", version=2)
    assert lsb(by_litert(path, CODES), by_onnxruntime(imported(path), CODES)) == 0


@pytest.mark.parametrize("approximate", [False, True])
def test_gelu_is_off_by_one_in_one_interval_of_512_at_most(tmp_path: Path, approximate: bool) -> None:
    for scale, output_scale in SCALES:
        puts = [Put(CODES.shape, "INT16", scale)], [Put(CODES.shape, "INT16", output_scale)]
        path = one_operator(tmp_path / "m.tflite", "GELU", *puts, "GeluOptions", approximate=approximate)
        difference = np.abs(by_litert(path, CODES)[0].astype(int) - by_onnxruntime(imported(path), CODES)[0])
        assert difference.max() <= 1
        assert (
            np.count_nonzero(difference) <= 256
        )  # one entry of the table: erff and tanhf of glibc, to the last bit


@pytest.mark.parametrize("classes", [1, 2, 10, 300])
@pytest.mark.parametrize("beta", [1.0, 0.5])
@pytest.mark.parametrize("opset", [13, 18])
def test_softmax_is_exact(tmp_path: Path, classes: int, beta: float, opset: int) -> None:
    x = np.random.default_rng(classes).integers(-32768, 32768, (120, classes)).astype(np.int16)
    x[60:] //= 20
    for scale in (2**-12, 0.001, 0.00007):
        puts = [Put(x.shape, "INT16", scale)], [Put(x.shape, "INT16", 1 / 32768)]
        path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=3, beta=beta)
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path, opset=opset), x)) == 0, scale


def test_softmax_takes_the_last_axis_of_four(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(-3000, 3000, (2, 3, 4, 5)).astype(np.int16)
    puts = [Put(x.shape, "INT16", 0.001)], [Put(x.shape, "INT16", 1 / 32768)]
    path = one_operator(tmp_path / "m.tflite", "SOFTMAX", *puts, "SoftmaxOptions", version=3, beta=1.0)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("operator", ["HARD_SWISH", "ELU", "RELU_N1_TO_1"])
def test_what_litert_has_no_kernel_for_is_named(tmp_path: Path, operator: str) -> None:
    path = one_operator(tmp_path / "m.tflite", operator, [Put((4,), "INT16", 0.1)], [Put((4,), "INT16", 0.1)])
    with pytest.raises(
        UnsupportedOperator, match=rf"{operator} \(#0: LiteRT has no kernel of it for 16-bit integers\)"
    ):
        imported(path)
