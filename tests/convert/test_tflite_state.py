"""State of TFLite models: variables become optional inputs and outputs, and carry on as LiteRT's do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_onnxruntime, import_job, imported, lsb, relative
from tflite_recurrent_models import Recurrent, lstm_operands, run_onnx_steps, run_steps

from mlconv.convert.tflite_to_onnx import run
from mlconv.errors import UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

FLOAT = 1e-5
TANH = 4


def handle(file: TfliteGraph, name: str = "counter") -> int:
    made = file.tensor(f"handle_{name}", (), kind="RESOURCE")
    file.operator("VAR_HANDLE", [], [made], "VarHandleOptions", container="", sharedName=name)
    return made


def begin(file: TfliteGraph, values: dict[str, np.ndarray], subgraph: int) -> None:
    """CALL_ONCE in the subgraph in hand, and what it calls; ``subgraph`` is the number that the latter gets."""
    file.operator("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=subgraph)
    graph = file.graph
    assert file.subgraph() == subgraph
    for name, value in values.items():
        variable = handle(file, name)
        file.operator(
            "ASSIGN_VARIABLE",
            [variable, file.tensor(f"fresh_{name}", value.shape, value)],
            [],
            "AssignVariableOptions",
        )
    file.graph = graph


def counter(path: Path, *, reads_after: bool = False) -> Path:
    """``total += x; y = total``, by a resource variable that starts at (10, 20)."""
    file = TfliteGraph()
    begin(file, {"total": np.array([10, 20], np.float32)}, 1)
    x, before, y = file.tensor("x", (2,)), file.tensor("before", (2,)), file.tensor("y", (2,))
    variable = handle(file, "total")
    file.operator("READ_VARIABLE", [variable], [before], "ReadVariableOptions")
    file.operator("ADD", [before, x], [y], "AddOptions")
    file.operator("ASSIGN_VARIABLE", [variable, y], [], "AssignVariableOptions")
    out = y
    if reads_after:
        out = file.tensor("after", (2,))
        file.operator("READ_VARIABLE", [variable], [out], "ReadVariableOptions")
    return file.write(path, [x], [out])


FEEDS = [[np.array(pair, np.float32)] for pair in ([1, 2], [-5, 0.5], [100, 7])]


@pytest.mark.parametrize("reads_after", [False, True])
def test_a_resource_variable_carries_on_from_run_to_run(tmp_path: Path, reads_after: bool) -> None:
    path = counter(tmp_path / "m.tflite", reads_after=reads_after)
    for mine, theirs in zip(run_onnx_steps(imported(path), FEEDS), run_steps(path, FEEDS), strict=True):
        assert relative(mine, theirs) <= FLOAT


def test_a_plain_run_is_one_from_fresh_state(tmp_path: Path) -> None:
    made = imported(counter(tmp_path / "m.tflite"))
    for _ in range(2):
        assert by_onnxruntime(made, FEEDS[0][0])[0].tolist() == [11, 22]


def test_a_state_is_an_optional_input_with_the_fresh_value_and_an_output_behind_the_models_own(
    tmp_path: Path,
) -> None:
    import onnx

    model = onnx.load(imported(counter(tmp_path / "m.tflite")))
    assert model.ir_version == 8
    assert [value.name for value in model.graph.input] == ["x", "total"]
    assert [value.name for value in model.graph.output] == ["y", "total_out"]
    fresh = {value.name: onnx.numpy_helper.to_array(value).tolist() for value in model.graph.initializer}
    assert fresh["total"] == [10, 20]


def test_the_record_tells_which_states_there_are(tmp_path: Path) -> None:
    warnings = run(import_job(counter(tmp_path / "m.tflite"))).warnings
    assert [text for text in warnings if "state" in text] == [
        "the model keeps state from run to run: `total` became optional inputs, fresh where they are left out, and `total_out` the outputs to feed them with"
    ]


def test_a_variable_that_nothing_changes_stays_a_constant(tmp_path: Path) -> None:
    file = TfliteGraph()
    begin(file, {"factor": np.array([3, 4], np.float32)}, 1)
    x, factor, y = file.tensor("x", (2,)), file.tensor("factor", (2,)), file.tensor("y", (2,))
    file.operator("READ_VARIABLE", [handle(file, "factor")], [factor], "ReadVariableOptions")
    file.operator("MUL", [factor, x], [y], "MulOptions")
    job = import_job(file.write(tmp_path / "m.tflite", [x], [y]))
    assert run(job).warnings == []
    assert by_onnxruntime(job.output, np.array([1, 2], np.float32))[0].tolist() == [3, 8]


def test_a_variable_without_a_first_value_is_refused(tmp_path: Path) -> None:
    file = TfliteGraph()
    x, total, y = file.tensor("x", (2,)), file.tensor("total", (2,)), file.tensor("y", (2,))
    file.operator("READ_VARIABLE", [handle(file)], [total], "ReadVariableOptions")
    file.operator("ADD", [total, x], [y], "AddOptions")
    with pytest.raises(UnsupportedOperator, match="nothing gives the variable its first value"):
        imported(file.write(tmp_path / "m.tflite", [x], [y]))


def assigned_inside(path: Path, kind: str, *, is_read: bool = True) -> Path:
    """A branch, or a loop of three rounds, that doubles the variable; then ``y = x + variable``."""
    file = TfliteGraph()
    begin(file, {"total": np.array([1, 2], np.float32)}, 1)
    asked = file.tensor("asked", (), kind="BOOL" if kind == "IF" else "INT32")
    told = file.tensor("told", (), kind="BOOL" if kind == "IF" else "INT32")
    x, total, y = file.tensor("x", (2,)), file.tensor("total", (2,)), file.tensor("y", (2,))
    variable = handle(file, "total")
    if kind == "IF":
        file.operator(
            "IF", [asked, variable, asked], [told], "IfOptions", thenSubgraphIndex=2, elseSubgraphIndex=3
        )
    else:
        after = file.tensor("after", (), kind="RESOURCE")
        file.operator(
            "WHILE",
            [asked, variable],
            [told, after],
            "WhileOptions",
            condSubgraphIndex=2,
            bodySubgraphIndex=3,
        )
    file.operator("READ_VARIABLE", [variable], [total], "ReadVariableOptions")
    file.operator("ADD", [total, x], [y], "AddOptions")
    file.ends([asked, x], [y, told] if is_read else [y])

    def doubled(variable: int) -> None:
        before, after = file.tensor("before", (2,)), file.tensor("after", (2,))
        file.operator("READ_VARIABLE", [variable], [before], "ReadVariableOptions")
        file.operator("ADD", [before, before], [after], "AddOptions")
        file.operator("ASSIGN_VARIABLE", [variable, after], [], "AssignVariableOptions")

    file.subgraph()
    if kind == "IF":
        variable, given, made = (
            file.tensor("variable", (), kind="RESOURCE"),
            file.tensor("given", (), kind="BOOL"),
            file.tensor("made", (), kind="BOOL"),
        )
        doubled(variable)
        file.operator("LOGICAL_NOT", [given], [made])
        file.ends([variable, given], [made])
        file.subgraph()
        variable, given, made = (
            file.tensor("variable", (), kind="RESOURCE"),
            file.tensor("given", (), kind="BOOL"),
            file.tensor("made", (), kind="BOOL"),
        )
        file.operator("LOGICAL_NOT", [given], [made])
        file.ends([variable, given], [made])
        return file.write(path)
    given, variable, goes_on = (
        file.tensor("given", (), kind="INT32"),
        file.tensor("variable", (), kind="RESOURCE"),
        file.tensor("goes_on", (), kind="BOOL"),
    )
    limit = file.tensor("limit", (), np.int32(3), "INT32")
    file.operator("LESS", [given, limit], [goes_on])
    file.ends([given, variable], [goes_on])
    file.subgraph()
    given, variable, made = (
        file.tensor("given", (), kind="INT32"),
        file.tensor("variable", (), kind="RESOURCE"),
        file.tensor("made", (), kind="INT32"),
    )
    doubled(variable)
    file.operator("ADD", [given, file.tensor("one", (), np.int32(1), "INT32")], [made], "AddOptions")
    file.ends([given, variable], [made, variable])
    return file.write(path)


@pytest.mark.parametrize("is_read", [True, False])
@pytest.mark.parametrize(("kind", "asked"), [("IF", (True, False, True)), ("WHILE", (0, 5, 2))])
def test_a_variable_assigned_inside_of_control_flow_carries_on(
    tmp_path: Path, kind: str, asked: tuple[Any, ...], is_read: bool
) -> None:
    """Even where nothing that the branch or the loop gives is read."""
    path = assigned_inside(tmp_path / "m.tflite", kind, is_read=is_read)
    dtype = bool if kind == "IF" else np.int32
    feeds = [[np.array(each, dtype), pair[0]] for each, pair in zip(asked, FEEDS, strict=True)]
    for mine, other in zip(run_onnx_steps(imported(path), feeds), run_steps(path, feeds), strict=True):
        assert relative(mine[:1], other[:1]) <= FLOAT
        assert all(np.array_equal(a, b) for a, b in zip(mine[1:], other[1:], strict=True))


def dynamic_lstm(path: Path) -> Path:
    file, batch = Recurrent(), 1
    x, y = file.input(batch, 4, 5, signature=[-1, 4, 5]), file.input(batch, 4, 6, signature=[-1, 4, 6])
    operands = lstm_operands(file, 5, 6, 6)
    states = [file.state(batch, 6), file.state(batch, 6)]
    file.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *operands, *states, -1, -1, -1, -1], [y], "UnidirectionalSequenceLSTMOptions",
                        fusedActivationFunction=TANH)  # fmt: skip
    return file.graph.write(path, [x], [y])


def test_an_lstm_of_a_dynamic_batch_starts_each_sequence_fresh_and_carries_on(tmp_path: Path) -> None:
    """LiteRT refuses another batch than the file's, so each sequence is held against a run of its own."""
    path = dynamic_lstm(tmp_path / "m.tflite")
    made = imported(path, "batch,4,5")
    rng = np.random.default_rng(0)
    x = [rng.normal(0, 1, (3, 4, 5)).astype(np.float32) for _ in range(3)]
    ours = run_onnx_steps(made, [[step] for step in x])
    for row in range(3):
        theirs = run_steps(path, [[step[row : row + 1]] for step in x])
        for mine, other in zip(ours, theirs, strict=True):
            assert relative([mine[0][row : row + 1]], other) <= FLOAT


def test_an_lstm_of_another_fixed_batch_has_states_of_it(tmp_path: Path) -> None:
    path = dynamic_lstm(tmp_path / "m.tflite")
    made = imported(path, "2,4,5")
    x = np.random.default_rng(0).normal(0, 1, (2, 4, 5)).astype(np.float32)
    ours = run_onnx_steps(made, [[x], [x]])
    for row in range(2):
        theirs = run_steps(path, [[x[row : row + 1]]] * 2)
        assert relative([ours[1][0][row : row + 1]], theirs[1]) <= FLOAT


def test_a_fresh_integer_state_is_its_zero_point_in_int8_and_zero_in_int16(tmp_path: Path) -> None:
    """LiteRT fills int8 with the zero point, and every other type with zeros, whatever its zero point."""
    import onnx

    file = Recurrent(1)
    y = {"kind": "INT8", "scale": 0.01, "zero_point": 17}
    x, made = file.input(1, 3, 4, kind="INT8", scale=0.02, zero_point=5), file.input(1, 3, 4, **y)
    weights = [file.codes((4, 4), "INT8", 0.01, -127, 128) for _ in range(8)]
    bias = [file.codes((4,), "INT32", 2e-4, -300, 300) for _ in range(4)]
    states = [file.state(1, 4, **y), file.state(1, 4, kind="INT16", scale=2.0**-11)]
    inner = [file.input(0) for _ in range(4)] + [file.input(0, **y)]
    file.graph.operator("UNIDIRECTIONAL_SEQUENCE_LSTM", [x, *weights, -1, -1, -1, *bias, -1, -1, *states, -1, -1, -1, -1], [made],
                        "UnidirectionalSequenceLSTMOptions", intermediates=inner, fusedActivationFunction=TANH)  # fmt: skip
    path = file.graph.write(tmp_path / "m.tflite", [x], [made])
    onnx_path = imported(path)
    fresh = {
        value.name: onnx.numpy_helper.to_array(value) for value in onnx.load(onnx_path).graph.initializer
    }
    states_given = {
        value.name: fresh[value.name] for value in onnx.load(onnx_path).graph.input if value.name in fresh
    }
    assert [(array.dtype.name, np.unique(array).tolist()) for array in states_given.values()] == [
        ("int8", [17]),
        ("int16", [0]),
    ]
    feeds = [
        [np.random.default_rng(step).integers(-128, 128, (1, 3, 4)).astype(np.int8)] for step in range(4)
    ]
    assert (
        max(
            lsb(mine, theirs)
            for mine, theirs in zip(run_onnx_steps(onnx_path, feeds), run_steps(path, feeds), strict=True)
        )
        == 0
    )
