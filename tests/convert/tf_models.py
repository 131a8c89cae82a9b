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


# ------------------------------------------------------------------ TFLite by TensorFlow's own converter


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
