"""Keras layers that read text: where a model has to be cut so that the rest converts, as a line to type."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

from mlconv.convert.tensorflow_import.keras_files import KerasModel
from mlconv.errors import UnsupportedOperator, listed

_AS_TEXT = ("Hashing", "HashedCrossing")
"""Layers that make text of numbers on their way."""


def explained(keras: KerasModel, ref: str, error: UnsupportedOperator) -> UnsupportedOperator:
    """The same error by the layers that it comes from, with a line that saves the part behind them."""
    layers = list(_reading_text(keras.model))
    if not layers:
        return error
    told = ", ".join(f"`{layer.name}` ({type(layer).__name__})" for layer in layers)
    return UnsupportedOperator(
        f"{told} of `{ref}` {'reads or hashes' if len(layers) == 1 else 'read or hash'} text, and ONNX has no operators for that",
        why=error.what, fix=_cut(keras, ref, layers),
    )  # fmt: skip


def _reading_text(model: Any) -> Iterator[Any]:
    """The layers of a Functional or Sequential model that take text and give numbers, and those that hash."""
    for layer in model.layers:
        try:
            inputs, output = layer.input, layer.output
        except (AttributeError, ValueError):  # a layer that was called twice, or never
            continue
        takes = [
            str(getattr(tensor, "dtype", "")) for tensor in (inputs if isinstance(inputs, list) else [inputs])
        ]
        gives = str(getattr(output, "dtype", ""))
        if type(layer).__name__ in _AS_TEXT or (
            any("string" in dtype for dtype in takes) and "string" not in gives
        ):
            yield layer


def _cut(keras: KerasModel, ref: str, layers: list[Any]) -> str:
    """Python that saves the model behind these layers; inputs that are no text stay."""
    sequential = type(keras.model).__name__ == "Sequential"
    made = _sequence_behind(keras.model, layers[-1]) if sequential else _graph_behind(keras.model, layers)
    module = "tf_keras as keras" if keras.is_keras_2 else "keras"
    program = f"import {module}; m = keras.models.load_model({ref!r}); {made}.save('behind.keras')"
    names = listed([layer.name for layer in layers])
    quoted = shlex.quote(program) if '"' in program or "$" in program else f'"{program}"'
    return f"python -c {quoted} saves what is behind {names}; then mlconv onnx behind.keras"


def _sequence_behind(model: Any, last: Any) -> str:
    """The rest of a Sequential model, which calls its layers again whenever it is built: their outputs lead nowhere."""
    output = last.output
    dtype = getattr(output.dtype, "name", output.dtype)
    shape = f"{tuple(output.shape[1:])}, dtype={dtype!r}"
    return f"keras.Sequential([keras.Input({shape}), *m.layers[{model.layers.index(last) + 1}:]])"


def _graph_behind(model: Any, layers: list[Any]) -> str:
    kept = [tensor.name.split(":")[0] for tensor in model.inputs if "string" not in str(tensor.dtype)]
    hashed = {name for layer in layers for name in _names(layer.input)}
    parts = [f"m.get_layer({layer.name!r}).output" for layer in layers]
    parts += [f"m.get_layer({name!r}).output" for name in kept if name not in hashed]
    start = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    return f"keras.Model({start}, m.output)"


def _names(tensors: Any) -> list[str]:
    return [tensor.name.split(":")[0] for tensor in (tensors if isinstance(tensors, list) else [tensors])]
