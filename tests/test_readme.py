"""Every page: its links lead somewhere, and the commands, options, targets and extras that it names exist."""

from __future__ import annotations

import re
import shlex
import shutil
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md")]
    + [
        page
        for folder in ("docs", "examples", "benchmarks", "docker")
        for page in (ROOT / folder).rglob("*.md")
    ]
)
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]+)(?:#[^)]*)?\)")
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`((?:mlconv|make) [a-z][^`\n]*)`")
SESSION = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIGURE = re.compile(r"-?\d[\d.,]*(?:e[+-]\d+)?")
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
GLOBAL_OPTIONS = {"--json", "--quiet", "--verbose", "--debug", "--no-color", "--version", "--help"}

Help = Callable[[str], str]


@pytest.fixture(scope="module")
def help_of(run_cli: Any) -> Help:
    @cache
    def ask(command: str) -> str:
        ran = run_cli(*command.split(), "--help", env={"COLUMNS": "200"})
        assert ran.code == 0, ran
        return str(ran.out)

    return ask


def _shown(page: Path) -> list[str]:
    """Lines of shell blocks, and inline commands; comments left out."""
    text = page.read_text(encoding="utf-8")
    lines = [line for block in BLOCK.findall(text) for line in block.splitlines()]
    return [line.split("  #")[0].strip() for line in [*lines, *INLINE.findall(text)] if line.strip()]


def _named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_link_leads_to_a_file(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = [target for target in LINK.findall(text) if not (page.parent / target).exists()]
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_command_has_the_options_that_are_shown(page: Path, help_of: Help) -> None:
    known = set(re.findall(r"^  ([a-z]+) {2,}", help_of("").partition("Commands:")[2], re.MULTILINE))
    for line in _shown(page):
        words = shlex.split(line.replace("|", " "), comments=True)
        if "mlconv" not in words or line.startswith(("pip ", ".venv")):
            continue
        after = [word for word in words[words.index("mlconv") + 1 :] if word not in GLOBAL_OPTIONS]
        if not after or not re.fullmatch(r"[a-z]+", after[0]):
            continue  # the tool itself, or a placeholder
        assert after[0] in known, line
        options = set(OPTION.findall(" ".join(after[1:]))) - GLOBAL_OPTIONS
        assert all(re.search(rf"(?<![\w-]){option}\b", help_of(after[0])) for option in options), line


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in _shown(page):
        words = [word for word in line.split() if "=" not in word]
        if words[:1] == ["make"]:
            assert set(words[1:]) <= targets, line


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_every_extra_exists(page: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = set(project["project"]["optional-dependencies"])
    for group in re.findall(r"pip install '(?:mlconv|\.)\[([a-z,-]+)\]'", page.read_text(encoding="utf-8")):
        assert set(group.split(",")) <= extras


def test_the_readme_names_every_command_and_no_other(help_of: Help) -> None:
    known = set(re.findall(r"^  ([a-z]+) {2,}", help_of("").partition("Commands:")[2], re.MULTILINE))
    status = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Status")[2].partition(".\n")[0]
    sentence = status.partition(" has ")[2].partition(". ")[0]
    assert set(re.findall(r"`([a-z]+)`", sentence)) == known


def test_the_readme_has_the_exit_codes_of_the_catalogue() -> None:
    from mlconv.catalogue import EXIT_CODES

    table = (
        (ROOT / "README.md").read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    )
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == set(EXIT_CODES)


@pytest.mark.framework("torch", "onnxscript", "onnxruntime")
def test_the_session_in_the_readme_prints_what_it_shows(run_cli: Any, tmp_path: Path) -> None:
    """Every line shown is printed, figures apart: those are the machine's."""
    shutil.copytree(ROOT / "src" / "mlconv" / "demo", tmp_path / "src" / "mlconv" / "demo")
    (session,) = SESSION.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    for shown in re.split(r"^\$ mlconv ", session, flags=re.MULTILINE)[1:]:
        command, _, lines = shown.partition("\n")
        ran = run_cli(*shlex.split(command), cwd=tmp_path)
        printed = {FIGURE.sub("#", line) for line in f"{ran.out}{ran.err}".splitlines()}
        assert [line for line in lines.splitlines() if FIGURE.sub("#", line) not in printed] == [], ran
        assert ran.code == (1 if "error[" in lines else 0)
