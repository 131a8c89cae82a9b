"""TorchScript archives, described from their code's text and their pickles, without torch.

The code under ``code/`` is what ``torch/csrc/jit/serialization/python_print.cpp`` prints: an operator of the aten
namespace as ``torch.NAME(...)``, of another as ``ops.NAMESPACE.NAME(...)``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from mlconv.errors import listed
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
from mlconv.formats.pickle_reader import Made, Pickle, PickleError, Tensor
from mlconv.tensors import TensorSpec, show_shape

_OPERATOR = re.compile(r"\b(?:torch\.(?P<aten>\w+)|ops\.(?P<space>\w+)\.(?P<name>\w+))\(")
_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")
_CLASS = re.compile(r"^class (\w+)\(", re.MULTILINE)
_FORWARD = re.compile(
    r"^  def forward\(self: [^,)]*,?\s*(?P<arguments>.{0,20000}?)\) -> [^\n]*:\n", re.MULTILINE | re.DOTALL
)
_CALLS = (("OP",), ("OPN",))  # instructions that call an operator
_DEVICE = re.compile(r"\btorch\.device\(\"(?!cpu|meta)(?P<device>[a-z]+(?::\d+)?)\"\)")
_TO_CUDA = re.compile(r"\btorch\.cuda\(")
_TENSOR_TYPES = frozenset({"Tensor", "Optional[Tensor]"})


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What a TorchScript archive says of itself.

    TorchScript stores neither shapes nor dtypes of inputs. Their names are those of ``forward``; the dtype is that of the
    example that a trace of torch 2.13 keeps, else float32; the shape is None. Operators are counted as they stand in the
    code: a loop's body once, methods of the same class once.

    Raises:
        Corrupt: The archive, its code or its pickle is damaged.
    """
    del signature  # forward is the one entry point
    path = mapped.path_of(model)
    opened = archive.open_archive(path)
    weights = _pickle(opened, _weights_member(opened))
    examples = _examples(opened)
    arguments = _arguments(opened, weights)
    inputs = tuple(
        TensorSpec(name, None, examples[name].dtype if name in examples else "float32")
        for name, kind in arguments.items() if kind in _TENSOR_TYPES
    )  # fmt: skip
    others = [f"`{name}: {kind}`" for name, kind in arguments.items() if kind not in _TENSOR_TYPES]
    notes = (
        []
        if examples
        else ["TorchScript tells neither shapes nor dtypes of its inputs: conversion needs --input"]
    )
    notes += [
        f"traced with `{name}` of shape {show_shape(example.shape)}" for name, example in examples.items()
    ]
    notes += [f"forward also takes {', '.join(others)}"] if others else []
    baked = devices(opened)
    notes += (
        [f"its code makes tensors on {listed(baked)}, which conversion changes to the CPU"] if baked else []
    )
    return Description(
        "torchscript", inputs=inputs, operators=operators(opened), parameters=_parameters(opened, weights),
        bytes=path.stat().st_size, metadata=_metadata(opened), notes=tuple(notes),
    )  # fmt: skip


def operators(opened: Archive) -> dict[str, int]:
    """Operators by name (``aten.conv2d``) with how often they stand in the code, or in the mobile interpreter's bytecode.

    Raises:
        Corrupt: The code or the bytecode is damaged.
    """
    counts: Counter[str] = Counter()
    for text in _code(opened).values():
        for match in _OPERATOR.finditer(_STRING.sub('""', text)):
            counts[f"aten.{match['aten']}" if match["aten"] else f"{match['space']}.{match['name']}"] += 1
    if not counts and "bytecode.pkl" in opened:
        counts = _bytecode_operators(_pickle(opened, "bytecode.pkl").root)
    return dict(sorted(counts.items()))


def devices(opened: Archive) -> list[str]:
    """The devices but the CPU that its code names: what a trace on a GPU keeps.

    Raises:
        Corrupt: The code is damaged.
    """
    texts = list(_code(opened).values())
    found = {match["device"] for text in texts for match in _DEVICE.finditer(text)}
    return sorted(found | {"cuda" for text in texts if _TO_CUDA.search(text)})


def on_cpu(code: str) -> str:
    """The code with the CPU in the place of those devices."""
    return _TO_CUDA.sub("torch.cpu(", _DEVICE.sub('torch.device("cpu")', code))


def _code(opened: Archive) -> dict[str, str]:
    members = [name for name in opened.names() if name.startswith("code/") and name.endswith(".py")]
    return {name: opened.read(name).decode("utf-8", "replace") for name in members}


def _weights_member(opened: Archive) -> str | None:
    return next((name for name in ("data.pkl", "attributes.pkl") if name in opened), None)


def _pickle(opened: Archive, name: str | None) -> Pickle:
    """A pickle of TorchScript. C++ loads it, which knows its own classes alone: no name in it can run Python."""
    if name is None:
        return Pickle()
    try:
        return pickle_reader.read(opened.read(name), allow=_any_name)
    except PickleError as error:
        raise broken(opened.path, f"its pickle `{name}` is damaged: {error}") from error


def _any_name(_: Global) -> bool:
    return True


def _parameters(opened: Archive, weights: Pickle) -> int | None:
    """Elements of the tensors of modules; frozen modules keep theirs among the constants."""
    found = list(weights.tensors)
    if "constants.pkl" in opened:
        found += _pickle(opened, "constants.pkl").tensors
    if not found and "model.json" in opened:
        return None
    return parameters.count(
        torch_checkpoint.distinct({str(index): tensor for index, tensor in enumerate(found)})
    )


def _arguments(opened: Archive, weights: Pickle) -> dict[str, str]:
    """Parameters of the top module's ``forward`` and their types; empty where its code does not tell."""
    top = weights.root.by if isinstance(weights.root, Made) else None
    if not isinstance(top, Global):
        return {}
    member = f"code/{top.module.replace('.', '/')}.py"
    if member not in opened:
        return {}
    source = opened.read(member).decode("utf-8", "replace")
    starts = [match for match in _CLASS.finditer(source) if match[1] == top.name]
    if not starts:
        return {}
    following = _CLASS.search(source, starts[0].end())
    body = source[starts[0].end() : following.start() if following else len(source)]
    forward = _FORWARD.search(body)
    return dict(_split(forward["arguments"])) if forward else {}


def _split(arguments: str) -> Iterator[tuple[str, str]]:
    """Name and type of each argument; defaults are dropped, commas inside brackets do not count."""
    depth, start = 0, 0
    for at, char in enumerate(arguments + ","):
        depth += (char in "[(") - (char in "])")
        if char == "," and depth <= 0:
            name, colon, kind = arguments[start:at].partition(":")
            if colon and name.strip():
                yield name.strip(), kind.partition("=")[0].strip()
            start = at + 1


def _examples(opened: Archive) -> dict[str, Tensor]:
    """The inputs that a module was traced with, by name where ``forward`` tells it (torch 2.13: ``traced_inputs.pkl``)."""
    if "traced_inputs.pkl" not in opened:
        return {}
    root = _unwrapped(_pickle(opened, "traced_inputs.pkl").root)
    values = _unwrapped(root.get("forward")) if isinstance(root, dict) else None
    if not isinstance(values, (list, tuple)):
        return {}
    names = list(_arguments(opened, _pickle(opened, _weights_member(opened))))
    return {name: value for name, value in zip(names, values, strict=False) if isinstance(value, Tensor)}


def _unwrapped(value: object) -> object:
    """What ``torch.jit._pickle.restore_type_tag(value, type)`` would return."""
    match value:
        case Made(by=Global(name="restore_type_tag"), args=(inner, *_)):
            return inner
        case _:
            return value


def _bytecode_operators(root: object) -> Counter[str]:
    """Counts out of the mobile interpreter's functions: (name, (("instructions", ((code, X, N), ...)), ("operators", ...), ...))."""
    counts: Counter[str] = Counter()
    for function in root if isinstance(root, tuple) else ():
        table = _pairs(function[1]) if isinstance(function, tuple) and len(function) > 1 else {}
        names = table.get("operators", ())
        for instruction in table.get("instructions", ()):
            index = instruction[1] if isinstance(instruction, tuple) and instruction[:1] in _CALLS else None
            if isinstance(index, int) and 0 <= index < len(names):
                counts[_bytecode_name(names[index])] += 1
    return counts


def _pairs(value: object) -> dict[str, tuple[Any, ...]]:
    """A tuple of names and tuples, as a dictionary."""
    found = {}
    for pair in value if isinstance(value, tuple) else ():
        if (
            isinstance(pair, tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            and isinstance(pair[1], tuple)
        ):
            found[pair[0]] = pair[1]
    return found


def _bytecode_name(operator: object) -> str:
    name = operator[0] if isinstance(operator, tuple) and operator else operator
    return str(name)[:200].replace("::", ".") if isinstance(name, str) else "?"


def _metadata(opened: Archive) -> dict[str, str]:
    """Files that the author put beside the code (``_extra_files``), where they are short texts."""
    found: dict[str, str] = {}
    for name in opened.names():
        if name.startswith("extra/") and opened.size(name) <= 4096:
            found[name.removeprefix("extra/")] = opened.read(name).decode("utf-8", "replace")
    return found
