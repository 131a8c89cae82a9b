"""`mlconv --json onnx` over a folder of public models: outcome, parity and seconds of each, as a Markdown table.

The folder is that of the tests (``MLCONV_TEST_MODELS``); its ``index.json`` names the models. Run:

    python benchmarks/public_models.py [ID ...] > table.md
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main(wanted: list[str]) -> None:
    """Print a row as soon as it is known."""
    models = Path(os.environ["MLCONV_TEST_MODELS"])
    print("| id | source | exit | outcome | parity | seconds |\n|-|-|-|-|-|-|")
    for row in json.loads((models / "index.json").read_text()):
        if wanted and row["id"] not in wanted:
            continue
        path = models / row["local"]
        path = path / "model.onnx" if row["format"] == "onnx" and path.is_dir() else path
        code, document, seconds = converted(path, options(row))
        told = [
            row["id"],
            f"{path.parent.name}/{path.name}",
            str(code),
            outcome(document),
            parity(document),
            f"{seconds:.1f}",
        ]
        print("| " + " | ".join(cell.replace("|", "\\|") for cell in told) + " |", flush=True)


def options(row: dict[str, Any]) -> list[str]:
    """Shapes for TorchScript, which holds none."""
    if row["format"] != "TorchScript":
        return []
    shapes = [put["shape"] for put in row["inputs"] or []]
    return [
        word
        for shape in shapes or [[1, 1000]]
        for word in ("--input", ",".join(map(str, shape or [1, 1000])))
    ]


def converted(path: Path, words: list[str]) -> tuple[int, dict[str, Any], float]:
    """Exit code, document and wall seconds of one conversion in a folder of its own."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "mlconv",
            "--json",
            "onnx",
            str(path),
            "-o",
            f"{folder}/out.onnx",
            *words,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout), time.perf_counter() - start


def outcome(document: dict[str, Any]) -> str:
    """The source's format where it was converted; else the error's id and words."""
    if document["schema"] == "mlconv.error/1":
        return f"{document['id']} {document['what'][:160]}"
    if document["failure"]:
        return f"{document['failure']['id']} {document['failure']['what'][:160]}"
    return f"{document['source']['format']}, {document['artifact']['operators']} operators"


def parity(document: dict[str, Any]) -> str:
    """The output nearest to its tolerance: the difference of the range, or in steps, and what was allowed."""
    found = (document.get("checks") or {}).get("parity")
    rows = [row for row in found["outputs"] if row["max_abs"] is not None] if found else []
    if not found or not rows:
        return ""
    worst = max(rows, key=lambda row: row["max_abs"] / (row["atol"] or 1e-30))
    silent = "" if found["informative"] else ", uninformative"
    if worst["max_lsb"] is not None:
        return f"{worst['max_lsb']:.3g} LSB (allowed {worst['atol'] / (worst['step'] or 1):.3g}){silent}"
    return f"{worst['max_abs']:.2g} of {worst['range'] or 0:.3g} (allowed {worst['atol']:.2g}){silent}"


if __name__ == "__main__":
    main(sys.argv[1:])
