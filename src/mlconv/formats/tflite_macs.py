"""Multiply-accumulates of TFLite operators, from static shapes.

One table: operator to rule. A rule gets the subgraph and the operator and returns the count, or None where a shape is
not told. An operator without a rule has no multiply-accumulates worth counting (elementwise, pooling, moves).
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mlconv.formats.tflite_graph import Model, Operator, Subgraph, Tensor

Rule = Callable[[Subgraph, Operator], int | None]

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
    return _graph(model, subgraph, ())


def _graph(model: Model, index: int, above: tuple[int, ...]) -> int | None:
    if index in above or len(above) > _MAX_DEPTH or not 0 <= index < len(model.subgraphs):
        return None
    total, graph = 0, model.subgraphs[index]
    for operator in graph.operators:
        cost = _operator(model, graph, operator, (*above, index))
        if cost is None:
            return None
        total += cost
    return total


def _operator(model: Model, graph: Subgraph, operator: Operator, above: tuple[int, ...]) -> int | None:
    if (
        operator.kind in _UNKNOWN
        or operator.name == "CUSTOM:edgetpu-custom-op"
        or operator.kind.startswith("BUILTIN_")
    ):
        return None
    if operator.kind in _CALLS:
        names, choose = _CALLS[operator.kind]
        parts = [_graph(model, operator.integer(name), above) for name in names]
        known = [part for part in parts if part is not None]
        return choose(known) if len(known) == len(parts) else None
    rule = RULES.get(operator.kind)
    return rule(graph, operator) if rule else 0


_CALLS: dict[str, tuple[tuple[str, ...], Callable[[list[int]], int]]] = {
    "IF": (("then_subgraph_index", "else_subgraph_index"), max),
    "WHILE": (("cond_subgraph_index", "body_subgraph_index"), sum),
    "CALL": (("subgraph",), sum),
}


def _sizes(tensor: Tensor | None, rank: int) -> tuple[int, ...] | None:
    """A tensor's sizes where it has that rank, dynamic ones as 1."""
    if tensor is None or len(tensor.shape) != rank:
        return None
    return tuple(1 if size < 0 else size for size in tensor.shape)


def _per_output(weights_at: int, rank: int, factor: Callable[[tuple[int, ...]], int]) -> Rule:
    """Each output element costs ``factor`` of the weights' shape."""

    def rule(graph: Subgraph, operator: Operator) -> int | None:
        weights, output = _sizes(graph.input(operator, weights_at), rank), graph.output(operator)
        return None if weights is None or output is None else output.elements * factor(weights)

    return rule


def _per_input(input_at: int, weights_at: int, rank: int, factor: Callable[[tuple[int, ...]], int]) -> Rule:
    """Each input element costs ``factor`` of the weights' shape: transposed convolutions."""

    def rule(graph: Subgraph, operator: Operator) -> int | None:
        weights, source = _sizes(graph.input(operator, weights_at), rank), graph.input(operator, input_at)
        return None if weights is None or source is None else source.elements * factor(weights)

    return rule


def _batch_matmul(graph: Subgraph, operator: Operator) -> int | None:
    left, output = graph.input(operator, 0), graph.output(operator)
    if left is None or output is None or len(left.shape) < 2:
        return None
    return output.elements * max(left.shape[-2 if operator.flag("adj_x") else -1], 1)


def _recurrent(has_time: bool) -> Rule:
    """Every step multiplies every matrix of constant weights once; biases and peepholes have one axis."""

    def rule(graph: Subgraph, operator: Operator) -> int | None:
        source = graph.input(operator, 0)
        if source is None or len(source.shape) != (3 if has_time else 2):
            return None
        inputs = [graph.tensor(index) for index in dict.fromkeys(operator.inputs)]
        weights = sum(t.elements for t in inputs if t is not None and t.is_constant and len(t.shape) == 2)
        return weights * source.elements // max(source.shape[-1], 1)

    return rule


RULES: dict[str, Rule] = {
    "CONV_2D": _per_output(1, 4, lambda w: math.prod(w[1:])),  # O, H, W, I / groups
    "DEPTHWISE_CONV_2D": _per_output(1, 4, lambda w: w[1] * w[2]),  # 1, H, W, O
    "CONV_3D": _per_output(1, 5, lambda w: math.prod(w[:4])),  # D, H, W, I / groups, O
    "TRANSPOSE_CONV": _per_input(2, 1, 4, lambda w: math.prod(w[:3])),  # O, H, W, I
    "CONV_3D_TRANSPOSE": _per_input(2, 1, 5, lambda w: math.prod(w[:4])),  # D, H, W, O, I
    "FULLY_CONNECTED": _per_output(1, 2, lambda w: w[1]),  # O, I
    "BATCH_MATMUL": _batch_matmul,
    "LSTM": _recurrent(has_time=False),
    "RNN": _recurrent(has_time=False),
    "SVDF": _recurrent(has_time=False),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(has_time=True),
    "BIDIRECTIONAL_SEQUENCE_LSTM": _recurrent(has_time=True),
    "UNIDIRECTIONAL_SEQUENCE_RNN": _recurrent(has_time=True),
    "BIDIRECTIONAL_SEQUENCE_RNN": _recurrent(has_time=True),
}
