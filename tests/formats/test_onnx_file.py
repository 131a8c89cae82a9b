"""ONNX files: recognised by their fields, described without their weights, never followed out of their folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlconv.errors import Corrupt, InputError, PathEscape, UnknownSignature
from mlconv.formats import Description, ModelFile, onnx_file, onnx_macs, onnx_skeleton

Mutations = Callable[[bytes], Iterator[bytes]]
Shapes = dict[str, list[Any]]

BROKEN = "m165"


def value(name: str, shape: list[Any] | None, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    nodes: list[onnx.NodeProto], inputs: list[Any], outputs: list[Any], weights: dict[str, np.ndarray] | None = None,
    **more: Any,
) -> onnx.ModelProto:  # fmt: skip
    tensors = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, tensors)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10, **more)


def dense(batch: Any = "batch") -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return model(
        [node], [value("x", [batch, 8])], [value("y", [batch, 4])], {"w": np.ones((8, 4), np.float32)}
    )


def saved(proto: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(proto.SerializeToString())
    return path


def describe(path: Path) -> Description:
    return onnx_file.describe(ModelFile(str(path), path, "onnx"))


def told(proto: onnx.ModelProto, tmp_path: Path) -> Description:
    return describe(saved(proto, tmp_path / "m.onnx"))


# ------------------------------------------------------------------ what is ONNX


def test_a_model_is_recognised_whatever_the_order_of_its_fields(tmp_path: Path) -> None:
    proto = dense()
    assert onnx_file.is_onnx(saved(proto, tmp_path / "m"))
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    (tmp_path / "first").write_bytes(
        helper.make_model(dense().graph).SerializeToString() + proto.SerializeToString()
    )
    assert onnx_file.is_onnx(tmp_path / "first")
    (tmp_path / "bare").write_bytes(b"\x3a" + bytes([0x80 | len(graph) & 0x7F, len(graph) >> 7]) + graph)
    assert onnx_file.is_onnx(tmp_path / "bare")


def test_a_model_that_was_cut_off_is_still_known_and_corrupt(tmp_path: Path) -> None:
    data = dense().SerializeToString()
    (tmp_path / "cut").write_bytes(data[: len(data) // 2])
    assert onnx_file.is_onnx(tmp_path / "cut")
    with pytest.raises(Corrupt, match="broken ONNX"):
        describe(tmp_path / "cut")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"PK\x03\x04",
        b"{}",
        b"\x80\x02}",
        b"\0" * 4096,
        bytes(range(256)),
        b"\x08\x07",
        b"TFL3" * 4,
        b"\x08\x03\x3a\x00",
    ],
    ids=["empty", "zip", "json", "pickle", "zeros", "bytes", "version alone", "letters", "empty graph"],
)
def test_other_bytes_are_not_onnx(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(data)
    assert not onnx_file.is_onnx(tmp_path / "other")


def test_random_bytes_are_not_onnx(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        (tmp_path / "noise").write_bytes(rng.bytes(512))
        assert not onnx_file.is_onnx(tmp_path / "noise")


def test_only_onnx_files_among_public_models_are_onnx(models: Path) -> None:
    rows = json.loads((models / "index.json").read_text())
    files = {models / row["local"] for row in rows if row["format"] == "onnx" and row["id"] != BROKEN}
    files = {path / "model.onnx" if path.is_dir() else path for path in files}
    found = {path for path in models.rglob("*") if path.is_file() and onnx_file.is_onnx(path)}
    assert found == files


def test_a_huge_hole_is_no_model_and_a_huge_model_is_refused_unread(tmp_path: Path) -> None:
    hole, huge = tmp_path / "hole", tmp_path / "huge"
    for path, head in ((hole, b""), (huge, dense().SerializeToString() + b"\x32\xff\xff\xff\xff\x7f")):
        with path.open("wb") as file:
            file.write(head)
            file.truncate(30 << 30)
    assert not onnx_file.is_onnx(hole)
    assert onnx_file.is_onnx(huge)
    with pytest.raises(Corrupt, match=r"32,212,254,720 bytes"):
        describe(huge)


# ------------------------------------------------------------------ what it says of itself


def test_a_model_describes_itself(tmp_path: Path) -> None:
    description = told(dense(), tmp_path)
    assert [(spec.name, spec.shape, spec.dtype) for spec in description.inputs] == [
        ("x", ("batch", 8), "float32")
    ]
    assert [(spec.name, spec.shape) for spec in description.outputs] == [("y", ("batch", 4))]
    assert (description.parameters, description.macs, description.operators) == (32, 32, {"MatMul": 1})
    assert (description.opset, description.quantization) == (21, None)


def test_initializers_among_the_inputs_are_not_inputs(tmp_path: Path) -> None:
    proto = dense()
    proto.graph.input.append(value("w", [8, 4]))
    assert [spec.name for spec in told(proto, tmp_path).inputs] == ["x"]


def test_names_and_types_of_every_kind_are_told(tmp_path: Path) -> None:
    inputs = [
        value("text", [None], TensorProto.STRING), value("flag", [], TensorProto.BOOL), value("free", None),
        value("small", [2, -1], TensorProto.BFLOAT16), value("four", [2], TensorProto.INT4),
        helper.make_tensor_sequence_value_info("list", TensorProto.FLOAT, None),
    ]  # fmt: skip
    seen = [(spec.name, spec.shape, spec.dtype) for spec in told(model([], inputs, []), tmp_path).inputs]
    assert seen == [
        ("text", (None,), "str"), ("flag", (), "bool"), ("free", None, "float32"), ("small", (2, None), "bfloat16"),
        ("four", (2,), "int4"), ("list", None, "sequence"),
    ]  # fmt: skip


def test_operators_in_bodies_and_functions_are_counted(tmp_path: Path) -> None:
    body = helper.make_graph([helper.make_node("Neg", ["x"], ["a"])], "body", [], [value("a", None)])
    other = helper.make_graph([helper.make_node("Abs", ["x"], ["b"])], "other", [], [value("b", None)])
    choice = helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=other)
    own = helper.make_node("Twice", ["z"], ["y"], domain="own")
    function = helper.make_function(
        "own",
        "Twice",
        ["p"],
        ["q"],
        [helper.make_node("Add", ["p", "p"], ["q"])],
        [helper.make_opsetid("", 21)],
    )
    proto = model(
        [choice, own],
        [value("x", [3]), value("c", [], TensorProto.BOOL)],
        [value("y", [3])],
        functions=[function],
    )
    proto.opset_import.append(helper.make_opsetid("own", 1))
    description = told(proto, tmp_path)
    assert description.operators == {"Abs": 1, "Add": 1, "If": 1, "Neg": 1, "own::Twice": 1}
    assert description.metadata["opset own"] == "1"


def test_metadata_and_provenance_are_told_apart(tmp_path: Path) -> None:
    proto = dense()
    helper.set_model_props(proto, {"team": "vision", "mlconv.provenance": '{"sha256": "ab"}'})
    description = told(proto, tmp_path)
    assert (description.metadata["team"], description.provenance) == ("vision", {"sha256": "ab"})
    assert "mlconv.provenance" not in description.metadata


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", '{"a": NaN}', "no"])
def test_a_provenance_that_is_no_object_is_none(text: str, tmp_path: Path) -> None:
    proto = dense()
    helper.set_model_props(proto, {"mlconv.provenance": text})
    assert told(proto, tmp_path).provenance is None


def test_text_in_another_encoding_does_no_harm(tmp_path: Path) -> None:
    data = dense().SerializeToString().replace(b"MatMul", b"Mat\xff\xfel")
    (tmp_path / "m.onnx").write_bytes(data)
    assert describe(tmp_path / "m.onnx").operators == {"Mat\ufffd\ufffdl": 1}


def test_a_signature_is_refused(tmp_path: Path) -> None:
    path = saved(dense(), tmp_path / "m.onnx")
    with pytest.raises(UnknownSignature):
        onnx_file.describe(ModelFile("m", path, "onnx"), "serving_default")


def test_public_models_are_what_their_index_says(models: Path) -> None:
    rows = [
        row
        for row in json.loads((models / "index.json").read_text())
        if row["format"] == "onnx" and row["id"] != BROKEN
    ]
    assert rows
    for row in rows:
        path = models / row["local"]
        description = describe(path / "model.onnx" if path.is_dir() else path)
        asked = {name: int(count) for name, count in (entry.rsplit("x", 1) for entry in row["op_types"])}
        assert {name: description.operators.get(name) for name in asked} == asked, row["id"]
        assert [put["name"] for put in row["inputs"]] == [spec.name for spec in description.inputs], row["id"]
        assert [put["name"] for put in row["outputs"]] == [spec.name for spec in description.outputs], row[
            "id"
        ]
        for put, spec in zip(row["inputs"], description.inputs, strict=True):
            assert put["dtype"].removesuffix("32") == spec.dtype.removesuffix("32"), row["id"]
            assert list(spec.shape or ()) == put["shape"], row["id"]
        assert description.opset == row["opsets"]["ai.onnx"], row["id"]


# ------------------------------------------------------------------ parameters and MACs


def test_scales_and_bounds_are_no_parameters(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=1),
        helper.make_node("MatMul", ["d", "wd"], ["m"]),
        helper.make_node("Clip", ["m", "low"], ["y"]),
    ]
    weights: dict[str, Any] = {
        "s": np.float32(0.1), "z": np.int8(0), "w": np.ones((8, 4), np.int8), "ws": np.ones(4, np.float32),
        "wz": np.zeros(4, np.int8), "low": np.float32(0),
    }  # fmt: skip
    description = told(
        model(
            nodes, [value("x", [1, 8])], [value("y", [1, 4])], {k: np.asarray(v) for k, v in weights.items()}
        ),
        tmp_path,
    )
    assert (description.parameters, description.macs) == (32, 32)
    assert description.quantization == {"kind": "full", "dtypes": {"int8": 2}}


def test_a_product_of_floats_makes_the_quantization_partial(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MatMul", ["d", "w"], ["m"]),
        helper.make_node("MatMul", ["m", "w"], ["y"]),
    ]
    weights: dict[str, Any] = {
        "s": np.asarray(np.float32(0.1)),
        "z": np.asarray(np.uint8(0)),
        "w": np.ones((4, 4), np.float32),
    }
    description = told(model(nodes, [value("x", [2, 4])], [value("y", [2, 4])], weights), tmp_path)
    assert description.quantization == {"kind": "partial", "dtypes": {"uint8": 1}}


def test_weights_of_four_bits_are_counted_by_their_own_sizes(tmp_path: Path) -> None:
    node = helper.make_node(
        "MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", K=64, N=10, bits=4, block_size=32
    )
    weights: dict[str, Any] = {"w": np.zeros((10, 2, 16), np.uint8), "s": np.ones(20, np.float32)}
    description = told(model([node], [value("x", [1, 64])], [value("y", [1, 10])], weights), tmp_path)
    assert (description.parameters, description.macs) == (640, 640)
    assert description.quantization == {"kind": "weights", "dtypes": {"uint8": 1}}


def test_dynamic_quantization_is_told(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        helper.make_node("MatMulInteger", ["q", "w", "z"], ["y"]),
    ]
    proto = model(
        nodes, [value("x", [3, 8])], [value("y", [3, 4], TensorProto.INT32)], {"w": np.ones((8, 4), np.int8)}
    )
    description = told(proto, tmp_path)
    assert (description.parameters, description.macs) == (32, 96)
    assert description.quantization == {"kind": "dynamic", "dtypes": {"int8": 1, "uint8": 1}}


# Each: operator, its attributes, input shapes (the first is fed, the others are weights), MACs worked out by hand.
COSTS: dict[str, tuple[str, dict[str, Any], list[tuple[int, ...]], int]] = {
    "a convolution": ("Conv", {"pads": [1, 1, 1, 1]}, [(1, 3, 8, 8), (6, 3, 3, 3)], 6 * 64 * 27),
    "a grouped one": ("Conv", {"group": 3}, [(1, 3, 8, 8), (6, 1, 3, 3)], 6 * 36 * 9),
    "a transposed one": ("ConvTranspose", {"strides": [2, 2]}, [(1, 3, 4, 4), (3, 5, 2, 2)], 3 * 16 * 5 * 4),
    "a product with a transposed weight": ("Gemm", {"transB": 1}, [(2, 7), (5, 7)], 2 * 5 * 7),
    "a batch of products": ("MatMul", {}, [(4, 2, 7), (7, 5)], 4 * 2 * 7 * 5),
    "an LSTM": ("LSTM", {"hidden_size": 5}, [(9, 2, 3), (1, 20, 3), (1, 20, 5)], 9 * 2 * (60 + 100)),
    "both directions of a GRU": ("GRU", {"hidden_size": 5, "direction": "bidirectional"}, [(9, 2, 3), (2, 15, 3), (2, 15, 5)], 9 * 2 * (90 + 150)),
    "an einsum": ("Einsum", {"equation": "bij,jk->bik"}, [(2, 3, 4), (4, 5)], 2 * 3 * 4 * 5),
}  # fmt: skip


@pytest.mark.parametrize("case", COSTS)
def test_macs_are_those_worked_out_by_hand(case: str, tmp_path: Path) -> None:
    kind, attributes, shapes, cost = COSTS[case]
    names = [f"w{index}" for index in range(1, len(shapes))]
    weights = {name: np.ones(shape, np.float32) for name, shape in zip(names, shapes[1:], strict=True)}
    node = helper.make_node(kind, ["x", *names], ["y"], **attributes)
    batch_free = ["batch" if size == 1 and at == 0 else size for at, size in enumerate(shapes[0])]
    assert told(model([node], [value("x", batch_free)], [value("y", None)], weights), tmp_path).macs == cost


def test_of_two_branches_the_dearer_counts(tmp_path: Path) -> None:
    dear = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["a"])], "dear", [], [value("a", [2, 4])]
    )
    cheap = helper.make_graph([helper.make_node("Identity", ["x"], ["b"])], "cheap", [], [value("b", [2, 8])])
    node = helper.make_node("If", ["c"], ["y"], then_branch=cheap, else_branch=dear)
    proto = model(
        [node],
        [value("x", [2, 8]), value("c", [], TensorProto.BOOL)],
        [value("y", None)],
        {"w": np.ones((8, 4), np.float32)},
    )
    assert told(proto, tmp_path).macs == 2 * 8 * 4


def test_functions_are_expanded_for_their_macs(tmp_path: Path) -> None:
    inner = helper.make_node("MatMul", ["p", "r"], ["q"])
    function = helper.make_function("own", "Times", ["p", "r"], ["q"], [inner], [helper.make_opsetid("", 21)])
    nodes = [
        helper.make_node("Times", ["x", "w"], ["a"], domain="own"),
        helper.make_node("Times", ["a", "w"], ["y"], domain="own"),
    ]
    proto = model(
        nodes,
        [value("x", [2, 4])],
        [value("y", [2, 4])],
        {"w": np.ones((4, 4), np.float32)},
        functions=[function],
    )
    proto.opset_import.append(helper.make_opsetid("own", 1))
    assert told(proto, tmp_path).macs == 2 * (2 * 4 * 4)


def test_functions_that_call_themselves_or_explode_end(tmp_path: Path) -> None:
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]

    def calls(name: str, *called: str) -> onnx.FunctionProto:
        nodes = [helper.make_node(other, ["p"], ["q"], domain="own") for other in called]
        return helper.make_function("own", name, ["p"], ["q"], nodes, opsets)

    for functions in ([calls("f0", "f0")], [calls(f"f{n}", *[f"f{n + 1}"] * 10) for n in range(30)]):
        node = helper.make_node("f0", ["x"], ["y"], domain="own")
        proto = model([node], [value("x", [2])], [value("y", [2])], functions=functions)
        proto.opset_import.append(helper.make_opsetid("own", 1))
        assert told(proto, tmp_path).macs is None


def test_shapes_that_contradict_each_other_leave_macs_open(tmp_path: Path) -> None:
    node = helper.make_node("Wobble", ["x"], ["a"], domain="com.microsoft")
    proto = model(
        [node, helper.make_node("MatMul", ["a", "a"], ["y"])], [value("x", [2])], [value("y", None)]
    )
    assert told(proto, tmp_path).macs is None
    assert onnx_macs.inferred(proto).graph.node[0].op_type == "Wobble"


# ------------------------------------------------------------------ ranges of indices


def test_an_input_that_indexes_tables_has_the_least_of_their_rows(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["ids"], ["wide"], to=TensorProto.INT64),
        helper.make_node("Gather", ["words", "wide"], ["a"]),
        helper.make_node("Gather", ["kinds", "wide"], ["b"], axis=1),
        helper.make_node("Gather", ["x", "free"], ["c"]),
    ]
    weights = {"words": np.zeros((9, 2), np.float32), "kinds": np.zeros((2, 5), np.float32)}
    inputs = [value("ids", [3], TensorProto.INT32), value("free", [3], TensorProto.INT64), value("x", [7, 2])]
    proto = model(nodes, inputs, [value(name, None) for name in "abc"], weights)
    assert onnx_file.value_ranges(proto) == {"ids": (0, 4), "free": (0, 6)}
    assert [spec.values for spec in told(proto, tmp_path).inputs] == [(0, 4), (0, 6), None]


# ------------------------------------------------------------------ external data


def external(path: Path, location: str, *, node: bool = False) -> Path:
    proto = dense(1)
    tensor = proto.graph.initializer[0]
    if node:
        constant = helper.make_node("Constant", [], ["k"], value=tensor)
        proto.graph.node.append(constant)
        tensor = proto.graph.node[-1].attribute[0].t
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return saved(proto, path)


def test_external_data_beside_the_model_is_told(tmp_path: Path) -> None:
    path = external(tmp_path / "m.onnx", "deep/w.bin")
    assert describe(path).notes == ("Its external data file `w.bin` is missing.",)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/w.bin").write_bytes(bytes(128))
    assert describe(path).notes == ("128 bytes of its data lie in `w.bin`.",)
    assert onnx_file.external_files(path) == (tmp_path / "deep/w.bin",)
    assert describe(path).parameters == 32


@pytest.mark.parametrize("node", [False, True], ids=["initializer", "unused constant"])
@pytest.mark.parametrize(
    "location",
    [
        "../w.bin",
        "{}/w.bin",
        "link.bin",
        "deep/../../w.bin",
        "",
        ".",
        "loop.bin",
        "..\\w.bin",
        "C:\\w.bin",
        "a\0b",
        "x" * 5000,
    ],
    ids=["up", "absolute", "link", "around", "empty", "folder", "loop", "windows", "drive", "null", "long"],
)
def test_external_data_elsewhere_is_refused(location: str, node: bool, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(bytes(128))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    (folder / "loop.bin").symlink_to(folder / "loop.bin")
    path = external(folder / "m.onnx", location.format(tmp_path), node=node)
    with pytest.raises(PathEscape, match="not a file in the model's folder"):
        describe(path)
    with pytest.raises(PathEscape):
        onnx_file.assert_external_data_inside(path)


# ------------------------------------------------------------------ size, and hostile bytes


def test_weights_are_never_parsed(tmp_path: Path) -> None:
    proto = dense()
    proto.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.ones((8, 4096), np.float32), "w"))
    proto.graph.node.append(
        helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.ones((64, 64), np.float32)))
    )
    skeleton = onnx_skeleton.load(saved(proto, tmp_path / "m.onnx"))
    assert skeleton.ByteSize() < 1000
    assert list(skeleton.graph.initializer[0].dims) == [8, 4096]
    assert told(proto, tmp_path).parameters == 8 * 4096 + 64 * 64


def test_messages_that_take_more_memory_than_bytes_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_skeleton, "MAX_MESSAGES", 1000)
    nodes = b"\x0a\x00" * 1001
    (tmp_path / "m.onnx").write_bytes(
        b"\x08\x08\x3a" + bytes([len(nodes) & 0x7F | 0x80, len(nodes) >> 7]) + nodes
    )
    with pytest.raises(Corrupt, match="broken ONNX") as raised:
        describe(tmp_path / "m.onnx")
    assert raised.value.why == "more than 1,000 messages"


def test_graphs_within_graphs_end(tmp_path: Path) -> None:
    graph = b""
    for _ in range(200):
        attribute = b"\x32" + varint(len(graph)) + graph
        node = b"\x2a" + varint(len(attribute)) + attribute
        graph = b"\x0a" + varint(len(node)) + node
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08\x3a" + varint(len(graph)) + graph)
    with pytest.raises(Corrupt):
        describe(tmp_path / "m.onnx")


def varint(number: int) -> bytes:
    low = number & 0x7F
    return bytes([low | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([low])


@pytest.mark.parametrize(
    "name",
    [
        "xboot_libonnx/tests__node__test_loop11/model.onnx",
        "xboot_libonnx/tests__node__test_qlinearconv/model.onnx",
    ],
)
def test_hostile_bytes_are_described_or_refused(
    name: str, models: Path, mutations: Mutations, tmp_path: Path
) -> None:
    path, refused = tmp_path / "hostile.onnx", 0
    for data in mutations((models / name).read_bytes()):
        path.write_bytes(data)
        onnx_file.is_onnx(path)
        try:
            json.dumps(describe(path).operators)
        except InputError:
            refused += 1
    assert refused
