"""What `mlconv check` says to type next, where a model is not sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv.cli.checks import check_failure
from mlconv.result import Checked, CheckLine

RunCli = Callable[..., Any]  # conftest.run_cli


def fix(format_: str, *lines: CheckLine) -> str:
    return check_failure(Checked("my net", format_, lines, (), 0.0)).fix


LOADS = CheckLine("load", True, "onnxruntime-cpu")


def test_the_cure_of_a_known_failure_is_told() -> None:
    known = CheckLine("load", False, "no kernel", "let the model compute in float32")
    assert fix("onnx", known, CheckLine("run", None, "")) == "let the model compute in float32"


def test_an_onnx_file_that_does_not_fit_a_runtime_is_written_anew() -> None:
    unfit = CheckLine("onnxruntime 1.12: versions", False, "opset 21")
    assert fix("onnx", unfit, LOADS) == (
        "mlconv onnx 'my net' --runtime onnxruntime==1.12 writes one that fits where it can"
    )


@pytest.mark.parametrize(("release", "command"), [("1.12", "onnx"), ("1.16", "ort")])
def test_an_ort_file_that_does_not_fit_a_runtime_is_made_again_of_its_source(
    release: str, command: str
) -> None:
    """1.12 loads version 4 of the format, and what is written today is version 6, which 1.16 loads."""
    unfit = CheckLine(f"onnxruntime {release}: operators", False, "it lacks Gelu")
    assert fix("ort", unfit, LOADS) == (
        f"mlconv {command} SOURCE --runtime onnxruntime=={release}, with the model that this file was made from"
    )


def test_an_onnx_file_that_loads_all_the_same_is_repaired() -> None:
    assert fix("onnx", CheckLine("checker", False, "no"), LOADS).startswith("mlconv onnx 'my net' writes")


def test_what_nothing_is_known_of_is_left_to_the_lines_above() -> None:
    assert fix("tflite", CheckLine("run", False, "no")) == "mend in the source what is said above"


def write(
    path: Path, nodes: list[Any], shape: list[int], *tables: Any, element: int = TensorProto.FLOAT
) -> None:
    puts = [helper.make_tensor_value_info("x", element, shape)]
    outs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", puts, outs, list(tables))
    opset = helper.make_opsetid("", 18)
    path.write_bytes(helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())


@pytest.mark.framework("onnxruntime")
def test_a_graph_that_the_runtime_refuses_gets_the_hint_of_its_message(
    tmp_path: Path, run_cli: RunCli
) -> None:
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], axes=[1])]
    write(tmp_path / "net.onnx", nodes, [1, 2])
    ran = run_cli("check", "net.onnx", cwd=tmp_path)
    assert ran.code == 1
    assert "hint: save it with the opset that its operators are of" in ran.err
    document = run_cli("--json", "check", "net.onnx", cwd=tmp_path).document
    (load,) = [line for line in document["checks"] if line["name"] == "load"]
    assert load["hint"].startswith("save it with the opset")


@pytest.mark.framework("onnxruntime")
def test_a_run_that_fails_gets_the_hint_of_its_message(tmp_path: Path, run_cli: RunCli) -> None:
    import numpy as np

    table = numpy_helper.from_array(np.zeros((4, 2), np.float32), "table")
    nodes = [
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Gather", ["table", "twice"], ["y"], axis=0),
    ]
    write(tmp_path / "net.onnx", nodes, [3], table, element=TensorProto.INT64)
    np.savez(tmp_path / "data.npz", x=np.full(3, 9))
    ran = run_cli("check", "net.onnx", "--data", "data.npz", cwd=tmp_path)
    assert ran.code == 1
    assert "hint: --input 'x=3:int64[0..3]'" in ran.err, ran
