"""One conversion from the call to the files in their places: `mlconv.to_onnx`, `mlconv onnx`, `mlconv ort`.

identify -> routes -> safety -> output is free -> worker 1: convert, run the source on samples
-> worker 2: finish the graph, pack it where the target is a packed form, check it, run it on the same samples, compare
-> put into place.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import shlex
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from mlconv import __version__, output, registry, tested, worker
from mlconv.checks.data_options import assert_understood, unused
from mlconv.checks.parity_words import parity_verdict
from mlconv.convert import origin as origins
from mlconv.convert.job import Job, Options, Sourced
from mlconv.convert.live import Live
from mlconv.convert.packing import PLATFORMS, Packing
from mlconv.convert.tflite_import.isa import ISAS
from mlconv.convert.trust import assert_trusted
from mlconv.errors import (
    BadUsage,
    CompiledForEdgeTpu,
    ConversionError,
    ConverterFailed,
    Crashed,
    LoadFailed,
    OptionNotAccepted,
    SignaturesDiffer,
    StructureFailed,
    VerdictError,
    WrongFormat,
    listed,
)
from mlconv.formats import ModelFile
from mlconv.jsonable import from_json, to_json
from mlconv.messages import Scene, onnxruntime_words, recognised
from mlconv.messages.anywhere import from_job
from mlconv.model import identify
from mlconv.registry import Converter, Route
from mlconv.result import Artifact, Attempt, Conversion, Source, Step
from mlconv.runtimes.fit import with_versions
from mlconv.scratch import scratch_beside
from mlconv.tensors import TensorSpec

COMMON = frozenset({"metadata", "data", "preprocess", "samples", "seed", "atol", "rtol", "parity"})
"""Options that the pipeline itself carries out, whatever the converter."""

_SUFFIX = {"onnx": ".onnx", "ort": ".ort"}
_OTHER_SUFFIXES = frozenset(
    {".onnx", ".ort", ".tflite", ".mlmodel", ".mlpackage", ".keras", ".h5", ".pb", ".pt2", ".safetensors"}
)


@dataclass(frozen=True, slots=True)
class _Finishing:
    """The job that makes artifacts of what a walk ended in, and what its worker imports meanwhile."""

    run: str
    preload: tuple[str, ...]


_FINISHING = {
    "onnx": _Finishing(
        "mlconv.convert.finish_job:finish", ("numpy", "onnx", "onnxruntime", "mlconv.convert.finish_job")
    )
}
"""By the format in which the converters of a route end, a packer left out."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a user asks of a conversion beyond the model's own options.

    Attributes:
        live: The source, where it is a model of this process and no file.
    """

    output: str | None = None
    force: bool = False
    via: str | None = None
    write_anyway: bool = False
    limits: worker.Limits = field(default_factory=worker.Limits)
    listener: worker.Listener = worker.silent
    live: Live | None = None


def convert(source: str, target: str, options: Options, call: Call) -> Conversion:
    """Convert, prove and write.

    Returns:
        The whole result. ``ok`` is False where the evidence says no; then nothing was written, unless asked for.

    Raises:
        MlconvError: Everything that is no verdict, see ``mlconv.errors``.
    """
    start = time.perf_counter()
    live = call.live
    assert_understood(options)
    model = identify(source) if live is None else live.model
    if live is None:
        assert_trusted(model, options)
    _assert_processors(options)
    routes = _routes(model, target, options, call.via)
    options = with_versions(options, model, target)
    place = (
        Path(call.output)
        if call.output
        else Path(output.default_name(model, _SUFFIX[target], _opset(model, options)))
    )
    output.assert_no_folder(place, _SUFFIX[target])
    files_read = origins.reads(model, options) if live is None else origins.of_live(live, options)
    beside = tuple(dict.fromkeys(path for route in routes for path in _beside(place, route)))
    destination = output.Target(
        place, files_read.files, files_read.identity, call.force, beside, _SUFFIX[target]
    )
    output.assert_free(destination)
    _assert_own_suffix(place, target)
    call = replace(call, limits=call.limits.from_now())
    with (
        scratch_beside(place) as scratch,
        worker.start(call.limits, preload=_finishing(routes[0]).preload) as finisher,
    ):
        before = origins.look(files_read)
        made = _first_that_works(routes, model, options, call, scratch)
        origins.assert_unchanged(files_read, before)
        origin = _source(model, made.sourced, before)
        finished = _finish(
            finisher,
            made,
            _finish_payload(model, origin, made, options, destination, scratch / "finished"),
            call,
        )
        files = [scratch / "finished" / name for name in finished["files"]]
        failure = verdict(finished["checks"])
        steps = _steps(made, finished)
        conversion = Conversion(
            failure is None, origin, _artifact(finished, files, target, place), steps, finished["checks"],
            (*_fallback(steps), *made.sourced.warnings, *finished["warnings"], *unused(options), *_untested(steps)), time.perf_counter() - start, failure,
        )  # fmt: skip
        if failure is None or call.write_anyway:
            output.put(files, destination, {**conversion.to_json(), **_circumstances(options)})
            return conversion
    return replace(conversion, artifact=replace(conversion.artifact, written=False))


# ------------------------------------------------------------------ before anything runs


def _routes(model: ModelFile, target: str, options: Options, via: str | None) -> tuple[Route, ...]:
    """The routes that are installed and accept every option that was given.

    Raises:
        CompiledForEdgeTpu, WrongFormat: There is no route.
        OptionNotAccepted: No route takes an option.
        MissingPackage: None is installed.
    """
    found = tuple(
        route
        for route in registry.routes(model.format, target, via)
        if _converted_format(route) in _FINISHING
    )
    if not found and model.format == "tflite-edgetpu":
        raise CompiledForEdgeTpu(
            f"`{model.ref}` is compiled for the Edge TPU",
            why="its operators are machine code of that chip; the network is no longer in the file",
            fix="convert the .tflite file that was given to edgetpu_compiler",
        )
    if not found:
        sources = {converter.source for converter in registry.converters()}
        takes = sorted(source for source in sources if registry.routes(source, target))
        raise WrongFormat(f"`{model.ref}` is {model.format}, which is not converted to {target}",
                          why=f"these are: {', '.join(takes)}", fix="mlconv formats")  # fmt: skip
    accepting = [route for route in found if not _refused(options, route)]
    if not accepting:
        _refuse(options, found[0], target)
    runnable = [route for route in accepting if not any(converter.missing() for converter in route)]
    if not runnable:
        for converter in accepting[0]:
            registry.require(converter)
    return tuple(runnable)


def _assert_own_suffix(place: Path, target: str) -> None:
    """Refuse to write one format under the suffix of another, which every tool would then take it for.

    Raises:
        BadUsage: The output's name ends so.
    """
    if place.suffix in _OTHER_SUFFIXES - {_SUFFIX[target]}:
        named = place.with_suffix(_SUFFIX[target])
        raise BadUsage(f"-o {place}: an {target.upper()} file is written, and `{place.suffix}` is the suffix of another format",
                       fix=f"-o {shlex.quote(str(named))}")  # fmt: skip


def _assert_processors(options: Options) -> None:
    """Before anything runs, since only one step of a route would look at it.

    Raises:
        BadUsage: `--target-platform` or `--target-isa` is none.
    """
    if options.target_isa not in (None, *ISAS):
        raise BadUsage(f"--target-isa {options.target_isa}: there are {listed(ISAS)}",
                       fix="--target-isa portable for any processor, or leave it out for this machine's")  # fmt: skip
    if options.target_platform not in (None, *PLATFORMS):
        raise BadUsage(f"--target-platform {options.target_platform}: there are {' and '.join(PLATFORMS)}",
                       fix="--target-platform arm for ARM of any width, amd64 for x86-64")  # fmt: skip


def _converting(route: Route) -> Route:
    """The converters of a route that have a worker of their own."""
    return tuple(converter for converter in route if not converter.packs)


def _packer(route: Route) -> Converter | None:
    return route[-1] if route[-1].packs else None


def _converted_format(route: Route) -> str:
    return _converting(route)[-1].target


def _finishing(route: Route) -> _Finishing:
    return _FINISHING[_converted_format(route)]


def _beside(place: Path, route: Route) -> tuple[Path, ...]:
    """Where a packer writes beside the artifact: names that are known before anything runs."""
    packer = _packer(route)
    stem = place.name.removesuffix(_SUFFIX[route[-1].target])
    return tuple(place.with_name(stem + suffix) for suffix in packer.beside) if packer else ()


def _refused(options: Options, route: Route) -> list[str]:
    accepted = COMMON.union(*(converter.accepts for converter in route))
    defaults = Options()
    names = [
        field.name
        for field in fields(Options)
        if getattr(options, field.name) != getattr(defaults, field.name)
    ]
    return [name for name in names if name not in accepted]


_STAYS = {
    "quantize": "the artifact computes in --precision fp32 or fp16, and what is quantized in the source stays quantized",
    "dequantize": "what is quantized in the source stays quantized",
    "layout": "inputs and outputs keep the layout that they have in the source",
}
"""What a conversion does where an option that changes it is not taken."""


def _refuse(options: Options, route: Route, target: str) -> None:
    refused = _refused(options, route)
    flags = [_flag(name) for name in refused]
    names = ", ".join(f"`{converter.name}`" for converter in route)
    takes = sorted(COMMON.union(*(converter.accepts for converter in route)))
    reasons = [_reason(name, target) for name in refused]
    raise OptionNotAccepted(
        f"{listed(flags)} {'means' if len(flags) == 1 else 'mean'} nothing to {names}, which converts {route[0].source} to {target}",
        why=f"{'; '.join(reasons)}; this conversion takes {', '.join(map(_flag, takes))}",
        fix=f"leave {' and '.join(flags)} out",
    )


def _reason(name: str, target: str) -> str:
    """Who takes an option that a route does not: other sources of the target, other targets, or nobody."""
    takers = [converter for converter in registry.converters() if name in converter.accepts]
    sources = {taker.source for taker in takers if not taker.packs and registry.routes(taker.source, target)}
    targets = {taker.target for taker in takers}
    if sources:
        return f"`{_flag(name)}` is for sources of {', '.join(sorted(sources))}"
    if targets:
        return f"`{_flag(name)}` is for {', '.join(f'mlconv {other}' for other in sorted(targets))}"
    return f"no target has `{_flag(name)}`" + (f": {_STAYS[name]}" if name in _STAYS else "")


def _flag(name: str) -> str:
    """The option as it is typed; of those that are on by default, what turns them off."""
    return f"--{'no-' if name in ('optimize', 'parity') else ''}{name.replace('_', '-')}"


def _opset(model: ModelFile, options: Options) -> int | None:
    if options.opset is not None or model.format != "onnx":
        return options.opset or 18
    from mlconv.model import describe

    return describe(model).opset


# ------------------------------------------------------------------ the first worker


@dataclass(frozen=True, slots=True)
class _Made:
    """What the converters of a walk left: the last one's file (external data lies beside it), and how it came about.

    Attributes:
        route: All of it, the packer included.
        sourced: What the first one told of the source, with the warnings of all.
    """

    path: Path
    route: Route
    sourced: Sourced
    steps: tuple[Step, ...]


def _first_that_works(
    routes: Sequence[Route], model: ModelFile, options: Options, call: Call, scratch: Path
) -> _Made:
    """Try the routes in turn; the record keeps every attempt.

    Raises:
        MlconvError: That of the first route, where none works. Input, usage and limits end the search at once:
            no other converter would read a broken file.
    """
    attempts: list[Attempt] = []
    first: ConversionError | Crashed | None = None
    for number, route in enumerate(routes):
        folder = scratch / f"route{number}"
        folder.mkdir()
        try:
            return _walk(route, model, options, call, folder, tuple(attempts))
        except (ConversionError, Crashed) as error:
            first = first or error
            attempts.append(Attempt(route[0].name, error.id, error.what))
    assert first is not None
    if len(attempts) > 1:
        tried = "; ".join(f"`{attempt.converter}`: {attempt.what}" for attempt in attempts[1:])
        first.why = f"{first.why + '; ' if first.why else ''}tried next: {tried}"
    raise first


def _walk(
    route: Route, model: ModelFile, options: Options, call: Call, folder: Path, attempts: tuple[Attempt, ...]
) -> _Made:
    """Each converter of the route but a packer in a worker of its own; the first one also runs the source."""
    told: list[Sourced] = []
    steps: list[Step] = []
    path = folder
    for number, converter in enumerate(_converting(route)):
        path = folder / f"step{number}{_SUFFIX.get(converter.target, '')}"
        job = Job(model, converter.target, path, folder, options)
        if number == 0 and call.live is not None and call.live.model.path is None:
            sourced = call.live.convert(converter, job, call.listener)
        else:
            sourced = _convert_in_worker(converter, job, call, reference=number == 0)
        told.append(sourced)
        steps.append(Step(converter.source, converter.target, converter.name, sourced.exporter, dict(sourced.versions),
                          round(sourced.seconds, 3), attempts if number == 0 else (), dict(sourced.settings)))  # fmt: skip
        model = ModelFile(str(path), path, converter.target)  # type: ignore[arg-type]
    warnings = dict.fromkeys(warning for sourced in told for warning in sourced.warnings)
    stable = all(sourced.stable_names for sourced in told)
    return _Made(
        path,
        route,
        replace(told[0], warnings=tuple(warnings), stable_names=stable, tuned=told[-1].tuned),
        tuple(steps),
    )


def _convert_in_worker(converter: Converter, job: Job, call: Call, *, reference: bool) -> Sourced:
    witness = None if converter in registry.CONVERTERS else registry.runner_for(job.source.format)
    payload = {
        "run": converter.run, "job": to_json(job), "reference": reference,
        "witness": witness.open if reference and witness is not None and not witness.missing() else None,
    }  # fmt: skip
    call.listener(f"converting with {converter.name}")
    try:
        with worker.start(
            call.limits, python=converter.interpreter(), preload=converter.needs[:1]
        ) as started:
            return from_json(
                Sourced, started.run("mlconv.convert.source_job:convert", payload, call.listener)
            )
    except worker.JobRaised as error:
        failed = from_job(error.text, job.source.ref) or ConverterFailed(
            f"`{converter.name}` could not convert `{job.source.ref}`", why=error.line,
            fix="read the log; --debug shows where it happened",
        )  # fmt: skip
        failed.log = error.log
        failed.__notes__ = [error.traceback]
        raise failed from error


# ------------------------------------------------------------------ the second worker


def _finish_payload(
    model: ModelFile, source: Source, made: _Made, options: Options, destination: output.Target, folder: Path
) -> dict[str, Any]:
    """What ``finish_job.Finish`` reads."""
    told = made.sourced
    packer, artifact = _packer(made.route), folder / destination.path.name
    return {
        "converted": str(made.path), "source": to_json(model), "output": str(artifact),
        "options": to_json(options), "inputs": to_json(told.inputs), "outputs": to_json(told.outputs),
        "referenced": to_json(told.referenced), "renames": not told.stable_names, "tuned": told.tuned,
        "states": list(told.states),
        "packing": to_json(Packing(packer.name, packer.run, _beside(artifact, made.route))) if packer else None,
        "provenance": {
            "mlconv": __version__, "converters": {step.converter: {**step.versions, **step.settings} for step in made.steps}, "date": today(),
            "source": {"name": _plain_name(source), "format": source.format, "sha256": source.sha256,
                       "weights_sha256": source.weights_sha256},
        },
    }  # fmt: skip


def _finish(finisher: worker.Worker, made: _Made, payload: dict[str, Any], call: Call) -> Any:
    """The artifact with its evidence; of the plain graph where the simplified one crashes the runtime."""
    run = _finishing(made.route).run
    try:
        return _finish_in(finisher, run, payload, call)
    except Crashed as error:
        if not payload["options"]["optimize"]:
            raise
        told = f"{error.what} on the simplified graph, so the plain one was kept, not optimized"
    plain = {**payload, "options": {**payload["options"], "optimize": False}}
    with worker.start(call.limits, preload=_finishing(made.route).preload) as another:
        finished = _finish_in(another, run, plain, call)
    return {**finished, "warnings": [*finished["warnings"], told]}


def _finish_in(finisher: worker.Worker, run: str, payload: dict[str, Any], call: Call) -> Any:
    folder = Path(payload["output"]).parent
    shutil.rmtree(folder, ignore_errors=True)  # what a worker left that crashed
    folder.mkdir()
    call.listener("checking the artifact and comparing it with the source")
    try:
        return finisher.run(run, payload, call.listener)
    except worker.JobRaised as error:
        failed = ConverterFailed("the converted model could not be finished", why=error.line, log=error.log,
                                 fix="--no-optimize may help; --debug shows where it happened")  # fmt: skip
        failed.__notes__ = [error.traceback]
        raise failed from error


def verdict(checks: dict[str, Any]) -> VerdictError | None:
    """The first piece of evidence that says no: structure, then loading, then each output.

    Each row of ``checks.parity.outputs`` that failed has figures or a fault in words.
    """
    structure, load, parity = checks["structure"], checks["load"], checks.get("parity")
    named = [
        line["detail"] for line in structure["findings"] if line["name"] == "signature" and not line["ok"]
    ]
    if named:
        return SignaturesDiffer(f"the artifact has not the source's signature: {named[0][:600]}",
                                fix="--write-anyway keeps the file for a look")  # fmt: skip
    if not structure["ok"]:
        faults = [line["detail"] for line in structure["findings"] if line["ok"] is False]
        return StructureFailed(f"the converted model is not valid ONNX: {'; '.join(faults)[:600]}",
                               fix="--write-anyway keeps the file, mlconv check shows all findings")  # fmt: skip
    if load is not None and not load["ok"]:
        known = recognised(load["detail"], Scene("the converted model"), onnxruntime_words.LOAD)
        if isinstance(known, LoadFailed):
            return known
        return LoadFailed(f"{load['runner']} does not run the converted model: {load['detail']}",
                          fix="--write-anyway keeps the file for a look; another --opset or --no-optimize may do")  # fmt: skip
    return parity_verdict(parity) if parity else None


# ------------------------------------------------------------------ the result


def _source(model: ModelFile, told: Sourced, content: origins.Content) -> Source:
    return Source(model.ref, model.format, content.sha256, content.bytes, told.weights, told.inputs, told.outputs,
                  content.weights_sha256)  # fmt: skip


def _steps(made: _Made, finished: Any) -> tuple[Step, ...]:
    """The route as it was gone, the packer's step last."""
    packer, told = _packer(made.route), finished["packed"]
    if packer is None or told is None:
        return made.steps
    packed = Step(
        packer.source, packer.target, packer.name, told["exporter"], told["versions"], told["seconds"]
    )
    return (*made.steps, packed)


def _fallback(steps: Sequence[Step]) -> list[str]:
    """That another converter than the best one made the artifact, and why: its answers may be worse."""
    return [
        f"`{attempt.converter}` could not convert it, and `{step.converter}` did: {attempt.what}"
        for step in steps
        for attempt in step.attempts
    ]


def _untested(steps: Sequence[Step]) -> list[str]:
    """Which versions of what was used the test suite never ran with."""
    return tested.told({name: version for step in steps for name, version in step.versions.items()})


def _artifact(finished: Any, files: Sequence[Path], target: str, place: Path) -> Artifact:
    told = finished["artifact"]
    return Artifact(
        str(place), target, output.digest(files[0]), files[0].stat().st_size, told["opset"], _specs(told["inputs"]),
        _specs(told["outputs"]), told["operators"], (place.name, *(path.name for path in files[1:])),
    )  # fmt: skip


def _specs(items: Sequence[Any]) -> tuple[TensorSpec, ...]:
    return tuple(from_json(TensorSpec, item) for item in items)


def _plain_name(source: Source) -> str:
    """The source without its folders: provenance travels with the artifact, paths of a machine do not."""
    file, colon, name = (
        source.ref.rpartition(":") if source.format == "torch-module" else (source.ref, "", "")
    )
    return Path(file).name + colon + name


def today() -> str:
    """The date in ISO 8601, UTC; ``SOURCE_DATE_EPOCH`` fixes it, for builds that must repeat."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = dt.datetime.now(dt.UTC)
    with contextlib.suppress(ValueError, OverflowError):
        moment = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch else moment
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _circumstances(options: Options) -> dict[str, Any]:
    """What the record tells beyond the printed document."""
    return {"options": to_json(options), "mlconv": __version__, "date": today()}
