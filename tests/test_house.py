"""The house around the package: what is shipped, what is promised in metadata, what must not be committed."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "mlconv"
DEMO = PACKAGE / "demo"
LARGEST_FILE_BYTES = 100_000


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def digits() -> dict[str, Any]:
    described: dict[str, Any] = json.loads((DEMO / "digits.json").read_text(encoding="utf-8"))
    return described


def _files(folder: Path) -> set[str]:
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(folder.parent).as_posix() for path in found}


def _committed() -> Iterator[Path]:
    """Files that git has or would take; links and folders left out."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            yield path


def test_the_wheel_holds_the_package_and_nothing_else(tmp_path: Path) -> None:
    builder = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    built = subprocess.run(builder, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name for name in names if ".dist-info/" not in name} == _files(PACKAGE)
    assert any(name.endswith("/licenses/LICENSE") for name in names)


def test_the_version_stands_in_one_place(project: dict[str, Any]) -> None:
    import mlconv

    assert project["project"]["dynamic"] == ["version"]
    assert f"## [{mlconv.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["convert", "edge", "checks"])
def test_the_links_in_the_root_lead_into_the_package(name: str) -> None:
    assert (ROOT / name).is_symlink()
    assert (ROOT / name).readlink() == Path("src/mlconv", name)


def test_every_extra_that_a_hint_names_exists(project: dict[str, Any]) -> None:
    extras = set(project["project"]["optional-dependencies"])
    named: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        for group in re.findall(r"mlconv\[([a-z,-]+)\]", path.read_text(encoding="utf-8")):
            named |= set(group.split(","))
    assert named <= extras


def test_all_is_what_this_version_can_use(project: dict[str, Any]) -> None:
    (everything,) = project["project"]["optional-dependencies"]["all"]
    assert everything == "mlconv[cpu,torch,tensorflow,tflite]"


def test_every_requirement_that_make_installs_is_pinned(project: dict[str, Any]) -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][0-9a-z.]*", pin) for pin in pins)
    pinned = {_canonical(pin.partition("==")[0]) for pin in pins}
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    wanted = [*project["project"]["dependencies"]]
    for extra in ("cpu", "torch", "tensorflow-cpu", "tflite"):
        wanted += extras[extra]
    for group in groups.values():
        wanted += [entry for entry in group if isinstance(entry, str)]
    names = {_canonical(re.split(r"[\[<>=; ]", text)[0]) for text in wanted}
    assert names - pinned == {"tflite-runtime"}  # for 32-bit ARM alone


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _of_this_machine() -> list[bytes]:
    """Folders of this machine, and where its pip looks, as they would stand in a file that was written here."""
    folders = {ROOT, Path.home(), Path(sys.prefix), Path(sys.base_prefix)} - {Path("/"), Path("/usr")}
    asked = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    )
    indexes = set(re.findall(r"(?:https?|file)://[^\s/'\"]*/[^\s'\"]*", asked.stdout))
    public = ("https://pypi.org/", "https://download.pytorch.org/")
    found = {f"{folder}/" for folder in folders} | {url for url in indexes if not url.startswith(public)}
    return [text.encode() for text in sorted(found)]


def test_nothing_committed_names_this_machine() -> None:
    needles = _of_this_machine()
    contents = {path.relative_to(ROOT): path.read_bytes() for path in _committed()}
    assert [
        (name, needle) for name, content in contents.items() for needle in needles if needle in content
    ] == []


def test_no_archive_of_the_demo_names_the_machine_that_made_it() -> None:
    for path in (DEMO / "digits.pt2", DEMO / "digits.keras"):
        with zipfile.ZipFile(path) as archive:
            content = b"".join(archive.read(name) for name in archive.namelist())
        assert not any(needle in content for needle in [*_of_this_machine(), b"site-packages", b".py"])


def test_nothing_committed_is_large() -> None:
    large = {str(path.relative_to(ROOT)) for path in _committed() if path.stat().st_size > LARGEST_FILE_BYTES}
    assert large == set()


def test_the_demo_ships_the_models_that_were_measured(digits: dict[str, Any]) -> None:
    assert set(digits["models"]) == {
        "digits.pt2",
        "digits.onnx",
        "digits.keras",
        "digits.tflite",
        "digits-int8.tflite",
    }
    for name, told in digits["models"].items():
        content = (DEMO / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (told["bytes"], told["sha256"])
        assert told["accuracy"] >= 0.96


def test_the_held_out_digits_are_not_among_those_that_calibrate(digits: dict[str, Any]) -> None:
    seen = {}
    for part, name in {"held_out": "digits-test.npz", "calibration": "digits-calibration.npz"}.items():
        with np.load(DEMO / name, allow_pickle=False) as file:
            images, labels = file["image"], file["label"]
        assert images.shape == (digits["images"][part], 8, 8)
        assert labels.shape == (digits["images"][part],)
        assert (images.dtype, images.min(), images.max()) == (np.uint8, 0, 16)
        assert set(labels.tolist()) == set(range(10))
        seen[part] = {image.tobytes() for image in images}
    assert not seen["held_out"] & seen["calibration"]


def test_the_demo_says_where_its_images_come_from(digits: dict[str, Any]) -> None:
    assert digits["dataset"]["license"] == "CC-BY-4.0"
    assert "10.24432/C50P49" in (ROOT / "examples" / "digits" / "README.md").read_text(encoding="utf-8")
