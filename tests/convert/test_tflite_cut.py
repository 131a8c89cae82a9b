"""Cutting TFLite files at inner tensors where something else than operands is needed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.convert.tflite_models import TfliteGraph, by_onnxruntime, import_job

from mlconv.convert.tflite_to_onnx import run

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]


@pytest.mark.parametrize("asked", [True, False])
def test_a_cut_keeps_a_branch_that_assigns_a_variable(asked: bool, tmp_path: Path) -> None:
    """Nothing that the branch gives is read; the variable is, and a cut behind it needs both."""
    path = assigned_in_a_branch(tmp_path / "m.tflite")
    feeds = {"c": np.array([asked]), "x": np.array([1, 2], np.float32)}
    job = import_job(path, outputs=("y",))
    runner = run(job).reference
    assert runner is not None
    (told,) = runner.run(feeds).values()
    assert told.tolist() == ([2, 4] if asked else [6, 9])
    assert np.array_equal(told, by_onnxruntime(job.output, *feeds.values())[0])


def assigned_in_a_branch(path: Path) -> Path:
    """``y = x + (x if c else (5, 7))`` by a variable, and ``z = -y``."""
    g = TfliteGraph()
    c, x, y = g.tensor("c", (1,), kind="BOOL"), g.tensor("x", (2,)), g.tensor("y", (2,))
    held, unread, z = g.tensor("held", (2,)), g.tensor("unread", (2,)), g.tensor("z", (2,))

    def variable() -> int:
        made = g.tensor("handle", (), kind="RESOURCE")
        g.operator("VAR_HANDLE", [], [made], "VarHandleOptions", sharedName=b"v", container=b"")
        return made

    g.operator("CALL_ONCE", [], [], "CallOnceOptions", initSubgraphIndex=1)
    handle = variable()
    g.operator("IF", [c, x], [unread], "IfOptions", thenSubgraphIndex=2, elseSubgraphIndex=3)
    g.operator("READ_VARIABLE", [handle], [held], "ReadVariableOptions")
    g.operator("ADD", [held, x], [y], "AddOptions")
    g.operator("NEG", [y], [z])
    g.ends([c, x], [z])
    g.subgraph()
    fresh = g.tensor("fresh", (2,), np.array([5, 7], np.float32))
    g.operator("ASSIGN_VARIABLE", [variable(), fresh], [], "AssignVariableOptions")
    g.ends([], [])
    for assigns in (True, False):
        g.subgraph()
        given, made = g.tensor("given", (2,)), g.tensor("made", (2,))
        if assigns:
            g.operator("ASSIGN_VARIABLE", [variable(), given], [], "AssignVariableOptions")
        g.operator("NEG", [given], [made])
        g.ends([given], [made])
    return g.write(path)
