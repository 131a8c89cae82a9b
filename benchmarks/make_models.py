"""Quantized TFLite networks that nobody publishes with a licence, made by TFLiteConverter from Keras networks.

    python -m benchmarks.make_models [NAME ...] [--folder build/models]

Random weights, seeded; int8 inputs and outputs, weights per channel. So that outputs tell pictures apart, batch
normalisation has the statistics of smooth pictures, and the last layer has few classes with weights scaled to logits of a
standard deviation of one: 8-bit scores of a thousand classes would nearly all be zero. The same versions of TensorFlow and
Keras on the same machine write the same bytes again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tflite_sources import smooth_picture

SIZE = 224
CALIBRATION = 16
"""Pictures: TFLiteConverter takes the least and greatest value of each tensor, which hardly move beyond that."""
CLASSES, LOGIT_DEVIATION = 16, 1.0


def resnet18() -> Any:
    """ResNet-18 as in https://arxiv.org/abs/1512.03385, table 1: basic blocks, 1x1 convolutions as projections."""
    from keras import Input, Model, layers

    def convolved(x: Any, filters: int, size: int, strides: int) -> Any:
        x = layers.Conv2D(filters, size, strides, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = Input((SIZE, SIZE, 3), name="image")
    x = layers.ReLU()(convolved(layers.Rescaling(1 / 127.5, -1)(image), 64, 7, 2))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, filters in enumerate((64, 128, 256, 512)):
        for block in range(2):
            strides = 2 if stage and not block else 1
            y = layers.ReLU()(convolved(x, filters, 3, strides))
            y = convolved(y, filters, 3, 1)
            shortcut = convolved(x, filters, 1, strides) if strides == 2 else x
            x = layers.ReLU()(layers.Add()([y, shortcut]))
    scores = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    return Model(image, scores)


def efficientnet_b0() -> Any:
    from keras.applications import EfficientNetB0

    return EfficientNetB0(weights=None, classes=CLASSES)


def mobilenet_v3_small() -> Any:
    from keras.applications import MobileNetV3Small

    return MobileNetV3Small(weights=None, classes=CLASSES)


NETWORKS: dict[str, Callable[[], Any]] = {
    "resnet18_int8": resnet18,
    "efficientnet_b0_int8": efficientnet_b0,
    "mobilenet_v3_small_int8": mobilenet_v3_small,
}


def pictures() -> np.ndarray:
    """The calibration set, float32 of 0..255: smooth pictures, and every fourth one noise."""
    drawn = []
    for number in range(CALIBRATION):
        rng = np.random.default_rng(number)
        noise = number % 4 == 3
        drawn.append(rng.integers(0, 256, (SIZE, SIZE, 3)) if noise else smooth_picture(rng, SIZE, SIZE, 3))
    return np.stack(drawn).astype(np.float32)


def settle(model: Any, images: np.ndarray) -> None:
    """Give batch normalisation the statistics of the images, and the scores something to tell them apart by."""
    import keras

    flat = list(model._flatten_layers())
    for layer in flat:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    model(images, training=True)
    scoring = next(layer for layer in reversed(flat) if getattr(layer, "kernel", None) is not None)
    activation, scoring.activation = scoring.activation, keras.activations.linear
    logits = np.asarray(model(images, training=False)).reshape(len(images), -1)
    scoring.activation = activation
    mean = logits.mean(0)
    scale = LOGIT_DEVIATION / (logits - mean).std()
    scoring.kernel.assign(scoring.kernel * scale)
    scoring.bias.assign(-mean * scale)  # what all pictures have in common would decide the scores


def quantized(model: Any, images: np.ndarray) -> bytes:
    """The int8 file of TFLiteConverter at batch 1."""
    import keras
    import tensorflow as tf

    def representative() -> Iterator[list[np.ndarray]]:
        for image in images:
            yield [image[None]]

    image = keras.Input(batch_shape=(1, SIZE, SIZE, 3), name="image")
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(image, model(image, training=False)))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    made: bytes = converter.convert()
    return made


def make(name: str, folder: Path) -> Path:
    """Write one network, where it is not there yet; its path."""
    path = folder / f"{name}.tflite"
    if path.is_file():
        return path
    import keras
    import tensorflow as tf

    keras.backend.clear_session()  # names count on from network to network, and stand in the file
    keras.utils.set_random_seed(0)
    tf.config.experimental.enable_op_determinism()
    images, model = pictures(), NETWORKS[name]()
    settle(model, images)
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_bytes(quantized(model, images))
    unfinished.rename(path)
    return path


def main() -> None:
    """Make what is asked for, and print where it is."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(NETWORKS)}")
    parser.add_argument("--folder", type=Path, default=Path("build/models"))
    asked = parser.parse_args()
    for name in asked.names or NETWORKS:
        path = make(name, asked.folder)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
