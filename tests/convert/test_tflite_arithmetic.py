"""Two-operand arithmetic of TFLite: the importer against LiteRT, on one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import (
    Put,
    TfliteGraph,
    by_litert,
    by_onnxruntime,
    imported,
    lsb,
    one_operator,
    relative,
)

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

OPTIONS = {"ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
           "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "POW": "PowOptions", "FLOOR_DIV": "FloorDivOptions",
           "FLOOR_MOD": "FloorModOptions"}  # fmt: skip
FUSED = {"ADD", "SUB", "MUL", "DIV"}
RELU, RELU_N1_TO_1, RELU6 = 1, 2, 3
SHAPES = [((), ()), ((5,), (5,)), ((2, 3), (3,)), ((2, 3, 4), (1, 4)), ((2, 3, 4, 5), (2, 1, 1, 5)), ((2, 3, 4, 5), (4, 5)),
          ((1, 5), (2, 3, 4, 1)), ((2, 3, 1, 4, 5), (4, 1)), ((0, 3), (3,))]  # fmt: skip


@pytest.mark.parametrize("shapes", SHAPES)
@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM"])
def test_float_operands_broadcast(
    tmp_path: Path, operator: str, shapes: tuple[tuple[int, ...], tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(1)
    a, b = (np.asarray(rng.uniform(-3, 3, shape), np.float32) for shape in shapes)
    out = np.broadcast_shapes(*shapes)
    path = one_operator(
        tmp_path / "m.tflite", operator, [Put(a.shape), Put(b.shape)], [Put(out)], OPTIONS[operator]
    )
    assert relative(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) < 1e-6


@pytest.mark.parametrize("opset", [13, 15, 17, 18])
@pytest.mark.parametrize("activation", [RELU, RELU_N1_TO_1, RELU6])
@pytest.mark.parametrize("operator", sorted(FUSED))
def test_fused_activations_of_floats(tmp_path: Path, operator: str, activation: int, opset: int) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(-9, 9, (2, 3, 40)).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite",
        operator,
        [Put(a.shape), Put(b.shape)],
        [Put(a.shape)],
        OPTIONS[operator],
        fusedActivationFunction=activation,
    )
    assert relative(by_litert(path, a, b), by_onnxruntime(imported(path, opset=opset), a, b)) < 1e-6


@pytest.mark.parametrize(
    "operator",
    ["ADD", "SUB", "MUL", "DIV", "SQUARED_DIFFERENCE", "MAXIMUM", "MINIMUM", "FLOOR_DIV", "FLOOR_MOD"],
)
@pytest.mark.parametrize("kind", ["INT32", "INT64"])
def test_integers(tmp_path: Path, operator: str, kind: str) -> None:
    if kind == "INT64" and operator in ("DIV", "SQUARED_DIFFERENCE", "FLOOR_DIV"):
        pytest.skip("LiteRT has no such kernel")
    rng = np.random.default_rng(1)
    a, b = rng.integers(-50, 50, (2, 3, 40)).astype(kind.lower())
    b[b == 0] = 7
    path = one_operator(
        tmp_path / "m.tflite",
        operator,
        [Put(a.shape, kind), Put((1, 40), kind)],
        [Put(a.shape, kind)],
        OPTIONS[operator],
        version=2,
    )
    assert lsb(by_litert(path, a, b[:1]), by_onnxruntime(imported(path), a, b[:1])) == 0


@pytest.mark.parametrize(
    ("operator", "kind"),
    [("FLOOR_DIV", "INT8"), ("FLOOR_MOD", "INT16"), ("MUL", "UINT32"), ("ADD", "INT16"), ("ADD", "FLOAT16"), ("DIV", "FLOAT16"),
     ("MAXIMUM", "FLOAT16"), ("MINIMUM", "INT16")],
)  # fmt: skip
def test_narrow_numbers(tmp_path: Path, operator: str, kind: str) -> None:
    rng = np.random.default_rng(1)
    a, b = (
        rng.integers(0 if kind == "UINT32" else -100, 100, (3, 20)).astype(kind.lower()),
        rng.integers(1, 100, (3, 20)).astype(kind.lower()),
    )
    path = one_operator(
        tmp_path / "m.tflite",
        operator,
        [Put(a.shape, kind), Put(b.shape, kind)],
        [Put(a.shape, kind)],
        OPTIONS[operator],
        version=2,
    )
    assert np.array_equal(by_litert(path, a, b)[0], by_onnxruntime(imported(path), a, b)[0])


@pytest.mark.parametrize("activation", [RELU, RELU_N1_TO_1, RELU6])
def test_fused_activations_of_integers(tmp_path: Path, activation: int) -> None:
    a = np.arange(-20, 20, dtype=np.int32)
    path = one_operator(
        tmp_path / "m.tflite",
        "ADD",
        [Put(a.shape, "INT32"), Put((1,), "INT32")],
        [Put(a.shape, "INT32")],
        "AddOptions",
        fusedActivationFunction=activation,
    )
    one = np.array([1], np.int32)
    assert lsb(by_litert(path, a, one), by_onnxruntime(imported(path), a, one)) == 0


@pytest.mark.parametrize("operator", ["FLOOR_DIV", "FLOOR_MOD"])
def test_quotients_are_cut_towards_minus_infinity(tmp_path: Path, operator: str) -> None:
    values = np.array([-7, -6.5, -1, -0.5, 0.5, 1, 3, 6.25, 7], np.float32)
    a, b = (np.ascontiguousarray(grid.reshape(-1)) for grid in np.meshgrid(values, values[values != 0]))
    path = one_operator(
        tmp_path / "m.tflite", operator, [Put(a.shape), Put(b.shape)], [Put(a.shape)], OPTIONS[operator]
    )
    assert relative(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) < 1e-6


def test_powers(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 3, (4, 30)).astype(np.float32), rng.uniform(-3, 3, (1, 30)).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite", "POW", [Put(a.shape), Put(b.shape)], [Put(a.shape)], "PowOptions"
    )
    assert relative(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) < 1e-6
    whole, exponents = rng.integers(-6, 6, 40).astype(np.int32), rng.integers(0, 8, 40).astype(np.int32)
    path = one_operator(
        tmp_path / "i.tflite",
        "POW",
        [Put((40,), "INT32"), Put((40,), "INT32")],
        [Put((40,), "INT32")],
        "PowOptions",
    )
    assert lsb(by_litert(path, whole, exponents), by_onnxruntime(imported(path), whole, exponents)) == 0


@pytest.mark.parametrize("kind", ["FLOAT32", "INT32"])
def test_sums_of_many_tensors(tmp_path: Path, kind: str) -> None:
    rng = np.random.default_rng(1)
    feeds = [rng.integers(-50, 50, (3, 7)).astype(kind.lower()) for _ in range(4)]
    path = one_operator(
        tmp_path / "m.tflite", "ADD_N", [Put((3, 7), kind)] * 4, [Put((3, 7), kind)], "AddNOptions"
    )
    assert relative(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) == 0


def test_angles_in_all_quadrants(tmp_path: Path) -> None:
    values = np.array([-np.inf, -3, -1e-20, -0.0, 0.0, 1e-20, 0.5, 2, np.inf], np.float32)
    y, x = (np.ascontiguousarray(grid.reshape(-1)) for grid in np.meshgrid(values, values))
    path = one_operator(
        tmp_path / "m.tflite", "ATAN2", [Put(y.shape), Put(x.shape)], [Put(y.shape)], "ATan2Options"
    )
    assert relative(by_litert(path, y, x), by_onnxruntime(imported(path), y, x)) < 1e-6


@pytest.mark.parametrize("operator", ["ADD", "SUB", "MUL", "MAXIMUM", "SQUARED_DIFFERENCE"])
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8"])
def test_the_batch_stays_dynamic(tmp_path: Path, operator: str, kind: str) -> None:
    rng = np.random.default_rng(2)
    more = {"signature": (-1, 3, 4, 5)}
    one, scale = (1, 3, 4, 5), 0.05 if kind == "INT8" else None
    path = one_operator(
        tmp_path / "m.tflite",
        operator,
        [Put(one, kind, scale, 0, more=more), Put((1, 1, 1, 5), kind, scale)],
        [Put(one, kind, scale, 0, more=more)],
        OPTIONS[operator],
        version=2,
    )
    model = imported(path)
    for batch in (1, 3):
        a, b = (
            rng.integers(-100, 100, shape).astype(np.float32 if kind == "FLOAT32" else np.int8)
            for shape in ((batch, 3, 4, 5), (1, 1, 1, 5))
        )
        reference, answer = by_litert(path, a, b), by_onnxruntime(model, a, b)
        assert (lsb if kind == "INT8" else relative)(reference, answer) == 0


OTHERS = [(), (1,), (4,), (5, 4), (1, 1, 4), (3, 1, 1, 4), (2, 5, 5, 4)]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", OTHERS)
def test_operands_of_fewer_axes_meet_a_convolution_s_result_channels_first(
    tmp_path: Path, shape: tuple[int, ...], constant: bool
) -> None:
    rng = np.random.default_rng(2)
    batch = 3 if shape[:1] == (3,) and len(shape) == 4 else 2
    other = np.asarray(rng.normal(size=shape), np.float32)
    graph = TfliteGraph()
    x, y, z = (graph.tensor(name, (batch, 5, 5, 4)) for name in "xyz")
    weights = graph.tensor("w", (4, 1, 1, 4), rng.normal(size=(4, 1, 1, 4)).astype(np.float32))
    bias = graph.tensor("b", (4,), np.zeros(4, np.float32))
    second = graph.tensor("o", shape, other if constant else None)
    graph.operator("CONV_2D", [x, weights, bias], [y], "Conv2DOptions", strideH=1, strideW=1)
    graph.operator("SUB", [second, y], [z], "SubOptions")
    feeds = [rng.normal(size=(batch, 5, 5, 4)).astype(np.float32), *([] if constant else [other])]
    path = graph.write(tmp_path / "m.tflite", [x] if constant else [x, second], [z])
    model = imported(path)
    assert relative(by_litert(path, *feeds), by_onnxruntime(model, *feeds)) < 1e-5
    if constant:
        import onnx

        assert [node.op_type for node in onnx.load(model).graph.node].count(
            "Transpose"
        ) == 2  # at the borders


@pytest.mark.parametrize(
    ("operator", "kind", "scale", "reason"),
    [("POW", "INT8", 0.1, "does not compute it on quantized int8"), ("ADD", "COMPLEX64", None, "no complex64 arithmetic"),
     ("DIV", "INT16", 0.1, "16-bit quotients")],
)  # fmt: skip
def test_what_has_no_onnx_form_is_said(
    tmp_path: Path, operator: str, kind: str, scale: float | None, reason: str
) -> None:
    put = Put((4,), kind, scale)
    path = one_operator(
        tmp_path / "m.tflite", operator, [put, put], [Put((4,), kind, scale)], OPTIONS[operator]
    )
    with pytest.raises(UnsupportedOperator, match=reason):
        imported(path)


def test_a_fused_activation_that_litert_leaves_out_is_refused(tmp_path: Path) -> None:
    tanh = 4
    path = one_operator(
        tmp_path / "m.tflite",
        "ADD",
        [Put((4,)), Put((4,))],
        [Put((4,))],
        "AddOptions",
        fusedActivationFunction=tanh,
    )
    x = np.array([-2, -0.5, 0.25, 3], np.float32)
    assert np.array_equal(by_litert(path, x, x)[0], x + x)
    with pytest.raises(UnsupportedOperator, match="leaves its fused TANH out"):
        imported(path)


def test_scales_of_wide_integers_are_not_codes(tmp_path: Path) -> None:
    a, b = np.array([3, -4, 5], np.int32), np.array([2, 2, 2], np.int32)
    puts = [Put((3,), "INT32", 0.5), Put((3,), "INT32", 0.25)]
    path = one_operator(tmp_path / "m.tflite", "MUL", puts, [Put((3,), "INT32", 0.1)], "MulOptions")
    assert lsb(by_litert(path, a, b), by_onnxruntime(imported(path), a, b)) == 0


@pytest.mark.parametrize("exponent", [1, 2, 3, 5, 12])

def test_powers_of_whole_numbers_wrap_as_litert_s_do(exponent: int, tmp_path: Path) -> None:
    x = np.array([3, 70, -77, 100, 1000, 0, -1], np.int32)
    path = one_operator(
        tmp_path / "m.tflite", "POW", [Put(x.shape, "INT32"), Put((), "INT32", value=np.array(exponent, np.int32))],
        [Put(x.shape, "INT32")], "PowOptions",
    )  # fmt: skip
    np.testing.assert_array_equal(by_onnxruntime(imported(path), x)[0], by_litert(path, x)[0])
