"""ONNX files that are mended, and those that are refused for what they hold."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from tests.convert.onnx_models import model, node

from mlconv.convert.job import Job
from mlconv.errors import InvalidGraph
from mlconv.formats import ModelFile

pytestmark = pytest.mark.framework("onnxruntime")


def job(folder: Path, proto: onnx.ModelProto) -> Job:
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return Job(ModelFile("net.onnx", path, "onnx"), "onnx", folder / "out.onnx", folder)


def test_a_domain_without_an_import_is_imported_and_told(tmp_path: Path) -> None:
    from mlconv.convert.onnx_to_onnx import run

    nodes = [node("Neg", ["x"], ["n"]), node("Gelu", ["n"], ["y"], domain="com.microsoft")]
    asked = job(tmp_path, model(nodes, {"x": [1, 4]}, {"y": [1, 4]}))
    converted = run(asked)
    imports = {entry.domain: entry.version for entry in onnx.load(asked.output).opset_import}
    assert imports["com.microsoft"] == 1
    assert "no opset of `com.microsoft` was imported; the artifact imports version 1" in converted.warnings


def test_a_value_that_nothing_makes_is_named(tmp_path: Path) -> None:
    from mlconv.convert.onnx_to_onnx import run

    asked = job(tmp_path, model([node("Add", ["x", "lost"], ["y"])], {"x": [1, 4]}, {"y": [1, 4]}))
    with pytest.raises(InvalidGraph, match="nothing makes `lost`"):
        run(asked)


def test_an_output_that_nothing_makes_is_named(tmp_path: Path) -> None:
    from mlconv.convert.onnx_to_onnx import run

    asked = job(tmp_path, model([node("Neg", ["x"], ["z"])], {"x": [1, 4]}, {"y": [1, 4]}))
    with pytest.raises(InvalidGraph, match="nothing makes `y`"):
        run(asked)
