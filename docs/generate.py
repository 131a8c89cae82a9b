"""Writes docs/reference from the program itself: errors, known messages, JSON Schemas, TFLite operators, the commands' help.

``python docs/generate.py`` writes the pages; with ``--check`` it writes none and exits 1 where one is stale.
"""

# ruff: noqa: INP001  a script, no module of a package

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "src"))

from mlconv import catalogue, schemas  # noqa: E402  the checkout's own, installed or not
from mlconv.formats import tflite_schema  # noqa: E402
from mlconv.formats.tflite_operators import OPERATORS  # noqa: E402
from mlconv.formats.tflite_operators.entry import TfliteOperator  # noqa: E402
from mlconv.schemas import Schema  # noqa: E402

FOLDER = ROOT / "docs" / "reference"
NOTICE = "<!-- Written by docs/generate.py: change what it reads, and run `make docs`. -->"
FAMILIES = {
    "0": "The call",
    "1": "The source",
    "2": "The conversion",
    "3": "The evidence",
    "4": "Quantization",
    "5": "Edge TPU",
    "6": "Measurement",
    "7": "The worker",
    "9": "The environment",
}
PRINTED_BY: dict[str, tuple[str, ...]] = {"convert": ("onnx",), "error": ()}
COLUMNS = 100


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a page is stale")
    parser.add_argument(
        "--folder", type=Path, default=FOLDER, help="where the pages are; default: docs/reference"
    )
    options = parser.parse_args()
    stale = []
    for name, text in pages().items():
        path = options.folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(path)
        if not options.check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for page in stale:
        _say(f"{page} is stale: python docs/generate.py" if options.check else f"wrote {page}")
    return 1 if options.check and stale else 0


def pages() -> dict[str, str]:
    """File name to content. The commands' page is left out where the command line does not start here."""
    found = {
        "errors.md": errors_page(),
        "json.md": json_page(),
        "messages.md": messages_page(),
        "tflite-operators.md": tflite_operators_page(),
    }
    commands = cli_page()
    if commands is None:
        _say("docs/reference/cli.md is left as it is: `python -m mlconv --help` does not run here")
        return found
    return {**found, "cli.md": commands}


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _page(title: str, introduction: str, parts: Iterable[str]) -> str:
    return "\n\n".join([f"# {title}", NOTICE, introduction, *parts]) + "\n"


# ------------------------------------------------------------------ errors


def errors_page() -> str:
    """Every error with its cause, an example and cures."""
    codes = _table(("code", "means"), [(str(code), means) for code, means in catalogue.EXIT_CODES.items()])
    introduction = (
        "Every failure has an id that stays the same from version to version, and one shape: `error[ID]`, "
        "what failed with the value in it, why where that is known, and what to type next. "
        "`mlconv explain ID` prints what stands here. With `--json` a failure is the document "
        f"[`mlconv.error/1`](json.md#error).\n\n## Exit codes\n\n{codes}"
    )
    return _page("Errors", introduction, _errors())


def _errors() -> Iterator[str]:
    family = ""
    for entry in catalogue.ENTRIES:
        if entry.id[3] != family:
            family = entry.id[3]
            yield f"## {FAMILIES[family]}"
        cures = "\n".join(f"- {cure}" for cure in entry.cures)
        yield (
            f"### {entry.id} {entry.kind.code}\n\n**{_sentence(entry.title)}** (exit code {entry.kind.exit})\n\n"
            f"{entry.cause}\n\n```console\n{entry.example}\n```\n\n{cures}"
        )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


# ------------------------------------------------------------------ messages


def messages_page() -> str:
    """What frameworks say, with the id that mlconv gives it: for people who come here with somebody else's words."""
    introduction = (
        "What frameworks and runtimes say while a model is loaded, run or converted, and the error that mlconv makes of it. "
        "The framework's own words stay in the error's `why` and in its log. Each row is a test: the model is built, the "
        "command typed, and then what the hint says. Where that is another option, it is shown; else the hint names what "
        "to change in the model."
    )
    rows = tomllib.loads((ROOT / "tests" / "messages.toml").read_text(encoding="utf-8"))["trigger"]
    tools = dict.fromkeys(row["tool"] for row in rows)
    parts = (f"## {tool}\n\n{_messages(row for row in rows if row['tool'] == tool)}" for tool in tools)
    return _page("Messages", introduction, parts)


def _messages(rows: Iterable[dict[str, Any]]) -> str:
    told = []
    for row in rows:
        entry = catalogue.entry(row["id"])
        error = f"[{row['id']}](errors.md#{row['id'].lower()}-{entry.kind.code}): {entry.title}"
        cure = "change the model as the hint says" if row.get("changes") else f"`mlconv {row['cure']}`"
        said = row["message"].replace("|", "\\|")
        told.append((row["name"].partition(", ")[2], f"`{said}`", error, cure))
    return _table(("what is wrong", "it says", "mlconv's error", "what cures it"), told)


# ------------------------------------------------------------------ documents


def json_page() -> str:
    """A table of keys for each document, then one for each part that several documents share."""
    introduction = (
        "With `--json` a command prints one document on stdout and nothing else there. Every document has `schema` "
        "and `ok`; all but `mlconv.error/1` have `warnings` and `seconds`. Keys may be added within a version, so "
        "ignore those that you do not know. `mlconv schema NAME` prints the JSON Schema of a document, by the name "
        "below or by the command's.\n\n"
        "The record `ARTIFACT.mlconv.json` beside an artifact is its [convert](#convert) document with three keys "
        "more: `options`, `mlconv` (the version) and `date`.\n\n"
        "In the tables `a.b` is the key `b` of the object `a`, and `a[].b` the key `b` of each entry of the list `a`."
    )
    documents = {name: schemas.schema(name) for name in schemas.NAMES}
    parts = {part["title"]: part for schema in documents.values() for part in _parts(schema)}
    return _page("JSON documents", introduction, _documents(documents, parts))


def _documents(documents: dict[str, Schema], parts: dict[str, Schema]) -> Iterator[str]:
    for name, schema in documents.items():
        commands = ", ".join(f"`mlconv {command}`" for command in PRINTED_BY.get(name, (name,)))
        printed = f"Printed by {commands}." if commands else "Printed by every command that fails."
        yield f"## {name}\n\n`{schema['$id']}`: {schema['description']}. {printed}\n\n{_keys_table(schema)}"
    yield "## Shared parts"
    for title, part in sorted(parts.items()):
        yield f"### {title}\n\n{_sentence(part['description'])}.\n\n{_keys_table(part)}"


def _parts(schema: Schema) -> Iterator[Schema]:
    """Every object below a schema that has a name of its own."""
    inner = list(schema.get("properties", {}).values())
    inner += [schema["items"]] if "items" in schema else []
    for value in inner:
        if "title" in value:
            yield value
        yield from _parts(value)


def _keys_table(schema: Schema) -> str:
    rows = [
        (f"`{key}`", _kind(value), "yes" if required else "where known", _escaped(value["description"]))
        for key, value, required in _keys(schema, "")
    ]
    return _table(("key", "type", "present", "meaning"), rows)


def _keys(schema: Schema, prefix: str) -> Iterator[tuple[str, Schema, bool]]:
    """Every key below a schema with its path and whether it is required; shared parts are not entered."""
    for key, value in schema.get("properties", {}).items():
        yield f"{prefix}{key}", value, key in schema.get("required", ())
        for inner, path in ((value, f"{prefix}{key}."), (value.get("items", {}), f"{prefix}{key}[].")):
            if "title" not in inner:
                yield from _keys(inner, path)


def _kind(schema: Schema) -> str:
    """A type in words, with a link to a shared part."""
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    kinds = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    return " or ".join(_one_kind(kind, schema) for kind in kinds)


def _one_kind(kind: str, schema: Schema) -> str:
    if "title" in schema and kind == "object":
        return f"[{schema['title']}](#{schema['title']})"
    if kind == "array":
        items = schema["items"]
        return f"list of {_kind(items)}s" if isinstance(items["type"], str) else "list"
    if kind == "object" and schema.get("additionalProperties"):  # {}: values of any type
        return f"object of {_kind(schema['additionalProperties'])}s"
    return kind


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---" for _ in head], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


# ------------------------------------------------------------------ TFLite operators


def tflite_operators_page() -> str:
    """Every operator of TFLite's schema: how it comes to ONNX, or why it does not."""
    entries = sorted(OPERATORS.values(), key=lambda entry: entry.kind)
    converted, others = ([e for e in entries if bool(e.read) is told] for told in (True, False))
    builtin = sum(not entry.custom for entry in converted)
    introduction = (
        f"What mlconv's own importer makes of TFLite's operators: {builtin} of the "
        f"{len(tflite_schema.BUILTIN_OPERATORS)} names in the schema come to ONNX. A model with any other operator is "
        "refused, and the error names all of them; `--outputs` cuts a model before them.\n\n"
        "**Version** is the newest of the operator whose meaning is known; a newer one is refused. **Exact** says how far "
        "8-bit outputs lie from those of LiteRT's default kernels (XNNPACK where it has one) on the same inputs, in units "
        "of the last place of the output's type: *equal* is what tests on every code have shown, *no codes* is an operator "
        "that takes floats and plain integers only, and where nothing stands nothing is claimed. **MACs** says whether `inspect` counts multiply-accumulates."
    )
    reasons = dict.fromkeys(entry.limits for entry in others)
    refused = [
        (_escaped(why), ", ".join(_operator_name(entry) for entry in others if entry.limits == why))
        for why in reasons
    ]
    head = ("operator", "version", "exact", "MACs", "limits")
    parts = [
        f"## Converted\n\n{_table(head, map(_operator_row, converted))}",
        f"## Without an ONNX form\n\n{_table(('why', 'operators'), refused)}",
    ]
    return _page("TFLite operators", introduction, parts)


def _operator_row(entry: TfliteOperator) -> tuple[str, ...]:
    exact = f"within {entry.worst_lsb} LSB" if entry.worst_lsb else _EXACT[entry.exact]
    counted = "yes" if entry.macs else ""
    return _operator_name(entry), str(entry.versions), exact, counted, _escaped(entry.limits)


_EXACT = {"8-bit": "equal", "floats": "no codes", "": ""}


def _operator_name(entry: TfliteOperator) -> str:
    return f"custom `{entry.kind}`" if entry.custom else f"`{entry.kind}`"


# ------------------------------------------------------------------ commands


def cli_page() -> str | None:
    """The help of every command; None where the command line does not start."""
    top = _help()
    if top is None:
        return None
    names = re.findall(r"^  ([a-z][a-z-]*)  ", top.partition("\nCommands:\n")[2], re.MULTILINE)
    parts = [f"## mlconv\n\n```text\n{top}\n```"]
    for name in names:
        told = _help(name)
        if told is None:
            return None
        parts.append(f"## mlconv {name}\n\n```text\n{told}\n```")
    introduction = (
        "What `mlconv COMMAND --help` prints. Global options go before the command or after it. "
        "Exit codes and errors: [errors](errors.md); the documents of `--json`: [JSON documents](json.md)."
    )
    return _page("Commands", introduction, parts)


def _help(*words: str) -> str | None:
    columns = {"COLUMNS": str(COLUMNS), "TERMINAL_WIDTH": str(COLUMNS)}
    plain = {"NO_COLOR": "1", "TERM": "dumb", "LC_ALL": "C.UTF-8", "MLCONV_PLUGINS": "off"}
    done = subprocess.run(
        [sys.executable, "-m", "mlconv", *words, "--help"], capture_output=True, text=True, encoding="utf-8", check=False,
        env={**os.environ, **columns, **plain, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    return (
        "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        if done.returncode == 0
        else None
    )


if __name__ == "__main__":
    sys.exit(main())
