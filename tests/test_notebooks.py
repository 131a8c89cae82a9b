"""The notebooks of the docs: their cells run as they stand, and what they show is whole and of no machine."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)

# The last expression of a cell is shown, as a notebook does; what it shows is printed as `>> REPR`.
RUNNER = """
import ast, json, sys
names = {"__name__": "__main__"}
for source in json.loads(sys.stdin.read()):
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    if last is not None:
        shown = eval(compile(ast.Expression(last.value), "cell", "eval"), names)
        if shown is not None:
            getattr(shown, "_repr_html_", str)()
            print(">>", repr(shown).replace(chr(10), " "))
"""


def cells(path: Path) -> list[dict[str, Any]]:
    told = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in told["cells"] if cell["cell_type"] == "code"]


def test_there_is_a_notebook() -> None:
    assert [path.name for path in NOTEBOOKS] == ["live_models.ipynb"]


@every_notebook
@pytest.mark.framework("torch", "onnxscript", "tensorflow", "keras", "tf2onnx")
def test_the_cells_run_in_order_and_show_what_the_notebook_shows(path: Path, tmp_path: Path) -> None:
    sources = ["".join(cell["source"]) for cell in cells(path)]
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(sources),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shown = [plain(line[3:]) for line in done.stdout.splitlines() if line.startswith(">> ")]
    kept = [
        plain("".join(output["data"]["text/plain"]))
        for cell in cells(path)
        for output in cell["outputs"]
        if "data" in output
    ]
    assert shown == kept


def plain(text: str) -> str:
    """Without figures that differ from machine to machine: the last digits of a difference, a runtime's version."""
    return re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?", "N", text)


@every_notebook
def test_a_notebook_is_kept_executed_and_tells_nothing_of_a_machine(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"/(home|root|tmp|Users)/|[A-Z]:\\\\", text)
    assert not re.search(r", \d+\.\d s\b", text)
    assert json.loads(text)["metadata"]["language_info"] == {"name": "python"}
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert [
        output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"
    ] == []
    assert all(cell["outputs"] for cell in cells(path))
