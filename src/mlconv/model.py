"""What a source is: its format, from content before suffix, and what it says of itself.

No framework is imported for it, and nothing of a file is run. A new format is a probe here and a reader in
``mlconv.formats``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os.path
import stat
from collections.abc import Callable
from pathlib import Path

from mlconv.errors import (
    Corrupt,
    MissingFile,
    NotConvertible,
    OptionNotAccepted,
    UnknownFormat,
    Unreadable,
    listed,
    nearest,
)
from mlconv.formats import (
    Description,
    Format,
    ModelFile,
    archive,
    coreml,
    foreign,
    graph_def,
    hdf5_file,
    keras_file,
    mapped,
    onnx_file,
    ort_file,
    refs,
    safetensors_file,
    saved_model,
    tflite,
    torch_archive,
    unknown,
    weights,
)
from mlconv.formats.refs import for_shell

HEAD_BYTES = 4096
_PICKLE_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".joblib", ".model"})
_OLD_PICKLE = b"(c}]"  # how a pickle of protocol 0 or 1, which has no magic number, begins
_MODEL_NAMES = (
    "*.onnx",
    "*.tflite",
    "*.pt",
    "*.pth",
    "*.pt2",
    "*.safetensors",
    "*.keras",
    "*.h5",
    "*.pb",
    "*.mlmodel",
    "*.ort",
    "*.ckpt",
)

_READERS: dict[Format, str] = {
    "torch-export": "mlconv.formats.torch_export:describe",
    "torchscript": "mlconv.formats.torchscript:describe",
    "torch-module": "mlconv.model:_describe_module",
    "torch-weights": "mlconv.formats.weights:describe",
    "torch-pickle": "mlconv.formats.torch_archive:describe_pickle",
    "saved-model": "mlconv.formats.saved_model:describe",
    "keras": "mlconv.formats.keras_file:describe",
    "keras-h5": "mlconv.formats.keras_file:describe",
    "tf-graph": "mlconv.formats.graph_def:describe",
    "tflite": "mlconv.formats.tflite:describe",
    "tflite-edgetpu": "mlconv.formats.tflite:describe",
    "onnx": "mlconv.formats.onnx_file:describe",
    "ort": "mlconv.formats.ort_file:describe",
    "coreml": "mlconv.formats.coreml:describe",
    "coreml-package": "mlconv.formats.coreml:describe",
}


def identify(ref: str) -> ModelFile:
    """The format of a path or a REF. A path that exists is never read as a REF.

    Returns:
        The model; ``path`` of a numbered SavedModel folder is that of its greatest version, and of a
        ``saved_model.pb`` its folder.

    Raises:
        MissingFile: Nothing is there; the nearest names are told.
        Unreadable: A pipe, a device, a link to itself, or no permission. Nothing is read from it.
        Corrupt: It is empty, or begins as a known format and breaks off.
        NotConvertible: A format that is recognised and not converted; the error says what to do instead.
        UnknownFormat: Anything else.
        BadUsage: The arguments of a REF are no literals.
    """
    path = Path(ref)
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _identify_absent(ref, path)
    except ValueError as error:  # a zero byte
        raise MissingFile(f"`{ref!r}` is no path", fix="name the model's file") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return _identify_absent(ref, path)
        raise _unreadable(path, error) from error
    if stat.S_ISDIR(status.st_mode):
        return _identify_folder(ref, path)
    if not stat.S_ISREG(status.st_mode):
        raise Unreadable(
            f"`{path}` is {_special(status.st_mode)}, and a model is a file or a folder",
            fix="save what it gives to a file, and name that",
        )
    return _identify_file(ref, path, status.st_size)


def describe(model: ModelFile, signature: str | None = None, tag: str | None = None) -> Description:
    """What a model says of itself, by the reader of its format.

    Args:
        tag: The graph of a SavedModel that has several.

    Raises:
        InputError: It is damaged, or reaches outside its folder.
        UnknownSignature: It has no entry point ``signature``.
        OptionNotAccepted, UnknownTag: ``tag`` is given for another format, or no graph has it.
    """
    if tag is not None:
        if model.format != "saved-model":
            raise OptionNotAccepted(f"`--tag` means nothing to `{model.ref}` ({model.format})", why="it is for saved-model",
                                    fix="leave --tag out")  # fmt: skip
        return saved_model.describe(model, signature, tag)
    module, _, function = _READERS[model.format].partition(":")
    reader: Callable[[ModelFile, str | None], Description] = getattr(
        importlib.import_module(module), function
    )
    return reader(model, signature)


def _describe_module(model: ModelFile, signature: str | None = None) -> Description:
    """A REF is run by naming it, but not by looking at it."""
    del signature
    size = model.path.stat().st_size if model.path else 0
    return Description(
        "torch-module", bytes=size, notes=("a REF tells nothing of itself until it is converted",)
    )


def _identify_file(ref: str, path: Path, size: int) -> ModelFile:
    head = _head(path)
    if size < 2:
        raise Corrupt(
            f"`{path}` is {'empty' if size == 0 else 'one byte long'}", fix="fetch or save the file again"
        )
    foreign_name = _names_other_kind(path)
    if foreign_name is not None:
        raise foreign_name
    for probe in _PROBES:
        found = probe(path, head)
        if found is not None:
            return ModelFile(ref, path, found)
    if saved_model.is_saved_model(mapped.read_only(path)):
        return _saved_model_file(ref, path)
    for probe in _PROTOBUF_PROBES:
        found = probe(path, head)
        if found is not None:
            return ModelFile(ref, path, found)
    raise unknown.format_of(path, head)


def _names_other_kind(path: Path) -> UnknownFormat | None:
    """Files of a TensorFlow checkpoint, whose content says nothing."""
    if path.name == "checkpoint" or ".data-0000" in path.name or path.with_suffix(".index").name == path.name:
        beside = [file.name for file in path.parent.glob("*.index")]
        if beside and not path.name.endswith(".json"):
            return UnknownFormat(
                f"`{path}` belongs to a TensorFlow checkpoint", why="a checkpoint has variables and no network",
                fix="load it in TensorFlow and save the model: tf.saved_model.save(model, 'saved')",
            )  # fmt: skip
    return None


# ------------------------------------------------------------------ probes: None where a file is something else


def _flatbuffer(path: Path, head: bytes) -> Format | None:
    if ort_file.is_ort(head):
        return "ort"
    if not tflite.is_tflite(head):
        return None
    return "tflite-edgetpu" if tflite.is_edgetpu(path) else "tflite"


def _zip(path: Path, head: bytes) -> Format | None:
    if not archive.is_zip(head):
        return None
    opened = archive.open_archive(path)
    if keras_file.is_keras_archive(opened):
        return "keras"
    kind = torch_archive.kind_of_archive(opened)
    if kind is None:
        raise foreign.refuse_zip(opened)
    return kind


def _hdf5(path: Path, head: bytes) -> Format | None:
    if not head.startswith(hdf5_file.MAGIC):
        return None
    data = mapped.read_only(path)
    if keras_file.has_model_config(data):
        return "keras-h5"
    if keras_file.has_keras_weights(data) or path.name.endswith(".weights.h5"):
        raise foreign.refuse_keras_weights(path)
    raise UnknownFormat(
        f"`{path}` is an HDF5 file without a Keras model", why="it has no attribute `model_config`",
        fix="save the whole model: model.save('model.keras')",
    )  # fmt: skip


def _pickle(path: Path, head: bytes) -> Format | None:
    if torch_archive.is_legacy(head) or (head[0] == 0x80 and 2 <= head[1] <= 5):
        return torch_archive.kind_of_pickle(path)
    if torch_archive.is_tar(path, head):
        return "torch-pickle"
    if path.suffix in _PICKLE_SUFFIXES and head[:1] in _OLD_PICKLE:
        with contextlib.suppress(Corrupt):
            return torch_archive.kind_of_pickle(path)
    return None


def _weights(path: Path, head: bytes) -> Format | None:
    if safetensors_file.is_safetensors(head):
        safetensors_file.read_header(path)
        return "torch-weights"
    if weights.is_index(head) and b'"weight_map"' in bytes(mapped.read_only(path)[: 1 << 20]):
        weights.shards(path)
        return "torch-weights"
    return None


def _refused(path: Path, head: bytes) -> Format | None:
    foreign.refuse_file(path, head)
    return None


def _onnx(path: Path, _: bytes) -> Format | None:
    return "onnx" if onnx_file.is_onnx(path) else None


def _coreml(path: Path, _: bytes) -> Format | None:
    return "coreml" if coreml.is_mlmodel(path) else None


def _graph(path: Path, _: bytes) -> Format | None:
    if not graph_def.is_graph_def(mapped.read_only(path)):
        return None
    graph_def.check(path)
    return "tf-graph"


Probe = Callable[[Path, bytes], Format | None]
_PROBES: tuple[Probe, ...] = (_flatbuffer, _zip, _hdf5, _pickle, _weights, _refused)
_PROTOBUF_PROBES: tuple[Probe, ...] = (_onnx, _coreml, _graph)


# ------------------------------------------------------------------ folders


def _identify_folder(ref: str, folder: Path) -> ModelFile:
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise _unreadable(folder, error) from error
    if "saved_model.cpb" in names:
        raise NotConvertible(
            f"`{folder}` is a SavedModel in chunks", why="its graph is larger than 2 GB, and mlconv reads whole ones alone",
            fix="save less: one signature, weights as variables and not as constants",
        )  # fmt: skip
    if saved_model.FILE in names:
        return ModelFile(ref, folder, "saved-model")
    if coreml.is_mlpackage(folder):
        return ModelFile(ref, folder, "coreml-package")
    foreign.refuse_folder(folder)
    versions = [name for name in names if name.isdecimal() and (folder / name / saved_model.FILE).is_file()]
    if versions:  # as TensorFlow Serving does
        return ModelFile(ref, folder / max(versions, key=int), "saved-model")
    if "saved_model.pbtxt" in names:
        raise UnknownFormat(
            f"`{folder}` is a SavedModel in text form", why="mlconv reads the binary form alone",
            fix="load it in TensorFlow and save it again: tf.saved_model.save(tf.saved_model.load('...'), 'saved')",
        )  # fmt: skip
    inner = [name for name in names if (folder / name / saved_model.FILE).is_file()]
    models = inner + sorted(file.name for pattern in _MODEL_NAMES for file in folder.glob(pattern))
    raise UnknownFormat(
        f"`{folder}` is a folder that is no model",
        why=f"it holds {listed(names, 6)}" if names else "it is empty",
        fix=f"name {_one_of(folder, models, 'the SavedModel inside' if inner else 'the file')}"
        if models
        else "name a model's file, or a SavedModel's folder",
    )


def _one_of(folder: Path, models: list[str], kind: str) -> str:
    if len(models) == 1:
        return f"{kind}: {folder / models[0]}"
    return f"one of those inside: {listed([str(folder / name) for name in models], 6)}"


def _saved_model_file(ref: str, path: Path) -> ModelFile:
    if path.name == saved_model.FILE:
        return ModelFile(ref, path.parent, "saved-model")
    raise NotConvertible(
        f"`{path}` is the `saved_model.pb` of a SavedModel under another name",
        why="a SavedModel is a folder: the file beside `variables/`",
        fix="call the file saved_model.pb, and name its folder",
    )


# ------------------------------------------------------------------ what is not there, or not known


def _identify_absent(ref: str, path: Path) -> ModelFile:
    if refs.is_ref(ref):
        found = refs.parse_ref(ref)
        if found.file is not None and not found.file.is_file():
            raise _missing(str(found.file), found.file, typed=ref)
        return ModelFile(ref, found.file, "torch-module")
    if not path.parent.exists():
        foreign.refuse_name(ref)
    raise _missing(ref, path)


def _missing(ref: str, path: Path, typed: str | None = None) -> MissingFile:
    """What to say of a path where nothing stands; whatever command or option named it, the hint is the name to type.

    Args:
        typed: The whole word, where the path is a part of it.
    """
    if os.path.islink(path):  # noqa: PTH114 - Path.is_symlink raises where a name is too long
        return MissingFile(
            f"`{ref}` is a link to `{path.readlink()}`, which is not there", fix="name an existing file"
        )
    folder = path.parent
    if not folder.is_dir():
        return MissingFile(
            f"there is no `{ref}`", why=f"there is no folder `{folder}`", fix="look at the path"
        )
    try:
        names = [entry.name for entry in folder.iterdir()]
    except OSError:
        names = []
    close = nearest(path.name, names)
    return MissingFile(
        f"there is no `{ref}`",
        why=f"nearest in `{folder}`: {listed(close)}" if close else None,
        fix=f"did you mean {for_shell((typed or ref).replace(ref, str(path.with_name(close[0])), 1))}?"
        if close
        else "look at the path",
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> Unreadable:
    if error.errno == errno.ELOOP:
        return Unreadable(f"`{path}` is a link that leads to itself", fix="name the file that was meant")
    return Unreadable(
        f"`{path}` cannot be read", why=str(error.strerror or error), fix="look at its permissions"
    )


def _special(mode: int) -> str:
    kinds = {
        stat.S_ISFIFO: "a pipe",
        stat.S_ISCHR: "a device",
        stat.S_ISBLK: "a device",
        stat.S_ISSOCK: "a socket",
    }
    return next((name for test, name in kinds.items() if test(mode)), "no regular file")
