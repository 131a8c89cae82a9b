"""The catalogue of errors: one entry for each class, written for somebody who has just met it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tarfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import jsonschema
import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from mlconv import catalogue, schemas
from mlconv.catalogue import ENTRIES, Entry
from mlconv.errors import UnknownErrorId, by_id

RunCli = Callable[..., Any]  # conftest.run_cli
every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.id)


def test_entries_and_error_classes_are_one_to_one_and_in_order() -> None:
    assert [entry.id for entry in ENTRIES] == list(by_id())


def test_every_exit_code_of_an_error_is_explained() -> None:
    assert {kind.exit for kind in by_id().values()} <= catalogue.EXIT_CODES.keys()


@every_entry
def test_an_explanation_names_the_id_the_code_and_the_exit_code_with_its_meaning(entry: Entry) -> None:
    text = entry.text()
    assert text.startswith(f"{entry.id} {entry.kind.code}: {entry.title}\n")
    assert f"exit code {entry.kind.exit}: {catalogue.EXIT_CODES[entry.kind.exit]}" in text
    assert len(text) > 80
    assert [line for line in text.splitlines() if len(line) > 100 and not line.startswith("  ")] == []


@every_entry
def test_a_cause_is_one_to_three_sentences(entry: Entry) -> None:
    assert entry.cause.endswith(".")
    assert 1 <= len(re.findall(r"\.(?= [A-Z`]|$)", entry.cause)) <= 3


@every_entry
def test_an_example_is_a_command_and_what_it_printed(entry: Entry) -> None:
    command, *printed = entry.example.splitlines()
    assert re.match(r"\$ (MLCONV_\w+=\S+ )?mlconv ", command)
    shapes = [r"(error\[(MLC\d{3})\]: [^A-Z\s].*|\^C)", r"  why: \S.*", r"hint: \S.*", r"log: \S.*"]
    assert all(any(re.fullmatch(shape, line) for shape in shapes) for line in printed)
    assert [line[6:12] for line in printed if line.startswith("error")] == [entry.id]
    assert sum(line.startswith("hint: ") for line in printed) == 1


@every_entry
def test_there_is_something_to_do_about_every_error(entry: Entry) -> None:
    assert entry.cures
    assert all(cure == cure.strip() and "\n" not in cure and not cure.endswith(".") for cure in entry.cures)


@pytest.mark.parametrize("name", ["MLC214", "mlc214", "214", " MLC214 "])
def test_an_id_is_found_however_it_is_written(name: str) -> None:
    assert catalogue.entry(name).id == "MLC214"


@pytest.mark.parametrize(
    ("name", "near"), [("MLC000", "MLC010"), ("MLC217x", "MLC217"), ("MLC999", "MLC799")]
)
def test_an_unknown_id_tells_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownErrorId) as caught:
        catalogue.entry(name)
    assert caught.value.what == f"there is no error id `{name}`"
    assert f"`{near}`" in (caught.value.why or "")
    assert caught.value.fix.startswith("mlconv explain MLC")


@pytest.mark.parametrize("name", ["", "parity", "MLC", "--help"])
def test_what_is_no_id_is_told_what_one_looks_like(name: str) -> None:
    with pytest.raises(UnknownErrorId) as caught:
        catalogue.entry(name)
    assert caught.value.why == "an id is MLC and three digits, as printed in error[MLC214]"


@every_entry
def test_the_document_is_valid_under_its_schema(entry: Entry) -> None:
    document = entry.to_json(0.25)
    jsonschema.validate(document, schemas.schema("explain"), jsonschema.Draft202012Validator)
    assert (document["id"], document["exit"], document["seconds"]) == (entry.id, entry.kind.exit, 0.25)


# ------------------------------------------------------------------ examples say what is printed

NET = """\
import torch


class Gate(torch.nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.fc = torch.nn.Linear(4, width)

    def forward(self, x):
        if x.sum() > 0:
            return self.fc(x)
        return -self.fc(x)


class Plain(Gate):
    def forward(self, x):
        return self.fc(x)


make = Plain
"""


def linear(path: Path, data: str | None = None, output: str = "y") -> None:
    """``y = x w`` with x of 1,4 and y of 1,2; `data`: where the weights lie, if not in the file."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, [4, 2], np.ones(8, np.float32))
    if data is not None:
        weights = TensorProto(
            name="w", dims=[4, 2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL
        )
        weights.external_data.add(key="location", value=data)
    write(path, [helper.make_node("MatMul", ["x", "w"], [output])], {"x": [1, 4]}, {output: [1, 2]}, weights)


def write(
    path: Path, nodes: list[NodeProto], inputs: dict[str, list[int]], outputs: dict[str, list[int]], *weights: TensorProto,
    dtype: int = TensorProto.FLOAT,
) -> None:  # fmt: skip
    x, y = (
        [helper.make_tensor_value_info(name, dtype, shape) for name, shape in end.items()]
        for end in (inputs, outputs)
    )
    graph = helper.make_graph(nodes, "net", x, y, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def safetensors(path: Path, shapes: dict[str, list[int]]) -> None:
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def foreign(folder: Path) -> None:
    """What is recognised and never converted, as far as its first bytes go."""
    with tarfile.open(folder / "model.tar.gz", "w:gz") as packed:
        packed.addfile(tarfile.TarInfo("net.onnx"))
    for archive, member in {
        "hand.task": "hand_landmark.tflite",
        "aot.pt2": "net/data/aotinductor/model/net.so",
    }.items():
        with zipfile.ZipFile(folder / archive, "w") as opened:
            opened.writestr(member, b"x")
    with h5py.File(folder / "net.weights.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", (2, 3), "f4")
    config = {
        "architecture": "resnet18",
        "num_classes": 10,
        "pretrained_cfg": {"input_size": [3, 224, 224]},
    }
    (folder / "resnet").mkdir()
    (folder / "resnet" / "config.json").write_text(json.dumps(config))
    safetensors(folder / "resnet" / "model.safetensors", {"fc.bias": [10]})
    (folder / "net.mlmodelc").mkdir()
    (folder / "net.mlmodelc" / "coremldata.bin").touch()
    (folder / "llama.gguf").write_bytes(b"GGUF" + bytes(60))
    (folder / "net.engine").write_bytes(b"ftrt" + bytes(60))
    (folder / "net.xml").write_text('<?xml version="1.0"?>\n<net name="m" version="11"/>')
    (folder / "net.pte").write_bytes(b"\x10\0\0\0ET12" + bytes(60))
    (folder / "svm.pkl").write_bytes(b"\x80\x02csklearn.svm._classes\nSVC\n)\x81.")


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    """A folder with the files that the examples name."""
    linear(tmp_path / "net.onnx")
    linear(tmp_path / "big.onnx", "big.onnx.data")
    linear(tmp_path / "renamed.onnx", output="z")
    node = helper.make_node
    warp, x, grid = [node("GridSample", ["x", "grid"], ["y"])], [1, 1, 4, 4], [1, 4, 4, 2]
    write(tmp_path / "warp.onnx", warp, {"x": x, "grid": grid}, {"y": x})
    write(
        tmp_path / "log.onnx",
        [node("Neg", ["x"], ["n"]), node("Log", ["n"], ["y"])],
        {"x": [1, 4]},
        {"y": [1, 4]},
    )
    words = [node("StringNormalizer", ["text"], ["y"])]
    write(tmp_path / "words.onnx", words, {"text": [1]}, {"y": [1]}, dtype=TensorProto.STRING)
    (tmp_path / "cut.onnx").write_bytes((tmp_path / "net.onnx").read_bytes()[:-30])
    (tmp_path / "prose.onnx").write_text("This is not a model.\n" * 50)
    (tmp_path / "served.onnx").write_bytes(b"somebody's own")
    write(tmp_path / "image.onnx", [node("Relu", ["x"], ["y"])], {"x": [1, 3, 8, 8]}, {"y": [1, 3, 8, 8]})
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("<html>404</html>")
    (tmp_path / "net.py").write_text(NET)
    np.savez(tmp_path / "test.npz", images=np.zeros((3, 4), np.float32))
    safetensors(tmp_path / "net.safetensors", {"fc.weight": [2, 4], "fc.bias": [2]})
    safetensors(tmp_path / "ten.safetensors", {"fc.weight": [10, 4], "fc.bias": [10]})
    return tmp_path


def net_on_a_gpu(path: Path) -> None:
    """TorchScript whose device is an attribute: no text of its code tells it."""
    import torch

    class Asks(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.where = "cuda:0"

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.zeros(4, device=torch.device(self.where))

    with warnings.catch_warnings(action="ignore"):  # torch would rather have torch.export
        torch.jit.script(Asks()).save(path)  # type: ignore[no-untyped-call]


def assert_prints(id_: str, folder: Path, run_cli: RunCli) -> None:
    """The example's command prints the example's error, whatever progress and log come with it."""
    command, *printed = catalogue.entry(id_).example.splitlines()
    ran = run_cli(*shlex.split(command)[2:], cwd=folder)
    assert ran.code == by_id()[id_].exit, ran
    error = [line for line in ran.err.splitlines() if line.startswith(("error[", "  why: ", "hint: "))]
    assert error == printed, ran


def test_the_net_of_the_examples_is_a_model(ground: Path) -> None:
    onnx.checker.check_model(onnx.load(ground / "net.onnx"), full_check=True)


BEFORE_ANY_FRAMEWORK = ("MLC001", "MLC002", "MLC003", "MLC007", "MLC008", "MLC011", "MLC012", "MLC013", "MLC015",
                        "MLC016", "MLC017", "MLC018", "MLC101", "MLC102", "MLC103", "MLC104", "MLC106",
                        *(f"MLC{number}" for number in range(120, 131)), "MLC220")  # fmt: skip


@pytest.mark.parametrize("id_", BEFORE_ANY_FRAMEWORK)
def test_an_example_prints_what_it_says(id_: str, ground: Path, run_cli: RunCli) -> None:
    if "MLC120" <= id_ <= "MLC130":
        foreign(ground)
    if id_ == "MLC101":  # it tells the nearest names
        for path in set(ground.glob("*.onnx")) - {ground / "net.onnx", ground / "prose.onnx"}:
            path.unlink()
    assert_prints(id_, ground, run_cli)


def test_an_example_of_data_outside_the_folder_prints_what_it_says(ground: Path, run_cli: RunCli) -> None:
    linear(ground / "net.onnx", "../w.bin")
    assert_prints("MLC113", ground, run_cli)


@pytest.mark.framework("onnxruntime")
@pytest.mark.parametrize(
    "id_",
    [
        "MLC004",
        "MLC005",
        "MLC006",
        "MLC010",
        "MLC014",
        "MLC116",
        "MLC117",
        "MLC215",
        "MLC217",
        "MLC303",
        "MLC311",
        "MLC320",
    ],
)
def test_an_example_of_an_onnx_model_prints_what_it_says(id_: str, ground: Path, run_cli: RunCli) -> None:
    assert_prints(id_, ground, run_cli)


@pytest.mark.framework("torch")
@pytest.mark.parametrize("id_", ["MLC009", "MLC110", "MLC114", "MLC115", "MLC210", "MLC216", "MLC219"])
def test_an_example_of_a_module_prints_what_it_says(id_: str, ground: Path, run_cli: RunCli) -> None:
    (ground / "net.onnx").unlink()  # the place of the output
    if id_ == "MLC110":
        import torch

        torch.save(torch.nn.Linear(4, 2), ground / "whole.pt")
    if id_ == "MLC219":
        net_on_a_gpu(ground / "net_cuda.pt")
    assert_prints(id_, ground, run_cli)


GATE = """\
import keras


class Gate(keras.layers.Layer):
    def call(self, x):
        return x * keras.ops.sigmoid(x)
"""


@pytest.mark.framework("tensorflow", "keras", "tf_keras", "tf2onnx")
@pytest.mark.parametrize("id_", ["MLC139", "MLC140"])
@pytest.mark.filterwarnings("ignore")  # Keras warns of itself
def test_an_example_of_custom_layers_prints_what_it_says(id_: str, tmp_path: Path, run_cli: RunCli) -> None:
    (tmp_path / "layers.py").write_text(GATE)
    (tmp_path / "old_layers.py").write_text(
        GATE.replace("import keras", "import tf_keras as keras").replace("ops.", "backend.")
    )
    made = 'import keras, layers; x = keras.Input((4,)); keras.Model(x, layers.Gate()(x)).save("gate.keras")'
    subprocess.run([sys.executable, "-c", made], cwd=tmp_path, check=True, capture_output=True)
    assert_prints(id_, tmp_path, run_cli)


@pytest.mark.framework("tensorflow", "tf2onnx")
@pytest.mark.filterwarnings("ignore")  # TensorFlow warns of itself
def test_an_example_of_several_graphs_prints_what_it_says(tmp_path: Path, run_cli: RunCli) -> None:
    import tensorflow as tf

    v1 = tf.compat.v1
    builder = v1.saved_model.builder.SavedModelBuilder(str(tmp_path / "saved"))
    with tf.Graph().as_default(), v1.Session() as session:
        v1.placeholder(tf.float32, (None, 3), name="x")
        builder.add_meta_graph_and_variables(session, ["train"])
        builder.add_meta_graph(["eval"])
    builder.save()
    assert_prints("MLC019", tmp_path, run_cli)
