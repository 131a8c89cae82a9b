"""A graph cut to some of its values."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from mlconv.convert.onnx_graph.shapes import inferred
from mlconv.errors import UnknownOutput, listed, nearest
from mlconv.formats.refs import for_shell


def cut(model: ir.Model, names: Sequence[str]) -> ir.Model:
    """The model with these values of its main graph as outputs, in this order; without names as it is.

    Operators that none of them needs are left out. All inputs stay, used or not: who runs the cut model feeds it as the whole one.

    Raises:
        UnknownOutput: A name is no value of the main graph.
    """
    if not names:
        return model
    model = inferred(model)
    graph = model.graph
    values: dict[str | None, ir.Value] = {
        value.name: value for node in graph for value in node.outputs if value.name
    }
    values |= {value.name: value for value in graph.inputs}
    for name in names:
        if name not in values:
            known = [value.name or "" for value in graph.outputs]
            close = nearest(name, [str(other) for other in values]) or known[:1]
            raise UnknownOutput(
                f"the model has no value `{name}`; its outputs are {listed(known)}",
                fix=f"--outputs {for_shell(','.join(close[:1]))}",
            )
    graph.outputs.clear()
    graph.outputs.extend(_as_output(values[name]) for name in names)
    RemoveUnusedNodesPass()(model)
    return model


def _as_output(value: ir.Value) -> ir.Value:
    """A value of a graph cannot be its input and its output at once."""
    if value.producer() is not None:
        return value
    raise UnknownOutput(
        f"`{value.name}` is an input of the model",
        fix="--outputs with the name of something that it computes",
    )
