"""The command line. `main` is the one place where an error becomes text."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer

from mlconv import __version__
from mlconv.cli import about, checks, convert, demo
from mlconv.cli.terminal import Session
from mlconv.errors import BadUsage, InternalError, Interrupted, MlconvError, nearest

_FLAGS = {
    "--json": "json", "-q": "quiet", "--quiet": "quiet", "-v": "verbose", "--verbose": "verbose", "--debug": "debug",
    "--no-color": "no_color",
}  # fmt: skip
_UsageError: type[Any] = typer.BadParameter.__mro__[
    1
]  # click's, or that of the click which newer typers carry inside

app = typer.Typer(
    name="mlconv", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="Turn a trained model into ONNX, with proof that it still gives the same answers.",
    epilog="Exit codes: 0 done, 1 the evidence says no, 2 usage, 3 input, 4 conversion, 5 environment, 6 inconclusive, 7 stopped.",
)  # fmt: skip
convert.register(app)
checks.register(app)
about.register(app)
demo.register(app)


def _version(asked: bool) -> None:
    if asked:
        print(f"mlconv {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else there.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors alone.")] = False,
    verbose: Annotated[
        bool, typer.Option("-v", "--verbose", help="Print every figure of the evidence.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print tracebacks.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", help="Print no colours.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Global options go before the command or after it."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and leave with its exit code."""
    session, words = _split(list(sys.argv[1:] if argv is None else argv))
    # SIGINT too: a job that a script started in the background inherits it ignored, and could not be stopped tidily
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    sys.exit(_run(session, words))


def _run(session: Session, words: list[str]) -> int:
    try:
        code = app(args=words, prog_name="mlconv", standalone_mode=False, obj=session)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except MlconvError as error:
        return _failed(session, error)
    except _UsageError as error:
        return _failed(session, _usage(error, words))
    except (_Stopped, KeyboardInterrupt, typer.Abort):
        return _failed(
            session, Interrupted("interrupted; nothing was written", fix="run it again when you are ready")
        )
    except BrokenPipeError:
        # The reader of our results has gone, as in `mlconv formats | head`. Where it was that of our messages, work
        # was broken off.
        return 0 if sys.stdout in _drop_closed() else Interrupted.exit
    except Exception as error:  # noqa: BLE001  # a defect of ours still has the one shape
        defect = InternalError(f"mlconv itself failed: {type(error).__name__}: {error}",
                               fix="--debug shows where; please report it with the command that you typed")  # fmt: skip
        defect.__cause__ = error
        return _failed(session, defect)


def _failed(session: Session, error: MlconvError) -> int:
    try:
        if session.json:
            session.document(error.to_json())
            if session.debug:
                session.traceback(error)
        else:
            session.error(error)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_closed()
    return error.exit


def _drop_closed() -> list[TextIO]:
    """Send what is left for readers that have gone to nowhere: Python flushes once more when it ends.

    Returns:
        The streams without a reader, as far as it has been noticed.
    """
    closed = []
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            closed.append(stream)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
    return closed


def _split(words: list[str]) -> tuple[Session, list[str]]:
    """The global flags, wherever they stand before a `--`, and the other words."""
    session = Session()
    end = words.index("--") if "--" in words else len(words)
    for word in words[:end]:
        if word in _FLAGS:
            setattr(session, _FLAGS[word], True)
    return session, [word for word in words[:end] if word not in _FLAGS] + words[end:]


def _usage(error: Any, words: Sequence[str]) -> BadUsage:
    """What click says of a call, in our shape, with the nearest name that would do."""
    what = error.format_message().strip().rstrip(".")
    what = what[:1].lower() + what[1:]
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mlconv"
    wrong = getattr(error, "option_name", None) or next((word for word in words if f"'{word}'" in what), None)
    close: list[str] = []
    if wrong and context is not None:
        known = [name for param in context.command.params for name in param.opts]
        known += list(getattr(context.command, "commands", {}))
        close = nearest(wrong, known, 1)
        what = what.split(" Did you mean")[0].split(" (Possible options")[0].rstrip(".")
    return BadUsage(what, fix=f"`{close[0]}`? {command} --help lists all" if close else f"{command} --help")


class _Stopped(BaseException):
    """A signal that asks us to end. Not KeyboardInterrupt: typer would end on that without a word."""


def _interrupt(*_: object) -> None:
    raise _Stopped
