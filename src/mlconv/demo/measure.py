"""What the demonstration measures in a worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from mlconv.checks.jobs import Side, open_side
from mlconv.checks.parity import Array
from mlconv.jsonable import from_json
from mlconv.tensors import TensorSpec


def accuracy(payload: Mapping[str, Any]) -> float:
    """Payload: ``{"side": Side, "data": path, "like": TensorSpec}``. Result: the share of digits that are named rightly."""
    with np.load(payload["data"], allow_pickle=False) as held_out:
        pixels, labels = held_out["image"], held_out["label"]
    runner = open_side(from_json(Side, payload["side"]))
    spec = runner.inputs[0]
    if payload["like"] is not None:
        spec = replace(spec, quantization=from_json(TensorSpec, payload["like"]).quantization)
    right = 0
    rows = spec.shape[0] if spec.shape and isinstance(spec.shape[0], int) else len(labels)
    for start in range(0, len(labels) - len(labels) % rows, rows):
        scores = next(iter(runner.run({spec.name: as_input(pixels[start : start + rows], spec)}).values()))
        right += int((np.asarray(scores).reshape(rows, -1).argmax(-1) == labels[start : start + rows]).sum())
    return right / (len(labels) - len(labels) % rows)


def as_input(pixels: Array, spec: TensorSpec) -> Array:
    """Grey values 0..16 of (N, 8, 8) as a model takes them: 0..1, its channel axis, its quantization."""
    real = pixels.astype(np.float32) / 16
    shape = spec.shape or ()
    real = real[:, None] if len(shape) == 4 and shape[1] == 1 else real[..., None]
    if spec.quantization is None:
        return real.astype(spec.dtype)
    info = np.iinfo(spec.dtype)
    integers = np.round(real / spec.quantization.scale) + spec.quantization.zero_point
    return np.clip(integers, info.min, info.max).astype(spec.dtype)
