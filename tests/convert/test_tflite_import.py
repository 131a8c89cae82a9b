"""mlconv's TFLite importer as a whole: names, signatures, cuts, provenance, and what it cannot express."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.convert.tflite_models import TfliteGraph, by_litert, by_onnxruntime, import_job, imported, relative

from mlconv.convert.tflite_import import importer
from mlconv.convert.tflite_to_onnx import run
from mlconv.errors import (
    ConverterFailed,
    Corrupt,
    UnknownOutput,
    UnsupportedOperator,
    UnsupportedType,
)

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

RNG = np.random.default_rng(0)
X = RNG.normal(size=(1, 5, 5, 4)).astype(np.float32)


def convolutions(graph: TfliteGraph, first: int, names: list[str]) -> list[int]:
    """A chain of pointwise convolutions of 4 channels, one for each name."""
    made = []
    for name in names:
        weights = RNG.normal(size=(4, 1, 1, 4)).astype(np.float32)
        made.append(graph.tensor(name, (1, 5, 5, 4)))
        inputs = [first, graph.tensor("", weights.shape, weights), graph.tensor("", (4,), weights[0, 0, 0])]
        graph.operator("CONV_2D", inputs, made[-1:], "Conv2DOptions", strideH=1, strideW=1)
        first = made[-1]
    return made


def signature(
    graph: TfliteGraph, key: str, subgraph: int, inputs: dict[str, int], outputs: dict[str, int]
) -> Any:
    made = graph.schema.SignatureDefT()
    made.signatureKey, made.subgraphIndex = key.encode(), subgraph
    made.inputs, made.outputs = [], []
    for names, put in ((inputs, made.inputs), (outputs, made.outputs)):
        for name, index in names.items():
            entry = graph.schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), index
            put.append(entry)
    return made


def three(path: Path, names: tuple[str, str, str] = ("a", "b", "c")) -> Path:
    graph = TfliteGraph()
    x = graph.tensor("x", X.shape)
    made = convolutions(graph, x, list(names))
    return graph.write(path, [x], made[-1:])


def by_reference(path: Path, feed: np.ndarray, **options: Any) -> list[np.ndarray]:
    """What the reference answers that the conversion hands on."""
    runner = run(import_job(path, **options)).reference
    assert runner is not None
    return list(runner.run({runner.inputs[0].name: feed}).values())


def test_empty_and_repeated_names_are_no_confusion(tmp_path: Path) -> None:
    path = three(tmp_path / "m.tflite", ("", "x", "x"))
    assert relative(by_litert(path, X), by_onnxruntime(imported(path), X)) < 1e-6


@pytest.mark.parametrize("name", ["a:nchw", "c:nchw", "x:nchw"])
def test_a_name_of_another_layout_is_no_confusion(tmp_path: Path, name: str) -> None:
    """``a:nchw`` is what ``a`` is called channels first."""
    import onnx

    graph = TfliteGraph()
    x, a, y = graph.tensor("x", X.shape), graph.tensor("a", X.shape), graph.tensor("y", X.shape)
    constant = graph.tensor(
        "c", X.shape[2:], np.arange(np.prod(X.shape[2:]), dtype=np.float32).reshape(X.shape[2:])
    )
    weights = graph.tensor("w", (X.shape[3], 1, 1, X.shape[3]), np.eye(X.shape[3], dtype=np.float32))
    bias = graph.tensor("bias", (X.shape[3],), np.ones(X.shape[3], np.float32))
    odd = graph.tensor(name, X.shape)
    for given, made in ((x, a), (odd, y)):
        graph.operator("CONV_2D", [given, weights, bias], [made], "Conv2DOptions", strideH=1, strideW=1)
    graph.operator("ADD", [a, constant], [odd], "AddOptions")
    graph.graph.operators = [graph.graph.operators[place] for place in (0, 2, 1)]
    path = graph.write(tmp_path / "m.tflite", [x], [y, odd])
    result = imported(path)
    assert relative(by_litert(path, X), by_onnxruntime(result, X)) < 1e-6
    assert "c:nchw" in {constant.name for constant in onnx.load(result).graph.initializer} or name == "c:nchw"


def test_every_operator_tells_where_it_comes_from(tmp_path: Path) -> None:
    import onnx

    model = onnx.load(imported(three(tmp_path / "m.tflite")))
    told = [
        {entry.key: entry.value for entry in node.metadata_props}
        for node in model.graph.node
        if node.op_type == "Conv"
    ]
    assert [told["mlconv.tflite"] for told in told] == ["0 CONV_2D [1]", "1 CONV_2D [4]", "2 CONV_2D [7]"]


@pytest.mark.parametrize("names", [("b",), ("a", "c"), ("b", "a")])
def test_a_cut_model_is_compared_with_the_file_cut_alike(names: tuple[str, ...], tmp_path: Path) -> None:
    path = three(tmp_path / "m.tflite")
    expected = by_reference(path, X, outputs=names)
    assert relative(expected, by_onnxruntime(imported(path, outputs=names), X)) < 1e-6
    assert len(expected) == len(names)


def test_a_cut_leaves_out_what_the_runtime_does_not_have(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x = graph.tensor("x", X.shape)
    (a,) = convolutions(graph, x, ["a"])
    y = graph.tensor("y", X.shape)
    graph.operator("CUSTOM", [a], [y], custom="Wobble")
    path = graph.write(tmp_path / "m.tflite", [x], [y])
    with pytest.raises(UnsupportedOperator, match=r"custom `Wobble` \(#1\)"):
        imported(path)
    assert (
        relative(by_reference(path, X, outputs=("a",)), by_onnxruntime(imported(path, outputs=("a",)), X))
        < 1e-6
    )


def test_a_cut_keeps_constants_behind_the_flatbuffer(tmp_path: Path) -> None:
    path = three(tmp_path / "m.tflite")
    expected = by_reference(path, X, outputs=("b",))
    outside(path)
    np.testing.assert_array_equal(by_reference(path, X, outputs=("b",)), expected)


def outside(path: Path) -> None:
    """Write the file again with every constant behind the flatbuffer, as ai-edge-quantizer does."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    contents = [bytes(buffer.data) if buffer.data is not None else b"" for buffer in model.buffers]
    for buffer, content in zip(model.buffers, contents, strict=True):
        buffer.data, buffer.offset, buffer.size = None, 2 if content else 0, max(len(content), 0)
    size = len(packed(flatbuffers, model))
    at = size + -size % 16
    data = bytearray(-size % 16)
    for buffer, content in zip(model.buffers, contents, strict=True):
        if content:
            buffer.offset = at + len(data) - (-size % 16)
            data += content + bytes(-len(content) % 16)
    path.write_bytes(packed(flatbuffers, model) + bytes(data))


def packed(flatbuffers: Any, model: Any) -> bytes:
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def two_signatures(path: Path) -> Path:
    graph = TfliteGraph()
    x = graph.tensor("x", X.shape)
    (a,) = convolutions(graph, x, ["a"])
    graph.ends([x], [a])
    first = signature(graph, "one", 0, {"in": x}, {"out": a})
    number = graph.subgraph()
    x = graph.tensor("x", X.shape)
    a, b = convolutions(graph, x, ["inner", "b"])
    graph.ends([x], [b])
    graph.model.signatureDefs = [first, signature(graph, "two", number, {"given": x}, {"told": b})]
    return graph.write(path)


@pytest.mark.parametrize("key", ["one", "two"])
def test_each_signature_is_converted_by_its_own_names(key: str, tmp_path: Path) -> None:
    import onnx

    path = two_signatures(tmp_path / "m.tflite")
    made = imported(path, signature=key)
    graph = onnx.load(made).graph
    assert [graph.input[0].name, graph.output[0].name] == {"one": ["in", "out"], "two": ["given", "told"]}[
        key
    ]
    assert relative(by_reference(path, X, signature=key), by_onnxruntime(made, X)) < 1e-6


def test_a_signature_behind_the_first_subgraph_is_cut_too(tmp_path: Path) -> None:
    path = two_signatures(tmp_path / "m.tflite")
    told = by_reference(path, X, signature="two", outputs=("inner",))
    assert relative(told, by_onnxruntime(imported(path, signature="two", outputs=("inner",)), X)) < 1e-6


@pytest.mark.parametrize("index", [0, 1])
def test_a_signature_may_give_what_its_subgraph_does_not(index: int, tmp_path: Path) -> None:
    graph = TfliteGraph()
    if index:
        x, y = graph.tensor("x", X.shape), graph.tensor("y", X.shape)
        graph.operator("RELU", [x], [y])
        graph.ends([x], [y])
        graph.subgraph()
    x = graph.tensor("x", X.shape)
    made = convolutions(graph, x, ["a", "b", "c"])
    graph.ends([x], made[-1:])
    graph.model.signatureDefs = [signature(graph, "one", index, {"in": x}, {"inner": made[1]})]
    path = graph.write(tmp_path / "m.tflite")
    assert relative(by_reference(path, X), by_onnxruntime(imported(path), X)) < 1e-6


def test_an_output_that_is_not_there_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownOutput, match="`d`") as raised:
        imported(three(tmp_path / "m.tflite"), outputs=("d",))
    assert "`a`" in str(raised.value)


def test_all_operators_without_an_onnx_form_are_named_at_once(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x = graph.tensor("x", X.shape)
    (a,) = convolutions(graph, x, ["a"])
    b, c, d = (graph.tensor(name, X.shape) for name in "bcd")
    graph.operator("CUSTOM", [a], [b], custom="Wobble")
    graph.operator("SKIP_GRAM", [b], [c], "SkipGramOptions")
    graph.operator("CUSTOM", [c], [d], custom="Wobble")
    with pytest.raises(UnsupportedOperator) as raised:
        imported(graph.write(tmp_path / "m.tflite", [x], [d]))
    assert "2 operators of" in raised.value.what
    assert "custom `Wobble` (#1, #3)" in raised.value.what
    assert "SKIP_GRAM (#2" in raised.value.what


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [(AttributeError, ConverterFailed), (RecursionError, ConverterFailed), (ValueError, Corrupt), (MemoryError, MemoryError)],
)  # fmt: skip
def test_what_goes_wrong_inside_is_no_fault_of_the_file(
    kind: type[Exception], wanted: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the next converter is tried; memory that runs out is the worker's to tell."""

    def fails(*_: object) -> None:
        raise kind("no such thing")

    monkeypatch.setattr(importer, "_function", lambda _: fails)
    told = "no such thing" if wanted is MemoryError else r"operator 0 \(CONV_2D\)"
    with pytest.raises(wanted, match=told) as raised:
        imported(three(tmp_path / "m.tflite"))
    if wanted is not MemoryError:
        assert f"{kind.__name__}: no such thing" in str(raised.value)


def test_a_defect_beside_the_operators_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importer, "give_states", None)
    with pytest.raises(ConverterFailed, match=r"mlconv's TFLite importer failed at `.*m\.tflite`"):
        imported(three(tmp_path / "m.tflite"))


def test_a_type_that_the_onnx_form_does_not_take_is_told(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = (graph.tensor(name, (2,), kind="COMPLEX64") for name in "xy")
    graph.operator("STABLEHLO_ADD", [x, x], [y])
    with pytest.raises(UnsupportedOperator, match=r"STABLEHLO_ADD \(#0: its ONNX form takes no complex64\)"):
        imported(graph.write(tmp_path / "m.tflite", [x], [y]))


def test_text_is_no_input(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (1,), kind="STRING"), graph.tensor("y", (1,), kind="STRING")
    graph.operator("RESHAPE", [x], [y], "ReshapeOptions", newShape=[1])
    with pytest.raises(UnsupportedType, match="text or resources"):
        imported(graph.write(tmp_path / "m.tflite", [x], [y]))


@pytest.mark.parametrize("opset", [13, 15, 17])
def test_older_opsets_are_written(opset: int, tmp_path: Path) -> None:
    import onnx

    path = three(tmp_path / "m.tflite")
    made = imported(path, opset=opset)
    assert onnx.load(made).opset_import[0].version == opset
    assert relative(by_litert(path, X), by_onnxruntime(made, X)) < 1e-6


def test_neither_tensorflow_nor_tf2onnx_is_imported(tmp_path: Path) -> None:
    path = three(tmp_path / "m.tflite")
    program = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from tflite_models import imported
imported(Path({str(path)!r}))
print(sorted({{"tensorflow", "tf2onnx", "torch", "keras"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
