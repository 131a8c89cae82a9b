"""The ONNX graph in the making, and TFLite tensors as values of it.

A TFLite tensor has one or more *forms* in the ONNX graph. ``stored`` is what the tensor holds: codes of a quantized
tensor (see ``codes``), the numbers of any other. ``real`` is the float32 that the codes stand for, by a DequantizeLinear.
Tensors of three axes and more have both in two layouts: TFLite's own (``NHWC``) and channels first (``NCHW``), and a
Transpose is written only where an operator asks for a form that nobody made. So operators that do not care take the
layout in which their operands are there already (``layout``), and transposes end up at the borders of the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from mlconv.convert.tflite_import.codes import ACTIVATION_RANGES, Codes, codes_of
from mlconv.convert.tflite_import.graph import Dims, NotExpressible, Shared, Writer, dims_of
from mlconv.formats.tflite_graph import Subgraph, Tensor

if TYPE_CHECKING:
    from mlconv.tensors import TensorSpec

class Emitter(Writer):
    """One subgraph of a TFLite model as an ONNX graph."""

    def __init__(self, shared: Shared, graph: Subgraph, parent: Emitter | None = None) -> None:
        super().__init__(shared, f"{graph.index}/" if graph.index and parent is not None else "")
        self.graph, self.parent = graph, parent
        self.handles: dict[int, str] = {}  # resource tensors, and the variables that they stand for
        self._names: dict[tuple[int, bool], str] = {}
        self._bearing: set[ir.Value] = set()  # values that have a tensor's name already
        self._given: set[ir.Value] = set()  # values that are outputs of the graph
        self._stored: dict[tuple[int, bool], ir.Value] = {}
        self._real: dict[tuple[int, bool, float | None], ir.Value] = {}
        self._constants: dict[int, np.ndarray] = {}
        self._elements: dict[int, np.ndarray] = {}

    # -------------------------------------------------------------- what the file says

    def tensor(self, index: int) -> Tensor:
        if index < 0:  # -1 would be the last one
            raise IndexError("an operand that it needs is left out")
        return self.graph.tensors[index]

    def codes(self, index: int) -> Codes | None:
        """How the tensor's codes are stored; None where it holds numbers themselves."""
        return codes_of(self.tensor(index))

    def constant(self, index: int) -> np.ndarray | None:
        """A constant's elements *as the file stores them* (int8 stays int8, float16 stays float16), or None.

        A float16 constant behind a DEQUANTIZE, or what another operator folded (``put_constant``), is one too.
        """
        if index < 0:
            return None
        if index in self._constants:
            return self._constants[index]
        tensor = self.tensor(index)
        if tensor.is_constant:
            self._constants[index] = tensor.array()
        return self._constants.get(index)

    def elements(self, index: int) -> np.ndarray | None:
        """A constant's elements, or what is known of those of a small tensor of integers that is computed from sizes.

        Those are an array of objects, with an axis's name or None where the model's run decides: so reshapes stay static.
        """
        found = self.constant(index)
        return self._elements.get(index) if found is None else found

    def put_elements(self, index: int, elements: np.ndarray) -> None:
        """What ``elements`` is to answer for a tensor that is computed."""
        self._elements[index] = elements

    def numbers(self, index: int, what: str) -> list[int]:
        """The integers of a constant operand that ONNX, or this importer, needs to know.

        Raises:
            NotExpressible: It is computed while the model runs.
        """
        found = self.constant(index)
        if found is None:
            raise NotExpressible(f"its {what} is computed while the model runs")
        return [int(number) for number in np.asarray(found).reshape(-1)]

    def dims(self, index: int) -> Dims | None:
        """The sizes that the tensor really has in TFLite's layout: those of its ONNX form, as inferred.

        What the file says of computed tensors is a hint that LiteRT does not read either; it stands in only where
        inference cannot tell. None where the rank is unknown.
        """
        for channels_first in (False, True):
            value = self._stored.get((index, channels_first)) or self._real.get((index, channels_first, None))
            if value is not None and value.shape is not None:
                dims = dims_of(value)
                return (dims[0], *dims[2:], dims[1]) if channels_first else dims
        found = self._constants.get(index)
        if found is not None:
            return tuple(found.shape)
        return self.tensor(index).dims

    def rank(self, index: int) -> int:
        """How many axes the tensor has.

        Raises:
            NotExpressible: Nothing tells.
        """
        dims = self.dims(index)
        if dims is None:
            raise NotExpressible("the number of its axes is known only while the model runs")
        return len(dims)

    # -------------------------------------------------------------- forms of tensors

    def has(self, index: int, *, channels_first: bool) -> bool:
        """Whether a form in that layout is there already, so that asking for it costs no Transpose."""
        return (index, channels_first) in self._stored or (index, channels_first, None) in self._real

    def layout(self, *indices: int) -> bool:
        """Whether an operator that takes either layout should take these operands channels first.

        It should where one of three axes or more, no constant, is there in that layout alone.
        """
        return any(
            self.has(index, channels_first=True) and not self.has(index, channels_first=False)
            for index in indices
            if index >= 0
        )

    def stored(self, index: int, *, channels_first: bool = False) -> ir.Value:
        """The tensor's codes, or its numbers."""
        channels_first = channels_first and self.rank(index) > 2
        value = self._stored.get((index, channels_first))
        if value is None:
            value = self._stored[index, channels_first] = self._make_stored(index, channels_first)
        return value

    def _make_stored(self, index: int, channels_first: bool) -> ir.Value:
        array = self.constant(index)
        if array is not None:
            codes = self.codes(index)
            if codes is not None:
                array = (array.astype(np.int64) + codes.shift).astype(codes.dtype)
            elif array.dtype == np.float16 and self.tensor(index).dtype == "float32":
                narrow = self.const(_channels_first(array) if channels_first else array)
                return self.op("Cast", narrow, to=ir.DataType.FLOAT)  # the file stays as small as it was
            return self.const(_channels_first(array) if channels_first else array, self.called(index, channels_first))
        other = self._stored.get((index, not channels_first))
        if other is None:
            raise NotExpressible(f"`{self.tensor(index).name}` is used before anything computes it")
        return self.transpose(other, to_channels_first=channels_first, name=self.name(index, channels_first))

    def real(self, index: int, *, channels_first: bool = False, scale: float | None = None) -> ir.Value:
        """What the tensor stands for, as float32.

        Args:
            scale: In place of the file's own: a neighbour of it that makes onnxruntime's rounding LiteRT's.
        """
        channels_first = channels_first and self.rank(index) > 2
        key = (index, channels_first, scale)
        if key not in self._real:
            stored, codes = self.stored(index, channels_first=channels_first), self.codes(index)
            if codes is not None:
                self._real[key] = self.dequantize(stored, codes, scale)
            elif stored.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16):
                self._real[key] = self.op("Cast", stored, to=ir.DataType.FLOAT)
            else:
                self._real[key] = stored
        return self._real[key]

    def put(self, index: int, value: ir.Value, *, channels_first: bool = False) -> None:
        """``value`` is what the tensor holds, in that layout: codes of a quantized one."""
        channels_first = channels_first and (value.shape is None or len(value.shape) > 2)
        self._stored[index, channels_first] = value
        if value.producer() is not None and value not in self._bearing:
            self._bearing.add(value)
            value.name = self.name(index, channels_first)

    def borrow(self, index: int, value: ir.Value, *, channels_first: bool = False) -> None:
        """``value``, which another subgraph made and named, is what the tensor holds in that layout."""
        self._stored[index, channels_first] = value

    def inside(self, graph: Subgraph) -> Emitter:
        """An emitter of a subgraph whose constants stand where this one's do."""
        child = Emitter(self.shared, graph, self)
        child.initializers, child.pool = self.initializers, self.pool
        return child

    def put_real(self, index: int, value: ir.Value, *, channels_first: bool = False, activation: str = "NONE") -> None:
        """``value`` is what the tensor stands for, before a fused activation: it is clamped, and quantized where the tensor is."""
        self.put(index, self.held(index, value, activation), channels_first=channels_first)

    def held(self, index: int, value: ir.Value, activation: str = "NONE") -> ir.Value:
        """What ``put_real`` puts: what the tensor holds where it stands for ``value``."""
        codes = self.codes(index)
        if codes is None:
            clamped = self.clamped(value, activation)
            is_narrow = self.tensor(index).dtype == "float16" and clamped.dtype == ir.DataType.FLOAT
            return self.op("Cast", clamped, to=ir.DataType.FLOAT16) if is_narrow else clamped
        if activation not in ACTIVATION_RANGES:  # TANH, SIGN_BIT: no TFLite kernel has them on integers
            raise NotExpressible(f"its fused {activation} is applied to integers")
        return self.clamped_codes(self.quantize(value, codes), codes, activation)

    def put_constant(self, index: int, array: np.ndarray) -> None:
        """The tensor turned out to be constant; ``array`` as the file would store it, or a narrower float of it."""
        self._constants[index] = array

    # -------------------------------------------------------------- pieces

    def quantize(self, value: ir.Value, codes: Codes) -> ir.Value:
        """Rounded to the nearest code, halves to even, and saturated."""
        if codes.dtype == "float32":  # int16, as whole numbers
            steps = self.op("Round", self.op("Div", value, self.const(np.float32(codes.scale))))
            if codes.zero_point:
                steps = self.op("Add", steps, self.const(np.float32(codes.zero_point)))
            return self.op("Clip", steps, self.const(np.float32(codes.low)), self.const(np.float32(codes.high)))
        return self.op("QuantizeLinear", value, *self.scale_and_zero_point(codes))

    def dequantize(self, value: ir.Value, codes: Codes, scale: float | None = None) -> ir.Value:
        if codes.dtype == "float32":
            centred = self.op("Sub", value, self.const(np.float32(codes.zero_point))) if codes.zero_point else value
            return self.op("Mul", centred, self.const(np.float32(codes.scale if scale is None else scale)))
        return self.op("DequantizeLinear", value, *self.scale_and_zero_point(codes, scale))

    def scale_and_zero_point(self, codes: Codes, scale: float | None = None) -> tuple[ir.Value, ir.Value]:
        number = np.float32(codes.scale if scale is None else scale)
        if not 0 <= codes.zero_point <= 255:
            raise NotExpressible(f"its zero point {codes.zero_point} lies outside its own type")
        return self.const(number), self.const(np.array(codes.zero_point, codes.dtype))

    def clamped(self, value: ir.Value, activation: str) -> ir.Value:
        """A fused activation on float numbers."""
        if activation == "NONE":
            return value
        if activation == "RELU":
            return self.op("Relu", value)
        if activation == "TANH":
            return self.op("Tanh", value)
        if activation not in ACTIVATION_RANGES:
            raise NotExpressible(f"its fused activation {activation} has no ONNX form")
        low, high = ACTIVATION_RANGES[activation]
        return self.op("Clip", value, self.const(np.float32(low)), self.const(np.float32(high)))

    def clamped_codes(self, value: ir.Value, codes: Codes, activation: str) -> ir.Value:
        """A fused activation on codes; nothing where the type's own range is no wider."""
        low, high = codes.clamp(activation)
        if (low, high) == (codes.low, codes.high):
            return value
        return self.op("Clip", value, self.const(np.array(low, codes.dtype)), self.const(np.array(high, codes.dtype)))

    def called(self, index: int, channels_first: bool = False) -> str:
        """What the file calls the tensor, which other tensors may be called too."""
        return (self.tensor(index).name or f"tensor_{index}") + (":nchw" if channels_first else "")

    def name(self, index: int, channels_first: bool = False) -> str:
        """What the tensor's forms are called: unique, whatever the file repeats or leaves out."""
        key = index, channels_first
        if key not in self._names:
            self._names[key] = self.unique(self.called(index, channels_first))
        return self._names[key]

    # -------------------------------------------------------------- borders

    def take(self, index: int, spec: TensorSpec) -> ir.Value:
        """An input of the main graph, of the file's own type: int8 is stored as uint8 from there on."""
        dims = spec.shape or ()
        value = ir.Value(name=spec.name, shape=ir.Shape(dims), type=ir.TensorType(_onnx_type(spec.dtype)))
        codes = self.codes(index)
        if codes is not None and codes.dtype == "float32":
            self.put(index, self.op("Cast", value, to=ir.DataType.FLOAT))
        elif codes is not None and codes.shift:
            self.put(index, self.quantize(self.op("DequantizeLinear", value, *self._own(codes)), codes))
        else:
            self._stored[index, False] = value
        return value

    def give(self, index: int, name: str) -> ir.Value:
        """An output of the main graph, of the file's own type."""
        value, codes = self.stored(index), self.codes(index)
        if codes is not None and codes.dtype == "float32":
            value = self.op("Cast", value, to=ir.DataType.INT16)
        elif codes is not None and codes.shift:
            value = self.op("QuantizeLinear", self.dequantize(value, codes), *self._own(codes))
        elif value.producer() is None or value in self._given:  # an input, a constant, or an output already
            value = self.op("Identity", value)
        self._given.add(value)
        value.name = name
        return value

    def _own(self, codes: Codes) -> tuple[ir.Value, ir.Value]:
        """Scale and zero point of an int8 tensor as the file has them."""
        return self.const(np.float32(codes.scale)), self.const(np.array(codes.zero_point - codes.shift, np.int8))


def _onnx_type(dtype: str) -> ir.DataType:
    return ir.DataType.BFLOAT16 if dtype == "bfloat16" else ir.DataType.from_numpy(np.dtype(dtype))


def _channels_first(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, -1, 1))
