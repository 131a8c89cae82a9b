"""What of a file is converted: a signature, the outputs asked for, and the operators that those need."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlconv.convert.signature import unknown_output
from mlconv.errors import UnsupportedType, listed
from mlconv.formats import tflite_schema as schema
from mlconv.formats.refs import for_shell
from mlconv.formats.tflite_graph import Model, Operator, Subgraph, Tensor
from mlconv.runners.litert import Entry
from mlconv.tensors import Quantization, TensorSpec


def chosen(model: Model, whole: Entry, outputs: Sequence[str]) -> Entry:
    """The entry point with the outputs that `--outputs` names: the signature's, or any computed tensor by its own name.

    Raises:
        UnknownOutput: A name is neither.
    """
    graph = model.subgraphs[whole.subgraph]
    own = {spec.name: (index, spec) for index, spec in whole.outputs}
    computed = {index for operator in graph.operators for index in operator.outputs if index >= 0}
    inner = {graph.tensors[index].name: graph.tensors[index] for index in sorted(computed)}
    found = []
    for name in outputs:
        if name in own:
            found.append(own[name])
        elif name in inner:
            found.append((inner[name].index, _spec(inner[name])))
        else:
            raise unknown_output(name, [*own, *(name for name in inner if name not in own)])
    return replace(whole, outputs=tuple(found) or whole.outputs)


def chosen_silently(model: Model, entry: Entry, asked: str | None) -> list[str]:
    """Which of several signatures was taken, where the user named none."""
    others = [known.key for known in model.signatures if known.key != entry.key]
    if asked is not None or not others:
        return []
    return [f"the signature `{entry.key}` was converted; --signature chooses another: {', '.join(others)}"]


def assert_numbers(model: Model, entry: Entry, ref: str) -> None:
    """Refuse inputs and outputs that no runtime of ONNX takes.

    Raises:
        UnsupportedType: Text or resources.
    """
    specs = [spec for _, spec in (*entry.inputs, *entry.outputs)]
    odd = [spec.name for spec in specs if spec.dtype in _NO_NUMBERS or spec.dtype in _SMALL]
    if odd and all(spec.dtype not in _NO_NUMBERS for spec in specs):
        raise UnsupportedType(f"`{ref}` takes or gives {listed(sorted({spec.dtype for spec in specs if spec.dtype in _SMALL}))}: {listed(odd)}",
                              why="no runtime of ONNX takes them", fix="--outputs and --input that leave them out")  # fmt: skip
    if odd:
        others = [known.key for known in model.signatures if known.key != entry.key]
        raise UnsupportedType(f"`{ref}` takes or gives text or resources: {listed(odd)}", why="a runtime takes tensors of numbers",
                              fix=f"--signature {for_shell(others[0])}" if others else "--outputs and --input that leave them out")  # fmt: skip


_NO_NUMBERS = frozenset({"str", "resource", "variant"})
_SMALL = frozenset({"int2", "int4", "uint4", "float8_e4m3fn", "float8_e5m2"})


def reached(model: Model, entry: Entry) -> Iterator[tuple[Subgraph, Operator]]:
    """Operators that the outputs need, last first, with those of the subgraphs that they call."""
    graph = model.subgraphs[entry.subgraph]
    called: list[int] = []
    for operator in reversed(needed(model, graph, [index for index, _ in entry.outputs])):
        called += calls(operator)
        yield graph, operator
    seen = {entry.subgraph}
    while called:
        number = called.pop()
        if number in seen or not 0 <= number < len(model.subgraphs):
            continue
        seen.add(number)
        for operator in model.subgraphs[number].operators:
            called += calls(operator)
            yield model.subgraphs[number], operator


EFFECTS = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE_IMPORT"})
"""Operators that do something without giving anything: they are needed whatever the outputs are."""


def needed(model: Model, graph: Subgraph, outputs: Sequence[int]) -> list[Operator]:
    """The operators of one of the model's subgraphs that some outputs need, in their order.

    What does something without giving anything is needed too, and what runs a subgraph that does.
    """
    wanted, seen = set(outputs), dict[int, bool]()
    kept = []
    for operator in reversed(graph.operators):
        effects = operator.kind in EFFECTS or any(
            _has_effects(model, number, seen) for number in calls(operator)
        )
        if effects or wanted.intersection(operator.outputs):
            wanted.update(operator.inputs)
            kept.append(operator)
    return kept[::-1]


def _has_effects(model: Model, number: int, seen: dict[int, bool]) -> bool:
    """Whether a subgraph, or one that it runs, does something without giving anything; ``seen`` holds what was found before."""
    if number not in seen:
        waiting, reached = [number], set[int]()
        seen[number] = False
        while waiting and not seen[number]:
            inner = waiting.pop()
            if inner in reached or not 0 <= inner < len(model.subgraphs):
                continue
            reached.add(inner)
            operators = model.subgraphs[inner].operators
            seen[number] = any(each.kind in EFFECTS for each in operators)
            waiting += [called for each in operators for called in calls(each)]
    return seen[number]


CALLS = frozenset({
    "then_subgraph_index", "else_subgraph_index", "cond_subgraph_index", "body_subgraph_index", "init_subgraph_index", "subgraph",
    "decomposition_subgraph_index", "comparator_subgraph_index", "update_computation_subgraph_index", "branch_subgraph_indices",
})  # fmt: skip
"""Options that number a subgraph."""


def calls(operator: Operator) -> list[int]:
    """Subgraphs that an operator runs."""
    told: list[object] = []
    for name in schema.option_fields(operator.options_type):
        if name in CALLS:
            value = operator.option(name, -1)
            told += value if isinstance(value, tuple) else (value,)
    return [number for number in told if isinstance(number, int) and number != -1]


def _spec(tensor: Tensor) -> TensorSpec:
    affine: Quantization | None = tensor.quantization.per_tensor if tensor.quantization else None
    return TensorSpec(tensor.name, tensor.dims, tensor.dtype, affine)
