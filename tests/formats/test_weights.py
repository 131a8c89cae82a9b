"""State dicts in safetensors files and in shards."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlconv.errors import Corrupt, ExternalDataMissing, MlconvError, PathEscape
from mlconv.formats import ModelFile, safetensors_file, weights
from mlconv.tensors import TensorSpec


def safetensors(path: Path, header: dict[str, Any], data: bytes) -> Path:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


GOOD = {
    "__metadata__": {"format": "pt"},
    "b": entry("I64", [], 12, 20),
    "a": entry("BF16", [2, 3], 0, 12),
}


def test_a_safetensors_file_tells_tensors_and_metadata(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "a.safetensors", GOOD, b"\0" * 20)
    assert safetensors_file.is_safetensors(path.read_bytes()[:64])
    described = weights.describe(ModelFile("a", path, "torch-weights"))
    assert weights.weights_index(path) == {
        "a": TensorSpec("a", (2, 3), "bfloat16"),
        "b": TensorSpec("b", (), "int64"),
    }
    assert (described.parameters, described.metadata, described.bytes) == (
        6,
        {"format": "pt"},
        path.stat().st_size,
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"a": entry("F32", [2], 0, 8), "b": entry("F32", [2], 4, 12)},
        {"a": entry("F32", [2], 0, 12)},
        {"a": entry("F32", [2], 4, 12)},
        {"a": entry("F32", [100], 0, 400)},
        {"a": entry("F32", [-2], 0, 8)},
        {"a": entry("F32", [2.0], 0, 8)},  # type: ignore[list-item]
        {"a": entry("FLOAT", [2], 0, 8)},
        {"a": {"dtype": "F32"}},
        {"a": 3},
        {"__metadata__": 3},
    ],
)
def test_a_header_that_does_not_fit_its_bytes_is_corrupt(bad: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Corrupt):
        safetensors_file.read_header(safetensors(tmp_path / "a.safetensors", bad, b"\0" * 12))


def test_a_cut_off_header_is_corrupt(tmp_path: Path) -> None:
    path = safetensors(tmp_path / "a.safetensors", GOOD, b"")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(Corrupt, match="damaged"):
        safetensors_file.read_header(path)


def shard_index(folder: Path, **shards: str) -> Path:
    path = folder / "model.safetensors.index.json"
    path.write_text(json.dumps({"metadata": {}, "weight_map": shards}))
    return path


def test_an_index_gathers_its_shards(tmp_path: Path) -> None:
    safetensors(tmp_path / "1.safetensors", {"a": entry("F32", [2], 0, 8)}, b"\0" * 8)
    safetensors(tmp_path / "2.safetensors", {"b": entry("F32", [3], 0, 12)}, b"\0" * 12)
    path = shard_index(tmp_path, a="1.safetensors", b="2.safetensors")
    described = weights.describe(ModelFile("a", path, "torch-weights"))
    assert list(weights.weights_index(path)) == ["a", "b"]
    assert described.parameters == 5
    assert described.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())


def test_an_index_tells_of_a_tensor_in_the_shard_that_it_names(tmp_path: Path) -> None:
    safetensors(tmp_path / "1.safetensors", {"a": entry("F32", [2], 0, 8)}, bytes(8))
    safetensors(
        tmp_path / "2.safetensors", {"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 4, 8)}, bytes(8)
    )
    index = weights.weights_index(shard_index(tmp_path, a="1.safetensors", b="2.safetensors"))
    assert {name: spec.shape for name, spec in index.items()} == {"a": (2,), "b": (1,)}
    with pytest.raises(Corrupt, match=r"`b` in `1\.safetensors`"):
        weights.weights_index(shard_index(tmp_path, a="1.safetensors", b="1.safetensors"))


def test_a_shard_outside_the_folder_is_an_escape(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    safetensors(tmp_path / "secret.safetensors", {}, b"")
    (folder / "link.safetensors").symlink_to(tmp_path / "secret.safetensors")
    for name in ("../secret.safetensors", str(tmp_path / "secret.safetensors"), "link.safetensors"):
        with pytest.raises(PathEscape, match="outside"):
            weights.shards(shard_index(folder, a=name))


def cached(folder: Path) -> tuple[Path, Path]:
    """An index in the cache of Hugging Face, and the folder with the files themselves."""
    blobs, snapshot = folder / "blobs", folder / "snapshots" / "abc"
    for each in (blobs, snapshot):
        each.mkdir(parents=True)
    safetensors(blobs / "b1", {"a": entry("F32", [2], 0, 8)}, b"\0" * 8)
    shard_index(blobs, a="1.safetensors").rename(blobs / "b2")
    (snapshot / "1.safetensors").symlink_to("../../blobs/b1")
    (snapshot / "model.safetensors.index.json").symlink_to("../../blobs/b2")
    return snapshot / "model.safetensors.index.json", blobs


def test_an_index_in_the_cache_of_hugging_face_is_read_where_it_lies(tmp_path: Path) -> None:
    path, _ = cached(tmp_path)
    assert list(weights.weights_index(path)) == ["a"]


def test_a_link_out_of_the_cache_of_hugging_face_is_an_escape(tmp_path: Path) -> None:
    path, blobs = cached(tmp_path)
    (blobs / "b1").rename(tmp_path / "secret")
    (path.parent / "1.safetensors").unlink()
    (path.parent / "1.safetensors").symlink_to("../../secret")
    with pytest.raises(PathEscape, match="outside"):
        weights.shards(path)


def test_links_of_a_folder_are_followed_by_the_line_that_copies_them(tmp_path: Path) -> None:
    path, _ = cached(tmp_path)
    path.unlink()
    shard_index(path.parent, a="1.safetensors")
    with pytest.raises(PathEscape) as caught:
        weights.shards(path)
    _, _, typed = caught.value.fix.partition(": ")
    copy, _, named = typed.partition("; then name ")
    subprocess.run(shlex.split(copy), cwd=tmp_path, check=True)
    assert list(weights.weights_index(tmp_path / named)) == ["a"]


def test_a_shard_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExternalDataMissing, match=r"gone\.safetensors"):
        weights.shards(shard_index(tmp_path, a="gone.safetensors"))


def test_an_index_that_names_itself_does_not_go_round(tmp_path: Path) -> None:
    with pytest.raises(ExternalDataMissing):
        weights.weights_index(shard_index(tmp_path, a="model.safetensors.index.json"))


def test_damage_gives_an_answer_or_a_named_error(mutations: Any, tmp_path: Path) -> None:
    whole = safetensors(tmp_path / "a.safetensors", GOOD, b"\0" * 20).read_bytes()
    for data in mutations(whole):
        (tmp_path / "hurt").write_bytes(data)
        try:
            safetensors_file.read_header(tmp_path / "hurt")
        except MlconvError:
            continue
