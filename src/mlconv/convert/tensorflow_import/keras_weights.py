"""Whether the weights of a Keras file reached the variables that they are of: files give them to layers by position alone.

Of Keras's own layers the order is known. A class of the user's may make its weights in another order than the class that
was saved, and where their shapes are the same, Keras exchanges them without a word.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlconv.errors import SourceDoesNotRun, listed

_DEDUPLICATED = re.compile(r":\d+$")


def assert_in_order(model: Any, path: Path, classes: Iterable[type], ref: str, told: str) -> list[str]:
    """What users should know of weights that lie in layers of their own classes, one sentence each.

    Args:
        path: The file, under the suffix of what it is.
        classes: The user's.
        told: Where these come from, as the user named it.

    Raises:
        SourceDoesNotRun: The file names the weights of a layer in another order than that in which its class made them.
    """
    kinds = tuple(classes)
    if path.suffix != ".h5":
        return _alike(model, kinds, ref)
    own = [layer for layer in model.layers if any(isinstance(part, kinds) for part in _parts(layer))]
    stored = _stored_names(path, [layer.name for layer in own])
    notes = []
    for layer in own:
        made = [_bare(variable.name) for variable in (*layer.trainable_weights, *layer.non_trainable_weights)]
        names = [_bare(name) for name in stored.get(layer.name, ())]
        if made == names or not names:
            continue
        if Counter(made) == Counter(names):
            raise SourceDoesNotRun(
                f"`{ref}` holds the weights of `{layer.name}` in another order than its class makes them",
                why=f"the file has {listed(names)}, and `{type(layer).__name__}` of `{told}` makes {listed(made)}",
                fix="give --custom-objects the code that the model was saved with; or make the weights there in the file's order",
            )
        notes.append(
            f"the weights of `{layer.name}` were laid in by position: {ref} calls them {listed(names)}, its class {listed(made)}"
        )
    return notes


def _alike(model: Any, kinds: tuple[type, ...], ref: str) -> list[str]:
    """Layers with several weights of one shape, which a `.keras` file tells apart by position alone."""
    notes = []
    parts: dict[int, Any] = {id(part): part for part in _parts(model) if isinstance(part, kinds)}
    for layer in parts.values():
        variables = _own_variables(layer)
        shapes = [(tuple(variable.shape), str(variable.dtype)) for variable in variables]
        names = [
            _bare(variable.name)
            for variable, shape in zip(variables, shapes, strict=True)
            if shapes.count(shape) > 1
        ]
        if names:
            notes.append(
                f"{ref} tells the weights {listed(names)} of `{layer.name}` apart by position alone: they are right if its "
                "class makes them in the order in which the saved one did"
            )
    return notes


def _own_variables(layer: Any) -> list[Any]:
    """A layer's variables without those of its parts, as Keras 3 and Keras 2 keep them."""
    names = ("_trainable_variables", "_non_trainable_variables")
    if not hasattr(layer, names[0]):
        names = ("_trainable_weights", "_non_trainable_weights")
    return [variable for name in names for variable in getattr(layer, name, ())]


def _parts(layer: Any) -> Iterator[Any]:
    yield from layer._flatten_layers() if hasattr(layer, "_flatten_layers") else (layer,)  # noqa: SLF001


def _stored_names(path: Path, layers: Iterable[str]) -> Mapping[str, list[str]]:
    """The names of the weights of these layers, in their order."""
    import h5py

    with h5py.File(path, "r") as file:
        group = file.get("model_weights", file)
        return {name: _names(group[name]) for name in layers if name in group}


def _names(group: Any) -> list[str]:
    """An attribute that Keras cuts into several where it is too long for one."""
    keys = [key for key in group.attrs if re.fullmatch(r"weight_names\d*", key)]
    return [
        name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
        for key in sorted(keys, key=lambda key: int(key.removeprefix("weight_names") or 0))
        for name in group.attrs[key]
    ]


def _bare(name: str) -> str:
    return _DEDUPLICATED.sub("", name).rpartition("/")[2]
