"""LSTM operators of TFLite in integers: the importer equals LiteRT, over several runs, with the state kept."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import imported, lsb
from tflite_recurrent_models import Recurrent, run_onnx_steps, run_steps

pytestmark = [pytest.mark.framework("ai_edge_litert", "onnxruntime")]

TANH = 4


def test_the_basic_lstm_in_uint8_is_exact(tmp_path: Path) -> None:
    for seed in range(6):
        file, cells, features = Recurrent(seed), 8, 5
        codes, memory_codes = (
            {"kind": "UINT8", "scale": 1 / 128, "zero_point": 128},
            {"kind": "INT16", "scale": 2.0**-11},
        )
        x, hidden, memory = (
            file.input(3, features, **codes),
            file.input(3, cells, **codes),
            file.input(3, cells, **memory_codes),
        )
        weights = file._add(
            (4 * cells, cells + features),
            file.rng.integers(0, 256, (4 * cells, cells + features)).astype(np.uint8),
            "UINT8",
            scale=0.01,
            zero_point=120,
        )
        bias = file.codes((4 * cells,), "INT32", 0.01 / 128, -8000, 8000)
        results = [
            file.input(3, cells, **codes),
            file.input(3, cells, **memory_codes),
            file.input(3, cells + features, **codes),
            file.input(3, 4 * cells, kind="INT16", scale=2.0**-12),
        ]
        file.graph.operator(
            "LSTM",
            [x, hidden, weights, bias, memory],
            results,
            "LSTMOptions",
            version=2,
            kernelType=1,
            fusedActivationFunction=TANH,
        )
        path = file.graph.write(tmp_path / f"m{seed}.tflite", [x, hidden, memory], results[:2])
        rng = np.random.default_rng(seed)
        feeds = [[rng.integers(0, 256, (3, features)).astype(np.uint8), rng.integers(0, 256, (3, cells)).astype(np.uint8),
                  rng.integers(-32768, 32768, (3, cells)).astype(np.int16)] for _ in range(10)]  # fmt: skip
        ours = run_onnx_steps(imported(path), feeds)
        assert max(lsb(mine, theirs) for mine, theirs in zip(ours, run_steps(path, feeds), strict=True)) == 0


def integer_lstm(
    path: Path,
    seed: int,
    *,
    cifg: bool,
    peephole: bool,
    projection: bool,
    time_major: bool,
    clip: bool,
    one_step: bool = False,
) -> tuple[Path, list[list[np.ndarray]]]:
    """Scales are drawn around those that quantizers choose, and the cell state's power of two as well."""
    file = Recurrent(seed)
    rng, batch, time, features, cells = file.rng, int(file.rng.integers(1, 4)), 6, 7, 8
    outputs = 5 if projection else cells
    sizes = (batch,) if one_step else (time, batch) if time_major else (batch, time)
    x = {"kind": "INT8", "scale": float(rng.uniform(0.003, 0.05)), "zero_point": int(rng.integers(-128, 128))}
    output_scale = float(rng.uniform(0.004, 0.01))
    y = {"kind": "INT8", "scale": output_scale, "zero_point": int(rng.integers(-40, 40))}

    def weights(*shape: int) -> int:
        return file.codes(shape, "INT8", float(rng.uniform(0.002, 0.02)), -127, 128)

    missing, gates, exponent = [-1] * cifg, 4 - cifg, int(rng.integers(-15, -8))
    operands = (
        missing
        + [weights(cells, features) for _ in range(gates)]
        + missing
        + [weights(cells, outputs) for _ in range(gates)]
    )
    holes = [file.codes((cells,), "INT16", 2.0**-14, -20000, 20000) for _ in range(gates - 1)]
    operands += missing + (holes if peephole else [-1] * (gates - 1))
    operands += missing + [file.codes((cells,), "INT32", 1e-5, -30000, 30000) for _ in range(gates)]
    operands += (
        [weights(outputs, cells), file.codes((outputs,), "INT32", 1e-5, -3000, 3000)]
        if projection
        else [-1, -1]
    )
    given, made = file.input(*sizes, features, **x), file.input(*sizes, outputs, **y)
    states = [file.state(batch, outputs, **y), file.state(batch, cells, kind="INT16", scale=2.0**exponent)]
    hidden = (
        {"kind": "INT8", "scale": float(rng.uniform(0.004, 0.01)), "zero_point": int(rng.integers(-20, 20))}
        if projection
        else y
    )
    inner = [file.input(0) for _ in range(4)] + [file.input(0, **hidden)]
    limits: dict[str, Any] = {"cellClip": 2.0**exponent * 9000, "projClip": output_scale * 60} if clip else {}
    if not one_step:
        limits["timeMajor"] = time_major
    file.graph.operator("LSTM" if one_step else "UNIDIRECTIONAL_SEQUENCE_LSTM", [given, *operands, *states, -1, -1, -1, -1], [made],
                        "LSTMOptions" if one_step else "UnidirectionalSequenceLSTMOptions", intermediates=inner,
                        fusedActivationFunction=TANH, **limits)  # fmt: skip
    feeds = [[rng.integers(-128, 128, (*sizes, features)).astype(np.int8)] for _ in range(4)]
    return file.graph.write(path, [given], [made]), feeds


@pytest.mark.parametrize(("cifg", "peephole", "projection"), list(itertools.product([False, True], repeat=3)))
def test_an_integer_lstm_is_exact(tmp_path: Path, cifg: bool, peephole: bool, projection: bool) -> None:
    for seed in range(5):
        path, feeds = integer_lstm(tmp_path / f"m{seed}.tflite", seed, cifg=cifg, peephole=peephole, projection=projection,
                                   time_major=seed % 2 == 1 and not (peephole and projection), clip=seed % 3 == 1)  # fmt: skip
        ours = run_onnx_steps(imported(path, opset=13 if seed % 2 else 18), feeds)
        assert max(lsb(mine, theirs) for mine, theirs in zip(ours, run_steps(path, feeds), strict=True)) == 0


@pytest.mark.parametrize(("cifg", "projection"), list(itertools.product([False, True], repeat=2)))
def test_a_single_step_of_the_full_lstm_in_integers_is_exact(
    tmp_path: Path, cifg: bool, projection: bool
) -> None:
    for seed in range(3):
        path, feeds = integer_lstm(tmp_path / f"m{seed}.tflite", seed, cifg=cifg, peephole=False, projection=projection,
                                   time_major=False, clip=seed == 1, one_step=True)  # fmt: skip
        ours = run_onnx_steps(imported(path), feeds)
        assert max(lsb(mine, theirs) for mine, theirs in zip(ours, run_steps(path, feeds), strict=True)) == 0
