"""`check` and `compare` where a side is a model of this process: it runs here, and files run in workers as ever."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlconv import worker
from mlconv.checks import models
from mlconv.checks.evidence import Answers
from mlconv.checks.jobs import Side, answers_of, check_opened, compare_opened
from mlconv.convert.job import Options
from mlconv.convert.live import Live
from mlconv.errors import MlconvError, SourceDoesNotRun
from mlconv.jsonable import from_json, to_json
from mlconv.model import identify
from mlconv.result import Checked, Compared
from mlconv.runners.base import Feeds, Runner


def check_live(live: Live, options: Options) -> Checked:
    """One run of a live model on its example."""
    start = time.perf_counter()
    assert live.room is not None
    feeds: dict[str, Any] = {}

    def opened() -> Runner:
        assert live.room is not None
        runner, example = live.room.runner(options)
        feeds.update(example)
        return runner

    with live.undisturbed():
        lines = check_opened(Side(live.model, options, ""), opened, feeds)
    return Checked(live.model.ref, live.model.format, tuple(lines), (), time.perf_counter() - start)


def compare_live(
    reference: str | Live,
    candidate: str | Live,
    options: Options,
    pairs: Sequence[tuple[str, str]],
    limits: worker.Limits,
) -> Compared:
    """What ``models.compare_models`` does, with live models among the two.

    Raises:
        MlconvError: As there.
    """
    start = time.perf_counter()
    files = [identify(side) for side in (reference, candidate) if isinstance(side, str)]
    if files:
        models.assert_used(options, files)
    with tempfile.TemporaryDirectory(prefix="mlconv-compare-") as folder:
        answers = _answers(reference, options, Path(folder), limits)
        parity = _compared(candidate, options, answers, pairs, limits)
    refs = [side if isinstance(side, str) else side.model.ref for side in (reference, candidate)]
    return Compared(
        refs[0], refs[1], parity, tuple(parity["notes"]), time.perf_counter() - start, models.verdict(parity)
    )


def _answers(source: str | Live, options: Options, folder: Path, limits: worker.Limits) -> Answers:
    if isinstance(source, str):
        model = identify(source)
        side, spec = models.side_of(model, options)
        payload = {"side": to_json(side), "folder": str(folder)}
        with worker.start(limits, python=spec.interpreter(), preload=("numpy", *spec.needs[:1])) as started:
            told = models.run_in(started, "mlconv.checks.jobs:answers", payload, model, worker.silent)
        return from_json(Answers, told)
    with source.undisturbed():
        runner, example = _open(source, options)
        return answers_of(runner, Side(source.model, options, ""), folder, example)


def _compared(
    source: str | Live,
    options: Options,
    answers: Answers,
    pairs: Sequence[tuple[str, str]],
    limits: worker.Limits,
) -> Any:
    if isinstance(source, str):
        model = identify(source)
        side, spec = models.side_of(model, options)
        payload = {"side": to_json(side), "answers": to_json(answers), "pairs": list(pairs)}
        with worker.start(limits, python=spec.interpreter(), preload=("numpy", *spec.needs[:1])) as started:
            return models.run_in(started, "mlconv.checks.jobs:compare", payload, model, worker.silent)
    with source.undisturbed():
        runner, _ = _open(source, options)
        return compare_opened(runner, Side(source.model, options, ""), answers, pairs)


def _open(live: Live, options: Options) -> tuple[Runner, Feeds]:
    """A live model, ready to run.

    Raises:
        SourceDoesNotRun: Its framework raised what mlconv knows no better words for.
    """
    assert live.room is not None
    try:
        return live.room.runner(options)
    except MlconvError:
        raise
    except Exception as error:
        raise SourceDoesNotRun(
            f"`{live.model.ref}` does not run", why=f"{type(error).__name__}: {error}",
            fix="the exception that caused this one tells where it happened",
        ) from error  # fmt: skip
