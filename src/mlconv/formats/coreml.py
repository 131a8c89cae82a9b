"""Core ML: `.mlmodel` files and `.mlpackage` folders, what they are and what they say of themselves.

Field numbers: apple/coremltools, mlmodel/format/Model.proto and FeatureTypes.proto.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from mlconv.errors import Corrupt, PathEscape, UnknownSignature, listed
from mlconv.formats import Description, ModelFile, coreml_network, coreml_program, mapped, protobuf
from mlconv.formats.coreml_network import ML_PROGRAM, MODEL_TYPES
from mlconv.formats.protobuf import BYTES, VARINT, WireError
from mlconv.formats.refs import for_shell
from mlconv.tensors import Dim, TensorSpec

PROVENANCE = "mlconv.provenance"
"""The user-defined metadata key under which mlconv says where the file came from."""

_ARRAY_DTYPES = {65568: "float32", 65600: "float64", 131104: "int32", 131080: "int8", 65552: "float16"}
_GRAYSCALE, _GRAYSCALE_FLOAT16 = 10, 40
_NETWORK_TYPES = frozenset({200, 201, 202, 303, 403, 500})
_MANIFEST_LIMIT = 1 << 20  # bytes; a manifest has a few hundred
_MAX_FILES = 100_000


def is_mlmodel(path: Path) -> bool:
    """Whether a file is a Core ML model, by the protobuf fields of Model; a file that was cut off still is one."""
    view = mapped.read_only(path)
    seen: set[int] = set()
    try:
        for number, wire, *_ in protobuf.spans(view, cut=True):
            expected = (
                VARINT if number in (1, 10) else BYTES if number == 2 or number in MODEL_TYPES else None
            )
            if wire != expected:
                return False
            seen.add(number)
    except WireError:
        pass
    return {1, 2} <= seen and bool(seen & MODEL_TYPES.keys())


def is_mlpackage(folder: Path) -> bool:
    """Whether a folder is laid out as a Core ML package."""
    if not folder.is_dir() or not (folder / "Manifest.json").is_file():
        return False
    try:
        return "itemInfoEntries" in _manifest(folder) or (folder / "Data").is_dir()
    except Corrupt:
        return (folder / "Data").is_dir()


def root_model(folder: Path) -> Path:
    """The model file of a package, as its manifest names it.

    Raises:
        Corrupt: The manifest is broken, or names no model.
        PathEscape: Something in the package lies outside it, links followed.
    """
    manifest = _manifest(folder)
    items = manifest.get("itemInfoEntries")
    if not isinstance(items, dict):
        raise _broken(folder, "its Manifest.json has no `itemInfoEntries`")
    paths: dict[str, Path] = {}
    for key, item in items.items():
        location = item.get("path") if isinstance(item, dict) else None
        if not isinstance(location, str):
            raise _broken(folder, f"item `{key}` of its Manifest.json has no path")
        paths[key] = _inside(folder, folder / "Data", location)
    _refuse_links(folder)
    root = manifest.get("rootModelIdentifier")
    if not isinstance(root, str) or root not in paths:
        raise _broken(folder, "its Manifest.json names no root model")
    if not paths[root].is_file():
        raise _broken(folder, f"its root model `{paths[root].name}` is missing")
    return paths[root]


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What a Core ML model says of itself; see ``Description``. ``signature`` is a function of a multifunction model.

    MACs are told for ML programs alone: a classic network does not tell the shapes between its layers.

    Raises:
        Corrupt: The package or the model in it is broken.
        PathEscape: Something lies outside the package.
        UnknownSignature: It has no function ``signature``.
    """
    path = mapped.path_of(model)
    file = root_model(path) if path.is_dir() else path
    try:
        return _describe(model, file, signature)
    except WireError as error:
        raise _broken(path, str(error)) from error


def _describe(model: ModelFile, file: Path, signature: str | None) -> Description:
    data = mapped.read_only(file)
    kind, content = coreml_network.model_type(data)
    if not kind:
        raise WireError("it holds no model of a known kind")
    description = protobuf.message(data, 2)
    names, interface = _interface(description, signature)
    network = coreml_network.Network()
    coreml_network.add_model(network, data)
    functions = coreml_program.functions(content) if kind == ML_PROGRAM else {}
    operations = [operation for function in functions.values() for operation in function.operations]
    if mapped.path_of(model).is_dir():
        _check_weight_files(mapped.path_of(model), file, coreml_program.files(operations))
    metadata = _metadata(data, description)
    told = metadata.pop(PROVENANCE, None)
    entry = functions.get(signature or protobuf.text(description, 21) or "main")
    return Description(
        format=model.format,
        inputs=tuple(_feature(feature) for feature in interface.inputs),
        outputs=tuple(_feature(feature) for feature in interface.outputs),
        operators=dict(sorted((network.operators + coreml_program.counts(operations)).items())),
        parameters=_parameters(kind, network, operations),
        macs=coreml_program.macs(entry) if entry is not None else None,
        bytes=_size(mapped.path_of(model)),
        quantization=coreml_program.quantization(operations) if functions else _network_quantization(network),
        metadata=metadata,
        provenance=mapped.provenance(told) if told is not None else None,
        signatures=names,
        notes=tuple(_notes(interface)),
    )


@dataclass(frozen=True, slots=True)
class _Interface:
    """The FeatureDescriptions of what a model takes, gives and keeps."""

    inputs: tuple[memoryview, ...]
    outputs: tuple[memoryview, ...]
    states: tuple[memoryview, ...]


def _features(data: memoryview, inputs: int, outputs: int, states: int) -> _Interface:
    return _Interface(*(tuple(protobuf.messages(data, number)) for number in (inputs, outputs, states)))


def _interface(description: memoryview, signature: str | None) -> tuple[tuple[str, ...], _Interface]:
    """The names of a multifunction model's functions, and what the one that is meant takes and gives."""
    functions = {protobuf.text(function, 1): function for function in protobuf.messages(description, 20)}
    names = tuple(functions)
    if signature is not None and signature not in names:
        raise UnknownSignature(
            f"the model has no function `{signature}`",
            why=f"it has {listed(names)}" if names else "it has one function",
            fix=f"--signature {for_shell(names[0])}" if names else "leave --signature out",
        )
    if not functions:
        return (), _features(description, 1, 10, 13)
    wanted = signature or protobuf.text(description, 21)
    return names, _features(functions.get(wanted, functions[names[0]]), 2, 3, 6)


def _parameters(
    kind: int, network: coreml_network.Network, operations: list[coreml_program.Operation]
) -> int | None:
    if kind == ML_PROGRAM:
        return coreml_program.parameters(operations)
    return network.parameters if kind in _NETWORK_TYPES else None


def _network_quantization(network: coreml_network.Network) -> dict[str, Any] | None:
    small = {dtype: count for dtype, count in network.dtypes.items() if dtype != "float32"}
    return {"kind": "weights", "dtypes": dict(sorted(network.dtypes.items()))} if small else None


def _metadata(model: memoryview, description: memoryview) -> dict[str, str]:
    """The specification version, the author's four fields, and what is user-defined."""
    metadata = protobuf.message(description, 100)
    keys = {1: "description", 2: "version", 3: "author", 4: "license"}
    told = {"specification_version": str(protobuf.integer(model, 1))}
    told |= {key: text for number, key in keys.items() if (text := protobuf.text(metadata, number))}
    own = {key: protobuf.decoded(value) for key, value in protobuf.entries(metadata, 100).items()}
    return told | own


# ------------------------------------------------------------------ inputs and outputs


def _feature(feature: memoryview) -> TensorSpec:
    """A FeatureDescription: an array, an image as its pixels, a scalar; a dictionary has no shape."""
    name, kind = protobuf.text(feature, 1), protobuf.message(feature, 3)
    for number, _, value in protobuf.fields(kind):
        if not isinstance(value, memoryview):
            continue
        match number:
            case 1:
                return TensorSpec(name, (), "int64")
            case 2:
                return TensorSpec(name, (), "float64")
            case 3:
                return TensorSpec(name, (), "str")
            case 4:
                return _image(name, value)
            case 5:
                return _array(name, value)
            case 6:
                return TensorSpec(name, None, "dictionary")
            case 7:
                return TensorSpec(name, (None,), "int64" if protobuf.first(value, 1) is not None else "str")
            case 8:
                return _array(name, protobuf.message(value, 1))
            case _:  # isOptional, and what newer versions add
                continue
    return TensorSpec(name, None, "unknown")


def _array(name: str, array: memoryview) -> TensorSpec:
    shape: list[Dim] = list(protobuf.integers(array, 1))
    sizes = [protobuf.integers(other, 1) for other in protobuf.messages(protobuf.message(array, 21), 1)]
    ranges = [_range(size) for size in protobuf.messages(protobuf.message(array, 31), 1)]
    if ranges:
        shape = [low if low == high else None for low, high in ranges]
    elif sizes and all(len(other) == len(shape) for other in sizes):
        shape = [size if all(other[at] == size for other in sizes) else None for at, size in enumerate(shape)]
    dtype = _ARRAY_DTYPES.get(protobuf.integer(array, 2), "unknown")
    # A description may leave the shape out (an output that Core ML works out itself).
    return TensorSpec(name, tuple(shape) if shape else None, dtype)


def _image(name: str, image: memoryview) -> TensorSpec:
    """Pixels as (height, width, 3), or (height, width) of a grey image."""
    width: Dim = protobuf.integer(image, 1)
    height: Dim = protobuf.integer(image, 2)
    color = protobuf.integer(image, 3)
    sizes = [
        (protobuf.integer(s, 1), protobuf.integer(s, 2))
        for s in protobuf.messages(protobuf.message(image, 21), 1)
    ]
    spans = (
        [_range(protobuf.message(image, 31, axis)) for axis in (1, 2)] if protobuf.first(image, 31) else []
    )
    if any(own != width for own, _ in sizes) or (spans and spans[0][0] != spans[0][1]):
        width = None
    if any(own != height for _, own in sizes) or (spans and spans[1][0] != spans[1][1]):
        height = None
    dtype = "float16" if color == _GRAYSCALE_FLOAT16 else "uint8"
    grey = color in (_GRAYSCALE, _GRAYSCALE_FLOAT16)
    return TensorSpec(name, (height, width) if grey else (height, width, 3), dtype)


def _range(size: memoryview) -> tuple[int, int]:
    """Lowest and highest size; -1 for no limit."""
    return protobuf.integer(size, 1), protobuf.integer(size, 2)


def _notes(interface: _Interface) -> Iterator[str]:
    colors = {10: "grey", 20: "RGB", 30: "BGR", 40: "grey, float16"}
    for feature in interface.inputs:
        image = protobuf.first(feature, 3, 4)
        if isinstance(image, memoryview):
            color = colors.get(protobuf.integer(image, 3), "unknown")
            yield f"Input `{protobuf.text(feature, 1)}` is an image ({color})."
    for feature in interface.states:
        yield f"`{protobuf.text(feature, 1)}` is a state that lives from run to run."


# ------------------------------------------------------------------ packages


def _manifest(folder: Path) -> dict[str, Any]:
    raw = mapped.read_only(folder / "Manifest.json")
    try:
        found = json.loads(bytes(raw[:_MANIFEST_LIMIT]))
    except (ValueError, RecursionError) as error:
        raise _broken(folder, "its Manifest.json is no JSON") from error
    if not isinstance(found, dict):
        raise _broken(folder, "its Manifest.json is no object")
    return found


def _check_weight_files(folder: Path, file: Path, names: list[str]) -> None:
    """Refuse an ML program whose constants name a file outside the package, or one that is missing."""
    for name in names:
        if not _inside(folder, file.parent, name.removeprefix("@model_path/")).is_file():
            raise _broken(folder, f"its weight file `{name}` is missing")


def _inside(folder: Path, base: Path, location: str) -> Path:
    """The file at ``location`` below ``base``, which must stay in the package, links followed."""
    windows = PureWindowsPath(location)
    if not location or PurePosixPath(location).is_absolute() or windows.drive or windows.root:
        raise _escape(folder, location)
    target = base / Path(*windows.parts)
    if not _stays(target, folder):
        raise _escape(folder, location)
    return target


def _refuse_links(folder: Path) -> None:
    """Refuse links that lead out, used or not."""
    count = 0
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            count += 1
            path = Path(root, name)
            if count > _MAX_FILES:
                raise _broken(folder, f"it has more than {_MAX_FILES:,} files")
            if path.is_symlink() and not _stays(path, folder):
                raise _escape(folder, str(path.relative_to(folder)))


def _stays(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):  # a link to itself, a name too long, a null byte
        return False


def _size(path: Path) -> int:
    if not path.is_dir():
        return path.stat().st_size
    files = (Path(root, name) for root, _, names in os.walk(path) for name in names)
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _escape(folder: Path, location: str) -> PathEscape:
    return PathEscape(
        f"`{location}` leads outside the package `{folder}`",
        why="everything of a Core ML package must stay in its folder, links followed",
        fix="copy the files into the package instead of linking to them",
    )


def _broken(path: Path, why: str) -> Corrupt:
    return Corrupt(
        f"`{path}` is a broken Core ML model", why=why, fix="get the model again, or convert it again"
    )
