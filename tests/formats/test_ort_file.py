"""ORT files written by ONNX Runtime say what the ONNX models that they were made from say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mlconv.errors import Corrupt, InputError, UnknownSignature
from mlconv.formats import Description, ModelFile, onnx_file, ort_file

Mutations = Callable[[bytes], Iterator[bytes]]

IRIS = "microsoft_Windows-Machine-Learning/Samples__Tutorial_Samples__PyTorch_Data_Analysis__PyTorch_Training_-_Data_Analysis__Network.onnx"
SOURCES = (
    IRIS,
    "xboot_libonnx/tests__node__test_loop11/model.onnx",
    "xboot_libonnx/tests__node__test_qlinearconv/model.onnx",
)


@pytest.fixture
def ort(models: Path, needs: Callable[..., None], tmp_path: Path) -> Callable[[str], Path]:
    """``ort(name)``: a public ONNX model in ORT format, its graph unchanged."""
    needs("onnxruntime")
    import onnxruntime

    def convert(name: str) -> Path:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "m.ort")
        options.add_session_config_entry("session.save_model_format", "ORT")
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        onnxruntime.InferenceSession(str(models / name), options, providers=["CPUExecutionProvider"])
        return tmp_path / "m.ort"

    return convert


def describe(path: Path) -> Description:
    return ort_file.describe(ModelFile(str(path), path, "ort"))


@pytest.mark.parametrize("name", SOURCES)
def test_a_converted_model_says_what_its_source_says(
    name: str, ort: Callable[[str], Path], models: Path
) -> None:
    path = ort(name)
    assert ort_file.is_ort(path.read_bytes()[:8])
    source, told = onnx_file.describe(ModelFile(name, models / name, "onnx")), describe(path)
    assert (told.inputs, told.outputs, told.opset) == (source.inputs, source.outputs, source.opset)
    constants = source.operators.pop("Constant", 0)  # ONNX Runtime turns them into initializers
    assert constants in (0, 2)
    assert told.operators == source.operators
    assert (told.parameters, told.macs, told.quantization) == (
        source.parameters,
        source.macs,
        source.quantization,
    )
    assert told.metadata["ir_version"] == source.metadata["ir_version"]
    assert told.bytes == path.stat().st_size


def test_a_signature_is_refused(ort: Callable[[str], Path]) -> None:
    with pytest.raises(UnknownSignature):
        ort_file.describe(ModelFile("m", ort(IRIS), "ort"), "main")


@pytest.mark.parametrize("data", [b"", b"\x08\0\0\0ORTM", b"\0\0\0\0ORTM" + b"\0" * 64, b"\x08\0\0\0TFL3"])
def test_what_is_no_model_is_corrupt(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.ort").write_bytes(data)
    with pytest.raises(Corrupt):
        describe(tmp_path / "m.ort")


@pytest.mark.parametrize("name", SOURCES[:2])
def test_hostile_bytes_are_described_or_refused(
    name: str, ort: Callable[[str], Path], mutations: Mutations
) -> None:
    path, refused = ort(name), 0
    for data in mutations(path.read_bytes()):
        path.write_bytes(data)
        try:
            describe(path)
        except InputError:
            refused += 1
    assert refused
