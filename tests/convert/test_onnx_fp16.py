"""Half precision inside, the source's types outside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from tests.convert.onnx_models import branching, model, node, residual

from mlconv.convert.onnx_graph.canonical import canonical
from mlconv.convert.onnx_graph.file import from_proto, serialized
from mlconv.convert.onnx_graph.fp16 import Halved, to_fp16
from mlconv.errors import ConverterFailed
from mlconv.runners.onnx_session import OnnxSession


def halved(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, Halved]:
    done = to_fp16(from_proto(proto, Path()))
    return onnx.load_from_string(serialized(canonical(done.model))), done


def agree(
    proto: onnx.ModelProto, half: onnx.ModelProto, feeds: dict[str, np.ndarray], atol: float = 5e-3
) -> None:
    onnx.checker.check_model(half, full_check=True)
    before, after = OnnxSession(proto.SerializeToString()), OnnxSession(half.SerializeToString())
    assert before.inputs == after.inputs
    assert before.outputs == after.outputs
    expected, actual = before.run(feeds), after.run(feeds)
    for name, array in expected.items():
        np.testing.assert_allclose(actual[name], array, rtol=2e-3, atol=atol)


def test_weights_are_half_and_the_signature_is_not() -> None:
    half, _ = halved(residual())
    assert {tensor.data_type for tensor in half.graph.initializer} == {TensorProto.FLOAT16}
    agree(residual(), half, {"x": np.random.default_rng(0).random((2, 3, 8, 8), np.float32)}, atol=3e-2)


def test_branches_compute_in_half_precision_too() -> None:
    half, _ = halved(branching())
    branch = next(each for each in half.graph.node if each.op_type == "If").attribute[0].g
    assert branch.initializer[0].data_type == TensorProto.FLOAT16
    agree(branching(), half, {"x": np.array([[1.0, 2.0, -3.0]], np.float32)})


def test_a_loop_carries_half_precision() -> None:
    body = onnx.helper.make_graph(
        [node("Identity", ["on"], ["again"]), node("Mul", ["state", "two"], ["next"])], "body",
        [onnx.helper.make_tensor_value_info("i", TensorProto.INT64, []), onnx.helper.make_tensor_value_info("on", TensorProto.BOOL, []),
         onnx.helper.make_tensor_value_info("state", TensorProto.FLOAT, [2])],
        [onnx.helper.make_tensor_value_info("again", TensorProto.BOOL, []), onnx.helper.make_tensor_value_info("next", TensorProto.FLOAT, [2])],
    )  # fmt: skip
    weights = {"n": np.array(3, np.int64), "go": np.array(True), "two": np.array(2, np.float32)}
    proto = model([node("Loop", ["n", "go", "x"], ["y"], body=body)], {"x": [2]}, {"y": [2]}, weights)
    half, _ = halved(proto)
    agree(proto, half, {"x": np.array([1.5, -1.0], np.float32)})


def test_the_scales_of_a_resize_stay_float32() -> None:
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    proto = model(
        [node("Resize", ["x", "", "scales"], ["y"], mode="nearest")],
        {"x": [1, 1, 2, 2]},
        {"y": [1, 1, 4, 4]},
        weights,
    )
    half, _ = halved(proto)
    assert [tensor.data_type for tensor in half.graph.initializer] == [TensorProto.FLOAT]
    agree(proto, half, {"x": np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)})


def test_an_operator_without_a_half_form_computes_in_float32_between_casts() -> None:
    weights: dict[str, np.ndarray] = {"k": np.array([2], np.int64), "w": np.full(5, 0.5, np.float32)}
    nodes = [node("Mul", ["x", "w"], ["a"]), node("TopK", ["a", "k"], ["b", "i"]), node("Relu", ["b"], ["y"])]
    proto = model(nodes, {"x": [3, 5]}, {"y": [3, 2]}, weights)
    half, done = halved(proto)
    assert done.float_operators == ("TopK",)
    agree(proto, half, {"x": np.random.default_rng(0).random((3, 5), np.float32)})


def test_a_weight_of_both_precisions_is_there_twice() -> None:
    weights: dict[str, np.ndarray] = {
        "k": np.array([1], np.int64),
        "w": np.array([[1.0001, 2, 3]], np.float32),
    }
    nodes = [
        node("TopK", ["w", "k"], ["b", "i"]),
        node("Mul", ["x", "w"], ["c"]),
        node("Mul", ["c", "b"], ["y"]),
    ]
    proto = model(nodes, {"x": [2, 3]}, {"y": [2, 3]}, weights)
    half, _ = halved(proto)
    assert sorted(t.data_type for t in half.graph.initializer) == [
        TensorProto.FLOAT,
        TensorProto.INT64,
        TensorProto.FLOAT16,
    ]
    agree(proto, half, {"x": np.ones((2, 3), np.float32)})


def test_numbers_beyond_the_range_are_clipped_and_named_and_infinity_stays() -> None:
    weights = {"mask": np.array([-3.4e38, -np.inf, 1.0], np.float32)}
    half, done = halved(model([node("Add", ["x", "mask"], ["y"])], {"x": [3]}, {"y": [3]}, weights))
    assert done.clipped == ("mask",)
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(half.graph.initializer[0]), np.array([-65504, -np.inf, 1], np.float16)
    )


def test_a_constant_that_would_vanish_becomes_the_least_number_instead() -> None:
    weights = {"eps": np.array([1e-12, 0.0, -1e-12], np.float32)}
    half, _ = halved(model([node("Add", ["x", "eps"], ["y"])], {"x": [3]}, {"y": [3]}, weights))
    np.testing.assert_array_equal(
        onnx.numpy_helper.to_array(half.graph.initializer[0]).view(np.uint16), [1, 0, 0x8001]
    )


def test_integers_and_casts_to_them_are_left_alone() -> None:
    nodes = [
        node("Cast", ["x"], ["i"], to=TensorProto.INT64),
        node("Cast", ["i"], ["f"], to=TensorProto.FLOAT),
        node("Add", ["f", "x"], ["y"]),
    ]
    proto = model(nodes, {"x": [3]}, {"y": [3]})
    half, _ = halved(proto)
    agree(proto, half, {"x": np.array([1.5, 2.5, -3.5], np.float32)})


def test_a_shape_that_is_made_and_a_constant_attribute_become_half() -> None:
    nodes = [node("Shape", ["x"], ["s"]), node("ConstantOfShape", ["s"], ["z"]), node("Constant", [], ["c"], value_float=0.5),
             node("Add", ["z", "c"], ["t"]), node("Add", ["t", "x"], ["y"])]  # fmt: skip
    proto = model(nodes, {"x": [3]}, {"y": [3]})
    half, _ = halved(proto)
    agree(proto, half, {"x": np.array([1.5, 2.5, -3.5], np.float32)})


def test_an_operator_of_a_foreign_domain_without_known_types_is_refused() -> None:
    nodes = [node("Odd", ["x"], ["t"], domain="own"), node("Relu", ["t"], ["y"])]
    proto = model(nodes, {"x": [3]}, {"y": [3]}, imports=[onnx.helper.make_opsetid("own", 1)])
    with pytest.raises(ConverterFailed, match="Odd"):
        halved(proto)
