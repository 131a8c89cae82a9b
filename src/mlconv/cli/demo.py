"""`mlconv demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from mlconv.cli.terminal import Session

Folder = Annotated[
    str, typer.Argument(metavar="[FOLDER]", help="Where to leave the artifacts; it is made if need be.")
]


def register(app: typer.Typer) -> None:
    """Add the demonstration."""
    app.command(
        "demo",
        help="Convert a classifier of handwritten digits from every framework that is installed, with proof.",
    )(demo)


def demo(ctx: typer.Context, folder: Folder = "mlconv-demo") -> int:
    from mlconv.demo.show import run

    session: Session = ctx.obj
    with session.progress() as progress:
        shown = run(folder, progress)
    if session.json:
        session.document(shown.to_json())
    else:
        session.result(shown.text())
    return 0 if shown.ok else 1
