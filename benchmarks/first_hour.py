"""What people bring in their first hour: command lines as a newcomer types them, and what each printed.

Run ``python benchmarks/first_hour.py [FOLDER]``. It builds the sources (random weights, no network), runs every line
through the real command in that folder, and prints a Markdown table: the exit code, and the line that the command
ended with. A line that fails is followed by the one that its message asks for. Exits 1 where a line did not end as
expected. Packages that are not installed (torchvision, timm, transformers) leave their lines out, by name.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Line:
    """One command line.

    Attributes:
        exit: The code that it must end with.
        id: The error that it must print, where it fails.
        unless: An error of the environment in its place: torchvision that was built for another torch.
        needs: Packages without which the line is left out.
        paste: Take the lines after the hint for `net_pasted.py`, as a user would, and run the line of the hint instead.
    """

    text: str
    exit: int = 0
    id: str = ""
    unless: str = ""
    needs: tuple[str, ...] = ()
    paste: bool = False


LINES = (
    Line("mlconv onnx 'timm:create_model(\"resnet18\", num_classes=10)' --input x=batch,3,64,64 -o timm.onnx", needs=("timm",)),
    Line("mlconv onnx 'timm:create_model(\"resnet18\", num_classes=10)' --weights timm18.safetensors --input x=batch,3,64,64 -o timm_weights.onnx", needs=("timm",)),
    Line("mlconv onnx 'timm:create_model(\"resnet18\", num_classes=10)' --weights sharded/model.safetensors.index.json --input x=batch,3,64,64 -o w.onnx", 3, "MLC115", needs=("timm",)),
    Line("mlconv onnx torchvision.models:resnet18 --input x=batch,3,64,64 -o tv.onnx", unless="MLC902", needs=("torchvision",)),
    Line("mlconv onnx 'torchvision.models:resnet18(num_classes=10)' --weights tv18.pth --input x=batch,3,64,64 -o tv_weights.onnx", unless="MLC902", needs=("torchvision",)),
    Line("mlconv onnx yolo.pt", 3, "MLC110"),
    Line("mlconv onnx yolo.pt --trust-pickle", 2, "MLC009"),
    Line("mlconv onnx yolo.pt --trust-pickle --input x=batch,3,64,64"),
    Line("mlconv onnx epoch=3.ckpt", 2, "MLC012"),
    Line("mlconv onnx epoch=3.ckpt --module net.py:Net --input x=batch,3,32,32 -o lightning.onnx"),
    Line("mlconv onnx sharded/model.safetensors.index.json --module net.py:Net --input x=batch,3,32,32 -o sharded.onnx"),
    Line("mlconv onnx ddp_compiled.pth --module net.py:Net --input x=batch,3,32,32 -o ddp.onnx"),
    Line("mlconv onnx bf16.pt --module net.py:Net --input x=batch,3,32,32 -o bf16.onnx"),
    Line("mlconv onnx net.py:Nett --input x=1,3,32,32", 3, "MLC114"),
    Line("mlconv onnx 'net.py:Net(width=WIDTH)' --input x=1,3,32,32", 2, "MLC001"),
    Line("mlconv onnx 'net.py:Net(width=12)' --weights ddp_compiled.pth --input x=1,3,32,32 -o wide.onnx", 3, "MLC115"),
    Line("mlconv onnx 'net.py:Net(width=12)' --input x=1x3x32x32 -o fixed.onnx", 2, "MLC005"),
    Line("mlconv onnx net.py:Net --input x=batch=2..8/2@4,3,32,32 -o ranges.onnx"),
    Line("mlconv onnx net.py:Net --input x=batch=8..1,3,32,32 -o ranges2.onnx", 2, "MLC005"),
    Line("mlconv onnx net.py:Net --input x=1,3,32,32 --input x=1,3,48,64 -o enumerated.onnx"),
    Line("mlconv onnx tokens.py:Tokens --input ids=batch,length:int64 -o tokens.onnx"),
    Line("mlconv onnx custom.keras", 3, "MLC139"),
    Line("mlconv onnx custom.keras --custom-objects layers.py"),
    Line("mlconv onnx augmented.keras"),
    Line("mlconv onnx tagless"),
    Line("mlconv onnx nosignature"),
    Line("mlconv onnx nosignature --input x=batch,4 -o nosignature_batch.onnx"),
    Line("mlconv onnx served"),
    Line("mlconv onnx bert", 3, "MLC120", needs=("transformers",)),
    Line("mlconv onnx bert", needs=("transformers",), paste=True),
    Line("mlconv onnx net.py:Net --input x=batch,3,32,32 --data photos -o seen.onnx", 2, "MLC018"),
    Line("mlconv onnx net.py:Net --input x=batch,3,32,32 --data photos --preprocess resize=32,crop=32,imagenet -o seen.onnx"),
    Line("mlconv onnx net.py:Net --input x=batch,3,32,32 --runtime onnxruntime==1.15 --opset 22 -o old.onnx", 2, "MLC014"),
    Line("mlconv onnx net.py:Net --input x=batch,3,32,32 --runtime onnxruntime==1.15 -o old.onnx"),
    Line("mlconv check old.onnx --runtime onnxruntime==1.15"),
    Line("mlconv check old.onnx --runtime onnxrutime==1.15", 2, "MLC017"),
    Line("mlconv ort net.py:Net --input x=batch,3,32,32 -o net.ort"),
    Line("mlconv onnx models.zip", 3, "MLC129"),
)  # fmt: skip


def build(folder: Path) -> None:
    """The sources of the lines; each framework in a process of its own."""
    for name, text in {"net": NET, "blocks": BLOCKS, "tokens": TOKENS, "layers": LAYERS}.items():
        (folder / f"{name}.py").write_text(text)
    for package, code in SOURCES.items():
        if importlib.util.find_spec(package) is None:
            continue
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"building with {package}: {done.stderr}")


def run(line: Line, folder: Path) -> tuple[str, int, str]:
    """The command as it was typed, its exit code, and what it printed."""
    text = line.text
    if line.paste:
        hint = _run(text, folder)[1].partition("hint: put this into net.py, then: ")[2]
        text, _, factory = hint.partition("\n")
        (folder / "net_pasted.py").write_text(textwrap.dedent(factory))
        text = text.replace("net.py:make", "net_pasted.py:make")
    code, printed = _run(text, folder)
    return text, code, printed


def _run(text: str, folder: Path) -> tuple[int, str]:
    words = [sys.executable, "-m", "mlconv", *shlex.split(text)[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, done.stderr + done.stdout


def told(code: int, printed: str) -> str:
    """The verdict of a conversion, or the error with its hint."""
    lines = printed.strip().splitlines()
    if code == 0:
        kept = [line.strip() for line in lines if "parity" in line or line.startswith("warning")]
        return "<br>".join(kept or lines[-1:])
    kept = [line.strip() for line in lines if re.match(r"error\[|\s+why: |hint: ", line)]
    return "<br>".join(kept or lines[-1:])


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else scratch)
        folder.mkdir(parents=True, exist_ok=True)
        build(folder)
        wrong = 0
        print("| command | exit | what it printed |\n|---|---|---|")
        for line in LINES:
            missing = [name for name in line.needs if importlib.util.find_spec(name) is None]
            if missing:
                print(f"| `{line.text}` | | not run: no {', '.join(missing)} |")
                continue
            text, code, printed = run(line, folder)
            fits = code == line.exit and (not line.id or f"error[{line.id}]" in printed)
            fits |= bool(line.unless) and f"error[{line.unless}]" in printed
            wrong += not fits
            shown = told(code, printed).replace("|", "\\|")
            print(
                f"| `{text}` | {code}{'' if fits else f' **expected {line.exit} {line.id}**'} | {shown} |",
                flush=True,
            )
    return 1 if wrong else 0


NET = """
import torch
from blocks import stem


class Net(torch.nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.stem = stem(width)
        self.head = torch.nn.Linear(width, 10)

    def forward(self, x):
        return self.head(self.stem(x).mean((2, 3)))
"""
BLOCKS = """
from torch import nn


def stem(width):
    return nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
"""
TOKENS = """
import torch


class Tokens(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(100, 16)
        self.head = torch.nn.Linear(16, 4)

    def forward(self, ids):
        return self.head(self.table(ids).mean(1))
"""
LAYERS = """
import keras


class Scale(keras.layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        return x * self.scale
"""
SOURCES = {
    "PIL": """
        import pathlib, zipfile
        import numpy as np
        from PIL import Image
        rng = np.random.default_rng(0)
        for label in ("cat", "dog"):
            folder = pathlib.Path("photos", label)
            folder.mkdir(parents=True, exist_ok=True)
            for number in range(4):
                Image.fromarray(rng.integers(0, 256, (48, 64, 3), np.uint8)).save(folder / f"{number}.jpg")
        with zipfile.ZipFile("models.zip", "w") as packed:
            packed.writestr("a/net.onnx", b"x")
    """,
    "torch": """
        import argparse, json, pathlib, sys
        import torch
        sys.path.insert(0, ".")
        from net import Net
        torch.manual_seed(0)
        net = Net().eval()
        state = net.state_dict()
        # as Ultralytics' trainer saves: half precision, the averaged module under `ema`
        torch.save({"epoch": -1, "model": None, "ema": Net().half(), "train_args": {"imgsz": 64}, "version": "8"}, "yolo.pt")
        # as Lightning does: a state dict under the attribute's name, with hyper-parameters that are objects
        torch.save({"epoch": 3, "global_step": 9, "pytorch-lightning_version": "2.5.0",
                    "state_dict": {f"model.{k}": v for k, v in state.items()},
                    "hyper_parameters": argparse.Namespace(lr=0.1), "optimizer_states": []}, "epoch=3.ckpt")
        torch.save({f"module._orig_mod.{k}": v for k, v in state.items()}, "ddp_compiled.pth")
        torch.save({k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}, "bf16.pt")
        from safetensors.torch import save_file
        folder = pathlib.Path("sharded")
        folder.mkdir(exist_ok=True)
        names = sorted(state)
        parts = {"model-00001-of-00002.safetensors": names[:4], "model-00002-of-00002.safetensors": names[4:]}
        for file, keys in parts.items():
            save_file({k: state[k] for k in keys}, folder / file)
        index = {"weight_map": {k: file for file, keys in parts.items() for k in keys}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    """,
    "timm": """
        import timm
        from safetensors.torch import save_file
        save_file(timm.create_model("resnet18", num_classes=10).state_dict(), "timm18.safetensors")
    """,
    "torchvision": """
        import torch
        try:
            import torchvision
        except RuntimeError:  # built for another torch: the line of the table says what to do
            torch.save({}, "tv18.pth")
        else:
            torch.save(torchvision.models.resnet18(num_classes=10).state_dict(), "tv18.pth")
    """,
    "keras": """
        import sys
        sys.path.insert(0, ".")
        import keras
        from layers import Scale
        L = keras.layers
        keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), Scale(), L.Flatten(), L.Dense(2)]).save("custom.keras")
        keras.Sequential([keras.Input((8, 8, 3)), L.Rescaling(1 / 255), L.RandomFlip(), L.RandomRotation(0.1),
                          L.Conv2D(4, 3), L.Flatten(), L.Dense(2)]).save("augmented.keras")
    """,
    "tensorflow": """
        import tensorflow as tf
        class Scores(tf.Module):
            def __init__(self):
                self.w = tf.Variable(tf.random.stateless_normal((4, 3), (0, 0)))
            @tf.function
            def __call__(self, x):
                return tf.matmul(x, self.w)
        module = Scores()
        module.__call__.get_concrete_function(tf.TensorSpec((None, 4), tf.float32, "x"))
        tf.saved_model.save(module, "nosignature")
        signature = module.__call__.get_concrete_function(tf.TensorSpec((None, 4), tf.float32, "x"))
        for version in ("1", "2"):
            tf.saved_model.save(module, f"served/{version}", signature)
        with tf.Graph().as_default(), tf.compat.v1.Session() as session:
            x = tf.compat.v1.placeholder(tf.float32, (None, 4), "x")
            y = tf.matmul(x, tf.constant([[1.0], [2.0], [3.0], [4.0]]), name="y")
            import shutil
            shutil.rmtree("tagless", ignore_errors=True)
            builder = tf.compat.v1.saved_model.Builder("tagless")
            told = tf.compat.v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            builder.add_meta_graph_and_variables(session, [], {"serving_default": told})
            builder.save()
    """,
    "transformers": """
        import torch
        from transformers import BertConfig, BertForSequenceClassification
        torch.manual_seed(0)
        BertForSequenceClassification(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=32, vocab_size=50, max_position_embeddings=32)).save_pretrained("bert")
    """,
}

if __name__ == "__main__":
    sys.exit(main())
