"""What the tests share: public models, the command, and skips that name what is missing."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND_SECONDS = 600

# Frameworks read these once, at their import: TensorFlow's notes would drown a failing test's own words.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@dataclass(frozen=True, slots=True)
class Ran:
    """One run of the command: the exit code and both streams as text."""

    args: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be under --json."""
        loaded = json.loads(self.out)
        assert isinstance(loaded, dict), self
        return loaded

    def __str__(self) -> str:
        return (
            f"mlconv {' '.join(self.args)}\nexit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
        )


RunCli = Callable[..., Ran]


@pytest.fixture(scope="session")
def run_cli(tmp_path_factory: pytest.TempPathFactory) -> RunCli:
    """``run_cli(*args, cwd=..., env=..., stdin=...)`` runs ``python -m mlconv`` in a child, in an empty folder unless told."""

    def run(
        *args: str | Path,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: str | None = None,
    ) -> Ran:
        words = tuple(str(arg) for arg in args)
        done = subprocess.run(
            [sys.executable, "-m", "mlconv", *words],
            cwd=cwd or tmp_path_factory.mktemp("cwd"),
            env=os.environ | (env or {}),
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        return Ran(words, done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def models() -> Path:
    """The folder of public models."""
    return _folder("MLCONV_TEST_MODELS", "models", "index.json")


@pytest.fixture(scope="session")
def edgetpu() -> Path:
    """The folder of models before and after Google's Edge TPU compiler."""
    return _folder("MLCONV_TEST_EDGETPU", "edgetpu", "pairs.json")


def _folder(variable: str, name: str, witness: str) -> Path:
    """``$variable``, else ``../shared/name`` beside the checkout; skips, or fails under MLCONV_REQUIRE_MODELS=1."""
    folder = Path(os.environ.get(variable) or ROOT.parent / "shared" / name)
    if (folder / witness).is_file():
        return folder
    reason = f"no {witness} in {folder}: set {variable} to the folder of test models"
    if os.environ.get("MLCONV_REQUIRE_MODELS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def needs() -> Callable[..., None]:
    """``needs("torch", "onnxscript")`` skips the test where one is not installed; none is imported to find out."""

    def skip_without(*frameworks: str) -> None:
        if missing := _missing(frameworks):
            pytest.skip(f"not installed: {', '.join(missing)}")

    return skip_without


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """``@pytest.mark.framework("torch")`` is `needs` as a marker, for a whole test, class or module."""
    for item in items:
        names = [str(name) for mark in item.iter_markers("framework") for name in mark.args]
        if missing := _missing(names):
            item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


def _missing(frameworks: Iterable[str]) -> list[str]:
    return [name for name in frameworks if importlib.util.find_spec(name) is None]
