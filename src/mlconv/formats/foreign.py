"""Formats that are recognised and never converted: each with its own words on what to do instead."""

from __future__ import annotations

import json
import re
from pathlib import Path

from mlconv.errors import NotConvertible, listed
from mlconv.formats.archive import Archive

_ARCHIVES = {
    b"\x1f\x8b": ("a gzip archive", "tar -xzf {name}"),
    b"BZh": ("a bzip2 archive", "tar -xjf {name}"),
    b"\xfd7zXZ\0": ("an xz archive", "tar -xJf {name}"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x {name}"),
    b"Rar!\x1a\x07": ("a RAR archive", "unrar x {name}"),
    b"\x28\xb5\x2f\xfd": ("a zstd archive", "tar --zstd -xf {name}"),
}
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
_HUGGING_FACE_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def refuse_file(path: Path, head: bytes) -> None:
    """Refuse a file that is no zip archive, by its first bytes.

    Raises:
        NotConvertible: It is a model or an archive of a kind that mlconv does not convert.
    """
    if head.startswith(b"GGUF"):
        raise NotConvertible(
            f"`{path}` is a GGUF file", why="it holds quantized weights for llama.cpp, without a graph",
            fix="convert the checkpoint that it was made from: a factory in net.py, then mlconv onnx net.py:make",
        )  # fmt: skip
    if head.startswith(_TENSORRT) or any(head[at : at + 4] in _TENSORRT for at in _after_metadata(head)):
        raise NotConvertible(
            f"`{path}` is a TensorRT engine", why="it is machine code for one GPU and one version of TensorRT",
            fix="convert the ONNX file that it was built from",
        )  # fmt: skip
    if re.fullmatch(rb"ET\d\d", head[4:8]):
        raise NotConvertible(
            f"`{path}` is an ExecuTorch program", why="it is lowered for its runtime, and the network cannot be got back",
            fix="convert the .pt2 file that it was made from",
        )  # fmt: skip
    if head.lstrip().startswith(b"<") and re.search(rb"<net\s[^>]*version=", head):
        raise NotConvertible(
            f"`{path}` is an OpenVINO model", why="OpenVINO has no way back",
            fix="convert the model that it was made from; OpenVINO reads ONNX itself",
        )  # fmt: skip
    for magic, (name, command) in _ARCHIVES.items():
        if head.startswith(magic):
            raise _archive(path, name, command.format(name=path.name))
    if head[257:262] == b"ustar":
        raise _archive(path, "a tar archive", f"tar -xf {path.name}")


def refuse_zip(opened: Archive) -> NotConvertible:
    """Why a zip archive that holds no model of a known format is not converted."""
    names, path = opened.names(), opened.path
    if any(name.startswith("data/aotinductor/") for name in names):
        return NotConvertible(
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
    if path.suffix == ".task" or (inner and all(name.endswith(".tflite") for name in inner)):
        return NotConvertible(
            f"`{path}` is a MediaPipe task bundle", why=f"it holds the models {listed(inner) or 'of a task'}",
            fix=f"unzip {path.name}, then mlconv onnx {Path(inner[0]).name if inner else 'MODEL.tflite'}",
        )  # fmt: skip
    if names and all(name.endswith(".npy") for name in names):
        return NotConvertible(
            f"`{path}` is an archive of numpy arrays", why="arrays alone are no model",
            fix="--data takes it; of weights save a .safetensors file, and name the module with --module",
        )  # fmt: skip
    why = f"it holds {listed(inner)}" if inner else f"it holds {listed(names, 4) or 'nothing'}"
    return _archive(path, "a zip archive", f"unzip {path.name}", why)


def refuse_folder(folder: Path) -> None:
    """Refuse a folder of a known layout.

    Raises:
        NotConvertible: A Hugging Face model, or a compiled Core ML model.
    """
    if folder.suffix == ".mlmodelc" or (folder / "coremldata.bin").is_file():
        raise NotConvertible(
            f"`{folder}` is a compiled Core ML model", why="Xcode compiled it for its runtime, and there is no way back",
            fix="convert the .mlmodel or .mlpackage that it was compiled from",
        )  # fmt: skip
    config = _config(folder / "config.json")
    if "architectures" in config or "model_type" in config:
        raise hugging_face(str(folder), _architecture(config))


def is_hugging_face_name(text: str) -> bool:
    """Whether a text that is no path has the form ``org/name``, and no model's suffix."""
    return _HUGGING_FACE_NAME.fullmatch(text) is not None and not text.endswith(
        (*_MODEL_SUFFIXES, ".py", ".mlpackage", ".task")
    )


def hugging_face(source: str, architecture: str | None) -> NotConvertible:
    """The refusal of a Hugging Face model, with the factory to paste."""
    kind = architecture or "AutoModel"
    return NotConvertible(
        f"`{source}` is a Hugging Face model"
        if architecture
        else f"`{source}` is no file; Hugging Face names are not fetched",
        why="which of its outputs and inputs are meant is not written down: a few lines of Python say it",
        fix="put this into net.py, then: mlconv onnx net.py:make --input input_ids=batch,sequence:int64\n"
        f"    from transformers import {kind}\n"
        "\n"
        "    def make():\n"
        f"        return {kind}.from_pretrained({source!r}, return_dict=False).eval()",
    )


def refuse_keras_weights(path: Path) -> NotConvertible:
    return NotConvertible(
        f"`{path}` holds Keras weights and no network", why="it has tensors by layer, and no configuration of the model",
        fix="in Python: build the model, model.load_weights(...), model.save('model.keras'); then mlconv onnx model.keras",
    )  # fmt: skip


def _archive(path: Path, name: str, command: str, why: str | None = None) -> NotConvertible:
    return NotConvertible(f"`{path}` is {name}, not a model", why=why, fix=f"unpack it first: {command}")


def _after_metadata(head: bytes) -> tuple[int, ...]:
    """Where an engine begins that is led by the length of a JSON text and the text, as Ultralytics writes it."""
    length = int.from_bytes(head[:4], "little")
    return (4 + length,) if head[4:5] == b"{" and 4 + length + 4 <= len(head) else ()


def _config(path: Path) -> dict[str, object]:
    try:
        if not path.is_file() or path.stat().st_size > 16 << 20:
            return {}
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _architecture(config: dict[str, object]) -> str:
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    return name if isinstance(name, str) and name.isidentifier() else "AutoModel"
