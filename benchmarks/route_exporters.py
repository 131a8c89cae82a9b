"""What `route_graphs.py` compares: mlconv's graph of an architecture, the framework's answers, and the exporters alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

OPSET = 18
KERAS_INPUTS = {
    "MobileNetV3Small": ["batch,224,224,3"],
    "U-Net, dynamic size": ["batch,height=32..256/2@64,width=32..256/2@64,3"],
}
"""What networks without a size of their own are fed with."""


@dataclass(frozen=True, slots=True)
class Reference:
    """The framework's answers on feeds at batch 3, and feeds at batch 1 for timing."""

    feeds: dict[str, np.ndarray]
    outputs: list[np.ndarray]
    timed: dict[str, np.ndarray]


Exports: TypeAlias = tuple[Reference, dict[str, Callable[[str], None]]]
"""The answers, and by a tool's name what writes its graph to a path. mlconv's own lies in the folder as ``mlconv.onnx``."""


# ------------------------------------------------------------------ PyTorch


def torch_exporters(name: str, folder: Path) -> Exports:
    """One architecture of ``torch_architectures.py``."""
    import torch
    from benchmarks import torch_architectures

    import mlconv
    from mlconv.input_grammar import parse_input

    torch.manual_seed(0)
    case = next(case for case in torch_architectures.CASES if case.name == name)
    module = eval(case.ref, vars(torch_architectures))  # noqa: S307  a line of this repository's own table
    module = (module() if not isinstance(module, torch.nn.Module) else module).eval()
    inputs = [
        text.replace(",time", ",time=2..512") for text in case.inputs
    ]  # of transformers' tables of positions
    options = tuple(map(parse_input, inputs))
    given = mlconv.to_onnx(module, folder / "mlconv.onnx", inputs=inputs, opset=OPSET, force=True)
    given.raise_for_verdict()
    feeds = {batch: _drawn(folder / "mlconv.onnx", options, batch) for batch in (1, 2, 3)}
    named = len(feeds[1]) > 1

    def call(batch: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        tensors = {key: torch.from_numpy(array) for key, array in feeds[batch].items()}
        return ((), tensors) if named else (tuple(tensors.values()), {})

    args, kwargs = call(3)
    with torch.no_grad():
        reference = Reference(feeds[3], _flat(module(*args, **kwargs)), feeds[1])
    axes = {key: {axis: dim for axis, dim in enumerate(option.shape) if isinstance(dim, str)} for key, option in zip(feeds[1], options, strict=True)}  # fmt: skip
    args, kwargs = call(2)

    def dynamo(path: str) -> None:
        auto = [dict.fromkeys(names, torch.export.Dim.AUTO) for names in axes.values()]
        shapes: Any = dict(zip(axes, auto, strict=True)) if named else tuple(auto)
        torch.onnx.export(module, args, path, kwargs=kwargs, dynamo=True, opset_version=OPSET, dynamic_shapes=shapes,
                          external_data=False, verbose=False)  # fmt: skip

    def torchscript(path: str) -> None:
        places = (
            *args,
            *kwargs.values(),
        )  # its tracer takes no keywords; the inputs stand in forward's own order
        torch.onnx.export(
            module, places, path, dynamo=False, opset_version=OPSET, input_names=list(axes), dynamic_axes=axes
        )

    return reference, {"dynamo": dynamo, "TorchScript": torchscript}


def _drawn(model: Path, options: Sequence[Any], batch: int) -> dict[str, np.ndarray]:
    from mlconv.checks.samples import draw
    from mlconv.runners.onnx_session import OnnxSession
    from mlconv.tensors import with_input_options

    specs = with_input_options(OnnxSession(model).inputs, tuple(options))
    return dict(draw(specs, {"batch": batch, "time": 16}, 0, 1, kind="normal").feeds)


def _flat(outputs: Any) -> list[np.ndarray]:
    """Tensors of nested outputs in order, as exporters flatten them."""
    if hasattr(outputs, "detach"):
        return [outputs.detach().numpy()]
    values = outputs.values() if isinstance(outputs, Mapping) else outputs
    return [array for value in values for array in _flat(value)]


# ------------------------------------------------------------------ Keras


def keras_exporters(name: str, folder: Path) -> Exports:
    """One architecture of ``keras_architectures.py``."""
    from benchmarks import keras_architectures

    import mlconv
    from mlconv.runners.onnx_session import OnnxSession

    made = keras_architectures.architectures()[name]()
    import keras

    keras.utils.set_random_seed(0)
    model = keras_architectures.with_random_statistics(made)
    inputs = KERAS_INPUTS.get(name, [])
    mlconv.to_onnx(model, folder / "mlconv.onnx", inputs=inputs, opset=OPSET, force=True).raise_for_verdict()
    specs = OnnxSession(folder / "mlconv.onnx").inputs
    feeds = {batch: keras_architectures.random_feeds(specs, batch, batch) for batch in (1, 3)}
    answers = model(dict(feeds[3]) if len(feeds[3]) > 1 else next(iter(feeds[3].values())), training=False)
    outputs = (
        [np.asarray(answers)]
        if not isinstance(answers, Mapping)
        else [np.asarray(out) for out in answers.values()]
    )
    model.export(str(folder / "saved"), verbose=False)

    def tf2onnx(path: str) -> None:
        command = [
            sys.executable,
            "-m",
            "tf2onnx.convert",
            "--saved-model",
            str(folder / "saved"),
            "--output",
            path,
            "--opset",
            str(OPSET),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not Path(path).is_file():
            raise RuntimeError(done.stderr.strip().splitlines()[-1][:200])

    return Reference(feeds[3], outputs, feeds[1]), {"tf2onnx": tf2onnx}
