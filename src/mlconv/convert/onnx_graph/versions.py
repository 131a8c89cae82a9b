"""Opset and IR version of a model: changed, and held within what the runtime loads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
from onnx_ir.passes.common import InlinePass

from mlconv.convert.onnx_graph.shapes import inferred, through_proto
from mlconv.errors import OpsetOutOfReach, UnsupportedOpset, listed

if TYPE_CHECKING:
    from onnx import AttributeProto, ModelProto

OLDEST_OPSET = 13
"""The oldest opset to ask for: before it, operators took as attributes what they take as inputs since."""

_HIDDEN = "mlconv.hidden"
_FUNCTIONS_IR = 8  # onnx.proto: model-local functions came with IR version 8
_INITIALIZERS_IR = 4  # onnx.proto: since IR version 4 initializers need not be inputs

# Its words stand in BaseConverter.h, convert.cc and adapters/no_previous_version.h of onnx/version_converter.
_UNREACHED = (
    re.compile(r"No Adapter (?:From|To) Version \S+ for (\w+)"),
    re.compile(r"No Previous Version of (\w+) exists"),
    re.compile(r"Op '(\w+)' has no registered schema"),
    re.compile(r"No schema for (\w+)"),
)


def assert_supported(opset: int, newest: int) -> None:
    """Refuse a number that no artifact can have.

    Raises:
        UnsupportedOpset: It is not within ``OLDEST_OPSET`` and ``newest``, which the installed onnxruntime loads.
    """
    if not OLDEST_OPSET <= opset <= newest:
        raise UnsupportedOpset(
            f"opset {opset} cannot be asked for; {OLDEST_OPSET} to {newest} can",
            why=f"the installed onnxruntime loads no opset newer than {newest}" if opset > newest else
            f"opset {OLDEST_OPSET} came with onnxruntime 1.6 (2020), and converting further down loses operators",
            fix="--opset 18, or leave --opset out",
        )  # fmt: skip


def set_versions(model: ir.Model, opset: int | None, limits: tuple[int, int]) -> ir.Model:
    """The model at an opset, with the least IR version that its opsets and features need.

    Args:
        opset: The default domain's version; None: its own, or the newest that ``limits`` allow where it is above that.
        limits: Newest opset and newest IR version that the runtime loads.

    Raises:
        UnsupportedOpset: The number is out of range.
        OpsetOutOfReach: An operator of the model has no form at that opset.
    """
    newest, newest_ir = limits
    own = model.graph.opset_imports.get("", model.graph.opset_imports.get("ai.onnx"))
    if opset is not None and opset != own:
        assert_supported(opset, newest)
    wanted = opset if opset is not None else own
    if own is not None and wanted is not None and min(wanted, newest) != own:
        model = with_opset(model, min(wanted, newest))
    result = model.clone()
    result.ir_version = min(_least_ir_version(result), newest_ir)
    return result


def _least_ir_version(model: ir.Model) -> int:
    import onnx

    imports = [
        onnx.helper.make_opsetid(domain, version) for domain, version in model.graph.opset_imports.items()
    ]
    least = int(onnx.helper.find_min_ir_version_for(imports, ignore_unknown=True))
    types = {
        value.const_value.dtype
        for value in model.graph.initializers.values()
        if value.const_value is not None
    }
    by_type = max((_IR_OF_TYPES.get(dtype, 0) for dtype in types), default=0)
    return max(least, _INITIALIZERS_IR, by_type, _FUNCTIONS_IR if model.functions else 0)


# onnx/docs/IR.md and the comments of TensorProto.DataType in onnx.proto
_IR_OF_TYPES = {
    ir.DataType.FLOAT8E4M3FN: 9, ir.DataType.FLOAT8E5M2: 9, ir.DataType.INT4: 10, ir.DataType.UINT4: 10, ir.DataType.FLOAT4E2M1: 11,
}  # fmt: skip


def with_opset(model: ir.Model, opset: int) -> ir.Model:
    """The model expressed at another version of the default domain; model-local functions are inlined for that.

    onnx's converter moves it. Where that lacks a step between two versions that differ in the permitted types alone, the
    operator is carried over as it is; operators that are functions of others and newer than ``opset`` are replaced by those.

    Raises:
        OpsetOutOfReach: Operators remain that have no form there; the message names all of them.
    """
    prepared = model.clone()
    if prepared.functions:
        InlinePass()(prepared)
    prepared = inferred(prepared)
    prepared.ir_version = max(
        prepared.ir_version, _INITIALIZERS_IR
    )  # before, the converter knows no weight that is no input
    moved = through_proto(prepared, lambda proto: _Mover(proto, opset).moved())
    _carry_metadata(prepared, moved)
    result = ir.Model(
        moved.graph, ir_version=model.ir_version, producer_name=model.producer_name, producer_version=model.producer_version,
        domain=model.domain, model_version=model.model_version, doc_string=model.doc_string,
        metadata_props=dict(model.metadata_props),
    )  # fmt: skip
    result.graph.name, result.graph.doc_string = model.graph.name, model.graph.doc_string
    return result


def _carry_metadata(before: ir.Model, after: ir.Model) -> None:
    """Onnx's converter drops the metadata of nodes; what gives a value of the same name is the same node."""
    told = {value.name: node.metadata_props for node in _nodes(before) if node.metadata_props for value in node.outputs}
    for node in _nodes(after):
        node.metadata_props.update(next((told[value.name] for value in node.outputs if value.name in told), {}))


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    return iter(ir.traversal.RecursiveGraphIterator(model.graph))


class _Mover:
    """Moves one serialisable model from version to version, hiding from onnx's converter what needs no change."""

    def __init__(self, proto: ModelProto, opset: int) -> None:
        self._proto, self._target = proto, opset
        self._own = next(entry.version for entry in proto.opset_import if entry.domain == "")
        self._out_of_reach: list[str] = []

    def moved(self) -> ModelProto:
        import onnx.version_converter

        try:
            converted = onnx.version_converter.convert_version(self._proto, self._target)
            return self._without_newer_attributes(converted)
        except (RuntimeError, onnx.version_converter.ConvertError):
            pass
        proto, step = self._proto, 1 if self._target > self._own else -1
        for version in range(self._own + step, self._target + step, step):
            proto = self._step(proto, version)
        proto = self._without_newer_attributes(proto)
        if self._out_of_reach:
            raise _lost(self._out_of_reach, self._own, self._target)
        return proto

    def _without_newer_attributes(self, proto: ModelProto) -> ModelProto:
        """Drops what onnx's converter leaves of newer attributes, such as ``noop_with_empty_axes``, where it says nothing.

        Raises:
            OpsetOutOfReach: One has another value than its default.
        """
        import onnx

        from mlconv.convert.onnx_graph.file import nodes

        lost = []
        for node in nodes(proto):
            if node.domain not in ("", "ai.onnx") or self._target >= self._own:
                continue
            if not onnx.defs.has(node.op_type, max_inclusive_version=self._target):
                continue
            known = onnx.defs.get_schema(node.op_type, self._target).attributes
            newer = onnx.defs.get_schema(node.op_type, self._own).attributes
            strange = [
                attribute
                for attribute in node.attribute
                if attribute.name not in known and attribute.name in newer
            ]
            for attribute in strange:
                if not _is_default(attribute, newer[attribute.name].default_value):
                    lost.append(node.op_type)
                node.attribute.remove(attribute)
        if lost:
            raise _lost(lost, self._own, self._target)
        return proto

    def _step(self, proto: ModelProto, version: int) -> ModelProto:
        """One version on; operators that onnx has no step for are hidden from it, one kind at a time."""
        import onnx.version_converter

        hidden: set[str] = set()
        while True:
            try:
                converted = onnx.version_converter.convert_version(_hide(proto, hidden), version)
                return _reveal(converted)
            except (RuntimeError, onnx.version_converter.ConvertError) as error:
                kind = _named(str(error))
                if kind is None or kind in hidden:
                    raise _unknown_reason(error, self._own, self._target) from error
            proto = self._get_past(proto, kind, version, hidden)

    def _get_past(self, proto: ModelProto, kind: str, version: int, hidden: set[str]) -> ModelProto:
        own = next(entry.version for entry in proto.opset_import if entry.domain == "")
        if not _alike(kind, own, version):
            expanded = _expanded(proto, kind) if version < own else None
            if expanded is not None:
                return expanded
            self._out_of_reach.append(kind)
        hidden.add(kind)
        return proto


def _lost(kinds: list[str], own: int, target: int) -> OpsetOutOfReach:
    return OpsetOutOfReach(
        f"{listed(list(dict.fromkeys(kinds)))} cannot be expressed at opset {target}; the model is at {own}",
        fix=f"--opset {own}, or a number between {target} and {own}",
    )


def _is_default(attribute: AttributeProto, default: AttributeProto) -> bool:
    """Whether an attribute says what its absence would say."""
    import onnx

    told = (onnx.helper.get_attribute_value(each) for each in (attribute, default) if each.type)
    values = list(told)
    return len(values) == 2 and values[0] == values[1]


def _named(message: str) -> str | None:
    return next((match[1] for pattern in _UNREACHED if (match := pattern.search(message))), None)


def _unknown_reason(error: Exception, own: int, target: int) -> OpsetOutOfReach:
    words = str(error).rpartition("failed: ")[2].strip() or str(error)
    return OpsetOutOfReach(
        f"the model cannot be taken from opset {own} to {target}", why=words[:300], fix=f"--opset {own}"
    )


def _hide(proto: ModelProto, kinds: set[str]) -> ModelProto:
    from mlconv.convert.onnx_graph.file import nodes

    copy = type(proto)()
    copy.CopyFrom(proto)
    for node in nodes(copy):
        if node.domain == "" and node.op_type in kinds:
            node.domain = _HIDDEN
    if kinds:
        copy.opset_import.add(domain=_HIDDEN, version=1)
    return copy


def _reveal(proto: ModelProto) -> ModelProto:
    from mlconv.convert.onnx_graph.file import nodes

    for node in nodes(proto):
        if node.domain == _HIDDEN:
            node.domain = ""
    kept = [entry for entry in proto.opset_import if entry.domain != _HIDDEN]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    return proto


def _alike(kind: str, one: int, other: int) -> bool:
    """Whether two versions of an operator differ at most in the types that they permit."""
    import onnx

    if not all(onnx.defs.has(kind, max_inclusive_version=version, domain="") for version in (one, other)):
        return False
    first, second = (onnx.defs.get_schema(kind, version, "") for version in (one, other))
    return _signature(first) == _signature(second)


def _signature(schema: Any) -> tuple[Any, ...]:
    formals = tuple(tuple((put.name, put.option) for put in puts) for puts in (schema.inputs, schema.outputs))
    attributes = {
        name: (item.type, item.required, item.default_value.SerializeToString())
        for name, item in schema.attributes.items()
    }
    return (*formals, attributes)


def _expanded(proto: ModelProto, kind: str) -> ModelProto | None:
    """The model with one kind of operator replaced by the operators that define it; None where nothing defines it."""
    import onnx.inliner

    typed = ir.to_proto(
        inferred(ir.from_proto(proto))
    )  # the inliner wants every type, and conversion forgets them
    try:
        expanded = onnx.inliner.inline_selected_functions(typed, [("", kind)], inline_schema_functions=True)
    except RuntimeError:
        return None
    left = {node.op_type for node in expanded.graph.node}
    return None if kind in left else expanded
