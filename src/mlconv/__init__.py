"""Converts trained models to the formats that runtimes read, and proves that they still compute the same.

The public functions are loaded at their first use, so that importing mlconv imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlconv.api import check, compare, inspect, to_onnx, to_ort
    from mlconv.errors import MlconvError
    from mlconv.result import Checked, Compared, Conversion, Inspected
    from mlconv.worker import Limits

__version__ = "0.1.0"
__all__ = [
    "Checked", "Compared", "Conversion", "Inspected", "Limits", "MlconvError", "__version__", "check", "compare", "inspect",
    "to_onnx", "to_ort",
]  # fmt: skip

_HOMES = {
    **dict.fromkeys(("check", "compare", "inspect", "to_onnx", "to_ort"), "mlconv.api"),
    **dict.fromkeys(("Checked", "Compared", "Conversion", "Inspected"), "mlconv.result"),
    "Limits": "mlconv.worker",
    "MlconvError": "mlconv.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mlconv' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
