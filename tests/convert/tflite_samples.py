"""TFLite files of a few operators for tests of the importer as a whole, and the step of it that loads no runtime."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.convert.tflite_models import TfliteGraph

from mlconv.errors import Corrupt
from mlconv.formats import ModelFile


def import_step(path: Path, *outputs: str) -> Any:
    """What `mlconv onnx` does with a TFLite file up to the ONNX graph; no runtime loads the file."""
    from mlconv.convert.tflite_import.entry import assert_numbers, chosen
    from mlconv.convert.tflite_import.graph import Target
    from mlconv.convert.tflite_import.importer import import_model
    from mlconv.formats import tflite_read
    from mlconv.runners.litert import entry_of

    source = ModelFile(path.name, path, "tflite")
    model = tflite_read.read(path)
    entry = chosen(model, entry_of(source, model, None), outputs)
    assert_numbers(model, entry, path.name)
    return import_model(
        model, entry, [spec for _, spec in entry.inputs], entry.outputs_apart(), Target(18, "vnni"), path.name
    )


def refused(path: Path, seconds: float = 1.0) -> str:
    """What the error says, which must come within a second."""
    begun = time.process_time()
    with pytest.raises(Corrupt) as raised:
        import_step(path)
    assert time.process_time() - begun < seconds
    return f"{raised.value.what}: {raised.value.why}"


def if_calling(path: Path, then: int, otherwise: int = 1) -> Path:
    g = TfliteGraph()
    c, x, y = g.tensor("c", (), kind="BOOL"), _vector(g, "x"), _vector(g, "y")
    g.operator("IF", [c, x], [y], "IfOptions", thenSubgraphIndex=then, elseSubgraphIndex=otherwise)
    g.subgraph()
    a, b = _vector(g, "a"), _vector(g, "b")
    g.operator("RELU", [a], [b])
    g.ends([a], [b])
    return g.write(path, [c, x], [y])


def chain(path: Path, count: int) -> Path:
    g = TfliteGraph()
    weights = g.tensor("w", (2, 1, 1, 2), np.ones((2, 1, 1, 2), np.float32))
    last = first = g.tensor("x", (1, 2, 2, 2))
    for number in range(count):
        made = g.tensor(f"t{number}", (1, 2, 2, 2))
        if number == 0:
            g.operator("CONV_2D", [last, weights], [made], "Conv2DOptions", strideH=1, strideW=1)
        else:
            operator = g.schema.OperatorT()
            operator.opcodeIndex, operator.inputs, operator.outputs = 0, [last, weights], [made]
            operator.builtinOptions, operator.builtinOptionsType = (
                g.graph.operators[0].builtinOptions,
                g.graph.operators[0].builtinOptionsType,
            )
            g.graph.operators.append(operator)
        last = made
    return g.write(path, [first], [last])


def int8_convolution(path: Path) -> Path:
    weights, scales = np.arange(16, dtype=np.int8).reshape(4, 1, 1, 4), np.full(4, 0.5, np.float32)
    g = TfliteGraph()
    x, y, z = (
        g.tensor(name, (1, 2, 2, 4), kind="INT8", scale=0.25, zero_point=zero)
        for name, zero in (("x", 3), ("y", -5), ("z", 0))
    )
    w = g.tensor("w", weights.shape, weights, "INT8", scale=scales, zero_point=0)
    b = g.tensor("b", (4,), np.arange(4, dtype=np.int32), "INT32", scale=scales / 4, zero_point=0)
    g.operator(
        "CONV_2D", [x, w, b], [y], "Conv2DOptions", version=3, strideH=1, strideW=1, fusedActivationFunction=1
    )
    g.operator("CONV_2D", [y, w, b], [z], "Conv2DOptions", version=3, strideH=1, strideW=1)
    return g.write(path, [x], [z])


def _vector(graph: TfliteGraph, name: str) -> int:
    return graph.tensor(name, (2,))
