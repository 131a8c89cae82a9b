"""TFLite files made operator by operator, run by LiteRT and, converted by mlconv's importer, by onnxruntime."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.convert.job import Job, Options
from mlconv.formats import ModelFile
from mlconv.input_grammar import parse_input


class TfliteGraph:
    """A TFLite file in the making. Tensors are numbers; an empty name stays empty."""

    def __init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.model.subgraphs = []
        self.subgraph()

    def subgraph(self) -> int:
        """Begin another subgraph, to which what follows belongs."""
        self.graph = self.schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.model.subgraphs.append(self.graph)
        return len(self.model.subgraphs) - 1

    def tensor(
        self, name: str, shape: Sequence[int], constant: Any = None, kind: str = "FLOAT32", *, scale: Any = None, zero_point: Any = 0,
        axis: int = 0, signature: Sequence[int] | None = None, variable: bool = False,
    ) -> int:  # fmt: skip
        """``constant`` is an array of the tensor's own type; ``scale`` and ``zero_point`` are numbers, or one for each slice of ``axis``."""
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), list(shape), getattr(self.schema.TensorType, kind)
        tensor.buffer, tensor.isVariable = 0, variable
        if signature is not None:
            tensor.shapeSignature = list(signature)
        if constant is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(constant).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        if scale is not None:
            quantization = self.schema.QuantizationParametersT()
            quantization.scale = [float(value) for value in np.atleast_1d(scale)]
            quantization.zeroPoint = [int(value) for value in np.broadcast_to(zero_point, len(quantization.scale))]
            quantization.quantizedDimension = axis
            tensor.quantization = quantization
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self, kind: str, inputs: Sequence[int], outputs: Sequence[int], options: str = "", custom: str = "", version: int = 1,
        intermediates: Sequence[int] = (), **values: Any,
    ) -> None:  # fmt: skip
        """``options`` is the schema's name of the table (``Conv2DOptions``), ``values`` its fields in camel case."""
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), version
        code.customCode = custom.encode() if custom else None
        self.model.operatorCodes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex = len(self.model.operatorCodes) - 1
        made.inputs, made.outputs, made.intermediates = list(inputs), list(outputs), list(intermediates)
        if options:
            self._set_options(made, options, values)
        self.graph.operators.append(made)

    def _set_options(self, made: Any, options: str, values: dict[str, Any]) -> None:
        second = not hasattr(self.schema.BuiltinOptions, options)
        union = self.schema.BuiltinOptions2 if second else self.schema.BuiltinOptions
        table = getattr(self.schema, f"{options}T")()
        for name, value in values.items():
            assert hasattr(table, name), f"{options} has no field {name}"
            setattr(table, name, value)
        suffix = "2" if second else ""
        setattr(made, f"builtinOptions{suffix}Type", getattr(union, options))
        setattr(made, f"builtinOptions{suffix}", table)

    def ends(self, inputs: Sequence[int], outputs: Sequence[int]) -> None:
        """Inputs and outputs of the subgraph in hand."""
        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)

    def write(self, path: Path, inputs: Sequence[int] | None = None, outputs: Sequence[int] | None = None) -> Path:
        """The file; ``inputs`` and ``outputs`` are the first subgraph's."""
        import flatbuffers  # type: ignore[import-untyped]

        if inputs is not None and outputs is not None:
            self.model.subgraphs[0].inputs, self.model.subgraphs[0].outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


@dataclass(frozen=True)
class Put:
    """A tensor of a model of one operator; ``value`` makes it a constant."""

    shape: Sequence[int]
    kind: str = "FLOAT32"
    scale: Any = None
    zero_point: Any = 0
    axis: int = 0
    value: Any = None
    more: dict[str, Any] = field(default_factory=dict)


def one_operator(
    path: Path, kind: str, inputs: Sequence[Put | None], outputs: Sequence[Put], options: str = "", version: int = 1, **values: Any
) -> Path:
    """A file of one operator: inputs without a value are the model's inputs ``x0, x1, ...``, outputs ``y0, y1, ...``."""
    graph = TfliteGraph()

    def add(name: str, put: Put) -> int:
        return graph.tensor(name, put.shape, put.value, put.kind, scale=put.scale, zero_point=put.zero_point, axis=put.axis, **put.more)

    ins = [-1 if put is None else add(f"x{number}", put) for number, put in enumerate(inputs)]
    outs = [add(f"y{number}", put) for number, put in enumerate(outputs)]
    graph.operator(kind, ins, outs, options, version=version, **values)
    given = [
        index for index, put in zip(ins, inputs, strict=True)
        if put is not None and put.value is None and not put.more.get("variable")
    ]  # fmt: skip
    return graph.write(path, given, outs)


def import_job(path: Path, *inputs: str, **options: Any) -> Job:
    scratch = path.parent / f"{path.stem}-import"
    scratch.mkdir(exist_ok=True)
    parsed = tuple(parse_input(text) for text in inputs)
    return Job(ModelFile(str(path), path, "tflite"), "onnx", scratch / "model.onnx", scratch, Options(input=parsed, **options))


def imported(path: Path, *inputs: str, **options: Any) -> Path:
    """The ONNX file that the importer writes of a TFLite file, before anything finishes it; checked by onnx."""
    import onnx

    from mlconv.convert.tflite_to_onnx import run

    job = import_job(path, *inputs, **options)
    run(job)
    onnx.checker.check_model(str(job.output), full_check=True)
    return job.output


def by_litert(path: Path, *feeds: np.ndarray, builtin: bool = False) -> list[np.ndarray]:
    """What LiteRT answers: its default kernels (XNNPACK), or its built-in ones; state is fresh."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    more = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES} if builtin else {}
    interpreter = Interpreter(model_path=str(path), **more)
    details = interpreter.get_input_details()
    for detail, array in zip(details, feeds, strict=True):
        if tuple(detail["shape"]) != array.shape:
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()
    interpreter.reset_all_variables()
    for detail, array in zip(details, feeds, strict=True):
        interpreter.set_tensor(detail["index"], array)
    interpreter.invoke()
    return [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]


def by_onnxruntime(path: Path, *feeds: np.ndarray) -> list[np.ndarray]:
    """What onnxruntime answers with its usual optimisations."""
    from mlconv.runners.onnx_session import OnnxSession

    session = OnnxSession(path)
    outputs = session.run(dict(zip((spec.name for spec in session.inputs), feeds, strict=True)))
    return [np.asarray(array) for array in outputs.values()]


def lsb(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> int:
    """The greatest difference between integer outputs."""
    assert [x.shape for x in a] == [y.shape for y in b], ([x.shape for x in a], [y.shape for y in b])
    assert [x.dtype for x in a] == [y.dtype for y in b]
    return max(int(np.abs(x.astype(np.int64) - y.astype(np.int64)).max(initial=0)) for x, y in zip(a, b, strict=True))


def relative(a: Sequence[np.ndarray], b: Sequence[np.ndarray]) -> float:
    """The greatest difference between float outputs, relative to the output's greatest magnitude."""
    assert [x.shape for x in a] == [y.shape for y in b], ([x.shape for x in a], [y.shape for y in b])
    assert [x.dtype for x in a] == [y.dtype for y in b]
    worst = 0.0
    for x, y in zip(a, b, strict=True):
        assert np.array_equal(np.isnan(x), np.isnan(y))
        finite = np.isfinite(x)
        assert np.array_equal(x[~finite & ~np.isnan(x)], y[~finite & ~np.isnan(x)])
        scale = max(float(np.abs(x[finite]).max(initial=0.0)), 1e-30)
        worst = max(worst, float(np.abs(x[finite].astype(np.float64) - y[finite]).max(initial=0.0)) / scale)
    return worst


def all_codes(kind: str) -> np.ndarray:
    """Every code of an 8-bit type: 256 of them, one axis."""
    return np.arange(256, dtype=np.uint8).view(np.int8 if kind == "INT8" else np.uint8)


def all_pairs(kind: str, other: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of codes of two 8-bit types: 65,536 of them, one axis each."""
    pairs = np.array(list(itertools.product(range(256), repeat=2)), np.uint8)
    return pairs[:, 0].copy().view(all_codes(kind).dtype), pairs[:, 1].copy().view(all_codes(other or kind).dtype)
