"""State of TFLite models through the whole pipeline: judged over runs in a row, and no difference of its own in `compare`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from tests.convert.test_tflite_record import counter
from tests.convert.tflite_models import TfliteGraph, import_job

from mlconv import compare, to_onnx, to_ort
from mlconv.checks.parity_words import parity_verdict
from mlconv.convert import tflite_to_onnx
from mlconv.convert.finish_job import Finish, finish
from mlconv.convert.job import Options
from mlconv.convert.source_job import convert_by
from mlconv.errors import ParityFailed
from mlconv.jsonable import to_json

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]


def parity(path: Path) -> Any:
    return json.loads(path.with_name(f"{path.name}.mlconv.json").read_text())["checks"]["parity"]


def judged(source: Path, lie: Any, **options: Any) -> Any:
    """What the finisher finds of an importer's work in which ``lie`` changed the graph."""
    job = import_job(source, **options)
    told = convert_by(tflite_to_onnx.run, job, reference=True, witness=None)
    model = onnx.load(job.output)
    lie(model, *told.states[0])
    onnx.save(model, job.output)
    folder = source.parent / "finished"
    folder.mkdir()
    asked = Finish(job.output, folder / "m.onnx", job.options, told.inputs, told.outputs, told.referenced, {"converters": {}}, job.source,
                   tuned=told.tuned, states=told.states)  # fmt: skip
    return finish(to_json(asked))["checks"]


def honest(model: onnx.ModelProto, given: str, output: str) -> None: ...


def carries_the_negative(model: onnx.ModelProto, given: str, output: str) -> None:
    for node in model.graph.node:
        for number, name in enumerate(node.output):
            if name == output:
                node.output[number] = "right"
    model.graph.node.append(helper.make_node("Neg", ["right"], [output]))


def carries_the_fresh_value(model: onnx.ModelProto, given: str, output: str) -> None:
    (node,) = [node for node in model.graph.node if output in node.output]
    node.output[list(node.output).index(output)] = "lost"
    model.graph.node.append(helper.make_node("Identity", [given], [output]))


def begins_fresh(model: onnx.ModelProto, given: str, output: str) -> None:
    (fresh,) = [each for each in model.graph.initializer if each.name == given]
    model.graph.initializer.append(numpy_helper.from_array(numpy_helper.to_array(fresh), "constant"))
    for node in model.graph.node:
        for number, name in enumerate(node.input):
            if name == given:
                node.input[number] = "constant"


def forgets_which_they_are(model: onnx.ModelProto, given: str, output: str) -> None:
    del model.metadata_props[:]


def test_runs_in_a_row_are_compared_and_counted(tmp_path: Path) -> None:
    told = judged(counter(tmp_path / "m.tflite"), honest)["parity"]
    assert (told["ok"], told["steps"], told["notes"]) == (True, 3, [])


@pytest.mark.parametrize(
    "lie", [carries_the_negative, carries_the_fresh_value, begins_fresh, forgets_which_they_are]
)
def test_state_that_is_carried_wrongly_is_a_verdict(tmp_path: Path, lie: Any) -> None:
    told = judged(counter(tmp_path / "m.tflite"), lie)["parity"]
    assert not told["ok"]
    verdict = parity_verdict(told)
    assert isinstance(verdict, ParityFailed)
    assert verdict.exit == 1
    assert verdict.what.startswith(
        "state is carried on wrongly from run to run: `total` is right from fresh state, and not in run "
    )


def test_one_sample_is_enough_for_runs_in_a_row(tmp_path: Path) -> None:
    source = counter(tmp_path / "m.tflite")
    assert judged(source, honest, samples=1)["parity"]["steps"] == 3


def test_a_model_without_state_has_no_runs_in_a_row(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (2,)), graph.tensor("y", (2,))
    graph.operator("RELU", [x], [y])
    assert to_onnx(graph.write(tmp_path / "m.tflite", [x], [y]), tmp_path / "m.onnx").ok
    assert parity(tmp_path / "m.onnx")["steps"] is None


def test_a_file_with_state_keeps_it_through_the_simplifier(tmp_path: Path) -> None:
    to_onnx(counter(tmp_path / "m.tflite"), tmp_path / "m.onnx")
    again = to_onnx(tmp_path / "m.onnx", tmp_path / "again.onnx")
    assert again.ok
    assert not any("not optimized" in warning for warning in again.warnings)
    assert parity(tmp_path / "again.onnx")["steps"] == 3
    inputs = [value.name for value in onnx.load(tmp_path / "again.onnx").graph.input]
    assert inputs == [value.name for value in onnx.load(tmp_path / "m.onnx").graph.input]


def test_half_precision_reads_the_state_that_it_is_fed(tmp_path: Path) -> None:
    import onnxruntime

    assert to_onnx(counter(tmp_path / "m.tflite"), tmp_path / "m.onnx", precision="fp16").ok
    assert parity(tmp_path / "m.onnx")["steps"] == 3
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", options)
    (state,) = session.get_overridable_initializers()
    feeds = {"x": np.array([10, 20], np.float32), state.name: np.array([100, 200], np.float32)}
    assert session.run(["total"], feeds)[0].tolist() == [110, 220]


def test_an_artifact_s_state_is_no_difference_from_its_source(tmp_path: Path) -> None:
    source = counter(tmp_path / "m.tflite")
    to_onnx(source, tmp_path / "a.onnx")
    to_ort(source, tmp_path / "a.ort")
    for reference, candidate in [("m.tflite", "a.onnx"), ("m.tflite", "a.ort"), ("a.onnx", "m.tflite")]:
        told = compare(tmp_path / reference, tmp_path / candidate)
        assert told.ok, (reference, candidate, told.failure)
        assert [row["name"] for row in told.parity["outputs"]] == ["total"]
        (note,) = [note for note in told.parity["notes"] if "run to run" in note]
        assert note.startswith("not compared, since they carry variables from run to run")


def test_the_state_of_two_files_that_both_tell_it_is_compared(tmp_path: Path) -> None:
    to_onnx(counter(tmp_path / "m.tflite"), tmp_path / "a.onnx")
    to_onnx(tmp_path / "a.onnx", tmp_path / "b.onnx")
    told = compare(tmp_path / "a.onnx", tmp_path / "b.onnx")
    assert told.ok
    assert len(told.parity["outputs"]) == 2
    assert not any("run to run" in note for note in told.parity["notes"])


def test_another_output_too_many_is_a_difference_still(tmp_path: Path) -> None:
    to_onnx(counter(tmp_path / "m.tflite"), tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "b.onnx")
    assert not compare(tmp_path / "m.tflite", tmp_path / "b.onnx").ok


def test_litert_runs_on_from_where_the_last_run_ended(tmp_path: Path) -> None:
    from mlconv.formats import ModelFile
    from mlconv.runners.litert import open_runner

    runner = open_runner(ModelFile("m", counter(tmp_path / "m.tflite"), "tflite"), Options())
    feeds = {"x": np.array([10, 20], np.float32)}
    answers = [run(feeds)["total"].tolist() for run in (runner.run, runner.run_on, runner.run_on, runner.run)]
    assert answers == [[11, 22], [21, 42], [31, 62], [11, 22]]
