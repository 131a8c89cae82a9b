"""Multiply-accumulates of ONNX operators, from inferred shapes.

One table: operator to rule. An operator without a rule has no multiply-accumulates worth counting.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from mlconv.formats import onnx_graphs

if TYPE_CHECKING:
    import onnx

Shape = tuple[int, ...]
Shapes = dict[str, Shape]
Rule = Callable[["onnx.NodeProto", Shapes], int]

MAX_INLINED_NODES = 1_000_000
_REFUSALS = (RuntimeError, ValueError, TypeError)  # what onnx throws on impossible nodes and types
MAX_CALL_DEPTH = 64


class UnknownShape(Exception):
    """A rule met a value whose shape is not known."""


def macs(model: onnx.ModelProto) -> int | None:
    """Multiply-accumulates of one run, or None where shapes cannot be inferred.

    Dynamic axes count as 1, a loop's body as one round, of two branches the dearer. Attention of ``com.microsoft`` and
    other operators without a rule count nothing.
    """
    flat = without_functions(model)
    if flat is None:
        return None
    for pin in (True, False):  # sizes of 1 everywhere may contradict the graph; then its own symbols decide
        try:
            return _graph(_inferred(flat, pin).graph, {})
        except UnknownShape:
            continue
    return None


def inferred(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with the types that onnx can infer; the model itself where inference fails."""
    return _inferred(model, pin=False)


def _inferred(model: onnx.ModelProto, pin: bool) -> onnx.ModelProto:
    import onnx
    import onnx.shape_inference

    errors: tuple[type[Exception], ...] = (onnx.shape_inference.InferenceError, *_REFUSALS)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if pin:
        _pin(copy.graph)
    if _expanded_nodes(copy) is None:
        return copy
    try:
        return onnx.shape_inference.infer_shapes(copy, strict_mode=False, data_prop=True)
    except errors:
        return copy


def _pin(graph: onnx.GraphProto) -> None:
    """Dynamic axes of inputs become 1, and the shapes that other tools wrote for them go."""
    for value in graph.input:
        for dim in value.type.tensor_type.shape.dim:
            if not dim.HasField("dim_value") or dim.dim_value < 0:
                dim.dim_value = 1
    for value in (*graph.value_info, *graph.output):
        if any(not dim.HasField("dim_value") for dim in value.type.tensor_type.shape.dim):
            value.type.tensor_type.ClearField("shape")


def without_functions(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The model with its own functions inlined; None where that would not end or be too large."""
    if not model.functions:
        return model
    if _expanded_nodes(model) is None:
        return None
    import onnx.inliner

    try:
        flat: onnx.ModelProto = onnx.inliner.inline_local_functions(model)
    except _REFUSALS:
        return None
    return flat


def _expanded_nodes(model: onnx.ModelProto) -> int | None:
    """How many nodes the model has with its functions expanded; None where they call themselves or grow too large."""
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    sizes: dict[tuple[str, str, str], int] = {}
    open_: set[tuple[str, str, str]] = set()

    def of(nodes: list[onnx.NodeProto]) -> int:
        total = 0
        for node in nodes:
            key = (node.domain, node.op_type, node.overload)
            total += called(key) if key in bodies else 1
            total += sum(of(list(body.node)) for body in onnx_graphs.subgraphs(node))
            if total > MAX_INLINED_NODES:
                raise OverflowError
        return total

    def called(key: tuple[str, str, str]) -> int:
        if key in open_ or len(open_) > MAX_CALL_DEPTH:
            raise OverflowError
        if key not in sizes:
            open_.add(key)
            sizes[key] = of(list(bodies[key].node))
            open_.discard(key)
        return sizes[key]

    try:
        return of(list(model.graph.node))
    except OverflowError:
        return None


def _graph(graph: onnx.GraphProto, outer: Shapes) -> int:
    shapes = outer | _shapes(graph)
    return sum(_node(node, shapes) for node in graph.node)


def _node(node: onnx.NodeProto, shapes: Shapes) -> int:
    bodies = [_graph(body, shapes) for body in onnx_graphs.subgraphs(node)]
    if bodies:
        return max(bodies) if node.op_type == "If" else sum(bodies)
    rule = RULES.get(node.op_type)
    return rule(node, shapes) if rule else 0


def _shapes(graph: onnx.GraphProto) -> Shapes:
    """Shapes of all values that have one; a dynamic axis is 1."""
    found: Shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        if tensor.HasField("shape") and len(tensor.shape.dim) <= onnx_graphs.MAX_RANK:
            sizes = (dim.dim_value if dim.HasField("dim_value") else 1 for dim in tensor.shape.dim)
            found[value.name] = tuple(size if size >= 0 else 1 for size in sizes)
    for name, tensor in onnx_graphs.initializers(graph).items():
        found[name] = tuple(max(size, 0) for size in tensor.dims[: onnx_graphs.MAX_RANK])
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and node.output and attribute.name == "value":
                found[node.output[0]] = tuple(
                    max(size, 0) for size in attribute.t.dims[: onnx_graphs.MAX_RANK]
                )
    return found


def _shape(names: list[str], at: int, shapes: Shapes, rank: int = 0) -> Shape:
    """The shape of an input or output, of at least ``rank`` axes."""
    if at >= len(names) or len(shapes.get(names[at], ())) < rank or names[at] not in shapes:
        raise UnknownShape
    return shapes[names[at]]


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto | None:
    return next((attribute for attribute in node.attribute if attribute.name == name), None)


def _flag(node: onnx.NodeProto, name: str) -> bool:
    attribute = _attribute(node, name)
    return attribute is not None and bool(attribute.i)


def _convolution(weights_at: int) -> Rule:
    """Each output element costs the weights of one output channel: (channels / groups, *kernel)."""

    def rule(node: onnx.NodeProto, shapes: Shapes) -> int:
        weights = _shape(list(node.input), weights_at, shapes, rank=3)
        return math.prod(_shape(list(node.output), 0, shapes)) * math.prod(weights[1:])

    return rule


def _transposed(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Each input element costs the weights of one input channel: (output channels / groups, *kernel)."""
    weights = _shape(list(node.input), 1, shapes, rank=3)
    return math.prod(_shape(list(node.input), 0, shapes)) * math.prod(weights[1:])


def _matmul(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Each output element costs the length of a row of A."""
    left = _shape(list(node.input), 0, shapes, rank=1)
    inner = left[-2] if _flag(node, "transA") and len(left) > 1 else left[-1]
    return math.prod(_shape(list(node.output), 0, shapes)) * inner


def _gemm(node: onnx.NodeProto, shapes: Shapes) -> int:
    left = _shape(list(node.input), 0, shapes, rank=2)
    return math.prod(_shape(list(node.output), 0, shapes)) * left[0 if _flag(node, "transA") else 1]


def _matmul_bits(node: onnx.NodeProto, shapes: Shapes) -> int:
    """The packed weights do not show their sizes; attributes N and K do."""
    inner, outer = _attribute(node, "K"), _attribute(node, "N")
    if inner is None or outer is None:
        raise UnknownShape
    return math.prod(_shape(list(node.input), 0, shapes, rank=1)) * max(outer.i, 0)


def _recurrent(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Every step and sample multiplies W and R once; X is (steps, batch, features) in either layout's order."""
    steps = math.prod(_shape(list(node.input), 0, shapes, rank=3)[:2])
    return steps * sum(math.prod(_shape(list(node.input), at, shapes, rank=3)) for at in (1, 2))


def _attention(node: onnx.NodeProto, shapes: Shapes) -> int:
    """Q (batch, heads, rows, size) by K, then by V, as ai.onnx 23 has it; 3 axes hide the heads in the last."""
    if node.domain not in onnx_graphs.DEFAULT_DOMAINS:  # another operator of that name
        return 0
    query, key, value = (_shape(list(node.input), at, shapes, rank=3) for at in range(3))
    if len(query) == 4:
        return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])
    heads = _attribute(node, "q_num_heads")
    groups = _attribute(node, "kv_num_heads")
    repeat = heads.i // groups.i if heads is not None and groups is not None and groups.i > 0 else 1
    return query[0] * query[1] * key[1] * (query[2] + value[2] * repeat)


def _einsum(node: onnx.NodeProto, shapes: Shapes) -> int:
    """The product of all axes that the equation names."""
    attribute = _attribute(node, "equation")
    equation = attribute.s.decode("utf-8", "replace").replace(" ", "") if attribute else ""
    terms = equation.split("->")[0].split(",")
    if "." in equation or len(terms) < 2 or len(set(equation)) > onnx_graphs.MAX_RANK:
        return 0
    sizes: dict[str, int] = {}
    for at, term in enumerate(terms):
        for letter, size in zip(term, _shape(list(node.input), at, shapes, rank=len(term)), strict=False):
            sizes[letter] = max(size, sizes.get(letter, 0))
    return math.prod(sizes.values())


RULES: dict[str, Rule] = {
    "Conv": _convolution(1), "FusedConv": _convolution(1), "NhwcFusedConv": _convolution(1),
    "DeformConv": _convolution(1), "ConvInteger": _convolution(1), "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "MatMul": _matmul, "FusedMatMul": _matmul, "TransposeMatMul": _matmul, "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul, "MatMulIntegerToFloat": _matmul, "DynamicQuantizeMatMul": _matmul,
    "MatMulNBits": _matmul_bits,
    "Gemm": _gemm, "FusedGemm": _gemm, "QGemm": _gemm,
    "LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent,
    "Attention": _attention, "Einsum": _einsum,
}  # fmt: skip
