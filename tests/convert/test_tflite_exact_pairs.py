"""The arithmetic of two 8-bit operands: numpy's account of LiteRT's kernels against LiteRT, and the scales found for onnxruntime."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlconv.convert.tflite_import.codes import Codes
from mlconv.convert.tflite_import.exact.pair_kernels import (
    Kernel,
    XnnpackSum,
    product_kernel,
    quotient_kernel,
    squared_difference_kernel,
    sum_kernel,
)
from mlconv.convert.tflite_import.exact.pairs import Pairs, float_bias, product_scale, sum_scales

sys.path.insert(0, str(Path(__file__).parent))
from tflite_models import Put, all_pairs, by_litert, one_operator

KERNELS: dict[str, tuple[str, Callable[..., Kernel]]] = {
    "ADD": ("AddOptions", sum_kernel),
    "SUB": ("SubOptions", lambda a, b, out: sum_kernel(a, b, out, -1)),
    "MUL": ("MulOptions", product_kernel),
    "DIV": ("DivOptions", quotient_kernel),
    "SQUARED_DIFFERENCE": ("SquaredDifferenceOptions", squared_difference_kernel),
}
EVERY = np.arange(256)
SCALES = [
    (0.05, 0.05, 0.05),
    (0.25, 0.25, 0.5),
    (0.021, 0.043, 0.06),
    (0.0173, 0.0039, 0.0117),
    (0.0001, 0.05, 0.03),
    (5.0, 0.01, 0.01),
    (0.01, 0.02, 0.0004),
    (0.5, 0.013, 0.3),
]  # fmt: skip


def codes(kind: str, scale: float, zero_point: int) -> Codes:
    shift = 128 if kind == "INT8" else 0
    if kind == "INT16":
        return Codes(float(np.float32(scale)), zero_point, -32768, 32767, "float32", 0)
    return Codes(float(np.float32(scale)), zero_point + shift, 0, 255, "uint8", shift)


def random_codes(rng: np.random.Generator) -> tuple[Codes, Codes, Codes]:
    """Scales as calibration finds them: no ratio is a small fraction."""
    out = rng.uniform(0.005, 0.1)
    a, b = out * 2 ** rng.uniform(-4, 2, 2)
    zero_points = rng.integers(0, 256, 3)
    return tuple(
        codes("UINT8", scale, int(zero)) for scale, zero in zip((a, b, out), zero_points, strict=True)
    )  # type: ignore[return-value]


@pytest.mark.framework("ai_edge_litert")
@pytest.mark.parametrize("zero_points", [(3, -128, 5), (-128, 0, -128), (127, 17, 0)])
@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        (name, kind)
        for name in KERNELS
        for kind in ("INT8", "UINT8")
        if (name, kind) != ("SQUARED_DIFFERENCE", "UINT8")
    ],
)
def test_numpy_answers_every_pair_of_codes_as_litert_does(
    tmp_path: Path, operator: str, kind: str, zero_points: tuple[int, int, int]
) -> None:
    options, kernel_of = KERNELS[operator]
    own = zero_points if kind == "INT8" else tuple(zero + 128 for zero in zero_points)
    a, b = all_pairs(kind)
    if operator == "DIV":
        a, b = a[b != own[1]], b[b != own[1]]
    for scales in SCALES:
        first, second, out = (
            Put(a.shape, kind, scale, zero) for scale, zero in zip(scales, own, strict=True)
        )
        path = one_operator(tmp_path / "m.tflite", operator, [first, second], [out], options, version=2)
        kernel = kernel_of(*(codes(kind, scale, zero) for scale, zero in zip(scales, own, strict=True)))
        limits = np.iinfo(a.dtype)
        answers = np.clip(
            kernel(a.astype(np.int64) - own[0], b.astype(np.int64) - own[1]) + own[2], limits.min, limits.max
        )
        assert np.array_equal(answers, by_litert(path, a, b)[0]), scales


@pytest.mark.framework("ai_edge_litert")
@pytest.mark.parametrize(
    ("operator", "more"),
    [("ADD", {"potScaleInt16": False}), ("SUB", {"potScaleInt16": False}), ("MUL", {}), ("DIV", {})],
)
def test_numpy_answers_16_bit_operands_as_litert_does(
    tmp_path: Path, operator: str, more: dict[str, Any]
) -> None:
    options, kernel_of = KERNELS[operator]
    rng = np.random.default_rng(3)
    a, b = (
        rng.integers(-32768, 32768, (20_000, 4)).astype(np.int16),
        rng.integers(1, 32768, (1, 4)).astype(np.int16),
    )
    scales = (0.021 / 256, 0.0173 / 256, 0.05 / (65536 if operator == "MUL" else 256))
    first, second, out = (
        Put(shape, "INT16", scale) for shape, scale in zip((a.shape, b.shape, a.shape), scales, strict=True)
    )
    path = one_operator(tmp_path / "m.tflite", operator, [first, second], [out], options, version=2, **more)
    kernel = kernel_of(*(codes("INT16", scale, 0) for scale in scales))
    answers = np.clip(kernel(a.astype(np.int64), b.astype(np.int64)), -32768, 32767)
    assert np.array_equal(answers, by_litert(path, a, b)[0])


def test_neighbouring_scales_are_found_for_99_of_100() -> None:
    rng, missed = np.random.default_rng(0), 0
    for _ in range(100):
        a, b, out = random_codes(rng)
        kernel = sum_kernel(a, b, out)
        assert isinstance(kernel, XnnpackSum)
        pairs = Pairs.of(kernel, a, b, out, EVERY, EVERY)
        found = sum_scales(pairs, a, b, out, kernel.ratios)
        missed += found is None
        assert (
            found == pytest.approx((a.scale, b.scale), rel=1e-4)
            if found
            else float_bias(pairs, kernel, a, b, out) is not None
        )
        wide = Codes(a.scale * b.scale * 2 ** rng.uniform(3, 8), out.zero_point, 0, 255, "uint8", 0)
        scale = product_scale(Pairs.of(product_kernel(a, b, wide), a, b, wide, EVERY, EVERY), a, b, wide)
        missed += scale is None
        assert scale is None or scale == pytest.approx(a.scale, rel=1e-5)
    assert missed <= 2


def test_no_scales_make_ties_between_two_tensors_go_up() -> None:
    a, b, out = codes("UINT8", 0.25, 128), codes("UINT8", 0.25, 128), codes("UINT8", 0.5, 128)
    kernel = sum_kernel(a, b, out)
    assert isinstance(kernel, XnnpackSum)
    assert sum_scales(Pairs.of(kernel, a, b, out, EVERY, EVERY), a, b, out, kernel.ratios) is None
    assert float_bias(Pairs.of(kernel, a, b, out, EVERY, EVERY), kernel, a, b, out) is not None


def test_a_constant_operand_s_scale_moves_all_ties_to_one_side() -> None:
    a, b, out = codes("UINT8", 1.0, 0), codes("UINT8", 0.5, 0), codes("UINT8", 1.0, 0)
    kernel = sum_kernel(a, b, out)
    assert isinstance(kernel, XnnpackSum)
    found = sum_scales(Pairs.of(kernel, a, b, out, EVERY, np.array([255])), a, b, out, kernel.ratios)
    assert found is not None
    assert found[0] > 1 or found[1] > 0.5
