"""Outputs: what may be replaced, how it is replaced, what a killed run leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlconv import output
from mlconv.errors import OutputExists, OutputIsSource, OutputUnwritable
from mlconv.formats import ModelFile


@pytest.fixture
def source(tmp_path: Path) -> ModelFile:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"source")
    return ModelFile(str(path), path, "torch-export")


def put(folder: Path, content: bytes, source: ModelFile, companions: dict[str, bytes] | None = None) -> Path:
    place = folder / "net.onnx"
    with output.scratch_beside(place) as scratch:
        made = [scratch / "net.onnx", *(scratch / name for name in companions or {})]
        for path, data in zip(made, (content, *(companions or {}).values()), strict=True):
            path.write_bytes(data)
        artifact = {"sha256": output.digest(made[0]), "files": [path.name for path in made]}
        record = {
            "artifact": artifact,
            "source": {"ref": source.ref, "sha256": output.digest(Path(source.ref))},
        }
        output.put(made, place, record)
    return place


def test_the_default_name_is_the_stem_and_the_suffix(source: ModelFile, tmp_path: Path) -> None:
    assert output.default_name(source, ".onnx") == "net.onnx"
    version = tmp_path / "mobilenet" / "0001"
    version.mkdir(parents=True)
    assert output.default_name(ModelFile("x", version, "saved-model"), ".onnx") == "mobilenet.onnx"
    assert output.default_name(ModelFile("a.onnx", Path("a.onnx"), "onnx"), ".onnx", 17) == "a.opset17.onnx"
    assert (
        output.default_name(ModelFile("timm.models:resnet18", None, "torch-module"), ".onnx") == "models.onnx"
    )


def test_an_existing_file_is_kept_without_force(source: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"old")
    with pytest.raises(OutputExists, match=r"net\.onnx` exists"):
        output.assert_free(tmp_path / "net.onnx", source, force=False)
    output.assert_free(tmp_path / "net.onnx", source, force=True)


def test_the_source_s_own_untouched_artifact_may_be_replaced(source: ModelFile, tmp_path: Path) -> None:
    place = put(tmp_path, b"artifact", source)
    output.assert_free(place, source, force=False)
    place.write_bytes(b"touched by hand")
    with pytest.raises(OutputExists):
        output.assert_free(place, source, force=False)


def test_another_source_s_artifact_is_kept(source: ModelFile, tmp_path: Path) -> None:
    place = put(tmp_path, b"artifact", source)
    other = tmp_path / "other.pt2"
    other.write_bytes(b"another")
    with pytest.raises(OutputExists):
        output.assert_free(place, ModelFile(str(other), other, "torch-export"), force=False)


def test_the_source_is_never_an_output(source: ModelFile, tmp_path: Path) -> None:
    assert source.path is not None
    (tmp_path / "link.pt2").symlink_to(source.path)
    for place in (source.path, tmp_path / "link.pt2", tmp_path / "." / "net.pt2"):
        with pytest.raises(OutputIsSource):
            output.assert_free(place, source, force=True)


def test_an_output_inside_a_source_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(OutputIsSource):
        output.assert_free(folder / "net.onnx", ModelFile("saved", folder, "saved-model"), force=False)


def test_a_folder_that_is_missing_or_taken_is_said(source: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="does not exist"):
        output.assert_free(tmp_path / "no" / "net.onnx", source, force=False)
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputExists, match="is a folder"):
        output.assert_free(tmp_path / "taken", source, force=True)


def test_nothing_but_the_artifact_and_its_record_is_left(source: ModelFile, tmp_path: Path) -> None:
    put(tmp_path, b"artifact", source)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.onnx.mlconv.json", "net.pt2"]


def test_external_data_of_the_replaced_artifact_goes_with_it(source: ModelFile, tmp_path: Path) -> None:
    put(tmp_path, b"one", source, {"net.11111111.data": b"1"})
    put(tmp_path, b"two", source, {"net.22222222.data": b"2"})
    assert sorted(path.name for path in tmp_path.glob("*.data")) == ["net.22222222.data"]


def test_a_record_cannot_make_us_remove_files_elsewhere(source: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "kept.txt").touch()
    (tmp_path / "net.onnx.mlconv.json").write_text(
        json.dumps({"artifact": {"files": ["net.onnx", "sub/kept.txt"]}})
    )
    put(tmp_path, b"artifact", source)
    assert (tmp_path / "sub" / "kept.txt").exists()


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with output.scratch_beside(tmp_path / "net.onnx") as scratch:
            (scratch / "half").write_bytes(b"written")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_next_run_removes_what_a_killed_one_left_and_not_what_a_living_one_uses(tmp_path: Path) -> None:
    code = (
        "import time, pathlib, sys\nfrom mlconv import output\n"
        "with output.scratch_beside(pathlib.Path(sys.argv[1])) as scratch:\n    print(scratch, flush=True)\n    time.sleep(300)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "net.onnx")]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        assert killed.stdout is not None
        assert living.stdout is not None
        dead, alive = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        time.sleep(0.1)
        with output.scratch_beside(tmp_path / "net.onnx"):
            assert not dead.exists()
            assert alive.exists()
        living.kill()


def test_a_folder_s_digest_is_that_of_its_sorted_lines(tmp_path: Path) -> None:
    import hashlib

    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "x").write_bytes(b"1")
    (tmp_path / "a").write_bytes(b"2")
    one, two = hashlib.sha256(b"1").hexdigest(), hashlib.sha256(b"2").hexdigest()
    assert output.digest(tmp_path) == hashlib.sha256(f"a:{two}\nb/x:{one}".encode()).hexdigest()
    assert output.size(tmp_path) == 2
