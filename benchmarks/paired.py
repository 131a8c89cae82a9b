"""How long two programs take on the same task, measured so that a busy machine does not decide it.

Both run in one process, in pairs whose order is drawn anew each time, so that whatever disturbs the machine disturbs
both sides alike; what counts is the median of the pairs' ratios, with an interval of 95 % by bootstrap. With one thread
the clock is the calling thread's own processor time, which neighbours do not lengthen; with more it is the wall's. The
interval does not hold what a session itself is due: two sessions of one file lie up to 4 % apart.

    python -m benchmarks.paired MODEL.onnx SOURCE.tflite [--threads N ...] [--pairs N]

prints the ratio of onnxruntime's time on the first to LiteRT's (its default kernels) on the second.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

RESAMPLES = 2000
"""Bootstrap resamples: the interval's ends then move by less than a tenth of its width from seed to seed."""
LEAST_PAIRS, MOST_PAIRS = 15, 400
WARM_UP = 3
REST_S = 0.002
"""Between two runs on several threads: idle workers of the side that ran before stop spinning and give back their cores."""

Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Ratio:
    """The first program's time over the second's.

    Attributes:
        median: Of the ratios of all pairs.
        low, high: The interval of 95 % around it.
        pairs: How many were run.
        first_ms, second_ms: The median time of each side.
        clock: ``cpu`` (of the calling thread) or ``wall``.
    """

    median: float
    low: float
    high: float
    pairs: int
    first_ms: float
    second_ms: float
    clock: str

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}-{self.high:.2f})"


def ratio(first: Sequence[float], second: Sequence[float], clock: str, seed: int = 0) -> Ratio:
    """The median of the paired ratios of two lists of seconds, with its bootstrap interval.

    Raises:
        ValueError: The lists are not equally long, are empty, or hold a time that is not positive.
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or not a.size:
        raise ValueError(f"{a.size} and {b.size} times are no pairs")
    if not (a > 0).all() or not (b > 0).all():
        raise ValueError("a time is not positive: the clock is too coarse for one run")
    ratios = a / b
    drawn = np.random.default_rng(seed).integers(0, ratios.size, (RESAMPLES, ratios.size))
    low, high = np.quantile(np.median(ratios[drawn], axis=1), [0.025, 0.975])
    return Ratio(
        float(np.median(ratios)), float(low), float(high), ratios.size, 1e3 * float(np.median(a)), 1e3 * float(np.median(b)), clock
    )  # fmt: skip


def orders(pairs: int, seed: int) -> list[bool]:
    """Of each pair whether the first program runs first: as often as not, in random order."""
    drawn = [number % 2 == 0 for number in range(pairs)]
    random.Random(seed).shuffle(drawn)  # noqa: S311  no secret
    return drawn


def alternate(
    first: Callable[[], object],
    second: Callable[[], object],
    pairs: int,
    clock: Clock,
    *,
    rest_s: float = 0.0,
    seed: int = 0,
) -> tuple[list[float], list[float]]:
    """Seconds of both programs, pair by pair in random order, after a warm-up of each."""
    for _ in range(WARM_UP):
        first()
        second()
    took: tuple[list[float], list[float]] = ([], [])
    for first_leads in orders(pairs, seed):
        for side in (0, 1) if first_leads else (1, 0):
            if rest_s:
                time.sleep(rest_s)
            start = clock()
            (first, second)[side]()
            took[side].append(clock() - start)
    return took


def compare(
    first: Callable[[], object],
    second: Callable[[], object],
    threads: int,
    budget_s: float = 6.0,
    pairs: int | None = None,
) -> Ratio:
    """The ratio of two programs that both use ``threads`` threads, the calling one among them.

    Args:
        budget_s: About how long to measure, where ``pairs`` does not say it.
    """
    if pairs is None:
        start = time.perf_counter()
        first()
        second()
        pairs = int(np.clip(budget_s / (time.perf_counter() - start), LEAST_PAIRS, MOST_PAIRS))
    alone = threads == 1
    times = alternate(
        first,
        second,
        pairs,
        time.thread_time if alone else time.perf_counter,
        rest_s=0.0 if alone else REST_S,
    )
    return ratio(*times, "cpu" if alone else "wall")


# ------------------------------------------------------------------ the two runtimes


def by_onnxruntime(path: Path, feeds: Sequence[np.ndarray], threads: int) -> Callable[[], object]:
    """One run of an ONNX file as a call. Its workers spin while a run lasts, as usual, but not while the other side runs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    named = dict(zip((put.name for put in session.get_inputs()), feeds, strict=True))
    return lambda: session.run(None, named)


def by_litert(path: Path, feeds: Sequence[np.ndarray], threads: int) -> Callable[[], object]:
    """One run of a TFLite file as a call, inputs set and outputs read as onnxruntime does it in its own."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=threads)
    puts = interpreter.get_input_details()
    for put, array in zip(puts, feeds, strict=True):
        if tuple(put["shape"]) != array.shape:
            interpreter.resize_tensor_input(put["index"], array.shape)
    interpreter.allocate_tensors()
    outs = [out["index"] for out in interpreter.get_output_details()]

    def run() -> list[Any]:
        for put, array in zip(puts, feeds, strict=True):
            interpreter.set_tensor(put["index"], array)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outs]

    return run


def main() -> None:
    """Print a line per number of threads."""
    from benchmarks.tflite_sources import feeds_of, specs_of

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--pairs", type=int)
    asked = parser.parse_args()
    feeds = list(feeds_of(specs_of(asked.source))[0].feeds.values())
    for threads in asked.threads:
        found = compare(
            by_onnxruntime(asked.model, feeds, threads),
            by_litert(asked.source, feeds, threads),
            threads,
            pairs=asked.pairs,
        )
        print(f"{threads} threads: {found}  {asdict(found)}")


if __name__ == "__main__":
    main()
