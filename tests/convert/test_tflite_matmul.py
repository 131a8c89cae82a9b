"""Matrix products of TFLite: the importer against LiteRT, on one operator at a time."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, TfliteGraph, by_litert, by_onnxruntime, imported, lsb, one_operator, relative
from tflite_products import Drawn, integer_product, nodes, packed

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

SUMS = 1e-5  # of float sums in another order; 1.5e-6 was the worst of 500


@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
@pytest.mark.parametrize(
    ("rank", "keep"), [(1, False), (2, False), (3, False), (3, True), (4, False), (4, True)]
)
def test_products_of_8_bits_are_exact_and_run_on_integers(
    tmp_path: Path, kind: str, rank: int, *, keep: bool
) -> None:
    for seed in range(10):
        made = integer_product(tmp_path / "m.tflite", Drawn(seed, kind), rank=rank, keep=keep)
        result = imported(made.path)
        assert lsb(by_litert(made.path, *made.feeds), by_onnxruntime(result, *made.feeds)) == 0, seed
        assert "QGemm" in nodes(result), seed


OWN = ["computed weights", "computed bias", "zero point of the weights", "quantized dimension of the weights"]


@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize("kind", ["INT8", "UINT8"])
def test_what_xnnpack_leaves_to_tflites_own_kernel_is_exact(tmp_path: Path, case: str, kind: str) -> None:
    draw, given = Drawn(1, kind), np.float32(0.05)
    x, weights, bias, scale = draw.codes(400, 64), draw.codes(16, 64), draw.bias(16), np.float32(0.0123)
    zero_point = 5 if "zero point" in case else 0 if kind == "INT8" else 120
    path = one_operator(
        tmp_path / "m.tflite", "FULLY_CONNECTED",
        [Put(x.shape, kind, given, 3), Put(weights.shape, kind, scale, zero_point, 1 if "dimension" in case else 0, None if case == "computed weights" else weights),
         Put((16,), "INT32", scale * given, value=None if case == "computed bias" else bias)],
        [Put((400, 16), kind, 0.45, 7)], "FullyConnectedOptions", version=5,
    )  # fmt: skip
    feeds = [
        x,
        *([weights] if case == "computed weights" else []),
        *([bias] if case == "computed bias" else []),
    ]
    assert lsb(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) == 0


def test_the_scale_of_a_bias_is_not_read(tmp_path: Path) -> None:
    draw = Drawn(2, "INT8")
    x, weights, bias = draw.codes(40, 64), draw.codes(16, 64), draw.bias(16)
    path = one_operator(
        tmp_path / "m.tflite", "FULLY_CONNECTED",
        [Put(x.shape, "INT8", 0.05, 3), Put(weights.shape, "INT8", 0.01, value=weights), Put((16,), "INT32", 0.0005 * 1.01, value=bias)],
        [Put((40, 16), "INT8", 0.3, -4)], "FullyConnectedOptions", version=4,
    )  # fmt: skip
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("bias", ["int64", "int32", None])
@pytest.mark.parametrize("per_axis", [False, True])
def test_int16_activations_are_exact(tmp_path: Path, bias: str | None, *, per_axis: bool) -> None:
    rng = np.random.default_rng(3)
    x, weights = (
        rng.integers(-32768, 32768, (300, 64)).astype(np.int16),
        rng.integers(-127, 128, (8, 64)).astype(np.int8),
    )
    scale, given = rng.uniform(0.001, 0.02, 8 if per_axis else ()).astype(np.float32), np.float32(1e-3)
    added = (
        None
        if bias is None
        else Put((8,), bias.upper(), scale * given, value=rng.integers(-(10**6), 10**6, 8).astype(bias))
    )
    path = one_operator(
        tmp_path / "m.tflite", "FULLY_CONNECTED", [Put(x.shape, "INT16", given), Put(weights.shape, "INT8", scale, value=weights), added],
        [Put((300, 8), "INT16", 0.01)], "FullyConnectedOptions", version=11, fusedActivationFunction=3, quantizedBiasType=2 if bias == "int32" else 4,
    )  # fmt: skip
    assert lsb(by_litert(path, x), by_onnxruntime(imported(path), x)) == 0


@pytest.mark.parametrize("kind", ["INT8", "INT4"])
@pytest.mark.parametrize("asymmetric", [False, True])
@pytest.mark.parametrize(("opset", "depth"), [(13, 64), (18, 64), (18, 65)])
def test_hybrid_products_round_their_rows_as_litert_does(
    tmp_path: Path, kind: str, opset: int, depth: int, *, asymmetric: bool
) -> None:
    rng = np.random.default_rng(4)
    for trial in range(6):
        x = (rng.normal(size=(2, 5, depth)) * rng.choice([0.01, 1, 100], (2, 5, 1))).astype(np.float32)
        x = {0: np.abs(x), 1: np.zeros_like(x), 2: -np.abs(x)}.get(trial, x)
        weights = rng.integers(
            -7 if kind == "INT4" else -127, 8 if kind == "INT4" else 128, (6, depth)
        ).astype(np.int8)
        scale, keep = rng.uniform(0.001, 0.02, 6 if trial % 2 else ()).astype(np.float32), trial > 2
        path = one_operator(
            tmp_path / "m.tflite", "FULLY_CONNECTED",
            [Put(x.shape), Put(weights.shape, kind, scale, value=packed(weights) if kind == "INT4" else weights), Put((6,), value=rng.normal(size=6).astype(np.float32)) if trial % 3 else None],
            [Put((2, 5, 6) if keep else (10, 6))], "FullyConnectedOptions", version=12, keepNumDims=keep, asymmetricQuantizeInputs=asymmetric, fusedActivationFunction=trial % 2,
        )  # fmt: skip
        assert relative(by_litert(path, x), by_onnxruntime(imported(path, opset=opset), x)) <= SUMS


@pytest.mark.parametrize("signature", [None, (-1, 5, 8), (-1, -1, 8)])
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("computed", [False, True])
def test_float_products_agree(
    tmp_path: Path, signature: tuple[int, ...] | None, *, keep: bool, computed: bool
) -> None:
    rng = np.random.default_rng(5)
    weights = rng.normal(size=(6, 8)).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite", "FULLY_CONNECTED", [Put((1, 5, 8), more={"signature": signature}), Put((6, 8), value=None if computed else weights), Put((6,), value=np.ones(6, np.float32))],
        [Put((1, 5, 6) if keep else (5, 6))], "FullyConnectedOptions", version=5, keepNumDims=keep, fusedActivationFunction=1,
    )  # fmt: skip
    result = imported(path)
    for shape in ((1, 5, 8), (3, 5, 8), (2, 4, 8))[
        : 1 if signature is None else 2 if signature[1] == 5 else 3
    ]:
        feeds = [rng.normal(size=shape).astype(np.float32), *([weights] if computed else [])]
        assert relative(by_litert(path, *feeds), by_onnxruntime(result, *feeds)) <= SUMS


def test_weights_that_two_operators_share_are_stored_once_and_their_biases_kept(tmp_path: Path) -> None:
    """The bias of a product of more than two axes is what tf2onnx drops."""
    rng, graph = np.random.default_rng(6), TfliteGraph()
    weights, bias = (
        rng.integers(-127, 128, (32, 32)).astype(np.int8),
        rng.integers(-9000, 9000, 32).astype(np.int32),
    )
    x = graph.tensor("x", (1, 2, 2, 32), None, "INT8", scale=0.05)
    shared = (
        graph.tensor("w", weights.shape, weights, "INT8", scale=0.01),
        graph.tensor("b", (32,), bias, "INT32", scale=0.0005),
    )
    middle, out = (graph.tensor(name, (4, 32), None, "INT8", scale=0.3) for name in ("m", "y"))
    graph.operator("FULLY_CONNECTED", [x, *shared], [middle], "FullyConnectedOptions")
    graph.operator("FULLY_CONNECTED", [middle, *shared], [out], "FullyConnectedOptions")
    path, feed = (
        graph.write(tmp_path / "m.tflite", [x], [out]),
        rng.integers(-128, 128, (1, 2, 2, 32)).astype(np.int8),
    )
    result = imported(path)
    assert lsb(by_litert(path, feed), by_onnxruntime(result, feed)) == 0
    assert sum(tensor.dims == [32, 32] for tensor in onnx.load(result).graph.initializer) == 1


def test_shuffled_weights_are_refused(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "FULLY_CONNECTED", [Put((1, 16), "UINT8", 0.1), Put((4, 16), "UINT8", 0.1, value=np.zeros((4, 16), np.uint8)), None],
        [Put((1, 4), "INT16", 0.1)], "FullyConnectedOptions", version=2, weightsFormat=1,
    )  # fmt: skip
    with pytest.raises(UnsupportedOperator, match="its weights are stored shuffled"):
        imported(path)


# ---------------------------------------------------------------- BATCH_MATMUL


@pytest.mark.parametrize("adjoint", [(False, False), (True, False), (False, True), (True, True)])
@pytest.mark.parametrize(
    ("lead", "other"), [((), ()), ((2,), (2,)), ((2, 3), (1, 3)), ((1, 2, 3), (1, 2, 1))]
)
@pytest.mark.parametrize("computed", [False, True])
def test_float_batches_agree(
    tmp_path: Path,
    adjoint: tuple[bool, bool],
    lead: tuple[int, ...],
    other: tuple[int, ...],
    *,
    computed: bool,
) -> None:
    rng, (turn_x, turn_y) = np.random.default_rng(7), adjoint
    x = rng.normal(size=(*lead, *((8, 3) if turn_x else (3, 8)))).astype(np.float32)
    y = rng.normal(size=(*other, *((5, 8) if turn_y else (8, 5)))).astype(np.float32)
    path = one_operator(
        tmp_path / "m.tflite", "BATCH_MATMUL", [Put(x.shape), Put(y.shape, value=None if computed else y)], [Put((*lead, 3, 5))], "BatchMatMulOptions", version=2,
        adjX=turn_x, adjY=turn_y,
    )  # fmt: skip
    feeds = [x, y] if computed else [x]
    assert relative(by_litert(path, *feeds), by_onnxruntime(imported(path), *feeds)) <= SUMS


@pytest.mark.parametrize("zero_point", [0, 3])
@pytest.mark.parametrize("computed", [False, True])
@pytest.mark.parametrize("turn", [False, True])
def test_batches_of_8_bits_are_exact(tmp_path: Path, zero_point: int, *, computed: bool, turn: bool) -> None:
    for seed, depth in enumerate((1, 3, 8, 64)):
        draw = Drawn(seed, "INT8")
        x, y = draw.codes(2, 50, depth), draw.codes(2, *((40, depth) if turn else (depth, 40)))
        left, right = (float(np.float32(draw.rng.uniform(0.01, 0.1))) for _ in "xy")
        path = one_operator(
            tmp_path / "m.tflite", "BATCH_MATMUL", [Put(x.shape, "INT8", left, -7), Put(y.shape, "INT8", right, zero_point, 0, None if computed else y)],
            [Put((2, 50, 40), "INT8", left * right * np.sqrt(depth) * 60, 11)], "BatchMatMulOptions", version=2, adjY=turn,
        )  # fmt: skip
        feeds = [x, y] if computed else [x]
        result = imported(path)
        assert lsb(by_litert(path, *feeds), by_onnxruntime(result, *feeds)) == 0
        assert zero_point or "QLinearMatMul" in nodes(result)


def test_batches_of_int16_are_exact(tmp_path: Path) -> None:
    rng = np.random.default_rng(8)
    x, y = (rng.integers(-32768, 32768, shape).astype(np.int16) for shape in ((2, 30, 64), (2, 64, 40)))
    path = one_operator(tmp_path / "m.tflite", "BATCH_MATMUL", [Put(x.shape, "INT16", 1e-3), Put(y.shape, "INT16", 2e-3)], [Put((2, 30, 40), "INT16", 6e-3)],
                        "BatchMatMulOptions", version=3)  # fmt: skip
    assert lsb(by_litert(path, x, y), by_onnxruntime(imported(path), x, y)) == 0


@pytest.mark.parametrize("asymmetric", [False, True])
def test_hybrid_batches_round_their_rows_as_xnnpack_does(tmp_path: Path, *, asymmetric: bool) -> None:
    rng = np.random.default_rng(9)
    for turn in (False, True):
        x, y = (
            rng.normal(size=(2, 3, 16)).astype(np.float32),
            rng.integers(-127, 128, (2, *((5, 16) if turn else (16, 5)))).astype(np.int8),
        )
        path = one_operator(tmp_path / "m.tflite", "BATCH_MATMUL", [Put(x.shape), Put(y.shape, "INT8", 0.01, value=y)], [Put((2, 3, 5))], "BatchMatMulOptions",
                            version=4, adjY=turn, asymmetricQuantizeInputs=asymmetric)  # fmt: skip
        assert relative(by_litert(path, x), by_onnxruntime(imported(path), x)) <= SUMS
