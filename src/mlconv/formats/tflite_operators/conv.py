"""Convolutions and matrix products."""

from __future__ import annotations

import math
from collections.abc import Callable

from mlconv.formats.tflite_graph import Operator, Subgraph
from mlconv.formats.tflite_operators.entry import MacsRule, TfliteOperator
from mlconv.formats.tflite_operators.sizes import sizes


def _per_output(weights_at: int, rank: int, factor: Callable[[tuple[int, ...]], int]) -> MacsRule:
    """Each output element costs ``factor`` of the weights' shape."""

    def rule(graph: Subgraph, operator: Operator) -> int | None:
        weights, output = sizes(graph.input(operator, weights_at), rank), graph.output(operator)
        return None if weights is None or output is None else output.elements * factor(weights)

    return rule


def _per_input(
    input_at: int, weights_at: int, rank: int, factor: Callable[[tuple[int, ...]], int]
) -> MacsRule:
    """Each input element costs ``factor`` of the weights' shape: transposed convolutions."""

    def rule(graph: Subgraph, operator: Operator) -> int | None:
        weights, source = sizes(graph.input(operator, weights_at), rank), graph.input(operator, input_at)
        return None if weights is None or source is None else source.elements * factor(weights)

    return rule


def _batch_matmul(graph: Subgraph, operator: Operator) -> int | None:
    left, output = graph.input(operator, 0), graph.output(operator)
    if left is None or output is None or len(left.shape) < 2:
        return None
    return output.elements * max(left.shape[-2 if operator.flag("adj_x") else -1], 1)


_INTEGERS = (
    "weights stored sparsely; uint8 weights of a float input; int16 inputs of weights that the model computes"
)

OPERATORS = (
    TfliteOperator("CONV_2D", "conv:conv_2d", exact="8-bit", macs=_per_output(1, 4, lambda w: math.prod(w[1:])), versions=8, limits=_INTEGERS),  # O, H, W, I / groups
    TfliteOperator("DEPTHWISE_CONV_2D", "conv:depthwise_conv_2d", exact="8-bit", macs=_per_output(1, 4, lambda w: w[1] * w[2]), versions=7, limits=_INTEGERS),  # 1, H, W, O
    TfliteOperator("CONV_3D", "conv:conv_3d", macs=_per_output(1, 5, lambda w: math.prod(w[:4]))),  # D, H, W, I / groups, O
    TfliteOperator("TRANSPOSE_CONV", "transpose_conv:transpose_conv", versions=5, macs=_per_input(2, 1, 4, lambda w: math.prod(w[:3])),  # O, H, W, I
                   limits=f"weights that the model computes; {_INTEGERS}"),
    TfliteOperator("CONV_3D_TRANSPOSE", "transpose_conv:conv_3d_transpose", macs=_per_input(2, 1, 5, lambda w: math.prod(w[:4])), limits="dilations"),  # D, H, W, O, I
    TfliteOperator("FULLY_CONNECTED", "matmul:fully_connected", exact="8-bit", versions=14, macs=_per_output(1, 2, lambda w: w[1]),  # O, I
                   limits=f"weights stored shuffled; {_INTEGERS}"),
    TfliteOperator("BATCH_MATMUL", "matmul:batch_matmul", versions=4, macs=_batch_matmul, limits="one operand quantized and computed, the other not"),
)  # fmt: skip
