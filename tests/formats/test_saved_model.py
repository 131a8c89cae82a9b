"""SavedModels and what they would run, encoded here by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt, MlconvError, PathEscape, UnknownSignature, UntrustedOperator
from mlconv.formats import ModelFile, saved_model
from mlconv.formats.safety import assert_safe
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


def node_def(name: str, kind: str, *inputs: str, **attributes: bytes) -> bytes:
    body = field(1, name) + field(2, kind) + b"".join(field(3, put) for put in inputs)
    return body + b"".join(field(5, field(1, key) + field(2, value)) for key, value in attributes.items())


def node(name: str, kind: str, *inputs: str, **attributes: bytes) -> bytes:
    return field(1, node_def(name, kind, *inputs, **attributes))


def call(name: str, function: str, *inputs: str) -> bytes:
    return node(name, "StatefulPartitionedCall", *inputs, f=field(10, field(1, function)))


def library(**functions: bytes) -> bytes:
    return field(
        2, b"".join(field(1, field(1, field(1, name)) + field(3, body)) for name, body in functions.items())
    )


def info(tensor: str, *sizes: int) -> bytes:
    return field(1, tensor) + field(2, 1) + field(3, shape(*sizes))


def signature(name: str, output: str) -> bytes:
    inputs = field(1, field(1, "b") + field(2, info("b:0", 2))) + field(
        1, field(1, "a") + field(2, info("a:0", -1, 2))
    )
    return field(
        5, field(1, name) + field(2, inputs + field(2, field(1, "y") + field(2, info(output, -1, 3))))
    )


VARIABLES = (
    node("w", "VarHandleOp", dtype=field(6, 1), shape=field(7, shape(2, 3)), shared_name=field(2, "w"))
    + node("again", "VarHandleOp", dtype=field(6, 1), shape=field(7, shape(2, 3)), shared_name=field(2, "w"))
    + node("slot", "VarHandleOp", dtype=field(6, 1), shape=field(7, shape(2, 3)))
)
SAVER = field(3, field(1, "saver_filename:0") + field(2, "saving:0") + field(3, "restoring"))
SAVING = call("saving", "traced_save", "saver_filename", "w", "slot") + call(
    "restoring", "traced_restore", "saver_filename", "w"
)
FUNCTIONS = {
    "serve": node_def("z", "Relu", "x"),
    "traced_save": node_def("s", "SaveV2", "p"),
    "traced_restore": node_def("r", "RestoreV2", "p"),
}
TAIL = SAVER + signature("serving_default", "served:0") + signature("also", "served:0")


def meta_graph(nodes: bytes, functions: dict[str, bytes] | None = None, rest: bytes = TAIL) -> bytes:
    tags = field(1, field(4, "serve") + field(5, "2.21.0"))
    return field(2, tags + field(2, nodes + library(**FUNCTIONS | (functions or {}))) + rest)


def served(function: str = "serve") -> bytes:
    return VARIABLES + call("served", function, "a", "w", "again") + SAVING


def save(folder: Path, data: bytes) -> ModelFile:
    folder.mkdir(exist_ok=True)
    (folder / "saved_model.pb").write_bytes(field(1, 1) + data)
    return ModelFile(str(folder), folder, "saved-model")


def test_a_signature_has_its_keys_in_order(tmp_path: Path) -> None:
    described = saved_model.describe(save(tmp_path / "m", meta_graph(served())))
    assert described.inputs == (TensorSpec("a", (None, 2), "float32"), TensorSpec("b", (2,), "float32"))
    assert described.outputs == (TensorSpec("y", (None, 3), "float32"),)
    assert described.signatures == ("also", "serving_default")
    assert described.metadata == {"tags": "serve", "tensorflow_version": "2.21.0"}


def test_parameters_are_those_that_the_signature_computes_with(tmp_path: Path) -> None:
    assert saved_model.describe(save(tmp_path / "m", meta_graph(served()))).parameters == 6


def test_a_signature_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(UnknownSignature, match="`also`, `serving_default`"):
        saved_model.describe(save(tmp_path / "m", meta_graph(served())), "other")


def test_without_serving_default_the_first_by_name_is_shown(tmp_path: Path) -> None:
    rest = (
        SAVER
        + signature("z", "served:0")
        + signature("c", "served:0")
        + signature("__saved_model_init_op", "init")
    )
    graphs = saved_model.read(save(tmp_path / "m", meta_graph(served(), rest=rest)).path or Path())
    assert saved_model.default_signature(graphs[0]) == "c"


def test_the_graph_with_the_tag_serve_is_taken(tmp_path: Path) -> None:
    train = field(2, field(1, field(4, "train")) + field(2, node("x", "Relu")))
    described = saved_model.describe(save(tmp_path / "m", train + meta_graph(served())))
    assert described.metadata["tags"] == "serve"
    assert "2 graphs" in described.notes[0]


def test_a_model_message_of_another_kind_is_no_saved_model() -> None:
    core_ml = field(1, 4) + field(2, field(1, field(1, "image")) + field(10, field(1, "label")))
    assert not saved_model.is_saved_model(memoryview(core_ml))
    assert saved_model.is_saved_model(memoryview(field(1, 1) + meta_graph(served()))[:300])


# ------------------------------------------------------------------ what it would run


def refused(model: ModelFile) -> str:
    with pytest.raises(UntrustedOperator) as caught:
        assert_safe(model)
    assert "--trust-model" in caught.value.fix
    assert_safe(model, trust_model=True)
    return caught.value.what


def test_tensorflow_s_own_saver_is_trusted(tmp_path: Path) -> None:
    assert_safe(save(tmp_path / "m", meta_graph(served())))


def test_a_saver_of_tf1_that_nothing_leads_to_is_trusted(tmp_path: Path) -> None:
    assert_safe(save(tmp_path / "m", meta_graph(served() + node("save_1/SaveV2", "SaveV2", "w"))))


def test_all_operators_that_reach_out_are_named_with_their_counts(tmp_path: Path) -> None:
    nodes = served() + node("a", "ReadFile") + node("b", "ReadFile") + node("c", "PyFunc")
    what = refused(save(tmp_path / "m", meta_graph(nodes, {"unused": node_def("w", "WriteFile")})))
    assert "`PyFunc` (1), `ReadFile` (2), `WriteFile` (1)" in what


def test_a_signature_that_saves_is_refused(tmp_path: Path) -> None:
    assert "`SaveV2` (1)" in refused(save(tmp_path / "m", meta_graph(served("traced_save"))))


def test_a_function_that_calls_what_saves_is_refused(tmp_path: Path) -> None:
    indirect = {"outer": node_def("c", "PartitionedCall", f=field(10, field(1, "traced_save")))}
    assert "SaveV2" in refused(save(tmp_path / "m", meta_graph(served("outer"), indirect)))


def test_a_function_of_the_objects_that_saves_is_refused(tmp_path: Path) -> None:
    objects = field(7, field(2, field(1, "traced_save") + field(2, b"")))
    assert "SaveV2" in refused(save(tmp_path / "m", meta_graph(served(), rest=TAIL + objects)))


def test_a_node_that_saves_outside_of_the_saver_is_refused(tmp_path: Path) -> None:
    assert "SaveV2" in refused(save(tmp_path / "m", meta_graph(served() + node("stray", "SaveV2"))))


def test_an_initializer_in_a_saver_s_scope_is_refused(tmp_path: Path) -> None:
    init = field(4, field(1, "saved_model_main_op") + field(2, field(1, field(1, "save/evil"))))
    graph = meta_graph(served() + node("save/evil", "SaveV2"), rest=TAIL + init)
    assert "SaveV2" in refused(save(tmp_path / "m", graph))


def test_restoring_may_not_save(tmp_path: Path) -> None:
    graph = meta_graph(served(), {"traced_restore": node_def("s", "SaveV2", "p")})
    assert "SaveV2" in refused(save(tmp_path / "m", graph))


def test_printing_into_a_file_is_refused(tmp_path: Path) -> None:
    plain = node("p", "PrintV2", output_stream=field(2, "stderr"))
    assert_safe(save(tmp_path / "m", meta_graph(served() + plain)))
    evil = node("p", "PrintV2", output_stream=field(2, "file:///tmp/x"))
    assert "PrintV2" in refused(save(tmp_path / "m", meta_graph(served() + evil)))


def test_a_vocabulary_needs_an_asset(tmp_path: Path) -> None:
    table = served() + node("t", "InitializeTableFromTextFileV2")
    assert "InitializeTableFromTextFileV2" in refused(save(tmp_path / "m", meta_graph(table)))
    assert_safe(save(tmp_path / "m", meta_graph(table, rest=TAIL + field(6, field(2, "vocab.txt")))))
    with pytest.raises(PathEscape, match="passwd"):
        assert_safe(
            save(tmp_path / "m", meta_graph(table, rest=TAIL + field(6, field(2, "../../etc/passwd"))))
        )


def test_a_link_out_of_the_folder_is_an_escape(tmp_path: Path) -> None:
    model = save(tmp_path / "m", meta_graph(served()))
    (tmp_path / "secret").write_text("x")
    (tmp_path / "m" / "inside").symlink_to("saved_model.pb")
    assert_safe(model)
    (tmp_path / "m" / "variables").symlink_to(tmp_path)
    with pytest.raises(PathEscape, match="variables"):
        assert_safe(model, trust_model=True)


def test_damage_gives_an_answer_or_a_named_error(mutations: Any, tmp_path: Path) -> None:
    for data in mutations(meta_graph(served())):
        model = save(tmp_path / "m", data)
        for read in (saved_model.describe, assert_safe):
            try:
                read(model)
            except MlconvError:
                continue


def test_a_file_without_a_graph_is_corrupt(tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        saved_model.describe(save(tmp_path / "m", b""))


def test_public_saved_models_are_read_and_safe(models: Path) -> None:
    rows = [row for row in json.loads((models / "index.json").read_text()) if row["format"] == "SavedModel"]
    for row in rows:
        model = ModelFile(row["id"], models / row["local"], "saved-model")
        described = saved_model.describe(model)
        counts = dict(text.rsplit("x", 1) for text in row["op_types"])
        assert {name: described.operators[name] for name in counts} == {
            name: int(count) for name, count in counts.items()
        }
        signatures = {name for name in row["signatures"] if not name.startswith("__")}
        assert set(described.signatures) == signatures
        assert described.bytes == row["bytes"]
        assert_safe(model)
    assert len(rows) == 3


@pytest.mark.framework("tensorflow")
def test_what_tensorflow_saves_is_safe_until_it_reaches_out(tmp_path: Path) -> None:
    import tensorflow as tf

    class Net(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(tf.ones([2, 3]))
            self.table = tf.lookup.experimental.MutableHashTable(tf.string, tf.int64, -1)

        def plain(self, x: Any) -> Any:
            return {"y": x @ self.w}

        def saving(self, x: Any) -> Any:
            tf.raw_ops.SaveV2(prefix="p", tensor_names=["x"], shape_and_slices=[""], tensors=[x])
            return {"y": x}

        def python(self, x: Any) -> Any:
            return {"y": tf.py_function(lambda value: value, [x], tf.float32)}

    net = Net()
    for name in ("plain", "saving", "python"):
        spec = tf.TensorSpec([None, 2], tf.float32, name="x")
        served = tf.function(getattr(net, name), input_signature=[spec])
        tf.saved_model.save(net, str(tmp_path / name), signatures=served)
    models = {name: ModelFile(name, tmp_path / name, "saved-model") for name in ("plain", "saving", "python")}
    assert_safe(models["plain"])
    assert saved_model.describe(models["plain"]).parameters == 6
    assert "SaveV2" in refused(models["saving"])
    assert "EagerPyFunc" in refused(models["python"])


def test_a_folder_around_a_saved_model_says_which_to_name(tmp_path: Path) -> None:
    from mlconv.errors import UnknownFormat
    from mlconv.model import identify

    (tmp_path / "export" / "inner").mkdir(parents=True)
    (tmp_path / "export" / "inner" / "saved_model.pb").write_bytes(b"\x08\x01")
    with pytest.raises(UnknownFormat) as raised:
        identify(str(tmp_path / "export"))
    assert raised.value.fix == f"name the SavedModel inside: {tmp_path / 'export' / 'inner'}"


@pytest.mark.parametrize(
    ("tags", "asked", "index"),
    [
        ([("train",), ("serve",)], None, 1),
        ([("serve", "gpu"), ("serve",)], None, 1),
        ([("serve", "gpu"), ("serve",)], "gpu", 0),
        ([("serve", "gpu"), ("serve",)], "gpu+serve", 0),
        ([("train",)], None, 0),
        ([("train",), ()], "", 1),
    ],
)
def test_a_graph_is_chosen_by_its_tags(tags: list[tuple[str, ...]], asked: str | None, index: int) -> None:
    from mlconv.formats.saved_model import select_graph

    assert select_graph(tags, asked, "model") == index
