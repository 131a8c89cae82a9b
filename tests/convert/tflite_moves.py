"""One operator on given arrays, alone or behind a convolution, by LiteRT and by the importer: they agree to the last bit."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import TfliteGraph, by_litert, by_onnxruntime, imported

KINDS = {
    "float32": "FLOAT32", "float16": "FLOAT16", "int8": "INT8", "uint8": "UINT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "bool": "BOOL", "uint32": "UINT32",
}  # fmt: skip

QUANTIZED = {"int8": (0.05, -7), "uint8": (0.05, 113), "int16": (0.001, 0)}
"""A scale and a zero point for each type of codes."""


@dataclass(frozen=True)
class Given:
    """An operand: fed when the model runs, or a constant of it."""

    array: np.ndarray
    constant: bool = False
    scale: Any = None
    zero_point: Any = 0
    dynamic: bool = False  # its first axis


def fed(array: Any, scale: Any = None, zero_point: Any = 0, *, dynamic: bool = False) -> Given:
    return Given(np.asarray(array), False, scale, zero_point, dynamic)


def held(array: Any, dtype: Any = None, scale: Any = None, zero_point: Any = 0) -> Given:
    """A constant; lists are int32."""
    return Given(
        np.asarray(array, dtype or (np.int32 if isinstance(array, (list, int)) else None)),
        True,
        scale,
        zero_point,
    )


@dataclass(frozen=True)
class Result:
    """``shape`` matters where LiteRT reads the file's: SLICE."""

    dtype: str = "float32"
    scale: Any = None
    zero_point: Any = 0
    shape: Sequence[int] = (1,)


def some(shape: Sequence[int], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    """Seeded numbers of any type."""
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        return rng.standard_normal(shape).astype(np.float32)
    if dtype == "bool":
        return np.asarray(rng.integers(0, 2, shape, np.int64).astype(np.bool_))
    info = np.iinfo(dtype)
    return np.asarray(
        rng.integers(max(info.min, -999), min(info.max, 999) + 1, shape, np.int64).astype(dtype)
    )


def model(path: Path, kind: str, operands: Sequence[Given], results: Sequence[Result], shapes: Sequence[Sequence[int]], options: str = "",
          *, framed: bool = False, version: int = 1, **values: Any) -> Path:  # fmt: skip
    """Args: framed: the first operand comes out of a convolution by the identity, and so channels first."""
    graph = TfliteGraph()
    ins, inputs = [], []
    for number, given in enumerate(operands):
        more: dict[str, Any] = {"scale": given.scale, "zero_point": given.zero_point}
        if given.dynamic:
            more["signature"] = [-1, *given.array.shape[1:]]
        index = graph.tensor(
            f"x{number}",
            given.array.shape,
            given.array if given.constant else None,
            KINDS[str(given.array.dtype)],
            **more,
        )
        if not given.constant:
            inputs.append(index)
        ins.append(_convolved(graph, index, given) if framed and number == 0 else index)
    outs = [
        graph.tensor(
            f"y{number}", shape, None, KINDS[result.dtype], scale=result.scale, zero_point=result.zero_point
        )
        for number, (result, shape) in enumerate(zip(results, shapes, strict=True))
    ]
    graph.operator(kind, ins, outs, options, version=version, **values)
    return graph.write(path, inputs, outs)


def _convolved(graph: TfliteGraph, x: int, given: Given) -> int:
    channels, quantized = given.array.shape[-1], given.scale is not None
    eye = np.eye(channels, dtype=np.int8 if quantized else np.float32).reshape(channels, 1, 1, channels)
    weights = graph.tensor("eye", eye.shape, eye, KINDS[str(eye.dtype)], scale=1.0 if quantized else None)
    bias = np.zeros(channels, np.int32 if quantized else np.float32)
    zeros = graph.tensor("zeros", bias.shape, bias, KINDS[str(bias.dtype)], scale=given.scale)
    more: dict[str, Any] = {"signature": [-1, *given.array.shape[1:]]} if given.dynamic else {}
    same = graph.tensor(
        "same",
        given.array.shape,
        None,
        KINDS[str(given.array.dtype)],
        scale=given.scale,
        zero_point=given.zero_point,
        **more,
    )
    graph.operator(
        "CONV_2D",
        [x, weights, zeros],
        [same],
        "Conv2DOptions",
        version=3 if quantized else 1,
        strideH=1,
        strideW=1,
    )
    return same


def agree(path: Path, kind: str, operands: Sequence[Given], results: Sequence[Result] | Result = Result(), options: str = "",
          *, opset: int = 18, **values: Any) -> Path:  # fmt: skip
    """LiteRT's answers are onnxruntime's, bit for bit; gives the ONNX file."""
    results = [results] if isinstance(results, Result) else results
    feeds = [given.array for given in operands if not given.constant]
    first = model(path, kind, operands, results, [result.shape for result in results], options, **values)
    expected = by_litert(first, *feeds)
    model(path, kind, operands, results, [array.shape for array in expected], options, **values)
    found = imported(path, opset=opset)
    answers = by_onnxruntime(found, *feeds)
    for number, (want, have) in enumerate(itertools.zip_longest(expected, answers)):
        assert (want.shape, want.dtype) == (have.shape, have.dtype), (
            f"output {number}: {want.shape} {want.dtype}, {have.shape} {have.dtype}"
        )
        np.testing.assert_array_equal(have, want, err_msg=f"output {number}")
    return found


def operators(path: Path) -> list[str]:
    """The ONNX operators of a file."""
    import onnx

    return [node.op_type for node in onnx.load(str(path)).graph.node]
