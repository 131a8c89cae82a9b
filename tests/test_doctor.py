"""What `mlconv doctor` finds, on machines that are made up."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from mlconv import doctor, registry, tested

VERSIONS = {"numpy": "2.4.6", "onnx": "1.23.2", "onnxruntime": "1.31.1"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Change it to change what is installed."""
    versions = dict(VERSIONS)
    monkeypatch.setattr(doctor, "version", versions.get)
    monkeypatch.setattr(importlib.metadata, "files", _no_files)
    for name in [name for name in __import__("os").environ if name.startswith("MLCONV_PYTHON_")]:
        monkeypatch.delenv(name)
    return versions


def _no_files(name: str) -> list[str]:
    raise importlib.metadata.PackageNotFoundError(name)


def problems() -> list[str]:
    return [problem.what for problem in doctor.diagnose().problems if problem.blocking]


@pytest.mark.usefixtures("installed")
def test_a_sound_machine_has_no_problem() -> None:
    diagnosis = doctor.diagnose()
    assert diagnosis.ok
    assert diagnosis.to_json(0.0)["packages"][0] == {
        "name": "onnx",
        "version": "1.23.2",
        "needed_for": "every conversion",
    }


def test_two_runtimes_in_one_folder_are_found(installed: dict[str, str]) -> None:
    installed["onnxruntime-gpu"] = "1.31.1"
    assert problems() == [
        "onnxruntime and onnxruntime-gpu are both installed, and share one folder: CUDA may be gone"
    ]


def test_two_tensorflows_in_one_folder_are_found(installed: dict[str, str]) -> None:
    installed |= {"tensorflow": "2.21.0", "tensorflow-cpu": "2.21.0"}
    assert "share one folder" in problems()[0]


def test_a_tflite_runtime_that_its_numpy_breaks_is_found_unless_litert_is_there(
    installed: dict[str, str],
) -> None:
    installed["tflite-runtime"] = "2.14.0"
    assert problems() == ["tflite-runtime needs numpy below 2, and 2.4.6 is installed"]
    installed["ai-edge-litert"] = "2.3.0"
    assert problems() == []


@pytest.mark.usefixtures("installed")
def test_the_pycoral_of_coral_reefs_is_told_from_google_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [Path("pycoral/reef.py")])
    assert problems() == [
        "the installed `pycoral` is not Google's: PyPI's package of that name is about coral reefs"
    ]
    monkeypatch.setattr(importlib.metadata, "files", lambda _: [Path("pycoral/utils/edgetpu.py")])
    assert problems() == []


@pytest.mark.usefixtures("installed")
def test_an_interpreter_that_cannot_be_executed_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLCONV_PYTHON_TORCH", str(tmp_path / "python"))
    assert "MLCONV_PYTHON_TORCH names" in problems()[0]


@pytest.mark.usefixtures("installed")
def test_a_plugin_that_cannot_be_loaded_is_a_note_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = registry.BrokenPlugin("paddle", "mlconv-paddle", "ImportError: no paddle")
    monkeypatch.setattr(registry, "broken_plugins", lambda: (plugin,))
    diagnosis = doctor.diagnose()
    assert diagnosis.ok
    assert "mlconv-paddle" in diagnosis.text()


def test_no_runtime_is_a_note(installed: dict[str, str]) -> None:
    del installed["onnxruntime"]
    assert "pip install 'mlconv[cpu]'" in doctor.diagnose().text()


def test_a_version_that_was_never_tested_is_named_and_is_no_failure(installed: dict[str, str]) -> None:
    installed |= {"torch": "2.99.0+cu130", "onnxruntime": "1.31.1+local"}
    diagnosis = doctor.diagnose()
    assert diagnosis.ok
    assert [(p.what, p.fix) for p in diagnosis.problems] == [
        (
            "tested with torch 2.13.0; yours is 2.99.0+cu130",
            "should a conversion fail: pip install torch==2.13.0",
        ),
    ]
    assert diagnosis.to_json(0.0)["warnings"] == [
        "tested with torch 2.13.0; yours is 2.99.0+cu130; should a conversion fail: pip install torch==2.13.0"
    ]


def test_tested_versions_are_those_of_the_constraints() -> None:
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {_plain(name): version for name, _, version in (line.partition("==") for line in lines)}
    assert {_plain(name): version for name, version in tested.TESTED.items()} == {
        _plain(name): pinned.get(_plain(name)) for name in doctor.PACKAGES if _plain(name) in pinned
    }


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
