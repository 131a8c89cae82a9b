"""TFLite files: against models written by LiteRT's own schema classes, public models, and broken bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.errors import Corrupt, InputError, MissingFile, UnknownSignature, Unreadable
from mlconv.formats import Description, ModelFile, tflite
from mlconv.formats import tflite_schema as schema
from mlconv.formats.tflite_constants import strings
from mlconv.tensors import Quantization

Mutations = Callable[[bytes], Iterator[bytes]]
Build = Callable[..., bytes]

HAND = "Kazuhito00_hand-gesture-recognition-using-mediapipe/model__keypoint_classifier__keypoint_classifier.tflite"
LITERT = "google-ai-edge_LiteRT/tflite__testdata__"
RESNET = "mlcommons_tiny/benchmark__training__image_classification__trained_models__pretrainedResnet"
LSTM = "tensorflow_tflite-micro/tensorflow__lite__micro__examples__mnist_lstm__trained_lstm"
WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(scope="module")
def fb(needs: Callable[..., None]) -> Any:
    needs("ai_edge_litert", "flatbuffers")
    from ai_edge_litert import schema_py_generated

    return schema_py_generated


def tensor(fb: Any, name: str, shape: list[int], kind: str, buffer: int = 0, **more: Any) -> Any:
    made = fb.TensorT()
    made.name, made.shape, made.type, made.buffer = name, shape, schema.TENSOR_TYPES.index(kind), buffer
    for key, value in more.items():
        setattr(made, key, value)
    return made


def affine(fb: Any, scale: list[float], zero_point: list[int], axis: int = 0) -> Any:
    made = fb.QuantizationParametersT()
    made.scale, made.zeroPoint, made.quantizedDimension = scale, zero_point, axis
    return made


def operator(fb: Any, code: int, inputs: list[int], outputs: list[int], options: Any = None) -> Any:
    made = fb.OperatorT()
    made.opcodeIndex, made.inputs, made.outputs = code, inputs, outputs
    if options is not None:
        made.builtinOptions = options
        made.builtinOptionsType = schema.BUILTIN_OPTIONS.index(type(options).__name__.removesuffix("T"))
    return made


@pytest.fixture(scope="module")
def build(fb: Any) -> Build:
    """``build(tensors, operators, codes, inputs, outputs, buffers)``: the bytes of a model of one subgraph."""
    import flatbuffers  # type: ignore[import-untyped]

    def make(
        tensors: list[Any], operators: list[Any], codes: list[Any], inputs: list[int], outputs: list[int],
        buffers: tuple[bytes, ...] = (), signatures: tuple[Any, ...] = (), metadata: tuple[tuple[str, bytes], ...] = (),
    ) -> bytes:  # fmt: skip
        model, graph = fb.ModelT(), fb.SubGraphT()
        graph.tensors, graph.operators, graph.inputs, graph.outputs = tensors, operators, inputs, outputs
        model.version, model.subgraphs, model.operatorCodes = 3, [graph], [code(fb, name) for name in codes]
        contents = [b"", *buffers, *(data for _, data in metadata)]
        model.buffers = [buffer(fb, content) for content in contents]
        model.signatureDefs = list(signatures)
        model.metadata = []
        for number, (name, _) in enumerate(metadata):
            entry = fb.MetadataT()
            entry.name, entry.buffer = name.encode(), 1 + len(buffers) + number
            model.metadata.append(entry)
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    return make


def code(fb: Any, name: str) -> Any:
    made = fb.OperatorCodeT()
    custom = name not in schema.BUILTIN_OPERATORS
    number = schema.BUILTIN_OPERATORS.index("CUSTOM" if custom else name)
    made.builtinCode, made.deprecatedBuiltinCode, made.version = number, min(number, 127), 2
    made.customCode = name.encode() if custom else None
    return made


def buffer(fb: Any, content: bytes) -> Any:
    made = fb.BufferT()
    made.data = list(content) if content else None
    return made


def describe(path: Path, signature: str | None = None) -> Description:
    return tflite.describe(ModelFile(str(path), path, "tflite"), signature)


@pytest.fixture
def dense(fb: Any, build: Build) -> bytes:
    """y = relu(x w + b), x of (batch, 4), w of (3, 4)."""
    options = fb.FullyConnectedOptionsT()
    options.fusedActivationFunction = schema.ACTIVATION.index("RELU")
    tensors = [
        tensor(fb, "x", [1, 4], "float32", shapeSignature=[-1, 4]), tensor(fb, "w", [3, 4], "float32", 1),
        tensor(fb, "b", [3], "float32", 2), tensor(fb, "y", [1, 3], "float32", shapeSignature=[-1, 3]),
    ]  # fmt: skip
    return build(
        tensors, [operator(fb, 0, [0, 1, 2], [3], options)], ["FULLY_CONNECTED"], [0], [3],
        (WEIGHT.tobytes(), np.ones(3, np.float32).tobytes()), metadata=((tflite.PROVENANCE, b'{"source": "x.pt2"}'),),
    )  # fmt: skip


def test_a_model_is_read_as_it_was_written(dense: bytes) -> None:
    model = tflite.parse(dense)
    graph = model.subgraphs[0]
    dense_operator = graph.operators[0]
    assert (dense_operator.name, dense_operator.version, dense_operator.activation) == (
        "FULLY_CONNECTED",
        2,
        "RELU",
    )
    assert dense_operator.option("keep_num_dims") is False
    assert dense_operator.option("no_such_option", 9) == 9
    weight = graph.input(dense_operator, 1)
    assert weight is not None
    np.testing.assert_array_equal(weight.array(), WEIGHT)
    assert graph.input(dense_operator, 7) is None


def test_a_model_describes_itself(dense: bytes, tmp_path: Path) -> None:
    path = tmp_path / "dense.bin"
    path.write_bytes(dense)
    told = describe(path)
    assert [(spec.name, spec.shape, spec.dtype) for spec in told.inputs] == [("x", (None, 4), "float32")]
    assert [(spec.name, spec.shape) for spec in told.outputs] == [("y", (None, 3))]
    assert (told.operators, told.parameters, told.macs) == ({"FULLY_CONNECTED": 1}, 3 * 4 + 3, 3 * 4)
    assert told.quantization is None
    assert told.provenance == {"source": "x.pt2"}
    assert told.bytes == len(dense)


def test_the_newer_operator_code_wins_over_the_old_byte(fb: Any, build: Build) -> None:
    tensors = [tensor(fb, "x", [2], "float32"), tensor(fb, "y", [2], "float32")]
    data = build(tensors, [operator(fb, 0, [0], [1])], ["GELU"], [0], [1])
    assert tflite.parse(data).counts() == {"GELU": 1}


def test_a_custom_operator_has_its_own_name(fb: Any, build: Build, tmp_path: Path) -> None:
    tensors = [tensor(fb, "x", [2], "float32"), tensor(fb, "y", [2], "float32")]
    path = tmp_path / "custom.tflite"
    path.write_bytes(build(tensors, [operator(fb, 0, [0], [1])], ["Wobble"], [0], [1]))
    told = describe(path)
    assert told.operators == {"CUSTOM:Wobble": 1}
    assert told.notes == ("MACs leave out custom operators: Wobble.",)


def test_an_input_that_indexes_a_table_has_its_rows_as_range(fb: Any, build: Build) -> None:
    tensors = [
        tensor(fb, "ids", [1, 5], "int32"), tensor(fb, "flat", [5], "int32"), tensor(fb, "table", [7, 2], "float32", 1),
        tensor(fb, "y", [5, 2], "float32"), tensor(fb, "other", [1], "int32"),
    ]  # fmt: skip
    operators = [operator(fb, 0, [0], [1]), operator(fb, 1, [2, 1], [3])]
    data = build(
        tensors, operators, ["RESHAPE", "GATHER"], [0, 4], [3], (np.zeros((7, 2), np.float32).tobytes(),)
    )
    assert tflite.value_ranges(tflite.parse(data)) == {"ids": (0, 6)}


@pytest.mark.parametrize(
    ("kind", "stored", "expected"),
    [
        ("int4", b"\x1f\x08", [-1, 1, -8]),
        ("uint4", b"\x1f\x08", [15, 1, 8]),
        ("bfloat16", b"\x80\x3f\0\xc0\0\0", [1, -2, 0]),
    ],
)
def test_small_types_are_unpacked(
    kind: str, stored: bytes, expected: list[int], fb: Any, build: Build
) -> None:
    tensors = [tensor(fb, "c", [3], kind, 1), tensor(fb, "x", [1], "float32")]
    model = tflite.parse(build(tensors, [], [], [1], [1], (stored,)))
    assert model.subgraphs[0].tensors[0].array().tolist() == expected


def test_a_tensor_without_elements_that_nothing_computes_is_a_constant(fb: Any, build: Build) -> None:
    tensors = [
        tensor(fb, "x", [1], "float32"), tensor(fb, "shape", [0], "int32", 1), tensor(fb, "y", [], "float32"), tensor(fb, "none", [0], "float32")
    ]  # fmt: skip
    data = build(tensors, [operator(fb, 0, [0, 1], [2])], ["RESHAPE"], [0, 3], [2], (b"",))
    read = tflite.parse(data).subgraphs[0].tensors
    assert [told.is_constant for told in read] == [False, True, False, False]
    assert read[1].array().shape == (0,)


def test_scales_of_every_channel_are_kept_and_not_told_as_one(fb: Any, build: Build, tmp_path: Path) -> None:
    per_tensor, per_channel = affine(fb, [0.5], [-3]), affine(fb, [0.5, 0.25], [0, 0], axis=1)
    tensors = [
        tensor(fb, "x", [2, 2], "int8", quantization=per_tensor),
        tensor(fb, "z", [2, 2], "int8", quantization=per_channel),
    ]
    path = tmp_path / "q.tflite"
    path.write_bytes(data := build(tensors, [], [], [0, 1], [0]))
    assert [spec.quantization for spec in describe(path).inputs] == [Quantization(0.5, -3), None]
    channels = tflite.parse(data).subgraphs[0].tensors[1].quantization
    assert channels is not None
    assert (channels.scale, channels.axis) == ((0.5, 0.25), 1)


def test_the_default_signature_names_inputs_and_outputs(models: Path) -> None:
    told = describe(models / f"{LSTM}.tflite")
    assert ([spec.name for spec in told.inputs], told.signatures) == (["fixed_input"], ("serving_default",))


def test_each_signature_has_its_own_names(models: Path) -> None:
    path = models / f"{LITERT}multi_signatures.bin"
    assert describe(path, "sub").signatures == ("add", "sub")
    with pytest.raises(UnknownSignature, match="no signature `mul`"):
        describe(path, "mul")


def test_a_string_constant_is_read() -> None:
    data = b"\2\0\0\0\x10\0\0\0\x11\0\0\0\x13\0\0\0abc"
    held = tflite.Tensor(0, "s", (2,), (2,), "str", 1, memoryview(data))
    assert strings(held) == [b"a", b"bc"]
    with pytest.raises(Corrupt):
        strings(tflite.Tensor(0, "s", (2,), (2,), "str", 1, memoryview(data[:15])))


def test_quantization_tells_full_from_dynamic_from_none(models: Path) -> None:
    kinds = [describe(models / f"{RESNET}{part}.tflite").quantization for part in ("", "_quant")]
    assert kinds == [None, {"kind": "full", "dtypes": {"int32": 10, "int8": 27}}]
    speech = (
        models
        / "mlcommons_tiny/benchmark__training__keyword_spotting__trained_models__kws_ref_model_float32.tflite"
    )
    assert describe(speech).quantization == {"kind": "dynamic", "dtypes": {"float32": 29, "int8": 5}}


def test_macs_are_those_that_were_published(models: Path) -> None:
    # MobileNetV2: "300M" multiply-adds (Sandler et al. 2018, table 4); MLPerf Tiny ResNet-8: 12.5 M (Banbury et al. 2021).
    assert describe(models / "google-coral_test_data/mobilenet_v2_1.0_224_quant.tflite").macs == 300_775_552
    assert describe(models / f"{RESNET}.tflite").macs == 12_501_632


def test_an_lstm_multiplies_its_matrices_at_every_step(models: Path) -> None:
    # 28 steps of 4 gates of (28 + 20) by 20, then 20 by 10 * 28 steps kept as one vector of 28 * 20
    told = describe(models / f"{LSTM}.tflite")
    assert told.macs == 28 * 4 * (28 + 20) * 20 + 28 * 20 * 10


def test_a_model_for_the_edge_tpu_is_known_and_hides_its_weights(models: Path) -> None:
    compiled = models / "google-coral_coralmicro/models__testconv1-edgetpu.tflite"
    assert tflite.is_edgetpu(compiled)
    assert not tflite.is_edgetpu(models / HAND)
    told = describe(compiled)
    assert (told.operators, told.parameters, told.macs) == ({"CUSTOM:edgetpu-custom-op": 1}, None, None)


def test_metadata_of_the_author_is_told(models: Path) -> None:
    told = describe(models / "google-coral_test_data/mobilenet_v1_0.25_128_quant.tflite")
    assert told.metadata["name"] == "ImageClassifier"
    assert told.metadata["min_runtime_version"] == "1.5.0"


def test_public_models_are_what_their_index_says(models: Path) -> None:
    broken = ("m068", "m087")
    rows = [
        row
        for row in json.loads((models / "index.json").read_text())
        if row["format"] == "tflite" and row["id"] not in broken
    ]
    assert rows
    for row in rows:
        told = describe(models / row["local"])
        asked = dict(entry.rsplit("x", 1) for entry in row.get("op_types") or [])
        assert {name: str(told.operators.get(name)) for name in asked} == asked, row["id"]
        if not row.get("signatures"):
            assert [put["name"] for put in row["inputs"]] == [spec.name for spec in told.inputs], row["id"]
            assert [put["name"] for put in row["outputs"]] == [spec.name for spec in told.outputs], row["id"]
        for put, spec in zip(row["inputs"], told.inputs, strict=True):
            assert put["dtype"].replace("string", "str") == spec.dtype, row["id"]
            if "scale" in put:
                assert spec.quantization is not None
                assert spec.quantization.scale == pytest.approx(put["scale"]), row["id"]
                assert spec.quantization.zero_point == put["zero_point"], row["id"]


def test_tensors_are_as_litert_sees_them(models: Path, needs: Callable[..., None]) -> None:
    needs("ai_edge_litert")
    from ai_edge_litert.interpreter import Interpreter

    path = models / f"{RESNET}_quant.tflite"
    interpreter = Interpreter(model_path=str(path))
    seen = {row["index"]: row for row in interpreter.get_tensor_details()}
    for own in tflite.read(path).subgraphs[0].tensors:
        row = seen[own.index]
        assert (own.name, list(own.shape), own.dtype) == (
            row["name"],
            row["shape"].tolist(),
            np.dtype(row["dtype"]).name,
        )
        scales = own.quantization.scale if own.quantization else ()
        np.testing.assert_array_equal(
            np.asarray(scales, np.float32), row["quantization_parameters"]["scales"]
        )


@pytest.mark.parametrize(
    "name", ["java__src__testdata__invalid_model.bin", "testdata__test_model_broken.bin"]
)
def test_what_is_no_model_is_corrupt(name: str, models: Path) -> None:
    with pytest.raises(Corrupt):
        describe(models / f"google-ai-edge_LiteRT/tflite__{name}")


def test_what_is_no_file_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(MissingFile):
        describe(tmp_path / "none.tflite")
    with pytest.raises(Unreadable):
        describe(tmp_path)
    (tmp_path / "empty").touch()
    with pytest.raises(Corrupt):
        describe(tmp_path / "empty")


@pytest.mark.parametrize(
    "name", [HAND, f"{LITERT}multi_signatures.bin", f"{LSTM}_int8.tflite", f"{LITERT}string_input_model.bin"]
)
def test_hostile_bytes_are_described_or_refused(
    name: str, models: Path, mutations: Mutations, tmp_path: Path
) -> None:
    path, refused = tmp_path / "hostile.tflite", 0
    for data in mutations((models / name).read_bytes()):
        path.write_bytes(data)
        try:
            json.dumps(describe(path).operators)
        except InputError:
            refused += 1
    assert refused


def test_options_have_the_numbers_of_the_schema(fb: Any) -> None:
    for table in {*schema.BUILTIN_OPTIONS, *schema.BUILTIN_OPTIONS_2} - {"NONE"}:
        for name, option in schema.option_fields(table).items():
            slots = getattr(fb, f"{table}Add{name.title().replace('_', '')}", None)
            assert slots is not None, f"{table}.{name}"
            seen: list[int] = []
            slots(_Recorder(seen), 0)
            assert seen == [option.field], f"{table}.{name}"


class _Recorder:
    """Stands for flatbuffers' builder and notes the slot that is written."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda slot, *_: self.seen.append(slot)
