"""``.pt2`` archives of ``torch.export.save``, described from their JSON, without torch.

The schema is that of torch 2.13, torch/_export/serde/schema.py (version 8.20); the members are named in
torch/csrc/export/pt2_archive_constants.h. Older archives (torch 2.1 to 2.6) hold the same JSON at their top.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from mlconv.errors import UnknownSignature, listed
from mlconv.formats import Description, ModelFile, archive, mapped, parameters
from mlconv.formats.archive import Archive, broken
from mlconv.tensors import Dim, TensorSpec

_LEGACY = "serialized_exported_program.json"
_SCALAR_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64", 9: "complex32",
    10: "complex64", 11: "complex128", 12: "bool", 13: "bfloat16", 28: "uint16", 29: "float8_e4m3fn", 30: "float8_e5m2",
    31: "float8_e4m3fnuz", 32: "float8_e5m2fnuz", 33: "float8_e8m0fnu", 34: "uint32", 35: "uint64",
}  # fmt: skip
_SYMBOL = re.compile(r"(?:Symbol\('(?P<quoted>\w+)'[^)]*\)|(?P<bare>[A-Za-z_]\w*))")
_DEVICE = re.compile(rb'"device": ?\{[^{}]*"type": ?"(\w+)"')
_STORED = ("parameter", "buffer", "tensor_constant")


def programs(opened: Archive) -> dict[str, str]:
    """Programs of an archive: name to member."""
    found = {
        match[1]: match[0]
        for name in opened.names()
        if (match := re.fullmatch(r"models/([^/]+)\.json", name))
    }
    return found or ({"model": _LEGACY} if _LEGACY in opened else {})


def describe(model: ModelFile, signature: str | None = None) -> Description:
    """What a ``.pt2`` says of itself; ``signature`` is the name of a program where the archive holds several.

    A dynamic axis bears the name of its symbol, as torch wrote it (``s77``): the file does not keep a ``Dim``'s name.

    Raises:
        Corrupt: The archive or its JSON is damaged.
        UnknownSignature: It holds no program of that name.
    """
    path = mapped.path_of(model)
    opened = archive.open_archive(path)
    found = programs(opened)
    name = signature or ("model" if "model" in found else next(iter(found), ""))
    if name not in found:
        raise UnknownSignature(
            f"`{path}` has no program `{name}`; it has {listed(list(found)) or 'none'}",
            fix="--signature NAME",
        )
    try:
        program = json.loads(opened.read(found[name]))
        return _describe(program, opened, tuple(found))
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        why = f"`{found[name]}` is not the JSON of a program: {type(error).__name__}: {error}"
        raise broken(path, why) from error


def devices(opened: Archive) -> list[str]:
    """The devices but the CPU that the programs name: where they were exported.

    Raises:
        Corrupt: A program does not unpack.
    """
    found: set[str] = set()
    for member in programs(opened).values():
        found |= {match[1].decode() for match in _DEVICE.finditer(opened.read(member))}
    return sorted(found - {"cpu", "meta"})


def pickles(opened: Archive) -> tuple[str, ...]:
    """Members that torch would unpickle."""
    suspects = [
        name
        for name in opened.names()
        if name.endswith((".pt", ".pkl")) or "custom_obj_" in name or "opaque_obj_" in name
    ]
    return tuple(suspects)


def is_sample(name: str) -> bool:
    """Whether a pickle holds inputs to try the program with: no conversion needs them."""
    return name.startswith("data/sample_inputs/") or name == "serialized_example_inputs.pt"


def _describe(program: dict[str, Any], opened: Archive, names: tuple[str, ...]) -> Description:
    module = program["graph_module"]
    graph, specs = module["graph"], module["signature"]["input_specs"]
    values = graph["tensor_values"]
    stored = {spec[kind]["arg"]["name"] for spec in specs for kind in _STORED if kind in spec}
    weights = [_tensor(name, values[name]) for name in sorted(stored)]
    return Description(
        "torch-export",
        inputs=tuple(_inputs(module, values)),
        outputs=tuple(_outputs(module, values)),
        operators=dict(sorted(_operators(graph).items())),
        parameters=parameters.count(weights),
        bytes=opened.path.stat().st_size,
        metadata=_metadata(program),
        signatures=names if len(names) > 1 else (),
        notes=tuple(_notes(program, opened)),
    )


def _inputs(module: dict[str, Any], values: dict[str, Any]) -> list[TensorSpec]:
    """User inputs that are tensors, under the names of ``forward``'s parameters where there is one for each."""
    arguments = [
        spec["user_input"]["arg"] for spec in module["signature"]["input_specs"] if "user_input" in spec
    ]
    names = [_name(argument) for argument in arguments]
    told = _forward_names(module)
    if len(told) == len(names):
        names = told
    return [
        _tensor(name, values[argument["as_tensor"]["name"]])
        for name, argument in zip(names, arguments, strict=True) if "as_tensor" in argument
    ]  # fmt: skip


def _outputs(module: dict[str, Any], values: dict[str, Any]) -> list[TensorSpec]:
    arguments = [
        spec["user_output"]["arg"] for spec in module["signature"]["output_specs"] if "user_output" in spec
    ]
    return [
        _tensor(_name(argument), values[_name(argument)]) for argument in arguments if "as_tensor" in argument
    ]


def _name(argument: dict[str, Any]) -> str:
    inner = argument.get("as_tensor")
    return str(inner["name"]) if isinstance(inner, dict) else next(iter(argument), "")


def _forward_names(module: dict[str, Any]) -> list[str]:
    for entry in module.get("module_call_graph") or ():
        if entry["fqn"] == "":
            names = (entry.get("signature") or {}).get("forward_arg_names") or ()
            return [str(name) for name in names]
    return []


def _tensor(name: str, meta: dict[str, Any]) -> TensorSpec:
    return TensorSpec(
        name, tuple(_dim(size) for size in meta["sizes"]), _SCALAR_TYPES.get(meta["dtype"], "float32")
    )


def _dim(size: dict[str, Any]) -> Dim:
    """A size; the name of its symbol, where it is one; None for what is computed from symbols."""
    if "as_int" in size:
        return int(size["as_int"])
    match = _SYMBOL.fullmatch(str(size["as_expr"]["expr_str"]))
    return (match["quoted"] or match["bare"]) if match else None


def _operators(graph: dict[str, Any]) -> Counter[str]:
    """Nodes by target, overload left out, those of nested graphs (cond, map) too."""
    counts: Counter[str] = Counter()
    rest = [graph]
    while rest:
        for node in rest.pop()["nodes"]:
            counts[_operator(str(node["target"]))] += 1
            for argument in node["inputs"]:
                nested = argument["arg"].get("as_graph")
                rest += [nested["graph"]] if nested else []
    return counts


def _operator(target: str) -> str:
    """``torch.ops.aten.conv2d.default`` as ``aten.conv2d``; a symbol's arithmetic (``_operator.mul``) as it is."""
    parts = target.removeprefix("torch.ops.").split(".")
    return ".".join(parts[:2]) if target.startswith("torch.ops.") and len(parts) > 2 else ".".join(parts)


def _metadata(program: dict[str, Any]) -> dict[str, str]:
    version = program.get("schema_version")
    told = {"schema_version": f"{version['major']}.{version['minor']}"} if isinstance(version, dict) else {}
    return told | ({"torch_version": str(program["torch_version"])} if program.get("torch_version") else {})


def _notes(program: dict[str, Any], opened: Archive) -> list[str]:
    notes = []
    for symbol, bounds in sorted((program.get("range_constraints") or {}).items()):
        low, high = bounds.get("min_val"), bounds.get("max_val")
        notes.append(
            f"axis `{symbol}` goes from {low if low is not None else 0} to {high if high is not None else 'any size'}"
        )
    elsewhere = devices(opened)
    if elsewhere:
        notes.append(f"it was exported on {listed(elsewhere)}, which conversion changes to the CPU")
    inside = pickles(opened)
    if inside:
        notes.append(f"it holds pickles, which are not loaded: {listed(list(inside))}")
    return notes
