"""Two-operand arithmetic of TFLite in codes: the importer against LiteRT, on every pair of codes."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import (
    Put,
    TfliteGraph,
    all_codes,
    all_pairs,
    by_litert,
    by_onnxruntime,
    imported,
    lsb,
    one_operator,
)

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
           "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions"}  # fmt: skip
FUSED = {"ADD", "SUB", "MUL", "DIV"}
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3
AWKWARD = [(0.05, 0.05, 0.05), (0.25, 0.25, 0.5), (0.021, 0.043, 0.06), (1.0, 0.5, 1.0), (0.0001, 0.05, 0.03), (5.0, 0.01, 0.01),
           (0.01, 0.02, 0.0004), (0.5, 0.5, 0.25), (0.1, 0.00005, 0.1), (0.0001, 0.0003, 0.9)]  # fmt: skip


def scales(seed: int, number: int) -> list[tuple[float, float, float]]:
    """As calibration finds them, with outputs that hold sums and, at times, saturate."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        a, b = rng.uniform(0.002, 0.2, 2)
        found.append((float(a), float(b), float(max(a, b) * 2 ** rng.uniform(-2, 1.5))))
    return found


def of_pairs(
    path: Path,
    operator: str,
    kind: str,
    puts: tuple[float, float, float],
    zeros: tuple[int, int, int],
    activation: int = 0,
) -> tuple[Path, list[np.ndarray]]:
    """A model of one operator on every pair of codes, and those pairs."""
    own = zeros if kind == "INT8" else tuple(zero + 128 for zero in zeros)
    a, b = all_pairs(kind)
    if operator == "DIV":
        a, b = a[b != own[1]], b[b != own[1]]
    first, second, out = (Put(a.shape, kind, scale, zero) for scale, zero in zip(puts, own, strict=True))
    more = {"fusedActivationFunction": activation} if operator in FUSED else {}
    return one_operator(path, operator, [first, second], [out], OPTIONS[operator], version=2, **more), [a, b]


def kernels(path: Path, tmp_path: Path) -> Counter[str]:
    """What onnxruntime runs."""
    import onnx
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize(
    ("zeros", "activation"),
    [((3, -128, 5), 0), ((-128, -128, -128), RELU6), ((127, 17, 0), RELU), ((-1, 0, -77), RELU_N1_TO_1)],
)
def test_every_pair_of_codes_gives_what_litert_gives(
    tmp_path: Path, operator: str, kind: str, zeros: tuple[int, int, int], activation: int
) -> None:
    if operator == "SQUARED_DIFFERENCE" and (kind == "UINT8" or activation):
        pytest.skip("LiteRT has no such kernel")
    for triple in AWKWARD + scales(abs(sum(zeros)), 4):
        a, b = triple[:2]
        puts = (a, b, a * b * 40) if operator == "MUL" and triple not in AWKWARD else triple
        path, feeds = of_pairs(tmp_path / "m.tflite", operator, kind, puts, zeros, activation)
        assert lsb(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) == 0, puts


@pytest.mark.parametrize(
    ("operator", "kernel"), [("ADD", "QLinearAdd"), ("SUB", "QLinearAdd"), ("MUL", "QLinearMul")]
)
def test_calibrated_scales_run_as_one_integer_kernel(tmp_path: Path, operator: str, kernel: str) -> None:
    for a, b, out in scales(11, 4):
        path, _ = of_pairs(
            tmp_path / "m.tflite",
            operator,
            "UINT8",
            (a, b, a * b * 51.7 if operator == "MUL" else out),
            (0, -7, -128),
        )
        assert kernels(imported(path), tmp_path) == Counter(
            [kernel, *(["BitwiseNot"] if operator == "SUB" else [])]
        )


@pytest.mark.parametrize("constant_first", [False, True])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1, 1, 4), (4,), (2, 3, 4)])
@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL", "DIV"])
def test_a_constant_operand_is_exact_for_every_code(
    tmp_path: Path, operator: str, shape: tuple[int, ...], constant_first: bool
) -> None:
    rng = np.random.default_rng(len(shape))
    x = rng.permutation(np.resize(all_codes("INT8"), (64, 2, 3, 4)).reshape(-1)).reshape(64, 2, 3, 4)
    for triple in [(1.0, 0.5, 1.0), (0.25, 0.25, 0.5), (0.05, 0.05, 0.05), *scales(5, 4)]:
        constant = rng.integers(-128, 100, shape).astype(np.int8)
        zero = 101 if operator == "DIV" else -3
        puts = [
            Put(x.shape, "INT8", triple[0], 101 if constant_first and operator == "DIV" else 7),
            Put(shape, "INT8", triple[1], zero, 0, constant),
        ]
        if constant_first and operator == "DIV":
            x = np.where(x == 101, 100, x).astype(np.int8)
        path = one_operator(
            tmp_path / "m.tflite",
            operator,
            puts[::-1] if constant_first else puts,
            [Put(x.shape, "INT8", triple[2], -9)],
            OPTIONS[operator],
            version=2,
        )
        assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0, triple


def test_ties_of_every_pixel_go_where_litert_s_go(tmp_path: Path) -> None:
    x = all_codes("UINT8").reshape(1, 16, 16, 1)
    constant = np.array(255, np.uint8)
    path = one_operator(tmp_path / "m.tflite", "SUB", [Put(x.shape, "UINT8", 1.0, 0), Put((), "UINT8", 0.5, 0, 0, constant)],
                        [Put(x.shape, "UINT8", 1.0, 128)], "SubOptions", version=2)  # fmt: skip
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0
    assert kernels(imported(path), tmp_path) == Counter(["QLinearAdd"])


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL", "SQUARED_DIFFERENCE"])
def test_one_tensor_as_both_operands_is_exact(tmp_path: Path, operator: str) -> None:
    for a, _, out in [(0.5, 0, 0.5), (0.25, 0, 0.5), *scales(9, 4)]:
        graph = TfliteGraph()
        x, y = (
            graph.tensor("x", (256,), None, "INT8", scale=a, zero_point=-3),
            graph.tensor("y", (256,), None, "INT8", scale=out, zero_point=5),
        )
        graph.operator(operator, [x, x], [y], OPTIONS[operator], version=2)
        path = graph.write(tmp_path / "m.tflite", [x], [y])
        assert lsb(by_litert(path, all_codes("INT8")), by_onnxruntime(imported(path), all_codes("INT8"))) == 0


@pytest.mark.parametrize(
    ("operator", "more"), [("ADD", {"potScaleInt16": False}), ("SUB", {"potScaleInt16": False}), ("MUL", {})]
)
@pytest.mark.parametrize("activation", [0, RELU, RELU6])
def test_16_bit_operands_are_exact(
    tmp_path: Path, operator: str, more: dict[str, Any], activation: int
) -> None:
    rng = np.random.default_rng(4)
    a, b = (
        rng.integers(-32768, 32768, (3000, 5)).astype(np.int16),
        rng.integers(-32768, 32768, (1, 5)).astype(np.int16),
    )
    for first, second, out in [
        (0.001, 0.001, 0.001),
        *((x / 256, y / 256, z / 256) for x, y, z in scales(2, 4)),
    ]:
        made = Put(a.shape, "INT16", first * second * 20000 if operator == "MUL" else out)
        path = one_operator(tmp_path / "m.tflite", operator, [Put(a.shape, "INT16", first), Put(b.shape, "INT16", second)], [made],
                            OPTIONS[operator], version=2, fusedActivationFunction=activation, **more)  # fmt: skip
        assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


def test_16_bit_sums_of_equal_shapes_are_exact_but_for_the_last_elements(tmp_path: Path) -> None:
    # LiteRT rounds the last elements, fewer than 8, twice: 1 of 10,000 of those differs by 1 code.
    rng = np.random.default_rng(4)
    a, b = rng.integers(-32768, 32768, (2, 400_000)).astype(np.int16)
    for first, second, out in [
        (5.1e-5, 8.98e-6, 5.5e-5),
        (8.2e-5, 1.68e-4, 2.34e-4),
        (2e-9, 1.68e-4, 2.34e-4),
    ]:
        path = one_operator(tmp_path / "m.tflite", "ADD", [Put(a.shape, "INT16", first), Put(b.shape, "INT16", second)],
                            [Put(a.shape, "INT16", out)], "AddOptions", version=2, potScaleInt16=False)  # fmt: skip
        assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


def test_16_bit_sums_of_powers_of_two_are_shifted(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.integers(-32768, 32768, (2, 5000)).astype(np.int16)
    path = one_operator(tmp_path / "m.tflite", "ADD", [Put(a.shape, "INT16", 2.0**-14), Put(b.shape, "INT16", 2.0**-12)],
                        [Put(a.shape, "INT16", 2.0**-12)], "AddOptions", version=2, potScaleInt16=True)  # fmt: skip
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


@pytest.mark.parametrize("operator", ["MAXIMUM", "MINIMUM"])
@pytest.mark.parametrize("kind", ["INT8", "UINT8", "INT16"])
def test_extremes_compare_codes(tmp_path: Path, operator: str, kind: str) -> None:
    a, b = (
        (array.astype(np.int16) * 100 for array in all_pairs("INT8")) if kind == "INT16" else all_pairs(kind)
    )
    put = Put(a.shape, kind, 0.05, 0)
    path = one_operator(tmp_path / "m.tflite", operator, [put, put], [put], OPTIONS[operator], version=3)
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
def test_8_bit_operands_at_older_opsets(tmp_path: Path, operator: str, opset: int) -> None:
    path, feeds = of_pairs(
        tmp_path / "m.tflite", operator, "INT8", (0.0213, 0.0177, 0.0391), (3, -9, 8), RELU
    )
    assert lsb(by_litert(path, *feeds), by_onnxruntime(imported(path, opset=opset), *feeds)) == 0


def test_sums_of_constants_are_constants(tmp_path: Path) -> None:
    a, b = all_pairs("INT8")
    graph = TfliteGraph()
    first, second = (
        graph.tensor(name, a.shape, array, "INT8", scale=scale, zero_point=4)
        for name, array, scale in (("a", a, 0.03), ("b", b, 0.05))
    )
    x, y, z = (graph.tensor(name, a.shape, None, "INT8", scale=0.07, zero_point=2) for name in "xyz")
    graph.operator("ADD", [first, second], [y], "AddOptions", version=2)
    graph.operator("MAXIMUM", [x, y], [z], "MaximumMinimumOptions", version=2)
    path = graph.write(tmp_path / "m.tflite", [x], [z])
    feed = np.full(a.shape, -128, np.int8)
    assert lsb(by_litert(path, feed), by_onnxruntime(imported(path), feed)) == 0


@pytest.mark.parametrize("batch", [1, 2])
def test_a_gate_on_channels_and_a_residual_run_as_integer_kernels_without_transposes(
    tmp_path: Path, batch: int
) -> None:
    rng = np.random.default_rng(7)
    graph = TfliteGraph()
    shape, gate = (batch, 6, 6, 8), (batch, 1, 1, 8)

    def quantized(name: str, shape: tuple[int, ...], scale: float, zero_point: int) -> int:
        return graph.tensor(name, shape, None, "INT8", scale=scale, zero_point=zero_point)

    x, y, gated, z = (
        quantized(name, shape, scale, -5)
        for name, scale in (("x", 0.031), ("y", 0.047), ("gated", 0.0213), ("z", 0.0719))
    )
    pooled = quantized("pooled", gate, 0.00391, -128)
    weights = graph.tensor(
        "w", (8, 1, 1, 8), rng.integers(-127, 128, (8, 1, 1, 8), np.int8), "INT8", scale=0.004
    )
    bias = graph.tensor("b", (8,), np.zeros(8, np.int32), "INT32", scale=0.004 * 0.031)
    graph.operator("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", version=3, strideH=1, strideW=1)
    graph.operator("MUL", [y, pooled], [gated], "MulOptions", version=2)
    graph.operator("ADD", [gated, y], [z], "AddOptions", version=2)
    path = graph.write(tmp_path / "m.tflite", [x, pooled], [z])
    feeds = [rng.integers(-128, 128, sizes, np.int8) for sizes in (shape, gate)]
    model = imported(path)
    assert lsb(by_litert(path, *feeds), by_onnxruntime(model, *feeds)) == 0
    found = kernels(model, tmp_path)
    assert (found["QLinearConv"], found["QLinearMul"], found["QLinearAdd"]) == (1, 1, 1)
    assert found["Transpose"] <= 3  # of the two inputs and the output


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize("elements", [3, 27])
def test_sums_that_overflow_in_litert_in_part_are_refused(tmp_path: Path, kind: str, elements: int) -> None:
    """It wraps 16 elements at a time, and saturates the last ones."""
    put = Put((elements,), kind, 0.1)
    path = one_operator(
        tmp_path / "m.tflite", "ADD", [put, put], [Put((elements,), kind, 1.5e-5)], "AddOptions", version=2
    )
    with pytest.raises(UnsupportedOperator, match="sums overflow at its scales"):
        imported(path)


@pytest.mark.parametrize("kind", ["INT8", "UINT8", "INT16"])
@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("constant", [False, True])
def test_scalars_stay_scalars(tmp_path: Path, operator: str, kind: str, *, constant: bool) -> None:
    x, y = np.array(3, kind.lower()), np.array(7, kind.lower())
    scale = 1e-4 if kind == "INT16" else 0.05
    more = {} if operator == "MUL" else {"potScaleInt16": False}
    path = one_operator(
        tmp_path / "m.tflite", operator, [Put((), kind, scale), Put((), kind, scale, value=y if constant else None)],
        [Put((), kind, scale)], f"{operator.capitalize()}Options", version=2, **more,
    )  # fmt: skip
    feeds = [x] if constant else [x, y]
    assert lsb(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) == 0


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL"])
@pytest.mark.parametrize("activation", [0, 1, 3])
@pytest.mark.parametrize(
    ("constant", "given"), [((1,), ()), ((1, 1), (3,)), ((1, 1, 1, 1), (2, 3)), ((1,) * 5, (2, 3, 4, 2)), ((1, 2), (2,))]
)  # fmt: skip
@pytest.mark.parametrize("first", [False, True])
def test_sizes_of_a_constant_number_are_lost_where_litert_loses_them(
    tmp_path: Path, operator: str, activation: int, constant: tuple[int, ...], given: tuple[int, ...], *, first: bool
) -> None:  # fmt: skip
    puts = [Put(constant, "INT8", 0.05, value=np.full(constant, 7, np.int8)), Put(given, "INT8", 0.05)]
    path = one_operator(
        tmp_path / "m.tflite", operator, puts if first else puts[::-1],
        [Put(np.broadcast_shapes(constant, given), "INT8", 0.05)], f"{operator.capitalize()}Options", version=2, fusedActivationFunction=activation,
    )  # fmt: skip
    x = np.resize(all_codes("INT8"), given)
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize(("kind", "out"), [("INT8", 0.003), ("INT16", 0.5)])
def test_products_that_overflow_in_litert_are_refused(tmp_path: Path, kind: str, out: float) -> None:
    put = Put((4,), kind, 1.0)
    path = one_operator(
        tmp_path / "m.tflite", "MUL", [put, put], [Put((4,), kind, out)], "MulOptions", version=2
    )
    with pytest.raises(UnsupportedOperator, match="products overflow at its scales"):
        imported(path)
