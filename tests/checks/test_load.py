"""Loading and running once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from mlconv.checks.load import load_and_run


def saved(path: Path, *operators: str) -> Path:
    nodes = [helper.make_node(kind, ["x"] if i == 0 else [f"t{i - 1}"], ["y" if i == len(operators) - 1 else f"t{i}"])
             for i, kind in enumerate(operators)]  # fmt: skip
    puts = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy"]
    onnx.save(helper.make_model(helper.make_graph(nodes, "g", puts[:1], puts[1:]), opset_imports=[helper.make_opsetid("", 17)],
                                ir_version=8), path)  # fmt: skip
    return path


def test_a_sound_model_loads_and_runs(tmp_path: Path) -> None:
    load, run = load_and_run(saved(tmp_path / "m.onnx", "Relu"), {"x": np.ones(2, np.float32)})
    assert (load.name, load.ok, run.name, run.ok, run.detail) == ("load", True, "run", True, "`y` [2]")


def test_without_inputs_it_is_only_loaded(tmp_path: Path) -> None:
    load, run = load_and_run(saved(tmp_path / "m.onnx", "Relu"))
    assert load.ok is True
    assert run.ok is None


def test_a_refusal_tells_the_runtime_s_decisive_words(tmp_path: Path) -> None:
    load, run = load_and_run(saved(tmp_path / "m.onnx", "Wobble"))
    assert load.ok is False
    assert "No Op registered for Wobble" in load.detail
    assert "ONNXRuntimeError" not in load.detail
    assert run.ok is None


def test_inputs_that_do_not_fit_fail_the_run_alone(tmp_path: Path) -> None:
    load, run = load_and_run(saved(tmp_path / "m.onnx", "Relu"), {"x": np.ones(3, np.float32)})
    assert load.ok is True
    assert run.ok is False
    assert "x" in run.detail


def test_outputs_that_are_no_numbers_fail_the_run(tmp_path: Path) -> None:
    run = load_and_run(saved(tmp_path / "m.onnx", "Log"), {"x": np.array([-1, 1], np.float32)})[1]
    assert run.ok is False
    assert "NaN or infinity in `y`" in run.detail
