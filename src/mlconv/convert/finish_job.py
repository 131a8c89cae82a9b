"""The job that finishes an ONNX artifact, or what is packed of one, and gathers its evidence, away from the source's framework.

The simplified graph is kept only where its evidence holds; otherwise the plain one is judged instead.
"""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from mlconv import progress
from mlconv.checks.computes import asked_for
from mlconv.checks.drawn import first_answer
from mlconv.checks.evidence import Answers, CandidateDoesNotRun, Parity, in_a_row, judge
from mlconv.checks.parity import Computes
from mlconv.checks.signatures import faults
from mlconv.checks.structure import Finding, check_structure
from mlconv.convert.job import Options, Referenced
from mlconv.convert.onnx_graph.file import save
from mlconv.convert.onnx_graph.finish import variants, with_provenance
from mlconv.convert.packing import Packed, Packer, Packing
from mlconv.errors import ConversionError
from mlconv.formats import ModelFile
from mlconv.jsonable import from_json, to_json
from mlconv.model import describe, identify
from mlconv.runners.onnx_session import OnnxSession, decisive
from mlconv.runtimes.fit import Fit, assert_fits
from mlconv.tensors import TensorSpec, axes_of


@dataclass(frozen=True, slots=True)
class Finish:
    """What the command tells this job.

    Attributes:
        converted: What the converter wrote.
        output: Where to write the artifact; its folder holds nothing else.
        inputs, outputs: The source's signature, which the artifact must have.
        referenced: The source's answers; None where nothing is to be compared.
        provenance: To be embedded.
        source: What it was made from; with ``options`` it decides what the artifact may compute in.
        renames: Whether names inside the graph are noise that differs from run to run.
        packing: What packs the ONNX artifact; None where that is the artifact.
        tuned: Whether the graph is left as its converter arranged it.
        states: Inputs and outputs that carry the source's variables, beside its own or, where they are in its file, among them.
    """

    converted: Path
    output: Path
    options: Options
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    referenced: Referenced | None
    provenance: dict[str, Any]
    source: ModelFile
    renames: bool = False
    packing: Packing | None = None
    tuned: bool = False
    states: tuple[tuple[str, str], ...] = ()

    @property
    def computes(self) -> Computes:
        dtypes = {spec.dtype for spec in (*self.inputs, *self.outputs)}
        return asked_for(self.source, self.options.precision, dtypes)


@dataclass(frozen=True, slots=True)
class Form:
    """An artifact, made of one graph.

    Attributes:
        graph: The ONNX file.
        files: The artifact, then what lies beside it.
        packed: What the packer told, where there is one, and how long it took.
    """

    graph: Path
    files: tuple[Path, ...]
    packed: Packed | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about one form of the artifact."""

    form: Form
    structure: tuple[Finding, ...]
    load: dict[str, Any]
    parity: Parity | None

    @property
    def ok(self) -> bool:
        sound = all(finding.ok is not False for finding in self.structure) and self.load["ok"]
        return bool(sound) and (self.parity is None or self.parity.ok)


def finish(payload: Mapping[str, Any]) -> Any:
    """Payload: ``Finish``. Result: ``{"files", "artifact", "checks", "warnings", "packed"}``."""
    job = from_json(Finish, payload)
    progress.report("finishing the ONNX graph")
    wanted = replace(job.options, optimize=False) if job.tuned else job.options
    made = variants(job.converted, wanted, job.inputs, "structural" if job.renames else "kept")
    packer = _packer(job)
    chosen: Evidence | None = None
    fits: Fit | None = None
    faults: list[str] = []
    for model in (made.optimized, made.plain):
        if model is None:
            continue
        try:
            form = _form(job, model, packer)
            fits = (
                assert_fits(job.options.runtime, form.graph, form.files[0]) if job.options.runtime else None
            )
            chosen = _evidence(job, form)
        except ConversionError as error:
            if model is made.plain:
                raise
            faults.append(error.what)
            continue
        if chosen.ok:
            break
        faults.append("it did not hold up against the source")
    assert chosen is not None
    warnings = [*made.warnings, *_told(fits), *(chosen.form.packed.warnings if chosen.form.packed else ())]
    if faults and chosen.ok:
        warnings.append(f"the simplified graph was dropped and the plain one kept: {faults[0]}")
    return {"files": [path.name for path in chosen.form.files], "artifact": _artifact(chosen.form.files[0]),
            "checks": {**_checks(chosen), **_runtime(fits, job.options.runtime)}, "warnings": warnings, "packed": _packed(packer, chosen.form)}  # fmt: skip


def _packer(job: Finish) -> Packer | None:
    if job.packing is None:
        return None
    module, _, function = job.packing.run.partition(":")
    packer: Packer = getattr(importlib.import_module(module), function)(job.options)
    return packer


def _form(job: Finish, model: ir.Model, packer: Packer | None) -> Form:
    """Write the artifact of one graph, in the place of what an earlier graph left there.

    Raises:
        ConversionError: The graph cannot be packed.
    """
    provenance = {**job.provenance, "opset": model.graph.opset_imports[""]}
    if packer is None or job.packing is None:
        files = save(
            with_provenance(model, provenance, job.options.metadata),
            _emptied(job.output.parent) / job.output.name,
        )
        return Form(files[0], files)
    own = {job.packing.name: {**packer.versions, **packer.settings}}
    provenance["converters"] = {**provenance["converters"], **own}
    folder = _emptied(job.output.parent.with_name("graph"))
    graph = save(with_provenance(model, provenance, job.options.metadata), folder / "graph.onnx")[0]
    _emptied(job.output.parent)
    progress.report(f"packing it with {packer.exporter}")
    start = time.perf_counter()
    packed = packer.pack(graph, job.output, job.packing.beside)
    return Form(graph, packed.files, packed, time.perf_counter() - start)


def _emptied(folder: Path) -> Path:
    """The folder without what an earlier graph left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def _evidence(job: Finish, form: Form) -> Evidence:
    progress.report("checking structure and loading it in onnxruntime")
    structure = tuple(check_structure(form.graph).findings)
    if form.packed is not None:
        packed = form.packed
        structure = (
            *structure,
            Finding("packed file", packed.fault is None, packed.fault or packed.read_back),
        )
    try:
        runner = OnnxSession(form.files[0])
    except Exception as error:  # whatever onnxruntime raises means that it does not load this file
        return Evidence(form, structure, _load(False, decisive(error)), None)
    structure = (*structure, _signature(job, runner))
    if job.referenced is None:
        return Evidence(form, structure, _run_once(runner, job), None)
    progress.report("comparing with the source")
    told = job.referenced
    answers = Answers(told.runner, job.inputs, job.outputs, told.files, told.spread, told.spread_share, told.noise,
                      job.options.data or "random", job.options.seed, told.samples, told.notes,
                      told.preprocess, told.kernels)  # fmt: skip
    taken = {spec.name for spec in runner.inputs}
    given = {spec.name for spec in runner.outputs}
    pairs = [(spec.name, spec.name) for spec in job.outputs if spec.name in given]
    feeds = [(spec.name, spec.name) for spec in job.inputs if spec.name in taken]
    atol, rtol = job.options.atol, job.options.rtol
    try:
        parity = judge(runner, answers, pairs, feeds, computes=job.computes, atol=atol, rtol=rtol)
        if told.steps:
            parity = in_a_row(
                parity, runner, answers, told.steps, pairs, feeds, computes=job.computes, atol=atol, rtol=rtol
            )
    except CandidateDoesNotRun as error:  # it loads, and does not run on what the source runs on
        return Evidence(form, structure, _load(False, decisive(error.cause)), None)
    return Evidence(form, structure, _load(True, ""), parity)


def _signature(job: Finish, runner: OnnxSession) -> Finding:
    own = {spec.name for spec in job.outputs}
    carrying = set(dict(job.states).values()) - own
    outputs = [spec for spec in runner.outputs if spec.name not in carrying]
    found = [*faults(job.inputs, runner.inputs, "input"), *faults(job.outputs, outputs, "output")]
    return Finding("signature", not found, "; ".join(found) or "that of the source")


def _run_once(runner: OnnxSession, job: Finish) -> dict[str, Any]:
    """One run on random inputs, where nothing is compared; string inputs are left at that."""
    if any(spec.dtype == "str" for spec in runner.inputs):
        return _load(True, "not run: it takes strings")
    ranges = {spec.name: spec.values for spec in job.inputs}
    specs = [replace(spec, values=ranges.get(spec.name)) for spec in runner.inputs]
    try:
        axes = axes_of(tuple(specs), job.options.input)
        outputs = first_answer(runner, specs, axes, job.options.seed)[1]
    except Exception as error:  # whatever onnxruntime raises
        return _load(False, decisive(error))
    floats = [np.asarray(array) for array in outputs.values()]
    bad = [array for array in floats if np.issubdtype(array.dtype, np.floating) and np.isnan(array).any()]
    return _load(not bad, "the outputs hold NaN" if bad else "")


def _load(ok: bool, detail: str) -> dict[str, Any]:
    import onnxruntime

    version = ".".join(onnxruntime.__version__.split(".")[:2])
    return {"ok": ok, "runner": "onnxruntime-cpu", "runtime": f"onnxruntime {version}", "detail": detail}


def _checks(found: Evidence) -> dict[str, Any]:
    return {
        "structure": {"ok": all(finding.ok is not False for finding in found.structure), "findings": to_json(found.structure)},
        "load": found.load,
        "parity": None if found.parity is None else to_json(found.parity),
    }  # fmt: skip


def _runtime(fits: Fit | None, asked: str | None) -> dict[str, Any]:
    return {} if fits is None or asked is None else {"runtime": fits.to_json(asked)}


def _told(fits: Fit | None) -> list[str]:
    return list(fits.warnings) if fits is not None else []


def _packed(packer: Packer | None, form: Form) -> dict[str, Any] | None:
    """What the packer's step of the route tells."""
    if packer is None:
        return None
    return {"exporter": packer.exporter, "versions": packer.versions, "seconds": round(form.seconds, 3)}


def _artifact(path: Path) -> dict[str, Any]:
    """Signature, opset and operator count as the file itself tells them."""
    told = describe(identify(str(path)))
    return {"opset": told.opset, "inputs": to_json(told.inputs), "outputs": to_json(told.outputs),
            "operators": sum(told.operators.values())}  # fmt: skip
