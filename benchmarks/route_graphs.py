"""The graphs of the PyTorch and Keras routes beside those of the exporters they build on, as a Markdown table.

    python -m benchmarks.route_graphs [NAME ...] > benchmarks/results/route_graphs.md

For each architecture (random weights, dynamic batch, opset 18) the file that ``mlconv.to_onnx`` writes is compared with the
best of torch's dynamo and TorchScript exporters, or of plain tf2onnx over a SavedModel, each as it is and after onnxslim: it
shall not have more nodes or bytes, lie further from the framework's own answers, or take longer in onnxruntime. Exits 1 where
it does and ``EXPLAINED`` does not say why. Architectures whose packages (timm, torchvision) are missing are told as such.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from benchmarks import paired
from benchmarks.isolated import Failed, isolated
from benchmarks.machine import machine
from benchmarks.route_exporters import Reference, keras_exporters, torch_exporters
from benchmarks.route_verdict import Made, lost
from benchmarks.tflite_figures import bound

PACKAGES = (
    "mlconv",
    "torch",
    "tensorflow-cpu",
    "keras",
    "tf2onnx",
    "onnxslim",
    "onnxruntime",
    "timm",
    "torchvision",
    "transformers",
)
HEAD = """# The PyTorch and Keras routes beside the exporters alone

`python -m benchmarks.route_graphs`; {machine}

Random weights, a dynamic batch, opset 18. `difference` is the greatest one from the framework's own answers at a batch that no
exporter saw, by the greatest output. Latency is onnxruntime's on one thread at batch 1: processor time of mlconv's graph over that
of the other, the median of pairs in random order with its interval of 95 %. `lost` tells where mlconv's graph has more nodes or
bytes (beyond its metadata), lies further away or takes longer than the best of the others; longer counts from 1.05 on, since two
sessions of one file lie up to 4 % apart by themselves.

| architecture | tool | nodes | bytes | difference | mlconv's time over it | lost |
|-|-|-|-|-|-|-|"""
Route = Literal["torch", "keras"]
TORCH = ("resnet18", "mobilenetv3_small_100", "efficientnet_b0", "convnext_tiny", "shufflenet_v2 (torchvision)", "bert (tiny)", "lstm", "gru")  # fmt: skip
KERAS = (
    "MobileNetV2",
    "MobileNetV3Small",
    "EfficientNetB0",
    "Transformer (MHA, GELU)",
    "LSTM",
    "U-Net, dynamic size",
)
EXPLAINED: dict[tuple[str, str], str] = {
    (
        "convnext_tiny",
        "nodes",
    ): "torch's dynamo exporter computes the axes of the last mean while the model runs",
}
"""Why a measure is lost, by architecture and measure."""


# ------------------------------------------------------------------ comparing


def _compared(
    reference: Reference, folder: Path, exporters: dict[str, Callable[[str], None]]
) -> dict[str, Made]:
    import onnxslim

    ours = folder / "mlconv.onnx"
    made = {"mlconv": _looked_at(reference, ours, None)}
    for name, export in exporters.items():
        plain, slim = folder / f"{name}.onnx", folder / f"{name}-slim.onnx"
        made[name] = _attempted(export, plain, reference, ours)
        if not made[name].fails:
            slimmed = functools.partial(onnxslim.slim, str(plain))
            made[f"{name} + onnxslim"] = _attempted(slimmed, slim, reference, ours)
    return made


def _attempted(write: Callable[[Any], Any], path: Path, reference: Reference, ours: Path) -> Made:
    try:
        write(str(path))
        return _looked_at(reference, path, ours)
    except Exception as error:  # noqa: BLE001  a row of the table, whatever an exporter raises
        told = " ".join(str(error).replace(f"{path.parent}/", "").split())
        return Made(f"{type(error).__name__}: {told[:120]}")


def _looked_at(reference: Reference, model: Path, ours: Path | None) -> Made:
    import onnx

    from mlconv.runners.onnx_session import OnnxSession

    session = OnnxSession(model, threads=1)
    found = list(session.run(bound([spec.name for spec in session.inputs], reference.feeds)).values())
    if [array.shape for array in found] != [array.shape for array in reference.outputs]:
        raise ValueError("its outputs have other shapes at another batch")
    greatest = max(float(np.abs(array).max(initial=0.0)) for array in reference.outputs)
    worst = max(float(np.abs(a - b).max(initial=0.0)) for a, b in zip(reference.outputs, found, strict=True))
    slower = (
        None if ours is None else paired.compare(_timed(ours, reference), _timed(model, reference), 1, 5.0)
    )
    data = model.with_name(f"{model.name}.data")
    size = model.stat().st_size + (data.stat().st_size if data.is_file() else 0)
    return Made(
        "", len(onnx.load(model, load_external_data=False).graph.node), size, worst / greatest, slower
    )


def _timed(model: Path, reference: Reference) -> Callable[[], object]:
    from mlconv.runners.onnx_session import OnnxSession

    session = OnnxSession(model, threads=1)
    names = [spec.name for spec in session.inputs]
    session.close()
    return paired.by_onnxruntime(model, list(bound(names, reference.timed).values()), 1)


# ------------------------------------------------------------------ the command


def one(route: Route, name: str) -> dict[str, Made]:
    """Measured in a process of its own."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    warnings.simplefilter("ignore")
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
    ):
        reference, exporters = (torch_exporters if route == "torch" else keras_exporters)(name, Path(folder))
        return _compared(reference, Path(folder), exporters)


def row(route: Route, name: str, made: Mapping[str, Made]) -> tuple[str, bool]:
    """A line for mlconv, one for each other tool, and whether something is lost that nothing explains."""
    losses = lost(made)
    reasons = {measure: EXPLAINED.get((name, measure), "") for measure in losses}
    verdict = (
        "; ".join(
            f"{measure}: {told}{f' ({reasons[measure]})' if reasons[measure] else ''}"
            for measure, told in losses.items()
        )
        or "nothing"
    )
    lines = []
    for tool, graph in made.items():
        head = f"{name} ({route})" if tool == "mlconv" else ""
        if graph.fails:
            lines.append(f"| {head} | {tool} | {graph.fails} | | | | |")
            continue
        end = verdict if tool == "mlconv" else ""
        lines.append(
            f"| {head} | {tool} | {graph.nodes} | {graph.size_bytes:,} | {graph.difference:.1e} | {graph.slower or '-'} | {end} |"
        )
    return "\n".join(lines).replace("_bytes", ""), any(not reason for reason in reasons.values())


def main(names: list[str]) -> int:
    """Print the table row by row."""
    print(HEAD.format(machine=machine(PACKAGES)))
    unexplained = False
    routes: list[tuple[Route, tuple[str, ...]]] = [("torch", TORCH), ("keras", KERAS)]
    for route, architectures in routes:
        for name in architectures:
            if names and name not in names:
                continue
            try:
                text, loses = row(route, name, isolated(one, route, name))
            except Failed as failed:
                text, loses = f"| {name} ({route}) | | {failed} | | | | |", False
            unexplained |= loses
            print(text, flush=True)
    return int(unexplained)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
