"""The reference pages are what the program says."""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest

from mlconv.errors import by_id
from mlconv.formats import tflite_operators

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "docs" / "generate.py"
PAGES = ("cli.md", "errors.md", "json.md", "messages.md", "tflite-operators.md")


def generate(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *words], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages") / "reference"
    done = generate("--folder", str(folder))
    assert done.returncode == 0, done.stderr
    return folder


def test_the_pages_are_as_the_program_says(written: Path) -> None:
    pinned = re.search(r"^typer==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    same_typer = pinned is not None and pinned[1] == importlib.metadata.version(
        "typer"
    )  # each words help its own way
    for name in PAGES if same_typer else PAGES[1:]:
        ours, theirs = (
            (folder / name).read_text(encoding="utf-8") for folder in (ROOT / "docs/reference", written)
        )
        assert ours == theirs, f"docs/reference/{name} is stale: make docs"


def test_check_finds_nothing_where_the_pages_were_just_written(written: Path) -> None:
    assert generate("--check", "--folder", str(written)).returncode == 0


def test_check_names_a_stale_page_and_leaves_it(written: Path, tmp_path: Path) -> None:
    for name in PAGES:
        (tmp_path / name).write_text((written / name).read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "errors.md").write_text("old", encoding="utf-8")
    done = generate("--check", "--folder", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr == f"{tmp_path / 'errors.md'} is stale: python docs/generate.py\n"
    assert (tmp_path / "errors.md").read_text(encoding="utf-8") == "old"


def test_every_error_has_a_heading(written: Path) -> None:
    headings = re.findall(
        r"^### (MLC\d{3}) ", (written / "errors.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert headings == list(by_id())


def test_every_command_has_its_help(written: Path) -> None:
    page = (written / "cli.md").read_text(encoding="utf-8")
    assert {"onnx", "inspect", "check", "compare", "explain"} <= set(
        re.findall(r"^## mlconv (\S+)$", page, re.MULTILINE)
    )
    assert "--opset N" in page


def test_every_tflite_operator_stands_on_its_page_once(written: Path) -> None:
    page = (written / "tflite-operators.md").read_text(encoding="utf-8")
    converted, _, refused = page.partition("## Without an ONNX form")
    told = re.findall(r"^\| `([A-Z0-9_]+)` \|", converted, re.MULTILINE)
    told += [name for row in refused.splitlines() for name in re.findall(r"`([A-Z0-9_]+)`", row)]
    assert sorted(told) == sorted(
        entry.kind for entry in tflite_operators.OPERATORS.values() if not entry.custom
    )


def test_the_links_of_the_pages_lead_to_headings(written: Path) -> None:
    for name in PAGES:
        page = (written / name).read_text(encoding="utf-8")
        for file, anchor in re.findall(r"\]\(([\w.]*)#?([\w-]*)\)", page):
            target = (written / (file or name)).read_text(encoding="utf-8")
            headings = re.findall(r"^#+ (.*)$", target, re.MULTILINE)
            assert not anchor or anchor in map(_anchor, headings), f"{name} links to {file}#{anchor}"


def _anchor(heading: str) -> str:
    """Of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
