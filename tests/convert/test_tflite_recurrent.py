"""Recurrent operators of TFLite without gates, SVDF, and the first LSTM kernel: the importer against LiteRT, over several runs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import imported, lsb
from tflite_recurrent_models import Recurrent, assert_steps, feeds_of, run_onnx_steps, run_steps

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

TANH = 4


@pytest.mark.parametrize("is_state", [False, True])
def test_the_basic_lstm_answers_as_litert_does(tmp_path: Path, is_state: bool) -> None:
    file, cells, features = Recurrent(), 6, 4
    make = file.state if is_state else file.input
    x, hidden, memory = file.input(2, features), make(2, cells), make(2, cells)
    weights, bias = file.weights(4 * cells, cells + features), file.vector(4 * cells)
    results = [
        file.input(2, cells),
        file.input(2, cells),
        file.input(2, cells + features),
        file.input(2, 4 * cells),
    ]
    file.graph.operator(
        "LSTM",
        [x, hidden, weights, bias, memory],
        results,
        "LSTMOptions",
        version=2,
        kernelType=1,
        fusedActivationFunction=TANH,
    )
    given = [x] if is_state else [x, hidden, memory]
    path = file.graph.write(tmp_path / "m.tflite", given, results[:2])
    feeds = [
        [
            np.random.default_rng(seed).normal(0, 1, (2, size)).astype(np.float32)
            for size in (features, cells, cells)[: len(given)]
        ]
        for seed in range(4)
    ]
    assert_steps(path, feeds)


@pytest.mark.parametrize(("hybrid", "asymmetric"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("activation", [0, 1, 3, TANH])
@pytest.mark.parametrize("time_major", [None, False, True])
def test_a_recurrent_cell_without_gates_answers_as_litert_does(
    tmp_path: Path, time_major: bool | None, activation: int, hybrid: bool, asymmetric: bool
) -> None:
    file, batch, time, units = Recurrent(hybrid=hybrid), 2, 4, 6
    sizes = (batch,) if time_major is None else (time, batch) if time_major else (batch, time)
    x, y, state = file.input(*sizes, 5), file.input(*sizes, units), file.state(batch, units)
    operands = [
        x,
        file.weights(units, 5, spread=0.2),
        file.weights(units, units, spread=0.2),
        file.vector(units),
        state,
    ]
    kind, options = (
        ("RNN", "RNNOptions") if time_major is None else ("UNIDIRECTIONAL_SEQUENCE_RNN", "SequenceRNNOptions")
    )
    order = {} if time_major is None else {"timeMajor": time_major}
    file.graph.operator(
        kind,
        operands,
        [y],
        options,
        version=3,
        fusedActivationFunction=activation,
        asymmetricQuantizeInputs=asymmetric,
        **order,
    )
    assert_steps(file.graph.write(tmp_path / "m.tflite", [x], [y]), feeds_of((*sizes, 5)))


@pytest.mark.parametrize("auxiliary", ["none", "backwards", "linked"])
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize(("time_major", "hybrid"), [(False, False), (True, False), (False, True)])
def test_a_bidirectional_rnn_answers_as_litert_does(
    tmp_path: Path, time_major: bool, hybrid: bool, merge: bool, auxiliary: str
) -> None:
    path, feeds = bidirectional_rnn(
        tmp_path / "m.tflite", time_major=time_major, merge=merge, auxiliary=auxiliary, hybrid=hybrid
    )
    assert_steps(path, feeds)


def test_a_hybrid_bidirectional_rnn_in_time_major_order_is_refused(tmp_path: Path) -> None:
    path, _ = bidirectional_rnn(
        tmp_path / "m.tflite", time_major=True, merge=False, auxiliary="none", hybrid=True
    )
    with pytest.raises(UnsupportedOperator, match="once for each step"):
        imported(path)


def bidirectional_rnn(
    path: Path, *, time_major: bool, merge: bool, auxiliary: str, hybrid: bool
) -> tuple[Path, list[list[np.ndarray]]]:
    file, batch, time, units = Recurrent(hybrid=hybrid), 2, 4, 6
    sizes = (time, batch) if time_major else (batch, time)
    x = file.input(*sizes, 5)
    more = [file.input(*sizes, 5)] if auxiliary != "none" else []
    operands = [x]
    for _ in range(2):
        operands += [
            file.weights(units, 5),
            file.weights(units, units),
            file.vector(units),
            file.state(batch, units),
        ]
    operands += more or [-1]
    operands += [file.weights(units, 5), file.weights(units, 5)] if auxiliary == "linked" else [-1, -1]
    outputs = [file.input(*sizes, 2 * units if merge else units) for _ in range(1 if merge else 2)]
    file.graph.operator("BIDIRECTIONAL_SEQUENCE_RNN", operands, outputs, "BidirectionalSequenceRNNOptions", version=3, timeMajor=time_major,
                        mergeOutputs=merge, fusedActivationFunction=TANH)  # fmt: skip
    return file.graph.write(path, [x, *more], outputs), feeds_of((*sizes, 5), inputs=1 + len(more))


@pytest.mark.parametrize(("hybrid", "asymmetric"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("rank", "activation", "has_bias"), [(1, 0, True), (2, 1, True), (2, 0, False)])
def test_an_svdf_answers_as_litert_does(
    tmp_path: Path, rank: int, activation: int, has_bias: bool, hybrid: bool, asymmetric: bool
) -> None:
    file, batch, units, memory = Recurrent(hybrid=hybrid), 2, 4, 5
    x, y = file.input(batch, 6), file.input(batch, units)
    operands = [x, file.weights(units * rank, 6), file.weights(units * rank, memory), file.vector(units) if has_bias else -1,
                file.state(batch, units * rank * memory)]  # fmt: skip
    file.graph.operator("SVDF", operands, [y], "SVDFOptions", version=4, rank=rank, fusedActivationFunction=activation,
                        asymmetricQuantizeInputs=asymmetric)  # fmt: skip
    assert_steps(file.graph.write(tmp_path / "m.tflite", [x], [y]), feeds_of((batch, 6), count=7))


@pytest.mark.parametrize("rank", [1, 2])
def test_an_integer_svdf_is_exact(tmp_path: Path, rank: int) -> None:
    for seed in range(8):
        file, batch, units, memory = Recurrent(seed), 2, 8, 6
        scale, zero_point = float(file.rng.uniform(0.002, 0.05)), int(file.rng.integers(-128, 128))
        x = file.input(batch, 9, kind="INT8", scale=scale, zero_point=zero_point)
        y = file.input(
            batch,
            units,
            kind="INT8",
            scale=float(file.rng.uniform(0.01, 0.2)),
            zero_point=-128 if seed % 2 else 3,
        )
        operands = [x, file.codes((units * rank, 9), "INT8", 0.007, -127, 128), file.codes((units * rank, memory), "INT16", 2.0e-4, -9000, 9000),
                    file.codes((units,), "INT32", 2.0e-7, -200000, 200000), file.state(batch, units * rank * memory, kind="INT16", scale=0.002)]  # fmt: skip
        file.graph.operator(
            "SVDF", operands, [y], "SVDFOptions", version=3, rank=rank, fusedActivationFunction=1
        )
        path = file.graph.write(tmp_path / f"m{seed}.tflite", [x], [y])
        feeds = [
            [np.random.default_rng(step).integers(-128, 128, (batch, 9)).astype(np.int8)] for step in range(9)
        ]
        ours = run_onnx_steps(imported(path), feeds)
        assert max(lsb(mine, theirs) for mine, theirs in zip(ours, run_steps(path, feeds), strict=True)) == 0
