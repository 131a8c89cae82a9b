"""Control flow of TFLite: the importer against LiteRT."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported, lsb, relative

from mlconv.errors import MlconvError, UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

FLOAT = 1e-6
LESS, ADD, MUL = "LESS", "ADD", "MUL"


def branches(path: Path, *, codes: dict[str, Any] | None = None, sizes_differ: bool = False) -> Path:
    """``y = x + x if asked else x * 3``, or a shorter or longer tensor."""
    file, kind = TfliteGraph(), codes or {}
    asked, x, y = (
        file.tensor("asked", (), kind="BOOL"),
        file.tensor("x", (2, 3), **kind),
        file.tensor("y", (2, 3), **kind),
    )
    file.operator("IF", [asked, x], [y], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=2)
    file.ends([asked, x], [y])
    file.subgraph()
    given, made = file.tensor("given", (2, 3), **kind), file.tensor("made", (2, 3), **kind)
    if sizes_differ:
        file.operator("CONCATENATION", [given, given], [made], "ConcatenationOptions", axis=0)
    else:
        file.operator("ADD", [given, given], [made], "AddOptions")
    file.ends([given], [made])
    file.subgraph()
    given, made = file.tensor("given", (2, 3), **kind), file.tensor("made", (2, 3), **kind)
    if codes:
        file.operator("RELU", [given], [made])
    else:
        three = file.tensor("three", (), np.float32(3))
        file.operator("MUL", [given, three], [made], "MulOptions")
    file.ends([given], [made])
    return file.write(path)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("sizes_differ", [False, True])
def test_a_branch_is_taken_as_the_condition_says(tmp_path: Path, sizes_differ: bool, opset: int) -> None:
    path = branches(tmp_path / "m.tflite", sizes_differ=sizes_differ)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    made = imported(path, opset=opset)
    for asked in (True, False):
        feeds = [np.array(asked), x]
        assert relative(by_onnxruntime(made, *feeds), by_litert(path, *feeds)) <= FLOAT


def test_a_branch_of_quantized_tensors_is_exact(tmp_path: Path) -> None:
    path = branches(tmp_path / "m.tflite", codes={"kind": "INT8", "scale": 0.1, "zero_point": -3})
    x = np.array([[-128, -3, 0], [5, 60, 127]], np.int8)
    made = imported(path)
    for asked in (True, False):
        assert lsb(by_onnxruntime(made, np.array(asked), x), by_litert(path, np.array(asked), x)) == 0


def loop(
    path: Path,
    *,
    grows: bool = False,
    codes: dict[str, Any] | None = None,
    rounds: int | None = None,
    **more: Any,
) -> Path:
    """``count`` and a tensor; while count < limit: count += 1, and the tensor is added to the one that passes through."""
    file, kind = TfliteGraph(), codes or {}
    shape = (1, 3)

    def tensors(prefix: str) -> list[int]:
        return [
            file.tensor(f"{prefix}count", (), kind="INT32"),
            file.tensor(f"{prefix}x", shape, **kind, **more),
            file.tensor(f"{prefix}by", shape, **kind, **more),
        ]

    given = tensors("")
    if rounds is not None:
        given[0] = file.tensor("start", (), np.int32(rounds), "INT32")
    made = tensors("last_")
    file.operator("WHILE", given, made, "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    file.ends(given[1:] if rounds is not None else given, made)
    file.subgraph()
    inner = tensors("c_")
    limit, goes_on = file.tensor("limit", (), np.int32(5), "INT32"), file.tensor("goes_on", (), kind="BOOL")
    file.operator("LESS", [inner[0], limit], [goes_on])
    file.ends(inner, [goes_on])
    file.subgraph()
    inner = tensors("b_")
    one, count, y = (
        file.tensor("one", (), np.int32(1), "INT32"),
        file.tensor("next", (), kind="INT32"),
        file.tensor("sum", shape, **kind),
    )
    file.operator("ADD", [inner[0], one], [count], "AddOptions")
    if grows:
        file.operator("CONCATENATION", [inner[1], inner[2]], [y], "ConcatenationOptions", axis=0)
    else:
        file.operator("ADD", [inner[1], inner[2]], [y], "AddOptions")
    file.ends(inner, [count, y, inner[2]])
    return file.write(path)


@pytest.mark.parametrize("opset", [13, 18])
@pytest.mark.parametrize("grows", [False, True])
def test_a_loop_runs_as_often_as_its_condition_says(tmp_path: Path, grows: bool, opset: int) -> None:
    path = loop(tmp_path / "m.tflite", grows=grows)
    made = imported(path, opset=opset)
    for start in (0, 3, 5, 9):
        feeds = [
            np.int32(start).reshape(()),
            np.array([[1, -2, 3]], np.float32),
            np.array([[0.5, 0.25, -7]], np.float32),
        ]
        ours, theirs = by_onnxruntime(made, *feeds), by_litert(path, *feeds)
        assert relative(ours[1:], theirs[1:]) <= FLOAT
        assert lsb(ours[:1], theirs[:1]) == 0


def test_a_loop_of_quantized_tensors_is_exact(tmp_path: Path) -> None:
    path = loop(tmp_path / "m.tflite", codes={"kind": "INT8", "scale": 0.1, "zero_point": 4})
    rng = np.random.default_rng(0)
    made = imported(path)
    for _ in range(20):
        feeds = [np.array(1, np.int32), *(rng.integers(-128, 128, (1, 3)).astype(np.int8) for _ in range(2))]
        assert lsb(by_onnxruntime(made, *feeds), by_litert(path, *feeds)) == 0


def test_a_loop_that_starts_from_a_constant_carries_it(tmp_path: Path) -> None:
    path = loop(tmp_path / "m.tflite", rounds=2)
    feeds = [np.array([[1, -2, 3]], np.float32), np.array([[0.5, 0.25, -7]], np.float32)]
    ours, theirs = by_onnxruntime(imported(path), *feeds), by_litert(path, *feeds)
    assert relative(ours[1:], theirs[1:]) <= FLOAT
    assert lsb(ours[:1], theirs[:1]) == 0


def test_a_loop_of_a_dynamic_batch_answers_as_litert_does(tmp_path: Path) -> None:
    path = loop(tmp_path / "m.tflite", signature=[-1, 3])
    rng = np.random.default_rng(0)
    made = imported(path)
    for batch in (1, 4):
        feeds = [np.array(2, np.int32), *(rng.normal(0, 1, (batch, 3)).astype(np.float32) for _ in range(2))]
        assert relative(by_onnxruntime(made, *feeds)[1:], by_litert(path, *feeds)[1:]) <= FLOAT


@pytest.mark.framework("tensorflow")
def test_loops_of_keras_layers_answer_as_litert_does(tmp_path: Path) -> None:
    """Keras 3 writes recurrent layers as WHILE loops over slices of a sequence."""
    path = tmp_path / "m.tflite"
    script = KERAS.format(path=str(path))
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)
    x = np.random.default_rng(0).normal(0, 1, (2, 6, 5)).astype(np.float32)
    made = imported(path)
    assert relative(by_onnxruntime(made, x), by_litert(path, x)) <= FLOAT


KERAS = """
import tensorflow as tf
tf.random.set_seed(0)
x = tf.keras.Input((6, 5), batch_size=2)
y = tf.keras.layers.Bidirectional(tf.keras.layers.LSTM(7, return_sequences=True))(x)
y = tf.keras.layers.Dense(3)(tf.keras.layers.GRU(4)(y))
made = tf.lite.TFLiteConverter.from_keras_model(tf.keras.Model(x, y)).convert()
open({path!r}, "wb").write(made)
"""


def test_a_branch_inside_a_loop_inside_a_branch_answers_as_litert_does(tmp_path: Path) -> None:
    path = nested(tmp_path / "m.tflite")
    made = imported(path)
    for asked in (True, False):
        for start in (0.5, 2.0, 100.0):
            feeds = [np.array(asked), np.full((2,), start, np.float32)]
            assert relative(by_onnxruntime(made, *feeds), by_litert(path, *feeds)) <= FLOAT


def nested(path: Path) -> Path:
    """If asked: while sum(x) < 50: x is doubled while its sum is below 10, else 3 is added; else x squared."""
    file = TfliteGraph()
    asked, x, y = file.tensor("asked", (), kind="BOOL"), file.tensor("x", (2,)), file.tensor("y", (2,))
    file.operator("IF", [asked, x], [y], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=2)
    file.ends([asked, x], [y])

    def unary(kind: str, options: str, number: float | None) -> None:
        file.subgraph()
        given, made = file.tensor("given", (2,)), file.tensor("made", (2,))
        other = given if number is None else file.tensor("number", (), np.float32(number))
        file.operator(kind, [given, other], [made], options)
        file.ends([given], [made])

    def below(limit: float) -> tuple[int, int]:
        given, total, told = (
            file.tensor("given", (2,)),
            file.tensor("total", ()),
            file.tensor("told", (), kind="BOOL"),
        )
        axis, bound = (
            file.tensor("axis", (1,), np.array([0], np.int32), "INT32"),
            file.tensor("bound", (), np.float32(limit)),
        )
        file.operator("SUM", [given, axis], [total], "ReducerOptions", keepDims=False)
        file.operator("LESS", [total, bound], [told])
        return given, told

    file.subgraph()
    given, made = file.tensor("given", (2,)), file.tensor("made", (2,))
    file.operator("WHILE", [given], [made], "WhileOptions", condSubgraphIndex=3, bodySubgraphIndex=4)
    file.ends([given], [made])
    unary("MUL", "MulOptions", None)
    file.subgraph()
    given, told = below(50)
    file.ends([given], [told])
    file.subgraph()
    given, told = below(10)
    made = file.tensor("made", (2,))
    file.operator("IF", [told, given], [made], "IfOptions", thenSubgraphIndex=5, elseSubgraphIndex=6)
    file.ends([given], [made])
    unary("MUL", "MulOptions", 2.0)
    unary("ADD", "AddOptions", 3.0)
    return file.write(path)


def test_a_subgraph_that_runs_itself_is_an_error(tmp_path: Path) -> None:
    file = TfliteGraph()
    x, y = file.tensor("x", (2,)), file.tensor("y", (2,))
    file.operator("WHILE", [x], [y], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    file.ends([x], [y])
    for _ in range(2):
        file.subgraph()
        x, y = file.tensor("x", (2,)), file.tensor("y", (2,))
        file.operator("WHILE", [x], [y], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
        file.ends([x], [y])
    with pytest.raises(MlconvError, match="runs"):
        imported(file.write(tmp_path / "m.tflite"))


def test_operators_without_a_form_are_named_from_inside_of_a_loop_once(tmp_path: Path) -> None:
    file = TfliteGraph()
    x, y = file.tensor("x", (2,)), file.tensor("y", (2,))
    file.operator("WHILE", [x], [y], "WhileOptions", condSubgraphIndex=1, bodySubgraphIndex=2)
    file.ends([x], [y])
    file.subgraph()
    x, told, bound = (
        file.tensor("x", (2,)),
        file.tensor("told", (1,), kind="BOOL"),
        file.tensor("bound", (1,), np.array([1], np.float32)),
    )
    file.operator("CUSTOM", [x, bound], [told], custom="Sinh")
    file.ends([x], [told])
    file.subgraph()
    x, y = file.tensor("x", (2,)), file.tensor("y", (2,))
    file.operator("CUSTOM", [x], [y], custom="Cosh")
    file.ends([x], [y])
    with pytest.raises(UnsupportedOperator, match=r"Sinh.*Cosh"):
        imported(file.write(tmp_path / "m.tflite"))


def test_subgraphs_that_call_others_twice_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    file, depth = TfliteGraph(), 24
    for level in range(depth):
        asked, x, y = file.tensor("asked", (), kind="BOOL"), file.tensor("x", (2,)), file.tensor("y", (2,))
        if level < depth - 1:
            below = level + 1
            file.operator(
                "IF", [asked, asked, x], [y], "IfOptions", thenSubgraphIndex=below, elseSubgraphIndex=below
            )
        else:
            file.operator("ADD", [x, x], [y], "AddOptions")
        file.ends([asked, x], [y])
        if level < depth - 1:
            file.subgraph()
    with pytest.raises(UnsupportedOperator, match="more than 500 places"):
        imported(file.write(tmp_path / "m.tflite"))
