"""One conversion from the call to the file in its place, on ONNX models built here."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv import registry
from mlconv.convert.job import Options
from mlconv.convert.pipeline import Call, convert
from mlconv.errors import ConverterFailed, OptionNotAccepted, ParityFailed, UnsupportedOperator
from mlconv.registry import Converter

RunCli = Callable[..., Any]

JOBS = '''
import shutil
from mlconv.convert.job import Converted
from mlconv.errors import UnsupportedOperator
from mlconv.runners.onnx_session import OnnxSession

def refuse(job):
    raise UnsupportedOperator("1 operator of the model has no ONNX form: Wobble (#3)", fix="cut it off")

def crash(job):
    raise KeyError("strange")

def copy(job):
    shutil.copyfile(job.source.path, job.output)
    runner = OnnxSession(job.source.path)
    return Converted(runner.inputs, runner.outputs, runner, "the copier", ("onnx",))

def wrong(job):
    """A converter that loses a sign."""
    import onnx
    model = onnx.load(job.source.path)
    model.graph.node[0].op_type = "Relu" if model.graph.node[0].op_type == "Identity" else "Identity"
    onnx.save(model, job.output)
    runner = OnnxSession(job.source.path)
    return Converted(runner.inputs, runner.outputs, runner, "the forger", ("onnx",))
'''


def save(path: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray] | None = None) -> Path:
    """A model from `x` (batch, 4) to `y`, opset 17."""
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    weight = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    nodes = [helper.make_node("Identity", ["x"], ["h"]), helper.make_node("MatMul", ["h", "w"], ["y"])]
    return save(tmp_path / "net.onnx", nodes, {"w": weight})


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``jobs("refuse", "copy")``: converters from ONNX to ONNX of these kinds, in that order, instead of ours."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "pipeline_jobs.py").write_text(JOBS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "jobs"), prepend=":")
    monkeypatch.chdir(tmp_path)

    def use(*names: str) -> None:
        table = [
            Converter(name, "onnx", "onnx", f"pipeline_jobs:{name}", cost=i) for i, name in enumerate(names)
        ]
        monkeypatch.setattr(registry, "converters", lambda: tuple(table))

    return use


def test_a_route_that_fails_hands_over_to_the_next_and_the_record_keeps_the_attempt(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("refuse", "copy")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert conversion.ok
    (step,) = json.loads(Path("out.onnx.mlconv.json").read_text())["route"]
    assert (step["converter"], step["exporter"]) == ("copy", "the copier")
    assert step["attempts"] == [
        {
            "converter": "refuse",
            "error": "MLC214",
            "what": "1 operator of the model has no ONNX form: Wobble (#3)",
        }
    ]


def test_where_no_route_works_the_first_error_is_told_with_the_others(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("refuse", "crash")
    with pytest.raises(UnsupportedOperator, match="Wobble") as caught:
        convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert caught.value.why is not None
    assert "tried next: `crash`" in caught.value.why
    assert sorted(path.name for path in Path().iterdir()) == ["jobs", "net.onnx"]


def test_an_exception_of_a_converter_is_its_failure_with_its_own_line(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("crash")
    with pytest.raises(ConverterFailed, match="`crash` could not convert") as caught:
        convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert caught.value.why == "KeyError: 'strange'"


def test_an_option_that_no_converter_takes_is_refused_by_the_converter_s_name(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("copy")
    with pytest.raises(OptionNotAccepted, match="`--signature` means nothing to `copy`"):
        convert(str(net), "onnx", Options(signature="s"), Call("out.onnx"))


def test_a_converter_that_is_wrong_is_caught_and_nothing_is_written(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("wrong")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx"))
    assert isinstance(conversion.failure, ParityFailed)
    assert not conversion.artifact.written
    assert not Path("out.onnx").exists()
    assert not Path("out.onnx.mlconv.json").exists()


def test_what_is_wrong_is_written_where_the_user_insists_and_the_record_says_so(
    net: Path, jobs: Callable[..., None]
) -> None:
    jobs("wrong")
    conversion = convert(str(net), "onnx", Options(), Call("out.onnx", write_anyway=True))
    assert not conversion.ok
    assert json.loads(Path("out.onnx.mlconv.json").read_text())["ok"] is False
    assert Path("out.onnx").exists()


def test_another_stranger_s_interpreter_needs_no_mlconv(
    net: Path, jobs: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    jobs("copy")
    (copier,) = registry.converters()
    other = Converter("copy", "onnx", "onnx", copier.run, python="COPIER")
    monkeypatch.setattr(registry, "converters", lambda: (other,))
    monkeypatch.setenv("MLCONV_PYTHON_COPIER", sys.executable)
    assert convert(str(net), "onnx", Options(), Call("out.onnx")).ok


# ------------------------------------------------------------------ whole outputs


def test_a_conversion_on_the_command_line_is_printed_whole(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("onnx", "net.onnx", cwd=net.parent)
    assert (ran.code, ran.out) == (0, "net.opset17.onnx\n")
    steady = re.sub(r"\d+\.\d s", "S s", ran.err)
    steady = re.sub(r"max \|d\| \S+ of \S+ ", "max |d| D of R ", re.sub(r"allows \S+\)", "allows A)", steady))
    steady = re.sub(r"onnxruntime \d+\.\d+", "onnxruntime V", re.sub(r"\d+ B", "N B", steady))
    assert [line for line in steady.splitlines() if not line.startswith("  ") or "structure ok" in line] == [
        "net.onnx (onnx) -> net.opset17.onnx   opset 17, 1 operators, N B, onnx, S s",
        "  structure ok · loads in onnxruntime V · parity ok: max |d| D of R over 8 random samples (fp32 allows A)",
    ]


def test_quiet_prints_the_path_alone(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("-q", "onnx", "net.onnx", cwd=net.parent)
    assert (ran.code, ran.out, ran.err) == (0, "net.opset17.onnx\n", "")


def test_json_is_the_record_s_own_document(net: Path, run_cli: RunCli) -> None:
    ran = run_cli("--json", "onnx", "net.onnx", "-o", "m.onnx", "--metadata", "team=vision", cwd=net.parent)
    document, record = json.loads(ran.out), json.loads((net.parent / "m.onnx.mlconv.json").read_text())
    assert ran.err == ""
    assert {key: record[key] for key in document} == document
    assert record["options"]["metadata"] == [["team", "vision"]]


def test_a_verdict_is_printed_whole(tmp_path: Path, run_cli: RunCli) -> None:
    nodes = [helper.make_node("Log", ["w"], ["l"]), helper.make_node("Add", ["x", "l"], ["y"])]
    save(tmp_path / "bad.onnx", nodes, {"w": np.full(4, -1, np.float32)})
    ran = run_cli("-q", "onnx", "bad.onnx", cwd=tmp_path)
    assert (ran.code, ran.out) == (1, "")
    assert ran.err == (
        "error[MLC303]: the source itself gives NaN in `y`: 8 of 8 elements of sample 0\n"
        "hint: --write-anyway keeps the file for a look\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]
