"""Formats that are recognised and never converted: each with its own words on what to do instead."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shlex
import zlib
from pathlib import Path

from mlconv.errors import (
    AotInductorPackage,
    CompiledCoreMl,
    ExecuTorchProgram,
    GgufFile,
    KerasWeightsAlone,
    NotConvertible,
    OpenVinoModel,
    PackedArchive,
    TaskBundle,
    TensorRtEngine,
    listed,
)
from mlconv.formats import hugging_face
from mlconv.formats.archive import Archive

_ARCHIVES = {
    b"\x1f\x8b": ("a gzip archive", "tar -xzf {name}", "gunzip -k {name}"),
    b"BZh": ("a bzip2 archive", "tar -xjf {name}", "bunzip2 -k {name}"),
    b"\xfd7zXZ\0": ("an xz archive", "tar -xJf {name}", "unxz -k {name}"),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "tar --zstd -xf {name}", "unzstd {name}"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x {name}", "7z x {name}"),
    b"Rar!\x1a\x07": ("a RAR archive", "unrar x {name}", "unrar x {name}"),
}
"""By the first bytes: the kind, what unpacks a tar archive in it, and what unpacks a single file."""
_TAR_MAGIC, _TAR_MAGIC_AT = b"ustar", 257
_MODEL_SUFFIXES = (
    ".onnx",
    ".tflite",
    ".pt",
    ".pth",
    ".pt2",
    ".safetensors",
    ".keras",
    ".h5",
    ".pb",
    ".mlmodel",
    ".ort",
    ".bin",
    ".ckpt",
)
_TENSORRT = (b"ptrt", b"ftrt")


def refuse_file(path: Path, head: bytes) -> None:
    """Refuse a file that is no zip archive, by its first bytes.

    Raises:
        NotConvertible: It is a model or an archive of a kind that mlconv does not convert.
    """
    if head.startswith(b"GGUF"):
        raise GgufFile(
            f"`{path}` is a GGUF file", why="it holds quantized weights for llama.cpp, without a graph",
            fix="convert the checkpoint that it was made from: a factory in net.py, then mlconv onnx net.py:make",
        )  # fmt: skip
    if head.startswith(_TENSORRT) or any(head[at : at + 4] in _TENSORRT for at in _after_metadata(head)):
        raise TensorRtEngine(
            f"`{path}` is a TensorRT engine", why="it is machine code for one GPU and one version of TensorRT",
            fix="convert the ONNX file that it was built from",
        )  # fmt: skip
    if re.fullmatch(rb"ET\d\d", head[4:8]):
        raise ExecuTorchProgram(
            f"`{path}` is an ExecuTorch program", why="it is lowered for its runtime, and the network cannot be got back",
            fix="convert the .pt2 file that it was made from",
        )  # fmt: skip
    if head.lstrip().startswith(b"<") and re.search(rb"<net\s[^>]*version=", head):
        raise OpenVinoModel(
            f"`{path}` is an OpenVINO model", why="OpenVINO has no way back",
            fix="convert the model that it was made from; OpenVINO reads ONNX itself",
        )  # fmt: skip
    for magic, (name, of_tar, of_file) in _ARCHIVES.items():
        if head.startswith(magic):
            command = of_tar if _holds_tar(path) else of_file
            raise _archive(path, name, command.format(name=shlex.quote(str(path))))
    if head[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC):
        raise _archive(path, "a tar archive", f"tar -xf {shlex.quote(str(path))}")


def refuse_zip(opened: Archive) -> NotConvertible:
    """Why a zip archive that holds no model of a known format is not converted."""
    names, path = opened.names(), opened.path
    if any(name.startswith("data/aotinductor/") for name in names):
        return AotInductorPackage(
            f"`{path}` is compiled by AOTInductor", why="it holds machine code, and no longer the network",
            fix="convert what was compiled: torch.export.save(program, 'net.pt2'), then mlconv onnx net.pt2",
        )  # fmt: skip
    if ".data/extern_modules" in opened:
        return NotConvertible(
            f"`{path}` is a package of torch.package", why="it holds Python code and pickles that only running them could decode",
            fix="load it in a function of net.py with torch.package.PackageImporter, then mlconv onnx net.py:make",
        )  # fmt: skip
    inner = [
        name for name in opened.members if name.endswith(_MODEL_SUFFIXES) or name.endswith("saved_model.pb")
    ]
    bundled = bool(inner) and all(name.endswith(".tflite") for name in inner)
    if path.suffix == ".task" or (bundled and path.suffix != ".zip"):
        return TaskBundle(
            f"`{path}` is a MediaPipe task bundle", why=f"it holds the models {listed(inner) or 'of a task'}",
            fix=f"unzip {shlex.quote(str(path))}, then mlconv onnx {shlex.quote(inner[0]) if inner else 'MODEL.tflite'}",
        )  # fmt: skip
    if names and all(name.endswith(".npy") for name in names):
        return NotConvertible(
            f"`{path}` is an archive of numpy arrays", why="arrays alone are no model",
            fix="--data takes it; of weights save a .safetensors file, and name the module with --module",
        )  # fmt: skip
    why = f"it holds {listed(inner)}" if inner else f"it holds {listed(names, 4) or 'nothing'}"
    return _archive(path, "a zip archive", f"unzip {shlex.quote(str(path))}", why)


def refuse_folder(folder: Path) -> None:
    """Refuse a folder of a known layout.

    Raises:
        NotConvertible: A Hugging Face model, or a compiled Core ML model.
    """
    if folder.suffix == ".mlmodelc" or (folder / "coremldata.bin").is_file():
        raise CompiledCoreMl(
            f"`{folder}` is a compiled Core ML model", why="Xcode compiled it for its runtime, and there is no way back",
            fix="convert the .mlmodel or .mlpackage that it was compiled from",
        )  # fmt: skip
    found = hugging_face.read(folder)
    if found is not None:
        raise hugging_face.refusal(str(folder), found)


def refuse_name(text: str) -> None:
    """Refuse what is no path and has the form of a name of Hugging Face.

    Raises:
        HuggingFaceModel: It has; with a factory for the model where it was fetched before.
    """
    if hugging_face.is_name(text, (*_MODEL_SUFFIXES, ".py", ".mlpackage", ".task")):
        raise hugging_face.refusal(text, hugging_face.cached(text))


def refuse_keras_weights(path: Path) -> NotConvertible:
    return KerasWeightsAlone(
        f"`{path}` holds Keras weights and no network", why="it has tensors by layer, and no configuration of the model",
        fix="in Python: build the model, model.load_weights(...), model.save('model.keras'); then mlconv onnx model.keras",
    )  # fmt: skip


def _holds_tar(path: Path) -> bool:
    """Whether a compressed file holds a tar archive: its first bytes tell, its name where they cannot be read."""
    for module in (gzip, bz2, lzma):
        try:
            with module.open(path) as file:
                return bool(file.read(512)[_TAR_MAGIC_AT:].startswith(_TAR_MAGIC))
        except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error):
            continue
    return ".tar" in path.suffixes or path.suffix.startswith(".t")


def _archive(path: Path, name: str, command: str, why: str | None = None) -> PackedArchive:
    return PackedArchive(f"`{path}` is {name}, not a model", why=why, fix=f"unpack it first: {command}")


def _after_metadata(head: bytes) -> tuple[int, ...]:
    """Where an engine begins that is led by the length of a JSON text and the text, as Ultralytics writes it."""
    length = int.from_bytes(head[:4], "little")
    return (4 + length,) if head[4:5] == b"{" and 4 + length + 4 <= len(head) else ()
