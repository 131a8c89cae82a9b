"""What of an ONNX model is a weight, and what is quantized."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mlconv.formats import onnx_graphs

if TYPE_CHECKING:
    import onnx

_DYNAMIC = frozenset({"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat"})
_NBITS = frozenset({"MatMulNBits", "GatherBlockQuantized", "MatMulBnb4"})
_MULTIPLY = frozenset(
    {"Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU", "RNN", "FusedConv", "FusedMatMul"}
)
_MAX_MOVES = 16  # in a row between a DequantizeLinear and what multiplies
_MOVES = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Pad"})

# Inputs that steer an operator: no weights, although they are tensors of floats.
_STEERING: dict[str, frozenset[int]] = {
    "Resize": frozenset({1, 2, 3}), "Upsample": frozenset({1}), "Clip": frozenset({1, 2}), "Pad": frozenset({2}),
    "RoiAlign": frozenset({1}), "NonMaxSuppression": frozenset({3, 4}), "Dropout": frozenset({1}),
    "QuantizeLinear": frozenset({1}), "DequantizeLinear": frozenset({1}), "MatMulNBits": frozenset({2, 3}),
    "MatMulIntegerToFloat": frozenset({2, 3}), "DynamicQuantizeMatMul": frozenset({2}),
    "OneHot": frozenset({2}),
}  # fmt: skip


def parameters(model: onnx.ModelProto) -> int:
    """Elements of weights.

    Counted are float initializers, float tensors of Constant nodes with more than one element, and integer tensors
    that an operator multiplies as quantized numbers; each once, however often it is used. Not counted are tensors that
    only steer an operator (scales of a quantization or of Resize, bounds of Clip) and shapes, axes and indices.
    """
    steering, weighing = _uses(model)
    quantized = quantized_names(model)
    total = sum(_nbits_extra(node) for node in onnx_graphs.nodes(model))
    held = [
        (name, t)
        for graph in onnx_graphs.graphs(model)
        for name, t in onnx_graphs.initializers(graph).items()
    ]
    held += [(name, t) for name, t in onnx_graphs.constants(model) if onnx_graphs.elements(t.dims) > 1]
    for name, tensor in held:
        if onnx_graphs.is_float(tensor.data_type):
            counts = name in weighing or name not in steering
        else:
            counts = name in quantized
        total += onnx_graphs.elements(tensor.dims) if counts else 0
    return total


def quantization(model: onnx.ModelProto, typed: onnx.ModelProto) -> dict[str, Any] | None:
    """How the model is quantized, or None where no operator quantizes or dequantizes.

    ``kind`` is ``dynamic`` where activations are quantized as the model runs, ``weights`` where only constants are
    stored as integers, ``full`` where every convolution and product takes quantized activations, else ``partial``.
    ``dtypes`` counts the quantized values by dtype, as far as ``typed`` (the model with inferred types) tells them.
    """
    names = quantized_names(model)
    kinds = {node.op_type for node in onnx_graphs.nodes(model) if _quantizes(node)}
    if not kinds:
        return None
    if kinds & _DYNAMIC or any(kind.startswith("DynamicQuantize") for kind in kinds):
        kind = "dynamic"
    elif kinds <= _NBITS | {"DequantizeLinear"}:
        kind = "weights"
    else:
        kind = "partial" if _multiplies_floats(model) else "full"
    types = _types(typed)
    counts = Counter(onnx_graphs.dtype(types[name]) for name in names if name in types)
    return {"kind": kind, "dtypes": dict(sorted(counts.items()))}


def quantized_names(model: onnx.ModelProto) -> set[str]:
    """Names of the values that are integers standing for real numbers."""
    return {
        name for node in onnx_graphs.nodes(model) if _quantizes(node) for name in _quantized(node) if name
    }


def _quantizes(node: onnx.NodeProto) -> bool:
    kind = node.op_type
    return (
        kind in ("QuantizeLinear", "DequantizeLinear", "QGemm", "QAttention", "QEmbedLayerNormalization")
        or kind in _DYNAMIC | _NBITS
        or kind.startswith(("QLinear", "DynamicQuantize"))
    )


def _quantized(node: onnx.NodeProto) -> Iterator[str]:
    """The quantized inputs and outputs of an operator that quantizes."""
    kind, inputs = node.op_type, list(node.input)
    if kind in ("QuantizeLinear", "DynamicQuantizeLinear"):
        yield from node.output[:1]
    elif kind in ("DequantizeLinear", "DynamicQuantizeMatMul"):
        yield inputs[0 if kind == "DequantizeLinear" else 1] if len(inputs) > 1 else ""
    elif kind in _NBITS:
        yield from inputs[1:2] if kind != "GatherBlockQuantized" else inputs[:1]
    elif kind == "QLinearConv":
        yield from [*inputs[:1], *inputs[3:4], *inputs[8:9], *node.output]
    elif kind in ("QLinearMatMul", "QGemm"):
        yield from [*inputs[:1], *inputs[3:4], *(inputs[6:7] if kind == "QGemm" else ()), *node.output]
    elif kind in _DYNAMIC:
        yield from inputs[:2]
    elif kind == "QLinearConcat":  # two of the output, then (tensor, scale, zero point) each
        yield from [*inputs[2::3], *node.output]
    elif kind.startswith("QLinear"):
        yield from [*inputs[:1], *(inputs[3:4] if len(inputs) > 5 else ()), *node.output]


def _uses(model: onnx.ModelProto) -> tuple[set[str], set[str]]:
    """Names that steer an operator somewhere, and names that are used otherwise."""
    steering: set[str] = set()
    weighing: set[str] = set()
    for node in onnx_graphs.nodes(model):
        scales = node.op_type.startswith(
            ("QLinear", "QGemm")
        )  # their floats are scales, their weights integers
        slots = _STEERING.get(node.op_type, frozenset())
        for at, name in enumerate(node.input):
            (steering if scales or at in slots else weighing).add(name)
    return steering, weighing


def _nbits_extra(node: onnx.NodeProto) -> int:
    """What MatMulNBits has more weights than its packed tensor has bytes."""
    if node.op_type != "MatMulNBits":
        return 0
    sizes = {attribute.name: attribute.i for attribute in node.attribute}
    bits, block = sizes.get("bits", 4), max(sizes.get("block_size", 32), 1)
    rows, columns = max(sizes.get("N", 0), 0), max(sizes.get("K", 0), 0)
    packed = rows * -(-columns // block) * (block * bits // 8)
    return int(rows * columns - packed)


def _multiplies_floats(model: onnx.ModelProto) -> bool:
    """Whether a convolution or product takes activations that were never quantized."""
    makers = {name: node for node in onnx_graphs.nodes(model) for name in node.output if name}
    for node in onnx_graphs.nodes(model):
        if node.op_type not in _MULTIPLY or not node.input:
            continue
        maker = makers.get(node.input[0])
        for _ in range(_MAX_MOVES):
            if maker is None or maker.op_type not in _MOVES or not maker.input:
                break
            maker = makers.get(maker.input[0])
        if maker is None or maker.op_type != "DequantizeLinear":
            return True
    return False


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Element types of all values that have one."""
    found: dict[str, int] = {}
    for graph in onnx_graphs.graphs(model):
        for value in (*graph.input, *graph.value_info, *graph.output):
            found[value.name] = value.type.tensor_type.elem_type
        found |= {name: tensor.data_type for name, tensor in onnx_graphs.initializers(graph).items()}
    return found | {name: tensor.data_type for name, tensor in onnx_graphs.constants(model)}
