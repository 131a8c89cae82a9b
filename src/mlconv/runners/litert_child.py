"""Runs a TFLite file on LiteRT's built-in kernels, in a process of its own: some of them end the process.

Run by its path; it needs a LiteRT and numpy, not mlconv. The first line of stdin, in JSON, says what is run, each further
one on which arrays; each is answered by one line on stdout. Arrays cross as files of numpy's own.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Call:
    """How one entry point is run.

    Attributes:
        inputs: Numbers of the tensors that it takes, with the signature's own names of them.
        outputs: The same of those that it gives.
        signature: The name of an entry point behind the first subgraph, which LiteRT reaches by names alone.
    """

    inputs: Sequence[tuple[int, str]]
    outputs: Sequence[tuple[int, str]]
    signature: str | None = None

    def __call__(
        self, interpreter: Any, arrays: Sequence[np.ndarray], *, fresh: bool = True
    ) -> list[np.ndarray]:
        """One run from fresh state, or from that of the last one."""
        if self.signature is not None:
            if fresh:
                interpreter.reset_all_variables()
            given = {name: array for (_, name), array in zip(self.inputs, arrays, strict=True)}
            told = interpreter.get_signature_runner(self.signature)(**given)
            return [np.array(told[name]) for _, name in self.outputs]
        for (index, _), array in zip(self.inputs, arrays, strict=True):
            if _shape(interpreter, index) != array.shape:
                interpreter.resize_tensor_input(index, array.shape)
        interpreter.allocate_tensors()
        if fresh:
            interpreter.reset_all_variables()
        for (index, _), array in zip(self.inputs, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        return [_given(interpreter, index) for index, _ in self.outputs]


def _given(interpreter: Any, index: int) -> np.ndarray:
    """An output; the binding refuses to hand out one without elements, whose sizes it tells."""
    try:
        return np.array(interpreter.get_tensor(index))
    except ValueError:
        detail = next(detail for detail in interpreter.get_output_details() if detail["index"] == index)
        if 0 not in detail["shape"]:
            raise
        return np.empty(detail["shape"], detail["dtype"])


def _shape(interpreter: Any, index: int) -> tuple[int, ...]:
    detail = next(detail for detail in interpreter.get_input_details() if detail["index"] == index)
    return tuple(int(size) for size in detail["shape"])


def load(runtime: str, path: str, *, builtin: bool) -> Any:
    """An interpreter with LiteRT's default kernels (XNNPACK where they apply), or with its built-in ones alone.

    Args:
        runtime: The module that has ``Interpreter``, or ``tensorflow``.
    """
    module = importlib.import_module(runtime)
    if runtime == "tensorflow":
        module = module.lite
        resolvers = module.experimental.OpResolverType
    else:
        resolvers = module.OpResolverType
    chosen = {"experimental_op_resolver_type": resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES} if builtin else {}
    interpreter = module.Interpreter(model_path=path, **chosen)
    interpreter.allocate_tensors()  # a custom operator is found missing only here
    return interpreter


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # kernels print where they like
    request = json.loads(sys.stdin.readline())
    call = Call(request["inputs"], request["outputs"], request["signature"])
    interpreter = load(request["runtime"], request["path"], builtin=True)
    for line in sys.stdin:
        asked = json.loads(line)
        given = call(interpreter, [np.load(path) for path in asked["inputs"]])
        for path, array in zip(asked["outputs"], given, strict=True):
            np.save(path, array)
        answers.write("{}\n")
        answers.flush()


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, ValueError) as error:  # they refuse the model or the inputs: silence is the answer
        sys.exit(f"LiteRT's built-in kernels: {error}")
