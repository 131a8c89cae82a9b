"""TFLite files of any size and any bytes: imported or refused, soon and in little memory."""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.convert.tflite_models import Put, TfliteGraph, one_operator
from tests.convert.tflite_samples import chain, if_calling, import_step, int8_convolution, refused

from mlconv.errors import ConverterFailed, Corrupt, MlconvError, UnsupportedOperator

pytestmark = [pytest.mark.framework("ai_edge_litert", "flatbuffers")]

Mutations = Callable[[bytes], Iterator[bytes]]

PUBLIC = {
    "hand": "Kazuhito00_hand-gesture-recognition-using-mediapipe/model__keypoint_classifier__keypoint_classifier.tflite",
    "lstm": "tensorflow_tflite-micro/tensorflow__lite__micro__examples__mnist_lstm__trained_lstm_int8.tflite",
    "resnet": "mlcommons_tiny/benchmark__training__image_classification__trained_models__pretrainedResnet_quant.tflite",
}

# ------------------------------------------------------------------ size


def test_ten_thousand_operators_are_imported_in_seconds_and_refused_in_one(tmp_path: Path) -> None:
    path = chain(tmp_path / "m.tflite", 10_000)
    begun = time.process_time()
    assert len(import_step(path).model.graph) >= 10_000
    assert time.process_time() - begun < 20  # 2 s on a quiet machine; whatever is quadratic takes minutes
    data = bytearray(path.read_bytes())
    at = data.rfind(struct.pack("<I", 4) + struct.pack("<4i", 1, 2, 2, 2))
    data[at + 4 : at + 8] = struct.pack("<i", -9)
    path.write_bytes(data)
    refused(path, seconds=3)  # 0.5 s on a quiet machine


def test_a_hundred_thousand_tensors_are_read_in_seconds(tmp_path: Path) -> None:
    g = TfliteGraph()
    for number in range(100_000):
        g.tensor(f"t{number}", (1,))
    g.operator("CONV_2D", [0, 1], [99_999])
    path = g.write(tmp_path / "m.tflite", [0], [99_999])
    begun = time.process_time()
    with pytest.raises(Corrupt, match="broken TFLite"):
        import_step(path)
    assert time.process_time() - begun < 20  # 2 s on a quiet machine


def relus(g: TfliteGraph, first: int, names: Iterable[str]) -> int:
    """The last of a chain of RELU, one for each name."""
    g.operator("RELU", [], [])
    code = g.graph.operators.pop().opcodeIndex
    for name in names:
        operator, made = g.schema.OperatorT(), g.tensor(name, (4,))
        operator.opcodeIndex, operator.inputs, operator.outputs = code, [first], [made]
        g.graph.operators.append(operator)
        first = made
    return first


def test_ten_thousand_tensors_of_one_name_are_imported_in_seconds(tmp_path: Path) -> None:
    g = TfliteGraph()
    x = g.tensor("x", (4,))
    path = g.write(tmp_path / "m.tflite", [x], [relus(g, x, ["y"] * 10_000)])
    begun = time.process_time()
    made = import_step(path).model.graph
    assert time.process_time() - begun < 20  # 2 s on a quiet machine; trying each number anew takes a minute
    names = [value.name for node in made for value in node.outputs]
    assert len(set(names)) == len(names) == 10_000


def test_one_long_subgraph_that_is_run_from_everywhere_is_refused_in_seconds(tmp_path: Path) -> None:
    g = TfliteGraph()
    asked, x = g.tensor("asked", (), kind="BOOL"), g.tensor("x", (4,))
    last = x
    for number in range(200):
        made = g.tensor(f"y{number}", (4,))
        g.operator("IF", [asked, last], [made], "IfOptions", thenSubgraphIndex=1, elseSubgraphIndex=1)
        last = made
    g.ends([asked, x], [last])
    g.subgraph()
    given = g.tensor("given", (4,))
    g.ends([given], [relus(g, given, map(str, range(10_000)))])
    begun = time.process_time()
    with pytest.raises(UnsupportedOperator, match="written out, subgraphs are more than 50000 operators"):
        import_step(g.write(tmp_path / "m.tflite"))
    assert time.process_time() - begun < 60  # 10 s on a quiet machine; all of it takes minutes


def constant(*numbers: int) -> Put:
    array = np.array(numbers if len(numbers) > 1 else numbers[0], np.int32)
    return Put(array.shape, "INT32", value=array)


FLOATS = Put((4,), value=np.ones(4, np.float32))
FLOAT = Put((), value=np.float32(1))
MANY = 900_000_000


@pytest.mark.parametrize(
    ("kind", "inputs", "options"),
    [
        ("FILL", [constant(30_000, 30_000), FLOAT], ""),
        ("BROADCAST_TO", [FLOAT, constant(30_000, 30_000)], ""),
        ("TILE", [FLOATS, Put((1,), "INT32", value=np.array([MANY], np.int32))], ""),
        ("RANGE", [constant(0), constant(MANY), constant(1)], ""),
        ("PAD", [FLOATS, Put((1, 2), "INT32", value=np.array([[0, MANY]], np.int32))], ""),
        ("GATHER", [Put((1, 9999), value=np.ones((1, 9999), np.float32)), Put((9999,), "INT32", value=np.zeros(9999, np.int32))], "GatherOptions"),
        ("ONE_HOT", [constant(1, 2), constant(MANY), FLOAT, FLOAT], "OneHotOptions"),
        ("MATRIX_DIAG", [Put((90_000,))], ""),
        ("MUL", [Put((9999, 1), value=np.ones((9999, 1), np.float32)), Put((1, 9999), value=np.ones((1, 9999), np.float32))], "MulOptions"),
        ("SCATTER_ND", [Put((1, 1), "INT32", value=np.zeros((1, 1), np.int32)), Put((1,)), Put((1,), "INT32", value=np.array([MANY], np.int32))], ""),
        ("DILATE", [Put((4,)), Put((1,), "INT32", value=np.array([MANY], np.int32)), FLOAT], ""),
        pytest.param("RESIZE_BILINEAR", [Put((1, 4000, 1, 1), "INT16", 0.1), constant(3999, 1)], "ResizeBilinearOptions", id="int16 resize"),
        pytest.param("RESIZE_BILINEAR", [Put((1, 1, 60_000, 1)), constant(1000, 59_999)], "ResizeBilinearOptions", id="float resize"),
        pytest.param("RNN", [Put((1, 4)), *[Put((4, 4), value=np.ones((4, 4), np.float32))] * 2, FLOATS, Put((1024, 1 << 19), more={"variable": True})], "RNNOptions", id="state"),
        pytest.param("RNN", [Put((1 << 28, 4)), *[Put((4, 4), value=np.ones((4, 4), np.float32))] * 2, FLOATS, Put((1, 4), more={"variable": True})], "RNNOptions", id="state of a batch"),
        ("MEAN", [Put((1, 30_000, 30_000, 1), "INT8", 0.5), constant(1, 2)], "ReducerOptions"),
    ],
    ids=lambda told: told if isinstance(told, str) else "",
)  # fmt: skip
def test_a_few_constants_do_not_become_gigabytes(
    kind: str, inputs: list[Put], options: str, tmp_path: Path
) -> None:
    kinds = {"RANGE": Put((4,), "INT32"), "MEAN": Put((1, 1), "INT8", 0.5)}
    made = Put((4,), "INT16", 0.1) if inputs[0].kind == "INT16" else kinds.get(kind, Put((4,)))
    path = one_operator(tmp_path / "m.tflite", kind, inputs, [made], options)
    tracemalloc.start()
    try:
        survives(path, path.read_bytes())
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


# ------------------------------------------------------------------ hostile bytes


def survives(path: Path, data: bytes) -> bool:
    """Whether the bytes are a model; anything but an error of mlconv's own about them is a defect."""
    path.write_bytes(data)
    try:
        import_step(path)
    except ConverterFailed as error:
        raise AssertionError(error.why) from error
    except MlconvError:
        return False
    return True


def test_every_byte_of_a_quantized_model_may_be_anything(tmp_path: Path) -> None:
    whole = int8_convolution(tmp_path / "m.tflite").read_bytes()
    assert survives(tmp_path / "m.tflite", whole)
    left = []
    for at, byte in enumerate(whole):
        value = (byte ^ 1, 0xFF, 0x80)[at % 3]
        left.append(survives(tmp_path / "m.tflite", whole[:at] + bytes([value]) + whole[at + 1 :]))
    assert any(left)
    assert not all(left)


@pytest.mark.parametrize(
    "make",
    [int8_convolution, lambda path: if_calling(path, 1), lambda path: chain(path, 3)],
    ids=["int8", "if", "float"],
)
def test_hostile_bytes_are_imported_or_refused(
    make: Callable[[Path], Path], mutations: Mutations, tmp_path: Path
) -> None:
    whole = make(tmp_path / "m.tflite").read_bytes()
    assert not all(survives(tmp_path / "m.tflite", data) for data in mutations(whole))


def test_a_public_model_with_hostile_bytes(models: Path, mutations: Mutations, tmp_path: Path) -> None:
    source = (
        models
        / "Kazuhito00_hand-gesture-recognition-using-mediapipe/model__keypoint_classifier__keypoint_classifier.tflite"
    )
    assert not all(survives(tmp_path / "m.tflite", data) for data in mutations(source.read_bytes()))


# ------------------------------------------------------------------ whole files with parts that do not fit

NUMBERS = (0, 1, -1, 2, 3, 7, 127, -128)
SIZES = (0, 1, 2, 3, 5, 1000, 1 << 20, -1)


def disturbed(rng: random.Random, schema: Any, whole: bytes) -> bytes:
    """A file of the same form in which one part is another: an option, an operand, sizes, a type, a scale, an operator's kind."""
    import flatbuffers  # type: ignore[import-untyped]

    model = schema.ModelT.InitFromPackedBuf(whole, 0)
    graph = rng.choice(model.subgraphs)
    operator, tensor = rng.choice(graph.operators), rng.choice(graph.tensors)
    match rng.randrange(7):
        case 0:
            options = operator.builtinOptions or operator.builtinOptions2
            names = (
                [name for name, value in vars(options).items() if isinstance(value, int)]
                if options is not None
                else []
            )
            for name in names[:1] and [rng.choice(names)]:
                setattr(
                    options,
                    name,
                    not getattr(options, name)
                    if isinstance(getattr(options, name), bool)
                    else rng.choice(NUMBERS),
                )
        case 1:
            operator.inputs = [
                rng.choice((index, -1, rng.randrange(len(graph.tensors)))) for index in operator.inputs
            ]
        case 2:
            sizes = [int(size) for size in tensor.shape] if tensor.shape is not None else []
            sizes = [rng.choice((size, rng.choice(SIZES))) for size in sizes]
            tensor.shape, tensor.shapeSignature = (
                rng.choice((sizes, sizes[:-1], [*sizes, 2], sizes[::-1])),
                None,
            )
        case 3:
            tensor.type = rng.randrange(23)
        case 4 if tensor.quantization is not None:
            tensor.quantization.scale = rng.choice((None, [1e-30], [1e30], [0.5] * 3))
        case 5:
            tensor.buffer = rng.randrange(len(model.buffers))
        case _:
            code = model.operatorCodes[operator.opcodeIndex]
            code.builtinCode = rng.randrange(206)
            code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.filterwarnings(
    "ignore::RuntimeWarning"
)  # arithmetic on scales of 1e30, which warns here and gives infinity
@pytest.mark.parametrize("source", ["int8", "if", *PUBLIC])
def test_parts_that_do_not_fit_are_imported_or_refused(source: str, models: Path, tmp_path: Path) -> None:
    from ai_edge_litert import schema_py_generated as schema

    made = {"int8": int8_convolution, "if": lambda path: if_calling(path, 1)}
    whole = (made[source](tmp_path / "m.tflite") if source in made else models / PUBLIC[source]).read_bytes()
    rng = random.Random(len(whole))
    left = [survives(tmp_path / "m.tflite", disturbed(rng, schema, whole)) for _ in range(60)]
    assert any(left)
    assert not all(left)
