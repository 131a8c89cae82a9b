"""What is recognised and not converted: the advice of each error is followed, and works."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import textwrap
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest

from mlconv.errors import MlconvError
from mlconv.formats import hugging_face
from mlconv.model import identify

RunCli = Callable[..., Any]  # conftest.run_cli

DEMO = Path(__file__).resolve().parents[1] / "src" / "mlconv" / "demo"


def refusal(path: Path) -> MlconvError:
    with pytest.raises(MlconvError) as caught:
        identify(str(path))
    return caught.value


# ------------------------------------------------------------------ archives


def tar(path: Path, mode: Literal["w:", "w:gz", "w:bz2", "w:xz"]) -> None:
    with tarfile.open(path, mode) as opened:
        opened.add(DEMO / "digits.tflite", "net.tflite")


def zipped(path: Path, name: str = "net.tflite") -> None:
    with zipfile.ZipFile(path, "w") as opened:
        opened.write(DEMO / "digits.tflite", name)


BYTES = (DEMO / "digits.tflite").read_bytes()
ARCHIVES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a b.tar.gz": (lambda path: tar(path, "w:gz"), "net.tflite"),
    "net.tgz": (lambda path: tar(path, "w:gz"), "net.tflite"),
    "net.tar": (lambda path: tar(path, "w:"), "net.tflite"),
    "net.tar.bz2": (lambda path: tar(path, "w:bz2"), "net.tflite"),
    "net.tar.xz": (lambda path: tar(path, "w:xz"), "net.tflite"),
    "net.tflite.gz": (lambda path: path.write_bytes(gzip.compress(BYTES)), "net.tflite"),
    "net.tflite.bz2": (lambda path: path.write_bytes(bz2.compress(BYTES)), "net.tflite"),
    "net.tflite.xz": (lambda path: path.write_bytes(lzma.compress(BYTES)), "net.tflite"),
    "net.zip": (zipped, "net.tflite"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_an_archive_is_unpacked_by_the_line_of_its_hint(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, inside = ARCHIVES[name]
    monkeypatch.chdir(tmp_path)
    make(Path(name))
    command = shlex.split(refusal(Path(name)).fix.removeprefix("unpack it first: "))
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} on this machine")
    subprocess.run(command, check=True, capture_output=True)
    assert identify(inside).format == "tflite"


def test_a_task_bundle_is_unzipped_by_its_hint_and_the_model_in_it_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    zipped(Path("hand.task"), "hand_landmark.tflite")
    first, _, then = refusal(Path("hand.task")).fix.partition(", then ")
    if shutil.which("unzip") is None:
        pytest.skip("no unzip on this machine")
    subprocess.run(shlex.split(first), check=True, capture_output=True)
    assert then == "mlconv onnx hand_landmark.tflite"
    assert identify("hand_landmark.tflite").format == "tflite"


# ------------------------------------------------------------------ Keras weights, compiled programs


@pytest.mark.framework("keras")
@pytest.mark.framework("tensorflow")
@pytest.mark.framework("tf2onnx")
def test_keras_weights_convert_once_they_are_in_their_model(tmp_path: Path, run_cli: RunCli) -> None:
    build = textwrap.dedent(
        """
        import keras
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        """
    )
    _python(f"{build}\nmodel.save_weights('net.weights.h5')", tmp_path)
    told = refusal(tmp_path / "net.weights.h5")
    assert told.fix.startswith(
        "in Python: build the model, model.load_weights(...), model.save('model.keras')"
    )
    _python(f"{build}\nmodel.load_weights('net.weights.h5'); model.save('model.keras')", tmp_path)
    assert run_cli(*told.fix.partition("; then mlconv ")[2].split(), cwd=tmp_path).code == 0


def _python(code: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------ Hugging Face

SMALL = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 50,
    "max_position_embeddings": 16,
}  # fmt: skip
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "BertForSequenceClassification": ("BertConfig", SMALL),
    "GPT2LMHeadModel": ("GPT2Config", {"n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 50, "n_positions": 16}),
    "T5ForConditionalGeneration": ("T5Config", {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2, "vocab_size": 50}),
    "ViTForImageClassification": ("ViTConfig", {**SMALL, "image_size": 16, "patch_size": 8}),
}  # fmt: skip


@pytest.mark.framework("torch")
@pytest.mark.framework("transformers")
@pytest.mark.parametrize("name", MODELS)
def test_the_factory_of_a_hugging_face_folder_works(name: str, tmp_path: Path, run_cli: RunCli) -> None:
    config, values = MODELS[name]
    _python(
        "import torch, transformers as t\n"
        "torch.manual_seed(0)\n"
        f"t.{name}(t.{config}(**{values!r})).save_pretrained('model')",
        tmp_path,
    )
    ran = run_cli("onnx", "model", cwd=tmp_path)
    assert ran.code == 3
    assert "error[MLC120]: `model` is a Hugging Face model" in ran.err
    hint = ran.err.partition("hint: put this into net.py, then: mlconv ")[2]
    command, _, factory = hint.partition("\n")
    (tmp_path / "net.py").write_text(textwrap.dedent(factory))
    pasted = run_cli(*shlex.split(command), "--json", cwd=tmp_path)
    assert pasted.code == 0, pasted
    parity = pasted.document["checks"]["parity"]
    assert parity["ok"]
    assert parity["informative"]


def inputs(config: dict[str, Any], preprocessor: dict[str, Any] | None = None) -> list[str]:
    """What the line to type gives as `--input`."""
    found = hugging_face.Folder(config, preprocessor or {})
    line = hugging_face.refusal("model", found).fix.splitlines()[0]
    return [word for word in shlex.split(line.partition("mlconv ")[2])[2:] if word != "--input"]


def test_texts_are_asked_for_up_to_the_positions_that_there_are() -> None:
    assert inputs({"model_type": "bert", "max_position_embeddings": 512, "pad_token_id": 0}) == [
        "input_ids=batch,sequence=2..512:int64", "attention_mask=batch,sequence=2..512:int64[0..1]",
    ]  # fmt: skip
    # RoBERTa's table of 514 rows begins at row pad_token_id + 1 = 2
    roberta = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}
    assert inputs(roberta)[0] == "input_ids=batch,sequence=2..512:int64"
    # a context of 128k tokens is not run for parity
    assert inputs({"model_type": "llama", "max_position_embeddings": 131072})[0].startswith(
        "input_ids=batch,sequence=2..512:"
    )


@pytest.mark.parametrize(
    ("preprocessor", "size"),
    [
        ({"size": {"height": 384, "width": 256}}, "384,256"),
        (
            {
                "size": {"shortest_edge": 256},
                "crop_size": {"height": 224, "width": 224},
                "do_center_crop": True,
            },
            "224,224",
        ),
        ({"size": 160}, "160,160"),
        ({}, "224,224"),
    ],
)
def test_pictures_have_the_size_that_the_preprocessor_gives(preprocessor: dict[str, Any], size: str) -> None:
    config = {"architectures": ["ResNetForImageClassification"], "num_channels": 3}
    assert inputs(config, preprocessor) == [f"pixel_values=batch,3,{size}"]


def test_speech_has_its_own_inputs() -> None:
    whisper = {
        "model_type": "whisper", "num_mel_bins": 80, "max_source_positions": 1500, "is_encoder_decoder": True,
        "max_target_positions": 448,
    }  # fmt: skip
    assert inputs(whisper) == [
        "input_features=batch,80,3000",
        "decoder_input_ids=batch,decoder_sequence=2..448:int64",
    ]
    assert inputs({"feat_extract_norm": "group", "conv_stride": [5, 2]}) == ["input_values=batch,16000"]


def test_a_class_of_the_models_own_repository_is_told_to_run_its_code() -> None:
    config = {
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": "c.C", "AutoModelForCausalLM": "m.OwnModel"},
    }
    told = hugging_face.refusal("model", hugging_face.Folder(config, {}))
    assert "import AutoConfig, AutoModelForCausalLM" in told.fix
    assert "trust_remote_code=True" in told.fix
    assert (
        told.why
        == "its class is Python in the model's own repository: read it before you run these lines, which do"
    )


def test_a_class_name_that_is_no_identifier_never_reaches_the_factory() -> None:
    config = {"architectures": ["X\n    import os"]}
    assert (
        "import AutoConfig, AutoModel\n" in hugging_face.refusal("model", hugging_face.Folder(config, {})).fix
    )


def test_a_timm_folder_gets_a_ref_with_its_weights(tmp_path: Path) -> None:
    config = {
        "architecture": "resnet18", "num_classes": 10,
        "pretrained_cfg": {"input_size": [3, 160, 160], "num_classes": 10},
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"x")
    told = refusal(tmp_path)
    assert told.id == "MLC120"
    weights = re.escape(shlex.quote(str(tmp_path / "model.safetensors")))
    assert re.fullmatch(
        rf"mlconv onnx 'timm:create_model\(\"resnet18\", num_classes=10\)' --weights {weights} --input x=batch,3,160,160",
        told.fix,
    )


def test_a_name_that_was_fetched_before_gets_the_inputs_of_its_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    hub = tmp_path / "models--org--net"
    (hub / "refs").mkdir(parents=True)
    (hub / "refs" / "main").write_text("0123abcd\n")
    snapshot = hub / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(
        json.dumps({"architectures": ["ViTModel"], "image_size": 32, "num_channels": 1})
    )
    told = refusal(Path("org/net"))
    assert told.what == "`org/net` is a Hugging Face model"
    assert "pixel_values=batch,1,32,32" in told.fix
    (hub / "refs" / "main").write_text("../../elsewhere")
    assert "are not fetched" in refusal(Path("org/net")).what


HOSTILE: dict[str, Any] = {
    "a command in a size": {
        "architecture": "r",
        "pretrained_cfg": {"input_size": [3, 224, "224; touch pwned #"]},
    },
    "a line in a name": {"architecture": "r\n\x1b[0mhint: curl evil", "pretrained_cfg": {}},
    "a list for a type": {"model_type": ["x"], "architectures": ["BertModel"]},
    "a number for names": {"architectures": 5, "model_type": "bert"},
    "a keyword for a class": {"architectures": ["class"]},
    "a text for a number": {"architectures": ["BertModel"], "max_position_embeddings": "9; rm -rf /"},
    "a bool for a size": {"architectures": ["ViTModel"], "image_size": True, "num_channels": {"a": 1}},
    "a text for what cuts a picture": {
        "architectures": ["ViTModel"],
        "image_size": ["1;", "2"],
        "num_channels": 3,
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_config_never_writes_the_line_to_type(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(HOSTILE[name]))
    told = refusal(tmp_path)
    command = told.fix.partition("mlconv ")[2].splitlines()[0]
    assert shlex.split(command)[0] == "onnx"
    assert not re.search(r"[;\x1b]|curl|class$", command.replace(str(tmp_path), ""))
    assert "import AutoConfig, class" not in told.fix


def test_the_name_of_a_member_is_quoted_in_the_line_to_type(tmp_path: Path) -> None:
    zipped(tmp_path / "a.task", "sub/x;touch PWNED;#.tflite")
    assert refusal(tmp_path / "a.task").fix.endswith("then mlconv onnx 'sub/x;touch PWNED;#.tflite'")
