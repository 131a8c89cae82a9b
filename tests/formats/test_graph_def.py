"""Frozen TensorFlow graphs, encoded here by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt, MlconvError
from mlconv.formats import ModelFile, graph_def
from mlconv.tensors import TensorSpec


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    content = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(content)) + content


def shape(*sizes: int) -> bytes:
    return b"".join(field(2, field(1, size)) for size in sizes)


def node(name: str, kind: str, *inputs: str, **attributes: bytes) -> bytes:
    body = field(1, name) + field(2, kind) + b"".join(field(3, put) for put in inputs)
    return field(
        1, body + b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items())
    )


def placeholder(name: str, *sizes: int) -> bytes:
    return node(name, "Placeholder", dtype=field(6, 1), shape=field(7, shape(*sizes)))


def constant(name: str, *sizes: int, dtype: int = 1) -> bytes:
    return node(
        name, "Const", dtype=field(6, dtype), value=field(8, field(1, dtype) + field(2, shape(*sizes)))
    )


GRAPH = (
    placeholder("x", -1, 4)
    + constant("w", 4, 2)
    + constant("axis", 3, dtype=3)
    + constant("half")
    + node("y/MatMul", "MatMul", "x", "w:0", T=field(6, 1))
    + node("best", "ArgMax", "y/MatMul", "axis", T=field(6, 1), output_type=field(6, 9))
    + node("checked", "Assert", "best")
    + node("save/filename", "PlaceholderWithDefault", dtype=field(6, 7))
    + node("save/SaveV2", "SaveV2", "save/filename", "w")
    + field(4, field(1, 27))
)


def write(path: Path, data: bytes = GRAPH) -> ModelFile:
    path.write_bytes(data)
    return ModelFile(path.name, path, "tf-graph")


def test_inputs_are_placeholders_and_outputs_what_nothing_consumes(tmp_path: Path) -> None:
    data = (
        placeholder("x", -1, 4)
        + node("y", "Relu", "x", T=field(6, 19))
        + node("z", "Neg", "^y", "x:0", T=field(6, 1))
    )
    described = graph_def.describe(write(tmp_path / "a.pb", data))
    assert described.inputs == (TensorSpec("x", (None, 4), "float32"),)
    assert described.outputs == (TensorSpec("z", None, "float32"),)


def test_what_saves_and_checks_is_no_output(tmp_path: Path) -> None:
    described = graph_def.describe(write(tmp_path / "a.pb", GRAPH))
    assert described.inputs == (TensorSpec("x", (None, 4), "float32"),)
    assert not described.outputs  # `best` is consumed by the Assert alone


def test_operators_and_parameters_are_counted(tmp_path: Path) -> None:
    described = graph_def.describe(write(tmp_path / "a.pb"))
    assert described.parameters == 8
    assert described.operators["Const"] == 3
    assert described.metadata == {"graph_def_version": "27"}


def test_functions_of_the_library_count_too(tmp_path: Path) -> None:
    body = field(1, field(1, "f")) + field(3, field(1, "z") + field(2, "Relu"))
    described = graph_def.describe(
        write(tmp_path / "a.pb", node("x", "PartitionedCall") + field(2, field(1, body)))
    )
    assert described.operators == {"PartitionedCall": 1, "Relu": 1}


def test_a_graph_with_variables_is_told_not_to_be_frozen(tmp_path: Path) -> None:
    variable = node("v", "VarHandleOp", dtype=field(6, 1), shape=field(7, shape(2, 2)))
    described = graph_def.describe(write(tmp_path / "a.pb", variable))
    assert described.parameters == 4
    assert "freeze" in described.notes[0]


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 64, field(1, 7) + GRAPH, field(9, "x"), field(1, field(1, "no operator")), field(1, b"\x0a\x03abc\x12\x02\xff\xfe"), b"text\n"],
)  # fmt: skip
def test_other_bytes_are_no_graph(data: bytes) -> None:
    assert not graph_def.is_graph_def(memoryview(data))


def test_a_cut_off_graph_is_a_graph_and_corrupt(tmp_path: Path) -> None:
    cut = write(tmp_path / "a.pb", GRAPH[:-5])
    assert graph_def.is_graph_def(memoryview(GRAPH[:40]))
    for read in (graph_def.describe, lambda model: graph_def.check(model.path)):
        with pytest.raises(Corrupt, match="damaged"):
            read(cut)


def test_damage_gives_an_answer_or_a_named_error(mutations: Any, tmp_path: Path) -> None:
    for data in mutations(GRAPH):
        graph_def.is_graph_def(memoryview(data))
        try:
            graph_def.describe(write(tmp_path / "hurt.pb", data))
        except MlconvError:
            continue


def test_public_graphs_are_read(models: Path) -> None:
    path = models / "edvardHua_PoseEstimationForMobile" / "release__hourglass_model__model.pb"
    described = graph_def.describe(ModelFile("pose", path, "tf-graph"))
    assert described.inputs == (TensorSpec("image", (1, 192, 192, 3), "float32"),)
    assert [spec.name for spec in described.outputs] == ["hourglass_out_3"]
