"""Executes the notebooks of this folder in place and leaves in them what every machine would print.

    python docs/notebooks/execute.py

needs `pip install nbclient ipykernel`. Times, execution counts and what tells of the machine are taken out.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

_TIME = re.compile(r", \d+\.\d s\b")


def main() -> None:
    """Execute each notebook in an empty folder."""
    for path in sorted(Path(__file__).parent.glob("*.ipynb")):
        path.write_text(_executed(path), encoding="utf-8")
        print(path.name, file=sys.stderr)


def _executed(path: Path) -> str:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
        ).execute()
    told: dict[str, Any] = json.loads(nbformat.writes(notebook))
    told["metadata"] = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in told["cells"]:
        cell["metadata"] = {}
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
            cell["outputs"] = [_plain(output) for output in cell["outputs"]]
    return json.dumps(told, indent=1, ensure_ascii=False) + "\n"


def _plain(output: dict[str, Any]) -> dict[str, Any]:
    if "execution_count" in output:
        output["execution_count"] = None
    for kind, lines in output.get("data", {}).items():
        output["data"][kind] = [_TIME.sub("", line) for line in lines]
    return output


if __name__ == "__main__":
    main()
