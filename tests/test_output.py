"""Outputs: what may be replaced, how it is replaced, what a killed run leaves."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlconv import output
from mlconv.errors import OutputExists, OutputIsSource, OutputUnwritable
from mlconv.formats import ModelFile
from mlconv.scratch import scratch_beside


@pytest.fixture
def source(tmp_path: Path) -> ModelFile:
    path = tmp_path / "net.pt2"
    path.write_bytes(b"source")
    return ModelFile(str(path), path, "torch-export")


def target(
    place: Path, source: ModelFile, *, force: bool = False, reads: tuple[Path, ...] = ()
) -> output.Target:
    assert source.path is not None
    return output.Target(place, (source.path, *reads), f"identity of {source.path}", force)


def put(
    folder: Path,
    content: bytes,
    source: ModelFile,
    companions: dict[str, bytes] | None = None,
    before: Callable[[], object] = lambda: None,
    *,
    force: bool = False,
) -> Path:
    """Write an artifact; ``before`` runs when it is made and not yet put."""
    place = folder / "net.onnx"
    with scratch_beside(place) as scratch:
        made = [scratch / "net.onnx", *(scratch / name for name in companions or {})]
        for path, data in zip(made, (content, *(companions or {}).values()), strict=True):
            path.write_bytes(data)
        before()
        output.put(made, target(place, source, force=force), {"made": content.decode()})
    return place


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


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
        output.assert_free(target(tmp_path / "net.onnx", source, force=False))
    output.assert_free(target(tmp_path / "net.onnx", source, force=True))


def test_the_source_s_own_untouched_artifact_may_be_replaced(source: ModelFile, tmp_path: Path) -> None:
    place = put(tmp_path, b"artifact", source)
    output.assert_free(target(place, source, force=False))
    place.write_bytes(b"touched by hand")
    with pytest.raises(OutputExists):
        output.assert_free(target(place, source, force=False))


def test_another_source_s_artifact_is_kept(source: ModelFile, tmp_path: Path) -> None:
    place = put(tmp_path, b"artifact", source)
    other = tmp_path / "other.pt2"
    other.write_bytes(b"another")
    with pytest.raises(OutputExists):
        output.assert_free(target(place, ModelFile(str(other), other, "torch-export"), force=False))


def test_the_source_is_never_an_output(source: ModelFile, tmp_path: Path) -> None:
    assert source.path is not None
    (tmp_path / "link.pt2").symlink_to(source.path)
    for place in (source.path, tmp_path / "link.pt2", tmp_path / "." / "net.pt2"):
        with pytest.raises(OutputIsSource):
            output.assert_free(target(place, source, force=True))


def test_an_output_inside_a_source_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    with pytest.raises(OutputIsSource):
        output.assert_free(
            target(folder / "net.onnx", ModelFile("saved", folder, "saved-model"), force=False)
        )


def test_a_folder_that_is_missing_or_taken_is_said(source: ModelFile, tmp_path: Path) -> None:
    with pytest.raises(OutputUnwritable, match="does not exist"):
        output.assert_free(target(tmp_path / "no" / "net.onnx", source, force=False))
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputExists, match="is a folder"):
        output.assert_free(target(tmp_path / "taken", source, force=True))


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
    (tmp_path / "notes.txt").write_bytes(b"")
    empty = output.digest(tmp_path / "notes.txt")
    named = {
        "net.onnx": empty,
        "sub/kept.txt": empty,
        "net.pt2": output.digest(tmp_path / "net.pt2"),
        "notes.txt": "0" * 64,
    }
    (tmp_path / "net.onnx.mlconv.json").write_text(json.dumps({"digests": named}))
    put(tmp_path, b"artifact", source)
    assert (tmp_path / "sub" / "kept.txt").exists()
    assert {"net.pt2", "notes.txt"} <= set(names(tmp_path))  # the source, and what is not as the record says


def test_a_failed_block_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with scratch_beside(tmp_path / "net.onnx") as scratch:
            (scratch / "half").write_bytes(b"written")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_next_run_removes_what_a_killed_one_left_and_not_what_a_living_one_uses(tmp_path: Path) -> None:
    code = (
        "import time, pathlib, sys\nfrom mlconv.scratch import scratch_beside\n"
        "with scratch_beside(pathlib.Path(sys.argv[1])) as scratch:\n    print(scratch, flush=True)\n    time.sleep(300)"
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
        with scratch_beside(tmp_path / "net.onnx"):
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


# ------------------------------------------------------------------ what is read is not written to


def test_whatever_is_read_is_no_output_under_any_name(source: ModelFile, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"weights")
    (tmp_path / "link").symlink_to(weights)
    for place in (weights, tmp_path / "link", tmp_path / "." / "w.safetensors"):
        with pytest.raises(OutputIsSource, match="is read by this conversion"):
            output.assert_free(target(place, source, force=True, reads=(weights,)))
    assert weights.read_bytes() == b"weights"


def test_what_is_read_is_no_place_for_the_record(source: ModelFile, tmp_path: Path) -> None:
    data = tmp_path / "net.onnx.mlconv.json"
    data.write_bytes(b"{}")
    with pytest.raises(OutputIsSource):
        output.assert_free(target(tmp_path / "net.onnx", source, force=True, reads=(data,)))


def test_what_is_read_is_no_place_for_external_data(source: ModelFile, tmp_path: Path) -> None:
    data = tmp_path / "net.11111111.data"
    data.write_bytes(b"read")
    with scratch_beside(tmp_path / "net.onnx") as scratch:
        made = [scratch / "net.onnx", scratch / data.name]
        for path in made:
            path.write_bytes(b"new")
        with pytest.raises(OutputIsSource):
            output.put(made, target(tmp_path / "net.onnx", source, force=True, reads=(data,)), {})
    assert data.read_bytes() == b"read"
    assert names(tmp_path) == ["net.11111111.data", "net.pt2"]


# ------------------------------------------------------------------ whose an artifact is


def test_an_artifact_of_a_source_elsewhere_with_the_same_content_is_kept(
    source: ModelFile, tmp_path: Path
) -> None:
    place = put(tmp_path, b"artifact", source)
    (tmp_path / "b").mkdir()
    twin = tmp_path / "b" / "net.pt2"
    twin.write_bytes(b"source")
    with pytest.raises(OutputExists):
        output.assert_free(target(place, ModelFile(source.ref, twin, "torch-export")))


def test_an_artifact_whose_external_data_was_touched_is_kept(source: ModelFile, tmp_path: Path) -> None:
    place = put(tmp_path, b"artifact", source, {"net.11111111.data": b"1"})
    output.assert_free(target(place, source))
    (tmp_path / "net.11111111.data").write_bytes(b"2")
    with pytest.raises(OutputExists):
        output.assert_free(target(place, source))


# ------------------------------------------------------------------ races


def test_a_file_that_appeared_meanwhile_is_kept(source: ModelFile, tmp_path: Path) -> None:
    place = tmp_path / "net.onnx"
    with pytest.raises(OutputExists):
        put(tmp_path, b"artifact", source, {"net.11111111.data": b"1"}, lambda: place.write_bytes(b"other"))
    assert place.read_bytes() == b"other"
    assert names(tmp_path) == ["net.onnx", "net.pt2"]
    put(tmp_path, b"artifact", source, None, lambda: place.write_bytes(b"other"), force=True)
    assert place.read_bytes() == b"artifact"


def test_a_file_that_appears_at_the_last_moment_is_kept(
    source: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, link = tmp_path / "net.onnx", os.link

    def late(path: Path, target: Path) -> None:
        place.write_bytes(b"other")
        link(path, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(OutputExists):
        put(tmp_path, b"artifact", source)
    assert place.read_bytes() == b"other"
    assert names(tmp_path) == ["net.onnx", "net.pt2"]


def test_a_file_system_without_hard_links_will_do(
    source: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    place = put(tmp_path, b"artifact", source, {"net.11111111.data": b"1"})
    assert place.read_bytes() == b"artifact"
    assert names(tmp_path) == ["net.11111111.data", "net.onnx", "net.onnx.mlconv.json", "net.pt2"]


def test_after_a_failed_rename_the_old_artifact_stands_with_its_record(
    source: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put(tmp_path, b"old", source, {"net.11111111.data": b"1"})
    record, replace = output.record_path(place).read_bytes(), Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target == place:
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputUnwritable, match="cannot be written"):
        put(tmp_path, b"new", source, {"net.22222222.data": b"2"})
    assert (place.read_bytes(), output.record_path(place).read_bytes()) == (b"old", record)
    assert names(tmp_path) == ["net.11111111.data", "net.onnx", "net.onnx.mlconv.json", "net.pt2"]


def test_a_record_that_cannot_be_written_is_said(
    source: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if target.name == "net.onnx.mlconv.json":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputUnwritable, match="is written and its record is not"):
        put(tmp_path, b"new", source)
    assert names(tmp_path) == ["net.onnx", "net.pt2"]


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_a_folder_whose_maker_has_no_lock_yet_is_left_alone_and_an_abandoned_one_removed(
    tmp_path: Path,
) -> None:
    for name, age in (("young", 0), ("old", 7200)):
        folder = tmp_path / f".mlconv-{name}"
        folder.mkdir()
        (folder / "lock.new").touch()
        os.utime(folder, (time.time() - age,) * 2)
    with scratch_beside(tmp_path / "net.onnx"):
        assert (tmp_path / ".mlconv-young").exists()
        assert not (tmp_path / ".mlconv-old").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no flock")
def test_the_lock_is_held_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    held, flock = [], fcntl.flock

    def look(file: Any, how: int) -> None:
        flock(file, how)
        held.append((Path(file.name).name, (Path(file.name).parent / "lock").exists()))

    monkeypatch.setattr(fcntl, "flock", look)
    with scratch_beside(tmp_path / "net.onnx") as scratch:
        assert names(scratch) == ["lock"]
    assert held == [("lock.new", False)]


def test_a_file_that_is_no_record_is_not_replaced_by_one(source: ModelFile, tmp_path: Path) -> None:
    (tmp_path / "net.onnx.mlconv.json").write_text("precious")
    with pytest.raises(OutputExists, match=r"net\.onnx\.mlconv\.json` exists"):
        output.assert_free(target(tmp_path / "net.onnx", source))
    output.assert_free(target(tmp_path / "net.onnx", source, force=True))
    (tmp_path / "net.onnx.mlconv.json").write_text('{"schema": "mlconv.convert/1"}')
    output.assert_free(target(tmp_path / "net.onnx", source))


# ------------------------------------------------------------------ files of fixed names beside the artifact


def put_both(folder: Path, source: ModelFile, artifact: bytes, beside: bytes, *, force: bool = False) -> None:
    """Write `net.ort` with `net.list`."""
    assert source.path is not None
    place = folder / "net.ort"
    destination = output.Target(
        place, (source.path,), f"identity of {source.path}", force, (folder / "net.list",), ".ort"
    )
    output.assert_free(destination)
    with scratch_beside(place) as scratch:
        made = [scratch / "net.ort", scratch / "net.list"]
        for path, data in zip(made, (artifact, beside), strict=True):
            path.write_bytes(data)
        output.put(made, destination, {})


def test_what_came_with_an_own_artifact_is_replaced_with_it(source: ModelFile, tmp_path: Path) -> None:
    put_both(tmp_path, source, b"one", b"1")
    put_both(tmp_path, source, b"two", b"2")
    assert (tmp_path / "net.list").read_bytes() == b"2"
    assert names(tmp_path) == ["net.list", "net.ort", "net.ort.mlconv.json", "net.pt2"]


def test_it_is_replaced_although_the_artifact_was_removed(source: ModelFile, tmp_path: Path) -> None:
    put_both(tmp_path, source, b"one", b"1")
    (tmp_path / "net.ort").unlink()
    put_both(tmp_path, source, b"two", b"2")
    assert (tmp_path / "net.list").read_bytes() == b"2"


@pytest.mark.parametrize("earlier", [True, False], ids=["edited since", "never ours"])
def test_what_somebody_else_wrote_there_is_kept_unless_forced(
    earlier: bool, source: ModelFile, tmp_path: Path
) -> None:
    if earlier:
        put_both(tmp_path, source, b"one", b"1")
    (tmp_path / "net.list").write_bytes(b"by hand")
    with pytest.raises(OutputExists, match=r"net\.list` exists"):
        put_both(tmp_path, source, b"two", b"2")
    assert (tmp_path / "net.list").read_bytes() == b"by hand"
    put_both(tmp_path, source, b"two", b"2", force=True)
    assert (tmp_path / "net.list").read_bytes() == b"2"


def test_another_source_s_file_is_kept(source: ModelFile, tmp_path: Path) -> None:
    put_both(tmp_path, source, b"one", b"1")
    (tmp_path / "net.ort").unlink()
    other = tmp_path / "other.pt2"
    other.write_bytes(b"other")
    with pytest.raises(OutputExists, match=r"net\.list` exists"):
        put_both(tmp_path, ModelFile(str(other), other, "torch-export"), b"two", b"2")


def test_where_the_artifact_cannot_be_put_the_old_file_beside_it_is_back(
    source: ModelFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_both(tmp_path, source, b"one", b"1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(path: Path, place: Path, *, replace: bool) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "_link", full)
    with pytest.raises(OutputUnwritable, match=r"net\.ort"):
        put_both(tmp_path, source, b"two", b"2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_source_or_a_folder_of_that_name_is_not_replaced(source: ModelFile, tmp_path: Path) -> None:
    listed = tmp_path / "net.list"
    listed.write_bytes(b"source")
    with pytest.raises(OutputIsSource):
        put_both(tmp_path, ModelFile(str(listed), listed, "torch-export"), b"one", b"1", force=True)
    listed.unlink()
    listed.mkdir()
    with pytest.raises(OutputExists, match=r"net\.list`, where a part of it goes, is a folder"):
        put_both(tmp_path, source, b"one", b"1", force=True)


def test_a_folder_s_hint_has_the_suffix_of_the_format(source: ModelFile, tmp_path: Path) -> None:
    assert source.path is not None
    with pytest.raises(OutputExists) as caught:
        output.assert_free(output.Target(tmp_path, (source.path,), "", suffix=".ort"))
    assert caught.value.fix == f"-o {tmp_path / 'NAME.ort'}"
