"""Kernels of a release that load and compute something else than ONNX says: data, and which nodes of a model meet them.

A list of what is known, no more: a release without an entry is not shown to be right. Each entry of ``NAME.json`` names

- ``releases`` and ``versions`` of the operator, as the tables under ``runtimes/data`` write them;
- ``where``: attributes that a node must have to meet it; ``"pads": "uneven"`` means padding of other size at the end of
  an axis than at its beginning, or ``auto_pad`` of SAME, which may come to that;
- ``basis``: on which releases it was seen by running them; ``source``: the change that mended it.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlconv.formats.onnx_graphs import DEFAULT_DOMAINS, subgraphs
from mlconv.runtimes import table
from mlconv.runtimes.table import Runtime

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class WrongKernel:
    """An entry that nodes of a model meet.

    Attributes:
        nodes: How many.
        mended: The first later release of the table without it; None where there is none.
    """

    operator: str
    nodes: int
    where: str
    what: str
    source: str
    mended: str | None

    @property
    def told(self) -> str:
        count = "a node" if self.nodes == 1 else f"{self.nodes} nodes"
        since = f"; right since {self.mended}" if self.mended else ""
        return f"`{self.operator}` with {self.where} ({count}): {self.what}{since}, see {self.source}"

    def to_json(self) -> dict[str, Any]:
        return {
            "operator": self.operator, "nodes": self.nodes, "where": self.where, "what": self.what,
            "source": self.source, "mended": self.mended,
        }  # fmt: skip


def wrong_in(proto: ModelProto, runtime: Runtime) -> tuple[WrongKernel, ...]:
    """The entries of a release that nodes of a model meet."""
    listed = table.kernels_of(runtime.name)
    nodes = list(_nodes(proto))
    found = []
    for entry in _entries(listed):
        if not table.covers(entry["releases"], runtime.release, listed):
            continue
        count = sum(_meets(node, version, entry) for node, version in nodes)
        if count:
            found.append(WrongKernel(
                entry["operator"], count, _shown(entry["where"]), entry["what"], entry["source"], _mended(entry, runtime, listed),
            ))  # fmt: skip
    return tuple(found)


def _mended(entry: Mapping[str, Any], runtime: Runtime, listed: str) -> str | None:
    later = (
        release for release in table.later(runtime) if not table.covers(entry["releases"], release, listed)
    )
    return next(later, None)


def _nodes(proto: ModelProto) -> Iterator[tuple[NodeProto, int]]:
    """Every node with the version of its domain that the model, or the function around it, imports."""
    main = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    for node in proto.graph.node:
        yield from _versioned(node, main)
    for function in proto.functions:
        imports = main | {_domain(entry.domain): entry.version for entry in function.opset_import}
        for node in function.node:
            yield from _versioned(node, imports)


def _versioned(node: NodeProto, imports: Mapping[str, int]) -> Iterator[tuple[NodeProto, int]]:
    yield node, imports.get(_domain(node.domain), 1)
    for body in subgraphs(node):
        for inner in body.node:
            yield from _versioned(inner, imports)


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain


def _meets(node: NodeProto, opset: int, entry: Mapping[str, Any]) -> bool:
    import onnx

    if (_domain(node.domain), node.op_type) != (entry["domain"], entry["operator"]):
        return False
    if not onnx.defs.has(node.op_type, max_inclusive_version=opset, domain=entry["domain"]):
        return False
    first, last = table.span(entry["versions"])
    if not first <= onnx.defs.get_schema(node.op_type, opset, entry["domain"]).since_version <= last:
        return False
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    return all(
        _is_uneven(attributes) if wanted == "uneven" else attributes.get(name) == wanted
        for name, wanted in entry["where"].items()
    )


def _is_uneven(attributes: Mapping[str, Any]) -> bool:
    pads = list(attributes.get("pads", ()))
    half = len(pads) // 2
    return pads[:half] != pads[half:] or attributes.get("auto_pad", b"") in (b"SAME_UPPER", b"SAME_LOWER")


def _shown(where: Mapping[str, Any]) -> str:
    return ", ".join(
        "uneven pads" if value == "uneven" else f"{name}={value}" for name, value in where.items()
    )


@functools.cache
def _entries(name: str) -> tuple[Mapping[str, Any], ...]:
    path = _FOLDER / f"{name}.json"
    return tuple(json.loads(path.read_text(encoding="utf-8"))["wrong"]) if path.exists() else ()
