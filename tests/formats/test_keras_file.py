"""Keras models, read from their configuration and the shapes of their weights."""

from __future__ import annotations

import itertools
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mlconv.errors import Corrupt, MlconvError, PathEscape, UntrustedCode
from mlconv.formats import ModelFile, hdf5_file, keras_file, mapped
from mlconv.formats.safety import assert_safe
from mlconv.tensors import TensorSpec


def layer(kind: str, name: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "name": name, "config": {"name": name, **config}}


INPUT = layer("InputLayer", "image", batch_shape=[None, 8, 8, 3], dtype="float32")
DENSE = layer("Dense", "scores", dtype={"class_name": "DTypePolicy", "config": {"name": "mixed_float16"}})
INNER = {
    "class_name": "Functional",
    "name": "inner",
    "config": {"layers": [layer("Conv2D", "c"), layer("ReLU", "r")]},
}
FUNCTIONAL: dict[str, Any] = {
    "class_name": "Functional",
    "config": {
        "layers": [INPUT, INNER, layer("Bidirectional", "b", layer=layer("LSTM", "l")), DENSE],
        "input_layers": ["image", 0, 0],
        "output_layers": [["scores", 0, 0]],
    },
}
LAMBDA = layer("Lambda", "evil", function={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}})


def archived(
    path: Path,
    config: Any = FUNCTIONAL,
    compression: int = zipfile.ZIP_STORED,
    extra: str | None = None,
) -> ModelFile:
    weights = path.with_suffix(".weights.h5")
    with h5py.File(weights, "w") as file:
        file["layers/scores/vars/0"] = np.zeros((4, 5), np.float32)
        file["layers/scores/vars/1"] = np.zeros(5, np.float32)
        file["layers/seed/vars/0"] = np.zeros(2, np.uint32)
        file["optimizer/vars/0"] = np.zeros((4, 5), np.float32)
    with zipfile.ZipFile(path, "w", compression) as opened:
        opened.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        opened.writestr("config.json", json.dumps(config))
        opened.write(weights, "model.weights.h5")
        if extra:
            opened.writestr(extra, b"x")
    return ModelFile(path.name, path, "keras")


def whole(path: Path, config: Any = FUNCTIONAL) -> ModelFile:
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file.attrs["keras_version"] = np.bytes_(b"2.4.0")
        file["model_weights/scores/scores/kernel:0"] = np.zeros((4, 5), np.float32)
        file["optimizer_weights/Adam/m:0"] = np.zeros((4, 5), np.float32)
    return ModelFile(path.name, path, "keras-h5")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_an_archive_tells_signature_layers_and_parameters(compression: int, tmp_path: Path) -> None:
    described = keras_file.describe(archived(tmp_path / "net.keras", compression=compression))
    assert described.inputs == (TensorSpec("image", (None, 8, 8, 3), "float32"),)
    assert described.outputs == (TensorSpec("scores", None, "float16"),)
    expected = {"Bidirectional": 1, "Conv2D": 1, "Dense": 1, "InputLayer": 1, "LSTM": 1, "ReLU": 1}
    assert described.operators == expected
    assert described.parameters == 25
    assert described.metadata == {"keras_version": "3.15.1"}


def test_a_whole_model_in_hdf5_is_described_alike(tmp_path: Path) -> None:
    model = whole(tmp_path / "net.h5")
    described = keras_file.describe(model)
    assert described.inputs == (TensorSpec("image", (None, 8, 8, 3), "float32"),)
    assert (described.parameters, described.metadata) == (20, {"keras_version": "2.4.0"})
    assert keras_file.has_model_config(mapped.read_only(tmp_path / "net.h5"))


@pytest.mark.parametrize(
    ("layers", "name", "shape"),
    [
        ([layer("InputLayer", "x", batch_input_shape=[None, 4]), layer("Dense", "d")], "x", (None, 4)),
        ([layer("Dense", "d", batch_input_shape=[None, 4])], "d_input", (None, 4)),
        ([layer("Dense", "d")], "d_input", None),
        ([layer("InputLayer", "x", batch_shape={"class_name": "__tuple__", "items": [1, 4]})], "x", (1, 4)),
    ],
)
def test_a_sequential_model_takes_what_its_first_layer_takes(
    layers: list[Any], name: str, shape: tuple[int | None, ...] | None, tmp_path: Path
) -> None:
    for config in (
        {"class_name": "Sequential", "config": {"layers": layers}},
        {"class_name": "Sequential", "config": layers},
    ):
        assert keras_file.describe(whole(tmp_path / "net.h5", config)).inputs == (
            TensorSpec(name, shape, "float32"),
        )


def test_several_inputs_and_outputs_keep_their_order(tmp_path: Path) -> None:
    other = layer("InputLayer", "mask", batch_shape=[None, 2], dtype="int32")
    config = {
        "layers": [INPUT, other, DENSE],
        "input_layers": {"b": ["image", 0, 0], "a": ["mask", 0, 0]},
        "output_layers": [["scores", 0, 0], ["image", 0, 0]],
    }
    described = keras_file.describe(
        archived(tmp_path / "n.keras", {"class_name": "Functional", "config": config})
    )
    assert [(spec.name, spec.dtype) for spec in described.inputs] == [("mask", "int32"), ("image", "float32")]
    assert [spec.name for spec in described.outputs] == ["scores", "image"]


def test_classes_of_the_author_s_own_are_told(tmp_path: Path) -> None:
    own = {"module": "my_package.layers", "registered_name": "My>Gate", **layer("Gate", "g")}
    described = keras_file.describe(
        whole(tmp_path / "n.h5", {"class_name": "Sequential", "config": {"layers": [own]}})
    )
    assert any("`Gate`" in note and "--custom-objects" in note for note in described.notes)


# ------------------------------------------------------------------ what it would run or reach


def with_layers(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"class_name": "Sequential", "config": {"layers": [INPUT, *layers]}}


@pytest.mark.parametrize(
    "evil",
    [
        LAMBDA,
        layer("Lambda", "evil", function_type="lambda", function=["4wEAAAA=", None, None]),
        layer("TimeDistributed", "outer", layer=LAMBDA),
        {"class_name": "Functional", "name": "inner", "config": {"layers": [LAMBDA]}},
        layer("Dense", "evil", activation={"class_name": "__lambda__", "config": {"code": "4wEAAAA="}}),
        layer("TorchModuleWrapper", "evil", module="gASV"),
        layer("TFSMLayer", "evil", filepath="/tmp/model"),
        {**layer("X", "evil"), "registered_name": "keras>Lambda"},
    ],
)
def test_python_in_a_configuration_is_refused_and_named(evil: dict[str, Any], tmp_path: Path) -> None:
    for model in (
        archived(tmp_path / "n.keras", with_layers(evil)),
        whole(tmp_path / "n.h5", with_layers(evil)),
    ):
        with pytest.raises(UntrustedCode, match="`evil`") as caught:
            assert_safe(model)
        assert "--trust-model" in caught.value.fix
        assert_safe(model, trust_model=True)
        assert any("`evil`" in note for note in keras_file.describe(model).notes)


def test_a_function_that_reaches_out_is_refused_and_told(tmp_path: Path) -> None:
    evil = layer("TFOpLambda", "op", function="compat.v1.gfile.MakeDirs")
    model = whole(tmp_path / "n.h5", with_layers(evil))
    with pytest.raises(UntrustedCode, match=r"`compat\.v1\.gfile\.MakeDirs`") as caught:
        assert_safe(model)
    assert "--trust-model" in caught.value.fix
    assert_safe(model, trust_model=True)
    assert any("MakeDirs" in note for note in keras_file.describe(model).notes)


def test_plain_layers_are_safe(tmp_path: Path) -> None:
    assert_safe(archived(tmp_path / "n.keras"))
    assert_safe(whole(tmp_path / "n.h5"))


def test_a_member_that_leads_outside_is_an_escape_even_with_trust(tmp_path: Path) -> None:
    model = archived(tmp_path / "n.keras", extra="../../evil.txt")
    with pytest.raises(PathEscape, match=r"evil\.txt"):
        assert_safe(model, trust_model=True, trust_pickle=True)


def test_a_vocabulary_outside_the_file_is_an_escape(tmp_path: Path) -> None:
    config = with_layers(layer("StringLookup", "words", vocabulary="/etc/passwd"))
    for model in (archived(tmp_path / "n.keras", config), whole(tmp_path / "n.h5", config)):
        with pytest.raises(PathEscape, match="passwd"):
            assert_safe(model)
    assert_safe(
        archived(tmp_path / "n.keras", with_layers(layer("StringLookup", "words", vocabulary=["a", "b"])))
    )


def test_a_feature_column_s_vocabulary_file_is_an_escape(tmp_path: Path) -> None:
    column = {"class_name": "VocabularyFileCategoricalColumn", "config": {"vocabulary_file": "/etc/passwd"}}
    with pytest.raises(PathEscape, match="passwd"):
        assert_safe(
            whole(tmp_path / "n.h5", with_layers(layer("DenseFeatures", "f", feature_columns=[column])))
        )


@pytest.mark.parametrize("kind", ["external link", "external storage", "virtual dataset"])
def test_weights_in_another_file_are_an_escape(kind: str, tmp_path: Path) -> None:
    model = whole(tmp_path / "n.h5")
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as other:
        other["x"] = np.zeros(4, np.float32)
    with h5py.File(tmp_path / "n.h5", "a") as file:
        if kind == "external link":
            file["model_weights/evil"] = h5py.ExternalLink(str(secret), "/x")
        elif kind == "external storage":
            file.create_dataset("model_weights/evil", (4,), np.uint8, external=[(str(secret), 0, 4)])
        else:
            layout = h5py.VirtualLayout((4,), np.float32)
            layout[:] = h5py.VirtualSource(str(secret), "x", (4,))
            file.create_virtual_dataset("model_weights/evil", layout)
    with pytest.raises(PathEscape, match="model_weights/evil"):
        assert_safe(model, trust_model=True)
    assert any("refused" in note for note in keras_file.describe(model).notes)


# ------------------------------------------------------------------ damage


@pytest.mark.parametrize(
    "config",
    [[], "text", 3, {"class_name": "Functional", "config": {"input_layers": [["gone", 0, 0]], "layers": []}}],
)
def test_a_configuration_of_another_shape_is_corrupt(config: Any, tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        keras_file.describe(archived(tmp_path / "n.keras", config))


def test_a_configuration_that_nests_without_end_is_corrupt(tmp_path: Path) -> None:
    model = archived(tmp_path / "n.keras")
    with zipfile.ZipFile(tmp_path / "n.keras", "w") as opened:
        opened.writestr("metadata.json", "{}")
        opened.writestr("config.json", "[" * 100_000)
    with pytest.raises(Corrupt):
        keras_file.describe(model)


def test_groups_that_hold_each_other_are_entered_once(tmp_path: Path) -> None:
    model = whole(tmp_path / "n.h5")
    with h5py.File(tmp_path / "n.h5", "a") as file:
        file["model_weights/again"] = file["model_weights"]
        file["model_weights/soft"] = h5py.SoftLink("/model_weights")
    assert keras_file.describe(model).parameters == 20


def test_what_makes_hdf5_crash_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crash = tmp_path / "crash.py"
    crash.write_text("import os; os.abort()")
    monkeypatch.setattr(hdf5_file, "_CHILD", crash)
    with pytest.raises(Corrupt) as caught:
        keras_file.describe(whole(tmp_path / "n.h5"))
    assert "-6" in str(caught.value.why)


def test_what_hdf5_never_ends_with_is_corrupt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = tmp_path / "endless.py"
    endless.write_text("import time; time.sleep(100)")
    monkeypatch.setattr(hdf5_file, "_CHILD", endless)
    monkeypatch.setattr(hdf5_file, "_PATIENCE_S", 0.5)
    with pytest.raises(Corrupt, match="damaged"):
        keras_file.describe(whole(tmp_path / "n.h5"))


def test_damage_gives_an_answer_or_a_named_error(mutations: Any, tmp_path: Path) -> None:
    path = tmp_path / "hurt"
    for source in (whole(tmp_path / "n.h5"), archived(tmp_path / "n.keras")):
        assert source.path is not None
        for data in itertools.islice(mutations(source.path.read_bytes()), 12):  # a process each
            path.write_bytes(data)
            try:
                keras_file.describe(ModelFile("hurt", path, source.format))
            except MlconvError:
                continue


def test_public_models_are_read(models: Path) -> None:
    for row in json.loads((models / "index.json").read_text()):
        if not row["format"].startswith("keras"):
            continue
        described = keras_file.describe(ModelFile(row["id"], models / row["local"], "keras-h5"))
        assert set(row["op_types"]) <= {f"{name}x{count}" for name, count in described.operators.items()}
        assert [(spec.name, list(spec.shape or ())) for spec in described.inputs] == [
            (put["name"], put["shape"]) for put in row["inputs"]
        ]
