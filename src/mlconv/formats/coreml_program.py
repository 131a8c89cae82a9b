"""ML programs: operations, weights and multiply-accumulates of a Core ML `mlProgram`.

Field numbers: apple/coremltools, mlmodel/format/MIL.proto.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mlconv.formats import protobuf
from mlconv.formats.protobuf import WireError

DTYPES: dict[int, str] = {
    1: "bool", 2: "str", 10: "float16", 11: "float32", 12: "float64", 13: "bfloat16", 21: "int8", 22: "int16",
    23: "int32", 24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4",
    36: "uint2", 37: "uint1", 38: "uint6", 39: "uint3", 40: "float8_e4m3fn", 41: "float8_e5m2",
}  # fmt: skip

_MAX_DEPTH = 32
_MAX_RANK = 64  # numpy's own limit; Core ML stops at 5
_MULTIPLY = frozenset({"conv", "conv_transpose", "linear", "matmul"})
_UNKNOWN_COST = frozenset({"lstm", "gru", "rnn", "einsum", "scaled_dot_product_attention"})
_COMPRESSED_DATA = frozenset({"quantized_data", "indices", "data", "nonzero_data"})


@dataclass(frozen=True, slots=True)
class Type:
    """A tensor's type; a dynamic axis is None."""

    dtype: str
    shape: tuple[int | None, ...]

    @property
    def elements(self) -> int:
        """The product of the sizes, dynamic ones as 1."""
        return math.prod(1 if size is None else size for size in self.shape)


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation.

    Attributes:
        kind: As coremltools calls it: ``conv``, ``const``, ``constexpr_lut_to_dense``.
        inputs: Parameter to the values bound to it.
        outputs: Name to type.
        values: The types of values that stand in the operation itself, by parameter or attribute.
        files: The weight files that those values name.
    """

    kind: str
    inputs: dict[str, tuple[str, ...]]
    outputs: dict[str, Type]
    values: dict[str, Type]
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a program: the types of what it takes, and its operations with those of nested blocks."""

    inputs: dict[str, Type]
    operations: tuple[Operation, ...]


def functions(program: memoryview) -> dict[str, Function]:
    """Every function by name; of its specializations the one for its own opset.

    Raises:
        WireError: The bytes are broken, or blocks are nested without end.
    """
    found: dict[str, Function] = {}
    for name, function in protobuf.entries(program, 2).items():
        blocks = protobuf.entries(function, 3)
        chosen = blocks.get(protobuf.text(function, 2))
        bodies = [chosen] if chosen is not None else list(blocks.values())
        operations = tuple(operation for block in bodies for operation in _block(block, 0))
        found[name] = Function(_named_types(protobuf.messages(function, 1)), operations)
    return found


def counts(program: Sequence[Operation]) -> Counter[str]:
    return Counter(operation.kind for operation in program)


def parameters(program: Sequence[Operation]) -> int:
    """Elements of float constants with more than one element, and of what compressed constants stand for."""
    compressed = {
        name for op in program if _is_compressed(op) for names in op.inputs.values() for name in names
    }
    total = 0
    for operation in program:
        if operation.kind != "const" and not _is_compressed(operation):
            continue
        for name, kind in operation.outputs.items():
            if "float" in kind.dtype and kind.elements > 1 and name not in compressed:
                total += kind.elements
    return total


def quantization(program: Sequence[Operation]) -> dict[str, Any] | None:
    """How the program is quantized, or None where nothing is.

    ``kind`` is ``weights`` where only constants are compressed, ``full`` where every convolution and product takes what
    `dequantize` gives, else ``partial``. ``dtypes`` counts the compressed constants and quantized values by dtype.
    """
    dtypes: Counter[str] = Counter()
    types = {name: kind for operation in program for name, kind in operation.outputs.items()}
    for operation in program:
        if _is_compressed(operation):
            dtypes.update(kind.dtype for key, kind in operation.values.items() if key in _COMPRESSED_DATA)
            bound = [operation.inputs.get(key, ()) for key in _COMPRESSED_DATA]
            dtypes.update(types[name].dtype for names in bound for name in names if name in types)
        elif operation.kind == "quantize":
            dtypes.update(kind.dtype for kind in operation.outputs.values())
    activations = any(operation.kind == "quantize" for operation in program)
    if not dtypes and not activations:
        return None
    kind = "weights" if not activations else "partial" if _multiplies_floats(program) else "full"
    return {"kind": kind, "dtypes": dict(sorted(dtypes.items()))}


def macs(function: Function) -> int | None:
    """Multiply-accumulates of one run at the declared shapes; dynamic axes count as 1, a loop's body as one round.

    None where a shape is not told, and for recurrent operations, whose steps no shape tells.
    """
    known = dict(function.inputs)
    for operation in function.operations:
        known |= operation.outputs
    total = 0
    for operation in function.operations:
        if operation.kind in _UNKNOWN_COST:
            return None
        if operation.kind in _MULTIPLY:
            cost = _cost(operation, known)
            if cost is None:
                return None
            total += cost
    return total


def files(program: Sequence[Operation]) -> list[str]:
    """The weight files that constants name, each once."""
    return list(dict.fromkeys(name for operation in program for name in operation.files))


def _named_types(values: Iterator[memoryview]) -> dict[str, Type]:
    """Names and tensor types of NamedValueTypes."""
    found = {protobuf.text(value, 1): _type(protobuf.message(value, 2)) for value in values}
    return {name: kind for name, kind in found.items() if kind is not None}


def _block(block: memoryview, depth: int) -> Iterator[Operation]:
    if depth > _MAX_DEPTH:
        raise WireError(f"blocks within blocks, {_MAX_DEPTH} deep")
    for operation in protobuf.messages(block, 3):
        yield _operation(operation)
        for inner in protobuf.messages(operation, 4):
            yield from _block(inner, depth + 1)


def _operation(data: memoryview) -> Operation:
    inputs: dict[str, tuple[str, ...]] = {}
    values: dict[str, Type] = {}
    names: list[str] = []
    for key, argument in protobuf.entries(data, 2).items():
        bindings = list(protobuf.messages(argument, 1))
        inputs[key] = tuple(
            protobuf.text(binding, 1) for binding in bindings if protobuf.first(binding, 1) is not None
        )
        for binding in bindings:
            _add_value(values, names, key, protobuf.message(binding, 2))
    for key, value in protobuf.entries(data, 5).items():
        _add_value(values, names, key, value)
    outputs = _named_types(protobuf.messages(data, 3))
    return Operation(protobuf.text(data, 1), inputs, outputs, values, tuple(names))


def _add_value(values: dict[str, Type], names: list[str], key: str, value: memoryview) -> None:
    kind = _type(protobuf.message(value, 2))
    if kind is not None:
        values[key] = kind
    file = protobuf.text(value, 5, 1)
    if file:
        names.append(file)


def _type(value_type: memoryview) -> Type | None:
    """A ValueType that is a tensor's, or the state of one."""
    tensor = protobuf.first(value_type, 1)
    if tensor is None:
        tensor = protobuf.first(value_type, 5, 1, 1)
    if not isinstance(tensor, memoryview):
        return None
    sizes = (protobuf.first(dimension, 1) for dimension in protobuf.messages(tensor, 3))
    shape = tuple(protobuf.integer(size, 1) if isinstance(size, memoryview) else None for size in sizes)
    if len(shape) > _MAX_RANK:
        raise WireError(f"a tensor of {len(shape)} axes")
    return Type(DTYPES.get(protobuf.integer(tensor, 1), "unknown"), shape)


def _is_compressed(operation: Operation) -> bool:
    return operation.kind.startswith("constexpr_")


def _multiplies_floats(program: Sequence[Operation]) -> bool:
    dequantized = {
        name for operation in program if operation.kind == "dequantize" for name in operation.outputs
    }
    return any(
        operation.kind in _MULTIPLY and not dequantized.issuperset(operation.inputs.get("x", ()))
        for operation in program
    )


def _cost(operation: Operation, types: dict[str, Type]) -> int | None:
    source, weights = (_bound(operation, key, types) for key in ("x", "weight"))
    output = next(iter(operation.outputs.values()), None)
    if source is None or output is None or not source.shape:
        return None
    if operation.kind in ("linear", "matmul"):
        inner = source.shape[-1]
        if len(source.shape) > 1 and len(output.shape) > 1 and source.shape[-2] != output.shape[-2]:
            inner = source.shape[-2]  # the first operand is transposed: rows stand last
        return output.elements * (1 if inner is None else inner)
    if weights is None or len(weights.shape) < 3:
        return None
    per_channel = math.prod(1 if size is None else size for size in weights.shape[1:])
    return (output if operation.kind == "conv" else source).elements * per_channel


def _bound(operation: Operation, key: str, types: dict[str, Type]) -> Type | None:
    names = operation.inputs.get(key, ())
    return types.get(names[0]) if names else operation.values.get(key)
