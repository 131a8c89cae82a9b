"""Which operators of a model a runtime lacks, by name, version and type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlconv.formats.onnx_graphs import DEFAULT_DOMAINS, graphs, subgraphs
from mlconv.runtimes import table
from mlconv.runtimes.table import Kernel, Runtime

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TypeProto, ValueInfoProto
    from onnx.defs import OpSchema

_HALF, _FLOAT = "float16", "float"


@dataclass(frozen=True, slots=True)
class Operator:
    """An operator as a model uses it.

    Attributes:
        version: Of the operator's definition, the newest that the model's opset has; that opset where nothing defines it.
        types: Of each formal and each type parameter that is known: ``float``, ``seq(tensor(float))``.
        opset: Of its domain, as the model imports it.
    """

    domain: str
    name: str
    version: int
    types: tuple[tuple[str, str], ...] = ()
    opset: int = 0

    @property
    def shown(self) -> str:
        return f"{self.domain}.{self.name}" if self.domain else self.name


@dataclass(frozen=True, slots=True)
class Lack:
    """An operator that a runtime has not in the version or for the types that a model needs."""

    operator: Operator
    why: str

    @property
    def shown(self) -> str:
        return f"`{self.operator.shown}` {self.operator.version} ({self.why})"


def lacking(proto: ModelProto, runtime: Runtime, *, typed: bool = True) -> tuple[Lack, ...]:
    """Every operator of a model that the runtime lacks, each version and type once, sorted by name.

    Args:
        typed: False leaves types alone, and with them shape inference.
    """
    found = {operator: _lack(operator, runtime) for operator in operators(proto, typed=typed)}
    told: dict[tuple[str, str, int, str], Lack] = {}
    for operator, why in found.items():
        if why is not None:
            told.setdefault((operator.domain, operator.name, operator.version, why), Lack(operator, why))
    return tuple(told[key] for key in sorted(told))


def operators(proto: ModelProto, *, typed: bool = True) -> frozenset[Operator]:
    """What a model is made of, bodies of control flow and of its own functions included, calls of those left out."""
    own = {(function.domain, function.name) for function in proto.functions}
    main = {_domain(entry.domain): entry.version for entry in proto.opset_import}
    types = _types(proto) if typed else {}
    found = {
        _operator(node, main, types) for node in _in_graphs(proto) if (node.domain, node.op_type) not in own
    }
    for function in proto.functions:
        imports = main | {_domain(entry.domain): entry.version for entry in function.opset_import}
        body = (inner for node in function.node for inner in _with_bodies(node))
        found |= {_operator(node, imports, {}) for node in body if (node.domain, node.op_type) not in own}
    return frozenset(found)


def _in_graphs(proto: ModelProto) -> Iterator[NodeProto]:
    for node in proto.graph.node:
        yield from _with_bodies(node)


def _with_bodies(node: NodeProto) -> Iterator[NodeProto]:
    yield node
    for body in subgraphs(node):
        for inner in body.node:
            yield from _with_bodies(inner)


def _operator(node: NodeProto, imports: Mapping[str, int], types: Mapping[str, str]) -> Operator:
    domain = _domain(node.domain)
    opset = imports.get(domain, 1)
    schema = _schema(domain, node.op_type, opset)
    if schema is None:
        return Operator(domain, node.op_type, opset, opset=opset)
    return Operator(
        domain, node.op_type, schema.since_version, tuple(sorted(_formals(node, schema, types))), opset
    )


def named(name: str, opset: int) -> Operator:
    """An operator of the default domain as an opset has it, whatever its types."""
    schema = _schema("", name, opset)
    return Operator("", name, opset if schema is None else schema.since_version)


def is_replaced(name: str, own: int, opset: int) -> bool:
    """Whether taking a model from one opset to an older one replaces an operator by those of which it is a function."""
    schema: Any = _schema("", name, own)  # the stubs of onnx know nothing of its functions
    if schema is None or _schema("", name, opset) is not None:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _schema(domain: str, name: str, opset: int) -> OpSchema | None:
    import onnx

    if not onnx.defs.has(name, max_inclusive_version=opset, domain=domain):
        return None
    return onnx.defs.get_schema(name, opset, domain)


def _formals(node: NodeProto, schema: OpSchema, types: Mapping[str, str]) -> set[tuple[str, str]]:
    """The type of every operand under the formal's name and under that of its type parameter."""
    found = set()
    for values, formals in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for index, value in enumerate(values):
            formal = formals[min(index, len(formals) - 1)] if formals else None
            kind = types.get(value)
            if formal is not None and value and kind is not None:
                found |= {(formal.name, kind), (formal.type_str, kind)}
    return found


def _types(proto: ModelProto) -> dict[str, str]:
    """The type of each value by name, as far as they are declared or follow; names of inner graphs are their own in ONNX."""
    import onnx

    try:
        typed = onnx.shape_inference.infer_shapes(proto)
    except (
        RuntimeError,
        ValueError,
    ):  # a graph that contradicts itself, or protobuf's 2 GiB: what is declared must do
        typed = proto
    found: dict[str, str] = {}
    for graph in graphs(typed):
        for value in (*graph.input, *graph.output, *graph.value_info):
            _note(found, value)
        for tensor in graph.initializer:
            found[tensor.name] = _element(tensor.data_type)
    return found


def _note(found: dict[str, str], value: ValueInfoProto) -> None:
    kind = _type_name(value.type)
    if kind is not None:
        found[value.name] = kind


def _type_name(kind: TypeProto) -> str | None:
    """As schemas and kernels write it, plain tensors without ``tensor(...)``."""
    match kind.WhichOneof("value"):
        case "tensor_type":
            return _element(kind.tensor_type.elem_type) if kind.tensor_type.elem_type else None
        case "sequence_type":
            inner = _type_name(kind.sequence_type.elem_type)
            return None if inner is None else f"seq({_wrapped(inner)})"
        case "optional_type":
            inner = _type_name(kind.optional_type.elem_type)
            return None if inner is None else f"optional({_wrapped(inner)})"
        case _:
            return None


def _wrapped(name: str) -> str:
    return name if "(" in name else f"tensor({name})"


def _element(code: int) -> str:
    from onnx import TensorProto

    return str(TensorProto.DataType.Name(code)).lower()


def _domain(domain: str) -> str:
    return "" if domain in DEFAULT_DOMAINS else domain


# ------------------------------------------------------------------ against a table


def _lack(operator: Operator, runtime: Runtime) -> str | None:
    """Why a runtime lacks an operator; None where it has it."""
    kernels = runtime.kernels(operator.domain, operator.name)
    if served(operator, kernels):
        return _defect(operator, runtime)
    fitting = [kernel for kernel in kernels if kernel.serves(operator.version)]
    return (
        f"not for {_refused_types(operator, fitting)}" if fitting else _no_version(operator, runtime, kernels)
    )


def _defect(operator: Operator, runtime: Runtime) -> str | None:
    """What keeps an operator from loading although the release has it."""
    kinds = {kind for _, kind in operator.types}
    for refusal in runtime.refusals(operator.domain, operator.name):
        if operator.opset >= refusal.from_opset and refusal.kind in kinds:
            return f"a defect of that release: not for {refusal.kind} from opset {refusal.from_opset} on"
    return None


def first_with(runtime: Runtime, wanted: Sequence[Operator]) -> str | None:
    """The oldest release after this one that has all operators for their types; None where none has."""
    for release in table.later(runtime):
        other = table.find(f"{runtime.name}=={release}")
        if all(has(other, operator) for operator in wanted):
            return release
    return None


def has(runtime: Runtime, operator: Operator) -> bool:
    """Whether a runtime has an operator in its version for its types, and no defect keeps it from loading."""
    kernels = runtime.kernels(operator.domain, operator.name)
    return served(operator, kernels) and _defect(operator, runtime) is None


def served(operator: Operator, kernels: Iterable[Kernel]) -> bool:
    """Whether one of the rows of an operator has its version for its types."""
    fitting = [kernel for kernel in kernels if kernel.serves(operator.version)]
    # onnxruntime computes in float32, between casts, what it has no float16 kernel of (InsertCastTransformer)
    widened = tuple((formal, _FLOAT if kind == _HALF else kind) for formal, kind in operator.types)
    return any(_takes(kernel, types) for kernel in fitting for types in (operator.types, widened))


def _no_version(operator: Operator, runtime: Runtime, kernels: Iterable[Kernel]) -> str:
    first = first_with(runtime, [operator])
    since = f"since {runtime.name} {first}" if first else f"in no release of {runtime.name} known here"
    older = [kernel for kernel in kernels if kernel.last < operator.version]
    if older:
        return f"{since}; it has version {max(kernel.first for kernel in older)}"
    return since


def _takes(kernel: Kernel, types: Iterable[tuple[str, str]]) -> bool:
    return all(kind in kernel.types[formal] for formal, kind in types if formal in kernel.types)


def _refused_types(operator: Operator, kernels: Iterable[Kernel]) -> str:
    """The types that no row takes; all of them where only their combination is not there."""
    rows = list(kernels)
    refused = {
        kind
        for formal, kind in operator.types
        if not any(kind in kernel.types.get(formal, {kind}) for kernel in rows)
    }
    return " and ".join(sorted(refused or {kind for _, kind in operator.types}))
