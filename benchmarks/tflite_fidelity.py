"""TFLite to ONNX, by mlconv and by plain tf2onnx: how far from LiteRT, and how fast, as a Markdown table.

    python -m benchmarks.tflite_fidelity [NAME ...] > benchmarks/results/tflite_fidelity.md

Measures the named files of the corpus (default: all, with those of ``make_models.py``; about half an hour), keeps what it
found under ``build/fidelity``, and prints the table of everything that lies there; what LiteRT and tf2onnx did is measured
once, until that folder goes. Both converters are called as users call them, tf2onnx as ``python -m tf2onnx.convert
--tflite``. The reference is LiteRT's default interpreter.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks import paired, tflite_figures
from benchmarks.isolated import Failed, isolated
from benchmarks.machine import machine
from benchmarks.paired import Ratio
from benchmarks.tflite_figures import Difference
from benchmarks.tflite_sources import Source, feeds_of, folders, sources, specs_of

from mlconv.runners.onnx_session import OnnxSession

KEPT = Path("build/fidelity")
THREADS = (1, 2)
SECONDS = 600
BUDGET_S = 4.0
LEAST_MS = 0.1
"""Of LiteRT's time: below it the calls into both runtimes take longer than the models, and the summary leaves them out."""
PACKAGES = ("mlconv", "ai-edge-litert", "onnxruntime", "onnx", "tf2onnx", "tensorflow-cpu", "numpy")


@dataclass(frozen=True, slots=True)
class Side:
    """What one converter made of a file.

    Attributes:
        fails: Why there is nothing to measure, on one line; empty where there is.
        real, random: The outputs' differences on pictures, and on noise and extremes.
        latency: onnxruntime's time over LiteRT's by number of threads.
    """

    fails: str = ""
    real: tuple[Difference, ...] = ()
    random: tuple[Difference, ...] = ()
    size: float = 0.0
    nodes: int = 0
    latency: dict[str, Ratio] | None = None


# ------------------------------------------------------------------ converting


def by_mlconv(path: Path, output: Path) -> str:
    """Run the command; why there is no file, or an empty line."""
    options = ("-o", str(output), "--via", "tflite-import", "--force", "--write-anyway")
    command = [sys.executable, "-m", "mlconv", "--json", "onnx", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if output.is_file():
        return ""
    document = json.loads(done.stdout or "{}")
    told = document.get("failure") or document
    return f"{told.get('id', done.returncode)} {told.get('what', '')}".replace(
        f"`{path}`", "the file"
    ).replace(str(path), "the file")


def by_tf2onnx(path: Path, output: Path) -> str:
    """Run plain tf2onnx once for a file's content; why there is no file that onnxruntime loads, or an empty line."""
    told = output.with_suffix(".failed")
    if output.is_file() or told.is_file():
        return "" if output.is_file() else told.read_text()
    options = ("--tflite", str(path), "--output", str(output), "--opset", "18")
    command = [sys.executable, "-m", "tf2onnx.convert", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    if not output.is_file():
        lines = [line for line in done.stderr.splitlines() if re.search(r"Error|ERROR", line)] or ["no file"]
        told.write_text(re.sub(r"^[\d:,\- ]*(ERROR - )?", "", lines[-1])[:200])
        return told.read_text()
    return ""


# ------------------------------------------------------------------ measuring


def fidelity(path: Path, model: Path) -> tuple[tuple[Difference, ...], tuple[Difference, ...]]:
    """The outputs' differences on pictures (empty where the model takes none), and on everything else."""
    fed = feeds_of(specs_of(path), photos=True)
    wanted, found = tflite_figures.answers(path, fed), tflite_figures.onnx_answers(model, fed)
    real = [number for number, one in enumerate(fed) if one.kind == "pictures"]
    rest = [number for number in range(len(fed)) if number not in real]
    return tuple(
        tflite_figures.differences([wanted[i] for i in chosen], [found[i] for i in chosen]) if chosen else ()
        for chosen in (real, rest)
    )  # type: ignore[return-value]


def apart(path: Path) -> tuple[Difference, ...]:
    """How far LiteRT's built-in kernels lie from its default ones, over all feeds."""
    fed = feeds_of(specs_of(path), photos=True)
    return tflite_figures.differences(
        tflite_figures.answers(path, fed), tflite_figures.builtin_answers(path, fed)
    )


def latency(path: Path, model: Path, threads: int) -> Ratio:
    """On the first of the feeds, a picture where the model takes one."""
    feeds = feeds_of(specs_of(path))[0].feeds
    session = OnnxSession(model, threads=1)
    bound = tflite_figures.bound([spec.name for spec in session.inputs], feeds)
    session.close()
    return paired.compare(
        paired.by_onnxruntime(model, list(bound.values()), threads), paired.by_litert(path, list(feeds.values()), threads), threads, BUDGET_S
    )  # fmt: skip


def _side(call: Callable[[Path, Path], str], path: Path, model: Path) -> Side:
    """Everything that is known of one converter's file."""
    try:
        fails = call(path, model)
    except subprocess.TimeoutExpired:
        fails = f"not done after {SECONDS} s"
    if fails:
        return Side(fails)
    try:
        real, random = isolated(fidelity, path, model)
        graph = isolated(tflite_figures.graph_of, model)
        times = {str(threads): isolated(latency, path, model, threads) for threads in THREADS}
    except Failed as failed:
        return Side(str(failed))
    return Side("", real, random, graph.size_bytes / path.stat().st_size, graph.nodes, times)


def measure(source: Source) -> dict[str, Any]:
    """The row of one file, as JSON. What is kept of LiteRT itself and of tf2onnx is not measured again."""
    KEPT.mkdir(parents=True, exist_ok=True)
    kept = KEPT / f"{source.name}.json"
    row: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {}
    row |= {"name": source.name, "bytes": source.path.stat().st_size}
    if "apart" not in row:
        try:
            row["apart"] = [asdict(out) for out in isolated(apart, source.path)]
        except Failed as failed:
            row["apart"] = str(failed).partition(" why: ")[0]
    content = hashlib.sha256(source.path.read_bytes()).hexdigest()[:16]
    if "tf2onnx" not in row:
        row["tf2onnx"] = asdict(_side(by_tf2onnx, source.path, KEPT / f"{content}.tf2onnx.onnx"))
    model = KEPT / f"{content}.mlconv.onnx"
    model.unlink(missing_ok=True)
    row["mlconv"] = asdict(_side(by_mlconv, source.path, model))
    kept.write_text(json.dumps(row, indent=1))
    return row


# ------------------------------------------------------------------ the table


def differences(outputs: Sequence[dict[str, Any]]) -> str:
    """``0 LSB``, ``3 LSB (0.2 %), 1.2e-07``; equal ones once."""
    return ", ".join(dict.fromkeys(str(Difference(**out)) for out in outputs)) or "-"


def shown(found: Ratio) -> str:
    """``0.95 (0.93-0.97) of 3.1 ms``: the ratio, and LiteRT's own time."""
    return f"{found} of {found.second_ms:.2g} ms"


def cells(row: dict[str, Any]) -> list[str]:
    """The figures of one file, mlconv's and tf2onnx's in turn."""
    ours, theirs = row["mlconv"], row["tf2onnx"]
    pairs = []
    for one in (ours, theirs):
        if one["fails"]:
            pairs.append([f"fails: {one['fails'][:160]}"] + ["-"] * 5)
            continue
        times = [shown(Ratio(**one["latency"][str(threads)])) for threads in THREADS]
        pairs.append(
            [
                differences(one["real"]),
                differences(one["random"]),
                *times,
                f"{one['size']:.2f}",
                str(one["nodes"]),
            ]
        )
    own = row["apart"].partition(" why: ")[0] if isinstance(row["apart"], str) else differences(row["apart"])
    return [f"{row['name']} ({row['bytes']:,})", own, *pairs[0], *pairs[1]]


def summary(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What the table comes to, by converter."""
    lines = []
    for name in ("mlconv", "tf2onnx"):
        works = [row[name] for row in rows if not row[name]["fails"]]
        outs = [out for one in works for out in (*one["real"], *one["random"])]
        exact = sum(
            all(not out["lsb"] and (out["relative"] or 0) <= 1e-5 for out in (*one["real"], *one["random"]))
            for one in works
        )
        steps = max((out["lsb"] or 0 for out in outs), default=0)
        timed = [one["latency"] for one in works if one["latency"]["1"]["second_ms"] >= LEAST_MS]
        ratios = {threads: [one[str(threads)] for one in timed] for threads in THREADS}
        fast = "; ".join(
            f"{threads} thread{'s' * (threads > 1)}: median ratio {np.median([r['median'] for r in found]):.2f}, "
            f"{sum(r['low'] <= 1 for r in found)} of {len(found)} not slower than LiteRT" for threads, found in ratios.items() if found
        )  # fmt: skip
        lines.append(
            f"- {name}: {len(works)} of {len(rows)} convert and run, {exact} of these with 0 LSB and 1e-5 at most; worst {steps} LSB. {fast}."
        )
    return lines


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The whole page."""
    heads = [
        f"{name}{what}"
        for name in ("", "tf2onnx: ")
        for what in ("pictures", "noise, extremes", "1 thread", "2 threads", "size", "nodes")
    ]
    lines = [
        "# TFLite to ONNX: fidelity and speed", "", (__doc__ or "").splitlines()[0], "", f"`python -m benchmarks.tflite_fidelity`; {machine(PACKAGES)}",
        "", "First how far LiteRT's built-in kernels lie from its default ones, which are the reference; then mlconv's figures, then plain",
        "tf2onnx's. Differences are steps of integer outputs with the share of elements that differ; of floats, by the greatest magnitude.",
        "Latency is onnxruntime's time over LiteRT's, the median of pairs in random order with its interval of 95 % (one thread: processor",
        "time of the calling thread; two: wall time, on two cores that other programs used at the same time), and LiteRT's own time.",
        "Two sessions of one file lie up to 4 % apart by themselves.",
        f"Size is over the source's. The summary counts latencies of what takes LiteRT {LEAST_MS} ms and more: below, it is the calls",
        "into the runtimes that are timed.", "", *summary(rows), "",
        f"| file (bytes) | LiteRT itself | {' | '.join(heads)} |", "|" + "-|" * (len(heads) + 2),
    ]  # fmt: skip
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in cells(row)) + " |" for row in rows]
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Measure, tell each name on standard error, and print the page."""
    every = sources(*folders())
    for source in every:
        if not names or source.name in names:
            start = time.perf_counter()
            row = measure(source)
            print(
                f"{source.name}: {time.perf_counter() - start:.0f} s {cells(row)[1:8]}",
                file=sys.stderr,
                flush=True,
            )
    kept = [KEPT / f"{source.name}.json" for source in every]
    print(table([json.loads(path.read_text()) for path in kept if path.is_file()]))


if __name__ == "__main__":
    main(sys.argv[1:])
