"""Half precision: every float tensor inside the graph becomes float16; inputs and outputs keep their types.

Written anew rather than taken from `onnxruntime.transformers.float16`, whose graphs are not sorted, define one cast twice
where two float32 operators share an input, and put a subgraph's casts into the main graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from mlconv.convert.onnx_graph.shapes import inferred
from mlconv.errors import ConverterFailed, listed

if TYPE_CHECKING:
    from onnx.defs import OpSchema

_HALF, _FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT
_GREATEST = float(np.finfo(np.float16).max)
_LEAST = float(np.finfo(np.float16).smallest_subnormal)

_KEPT_FLOAT = frozenset({
    # onnxruntime/python/tools/transformers/float16.py, DEFAULT_OP_BLOCK_LIST: wrong or missing in half precision
    "ArrayFeatureExtractor", "Binarizer", "CastMap", "CategoryMapper", "DictVectorizer", "FeatureVectorizer", "Imputer",
    "LabelEncoder", "LinearClassifier", "LinearRegressor", "Normalizer", "OneHotEncoder", "RandomUniformLike", "SVMClassifier",
    "SVMRegressor", "Scaler", "TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", "ZipMap", "NonMaxSuppression",
    "TopK", "RoiAlign", "Range", "CumSum", "Min", "Max", "Upsample",
    # scales of quantized tensors lose what 8 bits can tell
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
})  # fmt: skip

_DTYPE_DEFAULTS_TO_FLOAT = frozenset({"RandomNormal", "RandomUniform", "SequenceEmpty"})
_TAKES_SUBGRAPHS = frozenset({"If", "Loop", "Scan"})


@dataclass(frozen=True, slots=True)
class Halved:
    """A model in half precision, and what could not be kept.

    Attributes:
        clipped: Weights with finite values beyond 65504, which are now 65504.
        float_operators: Types of operators that still compute in float32.
    """

    model: ir.Model
    clipped: tuple[str, ...]
    float_operators: tuple[str, ...]


def to_fp16(model: ir.Model) -> Halved:
    """The model computing in float16 between casts at its inputs and outputs, whose types stay.

    An operator that has no float16 form at the model's opset, or is known to go wrong in it, computes in float32 between
    casts; so does a single operand that must be float32 (the scales of Resize). Model-local functions are inlined.

    Raises:
        ConverterFailed: The types that an operator of a foreign domain returns are unknown.
    """
    model = model.clone()
    if model.functions:
        InlinePass()(model)
    model = inferred(model)
    _assert_typed(model)
    halver = _Halver(model)
    halver.halve()
    model.graph.sort()
    return Halved(model, tuple(halver.clipped), tuple(sorted(halver.float_operators)))


def _assert_typed(model: ir.Model) -> None:
    untyped = [
        node.op_type
        for node in ir.traversal.RecursiveGraphIterator(model.graph)
        if any(value.type is None and value.uses() for value in node.outputs)
    ]
    if untyped:
        raise ConverterFailed(
            f"half precision needs every tensor's type, and nothing tells what {listed(sorted(set(untyped)))} returns",
            fix="leave --precision out, or export the model without these operators",
        )


class _Halver:
    def __init__(self, model: ir.Model) -> None:
        self._graph = model.graph
        self._imports = model.graph.opset_imports
        self._floats: dict[tuple[ir.Value, ir.Graph], ir.Value] = {}
        self._float_values = {value for value in _all_values(model.graph) if _is_float(value)}
        self.clipped: list[str] = []
        self.float_operators: set[str] = set()

    def halve(self) -> None:
        """Types first, then casts: after the first step every float tensor is float16 but for the operands noted."""
        nodes = list(ir.traversal.RecursiveGraphIterator(self._graph))
        kept = {node: self._float_operands(node) for node in nodes}
        self._cast_inputs_and_outputs()
        for value in self._float_values:
            if value not in self._fixed and not value.is_initializer():
                _set_element(value, _HALF)
        for node in nodes:
            if self._is_kept(node):
                self.float_operators.add(node.op_type)
                self._keep_results(node)
            else:
                _halve_attributes(node, self._convert)
        self._halve_weights(kept)
        for node, indices in kept.items():
            for index in indices:
                self._feed_float(node, index)

    # -------------------------------------------------------------- which

    def _is_kept(self, node: ir.Node) -> bool:
        """Whether a whole operator stays in float32."""
        if node.op_type in _TAKES_SUBGRAPHS and node.domain == "":
            return False
        if node.op_type in _KEPT_FLOAT:
            return self._touches_float(node)
        schema = self._schema(node)
        if schema is None:
            return self._touches_float(node)
        outputs = (
            _formal(schema.outputs, index)
            for index, value in enumerate(node.outputs)
            if value in self._float_values
        )
        return any(formal is None or not _permits_half(formal) for formal in outputs)

    def _float_operands(self, node: ir.Node) -> tuple[int, ...]:
        """Places of the operands that must stay float32."""
        floats = [index for index, value in enumerate(node.inputs) if value in self._float_values]
        if self._is_kept(node):
            return tuple(floats)
        if node.op_type in _TAKES_SUBGRAPHS and node.domain == "":
            return ()
        schema = cast("OpSchema", self._schema(node))  # without one the whole operator is kept
        formals = ((index, _formal(schema.inputs, index)) for index in floats)
        return tuple(index for index, formal in formals if formal is None or not _permits_half(formal))

    def _touches_float(self, node: ir.Node) -> bool:
        return any(value in self._float_values for value in (*node.inputs, *node.outputs))

    def _schema(self, node: ir.Node) -> OpSchema | None:
        import onnx

        version = self._imports.get(node.domain, 1)
        if not onnx.defs.has(node.op_type, max_inclusive_version=version, domain=node.domain):
            return None
        return onnx.defs.get_schema(node.op_type, version, node.domain)

    # -------------------------------------------------------------- casts

    def _cast_inputs_and_outputs(self) -> None:
        graph = self._graph
        self._fixed = {value for value in (*graph.inputs, *graph.outputs) if value in self._float_values}
        for value in [*graph.inputs]:
            if value in self._float_values and value.uses():
                uses = [*value.uses()]
                cast = _cast(value, _HALF, f"{value.name}_fp16")
                for node, index in uses:
                    node.replace_input_with(index, cast)
                _insert_first(graph, cast)
                self._float_values.add(cast)
                self._floats[cast, graph] = value
        for value in dict.fromkeys(graph.outputs):
            if value in self._float_values and value.producer() is not None:
                self._cast_output(value)

    def _cast_output(self, value: ir.Value) -> None:
        """The operator's own result gets another name, so that the output keeps its name."""
        name, value.name = value.name, f"{value.name}_fp16"
        self._fixed.discard(value)
        result = _cast(value, _FLOAT, name)
        self._graph.append(_producer(result))
        for index, other in enumerate(self._graph.outputs):
            if other is value:
                self._graph.outputs[index] = result

    def _feed_float(self, node: ir.Node, index: int) -> None:
        value = node.inputs[index]
        if value is None or (value.is_initializer() and value.dtype == _FLOAT):
            return
        graph = cast("ir.Graph", node.graph)
        known = self._floats.get((value, graph)) or self._floats.get((value, self._graph))
        if known is None:
            known = _cast(value, _FLOAT, f"{value.name}_fp32")
            graph.insert_before(node, _producer(known))
            self._floats[value, graph] = known
        node.replace_input_with(index, known)

    def _keep_results(self, node: ir.Node) -> None:
        graph = cast("ir.Graph", node.graph)
        for value in list(node.outputs):
            if value in self._float_values and value not in self._fixed:
                self._cast_result(node, graph, value)

    def _cast_result(self, node: ir.Node, graph: ir.Graph, value: ir.Value) -> None:
        uses, outputs = (
            [*value.uses()],
            [index for index, other in enumerate(graph.outputs) if other is value],
        )
        name, value.name = value.name, f"{value.name}_fp32"
        _set_element(value, _FLOAT)
        half = _cast(value, _HALF, name)
        half.shape = value.shape
        graph.insert_after(node, _producer(half))
        for user, index in uses:
            user.replace_input_with(index, half)
        for index in outputs:
            graph.outputs[index] = half
        self._floats[half, graph] = value

    # -------------------------------------------------------------- weights

    def _halve_weights(self, kept: dict[ir.Node, tuple[int, ...]]) -> None:
        for graph in (self._graph, *self._graph.subgraphs()):
            for value in list(graph.initializers.values()):
                if value.is_graph_input():
                    continue  # a default: halved, it would be read in the place of what a caller feeds
                if value.const_value is not None and value.const_value.dtype == _FLOAT:
                    self._halve_weight(graph, value, value.const_value, kept)

    def _halve_weight(
        self,
        graph: ir.Graph,
        value: ir.Value,
        tensor: ir.TensorProtocol,
        kept: dict[ir.Node, tuple[int, ...]],
    ) -> None:
        """A weight that both precisions read is there twice: rounding it would change the float32 operator too."""
        halves = [(node, index) for node, index in value.uses() if index not in kept.get(node, ())]
        stays = value in self._fixed or len(halves) < len(value.uses())
        if stays and halves:
            half = ir.Value(name=f"{value.name}_fp16", shape=value.shape)
            graph.initializers.add(half)
            for node, index in halves:
                node.replace_input_with(index, half)
        elif halves or _is_result(value, graph):
            half = value
        else:
            return
        half.const_value = self._convert(tensor, value.name or "")
        half.type = ir.TensorType(_HALF)

    def _convert(self, tensor: ir.TensorProtocol, name: str) -> ir.TensorProtocol:
        array = tensor.numpy()
        with np.errstate(over="ignore", under="ignore"):
            half = array.astype(np.float16)
        clipped = np.isinf(half) & np.isfinite(array)
        if clipped.any():
            self.clipped.append(name)
            half[clipped] = np.copysign(_GREATEST, array[clipped])
        # a constant that keeps a division from zero must not become zero itself
        vanished = (half == 0) & (array != 0)
        half[vanished] = np.copysign(_LEAST, array[vanished])
        return ir.Tensor(half, name=name)


def _all_values(graph: ir.Graph) -> Iterator[ir.Value]:
    for holder in (graph, *graph.subgraphs()):
        yield from holder.inputs
        yield from holder.initializers.values()
        for node in holder:
            yield from node.outputs


def _is_float(value: ir.Value) -> bool:
    """A float32 tensor, or a sequence or optional of such."""
    if value.type is None and value.const_value is not None:
        return value.const_value.dtype == _FLOAT
    return value.type is not None and value.type.dtype == _FLOAT


def _set_element(value: ir.Value, dtype: ir.DataType) -> None:
    """Another element type for a tensor, or for the tensors of a sequence or optional; types may be shared: a new one is made."""

    def changed(kind: ir.TypeProtocol) -> ir.TypeProtocol:
        if isinstance(kind, ir.SequenceType | ir.OptionalType):
            return type(kind)(changed(kind.elem_type))
        return ir.SparseTensorType(dtype) if isinstance(kind, ir.SparseTensorType) else ir.TensorType(dtype)

    value.type = changed(value.type) if value.type is not None else ir.TensorType(dtype)


def _is_result(value: ir.Value, graph: ir.Graph) -> bool:
    return any(output is value for output in graph.outputs)


def _cast(value: ir.Value, dtype: ir.DataType, name: str | None) -> ir.Value:
    output = ir.Value(name=name, type=ir.TensorType(dtype), shape=value.shape)
    ir.Node("", "Cast", [value], [ir.AttrInt64("to", dtype.value)], outputs=[output], name=f"{name}_cast")
    return output


def _producer(value: ir.Value) -> ir.Node:
    return cast("ir.Node", value.producer())


def _insert_first(graph: ir.Graph, value: ir.Value) -> None:
    if len(graph) and graph[0] is not _producer(value):
        graph.insert_before(graph[0], _producer(value))
    elif not len(graph):
        graph.append(_producer(value))


def _formal(formals: Sequence[OpSchema.FormalParameter], index: int) -> OpSchema.FormalParameter | None:
    if index < len(formals):
        return formals[index]
    last = formals[-1] if formals else None
    return last if last is not None and last.option == last.option.Variadic else None


def _permits_half(formal: OpSchema.FormalParameter) -> bool:
    return any("float16)" in kind and "bfloat16" not in kind for kind in formal.types)


def _halve_attributes(node: ir.Node, convert: Callable[[ir.TensorProtocol, str], ir.TensorProtocol]) -> None:
    """Attributes that say what type a result has: `to`, `dtype`, and the constants of Constant and ConstantOfShape."""
    attributes = node.attributes
    for name in ("to", "dtype"):
        if name in attributes and not attributes[name].is_ref() and attributes[name].value == _FLOAT.value:
            attributes[name] = ir.AttrInt64(name, _HALF.value)
    if node.op_type in _DTYPE_DEFAULTS_TO_FLOAT and "dtype" not in attributes:
        attributes["dtype"] = ir.AttrInt64("dtype", _HALF.value)
    if node.op_type == "ConstantOfShape" and "value" not in attributes:
        attributes["value"] = ir.AttrTensor("value", ir.Tensor(np.zeros(1, np.float16)))
    if node.op_type in ("Constant", "ConstantOfShape"):
        _halve_constant(node, convert)


def _halve_constant(node: ir.Node, convert: Callable[[ir.TensorProtocol, str], ir.TensorProtocol]) -> None:
    attributes, name = node.attributes, node.outputs[0].name or ""
    for key in ("value_float", "value_floats"):
        if key in attributes:
            numbers = ir.Tensor(np.asarray(attributes.pop(key).value, np.float32))
            attributes["value"] = ir.AttrTensor("value", convert(numbers, name))
    value = attributes.get("value")
    if value is not None and value.as_tensor().dtype == _FLOAT:
        attributes["value"] = ir.AttrTensor("value", convert(value.as_tensor(), name))
