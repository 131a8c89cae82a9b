"""Blocks of channels: an ORT file laid out for another processor is not run."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("onnxruntime")

from mlconv.convert.job import Options
from mlconv.errors import Corrupt, SourceDoesNotRun
from mlconv.formats import ModelFile
from mlconv.runners import ort_blocks
from mlconv.runners.onnx_session import OnnxSession, open_runner

x86 = pytest.mark.skipif(
    platform.machine().lower() not in ("x86_64", "amd64"), reason="the sizes of blocks are x86's"
)


def laid_out(path: Path, provenance: object) -> Path:
    """An ORT file with a convolution laid out for this machine, and that provenance."""
    import onnxruntime

    puts = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 4, 4]) for name in "xy"]
    weight = numpy_helper.from_array(np.ones((16, 16, 1, 1), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"])], "net", puts[:1], puts[1:], [weight]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.metadata_props.add(key="mlconv.provenance", value=json.dumps(provenance))
    onnx.save(model, path.with_suffix(".onnx"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(path)
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(str(path.with_suffix(".onnx")), options, providers=["CPUExecutionProvider"])
    return path


def told(block: object) -> object:
    return {"converters": {"onnx-rewrite": {"onnx": "1"}, "onnxruntime": {"nchwc_block": block}}}


@x86
def test_the_block_of_this_machine_is_one_of_those_that_onnxruntime_has() -> None:
    assert ort_blocks.block() in (8, 16)


@x86
def test_a_file_of_this_machine_s_blocks_is_run_and_one_of_others_is_not(tmp_path: Path) -> None:
    own = ort_blocks.block()
    assert own is not None
    assert OnnxSession(laid_out(tmp_path / "own.ort", told(str(own)))).inputs[0].name == "x"
    other = laid_out(tmp_path / "other.ort", told(str(24 - own)))
    with pytest.raises(ort_blocks.OtherVectors, match=f"blocks of {24 - own} channels"):
        OnnxSession(other)
    with pytest.raises(SourceDoesNotRun) as caught:
        open_runner(ModelFile(str(other), other, "ort"), Options())
    assert "wrong answers" in (caught.value.why or "")


@x86
@pytest.mark.parametrize(
    "provenance", [None, [], {"converters": 1}, {"converters": {"a": {}}}, told("many"), told(None)]
)
def test_a_file_that_does_not_tell_its_blocks_is_run(provenance: object, tmp_path: Path) -> None:
    OnnxSession(laid_out(tmp_path / "net.ort", provenance))


def test_a_file_without_such_convolutions_is_run_whatever_it_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_blocks, "DOMAIN", "not.there")
    OnnxSession(laid_out(tmp_path / "net.ort", told("4")))


def test_a_broken_file_is_told_as_such(tmp_path: Path) -> None:
    path = laid_out(tmp_path / "net.ort", told("16"))
    path.write_bytes(path.read_bytes()[:64])
    with pytest.raises(Corrupt):
        ort_blocks.assert_fits(path)


def test_operators_of_branches_are_walked() -> None:
    branch = helper.make_graph([helper.make_node("Sin", ["x"], ["t"])], "b", [], [])
    inner = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([inner], "net", [], [])
    assert [node.op_type for node in ort_blocks.nodes(graph)] == ["If", "Sin", "Sin"]
