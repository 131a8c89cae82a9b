"""Trains the models of `mlconv demo`: one small network, in PyTorch and in Keras, on 8x8 images of digits.

    make digits                                       into src/mlconv/demo
    python examples/digits/train.py some/folder       into a folder of your own

The images are the 1,797 that scikit-learn ships. One part trains, one calibrates the quantization, one is held out:
every accuracy in digits.json was measured on the held-out part, with the file that it is named for.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

# Read once, when TensorFlow is imported. oneDNN picks kernels by machine, and they round differently.
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import tensorflow as tf
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SHIPPED = Path(__file__).resolve().parents[2] / "src" / "mlconv" / "demo"
SEED = 7
EPOCHS = 60
BATCH = 32
LEARNING_RATE = 3e-3
CALIBRATION_IMAGES = 100
HELD_OUT_IMAGES = 360
LEAST_ACCURACY = 0.96
BRIGHTEST = 16  # scikit-learn's pixels count the ink in a 4x4 block

Predict = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Images (N,1,8,8) of float32 in 0..1, and their digits (N,) of int64."""

    image: np.ndarray
    label: np.ndarray

    @property
    def nhwc(self) -> np.ndarray:
        """The same images (N,8,8,1): with one channel, moving it changes no byte."""
        return self.image.reshape(-1, 8, 8, 1)

    def save(self, path: Path) -> None:
        """As scikit-learn has them, grey values 0..16 of (N,8,8): layout and scale belong to the model that reads them."""
        pixels = np.rint(self.image[:, 0] * BRIGHTEST).astype(np.uint8)
        np.savez_compressed(path, image=pixels, label=self.label.astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Split:
    """Three parts with no image in common, each with all digits in equal shares."""

    train: Labelled
    calibration: Labelled
    held_out: Labelled


def load() -> Split:
    """The digits, split by `SEED`."""
    found = load_digits()
    images = (found.images / BRIGHTEST).astype(np.float32)[:, np.newaxis]
    labels = found.target.astype(np.int64)
    rest, held_out = _split(Labelled(images, labels), HELD_OUT_IMAGES)
    train, calibration = _split(rest, CALIBRATION_IMAGES)
    return Split(train, calibration, held_out)


def _split(whole: Labelled, count: int) -> tuple[Labelled, Labelled]:
    parts = train_test_split(
        whole.image, whole.label, test_size=count, random_state=SEED, stratify=whole.label
    )
    return Labelled(parts[0], parts[2]), Labelled(parts[1], parts[3])


def fix_randomness() -> None:
    """Same versions and same kind of machine: same weights. One thread, since sums depend on their order."""
    random.seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(SEED)  # numpy and torch too
    torch.manual_seed(SEED)


# PyTorch


class Digits(nn.Module):
    """(batch,1,8,8) in 0..1 -> (batch,10), one score per digit, before softmax."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Dropout(0.3),
            nn.Flatten(),
        )
        self.scores = nn.Linear(16 * 4 * 4, 10)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Scores of a batch of images."""
        scores: torch.Tensor = self.scores(self.body(image))
        return scores


def train_torch(data: Labelled) -> Digits:
    """A trained network, in evaluation mode."""
    module = Digits()
    images, labels = torch.from_numpy(data.image), torch.from_numpy(data.label)
    optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE)
    steps = EPOCHS * -(-len(labels) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    shuffle = torch.Generator().manual_seed(SEED)
    for _ in range(EPOCHS):
        order = torch.randperm(len(labels), generator=shuffle)
        for start in range(0, len(labels), BATCH):
            batch = order[start : start + BATCH]
            optimizer.zero_grad()
            torch.autograd.backward(nn.functional.cross_entropy(module(images[batch]), labels[batch]))
            optimizer.step()
            schedule.step()
    return module.eval()


def export_torch(module: Digits, folder: Path) -> None:
    """`digits.pt2` and `digits.onnx`, any batch size."""
    example = (torch.zeros(2, 1, 8, 8),)  # 2, since torch.export takes 0 and 1 for constants
    program = torch.export.export(
        module, example, dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}}
    )
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it names this machine's folders
    torch.export.save(program, folder / "digits.pt2")
    exported = torch.onnx.export(
        program, (), input_names=["image"], output_names=["scores"], opset_version=18, verbose=False
    )
    assert exported is not None
    for node in exported.model.graph:
        node.metadata_props.clear()
    exported.save(folder / "digits.onnx", external_data=False)


# Keras


def keras_digits() -> Any:
    """The same architecture, channels last."""
    image = keras.Input((8, 8, 1), name="image")
    flow = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="conv1")(image)
    flow = keras.layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2")(flow)
    flow = keras.layers.MaxPooling2D(2, name="pool")(flow)
    flow = keras.layers.Dropout(0.3, name="dropout")(flow)
    flow = keras.layers.Flatten(name="flatten")(flow)
    return keras.Model(image, keras.layers.Dense(10, name="scores")(flow), name="digits")


def train_keras(data: Labelled) -> Any:
    """Trained by itself: its weights are not those of PyTorch."""
    trained = keras_digits()
    steps = EPOCHS * -(-len(data.label) // BATCH)
    trained.compile(
        optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LEARNING_RATE, steps)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    trained.fit(data.nhwc, data.label, batch_size=BATCH, epochs=EPOCHS, verbose=0)
    plain = keras_digits()  # without the optimizer, whose state would double the file
    plain.set_weights(trained.get_weights())
    return plain


def export_keras(model: Any, calibration: Labelled, folder: Path) -> None:
    """`digits.keras` with any batch size, `digits.tflite` and `digits-int8.tflite` with a batch of one."""
    model.save(folder / "digits.keras")

    with tempfile.TemporaryDirectory() as saved:
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve",
            lambda image: {"scores": model(image, training=False)},
            input_signature=[tf.TensorSpec((1, 8, 8, 1), tf.float32, name="image")],
        )
        archive.write_out(saved, verbose=False)
        (folder / "digits.tflite").write_bytes(tf.lite.TFLiteConverter.from_saved_model(saved).convert())
        converter = tf.lite.TFLiteConverter.from_saved_model(saved)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: _one_by_one(calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
        (folder / "digits-int8.tflite").write_bytes(converter.convert())


def _one_by_one(data: Labelled) -> Iterator[dict[str, np.ndarray]]:
    for image in data.nhwc:
        yield {"image": image[np.newaxis]}


# The evidence: each file is loaded again, and run on images that no training has seen


def predictors(folder: Path) -> dict[str, Predict]:
    """File name to a function from images (N,1,8,8) to scores (N,10), or their integers."""
    return {
        "digits.pt2": _predict_pt2(folder / "digits.pt2"),
        "digits.onnx": _predict_onnx(folder / "digits.onnx"),
        "digits.keras": _predict_keras(folder / "digits.keras"),
        "digits.tflite": _predict_tflite(folder / "digits.tflite"),
        "digits-int8.tflite": _predict_tflite(folder / "digits-int8.tflite"),
    }


def _predict_pt2(path: Path) -> Predict:
    module = torch.export.load(path).module()

    def predict(image: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            scores: np.ndarray = module(torch.from_numpy(image)).numpy()
        return scores

    return predict


def _predict_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["scores"], {"image": image})[0]


def _predict_keras(path: Path) -> Predict:
    model = keras.saving.load_model(path)
    return lambda image: model.predict(image.reshape(-1, 8, 8, 1), verbose=0)


def _predict_tflite(path: Path) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner()
    details = runner.get_input_details()["image"]
    scale, zero_point = details["quantization"]

    def predict(image: np.ndarray) -> np.ndarray:
        feeds = image.reshape(-1, 1, 8, 8, 1)
        if scale:
            feeds = np.clip(np.rint(feeds / scale) + zero_point, -128, 127).astype(details["dtype"])
        return np.concatenate([runner(image=feed)["scores"] for feed in feeds])

    return predict


def accuracy(predict: Predict, data: Labelled) -> float:
    """The share of images whose highest score is that of their digit."""
    return float((predict(data.image).argmax(axis=1) == data.label).mean())


@dataclass(frozen=True, slots=True)
class Shipped:
    """One model of the demo: its size, its digest, and its accuracy on the held-out images."""

    bytes: int
    sha256: str
    accuracy: float


def describe(split: Split, files: dict[str, Shipped]) -> dict[str, Any]:
    """What stands in digits.json."""
    packages = ("torch", "onnxscript", "onnx", "tensorflow", "keras", "ai-edge-litert", "onnxruntime")
    return {
        "task": "8x8 grey images of hand-written digits, pixels in 0..1 -> one score per digit",
        "dataset": {
            "name": "Optical Recognition of Handwritten Digits (test part), as shipped by scikit-learn",
            "creators": "E. Alpaydin and C. Kaynak, 1998",
            "source": "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits",
            "doi": "10.24432/C50P49",
            "license": "CC-BY-4.0",
            "changes": "split in three; the models take pixels divided by 16",
        },
        "images": {
            "train": len(split.train.label),
            "calibration": len(split.calibration.label),
            "held_out": len(split.held_out.label),
        },
        "seed": SEED,
        "epochs": EPOCHS,
        "versions": {name: _version(name) for name in packages},
        "models": {name: asdict(file) for name, file in files.items()},
    }


def _version(package: str) -> str:
    """The installed version without what says how it was built; tensorflow-cpu is tensorflow."""
    return str(tf.__version__ if package == "tensorflow" else version(package).partition("+")[0])


def main(folder: Path) -> None:
    """Train, write, load again and measure; stops before it replaces a good model with a bad one."""
    fix_randomness()
    split = load()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".digits-") as scratch:
        made = Path(scratch)
        export_torch(train_torch(split.train), made)
        export_keras(train_keras(split.train), split.calibration, made)
        files = {}
        for name, predict in predictors(made).items():
            content = (made / name).read_bytes()
            right = accuracy(predict, split.held_out)
            print(f"{name:20} {len(content):7,} bytes   {right:.1%} of {len(split.held_out.label)} images")
            if right < LEAST_ACCURACY:
                sys.exit(f"{name} is right in {right:.1%} only: nothing was replaced")
            files[name] = Shipped(len(content), hashlib.sha256(content).hexdigest(), round(right, 4))
        split.held_out.save(made / "digits-test.npz")
        split.calibration.save(made / "digits-calibration.npz")
        words = json.dumps(describe(split, files), indent=2)
        (made / "digits.json").write_text(words + "\n", encoding="utf-8")
        for path in made.iterdir():
            path.replace(folder / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else SHIPPED)
