"""Keras models: ``.keras`` archives of Keras 3 and whole-model HDF5 files, described from their configuration.

The configuration is JSON: ``config.json`` of the archive (keras/src/saving/saving_lib.py), the attribute
``model_config`` of the HDF5 file (keras/src/legacy/saving/legacy_h5_format.py).
"""

from __future__ import annotations

import json
import mmap
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlconv.errors import listed
from mlconv.formats import Description, ModelFile, archive, hdf5_file, keras_code, mapped, parameters
from mlconv.formats.archive import Archive, broken
from mlconv.formats.hdf5_file import Contents
from mlconv.formats.keras_code import Config
from mlconv.tensors import DTYPES, Dim, TensorSpec

CONFIG, METADATA, WEIGHTS = "config.json", "metadata.json", "model.weights.h5"
_ATTRIBUTES = ("model_config", "keras_version", "backend")
_LOOKED_AT = 512 << 20  # bytes; a file that is one great hole is not searched to its end
_CONFIG_LIMIT = 256 << 20  # bytes
_VOCABULARIES = ("vocabulary", "vocabulary_file")
_NOT_WEIGHTS = ("optimizer/", "optimizer_weights/", "metrics/")


@dataclass(frozen=True, slots=True)
class KerasModel:
    """A model file.

    Attributes:
        config: ``{"class_name": ..., "config": ...}`` of the model.
        weights: What is known of the HDF5 file with the weights; None where there is none.
        metadata: Versions and dates, as text.
    """

    config: Config
    weights: Contents | None
    metadata: dict[str, str]


def is_keras_archive(opened: Archive) -> bool:
    return opened.root == "" and CONFIG in opened and METADATA in opened


def has_model_config(data: memoryview) -> bool:
    """Whether an HDF5 file says that it is a whole model. Attribute names stand in it as they are, so HDF5 is not needed."""
    return _contains(data, b"model_config")


def has_keras_weights(data: memoryview) -> bool:
    """Whether an HDF5 file without a configuration holds Keras's weights: of Keras 3 (``vars``) or before."""
    return _contains(data, b"layer_names") or _contains(data, b"weight_names") or (_contains(data, b"vars\0"))


def read(path: Path) -> KerasModel:
    """A model file of either kind.

    Raises:
        Corrupt: The archive, the HDF5 file or the configuration is damaged.
    """
    with path.open("rb") as file:
        head = file.read(8)
    return _read_archive(archive.open_archive(path)) if archive.is_zip(head) else _read_hdf5(path)


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What a Keras model says of itself.

    Inputs are those of the configuration. Of outputs the configuration tells the layers alone: their shapes are None.
    Operators are layers by class, those of nested models and inside wrappers included.

    Raises:
        Corrupt: As ``read``.
    """
    del signature  # a Keras model has one
    path = mapped.path_of(model)
    found = read(path)
    try:
        inputs, outputs = _signature(found.config)
        return Description(
            model.format, inputs=inputs, outputs=outputs, operators=_operators(found.config),
            parameters=_parameters(found.weights), bytes=path.stat().st_size, metadata=found.metadata,
            notes=tuple(_notes(found)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise broken(
            path, f"its configuration is not that of a model: {type(error).__name__}: {error}"
        ) from error


def outside_files(found: KerasModel) -> list[str]:
    """Files elsewhere that loading would read: vocabularies that layers and feature columns name by their path."""
    paths = []
    for _, value in keras_code.values_by_layer(found.config):
        config = value.get("config")
        names = [config.get(key) for key in _VOCABULARIES] if isinstance(config, dict) else []
        paths += [name for name in names if isinstance(name, str) and name]
    return paths


def _read_archive(opened: Archive) -> KerasModel:
    metadata = _json(opened, METADATA)
    weights = _archived_weights(opened) if WEIGHTS in opened else None
    told = {key: str(value) for key, value in metadata.items() if isinstance(value, (str, int, float))}
    return KerasModel(_json(opened, CONFIG), weights, told)


def _archived_weights(opened: Archive) -> Contents:
    """The member with the weights: in place where it is stored, as Keras does, else unpacked beside."""
    place = opened.stored_at(WEIGHTS)
    if place is not None:
        return hdf5_file.look(opened.path, start=place, size=opened.size(WEIGHTS))
    with tempfile.NamedTemporaryFile(suffix=".h5") as unpacked:
        unpacked.write(opened.read(WEIGHTS, limit=1 << 30))
        unpacked.flush()
        return hdf5_file.look(Path(unpacked.name), name=opened.path)


def _read_hdf5(path: Path) -> KerasModel:
    contents = hdf5_file.look(path, _ATTRIBUTES)
    config = contents.attributes.get("model_config")
    if config is None:
        raise broken(path, "its attribute `model_config` cannot be read")
    metadata = {key: value for key, value in contents.attributes.items() if key != "model_config"}
    return KerasModel(_parsed(config, path, "model_config"), contents, metadata)


def _json(opened: Archive, name: str) -> Config:
    return _parsed(opened.read(name, _CONFIG_LIMIT), opened.path, name)


def _parsed(text: str | bytes, path: Path, name: str) -> Config:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise broken(path, f"its `{name}` is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise broken(path, f"its `{name}` is a {type(found).__name__}, and an object is needed")
    return found


def _signature(config: Config) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a Functional or Sequential model; a model of one's own class tells its input shape at most."""
    body = config.get("config")
    layers = _layers(config)
    if isinstance(body, dict) and "input_layers" in body:
        by_name = {keras_code.layer_name(layer): layer for layer in layers}
        inputs = [_input(name, by_name[name]) for name in _tensor_layers(body["input_layers"])]
        return tuple(inputs), tuple(
            _output(name, by_name[name]) for name in _tensor_layers(body["output_layers"])
        )
    if layers and config.get("class_name") == "Sequential":
        first = layers[0]
        inner = layers[-1]
        name = (
            keras_code.layer_name(first)
            if first.get("class_name") == "InputLayer"
            else f"{keras_code.layer_name(first)}_input"
        )
        spec = _input(name, first)
        shape = spec.shape if spec.shape is not None else _shape(_built_shape(config))
        return (TensorSpec(name, shape, spec.dtype),), (_output(keras_code.layer_name(inner), inner),)
    shape = _shape(_built_shape(config))
    return ((TensorSpec("input", shape, "float32"),) if shape else ()), ()


def _layers(config: Config) -> list[Config]:
    """The layers of a model; before Keras 2.3 a Sequential's configuration was the bare list."""
    body = config.get("config")
    layers = body.get("layers") if isinstance(body, dict) else body
    return [layer for layer in layers if isinstance(layer, dict)] if isinstance(layers, list) else []


def _tensor_layers(references: Any) -> list[str]:
    """Layers in a nest of ``[name, node, tensor]``, in order; a dictionary's in the order of its keys."""
    if isinstance(references, dict):
        return [name for key in sorted(references) for name in _tensor_layers(references[key])]
    if isinstance(references, list) and references and isinstance(references[0], str):
        return [references[0]]
    return [name for reference in references or () for name in _tensor_layers(reference)]


def _input(name: str, layer: Config) -> TensorSpec:
    body = layer.get("config")
    body = body if isinstance(body, dict) else {}
    nested = _layers(layer)  # a model as the first layer tells its own inputs
    if nested and "batch_input_shape" not in body and "batch_shape" not in body:
        return _input(name, nested[0])
    shape = (
        body.get("batch_shape")
        or body.get("batch_input_shape")
        or (layer.get("build_config") or {}).get("input_shape")
    )
    return TensorSpec(name, _shape(shape), _dtype(body.get("dtype")))


def _output(name: str, layer: Config) -> TensorSpec:
    body = layer.get("config")
    return TensorSpec(name, None, _dtype(body.get("dtype") if isinstance(body, dict) else None))


def _built_shape(config: Config) -> Any:
    body = config.get("config")
    told = body.get("build_input_shape") if isinstance(body, dict) else None
    return told or (config.get("build_config") or {}).get("input_shape")


def _shape(value: Any) -> tuple[Dim, ...] | None:
    if isinstance(value, dict):  # Keras 3 writes tuples so: {"class_name": "__tuple__", "items": [...]}
        value = value.get("items")
    if not isinstance(value, (list, tuple)) or not all(
        size is None or isinstance(size, int) for size in value
    ):
        return None
    return tuple(value)


def _dtype(value: Any) -> str:
    """The dtype that a layer computes in: a name, or a policy with one."""
    if isinstance(value, dict):
        inner = value.get("config")
        value = inner.get("name") if isinstance(inner, dict) else None
    name = str(value or "float32").removeprefix("mixed_")
    return {"string": "str"}.get(name, name if name in DTYPES else "float32")


def _operators(config: Config) -> dict[str, int]:
    """Layers by class. A model inside the model counts as its layers."""
    counts: Counter[str] = Counter()
    rest = _layers(config)
    while rest:
        layer = rest.pop()
        nested = _layers(layer)
        rest += nested
        counts.update([] if nested else [str(layer.get("class_name"))])
        body = layer.get("config")
        for key in ("layer", "forward_layer", "backward_layer", "cell"):
            inner = body.get(key) if isinstance(body, dict) else None
            if isinstance(inner, dict) and "class_name" in inner:
                rest.append(inner)
    return dict(sorted(counts.items()))


def _parameters(weights: Contents | None) -> int | None:
    if weights is None:
        return None
    return parameters.count(
        spec for name, spec in weights.datasets.items() if not name.startswith(_NOT_WEIGHTS)
    )


def _notes(found: KerasModel) -> Iterator[str]:
    code, calls = keras_code.marshalled(found.config), keras_code.calls(found.config)
    if code:
        yield f"it carries Python code in {listed(code)}: it is loaded only with --trust-model"
    if calls:
        yield f"it calls functions that may reach out of the model: {listed(calls)}: it is loaded only with --trust-model"
    if found.weights is not None and found.weights.elsewhere:
        yield f"it takes content from other files and is refused: {listed(list(found.weights.elsewhere))}"
    own = keras_code.custom_classes(found.config)
    if own:
        yield f"classes of the author's own: {listed(own)}: --custom-objects FILE.py with the file that defines them"


def _contains(data: memoryview, text: bytes) -> bool:
    """Whether a text stands among the first bytes: Keras writes attributes and groups before the weights."""
    if isinstance(data.obj, mmap.mmap):
        return data.obj.find(text, 0, _LOOKED_AT) >= 0
    return text in bytes(data[:_LOOKED_AT])
