"""`mlconv inspect`, `check` and `compare`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from mlconv.cli import options as o
from mlconv.cli.terminal import Session
from mlconv.errors import BadUsage, CheckFailed, OptionNotAccepted
from mlconv.formats.refs import for_shell
from mlconv.result import Checked

Reference = Annotated[str, typer.Argument(metavar="REFERENCE", help="The model that is right.")]
Candidate = Annotated[str, typer.Argument(metavar="CANDIDATE", help="The model to hold against it.")]
Pairs = Annotated[
    str | None,
    typer.Option(
        "--outputs", metavar="A=B,...", help="Outputs of REFERENCE and CANDIDATE whose names differ."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands that look at models."""
    app.command(
        "inspect", help="Tell format, signature, operators, parameters, MACs and provenance; run nothing."
    )(inspect)
    app.command("check", help="Tell whether a model is sound: structure, loads in its runtime, runs once.")(
        o.grouped(check)
    )
    app.command("compare", help="Run two models on the same inputs and tell whether they agree.")(
        o.grouped(compare)
    )


def inspect(
    ctx: typer.Context,
    model: o.Model,
    signature: o.Signature = None,
    tag: o.Tag = None,
    module: o.Module = None,
) -> int:
    from mlconv.checks.models import inspect_model

    session: Session = ctx.obj
    if module is not None:
        raise OptionNotAccepted("`--module` means nothing to inspect yet", why="it would have to run the module",
                                fix=f"mlconv check {for_shell(model)} --module {for_shell(module)} runs it")  # fmt: skip
    inspected = inspect_model(model, signature, tag)
    if session.json:
        session.document(inspected.to_json())
    else:
        session.result(inspected.text())
    return 0


def check(ctx: typer.Context, model: o.Model, of_source: o.SourceOptions, runtime: o.Runtime = None) -> int:
    from mlconv.checks.models import check_model

    session: Session = ctx.obj
    wanted = replace(of_source.options(), runtime=runtime)
    with session.progress() as progress:
        checked = check_model(model, wanted, of_source.limits(), progress)
    if session.json:
        session.document(checked.to_json())
    else:
        session.result(checked.text())
        session.warnings(checked.warnings)
        if not checked.ok:
            session.error(check_failure(checked))
    return 0 if checked.ok else 1


def check_failure(checked: Checked) -> CheckFailed:
    """The verdict in one line, which names the checks that failed."""
    failed = [line.name for line in checked.checks if line.ok is False]
    loads = [line for line in checked.checks if line.name == "load" and line.ok]
    why = f"{loads[0].detail} loads it all the same" if loads and "run" not in failed else None
    return CheckFailed(
        f"`{checked.ref}` is not sound: {', '.join(dict.fromkeys(failed))} failed",
        why=why,
        fix=_cure(checked),
    )


def _cure(checked: Checked) -> str:
    """What to type next: the cure of the first failure that is known, else one that fits the lines."""
    failed = [line for line in checked.checks if line.ok is False]
    names = {line.name for line in failed}
    hints = [line.hint for line in failed if line.hint]
    if hints:
        return hints[0]
    unfit = [line for line in failed if ": " in line.name]
    if unfit:
        runtime = "==".join(unfit[0].name.partition(":")[0].split())
        if checked.format == "ort":
            from mlconv.runtimes.fit import loads_ort

            command = "ort" if loads_ort(runtime) else "onnx"
            return f"mlconv {command} SOURCE --runtime {runtime}, with the model that this file was made from"
        return f"mlconv onnx {for_shell(checked.ref)} --runtime {runtime} writes one that fits where it can"
    loads = any(line.name == "load" and line.ok for line in checked.checks)
    if checked.format == "onnx" and loads and not {"run", "operators", "external data"} & names:
        return f"mlconv onnx {for_shell(checked.ref)} writes a repaired copy where it can"
    return "mend in the source what is said above"


def compare(
    ctx: typer.Context,
    reference: Reference,
    candidate: Candidate,
    of_source: o.SourceOptions,
    outputs: Pairs = None,
    samples: o.Samples = 8,
    atol: o.Atol = None,
    rtol: o.Rtol = None,
) -> int:
    from mlconv.checks.models import compare_models

    session: Session = ctx.obj
    wanted = replace(of_source.options(), samples=samples, atol=atol, rtol=rtol)
    with session.progress() as progress:
        compared = compare_models(reference, candidate, wanted, _pairs(outputs), of_source.limits(), progress)
    if session.json:
        session.document(compared.to_json())
        return 0 if compared.ok else 1
    session.result(compared.text())
    session.warnings(compared.warnings)
    if compared.failure is not None:
        session.error(compared.failure)
    return 0 if compared.ok else 1


def _pairs(text: str | None) -> tuple[tuple[str, str], ...]:
    """``A=B,...`` as pairs.

    Raises:
        BadUsage: A pair has no `=`.
    """
    found = []
    for part in o.names(text):
        ours, equals, theirs = part.partition("=")
        if not equals or not ours or not theirs:
            raise BadUsage(
                f"--outputs {part}: not of the form A=B", fix="--outputs REFERENCE_NAME=CANDIDATE_NAME,..."
            )
        found.append((ours, theirs))
    return tuple(found)
