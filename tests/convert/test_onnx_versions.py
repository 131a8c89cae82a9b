"""Opset and IR version, up and down."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.convert.onnx_models import branching, model, node, residual

from mlconv.convert.onnx_graph.canonical import canonical
from mlconv.convert.onnx_graph.file import from_proto, serialized
from mlconv.convert.onnx_graph.versions import set_versions, with_opset
from mlconv.errors import OpsetOutOfReach, UnsupportedOpset
from mlconv.runners.onnx_session import OnnxSession, onnxruntime_limits


def at(proto: onnx.ModelProto, opset: int | None) -> onnx.ModelProto:
    moved = canonical(set_versions(from_proto(proto, Path()), opset, onnxruntime_limits()))
    return onnx.load_from_string(serialized(moved))


def opset_of(proto: onnx.ModelProto) -> int:
    return next(int(entry.version) for entry in proto.opset_import if not entry.domain)


@pytest.mark.parametrize("opset", [13, 15, 18, 21, 24, 26])
@pytest.mark.parametrize("own", [11, 17])
def test_a_model_computes_the_same_at_every_opset(own: int, opset: int) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = OnnxSession(residual(own).SerializeToString()).run({"x": x})["y"]
    moved = at(residual(own), opset)
    onnx.checker.check_model(moved, full_check=True)
    assert opset_of(moved) == opset
    np.testing.assert_allclose(
        OnnxSession(moved.SerializeToString()).run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5
    )


def test_subgraphs_are_converted_too() -> None:
    squeeze = [node("Squeeze", ["a"], ["out"], axes=[0])]
    branch = [
        onnx.helper.make_graph(squeeze, name, [], [onnx.helper.make_tensor_value_info("out", 1, [3])])
        for name in "te"
    ]
    for name, graph in zip("te", branch, strict=True):
        graph.node[0].output[0] = graph.output[0].name = f"{name}_out"
    nodes = [
        node("Relu", ["x"], ["a"]), node("ReduceMax", ["x"], ["m"], keepdims=0),
        node("Cast", ["m"], ["c"], to=onnx.TensorProto.BOOL), node("If", ["c"], ["y"], then_branch=branch[0], else_branch=branch[1]),
    ]  # fmt: skip
    moved = at(model(nodes, {"x": [1, 3]}, {"y": [3]}, opset=11), 18)
    x = np.array([[1.0, -2.0, 3.0]], np.float32)
    np.testing.assert_array_equal(OnnxSession(moved.SerializeToString()).run({"x": x})["y"], [1, 0, 3])


def test_a_source_that_is_not_asked_to_change_keeps_its_opset() -> None:
    assert opset_of(at(residual(11), None)) == 11


def test_an_opset_that_the_runtime_does_not_load_comes_down_to_one_that_it_loads() -> None:
    newest = onnxruntime_limits()[0]
    proto = residual(17)
    proto.opset_import[0].version = newest + 1
    assert opset_of(at(proto, None)) == newest


def test_the_ir_version_is_the_least_that_the_opset_needs() -> None:
    assert [at(residual(17), opset).ir_version for opset in (13, 17, 19, 21)] == [
        7,
        8,
        9,
        10,
    ]  # onnx/docs/Versioning.md


@pytest.mark.parametrize("opset", [5, 12, 99])
def test_an_opset_out_of_range_is_refused_with_the_range(opset: int) -> None:
    with pytest.raises(UnsupportedOpset, match=rf"13 to {onnxruntime_limits()[0]}"):
        at(residual(), opset)


def test_an_operator_that_is_a_function_of_older_ones_is_replaced_by_them() -> None:
    rng = np.random.default_rng(0)
    weights = {"scale": rng.random(4).astype(np.float32), "bias": rng.random(4).astype(np.float32)}
    proto = model(
        [node("LayerNormalization", ["x", "scale", "bias"], ["y"])],
        {"x": [2, 4]},
        {"y": [2, 4]},
        weights,
        opset=18,
    )
    moved, x = at(proto, 15), rng.random((2, 4)).astype(np.float32)
    assert "LayerNormalization" not in {each.op_type for each in moved.graph.node}
    expected = OnnxSession(proto.SerializeToString()).run({"x": x})["y"]
    np.testing.assert_allclose(
        OnnxSession(moved.SerializeToString()).run({"x": x})["y"], expected, rtol=1e-5, atol=1e-5
    )


def test_every_operator_that_cannot_go_down_is_named() -> None:
    nodes = [
        node("ReduceMax", ["x"], ["m"], keepdims=0), node("Trilu", ["x"], ["t"]),
        node("GridSample", ["i", "g"], ["y"]), node("Add", ["m", "t"], ["z"]),
    ]  # fmt: skip
    proto = model(
        nodes, {"x": [3, 3], "i": [1, 1, 4, 4], "g": [1, 2, 2, 2]}, {"y": [1, 1, 2, 2], "z": [3, 3]}, opset=17
    )
    with pytest.raises(OpsetOutOfReach) as caught:
        at(proto, 13)
    assert "`GridSample`" in caught.value.what
    assert "`Trilu`" in caught.value.what
    assert "13" in caught.value.what


def test_operators_of_foreign_domains_pass_unchanged() -> None:
    nodes = [node("Gelu", ["x"], ["t"], domain="com.microsoft"), node("Relu", ["t"], ["y"])]
    proto = model(
        nodes, {"x": [3]}, {"y": [3]}, opset=13, imports=[onnx.helper.make_opsetid("com.microsoft", 1)]
    )
    moved = at(proto, 18)
    assert [each.op_type for each in moved.graph.node] == ["Gelu", "Relu"]
    assert OnnxSession(moved.SerializeToString()).run({"x": np.ones(3, np.float32)})["y"].shape == (3,)


def test_a_model_with_functions_moves_with_its_functions_inlined() -> None:
    function = onnx.helper.make_function(
        "own", "f", ["a"], ["b"], [node("Relu", ["a"], ["b"])], [onnx.helper.make_opsetid("", 17)]
    )
    proto = model([node("f", ["x"], ["y"], domain="own")], {"x": [3]}, {"y": [3]},
                  imports=[onnx.helper.make_opsetid("own", 1)], functions=[function])  # fmt: skip
    assert [each.op_type for each in at(proto, 20).graph.node] == ["Relu"]


def test_metadata_survives_a_change_of_opset() -> None:
    proto = branching()
    onnx.helper.set_model_props(proto, {"names": "cat,dog"})
    assert [(entry.key, entry.value) for entry in at(proto, 21).metadata_props] == [("names", "cat,dog")]


@pytest.mark.parametrize("opset", [13, 21])
def test_where_a_node_comes_from_survives_a_change_of_opset(opset: int) -> None:
    given = from_proto(residual(), Path())
    for each in given.graph:
        each.metadata_props["mlconv.tflite"] = f"from {each.op_type}"
    moved = with_opset(given, opset)
    assert [each.metadata_props.get("mlconv.tflite") for each in moved.graph] == [f"from {each.op_type}" for each in moved.graph]


def test_an_attribute_that_only_newer_opsets_know_goes_where_it_says_nothing() -> None:
    """onnx's converter turns the axes of ReduceMean 18 back into an attribute and leaves `noop_with_empty_axes`."""
    reduced = node("ReduceMean", ["x", "axes"], ["y"], noop_with_empty_axes=0)
    proto = model([reduced], {"x": [2, 3]}, {"y": [2, 1]}, {"axes": np.array([1])}, opset=18)
    moved = at(proto, 17)
    assert {attribute.name for attribute in moved.graph.node[0].attribute} <= {"axes", "keepdims"}
    onnx.checker.check_model(moved, full_check=True)
