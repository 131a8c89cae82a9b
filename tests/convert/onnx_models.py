"""Tiny ONNX models, and copies of them that differ in nothing but order and names."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

node = helper.make_node


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str] | None],
    weights: Mapping[str, np.ndarray] | None = None,
    opset: int = 17,
    **more: object,
) -> onnx.ModelProto:
    def value(name: str, shape: Sequence[int | str] | None) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(
        list(nodes),
        "net",
        [value(*item) for item in inputs.items()],
        [value(*item) for item in outputs.items()],
        tensors,
    )
    imports = [helper.make_opsetid("", opset), *(more.pop("imports", ()))]  # type: ignore[misc]
    return helper.make_model(graph, opset_imports=imports, ir_version=more.pop("ir_version", 8), **more)


def residual(opset: int = 17) -> onnx.ModelProto:
    """(batch, 3, 8, 8) to (batch, 5): two convolutions with a shortcut, and a second output."""
    rng = np.random.default_rng(0)
    weights = {name: rng.normal(size=shape).astype(np.float32) for name, shape in
               {"w1": (4, 3, 3, 3), "b1": (4,), "w2": (4, 4, 3, 3), "b2": (4,), "w3": (5, 256), "b3": (5,)}.items()}  # fmt: skip
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["t1"], name="stem", pads=[1, 1, 1, 1]),
        node("Relu", ["t1"], ["t2"], name="relu"),
        node("Conv", ["t2", "w2", "b2"], ["t3"], name="body", pads=[1, 1, 1, 1]),
        node("Add", ["t2", "t3"], ["t4"], name="sum"),
        node("Sigmoid", ["t4"], ["s"], name="gate"),
        node("Flatten", ["t4"], ["t5"], name="flat"),
        node("Gemm", ["t5", "w3", "b3"], ["y"], name="scores", transB=1),
    ]
    return model(
        nodes, {"x": ["batch", 3, 8, 8]}, {"y": ["batch", 5], "s": ["batch", 4, 8, 8]}, weights, opset
    )


def branching(opset: int = 17) -> onnx.ModelProto:
    """An If whose branches use a value of the outer graph and weights of their own."""

    def branch(name: str, factor: float) -> onnx.GraphProto:
        weight = numpy_helper.from_array(np.full((3,), factor, np.float32), f"{name}_w")
        out = helper.make_tensor_value_info(f"{name}_out", TensorProto.FLOAT, ["n", 3])
        return helper.make_graph(
            [node("Mul", ["a", f"{name}_w"], [f"{name}_out"], name=f"{name}_mul")], name, [], [out], [weight]
        )

    nodes = [
        node("Relu", ["x"], ["a"], name="relu"),
        node("ReduceMax", ["x"], ["m"], name="max", keepdims=0),
        node("Cast", ["m"], ["c"], name="cast", to=TensorProto.BOOL),
        node(
            "If",
            ["c"],
            ["y"],
            name="choice",
            then_branch=branch("then", 2.0),
            else_branch=branch("else", 3.0),
        ),
    ]
    return model(nodes, {"x": ["n", 3]}, {"y": ["n", 3]}, opset=opset)


def shuffled(proto: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The same computation with its nodes, weights and opset imports in another order and everything inside renamed."""
    rng, copy = random.Random(seed), onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = copy.graph
    fixed = {put.name for put in (*graph.input, *graph.output)} | {""}
    names: dict[str, str] = {}

    def new(name: str) -> str:
        return name if name in fixed else names.setdefault(name, f"v{rng.getrandbits(40):x}")

    def visit(inner: onnx.GraphProto) -> None:
        for each in inner.node:
            each.name = f"n{rng.getrandbits(40):x}"
            each.input[:] = map(new, each.input)
            each.output[:] = map(new, each.output)
            for attribute in each.attribute:
                if attribute.HasField("g"):
                    visit(attribute.g)
            attributes = rng.sample(list(each.attribute), len(each.attribute))
            del each.attribute[:]
            each.attribute.extend(attributes)
        for tensor in inner.initializer:
            tensor.name = new(tensor.name)
        for value in (
            *inner.value_info,
            *(inner.output if inner is not graph else ()),
            *(inner.input if inner is not graph else ()),
        ):
            value.name = new(value.name)
        for field in (inner.node, inner.initializer, inner.value_info):
            items = rng.sample(list(field), len(field))
            del field[:]
            field.extend(items)

    visit(graph)
    copy.graph.name, copy.producer_name, copy.doc_string = f"g{seed}", f"p{seed}", f"d{seed}"
    copy.producer_name = proto.producer_name
    return copy
