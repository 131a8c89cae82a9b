"""The formals of onnxruntime's own operators, for `src/mlconv/runtimes/fused_formals.json`.

    python benchmarks/fused_formals.py > src/mlconv/runtimes/fused_formals.json   # with the newest onnxruntime of the table

onnx has no schemas of these domains, and the table tells the types of each formal by its name. Later releases add formals behind
those of earlier ones, so the newest serves for all.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parents[1] / "src/mlconv/runtimes/data/onnxruntime.json"


def main() -> None:
    from onnxruntime.capi.onnxruntime_pybind11_state import get_all_operator_schema

    known = json.loads(_TABLE.read_text(encoding="utf-8"))["operators"]
    found: dict[str, dict[str, str]] = {}
    for schema in get_all_operator_schema():
        if schema.domain.startswith("com.microsoft") and schema.name in known.get(schema.domain, ()):
            told = f"{side(schema.inputs)} -> {side(schema.outputs)}"
            found.setdefault(schema.domain, {})[schema.name] = told
    json.dump(found, sys.stdout, indent=1, sort_keys=True)
    sys.stdout.write("\n")


def side(formals: list[Any]) -> str:
    """``A:T B:T``; ``?`` where values of several types stand in one formal."""
    return " ".join(f"{formal.name}:{formal.typeStr if formal.isHomogeneous else '?'}" for formal in formals)


if __name__ == "__main__":
    main()
