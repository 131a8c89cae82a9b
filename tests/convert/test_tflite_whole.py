"""TFLite's fixed-point multiplication as ONNX nodes: equal to integer arithmetic for sums of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx_ir as ir
import pytest
from tests.convert.tflite_models import Put, by_litert, by_onnxruntime, imported, lsb, one_operator

from mlconv.convert.tflite_import.emit import Emitter
from mlconv.convert.tflite_import.exact.fixed_point import Multiplier
from mlconv.convert.tflite_import.graph import Shared, Target, Writer
from mlconv.convert.tflite_import.ops.whole import Whole, multiplier

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

MANTISSAS = (2**30, 2**30 + 1, 1518500249, 1234567891, 2**31 - 1)


def near_ties(mantissa: int, greatest: int) -> np.ndarray:
    """Sums whose products lie on ties, or next to them by their last bit, where 53 bits do not tell; and random ones."""
    random = np.random.default_rng(mantissa).integers(-greatest, greatest, 2000)
    if mantissa % 2 == 0:
        return random
    inverse = pow(mantissa, -1, 2**31)
    next_to = [(2**30 + step) * inverse % 2**31 for step in range(-40, 41)]
    signed = [number - 2**31 if number >= 2**30 else number for number in next_to]
    found = np.array([number for number in (*next_to, *signed) if abs(number) < greatest], np.int64)
    return np.concatenate([random, found])


def run(write: Any, sums: np.ndarray) -> np.ndarray:
    """What onnxruntime makes of the nodes that ``write`` puts behind ``sums``."""
    import onnxruntime

    writer = Writer(Shared(cast("Any", None), Target(18, cast("Any", None))), "")
    given = ir.Value(name="sums", shape=ir.Shape(sums.shape), type=ir.TensorType(ir.DataType.DOUBLE))
    made = write(Whole(cast("Emitter", writer), given)).value
    graph = ir.Graph(
        [given],
        [made],
        nodes=writer.nodes,
        initializers=list(writer.initializers.values()),
        opset_imports={"": 18},
        name="g",
    )
    session = onnxruntime.InferenceSession(ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString())
    return np.asarray(session.run(None, {"sums": sums.astype(np.float64)})[0])


@pytest.mark.parametrize("exponent", [-31, -20, -7, 0, 3])
@pytest.mark.parametrize("mantissa", MANTISSAS)
@pytest.mark.parametrize("upwards", [False, True])
def test_two_roundings_are_those_of_integers(mantissa: int, exponent: int, *, upwards: bool) -> None:
    sums = near_ties(mantissa, 2 ** (31 - max(exponent, 0)))
    found = run(lambda whole: whole.rescaled([(mantissa, exponent)], 2.0**31, upwards=upwards), sums)
    for value, answer in zip(sums.tolist(), found.tolist(), strict=True):
        high = (value * mantissa * 2 ** max(exponent, 0) + 2**30) >> 31
        right = max(-exponent, 0)
        half = 1 << right >> 1
        expected = (high + half) >> right if upwards or high >= 0 else -((-high + half) >> right)
        assert answer == expected, (value, mantissa, exponent)


@pytest.mark.parametrize("exponent", [-31, -20, -7, 0, 3, 14])
@pytest.mark.parametrize("mantissa", MANTISSAS)
def test_one_rounding_is_that_of_integers(mantissa: int, exponent: int) -> None:
    sums = near_ties(mantissa, 2**31)
    found = run(lambda whole: whole.times(np.array(mantissa), np.array(exponent), 2.0**37), sums)
    shift = 31 - exponent
    expected = [(value * mantissa + (1 << (shift - 1))) >> shift for value in sums.tolist()]
    assert np.array_equal(found, np.array(expected, np.float64))


def test_there_is_one_way_to_quantize_a_multiplier() -> None:
    for real in (0.0, 1e-12, 2.0**-33, 0.3, 1.0, 1 - 2.0**-40, 12345.6, 2.0**40):
        assert multiplier(real) == (Multiplier.of(real).mantissa, Multiplier.of(real).shift)


@pytest.mark.parametrize("ratio", [1e-7, 3.1e-6, 0.0004])
@pytest.mark.parametrize("depth", [130, 2000, 9001])
def test_long_sums_by_computed_weights_are_exact(tmp_path: Path, depth: int, ratio: float) -> None:
    rng = np.random.default_rng(depth)
    x, weights = rng.integers(-128, 128, (40, depth), np.int8), rng.integers(-127, 128, (12, depth), np.int8)
    x[:8], weights[:6] = rng.choice([-128, 127], (8, 1)), rng.choice([-127, 127], (6, 1))
    bias = rng.integers(-(2**20), 2**20, 12, np.int32)
    path = one_operator(
        tmp_path / "m.tflite", "FULLY_CONNECTED",
        [Put(x.shape, "INT8", 0.05, 0), Put(weights.shape, "INT8", 0.02), Put((12,), "INT32", 0.001, value=bias)],
        [Put((40, 12), "INT8", 0.001 / ratio, 0)], "FullyConnectedOptions", version=4,
    )  # fmt: skip
    assert lsb(by_litert(path, x, weights), by_onnxruntime(imported(path), x, weights)) == 0
