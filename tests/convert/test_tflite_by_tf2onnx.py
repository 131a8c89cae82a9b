"""TFLite to ONNX, and the defects of tf2onnx that are put right on the way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.errors import (
    OpsetOutOfReach,
    UnknownOutput,
    UnknownSignature,
    UnsupportedOperator,
    UnsupportedType,
)

sys.path.insert(0, str(Path(__file__).parent))
from tf_models import agree, feeds, job, quantized_cnn
from tflite_models import TfliteGraph

pytestmark = [
    pytest.mark.framework("tensorflow", "tf2onnx"),
    pytest.mark.filterwarnings("ignore"),  # TensorFlow, LiteRT and tf2onnx warn of themselves
]

RNG = np.random.default_rng(0)


def _run(task: Any) -> Any:
    from mlconv.convert.tensorflow_import.tflite import run

    return run(task)


def _dense_on_an_image(path: Path) -> Path:
    """FULLY_CONNECTED with a bias on rank 4, which flattens: where tf2onnx drops the bias."""
    graph = TfliteGraph()
    x = graph.tensor("x", (2, 2, 2, 3))
    w = graph.tensor("w", (4, 6), RNG.standard_normal((4, 6)).astype(np.float32))
    b = graph.tensor("b", (4,), np.array([1, 2, 3, 4], np.float32))
    y = graph.tensor("y", (4, 4))
    graph.operator("FULLY_CONNECTED", [x, w, b], [y], "FullyConnectedOptions")
    return graph.write(path, [x], [y])


def test_a_dense_layer_that_flattens_keeps_its_bias(tmp_path: Path) -> None:
    task = job(_dense_on_an_image(tmp_path / "m.tflite"), "tflite", tmp_path)
    agree(task, _run(task))


def test_beta_scales_what_softmax_takes(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (2, 5)), graph.tensor("y", (2, 5))
    graph.operator("SOFTMAX", [x], [y], "SoftmaxOptions", beta=3.0)
    task = job(graph.write(tmp_path / "m.tflite", [x], [y]), "tflite", tmp_path)
    agree(task, _run(task))


@pytest.mark.parametrize("names", [("x", "", "", "y"), ("x", "same", "same", "same")])
def test_empty_and_repeated_names_are_told_apart(names: tuple[str, ...], tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, a, b, y = (graph.tensor(name, (2, 3)) for name in names)
    graph.operator("RELU", [x], [a])
    graph.operator("NEG", [x], [b], "NegOptions")
    graph.operator("SUB", [a, b], [y], "SubOptions")
    task = job(graph.write(tmp_path / "m.tflite", [x], [y]), "tflite", tmp_path)
    converted = _run(task)
    assert [spec.name for spec in (*converted.inputs, *converted.outputs)] == ["x", names[3]]
    agree(task, converted)


def test_constants_behind_the_flatbuffer_come_into_it(tmp_path: Path) -> None:
    source = _dense_on_an_image(tmp_path / "inline.tflite")
    moved = tmp_path / "outside.tflite"
    moved.write_bytes(_with_buffers_outside(source.read_bytes()))
    task = job(moved, "tflite", tmp_path)
    agree(task, _run(task))


def _with_buffers_outside(data: bytes) -> bytes:
    """Each constant behind the flatbuffer, found by Buffer.offset and Buffer.size, 16-byte aligned."""
    import flatbuffers  # type: ignore[import-untyped]
    from tensorflow.lite.python import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    contents = [None if buffer.data is None else bytes(bytearray(buffer.data)) for buffer in model.buffers]

    def packed(start: int) -> bytes:
        tail = b""
        for buffer, content in zip(model.buffers, contents, strict=True):
            if content:
                buffer.data, buffer.offset, buffer.size = None, start + len(tail), len(content)
                tail += content + bytes(-len(content) % 16)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        head = bytes(builder.Output())
        return head.ljust(start, b"\0") + tail

    return packed(-(-len(packed(1 << 12)) // 16) * 16 + 4096)


def test_every_foreign_operator_is_named_with_its_number(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, a, b, y = (graph.tensor(name, (2, 3)) for name in "xaby")
    graph.operator("RELU", [x], [a])
    graph.operator("CUSTOM", [a], [b], custom="Sinh")
    graph.operator("RELU_0_TO_1", [b], [y])
    source = graph.write(tmp_path / "m.tflite", [x], [y])
    with pytest.raises(UnsupportedOperator) as raised:
        _run(job(source, "tflite", tmp_path))
    assert (
        raised.value.what
        == "2 operators of `m.tflite` have no ONNX form: custom `Sinh` (#1), RELU_0_TO_1 (#2)"
    )
    task = job(source, "tflite", tmp_path, outputs=("a",))
    with pytest.raises(UnknownOutput):
        _run(job(source, "tflite", tmp_path, outputs=("q",)))
    agree(task, _run(task))


def test_an_int8_network_stays_within_the_spread_of_litert_s_own_kernels(tmp_path: Path) -> None:
    import onnxruntime

    task = job(quantized_cnn(tmp_path / "m.tflite"), "tflite", tmp_path)
    converted = _run(task)
    assert (converted.inputs[0].dtype, converted.outputs[0].dtype) == ("int8", "int8")
    assert converted.inputs[0].quantization is not None
    session = onnxruntime.InferenceSession(str(task.output), providers=["CPUExecutionProvider"])
    spread = apart = 0.0
    for seed in range(4):
        fed = feeds(converted.inputs, 1, seed)
        expected = converted.reference.run(fed)
        told = converted.reference.spread(fed)
        assert told is not None
        (name,) = expected
        apart = max(
            apart, float(np.abs(session.run(None, fed)[0].astype(int) - expected[name].astype(int)).max())
        )
        spread = max(spread, float(told[name].max()))
    assert apart <= max(2.0, spread)


def test_a_quantized_file_below_opset_10_is_out_of_reach(tmp_path: Path) -> None:
    with pytest.raises(OpsetOutOfReach, match="it needs 10 or later"):
        _run(job(quantized_cnn(tmp_path / "m.tflite"), "tflite", tmp_path, opset=9))


def test_a_sub_byte_tensor_is_an_unsupported_type(tmp_path: Path) -> None:
    graph = TfliteGraph()
    x, y = graph.tensor("x", (2, 4)), graph.tensor("y", (2, 2))
    w = graph.tensor("w", (2, 4), np.zeros(4, np.uint8), "INT4")
    graph.operator("FULLY_CONNECTED", [x, w, -1], [y], "FullyConnectedOptions")
    with pytest.raises(UnsupportedType, match=r"`w` of `m\.tflite` is int4"):
        _run(job(graph.write(tmp_path / "m.tflite", [x], [y]), "tflite", tmp_path))


def test_a_dynamic_batch_is_named_and_can_be_fixed(models: Path, tmp_path: Path) -> None:
    source = (
        models
        / "mlcommons_tiny/benchmark__training__image_classification__trained_models__pretrainedResnet.tflite"
    )
    task = job(source, "tflite", tmp_path)
    converted = _run(task)
    assert converted.inputs[0].shape == ("batch", 32, 32, 3)
    assert converted.outputs[0].shape == ("batch", 10)
    agree(task, converted)
    fixed = job(source, "tflite", tmp_path, "2,32,32,3")
    converted = _run(fixed)
    assert converted.outputs[0].shape == (2, 10)
    agree(fixed, converted)


@pytest.mark.parametrize("signature", ["add", "sub"])
def test_each_of_two_signatures_converts_under_its_own_names(
    models: Path, signature: str, tmp_path: Path
) -> None:
    task = job(
        models / "google-ai-edge_LiteRT/tflite__testdata__multi_signatures.bin",
        "tflite",
        tmp_path,
        signature=signature,
    )
    converted = _run(task)
    assert [spec.name for spec in (*converted.inputs, *converted.outputs)] == ["x", "output_0"]
    agree(task, converted)
    answer = converted.reference.run({"x": np.array([5.0], np.float32)})["output_0"]
    assert answer == pytest.approx([7.0 if signature == "add" else 2.0])


def test_an_unknown_signature_names_those_there_are(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownSignature, match="no signature `mul`"):
        _run(
            job(
                models / "google-ai-edge_LiteRT/tflite__testdata__multi_signatures.bin",
                "tflite",
                tmp_path,
                signature="mul",
            )
        )


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("google-ai-edge_LiteRT/tflite__testdata__custom_sinh.bin", "custom `Sinh` (#0)"),
        (
            "tensorflow_tflite-micro/tensorflow__lite__micro__examples__mnist_lstm__trained_lstm.tflite",
            "UNIDIRECTIONAL_SEQUENCE_LSTM (#0)",
        ),
    ],
)
def test_a_public_model_with_a_foreign_operator_fails_with_its_name(
    models: Path, name: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedOperator) as raised:
        _run(job(models / name, "tflite", tmp_path))
    assert told in raised.value.what


def test_text_is_an_unsupported_type(models: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedType, match="`input_52`"):
        _run(
            job(models / "google-ai-edge_LiteRT/tflite__testdata__string_input_model.bin", "tflite", tmp_path)
        )


def test_a_constant_of_no_elements_converts(models: Path, tmp_path: Path) -> None:
    task = job(models / "google-ai-edge_LiteRT/tflite__testdata__zero_size_constant.bin", "tflite", tmp_path)
    agree(task, _run(task))


@pytest.mark.parametrize(
    "name",
    [
        "edvardHua_PoseEstimationForMobile/release__hourglass_model__model.tflite",
        "Kazuhito00_hand-gesture-recognition-using-mediapipe/model__keypoint_classifier__keypoint_classifier.tflite",
    ],
)
def test_a_public_float_model_agrees_with_litert(models: Path, name: str, tmp_path: Path) -> None:
    task = job(models / name, "tflite", tmp_path)
    agree(task, _run(task))
