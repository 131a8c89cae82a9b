"""What ``torch.save`` and ``torch.jit.save`` write: told apart and described without torch.

Since torch 1.6 it is a zip archive (https://github.com/pytorch/pytorch/blob/main/caffe2/serialize/inline_container.h);
before, a row of pickles that begins with a magic number (torch/serialization.py, ``_legacy_save``).
"""

from __future__ import annotations

import io
import itertools
import mmap
import re
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Literal

from mlconv.errors import Corrupt, ScikitLearnModel, UnknownFormat, listed
from mlconv.formats import (
    Description,
    ModelFile,
    archive,
    mapped,
    parameters,
    pickle_reader,
    torch_checkpoint,
)
from mlconv.formats.archive import Archive, broken
from mlconv.formats.pickle_names import Global
from mlconv.formats.pickle_reader import Pickle, PickleError, Tensor

Kind = Literal["torch-export", "torchscript", "torch-weights", "torch-pickle"]

LEGACY_MAGIC = bytes.fromhex("8a0a6cfc9c46f9206aa850192e")  # LONG1 0x1950a86a20f9469cfc6c, STOP

_ESTIMATORS = {
    "sklearn": ("scikit-learn", "pip install skl2onnx, load the model in Python, and call skl2onnx.to_onnx(model, X[:1])"),
    "xgboost": ("XGBoost", "pip install onnxmltools, load the model in Python, and call onnxmltools.convert_xgboost"),
    "lightgbm": ("LightGBM", "pip install onnxmltools, load the model in Python, and call onnxmltools.convert_lightgbm"),
    "catboost": ("CatBoost", "load the model in Python, and call model.save_model('model.onnx', format='onnx')"),
    "joblib": ("joblib", "pip install skl2onnx, load the model in Python, and call skl2onnx.to_onnx(model, X[:1])"),
}  # fmt: skip


def kind_of_archive(opened: Archive) -> Kind | None:
    """What a zip archive of torch holds, by its members; None where it is none of torch's.

    Raises:
        Corrupt: Its pickle is damaged.
        UnknownFormat: It holds values, and neither weights nor a module.
    """
    if is_export(opened):
        return "torch-export"
    if is_torchscript(opened):
        return "torchscript"
    return _kind(read_archive_pickle(opened), opened.path) if "data.pkl" in opened else None


def is_export(opened: Archive) -> bool:
    """``torch.export.save`` of torch 2.7 and later, or of earlier ones (``serialized_exported_program.json``)."""
    models = any(re.fullmatch(r"models/[^/]+\.json", name) for name in opened.names())
    return models or "serialized_exported_program.json" in opened


def is_torchscript(opened: Archive) -> bool:
    """TorchScript of any age: 1.x and later, the mobile interpreter's, 0.4 to 1.3 (``model.json``, ``attributes.pkl``)."""
    if "constants.pkl" in opened or "bytecode.pkl" in opened:
        return True
    has_code = any(name.startswith("code/") for name in opened.names())
    return "model.json" in opened and (has_code or "attributes.pkl" in opened or "tensors/0" in opened)


def is_legacy(head: bytes) -> bool:
    """Whether a file begins as ``torch.save`` wrote it before torch 1.6; the protocol's two bytes may stand first."""
    return LEGACY_MAGIC in head[: len(LEGACY_MAGIC) + 2]


def is_tar(path: Path, head: bytes) -> bool:
    """Whether a file is one of ``torch.save`` before 0.2: a tar archive with the members ``pickle`` and ``storages``."""
    if head[257:262] != b"ustar":
        return False
    try:
        with tarfile.open(path, "r:") as opened:
            names = {member.name.removeprefix("./") for member in itertools.islice(opened, 16)}
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise broken(path, f"its tar archive cannot be read: {error}") from error
    return {"pickle", "storages"} <= names


def kind_of_pickle(path: Path) -> Kind:
    """What a file of pickles holds: torch's own row of them, or a bare one.

    Raises:
        Corrupt, UnknownFormat: As ``kind_of_archive``.
    """
    return _kind(read_pickle(path), path)


def read_archive_pickle(opened: Archive, name: str = "data.pkl") -> Pickle:
    """A pickle in an archive, not loaded.

    Raises:
        Corrupt: It is damaged, or names storages that the archive has not.
    """
    try:
        found = pickle_reader.read(opened.read(name))
    except PickleError as error:
        raise broken(opened.path, f"its pickle `{name}` is damaged: {error}") from error
    if found.is_plain:
        for tensor in found.tensors:
            assert_stored(opened, name, tensor)
    return found


def read_pickle(path: Path) -> Pickle:
    """The object of a file of pickles, not loaded. Foreign names before it, in torch's preamble, are kept.

    Raises:
        Corrupt: It is damaged before anything foreign was met.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        foreign: list[Global] = []
        try:
            # the magic number, the protocol's version, the sizes of C's types
            for _ in range(3 if is_legacy(data[:64]) else 0):
                foreign += pickle_reader.read(data).foreign
            found = pickle_reader.read(data)
        except PickleError as error:
            # joblib writes arrays between the operations: what came before tells enough
            if not error.partial.foreign:
                raise broken(path, f"its pickle is damaged: {error}") from error
            found = error.partial
    found.foreign[:0] = foreign
    return found


def read_any_pickle(path: Path) -> Pickle:
    """The object in a file of ``torch.save``, or of a bare pickle, not loaded.

    Raises:
        Corrupt: It is damaged.
    """
    with path.open("rb") as file:
        head = file.read(4)
    return read_archive_pickle(archive.open_archive(path)) if archive.is_zip(head) else read_pickle(path)


def imported(path: Path, opened: Archive | None) -> list[str]:
    """Foreign names that loading a file of ``torch.save`` would import; empty where it cannot be read."""
    try:
        found = read_archive_pickle(opened) if opened else read_pickle(path)
    except Corrupt:
        return []
    return [str(name) for name in found.foreign]


def imported_by_member(opened: Archive, name: str) -> list[str] | None:
    """Foreign names of a ``torch.save`` archive, or a bare pickle, that lies in another archive; None where it cannot be read."""
    try:
        data = opened.read(name)
        if archive.is_zip(data[:4]):
            with zipfile.ZipFile(io.BytesIO(data)) as inner:
                member = next(entry for entry in inner.infolist() if entry.filename.endswith("data.pkl"))
                data = inner.read(member) if member.file_size <= archive.MEMBER_LIMIT else b""
        found = pickle_reader.read(data)
    except (
        Corrupt,
        PickleError,
        StopIteration,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        NotImplementedError,
        EOFError,
        zlib.error,
    ):
        return None
    return [str(name) for name in found.foreign] if found.complete else None


def describe_pickle(model: ModelFile, signature: str | None = None) -> Description:
    """A pickle: what it would import. Of its tensors only the number of elements is told.

    Raises:
        Corrupt: It is damaged.
    """
    del signature
    path = mapped.path_of(model)
    with path.open("rb") as file:
        head = file.read(512)
    if head[257:262] == b"ustar":
        note = "a tar archive of torch 0.1, which is loaded only with --trust-pickle"
        return Description("torch-pickle", bytes=path.stat().st_size, notes=(note,))
    found = read_archive_pickle(archive.open_archive(path)) if archive.is_zip(head) else read_pickle(path)
    tensors = {str(index): tensor for index, tensor in enumerate(found.tensors)}
    classes = [
        str(name)
        for name in found.foreign
        if not str(name).startswith(("builtins.", "collections.", "torch._"))
    ]
    names = listed([str(name) for name in found.foreign])
    notes = [
        f"a pickle that would import {names or 'what was not read'}: it is loaded only with --trust-pickle"
    ]
    if not found.complete:
        notes.append("the pickle was not read to its end")
    if torch_checkpoint.find_checkpoint(found, modules=True) is not None:
        notes.append(
            "its weights are read without loading it where --module names code that builds the same network"
        )
    return Description(
        "torch-pickle", parameters=parameters.count(torch_checkpoint.distinct(tensors)) if tensors else None, bytes=path.stat().st_size,
        metadata={"class": classes[0]} if classes else {}, notes=tuple(notes),
    )  # fmt: skip


def _kind(found: Pickle, path: Path) -> Kind:
    if torch_checkpoint.find_checkpoint(found) is not None:
        return "torch-weights"
    if not found.is_plain:
        _refuse_estimators(found, path)
        return "torch-pickle"
    raise UnknownFormat(
        f"`{path}` is a pickle that holds neither weights nor a module",
        why=f"it holds {_kind_of_value(found.root)}",
        fix='where the model was trained: torch.save(module.state_dict(), "weights.pth"), and give that file; '
        "or convert without it: mlconv onnx FILE.py:NAME",
    )


def _refuse_estimators(found: Pickle, path: Path) -> None:
    """Models of libraries that are no neural networks; their pickles import nothing of torch."""
    packages = {name.module.partition(".")[0] for name in found.foreign}
    library = next((name for name in _ESTIMATORS if name in packages), None)
    if library and not any(name.module.startswith("torch.nn") for name in found.foreign):
        name, advice = _ESTIMATORS[library]
        raise ScikitLearnModel(
            f"`{path}` is a pickled {name} model",
            why="mlconv converts neural networks; estimators and trees have converters of their own",
            fix=advice,
        )


def _kind_of_value(root: object) -> str:
    if isinstance(root, Tensor):
        return f"one tensor of shape {root.shape}"
    if isinstance(root, dict) and root.keys() == {"state", "param_groups"}:
        return "the state of an optimizer, which belongs to a training and not to a model"
    if isinstance(root, dict):
        names = [name[:40] for name in torch_checkpoint.key_names(root)]
        return f"a dictionary with the keys {listed(names)}"
    return f"a {type(root).__name__}"


def assert_stored(opened: Archive, name: str, tensor: Tensor) -> None:
    """Refuse a tensor whose elements do not lie in a member of the archive: ``data/KEY`` beside ``data.pkl``.

    Raises:
        Corrupt: The member is missing, or too short.
    """
    storage = tensor.storage
    if storage is None:
        return
    member = f"{name.removesuffix('.pkl')}/{storage.key}"
    if member not in opened:
        raise broken(opened.path, f"its member `{member}` is missing, and a tensor lies in it")
    needed = parameters.bytes_of(reach(tensor), tensor.dtype)
    if needed > opened.size(member):
        raise broken(opened.path, f"its member `{member}` is too short for a tensor of shape {tensor.shape}")


def reach(tensor: Tensor) -> int:
    """Elements of the storage that a tensor reaches over."""
    if 0 in tensor.shape:
        return 0
    if len(tensor.strides) != len(tensor.shape):
        return tensor.offset + parameters.elements(tensor.shape)
    return (
        tensor.offset
        + 1
        + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.strides, strict=True))
    )
