"""Every public model of the index: what `mlconv onnx` makes of it, as a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

RunCli = Callable[..., Any]

CONVERTS = {
    # TFLite, float and quantized
    "m001", "m020", "m021", "m023", "m024", "m035", "m036", "m074", "m077", "m267", "m292", "cmobi52", "ctf2_53",
    # Keras 2 and 3, also HDF5 under the suffix .keras
    "m019", "m159", "m291", "m319",
    # SavedModel and GraphDef
    "m022", "m261", "m265", "m282",
    # ONNX, among them what the checker refuses and runtimes accept
    "m122", "m123", "m127", "m139", "m141", "m148", "m155", "m172", "m188", "m189", "m198", "m207", "m236", "m256",
    # PyTorch
    "m312", "m313", "m321", "m322",
}  # fmt: skip
SHOWS_NOTHING = {"m036", "m189"}
"""On noise, an LSTM's 8-bit scores do not move at all; m189 has no elements."""
REFUSED = {
    "m002": "MLC107", "m011": "MLC107",                    # compiled for the Edge TPU
    "m081": "MLC214",                                      # a custom operator
    "m075": "MLC215", "m279": "MLC215",                    # strings
    "m068": "MLC103", "m087": "MLC103", "m165": "MLC103",  # no models
    "m124": "MLC012", "m129": "MLC012", "m156": "MLC012", "m201": "MLC012",  # weights without a module
    "m128": "MLC105", "m269": "MLC105",                    # Core ML
    "m175": "MLC214",                                      # an operator that is defined nowhere
}  # fmt: skip
OPTIONS = {"m313": ["--input", "1,10"], "m312": ["--input", "1,1000"]}


@pytest.fixture(scope="module")
def index(models: Path) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in json.loads((models / "index.json").read_text())}


def path_of(models: Path, row: dict[str, Any]) -> Path:
    path = models / row["local"]
    return path / "model.onnx" if row["format"] == "onnx" and path.is_dir() else path


def test_the_table_knows_every_public_model(index: dict[str, dict[str, Any]]) -> None:
    assert {*CONVERTS, *REFUSED} == index.keys()


@pytest.mark.parametrize("name", sorted(CONVERTS))
def test_a_public_model_converts_and_agrees(
    name: str, index: dict[str, dict[str, Any]], models: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    ran = run_cli(
        "--json", "onnx", path_of(models, index[name]), "-o", tmp_path / "out.onnx", *OPTIONS.get(name, [])
    )
    assert ran.code == 0, ran
    parity = ran.document["checks"]["parity"]
    assert parity["ok"] is True
    assert parity["informative"] is (name not in SHOWS_NOTHING)
    assert (tmp_path / "out.onnx").stat().st_size == ran.document["artifact"]["bytes"]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_public_model_that_cannot_convert_says_why(
    name: str, index: dict[str, dict[str, Any]], models: Path, run_cli: RunCli, tmp_path: Path
) -> None:
    ran = run_cli("--json", "onnx", path_of(models, index[name]), "-o", tmp_path / "out.onnx")
    assert ran.document["id"] == REFUSED[name], ran
    assert list(tmp_path.iterdir()) == []
