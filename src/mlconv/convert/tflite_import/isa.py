"""Which processor the 8-bit weights are written for: `--target-isa`.

x86 before VNNI multiplies unsigned by signed bytes with ``vpmaddubsw``, whose sum of two products saturates at 16 bits:
onnxruntime's answer is then another one, by up to 51 LSB of one convolution (``qemu-x86_64 -cpu Haswell``, extreme weights).
Processors with VNNI and ARM's have no such sum, nor has any processor where both are unsigned. So

    vnni, arm       int8 weights everywhere, the fastest there; operators that would saturate elsewhere are counted
    avx2, portable  uint8 weights in operators that could saturate, int8 in the others: right on every processor

``ops/weights.py`` writes them.
"""

from __future__ import annotations

import importlib
import platform
from typing import Literal, TypeAlias, get_args

Isa: TypeAlias = Literal["vnni", "avx2", "arm", "portable"]
ISAS: tuple[Isa, ...] = get_args(Isa)


def isa_of(asked: str | None) -> Isa:
    """What `--target-isa` names; without it, this machine's."""
    for isa in ISAS:
        if isa == asked:
            return isa
    return this_machines()


def this_machines() -> Isa:
    """What this machine is; ``portable`` where it is none of them, or nothing tells."""
    machine = platform.machine().lower()
    if machine in ("arm64", "aarch64"):
        return "arm"
    if machine not in ("x86_64", "amd64"):
        return "portable"
    if _numpy_finds("AVX512VNNI"):
        return "vnni"
    if not _numpy_finds("AVX2"):
        return "portable"
    return "avx2" if _saturates() else "vnni"


def _numpy_finds(feature: str) -> bool:
    """By CPUID, not by the kernel's word; numpy keeps the table to itself, and may rename it."""
    try:
        features = importlib.import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):
        return False
    return bool(features.get(feature))


def _saturates() -> bool:
    """As onnxruntime does it; numpy does not know VNNI without AVX-512. True where onnxruntime is not installed."""
    try:
        x86 = importlib.import_module("mlconv.runners.x86")
    except ImportError:
        return True
    return bool(x86.saturates())
