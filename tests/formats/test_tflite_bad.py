"""TFLite files that contradict themselves: a clear error within a second that names the part."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.convert.tflite_models import Put, TfliteGraph, one_operator
from tests.convert.tflite_samples import if_calling, import_step, refused

from mlconv.errors import UnsupportedOperator, UnsupportedType

pytestmark = [pytest.mark.framework("ai_edge_litert", "flatbuffers")]


def vector(graph: TfliteGraph, name: str, **more: Any) -> int:
    return graph.tensor(name, (2,), **more)


# ------------------------------------------------------------------ the order of computing


def test_an_operator_that_uses_what_a_later_one_computes(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, a, b = vector(g, "x"), vector(g, "a"), vector(g, "b")
    g.operator("ADD", [x, b], [a])
    g.operator("RELU", [a], [b])
    told = refused(g.write(tmp_path / "m.tflite", [x], [b]))
    assert "operator 0 (ADD) takes tensor 2 (`b`), which is computed only later, by operator 1" in told


def test_an_operator_that_uses_what_nothing_computes(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, a, b = vector(g, "x"), vector(g, "a"), vector(g, "b")
    g.operator("ADD", [x, b], [a])
    assert "takes tensor 2 (`b`), which nothing computes" in refused(g.write(tmp_path / "m.tflite", [x], [a]))


def test_an_output_that_nothing_computes(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, a = vector(g, "x"), vector(g, "a")
    assert "the output tensor 1 (`a`) is a tensor which nothing computes" in refused(
        g.write(tmp_path / "m.tflite", [x], [a])
    )


def test_a_tensor_that_is_computed_twice(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, a = vector(g, "x"), vector(g, "a")
    g.operator("RELU", [x], [a])
    g.operator("TANH", [x], [a])
    assert "operator 1 (TANH) computes tensor 1 (`a`), which operator 0 computed already" in refused(
        g.write(tmp_path / "m.tflite", [x], [a])
    )


def test_an_input_or_a_constant_that_is_computed(tmp_path: Path) -> None:
    for constant, word in ((None, "an input"), (np.ones(2, np.float32), "a constant")):
        g = TfliteGraph()
        x, a, y = vector(g, "x"), vector(g, "a", constant=constant), vector(g, "y")
        g.operator("TANH", [x], [a])
        g.operator("ADD", [x, a], [y])
        assert f"which is {word}" in refused(
            g.write(tmp_path / "m.tflite", [x, *([a] if constant is None else [])], [y])
        )


# ------------------------------------------------------------------ operators


@pytest.mark.parametrize(
    ("kind", "inputs", "told"),
    [
        ("ADD", [0], "takes 1 tensors, and LiteRT wants 2"),
        ("RELU", [0, 0], "takes 2 tensors, and LiteRT wants 1"),
        ("MUL", [0, -1], "operator 0 (MUL) lacks its operand 1"),
        ("CONCATENATION", [], "takes 0 tensors, and LiteRT wants at least 1"),
        ("FULLY_CONNECTED", [0, 0, 0, 0], "takes 4 tensors, and LiteRT wants at most 3"),
    ],
)
def test_operators_with_too_few_or_too_many_operands(
    kind: str, inputs: list[int], told: str, tmp_path: Path
) -> None:
    g = TfliteGraph()
    x, y = vector(g, "x"), vector(g, "y")
    g.operator(kind, inputs, [y])
    assert told in refused(g.write(tmp_path / "m.tflite", [x], [y]))


def test_too_many_outputs(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, y, z = vector(g, "x"), vector(g, "y"), vector(g, "z")
    g.operator("RELU", [x], [y, z])
    assert "gives 2 tensors, and LiteRT wants 1" in refused(g.write(tmp_path / "m.tflite", [x], [y]))


def test_another_operator_s_options(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "SOFTMAX", [Put((1, 4))], [Put((1, 4))], "Pool2DOptions", strideH=2
    )
    assert "operator 0 (SOFTMAX) has the options of another operator: Pool2DOptions" in refused(path)


def test_operands_that_contradict_each_other_are_told_with_the_operator(tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "ADD", [Put((2,)), Put((3,))], [Put((3,))], "AddOptions")
    assert "operator 0 (ADD) of `m.tflite` contradicts itself or its operands" in refused(path)


def test_unknown_operator_codes_are_all_named(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, a, y = vector(g, "x"), vector(g, "a"), vector(g, "y")
    g.operator("RELU", [x], [a])
    g.operator("RELU", [a], [y])
    for code, number in zip(g.model.operatorCodes, (250, 1_000_000), strict=True):
        code.builtinCode = number
    with pytest.raises(UnsupportedOperator, match=r"BUILTIN_250 \(#0\), BUILTIN_1000000 \(#1\)"):
        import_step(g.write(tmp_path / "m.tflite", [x], [y]))


def test_a_version_that_may_mean_more_is_not_guessed(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D", [Put((1, 4, 4, 3)), Put((8, 1, 1, 3), value=np.ones((8, 1, 1, 3), np.float32))],
        [Put((1, 4, 4, 8))], "Conv2DOptions", strideH=1, strideW=1, version=99,
    )  # fmt: skip
    with pytest.raises(UnsupportedOperator, match=r"CONV_2D \(#0: version 99"):
        import_step(path)


# ------------------------------------------------------------------ subgraphs and signatures


def test_a_subgraph_that_runs_itself(tmp_path: Path) -> None:
    assert "operator 0 (IF) of subgraph 0 runs subgraph 0, which runs it" in refused(
        if_calling(tmp_path / "m.tflite", 0)
    )


@pytest.mark.parametrize("number", [2, 1 << 30, -7])
def test_a_subgraph_that_is_not_there(number: int, tmp_path: Path) -> None:
    assert f"runs subgraph {number} of 2" in refused(if_calling(tmp_path / "m.tflite", number))


def test_an_operator_that_does_not_say_what_it_runs(tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "WHILE", [Put((2,))], [Put((2,))])
    assert "operator 0 (WHILE) does not say which subgraph it runs" in refused(path)


def test_subgraphs_that_run_each_other_without_end(tmp_path: Path) -> None:
    g = TfliteGraph()
    for number in range(3):
        if number:
            g.subgraph()
        x, y = vector(g, f"x{number}"), vector(g, f"y{number}")
        g.operator("CALL", [x], [y], "CallOptions", subgraph=number % 2 + 1)
        g.ends([x], [y])
    assert "operator 0 (CALL) of subgraph 2 runs subgraph 1, which runs it" in refused(
        g.write(tmp_path / "m.tflite")
    )


def test_subgraphs_that_are_nested_too_deep(tmp_path: Path) -> None:
    g = TfliteGraph()
    for number in range(2000):
        if number:
            g.subgraph()
        x, y = vector(g, "x"), vector(g, "y")
        g.operator("CALL", [x], [y], "CallOptions", subgraph=number + 1) if number < 1999 else g.operator(
            "RELU", [x], [y]
        )
        g.ends([x], [y])
    assert "call each other more than" in refused(g.write(tmp_path / "m.tflite"))


def test_a_signature_that_takes_what_is_no_input(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, a, y = vector(g, "x"), vector(g, "a"), vector(g, "y")
    g.operator("RELU", [x], [a])
    g.operator("TANH", [a], [y])
    signature = g.schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    signature.inputs, signature.outputs = [named(g, "in", a)], [named(g, "out", y)]
    g.model.signatureDefs = [signature]
    assert "its signature takes tensor 1 (`a`), which is no input of subgraph 0" in refused(
        g.write(tmp_path / "m.tflite", [x], [y])
    )


def named(g: TfliteGraph, name: str, index: int) -> Any:
    made = g.schema.TensorMapT()
    made.name, made.tensorIndex = name.encode(), index
    return made


# ------------------------------------------------------------------ tensors


@pytest.mark.parametrize("shape", [(-5, 2), (1 << 31) - 1, [(1 << 31) - 1] * 4])
def test_sizes_that_no_tensor_has(shape: Any, tmp_path: Path) -> None:
    sizes = shape if isinstance(shape, (tuple, list)) else (shape, shape, shape)
    path = one_operator(tmp_path / "m.tflite", "RELU", [Put(sizes)], [Put(sizes)])
    assert f"has the sizes {list(sizes)}" in refused(path)


def test_a_constant_whose_buffer_is_too_short(tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "ADD", [Put((4,)), Put((4,), value=np.ones(3, np.float32))], [Put((4,))]
    )
    assert "has 12 bytes, and its sizes [4] need 16" in refused(path)


def test_a_buffer_that_is_not_there(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, w, y = vector(g, "x"), vector(g, "w", constant=np.ones(2, np.float32)), vector(g, "y")
    g.graph.tensors[w].buffer = 77
    g.operator("ADD", [x, w], [y])
    assert "buffer 77 of 2" in refused(g.write(tmp_path / "m.tflite", [x], [y]))


def test_a_tensor_that_is_not_there(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, y = vector(g, "x"), vector(g, "y")
    g.operator("RELU", [5], [y])
    assert "operator 0 (RELU) refers to tensor 5 of 2" in refused(g.write(tmp_path / "m.tflite", [x], [y]))


def test_an_input_of_a_type_that_no_runtime_has(tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "CAST", [Put((4,), "INT4")], [Put((4,))])
    with pytest.raises(UnsupportedType, match="int4"):
        import_step(path)


@pytest.mark.parametrize("scale", [0.0, -1.0, math.nan, math.inf])
def test_scales_that_are_no_scale(scale: float, tmp_path: Path) -> None:
    path = one_operator(tmp_path / "m.tflite", "RELU", [Put((4,), "INT8", scale)], [Put((4,), "INT8", 1.0)])
    assert f"is quantized with the scale {scale:g}" in refused(path)


@pytest.mark.parametrize(
    ("kind", "zero_point"), [("INT8", 128), ("UINT8", -1), ("INT16", 1 << 40), ("INT8", -(1 << 63))]
)
def test_zero_points_that_the_type_does_not_hold(kind: str, zero_point: int, tmp_path: Path) -> None:
    path = one_operator(
        tmp_path / "m.tflite", "RELU", [Put((4,), kind, 1.0, zero_point)], [Put((4,), kind, 1.0)]
    )
    assert f"is quantized with the zero point {zero_point}" in refused(path)


@pytest.mark.parametrize(
    ("scales", "axis", "told"),
    [([0.5, 0.5], 0, "2 scales along axis 0, which has 3 slices"), ([0.5, 0.5, 0.5], 4, "along axis 4 of 4"),
     ([0.5, 0.5, 0.5], -1, "along axis -1 of 4")],
)  # fmt: skip
def test_scales_that_do_not_fit_their_axis(scales: list[float], axis: int, told: str, tmp_path: Path) -> None:
    weights = np.ones((3, 1, 1, 2), np.int8)
    path = one_operator(
        tmp_path / "m.tflite", "CONV_2D", [Put((1, 4, 4, 2), "INT8", 0.5), Put(weights.shape, "INT8", scales, axis=axis, value=weights)],
        [Put((1, 4, 4, 3), "INT8", 0.5)], "Conv2DOptions", strideH=1, strideW=1,
    )  # fmt: skip
    assert told in refused(path)


def test_as_many_zero_points_as_scales(tmp_path: Path) -> None:
    g = TfliteGraph()
    x, y = vector(g, "x", kind="INT8", scale=[0.5, 0.5]), vector(g, "y")
    g.graph.tensors[x].quantization.zeroPoint = [0, 0, 0]
    g.operator("DEQUANTIZE", [x], [y])
    assert "tensor 0 has 2 scales and 3 zero points" in refused(g.write(tmp_path / "m.tflite", [x], [y]))
