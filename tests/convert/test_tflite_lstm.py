"""LSTM operators of TFLite in float arithmetic: the importer against LiteRT, over several runs, with the state kept."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import by_litert, by_onnxruntime, imported, relative
from tflite_recurrent_models import FLOAT, Recurrent, assert_steps, feeds_of, lstm_operands

from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

TANH = 4


def sequence_lstm(
    path: Path, *, batch: int = 2, time: int = 5, features: int = 6, cells: int = 8, outputs: int = 8, time_major: bool = False,
    norm: bool = False, hybrid: bool = False, seed: int = 0, options: dict[str, Any] | None = None, **parts: bool,
) -> tuple[Path, list[list[np.ndarray]]]:  # fmt: skip
    file = Recurrent(seed, hybrid=hybrid)
    sizes = (time, batch) if time_major else (batch, time)
    x, y = file.input(*sizes, features), file.input(*sizes, outputs)
    operands = lstm_operands(file, features, cells, outputs, **parts)
    states = [file.state(batch, outputs), file.state(batch, cells)]
    norms = (
        [-1 if parts.get("cifg") and gate == 0 else file.vector(cells) for gate in range(4)]
        if norm
        else [-1] * 4
    )
    file.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *states, *norms], [y], "UnidirectionalSequenceLSTMOptions",
                        version=3, timeMajor=time_major, **({"fusedActivationFunction": TANH} | (options or {})))  # fmt: skip
    return file.graph.write(path, [x], [y]), feeds_of((*sizes, features))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(("cifg", "peephole", "projection"), list(itertools.product([False, True], repeat=3)))
def test_a_sequence_lstm_answers_as_litert_does(
    tmp_path: Path, cifg: bool, peephole: bool, projection: bool, hybrid: bool
) -> None:
    outputs = 5 if projection else 8
    path, feeds = sequence_lstm(
        tmp_path / "m.tflite",
        outputs=outputs,
        cifg=cifg,
        peephole=peephole,
        projection=projection,
        hybrid=hybrid,
    )
    assert_steps(path, feeds)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize(
    "options",
    [{"cellClip": 0.3}, {"projClip": 0.1}, {"fusedActivationFunction": 1}, {"fusedActivationFunction": 3}],
)
def test_a_sequence_lstm_keeps_its_limits_and_its_activation(
    tmp_path: Path, options: dict[str, Any], opset: int
) -> None:
    projection = "projClip" in options
    path, feeds = sequence_lstm(
        tmp_path / "m.tflite", outputs=5 if projection else 8, projection=projection, options=options
    )
    assert_steps(path, feeds, opset=opset)


@pytest.mark.parametrize(("batch", "hybrid"), [(1, False), (3, False), (3, True)])
@pytest.mark.parametrize(("time_major", "norm", "cifg"), list(itertools.product([False, True], repeat=3)))
def test_a_sequence_lstm_runs_in_either_order_and_with_layer_normalization(
    tmp_path: Path, time_major: bool, norm: bool, cifg: bool, batch: int, hybrid: bool
) -> None:
    path, feeds = sequence_lstm(
        tmp_path / "m.tflite", batch=batch, time_major=time_major, norm=norm, cifg=cifg, hybrid=hybrid
    )
    assert_steps(path, feeds)


def test_weights_of_half_precision_stay_so(tmp_path: Path) -> None:
    """As converters write them: float16 constants, each behind a DEQUANTIZE."""
    import onnx

    file = Recurrent()
    x, y = file.input(2, 5, 6), file.input(2, 5, 8)
    operands = [file.halved(index) for index in lstm_operands(file, 6, 8, 8, peephole=True)]
    states = [file.state(2, 8), file.state(2, 8)]
    file.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *states, -1, -1, -1, -1], [y], "UnidirectionalSequenceLSTMOptions",
                        fusedActivationFunction=TANH)  # fmt: skip
    path = file.graph.write(tmp_path / "m.tflite", [x], [y])
    assert_steps(path, feeds_of((2, 5, 6)))
    kinds = {
        onnx.TensorProto.DataType.Name(value.data_type)
        for value in onnx.load(imported(path)).graph.initializer
        if len(value.dims) == 3
    }
    assert kinds == {"FLOAT16"}


def test_an_lstm_without_activation_is_refused(tmp_path: Path) -> None:
    path, _ = sequence_lstm(tmp_path / "m.tflite", options={"fusedActivationFunction": 0})
    with pytest.raises(UnsupportedOperator, match="without an activation"):
        imported(path)


@pytest.mark.parametrize("asymmetric", [False, True])
def test_a_hybrid_lstm_quantizes_its_operands_as_litert_does(tmp_path: Path, asymmetric: bool) -> None:
    for seed in range(4):
        path, feeds = sequence_lstm(tmp_path / "m.tflite", hybrid=True, cells=32, outputs=32, features=24, seed=seed,
                                    options={"asymmetricQuantizeInputs": asymmetric})  # fmt: skip
        assert_steps(path, [[np.zeros_like(feeds[0][0])], *feeds])


def lstm_pair(
    file: Recurrent, features: int, cells: int, auxiliary: int, linked: bool, **parts: bool
) -> tuple[list[int], list[int]]:
    both = lstm_operands(file, features, cells, cells, **parts) + lstm_operands(
        file, features if linked or not auxiliary else auxiliary, cells, cells, **parts
    )
    cross = (
        [-1 if parts.get("cifg") and gate % 4 == 0 else file.weights(cells, auxiliary) for gate in range(8)]
        if linked
        else [-1] * 8
    )
    return both, cross


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize("auxiliary", ["none", "backwards", "linked"])
@pytest.mark.parametrize(
    ("time_major", "merge", "cifg"),
    [(False, True, False), (True, False, False), (True, True, True), (False, False, True)],
)
def test_a_bidirectional_lstm_answers_as_litert_does(
    tmp_path: Path, time_major: bool, merge: bool, cifg: bool, auxiliary: str, hybrid: bool
) -> None:
    # Merged and batch-major, LiteRT reads and writes the state behind its end from the second sequence on.
    file, batch, time, features, cells = (
        Recurrent(hybrid=hybrid),
        1 if merge and not time_major else 2,
        4,
        5,
        6,
    )
    sizes = (time, batch) if time_major else (batch, time)
    x = file.input(*sizes, features)
    more = [file.input(*sizes, features)] if auxiliary != "none" else []
    operands, cross = lstm_pair(
        file, features, cells, features if more else 0, auxiliary == "linked", cifg=cifg
    )
    states = [file.state(batch, cells) for _ in range(4)]
    outputs = [file.input(*sizes, 2 * cells if merge else cells) for _ in range(1 if merge else 2)]
    file.graph.operator("BIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *states, *(more or [-1]), *cross], outputs, "BidirectionalSequenceLSTMOptions",
                        version=3, timeMajor=time_major, mergeOutputs=merge, fusedActivationFunction=TANH)  # fmt: skip
    path = file.graph.write(tmp_path / "m.tflite", [x, *more], outputs)
    assert_steps(path, feeds_of((*sizes, features), inputs=1 + len(more)))


@pytest.mark.parametrize("hybrid", [False, True])
@pytest.mark.parametrize(("cifg", "projection"), list(itertools.product([False, True], repeat=2)))
def test_a_single_step_of_the_full_lstm_answers_as_litert_does(
    tmp_path: Path, cifg: bool, projection: bool, hybrid: bool
) -> None:
    file, cells, outputs = Recurrent(hybrid=hybrid), 7, 4 if projection else 7
    x, y = file.input(2, 5), file.input(2, outputs)
    operands = lstm_operands(file, 5, cells, outputs, cifg=cifg, projection=projection)
    states = [file.state(2, outputs), file.state(2, cells)]
    file.graph.operator(
        "LSTM", [x, *operands, *states], [y], "LSTMOptions", version=4, fusedActivationFunction=TANH
    )
    assert_steps(file.graph.write(tmp_path / "m.tflite", [x], [y]), feeds_of((2, 5), count=4))


def test_recurrent_weights_of_one_axis_are_a_diagonal(tmp_path: Path) -> None:
    file = Recurrent()
    x, y = file.input(2, 5, 6), file.input(2, 5, 8)
    operands = lstm_operands(file, 6, 8, 8)
    operands[4:8] = [file.vector(8) for _ in range(4)]
    states = [file.state(2, 8), file.state(2, 8)]
    file.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *states, -1, -1, -1, -1], [y], "UnidirectionalSequenceLSTMOptions",
                        version=4, fusedActivationFunction=TANH)  # fmt: skip
    assert_steps(file.graph.write(tmp_path / "m.tflite", [x], [y]), feeds_of((2, 5, 6)))


@pytest.mark.parametrize("hybrid", [False, True])
def test_a_sequence_of_dynamic_length_answers_as_litert_does(tmp_path: Path, hybrid: bool) -> None:
    file = Recurrent(hybrid=hybrid)
    x, y = file.input(1, 1, 6, signature=[1, -1, 6]), file.input(1, 1, 8, signature=[1, -1, 8])
    operands = lstm_operands(file, 6, 8, 8)
    states = [file.state(1, 8), file.state(1, 8)]
    file.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *states, -1, -1, -1, -1], [y], "UnidirectionalSequenceLSTMOptions",
                        version=3, fusedActivationFunction=TANH)  # fmt: skip
    path = file.graph.write(tmp_path / "m.tflite", [x], [y])
    made = imported(path)
    for length in (1, 3, 8):
        sequence = feeds_of((1, length, 6), count=1)[0][0]
        assert relative(by_onnxruntime(made, sequence)[:1], by_litert(path, sequence)) <= FLOAT
