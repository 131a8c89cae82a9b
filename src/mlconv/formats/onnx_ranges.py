"""The integer inputs of an ONNX graph that index a table, as ``index_ranges`` takes them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mlconv.formats import onnx_graphs
from mlconv.formats.index_ranges import Index, Interval, Key, Kind, Step, ranges

if TYPE_CHECKING:
    import onnx

_INTEGERS = frozenset({2, 3, 4, 5, 6, 7, 12, 13})  # TensorProto.DataType
_BOOL = 9
_MOST_ELEMENTS = 1 << 20  # of a constant that is read: offsets and masks are small

_FIRST = frozenset({
    "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Transpose", "Slice", "Expand", "Tile", "Gather",
    "GatherElements", "GatherND", "Split", "Compress", "ReverseSequence", "ReduceMax", "ReduceMin", "Floor", "Ceil", "Round",
    "Dropout", "DepthToSpace", "SpaceToDepth", "CastLike",
})  # fmt: skip
"""Operators whose outputs hold values of their first input alone."""
_KINDS: dict[str, Kind] = {
    "Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Min": "min", "Max": "max", "Neg": "neg", "Abs": "abs",
    "Sign": "sign", "Where": "where", "Concat": "hull", "Less": "less", "LessOrEqual": "less_equal", "Equal": "equal",
    "Not": "not", "And": "and", "Or": "or", "Xor": "xor",
}  # fmt: skip
_SWAPPED: dict[str, Kind] = {"Greater": "less", "GreaterOrEqual": "less_equal"}
_KEEPS_ROWS = frozenset({"Identity", "Cast", "CastLike", "DequantizeLinear", "QuantizeLinear"})
_TABLES: dict[tuple[str, str], tuple[tuple[int, int], ...]] = {
    ("Gather", ""): ((0, 1),), ("GatherElements", ""): ((0, 1),), ("ScatterElements", ""): ((0, 1),), ("Scatter", ""): ((0, 1),),
    ("GatherBlockQuantized", "com.microsoft"): ((0, 1),), ("EmbedLayerNormalization", "com.microsoft"): ((2, 0), (4, 1)),
}  # fmt: skip
"""Of each operator pairs: which input is the table, and which the index; the attribute ``axis`` counts in the table."""


def value_ranges(model: onnx.ModelProto) -> dict[str, tuple[int, int]]:
    """For integer inputs that index a table of known size: the lowest and highest value that every use of it takes."""
    own = onnx_graphs.initializers(model.graph)
    inputs: dict[Key, str] = {
        value.name: onnx_graphs.dtype(value.type.tensor_type.elem_type)
        for value in model.graph.input
        if value.name not in own and value.type.tensor_type.elem_type in _INTEGERS
    }
    if not inputs:
        return {}
    shapes, steps = _shapes(model), list(_constants(model))
    numbers, indices = {step.output: step.value for step in steps}, []
    for graph in onnx_graphs.graphs(model):
        for node in graph.node:
            _follow_shape(node, shapes)
            indices += list(_indices(node, shapes, numbers))
            steps += list(_steps(node, shapes))
    return {str(name): found for name, found in ranges(inputs, steps, indices).items()}


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Sizes of every value that the file declares; -1 where an axis is dynamic."""
    found: dict[str, tuple[int, ...]] = {}
    for graph in onnx_graphs.graphs(model):
        for value in (*graph.input, *graph.value_info):
            if value.type.tensor_type.HasField("shape"):
                found[value.name] = tuple(
                    dim.dim_value if dim.HasField("dim_value") else -1
                    for dim in value.type.tensor_type.shape.dim
                )
        found |= {name: tuple(tensor.dims) for name, tensor in onnx_graphs.initializers(graph).items()}
    found |= {name: tuple(tensor.dims) for name, tensor in onnx_graphs.constants(model)}
    return found


def _follow_shape(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> None:
    """Tables may be stored quantized, in half precision or transposed."""
    shape = shapes.get(node.input[0]) if node.input else None
    if shape is None or not node.output or node.output[0] in shapes:
        return
    if node.op_type in _KEEPS_ROWS:
        shapes[node.output[0]] = shape
    elif node.op_type == "Transpose":
        order = next((list(a.ints) for a in node.attribute if a.name == "perm"), [*range(len(shape))][::-1])
        if sorted(order) == [*range(len(shape))]:
            shapes[node.output[0]] = tuple(shape[axis] for axis in order)


def _constants(model: onnx.ModelProto) -> Iterator[Step]:
    named = [pair for graph in onnx_graphs.graphs(model) for pair in onnx_graphs.initializers(graph).items()]
    for name, tensor in (*named, *onnx_graphs.constants(model)):
        value = _extent(tensor)
        if value is not None:
            yield Step("constant", name, value=value)
    for node in onnx_graphs.nodes(model):
        numbers = [
            float(number)
            for a in node.attribute
            for number in (*a.ints, *a.floats, *([a.i] if a.name == "value_int" else ()), *([a.f] if a.name == "value_float" else ()))
        ]  # fmt: skip
        if node.op_type == "Constant" and numbers and node.output:
            yield Step("constant", node.output[0], value=(min(numbers), max(numbers)))


def _extent(tensor: onnx.TensorProto) -> Interval | None:
    """The least and the greatest number of a small constant whose numbers are at hand."""
    import numpy as np
    import onnx

    if tensor.data_location == tensor.EXTERNAL or not 0 < onnx_graphs.elements(tensor.dims) <= _MOST_ELEMENTS:
        return None
    if onnx_graphs.dtype(tensor.data_type) not in ("float32", "float64", "float16", "bool") and (
        tensor.data_type not in _INTEGERS
    ):
        return None
    try:
        array = onnx.numpy_helper.to_array(tensor)
    except (
        ValueError,
        TypeError,
        KeyError,
        RuntimeError,
    ):  # a damaged tensor, or one whose numbers were left out by the reader
        return None
    if array.size != onnx_graphs.elements(tensor.dims) or not np.isfinite(array).all():
        return None
    return float(array.min()), float(array.max())


def _steps(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> Iterator[Step]:
    """What an operator of the default domain does with integers; nothing where intervals cannot tell."""
    if node.domain not in onnx_graphs.DEFAULT_DOMAINS or not node.input or not node.output:
        return
    kind, given = node.op_type, tuple(node.input)
    to = next((a.i for a in node.attribute if a.name == "to"), 0)
    if kind == "Cast":
        yield Step("truth" if to == _BOOL else "keep", node.output[0], given[:1])
    elif kind in _FIRST:
        for output in node.output:
            yield Step("keep", output, given[:1])
    elif kind in _KINDS:
        yield Step(_KINDS[kind], node.output[0], given)
    elif kind in _SWAPPED:
        yield Step(_SWAPPED[kind], node.output[0], given[::-1])
    elif kind == "Mod":
        remainder: Kind = "fmod" if any(a.name == "fmod" and a.i for a in node.attribute) else "mod"
        yield Step(remainder, node.output[0], given)
    elif kind in ("Clip", "Relu"):
        yield from _clip(node)
    elif kind in ("Pad", "Trilu"):
        yield from _padded(node)
    elif kind in ("ScatterElements", "ScatterND", "Scatter"):
        yield Step("hull", node.output[0], (given[0], given[-1]))
    elif kind in ("CumSum", "ReduceSum"):
        shape = shapes.get(given[0])
        if shape and min(shape) > 0:
            yield Step("sum", node.output[0], given[:1], count=math.prod(shape))
    elif kind == "Range" and len(given) == 3:
        yield Step("hull", node.output[0], given[:2])
    elif kind == "Shape" and shapes.get(given[0]) and min(shapes[given[0]]) >= 0:
        yield Step("constant", node.output[0], value=(min(shapes[given[0]]), max(shapes[given[0]])))


def _clip(node: onnx.NodeProto) -> Iterator[Step]:
    bounds = dict(zip(("max", "min"), (*node.input[1:2], *node.input[2:3]), strict=False))
    bounds = {bound: name for bound, name in bounds.items() if name}
    if node.op_type == "Relu":
        bounds = {"max": f"{node.output[0]}:zero"}
        yield Step("constant", bounds["max"])
    for attribute in node.attribute:  # before opset 11
        if attribute.name in ("min", "max"):
            bound = "max" if attribute.name == "min" else "min"
            bounds[bound] = f"{node.output[0]}:{bound}"
            yield Step("constant", bounds[bound], value=(attribute.f, attribute.f))
    value = node.input[0]
    for number, (bound, name) in enumerate(bounds.items()):
        output = node.output[0] if number == len(bounds) - 1 else f"{node.output[0]}:clipped"
        yield Step("max" if bound == "max" else "min", output, (value, name))
        value = output
    if not bounds:
        yield Step("keep", node.output[0], (value,))


def _padded(node: onnx.NodeProto) -> Iterator[Step]:
    filled = node.input[2] if node.op_type == "Pad" and len(node.input) > 2 and node.input[2] else ""
    if not filled:
        filled = f"{node.output[0]}:filled"
        yield Step("constant", filled)
    yield Step("hull", node.output[0], (node.input[0], filled))


def _indices(
    node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]], numbers: dict[Key, Interval]
) -> Iterator[Index]:
    domain = "" if node.domain in onnx_graphs.DEFAULT_DOMAINS else node.domain
    axis = next((a.i for a in node.attribute if a.name in ("axis", "gather_axis")), 0)
    for table, index in _TABLES.get((node.op_type, domain), ()):
        if index < len(node.input) and table < len(node.input):
            shape = shapes.get(node.input[table], ())
            if -len(shape) <= axis < len(shape):
                yield Index(node.input[index], shape[axis], wraps=node.op_type != "EmbedLayerNormalization")
    if (node.op_type, domain) == ("OneHot", "") and len(node.input) > 1 and node.input[1] in numbers:
        yield Index(node.input[0], int(numbers[node.input[1]][1]))
    if (node.op_type, domain) in (("GatherND", ""), ("ScatterND", "")) and len(node.input) > 1:
        yield from _indices_of_several_axes(node, shapes)


def _indices_of_several_axes(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> Iterator[Index]:
    """The least of the axes that are indexed: intervals do not tell one coordinate from another."""
    data, index = shapes.get(node.input[0], ()), shapes.get(node.input[1], ())
    batch = next((a.i for a in node.attribute if a.name == "batch_dims"), 0)
    if data and index and 0 < index[-1] <= len(data) - batch:
        rows = data[batch : batch + index[-1]]
        if min(rows) > 0:
            yield Index(node.input[1], min(rows), wraps=True)
