"""The TFLite files that conversions are judged on, and what they are fed with.

Public models (``MLCONV_TEST_MODELS``), the sources of Edge TPU pairs (``MLCONV_TEST_EDGETPU``), and what
``make_models.py`` wrote.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mlconv.checks.samples import draw
from mlconv.formats import ModelFile, tflite
from mlconv.tensors import TensorSpec

MADE = Path("build/models")
_NO_MODELS = {"m002", "m011", "m068", "m087", "m075"}
"""Compiled for the Edge TPU, broken, and text: nothing of these runs in LiteRT here, or is numbers."""


@dataclass(frozen=True, slots=True)
class Source:
    """A TFLite file; ``name`` is its id in the index, or its file's stem."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class Fed:
    """One run: the kind of input, and an array for each input in the signature's order."""

    kind: str
    feeds: dict[str, np.ndarray] = field(repr=False)


def sources(models: Path | None, edgetpu: Path | None, made: Path | None = MADE) -> list[Source]:
    """Every file once: one that lies in two places has the first one's name.

    Args:
        models: A folder with ``index.json``; None leaves it out, as for the others.
        edgetpu: A folder with ``pairs.json``.
    """
    found: dict[str, Source] = {}
    for source in (*_public(models), *_pairs(edgetpu), *_made(made)):
        found.setdefault(hashlib.sha256(source.path.read_bytes()).hexdigest(), source)
    return list(found.values())


def folders() -> tuple[Path | None, Path | None]:
    """The folders of ``MLCONV_TEST_MODELS`` and ``MLCONV_TEST_EDGETPU``, where they are set."""
    models, edgetpu = (os.environ.get(name) for name in ("MLCONV_TEST_MODELS", "MLCONV_TEST_EDGETPU"))
    return Path(models) if models else None, Path(edgetpu) if edgetpu else None


def _public(folder: Path | None) -> Iterator[Source]:
    rows = json.loads((folder / "index.json").read_text()) if folder else []
    for row in rows:
        if row["format"] == "tflite" and row["id"] not in _NO_MODELS:
            assert folder is not None
            yield Source(row["id"], folder / row["local"])


def _pairs(folder: Path | None) -> Iterator[Source]:
    rows = json.loads((folder / "pairs.json").read_text()) if folder else []
    for row in sorted(rows, key=lambda row: str(row["source"])):
        assert folder is not None
        path = folder / row["source"]
        yield Source(path.stem.split("__")[-1], path)


def _made(folder: Path | None) -> Iterator[Source]:
    for path in sorted(folder.glob("*.tflite")) if folder and folder.is_dir() else ():
        yield Source(path.stem, path)


def specs_of(path: Path) -> tuple[TensorSpec, ...]:
    """The inputs of a file's default signature."""
    return tflite.describe(ModelFile(str(path), path, "tflite")).inputs


# ------------------------------------------------------------------ inputs


def feeds_of(specs: Sequence[TensorSpec], *, photos: bool = False) -> list[Fed]:
    """What a model is run on: smooth pictures where it takes any, random numbers, and extremes.

    Args:
        photos: Real photographs too, where scikit-learn with its two is installed.
    """
    fed = [Fed("noise", dict(draw(specs, _sizes(specs), 0, index).feeds)) for index in range(2)]
    fed.append(Fed("extremes", {spec.name: _extremes(spec) for spec in specs}))
    if specs and _is_picture(specs[0]):
        views = [*_drawn_pictures(specs[0]), *(_photographs(specs[0]) if photos else ())]
        rest = dict(draw(specs, _sizes(specs), 0, 7).feeds)
        fed = [Fed("pictures", rest | {specs[0].name: view}) for view in views] + fed
    return fed


def smooth_picture(rng: np.random.Generator, height: int, width: int, channels: int) -> np.ndarray:
    """Blurred blobs with edges and a little grain, as photographs have: uint8 over the whole range, shape (H, W, C)."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    image = np.zeros((height, width, channels))
    for _ in range(24):
        at, size, tint = rng.uniform(0, 1, 2), rng.uniform(0.03, 0.35), rng.normal(0, 1, channels)
        distance = np.hypot(y - at[0], x - at[1]) / size
        blob = distance < 1 if rng.random() < 0.4 else np.exp(-(distance**2))
        image += blob[..., None] * tint
    image = (image - image.min()) / max(float(np.ptp(image)), 1e-9)
    pixels: np.ndarray = np.clip(np.rint(255 * image + rng.normal(0, 2, image.shape)), 0, 255).astype(
        np.uint8
    )
    return pixels


def _is_picture(spec: TensorSpec) -> bool:
    shape = _shape(spec)
    return len(shape) == 4 and shape[-1] in (1, 3) and spec.dtype in ("uint8", "int8", "float32")


def _shape(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(dim if isinstance(dim, int) else 1 for dim in spec.shape or ())


def _sizes(specs: Sequence[TensorSpec]) -> dict[str, int]:
    return {dim: 1 for spec in specs for dim in spec.shape or () if isinstance(dim, str)}


def _drawn_pictures(spec: TensorSpec) -> list[np.ndarray]:
    batch, height, width, channels = _shape(spec)
    return [
        _as(spec, np.stack([smooth_picture(np.random.default_rng((seed, row)), height, width, channels) for row in range(batch)]))
        for seed in (100, 101)
    ]  # fmt: skip


def _photographs(spec: TensorSpec) -> list[np.ndarray]:
    try:
        from sklearn.datasets import load_sample_image
    except ImportError:
        return []
    from PIL import Image

    batch, height, width, channels = _shape(spec)
    found = []
    for name in ("china.jpg", "flower.jpg"):
        image = Image.fromarray(load_sample_image(name)).convert("L" if channels == 1 else "RGB")
        view = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR)).reshape(
            1, height, width, channels
        )
        found.append(_as(spec, np.repeat(view, batch, axis=0)))
    return found


def _as(spec: TensorSpec, pixels: np.ndarray) -> np.ndarray:
    """Pixels of 0..255 as the input takes them: float networks get 0..1, int8 ones the pixel less 128."""
    if spec.dtype == "float32":
        return (pixels / np.float32(255)).astype(np.float32)
    return pixels if spec.dtype == "uint8" else (pixels.astype(np.int16) - 128).astype(np.int8)


def _extremes(spec: TensorSpec) -> np.ndarray:
    """A chequered array of the least and the greatest number: of the type, of the range told, or 0 and 1."""
    low, high = spec.values or (0, 1)
    if spec.dtype in ("int8", "uint8", "int16", "uint16") and spec.quantization is not None:
        low, high = np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max
    elif spec.dtype.startswith("float"):
        low, high = -1.0, 1.0
    shape = _shape(spec)
    chequered = np.indices(shape).sum(0) % 2 if shape else np.ones(())
    array: np.ndarray = np.where(chequered, high, low).astype(spec.dtype).reshape(shape)
    return array
