"""Sizes of what crosses the borders of branches and loops: those that hold on every way."""

from __future__ import annotations

import onnx_ir as ir

from mlconv.formats.tflite_graph import Subgraph


def agreed(shape: ir.Shape | None, made: ir.Shape | None, graph: Subgraph, index: int) -> ir.Shape | None:
    """The sizes that both what goes into a round of a loop and what comes out of it have; None for unknown axes.

    Args:
        made: Of what comes out, as inferred; where that does not tell, the file's word for the tensor is taken.
    """
    told = graph.tensors[index].dims
    if made is None and told is not None:
        made = ir.Shape(told)
    if made is None or shape is None or len(made) != len(shape):
        return None
    sizes = sizes_of(made) or []
    if told is not None and len(told) == len(sizes):
        sizes = [said if size is None else size for said, size in zip(told, sizes, strict=True)]
    return widened(shape, ir.Shape(sizes))


def widened(one: ir.Shape | None, other: ir.Shape | None) -> ir.Shape | None:
    """The sizes that are equal on both ways; None where the numbers of axes differ."""
    if one is None or other is None or len(one) != len(other):
        return None
    pairs = zip(sizes_of(one) or (), sizes_of(other) or (), strict=True)
    return ir.Shape([a if a == b else None for a, b in pairs])


def sizes_of(shape: ir.Shape | None) -> list[int | str | None] | None:
    """Numbers, names of dynamic axes, or None."""
    return None if shape is None else [dim if isinstance(dim, int) else dim.value for dim in shape]
