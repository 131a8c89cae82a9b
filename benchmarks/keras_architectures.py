"""Keras architectures with random weights through the converter, as a Markdown table.

    python benchmarks/keras_architectures.py [NAME ...]

Each model is saved as `.keras`, converted, and run by Keras and by ONNX Runtime on the same random inputs at batch 1
and 3. `|d|` is the greatest difference; `range` the spread of the reference's outputs, so that a difference can be
judged. Batch normalisation has random statistics: with fresh ones an untrained network's outputs are all alike.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.convert import keras_to_onnx
from mlconv.convert.job import Converted, Job, Options
from mlconv.errors import MlconvError
from mlconv.formats import ModelFile
from mlconv.runners.tensorflow import tensorflow

ROOMY = 64  # what a dynamic axis other than the batch gets


def architectures() -> dict[str, Callable[[], Any]]:
    """Models by name, made when called."""
    tensorflow()
    import keras
    from keras import applications, layers

    def application(name: str) -> Callable[[], Any]:
        return lambda: getattr(applications, name)(weights=None)

    def transformer() -> Any:
        x = tokens = keras.Input((16, 32), name="tokens")
        for _ in range(2):
            x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 8)(x, x))
            x = layers.LayerNormalization()(x + layers.Dense(32)(layers.Dense(64, activation="gelu")(x)))
        return keras.Model(tokens, layers.Dense(5, name="scores")(layers.GlobalAveragePooling1D()(x)))

    def recurrent(kind: Any) -> Callable[[], Any]:
        return lambda: keras.Sequential(
            [keras.Input((20, 8)), kind(16, return_sequences=True), kind(12), layers.Dense(3)]
        )

    def masked() -> Any:
        words = keras.Input((None,), dtype="int32", name="words")
        x = layers.Embedding(3, 8, mask_zero=True)(words)
        return keras.Model(words, layers.Dense(2)(layers.Bidirectional(layers.LSTM(8))(x)))

    def multi_io() -> Any:
        image, vector = keras.Input((16, 16, 3), name="image"), keras.Input((4,), name="vector")
        x = layers.GlobalMaxPooling2D()(layers.Conv2D(8, 3, activation="relu")(image))
        x = layers.Concatenate()([x, layers.Dense(8)(vector)])
        return keras.Model(
            {"image": image, "vector": vector}, {"score": layers.Dense(1)(x), "classes": layers.Dense(4)(x)}
        )

    def preprocessing() -> Any:
        image = keras.Input((40, 40, 3), name="image")
        x = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.2, 0.3, 0.4])(
            layers.Rescaling(1 / 255)(image)
        )
        return keras.Model(image, layers.Conv2D(4, 3)(layers.Resizing(24, 24)(x)))

    def lookup() -> Any:
        words = keras.Input((1,), dtype="string", name="words")
        return keras.Model(
            words, layers.StringLookup(vocabulary=["a", "b", "c"], output_mode="one_hot")(words)
        )

    def subclassed() -> Any:
        @keras.saving.register_keras_serializable("mlconv")
        class Block(layers.Layer):  # type: ignore[misc]
            def build(self, shape: Any) -> None:
                self.first, self.second = layers.Dense(16, activation="gelu"), layers.Dense(shape[-1])
                self.first.build(shape)
                self.second.build((*shape[:-1], 16))

            def call(self, x: Any) -> Any:
                return x + self.second(self.first(x))

        return keras.Sequential([keras.Input((12,), name="x"), Block(), Block()])

    def one_dimensional() -> Any:
        x = signal = keras.Input((64, 4), name="signal")
        x = layers.SeparableConv1D(8, 3, padding="same")(layers.Conv1D(8, 5, dilation_rate=2)(x))
        return keras.Model(signal, layers.Conv1DTranspose(2, 4, strides=2)(x))

    def unet() -> Any:
        image = keras.Input((None, None, 3), name="image")
        a = layers.Conv2D(8, 3, padding="same", activation="relu")(image)
        b = layers.Conv2D(16, 3, padding="same", activation="relu")(layers.MaxPooling2D()(a))
        up = layers.Concatenate()([layers.Conv2DTranspose(8, 2, strides=2)(b), a])
        both = layers.Concatenate()([up, layers.UpSampling2D()(b)])
        return keras.Model(image, layers.Conv2D(2, 1, name="mask")(both))

    names = ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0", "ResNet50", "DenseNet121", "ConvNeXtTiny")
    return {
        **{name: application(name) for name in names}, "Transformer (MHA, GELU)": transformer,
        "LSTM": recurrent(layers.LSTM), "GRU": recurrent(layers.GRU), "BiLSTM with mask": masked,
        "Multi-IO, dicts": multi_io, "Preprocessing": preprocessing, "StringLookup": lookup, "Own layers": subclassed,
        "Conv1D, separable, transposed": one_dimensional, "U-Net, dynamic size": unet,
    }  # fmt: skip


def with_random_statistics(model: Any) -> Any:
    """Batch normalisation as if the model had seen data."""
    import keras

    rng = np.random.default_rng(0)
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(rng.normal(0, 0.1, layer.moving_mean.shape))
            layer.moving_variance.assign(rng.uniform(0.5, 1.5, layer.moving_variance.shape))
    return model


def random_feeds(inputs: Any, batch: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    feeds: dict[str, Any] = {}
    for spec in inputs:
        shape = [
            dim if isinstance(dim, int) else batch if axis == 0 else ROOMY
            for axis, dim in enumerate(spec.shape)
        ]
        if spec.dtype == "str":
            feeds[spec.name] = rng.choice(["a", "b", "zz"], shape).astype(object)
        elif spec.dtype.startswith("int"):
            feeds[spec.name] = rng.integers(0, 3, shape).astype(spec.dtype)
        else:
            feeds[spec.name] = rng.standard_normal(shape).astype(spec.dtype)
    return feeds


def differences(converted: Converted, path: Path) -> tuple[list[float], float]:
    """The greatest difference at batch 1 and at batch 3, and the range of the reference's outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found, spread = [], 0.0
    for batch in (1, 3):
        feeds = random_feeds(converted.inputs, batch, batch)
        expected = converted.reference.run(feeds)
        given = dict(zip(expected, session.run(list(expected), feeds), strict=True))
        assert all(given[name].shape == expected[name].shape for name in expected)
        found.append(max(float(np.abs(given[name] - expected[name]).max()) for name in expected))
        spread = max(spread, *(float(np.ptp(expected[name])) for name in expected))
    return found, spread


def measure(name: str, make: Callable[[], Any]) -> str:
    """One line of the table."""
    import keras
    import onnx

    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "model.keras"
        with_random_statistics(make()).save(source)
        job = Job(
            ModelFile(source.name, source, "keras"),
            "onnx",
            Path(scratch) / "model.onnx",
            Path(scratch),
            Options(),
        )
        start = time.perf_counter()
        try:
            converted = keras_to_onnx.run(job)
        except MlconvError as error:
            return f"| {name} | {error.id}: {error.what} | | | | | {time.perf_counter() - start:.1f} |"
        seconds = time.perf_counter() - start
        model = onnx.load(job.output)
        onnx.checker.check_model(model, full_check=True)
        (one, three), spread = differences(converted, job.output)
    return (
        f"| {name} | ok | {len(model.graph.node)} | {one:.1e} | {three:.1e} | {spread:.2g} | {seconds:.1f} |"
    )


def main(names: list[str]) -> None:
    print(
        "| architecture | outcome | nodes | \\|d\\| batch 1 | \\|d\\| batch 3 | range | seconds |\n|-|-|-|-|-|-|-|"
    )
    for name, make in architectures().items():
        if not names or name in names:
            print(measure(name, make), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
