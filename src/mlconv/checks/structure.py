"""Whether an ONNX file is sound, told in full: onnx's checker stops at the first fault, this goes on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlconv.checks.onnx_faults import graph_faults, unknown_operators
from mlconv.convert.onnx_graph.file import external_faults
from mlconv.errors import Corrupt, counted

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_SHOWN = 12
"""Faults of one kind that are written out; a graph whose first value is missing has thousands."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: its name, whether it holds (None: it could not be made), and what was found."""

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class Structure:
    """All findings about one file, each check once and always in the same order."""

    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        return all(finding.ok is not False for finding in self.findings)


def check_structure(path: Path) -> Structure:
    """Check a file without running it: data, graph, operators, types and shapes, versions.

    Raises:
        Corrupt: The bytes are no ModelProto.
    """
    proto = _read(path)
    unknown = unknown_operators(proto)
    external = [fault.what for fault in external_faults(proto, path.parent)]
    return Structure((
        _finding("external data", external, "all files present" if _has_external(proto) else "none"),
        _finding("structure", [*graph_faults(proto), *_checker(path, proto, external)], counted(len(proto.graph.node), "operator")),
        _finding("operators", [f"no operator {_shown(*key)} ({count} times)" for key, count in unknown.items()], _kinds(proto)),
        _shapes(proto, unknown),
        _finding("opset and IR version", list(_versions(proto)), _imports(proto)),
    ))  # fmt: skip


def _read(path: Path) -> ModelProto:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        proto = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise Corrupt(
            f"`{path.name}` is no readable ONNX model", why=str(error), fix="export or download it again"
        ) from error
    if not proto.HasField("graph"):
        raise Corrupt(f"`{path.name}` holds no graph", fix="export or download it again")
    return proto


def _finding(name: str, faults: list[str], fine: str) -> Finding:
    unique = list(dict.fromkeys(faults))
    more = [f"and {len(unique) - _SHOWN} more"] if len(unique) > _SHOWN else []
    return Finding(name, not unique, "; ".join(unique[:_SHOWN] + more) or fine)


def _has_external(proto: ModelProto) -> bool:
    return any(tensor.data_location == tensor.EXTERNAL for tensor in proto.graph.initializer)


def _checker(path: Path, proto: ModelProto, external: list[str]) -> list[str]:
    """onnx.checker's own words; by path, since that reads models of any size."""
    import onnx

    if external:
        return []  # it would name the first missing file again
    try:
        onnx.checker.check_model(_with_shapes(proto) if _lacks_shape(proto) else str(path), full_check=False)
    except onnx.checker.ValidationError as error:
        return [f"onnx.checker: {_one_line(str(error))}"]
    except (RuntimeError, ValueError, UnicodeError) as error:
        return [f"onnx.checker gave up: {_one_line(str(error))}"]
    return []


def _lacks_shape(proto: ModelProto) -> bool:
    return any(
        put.type.HasField("tensor_type") and not put.type.tensor_type.HasField("shape")
        for put in _puts(proto)
    )


def _puts(proto: ModelProto) -> list[ValueInfoProto]:
    return [*proto.graph.input, *proto.graph.output]


def _with_shapes(proto: ModelProto) -> ModelProto:
    """A copy to check: onnx.checker refuses inputs and outputs of unknown rank, which onnx/docs/IR.md permits."""
    copy = type(proto)()
    copy.CopyFrom(proto)
    for put in _puts(copy):
        if put.type.HasField("tensor_type"):
            put.type.tensor_type.shape.SetInParent()
    return copy


def _shapes(proto: ModelProto, unknown: dict[tuple[str, str], int]) -> Finding:
    """Types and shapes by strict inference; it cannot look past operators that it does not know."""
    import onnx.shape_inference

    if unknown:
        return Finding("shape inference", None, "not made, since operators are unknown")
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        return Finding("shape inference", False, _one_line(str(error)))
    except (RuntimeError, ValueError) as error:  # onnx's C++ assertions, and protobuf's 2 GiB
        return Finding("shape inference", None, f"not made: {_one_line(str(error))}")
    return Finding("shape inference", True, f"{len(inferred.graph.value_info)} intermediate values typed")


def _versions(proto: ModelProto) -> Iterator[str]:
    import onnx

    newest = {"": onnx.defs.onnx_opset_version(), "ai.onnx.ml": onnx.defs.onnx_ml_opset_version()}
    newest_ir, by = int(onnx.IR_VERSION), f"onnx {onnx.__version__}"
    runtime = _runtime_limits()
    imports = {
        "" if entry.domain == "ai.onnx" else entry.domain: entry.version for entry in proto.opset_import
    }
    for domain, version in imports.items():
        if version > newest.get(domain, version):
            yield f"opset {version} of {domain or 'ai.onnx'} is newer than {by} knows ({newest[domain]})"
        elif not domain and runtime and version > runtime[0]:
            yield f"opset {version} is newer than the installed onnxruntime loads ({runtime[0]})"
    if proto.ir_version > newest_ir:
        yield f"IR version {proto.ir_version} is newer than {by} knows ({newest_ir})"
    elif runtime and proto.ir_version > runtime[1]:
        yield f"IR version {proto.ir_version} is newer than the installed onnxruntime loads ({runtime[1]})"
    for domain in _used_domains(proto):
        if domain not in imports:
            yield f"operators of {domain or 'ai.onnx'} are used, and no opset of it is imported"
    doubled = [
        domain for domain, count in Counter(entry.domain for entry in proto.opset_import).items() if count > 1
    ]
    yield from (f"opset of {domain or 'ai.onnx'} is imported twice" for domain in doubled)


def _runtime_limits() -> tuple[int, int] | None:
    try:
        from mlconv.runners.onnx_session import onnxruntime_limits
    except ImportError:
        return None
    return onnxruntime_limits()


def _used_domains(proto: ModelProto) -> list[str]:
    from mlconv.convert.onnx_graph.file import graphs

    found = {node.domain for graph in graphs(proto) for node in graph.node}
    return sorted({"" if domain == "ai.onnx" else domain for domain in found})


def _imports(proto: ModelProto) -> str:
    told = ", ".join(f"{entry.domain or 'ai.onnx'} {entry.version}" for entry in proto.opset_import)
    return f"opset {told}; IR version {proto.ir_version}"


def _kinds(proto: ModelProto) -> str:
    from mlconv.convert.onnx_graph.file import nodes

    return f"{len({(node.domain, node.op_type) for node in nodes(proto)})} kinds, all known"


def _shown(domain: str, name: str) -> str:
    return f"`{domain}.{name}`" if domain else f"`{name}`"


def _one_line(text: str) -> str:
    return " ".join(_words(text))[:1200]


def _words(text: str) -> Iterable[str]:
    """Without the checker's trailing dump of the node and its context."""
    return text.partition("==> Context:")[0].split()
