"""`inspect`, `check` and `compare` from the call to the value, for the library and the command line."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlconv import registry, worker
from mlconv.checks.data_options import assert_understood
from mlconv.checks.parity_words import parity_verdict
from mlconv.convert.job import Options
from mlconv.convert.trust import assert_trusted
from mlconv.errors import (
    NotFinite,
    OptionNotAccepted,
    SignaturesDiffer,
    SourceDoesNotRun,
    VerdictError,
    WrongFormat,
    counted,
)
from mlconv.formats import ModelFile
from mlconv.formats.refs import for_shell
from mlconv.jsonable import from_json, to_json
from mlconv.model import describe, identify
from mlconv.result import Checked, CheckLine, Compared, Inspected
from mlconv.runtimes.table import find


def inspect_model(source: str, signature: str | None = None, tag: str | None = None) -> Inspected:
    """What a file says of itself; nothing in it is run, and no framework is imported."""
    start = time.perf_counter()
    description = describe(identify(source), signature, tag)
    return Inspected(source, to_json(description), time.perf_counter() - start)


# ------------------------------------------------------------------ check


def check_model(source: str, options: Options, limits: worker.Limits, listener: worker.Listener) -> Checked:
    """Whether a model is sound: its structure, whether its runtime loads it, one run on random inputs.

    Raises:
        MlconvError: What is no verdict on the model: it is missing, unsafe, of a format without a runtime here.
    """
    start = time.perf_counter()
    assert_understood(options)
    model = identify(source)
    assert_used(options, [model])
    warnings = _table_warnings(options)
    side, spec = side_of(model, options)
    lines = _reading(model)
    with worker.start(limits, python=spec.interpreter(), preload=("numpy", *spec.needs[:1])) as started:
        told = run_in(started, "mlconv.checks.jobs:check", to_json(side), model, listener)
    lines += [from_json(CheckLine, line) for line in told]
    return Checked(source, model.format, tuple(lines), warnings, time.perf_counter() - start)


def _table_warnings(options: Options) -> tuple[str, ...]:
    """What is to be told of the table of ``--runtime``.

    Raises:
        UnknownRuntime: There is none.
    """
    warning = find(options.runtime).warning if options.runtime else None
    return (warning,) if warning else ()


def _reading(model: ModelFile) -> list[CheckLine]:
    """The reader's own account: it refuses (exit 3) what it cannot read."""
    if model.path is None or model.format in ("torch-module", "onnx"):
        return []
    description = describe(model)
    number = sum(description.operators.values())
    told = counted(number, "operator") if number else "read whole"
    return [CheckLine("structure", True, told)]


# ------------------------------------------------------------------ compare


def compare_models(
    reference: str,
    candidate: str,
    options: Options,
    pairs: Sequence[tuple[str, str]],
    limits: worker.Limits,
    listener: worker.Listener,
) -> Compared:
    """Run both models on the same inputs, each in its own runtime, and judge the candidate.

    Args:
        options: Of both; ``module`` and ``weights`` go to the side that takes them.
        pairs: Reference output and candidate output, where names differ; empty: by name.

    Raises:
        MlconvError: What is no verdict, such as a side that cannot be opened.
    """
    start = time.perf_counter()
    assert_understood(options)
    ours, theirs = identify(reference), identify(candidate)
    assert_used(options, [ours, theirs])
    (our_side, our_spec), (their_side, their_spec) = side_of(ours, options), side_of(theirs, options)
    with (
        tempfile.TemporaryDirectory(prefix="mlconv-compare-") as folder,
        worker.start(
            limits, python=their_spec.interpreter(), preload=("numpy", *their_spec.needs[:1])
        ) as second,
    ):
        with worker.start(
            limits, python=our_spec.interpreter(), preload=("numpy", *our_spec.needs[:1])
        ) as first:
            payload = {"side": to_json(our_side), "folder": folder}
            answers = run_in(first, "mlconv.checks.jobs:answers", payload, ours, listener)
        payload = {"side": to_json(their_side), "answers": answers, "pairs": list(pairs)}
        parity = run_in(second, "mlconv.checks.jobs:compare", payload, theirs, listener)
    return Compared(
        reference, candidate, parity, tuple(parity["notes"]), time.perf_counter() - start, verdict(parity)
    )


def verdict(parity: dict[str, Any]) -> VerdictError | None:
    failure = parity_verdict(parity)
    if failure is None:
        return None
    fix = "--atol and --rtol, where you know why they may differ"
    if isinstance(failure, NotFinite):
        fix = failure.fix if failure.why else "--data with inputs on which the reference gives numbers"
    elif isinstance(failure, SignaturesDiffer) and "--outputs" not in failure.what:
        fix = "compare models of one signature; mlconv inspect prints both"
    elif isinstance(failure, SignaturesDiffer):
        fix = "--outputs A=B,... pairs outputs whose names differ"
    return type(failure)(
        failure.what.replace("from the source", "from the reference"), why=failure.why, fix=fix
    )


# ------------------------------------------------------------------ both


_OPENING = (
    "module", "weights", "weights_prefix", "signature", "tag", "custom_objects", "trust_pickle", "trust_model",
)  # fmt: skip
"""Options that open a model: a converter that accepts one says that it means something to the format which it reads."""


def takers() -> dict[str, tuple[str, ...]]:
    """Options that not every model takes, and the formats to which each means anything."""
    converters = registry.converters()
    found = {
        name: tuple(dict.fromkeys(converter.source for converter in converters if name in converter.accepts))
        for name in _OPENING
    }
    return {**found, "runtime": ("onnx", "ort")}  # what `runtimes.fit` reads


def assert_used(options: Options, models: Sequence[ModelFile]) -> None:
    """No option vanishes.

    Raises:
        OptionNotAccepted: One was given that none of these models takes.
    """
    for name, formats in takers().items():
        if getattr(options, name) and not any(model.format in formats for model in models):
            told = " nor ".join(f"`{model.ref}` ({model.format})" for model in models)
            raise OptionNotAccepted(f"`--{name.replace('_', '-')}` means nothing to {told}",
                                    why=f"it is for {', '.join(formats)}", fix=f"leave --{name.replace('_', '-')} out")  # fmt: skip


def side_of(model: ModelFile, options: Options) -> tuple[Any, registry.RunnerSpec]:
    """How to open a model here.

    Raises:
        WrongFormat: Nothing runs this format.
        MissingPackage: Its runtime is not installed.
        InputError: It is unsafe.
    """
    from mlconv.checks.jobs import Side

    spec = registry.runner_for(model.format)
    if spec is None:
        raise WrongFormat(f"`{model.ref}` is {model.format}, which nothing here can run",
                          fix=f"mlconv inspect {for_shell(model.ref)} reads it without running it")  # fmt: skip
    others = {
        name: getattr(Options(), name) for name, formats in takers().items() if model.format not in formats
    }
    own = replace(options, **others)
    assert_trusted(model, own)
    registry.require(spec)
    return Side(model, own, spec.open), spec


def run_in(
    started: worker.Worker, function: str, payload: Any, model: ModelFile, listener: worker.Listener
) -> Any:
    try:
        return started.run(function, payload, listener)
    except worker.JobRaised as error:
        failed = SourceDoesNotRun(f"`{model.ref}` does not run", why=error.line, log=error.log,
                                  fix="mlconv check tells more; --debug shows where it happened")  # fmt: skip
        failed.__notes__ = [error.traceback]
        raise failed from error
