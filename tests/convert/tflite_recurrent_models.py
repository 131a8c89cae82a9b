"""TFLite files of one recurrent operator, with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tflite_models import TfliteGraph, imported, relative

FLOAT = 1e-5


class Recurrent:
    """A file in the making; ``weights`` are float32, or int8 with a scale (hybrid)."""

    def __init__(self, seed: int = 0, *, hybrid: bool = False) -> None:
        self.graph, self.rng, self.hybrid = TfliteGraph(), np.random.default_rng(seed), hybrid
        self.made = 0

    def weights(self, *shape: int, spread: float = 0.4) -> int:
        real = self.rng.normal(0, spread, shape).astype(np.float32)
        if not self.hybrid:
            return self._add(shape, real, "FLOAT32")
        scale = float(np.abs(real).max()) / 127
        return self._add(shape, np.round(real / scale).astype(np.int8), "INT8", scale=scale)

    def vector(self, size: int, spread: float = 0.4) -> int:
        return self._add((size,), self.rng.normal(0, spread, size).astype(np.float32), "FLOAT32")

    def state(self, *shape: int, kind: str = "FLOAT32", **more: Any) -> int:
        return self._add(shape, None, kind, variable=True, **more)

    def input(self, *shape: int, kind: str = "FLOAT32", **more: Any) -> int:
        return self._add(shape, None, kind, **more)

    def codes(self, shape: Sequence[int], kind: str, scale: float, low: int, high: int) -> int:
        dtype = {"INT8": np.int8, "INT16": np.int16, "INT32": np.int32, "UINT8": np.uint8}[kind]
        return self._add(shape, self.rng.integers(low, high, shape).astype(dtype), kind, scale=scale)

    def halved(self, index: int) -> int:
        """The same constant in float16, behind a DEQUANTIZE; an absent one stays so."""
        if index < 0:
            return index
        tensor = self.graph.graph.tensors[index]
        array = np.frombuffer(self.graph.model.buffers[tensor.buffer].data, np.float32)
        half = self._add(tensor.shape, array.astype(np.float16), "FLOAT16")
        whole = self._add(tensor.shape, None, "FLOAT32")
        self.graph.operator("DEQUANTIZE", [half], [whole], "DequantizeOptions", version=3)
        return whole

    def _add(self, shape: Sequence[int], constant: Any, kind: str, **more: Any) -> int:
        self.made += 1
        return self.graph.tensor(f"t{self.made}", shape, constant, kind, **more)


def lstm_operands(
    file: Recurrent, features: int, cells: int, outputs: int, *, cifg: bool = False, peephole: bool = False, projection: bool = False,
    bias: bool = True,
) -> list[int]:  # fmt: skip
    """The first 18 operands behind the input: weights, recurrent weights, peepholes, biases, projection."""
    absent = [-1] if cifg else []
    gates = 3 if cifg else 4
    operands = absent + [file.weights(cells, features) for _ in range(gates)]
    operands += absent + [file.weights(cells, outputs) for _ in range(gates)]
    holes = [file.weights(cells) for _ in range(gates - 1)] if peephole else [-1] * (gates - 1)
    operands += absent + holes
    operands += absent + [file.vector(cells) for _ in range(gates)]
    operands += (
        [file.weights(outputs, cells), file.vector(outputs) if bias else -1] if projection else [-1, -1]
    )
    return operands


def run_steps(path: Path, feeds: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """What LiteRT answers to several runs one after the other, its state kept."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path))
    interpreter.allocate_tensors()
    interpreter.reset_all_variables()
    answers = []
    for feed in feeds:
        for detail, array in zip(interpreter.get_input_details(), feed, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        answers.append(
            [np.array(interpreter.get_tensor(detail["index"])) for detail in interpreter.get_output_details()]
        )
    return answers


def run_onnx_steps(path: Path, feeds: Sequence[Sequence[np.ndarray]]) -> list[list[np.ndarray]]:
    """The same of an ONNX file that is fed with its own state outputs."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    states = [value.name for value in session.get_overridable_initializers()]
    names = [value.name for value in session.get_inputs()]
    count = len(session.get_outputs()) - len(states)
    kept: dict[str, np.ndarray] = {}
    answers = []
    for feed in feeds:
        results = session.run(None, {**dict(zip(names, feed, strict=True)), **kept})
        answers.append([np.asarray(array) for array in results[:count]])
        kept = dict(zip(states, (np.asarray(array) for array in results[count:]), strict=True))
    return answers


def assert_steps(path: Path, feeds: list[list[np.ndarray]], bound: float = FLOAT, **options: Any) -> None:
    ours = run_onnx_steps(imported(path, **options), feeds)
    for mine, theirs in zip(ours, run_steps(path, feeds), strict=True):
        assert relative(mine, theirs) <= bound


def feeds_of(
    shape: tuple[int, ...], count: int = 3, inputs: int = 1, seed: int = 7
) -> list[list[np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [[rng.normal(0, 1, shape).astype(np.float32) for _ in range(inputs)] for _ in range(count)]
