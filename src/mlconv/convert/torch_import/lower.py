"""From opset 18 down to 13: what the dynamo exporter writes, for runtimes that know less.

onnx's own version converter has no way down for Split and the reductions, which nearly every model holds. Between 13
and 18 all other operators either kept their form or are new; which of both, the checker tells from their schemas.
"""

from __future__ import annotations

import onnx_ir as ir

LEAST = 13
_REDUCTIONS = frozenset(
    f"Reduce{kind}" for kind in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
)  # ReduceSum has taken its axes as an input since 13


def lower(model: ir.Model, opset: int) -> None:
    """Rewrite an opset 18 model in place for ``opset``, 13 to 17; the caller checks the outcome.

    Raises:
        ValueError: The axes of a reduction are computed, which only opset 18 has.
    """
    for node in list(model.graph.all_nodes()):
        if node.domain:
            continue
        if node.op_type == "Split":
            _split_evenly(node)
        elif node.op_type in _REDUCTIONS:
            _axes_as_attribute(node)
        elif node.op_type == "Shape" and opset < 15:
            _slice_after(model.graph, node)
        elif node.op_type == "Reshape" and opset < 14:
            # without it a size of 0 means "as it was": the two differ for empty tensors alone
            node.attributes.pop("allowzero", None)
    model.opset_imports[""] = opset


def _split_evenly(node: ir.Node) -> None:
    """Before 18, parts without sizes are equal, and their number that of the outputs."""
    if len(node.inputs) < 2 or node.inputs[1] is None:
        shape = node.inputs[0].shape if node.inputs[0] is not None else None
        axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
        size = shape[axis] if shape is not None else None
        if not isinstance(size, int) or size % len(node.outputs):
            raise ValueError(f"Split `{node.name}` has parts of different sizes")
    node.attributes.pop("num_outputs", None)


def _axes_as_attribute(node: ir.Node) -> None:
    keep = node.attributes.pop("noop_with_empty_axes", None)
    axes = node.inputs[1] if len(node.inputs) > 1 else None
    if axes is None:
        if keep is not None and keep.as_int():
            raise ValueError(f"{node.op_type} `{node.name}` reduces nothing")
        node.resize_inputs(1)
        return
    constant = ir.convenience.get_const_tensor(axes)
    if constant is None:
        raise ValueError(f"the axes of {node.op_type} `{node.name}` are computed")
    node.attributes["axes"] = ir.AttrInt64s("axes", [int(axis) for axis in constant.numpy().reshape(-1)])
    node.resize_inputs(1)


def _slice_after(graph: ir.Graph, node: ir.Node) -> None:
    """Before 15, Shape gives all sizes: what it gave of them is cut out behind it."""
    start, end = (node.attributes.pop(name, None) for name in ("start", "end"))
    if start is None and end is None:
        return
    low, high = start.as_int() if start else 0, end.as_int() if end else 1 << 62
    whole = ir.Value(name=f"{node.outputs[0].name}_all", type=ir.TensorType(ir.DataType.INT64))
    bounds = [
        _constant(graph, f"{whole.name}_{word}", value) for word, value in (("start", low), ("end", high))
    ]
    old = node.outputs[0]
    cut = ir.node(
        "Slice",
        [whole, *bounds],
        outputs=[ir.Value(name=old.name, type=old.type, shape=old.shape)],
        name=f"{node.name}_slice",
    )
    made = ir.node("Shape", list(node.inputs), outputs=[whole], name=node.name)
    ir.convenience.replace_nodes_and_values(
        node.graph or graph, node, [node], [made, cut], [old], [cut.outputs[0]]
    )


def _constant(graph: ir.Graph, name: str, value: int) -> ir.Value:
    made = ir.Value(name=name, const_value=ir.tensor([value], dtype=ir.DataType.INT64, name=name))
    made.type, made.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([1])
    graph.initializers[name] = made
    return made
