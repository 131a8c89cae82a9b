"""The half of `saturation.py` that runs on the emulated processor: onnxruntime and stored arrays, nothing else.

    qemu-x86_64-static -cpu Haswell python benchmarks/saturation_inside.py ARRAYS.npz MODEL.onnx [MODEL.onnx ...]

prints one JSON object: for each model, without and with ``session.x64quantprecision``, how far its outputs lie from the
stored ones: steps of integers, and differences of floats by the greatest magnitude; or why it does not run.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime


def distance(model: str, arrays: dict[str, np.ndarray], *, precise: bool) -> float:
    """The worst over all runs and outputs; ``in<run>_<number>`` and ``out<run>_<number>`` are what the file holds."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if precise:
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names, worst = [put.name for put in session.get_inputs()], 0.0
    for run in range(int(arrays["runs"])):
        given = session.run(None, {name: arrays[f"in{run}_{number}"] for number, name in enumerate(names)})
        for number, found in enumerate(given):
            if f"out{run}_{number}" not in arrays:  # outputs beyond the source's own carry its state
                continue
            wanted = arrays[f"out{run}_{number}"].astype(np.float64)
            unit = (
                1.0
                if np.issubdtype(found.dtype, np.integer)
                else float(np.abs(wanted).max(initial=0.0)) or 1.0
            )
            worst = max(worst, float(np.abs(wanted - found).max(initial=0.0)) / unit)
    return worst


def told(model: str, arrays: dict[str, np.ndarray], *, precise: bool) -> float | str:
    """``distance``, or onnxruntime's own words where it refuses."""
    try:
        return distance(model, arrays, precise=precise)
    except Exception as error:  # noqa: BLE001  onnxruntime's exceptions have no base class of their own
        return " ".join(str(error).split())


def main(stored: str, models: list[str]) -> None:
    """Print the object."""
    with np.load(stored) as file:
        arrays = dict(file)
    modes = (False, True)
    print(
        json.dumps(
            {model: {str(mode): told(model, arrays, precise=mode) for mode in modes} for model in models}
        )
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
