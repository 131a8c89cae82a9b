"""What a TFLite conversion leaves behind when the whole pipeline has run: provenance, settings, state, fallbacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from tests.convert.tflite_models import Put, TfliteGraph, by_litert, one_operator

from mlconv import to_onnx
from mlconv.errors import UnsupportedOperator, UnsupportedOpset

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

RNG = np.random.default_rng(0)


def conv(path: Path) -> Path:
    weights = RNG.integers(-127, 128, (4, 3, 3, 3), np.int8)
    scales = RNG.uniform(0.001, 0.02, 4).astype(np.float32)
    return one_operator(
        path, "CONV_2D",
        [Put((1, 8, 8, 3), "INT8", 0.05, 3), Put(weights.shape, "INT8", scales, 0, 0, weights),
         Put((4,), "INT32", scales * np.float32(0.05), 0, 0, RNG.integers(-500, 500, 4, np.int32))],
        [Put((1, 8, 8, 4), "INT8", 0.2, -128)], "Conv2DOptions", version=3, strideH=1, strideW=1, fusedActivationFunction=1,
    )  # fmt: skip


def counter(path: Path) -> Path:
    """A resource variable of two numbers, to which every run adds its input."""
    graph = TfliteGraph()
    x, handle = graph.tensor("x", (2,)), graph.tensor("handle", (1,), kind="RESOURCE")
    read, total = graph.tensor("read", (2,)), graph.tensor("total", (2,))
    graph.operator("VAR_HANDLE", [], [handle], "VarHandleOptions", sharedName=b"count")
    graph.operator("READ_VARIABLE", [handle], [read], "ReadVariableOptions")
    graph.operator("ADD", [read, x], [total], "AddOptions")
    graph.operator("ASSIGN_VARIABLE", [handle, total], [], "AssignVariableOptions")
    graph.operator("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    graph.graph.operators.insert(0, graph.graph.operators.pop())
    main = graph.graph
    graph.ends([x], [total])
    graph.subgraph()
    start = graph.tensor("start", (2,), np.array([1, 2], np.float32))
    again = graph.tensor("handle", (1,), kind="RESOURCE")
    graph.operator("VAR_HANDLE", [], [again], "VarHandleOptions", sharedName=b"count")
    graph.operator("ASSIGN_VARIABLE", [again, start], [], "AssignVariableOptions")
    graph.ends([], [])
    graph.graph = main
    return graph.write(path)


def record(path: Path) -> Any:
    return json.loads(path.with_name(f"{path.name}.mlconv.json").read_text())


@pytest.mark.parametrize("opset", [13, 18, 21])
def test_every_node_tells_the_operator_that_it_came_from(opset: int, tmp_path: Path) -> None:
    assert to_onnx(conv(tmp_path / "m.tflite"), tmp_path / "m.onnx", opset=opset).ok
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    told = [
        {entry.key: entry.value for entry in node.metadata_props}
        for node in nodes
        if "signature" not in node.name
    ]
    assert told
    assert all(each == {"mlconv.tflite": "0 CONV_2D [3]"} for each in told)


def test_the_record_tells_the_kernels_and_the_processor(tmp_path: Path) -> None:
    conversion = to_onnx(conv(tmp_path / "m.tflite"), tmp_path / "m.onnx", target_isa="portable")
    told = record(tmp_path / "m.onnx")
    (step,) = told["route"]
    assert (step["converter"], step["settings"]["target_isa"]) == ("tflite-import", "portable")
    assert step["settings"]["eight_bit_operators"] == 1
    assert told["checks"]["parity"]["kernels"] == "XNNPACK"
    assert conversion.checks["parity"]["outputs"][0]["max_lsb"] == 0


def test_a_user_who_named_no_processor_is_told_what_can_saturate(tmp_path: Path) -> None:
    conversion = to_onnx(conv(tmp_path / "m.tflite"), tmp_path / "m.onnx", target_isa=None)
    named = to_onnx(conv(tmp_path / "n.tflite"), tmp_path / "n.onnx", target_isa="vnni")
    told = "1 operator of 1 on 8-bit integers can saturate on x86 without VNNI"
    assert [warning for warning in named.warnings if "saturate" in warning] == []
    settings = record(tmp_path / "m.onnx")["route"][0]["settings"]
    expected = settings["target_isa"] in ("vnni", "arm") and settings["can_saturate"] == 1
    assert (
        any(told in warning and "--target-isa portable" in warning for warning in conversion.warnings)
        == expected
    )


@pytest.mark.parametrize("opset", [18, 21])
def test_a_variable_stays_an_optional_input_of_the_finished_file(opset: int, tmp_path: Path) -> None:
    import onnxruntime

    source = counter(tmp_path / "m.tflite")
    conversion = to_onnx(source, tmp_path / "m.onnx", opset=opset)
    assert conversion.ok
    assert any("became optional inputs" in warning for warning in conversion.warnings)
    assert not any("constant" in warning for warning in conversion.warnings)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", options)
    (state,) = session.get_overridable_initializers()
    x = np.array([10, 20], np.float32)
    total, after = session.run(None, {"x": x})
    np.testing.assert_array_equal(total, by_litert(source, x)[0])
    np.testing.assert_array_equal(session.run(None, {"x": x, state.name: after})[0], [21, 42])


def test_a_converted_file_keeps_its_states_when_it_is_converted_again(tmp_path: Path) -> None:
    import onnxruntime

    to_onnx(counter(tmp_path / "m.tflite"), tmp_path / "m.onnx")
    again = to_onnx(tmp_path / "m.onnx", tmp_path / "again.onnx", opset=20)
    assert again.ok
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    assert (
        len(onnxruntime.InferenceSession(tmp_path / "again.onnx", options).get_overridable_initializers())
        == 1
    )


def test_the_same_file_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    source = conv(tmp_path / "m.tflite")
    to_onnx(source, tmp_path / "a.onnx")
    to_onnx(source, tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_opset_without_scales_per_channel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedOpset, match="opset 12 cannot be asked for; 13 to"):
        to_onnx(conv(tmp_path / "m.tflite"), tmp_path / "m.onnx", opset=12)


def test_operators_without_an_onnx_form_are_all_named(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, a, b, y = (graph.tensor(name, (2, 3)) for name in "xaby")
    graph.operator("CUSTOM", [x], [a], custom="Sinh")
    graph.operator("RELU", [a], [b])
    graph.operator("CUSTOM", [b], [y], custom="Cosh")
    with pytest.raises(UnsupportedOperator) as caught:
        to_onnx(graph.write(tmp_path / "m.tflite", [x], [y]), tmp_path / "m.onnx", via="tflite-import")
    assert caught.value.what.startswith("2 operators of ")
    assert caught.value.what.endswith("have no ONNX form: custom `Sinh` (#0), custom `Cosh` (#2)")
    assert "--outputs" in (caught.value.fix or "")


@pytest.mark.framework("tensorflow", "tf2onnx")
def test_what_another_converter_made_is_told_with_the_reason(tmp_path: Path) -> None:
    source = one_operator(
        tmp_path / "m.tflite", "REDUCE_PROD",
        [Put((2, 3), "INT8", 0.05, 0), Put((1,), "INT32", value=np.array([1], np.int32))],
        [Put((2,), "INT8", 0.1, 0)], "ReducerOptions", version=2,
    )  # fmt: skip
    conversion = to_onnx(source, tmp_path / "m.onnx", write_anyway=True)
    assert conversion.route[0].converter == "tf2onnx"
    (told,) = [warning for warning in conversion.warnings if "could not convert it" in warning]
    assert told.startswith("`tflite-import` could not convert it, and `tf2onnx` did: 1 operator of ")
    assert "REDUCE_PROD (#0" in told


def test_what_the_answers_rest_on_stands_in_the_record_and_in_the_file(tmp_path: Path) -> None:
    to_onnx(conv(tmp_path / "m.tflite"), tmp_path / "m.onnx", target_isa="portable")
    assert {"onnxruntime", "onnx", "ai-edge-litert", "numpy"} <= record(tmp_path / "m.onnx")["route"][0][
        "versions"
    ].keys()
    (inside,) = [
        entry.value
        for entry in onnx.load(tmp_path / "m.onnx").metadata_props
        if entry.key == "mlconv.provenance"
    ]
    told = json.loads(inside)["converters"]["tflite-import"]
    assert (told["target_isa"], "onnxruntime" in told) == ("portable", True)
