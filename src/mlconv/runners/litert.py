"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.convert.job import Options
from mlconv.errors import MissingPackage, SourceDoesNotRun
from mlconv.formats import ModelFile, mapped, tflite, tflite_read
from mlconv.formats.tflite_graph import Model
from mlconv.messages import Scene, litert_words, recognised
from mlconv.runners.base import Feeds, Outputs
from mlconv.runners.tensorflow import outputs_apart, tensorflow
from mlconv.tensors import TensorSpec, with_input_options

PACKAGE_NAMES = ("ai-edge-litert", "tflite-runtime")
"""Distributions that may be the runtime; TensorFlow itself is the last resort."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry point of a file.

    Attributes:
        key: The signature's name; None where the file has none.
        subgraph: Its subgraph; the interpreter itself runs the first, others need the signature.
        inputs: Numbers of the tensors and what the user knows them as.
        outputs: The same; two may be one tensor.
    """

    key: str | None
    subgraph: int
    inputs: tuple[tuple[int, TensorSpec], ...]
    outputs: tuple[tuple[int, TensorSpec], ...]

    def outputs_apart(self) -> tuple[TensorSpec, ...]:
        """Outputs under names that no input bears."""
        return outputs_apart([spec for _, spec in self.inputs], [spec for _, spec in self.outputs])


def entry_of(source: ModelFile, model: Model, signature: str | None) -> Entry:
    """The entry point that `--signature` names, with the names that `inspect` prints.

    Raises:
        UnknownSignature: There is none of that name.
    """
    described = tflite.describe(source, signature)
    chosen = model.signature(signature)
    return Entry(
        chosen.key or None, chosen.subgraph, tuple(zip(chosen.inputs.values(), described.inputs, strict=True)),
        tuple(zip(chosen.outputs.values(), described.outputs, strict=True)),
    )  # fmt: skip


def is_quantized(model: Model) -> bool:
    """Whether anything in the file is an integer that stands for a real number: kernels may then round differently."""
    return any(tensor.quantization is not None for graph in model.subgraphs for tensor in graph.tensors)


def open_runner(model: ModelFile, options: Options) -> LiteRtRunner:
    """A TFLite file in LiteRT."""
    parsed = tflite_read.read(mapped.path_of(model))
    entry = entry_of(model, parsed, options.signature)
    inputs = with_input_options(tuple(spec for _, spec in entry.inputs), options.input)
    return LiteRtRunner(
        mapped.path_of(model), entry, inputs, entry.outputs_apart(), is_quantized=is_quantized(parsed)
    )


class LiteRtRunner:
    """One entry point of a TFLite file; every run begins with fresh state."""

    name = "litert-cpu"

    def __init__(
        self,
        path: Path,
        entry: Entry,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
        *,
        is_quantized: bool,
    ) -> None:
        """Load the file.

        Args:
            inputs: ``entry.inputs`` as they are called now, in the same order.
            outputs: The same for outputs.
            is_quantized: Whether kernels may round differently, so that ``spread`` has something to tell.

        Raises:
            SourceDoesNotRun: LiteRT does not take the file.
        """
        self.inputs, self.outputs = inputs, outputs
        self._path, self._entry, self._is_quantized = path, entry, is_quantized
        self._default = _load(path, builtin=False)
        self._builtin: Any = None
        self._last: tuple[Feeds, Outputs] | None = None

    def run(self, feeds: Feeds) -> Outputs:
        outputs = self._run(self._default, feeds)
        self._last = (feeds, outputs)
        return outputs

    def spread(self, feeds: Feeds) -> Outputs | None:
        """``|default - built-in|`` of each element; None for a float model, or where the built-in kernels refuse it.

        The reference kernels (BUILTIN_REF) are no third witness: they abort the process on some int8 networks.
        """
        if not self._is_quantized:
            return None
        ours = self._last[1] if self._last is not None and self._last[0] is feeds else self.run(feeds)
        try:
            self._builtin = self._builtin or _load(self._path, builtin=True)
            theirs = self._run(self._builtin, feeds)
        except (RuntimeError, ValueError, SourceDoesNotRun):
            return None
        return {
            name: np.abs(ours[name].astype(np.float64) - theirs[name].astype(np.float64)) for name in ours
        }

    def close(self) -> None:
        self._default = self._builtin = self._last = None

    def _run(self, interpreter: Any, feeds: Feeds) -> Outputs:
        arrays = [np.asarray(feeds[spec.name]) for spec in self.inputs]
        if self._entry.subgraph:
            return self._run_signature(interpreter, arrays)
        for (index, _), array in zip(self._entry.inputs, arrays, strict=True):
            if _shape(interpreter, index) != array.shape:
                interpreter.resize_tensor_input(index, array.shape)
        interpreter.allocate_tensors()
        interpreter.reset_all_variables()
        for (index, _), array in zip(self._entry.inputs, arrays, strict=True):
            interpreter.set_tensor(index, array)
        interpreter.invoke()
        numbers = [index for index, _ in self._entry.outputs]
        return {
            spec.name: np.array(interpreter.get_tensor(index))
            for spec, index in zip(self.outputs, numbers, strict=True)
        }

    def _run_signature(self, interpreter: Any, arrays: list[np.ndarray]) -> Outputs:
        """An entry point behind the first subgraph; LiteRT reaches it by the signature's names alone."""
        own_inputs = [spec.name for _, spec in self._entry.inputs]
        given: Mapping[str, np.ndarray] = interpreter.get_signature_runner(self._entry.key)(
            **dict(zip(own_inputs, arrays, strict=True))
        )
        own_outputs = [spec.name for _, spec in self._entry.outputs]
        return {spec.name: np.array(given[own]) for spec, own in zip(self.outputs, own_outputs, strict=True)}


def _shape(interpreter: Any, index: int) -> tuple[int, ...]:
    detail = next(detail for detail in interpreter.get_input_details() if detail["index"] == index)
    return tuple(int(size) for size in detail["shape"])


def _load(path: Path, *, builtin: bool) -> Any:
    """An interpreter with LiteRT's default kernels (XNNPACK where they apply), or with its built-in ones alone."""
    interpreter, resolvers = _runtime()
    chosen = {"experimental_op_resolver_type": resolvers.BUILTIN_WITHOUT_DEFAULT_DELEGATES} if builtin else {}
    try:
        loaded = interpreter(model_path=str(path), **chosen)
        loaded.allocate_tensors()  # a custom operator is found missing only here
    except (ValueError, RuntimeError) as error:
        known = recognised(error, Scene(path.name), litert_words.LOAD)
        if known:
            raise known from error
        raise SourceDoesNotRun(f"LiteRT does not load `{path.name}`", why=str(error).strip().splitlines()[0][:300],
                               fix="mlconv inspect it; custom operators need their own runtime") from error  # fmt: skip
    return loaded


def _runtime() -> tuple[Any, Any]:
    """``Interpreter`` and ``OpResolverType`` of the first runtime that is installed."""
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        return module.Interpreter, module.OpResolverType
    try:
        lite = tensorflow().lite
    except ImportError as error:
        raise MissingPackage("no LiteRT is installed", fix="pip install ai-edge-litert") from error
    return lite.Interpreter, lite.experimental.OpResolverType
