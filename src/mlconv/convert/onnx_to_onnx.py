"""ONNX to ONNX: another opset, fixed or named axes, fewer outputs, and a graph that every checker takes.

Half precision, the IR version, the canonical form and onnxslim come after this, for artifacts of every source
(``onnx_finish``). The reference is the source file itself in onnxruntime.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import onnx
import onnx_ir as ir

from mlconv.checks.onnx_faults import unknown_operators
from mlconv.convert.job import Converted, Job
from mlconv.convert.onnx_graph.axes import with_inputs
from mlconv.convert.onnx_graph.canonical import canonical
from mlconv.convert.onnx_graph.file import load, save
from mlconv.convert.onnx_graph.outputs import cut
from mlconv.convert.onnx_graph.repair import repaired
from mlconv.convert.onnx_graph.versions import assert_supported, set_versions
from mlconv.errors import InvalidGraph, OutdatedPackage, SourceDoesNotRun, UnsupportedOperator, listed
from mlconv.formats.refs import for_shell
from mlconv.messages import Scene, onnxruntime_words, recognised
from mlconv.runners.base import Runner
from mlconv.runners.onnx_reference import OnnxReference
from mlconv.runners.onnx_session import OnnxSession, decisive, onnxruntime_limits
from mlconv.tensors import TensorSpec, with_input_options


def run(job: Job) -> Converted:
    """Write the source's graph as the options ask for it.

    Raises:
        Corrupt, PathEscape, ExternalDataMissing: The source cannot be read.
        UnsupportedOpset, UnknownInput, BadInputOption, UnknownOutput: An option does not fit it.
        InvalidGraph: Its types, shapes or values contradict each other.
        UnsupportedOperator: Operators that nothing defines; the message names all of them.
        OpsetOutOfReach: Operators without a form at the opset.
        SourceDoesNotRun: Neither onnxruntime nor onnx's reference evaluator runs the source.
    """
    path, options, limits = cast("Path", job.source.path), job.options, onnxruntime_limits()
    if options.opset is not None:
        assert_supported(options.opset, limits[0])
    source = load(path)
    _assert_made(source, job.source.ref)
    model, warnings = repaired(cut(source, options.outputs))
    model = canonical(model)
    _assert_known_operators(model, job.source.ref)
    reference = _reference(job, source, model, warnings)
    inputs = with_input_options(reference.inputs, options.input)
    model = with_inputs(model, reference.inputs, options.input)
    model = canonical(set_versions(model, options.opset, limits))
    save(model, job.output)
    outputs = _with_shapes(reference.outputs, model)
    return Converted(inputs, outputs, reference, "onnx", ("onnx", "onnx-ir", "onnxruntime"), warnings)


def _assert_known_operators(model: ir.Model, ref: str) -> None:
    unknown = unknown_operators(ir.to_proto(model))
    if unknown:
        names = [f"{domain}.{name}" if domain else name for domain, name in unknown]
        raise UnsupportedOperator(
            f"operators of `{ref}` are defined nowhere: {listed(names)}",
            why="neither onnx, the installed onnxruntime nor a function of the model has them",
            fix="cut the model before them with --outputs, or export it without them",
        )


def _reference(job: Job, source: ir.Model, model: ir.Model, warnings: list[str]) -> Runner:
    """The source in onnxruntime; where only its form keeps it from loading, the repaired graph in onnx's evaluator."""
    path = cast("Path", job.source.path)
    if job.options.outputs:
        path = job.scratch / "reference.onnx"
        save(cut(source, job.options.outputs), path)
    try:
        return OnnxSession(path)
    except Exception as error:  # onnxruntime's exceptions share no base class
        refused, cause = decisive(error), error
    known = recognised(refused, Scene(job.source.ref), onnxruntime_words.LOAD)
    if isinstance(known, InvalidGraph) and not _loads(model, job.scratch / "repaired.onnx"):
        raise known from cause
    if isinstance(known, OutdatedPackage) and model.opset_imports.get("", 0) > onnx.defs.onnx_opset_version():
        raise known from cause
    try:
        reference = OnnxReference(ir.to_proto(model))
    except Exception as error:  # the evaluator names what it lacks by whatever exception is at hand
        raise SourceDoesNotRun(
            f"onnxruntime does not load `{job.source.ref}`, and onnx's reference evaluator does not either",
            why=f"{refused}; {' '.join(str(error).split())[:200]}", fix=f"mlconv check {for_shell(job.source.ref)}",
        ) from cause  # fmt: skip
    warnings.append(
        f"onnxruntime does not load the source ({refused}); onnx's reference evaluator ran it instead"
    )
    return reference


def _loads(model: ir.Model, path: Path) -> bool:
    save(model, path)
    try:
        OnnxSession(path).close()
    except Exception:  # as above
        return False
    return True


def _assert_made(model: ir.Model, ref: str) -> None:
    """Every value that is read must come from somewhere."""
    read = [value for node in model.graph.all_nodes() for value in node.inputs if value is not None]
    loose = [
        value.name or "?"
        for value in (*read, *model.graph.outputs)
        if value.producer() is None and not value.is_graph_input() and not value.is_initializer()
    ]
    if loose:
        raise InvalidGraph(
            f"the graph of `{ref}` is not valid: nothing makes {listed(list(dict.fromkeys(loose)))}",
            fix="export it again with the tool that made it; mlconv check shows every fault",
        )


def _with_shapes(outputs: tuple[TensorSpec, ...], model: ir.Model) -> tuple[TensorSpec, ...]:
    """The outputs with the shapes that the artifact declares, where those follow from the source's and the options."""
    shapes = {value.name: value.shape for value in model.graph.outputs}
    found = []
    for spec in outputs:
        shape = shapes.get(spec.name)
        dims = None if shape is None else tuple(dim if isinstance(dim, int) else dim.value for dim in shape)
        found.append(spec if dims is None else replace(spec, shape=dims))
    return tuple(found)
