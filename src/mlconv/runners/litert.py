"""LiteRT (TensorFlow Lite) on the CPU."""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mlconv.convert.job import Options
from mlconv.errors import MissingPackage, SourceDoesNotRun
from mlconv.formats import ModelFile, mapped, tflite, tflite_read
from mlconv.formats.tflite_graph import Model
from mlconv.messages import Scene, litert_words, recognised
from mlconv.runners import litert_child
from mlconv.runners.base import Feeds, Outputs
from mlconv.runners.litert_child import Call
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

    def call(self) -> Call:
        """How LiteRT runs it: the first subgraph by tensors, the others by the signature's names."""
        return Call(
            [(index, spec.name) for index, spec in self.inputs], [(index, spec.name) for index, spec in self.outputs],
            self.key if self.subgraph else None,
        )  # fmt: skip

    def outputs_apart(self) -> tuple[TensorSpec, ...]:
        """Outputs under names that no input bears."""
        return outputs_apart([spec for _, spec in self.inputs], [spec for _, spec in self.outputs])


def entry_of(source: ModelFile, model: Model, signature: str | None) -> Entry:
    """The entry point that `--signature` names, with the names that `inspect` prints.

    Raises:
        UnknownSignature: There is none of that name.
    """
    described = tflite.describe(source, signature, parsed=model)
    chosen = model.signature(signature)
    return Entry(
        chosen.key or None, chosen.subgraph, tuple(zip(chosen.inputs.values(), described.inputs, strict=True)),
        tuple(zip(chosen.outputs.values(), described.outputs, strict=True)),
    )  # fmt: skip


def is_quantized(model: Model) -> bool:
    """Whether anything in the file is an integer that stands for a real number: kernels may then round differently."""
    return any(tensor.quantization is not None for graph in model.subgraphs for tensor in graph.tensors)


def has_resources(model: Model) -> bool:
    """Whether the file has resource variables, which LiteRT resets by nothing but a new interpreter."""
    return any(operator.kind == "VAR_HANDLE" for _, operator in model.operators())


def open_runner(model: ModelFile, options: Options) -> LiteRtRunner:
    """A TFLite file in LiteRT."""
    parsed = tflite_read.read(mapped.path_of(model))
    entry = entry_of(model, parsed, options.signature)
    inputs = with_input_options(tuple(spec for _, spec in entry.inputs), options.input)
    return LiteRtRunner(
        mapped.path_of(model), entry, inputs, entry.outputs_apart(), is_quantized=is_quantized(parsed),
        has_resources=has_resources(parsed),
    )  # fmt: skip


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
        has_resources: bool = False,
    ) -> None:
        """Load the file.

        Args:
            inputs: ``entry.inputs`` as they are called now, in the same order.
            outputs: The same for outputs.
            is_quantized: Whether kernels may round differently, so that ``spread`` has something to tell.
            has_resources: Whether a run leaves something behind that ``reset_all_variables`` does not clear.

        Raises:
            SourceDoesNotRun: LiteRT does not take the file.
        """
        self.inputs, self.outputs = inputs, outputs
        self._path, self._call, self._is_quantized = path, entry.call(), is_quantized
        self._runtime = _runtime()
        self._default = _load(self._runtime, path)
        self._has_resources, self._is_fresh = has_resources, True
        self._builtin: BuiltinKernels | None = None
        self._last: tuple[Feeds, Outputs] | None = None

    @property
    def kernels(self) -> str:
        """Which kernels answer: ``XNNPACK`` where LiteRT gave it any operator, else ``built-in``."""
        try:
            kinds = {told["op_name"] for told in self._default._get_ops_details()}  # noqa: SLF001  nothing public tells
        except (AttributeError, RuntimeError, ValueError):
            return "LiteRT's default kernels"
        return "XNNPACK" if "DELEGATE" in kinds else "built-in"

    def run(self, feeds: Feeds) -> Outputs:
        if self._has_resources and not self._is_fresh:
            self._default = _load(self._runtime, self._path)
        self._is_fresh = False
        outputs = self._named(self._call(self._default, self._arrays(feeds)))
        self._last = (feeds, outputs)
        return outputs

    def run_on(self, feeds: Feeds) -> Outputs:
        """A run that begins with the variables that the last one left."""
        self._is_fresh = False
        return self._named(self._call(self._default, self._arrays(feeds), fresh=False))

    def spread(self, feeds: Feeds) -> Outputs | None:
        """``|default - built-in|`` of each element; None for a float model, or where the built-in kernels refuse it.

        They run in a process of their own, since some end it. The reference kernels (BUILTIN_REF) are no third witness:
        they abort on some int8 networks.
        """
        if not self._is_quantized or self._has_resources:
            return None
        ours = self._last[1] if self._last is not None and self._last[0] is feeds else self.run(feeds)
        if self._builtin is None:
            self._builtin = BuiltinKernels(self._runtime, self._path, self._call)
        answer = self._builtin.run(self._arrays(feeds))
        if answer is None:
            return None
        theirs = self._named(answer)
        if any(ours[name].shape != theirs[name].shape for name in ours):
            return None
        return {
            name: np.abs(ours[name].astype(np.float64) - theirs[name].astype(np.float64)) for name in ours
        }

    def close(self) -> None:
        if self._builtin is not None:
            self._builtin.close()
        self._default = self._builtin = self._last = None

    def _arrays(self, feeds: Feeds) -> list[np.ndarray]:
        return [np.asarray(feeds[spec.name]) for spec in self.inputs]

    def _named(self, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        return {spec.name: array for spec, array in zip(self.outputs, arrays, strict=True)}


class BuiltinKernels:
    """LiteRT's built-in kernels on one entry point, in a process that may end: then there is no answer any more."""

    def __init__(self, runtime: str, path: Path, call: Call) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._folder = Path(tempfile.mkdtemp(prefix="mlconv-litert-"))
        self._outputs = [str(self._folder / f"out{number}.npy") for number in range(len(call.outputs))]
        self._process = subprocess.Popen(
            [sys.executable, "-P", litert_child.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        self._ask(
            {"runtime": runtime, "path": str(path.absolute()), "inputs": list(call.inputs), "outputs": list(call.outputs),
             "signature": call.signature}
        )  # fmt: skip

    def run(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray] | None:
        """The outputs; None where the kernels refused the model or the inputs, now or before."""
        if self._process is None:
            return None
        inputs = [str(self._folder / f"in{number}.npy") for number in range(len(arrays))]
        for path, array in zip(inputs, arrays, strict=True):
            np.save(path, array)
        self._ask({"inputs": inputs, "outputs": self._outputs})
        assert self._process.stdout is not None
        if not self._process.stdout.readline():
            self.close()
            return None
        return [np.load(path) for path in self._outputs]

    def close(self) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _ask(self, request: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended: its silence tells
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def __del__(self) -> None:
        self.close()


def _load(runtime: str, path: Path) -> Any:
    """An interpreter with LiteRT's default kernels.

    Raises:
        SourceDoesNotRun: LiteRT does not take the file.
    """
    try:
        return litert_child.load(runtime, str(path), builtin=False)
    except (ValueError, RuntimeError) as error:
        known = recognised(error, Scene(path.name), litert_words.LOAD)
        if known:
            raise known from error
        raise SourceDoesNotRun(f"LiteRT does not load `{path.name}`", why=str(error).strip().splitlines()[0][:300],
                               fix="mlconv inspect it; custom operators need their own runtime") from error  # fmt: skip


def _runtime() -> str:
    """The module of the first runtime that is installed."""
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        try:
            importlib.import_module(name)
        except ImportError:
            continue
        return name
    try:
        tensorflow()
    except ImportError as error:
        raise MissingPackage("no LiteRT is installed", fix="pip install ai-edge-litert") from error
    return "tensorflow"
