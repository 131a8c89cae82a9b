"""What 8-bit files answer on x86 without VNNI, emulated by qemu: a Markdown table.

    python -m benchmarks.saturation [NAME ...] > benchmarks/results/saturation.md        (make saturation)

Each quantized TFLite file is converted for processors with VNNI and as ``--target-isa portable``. LiteRT's answers are
computed natively and stored; onnxruntime then runs both files on an emulated Haswell (AVX2, no VNNI), where a product of
unsigned by signed bytes saturates, without and with ``session.x64quantprecision``. Figures are steps of integer outputs
(LSB), or differences of float ones by the greatest magnitude. Needs ``qemu-x86_64-static``, of Debian's qemu-user-static.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from benchmarks import tflite_figures
from benchmarks.machine import machine
from benchmarks.tflite_sources import Fed, Source, feeds_of, folders, sources, specs_of

from mlconv.errors import MlconvError
from mlconv.formats import tflite_read

INSIDE = Path(__file__).with_name("saturation_inside.py")
QEMU = "qemu-x86_64-static"
PROCESSOR = "Haswell"
"""The first with AVX2; qemu's model of it has no VNNI."""
RUNS = 3
HEAD = """# 8-bit files on x86 without VNNI

`python -m benchmarks.saturation`; {qemu}; {machine}

How far onnxruntime on an emulated Haswell lies from LiteRT on this machine: steps of integer outputs, or differences of float ones
by the greatest magnitude, over pictures and extremes. `default` is the file that is written on a processor with VNNI, run as it
is and with `session.x64quantprecision`, which mlconv's runner sets where it finds that products saturate; `portable` is the file
of `--target-isa portable`, run as it is.

| file | default | default, x64quantprecision | portable |
|-|-|-|-|"""
SECONDS = 900


@dataclass(frozen=True, slots=True)
class Saturated:
    """How far onnxruntime's answers lie from LiteRT's on the emulated processor.

    Attributes:
        plain: The file that is written by default on a processor with VNNI, run as it is.
        precise: The same file with ``session.x64quantprecision``, which mlconv's runner sets there.
        portable: The file of ``--target-isa portable``, run as it is.

    Words tell why onnxruntime refuses.
    """

    plain: float | str
    precise: float | str
    portable: float | str


def store(fed: Sequence[Fed], answers: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Feeds and answers as ``saturation_inside`` reads them."""
    arrays = {"runs": np.array(len(fed))}
    for run, (one, given) in enumerate(zip(fed, answers, strict=True)):
        arrays |= {f"in{run}_{number}": array for number, array in enumerate(one.feeds.values())}
        arrays |= {f"out{run}_{number}": array for number, array in enumerate(given)}
    np.savez(path, allow_pickle=False, **arrays)


def emulated(stored: Path, models: Sequence[Path]) -> dict[str, dict[str, float | str]]:
    """What ``saturation_inside`` told of each model on the emulated processor.

    Raises:
        RuntimeError: It died there.
    """
    command = [
        QEMU,
        "-cpu",
        PROCESSOR,
        sys.executable,
        str(INSIDE),
        str(stored),
        *map(str, models),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip() and not line.startswith(QEMU)]
        raise RuntimeError(f"{PROCESSOR}: exit {done.returncode}: {said[-1][-300:] if said else 'no word'}")
    told: dict[str, dict[str, float | str]] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def measure(path: Path, folder: Path) -> Saturated:
    """Convert one file twice and run both on the emulated processor."""
    ours, theirs = (folder / isa for isa in ("vnni", "portable"))
    for place in (ours, theirs):
        place.mkdir()
    default = tflite_figures.convert(path, ours, target_isa="vnni")
    portable = tflite_figures.convert(path, theirs, target_isa="portable")
    fed = feeds_of(specs_of(path))
    fed = [*fed[: RUNS - 1], fed[-1]]
    stored = folder / "answers.npz"
    store(fed, tflite_figures.answers(path, fed), stored)
    told = emulated(stored, [default, portable])
    return Saturated(told[str(default)]["False"], told[str(default)]["True"], told[str(portable)]["False"])


def is_quantized(source: Source) -> bool:
    """Whether the file holds 8-bit convolutions or products at all."""
    model = tflite_read.read(source.path)
    return any(
        t.quantization is not None and t.dtype in ("int8", "uint8")
        for graph in model.subgraphs
        for t in graph.tensors
    )


def shown(figure: float | str) -> str:
    """A cell."""
    return f"{figure:.3g}" if isinstance(figure, float) else f"fails: {figure[-160:]}".replace("|", "\\|")


def _qemu() -> str:
    told = subprocess.run([QEMU, "--version"], capture_output=True, text=True, check=True).stdout
    return told.partition(" (")[0].splitlines()[0]


def main(names: list[str]) -> None:
    """Print a row as soon as it is known."""
    if shutil.which(QEMU) is None:
        sys.exit(f"{QEMU} is not installed: apt-get install qemu-user-static")
    print(HEAD.format(qemu=_qemu(), machine=machine(("mlconv", "ai-edge-litert", "onnxruntime", "numpy"))))
    for source in sources(*folders()):
        if (names and source.name not in names) or not is_quantized(source):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = measure(source.path, Path(folder))
                told = " | ".join(map(shown, (found.plain, found.precise, found.portable)))
            except MlconvError as error:
                told = f"{error.id}: {error.what.rpartition(': ')[2]} | | "
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                told = f"{str(error).splitlines()[0][:120]} | | "
        print(f"| {source.name} | {told} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
