"""onnxruntime as a runner."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv.convert.job import Options
from mlconv.errors import SourceDoesNotRun
from mlconv.formats import ModelFile
from mlconv.runners.onnx_reference import OnnxReference
from mlconv.runners.onnx_session import (
    OnnxSession,
    decisive,
    onnxruntime_limits,
    onnxruntime_operators,
    open_runner,
)
from mlconv.tensors import TensorSpec


def identity(
    kind: int, shape: list[int | str | None] | None, opset: int = 17, ir_version: int = 8
) -> onnx.ModelProto:
    puts = [helper.make_tensor_value_info(name, kind, shape) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", puts[:1], puts[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def test_names_shapes_and_dtypes_are_told() -> None:
    session = OnnxSession(identity(TensorProto.FLOAT, ["batch", None, 4]).SerializeToString())
    assert session.inputs == (TensorSpec("x", ("batch", None, 4), "float32"),)


def test_a_scalar_and_an_unknown_rank_are_told_apart() -> None:
    assert OnnxSession(identity(TensorProto.FLOAT, []).SerializeToString()).inputs[0].shape == ()
    assert OnnxSession(identity(TensorProto.FLOAT, None).SerializeToString()).inputs[0].shape is None


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (TensorProto.FLOAT16, "float16", np.array([1.5, -2], np.float16)),
        (TensorProto.BFLOAT16, "bfloat16", np.array([1.5, -2], ml_dtypes.bfloat16)),
        (TensorProto.DOUBLE, "float64", np.array([1.5, -2])),
        (TensorProto.BOOL, "bool", np.array([True, False])),
        (TensorProto.UINT8, "uint8", np.array([1, 255], np.uint8)),
        (TensorProto.STRING, "str", np.array(["a", "bc"], object)),
    ],
)
def test_values_of_every_dtype_pass(kind: int, name: str, values: np.ndarray) -> None:
    session = OnnxSession(identity(kind, [2]).SerializeToString())
    assert session.inputs[0].dtype == name
    found = session.run({"x": values})["y"]
    assert found.tolist() == values.tolist()
    assert found.dtype == values.dtype or name == "str"


def test_initializers_are_no_inputs() -> None:
    proto = identity(TensorProto.FLOAT, [2])
    proto.graph.initializer.append(numpy_helper.from_array(np.ones(2, np.float32), "w"))
    proto.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [2]))
    for session in (OnnxSession(proto.SerializeToString()), OnnxReference(proto)):
        assert [spec.name for spec in session.inputs] == ["x"]


def test_outputs_come_in_the_model_s_order() -> None:
    nodes = [helper.make_node("Split", ["x"], ["b", "a"], axis=0)]
    puts = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [size])
        for name, size in (("x", 4), ("b", 2), ("a", 2))
    }
    graph = helper.make_graph(nodes, "g", [puts["x"]], [puts["b"], puts["a"]])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    for session in (OnnxSession(proto.SerializeToString(), threads=1, optimize=False), OnnxReference(proto)):
        assert {
            name: array.tolist() for name, array in session.run({"x": np.arange(4, dtype=np.float32)}).items()
        } == {"b": [0, 1], "a": [2, 3]}
        assert list(session.run({"x": np.arange(4, dtype=np.float32)})) == ["b", "a"]
        assert session.spread({}) is None


def test_the_newest_opset_and_ir_version_load_and_the_next_do_not() -> None:
    opset, ir_version = onnxruntime_limits()
    assert OnnxSession(identity(TensorProto.FLOAT, [1], opset, ir_version).SerializeToString()).inputs
    for beyond in ((opset + 1, ir_version), (opset, ir_version + 1)):
        with pytest.raises(Exception, match=r"(?i)opset|version"):
            OnnxSession(identity(TensorProto.FLOAT, [1], *beyond).SerializeToString())


def test_operators_of_the_runtime_s_own_domain_are_known() -> None:
    assert {("", "Conv"), ("com.microsoft", "FusedConv")} <= onnxruntime_operators()


def test_a_file_in_ort_format_runs(tmp_path: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "m.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(
        identity(TensorProto.FLOAT, ["n", 2]).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (tmp_path / "m.ort").rename(tmp_path / "m.bin")
    session = OnnxSession(tmp_path / "m.bin")
    assert session.inputs[0].shape == ("n", 2)
    assert session.run({"x": np.ones((1, 2), np.float32)})["y"].tolist() == [[1, 1]]


def test_a_file_that_the_runtime_refuses_is_a_source_that_does_not_run(tmp_path: Path) -> None:
    proto = identity(TensorProto.FLOAT, [1])
    proto.graph.node[0].op_type = "Wobble"
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    with pytest.raises(SourceDoesNotRun) as caught:
        open_runner(ModelFile("m.onnx", tmp_path / "m.onnx", "onnx"), Options())
    assert "No Op registered for Wobble" in (caught.value.why or "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from a b.onnx failed:This is an invalid model. Error: two nodes with same node name (r).",
         "two nodes with same node name (r)."),
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Load model from m.onnx failed:Protobuf parsing failed.", "Protobuf parsing failed."),
        ("", "ValueError"),
    ],
)  # fmt: skip
def test_the_runtime_s_words_are_cut_to_what_decides(text: str, told: str) -> None:
    assert decisive(ValueError(text)) == told


def test_a_closed_session_does_not_run() -> None:
    session = OnnxSession(identity(TensorProto.FLOAT, [1]).SerializeToString())
    session.close()
    with pytest.raises(AttributeError):
        session.run({"x": np.ones(1, np.float32)})


def test_a_missing_file_is_no_crash() -> None:
    with pytest.raises(FileNotFoundError):
        OnnxSession(Path("/nonexistent/m.onnx"))
