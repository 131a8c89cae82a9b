"""Results as HTML for notebooks: one small table each, that reads on light and dark pages and loads nothing.

Every text of a model is escaped: names in it are whatever its author, or somebody hostile, wrote there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from mlconv.checks.parity_words import allowance, difference
from mlconv.errors import MlconvError, counted
from mlconv.result import Checked, Compared, Conversion, Inspected, show_bytes
from mlconv.tensors import show_shape

# No colour but these two: the page's own show through. Both have a contrast of 3 and more on white and on black.
_GOOD, _BAD = "#2e8540", "#d54309"
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;border:0;background:transparent"
_MOST_ROWS = 40


def conversion(result: Conversion) -> str:
    """What was made of what, its signature, and the evidence."""
    tools = ", ".join(dict.fromkeys(step.exporter for step in result.route))
    facts = [f"opset {result.artifact.opset}"] if result.artifact.opset else []
    facts += [show_bytes(result.artifact.bytes), tools, f"{result.seconds:.1f} s"]
    written = "" if result.artifact.written else " (not written)"
    head = f"{result.source.ref} ({result.source.format}) → {result.artifact.path}{written}"
    structure, load, parity = (result.checks.get(key) for key in ("structure", "load", "parity"))
    rows = [_specs("inputs", result.artifact.inputs), _specs("outputs", result.artifact.outputs)]
    rows.append(_row("structure", _mark(bool(structure and structure["ok"]))))
    if load:
        rows.append(_row("load", f"{_mark(load['ok'])} {escape(str(load['runtime']))}"))
    rows += _parity(parity) if parity else [_row("parity", "not compared")]
    notes = parity["notes"] if parity else ()
    return _page(result.ok, head, ", ".join(facts), rows, result.warnings, notes, result.failure)


def checked(result: Checked) -> str:
    """A row for each check."""
    rows = [_row(line.name, f"{_mark(line.ok)} {escape(line.detail)}") for line in result.checks]
    return _page(result.ok, f"{result.ref} ({result.format})", "", rows, result.warnings, (), None)


def compared(result: Compared) -> str:
    """A row for each output."""
    told = result.parity
    head = f"{result.reference} ({told['reference']}) against {result.candidate} ({told['candidate']})"
    return _page(result.ok, head, "", _parity(told), (), result.warnings, result.failure)


def inspected(result: Inspected) -> str:
    """What a file says of itself."""
    told = result.description
    facts = [str(told["format"]), show_bytes(told["bytes"])]
    facts += [f"opset {told['opset']}"] if told["opset"] else []
    facts += [counted(told["parameters"], "parameter")] if told["parameters"] is not None else []
    facts += [f"{told['macs']:,} MACs"] if told["macs"] is not None else []
    rows = [
        _row(kind, _lines(f"{spec['name']}  {_shape(spec['shape'])}:{spec['dtype']}" for spec in told[kind]))
        for kind in ("inputs", "outputs")
    ]
    operators = sorted(told["operators"].items(), key=lambda item: (-item[1], item[0]))
    if operators:
        rows.append(_row("operators", escape(", ".join(f"{name} {count}" for name, count in operators))))
    rows += [_row(str(key), escape(str(value))) for key, value in told["metadata"].items()]
    return _page(None, result.ref, ", ".join(facts), rows, result.warnings, told["notes"], None)


# ------------------------------------------------------------------ pieces


def _page(
    ok: bool | None,
    head: str,
    facts: str,
    rows: Sequence[str],
    warnings: Sequence[str],
    notes: Sequence[str],
    failure: MlconvError | None,
) -> str:
    title = f"{_mark(ok)} " if ok is not None else ""
    title += f"<b>{escape(head)}</b>" + (f"<br><small>{escape(facts)}</small>" if facts else "")
    table = (
        f'<table style="border-collapse:collapse;margin:4px 0;border:0">{"".join(rows)}</table>'
        if rows
        else ""
    )
    told = "".join(f"<div>{_coloured('warning', _BAD)}: {escape(text)}</div>" for text in warnings)
    told += "".join(f"<div>note: {escape(text)}</div>" for text in notes)
    if failure is not None:
        told += f"<div>{_coloured(f'[{failure.id}]', _BAD)} {escape(failure.what)}</div>"
        told += f"<div>why: {escape(failure.why)}</div>" if failure.why else ""
    return f'<div style="font-size:90%">{title}{table}{told}</div>'


def _row(name: str, cell: str) -> str:
    return f'<tr style="background:transparent"><th style="{_CELL}">{escape(name)}</th><td style="{_CELL}">{cell}</td></tr>'


def _specs(name: str, specs: Iterable[Any]) -> str:
    return _row(name, _lines(f"{spec.name}  {show_shape(spec.shape)}:{spec.dtype}" for spec in specs))


def _shape(sizes: Sequence[Any] | None) -> str:
    return show_shape(None if sizes is None else tuple(sizes))


def _lines(texts: Iterable[str]) -> str:
    found = list(texts)
    shown = "<br>".join(f"<code>{escape(text)}</code>" for text in found[:_MOST_ROWS])
    return shown + (f"<br>and {len(found) - _MOST_ROWS} more" if len(found) > _MOST_ROWS else "")


def _parity(parity: dict[str, Any]) -> list[str]:
    """The worst outputs first, where there are too many to show."""
    outputs = sorted(parity["outputs"], key=lambda row: bool(row["ok"]))
    data = "random" if parity["data"] == "random" else "given"
    rows = [
        _row(
            "compared on",
            escape(
                f"{counted(parity['samples'], f'{data} sample')}, {parity['reference']} against {parity['candidate']}"
            ),
        )
    ]
    for row in outputs[:_MOST_ROWS]:
        figures = row["fault"] or f"{difference(row)} ({allowance(row, parity['computes'])})"
        silent = "" if row["informative"] else " (shows nothing: it does not vary)"
        rows.append(_row(row["name"], f"{_mark(row['ok'])} {escape(figures + silent)}"))
    if len(outputs) > _MOST_ROWS:
        rows.append(_row("", f"and {len(outputs) - _MOST_ROWS} more outputs"))
    return rows


def _mark(ok: bool | None) -> str:
    if ok is None:
        return "skipped"
    return _coloured("ok", _GOOD) if ok else _coloured("FAILED", _BAD)


def _coloured(word: str, colour: str) -> str:
    return f'<span style="color:{colour};font-weight:bold">{escape(word)}</span>'
