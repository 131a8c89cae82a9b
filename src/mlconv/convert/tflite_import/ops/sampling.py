"""Where a resized picture takes its elements from: LiteRT's arithmetic and onnxruntime's, in numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, slots=True)
class Centers:
    """Where the samples of source and result lie on each other."""

    align_corners: bool
    half_pixel: bool

    @property
    def onnx(self) -> str:
        return "align_corners" if self.align_corners else "half_pixel" if self.half_pixel else "asymmetric"


@dataclass(frozen=True, slots=True)
class Taps:
    """One axis of a bilinear resize: each result lies between ``low`` and ``low + 1``, ``alpha`` of the way."""

    size: int
    low: np.ndarray
    alpha: np.ndarray

    def quantized(self) -> Taps:
        """With ``alpha`` in XNNPACK's steps of 2**-11, halves to even."""
        return replace(self, alpha=np.rint(self.alpha * np.float32(2048)) / np.float32(2048))

    @property
    def parts(self) -> int:
        """Of how many parts ``alpha`` is a whole number: a power of two."""
        return 2048 // math.gcd(2048, *(int(steps) for steps in np.unique(self.alpha * 2048)))

    @property
    def at(self) -> np.ndarray:
        """Where the results lie in the source, in float64."""
        return np.asarray(self.low + self.alpha.astype(np.float64))

    def matrix(self) -> np.ndarray:
        """(result, source): what each source element counts, in float32."""
        made = np.zeros((len(self.low), self.size), np.float32)
        rows = np.arange(len(self.low))
        np.add.at(made, (rows, self.low), 1 - self.alpha)
        np.add.at(made, (rows, np.minimum(self.low + 1, self.size - 1)), self.alpha)
        return made


def taps(size: int, result: int, centers: Centers) -> Taps:
    """As LiteRT has them: XNNPACK src/indirection.c, xnn_indirection_init_resize_bilinear2d_hwc_f32, in float32."""
    f = np.float32
    corner = 1 if centers.align_corners and result != 1 else 0
    scale = f(size - corner) / f(result - corner)
    at = np.arange(result, dtype=f) * scale
    if centers.half_pixel:
        at = np.clip(at + (f(0.5) * scale - f(0.5)), f(0), f(size - 1))
    low = np.minimum(at.astype(np.int64), size - 1)
    return Taps(size, low, np.where(low == size - 1, f(0), at - low.astype(f)))  # behind the last, the last


def onnxruntimes(size: int, result: int, centers: Centers) -> np.ndarray:
    """Where onnxruntime samples, in float32 (onnxruntime/core/providers/cpu/tensor/upsamplebase.h)."""
    f = np.float32
    at, scale = np.arange(result, dtype=f), f(result) / f(size)
    if scale == 1:
        return at
    if centers.align_corners:
        return at * f(size - 1) / f(result - 1) if result > 1 else at * f(0)
    at = (at + f(0.5)) / scale - f(0.5) if centers.half_pixel else at / scale
    return np.asarray(np.clip(at, f(0), f(size - 1)))


def nearest(size: int, result: int, centers: Centers) -> np.ndarray:
    """Which source element each result is: tensorflow/lite/kernels/internal/reference/resize_nearest_neighbor.h."""
    f = np.float32
    corner = 1 if centers.align_corners and result > 1 else 0
    at = (np.arange(result, dtype=f) + f(0.5 if centers.half_pixel else 0)) * (
        f(size - corner) / f(result - corner)
    )
    found = np.floor(at + f(0.5)) if centers.align_corners else np.floor(at)
    return np.asarray(np.minimum(found.astype(np.int64), size - 1))


def word_taps(size: int, result: int, centers: Centers) -> Taps:
    """As LiteRT's int16 kernel has them, in steps of 2**-10.

    tensorflow/lite/kernels/internal/reference/resize_bilinear.h, ComputeInterpolationValuesInteger.
    """
    if centers.align_corners and result > 1:
        scale = ((size - 1) * 1024 + (result - 1) // 2) // (result - 1)
    else:
        scale = (size * 1024 + result // 2) // result
    at = np.arange(result) * scale
    if centers.half_pixel:
        at = at + scale // 2 - 512
    # LiteRT reads behind the picture where its rounded scale leads there
    at = np.clip(at, 0, 1024 * (size - 1))
    return Taps(size, at // 1024, (at % 1024 / 1024).astype(np.float32))
