"""Which operators of a model a runtime lacks, by name, version and type."""

from __future__ import annotations

import functools
import json
from collections import ChainMap
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from mlconv.formats import onnx_macs
from mlconv.formats.onnx_graphs import DEFAULT_DOMAINS, subgraphs
from mlconv.runtimes import table
from mlconv.runtimes.table import Kernel, Runtime

if TYPE_CHECKING:
    from onnx import FunctionProto, GraphProto, ModelProto, NodeProto, TypeProto
    from onnx.defs import OpSchema

Types: TypeAlias = "ChainMap[str, str]"
"""The type of each value that a graph sees, by name: its own values, then those of the graphs around it."""

_HALF, _FLOAT = "float16", "float"
_SEVERAL = "?"
_FUSED_FORMALS = Path(__file__).with_name("fused_formals.json")


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
    """What a model is made of, bodies of control flow and of its own functions included, calls of those left out.

    Args:
        typed: Follow types, into functions too: what calls them gives their bodies types. Only a function of another opset
            than the model's is left without.
    """
    model = _typed(proto) if typed else proto
    own = {(function.domain, function.name) for function in model.functions}
    main = {_domain(entry.domain): entry.version for entry in model.opset_import}
    walk = _graph_operators if typed else _body_operators
    found = set(walk(model.graph, main, own, ChainMap()))
    for function in model.functions:
        imports = main | {_domain(entry.domain): entry.version for entry in function.opset_import}
        found.update(_body_operators(function, imports, own, ChainMap()))
    return frozenset(found)


def _typed(proto: ModelProto) -> ModelProto:
    """The model with the types that follow from those that it declares, its functions inlined where that ends."""
    flat = onnx_macs.without_functions(proto)
    return onnx_macs.inferred(proto if flat is None else flat)


def _graph_operators(
    graph: GraphProto, imports: Mapping[str, int], own: Container[tuple[str, str]], outer: Types
) -> Iterator[Operator]:
    """The operators of a graph and of the bodies in it. A body sees the values around it; branches do not see each other's."""
    types = outer.new_child(_declared(graph))
    for node in graph.node:
        if (node.domain, node.op_type) not in own:
            yield _operator(node, imports, types)
        for body in subgraphs(node):
            yield from _graph_operators(body, imports, own, types)


def _body_operators(
    body: GraphProto | FunctionProto, imports: Mapping[str, int], own: Container[tuple[str, str]], _: Types
) -> Iterator[Operator]:
    """The same without types."""
    for node in body.node:
        if (node.domain, node.op_type) not in own:
            yield _operator(node, imports, None)
        for inner in subgraphs(node):
            yield from _body_operators(inner, imports, own, _)


def _operator(node: NodeProto, imports: Mapping[str, int], types: Types | None) -> Operator:
    """A node's operator; types that follow from it are noted for the nodes behind it."""
    domain = _domain(node.domain)
    opset = imports.get(domain, 1)
    schema = _schema(domain, node.op_type, opset)
    version = opset if schema is None else schema.since_version
    signature = _fused(domain, node.op_type) if schema is None else _signature(schema)
    if signature is None or types is None:
        return Operator(domain, node.op_type, version, opset=opset)
    _follow(node, signature, types)
    return Operator(domain, node.op_type, version, tuple(sorted(_formals(node, signature, types))), opset)


def named(name: str, opset: int) -> Operator:
    """An operator of the default domain as an opset has it, whatever its types."""
    schema = _schema("", name, opset)
    return Operator("", name, opset if schema is None else schema.since_version)


def at_opset(operator: Operator, opset: int) -> Operator:
    """An operator of the default domain as another opset has it, for the same types."""
    return replace(named(operator.name, opset), types=operator.types, opset=opset)


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


class Formal(NamedTuple):
    """A formal input or output: its name, and its type parameter or type; ``?`` where it holds values of several types."""

    name: str
    kind: str


class Signature(NamedTuple):
    """The formals of an operator; the last one of a side stands for all values behind it."""

    inputs: tuple[Formal, ...]
    outputs: tuple[Formal, ...]


def _signature(schema: OpSchema) -> Signature:
    inputs, outputs = (
        tuple(Formal(formal.name, formal.type_str if formal.is_homogeneous else _SEVERAL) for formal in side)
        for side in (schema.inputs, schema.outputs)
    )
    return Signature(inputs, outputs)


def _fused(domain: str, name: str) -> Signature | None:
    """Of an operator that onnxruntime adds to those of ONNX; see `benchmarks/fused_formals.py`."""
    told = _fused_formals().get(domain, {}).get(name)
    if told is None:
        return None
    inputs, outputs = (
        tuple(Formal(*formal.split(":", 1)) for formal in side.split()) for side in told.split(" -> ")
    )
    return Signature(inputs, outputs)


@functools.cache
def _fused_formals() -> dict[str, dict[str, str]]:
    told: dict[str, dict[str, str]] = json.loads(_FUSED_FORMALS.read_text(encoding="utf-8"))
    return told


def _paired(values: Sequence[str], formals: Sequence[Formal]) -> Iterator[tuple[str, Formal]]:
    for index, value in enumerate(values if formals else ()):
        if value:
            yield value, formals[min(index, len(formals) - 1)]


def _formals(node: NodeProto, signature: Signature, types: Types) -> set[tuple[str, str]]:
    """The type of every operand under the formal's name and under that of its type parameter."""
    found = set()
    for values, formals in ((node.input, signature.inputs), (node.output, signature.outputs)):
        for value, formal in _paired(values, formals):
            kind = types.get(value)
            if kind is not None:
                found |= {(formal.name, kind), (formal.kind, kind)}
    return found


def _follow(node: NodeProto, signature: Signature, types: Types) -> None:
    """Note the types of outputs that onnx does not infer, behind operators that it does not know."""
    bound = {
        formal.kind: types[value] for value, formal in _paired(node.input, signature.inputs) if value in types
    }
    for value, formal in _paired(node.output, signature.outputs):
        if value in types or formal.kind == _SEVERAL:
            continue
        if formal.kind.startswith("tensor("):
            types[value] = formal.kind.removeprefix("tensor(").removesuffix(")")
        elif node.op_type == "Cast":
            types.update((value, _element(to.i)) for to in node.attribute if to.name == "to")
        elif formal.kind in bound:
            types[value] = bound[formal.kind]


def _declared(graph: GraphProto) -> dict[str, str]:
    """The type of each value of a graph that is declared, or that inference has declared."""
    found = {
        value.name: kind
        for value in (*graph.input, *graph.output, *graph.value_info)
        if (kind := _type_name(value.type)) is not None
    }
    return found | {tensor.name: _element(tensor.data_type) for tensor in graph.initializer}


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

    try:
        return str(TensorProto.DataType.Name(code)).lower()
    except ValueError:  # a number that stands for none
        return f"type {code}"


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
