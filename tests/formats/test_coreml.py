"""Core ML models: public ones, and packages whose protobuf is written here field by field."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt, InputError, PathEscape, UnknownSignature
from mlconv.formats import Description, ModelFile, coreml

Mutations = Callable[[bytes], Iterator[bytes]]

SINET = "anilsathyan7_Portrait-Segmentation/SINet__SINet"
HOURGLASS = "edvardHua_PoseEstimationForMobile/release__hourglass_model__model.mlmodel"
FLOAT16, FLOAT32, INT8 = 10, 11, 21
ARRAY_FLOAT32 = 65568


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    low = number & 0x7F
    return bytes([low | 0x80]) + varint(number >> 7) if number > 0x7F else bytes([low])


def message(*fields: tuple[int, Any]) -> bytes:
    """Fields in order: an int is a varint, text and bytes are length-delimited."""
    encoded = b""
    for number, content in fields:
        if isinstance(content, int):
            encoded += varint(number << 3) + varint(content)
        else:
            raw = content.encode() if isinstance(content, str) else content
            encoded += varint(number << 3 | 2) + varint(len(raw)) + raw
    return encoded


def array(name: str, shape: list[int], *more: tuple[int, Any], dtype: int = ARRAY_FLOAT32) -> bytes:
    sizes = b"".join(varint(size) for size in shape)
    return message((1, name), (3, message((5, message((1, sizes), (2, dtype), *more)))))


def tensor_type(dtype: int, shape: list[int | None]) -> bytes:
    dims = [(3, message((2, b"")) if size is None else message((1, message((1, size))))) for size in shape]
    return message((1, message((1, dtype), (2, len(shape)), *dims)))


def named(name: str, dtype: int, shape: list[int | None]) -> bytes:
    return message((1, name), (2, tensor_type(dtype, shape)))


def bind(parameter: str, name: str) -> tuple[int, bytes]:
    return (2, message((1, parameter), (2, message((1, message((1, name)))))))


def constant(
    name: str, dtype: int, shape: list[int | None], file: str = "@model_path/weights/weight.bin"
) -> bytes:
    blob = message((2, tensor_type(dtype, shape)), (5, message((1, file), (2, 64))))
    return message((1, "const"), (3, named(name, dtype, shape)), (5, message((1, "val"), (2, blob))))


def program(*operations: bytes, inputs: tuple[bytes, ...] = ()) -> bytes:
    block = message(*((3, operation) for operation in operations))
    function = message(
        *((1, put) for put in inputs), (2, "CoreML7"), (3, message((1, "CoreML7"), (2, block)))
    )
    return message((1, 1), (2, message((1, "main"), (2, function))))


def net(file: str = "@model_path/weights/weight.bin") -> bytes:
    """A convolution of (1, 3, 8, 8) by (6, 3, 3, 3), whose weights are stored in int8, then a product with (10, 216)."""
    operations = [
        message((1, "constexpr_affine_dequantize"), (3, named("w", FLOAT16, [6, 3, 3, 3])),
                (5, message((1, "quantized_data"), (2, message((2, tensor_type(INT8, [6, 3, 3, 3])), (5, message((1, file)))))))),
        message((1, "conv"), bind("x", "x"), bind("weight", "w"), (3, named("c", FLOAT16, [1, 6, 6, 6]))),
        message((1, "reshape"), bind("x", "c"), (3, named("r", FLOAT16, [1, 216]))),
        constant("k", FLOAT16, [10, 216]),
        message((1, "linear"), bind("x", "r"), bind("weight", "k"), (3, named("y", FLOAT16, [1, 10]))),
    ]  # fmt: skip
    return program(*operations, inputs=(named("x", FLOAT16, [1, 3, 8, 8]),))


def model(content: bytes, kind: int = 502, *, user: dict[str, str] | None = None) -> bytes:
    own = [(100, message((1, key), (2, text))) for key, text in (user or {}).items()]
    metadata = message((1, "a net"), (3, "someone"), *own)
    description = message((1, array("x", [1, 3, 8, 8])), (10, array("y", [1, 10])), (100, metadata))
    return message((1, 8), (2, description), (kind, content))


def package(folder: Path, spec: bytes, **items: str) -> Path:
    inner = folder / "Data/com.apple.CoreML"
    (inner / "weights").mkdir(parents=True)
    (inner / "model.mlmodel").write_bytes(spec)
    (inner / "weights/weight.bin").write_bytes(bytes(100))
    entries = {
        "root": {"path": "com.apple.CoreML/model.mlmodel"},
        **{key: {"path": path} for key, path in items.items()},
    }
    manifest = {"fileFormatVersion": "1.0.0", "itemInfoEntries": entries, "rootModelIdentifier": "root"}
    (folder / "Manifest.json").write_text(json.dumps(manifest))
    return folder


def describe(path: Path, signature: str | None = None) -> Description:
    return coreml.describe(
        ModelFile(str(path), path, "coreml-package" if path.is_dir() else "coreml"), signature
    )


# ------------------------------------------------------------------ recognised, and described


def test_public_models_are_what_their_index_says(models: Path) -> None:
    rows = [row for row in json.loads((models / "index.json").read_text()) if row["format"] == "mlmodel"]
    assert rows
    for row in rows:
        assert coreml.is_mlmodel(models / row["local"])
        told = describe(models / row["local"])
        assert told.operators == {
            name: int(count) for name, count in (entry.rsplit("x", 1) for entry in row["op_types"])
        }
        assert [spec.name for spec in told.inputs] == [put["name"] for put in row["inputs"]]
        assert [spec.name for spec in told.outputs] == [put["name"] for put in row["outputs"]]
        assert told.bytes == row["bytes"]


def test_a_network_has_as_many_parameters_as_its_twin_in_onnx(models: Path) -> None:
    from mlconv.formats import onnx_file

    twin = onnx_file.describe(ModelFile("m", models / f"{SINET}.onnx", "onnx"))
    assert describe(models / f"{SINET}.mlmodel").parameters == twin.parameters == 92_675


def test_an_image_is_its_pixels(models: Path) -> None:
    told = describe(models / HOURGLASS)
    assert (told.inputs[0].shape, told.inputs[0].dtype) == ((192, 192, 3), "uint8")
    assert (told.outputs[0].shape, told.outputs[0].dtype) == ((14, 48, 48), "float64")
    assert told.notes == ("Input `image__0` is an image (RGB).",)


def test_only_core_ml_models_among_public_models_are_core_ml(models: Path) -> None:
    found = {path.suffix for path in models.rglob("*") if path.is_file() and coreml.is_mlmodel(path)}
    assert found == {".mlmodel"}
    assert not coreml.is_mlpackage(models)


def test_a_package_describes_itself(tmp_path: Path) -> None:
    spec = model(net(), user={"team": "vision", "mlconv.provenance": '{"sha256": "ab"}'})
    path = package(tmp_path / "p", spec, weights="com.apple.CoreML/weights")
    assert coreml.is_mlpackage(path)
    told = describe(path)
    assert told.operators == {
        "const": 1,
        "constexpr_affine_dequantize": 1,
        "conv": 1,
        "linear": 1,
        "reshape": 1,
    }
    assert told.parameters == 6 * 27 + 10 * 216
    assert told.macs == 6 * 36 * 27 + 10 * 216
    assert told.quantization == {"kind": "weights", "dtypes": {"int8": 1}}
    assert told.metadata == {
        "specification_version": "8",
        "description": "a net",
        "author": "someone",
        "team": "vision",
    }
    assert told.provenance == {"sha256": "ab"}
    assert told.bytes == sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    assert [(spec.name, spec.shape, spec.dtype) for spec in told.inputs] == [("x", (1, 3, 8, 8), "float32")]


def test_flexible_shapes_are_dynamic_axes(tmp_path: Path) -> None:
    ranges = (31, message((1, message((1, 1), (2, 1))), (1, message((1, 8), (2, -1)))))
    sizes = (21, message((1, message((1, b"\x01\x08"))), (1, message((1, b"\x01\x10")))))
    features = [
        (1, array("range", [1, 8], ranges)),
        (1, array("some", [1, 8], sizes)),
        (1, array("fixed", [1, 8])),
    ]
    path = tmp_path / "m.mlmodel"
    path.write_bytes(message((1, 5), (2, message(*features)), (900, b"")))
    told = describe(path)
    assert [spec.shape for spec in told.inputs] == [(1, None), (1, None), (1, 8)]
    assert (told.operators, told.parameters) == ({"identity": 1}, None)


def test_text_dictionaries_and_states_are_told(tmp_path: Path) -> None:
    kinds = {
        "t": message((3, b"")),
        "d": message((6, message((2, b"")))),
        "n": message((1, b"")),
        "l": message((7, message((3, b"")))),
    }
    state = array("s", [4])
    features = [(1, message((1, name), (3, kind))) for name, kind in kinds.items()]
    path = tmp_path / "m.mlmodel"
    path.write_bytes(message((1, 9), (2, message(*features, (13, state))), (900, b"")))
    told = describe(path)
    assert [(spec.shape, spec.dtype) for spec in told.inputs] == [
        ((), "str"),
        (None, "dictionary"),
        ((), "int64"),
        ((None,), "str"),
    ]
    assert told.notes == ("`s` is a state that lives from run to run.",)


def test_functions_are_signatures(tmp_path: Path) -> None:
    functions = [
        (20, message((1, name), (2, array(f"{name}_x", [size])))) for name, size in (("a", 2), ("b", 3))
    ]
    path = tmp_path / "m.mlmodel"
    path.write_bytes(message((1, 9), (2, message(*functions, (21, "b"))), (502, program())))
    assert (describe(path).signatures, describe(path).inputs[0].name) == (("a", "b"), "b_x")
    assert describe(path, "a").inputs[0].name == "a_x"
    with pytest.raises(UnknownSignature, match="no function `c`"):
        describe(path, "c")


# ------------------------------------------------------------------ packages that lie


@pytest.mark.parametrize(
    "location", ["../../outside.bin", "{}/outside.bin", "..\\..\\outside.bin", "", "C:\\x"]
)
def test_an_item_outside_the_package_is_refused(location: str, tmp_path: Path) -> None:
    path = package(tmp_path / "p", model(net()), more=location.format(tmp_path))
    with pytest.raises(PathEscape):
        describe(path)


@pytest.mark.parametrize(
    "location", ["@model_path/../../../outside.bin", "{}/outside.bin", "../../../outside.bin"]
)
def test_weights_outside_the_package_are_refused(location: str, tmp_path: Path) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(100))
    path = package(tmp_path / "p", model(net(location.format(tmp_path))))
    with pytest.raises(PathEscape, match="leads outside the package"):
        describe(path)


@pytest.mark.parametrize("name", ["Data/com.apple.CoreML/weights/weight.bin", "unused.bin", "Data/folder"])
def test_a_link_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    path = package(tmp_path / "p", model(net()))
    (path / name).unlink(missing_ok=True)
    (path / name).symlink_to(tmp_path / "outside")
    with pytest.raises(PathEscape):
        describe(path)


def test_a_missing_weight_file_is_corrupt(tmp_path: Path) -> None:
    path = package(tmp_path / "p", model(net()))
    (path / "Data/com.apple.CoreML/weights/weight.bin").unlink()
    with pytest.raises(Corrupt) as raised:
        describe(path)
    assert "weight.bin" in (raised.value.why or "")


MANIFESTS = [
    "",
    "[]",
    "{}",
    "[" * 100_000,
    '{"itemInfoEntries": 3}',
    '{"itemInfoEntries": {"a": 3}}',
    '{"itemInfoEntries": {}}',
]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=range(len(MANIFESTS)))
def test_a_broken_manifest_is_corrupt(manifest: str, tmp_path: Path) -> None:
    path = package(tmp_path / "p", model(net()))
    (path / "Manifest.json").write_text(manifest)
    assert coreml.is_mlpackage(path)
    with pytest.raises(Corrupt):
        describe(path)


def test_blocks_within_blocks_end(tmp_path: Path) -> None:
    operation = message((1, "cond"))
    for _ in range(100):
        operation = message((1, "cond"), (4, message((3, operation))))
    path = tmp_path / "m.mlmodel"
    path.write_bytes(model(program(operation)))
    with pytest.raises(Corrupt):
        describe(path)


def test_models_within_models_end(tmp_path: Path) -> None:
    inner = model(b"", 900)
    for _ in range(100):
        inner = model(message((1, inner)), 202)
    path = tmp_path / "m.mlmodel"
    path.write_bytes(inner)
    with pytest.raises(Corrupt):
        describe(path)


def test_hostile_bytes_are_described_or_refused(models: Path, mutations: Mutations, tmp_path: Path) -> None:
    path, refused = tmp_path / "hostile.mlmodel", 0
    classic = (models / f"{SINET}.mlmodel").read_bytes()[:20_000]
    for source in (model(net(), user={"a": "b"}), classic):
        for data in mutations(source):
            path.write_bytes(data)
            coreml.is_mlmodel(path)
            try:
                json.dumps(describe(path).operators)
            except InputError:
                refused += 1
    assert refused
