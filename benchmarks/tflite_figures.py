"""What a converted TFLite file is judged by: how far its answers lie from LiteRT's, and what onnxruntime makes of its graph."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.tflite_sources import Fed, specs_of

from mlconv.convert.job import Job, Options
from mlconv.formats import ModelFile
from mlconv.runners import litert

INTEGER_KERNELS = (
    "QLinearConv", "QGemm", "QLinearMatMul", "QLinearAdd", "QLinearMul", "QLinearAveragePool", "QLinearGlobalAveragePool",
    "QLinearReduceMean", "QLinearConcat", "QLinearSigmoid", "QLinearSoftmax", "QLinearLeakyRelu", "MatMulIntegerToFloat",
    "DynamicQuantizeMatMul", "ConvInteger", "MatMulInteger", "DynamicQuantizeLSTM",
)  # fmt: skip
"""onnxruntime's operators on 8-bit numbers: what pairs of DequantizeLinear and QuantizeLinear become where they fuse."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far one output lies from LiteRT's, over all feeds.

    Attributes:
        lsb: The greatest difference of an integer output; None of a float one.
        relative: The greatest difference of a float output, by the greatest magnitude in that run; None of an integer one.
        share: The share of elements that differ at all.
    """

    lsb: int | None
    relative: float | None
    share: float

    def __str__(self) -> str:
        if self.relative is not None:
            return f"{self.relative:.1e}"
        return "0 LSB" if not self.lsb else f"{self.lsb} LSB ({100 * self.share:.2g} %)"


@dataclass(frozen=True, slots=True)
class Graph:
    """The shape of an ONNX file.

    Attributes:
        nodes: Of the file, those inside If, Loop and Scan too.
        runs: Nodes that onnxruntime is left with, after its optimisations on this machine.
        unfused: QuantizeLinear and DequantizeLinear among those.
        kernels: ``INTEGER_KERNELS`` among those.
    """

    size_bytes: int
    nodes: int
    transposes: int
    runs: int
    unfused: int
    kernels: dict[str, int]


def convert(path: Path, folder: Path, **options: Any) -> Path:
    """The ONNX file of mlconv's importer, finished as the command does it but for its provenance, in ``folder``."""
    from mlconv.convert import tflite_to_onnx
    from mlconv.convert.onnx_graph.file import save
    from mlconv.convert.onnx_graph.finish import variants

    job = Job(
        ModelFile(str(path), path, "tflite"), "onnx", folder / "imported.onnx", folder, Options(**options)
    )
    converted = tflite_to_onnx.run(job)
    finished = variants(job.output, replace(job.options, optimize=False), converted.inputs).plain
    return save(finished, folder / f"{path.stem}.onnx")[0]


def answers(path: Path, fed: Sequence[Fed]) -> list[list[np.ndarray]]:
    """LiteRT's, by its default kernels and with fresh state each: the reference."""
    runner = litert.open_runner(ModelFile(str(path), path, "tflite"), Options())
    return [list(runner.run(run.feeds).values()) for run in fed]


def builtin_answers(path: Path, fed: Sequence[Fed]) -> list[list[np.ndarray]]:
    """LiteRT's by its built-in kernels, which are what it falls back to; they abort the process on some models."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    specs = specs_of(path)
    interpreter = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    puts, found = interpreter.get_input_details(), []
    for run in fed:
        for put, spec in zip(puts, specs, strict=True):
            interpreter.resize_tensor_input(put["index"], run.feeds[spec.name].shape)
        interpreter.allocate_tensors()
        interpreter.reset_all_variables()
        for put, spec in zip(puts, specs, strict=True):
            interpreter.set_tensor(put["index"], run.feeds[spec.name])
        interpreter.invoke()
        found.append(
            [np.array(interpreter.get_tensor(out["index"])) for out in interpreter.get_output_details()]
        )
    return found


def onnx_answers(model: Path, fed: Sequence[Fed], *, threads: int = 1) -> list[list[np.ndarray]]:
    """What onnxruntime makes of the same feeds.

    Raises:
        ValueError: It has other inputs.
    """
    from mlconv.runners.onnx_session import OnnxSession

    session = OnnxSession(model, threads=threads)
    return [
        list(session.run(bound([spec.name for spec in session.inputs], run.feeds)).values()) for run in fed
    ]


def bound(names: Sequence[str], feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Feeds by the file's own names: other converters may reorder inputs, or rename them, as long as not both."""
    if len(names) != len(feeds):
        raise ValueError(f"inputs {', '.join(names)}, not {', '.join(feeds)}")
    return (
        {name: feeds[name] for name in names}
        if {*names} == {*feeds}
        else dict(zip(names, feeds.values(), strict=True))
    )


def differences(
    wanted: Sequence[Sequence[np.ndarray]], found: Sequence[Sequence[np.ndarray]]
) -> tuple[Difference, ...]:
    """Output by output, the worst over all runs. What is found beyond the outputs wanted carries state, and is left out.

    Raises:
        ValueError: The outputs have other shapes or types.
    """
    held = [run[: len(first)] for first, run in zip(wanted, found, strict=True)]
    return tuple(
        _difference(a, b) for a, b in zip(zip(*wanted, strict=True), zip(*held, strict=True), strict=True)
    )


def _difference(wanted: Sequence[np.ndarray], found: Sequence[np.ndarray]) -> Difference:
    for a, b in zip(wanted, found, strict=True):
        if (a.shape, a.dtype) != (b.shape, b.dtype):
            raise ValueError(f"an output is {b.dtype}{list(b.shape)}, not {a.dtype}{list(a.shape)}")
    differ = sum(int((~_same(a, b)).sum()) for a, b in zip(wanted, found, strict=True))
    share = differ / max(sum(a.size for a in wanted), 1)
    if np.issubdtype(wanted[0].dtype, np.floating):
        return Difference(None, max(_relative(a, b) for a, b in zip(wanted, found, strict=True)), share)
    worst = max(
        int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max(initial=0))
        for a, b in zip(wanted, found, strict=True)
    )
    return Difference(worst, None, share)


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Element by element; NaN is the same as NaN."""
    same: np.ndarray = (a == b) | ((a != a) & (b != b))  # numpy.isnan takes no booleans
    return same


def _relative(wanted: np.ndarray, found: np.ndarray) -> float:
    """Infinite where one side is not finite and the other is not the same."""
    same = _same(wanted, found)
    if not np.isfinite(wanted[~same]).all() or not np.isfinite(found[~same]).all():
        return float("inf")
    greatest = float(np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    worst = float(np.abs(wanted[~same].astype(np.float64) - found[~same]).max(initial=0.0))
    return worst / greatest if greatest else worst


def graph_of(model: Path) -> Graph:
    """Read the file, and let onnxruntime write what it would run."""
    import onnx
    import onnxruntime

    kinds = Counter(_kinds(onnx.load(model).graph))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = f"{folder}/optimised.onnx"
        onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        run = Counter(_kinds(onnx.load(options.optimized_model_filepath).graph))
    return Graph(
        model.stat().st_size, kinds.total(), kinds["Transpose"], run.total(), run["QuantizeLinear"] + run["DequantizeLinear"],
        {kind: run[kind] for kind in INTEGER_KERNELS if run[kind]},
    )  # fmt: skip


def _kinds(graph: Any) -> Iterator[str]:
    for node in graph.node:
        yield node.op_type
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                yield from _kinds(inner)
