"""A TFLite model as frozen values: subgraphs, tensors, operators with their options, constants, signatures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from mlconv.errors import Corrupt, UnknownSignature, listed
from mlconv.formats import tflite_schema as schema
from mlconv.formats.flatbuffer import FlatbufferError, Table
from mlconv.formats.refs import for_shell
from mlconv.tensors import Dim, Quantization

if TYPE_CHECKING:
    import numpy as np

EDGETPU_OPERATOR = "edgetpu-custom-op"

OptionValue = bool | int | float | str | tuple[int | float, ...]


@dataclass(frozen=True, slots=True)
class Affine:
    """Quantization of a tensor: ``real = scale * (integer - zero_point)``.

    Attributes:
        scale: One number, or one for each slice along ``axis``.
        zero_point: As many.
        axis: The quantized dimension where there are several.
        block_size: Elements along the last axis that share a scale; then the scales stand in another tensor.
        scales_at: That tensor's index.
    """

    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    axis: int = 0
    block_size: int | None = None
    scales_at: int = -1

    @property
    def per_tensor(self) -> Quantization | None:
        """The one scale and zero point, where there is one and it is a number."""
        if len(self.scale) != 1 or not math.isfinite(self.scale[0]) or self.scale[0] <= 0:
            return None
        return Quantization(self.scale[0], self.zero_point[0])


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """One tensor of a subgraph.

    Attributes:
        index: Its place in ``Subgraph.tensors``; operators refer to it.
        shape: Sizes as the file has them: 1 where an axis is dynamic. See ``dims``.
        dims: The same with None for a dynamic axis; None where the rank is unknown.
        dtype: numpy's name; ``str``, ``resource`` and ``variant`` are no numbers.
        buffer: Which buffer holds the constant; tensors may share one.
        data: The constant's bytes, or None for a tensor that the model computes or is given.
        quantization: None for a tensor without scales.
        is_variable: State that lives from run to run.
        is_sparse: The constant is stored sparsely, by the schema's SparsityParameters.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dims: tuple[Dim, ...] | None
    dtype: str
    buffer: int
    data: memoryview | None = field(repr=False)
    quantization: Affine | None = None
    is_variable: bool = False
    is_sparse: bool = False

    @property
    def is_constant(self) -> bool:
        return self.data is not None

    @property
    def elements(self) -> int:
        """The product of the sizes; a dynamic axis counts as 1."""
        return math.prod(max(size, 1) if size < 0 else size for size in self.shape)

    def array(self) -> np.ndarray:
        """The constant as numpy has it; types below a byte come unpacked, bfloat16 as float32.

        Raises:
            UnsupportedType: The tensor is no dense constant of numbers.
            Corrupt: The buffer does not hold that many elements.
        """
        from mlconv.formats.tflite_constants import array

        return array(self)


@dataclass(frozen=True, slots=True, eq=False)
class Operator:
    """One operator of a subgraph.

    Attributes:
        index: Its place in the order of execution.
        kind: The builtin operator's name in the schema, or ``CUSTOM``.
        custom: The name of a custom operator.
        version: What the file says; kernels of higher versions accept more.
        inputs: Indices of tensors; -1 for an optional input that is absent.
        options_type: The schema's name of the options table, ``NONE`` without one.
        custom_options: The bytes that a custom operator gets.
    """

    index: int
    kind: str
    custom: str | None
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options_type: str
    custom_options: memoryview = field(repr=False)
    _options: Table | None = field(repr=False)

    @property
    def name(self) -> str:
        """``CONV_2D``; ``CUSTOM:edgetpu-custom-op``."""
        return self.kind if self.custom is None else f"CUSTOM:{self.custom}"

    def option(self, name: str, default: OptionValue = 0) -> OptionValue:
        """A builtin option by the schema's name, read now; the schema's default where the file leaves it out.

        ``default`` is the answer where the operator carries no options, or none of that name.

        Raises:
            Corrupt: The options table is broken.
        """
        known = schema.option_fields(self.options_type).get(name)
        if known is None or self._options is None:
            return default
        try:
            return _option(self._options, known)
        except FlatbufferError as error:
            raise broken(f"option `{name}` of operator {self.index} ({self.name})", error) from error

    def integer(self, name: str, default: int = 0) -> int:
        """As ``option``, for a number, an enum or a flag."""
        value = self.option(name, default)
        return int(value) if isinstance(value, (bool, int)) else default

    def flag(self, name: str) -> bool:
        return bool(self.integer(name))

    @property
    def padding(self) -> str:
        """``SAME`` or ``VALID``."""
        return _member(schema.PADDING, self.integer("padding"))

    @property
    def activation(self) -> str:
        """The fused activation, ``NONE`` without one."""
        return _member(schema.ACTIVATION, self.integer("fused_activation_function"))


@dataclass(frozen=True, slots=True, eq=False)
class Subgraph:
    index: int
    name: str
    tensors: tuple[Tensor, ...] = field(repr=False)
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operators: tuple[Operator, ...] = field(repr=False)

    def tensor(self, index: int) -> Tensor | None:
        """The tensor that an operator refers to; None for an absent optional one."""
        return self.tensors[index] if 0 <= index < len(self.tensors) else None

    def input(self, operator: Operator, position: int) -> Tensor | None:
        """An operator's input; None where it is absent."""
        return self.tensor(operator.inputs[position]) if position < len(operator.inputs) else None

    def output(self, operator: Operator, position: int = 0) -> Tensor | None:
        return self.tensor(operator.outputs[position]) if position < len(operator.outputs) else None


@dataclass(frozen=True, slots=True)
class Signature:
    """An entry point: names that the author gave to inputs and outputs of one subgraph."""

    key: str
    subgraph: int
    inputs: dict[str, int]
    outputs: dict[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """A whole file.

    Attributes:
        version: Of the schema, 3.
        subgraphs: The first is the main one.
        metadata: Name to the bytes of its buffer.
        external_bytes: Constant data that lies behind the flatbuffer, in the same file.
    """

    version: int
    description: str
    subgraphs: tuple[Subgraph, ...]
    signatures: tuple[Signature, ...]
    metadata: dict[str, memoryview] = field(repr=False)
    external_bytes: int

    def operators(self) -> Iterator[tuple[Subgraph, Operator]]:
        """Every operator of every subgraph."""
        for graph in self.subgraphs:
            for operator in graph.operators:
                yield graph, operator

    def counts(self) -> dict[str, int]:
        """Operators by name, over all subgraphs, sorted."""
        return dict(sorted(Counter(operator.name for _, operator in self.operators()).items()))

    @property
    def is_edgetpu(self) -> bool:
        return any(operator.custom == EDGETPU_OPERATOR for _, operator in self.operators())

    def signature(self, key: str | None = None) -> Signature:
        """The named entry point; by default ``serving_default``, the first, or the first subgraph by its tensors' names.

        Raises:
            UnknownSignature: No entry point is called ``key``.
        """
        keys = [signature.key for signature in self.signatures]
        if key is not None and key not in keys:
            raise UnknownSignature(
                f"the model has no signature `{key}`",
                why=f"it has {listed(keys)}" if keys else "it has no signatures, only its main subgraph",
                fix=f"--signature {for_shell(keys[0])}" if keys else "leave --signature out",
            )
        if not keys:
            return self._unsigned()
        wanted = key if key is not None else "serving_default" if "serving_default" in keys else keys[0]
        return self.signatures[keys.index(wanted)]

    def _unsigned(self) -> Signature:
        graph = self.subgraphs[0]
        return Signature("", 0, *(_named(graph, indices) for indices in (graph.inputs, graph.outputs)))


def broken(what: str, error: Exception) -> Corrupt:
    """What every reader of TFLite raises on bytes that break the format."""
    return Corrupt(f"{what} is broken TFLite", why=str(error), fix="get the file again, or write it again")


def _option(table: Table, option: schema.Option) -> OptionValue:
    if option.kind == "text":
        return table.text(option.field)
    kind: Any = option.kind
    if option.repeated:
        return table.numbers(option.field, kind)
    if option.kind == "float32":
        return table.real(option.field, float(option.default))
    value = table.integer(option.field, kind, option.default)
    return bool(value) if option.kind == "bool" else value


def _named(graph: Subgraph, indices: tuple[int, ...]) -> dict[str, int]:
    """Tensors by name; an empty or repeated name gets its index, so that no input is lost."""
    names: dict[str, int] = {}
    for index in indices:
        name = graph.tensors[index].name or f"tensor_{index}"
        names[name if name not in names else f"{name}_{index}"] = index
    return names


def _member(names: tuple[str, ...], code: int) -> str:
    return names[code] if 0 <= code < len(names) else f"UNKNOWN_{code}"
