"""Whether onnxruntime loads a file, and runs it once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlconv.checks.structure import Finding

if TYPE_CHECKING:
    from mlconv.runners.base import Feeds, Outputs


def load_and_run(path: Path, feeds: Feeds | None = None) -> tuple[Finding, Finding]:
    """Findings ``load`` and ``run`` for an ONNX or ORT file.

    Args:
        path: The file.
        feeds: Every input by name; None: the model is only loaded, and ``run`` tells so.
    """
    from mlconv.runners.onnx_session import OnnxSession, decisive

    try:
        session = OnnxSession(path)
    except Exception as error:  # onnxruntime's exceptions share no base class
        return Finding("load", False, f"onnxruntime: {decisive(error)}"), Finding(
            "run", None, "not run, since it does not load"
        )
    loaded = Finding("load", True, session.name)
    try:
        return loaded, _run(session.run(feeds)) if feeds is not None else Finding(
            "run", None, "not run: no inputs were given"
        )
    except Exception as error:
        return loaded, Finding("run", False, f"onnxruntime: {decisive(error)}")
    finally:
        session.close()


def _run(outputs: Outputs) -> Finding:
    arrays = {name: np.asarray(array) for name, array in outputs.items()}
    bad = [
        name
        for name, array in arrays.items()
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all()
    ]
    if bad:
        return Finding("run", False, f"NaN or infinity in {', '.join(f'`{name}`' for name in bad)}")
    return Finding(
        "run",
        True,
        ", ".join(f"`{name}` {list(array.shape)}" for name, array in arrays.items()) or "no outputs",
    )
