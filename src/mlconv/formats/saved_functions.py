"""Functions of a SavedModel's root object: what can be called where no signature was saved, read without TensorFlow.

Field numbers are those of tensorflow/core/protobuf/{saved_object_graph,struct}.proto. A traced function is stored by its
canonical arguments, ``((positional...), {keyword: ...})``, in which a tensor stands as its spec and all else as itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlconv.formats import graph_def, protobuf
from mlconv.formats.protobuf import WireError
from mlconv.tensors import TensorSpec

CALL = "__call__"
_NONE, _FLOAT, _INT, _STRING, _BOOL = 1, 11, 12, 13, 14  # StructuredValue
_SPEC, _BOUNDED_SPEC, _LIST, _TUPLE, _DICT, _NAMED_TUPLE = 33, 35, 51, 52, 53, 54
_DEPTH = 50


@dataclass(frozen=True, slots=True)
class Tensor:
    """The place of a tensor in the arguments: which of the inputs it is."""

    index: int


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An argument or result that is no tensor and no plain value, such as a ragged one."""


@dataclass(frozen=True, slots=True)
class Traced:
    """A function as it was traced for one kind of arguments.

    Attributes:
        inputs: Its tensors, in TensorFlow's order, by the names of its parameters.
        outputs: Those that it returns, by their keys, else ``output_0`` and so on.
        arguments: Positional and keyword arguments, with a ``Tensor`` in each tensor's place.
        trains: Whether an argument ``training`` is true.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    arguments: tuple[tuple[Any, ...], dict[str, Any]]
    trains: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it takes and gives dense tensors and plain values alone."""
        return not any(isinstance(leaf, Unreadable) for _, leaf in _leaves("", list(self.arguments)))


@dataclass(frozen=True, slots=True)
class Function:
    """Something to call: a function of the root object.

    Attributes:
        parameters: As its author called them.
        traced: One for each kind of arguments that it was called with before it was saved.
    """

    name: str
    parameters: tuple[str, ...]
    traced: tuple[Traced, ...]

    @property
    def forms(self) -> tuple[Traced, ...]:
        """Those that can be called with dense tensors, for inference where there is a choice."""
        whole = tuple(traced for traced in self.traced if traced.is_whole)
        return tuple(traced for traced in whole if not traced.trains) or whole


def read(objects: memoryview) -> dict[str, Function]:
    """The functions of a ``SavedObjectGraph`` by name, ``__call__`` first.

    Raises:
        WireError: It is damaged.
    """
    nodes = list(protobuf.messages(objects, 1))
    concrete = protobuf.entries(objects, 2)
    found = {}
    for child in protobuf.messages(nodes[0], 1) if nodes else ():
        number, name = protobuf.integer(child, 1), protobuf.text(child, 2)
        function = protobuf.message(nodes[number], 6) if 0 <= number < len(nodes) else memoryview(b"")
        if name and len(function):
            found[name] = _function(name, function, concrete)
    return dict(sorted(found.items(), key=lambda item: (item[0] != CALL, item[0])))


def _function(name: str, data: memoryview, concrete: Mapping[str, memoryview]) -> Function:
    spec = protobuf.message(data, 2)
    told = _value(protobuf.message(spec, 1))
    names = told.get("args") if isinstance(told, dict) else None
    parameters = [str(part) for part in names] if isinstance(names, list) else []
    if protobuf.integer(spec, 2):  # a method
        parameters = parameters[1:]
    traced = [_traced(concrete[key], parameters) for key in protobuf.texts(data, 1) if key in concrete]
    return Function(name, tuple(parameters), tuple(traced))


def _traced(data: memoryview, parameters: Sequence[str]) -> Traced:
    canonical = _value(protobuf.message(data, 3))
    positional, keywords = canonical if isinstance(canonical, tuple) and len(canonical) == 2 else ((), {})
    if not isinstance(positional, tuple) or not isinstance(keywords, dict):
        raise WireError("a function's arguments are no tuple and dictionary")
    inputs: list[TensorSpec] = []
    names = [*parameters, *(f"arg_{index}" for index in range(len(parameters), len(positional)))]
    packed = tuple(_placed(value, name, inputs) for name, value in zip(names, positional, strict=False))
    packed_keywords = {name: _placed(keywords[name], name, inputs) for name in sorted(keywords)}
    leaves = [
        (name, leaf) for name, leaf in _leaves("", _value(protobuf.message(data, 4))) if leaf is not None
    ]
    outputs = tuple(
        (leaf if isinstance(leaf, TensorSpec) else TensorSpec("", None, "variant")).renamed(
            name or f"output_{index}"
        )
        for index, (name, leaf) in enumerate(leaves)
    )
    trains = {**dict(zip(names, positional, strict=False)), **keywords}.get("training") is True
    return Traced(_apart(inputs), _apart(outputs), (packed, packed_keywords), trains)


def _placed(value: Any, name: str, inputs: list[TensorSpec]) -> Any:
    """The value with a ``Tensor`` for each spec, which goes to the inputs; dictionaries by key, as TensorFlow flattens."""
    if isinstance(value, TensorSpec):
        inputs.append(value.renamed(name))
        return Tensor(len(inputs) - 1)
    if isinstance(value, (list, tuple)):
        return type(value)([_placed(item, f"{name}_{index}", inputs) for index, item in enumerate(value)])
    if isinstance(value, dict):
        return {key: _placed(value[key], key, inputs) for key in sorted(value)}
    return value


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """What a nest holds, with the keys on the way to it; positions in lists name nothing."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _leaves(f"{name}_{key}" if name else str(key), value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(name, item)
    else:
        yield name, value


def _apart(specs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    taken: dict[str, TensorSpec] = {}
    for spec in specs:
        name, count = spec.name, 0
        while name in taken:
            count += 1
            name = f"{spec.name}_{count}"
        taken[name] = spec.renamed(name)
    return tuple(taken.values())


# ------------------------------------------------------------------ struct.proto


def _value(data: memoryview, depth: int = 0) -> Any:
    """A StructuredValue as Python; a tensor as a spec without a name.

    Raises:
        WireError: It nests deeper than any that TensorFlow writes.
    """
    if depth > _DEPTH:
        raise WireError("arguments that nest without end")
    for number, _, value in protobuf.fields(data):
        if isinstance(value, int):
            return _number(number, value)
        if number == _STRING:
            return protobuf.decoded(value)
        if number in (_SPEC, _BOUNDED_SPEC):
            shape = graph_def.shape(protobuf.message(value, 2))
            return TensorSpec("", shape, graph_def.dtype(protobuf.integer(value, 3)))
        if number in (_LIST, _TUPLE):
            items = [_value(item, depth + 1) for item in protobuf.messages(value, 1)]
            return items if number == _LIST else tuple(items)
        if number == _DICT:
            return {key: _value(item, depth + 1) for key, item in protobuf.entries(value, 1).items()}
        if number == _NAMED_TUPLE:
            pairs = list(protobuf.messages(value, 2))
            return {protobuf.text(pair, 1): _value(protobuf.message(pair, 2), depth + 1) for pair in pairs}
        return None if number == _NONE else Unreadable()
    return None


def _number(field: int, value: int) -> Any:
    if field == _FLOAT:
        return struct.unpack("<d", value.to_bytes(8, "little"))[0]
    if field == _INT:  # sint64
        return (value >> 1) ^ -(value & 1)
    return bool(value) if field == _BOOL else Unreadable()
