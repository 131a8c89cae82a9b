"""Frozen values to JSON and back: the worker's protocol and the printed documents are made of them."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from pathlib import Path
from typing import Any, TypeVar, cast

T = TypeVar("T")


def to_json(value: object) -> Any:
    """Dataclasses become dicts, tuples lists, paths text; numbers, text, booleans and None stay."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_json(item) for item in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    if isinstance(value, Path):
        return str(value)
    return value


def from_json(kind: type[T], data: Any) -> T:
    """The inverse of ``to_json`` for a declared type: dataclasses, tuples, dicts, paths, unions with None."""
    return cast("T", _build(kind, data))


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _build(kind: Any, data: Any) -> Any:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return None if data is None else _build_member(args, data)
    if dataclasses.is_dataclass(kind):
        hints = _hints(cast("type", kind))
        return kind(**{key: _build(hints[key], item) for key, item in data.items() if key in hints})  # type: ignore[operator]
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(_build(args[0], item) for item in data)
        return tuple(_build(arg, item) for arg, item in zip(args, data, strict=True))
    if origin in (list, frozenset):
        return origin(_build(args[0], item) for item in data)
    if origin is dict:
        return {key: _build(args[1], item) for key, item in data.items()}
    if kind is Path:
        return Path(data)
    if kind is float and isinstance(data, int):
        return float(data)
    return data


def _build_member(members: tuple[Any, ...], data: Any) -> Any:
    """The first member of a union that fits: JSON's own types decide, a dataclass takes a dict."""
    for member in members:
        origin = typing.get_origin(member) or member
        if isinstance(origin, type) and isinstance(data, origin):
            return _build(member, data)
        if isinstance(data, dict) and dataclasses.is_dataclass(member):
            return _build(member, data)
        if isinstance(data, list) and origin is tuple:
            return _build(member, data)
        if isinstance(data, str) and origin is Path:
            return Path(data)
        if isinstance(data, int) and origin is float:
            return float(data)
    return data
