"""Reading hostile files and writing large ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.convert.onnx_models import model, node, residual

from mlconv.convert.onnx_graph import file as onnx_file
from mlconv.convert.onnx_graph.file import load, save
from mlconv.errors import Corrupt, ExternalDataMissing, PathEscape
from mlconv.runners.onnx_session import OnnxSession


def external(path: Path, location: str, length: int = 16, offset: int = 0) -> Path:
    proto = model(
        [node("Add", ["x", "w"], ["y"])], {"x": [4]}, {"y": [4]}, {"w": np.arange(4, dtype=np.float32)}
    )
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": str(offset), "length": str(length)}.items():
        tensor.external_data.add(key=key, value=value)
    path.write_bytes(proto.SerializeToString())
    return path


def test_bytes_that_are_no_model_are_corrupt(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(Corrupt, match=r"m\.onnx"):
        load(tmp_path / "m.onnx")


def test_a_model_without_a_graph_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())
    with pytest.raises(Corrupt, match="no graph"):
        load(tmp_path / "m.onnx")


@pytest.mark.parametrize("location", ["../w.bin", "/etc/hostname", "sub/../../w.bin", "link.bin"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(PathEscape, match="outside the model's folder"):
        load(external(folder / "m.onnx", location))


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExternalDataMissing, match=r"gone\.bin"):
        load(external(tmp_path / "m.onnx", "gone.bin"))


def test_external_data_that_ends_too_early_is_missing(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(8))
    with pytest.raises(ExternalDataMissing, match="ends before"):
        load(external(tmp_path / "m.onnx", "w.bin"))


def test_external_data_at_an_offset_comes_into_the_file(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(12) + np.array([1, 2, 3, 4], np.float32).tobytes())
    written = save(load(external(tmp_path / "m.onnx", "w.bin", offset=12)), tmp_path / "n.onnx")
    assert written == (tmp_path / "n.onnx",)
    (tmp_path / "w.bin").unlink()
    np.testing.assert_array_equal(
        OnnxSession(tmp_path / "n.onnx").run({"x": np.zeros(4, np.float32)})["y"], [1, 2, 3, 4]
    )


def test_weights_beyond_the_limit_go_to_one_file_named_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_file, "SINGLE_FILE_BYTES", 2000)
    (tmp_path / "m.onnx").write_bytes(residual().SerializeToString())
    path, data = save(load(tmp_path / "m.onnx"), tmp_path / "big.onnx")
    assert data.name == f"big.{hashlib.sha256(data.read_bytes()).hexdigest()[:8]}.data"
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(["m.onnx", path.name, data.name])
    x = np.ones((1, 3, 8, 8), np.float32)
    expected = OnnxSession(tmp_path / "m.onnx").run({"x": x})
    np.testing.assert_array_equal(OnnxSession(path).run({"x": x})["y"], expected["y"])
    onnx.checker.check_model(str(path), full_check=True)


def test_small_tensors_stay_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "SINGLE_FILE_BYTES", 2000)
    (tmp_path / "m.onnx").write_bytes(residual().SerializeToString())
    path, _ = save(load(tmp_path / "m.onnx"), tmp_path / "big.onnx")
    kept = [
        t.name
        for t in onnx.load(path, load_external_data=False).graph.initializer
        if t.data_location != t.EXTERNAL
    ]
    assert kept == ["w1", "b1", "w2", "b2", "b3"]  # 432, 16, 576, 16 and 20 bytes; w3 has 5,120


def test_sparse_weights_become_dense(tmp_path: Path) -> None:
    values = numpy_helper.from_array(np.array([5, 7], np.float32), "w")
    sparse = helper.make_sparse_tensor(values, numpy_helper.from_array(np.array([1, 3], np.int64), "i"), [4])
    proto = model([node("Add", ["x", "w"], ["y"])], {"x": [4]}, {"y": [4]})
    proto.graph.sparse_initializer.append(sparse)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    save(load(tmp_path / "m.onnx"), tmp_path / "n.onnx")
    np.testing.assert_array_equal(
        OnnxSession(tmp_path / "n.onnx").run({"x": np.zeros(4, np.float32)})["y"], [0, 5, 0, 7]
    )


def test_strings_are_kept(tmp_path: Path) -> None:
    proto = model([node("Identity", ["s"], ["y"])], {}, {"y": [2]})
    proto.graph.initializer.append(numpy_helper.from_array(np.array(["katze", "hund"], object), "s"))
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.STRING
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    save(load(tmp_path / "m.onnx"), tmp_path / "n.onnx")
    assert OnnxSession(tmp_path / "n.onnx").run({})["y"].tolist() == ["katze", "hund"]


def test_a_graph_that_is_a_circle_is_corrupt(tmp_path: Path) -> None:
    circle = model(
        [node("Relu", ["a"], ["b"]), node("Relu", ["b"], ["a"]), node("Add", ["x", "a"], ["y"])],
        {"x": [2]},
        {"y": [2]},
    )
    (tmp_path / "m.onnx").write_bytes(circle.SerializeToString())
    with pytest.raises(Corrupt, match="contradicts itself"):
        load(tmp_path / "m.onnx")
