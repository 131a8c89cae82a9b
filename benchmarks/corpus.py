"""What is expected of every TFLite file that the tests have: `tests/corpus.toml`, and whether it still holds.

    python -m benchmarks.corpus [--sample] [--toml] [NAME ...]        (make corpus: all of them)

Converts each file with mlconv's own importer, runs both sides, and prints a row for each: what is there, and each figure
that got worse, with the one that was expected; exits 1 then. A figure that got better is told too: change it in the data
file. ``--toml`` prints the tables as they would stand there now. Files are converted in a process of their own each.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import tflite_figures
from benchmarks.isolated import Failed, isolated
from benchmarks.tflite_figures import Difference, Graph
from benchmarks.tflite_sources import Source, feeds_of, folders, sources, specs_of

from mlconv.errors import MlconvError

EXPECTED = Path("tests/corpus.toml")
ISA = "vnni"
"""What the figures hold for: the files do not depend on the machine then, and onnxruntime is told where it would saturate."""
ROOM_BYTES = 0.005
"""Of the source: what onnx and onnx_ir write around the same graph moves with their versions."""
ROOM_RELATIVE = 2.0
"""A float difference may be this many times the one expected, or less by as much: other processors sum in another order.
From AVX-512 to AVX2 that of m020 went from 6.1e-6 to 6.9e-6, with onnxruntime alone on the other processor."""
LEAST_RELATIVE = 1e-6
"""Sums of float32 in another order differ by this much: no expectation needs to be narrower."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known of one file after conversion.

    Attributes:
        error: The id of the error and what it names last, where it must not convert; the rest is empty then.
        outputs: In the file's order.
        size: Bytes of the ONNX file over those of the source; without the provenance, which tells paths and versions.
    """

    outputs: tuple[Difference, ...] = ()
    size: float = 0.0
    nodes: int = 0
    transposes: int = 0
    runs: int = 0
    unfused: int = 0
    kernels: dict[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """A figure that is another one than expected."""

    what: str
    expected: str
    found: str
    is_worse: bool

    def __str__(self) -> str:
        verdict = "worse" if self.is_worse else "better, update"
        return f"{self.what}: {self.expected} expected, {self.found} found ({verdict})"


# ------------------------------------------------------------------ judging


def judge(expected: Figures, found: Figures) -> list[Finding]:
    """Every figure that differs, the worse ones first."""
    if expected.error or found.error:
        same = expected.error == found.error
        told = Finding("outcome", expected.error or "converts", found.error or "converts", bool(found.error))
        return [] if same else [told]
    if [_is_float(out) for out in expected.outputs] != [_is_float(out) for out in found.outputs]:
        return [Finding("outputs", _told(expected.outputs), _told(found.outputs), is_worse=True)]
    pairs = enumerate(zip(expected.outputs, found.outputs, strict=True))
    findings = [finding for number, (a, b) in pairs for finding in _judged_output(f"output {number}", a, b)]
    if abs(found.size - expected.size) > ROOM_BYTES:
        worse = found.size > expected.size
        findings.append(Finding("bytes of the source's", f"{expected.size:.3f}", f"{found.size:.3f}", worse))
    for what in ("nodes", "transposes", "runs", "unfused"):
        findings += _fewer_is_better(what, getattr(expected, what), getattr(found, what))
    for kernel in sorted({*expected.kernels, *found.kernels}):
        a, b = expected.kernels.get(kernel, 0), found.kernels.get(kernel, 0)
        if a != b:
            findings.append(Finding(kernel, str(a), str(b), b < a))
    return sorted(findings, key=lambda finding: not finding.is_worse)


def _judged_output(what: str, expected: Difference, found: Difference) -> list[Finding]:
    if expected.relative is None or found.relative is None:
        wanted, given = (expected.lsb or 0, expected.share), (found.lsb or 0, found.share)
        # of two equal steps the share decides; it is written down with two digits
        if wanted[0] == given[0] and abs(given[1] - wanted[1]) <= 0.02 * wanted[1]:
            return []
        return [Finding(what, str(expected), str(found), given > wanted)]
    if not found.relative <= expected.relative * ROOM_RELATIVE:  # NaN too
        return [Finding(what, str(expected), str(found), is_worse=True)]
    if expected.relative > LEAST_RELATIVE and expected.relative >= found.relative * ROOM_RELATIVE:
        return [Finding(what, str(expected), str(found), is_worse=False)]
    return []


def _fewer_is_better(what: str, expected: int, found: int) -> list[Finding]:
    return [] if expected == found else [Finding(what, str(expected), str(found), found > expected)]


def _is_float(out: Difference) -> bool:
    return out.relative is not None


def _told(outputs: Sequence[Difference]) -> str:
    return ", ".join(map(str, outputs)) or "none"


# ------------------------------------------------------------------ the data file


def read(path: Path = EXPECTED) -> tuple[list[str], dict[str, Figures]]:
    """The names of the sample, and what is expected of each file.

    Raises:
        KeyError: A table lacks a figure, or the sample names a file without a table.
    """
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    names: list[str] = document.pop("sample")
    expected = {name: _figures(table) for name, table in document.items()}
    for name in names:
        expected[name]
    return names, expected


def _figures(table: dict[str, Any]) -> Figures:
    if "error" in table:
        return Figures(error=table["error"])
    outputs = tuple(
        Difference(out.get("lsb"), out.get("relative"), out.get("share", 0.0)) for out in table["outputs"]
    )
    return Figures(
        outputs, table["size"], table["nodes"], table["transposes"], table["runs"], table["unfused"], table.get("kernels", {})
    )  # fmt: skip


def written(name: str, figures: Figures) -> str:
    """The table as it would stand in the data file; a float difference with two digits, and no less than ``LEAST_RELATIVE``."""
    if figures.error:
        return f'[{_key(name)}]\nerror = "{figures.error}"\n'
    lines = [
        f"[{_key(name)}]",
        f"outputs = [{', '.join(map(_written_output, figures.outputs))}]",
        f"size = {figures.size:.3f}",
    ]
    lines += [f"{what} = {getattr(figures, what)}" for what in ("nodes", "transposes", "runs", "unfused")]
    if figures.kernels:
        lines.append(
            f"kernels = {{ {', '.join(f'{kind} = {count}' for kind, count in figures.kernels.items())} }}"
        )
    return "\n".join(lines) + "\n"


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else f'"{name}"'


def _written_output(out: Difference) -> str:
    if out.relative is not None:
        return f"{{ relative = {max(out.relative, LEAST_RELATIVE):.1e} }}"
    return f"{{ lsb = {out.lsb}, share = {out.share:.2g} }}" if out.lsb else "{ lsb = 0 }"


# ------------------------------------------------------------------ measuring


def measure(source: Source) -> Figures:
    """Convert one file, run it on every kind of input, and look at what onnxruntime runs."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            model = tflite_figures.convert(source.path, Path(folder), target_isa=ISA)
        except MlconvError as error:
            return Figures(error=f"{error.id}: {error.what.rpartition(': ')[2]}")
        fed = feeds_of(specs_of(source.path))
        outputs = tflite_figures.differences(
            tflite_figures.answers(source.path, fed), tflite_figures.onnx_answers(model, fed)
        )
        graph: Graph = tflite_figures.graph_of(model)
    size = graph.size_bytes / source.path.stat().st_size
    return Figures(outputs, size, graph.nodes, graph.transposes, graph.runs, graph.unfused, graph.kernels)


def found(source: Source) -> Figures:
    """``measure`` in a process of its own; one that fails is told as an error."""
    try:
        return isolated(measure, source)
    except Failed as failed:
        return Figures(error=str(failed))


# ------------------------------------------------------------------ the command


def row(name: str, figures: Figures, findings: Sequence[Finding]) -> str:
    """One line of the Markdown table."""
    verdict = "; ".join(map(str, findings)) or "as expected"
    if figures.error:
        return f"| {name} | {figures.error} | | | | | | | {verdict} |"
    kernels = ", ".join(f"{count} {kind}" for kind, count in figures.kernels.items())
    shown = (
        _told(figures.outputs),
        f"{figures.size:.3f}",
        figures.nodes,
        figures.transposes,
        figures.runs,
        figures.unfused,
        kernels,
    )
    return f"| {name} | {' | '.join(map(str, shown))} | {verdict} |"


def main() -> int:
    """Print the table; 1 where a figure got worse."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: every file that is there")
    parser.add_argument("--sample", action="store_true", help="only those that the tests take")
    parser.add_argument("--toml", action="store_true", help="print the tables of the data file instead")
    asked = parser.parse_args()
    sample, expected = read()
    wanted = {*asked.names, *(sample if asked.sample else ())}
    here = [source for source in sources(*folders()) if not wanted or source.name in wanted]
    if not here:
        sys.exit("no file of the corpus is here: set MLCONV_TEST_MODELS and MLCONV_TEST_EDGETPU")
    if not asked.toml:
        print(
            "| file | difference from LiteRT | size | nodes | transposes | run | Q, DQ run | integer kernels | verdict |"
        )
        print("|" + "-|" * 9)
    is_worse = False
    for source in here:
        figures = found(source)
        if asked.toml:
            print(written(source.name, figures), flush=True)
            continue
        known = expected.get(source.name)
        findings = judge(known, figures) if known else [Finding("table", "one", "none", is_worse=True)]
        is_worse |= any(finding.is_worse for finding in findings)
        print(row(source.name, figures, findings), flush=True)
    return int(is_worse)


if __name__ == "__main__":
    sys.exit(main())
