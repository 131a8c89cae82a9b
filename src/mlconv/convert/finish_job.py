"""The job that finishes an ONNX artifact and gathers its evidence, away from the source's framework.

The simplified graph is kept only where its evidence holds; otherwise the plain one is judged instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mlconv import progress
from mlconv.checks.computes import asked_for
from mlconv.checks.evidence import Answers, CandidateDoesNotRun, Parity, judge
from mlconv.checks.parity import Computes
from mlconv.checks.reference import usual_sizes
from mlconv.checks.samples import draw
from mlconv.checks.signatures import faults
from mlconv.checks.structure import Finding, check_structure
from mlconv.convert.job import Options, Referenced
from mlconv.convert.onnx_graph.file import save
from mlconv.convert.onnx_graph.finish import variants, with_provenance
from mlconv.formats import ModelFile
from mlconv.jsonable import from_json, to_json
from mlconv.runners.onnx_session import OnnxSession, decisive
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

    @property
    def computes(self) -> Computes:
        dtypes = {spec.dtype for spec in (*self.inputs, *self.outputs)}
        return asked_for(self.source, self.options.precision, dtypes)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was found out about one form of the artifact."""

    files: tuple[Path, ...]
    structure: tuple[Finding, ...]
    load: dict[str, Any]
    parity: Parity | None

    @property
    def ok(self) -> bool:
        sound = all(finding.ok is not False for finding in self.structure) and self.load["ok"]
        return bool(sound) and (self.parity is None or self.parity.ok)


def finish(payload: Mapping[str, Any]) -> Any:
    """Payload: ``Finish``. Result: ``{"files", "artifact", "checks", "warnings"}``."""
    job = from_json(Finish, payload)
    progress.report("finishing the ONNX graph")
    made = variants(job.converted, job.options, job.inputs, "structural" if job.renames else "kept")
    warnings = list(made.warnings)
    chosen: Evidence | None = None
    for model in (made.optimized, made.plain):
        if model is None:
            continue
        for old in chosen.files if chosen else ():
            old.unlink()
        own = {**job.provenance, "opset": model.graph.opset_imports[""]}
        files = save(with_provenance(model, own, job.options.metadata), job.output)
        found = _evidence(job, files)
        if chosen is not None and found.ok:
            warnings.append(
                "the simplified graph did not hold up against the source, so the plain one was kept"
            )
        chosen = found
        if chosen.ok:
            break
    assert chosen is not None
    return {"files": [path.name for path in chosen.files], "artifact": _artifact(chosen.files[0]),
            "checks": _checks(chosen), "warnings": warnings}  # fmt: skip


def _evidence(job: Finish, files: Sequence[Path]) -> Evidence:
    progress.report("checking structure and loading it in onnxruntime")
    structure = tuple(check_structure(files[0]).findings)
    try:
        runner = OnnxSession(files[0])
    except Exception as error:  # whatever onnxruntime raises means that it does not load this file
        return Evidence(tuple(files), structure, _load(False, decisive(error)), None)
    structure = (*structure, _signature(job, runner))
    if job.referenced is None:
        return Evidence(tuple(files), structure, _run_once(runner, job), None)
    progress.report("comparing with the source")
    told = job.referenced
    answers = Answers(told.runner, job.inputs, job.outputs, told.files, told.spread, told.spread_share, told.noise,
                      job.options.data or "random", job.options.seed, told.samples, told.notes)  # fmt: skip
    taken = {spec.name for spec in runner.inputs}
    given = {spec.name for spec in runner.outputs}
    try:
        parity = judge(
            runner, answers, [(spec.name, spec.name) for spec in job.outputs if spec.name in given],
            [(spec.name, spec.name) for spec in job.inputs if spec.name in taken],
            computes=job.computes, atol=job.options.atol, rtol=job.options.rtol,
        )  # fmt: skip
    except CandidateDoesNotRun as error:  # it loads, and does not run on what the source runs on
        return Evidence(tuple(files), structure, _load(False, decisive(error.cause)), None)
    return Evidence(tuple(files), structure, _load(True, ""), parity)


def _signature(job: Finish, runner: OnnxSession) -> Finding:
    found = [*faults(job.inputs, runner.inputs, "input"), *faults(job.outputs, runner.outputs, "output")]
    return Finding("signature", not found, "; ".join(found) or "that of the source")


def _run_once(runner: OnnxSession, job: Finish) -> dict[str, Any]:
    """One run on random inputs, where nothing is compared; string inputs are left at that."""
    if any(spec.dtype == "str" for spec in runner.inputs):
        return _load(True, "not run: it takes strings")
    ranges = {spec.name: spec.values for spec in job.inputs}
    specs = [replace(spec, values=ranges.get(spec.name)) for spec in runner.inputs]
    try:
        sizes = usual_sizes(runner, specs, axes_of(tuple(specs), job.options.input), job.options.seed)
        outputs = runner.run(draw(specs, sizes, job.options.seed, 0, kind="unit").feeds)
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


def _artifact(path: Path) -> dict[str, Any]:
    """Signature, opset and operator count as the file itself tells them."""
    from mlconv.formats.onnx_file import describe

    told = describe(ModelFile(str(path), path, "onnx"))
    return {"opset": told.opset, "inputs": to_json(told.inputs), "outputs": to_json(told.outputs),
            "operators": sum(told.operators.values())}  # fmt: skip
