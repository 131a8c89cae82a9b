"""What is installed here, what clashes, and what to type about it; nothing is imported to find out."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlconv import paths, registry, tested
from mlconv.jsonable import to_json

PACKAGES = {
    "onnx": "every conversion", "numpy": "every conversion", "onnxruntime": "running ONNX models",
    "onnxruntime-gpu": "running ONNX models on a GPU", "onnxslim": "simplifying ONNX graphs", "onnx_ir": "ONNX graphs",
    "torch": "PyTorch sources", "onnxscript": "PyTorch sources", "safetensors": "PyTorch weights",
    "tensorflow": "TensorFlow sources", "tensorflow-cpu": "TensorFlow sources", "keras": "Keras sources",
    "tf_keras": "Keras 2 sources", "tf2onnx": "TensorFlow and TFLite sources", "ai-edge-litert": "running TFLite models",
    "tflite-runtime": "running TFLite models", "coremltools": "Core ML", "typer": "the command line",
    "h5py": "Keras files", "psutil": "the worker's limits", "pillow": "pictures as inputs",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Package:
    """One distribution; ``version`` is None where it is not installed."""

    name: str
    version: str | None
    needed_for: str


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not fit, and the command that mends it. ``blocking`` problems are exit 5."""

    what: str
    fix: str
    blocking: bool = True


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """``mlconv.doctor/1``."""

    packages: tuple[Package, ...]
    problems: tuple[Problem, ...]
    interpreters: dict[str, str]
    machine: dict[str, int]

    @property
    def ok(self) -> bool:
        return not any(problem.blocking for problem in self.problems)

    def to_json(self, seconds: float) -> dict[str, Any]:
        hints = [problem for problem in self.problems if not problem.blocking]
        return {
            "schema": "mlconv.doctor/1", "ok": self.ok, "python": platform.python_version(), "platform": platform.platform(),
            "machine": self.machine, "packages": to_json(self.packages),
            "problems": [{"what": problem.what, "fix": problem.fix} for problem in self.problems if problem.blocking],
            "interpreters": self.interpreters, "cache": str(paths.cache_folder()),
            "warnings": [f"{problem.what}; {problem.fix}" for problem in hints], "seconds": round(seconds, 3),
        }  # fmt: skip

    def text(self) -> str:
        lines = [f"Python {platform.python_version()} on {platform.platform()}",
                 f"{self.machine['cores']} cores, {self.machine['memory_bytes'] / 2**30:.1f} GiB"]  # fmt: skip
        width = max(len(package.name) for package in self.packages)
        lines += [
            f"  {p.name.ljust(width)}  {(p.version or '-').ljust(12)}  {p.needed_for}" for p in self.packages
        ]
        lines += [f"  MLCONV_PYTHON_{name}: {path}" for name, path in self.interpreters.items()]
        for problem in self.problems:
            lines += [f"{'problem' if problem.blocking else 'note'}: {problem.what}", f"  {problem.fix}"]
        return "\n".join(lines)


def diagnose() -> Diagnosis:
    """Look at the installed distributions, the interpreters that were named, and the plugins."""
    import psutil

    versions = {name: version(name) for name in PACKAGES}
    packages = tuple(Package(name, versions[name], use) for name, use in PACKAGES.items())
    interpreters = {name.removeprefix("MLCONV_PYTHON_"): path for name, path in os.environ.items()
                    if name.startswith("MLCONV_PYTHON_") and path}  # fmt: skip
    machine = {"cores": os.cpu_count() or 1, "memory_bytes": int(psutil.virtual_memory().total)}
    return Diagnosis(
        packages,
        (*_problems(versions), *_pycoral(), *_interpreters(interpreters), *_plugins(), *_untested(versions)),
        interpreters,
        machine,
    )


def version(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _problems(versions: dict[str, str | None]) -> list[Problem]:
    found = []
    if versions["onnxruntime"] and versions["onnxruntime-gpu"]:
        found.append(Problem("onnxruntime and onnxruntime-gpu are both installed, and share one folder: CUDA may be gone",
                             "pip uninstall onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"))  # fmt: skip
    if versions["tensorflow"] and versions["tensorflow-cpu"]:
        found.append(Problem("tensorflow and tensorflow-cpu are both installed, and share one folder",
                             "pip uninstall tensorflow tensorflow-cpu && pip install tensorflow"))  # fmt: skip
    numpy = versions["numpy"]
    if versions["tflite-runtime"] and numpy and int(numpy.split(".")[0]) >= 2:
        found.append(Problem(f"tflite-runtime needs numpy below 2, and {numpy} is installed",
                             "pip install ai-edge-litert, its successor", blocking=versions["ai-edge-litert"] is None))  # fmt: skip
    if not versions["onnxruntime"] and not versions["onnxruntime-gpu"]:
        found.append(
            Problem("no onnxruntime: nothing can be checked", "pip install 'mlconv[cpu]'", blocking=False)
        )
    return found


def _pycoral() -> list[Problem]:
    """PyPI's `pycoral` is a tool for coral reefs; Google's library of that name was never published there."""
    try:
        files = importlib.metadata.files("pycoral") or []
    except importlib.metadata.PackageNotFoundError:
        return []
    if any(str(file).endswith("utils/edgetpu.py") for file in files):
        return []
    return [Problem("the installed `pycoral` is not Google's: PyPI's package of that name is about coral reefs",
                    "pip uninstall pycoral, and install Google's from https://coral.ai/software")]  # fmt: skip


def _interpreters(named: dict[str, str]) -> list[Problem]:
    return [Problem(f"MLCONV_PYTHON_{name} names `{path}`, which cannot be executed", f"unset MLCONV_PYTHON_{name}, or mend it")
            for name, path in named.items() if not os.access(path, os.X_OK)]  # fmt: skip


def _untested(versions: dict[str, str | None]) -> list[Problem]:
    """Versions that the test suite never ran with. They may do; one who meets a failure should know."""
    return [
        Problem(what, f"should a conversion fail: pip install {name}=={version}", blocking=False)
        for what, (name, version) in zip(
            tested.told(versions), tested.untested(versions).items(), strict=True
        )
    ]


def _plugins() -> list[Problem]:
    return [Problem(f"the plugin `{plugin.name}` of {plugin.distribution} cannot be loaded: {plugin.reason}",
                    f"{Path(sys.executable).name} -m pip install -U {plugin.distribution}, or MLCONV_PLUGINS=off", blocking=False)
            for plugin in registry.broken_plugins()]  # fmt: skip
