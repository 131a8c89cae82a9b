"""The canonical form: order and names follow from the structure."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from tests.convert.onnx_models import branching, model, node, residual, shuffled

from mlconv.convert.onnx_graph.canonical import canonical
from mlconv.convert.onnx_graph.file import from_proto, serialized
from mlconv.convert.onnx_graph.names import Names, rename
from mlconv.runners.onnx_session import OnnxSession


def canonical_bytes(proto: onnx.ModelProto, names: Names = "structural") -> bytes:
    return serialized(canonical(from_proto(proto, Path()), names))


@pytest.mark.parametrize("build", [residual, branching])
def test_fifty_shuffled_and_renamed_copies_give_the_same_bytes(build: Callable[[], onnx.ModelProto]) -> None:
    expected = canonical_bytes(build())
    assert {canonical_bytes(shuffled(build(), seed)) for seed in range(50)} == {expected}


@pytest.mark.parametrize("build", [residual, branching])
@pytest.mark.parametrize("names", ["kept", "structural"])
def test_the_canonical_form_of_a_canonical_form_is_itself(
    build: Callable[[], onnx.ModelProto], names: Names
) -> None:
    once = canonical_bytes(build(), names)
    assert canonical_bytes(onnx.load_from_string(once), names) == once


@pytest.mark.parametrize("names", ["kept", "structural"])
def test_a_graph_in_canonical_form_computes_the_same(names: Names) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    expected = OnnxSession(residual().SerializeToString()).run({"x": x})
    actual = OnnxSession(canonical_bytes(shuffled(residual(), 3), names)).run({"x": x})
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)


def test_names_that_mean_something_are_kept() -> None:
    kept = canonical(from_proto(residual(), Path()))
    assert [each.name for each in kept.graph] == ["stem", "relu", "body", "sum", "flat", "scores", "gate"]
    assert list(kept.graph.initializers) == ["w1", "b1", "w2", "b2", "w3", "b3"]


def test_twenty_thousand_operators_of_one_name_are_told_apart_in_seconds() -> None:
    chain = [node("Relu", [f"v{number}"], [f"v{number + 1}"], name="same") for number in range(20_000)]
    named = from_proto(onnx.helper.make_model(onnx.helper.make_graph(chain, "g", [], [])), Path())
    begun = time.process_time()
    rename(named, "kept")
    taken = time.process_time() - begun
    assert taken < 10  # below 1 s on a quiet machine; trying each number anew takes half a minute
    assert [each.name for each in named.graph][::9999] == ["same", "same_9999", "same_19998"]


def test_structural_names_tell_operator_and_operand() -> None:
    named = canonical(from_proto(residual(), Path()), "structural")
    assert [each.name for each in named.graph][:4] == ["Conv_0", "Relu_0", "Conv_1", "Add_0"]
    assert list(named.graph.initializers)[:2] == ["Conv_0_W", "Conv_0_B"]
    assert [value.name for value in named.graph.outputs] == ["y", "s"]


def test_two_nodes_of_one_name_get_names_of_their_own() -> None:
    twice = model(
        [node("Relu", ["x"], ["a"], name="r"), node("Relu", ["a"], ["y"], name="r")], {"x": [2]}, {"y": [2]}
    )
    assert [each.name for each in canonical(from_proto(twice, Path())).graph] == ["r", "r_1"]


def test_operators_are_sorted_and_those_without_a_use_are_left_out() -> None:
    nodes = [node("Relu", ["a"], ["y"]), node("Tanh", ["x"], ["unused"]), node("Neg", ["x"], ["a"])]
    graph = canonical(
        from_proto(model(nodes, {"x": [2]}, {"y": [2]}, {"w": np.ones(3, np.float32)}), Path())
    ).graph
    assert [each.op_type for each in graph] == ["Neg", "Relu"]
    assert not graph.initializers


def test_opset_imports_that_nothing_uses_are_dropped() -> None:
    proto = residual()
    proto.opset_import.add(domain="org.pytorch.aten", version=1)
    assert dict(canonical(from_proto(proto, Path())).graph.opset_imports) == {"": 17}


def test_stack_traces_and_stale_shapes_are_dropped() -> None:
    proto = residual()
    proto.graph.node[0].doc_string = "File /home/somebody/train.py"
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("t2", 1, [7, 7]))
    data = canonical_bytes(proto, "kept")
    assert b"somebody" not in data
    shapes = {
        value.name: value.type.tensor_type.shape for value in onnx.load_from_string(data).graph.value_info
    }
    assert [dim.dim_value for dim in shapes["t2"].dim] == [0, 4, 8, 8]


def test_where_a_node_comes_from_stays_and_other_metadata_goes() -> None:
    given = from_proto(residual(), Path())
    for each in given.graph:
        each.metadata_props.update({"mlconv.tflite": f"0 {each.op_type} []", "pkg.torch.stack_trace": "a path"})
    kept = canonical(given)
    assert [dict(each.metadata_props) for each in kept.graph] == [
        {"mlconv.tflite": f"0 {each.op_type} []"} for each in kept.graph
    ]


def test_the_model_that_was_given_is_left_as_it_is() -> None:
    given = from_proto(residual(), Path())
    before = serialized(given)
    canonical(given, "structural")
    assert serialized(given) == before


def test_model_local_functions_are_kept_and_unused_ones_are_not() -> None:
    body = [node("Relu", ["a"], ["t"]), node("Neg", ["t"], ["b"])]
    imports = [onnx.helper.make_opsetid("", 17)]
    functions = [
        onnx.helper.make_function("own", name, ["a"], ["b"], body, imports) for name in ("used", "unused")
    ]
    proto = model([node("used", ["x"], ["y"], domain="own")], {"x": [3]}, {"y": [3]},
                  imports=[onnx.helper.make_opsetid("own", 1)], functions=functions)  # fmt: skip
    kept = canonical(from_proto(proto, Path()))
    assert [key[1] for key in kept.functions] == ["used"]
    x = np.array([-1.0, 0.0, 2.0], np.float32)
    np.testing.assert_array_equal(OnnxSession(serialized(kept)).run({"x": x})["y"], [0, 0, -2])


def test_weights_that_swap_names_keep_their_numbers() -> None:
    nodes = [node("Add", ["x", "Add_1_B"], ["t"]), node("Add", ["t", "Add_0_B"], ["y"])]
    weights = {"Add_0_B": np.full(2, 10, np.float32), "Add_1_B": np.full(2, 1, np.float32)}
    named = canonical(from_proto(model(nodes, {"x": [2]}, {"y": [2]}, weights), Path()), "structural")
    assert {
        name: value.const_value and value.const_value.numpy()[0]
        for name, value in named.graph.initializers.items()
    } == {
        "Add_0_B": 1,
        "Add_1_B": 10,
    }
    assert isinstance(named, ir.Model)


def test_a_loop_that_never_turns_keeps_the_shape_that_its_body_declares(models: Path) -> None:
    proto = onnx.load(models / "xboot_libonnx" / "tests__node__test_loop11" / "model.onnx")
    shapes = []
    for data in (proto.SerializeToString(), canonical_bytes(proto)):
        session = OnnxSession(data)
        feeds = {"trip_count": np.array(0, np.int64), "cond": np.array(True), "y": np.array([1.0], np.float32)}
        shapes.append([array.shape for array in session.run(feeds).values()])
    assert shapes[0] == shapes[1] == [(1,), (0, 1)]
