"""Recognition: every format from its content, and an own sentence for everything else."""

from __future__ import annotations

import json
import os
import pickle
import re
import socket
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import (
    BadUsage,
    Corrupt,
    InputError,
    MissingFile,
    MlconvError,
    NotConvertible,
    OptionNotAccepted,
    UnknownFormat,
    Unreadable,
)
from mlconv.formats import FORMATS, ModelFile
from mlconv.model import _READERS, describe, identify

NAMES = {
    "tflite": "tflite", "keras HDF5": "keras-h5", "keras HDF5 (.keras)": "keras-h5", "SavedModel": "saved-model",
    "onnx": "onnx", "torch state_dict": "torch-weights", "mlmodel": "coreml", "TF1 frozen .pb": "tf-graph",
    "TorchScript": "torchscript", ".pt2 (derived)": "torch-export",
}  # fmt: skip
NO_MODELS = {"m068", "m087", "m165"}


@pytest.fixture(scope="module")
def public(models: Path) -> list[tuple[Path, str]]:
    """Every public model, with the id of its format."""
    found = []
    for row in json.loads((models / "index.json").read_text()):
        path = models / row["local"]
        path = path / "model.onnx" if row["format"] == "onnx" and path.is_dir() else path
        compiled = "CUSTOM:edgetpu-custom-opx1" in (row.get("op_types") or [])
        if row["id"] not in NO_MODELS:
            found.append((path, "tflite-edgetpu" if compiled else NAMES[row["format"]]))
    return found


def test_every_public_model_is_recognised_and_described(public: list[tuple[Path, str]]) -> None:
    assert [(path, identify(str(path)).format) for path, _ in public] == public
    for path, _ in public:
        described = describe(identify(str(path)))
        assert described.format == identify(str(path)).format
        assert path.is_dir() or described.bytes == path.stat().st_size


@pytest.mark.parametrize("suffix", [".onnx", ".tflite", ".pt", ".pb", ".json", ""])
def test_a_suffix_that_lies_does_not_mislead(
    suffix: str, public: list[tuple[Path, str]], tmp_path: Path
) -> None:
    renamed = tmp_path / f"renamed{suffix}"
    for path, expected in public:
        if path.is_file():
            renamed.unlink(missing_ok=True)
            renamed.symlink_to(path)
            assert identify(str(renamed)).format == expected, path


def test_every_format_has_a_reader() -> None:
    assert set(_READERS) == set(FORMATS)


def test_recognising_imports_nothing_heavy(public: list[tuple[Path, str]]) -> None:
    code = (
        "import sys\nfrom mlconv.model import identify\n"
        "for path in sys.argv[1:]: identify(path)\n"
        "heavy = {'numpy', 'onnx', 'h5py', 'torch', 'tensorflow', 'keras', 'coremltools', 'onnxruntime'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    paths = [str(path) for path, _ in public]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------ what is not there, or cannot be read


def test_a_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(MissingFile, match=r"modle\.onnx") as caught:
        identify(str(tmp_path / "modle.onnx"))
    assert caught.value.fix == f"did you mean {tmp_path / 'model.onnx'}?"


def test_a_mistyped_name_is_mended_in_the_hint_whatever_it_was_typed_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").touch()
    (tmp_path / "my net.pt2").write_bytes(b"")
    with pytest.raises(MissingFile) as caught:
        identify("nett.py:make(3)")
    assert caught.value.fix == "did you mean 'net.py:make(3)'?"
    with pytest.raises(MissingFile) as caught:
        identify("my nett.pt2")
    assert caught.value.fix == "did you mean 'my net.pt2'?"


@pytest.mark.parametrize(
    "name", ["no/such/folder/m.onnx", "a" * 5000, "a\0b", "file.onnx/inside", "C:\\m.onnx", ""]
)
def test_what_is_not_there_is_an_input_error(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.onnx").write_bytes(b"x")
    with pytest.raises(InputError):
        identify(name)


def test_a_link_to_nothing_names_its_target(tmp_path: Path) -> None:
    (tmp_path / "link.onnx").symlink_to("gone.onnx")
    with pytest.raises(MissingFile, match=r"gone\.onnx"):
        identify(str(tmp_path / "link.onnx"))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def unix_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(path.name)  # a path in full may be too long for one


def loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(("make", "word"), [(pipe, "pipe"), (unix_socket, "socket"), (loop, "itself")])
def test_nothing_is_read_from_what_is_no_file(
    make: Callable[[Path], None], word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "odd")
    with pytest.raises(Unreadable, match=word):
        identify("odd")


def test_a_device_is_refused() -> None:
    with pytest.raises(Unreadable, match="device"):
        identify("/dev/zero")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").touch(mode=0o000)
    with pytest.raises(Unreadable):
        identify(str(tmp_path / "m.onnx"))


def test_a_hole_of_30_gigabytes_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(30 << 30)
    with pytest.raises(UnknownFormat) as caught:
        identify(str(tmp_path / "m.onnx"))
    assert "zeros" in str(caught.value.why)


@pytest.mark.parametrize(("content", "word"), [(b"", "empty"), (b"\x1c", "one byte")])
def test_a_file_of_nothing_is_corrupt(content: bytes, word: str, tmp_path: Path) -> None:
    (tmp_path / "m.tflite").write_bytes(content)
    with pytest.raises(Corrupt, match=word):
        identify(str(tmp_path / "m.tflite"))


# ------------------------------------------------------------------ REFs


def test_a_ref_is_a_module_whether_or_not_it_could_be_imported(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("raise SystemExit")
    model = identify(f"{tmp_path}/net.py:make(3)")
    assert (model.format, model.path) == ("torch-module", tmp_path / "net.py")
    assert identify('timm:create_model("resnet18")').path is None
    assert describe(model).bytes == len("raise SystemExit")


def test_a_path_that_exists_is_no_ref(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py:make").write_text("text")
    with pytest.raises(UnknownFormat):
        identify("net.py:make")


def test_a_ref_to_a_file_that_is_missing_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFile, match=r"net\.py`"):
        identify(f"{tmp_path}/net.py:make")


def test_a_ref_with_code_for_arguments_is_a_usage_error() -> None:
    with pytest.raises(BadUsage):
        identify("net:make(open('x'))")


def test_a_python_file_alone_is_told_to_name_something(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("x = 1")
    with pytest.raises(UnknownFormat) as caught:
        identify(str(tmp_path / "net.py"))
    assert "net.py:make" in caught.value.fix


# ------------------------------------------------------------------ folders


def test_the_greatest_version_of_a_served_model_is_taken(tmp_path: Path) -> None:
    for version in ("2", "10", "9", "notes"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").write_bytes(b"")
    assert identify(str(tmp_path)).path == tmp_path / "10"


def test_a_saved_model_s_file_stands_for_its_folder(models: Path) -> None:
    folder = (
        models / "dotnet_machinelearning-testdata" / "Microsoft.ML.TensorFlow.TestModels__model_string_test"
    )
    assert identify(str(folder / "saved_model.pb")).path == folder


def test_a_folder_that_is_no_model_tells_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(UnknownFormat) as caught:
        identify(str(tmp_path))
    assert caught.value.why == "it is empty"
    (tmp_path / "net.onnx").write_bytes(b"x")
    with pytest.raises(UnknownFormat) as caught:
        identify(str(tmp_path))
    assert str(tmp_path / "net.onnx") in caught.value.fix


# ------------------------------------------------------------------ recognised, not converted; and unknown


def zipped(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        for name in names:
            opened.writestr(name, b"x")


def hdf5(path: Path, name: str) -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset(name, (2, 3), "f4")


def hugging_face(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"architectures": ["BertForMaskedLM"]}))


def tar(path: Path) -> None:
    with tarfile.open(path, "w:gz") as opened:
        opened.addfile(tarfile.TarInfo("net.onnx"))


def compiled(path: Path) -> None:
    path.mkdir()
    (path / "coremldata.bin").write_bytes(b"x")


def chunks(path: Path) -> None:
    path.mkdir()
    (path / "saved_model.cpb").touch()


FOREIGN: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "hf": (hugging_face, "MLC120", "Hugging Face", "import AutoConfig, BertForMaskedLM"),
    "m.weights.h5": (lambda path: hdf5(path, "layers/dense/vars/0"), "MLC121", "Keras weights", "model.save"),
    "m.gguf": (lambda path: path.write_bytes(b"GGUF" + b"\0" * 60), "MLC122", "GGUF", "net.py:make"),
    "m.mlmodelc": (compiled, "MLC123", "compiled Core ML", ".mlpackage"),
    "m.task": (lambda path: zipped(path, "pose.tflite"), "MLC124", "MediaPipe", "pose.tflite"),
    "m.engine": (lambda path: path.write_bytes(b"ftrt" + b"\0" * 60), "MLC125", "TensorRT", "ONNX"),
    "ultralytics.engine": (lambda path: path.write_bytes(b"\x02\0\0\0{}ftrt" + b"\0" * 60), "MLC125", "TensorRT", "ONNX"),
    "m.xml": (lambda path: path.write_text('<?xml version="1.0"?>\n<net name="m" version="11"/>'), "MLC126", "OpenVINO", "ONNX"),
    "m.pte": (lambda path: path.write_bytes(b"\x10\0\0\0ET12" + b"\0" * 60), "MLC127", "ExecuTorch", ".pt2"),
    "m.pt2": (lambda path: zipped(path, "m/data/aotinductor/model/a.so", "m/archive_format"), "MLC128", "AOTInductor", "torch.export.save"),
    "m.zip": (lambda path: zipped(path, "a/net.onnx", "b.txt"), "MLC129", "zip archive", "unzip"),
    "m.tar.gz": (tar, "MLC129", "gzip archive", "tar -xzf"),
    "m.pkl": (lambda path: path.write_bytes(b"\x80\x02csklearn.svm._classes\nSVC\n)\x81."), "MLC130", "scikit-learn", "skl2onnx"),
    "m.npz": (lambda path: zipped(path, "x.npy"), "MLC106", "numpy arrays", "--data"),
    "package.pt": (lambda path: zipped(path, "m/.data/extern_modules", "m/net.py"), "MLC106", "torch.package", "PackageImporter"),
    "chunks": (chunks, "MLC106", "chunks", "save less"),
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_each_format_that_is_not_converted_has_its_own_words(name: str, tmp_path: Path) -> None:
    make, id_, what, fix = FOREIGN[name]
    make(tmp_path / name)
    with pytest.raises(NotConvertible) as caught:
        identify(str(tmp_path / name))
    assert caught.value.id == id_
    assert what in caught.value.what
    assert fix in caught.value.fix


def test_a_hugging_face_name_gets_the_factory_to_paste(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotConvertible, match="Hugging Face names are not fetched") as caught:
        identify("google/vit-base-patch16-224")
    assert caught.value.fix.startswith(
        "hf download google/vit-base-patch16-224 --local-dir vit-base-patch16-224, then mlconv onnx vit-base-patch16-224 prints"
    )
    (tmp_path / "google").mkdir()
    with pytest.raises(MissingFile):
        identify("google/vit-base-patch16-224")


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("class Block(nn.Module): pass\nclass Net(Block): pass\ndef act(x): pass\ndef make_net(): pass",
         ["make_net", "Block", "Net", "act"]),
        ("import keras\nclass Scale(keras.layers.Layer): pass\ndef act(x): pass", ["act", "Scale"]),
        ("def _hidden(): pass\nclass Only(torch.nn.Module):\n    def make(self): pass", ["Only"]),
    ],
)  # fmt: skip
def test_a_python_file_without_a_name_gets_the_names_that_stand_in_it(
    code: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(UnknownFormat) as caught:
        identify("net.py")
    assert re.findall(r"net\.py:(\w+)", caught.value.fix) == names


@pytest.mark.parametrize("code", ["width = 3\n", "def make(:\n", "# \x00"])
def test_a_python_file_without_any_name_is_told_what_to_add(code: str, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(code)
    with pytest.raises(UnknownFormat) as caught:
        identify(str(tmp_path / "net.py"))
    assert caught.value.fix.startswith("add a function that returns the model, `def make():`, and name it")


UNKNOWN = {
    "a git-lfs pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
        "git lfs pull",
    ),
    "an HTML page": (b"<!DOCTYPE html>\n<html>", "HTML"),
    "prose": ("Über Modelle, die keine sind.\n".encode() * 400, "looks like text: 'Über Modelle"),
    "JSON": (b'{"a": 1}', "JSON"),
    "an image": (b"\x89PNG\r\n\x1a\n" + b"\0" * 60, "PNG"),
    "noise": (bytes(range(128, 256)) * 8, "80 81 82"),
    "a text graph": (b'node {\n  name: "x"\n}', "as_text=False"),
    "a pickle of plain values": (pickle.dumps({"lr": 0.1}), "`lr`"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_file_tells_what_it_looks_like(name: str, tmp_path: Path) -> None:
    content, word = UNKNOWN[name]
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UnknownFormat) as caught:
        identify(str(tmp_path / "m.onnx"))
    assert word in f"{caught.value.why} {caught.value.fix}"


def test_hdf5_without_a_model_says_so(tmp_path: Path) -> None:
    hdf5(tmp_path / "m.h5", "x")
    with pytest.raises(UnknownFormat, match="HDF5"):
        identify(str(tmp_path / "m.h5"))


def test_files_of_a_tensorflow_checkpoint_say_so(tmp_path: Path) -> None:
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001", "checkpoint"):
        (tmp_path / name).write_bytes(b"some bytes")
    for name in ("model.ckpt.index", "model.ckpt.data-00000-of-00001", "checkpoint"):
        with pytest.raises(UnknownFormat, match="TensorFlow checkpoint"):
            identify(str(tmp_path / name))


def test_damage_gives_an_answer_or_a_named_error(
    public: list[tuple[Path, str]], mutations_of_file: Any
) -> None:
    for path, _ in public:
        if path.is_file() and path.stat().st_size < 100_000 and path.suffix not in (".h5", ".hdf5", ".keras"):
            for hurt in mutations_of_file(path):
                try:
                    describe(identify(str(hurt)))
                except MlconvError:
                    continue


@pytest.fixture
def mutations_of_file(tmp_path: Path) -> Callable[[Path], Any]:
    """Sixteen seeded mutations of a file: bytes changed anywhere, changed near the start, cut."""
    import random

    def mutations(path: Path) -> Any:
        whole = path.read_bytes()
        for seed in range(16):
            rng, hurt = random.Random(seed), bytearray(whole)
            for _ in range(1 + seed):
                hurt[rng.randrange(min(len(hurt), 2048) if seed % 2 else len(hurt))] = rng.randrange(256)
            target = tmp_path / f"hurt{path.suffix}"
            target.write_bytes(hurt[: rng.randrange(1, len(hurt))] if seed % 4 == 3 else hurt)
            yield target

    return mutations


def test_a_tag_means_nothing_to_what_has_no_graphs_of_that_kind() -> None:
    with pytest.raises(OptionNotAccepted, match=r"`--tag` means nothing to `digits\.onnx` \(onnx\)"):
        describe(ModelFile("digits.onnx", Path("digits.onnx"), "onnx"), tag="serve")
