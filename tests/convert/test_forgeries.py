"""Converters that are wrong on purpose: none of them may be called right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv import registry
from mlconv.convert.job import Options
from mlconv.convert.pipeline import Call, convert
from mlconv.registry import Converter

FORGER = '''
import json, onnx
from onnx import TensorProto, helper
from mlconv.convert.job import Converted
from mlconv.runners.onnx_session import OnnxSession

def run(job):
    model = onnx.load(job.source.path)
    forge(model.graph, json.loads(dict(job.options.metadata)["lie"]))
    onnx.save(model, job.output)
    runner = OnnxSession(job.output)  # it says that its own work is the source
    return Converted(runner.inputs, runner.outputs, runner, "the forger", ("onnx",))

def forge(graph, lie):
    nodes = {node.name: node for node in graph.node}
    def after(nodes_, last):
        """Put operators behind the graph: `y` becomes `inner`."""
        for node in graph.node:
            for i, name in enumerate(node.output):
                if name == "y":
                    node.output[i] = "inner"
        graph.node.extend(nodes_)
    if lie == "a clip that 0..1 never reaches":
        nodes["clip"].op_type = "Relu"
        del nodes["clip"].input[1:]
    elif lie == "a lost relu":
        nodes["clip"].op_type = "Identity"
        del nodes["clip"].input[1:]
    elif lie == "rows from the fourth on are the third":
        graph.initializer.extend([helper.make_tensor("last", TensorProto.INT64, [], [2])])
        after([helper.make_node("Shape", ["inner"], ["shape"], end=1), helper.make_node("Squeeze", ["shape"], ["rows"]),
               helper.make_node("Range", ["nought", "rows", "one"], ["all"]), helper.make_node("Min", ["all", "last"], ["kept"]),
               helper.make_node("Gather", ["inner", "kept"], ["y"])], None)
        graph.initializer.extend([helper.make_tensor("nought", TensorProto.INT64, [], [0]), helper.make_tensor("one", TensorProto.INT64, [], [1])])
    elif lie == "half precision that nobody asked for":
        after([helper.make_node("Cast", ["inner"], ["half"], to=TensorProto.FLOAT16),
               helper.make_node("Cast", ["half"], ["y"], to=TensorProto.FLOAT)], None)
    elif lie == "a baked-in batch":
        graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    elif lie == "another dtype":
        after([helper.make_node("Cast", ["inner"], ["y"], to=TensorProto.DOUBLE)], None)
        graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    elif lie == "outputs in another order":
        a, b = list(graph.output)
        del graph.output[:]
        graph.output.extend([b, a])
    elif lie == "an output that was not asked for":
        graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    elif lie == "a lost output":
        del graph.output[1]
    elif lie == "labels one too high":
        nodes["label"].output[0] = "index"
        graph.initializer.extend([helper.make_tensor("plus", TensorProto.INT64, [], [1])])
        graph.node.append(helper.make_node("Add", ["index", "plus"], ["label"]))
    elif lie == "a small lost bias":
        nodes["scores"].op_type = "MatMul"
        del nodes["scores"].input[2:]
    else:
        assert lie == "none", lie
'''
LIES = [line.split('"')[1] for line in FORGER.splitlines() if "lie == " in line and "none" not in line]


@pytest.fixture
def forge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """``forge(lie)`` converts a small network by the forger, and returns the conversion."""
    rng = np.random.default_rng(0)
    weights = {
        "w": rng.normal(size=(6, 5)).astype(np.float32), "b": np.full(5, 1e-3, np.float32),
        "low": np.array(0, np.float32), "high": np.array(6, np.float32),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Clip", ["x", "low", "high"], ["h"], name="clip"), node("Gemm", ["h", "w", "b"], ["y"], name="scores"),
        node("ArgMax", ["y"], ["label"], name="label", axis=1, keepdims=0),
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])
    outputs = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5]),
        helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
    ]
    graph = helper.make_graph(
        nodes, "net", [x], outputs, [numpy_helper.from_array(a, n) for n, a in weights.items()]
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
        tmp_path / "net.onnx",
    )
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "forger.py").write_text(FORGER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "jobs"), prepend=":")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(registry, "converters", lambda: (Converter("forger", "onnx", "onnx", "forger:run"),))

    def run(lie: str) -> object:
        return convert("net.onnx", "onnx", Options(metadata=(("lie", f'"{lie}"'),)), Call("out.onnx"))

    return run


def test_the_forger_is_honest_where_it_is_asked_to_be(forge: Callable[[str], object]) -> None:
    conversion = forge("none")
    assert conversion.ok, conversion.failure  # type: ignore[attr-defined]


@pytest.mark.parametrize("lie", LIES)
def test_a_wrong_conversion_is_never_called_right(lie: str, forge: Callable[[str], object]) -> None:
    conversion = forge(lie)
    assert not conversion.ok  # type: ignore[attr-defined]
    assert not Path("out.onnx").exists()
