"""`mlconv demo`: the main job end to end, on a classifier of handwritten digits that the project trained itself.

Each source is measured on held-out digits, converted, checked, compared with its source, and the artifact is
measured on the same digits. What is not installed is shown as skipped, with the command that installs it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlconv import registry, worker
from mlconv.checks.models import check_model, compare_models
from mlconv.checks.parity_words import difference
from mlconv.convert.job import Options
from mlconv.convert.pipeline import Call, convert
from mlconv.errors import MlconvError, OutputUnwritable, counted
from mlconv.formats import ModelFile
from mlconv.jsonable import to_json
from mlconv.model import identify
from mlconv.result import Checked, Compared
from mlconv.tensors import TensorSpec

HERE = Path(__file__).parent
TEST_SET = HERE / "digits-test.npz"
HELD_OUT = 360
"""Digits in it. One that lies between two classes may be named otherwise: an artifact is that much worse and no more."""
SOURCES = ("digits.onnx", "digits.tflite", "digits-int8.tflite", "digits.pt2", "digits.keras")


@dataclass(frozen=True, slots=True)
class Shown:
    """One source, end to end.

    Attributes:
        ok: None where it was skipped, since something is not installed.
        source_accuracy, artifact_accuracy: Shares of the held-out digits that were named rightly.
        install: What to type where it was skipped.
    """

    name: str
    ok: bool | None
    detail: str
    source_accuracy: float | None = None
    artifact_accuracy: float | None = None
    seconds: float = 0.0
    install: str | None = None


@dataclass(frozen=True, slots=True)
class Demo:
    """``mlconv.demo/1``."""

    folder: str
    steps: tuple[Shown, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Something was shown, and nothing of it failed."""
        return any(step.ok for step in self.steps) and not any(step.ok is False for step in self.steps)

    def to_json(self) -> dict[str, Any]:
        return {"schema": "mlconv.demo/1", "ok": self.ok, "folder": self.folder, "steps": to_json(self.steps), "warnings": [],
                "seconds": round(self.seconds, 3)}  # fmt: skip

    def text(self) -> str:
        lines = [
            f"{'source'.ljust(20)} {'accuracy'.rjust(9)} {'as ONNX'.rjust(9)} {'time'.rjust(7)}  evidence"
        ]
        for step in self.steps:
            seconds = f"{step.seconds:.1f} s" if step.ok is not None else "-"
            shares = [
                ("-" if share is None else f"{100 * share:.1f} %").rjust(9)
                for share in (step.source_accuracy, step.artifact_accuracy)
            ]
            lines.append(f"{step.name.ljust(20)} {shares[0]} {shares[1]} {seconds.rjust(7)}  {step.detail}")
            lines += [f"{' ' * 50}{step.install}"] if step.install else []
        return "\n".join([*lines, f"files: {self.folder}"])


def run(folder: str, listener: worker.Listener) -> Demo:
    """Show every source that the installed frameworks can run.

    Raises:
        OutputUnwritable: The folder cannot be made.
    """
    start = time.perf_counter()
    place = Path(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputUnwritable(
            f"the folder `{folder}` cannot be made", why=str(error), fix="mlconv demo FOLDER"
        ) from error
    return Demo(folder, tuple(_show(name, place, listener) for name in SOURCES), time.perf_counter() - start)


def _show(name: str, folder: Path, listener: worker.Listener) -> Shown:
    start = time.perf_counter()
    listener(f"measuring, converting and checking {name}")
    model = identify(str(HERE / name))
    missing = _missing(model)
    if missing is not None:
        return Shown(name, None, f"skipped: needs {missing[0]}", install=missing[1])
    output = folder / f"{name.replace('.', '-')}.onnx"
    try:
        before = accuracy(model)
        call = Call(str(output), force=True)
        conversion = convert(
            str(HERE / name), "onnx", Options(metadata=(("demo", "handwritten digits"),)), call
        )
        if conversion.failure is not None:
            return Shown(name, False, conversion.failure.what, before, None, time.perf_counter() - start)
        checked = check_model(str(output), Options(), worker.Limits(), worker.silent)
        compared = compare_models(
            str(HERE / name), str(output), Options(), (), worker.Limits(), worker.silent
        )
        after = accuracy(identify(str(output)), conversion.source.inputs[0])
    except MlconvError as error:
        return Shown(name, False, f"error[{error.id}]: {error.what}", seconds=time.perf_counter() - start)
    ok, detail = _evidence(checked, compared, before, after)
    operators = counted(conversion.artifact.operators, "operator")
    return Shown(name, ok, f"{operators}, {detail}", before, after, time.perf_counter() - start)


def _evidence(checked: Checked, compared: Compared, before: float, after: float) -> tuple[bool, str]:
    """Whether check, comparison and accuracy hold, and the same in words."""
    lost = round((before - after) * HELD_OUT)
    told = [
        "sound" if checked.ok else "NOT sound",
        difference(compared.parity["outputs"][0])
        if compared.failure is None
        else f"NOT the same: {compared.failure.what}",
    ]
    told += [f"names {lost} digits FEWER rightly"] if lost > 1 else []
    return checked.ok and compared.ok and lost <= 1, ", ".join(told)


def _missing(model: ModelFile) -> tuple[str, str] | None:
    """What this source still needs, and the command that brings it."""
    needed = [
        *registry.routes(model.format, "onnx")[0],
        registry.runner_for(model.format),
        registry.runner_for("onnx"),
    ]
    for value in needed:
        if value is not None and value.missing():
            return ", ".join(value.missing()).replace("|", " or "), value.install
    return None


def accuracy(model: ModelFile, like: TensorSpec | None = None) -> float:
    """Share of the held-out digits that a model names rightly, run in its own runtime.

    Args:
        like: The input of the model that this one was made from: ONNX does not tell an integer input's scale.

    Raises:
        MlconvError: It cannot be run.
    """
    from mlconv.checks.jobs import Side

    spec = registry.runner_for(model.format)
    assert spec is not None
    with worker.start(python=spec.interpreter()) as started:
        payload = {
            "side": to_json(Side(model, Options(), spec.open)),
            "data": str(TEST_SET),
            "like": to_json(like),
        }
        return float(started.run("mlconv.demo.measure:accuracy", payload))
