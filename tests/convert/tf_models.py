"""What the tests of TensorFlow's converters share: a job, random feeds, agreement, and TFLite files built by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.convert.job import Converted, Job, Options
from mlconv.formats import Format, ModelFile
from mlconv.input_grammar import parse_input
from mlconv.tensors import TensorSpec

ROOMY = 16  # what a dynamic axis other than the batch gets


def job(source: Path, format_: Format, scratch: Path, *inputs: str, **options: Any) -> Job:
    folder = scratch / f"job{len(list(scratch.iterdir()))}"
    folder.mkdir()
    told = Options(input=tuple(map(parse_input, inputs)), **options)
    return Job(ModelFile(source.name, source, format_), "onnx", folder / "out.onnx", folder, told)


def feeds(specs: Sequence[TensorSpec], batch: int, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    made: dict[str, Any] = {}
    for spec in specs:
        assert spec.shape is not None
        shape = [
            dim if isinstance(dim, int) else batch if axis == 0 else ROOMY
            for axis, dim in enumerate(spec.shape)
        ]
        if spec.dtype == "str":
            made[spec.name] = rng.choice(["a", "b", "zz"], shape).astype(object)
        elif spec.dtype.startswith("float"):
            made[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
        elif spec.quantization is not None:
            limits = np.iinfo(spec.dtype)
            made[spec.name] = rng.integers(limits.min, limits.max + 1, shape).astype(spec.dtype)
        else:
            made[spec.name] = rng.integers(0, 3, shape).astype(spec.dtype)
    return made


def agree(job: Job, converted: Converted, atol: float = 1e-5, batches: tuple[int, ...] = (1, 3)) -> None:
    """The artifact is valid, has the signature that it was said to have, and answers as the source does."""
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(job.output), full_check=True)
    session = onnxruntime.InferenceSession(str(job.output), providers=["CPUExecutionProvider"])
    assert [value.name for value in session.get_inputs()] == [spec.name for spec in converted.inputs]
    assert [value.name for value in session.get_outputs()] == [spec.name for spec in converted.outputs]
    for batch in batches:
        fed = feeds(converted.inputs, batch, seed=batch)
        expected = converted.reference.run(fed)
        for spec, given in zip(converted.outputs, session.run(None, fed), strict=True):
            np.testing.assert_allclose(given, expected[spec.name], atol=atol, rtol=0)
            assert given.dtype == expected[spec.name].dtype


def operators(job: Job) -> list[str]:
    import onnx

    return [node.op_type for node in onnx.load(job.output).graph.node]


# ------------------------------------------------------------------ TFLite by TensorFlow's own schema


class TfliteGraph:
    """A TFLite file in the making. Tensors are numbers; an empty name stays empty."""

    def __init__(self) -> None:
        from tensorflow.lite.python import schema_py_generated as schema

        self.schema = schema
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers, self.model.operatorCodes = [schema.BufferT()], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators, self.graph.inputs, self.graph.outputs = [], [], [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, name: str, shape: Sequence[int], constant: Any = None, kind: str = "FLOAT32") -> int:
        tensor = self.schema.TensorT()
        tensor.name, tensor.shape, tensor.type = (
            name.encode(),
            list(shape),
            getattr(self.schema.TensorType, kind),
        )
        tensor.buffer = 0
        if constant is not None:
            buffer = self.schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(constant).tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            tensor.buffer = len(self.model.buffers) - 1
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: str = "",
        custom: str = "",
        **values: Any,
    ) -> None:
        code = self.schema.OperatorCodeT()
        code.builtinCode = getattr(self.schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode, code.version = min(code.builtinCode, 127), 1
        code.customCode = custom.encode() if custom else None
        self.model.operatorCodes.append(code)
        made = self.schema.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = (
            len(self.model.operatorCodes) - 1,
            list(inputs),
            list(outputs),
        )
        if options:
            made.builtinOptionsType = getattr(self.schema.BuiltinOptions, options)
            made.builtinOptions = getattr(self.schema, f"{options}T")()
            for name, value in values.items():
                setattr(made.builtinOptions, name, value)
        self.graph.operators.append(made)

    def write(self, path: Path, inputs: Sequence[int], outputs: Sequence[int]) -> Path:
        import flatbuffers  # type: ignore[import-untyped]

        self.graph.inputs, self.graph.outputs = list(inputs), list(outputs)
        builder = flatbuffers.Builder(1024)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        path.write_bytes(bytes(builder.Output()))
        return path


def quantized_cnn(path: Path) -> Path:
    """A small int8 CNN with a residual, by TensorFlow's own converter."""
    import keras
    import tensorflow as tf
    from keras import layers

    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
    x = layers.Add()([x, layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)])
    model = keras.Model(image, layers.Softmax()(layers.Dense(4)(layers.Flatten()(x))))
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    rng = np.random.default_rng(0)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: (
        [rng.standard_normal((1, 8, 8, 3)).astype(np.float32)] for _ in range(8)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    path.write_bytes(converter.convert())
    return path


Builder = Callable[[], Any]
