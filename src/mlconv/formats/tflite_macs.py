"""Multiply-accumulates of TFLite models, from static shapes; the rules stand in the table of operators."""

from __future__ import annotations

from collections.abc import Callable

from mlconv.formats.tflite_graph import Model, Operator, Subgraph
from mlconv.formats.tflite_operators import known

_UNKNOWN = frozenset(
    {
        "STABLEHLO_CONVOLUTION", "STABLEHLO_DOT_GENERAL", "STABLEHLO_CUSTOM_CALL", "STABLEHLO_COMPOSITE", "DELEGATE",
    }
)  # fmt: skip
_MAX_DEPTH = 32


def macs(model: Model, subgraph: int = 0) -> int | None:
    """Multiply-accumulates of one run of a subgraph, or None where an operator's cost cannot be known.

    Dynamic axes count as 1, a loop's body as one round, of two branches the dearer; custom operators other than the
    Edge TPU's count nothing.
    """
    return _graph(model, subgraph, (), {})


def _graph(model: Model, index: int, above: tuple[int, ...], told: dict[int, int | None]) -> int | None:
    """Args: told: What was found of subgraphs already: subgraphs that call others twice are worked out once."""
    if index in above or len(above) > _MAX_DEPTH or not 0 <= index < len(model.subgraphs):
        return None
    if index not in told:
        graph = model.subgraphs[index]
        costs = [_operator(model, graph, operator, (*above, index), told) for operator in graph.operators]
        found = [cost for cost in costs if cost is not None]
        told[index] = sum(found) if len(found) == len(costs) else None
    return told[index]


def _operator(
    model: Model, graph: Subgraph, operator: Operator, above: tuple[int, ...], told: dict[int, int | None]
) -> int | None:
    if (
        operator.kind in _UNKNOWN
        or operator.name == "CUSTOM:edgetpu-custom-op"
        or operator.kind.startswith("BUILTIN_")
    ):
        return None
    if operator.kind in _CALLS:
        names, choose = _CALLS[operator.kind]
        parts = [_graph(model, operator.integer(name), above, told) for name in names]
        found = [part for part in parts if part is not None]
        return choose(found) if len(found) == len(parts) else None
    entry = known(operator)
    return entry.macs(graph, operator) if entry is not None and entry.macs is not None else 0


_CALLS: dict[str, tuple[tuple[str, ...], Callable[[list[int]], int]]] = {
    "IF": (("then_subgraph_index", "else_subgraph_index"), max),
    "WHILE": (("cond_subgraph_index", "body_subgraph_index"), sum),
    "CALL": (("subgraph",), sum),
}
