"""Padding that a convolution or a pool can do itself: the Pad before it goes, and with it a copy of the tensor."""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir


def fold_pads(graph: ir.Graph) -> None:
    """Give Conv the zeros of a Pad before it, and MaxPool the lowest number; through a DequantizeLinear, too.

    The result is the same to the last bit: what a window reads beyond the border is zero (the zero point) for Conv, and
    nothing for MaxPool. The Pad stays while something else needs it.
    """
    for node in graph:
        if node.op_type in ("Conv", "MaxPool") and not node.domain:
            _fold(graph, node)


def _fold(graph: ir.Graph, window: ir.Node) -> None:
    between, pad = _above(window.inputs[0])
    if pad is None or pad.attributes.get_string("mode", "constant") != "constant" or len(pad.inputs) != 3:
        return
    source, lengths, filler, own = (
        pad.inputs[0],
        _array(pad.inputs[1]),
        _array(pad.inputs[2]),
        window.attributes.get("pads"),
    )
    if lengths is None or filler is None or source is None or own is None:
        return
    wanted = _neutral(
        window, next((node for node in between if node.op_type == "DequantizeLinear"), None), filler.dtype
    )
    pairs = lengths.reshape(2, -1)
    for node in between:
        if node.op_type == "Transpose":
            pairs = pairs[:, list(node.attributes["perm"].as_ints())]
    if wanted is None or filler != wanted or (pairs[:, :2] != 0).any() or (pairs < 0).any():
        return
    sums = np.array(own.as_ints()).reshape(2, -1) + pairs[:, 2:]
    if window.op_type == "MaxPool" and (sums >= np.array(window.attributes["kernel_shape"].as_ints())).any():
        return  # onnxruntime wants no window that lies beyond the border as a whole
    window.attributes["pads"] = ir.AttrInt64s("pads", sums.reshape(-1).tolist())
    for node in between:
        source = _again(graph, window, node, source)
    window.replace_input_with(0, source)


def _above(value: ir.Value | None) -> tuple[list[ir.Node], ir.Node | None]:
    """The Pad that a value comes from, and the scaling and turning below it, from there on."""
    between: list[ir.Node] = []
    node = value.producer() if value is not None else None
    while node is not None and node.op_type in ("DequantizeLinear", "Transpose"):
        between.insert(0, node)
        node = node.inputs[0].producer() if node.inputs[0] is not None else None
    return between, node if node is not None and node.op_type == "Pad" else None


def _again(graph: ir.Graph, window: ir.Node, node: ir.Node, source: ir.Value) -> ir.Value:
    """What a node below the Pad does, to the tensor that is not padded."""
    name = f"{window.name}/unpadded_{node.op_type}"
    copy = ir.Node("", node.op_type, [source, *node.inputs[1:]], list(node.attributes.values()), name=name)
    copy.outputs[0].name, copy.outputs[0].type = name, node.outputs[0].type
    copy.metadata_props.update(node.metadata_props)
    graph.insert_before(window, copy)
    return copy.outputs[0]


def _neutral(window: ir.Node, scaled: ir.Node | None, dtype: np.dtype) -> float | None:
    """The padded number that the window would take its own padding for."""
    if window.op_type == "MaxPool":
        return -math.inf if dtype.kind == "f" else float(np.iinfo(dtype).min)
    if scaled is None:
        return 0.0
    zero_point = _array(scaled.inputs[2]) if len(scaled.inputs) > 2 else np.array(0)
    return None if zero_point is None or zero_point.ndim else float(zero_point)


def _array(value: ir.Value | None) -> np.ndarray | None:
    return None if value is None or value.const_value is None else value.const_value.numpy()
