"""`mlconv formats`, `doctor`, `explain` and `schema`: what the tool says of itself."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from mlconv.cli.terminal import Session
from mlconv.errors import ConflictingPackages


def register(app: typer.Typer) -> None:
    """Add the commands that describe the tool."""
    app.command("formats", help="List formats, converters and runners, and which of them are installed.")(
        formats
    )
    app.command("doctor", help="Tell what is installed, what clashes, and how to mend it.")(doctor)
    app.command("explain", help="Explain an error id: cause, example, cures. For example MLC214.")(explain)
    app.command("schema", help="Print the JSON Schema of a document, for example convert.")(schema)


def formats(ctx: typer.Context) -> int:
    from mlconv.about import formats as listed
    from mlconv.about import formats_text

    session: Session = ctx.obj
    start = time.perf_counter()
    document = listed()
    if session.json:
        session.document({**document, "seconds": round(time.perf_counter() - start, 3)})
    else:
        session.result(formats_text(document))
        session.warnings(document["warnings"])
    return 0


def doctor(ctx: typer.Context) -> int:
    from mlconv.doctor import diagnose

    session: Session = ctx.obj
    start = time.perf_counter()
    diagnosis = diagnose()
    if session.json:
        session.document(diagnosis.to_json(time.perf_counter() - start))
    else:
        session.result(diagnosis.text())
        blocking = [problem for problem in diagnosis.problems if problem.blocking]
        if blocking:
            session.error(ConflictingPackages(blocking[0].what, fix=blocking[0].fix))
    return 0 if diagnosis.ok else ConflictingPackages.exit


def explain(ctx: typer.Context, id: Annotated[str, typer.Argument(metavar="ID", help="An error id.")]) -> int:
    from mlconv.catalogue import entry

    session: Session = ctx.obj
    start = time.perf_counter()
    found = entry(id)
    if session.json:
        session.document(found.to_json(round(time.perf_counter() - start, 3)))
    else:
        session.result(found.text())
    return 0


def schema(
    ctx: typer.Context,
    name: Annotated[list[str], typer.Argument(metavar="NAME", help="A document or a command.")],
) -> int:
    from mlconv.schemas import schema as published

    session: Session = ctx.obj
    document: dict[str, Any] = published(" ".join(name))
    session.document(document)
    return 0
