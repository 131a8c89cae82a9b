"""`messages.toml`: what people meet, the id and the hint that must come, and that the hint cures it.

Each trigger is run by the command itself, on a model of `message_models.py`; then its cure is.
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests import message_models

from mlconv import catalogue
from mlconv.catalogue import ENTRIES
from mlconv.errors import by_id
from mlconv.messages import (
    Message,
    keras_words,
    litert_words,
    onnxruntime_words,
    python_words,
    tensorflow_words,
    torch_words,
)

RunCli = Callable[..., Any]  # conftest.run_cli
GENERAL = frozenset({"MLC201", "MLC216", "MLC218", "MLC301", "MLC302", "MLC320", "MLC703"})
"""Ids that say no more than that it did not work."""
NEEDS = {
    "torch": ("torch", "onnxscript", "onnxruntime"), "Keras": ("tensorflow", "keras", "tf2onnx", "onnxruntime"),
    "tf2onnx": ("tensorflow", "tf2onnx", "onnxruntime"), "TensorFlow": ("tensorflow", "tf2onnx", "onnxruntime"),
    "LiteRT": ("tensorflow", "tf2onnx", "ai_edge_litert", "onnxruntime"), "onnx": ("onnxruntime",), "onnxruntime": ("onnxruntime",),
    "Python": ("torch", "onnxscript", "onnxruntime"),
}  # fmt: skip
TABLES: dict[str, tuple[Message, ...]] = {
    "Python": python_words.PYTHON,
    "torch, running": torch_words.RUN,
    "torch, exporting": torch_words.EXPORT,
    "torch, loading": torch_words.LOAD,
    "onnxruntime, loading": onnxruntime_words.LOAD,
    "onnxruntime, running": onnxruntime_words.RUN,
    "LiteRT, loading": litert_words.LOAD,
    "LiteRT, running": litert_words.RUN,
    "TensorFlow, loading": tensorflow_words.LOAD,
    "TensorFlow, running": tensorflow_words.RUN,
    "tf2onnx": tensorflow_words.CONVERT,
    "Keras": keras_words.LOAD,
}


@dataclass(frozen=True, slots=True)
class Trigger:
    """A row of `messages.toml`.

    Attributes:
        message: A part of the framework's own words, as they stand in the error or in its log.
        build: The function of `message_models` that makes the model.
        command, cure: What is typed behind `mlconv`.
        what, hint: Regular expressions that the error's first line and its hint match.
        fill: What the user puts in the place of the hint's words.
        changes: Whether the cure is to change the model: it is built again, ``cured``.
        next: The id that the cure leads to; empty where it must succeed.
    """

    name: str
    tool: str
    message: str
    build: str
    command: str
    id: str
    what: str
    hint: str
    cure: str
    fill: dict[str, str] = field(default_factory=dict)
    changes: bool = False
    next: str = ""


TRIGGERS = [
    Trigger(**row) for row in tomllib.loads(Path(__file__).with_name("messages.toml").read_text())["trigger"]
]


@pytest.mark.parametrize(
    "trigger",
    [pytest.param(row, id=row.name.replace(" ", "-"), marks=pytest.mark.framework(*NEEDS[row.tool])) for row in TRIGGERS],
)  # fmt: skip
def test_a_known_failure_has_its_id_and_its_hint_cures_it(
    trigger: Trigger, run_cli: RunCli, tmp_path: Path
) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "MLCONV_CACHE_DIR": str(tmp_path / "cache")}
    ground = tmp_path / "ground"
    ground.mkdir()
    builder = getattr(message_models, trigger.build)
    _build(builder, ground)
    ran = run_cli(*_words(trigger.command), cwd=ground, env=env)
    error = _error(ran.err)
    assert error["id"] == trigger.id, ran
    assert ran.code == by_id()[trigger.id].exit, ran
    assert re.search(trigger.what, error["what"]), ran
    assert re.search(trigger.hint, error["hint"]), ran
    assert "Traceback" not in ran.err
    assert trigger.message in ran.err + ran.out or any(
        trigger.message in log.read_text(errors="replace") for log in (tmp_path / "cache").rglob("*.log")
    ), ran
    _assert_of_the_hint(trigger, error["hint"])
    if trigger.changes:
        _build(builder, ground, cured=True)
    cured = run_cli(*_words(trigger.cure), cwd=ground, env=env)
    if trigger.next:
        assert f"error[{trigger.next}]" in cured.err, cured
    else:
        assert cured.code == 0, cured


def _build(builder: Callable[..., None], folder: Path, **cured: bool) -> None:
    with warnings.catch_warnings(action="ignore"):  # TensorFlow and Keras warn of numpy's future as they save
        builder(folder, **cured)


def _words(command: str) -> list[str]:
    words = shlex.split(command)
    return [*words, "-o", "out.onnx", "--force"] if words[0] == "onnx" else words


def _error(text: str) -> dict[str, str]:
    match = re.search(r"^error\[(?P<id>MLC\d{3})\]: (?P<what>.*)$", text, re.MULTILINE)
    hint = re.search(r"^hint: (.*)$", text, re.MULTILINE)
    assert match is not None, text
    assert hint is not None, text
    return {**match.groupdict(), "hint": hint[1]}


def _assert_of_the_hint(trigger: Trigger, hint: str) -> None:
    """What the cure adds to the command stands in the hint, but for what the hint leaves to be filled in."""
    for word, filling in trigger.fill.items():
        assert word in hint, f"the hint has no `{word}` to be filled in: {hint}"
        hint = hint.replace(word, filling)
    before = shlex.split(trigger.command)
    added = [word for word in shlex.split(trigger.cure) if word not in before]
    assert added or trigger.changes, "the cure changes neither the command nor the model"
    if not trigger.changes:
        assert [word for word in added if word not in hint] == [], hint


# ------------------------------------------------------------------ the catalogue's examples of these failures

EXAMPLES = {
    "MLC144": "types_differ", "MLC218": "unfrozen", "MLC227": "matmul", "MLC228": "random_onnx", "MLC229": "torch_nets",
    "MLC230": "torch_nets", "MLC231": "torch_nets", "MLC304": "double_kernel", "MLC905": "torchscript",
}  # fmt: skip


@pytest.mark.framework("torch", "onnxscript", "onnxruntime", "tensorflow")
@pytest.mark.parametrize("id_", EXAMPLES)
def test_an_example_of_the_catalogue_prints_what_it_says(id_: str, run_cli: RunCli, tmp_path: Path) -> None:
    _build(getattr(message_models, EXAMPLES[id_]), tmp_path)
    command, *printed = catalogue.entry(id_).example.splitlines()
    ran = run_cli(*shlex.split(command)[2:], cwd=tmp_path)
    assert ran.code == by_id()[id_].exit, ran
    assert [
        line for line in ran.err.splitlines() if line.startswith(("error[", "  why: ", "hint: "))
    ] == printed, ran


# ------------------------------------------------------------------ the tables as a whole


def test_there_are_at_least_thirty_triggers_with_names_of_their_own() -> None:
    assert len(TRIGGERS) >= 30
    assert len({row.name for row in TRIGGERS}) == len(TRIGGERS)


def test_triggers_come_from_all_converters_and_runtimes() -> None:
    assert {row.tool for row in TRIGGERS} == NEEDS.keys()


def test_at_most_a_tenth_of_the_triggers_falls_to_a_general_id() -> None:
    general = [row.name for row in TRIGGERS if row.id in GENERAL]
    assert len(general) <= len(TRIGGERS) // 10, general


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_every_line_of_a_table_has_a_trigger(table: tuple[Message, ...]) -> None:
    texts = [row.message for row in TRIGGERS]
    assert [
        m.pattern for m in table if not m.untried and not any(re.search(m.pattern, text) for text in texts)
    ] == []


def test_every_id_of_a_trigger_is_explained_with_an_example_and_cures() -> None:
    explained = {entry.id: entry for entry in ENTRIES}
    for row in TRIGGERS:
        assert explained[row.id].example
        assert explained[row.id].cures


def test_the_tables_name_no_path_of_this_machine() -> None:
    text = Path(__file__).with_name("messages.toml").read_text()
    assert os.path.expanduser("~") + "/" not in text  # noqa: PTH111  as text
